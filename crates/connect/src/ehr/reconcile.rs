//! Finding out what became of a send. Reads only.

use std::cmp::Reverse;

use chaperone_core::Timestamp;
use chaperone_core::content::{content_digest, same_content};
use chaperone_core::evidence::{Delivering, Strategy};
use chaperone_core::ports::{
    EhrReadFailed, EhrSearch, EntryWritten, Found, Reconciliation, There, Version,
};
use chaperone_core::writeback::HumanNeeded;
use serde_json::Value;

use super::FhirEndpoint;
use super::answer::{read_etag, version_of};
use super::read::{Turn, is_id};
use super::sendable::{Part, Sendable, Target};
use super::signature::is_young;
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
        match (sent.order.strategy, sent.part.target) {
            (Strategy::Conditional, _) => self.find_conditional(&sent).await,
            // What is found there, with our identifier and what was sent, took effect, and nothing is sent again.
            // Not found proves nothing: these endpoints do not promise to find what they filed.
            (Strategy::VendorOp | Strategy::EhrStaged, Target::New) => {
                let found = self.find_by_identifier(&sent).await?;
                match Reconciliation::of_all(vec![found])? {
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

    /// What became of everything that was sent under conditions: all of it, nothing, or what no atomic server leaves.
    pub(super) async fn find_conditional(
        &self,
        sent: &Sendable<'_>,
    ) -> Result<Reconciliation, EhrReadFailed> {
        let mut found = Vec::new();
        for part in sent.parts() {
            found.push(self.find_part(part).await?);
        }
        let outcome = Reconciliation::of_all(found)?;
        if outcome == Reconciliation::Undecidable(HumanNeeded::PartlyApplied) {
            tracing::error!(
                connection = %self.connection,
                writeback = %sent.order.writeback,
                "a transaction took effect in part: this EHR is not atomic, whatever it says"
            );
        }
        Ok(outcome)
    }

    /// Whether of several changes none took effect, and one cannot any more, because somebody changed what it is
    /// made of.
    pub(super) async fn overtaken(&self, sent: &Sendable<'_>) -> Result<bool, EhrReadFailed> {
        let mut overtaken = false;
        for part in sent.parts() {
            match self.find_part(part).await? {
                Found::Missing => {}
                Found::Unclear(HumanNeeded::ContentDiffers) if part.target != Target::New => {
                    overtaken = true;
                }
                Found::There(_) | Found::Unclear(_) => return Ok(false),
            }
        }
        Ok(overtaken)
    }

    async fn find_part(&self, part: &Part<'_>) -> Result<Found, EhrReadFailed> {
        match part.target {
            Target::New => self.find_created(part).await,
            Target::Existing { id } => self.find_updated(part, id).await,
        }
    }

    async fn find_by_identifier(&self, sent: &Sendable<'_>) -> Result<Found, EhrReadFailed> {
        let identifier = (
            "urn:chaperone:writeback".to_owned(),
            sent.order.writeback.to_string(),
        );
        // A type without identifiers carries none, so nothing can be looked for.
        if !carries(&sent.part.body, &identifier) {
            return Ok(unclear());
        }
        let value = format!("{}|{}", identifier.0, identifier.1);
        let parameters = vec![("identifier".to_owned(), value)];
        self.find_one(&sent.part, parameters, &identifier).await
    }

    async fn find_created(&self, part: &Part<'_>) -> Result<Found, EhrReadFailed> {
        let Some((parameters, identifier)) = part.change.if_none_exist.and_then(criteria) else {
            return Ok(unclear());
        };
        self.find_one(part, parameters, &identifier).await
    }

    async fn find_one(
        &self,
        part: &Part<'_>,
        parameters: Vec<(String, String)>,
        identifier: &(String, String),
    ) -> Result<Found, EhrReadFailed> {
        let search = EhrSearch {
            resource: part.change.resource.clone(),
            parameters,
            limit: HITS_MAX,
        };
        let found = match self.search_all(Turn::Delivery, search).await {
            Ok(found) => found.resources,
            Err(EhrReadFailed::Unsupported) => return Ok(unclear()),
            Err(failed) => return Err(failed),
        };
        // A server that ignored the criterion proves nothing, whatever it returned.
        if found.iter().any(|hit| !carries(hit, identifier)) {
            return Ok(unclear());
        }
        match found.as_slice() {
            [] => Ok(Found::Missing),
            [one] => self.found_or_earlier(part, one, None).await,
            _ => Ok(Found::Unclear(HumanNeeded::MoreThanOne)),
        }
    }

    async fn find_updated(&self, part: &Part<'_>, id: &str) -> Result<Found, EhrReadFailed> {
        let change = &part.change;
        let base = match change.base_version {
            Some(version) => Some(Version(version.to_owned())),
            None => change.if_match.and_then(read_etag),
        };
        let Some(base) = base else {
            return Ok(unclear());
        };
        let now = match self.read_one(Turn::Delivery, change.resource, id).await {
            Ok(now) => now,
            // Deleted since: whether by then it had taken effect cannot be seen.
            Err(EhrReadFailed::NotFound) => return Ok(unclear()),
            Err(failed) => return Err(failed),
        };
        match version_of(&now) {
            Some(version) if version == base => return Ok(Found::Missing),
            Some(_) => {}
            None => return Ok(unclear()),
        }
        self.found_or_earlier(part, &now, Some(&base)).await
    }

    /// The resource as it is now, or an earlier version of it, if one is what was sent.
    async fn found_or_earlier(
        &self,
        part: &Part<'_>,
        now: &Value,
        base: Option<&Version>,
    ) -> Result<Found, EhrReadFailed> {
        let id = now
            .get("id")
            .and_then(Value::as_str)
            .filter(|id| is_id(id))
            .ok_or(EhrReadFailed::Unusable)?;
        if same_content(&part.body, now) {
            return Ok(Found::There(self.there(part, id, now).await));
        }
        match self.earlier_version(part, id, base).await? {
            Some(earlier) => Ok(Found::There(self.there(part, id, &earlier).await)),
            None => Ok(Found::Unclear(HumanNeeded::ContentDiffers)),
        }
    }

    /// A version after the base whose content is what was sent: it took effect, and was changed again.
    async fn earlier_version(
        &self,
        part: &Part<'_>,
        id: &str,
        base: Option<&Version>,
    ) -> Result<Option<Value>, EhrReadFailed> {
        let path = format!("{}/{id}/_history", part.change.resource);
        let history = match self.get(Turn::Delivery, &path, "Bundle").await {
            Ok(history) => history,
            Err(EhrReadFailed::NotFound | EhrReadFailed::Unsupported | EhrReadFailed::Unusable) => {
                return Ok(None);
            }
            Err(failed) => return Err(failed),
        };
        Ok(versions_after(&history, base)
            .into_iter()
            .find(|version| same_content(&part.body, version))
            .cloned())
    }

    async fn there(&self, part: &Part<'_>, id: &str, version: &Value) -> There {
        let kind = part.change.resource;
        let number = version_of(version);
        let provenance_written =
            part.provenance.is_some() && self.provenance_exists(kind, id, number.as_ref()).await;
        There {
            written: EntryWritten {
                location: location(kind, id, number.as_ref()),
                version: number,
                read_back: Some(content_digest(version)),
            },
            provenance_written,
            is_young: is_young(version, self.clock.now(), self.settle_ms),
        }
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

fn unclear() -> Found {
    Found::Unclear(HumanNeeded::EndpointCannotTell)
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
