//! Names of people nobody told us about: by form of address, by the words around them, and by lists.
//!
//! An eponym, a drug, an organism and an ordinary word are no names unless more than a capital letter says so.
//! Start at [`find`].

use std::collections::BTreeSet;

use super::budget::Spent;
use super::class::Class;
use super::lexicon::mark;
use super::reading::{Kind, Shape};
use super::search::{Basis, Search, is_function_word};

/// Most words of one name.
const NAME_WORDS_MAX: usize = 6;

/// Finds names.
pub(crate) fn find(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    let mut at = 0;
    while at < search.reading.len() {
        search.spend(4)?;
        let found = if search.is_free(at) {
            one(search, at)
        } else {
            None
        };
        match found {
            Some((from, end, basis)) => {
                search.spend(NAME_WORDS_MAX)?;
                search.take(from, end, Class::Name, basis);
                at = end.max(at + 1);
            }
            None => at += 1,
        }
    }
    again(search)
}

type Found = Option<(usize, usize, Basis)>;

fn one(search: &Search<'_, '_>, at: usize) -> Found {
    after_title(search, at)
        .or_else(|| surname_first(search, at))
        .or_else(|| given_first(search, at))
        .or_else(|| initial_first(search, at))
        .or_else(|| after_cue(search, at))
        .or_else(|| apposition(search, at))
        .or_else(|| before_credential(search, at))
        .or_else(|| small_letters(search, at))
        .or_else(|| surname_alone(search, at))
}

/// Where a name that begins at `at` ends: name words, initials and the small words between.
fn run(search: &Search<'_, '_>, at: usize) -> usize {
    let reading = search.reading;
    let mut end = at;
    for _ in 0..NAME_WORDS_MAX {
        let mut next = end;
        if end > at && reading.is_dash(next) && reading.touches(next) && reading.touches(next + 1) {
            next += 1;
        }
        if end > at && reading.begins_line(next) {
            break;
        }
        if let Some(after) = search.initial(next) {
            end = after;
        } else if search.can_be_name(next) || (end > at && is_suffix(search, next)) {
            end = next + 1;
        } else if reading.any(next, mark::PARTICLE) && search.is_free(next) {
            // "van der Berg", "de la Cruz".
            let mut after = next + 1;
            while reading.any(after, mark::PARTICLE)
                && after < next + 3
                && !search.can_be_name(after)
            {
                after += 1;
            }
            if !search.can_be_name(after)
                || (end == at
                    && reading.shape(next) == Shape::Lower
                    && is_function_word(reading.fold(next)))
            {
                break;
            }
            end = after + 1;
        } else {
            break;
        }
    }
    // A suffix behind a comma: "Smith, Jr."
    if end > at && reading.is_mark(end, ',') && is_suffix(search, end + 1) {
        end += 2;
    }
    if end > at && reading.is_mark(end, '.') && reading.any(end - 1, mark::SUFFIX) {
        end += 1;
    }
    end
}

fn is_suffix(search: &Search<'_, '_>, at: usize) -> bool {
    search.is_free(at) && search.reading.any(at, mark::SUFFIX) && (search.reading.is_capital(at))
}

/// `Dr. Patel`, `Mrs. O'Brien`, `dr smith`.
fn after_title(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    if !reading.any(at, mark::TITLE) {
        return None;
    }
    let fold = reading.fold(at);
    let is_common = matches!(
        fold,
        "dr" | "drs" | "mr" | "mrs" | "ms" | "prof" | "doctor" | "professor" | "mx"
    );
    let is_written = match reading.shape(at) {
        Shape::Capital => true,
        Shape::Lower => is_common,
        // "MS" is a disease and "MR" an image, unless everything stands in capitals.
        Shape::Upper => {
            is_common
                && reading.shape(at + 1 + usize::from(reading.is_mark(at + 1, '.'))) == Shape::Upper
        }
        _ => false,
    };
    if !is_written {
        return None;
    }
    let dotted = reading.is_mark(at + 1, '.');
    let name = at + 1 + usize::from(dotted);
    if reading.begins_line(name) {
        return None;
    }
    let end = run(search, name);
    if end > name {
        return Some((name, end, Basis::Pattern));
    }
    // A name that is an ordinary word, or in small letters.
    let lone = search.is_free(name)
        && reading.is_letters(name)
        && reading.fold(name).len() >= 2
        && !search.is_clinical(name);
    let capital = reading.is_capital(name)
        && reading.shape(at) == Shape::Capital
        && dotted
        && !reading.any(name, mark::RELATION | mark::FACILITY_HEAD);
    let small = is_common
        && reading.shape(name) == Shape::Lower
        && (!reading.any(name, mark::ORDINARY)
            || reading.any(name, mark::SURNAME | mark::GIVEN) && dotted)
        && !is_function_word(reading.fold(name));
    if !lone || !(capital || small) {
        return None;
    }
    let more = small
        && reading.any(name + 1, mark::SURNAME)
        && !reading.any(name + 1, mark::ORDINARY)
        && reading.is_letters(name + 1);
    Some((name, name + 1 + usize::from(more), Basis::Pattern))
}

/// `Smith, John A.`
fn surname_first(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    if !search.can_be_name(at)
        || !reading.any(at, mark::SURNAME)
        || !reading.is_mark(at + 1, ',')
        || search.is_eponym(at)
    {
        return None;
    }
    let given = at + 2;
    let fits = search.can_be_name(given)
        && reading.any(given, mark::GIVEN)
        && !reading.begins_line(given)
        && reading.shape(given) == reading.shape(at)
        && !(reading.any(at, mark::ORDINARY) && reading.any(given, mark::ORDINARY))
        && !(reading.any(at, mark::ORDINARY) && reading.begins_sentence(at));
    if !fits {
        return None;
    }
    let end = search.initial(given + 1).unwrap_or(given + 1);
    Some((at, end, Basis::Lexicon))
}

/// `Mary Johnson`, `Anna S.`, `John D`, `Jane A. Doe`, `Anna`.
fn given_first(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    if !search.can_be_name(at) || !reading.any(at, mark::GIVEN) {
        return None;
    }
    let is_ordinary = reading.any(at, mark::ORDINARY);
    // "X-Ray" and "T-Max": what hangs on one letter is no name.
    let hangs = at >= 2
        && reading.is_dash(at - 1)
        && reading.touches(at)
        && reading.shape(at - 2) == Shape::Initial;
    if hangs {
        return None;
    }
    let follows_eponym = at >= 2 && reading.is_dash(at - 1) && reading.any(at - 2, mark::EPONYM);
    let end = run(search, at);
    let last = end - 1;
    let is_listed_eponym = (at..end).any(|word| reading.any(word, mark::EPONYM))
        && (search.is_eponym(last) || search.is_eponym(at));
    if follows_eponym || is_listed_eponym {
        return None;
    }
    if end > at + 1 {
        let second = at + 1 + usize::from(reading.is_dash(at + 1));
        if let Some(after) = search.initial(second) {
            // "I" and "A" alone are words.
            let is_word = matches!(reading.fold(second), "i" | "a") && after == second + 1;
            if is_word {
                return (!is_ordinary).then_some((at, at + 1, Basis::Lexicon));
            }
            let certain = !is_ordinary || after > second + 1;
            return certain.then_some((at, end, Basis::Lexicon));
        }
        let surname = (second..end)
            .any(|word| reading.any(word, mark::SURNAME) && !reading.any(word, mark::ORDINARY));
        let known = (second..end).any(|word| reading.any(word, mark::SURNAME | mark::GIVEN));
        let fits = if is_ordinary {
            surname && (known || !reading.begins_sentence(at))
        } else {
            true
        };
        return fits.then_some((at, end, Basis::Lexicon));
    }
    if is_ordinary
        || reading.shape(at) == Shape::Upper
        || reading.any(at, mark::STATE | mark::COUNTRY)
        || reading.fold(at).len() < 3
    {
        return None;
    }
    let is_joined = reading.is_dash(at + 1) && reading.touches(at + 1) && reading.touches(at + 2);
    let is_part = search.is_eponym(at) || (is_joined && reading.any(at, mark::EPONYM));
    (!is_part).then_some((at, end, Basis::Lexicon))
}

/// `J. Smith`, `A. B. Patel`.
fn initial_first(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let mut next = search.initial(at)?;
    let is_dotted = next > at + 1;
    while let Some(after) = search.initial(next) {
        if reading.begins_line(next) || after > at + 8 {
            break;
        }
        next = after;
    }
    if !search.can_be_name(next) || reading.begins_line(next) || search.is_eponym(next) {
        return None;
    }
    let is_surname = reading.any(next, mark::SURNAME) && !reading.any(next, mark::ORDINARY);
    let is_word = matches!(reading.fold(at), "i" | "a") && !is_dotted;
    let is_list = at > 0
        && matches!(
            reading.fold(at - 1),
            "vitamin"
                | "hepatitis"
                | "type"
                | "group"
                | "stage"
                | "class"
                | "grade"
                | "factor"
                | "influenza"
                | "protein"
        );
    let end = run(search, next);
    (!is_word
        && !is_list
        && (is_surname && (is_dotted || !reading.begins_sentence(at))
            || is_dotted && !reading.any(next, mark::ORDINARY) && !reading.begins_sentence(at)))
    .then_some((at, end, Basis::Lexicon))
}

/// `patient named Xiomara`, `his wife Thandiwe`, `Signed: Q. Xu`, `pt JS`.
fn after_cue(search: &Search<'_, '_>, at: usize) -> Found {
    const FILLERS_MAX: usize = 3;
    let reading = search.reading;
    let is_cue = reading.any(at, mark::NAME_CUE);
    if !reading.any(at, mark::PERSON | mark::RELATION | mark::NAME_CUE)
        || (reading.shape(at) == Shape::Initial)
    {
        return None;
    }
    let mut name = at + 1;
    let mut has_mark = false;
    let mut is_said = is_cue;
    for _ in 0..FILLERS_MAX {
        if reading.begins_line(name) {
            return None;
        }
        if reading.is_any_mark(name, ":-–(") {
            has_mark = true;
        } else if reading.any(name, mark::NAME_FILLER | mark::NAME_CUE)
            && reading.shape(name) == Shape::Lower
            || matches!(reading.fold(name), "by" | "electronically" | "digitally")
        {
            is_said |= reading.any(name, mark::NAME_CUE) || reading.fold(name) == "by";
        } else {
            break;
        }
        name += 1;
    }
    if !search.is_free(name) || reading.begins_line(name) {
        return None;
    }
    if let Some(initials) = initials(search, name) {
        return Some((name, initials, Basis::Pattern));
    }
    // A given name in small letters: "pt john".
    let small = reading.shape(name) == Shape::Lower
        && reading.has(name, mark::GIVEN)
        && !reading.any(name, mark::ORDINARY | mark::PARTICLE)
        && (name == at + 1 || is_said);
    if small && reading.fold(name).len() >= 3 {
        let more = reading.shape(name + 1) == Shape::Lower
            && reading.has(name + 1, mark::SURNAME)
            && !reading.any(name + 1, mark::ORDINARY);
        return Some((name, name + 1 + usize::from(more), Basis::Pattern));
    }
    if !search.can_be_name(name)
        || search.is_eponym(name)
        || reading.any(name, mark::EPONYM) && !is_said && !has_mark
    {
        return None;
    }
    let mut end = run(search, name);
    // "Name: LEE, MIN-HO": what follows the comma is the rest of it.
    let rest = end + 1;
    let goes_on = is_cue
        && has_mark
        && reading.is_mark(end, ',')
        && search.is_free(rest)
        && reading.is_letters(rest)
        && reading.is_capital(rest)
        && !reading.begins_line(rest)
        && !search.is_clinical(rest);
    if goes_on {
        let is_joined = reading.is_dash(rest + 1) && reading.touches(rest + 2);
        end = run(search, rest).max(if is_joined { rest + 3 } else { rest + 1 });
    }
    let is_listed = (name..end).any(|word| reading.any(word, mark::GIVEN | mark::SURNAME));
    let is_upper = reading.shape(name) == Shape::Upper;
    let fits = is_listed && (!is_upper || end > name + 1 || is_said || has_mark)
        || (is_said || reading.any(at, mark::RELATION) || end > name + 1) && !is_upper;
    fits.then_some((name, end, Basis::Pattern))
}

/// `J.S.`, `J.A.S.`, and `JS` where initials are spoken of.
fn initials(search: &Search<'_, '_>, at: usize) -> Option<usize> {
    let reading = search.reading;
    let mut end = search.initial(at)?;
    let mut letters = 1;
    while let Some(next) = search
        .initial(end)
        .filter(|_| reading.touches(end) || letters > 0 && reading.is_mark(end - 1, '.'))
    {
        if letters >= 4 {
            break;
        }
        letters += 1;
        end = next;
    }
    (letters >= 2 && reading.is_mark(at + 1, '.')).then_some(end)
}

/// `…, Thandiwe Mokoena, …`: two words with capitals that nobody knows, set apart by commas.
fn apposition(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let is_apart = at
        .checked_sub(1)
        .is_some_and(|before| reading.is_any_mark(before, ",("));
    if !is_apart || !search.can_be_name(at) || search.is_eponym(at) {
        return None;
    }
    let end = run(search, at);
    let closes = end >= reading.len()
        || reading.is_any_mark(end, ",.)(;?")
        || matches!(reading.fold(end), "who" | "with" | "was" | "is");
    let words = (at..end)
        .filter(|word| !matches!(reading.kind(*word), Some(Kind::Mark(_))))
        .count();
    let is_shouted = (at..end).any(|word| reading.shape(word) == Shape::Upper);
    (closes && words >= 2 && !is_shouted && !search.is_eponym(end - 1)).then_some((
        at,
        end,
        Basis::Pattern,
    ))
}

/// `Jane Roe, MD`, `Quang RN`.
fn before_credential(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    if !search.can_be_name(at) || search.is_eponym(at) {
        return None;
    }
    let end = run(search, at);
    let place = end + usize::from(reading.is_mark(end, ','));
    let is_credential = reading.any(place, mark::CREDENTIAL)
        && matches!(reading.shape(place), Shape::Upper | Shape::Inner)
        && !reading.begins_line(place)
        && !matches!(
            reading.fold(place),
            "ms" | "ot" | "pt" | "ma" | "od" | "do" | "rd"
        )
        && search.is_free(place);
    let is_shouted =
        reading.shape(at) == Shape::Upper && !reading.any(at, mark::GIVEN | mark::SURNAME);
    (is_credential && !is_shouted).then_some((at, end, Basis::Pattern))
}

/// `mary johnson`: both words known as names and as nothing else.
fn small_letters(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let only = |at: usize, bits: u32| {
        search.is_free(at)
            && reading.shape(at) == Shape::Lower
            && reading.is_letters(at)
            && reading.has(at, bits)
            && reading.fold(at).len() >= 3
            && !reading.any(
                at,
                mark::ORDINARY
                    | mark::DRUG
                    | mark::ORGANISM
                    | mark::EPONYM
                    | mark::EPONYM_HEAD
                    | mark::ACRONYM
                    | mark::STATE
                    | mark::CARE_VERB
                    | mark::COUNTRY,
            )
            && !is_function_word(reading.fold(at))
    };
    let pair = only(at, mark::GIVEN) && only(at + 1, mark::SURNAME) && !reading.begins_line(at + 1);
    pair.then_some((at, at + 2, Basis::Lexicon))
}

/// `Johnson was called`: a surname in the midst of a sentence.
fn surname_alone(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let fits = search.can_be_name(at)
        && reading.any(at, mark::SURNAME)
        && matches!(reading.shape(at), Shape::Capital | Shape::Inner)
        && !reading.any(
            at,
            mark::ORDINARY | mark::EPONYM | mark::STATE | mark::COUNTRY | mark::CITY,
        )
        && reading.fold(at).len() >= 3
        && !reading.begins_sentence(at)
        && !search.is_eponym(at)
        && !(at > 0 && reading.is_dash(at - 1) && reading.touches(at))
        && !(reading.is_dash(at + 1) && reading.touches(at + 1));
    fits.then_some((at, run(search, at), Basis::Lexicon))
}

/// The same name elsewhere in the text, where nothing beside it says that it is one.
fn again(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    let reading = search.reading;
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for span in search.spans.iter().filter(|span| span.class == Class::Name) {
        let first = reading
            .words
            .partition_point(|word| word.start < span.start);
        for (at, word) in reading.words.iter().enumerate().skip(first) {
            if word.start >= span.end {
                break;
            }
            let is_own = reading.is_letters(at)
                && reading.fold(at).len() >= 4
                && !reading.any(
                    at,
                    mark::ORDINARY | mark::EPONYM | mark::PARTICLE | mark::DRUG | mark::CITY,
                );
            if is_own {
                known.insert(reading.fold(at));
            }
        }
    }
    if known.is_empty() {
        return Ok(());
    }
    let places: Vec<usize> = (0..reading.len())
        .filter(|at| search.is_free(*at) && known.contains(reading.fold(*at)))
        .collect();
    search.spend(reading.len())?;
    for at in places {
        search.take(at, at + 1, Class::Name, Basis::Pattern);
    }
    Ok(())
}
