//! Renewals under a delegated protocol: `rules/refill-protocols.toml`, and whether one covers a renewal now.
//!
//! ```text
//! not renewed yet ─▶ signed, in force ─▶ drug, how much ─▶ whose prescription, how old ─▶ seen, measured lately
//! ```
//!
//! All of it is the bundle's word, what the EHR says now, or the order itself; an agent's word counts nowhere. What
//! cannot be looked up is not covered. Not here: interactions, allergies and doses (rule M-10 and the order checks of
//! `chaperone_fhir::plausibility`), and who approves, which the ruling carries (`chaperone_core::protocol`).
//! Start at [`Engine::refill_protocol`], and [`Engine::renewal_still_holds`] for the look right before the send.
//!
//! # Source
//! Row 34a of the write-back matrix.

use std::collections::BTreeSet;

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::WriteOrder;
use chaperone_core::ids::{AccountName, ProtocolId, WritebackId};
use chaperone_core::ports::EhrReadFailed;
use chaperone_core::protocol::ProtocolCited;
use chaperone_core::resource::ResourceType;
use chaperone_fhir::plausibility::{Plausibility, When, has_final_result};
use chaperone_fhir::references::ReferenceForm;
use chaperone_policy::Bundle;
use jiff::SignedDuration;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::{Engine, StartFailed};
use crate::merge::WRITEBACK_SYSTEM;
use crate::observe::is_unchanged;
use crate::propose::{Inputs, Measured};
use crate::tables::table;

const FILE: &str = "rules/refill-protocols.toml";
/// Most protocols of one bundle.
const PROTOCOLS_MAX: usize = 256;
/// Longest span that a protocol may look back, in days.
const DAYS_MAX: i64 = 2 * 366;
/// Most repeats that a protocol may allow, and days of one supply.
const REFILLS_MAX: i64 = 11;
const SUPPLY_DAYS_MAX: i64 = 100;
const UCUM: &str = "http://unitsofmeasure.org";
/// The fact that a protocol covers a renewal.
pub(crate) use chaperone_policy::facts::PROTOCOL_IN_FORCE;
/// The element by which an order says what it renews.
const PRIOR: &str = "priorPrescription";
/// States of an order that was never given to anybody.
const NEVER_GIVEN: [&str; 2] = ["cancelled", "entered-in-error"];

/// A measurement that a protocol asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lab {
    /// In words, for who reads the table.
    what: String,
    /// LOINC codes; any of them will do.
    codes: BTreeSet<String>,
    within_days: i64,
    /// The least and the greatest value that the newest result may have, both in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minimum: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    maximum: Option<f64>,
    /// UCUM code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

impl Lab {
    fn fault(&self) -> Option<&'static str> {
        if self.codes.is_empty() || self.what.is_empty() {
            return Some("a laboratory value needs `what` and `codes`");
        }
        let bounds = [self.minimum, self.maximum];
        let has_bounds = bounds.iter().any(Option::is_some);
        if has_bounds != self.unit.is_some() {
            return Some("a laboratory value has a `unit` where it has bounds, and only there");
        }
        let is_number = |bound: &f64| bound.is_finite();
        if !bounds.iter().flatten().all(is_number)
            || matches!(bounds, [Some(low), Some(high)] if low > high)
        {
            return Some("`minimum` of a laboratory value must not be above its `maximum`");
        }
        None
    }

    /// Whether results show what the protocol asks: one is final and certainly measured since a time, and those that
    /// may be the newest are within its bounds, also one that is not final yet, and one that does not say of when it is.
    fn is_met_by(&self, results: &[(Measured, Value)], since: Timestamp) -> bool {
        let is_first_number = |it: &Value| {
            it.get("status").and_then(Value::as_str) == Some("preliminary")
                && it.pointer("/valueQuantity/value").is_some()
        };
        let counts = |it: &Value| has_final_result(it) || is_first_number(it);
        let counting = || results.iter().filter(|(_, it)| counts(it));
        let Some(newest) = counting().map(|(at, _)| at.earliest).max() else {
            return false;
        };
        let mut may_be_newest = counting().filter(|(at, _)| at.latest >= newest);
        let certainly = |(at, it): &(Measured, Value)| at.earliest >= since && has_final_result(it);
        results.iter().any(certainly) && may_be_newest.all(|(_, it)| self.is_within_bounds(it))
    }

    /// Whether a number is certainly within the bounds. In another unit, nobody knows.
    fn is_within_bounds(&self, result: &Value) -> bool {
        let Some(unit) = &self.unit else {
            return true;
        };
        let quantity = result.get("valueQuantity").unwrap_or(&Value::Null);
        let text = |name: &str| quantity.get(name).and_then(Value::as_str);
        let is_comparable = text("system") == Some(UCUM)
            && text("code") == Some(unit.as_str())
            && quantity.get("comparator").is_none();
        let value = quantity.get("value").and_then(Value::as_f64);
        is_comparable
            && value.is_some_and(|value| {
                self.minimum.is_none_or(|least| value >= least)
                    && self.maximum.is_none_or(|most| value <= most)
            })
    }
}

/// That a prescriber signed exactly what a protocol says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    prescriber: String,
    at: Timestamp,
    digest: Digest,
}

/// One protocol. Its signature is over everything else, so the order of the fields is part of the digest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Protocol {
    id: ProtocolId,
    version: u32,
    source: String,
    owner: String,
    reviewed: Date,
    review_by: Date,
    /// `Practitioner/[id]` at the EHR.
    prescriber: String,
    from: Date,
    until: Date,
    approvers: BTreeSet<AccountName>,
    drugs: BTreeSet<String>,
    #[serde(default)]
    excludes: BTreeSet<String>,
    refills_max: i64,
    supply_days_max: i64,
    prescribed_within_days: i64,
    visit_within_days: i64,
    #[serde(default)]
    labs: Vec<Lab>,
    #[serde(default, skip_serializing)]
    signature: Option<Signature>,
}

/// The table.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Protocols {
    #[serde(default)]
    protocols: Vec<Protocol>,
}

/// How it stands with a protocol, for whoever keeps the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolStanding {
    /// The protocol.
    pub id: ProtocolId,
    /// Its version.
    pub version: u32,
    /// The digest of what there is to sign.
    pub digest: Digest,
    /// Whether its signature is over exactly that, by its prescriber.
    pub is_signed: bool,
}

/// How it stands with the protocols of a bundle.
///
/// # Errors
/// [`StartFailed::Table`] when the table cannot be used.
pub fn protocols_of(bundle: &Bundle) -> Result<Vec<ProtocolStanding>, StartFailed> {
    let rules = crate::propose::RuleSet::read(bundle).map_err(|e| StartFailed::Table {
        file: FILE,
        why: e.to_string(),
    })?;
    let read = Protocols::read(bundle, &rules.plausibility)?;
    let standing = |it: &Protocol| ProtocolStanding {
        id: it.id.clone(),
        version: it.version,
        digest: it.digest(),
        is_signed: it.is_signed(),
    };
    Ok(read.protocols.iter().map(standing).collect())
}

impl Protocols {
    /// Reads the table of a bundle. One without the file has no protocol.
    ///
    /// # Errors
    /// [`StartFailed::Table`] says what is wrong.
    pub(crate) fn read(bundle: &Bundle, rules: &Plausibility) -> Result<Self, StartFailed> {
        if bundle.rule_text("refill-protocols").is_none() {
            return Ok(Self::default());
        }
        let read: Self = table(bundle, FILE)?;
        let named: BTreeSet<&ProtocolId> = read.protocols.iter().map(|it| &it.id).collect();
        let why = if named.len() < read.protocols.len() {
            Some("two protocols have one id".to_owned())
        } else if read.protocols.len() > PROTOCOLS_MAX {
            Some(format!("there are more than {PROTOCOLS_MAX} protocols"))
        } else {
            read.protocols
                .iter()
                .find_map(|it| Some(format!("`{}`: {}", it.id, it.fault(rules)?)))
        };
        match why {
            Some(why) => Err(StartFailed::Table { file: FILE, why }),
            None => Ok(read),
        }
    }

    /// Those who wrote the protocols that are in force, as the EHR names them.
    pub(crate) fn prescribers(&self, now: Timestamp) -> Vec<String> {
        let in_force = self.protocols.iter().filter(|it| it.is_in_force(now));
        in_force.map(|it| it.prescriber.clone()).collect()
    }
}

impl Protocol {
    /// The digest that its prescriber signs.
    fn digest(&self) -> Digest {
        // Plain data of strings and numbers: serialising it cannot fail, and nothing would not be what was signed.
        Digest::of_bytes(&serde_json::to_vec(self).unwrap_or_default())
    }

    fn fault(&self, rules: &Plausibility) -> Option<String> {
        let is_practitioner = self
            .prescriber
            .strip_prefix("Practitioner/")
            .is_some_and(|id| !id.is_empty() && !id.contains('/'));
        if !is_practitioner {
            return Some("`prescriber` must be `Practitioner/[id]`".to_owned());
        }
        if self.approvers.is_empty() || self.drugs.is_empty() {
            return Some("it names nobody who approves, or no drug".to_owned());
        }
        let stray = |name: &&String| !rules.has_drug_called(name);
        if let Some(stray) = self.drugs.iter().chain(&self.excludes).find(stray) {
            return Some(format!(
                "no drug, class or trait of rules/medications.toml is called `{stray}`"
            ));
        }
        if self.from >= self.until {
            return Some("`from` must be before `until`".to_owned());
        }
        let days = [self.prescribed_within_days, self.visit_within_days];
        let of_labs = self.labs.iter().map(|it| it.within_days);
        if days
            .into_iter()
            .chain(of_labs)
            .any(|it| !(1..=DAYS_MAX).contains(&it))
        {
            return Some(format!("spans of days must be 1 to {DAYS_MAX}"));
        }
        if let Some(why) = self.labs.iter().find_map(Lab::fault) {
            return Some(why.to_owned());
        }
        if !(0..=REFILLS_MAX).contains(&self.refills_max)
            || !(1..=SUPPLY_DAYS_MAX).contains(&self.supply_days_max)
        {
            return Some(format!(
                "`refills_max` must be at most {REFILLS_MAX} and `supply_days_max` 1 to {SUPPLY_DAYS_MAX}"
            ));
        }
        None
    }

    /// From when on it no longer counts: its end, or the day after it should have been reviewed.
    fn ends(&self) -> Option<Timestamp> {
        let unreviewed = self.review_by.tomorrow().ok()?;
        let end = self.until.min(unreviewed);
        end.to_zoned(TimeZone::UTC).ok().map(|it| it.timestamp())
    }

    fn is_signed(&self) -> bool {
        self.signature
            .as_ref()
            .is_some_and(|it| it.prescriber == self.prescriber && it.digest == self.digest())
    }

    fn is_in_force(&self, now: Timestamp) -> bool {
        let from = self.from.to_zoned(TimeZone::UTC);
        let begins = from.is_ok_and(|from| from.timestamp() <= now);
        let was_signed = self.signature.as_ref().is_some_and(|it| it.at <= now);
        self.is_signed() && was_signed && begins && self.ends().is_some_and(|end| now < end)
    }

    /// What a ruling under it carries.
    fn cited(&self) -> Option<ProtocolCited> {
        Some(ProtocolCited {
            id: self.id.clone(),
            version: self.version,
            approvers: self.approvers.clone(),
            until: self.ends()?,
        })
    }

    /// What the order and the prior prescription themselves say. What the patient's record says beside is asked of
    /// the EHR.
    fn covers(&self, renewal: &Renewal<'_>, rules: &Plausibility, now: Timestamp) -> bool {
        let concept = renewal.order.get("medicationCodeableConcept");
        let concept = concept.unwrap_or(&Value::Null);
        let is_theirs = [renewal.order, renewal.prior].into_iter().all(|it| {
            it.pointer("/requester/reference").and_then(Value::as_str)
                == Some(self.prescriber.as_str())
        });
        let prior = |name: &str| renewal.prior.get(name).and_then(Value::as_str);
        let is_recent = prior("authoredOn")
            .and_then(|text| When::parse(text, None))
            .is_some_and(|at| is_within(at, self.prescribed_within_days, now));
        self.is_in_force(now)
            && rules.is_only_of(concept, &self.drugs)
            && !rules.is_any_of(concept, &self.excludes)
            && is_theirs
            // What is a renewal itself may have been made under a protocol, which would go on for ever.
            && renewal.prior.get(PRIOR).is_none()
            && prior("status") == Some("active")
            && prior("intent") == Some("order")
            && is_recent
            && repeats(renewal.order).is_some_and(|it| (0..=self.refills_max).contains(&it))
            && supply_days(renewal.order).is_some_and(|it| (1..=self.supply_days_max).contains(&it))
    }
}

/// An order, and what it renews.
struct Renewal<'a> {
    order: &'a Value,
    prior: &'a Value,
}

fn repeats(order: &Value) -> Option<i64> {
    order
        .pointer("/dispenseRequest/numberOfRepeatsAllowed")?
        .as_i64()
}

fn supply_days(order: &Value) -> Option<i64> {
    let supply = order.pointer("/dispenseRequest/expectedSupplyDuration")?;
    let text = |name: &str| supply.get(name).and_then(Value::as_str);
    (text("system") == Some(UCUM) && text("code") == Some("d"))
        .then(|| supply.get("value")?.as_i64())
        .flatten()
}

/// Whether something was certainly within so many days, and is not still to come.
fn is_within(at: When, days: i64, now: Timestamp) -> bool {
    since(days, now).is_some_and(|since| at.earliest >= since && at.earliest <= now)
}

fn since(days: i64, now: Timestamp) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::from_hours(24 * days)).ok()
}

impl Engine {
    /// The protocol that covers a renewal now, if there is one. What cannot be looked up is not covered.
    pub(crate) async fn refill_protocol(
        &self,
        inputs: &Inputs,
        order: &Value,
    ) -> Option<ProtocolCited> {
        let now = self.now();
        let renewal = Renewal {
            order,
            prior: inputs.resources.get("prior")?,
        };
        let patient = inputs.patient_id.as_deref()?;
        if self.is_renewed_otherwise(patient, order, None).await != Ok(false) {
            return None;
        }
        let rules = &self.rules.plausibility;
        for protocol in &self.tables.refills().protocols {
            if protocol.covers(&renewal, rules, now)
                && self.was_seen_and_measured(protocol, patient, now).await == Ok(true)
            {
                return protocol.cited();
            }
        }
        None
    }

    /// Whether the patient was there, and was measured, as a protocol asks.
    async fn was_seen_and_measured(
        &self,
        protocol: &Protocol,
        patient: &str,
        now: Timestamp,
    ) -> Result<bool, EhrReadFailed> {
        let Some(seen) = since(protocol.visit_within_days, now) else {
            return Ok(false);
        };
        if !self.was_there_since(patient, seen, now).await? {
            return Ok(false);
        }
        for lab in &protocol.labs {
            let Some(from) = since(lab.within_days, now) else {
                return Ok(false);
            };
            let results = self.results_since(patient, &lab.codes, from, now).await?;
            if !lab.is_met_by(&results, from) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether what a renewal was ruled on is still so, all of it: its protocol covers it as it did, the prescription
    /// is what it was, nothing else renewed it, the patient was seen and measured as the protocol asks, and every
    /// check of the order and of a refill finds nothing.
    ///
    /// # Errors
    /// When the EHR does not say.
    pub(crate) async fn renewal_still_holds(
        &self,
        sent: &WriteOrder,
    ) -> Result<bool, EhrReadFailed> {
        let cited = sent.asked.as_ref().and_then(|it| it.protocol.as_ref());
        let order: Value = serde_json::from_str(&sent.body).unwrap_or_default();
        let named = |element| target(&order, element);
        let (Some(cited), Some((kind, prior)), Some((_, patient))) =
            (cited, named(PRIOR), named("subject"))
        else {
            return Ok(false);
        };
        let Ok(kind) = ResourceType::new(kind) else {
            return Ok(false);
        };
        let prior = match self.ehr.read(&kind, prior).await {
            Ok(prior) => prior,
            Err(EhrReadFailed::NotFound) => return Ok(false),
            Err(failed) => return Err(failed),
        };
        let renewal = Renewal {
            order: &order,
            prior: &prior,
        };
        let (rules, now) = (&self.rules.plausibility, self.now());
        let protocols = &self.tables.refills().protocols;
        let covering = protocols
            .iter()
            .filter(|it| it.cited().as_ref() == Some(cited))
            .find(|it| it.covers(&renewal, rules, now));
        let is_as_it_was = is_unchanged(&prior, &order) && self.belongs_to(&prior, patient);
        let Some(protocol) = covering.filter(|_| is_as_it_was) else {
            return Ok(false);
        };
        let own = Some(sent.writeback);
        Ok(!self.is_renewed_otherwise(patient, &order, own).await?
            && self.was_seen_and_measured(protocol, patient, now).await?
            && self.is_a_clean_refill(sent, prior.clone(), patient).await?)
    }

    /// Whether an order beside our own renews, or is to renew, what an order renews. What ended since counts too:
    /// somebody ended it. So does more than can be looked through.
    async fn is_renewed_otherwise(
        &self,
        patient: &str,
        order: &Value,
        own: Option<WritebackId>,
    ) -> Result<bool, EhrReadFailed> {
        let Some(all) = self.all_medication_requests(patient).await? else {
            return Ok(true);
        };
        let is_own = |it: &Value| {
            let identifiers = it.get("identifier").and_then(Value::as_array);
            own.is_some_and(|own| {
                let own = own.to_string();
                identifiers.into_iter().flatten().any(|identifier| {
                    let text = |name: &str| identifier.get(name).and_then(Value::as_str);
                    text("system") == Some(WRITEBACK_SYSTEM) && text("value") == Some(own.as_str())
                })
            })
        };
        let renewed = target(order, PRIOR);
        Ok(all.iter().any(|it| {
            let status = it.get("status").and_then(Value::as_str);
            let counts = !status.is_some_and(|status| NEVER_GIVEN.contains(&status));
            // What names no prescription that one could tell may be a renewal of this one.
            let is_of_it = it.get(PRIOR).is_some()
                && target(it, PRIOR).is_none_or(|target| Some(target) == renewed);
            counts && is_of_it && !is_own(it)
        }))
    }
}

/// Type and id of what an element of an order refers to.
fn target<'v>(order: &'v Value, element: &str) -> Option<(&'v str, &'v str)> {
    match ReferenceForm::parse(order.get(element)?.get("reference")?.as_str()?) {
        ReferenceForm::Typed {
            resource_type, id, ..
        } => Some((resource_type, id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What the tests change, and nothing else of it.
    const PROTOCOL: &str = r#"
        id = "statin-renewal"
        version = 1
        source = "standing order"
        owner = "medication safety team"
        reviewed = "2027-01-04"
        review_by = "2027-12-31"
        prescriber = "Practitioner/d1"
        from = "2027-01-05"
        until = "2028-06-01"
        approvers = ["nurse-1"]
        drugs = ["statin"]
        excludes = ["simvastatin"]
        refills_max = 1
        supply_days_max = 90
        prescribed_within_days = 365
        visit_within_days = 365
    "#;

    fn rules() -> Plausibility {
        let bundle = Bundle::load(&chaperone_policy::embedded::files()).unwrap();
        crate::propose::RuleSet::read(&bundle).unwrap().plausibility
    }

    fn signed(text: &str) -> Protocol {
        let mut protocol: Protocol = toml::from_str(text).unwrap();
        protocol.signature = Some(Signature {
            prescriber: protocol.prescriber.clone(),
            at: "2027-01-04T16:20:00Z".parse().unwrap(),
            digest: protocol.digest(),
        });
        protocol
    }

    fn prescription(drug: &str) -> Value {
        json!({
            "resourceType": "MedicationRequest", "status": "active", "intent": "order",
            "authoredOn": "2027-02-01", "requester": { "reference": "Practitioner/d1" },
            "medicationCodeableConcept": { "text": drug },
            "dispenseRequest": {
                "numberOfRepeatsAllowed": 1,
                "expectedSupplyDuration": { "value": 90, "unit": "d", "system": UCUM, "code": "d" },
            },
        })
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_protocol_covers_what_it_says_and_nothing_beside_it() {
        let rules = rules();
        let protocol = signed(PROTOCOL);
        let now = at("2027-06-01T12:00:00Z");
        let with = |pointer: &str, value: Value| {
            let mut changed = prescription("atorvastatin 20 MG Oral Tablet");
            *changed.pointer_mut(pointer).unwrap() = value;
            changed
        };
        let right = prescription("atorvastatin 20 MG Oral Tablet");
        let covers = |order: &Value, prior: &Value| {
            let renewal = Renewal { order, prior };
            protocol.covers(&renewal, &rules, now)
        };
        assert!(covers(&right, &right));
        for (what, order, prior) in [
            (
                "a drug of another class",
                prescription("lisinopril 10 MG Oral Tablet"),
                right.clone(),
            ),
            (
                "a drug that it leaves out",
                prescription("simvastatin 20 MG Oral Tablet"),
                right.clone(),
            ),
            (
                "another ingredient beside it",
                prescription("atorvastatin 20 MG / amlodipine 5 MG Oral Tablet"),
                right.clone(),
            ),
            ("an unknown drug", prescription("nonesuch"), right.clone()),
            (
                "one repeat more",
                with("/dispenseRequest/numberOfRepeatsAllowed", json!(2)),
                right.clone(),
            ),
            (
                "one day more",
                with("/dispenseRequest/expectedSupplyDuration/value", json!(91)),
                right.clone(),
            ),
            (
                "another unit",
                with("/dispenseRequest/expectedSupplyDuration/code", json!("mo")),
                right.clone(),
            ),
            (
                "another requester",
                with("/requester/reference", json!("Practitioner/d2")),
                right.clone(),
            ),
            (
                "another's prescription",
                right.clone(),
                with("/requester/reference", json!("Practitioner/d2")),
            ),
            (
                "one that is stopped",
                right.clone(),
                with("/status", json!("stopped")),
            ),
            (
                "one that is only planned",
                right.clone(),
                with("/intent", json!("plan")),
            ),
            ("one that is a renewal itself", right.clone(), {
                let mut renewal = right.clone();
                renewal[PRIOR] = json!({ "reference": "MedicationRequest/rx0" });
                renewal
            }),
            (
                "one of a year and a day ago",
                right.clone(),
                with("/authoredOn", json!("2026-05-31")),
            ),
            (
                "one of a time to come",
                right.clone(),
                with("/authoredOn", json!("2027-06-03")),
            ),
        ] {
            assert!(!covers(&order, &prior), "{what}");
        }
    }

    #[test]
    fn what_is_unsigned_changed_over_or_not_yet_begun_is_in_force_for_nothing() {
        let in_force = |protocol: &Protocol, now: &str| protocol.is_in_force(at(now));
        let protocol = signed(PROTOCOL);
        assert!(in_force(&protocol, "2027-01-05T00:00:00Z"));
        assert!(!in_force(&protocol, "2027-01-04T23:59:59Z"));
        // Nobody reviewed it by its date, months before its end.
        assert!(in_force(&protocol, "2027-12-31T23:59:59Z"));
        assert!(!in_force(&protocol, "2028-01-01T00:00:00Z"));
        let ending = signed(&PROTOCOL.replace("2028-06-01", "2027-07-01"));
        assert!(in_force(&ending, "2027-06-30T23:59:59Z"));
        assert!(!in_force(&ending, "2027-07-01T00:00:00Z"));

        let now = "2027-06-01T12:00:00Z";
        let unsigned: Protocol = toml::from_str(PROTOCOL).unwrap();
        assert!(!in_force(&unsigned, now));
        let mut by_another = signed(PROTOCOL);
        by_another.signature.as_mut().unwrap().prescriber = "Practitioner/d2".to_owned();
        assert!(!in_force(&by_another, now));
        let mut later = signed(PROTOCOL);
        later.signature.as_mut().unwrap().at = at("2027-06-01T12:00:01Z");
        assert!(!in_force(&later, now));
        // Whatever is changed after it was signed: the signature is over something else.
        for (from, to) in [
            ("refills_max = 1", "refills_max = 2"),
            ("supply_days_max = 90", "supply_days_max = 91"),
            ("\"nurse-1\"", "\"nurse-1\", \"nurse-2\""),
            ("excludes = [\"simvastatin\"]", "excludes = []"),
            ("version = 1", "version = 2"),
            ("review_by = \"2027-12-31\"", "review_by = \"2028-12-31\""),
        ] {
            let mut changed: Protocol = toml::from_str(&PROTOCOL.replace(from, to)).unwrap();
            changed.signature.clone_from(&protocol.signature);
            assert!(!in_force(&changed, now), "{to}");
        }
    }

    #[test]
    fn a_protocol_that_cannot_be_meant_is_named() {
        let rules = rules();
        let fault = |text: &str| {
            let protocol: Protocol = toml::from_str(text).unwrap();
            protocol.fault(&rules)
        };
        assert_eq!(fault(PROTOCOL), None);
        // A misspelt restriction would be none.
        let misspelt = PROTOCOL.replace("excludes =", "exclude =");
        assert!(toml::from_str::<Protocol>(&misspelt).is_err());
        for (from, to, why) in [
            ("Practitioner/d1", "Organization/d1", "`prescriber`"),
            ("[\"nurse-1\"]", "[]", "nobody who approves"),
            ("[\"statin\"]", "[\"statins\"]", "`statins`"),
            ("2028-06-01", "2027-01-05", "`from` must be before"),
            (
                "visit_within_days = 365",
                "visit_within_days = 0",
                "1 to 732",
            ),
            ("refills_max = 1", "refills_max = 12", "at most 11"),
            ("supply_days_max = 90", "supply_days_max = 101", "1 to 100"),
        ] {
            let said = fault(&PROTOCOL.replace(from, to)).unwrap_or_default();
            assert!(said.contains(why), "{why}: {said}");
        }
        let with_lab = |bounds: &str| {
            format!(
                "{PROTOCOL}[[labs]]\nwhat = 'ALT'\ncodes = ['1742-6']\nwithin_days = 90\n{bounds}"
            )
        };
        for bounds in [
            "",
            "maximum = 120\nunit = 'U/L'",
            "minimum = 1\nmaximum = 1\nunit = 'U/L'",
        ] {
            assert_eq!(fault(&with_lab(bounds)), None, "{bounds}");
        }
        for (bounds, why) in [
            ("maximum = 120", "has a `unit`"),
            ("unit = 'U/L'", "has a `unit`"),
            (
                "minimum = 2\nmaximum = 1\nunit = 'U/L'",
                "must not be above",
            ),
            ("maximum = nan\nunit = 'U/L'", "must not be above"),
        ] {
            let said = fault(&with_lab(bounds)).unwrap_or_default();
            assert!(said.contains(why), "{bounds}: {said}");
        }
        // A protocol without bounds is what was signed before there were any.
        let protocol: Protocol = toml::from_str(&with_lab("")).unwrap();
        let signed = serde_json::to_value(&protocol).unwrap();
        assert_eq!(
            signed["labs"],
            json!([{ "what": "ALT", "codes": ["1742-6"], "within_days": 90 }])
        );
    }
}
