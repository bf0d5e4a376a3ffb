//! Names that may have been meant by a field that does not exist. Only ever runs on the way to an error.

use std::collections::BTreeSet;

use chaperone_fhir::Definitions;

/// Most suggestions.
const NEAREST_MAX: usize = 3;

/// Longest step that is varied, in bytes.
const STEP_BYTES_MAX: usize = 40;

/// Existing paths near `path` below a type: the first wrong step with one letter changed, added, left
/// out or swapped, or cut short; and the types of a choice.
pub(super) fn nearest(definitions: &Definitions, type_name: &str, path: &str) -> Vec<String> {
    let mut right = String::new();
    for step in path.split('.') {
        let prefix = if right.is_empty() {
            String::new()
        } else {
            format!("{right}.")
        };
        let here = format!("{prefix}{step}");
        let exists = |path: &str| definitions.element_type(type_name, path).is_some();
        if exists(&here) {
            right = here;
            continue;
        }
        let mut found = choices(definitions, type_name, &right);
        if step.len() <= STEP_BYTES_MAX && step.is_ascii() {
            let near = variants(step)
                .into_iter()
                .map(|step| format!("{prefix}{step}"));
            found.extend(near.filter(|path| exists(path)));
            for length in 2..step.len() {
                let shorter = format!("{prefix}{}", step.get(..length).unwrap_or_default());
                if exists(&shorter) {
                    found.insert(shorter.clone());
                    found.extend(choices(definitions, type_name, &shorter));
                }
            }
        }
        let mut found: Vec<String> = found.into_iter().collect();
        found.sort_by_key(|path| distance(path, &here));
        found.truncate(NEAREST_MAX);
        return found;
    }
    Vec::new()
}

/// The typed names of a choice that was named as a whole.
fn choices(definitions: &Definitions, type_name: &str, path: &str) -> BTreeSet<String> {
    let Some(info) = definitions
        .element_type(type_name, path)
        .filter(|info| info.is_choice)
    else {
        return BTreeSet::new();
    };
    let parent = path
        .rsplit_once('.')
        .map_or(String::new(), |(parent, _)| format!("{parent}."));
    info.types
        .iter()
        .map(|one| format!("{parent}{}", one.json_name))
        .collect()
}

/// How many letters must be changed, added or left out to come from one name to the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, left) in (1_usize..).zip(from.bytes()) {
        let mut diagonal = line.saturating_sub(1);
        let mut before = line;
        for (cell, right) in row.iter_mut().skip(1).zip(to.bytes()) {
            let changed = diagonal.saturating_add(usize::from(left != right));
            diagonal = *cell;
            *cell = changed
                .min(before.saturating_add(1))
                .min(diagonal.saturating_add(1));
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = line;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// Every name one edit away.
fn variants(step: &str) -> BTreeSet<String> {
    let letters = || ('a'..='z').chain('A'..='Z');
    let mut variants = BTreeSet::new();
    for at in 0..=step.len() {
        let (Some(head), Some(tail)) = (step.get(..at), step.get(at..)) else {
            continue;
        };
        variants.extend(letters().map(|letter| format!("{head}{letter}{tail}")));
        let mut rest = tail.chars();
        let Some(first) = rest.next() else { continue };
        variants.insert(format!("{head}{}", rest.as_str()));
        variants.extend(letters().map(|letter| format!("{head}{letter}{}", rest.as_str())));
        if let Some(second) = rest.next() {
            variants.insert(format!("{head}{second}{first}{}", rest.as_str()));
        }
    }
    variants
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances_count_edits() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("code", "code", 0),
            ("cod", "code", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
            assert_eq!(distance(to, from), expected, "{to} {from}");
        }
    }
}
