//! A portal is shown what waits for its patient, and says that the patient confirmed it. Beside it, everything that
//! must be refused, each with status, code and ledger entry.

use axum::body::Body;
use axum::http::Request;
use chaperone_core::event::{DecisionKind, Event};
use chaperone_core::ports::Clock as _;
use chaperone_core::principal::Actor;
use chaperone_core::writeback::WritebackEvent;
use serde_json::{Value, json};

use crate::house::*;

const ATTEST: &str = "/portals/portal/attestations";
const SHOW: &str = "/portals/portal/proposals";

/// A booking that waits for the patient's word: its id, and the token of the agent that proposed it.
async fn held(house: &House) -> (String, String) {
    let token = house
        .token(SCHEDULER, "schedule-appointment", Some("a"))
        .await;
    let found = house.send(rest(&token, "find_slots", &window())).await;
    let slot = found.body["resources"][0]["id"].as_str().unwrap();
    let booking = json!({"idempotency_key": "held", "slot": slot, "visit_type": "ROUTINE"});
    let answer = house
        .send(rest(&token, "confirm_appointment", &booking))
        .await;
    assert_eq!(
        answer.body["state"], "awaiting_verification",
        "{:?}",
        answer.body
    );
    let id = answer.body["proposal"].as_str().unwrap().to_owned();
    (id, token)
}

fn signed(house: &House, path: &str, body: &Value) -> Request<Body> {
    sent_at(house, path, PORTAL_SECRET, 0, &body.to_string())
}

async fn shown(house: &House, id: &str) -> Value {
    let asked = json!({"writeback": id, "patient": "Patient/a"});
    let answer = house.send(signed(house, SHOW, &asked)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.body
}

fn attestation(house: &House, id: &str, digest: &Value) -> Value {
    json!({
        "id": "CANARY-confirmation-1", "writeback": id, "digest": digest, "patient": "Patient/a",
        "fact": "patient_confirmed", "method": "session", "at": house.clock.now().to_string(),
    })
}

/// Codes of refusals in the ledger, with who was refused.
async fn refusals(house: &House) -> Vec<(String, String)> {
    let ledger = house.ledger().await;
    let code = |event: &Event| match event {
        Event::DecisionRefused {
            decision: DecisionKind::Verify,
            code,
            ..
        } => Some(code.clone()),
        Event::CallRefused(refusal) => Some(refusal.code.clone()),
        _ => None,
    };
    let who = |actor: &Actor| match actor {
        Actor::Portal { portal } => portal.to_string(),
        _ => "nobody".to_owned(),
    };
    let all = ledger.iter();
    all.filter_map(|it| Some((code(&it.event)?, who(&it.actor))))
        .collect()
}

#[tokio::test]
async fn a_portal_shows_a_proposal_to_its_patient_and_attests_their_word_once() {
    let house = House::new().await;
    let (id, _) = held(&house).await;
    let shown = shown(&house, &id).await;
    assert_eq!(shown["needs"], json!(["patient_confirmed"]));
    assert_eq!(shown["interaction"], "create");
    // What the patient is shown is what would be sent.
    assert_eq!(shown["resource"]["resourceType"], "Appointment");
    assert_eq!(shown["resource"]["status"], "booked");
    let right = attestation(&house, &id, &shown["digest"]);
    let answer = house.send(signed(&house, ATTEST, &right)).await;
    assert_eq!(
        (answer.status, &answer.body),
        (200, &json!({"state": "verified"}))
    );
    let again = house.send(signed(&house, ATTEST, &right)).await;
    assert_eq!((again.status, again.code()), (404, "not-waiting"));
    let asked = json!({"writeback": id, "patient": "Patient/a"});
    let gone = house.send(signed(&house, SHOW, &asked)).await;
    assert_eq!((gone.status, gone.code()), (404, "not-waiting"));

    let ledger = house.ledger().await;
    let is_portal =
        |actor: &Actor| matches!(actor, Actor::Portal { portal } if portal.as_str() == "portal");
    let looks = ledger.iter().filter(|it| {
        is_portal(&it.actor)
            && matches!(&it.event, Event::ReadPermitted(look) if look.tool.as_str() == "portal.proposal")
    });
    assert_eq!(looks.count(), 1);
    let verified = ledger.iter().find(|it| {
        matches!(&it.event, Event::Writeback(WritebackEvent::Verified { evidence, .. }) if !evidence.is_empty())
    });
    assert!(is_portal(&verified.unwrap().actor));
    let text = serde_json::to_string(&ledger).unwrap();
    assert!(!text.contains("CANARY") && !text.contains("Patient/a"));
}

#[tokio::test]
async fn what_is_not_the_portals_to_say_verifies_nothing_and_is_recorded() {
    let house = House::new().await;
    let (id, token) = held(&house).await;
    let digest = shown(&house, &id).await["digest"].clone();
    let right = attestation(&house, &id, &digest);
    let with = |key: &str, value: Value| {
        let mut changed = right.clone();
        changed[key] = value;
        signed(&house, ATTEST, &changed)
    };
    let at = |s: i64| {
        let span = jiff::SignedDuration::from_secs(s);
        json!(house.clock.now().checked_add(span).unwrap().to_string())
    };
    let text = right.to_string();
    let by =
        |path: &str, secret: &[u8], ahead_s: i64| sent_at(&house, path, secret, ahead_s, &text);
    let unknown = "wb_00000000000000000000000000000000";
    let other_digest = chaperone_core::digest::Digest::of_bytes(b"other");
    let mut bearer = json_post(ATTEST, Some(&token), text.clone());
    bearer
        .headers_mut()
        .insert("x-chaperone-timestamp", "1".parse().unwrap());
    let mut in_address = by(ATTEST, PORTAL_SECRET, 0);
    *in_address.uri_mut() = format!("{ATTEST}?patient=CANARY").parse().unwrap();
    let another = |key: &str, value: Value| {
        let mut asked = json!({"writeback": id, "patient": "Patient/a"});
        asked[key] = value;
        signed(&house, SHOW, &asked)
    };
    let (portal, nobody) = ("portal", "nobody");
    let cases = [
        ("an agent's token", bearer, 401, "signature-refused", nobody),
        (
            "no signature",
            json_post(ATTEST, None, text.clone()),
            401,
            "signature-refused",
            nobody,
        ),
        (
            "an unknown portal",
            by("/portals/other/attestations", PORTAL_SECRET, 0),
            401,
            "signature-refused",
            nobody,
        ),
        (
            "another secret",
            by(ATTEST, EVENT_SECRET, 0),
            401,
            "signature-refused",
            nobody,
        ),
        (
            "a source of EHR events, under its own secret",
            by("/portals/integration/attestations", EVENT_SECRET, 0),
            401,
            "signature-refused",
            nobody,
        ),
        (
            "signed too long ago",
            by(ATTEST, PORTAL_SECRET, -301),
            401,
            "timestamp-refused",
            nobody,
        ),
        (
            "a patient in the address",
            in_address,
            400,
            "unexpected-query",
            nobody,
        ),
        (
            "a key that is not asked for",
            with("agent", json!("scheduler-agent")),
            422,
            "invalid-argument",
            portal,
        ),
        (
            "a step that there is not",
            with("method", json!("by telephone")),
            422,
            "invalid-argument",
            portal,
        ),
        (
            "a step that shows another fact",
            with("method", json!("lookup")),
            403,
            "method-refused",
            portal,
        ),
        (
            "a fact that the bundle does not trust it for",
            with("fact", json!("signature_verified")),
            403,
            "source-not-trusted",
            portal,
        ),
        (
            "a fact that Chaperone sees itself",
            with("fact", json!("slot_free")),
            403,
            "source-not-trusted",
            portal,
        ),
        (
            "another patient",
            with("patient", json!("Patient/b")),
            404,
            "not-waiting",
            portal,
        ),
        (
            "other content",
            with("digest", json!(other_digest)),
            404,
            "not-waiting",
            portal,
        ),
        (
            "another proposal",
            with("writeback", json!(unknown)),
            404,
            "not-waiting",
            portal,
        ),
        ("too old", with("at", at(-600)), 422, "out-of-time", portal),
        (
            "of a time to come",
            with("at", at(61)),
            422,
            "out-of-time",
            portal,
        ),
        (
            "no id",
            with("id", json!("")),
            422,
            "invalid-argument",
            portal,
        ),
        (
            "a proxy whom the EHR does not know",
            with("proxy", json!("RelatedPerson/CANARY")),
            403,
            "proxy-refused",
            portal,
        ),
        (
            "shown to another patient",
            another("patient", json!("Patient/b")),
            404,
            "not-waiting",
            portal,
        ),
        (
            "shown to a proxy whom the EHR does not know",
            another("proxy", json!("RelatedPerson/CANARY")),
            403,
            "proxy-refused",
            portal,
        ),
    ];
    for (what, request, status, code, who) in cases {
        let before = refusals(&house).await.len();
        let answer = house.send(request).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{what}");
        assert!(!answer.body.to_string().contains("CANARY"), "{what}");
        let recorded = refusals(&house).await;
        assert_eq!(recorded.len(), before + 1, "{what}");
        assert_eq!(recorded.last().unwrap().1, who, "{what}");
    }
    // What is told as one is recorded as what it was.
    let recorded = refusals(&house).await;
    let codes: Vec<&str> = recorded.iter().map(|(code, _)| code.as_str()).collect();
    assert!(codes.contains(&"other-content") && codes.contains(&"not-waiting"));
    // It waits as before, and the portal's own word still verifies it.
    let answer = house.send(with("id", json!("the last one"))).await;
    assert_eq!(
        (answer.status, &answer.body),
        (200, &json!({"state": "verified"}))
    );
}

#[tokio::test]
async fn a_portal_has_a_code_sent_and_hands_it_in_and_an_agent_neither() {
    const SEND: &str = "/portals/portal/codes";
    const TAKE: &str = "/portals/portal/codes/confirm";
    let house = House::new().await;
    let token = house
        .token(CONTACT, "demographic-correction", Some("a"))
        .await;
    let wanted = json!({
        "idempotency_key": "1", "kind": "email", "value": "canary-new@example.org", "use": "home",
    });
    let answer = house.send(rest(&token, "update_contact", &wanted)).await;
    assert_eq!(
        answer.body["state"], "awaiting_verification",
        "{:?}",
        answer.body
    );
    let id = answer.body["proposal"].as_str().unwrap().to_owned();
    let shown = shown(&house, &id).await;
    assert_eq!(
        shown["resource"]["telecom"][0]["value"],
        "canary-new@example.org"
    );
    let asked = json!({"writeback": id, "digest": shown["digest"], "patient": "Patient/a"});
    let with = |of: &Value, key: &str, value: Value| {
        let mut changed = of.clone();
        changed[key] = value;
        changed
    };
    // The agent has no part in it: not by its token, and by none of its tools.
    for path in [SEND, TAKE] {
        let by_agent = json_post(path, Some(&token), asked.to_string());
        let answer = house.send(by_agent).await;
        assert_eq!((answer.status, answer.code()), (401, "signature-refused"));
    }
    for wrong in [
        with(&asked, "address", json!("eve@example.org")),
        json!({"writeback": id, "patient": "Patient/a"}),
    ] {
        let answer = house.send(signed(&house, SEND, &wrong)).await;
        assert_eq!((answer.status, answer.code()), (422, "invalid-argument"));
    }
    let of_another = with(&asked, "patient", json!("Patient/b"));
    let answer = house.send(signed(&house, SEND, &of_another)).await;
    assert_eq!((answer.status, answer.code()), (404, "not-waiting"));
    assert!(house.mail.sent().is_empty());

    let answer = house.send(signed(&house, SEND, &asked)).await;
    assert_eq!(
        (answer.status, &answer.body["state"]),
        (200, &json!("sent"))
    );
    assert_eq!(answer.body["left"], 2);
    let (to, mail) = house.mail.sent().remove(0);
    assert_eq!(to, "canary-new@example.org");
    let code = mail.code.unwrap();
    assert!(!answer.body.to_string().contains(&code));
    let status = house
        .send(rest(
            &token,
            "check_proposal_status",
            &json!({"proposal": id}),
        ))
        .await;
    assert!(!status.body.to_string().contains(&code));

    let wrong = if code == "00000000" {
        "00000001"
    } else {
        "00000000"
    };
    let answer = house
        .send(signed(&house, TAKE, &with(&asked, "code", json!(wrong))))
        .await;
    assert_eq!((answer.status, answer.code()), (403, "code-wrong"));
    let right = with(&asked, "code", json!(code));
    let answer = house.send(signed(&house, TAKE, &right)).await;
    let held = json!({"state": "held", "needs": ["portal_patient"]});
    assert_eq!((answer.status, &answer.body), (200, &held));
    let mut confirmed = attestation(&house, &id, &shown["digest"]);
    confirmed["fact"] = json!("portal_patient");
    confirmed["method"] = json!("step-up");
    let answer = house.send(signed(&house, ATTEST, &confirmed)).await;
    let verified = json!({"state": "verified"});
    assert_eq!((answer.status, &answer.body), (200, &verified));

    let ledger = serde_json::to_string(&house.ledger().await).unwrap();
    assert!(!ledger.contains("canary-new") && !ledger.contains(&code));
    let recorded = refusals(&house).await;
    let portals = recorded.iter().filter(|(_, who)| who == "portal");
    let codes: Vec<&str> = portals.map(|(code, _)| code.as_str()).collect();
    assert_eq!(
        codes,
        [
            "invalid-argument",
            "invalid-argument",
            "other-content",
            "code-wrong"
        ]
    );
}

#[tokio::test]
async fn a_portal_is_no_source_of_events_and_no_agent() {
    let house = House::new().await;
    let event = json!({
        "id": "1", "type": "appointment-booked", "occurred": house.clock.now().to_string(),
        "resource": "Appointment/appt-a", "patient": "Patient/a",
    });
    let as_announcer = signed(&house, "/ehr-events/portal", &event);
    let answer = house.send(as_announcer).await;
    assert_eq!((answer.status, answer.code()), (401, "signature-refused"));
    let as_agent = signed(&house, "/v1/tools/find_slots", &window());
    let answer = house.send(as_agent).await;
    assert_eq!((answer.status, answer.code()), (401, "no-token"));
}
