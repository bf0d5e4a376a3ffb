//! Key pairs of agents, and of launches in the demo, as JSON Web Keys and PEM.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chaperone_core::ids::{AgentId, TenantId};
use chaperone_policy::Bundle;
use serde_json::json;

use crate::bundle_files;

/// Shows the escrow text of keys made just now, once.
pub(crate) fn tell_escrow(tenant: &TenantId, escrow: &str) {
    eprintln!(
        "First run: the keys of `{tenant}` were made.\nStore this escrow text away from this machine; it is shown once:\n\n{escrow}\n"
    );
}

/// A new Ed25519 key pair.
pub(crate) struct AgentKeyPair {
    /// The public half, as declared in `agents/<id>.toml`.
    pub(crate) public_jwk: serde_json::Value,
    /// `kid` of both halves.
    pub(crate) key_id: String,
    /// The private half, PKCS#8 PEM; belongs to the agent alone.
    pub(crate) private_pem: String,
}

impl AgentKeyPair {
    /// Draws a key pair.
    pub(crate) fn generate(key_id: &str) -> anyhow::Result<Self> {
        let pair = Ed25519KeyPair::generate().context("the key could not be made")?;
        let pkcs8 = pair.to_pkcs8v1().context("the key could not be written")?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        Ok(Self {
            public_jwk: json!({
                "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
                "kid": key_id, "x": x,
            }),
            key_id: key_id.to_owned(),
            private_pem: pem("PRIVATE KEY", pkcs8.as_ref()),
        })
    }
}

/// A new P-384 key pair, by which Chaperone shows the EHR's authorization server who it is.
pub(crate) struct LaunchKeyPair {
    /// The public half, as a JSON Web Key Set.
    pub(crate) jwks: serde_json::Value,
    /// `kid` of both halves.
    pub(crate) key_id: String,
    /// The private half, PKCS#8 PEM.
    pub(crate) private_pem: String,
}

impl LaunchKeyPair {
    /// Draws a key pair.
    pub(crate) fn generate(key_id: &str) -> anyhow::Result<Self> {
        let algorithm = &ECDSA_P384_SHA384_FIXED_SIGNING;
        let pair = EcdsaKeyPair::generate(algorithm).context("the key could not be made")?;
        let pkcs8 = pair.to_pkcs8v1().context("the key could not be written")?;
        // An uncompressed point: 4, then x and y of 48 bytes each.
        let point = pair.public_key().as_ref();
        let half = |from: usize, to: usize| {
            let bytes = point.get(from..to).context("the key has no such point")?;
            anyhow::Ok(URL_SAFE_NO_PAD.encode(bytes))
        };
        Ok(Self {
            jwks: json!({ "keys": [{
                "kty": "EC", "crv": "P-384", "use": "sig", "alg": "ES384", "kid": key_id,
                "x": half(1, 49)?, "y": half(49, 97)?,
            }] }),
            key_id: key_id.to_owned(),
            private_pem: pem("PRIVATE KEY", pkcs8.as_ref()),
        })
    }
}

/// The built-in bundle, with a key pair of this run for each agent, and with these texts in place of its own files.
pub(crate) fn bundle_with_agent_keys(
    key_id: &str,
    instead: &[(&str, &str)],
) -> anyhow::Result<(Arc<Bundle>, BTreeMap<AgentId, AgentKeyPair>)> {
    let mut files = bundle_files::read(None)?;
    for (path, text) in instead {
        files.insert((*path).to_owned(), (*text).to_owned());
    }
    let mut pairs = BTreeMap::new();
    for (path, text) in &mut files {
        let Some(name) = path
            .strip_prefix("agents/")
            .and_then(|p| p.strip_suffix(".toml"))
        else {
            continue;
        };
        let pair = AgentKeyPair::generate(key_id)?;
        let mut declaration: toml::Table = text.parse()?;
        let key = toml::Value::try_from(&pair.public_jwk)?;
        declaration.insert("keys".to_owned(), toml::Value::Array(vec![key]));
        *text = toml::to_string(&declaration)?;
        pairs.insert(AgentId::new(name)?, pair);
    }
    Ok((bundle_files::load(&files)?, pairs))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = format!("-----BEGIN {label}-----\n");
    for chunk in text.as_bytes().chunks(64) {
        lines.push_str(&String::from_utf8_lossy(chunk));
        lines.push('\n');
    }
    lines.push_str(&format!("-----END {label}-----\n"));
    lines
}
