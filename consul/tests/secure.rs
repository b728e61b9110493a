//! TLS with an authority of our own and client certificates, and access control by token.
#![cfg(feature = "agent")]
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "contract/server.rs"]
#[allow(dead_code, unused_macros, unused_imports)]
mod server;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use consul::{CheckStatus, Client, Config, Error, TtlUpdate};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// An authority and what it signed, as files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority { issuer, folder: tempfile::tempdir().unwrap() };
        std::fs::write(authority.path("ca.pem"), authority.issuer.pem()).unwrap();
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes `<name>.pem` and `<name>.key`.
    fn sign(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// A server that says who leads to everybody who shows a certificate of ours.
    fn serve(&self) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (certificate, key) = self.sign("server");
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream =
                    StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream.unwrap());
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                // Whoever failed the handshake hears nothing of this.
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\nconnection: close\r\n\r\n\"127.0.0.1:8300\"",
                );
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        addr
    }
}

fn client(url: &str, vars: &[(&str, &Path)]) -> Result<Client, Error> {
    Client::new(Config::from_lookup(|name| match name {
        "CONSUL_HTTP_ADDR" => Some(url.to_owned()),
        _ => vars.iter().find(|(n, _)| *n == name).map(|(_, path)| path.to_str().unwrap().to_owned()),
    })?)
}

#[test]
fn https_with_an_own_authority_and_a_client_certificate() {
    let authority = Authority::new();
    authority.sign("client");
    let (ca, cert, key) =
        (authority.path("ca.pem"), authority.path("client.pem"), authority.path("client.key"));
    let addr = authority.serve();
    for url in [format!("https://{addr}"), format!("https://localhost:{}", addr.port())] {
        let vars =
            [("CONSUL_CACERT", ca.as_path()), ("CONSUL_CLIENT_CERT", &cert), ("CONSUL_CLIENT_KEY", &key)];
        assert_eq!(client(&url, &vars).unwrap().leader().unwrap().as_deref(), Some("127.0.0.1:8300"));
    }
    let url = format!("https://{addr}");

    let error = client(&url, &[]).unwrap().leader().expect_err("an authority that nobody knows");
    assert!(
        matches!(&error, Error::Unreachable { reason, .. } if reason.contains("UnknownIssuer")),
        "{error}"
    );
    let error = client(&url, &[("CONSUL_CACERT", &ca)]).unwrap().leader().expect_err("no client certificate");
    assert!(matches!(&error, Error::Unreachable { .. }), "{error}");

    // A certificate of somebody else.
    let other = Authority::new();
    other.sign("client");
    let (cert, key) = (other.path("client.pem"), other.path("client.key"));
    let vars = [("CONSUL_CACERT", ca.as_path()), ("CONSUL_CLIENT_CERT", &cert), ("CONSUL_CLIENT_KEY", &key)];
    client(&url, &vars).unwrap().leader().expect_err("a foreign certificate");
    // Plain HTTP to a TLS port.
    let error = client(&format!("http://{addr}"), &[]).unwrap().leader().expect_err("not encrypted");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
}

#[test]
fn certificates_that_cannot_be_used_are_named_before_anything_is_sent() {
    let authority = Authority::new();
    authority.sign("client");
    let (cert, key, ca) =
        (authority.path("client.pem"), authority.path("client.key"), authority.path("ca.pem"));
    let absent = authority.path("absent.pem");
    let url = "https://127.0.0.1:1";
    for (vars, named) in [
        (vec![("CONSUL_CACERT", &absent)], "CONSUL_CACERT"),
        (vec![("CONSUL_CACERT", &key)], "holds no certificate"),
        (vec![("CONSUL_CLIENT_CERT", &cert)], "CONSUL_CLIENT_KEY"),
        (vec![("CONSUL_CLIENT_KEY", &key)], "CONSUL_CLIENT_CERT"),
        (vec![("CONSUL_CLIENT_CERT", &cert), ("CONSUL_CLIENT_KEY", &ca)], "holds no private key"),
    ] {
        let vars: Vec<(&str, &Path)> = vars.iter().map(|(name, path)| (*name, path.as_path())).collect();
        let error = client(url, &vars).expect_err("unusable");
        assert!(matches!(error, Error::Config(_)) && error.to_string().contains(named), "{error}");
    }
}

/// Against a real Consul only: the embedded agent has no access control.
#[test]
fn a_token_opens_what_access_control_closes() {
    const TOKEN: &str = "11111111-2222-3333-4444-555555555555";
    let hcl = format!(
        r#"acl = {{ enabled = true, default_policy = "deny", tokens = {{ master = "{TOKEN}", agent = "{TOKEN}" }} }}"#
    );
    if server::binary().is_none() {
        // Says so, or fails where one is required.
        server::Server::real("a_token_opens_what_access_control_closes");
        return;
    }
    let real = server::Real::start_with(&hcl).unwrap();
    let without = Client::new(Config::parse(&real.url).unwrap()).unwrap();
    let with = |token: &str| {
        let config = Config { token: Some(token.to_owned()), ..Config::parse(&real.url).unwrap() };
        Client::new(config).unwrap()
    };
    server::until("a leader that knows the token", || with(TOKEN).put("key", "value").ok());

    let error = without.put("key", "other").expect_err("nobody may write");
    assert!(matches!(&error, Error::Denied { with_token: false, .. }), "{error}");
    assert!(
        error.to_string().contains("CONSUL_HTTP_TOKEN") && error.to_string().contains("none was sent"),
        "{error}"
    );
    assert!(matches!(without.get("key"), Err(Error::Denied { .. })));
    let error = with("99999999-2222-3333-4444-555555555555").get("key").expect_err("an unknown token");
    assert!(matches!(&error, Error::Denied { with_token: true, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("99999999"), "{error:?}");

    assert_eq!(with(TOKEN).get("key").unwrap().unwrap().value, b"value");
    // With access control on, Consul has other words for what it does not know.
    let update = with(TOKEN).update_check("absent", CheckStatus::Passing, "").unwrap();
    assert_eq!(update, TtlUpdate::Forgotten);
    with(TOKEN).deregister("absent").unwrap();

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    let by_file = client(&real.url, &[("CONSUL_HTTP_TOKEN_FILE", file.path())]).unwrap();
    assert_eq!(by_file.get("key").unwrap().unwrap().value, b"value");
}
