//! What was searched for traces of a patient, counted by kind of place: a search of nothing finds nothing and
//! proves nothing. Not what is looked for, which is in `needle`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use chaperone_sandbox::RunningSandbox;

use crate::installation::Installation;
use crate::needle::{Search, Trace};

/// Traces that a failure shows.
const TRACES_SHOWN_MAX: usize = 40;

/// The search of one run.
pub(crate) struct Searched {
    name: String,
    /// Places and bytes by kind of place.
    kinds: BTreeMap<&'static str, (usize, usize)>,
    traces: Vec<Trace>,
}

impl Searched {
    pub(crate) fn of(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kinds: BTreeMap::new(),
            traces: Vec::new(),
        }
    }

    /// Looks at one place.
    pub(crate) fn look(&mut self, kind: &'static str, search: &Search, place: &str, bytes: &[u8]) {
        let counted = self.kinds.entry(kind).or_default();
        counted.0 += 1;
        counted.1 += bytes.len();
        self.traces.extend(search.traces(place, bytes));
    }

    /// Looks at every file of a folder but those below the folders that name patients on purpose.
    pub(crate) fn folder(
        &mut self,
        kind: &'static str,
        search: &Search,
        folder: &Path,
        except: &[&str],
    ) {
        let mut files = Vec::new();
        files_below(folder, &mut files);
        for file in files {
            let below = file.strip_prefix(folder).unwrap();
            if !except.iter().any(|excepted| below.starts_with(excepted)) {
                let bytes = fs::read(&file).unwrap();
                self.look(kind, search, &file.display().to_string(), &bytes);
            }
        }
    }

    /// Fails on any trace, and where one of the kinds of places held nothing. What was searched is printed and
    /// kept beside the build, where `./test` shows it.
    pub(crate) fn holds_nothing(self, kinds: &[&'static str]) {
        let (places, bytes) = self
            .kinds
            .values()
            .fold((0, 0), |sum, kind| (sum.0 + kind.0, sum.1 + kind.1));
        let mut said = format!(
            "canaries: {}: {} traces in {bytes} bytes of {places} places",
            self.name,
            self.traces.len()
        );
        for (kind, (places, bytes)) in &self.kinds {
            write!(said, "; {kind}: {bytes} bytes, {places}").unwrap();
        }
        eprintln!("{said}");
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("canaries");
        fs::create_dir_all(&kept).unwrap();
        let file: String = self
            .name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        fs::write(kept.join(file).with_extension("txt"), format!("{said}\n")).unwrap();
        for kind in kinds {
            let (_, bytes) = self.kinds.get(kind).copied().unwrap_or_default();
            assert!(bytes > 0, "nothing was there to be searched: {kind}");
        }
        let listed: String = self
            .traces
            .iter()
            .take(TRACES_SHOWN_MAX)
            .map(|trace| format!("  {trace}\n"))
            .collect();
        assert!(self.traces.is_empty(), "{said}\n{listed}");
    }
}

/// What an EHR's access log would hold of the requests that are remembered: addresses, and the condition of
/// conditional creates.
pub(crate) fn addresses_at(sandbox: &RunningSandbox) -> String {
    let requests = sandbox.handle.requests();
    let line = |request: &chaperone_sandbox::ReceivedRequest| {
        format!(
            "{} {:?} {:?}\n",
            request.path, request.query, request.if_none_exist
        )
    };
    requests.iter().map(line).collect()
}

/// The search at the end of a run that is about something else: the log at debug, everything that the installation
/// left on the disk, exports of the ledger, and the addresses that the EHR saw. `further` identify the run's own
/// patients; streams of AuditEvents name them on purpose.
pub(crate) fn nothing_is_left(
    name: &str,
    installation: &Installation,
    addresses: &str,
    further: &[&str],
) {
    let search = Search::new(further);
    let mut searched = Searched::of(name);
    let log = fs::read(installation.log()).unwrap();
    let config = fs::read_to_string(installation.config()).unwrap();
    assert!(config.contains("level = \"debug\""), "{config}");
    searched.look("log", &search, "the log", &log);
    searched.folder("disk", &search, &installation.home(), &["audit"]);
    for file in installation.exports() {
        let bytes = fs::read(&file).unwrap();
        searched.look("ledger", &search, &file.display().to_string(), &bytes);
    }
    // The EHR knows patients by their logical ids; whatever else identifies them stays out of addresses.
    let at_the_ehr: Vec<&str> = further
        .iter()
        .copied()
        .filter(|text| !text.starts_with("Patient/"))
        .collect();
    let search = Search::new(&at_the_ehr);
    searched.look(
        "addresses at the EHR",
        &search,
        "the EHR's access log",
        addresses.as_bytes(),
    );
    searched.holds_nothing(&["log", "disk", "addresses at the EHR"]);
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, files);
        } else {
            files.push(path);
        }
    }
}
