//! Labelled queries in the format of ASQ-PHI, and how much of a labelled value is left of one. Shared by the
//! example that prints figures and the test that holds the floor; not a program of its own.

use std::error::Error;

use chaperone_phi::scrub::{Finding, Lexicon};

/// A query with the identifiers that somebody marked in it.
pub(crate) struct Query {
    /// What is asked.
    pub(crate) text: String,
    /// Type and value of each identifier.
    pub(crate) labels: Vec<(String, String)>,
}

/// Reads a file of queries.
///
/// # Errors
/// The file is not in the format of ASQ-PHI.
pub(crate) fn read(text: &str) -> Result<Vec<Query>, Box<dyn Error>> {
    let mut queries = Vec::new();
    for block in text.split("===QUERY===").skip(1) {
        let (query, tags) = block
            .split_once("===PHI_TAGS===")
            .ok_or("a query without its labels")?;
        let mut labels = Vec::new();
        for line in tags.lines().filter(|line| !line.trim().is_empty()) {
            let tag: serde_json::Value = serde_json::from_str(line)?;
            let part = |key: &str| {
                tag.get(key)
                    .and_then(|it| it.as_str())
                    .unwrap_or("")
                    .to_owned()
            };
            labels.push((part("identifier_type"), part("value")));
        }
        queries.push(Query {
            text: query.trim().to_owned(),
            labels,
        });
    }
    Ok(queries)
}

/// Words that are part of labelled values and tell nothing: forms of address and small words.
const SMALL: [&str; 13] = [
    "dr", "mr", "mrs", "ms", "miss", "prof", "in", "at", "of", "the", "on", "and", "last",
];

/// What is left of a value where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Left {
    /// No word of two or more letters or digits.
    Nothing,
    /// Forms of address, small words and states only, which may stay (45 CFR 164.514(b)(2)(i)(B) names what is
    /// smaller than a state).
    SmallWords,
    /// A word that tells something.
    Words,
}

/// What is left of a value, at any place of the text that holds it: words that no finding covers.
pub(crate) fn left(lexicon: &Lexicon, text: &str, value: &str, findings: &[Finding]) -> Left {
    let mut most = Left::Nothing;
    for (begin, _) in text.match_indices(value) {
        // Words that stand together are looked at together: "New York".
        let mut together = String::new();
        let of_value = words(value).map(Some).chain([None]);
        for word in of_value {
            let uncovered = word.filter(|(at, word)| {
                let (start, end) = (begin + at, begin + at + word.len());
                !findings.iter().any(|it| it.start <= start && end <= it.end)
            });
            if let Some((_, word)) = uncovered
                && !SMALL.contains(&word.to_lowercase().as_str())
            {
                together.push_str(word);
                together.push(' ');
                continue;
            }
            let run = std::mem::take(&mut together);
            if !run.is_empty() {
                let is_state = lexicon.is_state(&run);
                most = most.max(if is_state {
                    Left::SmallWords
                } else {
                    Left::Words
                });
            }
            if uncovered.is_some() {
                most = most.max(Left::SmallWords);
            }
        }
    }
    most
}

/// The runs of letters and digits of a text, with their places; single characters left out.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let base = text.as_ptr() as usize;
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().nth(1).is_some())
        .map(move |word| (word.as_ptr() as usize - base, word))
}
