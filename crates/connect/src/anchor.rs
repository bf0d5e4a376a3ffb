//! Signed checkpoints in an append-only file outside the database.
//!
//! Not proof against somebody who can write both database and file: put the folder on another machine or
//! under a retention lock. Not a witness: nothing is countersigned here.
//!
//! ```text
//! <dir>/<tenant>.checkpoints
//!   chaperone-checkpoint-1 <size> <bytes of the note> <SHA-256 of the note>\n
//!   <note>\n
//!   … and so on
//! ```
//!
//! A record that the power cut short fails its digest; the next one starts on a line of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{Anchor, AnchorFailed};

/// First word of a record.
const HEADING: &str = "chaperone-checkpoint-1";

/// Longest note, in bytes.
const NOTE_BYTES_MAX: usize = 16_384;

/// How much of the file's end is searched for the newest record, in bytes.
const TAIL_BYTES_MAX: u64 = 262_144;

/// Largest file that is read as a whole, in bytes.
const FILE_BYTES_MAX: u64 = 1_073_741_824;

/// One anchored checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchored {
    /// Size of the tree.
    pub size: u64,
    /// The signed note.
    pub note: String,
}

/// Keeps checkpoints in one file per tenant.
#[derive(Debug, Clone)]
pub struct FileAnchor {
    dir: PathBuf,
    // One append at a time, so that records do not run into each other.
    appending: Arc<Mutex<()>>,
}

impl FileAnchor {
    /// Keeps checkpoints in `dir`, which is made if need be.
    ///
    /// # Errors
    /// [`AnchorFailed`] when the folder cannot be made.
    pub fn open(dir: &Path) -> Result<Self, AnchorFailed> {
        std::fs::create_dir_all(dir).map_err(|failed| failure(&failed))?;
        Ok(Self {
            dir: dir.to_owned(),
            appending: Arc::default(),
        })
    }

    /// The file of a tenant.
    pub fn path(&self, tenant: &TenantId) -> PathBuf {
        self.dir.join(format!("{tenant}.checkpoints"))
    }

    /// Every complete checkpoint of a file, oldest first, for verification with the server gone.
    ///
    /// # Errors
    /// [`AnchorFailed`] when the file cannot be read.
    pub fn read_all(path: &Path) -> Result<Vec<Anchored>, AnchorFailed> {
        let content = read_tail(path, FILE_BYTES_MAX).map_err(|failed| failure(&failed))?;
        Ok(records(&content).collect())
    }

    async fn blocking<T: Send + 'static>(
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, AnchorFailed> {
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| AnchorFailed("the anchor stopped".to_owned()))?
            .map_err(|failed| failure(&failed))
    }
}

#[async_trait]
impl Anchor for FileAnchor {
    async fn anchor(&self, tenant: &TenantId, size: u64, note: &str) -> Result<(), AnchorFailed> {
        if note.is_empty() || note.len() > NOTE_BYTES_MAX {
            return Err(AnchorFailed(format!(
                "a checkpoint has 1 to {NOTE_BYTES_MAX} bytes"
            )));
        }
        let digest = Digest::of_bytes(note.as_bytes());
        let record = format!("{HEADING} {size} {} {digest}\n{note}\n", note.len());
        let path = self.path(tenant);
        let appending = Arc::clone(&self.appending);
        Self::blocking(move || {
            let _appending = appending.lock().unwrap_or_else(PoisonError::into_inner);
            append(&path, record)
        })
        .await
    }

    async fn newest(&self, tenant: &TenantId) -> Result<Option<String>, AnchorFailed> {
        let path = self.path(tenant);
        let content = Self::blocking(move || read_tail(&path, TAIL_BYTES_MAX)).await?;
        Ok(records(&content).last().map(|anchored| anchored.note))
    }
}

fn append(path: &Path, record: String) -> io::Result<()> {
    let made = !path.exists();
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let text = if ends_a_line(&mut file)? {
        record
    } else {
        format!("\n{record}")
    };
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) if made => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// The last `bytes_max` bytes of a file; nothing when there is none.
fn read_tail(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(failed) if failed.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(failed) => return Err(failed),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
    let mut content = Vec::new();
    file.take(bytes_max).read_to_end(&mut content)?;
    Ok(content)
}

/// The complete records in a part of a file.
fn records(content: &[u8]) -> impl Iterator<Item = Anchored> + '_ {
    let mut rest = content;
    std::iter::from_fn(move || {
        // Every round takes at least one line away.
        while !rest.is_empty() {
            if let Some((anchored, after)) = record(rest) {
                rest = after;
                return Some(anchored);
            }
            rest = match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => rest.get(end + 1..).unwrap_or_default(),
                None => &[],
            };
        }
        None
    })
}

fn record(content: &[u8]) -> Option<(Anchored, &[u8])> {
    let rest = content.strip_prefix(HEADING.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (heading, after) = rest.split_at_checked(end)?;
    let mut words = std::str::from_utf8(heading).ok()?.split_whitespace();
    let size: u64 = words.next()?.parse().ok()?;
    let length: usize = words.next()?.parse().ok()?;
    let digest: Digest = words.next()?.parse().ok()?;
    let (note, after) = after.get(1..)?.split_at_checked(length)?;
    let after = after.strip_prefix(b"\n")?;
    let sound = length <= NOTE_BYTES_MAX && Digest::of_bytes(note) == digest;
    let note = std::str::from_utf8(note).ok()?.to_owned();
    sound.then_some((Anchored { size, note }, after))
}

fn failure(failed: &io::Error) -> AnchorFailed {
    AnchorFailed(match failed.get_ref() {
        // Said by this file.
        Some(own) => own.to_string(),
        None => failed.kind().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> TenantId {
        TenantId::new("clinic").unwrap()
    }

    const FIRST: &str = "chaperone/clinic\n1\nabc=\n\n— chaperone sig1\n";
    const SECOND: &str = "chaperone/clinic\n2\ndef=\n\n— chaperone sig2\n";

    #[tokio::test]
    async fn the_newest_is_the_last_appended() {
        let dir = tempfile::tempdir().unwrap();
        let anchor = FileAnchor::open(dir.path()).unwrap();
        assert_eq!(anchor.newest(&tenant()).await.unwrap(), None);
        anchor.anchor(&tenant(), 1, FIRST).await.unwrap();
        anchor.anchor(&tenant(), 2, SECOND).await.unwrap();
        assert_eq!(
            anchor.newest(&tenant()).await.unwrap().as_deref(),
            Some(SECOND)
        );
        let all = FileAnchor::read_all(&anchor.path(&tenant())).unwrap();
        assert_eq!(all.iter().map(|a| a.size).collect::<Vec<_>>(), [1, 2]);
        let other = TenantId::new("other").unwrap();
        assert_eq!(anchor.newest(&other).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_torn_record_is_passed_over_and_the_next_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let anchor = FileAnchor::open(dir.path()).unwrap();
        anchor.anchor(&tenant(), 1, FIRST).await.unwrap();
        anchor.anchor(&tenant(), 2, SECOND).await.unwrap();
        let path = anchor.path(&tenant());
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..40 {
            std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            assert_eq!(
                anchor.newest(&tenant()).await.unwrap().as_deref(),
                Some(FIRST),
                "{cut}"
            );
        }
        anchor.anchor(&tenant(), 2, SECOND).await.unwrap();
        assert_eq!(
            anchor.newest(&tenant()).await.unwrap().as_deref(),
            Some(SECOND)
        );
        assert_eq!(FileAnchor::read_all(&path).unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_changed_record_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let anchor = FileAnchor::open(dir.path()).unwrap();
        anchor.anchor(&tenant(), 1, FIRST).await.unwrap();
        let path = anchor.path(&tenant());
        let forged = std::fs::read_to_string(&path)
            .unwrap()
            .replace("abc=", "abd=");
        std::fs::write(&path, forged).unwrap();
        assert_eq!(anchor.newest(&tenant()).await.unwrap(), None);
        assert!(anchor.anchor(&tenant(), 1, "").await.is_err());
    }
}
