//! The files of the repository, read once per check. Build output and downloads are left out.

use std::fs;
use std::path::{Path, PathBuf};

/// Deepest folder looked into.
const DEPTH_MAX: usize = 16;

/// Largest file read as text, in bytes; larger ones are data.
const TEXT_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 4] = [".git", "target", "node_modules", "chaperone-data"];

/// A text file: its path from the root with forward slashes, and its content.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// Every text file below a folder of the repository, in path order.
pub(crate) fn files(below: &str) -> Vec<File> {
    let mut paths = Vec::new();
    walk(&root().join(below), 0, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .filter_map(|path| {
            let text = String::from_utf8(fs::read(&path).ok()?).ok()?;
            let path = path.strip_prefix(root()).unwrap().to_str()?;
            Some(File {
                path: path.replace('\\', "/"),
                text,
            })
        })
        .collect()
}

/// The Rust files of the workspace.
pub(crate) fn rust_files() -> Vec<File> {
    let mut files = files("crates");
    files.retain(|file| file.path.ends_with(".rs"));
    assert!(files.len() > 10, "the tree was not found");
    files
}

fn walk(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) {
    assert!(depth <= DEPTH_MAX, "{} is too deep", folder.display());
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && !SKIPPED.iter().any(|skipped| name == *skipped) {
            walk(&entry.path(), depth + 1, into);
        } else if kind.is_file() && entry.metadata().unwrap().len() <= TEXT_BYTES_MAX {
            into.push(entry.path());
        }
    }
}
