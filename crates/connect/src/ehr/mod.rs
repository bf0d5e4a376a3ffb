//! A FHIR R4 endpoint behind the `Ehr` port.
//!
//! Not here: which reads and writes are allowed, when a send is tried again, what a patient may see.
//!
//! Reading order: [`EhrConfig`], [`FhirEndpoint`]; `capability` (what the server can do), `read`,
//! `write` with `answer` (what a status proves about a send), `transaction` and `operation`, `reconcile`, `signature`
//! (what people sign at the server). When two
//! resources say the same is defined in `chaperone_core::content`.
//!
//! What a broken send proves:
//!
//! | what happened | meaning |
//! |---|---|
//! | no connection (name, refusal, TLS), no token | not applied: nothing was written |
//! | time-out, reset or end after the connection stood | unknown |
//! | 5xx, 408, an unexpected status, a 2xx that does not say what was made | unknown |
//! | an acknowledgement of an operation that does not say what was filed | unknown |
//! | 409 on a conditional create | unknown: another attempt may be under way |
//! | 412 on a conditional create | unknown: more than one resource carries the identifier |
//! | 409 or 412 on a conditional update, 412 on a patch | stale |
//! | 401, 403; 429; other 4xx | not applied |
//! | 409 or 412 on a transaction of creates and updates | stale if somebody changed what is to be changed and nothing was made, else unknown |
//! | fewer entries answered than sent, or one that failed | unknown |
//! | read back and different | unknown, so that reconciling puts it before a human |
//!
//! Connections for writes are never reused, and no client repeats a request by itself: otherwise a
//! connection that the server closed a moment ago would make an outcome unknown for no reason.

mod answer;
mod capability;
mod config;
pub mod conformance;
mod operation;
mod read;
mod reconcile;
mod sendable;
mod signature;
mod transaction;
mod write;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use async_trait::async_trait;
use chaperone_core::Timestamp;
use chaperone_core::egress::Channel;
use chaperone_core::evidence::Delivering;
use chaperone_core::ids::ConnectionId;
use chaperone_core::ports::{
    Clock, DeliveryProfile, Ehr, EhrRead, EhrReadFailed, EhrSearch, Environment, Random,
    Reconciliation, Signature, WriteFailed, WriteReceipt,
};
use chaperone_core::resource::ResourceType;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::egress::{ClientOptions, Gate, HttpClient, class};
use crate::http::BaseUrl;
use crate::smart::SmartClient;

use read::Turn;

use capability::patching;
pub use capability::{
    BeyondStatement, WRITABLE_TYPES, profile_of_kind, profile_of_staging, profile_of_statement,
    profile_of_vendor,
};
pub use config::{EhrAuth, EhrConfig, EhrConfigInvalid, EhrLimits, ProfileSource};

pub use chaperone_core::search::escape_search_value;

/// One EHR, reached over FHIR.
pub struct FhirEndpoint {
    connection: ConnectionId,
    environment: Environment,
    base: BaseUrl,
    limits: EhrLimits,
    settle_ms: i64,
    transactions_are_atomic: bool,
    updates_as_patches: bool,
    profile: RwLock<DeliveryProfile>,
    read_client: HttpClient<class::Phi>,
    write_client: HttpClient<class::Phi>,
    read_auth: Option<SmartClient>,
    write_auth: Option<SmartClient>,
    reads_under_way: Semaphore,
    own_reads_under_way: Semaphore,
    // How this server has shown that it answers searches.
    search_by: OnceLock<SearchBy>,
    // Until when it asked not to be written to.
    rests_until: Mutex<Option<Timestamp>>,
    clock: Arc<dyn Clock>,
}

/// How a server answers searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SearchBy {
    /// By POST, so that identifiers stay out of URLs.
    Post,
    /// By GET only.
    Get,
}

impl fmt::Debug for FhirEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FhirEndpoint")
            .field("connection", &self.connection)
            .field("environment", &self.environment)
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

impl FhirEndpoint {
    /// Makes an endpoint; calls nobody. What `gate` does not let through counts as an EHR that cannot be reached.
    ///
    /// # Errors
    /// [`EhrConfigInvalid`] names the setting to mend.
    pub fn new(
        config: EhrConfig,
        gate: &Gate,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, EhrConfigInvalid> {
        let connection = config.connection;
        let limits = config.limits;
        if !limits_make_sense(&limits) {
            return Err(EhrConfigInvalid::Limits { connection });
        }
        let base = match BaseUrl::parse("base_url", &config.base_url) {
            Ok(base) => base,
            Err(source) => return Err(EhrConfigInvalid::BaseUrl { connection, source }),
        };
        if config.environment == Environment::Production && matches!(config.auth, EhrAuth::Open) {
            return Err(EhrConfigInvalid::OpenProduction { connection });
        }
        // The token endpoint may be elsewhere, so only an open loopback EHR does without roots.
        let encrypted = base.is_encrypted() || !matches!(config.auth, EhrAuth::Open);
        let extra_root_pem = config.extra_root_pem;
        let options = |keep_connections| ClientOptions {
            connect_timeout_ms: limits.connect_timeout_ms,
            exchange_timeout_ms: limits.exchange_timeout_ms,
            keep_connections,
            encrypted,
            extra_root_pem: extra_root_pem.as_deref(),
        };
        let not_built = |source| EhrConfigInvalid::Client {
            connection: connection.clone(),
            source,
        };
        let read_client = gate.http(Channel::Ehr, &options(true)).map_err(not_built)?;
        let write_client = gate
            .http(Channel::Ehr, &options(false))
            .map_err(not_built)?;
        let (read_auth, write_auth) = match config.auth {
            EhrAuth::Open => (None, None),
            EhrAuth::SmartBackend { read, write } => {
                let token_client = gate
                    .http(Channel::Authorization, &options(true))
                    .map_err(not_built)?;
                let smart = |client_config| {
                    SmartClient::new(
                        client_config,
                        base.clone(),
                        token_client.clone(),
                        Arc::clone(&clock),
                        Arc::clone(&random),
                    )
                    .map_err(|source| EhrConfigInvalid::Auth {
                        connection: connection.clone(),
                        source,
                    })
                };
                (Some(smart(*read)?), Some(smart(*write)?))
            }
        };
        let mut updates_as_patches = false;
        let (profile, transactions_are_atomic) = match config.profile {
            ProfileSource::Probed {
                transactions_are_atomic,
                updates_as_patches: preferred,
            } => {
                updates_as_patches = preferred;
                let nothing_yet = DeliveryProfile {
                    settle_ms: config.settle_ms,
                    ..DeliveryProfile::default()
                };
                (nothing_yet, transactions_are_atomic)
            }
            ProfileSource::Kind {
                kind,
                types,
                transactions_are_atomic: atomic,
                updates_as_patches: patched,
            } => {
                let declared = profile_of_kind(kind, &types, atomic, config.settle_ms);
                let declared = if patched {
                    patching(declared)
                } else {
                    declared
                };
                (declared, atomic)
            }
            ProfileSource::Vendor { operation, types } => {
                if !operation::is_operation(&operation) {
                    return Err(EhrConfigInvalid::Operation { connection });
                }
                let profile = profile_of_vendor(&operation, &types, config.settle_ms);
                (profile, false)
            }
            ProfileSource::Staging {
                signs_with_second_factor,
                types,
            } => {
                let second = signs_with_second_factor;
                (profile_of_staging(second, &types, config.settle_ms), false)
            }
            ProfileSource::Declared(profile) => (profile, false),
        };
        Ok(Self {
            connection,
            environment: config.environment,
            base,
            reads_under_way: Semaphore::new(limits.reads_under_way_max),
            own_reads_under_way: Semaphore::new(limits.reads_under_way_max),
            limits,
            settle_ms: config.settle_ms,
            transactions_are_atomic,
            updates_as_patches,
            profile: RwLock::new(profile),
            read_client,
            write_client,
            read_auth,
            write_auth,
            search_by: OnceLock::new(),
            rests_until: Mutex::default(),
            clock,
        })
    }

    /// Asks the server what it can do. Changes nothing: see [`Self::adopt_probe`].
    ///
    /// # Errors
    /// [`EhrReadFailed`] when the CapabilityStatement cannot be read; `Unusable` when it is none.
    pub async fn probe(&self) -> Result<DeliveryProfile, EhrReadFailed> {
        let statement = self
            .get(Turn::Asked, "metadata", "CapabilityStatement")
            .await?;
        let beyond = BeyondStatement {
            transactions_are_atomic: self.transactions_are_atomic,
            updates_as_patches: self.updates_as_patches,
            settle_ms: self.settle_ms,
        };
        Ok(profile_of_statement(&statement, beyond))
    }

    /// Asks the server what it can do and delivers by that from now on. For [`ProfileSource::Probed`];
    /// a declared profile is better left as an operator declared it.
    ///
    /// # Errors
    /// As [`Self::probe`]; the profile in force stays.
    pub async fn adopt_probe(&self) -> Result<DeliveryProfile, EhrReadFailed> {
        let profile = self.probe().await?;
        *self.profile.write().unwrap_or_else(PoisonError::into_inner) = profile.clone();
        Ok(profile)
    }

    /// Fetches tokens for both clients, for `doctor`. Without credentials there is nothing to check.
    ///
    /// # Errors
    /// `Unauthorized` when the EHR's authorisation server refuses a client, `Unavailable` when it does
    /// not answer.
    pub async fn check_credentials(&self) -> Result<(), EhrReadFailed> {
        for auth in [&self.read_auth, &self.write_auth].into_iter().flatten() {
            auth.authorization().await.map_err(read::token_failed)?;
        }
        Ok(())
    }

    fn support(
        &self,
        resource: &ResourceType,
        interaction: chaperone_core::resource::Interaction,
    ) -> chaperone_core::ports::InteractionSupport {
        self.profile
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .of(resource, interaction)
    }
}

fn limits_make_sense(limits: &EhrLimits) -> bool {
    limits.connect_timeout_ms > 0
        && limits.connect_timeout_ms < limits.exchange_timeout_ms
        && limits.read_timeout_ms > 0
        && limits.body_bytes_max > 0
        && limits.pages_max > 0
        && limits.page_size_max > 0
        && (1..=Semaphore::MAX_PERMITS).contains(&limits.reads_under_way_max)
}

#[async_trait]
impl Ehr for FhirEndpoint {
    fn connection(&self) -> &ConnectionId {
        &self.connection
    }

    fn environment(&self) -> Environment {
        self.environment
    }

    fn endpoint(&self) -> &str {
        self.base.as_str()
    }

    fn profile(&self) -> DeliveryProfile {
        self.profile
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn rests_until(&self) -> Option<Timestamp> {
        *self
            .rests_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, resource: &ResourceType, id: &str) -> Result<Value, EhrReadFailed> {
        self.read_one(Turn::Asked, resource, id).await
    }

    async fn search(&self, search: EhrSearch) -> Result<EhrRead, EhrReadFailed> {
        self.search_all(Turn::Asked, search).await
    }

    async fn write(&self, delivering: &Delivering) -> Result<WriteReceipt, WriteFailed> {
        let outcome = self.deliver(delivering).await;
        tracing::info!(
            connection = %self.connection,
            writeback = %delivering.order().writeback,
            attempt = delivering.attempt(),
            outcome = match &outcome {
                Ok(_) => "applied",
                Err(WriteFailed::NotApplied { .. }) => "not-applied",
                Err(WriteFailed::Stale) => "stale",
                Err(WriteFailed::Unknown) => "unknown",
            },
            "sent to the EHR"
        );
        outcome
    }

    async fn signature(
        &self,
        delivering: &Delivering,
        location: &str,
    ) -> Result<Signature, EhrReadFailed> {
        self.find_signature(delivering, location).await
    }

    async fn reconcile(&self, delivering: &Delivering) -> Result<Reconciliation, EhrReadFailed> {
        self.find_out(delivering).await
    }
}
