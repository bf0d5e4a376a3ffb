//! Who was shredded, in a file outside the database: one JSON object a line.
//!
//! ```text
//! <dir>/<tenant>.shredded.ndjson
//! ```
//! The folder stands beside the key folder and is in no backup of the database: a restored database is compared with
//! it before anything is served. A line that the power cut short was never taken, and is taken off before the next
//! one; anything else that cannot be read is an error, since a shorter list would bring somebody back.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{ShredTombstone, ShredTombstones, TombstonesFailed};

/// Largest file that is read, in bytes: some hundred thousand patients.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Keeps tombstones in a folder.
#[derive(Debug, Clone)]
pub struct FileTombstones {
    dir: PathBuf,
    // One at a time, so that lines do not run into each other.
    writing: Arc<Mutex<()>>,
}

impl FileTombstones {
    /// In `dir`, which is made when the first is kept.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            writing: Arc::default(),
        }
    }

    /// The file of a tenant.
    pub fn path(&self, tenant: &TenantId) -> PathBuf {
        self.dir.join(format!("{tenant}.shredded.ndjson"))
    }

    fn read(&self, tenant: &TenantId) -> io::Result<Vec<ShredTombstone>> {
        let path = self.path(tenant);
        let size = match path.metadata() {
            Ok(metadata) => metadata.len(),
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(failed) => return Err(failed),
        };
        if size > FILE_BYTES_MAX {
            return Err(io::Error::other("the file is too large"));
        }
        let text = std::fs::read_to_string(&path)?;
        let mut tombstones = Vec::new();
        for line in whole(&text).lines() {
            let tombstone: ShredTombstone = serde_json::from_str(line)
                .map_err(|_| io::Error::other("a line is not a tombstone"))?;
            if tombstone.format != ShredTombstone::FORMAT || tombstone.tenant != *tenant {
                return Err(io::Error::other(
                    "a line is of another version or another organisation",
                ));
            }
            tombstones.push(tombstone);
        }
        Ok(tombstones)
    }

    fn write(&self, tombstone: &ShredTombstone) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.read(&tombstone.tenant)?;
        if known.iter().any(|it| it.patient == tombstone.patient) {
            return Ok(());
        }
        std::fs::create_dir_all(&self.dir)?;
        let path = self.path(&tombstone.tenant);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(&path)?;
        let end = whole(&std::fs::read_to_string(&path)?).len() as u64;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        let mut line = serde_json::to_string(tombstone)?;
        line.push('\n');
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        File::open(&self.dir)?.sync_all()
    }
}

/// What of a file was taken: up to the last end of a line.
fn whole(text: &str) -> &str {
    text.rsplit_once('\n')
        .and_then(|(lines, _)| text.get(..lines.len() + 1))
        .unwrap_or_default()
}

fn failure(failed: &io::Error) -> TombstonesFailed {
    TombstonesFailed(failed.to_string())
}

#[async_trait]
impl ShredTombstones for FileTombstones {
    async fn put(&self, tombstone: &ShredTombstone) -> Result<(), TombstonesFailed> {
        let (place, tombstone) = (self.clone(), tombstone.clone());
        tokio::task::spawn_blocking(move || place.write(&tombstone))
            .await
            .map_err(|_| TombstonesFailed("the writer stopped".to_owned()))?
            .map_err(|failed| failure(&failed))
    }

    async fn of(&self, tenant: &TenantId) -> Result<Vec<ShredTombstone>, TombstonesFailed> {
        let (place, tenant) = (self.clone(), tenant.clone());
        tokio::task::spawn_blocking(move || place.read(&tenant))
            .await
            .map_err(|_| TombstonesFailed("the reader stopped".to_owned()))?
            .map_err(|failed| failure(&failed))
    }
}

#[cfg(test)]
mod tests {
    use chaperone_core::ids::PatientToken;

    use super::*;

    fn tombstone(tenant: &str, n: u8) -> ShredTombstone {
        ShredTombstone {
            format: ShredTombstone::FORMAT,
            tenant: TenantId::new(tenant).unwrap(),
            patient: PatientToken::from_random([n; 16]),
            at: "2030-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    #[tokio::test]
    async fn each_is_kept_once_for_its_tenant_and_a_line_cut_short_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let place = FileTombstones::new(&dir.path().join("tombstones"));
        let clinic = TenantId::new("clinic").unwrap();
        assert_eq!(place.of(&clinic).await.unwrap(), []);
        let (first, second) = (tombstone("clinic", 1), tombstone("clinic", 2));
        place.put(&first).await.unwrap();
        place.put(&first).await.unwrap();
        place.put(&tombstone("other", 3)).await.unwrap();
        // The power fails in the middle of a line.
        let path = place.path(&clinic);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"format\":1,\"ten");
        std::fs::write(&path, &text).unwrap();
        let kept = place.of(&clinic).await.unwrap();
        assert_eq!(kept, std::slice::from_ref(&first));
        place.put(&second).await.unwrap();
        assert_eq!(place.of(&clinic).await.unwrap(), [first, second]);
        // A line that is none is not passed over.
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("nonsense\n{text}")).unwrap();
        assert!(place.of(&clinic).await.is_err());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_can_read_the_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let place = FileTombstones::new(dir.path());
        let one = tombstone("clinic", 1);
        place.put(&one).await.unwrap();
        let mode = place
            .path(&one.tenant)
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0);
    }
}
