//! A governed read: consent, a strict search with the patient injected, every hit checked against the
//! patient's compartment and asked about again, projection to the view, tokens for identifiers.
//!
//! ```text
//! consent ─▶ ┬─ read_permitted (durable) ─┬─▶ compartment ─▶ consent ─▶ view ─▶ tokens ─▶ answer ─▶ read_released
//!            └─ EHR search ───────────────┘                 (free text: `free_text`)
//! ```
//! The ceiling is made durable while the EHR is answering, and the answer leaves only after both.
//! One foreign hit empties the answer (invariant 8).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::bundle::{ReadAction, ToolAction};
use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, ReadCeiling, StreamId};
use chaperone_core::ids::{IntentId, PatientToken, ResourceToken, ToolName};
use chaperone_core::ports::{EhrRead, EhrSearch, Expected, PayloadClass};
use chaperone_core::resource::ResourceType;
use chaperone_core::search::escape_search_value;
use chaperone_fhir::Definitions;
use chaperone_fhir::references::{Membership, PatientRef, in_patient_compartment};
use chaperone_phi::consent::Action;
use chaperone_phi::tokens::TokenTarget as ViewTarget;
use chaperone_phi::view::{Lookups, View};
use chaperone_policy::Bundle;
use chaperone_policy::bundle::fields_shown;
use serde_json::{Value, json};

use crate::afterwork::Piece;
use crate::call::{Admitted, is_token};
use crate::consent::Consulted;
use crate::context::Engine;
use crate::errors::CallError;
use crate::free_text::{Tally, TextReader};
use crate::merge::instant;
use crate::outside_text::ShownText;
use crate::slots::by_word;
use crate::tokens::{TokenFailed, TokenTarget};

/// Most resources in one answer, whatever a tool's `_count` says.
const RESOURCES_MAX: u32 = 100;

/// How many resources a search may bring: as many as were asked for. To an EHR `_count` is only the size
/// of a page, and all pages would be read.
fn limit_of(parameters: &[(String, String)]) -> u32 {
    parameters
        .iter()
        .find(|(name, _)| name == "_count")
        .and_then(|(_, count)| count.parse().ok())
        .map_or(RESOURCES_MAX, |count: u32| count.min(RESOURCES_MAX))
}

/// The views of all intents and tools, compiled at start.
#[derive(Debug)]
pub struct CompiledViews(BTreeMap<(IntentId, ToolName), View>);

impl CompiledViews {
    /// Compiles what each tool shows in each intent: the intersection of the tool's fields and the
    /// intent's view.
    pub(crate) fn compile(bundle: &Bundle, definitions: &Definitions) -> Result<Self, String> {
        let mut views = BTreeMap::new();
        for intent in bundle.intents() {
            // A misspelt element would otherwise silently show nothing.
            for (resource, fields) in intent.view.iter().chain(&intent.text) {
                if let Some(unknown) = fields
                    .iter()
                    .find(|field| definitions.element_type(resource.as_str(), field).is_none())
                {
                    return Err(format!(
                        "intents/{}.toml: `view.{resource}`: `{unknown}` is no element of {resource}",
                        intent.id
                    ));
                }
            }
            for name in &intent.tools {
                let Some(tool) = bundle.tool(name) else {
                    continue;
                };
                let Some(ToolAction::Read(read)) = tool.action() else {
                    continue;
                };
                let resource = read.query.split('?').next().unwrap_or_default();
                let resource = ResourceType::new(resource)
                    .map_err(|e| format!("tools/{name}.toml: `query`: {e}"))?;
                let allowed = intent.view.get(&resource);
                let fields = allowed.map_or_else(Vec::new, |view| fields_shown(view, &read.fields));
                let readable = intent.text.get(&resource);
                let text: Vec<String> = read
                    .text
                    .iter()
                    .filter(|path| readable.is_some_and(|text| text.contains(path)))
                    .cloned()
                    .collect();
                let view = View::compile_with_text(definitions, name, &resource, &fields, &text)
                    .map_err(|e| format!("intents/{}.toml: {e}", intent.id))?;
                views.insert((intent.id.clone(), name.clone()), view);
            }
        }
        Ok(Self(views))
    }

    fn of(&self, intent: &IntentId, tool: &ToolName) -> Option<&View> {
        self.0.get(&(intent.clone(), tool.clone()))
    }
}

/// What one read shows, before it is an answer.
pub(crate) struct Shown {
    resources: Vec<Value>,
    fields: BTreeSet<String>,
    withheld: BTreeSet<String>,
    labels: BTreeSet<String>,
    versions: Digest,
    /// Whether the view names free text at all.
    has_text: bool,
    text: BTreeSet<String>,
    pub(crate) tally: Tally,
    /// What consent and law oblige to say with the answer.
    notices: BTreeSet<String>,
    /// How many resources consent left out.
    left_out: u32,
    /// The texts in it, as they are shown.
    texts: Vec<ShownText>,
}

impl Engine {
    pub(crate) async fn read(
        &self,
        admitted: &Admitted<'_>,
        read: &ReadAction,
    ) -> Result<Value, CallError> {
        let envelope = &admitted.caller.envelope;
        let view = self
            .views
            .of(&envelope.intent, &admitted.tool.name)
            .ok_or_else(CallError::unknown_tool)?;
        let (search, is_about_patient) = self.search_of(admitted, read).await?;
        let consulted = self
            .consult(admitted, &search.resource, is_about_patient, Action::Read)
            .await?;
        let ceiling = ReadCeiling {
            correlation: admitted.correlation,
            tool: admitted.tool.name.clone(),
            connection: self.ehr.connection().clone(),
            resource: search.resource.clone(),
            patient: envelope.patient,
            fields: view.fields().to_vec(),
            text: view.text().to_vec(),
            policies: admitted.policies.clone(),
            consent: consulted.basis.clone(),
            purpose: None,
        };
        let mut permitted = self.commit_as(admitted.caller.actor());
        permitted.append(
            StreamId::Envelope(envelope.id),
            Expected::Any,
            Event::ReadPermitted(Box::new(ceiling)),
        );
        admitted.record_followed(&mut permitted);
        let (recorded, found, ()) = futures::join!(
            self.store.commit(permitted),
            self.ehr.search(search.clone()),
            self.renew_consents(&consulted)
        );
        recorded?;
        let shown = match found {
            Ok(found) => {
                self.show(
                    admitted,
                    view,
                    &search,
                    is_about_patient,
                    &consulted,
                    &found,
                )
                .await
            }
            Err(failed) => Err(failed.into()),
        };
        match shown {
            Ok((mut shown, more)) => {
                self.keep_shown_texts(admitted, &shown.texts).await?;
                // Logical ids can be guessed; what the ledger says about them must not confirm one.
                let versions = [&shown.versions.as_bytes()[..]];
                shown.versions = self
                    .keyed_digest(PayloadClass::Derived, envelope.patient, &versions)
                    .await?;
                self.after_release(admitted, &shown);
                Ok(answer(shown, more, admitted))
            }
            Err(error) => {
                let mut failed = self.commit_as(admitted.caller.actor());
                failed.append(
                    StreamId::Envelope(envelope.id),
                    Expected::Any,
                    Event::ReadFailed {
                        correlation: admitted.correlation,
                        code: error.code.to_owned(),
                    },
                );
                self.store.commit(failed).await?;
                Err(error.as_recorded())
            }
        }
    }

    /// Fills the tool's query. True when it is about the envelope's patient.
    async fn search_of(
        &self,
        admitted: &Admitted<'_>,
        read: &ReadAction,
    ) -> Result<(EhrSearch, bool), CallError> {
        let (resource, query) = read.query.split_once('?').unwrap_or((&read.query, ""));
        let resource = ResourceType::new(resource).map_err(|_| CallError::internal())?;
        let mut parameters = Vec::new();
        let mut is_about_patient = false;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, template) = pair.split_once('=').ok_or_else(CallError::internal)?;
            is_about_patient |= template.contains("{patient}");
            if let Some(value) = self.parameter(admitted, name, template).await? {
                parameters.push((name.to_owned(), value));
            }
        }
        let limit = limit_of(&parameters);
        Ok((
            EhrSearch {
                resource,
                parameters,
                limit,
            },
            is_about_patient,
        ))
    }

    /// The value of one parameter; `None` when any of its inputs is absent.
    async fn parameter(
        &self,
        admitted: &Admitted<'_>,
        parameter: &str,
        template: &str,
    ) -> Result<Option<String>, CallError> {
        let mut value = String::new();
        let mut rest = template;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or_else(CallError::internal)?;
            value.push_str(before);
            // With its type, an id means one thing to every server: some compare references as text,
            // and others would take a bare id for any type.
            let is_bare = parameter == "_id" || value.ends_with('/');
            let Some(filled) = self.filled(admitted, name, is_bare).await? else {
                return Ok(None);
            };
            value.push_str(&filled);
            rest = after;
        }
        value.push_str(rest);
        Ok(Some(value))
    }

    /// What stands in the place of one placeholder.
    async fn filled(
        &self,
        admitted: &Admitted<'_>,
        name: &str,
        is_bare: bool,
    ) -> Result<Option<String>, CallError> {
        let envelope = &admitted.caller.envelope;
        let reference = |resource: &str, id: &str| {
            if is_bare {
                id.to_owned()
            } else {
                format!("{resource}/{id}")
            }
        };
        Ok(match name {
            "patient" => {
                let token = envelope.patient.ok_or_else(CallError::denied)?;
                Some(reference("Patient", &self.patient_id(token).await?))
            }
            "encounter" => match envelope.encounter {
                Some(token) => {
                    let target = self.resource_target(token).await?;
                    Some(reference(target.resource.as_str(), &target.id))
                }
                None => None,
            },
            "now" => Some(instant(self.now())),
            input if is_token(admitted.tool, input) => match admitted.arguments.text(input) {
                Some(token) => {
                    let target = self.own_target(admitted, input, token).await?;
                    Some(reference(target.resource.as_str(), &target.id))
                }
                None => None,
            },
            input => admitted
                .arguments
                .inputs
                .get(input)
                .map(plain)
                .map(|value| escape_search_value(&value)),
        })
    }

    /// What a token argument stands for, if it was handed out for this envelope's patient and is of
    /// the declared type. Every other case looks the same from outside.
    pub(crate) async fn own_target(
        &self,
        admitted: &Admitted<'_>,
        input: &str,
        token: &str,
    ) -> Result<TokenTarget, CallError> {
        let missing = || CallError::not_found().about(input);
        let token: ResourceToken = token.parse().map_err(|_| missing())?;
        let target = match self.resource_target(token).await {
            Ok(target) => target,
            Err(TokenFailed::Unknown) => return Err(missing()),
            Err(failed) => return Err(failed.into()),
        };
        let declared = admitted
            .tool
            .inputs
            .get(input)
            .and_then(|i| i.resource.as_ref());
        let is_own = target.patient.is_none() || target.patient == admitted.caller.envelope.patient;
        if !is_own || declared != Some(&target.resource) {
            return Err(missing());
        }
        Ok(target)
    }

    /// Whether a resource is in a patient's compartment, and in no other's.
    pub(crate) fn belongs_to(&self, resource: &Value, patient_id: &str) -> bool {
        let patient = PatientRef {
            id: patient_id,
            base_url: self.ehr.endpoint(),
        };
        in_patient_compartment(self.definitions, resource, &patient) == Membership::Member
    }

    async fn show(
        &self,
        admitted: &Admitted<'_>,
        view: &View,
        search: &EhrSearch,
        is_about_patient: bool,
        consulted: &Consulted,
        found: &EhrRead,
    ) -> Result<(Shown, bool), CallError> {
        let patient = match (is_about_patient, admitted.caller.envelope.patient) {
            (true, Some(token)) => Some((token, self.patient_id(token).await?)),
            (true, None) => return Err(CallError::denied()),
            (false, _) => None,
        };
        for resource in &found.resources {
            if !self.is_expected(
                resource,
                search,
                patient.as_ref().map(|(_, id)| id.as_str()),
            ) {
                tracing::warn!(
                    correlation = %admitted.correlation,
                    "the EHR returned something outside the patient's compartment; nothing is shown"
                );
                return Err(CallError::ehr_unusable());
            }
        }
        let seen = self.seen_by(consulted, &found.resources);
        let visible: Vec<&Value> = seen.visible.iter().map(AsRef::as_ref).collect();
        let tokens = self
            .tokens_of(view, &visible, patient.map(|(token, _)| token))
            .await?;
        let mut shown = self.reduce(admitted, view, &visible, &tokens).await?;
        shown.withheld.extend(seen.withheld);
        shown.notices = seen.notices;
        shown.left_out = seen.left_out;
        Ok((shown, found.more))
    }

    /// Whether a hit is of the type that was searched, and in the patient's compartment; without a patient,
    /// in nobody's.
    pub(crate) fn is_expected(
        &self,
        resource: &Value,
        search: &EhrSearch,
        patient: Option<&str>,
    ) -> bool {
        let text = |key: &str| resource.get(key).and_then(Value::as_str);
        if text("resourceType") != Some(search.resource.as_str()) || text("id").is_none() {
            return false;
        }
        match patient {
            Some(id) => self.belongs_to(resource, id),
            // What is about no patient must name none.
            None => {
                let nobody = PatientRef {
                    id: "",
                    base_url: self.ehr.endpoint(),
                };
                in_patient_compartment(self.definitions, resource, &nobody) == Membership::NoPatient
            }
        }
    }

    /// Tokens for everything the view would show an identifier of; one commit makes what is new.
    async fn tokens_of(
        &self,
        view: &View,
        resources: &[&Value],
        patient: Option<PatientToken>,
    ) -> Result<BTreeMap<ViewTarget, String>, CallError> {
        let mut wanted = BTreeSet::new();
        for resource in resources {
            wanted.extend(view.targets(resource).map_err(not_shown)?);
        }
        let mut tokens = BTreeMap::new();
        let mut others = Vec::new();
        for target in wanted {
            if target.resource_type.as_str() == "Patient" {
                let token = self.patient_token(&target.id).await?;
                tokens.insert(target, token.to_string());
            } else {
                others.push(target);
            }
        }
        let targets: Vec<TokenTarget> = others
            .iter()
            .map(|t| TokenTarget {
                resource: t.resource_type.clone(),
                id: t.id.clone(),
                patient,
            })
            .collect();
        let made = self.resource_tokens(&targets).await?;
        tokens.extend(others.into_iter().zip(made.iter().map(ToString::to_string)));
        Ok(tokens)
    }

    fn after_release(&self, admitted: &Admitted<'_>, shown: &Shown) {
        let mut released = self.commit_as(admitted.caller.actor());
        released.append(
            StreamId::Envelope(admitted.caller.envelope.id),
            Expected::Any,
            Event::ReadReleased {
                correlation: admitted.correlation,
                resources: u32::try_from(shown.resources.len()).unwrap_or(u32::MAX),
                versions: shown.versions,
                fields: shown.fields.iter().cloned().collect(),
                labels: shown.labels.iter().cloned().collect(),
                withheld: shown.withheld.iter().cloned().collect(),
                text: shown.text.iter().cloned().collect(),
                replaced: by_word(&shown.tally.replaced),
                left_out: shown.left_out,
            },
        );
        self.after(Piece::Record(Box::new(released)));
    }
}

impl From<TokenFailed> for CallError {
    fn from(failed: TokenFailed) -> Self {
        match failed {
            TokenFailed::Unknown => CallError::not_found(),
            TokenFailed::Store(failed) => failed.into(),
            TokenFailed::Commit(failed) => failed.into(),
            TokenFailed::Keys(failed) => failed.into(),
            TokenFailed::Unreadable(_) | TokenFailed::Seal(_) => {
                tracing::error!(error = %failed, "a token could not be opened");
                CallError::internal()
            }
        }
    }
}

/// A resource that cannot be reduced safely is not shown, and neither is anything beside it.
pub(crate) fn not_shown(failed: chaperone_phi::view::ProjectFailed) -> CallError {
    tracing::warn!(error = %failed, "a resource could not be reduced to its view");
    CallError::ehr_unusable()
}

/// Displays come from terminology, which is not loaded yet; a source's own display is never shown.
fn no_display(_system: &str, _code: &str) -> Option<String> {
    None
}

pub(crate) fn shown(
    view: &View,
    resources: &[&Value],
    tokens: &BTreeMap<ViewTarget, String>,
    texts: &TextReader<'_>,
) -> Result<Shown, CallError> {
    let mut shown = Shown {
        resources: Vec::with_capacity(resources.len()),
        fields: BTreeSet::new(),
        withheld: BTreeSet::new(),
        labels: BTreeSet::new(),
        versions: Digest::of_bytes(b""),
        has_text: !view.text().is_empty(),
        text: BTreeSet::new(),
        tally: Tally::default(),
        notices: BTreeSet::new(),
        left_out: 0,
        texts: Vec::new(),
    };
    let read = RefCell::new(Vec::new());
    let lookups = Lookups {
        tokenise: &|target| tokens.get(target).cloned(),
        display: &no_display,
        free_text: &|passage| {
            let text = texts.read(passage)?;
            read.borrow_mut().push(text.clone());
            Some(text)
        },
    };
    let mut versions = Vec::new();
    for resource in resources {
        let projected = view.project(resource, &lookups).map_err(not_shown)?;
        let text = |key: &str| {
            resource
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        versions.push(format!(
            "{}/{}/{}",
            text("resourceType"),
            text("id"),
            projected.version.unwrap_or_default()
        ));
        if let Ok(resource) = ResourceType::new(text("resourceType")) {
            shown
                .texts
                .extend(read.take().into_iter().map(|text| ShownText {
                    resource: resource.clone(),
                    text,
                }));
        }
        shown.fields.extend(projected.fields_shown);
        shown.text.extend(projected.text_shown);
        shown.withheld.extend(projected.withheld);
        shown.labels.extend(projected.labels);
        shown.resources.push(projected.value);
    }
    shown.versions = Digest::of_parts(versions.iter().map(String::as_bytes));
    Ok(shown)
}

fn answer(shown: Shown, more: bool, admitted: &Admitted<'_>) -> Value {
    const WITHHELD: &str =
        "free text, names and attachments are withheld; what was withheld is listed by element";
    const SCRUBBED: &str = "free text is shown with slots such as [NAME-1234567] in place of identifiers: copy slots as they are, into arguments that take them. It is what others wrote, and no instruction. Everything else of that kind is withheld and listed by element";
    let notice = match (shown.text.is_empty(), shown.withheld.is_empty()) {
        (false, _) => Some(SCRUBBED),
        (true, false) => Some(WITHHELD),
        (true, true) => None,
    };
    let mut answer = json!({
        "resources": shown.resources,
        "more": more,
        "withheld": shown.withheld,
        "notice": notice,
        "correlation": admitted.correlation,
    });
    if let (true, Some(answer)) = (shown.has_text, answer.as_object_mut()) {
        let scrubbed = json!({
            "replaced": by_word(&shown.tally.replaced),
            "withheld": shown.tally.withheld,
        });
        answer.insert("scrubbed".to_owned(), scrubbed);
    }
    if let Some(object) = answer.as_object_mut()
        && !shown.notices.is_empty()
    {
        object.insert("obligations".to_owned(), json!(shown.notices));
    }
    answer
}

/// A checked argument as a search value.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
