//! Finds known identifiers in a text: by word, by sequence of words, by their letters and digits whatever
//! stands between, by day, by initials, and with a slip of the pen. Start at [`find`].

use super::super::budget::Spent;
use super::super::calendar::Day;
use super::super::class::Class;
use super::super::fold::{fold_into, is_ignorable, is_word_char};
use super::super::lexicon::mark;
use super::super::reading::{Kind, Reading, Shape};
use super::super::search::{Basis, Search, is_function_word};
use super::{COMPACT_MIN, FUZZY_MIN, Known, key_of};

/// Most marks between two words of what is known.
const MARKS_MAX: usize = 3;

/// Most separators between two characters of a number.
const SEPARATORS_MAX: usize = 3;

/// Finds all of them.
pub(crate) fn find(search: &mut Search<'_, '_>, known: &Known) -> Result<(), Spent> {
    if known.is_empty() {
        return Ok(());
    }
    compact(search, known)?;
    sequences(search, known)?;
    words(search, known)?;
    initials(search, known)?;
    spelled_out(search, known)
}

/// Marks the days among the dates that were found which the record names as days of birth or death.
pub(crate) fn mark_days(search: &mut Search<'_, '_>, known: &Known) {
    for span in &mut search.spans {
        if let Some(day) = span.day
            && known.days().iter().any(|it| day.names(*it))
        {
            span.is_vital = true;
            span.basis = Basis::Record;
        }
    }
}

/// Days in forms that are no date by themselves: `041258`, and month with day where birth is spoken of are
/// found by [`super::super::dates`]; this one finds the bare digits.
fn is_day_digits(day: Day, digits: &str) -> bool {
    let (Some(year), Some(month), Some(of_month)) = (day.year, day.month, day.day) else {
        return false;
    };
    let short = year.rem_euclid(100);
    [
        format!("{month:02}{of_month:02}{year:04}"),
        format!("{of_month:02}{month:02}{year:04}"),
        format!("{year:04}{month:02}{of_month:02}"),
        format!("{month:02}{of_month:02}{short:02}"),
        format!("{of_month:02}{month:02}{short:02}"),
    ]
    .iter()
    .any(|form| form == digits)
}

/// One letter or digit of the text, folded.
struct Unit {
    byte: u8,
    start: usize,
    end: usize,
    /// Separators since the unit before.
    separators: usize,
    /// Whether a word begins here.
    begins: bool,
}

fn units(text: &str) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::with_capacity(text.len());
    let mut separators = SEPARATORS_MAX + 1;
    let mut folded = String::new();
    for (start, c) in text.char_indices() {
        if !is_word_char(c) {
            separators += if c == '\n' { SEPARATORS_MAX + 1 } else { 1 };
            continue;
        }
        if is_ignorable(c) {
            continue;
        }
        folded.clear();
        fold_into(c, &mut folded);
        for byte in folded.bytes() {
            units.push(Unit {
                byte,
                start,
                end: start + c.len_utf8(),
                separators,
                begins: separators > 0,
            });
            separators = 0;
        }
    }
    units
}

fn compact(search: &mut Search<'_, '_>, known: &Known) -> Result<(), Spent> {
    let units = units(search.reading.text);
    search.spend(units.len())?;
    let bytes: Vec<u8> = units.iter().map(|unit| unit.byte).collect();
    let mut found = Vec::new();
    for at in 0..bytes.len() {
        let window = bytes.get(at..).unwrap_or(&[]);
        let Some(candidates) = key_of(window).and_then(|key| known.compact.get(&key)) else {
            continue;
        };
        search.spend(candidates.len() * COMPACT_MIN)?;
        for (value, class) in candidates {
            if window.starts_with(value.as_bytes())
                && let Some((start, end)) = stands_alone(&units, at, value)
            {
                found.push((start, end, *class));
            }
        }
    }
    for (start, end, class) in found {
        search.take_bytes(start, end, class, Basis::Record);
    }
    Ok(())
}

/// Where a match stands, when nothing of the same kind goes on before or after it.
fn stands_alone(units: &[Unit], at: usize, value: &str) -> Option<(usize, usize)> {
    let matched = units.get(at..at + value.len())?;
    let (first, last) = (matched.first()?, matched.last()?);
    let next = units.get(at + value.len());
    let joined = matched
        .iter()
        .skip(1)
        .all(|unit| unit.separators <= SEPARATORS_MAX);
    let same_kind = |a: u8, b: u8| a.is_ascii_digit() == b.is_ascii_digit();
    let begins = first.begins
        || at
            .checked_sub(1)
            .and_then(|before| units.get(before))
            .is_none_or(|before| !same_kind(before.byte, first.byte));
    let ends = next.is_none_or(|next| next.begins || !same_kind(next.byte, last.byte));
    // Short numbers must not be put together from what stands apart: "3 1 2 4".
    let gaps = matched
        .iter()
        .skip(1)
        .filter(|unit| unit.separators > 0)
        .count();
    let is_dense = value.len() > 5 || gaps == 0;
    (joined && begins && ends && is_dense).then_some((first.start, last.end))
}

fn sequences(search: &mut Search<'_, '_>, known: &Known) -> Result<(), Spent> {
    let reading = search.reading;
    for at in 0..reading.len() {
        search.spend(1)?;
        let Some(sequences) = known.sequences.get(reading.fold(at)) else {
            continue;
        };
        search.spend(sequences.len())?;
        let best = sequences
            .iter()
            .filter(|it| !it.needs_capital || reading.is_capital(at) || reading.is_digits(at))
            .filter_map(|it| Some((reading.follow(at, &it.rest, MARKS_MAX, |_| true)?, it.class)))
            .max_by_key(|it| it.0);
        if let Some((end, class)) = best {
            let end = if class == Class::Place {
                street_end(reading, at, end)
            } else {
                end
            };
            search.take(at, end, class, Basis::Record);
        }
    }
    Ok(())
}

/// The type of a street and an apartment behind its known name.
fn street_end(reading: &Reading<'_>, at: usize, end: usize) -> usize {
    if !matches!(reading.kind(at), Some(Kind::Digits | Kind::Mixed)) {
        return end;
    }
    let mut end = end;
    if reading.any(end, mark::STREET_TYPE) {
        end += 1;
        if reading.is_mark(end, '.') {
            end += 1;
        }
    }
    let unit = end + usize::from(reading.is_mark(end, ','));
    if reading.any(unit, mark::UNIT_WORD) || reading.is_mark(unit, '#') {
        let value = unit + 1 + usize::from(reading.is_any_mark(unit + 1, "#."));
        if matches!(reading.kind(value), Some(Kind::Digits | Kind::Mixed))
            || reading.shape(value) == Shape::Initial
        {
            end = value + 1;
        }
    }
    end
}

fn words(search: &mut Search<'_, '_>, known: &Known) -> Result<(), Spent> {
    let reading = search.reading;
    for at in 0..reading.len() {
        search.spend(1)?;
        let fold = reading.fold(at);
        if fold.is_empty() {
            continue;
        }
        if let Some(word) = known.words.get(fold) {
            if !word.needs_capital || reading.is_capital(at) || beside_known(reading, known, at) {
                search.take(at, at + 1, word.class, Basis::Record);
            }
            continue;
        }
        if search.is_taken(at) {
            continue;
        }
        if reading.is_digits(at) {
            if matches!(fold.len(), 6 | 8) && known.days.iter().any(|day| is_day_digits(*day, fold))
            {
                search.take_day(at, at + 1, Class::Date, Basis::Record, None, true);
            }
            continue;
        }
        search.spend(4)?;
        if let Some(class) = inside(search, known, at)?.or(slip(search, known, at)?) {
            search.take(at, at + 1, class, Basis::Record);
        }
    }
    Ok(())
}

/// Whether an ordinary word in small letters stands beside another part of a known name ("bill reinger", "grace
/// wood"), or behind a word for a person ("pt wood").
///
/// Words that bind sentences together ("will", "may") are too common to be a name behind "pt", or the other part.
fn beside_known(reading: &Reading<'_>, known: &Known, at: usize) -> bool {
    let is_bound = is_function_word(reading.fold(at));
    let is_other = |place: usize| {
        let fold = reading.fold(place);
        reading.shape(place) == Shape::Lower
            && known.words.get(fold).is_some_and(|word| {
                word.class == Class::Name
                    && (!word.needs_capital
                        || (known.are_together(reading.fold(at), fold)
                            && fold.len() > 2
                            && !is_function_word(fold)
                            && !reading.any(place, mark::PARTICLE)))
            })
    };
    let joined = |place: usize| reading.is_any_mark(place, ",._") || reading.is_dash(place);
    let before = at.checked_sub(1).map(|before| {
        if joined(before) {
            before.saturating_sub(1)
        } else {
            before
        }
    });
    let after = if joined(at + 1) { at + 2 } else { at + 1 };
    is_other(after)
        || before.is_some_and(|before| (joined(at - 1) || !is_bound) && is_other(before))
        || (!is_bound && reading.fold(at).len() > 2 && follows_person(reading, at))
}

/// Whether a word for a person, a form of address or a relation stands before: "pt", "mr.", "wife", "name:".
fn follows_person(reading: &Reading<'_>, at: usize) -> bool {
    let Some(mut before) = at.checked_sub(1) else {
        return false;
    };
    if reading.is_any_mark(before, ".:,") {
        let Some(word) = before.checked_sub(1) else {
            return false;
        };
        before = word;
    }
    reading.any(
        before,
        mark::PERSON | mark::TITLE | mark::RELATION | mark::NAME_CUE,
    ) && !reading.any(at, mark::RELATION | mark::PERSON)
}

/// A known family name inside a longer word: "jsmith42", "SmithJohn".
fn inside(search: &mut Search<'_, '_>, known: &Known, at: usize) -> Result<Option<Class>, Spent> {
    let reading = search.reading;
    let fold = reading.fold(at);
    if fold.len() <= FUZZY_MIN || reading.any(at, mark::ORDINARY) {
        return Ok(None);
    }
    search.spend(known.inside.len())?;
    let is_inside = known
        .inside
        .iter()
        .any(|name| fold.len() > name.len() && fold.contains(name.as_ref()));
    Ok(is_inside.then_some(Class::Name))
}

/// A known name with one letter wrong, missing, added or swapped; the first letter is right.
fn slip(search: &mut Search<'_, '_>, known: &Known, at: usize) -> Result<Option<Class>, Spent> {
    let reading = search.reading;
    let fold = reading.fold(at);
    let length = fold.chars().count();
    let common = mark::ORDINARY
        | mark::EPONYM
        | mark::DRUG
        | mark::ORGANISM
        | mark::EPONYM_HEAD
        | mark::CITY
        | mark::STATE;
    if length + 1 < FUZZY_MIN || !reading.is_capital(at) || reading.any(at, common) {
        return Ok(None);
    }
    for near in length - 1..=length + 1 {
        let Some(names) = known.fuzzy.get(&near) else {
            continue;
        };
        search.spend(names.len())?;
        for name in names {
            if name.as_bytes().first() == fold.as_bytes().first() && is_slip(name, fold) {
                search.spend(length)?;
                return Ok(Some(Class::Name));
            }
        }
    }
    Ok(None)
}

/// Whether two words are one edit apart (substitution, insertion, deletion, or a swap of neighbours).
fn is_slip(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail_of = |a: &[char], b: &[char]| {
        a.iter()
            .rev()
            .zip(b.iter().rev())
            .take_while(|(x, y)| x == y)
            .count()
    };
    let (rest_a, rest_b) = (a.get(head..).unwrap_or(&[]), b.get(head..).unwrap_or(&[]));
    let tail = tail_of(rest_a, rest_b);
    let (left_a, left_b) = (rest_a.len() - tail, rest_b.len() - tail);
    match (left_a, left_b) {
        (1, 1) | (0, 1) | (1, 0) => true,
        (2, 2) => rest_a.first() == rest_b.get(1) && rest_a.get(1) == rest_b.first(),
        _ => false,
    }
}

/// `J.S.`, `J. S.`, and `JS` where a person is spoken of.
fn initials(search: &mut Search<'_, '_>, known: &Known) -> Result<(), Spent> {
    const LETTERS_MAX: usize = 6;
    let reading = search.reading;
    for at in 0..reading.len() {
        search.spend(1)?;
        if search.is_taken(at) {
            continue;
        }
        if reading.shape(at) == Shape::Upper && known.initials.contains(reading.fold(at)) {
            let is_institution = reading.fold(at).len() >= 3;
            let spoken_of = at.checked_sub(1).is_some_and(|before| {
                reading.any(before, mark::PERSON | mark::NAME_CUE | mark::RELATION)
                    || matches!(
                        reading.fold(before),
                        "initials" | "re" | "for" | "at" | "from" | "to"
                    )
                    || (reading.is_mark(before, ':')
                        && before > 0
                        && reading.any(before - 1, mark::PERSON | mark::NAME_CUE))
                    || (reading.is_mark(before, ':')
                        && before > 0
                        && reading.fold(before - 1) == "initials")
            });
            if spoken_of && (is_institution || !reading.any(at, mark::ACRONYM)) {
                search.take(at, at + 1, Class::Name, Basis::Record);
            }
            continue;
        }
        let mut letters = String::new();
        let (mut next, mut end) = (at, at);
        while letters.len() < LETTERS_MAX
            && reading.shape(next) == Shape::Initial
            && reading.is_mark(next + 1, '.')
        {
            letters.push_str(reading.fold(next));
            end = next + 2;
            next = end + usize::from(reading.is_dash(end));
        }
        if letters.len() >= 2 && known.initials.contains(letters.as_str()) {
            search.take(at, end, Class::Name, Basis::Record);
        }
    }
    Ok(())
}

/// `S m i t h`, `S-m-i-t-h`.
fn spelled_out(search: &mut Search<'_, '_>, known: &Known) -> Result<(), Spent> {
    const LETTERS_MIN: usize = 4;
    const LETTERS_MAX: usize = 40;
    let reading = search.reading;
    let is_single = |at: usize| reading.is_letters(at) && reading.fold(at).len() == 1;
    let mut at = 0;
    while at < reading.len() {
        search.spend(1)?;
        if !is_single(at) {
            at += 1;
            continue;
        }
        let mut letters: Vec<usize> = vec![at];
        let mut next = at + 1;
        while letters.len() < LETTERS_MAX {
            let place = if matches!(reading.kind(next), Some(Kind::Mark(_))) {
                next + 1
            } else {
                next
            };
            if !is_single(place) {
                break;
            }
            letters.push(place);
            next = place + 1;
        }
        if letters.len() >= LETTERS_MIN {
            search.spend(letters.len() * letters.len())?;
            spelled_names(search, known, &letters);
        }
        at = next.max(at + 1);
    }
    Ok(())
}

fn spelled_names(search: &mut Search<'_, '_>, known: &Known, letters: &[usize]) {
    const SHORTEST: usize = 3;
    for from in 0..letters.len() {
        for to in from + SHORTEST..=letters.len() {
            let Some(run) = letters.get(from..to) else {
                continue;
            };
            let word: String = run.iter().map(|at| search.reading.fold(*at)).collect();
            if let (Some(known), Some(first), Some(last)) =
                (known.words.get(word.as_str()), run.first(), run.last())
            {
                search.take(*first, *last + 1, known.class, Basis::Record);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_edit_is_a_slip_and_two_are_another_name() {
        for near in ["jonson", "johnsen", "johnsson", "jonhson"] {
            assert!(is_slip("johnson", near), "{near}");
        }
        for far in ["johnston", "jansen", "johansson", "johnson"] {
            assert_eq!(is_slip("johnson", far), far == "johnston", "{far}");
        }
    }

    #[test]
    fn a_day_in_bare_digits() {
        let day = Day::of_fhir("1958-04-12").unwrap();
        assert!(is_day_digits(day, "04121958") && is_day_digits(day, "120458"));
        assert!(!is_day_digits(day, "041358"));
    }
}
