//! How long policy takes to rule on a write, with the full matrix of the built-in bundle.

use std::time::Duration;

use anyhow::Context as _;
use chaperone_core::change::{Change, ChangeClass, Destination, Direction};
use chaperone_core::facts::{FactKind, FactValue, Facts};
use chaperone_core::ids::{AgentId, IntentId, ToolName};
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::{Code, Interaction, ResourceType};
use chaperone_policy::Bundle;
use chaperone_policy::bundle::scope;
use chaperone_policy::facts::{FactType, VOCABULARY};

use super::disk::now;
use super::figures::{Aim, RULING_US, Rulings, Spread};
use crate::bundle_files;

/// Most rulings of one measurement.
const RULINGS_MAX: usize = 1_000_000;
/// Rulings before the measurement.
const WARM_UP: usize = 500;
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

/// Rules for this long on requests that vary in what the matrix looks at.
pub(super) fn measure(span: Duration) -> anyhow::Result<Rulings> {
    let bundle = bundle_files::load(&bundle_files::read(None)?)?;
    let mut draw = Draw(7);
    for _ in 0..WARM_UP {
        bundle.rule(&request(&bundle, &mut draw)?)?;
    }
    let mut times = Vec::new();
    let begun = now();
    while begun.elapsed() < span && times.len() < RULINGS_MAX {
        let request = request(&bundle, &mut draw)?;
        let started = now();
        let ruling = bundle.rule(&request)?;
        times.push(started.elapsed());
        std::hint::black_box(ruling);
    }
    let time = Spread::of(times);
    Ok(Rulings {
        time,
        aim: Aim::at_most_us(RULING_US, time.p99_us),
    })
}

/// A small generator is enough to vary requests; the same ones each time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }

    fn one_of<'a, T>(&mut self, all: &'a [T]) -> anyhow::Result<&'a T> {
        all.get(self.below(all.len())).context("nothing to draw")
    }
}

fn request(bundle: &Bundle, draw: &mut Draw) -> anyhow::Result<WriteRequest> {
    let (resource, to) = draw.one_of(&RESOURCES)?;
    let change = Change {
        resource: ResourceType::new(resource)?,
        interaction: Interaction::Create,
        destination: Destination::Ehr,
        from: None,
        to: Some(Code::new(to)?),
        clinical_status: None,
        request_intent: Some(Code::new("order")?),
        categories: [Code::new("vital-signs")?].into(),
        elements: ["status", "code", "subject"].map(str::to_owned).into(),
        direction: Direction::MorePrivate,
        audience: None,
        from_template: false,
    };
    let mut facts = Facts::default();
    for fact in VOCABULARY {
        let observed = fact.kinds.contains(&FactKind::Observed);
        if fact.fact_type == FactType::Bool && observed && draw.below(3) == 0 {
            facts.observe(fact.name, FactValue::Bool(draw.below(2) == 0));
        }
    }
    Ok(WriteRequest {
        agent: AgentId::new("some-agent")?,
        intent: IntentId::new(*draw.one_of(&INTENTS)?)?,
        intent_writes: vec![scope::of_change(&change)],
        tool: ToolName::new("some_tool")?,
        class: change.class().unwrap_or(ChangeClass::M5),
        change,
        facts,
        tainted: draw.below(4) == 0,
        bundle: *bundle.digest(),
        at_least: None,
        protocol: None,
    })
}
