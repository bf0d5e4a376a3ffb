//! Keys as the engine uses them: what is counted, what is recorded, and that a destroyed key stays destroyed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{PatientToken, TenantId};
use chaperone_core::key_event::KeyEvent;
use chaperone_core::ports::{
    DataKey, DestroyedKeys, KeyVault, KeyVaultFailed, PayloadClass, key_digest,
};
use chaperone_engine::{Engine, EngineConfig, Ports};
use chaperone_testkit::MemoryKeyVault;
use serde_json::json;

use crate::bench::{BUNDLE, Bench, Db, bench_on, nurse, ports, tenant};

/// What was recorded of keys, oldest first.
async fn key_events(bench: &Bench) -> Vec<KeyEvent> {
    let recorded = bench.recorded().await.into_iter();
    recorded
        .filter_map(|it| match it.event {
            Event::Key(event) => Some(event),
            _ => None,
        })
        .collect()
}

/// An engine on the store of a bench, with another key vault.
async fn engine_with(bench: &Bench, keys: Arc<dyn KeyVault>) -> Arc<Engine> {
    let ports = Ports {
        keys,
        ..ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone())
    };
    let config = EngineConfig::new(tenant(), "http://127.0.0.1:8080");
    Engine::start(config, BUNDLE.clone(), ports).await.unwrap()
}

pub(crate) async fn uses_of_keys_are_counted_and_recorded_in_a_while(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    bench.task(&agent, "k1", json!([])).await;
    // Nothing yet: uses are counted for ten minutes.
    bench.engine.record_key_events(false).await.unwrap();
    assert_eq!(key_events(&bench).await, []);
    bench.clock.advance_s(599);
    bench.engine.record_key_events(false).await.unwrap();
    assert_eq!(key_events(&bench).await, []);
    bench.clock.advance_s(2);
    bench.engine.record_key_events(false).await.unwrap();
    let events = key_events(&bench).await;
    let [
        KeyEvent::Used {
            node,
            keys,
            further,
            ..
        },
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!((node.as_str(), *further), ("node-1", 0));
    let patient = agent.envelope.patient.unwrap();
    let uses = |name: &str| keys.iter().find(|it| it.key == name);
    let transcript = uses(&format!("transcript/{patient}")).unwrap();
    assert!(transcript.seal > 0 && transcript.version == 1);
    assert!(uses("index/tokens").unwrap().digest > 0);
    assert!(uses("index/tokens").unwrap().seal == 0);
    // Idle: counting keys makes no events of its own.
    for _ in 0..3 {
        bench.clock.advance_s(601);
        bench.engine.record_key_events(false).await.unwrap();
        bench.engine.integrate_ledger().await.unwrap();
    }
    assert_eq!(key_events(&bench).await.len(), 1);
}

/// A key vault that says no when told to.
struct Refusing {
    vault: MemoryKeyVault,
    refuses: AtomicBool,
}

impl Refusing {
    fn check(&self) -> Result<(), KeyVaultFailed> {
        if self.refuses.load(Ordering::SeqCst) {
            return Err(KeyVaultFailed::Refused("the key is disabled".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl KeyVault for Refusing {
    async fn data_key(&self, tenant: &TenantId, name: &str) -> Result<DataKey, KeyVaultFailed> {
        self.check()?;
        self.vault.data_key(tenant, name).await
    }

    async fn existing_key(&self, tenant: &TenantId, name: &str) -> Result<DataKey, KeyVaultFailed> {
        self.check()?;
        self.vault.existing_key(tenant, name).await
    }

    async fn destroy(&self, tenant: &TenantId, name: &str) -> Result<(), KeyVaultFailed> {
        self.vault.destroy(tenant, name).await
    }

    async fn destroyed(&self, tenant: &TenantId) -> Result<DestroyedKeys, KeyVaultFailed> {
        self.vault.destroyed(tenant).await
    }

    async fn destroy_again(&self, tenant: &TenantId, key: &Digest) -> Result<(), KeyVaultFailed> {
        self.vault.destroy_again(tenant, key).await
    }

    async fn signing_seed(&self, tenant: &TenantId) -> Result<DataKey, KeyVaultFailed> {
        self.check()?;
        self.vault.signing_seed(tenant).await
    }
}

pub(crate) async fn a_key_that_cannot_be_had_stops_the_call_and_is_recorded(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let keys = Arc::new(Refusing {
        vault: MemoryKeyVault::new(1),
        refuses: AtomicBool::new(false),
    });
    bench.engine = engine_with(&bench, keys.clone()).await;
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let task = |key: &str| json!({ "idempotency_key": key, "summary": "Call back.", "pool": "nursing", "sources": [] });
    bench.call(&agent, "create_task", task("k1")).await;
    keys.refuses.store(true, Ordering::SeqCst);
    let writes = async || {
        let recorded = bench.recorded().await;
        let of_writes = recorded
            .iter()
            .filter(|it| matches!(it.event, Event::Writeback(_)));
        of_writes.count()
    };
    let before = writes().await;
    for n in 0..3 {
        let refused = bench
            .try_call(&agent, "create_task", task(&format!("k{n}x")))
            .await;
        let text = format!("{:?}", refused.unwrap_err());
        assert!(!text.contains("disabled"), "{text}");
    }
    assert_eq!(writes().await, before, "nothing was proposed");
    bench.clock.advance_s(61);
    bench.engine.record_key_events(false).await.unwrap();
    let events = key_events(&bench).await;
    let failed: u64 = events
        .iter()
        .map(|event| match event {
            KeyEvent::Failed { code, count, .. } => {
                assert_eq!(code, "refused");
                *count
            }
            _ => 0,
        })
        .sum();
    assert!(failed >= 3, "{events:?}");
    // It is mended: everything goes on.
    keys.refuses.store(false, Ordering::SeqCst);
    bench.call(&agent, "create_task", task("k9")).await;
}

pub(crate) async fn a_destroyed_key_is_destroyed_again_before_anything_is_served(db: Db) {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let agent = bench.caller(&nurse(), "intake-agent", "intake", "p1").await;
    let task = bench.task(&agent, "k1", json!([])).await;
    let patient: PatientToken = agent.envelope.patient.unwrap();
    bench.engine.order_bytes(task.id).await.unwrap();
    for _ in 0..2 {
        bench
            .engine
            .destroy_patient_key(PayloadClass::Clinical, patient)
            .await
            .unwrap();
    }
    let name = format!("clinical/{patient}");
    let events = key_events(&bench).await;
    assert!(
        matches!(events.as_slice(), [KeyEvent::Destroyed { key, .. }] if *key == key_digest(&name)),
        "once: {events:?}"
    );
    assert!(bench.engine.order_bytes(task.id).await.is_err());

    // An older copy of the keys, without any tombstone, is put back: a vault that makes the same keys again.
    let older = Arc::new(MemoryKeyVault::new(1));
    older.data_key(&tenant(), &name).await.unwrap();
    bench.engine = engine_with(&bench, older.clone()).await;
    assert_eq!(
        older.existing_key(&tenant(), &name).await,
        Err(KeyVaultFailed::Destroyed)
    );
    assert!(bench.engine.order_bytes(task.id).await.is_err());
    // Other keys are what they were.
    older.data_key(&tenant(), "index/tokens").await.unwrap();
    let events = key_events(&bench).await;
    let again = KeyEvent::DestroyedAgain {
        key: key_digest(&name),
    };
    assert_eq!(events.last(), Some(&again));
    // A second start has nothing to say.
    bench.engine = engine_with(&bench, older.clone()).await;
    assert_eq!(key_events(&bench).await.len(), events.len());

    // Destroyed, and the power failed before the ledger heard of it: the next start records it.
    older.destroy(&tenant(), "clinical/other").await.unwrap();
    bench.engine = engine_with(&bench, older).await;
    let events = key_events(&bench).await;
    assert!(
        matches!(events.last(), Some(KeyEvent::Destroyed { key, .. }) if *key == key_digest("clinical/other"))
    );
    let stream = bench
        .store
        .stream(&tenant(), &StreamId::Keys)
        .await
        .unwrap();
    assert_eq!(stream.len(), events.len());
}
