//! `chaperone scrub`: texts without identifiers, from files or standard input.
//!
//! Not here: what is found (`chaperone_phi::scrub`). Needs no configuration, bundle, store or network. Errors
//! name files and lines, never what stands there. Reading order: this file, `input` (where texts come from).

mod input;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use chaperone_connect::clock::SystemClock;
use chaperone_core::ports::Clock as _;
use chaperone_phi::scrub::{Budget, DateUse, Finding, Known, Lexicon, Scrubber, Settings, Slots};
use clap::ValueEnum;
use serde_json::{Value, json};

use self::input::Source;
use crate::cli;
use crate::package_store::read_bounded;

/// Largest record that is read, in bytes.
pub(super) const RECORD_BYTES_MAX: u64 = 512 << 20;

/// What stands for a text that is not passed.
const WITHHELD: &str = "[WITHHELD]";

/// Arguments of `scrub`.
#[derive(Debug, clap::Args)]
pub(crate) struct ScrubArgs {
    /// A Patient, or a Bundle with a whole record (JSON): its identifiers are found however they are written,
    /// and all texts share their slots. Without it, each text has slots of its own.
    #[arg(long, value_name = "FILE")]
    patient: Option<PathBuf>,
    /// Print one JSON object a text: the text, and what was replaced, by class and place.
    #[arg(long)]
    json: bool,
    /// Each line is a text of its own: one line in, one line out, in order.
    #[arg(long)]
    lines: bool,
    /// What happens to dates and to ages over 89.
    #[arg(long, value_enum, default_value = "slot")]
    dates: Dates,
    /// Files to scrub; standard input when there is none, or for `-`. A FHIR resource (JSON) comes out as one.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// What happens to dates and ages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dates {
    /// They become slots.
    Slot,
    /// They stay, but for those of birth and death.
    Keep,
    /// They become years and "90 or older".
    Year,
}

/// Runs it: exit 0 when everything was passed, 1 when something was withheld.
pub(crate) fn run(args: ScrubArgs) -> anyhow::Result<ExitCode> {
    let lexicon = Lexicon::embedded()?;
    let record = args.patient.as_deref().map(read_record).transpose()?;
    let known = Known::of_resources(lexicon, record.as_ref())?;
    let settings = Settings {
        dates: match args.dates {
            Dates::Slot => DateUse::Slot,
            Dates::Keep => DateUse::Keep,
            Dates::Year => DateUse::Year { as_of: this_year() },
        },
        budget: Budget::default(),
    };
    let mut scrubbing = Scrubbing {
        scrubber: Scrubber::new(lexicon, &known, settings),
        slots: Slots::new(),
        shares_slots: record.is_some(),
        as_json: args.json,
        withheld: 0,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let files = if args.files.is_empty() {
        vec![PathBuf::from("-")]
    } else {
        args.files
    };
    for file in &files {
        let mut source = Source::open(file)?;
        let is_read = if args.lines {
            scrubbing.lines(&mut source, &mut out)
        } else {
            scrubbing.whole(&mut source, &mut out)
        };
        if !is_read.with_context(|| format!("cannot read `{}`", file.display()))? {
            break;
        }
    }
    if scrubbing.withheld > 0 {
        eprintln!(
            "chaperone: {} of the texts were withheld in whole or in part",
            scrubbing.withheld
        );
        return Ok(cli::no());
    }
    Ok(ExitCode::SUCCESS)
}

/// The current year.
pub(super) fn this_year() -> i16 {
    SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).year()
}

/// Reads a record. What is wrong with it is said without a word of it.
pub(super) fn read_record(file: &Path) -> anyhow::Result<Value> {
    let bytes = read_bounded(file, RECORD_BYTES_MAX)?;
    let record: Value = serde_json::from_slice(&bytes).map_err(|error| {
        anyhow::anyhow!(
            "`{}` is not JSON (line {}, column {})",
            file.display(),
            error.line(),
            error.column()
        )
    })?;
    if record.get("resourceType").and_then(Value::as_str).is_none() {
        anyhow::bail!(
            "`{}` is no FHIR resource: it has no `resourceType`",
            file.display()
        );
    }
    Ok(record)
}

struct Scrubbing<'a> {
    scrubber: Scrubber<'a>,
    slots: Slots,
    shares_slots: bool,
    as_json: bool,
    withheld: u64,
}

/// What came of one text.
struct Outcome {
    shown: Value,
    findings: Vec<Finding>,
    /// Why all of it, or which parts of it, are not shown.
    withheld: Vec<String>,
}

impl Scrubbing<'_> {
    /// A source as one text; false when nobody reads the output any more.
    fn whole(&mut self, source: &mut Source, out: &mut impl Write) -> io::Result<bool> {
        let text = source.whole()?;
        let outcome = self.one(text.as_deref());
        let is_text = outcome.shown.is_string();
        Ok(self
            .print(&outcome, !is_text || self.as_json, out)
            .and_then(|()| out.flush())
            .is_ok())
    }

    fn lines(&mut self, source: &mut Source, out: &mut impl Write) -> io::Result<bool> {
        while let Some(line) = source.line()? {
            let mut outcome = self.one(line.as_deref());
            // Markup may have become several lines; one line in is one line out.
            if let Value::String(text) = &mut outcome.shown {
                *text = text.replace('\n', " ");
            }
            let printed = self.print(&outcome, true, out);
            // Whoever sends one line and waits for the answer must get it.
            let flushed = if source.has_more() {
                Ok(())
            } else {
                out.flush()
            };
            if printed.and(flushed).is_err() {
                return Ok(false);
            }
        }
        Ok(out.flush().is_ok())
    }

    fn one(&mut self, text: Option<&str>) -> Outcome {
        if !self.shares_slots {
            self.slots = Slots::new();
        }
        let Some(text) = text else {
            return self.refuse("the text is too long or not UTF-8".to_owned());
        };
        if let Some(document) = as_json(text) {
            return self.resource(&document);
        }
        let read = self.scrubber.plain(text);
        match read.and_then(|read| self.scrubber.scrub(&read, &mut self.slots)) {
            Ok(scrubbed) => Outcome {
                shown: Value::String(scrubbed.text),
                findings: scrubbed.findings,
                withheld: Vec::new(),
            },
            Err(reason) => self.refuse(reason.to_string()),
        }
    }

    fn resource(&mut self, resource: &Value) -> Outcome {
        match self.scrubber.scrub_resource(resource, &mut self.slots) {
            Ok(scrubbed) => {
                self.withheld += u64::from(!scrubbed.withheld.is_empty());
                Outcome {
                    shown: scrubbed.value,
                    findings: Vec::new(),
                    withheld: scrubbed
                        .withheld
                        .iter()
                        .map(|it| format!("{}: {}", it.path, it.reason))
                        .collect(),
                }
            }
            Err(reason) => self.refuse(reason.to_string()),
        }
    }

    fn refuse(&mut self, reason: String) -> Outcome {
        self.withheld += 1;
        Outcome {
            shown: Value::Null,
            findings: Vec::new(),
            withheld: vec![reason],
        }
    }

    fn print(&self, outcome: &Outcome, ends_line: bool, out: &mut impl Write) -> io::Result<()> {
        if self.as_json {
            let key = if outcome.shown.is_object() || outcome.shown.is_array() {
                "resource"
            } else {
                "text"
            };
            let findings: Vec<Value> = outcome
                .findings
                .iter()
                .map(|it| json!({ "class": it.class.word(), "basis": it.basis.as_str(), "start": it.start, "end": it.end }))
                .collect();
            serde_json::to_writer(
                &mut *out,
                &json!({ key: outcome.shown, "findings": findings, "withheld": outcome.withheld }),
            )?;
        } else {
            match &outcome.shown {
                Value::String(text) => out.write_all(text.as_bytes())?,
                Value::Null => out.write_all(WITHHELD.as_bytes())?,
                resource => serde_json::to_writer(&mut *out, resource)?,
            }
        }
        if ends_line || outcome.shown.is_null() {
            writeln!(out)?;
        }
        if !self.as_json {
            // Names of elements and reasons; never what stood there.
            for part in &outcome.withheld {
                eprintln!("chaperone: {part}");
            }
        }
        Ok(())
    }
}

/// A text that is an object or array of JSON, a FHIR resource for one.
fn as_json(text: &str) -> Option<Value> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// What one line after the other becomes, and how many were withheld.
    fn lines(input: &[u8], as_json: bool) -> (String, u64) {
        let known = Known::default();
        let mut scrubbing = Scrubbing {
            scrubber: Scrubber::new(Lexicon::embedded().unwrap(), &known, Settings::default()),
            slots: Slots::new(),
            shares_slots: false,
            as_json,
            withheld: 0,
        };
        let mut out = Vec::new();
        let mut source = Source::of(std::io::Cursor::new(input.to_vec()));
        assert!(scrubbing.lines(&mut source, &mut out).unwrap());
        (String::from_utf8(out).unwrap(), scrubbing.withheld)
    }

    fn check(input: &str, as_json: bool, expected: Expect) {
        expected.assert_eq(&lines(input.as_bytes(), as_json).0);
    }

    #[test]
    fn one_line_in_one_line_out() {
        check(
            "Mary Johnson, MRN 998877\n\nno name here\r\n{\"resourceType\":\"Basic\",\"id\":\"x\"}\nlast: Anna S.",
            false,
            expect![[r#"
                [NAME-1], MRN [MRN-1]

                no name here
                {"resourceType":"Basic","id":"[ID-1]"}
                last: [NAME-1]
            "#]],
        );
    }

    #[test]
    fn json_is_read_before_it_is_shown() {
        check(
            concat!(
                r#"[{"note":"pt Mu\u00f1oz Mary Johns\u006fn"}]"#,
                "\n",
                r#"{"note":"Mary Johns\u006fn""#,
                "\n",
                r"{\rtf1 Mary Johns\'6fn}",
                "\n",
                "R<b>ob</b>ert: WBC <normal, temp 39.5\n",
                "[x] done\n",
            ),
            false,
            expect![[r#"
                [{"note":"pt [NAME-1]"}]
                [WITHHELD]
                [NAME-1]
                [NAME-1]: WBC <normal, temp 39.5
                [x] done
            "#]],
        );
    }

    #[test]
    fn findings_by_class_and_place_without_the_text() {
        check(
            "pt Anna S.\n",
            true,
            expect![[r#"
                {"text":"pt [NAME-1]","findings":[{"class":"NAME","basis":"pattern","start":3,"end":10}],"withheld":[]}
            "#]],
        );
    }

    #[test]
    fn what_is_no_text_is_withheld_in_its_place() {
        let (out, withheld) = lines(b"a\n\xFF\xFE\nb\n", false);
        assert_eq!((out.as_str(), withheld), ("a\n[WITHHELD]\nb\n", 1));
    }
}
