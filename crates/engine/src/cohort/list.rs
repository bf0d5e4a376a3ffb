//! What pages and the command line show of jobs. Lists of jobs name ids, counts and reasons and nothing of patients; the
//! page of one job shows whom it lists as other lists do, to people who have a part in it, and each look is recorded.

use std::collections::BTreeMap;

use chaperone_core::cohort::{CohortCounts, CohortDeclaration, CohortStep};
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{CohortJobId, PatientToken};
use chaperone_core::phi::Phi;
use chaperone_core::ports::{EhrReadFailed, Expected, Record, RecordChange, RecordKey};
use chaperone_core::principal::Human;
use chaperone_core::resource::ResourceType;
use futures::StreamExt as _;
use serde::Serialize;
use serde_json::Value;

use super::fit::is_gone;
use super::{CLOSED, CohortFailed, CohortJob, CohortStage, OPEN, approves, has_part, holds};
use crate::context::{Engine, after};
use crate::views::patients::{Initials, LOOKS, initials_of};

/// The page, as looks are recorded under.
const PAGE: &str = "console.cohort";
/// What it shows of each patient.
const FIELDS: [&str; 2] = ["name", "birthDate"];
/// How long having looked at a list counts for approving it, in seconds: half an hour.
const SEEN_S: i64 = 30 * 60;
/// Most jobs of a list.
const JOBS_LISTED: u32 = 50;
/// Patients read at the same time.
const AT_ONCE: usize = 8;

/// A job, without its patients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CohortStatus {
    /// The job.
    #[serde(flatten)]
    pub job: CohortJob,
    /// What people call the cohort; nothing where the bundle has it no more.
    pub title: Option<String>,
    /// Why; nothing where that cannot be opened.
    pub why: Option<String>,
    /// How many patients stand where.
    pub counts: CohortCounts,
}

/// A patient of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPatient {
    /// Our own identifier.
    pub token: PatientToken,
    /// Initials and age; nothing where the EHR has no such patient.
    pub shown: Option<Phi<Initials>>,
    /// How it stands.
    pub step: CohortStep,
}

/// What a person can do about a job now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CohortTurn {
    /// Approve the list.
    pub approve: bool,
    /// Strike patients.
    pub strike: bool,
    /// Say no, or stop it.
    pub stop: bool,
}

/// A job as its page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CohortView {
    /// The job.
    pub status: CohortStatus,
    /// What the cohort is for.
    pub purpose: String,
    /// What the person can do.
    pub turn: CohortTurn,
    /// Everybody who was on the list.
    pub patients: Vec<ListedPatient>,
}

impl Engine {
    /// The cohorts in which a person has a part.
    pub fn cohorts_for(&self, by: &Human) -> Vec<&CohortDeclaration> {
        let own = |cohort: &&CohortDeclaration| has_part(by, cohort);
        self.bundle.cohorts().filter(own).collect()
    }

    /// Whether a person may ask for a list of this cohort.
    pub fn may_request_cohort(&self, by: &Human, cohort: &CohortDeclaration) -> bool {
        has_part(by, cohort) && holds(by, &cohort.request)
    }

    /// Jobs in which a person has a part, those under way first, then newest first.
    ///
    /// # Errors
    /// [`CohortFailed::NotPermitted`], store failures.
    pub async fn cohort_jobs(&self, by: &Human) -> Result<Vec<CohortStatus>, CohortFailed> {
        if !self.sees_cohorts(by) {
            return Err(CohortFailed::NotPermitted);
        }
        let mut jobs = self.all_cohort_jobs().await?;
        jobs.retain(|status| {
            let cohort = self.bundle.cohort(&status.job.cohort);
            cohort.is_some_and(|cohort| has_part(by, cohort))
        });
        Ok(jobs)
    }

    /// All jobs, for whoever operates Chaperone: ids, counts and reasons, nothing of patients.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn all_cohort_jobs(&self) -> Result<Vec<CohortStatus>, CohortFailed> {
        let mut all = Vec::new();
        for index in [OPEN, CLOSED] {
            for job in self.cohort_jobs_in(index, JOBS_LISTED).await? {
                all.push(self.status_of(job).await?);
            }
        }
        Ok(all)
    }

    /// One job, without its patients.
    ///
    /// # Errors
    /// [`CohortFailed::Missing`], store failures.
    pub async fn cohort_status(&self, id: CohortJobId) -> Result<CohortStatus, CohortFailed> {
        let (job, _) = self.cohort_job(id).await?;
        self.status_of(job).await
    }

    async fn status_of(&self, job: CohortJob) -> Result<CohortStatus, CohortFailed> {
        let items = self.cohort_items(job.id).await?;
        let cohort = self.bundle.cohort(&job.cohort);
        Ok(CohortStatus {
            title: cohort.map(|cohort| cohort.title.clone()),
            why: self.unseal_text(&job.reason).await.ok(),
            counts: CohortCounts::of(items.iter().map(|(item, _)| &item.step)),
            job,
        })
    }

    /// One job with everybody who was on its list. Every look is recorded before it is shown, one entry for each
    /// patient, and counts for approving exactly this list.
    ///
    /// # Errors
    /// [`CohortFailed::Missing`] also where the person has no part in it; EHR and store failures, and then nothing is
    /// shown.
    pub async fn cohort_view(
        &self,
        by: &Human,
        id: CohortJobId,
    ) -> Result<CohortView, CohortFailed> {
        let (job, _) = self.cohort_job(id).await?;
        let cohort = self.bundle.cohort(&job.cohort);
        let cohort = cohort.filter(|cohort| has_part(by, cohort));
        let cohort = cohort.ok_or(CohortFailed::Missing)?;
        let items = self.cohort_items(id).await?;
        let tokens: Vec<PatientToken> = items.iter().map(|(item, _)| item.patient).collect();
        let mut shown = self.initials_of_all(&tokens).await?;
        self.record_list_look(by, &job, &tokens, &shown).await?;
        let waits = self.check_waiting(&job, job.list).is_ok();
        let turn = CohortTurn {
            approve: waits && approves(by, cohort) && by.person != job.requester,
            strike: waits,
            stop: !matches!(job.stage, CohortStage::Ended { .. }),
        };
        let patients = items.into_iter().map(|(item, _)| ListedPatient {
            token: item.patient,
            shown: shown.remove(&item.patient).map(Phi::new),
            step: item.step,
        });
        Ok(CohortView {
            patients: patients.collect(),
            purpose: cohort.purpose.clone(),
            turn,
            status: self.status_of(job).await?,
        })
    }

    async fn initials_of_all(
        &self,
        tokens: &[PatientToken],
    ) -> Result<BTreeMap<PatientToken, Initials>, CohortFailed> {
        let kind = ResourceType::new("Patient").map_err(|_| CohortFailed::Internal)?;
        let now = self.now();
        let reads = tokens.iter().copied().map(|token| {
            let kind = &kind;
            async move {
                let id = match self.patient_id(token).await {
                    Ok(id) => id,
                    Err(failed) if is_gone(&failed) => return Ok(None),
                    Err(failed) => return Err(CohortFailed::from(failed)),
                };
                let patient: Value = match self.ehr.read(kind, &id).await {
                    Ok(patient) => patient,
                    Err(EhrReadFailed::NotFound) => return Ok(None),
                    Err(failed) => return Err(CohortFailed::from(failed)),
                };
                Ok(Some((token, initials_of(&patient, now))))
            }
        });
        let mut reads = futures::stream::iter(reads).buffered(AT_ONCE);
        let mut shown = BTreeMap::new();
        while let Some(read) = reads.next().await {
            shown.extend(read?);
        }
        Ok(shown)
    }

    async fn record_list_look(
        &self,
        by: &Human,
        job: &CohortJob,
        tokens: &[PatientToken],
        shown: &BTreeMap<PatientToken, Initials>,
    ) -> Result<(), CohortFailed> {
        let mut commit = self.commit_as(by.into());
        for token in tokens.iter().filter(|token| shown.contains_key(token)) {
            let ceiling = self.ceiling(PAGE, Some(*token), &FIELDS)?;
            commit.append(
                StreamId::Account(by.account.clone()),
                Expected::Any,
                Event::ReadPermitted(Box::new(ceiling)),
            );
        }
        let until = after(commit.at, SEEN_S);
        let seen = Record::new(LOOKS, seen_key(by, &job.list), Value::Null).expiring(until);
        commit.records.push(RecordChange::Put(seen));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Whether a person was shown exactly this list a moment ago.
    pub(super) async fn has_seen_list(
        &self,
        by: &Human,
        list: &Digest,
    ) -> Result<bool, CohortFailed> {
        let key = RecordKey::new(LOOKS, seen_key(by, list));
        let seen = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?;
        Ok(seen.is_some())
    }
}

fn seen_key(by: &Human, list: &Digest) -> String {
    format!("{PAGE}/{}/{list}", by.account)
}
