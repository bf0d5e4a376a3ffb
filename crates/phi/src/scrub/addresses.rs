//! Streets, post boxes, ZIP codes and coordinates. Start at [`find`].

use super::budget::Spent;
use super::class::Class;
use super::lexicon::{PhraseKind, mark};
use super::reading::{Gap, Kind, Reading};
use super::search::{Basis, Search, is_function_word};

/// Most words of a street's name.
const STREET_WORDS_MAX: usize = 5;

/// Finds them.
pub(crate) fn find(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    for at in 0..search.reading.len() {
        search.spend(2)?;
        if search.is_taken(at) {
            continue;
        }
        let found = street(search, at)
            .or_else(|| post_box(search.reading, at))
            .or_else(|| zip(search, at))
            .or_else(|| coordinates(search.reading, at));
        if let Some((from, end)) = found {
            search.spend(STREET_WORDS_MAX)?;
            search.take(from, end, Class::Place, Basis::Pattern);
        }
    }
    Ok(())
}

type Found = Option<(usize, usize)>;

/// Types of streets that are one even in small letters.
fn is_plain_type(fold: &str) -> bool {
    matches!(
        fold,
        "street"
            | "st"
            | "avenue"
            | "ave"
            | "road"
            | "rd"
            | "drive"
            | "dr"
            | "lane"
            | "ln"
            | "boulevard"
            | "blvd"
            | "court"
            | "ct"
            | "highway"
            | "hwy"
            | "parkway"
            | "pkwy"
            | "terrace"
            | "circle"
            | "cir"
            | "turnpike"
    )
}

/// `123 Maple St`, `4b North 5th Avenue, Apt 3`, `1234 Elm St, Boston`.
fn street(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let number = reading.fold(at);
    let is_number = match reading.kind(at)? {
        Kind::Digits => number.len() <= 6,
        Kind::Mixed => number.len() <= 6 && number.starts_with(|c: char| c.is_ascii_digit()),
        _ => false,
    };
    let inside = at > 0
        && reading.touches(at)
        && matches!(reading.kind(at - 1), Some(Kind::Mark('.' | '/')));
    if !is_number || inside {
        return None;
    }
    let mut words = 0;
    let (mut is_capital, mut is_named) = (true, false);
    let mut end = None;
    let mut next = at + 1;
    while words <= STREET_WORDS_MAX {
        if reading.is_mark(next, '.') || reading.is_dash(next) || reading.is_apostrophe(next) {
            next += 1;
            continue;
        }
        if reading.begins_line(next) || !search.is_free(next) {
            break;
        }
        let fold = reading.fold(next);
        let is_word = matches!(
            reading.kind(next),
            Some(Kind::Letters | Kind::Mixed | Kind::Digits)
        );
        if !is_word
            || (is_function_word(fold) && words > 0 && !matches!(fold, "of" | "the"))
            || is_function_word(fold) && words == 0 && fold != "the"
        {
            break;
        }
        if words > 0 && reading.any(next, mark::STREET_TYPE) {
            let capitals = is_capital && (reading.is_capital(next) || reading.is_digits(next));
            let is_saint = fold == "st" && reading.is_mark(next + 1, '.') && !is_capital;
            if !is_saint && (is_plain_type(fold) || (capitals && is_named)) {
                end = Some(next + 1);
                // "5 Hill Street": a type may be followed by the real one.
                if is_plain_type(fold) {
                    break;
                }
            }
        }
        is_capital &= reading.is_capital(next)
            || matches!(reading.kind(next), Some(Kind::Mixed | Kind::Digits))
            || reading.shape(next) == super::reading::Shape::Initial;
        is_named |= !reading.any(next, mark::ORDINARY)
            || reading.any(next, mark::SURNAME | mark::GIVEN | mark::CITY);
        if crate::scrub::labels::is_unit(reading, next) && !is_capital {
            break;
        }
        words += 1;
        next += 1;
    }
    let mut end = end?;
    if reading.is_mark(end, '.') {
        end += 1;
    }
    Some((at, rest_of_address(search, end)))
}

/// Apartment, city, state and ZIP code behind a street.
fn rest_of_address(search: &Search<'_, '_>, street_end: usize) -> usize {
    let reading = search.reading;
    let mut end = street_end;
    let after = |at: usize| if reading.is_mark(at, ',') { at + 1 } else { at };
    let unit = after(end);
    if reading.any(unit, mark::UNIT_WORD) || reading.is_mark(unit, '#') {
        let mut value = unit + 1;
        while reading.is_any_mark(value, "#.") {
            value += 1;
        }
        if matches!(reading.kind(value), Some(Kind::Digits | Kind::Mixed))
            || reading.shape(value) == super::reading::Shape::Initial
        {
            end = value + 1;
        }
    }
    let city = after(end);
    if let Some(city_end) = city_at(search, city) {
        end = city_end;
    } else if city > end && search.can_be_name(city) {
        // Behind a street and a comma stands a city, known or not.
        end = city + 1;
        if search.can_be_name(end) && !reading.begins_line(end) {
            end += 1;
        }
    }
    let state = after(end);
    let zip_at = match state_at(search, state) {
        Some(state_end) => after(state_end),
        None => after(end),
    };
    if reading.is_digits(zip_at) && reading.fold(zip_at).len() == 5 {
        end = zip_at + 1;
        let plus_four =
            reading.is_dash(end) && reading.is_digits(end + 1) && reading.fold(end + 1).len() == 4;
        if plus_four {
            end += 2;
        }
    }
    end
}

/// A city of the list that begins here, written as a name; where it ends.
pub(crate) fn city_at(search: &Search<'_, '_>, at: usize) -> Option<usize> {
    phrase_at(search, at, PhraseKind::City).filter(|_| search.reading.is_capital(at))
}

/// A state that begins here; where it ends.
pub(crate) fn state_at(search: &Search<'_, '_>, at: usize) -> Option<usize> {
    let reading = search.reading;
    if reading.has(at, mark::STATE_CODE) && reading.shape(at) == super::reading::Shape::Upper {
        return Some(at + 1);
    }
    phrase_at(search, at, PhraseKind::State).filter(|_| reading.is_capital(at))
}

/// The longest phrase of a kind that begins here.
pub(crate) fn phrase_at(search: &Search<'_, '_>, at: usize, kind: PhraseKind) -> Option<usize> {
    let reading = search.reading;
    if !reading.has(at, mark::PHRASE) || !search.is_free(at) {
        return None;
    }
    search
        .lexicon
        .phrases(reading.fold(at))
        .iter()
        .filter(|phrase| phrase.kind == kind)
        .filter_map(|phrase| super::labels::follow(reading, at, &phrase.rest))
        .filter(|end| (at..*end).all(|word| search.is_free(word)))
        .max()
}

/// `P.O. Box 123`.
fn post_box(reading: &Reading<'_>, at: usize) -> Found {
    if reading.fold(at) != "box"
        || !matches!(reading.kind(at + 1), Some(Kind::Digits | Kind::Mixed))
    {
        return None;
    }
    let mut from = at;
    for _ in 0..4 {
        let Some(before) = from.checked_sub(1) else {
            break;
        };
        let is_part = matches!(
            reading.fold(before),
            "p" | "o" | "po" | "post" | "office" | "pob"
        ) || reading.is_mark(before, '.');
        if !is_part {
            break;
        }
        from = before;
    }
    (from < at).then_some((from, at + 2))
}

/// Five digits behind a state, a city or the word for them.
fn zip(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    if !reading.is_digits(at) || reading.fold(at).len() != 5 {
        return None;
    }
    let mut before = at.checked_sub(1)?;
    for _ in 0..3 {
        if reading.is_any_mark(before, ",:#.")
            || matches!(reading.fold(before), "code" | "is" | "of")
        {
            before = before.checked_sub(1)?;
        }
    }
    let said = matches!(
        reading.fold(before),
        "zip" | "zipcode" | "postal" | "postcode" | "zips"
    );
    let is_state = reading.at(at).is_some_and(|word| word.gap == Gap::Space)
        && (reading.any(before, mark::STATE) && (reading.is_capital(before)))
        && !reading.any(before, mark::CREDENTIAL | mark::ACRONYM)
        || (reading.has(before, mark::STATE_CODE)
            && reading.shape(before) == super::reading::Shape::Upper
            && before > 0
            && (reading.is_mark(before - 1, ',') || search.is_taken(before - 1)));
    let follows_place = search.is_taken(before)
        && !reading.is_digits(before)
        && search.spans.last().is_some_and(|span| {
            span.class == Class::Place
                && reading
                    .at(before)
                    .is_some_and(|word| word.end <= span.end && word.start >= span.start)
        });
    (said
        || is_state
        || follows_place
        || (reading.has(before, mark::CITY) && reading.is_capital(before)))
    .then_some((at, at + 1))
}

/// `40.7128, -74.0060`, `40.7128° N`.
fn coordinates(reading: &Reading<'_>, at: usize) -> Found {
    let first = decimal(reading, at, 90)?;
    let said = (at.saturating_sub(4)..at).any(|word| {
        matches!(
            reading.fold(word),
            "lat"
                | "latitude"
                | "lon"
                | "lng"
                | "long"
                | "longitude"
                | "gps"
                | "coordinates"
                | "geolocation"
        )
    });
    let mut end = first.end;
    let mut next = end;
    for _ in 0..4 {
        let is_between = reading.is_any_mark(next, ",°;/ ")
            || matches!(
                reading.fold(next),
                "n" | "s" | "e" | "w" | "lon" | "long" | "lng" | "longitude" | "and"
            )
            || reading.is_mark(next, ':');
        if is_between {
            next += 1;
        }
    }
    if reading.is_dash(next) {
        next += 1;
    }
    if let Some(second) = decimal(reading, next, 180)
        && (said || (first.places >= 4 && second.places >= 4))
    {
        end = second.end;
        return Some((at, end));
    }
    (said && first.places >= 2).then_some((at, end))
}

struct Decimal {
    end: usize,
    places: usize,
}

fn decimal(reading: &Reading<'_>, at: usize, most: u32) -> Option<Decimal> {
    reading.number(at).filter(|it| *it <= most)?;
    let is_decimal = reading.is_mark(at + 1, '.')
        && reading.touches(at + 1)
        && reading.touches(at + 2)
        && reading.is_digits(at + 2);
    is_decimal.then(|| Decimal {
        end: at + 3,
        places: reading.fold(at + 2).len(),
    })
}
