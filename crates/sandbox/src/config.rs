//! How a sandbox is set up.
//!
//! Not read from files: the caller composes it. Start at [`SandboxConfig::new`].

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;

use crate::auth::Authentication;
use crate::launch::LaunchClient;
use crate::profile::ServerProfile;

/// Where the sandbox gets the time from: for `meta.lastUpdated` and for the life of tokens.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Everything that can be chosen about a sandbox.
#[derive(Clone)]
pub struct SandboxConfig {
    /// How capable the server is.
    pub profile: ServerProfile,
    /// Where it listens; must be a loopback address. Port 0 takes any free port.
    pub listen: SocketAddr,
    /// The time.
    pub clock: Clock,
    /// Whether requests need a bearer token.
    pub authentication: Authentication,
    /// The app that people may launch from inside, if any.
    pub launch: Option<LaunchClient>,
    /// Whether `/_faults` and `/_requests` are mounted, for drivers in other processes.
    pub control_route: bool,
}

impl SandboxConfig {
    /// A sandbox with this profile on any free loopback port, without authentication and without
    /// control route.
    #[must_use]
    pub fn new(profile: ServerProfile, clock: Clock) -> Self {
        Self {
            profile,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            clock,
            authentication: Authentication::None,
            launch: None,
            control_route: false,
        }
    }

    /// The same with authentication.
    #[must_use]
    pub fn with_authentication(self, authentication: Authentication) -> Self {
        Self {
            authentication,
            ..self
        }
    }

    /// The same with an app that people may launch from inside.
    #[must_use]
    pub fn with_launch(self, client: LaunchClient) -> Self {
        Self {
            launch: Some(client),
            ..self
        }
    }

    /// The same at a fixed loopback address.
    #[must_use]
    pub fn at(self, listen: SocketAddr) -> Self {
        Self { listen, ..self }
    }

    /// The same with `/_faults` and `/_requests` mounted.
    #[must_use]
    pub fn with_control_route(self) -> Self {
        Self {
            control_route: true,
            ..self
        }
    }
}

impl fmt::Debug for SandboxConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SandboxConfig")
            .field("profile", &self.profile)
            .field("listen", &self.listen)
            .field("authentication", &self.authentication)
            .field("launch", &self.launch)
            .field("control_route", &self.control_route)
            .finish_non_exhaustive()
    }
}
