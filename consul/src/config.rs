//! Where Consul is and how to get in: the same names and rules as Consul's own command.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Error;

/// Consul's own default address.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8500";

/// How to reach one Consul agent.
///
/// Build it by [`Config::default`], [`Config::parse`] or [`Config::from_env`] and change its fields at will;
/// [`Client::new`](crate::Client::new) checks it and reads the files it names.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Scheme, host and port (`http://127.0.0.1:8500`), without a slash at the end.
    pub url: String,
    /// The ACL token, sent as `X-Consul-Token`. `Debug` never shows it.
    pub token: Option<String>,
    /// PEM file with the authorities that may sign the agent's certificate. Without it the common public ones may.
    pub ca_cert: Option<PathBuf>,
    /// PEM file with the certificate that we show; needs `client_key` beside it.
    pub client_cert: Option<PathBuf>,
    /// PEM file with the private key of `client_cert`.
    pub client_key: Option<PathBuf>,
    /// How long an answer may take, beyond the wait that a blocking query asks for. Shorter notices a dead agent
    /// sooner, longer survives a busy one. Default: 10 s.
    pub timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            url: DEFAULT_URL.to_owned(),
            token: None,
            ca_cert: None,
            client_cert: None,
            client_key: None,
            timeout: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// A configuration with this address and nothing else. The scheme may be missing: `127.0.0.1:8500`.
    ///
    /// # Errors
    /// [`Error::Config`] where the address is no HTTP address.
    pub fn parse(address: &str) -> Result<Self, Error> {
        Ok(Config { url: base_url(address, false)?, ..Config::default() })
    }

    /// Reads `CONSUL_HTTP_ADDR`, `_TOKEN`, `_TOKEN_FILE`, `_SSL`, `CONSUL_CACERT`, `CONSUL_CLIENT_CERT` and
    /// `CONSUL_CLIENT_KEY`, as Consul's own command does.
    ///
    /// # Errors
    /// [`Error::Config`], naming the variable that cannot be used.
    pub fn from_env() -> Result<Self, Error> {
        // What is no UTF-8 is refused further down rather than passed over.
        Self::from_lookup(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    /// [`Config::from_env`] with the environment as an argument. An empty variable counts as unset.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let var = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let ssl = match var("CONSUL_HTTP_SSL") {
            None => false,
            Some(text) => go_bool(&text).ok_or_else(|| {
                Error::Config(format!("CONSUL_HTTP_SSL is {text:?}, which is neither true nor false"))
            })?,
        };
        let address = var("CONSUL_HTTP_ADDR").unwrap_or_else(|| "127.0.0.1:8500".to_owned());
        let url = base_url(&address, ssl).map_err(|error| match error {
            Error::Config(why) => Error::Config(format!("CONSUL_HTTP_ADDR: {why}")),
            other => other,
        })?;
        // The file wins over the variable, as in Consul's command.
        let token = match var("CONSUL_HTTP_TOKEN_FILE") {
            Some(path) => Some(token_from(Path::new(&path))?),
            None => var("CONSUL_HTTP_TOKEN"),
        };
        Ok(Config {
            url,
            token,
            ca_cert: var("CONSUL_CACERT").map(PathBuf::from),
            client_cert: var("CONSUL_CLIENT_CERT").map(PathBuf::from),
            client_key: var("CONSUL_CLIENT_KEY").map(PathBuf::from),
            ..Config::default()
        })
    }

    /// The same configuration with another address, for an option that overrides the environment. An address without a
    /// scheme keeps the one that was.
    ///
    /// # Errors
    /// [`Error::Config`] where the address is no HTTP address.
    pub fn with_address(mut self, address: &str) -> Result<Self, Error> {
        let scheme = if self.url.starts_with("https:") { "https://" } else { "http://" };
        let address = address.trim();
        let whole = if address.contains("://") { address.to_owned() } else { format!("{scheme}{address}") };
        self.url = base_url(&whole, false)?;
        Ok(self)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("ca_cert", &self.ca_cert)
            .field("client_cert", &self.client_cert)
            .field("client_key", &self.client_key)
            .field("timeout", &self.timeout)
            .finish()
    }
}

fn base_url(address: &str, ssl: bool) -> Result<String, Error> {
    let address = address.trim();
    let (scheme, rest) = match address.split_once("://") {
        None => (if ssl { "https" } else { "http" }, address),
        Some(("https", rest)) => ("https", rest),
        // Whoever asked for TLS is never served in the clear, whatever the address says.
        Some(("http", rest)) => (if ssl { "https" } else { "http" }, rest),
        Some((other, _)) => {
            return Err(Error::Config(format!(
                "{address:?} has the scheme {other:?}; use http://HOST:PORT or https://HOST:PORT"
            )));
        }
    };
    let rest = rest.trim_end_matches('/');
    let host = rest.split('/').next().unwrap_or_default();
    if host.is_empty() {
        return Err(Error::Config(format!("{address:?} names no host; use http://HOST:PORT")));
    }
    if host.contains('@') {
        // An address is printed in errors and logs, so it must not hold a secret.
        return Err(Error::Config(
            "an address must not contain a user or password; use a token in CONSUL_HTTP_TOKEN".to_owned(),
        ));
    }
    if rest.contains(['?', '#']) || rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::Config(format!("{address:?} is no address; use http://HOST:PORT")));
    }
    Ok(format!("{scheme}://{rest}"))
}

fn token_from(path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::Config(format!("cannot read CONSUL_HTTP_TOKEN_FILE {}: {error}", path.display()))
    })?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Error::Config(format!("CONSUL_HTTP_TOKEN_FILE {} is empty", path.display())));
    }
    Ok(token.to_owned())
}

/// What Go's `strconv.ParseBool` takes, because Consul's command reads the variable with it.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Result<Config, Error> {
        Config::from_lookup(|name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn an_empty_environment_means_the_local_agent() {
        let config = env(&[]).expect("nothing set");
        assert_eq!(config, Config::default());
        assert_eq!(config.url, "http://127.0.0.1:8500");
    }

    #[test]
    fn an_address_may_miss_its_scheme_and_ssl_supplies_it() {
        let url = |pairs: &[(&str, &str)]| env(pairs).expect("valid").url;
        assert_eq!(url(&[("CONSUL_HTTP_ADDR", "10.0.0.1:8500")]), "http://10.0.0.1:8500");
        assert_eq!(url(&[("CONSUL_HTTP_ADDR", "https://c:8501/")]), "https://c:8501");
        assert_eq!(url(&[("CONSUL_HTTP_ADDR", "c:8501"), ("CONSUL_HTTP_SSL", "true")]), "https://c:8501");
        assert_eq!(url(&[("CONSUL_HTTP_ADDR", "http://c:1"), ("CONSUL_HTTP_SSL", "1")]), "https://c:1");
        assert_eq!(url(&[("CONSUL_HTTP_ADDR", "http://c:1"), ("CONSUL_HTTP_SSL", "")]), "http://c:1");
        assert_eq!(Config::parse("[::1]:8500").expect("valid").url, "http://[::1]:8500");
    }

    #[test]
    fn an_option_overrides_the_address_and_keeps_the_rest() {
        let with = |pairs: &[(&str, &str)], address: &str| {
            env(pairs).and_then(|config| config.with_address(address)).expect("valid")
        };
        let tls = [("CONSUL_HTTP_SSL", "true"), ("CONSUL_HTTP_TOKEN", "t")];
        assert_eq!(with(&tls, "c:1").url, "https://c:1");
        assert_eq!(with(&tls, "http://c:1").url, "http://c:1");
        assert_eq!(with(&tls, "c:1").token.as_deref(), Some("t"));
        assert_eq!(with(&[], "c:1").url, "http://c:1");
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        for (pairs, named) in [
            (vec![("CONSUL_HTTP_ADDR", "unix:///run/consul.sock")], "CONSUL_HTTP_ADDR"),
            (vec![("CONSUL_HTTP_ADDR", "http://")], "CONSUL_HTTP_ADDR"),
            (vec![("CONSUL_HTTP_ADDR", "a b")], "CONSUL_HTTP_ADDR"),
            (vec![("CONSUL_HTTP_SSL", "yes")], "CONSUL_HTTP_SSL"),
            (vec![("CONSUL_HTTP_TOKEN_FILE", "/nonexistent/token")], "CONSUL_HTTP_TOKEN_FILE"),
        ] {
            let message = env(&pairs).expect_err("must be refused").to_string();
            assert!(message.contains(named), "{message:?} does not name {named}");
        }
        let message = Config::parse("http://me:secret@c:1").expect_err("a secret in an address").to_string();
        assert!(!message.contains("secret"), "{message}");
    }

    #[test]
    fn the_token_file_wins_and_is_trimmed() {
        let file = tempfile::NamedTempFile::new().expect("scratch file");
        std::fs::write(file.path(), "from-file\n").expect("written");
        let path = file.path().to_str().expect("UTF-8 path");
        let config =
            env(&[("CONSUL_HTTP_TOKEN", "from-var"), ("CONSUL_HTTP_TOKEN_FILE", path)]).expect("valid");
        assert_eq!(config.token.as_deref(), Some("from-file"));
        std::fs::write(file.path(), " \n").expect("written");
        env(&[("CONSUL_HTTP_TOKEN_FILE", path)]).expect_err("an empty token file");
    }

    #[test]
    fn debug_hides_the_token() {
        let config = env(&[("CONSUL_HTTP_TOKEN", "s3cr3t"), ("CONSUL_CACERT", "ca.pem")]).expect("valid");
        let text = format!("{config:?}");
        assert!(!text.contains("s3cr3t") && text.contains("ca.pem"), "{text}");
    }
}
