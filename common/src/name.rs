//! Names of nodes: `node-<n>`, without leading zeros, and the ports that follow from *n*.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// A node's name, kept as its number: `node-7` is `NodeName(7)`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(pub u16);

/// The first number from which no port can be derived: 200 followed by three digits would be no port.
pub const NUMBER_WITHOUT_PORT: u16 = 100;

/// Why some text names no node.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("\"{0}\" names no node: names are node-<n>, n from 0 to 65535 without leading zeros, as in node-4")]
pub struct NameError(pub String);

/// A node has no port of its own.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("no port can be derived for {0}: give --port P, a base to which {n} is added", n = .0.0)]
pub struct PortError(pub NodeName);

/// The longest host name, in bytes (RFC 1035, section 2.3.4).
pub const HOST_BYTES_MAX: usize = 255;

/// Whether some text may be a host: a name or an address, 1 to [`HOST_BYTES_MAX`] printable characters of ASCII.
pub fn is_host(text: &str) -> bool {
    (1..=HOST_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The longest zone, in bytes: the ring carries it, and so does every table that people read.
pub const ZONE_BYTES_MAX: usize = 255;

/// Whether some text may be a zone: at most [`ZONE_BYTES_MAX`] bytes, and nothing that a terminal would obey.
pub fn is_zone(text: &str) -> bool {
    text.len() <= ZONE_BYTES_MAX && !text.chars().any(char::is_control)
}

/// A host with a port, as sockets take it: an IPv6 address stands in brackets.
pub fn host_with_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// The three ports of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Clients: 200 followed by the digits of *n*.
    pub client: u16,
    /// Other nodes: the client port + 10000.
    pub peer: u16,
    /// HTTP: the client port + 5000.
    pub http: u16,
}

impl Ports {
    /// The three ports that follow from the client port; `None` where one would pass 65535.
    pub fn of_client_port(client: u16) -> Option<Ports> {
        Some(Ports { client, peer: client.checked_add(10_000)?, http: client.checked_add(5_000)? })
    }
}

impl NodeName {
    /// The node's ports: derived from its number, or `base` + number where a base is given.
    pub fn ports(self, base: Option<u16>) -> Result<Ports, PortError> {
        let client = match base {
            Some(base) => base.checked_add(self.0),
            None if self.0 < 10 => Some(2000 + self.0),
            None if self.0 < NUMBER_WITHOUT_PORT => Some(20_000 + self.0),
            None => None,
        };
        client.and_then(Ports::of_client_port).ok_or(PortError(self))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{}", self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<NodeName, NameError> {
        let wrong = || NameError(text.chars().take(64).collect());
        let digits = text.strip_prefix("node-").ok_or_else(wrong)?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        if !plain {
            return Err(wrong());
        }
        digits.parse().map(NodeName).map_err(|_| wrong())
    }
}

impl Serialize for NodeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NodeName, D::Error> {
        if !deserializer.is_human_readable() {
            return u16::deserialize(deserializer).map(NodeName);
        }
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_written() {
        for n in [0u16, 4, 99, 100, 65_535] {
            assert_eq!(NodeName(n).to_string().parse(), Ok(NodeName(n)));
        }
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets_before_a_port() {
        for (host, wanted) in
            [("::1", "[::1]:2000"), ("[::1]", "[::1]:2000"), ("127.0.0.1", "127.0.0.1:2000"), ("h", "h:2000")]
        {
            assert_eq!(host_with_port(host, 2000), wanted);
        }
    }

    #[test]
    fn foo_and_leading_zeros_name_no_node() {
        for text in ["foo", "node-", "node-04", "node-00", "node-+4", "node-65536", "Node-4", "node-4 ", ""] {
            let error = text.parse::<NodeName>().expect_err(text);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn ports_put_the_digits_behind_200() {
        let client = |n: u16| NodeName(n).ports(None).map(|p| (p.client, p.peer, p.http));
        assert_eq!(client(0), Ok((2000, 12_000, 7000)));
        assert_eq!(client(9), Ok((2009, 12_009, 7009)));
        assert_eq!(client(10), Ok((20_010, 30_010, 25_010)));
        assert_eq!(client(99), Ok((20_099, 30_099, 25_099)));
    }

    #[test]
    fn from_100_on_a_base_is_asked_for() {
        let error = NodeName(100).ports(None).expect_err("no port can be derived");
        assert!(error.to_string().contains("--port"), "{error}");
        assert_eq!(NodeName(100).ports(Some(5000)).map(|p| p.client), Ok(5100));
        assert!(NodeName(100).ports(Some(60_000)).is_err());
    }
}
