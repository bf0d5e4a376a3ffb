//! Why the key folder cannot be used, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

use chaperone_core::ids::TenantId;
use chaperone_core::ports::{KeyVaultFailed, KmsFailed};

use super::escrow::EscrowInvalid;
use super::files;

/// Why a vault cannot be used; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyVaultUnusable {
    /// There is no master key.
    #[error(
        "tenant `{tenant}` has no master key in `{folder}`: on first run make one (`FileKeyVault::create`) \
         and store the escrow text elsewhere; after a loss restore it from the escrow text"
    )]
    NoMasterKey {
        /// The tenant.
        tenant: TenantId,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// There is one already.
    #[error(
        "tenant `{tenant}` has a master key already; making another would orphan what it sealed"
    )]
    AlreadyThere {
        /// The tenant.
        tenant: TenantId,
    },
    /// The escrow text is of another key than the one in place.
    #[error("the escrow text of tenant `{tenant}` is not of the master key that is in place")]
    OtherKey {
        /// The tenant.
        tenant: TenantId,
    },
    /// Others can read it.
    #[error("`{path}` can be reached by other users: run `chmod go-rwx` on it")]
    NotPrivate {
        /// What.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error(
        "`{path}` is damaged, or belongs to another tenant or master key: restore it from a backup of \
         the key folder"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// A version of the tenant key is named that is not there.
    #[error(
        "version {version} of the tenant key is not in `{folder}`: it was retired, and what is wrapped under it \
         comes from an older copy of the folder; restore the whole folder from one backup"
    )]
    NoSuchVersion {
        /// Which.
        version: u32,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// A tenant key names a key-management service that is not configured.
    #[error(
        "version {version} of the tenant key is wrapped by the service `{provider}`, which `[keys.kms]` of the \
         configuration does not name"
    )]
    OtherService {
        /// Which version.
        version: u32,
        /// The service.
        provider: String,
    },
    /// Somebody else rotates.
    #[error("another rotation of the keys of `{tenant}` is running; wait for it")]
    Rotating {
        /// Whose.
        tenant: TenantId,
    },
    /// The old version is still needed.
    #[error("{left} keys are still wrapped under an older version: run the rotation again")]
    NotRewrapped {
        /// How many.
        left: u64,
    },
    /// The escrow text was not accepted.
    #[error(transparent)]
    Escrow(#[from] EscrowInvalid),
    /// The key-management service did not answer, or said no.
    #[error(transparent)]
    Kms(#[from] KmsFailed),
    /// The file system refused.
    #[error("`{path}` cannot be used: {source}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A task ended before its time.
    #[error("the key vault stopped")]
    Stopped,
}

impl KeyVaultUnusable {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| KeyVaultUnusable::File { path, source }
    }
}

impl From<KeyVaultUnusable> for KeyVaultFailed {
    fn from(unusable: KeyVaultUnusable) -> Self {
        let is_passing = match &unusable {
            KeyVaultUnusable::Kms(failed) => failed.is_passing(),
            KeyVaultUnusable::File { .. } | KeyVaultUnusable::Stopped => true,
            _ => false,
        };
        // A path of this machine says nothing to whoever reads an answer or the ledger; `doctor` names it.
        let say = match unusable {
            KeyVaultUnusable::Kms(failed) => failed.to_string(),
            KeyVaultUnusable::File { source, .. } => source.to_string(),
            KeyVaultUnusable::Damaged { .. } => {
                "a key file is damaged or belongs to another master key".to_owned()
            }
            other => other.to_string(),
        };
        if is_passing {
            KeyVaultFailed::Unavailable(say)
        } else {
            KeyVaultFailed::Refused(say)
        }
    }
}

/// Reads a small file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, KeyVaultUnusable> {
    files::read(path).map_err(KeyVaultUnusable::file(path))
}

/// Reads a file, and refuses one that others can reach; `None` when there is none.
pub(super) fn read_private(path: &Path) -> Result<Option<Vec<u8>>, KeyVaultUnusable> {
    match files::read_with_rights(path).map_err(KeyVaultUnusable::file(path))? {
        Some((_, false)) => Err(KeyVaultUnusable::NotPrivate {
            path: path.to_owned(),
        }),
        found => Ok(found.map(|(content, _)| content)),
    }
}

/// Refuses what others can reach.
pub(super) fn require_private(path: &Path) -> Result<(), KeyVaultUnusable> {
    match files::is_private(path) {
        Ok(true) => Ok(()),
        Ok(false) => Err(KeyVaultUnusable::NotPrivate {
            path: path.to_owned(),
        }),
        Err(source) => Err(KeyVaultUnusable::File {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Work on files, off the threads that serve.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeyVaultUnusable> + Send + 'static,
) -> Result<T, KeyVaultUnusable> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| KeyVaultUnusable::Stopped)?
}
