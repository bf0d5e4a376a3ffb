//! Whether somebody may act in a patient's place: the EHR says so, each time, and nobody else.
//!
//! A proxy is a `RelatedPerson` that is active, names exactly this patient, is within its period, and has a
//! relationship that `rules/verification.toml` lists. For adolescents nobody counts as one. Which of the checks
//! failed is nobody's to learn who holds a portal's secret: one answer for all.
//!
//! # Source
//! 45 CFR 164.502(g): personal representatives, and their limits for minors.

use chaperone_core::Timestamp;
use chaperone_core::ids::{PatientToken, ResourceToken};
use chaperone_core::ports::EhrReadFailed;
use chaperone_core::resource::ResourceType;
use chaperone_fhir::plausibility::When;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span};
use serde_json::Value;

use super::VerifyFailed;
use super::trust::ProxyRules;
use crate::context::Engine;
use crate::observe::birth_date;
use crate::tokens::TokenTarget;

/// How far behind and ahead of UTC it is somewhere: a birthday that may be today counts against.
const FARTHEST_BEHIND_UTC: SignedDuration = SignedDuration::from_hours(12);
const FARTHEST_AHEAD_OF_UTC: SignedDuration = SignedDuration::from_hours(14);

impl Engine {
    /// Whether the EHR shows that a person may act in a patient's place; the token that the person is recorded by.
    ///
    /// # Errors
    /// [`VerifyFailed::Proxy`], and [`VerifyFailed::Ehr`] where the EHR does not say.
    pub(super) async fn proxy_of(
        &self,
        reference: &str,
        (patient, patient_id): (PatientToken, &str),
    ) -> Result<ResourceToken, VerifyFailed> {
        let named = self.own(reference, "RelatedPerson");
        let id = named.ok_or(VerifyFailed::Proxy)?;
        let now = self.now();
        let related_kind = ResourceType::new("RelatedPerson").map_err(|_| VerifyFailed::Proxy)?;
        let patient_kind = ResourceType::new("Patient").map_err(|_| VerifyFailed::Proxy)?;
        let (related, person) = futures::join!(
            self.ehr.read(&related_kind, id),
            self.ehr.read(&patient_kind, patient_id)
        );
        let (related, person) = (found(related)?, found(person)?);
        let is_it = related.get("resourceType").and_then(Value::as_str) == Some("RelatedPerson")
            && related.get("id").and_then(Value::as_str) == Some(id);
        let of_whom = related.pointer("/patient/reference");
        let of_whom = of_whom.and_then(Value::as_str);
        let is_theirs = of_whom.and_then(|it| self.own(it, "Patient")) == Some(patient_id);
        let rules = self.tables.trust().proxies();
        let ages = ages(&person, now).ok_or(VerifyFailed::Proxy)?;
        if !is_it || !is_theirs || !is_in_force(&related, now) || !rules.permits(&related, ages) {
            return Err(VerifyFailed::Proxy);
        }
        let target = TokenTarget {
            resource: related_kind,
            id: id.to_owned(),
            patient: Some(patient),
        };
        let tokens = self.resource_tokens(&[target]).await?;
        tokens.first().copied().ok_or(VerifyFailed::Proxy)
    }
}

fn found(read: Result<Value, EhrReadFailed>) -> Result<Value, VerifyFailed> {
    read.map_err(|failed| match failed {
        EhrReadFailed::NotFound => VerifyFailed::Proxy,
        failed => VerifyFailed::Ehr(failed),
    })
}

/// The least and the greatest age that a patient may have now, in whole years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ages {
    least: i64,
    greatest: i64,
}

fn ages(patient: &Value, now: Timestamp) -> Option<Ages> {
    let text = patient.get("birthDate").and_then(Value::as_str)?;
    let latest = birth_date(text)?;
    let earliest = match text.len() {
        4 => Date::new(latest.year(), 1, 1).ok()?,
        7 => latest.first_of_month(),
        _ => latest,
    };
    let today = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
    let years = |born: Date, today: Date| -> Option<i64> {
        (0..=150)
            .take_while(|years| {
                born.checked_add(Span::new().years(*years))
                    .is_ok_and(|birthday| birthday <= today)
            })
            .last()
    };
    Some(Ages {
        least: years(latest, today(now.checked_sub(FARTHEST_BEHIND_UTC).ok()?))?,
        greatest: years(
            earliest,
            today(now.checked_add(FARTHEST_AHEAD_OF_UTC).ok()?),
        )?,
    })
}

/// Whether a relationship is active and within its period. One that ends today counts as ended.
fn is_in_force(related: &Value, now: Timestamp) -> bool {
    let at = |pointer: &str| match related.pointer(pointer) {
        None => Some(None),
        Some(value) => value
            .as_str()
            .and_then(|it| When::parse(it, None))
            .map(Some),
    };
    let (Some(start), Some(end)) = (at("/period/start"), at("/period/end")) else {
        return false;
    };
    related.get("active") == Some(&Value::Bool(true))
        && start.is_none_or(|start| start.latest <= now)
        && end.is_none_or(|end| end.earliest > now)
}

impl ProxyRules {
    /// Whether a patient is of an age in which nobody stands in for them, or may be. Who has no age may.
    pub(super) fn may_be_adolescent(&self, patient: &Value, now: Timestamp) -> bool {
        ages(patient, now).is_none_or(|ages| self.is_or_may_be_between(ages))
    }

    fn is_or_may_be_between(&self, ages: Ages) -> bool {
        ages.greatest >= i64::from(self.nobody_from_years)
            && ages.least < i64::from(self.nobody_below_years)
    }

    fn permits(&self, related: &Value, ages: Ages) -> bool {
        if self.is_or_may_be_between(ages) {
            return false;
        }
        let is_child = ages.greatest < i64::from(self.nobody_from_years);
        let relationships = related.get("relationship").and_then(Value::as_array);
        relationships
            .into_iter()
            .flatten()
            .filter_map(|concept| concept.get("coding")?.as_array())
            .flatten()
            .filter(|coding| {
                coding.get("system").and_then(Value::as_str) == Some(self.system.as_str())
            })
            .filter_map(|coding| coding.get("code")?.as_str())
            .any(|code| {
                self.authorities.contains(code) || (is_child && self.parents.contains(code))
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::trust::Trust;
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn an_age_that_is_not_certain_is_all_that_it_may_be() {
        let now = at("2027-03-01T06:00:00Z");
        let ages_of =
            |born: &str| ages(&json!({ "birthDate": born }), now).map(|it| (it.least, it.greatest));
        assert_eq!(ages_of("1950-02-03"), Some((77, 77)));
        // It is still the day before somewhere, and already the day after elsewhere.
        assert_eq!(ages_of("2015-03-01"), Some((11, 12)));
        assert_eq!(ages_of("2015"), Some((11, 12)));
        assert_eq!(ages_of("2015-02"), Some((12, 12)));
        assert_eq!(ages_of("2030"), None);
        assert_eq!(ages_of("unknown"), None);
        assert_eq!(ages(&json!({}), now), None);
    }

    #[test]
    fn authority_is_active_within_its_time_and_of_a_listed_relationship() {
        let trust: Trust = toml::from_str(include_str!(
            "../../../../governance/rules/verification.toml"
        ))
        .unwrap();
        let rules = trust.proxies();
        let now = at("2027-03-01T12:00:00Z");
        let related = |code: &str| {
            json!({
                "resourceType": "RelatedPerson", "active": true,
                "period": { "start": "2026-01-01", "end": "2027-03-03" },
                "relationship": [{ "coding": [{ "system": rules.system, "code": code }] }],
            })
        };
        let is_one = |related: &Value, least: i64, greatest: i64| {
            is_in_force(related, now) && rules.permits(related, Ages { least, greatest })
        };
        let guardian = related("GUARD");
        assert!(is_one(&guardian, 77, 77) && is_one(&guardian, 18, 18));
        assert!(is_one(&guardian, 11, 11));
        // Nobody stands in for an adolescent, nor for somebody who may be one.
        assert!(!is_one(&guardian, 12, 12) && !is_one(&guardian, 17, 17));
        assert!(!is_one(&guardian, 11, 12) && !is_one(&guardian, 17, 18));
        // A mother speaks for her small child, not for her grown one; a neighbour for nobody.
        assert!(is_one(&related("MTH"), 3, 3));
        assert!(!is_one(&related("MTH"), 30, 30));
        assert!(!is_one(&related("NBOR"), 30, 30));
        let with = |key: &str, value: Value| {
            let mut changed = guardian.clone();
            changed[key] = value;
            changed
        };
        for other in [
            with("active", json!(false)),
            with("active", Value::Null),
            with("period", json!({ "end": "2027-03-01" })),
            with("period", json!({ "end": "soon" })),
            with("period", json!({ "start": "2027-03-02" })),
            with("relationship", json!([{ "text": "GUARD" }])),
            with(
                "relationship",
                json!([{ "coding": [{ "system": "urn:x", "code": "GUARD" }] }]),
            ),
        ] {
            assert!(!is_one(&other, 77, 77), "{other}");
        }
        assert!(is_one(&with("period", json!({})), 77, 77));
    }
}
