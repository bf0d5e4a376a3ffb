//! What goes together: a transaction with one bad entry, which must leave nothing, and Provenance.

use chaperone_core::conformance::CheckOutcome;
use chaperone_core::content::same_content;
use chaperone_core::evidence::Strategy;
use chaperone_core::patch;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::round_trip::{Standing, status_of};
use super::{Run, claims, drafts};
use crate::ehr::read::Turn;
use crate::ehr::transaction::patch_binary;
use crate::ehr::write::location;

/// Writes one Provenance about a draft, where the profile says that Provenance is taken.
pub(super) async fn try_provenance(run: &mut Run<'_>, standing: &[Standing]) {
    const CHECK: &str = "provenance";
    let wanted = run.profile.support.values().any(|entry| entry.provenance);
    let (Some(about), true) = (standing.first(), wanted) else {
        return;
    };
    let target = location(&about.resource, &about.id, about.current.as_ref());
    let provenance = json!({
        "resourceType": "Provenance",
        "target": [{ "reference": target }],
        "recorded": run.ehr.clock.now().to_string(),
        "agent": [{ "who": { "identifier": { "system": drafts::SYSTEM, "value": run.name } } }],
    });
    let answer = match run.ehr.base.at("Provenance") {
        Some(url) => {
            let request = run.ehr.write_client.post(url);
            run.ehr.send_draft(request, &provenance).await
        }
        None => None,
    };
    if answer
        .as_ref()
        .is_some_and(|answer| answer.status == StatusCode::CREATED)
    {
        run.passed(CHECK, "Provenance", "a Provenance is taken");
        return;
    }
    let say = format!(
        "a Provenance is not taken (status {}); none is sent, the ledger holds who did what",
        status_of(answer.as_ref())
    );
    run.note(CHECK, "Provenance", CheckOutcome::Reduced, say);
    for entry in run.profile.support.values_mut() {
        entry.provenance = false;
        entry.atomic = false;
    }
}

/// Sends a good entry with one that must fail, and looks whether the good one is there.
pub(super) async fn try_transaction(
    run: &mut Run<'_>,
    statement: &Value,
    patient: &str,
    standing: &[Standing],
) {
    const CHECK: &str = "transaction";
    let declared = run.profile.support.values().any(|entry| entry.atomic);
    let claimed = claims::claims_system(statement, "transaction");
    if !declared && !claimed {
        return;
    }
    // The bad entry is an update of a version that is no longer current: valid, and refused only when it
    // is carried out.
    let target = standing.iter().find(|one| {
        let update = chaperone_core::resource::Interaction::Update;
        let is_refused = run
            .strategy(&one.resource, update)
            .is_none_or(|strategy| strategy == Strategy::Conditional);
        one.stale.is_some() && one.can_change && is_refused
    });
    let Some((target, stale)) = target.and_then(|one| Some((one, one.stale.clone()?))) else {
        let say = "no version can be asked for, so atomicity cannot be tried; target and Provenance go one after the other";
        run.note(CHECK, "server", CheckOutcome::NotChecked, say);
        set_not_atomic(run);
        return;
    };
    let identifier = format!("{}-together", run.name);
    let resource = target.resource.as_str();
    let now = run.ehr.clock.now().to_string();
    let good = drafts::draft_of(resource, &format!("Patient/{patient}"), &identifier, &now);
    let (Some(good), Some(url)) = (good, run.ehr.base.at("")) else {
        return;
    };
    let Some((bad, method)) = stale_entry(run, target).await else {
        return;
    };
    let bundle = json!({
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            { "resource": good.body, "request": { "method": "POST", "url": resource } },
            {
                "resource": bad,
                "request": {
                    "method": method,
                    "url": format!("{resource}/{}", target.id),
                    "ifMatch": format!("W/\"{}\"", stale.0),
                },
            },
        ],
    });
    let request = run.ehr.write_client.post(url);
    let answer = run.ehr.send_draft(request, &bundle).await;
    let left = run.ehr.drafts_with(&target.resource, &identifier).await;
    let refused = answer
        .as_ref()
        .is_some_and(|answer| answer.status.is_client_error());
    if refused && left.as_ref().is_some_and(Vec::is_empty) {
        let say = if declared {
            "one bad entry undoes the whole transaction"
        } else {
            "one bad entry undoes the whole transaction; `transactions_are_atomic` may be set to true"
        };
        run.passed(CHECK, "server", say);
        return;
    }
    for id in left.iter().flatten() {
        let body = drafts::with(&good.body, &good.retire);
        let _ = run.ehr.put_draft(&target.resource, id, &body, None).await;
    }
    let say = "a transaction with one bad entry was not undone as a whole";
    if declared {
        let say = format!("{say}; set `transactions_are_atomic` to false");
        run.failed(CHECK, "server", say);
    } else {
        let say = format!("{say}; target and Provenance go one after the other");
        run.note(CHECK, "server", CheckOutcome::Reduced, say);
    }
    set_not_atomic(run);
}

/// The resource and method of an entry that changes what stands there in the way in which updates go.
async fn stale_entry(run: &Run<'_>, target: &Standing) -> Option<(Value, &'static str)> {
    let with_id = |body: &Value| {
        let mut named = body.clone();
        let members = named.as_object_mut()?;
        members.insert("id".to_owned(), json!(target.id));
        Some(named)
    };
    if !run.patches(&target.resource) {
        return Some((with_id(&target.content)?, "PUT"));
    }
    let stands = run
        .ehr
        .read_one(Turn::Asked, &target.resource, &target.id)
        .await
        .ok()?;
    let change = std::slice::from_ref(&target.draft.change);
    let changed = drafts::with(&target.draft.body, change);
    // One that changes something, whichever of the two stands there.
    let other = match same_content(&changed, &stands) {
        true => &target.draft.body,
        false => &changed,
    };
    let patch = patch::between(&stands.to_string(), &with_id(other)?.to_string())?;
    Some((patch_binary(&patch), "PATCH"))
}

fn set_not_atomic(run: &mut Run<'_>) {
    for entry in run.profile.support.values_mut() {
        entry.atomic = false;
    }
}
