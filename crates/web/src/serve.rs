//! The listener: TLS from PEM files, or loopback only; HTTP/1.1 and HTTP/2; limits on connections and
//! their beginnings; and an orderly end.
//!
//! It knows no route. Start at [`Bound::new`].

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum_server::Handle;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use futures::future::BoxFuture;
use hyper_util::rt::TokioTimer;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::Service;

/// Longest time from the first byte of a connection to the end of a request's headers.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest header block of an HTTP/1 request, in bytes, and header list of an HTTP/2 one.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Requests at the same time on one HTTP/2 connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// How often a silent HTTP/2 connection is asked for life, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Largest certificate or key file, in bytes.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

/// Where to listen, and how.
#[derive(Debug, Clone)]
pub struct Listen {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Certificate and key. Without them, only a loopback address is accepted.
    pub tls: Option<TlsFiles>,
    /// Connections at the same time; more are closed at once.
    pub connections_max: usize,
    /// How long running requests may take to end after the shutdown began, in milliseconds.
    pub drain_ms_max: u64,
}

impl Listen {
    /// On an address, with the documented defaults: no TLS, 4,096 connections, ten seconds to drain.
    pub fn on(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            connections_max: 4_096,
            drain_ms_max: 10_000,
        }
    }
}

/// PEM files of the server's identity.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificates: PathBuf,
    /// The private key: PKCS#8, PKCS#1 or SEC 1.
    pub key: PathBuf,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeFailed {
    /// Plain HTTP beyond this machine.
    #[error(
        "refusing to serve plain HTTP on {0}: configure a TLS certificate and key, or listen on a \
         loopback address (127.0.0.1 or [::1]) behind something that ends TLS on this machine"
    )]
    NotLoopback(SocketAddr),
    /// A file cannot be read.
    #[error("cannot read the TLS {what} file `{path}`")]
    File {
        /// `certificate` or `key`.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds no PEM of its kind.
    #[error("the TLS {what} file `{path}` holds no usable PEM {what}")]
    Pem {
        /// `certificate` or `key`.
        what: &'static str,
        /// Which.
        path: PathBuf,
    },
    /// Certificate and key do not make a server.
    #[error("the TLS certificate and key do not fit together")]
    Tls(#[source] rustls::Error),
    /// The address is not to be had.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The listener broke.
    #[error("the listener failed")]
    Listener(#[source] io::Error),
}

/// Serves until `shutdown` ends, then lets running requests end.
///
/// # Errors
/// [`ServeFailed`].
pub async fn serve(
    listen: Listen,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeFailed> {
    Bound::new(listen)?.serve(router, shutdown).await
}

/// A listener that holds its address but serves nothing yet.
pub struct Bound {
    listener: std::net::TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    connections_max: usize,
    drain: Duration,
}

impl Bound {
    /// Reads the files and takes the address.
    ///
    /// # Errors
    /// [`ServeFailed`]; nothing is taken then.
    pub fn new(listen: Listen) -> Result<Self, ServeFailed> {
        let tls = match &listen.tls {
            Some(files) => Some(tls_config(files)?),
            None if listen.address.ip().to_canonical().is_loopback() => None,
            None => return Err(ServeFailed::NotLoopback(listen.address)),
        };
        let failed = |source| ServeFailed::Bind {
            address: listen.address,
            source,
        };
        let listener = std::net::TcpListener::bind(listen.address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            tls,
            connections_max: listen.connections_max.clamp(1, Semaphore::MAX_PERMITS),
            drain: Duration::from_millis(listen.drain_ms_max),
        })
    }

    /// The address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` ends, then accepts no more and lets running requests end, for the
    /// drain time at most.
    ///
    /// # Errors
    /// [`ServeFailed::Listener`].
    pub async fn serve(
        self,
        router: Router,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeFailed> {
        let handle = Handle::new();
        let mut server = axum_server::from_tcp(self.listener)
            .map_err(ServeFailed::Listener)?
            .handle(handle.clone());
        bound_protocols(server.http_builder());
        let places = Arc::new(Semaphore::new(self.connections_max));
        let app = router.into_make_service_with_connect_info::<SocketAddr>();
        let serving: BoxFuture<'_, io::Result<()>> = match self.tls {
            Some(config) => {
                let acceptor = RustlsAcceptor::new(RustlsConfig::from_config(config))
                    .handshake_timeout(HANDSHAKE_TIMEOUT)
                    .acceptor(NoDelayAcceptor::new());
                Box::pin(
                    server
                        .acceptor(Bounded {
                            inner: acceptor,
                            places,
                        })
                        .serve(app),
                )
            }
            None => {
                let inner = NoDelayAcceptor::new();
                Box::pin(server.acceptor(Bounded { inner, places }).serve(app))
            }
        };
        let ending = async {
            shutdown.await;
            tracing::info!("shutting down; running requests may end");
            handle.graceful_shutdown(Some(self.drain));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = serving => served.map_err(ServeFailed::Listener),
            () = ending => Ok(()),
        }
    }
}

type Protocols = hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>;

fn bound_protocols(builder: &mut Protocols) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
}

fn tls_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, ServeFailed> {
    let pem = |what, path: &Path| ServeFailed::Pem {
        what,
        path: path.to_owned(),
    };
    let text = read_pem("certificate", &files.certificates)?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| pem("certificate", &files.certificates))?;
    if certificates.is_empty() {
        return Err(pem("certificate", &files.certificates));
    }
    let key = zeroize::Zeroizing::new(read_pem("key", &files.key)?);
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| pem("key", &files.key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(certificates, key)
        })
        .map_err(ServeFailed::Tls)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read_pem(what: &'static str, path: &Path) -> Result<Vec<u8>, ServeFailed> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|source| ServeFailed::File {
            what,
            path: path.to_owned(),
            source,
        })?;
    Ok(bytes)
}

/// Takes a place for a connection before its handshake, and gives it back when the connection ends.
#[derive(Clone)]
struct Bounded<A> {
    inner: A,
    places: Arc<Semaphore>,
}

impl<A, I, S> Accept<I, S> for Bounded<A>
where
    A: Accept<I, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = A::Stream;
    type Service = Placed<A::Service>;
    type Future = BoxFuture<'static, io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: I, service: S) -> Self::Future {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            metrics::counter!("chaperone_connections_refused_total").increment(1);
            return Box::pin(std::future::ready(Err(
                io::ErrorKind::ConnectionRefused.into()
            )));
        };
        let accepting = self.inner.accept(stream, service);
        Box::pin(async move {
            let (stream, inner) = accepting.await?;
            Ok((
                stream,
                Placed {
                    inner,
                    _place: Arc::new(place),
                },
            ))
        })
    }
}

/// The service of one connection, with the connection's place.
#[derive(Clone)]
struct Placed<S> {
    inner: S,
    _place: Arc<OwnedSemaphorePermit>,
}

impl<S, B> Service<Request<B>> for Placed<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
            let refused = Bound::new(Listen::on(address.parse().unwrap()));
            let Err(error @ ServeFailed::NotLoopback(_)) = refused else {
                panic!("{address}")
            };
            assert!(error.to_string().contains("certificate"), "{error}");
        }
        let bound = Bound::new(Listen::on("127.0.0.1:0".parse().unwrap())).unwrap();
        assert_ne!(bound.address().port(), 0);
    }

    #[test]
    fn files_that_are_no_identity_are_named() {
        let mut listen = Listen::on("127.0.0.1:0".parse().unwrap());
        let manifest = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        listen.tls = Some(TlsFiles {
            certificates: manifest.clone(),
            key: manifest,
        });
        let error = Bound::new(listen.clone())
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(
            error.contains("certificate") && error.contains("Cargo.toml"),
            "{error}"
        );
        listen.tls = Some(TlsFiles {
            certificates: "absent.pem".into(),
            key: "absent.pem".into(),
        });
        assert!(matches!(
            Bound::new(listen),
            Err(ServeFailed::File {
                what: "certificate",
                ..
            })
        ));
    }

    #[tokio::test]
    async fn it_serves_until_told_to_end() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let bound = Bound::new(Listen::on("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = bound.address();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let router = Router::new().route("/", axum::routing::get(async || "here"));
        let serving = tokio::spawn(bound.serve(router, async {
            let _ = stopped.await;
        }));
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("here"),
            "{answer}"
        );
        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    }
}
