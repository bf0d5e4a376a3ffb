//! A text cut into words with what the lexicon says about each; everything else looks at this.
//!
//! Words keep their place in bytes; their folded form is what lists know. A possessive `'s` is left
//! outside of its word. Start at [`Reading::new`].

use super::fold::{digit, fold_into, is_apostrophe, is_dash, is_ignorable, is_word_char};
use super::lexicon::{Lexicon, mark};

/// What a word is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Letters,
    Digits,
    /// Letters and digits.
    Mixed,
    /// One character that is no part of a word.
    Mark(char),
}

/// How a word of letters is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Lower,
    /// One capital, then small letters.
    Capital,
    /// Capitals only, two or more.
    Upper,
    /// One capital alone.
    Initial,
    /// Capitals inside, such as "McDonald" and "BronxCare".
    Inner,
    None,
}

/// What stands before a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gap {
    Nothing,
    Space,
    Line,
}

/// One word, or one mark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Word {
    pub(crate) start: usize,
    pub(crate) end: usize,
    fold_start: u32,
    fold_end: u32,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    pub(crate) gap: Gap,
    pub(crate) marks: u32,
}

/// A text in words.
pub(crate) struct Reading<'t> {
    pub(crate) text: &'t str,
    pub(crate) words: Vec<Word>,
    folds: String,
}

impl<'t> Reading<'t> {
    pub(crate) fn new(text: &'t str, lexicon: &Lexicon) -> Self {
        let mut reading = Self {
            text,
            words: Vec::with_capacity(text.len() / 5 + 4),
            folds: String::with_capacity(text.len()),
        };
        reading.cut();
        for at in 0..reading.words.len() {
            let marks = match reading.words.get(at) {
                Some(word) if !matches!(word.kind, Kind::Mark(_)) => {
                    lexicon.marks(reading.fold(at))
                }
                _ => 0,
            };
            if let Some(word) = reading.words.get_mut(at) {
                word.marks = marks;
            }
        }
        reading
    }

    fn cut(&mut self) {
        let text = self.text;
        let mut chars = text.char_indices().peekable();
        let mut gap = Gap::Line;
        while let Some((start, c)) = chars.next() {
            if c.is_whitespace() {
                gap = gap.max(if matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}') {
                    Gap::Line
                } else {
                    Gap::Space
                });
                continue;
            }
            if is_ignorable(c) {
                continue;
            }
            let fold_start = self.folds.len();
            if !is_word_char(c) {
                self.push(
                    start,
                    start + c.len_utf8(),
                    fold_start,
                    Kind::Mark(c),
                    Shape::None,
                    gap,
                );
                gap = Gap::Nothing;
                continue;
            }
            let mut end = start + c.len_utf8();
            let mut seen = Seen::default();
            seen.add(c);
            fold_into(c, &mut self.folds);
            while let Some((at, c)) = chars.peek().copied() {
                if is_word_char(c) {
                    if !is_ignorable(c) {
                        seen.add(c);
                    }
                    fold_into(c, &mut self.folds);
                    end = at + c.len_utf8();
                    chars.next();
                } else if is_apostrophe(c) && seen.digits == 0 && joins(text, at + c.len_utf8()) {
                    chars.next();
                } else {
                    break;
                }
            }
            let (kind, shape) = seen.result();
            self.push(start, end, fold_start, kind, shape, gap);
            gap = Gap::Nothing;
            // A possessive ending belongs to no word.
            if let Some((at, c)) = chars.peek().copied()
                && is_apostrophe(c)
                && is_possessive(text, at + c.len_utf8())
            {
                chars.next();
                chars.next();
            }
        }
    }

    fn push(
        &mut self,
        start: usize,
        end: usize,
        fold_start: usize,
        kind: Kind,
        shape: Shape,
        gap: Gap,
    ) {
        self.words.push(Word {
            start,
            end,
            fold_start: u32::try_from(fold_start).unwrap_or(u32::MAX),
            fold_end: u32::try_from(self.folds.len()).unwrap_or(u32::MAX),
            kind,
            shape,
            gap,
            marks: 0,
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    pub(crate) fn at(&self, at: usize) -> Option<&Word> {
        self.words.get(at)
    }

    /// The folded form; empty for marks and beyond the end.
    pub(crate) fn fold(&self, at: usize) -> &str {
        self.words
            .get(at)
            .and_then(|word| {
                self.folds
                    .get(word.fold_start as usize..word.fold_end as usize)
            })
            .unwrap_or("")
    }

    pub(crate) fn kind(&self, at: usize) -> Option<Kind> {
        self.at(at).map(|word| word.kind)
    }

    pub(crate) fn shape(&self, at: usize) -> Shape {
        self.at(at).map_or(Shape::None, |word| word.shape)
    }

    pub(crate) fn is_mark(&self, at: usize, mark: char) -> bool {
        self.kind(at) == Some(Kind::Mark(mark))
    }

    pub(crate) fn is_any_mark(&self, at: usize, marks: &str) -> bool {
        matches!(self.kind(at), Some(Kind::Mark(c)) if marks.contains(c))
    }

    pub(crate) fn is_dash(&self, at: usize) -> bool {
        matches!(self.kind(at), Some(Kind::Mark(c)) if is_dash(c))
    }

    pub(crate) fn is_apostrophe(&self, at: usize) -> bool {
        matches!(self.kind(at), Some(Kind::Mark(c)) if is_apostrophe(c))
    }

    /// Whether all of these marks of the lexicon hold.
    pub(crate) fn has(&self, at: usize, marks: u32) -> bool {
        self.at(at).is_some_and(|word| word.marks & marks == marks)
    }

    /// Whether any of these marks of the lexicon holds.
    pub(crate) fn any(&self, at: usize, marks: u32) -> bool {
        self.at(at).is_some_and(|word| word.marks & marks != 0)
    }

    /// Whether nothing stands between this and what comes before it.
    pub(crate) fn touches(&self, at: usize) -> bool {
        self.at(at).is_some_and(|word| word.gap == Gap::Nothing)
    }

    /// Whether a line ends before it.
    pub(crate) fn begins_line(&self, at: usize) -> bool {
        at == 0 || self.at(at).is_some_and(|word| word.gap == Gap::Line)
    }

    /// Whether a sentence, line or heading begins here, so that a capital letter means nothing.
    pub(crate) fn begins_sentence(&self, at: usize) -> bool {
        if self.begins_line(at) {
            return true;
        }
        let mut before = at;
        // Quotes and brackets open a sentence together with its first word.
        for _ in 0..2 {
            let Some(previous) = before.checked_sub(1) else {
                return true;
            };
            match self.kind(previous) {
                Some(Kind::Mark('.' | '!' | '?' | ':' | ';' | '•' | '*')) => {
                    return !self.ends_short_form(previous);
                }
                Some(Kind::Mark('"' | '\u{201C}')) => before = previous,
                _ => return false,
            }
        }
        false
    }

    /// Whether the dot belongs to an initial or a form of address, not to a sentence.
    fn ends_short_form(&self, dot: usize) -> bool {
        self.is_mark(dot, '.')
            && dot.checked_sub(1).is_some_and(|word| {
                self.shape(word) == Shape::Initial
                    || self.any(word, mark::TITLE | mark::CREDENTIAL)
                    || matches!(self.fold(word), "st" | "mt" | "ft")
            })
    }

    /// A word that begins with a capital letter.
    pub(crate) fn is_capital(&self, at: usize) -> bool {
        matches!(self.shape(at), Shape::Capital | Shape::Upper | Shape::Inner)
    }

    pub(crate) fn is_letters(&self, at: usize) -> bool {
        self.kind(at) == Some(Kind::Letters)
    }

    pub(crate) fn is_digits(&self, at: usize) -> bool {
        self.kind(at) == Some(Kind::Digits)
    }

    /// Where words that follow each other end, the first of them at `at`; at most so many marks between two of them
    /// are passed over, if they pass.
    pub(crate) fn follow(
        &self,
        at: usize,
        rest: &[Box<str>],
        marks_max: usize,
        passes: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut next = at + 1;
        for word in rest {
            let mut marks = 0;
            while marks < marks_max
                && matches!(self.kind(next), Some(Kind::Mark(_)))
                && passes(next)
            {
                next += 1;
                marks += 1;
            }
            if self.fold(next) != word.as_ref() {
                return None;
            }
            next += 1;
        }
        Some(next)
    }

    /// The value of a word of digits, up to nine of them.
    pub(crate) fn number(&self, at: usize) -> Option<u32> {
        if !self.is_digits(at) || self.fold(at).len() > 9 {
            return None;
        }
        self.fold(at).parse().ok()
    }
}

/// What a word was made of.
#[derive(Default)]
struct Seen {
    letters: usize,
    digits: usize,
    capitals: usize,
    begins_capital: bool,
}

impl Seen {
    fn add(&mut self, c: char) {
        if digit(c).is_some() {
            self.digits += 1;
            return;
        }
        if c.is_uppercase() {
            self.capitals += 1;
            self.begins_capital |= self.letters == 0 && self.digits == 0;
        }
        self.letters += 1;
    }

    fn result(&self) -> (Kind, Shape) {
        let kind = match (self.letters, self.digits) {
            (0, _) => return (Kind::Digits, Shape::None),
            (_, 0) => Kind::Letters,
            _ => Kind::Mixed,
        };
        let shape = match (self.begins_capital, self.capitals) {
            (_, 0) => Shape::Lower,
            (true, 1) if self.letters == 1 => Shape::Initial,
            (_, capitals) if capitals == self.letters && capitals > 1 => Shape::Upper,
            (true, 1) => Shape::Capital,
            (true, _) => Shape::Inner,
            (false, _) => Shape::Lower,
        };
        (kind, shape)
    }
}

/// Whether an apostrophe stands inside a word ("O'Brien", "don't") rather than at its end.
fn joins(text: &str, after: usize) -> bool {
    let mut rest = text.get(after..).unwrap_or("").chars();
    rest.next().is_some_and(char::is_alphabetic) && !is_possessive(text, after)
}

/// Whether what follows an apostrophe is the `s` of a possessive.
fn is_possessive(text: &str, after: usize) -> bool {
    let mut rest = text.get(after..).unwrap_or("").chars();
    matches!(rest.next(), Some('s' | 'S')) && !rest.next().is_some_and(is_word_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let reading = Reading::new(text, Lexicon::embedded().unwrap());
        (0..reading.len())
            .map(|at| match reading.kind(at) {
                Some(Kind::Mark(c)) => c.to_string(),
                _ => reading.fold(at).to_owned(),
            })
            .collect()
    }

    #[test]
    fn words_marks_and_possessives() {
        assert_eq!(
            words("O'Brien's X-ray, 12th; don’t"),
            ["obrien", "x", "-", "ray", ",", "12th", ";", "dont"]
        );
        assert_eq!(
            words("Jan 9th '23 john_smith"),
            ["jan", "9th", "'", "23", "john", "_", "smith"]
        );
        assert_eq!(words(""), Vec::<String>::new());
    }

    #[test]
    fn places_and_shapes() {
        let reading = Reading::new("Dr. Ann McDonald\nICU J. é2", Lexicon::embedded().unwrap());
        assert_eq!(
            reading
                .text
                .get(reading.words[2].start..reading.words[2].end),
            Some("Ann")
        );
        let shapes: Vec<Shape> = reading.words.iter().map(|word| word.shape).collect();
        assert_eq!(
            shapes,
            [
                Shape::Capital,
                Shape::None,
                Shape::Capital,
                Shape::Inner,
                Shape::Upper,
                Shape::Initial,
                Shape::None,
                Shape::Lower
            ]
        );
        assert!(
            reading.begins_sentence(0) && !reading.begins_sentence(2) && reading.begins_sentence(4)
        );
    }
}
