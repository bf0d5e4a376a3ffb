//! `[ehr.launch]`: people who come from inside the EHR. Who Chaperone is to the EHR's authorization server, whose
//! account each user there has, and which EHRs may ask for cards.
//!
//! Links between users and accounts are made here by whoever administers, and nowhere else: no launch makes one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaperone_connect::egress::Gate;
use chaperone_connect::launch::{EhrLaunch, EhrLaunchConfig, ServerAddresses};
use chaperone_connect::smart::SmartAlgorithm;
use chaperone_engine::launch::Launches;
use chaperone_engine::launch::card::CardClient;
use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::Ehr;
use super::profile::{EhrUser, accounts_by_practitioner};
use crate::compose::Basics;

/// Most keys of one client that asks for cards.
const KEYS_MAX: usize = 16;

/// The section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Launch {
    client_id: String,
    key_id: String,
    key_file: PathBuf,
    algorithm: SmartAlgorithm,
    #[serde(default)]
    pub(crate) users: Vec<EhrUser>,
    #[serde(default)]
    pub(crate) server: Option<Server>,
    #[serde(default)]
    card_clients: Vec<CardClientSection>,
}

/// Where the authorization server is, where the EHR is not to be asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    issuer: String,
    authorize_url: String,
    pub(crate) token_url: String,
    pub(crate) jwks_url: String,
}

/// An EHR that may ask for cards.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CardClientSection {
    issuer: String,
    jwks_file: PathBuf,
}

impl Launch {
    /// Paths are relative to the configuration file.
    pub(super) fn settle_in(&mut self, home: &Path) {
        self.key_file = home.join(&self.key_file);
        for client in &mut self.card_clients {
            client.jwks_file = home.join(&client.jwks_file);
        }
    }

    fn card_clients(&self) -> anyhow::Result<Vec<CardClient>> {
        let mut clients: Vec<CardClient> = Vec::with_capacity(self.card_clients.len());
        for section in &self.card_clients {
            let issuer = &section.issuer;
            if issuer.is_empty() || clients.iter().any(|known| known.issuer == *issuer) {
                bail!("`ehr.launch.card_clients`: the issuer `{issuer}` is empty or named twice");
            }
            let path = section.jwks_file.display();
            let text = std::fs::read_to_string(&section.jwks_file)
                .with_context(|| format!("cannot read `{path}`"))?;
            let keys = keys_of(&text)
                .with_context(|| format!("`{path}` is no JSON Web Key Set that can be used"))?;
            clients.push(CardClient {
                issuer: issuer.clone(),
                keys,
            });
        }
        Ok(clients)
    }
}

/// Public keys, each with a `kid` of its own.
fn keys_of(text: &str) -> anyhow::Result<Vec<Map<String, Value>>> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Map<String, Value>>,
    }
    let Set { keys } = serde_json::from_str(text)?;
    if keys.is_empty() || keys.len() > KEYS_MAX {
        bail!("it must hold 1 to {KEYS_MAX} keys");
    }
    let mut names: Vec<&str> = Vec::new();
    for key in &keys {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let kid = text("kid").filter(|kid| !kid.is_empty() && !names.contains(kid));
        names.push(kid.context("each key needs a `kid` of its own")?);
        if key.contains_key("d") || key.contains_key("k") {
            bail!("it holds a private key or a shared secret; only public keys belong here");
        }
        if !matches!(text("kty"), Some("EC" | "RSA")) {
            bail!("its keys must be of the kind `EC` (ES384) or `RSA` (RS384)");
        }
    }
    Ok(keys)
}

impl Ehr {
    /// The EHR's authorization server, behind the gate; nothing where no launches are taken.
    pub(crate) fn launch_server(
        &self,
        gate: &Gate,
        basics: &Basics,
    ) -> anyhow::Result<Option<EhrLaunch>> {
        let Some(launch) = &self.launch else {
            return Ok(None);
        };
        let key_pem = std::fs::read_to_string(&launch.key_file)
            .with_context(|| format!("cannot read `{}`", launch.key_file.display()))?;
        let config = EhrLaunchConfig {
            base_url: self.base_url.clone(),
            client_id: launch.client_id.clone(),
            key_id: launch.key_id.clone(),
            key_pem: Zeroizing::new(key_pem),
            algorithm: launch.algorithm,
            server: launch.server.clone().map(|server| ServerAddresses {
                issuer: server.issuer,
                authorize_url: server.authorize_url,
                token_url: server.token_url,
                jwks_url: server.jwks_url,
            }),
            extra_root_pem: self.extra_root_pem()?,
        };
        let server = EhrLaunch::new(
            config,
            gate,
            Arc::clone(&basics.clock),
            Arc::clone(&basics.random),
        )
        .context("`ehr.launch` cannot be used")?;
        Ok(Some(server))
    }

    /// Launches, as the engine takes them.
    pub(super) fn launches(
        &self,
        gate: &Gate,
        basics: &Basics,
    ) -> anyhow::Result<Option<Launches>> {
        let (Some(launch), Some(server)) = (&self.launch, self.launch_server(gate, basics)?) else {
            return Ok(None);
        };
        Ok(Some(Launches {
            server: Arc::new(server),
            users: accounts_by_practitioner("ehr.launch.users", &launch.users)?,
            card_clients: launch.card_clients()?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TEMPLATE;

    #[test]
    fn what_the_template_says_of_launches_is_a_section() {
        let (_, section) = TEMPLATE.split_once("# [ehr.launch]\n").unwrap();
        let section: String = section
            .lines()
            .map_while(|line| line.strip_prefix("# "))
            .map(|line| format!("{}\n", line.replace("[ehr.launch.", "[")))
            .collect();
        let section: Launch = toml::from_str(&section).unwrap();
        assert_eq!(section.users.len(), 1);
        assert_eq!(section.card_clients.len(), 1);
        assert!(section.server.is_some());
    }

    #[test]
    fn keys_are_public_and_each_has_a_name() {
        let set = |keys: &str| keys_of(&format!("{{\"keys\":[{keys}]}}")).is_ok();
        let key = r#"{"kty":"EC","crv":"P-384","kid":"1","x":"a","y":"b"}"#;
        assert!(set(key));
        for bad in [
            String::new(),
            format!("{key},{key}"),
            key.replace(r#""kid":"1","#, ""),
            key.replace(r#""x":"#, r#""d":"secret","x":"#),
            key.replace("EC", "oct"),
            key.replace(r#""kty":"EC""#, r#""kty":"oct","k":"secret""#),
        ] {
            assert!(!set(&bad), "{bad}");
        }
        assert!(keys_of("{}").is_err());
    }
}
