//! What is concluded when a walk over an export has ended: what never came, what nothing vouches for,
//! and the two verdicts. Not the walk itself ([`super`]).

use crate::checkpoint::TreeHead;
use crate::export::Line;
use crate::verify::{KeySource, ProblemKind, Report, STREAMS_MAX, Verdict};

use super::Walk;

impl Walk<'_> {
    pub(super) fn conclude(mut self) -> Report {
        if self.line == 0 {
            self.begin(Line::Cut);
        }
        self.line = 0;
        if !self.is_ended {
            if self.is_pending_unreadable {
                self.is_pending_unreadable = false;
                self.expected = self.expected.saturating_add(1);
            }
            self.problem(
                ProblemKind::EndMissing,
                None,
                "the last line of an export is not there; the file was cut or never finished"
                    .to_owned(),
            );
        }
        self.conclude_size();
        for gap in std::mem::take(&mut self.gaps) {
            self.missing(gap);
        }
        self.conclude_covered();
        self.conclude_outside();
        if self.report.key_source == Some(KeySource::File) {
            self.remark("the key that signatures were checked with comes from the file itself; whoever could replace the whole file could replace it too, so compare it with the key you know");
        }
        if self.is_torn {
            self.remark("entries are missing or out of place, so that roots behind the first such place could not be compared with the signed ones");
        }
        if self.streams.len() >= STREAMS_MAX {
            self.remark("there are more streams than are followed; versions were not checked for all of them");
        }
        self.verdicts();
        self.report
    }

    fn conclude_size(&mut self) {
        let Some(announced) = self.header.as_ref().map(|header| header.size) else {
            return;
        };
        if announced > self.expected {
            self.skip_to(announced);
        } else if announced < self.expected {
            let found = self.expected;
            self.problem(
                ProblemKind::Size,
                None,
                format!("the header announces {announced} entries, the file goes on to {found}"),
            );
        }
    }

    fn conclude_covered(&mut self) {
        match self.covered {
            None => self.problem(ProblemKind::NotCovered, None, "no checkpoint in the file can be believed; nothing vouches for its entries".to_owned()),
            Some(size) if size < self.expected => self.problem(ProblemKind::NotCovered, Some(size), format!("the newest checkpoint covers {size} entries; nothing vouches for those from {size} on")),
            Some(_) => {}
        }
    }

    fn conclude_outside(&mut self) {
        if let Some(head) = self.outside.first().cloned() {
            let (end, size) = (self.expected, head.size);
            if end < size {
                self.problem(ProblemKind::TailCut, Some(end), format!("an outside checkpoint of {} counts {size} entries; entries {end} to {} were cut off", head.at, size.saturating_sub(1)));
            }
        }
        let remark = match (&self.report.outside, self.options.outside.is_empty()) {
            (_, true) => Some("no outside checkpoint was given, so that a ledger cut back to an older checkpoint cannot be told from a whole one".to_owned()),
            (Some(head), false) if head.size < self.expected => Some(format!("outside checkpoints vouch for completeness up to entry {}; entries behind it rest on the file's own checkpoint", head.size.saturating_sub(1))),
            _ => None,
        };
        self.report.remarks.extend(remark);
    }

    fn verdicts(&mut self) {
        let broken = |about_completeness: bool| {
            let mut kinds = self.report.problems.iter().map(|problem| problem.kind);
            kinds.any(|kind| kind.is_about_completeness() == about_completeness)
        };
        let covers_all =
            |head: &Option<TreeHead>| head.as_ref().is_some_and(|head| head.size == self.expected);
        let (is_altered, is_missing) = (broken(false), broken(true));
        self.report.integrity = match () {
            () if is_altered => Verdict::Broken,
            () if covers_all(&self.report.checkpoint) => Verdict::Holds,
            () => Verdict::Unproven,
        };
        self.report.completeness = match () {
            () if is_missing => Verdict::Broken,
            () if self.report.outside.is_some() => Verdict::Holds,
            () => Verdict::Unproven,
        };
    }
}
