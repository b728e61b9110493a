//! One request, one answer: what all endpoints share.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::http::{HeaderValue, Method, Request, StatusCode};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::error::shorten;
use crate::{Config, Error};

/// No answer is read beyond this, so that no server can fill our memory.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// A bigger body is announced first, so that a refusal arrives before the connection is cut.
const ANNOUNCE_BYTES: usize = 256 << 10;
/// What Consul takes where no wait is asked for, and at most.
const WAIT_DEFAULT: Duration = Duration::from_secs(300);
const WAIT_MAX: Duration = Duration::from_secs(600);
/// What a closed connection or a 429 may mean on a machine with many nodes.
const CONNECTIONS_LIMITED: &str = "A Consul agent grants each client address 200 connections; where more are needed, \
                                   raise limits.http_max_conns_per_client in its configuration";
/// Characters that stand for themselves in a path or query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A client of one Consul agent. Blocking; cheap to clone; clones share their connections.
///
/// No call retries by itself: an error says what happened, and [`Error::maybe_done`] whether it may have taken effect.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    token: Option<HeaderValue>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Client").field(&self.shared.config).finish()
    }
}

/// A value with the index under which Consul gave it, to be passed on in the next [`Query`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed<T> {
    /// `X-Consul-Index`; 0 where the server sent none.
    pub index: u64,
    /// What was read.
    pub value: T,
}

/// How a read is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Query {
    /// Ask the leader, after it has made sure that it still leads. Without it a deposed leader may answer with what
    /// was true a moment ago.
    pub consistent: bool,
    /// Wait until the index is above this one. 0 answers at once.
    pub index: u64,
    /// How long to wait at most. Consul adds up to a sixteenth, and takes 10 minutes at most; zero means its own 5 minutes.
    pub wait: Duration,
}

impl Query {
    /// Answered at once, by a leader that has made sure that it is one.
    pub fn consistent() -> Self {
        Query { consistent: true, ..Query::default() }
    }

    fn describe(&self, ask: &mut Ask<'_>) {
        if self.consistent {
            ask.flag("consistent");
        }
        if self.index > 0 {
            ask.param("index", &self.index.to_string());
            let wait = if self.wait.is_zero() { WAIT_DEFAULT } else { self.wait.min(WAIT_MAX) };
            ask.param("wait", &go_duration(wait));
            ask.patience = wait + wait / 16;
        }
    }
}

impl Client {
    /// Checks the configuration and reads the certificates that it names. Connects to nobody yet.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn new(config: Config) -> Result<Self, Error> {
        let token = match &config.token {
            None => None,
            Some(text) => {
                let mut value = HeaderValue::from_str(text).map_err(|_| {
                    Error::Config("the token has characters that no HTTP header may have".to_owned())
                })?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let agent = agent(&config)?;
        Ok(Client { agent, shared: Arc::new(Shared { config, token }) })
    }

    /// [`Config::from_env`] and [`Client::new`] in one.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn from_env() -> Result<Self, Error> {
        Self::new(Config::from_env()?)
    }

    /// The agent's address, as used in messages.
    pub fn url(&self) -> &str {
        &self.shared.config.url
    }

    /// A client with connections of its own, for a thread whose requests [`Client::cut`] may end, and with its own
    /// patience.
    pub(crate) fn separate(&self, timeout: Duration) -> Client {
        let Shared { config, token } = &*self.shared;
        let config = Config { timeout, ..config.clone() };
        let shared = Arc::new(Shared { config, token: token.clone() });
        Client { agent: self.agent.config().new_agent(), shared }
    }

    /// How long an answer may take.
    pub(crate) fn timeout(&self) -> Duration {
        self.shared.config.timeout
    }

    /// Ends all requests under way on this client and its clones; later ones fail at once.
    pub(crate) fn cut(&self) {
        self.agent.clone().shutdown();
    }

    pub(crate) fn send(&self, ask: Ask<'_>) -> Result<Answer, Error> {
        let config = &self.shared.config;
        let asked = format!("{} {}", ask.method, ask.path);
        let mut request =
            Request::builder().method(ask.method).uri(format!("{}{}{}", config.url, ask.path, ask.query));
        if let Some(token) = &self.shared.token {
            request = request.header("x-consul-token", token);
        }
        let limit = Some(config.timeout + ask.patience);
        let result = match ask.body {
            None => {
                let request = request.body(()).map_err(|error| self.unsendable(&asked, &error))?;
                self.agent.run(self.agent.configure_request(request).timeout_global(limit).build())
            }
            Some(body) => {
                if body.len() > ANNOUNCE_BYTES {
                    request = request.header("expect", "100-continue");
                }
                let request = request.body(body).map_err(|error| self.unsendable(&asked, &error))?;
                self.agent.run(self.agent.configure_request(request).timeout_global(limit).build())
            }
        };
        let mut response = result.map_err(|error| self.silent(&asked, error))?;
        let status = response.status();
        let index =
            response.headers().get("x-consul-index").and_then(|value| value.to_str().ok()?.parse().ok());
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.silent(&asked, error))?;
        let answer = Answer { client: self.clone(), asked, status, index: index.unwrap_or(0), body };
        match status {
            StatusCode::FORBIDDEN => Err(Error::Denied {
                body: shorten(&answer.body),
                asked: answer.asked,
                with_token: self.shared.token.is_some(),
            }),
            StatusCode::PAYLOAD_TOO_LARGE => Err(Error::TooLarge {
                body: shorten(&answer.body),
                asked: answer.asked,
                bytes: ask.body.map_or(0, <[u8]>::len),
            }),
            _ => Ok(answer),
        }
    }

    fn unsendable(&self, asked: &str, error: &ureq::http::Error) -> Error {
        Error::Config(format!("{asked} at {} makes no request: {error}", self.url()))
    }

    fn silent(&self, asked: &str, error: ureq::Error) -> Error {
        use std::io::ErrorKind::{
            BrokenPipe, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
            UnexpectedEof,
        };
        let unsent = match &error {
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => true,
            ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => true,
            ureq::Error::Io(error) => {
                matches!(error.kind(), ConnectionRefused | NetworkUnreachable | HostUnreachable)
            }
            _ => false,
        };
        let reason = match error {
            ureq::Error::Io(error)
                if matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe) =>
            {
                format!("the connection was closed ({error}). {CONNECTIONS_LIMITED}")
            }
            ureq::Error::Io(error) => error.to_string(),
            ureq::Error::Timeout(ureq::Timeout::Global) => "timed out".to_owned(),
            other => other.to_string(),
        };
        Error::Unreachable {
            addr: self.url().to_owned(),
            asked: asked.to_owned(),
            reason,
            maybe_done: !unsent,
        }
    }
}

/// A request in the making.
pub(crate) struct Ask<'a> {
    method: Method,
    path: String,
    query: String,
    body: Option<&'a [u8]>,
    /// What the answer may take beyond the ordinary time-out.
    patience: Duration,
}

impl<'a> Ask<'a> {
    pub fn get(path: String) -> Self {
        Ask { method: Method::GET, path, query: String::new(), body: None, patience: Duration::ZERO }
    }

    pub fn put(path: String, body: &'a [u8]) -> Self {
        Ask { method: Method::PUT, body: Some(body), ..Ask::get(path) }
    }

    pub fn delete(path: String) -> Self {
        Ask { method: Method::DELETE, ..Ask::get(path) }
    }

    pub fn query(mut self, query: &Query) -> Self {
        query.describe(&mut self);
        self
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.param(name, value);
        self
    }

    pub fn with_flag(mut self, name: &str) -> Self {
        self.flag(name);
        self
    }

    fn flag(&mut self, name: &str) {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        self.query.push_str(name);
    }

    fn param(&mut self, name: &str, value: &str) {
        self.flag(name);
        self.query.push('=');
        self.query.push_str(&segment(value));
    }
}

/// A value as one segment of a path, or in a query.
pub(crate) fn segment(value: &str) -> String {
    utf8_percent_encode(value, PLAIN).to_string()
}

/// What came back, whatever its status, except for 403 and 413, which are errors already.
pub(crate) struct Answer {
    client: Client,
    asked: String,
    status: StatusCode,
    pub index: u64,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn code(&self) -> u16 {
        self.status.as_u16()
    }

    /// Whether the agent does not know what was named: 404 in newer versions of Consul; 500 in older ones, where only
    /// the words tell, and these depend on whether access control is on.
    pub fn is_unknown(&self, words: &str) -> bool {
        self.code() == 404 || (self.code() == 500 && String::from_utf8_lossy(&self.body).contains(words))
    }

    /// Anything but success is an error.
    pub fn success(self) -> Result<Self, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        let mut body = shorten(&self.body);
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            body = format!("{body}. {CONNECTIONS_LIMITED}");
        }
        Err(Error::Status { asked: self.asked, code: self.status.as_u16(), body })
    }

    /// The body as JSON, which only a success has.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let answer = self.success()?;
        serde_json::from_slice(&answer.body).map_err(|error| answer.unfit(error.to_string()))
    }

    /// [`Answer::json`] together with the index.
    pub fn indexed<T: DeserializeOwned>(self) -> Result<Indexed<T>, Error> {
        Ok(Indexed { index: self.index, value: self.json()? })
    }

    pub fn unfit(&self, reason: String) -> Error {
        let body = shorten(&self.body);
        Error::Decode {
            addr: self.client.url().to_owned(),
            asked: self.asked.clone(),
            reason: format!("{reason}, in {body}"),
        }
    }
}

/// A duration as Go reads it.
pub(crate) fn go_duration(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

fn agent(config: &Config) -> Result<ureq::Agent, Error> {
    let mut tls = TlsConfig::builder();
    if let Some(path) = &config.ca_cert {
        tls = tls.root_certs(RootCerts::new_with_certs(&certificates("CONSUL_CACERT", path)?));
    }
    tls = tls.client_cert(match (&config.client_cert, &config.client_key) {
        (None, None) => None,
        (Some(cert), Some(key)) => {
            let pem = read("CONSUL_CLIENT_KEY", key)?;
            let key = PrivateKey::from_pem(&pem).map_err(|error| {
                Error::Config(format!(
                    "CONSUL_CLIENT_KEY {} holds no private key in PEM: {error}",
                    key.display()
                ))
            })?;
            Some(ClientCert::new_with_certs(&certificates("CONSUL_CLIENT_CERT", cert)?, key))
        }
        _ => {
            return Err(Error::Config(
                "CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY belong together; only one of them is set"
                    .to_owned(),
            ));
        }
    });
    Ok(ureq::Agent::config_builder()
        .tls_config(tls.build())
        // Consul is reached directly: a proxy for the web must not see the token.
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(config.timeout.min(Duration::from_secs(5))))
        .max_idle_connections_per_host(8)
        // Well below what servers grant: a connection that is closed just when it is used fails a request.
        .max_idle_age(Duration::from_secs(10))
        .build()
        .into())
}

fn certificates(variable: &str, path: &Path) -> Result<Vec<Certificate<'static>>, Error> {
    let pem = read(variable, path)?;
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        match item {
            Ok(ureq::tls::PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(Error::Config(format!("{variable} {}: {error}", path.display()))),
        }
    }
    if found.is_empty() {
        return Err(Error::Config(format!("{variable} {} holds no certificate in PEM", path.display())));
    }
    Ok(found)
}

fn read(variable: &str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path)
        .map_err(|error| Error::Config(format!("cannot read {variable} {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// What a client says of a server that answers so, and then ends the connection.
    fn error_of(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = listener.local_addr().expect("bound").to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).expect("a request") > 0);
            stream.write_all(answer).expect("it listens");
        });
        let client = Client::new(Config::parse(&url).expect("an address")).expect("no certificates");
        let error = client.leader().expect_err("no leader is named").to_string();
        server.join().expect("it served");
        error
    }

    #[test]
    fn whoever_has_too_many_connections_is_told_which_limit_it_may_be() {
        let busy = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy";
        for answer in [&b""[..], busy] {
            let error = error_of(answer);
            assert!(error.contains("limits.http_max_conns_per_client"), "{error}");
        }
        let other = error_of(b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        assert!(other.contains("500: no") && !other.contains("http_max_conns"), "{other}");
    }
}
