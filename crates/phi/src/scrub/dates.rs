//! Dates in a text: every element of one except the year.
//!
//! Years alone stay. A month alone is a date where a word before it says so ("in April", "last December").
//! "Last week" and its kin count only in a text that also names somebody. Start at [`find`].

use super::budget::Spent;
use super::calendar::{Day, is_weekday, month};
use super::class::Class;
use super::lexicon::mark;
use super::reading::{Kind, Reading, Shape};
use super::search::{Basis, Search};

/// Words before a day without a year, which make "4/12" a date rather than a fraction.
const BEFORE_SHORT: [&str; 24] = [
    "on",
    "since",
    "from",
    "until",
    "till",
    "through",
    "thru",
    "by",
    "dated",
    "date",
    "seen",
    "visit",
    "visited",
    "admitted",
    "discharged",
    "adm",
    "dos",
    "born",
    "dob",
    "last",
    "next",
    "between",
    "starting",
    "ending",
];

/// Words before a month that stands alone.
const BEFORE_MONTH: [&str; 22] = [
    "in", "since", "last", "this", "next", "early", "mid", "late", "until", "till", "by",
    "through", "during", "from", "between", "past", "previous", "of", "around", "before", "after",
    "every",
];

/// Words that say that a date is one of birth or death.
fn is_vital_word(fold: &str) -> bool {
    matches!(
        fold,
        "dob"
            | "born"
            | "birth"
            | "birthdate"
            | "birthday"
            | "bday"
            | "died"
            | "deceased"
            | "death"
            | "dod"
            | "expired"
    )
}

/// Finds dates. What they rest on is decided word by word; every rule looks at a bounded number of them.
pub(crate) fn find(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    let reading = search.reading;
    let mut at = 0;
    while at < reading.len() {
        search.spend(2)?;
        if search.is_taken(at) {
            at += 1;
            continue;
        }
        let found = match reading.kind(at) {
            Some(Kind::Digits) => numeric(reading, at).or_else(|| day_first(reading, at)),
            Some(Kind::Mixed) => joined(reading, at).or_else(|| day_first(reading, at)),
            Some(Kind::Letters) => month_first(reading, at),
            _ => None,
        };
        match found {
            Some((end, day)) => {
                let from = with_weekday(reading, at);
                let vital = is_vital(reading, from);
                search.take_day(from, end, Class::Date, Basis::Pattern, Some(day), vital);
                at = end;
            }
            None => at += 1,
        }
    }
    Ok(())
}

type Found = Option<(usize, Day)>;

/// A weekday before a date is part of it.
fn with_weekday(reading: &Reading<'_>, at: usize) -> usize {
    let mut from = at;
    for _ in 0..3 {
        let Some(before) = from.checked_sub(1) else {
            break;
        };
        if reading.is_any_mark(before, ",.") || reading.fold(before) == "the" {
            from = before;
        } else if is_weekday(reading.fold(before)) {
            return before;
        } else {
            break;
        }
    }
    at
}

fn is_vital(reading: &Reading<'_>, at: usize) -> bool {
    const LOOK_BACK: usize = 5;
    (at.saturating_sub(LOOK_BACK)..at).any(|word| is_vital_word(reading.fold(word)))
}

fn digits(reading: &Reading<'_>, at: usize, lengths: &[usize]) -> Option<u32> {
    reading
        .number(at)
        .filter(|_| lengths.contains(&reading.fold(at).len()))
}

/// A separator without spaces around it; which one.
fn separator(reading: &Reading<'_>, at: usize) -> Option<char> {
    if !reading.touches(at) || !reading.touches(at + 1) {
        return None;
    }
    match reading.kind(at) {
        Some(Kind::Mark(c)) if "/.".contains(c) => Some(c),
        _ => reading.is_dash(at).then_some('-'),
    }
}

/// Dates of numbers alone.
fn numeric(reading: &Reading<'_>, at: usize) -> Found {
    // Inside a longer chain of numbers nothing is a date.
    let follows_number = at >= 2
        && separator(reading, at - 1).is_some()
        && matches!(reading.kind(at - 2), Some(Kind::Digits | Kind::Mixed));
    if follows_number {
        return None;
    }
    if let Some(first) = separator(reading, at + 1) {
        let second = separator(reading, at + 3).filter(|it| *it == first);
        return match second {
            Some(_) => three(reading, at, first),
            None => two(reading, at, first),
        };
    }
    compact(reading, at).or_else(|| spaced(reading, at))
}

/// Whether a chain of numbers goes on after `end`.
fn goes_on(reading: &Reading<'_>, end: usize) -> bool {
    separator(reading, end).is_some_and(|c| c != '.')
        && matches!(reading.kind(end + 1), Some(Kind::Digits | Kind::Mixed))
        || (reading.is_mark(end, '.')
            && reading.touches(end)
            && reading.touches(end + 1)
            && reading.is_digits(end + 1))
}

/// `2023-04-12`, `4/12/2023`, `12.4.23`, and with a time of day behind.
fn three(reading: &Reading<'_>, at: usize, sep: char) -> Found {
    let (a, b) = (reading.number(at)?, at + 2);
    if digits(reading, at, &[4]).is_some() {
        let year = Day::year(a)?;
        let (day_of, end) = with_time(reading, at + 4)?;
        let day = Day::new(Some(year), digits(reading, b, &[1, 2])?, Some(day_of))?;
        return (!goes_on(reading, end)).then_some((end, day));
    }
    let (first, second) = (digits(reading, at, &[1, 2])?, digits(reading, b, &[1, 2])?);
    let end = at + 5;
    if goes_on(reading, end) {
        return None;
    }
    if let Some(year) = digits(reading, at + 4, &[4]) {
        return Some((end, Day::either(Some(Day::year(year)?), first, second)?));
    }
    if reading.kind(at + 4) == Some(Kind::Mixed) {
        let (year, _) = reading.fold(at + 4).split_at_checked(4)?;
        return Some((
            end,
            Day::either(Some(Day::year(year.parse().ok()?)?), first, second)?,
        ));
    }
    let year = digits(reading, at + 4, &[2])?;
    // Versions and section numbers look like this too.
    if sep == '.'
        && at > 0
        && matches!(
            reading.fold(at - 1),
            "version" | "v" | "section" | "table" | "figure" | "step"
        )
    {
        return None;
    }
    let day = Day::either(Day::short_year(year), first, second)
        .map(|day| Day {
            is_short_year: true,
            ..day
        })
        // Year first, with two digits.
        .or_else(|| Day::new(Day::short_year(first), second, Some(year)))?;
    Some((end, day))
}

/// The day of an ISO date and where it ends, with the time that may hang on it.
fn with_time(reading: &Reading<'_>, at: usize) -> Option<(u32, usize)> {
    const TIME_WORDS_MAX: usize = 8;
    if let Some(day) = digits(reading, at, &[1, 2]) {
        return Some((day, at + 1));
    }
    let (day, rest) = reading.fold(at).split_at_checked(2)?;
    if !rest.starts_with('t') {
        return None;
    }
    let mut end = at + 1;
    for _ in 0..TIME_WORDS_MAX {
        let continues = reading.is_any_mark(end, ":.+") || reading.is_dash(end);
        let number = matches!(reading.kind(end + 1), Some(Kind::Digits | Kind::Mixed));
        if !(continues && number && reading.touches(end) && reading.touches(end + 1)) {
            break;
        }
        end += 2;
    }
    Some((day.parse().ok()?, end))
}

/// `04/2023`, and `4/12` where a word before it says that it is a date.
fn two(reading: &Reading<'_>, at: usize, sep: char) -> Found {
    let end = at + 3;
    if goes_on(reading, end) {
        return None;
    }
    let first = digits(reading, at, &[1, 2]);
    if let (Some(first), Some(year)) = (first, digits(reading, at + 2, &[4])) {
        return (sep != '.').then_some((end, Day::new(Some(Day::year(year)?), first, None)?));
    }
    if let (Some(year), Some(month)) = (digits(reading, at, &[4]), digits(reading, at + 2, &[2])) {
        let fits = sep != '.' && reading.fold(at + 2).len() == 2;
        return fits.then_some((end, Day::new(Some(Day::year(year)?), month, None)?));
    }
    let (first, second) = (first?, digits(reading, at + 2, &[1, 2])?);
    if sep != '/' || !is_dated(reading, at) || is_measured(reading, end) {
        return None;
    }
    Some((end, Day::either(None, first, second)?))
}

/// Whether a word shortly before says that a date follows.
fn is_dated(reading: &Reading<'_>, at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else {
        return false;
    };
    let word = if reading.is_any_mark(before, ":(.,") || reading.fold(before) == "the" {
        before.checked_sub(1)
    } else {
        Some(before)
    };
    word.is_some_and(|word| {
        BEFORE_SHORT.contains(&reading.fold(word)) || is_vital_word(reading.fold(word))
    })
}

/// Whether what follows makes a fraction of it: "on 4/5 strength", "on 2/3 of days".
fn is_measured(reading: &Reading<'_>, end: usize) -> bool {
    reading.is_mark(end, '%')
        || matches!(
            reading.fold(end),
            "strength"
                | "of"
                | "pain"
                | "score"
                | "mg"
                | "ml"
                | "tabs"
                | "tablet"
                | "tablets"
                | "dose"
                | "doses"
                | "murmur"
                | "systolic"
                | "pulses"
                | "vision"
                | "power"
                | "ths"
                | "normal"
                | "saline"
                | "lead"
                | "leads"
        )
}

/// `20230412`, and `04121958` where birth is spoken of.
fn compact(reading: &Reading<'_>, at: usize) -> Found {
    let fold = reading.fold(at);
    let part =
        |from: usize, to: usize| fold.get(from..to).and_then(|part| part.parse::<u32>().ok());
    if fold.len() != 8 && fold.len() != 14 && fold.len() != 12 {
        return None;
    }
    let year_first = Day::year(part(0, 4)?)
        .filter(|year| (1900..=2099).contains(year))
        .and_then(|year| Day::new(Some(year), part(4, 6)?, Some(part(6, 8)?)));
    if let Some(day) = year_first {
        return Some((at + 1, day));
    }
    if fold.len() != 8 || !is_dated(reading, at) {
        return None;
    }
    Some((
        at + 1,
        Day::either(Some(Day::year(part(4, 8)?)?), part(0, 2)?, part(2, 4)?)?,
    ))
}

/// `04 12 1958` where birth is spoken of.
fn spaced(reading: &Reading<'_>, at: usize) -> Found {
    let first = digits(reading, at, &[1, 2])?;
    let second = digits(reading, at + 1, &[1, 2])?;
    let year = digits(reading, at + 2, &[4])?;
    if !is_dated(reading, at) && !is_vital(reading, at) {
        return None;
    }
    Some((at + 3, Day::either(Some(Day::year(year)?), first, second)?))
}

/// `12Apr2023`, `12APR23`, `Apr2023`.
fn joined(reading: &Reading<'_>, at: usize) -> Found {
    let fold = reading.fold(at);
    let letters_at = fold.find(|c: char| c.is_ascii_alphabetic())?;
    let (day, rest) = fold.split_at_checked(letters_at)?;
    let letters_end = rest
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (name, year) = rest.split_at_checked(letters_end)?;
    let number = month(name)?;
    let day = match day.len() {
        0 => None,
        1 | 2 => Some(day.parse().ok()?),
        _ => return None,
    };
    let (year, is_short_year) = match year.len() {
        0 => year_after(reading, at + 1)
            .map_or((None, false), |(_, year, short)| (Some(year), short)),
        2 => (Day::short_year(year.parse().ok()?), true),
        4 => (Some(Day::year(year.parse().ok()?)?), false),
        _ => return None,
    };
    if day.is_none() && year.is_none() {
        return None;
    }
    let day = Day {
        is_short_year,
        ..Day::new(year, number, day)?
    };
    Some((at + 1, day))
}

/// A day of the month: `12`, `12th`; not part of a larger number.
fn day_number(reading: &Reading<'_>, at: usize) -> Option<u32> {
    let fold = reading.fold(at);
    let number = ["st", "nd", "rd", "th"]
        .into_iter()
        .find_map(|end| fold.strip_suffix(end))
        .unwrap_or(fold);
    if number.len() > 2
        || (reading.is_mark(at + 1, '.')
            && reading.touches(at + 1)
            && reading.is_digits(at + 2)
            && reading.touches(at + 2))
    {
        return None;
    }
    number.parse().ok().filter(|day| (1..=31).contains(day))
}

/// A month's name here. Words such as "may" and "march" need a capital letter or a day beside them.
fn month_name(reading: &Reading<'_>, at: usize) -> Option<u32> {
    if !reading.is_letters(at) {
        return None;
    }
    month(reading.fold(at))
}

/// A year after a month or day, and where it ends: `2023`, `, 2023`, `'23`, `of 2023`.
fn year_after(reading: &Reading<'_>, at: usize) -> Option<(usize, i16, bool)> {
    let mut place = at;
    for _ in 0..2 {
        if reading.is_any_mark(place, ",.")
            || reading.fold(place) == "of"
            || reading.is_mark(place, '/')
            || reading.is_dash(place)
        {
            place += 1;
        }
    }
    if reading.is_apostrophe(place) && reading.touches(place + 1) {
        let year = digits(reading, place + 1, &[2])?;
        return Some((place + 2, Day::short_year(year)?, true));
    }
    if let Some(year) = digits(reading, place, &[4]) {
        return Some((place + 1, Day::year(year)?, false));
    }
    // "12-Apr-23": two digits count only when joined.
    let joined = separator(reading, place.checked_sub(1)?).is_some();
    let year = digits(reading, place, &[2]).filter(|_| joined)?;
    Some((place + 1, Day::short_year(year)?, true))
}

/// `April 12, 2023`, `Apr 12th`, `April 2023`, `April 12-15`, `in April`.
fn month_first(reading: &Reading<'_>, at: usize) -> Found {
    let number = month_name(reading, at)?;
    let mut next = at + 1;
    if reading.is_mark(next, '.') && reading.fold(at).len() <= 4 && !reading.begins_line(next + 1) {
        next += 1;
    }
    if reading.is_dash(next) || reading.fold(next) == "the" {
        next += 1;
    }
    let is_capital = reading.is_capital(at);
    if let Some(day) = day_number(reading, next)
        && (is_capital || !matches!(reading.fold(at), "may" | "mar" | "march" | "sun"))
        && !is_measured(reading, next + 1)
    {
        let mut end = next + 1;
        let to_more =
            reading.is_dash(end) || matches!(reading.fold(end), "to" | "and" | "through" | "thru");
        if to_more && day_number(reading, end + 1).is_some() {
            end += 2;
        }
        let year = year_after(reading, end);
        let (end, year, is_short_year) = year.map_or((end, None, false), |(end, year, short)| {
            (end, Some(year), short)
        });
        let day = Day {
            is_short_year,
            ..Day::new(year, number, Some(day))?
        };
        return Some((end, day));
    }
    if let Some((end, year, is_short_year)) = year_after(reading, at + 1)
        && (is_capital || !matches!(reading.fold(at), "may" | "march"))
    {
        let day = Day {
            is_short_year,
            ..Day::new(Some(year), number, None)?
        };
        return Some((end, day));
    }
    alone(reading, at, number)
}

/// A month by itself.
fn alone(reading: &Reading<'_>, at: usize, number: u32) -> Found {
    let before = at.checked_sub(1)?;
    let before = if reading.is_dash(before) {
        before.checked_sub(1)?
    } else {
        before
    };
    let word = reading.fold(before);
    let is_word_too = matches!(
        reading.fold(at),
        "may" | "march" | "mar" | "jan" | "dec" | "apr" | "jun" | "april" | "june" | "august"
    );
    let fits = BEFORE_MONTH.contains(&word)
        && reading.shape(at) == Shape::Capital
        // "seen by April Jones", "from June": a person may be called so.
        && !(is_word_too && matches!(word, "by" | "from" | "of" | "before" | "after" | "past"))
        && !reading.any(at + 1, mark::SURNAME)
        && reading.shape(at + 1) != Shape::Initial;
    fits.then_some((at + 1, Day::new(None, number, None)?))
}

/// `12 April 2023`, `12th of April`, `5-Nov-20`.
fn day_first(reading: &Reading<'_>, at: usize) -> Found {
    let day = day_number(reading, at)?;
    let mut name = at + 1;
    if reading.fold(name) == "of" || reading.is_dash(name) || reading.is_any_mark(name, "/.") {
        name += 1;
    }
    let number = month_name(reading, name)?;
    if !reading.is_capital(name)
        && matches!(reading.fold(name), "may" | "mar" | "march")
        && name == at + 1
    {
        return None;
    }
    let mut end = name + 1;
    if reading.is_mark(end, '.')
        && reading.fold(name).len() <= 4
        && (reading.is_digits(end + 1) || reading.touches(end + 1))
    {
        end += 1;
    }
    let year = year_after(reading, end);
    let (end, year, is_short_year) = year.map_or((name + 1, None, false), |(end, year, short)| {
        (end, Some(year), short)
    });
    let day = Day {
        is_short_year,
        ..Day::new(year, number, Some(day))?
    };
    Some((end, day))
}

/// Days told by their distance from the day of writing, and feasts: in a text that names somebody, they tell
/// a date as well.
pub(crate) fn find_relative(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    let reading = search.reading;
    for at in 0..reading.len() {
        search.spend(1)?;
        if search.is_taken(at) {
            continue;
        }
        if let Some((from, end)) = relative(reading, at)
            && (from..end).all(|word| search.is_free(word))
        {
            search.take(from, end, Class::Date, Basis::Pattern);
        }
    }
    Ok(())
}

fn relative(reading: &Reading<'_>, at: usize) -> Option<(usize, usize)> {
    let fold = reading.fold(at);
    let is_unit = |at: usize| {
        matches!(
            reading.fold(at),
            "week"
                | "month"
                | "weekend"
                | "night"
                | "spring"
                | "summer"
                | "fall"
                | "autumn"
                | "winter"
        ) || is_weekday(reading.fold(at))
            || (month(reading.fold(at)).is_some() && reading.is_capital(at))
    };
    match fold {
        "yesterday" | "tomorrow" => Some((at, at + 1)),
        "last" | "next" | "past" | "previous" if is_unit(at + 1) => Some((at, at + 2)),
        "ago" => {
            let unit = at.checked_sub(1)?;
            let count = at.checked_sub(2)?;
            let counted = matches!(
                reading.fold(unit),
                "day" | "days" | "week" | "weeks" | "month" | "months"
            );
            counted.then_some((count, at + 1))
        }
        "christmas" | "thanksgiving" | "easter" | "halloween" | "hanukkah" | "ramadan"
        | "diwali" => {
            let is_disease = matches!(reading.fold(at + 1), "disease" | "factor" | "tree");
            (!is_disease && reading.is_capital(at)).then_some((at, at + 1))
        }
        _ if is_weekday(fold) && reading.is_capital(at) && fold.len() > 4 => Some((at, at + 1)),
        _ => None,
    }
}
