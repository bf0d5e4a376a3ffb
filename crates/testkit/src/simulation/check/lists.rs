//! Lists of patients: nothing comes of one before somebody else than who asked approved exactly what they saw; nobody
//! who was struck, who was not on it or is beyond the cap comes before the agent, nobody twice, and nobody after its
//! end. And of the patients of the play whom only a list can put before an agent, nothing else comes.

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::cohort::CohortEvent;
use chaperone_core::envelope::{Grant, GrantSource};
use chaperone_core::event::{Event, Recorded, StreamId};
use chaperone_core::ids::{CohortJobId, EnvelopeId, GrantId, PatientToken};
use chaperone_core::principal::Actor;
use chaperone_core::writeback::WritebackEvent;

use super::{Case, Property};
use crate::simulation::cohorts::FOUND;
use crate::simulation::played::COHORT_CAP;

/// How it stands with one list.
#[derive(Default)]
struct List {
    requester: Option<usize>,
    struck: BTreeSet<PatientToken>,
    /// Who was on the screen of whoever approved it.
    approved: Option<BTreeSet<PatientToken>>,
    listed: u64,
    granted: BTreeSet<PatientToken>,
    has_ended: bool,
}

pub(super) fn check(case: &mut Case<'_>) {
    let mut found = Vec::new();
    let mut lists: BTreeMap<CohortJobId, List> = BTreeMap::new();
    let mut grants: BTreeMap<GrantId, (CohortJobId, Grant)> = BTreeMap::new();
    let mut envelopes: BTreeMap<EnvelopeId, GrantId> = BTreeMap::new();
    for it in &case.recorded {
        match (&it.stream, &it.event) {
            (StreamId::Cohort(job), Event::Cohort(event)) => {
                let list = lists.entry(*job).or_default();
                if let Some(seen) = step(case, *job, list, event, it) {
                    found.push(format!("{job}: {seen}"));
                }
            }
            (_, Event::GrantIssued(grant)) => {
                if let GrantSource::Cohort { job, .. } = grant.source {
                    let list = lists.entry(job).or_default();
                    if let Some(seen) = granted(list, grant) {
                        found.push(format!("{job}: {seen}"));
                    }
                    grants.insert(grant.id, (job, (**grant).clone()));
                }
            }
            (_, Event::EnvelopeOpened(envelope)) => {
                let Some((id, (job, grant))) =
                    envelope.grant.and_then(|id| Some((id, grants.get(&id)?)))
                else {
                    continue;
                };
                let has_ended = lists.get(job).is_some_and(|list| list.has_ended);
                let is_again = envelopes.values().any(|known| *known == id);
                if has_ended || is_again || envelope.patient != grant.patient {
                    found.push(format!(
                        "{job}: a grant was used that does not count any more"
                    ));
                }
                envelopes.insert(envelope.id, id);
            }
            _ => {}
        }
    }
    for (job, patient) in &case.truth().struck {
        if !lists.get(job).is_some_and(|it| it.struck.contains(patient)) {
            found.push(format!("{job}: somebody was struck, and nothing says so"));
        }
    }
    effects(case, &grants, &envelopes, &mut found);
    for seen in found {
        case.broken(Property::ListKept, seen);
    }
}

fn step(
    case: &Case<'_>,
    job: CohortJobId,
    list: &mut List,
    event: &CohortEvent,
    it: &Recorded,
) -> Option<&'static str> {
    let truth = case.truth();
    let human = match &it.actor {
        Actor::Human { person, .. } => truth.humans.get(person).copied(),
        _ => None,
    };
    match event {
        CohortEvent::Listed(listed) => {
            list.requester = human;
            list.listed = listed.listed;
            let is_too_long = listed.listed > COHORT_CAP;
            is_too_long.then_some("the list is longer than it may be")
        }
        CohortEvent::Struck {
            patient, listed, ..
        } => {
            let is_first = list.struck.insert(*patient);
            list.listed = *listed;
            let is_late = !is_first || list.approved.is_some();
            is_late.then_some("somebody was struck twice, or too late")
        }
        CohortEvent::Approved {
            list: approved,
            listed,
        } => {
            let agreed = truth.lists.iter().find(|agreed| {
                agreed.job == job
                    && agreed.list == *approved
                    && Some(agreed.human) == human
                    && agreed.at <= case.done(it.seq)
            });
            let learns = human.is_some_and(|human| truth.in_training.contains(&human));
            let is_again = list.approved.is_some() || list.has_ended;
            list.approved = agreed.map(|agreed| agreed.patients.clone());
            match agreed {
                None => Some("nobody agreed to what is recorded as approved"),
                Some(_) if human == list.requester => Some("whoever asked approved it"),
                Some(_) if learns => Some("somebody in training approved it"),
                Some(_) if is_again => Some("it was approved twice, or after its end"),
                Some(agreed) if agreed.patients.len() as u64 != *listed => {
                    Some("what was approved is not what was on the screen")
                }
                Some(_) => None,
            }
        }
        CohortEvent::Ended { .. } => {
            list.has_ended = true;
            None
        }
        CohortEvent::LeftOut { .. } => None,
    }
}

fn granted(list: &mut List, grant: &Grant) -> Option<&'static str> {
    let Some(patient) = grant.patient else {
        return Some("a grant is about nobody");
    };
    let Some(seen) = &list.approved else {
        return Some("a grant was made before anybody else approved the list");
    };
    if list.struck.contains(&patient) {
        return Some("a grant was made for somebody who was struck");
    }
    if !seen.contains(&patient) {
        return Some("a grant was made for somebody who was not on the list that was approved");
    }
    if list.has_ended {
        return Some("a grant was made after the end");
    }
    if !list.granted.insert(patient) {
        return Some("somebody has two grants");
    }
    let is_over = list.granted.len() as u64 > list.listed.min(COHORT_CAP);
    is_over.then_some("more grants were made than the list is long")
}

/// What was proposed by way of a list is about the grant's patient; and what is at the EHR of those whom only a list
/// can put before an agent came by way of one.
fn effects(
    case: &Case<'_>,
    grants: &BTreeMap<GrantId, (CohortJobId, Grant)>,
    envelopes: &BTreeMap<EnvelopeId, GrantId>,
    found: &mut Vec<String>,
) {
    let mut by_list = BTreeSet::new();
    for (id, story) in &case.stories {
        let Some(proposal) = story.steps.iter().find_map(|step| match &step.event {
            WritebackEvent::Proposed(proposal) => Some(proposal),
            _ => None,
        }) else {
            continue;
        };
        let grant = envelopes.get(&proposal.envelope);
        let grant = grant.and_then(|grant| grants.get(grant));
        match grant {
            Some((_, grant)) if grant.patient == proposal.patient => drop(by_list.insert(*id)),
            Some((job, _)) => found.push(format!("{job}: {id} is about somebody else")),
            None => {}
        }
    }
    // What undoes an effect, and what a person made of a proposal, is about the same patient.
    for (id, story) in &case.stories {
        let of = story.steps.iter().find_map(|step| match &step.event {
            WritebackEvent::Proposed(it) => {
                let undone = it.undo.as_ref().map(|it| it.of);
                undone.or_else(|| it.edit.as_ref().map(|it| it.of))
            }
            _ => None,
        });
        if of.is_some_and(|of| by_list.contains(&of)) {
            by_list.insert(*id);
        }
    }
    for exchange in &case.state.ehr.history {
        let (id, body) = (exchange.request.writeback, &exchange.request.body);
        let named = FOUND
            .iter()
            .find(|it| body.contains(&format!("\"Patient/{it}\"")));
        if let Some(patient) = named
            && exchange.effect.is_some()
            && !by_list.contains(&id)
        {
            found.push(format!("{id} is about {patient}, and by way of no list"));
        }
    }
}
