//! Loading bundles and seeding a working day.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::support::{bench, json_of, patient, start_time};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chaperone_sandbox::{LoadError, SandboxHandle, SeedReport, ServerProfile, synthetic};
use serde_json::{Value, json};

/// The Synthea records, where they lie beside the repository.
fn synthea() -> Option<Vec<Value>> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/synthea-r4-40.tar.gz");
    let Ok(file) = File::open(&path) else {
        println!("skipped: no Synthea records beside the repository");
        return None;
    };
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut bundles = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry
            .path()
            .unwrap()
            .extension()
            .is_some_and(|kind| kind == "json")
        {
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            bundles.push(serde_json::from_str(&text).unwrap());
        }
    }
    Some(bundles)
}

/// Every relative reference leads to a resource that is there.
fn check_references(handle: &SandboxHandle) {
    let all = handle.all_resources();
    let there: BTreeSet<String> = all
        .iter()
        .map(|resource| {
            format!(
                "{}/{}",
                resource["resourceType"].as_str().unwrap(),
                resource["id"].as_str().unwrap()
            )
        })
        .collect();
    fn visit(value: &Value, there: &BTreeSet<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| visit(item, there)),
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get("reference") {
                    assert!(
                        reference.starts_with('#') || there.contains(reference),
                        "{reference}"
                    );
                }
                members.values().for_each(|item| visit(item, there));
            }
            _ => {}
        }
    }
    all.iter().for_each(|resource| visit(resource, &there));
}

#[tokio::test]
async fn the_forty_synthea_records_load_and_are_seeded() {
    let Some(bundles) = synthea() else { return };
    assert_eq!(bundles.len(), 40);
    let bench = bench(ServerProfile::Full).await;
    let handle = bench.handle();
    let mut created = 0;
    let mut shared = 0;
    for bundle in &bundles {
        let report = handle.load_bundle(bundle).unwrap();
        assert_eq!((report.renamed, report.left_out), (0, 0));
        created += report.created;
        shared += report.already_there;
    }
    assert_eq!(created + shared, 7_609);
    assert_eq!(handle.resource_count(), created);
    assert_eq!(handle.resources("Patient").len(), 40);
    let own_id = bundles[0]["entry"][0]["resource"]["id"].as_str().unwrap();
    assert!(handle.resource("Patient", own_id).is_some());
    check_references(handle);

    let again = handle.load_bundle(&bundles[0]).unwrap();
    assert_eq!((again.created, again.renamed), (0, 0));

    let report = handle.seed_operational(start_time()).unwrap();
    // Two of the forty have died: no future appointment, no encounter in progress.
    assert_eq!(
        report,
        SeedReport {
            schedules: 10,
            slots: 400,
            appointments: 40 + 38,
            notes: 40,
            care_teams: 40,
            encounters: 38,
        }
    );
    check_references(handle);

    let vitals = format!("Observation?patient={own_id}&category=vital-signs&_sort=-date&_count=5");
    let page = json_of(bench.get(&vitals).await).await;
    assert_eq!(page["entry"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn synthetic_patients_load_in_process_and_as_http_transactions_alike() {
    let bundles = synthetic::patients(1, 12, start_time());
    let loaded = bench(ServerProfile::Full).await;
    for bundle in &bundles {
        loaded.handle().load_bundle(bundle).unwrap();
    }
    assert_eq!(loaded.handle().resources("Patient").len(), 12);
    assert_eq!(loaded.handle().resources("Practitioner").len(), 4);
    assert_eq!(loaded.handle().resources("Organization").len(), 2);
    check_references(loaded.handle());

    let posted = bench(ServerProfile::Full).await;
    for bundle in &bundles {
        assert_eq!(posted.post("", bundle).await.status(), 200);
    }
    assert_eq!(
        posted.handle().resource_count(),
        loaded.handle().resource_count()
    );
    check_references(posted.handle());
}

#[tokio::test]
async fn seeding_fills_what_is_missing_once_and_the_same_each_time() {
    let mut outcomes = Vec::new();
    for profile in [
        ServerProfile::Full,
        ServerProfile::Full,
        ServerProfile::Plain,
    ] {
        let bench = bench(profile).await;
        let handle = bench.handle();
        for bundle in synthetic::patients(1, 12, start_time()) {
            handle.load_bundle(&bundle).unwrap();
        }
        let report = handle.seed_operational(start_time()).unwrap();
        // The charts come with a note and a care team of their own.
        assert_eq!((report.notes, report.care_teams), (0, 0));
        assert_eq!((report.appointments, report.encounters), (24, 12));
        assert_eq!((report.schedules, report.slots), (4, 160));
        let again = handle.seed_operational(start_time()).unwrap();
        assert_eq!(again, SeedReport::default());
        assert_eq!(bench.ids("Slot?status=busy").await.len(), 12);
        check_references(handle);
        let ids: Vec<_> = handle
            .all_resources()
            .iter()
            .map(|resource| resource["id"].clone())
            .collect();
        outcomes.push(ids);
    }
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[0], outcomes[2]);
}

#[tokio::test]
async fn a_bare_patient_gets_a_note_a_team_and_a_visit() {
    let bench = bench(ServerProfile::Full).await;
    bench.handle().put(&patient("p1")).unwrap();
    let report = bench.handle().seed_operational(start_time()).unwrap();
    assert_eq!((report.schedules, report.slots), (0, 0));
    assert_eq!((report.appointments, report.notes), (2, 1));
    let note = bench.handle().resources("DocumentReference").remove(0);
    let data = note["content"][0]["attachment"]["data"].as_str().unwrap();
    let text = String::from_utf8(STANDARD.decode(data).unwrap()).unwrap();
    assert!(text.contains("PROGRESS NOTE"));
    assert_eq!(
        bench
            .ids("Encounter?patient=p1&status=in-progress")
            .await
            .len(),
        1
    );
    assert_eq!(
        bench
            .ids("Appointment?patient=p1&date=ge2026-03-02T15:00:00Z")
            .await
            .len(),
        1
    );
    assert_eq!(
        bench.ids("CareTeam?patient=p1&status=active").await.len(),
        1
    );
}

#[tokio::test]
async fn loading_is_all_or_nothing_and_keeps_ids_that_are_free() {
    let bench = bench(ServerProfile::Full).await;
    let handle = bench.handle();
    let bundle =
        |entries: Value| json!({"resourceType": "Bundle", "type": "collection", "entry": entries});
    let bad = bundle(json!([
        {"resource": patient("p1")},
        {"resource": {"resourceType": "Potion", "id": "x"}},
    ]));
    assert!(matches!(
        handle.load_bundle(&bad),
        Err(LoadError::Entry { position: 1, .. })
    ));
    let twice = bundle(json!([{"resource": patient("p1")}, {"resource": patient("p1")}]));
    assert!(matches!(
        handle.load_bundle(&twice),
        Err(LoadError::Entry { position: 1, .. })
    ));
    assert!(matches!(
        handle.load_bundle(&patient("p1")),
        Err(LoadError::NotABundle)
    ));
    assert_eq!(handle.resource_count(), 0);

    handle
        .load_bundle(&bundle(json!([{"resource": patient("p1")}])))
        .unwrap();
    let mut other = patient("p1");
    other["birthDate"] = json!("1999-01-01");
    let report = handle
        .load_bundle(&bundle(json!([
            {"fullUrl": "urn:uuid:a", "resource": other},
            {"resource": crate::support::pulse("o1", "p1", "2026-01-01")},
            {"resource": {
                "resourceType": "CareTeam", "id": "t1", "subject": {"reference": "urn:uuid:a"},
            }},
        ])))
        .unwrap();
    assert_eq!((report.created, report.renamed), (3, 1));
    let team = handle.resource("CareTeam", "t1").unwrap();
    let reference = team["subject"]["reference"].as_str().unwrap();
    assert_ne!(reference, "Patient/p1");
    check_references(handle);
}
