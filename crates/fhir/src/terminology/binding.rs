//! Bindings: whether a code, coding, concept or quantity is what its element's value set asks for.
//!
//! What R4 says of the four strengths becomes findings here; where nothing loaded can decide, the finding
//! says "not checked". Codings are looked at in their systems too, with or without a binding.
//! Start at [`Terminology::bind`] and [`Terminology::check`].
//!
//! # Source
//! FHIR R4, Binding strengths, <https://hl7.org/fhir/R4/terminologies.html#strength>, and the extension
//! `elementdefinition-maxValueSet`,
//! <https://hl7.org/fhir/R4/extension-elementdefinition-maxvalueset.html>.

use std::sync::Arc;

use super::server::{ServerQuestion, ServerVerdict};
use super::set::{Decision, Member, Set};
use super::undecided::Undecided;
use super::wording::{one_of, quoted, quoted_url, same_words};
use super::{Lookup, Terminology};
use crate::canonical::Binding;
use crate::finding::{Severity, id};

/// Most codes that are looked through to say what would be right.
const SUGGESTED_MAX: usize = 64;

/// How strictly a value set is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// Only to show what is meant.
    Example,
    /// It should be used.
    Preferred,
    /// It must be used where it has a fitting code.
    Extensible,
    /// It must be used.
    Required,
}

/// A binding whose value sets are compiled.
#[derive(Clone, Debug)]
pub struct BoundSet {
    /// How strictly it is meant.
    pub strength: Strength,
    /// The value set.
    pub set: Arc<Set>,
    /// The value set that also the exceptions must come from.
    pub max: Option<Arc<Set>>,
}

/// A coding as it stands in a resource; also a quantity's system and code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coding<'a> {
    /// The code system.
    pub system: Option<&'a str>,
    /// Its version.
    pub version: Option<&'a str>,
    /// The code.
    pub code: Option<&'a str>,
    /// What is shown for it.
    pub display: Option<&'a str>,
}

/// A value that has a binding.
#[derive(Clone, Copy, Debug)]
pub enum Coded<'a> {
    /// A `code`, or a `string` or `uri` that is bound like one.
    Code(&'a str),
    /// A `Coding`.
    Coding(Coding<'a>),
    /// A `CodeableConcept`.
    Concept {
        /// Its codings.
        codings: &'a [Coding<'a>],
    },
    /// A `Quantity`: the system and code of its unit.
    Quantity(Coding<'a>),
}

/// Where in the value a finding belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The value as a whole.
    Whole,
    /// A part of the coding (of a concept: the coding of that index; otherwise 0).
    Coding(usize, Part),
}

/// A part of a coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// `system`
    System,
    /// `code`
    Code,
    /// `display`
    Display,
}

/// One problem with a coded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The finding's id, one of [`crate::finding::id`].
    pub id: &'static str,
    /// How serious it is.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Whether one of the value's codes is in the set; with the coding it was decided by.
enum Held<'s> {
    Yes(usize, Member<'s>),
    No,
    Undecided(Undecided),
    /// There is no code to look for.
    NoCode,
}

impl Terminology {
    /// The binding with its value sets compiled; `None` if it names none, or has an unknown strength.
    #[must_use]
    pub fn bind(&self, binding: &Binding) -> Option<BoundSet> {
        let strength = match binding.strength.as_str() {
            "required" => Strength::Required,
            "extensible" => Strength::Extensible,
            "preferred" => Strength::Preferred,
            "example" => Strength::Example,
            _ => return None,
        };
        let max = binding.bounds.max_value_set.as_deref();
        let max = max.map(|it| self.set(it));
        Some(BoundSet {
            strength,
            set: self.set(binding.value_set.as_deref()?),
            max,
        })
    }

    /// Checks a value against its binding; adds what is wrong, or was not checked, to `issues`.
    pub fn check(&self, bound: &BoundSet, value: &Coded<'_>, issues: &mut Vec<Issue>) {
        if bound.strength == Strength::Example && bound.max.is_none() {
            return;
        }
        match self.held(&bound.set, value) {
            Held::Yes(index, member) => {
                note_member(bound, value, index, &member, issues);
                return;
            }
            Held::NoCode => self.note_no_code(bound, issues),
            Held::No => note_outside(bound.strength, &bound.set, value, issues),
            Held::Undecided(why) => note_undecided(bound.strength, &bound.set, &why, issues),
        }
        if let Some(max) = &bound.max {
            match self.held(max, value) {
                Held::Yes(..) | Held::NoCode => {}
                Held::No => note_outside(Strength::Required, max, value, issues),
                Held::Undecided(why) => {
                    note_undecided(Strength::Required, max, &why, issues);
                }
            }
        }
    }

    /// Looks at a coding in its own system: whether the code exists, is in use, and is shown by its own
    /// words. `newer` names canonical bases (`http://hl7.org/fhir/us/core`) of which the resource follows
    /// a later version than the loaded one: a code that such a system lacks is not checked.
    pub fn inspect(
        &self,
        coding: &Coding<'_>,
        index: usize,
        newer: &[&str],
        issues: &mut Vec<Issue>,
    ) {
        let (Some(system), Some(code)) = (coding.system, coding.code) else {
            return;
        };
        match self.lookup(system, coding.version, code) {
            Lookup::Known { system, row, .. } => {
                let is_whole = !self.is_partial(&system.url);
                if let (Some(display), Some(concept)) = (coding.display, system.concept(row)) {
                    self.note_display(concept, display, index, is_whole, issues);
                }
            }
            Lookup::WellFormed => {}
            Lookup::Unknown { .. } if newer.iter().any(|it| system.starts_with(it)) => {
                self.note_unchecked(
                    &Undecided::SystemIncomplete(system.to_owned()),
                    index,
                    issues,
                );
            }
            Lookup::Unknown { version } => issues.push(Issue {
                id: id::CODING_UNKNOWN_CODE,
                severity: self.severities.unknown_code,
                place: Place::Coding(index, Part::Code),
                message: self.unknown_code(system, version.as_deref(), code),
            }),
            Lookup::NotASystem => issues.push(Issue {
                id: id::SYSTEM_VALUE_SET,
                severity: Severity::Error,
                place: Place::Coding(index, Part::System),
                message: "`system` names a value set; name the code system that defines the code"
                    .to_owned(),
            }),
            Lookup::NotDecidable(why) => {
                let verdict = self.server.as_ref().map(|server| {
                    server.validate_code(&ServerQuestion {
                        value_set: None,
                        system: Some(system),
                        version: coding.version,
                        code,
                    })
                });
                match verdict {
                    Some(ServerVerdict::Valid { .. }) => {}
                    Some(ServerVerdict::Invalid) => issues.push(Issue {
                        id: id::CODING_UNKNOWN_CODE,
                        severity: self.severities.unknown_code,
                        place: Place::Coding(index, Part::Code),
                        message: self.unknown_code(system, coding.version, code),
                    }),
                    Some(ServerVerdict::Unknown) | None => {
                        self.note_unchecked(&why, index, issues);
                    }
                }
            }
        }
    }

    fn unknown_code(&self, system: &str, version: Option<&str>, code: &str) -> String {
        if system == super::ucum::SYSTEM {
            return match self.ucum.unit(code) {
                Err(why) => format!("{} is not a UCUM unit: {why}", quoted(code)),
                Ok(_) => format!("{} is not a UCUM unit", quoted(code)),
            };
        }
        let version = version.map_or(String::new(), |it| format!(" (version `{it}`)"));
        format!(
            "{} is not a code of {}{version}; use one that is",
            quoted(code),
            quoted_url(system)
        )
    }

    fn is_partial(&self, url: &str) -> bool {
        !matches!(self.loaded(url), super::Loaded::Complete(_))
    }

    fn note_display(
        &self,
        concept: &super::Concept,
        display: &str,
        index: usize,
        is_whole: bool,
        issues: &mut Vec<Issue>,
    ) {
        let Some(own) = concept.display.as_deref() else {
            return;
        };
        let words = std::iter::once(own).chain(concept.designations.iter().map(|it| &**it));
        if words.into_iter().any(|it| same_words(it, display)) {
            return;
        }
        issues.push(Issue {
            id: id::CODING_DISPLAY,
            // Of a system that is here in part, other words may be right that are not here.
            severity: if is_whole {
                self.severities.wrong_display
            } else {
                Severity::Information
            },
            place: Place::Coding(index, Part::Display),
            message: format!(
                "the display is not the one of {}, which is `{own}`",
                quoted(&concept.code)
            ),
        });
    }

    fn note_unchecked(&self, why: &Undecided, index: usize, issues: &mut Vec<Issue>) {
        if let Some(severity) = self.severities.unchecked_code {
            issues.push(Issue {
                id: id::BINDING_NOT_CHECKED,
                severity,
                place: Place::Coding(index, Part::Code),
                message: format!("the code was not checked: {why}"),
            });
        }
    }

    fn note_no_code(&self, bound: &BoundSet, issues: &mut Vec<Issue>) {
        let (severity, condition) = match (bound.strength, &bound.max) {
            (Strength::Required, _) | (Strength::Extensible, Some(_)) => (Severity::Error, ""),
            (Strength::Extensible, None) => (Severity::Warning, " if one of them fits"),
            (Strength::Preferred | Strength::Example, _) => return,
        };
        issues.push(Issue {
            id: id::BINDING_NO_CODE,
            severity,
            place: Place::Whole,
            message: format!(
                "no code is given; give one from value set `{}`{condition}",
                bound.set.name()
            ),
        });
    }

    /// Whether the set holds the value: for a concept, any of its codings.
    fn held<'s>(&self, set: &'s Set, value: &Coded<'_>) -> Held<'s> {
        match value {
            Coded::Code(code) => self.decided(set, None, None, code, 0),
            Coded::Coding(coding) | Coded::Quantity(coding) => self.holds(set, coding, 0),
            Coded::Concept { codings } => {
                let mut held = Held::NoCode;
                for (index, coding) in codings.iter().enumerate() {
                    held = match (held, self.holds(set, coding, index)) {
                        (_, yes @ Held::Yes(..)) => return yes,
                        (_, undecided @ Held::Undecided(_)) => undecided,
                        (Held::NoCode, it) => it,
                        (it, _) => it,
                    };
                }
                held
            }
        }
    }

    fn holds<'s>(&self, set: &'s Set, coding: &Coding<'_>, index: usize) -> Held<'s> {
        match (coding.system, coding.code) {
            (_, None) => Held::NoCode,
            // A code without system means nothing by itself.
            (None, Some(_)) => Held::No,
            (Some(system), Some(code)) => {
                self.decided(set, Some(system), coding.version, code, index)
            }
        }
    }

    fn decided<'s>(
        &self,
        set: &'s Set,
        system: Option<&str>,
        version: Option<&str>,
        code: &str,
        index: usize,
    ) -> Held<'s> {
        let decision = match system {
            Some(system) => set.decide(system, code),
            None => set.decide_code(code),
        };
        match decision {
            Decision::Member(member) => Held::Yes(index, member),
            Decision::NotMember => Held::No,
            Decision::NotDecidable(why) => {
                let verdict = self.server.as_ref().map(|server| {
                    server.validate_code(&ServerQuestion {
                        value_set: Some(set.canonical()),
                        system,
                        version,
                        code,
                    })
                });
                match verdict {
                    Some(ServerVerdict::Valid { .. }) => Held::Yes(index, Member::default()),
                    Some(ServerVerdict::Invalid) => Held::No,
                    Some(ServerVerdict::Unknown) | None => Held::Undecided(why.clone()),
                }
            }
        }
    }
}

/// What is worth saying of a code that is in the set.
fn note_member(
    bound: &BoundSet,
    value: &Coded<'_>,
    index: usize,
    member: &Member<'_>,
    issues: &mut Vec<Issue>,
) {
    let place = match value {
        Coded::Code(_) => Place::Whole,
        Coded::Coding(_) | Coded::Quantity(_) | Coded::Concept { .. } => {
            Place::Coding(index, Part::Code)
        }
    };
    let Some(concept) = member.concept else {
        return;
    };
    let code = quoted(&concept.code);
    if concept.is_abstract {
        issues.push(Issue {
            id: id::BINDING_ABSTRACT_CODE,
            severity: if bound.strength == Strength::Required {
                Severity::Error
            } else {
                Severity::Warning
            },
            place,
            message: format!("{code} only groups other codes; use one below it"),
        });
    }
    if concept.inactive {
        issues.push(Issue {
            id: id::BINDING_INACTIVE_CODE,
            severity: Severity::Warning,
            place,
            message: format!("{code} is no longer in use; use a current code"),
        });
    }
    if member.other_case {
        issues.push(Issue {
            id: id::BINDING_CODE_CASE,
            severity: Severity::Information,
            place,
            message: format!("the code system writes this code {code}"),
        });
    }
}

fn note_outside(strength: Strength, set: &Set, value: &Coded<'_>, issues: &mut Vec<Issue>) {
    let (finding, severity) = match strength {
        Strength::Required => (id::BINDING_REQUIRED, Severity::Error),
        Strength::Extensible => (id::BINDING_EXTENSIBLE, Severity::Warning),
        Strength::Preferred => (id::BINDING_PREFERRED, Severity::Information),
        Strength::Example => return,
    };
    let one = Place::Coding(0, Part::Code);
    let (subject, place) = match value {
        Coded::Code(code) => (format!("{} is not", quoted(code)), Place::Whole),
        Coded::Coding(it) | Coded::Quantity(it) | Coded::Concept { codings: [it] } => {
            let code = quoted(it.code.unwrap_or_default());
            match it.system {
                Some(_) => (format!("{code} is not"), one),
                None => (format!("{code}, without a system, is not"), one),
            }
        }
        Coded::Concept { .. } => ("none of the codes is".to_owned(), Place::Whole),
    };
    let name = set.name();
    let right = match strength {
        Strength::Required => match set.expand(SUGGESTED_MAX) {
            Ok(codes) => {
                let codes: Vec<String> = codes
                    .into_iter()
                    .filter(|it| !it.is_abstract && !it.inactive)
                    .map(|it| it.code)
                    .collect();
                format!("use one of {}", one_of(&codes))
            }
            Err(_) => "use a code from there".to_owned(),
        },
        Strength::Extensible => {
            "use a code from there unless none of them fits what is meant".to_owned()
        }
        Strength::Preferred | Strength::Example => "codes from there are preferred".to_owned(),
    };
    issues.push(Issue {
        id: finding,
        severity,
        place,
        message: format!("{subject} in value set `{name}`; {right}"),
    });
}

fn note_undecided(strength: Strength, set: &Set, why: &Undecided, issues: &mut Vec<Issue>) {
    if strength >= Strength::Extensible {
        issues.push(Issue {
            id: id::BINDING_NOT_CHECKED,
            severity: Severity::Information,
            place: Place::Whole,
            message: format!(
                "whether this is in value set `{}` was not checked: {why}",
                set.name()
            ),
        });
    }
}
