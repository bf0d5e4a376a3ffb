//! The gateway behind a real listener, and peers that go away.

use std::net::SocketAddr;

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chaperone_web::serve::{Bound, Listen, TlsFiles};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tower::ServiceExt as _;

use crate::house::*;

/// How long a request whose peer is gone may take to its end.
const RECORDED_WITHIN: Duration = Duration::from_secs(60);

async fn ask(address: SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = connection.read_to_string(&mut answer).await;
    answer
}

#[tokio::test]
async fn behind_a_listener_it_answers_as_in_process() {
    let house = House::new().await;
    let bound = Bound::new(Listen::on("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = bound.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(bound.serve(house.router.clone(), async {
        let _ = stopped.await;
    }));
    let request = "GET /v1/tools HTTP/1.1\r\nhost: chaperone.example\r\nconnection: close\r\n\r\n";
    let answer = ask(address, request).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
    assert!(answer.contains("x-correlation-id: req_"), "{answer}");
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_peer_that_hangs_up_does_not_end_its_request() {
    let house = House::new().await;
    let before = house.ledger().await.len();
    let mut asking = Box::pin(house.router.clone().oneshot(bare("GET", None, "/v1/tools")));
    assert!(futures::poll!(&mut asking).is_pending());
    drop(asking);
    // The refusal is recorded all the same, once the request has run to its end.
    let deadline = tokio::time::Instant::now() + RECORDED_WITHIN;
    while house.ledger().await.len() <= before {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the refusal is missing from the ledger"
        );
        tokio::task::yield_now().await;
    }
}

fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/gateway/tls")
        .join(name)
}

/// A time at which the test's certificate holds, whatever the machine's clock says.
#[derive(Debug)]
struct Then;

impl rustls::time_provider::TimeProvider for Then {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            1_900_000_000,
        )))
    }
}

/// One request over TLS of one version, by a client that trusts the test's certificate alone.
fn ask_over_tls(
    address: SocketAddr,
    version: &'static rustls::SupportedProtocolVersion,
) -> (String, Option<Vec<u8>>) {
    let certificate = CertificateDer::from_pem_file(tls_file("certificate.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_details(provider, Arc::new(Then))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    let mut stream = rustls::Stream::new(&mut session, &mut connection);
    let request = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let protocol = session.alpn_protocol().map(<[u8]>::to_vec);
    (String::from_utf8_lossy(&answer).into_owned(), protocol)
}

#[tokio::test]
async fn tls_is_served_in_both_current_versions_and_plain_http_is_not_understood_there() {
    let house = House::new().await;
    let mut listen = Listen::on("127.0.0.1:0".parse().unwrap());
    listen.tls = Some(TlsFiles {
        certificates: tls_file("certificate.pem"),
        key: tls_file("key.pem"),
    });
    let bound = Bound::new(listen).unwrap();
    let address = bound.address();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(bound.serve(house.router.clone(), async {
        let _ = stopped.await;
    }));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let asking = tokio::task::spawn_blocking(move || ask_over_tls(address, version));
        let (answer, protocol) = asking.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(protocol.as_deref(), Some(&b"http/1.1"[..]));
    }
    let plain = ask(address, "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(!plain.contains("HTTP/1.1 200"), "{plain}");
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
