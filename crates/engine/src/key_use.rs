//! The key vault as the engine uses it: every use is counted by key and what it was for, and recorded some
//! minutes later; failures within a minute; destructions at once.
//!
//! One event for each use would be more events than everything else together, and say nothing that the accesses,
//! which are recorded one by one with who and why, do not say. What the accesses do not say is which key worked,
//! and how often: that is counted here. A node that dies loses the counts of its last minutes, and nothing else.
//!
//! Signing is not counted: each checkpoint is the record of its signature.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{PatientToken, TenantId};
use chaperone_core::key_event::{EscrowReason, KeyEvent, KeyUses};
use chaperone_core::ports::{
    Clock, CommitFailed, DataKey, Expected, KeyVault, KeyVaultFailed, PayloadClass,
    STREAM_EVENTS_MAX, Store, StoreFailed, key_digest,
};
use chaperone_core::principal::{Actor, SystemPart};

use crate::context::{Engine, StartFailed};
use crate::vault::key_name;

/// How long uses are counted before they are recorded, in seconds.
const USED_S: i64 = 600;
/// How long failures are counted before they are recorded, in seconds.
const FAILED_S: i64 = 60;
/// Keys that are counted by name at a time; uses of further ones are counted together.
const NAMED_MAX: usize = 5_000;
/// Keys in one event.
const NAMED_AT_ONCE: usize = 200;
/// Failing keys that are counted by name at a time.
const FAILING_MAX: usize = 100;
/// Events in one commit.
const EVENTS_AT_ONCE: usize = 200;

/// What a key was used for.
#[derive(Debug, Clone, Copy)]
enum Use {
    Seal,
    Open,
    Digest,
}

/// The key vault, with a count of what goes through it.
pub(crate) struct Keys {
    vault: Arc<dyn KeyVault>,
    clock: Arc<dyn Clock>,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    since: Option<Timestamp>,
    uses: BTreeMap<(String, u32), KeyUses>,
    further: u64,
    failed_since: Option<Timestamp>,
    failed: Failures,
    destroyed: BTreeMap<Digest, Timestamp>,
}

/// Failures by key, where it is named, and code.
type Failures = BTreeMap<(Option<String>, &'static str), u64>;

/// What is to be recorded now.
#[derive(Default)]
struct Due {
    uses: Option<(Timestamp, Vec<KeyUses>, u64)>,
    failed: Option<(Timestamp, Failures)>,
    destroyed: BTreeMap<Digest, Timestamp>,
}

impl Keys {
    pub(crate) fn over(vault: Arc<dyn KeyVault>, clock: Arc<dyn Clock>) -> Self {
        Self {
            vault,
            clock,
            counted: Mutex::default(),
        }
    }

    /// The key of a name, made on first use, to seal with.
    pub(crate) async fn data_key(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<DataKey, KeyVaultFailed> {
        let key = self.vault.data_key(tenant, name).await;
        self.count(name, Use::Seal, key)
    }

    /// The key of a name, made on first use, for keyed digests.
    pub(crate) async fn digest_key(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<DataKey, KeyVaultFailed> {
        let key = self.vault.data_key(tenant, name).await;
        self.count(name, Use::Digest, key)
    }

    /// The key of a name that must exist, to open with.
    pub(crate) async fn existing_key(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<DataKey, KeyVaultFailed> {
        let key = self.vault.existing_key(tenant, name).await;
        self.count(name, Use::Open, key)
    }

    /// Destroys a key for ever; recorded by the next [`Engine::record_key_events`], or when an engine starts.
    /// Again is no error and no event.
    pub(crate) async fn destroy(
        &self,
        tenant: &TenantId,
        name: &str,
    ) -> Result<(), KeyVaultFailed> {
        if let Err(KeyVaultFailed::Destroyed) = self.vault.existing_key(tenant, name).await {
            // Completes what may have been cut short.
            return self.vault.destroy(tenant, name).await;
        }
        self.vault.destroy(tenant, name).await?;
        let now = self.clock.now();
        self.lock().destroyed.insert(key_digest(name), now);
        Ok(())
    }

    /// The ledger's signing seed.
    pub(crate) async fn signing_seed(&self, tenant: &TenantId) -> Result<DataKey, KeyVaultFailed> {
        let seed = self.vault.signing_seed(tenant).await;
        if let Err(failed) = &seed {
            self.count_failed("signing-seed", failed);
        }
        seed
    }

    fn count(
        &self,
        name: &str,
        used: Use,
        key: Result<DataKey, KeyVaultFailed>,
    ) -> Result<DataKey, KeyVaultFailed> {
        match &key {
            Ok(key) => self.count_used(name, key.version(), used),
            // That a key is gone is no failure: that is what its destruction was for.
            Err(KeyVaultFailed::Destroyed) => {}
            Err(failed) => self.count_failed(name, failed),
        }
        key
    }

    fn count_used(&self, name: &str, version: u32, used: Use) {
        let now = self.clock.now();
        let mut counted = self.lock();
        counted.since.get_or_insert(now);
        let at = (name.to_owned(), version);
        if counted.uses.len() >= NAMED_MAX && !counted.uses.contains_key(&at) {
            counted.further = counted.further.saturating_add(1);
            return;
        }
        let uses = counted
            .uses
            .entry(at)
            .or_insert_with_key(|(key, version)| KeyUses {
                key: key.clone(),
                version: *version,
                seal: 0,
                open: 0,
                digest: 0,
            });
        let count = match used {
            Use::Seal => &mut uses.seal,
            Use::Open => &mut uses.open,
            Use::Digest => &mut uses.digest,
        };
        *count = count.saturating_add(1);
    }

    fn count_failed(&self, name: &str, failed: &KeyVaultFailed) {
        let now = self.clock.now();
        let mut counted = self.lock();
        counted.failed_since.get_or_insert(now);
        let mut at = (Some(name.to_owned()), failed.code());
        if counted.failed.len() >= FAILING_MAX && !counted.failed.contains_key(&at) {
            at.0 = None;
        }
        let count = counted.failed.entry(at).or_default();
        *count = count.saturating_add(1);
    }

    fn take_due(&self, now: Timestamp, all: bool) -> Due {
        // A clock that was set back makes it due as well.
        let is_due = |since: &Timestamp, after_s: i64| {
            let age_s = now.duration_since(*since).as_secs();
            all || !(0..after_s).contains(&age_s)
        };
        let mut counted = self.lock();
        let mut due = Due {
            destroyed: std::mem::take(&mut counted.destroyed),
            ..Due::default()
        };
        if let Some(since) = counted.since.filter(|since| is_due(since, USED_S)) {
            counted.since = None;
            let uses = std::mem::take(&mut counted.uses).into_values().collect();
            due.uses = Some((since, uses, std::mem::take(&mut counted.further)));
        }
        if let Some(since) = counted.failed_since.filter(|since| is_due(since, FAILED_S)) {
            counted.failed_since = None;
            due.failed = Some((since, std::mem::take(&mut counted.failed)));
        }
        due
    }

    /// Puts back what could not be recorded.
    fn put_back(&self, due: Due) {
        let mut counted = self.lock();
        counted.destroyed.extend(due.destroyed);
        if let Some((since, uses, further)) = due.uses {
            counted.since = Some(since);
            counted.further = counted.further.saturating_add(further);
            for uses in uses {
                let at = (uses.key.clone(), uses.version);
                match counted.uses.get_mut(&at) {
                    Some(there) => {
                        there.seal = there.seal.saturating_add(uses.seal);
                        there.open = there.open.saturating_add(uses.open);
                        there.digest = there.digest.saturating_add(uses.digest);
                    }
                    None => {
                        counted.uses.insert(at, uses);
                    }
                }
            }
        }
        if let Some((since, failed)) = due.failed {
            counted.failed_since = Some(since);
            for (at, count) in failed {
                let there = counted.failed.entry(at).or_default();
                *there = there.saturating_add(count);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Due {
    fn events(&self, node: &str) -> Vec<(StreamId, KeyEvent)> {
        let mut events = Vec::new();
        for (key, at) in &self.destroyed {
            let event = KeyEvent::Destroyed {
                key: *key,
                at: Some(*at),
                version: None,
            };
            events.push((StreamId::Keys, event));
        }
        if let Some((since, failed)) = &self.failed {
            for ((key, code), count) in failed {
                let event = KeyEvent::Failed {
                    node: node.to_owned(),
                    key: key.clone(),
                    code: (*code).to_owned(),
                    count: *count,
                    since: *since,
                };
                events.push((StreamId::Tenant, event));
            }
        }
        if let Some((since, uses, further)) = &self.uses {
            let pages = uses.chunks(NAMED_AT_ONCE);
            let last = pages.len().saturating_sub(1);
            for (page, keys) in pages.enumerate() {
                let event = KeyEvent::Used {
                    node: node.to_owned(),
                    since: *since,
                    keys: keys.to_vec(),
                    further: if page == last { *further } else { 0 },
                };
                events.push((StreamId::Tenant, event));
            }
        }
        events
    }
}

impl Engine {
    /// Destroys the data key of one patient in one class, for ever, and records it. Again is no error.
    ///
    /// # Errors
    /// When the key vault fails. Where only the record fails, the key is gone, and its destruction is recorded
    /// later.
    pub async fn destroy_patient_key(
        &self,
        class: PayloadClass,
        patient: PatientToken,
    ) -> Result<(), KeyVaultFailed> {
        let name = key_name(class, Some(patient));
        self.keys.destroy(&self.config.tenant, &name).await?;
        if let Err(failed) = self.record_key_events(false).await {
            tracing::error!(error = %failed, "a key was destroyed; the ledger will say so later");
        }
        Ok(())
    }

    /// Records that the escrow text of a master key is about to be shown.
    ///
    /// # Errors
    /// When the ledger cannot be written; the text is not to be shown then.
    pub async fn record_escrow_shown(&self, reason: EscrowReason) -> Result<(), CommitFailed> {
        let event = KeyEvent::EscrowShown { reason };
        record_key_change(self.store.as_ref(), &self.config.tenant, self.now(), event).await
    }

    /// Records what keys were used for and what failed, when its time has come, or all of it; and keys that were
    /// destroyed, at once.
    ///
    /// # Errors
    /// When the ledger cannot be written; nothing is lost then.
    pub async fn record_key_events(&self, all: bool) -> Result<(), CommitFailed> {
        let due = self.keys.take_due(self.now(), all);
        let events = due.events(&self.config.node);
        let mut commit = self.commit_as(setup());
        // One commit: in two, the first would be recorded again when the second fails.
        for (stream, event) in events {
            commit.append(stream, Expected::Any, Event::Key(event));
        }
        if commit.appends.is_empty() {
            return Ok(());
        }
        let outcome = self.store.commit(commit).await.map(|_| ());
        if outcome.is_err() {
            self.keys.put_back(due);
        }
        outcome
    }

    /// Brings ledger and key folder to one account of what was destroyed, before anything is served. A key that
    /// the ledger says was destroyed is destroyed again, whatever an older copy of the key folder brought back; a
    /// destruction that was not recorded is recorded now.
    pub(crate) async fn replay_destroyed_keys(&self) -> Result<(), StartFailed> {
        let tenant = &self.config.tenant;
        let recorded = destroyed_in_ledger(self.store.as_ref(), tenant).await?;
        let found = self.keys.vault.destroyed(tenant).await?;
        let standing: BTreeMap<Digest, _> = found.keys.iter().map(|it| (it.key, it)).collect();
        let mut events = Vec::new();
        for key in &recorded {
            let came_back = found.came_back.contains(key);
            if !standing.contains_key(key) {
                self.keys.vault.destroy_again(tenant, key).await?;
            }
            if came_back || !standing.contains_key(key) {
                events.push(KeyEvent::DestroyedAgain { key: *key });
            }
        }
        for (key, destroyed) in standing {
            if !recorded.contains(&key) {
                events.push(KeyEvent::Destroyed {
                    key,
                    at: destroyed.at,
                    version: destroyed.version,
                });
            }
        }
        for events in events.chunks(EVENTS_AT_ONCE) {
            let mut commit = self.commit_as(setup());
            for event in events {
                commit.append(StreamId::Keys, Expected::Any, Event::Key(event.clone()));
            }
            self.store.commit(commit).await?;
        }
        Ok(())
    }
}

/// Records what a command did to keys.
///
/// # Errors
/// When the ledger cannot be written; a command then does nothing.
pub async fn record_key_change(
    store: &dyn Store,
    tenant: &TenantId,
    at: Timestamp,
    event: KeyEvent,
) -> Result<(), CommitFailed> {
    let actor = Actor::System {
        part: SystemPart::CommandLine,
    };
    let mut commit = chaperone_core::ports::Commit::new(tenant.clone(), at, actor);
    commit.append(StreamId::Keys, Expected::Any, Event::Key(event));
    store.commit(commit).await.map(|_| ())
}

/// Keys that the ledger says were destroyed.
async fn destroyed_in_ledger(
    store: &dyn Store,
    tenant: &TenantId,
) -> Result<std::collections::BTreeSet<Digest>, StoreFailed> {
    let mut destroyed = std::collections::BTreeSet::new();
    let mut version = 0;
    loop {
        let events = store.stream_after(tenant, &StreamId::Keys, version).await?;
        for recorded in &events {
            if let Event::Key(KeyEvent::Destroyed { key, .. }) = &recorded.event {
                destroyed.insert(*key);
            }
        }
        match events.last() {
            Some(last) if events.len() >= STREAM_EVENTS_MAX as usize => version = last.version,
            _ => return Ok(destroyed),
        }
    }
}

fn setup() -> Actor {
    Actor::System {
        part: SystemPart::Setup,
    }
}
