//! A person changes what an agent proposed, and approves the change afterwards like anything else.
//!
//! What is changed are the inputs of the agent's tool, never the record itself. The change is a proposal of its own: it
//! goes through everything that an agent's does, and takes the place of the other in the same commit, so that one of
//! them can be delivered at most. Nothing that was given for the other counts for it.
//!
//! ```text
//! form ─▶ read, role, claim, time ─▶ inputs ─▶ consent, gather, merge, validate, observe, rule (the old gate at least)
//!                                              │ refused, or not valid: nothing happens, and the person is told
//!                                              ▼
//!                        one commit: the old one ends as edited, the new one waits
//! ```
//! Whom it is about, which agent and tool made it, and what it refers to are never changed. Where two people must
//! agree, whoever changed it is neither of them (`Proposal::is_asked_by`). Start at [`Engine::edit`]; how the new
//! proposal is made is in `propose::edited`.

use std::collections::BTreeMap;

use chaperone_core::bundle::{InputDeclaration, InputType, ToolDeclaration};
use chaperone_core::canary::CanaryEnd;
use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::edit::{EDITS_MAX, EditLink};
use chaperone_core::event::DecisionKind;
use chaperone_core::evidence::WriteOrder;
use chaperone_core::ids::{PersonId, WritebackId};
use chaperone_core::ports::{Commit, StoreFailed};
use chaperone_core::principal::{Actor, Human};
use chaperone_core::writeback::{Command, Refusal, RefusedBy, Ruled, Writeback};
use chaperone_phi::scrub::slots::slot_in;
use serde_json::Value;

use crate::approve::{DecideFailed, gate_role};
use crate::arguments::check_value;
use crate::context::Engine;
use crate::errors::CallError;
use crate::projection::WritebackRow;
use crate::transition::InHand;

/// What a person makes of a proposal.
#[derive(Debug, Clone)]
pub struct EditRequest {
    /// The write-back.
    pub writeback: WritebackId,
    /// The digest that was on the screen.
    pub digest: Digest,
    /// Inputs as they stood in the form, by name; an input that is not named stays as it is.
    pub inputs: BTreeMap<String, String>,
    /// Why.
    pub reason: String,
}

/// Why a proposal was not changed. The other stays as it was then.
#[derive(Debug, thiserror::Error)]
pub enum EditFailed {
    /// This person, or anybody, cannot decide about it now.
    #[error(transparent)]
    Decide(#[from] DecideFailed),
    /// It was not made by an agent's tool with inputs that are kept.
    #[error("this cannot be changed here: it was not made from inputs that are kept")]
    NotKept,
    /// It was changed too often.
    #[error("this was changed {EDITS_MAX} times already; reject it")]
    TooOften,
    /// Nothing in it is different.
    #[error("nothing was changed")]
    Unchanged,
    /// An input is not of its form.
    #[error("{name}: {why}")]
    Input {
        /// The input.
        name: String,
        /// What it must be.
        why: String,
    },
    /// The result is not valid.
    #[error("what this would make is not valid: {}", .findings.join("; "))]
    NotValid {
        /// What validation found.
        findings: Vec<String>,
    },
    /// Policy does not allow the result.
    #[error("the rules do not allow what this would make: {}", .reasons.join(" "))]
    Denied {
        /// The stable code.
        code: String,
        /// Why, in plain words.
        reasons: Vec<String>,
    },
    /// The agent may not do this any more.
    #[error("the agent is not registered for this any more, or an agreement behind it has ended")]
    AgentChanged,
    /// Consent, the EHR or another part does not let it be made.
    #[error("{}", .0.message)]
    Call(#[from] CallError),
}

impl From<StoreFailed> for EditFailed {
    fn from(failed: StoreFailed) -> Self {
        EditFailed::Decide(failed.into())
    }
}

impl EditFailed {
    /// The stable code.
    pub fn code(&self) -> &str {
        match self {
            EditFailed::Decide(failed) => failed.code(),
            EditFailed::NotKept => "inputs-not-kept",
            EditFailed::TooOften => "edited-too-often",
            EditFailed::Unchanged => "unchanged",
            EditFailed::Input { .. } => "invalid-argument",
            EditFailed::NotValid { .. } => "invalid-proposal",
            EditFailed::Denied { code, .. } => code,
            EditFailed::AgentChanged => "agent-refused",
            EditFailed::Call(failed) => failed.code,
        }
    }

    /// Whether it failed on our side, so that it is no refusal.
    fn is_ours(&self) -> bool {
        match self {
            EditFailed::Decide(failed) => failed.is_ours(),
            EditFailed::Call(failed) => failed.status >= 500,
            _ => false,
        }
    }
}

/// One input, as a form shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditField {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// How it is written.
    pub kind: EditKind,
    /// What stands there now.
    pub value: String,
    /// Whether it must be there.
    pub required: bool,
}

/// How an input is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditKind {
    /// Text of at most so many characters.
    Text {
        /// How many.
        chars_max: u32,
    },
    /// One of these.
    OneOf(Vec<String>),
    /// A number, a date or a time, as text.
    Plain,
}

/// Who changed what stands here, and what it took the place of.
pub(crate) struct Edited {
    pub(crate) link: EditLink,
    /// The proposal whose place it takes, with its ruling.
    pub(crate) before: Ruled,
    pub(crate) order: WriteOrder,
    /// Inputs with the changes.
    pub(crate) inputs: BTreeMap<String, Value>,
}

impl Engine {
    /// Changes what a proposal says, as a proposal of its own that waits for its approval.
    ///
    /// # Errors
    /// [`EditFailed`]; nothing is changed then, and a refusal is recorded.
    ///
    /// # Source
    /// Requirements R032, R103 and R109: whoever decides can edit, with a reason; what is agreed to is recorded as a
    /// whole.
    pub async fn edit(&self, by: &Human, request: EditRequest) -> Result<WritebackRow, EditFailed> {
        let writeback = request.writeback;
        let done = self.try_edit(by, request).await;
        if let Err(failed) = &done
            && !failed.is_ours()
        {
            self.record_refused_decision(by, writeback, DecisionKind::Edit, failed.code())
                .await;
        }
        done
    }

    async fn try_edit(&self, by: &Human, request: EditRequest) -> Result<WritebackRow, EditFailed> {
        let decide = |failed| EditFailed::Decide(DecideFailed::from(failed));
        let mut hand = self.take_in_hand(request.writeback).await.map_err(decide)?;
        gate_role(&hand.state, by)?;
        let Some(before) = hand.state.ruled().cloned() else {
            return Err(DecideFailed::Refused(Refusal::NotNow(hand.state.told_name())).into());
        };
        if before.order.digest != request.digest {
            return Err(DecideFailed::Refused(Refusal::ApprovalMismatch).into());
        }
        if self.now() > before.order.approve_by {
            return Err(DecideFailed::Refused(Refusal::ApprovalExpired).into());
        }
        if before.ruling.bundle != *self.bundle.digest() {
            return Err(self
                .end_outdated(hand, self.now())
                .await
                .map_or_else(EditFailed::from, |_| DecideFailed::RulesChanged.into()));
        }
        self.require_read(by, &hand, &request.digest, 1).await?;
        let (order, tool) = self.editable(&before).await?;
        let inputs = changed_inputs(tool, &order, &request.inputs)?;
        let edited = Edited {
            link: link_to(&before, by.person)?,
            before,
            order,
            inputs,
        };
        let mut commit = self.commit_as(Actor::from(by));
        self.end_claim(by, hand.id, &mut commit).await?;
        let reason = self
            .seal_reason(&hand, &request.reason, &mut commit)
            .await?;
        if matches!(hand.state, Writeback::Canary(_)) {
            return self.end_changed_canary(by, hand, reason, commit).await;
        }
        let mut made = self.propose_edited(by, edited, &mut commit).await?;
        // After everything that had to be waited for: what took too long is too late.
        let now = self.now();
        if hand
            .state
            .ruled()
            .is_none_or(|it| now > it.order.approve_by)
        {
            return Err(DecideFailed::Refused(Refusal::ApprovalExpired).into());
        }
        let refused = RefusedBy::Edited {
            person: by.person,
            reason,
            into: made.id,
        };
        hand.step(Command::Refuse { refused }, now)
            .map_err(decide)?;
        hand.write_into(&mut commit)?;
        self.enqueue(&made, &mut commit);
        let row = made.write_into(&mut commit)?;
        self.store
            .commit(commit)
            .await
            .map_err(DecideFailed::from)?;
        self.announce_change();
        self.notify_waiting(&made);
        self.after_consent(&made).await;
        Ok(row)
    }

    /// Ends a canary that a person changed: no proposal is made of it.
    async fn end_changed_canary(
        &self,
        by: &Human,
        mut hand: InHand,
        reason: PayloadAddress,
        commit: Commit,
    ) -> Result<WritebackRow, EditFailed> {
        let end = CanaryEnd::Changed {
            person: by.person,
            reason,
        };
        hand.step(Command::WithdrawCanary { end }, self.now())
            .map_err(DecideFailed::from)?;
        Ok(self.finish(hand, commit).await?)
    }

    /// The order of a proposal and the tool that made it, where it can be changed.
    async fn editable(&self, ruled: &Ruled) -> Result<(WriteOrder, &ToolDeclaration), EditFailed> {
        let tool = self
            .bundle
            .tool(&ruled.proposal.tool)
            .filter(|tool| tool.write.is_some() && ruled.proposal.undo.is_none())
            .ok_or(EditFailed::NotKept)?;
        let bytes = self.unseal(&ruled.order.address).await.map_err(|failed| {
            tracing::error!(error = %failed, "an order could not be opened to change it");
            EditFailed::Call(CallError::internal())
        })?;
        if Digest::of_bytes(&bytes) != ruled.order.digest {
            let what = "a stored order is not what its digest names".to_owned();
            return Err(StoreFailed::Corrupt(what).into());
        }
        let order: WriteOrder = serde_json::from_slice(&bytes)
            .map_err(|_| StoreFailed::Corrupt("a stored order cannot be read".to_owned()))?;
        if order.call.is_none() {
            return Err(EditFailed::NotKept);
        }
        Ok((order, tool))
    }

    /// The inputs that this person could change, for a form; none where they, or anybody, cannot.
    pub(crate) fn edit_fields(
        &self,
        state: &Writeback,
        order: &WriteOrder,
        by: &Human,
    ) -> Vec<EditField> {
        let proposal = state.proposal();
        let is_open = gate_role(state, by).is_ok() && link_to_proposal(state, by.person).is_ok();
        let tool = self.bundle.tool(&proposal.tool);
        let (Some(tool), Some(call)) = (tool, &order.call) else {
            return Vec::new();
        };
        if !is_open || proposal.undo.is_some() || order.bundle != *self.bundle.digest() {
            return Vec::new();
        }
        tool.inputs
            .iter()
            .filter(|(_, input)| input.input_type != InputType::Token)
            .map(|(name, input)| EditField {
                name: name.clone(),
                description: input.description.clone(),
                kind: kind_of(input),
                value: call.inputs.get(name).map(as_text).unwrap_or_default(),
                required: input.required,
            })
            .collect()
    }
}

fn link_to_proposal(state: &Writeback, person: PersonId) -> Result<(), EditFailed> {
    match state.ruled() {
        Some(ruled) => link_to(ruled, person).map(|_| ()),
        None => Err(EditFailed::NotKept),
    }
}

/// The link of what takes a proposal's place.
fn link_to(before: &Ruled, person: PersonId) -> Result<EditLink, EditFailed> {
    let earlier: Vec<PersonId> = before
        .proposal
        .edit
        .iter()
        .flat_map(EditLink::people)
        .collect();
    if earlier.len() >= EDITS_MAX {
        return Err(EditFailed::TooOften);
    }
    Ok(EditLink {
        of: before.proposal.id,
        digest: before.order.digest,
        person,
        earlier,
    })
}

/// The inputs with what a form changed. What was not changed is taken as it was.
fn changed_inputs(
    tool: &ToolDeclaration,
    order: &WriteOrder,
    form: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, Value>, EditFailed> {
    let call = order.call.as_ref().ok_or(EditFailed::NotKept)?;
    let mut inputs = call.inputs.clone();
    for (name, text) in form {
        let wrong = |why: &str| EditFailed::Input {
            name: name.clone(),
            why: why.to_owned(),
        };
        let input = tool
            .inputs
            .get(name)
            .ok_or_else(|| wrong("the tool has no such input"))?;
        let known = call.inputs.get(name);
        let text = as_sent(text, known);
        if known.map(as_text).unwrap_or_default() == text {
            continue;
        }
        if input.input_type == InputType::Token {
            return Err(wrong(
                "what a proposal refers to cannot be changed; reject it",
            ));
        }
        match typed(input, &text).map_err(|why| wrong(&why))? {
            Some(value) => inputs.insert(name.clone(), value),
            None if input.required => return Err(wrong("this is required")),
            // As where the agent had not named it.
            None => match &input.default {
                Some(default) => inputs.insert(name.clone(), default.clone()),
                None => inputs.remove(name),
            },
        };
    }
    if inputs == call.inputs {
        return Err(EditFailed::Unchanged);
    }
    Ok(inputs)
}

/// A form ends its lines in two characters; what was there with one stays with one.
fn as_sent(text: &str, known: Option<&Value>) -> String {
    let has_returns = known
        .and_then(Value::as_str)
        .is_some_and(|known| known.contains('\r'));
    if has_returns {
        text.to_owned()
    } else {
        text.replace("\r\n", "\n")
    }
}

/// What a form's text says for an input; nothing where it was emptied.
fn typed(input: &InputDeclaration, text: &str) -> Result<Option<Value>, String> {
    let plain = text.trim();
    if plain.is_empty() {
        return Ok(None);
    }
    let value = match input.input_type {
        InputType::String => Value::from(text),
        InputType::Integer => {
            Value::from(plain.parse::<i64>().map_err(|_| "must be a whole number")?)
        }
        InputType::Number => {
            let number: serde_json::Number = plain
                .parse()
                .map_err(|_| "must be a number, such as 12.5")?;
            Value::Number(number)
        }
        InputType::Boolean => match plain {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            _ => return Err("must be true or false".to_owned()),
        },
        InputType::Code | InputType::Date | InputType::DateTime | InputType::Token => {
            Value::from(plain)
        }
    };
    if input.input_type == InputType::String && slot_in(text).is_some() {
        return Err("this reads like a slot that stands for something; write it out".to_owned());
    }
    check_value(input, &value)?;
    Ok(Some(value))
}

pub(crate) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn kind_of(input: &InputDeclaration) -> EditKind {
    match input.input_type {
        InputType::String => EditKind::Text {
            chars_max: input.max_length.unwrap_or(0),
        },
        InputType::Code => EditKind::OneOf(input.one_of.clone()),
        InputType::Boolean => EditKind::OneOf(vec!["true".to_owned(), "false".to_owned()]),
        _ => EditKind::Plain,
    }
}

/// What stands against a new proposal that did not get as far as waiting for people.
pub(crate) fn denied(made: &InHand) -> EditFailed {
    let Writeback::Refused(refused) = &made.state else {
        return EditFailed::Denied {
            code: "not-for-people".to_owned(),
            reasons: vec!["It would not wait for anybody's approval.".to_owned()],
        };
    };
    let code = match refused.by() {
        RefusedBy::Policy { code } => code.clone(),
        _ => "denied".to_owned(),
    };
    let reasons = refused.ruled().map_or_else(Vec::new, |ruled| {
        let reasons = ruled.ruling.reasons.iter();
        reasons.map(|reason| reason.text.clone()).collect()
    });
    EditFailed::Denied { code, reasons }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_forms_text_is_read_by_the_inputs_type_or_refused() {
        let input = |value: Value| -> InputDeclaration { serde_json::from_value(value).unwrap() };
        let text = input(json!({ "type": "string", "max_length": 5 }));
        let dose = input(json!({ "type": "number", "minimum": 1.0, "maximum": 10.0 }));
        let count = input(json!({ "type": "integer", "minimum": 1.0, "maximum": 3.0 }));
        let code = input(json!({ "type": "code", "one_of": ["mg", "g"] }));
        let yes = input(json!({ "type": "boolean" }));
        let date = input(json!({ "type": "date" }));
        for (input, said, read) in [
            (&text, "hello", json!("hello")),
            (&dose, " 2.5 ", json!(2.5)),
            (&count, "2", json!(2)),
            (&code, "mg", json!("mg")),
            (&yes, "true", json!(true)),
            (&date, "2030-01-02", json!("2030-01-02")),
        ] {
            assert_eq!(typed(input, said), Ok(Some(read)), "{said}");
        }
        for (input, said) in [
            (&text, "hello!"),
            (&dose, "0.5"),
            (&dose, "2,5"),
            (&dose, "NaN"),
            (&count, "2.5"),
            (&code, "kg"),
            (&yes, "yes"),
            (&date, "02.01.2030"),
        ] {
            assert!(typed(input, said).is_err(), "{said}");
        }
        let long = input(json!({ "type": "string", "max_length": 100 }));
        assert!(typed(&long, "for [NAME-1234567]").is_err());
        assert!(typed(&long, "see res_00000000000000000000000000000000").is_err());
        assert_eq!(typed(&long, "  "), Ok(None));
    }

    #[test]
    fn a_form_changes_no_line_ends_that_nobody_touched() {
        assert_eq!(as_sent("a\r\nb", Some(&json!("a\nb"))), "a\nb");
        assert_eq!(as_sent("a\r\nb", Some(&json!("a\r\nb"))), "a\r\nb");
    }
}
