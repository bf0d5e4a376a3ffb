//! The text of HTML, XHTML and other markup: tags, attributes, comments, scripts and styles are dropped,
//! entities become characters, blocks become lines.
//!
//! Notes hold `<` where they compare ("WBC <normal"): in a text that does not say that it is markup, only what
//! HTML calls an element, or what is closed further on, is a tag; everything else stays and is read as text.
//! What remains is exactly what is scrubbed and shown; nothing of the markup passes. Start at [`text_of`].

use rustc_hash::FxHashMap;

/// Longest entity, in characters.
const ENTITY_CHARS_MAX: usize = 12;

/// Longest name of an element, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Elements whose content is no text.
const SILENT: [&str; 6] = ["script", "style", "head", "template", "noscript", "svg"];

/// Elements that do not break a word.
const INLINE: [&str; 19] = [
    "a", "b", "i", "u", "em", "strong", "span", "font", "sub", "sup", "small", "big", "tt", "code",
    "abbr", "q", "s", "mark", "wbr",
];

/// Elements that break a line, or are drawn.
///
/// # Source
/// HTML Living Standard, section 4, and the elements that older standards had.
const BLOCK: [&str; 77] = [
    "html",
    "head",
    "body",
    "title",
    "meta",
    "link",
    "base",
    "style",
    "script",
    "noscript",
    "template",
    "svg",
    "p",
    "div",
    "br",
    "hr",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "ul",
    "ol",
    "li",
    "dl",
    "dt",
    "dd",
    "table",
    "caption",
    "colgroup",
    "col",
    "thead",
    "tbody",
    "tfoot",
    "tr",
    "td",
    "th",
    "pre",
    "blockquote",
    "address",
    "article",
    "section",
    "nav",
    "aside",
    "header",
    "footer",
    "main",
    "figure",
    "figcaption",
    "img",
    "map",
    "area",
    "form",
    "fieldset",
    "legend",
    "label",
    "input",
    "button",
    "select",
    "option",
    "textarea",
    "iframe",
    "object",
    "param",
    "video",
    "audio",
    "source",
    "center",
    "del",
    "ins",
    "strike",
    "cite",
    "dfn",
    "kbd",
    "samp",
    "var",
];

/// Attributes that stand without a value.
const BARE: [&str; 12] = [
    "nowrap", "noshade", "async", "defer", "disabled", "checked", "hidden", "readonly", "required",
    "open", "compact", "selected",
];

/// Which names make a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Those of HTML, and those that are closed in the same text: for texts that do not say what they are.
    Known,
    /// Any: for what is declared to be markup.
    Any,
}

/// Whether a text holds tags or character references, and would hide something if it were read as it stands.
pub fn is_markup(text: &str) -> bool {
    let tags = Tags::of(text, Names::Known);
    let has_tag = text
        .match_indices('<')
        .any(|(at, _)| !matches!(tags.at(at), Piece::Text));
    has_tag
        || text
            .match_indices('&')
            .any(|(at, _)| entity(text.get(at + 1..).unwrap_or("")).is_some())
}

/// What a reader sees of markup.
pub fn text_of(markup: &str, names: Names) -> String {
    let tags = Tags::of(markup, names);
    let mut out = String::with_capacity(markup.len());
    let mut done = 0;
    while let Some(found) = markup.get(done..).and_then(|rest| rest.find(['<', '&'])) {
        let at = done + found;
        out.push_str(markup.get(done..at).unwrap_or(""));
        done = if markup.get(at..).is_some_and(|it| it.starts_with('<')) {
            match tags.at(at) {
                Piece::Text => {
                    out.push('<');
                    at + 1
                }
                Piece::Section(from, to, end) => {
                    out.push_str(markup.get(from..to).unwrap_or(""));
                    end
                }
                Piece::Tag { end, between } => {
                    out.push_str(between);
                    end
                }
            }
        } else {
            at + character(markup.get(at..).unwrap_or(""), &mut out)
        };
    }
    out.push_str(markup.get(done..).unwrap_or(""));
    tidy(&out)
}

/// What begins at a `<`.
enum Piece {
    /// Nothing of markup.
    Text,
    /// A section of plain text: from, to, and where the section ends.
    Section(usize, usize, usize),
    /// A tag, comment or silent element.
    Tag {
        /// Where it ends.
        end: usize,
        /// What stands for it.
        between: &'static str,
    },
}

/// A text with what has to be known beforehand to find its tags in one pass.
struct Tags<'t> {
    text: &'t str,
    names: Names,
    /// Where the last `>`, the last end of a comment and the last end of a section stand.
    last_end: Option<usize>,
    last_comment_end: Option<usize>,
    last_section_end: Option<usize>,
    /// Names that are closed, and where last.
    closed: FxHashMap<String, usize>,
}

impl<'t> Tags<'t> {
    fn of(text: &'t str, names: Names) -> Self {
        let mut closed = FxHashMap::default();
        for (at, _) in text.match_indices("</") {
            let name = name_of(text.get(at + 2..).unwrap_or(""));
            if !name.is_empty() {
                closed.insert(name.to_ascii_lowercase(), at);
            }
        }
        Self {
            text,
            names,
            last_end: text.rfind('>'),
            last_comment_end: text.rfind("-->"),
            last_section_end: text.rfind("]]>"),
            closed,
        }
    }

    fn at(&self, at: usize) -> Piece {
        let from = at + 1;
        // What has no end further on is not looked for again at each beginning.
        let ends = |last: Option<usize>| last.is_some_and(|last| last > at);
        if !ends(self.last_end) {
            return Piece::Text;
        }
        let rest = self.text.get(from..).unwrap_or("");
        let dropped = |end| Piece::Tag { end, between: "" };
        if let Some(comment) = rest.strip_prefix("!--") {
            // A comment that is never closed hides nothing here: it is read as text.
            let is_closed = ends(self.last_comment_end);
            let length = if is_closed { comment.find("-->") } else { None };
            return length.map_or(Piece::Text, |length| dropped(from + 3 + length + 3));
        }
        if let Some(section) = rest.strip_prefix("![CDATA[") {
            let begin = from + 8;
            let is_closed = ends(self.last_section_end);
            let length = if is_closed { section.find("]]>") } else { None };
            return length.map_or(Piece::Text, |length| {
                Piece::Section(begin, begin + length, begin + length + 3)
            });
        }
        let is_declaration = rest
            .strip_prefix(['!', '?'])
            .is_some_and(|it| it.starts_with(|c: char| c.is_ascii_alphabetic()));
        if is_declaration {
            return rest.find('>').map_or(Piece::Text, |length| Piece::Tag {
                end: from + length + 1,
                between: "\n",
            });
        }
        self.tag(from, rest)
    }

    fn tag(&self, from: usize, rest: &str) -> Piece {
        let is_end = rest.starts_with('/');
        let named = rest.strip_prefix('/').unwrap_or(rest);
        let raw = name_of(named);
        let behind = named.get(raw.len()..).unwrap_or("");
        let ends_well = behind.starts_with(|c: char| c.is_whitespace() || c == '>' || c == '/');
        if raw.is_empty() || !ends_well {
            return Piece::Text;
        }
        let Some(length) = tag_length(rest) else {
            return Piece::Text;
        };
        let name = raw.to_ascii_lowercase();
        let attributes = rest
            .get(usize::from(is_end) + raw.len()..length)
            .unwrap_or("");
        if !self.is_tag(&name, is_end, attributes) {
            return Piece::Text;
        }
        let end = from + length + 1;
        let is_silent = SILENT.contains(&name.as_str()) && !is_end && !attributes.ends_with('/');
        if is_silent && self.closed.get(&name).is_some_and(|last| *last >= end) {
            return Piece::Tag {
                end: self.after_element(end, &name),
                between: "",
            };
        }
        let between = match name.as_str() {
            "td" | "th" if is_end => "",
            "td" | "th" => "\t",
            name if INLINE.contains(&name) => "",
            _ => "\n",
        };
        Piece::Tag { end, between }
    }

    fn is_tag(&self, name: &str, is_end: bool, attributes: &str) -> bool {
        if self.names == Names::Any {
            return true;
        }
        let is_known = INLINE.contains(&name) || BLOCK.contains(&name);
        let attributes = attributes.trim_end_matches('/').trim();
        let reads_well = attributes.is_empty()
            || attributes.contains('=')
            || attributes
                .split_whitespace()
                .all(|it| BARE.contains(&it.to_ascii_lowercase().as_str()));
        reads_well && (is_end || is_known || self.closed.contains_key(name))
    }

    /// Where the end tag of a silent element ends, which is known to be there.
    fn after_element(&self, from: usize, name: &str) -> usize {
        let mut at = from;
        while let Some(found) = self.text.get(at..).and_then(|rest| rest.find("</")) {
            let place = at + found + 2;
            let rest = self.text.get(place..).unwrap_or("");
            if name_of(rest).eq_ignore_ascii_case(name) {
                return rest
                    .find('>')
                    .map_or(self.text.len(), |length| place + length + 1);
            }
            at = place;
        }
        self.text.len()
    }
}

/// The name of an element that begins here.
///
/// # Source
/// Extensible Markup Language (XML) 1.0, `Name`, as far as it is ASCII.
fn name_of(rest: &str) -> &str {
    if !rest.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return "";
    }
    let length = rest
        .bytes()
        .take(NAME_BYTES_MAX)
        .take_while(|c| c.is_ascii_alphanumeric() || b":-_.".contains(c))
        .count();
    rest.get(..length).unwrap_or("")
}

/// How long a tag is, up to its `>`; one in a quoted attribute does not end it.
///
/// Another `<` outside of quotes ends the look, so that no text is gone through once for each of its tags.
fn tag_length(rest: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in rest.char_indices() {
        match (quote, c) {
            (None, '>') => return Some(at),
            (None, '<') => return None,
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    // A quote that is never closed must not swallow the rest.
    rest.find('>')
}

/// Reads one character reference, or leaves the `&`; how many bytes that was.
fn character(from: &str, out: &mut String) -> usize {
    match entity(from.get(1..).unwrap_or("")) {
        Some((c, length)) => {
            out.push_str(&c);
            1 + length
        }
        None => {
            out.push('&');
            1
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
        for names in [Names::Known, Names::Any] {
            assert_eq!(text_of(html, names), "John Roe\n1\t2 a < b & c é");
        }
        assert_eq!(text_of("&unknown; & x", Names::Any), "&unknown; & x");
        assert_eq!(
            text_of("<paragraph>a</paragraph><sdtc:x y='1'/>b", Names::Any),
            "a\nb"
        );
        assert_eq!(text_of("<![CDATA[a <b> c]]> d", Names::Any), "a <b> c d");
    }

    #[test]
    fn what_compares_stays_and_what_hides_goes() {
        for kept in [
            "INR <goal, CrCl >30",
            "WBC <normal, temp 39.5",
            "Na <135 and K >5",
            "pain <at rest and >on exertion",
            "AST <a third of normal> stable",
            "open <b",
            "<!-- never closed",
            "<svg then text >",
        ] {
            assert_eq!(text_of(kept, Names::Known), kept);
        }
        assert_eq!(
            text_of("a &amp; b, WBC <normal, temp 39.5", Names::Known),
            "a & b, WBC <normal, temp 39.5"
        );
        // What is closed is an element, whatever it is called.
        assert_eq!(text_of("Mu<x>n</x>oz <y>", Names::Known), "Mu\nn\noz <y>");
        assert_eq!(text_of("<td nowrap>1<hr noshade/>2", Names::Known), "1\n2");
    }

    #[test]
    fn measurements_are_no_markup_and_references_are() {
        for plain in [
            "BP < 120 & > 80, Na <135",
            "INR <goal, CrCl >30",
            "a <third of it> b",
        ] {
            assert!(!is_markup(plain), "{plain}");
        }
        for markup in [
            "J&#111;hn",
            "<i>x</i>",
            "a&amp;b",
            "R<B class=x>ob",
            "<br/>",
        ] {
            assert!(is_markup(markup), "{markup}");
        }
    }

    /// Long texts of tags that are never closed, of quotes that are never closed, and of elements without
    /// text: read in one pass, or this test does not end.
    #[test]
    fn no_text_is_gone_through_once_for_each_of_its_tags() {
        for unit in [
            "<a",
            "<a ",
            "<a '>' ",
            "<a \"'>",
            "<svg></svg>",
            "<svg>",
            "<!--",
            "<![CDATA[",
            "</x ",
            "<?x",
            "<a <b> '",
        ] {
            let text = unit.repeat((1 << 17) / unit.len());
            let closed = format!("{text}>");
            is_markup(&text);
            for names in [Names::Known, Names::Any] {
                assert!(text_of(&text, names).len() <= text.len());
                assert!(text_of(&closed, names).len() <= closed.len());
            }
        }
    }
}
