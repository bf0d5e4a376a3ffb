//! What every use case works with: the ports, the bundle in force and the settings of one tenant.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use chaperone_core::Timestamp;
use chaperone_core::breaker::BreakerRules;
use chaperone_core::change::ChangeClass;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{AccountName, ConnectionId, CorrelationId, TenantId};
use chaperone_core::mode::{Mode, ModeSubject, Modes};
use chaperone_core::ports::{
    Anchor, Clock, CommitFailed, ConsentHook, DecisionSupport, Ehr, Environment, Expected,
    KeyVault, Notifier, PatientMailer, Random, Record, RecordChange, RecordKey, STREAM_EVENTS_MAX,
    Store, StoreFailed,
};
use chaperone_fhir::catalogue::Catalogue;
use chaperone_fhir::status::Transitions;
use chaperone_fhir::validator::ProfileOptions;
use chaperone_fhir::{Definitions, Severity, Validator, ValidatorOptions};
use chaperone_phi::consent::ConsentTable;
use chaperone_phi::likeness::Likeness;
use chaperone_policy::Bundle;
use tokio::sync::watch;

use crate::afterwork::Afterwork;
use crate::consent::{ConsentBook, ConsentSource};
use crate::ehr_event::EventSources;
use crate::entities::Entities;
use crate::free_text::{PeopleKept, Words};
use crate::key_use::Keys;
use crate::launch::Launches;
use crate::oversight::rules::OversightRules;
use crate::people::RelyingParty;
use crate::propose::RuleSet;
use crate::recent::Recent;
use crate::refusals::Refusals;
use crate::retention::rules::RetentionRules;
use crate::retention::tombstones::Tombstones;
use crate::tables::Tables;
use crate::tokens::TokenCache;
use crate::undo::Remedies;

/// Which bundle was recorded last. The tenant's stream holds far more than bundles, so it is not read
/// for this.
const BUNDLE: &str = "bundle";
const IN_FORCE: &str = "in-force";

/// The outside, as the engine sees it.
pub struct Ports {
    /// Events, records, work.
    pub store: Arc<dyn Store>,
    /// The EHR connection of this tenant.
    pub ehr: Arc<dyn Ehr>,
    /// Data keys.
    pub keys: Arc<dyn KeyVault>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// A further authority on consent, which can only deny.
    pub consent: Arc<dyn ConsentHook>,
    /// Notices to humans.
    pub notifier: Arc<dyn Notifier>,
    /// Checkpoints outside the database.
    pub anchor: Arc<dyn Anchor>,
}

/// Settings of one tenant. Durations in seconds unless the name says otherwise.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// The organisation.
    pub tenant: TenantId,
    /// The audience of tokens: the public base URL, without a trailing slash.
    pub audience: String,
    /// Name of this node, for leases and the health page.
    pub node: String,
    /// How long an approval may take, for classes up to M3.
    pub approve_within_s: i64,
    /// How long an approval may take for M4 and M5.
    pub approve_within_grave_s: i64,
    /// How long an approved order may wait in the queue.
    pub deliver_within_s: i64,
    /// The same for M4 and M5.
    pub deliver_within_grave_s: i64,
    /// How long a second factor counts.
    pub step_up_s: i64,
    /// Whether a person decides only about what was on their screen for a while (`rules/deciding.toml`). On wherever a
    /// console is served.
    pub decides_after_reading: bool,
    /// Who relies on passkeys; without it nobody has one.
    pub passkeys: Option<RelyingParty>,
    /// Whether codes of an authenticator app count for whoever has a passkey.
    pub codes_beside_passkeys: bool,
    /// How long a console session lives without use.
    pub session_idle_s: i64,
    /// How long a work claim holds, in milliseconds. Longer than any EHR call.
    pub claim_ms: i64,
    /// How long the writer's lease lives without being renewed, in milliseconds.
    pub lease_ms: i64,
    /// First delay after a failed attempt, in milliseconds; doubles with each attempt.
    pub backoff_ms: i64,
    /// Longest delay between attempts, in milliseconds.
    pub backoff_ms_max: i64,
    /// Deliveries under way at once at most, at least two.
    pub deliveries_under_way_max: usize,
    /// When sending to the EHR stops for a while because it fails.
    pub breaker: BreakerRules,
    /// Whose signatures in the EHR count: the account here, by the signer's name there, `Practitioner/[id]`.
    pub signers: BTreeMap<String, AccountName>,
    /// What proposals are validated with: the bundle's conformance packages over R4.
    pub validator: Arc<Validator>,
    /// Who may announce events of the EHR.
    pub event_sources: EventSources,
    /// Where patients' Consents come from.
    pub consent_source: ConsentSource,
    /// Where it is kept, outside the database, who was shredded; without such a place nobody is.
    pub tombstones: Tombstones,
    /// The scrubber's last layer, where the organisation has one. None by default.
    pub entity_finder: Option<Entities>,
    /// CDS services, where the organisation has any. None by default.
    pub decision_support: Option<Arc<dyn DecisionSupport>>,
    /// Whether there are canaries, and since when staff know. None by default.
    pub canaries: Option<crate::canary::CanariesDisclosed>,
    /// Launches from inside the EHR, where the organisation has them. None by default.
    pub launches: Option<Launches>,
    /// Mail to patients, where the organisation has it. None by default: no codes are sent then, and nobody is told.
    pub patient_mail: Option<Arc<dyn PatientMailer>>,
}

impl EngineConfig {
    /// The documented defaults.
    ///
    /// # Source
    /// Approval and delivery times: the escalators of the write-back matrix (24 h for M3 and 15 min
    /// for M4 to approve; 24 h and 4 h to deliver). Second factor: at most 5 minutes old.
    pub fn new(tenant: TenantId, audience: impl Into<String>) -> Self {
        let audience = audience.into();
        Self {
            tenant,
            decides_after_reading: false,
            passkeys: RelyingParty::at(&audience),
            codes_beside_passkeys: true,
            audience,
            node: "node-1".to_owned(),
            approve_within_s: 24 * 3600,
            approve_within_grave_s: 15 * 60,
            deliver_within_s: 24 * 3600,
            deliver_within_grave_s: 4 * 3600,
            step_up_s: 300,
            session_idle_s: 15 * 60,
            claim_ms: 60_000,
            lease_ms: 15_000,
            backoff_ms: 500,
            backoff_ms_max: 60_000,
            deliveries_under_way_max: 32,
            breaker: BreakerRules::default(),
            signers: BTreeMap::new(),
            validator: r4_validator(),
            event_sources: EventSources::default(),
            consent_source: ConsentSource::default(),
            tombstones: Tombstones::default(),
            entity_finder: None,
            decision_support: None,
            canaries: None,
            launches: None,
            patient_mail: None,
        }
    }

    /// How long an approval may take.
    pub(crate) fn approve_within_s(&self, class: ChangeClass) -> i64 {
        if class >= ChangeClass::M4 {
            self.approve_within_grave_s
        } else {
            self.approve_within_s
        }
    }

    /// How long an order may wait in the queue.
    pub(crate) fn deliver_within_s(&self, class: ChangeClass) -> i64 {
        if class >= ChangeClass::M4 {
            self.deliver_within_grave_s
        } else {
            self.deliver_within_s
        }
    }
}

/// Why the engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartFailed {
    /// Invariant 15.
    #[error(
        "the connection `{0}` is declared production; it is refused until consent, scrubbing, \
         conformance and backup are on. Declare it `sandbox` or `test`, or wait for a version that has them"
    )]
    ProductionRefused(ConnectionId),
    /// A table of the bundle cannot be read.
    #[error("the governance bundle's `{file}` cannot be used: {why}")]
    Table {
        /// The file.
        file: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The plausibility rules of the bundle cannot be used.
    #[error("the governance bundle's plausibility rules cannot be used: {0}")]
    Rules(String),
    /// The validator lacks a package of the bundle, or has another.
    #[error(
        "the bundle's conformance packages are {wanted}, and those loaded are {loaded}; \
         add what is missing with `chaperone packages add`"
    )]
    Packages {
        /// What the bundle names, R4 first.
        wanted: String,
        /// What is loaded.
        loaded: String,
    },
    /// A tool's view names an element that does not exist, or a text where none can be.
    #[error("{0}")]
    View(String),
    /// A shredding that was begun, or that a restored database undid, cannot be gone on with.
    #[error("a patient's shredding cannot be gone on with, so nothing is served: {0}")]
    Shred(#[source] Box<crate::retention::shred::ShredFailed>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] chaperone_core::ports::KeyVaultFailed),
    /// The first record could not be written.
    #[error("the ledger cannot be written")]
    Commit(#[from] chaperone_core::ports::CommitFailed),
}

/// A validator for proposals, with bounds that fit them.
pub fn validator_over(catalogue: Arc<Catalogue>) -> Arc<Validator> {
    let options = ValidatorOptions {
        limits: crate::propose::proposal_limits(),
        profiles: ProfileOptions {
            // What an agent changes is declared element by element, and extensions are not among them; the
            // base that it is merged into holds whatever its EHR's vendor has put there.
            unknown_extension: Severity::Information,
            ..ProfileOptions::default()
        },
        ..ValidatorOptions::default()
    };
    Arc::new(Validator::new(catalogue, options))
}

/// The one over R4 alone; what it compiles, all engines of a process share.
fn r4_validator() -> Arc<Validator> {
    static R4: LazyLock<Arc<Validator>> = LazyLock::new(|| validator_over(Catalogue::r4()));
    Arc::clone(&R4)
}

/// The packages in force must be exactly the bundle's: less would let pass what they forbid.
fn check_packages(bundle: &Bundle, validator: &Validator) -> Result<(), StartFailed> {
    let mut wanted = crate::conformance::package_set(bundle);
    let mut loaded: Vec<String> = validator
        .packages()
        .iter()
        .map(|id| format!("{}#{}", id.name, id.version))
        .collect();
    wanted.sort();
    loaded.sort();
    let has_sums = bundle.manifest().packages.iter().all(|package| {
        validator
            .packages()
            .iter()
            .any(|id| id.name == package.name && id.sha256 == package.sha256)
    });
    if wanted == loaded && has_sums {
        return Ok(());
    }
    Err(StartFailed::Packages {
        wanted: wanted.join(", "),
        loaded: loaded.join(", "),
    })
}

/// Whether an engine would start with this bundle: what cannot be judged without FHIR's definitions and
/// the engine's own tables. The rest is judged when a bundle is loaded.
///
/// # Errors
/// [`StartFailed`] names the file, or the tool and the element.
pub fn check_bundle(bundle: &Bundle) -> Result<(), StartFailed> {
    Compiled::of(bundle, Definitions::r4()).map(|_| ())
}

/// What the engine makes of a bundle.
#[derive(Clone)]
struct Compiled {
    views: Arc<crate::read::CompiledViews>,
    words: Arc<Words>,
    tables: Arc<Tables>,
    transitions: Arc<Transitions>,
    rules: Arc<RuleSet>,
    consent_table: Arc<ConsentTable>,
    retention: Arc<RetentionRules>,
    remedies: Arc<Remedies>,
    likeness: Arc<Likeness>,
    oversight: Arc<OversightRules>,
    exceptions: Arc<crate::exception::ExceptionRules>,
    decision_rules: Arc<crate::decision_support::DecisionSupportRules>,
    canaries: Arc<crate::canary::CanaryRules>,
}

/// A bundle as the engine works with it. Making it reads every table and word list; whoever starts many
/// engines on one bundle, as a simulator does, makes it once.
#[derive(Clone)]
pub struct PreparedBundle {
    bundle: Arc<Bundle>,
    compiled: Compiled,
}

impl PreparedBundle {
    /// Reads what an engine needs of a bundle.
    ///
    /// # Errors
    /// [`StartFailed`] names the file, or the tool and the element.
    pub fn of(bundle: Arc<Bundle>) -> Result<Self, StartFailed> {
        let compiled = Compiled::of(&bundle, Definitions::r4())?;
        Ok(Self { bundle, compiled })
    }
}

impl Compiled {
    fn of(bundle: &Bundle, definitions: &'static Definitions) -> Result<Self, StartFailed> {
        for taken in [
            crate::open_envelope::DISPATCH,
            crate::open_envelope::COLLECT,
            crate::undo::REMEDIATE,
        ] {
            if bundle.intents().any(|intent| intent.id.as_str() == taken) {
                return Err(StartFailed::View(format!(
                    "the intent name `{taken}` is taken by a scope of its own; choose another"
                )));
            }
        }
        let own = crate::undo::CHAPERONE;
        if bundle.agents().any(|agent| agent.id.as_str() == own) {
            return Err(StartFailed::View(format!(
                "the agent name `{own}` is Chaperone's own; choose another"
            )));
        }
        crate::ehr_event::check_table(bundle, definitions)?;
        let views =
            crate::read::CompiledViews::compile(bundle, definitions).map_err(StartFailed::View)?;
        crate::slots::check_slot_inputs(bundle, definitions).map_err(StartFailed::View)?;
        let words = Words::of(bundle).map_err(|why| StartFailed::View(why.to_string()))?;
        crate::inventory::Inventory::of(bundle).map_err(|why| StartFailed::Table {
            file: crate::inventory::FILE,
            why: why.to_string(),
        })?;
        let transitions = bundle
            .rule_text("status-transitions")
            .ok_or_else(|| "it is missing".to_owned())
            .and_then(|text| Transitions::parse(text).map_err(|why| why.to_string()))
            .map_err(|why| StartFailed::Table {
                file: "rules/status-transitions.toml",
                why,
            })?;
        let rules = RuleSet::read(bundle).map_err(|failed| {
            let why = std::error::Error::source(&failed).map(|why| format!(": {why}"));
            StartFailed::Rules(format!("{failed}{}", why.unwrap_or_default()))
        })?;
        let tables = Tables::read(bundle, &rules.plausibility)?;
        let retention = RetentionRules::of(bundle).map_err(|why| StartFailed::Table {
            file: crate::retention::rules::FILE,
            why: why.to_string(),
        })?;
        let consent_table = crate::consent::table_of(bundle)?;
        crate::cohort::check_cohorts(bundle, definitions, &consent_table)?;
        Ok(Self {
            views: Arc::new(views),
            words: Arc::new(words),
            tables: Arc::new(tables),
            transitions: Arc::new(transitions),
            rules: Arc::new(rules),
            consent_table: Arc::new(consent_table),
            retention: Arc::new(retention),
            remedies: Arc::new(Remedies::of(bundle)?),
            likeness: Arc::new(crate::outside_text::likeness_of(bundle)?),
            oversight: Arc::new(OversightRules::of(bundle)?),
            exceptions: Arc::new(crate::exception::ExceptionRules::of(bundle)?),
            decision_rules: Arc::new(crate::decision_support::DecisionSupportRules::of(bundle)?),
            canaries: Arc::new(crate::canary::CanaryRules::of(bundle)?),
        })
    }
}

/// The use cases of one tenant.
pub struct Engine {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ehr: Arc<dyn Ehr>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) consent: Arc<dyn ConsentHook>,
    pub(crate) notifier: Arc<dyn Notifier>,
    pub(crate) anchor: Arc<dyn Anchor>,
    pub(crate) config: EngineConfig,
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) views: Arc<crate::read::CompiledViews>,
    pub(crate) words: Arc<Words>,
    pub(crate) people: PeopleKept,
    pub(crate) transitions: Arc<Transitions>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) consent_table: Arc<ConsentTable>,
    /// How long anything is kept.
    pub(crate) retention: Arc<RetentionRules>,
    /// What undoes which type of resource.
    pub(crate) remedies: Arc<Remedies>,
    /// When a proposal says what a text said.
    pub(crate) likeness: Arc<Likeness>,
    /// What is looked at afterwards, and how people decide.
    pub(crate) oversight: Arc<OversightRules>,
    /// Who has a part in exceptions.
    pub(crate) exceptions: Arc<crate::exception::ExceptionRules>,
    /// Which services are asked about which orders.
    pub(crate) decision_rules: Arc<crate::decision_support::DecisionSupportRules>,
    /// Which canaries there are, and how often.
    pub(crate) canaries: Arc<crate::canary::CanaryRules>,
    pub(crate) unfit_canaries: crate::canary::Unfit,
    /// What was read of patients' Consents lately.
    pub(crate) consents: ConsentBook,
    pub(crate) definitions: &'static Definitions,
    pub(crate) tokens: TokenCache,
    pub(crate) recent: Recent,
    /// How much agents proposed lately.
    pub(crate) bulk: Arc<crate::bulk::Bulk>,
    pub(crate) refusals: Refusals,
    pub(crate) afterwork: Afterwork,
    pub(crate) fence: crate::deliver::Fence,
    pub(crate) traffic: crate::deliver::Traffic,
    pub(crate) conformance: crate::conformance::Noticed,
    /// Whether the newest checkpoint is signed and not anchored yet.
    pub(crate) anchor_owed: AtomicBool,
    pub(crate) changed: watch::Sender<u64>,
}

impl Engine {
    /// Checks the bundle against FHIR, refuses what must not run, and records the bundle in force.
    ///
    /// # Errors
    /// [`StartFailed`]; nothing is served then.
    pub async fn start(
        config: EngineConfig,
        bundle: Arc<Bundle>,
        ports: Ports,
    ) -> Result<Arc<Self>, StartFailed> {
        refuse_production(&ports)?;
        Self::start_prepared(config, PreparedBundle::of(bundle)?, ports).await
    }

    /// The same on a bundle that was read before.
    ///
    /// # Errors
    /// [`StartFailed`]; nothing is served then.
    pub async fn start_prepared(
        config: EngineConfig,
        prepared: PreparedBundle,
        ports: Ports,
    ) -> Result<Arc<Self>, StartFailed> {
        refuse_production(&ports)?;
        let definitions = Definitions::r4();
        let PreparedBundle { bundle, compiled } = prepared;
        let Compiled {
            views,
            words,
            tables,
            transitions,
            rules,
            consent_table,
            retention,
            remedies,
            likeness,
            oversight,
            exceptions,
            decision_rules,
            canaries,
        } = compiled;
        check_packages(&bundle, &config.validator)?;
        let engine = Arc::new(Self {
            store: ports.store,
            ehr: ports.ehr,
            keys: Arc::new(Keys::over(ports.keys, Arc::clone(&ports.clock))),
            clock: ports.clock,
            random: ports.random,
            consent: ports.consent,
            notifier: ports.notifier,
            anchor: ports.anchor,
            config,
            bundle,
            views,
            words,
            people: PeopleKept::default(),
            transitions,
            tables,
            rules,
            consent_table,
            retention,
            remedies,
            likeness,
            oversight,
            exceptions,
            decision_rules,
            canaries,
            unfit_canaries: crate::canary::Unfit::default(),
            consents: ConsentBook::default(),
            definitions,
            tokens: TokenCache::default(),
            recent: Recent::default(),
            bulk: Arc::default(),
            refusals: Refusals::default(),
            afterwork: Afterwork::default(),
            fence: crate::deliver::Fence::default(),
            traffic: crate::deliver::Traffic::default(),
            conformance: crate::conformance::Noticed::default(),
            anchor_owed: AtomicBool::new(false),
            changed: watch::Sender::new(0),
        });
        engine.record_bundle().await?;
        engine.replay_destroyed_keys().await?;
        // Before anything is served: a restored database may hold whom it must not hold any more.
        engine
            .replay_shreds()
            .await
            .map_err(|failed| StartFailed::Shred(Box::new(failed)))?;
        Ok(engine)
    }

    /// The same over another EHR, for pages and rulings about what is not at this one. It shares store, keys and
    /// everybody who listens for changes, and begins with nothing else in memory.
    pub(crate) fn over(&self, ehr: Arc<dyn Ehr>) -> Self {
        Self {
            store: Arc::clone(&self.store),
            ehr,
            keys: Arc::clone(&self.keys),
            clock: Arc::clone(&self.clock),
            random: Arc::clone(&self.random),
            consent: Arc::clone(&self.consent),
            notifier: Arc::clone(&self.notifier),
            anchor: Arc::clone(&self.anchor),
            config: self.config.clone(),
            bundle: Arc::clone(&self.bundle),
            views: Arc::clone(&self.views),
            words: Arc::clone(&self.words),
            people: PeopleKept::default(),
            transitions: Arc::clone(&self.transitions),
            tables: Arc::clone(&self.tables),
            rules: Arc::clone(&self.rules),
            consent_table: Arc::clone(&self.consent_table),
            retention: Arc::clone(&self.retention),
            remedies: Arc::clone(&self.remedies),
            likeness: Arc::clone(&self.likeness),
            oversight: Arc::clone(&self.oversight),
            exceptions: Arc::clone(&self.exceptions),
            decision_rules: Arc::clone(&self.decision_rules),
            canaries: Arc::clone(&self.canaries),
            unfit_canaries: crate::canary::Unfit::default(),
            consents: ConsentBook::default(),
            definitions: self.definitions,
            tokens: TokenCache::default(),
            recent: Recent::default(),
            bulk: Arc::clone(&self.bulk),
            refusals: Refusals::default(),
            afterwork: Afterwork::default(),
            fence: crate::deliver::Fence::default(),
            traffic: crate::deliver::Traffic::default(),
            conformance: crate::conformance::Noticed::default(),
            anchor_owed: AtomicBool::new(false),
            changed: self.changed.clone(),
        }
    }

    /// Records the bundle in force when it is not the one recorded last.
    async fn record_bundle(&self) -> Result<(), StartFailed> {
        const ATTEMPTS: u32 = 4;
        let bundle = *self.bundle.digest();
        let key = RecordKey::new(BUNDLE, IN_FORCE);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let known = self
                .store
                .record(&self.config.tenant, &key, self.now())
                .await?;
            let in_force = Record::new(BUNDLE, IN_FORCE, serde_json::json!(bundle));
            let (change, event) = match known {
                Some(known) if known.value == in_force.value => return Ok(()),
                Some(known) => (
                    RecordChange::Update(in_force, known.revision),
                    Event::BundleActivated { bundle },
                ),
                None => (
                    RecordChange::Create(in_force),
                    Event::TenantInitialised { bundle },
                ),
            };
            let mut commit = self.commit_as(setup());
            commit.records.push(change);
            commit.append(StreamId::Tenant, Expected::Any, event);
            match self.store.commit(commit).await {
                Ok(_) => return Ok(()),
                // Another node was first, perhaps with the same bundle.
                Err(CommitFailed::Record { .. }) if attempt < ATTEMPTS => {}
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    /// The organisation.
    pub fn tenant(&self) -> &TenantId {
        &self.config.tenant
    }

    /// The settings.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The bundle in force.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The conformance packages in force, `name#version`, in order.
    pub fn package_set(&self) -> Vec<String> {
        crate::conformance::package_set(&self.bundle)
    }

    /// Name and version of the validator, `name/version`.
    pub fn validator_name(&self) -> String {
        let validator = chaperone_fhir::validate::VALIDATOR;
        format!("{}/{}", validator.name, validator.version)
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A new correlation id; Chaperone's own, never the caller's.
    pub fn correlation(&self) -> CorrelationId {
        CorrelationId::from_random(self.random.id())
    }

    /// Ticks whenever something changed that a page may show.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn announce_change(&self) {
        self.changed
            .send_modify(|ticks| *ticks = ticks.wrapping_add(1));
    }

    pub(crate) fn commit_as(
        &self,
        actor: chaperone_core::principal::Actor,
    ) -> chaperone_core::ports::Commit {
        chaperone_core::ports::Commit::new(self.config.tenant.clone(), self.now(), actor)
    }

    /// The switches, and the version of their stream for a guard.
    pub(crate) async fn modes(&self) -> Result<(Modes, u64), StoreFailed> {
        let mut modes = Modes::default();
        let mut version = 0;
        loop {
            let events = self
                .store
                .stream_after(&self.config.tenant, &StreamId::Modes, version)
                .await?;
            // However often it was switched: the newest switch is the one that counts.
            let Some(last) = events.last().map(|last| last.version) else {
                return Ok((modes, version));
            };
            for recorded in &events {
                if let Event::ModeSwitched { scope, mode, .. } = &recorded.event {
                    modes.set(scope.clone(), *mode);
                }
            }
            version = last;
            if events.len() < STREAM_EVENTS_MAX as usize {
                return Ok((modes, version));
            }
        }
    }

    /// The mode that applies to a subject of an agent's call, as the switches stood a moment ago.
    pub(crate) async fn mode_of(&self, subject: ModeSubject<'_>) -> Result<Mode, StoreFailed> {
        let now = self.now();
        let modes = match self.recent.modes(now) {
            Ok(modes) => modes,
            Err(round) => {
                let (modes, _version) = self.modes().await?;
                self.recent.keep_modes(round, now, modes)
            }
        };
        Ok(modes.effective(subject))
    }

    /// A digest bound to this tenant.
    pub(crate) fn tenant_digest(&self, parts: &[&[u8]]) -> Digest {
        Digest::of_parts(
            std::iter::once(self.config.tenant.as_str().as_bytes()).chain(parts.iter().copied()),
        )
    }
}

/// Invariant 15.
fn refuse_production(ports: &Ports) -> Result<(), StartFailed> {
    match ports.ehr.environment() {
        Environment::Production => Err(StartFailed::ProductionRefused(
            ports.ehr.connection().clone(),
        )),
        Environment::Sandbox | Environment::Test => Ok(()),
    }
}

fn setup() -> chaperone_core::principal::Actor {
    chaperone_core::principal::Actor::System {
        part: chaperone_core::principal::SystemPart::Setup,
    }
}

/// So many seconds later; the end of time when there is none.
pub(crate) fn after(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}
