//! Transactions are all or nothing; batches are not.

use crate::support::{Bench, appointment, bench, json_of, outcome, patient};
use chaperone_sandbox::ServerProfile;
use serde_json::{Value, json};

const APPOINTMENT: &str = "urn:uuid:0b0c8b0e-6f4f-4b62-9f4a-0a6f5f1d0001";

/// A booking and its Provenance, as Chaperone's conditional delivery sends them.
fn booking(key: &str) -> Value {
    json!({
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": APPOINTMENT,
                "resource": appointment("p1", key),
                "request": {
                    "method": "POST",
                    "url": "Appointment",
                    "ifNoneExist": format!("identifier=urn:chaperone:writeback|{key}"),
                },
            },
            {
                "resource": {
                    "resourceType": "Provenance",
                    "target": [{"reference": APPOINTMENT}],
                    "recorded": "2026-03-02T15:00:00Z",
                    "agent": [{"who": {
                        "reference": "Practitioner?identifier=urn:test:staff|d1",
                    }}],
                },
                "request": {"method": "POST", "url": "Provenance"},
            },
        ],
    })
}

async fn staffed() -> Bench {
    let bench = bench(ServerProfile::Full).await;
    bench.handle().put(&patient("p1")).unwrap();
    bench
        .handle()
        .put(&json!({
            "resourceType": "Practitioner", "id": "d1",
            "identifier": [{"system": "urn:test:staff", "value": "d1"}],
        }))
        .unwrap();
    bench
}

#[tokio::test]
async fn references_between_entries_and_conditional_references_are_resolved() {
    let bench = staffed().await;
    let response = bench.post("", &booking("key-1")).await;
    assert_eq!(response.status(), 200);
    let answer = json_of(response).await;
    assert_eq!(answer["type"], "transaction-response");
    for entry in answer["entry"].as_array().unwrap() {
        assert_eq!(entry["response"]["status"], "201 Created");
        assert_eq!(entry["response"]["etag"], "W/\"1\"");
        assert!(
            entry["response"]["location"]
                .as_str()
                .unwrap()
                .ends_with("/_history/1")
        );
    }
    let booked = bench.handle().resources("Appointment").remove(0);
    let trace = bench.handle().resources("Provenance").remove(0);
    let expected = format!("Appointment/{}", booked["id"].as_str().unwrap());
    assert_eq!(trace["target"][0]["reference"], expected);
    assert_eq!(trace["agent"][0]["who"]["reference"], "Practitioner/d1");
    let times: Vec<_> = bench
        .handle()
        .changes_by_request()
        .iter()
        .map(|c| c.at)
        .collect();
    assert_eq!(times[0], times[1]);
}

#[tokio::test]
async fn a_repeated_transaction_reuses_what_its_condition_finds() {
    let bench = staffed().await;
    bench.post("", &booking("key-1")).await;
    let again = json_of(bench.post("", &booking("key-1")).await).await;
    assert_eq!(again["entry"][0]["response"]["status"], "200 OK");
    assert_eq!(bench.handle().resources("Appointment").len(), 1);
    let targets: Vec<_> = bench
        .handle()
        .resources("Provenance")
        .iter()
        .map(|trace| trace["target"][0]["reference"].clone())
        .collect();
    assert_eq!(targets[0], targets[1]);
}

#[tokio::test]
async fn one_bad_entry_and_nothing_is_applied() {
    let bench = staffed().await;
    let before = bench.handle().changes();
    let bad_entries = [
        (
            json!({"request": {"method": "PUT", "url": "Patient/p1", "ifMatch": "W/\"9\""},
                "resource": patient("p1")}),
            412,
        ),
        (
            json!({"request": {"method": "POST", "url": "Patient"},
                "resource": {"resourceType": "Observation"}}),
            400,
        ),
        (
            json!({"request": {"method": "POST", "url": "Potion"},
                "resource": {"resourceType": "Potion"}}),
            404,
        ),
        (
            json!({"request": {"method": "POST", "url": "Provenance"},
                "resource": {"resourceType": "Provenance",
                             "target": [{"reference": "urn:uuid:nobody"}]}}),
            400,
        ),
        (
            json!({"request": {"method": "POST", "url": "Provenance"},
                "resource": {"resourceType": "Provenance",
                             "target": [{"reference": "Patient?identifier=none"}]}}),
            412,
        ),
        (
            json!({"request": {"method": "DELETE", "url": "Patient/p7"}}),
            404,
        ),
        (
            json!({"request": {"method": "GET", "url": "Patient/p7"}}),
            404,
        ),
        (
            json!({"request": {"method": "PATCH", "url": "Patient/p1"}}),
            400,
        ),
        (json!({"resource": patient("p1")}), 400),
        (
            json!({"fullUrl": APPOINTMENT, "resource": patient("p1"),
                "request": {"method": "PUT", "url": "Patient/p1"}}),
            400,
        ),
    ];
    for (bad, status) in bad_entries {
        let mut bundle = booking("key-1");
        bundle["entry"].as_array_mut().unwrap().push(bad.clone());
        outcome(bench.post("", &bundle).await, status).await;
        assert_eq!(bench.handle().changes(), before, "{bad}");
    }
    // The same bundle without the bad entry goes through.
    assert_eq!(bench.post("", &booking("key-1")).await.status(), 200);
}

#[tokio::test]
async fn two_writes_to_one_resource_or_one_condition_are_refused() {
    let bench = staffed().await;
    let update = json!({"request": {"method": "PUT", "url": "Patient/p1"},
                        "resource": patient("p1")});
    let twice = json!({"resourceType": "Bundle", "type": "transaction",
                       "entry": [update, update]});
    outcome(bench.post("", &twice).await, 400).await;

    let mut same_condition = booking("key-1");
    let mut second = same_condition["entry"][0].clone();
    second["fullUrl"] = json!("urn:uuid:0b0c8b0e-6f4f-4b62-9f4a-0a6f5f1d0002");
    same_condition["entry"].as_array_mut().unwrap().push(second);
    outcome(bench.post("", &same_condition).await, 412).await;
    assert!(bench.handle().changes_by_request().is_empty());
}

#[tokio::test]
async fn reads_in_a_transaction_see_its_writes() {
    let bench = staffed().await;
    let mut changed = patient("p1");
    changed["gender"] = json!("female");
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
        {"request": {"method": "GET", "url": "Patient/p1"}},
        {"request": {"method": "PUT", "url": "Patient/p1", "ifMatch": "W/\"1\""},
         "resource": changed},
        {"request": {"method": "GET", "url": "Patient?gender=female"}},
    ]});
    let answer = json_of(bench.post("", &bundle).await).await;
    assert_eq!(answer["entry"][0]["resource"]["gender"], "female");
    assert_eq!(answer["entry"][2]["resource"]["total"], 1);
}

#[tokio::test]
async fn entries_of_a_batch_stand_alone() {
    let bench = staffed().await;
    let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        {"request": {"method": "GET", "url": "Patient/p7"}},
        {"request": {"method": "POST", "url": "Appointment"},
         "resource": appointment("p1", "key-1")},
        {"request": {"method": "GET", "url": "Patient/p1"}},
    ]});
    let answer = json_of(bench.post("", &bundle).await).await;
    assert_eq!(answer["type"], "batch-response");
    let statuses: Vec<_> = answer["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["response"]["status"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(statuses, ["404 Not Found", "201 Created", "200 OK"]);
    assert_eq!(
        answer["entry"][0]["response"]["outcome"]["resourceType"],
        "OperationOutcome"
    );
    assert_eq!(bench.handle().resources("Appointment").len(), 1);
}

#[tokio::test]
async fn what_is_not_a_transaction_is_refused() {
    let bench = staffed().await;
    for body in [
        patient("p1"),
        json!({"resourceType": "Bundle"}),
        json!({"resourceType": "Bundle", "type": "collection"}),
        json!({"resourceType": "Bundle", "type": "message"}),
    ] {
        outcome(bench.post("", &body).await, 400).await;
    }
}
