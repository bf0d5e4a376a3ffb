//! The export file: a whole ledger, readable and verifiable with nothing else at hand.
//!
//! JSON Lines, UTF-8, each line ended by a newline:
//!
//! 1. one [`Header`];
//! 2. one [`Entry`] per event, in order, with its leaf hash and the stored leaf as a string;
//! 3. among them, right after the last entry it covers, each signed checkpoint; the newest one covers
//!    everything and so stands behind the last entry;
//! 4. one [`End`] with the number of entries and the digest of every byte before it.
//!
//! The digest of the last line finds accidents anywhere in the file. It proves nothing against
//! somebody who can compute it; the checkpoints do. What a file proves is [`crate::verify`]'s business;
//! this module only writes lines and takes them apart.

use std::io::{self, BufRead, Read as _, Write};

use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::checkpoint::{CheckpointInvalid, VerifyingKey, VerifyingKeyInvalid, origin};
use crate::tree::leaf_hash;

/// Name and version of the file format.
pub const EXPORT_FORMAT: &str = "chaperone-ledger-export/1";

/// Longest leaf that can be exported, in bytes.
pub const LEAF_BYTES_MAX: usize = 1 << 20;

/// Longest line that is read, in bytes: a leaf whose every byte needs an escape, and room around it.
pub const LINE_BYTES_MAX: usize = 2 * LEAF_BYTES_MAX + 4096;

/// Most lines that are read.
pub const LINES_MAX: u64 = 1 << 32;

/// Most checkpoints in one export.
pub const CHECKPOINTS_MAX: usize = 10_000;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`EXPORT_FORMAT`].
    pub format: String,
    /// Whose ledger.
    pub tenant: TenantId,
    /// The name the ledger signs under.
    pub origin: String,
    /// The key its checkpoints are signed with, as text. Convenient, not trustworthy: a reader who
    /// wants proof brings the key from elsewhere.
    pub vkey: String,
    /// How many entries follow.
    pub size: u64,
    /// When the export was made. Not signed by anybody.
    pub created: Timestamp,
}

impl Header {
    /// The header of an export of `size` entries.
    pub fn new(vkey: &VerifyingKey, size: u64, created: Timestamp) -> Self {
        Self {
            format: EXPORT_FORMAT.to_owned(),
            tenant: vkey.tenant().clone(),
            origin: origin(vkey.tenant()),
            vkey: vkey.as_str().to_owned(),
            size,
            created,
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Position in the ledger, from 0.
    pub seq: u64,
    /// Leaf hash.
    pub hash: Digest,
    /// The stored leaf, byte for byte.
    pub leaf: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine {
    checkpoint: String,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// How many entries the file holds.
    pub entries: u64,
    /// SHA-256 of every byte before this line.
    pub sha256: Digest,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    end: End,
}

/// Why an export was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportFailed {
    /// The header's key is not a verifying key, or of another tenant.
    #[error("the header's key is not the key of its ledger")]
    Key(#[from] VerifyingKeyInvalid),
    /// A checkpoint would not verify.
    #[error("a checkpoint to be exported does not verify")]
    Checkpoint(#[from] CheckpointInvalid),
    /// The newest checkpoint does not cover exactly the entries to be exported.
    #[error("the export has {size} entries, but its newest checkpoint covers {covered}")]
    NotCovered {
        /// Entries announced.
        size: u64,
        /// Entries covered.
        covered: u64,
    },
    /// More checkpoints than [`CHECKPOINTS_MAX`].
    #[error("at most {CHECKPOINTS_MAX} checkpoints fit into one export, {0} were given")]
    CheckpointCount(usize),
    /// Fewer or more entries than announced.
    #[error("the export was announced with {announced} entries, {written} were written")]
    EntryCount {
        /// As the header says.
        announced: u64,
        /// As written.
        written: u64,
    },
    /// A leaf that is too long, not UTF-8, or holds a control character, which JSON does not.
    #[error("the leaf of entry {seq} cannot be exported")]
    Leaf {
        /// Its position.
        seq: u64,
    },
    /// A line could not be written as JSON.
    #[error("a line cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    /// The output failed.
    #[error("the export cannot be written")]
    Io(#[from] io::Error),
}

/// Writes an export, line by line. Refuses to write a file that would not verify by its structure.
#[derive(Debug)]
pub struct ExportWriter<W> {
    out: W,
    hasher: Sha256,
    header: Header,
    written: u64,
    /// Checkpoints to come, by size, the next one last.
    checkpoints: Vec<(u64, String)>,
}

impl<W: Write> ExportWriter<W> {
    /// Writes the header. The checkpoints, in any order, are written where they belong; the newest
    /// one must cover exactly the announced entries.
    ///
    /// # Errors
    /// [`ExportFailed`] when key, checkpoints and size do not belong together, or the output fails.
    pub fn start(
        out: W,
        header: Header,
        checkpoints: impl IntoIterator<Item = String>,
    ) -> Result<Self, ExportFailed> {
        let key = VerifyingKey::parse(&header.vkey)?;
        if *key.tenant() != header.tenant {
            return Err(VerifyingKeyInvalid.into());
        }
        let mut notes = Vec::new();
        for note in checkpoints {
            notes.push((key.verify(&note)?.size, note));
        }
        if notes.len() > CHECKPOINTS_MAX {
            return Err(ExportFailed::CheckpointCount(notes.len()));
        }
        notes.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        let covered = notes.first().map_or(0, |(size, _)| *size);
        if notes.is_empty() || covered != header.size {
            return Err(ExportFailed::NotCovered {
                size: header.size,
                covered,
            });
        }
        let mut writer = Self {
            out,
            hasher: Sha256::new(),
            header,
            written: 0,
            checkpoints: notes,
        };
        let header = writer.header.clone();
        writer.line(&header)?;
        writer.checkpoints_due()?;
        Ok(writer)
    }

    /// Writes the next entry, given its stored leaf.
    ///
    /// # Errors
    /// [`ExportFailed`] for a leaf too many, too long or not UTF-8, or when the output fails.
    pub fn entry(&mut self, leaf: &[u8]) -> Result<(), ExportFailed> {
        let seq = self.written;
        if seq >= self.header.size {
            return Err(ExportFailed::EntryCount {
                announced: self.header.size,
                written: seq.saturating_add(1),
            });
        }
        let text = std::str::from_utf8(leaf)
            .ok()
            .filter(|text| text.len() <= LEAF_BYTES_MAX && text.bytes().all(|byte| byte >= 0x20))
            .ok_or(ExportFailed::Leaf { seq })?;
        self.line(&Entry {
            seq,
            hash: leaf_hash(leaf),
            leaf: text.to_owned(),
        })?;
        self.written = seq.saturating_add(1);
        self.checkpoints_due()
    }

    /// Writes the last line and hands the output back, flushed.
    ///
    /// # Errors
    /// [`ExportFailed`] when entries are missing or the output fails.
    pub fn finish(mut self) -> Result<W, ExportFailed> {
        if self.written != self.header.size {
            return Err(ExportFailed::EntryCount {
                announced: self.header.size,
                written: self.written,
            });
        }
        let end = End {
            entries: self.written,
            sha256: digest_so_far(&self.hasher),
        };
        self.line(&EndLine { end })?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn checkpoints_due(&mut self) -> Result<(), ExportFailed> {
        while let Some((_, checkpoint)) = self.checkpoints.pop_if(|(size, _)| *size == self.written)
        {
            self.line(&CheckpointLine { checkpoint })?;
        }
        Ok(())
    }

    fn line(&mut self, value: &impl Serialize) -> Result<(), ExportFailed> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.hasher.update(&line);
        self.out.write_all(&line)?;
        Ok(())
    }
}

/// One line, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The first line, if it is one.
    Header(Header),
    /// An event.
    Entry(Entry),
    /// A signed note, not verified.
    Checkpoint(String),
    /// The last line, with the digest that the bytes before it really have.
    End {
        /// What the line says.
        end: End,
        /// What is true.
        sha256: Digest,
    },
    /// Complete, but none of these.
    Unreadable,
    /// The last bytes of a file that does not end with a newline.
    Cut,
}

/// Why no further line can be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadStopped {
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// More than [`LINES_MAX`].
    #[error("the file has more than {LINES_MAX} lines")]
    TooMany,
    /// The input failed.
    #[error("the file cannot be read")]
    Io(#[source] io::Error),
}

/// Reads an export line by line, in bounded memory. Judges nothing.
#[derive(Debug)]
pub struct ExportReader<R> {
    input: R,
    hasher: Sha256,
    lines: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> ExportReader<R> {
    /// Reads from an input.
    pub fn new(input: R) -> Self {
        Self {
            input,
            hasher: Sha256::new(),
            lines: 0,
            buffer: Vec::new(),
        }
    }

    /// Lines read so far; the number of the line that [`ExportReader::next_line`] returned last.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The next line; `None` at the end of the file.
    ///
    /// # Errors
    /// [`ReadStopped`] beyond the limits or when the input fails.
    pub fn next_line(&mut self) -> Result<Option<Line>, ReadStopped> {
        self.buffer.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        let mut bounded = self.input.by_ref().take(limit);
        let count = bounded
            .read_until(b'\n', &mut self.buffer)
            .map_err(ReadStopped::Io)?;
        if count == 0 {
            return Ok(None);
        }
        if count > LINE_BYTES_MAX {
            return Err(ReadStopped::TooLong);
        }
        if self.lines >= LINES_MAX {
            return Err(ReadStopped::TooMany);
        }
        self.lines = self.lines.saturating_add(1);
        let line = match self.buffer.strip_suffix(b"\n") {
            Some(line) => parse_line(line, self.lines == 1, &self.hasher),
            None => Line::Cut,
        };
        self.hasher.update(&self.buffer);
        Ok(Some(line))
    }
}

/// The kind of a line follows from its first key, which the writer always puts first.
fn parse_line(line: &[u8], first: bool, before: &Sha256) -> Line {
    let parsed = if line.starts_with(br#"{"format":"#) && first {
        serde_json::from_slice(line).map(Line::Header)
    } else if line.starts_with(br#"{"seq":"#) {
        serde_json::from_slice(line).map(Line::Entry)
    } else if line.starts_with(br#"{"checkpoint":"#) {
        serde_json::from_slice::<CheckpointLine>(line).map(|it| Line::Checkpoint(it.checkpoint))
    } else if line.starts_with(br#"{"end":"#) {
        serde_json::from_slice::<EndLine>(line).map(|it| Line::End {
            end: it.end,
            sha256: digest_so_far(before),
        })
    } else {
        return Line::Unreadable;
    };
    parsed.unwrap_or(Line::Unreadable)
}

fn digest_so_far(hasher: &Sha256) -> Digest {
    Digest::from_bytes(hasher.clone().finalize().into())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::sample::Sample;

    #[test]
    fn an_export_reads_as_it_was_written() {
        let sample = Sample::with_checkpoints(3, &[2, 3]);
        let bytes = sample.export();
        let mut reader = ExportReader::new(bytes.as_slice());
        let mut kinds = Vec::new();
        while let Some(line) = reader.next_line().unwrap() {
            kinds.push(match line {
                Line::Header(header) => {
                    assert_eq!(header, sample.header());
                    "header".to_owned()
                }
                Line::Entry(entry) => {
                    assert_eq!(entry.leaf.as_bytes(), sample.leaves[entry.seq as usize]);
                    format!("entry {}", entry.seq)
                }
                Line::Checkpoint(note) => format!("checkpoint {}", note.lines().nth(1).unwrap()),
                Line::End { end, sha256 } => {
                    assert_eq!(end.sha256, sha256);
                    format!("end {}", end.entries)
                }
                Line::Unreadable | Line::Cut => "unreadable".to_owned(),
            });
        }
        expect!["header, entry 0, entry 1, checkpoint 2, entry 2, checkpoint 3, end 3"]
            .assert_eq(&kinds.join(", "));
    }

    #[test]
    fn the_writer_refuses_what_would_not_verify() {
        let sample = Sample::with_checkpoints(3, &[2, 3]);
        let start = |header, notes: Vec<String>| ExportWriter::start(Vec::new(), header, notes);
        let notes = sample.checkpoints.clone();
        assert!(start(sample.header(), notes.clone()).is_ok());
        assert!(matches!(
            start(sample.header(), vec![]),
            Err(ExportFailed::NotCovered { .. })
        ));
        assert!(matches!(
            start(sample.header(), notes[..1].to_vec()),
            Err(ExportFailed::NotCovered {
                size: 3,
                covered: 2
            })
        ));
        let other = Sample::of_tenant("clinic-2", 3, &[3]);
        assert!(matches!(
            start(sample.header(), other.checkpoints.clone()),
            Err(ExportFailed::Checkpoint(_))
        ));
        let mixed = Header {
            vkey: other.key.vkey(),
            ..sample.header()
        };
        assert!(matches!(
            start(mixed, notes.clone()),
            Err(ExportFailed::Key(_))
        ));

        let mut writer = start(sample.header(), notes.clone()).unwrap();
        assert!(matches!(
            writer.entry(b"\xff"),
            Err(ExportFailed::Leaf { seq: 0 })
        ));
        assert!(matches!(
            writer.entry(b"a\nb"),
            Err(ExportFailed::Leaf { seq: 0 })
        ));
        writer.entry(&sample.leaves[0]).unwrap();
        assert!(matches!(
            writer.finish(),
            Err(ExportFailed::EntryCount { .. })
        ));

        let mut writer = start(sample.header(), notes).unwrap();
        sample
            .leaves
            .iter()
            .for_each(|leaf| writer.entry(leaf).unwrap());
        assert!(matches!(
            writer.entry(&sample.leaves[0]),
            Err(ExportFailed::EntryCount {
                announced: 3,
                written: 4
            })
        ));
    }

    #[test]
    fn a_line_without_end_does_not_fill_the_memory() {
        let endless = io::BufReader::new(io::repeat(b'x'));
        let mut reader = ExportReader::new(endless);
        assert!(matches!(reader.next_line(), Err(ReadStopped::TooLong)));
    }
}
