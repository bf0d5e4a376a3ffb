//! An authenticator in memory, made from a seed: makes passkeys and uses them as a browser would send it, and can be
//! told to do each thing wrong.
//!
//! Not here: what a browser itself refuses; the tests with a real one show that.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_core::digest::Digest;
use chaperone_engine::people::{AssertionSent, CreationSent};

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const HAS_CREDENTIAL: u8 = 0x40;

/// One key of one authenticator. Its fields say what it is told to do.
#[derive(Debug, Clone)]
pub struct SoftKey {
    /// The name that the key is bound to.
    pub rp_id: String,
    /// The page that asks.
    pub origin: String,
    /// Whether somebody touches it.
    pub present: bool,
    /// Whether it finds out who touches it.
    pub verifies: bool,
    /// Where its counter stands; it goes on with each use. `None` for one that does not count.
    pub counter: Option<u32>,
    seed: [u8; 32],
}

impl SoftKey {
    /// A key that does everything right for a page.
    pub fn new(seed: u8, rp_id: &str, origin: &str) -> Self {
        Self {
            rp_id: rp_id.to_owned(),
            origin: origin.to_owned(),
            present: true,
            verifies: true,
            counter: Some(0),
            seed: [seed; 32],
        }
    }

    /// Its credential id, as browsers send it.
    pub fn credential(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.credential_bytes())
    }

    /// Makes the key.
    pub fn create(&self, challenge: &str) -> CreationSent {
        let mut data = self.authenticator_data(HAS_CREDENTIAL);
        data.extend([0; 16]);
        let id = self.credential_bytes();
        data.extend([0, u8::try_from(id.len()).unwrap_or(u8::MAX)]);
        data.extend(id);
        // A COSE key: type 1 (octet key pair), algorithm -8, curve 6 (Ed25519), x.
        data.extend([0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20]);
        data.extend(
            self.pair()
                .iter()
                .flat_map(|pair| pair.public_key().as_ref()),
        );
        CreationSent {
            client_data: self.client_data("webauthn.create", challenge),
            authenticator_data: URL_SAFE_NO_PAD.encode(data),
        }
    }

    /// Uses the key.
    pub fn get(&mut self, challenge: &str) -> AssertionSent {
        self.counter = self.counter.map(|count| count.saturating_add(1));
        let client_data = self.client_data("webauthn.get", challenge);
        let data = self.authenticator_data(0);
        let mut message = data.clone();
        let sent = URL_SAFE_NO_PAD.decode(&client_data).unwrap_or_default();
        message.extend(Digest::of_bytes(&sent).as_bytes());
        let signature = self
            .pair()
            .map(|pair| pair.sign(&message).as_ref().to_vec());
        AssertionSent {
            credential: self.credential(),
            client_data,
            authenticator_data: URL_SAFE_NO_PAD.encode(data),
            signature: URL_SAFE_NO_PAD.encode(signature.unwrap_or_default()),
        }
    }

    fn pair(&self) -> Option<Ed25519KeyPair> {
        Ed25519KeyPair::from_seed_unchecked(&self.seed).ok()
    }

    fn credential_bytes(&self) -> Vec<u8> {
        Digest::of_parts([&b"soft key"[..], &self.seed])
            .as_bytes()
            .to_vec()
    }

    fn client_data(&self, ceremony: &str, challenge: &str) -> String {
        let data = serde_json::json!({
            "type": ceremony, "challenge": challenge, "origin": self.origin, "crossOrigin": false,
        });
        URL_SAFE_NO_PAD.encode(data.to_string())
    }

    fn authenticator_data(&self, flags: u8) -> Vec<u8> {
        let mut data = Digest::of_bytes(self.rp_id.as_bytes()).as_bytes().to_vec();
        let present = if self.present { USER_PRESENT } else { 0 };
        let verified = if self.verifies { USER_VERIFIED } else { 0 };
        data.push(flags | present | verified);
        data.extend(self.counter.unwrap_or(0).to_be_bytes());
        data
    }
}
