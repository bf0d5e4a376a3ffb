//! Searching: parameters, prefixes, sorting, paging, strict and lenient handling.

use crate::support::{Bench, appointment, bench, ids_of, json_of, outcome, patient, pulse};
use chaperone_sandbox::ServerProfile;
use reqwest::Method;
use serde_json::{Value, json};

async fn filled() -> Bench {
    let bench = bench(ServerProfile::Full).await;
    let handle = bench.handle();
    for id in ["p1", "p2"] {
        handle.put(&patient(id)).unwrap();
    }
    for (id, whose, at) in [
        ("o1", "p1", "2026-01-05T09:00:00Z"),
        ("o2", "p1", "2026-02-05T09:00:00Z"),
        ("o3", "p1", "2026-03-01T09:00:00+02:00"),
        ("o4", "p2", "2026-02-20"),
    ] {
        handle.put(&pulse(id, whose, at)).unwrap();
    }
    bench
}

#[tokio::test]
async fn searches_find_what_they_name_and_nothing_else() {
    let bench = filled().await;
    let cases: &[(&str, &[&str])] = &[
        (
            "Observation?patient=p1&category=vital-signs&_sort=-date&_count=5",
            &["o3", "o2", "o1"],
        ),
        (
            "Observation?patient=Patient/p1&_sort=date",
            &["o1", "o2", "o3"],
        ),
        ("Observation?subject=Patient/p2", &["o4"]),
        ("Observation?patient=p1,p2", &["o1", "o2", "o3", "o4"]),
        ("Observation?patient=p3", &[]),
        ("Observation?patient=p1&patient=p2", &[]),
        (
            "Observation?code=http://loinc.org|8867-4&patient=p2",
            &["o4"],
        ),
        ("Observation?code=http://snomed.info/sct|8867-4", &[]),
        ("Observation?code=8310-5,8867-4&patient=p2", &["o4"]),
        ("Observation?code=|8867-4", &[]),
        ("Observation?code:not=8867-4", &[]),
        ("Observation?status=final&patient=p2", &["o4"]),
        ("Observation?status=preliminary", &[]),
        ("Observation?encounter:missing=true&patient=p2", &["o4"]),
        ("Observation?encounter:missing=false", &[]),
        ("Observation?date=2026-02", &["o2", "o4"]),
        (
            "Observation?date=ge2026-02-05&date=lt2026-03&_sort=date",
            &["o2", "o4"],
        ),
        (
            "Observation?date=gt2026-02-05T09:00:00Z&patient=p1",
            &["o3"],
        ),
        ("Observation?date=le2026-01-05T09:00:00Z", &["o1"]),
        ("Observation?_id=o1,o4", &["o1", "o4"]),
        (
            "Observation?_lastUpdated=ge2026-03-02",
            &["o1", "o2", "o3", "o4"],
        ),
        ("Observation?_lastUpdated=gt2026-03-03", &[]),
        ("Patient?identifier=urn:test:mrn|MRN-p1", &["p1"]),
        ("Patient?identifier=urn:other|MRN-p1", &[]),
        ("Patient?identifier=MRN-p2", &["p2"]),
        ("Patient?identifier=urn:test:mrn|", &["p1", "p2"]),
        ("Patient?name=testf&birthdate=1970-05-17", &["p1", "p2"]),
        ("Patient?name=estfell", &[]),
        ("Patient?name:contains=estfell&_id=p1", &["p1"]),
        ("Patient?family:exact=testfell", &[]),
        ("Patient?birthdate=ge1971", &[]),
    ];
    for (search, expected) in cases {
        assert_eq!(bench.ids(search).await, *expected, "{search}");
    }
}

#[tokio::test]
async fn operational_types_are_found_the_way_the_tools_ask() {
    let bench = filled().await;
    let handle = bench.handle();
    let slot = |id: &str, start: &str, status: &str| {
        json!({
            "resourceType": "Slot", "id": id, "status": status, "start": start, "end": start,
            "schedule": {"reference": "Schedule/s1"},
        })
    };
    handle
        .put(&slot("a", "2026-03-03T14:00:00Z", "free"))
        .unwrap();
    handle
        .put(&slot("b", "2026-03-05T14:00:00Z", "free"))
        .unwrap();
    handle
        .put(&slot("c", "2026-03-05T15:00:00Z", "busy"))
        .unwrap();
    handle
        .put(&json!({
            "resourceType": "Schedule", "id": "s1", "actor": [{"reference": "Practitioner/d1"}],
        }))
        .unwrap();
    let mut booking = appointment("p1", "key-1");
    booking["id"] = json!("booking");
    handle.put(&booking).unwrap();
    handle
        .put(&json!({
            "resourceType": "Provenance", "id": "trace", "recorded": "2026-03-02T15:00:00Z",
            "target": [{"reference": "Appointment/booking/_history/1"}],
        }))
        .unwrap();
    let base = handle.base_url().to_owned();
    let cases: Vec<(String, &[&str])> = vec![
        ("Schedule?actor=Practitioner/d1".into(), &["s1"]),
        (
            "Slot?schedule=Schedule/s1&status=free&start=ge2026-03-04&start=le2026-03-06".into(),
            &["b"],
        ),
        (
            format!("Slot?schedule={base}/Schedule/s1&_sort=-start"),
            &["c", "b", "a"],
        ),
        (
            "Appointment?patient=p1&status=booked&date=ge2026-03-02".into(),
            &["booking"],
        ),
        ("Appointment?patient=p2".into(), &[]),
        (
            "Appointment?identifier=urn:chaperone:writeback|key-1".into(),
            &["booking"],
        ),
        (
            "Appointment?identifier=urn:chaperone:writeback|key-2".into(),
            &[],
        ),
        ("Provenance?target=Appointment/booking".into(), &["trace"]),
        ("Provenance?target=Appointment/other".into(), &[]),
    ];
    for (search, expected) in cases {
        assert_eq!(bench.ids(&search).await, expected, "{search}");
    }
}

#[tokio::test]
async fn strict_handling_refuses_what_lenient_handling_ignores() {
    let bench = filled().await;
    for search in [
        "Observation?patient=p1&colour=blue",
        "Observation?patient=p1&_include=Observation:subject",
        "Observation?patient=p1&_sort=colour",
        "Observation?patient=p1&code=",
    ] {
        assert_eq!(bench.ids(search).await.len(), 3, "{search}");
        let strict = bench
            .request(Method::GET, search)
            .header("Prefer", "return=representation; handling=strict")
            .send()
            .await
            .unwrap();
        outcome(strict, 400).await;
    }
    // Values that cannot be understood are refused either way: ignoring them would widen the answer.
    for search in [
        "Observation?date=yesterday",
        "Observation?patient:identifier=MRN-p1",
        "Observation?code:in=http://example.org/vs",
        "Observation?_count=many",
        "Observation?_format=xml",
    ] {
        outcome(bench.get(search).await, 400).await;
    }
    outcome(bench.get("Potion?patient=p1").await, 404).await;
}

#[tokio::test]
async fn next_links_lead_through_all_pages_once() {
    let bench = bench(ServerProfile::Full).await;
    bench.handle().put(&patient("p1")).unwrap();
    for which in 0..23 {
        let at = format!("2026-01-{:02}T09:00:00Z", which + 1);
        bench
            .handle()
            .put(&pulse(&format!("o{which:02}"), "p1", &at))
            .unwrap();
    }
    let mut url = format!(
        "{}/Observation?patient=p1&code=http%3A%2F%2Floinc.org%7C8867-4&_sort=-date&_count=5",
        bench.running.base_url
    );
    let mut seen = Vec::new();
    for page in 0.. {
        assert!(page < 6, "too many pages");
        let bundle = json_of(bench.client.get(&url).send().await.unwrap()).await;
        assert_eq!(bundle["total"], 23);
        assert_eq!(bundle["type"], "searchset");
        seen.extend(ids_of(&bundle));
        let links: &Vec<Value> = bundle["link"].as_array().unwrap();
        match links.iter().find(|link| link["relation"] == "next") {
            Some(next) => next["url"].as_str().unwrap().clone_into(&mut url),
            None => break,
        }
    }
    let expected: Vec<String> = (0..23).rev().map(|which| format!("o{which:02}")).collect();
    assert_eq!(seen, expected);
    let count = json_of(bench.get("Observation?_summary=count").await).await;
    assert_eq!(count["total"], 23);
    assert!(count["entry"].is_null());
}

#[tokio::test]
async fn post_search_is_a_search_and_not_a_create() {
    let bench = filled().await;
    let response = bench
        .request(Method::POST, "Observation/_search?_sort=-date")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("patient=p1&_count=2")
        .send()
        .await
        .unwrap();
    assert_eq!(ids_of(&json_of(response).await), ["o3", "o2"]);
    let json_form = bench
        .request(Method::POST, "Observation/_search")
        .header("content-type", "application/json")
        .body("{}")
        .send()
        .await
        .unwrap();
    outcome(json_form, 415).await;
    assert!(bench.handle().changes_by_request().is_empty());
}

#[tokio::test]
async fn the_capability_statement_is_served_and_names_the_search_parameters() {
    let bench = bench(ServerProfile::Full).await;
    let statement = json_of(bench.get("metadata").await).await;
    assert_eq!(statement["resourceType"], "CapabilityStatement");
    assert_eq!(statement["fhirVersion"], "4.0.1");
    assert_eq!(statement["implementation"]["url"], bench.running.base_url);
    let resources = statement["rest"][0]["resource"].as_array().unwrap();
    // Every parameter that it names is one that a strict search accepts.
    for resource in resources {
        let kind = resource["type"].as_str().unwrap();
        for parameter in resource["searchParam"].as_array().unwrap() {
            let name = parameter["name"].as_str().unwrap();
            let value = if parameter["type"] == "date" {
                "2026"
            } else {
                "x"
            };
            let response = bench
                .request(Method::GET, &format!("{kind}?{name}={value}"))
                .header("Prefer", "handling=strict")
                .send()
                .await
                .unwrap();
            assert_eq!(response.status(), 200, "{kind}?{name}");
        }
    }
}
