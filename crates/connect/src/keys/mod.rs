//! Data keys in files, wrapped under a master key per tenant.
//!
//! Not in the database and not in its backups: whoever has only a backup of the database has no key.
//! Not a KMS either; one goes behind the same port.
//!
//! ```text
//! <dir>/<tenant>/            0700
//!   master.key               0600  32 random bytes; a copy in escrow, made at first run
//!   signing.key              0600  the ledger's signing seed, wrapped
//!   keys/<name digest>.key   0600  one data key, wrapped (AES-256-GCM-SIV, bound to tenant and name)
//!   keys/<name digest>.gone        a tombstone: the name is never used again
//! ```
//!
//! Losing `master.key` without the escrow text loses everything that was ever sealed.
//!
//! Reading order: [`FileKeyVault`], [`EscrowSecret`]; `wrap` (cryptography), `files` (durability).

mod escrow;
mod files;
mod vault;
mod wrap;

pub use files::is_private;

pub use escrow::{EscrowInvalid, EscrowSecret};
pub use vault::{FileKeyVault, KeyCheck, KeyVaultUnusable};
