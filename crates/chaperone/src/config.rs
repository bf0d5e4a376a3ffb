//! The configuration file of `serve`, `doctor` and `ledger`: TOML, every key documented in
//! [`TEMPLATE`], unknown keys refused.

pub(crate) mod audit_stream;
mod canaries;
mod decision_support;
pub(crate) mod destinations;
pub(crate) mod ehr_events;
pub(crate) mod keys;
mod launch;
mod passkeys;
mod profile;
mod retention;
mod sending;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaperone_connect::egress::Gate;
use chaperone_connect::ehr::{EhrAuth, EhrConfig, EhrLimits, FhirEndpoint};
use chaperone_connect::keys::KeyPlace;
use chaperone_connect::notify::{MailConfig, MailEncryption, MailNotifier, SilentNotifier};
use chaperone_connect::patient_mail::MailToPatients;
use chaperone_connect::smart::{SmartAlgorithm, SmartClientConfig};
use chaperone_core::ids::{ConnectionId, TenantId};
use chaperone_core::key_event::EscrowReason;
use chaperone_core::ports::{Environment, Notifier, PatientMailer};
use chaperone_core::principal::Role;
use chaperone_engine::consent::ConsentSource;
use chaperone_engine::{Engine, EngineConfig, validator_over};
use chaperone_fhir::catalogue::Catalogue;
use chaperone_policy::Bundle;
use serde::Deserialize;

use self::profile::EhrProfile;
use crate::bundle_files;
use crate::compose::{self, Basics, Places};
use crate::package_store::{self, PackageStore};
use crate::workers;

/// The file that `chaperone init` writes.
pub(crate) const TEMPLATE: &str = include_str!("../chaperone.toml");

/// The writer's lease, in milliseconds: renewed several times a second, and the longest that nobody sends once the
/// node that has it is gone.
const LEASE_MS_MIN: i64 = 2_000;
const LEASE_MS_MAX: i64 = 120_000;

/// A configuration file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) tenant: TenantId,
    pub(crate) public_url: String,
    #[serde(default = "node")]
    pub(crate) node: String,
    #[serde(default = "governance")]
    pub(crate) governance: PathBuf,
    pub(crate) listen: Listen,
    pub(crate) store: Store,
    pub(crate) keys: keys::Keys,
    pub(crate) anchors: Folder,
    pub(crate) ehr: Ehr,
    #[serde(default)]
    pub(crate) packages: Packages,
    #[serde(default)]
    pub(crate) times: Times,
    #[serde(default)]
    pub(crate) passkeys: passkeys::Passkeys,
    #[serde(default)]
    pub(crate) ehr_events: Vec<ehr_events::Source>,
    #[serde(default)]
    pub(crate) portals: Vec<ehr_events::Portal>,
    #[serde(default)]
    pub(crate) audit_stream: Option<audit_stream::AuditStream>,
    #[serde(default)]
    pub(crate) decision_support: Option<decision_support::DecisionSupportSection>,
    #[serde(default)]
    pub(crate) canaries: canaries::Canaries,
    #[serde(default)]
    pub(crate) retention: retention::Retention,
    #[serde(default)]
    pub(crate) mail: Option<Mail>,
    #[serde(default)]
    pub(crate) log: Log,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    pub(crate) address: SocketAddr,
    #[serde(default)]
    pub(crate) tls: Option<Tls>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Store {
    pub(crate) url: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
}

/// Conformance packages.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Packages {
    #[serde(default = "packages")]
    pub(crate) dir: PathBuf,
    #[serde(default)]
    pub(crate) registry: Option<String>,
}

impl Default for Packages {
    fn default() -> Self {
        Self {
            dir: packages(),
            registry: None,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ehr {
    pub(crate) connection: ConnectionId,
    pub(crate) environment: Environment,
    pub(crate) base_url: String,
    #[serde(default)]
    pub(crate) profile: EhrProfile,
    #[serde(default)]
    pub(crate) transactions_are_atomic: bool,
    #[serde(default)]
    pub(crate) updates_as_patches: bool,
    #[serde(default = "settle_ms")]
    pub(crate) settle_ms: i64,
    #[serde(default)]
    pub(crate) exchange_timeout_ms: Option<u64>,
    #[serde(default)]
    pub(crate) extra_root: Option<PathBuf>,
    #[serde(default)]
    pub(crate) consent: Consent,
    #[serde(default)]
    pub(crate) operation: Option<String>,
    #[serde(default)]
    pub(crate) signs_with_second_factor: bool,
    #[serde(default)]
    pub(crate) signers: Vec<profile::EhrUser>,
    #[serde(default)]
    pub(crate) sending: sending::Sending,
    #[serde(default)]
    pub(crate) smart: Option<Smart>,
    #[serde(default)]
    pub(crate) launch: Option<launch::Launch>,
}

/// Where patients' Consents come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Consent {
    #[default]
    Read,
    NoneAtThisEhr,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Smart {
    #[serde(default)]
    pub(crate) token_url: Option<String>,
    pub(crate) read: SmartClient,
    pub(crate) write: SmartClient,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SmartClient {
    pub(crate) client_id: String,
    pub(crate) key_id: String,
    pub(crate) key_file: PathBuf,
    pub(crate) algorithm: SmartAlgorithmName,
    pub(crate) scope: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) enum SmartAlgorithmName {
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "RS384")]
    Rs384,
}

/// Times, in seconds; absent ones take the engine's defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Times {
    approve_within_s: Option<i64>,
    approve_within_grave_s: Option<i64>,
    deliver_within_s: Option<i64>,
    deliver_within_grave_s: Option<i64>,
    session_idle_s: Option<i64>,
    claim_ms: Option<i64>,
    lease_ms: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mail {
    host: String,
    port: u16,
    encryption: MailEncryptionName,
    from: String,
    #[serde(default)]
    approvers: BTreeMap<Role, Vec<String>>,
    #[serde(default)]
    operators: Vec<String>,
    /// Whether patients are written to as well.
    #[serde(default)]
    patients: bool,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MailEncryptionName {
    Tls,
    StartTls,
    PlainLoopback,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    #[serde(default = "level")]
    pub(crate) level: String,
    #[serde(default)]
    pub(crate) json: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: level(),
            json: false,
        }
    }
}

fn node() -> String {
    "node-1".to_owned()
}

fn governance() -> PathBuf {
    PathBuf::from("governance")
}

fn packages() -> PathBuf {
    PathBuf::from("packages")
}

fn settle_ms() -> i64 {
    10_000
}

fn file_mb_max() -> u64 {
    64
}

fn level() -> String {
    "info".to_owned()
}

/// What a configuration starts.
pub(crate) struct Started {
    pub(crate) engine: Arc<Engine>,
    /// The gate that everything of the engine leaves by.
    pub(crate) gate: Gate,
    /// The escrow text of keys made just now.
    pub(crate) escrow: Option<String>,
}

/// Where the configuration file is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "chaperone.toml")]
    pub(crate) config: PathBuf,
}

impl ConfigArgs {
    /// Reads the file; paths in it are relative to it.
    pub(crate) fn read(&self) -> anyhow::Result<Config> {
        Config::read(&self.config)
    }

    /// Runs something on an engine without serving.
    pub(crate) fn with_engine(
        &self,
        work: impl AsyncFnOnce(Arc<Engine>) -> anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        let config = self.read()?;
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let started = config.start(&Basics::of_this_machine()).await?;
            // Whichever command runs first makes the keys, and the text is shown this once.
            if let Some(escrow) = &started.escrow {
                crate::keys::tell_escrow(&config.tenant, escrow);
            }
            let done = work(Arc::clone(&started.engine)).await;
            workers::tell_egress(&started.engine, &started.gate, true).await;
            done
        })
    }
}

impl Config {
    /// Reads a file; paths in it are relative to it.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| {
            format!(
                "cannot read `{}`; `chaperone init` writes one to start from",
                file.display()
            )
        })?;
        let mut config: Config = toml::from_str(&text)
            .with_context(|| format!("`{}` cannot be used", file.display()))?;
        let home = file.parent().unwrap_or(Path::new("")).to_path_buf();
        for path in [
            &mut config.governance,
            &mut config.anchors.dir,
            &mut config.packages.dir,
        ] {
            *path = home.join(&path);
        }
        config.keys.settle_in(&home);
        if let Some(rest) = config.store.url.strip_prefix("sqlite:") {
            config.store.url = format!("sqlite:{}", home.join(rest).display());
        }
        if let Some(tls) = &mut config.listen.tls {
            tls.certificate = home.join(&tls.certificate);
            tls.key = home.join(&tls.key);
        }
        for source in &mut config.ehr_events {
            source.settle_in(&home);
        }
        for portal in &mut config.portals {
            portal.settle_in(&home);
        }
        if let Some(stream) = &mut config.audit_stream {
            stream.settle_in(&home);
        }
        if let Some(support) = &mut config.decision_support {
            support.settle_in(&home);
        }
        config.retention.settle_in(&home);
        if let Some(smart) = &mut config.ehr.smart {
            smart.read.key_file = home.join(&smart.read.key_file);
            smart.write.key_file = home.join(&smart.write.key_file);
        }
        if let Some(launch) = &mut config.ehr.launch {
            launch.settle_in(&home);
        }
        Ok(config)
    }

    /// A claim must outlast the calls of one delivery (look, send, read back), or two workers would
    /// work on one order.
    fn check_times(&self) -> anyhow::Result<()> {
        let exchange_ms = i64::try_from(self.ehr.limits().exchange_timeout_ms)?;
        let claim_ms = self.engine().claim_ms;
        if claim_ms < exchange_ms.saturating_mul(3) {
            bail!(
                "`times.claim_ms` ({claim_ms}) must be at least three times `ehr.exchange_timeout_ms` ({exchange_ms})"
            );
        }
        let lease_ms = self.engine().lease_ms;
        if !(LEASE_MS_MIN..=LEASE_MS_MAX).contains(&lease_ms) {
            bail!("`times.lease_ms` ({lease_ms}) must be from {LEASE_MS_MIN} to {LEASE_MS_MAX}");
        }
        Ok(())
    }

    /// Puts the engine together. The escrow text of keys made just now comes with it, once.
    pub(crate) async fn start(&self, basics: &Basics) -> anyhow::Result<Started> {
        self.check_times()?;
        let bundle = bundle_files::load(&bundle_files::read(Some(&self.governance))?)?;
        let mut engine = self.engine();
        engine.passkeys = self.passkeys.party(&self.public_url)?;
        engine.codes_beside_passkeys = self.passkeys.codes_beside();
        engine.validator = validator_over(self.catalogue(&bundle)?);
        self.ehr.sending.apply(&mut engine)?;
        engine.signers = self.ehr.signers_by_name()?;
        engine.event_sources = ehr_events::sources(&self.ehr_events, &self.portals)?;
        let gate = self.gate(&bundle, basics)?;
        engine.decision_support = match &self.decision_support {
            Some(section) => Some(section.services(&gate, basics)?),
            None => None,
        };
        engine.canaries = self.canaries.disclosed()?;
        engine.launches = self.ehr.launches(&gate, basics)?;
        let place = self.keys.place(&gate, basics)?;
        let (keys, escrow) = compose::open_keys(&place, &self.tenant).await?;
        let endpoint = self.endpoint(&gate, basics).await?;
        let places = Places {
            database: &self.store.url,
            anchors: &self.anchors.dir,
        };
        let notifier = self.notifier(&gate)?;
        engine.patient_mail = self.patient_mail(&gate)?;
        let engine =
            compose::engine(engine, bundle, &places, keys, endpoint, notifier, basics).await?;
        if escrow.is_some() {
            engine.record_escrow_shown(EscrowReason::FirstRun).await?;
        }
        Ok(Started {
            engine,
            gate,
            escrow: escrow.map(|secret| secret.expose().to_owned()),
        })
    }

    /// The gate that everything leaves by.
    pub(crate) fn gate(&self, bundle: &Bundle, basics: &Basics) -> anyhow::Result<Gate> {
        compose::gate(bundle, &self.public_url, basics)
    }

    /// Where keys rest and what wraps them, for commands that need nothing else. The bundle is read, because it says
    /// whether a key service may be spoken to.
    pub(crate) fn key_place(&self, basics: &Basics) -> anyhow::Result<KeyPlace> {
        let bundle = bundle_files::load(&bundle_files::read(Some(&self.governance))?)?;
        self.keys.place(&self.gate(&bundle, basics)?, basics)
    }

    /// The bundle's conformance packages, from the packages folder.
    pub(crate) fn catalogue(&self, bundle: &Bundle) -> anyhow::Result<Arc<Catalogue>> {
        let store = PackageStore::open(&self.packages.dir)?;
        package_store::load_bundle_packages(bundle, &store)
            .context("the bundle's conformance packages cannot be loaded")
    }

    /// The EHR connection, asked what it can do where the configuration says so.
    pub(crate) async fn endpoint(
        &self,
        gate: &Gate,
        basics: &Basics,
    ) -> anyhow::Result<FhirEndpoint> {
        let probe = self.ehr.profile == EhrProfile::Probe;
        compose::endpoint(self.ehr.endpoint()?, gate, basics, probe).await
    }

    /// Where and how to listen.
    pub(crate) fn listener(&self) -> chaperone_web::serve::Listen {
        let tls = self
            .listen
            .tls
            .as_ref()
            .map(|tls| chaperone_web::serve::TlsFiles {
                certificates: tls.certificate.clone(),
                key: tls.key.clone(),
            });
        chaperone_web::serve::Listen {
            tls,
            ..chaperone_web::serve::Listen::on(self.listen.address)
        }
    }

    /// How session cookies are protected: as the public address says, not as this listener does.
    pub(crate) fn cookies(&self) -> chaperone_web::console::CookieSecurity {
        if self.public_url.starts_with("https:") {
            chaperone_web::console::CookieSecurity::Tls
        } else {
            chaperone_web::console::CookieSecurity::Loopback
        }
    }

    fn engine(&self) -> EngineConfig {
        let mut config =
            EngineConfig::new(self.tenant.clone(), self.public_url.trim_end_matches('/'));
        config.node.clone_from(&self.node);
        config.decides_after_reading = true;
        config.tombstones = self.retention.tombstones();
        config.consent_source = match self.ehr.consent {
            Consent::Read => ConsentSource::Read,
            Consent::NoneAtThisEhr => ConsentSource::NoneAtThisEhr,
        };
        let times = &self.times;
        for (wanted, setting) in [
            (times.approve_within_s, &mut config.approve_within_s),
            (
                times.approve_within_grave_s,
                &mut config.approve_within_grave_s,
            ),
            (times.deliver_within_s, &mut config.deliver_within_s),
            (
                times.deliver_within_grave_s,
                &mut config.deliver_within_grave_s,
            ),
            (times.session_idle_s, &mut config.session_idle_s),
            (times.claim_ms, &mut config.claim_ms),
            (times.lease_ms, &mut config.lease_ms),
        ] {
            if let Some(seconds) = wanted {
                *setting = seconds;
            }
        }
        config
    }

    fn notifier(&self, gate: &Gate) -> anyhow::Result<Arc<dyn Notifier>> {
        Ok(match &self.mail {
            Some(mail) => Arc::new(MailNotifier::start(self.mail_config(mail), gate)?),
            None => Arc::new(SilentNotifier),
        })
    }

    fn patient_mail(&self, gate: &Gate) -> anyhow::Result<Option<Arc<dyn PatientMailer>>> {
        let Some(mail) = self.mail.as_ref().filter(|mail| mail.patients) else {
            return Ok(None);
        };
        let mailer = MailToPatients::new(&self.mail_config(mail), gate)?;
        Ok(Some(Arc::new(mailer)))
    }

    fn mail_config(&self, mail: &Mail) -> MailConfig {
        MailConfig {
            host: mail.host.clone(),
            port: Some(mail.port),
            encryption: match mail.encryption {
                MailEncryptionName::Tls => MailEncryption::Tls,
                MailEncryptionName::StartTls => MailEncryption::StartTls,
                MailEncryptionName::PlainLoopback => MailEncryption::PlainLoopback,
            },
            credentials: None,
            from: mail.from.clone(),
            console_url: format!("{}/console", self.public_url.trim_end_matches('/')),
            approvers: mail.approvers.clone(),
            operators: mail.operators.clone(),
        }
    }
}

impl Ehr {
    fn limits(&self) -> EhrLimits {
        let mut limits = EhrLimits::default();
        if let Some(exchange_timeout_ms) = self.exchange_timeout_ms {
            limits.exchange_timeout_ms = exchange_timeout_ms;
            limits.connect_timeout_ms = limits.connect_timeout_ms.min(exchange_timeout_ms / 2);
        }
        limits
    }

    fn extra_root_pem(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(path) = &self.extra_root else {
            return Ok(None);
        };
        let pem = std::fs::read(path);
        pem.map(Some)
            .with_context(|| format!("cannot read `{}`", path.display()))
    }

    /// What the adapter is made from.
    pub(crate) fn endpoint(&self) -> anyhow::Result<EhrConfig> {
        let profile = self.profile_source()?;
        let auth = match &self.smart {
            None => EhrAuth::Open,
            Some(smart) => EhrAuth::SmartBackend {
                read: Box::new(smart.read.client(smart.token_url.clone())?),
                write: Box::new(smart.write.client(smart.token_url.clone())?),
            },
        };
        if let Some(smart) = &self.smart
            && smart.read.client_id == smart.write.client_id
        {
            bail!(
                "`ehr.smart.read` and `ehr.smart.write` must be two clients: reading must not be able to write"
            );
        }
        Ok(EhrConfig {
            connection: self.connection.clone(),
            environment: self.environment,
            base_url: self.base_url.clone(),
            auth,
            limits: self.limits(),
            profile,
            settle_ms: self.settle_ms,
            extra_root_pem: self.extra_root_pem()?,
        })
    }
}

impl SmartClient {
    fn client(&self, token_url: Option<String>) -> anyhow::Result<SmartClientConfig> {
        let key_pem = std::fs::read_to_string(&self.key_file)
            .with_context(|| format!("cannot read `{}`", self.key_file.display()))?;
        Ok(SmartClientConfig {
            client_id: self.client_id.clone(),
            key_id: self.key_id.clone(),
            key_pem: key_pem.into(),
            algorithm: match self.algorithm {
                SmartAlgorithmName::Es384 => SmartAlgorithm::Es384,
                SmartAlgorithmName::Rs384 => SmartAlgorithm::Rs384,
            },
            scope: self.scope.clone(),
            token_url,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_a_configuration() {
        let config: Config = toml::from_str(TEMPLATE).unwrap();
        assert_eq!(config.tenant.as_str(), "clinic");
        config.ehr.endpoint().unwrap();
    }

    #[test]
    fn what_the_template_says_of_event_sources_and_portals_is_a_configuration() {
        let with = |name: &str| -> Config {
            let (_, section) = TEMPLATE.split_once(&format!("# {name}\n")).unwrap();
            let section: String = section
                .lines()
                .take_while(|line| line.starts_with("# "))
                .map(|line| format!("{}\n", line.trim_start_matches("# ")))
                .collect();
            toml::from_str(&format!("{TEMPLATE}\n{name}\n{section}")).unwrap()
        };
        assert_eq!(with("[[ehr_events]]").ehr_events.len(), 1);
        assert_eq!(with("[[portals]]").portals.len(), 1);
    }

    #[test]
    fn what_the_template_says_of_the_audit_stream_is_a_configuration() {
        let (_, section) = TEMPLATE.split_once("# [audit_stream]\n").unwrap();
        let section: String = section
            .lines()
            .take_while(|line| line.starts_with("# "))
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        let text = format!("{TEMPLATE}\n[audit_stream]\n{section}");
        let config: Config = toml::from_str(&text).unwrap();
        let stream = config.audit_stream.unwrap();
        let (address, tokens) = stream.addresses().unwrap();
        assert!(address.starts_with("https://") && tokens.is_some());
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let misspelt = TEMPLATE.replacen("public_url", "publik_url", 1);
        assert!(toml::from_str::<Config>(&misspelt).is_err());
    }
}
