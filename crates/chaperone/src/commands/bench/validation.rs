//! Figures of the validator: resources a second on one core, time from start to verdict, and what loading
//! packages costs. `chaperone bench validate`; measures what it is given and holds no data of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chaperone_fhir::json::JsonLimits;
use chaperone_fhir::{Request, Validator, ValidatorOptions};
use serde::Serialize;

use super::disk::{self, now};
use crate::demo::print_line;
use crate::package_store::{PackageStore, load, read_bounded};

/// How often the program is started to see how long one verdict takes; the middle one counts.
const STARTS: usize = 5;
/// Most files that are measured, and most bytes of them.
const FILES_MAX: usize = 100_000;
const BYTES_MAX: usize = 1 << 30;

/// Arguments of `bench validate`.
#[derive(Debug, clap::Args)]
pub(crate) struct ValidationArgs {
    /// A FHIR package to check against, as for `validate`. May be given several times.
    #[arg(long, value_name = "TGZ")]
    package: Vec<String>,
    /// Folder of packages.
    #[arg(long, value_name = "DIR", default_value = "packages")]
    packages_dir: PathBuf,
    /// Seconds per measurement.
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=super::SECONDS_MAX))]
    seconds: u64,
    /// Only files whose name contains this.
    #[arg(long, value_name = "TEXT")]
    named: Option<String>,
    /// Print the figures as one JSON object.
    #[arg(long)]
    json: bool,
    /// Resources or Bundles: .json files, folders of them, or .tar.gz archives of them.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// What was measured.
#[derive(Debug, Serialize)]
struct Figures {
    packages: Vec<String>,
    files: usize,
    bytes: usize,
    /// Resources: the entries of Bundles, and everything else once.
    resources: usize,
    resources_with_errors: usize,
    resources_per_s: f64,
    megabytes_per_s: f64,
    /// The first round, in which profiles are compiled as they are met.
    first_round_ms: f64,
    /// Reading the packages.
    load_ms: f64,
    /// What the process holds after loading, less what it held before.
    load_resident_bytes: Option<u64>,
    /// What it holds after everything.
    resident_bytes: Option<u64>,
    /// From start to verdict of the smallest file, packages loaded: the middle of several.
    start_to_verdict_ms: f64,
}

/// Runs it.
pub(super) fn run(args: &ValidationArgs) -> anyhow::Result<ExitCode> {
    super::say_debug();
    let texts = read_all(args)?;
    let smallest = texts
        .iter()
        .min_by_key(|text| text.len())
        .context("there is no file to check")?;
    let start_to_verdict = start_to_verdict(args, smallest)?;
    let before = disk::resident_bytes(None);
    let started = now();
    let store = PackageStore::open(&args.packages_dir)?;
    let catalogue = load(&args.package, &store, |note| eprintln!("note: {note}"))?;
    let loaded = started.elapsed();
    let after = disk::resident_bytes(None);
    let validator = Validator::new(Arc::new(catalogue), ValidatorOptions::default());
    let request = Request::default();
    let started = now();
    let (mut resources, mut with_errors) = (0, 0);
    for text in &texts {
        let outcome = validator.validate(text, &request);
        let entries = outcome
            .document
            .as_ref()
            .and_then(|it| it.root().get("entry"))
            .map_or(0, |it| it.children().count());
        resources += entries.max(1);
        with_errors += usize::from(!outcome.is_ok());
    }
    let first_round = started.elapsed();
    let span = Duration::from_secs(args.seconds);
    let (mut rounds, started) = (0_usize, now());
    while started.elapsed() < span {
        for text in &texts {
            std::hint::black_box(validator.validate(text, &request));
        }
        rounds += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let bytes: usize = texts.iter().map(Vec::len).sum();
    let rate = |count: usize| rounds as f64 * count as f64 / seconds;
    let figures = Figures {
        packages: validator
            .packages()
            .iter()
            .map(crate::package_store::title)
            .collect(),
        files: texts.len(),
        bytes,
        resources,
        resources_with_errors: with_errors,
        resources_per_s: rate(resources),
        megabytes_per_s: rate(bytes) / 1e6,
        first_round_ms: ms(first_round),
        load_ms: ms(loaded),
        load_resident_bytes: after.zip(before).map(|(a, b)| a.saturating_sub(b)),
        resident_bytes: disk::resident_bytes(None),
        start_to_verdict_ms: ms(start_to_verdict),
    };
    if args.json {
        print_line(&serde_json::to_string_pretty(&figures)?);
    } else {
        print_line(&figures.in_words());
    }
    Ok(ExitCode::SUCCESS)
}

impl Figures {
    fn in_words(&self) -> String {
        let megabytes = |bytes: Option<u64>| {
            bytes.map_or_else(
                || "not known here".to_owned(),
                |bytes| format!("{:.0} MB", bytes as f64 / 1e6),
            )
        };
        format!(
            "packages            {}\n\
             checked             {} resources in {} files, {:.1} MB; {} files with errors\n\
             on one core         {:.0} resources/s, {:.0} MB/s\n\
             first round         {:.0} ms, profiles compiled as they are met\n\
             loading packages    {:.0} ms, {}\n\
             start to verdict    {:.0} ms for the smallest file\n\
             memory at the end   {}",
            self.packages.join(", "),
            self.resources,
            self.files,
            self.bytes as f64 / 1e6,
            self.resources_with_errors,
            self.resources_per_s,
            self.megabytes_per_s,
            self.first_round_ms,
            self.load_ms,
            megabytes(self.load_resident_bytes),
            self.start_to_verdict_ms,
            megabytes(self.resident_bytes),
        )
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Starts this program for one file, as somebody at a terminal does.
fn start_to_verdict(args: &ValidationArgs, text: &[u8]) -> anyhow::Result<Duration> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("one.json");
    std::fs::write(&file, text)?;
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let mut times = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let mut command = Command::new(&program);
        command.arg("validate").arg("--format").arg("json");
        command.arg("--packages-dir").arg(&args.packages_dir);
        for package in &args.package {
            command.arg("--package").arg(package);
        }
        let started = now();
        let status = command
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        times.push(started.elapsed());
        if status.code().is_none_or(|code| code > 1) {
            bail!("`validate` ended with {status}");
        }
    }
    times.sort();
    times
        .get(STARTS / 2)
        .copied()
        .context("nothing was measured")
}

fn read_all(args: &ValidationArgs) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut read = Read {
        texts: Vec::new(),
        bytes: 0,
        named: args.named.as_deref(),
    };
    for file in &args.files {
        read.file(file)?;
    }
    Ok(read.texts)
}

struct Read<'a> {
    texts: Vec<Vec<u8>>,
    bytes: usize,
    named: Option<&'a str>,
}

impl Read<'_> {
    fn file(&mut self, file: &Path) -> anyhow::Result<()> {
        let name = file.display().to_string();
        if file.is_dir() {
            let mut inside: Vec<PathBuf> = std::fs::read_dir(file)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<_, _>>()?;
            inside.retain(|path| path.extension().is_some_and(|it| it == "json"));
            inside.sort();
            for path in inside {
                self.file(&path)?;
            }
            return Ok(());
        }
        if name.ends_with(".tar.gz") || name.ends_with(".tgz") {
            return self.archive(file);
        }
        let bytes = read_bounded(file, JsonLimits::default().bytes_max as u64)?;
        self.text(&name, bytes)
    }

    fn archive(&mut self, file: &Path) -> anyhow::Result<()> {
        use std::io::Read as _;
        let opened = std::fs::File::open(file)
            .with_context(|| format!("cannot read `{}`", file.display()))?;
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(opened));
        for entry in archive.entries()? {
            let entry = entry?;
            let name = entry.path()?.display().to_string();
            if name.ends_with(".json") {
                let mut bytes = Vec::new();
                entry
                    .take(JsonLimits::default().bytes_max as u64)
                    .read_to_end(&mut bytes)?;
                self.text(&name, bytes)?;
            }
        }
        Ok(())
    }

    fn text(&mut self, name: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        if self.named.is_some_and(|named| !name.contains(named)) {
            return Ok(());
        }
        self.bytes += bytes.len();
        if self.texts.len() >= FILES_MAX || self.bytes > BYTES_MAX {
            bail!("that is more than can be measured at once; give fewer files");
        }
        self.texts.push(bytes);
        Ok(())
    }
}
