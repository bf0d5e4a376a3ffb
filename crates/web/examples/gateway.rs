//! The agents' side alone, with an EHR in memory: for driving it with clients that we did not write.
//!
//! Not a Chaperone to run: its store is thrown away, its keys come from a fixed seed, it delivers
//! nothing. `cargo run -p chaperone-web --example gateway -- FOLDER` writes `agent.env` and the keys
//! of two agents to the folder and serves until interrupted; `scripts/e2e-mcp` does that and more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use chaperone_connect::clock::SystemClock;
use chaperone_connect::random::OsRandom;
use chaperone_core::ids::{ConnectionId, TenantId};
use chaperone_core::ports::Random as _;
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_policy::Bundle;
use chaperone_testkit::{FakeEhr, MemoryAnchor, MemoryKeyVault, PermitConsent, SilentNotifier};
use chaperone_web::App;
use chaperone_web::gateway::{GatewayLimits, GatewayState};
use chaperone_web::serve::{Bound, Listen};
use ed25519_dalek::SigningKey;
use serde_json::json;

type Failed = Box<dyn std::error::Error + Send + Sync>;

const AGENTS: [&str; 2] = ["scheduler-agent", "intake-dispatcher"];
const MRN_SYSTEM: &str = "urn:example:mrn";

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let folder = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or("name a folder")?;
    let bound = Bound::new(Listen::on(([127, 0, 0, 1], 0).into()))?;
    let base_url = format!("http://{}", bound.address());
    let bundle =
        Bundle::load(&bundle_with_keys(&folder)?).map_err(|problems| format!("{problems:?}"))?;
    let url = format!("sqlite:{}", folder.join("example.db").display());
    let ports = Ports {
        store: chaperone_store::open(&url, chaperone_store::Options::default()).await?,
        ehr: Arc::new(ehr()?),
        keys: Arc::new(MemoryKeyVault::new(1)),
        clock: Arc::new(SystemClock),
        random: Arc::new(OsRandom),
        consent: Arc::new(PermitConsent),
        notifier: Arc::new(SilentNotifier::default()),
        anchor: Arc::new(MemoryAnchor::default()),
    };
    let config = EngineConfig::new(TenantId::new("example")?, base_url.clone());
    let engine = Engine::start(config, Arc::new(bundle), ports).await?;
    let app = chaperone_web::app(App {
        gateway: GatewayState::new(engine, GatewayLimits::default()),
        operators: None,
        console: None,
    });
    let environment = format!(
        "CHAPERONE_URL={base_url}\nCHAPERONE_AGENT={}\nCHAPERONE_AGENT_KEY={}\nCHAPERONE_DISPATCHER={}\n\
         CHAPERONE_DISPATCHER_KEY={}\nCHAPERONE_KEY_ID=k1\nCHAPERONE_PATIENT='{MRN_SYSTEM}|MRN-1'\n",
        AGENTS[0],
        key_path(&folder, AGENTS[0]).display(),
        AGENTS[1],
        key_path(&folder, AGENTS[1]).display(),
    );
    std::fs::write(folder.join("agent.env.part"), environment)?;
    std::fs::rename(folder.join("agent.env.part"), folder.join("agent.env"))?;
    bound
        .serve(app, async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    Ok(())
}

fn key_path(folder: &Path, agent: &str) -> PathBuf {
    folder.join(format!("{agent}.pem"))
}

/// The default bundle with a fresh key for each agent; the private halves are written to the folder.
fn bundle_with_keys(folder: &Path) -> Result<BTreeMap<String, String>, Failed> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let base64url = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let mut files = chaperone_policy::embedded::files();
    for agent in AGENTS {
        let seed = OsRandom.key();
        let public = base64url.encode(SigningKey::from_bytes(&seed).verifying_key().as_bytes());
        // PKCS#8 of an Ed25519 seed (RFC 8410, section 7).
        let mut der = hex::decode("302e020100300506032b657004220420")?;
        der.extend(seed);
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            base64.encode(der)
        );
        std::fs::write(key_path(folder, agent), pem)?;
        let file = files
            .get_mut(&format!("agents/{agent}.toml"))
            .ok_or("an agent is missing")?;
        *file = file.replace(
            "keys = []",
            &format!(
                "keys = [{{ kty = \"OKP\", crv = \"Ed25519\", alg = \"EdDSA\", use = \"sig\", kid = \"k1\", x = \"{public}\" }}]"
            ),
        );
    }
    Ok(files)
}

/// One synthetic patient with an appointment, and one free slot, far in the future.
fn ehr() -> Result<FakeEhr, Failed> {
    let ehr = FakeEhr::new(ConnectionId::new("fake")?);
    ehr.put(json!({
        "resourceType": "Patient", "id": "p1", "active": true, "gender": "female",
        "name": [{"family": "Sample", "given": ["Una"]}],
        "identifier": [{"system": MRN_SYSTEM, "value": "MRN-1"}],
    }));
    ehr.put(json!({
        "resourceType": "Appointment", "id": "a1", "status": "booked",
        "start": "2099-03-20T09:00:00Z", "end": "2099-03-20T09:30:00Z",
        "participant": [{"actor": {"reference": "Patient/p1"}, "status": "accepted"}],
    }));
    ehr.put(json!({
        "resourceType": "Slot", "id": "s1", "status": "free",
        "schedule": {"reference": "Schedule/s"},
        "start": "2099-03-03T09:00:00Z", "end": "2099-03-03T09:30:00Z",
    }));
    Ok(ehr)
}
