//! The JSON parser behind [`super::Document`]: one pass, no recursion, every growth limited.
//!
//! It follows RFC 8259 strictly: no comments, no trailing commas, no lone surrogates. A byte order mark at
//! the start is passed over, as section 8.1 permits.
//! Start at [`parse`].

use std::borrow::Cow;

use super::{Content, Document, Node};

/// Bounds on what is read.
#[derive(Clone, Copy, Debug)]
pub struct JsonLimits {
    /// Largest text, in bytes.
    pub bytes_max: usize,
    /// Deepest nesting of arrays and objects; values above 256 count as 256.
    pub depth_max: usize,
    /// Largest number of values.
    pub values_max: usize,
}

impl Default for JsonLimits {
    fn default() -> Self {
        Self {
            bytes_max: 32 * 1024 * 1024,
            depth_max: 96,
            values_max: 2_000_000,
        }
    }
}

/// Why a text could not be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} (line {line}, column {column})")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// What is wrong with the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseErrorKind {
    /// More bytes than the limit.
    #[error("the text is larger than the limit")]
    TooLarge,
    /// More nesting than the limit.
    #[error("the text is nested deeper than the limit")]
    TooDeep,
    /// More values than the limit.
    #[error("the text holds more values than the limit")]
    TooManyValues,
    /// A byte sequence that is not UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A grammar error; the text says what was expected.
    #[error("{0}")]
    Syntax(&'static str),
}

/// Deepest nesting that any limit may allow: walks over the tree are recursive and must not exhaust the
/// stack.
const DEPTH_CEILING: usize = 256;
/// Objects with more members than this are checked for duplicate keys by sorting.
const PAIRWISE_MEMBERS_MAX: usize = 12;

pub(super) fn parse<'s>(source: &'s [u8], limits: &JsonLimits) -> Result<Document<'s>, ParseError> {
    let whole = |kind| ParseError {
        kind,
        line: 1,
        column: 1,
    };
    if source.len() > limits.bytes_max || u32::try_from(source.len()).is_err() {
        return Err(whole(ParseErrorKind::TooLarge));
    }
    let text = std::str::from_utf8(source).map_err(|error| {
        let valid = source
            .get(..error.valid_up_to())
            .and_then(|head| std::str::from_utf8(head).ok())
            .unwrap_or("");
        let (line, column) = super::line_and_column(valid, valid.len());
        ParseError {
            kind: ParseErrorKind::NotUtf8,
            line,
            column,
        }
    })?;
    let mut parser = Parser {
        text,
        bytes: source,
        at: if text.starts_with('\u{feff}') { 3 } else { 0 },
        nodes: Vec::with_capacity(source.len() / 24 + 8),
        open: Vec::with_capacity(16),
        duplicates: Vec::new(),
        scratch: Vec::new(),
        limits,
    };
    match parser.run() {
        Ok(()) => {
            let mut duplicates = parser.duplicates;
            duplicates.sort_unstable();
            Ok(Document {
                source: text,
                nodes: parser.nodes,
                duplicates,
            })
        }
        Err(kind) => {
            let (line, column) = super::line_and_column(text, floor_char_boundary(text, parser.at));
            Err(ParseError { kind, line, column })
        }
    }
}

fn floor_char_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|index| text.is_char_boundary(*index))
        .unwrap_or(0)
}

/// A container that is still open.
struct Open {
    node: u32,
    is_object: bool,
}

struct Parser<'s, 'l> {
    text: &'s str,
    bytes: &'s [u8],
    at: usize,
    nodes: Vec<Node<'s>>,
    open: Vec<Open>,
    duplicates: Vec<u32>,
    scratch: Vec<u32>,
    limits: &'l JsonLimits,
}

type Step<T> = Result<T, ParseErrorKind>;

impl<'s> Parser<'s, '_> {
    /// Reads values until the outermost one is closed. Each turn consumes at least one byte.
    fn run(&mut self) -> Step<()> {
        self.skip_whitespace();
        self.value(None)?;
        while let Some((node, is_object)) = self.open.last().map(|open| (open.node, open.is_object))
        {
            self.skip_whitespace();
            let first = self.nodes.len() == node as usize + 1;
            match (self.peek(), is_object) {
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    self.close();
                    continue;
                }
                (Some(b','), _) if !first => {
                    self.at += 1;
                    self.skip_whitespace();
                }
                _ if first => {}
                (_, true) => {
                    return Err(ParseErrorKind::Syntax("expected `,` or `}` after a member"));
                }
                (_, false) => {
                    return Err(ParseErrorKind::Syntax("expected `,` or `]` after an item"));
                }
            }
            let key = if is_object { Some(self.key()?) } else { None };
            self.value(key)?;
        }
        self.skip_whitespace();
        if self.at < self.bytes.len() {
            return Err(ParseErrorKind::Syntax(
                "expected nothing after the end of the value",
            ));
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn key(&mut self) -> Step<Cow<'s, str>> {
        if self.peek() != Some(b'"') {
            return Err(ParseErrorKind::Syntax("expected a key in double quotes"));
        }
        let key = self.string()?;
        self.skip_whitespace();
        if self.peek() != Some(b':') {
            return Err(ParseErrorKind::Syntax("expected `:` after a key"));
        }
        self.at += 1;
        self.skip_whitespace();
        Ok(key)
    }

    fn value(&mut self, key: Option<Cow<'s, str>>) -> Step<()> {
        if self.nodes.len() >= self.limits.values_max {
            return Err(ParseErrorKind::TooManyValues);
        }
        // Both fit: the text's length was checked against u32, and a value takes at least a byte.
        let offset = self.at as u32;
        let index = self.nodes.len() as u32;
        let content = match self.peek() {
            Some(b'{') => self.opened(index, true)?,
            Some(b'[') => self.opened(index, false)?,
            Some(b'"') => Content::String(self.string()?),
            Some(b't') => self.word("true", Content::Bool(true))?,
            Some(b'f') => self.word("false", Content::Bool(false))?,
            Some(b'n') => self.word("null", Content::Null)?,
            Some(b'-' | b'0'..=b'9') => Content::Number(self.number()?),
            _ => return Err(ParseErrorKind::Syntax("expected a value")),
        };
        self.nodes.push(Node {
            key,
            content,
            offset,
            end: index + 1,
        });
        Ok(())
    }

    fn opened(&mut self, node: u32, is_object: bool) -> Step<Content<'s>> {
        if self.open.len() >= self.limits.depth_max.min(DEPTH_CEILING) {
            return Err(ParseErrorKind::TooDeep);
        }
        self.at += 1;
        self.open.push(Open { node, is_object });
        Ok(if is_object {
            Content::Object
        } else {
            Content::Array
        })
    }

    fn close(&mut self) {
        let end = self.nodes.len() as u32;
        let Some(open) = self.open.pop() else { return };
        if let Some(node) = self.nodes.get_mut(open.node as usize) {
            node.end = end;
        }
        if open.is_object {
            self.note_duplicates(open.node + 1, end);
        }
    }

    /// Notes each member in `first..end` whose key an earlier sibling has.
    fn note_duplicates(&mut self, first: u32, end: u32) {
        self.scratch.clear();
        let mut next = first;
        while next < end {
            self.scratch.push(next);
            next = self.nodes.get(next as usize).map_or(end, |node| node.end);
        }
        let nodes = &self.nodes;
        let key = |index: u32| {
            nodes
                .get(index as usize)
                .and_then(|node| node.key.as_deref())
                .unwrap_or("")
        };
        if self.scratch.len() <= PAIRWISE_MEMBERS_MAX {
            for (position, index) in self.scratch.iter().enumerate() {
                let this = key(*index);
                if self
                    .scratch
                    .iter()
                    .take(position)
                    .any(|other| key(*other) == this)
                {
                    self.duplicates.push(*index);
                }
            }
        } else {
            self.scratch
                .sort_by(|a, b| key(*a).cmp(key(*b)).then(a.cmp(b)));
            for pair in self.scratch.windows(2) {
                if let [a, b] = pair
                    && key(*a) == key(*b)
                {
                    self.duplicates.push(*b);
                }
            }
        }
    }

    fn word(&mut self, word: &'static str, content: Content<'s>) -> Step<Content<'s>> {
        if self.bytes.get(self.at..self.at + word.len()) == Some(word.as_bytes()) {
            self.at += word.len();
            Ok(content)
        } else {
            Err(ParseErrorKind::Syntax("expected a value"))
        }
    }

    fn number(&mut self) -> Step<&'s str> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(ParseErrorKind::Syntax("expected a digit")),
        }
        if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(ParseErrorKind::Syntax(
                "a number must not start with 0 followed by digits",
            ));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        self.text
            .get(start..self.at)
            .ok_or(ParseErrorKind::Syntax("expected a number"))
    }

    fn digits(&mut self) -> Step<()> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(ParseErrorKind::Syntax("expected a digit"));
        }
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        Ok(())
    }

    /// Reads a string whose opening quote is the next byte.
    fn string(&mut self) -> Step<Cow<'s, str>> {
        self.at += 1;
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        let length = rest
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))
            .ok_or(ParseErrorKind::Syntax(
                "expected `\"` at the end of a string",
            ))?;
        self.at = start + length;
        let plain = self.text.get(start..self.at).unwrap_or_default();
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                Ok(Cow::Borrowed(plain))
            }
            Some(b'\\') => self.escaped_string(plain.to_owned()).map(Cow::Owned),
            _ => Err(ParseErrorKind::Syntax(
                "control characters in a string must be escaped",
            )),
        }
    }

    fn escaped_string(&mut self, mut text: String) -> Step<String> {
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(0..=0x1f) => {
                    return Err(ParseErrorKind::Syntax(
                        "control characters in a string must be escaped",
                    ));
                }
                Some(_) => {
                    let start = self.at;
                    while let Some(byte) = self.peek()
                        && !matches!(byte, b'"' | b'\\' | 0..=0x1f)
                    {
                        self.at += 1;
                    }
                    text.push_str(self.text.get(start..self.at).unwrap_or_default());
                }
                None => {
                    return Err(ParseErrorKind::Syntax(
                        "expected `\"` at the end of a string",
                    ));
                }
            }
        }
    }

    fn escape(&mut self) -> Step<char> {
        let byte = self
            .peek()
            .ok_or(ParseErrorKind::Syntax("expected an escape"))?;
        self.at += 1;
        Ok(match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(ParseErrorKind::Syntax("unknown escape in a string")),
        })
    }

    fn unicode_escape(&mut self) -> Step<char> {
        let lone = ParseErrorKind::Syntax("a surrogate escape must come as a pair");
        let first = self.hex4()?;
        if !(0xD800..0xE000).contains(&first) {
            return char::from_u32(first).ok_or(lone);
        }
        if first >= 0xDC00 || self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
            return Err(lone);
        }
        self.at += 2;
        let second = self.hex4()?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(lone);
        }
        char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)).ok_or(lone)
    }

    fn hex4(&mut self) -> Step<u32> {
        let digits = self
            .text
            .get(self.at..self.at + 4)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .ok_or(ParseErrorKind::Syntax("expected four hexadecimal digits"))?;
        self.at += 4;
        u32::from_str_radix(digits, 16)
            .map_err(|_| ParseErrorKind::Syntax("expected four hexadecimal digits"))
    }
}
