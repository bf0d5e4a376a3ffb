//! Numbers that identify by their form alone: telephone and social security numbers, numbers with check
//! digits, and long ones that are no measurement. Start at [`find`].

use super::budget::Spent;
use super::checks;
use super::class::Class;
use super::labels::{counts, is_code_system, is_unit};
use super::lexicon::mark;
use super::reading::{Gap, Kind, Reading};
use super::search::{Basis, Search};

/// Most words in a chain of numbers, separators included.
const CHAIN_WORDS_MAX: usize = 24;

/// Shortest number without a label that is taken as one of a person, in digits.
const DIGITS_ALONE_MIN: usize = 7;

/// Finds them.
pub(crate) fn find(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    let mut at = 0;
    while at < search.reading.len() {
        search.spend(2)?;
        if search.is_taken(at) {
            at += 1;
            continue;
        }
        match one(search, at) {
            Some((from, end, class, basis)) => {
                search.take(from, end, class, basis);
                at = end.max(at + 1);
            }
            None => at = past(search.reading, at),
        }
    }
    Ok(())
}

/// The next word to look at: what did not pass as a whole chain is not tried from its middle.
fn past(reading: &Reading<'_>, at: usize) -> usize {
    if !matches!(reading.kind(at), Some(Kind::Digits | Kind::Mixed)) {
        return at + 1;
    }
    let mut next = at + 1;
    while reading.touches(next)
        && reading.touches(next + 1)
        && (reading.is_dash(next) || reading.is_any_mark(next, "/."))
        && matches!(reading.kind(next + 1), Some(Kind::Digits | Kind::Mixed))
        && next < at + CHAIN_WORDS_MAX
    {
        next += 2;
    }
    next
}

type Found = Option<(usize, usize, Class, Basis)>;

fn one(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    match reading.kind(at)? {
        Kind::Mark('#') => hash(search, at),
        Kind::Mark('(') => device(reading, at).or_else(|| dialled(search, at)),
        Kind::Mark('+') => dialled(search, at),
        Kind::Mark(_) => None,
        Kind::Digits => hardware(reading, at)
            .or_else(|| dialled(search, at))
            .or_else(|| code(search, at)),
        Kind::Mixed | Kind::Letters => hardware(reading, at).or_else(|| code(search, at)),
    }
}

/// `#123456`.
fn hash(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let fits =
        reading.touches(at + 1) && reading.is_digits(at + 1) && reading.fold(at + 1).len() >= 4;
    let end = past(reading, at + 1);
    (fits && search.is_free(at + 1)).then_some((at, end, Class::Id, Basis::Pattern))
}

/// The device identifier of a UDI, with all that hangs on it: `(01)00844588003288(17)141120(10)…`.
///
/// # Source
/// 21 CFR 830; GS1 application identifier 01.
fn device(reading: &Reading<'_>, at: usize) -> Found {
    let is_udi = reading.fold(at + 1) == "01"
        && reading.is_mark(at + 2, ')')
        && reading.is_digits(at + 3)
        && reading.fold(at + 3).len() >= 14;
    if !is_udi {
        return None;
    }
    let mut end = at + 4;
    while end < at + CHAIN_WORDS_MAX && reading.touches(end) && !reading.is_any_mark(end, ".,;") {
        end += 1;
    }
    Some((at, end, Class::Device, Basis::Checked))
}

/// Hardware addresses with hyphens: `00-1B-44-11-3A-B7`.
fn hardware(reading: &Reading<'_>, at: usize) -> Found {
    const GROUPS: usize = 6;
    for group in 0..GROUPS {
        let word = at + 2 * group;
        let fold = reading.fold(word);
        let joined = group == 0
            || (reading.is_dash(word - 1) && reading.touches(word - 1) && reading.touches(word));
        if !joined || fold.len() != 2 || !fold.bytes().all(|c| c.is_ascii_hexdigit()) {
            return None;
        }
    }
    Some((at, at + 2 * GROUPS - 1, Class::Device, Basis::Checked))
}

/// A chain of groups of digits.
struct Chain {
    end: usize,
    groups: Vec<usize>,
    digits: String,
    has_plus: bool,
    has_bracket: bool,
    has_space: bool,
}

fn chain(search: &Search<'_, '_>, at: usize) -> Option<Chain> {
    let reading = search.reading;
    let mut chain = Chain {
        end: at,
        groups: Vec::new(),
        digits: String::new(),
        has_plus: false,
        has_bracket: false,
        has_space: false,
    };
    for next in at..at + CHAIN_WORDS_MAX {
        if !search.is_free(next) {
            break;
        }
        let is_far = reading
            .at(next)
            .is_some_and(|word| word.gap != Gap::Nothing);
        match reading.kind(next) {
            Some(Kind::Digits) => {
                if is_far && next != at {
                    if reading.at(next).is_some_and(|word| word.gap == Gap::Line) {
                        break;
                    }
                    chain.has_space = true;
                }
                let fold = reading.fold(next);
                chain.groups.push(fold.len());
                chain.digits.push_str(fold);
                chain.end = next + 1;
            }
            Some(Kind::Mark('+')) if next == at => chain.has_plus = true,
            Some(Kind::Mark('(')) if !chain.has_bracket && chain.groups.len() <= 1 => {
                chain.has_bracket = true;
            }
            Some(Kind::Mark(')')) if chain.has_bracket => {}
            // "555-123-4567/555-765-4321": two numbers, not one.
            Some(Kind::Mark('/')) if is_whole(&chain.groups) => break,
            Some(Kind::Mark(c))
                if ("./".contains(c) || reading.is_dash(next)) && !chain.groups.is_empty() => {}
            _ => break,
        }
    }
    (!chain.groups.is_empty()).then_some(chain)
}

/// Whether groups of digits are a number by themselves, so that a slash behind them begins another one.
fn is_whole(groups: &[usize]) -> bool {
    matches!(
        groups,
        [3, 3, 4] | [1, 3, 3, 4] | [3, 7] | [6, 4] | [3, 4] | [3, 2, 4] | [7 | 9..=11]
    )
}

/// Numbers that somebody could dial, and other chains of digits.
fn dialled(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    // "3.1234567" and "T1234": inside something else.
    if at > 0
        && reading.touches(at)
        && (reading.is_letters(at - 1)
            || (reading.is_any_mark(at - 1, "./")
                && at > 1
                && reading.is_digits(at - 2)
                && reading.touches(at - 1)
                // What is a number of its own has ended there.
                && !search.is_taken(at - 2)))
    {
        return None;
    }
    let chain = chain(search, at)?;
    let total = chain.digits.len();
    let end = chain.end;
    let found = |class, basis| Some((at, end, class, basis));
    if is_code_system(reading, at) {
        return None;
    }
    match chain.groups.as_slice() {
        [3, 2, 4] => return found(Class::Ssn, Basis::Checked),
        [3, 3, 4] | [1, 3, 3, 4] => return found(phone_or_fax(reading, at), Basis::Checked),
        [3, 7] | [6, 4] if !chain.has_space || chain.has_bracket => {
            return found(phone_or_fax(reading, at), Basis::Pattern);
        }
        [5, 4] if !chain.has_space => return found(Class::Place, Basis::Pattern),
        _ => {}
    }
    if chain.has_plus && (8..=15).contains(&total) {
        return found(phone_or_fax(reading, at), Basis::Pattern);
    }
    if (13..=19).contains(&total)
        && checks::luhn(&chain.digits)
        && chain.groups.iter().all(|it| *it >= 3)
    {
        return found(Class::Account, Basis::Checked);
    }
    // A longer chain may hold a number at its beginning: "555-123-4567 90 mg".
    if chain.has_space && chain.groups.len() > 1 {
        return shorter(search, at);
    }
    if let [3, 4] = chain.groups.as_slice() {
        let is_number = reading.is_dash(end.saturating_sub(2))
            && !chain.digits.starts_with(['0', '1'])
            && !is_unit(reading, end)
            && !matches!(
                at.checked_sub(1).map_or("", |before| reading.fold(before)),
                "range" | "between" | "from" | "of"
            );
        return if is_number {
            found(Class::Phone, Basis::Pattern)
        } else {
            None
        };
    }
    alone(search, at, &chain)
}

/// The groups up to the first space, on their own.
fn shorter(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    let end = past(reading, at);
    let groups: Vec<usize> = (at..end)
        .filter(|word| reading.is_digits(*word))
        .map(|word| reading.fold(word).len())
        .collect();
    // "(212) 555-1234" and "212 555 1234", with more numbers behind.
    let spaced: Vec<(usize, usize)> = (at..at + 8)
        .take_while(|word| {
            matches!(reading.kind(*word), Some(Kind::Digits))
                || reading.is_any_mark(*word, "()+.")
                || reading.is_dash(*word)
        })
        .filter(|word| reading.is_digits(*word))
        .map(|word| (word, reading.fold(word).len()))
        .collect();
    match spaced.as_slice() {
        [(_, 3), (_, 3), (last, 4), ..] | [(_, 1), (_, 3), (_, 3), (last, 4), ..] => {
            return Some((at, last + 1, phone_or_fax(reading, at), Basis::Pattern));
        }
        [(_, 3), (_, 2), (last, 4), ..] => return Some((at, last + 1, Class::Ssn, Basis::Pattern)),
        _ => {}
    }
    let digits: String = (at..end)
        .filter(|word| reading.is_digits(*word))
        .map(|word| reading.fold(word))
        .collect();
    if (13..=19).contains(&spaced.iter().map(|it| it.1).sum::<usize>())
        && spaced.iter().all(|it| it.1 >= 3)
    {
        let whole: String = spaced.iter().map(|it| reading.fold(it.0)).collect();
        if checks::luhn(&whole) {
            let last = spaced.last()?.0;
            return Some((at, last + 1, Class::Account, Basis::Checked));
        }
    }
    alone(
        search,
        at,
        &Chain {
            end,
            groups,
            digits,
            has_plus: false,
            has_bracket: false,
            has_space: false,
        },
    )
}

/// Numbers long enough to be somebody's.
fn alone(search: &Search<'_, '_>, at: usize, chain: &Chain) -> Found {
    let reading = search.reading;
    let total = chain.digits.len();
    let found = |class, basis| Some((at, chain.end, class, basis));
    let follows_decimal = reading.is_any_mark(chain.end, ".,")
        && reading.touches(chain.end)
        && reading.is_digits(chain.end + 1)
        && reading.touches(chain.end + 1);
    if total < DIGITS_ALONE_MIN
        || counts(reading, chain.end, total)
        || reading.is_mark(chain.end, '%')
        || follows_decimal
    {
        return None;
    }
    let separators_ok = (at..chain.end).all(|word| !reading.is_any_mark(word, "./"));
    match chain.groups.as_slice() {
        [10] if checks::npi(&chain.digits) => found(Class::License, Basis::Checked),
        [10] => found(phone_or_fax(reading, at), Basis::Pattern),
        [11] if chain.digits.starts_with('1') => found(Class::Phone, Basis::Pattern),
        [_] => found(Class::Id, Basis::Pattern),
        // Two numbers with a hyphen are a range up to eight digits.
        [_, _] => {
            (total > 8 && separators_ok).then_some((at, chain.end, Class::Id, Basis::Pattern))
        }
        _ => separators_ok.then_some((at, chain.end, Class::Id, Basis::Pattern)),
    }
}

fn phone_or_fax(reading: &Reading<'_>, at: usize) -> Class {
    const LOOK_BACK: usize = 4;
    let is_fax = (at.saturating_sub(LOOK_BACK)..at)
        .any(|word| matches!(reading.fold(word), "fax" | "facsimile" | "f"));
    if is_fax { Class::Fax } else { Class::Phone }
}

/// Letters and digits together: `SJH-123456`, `B123456789`, a VIN, a UUID.
fn code(search: &Search<'_, '_>, at: usize) -> Found {
    let reading = search.reading;
    if at > 0
        && reading.touches(at)
        && (reading.is_dash(at - 1) || reading.is_any_mark(at - 1, "_/."))
        && !reading.is_mark(at - 1, '.')
    {
        let inside = at >= 2
            && reading.touches(at - 1)
            && !matches!(reading.kind(at - 2), Some(Kind::Mark(_)));
        if inside {
            return None;
        }
    }
    if reading.is_letters(at)
        && !(reading.touches(at + 1)
            && (reading.is_dash(at + 1) || reading.is_any_mark(at + 1, "#_")))
    {
        return None;
    }
    let mut whole = String::new();
    let mut lengths = Vec::new();
    let (mut end, mut next) = (at, at);
    for _ in 0..CHAIN_WORDS_MAX {
        if !search.is_free(next) || (next != at && !reading.touches(next)) {
            break;
        }
        match reading.kind(next) {
            Some(Kind::Mark(c)) if reading.is_dash(next) || "#_".contains(c) => {}
            Some(Kind::Mark(_)) | None => break,
            Some(_) => {
                whole.push_str(reading.fold(next));
                lengths.push(reading.fold(next).len());
                end = next + 1;
            }
        }
        next += 1;
    }
    let class = code_class(reading, at, end, &whole, &lengths)?;
    Some((at, end, class.0, class.1))
}

fn code_class(
    reading: &Reading<'_>,
    at: usize,
    end: usize,
    whole: &str,
    lengths: &[usize],
) -> Option<(Class, Basis)> {
    let digits = whole.bytes().filter(u8::is_ascii_digit).count();
    let letters = whole.len() - digits;
    let is_hex = whole.bytes().all(|c| c.is_ascii_hexdigit());
    if lengths == [8, 4, 4, 4, 12] && is_hex {
        return Some((Class::Id, Basis::Checked));
    }
    if digits == 0
        || letters == 0
        || is_code_system(reading, at)
        || is_public_prefix(reading.fold(at))
    {
        return None;
    }
    if checks::vin(whole) {
        return Some((Class::Vehicle, Basis::Checked));
    }
    if checks::dea(whole) {
        return Some((Class::License, Basis::Checked));
    }
    if checks::mbi(whole) {
        return Some((Class::Plan, Basis::Checked));
    }
    if is_hex && whole.len() >= 16 {
        return Some((Class::Id, Basis::Pattern));
    }
    // "12345mg" and "0900hrs": a number and its unit.
    let begins_digit = whole.starts_with(|c: char| c.is_ascii_digit());
    if lengths.len() == 1
        && begins_digit
        && letters <= 4
        && whole.ends_with(|c: char| c.is_ascii_lowercase())
    {
        let unit = whole.trim_start_matches(|c: char| c.is_ascii_digit());
        if matches!(
            unit,
            "mg" | "mcg"
                | "ml"
                | "iu"
                | "units"
                | "u"
                | "kg"
                | "g"
                | "k"
                | "hrs"
                | "h"
                | "cm"
                | "mm"
                | "x"
                | "st"
                | "nd"
                | "rd"
                | "th"
                | "s"
        ) {
            return None;
        }
    }
    let is_word = (at..end).any(|word| {
        reading.is_letters(word)
            && reading.fold(word).len() > 3
            && reading.any(word, mark::ORDINARY)
    });
    (digits >= 5 && !is_word).then_some((Class::Id, Basis::Pattern))
}

/// Beginnings of codes that are public.
fn is_public_prefix(fold: &str) -> bool {
    let letters = fold.trim_end_matches(|c: char| c.is_ascii_digit());
    matches!(
        letters,
        "icd"
            | "cpt"
            | "loinc"
            | "snomed"
            | "sct"
            | "rxnorm"
            | "ndc"
            | "nct"
            | "pmid"
            | "pmc"
            | "doi"
            | "hla"
            | "sars"
            | "covid"
            | "isbn"
            | "cyp"
            | "rs"
            | "mrna"
            | "issn"
    )
}
