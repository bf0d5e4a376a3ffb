//! What is tried with one draft: created, read back, created again, changed, changed under a version that
//! is no longer current, and retired.

use chaperone_core::conformance::{CheckOutcome, ConformanceNeeds};
use chaperone_core::content::same_content;
use chaperone_core::digest::Digest;
use chaperone_core::evidence::Strategy;
use chaperone_core::ports::{DeliveryProfile, EhrSearch, Version};
use chaperone_core::resource::{Interaction, ResourceType};
use reqwest::StatusCode;
use reqwest::header::{IF_MATCH, LOCATION};
use serde_json::Value;

use super::drafts::{self, Draft, draft_of, with};
use super::{FhirEndpoint, Run, TestPatient, claims, together};
use crate::egress::{Outgoing, class};
use crate::ehr::answer::{Accepted, Condition, accepted, version_of};
use crate::ehr::operation::{acknowledged, call};
use crate::ehr::read::Turn;
use crate::ehr::write::IF_NONE_EXIST;
use crate::http::Answer;

/// A draft at the server.
pub(super) struct Standing {
    pub(super) resource: ResourceType,
    pub(super) draft: Draft,
    /// Logical id.
    pub(super) id: String,
    /// The business identifier that it carries.
    pub(super) identifier: String,
    /// The version before the last change, where versions are told.
    pub(super) stale: Option<Version>,
    /// The current version.
    pub(super) current: Option<Version>,
    /// Whether updates work at all.
    pub(super) can_change: bool,
    /// Content as it stands there.
    pub(super) content: Value,
}

/// What came of asking to change a version that is no longer current.
pub(super) struct StaleTried {
    /// Whether it was refused as one, and everything is as it was.
    pub(super) is_refused: bool,
    /// The status, for the report.
    pub(super) status: String,
}

impl Run<'_> {
    /// Tries every kind of write that is offered, then transactions and Provenance.
    pub(super) async fn drafts(
        &mut self,
        needs: &ConformanceNeeds,
        statement: &Value,
        patient: &str,
    ) {
        let mut types: Vec<&ResourceType> =
            needs.writes.iter().map(|need| &need.resource).collect();
        types.dedup();
        let mut standing: Vec<Standing> = Vec::new();
        for resource in types {
            let offered = |interaction| self.strategy(resource, interaction);
            let (create, update) = (offered(Interaction::Create), offered(Interaction::Update));
            if create.is_none() && update.is_none() {
                continue;
            }
            match self.draft(statement, patient, resource).await {
                Some(one) => standing.push(one),
                // What was not shown is entered by people.
                None => {
                    for interaction in [Interaction::Create, Interaction::Update] {
                        let key = DeliveryProfile::key(resource, interaction);
                        self.profile.support.remove(&key);
                    }
                }
            }
        }
        together::try_provenance(self, &standing).await;
        together::try_transaction(self, statement, patient, &mut standing).await;
        for one in standing {
            self.retire(&one).await;
        }
    }

    async fn draft(
        &mut self,
        statement: &Value,
        patient: &str,
        resource: &ResourceType,
    ) -> Option<Standing> {
        let name = resource.as_str();
        let identifier = format!("{}-{}", self.name, name.to_ascii_lowercase());
        let now = self.ehr.clock.now().to_string();
        let Some(draft) = draft_of(name, &format!("Patient/{patient}"), &identifier, &now) else {
            let say = "there is no state of this type that counts for nothing, so nothing is tried; people enter it";
            self.note("create", name, CheckOutcome::NotChecked, say);
            return None;
        };
        // A type that tools only update must be created to be tried, if the server lets us.
        let created = self.create(resource, &draft, &identifier).await?;
        let mut standing = Standing {
            resource: resource.clone(),
            stale: None,
            current: created.version.clone(),
            can_change: false,
            content: draft.body.clone(),
            id: created.id,
            identifier,
            draft,
        };
        if !self.read_back(&mut standing, "read-back").await {
            return None;
        }
        self.create_again(&standing).await;
        self.update(&mut standing).await;
        self.history(statement, &standing).await;
        Some(standing)
    }

    async fn create(
        &mut self,
        resource: &ResourceType,
        draft: &Draft,
        identifier: &str,
    ) -> Option<Accepted> {
        let is_conditional =
            self.strategy(resource, Interaction::Create) == Some(Strategy::Conditional);
        let condition = is_conditional.then_some(identifier);
        let answer = self.ehr.post_draft(resource, &draft.body, condition).await;
        let made = answer
            .as_ref()
            .filter(|answer| answer.status == StatusCode::CREATED)
            .and_then(|answer| accepted(answer, resource, None, Condition::None).ok());
        match made {
            Some(made) => {
                let say = "a draft was created";
                self.passed("create", resource.as_str(), say);
                Some(made)
            }
            None => {
                let say = format!(
                    "a draft was not created (status {}); declare the connection's `profile` as what it is, or take the tool out of the bundle",
                    status_of(answer.as_ref())
                );
                self.failed("create", resource.as_str(), say);
                None
            }
        }
    }

    async fn read_back(&mut self, standing: &mut Standing, check: &str) -> bool {
        let resource = standing.resource.clone();
        match self
            .ehr
            .read_one(Turn::Asked, &resource, &standing.id)
            .await
        {
            Ok(found) if same_content(&standing.content, &found) => {
                standing.current = version_of(&found).or(standing.current.take());
                let say = "it reads back as it was sent";
                self.passed(check, resource.as_str(), say);
                true
            }
            Ok(_) => {
                let say = "what is read back differs from what was sent: every write would end before a human";
                self.failed(check, resource.as_str(), say);
                false
            }
            Err(failed) => {
                let say = format!("it cannot be read back: {failed}");
                self.failed(check, resource.as_str(), say);
                false
            }
        }
    }

    /// The same condition twice makes one.
    async fn create_again(&mut self, standing: &Standing) {
        const CHECK: &str = "if-none-exist";
        let (resource, identifier) = (&standing.resource, standing.identifier.as_str());
        if self.strategy(resource, Interaction::Create) != Some(Strategy::Conditional) {
            return;
        }
        let again = self
            .ehr
            .post_draft(resource, &standing.draft.body, Some(identifier))
            .await;
        let found = self.ehr.drafts_with(resource, identifier).await;
        if let Some([one]) = found.as_deref()
            && *one == standing.id
        {
            let say = "the same condition twice made one";
            self.passed(CHECK, resource.as_str(), say);
            return;
        }
        let say = match &found {
            Some(found) => format!(
                "the same condition twice left {} that a search by identifier finds; creates are delivered as plain ones",
                found.len()
            ),
            None => "a search by identifier is not answered; creates are delivered as plain ones"
                .to_owned(),
        };
        self.note(CHECK, resource.as_str(), CheckOutcome::Reduced, say);
        self.reduce(resource, Interaction::Create);
        // A second copy is retired like the first.
        let copy = again.and_then(|answer| accepted(&answer, resource, None, Condition::None).ok());
        if let Some(copy) = copy.filter(|copy| copy.id != standing.id) {
            let body = with(&standing.draft.body, &standing.draft.retire);
            let _ = self
                .ehr
                .put_draft(resource, &copy.id, &body, copy.version.as_ref())
                .await;
        }
    }

    async fn update(&mut self, standing: &mut Standing) {
        if self.patches(&standing.resource) {
            return self.update_by_patch(standing).await;
        }
        let resource = standing.resource.clone();
        let needed = self.strategy(&resource, Interaction::Update);
        let is_conditional = needed == Some(Strategy::Conditional);
        let changed = with(
            &standing.content,
            std::slice::from_ref(&standing.draft.change),
        );
        let before = standing.current.clone();
        let condition = before
            .as_ref()
            .filter(|_| is_conditional || needed.is_none());
        let answer = self
            .ehr
            .put_draft(&resource, &standing.id, &changed, condition)
            .await;
        let took = answer
            .as_ref()
            .is_some_and(|answer| matches!(answer.status, StatusCode::OK | StatusCode::CREATED));
        if !took {
            if needed.is_some() {
                let say = format!(
                    "an update was not taken (status {})",
                    status_of(answer.as_ref())
                );
                self.failed("update", resource.as_str(), say);
            }
            return;
        }
        standing.can_change = true;
        standing.content = changed;
        if !self.read_back(standing, "update").await {
            return;
        }
        standing.stale = before.filter(|before| Some(before) != standing.current.as_ref());
        if is_conditional {
            self.update_stale(standing).await;
        }
    }

    /// A version that is no longer current must be refused.
    async fn update_stale(&mut self, standing: &mut Standing) {
        const CHECK: &str = "if-match";
        let resource = standing.resource.clone();
        let Some(stale) = standing.stale.clone() else {
            let say =
                "no version is told, so none can be asked for; updates are delivered as plain ones";
            self.note(CHECK, resource.as_str(), CheckOutcome::Reduced, say);
            self.reduce(&resource, Interaction::Update);
            return;
        };
        let refusals = [StatusCode::PRECONDITION_FAILED, StatusCode::CONFLICT];
        let tried = self.try_stale(standing, &stale, &refusals).await;
        if tried.is_refused {
            let say = "the current version is taken, an old one is refused";
            self.passed(CHECK, resource.as_str(), say);
            return;
        }
        let say = format!(
            "an old version was not refused (status {}); updates are delivered as plain ones",
            tried.status
        );
        self.note(CHECK, resource.as_str(), CheckOutcome::Reduced, say);
        self.reduce(&resource, Interaction::Update);
    }

    /// Asks to change a version that is no longer current.
    pub(super) async fn try_stale(
        &self,
        standing: &mut Standing,
        stale: &Version,
        refusals: &[StatusCode],
    ) -> StaleTried {
        let (resource, id) = (&standing.resource, &standing.id);
        let answer = self
            .ehr
            .put_draft(resource, id, &standing.draft.body, Some(stale))
            .await;
        let refused = answer
            .as_ref()
            .is_some_and(|answer| refusals.contains(&answer.status));
        let kept = self.ehr.read_one(Turn::Asked, resource, id).await;
        let is_kept = kept
            .as_ref()
            .is_ok_and(|found| same_content(&standing.content, found));
        let is_refused = refused && is_kept;
        if let (false, Ok(found)) = (is_refused, &kept) {
            standing.current = version_of(found);
        }
        StaleTried {
            is_refused,
            status: status_of(answer.as_ref()),
        }
    }

    /// Whether an earlier version can still be read: worth knowing, needed by nothing.
    async fn history(&mut self, statement: &Value, standing: &Standing) {
        let resource = standing.resource.as_str();
        let is_claimed = claims::claims_of(statement, resource)
            .is_some_and(|claimed| crate::ehr::capability::has_interaction(claimed, "vread"));
        let Some(Version(version)) = standing.stale.as_ref() else {
            return;
        };
        let path = format!("{resource}/{}/_history/{version}", standing.id);
        let (outcome, say) = match self.ehr.get(Turn::Asked, &path, resource).await {
            Ok(_) => (CheckOutcome::Passed, "earlier versions can be read"),
            Err(_) if is_claimed => (
                CheckOutcome::Reduced,
                "earlier versions are claimed and cannot be read",
            ),
            Err(_) => (CheckOutcome::NotChecked, "earlier versions cannot be read"),
        };
        self.note("history", resource, outcome, say);
    }

    /// Marks a draft as entered in error or cancelled. Nothing is ever deleted.
    pub(super) async fn retire(&mut self, standing: &Standing) {
        let resource = &standing.resource;
        if !standing.can_change {
            let say = "the draft stays as it is: the server takes no update; retire it by hand";
            self.note("retire", resource.as_str(), CheckOutcome::NotChecked, say);
            return;
        }
        let body = with(&standing.content, &standing.draft.retire);
        let condition = standing.current.as_ref();
        let answer = self
            .ehr
            .put_draft(resource, &standing.id, &body, condition)
            .await;
        let done = answer.is_some_and(|answer| answer.status.is_success());
        if done {
            let say = "the draft is marked as not to be used";
            self.passed("retire", resource.as_str(), say);
        } else {
            let say = "the draft could not be marked as not to be used; do it by hand";
            self.note("retire", resource.as_str(), CheckOutcome::NotChecked, say);
        }
    }
}

impl TestPatient {
    /// A patient of our own is set inactive again.
    pub(super) async fn retire(&self, run: &mut Run<'_>) {
        if !self.own {
            return;
        }
        let Ok(patient) = ResourceType::new("Patient") else {
            return;
        };
        let Ok(found) = run.ehr.read_one(Turn::Asked, &patient, &self.id).await else {
            return;
        };
        let version = version_of(&found);
        let body = with(&found, &[("active", Value::Bool(false))]);
        let _ = run
            .ehr
            .put_draft(&patient, &self.id, &body, version.as_ref())
            .await;
    }
}

impl FhirEndpoint {
    /// The synthetic patient of conformance checks, made when it is not there.
    pub(super) async fn own_patient(&self) -> Result<String, String> {
        const OWN: &str = "patient";
        let patient = ResourceType::new("Patient").map_err(|why| why.to_string())?;
        if let Some([found, ..]) = self.drafts_with(&patient, OWN).await.as_deref() {
            return Ok(found.clone());
        }
        let now = self.clock.now().to_string();
        let draft = draft_of("Patient", "", OWN, &now).ok_or("there is no draft of a patient")?;
        let answer = self.post_draft(&patient, &draft.body, Some(OWN)).await;
        let made = answer
            .as_ref()
            .filter(|answer| answer.status.is_success())
            .and_then(|answer| accepted(answer, &patient, None, Condition::None).ok());
        made.map(|made| made.id)
            .ok_or_else(|| format!("status {}", status_of(answer.as_ref())))
    }

    /// Creates a draft; under a condition when an identifier is given. `None`: no answer.
    pub(super) async fn post_draft(
        &self,
        resource: &ResourceType,
        body: &Value,
        condition: Option<&str>,
    ) -> Option<Answer> {
        if let Some(operation) = self.support(resource, Interaction::Create).operation {
            return self.file_draft(&operation, resource, None, body).await;
        }
        let url = self.base.at(resource.as_str())?;
        let mut request = self.write_client.post(url);
        if let Some(identifier) = condition {
            let condition = format!("identifier={}|{identifier}", drafts::SYSTEM);
            request = request.header(IF_NONE_EXIST, condition);
        }
        self.send_draft(request, body).await
    }

    /// Replaces a draft; under `If-Match` when a version is given.
    pub(super) async fn put_draft(
        &self,
        resource: &ResourceType,
        id: &str,
        body: &Value,
        version: Option<&Version>,
    ) -> Option<Answer> {
        let mut named = body.clone();
        named
            .as_object_mut()?
            .insert("id".to_owned(), Value::String(id.to_owned()));
        if let Some(operation) = self.support(resource, Interaction::Update).operation {
            return self
                .file_draft(&operation, resource, Some(id), &named)
                .await;
        }
        if self.support(resource, Interaction::Update).patch {
            return self.patch_draft(resource, id, &named, version).await;
        }
        let url = self.base.at(&format!("{resource}/{id}"))?;
        let mut request = self.write_client.put(url);
        if let Some(Version(version)) = version {
            request = request.header(IF_MATCH, format!("W/\"{version}\""));
        }
        self.send_draft(request, &named).await
    }

    /// Sends a draft to the EHR's own operation, and answers as a create or update would have been answered.
    async fn file_draft(
        &self,
        operation: &str,
        resource: &ResourceType,
        id: Option<&str>,
        body: &Value,
    ) -> Option<Answer> {
        let text = body.to_string();
        // Each draft, and each change of one, is a message of its own.
        let message = format!("{}|{}", drafts::SYSTEM, Digest::of_bytes(text.as_bytes()));
        let request = self.write_client.post(self.base.at(operation)?);
        let sent = request.body(call(&message, &text)?);
        let mut answer = self.send_once(sent, None).await.ok()?;
        let filed = answer
            .json()
            .and_then(|said| acknowledged(&said, resource, id).ok());
        if let Some(filed) = filed {
            let place = format!("{resource}/{}", filed.id);
            answer.headers.insert(LOCATION, place.parse().ok()?);
            answer.status = match id {
                None => StatusCode::CREATED,
                Some(_) => StatusCode::OK,
            };
        }
        Some(answer)
    }

    pub(super) async fn send_draft(
        &self,
        request: Outgoing<class::Phi>,
        body: &Value,
    ) -> Option<Answer> {
        self.send_once(request.body(body.to_string()), None)
            .await
            .ok()
    }

    /// The ids of all drafts under an identifier; `None` when the search is not answered.
    pub(super) async fn drafts_with(
        &self,
        resource: &ResourceType,
        identifier: &str,
    ) -> Option<Vec<String>> {
        let search = EhrSearch {
            resource: resource.clone(),
            parameters: vec![(
                "identifier".to_owned(),
                format!("{}|{identifier}", drafts::SYSTEM),
            )],
            limit: 5,
        };
        let found = self.search_all(Turn::Asked, search).await.ok()?;
        let id = |resource: &Value| Some(resource.get("id")?.as_str()?.to_owned());
        Some(found.resources.iter().filter_map(id).collect())
    }
}

/// The status as text; "no answer" where none came.
pub(super) fn status_of(answer: Option<&Answer>) -> String {
    answer.map_or_else(
        || "no answer".to_owned(),
        |answer| answer.status.as_u16().to_string(),
    )
}
