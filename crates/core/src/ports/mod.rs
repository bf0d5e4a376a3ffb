//! Ports: contracts between the engine and the outside. Each states durability, concurrency, retry
//! duty and which error means what. Adapters live in `store` and `connect`; fakes in `testkit`.

mod ehr;
mod found;
mod keys;
mod kms;
mod outside;
mod store;
mod tombstones;
mod work;

pub use ehr::{
    DeliveryProfile, Ehr, EhrRead, EhrReadFailed, EhrSearch, EntryWritten, Environment,
    InteractionSupport, Reconciliation, ServerKind, Signature, Version, WriteFailed, WriteReceipt,
};
pub use found::{Found, There};
pub use keys::{DataKey, DestroyedKey, DestroyedKeys, KeyVault, KeyVaultFailed, key_digest};
pub use kms::{Kms, KmsBinding, KmsFailed, KmsStanding};
pub use outside::{
    Anchor, AnchorFailed, AuditLine, AuditSink, AuditSinkFailed, Clock, ConsentDecision,
    ConsentHook, ConsentQuestion, DecisionSupport, Detector, Identifier, LaunchServer,
    NotInspected, Notice, Notifier, PatientMailer, Random,
};
pub use store::{
    Append, CheckpointRow, Commit, CommitFailed, Committed, Expected, Guard, LISTED_MAX, Lease,
    LeaseRefused, Listing, PayloadClass, PayloadCount, PayloadListing, PayloadRow, Record,
    RecordChange, RecordKey, STREAM_EVENTS_MAX, SealedPayload, Store, StoreFailed,
};
pub use tombstones::{ShredTombstone, ShredTombstones, TombstonesFailed};
pub use work::{Claim, ClaimedWork, Lane, WorkChange, WorkItem, WorkKind, WorkRow, WorkState};
