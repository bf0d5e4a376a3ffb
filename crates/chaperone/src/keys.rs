//! Key pairs of agents, as JSON Web Keys and PEM.

use anyhow::Context as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

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
