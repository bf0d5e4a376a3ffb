//! SMART Backend Services for the sandbox: a token endpoint and the check of bearer tokens.
//!
//! Not the authorisation server of Chaperone: this one plays the EHR's. Start at
//! [`Authentication`].
//!
//! # Source
//! SMART App Launch 2.2, Backend Services,
//! <https://hl7.org/fhir/smart-app-launch/backend-services.html>; RFC 7523.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::interaction::Interaction;

/// Lifetime of an access token.
const TOKEN_LIFETIME: SignedDuration = SignedDuration::from_secs(300);
/// The furthest `exp` of an assertion may lie ahead.
const ASSERTION_LIFETIME_MAX: SignedDuration = SignedDuration::from_secs(300);
/// The most live tokens, and the most remembered assertion ids.
const REMEMBERED_MAX: usize = 10_000;
/// Random bytes in an access token.
const TOKEN_BYTES: usize = 32;
/// The signature algorithms taken: the two that SMART demands, and Ed25519.
const ALGORITHMS: [(Algorithm, &str); 3] = [
    (Algorithm::RS384, "RS384"),
    (Algorithm::ES384, "ES384"),
    (Algorithm::EdDSA, "EdDSA"),
];
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Whether and how clients prove who they are.
#[derive(Debug, Clone)]
pub enum Authentication {
    /// Anybody who reaches the port may do anything.
    None,
    /// `private_key_jwt` at `/oauth/token`, then a bearer token on every request but metadata.
    SmartBackend {
        /// The registered clients.
        clients: Vec<BackendClient>,
    },
}

/// One registered client.
#[derive(Debug, Clone)]
pub struct BackendClient {
    /// The `client_id`.
    pub client_id: String,
    /// Its public keys, as a JSON Web Key Set.
    pub jwks: Value,
    /// What it may ask for: `system/*.read`, `system/Patient.read`, `system/*.write`, or SMART v2
    /// letters such as `system/*.rs` and `system/Appointment.cu`.
    pub scopes: Vec<String>,
}

/// What a request needs a token for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Permission {
    Read,
    Search,
    Create,
    Update,
    Delete,
}

#[derive(Debug, Clone)]
struct Scope {
    text: String,
    /// `None` for every type.
    resource_type: Option<String>,
    permissions: Vec<Permission>,
}

impl Scope {
    fn parse(text: &str) -> Option<Self> {
        let (resource_type, letters) = text.strip_prefix("system/")?.split_once('.')?;
        let permissions = match letters {
            "read" => vec![Permission::Read, Permission::Search],
            "write" => vec![Permission::Create, Permission::Update, Permission::Delete],
            "*" => "cruds".chars().filter_map(letter).collect(),
            letters => {
                let parsed: Vec<_> = letters.chars().filter_map(letter).collect();
                if parsed.is_empty() || parsed.len() != letters.chars().count() {
                    return None;
                }
                parsed
            }
        };
        Some(Self {
            text: text.to_owned(),
            resource_type: (resource_type != "*").then(|| resource_type.to_owned()),
            permissions,
        })
    }

    fn permits(&self, permission: Permission, resource_type: &str) -> bool {
        self.permissions.contains(&permission)
            && self
                .resource_type
                .as_deref()
                .is_none_or(|own| own == resource_type)
    }
}

fn letter(letter: char) -> Option<Permission> {
    match letter {
        'c' => Some(Permission::Create),
        'r' => Some(Permission::Read),
        'u' => Some(Permission::Update),
        'd' => Some(Permission::Delete),
        's' => Some(Permission::Search),
        _ => None,
    }
}

fn needed(interaction: &Interaction) -> Option<(Permission, &'static str)> {
    let permission = match interaction {
        Interaction::Metadata | Interaction::Bundle | Interaction::FileEntry => return None,
        Interaction::Read { .. }
        | Interaction::VersionRead { .. }
        | Interaction::History { .. } => Permission::Read,
        Interaction::Search { .. } => Permission::Search,
        Interaction::Create { .. } => Permission::Create,
        Interaction::Update { .. } | Interaction::Patch { .. } => Permission::Update,
        Interaction::Delete { .. } => Permission::Delete,
    };
    interaction.kind().map(|kind| (permission, kind.name))
}

/// Why the configured clients cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientsInvalid {
    /// The keys are not a JSON Web Key Set with at least one key.
    #[error("the keys of client `{client_id}` are not a usable JSON Web Key Set")]
    Keys {
        /// Whose keys.
        client_id: String,
    },
    /// A scope is not of the form `system/<type or *>.<permissions>`.
    #[error("client `{client_id}` has the scope `{scope}`, which is not a SMART system scope")]
    Scope {
        /// Whose scope.
        client_id: String,
        /// The scope.
        scope: String,
    },
}

/// Why a bearer token does not admit a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// 401: no token, or one that is unknown or expired.
    Unauthorized,
    /// 403: the token's scopes do not cover the request.
    Forbidden,
}

/// An OAuth error of the token endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRefused {
    pub(crate) error: &'static str,
    pub(crate) description: &'static str,
}

/// What the token endpoint is sent.
#[derive(Debug, Default)]
pub(crate) struct TokenRequest {
    grant_type: Option<String>,
    scope: Option<String>,
    client_assertion_type: Option<String>,
    pub(crate) client_assertion: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) code_verifier: Option<String>,
    pub(crate) redirect_uri: Option<String>,
}

impl TokenRequest {
    /// Reads the form; `None` when a parameter is repeated (RFC 6749, section 3.2).
    pub(crate) fn of_form(body: &[u8]) -> Option<Self> {
        let mut request = Self::default();
        for (name, value) in url::form_urlencoded::parse(body) {
            let place = match name.as_ref() {
                "grant_type" => &mut request.grant_type,
                "scope" => &mut request.scope,
                "client_assertion_type" => &mut request.client_assertion_type,
                "client_assertion" => &mut request.client_assertion,
                "code" => &mut request.code,
                "code_verifier" => &mut request.code_verifier,
                "redirect_uri" => &mut request.redirect_uri,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        Some(request)
    }

    /// Whether it exchanges a code, and not a client's own word, for a token.
    pub(crate) fn has_code(&self) -> bool {
        self.grant_type.as_deref() == Some("authorization_code")
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    jti: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug)]
struct Client {
    keys: JwkSet,
    scopes: Vec<Scope>,
}

#[derive(Debug)]
struct Grant {
    scopes: Vec<Scope>,
    expires: Timestamp,
}

#[derive(Debug, Default)]
struct Remembered {
    grants: HashMap<String, Grant>,
    /// Used assertions, by client and `jti`, until they expire.
    assertions: HashMap<(String, String), Timestamp>,
}

/// The running authorisation server.
#[derive(Debug)]
pub(crate) struct Authority {
    clients: HashMap<String, Client>,
    token_url: String,
    remembered: Mutex<Remembered>,
}

impl Authority {
    pub(crate) fn new(
        clients: &[BackendClient],
        token_url: String,
    ) -> Result<Self, ClientsInvalid> {
        let mut known = HashMap::new();
        for client in clients {
            let client_id = client.client_id.clone();
            let keys: JwkSet = serde_json::from_value(client.jwks.clone())
                .ok()
                .filter(|keys: &JwkSet| !keys.keys.is_empty())
                .ok_or_else(|| ClientsInvalid::Keys {
                    client_id: client_id.clone(),
                })?;
            let scopes = client
                .scopes
                .iter()
                .map(|scope| {
                    Scope::parse(scope).ok_or_else(|| ClientsInvalid::Scope {
                        client_id: client_id.clone(),
                        scope: scope.clone(),
                    })
                })
                .collect::<Result<_, _>>()?;
            known.insert(client_id, Client { keys, scopes });
        }
        Ok(Self {
            clients: known,
            token_url,
            remembered: Mutex::default(),
        })
    }

    /// What `/.well-known/smart-configuration` says.
    pub(crate) fn smart_configuration(&self) -> Value {
        let algorithms: Vec<&str> = ALGORITHMS.iter().map(|(_, name)| *name).collect();
        json!({
            "token_endpoint": self.token_url,
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": ["system/*.read", "system/*.write", "system/*.rs", "system/*.cud"],
            "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
        })
    }

    /// Checks a client assertion and issues a token.
    pub(crate) fn issue(
        &self,
        request: &TokenRequest,
        now: Timestamp,
    ) -> Result<Value, TokenRefused> {
        let refused = |error, description| TokenRefused { error, description };
        if request.grant_type.as_deref() != Some("client_credentials") {
            return Err(refused(
                "unsupported_grant_type",
                "only client_credentials is offered",
            ));
        }
        if request.client_assertion_type.as_deref() != Some(ASSERTION_TYPE) {
            return Err(refused(
                "invalid_request",
                "client_assertion_type must be jwt-bearer",
            ));
        }
        let assertion = request
            .client_assertion
            .as_deref()
            .ok_or_else(|| refused("invalid_request", "client_assertion is missing"))?;
        let (client_id, claims) = self.verify(assertion, now)?;
        let client = self
            .clients
            .get(&client_id)
            .ok_or_else(|| refused("invalid_client", "the client is not registered"))?;
        let wanted = request.scope.as_deref().unwrap_or("");
        let scopes: Vec<Scope> = client
            .scopes
            .iter()
            .filter(|scope| wanted.split(' ').any(|text| text == scope.text))
            .cloned()
            .collect();
        if scopes.is_empty() {
            return Err(refused(
                "invalid_scope",
                "no scope asked for is granted to this client",
            ));
        }
        let token =
            new_token().ok_or_else(|| refused("server_error", "no randomness is available"))?;
        let granted = scopes
            .iter()
            .map(|scope| scope.text.as_str())
            .collect::<Vec<_>>()
            .join(" ");

        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        remembered.forget_expired(now);
        if remembered.grants.len() >= REMEMBERED_MAX
            || remembered.assertions.len() >= REMEMBERED_MAX
        {
            return Err(refused("temporarily_unavailable", "too many live tokens"));
        }
        let expires_claim = Timestamp::from_second(claims.exp).unwrap_or(now);
        if remembered
            .assertions
            .insert((client_id, claims.jti), expires_claim)
            .is_some()
        {
            return Err(refused("invalid_client", "the assertion was used before"));
        }
        let expires = now.checked_add(TOKEN_LIFETIME).unwrap_or(now);
        remembered
            .grants
            .insert(token.clone(), Grant { scopes, expires });
        Ok(json!({
            "access_token": token,
            "token_type": "bearer",
            "expires_in": TOKEN_LIFETIME.as_secs(),
            "scope": granted,
        }))
    }

    /// Which client signed an assertion.
    pub(crate) fn verify(
        &self,
        assertion: &str,
        now: Timestamp,
    ) -> Result<(String, Claims), TokenRefused> {
        let refused = |description| TokenRefused {
            error: "invalid_client",
            description,
        };
        let header = decode_header(assertion).map_err(|_| refused("the assertion is not a JWT"))?;
        if !ALGORITHMS
            .iter()
            .any(|(algorithm, _)| *algorithm == header.alg)
        {
            return Err(refused("the assertion's algorithm is not accepted"));
        }
        let mut validation = Validation::new(header.alg);
        // Times are compared with the sandbox's own clock below, audience there too.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        for (client_id, client) in &self.clients {
            let keys = client.keys.keys.iter().filter(|key| {
                header.kid.is_none()
                    || key.common.key_id.is_none()
                    || key.common.key_id == header.kid
            });
            for key in keys {
                let Ok(key) = DecodingKey::from_jwk(key) else {
                    continue;
                };
                let Ok(token) = decode::<Claims>(assertion, &key, &validation) else {
                    continue;
                };
                if token.claims.iss != *client_id {
                    continue;
                }
                self.check_claims(&token.claims, now)?;
                return Ok((client_id.clone(), token.claims));
            }
        }
        Err(refused("no registered key verifies the assertion"))
    }

    fn check_claims(&self, claims: &Claims, now: Timestamp) -> Result<(), TokenRefused> {
        let refused = |description| TokenRefused {
            error: "invalid_client",
            description,
        };
        if claims.sub != claims.iss {
            return Err(refused("sub and iss of the assertion differ"));
        }
        let meant_for_us = match &claims.aud {
            Audience::One(audience) => *audience == self.token_url,
            Audience::Many(audiences) => audiences.contains(&self.token_url),
        };
        if !meant_for_us {
            return Err(refused("aud of the assertion is not this token endpoint"));
        }
        let expires = Timestamp::from_second(claims.exp)
            .map_err(|_| refused("exp of the assertion is out of range"))?;
        if expires <= now {
            return Err(refused("the assertion has expired"));
        }
        if expires.duration_since(now) > ASSERTION_LIFETIME_MAX {
            return Err(refused(
                "the assertion expires more than five minutes ahead",
            ));
        }
        Ok(())
    }

    /// Whether the token admits the request; `interactions` are those of its bundle, or itself.
    pub(crate) fn admits(
        &self,
        token: Option<&str>,
        interactions: &[&Interaction],
        now: Timestamp,
    ) -> Result<(), Denied> {
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let grant = token
            .and_then(|token| remembered.grants.get(token))
            .filter(|grant| grant.expires > now)
            .ok_or(Denied::Unauthorized)?;
        let covered = interactions
            .iter()
            .filter_map(|interaction| needed(interaction))
            .all(|(permission, resource_type)| {
                grant
                    .scopes
                    .iter()
                    .any(|scope| scope.permits(permission, resource_type))
            });
        if covered {
            Ok(())
        } else {
            Err(Denied::Forbidden)
        }
    }
}

impl Remembered {
    fn forget_expired(&mut self, now: Timestamp) {
        self.grants.retain(|_, grant| grant.expires > now);
        self.assertions.retain(|_, expires| *expires > now);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the sandbox plays another party's server, whose tokens nobody may predict"
)]
pub(crate) fn new_token() -> Option<String> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_cover_what_they_say_and_nothing_else() {
        let read = Scope::parse("system/*.read").unwrap();
        assert!(read.permits(Permission::Search, "Patient"));
        assert!(!read.permits(Permission::Create, "Patient"));
        let narrow = Scope::parse("system/Appointment.cu").unwrap();
        assert!(narrow.permits(Permission::Create, "Appointment"));
        assert!(!narrow.permits(Permission::Create, "Patient"));
        assert!(!narrow.permits(Permission::Delete, "Appointment"));
        for bad in [
            "patient/*.read",
            "system/*.x",
            "system/*.",
            "system/Patient",
        ] {
            assert!(Scope::parse(bad).is_none(), "{bad}");
        }
    }
}
