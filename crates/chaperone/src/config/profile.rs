//! What kind of server the EHR is, as the operator declares it, and whose signatures there count here.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use chaperone_connect::ehr::ProfileSource;
use chaperone_core::ids::AccountName;
use chaperone_core::ports::ServerKind;
use serde::Deserialize;

use super::Ehr;

/// How the EHR is delivered to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EhrProfile {
    #[default]
    Probe,
    Full,
    Plain,
    ReadOnly,
    Vendor,
    Staged,
}

/// A user of the EHR, and their account here.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EhrUser {
    practitioner: String,
    account: AccountName,
}

impl Ehr {
    /// Where the delivery profile comes from.
    ///
    /// # Errors
    /// A setting that the profile lacks, or one that says nothing under it.
    pub(super) fn profile_source(&self) -> anyhow::Result<ProfileSource> {
        let transactions_are_atomic = self.transactions_are_atomic;
        let kind = |kind| ProfileSource::Kind {
            kind,
            types: Vec::new(),
            transactions_are_atomic,
            updates_as_patches: self.updates_as_patches,
        };
        let matches_versions = matches!(self.profile, EhrProfile::Probe | EhrProfile::Full);
        if self.updates_as_patches && !matches_versions {
            bail!(
                "`ehr.updates_as_patches` is for `profile = \"probe\"` and `\"full\"`: a patch needs a version to match"
            );
        }
        if self.operation.is_some() && self.profile != EhrProfile::Vendor {
            bail!("`ehr.operation` is for `profile = \"vendor\"` alone");
        }
        let is_staged = self.profile == EhrProfile::Staged;
        if (self.signs_with_second_factor || !self.signers.is_empty()) && !is_staged {
            bail!(
                "`ehr.signs_with_second_factor` and `ehr.signers` are for `profile = \"staged\"` alone"
            );
        }
        Ok(match self.profile {
            EhrProfile::Probe => ProfileSource::Probed {
                transactions_are_atomic,
                updates_as_patches: self.updates_as_patches,
            },
            EhrProfile::Full => kind(ServerKind::Full),
            EhrProfile::Plain => kind(ServerKind::Plain),
            EhrProfile::ReadOnly => kind(ServerKind::ReadOnly),
            EhrProfile::Vendor => ProfileSource::Vendor {
                operation: self.operation.clone().context(
                    "`profile = \"vendor\"` needs `ehr.operation`, such as \"$file-entry\"",
                )?,
                types: Vec::new(),
            },
            EhrProfile::Staged => ProfileSource::Staging {
                signs_with_second_factor: self.signs_with_second_factor,
                types: Vec::new(),
            },
        })
    }

    /// The account here behind each signer there.
    ///
    /// # Errors
    /// A signer that is no `Practitioner/[id]`, or named twice.
    pub(super) fn signers_by_name(&self) -> anyhow::Result<BTreeMap<String, AccountName>> {
        accounts_by_practitioner("ehr.signers", &self.signers)
    }
}

/// The account here behind each of these users there.
///
/// # Errors
/// A user that is no `Practitioner/[id]`, or named twice.
pub(super) fn accounts_by_practitioner(
    setting: &str,
    users: &[EhrUser],
) -> anyhow::Result<BTreeMap<String, AccountName>> {
    let mut accounts = BTreeMap::new();
    for user in users {
        let name = &user.practitioner;
        let is_practitioner = name
            .strip_prefix("Practitioner/")
            .is_some_and(|id| !id.is_empty() && !id.contains('/'));
        if !is_practitioner {
            bail!("`{setting}`: `{name}` must be `Practitioner/[id]`, as the EHR names its users");
        }
        if accounts
            .insert(name.clone(), user.account.clone())
            .is_some()
        {
            bail!("`{setting}`: `{name}` is named twice");
        }
    }
    Ok(accounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ehr(text: &str) -> Ehr {
        let all = format!(
            "connection = \"ehr\"\nenvironment = \"test\"\nbase_url = \"http://127.0.0.1:1/fhir\"\n{text}"
        );
        toml::from_str(&all).unwrap()
    }

    #[test]
    fn each_profile_has_what_it_needs_and_nothing_that_says_nothing() {
        let operation = "operation = \"$file-entry\"";
        assert!(
            ehr(&format!("profile = \"vendor\"\n{operation}"))
                .profile_source()
                .is_ok()
        );
        assert!(ehr("profile = \"vendor\"").profile_source().is_err());
        assert!(
            ehr(&format!("profile = \"plain\"\n{operation}"))
                .profile_source()
                .is_err()
        );
        let signs = "signs_with_second_factor = true";
        assert!(
            ehr(&format!("profile = \"staged\"\n{signs}"))
                .profile_source()
                .is_ok()
        );
        assert!(
            ehr(&format!("profile = \"full\"\n{signs}"))
                .profile_source()
                .is_err()
        );
    }

    #[test]
    fn patches_are_for_profiles_that_match_versions() {
        let patches = |profile: &str| {
            let text = format!("profile = \"{profile}\"\nupdates_as_patches = true");
            ehr(&text).profile_source()
        };
        assert!(matches!(
            patches("probe").unwrap(),
            ProfileSource::Probed {
                updates_as_patches: true,
                ..
            }
        ));
        assert!(matches!(
            patches("full").unwrap(),
            ProfileSource::Kind {
                updates_as_patches: true,
                ..
            }
        ));
        assert!(matches!(
            ehr("profile = \"full\"").profile_source().unwrap(),
            ProfileSource::Kind {
                updates_as_patches: false,
                ..
            }
        ));
        for other in ["plain", "read-only", "vendor", "staged"] {
            assert!(patches(other).is_err(), "{other}");
        }
    }

    #[test]
    fn signers_are_practitioners_and_each_is_one_person() {
        let signer =
            |name: &str| format!("[[signers]]\npractitioner = \"{name}\"\naccount = \"dr-one\"\n");
        let two = signer("Practitioner/1") + &signer("Practitioner/2");
        assert_eq!(ehr(&two).signers_by_name().unwrap().len(), 2);
        for bad in [
            "Practitioner/",
            "Device/1",
            "1",
            "Practitioner/1/_history/2",
        ] {
            assert!(ehr(&signer(bad)).signers_by_name().is_err(), "{bad}");
        }
        let twice = signer("Practitioner/1") + &signer("Practitioner/1");
        assert!(ehr(&twice).signers_by_name().is_err());
    }
}
