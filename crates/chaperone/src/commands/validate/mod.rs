//! `chaperone validate`: one OperationOutcome for each file, or for each line of a stream.
//!
//! Not here: what is checked (`chaperone_fhir`). Needs no configuration, bundle, store or network.
//! Reading order: this file, `supporting` (resources that references may lead to), `surroundings` (what the
//! plausibility rules rest on), `stream` (NDJSON), `print` (how findings are shown).

mod print;
mod stream;
mod supporting;
mod surroundings;

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use chaperone_connect::clock::SystemClock;
use chaperone_core::ports::Clock as _;
use chaperone_fhir::finding::{Finding, Severity, id};
use chaperone_fhir::json::JsonLimits;
use chaperone_fhir::{Request, Validator, ValidatorOptions};
use clap::ValueEnum;

use self::print::Printed;
use self::supporting::SupportingFiles;
use self::surroundings::Surroundings;
use crate::cli;
use crate::package_store::{PackageStore, load, read_bounded};

/// Arguments of `validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct ValidateArgs {
    /// A FHIR package to check against, beside R4: a .tgz file, or `name` or `name#version` of the packages
    /// folder. May be given several times.
    #[arg(long, value_name = "TGZ")]
    package: Vec<String>,
    /// Folder of packages, with its lock file; packages that others build on are found there.
    #[arg(long, value_name = "DIR", default_value = "packages")]
    packages_dir: PathBuf,
    /// Canonical URL of a profile that every resource must conform to, beside those that it claims. May be
    /// given several times.
    #[arg(long, value_name = "URL")]
    profile: Vec<String>,
    /// A resource, or Bundle of resources, that references may lead to; definitions among them are used as
    /// such. May be given several times.
    #[arg(long, value_name = "FILE")]
    supporting: Vec<PathBuf>,
    /// Every reference must lead to something at hand: contained, in the same Bundle or Parameters, or given
    /// with --supporting. Addresses in domains reserved for examples are passed over.
    #[arg(long)]
    resolve_references: bool,
    /// An extension whose definition is not at hand is only worth knowing, not an error. A modifier extension
    /// stays an error, because without its definition nobody knows what the element means.
    #[arg(long)]
    any_extension: bool,
    /// An unknown extension is an error in a domain reserved for examples (`example.org`) too.
    #[arg(long, conflicts_with = "any_extension")]
    no_example_extensions: bool,
    /// What is known about the patient, for the clinical plausibility rules, which run only with it: a JSON object
    /// with `patient`, `prior`, `encounter`, `medications`, `allergies`, `conditions`, `observations` and more, or
    /// a Bundle of them; see docs/validator.md. What is left out counts as not looked up.
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// Folder of plausibility rules, such as `rules` of a governance bundle; the built-in ones unless given.
    #[arg(long, value_name = "DIR", requires = "context")]
    rules: Option<PathBuf>,
    /// Text outside narrative that looks like HTML is an error: viewers that do not escape it would run it.
    #[arg(long)]
    plain_text_only: bool,
    /// How findings are printed.
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// Each line of the files is a resource; `-` is standard input. Shows progress and resources a second.
    #[arg(long)]
    ndjson: bool,
    /// Threads; one unless said otherwise.
    #[arg(long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,
    /// Files to check.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One OperationOutcome a line.
    Json,
}

/// Everything that holds for all files.
struct Checking {
    validator: Validator,
    profiles: Vec<String>,
    supporting: SupportingFiles,
    surroundings: Option<Surroundings>,
    now: String,
    format: Format,
    jobs: usize,
}

/// What came of a run.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    resources: u64,
    with_errors: u64,
}

/// Runs it: exit 0 when nothing has errors, 1 when something has.
pub(crate) fn run(args: ValidateArgs) -> anyhow::Result<ExitCode> {
    let checking = Checking::prepare(&args)?;
    let tally = if args.ndjson {
        stream::check_all(&checking, &args.files)?
    } else {
        checking.files(&args.files)?
    };
    Ok(if tally.with_errors == 0 {
        ExitCode::SUCCESS
    } else {
        cli::no()
    })
}

impl Checking {
    fn prepare(args: &ValidateArgs) -> anyhow::Result<Self> {
        let store = PackageStore::open(&args.packages_dir)?;
        let mut catalogue = load(&args.package, &store, |note| eprintln!("note: {note}"))?;
        let supporting = SupportingFiles::read(&args.supporting, &mut catalogue)?;
        let mut options = ValidatorOptions::default();
        options.profiles.references_resolve = args.resolve_references;
        if args.any_extension {
            options.profiles.unknown_extension = Severity::Information;
        }
        if args.no_example_extensions {
            options.profiles.example_extension = Severity::Error;
        }
        let now = SystemClock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let surroundings = args
            .context
            .as_deref()
            .map(|file| Surroundings::read(file, args.rules.as_deref(), &now))
            .transpose()?;
        options.markup = args.plain_text_only.then_some(Severity::Error);
        Ok(Self {
            validator: Validator::new(Arc::new(catalogue), options),
            profiles: args.profile.clone(),
            supporting,
            surroundings,
            now,
            format: args.format,
            jobs: args.jobs.get(),
        })
    }

    /// Checks one text.
    fn check(&self, bytes: &[u8]) -> Vec<Finding> {
        let profiles: Vec<&str> = self.profiles.iter().map(String::as_str).collect();
        let request = Request {
            profiles: &profiles,
            supporting: Some(&self.supporting),
            now: Some(&self.now),
        };
        let outcome = self.validator.validate(bytes, &request);
        let mut findings = outcome.findings;
        // A text that could not be read as one thing says nothing that could be plausible.
        let is_read = !findings
            .iter()
            .any(|it| it.severity == Severity::Fatal || it.id == id::JSON_DUPLICATE_KEY);
        if let (Some(surroundings), Some(document), true) =
            (&self.surroundings, &outcome.document, is_read)
        {
            findings.extend(surroundings.check(bytes, document));
        }
        findings
    }

    /// Checks texts, by as many threads as asked for; the findings come in the order of the texts.
    fn check_many(&self, texts: &[Vec<u8>]) -> Vec<Vec<Finding>> {
        if self.jobs <= 1 || texts.len() <= 1 {
            return texts.iter().map(|text| self.check(text)).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(text) = texts.get(at) else {
                    return done;
                };
                done.push((at, self.check(text)));
            }
        };
        let mut found: Vec<(usize, Vec<Finding>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.jobs.min(texts.len()))
                .map(|_| scope.spawn(work))
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| match thread.join() {
                    Ok(done) => done,
                    Err(panicked) => std::panic::resume_unwind(panicked),
                })
                .collect()
        });
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, findings)| findings).collect()
    }

    fn files(&self, files: &[PathBuf]) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        for batch in files.chunks(self.jobs.saturating_mul(4).max(1)) {
            let mut texts = Vec::with_capacity(batch.len());
            for file in batch {
                texts.push(read_bounded(file, text_bytes_max())?);
            }
            for (file, findings) in batch.iter().zip(self.check_many(&texts)) {
                tally.count(&findings);
                let printed = Printed {
                    name: &name_of(file),
                    findings: &findings,
                    is_brief: false,
                };
                // A reader that has gone away, such as `head`, is no error of ours.
                if printed.write(self.format, &mut out).is_err() {
                    return Ok(tally);
                }
            }
        }
        out.flush().context("the findings cannot be written")?;
        Ok(tally)
    }
}

impl Tally {
    fn count(&mut self, findings: &[Finding]) {
        self.resources += 1;
        self.with_errors += u64::from(findings.iter().any(|it| it.severity.is_error()));
    }
}

/// Longest text that is read: one byte more than the validator accepts, so that it is the one to refuse.
fn text_bytes_max() -> u64 {
    JsonLimits::default().bytes_max as u64 + 1
}

fn name_of(file: &Path) -> String {
    file.display().to_string()
}
