//! One change of a proposal, from the call that asks for it to what policy is asked about: gather, merge, validate,
//! judge. A proposal has one part, or several that are decided and sent as one.

use std::collections::BTreeSet;

use chaperone_core::bundle::WriteAction;
use chaperone_core::change::Change;
use chaperone_core::digest::Salt;
use chaperone_core::evidence::ValidationRecord;
use chaperone_core::ids::WritebackId;
use chaperone_fhir::finding::Finding;
use chaperone_phi::consent::Action;
use serde_json::Value;

use super::change::change_of;
use super::gather::Inputs;
use super::plausible::{Judged, Shown};
use super::validate;
use crate::call::Admitted;
use crate::context::Engine;
use crate::errors::CallError;
use crate::merge::{Filling, business_identifier, compose, fill};
use crate::slots::ResolvedCall;

/// A merged result, with what it is.
pub(super) struct Merged {
    pub(super) salt: Salt,
    pub(super) body: String,
    pub(super) resource: Value,
    pub(super) change: Change,
    pub(super) validation: ValidationRecord,
    pub(super) findings: Vec<Finding>,
}

/// Which resource of a proposal a part makes: the order's salt, and its place among those that go together.
#[derive(Clone, Copy)]
pub(super) struct Place<'s> {
    pub(super) id: WritebackId,
    pub(super) salt: &'s Salt,
    /// From 0.
    pub(super) at: usize,
}

/// One change.
pub(super) struct Part<'p> {
    /// The call as the agent sent it.
    pub(super) as_sent: &'p Admitted<'p>,
    /// The call with its slots put back, where it had any.
    pub(super) resolved: Option<ResolvedCall<'p>>,
    pub(super) write: &'p WriteAction,
    pub(super) inputs: Inputs,
    pub(super) merged: Merged,
    /// What the plausibility rules say, where everything is valid.
    pub(super) judged: Option<Judged>,
}

impl Part<'_> {
    /// The call, with what its slots stand for.
    pub(super) fn admitted(&self) -> &Admitted<'_> {
        self.resolved
            .as_ref()
            .map_or(self.as_sent, |it| &it.admitted)
    }

    /// Whether schema, profiles and business rules found no error.
    pub(super) fn is_valid(&self) -> bool {
        !self.merged.findings.iter().any(|it| it.severity.is_error())
    }

    /// Everything that was found, for who decides.
    pub(super) fn shown(&self) -> Vec<Shown> {
        let valid = self.merged.findings.iter().cloned().map(Shown::from);
        let judged = self.judged.iter().flat_map(|it| it.shown.iter().cloned());
        valid.chain(judged).collect()
    }
}

/// What was found in all parts; where there are several, each says which change it is about.
pub(super) fn shown_of_all(parts: &[Part<'_>]) -> Vec<Shown> {
    if let [only] = parts {
        return only.shown();
    }
    let mut all = Vec::new();
    for (at, part) in (1_usize..).zip(parts) {
        for mut shown in part.shown() {
            shown.finding.expression = format!("change {at}: {}", shown.finding.expression);
            all.push(shown);
        }
    }
    all.sort_by_key(|it| std::cmp::Reverse(it.finding.severity));
    all
}

/// Whether two parts change the same resource: then neither knows what it changes.
pub(super) fn are_distinct(parts: &[Part<'_>]) -> bool {
    let mut seen = BTreeSet::new();
    parts.iter().all(|part| {
        let id = part
            .inputs
            .base
            .as_ref()
            .and_then(|base| base.get("id")?.as_str());
        id.is_none_or(|id| seen.insert((part.write.resource.clone(), id.to_owned())))
    })
}

impl Engine {
    /// Everything about one change but what the plausibility rules say, which look at all of them.
    pub(super) async fn part<'p>(
        &self,
        as_sent: &'p Admitted<'p>,
        write: &'p WriteAction,
        place: Place<'_>,
    ) -> Result<Part<'p>, CallError> {
        let consulted = self
            .consult(as_sent, &write.resource, true, Action::Write)
            .await?;
        // From here on the slots are what they stand for; the request rests as the agent sent it.
        let resolved = self.resolve_slots(as_sent).await?;
        let admitted = resolved.as_ref().map_or(as_sent, |it| &it.admitted);
        let mut inputs = self.gather(admitted, write).await?;
        // Compared as the agent wrote it: a slot means nothing outside its envelope.
        inputs.resembles = self.resembling(as_sent, &inputs).await?;
        let merged = self.merge(admitted, write, &inputs, place)?;
        self.consent_to_proposal(&consulted, &inputs, &merged.resource)?;
        Ok(Part {
            as_sent,
            resolved,
            write,
            inputs,
            merged,
            judged: None,
        })
    }

    /// The one part of a proposal whose inputs are at hand, and whose call holds no slots.
    pub(super) fn part_of<'p>(
        &self,
        admitted: &'p Admitted<'p>,
        write: &'p WriteAction,
        inputs: Inputs,
        id: WritebackId,
    ) -> Result<Part<'p>, CallError> {
        let salt = &self.new_salt();
        let place = Place { id, salt, at: 0 };
        let merged = self.merge(admitted, write, &inputs, place)?;
        Ok(Part {
            as_sent: admitted,
            resolved: None,
            write,
            inputs,
            merged,
            judged: None,
        })
    }

    /// Applies the plausibility rules to each part, also as if the others were on record already: two orders that are
    /// each harmless may not be so together.
    pub(super) async fn judge_all(&self, parts: &mut [Part<'_>]) {
        let all: Vec<Value> = parts.iter().map(|it| it.merged.resource.clone()).collect();
        for (at, part) in parts.iter_mut().enumerate() {
            let others = all.iter().enumerate().filter(|(other, _)| *other != at);
            let beside: Vec<&Value> = others.map(|(_, resource)| resource).collect();
            let judged = self
                .judge(part.write, &part.inputs, &part.merged.resource, &beside)
                .await;
            judged.note_in(&mut part.merged.validation);
            part.judged = Some(judged);
        }
    }

    fn merge(
        &self,
        admitted: &Admitted<'_>,
        write: &WriteAction,
        inputs: &Inputs,
        place: Place<'_>,
    ) -> Result<Merged, CallError> {
        let filling = Filling {
            inputs: &admitted.arguments.inputs,
            targets: &inputs.targets,
            patient_id: inputs.patient_id.as_deref(),
            encounter: inputs.encounter.as_ref(),
            now: self.now(),
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
            &business_identifier(place.id, place.at),
        );
        let body = serde_json::to_string(&resource).map_err(|_| CallError::internal())?;
        let change = change_of(write, inputs.base.as_ref(), &resource)?;
        let salt = *place.salt;
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

    /// A salt for a new order.
    pub(super) fn new_salt(&self) -> Salt {
        let mut salt = [0; 32];
        self.random.fill(&mut salt);
        Salt::from_random(salt)
    }
}
