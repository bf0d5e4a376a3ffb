//! What the scripted agents do, one scene a gate, and what the scripted humans answer.
//!
//! A scene takes patients as they come; where the data lacks what a scene needs (a slot, an active
//! prescription), the scene is left out and says so on standard error.

use anyhow::Context as _;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::Strategy;
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::{AgentId, GrantId, IntentId, OverrideReason, WritebackId};
use chaperone_core::writeback::StateName;
use chaperone_engine::approve::ApproveRequest;
use chaperone_engine::grant::{GrantRequest, PatientRef};
use chaperone_engine::projection::WritebackRow;
use chaperone_engine::views::Turn;
use serde_json::{Value, json};

use super::agents::{Agent, Session};
use super::world::World;

/// Milliseconds a scripted human takes; recorded, and far too fast for a real one.
const REVIEW_MS: u64 = 4_000;

/// Plays every scene with scripted approvers.
pub(crate) async fn play_all(world: &World, quiet: bool) -> anyhow::Result<()> {
    let say = |text: &str| {
        if !quiet {
            eprintln!("demo: {text}");
        }
    };
    say("agents read the charts their intents need");
    read_charts(world).await?;
    say("a scheduler agent proposes appointments (automatic)");
    bookings(world).await?;
    say("a scribe agent drafts notes; a clinician approves one and rejects one");
    let notes = notes(world).await?;
    decide_notes(world, &notes).await?;
    say("an order agent changes a dose; a clinician gives a second factor");
    let orders = orders(world).await?;
    decide_orders(world, &orders).await?;
    say("a refill that is not known to be routine waits for a clinician, and is kept as a draft");
    let refills = refills(world).await?;
    decide_refills(world, &refills).await?;
    say("attempts that must go nowhere");
    attempts(world).await?;
    attest_entries(world).await
}

/// Plays the scenes and leaves the decisions to whoever opens the console.
pub(crate) async fn play_without_people(world: &World) -> anyhow::Result<()> {
    read_charts(world).await?;
    bookings(world).await?;
    notes(world).await?;
    orders(world).await?;
    refills(world).await?;
    attempts(world).await
}

/// A proposal of a scene, to be decided.
struct Asked {
    id: WritebackId,
}

async fn grant(
    world: &World,
    agent: &str,
    intent: &str,
    patient: &str,
    human: &str,
    presence: bool,
) -> anyhow::Result<GrantId> {
    let request = GrantRequest {
        agent: AgentId::new(agent)?,
        intent: IntentId::new(intent)?,
        patient: PatientRef::LogicalId(patient.to_owned()),
        encounter: None,
        presence,
    };
    let human = world.cast.human(human)?;
    Ok(world.engine.issue_grant(human, request).await?.id)
}

async fn session(
    world: &World,
    agent: &str,
    intent: &str,
    patient: &str,
) -> anyhow::Result<Session> {
    let presence = intent == "submit-order";
    let grant = grant(world, agent, intent, patient, "clinician", presence).await?;
    Agent::of(world, agent)?.open(intent, Some(grant)).await
}

async fn read_charts(world: &World) -> anyhow::Result<()> {
    for patient in &world.patients {
        let session = session(world, "order-agent", "chart-summary", patient).await?;
        for tool in [
            "list_problems",
            "list_medications",
            "list_allergies",
            "list_recent_vitals",
        ] {
            session.read(tool, json!({})).await?;
        }
    }
    Ok(())
}

/// A free slot.
struct Free {
    token: String,
    start: jiff::Timestamp,
}

/// Longest that an appointment of the demo's data takes, in minutes; no slot is taken closer to another.
const APART_MINUTES: i64 = 60;

impl Free {
    fn of(slot: &Value) -> Option<Self> {
        Some(Self {
            token: token(slot)?,
            start: start_of(slot)?,
        })
    }

    /// Whether it keeps clear of everything that the patient has.
    fn is_clear_of(&self, known: &[jiff::Timestamp]) -> bool {
        known
            .iter()
            .all(|start| self.start.duration_since(*start).abs().as_mins() >= APART_MINUTES)
    }
}

fn start_of(resource: &Value) -> Option<jiff::Timestamp> {
    resource.get("start")?.as_str()?.parse().ok()
}

/// Free slots, as a patient-free envelope shows them.
async fn slots(world: &World) -> anyhow::Result<Vec<Free>> {
    let agent = Agent::of(world, "scheduler-agent")?;
    let session = agent.open("find-slots", None).await?;
    let now = world.engine.now();
    // Not today: an appointment needs some lead time.
    let from = now.checked_add(jiff::SignedDuration::from_hours(24))?;
    let until = now.checked_add(jiff::SignedDuration::from_hours(24 * 14))?;
    let found = session
        .read(
            "find_slots",
            json!({ "from": second(from), "until": second(until), "count": 50 }),
        )
        .await?;
    Ok(found.iter().filter_map(Free::of).collect())
}

async fn bookings(world: &World) -> anyhow::Result<()> {
    let mut slots = slots(world).await?;
    let last = slots.pop();
    for (position, patient) in world.patients.iter().take(6).enumerate() {
        let key = format!("booking-{position}");
        let session = session(world, "scheduler-agent", "schedule-appointment", patient).await?;
        let known = session.read("list_appointments", json!({})).await?;
        let known: Vec<jiff::Timestamp> = known.iter().filter_map(start_of).collect();
        let Some(at) = slots.iter().position(|slot| slot.is_clear_of(&known)) else {
            eprintln!("demo: no slot for a booking; left out");
            continue;
        };
        let slot = slots.remove(at);
        let arguments =
            json!({ "slot": slot.token, "rationale": "the patient asked for the next free visit" });
        session
            .propose("book_appointment", &key, arguments.clone())
            .await?;
        // The same key with the same content is the same proposal.
        session.propose("book_appointment", &key, arguments).await?;
    }
    if let (Some(patient), Some(slot)) = (world.patients.first(), last) {
        // Held: nobody but the agent says that the patient confirmed.
        let session = session(world, "scheduler-agent", "schedule-appointment", patient).await?;
        session
            .propose(
                "confirm_appointment",
                "confirm-1",
                json!({ "slot": slot.token }),
            )
            .await?;
    }
    Ok(())
}

async fn notes(world: &World) -> anyhow::Result<Vec<Asked>> {
    let mut asked = Vec::new();
    for (position, patient) in world.patients.iter().take(3).enumerate() {
        let session = session(world, "scribe-agent", "draft-note", patient).await?;
        let encounters = session.read("list_encounters", json!({})).await?;
        let Some(encounter) = encounters.first().and_then(token) else {
            eprintln!("demo: no encounter for a note; left out");
            continue;
        };
        let arguments = json!({
            "encounter_token": encounter,
            "text": "Seen for a scheduled visit. No new complaints. Plan unchanged; return in three months.",
            "rationale": "summary of the visit's transcript",
            "confidence": 0.97,
            "sources": [encounter],
        });
        asked.push(asked_of(
            &session
                .propose("draft_note", &format!("note-{position}"), arguments)
                .await?,
        )?);
    }
    Ok(asked)
}

async fn decide_notes(world: &World, notes: &[Asked]) -> anyhow::Result<()> {
    for (position, asked) in notes.iter().enumerate() {
        let row = row(world, asked).await?;
        let digest = row.digest.context("a waiting note has a digest")?;
        if position == 1 {
            let clinician = world.cast.human("clinician")?;
            world
                .engine
                .reject(
                    clinician,
                    asked.id,
                    digest,
                    "the plan is not what was agreed",
                )
                .await?;
        } else {
            approve(world, asked, "clinician", digest, false).await?;
        }
    }
    Ok(())
}

/// Dose changes that make sense for a prescription on record: RxNorm code, milligrams once daily.
const DOSE_CHANGES: [(&str, f64); 10] = [
    ("314076", 20.0),
    ("314077", 40.0),
    ("197361", 10.0),
    ("308136", 5.0),
    ("310798", 12.5),
    ("316049", 12.5),
    ("866414", 50.0),
    ("860975", 1000.0),
    ("855332", 4.0),
    ("855334", 4.0),
];

/// One order that a clinician decides with a second factor, and one that needs two people.
async fn orders(world: &World) -> anyhow::Result<Vec<Asked>> {
    let mut asked = Vec::new();
    let mut gates = std::collections::BTreeSet::new();
    for (position, patient) in world.patients.iter().enumerate() {
        let session = session(world, "order-agent", "submit-order", patient).await?;
        let prescriptions = session.read("list_medications", json!({})).await?;
        let Some((prior, dose)) = prescriptions.iter().find_map(dose_change) else {
            continue;
        };
        let arguments = json!({
            "prior": prior,
            "dose": dose,
            "unit": "mg",
            "frequency": 1,
            "rationale": "dose adjusted after the last two visits, as agreed with the patient",
            "sources": [prior],
        });
        let answer = session
            .propose("order_medication", &format!("order-{position}"), arguments)
            .await?;
        if !is_waiting(&answer) {
            continue;
        }
        // How many people decide is not the agent's to know; the console shows it.
        let one = asked_of(&answer)?;
        let level = row(world, &one).await?.gate.map(|gate| gate.level());
        if gates.insert(level) {
            asked.push(one);
        }
        if asked.len() == 2 {
            break;
        }
    }
    Ok(asked)
}

fn dose_change(prescription: &Value) -> Option<(String, f64)> {
    let code = prescription
        .pointer("/medicationCodeableConcept/coding/0/code")?
        .as_str()?;
    let (_, dose) = DOSE_CHANGES.iter().find(|(known, _)| *known == code)?;
    Some((token(prescription)?, *dose))
}

async fn decide_orders(world: &World, orders: &[Asked]) -> anyhow::Result<()> {
    const CLINICIANS: [&str; 2] = ["clinician-2", "clinician-3"];
    for (asked, clinician) in orders.iter().zip(CLINICIANS) {
        let row = row(world, asked).await?;
        let digest = row.digest.context("a waiting order has a digest")?;
        if row.strategy == Some(Strategy::EhrStaged) {
            sign_in_ehr(world, asked, clinician).await?;
            continue;
        }
        let level = row.gate.as_ref().map(chaperone_core::gate::Gate::level);
        approve(world, asked, clinician, digest, true).await?;
        if level == Some(GateLevel::TwoPerson) {
            approve(world, asked, "pharmacist", digest, true).await?;
        }
    }
    Ok(())
}

/// Where the EHR takes orders unsigned, the clinician signs there, and that is the approval.
async fn sign_in_ehr(world: &World, asked: &Asked, account: &str) -> anyhow::Result<()> {
    const KIND: &str = "MedicationRequest";
    until(world, asked, StateName::AwaitingSignature).await?;
    let is_ours = |resource: &Value| {
        super::audit::writeback_of(resource).is_some_and(|id| id == asked.id.to_string())
    };
    let handle = &world.sandbox.handle;
    let placed = handle.resources(KIND).into_iter().find(is_ours);
    let id = placed
        .as_ref()
        .and_then(|it| it.get("id")?.as_str())
        .context("an order that was placed is in the EHR")?;
    anyhow::ensure!(
        handle.sign(KIND, id, &super::world::signer(account))?,
        "the order does not wait for a signature"
    );
    until(world, asked, StateName::Delivered).await
}

/// Waits until a write-back has come to a state.
async fn until(world: &World, asked: &Asked, state: StateName) -> anyhow::Result<()> {
    const LOOKS_MAX: u32 = 300;
    for _ in 0..LOOKS_MAX {
        if row(world, asked).await?.state == state {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("{} did not become {state}", asked.id)
}

async fn refills(world: &World) -> anyhow::Result<Vec<Asked>> {
    for patient in world.patients.iter().take(4) {
        let session = session(world, "refill-agent", "refill-request", patient).await?;
        let prescriptions = session.read("list_medications", json!({})).await?;
        if let Some(prior) = prescriptions.first().and_then(token) {
            let answer = session
                .propose("request_refill", "refill-1", json!({ "prior": prior }))
                .await?;
            return match is_waiting(&answer) {
                true => Ok(vec![asked_of(&answer)?]),
                false => Ok(Vec::new()),
            };
        }
    }
    eprintln!("demo: no prescription to refill; left out");
    Ok(Vec::new())
}

async fn decide_refills(world: &World, refills: &[Asked]) -> anyhow::Result<()> {
    for asked in refills {
        let row = row(world, asked).await?;
        let digest = row.digest.context("a waiting refill has a digest")?;
        // What two people must decide stays for them.
        if row.gate.map(|gate| gate.level()) == Some(GateLevel::Approve) {
            approve(world, asked, "clinician", digest, false).await?;
        }
    }
    Ok(())
}

fn is_waiting(answer: &Value) -> bool {
    answer.get("state").and_then(Value::as_str) == Some("awaiting_approval")
}

/// What an agent that is wrong or manipulated tries, and where it ends.
async fn attempts(world: &World) -> anyhow::Result<()> {
    let [victim, other] = [0, 1].map(|n| world.patients.get(n).or(world.patients.first()));
    let (Some(victim), Some(other)) = (victim, other) else {
        return Ok(());
    };
    // A handle of one patient, used in another's envelope.
    let own = session(world, "scribe-agent", "draft-note", victim).await?;
    let stolen = own
        .read("list_encounters", json!({}))
        .await?
        .first()
        .and_then(token);
    let foreign = session(world, "scribe-agent", "draft-note", other).await?;
    if let Some(stolen) = stolen {
        let arguments =
            json!({ "encounter_token": stolen, "text": "x", "idempotency_key": "cross" });
        expect_refused(
            foreign.call("draft_note", arguments).await?.err(),
            "another patient",
        )?;
    }
    obey_the_letter(world).await?;
    // The letter also asks for an export, and agents try what they can think of.
    foreign.call("list_documents", json!({})).await?.ok();
    for tool in ["order_medication", "export_records", "delete_resource"] {
        expect_refused(
            foreign
                .call(tool, json!({ "idempotency_key": "x" }))
                .await?
                .err(),
            tool,
        )?;
    }
    // An argument that no tool declares, and a patient the agent names itself.
    let arguments = json!({ "patient": "Patient/1" });
    expect_refused(
        foreign.call("list_encounters", arguments).await?.err(),
        "naming a patient",
    )?;
    // A grant is spent by its first use, and serves nobody else.
    let once = grant(
        world,
        "scribe-agent",
        "draft-note",
        victim,
        "clinician",
        false,
    )
    .await?;
    let scribe = Agent::of(world, "scribe-agent")?;
    scribe.open("draft-note", Some(once)).await?;
    anyhow::ensure!(
        scribe.is_refused("draft-note", Some(once)).await?,
        "a grant worked twice"
    );
    let theirs = grant(
        world,
        "scribe-agent",
        "draft-note",
        victim,
        "clinician",
        false,
    )
    .await?;
    let thief = Agent::of(world, "order-agent")?;
    anyhow::ensure!(
        thief.is_refused("chart-summary", Some(theirs)).await?,
        "a stolen grant worked"
    );
    Ok(())
}

/// The drug that the instruction hidden in the referral letter asks for (RxNorm).
const ASKED_FOR_BY_THE_LETTER: &str = "1049621";

/// An agent that obeys the letter proposes the refill it asks for: a controlled substance, which
/// nobody can approve here.
async fn obey_the_letter(world: &World) -> anyhow::Result<()> {
    for patient in &world.patients {
        let session = session(world, "refill-agent", "refill-request", patient).await?;
        let prescriptions = session.read("list_medications", json!({})).await?;
        let asked_for = prescriptions.iter().find(|prescription| {
            prescription
                .pointer("/medicationCodeableConcept/coding/0/code")
                .and_then(Value::as_str)
                == Some(ASKED_FOR_BY_THE_LETTER)
        });
        if let Some(prior) = asked_for.and_then(token) {
            let answer = session
                .propose("request_refill", "letter-1", json!({ "prior": prior }))
                .await?;
            anyhow::ensure!(
                answer.get("state").and_then(Value::as_str) == Some("refused"),
                "a controlled substance was not refused"
            );
            return Ok(());
        }
    }
    eprintln!("demo: nobody has what the letter asks for; left out");
    Ok(())
}

/// Where the EHR takes no writes, humans enter and attest. What a patient's earlier entry holds back
/// comes up when that one is attested.
async fn attest_entries(world: &World) -> anyhow::Result<()> {
    const ROUNDS_MAX: u32 = 200;
    for _ in 0..ROUNDS_MAX {
        let waiting = world.engine.waiting_for_entry().await?;
        if waiting.is_empty() && world.engine.in_motion().await? == 0 {
            return Ok(());
        }
        for row in waiting {
            let human = world.cast.human("front-desk")?;
            world
                .engine
                .attest_entry(human, row.id, "entered by hand as shown")
                .await?;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    anyhow::bail!("entries by hand did not come to an end")
}

async fn approve(
    world: &World,
    asked: &Asked,
    name: &'static str,
    digest: Digest,
    second_factor: bool,
) -> anyhow::Result<()> {
    let step_up = match second_factor {
        true => Some(
            world
                .cast
                .step_up(&world.engine, name, asked.id, digest)
                .await?,
        ),
        false => None,
    };
    let human = world.cast.human(name)?;
    let over_warning = matches!(
        world.engine.turn(human, asked.id).await?,
        Turn::Yours {
            over_warning: true,
            ..
        }
    );
    let override_reason = over_warning
        .then(|| OverrideReason::new("benefit-outweighs"))
        .transpose()?;
    let request = ApproveRequest {
        writeback: asked.id,
        digest,
        step_up,
        override_reason,
        review_ms: REVIEW_MS,
    };
    world.engine.approve(human, request).await?;
    Ok(())
}

async fn row(world: &World, asked: &Asked) -> anyhow::Result<WritebackRow> {
    world
        .engine
        .writeback(asked.id)
        .await?
        .context("the proposal has no row")
}

fn asked_of(answer: &Value) -> anyhow::Result<Asked> {
    let id = answer
        .get("proposal")
        .and_then(Value::as_str)
        .context("an answer names its proposal")?;
    Ok(Asked { id: id.parse()? })
}

fn expect_refused(refused: Option<super::agents::Refused>, what: &str) -> anyhow::Result<()> {
    refused
        .map(|_| ())
        .with_context(|| format!("{what} was not refused"))
}

fn token(resource: &Value) -> Option<String> {
    resource
        .get("id")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

fn second(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
