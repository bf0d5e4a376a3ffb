//! Who is shown to whom: patients as reviewers see them, read from the EHR at display time.
//!
//! Every look is recorded on the person's account before anything is shown, once per page, patient and
//! five minutes, so that a list that refreshes itself does not drown the record of who saw what.

use chaperone_core::Timestamp;
use chaperone_core::event::{Event, ReadCeiling, StreamId};
use chaperone_core::ids::{PatientToken, ToolName};
use chaperone_core::phi::Phi;
use chaperone_core::ports::{
    CommitFailed, EhrReadFailed, EhrSearch, Expected, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Human, Role};
use chaperone_core::resource::ResourceType;
use serde_json::Value;

use super::ViewFailed;
use crate::context::Engine;

/// Roles that see patients. Operators do not: they run Chaperone and need no record for it.
const SEE_PATIENTS: [Role; 8] = [
    Role::Scheduler,
    Role::MaRn,
    Role::Rn,
    Role::Pharmacist,
    Role::Clinician,
    Role::Biller,
    Role::Him,
    Role::Privacy,
];
/// Looks already recorded.
pub(crate) const LOOKS: &str = "look";
/// How long one record of a look covers further ones, in seconds.
const LOOK_SECONDS: i64 = 300;
/// What a search shows of each patient.
const FOUND_FIELDS: [&str; 3] = ["name", "birthDate", "identifier"];
/// Most search hits shown.
const HITS_MAX: u32 = 20;
/// Most allergies shown.
const ALLERGIES_MAX: u32 = 20;
/// Longest search text, in characters.
const QUERY_CHARS_MAX: usize = 100;

/// Whether a person may see patients at all.
pub fn sees_patients(human: &Human) -> bool {
    SEE_PATIENTS.into_iter().any(|role| human.holds(role))
}

/// A patient as lists show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientBrief {
    /// Our own identifier, the one that stands in addresses.
    pub token: PatientToken,
    /// Initials and age; nothing while the EHR does not answer.
    pub shown: Option<Phi<Initials>>,
}

/// Enough to tell two patients of a list apart, and no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initials {
    /// Initials.
    pub initials: String,
    /// Age in words.
    pub age: String,
}

/// A patient as the review shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientHeader {
    /// Our own identifier.
    pub token: PatientToken,
    /// Full name.
    pub name: String,
    /// Birth date as recorded.
    pub birth_date: String,
    /// Age in words.
    pub age: String,
    /// Administrative gender as recorded.
    pub gender: String,
    /// Identifiers with what they are, at most two.
    pub identifiers: Vec<(String, String)>,
    /// Allergies in words; `None` when they could not be read, which is not the same as none.
    pub allergies: Option<Vec<String>>,
    /// Whether the record says that the patient has died.
    pub deceased: bool,
}

/// A search hit, for assigning a patient to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientHit {
    /// Our own identifier.
    pub token: PatientToken,
    /// Who it is.
    pub shown: Phi<FoundPatient>,
}

/// What a search shows of a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPatient {
    /// Full name.
    pub name: String,
    /// Birth date as recorded.
    pub birth_date: String,
    /// Age in words.
    pub age: String,
    /// Identifiers with what they are, at most two.
    pub identifiers: Vec<(String, String)>,
}

impl Engine {
    /// Finds patients by name, birth date or identifier, or several of these.
    ///
    /// # Errors
    /// [`ViewFailed::NotPermitted`] for roles that see no patients; EHR and store failures.
    pub async fn patients_search(
        &self,
        by: &Human,
        query: &str,
    ) -> Result<Vec<PatientHit>, ViewFailed> {
        if !sees_patients(by) {
            return Err(ViewFailed::NotPermitted);
        }
        let parameters = search_parameters(query);
        if parameters.is_empty() {
            return Ok(Vec::new());
        }
        let found = self
            .ehr
            .search(EhrSearch {
                resource: patient_type()?,
                parameters,
                limit: HITS_MAX,
            })
            .await?;
        self.record_look(by, "console.search", None, &FOUND_FIELDS)
            .await?;
        let now = self.now();
        let mut hits = Vec::with_capacity(found.resources.len());
        for patient in &found.resources {
            let Some(id) = patient.get("id").and_then(Value::as_str) else {
                continue;
            };
            let birth_date = text(patient, "/birthDate")
                .unwrap_or("not recorded")
                .to_owned();
            hits.push(PatientHit {
                token: self.patient_token(id).await?,
                shown: Phi::new(FoundPatient {
                    name: full_name(patient),
                    age: age_words(&birth_date, now),
                    birth_date,
                    identifiers: identifiers(patient),
                }),
            });
        }
        self.record_found(by, &hits).await?;
        Ok(hits)
    }

    /// Records whom a search showed, one entry for each patient, before anything is shown.
    async fn record_found(&self, by: &Human, hits: &[PatientHit]) -> Result<(), ViewFailed> {
        if hits.is_empty() {
            return Ok(());
        }
        let mut commit = self.commit_as(by.into());
        for hit in hits {
            let ceiling = self.ceiling("console.search", Some(hit.token), &FOUND_FIELDS)?;
            commit.append(
                StreamId::Account(by.account.clone()),
                Expected::Any,
                Event::ReadPermitted(Box::new(ceiling)),
            );
        }
        self.store.commit(commit).await?;
        Ok(())
    }

    /// What a page of the console may show.
    pub(crate) fn ceiling(
        &self,
        page: &str,
        patient: Option<PatientToken>,
        fields: &[&str],
    ) -> Result<ReadCeiling, StoreFailed> {
        Ok(ReadCeiling {
            correlation: self.correlation(),
            tool: ToolName::new(page).map_err(|e| StoreFailed::Corrupt(e.to_string()))?,
            connection: self.ehr.connection().clone(),
            resource: patient_type()?,
            patient,
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            text: Vec::new(),
            policies: Vec::new(),
            consent: "role".to_owned(),
            purpose: None,
        })
    }

    /// A patient for a list. An EHR that does not answer leaves the token.
    pub(super) async fn patient_brief(
        &self,
        by: &Human,
        token: PatientToken,
    ) -> Result<PatientBrief, ViewFailed> {
        let nothing = PatientBrief { token, shown: None };
        if !sees_patients(by) {
            return Ok(nothing);
        }
        let patient = match self.patient_resource(token).await {
            Ok(Some(patient)) => patient,
            // Not at the EHR any more, or shredded: the token is what is left.
            Ok(None) | Err(ViewFailed::Missing) => return Ok(nothing),
            Err(failed) => return Err(failed),
        };
        self.record_look(by, "console.list", Some(token), &["name", "birthDate"])
            .await?;
        let shown = initials_of(&patient, self.now());
        Ok(PatientBrief {
            token,
            shown: Some(Phi::new(shown)),
        })
    }

    /// A patient for the review; nothing when the EHR does not answer.
    pub(super) async fn patient_header(
        &self,
        by: &Human,
        token: PatientToken,
    ) -> Result<Option<Phi<PatientHeader>>, ViewFailed> {
        if !sees_patients(by) {
            return Err(ViewFailed::NotPermitted);
        }
        let Some(patient) = self.patient_resource(token).await? else {
            return Ok(None);
        };
        let fields = [
            "name",
            "birthDate",
            "gender",
            "identifier",
            "deceased",
            "allergies",
        ];
        self.record_look(by, "console.review", Some(token), &fields)
            .await?;
        let id = self.patient_id(token).await?;
        let birth_date = text(&patient, "/birthDate")
            .unwrap_or("not recorded")
            .to_owned();
        Ok(Some(Phi::new(PatientHeader {
            token,
            name: full_name(&patient),
            age: age_words(&birth_date, self.now()),
            birth_date,
            gender: text(&patient, "/gender")
                .unwrap_or("not recorded")
                .to_owned(),
            identifiers: identifiers(&patient),
            allergies: self.allergies(&id).await,
            deceased: patient.get("deceasedBoolean") == Some(&Value::Bool(true))
                || patient.get("deceasedDateTime").is_some(),
        })))
    }

    async fn patient_resource(&self, token: PatientToken) -> Result<Option<Value>, ViewFailed> {
        let id = self.patient_id(token).await?;
        match self.ehr.read(&patient_type()?, &id).await {
            Ok(patient) => Ok(Some(patient)),
            Err(EhrReadFailed::NotFound) => Err(ViewFailed::Missing),
            Err(failed) => {
                tracing::warn!(error = %failed, "a patient could not be read for display");
                Ok(None)
            }
        }
    }

    async fn allergies(&self, patient_id: &str) -> Option<Vec<String>> {
        let resource = ResourceType::new("AllergyIntolerance").ok()?;
        let parameters = vec![("patient".to_owned(), format!("Patient/{patient_id}"))];
        let found = self
            .ehr
            .search(EhrSearch {
                resource,
                parameters,
                limit: ALLERGIES_MAX,
            })
            .await
            .ok()?;
        // A hit of somebody else makes the whole answer worthless (invariant 8).
        if !found
            .resources
            .iter()
            .all(|allergy| self.belongs_to(allergy, patient_id))
        {
            tracing::warn!("allergies of another patient came back; none are shown");
            return None;
        }
        let mut words: Vec<String> = found
            .resources
            .iter()
            .map(chaperone_fhir::words::describe)
            .collect();
        if found.more {
            words.push("… and more; see the record".to_owned());
        }
        Some(words)
    }

    /// Records a look before anything is shown.
    pub(crate) async fn record_look(
        &self,
        by: &Human,
        page: &str,
        patient: Option<PatientToken>,
        fields: &[&str],
    ) -> Result<(), ViewFailed> {
        let now = self.now();
        let subject = patient.map(|token| token.to_string()).unwrap_or_default();
        let key = RecordKey::new(LOOKS, format!("{page}/{}/{subject}", by.account));
        let known = match patient {
            Some(_) => self.store.record(&self.config.tenant, &key, now).await?,
            None => None,
        };
        if known.is_some() {
            return Ok(());
        }
        let ceiling = self.ceiling(page, patient, fields)?;
        let mut commit = self.commit_as(by.into());
        if patient.is_some() {
            let until = crate::context::after(now, LOOK_SECONDS);
            let seen = Record::new(LOOKS, &key.key, Value::Null).expiring(until);
            commit.records.push(RecordChange::Create(seen));
        }
        commit.append(
            StreamId::Account(by.account.clone()),
            Expected::Any,
            Event::ReadPermitted(Box::new(ceiling)),
        );
        match self.store.commit(commit).await {
            // Two pages at once: the other one recorded it.
            Ok(_) | Err(CommitFailed::Record { .. }) => Ok(()),
            Err(failed) => Err(failed.into()),
        }
    }
}

fn patient_type() -> Result<ResourceType, StoreFailed> {
    ResourceType::new("Patient").map_err(|e| StoreFailed::Corrupt(e.to_string()))
}

/// Splits what was typed into search parameters: dates, identifiers (anything with a digit), names.
fn search_parameters(query: &str) -> Vec<(String, String)> {
    let query: String = query.chars().take(QUERY_CHARS_MAX).collect();
    let mut names = Vec::new();
    let mut parameters = Vec::new();
    for word in query.split_whitespace() {
        if is_date(word) {
            parameters.push(("birthdate".to_owned(), word.to_owned()));
        } else if word.chars().any(|c| c.is_ascii_digit()) {
            parameters.push((
                "identifier".to_owned(),
                chaperone_core::search::escape_search_value(word),
            ));
        } else {
            names.push(word);
        }
    }
    for name in names {
        parameters.push((
            "name".to_owned(),
            chaperone_core::search::escape_search_value(name),
        ));
    }
    parameters
}

fn is_date(word: &str) -> bool {
    word.len() == 10 && word.parse::<jiff::civil::Date>().is_ok()
}

fn text<'a>(resource: &'a Value, pointer: &str) -> Option<&'a str> {
    resource.pointer(pointer).and_then(Value::as_str)
}

/// The name in use: official or usual before old ones.
fn full_name(patient: &Value) -> String {
    let names = patient
        .get("name")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let used = |wanted: &str| names.iter().find(|name| text(name, "/use") == Some(wanted));
    let current = |name: &&Value| !matches!(text(name, "/use"), Some("old" | "maiden"));
    let Some(name) = used("official")
        .or_else(|| used("usual"))
        .or_else(|| names.iter().find(current))
        .or_else(|| names.first())
    else {
        return "no name recorded".to_owned();
    };
    let given = name
        .get("given")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut parts: Vec<&str> = given.iter().filter_map(Value::as_str).collect();
    parts.extend(text(name, "/family"));
    match (parts.is_empty(), text(name, "/text")) {
        (true, Some(whole)) => whole.to_owned(),
        (true, None) => "no name recorded".to_owned(),
        (false, _) => parts.join(" "),
    }
}

/// What lists show of a patient.
pub(crate) fn initials_of(patient: &Value, now: Timestamp) -> Initials {
    Initials {
        initials: initials(&full_name(patient)),
        age: age_words(text(patient, "/birthDate").unwrap_or_default(), now),
    }
}

fn initials(name: &str) -> String {
    let letters = name
        .split_whitespace()
        .filter_map(|part| part.chars().find(|c| c.is_alphabetic()));
    let all: Vec<char> = letters.collect();
    match (all.first(), all.last()) {
        (Some(first), Some(last)) if all.len() > 1 => format!("{first}{last}"),
        (Some(first), _) => first.to_string(),
        _ => "?".to_owned(),
    }
}

/// At most two identifiers, medical record numbers first.
fn identifiers(patient: &Value) -> Vec<(String, String)> {
    let all = patient
        .get("identifier")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut shown: Vec<(u8, String, String)> = all
        .iter()
        .filter_map(|identifier| {
            let value = text(identifier, "/value")?.to_owned();
            let code = text(identifier, "/type/coding/0/code").unwrap_or_default();
            let label = text(identifier, "/type/text")
                .or_else(|| text(identifier, "/type/coding/0/display"))
                .or_else(|| text(identifier, "/system"))
                .unwrap_or("identifier")
                .to_owned();
            match code {
                "MR" => Some((0, "MRN".to_owned(), value)),
                // Never on a screen that does not need it.
                "SS" | "SB" => None,
                _ => Some((1, label, value)),
            }
        })
        .collect();
    shown.sort();
    shown
        .into_iter()
        .take(2)
        .map(|(_, label, value)| (label, value))
        .collect()
}

/// Age in words: years, for small children months, for newborns days.
pub(super) fn age_words(birth_date: &str, now: Timestamp) -> String {
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let parts: Vec<&str> = birth_date.split('-').collect();
    let whole = match parts.as_slice() {
        [_, _, _] => birth_date.to_owned(),
        [_, _] => format!("{birth_date}-01"),
        [_] => format!("{birth_date}-01-01"),
        _ => String::new(),
    };
    let Ok(born) = whole.parse::<jiff::civil::Date>() else {
        return "age unknown".to_owned();
    };
    let Ok(lived) = born.until((jiff::Unit::Year, today)) else {
        return "age unknown".to_owned();
    };
    let (years, months, days) = (lived.get_years(), lived.get_months(), lived.get_days());
    if years < 0 || months < 0 || days < 0 {
        return "age unknown".to_owned();
    }
    match (years, months) {
        (0, 0) => format!("{days} d"),
        (0, months) => format!("{months} mo"),
        (1, months) => format!("{} mo", 12 + months),
        (years, _) => format!("{years} y"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        "2030-06-15T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn ages_are_said_as_people_say_them() {
        for (born, age) in [
            ("1950-06-15", "80 y"),
            ("1950-06-16", "79 y"),
            ("2028-08-01", "22 mo"),
            ("2030-04-15", "2 mo"),
            ("2030-06-12", "3 d"),
            ("1950", "80 y"),
            ("2031-01-01", "age unknown"),
            ("unknown", "age unknown"),
            ("", "age unknown"),
        ] {
            assert_eq!(age_words(born, now()), age, "{born}");
        }
    }

    #[test]
    fn what_was_typed_becomes_parameters() {
        let search = |query: &str| {
            let words: Vec<String> = search_parameters(query)
                .into_iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect();
            words.join("&")
        };
        assert_eq!(
            search("sample 1950-02-03"),
            "birthdate=1950-02-03&name=sample"
        );
        assert_eq!(search("MRN00012"), "identifier=MRN00012");
        assert_eq!(search("1950-02-31"), "identifier=1950-02-31");
        assert_eq!(search("a|b"), "name=a\\|b");
        assert_eq!(search("  "), "");
    }

    #[test]
    fn names_and_identifiers_are_chosen_with_care() {
        let patient = json!({
            "name": [
                {"use": "old", "family": "Former", "given": ["Una"]},
                {"use": "official", "family": "Sample", "given": ["Una", "Bea"]},
            ],
            "identifier": [
                {"type": {"coding": [{"code": "SS"}]}, "value": "000-00-0000"},
                {"type": {"coding": [{"code": "DL", "display": "Driver's licence"}]}, "value": "L1"},
                {"type": {"coding": [{"code": "MR"}]}, "value": "M1"},
            ],
        });
        assert_eq!(full_name(&patient), "Una Bea Sample");
        assert_eq!(initials(&full_name(&patient)), "US");
        let shown = identifiers(&patient);
        assert_eq!(shown[0], ("MRN".to_owned(), "M1".to_owned()));
        assert!(!format!("{shown:?}").contains("000-00"));
    }
}
