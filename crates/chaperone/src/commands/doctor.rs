//! `chaperone doctor`: configuration, database, clock, EHR, keys, where anything is sent; what stands well and what to mend.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use chaperone_connect::egress::Gate;
use chaperone_connect::ehr::FhirEndpoint;
use chaperone_connect::keys::FileKeyVault;
use chaperone_core::ids::EhrEventSource;
use chaperone_core::ports::{Clock, Ehr as _, Environment};
use chaperone_engine::conformance::{self, WriteBack};
use chaperone_engine::ehr_event::SourceKind;
use chaperone_engine::projection;
use chaperone_engine::verification::trusted_portals;
use chaperone_store::Verdict;
use serde::Serialize;

use crate::bundle_files;
use crate::cli;
use crate::commands::keys::{Standing, judge, renews_itself};
use crate::compose::Basics;
use crate::config::ehr_events;
use crate::config::{Config, ConfigArgs};
use crate::demo::print_line;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// One thing looked at.
#[derive(Debug, Serialize)]
struct Look {
    what: String,
    verdict: &'static str,
    say: String,
}

const GOOD: &str = "good";
const WARNING: &str = "warning";
const BAD: &str = "bad";

/// Runs it: exit 0 when nothing is bad.
pub(crate) fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let config = match args.config.read() {
        Ok(config) => config,
        Err(error) => {
            let looks = [look("configuration", BAD, format!("{error:#}"))];
            return Ok(answer(&looks, args.json));
        }
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let looks = runtime.block_on(examine(&config));
    Ok(answer(&looks, args.json))
}

async fn examine(config: &Config) -> Vec<Look> {
    let basics = Basics::of_this_machine();
    let mut looks = vec![look("configuration", GOOD, "every key is known")];
    looks.push(bundle(config));
    looks.push(packages(config));
    looks.push(listener(config));
    looks.push(ehr_events(config));
    looks.push(portals(config));
    looks.push(egress(config, &basics));
    let stored = store(config, &basics.clock).await;
    let store_stands = stored.iter().all(|look| look.verdict == GOOD);
    looks.extend(stored);
    looks.extend(keys(config, &basics).await);
    looks.extend(ehr(config, &basics).await);
    looks.extend(launch(config, &basics).await);
    if store_stands {
        looks.push(write_back(config, &basics.clock).await);
        looks.push(projections(config).await);
    }
    looks
}

fn bundle(config: &Config) -> Look {
    let loaded = bundle_files::read(Some(&config.governance)).and_then(|files| {
        let bundle = bundle_files::load(&files)?;
        chaperone_engine::check_bundle(&bundle)?;
        Ok(bundle)
    });
    match loaded {
        Ok(bundle) => {
            let keyless: Vec<String> = bundle
                .agents()
                .filter(|agent| agent.keys.is_empty())
                .map(|agent| agent.id.to_string())
                .collect();
            if keyless.is_empty() {
                look(
                    "bundle",
                    GOOD,
                    format!("version {} loads", bundle.version()),
                )
            } else {
                let say = format!(
                    "it loads, but these agents have no key and cannot authenticate: {}; see `chaperone agent-key`",
                    keyless.join(", ")
                );
                look("bundle", WARNING, say)
            }
        }
        Err(error) => look("bundle", BAD, format!("{error:#}")),
    }
}

/// Whether the conformance packages that the bundle names are there, as it names them.
fn packages(config: &Config) -> Look {
    const WHAT: &str = "packages";
    let loaded = bundle_files::read(Some(&config.governance))
        .and_then(|files| bundle_files::load(&files))
        .and_then(|bundle| {
            Ok((
                config.catalogue(&bundle)?,
                conformance::package_set(&bundle),
            ))
        });
    match loaded {
        Ok((_, set)) => look(WHAT, GOOD, set.join(", ")),
        Err(error) => look(WHAT, BAD, format!("{error:#}")),
    }
}

fn listener(config: &Config) -> Look {
    let is_loopback = config.listen.address.ip().is_loopback();
    match &config.listen.tls {
        None if is_loopback => look("listener", GOOD, "plain HTTP on this machine only"),
        None => look(
            "listener",
            BAD,
            "without [listen.tls] only a loopback address is accepted; give certificate and key",
        ),
        Some(tls) => {
            let missing: Vec<String> = [&tls.certificate, &tls.key]
                .into_iter()
                .filter(|path| !path.is_file())
                .map(|path| path.display().to_string())
                .collect();
            if missing.is_empty() {
                look("listener", GOOD, "TLS files are there")
            } else {
                look("listener", BAD, format!("missing: {}", missing.join(", ")))
            }
        }
    }
}

/// Whether sources of EHR events have usable secrets, and whether anything can come of what they announce.
fn ehr_events(config: &Config) -> Look {
    const WHAT: &str = "ehr events";
    let sources = match ehr_events::sources(&config.ehr_events, &config.portals) {
        Ok(sources) => sources,
        Err(error) => return look(WHAT, BAD, format!("{error:#}")),
    };
    let named = sources.names(SourceKind::Announcer);
    let named: Vec<&str> = named.map(EhrEventSource::as_str).collect();
    if named.is_empty() {
        return look(WHAT, GOOD, "no source is configured; none can be announced");
    }
    let loaded = bundle_files::read(Some(&config.governance)).and_then(|f| bundle_files::load(&f));
    let listed = loaded.map_or(0, |bundle| bundle.ehr_events().count());
    let say = format!("{} may announce {listed} types of events", named.join(", "));
    let verdict = if listed == 0 { WARNING } else { GOOD };
    look(WHAT, verdict, say)
}

/// Whether people can come from inside the EHR, where the configuration says that they may.
async fn launch(config: &Config, basics: &Basics) -> Option<Look> {
    const WHAT: &str = "launch from the ehr";
    let section = config.ehr.launch.as_ref()?;
    let server = gate(config, basics).and_then(|gate| config.ehr.launch_server(&gate, basics));
    let server = match server {
        Ok(server) => server?,
        Err(error) => return Some(look(WHAT, BAD, format!("{error:#}"))),
    };
    Some(match server.check().await {
        Err(failed) => look(
            WHAT,
            BAD,
            format!("{failed}; `[ehr.launch.server]` names its addresses where the EHR does not"),
        ),
        Ok(()) if section.users.is_empty() => look(
            WHAT,
            WARNING,
            "the authorization server answers, but `ehr.launch.users` links nobody",
        ),
        Ok(()) => {
            let users = section.users.len();
            look(
                WHAT,
                GOOD,
                format!("the authorization server answers; {users} users are linked"),
            )
        }
    })
}

/// Whether portals have usable secrets, and whether the bundle and the configuration name the same ones.
fn portals(config: &Config) -> Look {
    const WHAT: &str = "portals";
    let sources = match ehr_events::sources(&config.ehr_events, &config.portals) {
        Ok(sources) => sources,
        Err(error) => return look(WHAT, BAD, format!("{error:#}")),
    };
    let loaded = bundle_files::read(Some(&config.governance)).and_then(|f| bundle_files::load(&f));
    let trusted = match loaded.and_then(|bundle| Ok(trusted_portals(&bundle)?)) {
        Ok(trusted) => trusted,
        Err(error) => return look(WHAT, BAD, format!("{error:#}")),
    };
    let named: BTreeSet<EhrEventSource> = sources.names(SourceKind::Portal).cloned().collect();
    if named.is_empty() && trusted.is_empty() {
        return look(WHAT, GOOD, "no portal is configured; none can attest");
    }
    let join = |names: Vec<&EhrEventSource>| {
        let names: Vec<&str> = names.into_iter().map(EhrEventSource::as_str).collect();
        names.join(", ")
    };
    let of_no_use = join(named.difference(&trusted).collect());
    let without_secret = join(trusted.difference(&named).collect());
    if !of_no_use.is_empty() || !without_secret.is_empty() {
        let say = format!(
            "named in the configuration and trusted for nothing in rules/verification.toml: [{of_no_use}]; trusted there and without a secret: [{without_secret}]"
        );
        return look(WHAT, WARNING, say);
    }
    let both = join(named.intersection(&trusted).collect());
    look(WHAT, GOOD, format!("{both} may attest"))
}

/// The gate of the configured bundle.
fn gate(config: &Config, basics: &Basics) -> anyhow::Result<Gate> {
    let bundle = bundle_files::load(&bundle_files::read(Some(&config.governance))?)?;
    config.gate(&bundle, basics)
}

/// Whether everywhere that the configuration sends to may be sent to.
fn egress(config: &Config, basics: &Basics) -> Look {
    const WHAT: &str = "egress";
    let gate = match gate(config, basics) {
        Ok(gate) => gate,
        Err(error) => return look(WHAT, BAD, format!("{error:#}")),
    };
    let mut vendors = BTreeSet::new();
    let mut refused = Vec::new();
    for to in config.destinations() {
        match gate.would_pass(to.channel, to.class, &to.address) {
            Ok(vendor) => {
                vendors.insert(vendor.to_string());
            }
            Err(refusal) => refused.push(format!("`{}` {refusal}", to.setting)),
        }
    }
    if refused.is_empty() {
        let vendors: Vec<String> = vendors.into_iter().collect();
        look(WHAT, GOOD, format!("goes to {}", vendors.join(", ")))
    } else {
        look(WHAT, BAD, refused.join("; "))
    }
}

async fn store(config: &Config, clock: &Arc<dyn Clock>) -> Vec<Look> {
    let now = || clock.now();
    match chaperone_store::diagnose(&config.store.url, &now).await {
        Ok(diagnosis) => diagnosis
            .findings
            .iter()
            .map(|finding| {
                let verdict = match finding.verdict {
                    Verdict::Good => GOOD,
                    Verdict::Warning => WARNING,
                    Verdict::Bad => BAD,
                };
                look(
                    &format!("store: {}", finding.aspect),
                    verdict,
                    finding.say.clone(),
                )
            })
            .collect(),
        Err(error) => vec![look("store", BAD, error.to_string())],
    }
}

async fn keys(config: &Config, basics: &Basics) -> Vec<Look> {
    if !FileKeyVault::exists(&config.keys.dir, &config.tenant) {
        let say = "no keys yet; they are made at first start, and an escrow text is printed once";
        return vec![look("keys", WARNING, say)];
    }
    let examined = async {
        let vault = FileKeyVault::open(&config.key_place(basics)?, &config.tenant)?;
        let check = vault.check(&config.tenant).await?;
        let status = vault.status(&config.tenant).await?;
        let renews_itself = renews_itself(&vault, config, &status).await;
        anyhow::Ok((check, status, renews_itself))
    };
    let (check, status, renews_itself) = match examined.await {
        Ok(examined) => examined,
        Err(error) => return vec![look("keys", BAD, format!("{error:#}"))],
    };
    let sound = format!(
        "{} data keys can be unwrapped, {} were destroyed",
        check.keys, check.destroyed
    );
    let mut looks = vec![look("keys", GOOD, sound)];
    for finding in judge(&config.keys, &status, renews_itself, basics.clock.now()) {
        let verdict = match finding.standing {
            Standing::Good => GOOD,
            Standing::Due => WARNING,
            Standing::Overdue => BAD,
        };
        looks.push(look("keys: age", verdict, finding.say));
    }
    looks
}

async fn ehr(config: &Config, basics: &Basics) -> Vec<Look> {
    let endpoint = config.ehr.endpoint().and_then(|ehr| {
        Ok(FhirEndpoint::new(
            ehr,
            &gate(config, basics)?,
            Arc::clone(&basics.clock),
            Arc::clone(&basics.random),
        )?)
    });
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => return vec![look("ehr", BAD, format!("{error:#}"))],
    };
    if endpoint.environment() == Environment::Production {
        let say = "this version refuses production connections: consent, scrubbing, conformance and backup are not on yet";
        return vec![look("ehr", BAD, say)];
    }
    let mut looks = Vec::new();
    if config.ehr.consent == crate::config::Consent::NoneAtThisEhr {
        let say = "declared to keep no Consents: what holds without consent holds, and restricted labels stay closed";
        looks.push(look("ehr: consent", WARNING, say));
    }
    if let Err(error) = endpoint.check_credentials().await {
        looks.push(look("ehr: credentials", BAD, error.to_string()));
    }
    looks.push(match endpoint.probe().await {
        Ok(profile) => look(
            "ehr",
            GOOD,
            format!(
                "answers; {} kinds of write are supported",
                profile.support.len()
            ),
        ),
        Err(error) => look(
            "ehr",
            BAD,
            format!("its CapabilityStatement cannot be read: {error}"),
        ),
    });
    looks
}

/// Whether the newest conformance report lets writes go to the EHR.
async fn write_back(config: &Config, clock: &Arc<dyn Clock>) -> Look {
    const WHAT: &str = "write-back";
    let judged = async {
        let bundle = bundle_files::load(&bundle_files::read(Some(&config.governance))?)?;
        let store =
            chaperone_store::open(&config.store.url, chaperone_store::Options::default()).await?;
        let now = clock.now();
        let record = store
            .record(
                &config.tenant,
                &conformance::record_key(&config.ehr.connection),
                now,
            )
            .await?;
        let packages = conformance::package_set(&bundle);
        let standing = conformance::Standing {
            endpoint: &config.ehr.base_url,
            packages: &packages,
            now,
        };
        anyhow::Ok(conformance::judge(
            record.as_ref().map(|record| &record.value),
            &standing,
        ))
    };
    match judged.await {
        Ok(WriteBack::On { profile, until }) => look(
            WHAT,
            GOOD,
            format!(
                "{} kinds of write were shown; the report counts until {}",
                profile.support.len(),
                until.strftime("%Y-%m-%d")
            ),
        ),
        Ok(WriteBack::Off(why)) => look(WHAT, WARNING, why.say(&config.ehr.connection)),
        Err(error) => look(WHAT, BAD, format!("{error:#}")),
    }
}

/// Whether the lists of write-backs are what the ledger says; reads all of it.
async fn projections(config: &Config) -> Look {
    const WHAT: &str = "projections";
    let examined = async {
        let store =
            chaperone_store::open(&config.store.url, chaperone_store::Options::default()).await?;
        anyhow::Ok(projection::examine(&*store, &config.tenant).await?)
    };
    match examined.await {
        Ok(agreement) if agreement.is_whole() => look(
            WHAT,
            GOOD,
            format!(
                "agree with the events of {} write-backs",
                agreement.writebacks
            ),
        ),
        Ok(agreement) => look(
            WHAT,
            BAD,
            format!(
                "{} rows are missing, {} differ, {} belong to nothing: run `chaperone ledger rebuild`",
                agreement.missing, agreement.differing, agreement.stray
            ),
        ),
        Err(error) => look(WHAT, BAD, format!("{error:#}")),
    }
}

fn look(what: &str, verdict: &'static str, say: impl Into<String>) -> Look {
    Look {
        what: what.to_owned(),
        verdict,
        say: say.into(),
    }
}

fn answer(looks: &[Look], json: bool) -> ExitCode {
    if json {
        print_line(&serde_json::json!({ "looks": looks }).to_string());
    } else {
        for one in looks {
            print_line(&format!("{:<8} {:<20} {}", one.verdict, one.what, one.say));
        }
    }
    if looks.iter().any(|one| one.verdict == BAD) {
        cli::no()
    } else {
        ExitCode::SUCCESS
    }
}
