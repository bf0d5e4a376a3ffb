//! What this machine's disk and memory say: the time of one flush, and how much is resident.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::figures::Spread;

/// Flushes measured each time.
const FLUSHES: usize = 200;
/// What each of them appends, in bytes: one page, as the smallest commit does.
const APPENDED_BYTES: usize = 4_096;

/// A folder of this run, removed when dropped.
pub(super) fn folder(under: Option<&Path>) -> anyhow::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("chaperone-bench-");
    match under {
        Some(dir) => builder
            .tempdir_in(dir)
            .with_context(|| format!("cannot make a folder in `{}`", dir.display())),
        None => builder.tempdir().context("cannot make a temporary folder"),
    }
}

/// The time of one flush: a small append, then fdatasync, on the disk of the folder.
pub(super) fn flush(folder: &Path) -> anyhow::Result<Spread> {
    let path = folder.join("flush.probe");
    let mut file = File::create(&path).context("cannot write to the disk to measure")?;
    let page = [7_u8; APPENDED_BYTES];
    let mut times = Vec::with_capacity(FLUSHES);
    for _ in 0..FLUSHES {
        file.write_all(&page)?;
        let started = now();
        file.sync_data()?;
        times.push(started.elapsed());
    }
    std::fs::remove_file(&path)?;
    Ok(Spread::of(times))
}

/// Resident memory of a process, of this one when `None`; nothing where the system does not tell.
pub(super) fn resident_bytes(process: Option<u32>) -> Option<u64> {
    let process = process.map_or_else(|| "self".to_owned(), |id| id.to_string());
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1_024)
}

/// Processor time that this process has used so far, all threads together; nothing where the system
/// does not tell. Unlike elapsed time, it hardly depends on what else the machine does.
pub(super) fn processor_time() -> Option<Duration> {
    /// Ticks of `/proc` per second: a constant of Linux on every architecture that this is built for.
    const TICKS_PER_S: u32 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program may hold spaces and ends with the last parenthesis.
    let (_, after_name) = stat.rsplit_once(')')?;
    // User and system time are fields 14 and 15 of the whole line, 12 and 13 of what is left.
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    let used = ticks()?.checked_add(ticks()?)?;
    Some(Duration::from_secs(1) * used / TICKS_PER_S)
}

/// The one stopwatch of this command.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures at the edge; nothing is decided by this time"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}
