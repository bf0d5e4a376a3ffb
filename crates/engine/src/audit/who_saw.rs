//! Who saw or changed something of a patient, when, why, and on whose behalf: one row for each access.
//!
//! Reads the rows by patient, a page at a time, never the whole ledger; where the rows lag behind the ledger
//! they are brought up to date first, within a limit. Rows name agents, people and elements, and hold nothing of
//! what was seen.
//!
//! # Source
//! Requirement R059; 45 CFR 164.312(b).

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::envelope::GrantSource;
use chaperone_core::event::AuditUse;
use chaperone_core::gate::Gate;
use chaperone_core::ids::{PatientToken, PersonId};
use chaperone_core::ports::Listing;
use chaperone_core::principal::Actor;
use chaperone_ledger::audit::access::{
    Access, AccessKind, Decision, ReadAccess, ReadEnd, WriteAccess,
};
use serde::Serialize;

use super::index::{ACCESSES, read};
use super::{Asker, AuditFailed, Span, may_ask};
use crate::context::Engine;
use crate::projection::sortable;
use crate::views::timeline::actor_words;

/// Rows on one page.
pub const ACCESSES_AT_ONCE: u32 = 200;
/// Entries folded while somebody at the console waits; the rest is folded in the background.
pub const CATCH_UP_MAX: u64 = 20_000;

/// One access, for people and for `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Place of its first event in the ledger.
    pub entry: u64,
    /// When.
    pub when: Timestamp,
    /// The record under which it happened, where that is another than was asked about: the two were merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<PatientToken>,
    /// What was done: `read`, `write`, `assigned`, `refused`, `emergency` or `asked`.
    pub did: &'static str,
    /// Who acted, in words.
    pub actor: String,
    /// The agent, when one acted or is acted for.
    pub agent: Option<String>,
    /// The program that was used: the agent itself, or the console.
    pub client: String,
    /// The human behind it, with their account where it is known.
    pub human: Option<String>,
    /// Purpose of use.
    pub purpose: Option<String>,
    /// The intent.
    pub intent: Option<String>,
    /// The tool, or the page of the console.
    pub tool: Option<String>,
    /// The type of resource.
    pub resource: Option<String>,
    /// Elements that were shown or changed; with a ceiling, at most these.
    pub fields: Vec<String>,
    /// Whether `fields` is only what may have been shown, because no record says what was.
    pub is_ceiling: bool,
    /// Elements that were withheld.
    pub withheld: Vec<String>,
    /// How many resources were shown, where it is recorded.
    pub resources: Option<u32>,
    /// A keyed digest of what was shown, with versions.
    pub versions: Option<String>,
    /// Whether nobody had to agree.
    pub is_automated: bool,
    /// Who approved, and how.
    pub approved_by: Vec<String>,
    /// The ruling, where there was one.
    pub ruling: Option<String>,
    /// Policies that permitted or determined it.
    pub policies: Vec<String>,
    /// The consent decision it rests on.
    pub consent: Option<String>,
    /// How it ended, in words.
    pub outcome: String,
}

/// One page of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhoSaw {
    /// The patient.
    pub patient: PatientToken,
    /// Further records of the same person at the EHR, by their tokens.
    pub merged: Vec<PatientToken>,
    /// Whether the EHR told of all of them. When not, there may be accesses under a record that is missing here.
    pub is_whole: bool,
    /// Accesses, oldest first.
    pub accesses: Vec<Seen>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
    /// Entries of the ledger that this answer rests on.
    pub entries: u64,
}

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct WhoSawQuestion {
    /// Of which time.
    pub span: Span,
    /// Where an earlier page said to go on.
    pub after: Option<String>,
}

impl Engine {
    /// Who saw or changed something of a patient. The question is recorded first, once for the first page.
    ///
    /// # Errors
    /// [`AuditFailed::NotPermitted`] for people who are not privacy officers; [`AuditFailed::Behind`] while the rows
    /// are too far behind; store failures.
    pub async fn who_saw(
        &self,
        asker: Asker<'_>,
        patient: PatientToken,
        question: &WhoSawQuestion,
    ) -> Result<WhoSaw, AuditFailed> {
        let budget = match asker {
            Asker::Human(human) if !may_ask(human) => return Err(AuditFailed::NotPermitted),
            Asker::Human(_) => CATCH_UP_MAX,
            Asker::CommandLine => u64::MAX,
        };
        let same = self.same_person(patient).await?;
        if question.after.is_none() {
            // Whoever asks about one of several records is seen asking under each.
            for record in &same.tokens {
                self.record_question(asker, AuditUse::WhoSaw, Some(*record), question.span)
                    .await?;
            }
        }
        let indexed = self.index_accesses(budget).await?;
        if indexed.behind() > 0 {
            return Err(AuditFailed::Behind {
                behind: indexed.behind(),
            });
        }
        let (accesses, next) = self
            .accesses_of(&same.tokens, question.span, question.after.as_deref())
            .await?;
        let names = self.account_names().await?;
        let mut seen = Vec::with_capacity(accesses.len());
        for access in &accesses {
            let mut row = Seen::of(access, &names);
            row.record = access.patient.filter(|record| *record != patient);
            if self.is_secret_from(asker, access).await? {
                row.approved_by = vec!["shown once the other person has decided".to_owned()];
            }
            seen.push(row);
        }
        Ok(WhoSaw {
            patient,
            merged: same.tokens.into_iter().skip(1).collect(),
            is_whole: same.is_whole,
            accesses: seen,
            next,
            entries: indexed.entries,
        })
    }

    /// One page of the accesses of a patient's records, oldest first, and where the next begins.
    pub(super) async fn accesses_of(
        &self,
        records: &[PatientToken],
        span: Span,
        after: Option<&str>,
    ) -> Result<(Vec<Access>, Option<String>), AuditFailed> {
        let after = match (after, span.from) {
            (Some(after), _) => {
                let (sort, key) = after.split_once('~').ok_or(AuditFailed::NoSuchPage)?;
                Some((sort.to_owned(), key.to_owned()))
            }
            // Rows of exactly this time sort behind the time alone.
            (None, Some(from)) => Some((sortable(from), String::new())),
            (None, None) => None,
        };
        let page = ACCESSES_AT_ONCE as usize;
        // Rows of all records sort alike, so the first page of each holds the first page of all.
        let mut rows = Vec::new();
        let mut is_full = false;
        for record in records {
            let listing = Listing {
                index: Some(record.to_string()),
                after: after.clone(),
                limit: ACCESSES_AT_ONCE,
                ..Listing::default()
            };
            let found = self
                .store
                .projections(&self.config.tenant, ACCESSES, listing)
                .await?;
            is_full |= found.len() >= page;
            rows.extend(found);
        }
        rows.sort_by(|one, other| (&one.sort, &one.key.key).cmp(&(&other.sort, &other.key.key)));
        is_full |= rows.len() > page;
        rows.truncate(page);
        let mut next = rows
            .last()
            .filter(|_| is_full)
            .map(|row| format!("{}~{}", row.sort, row.key.key));
        let mut accesses = Vec::with_capacity(rows.len());
        for row in &rows {
            let access: Access = read(row)?;
            if span.to.is_some_and(|to| access.at >= to) {
                next = None;
                break;
            }
            // The rows of a patient are the patient's alone, whatever the listing says.
            let is_theirs = access.patient.is_some_and(|it| records.contains(&it));
            if is_theirs && span.holds(access.at) {
                accesses.push(access);
            }
        }
        Ok((accesses, next))
    }

    /// Whether the first verdict of a pair is still secret from whoever asks.
    async fn is_secret_from(&self, asker: Asker<'_>, access: &Access) -> Result<bool, AuditFailed> {
        let (Asker::Human(human), AccessKind::Write(write)) = (asker, &access.kind) else {
            return Ok(false);
        };
        if !matches!(write.gate, Some(Gate::TwoPerson { .. })) || write.approvals.is_empty() {
            return Ok(false);
        }
        match self.hides_approvals(human, write.writeback).await {
            Ok(hides) => Ok(hides),
            Err(crate::views::ViewFailed::Store(failed)) => Err(failed.into()),
            Err(_) => Ok(true),
        }
    }

    /// Accounts of people, to name them by.
    async fn account_names(&self) -> Result<BTreeMap<PersonId, String>, AuditFailed> {
        let accounts = self.accounts().await?;
        Ok(accounts
            .into_iter()
            .map(|account| (account.person, account.name.to_string()))
            .collect())
    }
}

type Names = BTreeMap<PersonId, String>;

fn named(person: PersonId, names: &Names) -> String {
    match names.get(&person) {
        Some(account) => format!("{account} ({person})"),
        None => person.to_string(),
    }
}

impl Seen {
    fn of(access: &Access, names: &Names) -> Self {
        let work = access.work.as_ref();
        let behind = match &access.actor {
            Actor::Human { person, .. } => Some(*person),
            _ => work.and_then(|work| work.human),
        };
        let mut seen = Self {
            entry: access.seq,
            when: access.at,
            record: None,
            did: "read",
            actor: actor_words(&access.actor),
            agent: access.agent().map(ToString::to_string),
            client: match &access.actor {
                Actor::Agent { agent, .. } => agent.to_string(),
                Actor::Human { .. } => "console".to_owned(),
                Actor::Portal { portal } => portal.to_string(),
                Actor::System { .. } | Actor::Anonymous => "Chaperone".to_owned(),
            },
            human: behind.map(|person| named(person, names)),
            purpose: work.and_then(|work| work.purpose.as_ref().map(ToString::to_string)),
            intent: work.map(|work| work.intent.to_string()),
            tool: None,
            resource: None,
            fields: Vec::new(),
            is_ceiling: false,
            withheld: Vec::new(),
            resources: None,
            versions: None,
            is_automated: true,
            approved_by: Vec::new(),
            ruling: None,
            policies: Vec::new(),
            consent: None,
            outcome: String::new(),
        };
        match &access.kind {
            AccessKind::Read(read) => seen.add_read(read, &access.actor),
            AccessKind::Write(write) => seen.add_write(write, names),
            AccessKind::Assigned { source, .. } => {
                seen.did = "assigned";
                seen.is_automated = !matches!(source, GrantSource::Human { .. });
                seen.outcome = "the patient was put before an agent".to_owned();
            }
            AccessKind::Refused { tool, code, .. } => {
                seen.did = "refused";
                seen.tool = tool.as_ref().map(ToString::to_string);
                seen.outcome = format!("nothing was shown: {code}");
            }
            AccessKind::BrokeGlass { until } => {
                seen.did = "emergency";
                seen.is_automated = false;
                seen.purpose = Some("BTG".to_owned());
                seen.outcome = format!("broke the glass, until {until} at most");
            }
            AccessKind::Asked { used_for, .. } => {
                seen.did = "asked";
                seen.is_automated = false;
                seen.tool = Some(used_for.as_str().to_owned());
                seen.outcome = "asked the ledger about the patient".to_owned();
            }
        }
        seen
    }

    fn add_read(&mut self, read: &ReadAccess, actor: &Actor) {
        self.tool = Some(read.tool.to_string());
        self.resource = Some(read.resource.to_string());
        self.policies = read.policies.iter().map(ToString::to_string).collect();
        self.consent = Some(read.consent.clone());
        if let Some(purpose) = &read.purpose {
            self.purpose = Some(purpose.to_string());
        }
        self.is_automated = matches!(actor, Actor::Agent { .. });
        match &read.end {
            // A page of the console shows what it says, or nothing; no other record is made.
            ReadEnd::None if !self.is_automated => {
                self.fields.clone_from(&read.ceiling);
                self.outcome = match actor {
                    Actor::Portal { .. } => "shown by the portal".to_owned(),
                    _ => "shown at the console".to_owned(),
                };
            }
            ReadEnd::None => {
                self.fields.clone_from(&read.ceiling);
                self.is_ceiling = true;
                self.outcome = "no record says what was shown: at most these elements".to_owned();
            }
            ReadEnd::Released {
                resources,
                versions,
                fields,
                withheld,
                ..
            } => {
                self.fields.clone_from(fields);
                self.withheld.clone_from(withheld);
                self.resources = Some(*resources);
                self.versions = Some(versions.to_string());
                self.outcome = format!("{resources} resources were shown");
            }
            ReadEnd::Failed { code, .. } => self.outcome = format!("nothing was shown: {code}"),
        }
    }

    fn add_write(&mut self, write: &WriteAccess, names: &Names) {
        self.did = "write";
        self.tool = Some(write.tool.to_string());
        self.resource = write.resource.as_ref().map(ToString::to_string);
        self.fields.clone_from(&write.elements);
        self.policies = write.policies.iter().map(ToString::to_string).collect();
        self.is_automated = write.approvals.is_empty() && write.rejected_by.is_none();
        self.approved_by = write
            .approvals
            .iter()
            .map(|decision| approved(decision, names))
            .collect();
        self.ruling = write.gate.as_ref().map(|gate| match write.class {
            Some(class) => format!("{} ({class})", gate.level().as_str()),
            None => gate.level().as_str().to_owned(),
        });
        let what = match write.interaction {
            Some(interaction) => interaction.as_str(),
            None => "change",
        };
        self.outcome = match (write.proof, write.rejected_by) {
            (Some(proof), _) => format!("{what}: delivered, proof {proof}, {}", write.moved),
            (None, Some(person)) => {
                format!(
                    "{what}: rejected by {}, {}",
                    named(person, names),
                    write.moved
                )
            }
            (None, None) => format!("{what}: {}, {}", write.state, write.moved),
        };
    }
}

fn approved(decision: &Decision, names: &Names) -> String {
    let factor = if decision.second_factor {
        ", with a second factor"
    } else {
        ""
    };
    format!(
        "{} as {}{factor}, {}",
        named(decision.person, names),
        decision.role,
        decision.at
    )
}
