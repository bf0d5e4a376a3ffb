//! People on the screens of an EHR that takes orders unsigned: they sign what was placed there, late or never, change
//! it before or with the signature, take it away; and some who sign may not approve it.

use std::collections::BTreeMap;

use chaperone_core::ids::{AccountName, WritebackId};
use chaperone_core::ports::{Commit, Record, RecordChange};
use chaperone_core::principal::{Actor, Human, Role, SystemPart};
use serde_json::{Value, json};

use super::faults::Fault;
use super::node::Cluster;
use super::people::Directory;
use super::server::Effect;
use super::state::SignedThere;
use super::world::{Inner, Micros, SECOND};

/// One who may approve orders, as the EHR names them.
pub(crate) const DOCTOR: &str = "Practitioner/doctor";
/// Another one.
const COLLEAGUE: &str = "Practitioner/colleague";
/// One whose role approves no orders.
const NURSE: &str = "Practitioner/nurse";
/// One whose account is not in use any more.
const GONE: &str = "Practitioner/gone";
/// One in training.
const TRAINEE: &str = "Practitioner/trainee";
/// One of whom nobody here knows.
const STRANGER: &str = "Practitioner/stranger";
/// The latest that somebody signs who signs in time, and who does not: the time to sign is at most five minutes.
const SIGNS_MAX: Micros = 55 * SECOND;
const LATE: (Micros, Micros) = (320 * SECOND, 900 * SECOND);

/// The human behind a name of the EHR, and whether their account is in use.
fn human(signer: &str) -> Option<(Human, bool)> {
    let people = Directory::new(None);
    Some(match signer {
        DOCTOR => (people.prescriber(), true),
        COLLEAGUE => (people.requester(), true),
        NURSE => (people.nurse(), true),
        GONE => (people.gone(), false),
        TRAINEE => (people.trainee(Role::Clinician), true),
        _ => return None,
    })
}

/// The settings of an installation that knows them.
pub(crate) fn known() -> BTreeMap<String, AccountName> {
    [DOCTOR, COLLEAGUE, NURSE, GONE, TRAINEE]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), human(name)?.0.account)))
        .collect()
}

/// Gives everybody their accounts.
pub(crate) fn enrol(cluster: &Cluster, inner: &mut Inner) {
    let people = Directory::new(None);
    let at = inner.clock(0);
    let part = SystemPart::Setup;
    let mut commit = Commit::new(cluster.tenant().clone(), at, Actor::System { part });
    let used = people.accounts().into_iter().map(|human| (human, true));
    for (human, is_in_use) in used.chain([(people.gone(), false)]) {
        let roles = &mut inner.state.truth.roles;
        roles.insert(human.account.clone(), human.roles.clone());
        let value = json!({
            "name": human.account, "person": human.person, "roles": human.roles,
            "password": "not used here", "disabled": !is_in_use, "created": at,
        });
        let record = Record::new("account", human.account, value);
        commit.records.push(RecordChange::Create(record));
    }
    // Those in training train for whatever is at hand.
    for human in people.learners() {
        let roles = &mut inner.state.truth.roles;
        roles.insert(human.account, Role::ALL.to_vec());
    }
    let _ = inner.state.tables.commit(&commit);
}

/// What a person does with a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Sign,
    ChangeThenSign,
    ChangeWithSignature,
    PutInForce,
    TakeAway,
}

/// Somebody sees a draft that was placed, and does something with it some time later.
pub(crate) fn see(inner: &mut Inner, writeback: WritebackId, effect: &Effect) {
    let (kind, id) = (effect.kind.clone(), effect.id.clone());
    let is_draft = inner
        .state
        .ehr
        .at_version(&kind, &id, effect.version)
        .is_some_and(|it| is_order(&kind) && it.get("status") == Some(&json!("draft")));
    if !is_draft {
        return;
    }
    let mut happens = |fault: Fault| {
        let happens = inner.faults.happens(fault, &mut inner.chance);
        if happens {
            inner.trace.fault(inner.now, fault, &id);
        }
        happens
    };
    if happens(Fault::NotSigned) {
        return;
    }
    let is_late = happens(Fault::SignedLate);
    let does = [
        (Fault::TakenAway, Does::TakeAway),
        (Fault::PutInForce, Does::PutInForce),
        (Fault::ChangedThenSigned, Does::ChangeThenSign),
        (Fault::ChangedWithSignature, Does::ChangeWithSignature),
    ]
    .into_iter()
    .find(|(fault, _)| happens(*fault))
    .map_or(Does::Sign, |(_, does)| does);
    let by_another = happens(Fault::SignedByAnother);
    let changed_after = happens(Fault::ChangedAfterSigning);
    let chance = &mut inner.chance;
    let signer = match by_another {
        true => chance.pick(&[NURSE, GONE, TRAINEE, STRANGER]),
        false => chance.pick(&[DOCTOR, COLLEAGUE]),
    };
    let signer = signer.copied().unwrap_or(STRANGER);
    let after = match is_late {
        true => chance.between(LATE.0, LATE.1),
        false => chance.skewed(SECOND, SIGNS_MAX),
    };
    let again = changed_after.then(|| chance.skewed(SECOND, 30 * SECOND));
    inner.later(after, move |inner| {
        act(inner, writeback, (&kind, &id), does, signer);
        if let Some(again) = again {
            inner.later(again, move |inner| {
                let is_signed = |it: &SignedThere| it.kind == kind && it.id == id;
                if inner.state.truth.signed.iter().any(is_signed) {
                    let now = inner.now;
                    inner.state.ehr.change(
                        now,
                        (&kind, &id),
                        |it| set(it, "patientInstruction", "changed"),
                        None,
                    );
                }
            });
        }
    });
}

fn is_order(kind: &str) -> bool {
    matches!(kind, "MedicationRequest" | "ServiceRequest")
}

fn set(resource: &mut Value, name: &str, value: &str) {
    if let Some(members) = resource.as_object_mut() {
        members.insert(name.to_owned(), json!(value));
    }
}

fn act(
    inner: &mut Inner,
    writeback: WritebackId,
    (kind, id): (&str, &str),
    does: Does,
    signer: &'static str,
) {
    let now = inner.now;
    let ehr = &mut inner.state.ehr;
    let is_draft = |it: &Value| it.get("status") == Some(&json!("draft"));
    if !ehr.now(kind, id).is_some_and(is_draft) {
        return;
    }
    let line = format!("{signer} at the EHR: {does:?} {kind}/{id}");
    inner.trace.say(now, line);
    let sign = |it: &mut Value| set(it, "status", "active");
    let version = match does {
        Does::TakeAway => {
            ehr.remove(kind, id);
            return;
        }
        Does::PutInForce => {
            ehr.change(now, (kind, id), sign, None);
            return;
        }
        Does::Sign => ehr.change(now, (kind, id), sign, Some(signer)),
        Does::ChangeThenSign => {
            let more = |it: &mut Value| set(it, "priority", "stat");
            ehr.change(now, (kind, id), more, None);
            ehr.change(now, (kind, id), sign, Some(signer))
        }
        Does::ChangeWithSignature => {
            let both = |it: &mut Value| {
                set(it, "priority", "stat");
                sign(it);
            };
            ehr.change(now, (kind, id), both, Some(signer))
        }
    };
    let Some(version) = version else { return };
    let by = human(signer).filter(|(_, is_in_use)| *is_in_use);
    let truth = &mut inner.state.truth;
    truth.signed.push(SignedThere {
        writeback,
        kind: kind.to_owned(),
        id: id.to_owned(),
        version,
        human: by
            .as_ref()
            .and_then(|(human, _)| truth.humans.get(&human.person).copied()),
        roles: by.map(|(human, _)| human.roles).unwrap_or_default(),
        at: now,
    });
}
