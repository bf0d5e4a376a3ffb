//! Who is there: the session cookie, the signed-in person, and forms that are really theirs.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{COOKIE, HeaderMap, HeaderValue};
use axum::http::request::Parts;
use bytes::Bytes;
use chaperone_core::principal::Human;
use chaperone_engine::people::SecondFactor;
use chaperone_engine::people::sessions::Touch;

use super::refusal::Refusal;
use super::{ConsoleState, CookieSecurity};

/// The header with which the page's script says that it refreshes on its own.
const LIVE: &str = "x-chaperone-live";
/// Length of a session token.
const TOKEN_CHARS: usize = 64;
/// How long a browser keeps what a launch needs, in seconds: as long as the engine does.
const LAUNCH_SECONDS: i64 = chaperone_engine::launch::LAUNCH_SECONDS;
/// Most fields of a form.
const FIELDS_MAX: usize = 64;

impl CookieSecurity {
    fn name(self) -> &'static str {
        match self {
            CookieSecurity::Tls => "__Host-chaperone",
            CookieSecurity::Loopback => "chaperone",
        }
    }

    fn launch_name(self) -> &'static str {
        match self {
            CookieSecurity::Tls => "__Host-chaperone-launch",
            CookieSecurity::Loopback => "chaperone-launch",
        }
    }

    /// The cookie that carries a session, or with an empty token, that ends it.
    pub(super) fn cookie(self, token: &str) -> Option<HeaderValue> {
        let end = if token.is_empty() { "; Max-Age=0" } else { "" };
        self.header(&format!(
            "{}={token}; Path=/; HttpOnly; SameSite=Strict{end}",
            self.name()
        ))
    }

    /// The cookie that binds a launch to this browser, or with an empty token, that ends it. It comes along when the
    /// EHR sends the browser back, and opens nothing by itself.
    pub(super) fn launch_cookie(self, token: &str) -> Option<HeaderValue> {
        let seconds = if token.is_empty() { 0 } else { LAUNCH_SECONDS };
        self.header(&format!(
            "{}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}",
            self.launch_name()
        ))
    }

    fn header(self, cookie: &str) -> Option<HeaderValue> {
        let secure = match self {
            CookieSecurity::Tls => "; Secure",
            CookieSecurity::Loopback => "",
        };
        let mut value = HeaderValue::from_str(&format!("{cookie}{secure}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The token a request carries.
    pub(super) fn token(self, headers: &HeaderMap) -> Option<String> {
        token_in(headers, self.name())
    }

    /// What a request carries of a launch that began in its browser.
    pub(super) fn launch_token(self, headers: &HeaderMap) -> Option<String> {
        token_in(headers, self.launch_name())
    }
}

/// The whole token in a cookie of this name.
fn token_in(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let cookies = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|cookie| cookie.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == wanted)
        .map(|(_, token)| token)
        .filter(|token| token.len() == TOKEN_CHARS && token.bytes().all(|b| b.is_ascii_hexdigit()))
        .map(str::to_owned)
}

/// A person with a session and an enrolled second factor: who every page but a few is for.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub(super) human: Human,
    /// What every form of this session carries.
    pub(super) csrf: String,
}

/// A person with a session whose second factor may still be missing.
#[derive(Debug, Clone)]
pub(super) struct Newcomer {
    pub(super) human: Human,
    pub(super) csrf: String,
    pub(super) second_factor: SecondFactor,
}

impl FromRequestParts<ConsoleState> for Newcomer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &ConsoleState) -> Result<Self, Refusal> {
        let is_live = parts.headers.contains_key(LIVE);
        let nobody = if is_live {
            Refusal::SignInLive
        } else {
            Refusal::SignIn
        };
        let Some(token) = state.cookies.token(&parts.headers) else {
            return Err(nobody);
        };
        let touch = if is_live { Touch::No } else { Touch::Yes };
        let signed_in = state.engine.session(&token, touch).await?.ok_or(nobody)?;
        Ok(Newcomer {
            human: signed_in.human,
            csrf: signed_in.csrf,
            second_factor: signed_in.second_factor,
        })
    }
}

impl FromRequestParts<ConsoleState> for Person {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &ConsoleState) -> Result<Self, Refusal> {
        let someone = Newcomer::from_request_parts(parts, state).await?;
        match someone.second_factor {
            SecondFactor::Enrolled => Ok(Person {
                human: someone.human,
                csrf: someone.csrf,
            }),
            SecondFactor::Missing => Err(Refusal::EnrolFirst),
        }
    }
}

/// The fields of a form. Each name once, but for those read with [`Fields::all`].
#[derive(Default)]
pub(super) struct Fields(BTreeMap<String, Vec<String>>);

impl Fields {
    /// The fields of an address.
    pub(super) fn of_query(query: &str) -> Result<Self, Refusal> {
        Self::parse(query.as_bytes())
    }

    fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (count, (name, value)) in url::form_urlencoded::parse(body).enumerate() {
            if count >= FIELDS_MAX {
                return Err(Refusal::BadRequest("The form has too many fields."));
            }
            fields
                .entry(name.into_owned())
                .or_default()
                .push(value.into_owned());
        }
        Ok(Self(fields))
    }

    /// The value of a field that stands there once; empty when it is absent.
    ///
    /// # Errors
    /// A field that stands there twice: nobody can say which was meant.
    pub(super) fn one(&self, name: &str) -> Result<&str, Refusal> {
        match self.0.get(name).map(Vec::as_slice) {
            None | Some([]) => Ok(""),
            Some([one]) => Ok(one),
            Some(_) => Err(Refusal::BadRequest("The form has a field twice.")),
        }
    }

    /// The fields whose names begin so, by the rest of their names.
    ///
    /// # Errors
    /// A field that stands there twice.
    pub(super) fn starting_with(&self, prefix: &str) -> Result<BTreeMap<String, String>, Refusal> {
        let mut found = BTreeMap::new();
        for name in self.0.keys() {
            if let Some(rest) = name.strip_prefix(prefix) {
                found.insert(rest.to_owned(), self.one(name)?.to_owned());
            }
        }
        Ok(found)
    }

    /// All values of a field that may stand there several times.
    pub(super) fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

/// A form from somebody who is not signed in.
pub(super) struct OpenForm(pub(super) Fields);

impl FromRequest<ConsoleState> for OpenForm {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &ConsoleState) -> Result<Self, Refusal> {
        Ok(Self(fields_of(request, state).await?))
    }
}

/// A form of a signed-in person, with this session's token.
pub(super) struct Submitted {
    pub(super) person: Person,
    pub(super) fields: Fields,
}

impl FromRequest<ConsoleState> for Submitted {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &ConsoleState) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let person = Person::from_request_parts(&mut parts, state).await?;
        let fields = fields_of(Request::from_parts(parts, body), state).await?;
        check_token(&fields, &person.csrf)?;
        Ok(Self { person, fields })
    }
}

/// A form of a person whose second factor may still be missing.
pub(super) struct NewcomerForm {
    pub(super) newcomer: Newcomer,
    pub(super) fields: Fields,
}

impl FromRequest<ConsoleState> for NewcomerForm {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &ConsoleState) -> Result<Self, Refusal> {
        let (mut parts, body) = request.into_parts();
        let newcomer = Newcomer::from_request_parts(&mut parts, state).await?;
        let fields = fields_of(Request::from_parts(parts, body), state).await?;
        check_token(&fields, &newcomer.csrf)?;
        Ok(Self { newcomer, fields })
    }
}

async fn fields_of(request: Request, state: &ConsoleState) -> Result<Fields, Refusal> {
    let body = Bytes::from_request(request, state)
        .await
        .map_err(|_| Refusal::BadRequest("The form could not be read, or is too large."))?;
    Fields::parse(&body)
}

fn check_token(fields: &Fields, expected: &str) -> Result<(), Refusal> {
    if chaperone_engine::people::sessions::same_token(fields.one("csrf")?, expected) {
        Ok(())
    } else {
        Err(Refusal::Forbidden(
            "This form is not one of your current session. Open the page again.",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_strict_and_over_tls_bound_to_the_host() {
        let token = "a".repeat(64);
        let text = |cookies: CookieSecurity, token: &str| {
            cookies.cookie(token).unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(
            text(CookieSecurity::Tls, &token),
            format!("__Host-chaperone={token}; Path=/; HttpOnly; SameSite=Strict; Secure")
        );
        let launch = CookieSecurity::Tls.launch_cookie(&token).unwrap();
        assert_eq!(
            launch.to_str().unwrap(),
            format!(
                "__Host-chaperone-launch={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age=600; Secure"
            )
        );
        assert!(!text(CookieSecurity::Loopback, &token).contains("Secure"));
        assert!(text(CookieSecurity::Tls, "").contains("Max-Age=0"));
    }

    #[test]
    fn only_a_whole_token_under_the_right_name_counts() {
        let token = "0123456789abcdef".repeat(4);
        let found = |cookies: CookieSecurity, header: String| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_str(&header).unwrap());
            cookies.token(&headers).is_some()
        };
        assert!(found(
            CookieSecurity::Loopback,
            format!("a=b; chaperone={token}")
        ));
        assert!(!found(CookieSecurity::Tls, format!("chaperone={token}")));
        assert!(!found(
            CookieSecurity::Loopback,
            format!("chaperone={}", &token[1..])
        ));
        assert!(!found(
            CookieSecurity::Loopback,
            format!("chaperone={}x", &token[1..])
        ));
    }

    #[test]
    fn a_field_given_twice_is_refused() {
        let fields = Fields::parse(&Bytes::from_static(b"a=1&b=2&b=3&c=x%20y+z")).unwrap();
        assert_eq!(fields.one("a"), Ok("1"));
        assert_eq!(fields.one("c"), Ok("x y z"));
        assert_eq!(fields.one("absent"), Ok(""));
        assert!(fields.one("b").is_err());
        assert_eq!(fields.all("b"), ["2", "3"]);
        let many = vec!["a=1"; FIELDS_MAX + 1].join("&");
        assert!(Fields::parse(&Bytes::from(many)).is_err());
    }
}
