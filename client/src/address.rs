//! Where nodes answer: what users and rings write, as ZeroMQ takes it.

use std::net::Ipv6Addr;

use ringkv_common::name::{host_with_port, is_host};
use ringkv_common::ring::Node;

use crate::error::Error;

/// `host:port` of a node, as ZeroMQ takes it.
pub(crate) fn address(node: &Node) -> String {
    host_with_port(&node.host, node.ports.client)
}

/// An address as ZeroMQ takes it: HOST or HOST:PORT, an IPv6 address in brackets where a port follows. Where none
/// does, it is 2000, which is node-0's.
///
/// libzmq itself takes any number for a port, cut to 16 bits, and would wait for whoever is there.
///
/// # Errors
/// [`Error::Address`], with what does not fit.
pub fn with_port(address: &str) -> Result<String, Error> {
    const DEFAULT: u16 = 2000;
    let wrong = |why: String| Error::Address { address: shortened(address), why };
    let bare_v6 = is_ipv6(address);
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !bare_v6 && !address.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fits = inner.map_or(bare_v6 || !host.contains([':', '[', ']', '/']), is_ipv6);
    if !is_host(host) || !fits {
        return Err(wrong(
            "it takes HOST or HOST:PORT, as in 127.0.0.1:2000, and an IPv6 address in brackets: [::1]:2000"
                .into(),
        ));
    }
    let port = match port {
        None => DEFAULT,
        Some("") => return Err(wrong("no port follows the colon; a port is 1 to 65535".into())),
        Some(text) => {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            let port = text.parse().ok().filter(|port| digits && *port > 0);
            port.ok_or_else(|| wrong(format!("its port is {}; a port is 1 to 65535", shortened(text))))?
        }
    };
    Ok(host_with_port(host, port))
}

/// Whether this is an IPv6 address, with or without the zone that a link-local one has.
fn is_ipv6(text: &str) -> bool {
    let (ip, zone) = text.split_once('%').unwrap_or((text, "-"));
    ip.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && !zone.contains([':', '[', ']'])
}

/// What others wrote, for a message.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_added_where_there_is_none() {
        let cases = [
            ("127.0.0.1", "127.0.0.1:2000"),
            ("host:2004", "host:2004"),
            ("::1", "[::1]:2000"),
            ("[::1]", "[::1]:2000"),
            ("[::1]:2001", "[::1]:2001"),
            ("fe80::1%lo", "[fe80::1%lo]:2000"),
            ("[fe80::1%lo]:65535", "[fe80::1%lo]:65535"),
            ("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1"),
        ];
        for (given, wanted) in cases {
            assert_eq!(with_port(given).as_deref(), Ok(wanted));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_does_not_fit() {
        let port = "a port is 1 to 65535";
        let takes = "it takes HOST or HOST:PORT";
        for (given, why) in [
            ("127.0.0.1:99999", "its port is 99999;"),
            ("[::1]:65536", "its port is 65536;"),
            ("h:0", "its port is 0;"),
            ("[::1]:0", "its port is 0;"),
            ("h:abc", "its port is abc;"),
            ("h:+1", "its port is +1;"),
            ("h:99999999999999999999", "its port is 99999999999999999999;"),
            ("h:", port),
            ("[::1]:", port),
            (":2000", takes),
            ("", takes),
            ("a b:1", takes),
            ("a:b:1", takes),
            ("tcp://h:1", takes),
            ("::1%lo:2000", takes),
            ("[::1", takes),
            ("::1]", takes),
            ("[::1]x:2000", takes),
            ("[h]:2000", takes),
            ("[]:2000", takes),
        ] {
            let error = with_port(given).expect_err(given).to_string();
            assert!(error.contains(why) && error.contains(&format!("{given:?}")), "{error}");
        }
        let long = with_port(&format!("h:{}", "9".repeat(1000))).expect_err("no port").to_string();
        assert!(long.len() < 400, "{long}");
    }
}
