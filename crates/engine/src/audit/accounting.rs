//! The accounting of disclosures: what went to whom outside, and how much need not be listed and why.
//!
//! Which purposes need no accounting is data (`rules/accounting.toml`). What is not listed there is accounted for:
//! an unknown purpose is no reason to leave a disclosure out.
//!
//! # Source
//! 45 CFR 164.528(a)(1) (exceptions, six years), (b)(2) (content of a row).

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::event::AuditUse;
use chaperone_core::ids::PatientToken;
use chaperone_core::principal::Actor;
use chaperone_ledger::audit::access::{Access, AccessKind, ReadAccess, ReadEnd};
use serde::{Deserialize, Serialize};

use super::{Asker, AuditFailed, Span, may_ask};
use crate::context::Engine;

/// Most accesses looked at for one accounting.
const ACCESSES_MAX: u64 = 1_000_000;
/// How far back an accounting goes unless asked otherwise, in days: six years.
const DAYS: i64 = 6 * 365 + 2;

/// A group of purposes that need no accounting.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Excluded {
    /// Purposes of use, v3-ActReason codes.
    purposes: Vec<String>,
    /// Why, in words.
    why: String,
    /// Where that is written.
    source: String,
}

/// `rules/accounting.toml`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    dead_code,
    reason = "owner and review dates are for people who read the file"
)]
pub(crate) struct Accounting {
    owner: String,
    source: String,
    reviewed: String,
    review_by: String,
    excluded: Vec<Excluded>,
}

/// One disclosure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disclosure {
    /// When.
    pub date: Timestamp,
    /// Who received it.
    pub recipient: String,
    /// Their address, where it is known.
    pub address: Option<String>,
    /// What was disclosed, in short.
    pub description: String,
    /// Why, in short.
    pub purpose: String,
    /// Place in the ledger.
    pub entry: u64,
}

/// What was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Why.
    pub why: String,
    /// Where that is written.
    pub source: String,
    /// How many accesses.
    pub accesses: u64,
}

/// An accounting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccountingAnswer {
    /// The patient.
    pub patient: PatientToken,
    /// Whether the EHR told of every record that was merged with this one; what happened under those is in here.
    pub is_whole: bool,
    /// From when on.
    pub from: Timestamp,
    /// Before when.
    pub to: Timestamp,
    /// What must be listed.
    pub disclosures: Vec<Disclosure>,
    /// What need not be.
    pub left_out: Vec<LeftOut>,
}

/// Whether an access is listed.
enum Verdict {
    Listed,
    LeftOut {
        why: String,
        source: String,
    },
    /// Nothing of the record was shown.
    Nothing,
}

impl Accounting {
    fn judge(&self, access: &Access) -> Verdict {
        let AccessKind::Read(read) = &access.kind else {
            return Verdict::Nothing;
        };
        if matches!(read.end, ReadEnd::Failed { .. }) {
            return Verdict::Nothing;
        }
        if matches!(access.actor, Actor::Human { .. }) {
            return Verdict::LeftOut {
                why: "seen by people of the organisation itself: a use, no disclosure".to_owned(),
                source: "45 CFR 160.103 (disclosure)".to_owned(),
            };
        }
        if matches!(access.actor, Actor::Portal { .. }) {
            return Verdict::LeftOut {
                why: "shown to the patient, or to whoever acts in their place".to_owned(),
                source: "45 CFR 164.528(a)(1)(ii)".to_owned(),
            };
        }
        let purpose = access.work.as_ref().and_then(|work| work.purpose.as_ref());
        let excluded = purpose.and_then(|purpose| {
            self.excluded
                .iter()
                .find(|group| group.purposes.iter().any(|code| code == purpose.as_str()))
        });
        match excluded {
            Some(group) => Verdict::LeftOut {
                why: group.why.clone(),
                source: group.source.clone(),
            },
            None => Verdict::Listed,
        }
    }
}

impl Engine {
    /// The accounting of disclosures for a patient; six years back unless asked otherwise. Recorded first.
    ///
    /// # Errors
    /// [`AuditFailed::NotPermitted`] for people who are not privacy officers; [`AuditFailed::TooMany`]; store failures.
    pub async fn accounting(
        &self,
        asker: Asker<'_>,
        patient: PatientToken,
        span: Span,
    ) -> Result<AccountingAnswer, AuditFailed> {
        if let Asker::Human(human) = asker
            && !may_ask(human)
        {
            return Err(AuditFailed::NotPermitted);
        }
        let to = span.to.unwrap_or_else(|| self.now());
        let back = jiff::SignedDuration::from_hours(DAYS.saturating_mul(24));
        let from = span
            .from
            .unwrap_or_else(|| to.checked_sub(back).unwrap_or(Timestamp::MIN));
        let span = Span {
            from: Some(from),
            to: Some(to),
        };
        let same = self.same_person(patient).await?;
        for record in &same.tokens {
            self.record_question(asker, AuditUse::Accounting, Some(*record), span)
                .await?;
        }
        self.index_accesses(u64::MAX).await?;
        let rules = self.tables.accounting();
        let mut disclosures = Vec::new();
        let mut left_out: BTreeMap<(String, String), u64> = BTreeMap::new();
        let (mut after, mut looked_at) = (None, 0_u64);
        loop {
            let (accesses, next) = self
                .accesses_of(&same.tokens, span, after.as_deref())
                .await?;
            looked_at = looked_at.saturating_add(accesses.len() as u64);
            if looked_at > ACCESSES_MAX {
                return Err(AuditFailed::TooMany(ACCESSES_MAX));
            }
            for access in &accesses {
                match (rules.judge(access), &access.kind) {
                    (Verdict::Listed, AccessKind::Read(read)) => {
                        disclosures.push(self.disclosure(access, read));
                    }
                    (Verdict::LeftOut { why, source }, _) => {
                        *left_out.entry((why, source)).or_default() += 1;
                    }
                    _ => {}
                }
            }
            after = next;
            if after.is_none() {
                break;
            }
        }
        let left_out = left_out
            .into_iter()
            .map(|((why, source), accesses)| LeftOut {
                why,
                source,
                accesses,
            })
            .collect();
        Ok(AccountingAnswer {
            patient,
            is_whole: same.is_whole,
            from,
            to,
            disclosures,
            left_out,
        })
    }

    /// Who runs the agent and whose models it uses; addresses are not in the bundle.
    fn disclosure(&self, access: &Access, read: &ReadAccess) -> Disclosure {
        let agent = access.agent();
        let declared = agent.and_then(|agent| self.bundle.agent(agent));
        let recipient = match (declared, agent) {
            (Some(declared), _) => {
                let providers: Vec<&str> = declared
                    .providers
                    .iter()
                    .map(|it| it.name.as_str())
                    .collect();
                format!(
                    "{} ({}; {})",
                    declared.id,
                    declared.vendor,
                    providers.join(", ")
                )
            }
            (None, Some(agent)) => agent.to_string(),
            (None, None) => "not recorded".to_owned(),
        };
        let (fields, at_most) = match &read.end {
            ReadEnd::Released { fields, .. } => (fields, ""),
            ReadEnd::None | ReadEnd::Failed { .. } => (&read.ceiling, "at most "),
        };
        let purpose = access.work.as_ref().map(|work| match &work.purpose {
            Some(purpose) => format!("{purpose}: {}", work.intent),
            None => work.intent.to_string(),
        });
        Disclosure {
            date: access.at,
            recipient,
            address: None,
            description: format!("{}: {at_most}{}", read.resource, fields.join(", ")),
            purpose: purpose.unwrap_or_else(|| "not recorded".to_owned()),
            entry: access.seq,
        }
    }
}
