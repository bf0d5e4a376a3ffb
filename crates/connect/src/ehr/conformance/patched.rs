//! What is tried with a draft where updates go as patches: a patch onto the current version changes what it names and
//! nothing else, and one onto an old version changes nothing.
//!
//! Where that is not shown, updates are not sent as patches, and people enter them: whether whole resources are taken
//! was not asked, because the connection says that they are not wanted or not claimed.

use chaperone_core::conformance::CheckOutcome;
use chaperone_core::content::same_content;
use chaperone_core::patch::{self, JSON_PATCH};
use chaperone_core::ports::{DeliveryProfile, Version};
use chaperone_core::resource::{Interaction, ResourceType};
use reqwest::StatusCode;
use reqwest::header::IF_MATCH;
use serde_json::Value;

use super::drafts::with;
use super::round_trip::{Standing, status_of};
use super::together::change_entry;
use super::{FhirEndpoint, Run};
use crate::ehr::answer::version_of;
use crate::ehr::read::Turn;
use crate::http::Answer;

const CHECK: &str = "patch";

impl Run<'_> {
    /// Changes a draft by a patch, then tries the version before.
    pub(super) async fn update_by_patch(&mut self, standing: &mut Standing) {
        let resource = standing.resource.clone();
        let Some(before) = standing.current.clone() else {
            let say = "no version is told, so no patch can be bound to one";
            return self.without_patches(&resource, say);
        };
        let changed = with(
            &standing.content,
            std::slice::from_ref(&standing.draft.change),
        );
        let answer = self
            .ehr
            .put_draft(&resource, &standing.id, &changed, Some(&before))
            .await;
        let taken = answer
            .as_ref()
            .is_some_and(|answer| answer.status == StatusCode::OK);
        if !taken {
            let say = format!(
                "a patch of the current version was not taken (status {})",
                status_of(answer.as_ref())
            );
            return self.without_patches(&resource, &say);
        }
        standing.can_change = true;
        let found = self
            .ehr
            .read_one(Turn::Asked, &resource, &standing.id)
            .await;
        let Ok(found) = found else {
            return self.without_patches(&resource, "what was patched cannot be read back");
        };
        standing.current = version_of(&found);
        if !same_content(&changed, &found) {
            standing.content = found;
            let say = "a patch changed something else than it named, or not all of it";
            return self.without_patches(&resource, say);
        }
        standing.content = changed;
        if standing.current.as_ref() == Some(&before) {
            let say = "a patch made no new version, so none can be refused as an old one";
            return self.without_patches(&resource, say);
        }
        let tried = self
            .try_stale(standing, &before, &[StatusCode::PRECONDITION_FAILED])
            .await;
        if tried.is_refused {
            standing.stale = Some(before);
            let say = "a patch of the current version changes what it names and nothing else, one of an old version is refused";
            self.passed(CHECK, resource.as_str(), say);
            self.patch_in_transaction(standing).await;
            return;
        }
        let say = format!(
            "a patch of an old version was not refused as one (status {})",
            tried.status
        );
        self.without_patches(&resource, &say);
    }

    /// Where a patch is to go with its Provenance in one transaction: it takes effect there too. A server may take
    /// both patches and transactions, and no patch in a transaction.
    async fn patch_in_transaction(&mut self, standing: &mut Standing) {
        const CHECK: &str = "patch-in-transaction";
        let resource = standing.resource.clone();
        let key = DeliveryProfile::key(&resource, Interaction::Update);
        let is_atomic = self.profile.support.get(&key).is_some_and(|it| it.atomic);
        if !is_atomic {
            return;
        }
        let before = standing.current.clone();
        let wanted = standing.draft.body.clone();
        let status = self.ehr.patch_draft_together(standing).await;
        let found = self
            .ehr
            .read_one(Turn::Asked, &resource, &standing.id)
            .await;
        let is_taken = found
            .as_ref()
            .is_ok_and(|found| same_content(&wanted, found));
        if let Ok(found) = &found {
            standing.current = version_of(found);
        }
        if status == Some(StatusCode::OK) && is_taken {
            standing.content = wanted;
            standing.stale = before;
            let say = "a patch takes effect in a transaction";
            self.passed(CHECK, resource.as_str(), say);
            return;
        }
        if let Some(entry) = self.profile.support.get_mut(&key) {
            entry.atomic = false;
        }
        let say = "a patch takes no effect in a transaction; target and Provenance go one after the other";
        self.note(CHECK, resource.as_str(), CheckOutcome::Reduced, say);
    }

    fn without_patches(&mut self, resource: &ResourceType, why: &str) {
        let key = DeliveryProfile::key(resource, Interaction::Update);
        self.profile.support.remove(&key);
        let say = format!(
            "{why}; updates are not sent as patches, people enter them. Where the server takes whole resources, set `updates_as_patches` to false"
        );
        self.note(CHECK, resource.as_str(), CheckOutcome::Reduced, say);
    }
}

impl FhirEndpoint {
    /// Makes of a draft, as it stands there, what is wanted of it. `None`: no answer, or nothing to patch.
    pub(super) async fn patch_draft(
        &self,
        resource: &ResourceType,
        id: &str,
        wanted: &Value,
        version: Option<&Version>,
    ) -> Option<Answer> {
        let stands = self.read_one(Turn::Asked, resource, id).await.ok()?;
        let patch = patch::between(&stands.to_string(), &wanted.to_string())?;
        let url = self.base.at(&format!("{resource}/{id}"))?;
        let mut request = self.write_client.patch(url).body(patch);
        if let Some(Version(version)) = version {
            request = request.header(IF_MATCH, format!("W/\"{version}\""));
        }
        self.send_typed(request, JSON_PATCH, None).await.ok()
    }

    /// Makes of a draft what it was first, by a patch in a transaction of its own: the status of the answer.
    async fn patch_draft_together(&self, standing: &Standing) -> Option<StatusCode> {
        let mut wanted = standing.draft.body.clone();
        let members = wanted.as_object_mut()?;
        members.insert("id".to_owned(), Value::String(standing.id.clone()));
        let version = standing.current.as_ref()?;
        let entry = change_entry(self, standing, &wanted, version).await?;
        let answer = self.send_together(vec![entry]).await?;
        Some(answer.status)
    }
}
