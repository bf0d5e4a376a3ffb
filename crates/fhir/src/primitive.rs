//! The formats of FHIR's primitive types, checked by hand-written scanners.
//!
//! It checks a single value; where values may stand is the business of [`crate::validate`].
//! Start at [`Primitive::check`].
//!
//! Rules: <https://hl7.org/fhir/R4/datatypes.html#primitive> (regular expressions and notes).

pub mod dates;
mod text;

use crate::json::{Kind, Value};

/// FHIR's primitive types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the variants are the names of the types")]
pub enum Primitive {
    Boolean,
    Integer,
    UnsignedInt,
    PositiveInt,
    Decimal,
    String,
    Markdown,
    Code,
    Id,
    Uri,
    Url,
    Canonical,
    Oid,
    Uuid,
    Base64Binary,
    Date,
    DateTime,
    Instant,
    Time,
    Xhtml,
}

/// All primitive types, in the order of their codes in the compiled form.
pub(crate) const ALL: [Primitive; 20] = [
    Primitive::Boolean,
    Primitive::Integer,
    Primitive::UnsignedInt,
    Primitive::PositiveInt,
    Primitive::Decimal,
    Primitive::String,
    Primitive::Markdown,
    Primitive::Code,
    Primitive::Id,
    Primitive::Uri,
    Primitive::Url,
    Primitive::Canonical,
    Primitive::Oid,
    Primitive::Uuid,
    Primitive::Base64Binary,
    Primitive::Date,
    Primitive::DateTime,
    Primitive::Instant,
    Primitive::Time,
    Primitive::Xhtml,
];

/// Longest string, in characters.
///
/// # Source
/// FHIR R4 datatypes, `string`: must not exceed 1 MB (1024*1024 characters).
pub const STRING_CHARACTERS_MAX: usize = 1024 * 1024;

/// What is wrong with a primitive value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The JSON kind is wrong: a string where a number belongs, and so on.
    Kind,
    /// An empty string.
    Empty,
    /// The text does not have the format of the type.
    Format,
    /// The format is right, but there is no such day or time.
    ImpossibleDate,
    /// A date with a time has no timezone.
    TimezoneMissing,
    /// A number outside the range of the type.
    OutOfRange,
    /// Longer than the type allows.
    TooLong,
    /// Allowed, but only white space.
    Blank,
}

impl Primitive {
    /// The type's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Primitive::Boolean => "boolean",
            Primitive::Integer => "integer",
            Primitive::UnsignedInt => "unsignedInt",
            Primitive::PositiveInt => "positiveInt",
            Primitive::Decimal => "decimal",
            Primitive::String => "string",
            Primitive::Markdown => "markdown",
            Primitive::Code => "code",
            Primitive::Id => "id",
            Primitive::Uri => "uri",
            Primitive::Url => "url",
            Primitive::Canonical => "canonical",
            Primitive::Oid => "oid",
            Primitive::Uuid => "uuid",
            Primitive::Base64Binary => "base64Binary",
            Primitive::Date => "date",
            Primitive::DateTime => "dateTime",
            Primitive::Instant => "instant",
            Primitive::Time => "time",
            Primitive::Xhtml => "xhtml",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        ALL.into_iter().find(|primitive| primitive.name() == name)
    }

    /// The kind of JSON value that the type is written as.
    #[must_use]
    pub fn json_kind(self) -> Kind {
        match self {
            Primitive::Boolean => Kind::Bool,
            Primitive::Integer
            | Primitive::UnsignedInt
            | Primitive::PositiveInt
            | Primitive::Decimal => Kind::Number,
            _ => Kind::String,
        }
    }

    /// What a right value looks like, for messages.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Primitive::Boolean => "`true` or `false`",
            Primitive::Integer => "a whole number from -2147483648 to 2147483647",
            Primitive::UnsignedInt => "a whole number from 0 to 2147483647",
            Primitive::PositiveInt => "a whole number from 1 to 2147483647",
            Primitive::Decimal => "a number",
            Primitive::String => "text that is not empty and has no control characters",
            Primitive::Markdown => "markdown text that is not empty",
            Primitive::Code => "a code: no white space at either end, single spaces inside",
            Primitive::Id => "1 to 64 characters out of A-Z, a-z, 0-9, `-` and `.`",
            Primitive::Uri => {
                "a URI without white space (`urn:uuid:` followed by a lower-case UUID, `urn:oid:` by a valid OID)"
            }
            Primitive::Url => "a URL without white space",
            Primitive::Canonical => {
                "an absolute canonical URL without white space, optionally with `|version`, or `#id` of a contained resource"
            }
            Primitive::Oid => "`urn:oid:` followed by an OID",
            Primitive::Uuid => "`urn:uuid:` followed by a lower-case UUID",
            Primitive::Base64Binary => "base64 text of complete groups of four characters",
            Primitive::Date => "YYYY, YYYY-MM or YYYY-MM-DD, a day that exists",
            Primitive::DateTime => {
                "YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a timezone (Z, +hh:mm or -hh:mm), a day that exists"
            }
            Primitive::Instant => {
                "YYYY-MM-DDThh:mm:ss with a timezone (Z, +hh:mm or -hh:mm), a day that exists"
            }
            Primitive::Time => "hh:mm:ss without timezone",
            Primitive::Xhtml => "an XHTML fragment within one `<div>`",
        }
    }

    /// Checks a JSON value against the type.
    ///
    /// # Errors
    /// The first fault found. [`Fault::Blank`] alone is no breach of the standard.
    pub fn check(self, value: Value<'_>) -> Result<(), Fault> {
        match self {
            Primitive::Boolean => value.as_bool().map(|_| ()).ok_or(Fault::Kind),
            Primitive::Integer | Primitive::UnsignedInt | Primitive::PositiveInt => {
                self.check_integer(value.as_number().ok_or(Fault::Kind)?)
            }
            // Every JSON number is a FHIR decimal.
            Primitive::Decimal => value.as_number().map(|_| ()).ok_or(Fault::Kind),
            _ => self.check_text(value.as_str().ok_or(Fault::Kind)?),
        }
    }

    fn check_integer(self, text: &str) -> Result<(), Fault> {
        if text == "-0" || text.contains(['.', 'e', 'E']) {
            return Err(Fault::Format);
        }
        let number: i32 = text.parse().map_err(|_| Fault::OutOfRange)?;
        let low = match self {
            Primitive::UnsignedInt => 0,
            Primitive::PositiveInt => 1,
            _ => i32::MIN,
        };
        if number < low {
            Err(Fault::OutOfRange)
        } else {
            Ok(())
        }
    }

    /// Checks the text of a type that is written as a string (also usable on values read elsewhere).
    ///
    /// # Errors
    /// The first fault found.
    pub fn check_text(self, text: &str) -> Result<(), Fault> {
        if text.is_empty() {
            return Err(Fault::Empty);
        }
        let right = match self {
            Primitive::Boolean
            | Primitive::Integer
            | Primitive::UnsignedInt
            | Primitive::PositiveInt
            | Primitive::Decimal => return Err(Fault::Kind),
            Primitive::String | Primitive::Markdown => return text::check_string(text),
            Primitive::Date => return dates::check_date(text),
            Primitive::DateTime => return dates::check_date_time(text),
            Primitive::Instant => return dates::check_instant(text),
            Primitive::Time => return dates::check_time(text),
            Primitive::Code => text::is_code(text),
            Primitive::Id => text::is_id(text),
            Primitive::Uri => text::is_uri(text),
            Primitive::Canonical => text::is_canonical(text),
            Primitive::Url => text::is_url(text),
            Primitive::Oid => text.strip_prefix("urn:oid:").is_some_and(text::is_oid),
            Primitive::Uuid => text.strip_prefix("urn:uuid:").is_some_and(text::is_uuid),
            Primitive::Base64Binary => text::is_base64(text),
            Primitive::Xhtml => text::is_div(text),
        };
        if right { Ok(()) } else { Err(Fault::Format) }
    }
}

/// Whether the text begins with a scheme (`http:`, `urn:`, …), as absolute URIs do.
///
/// # Source
/// RFC 3986, section 3.1.
#[must_use]
pub fn is_absolute_uri(text: &str) -> bool {
    text::is_absolute(text)
}

/// Whether the text is a FHIR logical id.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text::is_id(text)
}
