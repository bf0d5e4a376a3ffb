//! Composition: which adapter stands behind which port. The only place that knows them all.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use chaperone_connect::anchor::FileAnchor;
use chaperone_connect::clock::SystemClock;
use chaperone_connect::consent::SandboxConsent;
use chaperone_connect::egress::{Gate, GateParts, SystemNames};
use chaperone_connect::ehr::{EhrConfig, FhirEndpoint};
use chaperone_connect::keys::{EscrowSecret, FileKeyVault, KeyPlace};
use chaperone_connect::random::OsRandom;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{Clock, Ehr, KeyVault as _, Notifier, Random};
use chaperone_engine::launch::RETURN_PATH;
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_policy::Bundle;

/// Where everything of one tenant rests.
pub(crate) struct Places<'a> {
    /// URL of the store.
    pub(crate) database: &'a str,
    /// Folder of the anchored checkpoints.
    pub(crate) anchors: &'a Path,
}

/// The parts that every command shares.
pub(crate) struct Basics {
    /// The clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// Randomness.
    pub(crate) random: Arc<dyn Random>,
}

impl Basics {
    /// The machine's own.
    pub(crate) fn of_this_machine() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandom),
        }
    }
}

/// Opens the key folder, making it at first run; the escrow text is then returned, once.
pub(crate) async fn open_keys(
    place: &KeyPlace,
    tenant: &TenantId,
) -> anyhow::Result<(FileKeyVault, Option<EscrowSecret>)> {
    let escrow = if FileKeyVault::exists(&place.dir, tenant) {
        None
    } else {
        FileKeyVault::create(place, tenant)
            .await
            .context("the tenant's keys could not be made")?
    };
    let keys = FileKeyVault::open(place, tenant).context("the tenant's keys cannot be opened")?;
    // Without its keys a node must not serve, and whoever starts it should hear why.
    keys.signing_seed(tenant)
        .await
        .context("the tenant's keys cannot be unwrapped")?;
    Ok((keys, escrow))
}

/// Puts an engine together.
pub(crate) async fn engine(
    config: EngineConfig,
    bundle: Arc<Bundle>,
    places: &Places<'_>,
    keys: FileKeyVault,
    ehr: impl Ehr,
    notifier: Arc<dyn Notifier>,
    basics: &Basics,
) -> anyhow::Result<Arc<Engine>> {
    let store = chaperone_store::open(places.database, chaperone_store::Options::default())
        .await
        .context("the store cannot be opened")?;
    let anchor = FileAnchor::open(places.anchors).context("the anchor folder cannot be used")?;
    let ports = Ports {
        store,
        ehr: Arc::new(ehr),
        keys: Arc::new(keys),
        clock: Arc::clone(&basics.clock),
        random: Arc::clone(&basics.random),
        consent: Arc::new(SandboxConsent),
        notifier,
        anchor: Arc::new(anchor),
    };
    Ok(Engine::start(config, bundle, ports).await?)
}

/// The gate of a bundle: everything that leaves, leaves by it. The console's address, and the one that launches come back
/// to, may stand in what is sent.
pub(crate) fn gate(bundle: &Bundle, public_url: &str, basics: &Basics) -> anyhow::Result<Gate> {
    let public_url = public_url.trim_end_matches('/');
    Ok(Gate::new(GateParts {
        vendors: Arc::clone(bundle.vendors()),
        detector: chaperone_engine::egress::detector(bundle)?,
        clock: Arc::clone(&basics.clock),
        names: Arc::new(SystemNames),
        own_addresses: vec![
            format!("{public_url}/console"),
            format!("{public_url}{RETURN_PATH}"),
        ],
    }))
}

/// An endpoint that delivers by what the server says it can do, unless a kind is declared.
pub(crate) async fn endpoint(
    config: EhrConfig,
    gate: &Gate,
    basics: &Basics,
    probe: bool,
) -> anyhow::Result<FhirEndpoint> {
    let endpoint = FhirEndpoint::new(
        config,
        gate,
        Arc::clone(&basics.clock),
        Arc::clone(&basics.random),
    )?;
    if probe {
        endpoint
            .adopt_probe()
            .await
            .context("the EHR's CapabilityStatement cannot be read")?;
    }
    Ok(endpoint)
}
