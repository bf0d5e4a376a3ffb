//! The cases of `tests/cases.toml`, against the table of the default bundle.
//!
//! Short forms there are written out as FHIR R4 here: a label of one letter is a confidentiality, any other a code
//! of v3-ActCode; `system|code` is a coding, a word alone one of the system that the element is bound to.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::contact::{Contact, ContactBasis, ContactDenial, contacts_of, may_contact, speaks_to};
use super::*;
use crate::labels::{ACT_CODE_SYSTEM, CONFIDENTIALITY_SYSTEM, Confidentiality};

const TABLE: &str = include_str!("../../../../governance/rules/consent.toml");
const CASES: &str = include_str!("tests/cases.toml");

const HOME: Home<'_> = Home {
    patient: "p",
    base_url: "http://ehr.test/fhir",
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cases: Vec<Case>,
    contacts: Vec<ContactCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    #[serde(default)]
    organisation: Option<String>,
    #[serde(default)]
    consents: Vec<Short>,
    ask: Ask,
    expect: String,
    #[serde(default)]
    notices: usize,
    #[serde(default)]
    leave_out: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContactCase {
    id: String,
    #[serde(default)]
    telecom: Option<Vec<Value>>,
    #[serde(default = "of_age")]
    born: String,
    #[serde(default = "yes")]
    category: bool,
    #[serde(default)]
    consents: Vec<Short>,
    ask: ContactAsk,
    expect: String,
}

fn of_age() -> String {
    "1950-02-03".to_owned()
}

#[derive(Deserialize)]
struct ContactAsk {
    channel: String,
    purpose: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Short {
    id: Option<String>,
    status: Option<String>,
    scope: Option<String>,
    patient: Option<String>,
    category: Vec<String>,
    policy: Option<String>,
    date: Option<String>,
    identifier: Option<String>,
    organization: Option<String>,
    replaces: Option<String>,
    verified: Option<bool>,
    provision: Option<ShortRule>,
    raw: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ShortRule {
    #[serde(rename = "type")]
    kind: Option<String>,
    period: Option<(String, String)>,
    actor: Vec<String>,
    action: Vec<String>,
    label: Vec<String>,
    purpose: Vec<String>,
    class: Vec<String>,
    code: Vec<String>,
    data_period: Option<(String, String)>,
    data: Vec<String>,
    provision: Vec<ShortRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    purpose: String,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    person: bool,
    #[serde(default)]
    break_glass: bool,
    #[serde(default = "yes")]
    notify: bool,
    #[serde(rename = "type", default)]
    type_name: Option<String>,
    #[serde(default)]
    resource: Option<ShortResource>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ShortResource {
    #[serde(rename = "type")]
    type_name: String,
    id: Option<String>,
    labels: Vec<String>,
    codes: Vec<String>,
    date: Option<String>,
    encounter: Option<String>,
}

fn yes() -> bool {
    true
}

fn coding(text: &str, system: &str) -> Value {
    match text.split_once('|') {
        Some((system, code)) => json!({"system": system, "code": code}),
        None => json!({"system": system, "code": text}),
    }
}

fn label(code: &str) -> Value {
    let system = match Confidentiality::parse(code) {
        Some(_) => CONFIDENTIALITY_SYSTEM,
        None => ACT_CODE_SYSTEM,
    };
    json!({"system": system, "code": code})
}

fn concept(text: &str, system: &str) -> Value {
    json!({"coding": [coding(text, system)]})
}

fn period((start, end): &(String, String)) -> Value {
    let mut period = Map::new();
    for (name, text) in [("start", start), ("end", end)] {
        if !text.is_empty() {
            period.insert(name.to_owned(), json!(text));
        }
    }
    Value::Object(period)
}

impl ShortRule {
    fn written_out(&self) -> Value {
        let mut rule = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            let is_empty = value
                .as_ref()
                .and_then(Value::as_array)
                .is_some_and(Vec::is_empty);
            if let Some(value) = value
                && !is_empty
            {
                rule.insert(name.to_owned(), value);
            }
        };
        let list = |items: &[String], each: &dyn Fn(&str) -> Value| {
            Some(Value::Array(items.iter().map(|item| each(item)).collect()))
        };
        put("type", self.kind.as_ref().map(|kind| json!(kind)));
        put("period", self.period.as_ref().map(period));
        put(
            "actor",
            list(&self.actor, &|actor| {
                let (who, role) = actor.split_once(" as ").unwrap();
                let who = match who.split_once('|') {
                    Some((system, value)) => {
                        json!({"identifier": {"system": system, "value": value}})
                    }
                    None => json!({"reference": who}),
                };
                json!({"role": concept(role, "urn:role"), "reference": who})
            }),
        );
        put(
            "action",
            list(&self.action, &|it| {
                concept(it, "http://terminology.hl7.org/CodeSystem/consentaction")
            }),
        );
        put("securityLabel", list(&self.label, &label));
        put(
            "purpose",
            list(&self.purpose, &|it| coding(it, "urn:v3-ActReason")),
        );
        put(
            "class",
            list(&self.class, &|it| {
                coding(it, "http://hl7.org/fhir/resource-types")
            }),
        );
        put("code", list(&self.code, &|it| concept(it, "")));
        put("dataPeriod", self.data_period.as_ref().map(period));
        put(
            "data",
            list(&self.data, &|data| {
                let (meaning, reference) = data.split_once(' ').unwrap();
                json!({"meaning": meaning, "reference": {"reference": reference}})
            }),
        );
        put(
            "provision",
            Some(self.provision.iter().map(ShortRule::written_out).collect()),
        );
        Value::Object(rule)
    }
}

impl Short {
    fn written_out(&self, category: Option<&str>) -> Value {
        let policy = self.policy.as_deref().unwrap_or("none");
        let scope = self.scope.as_deref().unwrap_or("patient-privacy");
        let mut consent = json!({
            "resourceType": "Consent",
            "id": self.id.as_deref().unwrap_or("c"),
            "status": self.status.as_deref().unwrap_or("active"),
            "scope": concept(scope, "http://terminology.hl7.org/CodeSystem/consentscope"),
            "category": self.category.iter().map(String::as_str).chain(category)
                .map(|it| concept(it, "")).collect::<Vec<_>>(),
            "patient": {"reference": self.patient.as_deref().unwrap_or("Patient/p")},
            "policyRule": concept(policy, ACT_CODE_SYSTEM),
        });
        let mut put = |name: &str, value: Value| consent[name] = value;
        if let Some(date) = &self.date {
            put("dateTime", json!(date));
        }
        if let Some(identifier) = &self.identifier {
            let (system, value) = identifier.split_once('|').unwrap();
            put("identifier", json!([{"system": system, "value": value}]));
        }
        if let Some(organization) = &self.organization {
            put("organization", json!([{"reference": organization}]));
        }
        if let Some(older) = &self.replaces {
            put("sourceReference", json!({"reference": older}));
        }
        if let Some(verified) = self.verified {
            put("verification", json!([{"verified": verified}]));
        }
        if let Some(provision) = &self.provision {
            put("provision", provision.written_out());
        }
        if let Some(raw) = &self.raw {
            let raw: Map<String, Value> = serde_json::from_str(raw).unwrap();
            for (name, value) in raw {
                put(&name, value);
            }
        }
        consent
    }
}

impl ShortResource {
    fn written_out(&self) -> Value {
        let mut resource = json!({
            "resourceType": self.type_name,
            "id": self.id.as_deref().unwrap_or("r"),
            "meta": {"security": self.labels.iter().map(|it| label(it)).collect::<Vec<_>>()},
        });
        if !self.codes.is_empty() {
            let codings: Vec<Value> = self.codes.iter().map(|it| coding(it, "")).collect();
            resource["code"] = json!({"coding": codings});
        }
        if let Some(date) = &self.date {
            resource["effectiveDateTime"] = json!(date);
        }
        if let Some(encounter) = &self.encounter {
            resource["encounter"] = json!({"reference": encounter});
        }
        resource
    }
}

fn now() -> Timestamp {
    "2030-06-15T12:00:00Z".parse().unwrap()
}

fn table(organisation: Option<&str>) -> ConsentTable {
    let text = match organisation {
        None => TABLE.to_owned(),
        Some(name) => TABLE.replace("organisation = []", &format!("organisation = ['{name}']")),
    };
    ConsentTable::parse(&text).unwrap()
}

fn cases() -> File {
    toml::from_str(CASES).unwrap()
}

#[test]
fn every_case_of_consent_is_decided_as_it_says() {
    let mut wrong = Vec::new();
    let cases = cases().cases;
    assert!(cases.len() >= 100, "{}", cases.len());
    for case in &cases {
        let table = table(case.organisation.as_deref());
        let written: Vec<Value> = case
            .consents
            .iter()
            .map(|it| it.written_out(None))
            .collect();
        let consents = Consents::read(&written, HOME);
        let resource = case.ask.resource.as_ref().map(ShortResource::written_out);
        let subject = match (&resource, &case.ask.type_name) {
            (Some(resource), None) => Subject::Resource(resource),
            (None, Some(name)) => Subject::Type(name),
            _ => panic!("{}: a type or a resource", case.id),
        };
        let decision = decide(
            &table,
            &consents,
            &Question {
                purpose: &case.ask.purpose,
                action: match case.ask.action.as_deref() {
                    None | Some("read") => Action::Read,
                    Some("write") => Action::Write,
                    Some("send") => Action::Send,
                    Some(other) => panic!("{other}"),
                },
                asker: if case.ask.person {
                    Asker::Person
                } else {
                    Asker::Agent("scribe-agent")
                },
                subject,
                break_glass: case.ask.break_glass,
                can_notify: case.ask.notify,
                now: now(),
            },
        );
        let (said, notices, leave_out) = match &decision {
            Decision::Deny(denial) => (format!("deny {}", denial.code()), 0, 0),
            Decision::Permit { basis, obligations } => {
                let basis = match basis {
                    Basis::WithoutConsent => "without-consent",
                    Basis::Consents(_) => "consents",
                    Basis::BreakGlass => "break-glass",
                };
                let Obligations { leave_out, notices } = obligations;
                (format!("permit {basis}"), notices.len(), leave_out.len())
            }
        };
        if (said.as_str(), notices, leave_out) != (&case.expect, case.notices, case.leave_out) {
            wrong.push(format!(
                "{}: expected {} ({} notices, {} left out), got {said} ({notices}, {leave_out})",
                case.id, case.expect, case.notices, case.leave_out
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_cases_share_a_name() {
    let file = cases();
    let ids: Vec<&String> = file
        .cases
        .iter()
        .map(|case| &case.id)
        .chain(file.contacts.iter().map(|case| &case.id))
        .collect();
    let unique: BTreeSet<&&String> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
}

#[test]
fn every_case_of_contact_is_decided_as_it_says() {
    let table = table(None);
    let mut wrong = Vec::new();
    for case in cases().contacts {
        let category = "urn:chaperone:consent-category|contact-preference";
        let written: Vec<Value> = case
            .consents
            .iter()
            .map(|it| it.written_out(case.category.then_some(category)))
            .collect();
        let consents = Consents::read(&written, HOME);
        let telecom = case.telecom.unwrap_or_else(|| {
            vec![
                json!({"system": "phone", "value": "555-0100"}),
                json!({"system": "email", "value": "a@example.org"}),
            ]
        });
        let mut patient = json!({"resourceType": "Patient", "id": "p", "telecom": telecom});
        if !case.born.is_empty() {
            patient["birthDate"] = json!(case.born);
        }
        let wanted = Contact {
            channel: case.ask.channel,
            purpose: case.ask.purpose,
        };
        let said = match may_contact(&table, &consents, &patient, &wanted, now()) {
            Ok(ContactBasis::WithoutPreference) => "permit without-preference".to_owned(),
            Ok(ContactBasis::Preferences(_)) => "permit preferences".to_owned(),
            Err(denial) => format!("deny {denial}"),
        };
        if said != case.expect {
            wrong.push(format!("{}: expected {}, got {said}", case.id, case.expect));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_message_is_in_a_language_that_the_patient_prefers_as_far_as_both_say() {
    let speaks = |language: &str, preferred: Value| json!({"language": {"coding": [{"system": "urn:ietf:bcp:47", "code": language}]}, "preferred": preferred});
    let patient =
        json!({"communication": [speaks("en-US", json!(false)), speaks("es", json!(true))]});
    let unsaid = json!({"communication": [speaks("es", Value::Null)]});
    let refused = Err(ContactDenial::Language);
    for (patient, message, expected) in [
        (&patient, json!({"language": "es-MX"}), Ok(())),
        (&patient, json!({"language": "en"}), refused),
        (&patient, json!({"language": "e"}), refused),
        (&patient, json!({}), Ok(())),
        (&unsaid, json!({"language": "en"}), Ok(())),
        (&json!({}), json!({"language": "en"}), Ok(())),
    ] {
        assert_eq!(speaks_to(patient, &message), expected, "{message}");
    }
}

#[test]
fn what_a_message_does_is_read_strictly() {
    let table = table(None);
    let read = |message: Value| {
        contacts_of(&table, &message).map(|all| {
            let words = all
                .iter()
                .map(|it| format!("{} {}", it.channel, it.purpose));
            words.collect::<Vec<_>>().join(", ")
        })
    };
    let mode = |code: &str| json!({"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationMode", "code": code}]});
    let about = |code: &str| json!([{"coding": [{"system": "urn:chaperone:contact-purpose", "code": code}]}]);
    assert_eq!(
        read(json!({"medium": [mode("SMSWRIT")], "category": about("reminder")})),
        Ok("sms reminder".to_owned())
    );
    // Unsaid or unknown is the strictest.
    assert_eq!(
        read(json!({"medium": [mode("SMSWRIT")]})),
        Ok("sms outreach".to_owned())
    );
    assert_eq!(
        read(json!({"medium": [mode("EMAILWRIT"), mode("PHONE")], "category": about("news")})),
        Ok("email outreach, voice outreach".to_owned())
    );
    for medium in [
        json!([]),
        json!([mode("FAXWRIT")]),
        json!([mode("SMSWRIT"), {"text": "a text"}]),
        json!("sms"),
    ] {
        assert_eq!(
            read(json!({"medium": medium})),
            Err(ContactDenial::ChannelUnknown)
        );
    }
    assert_eq!(read(json!({})), Err(ContactDenial::ChannelUnknown));
}

#[test]
fn provisions_without_end_are_bounded() {
    let mut rule = json!({"type": "permit"});
    for _ in 0..12 {
        rule = json!({"type": "permit", "provision": [rule]});
    }
    let mut wide = json!({"type": "permit"});
    wide["provision"] = json!(vec![json!({"type": "deny"}); 600]);
    let long = json!({"type": "permit", "purpose": [{"code": "x".repeat(600)}]});
    for provision in [rule, wide, long] {
        let mut consent = Short::default().written_out(None);
        consent["provision"] = provision;
        let read = Consents::read([&consent], HOME);
        assert_eq!(read.unclear, Some(Unclear::Limit));
    }
    let consent = Short {
        status: Some("inactive".to_owned()),
        ..Short::default()
    };
    let many = vec![consent.written_out(None); CONSENTS_MAX + 1];
    assert_eq!(Consents::read(&many[1..], HOME).unclear, None);
    assert_eq!(Consents::read(&many, HOME).unclear, Some(Unclear::Limit));
}

#[test]
fn a_table_that_weakens_the_law_or_names_what_is_not_there_is_refused() {
    let refused = |from: &str, to: &str| {
        assert!(TABLE.contains(from), "{from}");
        ConsentTable::parse(&TABLE.replacen(from, to, 1))
            .expect_err(to)
            .to_string()
    };
    for (from, to) in [
        ("labels = [\"PSYTHPN\"]", "labels = [\"PSY\"]"),
        ("of = \"TREAT\"", "of = \"CARE\""),
        ("notice = \"part-2\"", "notice = \"part-3\""),
        ("purposes = [\"TREAT\"]", "purposes = [\"CARE\"]"),
        ("purposes = \"all\"", "purposes = \"some\""),
        ("unsaid_purpose = \"outreach\"", "unsaid_purpose = \"any\""),
        ("SMSWRIT = \"sms\"", "SMSWRIT = \"text\""),
        (
            "code = \"SPI\"\nincludes = [\"BH\"]",
            "code = \"SPI\"\nincludes = [\"SPI\"]",
        ),
        (
            "owner = \"privacy officer\"",
            "holder = \"privacy officer\"",
        ),
    ] {
        assert!(!refused(from, to).is_empty());
    }
    // Psychotherapy notes behind break-glass would be as bad.
    let first = TABLE.find("break_glass = false").unwrap();
    let mut weaker = TABLE.to_owned();
    weaker.replace_range(
        first..first + "break_glass = false".len(),
        "break_glass = true",
    );
    assert!(ConsentTable::parse(&weaker).is_err());
}
