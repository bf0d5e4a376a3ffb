//! The text of RTF: groups, control words, characters by code. Everything that is no running text (fonts,
//! styles, pictures, objects, document information) is dropped. Start at [`text_of`].
//!
//! # Source
//! Rich Text Format (RTF) Specification, version 1.9.1.

use rustc_hash::FxHashSet;

/// Deepest nesting of groups.
const DEPTH_MAX: usize = 200;

/// The code page that is read.
const WESTERN_PAGE: i32 = 1252;

/// Destinations whose content is no running text.
const SILENT: [&str; 22] = [
    "fonttbl",
    "colortbl",
    "stylesheet",
    "info",
    "pict",
    "object",
    "listtable",
    "listoverridetable",
    "rsidtbl",
    "generator",
    "themedata",
    "colorschememapping",
    "latentstyles",
    "datastore",
    "xmlnstbl",
    "filetbl",
    "revtbl",
    "private",
    "fldinst",
    "bkmkstart",
    "bkmkend",
    "shppict",
];

/// What a reader sees of RTF; `None` when it is none, is broken, or holds bytes that are not text.
pub fn text_of(rtf: &str) -> Option<String> {
    if !rtf.trim_start().starts_with("{\\rtf") {
        return None;
    }
    let mut reader = Reader {
        rest: rtf.trim_start(),
        out: String::with_capacity(rtf.len() / 2),
        groups: Vec::new(),
        skip: 0,
        is_of_other_page: false,
        other_fonts: FxHashSet::default(),
    };
    reader.read()?;
    Some(reader.out.trim().to_owned())
}

#[derive(Clone, Copy)]
struct Group {
    is_silent: bool,
    /// Characters that stand in for one that is given by its code.
    fallback: usize,
    /// The font by its number: that of the text, or in the list of fonts the one that is described.
    font: i32,
}

struct Reader<'t> {
    rest: &'t str,
    out: String,
    groups: Vec<Group>,
    /// Fallback characters still to be passed over.
    skip: usize,
    /// Whether the document names another code page than the Western one.
    is_of_other_page: bool,
    /// Fonts that are of another code page.
    other_fonts: FxHashSet<i32>,
}

impl Reader<'_> {
    fn read(&mut self) -> Option<()> {
        while let Some(c) = self.rest.chars().next() {
            self.rest = self.rest.get(c.len_utf8()..)?;
            match c {
                '{' => {
                    let outer = self.groups.last().copied().unwrap_or(Group {
                        is_silent: false,
                        fallback: 1,
                        font: 0,
                    });
                    if self.groups.len() >= DEPTH_MAX {
                        return None;
                    }
                    self.groups.push(outer);
                }
                '}' => {
                    self.groups.pop()?;
                    self.skip = 0;
                    if self.groups.is_empty() {
                        return Some(());
                    }
                }
                '\\' => self.control()?,
                '\r' | '\n' => {}
                other => self.put(other),
            }
        }
        // The outermost group was never closed.
        None
    }

    /// Whether the next character is running text, and not one that stands in for another.
    fn is_shown(&self) -> bool {
        self.skip == 0 && !self.groups.last().is_some_and(|group| group.is_silent)
    }

    fn is_other_page(&self) -> bool {
        let font = self.groups.last().map_or(0, |group| group.font);
        self.is_of_other_page || self.other_fonts.contains(&font)
    }

    fn put(&mut self, c: char) {
        if self.is_shown() {
            self.out.push(c);
        }
        self.skip = self.skip.saturating_sub(1);
    }

    fn control(&mut self) -> Option<()> {
        let first = self.rest.chars().next()?;
        if !first.is_ascii_alphabetic() {
            self.rest = self.rest.get(first.len_utf8()..)?;
            return self.symbol(first);
        }
        let letters = self
            .rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(self.rest.len());
        let (word, after) = self.rest.split_at_checked(letters)?;
        let digits_from = usize::from(after.starts_with('-'));
        let digits = after.get(digits_from..)?;
        let length = digits
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(digits.len());
        let number: Option<i32> = after.get(..digits_from + length)?.parse().ok();
        let used = if length == 0 { 0 } else { digits_from + length };
        self.rest = after.get(used..)?;
        self.rest = self.rest.strip_prefix(' ').unwrap_or(self.rest);
        self.word(word, number)
    }

    fn word(&mut self, word: &str, number: Option<i32>) -> Option<()> {
        match word {
            "par" | "line" | "row" | "sect" | "page" => self.put('\n'),
            "tab" | "cell" => self.put('\t'),
            "emdash" | "endash" => self.put('-'),
            "lquote" | "rquote" => self.put('\''),
            "ldblquote" | "rdblquote" => self.put('"'),
            "bullet" => self.put('•'),
            "uc" => {
                let count = usize::try_from(number?).ok()?;
                if let Some(group) = self.groups.last_mut() {
                    group.fallback = count;
                }
            }
            "u" => {
                let code = u32::try_from(number?.rem_euclid(0x1_0000)).ok()?;
                self.put(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                self.skip = self.groups.last().map_or(1, |group| group.fallback);
            }
            "ansicpg" => self.is_of_other_page |= number != Some(WESTERN_PAGE),
            "mac" | "pc" | "pca" => self.is_of_other_page = true,
            "f" | "deff" => {
                if let Some(group) = self.groups.last_mut() {
                    group.font = number?;
                }
            }
            // Western, "the default", and symbols, which are no letters of names.
            "fcharset" if !matches!(number, Some(0..=2)) => {
                self.other_fonts
                    .extend(self.groups.last().map(|group| group.font));
            }
            // Raw bytes follow: not text.
            "bin" => return None,
            _ if SILENT.contains(&word) => self.silence(),
            _ => {}
        }
        Some(())
    }

    fn symbol(&mut self, symbol: char) -> Option<()> {
        match symbol {
            '\'' => {
                let code = self.rest.get(..2)?;
                self.rest = self.rest.get(2..)?;
                let byte = u8::from_str_radix(code, 16).ok()?;
                // A byte of another code page would become another letter, in which no known name is found.
                if !byte.is_ascii() && self.is_shown() && self.is_other_page() {
                    return None;
                }
                self.put(windows_1252(byte));
            }
            '~' => self.put(' '),
            '_' => self.put('-'),
            // An optional hyphen is not seen.
            '-' => {}
            // An optional destination: not for readers that do not know it.
            '*' => self.silence(),
            '\r' | '\n' => self.put('\n'),
            other => self.put(other),
        }
        Some(())
    }

    fn silence(&mut self) {
        if let Some(group) = self.groups.last_mut() {
            group.is_silent = true;
        }
    }
}

/// A byte of the usual Western code page.
///
/// # Source
/// Unicode Consortium, mapping of code page 1252.
pub(crate) fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8D}', 'Ž',
        '\u{8F}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9D}',
        'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9F => HIGH.get(usize::from(byte - 0x80)).copied().unwrap_or(' '),
        other => char::from(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_text_and_nothing_else() {
        let rtf = r"{\rtf1\ansi{\fonttbl\f0 Arial;}{\info{\author Jane Roe}}\f0 Pt: Jos\'e9 \b Mu\u241?oz\b0\par MRN 12\~34{\*\bkmkstart x}}";
        assert_eq!(text_of(rtf).unwrap(), "Pt: José Muñoz\nMRN 12 34");
        // Characters by their number are the same in every code page.
        let other_font =
            r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0\fcharset0 A;}{\f1\fcharset204 B;}}\f0 Mu\'f1oz}";
        assert_eq!(text_of(other_font).unwrap(), "Muñoz");
        let numbered =
            r"{\rtf1\ansi\ansicpg1251{\fonttbl{\f1\fcharset204 Arial;}}\u1052\'cc\u1091\'f3 x}";
        assert_eq!(text_of(numbered).unwrap(), "Му x");
    }

    #[test]
    fn what_is_broken_or_binary_is_not_read() {
        for bad in [
            "plain",
            r"{\rtf1 open",
            r"{\rtf1 \bin4 abcd}",
            r"{\rtf1 \'z}",
            r"{\rtf1\ansi\ansicpg1251 \'cc\'f3\'ed\'ee\'e7}",
            r"{\rtf1\mac Mu\'96oz}",
            r"{\rtf1\ansi\ansicpg1252{\fonttbl{\f1\fcharset204 Arial;}}\f1 \'cc\'f3}",
        ] {
            assert_eq!(text_of(bad), None, "{bad}");
        }
        assert_eq!(
            text_of(&format!("{{\\rtf1 {}", "{".repeat(DEPTH_MAX + 1))),
            None
        );
    }
}
