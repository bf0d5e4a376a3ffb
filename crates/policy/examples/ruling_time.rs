//! How long a ruling takes with the full matrix: prints p50 and p99 in microseconds.
//!
//! Run it with `cargo run --release -p chaperone-policy --example ruling_time`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "a measurement at the edge"
)]

use std::collections::BTreeSet;
use std::time::Instant;

use chaperone_core::change::{Change, ChangeClass, Destination, Direction};
use chaperone_core::facts::{FactKind, FactValue, Facts};
use chaperone_core::ids::{AgentId, IntentId, ToolName};
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::{Code, Interaction, ResourceType};
use chaperone_policy::bundle::scope;
use chaperone_policy::facts::{FactType, VOCABULARY};
use chaperone_policy::{Bundle, embedded};

const RULINGS: usize = 20_000;
const RESOURCES: [(&str, &str); 10] = [
    ("Appointment", "booked"),
    ("Appointment", "proposed"),
    ("Task", "requested"),
    ("DocumentReference", "preliminary"),
    ("MedicationRequest", "active"),
    ("ServiceRequest", "active"),
    ("Observation", "preliminary"),
    ("QuestionnaireResponse", "completed"),
    ("Consent", "active"),
    ("Claim", "active"),
];
const INTENTS: [&str; 6] = [
    "schedule-appointment",
    "intake",
    "draft-note",
    "submit-order",
    "billing",
    "consent-capture",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = embedded::files();
    let started = Instant::now();
    let bundle = Bundle::load(&files).map_err(|problems| {
        problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    })?;
    println!(
        "load, with every case: {} ms",
        started.elapsed().as_millis()
    );
    let mut seed = 7_u64;
    let mut times = Vec::with_capacity(RULINGS);
    for _ in 0..RULINGS {
        let request = request(&bundle, &mut seed)?;
        let started = Instant::now();
        let ruling = bundle.rule(&request)?;
        times.push(started.elapsed());
        std::hint::black_box(ruling);
    }
    times.sort();
    for percent in [50, 99] {
        let at = times.len().saturating_mul(percent) / 100;
        if let Some(time) = times.get(at) {
            println!("p{percent}: {:.1} µs", time.as_secs_f64() * 1e6);
        }
    }
    Ok(())
}

/// A small generator is enough to vary requests.
fn next(seed: &mut u64, below: usize) -> usize {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 33).unwrap_or(0) % below.max(1)
}

fn request(bundle: &Bundle, seed: &mut u64) -> Result<WriteRequest, Box<dyn std::error::Error>> {
    let (resource, to) = RESOURCES
        .get(next(seed, RESOURCES.len()))
        .ok_or("no resource")?;
    let change = Change {
        resource: ResourceType::new(resource)?,
        interaction: Interaction::Create,
        destination: Destination::Ehr,
        from: None,
        to: Some(Code::new(to)?),
        clinical_status: None,
        request_intent: Some(Code::new("order")?),
        categories: [Code::new("vital-signs")?].into(),
        elements: ["status", "code", "subject"]
            .map(str::to_owned)
            .into_iter()
            .collect::<BTreeSet<_>>(),
        direction: Direction::MorePrivate,
        audience: None,
        from_template: false,
    };
    let mut facts = Facts::default();
    for fact in VOCABULARY {
        if fact.fact_type == FactType::Bool
            && fact.kinds.contains(&FactKind::Observed)
            && next(seed, 3) == 0
        {
            facts.observe(fact.name, FactValue::Bool(next(seed, 2) == 0));
        }
    }
    Ok(WriteRequest {
        agent: AgentId::new("some-agent")?,
        intent: IntentId::new(*INTENTS.get(next(seed, INTENTS.len())).ok_or("no intent")?)?,
        intent_writes: vec![scope::of_change(&change)],
        tool: ToolName::new("some_tool")?,
        class: change.class().unwrap_or(ChangeClass::M5),
        change,
        facts,
        tainted: next(seed, 4) == 0,
        bundle: *bundle.digest(),
        at_least: None,
        protocol: None,
    })
}
