//! Narrative XHTML: one well-formed `div` of the elements and attributes that FHIR allows, with something
//! to read in it and nothing that acts.
//!
//! It does not render, clean or repair. Parsing is `roxmltree`'s: no document type, so no entities beyond
//! XML's five, and nothing outside the text is ever fetched.
//! Start at [`check`]; [`is_sound`] answers FHIRPath's `htmlChecks()`.
//!
//! Rules: <https://hl7.org/fhir/R4/narrative.html>, invariants txt-1 and txt-2 of Narrative.

use roxmltree::{Document, Node, NodeType, ParsingOptions};

/// The namespace of XHTML.
pub const NAMESPACE: &str = "http://www.w3.org/1999/xhtml";

/// Most nodes (elements, texts, comments) of one narrative.
const NODES_MAX: u32 = 200_000;

/// Most faults reported for one narrative.
const FAULTS_MAX: usize = 20;

/// What narrative may be made of, sorted.
///
/// # Source
/// FHIR R4 Narrative, txt-1 and its XPath form; `address`, `area`, `bdo`, `kbd` and `map` from the chapters of
/// HTML 4.0 that txt-1 names in words (7, 8, 9 and the images of 13).
const ELEMENTS: [&str; 53] = [
    "a",
    "abbr",
    "acronym",
    "address",
    "area",
    "b",
    "bdo",
    "big",
    "blockquote",
    "br",
    "caption",
    "cite",
    "code",
    "col",
    "colgroup",
    "dd",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "i",
    "img",
    "kbd",
    "li",
    "map",
    "ol",
    "p",
    "pre",
    "q",
    "samp",
    "small",
    "span",
    "strong",
    "sub",
    "sup",
    "table",
    "tbody",
    "td",
    "tfoot",
    "th",
    "thead",
    "tr",
    "tt",
    "ul",
    "var",
];

/// Attributes that elements of narrative may have, sorted.
///
/// # Source
/// FHIR R4 Narrative, XPath form of txt-1; `ismap`, `nohref` and `usemap` belong to images and maps.
const ATTRIBUTES: [&str; 52] = [
    "abbr",
    "accesskey",
    "align",
    "alt",
    "axis",
    "bgcolor",
    "border",
    "cellhalign",
    "cellpadding",
    "cellspacing",
    "cellvalign",
    "char",
    "charoff",
    "charset",
    "cite",
    "class",
    "colspan",
    "compact",
    "coords",
    "dir",
    "frame",
    "headers",
    "height",
    "href",
    "hreflang",
    "hspace",
    "id",
    "ismap",
    "lang",
    "longdesc",
    "name",
    "nohref",
    "nowrap",
    "rel",
    "rev",
    "rowspan",
    "rules",
    "scope",
    "shape",
    "span",
    "src",
    "start",
    "style",
    "summary",
    "tabindex",
    "title",
    "type",
    "usemap",
    "valign",
    "value",
    "vspace",
    "width",
];

/// Attributes whose value is an address.
const ADDRESSES: [&str; 5] = ["cite", "href", "longdesc", "src", "usemap"];

/// Schemes that run what they carry.
const SCHEMES_ACTIVE: [&str; 3] = ["javascript", "vbscript", "livescript"];

/// What makes a style fetch or run something.
const STYLES_ACTIVE: [&str; 5] = [
    "expression(",
    "javascript:",
    "@import",
    "behavior:",
    "-moz-binding",
];

/// Something wrong with a narrative. Positions are within its text, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: FaultKind,
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

/// What can be wrong with a narrative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Not well-formed XML, or more of it than the limit.
    NotXml,
    /// An entity that XML does not have, such as `&nbsp;`.
    Entity(String),
    /// The outermost element is not a `div`.
    NotADiv,
    /// An element outside the namespace of XHTML.
    Namespace,
    /// An element that narrative must not have.
    Element(String),
    /// An attribute that narrative must not have: its name, and its element.
    Attribute(String, String),
    /// An address or style that runs or fetches something.
    Active(String),
    /// A processing instruction.
    Instruction,
    /// Neither text nor image.
    Nothing,
}

/// The faults of a narrative, in the order of its text; none for one that is right.
#[must_use]
pub fn check(text: &str) -> Vec<Fault> {
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: NODES_MAX,
        ..ParsingOptions::default()
    };
    let document = match Document::parse_with_options(text.trim(), options) {
        Ok(document) => document,
        Err(error) => {
            let position = error.pos();
            let kind = match error {
                roxmltree::Error::UnknownEntityReference(name, _) => FaultKind::Entity(name),
                _ => FaultKind::NotXml,
            };
            return vec![Fault {
                kind,
                line: position.row,
                column: position.col,
            }];
        }
    };
    let mut faults = Vec::new();
    let root = document.root_element();
    if root.tag_name().name() != "div" {
        faults.push(fault(root, FaultKind::NotADiv));
    }
    let mut has_content = false;
    for node in document.descendants() {
        if faults.len() >= FAULTS_MAX {
            break;
        }
        match node.node_type() {
            NodeType::Element => {
                has_content |= element(node, &mut faults);
            }
            NodeType::Text => {
                has_content |= node
                    .text()
                    .is_some_and(|text| !text.trim_matches(is_xml_space).is_empty());
            }
            NodeType::PI => faults.push(fault(node, FaultKind::Instruction)),
            NodeType::Root | NodeType::Comment => {}
        }
    }
    if !has_content && faults.is_empty() {
        faults.push(fault(root, FaultKind::Nothing));
    }
    faults
}

/// Whether a narrative keeps txt-1 and txt-2: FHIRPath's `htmlChecks()`.
#[must_use]
pub fn is_sound(text: &str) -> bool {
    check(text).is_empty()
}

/// The white space of XML; a no-break space is content.
fn is_xml_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

fn fault(node: Node<'_, '_>, kind: FaultKind) -> Fault {
    let position = node.document().text_pos_at(node.range().start);
    Fault {
        kind,
        line: position.row,
        column: position.col,
    }
}

/// Checks an element and its attributes; answers whether it shows something by itself.
fn element(node: Node<'_, '_>, faults: &mut Vec<Fault>) -> bool {
    let name = node.tag_name().name();
    if node.tag_name().namespace() != Some(NAMESPACE) {
        // Its children have the same fault; the outermost is told.
        let is_told = node
            .parent_element()
            .is_some_and(|it| it.tag_name().namespace() != Some(NAMESPACE));
        if !is_told {
            faults.push(fault(node, FaultKind::Namespace));
        }
    }
    if ELEMENTS.binary_search(&name).is_err() {
        faults.push(fault(node, FaultKind::Element(name.to_owned())));
    }
    for attribute in node.attributes() {
        let own = attribute.name();
        let is_allowed = match attribute.namespace() {
            None => ATTRIBUTES.binary_search(&own).is_ok(),
            Some(namespace) => {
                namespace == roxmltree::NS_XML_URI && matches!(own, "lang" | "space" | "id")
            }
        };
        if !is_allowed {
            let kind = FaultKind::Attribute(own.to_owned(), name.to_owned());
            faults.push(fault(node, kind));
        } else if is_active(own, attribute.value()) {
            faults.push(fault(node, FaultKind::Active(own.to_owned())));
        }
    }
    name == "img" && node.has_attribute("src")
}

/// Whether the value of an attribute would run or fetch something.
fn is_active(attribute: &str, value: &str) -> bool {
    // Browsers pass over white space and control characters in these.
    let bare = || {
        value
            .chars()
            .filter(|it| !it.is_whitespace() && !it.is_control())
            .map(|it| it.to_ascii_lowercase())
    };
    if ADDRESSES.contains(&attribute) {
        let text: String = bare().take(64).collect();
        let is_script = text
            .split_once(':')
            .is_some_and(|(scheme, _)| SCHEMES_ACTIVE.contains(&scheme));
        is_script || (text.starts_with("data:") && !text.starts_with("data:image/"))
    } else if attribute == "style" {
        let text: String = bare().collect();
        STYLES_ACTIVE.iter().any(|it| text.contains(it))
    } else {
        false
    }
}

impl FaultKind {
    /// What is wrong and what would be right. Quotes names only.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            FaultKind::NotXml => "narrative must be well-formed XHTML".to_owned(),
            FaultKind::Entity(name) => format!(
                "XML has no entity `&{}`; write the character itself or its number (`&#160;`)",
                quoted(name)
            ),
            FaultKind::NotADiv => "narrative must be one `<div>`".to_owned(),
            FaultKind::Namespace => format!("narrative must be in the namespace {NAMESPACE}"),
            FaultKind::Element(name) => format!(
                "`<{}>` is not allowed in narrative; only basic formatting is",
                quoted(name)
            ),
            FaultKind::Attribute(name, element) => format!(
                "the attribute `{}` on `<{}>` is not allowed in narrative",
                quoted(name),
                quoted(element)
            ),
            FaultKind::Active(name) => format!(
                "the attribute `{}` would run or fetch something; narrative must be inert",
                quoted(name)
            ),
            FaultKind::Instruction => {
                "processing instructions are not allowed in narrative".to_owned()
            }
            FaultKind::Nothing => "narrative must hold some text or an image".to_owned(),
        }
    }
}

fn quoted(name: &str) -> String {
    crate::validate::quotable(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(inner: &str) -> Vec<FaultKind> {
        let text = format!("<div xmlns=\"{NAMESPACE}\">{inner}</div>");
        check(&text).into_iter().map(|it| it.kind).collect()
    }

    #[test]
    fn lists_are_sorted() {
        assert!(ELEMENTS.is_sorted() && ATTRIBUTES.is_sorted());
    }

    #[test]
    fn basic_formatting_passes() {
        for inner in [
            "x",
            "&amp; &lt; &#160; é",
            "<p class=\"a\" style=\"color: red; width: 10px\" xml:lang=\"en\">x</p>",
            "<a href=\"https://e.example/a?b=c&amp;d\">x</a> <a name=\"n\">y</a>",
            "<img src=\"data:image/png;base64,QQ==\" alt=\"a\"/>",
            "<img src=\"#pic\"/>",
            "<table border=\"1\"><thead><tr><th colspan=\"2\">a</th></tr></thead></table>",
            "<!-- c -->x",
            "<br/>x<hr/>",
            "\u{a0}",
        ] {
            assert_eq!(kinds(inner), [], "{inner}");
        }
    }

    #[test]
    fn what_narrative_must_not_have() {
        let element = |it: &str| FaultKind::Element(it.to_owned());
        let attribute = |a: &str, b: &str| FaultKind::Attribute(a.to_owned(), b.to_owned());
        let active = |it: &str| FaultKind::Active(it.to_owned());
        for (inner, kind) in [
            ("<script>x</script>", element("script")),
            ("<P>x</P>", element("P")),
            ("<form>x</form>", element("form")),
            ("<iframe src=\"a\">x</iframe>", element("iframe")),
            ("<style>x</style>", element("style")),
            ("<p onclick=\"x\">x</p>", attribute("onclick", "p")),
            ("<tr idref=\"x\"><td>x</td></tr>", attribute("idref", "tr")),
            ("<a href=\" java&#9;script:x()\">x</a>", active("href")),
            ("<a href=\"data:text/html,x\">x</a>", active("href")),
            ("<p style=\"width: expression (1)\">x</p>", active("style")),
            ("", FaultKind::Nothing),
            (" \n <p/><img alt=\"a\"/>", FaultKind::Nothing),
            ("<p>x", FaultKind::NotXml),
            ("<p a=b>x</p>", FaultKind::NotXml),
            ("a & b", FaultKind::NotXml),
            ("<?php x ?>x", FaultKind::Instruction),
            ("&reg;", FaultKind::Entity("reg".to_owned())),
            ("<p xmlns=\"\">x</p>", FaultKind::Namespace),
        ] {
            assert_eq!(kinds(inner), [kind], "{inner}");
        }
    }

    #[test]
    fn one_div_and_nothing_else() {
        let kinds = |text: &str| {
            check(text)
                .into_iter()
                .map(|it| it.kind)
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds("<div>x</div>"), [FaultKind::Namespace]);
        assert_eq!(
            kinds(&format!("<p xmlns='{NAMESPACE}'>x</p>")),
            [FaultKind::NotADiv]
        );
        for text in [
            "",
            "x",
            &format!("<div xmlns='{NAMESPACE}'>x</div><div xmlns='{NAMESPACE}'>x</div>"),
            &format!("<!DOCTYPE div [<!ENTITY a 'b'>]><div xmlns='{NAMESPACE}'>&a;</div>"),
        ] {
            assert_eq!(kinds(text), [FaultKind::NotXml], "{text}");
        }
    }

    #[test]
    fn hostile_depth_and_width_end() {
        let many = 50_000;
        let deep = format!("{}x{}", "<p>".repeat(many), "</p>".repeat(many));
        drop(kinds(&deep));
        assert_eq!(kinds(&"<x/>".repeat(many)).len(), FAULTS_MAX);
        assert_eq!(kinds(&"a<br/>".repeat(200_000)), [FaultKind::NotXml]);
    }
}
