//! Ages over 89, which are an identifier: "92-year-old", "aged 91", "94yo", "ninety-three years old".
//! Start at [`find`].

use super::budget::Spent;
use super::class::Class;
use super::reading::{Kind, Reading, Shape};
use super::search::{Basis, Search};

/// Ages from here on are folded into one.
///
/// # Source
/// 45 CFR 164.514(b)(2)(i)(C): all ages over 89 become "90 or older".
pub const AGE_FOLDED_FROM: u32 = 90;

/// Nobody is older; a larger number counts something else.
const AGE_MAX: u32 = 130;

/// What stands for such an age.
pub const AGE_FOLDED: &str = "90 or older";

/// Finds them.
pub(crate) fn find(search: &mut Search<'_, '_>) -> Result<(), Spent> {
    let reading = search.reading;
    for at in 0..reading.len() {
        search.spend(1)?;
        if search.is_taken(at) {
            continue;
        }
        if let Some(end) = age(reading, at) {
            search.take(at, end, Class::Age, Basis::Pattern);
        }
    }
    Ok(())
}

fn is_old(number: u32) -> bool {
    (AGE_FOLDED_FROM..=AGE_MAX).contains(&number)
}

/// Where an age over 89 that begins here ends.
fn age(reading: &Reading<'_>, at: usize) -> Option<usize> {
    match reading.kind(at)? {
        Kind::Digits => {
            reading.number(at).filter(|it| is_old(*it))?;
            // "0.92", "92.5", "1,092": part of another number.
            let inside = at >= 2
                && reading.touches(at)
                && reading.is_any_mark(at - 1, ".,/")
                && reading.is_digits(at - 2);
            let goes_on = reading.is_any_mark(at + 1, ".,/")
                && reading.touches(at + 1)
                && reading.is_digits(at + 2)
                && reading.touches(at + 2);
            if inside || goes_on {
                return None;
            }
            years_after(reading, at + 1)
                .or_else(|| (is_aged(reading, at) || is_of_sex(reading, at)).then_some(at + 1))
        }
        Kind::Mixed => {
            let fold = reading.fold(at);
            let end = fold.find(|c: char| !c.is_ascii_digit())?;
            let (number, unit) = fold.split_at_checked(end)?;
            let fits = matches!(
                unit,
                "yo" | "y"
                    | "yr"
                    | "yrs"
                    | "f"
                    | "m"
                    | "yof"
                    | "yom"
                    | "year"
                    | "years"
                    | "yrold"
                    | "yearold"
            );
            (fits && is_old(number.parse().ok()?))
                .then(|| years_after(reading, at).unwrap_or(at + 1))
        }
        Kind::Letters => spelled(reading, at),
        Kind::Mark(_) => None,
    }
}

/// `-year-old`, ` y.o.`, ` years of age`, ` y/o`; where it ends.
fn years_after(reading: &Reading<'_>, at: usize) -> Option<usize> {
    let mut next = at;
    if reading.is_dash(next) {
        next += 1;
    }
    let fold = reading.fold(next);
    if matches!(fold, "year" | "years" | "yr" | "yrs" | "y") {
        let mut end = next + 1;
        for _ in 0..3 {
            if reading.is_dash(end) || reading.is_any_mark(end, "./") && reading.touches(end) {
                end += 1;
            }
        }
        return match reading.fold(end) {
            "old" | "o" | "young" => Some(end + 1),
            "of" if reading.fold(end + 1) == "age" => Some(end + 2),
            // "90 years" alone counts time unless a person follows.
            "male" | "female" | "man" | "woman" | "m" | "f" => Some(next + 1),
            _ => None,
        };
    }
    matches!(fold, "yo" | "yof" | "yom" | "yearold").then_some(next + 1)
}

/// `aged 92`, `age: 92`, `age of 92`.
fn is_aged(reading: &Reading<'_>, at: usize) -> bool {
    let mut before = at;
    for _ in 0..2 {
        let Some(word) = before.checked_sub(1) else {
            return false;
        };
        if matches!(
            reading.fold(word),
            "age" | "aged" | "ages" | "turned" | "turning"
        ) {
            return !matches!(
                reading.fold(at + 1),
                "days" | "day" | "weeks" | "months" | "hours" | "minutes" | "mg"
            );
        }
        let skipped = reading.is_mark(word, ':')
            || matches!(reading.fold(word), "of" | "is" | "over" | "was");
        if !skipped {
            return false;
        }
        before = word;
    }
    false
}

/// `94/F`, and `92 F with chest pain` where a person begins: "temp 101 F with chills" is none.
fn is_of_sex(reading: &Reading<'_>, at: usize) -> bool {
    let is_sex = |word: usize| matches!(reading.fold(word), "f" | "m");
    if reading.is_mark(at + 1, '/') && reading.touches(at + 1) && reading.touches(at + 2) {
        return is_sex(at + 2);
    }
    let begins = at.checked_sub(1).is_none_or(|before| {
        reading.begins_line(at)
            || reading.is_mark(before, '.')
            || matches!(reading.fold(before), "a" | "an" | "pt" | "patient" | "this")
    });
    let goes_on = matches!(
        reading.fold(at + 2),
        "with"
            | "w"
            | "who"
            | "presents"
            | "presented"
            | "presenting"
            | "admitted"
            | "here"
            | "c"
            | "s"
            | "found"
            | "brought"
            | "complaining"
            | "status"
            | "known"
            | "from"
    );
    is_sex(at + 1) && reading.shape(at + 1) == Shape::Initial && begins && goes_on
}

/// `ninety-two years old`, `one hundred and one years old`, `nonagenarian`.
fn spelled(reading: &Reading<'_>, at: usize) -> Option<usize> {
    let ones = |at: usize| {
        matches!(
            reading.fold(at),
            "one" | "two" | "three" | "four" | "five" | "six" | "seven" | "eight" | "nine"
        )
    };
    let mut end = match reading.fold(at) {
        "nonagenarian" | "centenarian" | "supercentenarian" => return Some(at + 1),
        "ninety" => at + 1,
        "hundred" => at + 1,
        "one" | "a" if reading.fold(at + 1) == "hundred" => at + 2,
        _ => return None,
    };
    if reading.fold(end) == "and" {
        end += 1;
    }
    let more = end + usize::from(reading.is_dash(end));
    let is_ten = matches!(
        reading.fold(more),
        "ten"
            | "eleven"
            | "twelve"
            | "thirteen"
            | "fourteen"
            | "fifteen"
            | "sixteen"
            | "seventeen"
            | "eighteen"
            | "nineteen"
            | "twenty"
    );
    if is_ten || ones(more) {
        end = more + 1;
    }
    years_after(reading, end)
}
