//! `[[ehr_events]]` and `[[portals]]`: which systems may announce events of the EHR, which portals may attest what
//! patients confirmed, and where their secrets are.
//!
//! Not what an event may cause, nor what a portal is trusted for: that is in the bundle. Secrets stand in files of their own and are read once,
//! at start.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use chaperone_connect::keys::is_private;
use chaperone_core::ids::EhrEventSource;
use chaperone_engine::ehr_event::{EventSources, SourceKind, SourceSecrets, WINDOW_S_DEFAULT};
use serde::Deserialize;
use zeroize::Zeroizing;

/// Most bytes of a file that holds a secret.
const SECRET_FILE_BYTES_MAX: u64 = 4_096;

/// One source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Source {
    source: EhrEventSource,
    secret_file: PathBuf,
    #[serde(default)]
    previous_secret_file: Option<PathBuf>,
    #[serde(default = "window_s")]
    window_s: i64,
}

/// One portal.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Portal {
    portal: EhrEventSource,
    secret_file: PathBuf,
    #[serde(default)]
    previous_secret_file: Option<PathBuf>,
    #[serde(default = "window_s")]
    window_s: i64,
}

fn window_s() -> i64 {
    WINDOW_S_DEFAULT
}

impl Source {
    /// Makes its paths relative to the configuration's folder.
    pub(super) fn settle_in(&mut self, home: &Path) {
        settle(&mut self.secret_file, &mut self.previous_secret_file, home);
    }
}

impl Portal {
    /// Makes its paths relative to the configuration's folder.
    pub(super) fn settle_in(&mut self, home: &Path) {
        settle(&mut self.secret_file, &mut self.previous_secret_file, home);
    }
}

fn settle(current: &mut PathBuf, previous: &mut Option<PathBuf>, home: &Path) {
    for path in std::iter::once(current).chain(previous) {
        *path = home.join(&*path);
    }
}

/// Reads the secrets of all sources and portals. None of them shares a name or a secret with another: one could speak
/// for the other.
pub(crate) fn sources(announcers: &[Source], portals: &[Portal]) -> anyhow::Result<EventSources> {
    let announcers = announcers.iter().map(|it| {
        let files = (&it.secret_file, &it.previous_secret_file);
        (&it.source, SourceKind::Announcer, files, it.window_s)
    });
    let portals = portals.iter().map(|it| {
        let files = (&it.secret_file, &it.previous_secret_file);
        (&it.portal, SourceKind::Portal, files, it.window_s)
    });
    let mut read = Vec::new();
    for (name, kind, (current, previous), window_s) in announcers.chain(portals) {
        let previous = match previous {
            Some(path) => Some(secret(path)?),
            None => None,
        };
        read.push((name, kind, secret(current)?, previous, window_s));
    }
    let sources = read
        .iter()
        .map(|(name, kind, current, previous, window_s)| SourceSecrets {
            source: (*name).clone(),
            kind: *kind,
            current: current.as_bytes(),
            previous: previous.as_ref().map(|text| text.as_bytes()),
            window_s: *window_s,
        });
    EventSources::new(sources).context("`ehr_events` and `portals` cannot be used")
}

/// The text of a file without the end of its last line: exactly what `$(cat FILE)` gives a shell.
fn secret(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let about = || format!("the secret in `{}` cannot be read", path.display());
    if !is_private(path).with_context(about)? {
        bail!(
            "others than the owner can read the secret in `{0}`; say `chmod 600 {0}`, and replace it if anybody may have",
            path.display()
        );
    }
    let size = std::fs::metadata(path).with_context(about)?.len();
    if size > SECRET_FILE_BYTES_MAX {
        bail!(
            "`{}` is larger than {SECRET_FILE_BYTES_MAX} bytes; a secret stands alone in its file",
            path.display()
        );
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).with_context(about)?);
    Ok(Zeroizing::new(
        text.trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn source(text: &str) -> Result<Source, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_source_is_read_with_its_secrets_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let write_for = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        let write = |name: &str, text: &str| write_for(name, text, 0o600);
        write_for("open", "0123456789abcdef0123456789abcdef", 0o640);
        write("new", "0123456789abcdef0123456789abcdef\n");
        write("old", "fedcba9876543210fedcba9876543210");
        write("short", "0123456789abcdef0123456789abcde\n");
        let with = |rest: &str| {
            let mut source = source(&format!("source = 'ehr'\n{rest}")).unwrap();
            source.settle_in(folder.path());
            sources(&[source], &[]).map_err(|failed| format!("{failed:#}"))
        };
        assert!(with("secret_file = 'new'").is_ok());
        assert!(with("secret_file = 'new'\nprevious_secret_file = 'old'\nwindow_s = 60").is_ok());
        for (rest, why) in [
            ("secret_file = 'short'", "must have 32 to"),
            (
                "secret_file = 'new'\nprevious_secret_file = 'new'",
                "is used twice",
            ),
            ("secret_file = 'none'", "cannot be read"),
            ("secret_file = 'open'", "others than the owner can read"),
            ("secret_file = 'new'\nwindow_s = 10", "30 to 900 seconds"),
        ] {
            let said = with(rest).unwrap_err();
            assert!(said.contains(why), "{rest}: {said}");
            assert!(!said.contains("0123456789"), "{said}");
        }
        assert!(source("source = 'ehr'\nsecret = 'x'\nsecret_file = 'new'").is_err());
        assert!(source("source = 'ehr'").is_err());
        // A portal with the secret of a source, or under its name, would be both.
        let mut ehr = source("source = 'ehr'\nsecret_file = 'new'").unwrap();
        ehr.settle_in(folder.path());
        let both = |text: &str| {
            let mut portal: Portal = toml::from_str(text).unwrap();
            portal.settle_in(folder.path());
            sources(std::slice::from_ref(&ehr), &[portal]).map_err(|failed| format!("{failed:#}"))
        };
        assert!(both("portal = 'portal'\nsecret_file = 'old'").is_ok());
        let said = both("portal = 'portal'\nsecret_file = 'new'").unwrap_err();
        assert!(said.contains("is used twice"), "{said}");
        let said = both("portal = 'ehr'\nsecret_file = 'old'").unwrap_err();
        assert!(said.contains("named twice"), "{said}");
    }
}
