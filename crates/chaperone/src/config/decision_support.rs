//! `[decision_support]`: where the CDS services of `rules/decision-support.toml` are reached.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use chaperone_connect::decision_support::CdsServices;
use chaperone_connect::egress::Gate;
use chaperone_core::ports::DecisionSupport;
use serde::Deserialize;

/// The section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionSupportSection {
    pub(crate) base_url: String,
    /// A file that holds the bearer token; may be left out on this machine only.
    #[serde(default)]
    token_file: Option<PathBuf>,
}

impl DecisionSupportSection {
    /// Paths are relative to the configuration file.
    pub(super) fn settle_in(&mut self, home: &Path) {
        if let Some(path) = &mut self.token_file {
            *path = home.join(&path);
        }
    }

    /// The services, behind the gate.
    pub(super) fn services(&self, gate: &Gate) -> anyhow::Result<Arc<dyn DecisionSupport>> {
        let token = match &self.token_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read `{}`", path.display()))?;
                Some(text.trim().to_owned())
            }
        };
        let services = CdsServices::new(&self.base_url, token, gate)?;
        Ok(Arc::new(services))
    }
}
