//! Launches from inside the EHR: the sandbox plays its authorization server for people, who are all signed in already.
//!
//! `/oauth/launcher` is the button in the EHR: it issues a launch context and sends the browser to the app. In process,
//! [`crate::SandboxHandle::open_launch`] does the same, and can have the identity that follows be wrong in one way.
//!
//! # Source
//! SMART App Launch 2.2, "EHR Launch", "Token Introspection" left out; RFC 7636; RFC 9207.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::auth::{
    Authority, BackendClient, ClientsInvalid, TokenRefused, TokenRequest, new_token,
};

/// Lifetime of a launch context and of a code.
const LIFETIME: SignedDuration = SignedDuration::from_secs(300);
/// Lifetime of an identity.
const IDENTITY_S: i64 = 300;
/// The most launches and codes at once.
const OPEN_MAX: usize = 10_000;
const KEY_ID: &str = "sandbox-identity";

/// The app that may be launched.
#[derive(Debug, Clone)]
pub struct LaunchClient {
    /// The `client_id`.
    pub client_id: String,
    /// Its public keys, as a JSON Web Key Set.
    pub jwks: Value,
    /// Where it is launched.
    pub launch_url: String,
    /// Where people are sent back to; compared byte for byte.
    pub redirect_uri: String,
}

/// What is open in the EHR when somebody launches the app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenInEhr {
    /// Who, `Practitioner/[id]`.
    pub user: String,
    /// The logical id of the patient.
    pub patient: Option<String>,
    /// What a card gave along.
    pub app_context: Option<String>,
}

/// One way in which the identity after a launch is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityFlaw {
    /// It repeats another nonce.
    OtherNonce,
    /// It is meant for another client.
    OtherAudience,
    /// It is meant for several, and authorized for another.
    OtherParty,
    /// It is from another issuer.
    OtherIssuer,
    /// Its time is over.
    Expired,
    /// It was issued in an hour.
    Future,
    /// A key signed it that is not among the published ones, under the name of one that is.
    OtherKey,
    /// Nobody signed it (`alg` is `none`).
    Unsigned,
    /// It is signed by a secret: the published key taken as one.
    SharedSecret,
    /// It does not say who.
    NoUser,
}

#[derive(Debug, Clone)]
struct Opened {
    context: OpenInEhr,
    flaw: Option<IdentityFlaw>,
    until: Timestamp,
}

#[derive(Debug, Clone)]
struct Code {
    opened: Opened,
    nonce: String,
    challenge: String,
}

#[derive(Debug, Default)]
struct Open {
    launches: HashMap<String, Opened>,
    codes: HashMap<String, Code>,
}

/// The authorization server for launches.
pub(crate) struct LaunchAuthority {
    client: LaunchClient,
    clients: Authority,
    base_url: String,
    issuer: String,
    key: EncodingKey,
    other_key: EncodingKey,
    jwks: Value,
    open: Mutex<Open>,
}

impl LaunchAuthority {
    pub(crate) fn new(
        client: LaunchClient,
        base_url: &str,
        issuer: &str,
        token_url: &str,
    ) -> Result<Self, ClientsInvalid> {
        let registered = BackendClient {
            client_id: client.client_id.clone(),
            jwks: client.jwks.clone(),
            scopes: Vec::new(),
        };
        let clients = Authority::new(&[registered], token_url.to_owned())?;
        let unusable = || ClientsInvalid::Keys {
            client_id: KEY_ID.to_owned(),
        };
        let (key, jwk) = identity_key().ok_or_else(unusable)?;
        let (other_key, _) = identity_key().ok_or_else(unusable)?;
        Ok(Self {
            client,
            clients,
            base_url: base_url.to_owned(),
            issuer: issuer.to_owned(),
            key,
            other_key,
            jwks: json!({ "keys": [jwk] }),
            open: Mutex::default(),
        })
    }

    /// What it adds to `/.well-known/smart-configuration`.
    pub(crate) fn add_to(&self, configuration: &mut Value) {
        let Some(all) = configuration.as_object_mut() else {
            return;
        };
        let own = json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/oauth/jwks", self.issuer),
            "authorization_endpoint": format!("{}/oauth/authorize", self.issuer),
            "token_endpoint": format!("{}/oauth/token", self.issuer),
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "response_types_supported": ["code"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        });
        if let Value::Object(own) = own {
            all.extend(own);
        }
    }

    pub(crate) fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// Issues a launch context; none where too many are open.
    pub(crate) fn open(
        &self,
        context: OpenInEhr,
        flaw: Option<IdentityFlaw>,
        now: Timestamp,
    ) -> Option<String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.forget_expired(now);
        if open.launches.len() >= OPEN_MAX {
            return None;
        }
        let id = new_token()?;
        let until = now.checked_add(LIFETIME).unwrap_or(now);
        let opened = Opened {
            context,
            flaw,
            until,
        };
        open.launches.insert(id.clone(), opened);
        Some(id)
    }

    /// Where the app is launched with a launch context.
    pub(crate) fn launch_address(&self, launch: &str) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("iss", &self.base_url)
            .append_pair("launch", launch)
            .finish();
        format!("{}?{query}", self.client.launch_url)
    }

    /// Where an authorization request leads: back to the app with a code, or nowhere.
    pub(crate) fn authorize(
        &self,
        asked: &HashMap<String, String>,
        now: Timestamp,
    ) -> Result<String, &'static str> {
        let text = |name: &str| asked.get(name).map_or("", String::as_str);
        // Nobody is sent to an address that is not the app's own.
        if text("client_id") != self.client.client_id
            || text("redirect_uri") != self.client.redirect_uri
        {
            return Err("the client is not registered with this redirect_uri");
        }
        if text("response_type") != "code" || text("aud") != self.base_url {
            return Err("response_type must be code, and aud this server's FHIR endpoint");
        }
        if text("code_challenge_method") != "S256" || text("code_challenge").len() != 43 {
            return Err("PKCE with S256 is asked for");
        }
        let has_scopes = ["launch", "openid", "fhirUser"]
            .iter()
            .all(|scope| text("scope").split(' ').any(|one| one == *scope));
        if !has_scopes || text("state").is_empty() || text("nonce").is_empty() {
            return Err("scope, state or nonce is missing");
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.forget_expired(now);
        let opened = open
            .launches
            .remove(text("launch"))
            .ok_or("the launch is not known")?;
        let code = new_token().ok_or("no randomness is available")?;
        let known = Code {
            opened,
            nonce: text("nonce").to_owned(),
            challenge: text("code_challenge").to_owned(),
        };
        open.codes.insert(code.clone(), known);
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("code", &code)
            .append_pair("state", text("state"))
            .append_pair("iss", &self.issuer)
            .finish();
        Ok(format!("{}?{query}", self.client.redirect_uri))
    }

    /// Exchanges a code.
    pub(crate) fn redeem(
        &self,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<Value, TokenRefused> {
        let refused = |error, description| TokenRefused { error, description };
        let assertion = request
            .client_assertion
            .as_deref()
            .ok_or_else(|| refused("invalid_client", "client_assertion is missing"))?;
        self.clients.verify(assertion, now)?;
        let given = request.code.as_deref().unwrap_or_default();
        let known = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.forget_expired(now);
            open.codes.remove(given)
        };
        let known = known
            .ok_or_else(|| refused("invalid_grant", "the code is unknown, used or too old"))?;
        let verifier = request.code_verifier.as_deref().unwrap_or_default();
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        if challenge != known.challenge {
            return Err(refused(
                "invalid_grant",
                "the verifier is not the challenge's",
            ));
        }
        if request.redirect_uri.as_deref() != Some(self.client.redirect_uri.as_str()) {
            return Err(refused("invalid_grant", "the redirect_uri is another"));
        }
        let failed = || refused("server_error", "no token could be made");
        let identity = self.identity(&known, now).ok_or_else(failed)?;
        let mut answer = json!({
            "access_token": new_token().ok_or_else(failed)?,
            "token_type": "Bearer",
            "expires_in": IDENTITY_S,
            "scope": "launch openid fhirUser",
            "id_token": identity,
        });
        let context = &known.opened.context;
        for (name, value) in [
            ("patient", &context.patient),
            ("appContext", &context.app_context),
        ] {
            if let (Some(all), Some(value)) = (answer.as_object_mut(), value) {
                all.insert(name.to_owned(), json!(value));
            }
        }
        Ok(answer)
    }

    fn identity(&self, code: &Code, now: Timestamp) -> Option<String> {
        use IdentityFlaw as F;
        let flaw = code.opened.flaw;
        let is = |one: F| flaw == Some(one);
        let at = now.as_second();
        let mut claims = json!({
            "iss": if is(F::OtherIssuer) { "https://elsewhere.example" } else { &self.issuer },
            "sub": "sandbox-user",
            "aud": if is(F::OtherAudience) { "another-app" } else { &self.client.client_id },
            "iat": if is(F::Future) { at + 3_600 } else { at },
            "exp": if is(F::Expired) { at - 3_600 } else { at + IDENTITY_S },
            "nonce": if is(F::OtherNonce) { "another" } else { &code.nonce },
            "fhirUser": format!("{}/{}", self.base_url, code.opened.context.user),
        });
        let all = claims.as_object_mut()?;
        if is(F::OtherParty) {
            all.insert(
                "aud".to_owned(),
                json!([self.client.client_id, "another-app"]),
            );
            all.insert("azp".to_owned(), json!("another-app"));
        }
        if is(F::NoUser) {
            all.remove("fhirUser");
        }
        if is(F::Unsigned) {
            let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let header = part(json!({ "alg": "none", "kid": KEY_ID }));
            return Some(format!("{header}.{}.", part(claims)));
        }
        let (algorithm, key) = match flaw {
            Some(F::SharedSecret) => {
                let secret = self.jwks.to_string();
                let key = EncodingKey::from_secret(secret.as_bytes());
                return signed(Algorithm::HS256, &claims, &key);
            }
            Some(F::OtherKey) => (Algorithm::ES384, &self.other_key),
            _ => (Algorithm::ES384, &self.key),
        };
        signed(algorithm, &claims, key)
    }
}

impl Open {
    fn forget_expired(&mut self, now: Timestamp) {
        self.launches.retain(|_, opened| opened.until > now);
        self.codes.retain(|_, code| code.opened.until > now);
    }
}

fn signed(algorithm: Algorithm, claims: &Value, key: &EncodingKey) -> Option<String> {
    let mut header = Header::new(algorithm);
    header.kid = Some(KEY_ID.to_owned());
    encode(&header, claims, key).ok()
}

/// A key, and its public half as a JSON Web Key.
fn identity_key() -> Option<(EncodingKey, Value)> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).ok()?;
    // An uncompressed point: 4, then x and y of 48 bytes each.
    let point = pair.public_key().as_ref();
    let jwk = json!({
        "kty": "EC", "crv": "P-384", "use": "sig", "alg": "ES384", "kid": KEY_ID,
        "x": URL_SAFE_NO_PAD.encode(point.get(1..49)?),
        "y": URL_SAFE_NO_PAD.encode(point.get(49..97)?),
    });
    let der = pair.to_pkcs8v1().ok()?;
    Some((EncodingKey::from_ec_der(der.as_ref()), jwk))
}
