//! One form for the many ways to write a letter: lower case, without accents, and without the invisible
//! and look-alike characters that would let a name slip through. Start at [`fold_into`].

/// Characters that are not seen, or only mark the letter before them.
pub(crate) fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{180E}' | '\u{FEFF}'
        | '\u{0300}'..='\u{036F}'
        | '\u{200B}'..='\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{2064}'
        | '\u{2066}'..='\u{206F}'
        | '\u{FE00}'..='\u{FE0F}'
        | '\u{E0000}'..='\u{E007F}')
}

/// Characters that a word is made of.
pub(crate) fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || is_ignorable(c)
}

/// Apostrophes, as keyboards and word processors write them.
pub(crate) fn is_apostrophe(c: char) -> bool {
    matches!(
        c,
        '\'' | '\u{2019}' | '\u{02BC}' | '\u{00B4}' | '\u{2018}' | '`' | '\u{FF07}'
    )
}

/// Hyphens and dashes.
pub(crate) fn is_dash(c: char) -> bool {
    matches!(
        c,
        '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{FE58}' | '\u{FE63}' | '\u{FF0D}'
    )
}

/// The decimal digit that a character shows, of the scripts and forms that are read as such.
pub(crate) fn digit(c: char) -> Option<char> {
    let zero = match c {
        '0'..='9' => return Some(c),
        '\u{FF10}'..='\u{FF19}' => 0xFF10,
        '\u{0660}'..='\u{0669}' => 0x0660,
        '\u{06F0}'..='\u{06F9}' => 0x06F0,
        '\u{0966}'..='\u{096F}' => 0x0966,
        '\u{1D7CE}'..='\u{1D7FF}' => return char::from_digit((c as u32 - 0x1D7CE) % 10, 10),
        _ => return None,
    };
    char::from_digit(c as u32 - zero, 10)
}

/// Adds a character's plain form, which may be nothing, or two letters.
pub(crate) fn fold_into(c: char, out: &mut String) {
    if c.is_ascii() {
        out.push(c.to_ascii_lowercase());
        return;
    }
    if is_ignorable(c) {
        return;
    }
    if let Some(digit) = digit(c) {
        out.push(digit);
        return;
    }
    if let '\u{FF21}'..='\u{FF3A}' | '\u{FF41}'..='\u{FF5A}' = c {
        let ascii = char::from_u32(c as u32 - 0xFEE0).unwrap_or(c);
        out.push(ascii.to_ascii_lowercase());
        return;
    }
    match latin(c) {
        "" => out.extend(c.to_lowercase()),
        plain => out.push_str(plain),
    }
}

/// The plain form of a text.
pub(crate) fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        fold_into(c, &mut out);
    }
    out
}

/// The letters and digits of a text alone, in plain form: what is left of an identifier when its
/// separators are dropped.
pub(crate) fn compact(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| is_word_char(*c)) {
        fold_into(c, &mut out);
    }
    out
}

fn latin(c: char) -> &'static str {
    match c {
        'À'..='Å' | 'à'..='å' | 'Ā'..='ą' | 'Ǎ' | 'ǎ' | 'Ạ'..='ặ' => "a",
        'Æ' | 'æ' => "ae",
        'Ç' | 'ç' | 'Ć'..='č' => "c",
        'Ð' | 'ð' | 'Ď'..='đ' => "d",
        'È'..='Ë' | 'è'..='ë' | 'Ē'..='ě' | 'Ẹ'..='ệ' => "e",
        'Ĝ'..='ģ' | 'Ǧ' | 'ǧ' => "g",
        'Ĥ'..='ħ' => "h",
        'Ì'..='Ï' | 'ì'..='ï' | 'Ĩ'..='ı' | 'Ǐ' | 'ǐ' | 'Ỉ'..='ị' => "i",
        'Ĵ' | 'ĵ' => "j",
        'Ķ'..='ĸ' => "k",
        'Ĺ'..='ł' => "l",
        'Ñ' | 'ñ' | 'Ń'..='ŋ' => "n",
        'Ò'..='Ö' | 'ò'..='ö' | 'Ø' | 'ø' | 'Ō'..='ő' | 'Ơ' | 'ơ' | 'Ǒ' | 'ǒ' | 'Ọ'..='ợ' => {
            "o"
        }
        'Œ' | 'œ' => "oe",
        'Ŕ'..='ř' => "r",
        'Ś'..='š' | 'Ș' | 'ș' | 'ſ' => "s",
        'ß' | 'ẞ' => "ss",
        'Ţ'..='ŧ' | 'Ț' | 'ț' => "t",
        'Ù'..='Ü' | 'ù'..='ü' | 'Ũ'..='ų' | 'Ư' | 'ư' | 'Ǔ' | 'ǔ' | 'Ụ'..='ự' => "u",
        'Ŵ' | 'ŵ' => "w",
        'Ý' | 'ý' | 'ÿ' | 'Ŷ'..='Ÿ' | 'Ỳ'..='ỹ' => "y",
        'Ź'..='ž' => "z",
        'Þ' | 'þ' => "th",
        // Letters of other alphabets that look like Latin ones.
        'А' | 'а' | 'Α' | 'α' => "a",
        'В' | 'Β' => "b",
        'С' | 'с' | 'ϲ' => "c",
        'Е' | 'е' | 'Ё' | 'ё' | 'Ε' | 'ε' => "e",
        'Н' | 'Η' => "h",
        'І' | 'і' | 'Ι' | 'ι' | 'Ї' | 'ї' => "i",
        'Ј' | 'ј' => "j",
        'К' | 'к' | 'Κ' | 'κ' => "k",
        'М' | 'Μ' => "m",
        'Ν' => "n",
        'О' | 'о' | 'Ο' | 'ο' => "o",
        'Р' | 'р' | 'Ρ' | 'ρ' => "p",
        'Ѕ' | 'ѕ' => "s",
        'Т' | 'Τ' | 'τ' => "t",
        'У' | 'у' | 'Υ' | 'υ' => "y",
        'Х' | 'х' | 'Χ' | 'χ' => "x",
        'Ζ' => "z",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_the_same_folds_the_same() {
        for text in [
            "Munoz",
            "MUÑOZ",
            "Muñoz",
            "Mun\u{303}oz",
            "Mu\u{200b}noz",
            "Mu\u{ad}noz",
            "Ｍｕｎｏｚ",
            "Мunoz",
        ] {
            assert_eq!(fold(text), "munoz", "{text:?}");
        }
        assert_eq!(fold("Nguyễn Łukasz Øre"), "nguyen lukasz ore");
        assert_ne!(fold("Munro"), fold("Munoz"));
        assert_eq!(compact("MRN 12-３4.x"), "mrn1234x");
        assert_eq!(digit('٣'), Some('3'));
        assert_eq!(digit('x'), None);
    }
}
