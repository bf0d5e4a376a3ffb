//! What an exported ledger proves, found out offline and without trusting whoever made the file.
//!
//! Two questions are answered apart from each other:
//! - **integrity**: is every entry in the file the one that was signed, in its place?
//! - **completeness**: are all entries of the ledger in the file? A file alone can only show this up
//!   to its own newest checkpoint, and a cut file carries an older one; so the answer needs a
//!   checkpoint that was kept outside.
//!
//! Start at [`verify_export`]. Problems name the entry wherever that is possible and never repeat what
//! an entry says.

use std::fmt;
use std::io::BufRead;

use chaperone_core::ids::TenantId;
use serde::{Deserialize, Serialize};

use crate::checkpoint::TreeHead;

mod walk;

#[cfg(test)]
mod tests;

/// Most problems that are listed; the rest is counted.
pub const PROBLEMS_MAX: usize = 200;

/// Most streams whose versions are followed.
pub const STREAMS_MAX: usize = 10_000_000;

/// Most outside checkpoints that are looked at.
pub const OUTSIDE_MAX: usize = 10_000;

/// What the reader of an export knows from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The ledger's verifying key, as text, obtained apart from the file.
    pub trusted_key: Option<String>,
    /// Checkpoints (whole signed notes) that were kept outside the ledger's own reach.
    pub outside: Vec<String>,
}

/// The answer to one of the two questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Yes.
    Holds,
    /// Nothing speaks against it, but something needed for the proof is not there.
    Unproven,
    /// No.
    Broken,
}

/// Where the key came from that signatures were checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// The caller brought it.
    Trusted,
    /// The file itself. Whoever could replace the whole file could replace the key as well.
    File,
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProblemKind {
    /// The first line is not a header of a known format, or contradicts itself.
    Header,
    /// A line that is none of the format's lines.
    LineUnreadable,
    /// Leaf and leaf hash of an entry do not fit together.
    EntryAltered,
    /// An entry says another position in its line than it has.
    EntryRelabelled,
    /// An entry stands after one that came later.
    EntryReordered,
    /// An entry stands there twice.
    EntryDuplicated,
    /// Entries are not there.
    EntryMissing,
    /// A leaf that fits its hash but is not an event of this ledger at this place.
    LeafForeign,
    /// The versions of a stream do not count on.
    StreamVersion,
    /// The entries do not lead to the root that was signed.
    RootMismatch,
    /// A checkpoint in the file that is not signed by the ledger's key or stands in the wrong place.
    Checkpoint,
    /// The newest checkpoint does not cover all entries.
    NotCovered,
    /// The header's key is not the trusted one, or the trusted one is not a key.
    Key,
    /// An outside checkpoint that cannot be used.
    OutsideCheckpoint,
    /// An outside checkpoint signed another history than the file tells.
    Fork,
    /// An outside checkpoint counts more entries than the file has.
    TailCut,
    /// The number of entries is not the announced one.
    Size,
    /// The last line is not there, so that the file may have been cut.
    EndMissing,
    /// Some byte differs from what the exporter wrote.
    FileDigest,
    /// Something stands behind the last line.
    TrailingBytes,
    /// The file could not be read to its end.
    ReadStopped,
}

impl ProblemKind {
    /// Whether it is entries that are not there, rather than entries that are not right.
    fn is_about_completeness(self) -> bool {
        matches!(
            self,
            ProblemKind::EntryMissing
                | ProblemKind::TailCut
                | ProblemKind::Size
                | ProblemKind::EndMissing
                | ProblemKind::ReadStopped
        )
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What kind.
    pub kind: ProblemKind,
    /// The entry it is about; the first one when it is about several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seq: Option<u64>,
    /// The line of the file, from 1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line: Option<u64>,
    /// What is wrong and what it means.
    pub text: String,
}

/// What an export proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether every entry is the one that was signed.
    pub integrity: Verdict,
    /// Whether all entries are there.
    pub completeness: Verdict,
    /// Whose ledger, as the header says.
    pub tenant: Option<TenantId>,
    /// The key that signatures were checked with, as text.
    pub vkey: Option<String>,
    /// Where that key came from.
    pub key_source: Option<KeySource>,
    /// Entries found at their place.
    pub entries: u64,
    /// The newest checkpoint in the file that its entries lead to.
    pub checkpoint: Option<TreeHead>,
    /// The newest outside checkpoint that the entries lead to.
    pub outside: Option<TreeHead>,
    /// Everything that is wrong, in the order found.
    pub problems: Vec<Problem>,
    /// Problems beyond [`PROBLEMS_MAX`].
    pub problems_left_off: u64,
    /// What a reader must know to weigh the verdicts.
    pub remarks: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong: integrity holds, and nothing is known to be missing.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
            && self.problems_left_off == 0
            && self.integrity == Verdict::Holds
            && self.completeness != Verdict::Broken
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Holds => "holds",
            Verdict::Unproven => "not proven",
            Verdict::Broken => "BROKEN",
        })
    }
}

/// The report for people, several lines.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenant = self.tenant.as_ref().map_or("unknown", TenantId::as_str);
        writeln!(f, "Ledger of {tenant}: {} entries", self.entries)?;
        writeln!(f, "  integrity:    {}", self.integrity)?;
        writeln!(f, "  completeness: {}", self.completeness)?;
        for (head, place) in [
            (&self.checkpoint, "in the file"),
            (&self.outside, "outside"),
        ] {
            if let Some(head) = head {
                let TreeHead {
                    size,
                    epoch,
                    at,
                    root,
                    ..
                } = head;
                writeln!(
                    f,
                    "  newest checkpoint {place}: {size} entries, epoch {epoch}, {at}, root {root}"
                )?;
            }
        }
        for problem in &self.problems {
            write!(f, "PROBLEM ")?;
            if let Some(seq) = problem.seq {
                write!(f, "entry {seq}: ")?;
            }
            write!(f, "{}", problem.text)?;
            match problem.line {
                Some(line) => writeln!(f, " (line {line})")?,
                None => writeln!(f)?,
            }
        }
        if self.problems_left_off > 0 {
            writeln!(f, "… and {} problems more", self.problems_left_off)?;
        }
        for remark in &self.remarks {
            writeln!(f, "note: {remark}")?;
        }
        Ok(())
    }
}

/// Verifies an export. Never fails: whatever is wrong with the file is what the report is about.
pub fn verify_export(input: impl BufRead, options: &VerifyOptions) -> Report {
    walk::Walk::new(options).run(input)
}
