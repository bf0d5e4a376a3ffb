//! Starting and stopping a sandbox.
//!
//! Start at [`Sandbox::start`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, RwLock};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::auth::{Authentication, Authority, ClientsInvalid};
use crate::capability::statement;
use crate::config::SandboxConfig;
use crate::connection::{CuttableListener, Scissors};
use crate::faults::Faults;
use crate::handle::SandboxHandle;
use crate::launch::LaunchAuthority;
use crate::requests::RequestLog;
use crate::server::{FHIR_PATH, Shared, TOKEN_PATH, router};
use crate::storage::Storage;

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sandbox has no TLS and no real access control, so it stays on this machine.
    #[error("the sandbox listens on loopback only, not on `{address}`; use 127.0.0.1 or [::1]")]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address is taken or not available.
    #[error("the sandbox cannot listen on `{address}`")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A configured client cannot be used.
    #[error("a client of the sandbox is not usable")]
    Client(#[from] ClientsInvalid),
}

/// The sandbox EHR.
#[derive(Debug, Clone, Copy)]
pub struct Sandbox;

impl Sandbox {
    /// Starts a sandbox, empty, in the current tokio runtime.
    ///
    /// # Errors
    /// An address that is not loopback or cannot be listened on; a client with unusable keys or
    /// scopes.
    pub async fn start(config: SandboxConfig) -> Result<RunningSandbox, StartError> {
        let address = config.listen;
        if !address.ip().is_loopback() {
            return Err(StartError::NotLoopback { address });
        }
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let base_url = format!("http://{bound}{FHIR_PATH}");
        let token_url = format!("http://{bound}{TOKEN_PATH}");
        let authority = match &config.authentication {
            Authentication::None => None,
            Authentication::SmartBackend { clients } => {
                Some(Authority::new(clients, token_url.clone())?)
            }
        };
        let issuer = format!("http://{bound}");
        let launch = match config.launch {
            None => None,
            Some(client) => Some(LaunchAuthority::new(
                client, &base_url, &issuer, &token_url,
            )?),
        };
        let capability = statement(
            config.profile,
            &base_url,
            authority.as_ref().map(|_| token_url.as_str()),
            (config.clock)(),
        );
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared {
            profile: config.profile,
            clock: config.clock,
            storage: RwLock::new(Storage::new(
                base_url.clone(),
                config.profile.shows_versions(),
            )),
            filed: Mutex::default(),
            faults: Faults::default(),
            requests: RequestLog::default(),
            authority,
            launch,
            capability: Bytes::from(capability.to_string()),
            base_url: base_url.clone(),
            token_url,
            stopping: stopping.clone(),
        });
        let service = router(Arc::clone(&shared), config.control_route)
            .into_make_service_with_connect_info::<Scissors>();
        let task = tokio::spawn(async move {
            let served = axum::serve(CuttableListener::new(listener), service)
                .with_graceful_shutdown(stopped(stopping))
                .await;
            if served.is_err() {
                tracing::warn!("the sandbox stopped serving");
            }
        });
        Ok(RunningSandbox {
            base_url,
            handle: SandboxHandle::new(shared),
            stop,
            task: Some(task),
        })
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    // An error means that the sender is gone, which means stop as well.
    let _sender_gone = stopping.wait_for(|stopping| *stopping).await;
}

/// A sandbox that serves until it is stopped or dropped.
#[derive(Debug)]
pub struct RunningSandbox {
    /// The FHIR base URL, `http://127.0.0.1:<port>/fhir`.
    pub base_url: String,
    /// The way in, in process.
    pub handle: SandboxHandle,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl RunningSandbox {
    /// Stops listening, lets running requests end, and waits for that.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            // A panicked server task has nothing left to stop.
            let _panicked = task.await;
        }
    }
}

impl Drop for RunningSandbox {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
