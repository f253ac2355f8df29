//! The real binary and a gateway behind TLS.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::harness::{Binary, Ran};

/// A certificate authority of its own, as PEM, and a server's configuration by it.
fn authority() -> (String, ServerConfig) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    (authority.pem(), config)
}

/// What a server saw: connections, and those of them that asked something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    connections: usize,
    requests: usize,
}

/// Runs the binary against a server with this configuration, trusting this authority.
async fn run(config: ServerConfig, trusted: &str) -> (Ran, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let seen = watch::Sender::new(Seen::default());
    let (told, acceptor) = (seen.clone(), TlsAcceptor::from(Arc::new(config)));
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            told.send_modify(|seen| seen.connections += 1);
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut bytes = vec![0; 64 * 1024];
            if stream.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                told.send_modify(|seen| seen.requests += 1);
                let said = "data: {\"choices\":[{\"delta\":{\"content\":\"By TLS.\"}}]}\n\ndata: [DONE]\n\n";
                let head = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(format!("{head}{said}").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    let home = Binary::new();
    let file = home.home.path().join("authority.pem");
    std::fs::write(&file, trusted).unwrap();
    // A directory without certificates, in the place of one that the machine may name.
    let none = home.home.workspace();
    let binary = home.env("SSL_CERT_FILE", file.to_str().unwrap()).env("SSL_CERT_DIR", none.to_str().unwrap());
    let binary = binary.env("LAKITU__LIMITS__MODEL_ATTEMPTS", "2");
    let ran = tokio::task::spawn_blocking(move || binary.run(&["run", "hello", "--gateway", &url, "--model", "m"]));
    let ran = ran.await.unwrap();
    server.abort();
    let seen = *seen.borrow();
    (ran, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_whose_authority_is_named_is_talked_to() {
    let (authority, config) = authority();
    let (ran, seen) = run(config, &authority).await;
    assert_eq!((ran.exit, seen.requests), (0, 1), "{ran:?}");
    assert!(ran.out.contains("By TLS."), "{ran:?}");
}

/// F09: it is tried again, and each time with TLS.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_of_an_unknown_authority_is_told_nothing_and_the_thread_is_checkpointed() {
    let (_, config) = authority();
    let (other, _) = authority();
    let (ran, seen) = run(config, &other).await;
    assert_eq!((ran.exit, seen), (4, Seen { connections: 2, requests: 0 }), "{ran:?}");
    assert!(ran.err.contains("(tls)"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_are_named_and_are_none_are_an_error_before_anything_starts() {
    let (_, config) = authority();
    let (ran, seen) = run(config, "").await;
    assert_eq!((ran.exit, seen), (2, Seen::default()), "{ran:?}");
    assert!(ran.err.contains("SSL_CERT_FILE names no certificates"), "{ran:?}");
}
