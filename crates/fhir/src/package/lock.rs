//! The lock file of a package store: which packages belong to it, by name, version and checksum.
//!
//! Text in, text out; it opens no file. The text is TOML:
//!
//! ```toml
//! format = 1
//!
//! [[package]]
//! name = "hl7.fhir.us.core"
//! version = "8.0.0"
//! sha256 = "…64 hexadecimal digits…"
//! ```
//!
//! Start at [`Lock::parse`] and [`Lock::check`].

use std::collections::BTreeMap;

use super::PackageId;

/// Version of the file's layout.
const FORMAT: u32 = 1;
/// Longest lock file accepted, in bytes.
const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The packages of a store, by name and version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    /// Name and version to the checksum of the `.tgz`.
    packages: BTreeMap<(String, String), String>,
}

/// One line of a lock file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locked<'l> {
    /// Name, such as `hl7.fhir.us.core`.
    pub name: &'l str,
    /// Version, such as `8.0.0`.
    pub version: &'l str,
    /// SHA-256 of the `.tgz`, in lower-case hexadecimal.
    pub sha256: &'l str,
}

impl Locked<'_> {
    /// The file name under which a store keeps the package: `name-version.tgz`.
    #[must_use]
    pub fn file_name(&self) -> String {
        file_name(self.name, self.version)
    }
}

/// Why a lock file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LockParseError {
    /// Larger than any lock file needs to be.
    #[error("the lock file is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// Not TOML, or not of this shape.
    #[error("the lock file cannot be read")]
    Text(#[source] toml::de::Error),
    /// Written by another version of the program.
    #[error("the lock file has format {0}; this build reads {FORMAT}")]
    Format(u32),
    /// A name or version that cannot be part of a file name.
    #[error("`{0}` in the lock file is not the name or version of a package")]
    Name(String),
    /// A checksum that is none.
    #[error("the checksum of `{0}` in the lock file is not 64 lower-case hexadecimal digits")]
    Checksum(String),
    /// The same package twice.
    #[error("`{0}` stands twice in the lock file")]
    Twice(String),
}

/// Why a package is not the one that was locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockCheckError {
    /// The lock file does not name it.
    #[error("`{package}` is not in the lock file; add it with `chaperone packages add`")]
    NotLocked {
        /// Name and version.
        package: String,
    },
    /// Its bytes are others.
    #[error("`{package}` has checksum {found}, but the lock file says {locked}")]
    Changed {
        /// Name and version.
        package: String,
        /// In the lock file.
        locked: String,
        /// Of the bytes at hand.
        found: String,
    },
}

/// Why a package cannot be locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockAddError {
    /// The same name and version with other bytes.
    #[error(
        "`{package}` is already locked with checksum {locked}; the new file has {found}: \
         a published version never changes, so one of the two is not what it says"
    )]
    Changed {
        /// Name and version.
        package: String,
        /// In the lock file.
        locked: String,
        /// Of the new file.
        found: String,
    },
    /// A name or version that cannot be part of a file name.
    #[error("`{0}` is not the name or version of a package")]
    Name(String),
    /// A checksum that is none.
    #[error("`{0}` is not the checksum of a package")]
    Checksum(String),
}

/// What adding did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockAdded {
    /// It is new.
    New,
    /// It was there, with the same checksum.
    Already,
}

#[derive(serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: u32,
    #[serde(default)]
    package: Vec<TextPackage>,
}

#[derive(serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct TextPackage {
    name: String,
    version: String,
    sha256: String,
}

impl Lock {
    /// Reads the text of a lock file.
    ///
    /// # Errors
    /// Too long, not TOML of this shape, another format, names or checksums that are none, or a package
    /// that stands twice.
    pub fn parse(text: &str) -> Result<Self, LockParseError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(LockParseError::TooLong);
        }
        let text: Text = toml::from_str(text).map_err(LockParseError::Text)?;
        if text.format != FORMAT {
            return Err(LockParseError::Format(text.format));
        }
        let mut packages = BTreeMap::new();
        for it in text.package {
            if let Some(bad) = [&it.name, &it.version].into_iter().find(|it| !is_plain(it)) {
                return Err(LockParseError::Name(bad.clone()));
            }
            if !is_checksum(&it.sha256) {
                return Err(LockParseError::Checksum(title(&it.name, &it.version)));
            }
            let title = title(&it.name, &it.version);
            if packages.insert((it.name, it.version), it.sha256).is_some() {
                return Err(LockParseError::Twice(title));
            }
        }
        Ok(Self { packages })
    }

    /// The text of the lock file: sorted, so that the same packages always give the same text.
    #[must_use]
    pub fn to_text(&self) -> String {
        use std::fmt::Write;
        let mut text = format!("format = {FORMAT}\n");
        for it in self.packages() {
            // Names, versions and checksums were checked on the way in and need no escapes.
            let _ = write!(
                text,
                "\n[[package]]\nname = \"{}\"\nversion = \"{}\"\nsha256 = \"{}\"\n",
                it.name, it.version, it.sha256
            );
        }
        text
    }

    /// The packages, by name and version.
    pub fn packages(&self) -> impl Iterator<Item = Locked<'_>> {
        self.packages
            .iter()
            .map(|((name, version), sha256)| Locked {
                name,
                version,
                sha256,
            })
    }

    /// Adds a package that was read.
    ///
    /// # Errors
    /// The same version is there with other bytes, or its name, version or checksum are none.
    pub fn add(&mut self, id: &PackageId) -> Result<LockAdded, LockAddError> {
        if let Some(bad) = [&id.name, &id.version].into_iter().find(|it| !is_plain(it)) {
            return Err(LockAddError::Name(bad.clone()));
        }
        if !is_checksum(&id.sha256) {
            return Err(LockAddError::Checksum(id.sha256.clone()));
        }
        let key = (id.name.clone(), id.version.clone());
        match self.packages.get(&key) {
            Some(locked) if *locked == id.sha256 => Ok(LockAdded::Already),
            Some(locked) => Err(LockAddError::Changed {
                package: title(&id.name, &id.version),
                locked: locked.clone(),
                found: id.sha256.clone(),
            }),
            None => {
                self.packages.insert(key, id.sha256.clone());
                Ok(LockAdded::New)
            }
        }
    }

    /// Removes a package; says whether it was there.
    pub fn remove(&mut self, name: &str, version: &str) -> bool {
        self.packages
            .remove(&(name.to_owned(), version.to_owned()))
            .is_some()
    }

    /// Checks that a package that was read is the one that was locked. The checksum in the id is that of
    /// the bytes it was read from.
    ///
    /// # Errors
    /// It is not locked, or its bytes are others.
    pub fn check(&self, id: &PackageId) -> Result<(), LockCheckError> {
        let package = title(&id.name, &id.version);
        match self.packages.get(&(id.name.clone(), id.version.clone())) {
            None => Err(LockCheckError::NotLocked { package }),
            Some(locked) if *locked == id.sha256 => Ok(()),
            Some(locked) => Err(LockCheckError::Changed {
                package,
                locked: locked.clone(),
                found: id.sha256.clone(),
            }),
        }
    }
}

/// The file name under which a store keeps a package.
#[must_use]
pub fn file_name(name: &str, version: &str) -> String {
    format!("{name}-{version}.tgz")
}

fn title(name: &str, version: &str) -> String {
    format!("{name}#{version}")
}

/// Letters, digits, dots and dashes, so that it can stand in a file name and in TOML as it is.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && !text.starts_with('.')
        && !text.contains("..")
        && text
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b'_' | b'+'))
}

fn is_checksum(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|it| it.is_ascii_digit() || (b'a'..=b'f').contains(&it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str, version: &str, digit: char) -> PackageId {
        PackageId {
            name: name.to_owned(),
            version: version.to_owned(),
            fhir_version: "4.0.1".to_owned(),
            licence: "CC0-1.0".to_owned(),
            sha256: digit.to_string().repeat(64),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut lock = Lock::default();
        assert_eq!(lock.add(&id("b.c", "1.0.0", 'b')), Ok(LockAdded::New));
        assert_eq!(lock.add(&id("a", "2.0.0-ballot", 'a')), Ok(LockAdded::New));
        assert_eq!(
            lock.add(&id("a", "2.0.0-ballot", 'a')),
            Ok(LockAdded::Already)
        );
        let text = lock.to_text();
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        let names: Vec<_> = lock.packages().map(|it| it.file_name()).collect();
        assert_eq!(names, ["a-2.0.0-ballot.tgz", "b.c-1.0.0.tgz"]);
        assert!(lock.remove("a", "2.0.0-ballot") && !lock.remove("a", "2.0.0-ballot"));
        assert_eq!(Lock::parse("format = 1\n").unwrap(), Lock::default());
    }

    #[test]
    fn other_bytes_under_the_same_version_are_refused() {
        let mut lock = Lock::default();
        lock.add(&id("a", "1", '0')).unwrap();
        assert_eq!(lock.check(&id("a", "1", '0')), Ok(()));
        assert!(matches!(
            lock.check(&id("a", "1", '1')),
            Err(LockCheckError::Changed { .. })
        ));
        assert!(matches!(
            lock.check(&id("a", "2", '0')),
            Err(LockCheckError::NotLocked { .. })
        ));
        assert!(matches!(
            lock.add(&id("a", "1", '1')),
            Err(LockAddError::Changed { .. })
        ));
    }

    #[test]
    fn what_is_no_lock_file_is_refused() {
        let package = |name: &str, sha256: &str| {
            format!(
                "format = 1\n[[package]]\nname = \"{name}\"\nversion = \"1\"\nsha256 = \"{sha256}\"\n"
            )
        };
        let sum = "0".repeat(64);
        assert!(Lock::parse(&package("a", &sum)).is_ok());
        for (text, why) in [
            ("format = 2".to_owned(), "format 2"),
            ("[[package".to_owned(), "cannot be read"),
            ("format = 1\nmore = 2".to_owned(), "cannot be read"),
            (package("../a", &sum), "not the name"),
            (package("a/b", &sum), "not the name"),
            (package("", &sum), "not the name"),
            (package("a", &"G".repeat(64)), "64 lower-case"),
            (package("a", &"A".repeat(64)), "64 lower-case"),
            (
                package("a", &sum) + package("a", &sum).trim_start_matches("format = 1\n"),
                "twice",
            ),
            (" ".repeat(TEXT_BYTES_MAX + 1), "longer"),
        ] {
            let error = Lock::parse(&text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
