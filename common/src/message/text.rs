//! Checks of JSON texts that are stored as they came, which the JSON reader leaves undone: depth and surrogates.

/// The deepest nesting of a value.
pub const DEPTH_MAX: usize = 128;

/// Why a JSON text is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Arrays and objects in each other beyond [`DEPTH_MAX`].
    #[error("the value is nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// `\ud800` … `\udfff` without its other half.
    #[error("the value has a lone surrogate \\u{0:04x}: surrogates come in pairs")]
    LoneSurrogate(u16),
}

/// Checks a text that is known to be JSON.
pub fn check(text: &str) -> Result<(), TextError> {
    let bytes = text.as_bytes();
    let nests = bytes.iter().filter(|b| matches!(b, b'{' | b'[')).count() > DEPTH_MAX;
    if nests && depth(bytes) > DEPTH_MAX {
        return Err(TextError::TooDeep);
    }
    if text.contains("\\u") { surrogates(bytes) } else { Ok(()) }
}

fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn surrogates(bytes: &[u8]) -> Result<(), TextError> {
    let unit_at = |at: usize| {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        match unit_at(at) {
            None => at += 2,
            Some(high @ 0xD800..=0xDBFF) => match unit_at(at + 6) {
                Some(0xDC00..=0xDFFF) => at += 12,
                _ => return Err(TextError::LoneSurrogate(high)),
            },
            Some(low @ 0xDC00..=0xDFFF) => return Err(TextError::LoneSurrogate(low)),
            Some(_) => at += 6,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings() {
        assert_eq!(check(&format!("{}{}", "[".repeat(128), "]".repeat(128))), Ok(()));
        assert_eq!(check(&format!("{}{}", "[".repeat(129), "]".repeat(129))), Err(TextError::TooDeep));
        assert_eq!(check(&format!("\"{}\\\"{}\"", "[".repeat(200), "{".repeat(200))), Ok(()));
        assert_eq!(check(&format!("[{}]", vec!["{}"; 200].join(","))), Ok(()));
    }

    #[test]
    fn surrogates_come_in_pairs() {
        assert_eq!(check(r#""\ud83d\ude00""#), Ok(()));
        assert_eq!(check(r#""\\ud83d""#), Ok(()), "an escaped backslash, then plain letters");
        assert_eq!(check(r#""\ud83d""#), Err(TextError::LoneSurrogate(0xD83D)));
        assert_eq!(check(r#""\ude00\ud83d""#), Err(TextError::LoneSurrogate(0xDE00)));
        assert_eq!(check(r#""\ud83d\n\ude00""#), Err(TextError::LoneSurrogate(0xD83D)));
        assert_eq!(check(r#"{"\uDFFF":1}"#), Err(TextError::LoneSurrogate(0xDFFF)));
    }
}
