//! `[passkeys]`: the name that people's passkeys are bound to, and the pages that may use them.

use anyhow::Context as _;
use chaperone_engine::people::RelyingParty;
use serde::Deserialize;

/// The section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Passkeys {
    #[serde(default)]
    rp_id: Option<String>,
    #[serde(default)]
    origins: Vec<String>,
    #[serde(default = "yes")]
    codes_beside: bool,
}

impl Default for Passkeys {
    fn default() -> Self {
        Self {
            rp_id: None,
            origins: Vec::new(),
            codes_beside: true,
        }
    }
}

fn yes() -> bool {
    true
}

impl Passkeys {
    /// Who relies on passkeys: as configured, or what follows from the public address, which is nobody where that
    /// names no host.
    pub(super) fn party(&self, public_url: &str) -> anyhow::Result<Option<RelyingParty>> {
        let public = public_url.trim_end_matches('/');
        let Some(id) = &self.rp_id else {
            if self.origins.is_empty() {
                return Ok(RelyingParty::at(public));
            }
            anyhow::bail!("`passkeys.origins` needs `passkeys.rp_id` beside it");
        };
        let mut origins = self.origins.clone();
        if origins.is_empty() {
            origins.push(public.to_owned());
        }
        RelyingParty::new(id, &origins)
            .map(Some)
            .context("`[passkeys]` cannot be used")
    }

    /// Whether codes of an app count for whoever has a passkey.
    pub(super) fn codes_beside(&self) -> bool {
        self.codes_beside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(section: &str, public: &str) -> Result<Option<String>, String> {
        let section: Passkeys = toml::from_str(section).unwrap();
        let party = section.party(public).map_err(|why| format!("{why:#}"))?;
        Ok(party.map(|party| party.id().to_owned()))
    }

    #[test]
    fn passkeys_follow_the_public_address_unless_something_else_is_said() {
        let clinic = "https://console.clinic.example";
        assert_eq!(
            id("", clinic),
            Ok(Some("console.clinic.example".to_owned()))
        );
        assert_eq!(id("", "http://127.0.0.1:8443"), Ok(None));
        let wider = "rp_id = \"clinic.example\"";
        assert_eq!(id(wider, clinic), Ok(Some("clinic.example".to_owned())));
        for (section, part) in [
            ("rp_id = \"other.example\"", "neither at"),
            ("rp_id = \"127.0.0.1\"", "no name of a host"),
            ("origins = [\"https://clinic.example\"]", "rp_id"),
            (
                "rp_id = \"clinic.example\"\norigins = [\"http://clinic.example\"]",
                "no origin",
            ),
        ] {
            let why = id(section, clinic).unwrap_err();
            assert!(why.contains(part), "{section}: {why}");
        }
    }
}
