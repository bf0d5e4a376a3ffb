//! Cuts the text of an expression into tokens.
//!
//! It knows literals, names, symbols and comments, and nothing of grammar.
//! Start at [`tokens`].

use super::moment::Moment;

/// Why a text is not an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {position}: {kind}")]
pub struct ParseError {
    /// Byte position in the text.
    pub position: usize,
    /// What is wrong.
    pub kind: ParseErrorKind,
}

/// What is wrong with the text of an expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the variants mean")]
pub enum ParseErrorKind {
    #[error("the character is not part of FHIRPath here")]
    Character,
    #[error("the text, name or comment is not closed")]
    Unclosed,
    #[error("this is no date or time that FHIRPath can write")]
    Moment,
    #[error("this number is out of range")]
    Number,
    #[error("{0} was expected")]
    Expected(&'static str),
    #[error("there is no function `{0}`")]
    UnknownFunction(String),
    #[error("`{name}` takes {expected} arguments")]
    Arguments {
        name: &'static str,
        expected: &'static str,
    },
    #[error("the expression is longer than allowed")]
    TooLong,
    #[error("the expression is nested deeper than allowed")]
    TooDeep,
    #[error("the expression has more parts than allowed")]
    TooLarge,
}

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name; `quoted` if it stood in backticks, so that it cannot be a keyword.
    Name {
        text: String,
        quoted: bool,
    },
    /// `$this`, `$index`, `$total`.
    Special(String),
    /// `%name`.
    Variable(String),
    Text(String),
    /// Digits with an optional fraction.
    Number(String),
    Moment(Moment),
    Symbol(&'static str),
    End,
}

/// A token and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) position: usize,
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 24] = [
    "!=", "!~", "<=", ">=", "(", ")", "[", "]", "{", "}", ".", ",", "+", "-", "*", "/", "&", "|",
    "=", "~", "<", ">", ":", ";",
];

struct Scan<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scan<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.at += character.len_utf8();
        Some(character)
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest
            .find(|character| !wanted(character))
            .unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn error(&self, position: usize, kind: ParseErrorKind) -> ParseError {
        ParseError { position, kind }
    }

    /// Skips white space and comments.
    fn skip(&mut self) -> Result<(), ParseError> {
        loop {
            self.take_while(char::is_whitespace);
            let start = self.at;
            if self.rest().starts_with("//") {
                self.take_while(|character| character != '\n' && character != '\r');
            } else if let Some(body) = self.rest().strip_prefix("/*") {
                let Some(end) = body.find("*/") else {
                    return Err(self.error(start, ParseErrorKind::Unclosed));
                };
                self.at += end + 4;
            } else {
                return Ok(());
            }
        }
    }

    /// Reads up to the closing `quote`; the opening one has been read.
    ///
    /// A backslash before anything that is no escape is left out, as the standard says.
    fn quoted(&mut self, quote: char, start: usize) -> Result<String, ParseError> {
        let mut text = String::new();
        // The first half of a surrogate pair, until the second comes.
        let mut high: Option<u32> = None;
        loop {
            let unclosed = self.error(start, ParseErrorKind::Unclosed);
            let character = self.next().ok_or_else(|| unclosed.clone())?;
            if character == quote {
                return Ok(text);
            }
            if character != '\\' {
                text.push(character);
                high = None;
                continue;
            }
            let escaped = self.next().ok_or(unclosed)?;
            match escaped {
                'n' => text.push('\n'),
                'r' => text.push('\r'),
                't' => text.push('\t'),
                'f' => text.push('\u{c}'),
                'u' => {
                    let code = self
                        .rest()
                        .get(..4)
                        .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
                        .and_then(|hex| u32::from_str_radix(hex, 16).ok());
                    let Some(code) = code else {
                        text.push('u');
                        continue;
                    };
                    self.at += 4;
                    match (high.take(), code) {
                        (Some(first), 0xDC00..=0xDFFF) => {
                            let joined = 0x10000 + ((first - 0xD800) << 10) + (code - 0xDC00);
                            text.push(
                                char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER),
                            );
                        }
                        (_, 0xD800..=0xDBFF) => high = Some(code),
                        (_, other) => {
                            text.push(char::from_u32(other).unwrap_or(char::REPLACEMENT_CHARACTER));
                        }
                    }
                    continue;
                }
                other => text.push(other),
            }
            high = None;
        }
    }

    /// The literal after `@`. A fraction is part of it only after seconds, so that `@2015.is(Date)` works.
    fn moment(&mut self, start: usize) -> Result<Token, ParseError> {
        let bytes = self.rest().as_bytes();
        let length = Moment::literal_length(bytes);
        let text = self.rest().get(..length).unwrap_or_default();
        let moment =
            Moment::parse_literal(text).ok_or_else(|| self.error(start, ParseErrorKind::Moment))?;
        self.at += length;
        Ok(Token::Moment(moment))
    }
}

fn is_name_start(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

fn is_name_part(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// All tokens of a text, with [`Token::End`] last.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, ParseError> {
    if text.len() > super::EXPRESSION_BYTES_MAX {
        return Err(ParseError {
            position: super::EXPRESSION_BYTES_MAX,
            kind: ParseErrorKind::TooLong,
        });
    }
    let mut scan = Scan { text, at: 0 };
    let mut found = Vec::new();
    loop {
        scan.skip()?;
        let position = scan.at;
        let Some(character) = scan.peek() else {
            found.push(Placed {
                token: Token::End,
                position,
            });
            return Ok(found);
        };
        let token = match character {
            '\'' => {
                scan.next();
                Token::Text(scan.quoted('\'', position)?)
            }
            '`' => {
                scan.next();
                Token::Name {
                    text: scan.quoted('`', position)?,
                    quoted: true,
                }
            }
            '@' => {
                scan.next();
                scan.moment(position)?
            }
            '$' => {
                scan.next();
                Token::Special(scan.take_while(is_name_part).to_owned())
            }
            '%' => {
                scan.next();
                Token::Variable(match scan.peek() {
                    Some(quote @ ('\'' | '`' | '"')) => {
                        scan.next();
                        scan.quoted(quote, position)?
                    }
                    Some(other) if is_name_start(other) => scan.take_while(is_name_part).to_owned(),
                    _ => return Err(scan.error(position, ParseErrorKind::Character)),
                })
            }
            _ if character.is_ascii_digit() => {
                let mut number = scan.take_while(|it| it.is_ascii_digit()).to_owned();
                let mut after = scan.rest().chars();
                if after.next() == Some('.') && after.next().is_some_and(|it| it.is_ascii_digit()) {
                    scan.next();
                    number.push('.');
                    number.push_str(scan.take_while(|it| it.is_ascii_digit()));
                }
                Token::Number(number)
            }
            _ if is_name_start(character) => Token::Name {
                text: scan.take_while(is_name_part).to_owned(),
                quoted: false,
            },
            _ => {
                let symbol = SYMBOLS
                    .into_iter()
                    .find(|symbol| scan.rest().starts_with(symbol))
                    .ok_or_else(|| scan.error(position, ParseErrorKind::Character))?;
                scan.at += symbol.len();
                Token::Symbol(symbol)
            }
        };
        found.push(Placed { token, position });
    }
}
