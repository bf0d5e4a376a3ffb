//! What the demo puts up: sandbox EHR, store, keys, bundle with fresh agent keys, engine, gateway.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chaperone_connect::egress::Gate;
use chaperone_connect::ehr::{EhrAuth, EhrConfig, EhrLimits, ProfileSource};
use chaperone_connect::keys::KeyPlace;
use chaperone_connect::launch::{EhrLaunch, EhrLaunchConfig};
use chaperone_connect::notify::SilentNotifier;
use chaperone_connect::smart::SmartAlgorithm;
use chaperone_core::ids::{AgentId, ConnectionId, TenantId};
use chaperone_core::ports::{Environment, ServerKind};
use chaperone_engine::launch::{Launches, RETURN_PATH};
use chaperone_engine::people::RelyingParty;
use chaperone_engine::{Engine, EngineConfig};
use chaperone_sandbox::{LaunchClient, RunningSandbox, Sandbox, SandboxConfig, ServerProfile};
use chaperone_web::serve::{Bound, Listen};
use serde_json::Value;
use zeroize::Zeroizing;

use super::people::Cast;
use super::{DemoArgs, Profile};
use crate::compose::{self, Basics, Places};
use crate::keys::{self, AgentKeyPair, LaunchKeyPair};
use crate::workers::Workers;

/// Patients made when no data is given.
const PATIENTS: usize = 12;
/// Seed of the synthetic patients: the same ones each time.
const SEED: u64 = 20_261_121;
/// How long the scenes' writes may take to settle.
const SETTLE: Duration = Duration::from_secs(60);
/// How long after a send a miss means "not applied", in milliseconds. The sandbox answers at once.
const SETTLE_MS: i64 = 200;

/// The sandbox's own operation, under the profile that has one.
const OPERATION: &str = "$file-entry";
/// Who works in the EHR, signs there where orders are signed there, and comes from there: accounts of the cast.
const SIGNERS: [&str; 3] = ["clinician", "clinician-2", "clinician-3"];
/// Who comes from there in what a script is told.
const LAUNCHED: &str = "clinician";
/// What the console is called at the EHR.
const LAUNCH_CLIENT: &str = "chaperone-launch";

/// The name of one of the cast in the EHR.
pub(crate) fn signer(account: &str) -> String {
    format!("Practitioner/demo-{account}")
}

/// Everything that is up.
pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) sandbox: RunningSandbox,
    pub(crate) patients: Vec<String>,
    pub(crate) agents: BTreeMap<AgentId, AgentKeyPair>,
    pub(crate) basics: Basics,
    pub(crate) cast: Cast,
    pub(crate) base_url: String,
    pub(crate) anchors: std::path::PathBuf,
    /// How many changes the sandbox had seen when its conformance was shown and the scenes began.
    pub(crate) changes_before: usize,
    web: Option<super::agents::Gateway>,
    workers: Option<Workers>,
    folder: tempfile::TempDir,
}

impl World {
    /// Puts everything up.
    pub(crate) async fn put_up(args: &DemoArgs) -> anyhow::Result<Self> {
        let basics = Basics::of_this_machine();
        let folder = tempfile::Builder::new()
            .prefix("chaperone-demo-")
            .tempdir()?;
        let (bundle, agents) = keys::bundle_with_agent_keys("demo", &[])?;
        let tenant = TenantId::new("demo")?;
        let (keys, _escrow) =
            compose::open_keys(&KeyPlace::at(&folder.path().join("keys")), &tenant).await?;
        let port = if args.once { 0 } else { args.port };
        let bound = Bound::new(Listen::on(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
            .with_context(|| format!("port {port} cannot be used; choose another with --port"))?;
        let base_url = format!("http://{}", bound.address());
        let launch = LaunchKeyPair::generate("demo")?;
        let (sandbox, patients) = ehr(args, &basics, launch_client(&base_url, &launch)).await?;
        let gate = compose::gate(&bundle, &base_url, &basics)?;
        let ehr = || ehr_config(args.profile, &sandbox.base_url);
        let endpoint = compose::endpoint(ehr()?, &gate, &basics, false).await?;
        let probed = compose::endpoint(ehr()?, &gate, &basics, false).await?;
        let database = match &args.database {
            Some(url) => url.clone(),
            None => format!("sqlite:{}", folder.path().join("chaperone.db").display()),
        };
        let anchors = folder.path().join("anchors");
        let mut config = engine_config(tenant, &base_url, !args.once);
        config.launches = Some(launches(&sandbox.base_url, launch, &gate, &basics)?);
        if args.profile == Profile::Staged {
            for account in SIGNERS {
                config.signers.insert(signer(account), account.parse()?);
            }
        }
        let engine = compose::engine(
            config,
            bundle,
            &Places {
                database: &database,
                anchors: &anchors,
            },
            keys,
            endpoint,
            Arc::new(SilentNotifier),
            &basics,
        )
        .await?;
        crate::commands::conformance::prove(&engine, &probed, &basics).await?;
        let changes_before = sandbox.handle.changes_by_request().len();
        let workers = Workers::start(&engine).counting(&engine, gate);
        let metrics = crate::telemetry::start_metrics()?;
        let web = super::agents::Gateway::start(&engine, bound, metrics);
        let cast = Cast::enrol(&engine).await?;
        Ok(Self {
            engine,
            sandbox,
            patients,
            agents,
            basics,
            cast,
            base_url,
            anchors,
            changes_before,
            web: Some(web),
            workers: Some(workers),
            folder,
        })
    }

    /// Waits until nothing is on its way any more; what waits for people may wait.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + SETTLE;
        loop {
            let moving = self.engine.in_motion().await?;
            if moving == 0 {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!(
                    "{moving} write-backs did not settle within {} s",
                    SETTLE.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Serves until interrupted.
    pub(crate) async fn stay_open(self, args: &DemoArgs) -> anyhow::Result<ExitCode> {
        super::scenes::play_without_people(&self).await?;
        if let Some(file) = &args.state_file {
            self.write_state(file)?;
        }
        super::print_line(&format!(
            "Chaperone is up with {} synthetic patients.\n\n  console  {}/console\n  agents   {}/mcp and {}/v1\n\nEvaluation accounts (this run only):\n{}\nStop with Ctrl-C.",
            self.patients.len(),
            self.base_url,
            self.base_url,
            self.base_url,
            self.cast.in_words(),
        ));
        crate::signals::interrupted().await;
        if let Some(file) = &args.ehr_log {
            std::fs::write(file, self.ehr_log())
                .with_context(|| format!("cannot write `{}`", file.display()))?;
        }
        self.take_down().await;
        Ok(ExitCode::SUCCESS)
    }

    /// What a script needs to drive this run; readable by its owner alone.
    fn write_state(&self, file: &Path) -> anyhow::Result<()> {
        let agents: Vec<Value> = self
            .agents
            .iter()
            .map(|(agent, pair)| {
                serde_json::json!({
                    "agent": agent, "key_id": pair.key_id, "private_pem": pair.private_pem,
                })
            })
            .collect();
        let state = serde_json::json!({
            "base_url": self.base_url,
            "accounts": self.cast.evaluation(),
            "agents": agents,
            "patients": self.business_identifiers(),
            "launch": self.launch_state(),
        });
        let unfinished = file.with_extension("part");
        let _ = std::fs::remove_file(&unfinished);
        crate::commands::agent_key::write_private(&unfinished, &state.to_string())?;
        std::fs::rename(&unfinished, file)?;
        Ok(())
    }

    /// The button in the sandbox that leads to the console, with the first patient open.
    fn launch_state(&self) -> Value {
        let base_url = &self.sandbox.base_url;
        let origin = base_url.strip_suffix("/fhir").unwrap_or(base_url);
        serde_json::json!({
            "button": format!("{origin}/oauth/launcher"),
            "issuer": base_url,
            "user": signer(LAUNCHED),
            "account": LAUNCHED,
            "patient": self.patients.first(),
        })
    }

    /// What an EHR's access log would hold: methods and addresses, and the condition of conditional creates.
    fn ehr_log(&self) -> String {
        let mut log = String::new();
        for request in self.sandbox.handle.requests() {
            log.push_str(&request.method);
            log.push(' ');
            log.push_str(&request.path);
            for part in [&request.query, &request.if_none_exist]
                .into_iter()
                .flatten()
            {
                log.push('?');
                log.push_str(part);
            }
            log.push('\n');
        }
        log
    }

    /// The first business identifier of each synthetic patient, as `SYSTEM|VALUE`: how dispatchers name one.
    fn business_identifiers(&self) -> Vec<String> {
        let text = |it: &Value, name: &str| it.get(name).and_then(Value::as_str).map(str::to_owned);
        self.sandbox
            .handle
            .resources("Patient")
            .iter()
            // The patient of the conformance run is nobody's.
            .filter(|patient| text(patient, "id").is_some_and(|id| self.patients.contains(&id)))
            .filter_map(|patient| {
                let identifier = patient.get("identifier")?.get(0)?;
                Some(format!(
                    "{}|{}",
                    text(identifier, "system")?,
                    text(identifier, "value")?
                ))
            })
            .collect()
    }

    /// Lets everything finish what it has in hand.
    pub(crate) async fn take_down(mut self) {
        if let Some(web) = self.web.take() {
            web.stop().await;
        }
        if let Some(workers) = self.workers.take() {
            workers.stop().await;
        }
        self.sandbox.stop().await;
        drop(self.folder);
    }
}

/// The console as the sandbox's authorization server knows it.
fn launch_client(base_url: &str, key: &LaunchKeyPair) -> LaunchClient {
    LaunchClient {
        client_id: LAUNCH_CLIENT.to_owned(),
        jwks: key.jwks.clone(),
        launch_url: format!("{base_url}/console/launch"),
        redirect_uri: format!("{base_url}{RETURN_PATH}"),
    }
}

/// Launches from the sandbox: clinicians of the cast come in, and nobody else.
fn launches(
    base_url: &str,
    key: LaunchKeyPair,
    gate: &Gate,
    basics: &Basics,
) -> anyhow::Result<Launches> {
    let config = EhrLaunchConfig {
        base_url: base_url.to_owned(),
        client_id: LAUNCH_CLIENT.to_owned(),
        key_id: key.key_id,
        key_pem: Zeroizing::new(key.private_pem),
        algorithm: SmartAlgorithm::Es384,
        server: None,
        extra_root_pem: None,
    };
    let (clock, random) = (Arc::clone(&basics.clock), Arc::clone(&basics.random));
    let mut users = BTreeMap::new();
    for account in SIGNERS {
        users.insert(signer(account), account.parse()?);
    }
    Ok(Launches {
        server: Arc::new(EhrLaunch::new(config, gate, clock, random)?),
        users,
        card_clients: Vec::new(),
    })
}

async fn ehr(
    args: &DemoArgs,
    basics: &Basics,
    launch: LaunchClient,
) -> anyhow::Result<(RunningSandbox, Vec<String>)> {
    let profile = match args.profile {
        Profile::Full => ServerProfile::Full,
        Profile::Plain => ServerProfile::Plain,
        Profile::ReadOnly => ServerProfile::ReadOnly,
        Profile::Vendor => ServerProfile::Vendor,
        Profile::Staged => ServerProfile::Staged,
        Profile::Patching => ServerProfile::Patching,
    };
    let clock = Arc::clone(&basics.clock);
    let config = SandboxConfig::new(profile, Arc::new(move || clock.now()));
    let sandbox = Sandbox::start(config.with_launch(launch)).await?;
    let now = basics.clock.now();
    let bundles = match &args.data {
        Some(path) => bundles_from(path)?,
        None => chaperone_sandbox::synthetic::patients(SEED, PATIENTS, now),
    };
    for bundle in &bundles {
        sandbox
            .handle
            .load_bundle(bundle)
            .context("a bundle cannot be loaded")?;
    }
    sandbox.handle.seed_operational(now)?;
    if args.profile == Profile::Staged {
        for account in SIGNERS {
            let practitioner = serde_json::json!({
                "resourceType": "Practitioner",
                "id": format!("demo-{account}"),
                "active": true,
            });
            sandbox.handle.put(&practitioner)?;
        }
    }
    let mut patients: Vec<String> = sandbox
        .handle
        .resources("Patient")
        .iter()
        .filter_map(|patient| patient.get("id").and_then(Value::as_str).map(str::to_owned))
        .collect();
    patients.sort();
    if patients.is_empty() {
        bail!("the data holds no patients");
    }
    Ok((sandbox, patients))
}

/// Bundles of a folder or archive of JSON files, in name order.
fn bundles_from(path: &Path) -> anyhow::Result<Vec<Value>> {
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?.path();
            if entry.extension().is_some_and(|e| e == "json") {
                files.insert(entry.display().to_string(), std::fs::read(&entry)?);
            }
        }
    } else {
        let file = std::fs::File::open(path)
            .with_context(|| format!("cannot open `{}`", path.display()))?;
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = entry.path()?.display().to_string();
            if name.ends_with(".json") {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                files.insert(name, bytes);
            }
        }
    }
    if files.is_empty() {
        bail!("`{}` holds no .json files", path.display());
    }
    files
        .into_iter()
        .map(|(name, bytes)| {
            serde_json::from_slice(&bytes).with_context(|| format!("`{name}` is not JSON"))
        })
        .collect()
}

fn ehr_config(profile: Profile, base_url: &str) -> anyhow::Result<EhrConfig> {
    let kind = |kind| ProfileSource::Kind {
        kind,
        types: Vec::new(),
        transactions_are_atomic: true,
        updates_as_patches: profile == Profile::Patching,
    };
    let source = match profile {
        Profile::Full | Profile::Patching => kind(ServerKind::Full),
        Profile::Plain => kind(ServerKind::Plain),
        Profile::ReadOnly => kind(ServerKind::ReadOnly),
        Profile::Vendor => ProfileSource::Vendor {
            operation: OPERATION.to_owned(),
            types: Vec::new(),
        },
        Profile::Staged => ProfileSource::Staging {
            signs_with_second_factor: true,
            types: Vec::new(),
        },
    };
    Ok(EhrConfig {
        connection: ConnectionId::new("sandbox")?,
        environment: Environment::Sandbox,
        base_url: base_url.to_owned(),
        auth: EhrAuth::Open,
        limits: EhrLimits::default(),
        profile: source,
        settle_ms: SETTLE_MS,
        extra_root_pem: None,
    })
}

/// The demo listens on a loopback address; browsers bind passkeys to `localhost` there, and to no number.
/// The people of a scripted run read nothing.
fn engine_config(tenant: TenantId, base_url: &str, has_readers: bool) -> EngineConfig {
    EngineConfig {
        decides_after_reading: has_readers,
        passkeys: RelyingParty::at(&base_url.replace("127.0.0.1", "localhost")),
        ..EngineConfig::new(tenant, base_url)
    }
}
