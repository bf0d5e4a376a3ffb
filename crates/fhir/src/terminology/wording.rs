//! Words for findings, and the comparison of displays.
//!
//! A message quotes a code only if it looks like one, so that text that was put into a code's place does
//! not travel on.
//! Start at [`quoted`].

/// Longest code that is quoted.
const QUOTED_CHARS_MAX: usize = 40;
/// Most codes that are named as what would be right.
const NAMED_MAX: usize = 8;

/// The code in backticks if it looks like a code, or else words for it.
pub(super) fn quoted(code: &str) -> String {
    let is_code = !code.is_empty()
        && code.chars().count() <= QUOTED_CHARS_MAX
        && code
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || "-_.:/*^%[]{}()+#$'".contains(it));
    if is_code {
        format!("`{code}`")
    } else {
        "the given code".to_owned()
    }
}

/// A URL of a system or value set in backticks, if it looks like one.
pub(super) fn quoted_url(url: &str) -> String {
    /// Longest URL that is quoted.
    const CHARS_MAX: usize = 160;
    if !url.is_empty() && url.len() <= CHARS_MAX && url.chars().all(|it| it.is_ascii_graphic()) {
        format!("`{url}`")
    } else {
        "the given system".to_owned()
    }
}

/// A few codes as what would be right.
pub(super) fn one_of(codes: &[String]) -> String {
    let named: Vec<String> = codes
        .iter()
        .take(NAMED_MAX)
        .map(|it| format!("`{it}`"))
        .collect();
    let more = if codes.len() > NAMED_MAX { ", …" } else { "" };
    format!("{}{more}", named.join(", "))
}

/// Whether two displays are the same but for case and white space.
pub(super) fn same_words(left: &str, right: &str) -> bool {
    let mut left = left.split_whitespace();
    let mut right = right.split_whitespace();
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(left), Some(right)) if same_word(left, right) => {}
            _ => return false,
        }
    }
}

fn same_word(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
        || left
            .chars()
            .flat_map(char::to_lowercase)
            .eq(right.chars().flat_map(char::to_lowercase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_in_a_code_is_not_quoted() {
        assert_eq!(quoted("mm[Hg]"), "`mm[Hg]`");
        assert_eq!(quoted("John Doe"), "the given code");
        assert_eq!(quoted(&"a".repeat(41)), "the given code");
        assert_eq!(quoted(""), "the given code");
    }

    #[test]
    fn displays_differ_in_words_only() {
        assert!(same_words("Blood  pressure ", "blood PRESSURE"));
        assert!(same_words("Überweisung", "überweisung"));
        assert!(!same_words("Blood pressure", "Bloodpressure"));
        assert!(!same_words("Blood", "Blood pressure"));
    }
}
