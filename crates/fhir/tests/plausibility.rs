//! Every case of every plausibility rule: something that fires it, and the nearest thing that does not.
//!
//! The cases are data, in `tests/plausibility/*.json`. `bases.json` has one plausible context and plausible
//! resources; a case changes them at JSON pointers (`@remove` takes away) and says what fires, completely.
//! Start at `cases_fire_and_their_neighbours_do_not`.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::disallowed_methods,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason
    )
)]

use std::collections::{BTreeMap, BTreeSet};

use chaperone_fhir::finding::{RestsOn, Severity};
use chaperone_fhir::json::{Document, JsonLimits};
use chaperone_fhir::plausibility::{
    CodeSource, CodeStatus, Context, Effect, Needs, Observed, Part, Plausibility, Ports, RULES,
    Report, RuleError, RuleFiles, When,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

macro_rules! governance {
    ($file:literal) => {
        include_str!(concat!("../../../governance/rules/", $file))
    };
}

const FILES: RuleFiles<'static> = RuleFiles {
    plausibility: governance!("plausibility.toml"),
    code_tables: governance!("code-tables.toml"),
    vital_ranges: governance!("vital-ranges.toml"),
    medications: governance!("medications.toml"),
    medication_checks: governance!("medication-checks.toml"),
    status_transitions: governance!("status-transitions.toml"),
};

const BASES: &str = include_str!("plausibility/bases.json");
const CASES: [(&str, &str); 5] = [
    ("identity", include_str!("plausibility/identity.json")),
    ("dates", include_str!("plausibility/dates.json")),
    ("codes", include_str!("plausibility/codes.json")),
    ("values", include_str!("plausibility/values.json")),
    ("medication", include_str!("plausibility/medication.json")),
];

/// One case: `change` fires `fires` and nothing else; `near` fires nothing of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    base: String,
    /// Made before both.
    #[serde(default)]
    given: Change,
    change: Change,
    fires: Vec<String>,
    near: Change,
    /// What the neighbour may fire instead.
    #[serde(default)]
    near_fires: Vec<String>,
    /// `system|code` to what a code source says.
    #[serde(default)]
    codes: BTreeMap<String, Told>,
    /// `value unit` of the proposal that the first finding makes.
    proposes: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(default)]
    resource: Map<String, Value>,
    #[serde(default)]
    context: Map<String, Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    status: String,
    billable: Option<bool>,
    #[serde(default)]
    displays: Vec<String>,
}

struct Codes(BTreeMap<String, Told>);

impl CodeSource for Codes {
    fn status(&self, system: &str, code: &str, _: Option<jiff::civil::Date>) -> CodeStatus {
        match self
            .0
            .get(&format!("{system}|{code}"))
            .map(|it| it.status.as_str())
        {
            Some("active") => CodeStatus::Active,
            Some("inactive") => CodeStatus::Inactive,
            Some("unknown") => CodeStatus::Unknown,
            _ => CodeStatus::NotDecided,
        }
    }

    fn is_billable(&self, system: &str, code: &str) -> Option<bool> {
        self.0.get(&format!("{system}|{code}"))?.billable
    }

    fn displays(&self, system: &str, code: &str) -> Vec<String> {
        self.0
            .get(&format!("{system}|{code}"))
            .map(|it| it.displays.clone())
            .unwrap_or_default()
    }
}

fn rules() -> Plausibility {
    Plausibility::parse(&FILES)
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
}

fn bases() -> Value {
    serde_json::from_str(BASES).unwrap()
}

fn cases() -> Vec<(String, Case)> {
    CASES
        .iter()
        .flat_map(|(file, text)| {
            let cases: Vec<Case> =
                serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
            cases
                .into_iter()
                .map(move |case| (format!("{file}: {}", case.name), case))
        })
        .collect()
}

/// Sets, adds or takes away what stands at each pointer; missing objects on the way are made.
fn change(value: &mut Value, changes: &Map<String, Value>) {
    for (pointer, new) in changes {
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        let last = &last.replace("~1", "/");
        if value.pointer(parent).is_none() {
            change(value, &Map::from_iter([(parent.to_owned(), json!({}))]));
        }
        match value.pointer_mut(parent).unwrap() {
            Value::Object(members) if new == "@remove" => {
                members.shift_remove(last.as_str());
            }
            Value::Object(members) => {
                members.insert(last.to_owned(), new.clone());
            }
            Value::Array(items) if new == "@remove" => {
                items.remove(last.parse().unwrap());
            }
            Value::Array(items) => {
                let at: usize = last.parse().unwrap();
                if at < items.len() {
                    items[at] = new.clone();
                } else {
                    items.push(new.clone());
                }
            }
            other => panic!("{pointer}: {other}"),
        }
    }
}

fn case_of(case: &Case, with: &Change) -> (Value, Context) {
    let bases = bases();
    let mut resource = bases["resources"][&case.base].clone();
    assert!(resource.is_object(), "no base {}", case.base);
    let mut context = bases["context"].clone();
    for changes in [&case.given, with] {
        change(&mut resource, &changes.resource);
        change(&mut context, &changes.context);
    }
    let context = Context::from_resources(context).unwrap_or_else(|error| {
        panic!(
            "{}: {error} {:?}",
            case.name,
            std::error::Error::source(&error)
        )
    });
    (resource, context)
}

fn run(rules: &Plausibility, case: &Case, with: &Change) -> (Report, Value) {
    let (resource, context) = case_of(case, with);
    let codes = Codes(case.codes.clone());
    let ports = Ports {
        codes: (!case.codes.is_empty()).then_some(&codes as &dyn CodeSource),
        drugs: None,
    };
    (rules.check_with(&resource, &context, ports), resource)
}

fn fired(report: &Report) -> Vec<String> {
    let fired: BTreeSet<String> = report
        .judged
        .iter()
        .map(|it| format!("{}:{}", it.rule, it.case))
        .collect();
    fired.into_iter().collect()
}

fn sorted(names: &[String]) -> Vec<String> {
    let names: BTreeSet<&String> = names.iter().collect();
    names.into_iter().cloned().collect()
}

#[test]
fn cases_fire_and_their_neighbours_do_not() {
    let rules = rules();
    let mut wrong = Vec::new();
    for (name, case) in cases() {
        let (report, resource) = run(&rules, &case, &case.change);
        if fired(&report) != sorted(&case.fires) {
            wrong.push(format!(
                "{name}: fired {:?}, not {:?}",
                fired(&report),
                case.fires
            ));
        }
        let proposal = report
            .judged
            .iter()
            .find_map(|it| it.proposal.as_ref())
            .map(|it| format!("{} {}", it.value, it.unit));
        if case.proposes.is_some() && proposal != case.proposes {
            wrong.push(format!("{name}: proposes {proposal:?}"));
        }
        let (near, _) = run(&rules, &case, &case.near);
        if fired(&near) != sorted(&case.near_fires) {
            wrong.push(format!(
                "{name}, near: fired {:?}, not {:?}",
                fired(&near),
                case.near_fires
            ));
        }
        for judged in report.judged.iter().chain(&near.judged) {
            let message = &judged.finding.message;
            let rule = RULES.iter().find(|rule| rule.id == judged.rule).unwrap();
            let has_blank = rule
                .words
                .iter()
                .chain(rule.limits)
                .any(|word| message.contains(&format!("{{{word}}}")));
            if has_blank || message.contains("  ") || message.contains("NaN") {
                wrong.push(format!("{name}: {message}"));
            }
            if message.contains("Rivera") || message.contains("0012345") {
                wrong.push(format!("{name}: names the patient: {message}"));
            }
        }
        let _ = resource;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The context without what [`Plausibility::needs`] does not name.
fn reduced(context: &Context, needs: &Needs) -> Context {
    let mut reduced = context.clone();
    let keep = |is_needed: bool, list: &mut Option<Vec<Value>>| {
        if !is_needed {
            *list = None;
        }
    };
    keep(needs.medications, &mut reduced.medications);
    keep(needs.allergies, &mut reduced.allergies);
    keep(needs.conditions, &mut reduced.conditions);
    keep(!needs.observations.is_empty(), &mut reduced.observations);
    keep(needs.appointments.is_some(), &mut reduced.appointments);
    let is_asked_for = |observation: &Value| {
        let at = observation["effectiveDateTime"]
            .as_str()
            .unwrap_or_default();
        let at = When::parse(at, None).map(|when| when.latest);
        let codings = observation["code"]["coding"].as_array().unwrap();
        needs.observations.iter().any(|need| {
            at.is_none_or(|at| at >= need.since)
                && codings
                    .iter()
                    .any(|coding| need.codes.contains(coding["code"].as_str().unwrap()))
        })
    };
    if let Some(observations) = &mut reduced.observations {
        observations.retain(is_asked_for);
    }
    if let (Some([from, until]), Some(appointments)) =
        (needs.appointments, &mut reduced.appointments)
    {
        appointments.retain(|appointment| {
            let start: jiff::Timestamp = appointment["start"].as_str().unwrap().parse().unwrap();
            (from..=until).contains(&start)
        });
    }
    if needs.encounter.is_none() {
        reduced.encounter = Observed::Unknown;
    }
    if !needs.last_visit {
        reduced.last_visit = Observed::Unknown;
    }
    reduced
}

#[test]
fn what_is_not_needed_changes_nothing() {
    let rules = rules();
    for (name, case) in cases() {
        for with in [&case.change, &case.near] {
            let (resource, context) = case_of(&case, with);
            // An entry of a Bundle is asked about by itself, and claims are nobody's proposal yet.
            if matches!(resource["resourceType"].as_str(), Some("Bundle" | "Claim")) {
                continue;
            }
            let needs = rules.needs(&resource, context.now);
            let all = rules.check(&resource, &context);
            let some = rules.check(&resource, &reduced(&context, &needs));
            assert_eq!(fired(&some), fired(&all), "{name}: {needs:?}");
            assert_eq!(some.unchecked, all.unchecked, "{name}: {needs:?}");
        }
    }
}

#[test]
fn a_type_needs_what_its_rules_look_at_and_nothing_else() {
    let rules = rules();
    let bases = bases();
    let now = "2026-06-15T15:00:00Z".parse().unwrap();
    let needs = |name: &str| rules.needs(&bases["resources"][name], now);
    let order = needs("order");
    assert!(order.medications && order.allergies && order.appointments.is_none());
    assert!(!order.last_visit, "it follows no prescription");
    let rate = needs("heart-rate");
    assert!(!rate.medications && !rate.allergies && rate.encounter.as_deref() == Some("e1"));
    assert!(rate.observations[0].codes.contains("8867-4"));
    let mut visit = json!({
        "resourceType": "Appointment", "status": "booked",
        "start": "2026-06-20T14:00:00Z", "end": "2026-06-20T14:30:00Z",
    });
    let booked = rules.needs(&visit, now);
    assert!(booked.appointments.is_some());
    assert!(!booked.medications && !booked.allergies && booked.observations.is_empty());
    visit["status"] = json!("cancelled");
    assert_eq!(rules.needs(&visit, now), Needs::default());
    let mut stopped = bases["resources"]["order"].clone();
    stopped["status"] = json!("stopped");
    assert!(!rules.needs(&stopped, now).medications);
}

#[test]
fn an_order_is_clean_only_when_every_check_was_made() {
    let rules = rules();
    let bases = bases();
    let fired = |changes: Value, context: Value| {
        let (mut resource, mut known) = (
            bases["resources"]["order"].clone(),
            bases["context"].clone(),
        );
        change(&mut resource, changes.as_object().unwrap());
        change(&mut known, context.as_object().unwrap());
        let known = Context::from_resources(known).unwrap();
        rules.order_checks_fired(&rules.check(&resource, &known))
    };
    let text = json!({ "/dosageInstruction/0/text": "@remove" });
    assert_eq!(fired(json!({}), json!({})), Some(false));
    // Not looked up is not clean; nor is a drug that no table knows.
    assert_eq!(
        fired(text.clone(), json!({ "/allergies": "@remove" })),
        None
    );
    assert_eq!(
        fired(text.clone(), json!({ "/medications": "@remove" })),
        None
    );
    let unknown = json!({ "/allergies": [{
        "resourceType": "AllergyIntolerance", "id": "a", "code": { "text": "novelumab" },
    }] });
    assert_eq!(fired(text.clone(), unknown), None);
    // Whether a refill is routine is another question.
    assert_eq!(
        fired(text.clone(), json!({ "/last_visit": "@remove" })),
        Some(false)
    );
    // Kidneys that ask for care, and those that nobody looked at.
    let gabapentin = json!({ "/dosageInstruction/0/text": "@remove",
        "/medicationCodeableConcept": { "coding": [{ "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "25480" }] },
        "/dosageInstruction/0/doseAndRate/0/doseQuantity/value": 300 });
    assert_eq!(
        fired(gabapentin.clone(), json!({ "/egfr": 30 })),
        Some(false)
    );
    assert_eq!(
        fired(gabapentin.clone(), json!({ "/egfr": 29 })),
        Some(true)
    );
    assert_eq!(fired(gabapentin, json!({ "/egfr": "@remove" })), None);
    let over = json!({ "/dosageInstruction/0/text": "@remove",
        "/dosageInstruction/0/doseAndRate/0/doseQuantity/value": 90 });
    assert_eq!(fired(over, json!({ "/allergies": "@remove" })), Some(true));
}

#[test]
fn bases_are_plausible() {
    let rules = rules();
    let bases = bases();
    let context = Context::from_resources(bases["context"].clone()).unwrap();
    for (name, resource) in bases["resources"].as_object().unwrap() {
        let report = rules.check(resource, &context);
        assert_eq!(fired(&report), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn none_of_the_checks_that_an_order_must_pass_can_be_taken_away() {
    for id in [
        "M-02", "M-03", "M-04", "M-05", "M-06", "M-07", "M-09", "M-11", "K-06",
    ] {
        let text = FILES
            .medication_checks
            .replacen(&format!("\"{id}\", "), "", 1);
        let error = Plausibility::parse(&RuleFiles {
            medication_checks: &text,
            ..FILES
        })
        .unwrap_err();
        assert!(error.to_string().contains(id), "{error}");
    }
}

/// The rules of the register, each by name, so that none can be lost.
const IDS: &str = "C-01 C-02 C-03 C-04 C-05 C-06 C-07 C-08 C-09 D-01 D-02 D-03 D-04 D-05 D-06 D-07 D-08 D-09 \
    K-01 K-02 K-03 K-04 K-05 K-06 K-07 K-08 K-09 K-10 K-11 K-12 K-13 V-01 V-02 V-03 V-04 V-05 V-06 \
    M-01 M-02 M-03 M-04 M-05 M-06 M-07 M-08 M-09 M-10 M-11 M-12 unknown-drug";

#[test]
fn every_case_of_every_rule_is_tested() {
    let ids: Vec<&str> = IDS.split_whitespace().collect();
    let known: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(ids, known);
    let tested: BTreeSet<String> = cases()
        .into_iter()
        .flat_map(|(_, case)| case.fires)
        .collect();
    let missing: Vec<String> = RULES
        .iter()
        .flat_map(|rule| rule.cases.iter().map(|case| format!("{}:{case}", rule.id)))
        .filter(|it| !tested.contains(it))
        .collect();
    assert!(missing.is_empty(), "untested: {missing:?}");
}

#[test]
fn rules_about_sex_age_and_units_cannot_be_made_to_block() {
    for rule in ["K-06", "K-07", "K-08"] {
        let at = FILES
            .plausibility
            .find(&format!("id = \"{rule}\""))
            .unwrap();
        let (before, behind) = FILES.plausibility.split_at(at);
        let text = format!("{before}{}", behind.replacen("\"warn\"", "\"block\"", 1));
        let error = Plausibility::parse(&RuleFiles {
            plausibility: &text,
            ..FILES
        })
        .unwrap_err();
        assert!(
            matches!(&error, RuleError::Inconsistent { entry, .. } if entry == rule),
            "{error}"
        );
    }
}

#[test]
fn a_rule_that_lacks_anything_does_not_load() {
    let refused = |from: &str, to: &str| {
        assert!(FILES.plausibility.contains(from), "{from}");
        let text = FILES.plausibility.replacen(from, to, 1);
        Plausibility::parse(&RuleFiles {
            plausibility: &text,
            ..FILES
        })
        .err()
        .unwrap_or_else(|| panic!("loaded with {to:?} for {from:?}"))
    };
    refused("owner = \"clinical safety officer\"\n", "");
    refused("owner = \"clinical safety officer\"\n", "owner = \" \"\n");
    refused("review_by = 2027-05-31\n", "");
    refused("review_by = 2027-05-31\n", "review_by = \"soon\"\n");
    refused("severity = \"block\", ", "");
    refused("severity = \"block\"", "severity = \"deny\"");
    refused("id = \"C-01\"", "id = \"C-99\"");
    refused("id = \"C-02\"", "id = \"C-01\"");
    refused("schema = 1", "schema = 2");
    refused("before_hours = 24, ", "");
    refused("{element}", "{patient_name}");
    refused("checks = ", "checkz = ");
}

#[test]
fn tables_refuse_unknown_keys_and_dangling_names() {
    let drugs = FILES.medications.replacen("class = ", "klass = ", 1);
    let checks =
        FILES
            .medication_checks
            .replacen("drug = \"metformin\"", "drug = \"metformine\"", 1);
    let ranges = FILES
        .vital_ranges
        .replacen("unit = \"/min\"", "unit = \"bpm!\"", 1);
    let tables = FILES.code_tables.replacen("[[sex]]", "[[gender]]", 1);
    for files in [
        RuleFiles {
            medications: &drugs,
            ..FILES
        },
        RuleFiles {
            medication_checks: &checks,
            ..FILES
        },
        RuleFiles {
            vital_ranges: &ranges,
            ..FILES
        },
        RuleFiles {
            code_tables: &tables,
            ..FILES
        },
    ] {
        assert!(Plausibility::parse(&files).is_err());
    }
}

#[test]
fn overdue_rules_are_named_and_still_apply() {
    let rules = rules();
    assert!(rules.overdue("2026-12-31".parse().unwrap()).is_empty());
    let overdue = rules.overdue("2099-01-01".parse().unwrap());
    assert_eq!(overdue.len(), RULES.len() + 3);
    assert_eq!(rules.rules().count(), RULES.len());
}

#[test]
fn what_nobody_looked_up_is_not_checked_rather_than_passed() {
    let rules = rules();
    let bases = bases();
    let context = Context::from_resources(json!({ "now": "2026-06-15T15:00:00Z" })).unwrap();
    let check = |base: &str| rules.check(&bases["resources"][base], &context);
    let missing = |report: &Report| -> BTreeMap<Part, Vec<&'static str>> {
        report
            .unchecked
            .iter()
            .map(|it| (it.part, it.rules.clone()))
            .collect()
    };

    let report = check("heart-rate");
    assert_eq!(fired(&report), Vec::<String>::new());
    let parts = missing(&report);
    assert_eq!(parts[&Part::Encounter], ["C-04", "C-05"]);
    assert_eq!(parts[&Part::Prior], ["K-12"]);
    assert!(parts[&Part::Patient].contains(&"C-01"));
    assert!(parts[&Part::Observations].contains(&"V-03"));
    assert_eq!(report.effect(), None);
    let findings = report.findings();
    assert!(
        findings
            .iter()
            .all(|it| it.id == "plausibility.not-checked")
    );
    assert!(
        findings
            .iter()
            .all(|it| it.severity == Severity::Information)
    );

    // About drugs, a human must look.
    let report = check("order");
    let parts = missing(&report);
    assert!(parts[&Part::Allergies].contains(&"M-02"));
    assert_eq!(parts[&Part::Medications], ["M-03", "M-09"]);
    assert_eq!(parts[&Part::Pregnancy], ["M-08"]);
    assert_eq!(report.effect(), Some(Effect::Warn));
    assert_eq!(report.effect_of_input(), None);
    let about_allergies = report
        .findings()
        .into_iter()
        .find(|it| it.message.contains("allergies"));
    assert_eq!(about_allergies.unwrap().severity, Severity::Warning);

    // None is not unknown: with empty lists everything was checked.
    let context = Context::from_resources(bases["context"].clone()).unwrap();
    let report = rules.check(&bases["resources"]["order"], &context);
    let parts: Vec<Part> = report.unchecked.iter().map(|it| it.part).collect();
    assert_eq!(parts, [Part::CodeSystems]);
}

#[test]
fn findings_say_what_they_rest_on_and_where_they_stand() {
    let rules = rules();
    let bases = bases();
    let mut resource = bases["resources"]["heart-rate"].clone();
    resource["valueQuantity"]["value"] = json!(500);
    resource["subject"]["reference"] = json!("Patient/p2");
    let text = serde_json::to_string_pretty(&resource).unwrap();
    let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
    let context = Context::from_resources(bases["context"].clone()).unwrap();
    let mut report = rules.check(&document.root().to_json(), &context);
    report.locate(&document);
    let of = |rule: &str| report.judged.iter().find(|it| it.rule == rule).unwrap();

    let range = of("V-01");
    assert_eq!(range.finding.rests_on, RestsOn::InputOnly);
    assert_eq!(range.finding.id, "plausibility.V-01");
    assert_eq!(range.finding.expression, "Observation.valueQuantity");
    let line = text
        .lines()
        .position(|it| it.contains("valueQuantity"))
        .unwrap()
        + 1;
    assert_eq!(range.finding.position.unwrap().line as usize, line);

    let subject = of("C-01");
    assert_eq!(subject.finding.rests_on, RestsOn::Context);
    assert_eq!(subject.parts, [Part::Patient]);
    assert_eq!(report.effect(), Some(Effect::Block));

    // The same input gives the same report.
    let mut again = rules.check(&document.root().to_json(), &context);
    again.locate(&document);
    assert_eq!(again, report);
}

#[test]
fn a_bundle_is_checked_entry_by_entry_and_holds_one_patient() {
    let rules = rules();
    let bases = bases();
    let context = Context::from_resources(bases["context"].clone()).unwrap();
    let mut second = bases["resources"]["condition"].clone();
    let bundle = |second: &Value| {
        json!({ "resourceType": "Bundle", "type": "transaction", "entry": [
            { "fullUrl": "urn:uuid:1", "resource": bases["resources"]["heart-rate"] },
            { "fullUrl": "urn:uuid:2", "resource": second }
        ] })
    };
    assert_eq!(
        fired(&rules.check(&bundle(&second), &context)),
        Vec::<String>::new()
    );
    second["subject"]["reference"] = json!("Patient/p2");
    let report = rules.check(&bundle(&second), &context);
    assert!(fired(&report).contains(&"C-02:several".to_owned()));
    let other = report.judged.iter().find(|it| it.rule == "C-01").unwrap();
    assert_eq!(other.finding.expression, "Bundle.entry[1].resource.subject");
}

#[test]
fn nothing_in_a_resource_or_context_makes_it_panic() {
    let rules = rules();
    let bases = bases();
    let context = Context::from_resources(bases["context"].clone()).unwrap();
    let odd = [
        json!(null),
        json!(true),
        json!(-1e300),
        json!("é9999-99-99T"),
        json!([]),
        json!({}),
        json!([null]),
        json!({ "coding": [null, {}] }),
        json!("2024-02-30"),
        json!([[{ "reference": 1 }]]),
    ];
    // Every value of every base, replaced by each odd one.
    for resource in bases["resources"].as_object().unwrap().values() {
        let mut pointers = Vec::new();
        collect(resource, String::new(), &mut pointers);
        for pointer in pointers {
            for odd in &odd {
                let mut changed = resource.clone();
                *changed.pointer_mut(&pointer).unwrap() = odd.clone();
                let _ = rules.check(&changed, &context);
            }
        }
    }
    assert!(Context::from_resources(json!({ "now": "2026-06-15" })).is_err());
    assert!(
        Context::from_resources(json!({ "now": "2026-06-15T15:00:00Z", "patients": [] })).is_err()
    );
    assert!(
        Context::from_resources(
            json!({ "now": "2026-06-15T15:00:00Z", "patient": { "resourceType": "Group", "id": "g" } })
        )
        .is_err()
    );
}

fn collect(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                collect(member, format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}

/// Known, controlled, high-alert.
fn kind(code: &str, display: &str) -> (bool, bool, bool) {
    let rules = Plausibility::parse(&FILES).unwrap();
    let kind = rules.medication(&json!({ "coding": [{
        "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": code, "display": display,
    }] }));
    (kind.known, kind.controlled, kind.high_alert)
}

#[test]
fn a_medication_is_what_its_code_and_its_words_say_together() {
    let lisinopril = "29046";
    for (code, words, expected) in [
        (
            lisinopril,
            "Lisinopril 10 MG Oral Tablet",
            (true, false, false),
        ),
        ("0", "Lisinopril 10 MG Oral Tablet", (true, false, false)),
        (lisinopril, "", (true, false, false)),
        // A display that contradicts its code counts as the stricter drug; one that says nothing known, as unknown.
        (lisinopril, "Oxycodone 5 MG Oral Tablet", (true, true, true)),
        (lisinopril, "Placebo", (false, false, false)),
        ("0", "Placebo", (false, false, false)),
        // A combination is known only when every ingredient is, in whichever order they are written.
        (
            "0",
            "Oxycodone 5 MG / Acetaminophen 325 MG Oral Tablet",
            (true, true, true),
        ),
        (
            "0",
            "Oxycodone 5 MG / Novelumab 325 MG Oral Tablet",
            (false, true, true),
        ),
        (
            "0",
            "Novelumab 325 MG / Oxycodone 5 MG Oral Tablet",
            (false, true, true),
        ),
        // Names match as whole words.
        ("0", "Oxycodonex 5 MG Oral Tablet", (false, false, false)),
    ] {
        assert_eq!(kind(code, words), expected, "{code} {words}");
    }
    let rules = Plausibility::parse(&FILES).unwrap();
    assert!(!rules.medication(&Value::Null).known);
}
