//! What the outside sees of Chaperone over HTTP: agents at the [`gateway`], clinicians and operators at
//! the [`console`], probes and metrics in [`operators`], all behind one listener ([`mod@serve`]).
//!
//! Gateway and console share the engine and no code path. Reading order: [`app`], [`gateway`],
//! `oauth`, [`operators`], [`mod@serve`], [`console`].

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

pub mod gateway;
mod oauth;

pub mod operators;
pub mod serve;

pub mod console;

pub use axum::Router;

pub use serve::{Bound, Listen, ServeFailed, TlsFiles, serve};

/// What one server offers.
pub struct App {
    /// For agents.
    pub gateway: gateway::GatewayState,
    /// For operators. Without it, probes and metrics are served elsewhere or not at all.
    pub operators: Option<operators::OperatorsState>,
    /// For people.
    pub console: Option<console::ConsoleState>,
}

/// All routes of one server.
pub fn app(app: App) -> Router {
    let mut router = gateway::router(app.gateway);
    if let Some(operators) = app.operators {
        router = router.merge(operators::router(operators));
    }
    if let Some(console) = app.console {
        router = router.merge(console::router(console));
    }
    router
}
