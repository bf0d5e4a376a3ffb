//! Data keys in files, wrapped under a key of the tenant, which a key-management service wraps.
//!
//! Not in the database and not in its backups: whoever has only a backup of the database has no key.
//!
//! ```text
//! <dir>/<tenant>/            0700
//!   master.key               0600  the default service: 32 random bytes; a copy in escrow, made at first run
//!   tenant-000001.key        0600  a version of the tenant key, wrapped by the service
//!   signing.key              0600  the ledger's signing seed, wrapped under the tenant key
//!   keys/<name digest>.key   0600  one data key, wrapped under the tenant key, bound to tenant and name
//!   keys/<name digest>.gone        a tombstone: the name is never used again
//! <tombstones>/<tenant>/
//!   <name digest>.gone             the same tombstone, apart from the keys and their backups
//! ```
//! Folders of the first versions of Chaperone have no tenant key: everything is wrapped under `master.key`. They
//! open as they are, and the first rotation of the tenant key brings them here.
//!
//! Losing what the service holds (`master.key` without the escrow text, or the service's key) loses everything
//! that was ever sealed.
//!
//! Reading order: [`FileKeyVault`], `ring` (versions of the tenant key), `rotate`, `tombstones`, [`KeyStatus`],
//! [`EscrowSecret`]; `master` (the default service), `aws` and `sigv4` (AWS KMS), `wrap` (cryptography), `files` (durability).

mod aws;
mod escrow;
mod files;
mod master;
mod ring;
mod rotate;
mod sigv4;
mod status;
mod tombstones;
mod unusable;
mod vault;
mod wrap;

pub use files::is_private;

pub use aws::{AwsCredentialSource, AwsCredentials, AwsKms, AwsKmsConfig, AwsKmsInvalid};
pub use escrow::{EscrowInvalid, EscrowSecret};
pub use rotate::{MasterChange, Rewrapped, TenantKeyRotation};
pub use status::{KeyCheck, KeyStatus, RetiredKey, VersionStatus};
pub use unusable::KeyVaultUnusable;
pub use vault::{CACHED_S, FileKeyVault, KeyPlace};
