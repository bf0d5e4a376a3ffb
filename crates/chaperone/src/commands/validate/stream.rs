//! NDJSON: one resource a line, of any length up to the validator's limit, without reading a file whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use super::print::Printed;
use super::{Checking, Tally, name_of, text_bytes_max};

/// Resources that are read before they are checked together, for each thread.
const BATCH: usize = 64;

/// Checks every line of every file; `-` is standard input.
pub(super) fn check_all(checking: &Checking, files: &[PathBuf]) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    let progress = progress(files);
    #[expect(
        clippy::disallowed_methods,
        reason = "a rate is measured by the machine's clock, and only printed"
    )]
    let start = Instant::now();
    for file in files {
        let mut lines = open(file)?;
        if !one(checking, &name_of(file), &mut lines, &progress, &mut tally)? {
            break;
        }
    }
    progress.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64().max(f64::EPSILON);
    eprintln!(
        "{} resources, {} with errors, {:.0} resources/s",
        tally.resources,
        tally.with_errors,
        tally.resources as f64 / seconds
    );
    Ok(tally)
}

/// Checks one stream; false when nobody reads the findings any more.
fn one(
    checking: &Checking,
    name: &str,
    lines: &mut dyn BufRead,
    progress: &ProgressBar,
    tally: &mut Tally,
) -> anyhow::Result<bool> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut line_number = 0_u64;
    loop {
        let (mut numbers, mut texts, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
        let mut ended = false;
        while texts.len() < BATCH.saturating_mul(checking.jobs) {
            let Some((line, read)) =
                next_line(lines).with_context(|| format!("cannot read `{name}`"))?
            else {
                ended = true;
                break;
            };
            line_number += 1;
            bytes += read;
            if !line.iter().all(u8::is_ascii_whitespace) {
                numbers.push(line_number);
                texts.push(line);
            }
        }
        for (number, findings) in numbers.iter().zip(checking.check_many(&texts)) {
            tally.count(&findings);
            let printed = Printed {
                name: &format!("{name}:{number}"),
                findings: &findings,
                is_brief: true,
            };
            // A reader that has gone away, such as `head`, is no error of ours.
            if printed.write(checking.format, &mut out).is_err() {
                return Ok(false);
            }
        }
        progress.inc(bytes);
        progress.set_message(format!("{} resources", tally.resources));
        if ended {
            return Ok(out.flush().is_ok());
        }
    }
}

/// The next line without its end, and how many bytes were read. A line that is too long is cut one byte
/// after the limit, so that the validator refuses it, and the rest of it is passed over.
fn next_line(lines: &mut dyn BufRead) -> io::Result<Option<(Vec<u8>, u64)>> {
    let mut line = Vec::new();
    let mut read = (&mut *lines)
        .take(text_bytes_max())
        .read_until(b'\n', &mut line)? as u64;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read == text_bytes_max() {
        read += pass_over(lines)?;
    }
    Ok(Some((line, read)))
}

fn pass_over(lines: &mut dyn BufRead) -> io::Result<u64> {
    let mut passed = 0;
    loop {
        let buffer = lines.fill_buf()?;
        let (used, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        lines.consume(used);
        passed += used as u64;
        if ended {
            return Ok(passed);
        }
    }
}

fn open(file: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    const BUFFER_BYTES: usize = 1 << 20;
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(
            BUFFER_BYTES,
            io::stdin(),
        )));
    }
    let opened = File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, opened)))
}

/// By bytes where all sizes are known; on a terminal only.
fn progress(files: &[PathBuf]) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let sizes: Option<u64> = files
        .iter()
        .map(|file| std::fs::metadata(file).ok().map(|it| it.len()))
        .sum();
    match sizes {
        Some(total) => {
            let bar = ProgressBar::new(total);
            if let Ok(style) =
                ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {msg} eta {eta}")
            {
                bar.set_style(style);
            }
            bar
        }
        None => ProgressBar::new_spinner(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_or_without_their_mark_and_long_ones_are_cut() {
        let mut text = b"one\n\ntwo".to_vec();
        let mut lines: &[u8] = &text;
        let mut read = Vec::new();
        while let Some((line, _)) = next_line(&mut lines).unwrap() {
            read.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(read, ["one", "", "two"]);

        let max = usize::try_from(text_bytes_max()).unwrap();
        text = vec![b'x'; max + 10];
        text.extend_from_slice(b"\nnext\n");
        let mut lines: &[u8] = &text;
        let (cut, bytes) = next_line(&mut lines).unwrap().unwrap();
        assert_eq!((cut.len(), bytes), (max, max as u64 + 11));
        assert_eq!(next_line(&mut lines).unwrap().unwrap().0, b"next");
        assert!(next_line(&mut lines).unwrap().is_none());
    }
}
