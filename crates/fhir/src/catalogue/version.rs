//! Which version of a definition answers a canonical URL.
//!
//! The rule, in this order: the version asked for exactly; the newest whose version begins with the
//! segments asked for (`4.0` is answered by `4.0.1`); the newest one there is, marked as another version.
//! R4's own package is why the last step exists: it holds terminology under versions such as `2.9` and
//! `2018-08-12`, which bindings never name.
//! Start at [`VersionMatch`] and [`order`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/references.html#canonical>, which leaves the choice among several
//! versions to the system; partial versions as in FHIR R5,
//! <https://hl7.org/fhir/R5/references.html#canonical-matching>.

use std::cmp::Ordering;

/// How the version found relates to the one asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    /// No version was asked for: the newest of the uppermost layer that has the URL.
    Any,
    /// It is the one.
    Exact,
    /// It begins with the segments asked for.
    Partial,
    /// It is another one: a reader of the outcome should know.
    Other,
}

/// How a version answers the one asked for.
pub(super) fn matching(asked: Option<&str>, found: Option<&str>) -> VersionMatch {
    match (asked, found) {
        (None, _) => VersionMatch::Any,
        (Some(asked), Some(found)) if asked == found => VersionMatch::Exact,
        (Some(asked), Some(found))
            if found
                .strip_prefix(asked)
                .is_some_and(|rest| rest.starts_with('.')) =>
        {
            VersionMatch::Partial
        }
        _ => VersionMatch::Other,
    }
}

/// Older before newer. Segments are compared as numbers where both are; a trailing label such as
/// `-ballot` comes before the version without it; no version comes first.
#[must_use]
pub fn order(left: Option<&str>, right: Option<&str>) -> Ordering {
    let (Some(left), Some(right)) = (left, right) else {
        return left.is_some().cmp(&right.is_some());
    };
    let mut left = left.split(['.', '-']);
    let mut right = right.split(['.', '-']);
    loop {
        let ordering = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(more)) => after_the_end(more).reverse(),
            (Some(more), None) => after_the_end(more),
            (Some(left), Some(right)) => segment(left, right),
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

/// How a version with one more segment relates to the one without.
fn after_the_end(more: &str) -> Ordering {
    if is_number(more) {
        Ordering::Greater
    } else {
        Ordering::Less
    }
}

fn segment(left: &str, right: &str) -> Ordering {
    match (is_number(left), is_number(right)) {
        (true, true) => {
            let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
            left.len().cmp(&right.len()).then_with(|| left.cmp(right))
        }
        (false, false) => left.cmp(right),
        (left, right) => left.cmp(&right),
    }
}

fn is_number(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|it| it.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_comes_before_newer() {
        let ascending = [
            None,
            Some("2.9"),
            Some("4.0.0"),
            Some("4.0.1"),
            Some("4.1"),
            Some("8.0.0-ballot"),
            Some("8.0.0"),
            Some("10.0.0"),
            Some("2014-03-26"),
            Some("2018-08-12"),
        ];
        for pair in ascending.windows(2) {
            assert_eq!(order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(order(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(order(Some("1.0"), Some("1.0")), Ordering::Equal);
    }

    #[test]
    fn versions_match_by_whole_segments() {
        assert_eq!(matching(None, Some("1")), VersionMatch::Any);
        assert_eq!(matching(Some("4.0"), Some("4.0")), VersionMatch::Exact);
        assert_eq!(matching(Some("4.0"), Some("4.0.1")), VersionMatch::Partial);
        assert_eq!(matching(Some("4.0"), Some("4.01")), VersionMatch::Other);
        assert_eq!(matching(Some("4.0.1"), Some("4.0")), VersionMatch::Other);
        assert_eq!(matching(Some("4.0.1"), None), VersionMatch::Other);
    }
}
