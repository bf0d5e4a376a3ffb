//! A value set, compiled: a small tree of tests over compiled code systems.
//!
//! A test answers member, not a member, or not decidable; nothing is enumerated, so that a whole code
//! system, a grammar and a list all take their place in it, and an answer costs a few hash lookups.
//! Start at [`Set::decide`].

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::filter::Rows;
use super::grammar::Grammar;
use super::system::{Concept, Found, System};
use super::undecided::Undecided;

/// A value set, compiled.
#[derive(Debug)]
pub struct Set {
    /// Canonical URL as it was asked for.
    pub(super) canonical: Box<str>,
    /// Canonical URL with the version that was found.
    pub(super) name: Box<str>,
    pub(super) includes: Vec<Clause>,
    pub(super) excludes: Vec<Clause>,
    /// Whether codes that are no longer in use are kept out.
    pub(super) active_only: bool,
    pub(super) expansion: Option<Listing>,
    /// Why "not a member" is not to be trusted: another version was asked for.
    pub(super) other_version: Option<Undecided>,
    /// Systems that codes may come from, in order.
    pub(super) systems: Vec<Box<str>>,
    /// Why codes of any other system may be in it too.
    pub(super) open: Option<Undecided>,
    /// How many tests an answer may take at most.
    pub(super) cost: u32,
    /// Whether it imports itself by some way, or was cut short; as part of another value set it is then
    /// compiled anew, so that answers do not depend on what was asked before.
    pub(super) in_cycle: bool,
}

/// One include or exclude.
#[derive(Debug)]
pub(super) struct Clause {
    pub(super) system: Option<Box<str>>,
    pub(super) test: Test,
    /// Value sets, all of which must hold the code.
    pub(super) imports: Vec<Arc<Set>>,
}

/// What an include says of the codes of its system.
#[derive(Debug)]
pub(super) enum Test {
    /// Nothing: its imports decide.
    Any,
    /// Every code of a system that is loaded completely.
    Whole(Arc<System>),
    /// Codes one by one.
    Listed(Codes),
    /// The codes that filters select.
    Chosen(Arc<System>, Rows),
    /// Every code that follows a grammar (and its filters, where the grammar knows them).
    ByGrammar(Grammar, Undecided),
    /// Every code of a system that is loaded in part.
    Partial(Arc<System>, Undecided),
    /// Nothing is known.
    Unknown(Undecided),
}

/// Codes one by one, with what to show for them here.
#[derive(Debug)]
pub(super) struct Codes {
    pub(super) displays: FxHashMap<Box<str>, Option<Box<str>>>,
    /// In the order of the definition.
    pub(super) order: Vec<Box<str>>,
    pub(super) system: Option<Arc<System>>,
}

/// A shipped expansion.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) codes: FxHashMap<Box<str>, FxHashMap<Box<str>, Listed>>,
    /// In the order of the expansion: system and code.
    pub(super) order: Vec<(Box<str>, Box<str>)>,
    pub(super) is_complete: bool,
}

#[derive(Debug)]
pub(super) struct Listed {
    pub(super) display: Option<Box<str>>,
}

/// Whether a value set holds a code.
#[derive(Clone, Copy, Debug)]
pub enum Decision<'s> {
    /// It does.
    Member(Member<'s>),
    /// It does not.
    NotMember,
    /// Nothing loaded can say.
    NotDecidable(&'s Undecided),
}

/// What is known of a code that is in a value set.
#[derive(Clone, Copy, Debug, Default)]
pub struct Member<'s> {
    /// What the value set shows for it.
    pub listed_display: Option<&'s str>,
    /// The code in its system, if that is loaded.
    pub concept: Option<&'s Concept>,
    /// Whether upper and lower case differ from the system's.
    pub other_case: bool,
}

impl<'s> Member<'s> {
    /// What to show for it: the value set's own word, or else the system's.
    #[must_use]
    pub fn display(&self) -> Option<&'s str> {
        self.listed_display
            .or_else(|| self.concept?.display.as_deref())
    }

    fn of(found: &Found<'s>) -> Self {
        Self {
            listed_display: None,
            concept: Some(found.concept),
            other_case: !found.exact_case,
        }
    }
}

impl Set {
    /// Canonical URL as it was asked for.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Canonical URL with the version that was found.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether every possible code of every system gets a definite answer.
    #[must_use]
    pub fn is_decidable(&self) -> bool {
        if self.other_version.is_some() {
            return false;
        }
        if self.expansion.as_ref().is_some_and(|it| it.is_complete) {
            return true;
        }
        self.open.is_none()
            && self
                .includes
                .iter()
                .chain(&self.excludes)
                .all(Clause::is_decidable)
    }

    /// Whether the value set holds a code of a system.
    #[must_use]
    pub fn decide(&self, system: &str, code: &str) -> Decision<'_> {
        match (self.as_loaded(system, code), &self.other_version) {
            (Decision::NotMember, Some(why)) => Decision::NotDecidable(why),
            (decision, _) => decision,
        }
    }

    fn as_loaded(&self, system: &str, code: &str) -> Decision<'_> {
        let decision = self.by_definition(system, code);
        let (Decision::NotDecidable(_), Some(listing)) = (&decision, &self.expansion) else {
            return decision;
        };
        match listing.codes.get(system).and_then(|it| it.get(code)) {
            Some(listed) => Decision::Member(Member {
                listed_display: listed.display.as_deref(),
                ..Member::default()
            }),
            None if listing.is_complete => Decision::NotMember,
            None => decision,
        }
    }

    /// Whether the value set holds the code in any of its systems.
    #[must_use]
    pub fn decide_code(&self, code: &str) -> Decision<'_> {
        let mut undecided = self.open.as_ref().or(self.other_version.as_ref());
        for system in &self.systems {
            match self.decide(system, code) {
                Decision::NotMember => {}
                Decision::NotDecidable(why) => undecided = undecided.or(Some(why)),
                member @ Decision::Member(_) => return member,
            }
        }
        undecided.map_or(Decision::NotMember, Decision::NotDecidable)
    }

    fn by_definition(&self, system: &str, code: &str) -> Decision<'_> {
        let mut decision = Decision::NotMember;
        for clause in &self.includes {
            match clause.decide(system, code) {
                Decision::NotMember => {}
                undecided @ Decision::NotDecidable(_) => {
                    if matches!(decision, Decision::NotMember) {
                        decision = undecided;
                    }
                }
                member @ Decision::Member(_) => {
                    decision = member;
                    break;
                }
            }
        }
        match &decision {
            Decision::NotMember => return decision,
            Decision::Member(member)
                if self.active_only && member.concept.is_some_and(|it| it.inactive) =>
            {
                return Decision::NotMember;
            }
            Decision::Member(_) | Decision::NotDecidable(_) => {}
        }
        for clause in &self.excludes {
            match clause.decide(system, code) {
                Decision::NotMember => {}
                undecided @ Decision::NotDecidable(_) => decision = undecided,
                Decision::Member(_) => return Decision::NotMember,
            }
        }
        decision
    }
}

impl Clause {
    fn is_decidable(&self) -> bool {
        let by_test = match &self.test {
            Test::Any | Test::Whole(_) | Test::Listed(_) | Test::Chosen(..) => true,
            Test::ByGrammar(grammar, _) => grammar.is_total(),
            Test::Partial(..) | Test::Unknown(_) => false,
        };
        by_test && self.imports.iter().all(|it| it.is_decidable())
    }

    fn decide(&self, system: &str, code: &str) -> Decision<'_> {
        if self.system.as_deref().is_some_and(|mine| mine != system) {
            return Decision::NotMember;
        }
        let mut decision = self.test.decide(code);
        for import in &self.imports {
            decision = match (decision, import.decide(system, code)) {
                (Some(Decision::NotMember), _) | (_, Decision::NotMember) => {
                    return Decision::NotMember;
                }
                (None, it) | (Some(Decision::Member(_)), it @ Decision::NotDecidable(_)) => {
                    Some(it)
                }
                (Some(it), _) => Some(it),
            };
        }
        decision.unwrap_or(Decision::NotMember)
    }
}

impl Test {
    /// `None` if this says nothing.
    fn decide(&self, code: &str) -> Option<Decision<'_>> {
        Some(match self {
            Test::Any => return None,
            Test::Whole(system) => match system.find(code) {
                Some(found) => Decision::Member(Member::of(&found)),
                None => Decision::NotMember,
            },
            Test::Listed(codes) => codes.decide(code),
            Test::Chosen(system, rows) => match system.find(code) {
                Some(found) if rows.contains(found.row) => Decision::Member(Member::of(&found)),
                _ => Decision::NotMember,
            },
            Test::ByGrammar(grammar, why) => match grammar.decide(code) {
                Some(true) => Decision::Member(Member::default()),
                Some(false) => Decision::NotMember,
                None => Decision::NotDecidable(why),
            },
            Test::Partial(system, why) => match system.find(code) {
                Some(found) => Decision::Member(Member::of(&found)),
                None => Decision::NotDecidable(why),
            },
            Test::Unknown(why) => Decision::NotDecidable(why),
        })
    }
}

impl Codes {
    fn decide(&self, code: &str) -> Decision<'_> {
        let found = self.system.as_deref().and_then(|it| it.find(code));
        let listed = match self.displays.get(code) {
            Some(display) => display,
            // In another case, where the system allows that.
            None => match found.and_then(|it| self.displays.get(&it.concept.code)) {
                Some(display) => display,
                None => return Decision::NotMember,
            },
        };
        Decision::Member(Member {
            listed_display: listed.as_deref(),
            concept: found.map(|it| it.concept),
            other_case: found.is_some_and(|it| !it.exact_case),
        })
    }
}
