//! Whether a text holds bytes written as text (Base64): nobody reads what they say, so such a text is not shown.
//!
//! Not here: attachments, which are decoded and read ([`super::document`]). Start at [`holds`].
//!
//! # Source
//! RFC 4648, sections 4 and 5 (the alphabets); RFC 2045, section 6.8 (lines of at most 76 characters).

/// From so many characters on, a run in the alphabet of Base64 is taken for that.
const RUN_CHARS_MIN: usize = 200;

/// A run of at least so many characters at the end of a line goes on in the next.
const LINE_CHARS_MIN: usize = 40;

/// Whether a long run of such characters is in the text, line breaks inside it passed over.
///
/// Letters of both cases and digits must be in it: a line of hyphens or a chain of words in small letters is none.
pub(super) fn holds(text: &str) -> bool {
    let mut run = Run::default();
    for line in text.lines() {
        let line = line.trim();
        for c in line.bytes() {
            if run.add(c) {
                return true;
            }
        }
        if run.length < LINE_CHARS_MIN {
            run = Run::default();
        }
    }
    false
}

#[derive(Default)]
struct Run {
    length: usize,
    has_capital: bool,
    has_small: bool,
    has_digit: bool,
}

impl Run {
    /// Adds a character; whether the run is long enough and reads like Base64.
    fn add(&mut self, c: u8) -> bool {
        match c {
            b'A'..=b'Z' => self.has_capital = true,
            b'a'..=b'z' => self.has_small = true,
            b'0'..=b'9' => self.has_digit = true,
            b'+' | b'/' | b'=' | b'-' | b'_' => {}
            _ => {
                *self = Run::default();
                return false;
            }
        }
        self.length += 1;
        self.length >= RUN_CHARS_MIN && self.has_capital && self.has_small && self.has_digit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_encoded_and_their_neighbours_are_text() {
        let run = "Sm9obiBTbWl0aCwg".repeat(13);
        let lines: String = run
            .as_bytes()
            .chunks(76)
            .flat_map(|line| [line, b"\r\n"].concat())
            .map(char::from)
            .collect();
        for encoded in [
            run.clone(),
            format!("see <text>{run}</text>"),
            format!("Signature:\n{lines}end"),
        ] {
            assert!(holds(&encoded), "{encoded}");
        }
        for text in [
            run.get(..RUN_CHARS_MIN - 1).unwrap().to_owned(),
            "-".repeat(400),
            "=_".repeat(200),
            "Aspirin 81 mg ".repeat(40),
            "Aspirin81\n".repeat(40),
            "aspirin/".repeat(40),
        ] {
            assert!(!holds(&text), "{text}");
        }
    }
}
