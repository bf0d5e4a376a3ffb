//! Free text on its way to an agent: whom the record knows, the scrubbing, and what is said about it.
//!
//! ```text
//! patient, relatives ─┐
//! whom the hits name ─┼─▶ known identifiers ─▶ scrub each named text ─▶ keep the slots ─▶ answer
//! the hits themselves ┘
//! ```
//! Fails closed: where the record cannot be read, where the scrubber fails, and beyond its budget, a text is
//! withheld, and the answer says how many were and why. Not here: which texts a view names (`phi::view`), what is
//! taken out of them (`phi::scrub`), where slots rest (`slots`).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::bundle::IntentDeclaration;
use chaperone_core::envelope::Envelope;
use chaperone_core::ids::EnvelopeId;
use chaperone_core::ports::{EhrReadFailed, EhrSearch};
use chaperone_core::resource::ResourceType;
use chaperone_fhir::references::ReferenceForm;
use chaperone_phi::scrub::{
    Budget, Class, DateUse, EntityFinder, FreeText, Known, Lexicon, LexiconInvalid, Scrubber,
    Settings, Slots, Withheld,
};
use chaperone_phi::tokens::TokenTarget;
use chaperone_phi::view::View;
use chaperone_policy::Bundle;
use serde_json::Value;

use crate::call::Admitted;
use crate::context::Engine;
use crate::entities::Watched;
use crate::errors::CallError;
use crate::read::{Shown, not_shown, shown};
use crate::slots::{EnvelopeSlots, SlotsFailed};

/// Longest text that is scrubbed, in bytes: some fifty pages.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// Most text of one answer, in bytes; what comes after it is withheld.
const ANSWER_BYTES_MAX: usize = 512 << 10;
/// Most texts of one answer.
const TEXTS_MAX: usize = 300;
/// Steps that a text may cost, for each of its bytes, and at least: see [`Budget`].
const STEPS_PER_BYTE: u64 = 100;
const STEPS_MIN: u64 = 100_000;
/// Most relatives of a patient; with more, nothing is known for certain.
const RELATIVES_MAX: u32 = 100;
/// Most people and institutions that one read may name beside those already known.
const NAMED_MAX: usize = 64;
/// Most of them that are kept for an envelope; beyond it they are read again.
const NAMED_KEPT_MAX: usize = 256;
/// How often references are followed: a role names a practitioner.
const ROUNDS_MAX: usize = 2;
/// Deepest nesting that is looked into for references.
const DEPTH_MAX: usize = 64;
/// Most envelopes whose people are kept in memory; when full, those that ended go, or else all.
const ENVELOPES_MAX: usize = 128;
/// How often a read is scrubbed again because another call of the envelope made slots meanwhile.
const ATTEMPTS_MAX: u32 = 8;

/// Types that name people and institutions.
const NAMED: [&str; 7] = [
    "Practitioner",
    "PractitionerRole",
    "Organization",
    "Location",
    "HealthcareService",
    "RelatedPerson",
    "Person",
];

/// The word lists that the scrubber works with.
pub(crate) enum Words {
    /// No intent of the bundle shows free text.
    Unused,
    /// Those compiled in, which the bundle holds unchanged; read at first use.
    Embedded,
    /// The bundle's own.
    Own(Box<Lexicon>),
}

impl Words {
    /// Reads the bundle's lists, if anything needs them.
    pub(crate) fn of(bundle: &Bundle) -> Result<Self, LexiconInvalid> {
        let rule = |name: &str| bundle.rule_text(name);
        if bundle.intents().all(|intent| intent.text.is_empty()) {
            Ok(Words::Unused)
        } else if Lexicon::is_embedded(rule) {
            Ok(Words::Embedded)
        } else {
            Lexicon::from_rules(rule).map(|own| Words::Own(Box::new(own)))
        }
    }

    fn lexicon(&self) -> Option<&Lexicon> {
        match self {
            Words::Unused => None,
            Words::Embedded => Lexicon::embedded().ok(),
            Words::Own(own) => Some(own),
        }
    }
}

/// Why no text of an answer is shown, whatever is in it.
#[derive(Debug, Clone, Copy)]
enum Unknown {
    /// The envelope is about no patient, so nobody can say whose identifiers to look for.
    NoPatient,
    /// The patient, or somebody whom the hits name, cannot be read.
    Unread,
    /// More people than can be looked for.
    TooMany,
}

impl Unknown {
    fn code(self) -> &'static str {
        match self {
            Unknown::NoPatient => "no-patient",
            Unknown::Unread => "record-unread",
            Unknown::TooMany => "too-many-names",
        }
    }
}

/// The stable code of a reason, for answers.
fn code_of(withheld: Withheld) -> &'static str {
    match withheld {
        Withheld::TooLong { .. } => "too-long",
        Withheld::OverBudget => "over-budget",
        Withheld::SlotsUsedUp => "no-more-slots",
        Withheld::FinderFailed => "finder-failed",
        Withheld::Residue => "identifier-left",
        Withheld::Unreadable => "unreadable",
    }
}

/// What became of the texts of one answer; no values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Identifiers that were replaced, by class.
    pub(crate) replaced: BTreeMap<Class, u32>,
    /// Texts that were withheld, by reason.
    pub(crate) withheld: BTreeMap<&'static str, u32>,
}

/// Reads the texts of one answer.
pub(crate) struct TextReader<'k> {
    how: How<'k>,
    state: RefCell<State>,
}

enum How<'k> {
    /// No text at all passes.
    Withhold(&'static str),
    /// With slots for what identifies somebody.
    Scrub(Layers<'k>),
}

/// What the scrubber goes by.
#[derive(Clone, Copy)]
struct Layers<'k> {
    lexicon: &'k Lexicon,
    known: &'k Known,
    dates: DateUse,
    /// A named-entity model, where the organisation has one.
    finder: Option<&'k Watched<'k>>,
}

#[derive(Default)]
struct State {
    slots: Slots,
    tally: Tally,
    bytes: usize,
    texts: usize,
}

impl<'k> TextReader<'k> {
    fn withholding(reason: &'static str) -> Self {
        Self {
            how: How::Withhold(reason),
            state: RefCell::default(),
        }
    }

    fn scrubbing(layers: Layers<'k>, slots: Slots) -> Self {
        Self {
            how: How::Scrub(layers),
            state: RefCell::new(State {
                slots,
                ..State::default()
            }),
        }
    }

    /// What may be shown of a text.
    pub(crate) fn read(&self, passage: FreeText<'_>) -> Option<String> {
        let mut state = self.state.borrow_mut();
        let scrubbed = match &self.how {
            How::Withhold(reason) => Err(*reason),
            How::Scrub(layers) => state.scrub(*layers, passage).map_err(code_of),
        };
        match scrubbed {
            Ok(text) => Some(text),
            Err(reason) => {
                let count = state.tally.withheld.entry(reason).or_default();
                *count = count.saturating_add(1);
                None
            }
        }
    }

    fn into_parts(self) -> (Slots, Tally) {
        let state = self.state.into_inner();
        (state.slots, state.tally)
    }
}

impl State {
    fn scrub(&mut self, layers: Layers<'_>, passage: FreeText<'_>) -> Result<String, Withheld> {
        let length = match passage {
            FreeText::Text(text) | FreeText::Narrative(text) | FreeText::Title(text) => text.len(),
            FreeText::Content { data, .. } => data.len() / 4 * 3,
            FreeText::Display { .. } => 0,
        };
        self.bytes = self.bytes.saturating_add(length);
        self.texts = self.texts.saturating_add(1);
        if self.bytes > ANSWER_BYTES_MAX || self.texts > TEXTS_MAX {
            return Err(Withheld::OverBudget);
        }
        let steps = u64::try_from(length).map_or(u64::MAX, |it| it.saturating_mul(STEPS_PER_BYTE));
        let budget = Budget {
            bytes_max: TEXT_BYTES_MAX,
            steps_max: steps.max(STEPS_MIN),
        };
        let dates = layers.dates;
        let mut scrubber = Scrubber::new(layers.lexicon, layers.known, Settings { dates, budget });
        if let Some(finder) = layers.finder {
            scrubber = scrubber.with_finder(finder as &dyn EntityFinder);
        }
        let scrubbed = scrubber.scrub_passage(passage, &mut self.slots)?;
        for finding in &scrubbed.findings {
            let count = self.tally.replaced.entry(finding.class).or_default();
            *count = count.saturating_add(1);
        }
        Ok(scrubbed.text)
    }
}

/// Intents that write into the record need true days; elsewhere a day is an identifier like others.
///
/// # Source
/// 45 CFR 164.514(b)(2)(i)(C) counts days among identifiers; what enters the record of care must be true.
fn dates_of(intent: &IntentDeclaration) -> DateUse {
    if intent.writes.is_empty() {
        DateUse::Slot
    } else {
        DateUse::Keep
    }
}

/// Who is around a patient, as the EHR had them during an envelope.
#[derive(Clone)]
struct People {
    until: Timestamp,
    /// The patient and their relatives.
    family: Arc<Vec<Value>>,
    /// Whom resources named, by `Type/id`; none where the EHR has nobody under that.
    named: BTreeMap<String, Option<Arc<Value>>>,
}

/// People of the envelopes that read text lately. In memory only, and of no use once their envelope has ended.
#[derive(Default)]
pub(crate) struct PeopleKept(Mutex<HashMap<EnvelopeId, People>>);

impl PeopleKept {
    fn of(&self, envelope: EnvelopeId, now: Timestamp) -> Option<People> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&envelope).filter(|it| now < it.until).cloned()
    }

    /// Forgets everybody, which costs look-ups and nothing else.
    pub(crate) fn forget(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn keep(&self, envelope: EnvelopeId, now: Timestamp, people: People) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, it| now < it.until);
        if kept.len() >= ENVELOPES_MAX {
            kept.clear();
        }
        kept.insert(envelope, people);
    }
}

impl Engine {
    /// Reduces what was found to the view. Slots in it are durable when this returns.
    pub(crate) async fn reduce(
        &self,
        admitted: &Admitted<'_>,
        view: &View,
        visible: &[&Value],
        tokens: &BTreeMap<TokenTarget, String>,
    ) -> Result<Shown, CallError> {
        let mut holds_text = false;
        for resource in visible {
            holds_text |= view.holds_text(resource).map_err(not_shown)?;
        }
        if !holds_text {
            let texts = TextReader::withholding("unreadable");
            return shown(view, visible, tokens, &texts);
        }
        let lexicon = self.words.lexicon().ok_or_else(CallError::internal)?;
        let known = match self
            .known_of(&admitted.caller.envelope, lexicon, visible)
            .await
        {
            Ok(known) => known,
            Err(unknown) => {
                let texts = TextReader::withholding(unknown.code());
                let mut shown = shown(view, visible, tokens, &texts)?;
                shown.tally = texts.into_parts().1;
                return Ok(shown);
            }
        };
        let entities = self.config.entity_finder.as_ref();
        let watched = entities.map(|it| it.watched(self.clock.as_ref()));
        let layers = Layers {
            lexicon,
            known: &known,
            dates: dates_of(admitted.intent),
            finder: watched.as_ref(),
        };
        for _ in 0..ATTEMPTS_MAX {
            let mut loaded = self.slots_of(&admitted.caller.envelope).await?;
            let shown = scrub_all(view, visible, tokens, layers, &mut loaded)?;
            match self.keep_slots(admitted, loaded).await {
                Ok(()) => return Ok(shown),
                Err(SlotsFailed::Overtaken) => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        Err(SlotsFailed::Overtaken.into())
    }

    /// The identifiers that the record knows: of the patient, their relatives, whom the hits name, and in the hits
    /// themselves.
    async fn known_of(
        &self,
        envelope: &Envelope,
        lexicon: &Lexicon,
        hits: &[&Value],
    ) -> Result<Known, Unknown> {
        let now = self.now();
        let mut people = match self.people.of(envelope.id, now) {
            Some(people) => people,
            None => People {
                until: envelope.expires,
                family: Arc::new(self.family_of(envelope).await?),
                named: BTreeMap::new(),
            },
        };
        if people.named.len() > NAMED_KEPT_MAX {
            people.named.clear();
        }
        for _ in 0..ROUNDS_MAX {
            let read = people.named.values().flatten().map(Arc::as_ref);
            let mut wanted = BTreeSet::new();
            for resource in hits.iter().copied().chain(people.family.iter()).chain(read) {
                named_in(resource, self.ehr.endpoint(), &mut wanted, 0)?;
            }
            wanted.retain(|(kind, id)| !people.named.contains_key(&format!("{kind}/{id}")));
            if wanted.len() > NAMED_MAX {
                return Err(Unknown::TooMany);
            }
            let reads = wanted.iter().map(|(kind, id)| self.named(kind, id));
            for ((kind, id), read) in wanted.iter().zip(futures::future::join_all(reads).await) {
                people
                    .named
                    .insert(format!("{kind}/{id}"), read?.map(Arc::new));
            }
        }
        self.people.keep(envelope.id, now, people.clone());
        let named = people.named.values().flatten().map(Arc::as_ref);
        let all = people
            .family
            .iter()
            .chain(named)
            .chain(hits.iter().copied());
        Known::of_resources(lexicon, all).map_err(|_| Unknown::TooMany)
    }

    /// The patient and their relatives. What cannot be read is unknown, and unknown withholds.
    async fn family_of(&self, envelope: &Envelope) -> Result<Vec<Value>, Unknown> {
        let token = envelope.patient.ok_or(Unknown::NoPatient)?;
        let unread = |what: &str, error: &dyn std::fmt::Display| {
            tracing::warn!(what, %error, "free text is withheld, because its names cannot be known");
            Unknown::Unread
        };
        let id = self
            .patient_id(token)
            .await
            .map_err(|failed| unread("the patient's token", &failed))?;
        let kind = |name: &str| ResourceType::new(name).map_err(|why| unread("a type", &why));
        let (patient, relatives) = (kind("Patient")?, kind("RelatedPerson")?);
        let search = EhrSearch {
            resource: relatives,
            parameters: vec![
                ("patient".to_owned(), format!("Patient/{id}")),
                ("_count".to_owned(), RELATIVES_MAX.to_string()),
            ],
            limit: RELATIVES_MAX,
        };
        let (patient, relatives) = futures::join!(
            self.ehr.read(&patient, &id),
            self.ehr.search(search.clone())
        );
        let patient = patient.map_err(|failed| unread("Patient", &failed))?;
        let relatives = relatives.map_err(|failed| unread("RelatedPerson", &failed))?;
        let text = |key: &str| patient.get(key).and_then(Value::as_str);
        let is_patient = text("resourceType") == Some("Patient") && text("id") == Some(id.as_str());
        let are_theirs = relatives
            .resources
            .iter()
            .all(|relative| self.is_expected(relative, &search, Some(&id)));
        if !is_patient || !are_theirs {
            return Err(unread("Patient", &"the EHR answered with somebody else"));
        }
        if relatives.more {
            return Err(Unknown::TooMany);
        }
        let mut family = relatives.resources;
        family.push(patient);
        Ok(family)
    }

    /// Somebody whom a resource names; `None` where the EHR has nobody under that.
    async fn named(&self, kind: &str, id: &str) -> Result<Option<Value>, Unknown> {
        let kind = ResourceType::new(kind).map_err(|_| Unknown::Unread)?;
        match self.ehr.read(&kind, id).await {
            Ok(resource) => Ok(Some(resource)),
            Err(EhrReadFailed::NotFound) => Ok(None),
            Err(error) => {
                tracing::warn!(what = %kind, %error, "free text is withheld, because its names cannot be known");
                Err(Unknown::Unread)
            }
        }
    }
}

fn scrub_all(
    view: &View,
    visible: &[&Value],
    tokens: &BTreeMap<TokenTarget, String>,
    layers: Layers<'_>,
    loaded: &mut EnvelopeSlots,
) -> Result<Shown, CallError> {
    let slots = std::mem::take(&mut loaded.slots);
    let texts = TextReader::scrubbing(layers, slots);
    let mut shown = shown(view, visible, tokens, &texts)?;
    (loaded.slots, shown.tally) = texts.into_parts();
    Ok(shown)
}

/// Collects the references of a resource that name somebody at this EHR.
fn named_in(
    value: &Value,
    endpoint: &str,
    named: &mut BTreeSet<(String, String)>,
    depth: usize,
) -> Result<(), Unknown> {
    if depth > DEPTH_MAX {
        return Err(Unknown::TooMany);
    }
    match value {
        Value::Object(object) => {
            let reference = object.get("reference").and_then(Value::as_str);
            if let Some(ReferenceForm::Typed {
                base,
                resource_type,
                id,
                ..
            }) = reference.map(ReferenceForm::parse)
                && base.is_none_or(|base| base == endpoint.trim_end_matches('/'))
                && NAMED.contains(&resource_type)
            {
                named.insert((resource_type.to_owned(), id.to_owned()));
            }
            object
                .values()
                .try_for_each(|inner| named_in(inner, endpoint, named, depth + 1))
        }
        Value::Array(items) => items
            .iter()
            .try_for_each(|inner| named_in(inner, endpoint, named, depth + 1)),
        _ => Ok(()),
    }
}
