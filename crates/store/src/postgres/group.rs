//! Group commit on PostgreSQL: one task per tenant collects the commits that wait and hands them to
//! `commit` as one database transaction. Nodes take turns through the tenant's head row.
//!
//! A commit that makes the database fail must not take its neighbours with it: when a group's statement
//! is refused, each of its commits is tried again alone.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use chaperone_core::ids::TenantId;
use chaperone_core::ports::{Commit, CommitFailed, Committed};
use tokio::sync::{mpsc, oneshot};

use super::commit::{self, GroupFailed};
use super::session::{Sessions, sqlstate};
use crate::plan::{self, payload_bytes};

/// Commits waiting per tenant; beyond this, callers wait.
const QUEUE_MAX: usize = 1_024;

/// Commits of one transaction.
const GROUP_MAX: usize = 256;

/// Payload bytes after which a transaction takes no further commit: 16 MiB.
const GROUP_BYTES_MAX: usize = 16 << 20;

type Answer = Result<Committed, CommitFailed>;

/// A commit and who waits for it.
struct Pending {
    commit: Commit,
    tell: oneshot::Sender<Answer>,
}

impl Pending {
    fn answer(self, answer: Answer) {
        // The caller may have stopped waiting.
        drop(self.tell.send(answer));
    }
}

/// One failure told to everybody in the group.
#[derive(Debug, Clone)]
struct Shared(Arc<dyn Error + Send + Sync>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database transaction failed")
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// The tenant's task has ended.
#[derive(Debug, thiserror::Error)]
#[error("the store's writer has stopped")]
struct WriterStopped;

/// The tenants' queues. Their tasks end when this is dropped; there are as many as tenants.
pub(super) struct Groups {
    sessions: Sessions,
    queues: Mutex<HashMap<TenantId, mpsc::Sender<Pending>>>,
}

impl Groups {
    pub(super) fn new(sessions: Sessions) -> Self {
        Self {
            sessions,
            queues: Mutex::new(HashMap::new()),
        }
    }

    /// Commits with whoever else commits for this tenant at the moment. The commit runs to its end even
    /// when the caller stops waiting.
    pub(super) async fn commit(&self, commit: Commit) -> Answer {
        plan::fit(&commit)?;
        let (tell, told) = oneshot::channel();
        let queue = self.queue(&commit.tenant);
        if queue.send(Pending { commit, tell }).await.is_err() {
            return Err(CommitFailed::Unavailable(Box::new(WriterStopped)));
        }
        match told.await {
            Ok(answer) => answer,
            Err(_) => Err(CommitFailed::Indeterminate(Box::new(WriterStopped))),
        }
    }

    fn queue(&self, tenant: &TenantId) -> mpsc::Sender<Pending> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        match queues.get(tenant).filter(|queue| !queue.is_closed()) {
            Some(queue) => queue.clone(),
            None => {
                let (queue, waiting) = mpsc::channel(QUEUE_MAX);
                tokio::spawn(run(self.sessions.clone(), tenant.clone(), waiting));
                queues.insert(tenant.clone(), queue.clone());
                queue
            }
        }
    }
}

async fn run(sessions: Sessions, tenant: TenantId, mut waiting: mpsc::Receiver<Pending>) {
    while let Some(first) = waiting.recv().await {
        // Callers that have just been answered get a moment to ask again, so that they join this group
        // and not the one after.
        tokio::task::yield_now().await;
        let mut bytes = payload_bytes(&first.commit);
        let mut group = vec![first];
        while group.len() < GROUP_MAX && bytes < GROUP_BYTES_MAX {
            match waiting.try_recv() {
                Ok(next) => {
                    bytes = bytes.saturating_add(payload_bytes(&next.commit));
                    group.push(next);
                }
                Err(_) => break,
            }
        }
        settle(&sessions, &tenant, group).await;
    }
}

async fn settle(sessions: &Sessions, tenant: &TenantId, group: Vec<Pending>) {
    match attempt(sessions, tenant, &group).await {
        Err(GroupFailed::Before(trouble)) if trouble.is_refused_statement() && group.len() > 1 => {
            tracing::warn!(%tenant, error = %trouble, sqlstate = trouble.sqlstate(), "a group commit was refused; trying its commits one by one");
            for pending in group {
                let alone = vec![pending];
                let outcome = attempt(sessions, tenant, &alone).await;
                answer(tenant, alone, outcome);
            }
        }
        outcome => answer(tenant, group, outcome),
    }
}

type Outcome = Result<Vec<Answer>, GroupFailed>;

/// Commits the group; once more when the connection was gone before anything happened.
async fn attempt(sessions: &Sessions, tenant: &TenantId, group: &[Pending]) -> Outcome {
    let commits: Vec<&Commit> = group.iter().map(|pending| &pending.commit).collect();
    match commit::commit_group(sessions, tenant, &commits).await {
        Err(GroupFailed::Before(trouble)) if trouble.is_lost_connection() => {
            sessions.forget_idle();
            commit::commit_group(sessions, tenant, &commits).await
        }
        outcome => outcome,
    }
}

fn answer(tenant: &TenantId, group: Vec<Pending>, outcome: Outcome) {
    match outcome {
        Ok(answers) => {
            for (pending, answer) in group.into_iter().zip(answers) {
                pending.answer(answer);
            }
        }
        Err(GroupFailed::Before(trouble)) => {
            tracing::error!(%tenant, error = %trouble, sqlstate = trouble.sqlstate(), "the store could not commit");
            let shared = Shared(Arc::new(trouble));
            for pending in group {
                pending.answer(Err(CommitFailed::Unavailable(Box::new(shared.clone()))));
            }
        }
        Err(GroupFailed::AtCommit { error, accepted }) => {
            tracing::error!(%tenant, sqlstate = sqlstate(&error), "the store did not say whether it committed");
            let shared = Shared(Arc::new(error));
            // A refusal may rest on a neighbour whose fate is unknown, so it is not passed on; of the
            // refused commits themselves, certainly nothing happened.
            for (pending, accepted) in group.into_iter().zip(accepted) {
                let source = Box::new(shared.clone());
                pending.answer(Err(if accepted {
                    CommitFailed::Indeterminate(source)
                } else {
                    CommitFailed::Unavailable(source)
                }));
            }
        }
    }
}
