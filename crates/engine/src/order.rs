//! The write order: everything that is agreed to, complete, with its Provenance template.

use std::collections::BTreeSet;

use chaperone_core::bundle::WriteAction;
use chaperone_core::content::content_digest;
use chaperone_core::digest::{Digest, Salt};
use chaperone_core::edit::EditLink;
use chaperone_core::evidence::{
    AgentVersion, ApprovalRecord, RulingRecord, Strategy, ValidationRecord, WriteOrder,
};
use chaperone_core::gate::{Gate, ProofLevel};
use chaperone_core::ids::{ConnectionId, PatientToken, TenantId, WritebackId};
use chaperone_core::patch;
use chaperone_core::ports::{DeliveryProfile, InteractionSupport};
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::{Interaction, ResourceType};
use chaperone_core::signed_form::SignedForm;
use chaperone_core::together::OrderEntry;
use serde_json::{Value, json};

use crate::merge::{WRITEBACK_SYSTEM, business_identifier};
use crate::observe::rests_on;

const PARTICIPANT_TYPE: &str = "http://terminology.hl7.org/CodeSystem/provenance-participant-type";
const DATA_OPERATION: &str = "http://terminology.hl7.org/CodeSystem/v3-DataOperation";
const OBSERVATION_VALUE: &str = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";

/// The strategy for a row's least proof: what the endpoint offers, or human entry when that shows
/// too little.
fn strategy_for(offered: Strategy, proof_min: ProofLevel) -> Strategy {
    if offered.proof() >= proof_min {
        offered
    } else {
        Strategy::HumanEntry
    }
}

/// How one order is sent: by the strategy, or otherwise where that does not fit this very change.
pub(crate) struct Way {
    /// The strategy.
    pub(crate) strategy: Strategy,
    /// The EHR's own operation, where it uses one.
    pub(crate) operation: Option<String>,
    /// By which element it waits for its signature in the EHR, where it is placed unsigned.
    pub(crate) signed_form: Option<SignedForm>,
}

/// What is to be sent, and onto what.
pub(crate) struct ToSend<'a> {
    pub(crate) resource: &'a ResourceType,
    pub(crate) interaction: Interaction,
    pub(crate) body: &'a str,
    /// The base as the order keeps it.
    pub(crate) base: Option<&'a str>,
}

impl Way {
    fn by(strategy: Strategy) -> Self {
        Self {
            strategy,
            operation: None,
            signed_form: None,
        }
    }
}

/// How an order goes to an endpoint. A signature in the EHR stands for one person's approval alone: where two must
/// agree, where a second factor is demanded and the EHR asks for none, and where whoever approves must say why they
/// do so over a warning, people approve here and then enter it by hand.
pub(crate) fn way_of(
    support: &InteractionSupport,
    ruling: &RulingRecord,
    validation: &ValidationRecord,
    sent: &ToSend<'_>,
) -> Way {
    let by = Way::by;
    match strategy_for(support.strategy, ruling.proof_min) {
        Strategy::VendorOp => Way {
            operation: support.operation.clone(),
            ..by(Strategy::VendorOp)
        },
        Strategy::EhrStaged => {
            let form = SignedForm::of(sent.resource);
            let body: Option<Value> = serde_json::from_str(sent.body).ok();
            let (Some(form), Some(body)) = (form, body) else {
                return by(Strategy::HumanEntry);
            };
            // A draft that is to stay one waits for nobody's signature.
            if form.is_unsigned(&body) {
                return by(Strategy::PlainPost);
            }
            let signature_suffices = match &ruling.gate {
                Gate::Approve { .. } => true,
                Gate::Approve2f { .. } => support.signs_with_second_factor,
                _ => false,
            };
            let is_new = sent.interaction == Interaction::Create && form.is_signed(&body);
            // Whom a protocol names, the EHR does not know: people approve here.
            let by_anybody = ruling.protocol.is_none();
            if signature_suffices && is_new && by_anybody && !validation.needs_override() {
                Way {
                    signed_form: Some(form),
                    ..by(Strategy::EhrStaged)
                }
            } else {
                by(Strategy::HumanEntry)
            }
        }
        // It takes updates as patches and in no other way: what cannot go as one, a person enters.
        Strategy::Conditional if support.patch && patch_of(sent).is_none() => {
            by(Strategy::HumanEntry)
        }
        strategy => by(strategy),
    }
}

/// Whether an endpoint takes a change as one of several: in a transaction, under its condition.
pub(crate) fn takes_as_one(support: &InteractionSupport) -> bool {
    support.strategy == Strategy::Conditional && support.atomic
}

/// The patch of an update; none without a version to send it under.
pub(crate) fn patch_of(sent: &ToSend<'_>) -> Option<String> {
    let base = sent
        .base
        .filter(|_| sent.interaction == Interaction::Update)?;
    let read: Value = serde_json::from_str(base).ok()?;
    read.pointer("/meta/versionId")?.as_str()?;
    patch::between(base, sent.body)
}

/// The search that finds what a write-back created, by its business identifier.
pub(crate) fn if_none_exist(identifier: &str) -> String {
    format!("identifier={WRITEBACK_SYSTEM}|{identifier}")
}

/// What an order is made of beside its changes.
pub(crate) struct OrderHead {
    pub(crate) salt: Salt,
    pub(crate) tenant: TenantId,
    pub(crate) writeback: WritebackId,
    pub(crate) patient: Option<PatientToken>,
    pub(crate) connection: ConnectionId,
    pub(crate) endpoint: String,
    pub(crate) validation: ValidationRecord,
    pub(crate) author: AgentVersion,
}

/// What a change is made of when it is put into an order.
pub(crate) struct ChangeSent<'a> {
    pub(crate) write: &'a WriteAction,
    pub(crate) base: Option<&'a Value>,
    pub(crate) body: &'a str,
    /// The Provenance that goes along, where the endpoint keeps one.
    pub(crate) provenance: Value,
    pub(crate) asked: &'a WriteRequest,
}

/// The order of one change, sent in the way that fits it, or of several, sent as one transaction, each under its
/// condition. What only some orders hold is left empty.
///
/// # Errors
/// The place of the change that cannot be sent: an update of what has no id, or one that is to go as a patch and
/// cannot.
pub(crate) fn order_of(
    head: OrderHead,
    changes: Vec<ChangeSent<'_>>,
    ruling: &RulingRecord,
    profile: &DeliveryProfile,
) -> Result<WriteOrder, usize> {
    let way = match changes.as_slice() {
        [one] => {
            let (resource, interaction) = (&one.write.resource, one.write.interaction);
            let base = one.base.map(Value::to_string);
            let sent = ToSend {
                resource,
                interaction,
                body: one.body,
                base: base.as_deref(),
            };
            let support = profile.of(resource, interaction);
            way_of(&support, ruling, &head.validation, &sent)
        }
        _ => Way::by(Strategy::Conditional),
    };
    let mut sent_all = Vec::with_capacity(changes.len());
    for (at, change) in changes.into_iter().enumerate() {
        let support = profile.of(&change.write.resource, change.write.interaction);
        let place = (head.writeback, at);
        let sent = sent_as(change, place, way.strategy, &support, &ruling.gate);
        sent_all.push(sent.ok_or(at)?);
    }
    let mut also = sent_all.into_iter();
    let first = also.next().ok_or(0_usize)?;
    Ok(WriteOrder {
        salt: head.salt,
        tenant: head.tenant,
        writeback: head.writeback,
        patient: head.patient,
        connection: head.connection,
        endpoint: head.endpoint,
        interaction: first.interaction,
        resource: first.resource,
        path: first.path,
        if_none_exist: first.if_none_exist,
        if_match: first.if_match,
        base_version: first.base_version,
        base_digest: first.base_digest,
        base: first.base,
        body: first.body,
        patch: first.patch,
        provenance: first.provenance,
        strategy: way.strategy,
        operation: way.operation,
        signed_form: way.signed_form,
        gate: ruling.gate.clone(),
        class: ruling.class,
        bundle: ruling.bundle,
        validation: head.validation,
        author: head.author,
        evidence: Vec::new(),
        rests_on: first.rests_on,
        resembles: Vec::new(),
        asked: Some(first.asked),
        call: None,
        edit: None,
        also: also.collect(),
    })
}

/// One change as it is sent: where, under which condition, on which base.
fn sent_as(
    change: ChangeSent<'_>,
    (id, at): (WritebackId, usize),
    strategy: Strategy,
    support: &InteractionSupport,
    gate: &Gate,
) -> Option<OrderEntry> {
    let (write, base) = (change.write, change.base);
    let is_conditional = strategy == Strategy::Conditional;
    let is_create = write.interaction == Interaction::Create;
    let of_base = |pointer: &str| base?.pointer(pointer)?.as_str().map(str::to_owned);
    let path = match is_create {
        true => write.resource.to_string(),
        false => format!("{}/{}", write.resource, of_base("/id")?),
    };
    let base_version = of_base("/meta/versionId");
    let kept = base.map(Value::to_string);
    // What is refused is kept as it was proposed; nothing of it travels.
    let patch = match is_conditional && support.patch && *gate != Gate::Deny {
        true => Some(patch_of(&ToSend {
            resource: &write.resource,
            interaction: write.interaction,
            body: change.body,
            base: kept.as_deref(),
        })?),
        false => None,
    };
    Some(OrderEntry {
        interaction: write.interaction,
        resource: write.resource.clone(),
        path,
        if_none_exist: (is_conditional && is_create)
            .then(|| if_none_exist(&business_identifier(id, at))),
        if_match: match (is_conditional, is_create, &base_version) {
            (true, false, Some(version)) => Some(format!("W/\"{version}\"")),
            _ => None,
        },
        base_version,
        base_digest: base.map(content_digest),
        base: kept,
        body: change.body.to_owned(),
        patch,
        provenance: support.provenance.then(|| change.provenance.to_string()),
        rests_on: rests_on(&change.asked.facts),
        asked: Box::new(change.asked.clone()),
    })
}

/// The Provenance that goes with a write, without target and without the humans who verify it.
///
/// # Source
/// HL7 AI Transparency on FHIR, AI-Provenance: the AI as author, Chaperone as assembler. The prompt is
/// named by version only: its text may hold PHI and does not belong into the EHR. Where people changed what the AI
/// proposed, they are authors too ([`with_patient`] for the patient).
pub(crate) fn provenance_template(
    author: &AgentVersion,
    edit: Option<&EditLink>,
    interaction: Interaction,
    ruling: &RulingRecord,
    recorded: &str,
) -> Value {
    let activity = match interaction {
        Interaction::Create => "CREATE",
        Interaction::Update | Interaction::Delete => "UPDATE",
    };
    let entities: Vec<Value> = author
        .prompts
        .iter()
        .map(|prompt| {
            json!({
                "role": "derivation",
                "what": { "identifier": { "system": "urn:chaperone:prompt", "value": prompt } },
            })
        })
        .collect();
    let mut provenance = json!({
        "resourceType": "Provenance",
        "target": [],
        "recorded": recorded,
        "policy": [format!("urn:chaperone:bundle:{}", ruling.bundle)],
        "reason": [{ "coding": [{ "system": OBSERVATION_VALUE, "code": "AIAST" }] }],
        "activity": { "coding": [{ "system": DATA_OPERATION, "code": activity }] },
        "agent": [
            agent("author", "urn:chaperone:agent", &format!("{}@{}", author.agent, author.version)),
            agent("assembler", "urn:chaperone:service", "chaperone"),
        ],
    });
    let editors: BTreeSet<String> = edit
        .into_iter()
        .flat_map(EditLink::people)
        .map(|person| person.to_string())
        .collect();
    if let Some(agents) = provenance.get_mut("agent").and_then(Value::as_array_mut) {
        let editors = editors
            .iter()
            .map(|person| agent("author", "urn:chaperone:person", person));
        agents.extend(editors);
    }
    if let (Some(object), false) = (provenance.as_object_mut(), entities.is_empty()) {
        object.insert("entity".to_owned(), Value::Array(entities));
    }
    provenance
}

/// Names the patient as an author, where nothing passes the gate without their own word about exactly this content.
pub(crate) fn with_patient(mut provenance: Value, ruling: &RulingRecord, patient: &str) -> Value {
    let is_own = matches!(
        &ruling.gate,
        Gate::AutoVerified { facts } if facts.contains("portal_patient")
    );
    if let (true, Some(agents)) = (
        is_own,
        provenance.get_mut("agent").and_then(Value::as_array_mut),
    ) {
        agents.push(json!({
            "type": { "coding": [{ "system": PARTICIPANT_TYPE, "code": "author" }] },
            "who": { "reference": format!("Patient/{patient}") },
        }));
    }
    provenance
}

/// Completes each template with the humans who approved, or with the policy engine where none had to.
pub(crate) fn with_provenance(order: WriteOrder, approvals: &[ApprovalRecord]) -> WriteOrder {
    let complete = |template: &Option<String>| {
        let template = template.as_deref()?;
        complete_provenance(template, &order.bundle, approvals)
    };
    let provenance = complete(&order.provenance);
    let also = order
        .also
        .iter()
        .map(|entry| OrderEntry {
            provenance: complete(&entry.provenance),
            ..entry.clone()
        })
        .collect();
    WriteOrder {
        provenance,
        also,
        ..order
    }
}

fn complete_provenance(
    template: &str,
    bundle: &Digest,
    approvals: &[ApprovalRecord],
) -> Option<String> {
    let mut provenance: Value = serde_json::from_str(template).ok()?;
    let agents = provenance.get_mut("agent")?.as_array_mut()?;
    for approval in approvals {
        agents.push(agent(
            "verifier",
            "urn:chaperone:person",
            &approval.person.to_string(),
        ));
    }
    if approvals.is_empty() {
        agents.push(agent(
            "verifier",
            "urn:chaperone:bundle",
            &bundle.to_string(),
        ));
    }
    serde_json::to_string(&provenance).ok()
}

fn agent(kind: &str, system: &str, value: &str) -> Value {
    json!({
        "type": { "coding": [{ "system": PARTICIPANT_TYPE, "code": kind }] },
        "who": { "identifier": { "system": system, "value": value } },
    })
}

/// The bytes that rest in the vault, and the digest an approval names.
pub(crate) fn order_bytes(order: &WriteOrder) -> Result<(Vec<u8>, Digest), serde_json::Error> {
    let bytes = serde_json::to_vec(order)?;
    let digest = Digest::of_bytes(&bytes);
    Ok((bytes, digest))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chaperone_core::change::{ChangeClass, Destination};
    use chaperone_core::principal::Role;

    use super::*;

    #[test]
    fn w01_the_patient_is_an_author_where_nothing_passes_without_their_word() {
        let authors = |gate: Gate| {
            let ruling = RulingRecord {
                gate,
                class: ChangeClass::M1,
                destination: Destination::Ehr,
                determining: Vec::new(),
                raised_by: Vec::new(),
                reasons: Vec::new(),
                denial: None,
                proof_min: ProofLevel::P0,
                notify: Vec::new(),
                bundle: Digest::of_bytes(b"bundle"),
                protocol: None,
                entries: Vec::new(),
            };
            let made = with_patient(json!({ "agent": [] }), &ruling, "p1");
            made["agent"].clone()
        };
        let verified = |facts: &[&str]| Gate::AutoVerified {
            facts: facts.iter().map(|it| (*it).to_owned()).collect(),
        };
        let own = authors(verified(&["contact_code_confirmed", "portal_patient"]));
        assert_eq!(
            own,
            json!([{
                "type": { "coding": [{ "system": PARTICIPANT_TYPE, "code": "author" }] },
                "who": { "reference": "Patient/p1" },
            }])
        );
        // By a proxy, or by a scheduler, it is not the patient's.
        for other in [
            verified(&["contact_code_confirmed", "proxy_session"]),
            Gate::Approve {
                roles: BTreeSet::from([Role::Scheduler]),
            },
        ] {
            assert_eq!(authors(other), json!([]));
        }
    }
}
