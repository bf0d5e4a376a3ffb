//! Finding out what became of a send. Reads only.

use std::cmp::Reverse;

use chaperone_core::Timestamp;
use chaperone_core::content::{content_digest, same_content};
use chaperone_core::evidence::{Delivering, Strategy};
use chaperone_core::ports::{EhrReadFailed, EhrSearch, Reconciliation, Version, WriteReceipt};
use chaperone_core::writeback::HumanNeeded;
use serde_json::Value;

use super::FhirEndpoint;
use super::answer::{read_etag, version_of};

use super::read::{Turn, is_id};
use super::sendable::{Sendable, Target};
use super::write::location;

/// Two would do to see that there is more than one.
const HITS_MAX: u32 = 3;

/// How many versions are looked through, newest first.
const VERSIONS_MAX: usize = 50;

impl FhirEndpoint {
    pub(super) async fn find_out(
        &self,
        delivering: &Delivering,
    ) -> Result<Reconciliation, EhrReadFailed> {
        // An order for another endpoint, or one that could never have been sent.
        let Ok(sent) = self.sendable(delivering) else {
            return Ok(cannot_tell());
        };
        match (sent.order.strategy, sent.target) {
            (Strategy::Conditional, Target::New) => self.find_created(&sent).await,
            (Strategy::Conditional, Target::Existing { id }) => self.find_updated(&sent, id).await,
            // What is found there, with our identifier and what was sent, took effect, and nothing is sent again.
            // Not found proves nothing: these endpoints do not promise to find what they filed.
            (Strategy::VendorOp | Strategy::EhrStaged, Target::New) => {
                match self.find_by_identifier(&sent).await? {
                    Reconciliation::Missing => Ok(cannot_tell()),
                    found => Ok(found),
                }
            }
            (
                Strategy::PlainPost
                | Strategy::HumanEntry
                | Strategy::VendorOp
                | Strategy::EhrStaged,
                _,
            ) => Ok(cannot_tell()),
        }
    }

    async fn find_by_identifier(
        &self,
        sent: &Sendable<'_>,
    ) -> Result<Reconciliation, EhrReadFailed> {
        let identifier = (
            "urn:chaperone:writeback".to_owned(),
            sent.order.writeback.to_string(),
        );
        // A type without identifiers carries none, so nothing can be looked for.
        if !carries(&sent.body, &identifier) {
            return Ok(cannot_tell());
        }
        let value = format!("{}|{}", identifier.0, identifier.1);
        let parameters = vec![("identifier".to_owned(), value)];
        self.find_one(sent, parameters, &identifier).await
    }

    pub(super) async fn find_created(
        &self,
        sent: &Sendable<'_>,
    ) -> Result<Reconciliation, EhrReadFailed> {
        let Some((parameters, identifier)) = sent.order.if_none_exist.as_deref().and_then(criteria)
        else {
            return Ok(cannot_tell());
        };
        self.find_one(sent, parameters, &identifier).await
    }

    async fn find_one(
        &self,
        sent: &Sendable<'_>,
        parameters: Vec<(String, String)>,
        identifier: &(String, String),
    ) -> Result<Reconciliation, EhrReadFailed> {
        let search = EhrSearch {
            resource: sent.order.resource.clone(),
            parameters,
            limit: HITS_MAX,
        };
        let found = match self.search_all(Turn::Delivery, search).await {
            Ok(found) => found.resources,
            Err(EhrReadFailed::Unsupported) => return Ok(cannot_tell()),
            Err(failed) => return Err(failed),
        };
        // A server that ignored the criterion proves nothing, whatever it returned.
        if found.iter().any(|hit| !carries(hit, identifier)) {
            return Ok(cannot_tell());
        }
        match found.as_slice() {
            [] => Ok(Reconciliation::Missing),
            [one] => self.found_or_earlier(sent, one, None).await,
            _ => Ok(Reconciliation::Undecidable(HumanNeeded::MoreThanOne)),
        }
    }

    async fn find_updated(
        &self,
        sent: &Sendable<'_>,
        id: &str,
    ) -> Result<Reconciliation, EhrReadFailed> {
        let order = sent.order;
        let base = match &order.base_version {
            Some(version) => Some(Version(version.clone())),
            None => order.if_match.as_deref().and_then(read_etag),
        };
        let Some(base) = base else {
            return Ok(cannot_tell());
        };
        let now = match self.read_one(Turn::Delivery, &order.resource, id).await {
            Ok(now) => now,
            // Deleted since: whether by then it had taken effect cannot be seen.
            Err(EhrReadFailed::NotFound) => return Ok(cannot_tell()),
            Err(failed) => return Err(failed),
        };
        match version_of(&now) {
            Some(version) if version == base => return Ok(Reconciliation::Missing),
            Some(_) => {}
            None => return Ok(cannot_tell()),
        }
        self.found_or_earlier(sent, &now, Some(&base)).await
    }

    /// The resource as it is now, or an earlier version of it, if one is what was sent.
    async fn found_or_earlier(
        &self,
        sent: &Sendable<'_>,
        now: &Value,
        base: Option<&Version>,
    ) -> Result<Reconciliation, EhrReadFailed> {
        let id = now
            .get("id")
            .and_then(Value::as_str)
            .filter(|id| is_id(id))
            .ok_or(EhrReadFailed::Unusable)?;
        if same_content(&sent.body, now) {
            return Ok(self.applied(sent, id, now).await);
        }
        match self.earlier_version(sent, id, base).await? {
            Some(earlier) => Ok(self.applied(sent, id, &earlier).await),
            None => Ok(Reconciliation::Undecidable(HumanNeeded::ContentDiffers)),
        }
    }

    /// A version after the base whose content is what was sent: it took effect, and was changed again.
    async fn earlier_version(
        &self,
        sent: &Sendable<'_>,
        id: &str,
        base: Option<&Version>,
    ) -> Result<Option<Value>, EhrReadFailed> {
        let path = format!("{}/{id}/_history", sent.order.resource);
        let history = match self.get(Turn::Delivery, &path, "Bundle").await {
            Ok(history) => history,
            Err(EhrReadFailed::NotFound | EhrReadFailed::Unsupported | EhrReadFailed::Unusable) => {
                return Ok(None);
            }
            Err(failed) => return Err(failed),
        };
        Ok(versions_after(&history, base)
            .into_iter()
            .find(|version| same_content(&sent.body, version))
            .cloned())
    }

    async fn applied(&self, sent: &Sendable<'_>, id: &str, version: &Value) -> Reconciliation {
        let kind = &sent.order.resource;
        let number = version_of(version);
        let provenance_written = sent.order.provenance.is_some()
            && self.provenance_exists(kind, id, number.as_ref()).await;
        Reconciliation::Applied(WriteReceipt {
            location: location(kind, id, number.as_ref()),
            version: number,
            read_back: Some(content_digest(version)),
            provenance_written,
            also: Vec::new(),
        })
    }
}

/// The versions after the base, newest first; all of them without a base, none when the base is not there.
///
/// A history is sorted newest first, but not every server keeps to that, and content that is older than
/// the base must not pass for what was sent. So the times of the versions count, where all have one.
///
/// # Source
/// FHIR R4, RESTful API, "history".
fn versions_after<'a>(history: &'a Value, base: Option<&Version>) -> Vec<&'a Value> {
    let entries = history.get("entry").and_then(Value::as_array);
    let mut versions: Vec<&Value> = entries
        .into_iter()
        .flatten()
        .take(VERSIONS_MAX)
        .filter_map(|entry| entry.get("resource"))
        .collect();
    if versions.iter().all(|version| changed_at(version).is_some()) {
        versions.sort_by_key(|version| Reverse(changed_at(version)));
    }
    if base.is_some() {
        let is_base = |version: &&Value| version_of(version).as_ref() == base;
        versions.truncate(versions.iter().position(is_base).unwrap_or(0));
    }
    versions
}

fn changed_at(version: &Value) -> Option<Timestamp> {
    let text = version.pointer("/meta/lastUpdated")?.as_str()?;
    text.parse().ok()
}

fn cannot_tell() -> Reconciliation {
    Reconciliation::Undecidable(HumanNeeded::EndpointCannotTell)
}

/// The criteria of an `If-None-Exist`, and the business identifier among them.
#[expect(clippy::type_complexity, reason = "private, and used once")]
fn criteria(if_none_exist: &str) -> Option<(Vec<(String, String)>, (String, String))> {
    let parameters: Vec<(String, String)> =
        url::form_urlencoded::parse(if_none_exist.trim_start_matches('?').as_bytes())
            .into_owned()
            .collect();
    let (_, value) = parameters.iter().find(|(name, _)| name == "identifier")?;
    let (system, value) = value.split_once('|')?;
    let identifier = (system.to_owned(), value.to_owned());
    Some((parameters, identifier))
}

/// Whether a resource carries a business identifier.
fn carries(resource: &Value, (system, value): &(String, String)) -> bool {
    let matches = |identifier: &Value| {
        let text = |name| identifier.get(name).and_then(Value::as_str);
        text("system") == Some(system) && text("value") == Some(value)
    };
    match resource.get("identifier") {
        Some(Value::Array(identifiers)) => identifiers.iter().any(matches),
        Some(identifier) => matches(identifier),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_identifier_must_really_be_there() {
        let (parameters, identifier) = criteria("identifier=urn:chaperone:writeback|wb_1").unwrap();
        assert_eq!(parameters.len(), 1);
        let with = |value: &str| json!({"identifier": [{"system": "urn:chaperone:writeback", "value": value}]});
        assert!(carries(&with("wb_1"), &identifier));
        assert!(!carries(&with("wb_2"), &identifier));
        assert!(!carries(&json!({}), &identifier));
        // A QuestionnaireResponse has one identifier, not a list.
        let single = json!({"identifier": {"system": "urn:chaperone:writeback", "value": "wb_1"}});
        assert!(carries(&single, &identifier));
        assert!(criteria("_id=1").is_none());
    }

    fn history(versions: &[(&str, Option<&str>)]) -> Value {
        let entry = |(version, time): &(&str, Option<&str>)| {
            let meta = json!({"versionId": version, "lastUpdated": time});
            json!({"resource": {"meta": meta}})
        };
        json!({"entry": versions.iter().map(entry).collect::<Vec<_>>()})
    }

    #[test]
    fn only_what_came_after_the_base_can_be_what_was_sent() {
        let after = |history: &Value, base: Option<&str>| {
            let base = base.map(|version| Version(version.to_owned()));
            let names = |version: &Value| version_of(version).unwrap().0;
            let versions = versions_after(history, base.as_ref());
            versions.into_iter().map(names).collect::<Vec<_>>()
        };
        let [one, two, three] = [
            ("1", Some("2026-03-02T15:00:00Z")),
            ("2", Some("2026-03-02T10:00:01-05:00")),
            ("3", Some("2026-03-02T15:00:02.5Z")),
        ];
        for order in [
            [three, two, one],
            [one, two, three],
            [three, one, two],
            [two, three, one],
        ] {
            assert_eq!(after(&history(&order), Some("2")), ["3"]);
            assert_eq!(after(&history(&order), Some("1")), ["3", "2"]);
            assert_eq!(after(&history(&order), None), ["3", "2", "1"]);
        }
        // A base that is not there says nothing about what came after it.
        assert!(after(&history(&[three, two]), Some("1")).is_empty());
        // Without times, and among equal ones, the order in which the server lists them counts.
        let timeless = [("3", None), ("2", None), ("1", one.1)];
        assert_eq!(after(&history(&timeless), Some("2")), ["3"]);
        let equal = [("3", one.1), ("2", one.1), ("1", one.1)];
        assert_eq!(after(&history(&equal), Some("2")), ["3"]);
    }
}
