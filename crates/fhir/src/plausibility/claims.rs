//! Rule K-11: a claim's lines against its diagnoses, the encounter and earlier claims.
//!
//! Not a payer's edits. Start at [`Checking::claims`].

use serde_json::Value;

use super::element::{self, codings, each, list, text};
use super::{Checking, Observed, Part, rule};

/// Place-of-service codes for telehealth.
///
/// # Source
/// CMS place of service code set: 02 and 10.
const TELEHEALTH_PLACES: &[&str] = &["02", "10"];
/// Modifiers for telehealth.
///
/// # Source
/// CPT modifiers 93 and 95; HCPCS modifiers GT and GQ.
const TELEHEALTH_MODIFIERS: &[&str] = &["93", "95", "GT", "GQ"];
/// Modifiers that say that a repetition is meant.
///
/// # Source
/// CPT modifiers 59, 76, 77 and 91.
const REPEAT_MODIFIERS: &[&str] = &["59", "76", "77", "91"];

impl Checking<'_> {
    pub(super) fn claims(&mut self) {
        if self.type_name != "Claim" || self.is_retracted() {
            return;
        }
        let sequences: Vec<i64> = list(self.resource, "diagnosis")
            .iter()
            .filter_map(|it| it.get("sequence")?.as_i64())
            .collect();
        for (path, item) in each(self.resource, "item") {
            let line = item
                .get("sequence")
                .and_then(Value::as_i64)
                .unwrap_or_default();
            let line = line.to_string();
            let pointers = list(item, "diagnosisSequence");
            if pointers.is_empty() {
                self.fire(&rule::K_11, "no-diagnosis", &path, &[], &[("item", &line)]);
            }
            for pointer in pointers.iter().filter_map(Value::as_i64) {
                if !sequences.contains(&pointer) {
                    let sequence = pointer.to_string();
                    let words = [("item", line.as_str()), ("sequence", sequence.as_str())];
                    self.fire(&rule::K_11, "pointer", &path, &[], &words);
                }
            }
            self.against_encounter(&path, item, &line);
            self.against_claims(&path, item, &line);
        }
    }

    fn against_encounter(&mut self, path: &str, item: &Value, line: &str) {
        if list(item, "encounter").is_empty() {
            return;
        }
        let encounter = match &self.context.encounter {
            Observed::Present(encounter) => encounter,
            Observed::Absent => return,
            Observed::Unknown => {
                self.unchecked(&rule::K_11, Part::Encounter);
                return;
            }
        };
        let parts = [Part::Encounter];
        let words = [("item", line)];
        let class = element::text_at(encounter, "/class/code").unwrap_or_default();
        let place = item.get("locationCodeableConcept");
        let place = place.and_then(|it| codings(it).map(|it| it.code).next());
        let is_tele_claim = place.is_some_and(|it| TELEHEALTH_PLACES.contains(&it))
            || has_modifier(item, TELEHEALTH_MODIFIERS);
        let is_stated = place.is_some() || is_tele_claim;
        if !class.is_empty() && is_stated && is_tele_claim != (class == "VR") {
            self.fire(&rule::K_11, "place", path, &parts, &words);
        }
        let edge = |key| element::text_at(encounter, key).and_then(|it| self.when(it));
        let (start, end) = (edge("/period/start"), edge("/period/end"));
        let Some(served) = served(item).and_then(|it| self.when(it)) else {
            return;
        };
        let is_before = start.is_some_and(|it| served.is_before(&it));
        let is_after = end.or(start).is_some_and(|it| it.is_before(&served));
        if is_before || is_after {
            self.fire(&rule::K_11, "service-date", path, &parts, &words);
        }
    }

    fn against_claims(&mut self, path: &str, item: &Value, line: &str) {
        let Some(claims) = &self.context.claims else {
            self.unchecked(&rule::K_11, Part::Claims);
            return;
        };
        let (Some(day), Some(service)) = (served(item), service(item)) else {
            return;
        };
        if has_modifier(item, REPEAT_MODIFIERS) {
            return;
        }
        let id = text(self.resource, "id");
        let day = day.get(..10);
        let is_double = claims
            .iter()
            .filter(|claim| id.is_none() || text(claim, "id") != id)
            .filter(|claim| matches!(text(claim, "status"), Some("active" | "draft")))
            .flat_map(|claim| list(claim, "item"))
            .any(|other| {
                self::service(other) == Some(service)
                    && served(other).and_then(|it| it.get(..10)) == day
            });
        if is_double {
            self.fire(
                &rule::K_11,
                "duplicate",
                path,
                &[Part::Claims],
                &[("item", line)],
            );
        }
    }
}

fn served(item: &Value) -> Option<&str> {
    text(item, "servicedDate").or_else(|| element::text_at(item, "/servicedPeriod/start"))
}

fn service(item: &Value) -> Option<(&str, &str)> {
    codings(item.get("productOrService")?)
        .map(|it| (it.system, it.code))
        .find(|(_, code)| !code.is_empty())
}

fn has_modifier(item: &Value, modifiers: &[&str]) -> bool {
    list(item, "modifier")
        .iter()
        .any(|it| codings(it).any(|it| modifiers.contains(&it.code)))
}
