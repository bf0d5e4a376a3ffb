//! The two profiles that are no ordinary FHIR servers: one that takes messages, and one where people sign.

use chaperone_sandbox::{FaultKind, FaultRule, ServerProfile};
use serde_json::{Value, json};

use crate::support::{bench, json_of, outcome};

fn message(id: &str, resource: &Value) -> Value {
    json!({"resourceType": "Parameters", "parameter": [
        {"name": "message-id", "valueString": id},
        {"name": "resource", "resource": resource},
    ]})
}

fn said(answer: &Value) -> (&str, &str) {
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap();
    (
        text("/parameter/0/valueCode"),
        text("/parameter/1/valueReference/reference"),
    )
}

#[tokio::test]
async fn a_message_is_filed_once_and_its_id_serves_for_nothing_else() {
    let bench = bench(ServerProfile::Vendor).await;
    let task = json!({"resourceType": "Task", "status": "draft", "intent": "order"});
    let first = json_of(bench.post("$file-entry", &message("m-1", &task)).await).await;
    let (outcome_said, reference) = said(&first);
    assert_eq!(outcome_said, "accepted");
    let again = json_of(bench.post("$file-entry", &message("m-1", &task)).await).await;
    assert_eq!(said(&again), ("duplicate", reference));
    assert_eq!(bench.handle().resources("Task").len(), 1);
    let other = json!({"resourceType": "Task", "status": "requested", "intent": "order"});
    let refused = bench.post("$file-entry", &message("m-1", &other)).await;
    assert_eq!(outcome(refused, 409).await, "duplicate");
    // With its id the same operation replaces; what is not there is not made.
    let id = reference.trim_start_matches("Task/");
    let mut changed = other.clone();
    changed["id"] = json!(id);
    bench.post("$file-entry", &message("m-2", &changed)).await;
    assert_eq!(
        bench.handle().resource("Task", id).unwrap()["status"],
        "requested"
    );
    changed["id"] = json!("nobody");
    let refused = bench.post("$file-entry", &message("m-3", &changed)).await;
    assert_eq!(refused.status(), 404);
    // No other way in, and none where it is not offered.
    assert_eq!(bench.post("Task", &task).await.status(), 405);
    assert_eq!(bench.post("$file-entry", &task).await.status(), 400);
    let plain = crate::support::bench(ServerProfile::Plain).await;
    let refused = plain.post("$file-entry", &message("m-1", &task)).await;
    assert_eq!(refused.status(), 405);
}

#[tokio::test]
async fn faults_strike_messages_by_what_they_do() {
    let bench = bench(ServerProfile::Vendor).await;
    let task = json!({"resourceType": "Task", "status": "draft", "intent": "order"});
    let lost = FaultKind::TimeoutAfterCommit { hold_ms: 0 };
    bench.handle().inject(FaultRule::once("POST", "Task", lost));
    let request = bench.request(reqwest::Method::POST, "$file-entry");
    let body = message("m-1", &task).to_string();
    let sent = request
        .header("content-type", "application/fhir+json")
        .body(body);
    assert!(sent.send().await.is_err());
    assert_eq!(bench.handle().resources("Task").len(), 1);
}

#[tokio::test]
async fn orders_come_in_unsigned_and_are_signed_by_people_only() {
    let bench = bench(ServerProfile::Staged).await;
    let order = |status: &str| {
        json!({"resourceType": "MedicationRequest", "status": status, "intent": "order",
               "subject": {"reference": "Patient/p1"}})
    };
    let refused = bench.post("MedicationRequest", &order("active")).await;
    assert_eq!(outcome(refused, 422).await, "business-rule");
    let placed = json_of(bench.post("MedicationRequest", &order("draft")).await).await;
    let id = placed["id"].as_str().unwrap();
    // Nobody signs from outside: not by changing it, nor by writing a Provenance.
    let mut active = order("active");
    active["id"] = json!(id);
    let refused = bench.put(&format!("MedicationRequest/{id}"), &active).await;
    assert_eq!(refused.status(), 405);
    let provenance = json!({"resourceType": "Provenance", "target": []});
    assert_eq!(bench.post("Provenance", &provenance).await.status(), 405);

    let signer = "Practitioner/doctor";
    assert!(
        bench
            .handle()
            .sign("MedicationRequest", id, signer)
            .unwrap()
    );
    assert!(
        !bench
            .handle()
            .sign("MedicationRequest", id, signer)
            .unwrap()
    );
    let now = bench.handle().resource("MedicationRequest", id).unwrap();
    assert_eq!(now["status"], "active");
    let found = bench
        .get(&format!("Provenance?target=MedicationRequest/{id}"))
        .await;
    let found = json_of(found).await;
    let signature = &found["entry"][0]["resource"];
    assert_eq!(
        signature["target"][0]["reference"],
        format!("MedicationRequest/{id}/_history/2")
    );
    assert_eq!(signature["signature"][0]["who"]["reference"], signer);
    // What nobody signs here comes in as it is.
    let task = json!({"resourceType": "Task", "status": "requested", "intent": "order"});
    assert_eq!(bench.post("Task", &task).await.status(), 201);
}
