//! The EHR as the bench sees it: the port in front of the real adapter, with the time of each search
//! noted under the correlation id of the request it belongs to.
//!
//! The correlation id is the field of the request's span; an event inside the span carries the time, and
//! [`Times`] puts the two together. What `bench writeback` approves is delivered as it is.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chaperone_connect::ehr::FhirEndpoint;
use chaperone_core::evidence::Delivering;
use chaperone_core::ids::ConnectionId;
use chaperone_core::ports::{
    DeliveryProfile, Ehr, EhrRead, EhrReadFailed, EhrSearch, Environment, Reconciliation,
    WriteFailed, WriteReceipt,
};
use chaperone_core::resource::ResourceType;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::disk::now;

/// Target of the events that carry a search's time.
const TARGET: &str = "chaperone::bench::upstream";
/// The span of an agent's request, and its field.
const REQUEST_SPAN: &str = "agent_request";
const CORRELATION: &str = "correlation";

/// Resources by type and id.
pub(super) type Snapshot = HashMap<(String, String), Value>;

/// The EHR port.
pub(super) struct Upstream {
    endpoint: FhirEndpoint,
    snapshot: Snapshot,
    in_process: Arc<AtomicBool>,
}

/// Chooses whether single reads are answered from the snapshot, without HTTP.
#[derive(Clone)]
pub(super) struct InProcess(Arc<AtomicBool>);

impl InProcess {
    /// From the snapshot, or from the EHR.
    pub(super) fn set(&self, in_process: bool) {
        self.0.store(in_process, Ordering::SeqCst);
    }
}

impl Upstream {
    pub(super) fn new(endpoint: FhirEndpoint, snapshot: Snapshot) -> (Self, InProcess) {
        let in_process = Arc::new(AtomicBool::new(false));
        let upstream = Self {
            endpoint,
            snapshot,
            in_process: Arc::clone(&in_process),
        };
        (upstream, InProcess(in_process))
    }
}

#[async_trait]
impl Ehr for Upstream {
    fn connection(&self) -> &ConnectionId {
        self.endpoint.connection()
    }

    fn environment(&self) -> Environment {
        self.endpoint.environment()
    }

    fn endpoint(&self) -> &str {
        self.endpoint.endpoint()
    }

    fn profile(&self) -> DeliveryProfile {
        self.endpoint.profile()
    }

    async fn read(&self, resource: &ResourceType, id: &str) -> Result<Value, EhrReadFailed> {
        if self.in_process.load(Ordering::Relaxed) {
            let key = (resource.as_str().to_owned(), id.to_owned());
            return self
                .snapshot
                .get(&key)
                .cloned()
                .ok_or(EhrReadFailed::NotFound);
        }
        self.endpoint.read(resource, id).await
    }

    async fn search(&self, search: EhrSearch) -> Result<EhrRead, EhrReadFailed> {
        let started = now();
        let found = self.endpoint.search(search).await;
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        tracing::info!(target: TARGET, nanos);
        found
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "hands on to the EHR what engine::deliver hands to this port"
    )]
    async fn write(&self, delivering: &Delivering) -> Result<WriteReceipt, WriteFailed> {
        self.endpoint.write(delivering).await
    }

    async fn reconcile(&self, delivering: &Delivering) -> Result<Reconciliation, EhrReadFailed> {
        self.endpoint.reconcile(delivering).await
    }
}

/// How long the EHR took for each request, by correlation id.
#[derive(Debug, Clone, Default)]
pub(super) struct Times(Arc<Mutex<HashMap<String, Duration>>>);

impl Times {
    /// Everything noted since the last call.
    pub(super) fn take(&self) -> HashMap<String, Duration> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts tracing as `serve` has it by default, with the output thrown away; warnings are shown.
pub(super) fn start_tracing() -> anyhow::Result<Times> {
    let times = Times::default();
    let thrown_away = crate::telemetry::journal(LevelFilter::INFO, true, std::io::sink);
    let shown = crate::telemetry::journal(LevelFilter::WARN, false, std::io::stderr);
    let noting = Noting(times.clone()).with_filter(LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(thrown_away)
        .with(shown)
        .with(noting)
        .try_init()?;
    Ok(times)
}

/// The layer that puts correlation id and time together.
struct Noting(Times);

/// The correlation id of a span.
struct Correlation(String);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Noting {
    fn on_new_span(&self, fields: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if fields.metadata().name() != REQUEST_SPAN {
            return;
        }
        let mut found = CorrelationField(None);
        fields.record(&mut found);
        if let (Some(correlation), Some(span)) = (found.0, context.span(id)) {
            span.extensions_mut().insert(Correlation(correlation));
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut nanos = NanosField(0);
        event.record(&mut nanos);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(Correlation(correlation)) = span.extensions().get() {
                let took = Duration::from_nanos(nanos.0);
                self.0.lock().insert(correlation.clone(), took);
                return;
            }
        }
    }
}

struct CorrelationField(Option<String>);

impl Visit for CorrelationField {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == CORRELATION {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

struct NanosField(u64);

impl Visit for NanosField {
    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "nanos" {
            self.0 = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_noted_under_the_request_it_belongs_to_and_no_other() {
        let times = Times::default();
        let subscriber = tracing_subscriber::registry().with(Noting(times.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let correlation = "corr_1";
            let request = tracing::info_span!("agent_request", %correlation);
            request.in_scope(|| tracing::info!(target: TARGET, nanos = 5_u64));
            tracing::info!(target: TARGET, nanos = 7_u64);
            let other = tracing::info_span!("another", %correlation);
            other.in_scope(|| tracing::info!(target: TARGET, nanos = 9_u64));
        });
        let noted = times.take();
        assert_eq!(noted.len(), 1);
        assert_eq!(noted["corr_1"], Duration::from_nanos(5));
        assert!(times.take().is_empty());
    }
}
