//! What is asked of the EHR for a cohort, and held against what it answers: a server that passes over a parameter, or reads
//! it its own way, finds nobody here. Who of those found may be on a list is `fit`.

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::cohort::{CohortDays, CohortSearch, CohortSearchable, CohortValue};
use chaperone_core::ports::EhrSearch;
use chaperone_core::resource::Code;
use chaperone_core::search::escape_search_value;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::CohortFailed;
use crate::context::Engine;

/// Hours of a day.
const DAY_HOURS: i64 = 24;

impl Engine {
    /// What a search finds that is as it was asked for, with the one patient whom it names.
    pub(super) async fn searched(
        &self,
        search: &CohortSearch,
        arguments: &BTreeMap<String, i64>,
        patient: Option<&str>,
        limit: u32,
    ) -> Result<Searched, CohortFailed> {
        let bounds = self.bundle.cohort_bounds();
        let searchable = bounds.and_then(|bounds| bounds.searches.get(&search.resource));
        let searchable = searchable.ok_or(CohortFailed::UnknownCohort)?;
        let wanted = wanted(search, searchable, arguments, self.now())?;
        let mut parameters: Vec<(String, String)> = Vec::new();
        if let Some(id) = patient {
            parameters.push(("patient".to_owned(), format!("Patient/{id}")));
        }
        parameters.extend(wanted.iter().flat_map(Wanted::parameters));
        let found = self
            .ehr
            .search(EhrSearch {
                resource: search.resource.clone(),
                parameters,
                limit,
            })
            .await?;
        let mut matches = Vec::new();
        for resource in found.resources {
            let is_it = resource.get("resourceType").and_then(Value::as_str)
                == Some(search.resource.as_str());
            if !is_it || !wanted.iter().all(|it| it.holds(&resource)) {
                continue;
            }
            let named = self.only_reference(&resource, &searchable.patient, "Patient");
            let Some(named) = named.map(str::to_owned) else {
                continue;
            };
            let is_theirs = self.belongs_to(&resource, &named);
            if is_theirs && patient.is_none_or(|id| id == named) {
                matches.push((named, resource));
            }
        }
        Ok(Searched {
            matches,
            more: found.more,
        })
    }
}

/// What a search found.
pub(super) struct Searched {
    /// Logical id of the patient, and the resource.
    pub(super) matches: Vec<(String, Value)>,
    /// Whether there was more than was looked at.
    pub(super) more: bool,
}

/// One parameter with its value, as it is sent and as it is held against what comes back.
struct Wanted<'a> {
    name: &'a str,
    path: &'a str,
    value: WantedValue<'a>,
}

enum WantedValue<'a> {
    Codes {
        system: Option<&'a str>,
        codes: &'a [Code],
    },
    Days {
        from: Option<Timestamp>,
        before: Option<Timestamp>,
    },
}

fn wanted<'a>(
    search: &'a CohortSearch,
    searchable: &'a CohortSearchable,
    arguments: &BTreeMap<String, i64>,
    now: Timestamp,
) -> Result<Vec<Wanted<'a>>, CohortFailed> {
    let mut all = Vec::new();
    for (name, value) in &search.parameters {
        let (path, value) = match (searchable.codes.get(name), searchable.dates.get(name)) {
            (Some(path), _) => (
                path,
                WantedValue::Codes {
                    system: value.system.as_deref(),
                    codes: &value.codes,
                },
            ),
            (None, Some(path)) => (path, days(value, arguments, now)?),
            // The bundle does not load with any other.
            (None, None) => return Err(CohortFailed::UnknownCohort),
        };
        all.push(Wanted { name, path, value });
    }
    Ok(all)
}

fn days<'a>(
    value: &CohortValue,
    arguments: &BTreeMap<String, i64>,
    now: Timestamp,
) -> Result<WantedValue<'a>, CohortFailed> {
    let day = |days: &Option<CohortDays>| -> Result<Option<Timestamp>, CohortFailed> {
        let Some(days) = days else { return Ok(None) };
        let ago = match days {
            CohortDays::Fixed(days) => *days,
            CohortDays::Argument(name) => {
                *arguments.get(name).ok_or(CohortFailed::UnknownCohort)?
            }
        };
        let today = now.to_zoned(TimeZone::UTC).date();
        let midnight = today
            .to_zoned(TimeZone::UTC)
            .map_err(|_| CohortFailed::Internal)?
            .timestamp();
        let span = SignedDuration::from_hours(ago.saturating_mul(DAY_HOURS));
        let day = midnight.checked_sub(span);
        day.map(Some).map_err(|_| CohortFailed::Internal)
    };
    Ok(WantedValue::Days {
        from: day(&value.from_days_ago)?,
        before: day(&value.before_days_ago)?,
    })
}

impl Wanted<'_> {
    /// As the search says it.
    fn parameters(&self) -> Vec<(String, String)> {
        let pair = |value: String| (self.name.to_owned(), value);
        match &self.value {
            WantedValue::Codes { system, codes } => {
                let one = |code: &Code| match system {
                    Some(system) => format!("{}|{code}", escape_search_value(system)),
                    None => code.to_string(),
                };
                vec![pair(codes.iter().map(one).collect::<Vec<_>>().join(","))]
            }
            WantedValue::Days { from, before } => {
                let day = |at: &Timestamp| at.to_zoned(TimeZone::UTC).date().to_string();
                let from = from.as_ref().map(|at| pair(format!("ge{}", day(at))));
                let before = before.as_ref().map(|at| pair(format!("lt{}", day(at))));
                from.into_iter().chain(before).collect()
            }
        }
    }

    /// Whether a resource is as it was asked for.
    fn holds(&self, resource: &Value) -> bool {
        let found = values_at(resource, self.path);
        match &self.value {
            WantedValue::Codes { system, codes } => found
                .into_iter()
                .any(|value| has_code(value, *system, codes)),
            WantedValue::Days { from, before } => found
                .into_iter()
                .filter_map(|value| moment(value.as_str()?))
                .any(|at| {
                    from.is_none_or(|from| at >= from) && before.is_none_or(|before| at < before)
                }),
        }
    }
}

/// Whether a code, or a CodeableConcept, is one of these.
fn has_code(value: &Value, system: Option<&str>, codes: &[Code]) -> bool {
    let is_one = |text: Option<&str>| text.is_some_and(|it| codes.iter().any(|c| c.as_str() == it));
    if value.is_string() {
        return system.is_none() && is_one(value.as_str());
    }
    let codings = value.get("coding").and_then(Value::as_array);
    codings.into_iter().flatten().any(|coding| {
        let text = |name: &str| coding.get(name).and_then(Value::as_str);
        is_one(text("code")) && system.is_none_or(|system| text("system") == Some(system))
    })
}

/// When a FHIR date or dateTime is, at the earliest; a year or a month alone tells no day.
fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at);
    }
    let day: jiff::civil::Date = match text.len() {
        10 => text.parse().ok()?,
        _ => return None,
    };
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Everything at a dotted path, through lists. The path is as deep as the bundle says.
fn values_at<'v>(resource: &'v Value, path: &str) -> Vec<&'v Value> {
    let mut here = vec![resource];
    for step in path.split('.') {
        let next = here.into_iter().filter_map(|value| value.get(step));
        here = next
            .flat_map(|value| match value {
                Value::Array(items) => items.iter().collect(),
                other => vec![other],
            })
            .collect();
    }
    here
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code(text: &str) -> Code {
        Code::new(text).unwrap()
    }

    #[test]
    fn a_resource_is_held_against_what_was_asked_for() {
        let from = moment("2030-01-01").unwrap();
        let before = moment("2030-02-01").unwrap();
        let codes = [code("noshow")];
        let all = [
            Wanted {
                name: "status",
                path: "status",
                value: WantedValue::Codes {
                    system: None,
                    codes: &codes,
                },
            },
            Wanted {
                name: "date",
                path: "start",
                value: WantedValue::Days {
                    from: Some(from),
                    before: Some(before),
                },
            },
        ];
        let holds = |resource: &Value| all.iter().all(|wanted| wanted.holds(resource));
        assert!(holds(
            &json!({"status": "noshow", "start": "2030-01-01T00:00:00Z"})
        ));
        for near in [
            json!({"status": "booked", "start": "2030-01-01T00:00:00Z"}),
            json!({"status": "noshow", "start": "2029-12-31T23:59:59Z"}),
            json!({"status": "noshow", "start": "2030-02-01T00:00:00Z"}),
            json!({"status": "noshow", "start": "2030-01"}),
            json!({"status": "noshow"}),
        ] {
            assert!(!holds(&near), "{near}");
        }
    }

    #[test]
    fn a_code_counts_in_its_system() {
        let loinc = Some("http://loinc.org");
        let codes = [code("4548-4")];
        let concept =
            |system: &str, code: &str| json!({"coding": [{"system": system, "code": code}]});
        assert!(has_code(
            &concept("http://loinc.org", "4548-4"),
            loinc,
            &codes
        ));
        assert!(!has_code(
            &concept("http://loinc.org", "4548-5"),
            loinc,
            &codes
        ));
        assert!(!has_code(&concept("urn:other", "4548-4"), loinc, &codes));
        assert!(!has_code(&json!("4548-4"), loinc, &codes));
        assert!(has_code(&json!("4548-4"), None, &codes));
    }
}
