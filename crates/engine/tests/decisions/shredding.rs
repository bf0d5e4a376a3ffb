//! Who is shredded cannot be read again, also after a restore; and what stands against it. On both databases.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chaperone_core::Timestamp;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{PatientToken, TenantId, WritebackId};
use chaperone_core::ports::{
    Clock, PayloadClass, RecordKey, ShredTombstone, ShredTombstones, Store, TombstonesFailed,
};
use chaperone_core::principal::Human;
use chaperone_core::retention::RetentionEvent;
use chaperone_engine::audit::AuditFailed;
use chaperone_engine::grant::PatientRef;
use chaperone_engine::retention::holds::HoldChange;
use chaperone_engine::retention::shred::{ShredFailed, ShredRefused};
use chaperone_engine::retention::tombstones::Tombstones;
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::MemoryKeyVault;

use crate::bench::{BUNDLE, Bench, Db, bench_on, nurse, ports, show, tenant};
use crate::retention::{
    WHY, YEAR_S, change, delivered, factor, note, payloads, privacy, projections_still_stand,
    reject, verifies,
};

/// Tombstones in memory, for as long as the test holds them.
#[derive(Default)]
struct Stones(Mutex<Vec<ShredTombstone>>);

#[async_trait]
impl ShredTombstones for Stones {
    async fn put(&self, tombstone: &ShredTombstone) -> Result<(), TombstonesFailed> {
        let mut kept = self.0.lock().unwrap();
        if !kept.iter().any(|it| it.patient == tombstone.patient) {
            kept.push(tombstone.clone());
        }
        Ok(())
    }

    async fn of(&self, _: &TenantId) -> Result<Vec<ShredTombstone>, TombstonesFailed> {
        Ok(self.0.lock().unwrap().clone())
    }
}

/// An engine on a store with keys and tombstones of the test's own.
async fn engine_on(
    bench: &Bench,
    store: Arc<dyn Store>,
    keys: &Arc<MemoryKeyVault>,
    stones: &Arc<Stones>,
) -> Result<Arc<Engine>, chaperone_engine::StartFailed> {
    let config = EngineConfig {
        tombstones: Tombstones::kept_by(stones.clone()),
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    };
    let ports = Ports {
        keys: keys.clone(),
        ..ports(store, bench.ehr.clone(), bench.clock.clone())
    };
    Engine::start(config, BUNDLE.clone(), ports).await
}

async fn shred(
    bench: &Bench,
    by: &Human,
    patient: PatientToken,
) -> Result<chaperone_core::retention::Shredded, ShredFailed> {
    let digest = bench.engine.shred_digest(patient, WHY);
    let step = factor(bench.store.as_ref(), bench.clock.as_ref(), by, digest).await;
    bench.engine.shred(by, patient, WHY, step).await
}

pub(crate) async fn shredding_waits_for_law_holds_and_work(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let officer = privacy();
    // Without a place for tombstones nobody is shredded.
    let (_, nowhere) = delivered(&bench, "p2", "nowhere").await;
    bench.clock.advance_s(12 * YEAR_S);
    assert!(matches!(
        shred(&bench, &officer, nowhere).await,
        Err(ShredFailed::Refused(ShredRefused::NoTombstones))
    ));
    let (keys, stones) = (
        Arc::new(MemoryKeyVault::new(1)),
        Arc::new(Stones::default()),
    );
    bench.engine = engine_on(&bench, bench.store.clone(), &keys, &stones)
        .await
        .unwrap();
    show(&bench.engine, &bench.ehr).await;
    let ended = bench.clock.now();
    let (_, patient) = delivered(&bench, "p1", "one").await;
    let six: Timestamp = ended
        .to_zoned(jiff::tz::TimeZone::UTC)
        .checked_add(jiff::ToSpan::years(6))
        .unwrap()
        .timestamp();
    let refused = shred(&bench, &officer, patient).await;
    let Err(ShredFailed::Refused(ShredRefused::Law(until))) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(until, six);
    bench.clock.advance_s(7 * YEAR_S);
    // Whoever is no privacy officer, and something that is not at its end.
    assert!(matches!(
        shred(&bench, &nurse(), patient).await,
        Err(ShredFailed::NotPermitted)
    ));
    let waiting = note(&bench, "waits").await;
    assert!(matches!(
        shred(&bench, &officer, patient).await,
        Err(ShredFailed::Refused(ShredRefused::InWork(1)))
    ));
    reject(&bench, waiting).await;
    // What people wrote when they decided stays for six years again.
    bench.clock.advance_s(7 * YEAR_S);
    let hold = change(&bench, &officer, HoldChange::Place(Some(patient)), WHY)
        .await
        .unwrap();
    assert!(matches!(
        shred(&bench, &officer, patient).await,
        Err(ShredFailed::Refused(ShredRefused::Held(_)))
    ));
    bench.clock.advance_s(1);
    change(&bench, &officer, HoldChange::Release(hold), WHY)
        .await
        .unwrap();
    // A second factor for somebody else is none.
    let digest = bench.engine.shred_digest(nowhere, WHY);
    let step = factor(bench.store.as_ref(), bench.clock.as_ref(), &officer, digest).await;
    let refused = bench.engine.shred(&officer, patient, WHY, step).await;
    assert!(matches!(refused, Err(ShredFailed::StepUp)));
    assert!(stones.0.lock().unwrap().is_empty());
    bench.clock.advance_s(1);
    shred(&bench, &officer, patient).await.unwrap();
    assert_eq!(stones.0.lock().unwrap().len(), 1);
    // And only once.
    bench.clock.advance_s(1);
    assert!(matches!(
        shred(&bench, &officer, patient).await,
        Err(ShredFailed::UnknownPatient)
    ));
}

/// All rows of a database as it is now, in another one that is opened later: a backup.
async fn backup(bench: &Bench, url: &str) -> (String, Option<tempfile::TempDir>) {
    match &bench.dir {
        Some(dir) => {
            let copy = tempfile::tempdir().unwrap();
            for entry in std::fs::read_dir(dir.path()).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
            let url = format!("sqlite:{}", copy.path().join("decisions.db").display());
            (url, Some(copy))
        }
        None => {
            let copy = crate::cluster::fresh_url();
            drop(
                chaperone_store::open(&copy, Default::default())
                    .await
                    .unwrap(),
            );
            let (of, to) = (schema(url), schema(&copy));
            let mut sql = "BEGIN; SET LOCAL chaperone.tenant = 'clinic';".to_owned();
            for table in [
                "head",
                "event",
                "record",
                "projection",
                "payload",
                "lease",
                "tree_hash",
                "checkpoint",
            ] {
                sql += &format!("INSERT INTO {to}.{table} SELECT * FROM {of}.{table};");
            }
            sql += &format!(
                "INSERT INTO {to}.work OVERRIDING SYSTEM VALUE SELECT * FROM {of}.work; COMMIT;"
            );
            let (database, _) = copy.split_once("?schema=").unwrap();
            let done = std::process::Command::new("psql")
                .args([database, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", &sql])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(done.status.success(), "{said}");
            (copy, None)
        }
    }
}

fn schema(url: &str) -> &str {
    url.split_once("schema=").unwrap().1
}

pub(crate) async fn a_shredded_patient_is_unreadable_and_stays_so_after_a_restore(db: Db) {
    let (mut bench, url) = crate::bench::bench_and_url(db, Strategy::Conditional).await;
    let (keys, stones) = (
        Arc::new(MemoryKeyVault::new(1)),
        Arc::new(Stones::default()),
    );
    bench.engine = engine_on(&bench, bench.store.clone(), &keys, &stones)
        .await
        .unwrap();
    show(&bench.engine, &bench.ehr).await;
    let (gone, patient) = delivered(&bench, "p1", "gone").await;
    let (kept, other) = delivered(&bench, "p2", "kept").await;
    assert_ne!(patient, other);
    bench.clock.advance_s(7 * YEAR_S);
    let (copy, _folder) = backup(&bench, &url).await;
    let plan = bench.engine.shred_plan(patient).await.unwrap();
    assert_eq!(plan.objection(), None);
    assert!(
        plan.payloads["clinical"] >= 2 && plan.records["token"] >= 1,
        "{plan:?}"
    );

    let officer = privacy();
    let shredded = shred(&bench, &officer, patient).await.unwrap();
    assert_eq!(shredded.payloads, plan.payloads.values().sum::<u64>());
    assert_eq!(shredded.records, plan.records);
    unreadable(&bench.engine, bench.store.as_ref(), (gone, patient)).await;
    // The neighbour is as they were.
    assert!(bench.engine.order_bytes(kept).await.is_ok());
    assert_eq!(bench.engine.patient_meant("p2").await.unwrap(), other);
    projections_still_stand(&bench, gone).await;
    // The accounting is asked by the id at the EHR, as before, and by the token.
    assert_eq!(bench.engine.patient_meant("p1").await.unwrap(), patient);
    assert_eq!(
        bench
            .engine
            .patient_meant(&patient.to_string())
            .await
            .unwrap(),
        patient
    );
    let nobody = bench.engine.patient_meant("p3").await;
    assert!(
        matches!(nobody, Err(AuditFailed::UnknownPatient)),
        "{nobody:?}"
    );
    // Who comes back is somebody new here.
    let (_, anew) = delivered(&bench, "p1", "anew").await;
    assert_ne!(anew, patient);

    // The backup of before, with the key folder of today: gone again before anything is served, and recorded.
    let restored = chaperone_store::open(&copy, Default::default())
        .await
        .unwrap();
    let own = RecordKey::new("token", patient);
    let now = bench.clock.now();
    assert!(
        restored
            .record(&tenant(), &own, now)
            .await
            .unwrap()
            .is_some()
    );
    let engine = engine_on(&bench, restored.clone(), &keys, &stones)
        .await
        .unwrap();
    unreadable(&engine, restored.as_ref(), (gone, patient)).await;
    assert!(engine.order_bytes(kept).await.is_ok());
    let events = restored
        .stream(&tenant(), &StreamId::Retention)
        .await
        .unwrap();
    let replayed: Vec<&RetentionEvent> = events
        .iter()
        .filter_map(|it| match &it.event {
            Event::Retention(event @ RetentionEvent::ShredReplayed(_)) => Some(event),
            _ => None,
        })
        .collect();
    assert_eq!(replayed.len(), 1);
    assert_eq!(replayed[0].patient(), Some(patient));
    verifies(&engine).await;
    // A second start finds nothing to do.
    let size = restored.size(&tenant()).await.unwrap();
    engine_on(&bench, restored.clone(), &keys, &stones)
        .await
        .unwrap();
    assert_eq!(restored.size(&tenant()).await.unwrap(), size);
}

/// Nothing of a patient opens, and nothing is left that could.
async fn unreadable(
    engine: &Engine,
    store: &dyn Store,
    (id, patient): (WritebackId, PatientToken),
) {
    assert!(engine.order_bytes(id).await.is_err());
    for class in PayloadClass::ALL {
        let name = patient.to_string();
        let left = payloads(store, class).await;
        assert!(left.iter().all(|row| !row.key.contains(&name)), "{class:?}");
    }
    let now = engine.now();
    for collection in ["token", "token_index", "slots", "grant", "envelope"] {
        let rows = store
            .records(&tenant(), collection, Default::default(), now)
            .await
            .unwrap();
        for row in rows {
            let text = format!("{:?}{}", row.key, row.value);
            assert!(!text.contains(&patient.to_string()), "{collection}");
        }
    }
    // What was sealed under the patient's keys cannot be sealed or opened again by anybody.
    let grant = engine
        .issue_grant(
            &nurse(),
            chaperone_engine::grant::GrantRequest {
                agent: "intake-agent".parse().unwrap(),
                intent: "intake".parse().unwrap(),
                patient: PatientRef::Token(patient),
                encounter: None,
                presence: true,
            },
        )
        .await;
    assert!(grant.is_err());
}

pub(crate) async fn a_shredding_that_was_cut_short_is_gone_on_with(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let (keys, stones) = (
        Arc::new(MemoryKeyVault::new(1)),
        Arc::new(Stones::default()),
    );
    let faulty = Arc::new(chaperone_testkit::FaultyStore::new(bench.store.clone()));
    bench.engine = engine_on(&bench, faulty.clone(), &keys, &stones)
        .await
        .unwrap();
    show(&bench.engine, &bench.ehr).await;
    let (gone, patient) = delivered(&bench, "p1", "gone").await;
    bench.clock.advance_s(7 * YEAR_S);
    let officer = privacy();
    let digest = bench.engine.shred_digest(patient, WHY);
    let step = factor(bench.store.as_ref(), bench.clock.as_ref(), &officer, digest).await;
    // It is decided, and the power fails before the next step is recorded.
    faulty.lose_next_answer();
    let cut = bench.engine.shred(&officer, patient, WHY, step).await;
    assert!(cut.is_err());
    // Meanwhile nobody else goes on with it; after a while anybody does.
    bench.engine.notice_shreds().await.unwrap();
    assert!(bench.engine.order_bytes(gone).await.is_ok());
    let engine = engine_on(&bench, bench.store.clone(), &keys, &stones)
        .await
        .unwrap();
    unreadable(&engine, bench.store.as_ref(), (gone, patient)).await;
    let kinds: Vec<String> = bench
        .store
        .stream(&tenant(), &StreamId::Retention)
        .await
        .unwrap()
        .iter()
        .map(|it| it.event.kind())
        .collect();
    assert_eq!(kinds, ["retention.shred_started", "retention.shred_ended"]);
}
