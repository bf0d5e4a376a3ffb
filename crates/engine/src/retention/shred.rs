//! Shredding one patient: what was sealed under their keys can never be opened again, here or in any copy.
//!
//! ```text
//! plan ─▶ decided (recorded) ─▶ tombstone outside ─▶ keys destroyed ─▶ payloads, rows ─▶ the patient's own token ─▶ receipt
//! ```
//! Each step can be done again, and a crash between two is gone on with at the next start or sweep. The patient's own
//! token row goes last: while it is there, there is something to do; so a start looks for that row alone to find a
//! restored database. The ledger keeps tokens and digests and stays verifiable.
//!
//! Accounting goes on: before the mapping goes, a keyed digest of the patient's id at the EHR is kept with the token,
//! under a key of its own (`accounting/patients`), for the six years that an accounting reaches back.
//!
//! # Source
//! 45 CFR 164.310(d)(2)(i) (disposal), 164.528 (accounting); requirement R055.

mod carry_out;

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::Timestamp;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::ids::{HoldId, PatientToken, WritebackId};
use chaperone_core::ports::{
    CommitFailed, KeyVaultFailed, LISTED_MAX, Listing, PayloadClass, PayloadListing, Record,
    RecordKey, StoreFailed, TombstonesFailed,
};
use serde::Serialize;

use super::patient::Born;
use super::rules::{CountedFrom, Outcome};
use crate::approve::DecideFailed;
use crate::context::Engine;
use crate::projection::{BY_PATIENT, row_of};
use crate::tokens::{INDEX, TOKENS, TokenFailed, token_key};
use crate::transition::MoveFailed;
use crate::vault::key_name;

/// Collections, beside tokens, whose rows may be about one patient.
const ABOUT_PATIENTS: [&str; 6] = [
    "break_glass",
    "envelope",
    "exception",
    "grant",
    "look",
    "slots",
];

/// What stands against shredding, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StandsAgainst {
    /// What must stay.
    pub artefact: String,
    /// Which law.
    pub source: String,
    /// Until when.
    pub until: Timestamp,
}

/// What shredding a patient would do, and whether it may be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShredPlan {
    /// The patient.
    pub patient: PatientToken,
    /// Payloads that go, by class.
    pub payloads: BTreeMap<&'static str, u64>,
    /// Rows that go, by collection.
    pub records: BTreeMap<String, u64>,
    /// Names of the keys that are destroyed.
    pub keys: Vec<String>,
    /// Write-backs that are not at their end.
    pub in_work: Vec<WritebackId>,
    /// Holds in force.
    pub holds: Vec<HoldId>,
    /// Law that stands against it.
    pub law: Vec<StandsAgainst>,
    /// Whether the EHR did not say when the patient was born, so that nobody can say whether they are a minor.
    pub waits_for_ehr: bool,
    /// Whether there is a place for the tombstone.
    pub has_tombstones: bool,
}

impl ShredPlan {
    /// From when on law does not stand against it.
    pub fn allowed_from(&self) -> Option<Timestamp> {
        self.law.iter().map(|it| it.until).max()
    }

    /// Why it may not be done now.
    pub fn objection(&self) -> Option<ShredRefused> {
        if !self.has_tombstones {
            Some(ShredRefused::NoTombstones)
        } else if let Some(hold) = self.holds.first() {
            Some(ShredRefused::Held(*hold))
        } else if !self.in_work.is_empty() {
            Some(ShredRefused::InWork(self.in_work.len()))
        } else if let Some(until) = self.allowed_from() {
            Some(ShredRefused::Law(until))
        } else {
            self.waits_for_ehr.then_some(ShredRefused::BirthUnknown)
        }
    }
}

/// Why a patient may not be shredded now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShredRefused {
    /// A restore would undo it.
    #[error(
        "there is no place for tombstones, so that a restored backup would bring the patient back; set `retention.tombstones`"
    )]
    NoTombstones,
    /// A legal hold.
    #[error("legal hold {0} keeps everything of this patient")]
    Held(HoldId),
    /// Something is still going on.
    #[error("{0} write-backs of this patient are not at their end")]
    InWork(usize),
    /// The law.
    #[error("law demands that something of this patient stays until {0}")]
    Law(Timestamp),
    /// Perhaps a minor.
    #[error(
        "the EHR does not say when the patient was born, and a minor's record stays longer; try again when it answers"
    )]
    BirthUnknown,
}

/// Why nothing, or not everything, was shredded.
#[derive(Debug, thiserror::Error)]
pub enum ShredFailed {
    /// The roles do not allow it.
    #[error("shredding is decided by the privacy officer")]
    NotPermitted,
    /// Too short or too long.
    #[error("say why, in 10 to 1,000 characters and without names; it goes into the record")]
    ReasonUnfit,
    /// No second factor, or one for something else.
    #[error("this needs a fresh second factor, for exactly this")]
    StepUp,
    /// Nobody of this token.
    #[error("no such patient is known here, or they were shredded already")]
    UnknownPatient,
    /// It may not be done now.
    #[error(transparent)]
    Refused(#[from] ShredRefused),
    /// Somebody placed a hold, or shredded, at the same moment.
    #[error("something changed at the same moment; look again and decide again")]
    Again,
    /// The tombstone could not be kept; no key was destroyed.
    #[error(transparent)]
    Tombstones(#[from] TombstonesFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// A token cannot be followed.
    #[error(transparent)]
    Token(#[from] TokenFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// It could not be recorded.
    #[error("a step could not be recorded; what was begun is gone on with")]
    Commit(#[source] CommitFailed),
}

impl From<CommitFailed> for ShredFailed {
    fn from(failed: CommitFailed) -> Self {
        match failed {
            CommitFailed::Record { .. } => ShredFailed::Again,
            other => ShredFailed::Commit(other),
        }
    }
}

impl From<DecideFailed> for ShredFailed {
    fn from(failed: DecideFailed) -> Self {
        match failed {
            DecideFailed::Store(failed) => ShredFailed::Store(failed),
            _ => ShredFailed::StepUp,
        }
    }
}

/// What goes, as it was found.
#[derive(Default)]
struct Found {
    payloads: BTreeMap<PayloadClass, Vec<PayloadAddress>>,
    records: BTreeMap<String, Vec<RecordKey>>,
    /// The patient's own token and what leads to it, which go last.
    own: Vec<RecordKey>,
}

fn keys_of(patient: PatientToken) -> Vec<String> {
    PayloadClass::ALL
        .into_iter()
        .map(|class| key_name(class, Some(patient)))
        .chain([token_key(Some(patient))])
        .collect()
}

impl Engine {
    /// What a second factor for shredding a patient is bound to.
    pub fn shred_digest(&self, patient: PatientToken, reason: &str) -> Digest {
        let patient = patient.to_string();
        self.tenant_digest(&[b"shred", patient.as_bytes(), reason.trim().as_bytes()])
    }

    /// What shredding a patient would do, and what stands against it.
    ///
    /// # Errors
    /// [`ShredFailed::UnknownPatient`]; store failures.
    pub async fn shred_plan(&self, patient: PatientToken) -> Result<ShredPlan, ShredFailed> {
        let tenant = &self.config.tenant;
        let own = RecordKey::new(TOKENS, patient);
        if self.store.record(tenant, &own, self.now()).await?.is_none() {
            return Err(ShredFailed::UnknownPatient);
        }
        let found = self.find_of(patient).await?;
        let mut plan = ShredPlan {
            patient,
            payloads: BTreeMap::new(),
            records: BTreeMap::new(),
            keys: keys_of(patient),
            in_work: self.in_work_of(patient).await?,
            holds: Vec::new(),
            law: Vec::new(),
            waits_for_ehr: false,
            has_tombstones: self.config.tombstones.place().is_some(),
        };
        for (class, payloads) in &found.payloads {
            plan.payloads.insert(class.as_str(), payloads.len() as u64);
        }
        for (collection, keys) in &found.records {
            plan.records.insert(collection.clone(), keys.len() as u64);
        }
        for key in &found.own {
            let count = plan.records.entry(key.collection.clone()).or_default();
            *count = count.saturating_add(1);
        }
        if let Some(hold) = self.legal_holds().await?.on(Some(patient)) {
            plan.holds.push(hold.id);
        }
        self.law_against(&mut plan).await?;
        Ok(plan)
    }

    /// Law that demands something of the patient's payloads.
    async fn law_against(&self, plan: &mut ShredPlan) -> Result<(), ShredFailed> {
        let (tenant, now) = (&self.config.tenant, self.now());
        let mut born: Option<Born> = None;
        let mut longest: BTreeMap<String, StandsAgainst> = BTreeMap::new();
        for class in PayloadClass::ALL {
            let mut listing = PayloadListing {
                class,
                key: Some(key_name(class, Some(plan.patient))),
                before: Timestamp::MAX,
                after: None,
                limit: LISTED_MAX,
            };
            loop {
                let rows = self.store.payloads(tenant, listing.clone()).await?;
                for row in &rows {
                    let (outcome, ended) = match row.writeback {
                        None => (None, row.at),
                        Some(id) => match self.take_in_hand(id).await {
                            Ok(hand) => (Outcome::of(hand.state.name()), hand.moved()),
                            Err(MoveFailed::Store(failed)) => return Err(failed.into()),
                            Err(_) => (None, row.at),
                        },
                    };
                    let Some(rule) = self.retention.of_payload(class, outcome) else {
                        continue;
                    };
                    let from = match rule.from {
                        CountedFrom::Ended => ended.max(row.at),
                        _ => row.at,
                    };
                    let mut demands = Vec::new();
                    if let Some(minimum) = self.retention.minimum(rule) {
                        demands.push((minimum.at_least.after(from), &minimum.source));
                    }
                    if let Some(minors) = self.retention.minors(rule) {
                        let known = match born {
                            Some(known) => known,
                            None => self.born(plan.patient).await?,
                        };
                        born = Some(known);
                        match known {
                            Born::By(day) => demands.push((minors.until(day), &minors.source)),
                            Born::Unknown => demands.push((minors.until(row.at), &minors.source)),
                            Born::NotNow => plan.waits_for_ehr = true,
                        }
                    }
                    for (until, source) in demands {
                        let known = longest.get(&rule.artefact).map(|it| it.until);
                        if until > now && known.is_none_or(|known| known < until) {
                            longest.insert(
                                rule.artefact.clone(),
                                StandsAgainst {
                                    artefact: rule.artefact.clone(),
                                    source: source.clone(),
                                    until,
                                },
                            );
                        }
                    }
                }
                match rows.last() {
                    Some(last) if rows.len() >= LISTED_MAX as usize => {
                        listing.after = Some((last.at, last.address));
                    }
                    _ => break,
                }
            }
        }
        plan.law = longest.into_values().collect();
        Ok(())
    }

    /// Write-backs of a patient that are not at their end.
    async fn in_work_of(&self, patient: PatientToken) -> Result<Vec<WritebackId>, StoreFailed> {
        let mut open = Vec::new();
        let mut after = None;
        loop {
            let listing = Listing {
                index: Some(patient.to_string()),
                after,
                ..Listing::default()
            };
            let rows = self
                .store
                .projections(&self.config.tenant, BY_PATIENT, listing)
                .await?;
            for row in &rows {
                let row = row_of(row)?;
                if Outcome::of(row.state).is_none() {
                    open.push(row.id);
                }
            }
            if rows.len() < LISTED_MAX as usize {
                return Ok(open);
            }
            after = rows
                .last()
                .map(|last| (last.sort.clone(), last.key.key.clone()));
        }
    }

    /// Everything of a patient that can go.
    async fn find_of(&self, patient: PatientToken) -> Result<Found, StoreFailed> {
        let tenant = &self.config.tenant;
        let mut found = Found::default();
        for class in PayloadClass::ALL {
            let mut after = None;
            loop {
                let listing = PayloadListing {
                    class,
                    key: Some(key_name(class, Some(patient))),
                    before: Timestamp::MAX,
                    after,
                    limit: LISTED_MAX,
                };
                let rows = self.store.payloads(tenant, listing).await?;
                after = rows.last().map(|last| (last.at, last.address));
                if !rows.is_empty() {
                    let of_class = found.payloads.entry(class).or_default();
                    of_class.extend(rows.iter().map(|row| row.address));
                }
                if rows.len() < LISTED_MAX as usize {
                    break;
                }
            }
        }
        let name = patient.to_string();
        for collection in ABOUT_PATIENTS {
            let keys = self
                .keys_where(collection, |row| {
                    row.key.key.contains(&name) || row.value.to_string().contains(&name)
                })
                .await?;
            if !keys.is_empty() {
                found.records.insert(collection.to_owned(), keys);
            }
        }
        let tokens = self
            .keys_where(TOKENS, |row| {
                row.key.key != name && row.value.get("patient") == Some(&name.clone().into())
            })
            .await?;
        let gone: BTreeSet<String> = tokens.iter().map(|key| key.key.clone()).collect();
        let leads_to = |row: &Record, wanted: &dyn Fn(&str) -> bool| {
            let token = row.value.get("token").and_then(serde_json::Value::as_str);
            token.is_some_and(wanted)
        };
        let indexes = self
            .keys_where(INDEX, |row| leads_to(row, &|token| gone.contains(token)))
            .await?;
        let mut own = self
            .keys_where(INDEX, |row| leads_to(row, &|token| token == name))
            .await?;
        own.push(RecordKey::new(TOKENS, patient));
        found.own = own;
        for (collection, keys) in [(TOKENS, tokens), (INDEX, indexes)] {
            if !keys.is_empty() {
                found.records.insert(collection.to_owned(), keys);
            }
        }
        Ok(found)
    }

    /// Keys of a collection's rows that fit, looked through one by one: for rare work alone.
    async fn keys_where(
        &self,
        collection: &str,
        fits: impl Fn(&Record) -> bool,
    ) -> Result<Vec<RecordKey>, StoreFailed> {
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let listing = Listing {
                after,
                ..Listing::default()
            };
            let rows = self
                .store
                .records(&self.config.tenant, collection, listing, self.now())
                .await?;
            keys.extend(
                rows.iter()
                    .filter(|row| fits(row))
                    .map(|row| row.key.clone()),
            );
            if rows.len() < LISTED_MAX as usize {
                return Ok(keys);
            }
            after = rows
                .last()
                .map(|last| (last.sort.clone(), last.key.key.clone()));
        }
    }
}
