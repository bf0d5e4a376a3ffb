//! Lists what is in a value set, code by code.
//!
//! Only for showing and for small sets: whether a code is in a set is decided without listing it.
//! Start at [`Set::expand`].

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::set::{Clause, Decision, Set, Test};
use super::system::System;
use super::undecided::Undecided;

/// One code of a value set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    /// The code system.
    pub system: String,
    /// The code.
    pub code: String,
    /// What to show for it.
    pub display: Option<String>,
    /// Whether it is no longer in use.
    pub inactive: bool,
    /// Whether it only groups others.
    pub is_abstract: bool,
}

/// Why a value set cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotExpandable {
    /// Something in it is not loaded, or not understood.
    #[error("the value set cannot be listed: {0}")]
    Undecided(Undecided),
    /// It holds codes without end.
    #[error("the codes of `{0}` follow a grammar and cannot be listed")]
    ByGrammar(String),
    /// It holds more codes than were asked for.
    #[error("the value set has more than {0} codes")]
    TooMany(usize),
}

impl Set {
    /// Every code, in the order of the definition; abstract ones too.
    ///
    /// # Errors
    /// The set rests on something that is not loaded or has no end, or holds more than `codes_max` codes.
    pub fn expand(&self, codes_max: usize) -> Result<Vec<Expanded>, NotExpandable> {
        let mut found = Vec::new();
        let mut seen = FxHashSet::default();
        for (system, code) in self.candidates(codes_max)? {
            if !seen.insert((system.clone(), code.clone())) {
                continue;
            }
            match self.decide(&system, &code) {
                Decision::NotMember => {}
                Decision::NotDecidable(why) => {
                    return Err(NotExpandable::Undecided(why.clone()));
                }
                Decision::Member(member) => {
                    if found.len() >= codes_max {
                        return Err(NotExpandable::TooMany(codes_max));
                    }
                    found.push(Expanded {
                        display: member.display().map(str::to_owned),
                        inactive: member.concept.is_some_and(|it| it.inactive),
                        is_abstract: member.concept.is_some_and(|it| it.is_abstract),
                        system,
                        code,
                    });
                }
            }
        }
        Ok(found)
    }

    /// Codes among which all members are. At most about `codes_max` of them per part are not members.
    fn candidates(&self, codes_max: usize) -> Result<Vec<(String, String)>, NotExpandable> {
        let mut candidates = Vec::new();
        for clause in &self.includes {
            if let Err(why) = clause.candidates(codes_max, &mut candidates) {
                return match &self.expansion {
                    Some(listing) if listing.is_complete => Ok(listing
                        .order
                        .iter()
                        .map(|(system, code)| (system.to_string(), code.to_string()))
                        .collect()),
                    _ => Err(why),
                };
            }
        }
        Ok(candidates)
    }
}

impl Clause {
    fn candidates(
        &self,
        codes_max: usize,
        candidates: &mut Vec<(String, String)>,
    ) -> Result<(), NotExpandable> {
        let system = self.system.as_deref().unwrap_or_default();
        let mut push = |code: &str| candidates.push((system.to_owned(), code.to_owned()));
        match &self.test {
            Test::Listed(codes) => codes.order.iter().for_each(|code| push(code)),
            Test::Whole(it) => all(it, codes_max)?.for_each(push),
            Test::Chosen(it, rows) => (0..)
                .zip(it.concepts())
                .filter(|(row, _)| rows.contains(*row))
                .for_each(|(_, concept)| push(&concept.code)),
            Test::Any => {
                // A code must be in all imports, so those of the first are enough.
                if let Some(first) = self.imports.first() {
                    candidates.extend(first.candidates(codes_max)?);
                }
            }
            Test::ByGrammar(..) => return Err(NotExpandable::ByGrammar(system.to_owned())),
            Test::Partial(_, why) | Test::Unknown(why) => {
                return Err(NotExpandable::Undecided(why.clone()));
            }
        }
        Ok(())
    }
}

/// The codes of a system, if it is not far too large for what is asked.
fn all(
    system: &Arc<System>,
    codes_max: usize,
) -> Result<impl Iterator<Item = &str>, NotExpandable> {
    /// How many times more codes are looked at than may be listed, since exclusions take some away.
    const SPARE: usize = 16;
    if system.concepts().len() > codes_max.saturating_mul(SPARE) {
        return Err(NotExpandable::TooMany(codes_max));
    }
    Ok(system.concepts().iter().map(|it| &*it.code))
}
