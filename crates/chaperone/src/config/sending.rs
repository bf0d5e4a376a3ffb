//! `[ehr.sending]`: how much may be on its way to the EHR, and when sending stops because it fails.
//!
//! Not here: what a failure is (`engine::deliver`) and how a breaker thinks (`core::breaker`).

use anyhow::bail;
use chaperone_core::breaker::BreakerRules;
use chaperone_engine::EngineConfig;
use serde::Deserialize;

/// Most deliveries under way that may be asked for.
const UNDER_WAY_MAX: usize = 256;
/// The longest that sending may stop before it is tried again, in milliseconds.
const OPEN_MS_MAX: i64 = 3_600_000;

/// The section; what is absent is as documented in the template.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sending {
    under_way_max: Option<usize>,
    failures_max: Option<u32>,
    stops_ms: Option<i64>,
    stops_ms_max: Option<i64>,
}

impl Sending {
    /// Puts what is said here into the engine's settings.
    ///
    /// # Errors
    /// A number that makes no sense, with its key.
    pub(crate) fn apply(&self, config: &mut EngineConfig) -> anyhow::Result<()> {
        if let Some(under_way_max) = self.under_way_max {
            if !(2..=UNDER_WAY_MAX).contains(&under_way_max) {
                bail!(
                    "`ehr.sending.under_way_max` must be from 2 (one place is kept for safety flags) to {UNDER_WAY_MAX}"
                );
            }
            config.deliveries_under_way_max = under_way_max;
        }
        let defaults = config.breaker;
        let rules = BreakerRules {
            failures_max: self.failures_max.unwrap_or(defaults.failures_max),
            open_ms: self.stops_ms.unwrap_or(defaults.open_ms),
            open_ms_max: self.stops_ms_max.unwrap_or(defaults.open_ms_max),
            // Whatever tries holds its claim no longer than this.
            probe_ms: config.claim_ms,
        };
        let sensible = rules.failures_max >= 1
            && (1..=OPEN_MS_MAX).contains(&rules.open_ms)
            && (rules.open_ms..=OPEN_MS_MAX).contains(&rules.open_ms_max);
        if !sensible {
            bail!(
                "`ehr.sending`: `failures_max` must be at least 1, `stops_ms` above zero, and `stops_ms_max` from it to {OPEN_MS_MAX}"
            );
        }
        config.breaker = rules;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaperone_core::ids::TenantId;

    fn applied(text: &str) -> anyhow::Result<EngineConfig> {
        let mut config = EngineConfig::new(TenantId::new("clinic")?, "http://127.0.0.1:1");
        toml::from_str::<Sending>(text)?.apply(&mut config)?;
        Ok(config)
    }

    #[test]
    fn numbers_that_make_sense_are_taken_and_their_neighbours_refused() {
        let config = applied("under_way_max = 2\nfailures_max = 1\nstops_ms = 10\n").unwrap();
        assert_eq!(config.deliveries_under_way_max, 2);
        assert_eq!(config.breaker.open_ms, 10);
        assert_eq!(config.breaker.probe_ms, config.claim_ms);
        for bad in [
            "under_way_max = 1",
            "under_way_max = 257",
            "failures_max = 0",
            "stops_ms = 0",
            "stops_ms = 200000",
            "stops_ms_max = 1",
            "stops_ms_max = 3600001",
            "stop_ms = 5",
        ] {
            assert!(applied(bad).is_err(), "{bad}");
        }
    }
}
