//! Regular expressions: the flavour that FHIRPath recommends (PCRE), put into the words of the `regex` crate.
//!
//! That crate runs in linear time and has no look-around and no back-references; expressions that need them
//! are refused, never misread. Start at [`compile`].

use regex::{Regex, RegexBuilder};

/// Longest regular expression, in bytes.
const PATTERN_BYTES_MAX: usize = 4 * 1024;
/// Most memory of one compiled expression, in bytes.
const PROGRAM_BYTES_MAX: usize = 1024 * 1024;

/// Compiles a pattern with `flags` out of `i` and `m`; `is_full` makes it match whole texts only.
///
/// # Errors
/// Words for the reader of the expression: what cannot be used.
pub(in crate::fhirpath) fn compile(
    pattern: &str,
    flags: &str,
    is_full: bool,
) -> Result<Regex, String> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err("it is longer than allowed".to_owned());
    }
    let mut translated = translate(pattern);
    if is_full {
        translated = format!(r"\A(?:{translated})\z");
    }
    let mut builder = RegexBuilder::new(&translated);
    // The standard asks for single-line mode: the dot matches line ends too.
    builder
        .dot_matches_new_line(true)
        .size_limit(PROGRAM_BYTES_MAX)
        .dfa_size_limit(PROGRAM_BYTES_MAX)
        .nest_limit(64);
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'm' => builder.multi_line(true),
            _ => return Err("its flags may be `i` and `m` only".to_owned()),
        };
    }
    builder.build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "it is larger than allowed when compiled".to_owned(),
        _ => {
            "it has syntax that is wrong or not supported (look-around, back-references)".to_owned()
        }
    })
}

/// Escapes what is plain in PCRE and special in the `regex` crate: `[`, `&&`, `--`, `~~` inside of a class.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut characters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                // An escaped letter without meaning, and `\/`, stand for themselves.
                Some('/') => out.push('/'),
                Some('Z') => out.push_str(r"\z"),
                Some(next) => {
                    out.push('\\');
                    out.push(next);
                }
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if characters.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket that comes first is a member.
                if characters.next_if_eq(&']').is_some() {
                    out.push_str(r"\]");
                }
            }
            '[' if characters.peek() == Some(&':') => {
                // `[:alpha:]` is known to both.
                out.push('[');
                for inner in characters.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            '[' => out.push_str(r"\["),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(character);
            }
            _ => out.push(character),
        }
    }
    out
}

/// A substitution in the words of the `regex` crate: `$1a` there would be a group named `1a`.
pub(super) fn translate_substitution(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'$') => {
                characters.next();
                out.push_str("$$");
            }
            '$' if characters.peek().is_some_and(char::is_ascii_digit) => {
                out.push_str("${");
                while let Some(digit) = characters.next_if(char::is_ascii_digit) {
                    out.push(digit);
                }
                out.push('}');
            }
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_regular_expressions_of_r4() {
        for (pattern, right, wrong) in [
            (r"^[a-zA-Z0-9\/\-_\[\]\@]+$", "a/b-c[x]@", "a b"),
            (r"[A-Z]([A-Za-z0-9_]){0,254}", "Name_1", "name"),
            (r"^[^[\]&&~]+$", "abc", "a&b"),
            (r"^[][]+$", "[]", "a"),
            (r"^[[:digit:]]{2}$", "12", "ab"),
            (r"\.+\Z", "a..", "a.b"),
        ] {
            let regex = compile(pattern, "", false).unwrap();
            assert!(regex.is_match(right), "{pattern} {right}");
            assert!(!regex.is_match(wrong), "{pattern} {wrong}");
        }
        assert!(compile("Library", "", true).unwrap().is_match("Library"));
        assert!(!compile("Library", "", true).unwrap().is_match("aLibrary"));
        assert!(compile("^B", "im", false).unwrap().is_match("a\nb"));
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for pattern in ["(?=a)b", r"(a)\1", "(", "a{1000}{1000}{1000}", "(?<!a)b"] {
            assert!(compile(pattern, "", false).is_err(), "{pattern}");
        }
        assert!(compile("a", "x", false).is_err());
        assert!(compile(&"a".repeat(PATTERN_BYTES_MAX + 1), "", false).is_err());
    }

    #[test]
    fn substitutions_keep_their_groups_apart() {
        assert_eq!(
            translate_substitution("$1a ${day} \\$2"),
            "${1}a ${day} $$2"
        );
    }
}
