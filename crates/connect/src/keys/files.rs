//! Files that survive loss of power, and folders that nobody else reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use chaperone_core::ports::Random;

use crate::random::OsRandom;

/// Bits of a mode that let others in.
const OTHERS: u32 = 0o077;

/// Largest file of this vault, in bytes.
const FILE_BYTES_MAX: u64 = 4_096;

/// Makes a folder for its owner alone, and its parents.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Whether only the owner can reach a file or folder.
///
/// # Errors
/// When it cannot be looked at.
pub fn is_private(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.permissions().mode() & OTHERS == 0)
}

/// Reads a small file; `None` when there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    open(path)?.map(content_of).transpose()
}

/// Reads a small file, and whether the user running Chaperone alone can reach it; `None` when there is none.
/// Both are of one file, also where another node puts a new one in its place or moves it away meanwhile.
pub(super) fn read_with_rights(path: &Path) -> io::Result<Option<(Vec<u8>, bool)>> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let is_private = file.metadata()?.permissions().mode() & OTHERS == 0;
    Ok(Some((content_of(file)?, is_private)))
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(failed) if failed.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(failed) => Err(failed),
    }
}

fn content_of(file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is larger than any key",
        ));
    }
    Ok(content)
}

/// Whether a file came into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// By this call.
    New,
    /// It was there already, and was not touched.
    There,
}

/// Makes a file that did not exist, complete and durable, or leaves the one that did.
///
/// The content is written and flushed under another name first, then linked: a file under its own name
/// is always complete, whoever else makes the same file at the same time.
pub(super) fn make(path: &Path, content: &[u8]) -> io::Result<Made> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let temporary = folder.join(format!(".{:032x}.new", u128::from_be_bytes(OsRandom.id())));
    let written = write_new(&temporary, content);
    let linked = written.and_then(|()| fs::hard_link(&temporary, path));
    let removed = fs::remove_file(&temporary);
    let made = match linked {
        Ok(()) => Made::New,
        Err(failed) if failed.kind() == io::ErrorKind::AlreadyExists => Made::There,
        Err(failed) => return Err(failed),
    };
    removed?;
    sync_folder(folder)?;
    Ok(made)
}

/// Puts new content in place of a file, whole and durable: a reader sees the old or the new.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let temporary = folder.join(format!(".{:032x}.new", u128::from_be_bytes(OsRandom.id())));
    let put = write_new(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if let Err(failed) = put {
        // What is left of it is nobody's; the failure is what counts.
        let _ = fs::remove_file(&temporary);
        return Err(failed);
    }
    sync_folder(folder)
}

/// A lock between processes on one folder; goes with the value, and with the process.
///
/// Rests on `flock`: every node must see the folder through one file system that carries it between them.
#[derive(Debug)]
pub(super) struct Locked {
    _file: File,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// With others of this kind.
    Shared,
    /// Alone; waits for the others.
    Alone,
    /// Alone, or not at all.
    AloneNow,
}

/// Takes a lock; `None` only for [`Hold::AloneNow`] when somebody else has it.
pub(super) fn lock(path: &Path, hold: Hold) -> io::Result<Option<Locked>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match hold {
        Hold::Shared => file.lock_shared()?,
        Hold::Alone => file.lock()?,
        Hold::AloneNow => match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(failed)) => return Err(failed),
        },
    }
    Ok(Some(Locked { _file: file }))
}

/// Overwrites a file with randomness, removes it, and makes that durable. Nothing to do where there is
/// none.
///
/// Overwriting is best effort: a file system may keep old blocks. The wrapped key is worth nothing
/// without the master key.
pub(super) fn erase(path: &Path) -> io::Result<()> {
    if !overwrite(path)? {
        return Ok(());
    }
    fs::remove_file(path)?;
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

/// Puts randomness in place of what a file holds, durably; false where there is none.
pub(super) fn overwrite(path: &Path) -> io::Result<bool> {
    let mut file = match OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(failed) if failed.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(failed) => return Err(failed),
    };
    let length = usize::try_from(file.metadata()?.len().min(FILE_BYTES_MAX)).unwrap_or(0);
    let mut noise = vec![0; length];
    OsRandom.fill(&mut noise);
    file.write_all(&noise)?;
    file.sync_all()?;
    Ok(true)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
