//! Compiles a value set definition into a [`Set`].
//!
//! Imports are compiled too and shared. A value set that imports itself, directly or by a detour, does
//! not loop: the import that closes the circle is not decidable.
//! Start at [`set`].

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Terminology;
use super::filter;
use super::grammar::Grammar;
use super::set::{Clause, Codes, Listed, Listing, Set, Test};
use super::system::{Loaded, System};
use super::undecided::Undecided;
use crate::canonical::{ConceptSet, Expansion, ExpansionEntry, ValueSet, split_version};
use crate::catalogue::VersionMatch;

/// Deepest chain of value sets that import each other.
const IMPORT_DEPTH_MAX: usize = 16;
/// Most value sets that are compiled for one.
const SETS_MAX: usize = 4096;
/// Most tests that one answer may take.
const COST_MAX: u32 = 20_000;
/// Most codes of a shipped expansion that are read; a longer one counts as a part.
const EXPANSION_CODES_MAX: usize = 1_000_000;

/// The compiled value set, from what was kept or from its definition.
pub(super) fn set(terminology: &Terminology, canonical: &str) -> Arc<Set> {
    let mut compiler = Compiler {
        terminology,
        open: Vec::new(),
        sets_left: SETS_MAX,
    };
    let set = compiler.set(canonical);
    terminology.keep_set(canonical, &set);
    set
}

struct Compiler<'t> {
    terminology: &'t Terminology,
    /// The value sets that are being compiled, outermost first.
    open: Vec<String>,
    sets_left: usize,
}

impl Compiler<'_> {
    fn set(&mut self, canonical: &str) -> Arc<Set> {
        // What was compiled as part of a circle depends on where the circle was entered.
        if let Some(set) = self.terminology.kept_set(canonical)
            && !set.in_cycle
        {
            return set;
        }
        let (url, _) = split_version(canonical);
        if self.open.iter().any(|it| it == url) {
            let mut set = nothing(canonical, Undecided::ImportCycle(url.to_owned()));
            set.in_cycle = true;
            return Arc::new(set);
        }
        let is_spent = self.sets_left == 0;
        self.sets_left = self.sets_left.saturating_sub(1);
        if is_spent || self.open.len() >= IMPORT_DEPTH_MAX {
            let mut set = nothing(canonical, Undecided::TooLarge(url.to_owned()));
            set.in_cycle = true;
            return Arc::new(set);
        }
        let Some(definition) = self.terminology.catalogue.value_set(canonical) else {
            return Arc::new(self.not_loaded(canonical));
        };
        self.open.push(url.to_owned());
        let set = Arc::new(self.compile(canonical, &definition));
        self.open.pop();
        if !set.in_cycle && !self.open.is_empty() {
            self.terminology.keep_set(canonical, &set);
        }
        set
    }

    /// A value set without definition. Of some, the URL alone tells which system they draw from, and that
    /// no code of another system is in them.
    ///
    /// # Source
    /// FHIR R4, Using LOINC and Using SNOMED CT with FHIR: implicit value sets,
    /// <https://hl7.org/fhir/R4/loinc.html#implicit>, <https://hl7.org/fhir/R4/snomedct.html#implicit>.
    fn not_loaded(&self, canonical: &str) -> Set {
        let (url, _) = split_version(canonical);
        let why = Undecided::ValueSetNotLoaded(url.to_owned());
        let system = if url == "http://loinc.org/vs" || url.starts_with("http://loinc.org/vs/") {
            "http://loinc.org"
        } else if url.starts_with("http://snomed.info/sct") && url.contains("?fhir_vs") {
            "http://snomed.info/sct"
        } else {
            return nothing(canonical, why);
        };
        let mut set = nothing(canonical, why.clone());
        set.open = None;
        set.systems = vec![system.into()];
        set.includes = vec![Clause {
            system: Some(system.into()),
            test: Test::Unknown(why),
            imports: Vec::new(),
        }];
        set
    }

    fn compile(&mut self, canonical: &str, definition: &ValueSet) -> Set {
        let url = definition.url.as_str();
        let mut set = Set {
            name: match &definition.version {
                Some(version) => format!("{url}|{version}").into(),
                None => url.into(),
            },
            open: None,
            includes: Vec::new(),
            ..nothing(canonical, Undecided::ValueSetEmpty(url.to_owned()))
        };
        if let Some(compose) = &definition.compose {
            set.active_only = compose.inactive == Some(false);
            for include in &compose.include {
                let clause = self.clause(url, include, &mut set);
                set.note_systems(&clause);
                set.includes.push(clause);
            }
            for exclude in &compose.exclude {
                let clause = self.clause(url, exclude, &mut set);
                set.excludes.push(clause);
            }
        }
        if set.cost > COST_MAX {
            let why = Undecided::TooLarge(url.to_owned());
            let in_cycle = set.in_cycle;
            set = nothing(canonical, why);
            set.in_cycle = in_cycle;
        }
        set.expansion = definition.expansion.as_ref().map(listing);
        if let Some(listing) = &set.expansion {
            for (system, _) in &listing.order {
                if !set.systems.contains(system) {
                    set.systems.push(system.clone());
                }
            }
        }
        set.other_version = self.other_version(canonical);
        if set.includes.is_empty() && set.open.is_none() {
            set.open = Some(Undecided::ValueSetEmpty(url.to_owned()));
            set.includes = nothing(canonical, Undecided::ValueSetEmpty(url.to_owned())).includes;
        }
        set
    }

    /// Why the definition found is not quite the one asked for. R4's own bindings name R4's version, while
    /// the value sets of HL7 V2 and V3 in it keep their own: those are meant.
    fn other_version(&self, canonical: &str) -> Option<Undecided> {
        const FHIR_VERSION: &str = "4.0.1";
        let (url, version) = split_version(canonical);
        let version = version.filter(|it| *it != FHIR_VERSION)?;
        let located = self.terminology.catalogue.locate("ValueSet", canonical)?;
        (located.version_match == VersionMatch::Other).then(|| {
            Undecided::ValueSetVersionNotLoaded {
                value_set: url.to_owned(),
                version: version.to_owned(),
            }
        })
    }

    fn clause(&mut self, url: &str, part: &ConceptSet, set: &mut Set) -> Clause {
        set.cost = set.cost.saturating_add(1);
        let test = match &part.system {
            Some(system) => self.test(url, system, part),
            None if !part.concept.is_empty()
                || !part.filter.is_empty()
                || part.value_set.is_empty() =>
            {
                Test::Unknown(Undecided::IncludeMalformed(url.to_owned()))
            }
            None => Test::Any,
        };
        let mut imports = Vec::new();
        for canonical in &part.value_set {
            let imported = self.set(canonical);
            set.cost = set.cost.saturating_add(imported.cost);
            set.in_cycle |= imported.in_cycle;
            imports.push(imported);
        }
        Clause {
            system: part.system.as_deref().map(Into::into),
            test,
            imports,
        }
    }

    fn test(&self, url: &str, system: &str, part: &ConceptSet) -> Test {
        let loaded = match &part.version {
            Some(version) => match self.terminology.loaded_or_other(system, Some(version)) {
                // A list needs no system; what it does not list is not in it, whatever the version.
                (_, true) if part.concept.is_empty() => {
                    return Test::Unknown(Undecided::SystemVersionNotLoaded {
                        system: system.to_owned(),
                        version: version.clone(),
                    });
                }
                (loaded, _) => loaded,
            },
            None => self.terminology.loaded(system),
        };
        match (part.concept.is_empty(), part.filter.is_empty()) {
            (false, false) => Test::Unknown(Undecided::IncludeMalformed(url.to_owned())),
            (false, true) => Test::Listed(codes(part, &loaded)),
            (true, true) => match loaded {
                Loaded::Complete(system) => Test::Whole(system),
                Loaded::Partial(system, why) => Test::Partial(system, (*why).clone()),
                Loaded::ByGrammar(grammar, why) => Test::ByGrammar(grammar, (*why).clone()),
                Loaded::Absent(why) => Test::Unknown((*why).clone()),
                Loaded::ValueSet => Test::Unknown(Undecided::SystemNotLoaded(system.to_owned())),
            },
            (true, false) => match loaded {
                Loaded::Complete(system) => match filter::select(&system, &part.filter) {
                    Ok(rows) => Test::Chosen(system, rows),
                    Err(why) => Test::Unknown(why),
                },
                Loaded::ByGrammar(grammar, why) => by_grammar(&grammar, part, &why),
                Loaded::Partial(_, why) | Loaded::Absent(why) => Test::Unknown((*why).clone()),
                Loaded::ValueSet => Test::Unknown(Undecided::SystemNotLoaded(system.to_owned())),
            },
        }
    }
}

fn by_grammar(grammar: &Grammar, part: &ConceptSet, why: &Undecided) -> Test {
    let mut narrowed = grammar.clone();
    for filter in &part.filter {
        match narrowed.narrow(filter) {
            Some(it) => narrowed = it,
            None => {
                return Test::Unknown(Undecided::FilterUnsupported {
                    system: part.system.clone().unwrap_or_default(),
                    property: filter.property.clone(),
                    op: filter.op.clone(),
                    why: "the grammar of the system has no such property",
                });
            }
        }
    }
    Test::ByGrammar(narrowed, why.clone())
}

fn codes(part: &ConceptSet, loaded: &Loaded) -> Codes {
    let mut displays = FxHashMap::default();
    let mut order = Vec::new();
    for concept in &part.concept {
        let code: Box<str> = concept.code.as_str().into();
        if displays
            .insert(code.clone(), concept.display.as_deref().map(Into::into))
            .is_none()
        {
            order.push(code);
        }
    }
    let system: Option<Arc<System>> = match loaded {
        Loaded::Complete(system) | Loaded::Partial(system, _) => Some(Arc::clone(system)),
        Loaded::ByGrammar(..) | Loaded::ValueSet | Loaded::Absent(_) => None,
    };
    Codes {
        displays,
        order,
        system,
    }
}

/// Reads a shipped expansion. It is complete only if it lists as many codes as it counts.
fn listing(expansion: &Expansion) -> Listing {
    let mut listing = Listing::default();
    let mut waiting: Vec<&ExpansionEntry> = expansion.contains.iter().rev().collect();
    let mut is_cut = false;
    while let Some(entry) = waiting.pop() {
        waiting.extend(entry.contains.iter().rev());
        let (Some(system), Some(code)) = (&entry.system, &entry.code) else {
            continue;
        };
        if entry.is_abstract {
            continue;
        }
        if listing.order.len() >= EXPANSION_CODES_MAX {
            is_cut = true;
            break;
        }
        let listed = Listed {
            display: entry.display.as_deref().map(Into::into),
        };
        listing
            .codes
            .entry(system.as_str().into())
            .or_default()
            .insert(code.as_str().into(), listed);
        listing
            .order
            .push((system.as_str().into(), code.as_str().into()));
    }
    let count = listing.order.len();
    listing.is_complete = !is_cut
        && count > 0
        && expansion
            .total
            .is_none_or(|total| usize::try_from(total).is_ok_and(|total| total <= count));
    listing
}

/// A value set that decides nothing.
fn nothing(canonical: &str, why: Undecided) -> Set {
    Set {
        canonical: canonical.into(),
        name: canonical.into(),
        includes: vec![Clause {
            system: None,
            test: Test::Unknown(why.clone()),
            imports: Vec::new(),
        }],
        excludes: Vec::new(),
        active_only: false,
        expansion: None,
        other_version: None,
        systems: Vec::new(),
        open: Some(why),
        cost: 1,
        in_cycle: false,
    }
}

impl Set {
    fn note_systems(&mut self, clause: &Clause) {
        match &clause.system {
            Some(system) => self.note_system(system),
            None => {
                if let Test::Unknown(why) = &clause.test {
                    self.open.get_or_insert_with(|| why.clone());
                }
                for set in &clause.imports {
                    for system in &set.systems {
                        self.note_system(system);
                    }
                    if let Some(why) = &set.open {
                        self.open.get_or_insert_with(|| why.clone());
                    }
                }
            }
        }
    }

    fn note_system(&mut self, system: &str) {
        if self.systems.iter().all(|it| **it != *system) {
            self.systems.push(system.into());
        }
    }
}
