//! A proposal: gather, merge, validate, observe, rule, and commit what follows in one transaction.
//!
//! Merge first, then digest (invariant 4): what the reviewer sees and approves is the final body.
//!
//! ```text
//! part: consent, slots, gather, merge, validate ─┐
//! part: …                                        ├─▶ judge_all ─▶ decide_valid (`ruled`) ─▶ make_order (`ordered`)
//! ```
//! A call has one part. `together` takes several calls as one proposal: they are valid, ruled on and sent as one or
//! not at all.

mod answer;
mod change;
mod edited;
mod excepted;
mod gather;
mod imagined;
mod known;
mod note;
mod ordered;
mod part;
mod plausible;
mod ruled;
mod surroundings;
mod together;
mod validate;

use chaperone_core::bundle::WriteAction;
use chaperone_core::change::Direction;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::envelope::{Envelope, GrantSource};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{PersonId, WorkId, WritebackId};
use chaperone_core::ports::{
    Commit, CommitFailed, Notice, PayloadClass, Record, RecordChange, RecordKey, WorkChange,
    WorkItem, WorkKind,
};
use chaperone_core::resource::Interaction;
use chaperone_core::writeback::{Command, Proposal, RefusedBy, Ruled, Writeback, WritebackEvent};
use serde_json::{Value, json};

use self::answer::{Told, decisions, findings_for_agent, refusal};
pub(crate) use self::change::{change_of, reaches_patient};
pub use self::excepted::NotExcepted;
pub(crate) use self::gather::{Inputs, is_part};
use self::part::{Part, Place, are_distinct, shown_of_all};
use self::plausible::Shown;
pub(crate) use self::plausible::{Plausible, REFILL_CHECKS, RuleSet};
use self::ruled::MadeBy;
pub(crate) use self::surroundings::Measured;
pub(crate) use self::validate::conformant;
pub(crate) use self::validate::limits as proposal_limits;
use crate::afterwork::Piece;
use crate::call::{Admitted, proposal_answer};
use crate::context::{Engine, after};
use crate::errors::CallError;
use crate::oversight::maker_of;
use crate::projection::{BY_STATE, row_of};
use crate::transition::{InHand, MoveFailed};

const IDEMPOTENCY: &str = "idempotency";
/// The fact that something concerns more than one patient.
const CROSS_PATIENT: &str = "cross_patient";
/// The fact that the record is under legal hold.
pub(crate) const LEGAL_HOLD: &str = "legal_hold";
/// The fact that the agent went over its limits.
const BULK_LIMIT_REACHED: &str = "bulk_limit_reached";
/// How long an idempotency key is remembered, in seconds.
const IDEMPOTENCY_SECONDS: i64 = 7 * 24 * 3600;

impl Engine {
    /// Proposes one change.
    pub(crate) async fn propose(
        &self,
        admitted: &Admitted<'_>,
        write: &WriteAction,
    ) -> Result<Value, CallError> {
        self.propose_all(admitted, &[(admitted, write)]).await
    }

    /// Proposes what the calls ask for, as one write-back: a single call, or several that are decided and sent
    /// together. `whole` is the call as it came in.
    async fn propose_all(
        &self,
        whole: &Admitted<'_>,
        calls: &[(&Admitted<'_>, &WriteAction)],
    ) -> Result<Value, CallError> {
        let envelope = &whole.caller.envelope;
        let (key, request) = self.request_digests(whole).await?;
        if let Some(answer) = self.answered_before(key, request).await? {
            return Ok(answer);
        }
        let id = WritebackId::from_random(self.random.id());
        let salt = self.new_salt();
        let mut parts = Vec::with_capacity(calls.len());
        for (at, (call, write)) in calls.iter().enumerate() {
            let place = Place {
                id,
                salt: &salt,
                at,
            };
            let part = self.part(call, write, place).await;
            parts.push(part.map_err(|failed| failed.of_change(at, calls.len()))?);
        }
        if !are_distinct(&parts) {
            return Err(CallError::invalid_proposal()
                .about("changes")
                .saying("two of these changes are of the same resource; make them one"));
        }
        let are_valid = parts.iter().all(Part::is_valid);
        if are_valid {
            self.judge_all(&mut parts).await;
        }
        let findings = shown_of_all(&parts);
        let has_resolved = parts.iter().any(|part| part.resolved.is_some());

        let mut commit = self.commit_as(whole.caller.actor());
        for part in &parts {
            if let Some(resolved) = &part.resolved {
                resolved.record(&mut commit);
            }
            part.admitted().record_followed(&mut commit);
        }
        let payload = self.seal_request(whole, &mut commit).await?;
        let tainted = parts
            .iter()
            .any(|part| self.is_tainted(part.admitted(), &part.inputs));
        let maker = self
            .bundle
            .agent(&envelope.agent)
            .and_then(|agent| maker_of(agent, whole.arguments.confidence));
        let proposal = Proposal {
            id,
            envelope: envelope.id,
            agent: envelope.agent.clone(),
            intent: envelope.intent.clone(),
            tool: whole.tool.name.clone(),
            patient: envelope.patient,
            requester: self.requester(envelope).await?,
            connection: self.ehr.connection().clone(),
            correlation: whole.correlation,
            idempotency_key: key,
            request,
            payload,
            tainted,
            undo: None,
            maker,
            edit: None,
        };
        let now = self.now();
        let mut hand = InHand::propose(WritebackEvent::Proposed(Box::new(proposal)), id, now)
            .map_err(move_failed)?;
        let sealed = self.seal_findings(whole, &findings, &mut commit).await?;
        if are_valid {
            self.decide_valid(&parts, MadeBy::Agent, sealed, &mut hand, &mut commit)
                .await?;
        } else {
            let findings = sealed.ok_or_else(CallError::internal)?;
            let refused = RefusedBy::Validation { findings };
            hand.step(Command::Refuse { refused }, now)
                .map_err(move_failed)?;
        }
        commit.records.push(RecordChange::Create(
            Record::new(
                IDEMPOTENCY,
                key,
                json!({ "request": request, "proposal": id }),
            )
            .expiring(after(now, IDEMPOTENCY_SECONDS)),
        ));
        self.enqueue(&hand, &mut commit);
        let row = hand.write_into(&mut commit)?;
        match self.store.commit(commit).await {
            Ok(_) => {}
            Err(CommitFailed::Record { collection }) if collection == IDEMPOTENCY => {
                // The same proposal arrived twice at once, and the other one was first.
                return self
                    .answered_before(key, request)
                    .await?
                    .ok_or_else(CallError::internal);
            }
            Err(failed) => return Err(failed.into()),
        }
        self.announce_change();
        self.notify_waiting(&hand);
        self.after_consent(&hand).await;
        metrics::counter!("chaperone_proposals_total", "state" => row.state.as_str()).increment(1);
        let mut answer = proposal_answer(&row);
        if let Some(object) = answer.as_object_mut() {
            object.insert("correlation".to_owned(), json!(whole.correlation));
            let mut denial = None;
            if let Writeback::Refused(refused) = &hand.state {
                if let RefusedBy::Policy { code } = refused.by() {
                    denial = Some(code.as_str());
                }
                object.insert("refusal".to_owned(), refusal(refused.by(), refused.ruled()));
            }
            let told = match are_valid {
                false => Told::Invalid,
                true => Told::Ruled(denial),
            };
            if let Some(said) = findings_for_agent(&findings, &told, has_resolved) {
                object.insert("findings".to_owned(), said);
            }
            if parts.len() > 1 {
                object.insert("changes".to_owned(), decisions(&parts, hand.state.ruled()));
            }
        }
        Ok(answer)
    }

    /// The idempotency key and what it stands for, as they are recorded.
    async fn request_digests(
        &self,
        admitted: &Admitted<'_>,
    ) -> Result<(Digest, Digest), CallError> {
        let envelope = &admitted.caller.envelope;
        let asked = serde_json::to_vec(&(
            &envelope.intent,
            &admitted.tool.name,
            envelope.patient,
            envelope.encounter,
            &admitted.arguments.raw,
        ))
        .map_err(|_| CallError::internal())?;
        let transcript = PayloadClass::Transcript;
        // The same key for another patient is a conflict too, so it is the tenant's.
        let parts = [
            envelope.agent.as_str().as_bytes(),
            admitted.arguments.idempotency_key.as_bytes(),
        ];
        let key = self.keyed_digest(transcript, None, &parts).await?;
        let request = self
            .keyed_digest(transcript, envelope.patient, &[&asked])
            .await?;
        Ok((key, request))
    }

    /// The human the agent acts for: who is present, or else who put the patient before it.
    ///
    /// # Source
    /// Requirement R033: where two people must agree, neither is the requester.
    async fn requester(&self, envelope: &Envelope) -> Result<Option<PersonId>, CallError> {
        if let Some(present) = &envelope.presence {
            return Ok(Some(present.person));
        }
        let Some(grant) = envelope.grant else {
            return Ok(None);
        };
        let events = self
            .store
            .stream(&self.config.tenant, &StreamId::Grant(grant))
            .await?;
        Ok(events.iter().find_map(|recorded| match &recorded.event {
            Event::GrantIssued(grant) => match grant.source {
                GrantSource::Human { person } => Some(person),
                GrantSource::Cohort { requester, .. } => Some(requester),
                _ => None,
            },
            _ => None,
        }))
    }

    /// The answer given earlier under the same key, if the content is the same.
    async fn answered_before(
        &self,
        key: Digest,
        request: Digest,
    ) -> Result<Option<Value>, CallError> {
        let tenant = &self.config.tenant;
        let record = self
            .store
            .record(tenant, &RecordKey::new(IDEMPOTENCY, key), self.now())
            .await?;
        let Some(record) = record else {
            return Ok(None);
        };
        let text = |field: &str| record.value.get(field).and_then(Value::as_str);
        if text("request") != Some(request.to_string().as_str()) {
            return Err(CallError::idempotency_conflict().about("idempotency_key"));
        }
        let proposal = text("proposal").ok_or_else(CallError::internal)?;
        let row = self
            .store
            .projection(tenant, &RecordKey::new(BY_STATE, proposal))
            .await?
            .ok_or_else(CallError::internal)?;
        Ok(Some(proposal_answer(&row_of(&row)?)))
    }

    /// Whether anything the proposal rests on is text from outside. Documents and messages are; so is
    /// everything while the agent's context may hold them, or free text of any other kind, and what says the same as
    /// a text that agents were shown of this patient.
    fn is_tainted(&self, admitted: &Admitted<'_>, inputs: &Inputs) -> bool {
        const OUTSIDE: [&str; 3] = [
            "DocumentReference",
            "Communication",
            "QuestionnaireResponse",
        ];
        let reads_outside = admitted
            .intent
            .view
            .keys()
            .any(|r| OUTSIDE.contains(&r.as_str()));
        reads_outside
            || !admitted.intent.text.is_empty()
            || !inputs.resembles.is_empty()
            || inputs
                .targets
                .values()
                .map(|target| &target.resource)
                .chain(&inputs.sources)
                .any(|resource| OUTSIDE.contains(&resource.as_str()))
    }

    async fn seal_request(
        &self,
        admitted: &Admitted<'_>,
        commit: &mut Commit,
    ) -> Result<PayloadAddress, CallError> {
        let bytes =
            serde_json::to_vec(&admitted.arguments.raw).map_err(|_| CallError::internal())?;
        let sealed = self
            .seal(
                PayloadClass::Transcript,
                admitted.caller.envelope.patient,
                &bytes,
            )
            .await?;
        let address = sealed.address;
        commit.payloads.push(sealed);
        Ok(address)
    }

    async fn seal_findings(
        &self,
        admitted: &Admitted<'_>,
        findings: &[Shown],
        commit: &mut Commit,
    ) -> Result<Option<PayloadAddress>, CallError> {
        if findings.is_empty() {
            return Ok(None);
        }
        let bytes = serde_json::to_vec(findings).map_err(|_| CallError::internal())?;
        let sealed = self
            .seal(
                PayloadClass::Derived,
                admitted.caller.envelope.patient,
                &bytes,
            )
            .await?;
        let address = sealed.address;
        commit.payloads.push(sealed);
        Ok(Some(address))
    }

    /// Work that follows from the state: a delivery when it is ready, an end when it waits.
    pub(crate) fn enqueue(&self, hand: &InHand, commit: &mut Commit) {
        let item = |kind, order_key, due| WorkItem {
            id: WorkId::from_random(self.random.id()),
            kind,
            subject: hand.id.to_string(),
            order_key,
            due,
        };
        let work = match &hand.state {
            Writeback::Ready(ready) => item(WorkKind::Deliver, order_key(ready.ruled()), commit.at),
            Writeback::AwaitingApproval(waiting) => {
                let first = self.first_look(waiting.ruled(), commit.at);
                item(WorkKind::Expire, None, first)
            }
            Writeback::AwaitingVerification(waiting) => {
                item(WorkKind::Expire, None, waiting.ruled().order.approve_by)
            }
            _ => return,
        };
        commit.work.push(WorkChange::Enqueue(work));
    }

    pub(crate) fn notify_waiting(&self, hand: &InHand) {
        use chaperone_core::gate::Gate;
        let Some(waiting) = hand.state.before_people() else {
            return;
        };
        let roles = match &waiting.ruled().ruling.gate {
            Gate::Approve { roles } | Gate::Approve2f { roles } => roles.iter().copied().collect(),
            Gate::TwoPerson { first, second } => vec![*first, *second],
            _ => return,
        };
        let notice = Notice::ApprovalWaiting {
            writeback: hand.id,
            roles,
        };
        self.after(Piece::Notify(self.config.tenant.clone(), notice));
    }
}

/// Whether it is a call for help or an opting out, which wait for nothing.
pub(crate) fn never_waits(ruled: &Ruled) -> bool {
    let change = &ruled.change;
    (change.resource.as_str() == "Flag" && change.interaction == Interaction::Create)
        || change.direction == Direction::MorePrivate
}

/// Writes for one patient keep their order; messages to the patient have an order of their own, because they wait
/// for the morning and the record does not. Safety flags and opt-outs wait for nothing, not even for
/// each other, so that no write of unknown outcome can hold them up (invariant 5).
fn order_key(ruled: &Ruled) -> Option<String> {
    if never_waits(ruled) {
        return None;
    }
    let change = &ruled.change;
    let is_message = ["Communication", "CommunicationRequest"].contains(&change.resource.as_str());
    Some(match ruled.proposal.patient {
        Some(patient) if is_message => format!("message/{patient}"),
        Some(patient) => format!("patient/{patient}"),
        None => "patient/none".to_owned(),
    })
}

pub(crate) fn move_failed(failed: MoveFailed) -> CallError {
    match failed {
        MoveFailed::Missing => CallError::not_found(),
        MoveFailed::Refused(refusal) => {
            tracing::warn!(
                code = refusal.code(),
                "a proposal was refused by the state machine"
            );
            CallError::denied().saying(refusal.to_string())
        }
        MoveFailed::Store(failed) => failed.into(),
    }
}
