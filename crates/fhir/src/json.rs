//! A strict JSON reader for FHIR: a read-only tree over the source bytes.
//!
//! It keeps what a general reader throws away and FHIR needs: the byte position of every value
//! (so that findings can name line and column), the order of members, the text of numbers (so that
//! `1.50` stays `1.50`), and keys that occur twice.
//! It is not a writer; [`Value::to_json`] hands over to `serde_json` for everything after validation.
//! Start at [`Document::parse`].

mod parse;
mod paths;

use std::borrow::Cow;

pub use parse::{JsonLimits, ParseError, ParseErrorKind};
pub(crate) use paths::Paths;

/// One value of the tree, in the order of the source (a parent before its children).
#[derive(Debug)]
pub(crate) struct Node<'s> {
    /// The member's name, if the parent is an object.
    pub(crate) key: Option<Cow<'s, str>>,
    pub(crate) content: Content<'s>,
    /// Byte offset of the first byte of the value.
    pub(crate) offset: u32,
    /// Index just behind the last descendant, which is the next sibling if there is one.
    pub(crate) end: u32,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Content<'s> {
    Null,
    Bool(bool),
    /// The number exactly as written.
    Number(&'s str),
    String(Cow<'s, str>),
    Array,
    Object,
}

/// A parsed JSON text. Values borrow from the source wherever no escape forced a copy.
#[derive(Debug)]
pub struct Document<'s> {
    source: &'s str,
    nodes: Vec<Node<'s>>,
    duplicates: Vec<u32>,
}

impl<'s> Document<'s> {
    /// Reads one JSON value that fills the whole of `source`.
    ///
    /// # Errors
    /// The text is not UTF-8, not JSON, or larger, deeper or longer than `limits` allow.
    /// A key that occurs twice is not an error here; see [`Document::duplicate_keys`].
    pub fn parse(source: &'s [u8], limits: &JsonLimits) -> Result<Self, ParseError> {
        parse::parse(source, limits)
    }

    /// The outermost value.
    #[must_use]
    pub fn root(&self) -> Value<'_> {
        Value {
            document: self,
            index: 0,
        }
    }

    /// Members whose key had occurred before in the same object, in source order.
    pub fn duplicate_keys(&self) -> impl Iterator<Item = Value<'_>> {
        self.duplicates.iter().map(|index| Value {
            document: self,
            index: *index,
        })
    }

    /// Line and column (both from 1, columns in characters) of a byte offset.
    #[must_use]
    pub fn line_and_column(&self, offset: usize) -> (u32, u32) {
        line_and_column(self.source, offset)
    }

    /// The way from the root to a value: a key for each object, an index for each array (as second part).
    #[must_use]
    pub fn path_to(&self, value: Value<'_>) -> Vec<(Option<&str>, usize)> {
        let mut steps = Vec::new();
        let mut at = self.root();
        while at.index < value.index {
            let holds = |child: &Value<'_>| {
                child.index <= value.index
                    && self
                        .node(child.index)
                        .is_some_and(|node| value.index < node.end)
            };
            let Some((index, child)) = at.children().enumerate().find(|(_, child)| holds(child))
            else {
                break;
            };
            steps.push((child.key(), index));
            at = child;
        }
        steps
    }

    /// The number of values in the document.
    #[must_use]
    pub fn values(&self) -> usize {
        self.nodes.len()
    }

    fn node(&self, index: u32) -> Option<&Node<'s>> {
        self.nodes.get(index as usize)
    }
}

/// Line and column (both from 1, columns in characters) of a byte offset in `source`.
pub(crate) fn line_and_column(source: &str, offset: usize) -> (u32, u32) {
    let before = source.get(..offset).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = newlines(before) + 1;
    let column = before
        .get(line_start..)
        .map_or(0, |line| line.chars().count())
        + 1;
    (
        u32::try_from(line).unwrap_or(u32::MAX),
        u32::try_from(column).unwrap_or(u32::MAX),
    )
}

/// The number of line breaks, counted in blocks that fit a byte so that it is done many bytes at a time.
fn newlines(text: &str) -> usize {
    text.as_bytes()
        .chunks(255)
        .map(|block| {
            // A block has at most 255 bytes, so nothing wraps.
            let count = block.iter().fold(0_u8, |count, byte| {
                count.wrapping_add(u8::from(*byte == b'\n'))
            });
            usize::from(count)
        })
        .sum()
}

/// Finds line and column of many offsets. A step costs only the way from the last one, and its line.
#[derive(Debug)]
pub(crate) struct Locator<'d> {
    source: &'d str,
    offset: usize,
    line: u32,
    column: u32,
}

impl<'d> Locator<'d> {
    pub(crate) fn new(document: &'d Document<'_>) -> Self {
        Self {
            source: document.source,
            offset: 0,
            line: 1,
            column: 1,
        }
    }

    /// Line and column, both from 1.
    pub(crate) fn locate(&mut self, offset: usize) -> (u32, u32) {
        if let Some(back) = self.source.get(offset..self.offset) {
            let before = self.source.get(..offset).unwrap_or_default();
            let line_start = before.rfind('\n').map_or(0, |at| at + 1);
            let line = before.get(line_start..).unwrap_or_default();
            let column = u32::try_from(line.chars().count()).unwrap_or(u32::MAX);
            let lines = u32::try_from(newlines(back)).unwrap_or(u32::MAX);
            self.line = self.line.saturating_sub(lines);
            self.column = column.saturating_add(1);
            self.offset = offset;
            return (self.line, self.column);
        }
        let between = self.source.get(self.offset..offset).unwrap_or_default();
        let (lines, column) = line_and_column(between, between.len());
        self.column = if lines > 1 {
            column
        } else {
            self.column.saturating_add(column - 1)
        };
        self.line = self.line.saturating_add(lines - 1);
        self.offset = offset;
        (self.line, self.column)
    }
}

/// A handle to one value; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    index: u32,
}

/// The kind of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The kind with its article, for messages.
    #[must_use]
    pub fn with_article(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "`true` or `false`",
            Kind::Number => "a number",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Object => "an object",
        }
    }
}

impl<'d> Value<'d> {
    fn content(self) -> &'d Content<'d> {
        self.document
            .node(self.index)
            .map_or(&Content::Null, |node| &node.content)
    }

    /// What kind of value this is.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self.content() {
            Content::Null => Kind::Null,
            Content::Bool(_) => Kind::Bool,
            Content::Number(_) => Kind::Number,
            Content::String(_) => Kind::String,
            Content::Array => Kind::Array,
            Content::Object => Kind::Object,
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn as_str(self) -> Option<&'d str> {
        match self.content() {
            Content::String(text) => Some(text),
            _ => None,
        }
    }

    /// A number exactly as it was written.
    #[must_use]
    pub fn as_number(self) -> Option<&'d str> {
        match self.content() {
            Content::Number(text) => Some(text),
            _ => None,
        }
    }

    /// A boolean.
    #[must_use]
    pub fn as_bool(self) -> Option<bool> {
        match self.content() {
            Content::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The name under which this value stands in its object.
    #[must_use]
    pub fn key(self) -> Option<&'d str> {
        self.document
            .node(self.index)
            .and_then(|node| node.key.as_deref())
    }

    /// The value's place in its document, in the order of the source.
    pub(crate) fn index(self) -> u32 {
        self.index
    }

    /// Tells documents apart, for as long as both live.
    pub(crate) fn document_address(self) -> usize {
        std::ptr::from_ref(self.document).addr()
    }

    /// Whether both are the same value of the same document.
    pub(crate) fn is_same(self, other: Value<'_>) -> bool {
        self.index == other.index && self.document_address() == other.document_address()
    }

    /// Byte offset of the value in the source.
    #[must_use]
    pub fn offset(self) -> usize {
        self.document
            .node(self.index)
            .map_or(0, |node| node.offset as usize)
    }

    /// Members of an object or items of an array, in source order; nothing for other kinds.
    #[must_use]
    pub fn children(self) -> Children<'d> {
        let end = self.document.node(self.index).map_or(0, |node| node.end);
        Children {
            document: self.document,
            next: self.index + 1,
            end,
        }
    }

    /// The first member of that name; `None` if there is none or this is no object.
    #[must_use]
    pub fn get(self, key: &str) -> Option<Value<'d>> {
        self.children().find(|child| child.key() == Some(key))
    }

    /// Key (of members) and text of all strings below this value, in source order, at any depth.
    pub(crate) fn strings_below(self) -> impl Iterator<Item = (Option<&'d str>, &'d str)> {
        let end = self.document.node(self.index).map_or(0, |node| node.end);
        let below = (self.index as usize + 1)..(end as usize);
        let nodes = self.document.nodes.get(below).unwrap_or_default();
        nodes.iter().filter_map(|node| match &node.content {
            Content::String(text) => Some((node.key.as_deref(), text.as_ref())),
            _ => None,
        })
    }

    /// Whether an object or array has nothing in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.children().next().is_none()
    }

    /// The same value for `serde_json`. A repeated key keeps its last value there.
    ///
    /// Numbers become `serde_json` numbers: more than about 15 significant digits, and trailing
    /// zeros, are lost, so compare and store the source text where that matters.
    #[must_use]
    pub fn to_json(self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self.content() {
            Content::Null => Json::Null,
            Content::Bool(value) => Json::Bool(*value),
            Content::Number(text) => serde_json::from_str(text).unwrap_or(Json::Null),
            Content::String(text) => Json::String(text.to_string()),
            Content::Array => Json::Array(self.children().map(Value::to_json).collect()),
            Content::Object => Json::Object(
                self.children()
                    .filter_map(|child| Some((child.key()?.to_owned(), child.to_json())))
                    .collect(),
            ),
        }
    }
}

/// Iterator over the children of a value.
#[derive(Clone, Debug)]
pub struct Children<'d> {
    document: &'d Document<'d>,
    next: u32,
    end: u32,
}

impl<'d> Iterator for Children<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        if self.next >= self.end {
            return None;
        }
        let value = Value {
            document: self.document,
            index: self.next,
        };
        self.next = self.document.node(self.next)?.end;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Document<'_> {
        Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap()
    }

    #[test]
    fn keeps_order_positions_and_number_text() {
        let document =
            parse("{\n  \"b\": 1.50,\n  \"a\": [true, null, \"x\\u00e9\\ud83d\\ude00\"]\n}");
        let root = document.root();
        let keys: Vec<_> = root.children().map(|child| child.key().unwrap()).collect();
        assert_eq!(keys, ["b", "a"]);
        let number = root.get("b").unwrap();
        assert_eq!(number.as_number(), Some("1.50"));
        assert_eq!(document.line_and_column(number.offset()), (2, 8));
        let items: Vec<_> = root.get("a").unwrap().children().collect();
        assert_eq!(items[0].as_bool(), Some(true));
        assert_eq!(items[1].kind(), Kind::Null);
        assert_eq!(items[2].as_str(), Some("xé😀"));
        assert_eq!(
            root.to_json(),
            serde_json::json!({"b": 1.5, "a": [true, null, "xé😀"]})
        );
    }

    #[test]
    fn names_duplicate_keys_in_small_and_large_objects() {
        let document = parse(r#"{"a":1,"b":{"x":1,"x":2},"a":3}"#);
        let names: Vec<_> = document
            .duplicate_keys()
            .map(|value| value.key().unwrap())
            .collect();
        assert_eq!(names, ["x", "a"]);
        let mut large = String::from("{");
        for index in 0..40 {
            large.push_str(&format!("\"k{index}\":0,"));
        }
        large.push_str("\"k7\":1}");
        let document = parse(&large);
        assert_eq!(document.duplicate_keys().count(), 1);
        assert_eq!(
            parse(r#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#)
                .duplicate_keys()
                .count(),
            0
        );
        assert_eq!(parse(r#"{"a":1,"\u0061":1}"#).duplicate_keys().count(), 1);
    }

    #[test]
    fn refuses_what_is_not_json() {
        for text in [
            "",
            " ",
            "{",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "'x'",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "-",
            "NaN",
            "tru",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "{} {}",
            "[1 2]",
            "\"",
            "\"\\u12\"",
            "{\"a\" 1}",
            "{\"a\":}",
            "]",
            "// c\n1",
            "\u{feff}\u{feff}{}",
        ] {
            let found = Document::parse(text.as_bytes(), &JsonLimits::default());
            assert!(found.is_err(), "accepted {text:?}");
        }
        for text in [
            "0",
            "-0",
            "-1.5e+10",
            "[]",
            "{}",
            " [ { } ] ",
            "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
            "\u{feff}{}",
        ] {
            assert!(
                Document::parse(text.as_bytes(), &JsonLimits::default()).is_ok(),
                "refused {text:?}"
            );
        }
    }

    #[test]
    fn locates_forwards_and_backwards() {
        let text = "{\n \"é\": [\n1,\n\n2]}";
        let document = parse(text);
        let mut locator = Locator::new(&document);
        let offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        for first in &offsets {
            for second in &offsets {
                for offset in [*first, *second] {
                    let expected = line_and_column(text, offset);
                    assert_eq!(locator.locate(offset), expected, "{first} {second}");
                }
            }
        }
    }

    #[test]
    fn holds_its_limits() {
        let limits = JsonLimits {
            bytes_max: 20,
            depth_max: 3,
            values_max: 4,
        };
        let kind = |text: &str| {
            Document::parse(text.as_bytes(), &limits)
                .map(|_| ())
                .map_err(|error| error.kind)
        };
        assert_eq!(kind("[[[1]]]"), Ok(()));
        assert_eq!(kind("[[[[1]]]]"), Err(ParseErrorKind::TooDeep));
        assert_eq!(kind("[1,2,3]"), Ok(()));
        assert_eq!(kind("[1,2,3,4]"), Err(ParseErrorKind::TooManyValues));
        assert_eq!(
            kind("[                    ]"),
            Err(ParseErrorKind::TooLarge)
        );
        assert_eq!(
            Document::parse(b"\"\xff\"", &limits)
                .map(|_| ())
                .map_err(|error| error.kind),
            Err(ParseErrorKind::NotUtf8)
        );
    }
}
