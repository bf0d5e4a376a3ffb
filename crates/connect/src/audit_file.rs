//! AuditEvents into a folder: one NDJSON file for each tenant, which is set aside under a number when it is full.
//!
//! ```text
//! <dir>/<tenant>.audit.ndjson            what is being written
//! <dir>/<tenant>.audit.000001.ndjson     full files, oldest first
//! ```
//! The files hold references to patients: the folder belongs on storage that only whoever audits can read. Nothing
//! here deletes. A line that the power cut short is taken off before the next one; its AuditEvent comes again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{AuditLine, AuditSink, AuditSinkFailed};

/// Longest line that is looked for at the end of a file, in bytes; no AuditEvent comes near it.
const LINE_BYTES_MAX: u64 = 1_048_576;
/// Most files of one tenant.
const FILES_MAX: u32 = 999_999;

/// Writes AuditEvents into a folder.
#[derive(Debug, Clone)]
pub struct FileAuditSink {
    dir: PathBuf,
    bytes_max: u64,
    // One batch at a time, so that lines do not run into each other.
    writing: Arc<Mutex<()>>,
}

impl FileAuditSink {
    /// Writes into `dir`, which is made if need be; a file is set aside when it has more than `bytes_max` bytes.
    ///
    /// # Errors
    /// [`AuditSinkFailed`] when the folder cannot be made.
    pub fn open(dir: &Path, bytes_max: u64) -> Result<Self, AuditSinkFailed> {
        std::fs::create_dir_all(dir).map_err(|failed| failure(&failed))?;
        Ok(Self {
            dir: dir.to_owned(),
            bytes_max,
            writing: Arc::default(),
        })
    }

    /// The file that is being written for a tenant.
    pub fn path(&self, tenant: &TenantId) -> PathBuf {
        self.dir.join(format!("{tenant}.audit.ndjson"))
    }

    fn write(&self, tenant: &TenantId, text: &str) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(tenant);
        if path.metadata().is_ok_and(|it| it.len() >= self.bytes_max) {
            self.set_aside(tenant, &path)?;
        }
        let is_new = !path.exists();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(&path)?;
        let end = whole_lines(&mut file)?;
        file.set_len(end)?;
        file.seek(SeekFrom::Start(end))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if is_new {
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(())
    }

    fn set_aside(&self, tenant: &TenantId, path: &Path) -> io::Result<()> {
        let numbered = |number: u32| self.dir.join(format!("{tenant}.audit.{number:06}.ndjson"));
        let free = (1..=FILES_MAX).find(|number| !numbered(*number).exists());
        let free = free.ok_or_else(|| io::Error::other("every number of a file is taken"))?;
        std::fs::rename(path, numbered(free))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// Where the last whole line ends.
fn whole_lines(file: &mut File) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let from = size.saturating_sub(LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(LINE_BYTES_MAX).read_to_end(&mut tail)?;
    match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => Ok(from.saturating_add(at as u64).saturating_add(1)),
        None if from == 0 => Ok(0),
        None => Err(io::Error::other(
            "the file does not hold lines; set it aside by hand",
        )),
    }
}

fn failure(failed: &io::Error) -> AuditSinkFailed {
    AuditSinkFailed(match failed.get_ref() {
        // Said by this file.
        Some(own) => own.to_string(),
        None => failed.kind().to_string(),
    })
}

#[async_trait]
impl AuditSink for FileAuditSink {
    async fn take(&self, tenant: &TenantId, events: &[AuditLine]) -> Result<(), AuditSinkFailed> {
        let mut text = String::with_capacity(events.iter().map(|it| it.json.len() + 1).sum());
        for event in events {
            text.push_str(&event.json);
            text.push('\n');
        }
        let (sink, tenant) = (self.clone(), tenant.clone());
        tokio::task::spawn_blocking(move || sink.write(&tenant, &text))
            .await
            .map_err(|_| AuditSinkFailed("the writer stopped".to_owned()))?
            .map_err(|failed| failure(&failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> AuditLine {
        AuditLine {
            id: text.to_owned(),
            json: format!("{{\"id\":\"{text}\"}}"),
        }
    }

    #[tokio::test]
    async fn lines_are_whole_and_files_are_set_aside_when_they_are_full() {
        let dir = tempfile::tempdir().unwrap();
        let tenant = TenantId::new("clinic").unwrap();
        let sink = FileAuditSink::open(dir.path(), 40).unwrap();
        sink.take(&tenant, &[line("a"), line("b")]).await.unwrap();
        let path = sink.path(&tenant);
        // The power fails in the middle of a line.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"id\":\"c");
        std::fs::write(&path, &text).unwrap();
        sink.take(&tenant, &[line("c"), line("d")]).await.unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            written,
            "{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"c\"}\n{\"id\":\"d\"}\n"
        );
        sink.take(&tenant, &[line("e")]).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"id\":\"e\"}\n");
        let full = dir.path().join("clinic.audit.000001.ndjson");
        assert_eq!(std::fs::read_to_string(full).unwrap(), written);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nobody_else_can_read_the_file_and_a_folder_that_is_gone_is_an_error() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let tenant = TenantId::new("clinic").unwrap();
        let sink = FileAuditSink::open(&dir.path().join("audit"), 1_000).unwrap();
        sink.take(&tenant, &[line("a")]).await.unwrap();
        let mode = sink.path(&tenant).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);
        std::fs::remove_dir_all(dir.path().join("audit")).unwrap();
        assert!(sink.take(&tenant, &[line("b")]).await.is_err());
    }
}
