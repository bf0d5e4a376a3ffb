//! Institutions, cities and other places smaller than a state.
//!
//! States and countries stay. A place that is also a person's name or an ordinary word needs a word before or
//! behind it that says so. Start at [`find`].

use super::addresses::{city_at, phrase_at, state_at};
use super::budget::Spent;
use super::class::Class;
use super::lexicon::{PhraseKind, mark};
use super::reading::{Gap, Kind, Reading, Shape};
use super::search::{Basis, Search, is_function_word};

/// Most words of an institution's name before its last word.
const MODIFIERS_MAX: usize = 7;
/// How far before a preposition the verb of care may stand.
const CARE_LOOK_BACK: usize = 12;

/// Finds places.
pub(crate) fn find(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    // Institutions first: "Boston Medical Center" is one place, not a city with something behind it.
    let mut at = 0;
    while at < search.reading.len() {
        search.spend(3)?;
        if search.is_free(at)
            && let Some((from, end)) = institution(search, at)
        {
            search.spend(MODIFIERS_MAX)?;
            search.take(from, end, Class::Place, Basis::Lexicon);
            at = end;
        } else {
            at += 1;
        }
    }
    let mut at = 0;
    while at < search.reading.len() {
        search.spend(4)?;
        let found = if search.is_free(at) {
            saint(search, at)
                .or_else(|| county(search, at))
                .or_else(|| before_state(search, at))
                .or_else(|| city(search, at))
                .or_else(|| after_preposition(search, at))
        } else {
            None
        };
        match found {
            Some((from, end)) => {
                search.take(from, end, Class::Place, Basis::Lexicon);
                at = end.max(at + 1);
            }
            None => at += 1,
        }
    }
    Ok(())
}

type Found = Option<(usize, usize)>;

fn institution(search: &Search<'_, '_>, at: usize) -> Found {
    known_institution(search, at).or_else(|| headed_institution(search, at))
}

/// One of the list: "Johns Hopkins", "UCSF", with the words of an institution behind it.
fn known_institution(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    if !reading.is_capital(at) {
        return None;
    }
    let end = phrase_at(search, at, PhraseKind::Facility)?;
    let grown = grow(search, end);
    if grown == end && end == at + 1 {
        let is_short = reading.shape(at) == Shape::Upper && reading.fold(at).len() <= 4;
        let needs_cue = is_short
            || reading.any(
                at,
                mark::ORDINARY
                    | mark::EPONYM
                    | mark::ACRONYM
                    | mark::GIVEN
                    | mark::SURNAME
                    | mark::STATE
                    | mark::CITY,
            );
        if search.is_eponym(at) || (needs_cue && !follows_place_word(search, at)) {
            return None;
        }
    }
    (!search.is_eponym(end - 1) || grown > end).then_some((at, grown))
}

/// Whether a preposition of place, or "our", stands before.
fn follows_place_word(search: &Search<'_, '_>, at: usize) -> bool {
    let reading = search.reading;
    at.checked_sub(1).is_some_and(|before| {
        matches!(
            reading.fold(before),
            "at" | "from" | "to" | "in" | "by" | "our" | "via" | "near" | "outside"
        ) || reading.is_mark(before, '@')
            || (reading.fold(before) == "the"
                && before > 0
                && matches!(
                    reading.fold(before - 1),
                    "at" | "from" | "to" | "in" | "near"
                ))
    })
}

/// Words that belong to an institution's name behind its core: "Medical Center", "of Boston", "- Downtown".
fn grow(search: &Search<'_, '_>, core_end: usize) -> usize {
    const WORDS_MAX: usize = 8;
    let reading = search.reading;
    let mut end = core_end;
    let mut next = core_end;
    for _ in 0..WORDS_MAX {
        let mut place = next;
        while reading.is_dash(place)
            || (reading.is_any_mark(place, ".&") && reading.touches(place))
            || reading.is_mark(place, '&')
        {
            place += 1;
        }
        if reading.begins_line(place) || !search.is_free(place) {
            break;
        }
        if let Some(head_end) = phrase_at(search, place, PhraseKind::FacilityHead) {
            end = head_end;
            next = head_end;
            continue;
        }
        let fold = reading.fold(place);
        let is_tail = reading.any(place, mark::FACILITY_HEAD | mark::FACILITY_TAIL);
        let is_capital_word = reading.is_capital(place) && place == next;
        if is_tail
            && (reading.is_capital(place)
                || reading.any(place, mark::FACILITY_HEAD)
                || matches!(fold, "campus" | "branch" | "office" | "clinic" | "center"))
        {
            end = place + 1;
            next = end;
        } else if is_capital_word && reading.any(place, mark::FACILITY_GENERIC) {
            // "Houston Methodist Sugar Land", "Baylor Heart Hospital": decided by what comes next.
            next = place + 1;
        } else if let Some(city_end) =
            city_at(search, place).filter(|_| end > core_end || place == next)
        {
            end = city_end;
            next = city_end;
        } else if matches!(fold, "of" | "at" | "for")
            && reading.is_capital(place + 1)
            && search.can_be_name(place + 1)
        {
            end = city_at(search, place + 1).unwrap_or(place + 2);
            next = end;
        } else {
            break;
        }
    }
    end
}

/// A name that ends in what institutions are called: "Methodist Hospital", "Dallas clinic".
fn headed_institution(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let phrase = phrase_at(search, at, PhraseKind::FacilityHead);
    let head_end = phrase.or_else(|| reading.any(at, mark::FACILITY_HEAD).then_some(at + 1))?;
    let is_capital = reading.is_capital(at);
    let mut from = at;
    let mut is_named = false;
    for _ in 0..MODIFIERS_MAX {
        let Some(before) = modifier(search, from) else {
            break;
        };
        from = before;
        is_named |= names(search, from, is_capital);
    }
    // Connecting words do not begin a name.
    while from < at && !reading.is_capital(from) {
        from += 1;
    }
    if !is_named || from == at {
        // "University of Michigan".
        let of = reading.fold(head_end) == "of" || reading.fold(head_end) == "at";
        let named = is_capital && of && search.can_be_name(head_end + 1);
        return named.then(|| (at, grow(search, head_end)));
    }
    Some((from, grow(search, head_end)))
}

/// The word before `from` that belongs to the same name.
fn modifier(search: &Search<'_, '_>, from: usize) -> Option<usize> {
    let reading = search.reading;
    if reading.begins_line(from) {
        return None;
    }
    let mut at = from.checked_sub(1)?;
    // "St." and "Med." have dots, "New York-Presbyterian" a hyphen.
    if reading.is_mark(at, '.')
        && matches!(
            reading.fold(at.checked_sub(1)?),
            "st" | "mt" | "ft" | "univ" | "med"
        )
    {
        at -= 1;
    } else if reading.is_dash(at) || reading.is_mark(at, '&') {
        at = at.checked_sub(1)?;
    }
    if !search.is_free(at) {
        return None;
    }
    let joins = matches!(reading.fold(at), "of" | "and" | "the" | "for") && {
        let before = at.checked_sub(1)?;
        reading.is_capital(before) && !reading.begins_line(at)
    };
    let fits = reading.is_capital(at)
        && !reading.any(at, mark::TITLE | mark::CARE_VERB)
        && !(reading.begins_sentence(at)
            && reading.any(at, mark::ORDINARY)
            && !reading.any(at, mark::FACILITY_TAIL | mark::SURNAME | mark::GIVEN));
    (fits || joins).then_some(at)
}

/// Whether a word before an institution's last word says which one.
fn names(search: &Search<'_, '_>, at: usize, head_is_capital: bool) -> bool {
    let reading = search.reading;
    if !reading.is_capital(at)
        || search.is_clinical(at)
        || reading.any(at, mark::CREDENTIAL | mark::PERSON) && reading.shape(at) == Shape::Upper
    {
        return false;
    }
    let is_generic = reading.any(at, mark::FACILITY_GENERIC);
    if head_is_capital {
        return reading.any(at, mark::FACILITY_TAIL)
            || !is_generic && !is_function_word(reading.fold(at));
    }
    let is_ordinary = reading.any(at, mark::ORDINARY);
    !is_generic && (!is_ordinary || reading.any(at, mark::CITY | mark::STATE | mark::FACILITY_TAIL))
}

/// `St. Mary's`, `Mt. Sinai`, `Saint Luke's`.
fn saint(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    if !matches!(reading.fold(at), "st" | "saint" | "mt" | "mount" | "ste")
        || !matches!(reading.shape(at), Shape::Capital | Shape::Upper)
    {
        return None;
    }
    let name = if reading.is_mark(at + 1, '.') {
        at + 2
    } else {
        at + 1
    };
    let fits = search.is_free(name)
        && reading.is_capital(name)
        && !reading.begins_line(name)
        && !search.is_clinical(name);
    if !fits
        || search.is_eponym(name)
        || (reading.shape(at) == Shape::Upper && reading.shape(name) != Shape::Upper)
    {
        return None;
    }
    Some((at, grow(search, name + 1)))
}

/// `Cook County`, `Orleans Parish`.
fn county(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let is_head = matches!(
        reading.fold(at),
        "county" | "parish" | "borough" | "township" | "precinct"
    );
    if !is_head || !reading.is_capital(at) {
        return None;
    }
    let mut from = at;
    for _ in 0..3 {
        let Some(before) = from.checked_sub(1) else {
            break;
        };
        let is_name =
            !reading.any(before, mark::ORDINARY) || reading.any(before, mark::SURNAME | mark::CITY);
        let fits = search.is_free(before)
            && reading.is_capital(before)
            && (is_name || !reading.begins_sentence(before));
        if !fits || reading.begins_line(from) {
            break;
        }
        from = before;
    }
    (from < at).then_some((from, at + 1))
}

/// `Rochester, MN`: what stands before a state.
fn before_state(search: &Search<'_, '_>, at: usize) -> Found {
    const WORDS_MAX: usize = 3;
    let reading = search.reading;
    if !reading.is_capital(at)
        || at > 0
            && reading.is_capital(at - 1)
            && search.is_free(at - 1)
            && !reading.begins_sentence(at)
            && !reading.begins_sentence(at - 1)
    {
        return None;
    }
    let mut end = at;
    for _ in 0..WORDS_MAX {
        let fits = search.is_free(end)
            && reading.is_capital(end)
            && reading.is_letters(end)
            && !search.is_clinical(end)
            && (!reading.any(end, mark::ORDINARY) || reading.any(end, mark::CITY | mark::SURNAME));
        if !fits || (end > at && reading.begins_line(end)) {
            break;
        }
        end += 1;
        if reading.is_mark(end, ',') {
            break;
        }
    }
    if end == at || !reading.is_mark(end, ',') {
        return None;
    }
    state_at(search, end + 1)?;
    let is_credential = reading.any(end + 1, mark::CREDENTIAL | mark::ACRONYM)
        && reading.shape(end + 1) == Shape::Upper;
    let is_city = city_at(search, at).is_some();
    let is_person = (at..end).any(|word| reading.any(word, mark::GIVEN | mark::SURNAME));
    let cue = follows_place_word(search, at)
        || at
            .checked_sub(1)
            .is_some_and(|before| matches!(reading.fold(before), "of" | "around"));
    (is_city && (!is_credential || cue || !is_person)
        || (cue && !is_credential)
        || (!is_person && !is_credential))
        .then_some((at, end))
}

/// A city of the list.
fn city(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let end = city_at(search, at)?;
    if search.is_eponym(end - 1) || search.is_clinical(at) {
        return None;
    }
    // "Ohio River Valley" and "Boston Scientific" are larger or something else.
    let is_one_word = end == at + 1;
    let doubtful = is_one_word
        && reading.any(
            at,
            mark::GIVEN
                | mark::SURNAME
                | mark::ORDINARY
                | mark::EPONYM
                | mark::STATE
                | mark::COUNTRY,
        );
    let said = follows_place_word(search, at)
        || at.checked_sub(1).is_some_and(|before| {
            matches!(
                reading.fold(before),
                "of" | "around" | "downtown" | "lives" | "visiting" | "city" | "town" | "greater"
            ) || (reading.any(before, mark::FACILITY_HEAD) && reading.is_capital(before))
        })
        || (reading.is_mark(end, ',') && state_at(search, end + 1).is_some())
        // "Johns Hopkins, Baltimore": what stands before is somebody's or somewhere's already.
        || (at >= 2 && reading.is_mark(at - 1, ',') && search.is_taken(at - 2))
        || matches!(
            reading.fold(end),
            "clinic"
                | "office"
                | "branch"
                | "downtown"
                | "campus"
                | "area"
                | "native"
                | "resident"
                | "hospital"
                | "police"
                | "airport"
        );
    let is_person = reading.any(at, mark::GIVEN)
        && (search.initial(end).is_some()
            || reading.any(end, mark::SURNAME) && reading.is_capital(end));
    if doubtful && (!said || is_person || reading.shape(at) == Shape::Upper) {
        return None;
    }
    let is_plain_ordinary = is_one_word
        && reading.any(at, mark::ORDINARY)
        && !reading.any(at, mark::GIVEN | mark::SURNAME);
    if is_plain_ordinary && !(reading.is_mark(end, ',') && state_at(search, end + 1).is_some()) {
        return None;
    }
    Some((at, end))
}

/// Something with a capital letter after "at" or "from", when care or residence is spoken of.
fn after_preposition(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let is_sign = reading.is_mark(at, '@');
    let is_at = is_sign || reading.fold(at) == "at";
    let is_other = matches!(reading.fold(at), "in" | "from" | "to" | "near");
    if !is_at && !is_other {
        return None;
    }
    let mut from = at + 1;
    if matches!(reading.fold(from), "the" | "our") {
        from += 1;
    }
    if !is_place_word(search, from) || reading.begins_line(from) {
        return None;
    }
    let care = cared_for(search, at);
    let is_upper = reading.shape(from) == Shape::Upper;
    let is_person = reading.any(from, mark::GIVEN | mark::SURNAME);
    let fits = if is_at {
        care || is_sign || (!is_upper && !is_person)
    } else {
        care && !is_upper && (!is_person || matches!(reading.fold(at), "in" | "near"))
    };
    if !fits {
        return None;
    }
    let mut end = from + 1;
    for _ in 0..MODIFIERS_MAX {
        let joined = if reading.is_dash(end) && reading.touches(end) && reading.touches(end + 1) {
            end + 1
        } else {
            end
        };
        let fits = (is_place_word(search, joined)
            || reading.is_capital(joined)
                && reading.any(joined, mark::FACILITY_TAIL | mark::FACILITY_GENERIC))
            && reading.at(joined).is_some_and(|word| word.gap != Gap::Line);
        if !fits || !search.is_free(joined) {
            break;
        }
        end = joined + 1;
    }
    Some((from, grow(search, end)))
}

/// Whether a word can be the name of a place nobody has listed.
fn is_place_word(search: &Search<'_, '_>, at: usize) -> bool {
    let reading = search.reading;
    let fold = reading.fold(at);
    search.is_free(at)
        && (reading.is_letters(at)
            || (reading.kind(at) == Some(Kind::Mixed) && reading.is_capital(at) && fold.len() > 4))
        && reading.is_capital(at)
        && fold.len() >= 3
        && !search.is_clinical(at)
        && !(reading.shape(at) == Shape::Upper && reading.any(at, mark::CREDENTIAL))
        && !reading.any(
            at,
            mark::TITLE | mark::STATE | mark::COUNTRY | mark::RELATION | mark::PERSON,
        )
        && (!reading.any(at, mark::ORDINARY | mark::FACILITY_GENERIC)
            || reading.any(at, mark::CITY) && !reading.any(at, mark::ORDINARY))
        && !search.is_eponym(at)
        && super::calendar::month(fold).is_none()
        && !super::calendar::is_weekday(fold)
}

/// Whether a verb of care or residence stands shortly before, in the same sentence.
fn cared_for(search: &Search<'_, '_>, at: usize) -> bool {
    let reading = search.reading;
    for back in 1..=CARE_LOOK_BACK {
        let Some(word) = at.checked_sub(back) else {
            return false;
        };
        if reading.any(word, mark::CARE_VERB) {
            return true;
        }
        if is_full_stop(reading, word) {
            return false;
        }
    }
    false
}

fn is_full_stop(reading: &Reading<'_>, at: usize) -> bool {
    reading.is_any_mark(at, ".!?")
        && reading
            .at(at + 1)
            .is_some_and(|next| next.gap != Gap::Nothing)
        && reading.begins_sentence(at + 1)
}
