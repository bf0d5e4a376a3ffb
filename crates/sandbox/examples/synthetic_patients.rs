//! Writes synthetic patients as files, one transaction Bundle each, for FHIR servers other than the
//! sandbox. Not part of the product. Start at `main`.
//!
//! `cargo run -p chaperone-sandbox --example synthetic_patients -- DIRECTORY [COUNT] [SEED] [NOW]`

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use chaperone_sandbox::synthetic::{PATIENTS_MAX, patients};
use jiff::Timestamp;

const USAGE: &str = "usage: synthetic_patients DIRECTORY [COUNT] [SEED] [NOW]\n\
    Writes COUNT bundles (12 if not given, at most 1000) to DIRECTORY, which must be empty or absent, as \
    charted at NOW (an RFC 3339 time; 2026-03-02T15:00:00Z if not given). The same COUNT, SEED (1 if not \
    given) and NOW give the same bytes.";

struct Wanted {
    directory: PathBuf,
    count: usize,
    seed: u64,
    now: Timestamp,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = wanted(&arguments)?;
    empty(&wanted.directory)?;
    let bundles = patients(wanted.seed, wanted.count, wanted.now);
    for (position, bundle) in bundles.iter().enumerate() {
        let path = wanted.directory.join(format!("patient-{position:04}.json"));
        fs::write(path, serde_json::to_vec_pretty(bundle)?)?;
    }
    Ok(())
}

fn wanted(arguments: &[String]) -> Result<Wanted, Box<dyn Error>> {
    let given = |position: usize| arguments.get(position).map(String::as_str);
    let (Some(directory), None) = (given(0), given(4)) else {
        return Err(USAGE.into());
    };
    let count: usize = given(1).unwrap_or("12").parse()?;
    if count > PATIENTS_MAX {
        return Err(USAGE.into());
    }
    Ok(Wanted {
        directory: directory.into(),
        count,
        seed: given(2).unwrap_or("1").parse()?,
        now: given(3).unwrap_or("2026-03-02T15:00:00Z").parse()?,
    })
}

/// A folder with other files in it would be loaded with them.
fn empty(directory: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    if fs::read_dir(directory)?.next().is_some() {
        return Err(format!("`{}` is not empty", directory.display()).into());
    }
    Ok(())
}
