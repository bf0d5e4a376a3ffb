//! `[keys]`: where wrapped keys rest, what wraps them, and how old they may get.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaperone_connect::egress::Gate;
use chaperone_connect::keys::{
    AwsCredentialSource, AwsCredentials, AwsKms, AwsKmsConfig, CACHED_S, KeyPlace,
};
use chaperone_core::Timestamp;
use serde::Deserialize;

use crate::compose::Basics;

/// Oldest that a key may be declared to get, in days: two years.
///
/// # Source
/// NIST SP 800-57 Part 1 Rev. 5, section 5.3.6: at most two years of use for symmetric key-wrapping keys.
const DAYS_MAX: i64 = 730;
/// Longest that backups of the key folder may be declared to be kept, in days.
const BACKUPS_DAYS_MAX: i64 = 366;
/// Longest and shortest time that keys stay in memory, in seconds.
const CACHED_S_RANGE: std::ops::RangeInclusive<i64> = 30..=3_600;

/// Keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    pub(crate) dir: PathBuf,
    #[serde(default)]
    tombstones: Option<PathBuf>,
    #[serde(default = "cached_s")]
    cached_s: i64,
    #[serde(default = "days")]
    tenant_key_days_max: i64,
    #[serde(default = "days")]
    master_key_days_max: i64,
    #[serde(default = "backups_days")]
    backups_kept_days: i64,
    #[serde(default)]
    kms: Option<KmsOutside>,
}

/// A key-management service outside.
#[derive(Debug, Deserialize)]
#[serde(tag = "service", rename_all = "kebab-case", deny_unknown_fields)]
enum KmsOutside {
    /// AWS KMS.
    Aws {
        key: String,
        region: String,
        #[serde(default)]
        previous_keys: Vec<String>,
        #[serde(default)]
        endpoint: Option<String>,
        #[serde(default)]
        credentials_file: Option<PathBuf>,
    },
}

fn cached_s() -> i64 {
    CACHED_S
}

/// A year: the shortest cryptoperiod that NIST SP 800-57 suggests for keys that wrap others.
fn days() -> i64 {
    365
}

fn backups_days() -> i64 {
    35
}

impl Keys {
    /// Makes its paths relative to the configuration's folder.
    pub(super) fn settle_in(&mut self, home: &Path) {
        for path in std::iter::once(&mut self.dir).chain(&mut self.tombstones) {
            *path = home.join(&*path);
        }
        if let Some(KmsOutside::Aws {
            credentials_file: Some(path),
            ..
        }) = &mut self.kms
        {
            *path = home.join(&*path);
        }
    }

    /// Where keys rest and what wraps them.
    pub(crate) fn place(&self, gate: &Gate, basics: &Basics) -> anyhow::Result<KeyPlace> {
        self.check()?;
        let mut place = KeyPlace::at(&self.dir);
        if let Some(tombstones) = &self.tombstones {
            place.tombstones.clone_from(tombstones);
        }
        place.cached_s = self.cached_s;
        if let Some(KmsOutside::Aws {
            key,
            region,
            previous_keys,
            endpoint,
            credentials_file,
        }) = &self.kms
        {
            let config = AwsKmsConfig {
                key: key.clone(),
                previous_keys: previous_keys.clone(),
                region: region.clone(),
                endpoint: endpoint.clone(),
                credentials: match credentials_file {
                    Some(path) => AwsCredentialSource::File(path.clone()),
                    None => AwsCredentialSource::Given(credentials_of_environment()?),
                },
            };
            let clock = Arc::clone(&basics.clock);
            place.kms = Some(Arc::new(AwsKms::new(config, gate, clock)?));
        }
        Ok(place)
    }

    fn check(&self) -> anyhow::Result<()> {
        if !CACHED_S_RANGE.contains(&self.cached_s) {
            bail!(
                "`keys.cached_s` must be from {} to {}",
                CACHED_S_RANGE.start(),
                CACHED_S_RANGE.end()
            );
        }
        for (name, days, days_max) in [
            ("tenant_key_days_max", self.tenant_key_days_max, DAYS_MAX),
            ("master_key_days_max", self.master_key_days_max, DAYS_MAX),
            (
                "backups_kept_days",
                self.backups_kept_days,
                BACKUPS_DAYS_MAX,
            ),
        ] {
            if !(1..=days_max).contains(&days) {
                bail!("`keys.{name}` must be from 1 to {days_max}");
            }
        }
        Ok(())
    }

    /// Until when a version of the tenant key is due.
    pub(crate) fn tenant_key_due(&self, made: Timestamp) -> Timestamp {
        days_after(made, self.tenant_key_days_max)
    }

    /// Until when what wraps it is due.
    pub(crate) fn master_key_due(&self, since: Timestamp) -> Timestamp {
        days_after(since, self.master_key_days_max)
    }

    /// Until when the last backup of the key folder made up to then must be gone.
    pub(crate) fn backups_gone_by(&self, made: Timestamp) -> Timestamp {
        days_after(made, self.backups_kept_days)
    }
}

/// The names that AWS's own tools read.
#[expect(
    clippy::disallowed_methods,
    reason = "the binary reads the environment, once, into its configuration"
)]
fn credentials_of_environment() -> anyhow::Result<AwsCredentials> {
    let wanted = |name: &str| {
        std::env::var(name).with_context(|| {
            format!("`keys.kms` has no `credentials_file`, and the environment has no `{name}`")
        })
    };
    Ok(AwsCredentials {
        access_key_id: wanted("AWS_ACCESS_KEY_ID")?,
        secret_access_key: wanted("AWS_SECRET_ACCESS_KEY")?.into(),
        session_token: std::env::var("AWS_SESSION_TOKEN").ok().map(Into::into),
    })
}

fn days_after(from: Timestamp, days: i64) -> Timestamp {
    from.checked_add(jiff::SignedDuration::from_hours(days.saturating_mul(24)))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> anyhow::Result<KeyPlace> {
        let keys: Keys = toml::from_str(&format!("dir = \"keys\"\n{more}")).unwrap();
        let basics = Basics::of_this_machine();
        keys.place(&Gate::to_this_machine(Arc::clone(&basics.clock)), &basics)
    }

    #[test]
    fn ages_are_bounded() {
        assert_eq!(read("").unwrap().cached_s, 900);
        for good in [
            "cached_s = 30",
            "tenant_key_days_max = 730",
            "master_key_days_max = 1",
            "backups_kept_days = 366",
        ] {
            read(good).unwrap();
        }
        for bad in [
            "cached_s = 29",
            "cached_s = 3601",
            "tenant_key_days_max = 731",
            "tenant_key_days_max = 0",
            "master_key_days_max = -1",
            "backups_kept_days = 0",
            "backups_kept_days = 367",
        ] {
            let refused = read(bad).unwrap_err().to_string();
            assert!(refused.contains("must be from"), "{refused}");
        }
    }

    #[test]
    fn a_service_outside_is_declared_whole() {
        let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let aws = "[kms]\nservice = \"aws\"\nkey = \"alias/chaperone\"\nregion = \"us-east-1\"\n";
        let file = "credentials_file = \"aws.json\"\n";
        assert!(read(&format!("{aws}{file}")).unwrap().kms.is_some());
        let insecure = format!("{aws}{file}endpoint = \"http://kms.example.org\"");
        assert!(read(&insecure).unwrap_err().to_string().contains("https"));
        for bad in [
            aws.replace("us-east-1", "US EAST"),
            aws.replace("alias/chaperone", ""),
        ] {
            assert!(read(&format!("{bad}{file}")).is_err(), "{bad}");
        }
        for bad in [
            "[kms]\nservice = \"aws\"",
            "[kms]\nservice = \"paper\"",
            "[kms]",
        ] {
            assert!(
                toml::from_str::<Keys>(&format!("dir = \"keys\"\n{bad}")).is_err(),
                "{bad}"
            );
        }
    }
}
