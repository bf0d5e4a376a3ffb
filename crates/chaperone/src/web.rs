//! Agents, people and operators on one listener, and what readiness means here.

use std::sync::Arc;

use chaperone_engine::Engine;
use chaperone_web::console::{ConsoleState, CookieSecurity};
use chaperone_web::gateway::{GatewayLimits, GatewayState};
use chaperone_web::operators::{MetricsAudience, OperatorsState, Readiness, ReadyPart};
use chaperone_web::{App, Router};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;

/// Everything that one server offers.
pub(crate) fn app(
    engine: &Arc<Engine>,
    cookies: CookieSecurity,
    metrics: PrometheusHandle,
) -> Router {
    app_within(engine, cookies, metrics, GatewayLimits::default())
}

/// The same with other limits on the agents' side.
pub(crate) fn app_within(
    engine: &Arc<Engine>,
    cookies: CookieSecurity,
    metrics: PrometheusHandle,
    limits: GatewayLimits,
) -> Router {
    chaperone_web::app(App {
        gateway: GatewayState::new(Arc::clone(engine), limits),
        operators: Some(OperatorsState {
            readiness: Arc::new(Ready(Arc::clone(engine))),
            metrics: Arc::new(move || metrics.render()),
            metrics_audience: MetricsAudience::Loopback,
        }),
        console: Some(ConsoleState::new(Arc::clone(engine), cookies)),
    })
}

/// Ready when the store answers. The EHR may be down: proposals are still taken and wait.
struct Ready(Arc<Engine>);

impl Readiness for Ready {
    fn look(&self) -> BoxFuture<'_, Vec<ReadyPart>> {
        Box::pin(async {
            vec![
                ReadyPart {
                    name: "store",
                    ready: self.0.ledger_size().await.is_ok(),
                },
                ReadyPart {
                    name: "keys",
                    ready: self.0.ledger_key().await.is_ok(),
                },
            ]
        })
    }
}
