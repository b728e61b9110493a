//! A line of the prompt, cut into words, and the forerunners' forms put into ours.

use super::super::Failure;

/// Cuts a line into words at blanks. Quotes hold words together, `"` with backslash escapes and `'` without any;
/// a word that begins with `{` or `[`, and what begins so behind the `=` of an option, reaches to the brace that closes
/// it, so that JSON needs no quotes.
///
/// # Errors
/// Where a quote or brace is not closed.
pub fn split(line: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (word, after) = if rest.starts_with(['{', '[']) { json(rest)? } else { plain(rest)? };
        words.push(word);
        rest = after.trim_start();
    }
    Ok(words)
}

fn plain(text: &str) -> Result<(String, &str), Failure> {
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if quote.is_none() && matches!(c, '{' | '[') && word.starts_with("--") && word.ends_with('=') {
            let (value, after) = json(&text[at..])?;
            return Ok((word + &value, after));
        }
        match (quote, c) {
            (None, c) if c.is_whitespace() => return Ok((word, &text[at..])),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => match chars.next() {
                Some((_, escaped)) => word.push(escaped),
                None => return Err(Failure::usage("a backslash at the end of the line escapes nothing")),
            },
            (_, c) => word.push(c),
        }
    }
    match quote {
        Some(open) => Err(Failure::usage(format!("the quote {open} is not closed"))),
        None => Ok((word, "")),
    }
}

/// A JSON object or array, as far as it reaches.
fn json(text: &str) -> Result<(String, &str), Failure> {
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '{' | '[' if !in_string => depth += 1,
            '}' | ']' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    let end = at + c.len_utf8();
                    return Ok((text[..end].to_owned(), &text[end..]));
                }
            }
            _ => {}
        }
    }
    Err(Failure::usage("a brace or bracket is not closed; quote the word with ' if it is no JSON"))
}

/// Puts the forerunners' forms into ours:
///
/// ```text
///   put KEY CONTEXT VALUE          put KEY VALUE --context CONTEXT     the second of three a JSON object
///   get KEY LEVEL                  get KEY --level LEVEL, or --r N     levels as words or numbers
///   insert|update KEY VALUE LEVEL  … --level LEVEL, or --w N
/// ```
pub fn in_our_form(words: Vec<String>) -> Vec<String> {
    let plain = words.iter().all(|word| !word.starts_with("--"));
    let form: Vec<&str> = words.iter().map(String::as_str).collect();
    let ours: Vec<&str> = match form[..] {
        ["put", key, context, value] if plain && is_object(context) => {
            vec!["put", "--context", context, "--", key, value]
        }
        ["get", key, level] if plain => match count_or_level(level) {
            Some(true) => vec!["get", "--r", level, "--", key],
            Some(false) => vec!["get", "--level", level, "--", key],
            None => form,
        },
        [verb @ ("insert" | "update" | "put"), key, value, level] if plain => match count_or_level(level) {
            Some(true) => vec![verb, "--w", level, "--", key, value],
            Some(false) => vec![verb, "--level", level, "--", key, value],
            None => form,
        },
        _ => form,
    };
    ours.into_iter().map(str::to_owned).collect()
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok()
}

/// Whether it is a number of replicas (true), the name of a level (false), or neither.
fn count_or_level(text: &str) -> Option<bool> {
    match text.to_ascii_uppercase().as_str() {
        "ONE" | "QUORUM" | "ALL" => Some(false),
        _ => text.parse::<u32>().is_ok_and(|n| n > 0).then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line).expect(line)
    }

    #[test]
    fn quotes_and_json_hold_words_together() {
        assert_eq!(words("  put k  v "), ["put", "k", "v"]);
        assert_eq!(words(r#"put "a b" 'c "d"' e\ f"#), ["put", "a b", "c \"d\"", "e f"]);
        assert_eq!(words(r#"put k {"a": [1, "}"]} x"#), ["put", "k", r#"{"a": [1, "}"]}"#, "x"]);
        assert_eq!(words(r#"put k v --context={"a": 1} w"#), ["put", "k", "v", r#"--context={"a": 1}"#, "w"]);
        assert_eq!(words(r#"put k x={"a":1}"#), ["put", "k", "x={a:1}"], "a value is no option");
        assert_eq!(words(r#"get "say \"hi\"""#), ["get", "say \"hi\""]);
        assert_eq!(words("put k ''"), ["put", "k", ""]);
        assert!(words("   ").is_empty());
        for open in ["put \"k", "put k {", "put k\\", "put k v --context={"] {
            assert_eq!(split(open).expect_err(open).exit, 2);
        }
    }

    #[test]
    fn the_forerunners_forms_become_ours() {
        let ours = |line| in_our_form(words(line)).join(" ");
        assert_eq!(ours(r#"put k {"node-0.1": 2} v"#), r#"put --context {"node-0.1": 2} -- k v"#);
        assert_eq!(ours("get k quorum"), "get --level quorum -- k");
        assert_eq!(ours("get k 2"), "get --r 2 -- k");
        assert_eq!(ours("insert k v ALL"), "insert --level ALL -- k v");
        assert_eq!(ours("update k v 3"), "update --w 3 -- k v");
        for same in
            ["put k v", "get k", "get k --level one", "status", "put k {} --json-value", "get k often"]
        {
            assert_eq!(ours(same), same);
        }
    }
}
