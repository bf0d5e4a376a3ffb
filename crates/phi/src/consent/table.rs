//! The table of the bundle that says how Consents are read: `rules/consent.toml`.
//!
//! Purposes and what they are part of, labels and what they include, the law that comes first, obligations that
//! can be kept, scopes, actors, channels. What it does not list is unknown, and the unknown is refused. What is
//! concluded from it is `super::weigh`'s and [`super::contact`]'s. Start at [`ConsentTable::parse`].

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::hours::{Hours, HoursEntry};

/// Name of the rule file, in the bundle's folder `rules`.
pub const RULES: &str = "consent";

/// Most steps from a part to the whole: deeper nesting is a loop.
const STEPS_MAX: usize = 16;

/// Why the table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableInvalid {
    /// Not of this form.
    #[error("{0}")]
    Form(String),
    /// Something is named that is not there.
    #[error("`{entry}` names `{name}`, which is not listed under {place}")]
    Unknown {
        /// The entry.
        entry: String,
        /// What it names.
        name: String,
        /// Where it should stand.
        place: &'static str,
    },
    /// A purpose or a label that includes itself.
    #[error("`{0}` is part of itself")]
    Loop(String),
    /// The overlay without which no agent may run.
    #[error("no overlay denies the label `{0}` for good")]
    Missing(&'static str),
}

/// What an overlay does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Effect {
    Deny,
    NeedsConsent,
}

/// A law that comes before every consent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Overlay {
    pub(super) id: String,
    #[serde(default)]
    pub(super) labels: Vec<String>,
    #[serde(default)]
    pub(super) purposes: Vec<String>,
    pub(super) effect: Effect,
    pub(super) break_glass: bool,
    #[serde(default)]
    pub(super) notice: Option<String>,
    #[serde(rename = "source")]
    _source: String,
}

/// What an obligation asks, as far as Chaperone can do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Execute {
    Notice,
    LeaveOut,
    Refuse,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ObligationRule {
    pub(super) code: String,
    pub(super) execute: Execute,
    #[serde(default)]
    pub(super) notice: Option<String>,
    #[serde(default)]
    pub(super) fields: Vec<String>,
}

/// Codes of `provision.action` for one kind of access.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Actions {
    pub(super) permits: Vec<String>,
    pub(super) refuses: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllActions {
    read: Actions,
    write: Actions,
    send: Actions,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Actors {
    pub(super) organisation: Vec<String>,
    pub(super) devices: BTreeMap<String, Vec<String>>,
    pub(super) roles: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Verified {
    pub(super) scopes: Vec<String>,
    pub(super) restricted_labels: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Elements {
    pub(super) dates: Vec<String>,
    pub(super) codes: Vec<String>,
}

/// A channel on which patients are reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Channel {
    pub(super) code: String,
    #[serde(rename = "display")]
    _display: String,
    pub(super) without_preference: Vec<String>,
    pub(super) telecom: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContactPurpose {
    pub(super) code: String,
    #[serde(rename = "display")]
    _display: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Media {
    pub(super) system: String,
    pub(super) codes: BTreeMap<String, String>,
}

/// How a patient wishes to be reached.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContactTable {
    pub(super) category_system: String,
    pub(super) category: String,
    pub(super) channel_system: String,
    pub(super) purpose_system: String,
    pub(super) unsaid_purpose: String,
    #[serde(rename = "source")]
    _source: String,
    pub(super) channels: Vec<Channel>,
    pub(super) purposes: Vec<ContactPurpose>,
    pub(super) media: Vec<Media>,
    /// Below this age a patient is reached by people alone, in years.
    pub(super) minor_below_years: u16,
    quiet_hours: HoursEntry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Without {
    Permit,
    Deny,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PurposeEntry {
    code: String,
    #[serde(rename = "source")]
    _source: String,
    without_consent: Without,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PartsEntry {
    of: String,
    codes: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NeedsConsentEntry {
    #[serde(rename = "id")]
    _id: String,
    codes: Vec<String>,
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LabelEntry {
    code: String,
    includes: Vec<String>,
}

/// A category of Consents that only say that the patient was told something.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acknowledgement {
    pub(super) system: String,
    pub(super) code: String,
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ScopePurposes {
    Word(String),
    Codes(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScopeEntry {
    code: String,
    purposes: ScopePurposes,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "owner")]
    _owner: String,
    #[serde(rename = "reviewed")]
    _reviewed: String,
    #[serde(rename = "review_by")]
    _review_by: String,
    #[serde(rename = "source")]
    _source: String,
    purposes: Vec<PurposeEntry>,
    parts: Vec<PartsEntry>,
    needs_consent: Vec<NeedsConsentEntry>,
    labels: Vec<LabelEntry>,
    overlays: Vec<Overlay>,
    obligations: Vec<ObligationRule>,
    notices: BTreeMap<String, String>,
    scopes: Vec<ScopeEntry>,
    acknowledgements: Vec<Acknowledgement>,
    verified: Verified,
    actions: AllActions,
    actors: Actors,
    elements: Elements,
    contact: ContactTable,
}

/// What a scope speaks about.
#[derive(Debug, Clone)]
pub(super) enum ScopeReach {
    All,
    Purposes(Vec<String>),
}

/// The table, checked.
#[derive(Debug, Clone)]
pub struct ConsentTable {
    /// What each purpose is part of; nothing for those that stand alone.
    part_of: BTreeMap<String, Option<String>>,
    permitted_without: BTreeSet<String>,
    includes: BTreeMap<String, Vec<String>>,
    pub(super) overlays: Vec<Overlay>,
    pub(super) obligations: Vec<ObligationRule>,
    notices: BTreeMap<String, String>,
    scopes: BTreeMap<String, ScopeReach>,
    pub(super) acknowledgements: Vec<Acknowledgement>,
    pub(super) verified: Verified,
    actions: AllActions,
    pub(super) actors: Actors,
    pub(super) elements: Elements,
    pub(super) contact: ContactTable,
    pub(super) hours: Hours,
}

impl ConsentTable {
    /// Reads and checks the table.
    ///
    /// # Errors
    /// [`TableInvalid`] names the entry.
    pub fn parse(text: &str) -> Result<Self, TableInvalid> {
        let file: File =
            toml::from_str(text).map_err(|e| TableInvalid::Form(e.message().to_owned()))?;
        let mut part_of: BTreeMap<String, Option<String>> = file
            .purposes
            .iter()
            .map(|purpose| (purpose.code.clone(), None))
            .collect();
        for parts in &file.parts {
            for code in &parts.codes {
                part_of.insert(code.clone(), Some(parts.of.clone()));
            }
        }
        let mut table = Self {
            part_of,
            permitted_without: BTreeSet::new(),
            includes: file
                .labels
                .into_iter()
                .map(|label| (label.code, label.includes))
                .collect(),
            overlays: file.overlays,
            obligations: file.obligations,
            notices: file.notices,
            scopes: BTreeMap::new(),
            acknowledgements: file.acknowledgements,
            verified: file.verified,
            actions: file.actions,
            actors: file.actors,
            elements: file.elements,
            hours: Hours::of(&file.contact.quiet_hours)?,
            contact: file.contact,
        };
        table.check_purposes()?;
        let open = |code: &str| {
            let says = |purpose: &PurposeEntry| purpose.without_consent == Without::Permit;
            let closed = |entry: &NeedsConsentEntry| entry.codes.iter().any(|it| it == code);
            let whole = table.wholes(code).last().map(str::to_owned);
            let whole = file
                .purposes
                .iter()
                .find(|it| Some(&it.code) == whole.as_ref());
            whole.is_some_and(says) && !file.needs_consent.iter().any(closed)
        };
        // A part of something that needs a consent needs it too.
        table.permitted_without = table
            .part_of
            .keys()
            .filter(|code| table.wholes(code).all(open))
            .cloned()
            .collect();
        let named = file.needs_consent.iter().flat_map(|entry| &entry.codes);
        table.known_purposes("needs_consent", named)?;
        for scope in file.scopes {
            let reach = match scope.purposes {
                ScopePurposes::Word(word) if word == "all" => ScopeReach::All,
                ScopePurposes::Word(word) => {
                    return Err(TableInvalid::Unknown {
                        entry: format!("scopes.{}", scope.code),
                        name: word,
                        place: "`purposes`",
                    });
                }
                ScopePurposes::Codes(codes) => {
                    table.known_purposes(&scope.code, codes.iter())?;
                    ScopeReach::Purposes(codes)
                }
            };
            table.scopes.insert(scope.code, reach);
        }
        table.check_entries()?;
        Ok(table)
    }

    fn check_purposes(&self) -> Result<(), TableInvalid> {
        for (code, whole) in &self.part_of {
            if let Some(whole) = whole
                && !self.part_of.contains_key(whole)
            {
                return Err(TableInvalid::Unknown {
                    entry: code.clone(),
                    name: whole.clone(),
                    place: "`purposes` or `parts`",
                });
            }
            if self.wholes(code).count() >= STEPS_MAX {
                return Err(TableInvalid::Loop(code.clone()));
            }
        }
        for code in self.includes.keys() {
            if self.inner_labels(code, 0).is_none() {
                return Err(TableInvalid::Loop(code.clone()));
            }
        }
        Ok(())
    }

    fn check_entries(&self) -> Result<(), TableInvalid> {
        let unknown = |entry: &str, name: &str, place| TableInvalid::Unknown {
            entry: entry.to_owned(),
            name: name.to_owned(),
            place,
        };
        for overlay in &self.overlays {
            self.known_purposes(&overlay.id, overlay.purposes.iter())?;
            if let Some(notice) = &overlay.notice
                && !self.notices.contains_key(notice)
            {
                return Err(unknown(&overlay.id, notice, "`notices`"));
            }
        }
        for obligation in &self.obligations {
            let is_complete = match obligation.execute {
                Execute::Notice => obligation
                    .notice
                    .as_ref()
                    .is_some_and(|notice| self.notices.contains_key(notice)),
                Execute::LeaveOut => !obligation.fields.is_empty(),
                Execute::Refuse => true,
            };
            if !is_complete {
                return Err(unknown(&obligation.code, "notice or fields", "`notices`"));
            }
        }
        let contact = &self.contact;
        let is_purpose = |code: &String| contact.purposes.iter().any(|it| it.code == *code);
        for channel in &contact.channels {
            let mut named = channel.without_preference.iter();
            if let Some(name) = named.find(|code| !is_purpose(code)) {
                return Err(unknown(&channel.code, name, "`contact.purposes`"));
            }
        }
        if !is_purpose(&contact.unsaid_purpose) {
            return Err(unknown(
                "contact.unsaid_purpose",
                &contact.unsaid_purpose,
                "`contact.purposes`",
            ));
        }
        for (code, channel) in contact.media.iter().flat_map(|media| &media.codes) {
            if !contact.channels.iter().any(|it| it.code == *channel) {
                return Err(unknown(code, channel, "`contact.channels`"));
            }
        }
        for channel in &contact.quiet_hours.channels {
            if !contact.channels.iter().any(|it| it.code == *channel) {
                return Err(unknown(
                    "contact.quiet_hours",
                    channel,
                    "`contact.channels`",
                ));
            }
        }
        // A table may be stricter than the law, never weaker.
        const NEVER: &str = "PSYTHPN";
        let closes = |overlay: &&Overlay| {
            overlay.effect == Effect::Deny
                && !overlay.break_glass
                && overlay.purposes.is_empty()
                && overlay.labels.iter().any(|label| label == NEVER)
        };
        if self.overlays.iter().find(closes).is_none() {
            return Err(TableInvalid::Missing(NEVER));
        }
        Ok(())
    }

    fn known_purposes<'c>(
        &self,
        entry: &str,
        mut codes: impl Iterator<Item = &'c String>,
    ) -> Result<(), TableInvalid> {
        match codes.find(|code| !self.part_of.contains_key(*code)) {
            None => Ok(()),
            Some(name) => Err(TableInvalid::Unknown {
                entry: entry.to_owned(),
                name: name.clone(),
                place: "`purposes` or `parts`",
            }),
        }
    }

    /// A purpose and everything it is part of, from the inside out.
    fn wholes<'t>(&'t self, code: &str) -> impl Iterator<Item = &'t str> {
        let first = self
            .part_of
            .get_key_value(code)
            .map(|(code, _)| code.as_str());
        std::iter::successors(first, |code| {
            self.part_of.get(*code).and_then(Option::as_deref)
        })
        .take(STEPS_MAX)
    }

    pub(super) fn is_purpose(&self, code: &str) -> bool {
        self.part_of.contains_key(code)
    }

    /// Whether a purpose is another, or part of it.
    pub(super) fn is_within(&self, code: &str, whole: &str) -> bool {
        self.wholes(code).any(|it| it == whole)
    }

    pub(super) fn permits_without_consent(&self, purpose: &str) -> bool {
        self.permitted_without.contains(purpose)
    }

    /// Whether a consent about `outer` is about `inner` too.
    pub(super) fn label_includes(&self, outer: &str, inner: &str) -> bool {
        outer.eq_ignore_ascii_case(inner)
            || self
                .inner_labels(outer, 0)
                .is_some_and(|all| all.iter().any(|one| one.eq_ignore_ascii_case(inner)))
    }

    /// All labels below one; `None` when they are nested without end.
    fn inner_labels(&self, code: &str, depth: usize) -> Option<Vec<&str>> {
        if depth >= STEPS_MAX {
            return None;
        }
        let mut all = Vec::new();
        for inner in self.includes.get(code).into_iter().flatten() {
            all.push(inner.as_str());
            all.extend(self.inner_labels(inner, depth.saturating_add(1))?);
        }
        Some(all)
    }

    pub(super) fn notice(&self, id: &str) -> Option<&str> {
        self.notices.get(id).map(String::as_str)
    }

    /// Whether a scope speaks about a purpose; `None` for a scope that is not listed.
    pub(super) fn scope_reaches(&self, scope: &str, purpose: &str) -> Option<bool> {
        self.scopes.get(scope).map(|reach| match reach {
            ScopeReach::All => true,
            ScopeReach::Purposes(codes) => codes.iter().any(|whole| self.is_within(purpose, whole)),
        })
    }

    pub(super) fn actions_of(&self, action: super::Action) -> &Actions {
        match action {
            super::Action::Read => &self.actions.read,
            super::Action::Write => &self.actions.write,
            super::Action::Send => &self.actions.send,
        }
    }
}
