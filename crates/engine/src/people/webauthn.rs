//! WebAuthn, the half of whoever relies on it: what an authenticator returned is checked against what was asked.
//!
//! Pure: challenges are made and kept by [`super::passkeys`] and [`super::step_up`]. Attestation is not asked for:
//! a passkey counts because its signed-in holder added it, whoever made the device. User verification is required
//! always, so that a found key opens nothing.
//!
//! Written here because the libraries at hand demand OpenSSL, draw their own randomness, or stand under a licence
//! that this tree does not take ([decision 12](../../../../docs/decisions/0012-passkeys.md)).
//!
//! # Source
//! WebAuthn Level 2 (<https://www.w3.org/TR/webauthn-2/>), sections 7.1 and 7.2; section numbers below are its.

mod cose;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_core::digest::Digest;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use cose::CoseKey;
pub use cose::{EDDSA, ES256, RS256};

/// Length of a challenge, in bytes.
pub const CHALLENGE_BYTES: usize = 32;
/// Longest credential id, in bytes (section 4, credential id).
const CREDENTIAL_BYTES_MAX: usize = 1_023;
/// Longest client data, in bytes.
const CLIENT_DATA_BYTES_MAX: usize = 4_096;
/// Longest authenticator data, in bytes: a credential id, an RSA key and a few extensions.
const AUTHENTICATOR_DATA_BYTES_MAX: usize = 4_096;
/// Longest signature, in bytes: RSA with 4,096 bits.
const SIGNATURE_BYTES_MAX: usize = 512;
/// Length of the fixed part of authenticator data: hash, flags, counter (section 6.1).
const FIXED_BYTES: usize = 37;

const USER_PRESENT: u8 = 0x01;
const USER_VERIFIED: u8 = 0x04;
const HAS_CREDENTIAL: u8 = 0x40;
const HAS_EXTENSIONS: u8 = 0x80;

/// Who relies on passkeys: the name they are bound to, and the addresses of pages that may use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    id: String,
    origins: Vec<String>,
}

/// Why passkeys cannot be bound to a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelyingPartyInvalid {
    /// Browsers bind passkeys to names of hosts.
    #[error(
        "`{0}` is no name of a host in lower case; browsers bind passkeys to no address of numbers"
    )]
    Id(String),
    /// An origin is a scheme, a host and perhaps a port.
    #[error(
        "`{0}` is no origin; write `https://host` or `https://host:port`, or http for localhost"
    )]
    Origin(String),
    /// A page elsewhere can never use them.
    #[error("the origin `{origin}` is neither at `{id}` nor below it")]
    Elsewhere {
        /// The origin.
        origin: String,
        /// The name.
        id: String,
    },
    /// Without an origin nobody can use them.
    #[error("name at least one origin")]
    NoOrigin,
}

impl RelyingParty {
    /// Binds passkeys to a name and the origins that may use them.
    ///
    /// # Errors
    /// [`RelyingPartyInvalid`] names what is wrong.
    pub fn new(id: &str, origins: &[String]) -> Result<Self, RelyingPartyInvalid> {
        let labels_fit = id.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        });
        let is_number = id
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        if !labels_fit || is_number || id.len() > 253 {
            return Err(RelyingPartyInvalid::Id(id.to_owned()));
        }
        if origins.is_empty() {
            return Err(RelyingPartyInvalid::NoOrigin);
        }
        for origin in origins {
            let host =
                host_of(origin).ok_or_else(|| RelyingPartyInvalid::Origin(origin.clone()))?;
            let is_below = host
                .strip_suffix(id)
                .is_some_and(|before| before.is_empty() || before.ends_with('.'));
            if !is_below {
                return Err(RelyingPartyInvalid::Elsewhere {
                    origin: origin.clone(),
                    id: id.to_owned(),
                });
            }
        }
        Ok(Self {
            id: id.to_owned(),
            origins: origins.to_vec(),
        })
    }

    /// What follows from the address of the console; nothing where that is no name of a host.
    pub fn at(base_url: &str) -> Option<Self> {
        let (scheme, rest) = base_url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let origin = format!("{scheme}://{authority}").to_lowercase();
        let host = host_of(&origin)?.to_owned();
        Self::new(&host, &[origin]).ok()
    }

    /// The name that passkeys are bound to.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// The host of an origin that may use passkeys: over TLS, or on this machine.
fn host_of(origin: &str) -> Option<&str> {
    let (scheme, authority) = origin.split_once("://")?;
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok());
    let scheme_fits = match scheme {
        "https" => true,
        "http" => host == "localhost" || host.ends_with(".localhost"),
        _ => false,
    };
    (scheme_fits && port_fits && !host.is_empty() && !host.contains(['/', '@'])).then_some(host)
}

/// Why what came from an authenticator does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasskeyInvalid {
    /// Not the shape that the standard gives it.
    #[error("what the browser sent cannot be read")]
    Malformed,
    /// Made for something else than was asked for.
    #[error("it was made for another kind of request")]
    Ceremony,
    /// Made for another request.
    #[error("it was made for another request, or that request is over")]
    Challenge,
    /// Made on a page of somebody else's.
    #[error("it was made on another site")]
    Origin,
    /// Bound to another name.
    #[error("it belongs to another site")]
    RelyingParty,
    /// Nobody touched the authenticator.
    #[error("nobody confirmed it at the device")]
    NotPresent,
    /// The authenticator did not find out who touched it.
    #[error("the device did not check who you are; use one that asks for a PIN, finger or face")]
    NotVerified,
    /// Not one of the algorithms asked for.
    #[error("the device's kind of key is not supported")]
    Algorithm,
    /// Not made with this key.
    #[error("its signature does not match")]
    Signature,
    /// The counter did not go on: there may be a copy of the key.
    #[error("this key's counter went back, so there may be a copy of it; it is out of use now")]
    CounterBack,
    /// Out of use since its counter went back.
    #[error("this key is out of use, because its counter went back once; remove it")]
    Suspended,
    /// Not a key of this account.
    #[error("this is no key of your account")]
    Unknown,
}

impl PasskeyInvalid {
    /// The stable code, as recorded.
    pub fn code(self) -> &'static str {
        match self {
            PasskeyInvalid::Malformed => "malformed",
            PasskeyInvalid::Ceremony => "other-ceremony",
            PasskeyInvalid::Challenge => "other-challenge",
            PasskeyInvalid::Origin => "other-origin",
            PasskeyInvalid::RelyingParty => "other-relying-party",
            PasskeyInvalid::NotPresent => "user-not-present",
            PasskeyInvalid::NotVerified => "user-not-verified",
            PasskeyInvalid::Algorithm => "algorithm",
            PasskeyInvalid::Signature => "signature",
            PasskeyInvalid::CounterBack => "counter-back",
            PasskeyInvalid::Suspended => "suspended",
            PasskeyInvalid::Unknown => "unknown-key",
        }
    }
}

/// What a browser sends after a key was made, each part in base 64 for addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreationSent {
    /// The client data.
    pub client_data: String,
    /// The authenticator data, which holds credential id and public key.
    pub authenticator_data: String,
}

/// What a browser sends after a key was used, each part in base 64 for addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssertionSent {
    /// The credential id.
    pub credential: String,
    /// The client data.
    pub client_data: String,
    /// The authenticator data.
    pub authenticator_data: String,
    /// The signature over both.
    pub signature: String,
}

/// A new key: credential id and public key in base 64, and where its counter stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NewKey {
    pub(super) credential: String,
    pub(super) public_key: String,
    pub(super) counter: u32,
}

#[derive(Deserialize)]
struct ClientData {
    #[serde(rename = "type")]
    ceremony: String,
    challenge: String,
    origin: String,
    #[serde(rename = "crossOrigin", default)]
    cross_origin: bool,
}

struct AuthenticatorData<'a> {
    flags: u8,
    counter: u32,
    rest: &'a [u8],
}

/// Checks a new key (section 7.1, without attestation).
pub(super) fn check_creation(
    sent: &CreationSent,
    challenge: &[u8; CHALLENGE_BYTES],
    party: &RelyingParty,
) -> Result<NewKey, PasskeyInvalid> {
    let client_data = decode(&sent.client_data, CLIENT_DATA_BYTES_MAX)?;
    check_client_data(&client_data, "webauthn.create", challenge, party)?;
    let bytes = decode(&sent.authenticator_data, AUTHENTICATOR_DATA_BYTES_MAX)?;
    let data = authenticator_data(&bytes, party)?;
    if data.flags & HAS_CREDENTIAL == 0 {
        return Err(PasskeyInvalid::Malformed);
    }
    // The model of the device, then the length of the id, then the id, then the key (section 6.5.1).
    let (_model, rest) = data
        .rest
        .split_first_chunk::<16>()
        .ok_or(PasskeyInvalid::Malformed)?;
    let (length, rest) = rest
        .split_first_chunk::<2>()
        .ok_or(PasskeyInvalid::Malformed)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if !(1..=CREDENTIAL_BYTES_MAX).contains(&length) {
        return Err(PasskeyInvalid::Malformed);
    }
    let (credential, rest) = rest
        .split_at_checked(length)
        .ok_or(PasskeyInvalid::Malformed)?;
    let (_, taken) = CoseKey::read(rest).ok_or(PasskeyInvalid::Algorithm)?;
    let (key, behind) = rest
        .split_at_checked(taken)
        .ok_or(PasskeyInvalid::Malformed)?;
    if !behind.is_empty() && data.flags & HAS_EXTENSIONS == 0 {
        return Err(PasskeyInvalid::Malformed);
    }
    Ok(NewKey {
        credential: URL_SAFE_NO_PAD.encode(credential),
        public_key: URL_SAFE_NO_PAD.encode(key),
        counter: data.counter,
    })
}

/// Checks that a key was used for a challenge (section 7.2), and says where its counter stands. Whether it went on
/// is for [`counter_goes_on`].
pub(super) fn check_assertion(
    sent: &AssertionSent,
    public_key: &str,
    challenge: &[u8; CHALLENGE_BYTES],
    party: &RelyingParty,
) -> Result<u32, PasskeyInvalid> {
    let client_data = decode(&sent.client_data, CLIENT_DATA_BYTES_MAX)?;
    check_client_data(&client_data, "webauthn.get", challenge, party)?;
    let bytes = decode(&sent.authenticator_data, AUTHENTICATOR_DATA_BYTES_MAX)?;
    let data = authenticator_data(&bytes, party)?;
    if data.flags & HAS_CREDENTIAL != 0
        || (!data.rest.is_empty() && data.flags & HAS_EXTENSIONS == 0)
    {
        return Err(PasskeyInvalid::Malformed);
    }
    let signature = decode(&sent.signature, SIGNATURE_BYTES_MAX)?;
    let key = decode(public_key, AUTHENTICATOR_DATA_BYTES_MAX)?;
    let (key, _) = CoseKey::read(&key).ok_or(PasskeyInvalid::Algorithm)?;
    let counter = data.counter;
    let mut message = bytes;
    message.extend(Digest::of_bytes(&client_data).as_bytes());
    if key.verifies(&message, &signature) {
        Ok(counter)
    } else {
        Err(PasskeyInvalid::Signature)
    }
}

/// Whether a counter went on. Authenticators without one say 0 always (section 7.2, step 21).
pub(super) fn counter_goes_on(known: u32, given: u32) -> bool {
    (known == 0 && given == 0) || given > known
}

fn check_client_data(
    bytes: &[u8],
    ceremony: &str,
    challenge: &[u8; CHALLENGE_BYTES],
    party: &RelyingParty,
) -> Result<(), PasskeyInvalid> {
    let data: ClientData = serde_json::from_slice(bytes).map_err(|_| PasskeyInvalid::Malformed)?;
    if data.ceremony != ceremony {
        return Err(PasskeyInvalid::Ceremony);
    }
    let given = decode(&data.challenge, CHALLENGE_BYTES).map_err(|_| PasskeyInvalid::Challenge)?;
    if !bool::from(given.as_slice().ct_eq(challenge.as_slice())) {
        return Err(PasskeyInvalid::Challenge);
    }
    if data.cross_origin || !party.origins.contains(&data.origin) {
        return Err(PasskeyInvalid::Origin);
    }
    Ok(())
}

fn authenticator_data<'a>(
    bytes: &'a [u8],
    party: &RelyingParty,
) -> Result<AuthenticatorData<'a>, PasskeyInvalid> {
    let (fixed, rest) = bytes
        .split_first_chunk::<FIXED_BYTES>()
        .ok_or(PasskeyInvalid::Malformed)?;
    let (hash, tail) = fixed
        .split_first_chunk::<32>()
        .ok_or(PasskeyInvalid::Malformed)?;
    if hash != Digest::of_bytes(party.id.as_bytes()).as_bytes() {
        return Err(PasskeyInvalid::RelyingParty);
    }
    let [flags, a, b, c, d] = tail else {
        return Err(PasskeyInvalid::Malformed);
    };
    if flags & USER_PRESENT == 0 {
        return Err(PasskeyInvalid::NotPresent);
    }
    if flags & USER_VERIFIED == 0 {
        return Err(PasskeyInvalid::NotVerified);
    }
    Ok(AuthenticatorData {
        flags: *flags,
        counter: u32::from_be_bytes([*a, *b, *c, *d]),
        rest,
    })
}

fn decode(text: &str, bytes_max: usize) -> Result<Vec<u8>, PasskeyInvalid> {
    // Four characters for three bytes.
    if text.is_empty() || text.len() > bytes_max.saturating_mul(4).div_ceil(3) {
        return Err(PasskeyInvalid::Malformed);
    }
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| PasskeyInvalid::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_are_bound_to_names_and_to_pages_at_or_below_them() {
        let new = |id: &str, origin: &str| RelyingParty::new(id, &[origin.to_owned()]);
        for (id, origin) in [
            ("localhost", "http://localhost:8443"),
            ("clinic.example", "https://clinic.example"),
            ("clinic.example", "https://console.clinic.example:8443"),
        ] {
            assert!(new(id, origin).is_ok(), "{id} {origin}");
        }
        for (id, origin) in [
            ("127.0.0.1", "http://127.0.0.1:8443"),
            ("Clinic.example", "https://clinic.example"),
            ("clinic.example", "http://clinic.example"),
            ("clinic.example", "https://otherclinic.example"),
            ("clinic.example", "https://clinic.example/console"),
            ("clinic.example", "https://clinic.example:port"),
            ("clinic.example", "https://somebody@clinic.example"),
            ("clinic.example", "clinic.example"),
            ("", "https://clinic.example"),
        ] {
            assert!(new(id, origin).is_err(), "{id} {origin}");
        }
        assert_eq!(
            RelyingParty::new("a.example", &[]),
            Err(RelyingPartyInvalid::NoOrigin)
        );
        let at = RelyingParty::at("https://clinic.example:8443/base").unwrap();
        assert_eq!(
            (at.id(), &at.origins),
            (
                "clinic.example",
                &vec!["https://clinic.example:8443".to_owned()]
            )
        );
        assert_eq!(RelyingParty::at("http://127.0.0.1:8080"), None);
        assert_eq!(RelyingParty::at("http://[::1]:8080"), None);
    }

    #[test]
    fn a_counter_goes_on_or_is_always_nothing() {
        for (known, given, goes_on) in [
            (0, 0, true),
            (0, 1, true),
            (5, 6, true),
            (5, 5, false),
            (5, 4, false),
            (5, 0, false),
        ] {
            assert_eq!(counter_goes_on(known, given), goes_on, "{known} to {given}");
        }
    }
}
