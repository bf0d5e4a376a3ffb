//! What goes together: Provenance with what it is about, and transactions: under conditions, and as a whole or not at all.

use chaperone_core::conformance::CheckOutcome;
use chaperone_core::content::same_content;
use chaperone_core::evidence::Strategy;
use chaperone_core::patch;
use chaperone_core::ports::{DeliveryProfile, Version};
use chaperone_core::resource::{Interaction, ResourceType};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::drafts::Draft;
use super::round_trip::{Standing, status_of};
use super::{FhirEndpoint, Run, claims, drafts};
use crate::ehr::answer::version_of;
use crate::ehr::read::Turn;
use crate::ehr::transaction::patch_binary;
use crate::ehr::write::location;
use crate::http::Answer;

const CHECK: &str = "transaction";

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

/// Tries what goes in transactions. For each way in which updates go, the same transaction is sent twice: with the current
/// version, where all of it must take effect, and with an old one, where nothing may. A server that refuses such
/// transactions unread would pass the second alone.
pub(super) async fn try_transaction(
    run: &mut Run<'_>,
    statement: &Value,
    patient: &str,
    standing: &mut [Standing],
) {
    let declared = run.profile.support.values().any(|entry| entry.atomic);
    let claimed = claims::claims_system(statement, "transaction");
    if !declared && !claimed {
        return;
    }
    if !creates_once(run, standing).await {
        set_not_atomic(run);
        return;
    }
    let mut is_tried = false;
    for method in [Method::PUT, Method::PATCH] {
        let can_be_tried = |one: &&mut Standing| is_changed_by(run, one, &method, declared);
        let Some(target) = standing.iter_mut().find(can_be_tried) else {
            continue;
        };
        is_tried = true;
        if let Err(flaw) = try_whole(run, patient, target, &method).await {
            return flaw.note(run, declared);
        }
    }
    if !is_tried {
        let say = "no update goes in a transaction under its version, so atomicity cannot be tried; target and Provenance go one after the other";
        run.note(CHECK, "server", CheckOutcome::NotChecked, say);
        set_not_atomic(run);
        return;
    }
    let say = if declared {
        "all of a transaction takes effect, and one bad entry undoes the whole of it"
    } else {
        "all of a transaction takes effect, and one bad entry undoes the whole of it; `transactions_are_atomic` may be set to true"
    };
    run.passed(CHECK, "server", say);
}

/// Whether a condition that finds what is there makes no second one in a transaction, for every type that is created so.
async fn creates_once(run: &mut Run<'_>, standing: &[Standing]) -> bool {
    const CHECK: &str = "create-in-transaction";
    for one in standing {
        let resource = &one.resource;
        if run.strategy(resource, Interaction::Create) != Some(Strategy::Conditional) {
            continue;
        }
        let answer = run
            .ehr
            .send_together(vec![create_entry(&one.draft.body, &one.identifier)])
            .await;
        let found = run.ehr.drafts_with(resource, &one.identifier).await;
        let is_once = found
            .as_ref()
            .is_some_and(|found| *found == [one.id.as_str()]);
        if is_once && is_ok(answer.as_ref()) {
            let say = "in a transaction, too, the same condition makes one";
            run.passed(CHECK, resource.as_str(), say);
            continue;
        }
        let copies = found.unwrap_or_default();
        let copies = copies.iter().filter(|copy| **copy != one.id);
        run.ehr.retire_all(resource, &one.draft, copies).await;
        let say = format!(
            "a condition does not hold in a transaction (status {}); target and Provenance go one after the other",
            status_of(answer.as_ref())
        );
        run.note(CHECK, resource.as_str(), CheckOutcome::Reduced, say);
        return false;
    }
    true
}

/// Whether a draft can show how transactions go with a change of this kind: updates of its type go so, under their
/// version, and in transactions at all.
fn is_changed_by(run: &Run<'_>, one: &Standing, method: &Method, declared: bool) -> bool {
    let key = DeliveryProfile::key(&one.resource, Interaction::Update);
    // A type that nothing updates was tried as whole resources all the same, and not as a patch in a transaction.
    let is_usable = match run.profile.support.get(&key) {
        Some(entry) => entry.strategy == Strategy::Conditional && (entry.atomic || !declared),
        None => *method == Method::PUT,
    };
    one.stale.is_some() && one.can_change && is_usable && method_of(run.ehr, one) == *method
}

fn method_of(ehr: &FhirEndpoint, one: &Standing) -> Method {
    match ehr.support(&one.resource, Interaction::Update).patch {
        true => Method::PATCH,
        false => Method::PUT,
    }
}

/// Why transactions are not used.
enum Flaw {
    /// One that should have taken effect did not, and left nothing.
    NotTaken(String),
    /// One took effect in part, or although an entry was bad.
    NotWhole(String),
}

impl Flaw {
    /// Notes it. A server that was declared to be atomic and is not has been declared wrongly.
    fn note(self, run: &mut Run<'_>, declared: bool) {
        match self {
            Flaw::NotWhole(why) if declared => {
                let say = format!("{why}; set `transactions_are_atomic` to false");
                run.failed(CHECK, "server", say);
            }
            Flaw::NotTaken(why) | Flaw::NotWhole(why) => {
                let say = format!("{why}; target and Provenance go one after the other");
                run.note(CHECK, "server", CheckOutcome::Reduced, say);
            }
        }
        set_not_atomic(run);
    }
}

/// Tries whether a create and a change of a draft go as one: both where the version is current, neither where it is old.
async fn try_whole(
    run: &Run<'_>,
    patient: &str,
    target: &mut Standing,
    method: &Method,
) -> Result<(), Flaw> {
    let name = method.as_str().to_ascii_lowercase();
    let current = target.current.clone();
    let good = as_one(run, patient, target, current, &format!("{name}-good")).await;
    if !good.took_effect() {
        let status = &good.status;
        if good.shows_late() {
            return Err(Flaw::NotTaken(
                "what a transaction made is not found at once, so nobody can tell whether one bad entry undoes it"
                    .to_owned(),
            ));
        }
        return Err(match good.left_nothing() {
            true => Flaw::NotTaken(format!(
                "a transaction of a create and a {method} was not carried out (status {status})"
            )),
            false => Flaw::NotWhole(format!(
                "a transaction of a create and a {method} was not carried out as a whole (status {status})"
            )),
        });
    }
    let stale = target.stale.clone();
    let bad = as_one(run, patient, target, stale, &format!("{name}-bad")).await;
    match bad.is_refused && bad.left_nothing() {
        true => Ok(()),
        false => Err(Flaw::NotWhole(format!(
            "a transaction with one bad entry, a {method} of an old version, was not undone as a whole"
        ))),
    }
}

/// What became of a create and a change in one transaction.
struct Became {
    status: String,
    is_taken: bool,
    is_refused: bool,
    /// How many were made, where a search tells.
    made: Option<usize>,
    is_changed: bool,
    is_as_before: bool,
}

impl Became {
    fn took_effect(&self) -> bool {
        self.is_taken && self.made == Some(1) && self.is_changed
    }

    /// Whether it was carried out, and a search does not show all of it yet.
    fn shows_late(&self) -> bool {
        self.is_taken && self.made.unwrap_or(0) == 0 && self.is_changed
    }

    fn left_nothing(&self) -> bool {
        self.made == Some(0) && self.is_as_before
    }
}

/// Sends a create with a change of a draft in a version, and looks what became of both. What was made is retired.
async fn as_one(
    run: &Run<'_>,
    patient: &str,
    target: &mut Standing,
    version: Option<Version>,
    name: &str,
) -> Became {
    let identifier = format!("{}-{name}", run.name);
    let wanted = other_content(target);
    let subject = format!("Patient/{patient}");
    let now = run.ehr.clock.now().to_string();
    let new = drafts::draft_of(target.resource.as_str(), &subject, &identifier, &now);
    let answer = match (&new, change_to(run.ehr, target, &wanted, version).await) {
        (Some(new), Some(change)) => {
            let entries = vec![create_entry(&new.body, &identifier), change];
            run.ehr.send_together(entries).await
        }
        _ => None,
    };
    let made = run.ehr.drafts_with(&target.resource, &identifier).await;
    if let Some(new) = &new {
        let made = made.iter().flatten();
        run.ehr.retire_all(&target.resource, new, made).await;
    }
    let found = run.ehr.read_one(Turn::Asked, &target.resource, &target.id);
    let found = found.await.ok();
    let stands = |content: &Value| found.as_ref().is_some_and(|it| same_content(content, it));
    let became = Became {
        status: status_of(answer.as_ref()),
        is_taken: is_ok(answer.as_ref()),
        is_refused: answer
            .as_ref()
            .is_some_and(|answer| answer.status.is_client_error()),
        made: made.map(|made| made.len()),
        is_changed: stands(&wanted),
        is_as_before: stands(&target.content),
    };
    if became.is_changed {
        target.stale = target.current.take();
        target.current = found.as_ref().and_then(version_of);
        target.content = wanted;
    }
    became
}

/// The entry that changes a draft to what is wanted of it, in a version.
async fn change_to(
    ehr: &FhirEndpoint,
    target: &Standing,
    wanted: &Value,
    version: Option<Version>,
) -> Option<Value> {
    let mut wanted = wanted.clone();
    let members = wanted.as_object_mut()?;
    members.insert("id".to_owned(), json!(target.id));
    change_entry(ehr, target, &wanted, &version?).await
}

/// Of the two contents that a draft may have, the one that does not stand there.
fn other_content(target: &Standing) -> Value {
    let change = std::slice::from_ref(&target.draft.change);
    let changed = drafts::with(&target.draft.body, change);
    match same_content(&changed, &target.content) {
        true => target.draft.body.clone(),
        false => changed,
    }
}

fn create_entry(body: &Value, identifier: &str) -> Value {
    json!({
        "resource": body,
        "request": {
            "method": "POST",
            "url": body.get("resourceType"),
            "ifNoneExist": format!("identifier={}|{identifier}", drafts::SYSTEM),
        },
    })
}

/// The entry that makes of a draft what is wanted of it, under a version, in the way in which updates go.
pub(super) async fn change_entry(
    ehr: &FhirEndpoint,
    target: &Standing,
    wanted: &Value,
    Version(version): &Version,
) -> Option<Value> {
    let (resource, id) = (&target.resource, &target.id);
    let method = method_of(ehr, target);
    let content = if method == Method::PATCH {
        let stands = ehr.read_one(Turn::Asked, resource, id).await.ok()?;
        patch_binary(&patch::between(&stands.to_string(), &wanted.to_string())?)
    } else {
        wanted.clone()
    };
    Some(json!({
        "resource": content,
        "request": {
            "method": method.as_str(),
            "url": format!("{resource}/{id}"),
            "ifMatch": format!("W/\"{version}\""),
        },
    }))
}

fn is_ok(answer: Option<&Answer>) -> bool {
    answer.is_some_and(|answer| answer.status == StatusCode::OK)
}

fn set_not_atomic(run: &mut Run<'_>) {
    for entry in run.profile.support.values_mut() {
        entry.atomic = false;
    }
}

impl FhirEndpoint {
    /// Sends entries as one transaction.
    pub(super) async fn send_together(&self, entries: Vec<Value>) -> Option<Answer> {
        let bundle = json!({ "resourceType": "Bundle", "type": "transaction", "entry": entries });
        let request = self.write_client.post(self.base.at("")?);
        self.send_draft(request, &bundle).await
    }

    /// Marks what was made beside a draft as not to be used, like the draft itself.
    async fn retire_all(
        &self,
        resource: &ResourceType,
        like: &Draft,
        ids: impl Iterator<Item = &String>,
    ) {
        let body = drafts::with(&like.body, &like.retire);
        for id in ids {
            let _ = self.put_draft(resource, id, &body, None).await;
        }
    }
}
