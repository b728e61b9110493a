//! A request taken apart, and an answer put together, in Consul's manner.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::{Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::go;
use super::super::state::Refusal;

/// Consul's `kv_max_value_size`.
pub const BODY_BYTES_MAX: usize = 512 << 10;
/// How long a request may take to send its body.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// A request.
#[derive(Debug)]
pub struct Asked {
    pub method: String,
    /// Decoded.
    pub path: String,
    params: Vec<(String, String)>,
    pub body: Bytes,
}

impl Asked {
    pub async fn from(request: Request<Incoming>) -> Result<Self, Reply> {
        let (head, body) = request.into_parts();
        let bad = |what: &str| {
            Reply::text(400, format!("Bad Request: the {what} is not UTF-8 behind its percent signs"))
        };
        let path = percent_decode_str(head.uri.path()).decode_utf8().map_err(|_| bad("path"))?.into_owned();
        if path.contains('\0') {
            return Err(Reply::text(400, "Bad Request: the path has a zero byte"));
        }
        let clean = clean(&path);
        if clean != path {
            return Err(Reply::moved(&clean));
        }
        let params = params(head.uri.query().unwrap_or_default()).ok_or_else(|| bad("query"))?;
        let announced =
            head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if let Some(bytes) = announced.filter(|bytes| *bytes > BODY_BYTES_MAX as u64) {
            return Err(too_large(&format!("Request body({bytes} bytes)")));
        }
        let body = tokio::time::timeout(BODY_PATIENCE, Limited::new(body, BODY_BYTES_MAX).collect()).await;
        let body = match body {
            Err(_) => {
                return Err(
                    Reply::text(408, format!("the body did not arrive within {BODY_PATIENCE:?}")).last()
                );
            }
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(too_large("Request body"));
            }
            Ok(Err(error)) => {
                return Err(Reply::text(400, format!("the body could not be read: {error}")).last());
            }
            Ok(Ok(body)) => body.to_bytes(),
        };
        Ok(Asked { method: head.method.as_str().to_owned(), path, params, body })
    }

    /// A parameter of the query; one without a value is empty.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.params.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.param(name).is_some()
    }

    /// A parameter that is a number, in Consul's words where it is none.
    pub fn number(&self, name: &str) -> Result<Option<u64>, Reply> {
        let Some(text) = self.param(name) else { return Ok(None) };
        let bad = |_| Reply::text(500, format!("strconv.ParseUint: parsing {text:?}: invalid syntax"));
        text.parse().map(Some).map_err(bad)
    }

    /// Consul's words for parameters that exclude each other.
    pub fn at_most_one(&self, names: &[&str]) -> Result<(), Reply> {
        let given: Vec<String> =
            names.iter().filter_map(|name| Some(format!("{name}={}", self.param(name)?))).collect();
        match given.len() {
            0 | 1 => Ok(()),
            _ => Err(Reply::text(400, format!("Conflicting flags: {}", given.join("&")))),
        }
    }

    pub fn must_be(&self, method: &'static str) -> Result<(), Reply> {
        if self.method == method { Ok(()) } else { Err(self.not_allowed(method)) }
    }

    pub fn not_allowed(&self, allow: &'static str) -> Reply {
        let mut reply = Reply::text(405, format!("method {} not allowed", self.method));
        reply.allow = Some(allow);
        reply
    }

    /// What this agent is not.
    pub fn unknown(&self) -> Reply {
        Reply::text(
            501,
            format!(
                "the embedded Consul agent does not know {} {}; use Consul itself for this",
                self.method, self.path
            ),
        )
    }

    /// Parameters that would change the answer and that this agent does not know must not be passed over.
    pub fn refuse_params(&self, names: &[&str]) -> Result<(), Reply> {
        match names.iter().find(|name| self.param(name).is_some_and(|value| !value.is_empty())) {
            None => Ok(()),
            Some(name) => Err(Reply::text(
                501,
                format!("the embedded Consul agent does not know the parameter {name:?}"),
            )),
        }
    }

    /// The body as JSON with its field names in lower case and without underscores. An empty body counts as `{}`.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Reply> {
        let bad = |error: serde_json::Error| Reply::text(400, format!("Request decode failed: {error}"));
        let body = if self.body.is_empty() { b"{}" } else { &self.body[..] };
        let Value::Object(object) = serde_json::from_slice(body).map_err(bad)? else {
            return Err(Reply::text(400, "Request decode failed: the body is no JSON object"));
        };
        serde_json::from_value(Value::Object(go::fields(object))).map_err(bad)
    }
}

fn too_large(what: &str) -> Reply {
    let message = format!("{what} too large, max size: {BODY_BYTES_MAX} bytes.");
    Reply::text(413, message).last()
}

/// The path as Go's server would write it: it redirects to that, and so do we.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

fn params(query: &str) -> Option<Vec<(String, String)>> {
    let decode =
        |text: &str| Some(percent_decode_str(&text.replace('+', " ")).decode_utf8().ok()?.into_owned());
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(n, v)| Some((decode(n)?, decode(v)?)))
        .collect()
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    status: u16,
    kind: &'static str,
    body: Vec<u8>,
    index: Option<u64>,
    allow: Option<&'static str>,
    location: Option<String>,
    last: bool,
}

impl Reply {
    fn new(status: u16, kind: &'static str, body: Vec<u8>) -> Self {
        Reply { status, kind, body, index: None, allow: None, location: None, last: false }
    }

    /// Indented, as Consul's in `-dev` mode.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec_pretty(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Reply::new(200, "application/json", body)
            }
            Err(error) => Reply::text(500, error.to_string()),
        }
    }

    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Reply::new(status, "text/plain; charset=utf-8", text.into().into_bytes())
    }

    pub fn raw(body: Vec<u8>) -> Self {
        Reply::new(200, "text/plain", body)
    }

    pub fn empty(status: u16) -> Self {
        Reply::new(status, "", Vec::new())
    }

    fn moved(to: &str) -> Self {
        Reply { location: Some(to.to_owned()), ..Reply::empty(301) }
    }

    pub fn index(mut self, index: u64) -> Self {
        self.index = Some(index);
        self
    }

    /// The connection ends with it, because the rest of the request was not read.
    fn last(mut self) -> Self {
        self.last = true;
        self
    }

    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if !self.kind.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        }
        if self.kind == "text/plain" {
            // A value may be anything, a script for a browser too.
            headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
            headers.insert("content-security-policy", HeaderValue::from_static("sandbox"));
        }
        if let Some(index) = self.index {
            headers.insert("x-consul-index", HeaderValue::from(index));
            headers.insert("x-consul-knownleader", HeaderValue::from_static("true"));
            headers.insert("x-consul-lastcontact", HeaderValue::from_static("0"));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(Ok(location)) = self.location.map(|to| HeaderValue::try_from(to.as_bytes())) {
            headers.insert(LOCATION, location);
        }
        if self.last {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Reply::text(refusal.status, refusal.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_as_go_does_it() {
        for (path, cleaned) in [
            ("/v1/kv/a//b", "/v1/kv/a/b"),
            ("/v1/kv/q/../r", "/v1/kv/r"),
            ("/v1/kv/dir/", "/v1/kv/dir/"),
            ("/v1/kv/", "/v1/kv/"),
            ("/../..", "/"),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn a_query_is_taken_apart() {
        let pairs = params("recurse&a=1+2&b=%C3%A9&&c=x=y").expect("UTF-8");
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("recurse", ""), ("a", "1 2"), ("b", "é"), ("c", "x=y")]);
        assert_eq!(params("a=%ff"), None);
    }
}
