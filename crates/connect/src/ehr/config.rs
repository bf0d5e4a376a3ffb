//! What a FHIR endpoint is made from. Not the product's configuration file: the binary maps that to this.

use chaperone_core::ids::ConnectionId;
use chaperone_core::ports::{DeliveryProfile, Environment, ServerKind};
use chaperone_core::resource::ResourceType;

use crate::http::UrlRefused;
use crate::smart::{SmartClientConfig, SmartConfigInvalid};

/// Everything about one connection.
#[derive(Debug, Clone)]
pub struct EhrConfig {
    /// Its name.
    pub connection: ConnectionId,
    /// What it is for.
    pub environment: Environment,
    /// Its FHIR base URL: https, or http on this machine.
    pub base_url: String,
    /// How Chaperone proves itself.
    pub auth: EhrAuth,
    /// Limits on every call.
    pub limits: EhrLimits,
    /// Where the delivery profile comes from.
    pub profile: ProfileSource,
    /// How long after a send a miss means "not applied", in milliseconds. A declared profile has its own.
    pub settle_ms: i64,
    /// Further root certificates, PEM, for an EHR with a private certificate authority.
    pub extra_root_pem: Option<Vec<u8>>,
}

/// How Chaperone proves itself to the EHR.
#[derive(Debug, Clone)]
pub enum EhrAuth {
    /// Not at all. Sandbox and test only.
    Open,
    /// SMART Backend Services with separate clients for reading and writing.
    SmartBackend {
        /// Reads, searches, reading back.
        read: Box<SmartClientConfig>,
        /// Creates and updates.
        write: Box<SmartClientConfig>,
    },
}

/// Where the delivery profile comes from.
#[derive(Debug, Clone)]
pub enum ProfileSource {
    /// From the CapabilityStatement, when [`FhirEndpoint::adopt_probe`](super::FhirEndpoint::adopt_probe)
    /// is called; until then everything is entered by humans.
    Probed {
        /// Whether transactions are atomic here. A CapabilityStatement cannot say, so an operator must.
        transactions_are_atomic: bool,
        /// Whether updates go as patches wherever that is claimed, also where whole resources are taken.
        updates_as_patches: bool,
    },
    /// Declared as a kind of server, for these types.
    Kind {
        /// The kind.
        kind: ServerKind,
        /// The types that can be written; all of [`WRITABLE_TYPES`](super::WRITABLE_TYPES) when empty.
        types: Vec<ResourceType>,
        /// As for a probed one.
        transactions_are_atomic: bool,
        /// Whether updates go as patches. Only for a full one: others match no versions.
        updates_as_patches: bool,
    },
    /// Declared as a server that takes every write by one operation of its own.
    Vendor {
        /// The operation, such as `$file-entry`.
        operation: String,
        /// As for a kind.
        types: Vec<ResourceType>,
    },
    /// Declared as a server that takes orders and notes unsigned, for people to sign on its screens.
    Staging {
        /// Whether it asks for a second factor when they sign.
        signs_with_second_factor: bool,
        /// As for a kind.
        types: Vec<ResourceType>,
    },
    /// Declared entry by entry.
    Declared(DeliveryProfile),
}

/// Limits on every call to an EHR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EhrLimits {
    /// Making a connection, in milliseconds. Below `exchange_timeout_ms`, so that an EHR that cannot be
    /// reached is told apart from one that does not answer.
    pub connect_timeout_ms: u64,
    /// One request and its answer, in milliseconds.
    pub exchange_timeout_ms: u64,
    /// One read or search with all its pages, in milliseconds.
    pub read_timeout_ms: u64,
    /// One answer, in bytes.
    pub body_bytes_max: usize,
    /// Pages of one search.
    pub pages_max: u32,
    /// `_count` asked of the EHR at most.
    pub page_size_max: u32,
    /// Reads and searches under way at once, and as many again of what delivery must know of its own writes. Further ones wait, which counts as their time: an EHR that
    /// slows down is not asked ever more at once, and no more connections are made to it.
    pub reads_under_way_max: usize,
}

impl Default for EhrLimits {
    fn default() -> Self {
        Self {
            connect_timeout_ms: 3_000,
            exchange_timeout_ms: 15_000,
            read_timeout_ms: 30_000,
            body_bytes_max: 8 * 1024 * 1024,
            pages_max: 10,
            page_size_max: 100,
            reads_under_way_max: 64,
        }
    }
}

/// Why an endpoint cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum EhrConfigInvalid {
    /// The base URL is not acceptable.
    #[error("EHR connection `{connection}`: {source}")]
    BaseUrl {
        /// Which connection.
        connection: ConnectionId,
        /// Why.
        source: UrlRefused,
    },
    /// The credentials are not usable.
    #[error("EHR connection `{connection}`: {source}")]
    Auth {
        /// Which connection.
        connection: ConnectionId,
        /// Why.
        source: SmartConfigInvalid,
    },
    /// Production without credentials.
    #[error("EHR connection `{connection}` is for production and has no credentials")]
    OpenProduction {
        /// Which connection.
        connection: ConnectionId,
    },
    /// A limit is zero, or the connect limit is not below the exchange limit.
    #[error(
        "EHR connection `{connection}`: every limit must be above zero and `connect_timeout_ms` below \
         `exchange_timeout_ms`"
    )]
    Limits {
        /// Which connection.
        connection: ConnectionId,
    },
    /// What is to take the writes is no operation.
    #[error(
        "EHR connection `{connection}`: `operation` must be `$` and lower-case letters, digits and `-`, such as `$file-entry`"
    )]
    Operation {
        /// Which connection.
        connection: ConnectionId,
    },
    /// The HTTP client could not be built, for want of root certificates or a TLS provider.
    #[error("EHR connection `{connection}`: the HTTP client cannot be built: {source}")]
    Client {
        /// Which connection.
        connection: ConnectionId,
        /// Why.
        source: reqwest::Error,
    },
}
