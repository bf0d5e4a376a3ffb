//! Whose word verifies what: `rules/verification.toml`.
//!
//! A portal that is not listed, a fact by another step than those listed for it, and a proxy's word about what is the
//! patient's own to say, verify nothing. Start at [`Trust::read`].

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::Timestamp;
use chaperone_core::facts::FactKind;
use chaperone_core::ids::EhrEventSource;
use chaperone_core::patient_mail::PatientMailText;
use chaperone_core::verification::VerificationMethod;
use chaperone_policy::Bundle;
use serde::Deserialize;
use serde_json::Value;

use super::mails::{CodeRules, FixedMail};
use crate::context::StartFailed;
use crate::tables::table;

const FILE: &str = "rules/verification.toml";
/// Longest that an attestation may count, in seconds.
const ATTESTED_S_MAX: i64 = 3_600;
/// Below what age somebody is a minor at most, in years: no law says more.
const MINOR_BELOW_YEARS_MAX: u8 = 21;

/// That a proxy's authority is in force: read from the EHR, and attested by nobody.
pub(super) const AUTHORITY: &str = "proxy_authority";
/// That a proxy acts, which must say who it is.
pub(super) const SESSION: &str = "proxy_session";
/// That the patient themself acts.
pub(super) const PATIENT: &str = "portal_patient";

/// Whether a fact is about somebody who acts in the patient's place, so that an attestation must name them.
pub(super) fn is_about_proxies(fact: &str) -> bool {
    fact == SESSION
}

/// One portal: what it may attest, and for how long that counts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrustedSource {
    source: EhrEventSource,
    facts: BTreeSet<String>,
    valid_s: i64,
}

/// Who may act in a patient's place.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct ProxyRules {
    /// What their word can verify.
    facts: BTreeSet<String>,
    /// From which age on nobody's word counts in the patient's place, in whole years.
    pub(super) nobody_from_years: u8,
    /// Until below which age.
    pub(super) nobody_below_years: u8,
    /// The code system of the relationships.
    pub(super) system: String,
    /// Relationships that give authority at any other age.
    pub(super) authorities: BTreeSet<String>,
    /// Relationships that give it over children below `nobody_from_years`.
    pub(super) parents: BTreeSet<String>,
}

/// The table.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Trust {
    methods: BTreeMap<String, BTreeSet<VerificationMethod>>,
    proxies: ProxyRules,
    #[serde(default)]
    sources: Vec<TrustedSource>,
    #[serde(default)]
    codes: Option<CodeRules>,
    #[serde(default)]
    changed: Option<FixedMail>,
}

impl Trust {
    /// Reads the table of a bundle.
    ///
    /// # Errors
    /// [`StartFailed::Table`] says what is wrong.
    pub(crate) fn read(bundle: &Bundle) -> Result<Self, StartFailed> {
        let read: Trust = table(bundle, FILE)?;
        let is_agent = |name: &str| bundle.agents().any(|agent| agent.id.as_str() == name);
        match read.fault(is_agent) {
            Some(why) => Err(StartFailed::Table { file: FILE, why }),
            None => Ok(read),
        }
    }

    fn fault(&self, is_agent: impl Fn(&str) -> bool) -> Option<String> {
        // What Chaperone must see itself, nobody can attest.
        let is_attestable = |name: &String| {
            chaperone_policy::facts::lookup(name)
                .is_some_and(|fact| fact.kinds.contains(&FactKind::Attested))
        };
        if let Some(stray) = self.methods.keys().find(|name| !is_attestable(name)) {
            return Some(format!("`{stray}` is no fact that can be attested"));
        }
        // Whether a proxy has authority is asked of the EHR.
        if self.methods.contains_key(AUTHORITY) {
            return Some("`proxy_authority` is read from the EHR; no portal attests it".to_owned());
        }
        let of_codes = self.codes.as_ref().and_then(CodeRules::fault);
        let of_notice = || self.changed.as_ref().and_then(FixedMail::fault);
        if let Some(why) = of_codes.or_else(of_notice) {
            return Some(why);
        }
        let rules = &self.proxies;
        for own in [PATIENT, "signature_verified"] {
            if rules.facts.contains(own) {
                return Some(format!(
                    "`{own}` is the patient's own; no proxy verifies it"
                ));
            }
        }
        if rules.nobody_from_years > rules.nobody_below_years
            || rules.nobody_below_years > MINOR_BELOW_YEARS_MAX
        {
            return Some(format!(
                "`nobody_from_years` must not be above `nobody_below_years`, nor that above {MINOR_BELOW_YEARS_MAX}"
            ));
        }
        for (position, trusted) in self.sources.iter().enumerate() {
            let source = &trusted.source;
            let mut before = self.sources.iter().take(position);
            if before.any(|it| it.source == *source) || trusted.facts.is_empty() {
                return Some(format!(
                    "`{source}` stands there twice, or may attest nothing"
                ));
            }
            if is_agent(source.as_str()) {
                return Some(format!("`{source}` is an agent; an agent is no portal"));
            }
            if !(1..=ATTESTED_S_MAX).contains(&trusted.valid_s) {
                return Some(format!(
                    "`valid_s` of `{source}` must be 1 to {ATTESTED_S_MAX}"
                ));
            }
            let is_listed = |name: &&String| !self.methods.contains_key(name.as_str());
            if let Some(stray) = trusted.facts.iter().find(is_listed) {
                return Some(format!(
                    "`{source}` may attest `{stray}`, which has no step under `methods`, or is no fact that can be attested"
                ));
            }
        }
        None
    }

    /// How long a portal may attest a fact for, in seconds; `None` when the bundle does not trust it for that.
    pub(crate) fn valid_s(&self, portal: &EhrEventSource, fact: &str) -> Option<i64> {
        let listed = self.sources.iter().find(|it| it.source == *portal)?;
        listed.facts.contains(fact).then_some(listed.valid_s)
    }

    /// Whether a portal may attest anything.
    pub(crate) fn knows(&self, portal: &EhrEventSource) -> bool {
        self.sources.iter().any(|it| it.source == *portal)
    }

    /// Whether a step shows a fact.
    pub(super) fn shows(&self, method: VerificationMethod, fact: &str) -> bool {
        self.methods
            .get(fact)
            .is_some_and(|methods| methods.contains(&method))
    }

    /// Who may act in a patient's place, for a fact that their word can verify.
    pub(crate) fn proxies_for(&self, fact: &str) -> Option<&ProxyRules> {
        Some(&self.proxies).filter(|rules| rules.facts.contains(fact))
    }

    /// How codes are made here; `None` when the bundle sends none.
    pub(super) fn codes(&self) -> Option<&CodeRules> {
        self.codes.as_ref()
    }

    /// What the addresses of before are told of a change; `None` when the bundle has no text for it.
    pub(crate) fn changed(&self) -> Option<PatientMailText> {
        self.changed.as_ref().map(FixedMail::text)
    }

    /// Whether a patient is an adolescent, whom nobody stands in for, or may be one.
    pub(crate) fn may_be_adolescent(&self, patient: &Value, now: Timestamp) -> bool {
        self.proxies.may_be_adolescent(patient, now)
    }

    /// Who may act in a patient's place.
    pub(super) fn proxies(&self) -> &ProxyRules {
        &self.proxies
    }
}

/// The portals that a bundle trusts for anything.
///
/// # Errors
/// [`StartFailed::Table`] when the table cannot be used.
pub fn trusted_portals(bundle: &Bundle) -> Result<BTreeSet<EhrEventSource>, StartFailed> {
    let trust = Trust::read(bundle)?;
    Ok(trust.sources.into_iter().map(|it| it.source).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = include_str!("../../../../governance/rules/verification.toml");
    const PORTAL: &str =
        "[[sources]]\nsource = 'portal'\nfacts = ['patient_confirmed']\nvalid_s = 600\n";

    fn fault(text: &str) -> Option<String> {
        let read: Trust = toml::from_str(text).unwrap();
        read.fault(|name| name == "intake-agent")
    }

    #[test]
    fn a_table_that_trusts_too_much_is_named() {
        let with = |more: &str| format!("{DEFAULT}\n{more}");
        assert_eq!(fault(DEFAULT), None);
        assert_eq!(fault(&with(PORTAL)), None);
        for (text, why) in [
            (
                with(&PORTAL.replace("'portal'", "'intake-agent'")),
                "an agent is no portal",
            ),
            (with(&format!("{PORTAL}{PORTAL}")), "stands there twice"),
            (with(&PORTAL.replace("600", "3601")), "must be 1 to 3600"),
            (with(&PORTAL.replace("600", "0")), "must be 1 to 3600"),
            (
                with(&PORTAL.replace("patient_confirmed", "slot_free")),
                "`slot_free`",
            ),
            (
                with(&PORTAL.replace("patient_confirmed", "proxy_authority")),
                "`proxy_authority`",
            ),
            (
                DEFAULT.replace("[methods]\n", "[methods]\nslot_free = ['session']\n"),
                "`slot_free` is no fact that can be attested",
            ),
            (
                DEFAULT.replace("[methods]\n", "[methods]\nproxy_authority = ['session']\n"),
                "is read from the EHR",
            ),
            (
                DEFAULT.replace(
                    "facts = [\"patient_confirmed\", \"proxy_session\"",
                    "facts = [\"portal_patient\", \"proxy_session\"",
                ),
                "is the patient's own",
            ),
            (
                DEFAULT.replace("nobody_from_years = 12", "nobody_from_years = 19"),
                "must not be above",
            ),
        ] {
            let said = fault(&text).unwrap_or_default();
            assert!(said.contains(why), "{why}: {said}");
        }
    }

    #[test]
    fn a_fact_is_shown_by_its_own_steps_and_by_no_lesser() {
        let trust: Trust = toml::from_str(&format!("{DEFAULT}\n{PORTAL}")).unwrap();
        let portal = EhrEventSource::new("portal").unwrap();
        assert!(trust.shows(VerificationMethod::StepUp, "portal_patient"));
        assert!(!trust.shows(VerificationMethod::Session, "portal_patient"));
        assert!(trust.shows(VerificationMethod::Session, "patient_confirmed"));
        assert!(!trust.shows(VerificationMethod::Lookup, "patient_confirmed"));
        assert!(!trust.shows(VerificationMethod::StepUp, "slot_free"));
        assert_eq!(trust.valid_s(&portal, "patient_confirmed"), Some(600));
        assert_eq!(trust.valid_s(&portal, "portal_patient"), None);
        assert!(trust.proxies_for("patient_confirmed").is_some());
        assert!(trust.proxies_for("portal_patient").is_none());
        assert!(is_about_proxies("proxy_session") && !is_about_proxies("patient_confirmed"));
    }
}
