//! Which services are confidential for adolescents: `rules/confidential-services.toml`, read once.
//!
//! What concerns one of them, for a patient who is or may be an adolescent, is the fact `adolescent_confidential`.
//! What the table does not list counts as ordinary; labels that cannot be read count as confidential.

use std::collections::BTreeSet;

use chaperone_phi::labels::{Labels, Restriction};
use chaperone_policy::Bundle;
use serde::Deserialize;
use serde_json::Value;

use crate::context::StartFailed;

const FILE: &str = "rules/confidential-services.toml";
/// Deepest that codes are looked for; validation takes nothing deeper.
const DEPTH_MAX: usize = 64;

/// Labels that say so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sensitive {
    codes: BTreeSet<String>,
    source: String,
}

/// Codes of one system that say so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Codes {
    id: String,
    system: String,
    #[serde(default)]
    codes: BTreeSet<String>,
    /// Beginnings of codes.
    #[serde(default)]
    prefixes: Vec<String>,
    source: String,
}

/// The table.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(Default))]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfidentialServices {
    source: String,
    owner: String,
    reviewed: String,
    review_by: String,
    labels: Vec<Sensitive>,
    codes: Vec<Codes>,
}

impl ConfidentialServices {
    /// The table of a bundle.
    ///
    /// # Errors
    /// [`StartFailed::Table`] says what is wrong.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, StartFailed> {
        let wrong = |why: String| StartFailed::Table { file: FILE, why };
        let text = bundle.rule_text("confidential-services").ok_or_else(|| {
            wrong("it is missing; `chaperone init` writes one to start from".to_owned())
        })?;
        Self::parse(text).map_err(wrong)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let read: Self = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let of_labels = read.labels.iter().map(|it| &it.source);
        let of_codes = read
            .codes
            .iter()
            .flat_map(|it| [&it.id, &it.system, &it.source]);
        let about = [&read.source, &read.owner, &read.reviewed, &read.review_by];
        if about
            .into_iter()
            .chain(of_labels)
            .chain(of_codes)
            .any(|it| it.trim().is_empty())
        {
            return Err(
                "`id`, `system`, `source`, `owner`, `reviewed` and `review_by` must say something"
                    .to_owned(),
            );
        }
        for group in &read.codes {
            let empty = group.codes.is_empty() && group.prefixes.is_empty();
            // An empty beginning is that of every code.
            if empty || group.prefixes.iter().any(|it| it.trim().is_empty()) {
                return Err(format!("`{}` lists no codes, or an empty one", group.id));
            }
        }
        Ok(read)
    }

    /// Whether a resource concerns a confidential service.
    pub(crate) fn concerns(&self, resource: &Value) -> bool {
        let labels = Labels::of(resource);
        let mut sensitive = self.labels.iter().flat_map(|it| &it.codes);
        sensitive.any(|code| labels.carries(code))
            || labels.restrictions().contains(&Restriction::Unclear)
            || self.is_in(resource, DEPTH_MAX)
    }

    fn is_in(&self, value: &Value, depth: usize) -> bool {
        let Some(depth) = depth.checked_sub(1) else {
            return true;
        };
        match value {
            Value::Array(items) => items.iter().any(|item| self.is_in(item, depth)),
            Value::Object(members) => {
                let text = |name: &str| members.get(name).and_then(Value::as_str);
                let is_listed = match (text("system"), text("code")) {
                    (Some(system), Some(code)) => self.lists(system, code),
                    _ => false,
                };
                is_listed || members.values().any(|member| self.is_in(member, depth))
            }
            _ => false,
        }
    }

    fn lists(&self, system: &str, code: &str) -> bool {
        self.codes.iter().any(|group| {
            group.system == system
                && (group.codes.contains(code)
                    || group
                        .prefixes
                        .iter()
                        .any(|it| code.starts_with(it.as_str())))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const DEFAULT: &str = include_str!("../../../governance/rules/confidential-services.toml");

    #[test]
    fn a_service_is_known_by_its_codes_and_labels_and_by_nothing_else() {
        let table = ConfidentialServices::parse(DEFAULT).unwrap();
        let coded = |system: &str, code: &str| {
            let coding = json!([{ "system": system, "code": code }]);
            json!({ "resourceType": "ServiceRequest", "reasonCode": [{ "coding": coding }] })
        };
        let icd = "http://hl7.org/fhir/sid/icd-10-cm";
        let labelled = |label: Value| json!({ "meta": { "security": [label] } });
        for confidential in [
            coded(icd, "Z30.011"),
            coded(icd, "F32.1"),
            coded("http://loinc.org", "2106-3"),
            coded("urn:chaperone:visit-type", "prenatal"),
            labelled(json!({ "code": "SEX" })),
            labelled(json!({ "code": "adol" })),
            labelled(json!("what is this")),
        ] {
            assert!(table.concerns(&confidential), "{confidential}");
        }
        for ordinary in [
            coded(icd, "Z23"),
            coded(icd, "J45.20"),
            // The same letters in another system, and a code that only holds a listed one.
            coded("urn:other", "F32.1"),
            coded("http://loinc.org", "12106-3"),
            coded("urn:chaperone:visit-type", "oncology"),
            labelled(json!({ "code": "N" })),
            json!({ "text": "contraception" }),
        ] {
            assert!(!table.concerns(&ordinary), "{ordinary}");
        }
    }

    #[test]
    fn a_table_that_lists_everything_or_says_nothing_of_itself_is_refused() {
        for (before, after, why) in [
            ("\"Z30\"", "\"\"", "`reproductive-health` lists no codes"),
            (
                "prefixes = [\"T74\", \"T76\"]",
                "prefixes = []",
                "`abuse` lists no codes",
            ),
            (
                "owner = \"privacy officer\"",
                "owner = \" \"",
                "must say something",
            ),
            ("\n[[labels]]", "\n[[label]]", "unknown field"),
        ] {
            assert!(DEFAULT.contains(before), "{before}");
            let said = ConfidentialServices::parse(&DEFAULT.replacen(before, after, 1));
            let said = said.unwrap_err();
            assert!(said.contains(why), "{why}: {said}");
        }
    }
}
