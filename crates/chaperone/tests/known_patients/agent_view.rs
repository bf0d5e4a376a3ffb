//! The same notes as an EHR holds them, read by an agent through an engine: whatever it answers, wherever in a
//! resource a note stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use chaperone_core::envelope::Envelope;
use chaperone_core::ids::{
    AccountName, AgentId, ConnectionId, EnvelopeId, IntentId, PersonId, TenantId,
};
use chaperone_core::ports::Clock as _;
use chaperone_core::principal::{Human, Role};
use chaperone_core::resource::Code;
use chaperone_engine::grant::{GrantRequest, PatientRef};
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_policy::Bundle;
use chaperone_testkit::{
    FakeEhr, MemoryAnchor, MemoryKeyVault, PermitConsent, SeededClock, SeededRandom, SilentNotifier,
};

use super::*;

/// A relative whom nothing but their own record names.
const RELATIVE: &str = "Thaddeuslav";
/// A doctor whom nothing but a reference leads to.
const DOCTOR: &str = "Wrenquist";
/// What must stay of every note, so that an empty answer does not pass for a clean one.
const HARMLESS: &str = "The lungs are clear";

/// Everything that a view can name of two types, so that no place for a text is left out.
const OF_DOCUMENTS: &str = r#"text = ["text", "description", "content.attachment", "content.format.display", "subject.display", "author.display", "type.text", "type.coding.display"]"#;
const OF_PROBLEMS: &str = r#"text = ["text", "code.text", "code.coding.display", "note", "onsetString", "subject.display", "asserter.display", "bodySite.text", "evidence.code.text"]"#;

/// The default bundle with every text of documents and problems opened to chart summaries.
fn wide_bundle() -> Arc<Bundle> {
    let mut files = chaperone_policy::embedded::files();
    for (path, text) in &mut files {
        // The clock of these tests is past the agreements of the default agents.
        if path.starts_with("agents/") {
            *text = text.replace("baa_expires = \"2027-", "baa_expires = \"2099-");
        }
    }
    let mut change = |file: &str, from: &str, to: &str| {
        let text = files.get_mut(file).unwrap();
        assert!(text.contains(from), "{file}: {from}");
        *text = text.replacen(from, to, 1);
    };
    let list = |declared: &str| declared.trim_start_matches("text = ").to_owned();
    change(
        "tools/list_documents.toml",
        "text = [\"content.attachment.data\"]",
        OF_DOCUMENTS,
    );
    change(
        "tools/list_problems.toml",
        "text = [\"code.text\", \"note.text\"]",
        OF_PROBLEMS,
    );
    for (from, to) in [
        (
            "DocumentReference = [\"content.attachment.data\"]",
            list(OF_DOCUMENTS),
        ),
        (
            "Condition = [\"code.text\", \"note.text\"]",
            list(OF_PROBLEMS),
        ),
    ] {
        let name = from.split_once(' ').unwrap().0;
        change(
            "intents/chart-summary.toml",
            from,
            &format!("{name} = {to}"),
        );
    }
    change(
        "intents/transcription-summary.toml",
        "[text]\nDocumentReference = [\"content.attachment.data\"]",
        "[text]\nDocumentReference = [\"description\"]",
    );
    Arc::new(Bundle::load(&files).unwrap_or_else(|problems| panic!("{problems:?}")))
}

struct House {
    engine: Arc<Engine>,
    ehr: Arc<FakeEhr>,
    clock: Arc<SeededClock>,
    _folder: tempfile::TempDir,
}

async fn house() -> House {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    let store = chaperone_store::open(&url, Default::default())
        .await
        .unwrap();
    let ehr = Arc::new(FakeEhr::new(ConnectionId::new("fake").unwrap()));
    let clock = Arc::new(SeededClock::new());
    let ports = Ports {
        store,
        ehr: ehr.clone(),
        keys: Arc::new(MemoryKeyVault::new(1)),
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(1)),
        consent: Arc::new(PermitConsent),
        notifier: Arc::new(SilentNotifier::default()),
        anchor: Arc::new(MemoryAnchor::default()),
    };
    let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
    let engine = Engine::start(config, wide_bundle(), ports).await.unwrap();
    House {
        engine,
        ehr,
        clock,
        _folder: folder,
    }
}

fn tenant() -> TenantId {
    TenantId::new("clinic").unwrap()
}

impl House {
    async fn caller(&self, patient: &str, number: usize) -> Caller {
        let human = Human {
            account: AccountName::new("clinician").unwrap(),
            person: PersonId::from_random([1; 16]),
            roles: vec![Role::Clinician],
        };
        let request = GrantRequest {
            agent: AgentId::new("order-agent").unwrap(),
            intent: IntentId::new("chart-summary").unwrap(),
            patient: PatientRef::LogicalId(patient.to_owned()),
            encounter: None,
            presence: false,
        };
        let grant = self.engine.issue_grant(&human, request).await.unwrap();
        let now = self.clock.now();
        let mut id = [7; 16];
        id[0] = u8::try_from(number).unwrap();
        Caller {
            envelope: Arc::new(Envelope {
                id: EnvelopeId::from_random(id),
                tenant: tenant(),
                agent: grant.agent,
                intent: grant.intent,
                grant: Some(grant.id),
                patient: grant.patient,
                encounter: None,
                presence: None,
                purpose: Code::new("TREAT").unwrap(),
                bundle: *self.engine.bundle().digest(),
                opened: now,
                expires: now
                    .checked_add(jiff::SignedDuration::from_secs(300))
                    .unwrap(),
            }),
        }
    }

    async fn read(&self, caller: &Caller, tool: &str, count: u32) -> Value {
        let arguments = json!({ "count": count }).as_object().unwrap().clone();
        let correlation = self.engine.correlation();
        self.engine
            .call(caller, tool, arguments, correlation)
            .await
            .unwrap()
    }
}

/// A note in every place of a document and of a problem where a source could put it.
fn with_note(number: usize, patient: &str, note: &str, person: &Person) -> [Value; 2] {
    let full = format!("{} {}", person.given, person.family);
    let subject = json!({ "reference": format!("Patient/{patient}"), "display": full });
    let narrative = json!({ "status": "generated", "div": format!("<div title='{full}'><p>{note}</p><!-- {note} --></div>") });
    let extension = json!([{ "url": "http://x.example/e", "valueString": note }]);
    let contained =
        json!([{ "resourceType": "Practitioner", "id": "c", "name": [{ "text": full }] }]);
    let concept = json!({ "text": note, "coding": [{ "system": "http://loinc.org", "code": "11506-3", "display": note }] });
    let rtf: String = note
        .chars()
        .map(|c| match c {
            '\\' | '{' | '}' => format!("\\{c}"),
            '\n' => "\\par ".to_owned(),
            c if c.is_ascii() => c.to_string(),
            c => format!("\\u{}?", c as u32),
        })
        .collect();
    let attachment = |content_type: &str, content: String| {
        json!({ "attachment": {
        "contentType": content_type, "data": STANDARD.encode(content),
        "title": format!("{}_{}.txt", person.family, person.given), "url": format!("http://ehr.test/{}", person.family),
    }, "format": { "system": "urn:x", "code": "x", "display": note } })
    };
    let document = json!({
        "resourceType": "DocumentReference", "id": format!("0-note-{number}"), "status": "current",
        "subject": subject, "text": narrative, "extension": extension, "contained": contained,
        "author": [{ "reference": "Practitioner/the-doctor" }, { "reference": "#c", "display": full }],
        "description": note, "type": concept,
        "content": [
            attachment("text/plain", note.to_owned()),
            attachment("text/html", format!("<html><head><title>{full}</title></head><p>{note}</p></html>")),
            attachment("application/rtf", format!("{{\\rtf1\\ansi {rtf}}}")),
            attachment("application/pdf", note.to_owned()),
        ],
    });
    let problem = json!({
        "resourceType": "Condition", "id": format!("0-note-{number}"), "subject": subject,
        "text": narrative, "extension": extension, "contained": contained, "code": concept, "onsetString": note,
        "asserter": { "reference": format!("Patient/{patient}"), "display": full },
        "bodySite": [{ "text": note }], "evidence": [{ "code": [{ "text": note }] }],
        "note": [{ "authorString": full, "text": note }],
    });
    [document, problem]
}

/// Puts a record into the EHR, with its urn references as an EHR would have them. The patient's id.
fn admit(house: &House, record: &Value, person: &Person) -> String {
    let entries = record["entry"].as_array().unwrap();
    let mut text = record.to_string();
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for (number, entry) in entries.iter().enumerate() {
        let url = entry["fullUrl"].as_str().unwrap();
        let kind = entry["resource"]["resourceType"].as_str().unwrap();
        let id = entry["resource"]["id"].as_str().map_or_else(
            || format!("{}-{number}", plain(&person.family)),
            str::to_owned,
        );
        ids.insert(url.to_owned(), format!("{kind}/{id}"));
    }
    for (url, reference) in &ids {
        text = text.replace(
            &format!("\"reference\":\"{url}\""),
            &format!("\"reference\":\"{reference}\""),
        );
    }
    let record: Value = serde_json::from_str(&text).unwrap();
    let mut patient = String::new();
    for (entry, original) in record["entry"].as_array().unwrap().iter().zip(entries) {
        let mut resource = entry["resource"].clone();
        let kind = resource["resourceType"].as_str().unwrap().to_owned();
        let id = ids[original["fullUrl"].as_str().unwrap()]
            .rsplit_once('/')
            .unwrap()
            .1
            .to_owned();
        resource["id"] = json!(id);
        if kind == "Patient" {
            patient = id;
        }
        if [
            "Patient",
            "Practitioner",
            "Organization",
            "Condition",
            "DocumentReference",
        ]
        .contains(&kind.as_str())
        {
            house.ehr.put(resource);
        }
    }
    house.ehr.put(json!({
        "resourceType": "RelatedPerson", "id": format!("{patient}-rel"),
        "patient": { "reference": format!("Patient/{patient}") },
        "name": [{ "given": [RELATIVE], "family": "Someoneelse" }],
    }));
    patient
}

/// Further ways to mention somebody, which the notes elsewhere do not use.
fn further_notes(person: &Person) -> Vec<String> {
    const NICKNAMES: [(&str, &str); 8] = [
        ("Robert", "Bob"),
        ("William", "Bill"),
        ("Elizabeth", "Beth"),
        ("Margaret", "Peggy"),
        ("James", "Jim"),
        ("Richard", "Dick"),
        ("Katherine", "Kate"),
        ("Jennifer", "Jenny"),
    ];
    let (given, family) = (&person.given, &person.family);
    let mut notes = vec![
        format!("{}.{}. rested well", first(given), first(family)),
        format!("Brother {RELATIVE} drove {given} home; Dr. {DOCTOR} agreed."),
        format!("{}S CHART, {}", family.to_uppercase(), given.to_uppercase()),
        format!("The chart of {} {} {}", family, given, family),
    ];
    let stem = given.trim_end_matches(|c: char| c.is_ascii_digit());
    for (whole, short) in NICKNAMES {
        if stem == whole {
            notes.push(format!("Goes by {short}; {short} {family} called."));
        }
    }
    notes
}

/// As many notes as one listing of documents shows.
const AT_ONCE: usize = 20;

async fn check(house: &House, record: &Value, number: usize) -> usize {
    let person = Person::of(record);
    let patient = admit(house, record, &person);
    let mut notes = person.notes();
    notes.extend(further_notes(&person));
    let caller = house.caller(&patient, number).await;
    for some in notes.chunks(AT_ONCE) {
        for (at, note) in some.iter().enumerate() {
            for resource in with_note(at, &patient, &format!("{note}\n{HARMLESS}."), &person) {
                house.ehr.put(resource);
            }
        }
        for (tool, count) in [("list_documents", 20), ("list_problems", 50)] {
            let answer = house.read(&caller, tool, count).await;
            names_nobody(&person, &answer);
            // Content, description, narrative, concept and display of a document; as many of a problem.
            let stays = answer.to_string().matches(HARMLESS).count();
            assert!(
                stays >= some.len() * 7,
                "{tool}: {stays} of {}: {}",
                some.len(),
                answer["scrubbed"]
            );
        }
    }
    notes.len()
}

/// Everything of an answer but Chaperone's own words.
#[track_caller]
fn names_nobody(person: &Person, answer: &Value) {
    let initials = format!("{}.{}.", first(&person.given), first(&person.family));
    for resource in answer["resources"].as_array().unwrap() {
        strings(resource, &mut |text| {
            look_at(person, text, false);
            for name in [RELATIVE, DOCTOR, initials.as_str()] {
                assert!(!text.contains(name), "`{name}` is left in\n{text}");
            }
        });
    }
    strings(&answer["withheld"], &mut |text| {
        look_at(person, text, false);
    });
}

async fn check_all(records: &[Value]) {
    let house = house().await;
    house.ehr.put(json!({
        "resourceType": "Practitioner", "id": "the-doctor", "name": [{ "family": DOCTOR, "given": ["Ione"] }],
    }));
    let mut notes = 0;
    for (number, record) in records.iter().enumerate() {
        notes += check(&house, record, number).await;
    }
    println!(
        "{} patients, {notes} notes, each in up to twelve places",
        records.len()
    );
}

#[tokio::test]
async fn an_agent_sees_nothing_of_the_demo_patients_in_notes() {
    check_all(&demo_records()).await;
}

#[tokio::test]
async fn an_agent_sees_nothing_of_forty_records_of_others_in_notes() {
    if let Some(records) = records_of_others() {
        check_all(&records).await;
    }
}
