//! The text of HTML, XHTML and other markup: tags, attributes, comments, scripts and styles are dropped,
//! entities become characters, blocks become lines.
//!
//! What remains is exactly what is scrubbed and shown; nothing of the markup passes. Start at [`text_of`].

/// Longest entity, in characters.
const ENTITY_CHARS_MAX: usize = 12;

/// Elements whose content is no text.
const SILENT: [&str; 6] = ["script", "style", "head", "template", "noscript", "svg"];

/// Elements that do not break a word.
const INLINE: [&str; 19] = [
    "a", "b", "i", "u", "em", "strong", "span", "font", "sub", "sup", "small", "big", "tt", "code",
    "abbr", "q", "s", "mark", "wbr",
];

/// Whether a text holds tags or character references, and would hide something if it were read as it stands.
pub fn is_markup(text: &str) -> bool {
    let has_tag = text.match_indices('<').any(|(at, _)| {
        let rest = text.get(at + 1..).unwrap_or("");
        rest.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?'))
            && rest.contains('>')
    });
    has_tag
        || text
            .match_indices('&')
            .any(|(at, _)| entity(text.get(at + 1..).unwrap_or("")).is_some())
}

/// What a reader sees of markup.
pub fn text_of(markup: &str) -> String {
    let mut out = String::with_capacity(markup.len());
    let mut rest = markup;
    while let Some(at) = rest.find(['<', '&']) {
        let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(before);
        rest = if from.starts_with('<') {
            tag(from, &mut out)
        } else {
            character(from, &mut out)
        };
    }
    out.push_str(rest);
    tidy(&out)
}

/// Passes over one tag, comment or silent element; a lone `<` is text.
fn tag<'t>(from: &'t str, out: &mut String) -> &'t str {
    let after = from.get(1..).unwrap_or("");
    if let Some(comment) = after.strip_prefix("!--") {
        return comment.split_once("-->").map_or("", |(_, rest)| rest);
    }
    if let Some(cdata) = after.strip_prefix("![CDATA[") {
        let (text, rest) = cdata.split_once("]]>").unwrap_or((cdata, ""));
        out.push_str(text);
        return rest;
    }
    if !after.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?')) {
        out.push('<');
        return after;
    }
    let Some(close) = tag_end(after) else {
        // Never closed: what follows is no tag that anybody would show.
        return "";
    };
    let (inside, rest) = after.split_at_checked(close).unwrap_or((after, ""));
    let rest = rest.get(1..).unwrap_or("");
    let name: String = inside
        .trim_start_matches('/')
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if SILENT.contains(&name.as_str()) && !inside.starts_with('/') && !inside.ends_with('/') {
        return after_element(rest, &name);
    }
    match name.as_str() {
        "td" | "th" if inside.starts_with('/') => {}
        "td" | "th" => out.push('\t'),
        name if INLINE.contains(&name) => {}
        _ => out.push('\n'),
    }
    rest
}

/// Where a tag ends; a `>` in a quoted attribute does not end it.
fn tag_end(after: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in after.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    // A quote that is never closed must not swallow the rest.
    after.find('>')
}

fn after_element<'t>(rest: &'t str, name: &str) -> &'t str {
    let lower = rest.to_ascii_lowercase();
    match lower.find(&format!("</{name}")) {
        Some(at) => rest
            .get(at..)
            .and_then(|end| end.split_once('>'))
            .map_or("", |(_, rest)| rest),
        None => "",
    }
}

/// Reads one character reference, or leaves the `&`.
fn character<'t>(from: &'t str, out: &mut String) -> &'t str {
    let after = from.get(1..).unwrap_or("");
    match entity(after) {
        Some((c, length)) => {
            out.push_str(&c);
            after.get(length..).unwrap_or("")
        }
        None => {
            out.push('&');
            after
        }
    }
}

/// The characters of a reference, and its length behind the `&`.
///
/// # Source
/// HTML, named character references: those of XML, and those that notes in practice hold.
fn entity(after: &str) -> Option<(String, usize)> {
    let name: String = after
        .chars()
        .take(ENTITY_CHARS_MAX)
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '#')
        .collect();
    let closed = after.get(name.len()..)?.starts_with(';');
    let length = name.len() + usize::from(closed);
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        return Some((c.to_string(), length));
    }
    if !closed {
        return None;
    }
    let text = match name.as_str() {
        "amp" | "AMP" => "&",
        "lt" | "LT" => "<",
        "gt" | "GT" => ">",
        "quot" | "QUOT" => "\"",
        "apos" | "lsquo" | "rsquo" => "'",
        "nbsp" | "ensp" | "emsp" | "thinsp" => " ",
        "ldquo" | "rdquo" => "\"",
        "ndash" | "mdash" | "minus" | "hyphen" => "-",
        "shy" | "zwj" | "zwnj" => "",
        "bull" => "•",
        "hellip" => "…",
        "deg" => "°",
        "micro" => "µ",
        "plusmn" => "±",
        "le" => "≤",
        "ge" => "≥",
        "commat" => "@",
        "period" => ".",
        "comma" => ",",
        "colon" => ":",
        "sol" => "/",
        "num" => "#",
        "lpar" => "(",
        "rpar" => ")",
        "Tab" | "NewLine" => "\n",
        _ => return letter(&name).map(|c| (c.to_string(), length)),
    };
    Some((text.to_owned(), length))
}

/// Letters with accents: `&eacute;` and its kin.
fn letter(name: &str) -> Option<char> {
    let mut chars = name.chars();
    let base = chars.next()?;
    let mark = match chars.as_str() {
        "acute" => '\u{301}',
        "grave" => '\u{300}',
        "circ" => '\u{302}',
        "tilde" => '\u{303}',
        "uml" => '\u{308}',
        "cedil" => '\u{327}',
        "ring" => '\u{30A}',
        "caron" => '\u{30C}',
        "slash" => return Some(if base.is_uppercase() { 'Ø' } else { 'ø' }),
        _ => return None,
    };
    compose(base, mark)
}

fn compose(base: char, mark: char) -> Option<char> {
    const LETTERS: [(&str, char); 8] = [
        ("ÁÉÍÓÚÝáéíóúý", '\u{301}'),
        ("ÀÈÌÒÙàèìòù", '\u{300}'),
        ("ÂÊÎÔÛâêîôû", '\u{302}'),
        ("ÃÑÕãñõ", '\u{303}'),
        ("ÄËÏÖÜÿäëïöü", '\u{308}'),
        ("Çç", '\u{327}'),
        ("Åå", '\u{30A}'),
        ("ŠšŽžČč", '\u{30C}'),
    ];
    let (letters, _) = LETTERS.iter().find(|(_, it)| *it == mark)?;
    letters.chars().find(|c| {
        let plain = super::fold::fold(&c.to_string());
        plain.eq_ignore_ascii_case(&base.to_string()) && c.is_uppercase() == base.is_uppercase()
    })
}

/// One line break for many, no spaces at the ends of lines.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(line);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_text_and_nothing_else() {
        let html = "<html><head><title>T</title></head><body><!-- MRN 1 --><p title=\"a > b\">J<b>o</b>hn&nbsp;&#82;oe</p>\
                    <script>x</script><td>1</td><td>2</td> a < b &amp; c &eacute;</body>";
        assert_eq!(text_of(html), "John Roe\n1\t2 a < b & c é");
        assert_eq!(text_of("<p>open <b"), "open");
        assert_eq!(text_of("&unknown; & x"), "&unknown; & x");
    }

    #[test]
    fn measurements_are_no_markup_and_references_are() {
        assert!(!is_markup("BP < 120 & > 80, Na <135"));
        assert!(is_markup("J&#111;hn") && is_markup("<i>x</i>") && is_markup("a&amp;b"));
    }
}
