//! Reading a governance bundle from a folder or from the binary.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaperone_policy::{Bundle, LoadProblem};

/// Most files of a bundle.
const FILES_MAX: usize = 2_000;
/// Longest file, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Deepest folder.
const DEPTH_MAX: usize = 6;

/// The files of a bundle, by path with `/`.
pub(crate) fn read(dir: Option<&Path>) -> anyhow::Result<BTreeMap<String, String>> {
    let Some(dir) = dir else {
        return Ok(chaperone_policy::embedded::files());
    };
    let mut files = BTreeMap::new();
    collect(dir, "", 0, &mut files)?;
    if files.is_empty() {
        bail!(
            "`{}` holds no files; `chaperone init` writes a bundle to start from",
            dir.display()
        );
    }
    Ok(files)
}

fn collect(
    dir: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, String>,
) -> anyhow::Result<()> {
    if depth > DEPTH_MAX {
        bail!("`{}` is nested too deeply for a bundle", dir.display());
    }
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read `{}`", dir.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        let path = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}/{name}")
        };
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &path, depth + 1, files)?;
            continue;
        }
        if entry.metadata()?.len() > FILE_BYTES_MAX || files.len() >= FILES_MAX {
            bail!("`{path}` makes the bundle larger than a bundle may be");
        }
        let text = fs::read_to_string(entry.path())
            .with_context(|| format!("cannot read `{path}` as text"))?;
        files.insert(path, text);
    }
    Ok(())
}

/// Loads a bundle or says everything that is wrong with it.
pub(crate) fn load(files: &BTreeMap<String, String>) -> anyhow::Result<Arc<Bundle>> {
    match Bundle::load(files) {
        Ok(bundle) => Ok(Arc::new(bundle)),
        Err(problems) => bail!(
            "the governance bundle does not load:\n{}",
            listed(&problems)
        ),
    }
}

/// Problems, one a line.
pub(crate) fn listed(problems: &[LoadProblem]) -> String {
    problems
        .iter()
        .map(|problem| format!("  {problem}"))
        .collect::<Vec<_>>()
        .join("\n")
}
