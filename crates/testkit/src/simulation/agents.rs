//! Agents of the simulation: they propose, ask again with the same key until they are told, and now and then
//! once more although they were.

use std::collections::BTreeSet;
use std::sync::Arc;

use chaperone_core::envelope::Envelope;
use chaperone_core::ids::{AgentId, EnvelopeId, IntentId, WritebackId};
use chaperone_core::principal::Human;
use chaperone_core::resource::Code;
use chaperone_engine::grant::{GrantRequest, PatientRef};
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::{CallError, Engine, Retry};
use serde_json::{Map, Value, json};

use super::as_one::{self, Several};
use super::chance::Chance;
use super::exceptions;
use super::faults::Fault;
use super::people::{Directory, decide};
use super::play::Play;
use super::state::{Acknowledged, RefusedCall};
use super::world::{MILLI, OUTSIDE, SECOND};

/// How often an agent asks before it gives up.
const TRIES_MAX: u32 = 12;

/// A service that nobody books alone.
pub(crate) const SPECIAL: &str = "117";

/// What an agent asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Work for a human: goes by itself.
    Task,
    /// An appointment in a free slot: goes by itself while the slot is free.
    Booking,
    /// An appointment is taken back: a scheduler decides. An update.
    Cancelling,
    /// A note: a clinician decides.
    Note,
    /// A laboratory order: a clinician decides with a second factor.
    Lab,
    /// A medication order: two people decide.
    Medication,
    /// A visit that no row of the matrix allows: people ask for an exception.
    Special,
    /// Several changes, all of them or none.
    AsOne(Several),
}

impl Wish {
    /// One of them, each as likely as the next; several changes count as one kind.
    pub(crate) fn drawn(chance: &mut Chance) -> Wish {
        let several = *chance.pick(&Several::ALL).unwrap_or(&Several::Tasks);
        let kinds = [
            Wish::Task,
            Wish::Booking,
            Wish::Cancelling,
            Wish::Note,
            Wish::Lab,
            Wish::Medication,
            Wish::Special,
            Wish::AsOne(several),
        ];
        *chance.pick(&kinds).unwrap_or(&Wish::Task)
    }

    fn by(self) -> (&'static str, &'static str) {
        match self {
            Wish::Task | Wish::AsOne(Several::Tasks) => ("intake-agent", "intake"),
            Wish::Booking | Wish::Cancelling | Wish::Special | Wish::AsOne(_) => {
                ("scheduler-agent", "schedule-appointment")
            }
            Wish::Note => ("scribe-agent", "draft-note"),
            Wish::Lab | Wish::Medication => ("order-agent", "submit-order"),
        }
    }

    fn tool(self) -> &'static str {
        match self {
            Wish::Task => "create_task",
            Wish::Booking | Wish::Special => "book_appointment",
            Wish::Cancelling => "cancel_appointment",
            Wish::Note => "draft_note",
            Wish::Lab => "order_lab",
            Wish::Medication => "order_medication",
            Wish::AsOne(_) => as_one::TOOL,
        }
    }

    /// The tool that finds what it is about, and the argument that names it.
    fn about(self) -> Option<(&'static str, Value, &'static str)> {
        let span =
            json!({ "from": "2026-11-01T00:00:00Z", "until": "2027-03-09T00:00:00Z", "count": 50 });
        match self {
            Wish::Task | Wish::Lab | Wish::AsOne(_) => None,
            Wish::Booking | Wish::Special => Some(("find_slots", span, "slot")),
            Wish::Cancelling => Some(("list_appointments", json!({}), "appointment")),
            Wish::Note => Some(("list_encounters", json!({}), "encounter_token")),
            Wish::Medication => Some(("list_medications", json!({}), "prior")),
        }
    }

    fn who(self, people: &Directory) -> Human {
        match self {
            Wish::Task | Wish::AsOne(Several::Tasks) => people.nurse(),
            Wish::Booking | Wish::Cancelling | Wish::Special | Wish::AsOne(_) => people.scheduler(),
            Wish::Note | Wish::Lab | Wish::Medication => people.requester(),
        }
    }

    /// Whether it can be about what was found.
    fn fits(self, found: &Value) -> bool {
        let code = found.pointer("/serviceType/0/coding/0/code");
        let is_special = code.and_then(Value::as_str) == Some(SPECIAL);
        match self {
            Wish::Booking => !is_special,
            Wish::Special => is_special,
            _ => true,
        }
    }
}

/// One thing asked for.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    pub(crate) wish: Wish,
    pub(crate) patient: String,
    pub(crate) key: String,
    /// The access token of an envelope that is open already; else a person puts the patient before the agent.
    pub(crate) token: Option<String>,
}

/// An agent runs one errand to its end.
pub(crate) async fn run(play: Arc<Play>, errand: Errand) {
    let Some(arguments) = arguments(&play, &errand).await else {
        return;
    };
    let Some(id) = propose(&play, &errand, &arguments).await else {
        return;
    };
    let again = play.cluster.world.with(|inner| {
        if errand.token.is_none() {
            let patient_of = &mut inner.state.truth.patient_of;
            patient_of.insert(id, errand.patient.clone());
        }
        let now = inner.now;
        let happens = inner.faults.happens(Fault::AskedAgain, &mut inner.chance);
        if happens {
            inner.trace.fault(now, Fault::AskedAgain, &errand.key);
        }
        happens
    });
    if again {
        let (play, errand, arguments) = (Arc::clone(&play), errand.clone(), arguments.clone());
        let world = Arc::clone(&play.cluster.world);
        world.spawn(OUTSIDE, async move {
            if let Some(other) = propose(&play, &errand, &arguments).await
                && other != id
            {
                play.cluster.world.with(|inner| {
                    inner.state.truth.twice.push((id, other));
                });
            }
        });
    }
    match errand.wish {
        Wish::Special => exceptions::play(play, id).await,
        _ => decide(play, id).await,
    }
}

/// What the tool is called with: found once, and the same however often it is asked.
async fn arguments(play: &Arc<Play>, errand: &Errand) -> Option<Map<String, Value>> {
    let mut arguments = json!({ "idempotency_key": errand.key });
    if let Some((tool, asked, name)) = errand.wish.about() {
        let (found, _) = ask(play, errand, tool, &as_map(asked)).await?;
        let mut all = found.get("resources").and_then(Value::as_array)?.clone();
        all.retain(|it| errand.wish.fits(it));
        let chosen = play
            .cluster
            .world
            .with(|inner| inner.chance.pick(&all).cloned())?;
        let token = chosen.get("id")?.clone();
        arguments.as_object_mut()?.insert(name.to_owned(), token);
    }
    let rest = match errand.wish {
        Wish::Task => json!({ "summary": "Call back.", "pool": "nursing" }),
        Wish::Booking | Wish::Cancelling | Wish::Special => json!({}),
        Wish::Note => json!({ "text": "Seen for a visit. Call in a week." }),
        Wish::Lab => json!({ "test": "4548-4" }),
        Wish::Medication => json!({ "dose": 10.0, "unit": "mg", "frequency": 1 }),
        Wish::AsOne(several) => json!({ "changes": several.changes(play, errand).await? }),
    };
    let mut arguments = as_map(arguments);
    arguments.extend(as_map(rest));
    Some(arguments)
}

pub(crate) fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

async fn propose(
    play: &Arc<Play>,
    errand: &Errand,
    arguments: &Map<String, Value>,
) -> Option<WritebackId> {
    let (answer, at) = ask(play, errand, errand.wish.tool(), arguments).await?;
    let id: WritebackId = answer.get("proposal")?.as_str()?.parse().ok()?;
    let state = answer
        .get("state")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    play.cluster.world.with(|inner| {
        let key = errand.key.clone();
        inner
            .trace
            .say(at, format_args!("agent is told: {key} is {id}, {state}"));
        let acknowledged = &mut inner.state.truth.acknowledged;
        acknowledged.push(Acknowledged {
            writeback: id,
            at,
            key,
        });
    });
    Some(id)
}

/// Asks until there is an answer, or a refusal that will not change.
pub(crate) async fn ask(
    play: &Arc<Play>,
    errand: &Errand,
    tool: &'static str,
    arguments: &Map<String, Value>,
) -> Option<(Value, u64)> {
    let world = &play.cluster.world;
    let mut refused: BTreeSet<&'static str> = BTreeSet::new();
    for _ in 0..TRIES_MAX {
        let node = play.some_node();
        let (by, wish, patient) = (
            errand.wish.who(&play.people),
            errand.wish,
            errand.patient.clone(),
        );
        let (arguments, tenant) = (arguments.clone(), play.cluster.tenant().clone());
        let token = errand.token.clone();
        let envelope = world.with(|inner| inner.chance.next().to_le_bytes());
        let answer = play
            .cluster
            .on(node, move |engine| async move {
                let correlation = engine.correlation();
                let caller = match token {
                    Some(token) => engine.enter(Some(&token), correlation).await.ok()?,
                    None => caller(&engine, &by, wish, &patient, envelope, tenant).await?,
                };
                let correlation = engine.correlation();
                let answer = engine.call(&caller, tool, arguments, correlation).await;
                Some((answer, correlation))
            })
            .await;
        let now = world.with(|inner| inner.now);
        match answer.flatten() {
            Some((Ok(answer), _)) => return Some((answer, now)),
            Some((Err(refusal), correlation)) => {
                let CallError {
                    code,
                    retry,
                    recorded,
                    ..
                } = refusal;
                world.with(|inner| {
                    inner
                        .trace
                        .say(now, format_args!("agent is refused {tool}: {code}"));
                    let refusals = &mut inner.state.truth.refused;
                    refusals.push(RefusedCall {
                        correlation,
                        code,
                        recorded,
                        at: now,
                    });
                });
                // A switch or a consent may be moved back; what is wrong in itself stays wrong.
                let is_final = retry == Retry::Never || code == as_one::REFUSED;
                if is_final && !refused.insert(code) {
                    return None;
                }
            }
            None => {}
        }
        let pause = world.with(|inner| inner.chance.skewed(500 * MILLI, 20 * SECOND));
        world.sleep(pause).await;
    }
    None
}

/// The agent in an envelope that a person opened the way for.
async fn caller(
    engine: &Engine,
    by: &Human,
    wish: Wish,
    patient: &str,
    envelope: [u8; 8],
    tenant: chaperone_core::ids::TenantId,
) -> Option<Caller> {
    let (agent, intent) = wish.by();
    let request = GrantRequest {
        agent: AgentId::new(agent).ok()?,
        intent: IntentId::new(intent).ok()?,
        patient: PatientRef::LogicalId(patient.to_owned()),
        encounter: None,
        presence: true,
    };
    let grant = engine.issue_grant(by, request).await.ok()?;
    let opened = engine.now();
    let mut id = [7; 16];
    for (to, from) in id.iter_mut().zip(envelope) {
        *to = from;
    }
    let purpose = engine
        .bundle()
        .intent(&grant.intent)?
        .purpose_of_use
        .clone();
    Some(Caller {
        envelope: Arc::new(Envelope {
            id: EnvelopeId::from_random(id),
            tenant,
            agent: grant.agent,
            intent: grant.intent,
            grant: Some(grant.id),
            patient: grant.patient,
            encounter: grant.encounter,
            presence: grant.presence,
            purpose: Code::new(purpose.as_str()).ok()?,
            bundle: *engine.bundle().digest(),
            opened,
            expires: opened
                .checked_add(jiff::SignedDuration::from_secs(300))
                .unwrap_or(opened),
        }),
    })
}
