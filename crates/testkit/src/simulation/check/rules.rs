//! Rules: a ruling and what people agreed to on it count by the governance bundle that ruled, and by no other. A
//! signature at the EHR is given where nobody here can ask for the rules; what it was given to left before.

use chaperone_core::evidence::Factor;
use chaperone_core::writeback::WritebackEvent;

use super::{Case, Property};

pub(super) fn check(case: &mut Case<'_>) {
    let truth = case.truth();
    let mut found = Vec::new();
    for (id, story) in &case.stories {
        let ruled_by = story.steps.iter().find_map(|step| match &step.event {
            WritebackEvent::Ruled { ruling, .. } => Some(ruling.bundle),
            _ => None,
        });
        for step in &story.steps {
            let what = match &step.event {
                WritebackEvent::Verified { .. } => "verified",
                WritebackEvent::Approved { approval }
                    if !matches!(approval.factor, Factor::EhrSignature { .. }) =>
                {
                    "approved"
                }
                WritebackEvent::Released { .. } => "released",
                WritebackEvent::DeliveryStarted(_) => "started",
                _ => continue,
            };
            let at = usize::try_from(step.seq).unwrap_or(usize::MAX);
            let process = truth.committed_by.get(at);
            let goes_by = process.and_then(|it| truth.goes_by.get(it)).copied();
            if goes_by.is_none() || goes_by != ruled_by {
                found.push(format!("{id} was {what} by other rules than ruled on it"));
            }
        }
    }
    for seen in found {
        case.broken(Property::RulesKept, seen);
    }
}
