//! Turns tokens into the compiled form.
//!
//! A precedence climber; every recursion and every node counts against a named limit, so that no text can
//! exhaust the stack here or in the evaluator. Start at [`parse`].

use std::borrow::Cow;

use rust_decimal::Decimal;

use super::functions::patterns;
use super::item::Item;
use super::lexer::{ParseError, ParseErrorKind, Placed, Token, tokens};
use super::quantity::{CalendarUnit, Quantity, Unit};
use super::specifier::Specifier;
use super::syntax::{Compiled, Extra, Function, Id, Node, Operator, TYPE_PRECEDENCE, Variable};
use super::{EXPRESSION_DEPTH_MAX, EXPRESSION_NODES_MAX};

/// Compiles the text of an expression.
pub(super) fn parse(text: &str) -> Result<Compiled, ParseError> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        nodes: Vec::new(),
        positions: Vec::new(),
        depths: Vec::new(),
        nesting: 0,
    };
    let root = parser.expression(0)?;
    match parser.peek() {
        Token::End => Ok(Compiled {
            defines_variables: parser.nodes.iter().any(|node| {
                matches!(
                    node,
                    Node::Call {
                        function: Function::DefineVariable,
                        ..
                    }
                )
            }),
            nodes: parser.nodes,
            positions: parser.positions,
            root,
        }),
        _ => Err(parser.expected("an operator or the end")),
    }
}

struct Parser {
    tokens: Vec<Placed>,
    at: usize,
    nodes: Vec<Node>,
    positions: Vec<u32>,
    /// Height of each node above its lowest leaf.
    depths: Vec<usize>,
    nesting: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens
            .get(self.at)
            .map_or(&Token::End, |placed| &placed.token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |placed| placed.position)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(it) if *it == symbol);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, symbol: &str, what: &'static str) -> Result<(), ParseError> {
        if self.takes(symbol) {
            Ok(())
        } else {
            Err(self.expected(what))
        }
    }

    fn expected(&self, what: &'static str) -> ParseError {
        self.error(self.position(), ParseErrorKind::Expected(what))
    }

    fn error(&self, position: usize, kind: ParseErrorKind) -> ParseError {
        ParseError { position, kind }
    }

    /// Adds a node that stands above `below`.
    fn push(&mut self, position: usize, node: Node, below: &[Id]) -> Result<Id, ParseError> {
        let depth = below
            .iter()
            .map(|id| self.depths.get(*id as usize).copied().unwrap_or(0) + 1)
            .max()
            .unwrap_or(0);
        if depth > EXPRESSION_DEPTH_MAX {
            return Err(self.error(position, ParseErrorKind::TooDeep));
        }
        if self.nodes.len() >= EXPRESSION_NODES_MAX {
            return Err(self.error(position, ParseErrorKind::TooLarge));
        }
        let id = self.nodes.len() as Id;
        self.nodes.push(node);
        self.positions.push(position as u32);
        self.depths.push(depth);
        Ok(id)
    }

    /// An expression whose operators bind at least as tightly as `least`.
    fn expression(&mut self, least: u8) -> Result<Id, ParseError> {
        self.nesting += 1;
        if self.nesting > EXPRESSION_DEPTH_MAX {
            return Err(self.error(self.position(), ParseErrorKind::TooDeep));
        }
        let mut left = self.signed()?;
        loop {
            let position = self.position();
            let word = match self.peek() {
                Token::Symbol(symbol) => *symbol,
                Token::Name {
                    text,
                    quoted: false,
                } => text.as_str(),
                _ => break,
            };
            if word == "is" || word == "as" {
                if TYPE_PRECEDENCE < least {
                    break;
                }
                let is_test = word == "is";
                self.next();
                let specifier = self.specifier()?;
                let node = if is_test {
                    Node::Is(left, specifier)
                } else {
                    Node::As(left, specifier)
                };
                left = self.push(position, node, &[left])?;
                continue;
            }
            let Some((operator, precedence)) = Operator::of(word) else {
                break;
            };
            if precedence < least {
                break;
            }
            self.next();
            let right = self.expression(precedence + 1)?;
            left = self.push(
                position,
                Node::Binary(operator, left, right),
                &[left, right],
            )?;
        }
        self.nesting -= 1;
        Ok(left)
    }

    /// `-x`, `+x`; the sign binds less tightly than `.`, so `-1.abs()` is `-(1.abs())`.
    fn signed(&mut self) -> Result<Id, ParseError> {
        let position = self.position();
        let negative = match self.peek() {
            Token::Symbol("-") => true,
            Token::Symbol("+") => false,
            _ => return self.postfix(),
        };
        self.next();
        self.nesting += 1;
        if self.nesting > EXPRESSION_DEPTH_MAX {
            return Err(self.error(position, ParseErrorKind::TooDeep));
        }
        let operand = self.signed()?;
        self.nesting -= 1;
        self.push(position, Node::Sign(negative, operand), &[operand])
    }

    /// A term with the invocations and indexers that follow it.
    fn postfix(&mut self) -> Result<Id, ParseError> {
        let mut base = self.term()?;
        loop {
            let position = self.position();
            if self.takes(".") {
                base = self.invocation(Some(base))?;
            } else if self.takes("[") {
                let index = self.expression(0)?;
                self.expect("]", "`]`")?;
                base = self.push(position, Node::Indexer { base, index }, &[base, index])?;
            } else {
                return Ok(base);
            }
        }
    }

    fn term(&mut self) -> Result<Id, ParseError> {
        let position = self.position();
        let node = match self.peek().clone() {
            Token::Symbol("(") => {
                self.next();
                let inner = self.expression(0)?;
                self.expect(")", "`)`")?;
                return Ok(inner);
            }
            Token::Symbol("{") => {
                self.next();
                self.expect("}", "`}`")?;
                Node::Empty
            }
            Token::Name { text, quoted } => match (text.as_str(), quoted) {
                ("true", false) => self.literal(Item::Boolean(true)),
                ("false", false) => self.literal(Item::Boolean(false)),
                _ => return self.invocation(None),
            },
            Token::Special(_) => return self.invocation(None),
            Token::Variable(name) => {
                self.next();
                Node::Variable(variable(name))
            }
            Token::Text(text) => self.literal(Item::String(Cow::Owned(text))),
            Token::Moment(moment) => self.literal(Item::Moment(moment)),
            Token::Number(text) => {
                self.next();
                Node::Literal(self.number(&text, position)?)
            }
            Token::Symbol(_) | Token::End => return Err(self.expected("a value or a name")),
        };
        self.push(position, node, &[])
    }

    fn literal(&mut self, item: Item<'static>) -> Node {
        self.next();
        Node::Literal(item)
    }

    /// A number, or a quantity if a unit follows.
    fn number(&mut self, text: &str, position: usize) -> Result<Item<'static>, ParseError> {
        let out_of_range = || ParseError {
            position,
            kind: ParseErrorKind::Number,
        };
        let unit = match self.peek() {
            Token::Text(unit) => Some(Unit::of_text(unit)),
            Token::Name {
                text,
                quoted: false,
            } => CalendarUnit::of(text).map(Unit::Calendar),
            _ => None,
        };
        if let Some(unit) = unit {
            self.next();
            let value = Decimal::from_str_exact(text).map_err(|_| out_of_range())?;
            return Ok(Item::Quantity(Box::new(Quantity { value, unit })));
        }
        if text.contains('.') {
            let value = Decimal::from_str_exact(text).map_err(|_| out_of_range())?;
            return Ok(Item::Decimal(value));
        }
        let value: i64 = text.parse().map_err(|_| out_of_range())?;
        // 2147483648 alone is out of range, but it is the text of `-2147483648` without its sign.
        if value > i64::from(i32::MAX) + 1 {
            return Err(out_of_range());
        }
        Ok(Item::Integer(value))
    }

    /// `name`, `name(…)`, `$this`, `$index` or `$total`.
    fn invocation(&mut self, base: Option<Id>) -> Result<Id, ParseError> {
        let position = self.position();
        match self.next() {
            Token::Special(name) => {
                let node = match name.as_str() {
                    "this" => Node::This,
                    "index" => Node::Index,
                    "total" => Node::Total,
                    _ => return Err(self.error(position, ParseErrorKind::Character)),
                };
                if base.is_some() {
                    return Err(self.error(position, ParseErrorKind::Expected("a name")));
                }
                self.push(position, node, &[])
            }
            Token::Name { text, .. } => {
                if self.takes("(") {
                    return self.call(base, &text, position);
                }
                if let Some(id) = base
                    && let Some(Node::Path { names, .. }) = self.nodes.get_mut(id as usize)
                {
                    names.push(text.into());
                    // A long path is walked, not recursed into, but each name is still a step down.
                    if let Some(depth) = self.depths.get_mut(id as usize) {
                        *depth += 1;
                        if *depth > EXPRESSION_DEPTH_MAX {
                            return Err(self.error(position, ParseErrorKind::TooDeep));
                        }
                    }
                    return Ok(id);
                }
                let node = Node::Path {
                    base,
                    names: vec![text.into()],
                };
                self.push(position, node, base.as_slice())
            }
            _ => Err(self.error(position, ParseErrorKind::Expected("a name"))),
        }
    }

    fn call(&mut self, base: Option<Id>, name: &str, position: usize) -> Result<Id, ParseError> {
        let function = Function::of(name).ok_or_else(|| {
            let shown: String = name.chars().take(64).collect();
            self.error(position, ParseErrorKind::UnknownFunction(shown))
        })?;
        let mut arguments = Vec::new();
        let mut extra = Extra::None;
        let mut descending = Vec::new();
        if matches!(function, Function::Is | Function::As | Function::OfType) {
            extra = Extra::Type(self.specifier()?);
            self.expect(")", "`)`")?;
        } else if !self.takes(")") {
            loop {
                let is_negative =
                    function == Function::Sort && matches!(self.peek(), Token::Symbol("-"));
                arguments.push(self.expression(0)?);
                if function == Function::Sort {
                    descending.push(self.direction(is_negative, arguments.last_mut())?);
                }
                if !self.takes(",") {
                    break;
                }
            }
            self.expect(")", "`)`")?;
            let (low, high) = function.arity();
            if arguments.len() < low || arguments.len() > high {
                return Err(self.arity(function, position));
            }
        } else if function.arity().0 > 0 {
            return Err(self.arity(function, position));
        }
        match function {
            Function::Sort => extra = Extra::Descending(descending),
            Function::Matches | Function::MatchesFull | Function::ReplaceMatches => {
                // Flags, if any, are read when the call is evaluated.
                let plain = arguments.len() == function.arity().0;
                let first = arguments
                    .first()
                    .and_then(|id| self.nodes.get(*id as usize));
                if let (true, Some(Node::Literal(Item::String(pattern)))) = (plain, first)
                    && let Ok(regex) =
                        patterns::compile(pattern, "", function == Function::MatchesFull)
                {
                    extra = Extra::Pattern(Box::new(regex));
                }
            }
            _ => {}
        }
        let mut below: Vec<Id> = arguments.clone();
        below.extend(base);
        let node = Node::Call {
            base,
            function,
            arguments,
            extra,
        };
        self.push(position, node, &below)
    }

    /// `asc` or `desc` after a sort key; a key that is negated as a whole sorts descending too.
    fn direction(
        &mut self,
        is_negative: bool,
        argument: Option<&mut Id>,
    ) -> Result<bool, ParseError> {
        let word = match self.peek() {
            Token::Name {
                text,
                quoted: false,
            } if text == "asc" || text == "desc" => Some(text == "desc"),
            _ => None,
        };
        if let Some(is_descending) = word {
            self.next();
            return Ok(is_descending);
        }
        if is_negative
            && let Some(id) = argument
            && let Some(Node::Sign(true, operand)) = self.nodes.get(*id as usize)
        {
            *id = *operand;
            return Ok(true);
        }
        Ok(false)
    }

    fn arity(&self, function: Function, position: usize) -> ParseError {
        let expected = match function.arity() {
            (0, 0) => "no",
            (1, 1) => "1",
            (2, 2) => "2",
            (0, 1) => "0 or 1",
            (1, 2) => "1 or 2",
            (2, 3) => "2 or 3",
            _ => "other",
        };
        self.error(
            position,
            ParseErrorKind::Arguments {
                name: function.name(),
                expected,
            },
        )
    }

    /// `Quantity`, `FHIR.Patient`, ``FHIR.`Patient` ``.
    fn specifier(&mut self) -> Result<Specifier, ParseError> {
        let mut parts = Vec::new();
        loop {
            match self.next() {
                Token::Name { text, .. } => parts.push(text),
                _ => return Err(self.expected("the name of a type")),
            }
            if !(matches!(self.peek(), Token::Symbol("."))
                && parts.len() < 2
                && self.is_namespace(&parts))
            {
                break;
            }
            self.next();
        }
        Ok(Specifier::new(&parts))
    }

    fn is_namespace(&self, parts: &[String]) -> bool {
        matches!(parts, [namespace] if namespace == "FHIR" || namespace == "System")
    }
}

/// The variables that the FHIR dialect defines, and others.
///
/// # Source
/// FHIR R4 §FHIRPath, environment variables.
fn variable(name: String) -> Variable {
    let url = match name.as_str() {
        "resource" => return Variable::Resource,
        "rootResource" => return Variable::RootResource,
        "context" => return Variable::Context,
        "ucum" => "http://unitsofmeasure.org".to_owned(),
        "sct" => "http://snomed.info/sct".to_owned(),
        "loinc" => "http://loinc.org".to_owned(),
        other => match (other.strip_prefix("vs-"), other.strip_prefix("ext-")) {
            (Some(id), _) => format!("http://hl7.org/fhir/ValueSet/{id}"),
            (_, Some(id)) => format!("http://hl7.org/fhir/StructureDefinition/{id}"),
            _ => return Variable::Named(name),
        },
    };
    Variable::Url(url)
}
