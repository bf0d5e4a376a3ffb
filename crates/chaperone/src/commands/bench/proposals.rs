//! Proposals per second, each answered after it was validated, ruled on and made durable.
//!
//! Notes of visits: they wait for a clinician, so no delivery is measured beside them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chaperone_core::ids::{ToolName, WritebackId};
use chaperone_engine::Engine;
use serde_json::{Map, Value, json};

use super::bed::{Bed, Opened};
use super::figures::{Aim, PROPOSALS_PER_S, Proposals, Spread};
use super::pace::{Outcome, closed_loop, closed_loop_apart};
use super::reads::is_good;

/// Callers at the same time.
const CALLERS: usize = 64;
const AGENT: &str = "scribe-agent";
const INTENT: &str = "draft-note";
const TOOL: &str = "draft_note";
/// States of a proposal that was accepted.
const ACCEPTED: [&str; 2] = ["awaiting_approval", "ready"];

/// Measures both ways in.
pub(super) async fn measure(bed: &Bed, span: Duration) -> anyhow::Result<Vec<Proposals>> {
    let mut measured = Vec::new();
    bed.in_process.set(true);
    let in_process = by_engine(bed, span).await;
    bed.in_process.set(false);
    measured.push(figures_of(
        "by Engine::call",
        "single reads answered in the process",
        in_process?,
    ));
    measured.push(figures_of(
        "over MCP",
        "reads from the sandbox EHR over HTTP",
        by_mcp(bed, span).await?,
    ));
    Ok(measured)
}

fn figures_of(way: &'static str, upstream: &'static str, outcome: Outcome<()>) -> Proposals {
    let per_s = outcome.per_s();
    let processor_us = outcome.processor_us();
    let mut aim = Aim::at_least_per_s(PROPOSALS_PER_S, per_s);
    aim.met &= outcome.failures() == 0;
    Proposals {
        way,
        upstream,
        callers: CALLERS,
        per_s,
        processor_us,
        time: Spread::of(outcome.answered.iter().map(|a| a.total).collect()),
        failed: outcome.failed,
        aim,
    }
}

/// An envelope and the encounter that its notes are about.
pub(super) struct Caller {
    opened: Opened,
    encounter: String,
}

pub(super) async fn callers(bed: &Bed) -> anyhow::Result<Arc<Vec<Caller>>> {
    let mut callers = Vec::with_capacity(CALLERS);
    for opened in bed.open(AGENT, INTENT, CALLERS).await? {
        let answer = bed
            .engine
            .call(
                &opened.caller,
                "list_encounters",
                Map::new(),
                bed.engine.correlation(),
            )
            .await?;
        let encounter = answer
            .pointer("/resources/0/id")
            .and_then(Value::as_str)
            .context("a patient has no encounter to write a note about")?
            .to_owned();
        callers.push(Caller { opened, encounter });
    }
    if callers.is_empty() {
        bail!("there are no patients");
    }
    Ok(Arc::new(callers))
}

fn arguments(caller: &Caller, number: u64) -> Map<String, Value> {
    let arguments = json!({
        "idempotency_key": format!("note-{number}"),
        "encounter_token": caller.encounter,
        "text": "Seen for a scheduled visit. No new complaints. Plan unchanged; return in three months.",
        "rationale": "summary of the visit's transcript",
        "confidence": 0.97,
        "sources": [caller.encounter],
    });
    match arguments {
        Value::Object(arguments) => arguments,
        _ => Map::new(),
    }
}

/// Proposes one note, which waits for a clinician.
pub(super) async fn propose(
    engine: &Engine,
    caller: &Caller,
    number: u64,
) -> anyhow::Result<WritebackId> {
    let arguments = arguments(caller, number);
    let correlation = engine.correlation();
    let answer = engine
        .call(&caller.opened.caller, TOOL, arguments, correlation)
        .await?;
    answer
        .get("proposal")
        .and_then(Value::as_str)
        .and_then(|id| id.parse().ok())
        .context("a proposal was answered without its id")
}

/// A key counts per agent, so each caller counts in a range of its own.
fn numbered(caller: usize, call: u64) -> u64 {
    call.saturating_mul(CALLERS as u64)
        .saturating_add(caller as u64)
}

fn is_accepted(answer: &Value) -> Result<(), String> {
    match answer.get("state").and_then(Value::as_str) {
        Some(state) if ACCEPTED.contains(&state) => Ok(()),
        state => Err(state.unwrap_or("unexplained").to_owned()),
    }
}

async fn by_engine(bed: &Bed, span: Duration) -> anyhow::Result<Outcome<()>> {
    let callers = callers(bed).await?;
    let engine = Arc::clone(&bed.engine);
    closed_loop(CALLERS, span, move |number, call| {
        let (callers, engine) = (Arc::clone(&callers), Arc::clone(&engine));
        async move {
            let caller = callers.get(number).ok_or("no caller")?;
            let arguments = arguments(caller, numbered(number, call));
            let correlation = engine.correlation();
            let answer = engine
                .call(&caller.opened.caller, TOOL, arguments, correlation)
                .await
                .map_err(|refused| refused.code.to_owned())?;
            is_accepted(&answer)
        }
    })
    .await
}

async fn by_mcp(bed: &Bed, span: Duration) -> anyhow::Result<Outcome<()>> {
    /// Where the keys of this measurement begin, past those of the one before.
    const BEGIN: u64 = 1 << 40;
    let callers = callers(bed).await?;
    let tool = ToolName::new(TOOL)?;
    closed_loop_apart(CALLERS, span, move |number, call| {
        let (callers, tool) = (Arc::clone(&callers), tool.clone());
        async move {
            let caller = callers.get(number).ok_or("no caller")?;
            let number = numbered(number, call).saturating_add(BEGIN);
            let arguments = Value::Object(arguments(caller, number));
            let answer = caller
                .opened
                .client
                .tools_call(&caller.opened.token, &tool, &arguments)
                .await
                .map_err(|failed| failed.to_string())?;
            is_accepted(is_good(&answer.body)?)
        }
    })
    .await
}
