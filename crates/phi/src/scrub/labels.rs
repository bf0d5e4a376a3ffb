//! Numbers with a label beside them: "MRN: JH-123456", "policy number HP-987654", "phone 555-1234".
//!
//! The labels are data (`labels` in `governance/rules/scrub-cues.toml`). Start at [`find`].

use super::budget::Spent;
use super::class::Class;
use super::lexicon::{PhraseKind, mark};
use super::reading::{Gap, Kind, Reading, Shape};
use super::search::{Basis, Search};

/// Most words between a label and its value: "insurance policy (number) is: #".
const BETWEEN_MAX: usize = 6;
/// Most words in a value, separators included.
const VALUE_WORDS_MAX: usize = 16;

/// Finds labelled values.
pub(crate) fn find(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    for at in 0..search.reading.len() {
        search.spend(2)?;
        if search.is_taken(at) {
            continue;
        }
        if let Some((end, class)) = label(search, at) {
            search.spend(BETWEEN_MAX + VALUE_WORDS_MAX)?;
            take_value(search, at, end, class);
        } else if let Some(end) = phone_label(search.reading, at) {
            take_phone(search, at, end);
        }
    }
    endings(search)
}

/// The longest label that begins here, and where it ends.
fn label(search: &Search<'_, '_>, at: usize) -> Option<(usize, Class)> {
    let reading = search.reading;
    if !reading.has(at, mark::PHRASE) {
        return None;
    }
    search
        .lexicon
        .phrases(reading.fold(at))
        .iter()
        .filter_map(|phrase| match phrase.kind {
            PhraseKind::Label(class) => Some((follow(reading, at, &phrase.rest)?, class)),
            _ => None,
        })
        .max_by_key(|(end, _)| *end)
}

/// Where a phrase of one line ends whose first word stands at `at`; dots, hyphens and apostrophes between are passed
/// over.
pub(crate) fn follow(reading: &Reading<'_>, at: usize, rest: &[Box<str>]) -> Option<usize> {
    const MARKS_MAX: usize = 2;
    let joins = |mark: usize| {
        reading.is_mark(mark, '.') || reading.is_dash(mark) || reading.is_apostrophe(mark)
    };
    let end = reading.follow(at, rest, MARKS_MAX, joins)?;
    (at + 1..end)
        .all(|word| !reading.begins_line(word))
        .then_some(end)
}

/// Labels whose value may be short, because nothing else follows them.
fn is_strong(class: Class) -> bool {
    matches!(
        class,
        Class::Mrn
            | Class::Ssn
            | Class::Vehicle
            | Class::Device
            | Class::License
            | Class::Biometric
    )
}

fn take_value(search: &mut Search<'_, '_>, label_at: usize, label_end: usize, class: Class) {
    let reading = search.reading;
    let mut at = label_end;
    let mut is_marked = false;
    for _ in 0..BETWEEN_MAX {
        let word = reading.fold(at);
        let is_filler = matches!(
            word,
            "is" | "was"
                | "number"
                | "no"
                | "num"
                | "nr"
                | "id"
                | "of"
                | "code"
                | "reads"
                | "card"
                | "the"
                | "ending"
                | "rec"
                | "record"
                | "as"
                | "with"
                | "numbers"
                | "ids"
                | "num."
        );
        match reading.kind(at) {
            Some(Kind::Mark(c)) if ":#.=([\"'-–*".contains(c) => is_marked |= c != '.',
            Some(Kind::Letters) if is_filler => {}
            _ => break,
        }
        at += 1;
    }
    if !search.is_free(at) {
        return;
    }
    let Some(value) = value(search, at, is_strong(class)) else {
        let is_account_name = matches!(reading.fold(label_at), "username" | "login" | "user");
        if is_account_name && reading.is_letters(at) && is_marked {
            search.take(at, at + 1, class, Basis::Pattern);
        }
        return;
    };
    if is_plausible(reading, &value, class, is_marked) {
        // A number sign is part of what people call the number.
        let from = if reading.is_mark(at - 1, '#') {
            at - 1
        } else {
            at
        };
        search.take(from, value.end, class, Basis::Pattern);
    }
}

/// A run of letters and digits with separators inside.
struct Value {
    end: usize,
    digits: usize,
    length: usize,
    is_one_number: bool,
}

fn value(search: &Search<'_, '_>, at: usize, may_have_spaces: bool) -> Option<Value> {
    let reading = search.reading;
    let mut end = at;
    let mut value = Value {
        end,
        digits: 0,
        length: 0,
        is_one_number: true,
    };
    let mut spaces = 0;
    for _ in 0..VALUE_WORDS_MAX {
        if !search.is_free(end) {
            break;
        }
        let joined = end == at || reading.touches(end);
        let has_digits = matches!(reading.kind(end), Some(Kind::Digits | Kind::Mixed));
        if !joined {
            // "123 45 6789", "1EG4 TE5 MK73".
            let fits = may_have_spaces
                && spaces < 4
                && has_digits
                && reading.at(end).is_some_and(|word| word.gap == Gap::Space)
                && value.digits > 0
                && !is_unit(reading, end + 1);
            if !fits {
                break;
            }
            spaces += 1;
        }
        match reading.kind(end) {
            Some(Kind::Digits | Kind::Mixed) => {
                let fold = reading.fold(end);
                value.is_one_number &= end == at && reading.is_digits(end);
                value.digits += fold.bytes().filter(u8::is_ascii_digit).count();
                value.length += fold.len();
            }
            Some(Kind::Letters) => {
                let next = reading.touches(end + 1)
                    && (reading.is_dash(end + 1)
                        || matches!(reading.kind(end + 1), Some(Kind::Digits | Kind::Mixed))
                        || reading.is_any_mark(end + 1, "/._#"));
                if end == at && !next {
                    return None;
                }
                value.is_one_number = false;
                value.length += reading.fold(end).len();
            }
            Some(Kind::Mark(_)) => {
                let is_separator = reading.is_dash(end) || reading.is_any_mark(end, "/._#*");
                let goes_on = reading.touches(end + 1)
                    && matches!(
                        reading.kind(end + 1),
                        Some(Kind::Digits | Kind::Mixed | Kind::Letters)
                    );
                if !is_separator || !goes_on {
                    break;
                }
                end += 1;
                continue;
            }
            None => break,
        }
        end += 1;
        value.end = end;
    }
    (value.end > at && value.digits > 0).then_some(value)
}

fn is_plausible(reading: &Reading<'_>, value: &Value, class: Class, is_marked: bool) -> bool {
    let last = value.end.saturating_sub(1);
    if is_strong(class) {
        return value.digits >= 3
            || (value.length >= 5 && value.digits >= 2)
            || (is_marked && value.length >= 4);
    }
    let is_year = value.is_one_number
        && reading
            .number(last)
            .is_some_and(|it| (1900..=2100).contains(&it));
    let counts = value.is_one_number
        && (counts(reading, value.end, value.digits) || reading.is_mark(value.end, '%'));
    let is_long = value.digits >= 5
        || (value.length >= 5 && value.digits >= 3)
        || (is_marked && value.digits >= 3);
    is_long && !is_year && !counts
}

/// Whether what stands behind a number of so many digits makes it a measurement.
///
/// "12345678 M" and "5551234567 per chart" are none: nothing is measured in millions of metres, and a letter or
/// "per" behind a number says little.
pub(crate) fn counts(reading: &Reading<'_>, end: usize, digits: usize) -> bool {
    /// From so many digits on, a short word proves no measurement.
    const DIGITS_DOUBTED: usize = 7;
    let says_little = reading.fold(end).len() == 1 || reading.fold(end) == "per";
    is_unit(reading, end) && !(says_little && digits >= DIGITS_DOUBTED)
}

/// Units of measure and counted things, which make a number a measurement.
pub(crate) fn is_unit(reading: &Reading<'_>, at: usize) -> bool {
    matches!(
        reading.fold(at),
        "mg" | "mcg"
            | "ug"
            | "g"
            | "kg"
            | "ml"
            | "l"
            | "dl"
            | "unit"
            | "units"
            | "iu"
            | "mmol"
            | "meq"
            | "cells"
            | "copies"
            | "mm"
            | "cm"
            | "m"
            | "hz"
            | "bpm"
            | "kcal"
            | "cal"
            | "calories"
            | "steps"
            | "patients"
            | "people"
            | "participants"
            | "subjects"
            | "women"
            | "men"
            | "adults"
            | "cases"
            | "per"
            | "years"
            | "days"
            | "hours"
            | "minutes"
            | "weeks"
            | "k"
            | "mmhg"
            | "ng"
            | "pg"
            | "u"
            | "mu"
            | "x10"
            | "platelets"
            | "wbc"
            | "dollars"
            | "usd"
            | "persons"
            | "births"
            | "admissions"
    )
}

/// A word after which a phone number stands; where it ends.
fn phone_label(reading: &Reading<'_>, at: usize) -> Option<usize> {
    matches!(
        reading.fold(at),
        "phone"
            | "telephone"
            | "tel"
            | "ph"
            | "cell"
            | "mobile"
            | "cellphone"
            | "call"
            | "called"
            | "contact"
            | "pager"
            | "beeper"
            | "fax"
            | "text"
            | "voicemail"
            | "extension"
            | "ext"
            | "callback"
            | "facsimile"
    )
    .then_some(at + 1)
}

fn take_phone(search: &mut Search<'_, '_>, label_at: usize, label_end: usize) {
    let reading = search.reading;
    let mut at = label_end;
    for _ in 0..BETWEEN_MAX {
        let is_filler = matches!(
            reading.fold(at),
            "number"
                | "no"
                | "is"
                | "at"
                | "phone"
                | "her"
                | "him"
                | "them"
                | "me"
                | "us"
                | "on"
                | "the"
                | "home"
                | "work"
                | "cell"
                | "mobile"
        );
        match reading.kind(at) {
            Some(Kind::Mark(c)) if ":#.=([-–+".contains(c) => {}
            Some(Kind::Letters) if is_filler => {}
            _ => break,
        }
        at += 1;
    }
    let mut end = at;
    let mut digits = 0;
    for _ in 0..VALUE_WORDS_MAX {
        if !search.is_free(end) {
            break;
        }
        match reading.kind(end) {
            Some(Kind::Digits) => digits += reading.fold(end).len(),
            Some(Kind::Mark(c)) if "().-–+/ ".contains(c) && end > at => {}
            _ => break,
        }
        end += 1;
    }
    while end > at && !reading.is_digits(end - 1) {
        end -= 1;
    }
    // A bracket that opens the number is part of it.
    let from = if at > label_end && reading.is_any_mark(at - 1, "(+") {
        at - 1
    } else {
        at
    };
    let is_extension = matches!(reading.fold(label_at), "ext" | "extension");
    let class = if matches!(reading.fold(label_at), "fax" | "facsimile") {
        Class::Fax
    } else {
        Class::Phone
    };
    if (7..=15).contains(&digits) || (is_extension && (2..=6).contains(&digits)) {
        search.take(from, end, class, Basis::Pattern);
    }
}

/// "ending in 1234", "last four 1234", "xxx-xx-1234".
fn endings(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    let reading = search.reading;
    for at in 0..reading.len() {
        search.spend(1)?;
        if search.is_taken(at) || !reading.is_digits(at) || reading.fold(at).len() != 4 {
            continue;
        }
        let word = |back: usize| at.checked_sub(back).map_or("", |place| reading.fold(place));
        let is_mask = |back: usize| {
            at.checked_sub(back).is_some_and(|place| {
                let fold = reading.fold(place);
                reading.is_mark(place, '*') || (!fold.is_empty() && fold.bytes().all(|c| c == b'x'))
            })
        };
        let said = (1..=5).any(|back| {
            matches!(word(back), "ending" | "ends")
                || (word(back) == "last" && (1..back).any(|n| matches!(word(n), "four" | "4")))
        });
        let masked = reading.touches(at)
            && at > 1
            && (is_mask(1) || (reading.is_dash(at - 1) && is_mask(2)));
        if said || masked {
            search.take(at, at + 1, Class::Id, Basis::Pattern);
        }
    }
    Ok(())
}

/// Whether the word before a number names a code system: such numbers are public.
pub(crate) fn is_code_system(reading: &Reading<'_>, at: usize) -> bool {
    const LOOK_BACK: usize = 4;
    (at.saturating_sub(LOOK_BACK)..at).any(|word| {
        reading.shape(word) != Shape::Initial
            && matches!(
                reading.fold(word),
                "icd"
                    | "icd9"
                    | "icd10"
                    | "cpt"
                    | "loinc"
                    | "snomed"
                    | "sct"
                    | "sctid"
                    | "rxnorm"
                    | "rxcui"
                    | "ndc"
                    | "nct"
                    | "pmid"
                    | "doi"
                    | "hcpcs"
                    | "drg"
                    | "omim"
                    | "mesh"
                    | "atc"
                    | "cvx"
                    | "isbn"
                    | "unii"
                    | "umls"
                    | "pmcid"
            )
    })
}
