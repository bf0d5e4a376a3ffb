//! What every HTTP client of this crate has in common: which URLs are acceptable as settings, and how an answer is
//! read without trusting its size.
//!
//! Not here: making clients and sending ([`crate::egress`]), and what an answer means ([`crate::ehr`] and
//! [`crate::smart`]).

use chaperone_core::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, RETRY_AFTER};
use url::{Host, Url};

/// The longest wait that a `Retry-After` is believed, in seconds.
const RETRY_AFTER_S_MAX: i64 = 3_600;

/// Why a URL is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefused {
    /// It does not parse as an absolute URL.
    #[error("`{what}` is not an absolute URL")]
    NotAUrl {
        /// Which setting.
        what: &'static str,
    },
    /// Neither https nor loopback.
    #[error(
        "`{what}` must be https; plain http is accepted for localhost, 127.0.0.0/8 and ::1 only"
    )]
    NotEncrypted {
        /// Which setting.
        what: &'static str,
    },
    /// Credentials, a query or a fragment.
    #[error("`{what}` must not carry a user name, password, query or fragment")]
    Extra {
        /// Which setting.
        what: &'static str,
    },
}

/// Accepts an absolute URL that is https, or http to this machine.
pub(crate) fn acceptable_url(what: &'static str, text: &str) -> Result<Url, UrlRefused> {
    let url = Url::parse(text).map_err(|_| UrlRefused::NotAUrl { what })?;
    let encrypted = match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(&url),
        _ => return Err(UrlRefused::NotEncrypted { what }),
    };
    if !encrypted {
        return Err(UrlRefused::NotEncrypted { what });
    }
    let extra = !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
        || url.fragment().is_some();
    if extra {
        return Err(UrlRefused::Extra { what });
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A base URL under which everything of one server lies.
#[derive(Debug, Clone)]
pub(crate) struct BaseUrl {
    /// With one trailing slash.
    url: Url,
    /// Without trailing slash.
    text: String,
}

impl BaseUrl {
    /// Accepts a base URL, with or without trailing slash.
    pub(crate) fn parse(what: &'static str, text: &str) -> Result<Self, UrlRefused> {
        let given = acceptable_url(what, text)?;
        let text = given.as_str().trim_end_matches('/').to_owned();
        let url = Url::parse(&format!("{text}/")).map_err(|_| UrlRefused::NotAUrl { what })?;
        Ok(Self { url, text })
    }

    /// The URL, with one trailing slash.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Without trailing slash.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// A URL below the base. `path` is made of checked names only.
    pub(crate) fn at(&self, path: &str) -> Option<Url> {
        let url = self.url.join(path).ok()?;
        self.contains(&url).then_some(url)
    }

    /// A link that the server gave, if it stays below the base.
    pub(crate) fn follow(&self, link: &str) -> Option<Url> {
        let url = self.url.join(link).ok()?;
        self.contains(&url).then_some(url)
    }

    fn contains(&self, url: &Url) -> bool {
        let path = url.path();
        url.origin() == self.url.origin()
            && url.username().is_empty()
            && url.password().is_none()
            && (path.starts_with(self.url.path()) || format!("{path}/") == self.url.path())
    }

    /// Whether it is this machine by its very form.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.url)
    }

    /// Whether calls to it are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }
}

/// A body that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyUnusable {
    /// Longer than the limit.
    TooLarge,
    /// Broke off.
    Interrupted,
}

/// What came back: the status stands even where the body broke off.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Result<Vec<u8>, BodyUnusable>,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(self.body.as_ref().ok()?).ok()
    }

    /// `Retry-After`, in milliseconds from `now`: seconds or a date.
    ///
    /// # Source
    /// RFC 9110, section 10.2.3.
    pub(crate) fn retry_after_ms(&self, now: Timestamp) -> Option<i64> {
        let text = self.header(RETRY_AFTER)?.trim();
        let seconds = match text.parse::<i64>() {
            Ok(seconds) => seconds,
            Err(_) => {
                let at = jiff::fmt::rfc2822::DateTimeParser::new()
                    .parse_timestamp(text)
                    .ok()?;
                at.as_second().saturating_sub(now.as_second())
            }
        };
        Some(seconds.clamp(0, RETRY_AFTER_S_MAX).saturating_mul(1_000))
    }
}

/// Reads what came back, at most `body_bytes_max` of its body.
pub(crate) async fn read_answer(mut response: reqwest::Response, body_bytes_max: usize) -> Answer {
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let body = read_body(response, body_bytes_max).await;
    Answer {
        status,
        headers,
        body,
    }
}

async fn read_body(
    mut response: reqwest::Response,
    body_bytes_max: usize,
) -> Result<Vec<u8>, BodyUnusable> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len().saturating_add(chunk.len()) > body_bytes_max => {
                return Err(BodyUnusable::TooLarge);
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(_) => return Err(BodyUnusable::Interrupted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_or_loopback_only() {
        for good in [
            "https://ehr.example/fhir",
            "http://localhost:8080/fhir",
            "http://127.0.0.1:1/",
            "http://127.9.9.9/x",
            "http://[::1]:8080/fhir",
        ] {
            assert!(acceptable_url("base_url", good).is_ok(), "{good}");
        }
        for bad in [
            "http://ehr.example/fhir",
            "http://10.0.0.1/fhir",
            "http://localhost.ehr.example/fhir",
            "ftp://localhost/fhir",
            "/fhir",
            "https://user:secret@ehr.example/fhir",
            "https://ehr.example/fhir?x=1",
            "https://ehr.example/fhir#x",
        ] {
            assert!(acceptable_url("base_url", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_stay_below_the_base() {
        let base = BaseUrl::parse("base_url", "https://ehr.example/fhir/r4").unwrap();
        assert_eq!(base.as_str(), "https://ehr.example/fhir/r4");
        for good in [
            "https://ehr.example/fhir/r4?page=2",
            "https://ehr.example:443/fhir/r4/Patient?page=2",
            "Patient?page=2",
            "/fhir/r4/Patient",
        ] {
            assert!(base.follow(good).is_some(), "{good}");
        }
        for bad in [
            "https://elsewhere.example/fhir/r4?page=2",
            "http://ehr.example/fhir/r4?page=2",
            "https://ehr.example:444/fhir/r4",
            "https://ehr.example/fhir/r4x",
            "https://ehr.example/fhir/r4/../admin",
            "https://ehr.example/fhir/r4/%2e%2e/admin",
            "//elsewhere.example/fhir/r4",
            "../admin",
            "https://user@ehr.example/fhir/r4/Patient",
        ] {
            assert!(base.follow(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let check = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            Answer {
                status: StatusCode::TOO_MANY_REQUESTS,
                headers,
                body: Ok(Vec::new()),
            }
            .retry_after_ms(now)
        };
        assert_eq!(check("7"), Some(7_000));
        assert_eq!(check("-7"), Some(0));
        assert_eq!(check("999999999"), Some(3_600_000));
        assert_eq!(check("Thu, 01 Jan 2026 00:00:30 GMT"), Some(30_000));
        assert_eq!(check("Wed, 31 Dec 2025 00:00:30 GMT"), Some(0));
        assert_eq!(check("soon"), None);
    }
}
