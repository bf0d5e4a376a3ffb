//! An approved list, patient by patient: so many grants a minute, each after one more look at the patient; what became
//! of the grants; and the end.
//!
//! ```text
//! Listed ─┬─▶ LeftOut (does not fit any more, time up)
//!         └─▶ Granted ─┬─▶ Used
//!                      └─▶ Unused
//! ```

use chaperone_core::Timestamp;
use chaperone_core::cohort::{
    CohortCounts, CohortDeclaration, CohortEnd, CohortEvent, CohortRemoval, CohortStep,
};
use chaperone_core::envelope::{Grant, GrantSource};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{CohortJobId, GrantId};
use chaperone_core::mode::ModeSubject;
use chaperone_core::ports::{EhrReadFailed, Expected, Guard, LISTED_MAX, RecordChange};
use chaperone_core::principal::{Actor, SystemPart};

use super::{
    CohortFailed, CohortJob, CohortStage, Item, OPEN, Seen, item_key, item_record, job_record,
};
use crate::context::{Engine, after};
use crate::errors::CallError;

/// The time over which grants are counted, in seconds.
const MINUTE_S: i64 = 60;

impl Engine {
    /// Goes on with every job. Returns how many patients moved.
    ///
    /// # Errors
    /// When the jobs cannot be listed; one that cannot go on is told in the log and looked at again.
    pub async fn advance_cohorts(&self) -> Result<u64, CohortFailed> {
        let mut moved = 0_u64;
        for job in self.cohort_jobs_in(OPEN, LISTED_MAX).await? {
            match self.advance_cohort(job.id).await {
                Ok(count) => moved = moved.saturating_add(count),
                // Another node, or a person, was at it: it is looked at again.
                Err(CohortFailed::Again) => {}
                Err(failed) => {
                    tracing::warn!(job = %job.id, error = %failed, "a cohort job did not go on");
                }
            }
        }
        Ok(moved)
    }

    /// Goes on with one job as far as it can now. Returns how many patients moved.
    ///
    /// # Errors
    /// [`CohortFailed::Again`] when somebody was at the same job; EHR and store failures. What was done before stays
    /// done, each patient once.
    pub async fn advance_cohort(&self, id: CohortJobId) -> Result<u64, CohortFailed> {
        let (job, revision) = self.cohort_job(id).await?;
        let is_current = job.bundle == *self.bundle.digest();
        match job.stage {
            CohortStage::Ended { .. } => Ok(0),
            _ if !is_current => {
                let ended = CohortEnd::RulesChanged;
                self.end_cohort(dispatching(), job, revision, ended).await?;
                Ok(0)
            }
            CohortStage::Listed if self.now() >= job.until => {
                let ended = CohortEnd::NotApproved;
                self.end_cohort(dispatching(), job, revision, ended).await?;
                Ok(0)
            }
            CohortStage::Listed => Ok(0),
            CohortStage::Approved { .. } => self.work_off(job, revision).await,
        }
    }

    async fn work_off(&self, mut job: CohortJob, mut revision: u64) -> Result<u64, CohortFailed> {
        let cohort = self.bundle.cohort(&job.cohort);
        let cohort = cohort.ok_or(CohortFailed::RulesChanged)?;
        let mut moved = 0_u64;
        for (item, seen) in self.cohort_items(job.id).await? {
            let is_over = self.now() >= job.until;
            let step = match &item.step {
                CohortStep::Granted { grant, .. } => match self.cohort_grant_end(*grant).await? {
                    Some(step) => step,
                    None => continue,
                },
                CohortStep::Listed if is_over => CohortStep::LeftOut {
                    because: CohortRemoval::TimeUp,
                },
                CohortStep::Listed => {
                    if !self.may_grant_now(cohort, &job).await? {
                        continue;
                    }
                    let looked = self.still_fits(cohort, &job.arguments, item.patient).await;
                    match looked {
                        // The EHR answers nobody's questions now.
                        Err(CohortFailed::Ehr(
                            failed @ (EhrReadFailed::Unavailable | EhrReadFailed::RateLimited),
                        )) => return Err(failed.into()),
                        // What cannot be told of one patient holds up none of the others.
                        Err(failed) => {
                            tracing::info!(job = %job.id, error = %failed, "a patient of a list is looked at again");
                            continue;
                        }
                        Ok(Err(because)) => CohortStep::LeftOut { because },
                        Ok(Ok(())) => {
                            self.grant_of_list(cohort, &mut job, revision, (item.clone(), seen))
                                .await?;
                            revision = revision.saturating_add(1);
                            moved = moved.saturating_add(1);
                            continue;
                        }
                    }
                }
                _ => continue,
            };
            self.move_listed(&job, item, seen, step).await?;
            moved = moved.saturating_add(1);
        }
        let items = self.cohort_items(job.id).await?;
        let counts = CohortCounts::of(items.iter().map(|(item, _)| &item.step));
        if counts.is_settled() {
            let commit = self.commit_as(dispatching());
            let finished = CohortEnd::Finished;
            self.close_job(commit, job, revision, &items, finished)
                .await?;
        } else if moved > 0 {
            self.announce_change();
        }
        Ok(moved)
    }

    /// Whether one more grant may be made now: everything is switched on, the agreements with the agent's providers
    /// hold, and there is room in this minute. The switches are read from the ledger, not from what is kept of them.
    async fn may_grant_now(
        &self,
        cohort: &CohortDeclaration,
        job: &CohortJob,
    ) -> Result<bool, CohortFailed> {
        let now = self.now();
        let room = usize::try_from(cohort.grants_per_minute).unwrap_or(usize::MAX);
        if recent(&job.made, now).count() >= room {
            return Ok(false);
        }
        let Some(agent) = self.bundle.agent(&job.agent) else {
            return Ok(false);
        };
        if self.check_standing(agent, now).is_err() {
            return Ok(false);
        }
        let (modes, _version) = self.modes().await?;
        let subject = ModeSubject {
            agent: Some(&job.agent),
            intent: Some(&job.intent),
            ehr: Some(self.ehr.connection()),
            ..ModeSubject::default()
        };
        // Outreach is never urgent: with anything switched off, it waits.
        Ok(modes.effective(subject).delivers())
    }

    /// One patient's grant: the row, the job and the grant in one commit, under what was seen of both.
    async fn grant_of_list(
        &self,
        cohort: &CohortDeclaration,
        job: &mut CohortJob,
        revision: u64,
        (item, seen): Seen,
    ) -> Result<(), CohortFailed> {
        let mut commit = self.commit_as(dispatching());
        let now = commit.at;
        // What was waited for may have taken the time that was left.
        if now >= job.until {
            return Err(CohortFailed::Again);
        }
        let grant = Grant {
            id: GrantId::from_random(self.random.id()),
            tenant: self.config.tenant.clone(),
            agent: job.agent.clone(),
            intent: job.intent.clone(),
            patient: Some(item.patient),
            encounter: None,
            work_item: None,
            presence: None,
            source: GrantSource::Cohort {
                job: job.id,
                requester: job.requester,
            },
            expires: after(now, i64::from(cohort.grant_minutes).saturating_mul(60)),
        };
        self.put_grant(&mut commit, &grant)?;
        let granted = Item {
            step: CohortStep::Granted {
                grant: grant.id,
                at: now,
                until: grant.expires,
            },
            ..item
        };
        commit
            .records
            .push(RecordChange::Update(item_record(job.id, &granted)?, seen));
        let mut made: Vec<Timestamp> = recent(&job.made, now).collect();
        made.push(now);
        job.made = made;
        commit
            .records
            .push(RecordChange::Update(job_record(job)?, revision));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// What became of one patient beside a new grant.
    async fn move_listed(
        &self,
        job: &CohortJob,
        item: Item,
        seen: u64,
        step: CohortStep,
    ) -> Result<(), CohortFailed> {
        let mut commit = self.commit_as(dispatching());
        if let CohortStep::LeftOut { because } = step {
            let event = CohortEvent::LeftOut {
                patient: item.patient,
                because,
                grant: None,
            };
            let stream = StreamId::Cohort(job.id);
            commit.append(stream, Expected::Any, Event::Cohort(event));
        }
        let item = Item { step, ..item };
        commit
            .records
            .push(RecordChange::Update(item_record(job.id, &item)?, seen));
        self.store.commit(commit).await?;
        Ok(())
    }

    /// Whether a grant of a list still opens an envelope: the job goes on under the same rules, the list counts the
    /// grant as waiting, and the patient still may be on it. The agent is told of a refusal what it is told of any grant.
    /// Returns what must still hold at the commit, as asking the EHR takes its time; nothing for other grants.
    ///
    /// # Errors
    /// `grant-refused`; `ehr-unavailable` when nobody can tell now, and then the grant still waits.
    pub(crate) async fn check_cohort_grant(
        &self,
        grant: &Grant,
    ) -> Result<Option<Guard>, CallError> {
        let GrantSource::Cohort { job, .. } = &grant.source else {
            return Ok(None);
        };
        let refused = CallError::grant_refused;
        let Some(patient) = grant.patient else {
            return Err(refused());
        };
        let unread = |failed| match failed {
            CohortFailed::Store(failed) => CallError::from(failed),
            _ => refused(),
        };
        // Whatever ends the job changes this as well.
        let (item, revision) = self.cohort_item(*job, patient).await.map_err(unread)?;
        let waits = matches!(&item.step, CohortStep::Granted { grant: waiting, .. } if *waiting == grant.id);
        if !waits {
            return Err(refused());
        }
        let (job, _) = self.cohort_job(*job).await.map_err(unread)?;
        let is_current = matches!(job.stage, CohortStage::Approved { .. })
            && job.bundle == *self.bundle.digest();
        let cohort = self.bundle.cohort(&job.cohort).filter(|_| is_current);
        let cohort = cohort.ok_or_else(refused)?;
        match self.still_fits(cohort, &job.arguments, patient).await {
            Ok(Ok(())) => Ok(Some(Guard::RecordAt {
                key: item_key(job.id, patient),
                revision: Some(revision),
            })),
            Ok(Err(_because)) => Err(refused()),
            Err(CohortFailed::Ehr(failed)) => Err(failed.into()),
            Err(CohortFailed::Store(failed)) => Err(failed.into()),
            Err(_) => Err(CallError::internal()),
        }
    }
}

/// The times of the last minute.
fn recent(made: &[Timestamp], now: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
    made.iter()
        .copied()
        .filter(move |at| now.duration_since(*at).as_secs() < MINUTE_S)
}

fn dispatching() -> Actor {
    Actor::System {
        part: SystemPart::Dispatcher,
    }
}
