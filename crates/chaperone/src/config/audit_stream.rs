//! `[audit_stream]`: where new AuditEvents go, a folder, a FHIR server, or both, each with a place of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use chaperone_connect::audit_fhir::{AuditHandover, AuditRepositoryConfig, FhirAuditSink};
use chaperone_connect::audit_file::FileAuditSink;
use chaperone_connect::egress::Gate;
use chaperone_core::ports::AuditSink;
use serde::Deserialize;

use super::{SmartClient, file_mb_max};
use crate::compose::Basics;

/// The section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditStream {
    #[serde(default)]
    dir: Option<PathBuf>,
    #[serde(default = "file_mb_max")]
    file_mb_max: u64,
    #[serde(default)]
    fhir: Option<Repository>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Repository {
    base_url: String,
    #[serde(default)]
    handover: AuditHandover,
    #[serde(default)]
    extra_root: Option<PathBuf>,
    #[serde(default)]
    smart: Option<RepositoryClient>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepositoryClient {
    #[serde(default)]
    token_url: Option<String>,
    client: SmartClient,
}

impl AuditStream {
    /// Paths are relative to the configuration file.
    pub(super) fn settle_in(&mut self, home: &Path) {
        if let Some(dir) = &mut self.dir {
            *dir = home.join(&dir);
        }
        if let Some(fhir) = &mut self.fhir {
            if let Some(path) = &mut fhir.extra_root {
                *path = home.join(&path);
            }
            if let Some(smart) = &mut fhir.smart {
                smart.client.key_file = home.join(&smart.client.key_file);
            }
        }
    }

    /// The repository's address, and where its tokens come from, if there is one.
    pub(super) fn addresses(&self) -> Option<(&str, Option<&str>)> {
        let fhir = self.fhir.as_ref()?;
        let tokens = fhir
            .smart
            .as_ref()
            .map(|smart| smart.token_url.as_deref().unwrap_or(&fhir.base_url));
        Some((&fhir.base_url, tokens))
    }

    /// The sinks, by the name under which each keeps its place.
    pub(crate) fn sinks(
        &self,
        gate: &Gate,
        basics: &Basics,
    ) -> anyhow::Result<Vec<(&'static str, Arc<dyn AuditSink>)>> {
        if self.file_mb_max == 0 {
            bail!("`audit_stream.file_mb_max` must be at least 1");
        }
        if self.dir.is_none() && self.fhir.is_none() {
            bail!("`audit_stream` names neither `dir` nor `fhir`; remove the section or give one");
        }
        let mut sinks: Vec<(&'static str, Arc<dyn AuditSink>)> = Vec::new();
        if let Some(dir) = &self.dir {
            let bytes_max = self.file_mb_max.saturating_mul(1_000_000);
            let sink = FileAuditSink::open(dir, bytes_max)
                .with_context(|| format!("cannot stream to `{}`", dir.display()))?;
            sinks.push(("file", Arc::new(sink)));
        }
        if let Some(fhir) = &self.fhir {
            let extra_root_pem = match &fhir.extra_root {
                None => None,
                Some(path) => Some(
                    std::fs::read(path)
                        .with_context(|| format!("cannot read `{}`", path.display()))?,
                ),
            };
            let auth = match &fhir.smart {
                None => None,
                Some(smart) => Some(smart.client.client(smart.token_url.clone())?),
            };
            let config = AuditRepositoryConfig {
                base_url: fhir.base_url.clone(),
                auth,
                handover: fhir.handover,
                extra_root_pem,
            };
            let sink = FhirAuditSink::new(
                config,
                gate,
                Arc::clone(&basics.clock),
                Arc::clone(&basics.random),
            )?;
            sinks.push(("fhir", Arc::new(sink)));
        }
        Ok(sinks)
    }
}
