//! A code system, compiled: codes by hash, and who is above whom.
//!
//! It holds what the loaded definition says and knows nothing of value sets.
//! Start at [`System::find`].

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use rustc_hash::{FxHashMap, FxHashSet};

use super::additions::Addition;
use super::grammar::Grammar;
use super::undecided::Undecided;
use crate::canonical::{CodeSystem, Concept as Definition};

/// Most codes of one system; what comes after is left out, and the system counts as a part.
const CONCEPTS_MAX: usize = 2_000_000;

/// What is known of the system behind a URL.
#[derive(Clone, Debug)]
pub(super) enum Loaded {
    /// Every code.
    Complete(Arc<System>),
    /// Some codes.
    Partial(Arc<System>, Arc<Undecided>),
    /// A rule by which codes are made.
    ByGrammar(Grammar, Arc<Undecided>),
    /// The URL is that of a value set.
    ValueSet,
    /// Nothing.
    Absent(Arc<Undecided>),
}

/// One code of a system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Concept {
    /// The code as the system writes it.
    pub code: Box<str>,
    /// What to show for it.
    pub display: Option<Box<str>>,
    /// Other words for it, in any language.
    pub designations: Vec<Box<str>>,
    /// Whether it is no longer in use.
    pub inactive: bool,
    /// Whether it only groups others (`notSelectable`).
    pub is_abstract: bool,
    /// Properties by code; one that repeats stands here several times.
    pub properties: Vec<(Box<str>, Box<str>)>,
    pub(super) parents: Vec<u32>,
    pub(super) children: Vec<u32>,
}

/// A code that was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its place in the system.
    pub row: u32,
    /// What is known about it.
    pub concept: &'a Concept,
    /// Whether upper and lower case are as in the system.
    pub exact_case: bool,
}

/// A code system, compiled.
#[derive(Debug, Default)]
pub struct System {
    /// The `system` of its codes.
    pub url: Box<str>,
    /// Which version is loaded.
    pub version: Option<Box<str>>,
    /// Whether codes that differ in case only are different codes.
    case_matters: bool,
    /// Whether nesting and `parent` mean "is a".
    pub(super) is_hierarchy: bool,
    /// Properties that it says its codes may have.
    pub(super) declared: Vec<Box<str>>,
    /// Whether codes were left out for their number.
    pub(super) is_cut: bool,
    rows: Vec<Concept>,
    by_code: FxHashMap<Box<str>, u32>,
    by_folded: OnceLock<FxHashMap<Box<str>, u32>>,
}

impl System {
    /// Compiles the definition.
    ///
    /// # Source
    /// FHIR R4 CodeSystem: `caseSensitive` that is missing means that codes are accepted in any case;
    /// `hierarchyMeaning` that is missing is taken for `is-a`, as R4's own value sets need it;
    /// the properties `status`, `inactive`, `notSelectable`, `parent` and `child` are FHIR's own
    /// (<https://hl7.org/fhir/R4/codesystem.html#defined-props>), `subsumedBy` that of HL7's V3 systems.
    pub(super) fn compile(definition: &CodeSystem) -> Self {
        let mut system = Self {
            url: definition.url.as_str().into(),
            version: definition.version.as_deref().map(Into::into),
            case_matters: definition.case_sensitive == Some(true),
            declared: definition
                .property
                .iter()
                .map(|it| it.code.as_str().into())
                .collect(),
            is_hierarchy: matches!(definition.hierarchy_meaning.as_deref(), None | Some("is-a")),
            ..Self::default()
        };
        let mut edges: Vec<(Box<str>, Box<str>)> = Vec::new();
        let mut waiting: Vec<(&Definition, Option<u32>)> = definition
            .concept
            .iter()
            .rev()
            .map(|it| (it, None))
            .collect();
        while let Some((concept, parent)) = waiting.pop() {
            let Some(row) = system.insert(read(concept, &mut edges)) else {
                break;
            };
            if let Some(parent) = parent {
                system.link(parent, row);
            }
            waiting.extend(concept.concept.iter().rev().map(|it| (it, Some(row))));
        }
        for (above, below) in edges {
            if let (Some(above), Some(below)) = (system.row(&above), system.row(&below)) {
                system.link(above, below);
            }
        }
        system.tidy_links();
        system
    }

    /// A system of which nothing but the added codes is known.
    pub(super) fn of_addition(addition: &Addition) -> Self {
        let mut system = Self {
            url: addition.system.as_str().into(),
            case_matters: true,
            is_hierarchy: true,
            ..Self::default()
        };
        system.add(addition);
        system
    }

    /// A system that is a list of codes without anything else.
    pub(super) fn of_codes(url: &str, codes: &[String]) -> Self {
        let mut system = Self {
            url: url.into(),
            case_matters: true,
            is_hierarchy: true,
            ..Self::default()
        };
        for code in codes {
            system.insert(Concept {
                code: code.as_str().into(),
                ..Concept::default()
            });
        }
        system
    }

    /// Adds what a supplement says of the system's codes; it brings no codes of its own.
    ///
    /// # Source
    /// FHIR R4, Code system supplements, <https://hl7.org/fhir/R4/codesystem.html#supplements>.
    pub(super) fn supplement(&mut self, definition: &CodeSystem) {
        self.declared
            .extend(definition.property.iter().map(|it| it.code.as_str().into()));
        let mut waiting: Vec<&Definition> = definition.concept.iter().collect();
        while let Some(concept) = waiting.pop() {
            waiting.extend(&concept.concept);
            let Some(row) = self.row(&concept.code) else {
                continue;
            };
            let more = read(concept, &mut Vec::new());
            if let Some(it) = self.rows.get_mut(row as usize) {
                it.designations.extend(more.designations);
                it.designations.extend(more.display);
                it.properties.extend(more.properties);
            }
        }
    }

    /// Adds curated codes; what the system says itself stays.
    pub(super) fn add(&mut self, addition: &Addition) {
        for added in &addition.codes {
            if self.row(&added.code).is_some() {
                continue;
            }
            let row = self.insert(Concept {
                code: added.code.as_str().into(),
                display: Some(added.display.as_str().into()),
                designations: added
                    .designations
                    .iter()
                    .map(|it| it.as_str().into())
                    .collect(),
                properties: added
                    .units
                    .iter()
                    .map(|it| ("unit".into(), it.as_str().into()))
                    .collect(),
                ..Concept::default()
            });
            let parent = added.parent.as_deref().and_then(|code| self.row(code));
            if let (Some(row), Some(parent)) = (row, parent) {
                self.link(parent, row);
            }
        }
    }

    /// The row of the concept; a repeated code keeps its first row.
    fn insert(&mut self, concept: Concept) -> Option<u32> {
        if let Some(row) = self.row(&concept.code) {
            return Some(row);
        }
        if self.rows.len() >= CONCEPTS_MAX {
            self.is_cut = true;
            return None;
        }
        let row = u32::try_from(self.rows.len()).ok()?;
        self.by_code.insert(concept.code.clone(), row);
        self.rows.push(concept);
        Some(row)
    }

    fn link(&mut self, above: u32, below: u32) {
        if above == below {
            return;
        }
        if let Some(it) = self.rows.get_mut(above as usize) {
            it.children.push(below);
        }
        if let Some(it) = self.rows.get_mut(below as usize) {
            it.parents.push(above);
        }
    }

    /// Two ways of saying that one code is above another count once.
    fn tidy_links(&mut self) {
        for it in &mut self.rows {
            it.children.sort_unstable();
            it.children.dedup();
            it.parents.sort_unstable();
            it.parents.dedup();
        }
    }

    fn row(&self, code: &str) -> Option<u32> {
        self.by_code.get(code).copied()
    }

    /// The concept of a row.
    #[must_use]
    pub fn concept(&self, row: u32) -> Option<&Concept> {
        self.rows.get(row as usize)
    }

    /// All concepts, in the order of the definition.
    #[must_use]
    pub fn concepts(&self) -> &[Concept] {
        &self.rows
    }

    /// Finds a code. Where the system does not tell cases apart, any case will do.
    #[must_use]
    pub fn find(&self, code: &str) -> Option<Found<'_>> {
        let (row, exact_case) = match self.row(code) {
            Some(row) => (row, true),
            None if self.case_matters => return None,
            None => {
                let folded = self.by_folded.get_or_init(|| self.fold());
                (*folded.get(code.to_lowercase().as_str())?, false)
            }
        };
        Some(Found {
            row,
            concept: self.concept(row)?,
            exact_case,
        })
    }

    fn fold(&self) -> FxHashMap<Box<str>, u32> {
        let mut folded = FxHashMap::default();
        for (row, concept) in (0..).zip(&self.rows) {
            folded
                .entry(concept.code.to_lowercase().into())
                .or_insert(row);
        }
        folded
    }

    /// Whether `above` is `below`, or above it.
    #[must_use]
    pub fn subsumes(&self, above: u32, below: u32) -> bool {
        self.reach(below, |it| &it.parents).contains(&above)
    }

    /// The row and everything below it.
    pub(super) fn descendants(&self, row: u32) -> BTreeSet<u32> {
        self.reach(row, |it| &it.children).into_iter().collect()
    }

    /// The row and everything above it.
    pub(super) fn ancestors(&self, row: u32) -> BTreeSet<u32> {
        self.reach(row, |it| &it.parents).into_iter().collect()
    }

    /// Each row is visited once, so cycles end.
    fn reach(&self, row: u32, next: impl Fn(&Concept) -> &Vec<u32>) -> FxHashSet<u32> {
        let mut seen = FxHashSet::default();
        let mut waiting = vec![row];
        while let Some(row) = waiting.pop() {
            if seen.insert(row)
                && let Some(concept) = self.concept(row)
            {
                waiting.extend(next(concept));
            }
        }
        seen
    }
}

/// Reads a concept without those below it; `edges` takes what its properties say of above and below.
fn read(definition: &Definition, edges: &mut Vec<(Box<str>, Box<str>)>) -> Concept {
    let mut concept = Concept {
        code: definition.code.as_str().into(),
        display: definition.display.as_deref().map(Into::into),
        designations: definition
            .designation
            .iter()
            .map(|it| it.value.as_str().into())
            .collect(),
        ..Concept::default()
    };
    for property in &definition.property {
        let Some(value) = property.text().map(Box::<str>::from) else {
            continue;
        };
        match (property.code.as_str(), &*value) {
            ("status", "retired" | "inactive") | ("inactive", "true") => concept.inactive = true,
            ("notSelectable" | "abstract", "true") => concept.is_abstract = true,
            ("parent" | "subsumedBy", _) => {
                edges.push((value.clone(), concept.code.clone()));
            }
            ("child", _) => edges.push((concept.code.clone(), value.clone())),
            _ => {}
        }
        concept
            .properties
            .push((property.code.as_str().into(), value));
    }
    concept
}
