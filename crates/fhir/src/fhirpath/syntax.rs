//! The compiled form of an expression: nodes that refer to each other by index.
//!
//! Function names are resolved, literals read and constant regular expressions compiled, once.
//! Start at [`Compiled`].

use super::item::Item;
use super::specifier::Specifier;

/// Index of a node.
pub(super) type Id = u32;

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) nodes: Vec<Node>,
    /// Byte position of each node.
    pub(super) positions: Vec<u32>,
    pub(super) root: Id,
    /// Whether `defineVariable` occurs, so that scopes must be kept apart.
    pub(super) defines_variables: bool,
}

impl Compiled {
    pub(super) fn node(&self, id: Id) -> &Node {
        // Ids are made by the parser only, which pushes a node before it hands out its id.
        self.nodes.get(id as usize).unwrap_or(&Node::Empty)
    }

    pub(super) fn position(&self, id: Id) -> usize {
        self.positions.get(id as usize).map_or(0, |at| *at as usize)
    }
}

/// A variable behind `%`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    Resource,
    RootResource,
    Context,
    /// A URL that the FHIR dialect names: `%ucum`, `%"vs-…"`, `%"ext-…"`.
    Url(String),
    Named(String),
}

/// A node.
#[derive(Debug)]
pub(super) enum Node {
    /// `{}`
    Empty,
    Literal(Item<'static>),
    This,
    Index,
    Total,
    Variable(Variable),
    /// `a.b.c`: names followed one after the other, from `base` or, without one, from the focus.
    Path {
        base: Option<Id>,
        names: Vec<Box<str>>,
    },
    Call {
        base: Option<Id>,
        function: Function,
        arguments: Vec<Id>,
        extra: Extra,
    },
    Indexer {
        base: Id,
        index: Id,
    },
    /// `-x` (`true`) or `+x`.
    Sign(bool, Id),
    Binary(Operator, Id, Id),
    Is(Id, Specifier),
    As(Id, Specifier),
}

/// What a call carries besides its arguments.
#[derive(Debug)]
pub(super) enum Extra {
    None,
    Type(Specifier),
    /// The constant regular expression, compiled.
    Pattern(Box<regex::Regex>),
    /// For `sort`: which keys are descending.
    Descending(Vec<bool>),
}

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Implies,
    Or,
    Xor,
    And,
    In,
    Contains,
    Equal,
    NotEqual,
    Equivalent,
    NotEquivalent,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Union,
    Add,
    Subtract,
    Concatenate,
    Multiply,
    Divide,
    Div,
    Mod,
}

/// `is` and `as` stand between `|` and `+`.
pub(super) const TYPE_PRECEDENCE: u8 = 8;

impl Operator {
    /// The operator of a word or symbol, with its precedence (higher binds tighter).
    ///
    /// # Source
    /// FHIRPath N1, operator precedence.
    pub(super) fn of(text: &str) -> Option<(Self, u8)> {
        Some(match text {
            "implies" => (Self::Implies, 1),
            "or" => (Self::Or, 2),
            "xor" => (Self::Xor, 2),
            "and" => (Self::And, 3),
            "in" => (Self::In, 4),
            "contains" => (Self::Contains, 4),
            "=" => (Self::Equal, 5),
            "!=" => (Self::NotEqual, 5),
            "~" => (Self::Equivalent, 5),
            "!~" => (Self::NotEquivalent, 5),
            "<" => (Self::Less, 6),
            "<=" => (Self::LessOrEqual, 6),
            ">" => (Self::Greater, 6),
            ">=" => (Self::GreaterOrEqual, 6),
            "|" => (Self::Union, 7),
            "+" => (Self::Add, 9),
            "-" => (Self::Subtract, 9),
            "&" => (Self::Concatenate, 9),
            "*" => (Self::Multiply, 10),
            "/" => (Self::Divide, 10),
            "div" => (Self::Div, 10),
            "mod" => (Self::Mod, 10),
            _ => return None,
        })
    }
}

macro_rules! functions {
    ($($variant:ident $name:literal $low:literal $high:literal;)*) => {
        /// The functions of the language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Function { $($variant),* }

        impl Function {
            /// The function of that name.
            pub(super) fn of(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$variant),)* _ => None }
            }

            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Fewest and most arguments.
            pub(super) fn arity(self) -> (usize, usize) {
                match self { $(Self::$variant => ($low, $high)),* }
            }
        }
    };
}

functions! {
    Empty "empty" 0 0;
    Exists "exists" 0 1;
    All "all" 1 1;
    AllTrue "allTrue" 0 0;
    AnyTrue "anyTrue" 0 0;
    AllFalse "allFalse" 0 0;
    AnyFalse "anyFalse" 0 0;
    SubsetOf "subsetOf" 1 1;
    SupersetOf "supersetOf" 1 1;
    Count "count" 0 0;
    Distinct "distinct" 0 0;
    IsDistinct "isDistinct" 0 0;
    Not "not" 0 0;
    Where "where" 1 1;
    Select "select" 1 1;
    Repeat "repeat" 1 1;
    RepeatAll "repeatAll" 1 1;
    OfType "ofType" 1 1;
    Is "is" 1 1;
    As "as" 1 1;
    Coalesce "coalesce" 1 16;
    Single "single" 0 0;
    First "first" 0 0;
    Last "last" 0 0;
    Tail "tail" 0 0;
    Skip "skip" 1 1;
    Take "take" 1 1;
    Intersect "intersect" 1 1;
    Exclude "exclude" 1 1;
    Union "union" 1 1;
    Combine "combine" 1 2;
    Iif "iif" 2 3;
    Aggregate "aggregate" 1 2;
    Sort "sort" 0 16;
    ToBoolean "toBoolean" 0 0;
    ToInteger "toInteger" 0 0;
    ToDecimal "toDecimal" 0 0;
    ToDate "toDate" 0 0;
    ToDateTime "toDateTime" 0 0;
    ToTime "toTime" 0 0;
    ToString "toString" 0 0;
    ToQuantity "toQuantity" 0 1;
    ConvertsToBoolean "convertsToBoolean" 0 0;
    ConvertsToInteger "convertsToInteger" 0 0;
    ConvertsToDecimal "convertsToDecimal" 0 0;
    ConvertsToDate "convertsToDate" 0 0;
    ConvertsToDateTime "convertsToDateTime" 0 0;
    ConvertsToTime "convertsToTime" 0 0;
    ConvertsToString "convertsToString" 0 0;
    ConvertsToQuantity "convertsToQuantity" 0 1;
    IndexOf "indexOf" 1 1;
    LastIndexOf "lastIndexOf" 1 1;
    Substring "substring" 1 2;
    StartsWith "startsWith" 1 1;
    EndsWith "endsWith" 1 1;
    Contains "contains" 1 1;
    Upper "upper" 0 0;
    Lower "lower" 0 0;
    Replace "replace" 2 2;
    Matches "matches" 1 2;
    MatchesFull "matchesFull" 1 2;
    ReplaceMatches "replaceMatches" 2 3;
    Length "length" 0 0;
    ToChars "toChars" 0 0;
    Encode "encode" 1 1;
    Decode "decode" 1 1;
    Escape "escape" 1 1;
    Unescape "unescape" 1 1;
    Trim "trim" 0 0;
    Split "split" 1 1;
    Join "join" 0 1;
    Abs "abs" 0 0;
    Ceiling "ceiling" 0 0;
    Exp "exp" 0 0;
    Floor "floor" 0 0;
    Ln "ln" 0 0;
    Log "log" 1 1;
    Power "power" 1 1;
    Round "round" 0 1;
    Sqrt "sqrt" 0 0;
    Truncate "truncate" 0 0;
    Children "children" 0 0;
    Descendants "descendants" 0 0;
    Trace "trace" 1 2;
    Now "now" 0 0;
    Today "today" 0 0;
    TimeOfDay "timeOfDay" 0 0;
    DefineVariable "defineVariable" 1 2;
    LowBoundary "lowBoundary" 0 1;
    HighBoundary "highBoundary" 0 1;
    Precision "precision" 0 0;
    Comparable "comparable" 1 1;
    YearOf "yearOf" 0 0;
    MonthOf "monthOf" 0 0;
    DayOf "dayOf" 0 0;
    HourOf "hourOf" 0 0;
    MinuteOf "minuteOf" 0 0;
    SecondOf "secondOf" 0 0;
    MillisecondOf "millisecondOf" 0 0;
    TimezoneOffsetOf "timezoneOffsetOf" 0 0;
    DateOf "dateOf" 0 0;
    TimeOf "timeOf" 0 0;
    Type "type" 0 0;
    Extension "extension" 1 1;
    HasValue "hasValue" 0 0;
    GetValue "getValue" 0 0;
    Resolve "resolve" 0 0;
    ConformsTo "conformsTo" 1 1;
    MemberOf "memberOf" 1 1;
    Subsumes "subsumes" 1 1;
    SubsumedBy "subsumedBy" 1 1;
    HtmlChecks "htmlChecks" 0 0;
}
