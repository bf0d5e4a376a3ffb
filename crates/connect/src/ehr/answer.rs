//! What the answer to a write proves. The table is in [`super`].

use chaperone_core::Timestamp;
use chaperone_core::ports::{Version, WriteFailed};
use chaperone_core::resource::ResourceType;
use chaperone_core::writeback::FailureCause;
use reqwest::StatusCode;
use reqwest::header::{ETAG, LOCATION};
use serde_json::Value;

use super::read::is_id;
use crate::egress::Broken;
use crate::http::Answer;
use crate::smart::TokenFailed;

/// The condition under which a write was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// None.
    None,
    /// `If-None-Exist`.
    NoneExist,
    /// `If-Match`.
    Match,
    /// `If-Match`, of a patch.
    MatchPatch,
}

/// A write that the server says it applied, now or earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) id: String,
    pub(super) version: Option<Version>,
    /// Whether the resource was there already, from an earlier attempt.
    pub(super) existed: bool,
}

/// Nothing was sent, or the server refused it.
pub(super) fn not_applied(cause: FailureCause) -> WriteFailed {
    WriteFailed::NotApplied {
        cause,
        retry_after_ms: None,
    }
}

/// No token: the write was not sent.
pub(super) fn token_failed(failed: TokenFailed) -> WriteFailed {
    match failed {
        TokenFailed::Refused => not_applied(FailureCause::Unauthorized),
        TokenFailed::Unavailable => not_applied(FailureCause::Unreachable),
        TokenFailed::RateLimited { retry_after_ms } => WriteFailed::NotApplied {
            cause: FailureCause::RateLimited,
            retry_after_ms,
        },
    }
}

/// No status came back.
pub(super) fn broken(broken: Broken) -> WriteFailed {
    match broken {
        Broken::Refused(_) | Broken::NotSent => not_applied(FailureCause::Unreachable),
        Broken::Interrupted => WriteFailed::Unknown,
    }
}

/// A status other than the ones that mean success.
pub(super) fn refused(answer: &Answer, condition: Condition, now: Timestamp) -> WriteFailed {
    match (answer.status.as_u16(), condition) {
        (409 | 412, Condition::NoneExist) => WriteFailed::Unknown,
        // Servers differ in which of the two they use for a version that is no longer current.
        (409 | 412, Condition::Match) => WriteFailed::Stale,
        // Of a patch, 409 may as well say that it cannot be applied to what is there, which is a refusal.
        (412, Condition::MatchPatch) => WriteFailed::Stale,
        (401 | 403, _) => not_applied(FailureCause::Unauthorized),
        (429, _) => WriteFailed::NotApplied {
            cause: FailureCause::RateLimited,
            retry_after_ms: answer.retry_after_ms(now),
        },
        // 408 may come from something between us and the EHR that has passed the request on.
        (408, _) => WriteFailed::Unknown,
        (400..=431 | 451, _) => not_applied(FailureCause::Rejected),
        // "Send it elsewhere": not done here, and redirects are not followed.
        (307 | 308, _) => not_applied(FailureCause::Rejected),
        _ => WriteFailed::Unknown,
    }
}

/// What a success says about what was made.
///
/// `known_id` is the id of an update. A success that does not say what was made is unknown.
pub(super) fn accepted(
    answer: &Answer,
    resource: &ResourceType,
    known_id: Option<&str>,
    condition: Condition,
) -> Result<Accepted, WriteFailed> {
    let existed = answer.status == StatusCode::OK && condition == Condition::NoneExist;
    let body = answer
        .json()
        .filter(|body| body.get("resourceType").and_then(Value::as_str) == Some(resource.as_str()));
    let location = answer
        .header(LOCATION)
        .or_else(|| answer.header(reqwest::header::CONTENT_LOCATION));
    let stated = Stated {
        location,
        etag: answer.header(ETAG),
        body: body.as_ref(),
    };
    stated.accepted(resource, known_id, existed)
}

/// Where a server may state what it made.
pub(super) struct Stated<'a> {
    pub(super) location: Option<&'a str>,
    pub(super) etag: Option<&'a str>,
    pub(super) body: Option<&'a Value>,
}

impl Stated<'_> {
    pub(super) fn accepted(
        &self,
        resource: &ResourceType,
        known_id: Option<&str>,
        existed: bool,
    ) -> Result<Accepted, WriteFailed> {
        let located = self.location.and_then(|text| read_location(text, resource));
        let in_body = self
            .body
            .and_then(|body| body.get("id"))
            .and_then(Value::as_str)
            .filter(|id| is_id(id))
            .map(str::to_owned);
        let id = match (known_id, &located, in_body) {
            (Some(known), _, _) => known.to_owned(),
            (None, Some((id, _)), _) => id.clone(),
            (None, None, Some(id)) => id,
            (None, None, None) => return Err(WriteFailed::Unknown),
        };
        let version = self
            .etag
            .and_then(read_etag)
            .or_else(|| located.filter(|(at, _)| *at == id).and_then(|(_, v)| v))
            .or_else(|| self.body.and_then(version_of));
        Ok(Accepted {
            id,
            version,
            existed,
        })
    }
}

/// `meta.versionId`, if it can stand in a URL.
pub(super) fn version_of(resource: &Value) -> Option<Version> {
    let version = resource.pointer("/meta/versionId")?.as_str()?;
    is_id(version).then(|| Version(version.to_owned()))
}

/// The version in an ETag, weak or strong.
pub(super) fn read_etag(text: &str) -> Option<Version> {
    let quoted = text.trim();
    let quoted = quoted.strip_prefix("W/").unwrap_or(quoted);
    let version = quoted.strip_prefix('"')?.strip_suffix('"')?;
    is_id(version).then(|| Version(version.to_owned()))
}

/// Id and version from `[base]/[type]/[id]` or `[base]/[type]/[id]/_history/[version]`. Only the names
/// are taken; the URL itself is never followed.
pub(super) fn read_location(
    text: &str,
    resource: &ResourceType,
) -> Option<(String, Option<Version>)> {
    let path = text.split(['?', '#']).next()?;
    let mut parts = path.trim_end_matches('/').rsplit('/');
    let last = parts.next()?;
    let before = parts.next()?;
    let (kind, id, version) = if before == "_history" {
        let id = parts.next()?;
        (parts.next()?, id, Some(last))
    } else {
        (before, last, None)
    };
    let well_formed = kind == resource.as_str() && is_id(id);
    well_formed.then(|| {
        let version = version.filter(|v| is_id(v)).map(|v| Version(v.to_owned()));
        (id.to_owned(), version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderMap;

    fn answer(status: u16) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Ok(Vec::new()),
        }
    }

    #[test]
    fn what_each_status_proves() {
        use Condition::{Match, MatchPatch, None, NoneExist};
        let now = Timestamp::UNIX_EPOCH;
        let rejected = || not_applied(FailureCause::Rejected);
        let cases = [
            (400, None, rejected()),
            (404, None, rejected()),
            (405, NoneExist, rejected()),
            (410, Match, rejected()),
            (422, NoneExist, rejected()),
            (409, None, rejected()),
            (409, NoneExist, WriteFailed::Unknown),
            (412, NoneExist, WriteFailed::Unknown),
            (409, Match, WriteFailed::Stale),
            (412, Match, WriteFailed::Stale),
            (412, None, rejected()),
            (412, MatchPatch, WriteFailed::Stale),
            (409, MatchPatch, rejected()),
            (415, MatchPatch, rejected()),
            (422, MatchPatch, rejected()),
            (500, MatchPatch, WriteFailed::Unknown),
            (401, None, not_applied(FailureCause::Unauthorized)),
            (403, Match, not_applied(FailureCause::Unauthorized)),
            (429, None, not_applied(FailureCause::RateLimited)),
            (408, None, WriteFailed::Unknown),
            (499, None, WriteFailed::Unknown),
            (500, NoneExist, WriteFailed::Unknown),
            (501, None, WriteFailed::Unknown),
            (503, Match, WriteFailed::Unknown),
            (307, None, rejected()),
            (303, None, WriteFailed::Unknown),
            (202, None, WriteFailed::Unknown),
        ];
        for (status, condition, expected) in cases {
            assert_eq!(
                refused(&answer(status), condition, now),
                expected,
                "{status} {condition:?}"
            );
        }
    }

    #[test]
    fn locations_give_names_only() {
        let observation = ResourceType::new("Observation").unwrap();
        let check = |text: &str| read_location(text, &observation);
        let version = |v: &str| Some(Version(v.to_owned()));
        assert_eq!(
            check("https://other.example/fhir/Observation/1/_history/3"),
            Some(("1".to_owned(), version("3")))
        );
        assert_eq!(check("Observation/1"), Some(("1".to_owned(), None)));
        assert_eq!(check("/x/Observation/1/?a=b"), Some(("1".to_owned(), None)));
        for bad in ["Patient/1", "Observation/", "Observation/a%2fb", "1", ""] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }

    #[test]
    fn etags() {
        assert_eq!(read_etag("W/\"3\""), Some(Version("3".to_owned())));
        assert_eq!(read_etag("\"abc-1\""), Some(Version("abc-1".to_owned())));
        for bad in ["3", "W/\"a/b\"", "\"\"", "*"] {
            assert_eq!(read_etag(bad), None, "{bad}");
        }
    }
}
