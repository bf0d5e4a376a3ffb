//! Free text: what is shown of it, what is withheld, and how its slots come back in what an agent drafts.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_core::envelope::Envelope;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::EnvelopeId;
use chaperone_core::phi::ExposedFor;
use chaperone_core::ports::RecordKey;
use chaperone_core::principal::{Human, Role};
use chaperone_engine::approve::ApproveRequest;
use chaperone_engine::errors::{CallError, Retry};
use chaperone_engine::open_envelope::Caller;
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::MemoryKeyVault;
use serde_json::{Value, json};

use crate::bench::*;

const NOTE: &str = "Ada Quillfeather (MRN 77-1290-X) seen on 2026-01-12 with her husband Tom Quillfeather. \
    Lives at 12 Fernhollow Lane. Call 970-555-0187. Reviewed by Dr. Brakus. Takes metformin.";
/// Nothing of these may reach an agent, whatever stands around them.
const IDENTIFIERS: [&str; 8] = [
    "Ada",
    "Quillfeather",
    "77-1290",
    "Tom",
    "Fernhollow",
    "555-0187",
    "Brakus",
    "1950-02-03",
];

fn clinician() -> Human {
    human(2, &[Role::Clinician])
}

/// The first patient with a name, a relative, a doctor, an encounter and one note.
fn fill(bench: &Bench) {
    let about = json!({ "reference": "Patient/p1", "display": "Ada Quillfeather" });
    for resource in [
        json!({
            "resourceType": "Patient", "id": "p1", "birthDate": "1950-02-03",
            "identifier": [{
                "system": "urn:example:mrn", "value": "77-1290-X",
                "type": { "coding": [{ "code": "MR" }] },
            }],
            "name": [{ "family": "Quillfeather", "given": ["Ada"] }],
            "telecom": [{ "system": "phone", "value": "970-555-0187" }],
            "address": [{ "line": ["12 Fernhollow Lane"], "city": "Quarrytown" }],
        }),
        json!({
            "resourceType": "RelatedPerson", "id": "r1", "patient": about,
            "name": [{ "family": "Quillfeather", "given": ["Tom"] }],
        }),
        json!({
            "resourceType": "Practitioner", "id": "d7",
            "name": [{ "family": "Brakus", "given": ["Lilliana"] }],
        }),
        json!({
            "resourceType": "Encounter", "id": "e1", "status": "in-progress",
            "class": { "code": "AMB" }, "subject": about,
        }),
        document("n1", NOTE),
    ] {
        bench.ehr.put(resource);
    }
}

pub(crate) fn document(id: &str, text: &str) -> Value {
    attached(
        id,
        json!({
            "contentType": "text/plain", "data": STANDARD.encode(text),
            "title": "Quillfeather_Ada.txt", "url": "http://ehr.test/Quillfeather",
        }),
    )
}

fn attached(id: &str, attachment: Value) -> Value {
    json!({
        "resourceType": "DocumentReference", "id": id, "status": "current",
        "subject": { "reference": "Patient/p1", "display": "Ada Quillfeather" },
        "author": [{ "reference": "Practitioner/d7" }],
        "description": "Letter about Ada Quillfeather",
        "text": { "status": "generated", "div": "<div>Ada Quillfeather</div>" },
        "contained": [{ "resourceType": "Practitioner", "id": "c", "name": [{ "text": "Ada Quillfeather" }] }],
        "extension": [{ "url": "http://x.example/e", "valueString": "Ada Quillfeather" }],
        "content": [{ "attachment": attachment }],
    })
}

pub(crate) async fn filled(db: Db) -> Bench {
    let bench = bench_on(db, Strategy::Conditional).await;
    fill(&bench);
    bench
}

pub(crate) async fn summariser(bench: &Bench) -> Caller {
    bench
        .caller(&clinician(), "scribe-agent", "transcription-summary", "p1")
        .await
}

/// The same agent and patient in another envelope.
fn another(caller: &Caller) -> Caller {
    Caller {
        envelope: Arc::new(Envelope {
            id: EnvelopeId::from_random([8; 16]),
            ..Envelope::clone(&caller.envelope)
        }),
    }
}

pub(crate) fn text_of(answer: &Value) -> &str {
    answer["resources"][0]["content"][0]["attachment"]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("no text in {answer}"))
}

/// The slots of a text, in order.
fn slots_in(text: &str) -> Vec<&str> {
    let starts = text.match_indices('[');
    starts
        .map(|(at, _)| &text[at..=at + text[at..].find(']').unwrap()])
        .collect()
}

#[track_caller]
fn names_nobody(answer: &Value) {
    let seen = answer.to_string();
    for identifier in IDENTIFIERS {
        assert!(!seen.contains(identifier), "`{identifier}` in {seen}");
    }
}

async fn refused(bench: &Bench, caller: &Caller, tool: &str, arguments: Value) -> CallError {
    let correlation = bench.engine.correlation();
    let arguments = arguments.as_object().unwrap().clone();
    let answer = bench
        .engine
        .call(caller, tool, arguments, correlation)
        .await;
    answer.unwrap_err()
}

async fn events(bench: &Bench, caller: &Caller) -> Vec<Event> {
    let stream = StreamId::Envelope(caller.envelope.id);
    let recorded = bench.store.stream(&tenant(), &stream).await.unwrap();
    recorded.into_iter().map(|it| it.event).collect()
}

fn counted(classes: &[(&str, u32)]) -> BTreeMap<String, u32> {
    let owned = classes.iter().map(|(class, n)| ((*class).to_owned(), *n));
    owned.collect()
}

pub(crate) async fn a_note_is_shown_with_slots_that_are_put_back_in_what_is_drafted_from_it(
    db: Db,
) {
    let bench = filled(db).await;
    let agent = summariser(&bench).await;
    let read = bench.call(&agent, "list_documents", json!({})).await;
    names_nobody(&read);
    let text = text_of(&read).to_owned();
    let slots = slots_in(&text);
    // The date stays, because this intent writes; so does what is nobody's.
    assert!(
        text.contains("seen on 2026-01-12 with her husband [NAME-"),
        "{text}"
    );
    assert!(text.ends_with("Takes metformin."), "{text}");
    assert_eq!(
        read["scrubbed"],
        json!({
            "replaced": { "MRN": 1, "NAME": 3, "PHONE": 1, "PLACE": 1 },
            "withheld": {},
        }),
        "{text}"
    );
    assert!(read["notice"].as_str().unwrap().contains("slots"));
    // Nothing but the content was named; the address it could also be had at is said to be withheld.
    let attachment = read["resources"][0]["content"][0]["attachment"]
        .as_object()
        .unwrap();
    assert_eq!(
        attachment.keys().collect::<Vec<_>>(),
        ["contentType", "text"]
    );
    assert_eq!(read["withheld"], json!(["content.attachment.url"]));

    let encounter =
        bench.call(&agent, "list_encounters", json!({})).await["resources"][0]["id"].clone();
    let draft = format!(
        "Visit of {} on 2026-01-12. Reachable at {}.",
        slots[0], slots[4]
    );
    let arguments =
        json!({ "idempotency_key": "note", "encounter_token": encounter, "text": draft });
    let answer = bench.call(&agent, "draft_note", arguments.clone()).await;
    assert_eq!(answer["state"], "awaiting_approval", "{answer}");
    names_nobody(&answer);
    let id = answer["proposal"].as_str().unwrap().parse().unwrap();
    let row = bench.row(id).await;
    assert!(row.tainted, "it was written from text of others");
    // The approver sees and signs what the slots stand for.
    let review = bench.engine.review(&clinician(), id).await.unwrap();
    let slip = format!("{review:?}");
    assert!(!slip.contains("Quillfeather"), "{slip}");
    let content = review.content.as_ref().unwrap().expose(ExposedFor::Person);
    let content = format!("{content:?}");
    assert!(
        content.contains("Ada Quillfeather") && !content.contains("[NAME-"),
        "{content}"
    );
    bench
        .engine
        .approve(
            &clinician(),
            ApproveRequest {
                writeback: id,
                digest: row.digest.unwrap(),
                step_up: None,
                override_reason: None,
                review_ms: 5_000,
            },
        )
        .await
        .unwrap();
    bench.deliver().await;
    let written = bench.ehr.resource("DocumentReference", "new-1").unwrap();
    let data = written["content"][0]["attachment"]["data"]
        .as_str()
        .unwrap();
    assert_eq!(
        String::from_utf8(STANDARD.decode(data).unwrap()).unwrap(),
        "Visit of Ada Quillfeather on 2026-01-12. Reachable at 970-555-0187."
    );
    // The same call again is the same proposal, also once the slots are gone.
    let again = bench.call(&another(&agent), "draft_note", arguments).await;
    assert_eq!(again["proposal"], answer["proposal"]);

    let mut queue = bench.engine.afterwork().unwrap();
    bench.engine.drain_afterwork(&mut queue).await;
    let events = events(&bench, &agent).await;
    let json = serde_json::to_value(&events).unwrap();
    names_nobody(&json);
    let made = counted(&[("MRN", 1), ("NAME", 3), ("PHONE", 1), ("PLACE", 1)]);
    let put_back = counted(&[("NAME", 1), ("PHONE", 1)]);
    let is = |wanted: &dyn Fn(&Event) -> bool| events.iter().filter(|event| wanted(event)).count();
    assert_eq!(
        is(&|it| matches!(it, Event::SlotsMinted { classes, .. } if *classes == made)),
        1
    );
    assert_eq!(is(&|it| matches!(it, Event::SlotsMinted { .. })), 1);
    assert_eq!(
        is(&|it| matches!(it, Event::SlotsResolved { classes, .. } if *classes == put_back)),
        1
    );
    assert_eq!(is(&|it| matches!(it, Event::SlotsResolved { .. })), 1);
    assert_eq!(
        is(
            &|it| matches!(it, Event::ReadPermitted(ceiling) if ceiling.text == ["content.attachment.data"])
        ),
        1
    );
    assert_eq!(
        is(
            &|it| matches!(it, Event::ReadReleased { text, replaced, .. }
            if *text == ["content.attachment.data"] && *replaced == made)
        ),
        1
    );
}

/// An engine of its own, as another process of the same installation.
async fn process(bench: &Bench, keys: &Arc<MemoryKeyVault>) -> Arc<Engine> {
    let ports = Ports {
        keys: keys.clone(),
        ..ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone())
    };
    let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
    Engine::start(config, BUNDLE.clone(), ports).await.unwrap()
}

pub(crate) async fn slots_are_the_same_in_every_call_process_and_node_of_an_envelope(db: Db) {
    let bench = filled(db).await;
    let keys = Arc::new(MemoryKeyVault::new(1));
    let here = Bench {
        engine: process(&bench, &keys).await,
        ..bench
    };
    let agent = summariser(&here).await;
    let first = here.call(&agent, "list_documents", json!({})).await;
    let first = text_of(&first).to_owned();

    let there = Bench {
        engine: process(&here, &keys).await,
        ..here
    };
    there.ehr.put(document(
        "n1",
        "Quillfeather called 970 555 0187; Ada Quillfeather is well, so is Zoe Quillfeather.",
    ));
    let second = there.call(&agent, "list_documents", json!({})).await;
    let second = text_of(&second).to_owned();
    let (before, after) = (slots_in(&first), slots_in(&second));
    assert_eq!(after[1], before[4], "the same number: {first} / {second}");
    assert_eq!(after[2], before[0], "the same name: {first} / {second}");
    assert!(
        !before.contains(&after[3]),
        "another name: {first} / {second}"
    );

    // Many calls at once agree about what is new, and none loses what another made.
    for n in 2..8 {
        there.ehr.put(document(
            &format!("n{n}"),
            &format!("Call 970-555-02{n}{n} or {n}{n}3-45-678{n}."),
        ));
    }
    let calls = (0..6).map(|_| there.call(&agent, "list_documents", json!({})));
    let answers = futures::future::join_all(calls).await;
    for answer in &answers {
        assert_eq!(answer["resources"], answers[0]["resources"]);
    }
    let minted: u32 = events(&there, &agent)
        .await
        .iter()
        .map(|event| match event {
            Event::SlotsMinted { classes, .. } => classes.values().sum(),
            _ => 0,
        })
        .sum();
    let mut all: Vec<String> = Vec::new();
    for text in [&first, &second] {
        all.extend(slots_in(text).into_iter().map(str::to_owned));
    }
    for document in answers[0]["resources"].as_array().unwrap() {
        let text = document["content"][0]["attachment"]["text"]
            .as_str()
            .unwrap();
        all.extend(slots_in(text).into_iter().map(str::to_owned));
    }
    all.sort();
    all.dedup();
    assert_eq!(minted as usize, all.len(), "every slot was made once");
}

pub(crate) async fn a_slot_of_another_envelope_or_none_is_refused(db: Db) {
    let bench = filled(db).await;
    let ours = summariser(&bench).await;
    let theirs = another(&ours);
    let text = |answer: &Value| slots_in(text_of(answer))[0].to_owned();
    let own = text(&bench.call(&ours, "list_documents", json!({})).await);
    let foreign = text(&bench.call(&theirs, "list_documents", json!({})).await);
    assert_ne!(own, foreign, "the same name in two envelopes");
    let encounter =
        bench.call(&ours, "list_encounters", json!({})).await["resources"][0]["id"].clone();
    let draft =
        |text: &str| json!({ "idempotency_key": text, "encounter_token": encounter, "text": text });
    for (text, said) in [
        (format!("About {foreign}."), "is no slot of this envelope"),
        ("About [NAME-1].".to_owned(), "is no slot of this envelope"),
        (
            format!("About {own} and {foreign}."),
            "is no slot of this envelope",
        ),
        (
            format!("About {}.", own.to_lowercase()),
            "is not written like a slot",
        ),
        (
            format!("About {}.", own.trim_end_matches(']')),
            "is not written like a slot",
        ),
    ] {
        let error = refused(&bench, &ours, "draft_note", draft(&text)).await;
        assert_eq!(
            (error.code, error.status, error.retry),
            ("slot-unresolved", 422, Retry::Changed)
        );
        assert_eq!(error.field.as_deref(), Some("text"));
        assert!(error.message.contains(said), "{}", error.message);
        assert!(error.next.contains("exactly as"), "{}", error.next);
    }
    // What is near a slot and none is text.
    for text in ["HLA-B27 [sic] is fine", "see note [3]"] {
        let answer = bench.call(&ours, "draft_note", draft(text)).await;
        assert_eq!(answer["state"], "awaiting_approval");
    }
    // An input that does not declare slots refuses even those that the envelope gave out.
    let refill = bench
        .caller(&clinician(), "refill-agent", "refill-request", "p1")
        .await;
    let task =
        json!({ "idempotency_key": "t", "summary": format!("Call {own}."), "pool": "nursing" });
    let error = refused(&bench, &refill, "create_task", task).await;
    assert_eq!(
        (error.code, error.field.as_deref()),
        ("slot-unresolved", Some("summary"))
    );
    assert!(
        error.message.contains("takes no slots"),
        "{}",
        error.message
    );
    // Nothing of a refused call was proposed.
    let proposed = bench.engine.tenant().clone();
    let resolved = events(&bench, &ours)
        .await
        .into_iter()
        .filter(|it| matches!(it, Event::SlotsResolved { .. }))
        .count();
    assert_eq!((proposed, resolved), (tenant(), 0));
}

pub(crate) async fn slots_end_with_their_envelope(db: Db) {
    let bench = filled(db).await;
    let agent = summariser(&bench).await;
    bench.call(&agent, "list_documents", json!({})).await;
    let key = RecordKey::new("slots", agent.envelope.id);
    let record = async |at| bench.store.record(&tenant(), &key, at).await.unwrap();
    let kept = record(bench.engine.now()).await.unwrap();
    assert_eq!(kept.expires, Some(agent.envelope.expires));
    let rests = kept.value.to_string();
    for identifier in IDENTIFIERS {
        assert!(!rests.contains(identifier) && !rests.contains(&hex::encode(identifier)));
    }
    assert!(record(agent.envelope.expires).await.is_none());
}

/// What an answer says about texts, with everything else of the record as it should be.
async fn scrubbed(bench: &Bench, agent: &Caller) -> Value {
    let answer = bench.call(agent, "list_documents", json!({})).await;
    names_nobody(&answer);
    assert!(!answer["resources"].as_array().unwrap().is_empty());
    answer["scrubbed"]["withheld"].clone()
}

#[tokio::test]
async fn where_the_names_cannot_be_known_no_text_is_shown() {
    let bench = filled(Db::Sqlite).await;
    type Fault = fn(&Bench, bool);
    let faults: [(&str, Fault); 3] = [
        ("Patient", |bench, on| {
            bench.ehr.set_unreadable("Patient", on)
        }),
        ("RelatedPerson", |bench, on| {
            bench.ehr.set_unsearchable("RelatedPerson", on)
        }),
        ("Practitioner", |bench, on| {
            bench.ehr.set_unreadable("Practitioner", on)
        }),
    ];
    let agent = summariser(&bench).await;
    for (what, fault) in faults {
        fault(&bench, true);
        assert_eq!(
            scrubbed(&bench, &agent).await,
            json!({ "record-unread": 1 }),
            "{what}"
        );
        fault(&bench, false);
    }
    // Somebody else's record under the patient's id, or beside it, is no knowledge of the patient.
    bench.ehr.put(json!({
        "resourceType": "RelatedPerson", "id": "r2", "subject": { "reference": "Patient/p1" },
        "patient": { "reference": "Patient/p2" },
    }));
    assert_eq!(
        scrubbed(&bench, &agent).await,
        json!({ "record-unread": 1 })
    );
    bench.ehr.put(json!({
        "resourceType": "RelatedPerson", "id": "r2", "patient": { "reference": "Patient/p1" },
    }));
    assert_eq!(scrubbed(&bench, &agent).await, json!({}));
    // A doctor whom the EHR does not have tells nothing and hides nothing.
    let mut note = document("n1", NOTE);
    note["author"] =
        json!([{ "reference": "Practitioner/gone" }, { "reference": "Practitioner/d7" }]);
    bench.ehr.put(note);
    assert_eq!(scrubbed(&bench, &agent).await, json!({}));
    // More people than anybody can look for.
    let mut note = document("n1", NOTE);
    note["author"] = (0..70)
        .map(|n| json!({ "reference": format!("Practitioner/x{n}") }))
        .collect();
    bench.ehr.put(note);
    assert_eq!(
        scrubbed(&bench, &agent).await,
        json!({ "too-many-names": 1 })
    );
}

#[tokio::test]
async fn what_cannot_be_read_or_costs_too_much_is_withheld() {
    let bench = filled(Db::Sqlite).await;
    let agent = summariser(&bench).await;
    let data = |text: &str| STANDARD.encode(text);
    let long = format!("{NOTE} ").repeat((256 << 10) / NOTE.len() + 1);
    for (attachment, reason) in [
        (
            json!({ "contentType": "application/pdf", "data": data(NOTE) }),
            "unreadable",
        ),
        (
            json!({ "contentType": "image/png", "data": data(NOTE) }),
            "unreadable",
        ),
        (
            json!({ "contentType": "text/plain; charset=ebcdic", "data": data(NOTE) }),
            "unreadable",
        ),
        (
            json!({ "contentType": "text/plain", "data": NOTE }),
            "unreadable",
        ),
        (
            json!({ "contentType": "text/plain", "data": data(&long) }),
            "too-long",
        ),
    ] {
        bench.ehr.put(attached("n1", attachment));
        assert_eq!(scrubbed(&bench, &agent).await, json!({ reason: 1 }));
    }
    for shown in [
        json!({ "contentType": "text/html", "data": data(&format!("<p title='{NOTE}'>{NOTE}</p><!-- {NOTE} -->")) }),
        json!({ "contentType": "application/rtf", "data": data(&format!("{{\\rtf1 {NOTE}}}")) }),
        json!({ "data": data(NOTE) }),
    ] {
        bench.ehr.put(attached("n1", shown));
        assert_eq!(scrubbed(&bench, &agent).await, json!({}));
    }
    // Each alone is no more than may be read; together they are.
    let each = "Feels well. ".repeat(8_000);
    for n in 0..7 {
        bench.ehr.put(document(&format!("long{n}"), &each));
    }
    let withheld = scrubbed(&bench, &agent).await;
    assert!(withheld["over-budget"].as_u64().unwrap() >= 2, "{withheld}");
    let answer = bench.call(&agent, "list_documents", json!({})).await;
    assert!(
        answer["withheld"]
            .to_string()
            .contains("content.attachment.data")
    );
}

#[tokio::test]
async fn text_that_tool_or_intent_does_not_name_stays_withheld() {
    let bench = filled(Db::Sqlite).await;
    bench.ehr.put(json!({
        "resourceType": "MedicationRequest", "id": "m1", "status": "active", "intent": "order",
        "subject": { "reference": "Patient/p1" },
        "medicationCodeableConcept": { "text": "Metformin for Ada", "coding": [{
            "system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "860975", "display": "Ada's pills" }] },
        "note": [{ "authorString": "Dr. Brakus", "text": "Ada forgets doses." }],
        "dosageInstruction": [{ "text": "one for Ada", "patientInstruction": "Ada, with food" }],
    }));
    // The tool names the note, the intent does not: as if there were no free text at all.
    let refill = bench
        .caller(&clinician(), "refill-agent", "refill-request", "p1")
        .await;
    let read = bench.call(&refill, "list_medications", json!({})).await;
    names_nobody(&read);
    assert!(read.get("scrubbed").is_none() && !read.to_string().contains("forgets"));
    let row = bench.task(&refill, "clean", json!([])).await;
    assert!(!row.tainted, "nothing of others was read");
    // Both name it; the display and the patient's instruction are named by nobody.
    let summary = bench
        .caller(&clinician(), "order-agent", "chart-summary", "p1")
        .await;
    let read = bench.call(&summary, "list_medications", json!({})).await;
    names_nobody(&read);
    let seen = read.to_string();
    assert!(
        seen.contains("forgets doses") && seen.contains("Metformin for [NAME-"),
        "{seen}"
    );
    assert!(
        !seen.contains("pills") && !seen.contains("with food"),
        "{seen}"
    );
    assert!(
        read["withheld"].to_string().contains("note.authorString"),
        "{seen}"
    );
    // Where nothing is written, a day is an identifier.
    let documents = bench.call(&summary, "list_documents", json!({})).await;
    assert!(
        text_of(&documents).contains("seen on [DATE-"),
        "{documents}"
    );
}

/// Why the default bundle does not load with some texts replaced; `None` when it does.
fn refusal(file: &str, changes: &[(&str, &str)]) -> Option<String> {
    let mut files = chaperone_policy::embedded::files();
    let text = files.get_mut(file).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{file}: {from}");
        *text = text.replacen(from, to, 1);
    }
    match chaperone_policy::Bundle::load(&files) {
        Ok(bundle) => chaperone_engine::check_bundle(&bundle)
            .err()
            .map(|it| it.to_string()),
        Err(problems) => Some(problems.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn a_bundle_that_opens_text_in_vain_or_in_the_wrong_place_is_refused() {
    let summary = "intents/transcription-summary.toml";
    let named = "[text]\nDocumentReference = [\"content.attachment.data\"]";
    let documents = "tools/list_documents.toml";
    let own = "text = [\"content.attachment.data\"]";
    let slots = ("required = true", "required = true\nslots = true");
    for (file, changes, why) in [
        (
            summary,
            vec![(named, "[text]\nDocumentReference = [\"description\"]")],
            "shown by none of its tools",
        ),
        (
            summary,
            vec![(named, "[text]\nPatient = [\"name\"]")],
            "shown by none of its tools",
        ),
        (
            documents,
            vec![(own, "text = [\"content.attachment.url\"]")],
            "shown by none of its tools",
        ),
        (
            documents,
            vec![(own, "text = [\"status\"]")],
            "listed twice",
        ),
        (
            "intents/find-slots.toml",
            vec![("[view]", "[text]\nSlot = [\"comment\"]\n\n[view]")],
            "is patient-free",
        ),
        // The encounter's token comes first among the required inputs.
        (
            "tools/draft_note.toml",
            vec![slots],
            "only a string of a write tool takes `slots`",
        ),
        (
            "tools/create_task.toml",
            vec![
                slots,
                (
                    "description = \"{summary}\"",
                    "businessStatus = { coding = [{ code = \"{summary}\" }] }",
                ),
            ],
            "`businessStatus.coding.code`, which is no text",
        ),
    ] {
        let said = refusal(file, &changes).unwrap_or_else(|| panic!("{file}: {changes:?} loads"));
        assert!(said.contains(why), "{file}: {changes:?}: {said}");
    }
    // A text that no tool can name, even where the intent agrees.
    let mut files = chaperone_policy::embedded::files();
    for file in [summary, "intents/chart-summary.toml", documents] {
        let text = files.get_mut(file).unwrap();
        *text = text.replace("content.attachment.data", "identifier.value");
    }
    let bundle = chaperone_policy::Bundle::load(&files).unwrap();
    let said = chaperone_engine::check_bundle(&bundle)
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("transcription-summary") || said.contains("chart-summary"),
        "{said}"
    );
    assert_eq!(refusal("tools/create_task.toml", &[slots]), None);
}
