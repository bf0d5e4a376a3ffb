//! `chaperone keys`: how old keys are, and their rotation, beside nodes that serve. No payload is read or written.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use chaperone_connect::keys::{FileKeyVault, KeyStatus};
use chaperone_core::Timestamp;
use chaperone_core::key_event::{EscrowReason, KeyEvent};
use chaperone_core::ports::{Clock, Store};
use chaperone_engine::record_key_change;
use clap::Subcommand;
use serde::Serialize;

use crate::cli;
use crate::compose::Basics;
use crate::config::keys::Keys;
use crate::config::{Config, ConfigArgs};
use crate::demo::print_line;

/// Keys wrapped anew in one step, between two looks at the clock.
const KEYS_AT_ONCE: usize = 200;

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Say which keys there are, how old they are, and until when backups of retired ones must be gone.
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Wrap every data key under a new version of the tenant key, or the tenant key under a new master. Nodes may
    /// go on serving. What was interrupted goes on when the same command is given again.
    Rotate {
        #[command(flatten)]
        config: ConfigArgs,
        /// The tenant key; the default.
        #[arg(long, conflicts_with = "master")]
        tenant_key: bool,
        /// What wraps the tenant key: a new file master, or the service's key that the configuration names.
        #[arg(long)]
        master: bool,
        /// With --master and a file master: its new escrow text was stored, so the old master can be erased.
        #[arg(long, requires = "master")]
        escrow_stored: bool,
    },
}

/// Runs it.
pub(crate) fn run(args: KeysArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        match args.command {
            KeysCommand::Status { config, json } => status(&config.read()?, json).await,
            KeysCommand::Rotate {
                config,
                tenant_key: _,
                master,
                escrow_stored,
            } => {
                let work = Work::open(config.read()?).await?;
                if master {
                    work.change_master(escrow_stored).await
                } else {
                    work.rotate().await
                }
            }
        }
    })
}

/// One thing about the keys, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Whether it stands well.
    pub(crate) standing: Standing,
    /// In words, with what to do.
    pub(crate) say: String,
}

/// How something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// Well.
    Good,
    /// A person should look.
    Due,
    /// A person must act.
    Overdue,
}

/// Judges ages against what the configuration allows.
pub(crate) fn judge(
    keys: &Keys,
    status: &KeyStatus,
    renews_itself: bool,
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |standing, say: String| findings.push(Finding { standing, say });
    let mut age = |what: &str, made: Option<Timestamp>, due: Option<Timestamp>, command: &str| {
        let (Some(made), Some(due)) = (made, due) else {
            return find(
                Standing::Overdue,
                format!("nobody knows how old {what} is: run `{command}`"),
            );
        };
        if now < due {
            find(
                Standing::Good,
                format!("{what} is of {}, due on {}", day(made), day(due)),
            );
        } else {
            find(
                Standing::Overdue,
                format!(
                    "{what} is of {} and was due on {}: run `{command}`",
                    day(made),
                    day(due)
                ),
            );
        }
    };
    if let Some(newest) = status.newest() {
        age(
            &format!("version {} of the tenant key", newest.version),
            newest.made,
            newest.made.map(|made| keys.tenant_key_due(made)),
            "chaperone keys rotate --tenant-key",
        );
        // A service that renews the material behind its key needs no rotation from here.
        if !renews_itself {
            age(
                &format!("the use of {} ({})", newest.service_key, newest.service),
                newest.service_key_since,
                newest
                    .service_key_since
                    .map(|since| keys.master_key_due(since)),
                "chaperone keys rotate --master",
            );
        }
        if newest.version == 0 {
            find(
                Standing::Due,
                "data keys are wrapped under the file master itself: `chaperone keys rotate --tenant-key` puts a \
                 tenant key between, when every node has this version"
                    .to_owned(),
            );
        }
    }
    if status.is_rotating {
        find(
            Standing::Due,
            "a rotation of the tenant key was interrupted: run `chaperone keys rotate --tenant-key` again"
                .to_owned(),
        );
    }
    if status.is_changing_master {
        find(
            Standing::Due,
            "a change of the master is not finished: run `chaperone keys rotate --master` again"
                .to_owned(),
        );
    }
    for retired in &status.retired {
        let gone_by = keys.backups_gone_by(retired.retired);
        let standing = if now < gone_by {
            Standing::Due
        } else {
            Standing::Good
        };
        find(
            standing,
            format!(
                "{} was retired on {}; the last backup that holds it must be gone by {}",
                retired.key,
                day(retired.retired),
                day(gone_by)
            ),
        );
    }
    if let Some(last) = status.last_destroyed {
        let gone_by = keys.backups_gone_by(last);
        find(
            Standing::Good,
            format!(
                "{} data keys were destroyed, the last on {}; backups of the key folder from before must be gone by {}",
                status.destroyed,
                day(last),
                day(gone_by)
            ),
        );
    }
    findings
}

/// Whether the service says that it renews its key; one that does not answer is not believed to.
pub(crate) async fn renews_itself(
    vault: &FileKeyVault,
    config: &Config,
    status: &KeyStatus,
) -> bool {
    if status
        .newest()
        .is_none_or(|newest| newest.service == "file")
    {
        return false;
    }
    let standing = vault.service_standing(&config.tenant).await;
    standing.is_ok_and(|standing| standing.renews_itself == Some(true))
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d").to_string()
}

async fn status(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let vault = open(config)?;
    let status = vault.status(&config.tenant).await?;
    let renews_itself = renews_itself(&vault, config, &status).await;
    let now = Basics::of_this_machine().clock.now();
    let findings = judge(&config.keys, &status, renews_itself, now);
    if json {
        let versions: Vec<_> = status
            .versions
            .iter()
            .map(|it| {
                serde_json::json!({
                    "version": it.version,
                    "made": it.made,
                    "service": it.service,
                    "service_key": it.service_key,
                    "service_key_since": it.service_key_since,
                    "data_keys": it.keys,
                })
            })
            .collect();
        let retired: Vec<_> = status
            .retired
            .iter()
            .map(|it| {
                serde_json::json!({
                    "key": it.key,
                    "retired": it.retired,
                    "backups_gone_by": config.keys.backups_gone_by(it.retired),
                })
            })
            .collect();
        let answer = serde_json::json!({
            "tenant": config.tenant,
            "tenant_key": versions,
            "retired": retired,
            "destroyed": status.destroyed,
            "last_destroyed": status.last_destroyed,
            "findings": findings,
        });
        print_line(&answer.to_string());
    } else {
        for version in &status.versions {
            print_line(&format!(
                "tenant key {:<4} {} data keys, wrapped by {} {}",
                version.version, version.keys, version.service, version.service_key
            ));
        }
        for finding in &findings {
            let standing = match finding.standing {
                Standing::Good => "good",
                Standing::Due => "due",
                Standing::Overdue => "overdue",
            };
            print_line(&format!("{standing:<8} {}", finding.say));
        }
    }
    let is_overdue = findings.iter().any(|it| it.standing == Standing::Overdue);
    Ok(if is_overdue {
        cli::no()
    } else {
        ExitCode::SUCCESS
    })
}

fn open(config: &Config) -> anyhow::Result<FileKeyVault> {
    FileKeyVault::open(
        &config.key_place(&Basics::of_this_machine())?,
        &config.tenant,
    )
    .context("the tenant's keys cannot be opened")
}

/// What a rotation works with. The ledger is written first: where nothing can be recorded, nothing changes.
struct Work {
    config: Config,
    vault: FileKeyVault,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Work {
    async fn open(config: Config) -> anyhow::Result<Self> {
        let vault = open(&config)?;
        let store = chaperone_store::open(&config.store.url, chaperone_store::Options::default())
            .await
            .context("the store cannot be opened, and a rotation must be recorded")?;
        Ok(Self {
            vault,
            store,
            clock: Basics::of_this_machine().clock,
            config,
        })
    }

    async fn record(&self, event: KeyEvent) -> anyhow::Result<()> {
        let (tenant, now) = (&self.config.tenant, self.clock.now());
        record_key_change(self.store.as_ref(), tenant, now, event)
            .await
            .context("the ledger cannot be written, and a rotation must be recorded")
    }

    async fn rotate(&self) -> anyhow::Result<ExitCode> {
        let tenant = &self.config.tenant;
        let before = self.vault.status(tenant).await?;
        let from = before.newest().map_or(0, |newest| newest.version);
        if !self.vault.is_rotating(tenant).await? {
            self.record(KeyEvent::RotationStarted { from }).await?;
        }
        let mut rotation = self.vault.rotate_tenant_key(tenant).await?;
        let (to, mut rewrapped) = (rotation.to(), 0);
        loop {
            let step = rotation.step(KEYS_AT_ONCE).await?;
            rewrapped += step.rewrapped;
            if step.left == 0 {
                break;
            }
            eprintln!("{rewrapped} keys wrapped anew, {} to look at", step.left);
        }
        let retired = rotation.finish().await?;
        let backups_gone_by = self.config.keys.backups_gone_by(self.clock.now());
        self.record(KeyEvent::RotationFinished {
            to,
            retired,
            backups_gone_by,
        })
        .await?;
        print_line(&format!(
            "{rewrapped} data keys and the signing key are wrapped under version {to} of the tenant key; no payload \
             was touched.\nBackups of the key folder made before now hold older versions: the last must be gone by {}.",
            day(backups_gone_by)
        ));
        Ok(ExitCode::SUCCESS)
    }

    async fn change_master(&self, escrow_stored: bool) -> anyhow::Result<ExitCode> {
        let tenant = &self.config.tenant;
        let status = self.vault.status(tenant).await?;
        if !status.is_changing_master {
            self.record(KeyEvent::MasterChangeStarted).await?;
        }
        let (change, escrow) = self.vault.change_master(tenant).await?;
        if let Some(escrow) = escrow
            && !(escrow_stored && status.is_changing_master)
        {
            self.record(KeyEvent::EscrowShown {
                reason: EscrowReason::MasterChange,
            })
            .await?;
            print_line(&format!(
                "A new master key was made; the old one is still in use.\nStore this escrow text away from this \
                 machine, then run `chaperone keys rotate --master --escrow-stored`:\n\n{}\n",
                escrow.expose()
            ));
            return Ok(ExitCode::SUCCESS);
        }
        let retired = change.finish().await?;
        let backups_gone_by = self.config.keys.backups_gone_by(self.clock.now());
        let status = self.vault.status(tenant).await?;
        let newest = status.newest().context("there is no tenant key")?;
        self.record(KeyEvent::MasterChanged {
            service: newest.service.clone(),
            key: newest.service_key.clone(),
            retired: retired.clone(),
            backups_gone_by,
        })
        .await?;
        print_line(&format!(
            "The tenant key is wrapped by {} under {}.",
            newest.service, newest.service_key
        ));
        if !retired.is_empty() {
            print_line(&format!(
                "{} wraps nothing here any more: destroy its escrow text, if it has one, and every backup of the key \
                 folder made before now by {}.",
                retired.join(", "),
                day(backups_gone_by)
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use chaperone_connect::keys::VersionStatus;

    use super::*;

    fn at(day: &str) -> Timestamp {
        format!("{day}T00:00:00Z").parse().unwrap()
    }

    fn status(made: &str, since: &str) -> KeyStatus {
        KeyStatus {
            versions: vec![VersionStatus {
                version: 3,
                made: Some(at(made)),
                service: "file".to_owned(),
                service_key: "master-1".to_owned(),
                service_key_since: Some(at(since)),
                keys: 7,
            }],
            is_rotating: false,
            is_changing_master: false,
            retired: Vec::new(),
            destroyed: 0,
            last_destroyed: None,
        }
    }

    fn standings(status: &KeyStatus, now: &str) -> Vec<Standing> {
        let keys: Keys = toml::from_str(
            "dir = \"keys\"\ntenant_key_days_max = 90\nmaster_key_days_max = 365\nbackups_kept_days = 30",
        )
        .unwrap();
        let findings = judge(&keys, status, false, at(now));
        findings.iter().map(|finding| finding.standing).collect()
    }

    #[test]
    fn an_overdue_key_is_a_failing_check() {
        use Standing::{Due, Good, Overdue};
        let fresh = status("2026-01-01", "2026-01-01");
        // The last day before it is due, and the day itself.
        assert_eq!(standings(&fresh, "2026-03-31"), [Good, Good]);
        assert_eq!(standings(&fresh, "2026-04-01"), [Overdue, Good]);
        assert_eq!(standings(&fresh, "2026-12-31"), [Overdue, Good]);
        assert_eq!(standings(&fresh, "2027-01-01"), [Overdue, Overdue]);
        // Nobody knows how old it is: that is not young.
        let mut unknown = status("2026-01-01", "2026-01-01");
        unknown.versions[0].made = None;
        assert_eq!(standings(&unknown, "2026-01-02"), [Overdue, Good]);
        // A service that renews its key itself is never overdue; the tenant key still is.
        let keys: Keys = toml::from_str("dir = \"keys\"").unwrap();
        let renewed = judge(&keys, &fresh, true, at("2030-01-01"));
        assert_eq!(renewed.len(), 1);
        assert_eq!(renewed[0].standing, Overdue);
        // A rotation that waits, and a backup that must go.
        let mut waits = status("2026-01-01", "2026-01-01");
        waits.is_rotating = true;
        waits.retired = vec![chaperone_connect::keys::RetiredKey {
            key: "tenant-000002".to_owned(),
            retired: at("2026-01-01"),
        }];
        assert_eq!(standings(&waits, "2026-01-30"), [Good, Good, Due, Due]);
        assert_eq!(standings(&waits, "2026-01-31"), [Good, Good, Due, Good]);
    }
}
