//! What can go wrong between us and Consul, each with what to do about it.

/// An error of a Consul request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration cannot be used; nothing was sent.
    #[error("Consul configuration: {0}")]
    Config(String),

    /// What the caller passed in cannot be asked of Consul; nothing was sent.
    #[error("{0}")]
    Invalid(String),

    /// The system gave us no thread.
    #[error("cannot start a thread to talk to Consul: {0}")]
    Thread(std::io::Error),

    /// No answer: refused, reset, timed out, or the TLS handshake failed.
    #[error(
        "no answer from Consul at {addr} to {asked}: {reason}. \
         Is a Consul agent running there? CONSUL_HTTP_ADDR says where to look"
    )]
    Unreachable {
        /// The agent's address.
        addr: String,
        /// Method and path.
        asked: String,
        /// What the network said.
        reason: String,
        /// Whether the request may have been carried out all the same. False only where nothing was sent.
        maybe_done: bool,
    },

    /// Consul's access control said no (HTTP 403); nothing was changed.
    #[error(
        "Consul refused {asked}: {body}. A token that may do this goes into CONSUL_HTTP_TOKEN or \
         CONSUL_HTTP_TOKEN_FILE ({})", if *.with_token { "the token that was sent may not" } else { "none was sent" }
    )]
    Denied {
        /// Method and path.
        asked: String,
        /// Consul's own words, shortened.
        body: String,
        /// Whether a token was sent.
        with_token: bool,
    },

    /// The value is larger than Consul stores (HTTP 413); nothing was changed.
    #[error(
        "Consul refused {asked}: the value has {bytes} bytes, more than the agent's `kv_max_value_size` \
         (524288 by default). Consul said: {body}"
    )]
    TooLarge {
        /// Method and path.
        asked: String,
        /// The size of what was sent, in bytes.
        bytes: usize,
        /// Consul's own words, shortened.
        body: String,
    },

    /// Any other status that the request does not expect.
    #[error("Consul answered {asked} with status {code}: {body}")]
    Status {
        /// Method and path.
        asked: String,
        /// HTTP status.
        code: u16,
        /// Consul's own words, shortened.
        body: String,
    },

    /// The answer is not what Consul's API promises; is something else listening at this address?
    #[error("the answer of {addr} to {asked} is not Consul's: {reason}")]
    Decode {
        /// The agent's address.
        addr: String,
        /// Method and path.
        asked: String,
        /// What did not fit.
        reason: String,
    },
}

impl Error {
    /// Whether the request may have changed something although it failed: silence after it was sent, or an error of
    /// the server. A compare-and-set with such an error must be followed by a read before it is repeated.
    pub fn maybe_done(&self) -> bool {
        match self {
            Error::Unreachable { maybe_done, .. } => *maybe_done,
            Error::Status { code, .. } => *code >= 500,
            // The status was a success: only the answer's text was unexpected.
            Error::Decode { .. } => true,
            Error::Config(_)
            | Error::Invalid(_)
            | Error::Thread(_)
            | Error::Denied { .. }
            | Error::TooLarge { .. } => false,
        }
    }
}

/// At most 200 characters of a body, on one line, for a message.
pub(crate) fn shorten(body: &[u8]) -> String {
    const CHARS_MAX: usize = 200;
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * CHARS_MAX)]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() {
        return "(empty body)".to_owned();
    }
    match line.char_indices().nth(CHARS_MAX) {
        None => line,
        Some((at, _)) => format!("{}…", &line[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shortened_to_one_line() {
        assert_eq!(shorten(b" a\n  b \r\n"), "a b");
        assert_eq!(shorten(b""), "(empty body)");
        let long = shorten("é".repeat(5_000).as_bytes());
        assert_eq!(long.chars().count(), 201);
        assert_eq!(shorten(&[0xff, 0xfe]), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn messages_say_what_to_do() {
        let denied = Error::Denied {
            asked: "GET /v1/kv/a".into(),
            body: "Permission denied".into(),
            with_token: false,
        };
        assert!(
            denied.to_string().contains("CONSUL_HTTP_TOKEN") && denied.to_string().contains("none was sent")
        );
        let large =
            Error::TooLarge { asked: "PUT /v1/kv/a".into(), bytes: 600_000, body: "too large".into() };
        assert!(large.to_string().contains("600000 bytes") && large.to_string().contains("524288"));
    }
}
