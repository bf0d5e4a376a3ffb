//! `[decision_support]`: where the CDS services of `rules/decision-support.toml` are reached, and how Chaperone says to
//! them who asks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaperone_connect::decision_support::{CdsClientKey, CdsCredential, CdsServices};
use chaperone_connect::egress::Gate;
use chaperone_connect::smart::SmartAlgorithm;
use chaperone_core::ports::DecisionSupport;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::compose::Basics;

/// The section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecisionSupportSection {
    pub(crate) base_url: String,
    /// The key with which requests are signed, as the specification asks for.
    #[serde(default)]
    client: Option<CdsClient>,
    /// A file that holds one bearer token for all requests.
    #[serde(default)]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CdsClient {
    issuer: String,
    key_id: String,
    key_file: PathBuf,
    algorithm: SmartAlgorithm,
    #[serde(default)]
    jwks_url: Option<String>,
}

impl DecisionSupportSection {
    /// Paths are relative to the configuration file.
    pub(super) fn settle_in(&mut self, home: &Path) {
        if let Some(path) = &mut self.token_file {
            *path = home.join(&path);
        }
        if let Some(client) = &mut self.client {
            client.key_file = home.join(&client.key_file);
        }
    }

    /// The services, behind the gate.
    pub(super) fn services(
        &self,
        gate: &Gate,
        basics: &Basics,
    ) -> anyhow::Result<Arc<dyn DecisionSupport>> {
        let services = CdsServices::new(
            &self.base_url,
            self.credential()?,
            gate,
            Arc::clone(&basics.clock),
            Arc::clone(&basics.random),
        )?;
        Ok(Arc::new(services))
    }

    fn credential(&self) -> anyhow::Result<CdsCredential> {
        Ok(match (&self.client, &self.token_file) {
            (Some(_), Some(_)) => {
                bail!("give `decision_support.client` or `decision_support.token_file`, not both")
            }
            (Some(client), None) => CdsCredential::Signed(CdsClientKey {
                issuer: client.issuer.clone(),
                key_id: client.key_id.clone(),
                key_pem: text_of(&client.key_file)?,
                algorithm: client.algorithm,
                jwks_url: client.jwks_url.clone(),
            }),
            (None, Some(path)) => {
                let text = text_of(path)?;
                CdsCredential::Bearer(Zeroizing::new(text.trim().to_owned()))
            }
            (None, None) => CdsCredential::None,
        })
    }
}

fn text_of(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(Zeroizing::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TEMPLATE;

    #[test]
    fn what_the_template_says_of_decision_support_is_a_section() {
        let (_, section) = TEMPLATE.split_once("# [decision_support]\n").unwrap();
        let section: String = section
            .lines()
            .map_while(|line| line.strip_prefix("# "))
            .map(|line| {
                format!(
                    "{}\n",
                    line.replace("[decision_support.client]", "[client]")
                )
            })
            .collect();
        let section: DecisionSupportSection = toml::from_str(&section).unwrap();
        assert!(section.client.is_some() && section.token_file.is_none());
        let both = "base_url = \"https://cds.example.org\"\ntoken_file = \"t\"\n[client]\nissuer = \"i\"\nkey_id = \"k\"\nkey_file = \"f\"\nalgorithm = \"ES384\"\n";
        let both: DecisionSupportSection = toml::from_str(both).unwrap();
        assert!(both.credential().is_err());
    }
}
