//! One pass over an export, in memory that does not grow with the number of entries (but with the
//! number of streams). Not the format ([`crate::export`]) and not the wording of verdicts.
//!
//! Two trees grow side by side: one over the hash that each line states, one over the hash that its
//! leaf really has. Where they differ, an entry was altered; the next signed checkpoint then tells
//! which of the two is the signed one.

use std::collections::HashMap;
use std::io::BufRead;
use std::ops::Range;

use chaperone_core::event::LEAF_FORMAT;
use serde::Deserialize;

use super::{
    KeySource, OUTSIDE_MAX, PROBLEMS_MAX, Problem, ProblemKind, Report, STREAMS_MAX, Verdict,
    VerifyOptions,
};
use crate::checkpoint::{TreeHead, VerifyingKey, origin};
use crate::export::{EXPORT_FORMAT, End, Entry, ExportReader, Header, Line};
use crate::tree::{RunningTree, leaf_hash};

mod conclude;

/// Most gaps that are kept open for entries that turn up later.
const GAPS_MAX: usize = 1_000;

/// The parts of a leaf that place it. Events of kinds we do not know are placed all the same.
#[derive(Deserialize)]
struct Placement {
    format: u16,
    tenant: String,
    seq: u64,
    stream: String,
    version: u64,
}

/// Which of the two trees leads to a signed root.
enum RootMatch {
    Both,
    /// The stated hashes: a leaf was altered.
    Stated,
    /// The leaves: a stated hash was altered.
    Leaves,
    Neither,
}

pub(super) struct Walk<'a> {
    options: &'a VerifyOptions,
    report: Report,
    line: u64,
    header: Option<Header>,
    key: Option<VerifyingKey>,
    /// Verified outside checkpoints still to be met, the smallest last.
    outside: Vec<TreeHead>,
    /// Position of the next entry.
    expected: u64,
    /// An unreadable line stands where the expected entry should be.
    is_pending_unreadable: bool,
    /// Entries are missing, out of order or unreadable: roots cannot be computed any more.
    is_torn: bool,
    /// An entry was altered or the file is torn: versions of streams may jump.
    is_damaged: bool,
    gaps: Vec<Range<u64>>,
    stated: RunningTree,
    leaves: RunningTree,
    /// Altered entries since the last root that fitted, as indices of problems.
    altered: Vec<usize>,
    /// Size of the last checkpoint whose root fitted.
    fitted: u64,
    /// A checkpoint of the file did not fit; later ones cannot.
    is_root_lost: bool,
    /// Size of the newest believable checkpoint in the file.
    covered: Option<u64>,
    streams: HashMap<String, u64>,
    is_ended: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(options: &'a VerifyOptions) -> Self {
        Self {
            options,
            report: Report {
                integrity: Verdict::Unproven,
                completeness: Verdict::Unproven,
                tenant: None,
                vkey: None,
                key_source: None,
                entries: 0,
                checkpoint: None,
                outside: None,
                problems: Vec::new(),
                problems_left_off: 0,
                remarks: Vec::new(),
            },
            line: 0,
            header: None,
            key: None,
            outside: Vec::new(),
            expected: 0,
            is_pending_unreadable: false,
            is_torn: false,
            is_damaged: false,
            gaps: Vec::new(),
            stated: RunningTree::default(),
            leaves: RunningTree::default(),
            altered: Vec::new(),
            fitted: 0,
            is_root_lost: false,
            covered: None,
            streams: HashMap::new(),
            is_ended: false,
        }
    }

    pub(super) fn run(mut self, input: impl BufRead) -> Report {
        let mut reader = ExportReader::new(input);
        loop {
            let line = match reader.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(stopped) => {
                    self.problem(
                        ProblemKind::ReadStopped,
                        None,
                        format!("{stopped}; what follows was not looked at"),
                    );
                    break;
                }
            };
            self.line = reader.lines();
            if self.is_ended {
                self.problem(
                    ProblemKind::TrailingBytes,
                    None,
                    "something stands behind the last line; it is no part of the export".to_owned(),
                );
                break;
            }
            if self.line == 1 {
                self.begin(line);
            } else {
                self.body(line);
            }
        }
        self.conclude()
    }

    /// The first line, and what can be prepared from it.
    fn begin(&mut self, line: Line) {
        match line {
            Line::Header(header) => self.header(header),
            _ => self.problem(
                ProblemKind::Header,
                None,
                format!("the first line is not a header of the format `{EXPORT_FORMAT}`"),
            ),
        }
        self.key_choose();
        self.outside_prepare();
        self.outside_due();
    }

    fn header(&mut self, header: Header) {
        if header.format != EXPORT_FORMAT {
            self.problem(
                ProblemKind::Header,
                None,
                format!("the header names another format than `{EXPORT_FORMAT}`"),
            );
        }
        if header.origin != origin(&header.tenant) {
            self.problem(
                ProblemKind::Header,
                None,
                "origin and tenant of the header do not belong together".to_owned(),
            );
        }
        self.report.tenant = Some(header.tenant.clone());
        self.header = Some(header);
    }

    fn key_choose(&mut self) {
        let options = self.options;
        let trusted = options.trusted_key.as_deref().map(VerifyingKey::parse);
        let of_file = self.header.as_ref().map(|it| VerifyingKey::parse(&it.vkey));
        if let Some(Err(_)) = of_file {
            self.problem(
                ProblemKind::Header,
                None,
                "the header's key is not a verifying key".to_owned(),
            );
        }
        let of_file = of_file.and_then(Result::ok);
        self.key = match trusted {
            Some(Err(invalid)) => {
                self.problem(
                    ProblemKind::Key,
                    None,
                    format!("the trusted key cannot be used: {invalid}"),
                );
                None
            }
            Some(Ok(key)) => {
                if of_file.is_some_and(|of_file| of_file != key) {
                    self.problem(ProblemKind::Key, None, "the header names another key than the trusted one; the file is not an export of the ledger you know".to_owned());
                }
                self.report.key_source = Some(KeySource::Trusted);
                Some(key)
            }
            None => {
                self.report.key_source = of_file.is_some().then_some(KeySource::File);
                of_file
            }
        };
        self.report.vkey = self.key.as_ref().map(|key| key.as_str().to_owned());
        let tenants = (self.key.as_ref(), self.header.as_ref());
        if let (Some(key), Some(header)) = tenants
            && *key.tenant() != header.tenant
        {
            self.problem(
                ProblemKind::Key,
                None,
                "the key signs the ledger of another tenant".to_owned(),
            );
        }
    }

    /// Verifies the outside checkpoints and brings them into order.
    fn outside_prepare(&mut self) {
        let options = self.options;
        if options.outside.len() > OUTSIDE_MAX {
            self.problem(
                ProblemKind::OutsideCheckpoint,
                None,
                format!("only the first {OUTSIDE_MAX} outside checkpoints were looked at"),
            );
        }
        for (number, note) in (1..).zip(options.outside.iter().take(OUTSIDE_MAX)) {
            let verified = match &self.key {
                Some(key) => key.verify(note).map_err(|invalid| invalid.to_string()),
                None => Err("there is no key to check it with".to_owned()),
            };
            match verified {
                Ok(head) => self.outside.push(head),
                Err(why) => self.problem(
                    ProblemKind::OutsideCheckpoint,
                    None,
                    format!("outside checkpoint {number} cannot be used: {why}"),
                ),
            }
        }
        self.outside
            .sort_by_key(|head| std::cmp::Reverse(head.size));
    }

    fn body(&mut self, line: Line) {
        match line {
            Line::Entry(entry) => self.entry(entry),
            Line::Checkpoint(note) => self.checkpoint(&note),
            Line::End { end, sha256 } => {
                self.is_ended = true;
                self.end(&end);
                if end.sha256 != sha256 {
                    self.problem(
                        ProblemKind::FileDigest,
                        None,
                        "the bytes of the file are not those that were exported".to_owned(),
                    );
                }
            }
            Line::Header(_) | Line::Unreadable => {
                self.unreadable("this line is none of the format's lines")
            }
            Line::Cut => self.unreadable("the file ends inside this line"),
        }
    }

    fn unreadable(&mut self, what: &str) {
        let within = self
            .header
            .as_ref()
            .is_none_or(|header| self.expected < header.size);
        let expected = self.expected;
        if within {
            self.is_pending_unreadable = true;
            self.tear();
            self.problem(
                ProblemKind::LineUnreadable,
                Some(expected),
                format!("{what}; this entry was expected here"),
            );
        } else {
            self.problem(ProblemKind::LineUnreadable, None, what.to_owned());
        }
    }

    fn entry(&mut self, entry: Entry) {
        let hash = leaf_hash(entry.leaf.as_bytes());
        let is_altered = hash != entry.hash;
        let placement: Option<Placement> = serde_json::from_str(&entry.leaf).ok();
        let position = self.position(&entry, placement.as_ref());

        if position > self.expected {
            self.skip_to(position);
        }
        self.is_pending_unreadable = false;
        if is_altered {
            self.is_damaged = true;
            self.altered.push(self.report.problems.len());
            self.problem(
                ProblemKind::EntryAltered,
                Some(position),
                "the leaf does not have the hash that its line states; one of the two was changed"
                    .to_owned(),
            );
        }
        if entry.seq != position {
            self.is_damaged = true;
            self.problem(
                ProblemKind::EntryRelabelled,
                Some(position),
                format!("the line says entry {}", entry.seq),
            );
        }
        if position < self.expected {
            self.entry_late(position);
            return;
        }
        if !is_altered {
            self.leaf(position, placement);
        }
        self.stated.push(&entry.hash);
        self.leaves.push(&hash);
        self.expected = self.expected.saturating_add(1);
        self.report.entries = self.report.entries.saturating_add(1);
        self.outside_due();
    }

    /// Where an entry belongs: where it stands, if line or leaf says so; else where both say.
    fn position(&self, entry: &Entry, placement: Option<&Placement>) -> u64 {
        let in_leaf = placement.map(|placement| placement.seq);
        if in_leaf.is_none() || in_leaf == Some(entry.seq) {
            entry.seq
        } else {
            self.expected
        }
    }

    /// An entry that belongs before the expected one.
    fn entry_late(&mut self, position: u64) {
        self.tear();
        let Some(index) = self.gaps.iter().position(|gap| gap.contains(&position)) else {
            self.problem(
                ProblemKind::EntryDuplicated,
                Some(position),
                "this entry stands in the file more than once".to_owned(),
            );
            return;
        };
        let gap = self.gaps.swap_remove(index);
        let parts = [gap.start..position, position.saturating_add(1)..gap.end];
        self.gaps
            .extend(parts.into_iter().filter(|part| !part.is_empty()));
        self.report.entries = self.report.entries.saturating_add(1);
        self.problem(
            ProblemKind::EntryReordered,
            Some(position),
            "this entry stands after one that came later".to_owned(),
        );
    }

    /// Notes that the entries up to a position did not come. One of them may be the unreadable line.
    fn skip_to(&mut self, position: u64) {
        let mut first = self.expected;
        if self.is_pending_unreadable {
            self.is_pending_unreadable = false;
            first = first.saturating_add(1);
        }
        self.tear();
        if first < position {
            if self.gaps.len() < GAPS_MAX {
                self.gaps.push(first..position);
            } else {
                self.missing(first..position);
            }
        }
        self.expected = position;
    }

    fn tear(&mut self) {
        self.is_torn = true;
        self.is_damaged = true;
    }

    /// Whether a leaf that fits its hash belongs to this ledger at this place.
    fn leaf(&mut self, position: u64, placement: Option<Placement>) {
        let foreign = ProblemKind::LeafForeign;
        let Some(placement) = placement else {
            self.is_damaged = true;
            self.problem(
                foreign,
                Some(position),
                "the leaf is not an event of a ledger".to_owned(),
            );
            return;
        };
        if placement.format != LEAF_FORMAT {
            let format = placement.format;
            self.problem(
                foreign,
                Some(position),
                format!("the leaf has format {format}, which this version does not know"),
            );
        }
        let tenant = self.header.as_ref().map(|header| header.tenant.as_str());
        if tenant.is_some_and(|tenant| tenant != placement.tenant) {
            self.problem(
                foreign,
                Some(position),
                "the leaf belongs to another tenant".to_owned(),
            );
        }
        if placement.seq != position {
            let seq = placement.seq;
            self.problem(
                foreign,
                Some(position),
                format!("the leaf says that it is entry {seq}"),
            );
        }
        self.stream(position, placement);
    }

    fn stream(&mut self, position: u64, placement: Placement) {
        let is_new = !self.streams.contains_key(&placement.stream);
        if is_new && self.streams.len() >= STREAMS_MAX {
            return;
        }
        let version = placement.version;
        let before = self.streams.insert(placement.stream, version).unwrap_or(0);
        if version != before.saturating_add(1) && !self.is_damaged {
            let text = format!(
                "its stream goes from version {before} to {version}; an event between them is not in the ledger"
            );
            self.problem(ProblemKind::StreamVersion, Some(position), text);
        }
    }

    fn checkpoint(&mut self, note: &str) {
        let verified = match &self.key {
            Some(key) => key.verify(note).map_err(|invalid| invalid.to_string()),
            None => Err("there is no key to check it with".to_owned()),
        };
        let head = match verified {
            Ok(head) => head,
            Err(why) => {
                self.problem(
                    ProblemKind::Checkpoint,
                    None,
                    format!("a checkpoint in the file cannot be believed: {why}"),
                );
                return;
            }
        };
        if head.size > self.expected {
            self.skip_to(head.size);
        }
        if head.size < self.expected {
            let (size, expected) = (head.size, self.expected);
            self.problem(
                ProblemKind::Checkpoint,
                None,
                format!(
                    "the checkpoint over {size} entries stands after entry {}",
                    expected.saturating_sub(1)
                ),
            );
            return;
        }
        self.is_pending_unreadable = false;
        self.covered = Some(head.size);
        if self.is_torn || self.is_root_lost {
            return;
        }
        match self.root_match(&head) {
            RootMatch::Neither => {
                self.is_root_lost = true;
                self.root_mismatch(&head);
            }
            fits => {
                self.fits(&head, &fits);
                self.report.checkpoint = Some(head);
            }
        }
    }

    fn root_match(&self, head: &TreeHead) -> RootMatch {
        let stated = self.stated.root() == head.root;
        let leaves = self.leaves.root() == head.root;
        match (stated, leaves) {
            (true, true) => RootMatch::Both,
            (true, false) => RootMatch::Stated,
            (false, true) => RootMatch::Leaves,
            (false, false) => RootMatch::Neither,
        }
    }

    /// A signed root fits: remember how far, and say of altered entries what was altered.
    fn fits(&mut self, head: &TreeHead, fits: &RootMatch) {
        let what = match fits {
            RootMatch::Stated => {
                self.leaves = self.stated.clone();
                "the hash is the signed one: the leaf was changed"
            }
            RootMatch::Leaves => {
                self.stated = self.leaves.clone();
                "the leaf is the signed one: its stated hash was changed"
            }
            RootMatch::Both | RootMatch::Neither => "the signed root covers it as it stands",
        };
        for index in self.altered.drain(..) {
            if let Some(problem) = self.report.problems.get_mut(index) {
                problem.text = format!(
                    "{} (checkpoint over {} entries: {what})",
                    problem.text, head.size
                );
            }
        }
        self.fitted = head.size;
    }

    fn root_mismatch(&mut self, head: &TreeHead) {
        let (from, size) = (self.fitted, head.size);
        let between = if from < size {
            format!(
                "at least one of the entries {from} to {} is not the one that was signed",
                size.saturating_sub(1)
            )
        } else {
            "the checkpoint before it, over as many entries, has another root".to_owned()
        };
        self.problem(
            ProblemKind::RootMismatch,
            (from < size).then_some(from),
            format!("the entries do not lead to the root signed at {size} entries: {between}"),
        );
    }

    /// Compares the outside checkpoints over exactly the entries so far.
    fn outside_due(&mut self) {
        while let Some(head) = self.outside.pop_if(|head| head.size <= self.expected) {
            if self.is_torn || head.size < self.expected {
                continue;
            }
            match self.root_match(&head) {
                RootMatch::Neither => {
                    let (from, size) = (self.fitted, head.size);
                    let seq = (from < size).then_some(from);
                    self.problem(ProblemKind::Fork, seq, format!("an outside checkpoint signed another root over the first {size} entries; the history in this file from entry {from} on is not the one that was signed then"));
                }
                fits => {
                    self.fits(&head, &fits);
                    self.report.outside = Some(head);
                }
            }
        }
    }

    fn end(&mut self, end: &End) {
        if self.is_pending_unreadable {
            self.is_pending_unreadable = false;
            self.expected = self.expected.saturating_add(1);
        }
        if end.entries > self.expected {
            self.skip_to(end.entries);
        } else if end.entries < self.expected {
            self.problem(
                ProblemKind::Size,
                None,
                format!("the last line counts {} entries", end.entries),
            );
        }
    }

    fn missing(&mut self, gap: Range<u64>) {
        let last = gap.end.saturating_sub(1);
        let text = if gap.start == last {
            "this entry is missing".to_owned()
        } else {
            format!("entries {} to {last} are missing", gap.start)
        };
        self.problem(ProblemKind::EntryMissing, Some(gap.start), text);
    }

    fn remark(&mut self, text: &str) {
        self.report.remarks.push(text.to_owned());
    }

    fn problem(&mut self, kind: ProblemKind, seq: Option<u64>, text: String) {
        if self.report.problems.len() >= PROBLEMS_MAX {
            self.report.problems_left_off = self.report.problems_left_off.saturating_add(1);
            return;
        }
        let line = (self.line > 0).then_some(self.line);
        self.report.problems.push(Problem {
            kind,
            seq,
            line,
            text,
        });
    }
}
