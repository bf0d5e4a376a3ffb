//! Looking for a few plain things in text: words, dates, sides, amounts, cue words before a term.
//!
//! No language model and no grammar: whole words, in English, within one sentence. What it does not find it
//! does not judge. Nothing of the text leaves this crate. Start at [`words`].

use jiff::civil::Date;

/// Longest text that is looked at, in bytes; what stands behind is not judged.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// How many words before a term a cue may stand.
const CUE_WORDS_MAX: usize = 6;

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// Words that do not tell one clinical term from another.
const EMPTY_WORDS: &[&str] = &[
    "disorder",
    "finding",
    "situation",
    "procedure",
    "unspecified",
    "with",
    "without",
    "and",
    "the",
    "for",
    "not",
    "acute",
    "chronic",
    "history",
    "family",
    "personal",
    "known",
    "patient",
    "left",
    "right",
    "bilateral",
    "type",
    "other",
    "his",
    "her",
    "has",
    "had",
    "was",
];

/// What may follow a side word that means no side: `right away`, `left the hospital`.
const NO_SIDE_AFTER: &[&str] = &[
    "away",
    "now",
    "after",
    "before",
    "the",
    "against",
    "without",
    "at",
    "hospital",
    "home",
    "for",
    "ama",
    "over",
    "alone",
    "untreated",
    "to",
];

fn bounded(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// The words of a text in lower case; numbers keep their decimal point.
pub(super) fn words(text: &str) -> Vec<String> {
    bounded(text)
        .split(|c: char| !c.is_alphanumeric() && c != '.' && c != '\'')
        .map(|word| word.trim_matches(['.', '\'']).to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

/// The sentences of a text.
pub(super) fn sentences(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for line in bounded(text).split(['\n', ';', '!', '?']) {
        found.extend(line.split(". "));
    }
    found
}

/// Whether a phrase stands in words as whole words.
pub(super) fn has_phrase(words: &[String], phrase: &str) -> bool {
    let count = phrase.split(' ').count();
    words.windows(count).any(|window| {
        window
            .iter()
            .zip(phrase.split(' '))
            .all(|(one, other)| one == other)
    })
}

/// Whether words stand in others, next to each other and in that order.
pub(super) fn has_words(words: &[String], wanted: &[String]) -> bool {
    !wanted.is_empty() && words.windows(wanted.len()).any(|window| window == wanted)
}

/// The words of a term that tell it from others.
pub(super) fn telling_words(term: &str) -> Vec<String> {
    words(term)
        .into_iter()
        .filter(|word| word.len() > 2 && !EMPTY_WORDS.contains(&word.as_str()))
        .filter(|word| word.chars().any(char::is_alphabetic))
        .collect()
}

/// How a text speaks about a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mention<'c> {
    /// Not at all.
    None,
    /// With a cue before it, in every sentence that has it.
    Cued(&'c str),
    /// At least once without a cue.
    Plain,
}

/// How a text speaks about a term: whether a cue (such as `no` or `mother`) stands shortly before it.
pub(super) fn mention<'c>(text: &str, term: &[String], cues: &'c [String]) -> Mention<'c> {
    let mut answer = Mention::None;
    for sentence in sentences(text) {
        let found = words(sentence);
        // All of the telling words, or all but one of a long term.
        let present = term.iter().filter(|it| found.contains(it)).count();
        if present == 0 || present + 1 < term.len() || (term.len() <= 2 && present < term.len()) {
            continue;
        }
        let first = found.iter().position(|it| term.contains(it)).unwrap_or(0);
        let before = found
            .get(first.saturating_sub(CUE_WORDS_MAX)..first)
            .unwrap_or_default();
        // What stands behind "but" is a new statement.
        let after_but = before
            .iter()
            .rposition(|it| it == "but" || it == "however")
            .map_or(0, |at| at + 1);
        let before = before.get(after_but..).unwrap_or_default();
        match cues.iter().find(|cue| has_phrase(before, cue)) {
            Some(cue) => answer = Mention::Cued(cue),
            None => return Mention::Plain,
        }
    }
    answer
}

/// Which sides a text or code names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sides {
    pub(super) left: bool,
    pub(super) right: bool,
}

impl Sides {
    /// The word for one side alone; `None` for neither and for both.
    pub(super) fn one(self) -> Option<&'static str> {
        match (self.left, self.right) {
            (true, false) => Some("left"),
            (false, true) => Some("right"),
            _ => None,
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            left: self.left || other.left,
            right: self.right || other.right,
        }
    }
}

pub(super) fn sides(text: &str) -> Sides {
    let found = words(text);
    let mut sides = Sides::default();
    for (at, word) in found.iter().enumerate() {
        let is_other_sense = found
            .get(at + 1)
            .is_some_and(|next| NO_SIDE_AFTER.contains(&next.as_str()));
        match word.as_str() {
            "left" if !is_other_sense => sides.left = true,
            "right" if !is_other_sense => sides.right = true,
            "bilateral" | "bilaterally" => {
                sides = Sides {
                    left: true,
                    right: true,
                };
            }
            _ => {}
        }
    }
    sides
}

/// The whole dates in a text: `2024-05-01`, `5/1/2024` (month first), `May 1, 2024`, `1 May 2024`.
pub(super) fn dates(text: &str) -> Vec<Date> {
    let text = bounded(text);
    let mut found = Vec::new();
    for word in text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '(' | ')')) {
        let word = word.trim_matches(|c: char| !c.is_ascii_digit());
        if let Some(iso) = word.get(..10).and_then(|it| it.parse().ok()) {
            found.push(iso);
            continue;
        }
        let parts: Vec<&str> = word.split(['/', '-', '.']).collect();
        if let [month, day, year] = parts.as_slice() {
            found.extend(date(year, month.parse().ok(), day));
        }
    }
    let words = words(text);
    for (at, word) in words.iter().enumerate() {
        let Some(month) = MONTHS.iter().position(|month| {
            month == word || (word.len() >= 3 && month.starts_with(word.as_str()))
        }) else {
            continue;
        };
        let month = i8::try_from(month + 1).ok();
        let get = |at: Option<usize>| at.and_then(|at| words.get(at)).map(String::as_str);
        let (before, next, last) = (get(at.checked_sub(1)), get(Some(at + 1)), get(Some(at + 2)));
        if let (Some(day), Some(year)) = (next, last) {
            found.extend(date(year, month, ordinal(day)));
        }
        if let (Some(day), Some(year)) = (before, next) {
            found.extend(date(year, month, ordinal(day)));
        }
    }
    found
}

fn ordinal(day: &str) -> &str {
    day.trim_end_matches(|c: char| c.is_ascii_alphabetic())
}

fn date(year: &str, month: Option<i8>, day: &str) -> Option<Date> {
    let year = (year.len() == 4).then(|| year.parse().ok()).flatten()?;
    Date::new(year, month?, day.parse().ok()?).ok()
}

/// An amount in a text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Amount {
    pub(super) value: f64,
    /// The number as written, without grouping commas.
    pub(super) written: String,
    /// The unit in lower case.
    pub(super) unit: String,
}

/// Units that are looked for behind a number.
const UNITS: &[&str] = &[
    "mg",
    "mcg",
    "ug",
    "µg",
    "μg",
    "microgram",
    "micrograms",
    "g",
    "gram",
    "grams",
    "ml",
    "unit",
    "units",
    "u",
    "iu",
    "meq",
    "mmol",
    "tablet",
    "tablets",
    "tab",
    "tabs",
    "capsule",
    "capsules",
    "puff",
    "puffs",
    "drop",
    "drops",
    "patch",
    "patches",
];

/// The amounts in a text: a number and one of a few units, with or without a space between.
pub(super) fn amounts(text: &str) -> Vec<Amount> {
    let text = bounded(text).to_lowercase();
    let bytes: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let get = |at: usize| bytes.get(at).copied().unwrap_or(' ');
        let starts = get(at).is_ascii_digit() || (get(at) == '.' && get(at + 1).is_ascii_digit());
        let before = if at == 0 { ' ' } else { get(at - 1) };
        if !starts || before.is_alphanumeric() || before == '.' {
            at += 1;
            continue;
        }
        let mut written = String::new();
        while get(at).is_ascii_digit()
            || (matches!(get(at), '.' | ',') && get(at + 1).is_ascii_digit())
        {
            if get(at) != ',' {
                written.push(get(at));
            }
            at += 1;
        }
        let mut unit_at = at;
        while unit_at < at + 2 && matches!(get(unit_at), ' ' | '-') {
            unit_at += 1;
        }
        let unit: String = (unit_at..bytes.len())
            .map(get)
            .take_while(|c| c.is_alphabetic())
            .collect();
        if UNITS.contains(&unit.as_str())
            && let Ok(value) = written.parse()
        {
            found.push(Amount {
                value,
                written,
                unit,
            });
        }
    }
    found
}

/// The text of a narrative: without tags, with the five XML entities and the no-break space resolved.
pub(super) fn plain(div: &str) -> String {
    let mut out = String::new();
    let mut is_in_tag = false;
    for c in bounded(div).chars() {
        match c {
            '<' => {
                is_in_tag = true;
                out.push(' ');
            }
            '>' => is_in_tag = false,
            c if !is_in_tag => out.push(c),
            _ => {}
        }
    }
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#160;", " "),
        ("&nbsp;", " "),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(out, |text, (entity, to)| text.replace(entity, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_found_in_the_usual_forms() {
        let day: Date = "2024-05-01".parse().unwrap();
        for text in [
            "seen 2024-05-01.",
            "on 5/1/2024,",
            "on May 1, 2024",
            "1st of it, 1 May 2024",
            "Sept; May 1st 2024",
        ] {
            assert!(dates(text).contains(&day), "{text}");
        }
        for text in [
            "May 2024",
            "5/2024",
            "13/13/2024",
            "555-123-4567",
            "may 1 24",
        ] {
            assert!(dates(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn cues_reach_only_what_follows_them() {
        let cues = ["no".to_owned(), "denies".to_owned()];
        let term = telling_words("Chest pain");
        assert_eq!(mention("No chest pain", &term, &cues), Mention::Cued("no"));
        assert_eq!(
            mention("Has chest pain, no fever", &term, &cues),
            Mention::Plain
        );
        assert_eq!(
            mention("No fever but chest pain", &term, &cues),
            Mention::Plain
        );
        assert_eq!(
            mention("Denies fever. Chest pain today", &term, &cues),
            Mention::Plain
        );
        assert_eq!(mention("No headache", &term, &cues), Mention::None);
    }

    #[test]
    fn amounts_and_sides() {
        let found = amounts("Take 5.0 mg or 10mg, 1,000 units; v2.5 mg no; 12 hours");
        let written: Vec<_> = found
            .iter()
            .map(|it| format!("{} {}", it.written, it.unit))
            .collect();
        assert_eq!(written, ["5.0 mg", "10 mg", "1000 units"]);
        assert_eq!(sides("pain in the left knee").one(), Some("left"));
        assert_eq!(sides("left the hospital right away").one(), None);
        assert_eq!(sides("left and right knee").one(), None);
        assert_eq!(plain("<div><p>A &amp; B</p></div>").trim(), "A & B");
    }
}
