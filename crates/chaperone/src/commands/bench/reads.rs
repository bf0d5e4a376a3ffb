//! Governed reads through MCP against the same search sent to the EHR directly.
//!
//! Arrivals come at a fixed rate and are spread over the clients in turn; a client does not wait for
//! one answer before its next request, and opens connections as it needs them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use chaperone_connect::ehr::FhirEndpoint;
use chaperone_core::ids::ToolName;
use chaperone_core::ports::{Ehr as _, EhrSearch};
use chaperone_core::resource::ResourceType;
use serde_json::{Value, json};

use super::bed::{Bed, Opened};
use super::figures::{self, Aim, Reads, ReadsMost, Spread, us};
use super::pace::{Arrivals, closed_loop_apart, open_loop};
use super::upstream::Times;
use super::{disk, pace};

/// How many clients, one measurement each.
pub(super) const CLIENTS: [usize; 3] = [1, 8, 64];
/// Clients when each waits for its answer.
const MOST_CLIENTS: usize = 64;
/// Before a measurement, so that connections stand and caches are filled.
const WARM_UP: Duration = Duration::from_secs(1);
const AGENT: &str = "scribe-agent";
const INTENT: &str = "chart-summary";
const TOOL: &str = "list_recent_vitals";
/// The tool's own default, asked of the EHR directly as well.
const COUNT: u32 = 5;
const CORRELATION_HEADER: &str = "x-correlation-id";

/// What to measure.
pub(super) struct Asked {
    pub(super) clients: usize,
    pub(super) rate: u32,
    pub(super) span: Duration,
}

/// Reads at a fixed rate.
pub(super) async fn measure(
    bed: &Bed,
    asked: &Asked,
    folder: &Path,
    times: &Times,
) -> anyhow::Result<Reads> {
    let flush = disk::flush(folder)?;
    let arrivals = |span| Arrivals {
        rate: asked.rate,
        span,
    };
    let direct = direct(bed, asked).await?;
    let send = direct_sender(&direct);
    open_loop(arrivals(WARM_UP), send.clone()).await?;
    let of_direct = open_loop(arrivals(asked.span), send).await?;
    if of_direct.answered.is_empty() {
        bail!("the EHR answered nothing: {:?}", of_direct.failed);
    }

    let opened = Arc::new(bed.open(AGENT, INTENT, asked.clients).await?);
    let send = governed_sender(&opened)?;
    open_loop(arrivals(WARM_UP), send.clone()).await?;
    times.take();
    let outcome = open_loop(arrivals(asked.span), send).await?;
    Ok(figures_of(asked, flush, of_direct, outcome, &times.take()))
}

fn figures_of(
    asked: &Asked,
    flush: Spread,
    direct: pace::Outcome<()>,
    outcome: pace::Outcome<String>,
    times: &HashMap<String, Duration>,
) -> Reads {
    let mut upstream = Vec::new();
    let mut added = Vec::new();
    for answered in &outcome.answered {
        if let Some(took) = times.get(&answered.note) {
            upstream.push(us(*took));
            added.push(us(answered.total) - us(*took));
        }
    }
    let answered_per_s = outcome.per_s();
    let added = Spread::of_us(added);
    let beyond_flush = added.less(flush.p50_us);
    let held = outcome.failures() == 0
        && added.count > 0
        && answered_per_s >= f64::from(asked.rate) * figures::RATE_HELD;
    let mut aim = Aim::at_most_us(figures::READ_ADDED_US, beyond_flush.p99_us);
    aim.aim = format!("p99 {} at {} a second", aim.aim, asked.rate);
    aim.met &= held;
    Reads {
        clients: asked.clients,
        rate_per_s: asked.rate,
        answered_per_s,
        total: Spread::of(outcome.answered.iter().map(|a| a.total).collect()),
        failed: outcome.failed,
        direct: Spread::of(direct.answered.iter().map(|a| a.total).collect()),
        upstream: Spread::of_us(upstream),
        added,
        flush,
        beyond_flush,
        aim,
    }
}

/// Reads as fast as they are answered.
pub(super) async fn most(bed: &Bed, span: Duration) -> anyhow::Result<ReadsMost> {
    let opened = Arc::new(bed.open(AGENT, INTENT, MOST_CLIENTS).await?);
    let send = governed_sender(&opened)?;
    let outcome = closed_loop_apart(MOST_CLIENTS, span, move |client, _| send(client)).await?;
    Ok(ReadsMost {
        clients: MOST_CLIENTS,
        per_s: outcome.per_s(),
        processor_us: outcome.processor_us(),
        total: Spread::of(outcome.answered.iter().map(|a| a.total).collect()),
        failed: outcome.failed,
    })
}

type Sending<T> = futures::future::BoxFuture<'static, Result<T, String>>;

/// One client of the EHR and one patient for each client of the gateway.
async fn direct(bed: &Bed, asked: &Asked) -> anyhow::Result<Arc<Vec<(FhirEndpoint, EhrSearch)>>> {
    let mut clients = Vec::with_capacity(asked.clients);
    for patient in bed.patients.iter().cycle().take(asked.clients) {
        let parameter = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let search = EhrSearch {
            resource: ResourceType::new("Observation")?,
            parameters: vec![
                parameter("patient", patient),
                parameter("category", "vital-signs"),
                parameter("_sort", "-date"),
                parameter("_count", &COUNT.to_string()),
            ],
            limit: COUNT,
        };
        clients.push((bed.direct().await?, search));
    }
    Ok(Arc::new(clients))
}

fn direct_sender(
    clients: &Arc<Vec<(FhirEndpoint, EhrSearch)>>,
) -> impl Fn(usize) -> Sending<()> + Clone + Send + Sync + 'static {
    let clients = Arc::clone(clients);
    move |number| {
        let clients = Arc::clone(&clients);
        Box::pin(async move {
            let (endpoint, search) = in_turn(&clients, number)?;
            match endpoint.search(search.clone()).await {
                Ok(_) => Ok(()),
                Err(failed) => Err(failed.to_string()),
            }
        })
    }
}

/// Notes the correlation id, by which the EHR's time is found.
fn governed_sender(
    opened: &Arc<Vec<Opened>>,
) -> anyhow::Result<impl Fn(usize) -> Sending<String> + Clone + Send + Sync + 'static> {
    let opened = Arc::clone(opened);
    let tool = ToolName::new(TOOL)?;
    Ok(move |number| -> Sending<String> {
        let (opened, tool) = (Arc::clone(&opened), tool.clone());
        Box::pin(async move {
            let one = in_turn(&opened, number)?;
            let answer = one
                .client
                .tools_call(&one.token, &tool, &json!({}))
                .await
                .map_err(|failed| failed.to_string())?;
            is_good(&answer.body)?;
            let correlation = answer
                .headers
                .get(CORRELATION_HEADER)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            Ok(correlation.to_owned())
        })
    })
}

fn in_turn<T>(all: &[T], number: usize) -> Result<&T, String> {
    all.get(number % all.len().max(1))
        .ok_or_else(|| "no client".to_owned())
}

/// An answer that is no refusal; the code of the refusal otherwise.
pub(super) fn is_good(body: &Value) -> Result<&Value, String> {
    let content = body.pointer("/result/structuredContent");
    let is_error = body.pointer("/result/isError").and_then(Value::as_bool) == Some(true);
    match content {
        Some(content) if !is_error => Ok(content),
        _ => Err(content
            .and_then(|c| c.get("code"))
            .or_else(|| body.pointer("/error/data/code"))
            .or_else(|| body.get("code"))
            .and_then(Value::as_str)
            .unwrap_or("unexplained")
            .to_owned()),
    }
}
