//! `chaperone audit export`, `chaperone who-saw` and `chaperone accounting`: what the ledger says to people
//! outside it. Each question is itself recorded.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Context as _;
use chaperone_core::Timestamp;
use chaperone_engine::audit::export::{AuditExport, AuditFormat};
use chaperone_engine::audit::who_saw::{Seen, WhoSawQuestion};
use chaperone_engine::audit::{Asker, Span};
use clap::{Subcommand, ValueEnum};

use crate::config::ConfigArgs;
use crate::demo::print_line;

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Write FHIR R4 AuditEvents (IHE BALP) of what the ledger holds. Holds references to patients: for an audit
    /// store, and nowhere else.
    Export {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        span: SpanArgs,
        /// Only about this patient: `Patient/[id]` at the EHR, `system|value` of an identifier, or a token `pat_…`.
        #[arg(long, value_name = "PATIENT")]
        patient: Option<String>,
        /// One AuditEvent a line, or one Bundle.
        #[arg(long, value_enum, default_value = "ndjson")]
        format: FormatName,
        /// Where to, a file that must not exist; standard output when absent.
        #[arg(value_name = "FILE")]
        to_file: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// One AuditEvent a line.
    Ndjson,
    /// One FHIR Bundle of type `collection`.
    Bundle,
}

/// A span of time.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct SpanArgs {
    /// From when on: a day such as 2026-01-31 (UTC), or a time such as 2026-01-31T08:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Until when: a day, which counts whole, or a time, which does not count itself.
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
}

/// A day or a time, as typed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Day(jiff::civil::Date),
    Time(Timestamp),
}

impl FromStr for Moment {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Moment::Time(time));
        }
        text.parse::<jiff::civil::Date>().map(Moment::Day).map_err(|_| {
            "give a day such as 2026-01-31, or a time with its zone such as 2026-01-31T08:00:00Z"
                .to_owned()
        })
    }
}

impl Moment {
    fn begin(self) -> anyhow::Result<Timestamp> {
        match self {
            Moment::Time(time) => Ok(time),
            Moment::Day(day) => Ok(day.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp()),
        }
    }

    fn end(self) -> anyhow::Result<Timestamp> {
        match self {
            Moment::Time(time) => Ok(time),
            Moment::Day(day) => Moment::Day(day.tomorrow()?).begin(),
        }
    }
}

impl SpanArgs {
    pub(super) fn span(self) -> anyhow::Result<Span> {
        let span = Span {
            from: self.from.map(Moment::begin).transpose()?,
            to: self.to.map(Moment::end).transpose()?,
        };
        if let (Some(from), Some(to)) = (span.from, span.to)
            && to <= from
        {
            anyhow::bail!("--to must be later than --from");
        }
        Ok(span)
    }
}

/// Runs `audit`.
pub(crate) fn run(args: AuditArgs) -> anyhow::Result<ExitCode> {
    let AuditCommand::Export {
        config,
        span,
        patient,
        format,
        to_file,
    } = args.command;
    let span = span.span()?;
    let format = match format {
        FormatName::Ndjson => AuditFormat::Ndjson,
        FormatName::Bundle => AuditFormat::Bundle,
    };
    config.with_engine(async |engine| {
        let patient = match &patient {
            Some(patient) => Some(engine.patient_meant(patient).await?),
            None => None,
        };
        let export = AuditExport {
            span,
            patient,
            format,
        };
        let mut out = open(to_file.as_deref())?;
        let written = engine
            .export_audit_events(Asker::CommandLine, export, &mut out)
            .await?;
        out.flush().context("the AuditEvents cannot be written")?;
        eprintln!(
            "{} AuditEvents of {} ledger entries",
            written.events, written.entries
        );
        Ok(ExitCode::SUCCESS)
    })
}

/// A file of the owner's alone, as it names patients; or standard output.
fn open(path: Option<&Path>) -> anyhow::Result<Box<dyn std::io::Write>> {
    let Some(path) = path else {
        return Ok(Box::new(std::io::BufWriter::new(std::io::stdout().lock())));
    };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let file = options
        .open(path)
        .with_context(|| format!("cannot create `{}`", path.display()))?;
    Ok(Box::new(std::io::BufWriter::new(file)))
}

/// Arguments of `who-saw` and `accounting`.
#[derive(Debug, clap::Args)]
pub(crate) struct PatientArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The patient: `Patient/[id]` at the EHR, `system|value` of an identifier, or a token `pat_…`.
    #[arg(long, value_name = "PATIENT")]
    patient: String,
    #[command(flatten)]
    span: SpanArgs,
    /// Print JSON: for `who-saw` one access a line, for `accounting` one object.
    #[arg(long)]
    json: bool,
}

/// Said where the EHR could not tell of every record of the patient.
const NOT_WHOLE: &str = "The EHR could not tell whether other records of this patient were merged with this one, \
    so accesses under such a record may be missing. Ask again when it answers, or for each record.";

/// Runs `who-saw`.
pub(crate) fn who_saw(args: PatientArgs) -> anyhow::Result<ExitCode> {
    let span = args.span.span()?;
    args.config.with_engine(async |engine| {
        let patient = engine.patient_meant(&args.patient).await?;
        let mut question = WhoSawQuestion { span, after: None };
        let mut accesses = 0_u64;
        loop {
            let page = engine
                .who_saw(Asker::CommandLine, patient, &question)
                .await?;
            for seen in &page.accesses {
                accesses += 1;
                if args.json {
                    print_line(&serde_json::to_string(seen)?);
                } else {
                    print_line(&in_words(seen));
                }
            }
            question.after = page.next;
            if question.after.is_none() {
                if !page.is_whole {
                    eprintln!("{NOT_WHOLE}");
                }
                if !args.json {
                    print_line(&format!(
                        "{accesses} accesses, by {} ledger entries. This question is one of them.",
                        page.entries
                    ));
                }
                return Ok(ExitCode::SUCCESS);
            }
        }
    })
}

/// Runs `accounting`.
pub(crate) fn accounting(args: PatientArgs) -> anyhow::Result<ExitCode> {
    let span = args.span.span()?;
    args.config.with_engine(async |engine| {
        let patient = engine.patient_meant(&args.patient).await?;
        let answer = engine.accounting(Asker::CommandLine, patient, span).await?;
        if !answer.is_whole {
            eprintln!("{NOT_WHOLE}");
        }
        if args.json {
            print_line(&serde_json::to_string(&answer)?);
            return Ok(ExitCode::SUCCESS);
        }
        print_line(&format!(
            "Accounting of disclosures (45 CFR 164.528), {} to {}",
            answer.from, answer.to
        ));
        if answer.disclosures.is_empty() {
            print_line("Nothing was disclosed that must be accounted for.");
        }
        for disclosure in &answer.disclosures {
            print_line(&format!(
                "{}  to {}; address {}\n    what  {}\n    why   {}\n    entry {}",
                disclosure.date,
                disclosure.recipient,
                disclosure.address.as_deref().unwrap_or("not recorded"),
                disclosure.description,
                disclosure.purpose,
                disclosure.entry
            ));
        }
        for left_out in &answer.left_out {
            print_line(&format!(
                "{} accesses are not listed: {} ({})",
                left_out.accesses, left_out.why, left_out.source
            ));
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// One access, for people.
fn in_words(seen: &Seen) -> String {
    let mut text = format!("{}  {}: {}", seen.when, seen.did, seen.actor);
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("\n    {name:<9} {value}"));
        }
    };
    line("for", seen.human.clone().unwrap_or_default());
    line(
        "why",
        [&seen.purpose, &seen.intent]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(", "),
    );
    line(
        "what",
        [&seen.tool, &seen.resource]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(", "),
    );
    let fields = seen.fields.join(", ");
    line(
        if seen.is_ceiling {
            "at most"
        } else {
            "elements"
        },
        fields,
    );
    line("withheld", seen.withheld.join(", "));
    line("by", seen.policies.join(", "));
    line("ruling", seen.ruling.clone().unwrap_or_default());
    line("approved", seen.approved_by.join("; "));
    line("outcome", seen.outcome.clone());
    line(
        "record",
        seen.record
            .map(|record| format!("{record}, which was merged with this patient's"))
            .unwrap_or_default(),
    );
    line("entry", seen.entry.to_string());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_counts_whole_and_a_time_as_it_is() {
        let span = |from: &str, to: &str| {
            SpanArgs {
                from: Some(from.parse().unwrap()),
                to: Some(to.parse().unwrap()),
            }
            .span()
        };
        let day = span("2026-01-31", "2026-01-31").unwrap();
        assert!(day.holds("2026-01-31T00:00:00Z".parse().unwrap()));
        assert!(day.holds("2026-01-31T23:59:59Z".parse().unwrap()));
        assert!(!day.holds("2026-02-01T00:00:00Z".parse().unwrap()));
        assert!(!day.holds("2026-01-30T23:59:59Z".parse().unwrap()));
        let hour = span("2026-01-31T08:00:00Z", "2026-01-31T09:00:00Z").unwrap();
        assert!(!hour.holds("2026-01-31T09:00:00Z".parse().unwrap()));
        assert!(span("2026-02-01", "2026-01-31").is_err());
        assert!("yesterday".parse::<Moment>().is_err());
    }
}
