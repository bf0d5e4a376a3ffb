//! A proposal: gather, merge, validate, observe, rule, and commit what follows in one transaction.
//!
//! Merge first, then digest (invariant 4): what the reviewer sees and approves is the final body.

mod answer;
mod change;
mod edited;
mod excepted;
mod gather;
mod imagined;
mod known;
mod note;
mod plausible;
mod surroundings;
mod validate;

use chaperone_core::bundle::WriteAction;
use chaperone_core::change::{Change, Direction};
use chaperone_core::content::content_digest;
use chaperone_core::digest::{Digest, PayloadAddress, Salt};
use chaperone_core::edit::CallKept;
use chaperone_core::envelope::{Envelope, GrantSource};
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::{AgentVersion, Ruling, ValidationRecord, WriteOrder};
use chaperone_core::facts::FactValue;
use chaperone_core::ids::{PersonId, WorkId, WritebackId};
use chaperone_core::ports::{
    Commit, CommitFailed, Notice, PayloadClass, Record, RecordChange, RecordKey, WorkChange,
    WorkItem, WorkKind,
};
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::Interaction;
use chaperone_core::writeback::{
    Command, OrderRef, Proposal, RefusedBy, Ruled, Writeback, WritebackEvent,
};
use chaperone_fhir::finding::Finding;
use chaperone_phi::consent::Action;
use serde_json::{Value, json};

use self::answer::{Told, findings_for_agent, refusal};
pub(crate) use self::change::{change_of, reaches_patient};
pub use self::excepted::NotExcepted;
pub(crate) use self::gather::Inputs;
use self::plausible::{Judged, Shown};
pub(crate) use self::plausible::{Plausible, REFILL_CHECKS, RuleSet};
pub(crate) use self::validate::conformant;
pub(crate) use self::validate::limits as proposal_limits;
use crate::afterwork::Piece;
use crate::call::{Admitted, proposal_answer};
use crate::context::{Engine, after};
use crate::errors::CallError;
use crate::merge::{Filling, compose, fill, instant};
use crate::observe::rests_on;
use crate::order::{if_none_exist, order_bytes, provenance_template, way_of, with_patient};
use crate::oversight::maker_of;
use crate::projection::{BY_STATE, row_of};
use crate::refill::PROTOCOL_IN_FORCE;
use crate::transition::{InHand, MoveFailed};

const IDEMPOTENCY: &str = "idempotency";
/// How long an idempotency key is remembered, in seconds.
const IDEMPOTENCY_SECONDS: i64 = 7 * 24 * 3600;

/// A merged result, with what it is.
struct Merged {
    salt: Salt,
    body: String,
    resource: Value,
    change: Change,
    validation: ValidationRecord,
    findings: Vec<Finding>,
}

impl Merged {
    /// Whether schema, profiles and business rules found no error.
    fn is_valid(&self) -> bool {
        !self.findings.iter().any(|it| it.severity.is_error())
    }
}

impl Engine {
    pub(crate) async fn propose(
        &self,
        admitted: &Admitted<'_>,
        write: &WriteAction,
    ) -> Result<Value, CallError> {
        let envelope = &admitted.caller.envelope;
        let (key, request) = self.request_digests(admitted).await?;
        if let Some(answer) = self.answered_before(key, request).await? {
            return Ok(answer);
        }
        let consulted = self
            .consult(admitted, &write.resource, true, Action::Write)
            .await?;
        // From here on the slots are what they stand for; the request rests as the agent sent it.
        let resolved = self.resolve_slots(admitted).await?;
        let as_sent = admitted;
        let admitted = resolved.as_ref().map_or(admitted, |it| &it.admitted);
        let mut inputs = self.gather(admitted, write).await?;
        // Compared as the agent wrote it: a slot means nothing outside its envelope.
        inputs.resembles = self.resembling(as_sent, &inputs).await?;
        let id = WritebackId::from_random(self.random.id());
        let mut merged = self.merge(admitted, write, &inputs, id)?;
        self.consent_to_proposal(&consulted, &inputs, &merged.resource)?;
        let judged = match merged.is_valid() {
            true => Some(self.judge(write, &inputs, &merged.resource).await),
            false => None,
        };
        let mut findings: Vec<Shown> = merged.findings.iter().cloned().map(Shown::from).collect();
        if let Some(judged) = &judged {
            judged.note_in(&mut merged.validation);
            findings.extend(judged.shown.iter().cloned());
        }

        let mut commit = self.commit_as(admitted.caller.actor());
        if let Some(resolved) = &resolved {
            resolved.record(&mut commit);
        }
        admitted.record_followed(&mut commit);
        let payload = self.seal_request(admitted, &mut commit).await?;
        let tainted = self.is_tainted(admitted, &inputs);
        let maker = self
            .bundle
            .agent(&envelope.agent)
            .and_then(|agent| maker_of(agent, admitted.arguments.confidence));
        let proposal = Proposal {
            id,
            envelope: envelope.id,
            agent: envelope.agent.clone(),
            intent: envelope.intent.clone(),
            tool: admitted.tool.name.clone(),
            patient: envelope.patient,
            requester: self.requester(envelope).await?,
            connection: self.ehr.connection().clone(),
            correlation: admitted.correlation,
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
        if let Some(judged) = &judged {
            merged.validation.findings =
                self.seal_findings(admitted, &findings, &mut commit).await?;
            self.decide_valid(
                admitted,
                write,
                &inputs,
                &merged,
                judged,
                tainted,
                &mut hand,
                &mut commit,
            )
            .await?;
        } else {
            let findings = self
                .seal_findings(admitted, &findings, &mut commit)
                .await?
                .ok_or_else(CallError::internal)?;
            hand.step(
                Command::Refuse {
                    refused: RefusedBy::Validation { findings },
                },
                now,
            )
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
            object.insert("correlation".to_owned(), json!(admitted.correlation));
            let mut denial = None;
            if let Writeback::Refused(refused) = &hand.state {
                if let RefusedBy::Policy { code } = refused.by() {
                    denial = Some(code.as_str());
                }
                object.insert("refusal".to_owned(), refusal(refused.by(), refused.ruled()));
            }
            let told = match judged {
                None => Told::Invalid,
                Some(_) => Told::Ruled(denial),
            };
            if let Some(said) = findings_for_agent(&findings, &told, resolved.is_some()) {
                object.insert("findings".to_owned(), said);
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

    fn merge(
        &self,
        admitted: &Admitted<'_>,
        write: &WriteAction,
        inputs: &Inputs,
        id: WritebackId,
    ) -> Result<Merged, CallError> {
        let now = self.now();
        let filling = Filling {
            inputs: &admitted.arguments.inputs,
            targets: &inputs.targets,
            patient_id: inputs.patient_id.as_deref(),
            encounter: inputs.encounter.as_ref(),
            now,
        };
        let filled = fill(&write.template, &filling)
            .map_err(|missing| CallError::invalid_proposal().saying(missing.to_string()))?;
        let copied = write
            .copy
            .as_ref()
            .and_then(|c| inputs.resources.get(&c.from));
        let type_name = write.resource.as_str();
        let has_identifier = self
            .definitions
            .element_type(type_name, "identifier")
            .is_some();
        let resource = compose(
            write,
            inputs.base.as_ref(),
            copied,
            filled,
            has_identifier,
            id,
        );
        let body = serde_json::to_string(&resource).map_err(|_| CallError::internal())?;
        let change = change_of(write, inputs.base.as_ref(), &resource)?;
        let mut salt = [0; 32];
        self.random.fill(&mut salt);
        let salt = Salt::from_random(salt);
        let (mut validation, mut findings) =
            self.validate(write, &salt, &body, &resource, &change, inputs);
        let of_note = self.note_findings(admitted, write);
        validate::count_business_errors(&mut validation, &of_note);
        findings.extend(of_note);
        Ok(Merged {
            salt,
            body,
            resource,
            change,
            validation,
            findings,
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the steps of one decision share one proposal"
    )]
    async fn decide_valid(
        &self,
        admitted: &Admitted<'_>,
        write: &WriteAction,
        inputs: &Inputs,
        merged: &Merged,
        judged: &Judged,
        tainted: bool,
        hand: &mut InHand,
        commit: &mut Commit,
    ) -> Result<(), CallError> {
        let now = self.now();
        let validation = merged.validation.clone();
        let conformant = conformant(validation.clone());
        let command = Command::Validate {
            conformant: &conformant,
            change: merged.change.clone(),
        };
        if let Err(failed) = hand.step(command, now) {
            return Err(move_failed(failed));
        }
        let mut facts = self
            .observe(admitted, write, inputs, &merged.resource, judged.plausible)
            .await?;
        // Found out here, never said: which protocol covers it comes with the ruling.
        let mut protocol = None;
        if write.observe.iter().any(|name| name == PROTOCOL_IN_FORCE) {
            protocol = self.refill_protocol(inputs, &merged.resource).await;
            facts.observe(PROTOCOL_IN_FORCE, FactValue::Bool(protocol.is_some()));
        }
        let maker = hand.state.proposal().maker.clone();
        let called = (&admitted.intent.id, &admitted.tool.name);
        self.observe_calibrated(maker.as_ref(), called, &merged.change, &mut facts)
            .await?;
        let class = merged.change.class().map_err(|_| CallError::denied())?;
        let asked = WriteRequest {
            agent: admitted.caller.envelope.agent.clone(),
            intent: admitted.intent.id.clone(),
            intent_writes: admitted.intent.writes.clone(),
            tool: admitted.tool.name.clone(),
            change: merged.change.clone(),
            class,
            facts: facts.clone(),
            tainted,
            bundle: *self.bundle.digest(),
            at_least: admitted
                .edited
                .as_ref()
                .map(|edited| edited.before.ruling.gate.clone()),
            protocol,
        };
        let (asked, ruling) = self.rule_overseen(asked, maker.as_ref()).await?;
        let order = self
            .make_order(
                admitted, write, inputs, merged, validation, &ruling, asked, hand.id,
            )
            .await?;
        let (bytes, digest) = order_bytes(&order).map_err(|_| CallError::internal())?;
        let sealed = self
            .seal(
                PayloadClass::Clinical,
                admitted.caller.envelope.patient,
                &bytes,
            )
            .await?;
        let approve_by = after(now, self.config.approve_within_s(class));
        let reference = OrderRef {
            digest,
            address: sealed.address,
            strategy: order.strategy,
            approve_by,
            deliver_within_s: self.config.deliver_within_s(class),
        };
        commit.payloads.push(sealed);
        hand.step(
            Command::Rule {
                ruling: &ruling,
                order: reference,
            },
            now,
        )
        .map_err(move_failed)?;
        if matches!(hand.state, Writeback::AwaitingVerification(_)) {
            // Held, not refused, when the facts are not established yet.
            let verify = Command::Verify {
                facts: &facts,
                evidence: &[],
            };
            match hand.step(verify, now) {
                Ok(()) | Err(MoveFailed::Refused(_)) => {}
                Err(failed) => return Err(move_failed(failed)),
            }
        }
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "an order is everything that was agreed to"
    )]
    async fn make_order(
        &self,
        admitted: &Admitted<'_>,
        write: &WriteAction,
        inputs: &Inputs,
        merged: &Merged,
        validation: ValidationRecord,
        ruling: &Ruling,
        asked: WriteRequest,
        id: WritebackId,
    ) -> Result<WriteOrder, CallError> {
        use chaperone_core::evidence::Strategy;
        let envelope = &admitted.caller.envelope;
        let record = ruling.record();
        let profile = self.delivery_profile().await?;
        let support = profile.of(&write.resource, write.interaction);
        let change = (&write.resource, write.interaction, merged.body.as_str());
        let way = way_of(&support, record, &validation, change);
        let strategy = way.strategy;
        let base_text = |pointer: &str| {
            inputs
                .base
                .as_ref()
                .and_then(|b| b.pointer(pointer))
                .and_then(Value::as_str)
        };
        let base_version = base_text("/meta/versionId").map(str::to_owned);
        let path = match (write.interaction, base_text("/id")) {
            (Interaction::Create, _) => write.resource.to_string(),
            (_, Some(base_id)) => format!("{}/{base_id}", write.resource),
            (_, None) => return Err(CallError::invalid_proposal()),
        };
        let author = self.author(admitted)?;
        let is_conditional = strategy == Strategy::Conditional;
        let is_create = write.interaction == Interaction::Create;
        let edit = admitted.edited.as_ref().map(|edited| edited.link.clone());
        let provenance = support.provenance.then(|| {
            let recorded = instant(self.now());
            let made =
                provenance_template(&author, edit.as_ref(), write.interaction, record, &recorded);
            match &inputs.patient_id {
                Some(patient) => with_patient(made, record, patient),
                None => made,
            }
            .to_string()
        });
        Ok(WriteOrder {
            salt: merged.salt,
            tenant: self.config.tenant.clone(),
            writeback: id,
            patient: envelope.patient,
            connection: self.ehr.connection().clone(),
            endpoint: self.ehr.endpoint().to_owned(),
            interaction: write.interaction,
            resource: write.resource.clone(),
            path,
            if_none_exist: (is_conditional && is_create).then(|| if_none_exist(id)),
            if_match: match (is_conditional, is_create, &base_version) {
                (true, false, Some(version)) => Some(format!("W/\"{version}\"")),
                _ => None,
            },
            base_version,
            base_digest: inputs.base.as_ref().map(content_digest),
            base: inputs.base.as_ref().map(Value::to_string),
            body: merged.body.clone(),
            provenance,
            strategy,
            operation: way.operation,
            signed_form: way.signed_form,
            gate: record.gate.clone(),
            class: record.class,
            bundle: record.bundle,
            validation,
            author,
            evidence: evidence_digests(admitted),
            rests_on: rests_on(&asked.facts),
            resembles: inputs.resembles.clone(),
            asked: Some(Box::new(asked)),
            call: Some(Box::new(CallKept {
                inputs: admitted.arguments.inputs.clone(),
                encounter: envelope.encounter,
                purpose: envelope.purpose.clone(),
            })),
            edit,
        })
    }

    fn author(&self, admitted: &Admitted<'_>) -> Result<AgentVersion, CallError> {
        let agent = self
            .bundle
            .agent(&admitted.caller.envelope.agent)
            .ok_or_else(CallError::agent_refused)?;
        Ok(AgentVersion {
            agent: agent.id.clone(),
            version: agent.version.clone(),
            model: agent.model.clone(),
            prompts: agent.prompts.clone(),
        })
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

fn evidence_digests(admitted: &Admitted<'_>) -> Vec<Digest> {
    let rationale = admitted
        .arguments
        .rationale
        .iter()
        .map(|text| Digest::of_bytes(text.as_bytes()));
    let sources = admitted
        .arguments
        .sources
        .iter()
        .map(|token| Digest::of_bytes(token.to_string().as_bytes()));
    rationale.chain(sources).collect()
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
