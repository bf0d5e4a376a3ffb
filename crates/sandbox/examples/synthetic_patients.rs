//! Writes synthetic patients as files, for FHIR servers other than the sandbox: one transaction Bundle
//! each, and one collection with what a working day adds (slots, appointments, encounters in progress).
//! Not part of the product. Start at `main`.
//!
//! `cargo run -p chaperone-sandbox --example synthetic_patients -- DIRECTORY [COUNT] [SEED] [NOW]`

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chaperone_sandbox::synthetic::{PATIENTS_MAX, patients};
use chaperone_sandbox::{Sandbox, SandboxConfig, ServerProfile};
use jiff::Timestamp;
use serde_json::{Value, json};

const USAGE: &str = "usage: synthetic_patients DIRECTORY [COUNT] [SEED] [NOW]\n\
    Writes COUNT bundles (12 if not given, at most 1000) and one of the day's work to DIRECTORY, which must \
    be empty or absent, as charted at NOW (an RFC 3339 time; 2026-03-02T15:00:00Z if not given). The same \
    COUNT, SEED (1 if not given) and NOW give the same bytes.";

struct Wanted {
    directory: PathBuf,
    count: usize,
    seed: u64,
    now: Timestamp,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = wanted(&arguments)?;
    empty(&wanted.directory)?;
    let bundles = patients(wanted.seed, wanted.count, wanted.now);
    let day = working_day(&bundles, wanted.now).await?;
    for (position, bundle) in bundles.iter().enumerate() {
        let name = format!("patient-{position:04}.json");
        write(&wanted.directory.join(name), bundle)?;
    }
    write(&wanted.directory.join("working-day.json"), &day)
}

fn wanted(arguments: &[String]) -> Result<Wanted, Box<dyn Error>> {
    let given = |position: usize| arguments.get(position).map(String::as_str);
    let (Some(directory), None) = (given(0), given(4)) else {
        return Err(USAGE.into());
    };
    let count: usize = given(1).unwrap_or("12").parse()?;
    if count > PATIENTS_MAX {
        return Err(USAGE.into());
    }
    Ok(Wanted {
        directory: directory.into(),
        count,
        seed: given(2).unwrap_or("1").parse()?,
        now: given(3).unwrap_or("2026-03-02T15:00:00Z").parse()?,
    })
}

/// A folder with other files in it would be loaded with them.
fn empty(directory: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    if fs::read_dir(directory)?.next().is_some() {
        return Err(format!("`{}` is not empty", directory.display()).into());
    }
    Ok(())
}

/// What the sandbox seeds around these patients, as a collection that refers to them by id.
async fn working_day(bundles: &[Value], now: Timestamp) -> Result<Value, Box<dyn Error>> {
    let config = SandboxConfig::new(ServerProfile::Full, Arc::new(move || now));
    let sandbox = Sandbox::start(config).await?;
    for bundle in bundles {
        sandbox.handle.load_bundle(bundle)?;
    }
    let known: BTreeSet<String> = sandbox.handle.all_resources().iter().map(name).collect();
    sandbox.handle.seed_operational(now)?;
    let mut seeded = sandbox.handle.all_resources();
    sandbox.stop().await;
    seeded.retain(|resource| !known.contains(&name(resource)));
    let entries: Vec<Value> = seeded
        .into_iter()
        .map(|mut resource| {
            // Versions are the sandbox's, not the next server's.
            if let Some(members) = resource.as_object_mut() {
                members.remove("meta");
            }
            json!({ "resource": resource })
        })
        .collect();
    Ok(json!({ "resourceType": "Bundle", "type": "collection", "entry": entries }))
}

fn name(resource: &Value) -> String {
    let text = |member| resource.get(member).and_then(Value::as_str);
    format!(
        "{}/{}",
        text("resourceType").unwrap_or_default(),
        text("id").unwrap_or_default()
    )
}

fn write(path: &Path, bundle: &Value) -> Result<(), Box<dyn Error>> {
    fs::write(path, serde_json::to_vec_pretty(bundle)?)?;
    Ok(())
}
