//! Cohort jobs: how many patients come before an agent without anybody but people choosing them.
//!
//! ```text
//! asked for (reason) ─▶ search ─▶ who may not be on it is left out ─▶ a list, fixed by its digest
//!     ─▶ struck one by one, if need be (another digest) ─▶ approved by somebody else (second factor for that digest)
//!     ─▶ for each patient, so many a minute: looked at once more ─▶ one grant, used once or running out ─▶ the end
//! ```
//! What a grant opens is one envelope about one patient; of the list, and of the others on it, the agent learns
//! nothing. A list counts for a time and under one bundle. Everything that is done for a patient is one commit, under
//! the revision of their row: after a crash, or with two nodes at it, each gets one grant.
//!
//! Reading order: this file (asked for, struck, approved, stopped), `fit` (who is found, and who may not be on a list),
//! `search` (what is asked of the EHR, and held against its answer), `advance` (an approved list, patient by patient), `list` (what pages show).
//!
//! # Source
//! NIST SP 800-53 AC-5 (separation of duties); 45 CFR 164.502(b) (no more patients than the purpose needs).

mod advance;
mod errors;
mod fit;
mod list;
mod search;

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::cohort::{
    CohortCounts, CohortDeclaration, CohortEnd, CohortEvent, CohortListed, CohortRemoval,
    CohortStep, OverCap,
};
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{
    AccountName, AgentId, CohortId, CohortJobId, IntentId, PatientToken, PersonId, StepUpId,
};
use chaperone_core::ports::{
    Commit, Expected, LISTED_MAX, Listing, PayloadClass, Record, RecordChange, RecordKey,
    StoreFailed,
};
use chaperone_core::principal::{Actor, Human, Role};
use serde::{Deserialize, Serialize};

use crate::context::{Engine, after};
use crate::open_envelope::GRANTS;
use crate::people::StepUpFor;
use crate::projection::sortable;
use crate::views::sees_patients;

pub use errors::CohortFailed;
pub(crate) use fit::check_cohorts;
pub use list::{CohortStatus, CohortTurn, CohortView, ListedPatient};

/// Jobs, by whether they are at their end.
pub(crate) const JOBS: &str = "cohort_job";
/// The patients of each job.
pub(crate) const PATIENTS: &str = "cohort_patient";
const OPEN: &str = "open";
const CLOSED: &str = "closed";
/// How long a job can be looked at after its end, in seconds: 90 days. Its events stay as long as the ledger.
const KEPT_S: i64 = 90 * 24 * 3_600;
/// Fewest and most characters of a reason.
const REASON_CHARS: std::ops::RangeInclusive<usize> = 10..=1_000;
/// How often a stop is tried when agents use their grants at the same moment.
const STOP_TRIES: u32 = 5;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CohortRequest {
    /// The cohort.
    pub cohort: CohortId,
    /// What is chosen, by argument; what is left out has its default.
    pub arguments: BTreeMap<String, i64>,
    /// Why.
    pub reason: String,
}

/// How it stands with a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum CohortStage {
    /// The list waits to be approved.
    Listed,
    /// The list was approved, and is worked off.
    Approved {
        /// By whom.
        person: PersonId,
        /// Under which account.
        approver: AccountName,
    },
    /// Nothing more happens.
    Ended {
        /// How.
        cause: CohortEnd,
        /// When.
        at: Timestamp,
    },
}

/// A job, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CohortJob {
    /// Its id.
    pub id: CohortJobId,
    /// The cohort.
    pub cohort: CohortId,
    /// The agent.
    pub agent: AgentId,
    /// The intent.
    pub intent: IntentId,
    /// The bundle that it was asked for under.
    pub bundle: Digest,
    /// Who asked for it.
    pub requester: PersonId,
    /// Under which account.
    pub account: AccountName,
    /// Why, in the vault.
    pub reason: PayloadAddress,
    /// When.
    pub requested: Timestamp,
    /// Until when the list counts.
    pub until: Timestamp,
    /// What was chosen.
    pub arguments: BTreeMap<String, i64>,
    /// The digest of the list as it is now.
    pub list: Digest,
    /// How many were found and are not on the list.
    pub removed: BTreeMap<CohortRemoval, u64>,
    /// When grants were made within the last minute.
    #[serde(default)]
    made: Vec<Timestamp>,
    /// How it stands.
    #[serde(flatten)]
    pub stage: CohortStage,
}

/// A patient of a list, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    patient: PatientToken,
    /// Place in the list.
    place: usize,
    #[serde(flatten)]
    step: CohortStep,
}

/// An item with the revision that it was read at.
type Seen = (Item, u64);

fn holds(by: &Human, roles: &[Role]) -> bool {
    roles.iter().any(|role| by.holds(*role))
}

/// Whether a person may approve lists of a cohort that others ask for. Who is in training agrees to nothing alone.
fn approves(by: &Human, cohort: &CohortDeclaration) -> bool {
    has_part(by, cohort) && !by.is_in_training() && holds(by, &cohort.approve)
}

/// Whether a person has a part in a cohort, and may so see its lists.
fn has_part(by: &Human, cohort: &CohortDeclaration) -> bool {
    sees_patients(by) && (holds(by, &cohort.request) || holds(by, &cohort.approve))
}

impl Engine {
    /// Whether a person has a part in any cohort.
    pub fn sees_cohorts(&self, by: &Human) -> bool {
        self.bundle.cohorts().any(|cohort| has_part(by, cohort))
    }

    /// Asks for a list: searches the EHR, leaves out who may not be on it, and fixes what remains. Nothing is granted.
    ///
    /// # Errors
    /// [`CohortFailed`]; there is no list then.
    pub async fn request_cohort(
        &self,
        by: &Human,
        request: &CohortRequest,
    ) -> Result<CohortJobId, CohortFailed> {
        let cohort = self.bundle.cohort(&request.cohort);
        let cohort = cohort.ok_or(CohortFailed::UnknownCohort)?;
        if !has_part(by, cohort) || !holds(by, &cohort.request) {
            return Err(CohortFailed::NotPermitted);
        }
        let reason = request.reason.trim();
        if !REASON_CHARS.contains(&reason.chars().count()) {
            return Err(CohortFailed::ReasonUnfit);
        }
        let arguments = chosen(cohort, &request.arguments)?;
        let agent = self.bundle.agent(&cohort.agent);
        let agent = agent.ok_or(CohortFailed::UnknownCohort)?;
        self.check_standing(agent, self.now())
            .map_err(|_lapsed| CohortFailed::AgentRefused)?;
        if let Some(job) = self.open_cohort_job(&cohort.id).await? {
            return Err(CohortFailed::UnderWay(job));
        }
        let (patients, removed) = self.listed_patients(cohort, &arguments).await?;
        let sealed = self
            .seal(PayloadClass::Operational, None, reason.as_bytes())
            .await?;
        let mut commit = self.commit_as(by.into());
        let mut job = CohortJob {
            id: CohortJobId::from_random(self.random.id()),
            cohort: cohort.id.clone(),
            agent: cohort.agent.clone(),
            intent: cohort.intent.clone(),
            bundle: *self.bundle.digest(),
            requester: by.person,
            account: by.account.clone(),
            reason: sealed.address,
            requested: commit.at,
            until: after(
                commit.at,
                i64::from(cohort.list_hours).saturating_mul(3_600),
            ),
            arguments,
            list: Digest::of_bytes(b""),
            removed,
            made: Vec::new(),
            stage: CohortStage::Listed,
        };
        job.list = self.list_digest(&job, &patients);
        commit.payloads.push(sealed);
        let listed = CohortEvent::Listed(Box::new(CohortListed {
            cohort: job.cohort.clone(),
            agent: job.agent.clone(),
            intent: job.intent.clone(),
            bundle: job.bundle,
            arguments: job.arguments.clone(),
            reason: job.reason,
            list: job.list,
            listed: patients.len() as u64,
            removed: job.removed.clone(),
            until: job.until,
        }));
        commit.append(
            StreamId::Cohort(job.id),
            Expected::Version(0),
            Event::Cohort(listed),
        );
        commit.records.push(RecordChange::Create(job_record(&job)?));
        // Of two who ask at once, one gets a list.
        let marker = Record::new(JOBS, under_way(&job.cohort), serde_json::Value::Null);
        commit.records.push(RecordChange::Create(marker));
        for (place, patient) in patients.into_iter().enumerate() {
            let item = Item {
                patient,
                place,
                step: CohortStep::Listed,
            };
            commit
                .records
                .push(RecordChange::Create(item_record(job.id, &item)?));
        }
        self.store.commit(commit).await?;
        self.announce_change();
        Ok(job.id)
    }

    /// Who is on the list: who is found, may be on it, and fits under the cap; and how many are not, by reason.
    async fn listed_patients(
        &self,
        cohort: &CohortDeclaration,
        arguments: &BTreeMap<String, i64>,
    ) -> Result<(Vec<PatientToken>, BTreeMap<CohortRemoval, u64>), CohortFailed> {
        let found = self.find_cohort(cohort, arguments).await?;
        let (mut patients, mut removed) = (found.fitting, found.removed);
        let cap = usize::try_from(cohort.cap).unwrap_or(usize::MAX);
        if patients.len() > cap {
            if cohort.over_cap == OverCap::Refuse {
                return Err(CohortFailed::OverCap {
                    found: patients.len(),
                    cap: cohort.cap,
                });
            }
            let over = patients.len().saturating_sub(cap) as u64;
            removed.insert(CohortRemoval::OverCap, over);
            patients.truncate(cap);
        }
        if patients.is_empty() {
            return Err(CohortFailed::Nobody(removed_words(&removed)));
        }
        Ok((patients, removed))
    }

    /// Strikes a patient from a list that is not approved yet: it is another list then.
    ///
    /// # Errors
    /// [`CohortFailed`]; the list is as it was then.
    pub async fn strike_from_cohort(
        &self,
        by: &Human,
        id: CohortJobId,
        list: Digest,
        patient: PatientToken,
    ) -> Result<CohortJob, CohortFailed> {
        let (job, revision) = self.cohort_job(id).await?;
        let cohort = self.bundle.cohort(&job.cohort);
        let cohort = cohort.ok_or(CohortFailed::RulesChanged)?;
        if !has_part(by, cohort) {
            return Err(CohortFailed::NotPermitted);
        }
        let mut commit = self.commit_as(by.into());
        self.check_waiting(&job, list)?;
        let items = self.cohort_items(id).await?;
        let is_on_it =
            |(item, _): &&Seen| item.step == CohortStep::Listed && item.patient == patient;
        let (item, item_revision) = items.iter().find(is_on_it).ok_or(CohortFailed::OtherList)?;
        let left: Vec<PatientToken> = items
            .iter()
            .filter(|(item, _)| item.step == CohortStep::Listed && item.patient != patient)
            .map(|(item, _)| item.patient)
            .collect();
        let job = CohortJob {
            list: self.list_digest(&job, &left),
            ..job
        };
        let struck = Item {
            step: CohortStep::LeftOut {
                because: CohortRemoval::Struck,
            },
            ..item.clone()
        };
        commit.records.push(RecordChange::Update(
            item_record(id, &struck)?,
            *item_revision,
        ));
        let event = CohortEvent::Struck {
            patient,
            list: job.list,
            listed: left.len() as u64,
        };
        self.move_job(commit, &job, revision, Some(event)).await?;
        Ok(job)
    }

    /// Approves exactly the list of this digest, with a second factor given for it. Its grants are made from now on.
    ///
    /// # Errors
    /// [`CohortFailed`]; nothing is approved then.
    pub async fn approve_cohort(
        &self,
        by: &Human,
        id: CohortJobId,
        list: Digest,
        step_up: StepUpId,
    ) -> Result<CohortJob, CohortFailed> {
        let (job, revision) = self.cohort_job(id).await?;
        let cohort = self.bundle.cohort(&job.cohort);
        let cohort = cohort.ok_or(CohortFailed::RulesChanged)?;
        if !approves(by, cohort) {
            return Err(CohortFailed::NotPermitted);
        }
        // Persons count, not accounts: somebody may have two.
        if by.person == job.requester {
            return Err(CohortFailed::SamePerson);
        }
        self.check_waiting(&job, list)?;
        let items = self.cohort_items(id).await?;
        let listed = CohortCounts::of(items.iter().map(|(item, _)| &item.step)).listed;
        if listed == 0 {
            return Err(CohortFailed::Nobody(removed_words(&job.removed)));
        }
        if !self.has_seen_list(by, &list).await? {
            return Err(CohortFailed::NotSeen);
        }
        let mut commit = self.commit_as(by.into());
        self.consume_step_up(by, step_up, StepUpFor::Matter, &list, &mut commit)
            .await?;
        // What was waited for may have taken the time that was left.
        commit.at = self.now();
        self.check_waiting(&job, list)?;
        let job = CohortJob {
            stage: CohortStage::Approved {
                person: by.person,
                approver: by.account.clone(),
            },
            ..job
        };
        let approved = CohortEvent::Approved { list, listed };
        self.move_job(commit, &job, revision, Some(approved))
            .await?;
        Ok(job)
    }

    /// Says no to a list, or stops what is left of an approved one: nobody more comes before the agent by it, and
    /// grants that wait are taken back.
    ///
    /// # Errors
    /// [`CohortFailed`]; it goes on then.
    pub async fn stop_cohort(&self, by: &Human, id: CohortJobId) -> Result<(), CohortFailed> {
        for _ in 0..STOP_TRIES {
            let (job, revision) = self.cohort_job(id).await?;
            let cohort = self.bundle.cohort(&job.cohort);
            let may_stop =
                by.holds(Role::ItAdmin) || cohort.is_some_and(|cohort| has_part(by, cohort));
            if !may_stop {
                return Err(CohortFailed::NotPermitted);
            }
            if matches!(job.stage, CohortStage::Ended { .. }) {
                return Err(CohortFailed::NotNow);
            }
            match self
                .end_cohort(by.into(), job, revision, CohortEnd::Stopped)
                .await
            {
                // An agent used its grant, or another patient's was made, at the same moment.
                Err(CohortFailed::Again) => {}
                ended => return ended,
            }
        }
        Err(CohortFailed::Again)
    }

    /// Ends a job before everybody was worked off: what is left is left out, and grants that wait are taken back.
    async fn end_cohort(
        &self,
        actor: Actor,
        job: CohortJob,
        revision: u64,
        cause: CohortEnd,
    ) -> Result<(), CohortFailed> {
        let because = match cause {
            CohortEnd::Stopped => CohortRemoval::Stopped,
            CohortEnd::RulesChanged => CohortRemoval::RulesChanged,
            CohortEnd::NotApproved | CohortEnd::Finished => CohortRemoval::TimeUp,
        };
        let mut commit = self.commit_as(actor);
        let mut items = self.cohort_items(job.id).await?;
        for (item, _) in &mut items {
            let left_out = CohortStep::LeftOut { because };
            match item.step.clone() {
                CohortStep::Listed => item.step = left_out,
                CohortStep::Granted { grant, .. } => match self.cohort_grant_end(grant).await? {
                    Some(step) => item.step = step,
                    None => {
                        let key = RecordKey::new(GRANTS, grant);
                        commit.records.push(RecordChange::Consume(key));
                        let event = CohortEvent::LeftOut {
                            patient: item.patient,
                            because,
                            grant: Some(grant),
                        };
                        let stream = StreamId::Cohort(job.id);
                        commit.append(stream, Expected::Any, Event::Cohort(event));
                        item.step = left_out;
                    }
                },
                _ => {}
            }
        }
        self.close_job(commit, job, revision, &items, cause).await
    }

    /// The last commit of a job: everything about it goes after a while.
    async fn close_job(
        &self,
        mut commit: Commit,
        job: CohortJob,
        revision: u64,
        items: &[Seen],
        cause: CohortEnd,
    ) -> Result<(), CohortFailed> {
        let until = after(commit.at, KEPT_S);
        for (item, revision) in items {
            let record = item_record(job.id, item)?.expiring(until);
            commit.records.push(RecordChange::Update(record, *revision));
        }
        let marker = RecordKey::new(JOBS, under_way(&job.cohort));
        commit.records.push(RecordChange::Delete(marker));
        let counts = CohortCounts::of(items.iter().map(|(item, _)| &item.step));
        let job = CohortJob {
            stage: CohortStage::Ended {
                cause,
                at: commit.at,
            },
            ..job
        };
        let ended = CohortEvent::Ended { cause, counts };
        self.move_job(commit, &job, revision, Some(ended)).await
    }

    /// Writes a job as it is now, under the revision that was seen.
    async fn move_job(
        &self,
        mut commit: Commit,
        job: &CohortJob,
        revision: u64,
        event: Option<CohortEvent>,
    ) -> Result<(), CohortFailed> {
        commit
            .records
            .push(RecordChange::Update(job_record(job)?, revision));
        if let Some(event) = event {
            let stream = StreamId::Cohort(job.id);
            commit.append(stream, Expected::Any, Event::Cohort(event));
        }
        self.store.commit(commit).await?;
        self.announce_change();
        Ok(())
    }

    /// Whether a list waits to be approved, and is the one that somebody means.
    fn check_waiting(&self, job: &CohortJob, list: Digest) -> Result<(), CohortFailed> {
        if job.stage != CohortStage::Listed {
            return Err(CohortFailed::NotNow);
        }
        if job.bundle != *self.bundle.digest() {
            return Err(CohortFailed::RulesChanged);
        }
        if self.now() >= job.until {
            return Err(CohortFailed::NotNow);
        }
        if job.list != list {
            return Err(CohortFailed::OtherList);
        }
        Ok(())
    }

    /// What whoever approves agrees to: these patients, before this agent, for this, in this job, under these rules.
    fn list_digest(&self, job: &CohortJob, patients: &[PatientToken]) -> Digest {
        let mut tokens: Vec<String> = patients.iter().map(ToString::to_string).collect();
        tokens.sort();
        let id = job.id.to_string();
        let about: [&[u8]; 6] = [
            b"cohort list",
            id.as_bytes(),
            job.cohort.as_str().as_bytes(),
            job.agent.as_str().as_bytes(),
            job.intent.as_str().as_bytes(),
            job.bundle.as_bytes(),
        ];
        let mut parts = about.to_vec();
        parts.extend(tokens.iter().map(String::as_bytes));
        self.tenant_digest(&parts)
    }

    /// A job of this cohort that is not at its end.
    async fn open_cohort_job(
        &self,
        cohort: &CohortId,
    ) -> Result<Option<CohortJobId>, CohortFailed> {
        let jobs = self.cohort_jobs_in(OPEN, LISTED_MAX).await?;
        let open = jobs.into_iter().find(|job| job.cohort == *cohort);
        Ok(open.map(|job| job.id))
    }

    async fn cohort_jobs_in(
        &self,
        index: &str,
        limit: u32,
    ) -> Result<Vec<CohortJob>, CohortFailed> {
        let listing = Listing {
            index: Some(index.to_owned()),
            descending: true,
            limit,
            ..Listing::default()
        };
        let records = self
            .store
            .records(&self.config.tenant, JOBS, listing, self.now())
            .await?;
        let jobs = records.into_iter().map(|record| read_value(record.value));
        jobs.collect()
    }

    async fn cohort_job(&self, id: CohortJobId) -> Result<(CohortJob, u64), CohortFailed> {
        let key = RecordKey::new(JOBS, id);
        let record = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?
            .ok_or(CohortFailed::Missing)?;
        Ok((read_value(record.value)?, record.revision))
    }

    /// Everybody who was ever on the list of a job, in order. A list is shorter than a page of the store.
    async fn cohort_items(&self, id: CohortJobId) -> Result<Vec<Seen>, CohortFailed> {
        let listing = Listing {
            index: Some(id.to_string()),
            ..Listing::default()
        };
        let records = self
            .store
            .records(&self.config.tenant, PATIENTS, listing, self.now())
            .await?;
        let items = records
            .into_iter()
            .map(|record| Ok::<Seen, CohortFailed>((read_value(record.value)?, record.revision)));
        items.collect()
    }

    async fn cohort_item(
        &self,
        id: CohortJobId,
        patient: PatientToken,
    ) -> Result<Seen, CohortFailed> {
        let record = self
            .store
            .record(&self.config.tenant, &item_key(id, patient), self.now())
            .await?
            .ok_or(CohortFailed::Missing)?;
        Ok((read_value(record.value)?, record.revision))
    }

    /// What became of a grant; nothing while it waits.
    async fn cohort_grant_end(
        &self,
        grant: chaperone_core::ids::GrantId,
    ) -> Result<Option<CohortStep>, CohortFailed> {
        let tenant = &self.config.tenant;
        let key = RecordKey::new(GRANTS, grant);
        if self.store.record(tenant, &key, self.now()).await?.is_some() {
            return Ok(None);
        }
        let events = self.store.stream(tenant, &StreamId::Grant(grant)).await?;
        let was_used = events
            .iter()
            .any(|recorded| matches!(recorded.event, Event::GrantConsumed { .. }));
        Ok(Some(match was_used {
            true => CohortStep::Used { grant },
            false => CohortStep::Unused { grant },
        }))
    }
}

/// The key of what says that a job of a cohort is under way.
fn under_way(cohort: &CohortId) -> String {
    format!("under-way/{cohort}")
}

/// What was chosen, with defaults.
fn chosen(
    cohort: &CohortDeclaration,
    wanted: &BTreeMap<String, i64>,
) -> Result<BTreeMap<String, i64>, CohortFailed> {
    for name in wanted.keys() {
        if !cohort.arguments.contains_key(name) {
            let known: Vec<&str> = cohort.arguments.keys().map(String::as_str).collect();
            return Err(CohortFailed::Argument {
                name: name.clone(),
                why: format!("the cohort has no such argument; it has {known:?}"),
            });
        }
    }
    let mut chosen = BTreeMap::new();
    for (name, argument) in &cohort.arguments {
        let value = wanted.get(name).copied().unwrap_or(argument.default);
        if !(argument.minimum..=argument.maximum).contains(&value) {
            return Err(CohortFailed::Argument {
                name: name.clone(),
                why: format!("it must be {} to {}", argument.minimum, argument.maximum),
            });
        }
        chosen.insert(name.clone(), value);
    }
    Ok(chosen)
}

/// How many were left out and why, to stand behind a sentence.
fn removed_words(removed: &BTreeMap<CohortRemoval, u64>) -> String {
    if removed.is_empty() {
        return String::new();
    }
    let each = removed
        .iter()
        .map(|(because, count)| format!("{count} {}", because.words()));
    format!(" (left out: {})", each.collect::<Vec<_>>().join("; "))
}

fn read_value<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, CohortFailed> {
    Ok(serde_json::from_value(value).map_err(|e| StoreFailed::Corrupt(e.to_string()))?)
}

fn job_record(job: &CohortJob) -> Result<Record, CohortFailed> {
    let value = serde_json::to_value(job).map_err(|_| CohortFailed::Internal)?;
    let record = Record::new(JOBS, job.id, value);
    Ok(match job.stage {
        CohortStage::Listed | CohortStage::Approved { .. } => {
            record.indexed(OPEN, sortable(job.requested))
        }
        CohortStage::Ended { at, .. } => record
            .indexed(CLOSED, sortable(job.requested))
            .expiring(after(at, KEPT_S)),
    })
}

fn item_record(job: CohortJobId, item: &Item) -> Result<Record, CohortFailed> {
    let value = serde_json::to_value(item).map_err(|_| CohortFailed::Internal)?;
    let key = item_key(job, item.patient).key;
    Ok(Record::new(PATIENTS, key, value).indexed(job.to_string(), format!("{:06}", item.place)))
}

fn item_key(job: CohortJobId, patient: PatientToken) -> RecordKey {
    RecordKey::new(PATIENTS, format!("{job}/{patient}"))
}
