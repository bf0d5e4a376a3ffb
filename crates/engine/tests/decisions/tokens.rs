//! Tokens are followed where a tool declares them and nowhere else, a person is told what one stands for with a
//! reason, and both are recorded.

use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::phi::ExposedFor;
use chaperone_core::principal::{Human, Role};
use chaperone_engine::audit::Asker;
use chaperone_engine::audit::who_saw::WhoSawQuestion;
use chaperone_engine::reveal::RevealFailed;
use serde_json::json;

use crate::bench::*;

const REASON: &str = "a complaint names this token; whose is it?";

fn privacy() -> Human {
    human(8, &[Role::Privacy])
}

fn slot() -> serde_json::Value {
    json!({
        "resourceType": "Slot", "id": "s1", "status": "free",
        "start": "2031-03-03T09:00:00Z", "end": "2031-03-03T09:30:00Z",
    })
}

pub(crate) async fn a_call_says_which_tokens_it_followed(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (agent, tokens) = bench.scheduler(&[slot()]).await;
    let slot = tokens[0].as_str().unwrap();
    bench.call(&agent, "get_patient_context", json!({})).await;
    let followed = async || {
        let recorded = bench.recorded().await;
        let of = recorded.into_iter().filter_map(|it| match it.event {
            Event::TokensResolved {
                correlation,
                tool,
                patient,
                tokens,
            } => {
                assert_eq!(it.stream, StreamId::Envelope(agent.envelope.id));
                Some((correlation, tool.to_string(), patient, tokens))
            }
            _ => None,
        });
        of.collect::<Vec<_>>()
    };
    assert_eq!(followed().await, [], "these calls send none");

    let arguments = json!({ "idempotency_key": "1", "slot": slot, "sources": [slot] });
    let answer = bench.call(&agent, "book_appointment", arguments).await;
    let all = followed().await;
    assert_eq!(all.len(), 1);
    let (correlation, tool, patient, tokens) = &all[0];
    assert_eq!(json!(correlation), answer["correlation"]);
    assert_eq!(tool, "book_appointment");
    assert_eq!(*patient, agent.envelope.patient);
    let tokens: Vec<String> = tokens.iter().map(ToString::to_string).collect();
    assert_eq!(tokens, [slot], "each once");

    // One that stands for nothing is refused, and nothing was followed.
    let nothing = format!("res_{}", "0".repeat(32));
    let arguments = json!({ "idempotency_key": "2", "slot": nothing });
    let refused = bench.try_call(&agent, "book_appointment", arguments).await;
    assert_eq!(refused.unwrap_err().code, "not-found");
    assert_eq!(followed().await.len(), 1);
}

pub(crate) async fn a_token_in_text_is_refused_and_not_followed(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    bench.ehr.put(json!({
        "resourceType": "Encounter", "id": "e1", "status": "in-progress",
        "class": { "code": "AMB" }, "subject": { "reference": "Patient/p1" },
    }));
    let clinician = human(2, &[Role::Clinician]);
    let scribe = bench
        .caller(&clinician, "scribe-agent", "draft-note", "p1")
        .await;
    let read = bench.call(&scribe, "list_encounters", json!({})).await;
    let visit = read["resources"][0]["id"].as_str().unwrap();
    let patient = scribe.envelope.patient.unwrap();
    let draft = async |key: &str, text: String| {
        let note = json!({ "idempotency_key": key, "encounter_token": visit, "text": text });
        bench.try_call(&scribe, "draft_note", note).await
    };
    for (key, text) in [
        ("1", format!("Seen at {visit}.")),
        ("2", format!("{patient} was seen.")),
        ("3", format!("x{patient}x")),
    ] {
        let refused = draft(key, text).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.field.as_deref()),
            ("invalid-argument", Some("text"))
        );
    }
    let cut = &visit[..visit.len() - 1];
    let near = draft("4", format!("Seen at {cut}; res_ and pat_ are prefixes.")).await;
    assert_eq!(near.unwrap()["state"], "awaiting_approval");
}

pub(crate) async fn a_person_is_told_what_a_token_stands_for_with_a_reason(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let (agent, tokens) = bench.scheduler(&[slot()]).await;
    let slot = tokens[0].as_str().unwrap();
    let patient = agent.envelope.patient.unwrap();
    let reveal = async |by: &Human, token: &str, reason: &str| {
        let told = bench.engine.reveal(by, token, reason).await;
        told.map(|it| (it.reference.into_exposed(ExposedFor::Person), it.patient))
    };
    let size = async || bench.store.size(&tenant()).await.unwrap();

    let before = size().await;
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Privacy) {
        let told = reveal(&human(7, &[role]), &patient.to_string(), REASON).await;
        assert!(matches!(told, Err(RevealFailed::NotPermitted)), "{role}");
    }
    for reason in ["", "because", &" ".repeat(20), &"x".repeat(1_001)] {
        let told = reveal(&privacy(), &patient.to_string(), reason).await;
        assert!(matches!(told, Err(RevealFailed::ReasonUnfit)), "{reason}");
    }
    for token in [
        "",
        "Patient/p1",
        &slot[..slot.len() - 1],
        &format!("pat_{}", "0".repeat(32)),
        &format!("res_{}", "0".repeat(32)),
        // The same digits under the other prefix are another token.
        &slot.replace("res_", "pat_"),
    ] {
        let told = reveal(&privacy(), token, REASON).await;
        assert!(matches!(told, Err(RevealFailed::Unknown)), "{token}");
    }
    assert_eq!(
        size().await,
        before,
        "nothing was told, nothing is recorded"
    );

    let told = reveal(&privacy(), &format!(" {patient} "), REASON).await;
    assert_eq!(told.unwrap(), ("Patient/p1".to_owned(), Some(patient)));
    let told = reveal(&privacy(), slot, REASON).await;
    assert_eq!(told.unwrap().0, "Slot/s1");

    let recorded = bench.recorded().await;
    let revealed: Vec<&Event> = recorded
        .iter()
        .map(|it| &it.event)
        .filter(|it| matches!(it, Event::TokenRevealed { .. }))
        .collect();
    assert_eq!(revealed.len(), 2);
    let Event::TokenRevealed {
        token: None,
        patient: whose,
        reason,
        ..
    } = revealed[0]
    else {
        panic!("{:?}", revealed[0])
    };
    assert_eq!(*whose, Some(patient));
    // The reason rests sealed, and neither it nor the id stands in the ledger.
    assert!(
        bench
            .store
            .payload(&tenant(), reason)
            .await
            .unwrap()
            .is_some()
    );
    let text = serde_json::to_string(&recorded.iter().map(|it| &it.event).collect::<Vec<_>>());
    let text = text.unwrap();
    assert!(!text.contains("complaint") && !text.contains("Patient/p1"));
    // A slot is nobody's, so that being told of it is no look at the patient.
    assert!(matches!(
        revealed[1],
        Event::TokenRevealed {
            token: Some(_),
            patient: None,
            ..
        }
    ));
    // Whoever asks who saw this patient sees the other.
    let asker = Asker::CommandLine;
    let seen = bench
        .engine
        .who_saw(asker, patient, &WhoSawQuestion::default())
        .await
        .unwrap();
    let asked = seen
        .accesses
        .iter()
        .filter(|it| it.tool.as_deref() == Some("console.token"));
    assert_eq!(asked.count(), 1);
}
