//! Code systems whose codes are made by a rule instead of a list.
//!
//! Where the rule needs a register that is not part of this crate (three-letter languages, media types),
//! the answer is "cannot say", not "yes".
//! Start at [`Grammar::decide`].

use std::sync::Arc;

use super::language::LanguageTag;
use super::ucum::Ucum;
use crate::canonical::Filter;

/// A code system defined by a rule.
#[derive(Clone, Debug)]
pub(super) enum Grammar {
    /// Units of measure.
    Ucum {
        ucum: Arc<Ucum>,
        /// Only units with this canonical unit.
        canonical: Option<Box<str>>,
    },
    /// Language tags, without some of their parts.
    Language { without: Vec<LanguagePart> },
    /// Media types.
    MediaType,
    /// URIs.
    Uri,
    /// Subdivisions of countries; which of them exist is not known here.
    Subdivision,
    /// Areas of the United Nations' M49; which of them exist is not known here.
    Area,
}

/// A part of a language tag beside its language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LanguagePart {
    ExtendedLanguage,
    Script,
    Region,
    Variant,
    Extension,
    PrivateUse,
}

impl Grammar {
    /// The rule behind a system's URL.
    ///
    /// # Source
    /// FHIR R4, Using external code systems, <https://hl7.org/fhir/R4/terminologies-systems.html>.
    pub(super) fn of(url: &str, ucum: &Arc<Ucum>) -> Option<Self> {
        Some(match url {
            "http://unitsofmeasure.org" => Grammar::Ucum {
                ucum: Arc::clone(ucum),
                canonical: None,
            },
            "urn:ietf:bcp:47" => Grammar::Language {
                without: Vec::new(),
            },
            "urn:ietf:bcp:13" => Grammar::MediaType,
            "urn:ietf:rfc:3986" => Grammar::Uri,
            "urn:iso:std:iso:3166:-2" => Grammar::Subdivision,
            "http://unstats.un.org/unsd/methods/m49/m49.htm" => Grammar::Area,
            _ => return None,
        })
    }

    /// Whether every code gets a definite answer.
    pub(super) fn is_total(&self) -> bool {
        match self {
            Grammar::Ucum { .. } | Grammar::MediaType => true,
            Grammar::Language { .. } | Grammar::Uri | Grammar::Subdivision | Grammar::Area => false,
        }
    }

    /// Whether the code is made by the rule; `None` if that takes a register that is not here.
    pub(super) fn decide(&self, code: &str) -> Option<bool> {
        match self {
            Grammar::Ucum { ucum, canonical } => Some(match (ucum.unit(code), canonical) {
                (Err(_), _) => false,
                (Ok(_), None) => true,
                (Ok(unit), Some(wanted)) => unit.canonical() == &**wanted,
            }),
            Grammar::Language { without } => {
                let tag = match LanguageTag::parse(code) {
                    Ok(tag) => tag,
                    Err(_) => return Some(false),
                };
                if without.iter().any(|part| tag.has(*part)) {
                    return Some(false);
                }
                tag.is_registered()
            }
            Grammar::MediaType => Some(is_media_type(code)),
            // Without a scheme it may still be a reference, such as a bare OID that is widely sent.
            Grammar::Uri if code.is_empty() || !code.chars().all(is_uri_char) => Some(false),
            Grammar::Uri => has_scheme(code).then_some(true),
            Grammar::Subdivision => (!is_subdivision(code)).then_some(false),
            Grammar::Area => (!is_area(code)).then_some(false),
        }
    }

    /// The rule with a filter; `None` if the rule has no such property.
    ///
    /// # Source
    /// FHIR R4, Using UCUM with FHIR (`canonical`), <https://hl7.org/fhir/R4/ucum.html>; the properties of
    /// BCP 47 are those of HL7's terminology, <https://terminology.hl7.org/CodeSystem-v3-ietf3066.html>.
    pub(super) fn narrow(&self, filter: &Filter) -> Option<Self> {
        match (self, filter.property.as_str(), filter.op.as_str()) {
            (
                Grammar::Ucum {
                    ucum,
                    canonical: None,
                },
                "canonical",
                "=",
            ) => Some(Grammar::Ucum {
                ucum: Arc::clone(ucum),
                canonical: Some(ucum.unit(&filter.value).ok()?.canonical().into()),
            }),
            (Grammar::Language { without }, property, "exists") if filter.value == "false" => {
                let part = match property {
                    "ext-lang" => LanguagePart::ExtendedLanguage,
                    "script" => LanguagePart::Script,
                    "region" => LanguagePart::Region,
                    "variant" => LanguagePart::Variant,
                    "extension" => LanguagePart::Extension,
                    "private-use" => LanguagePart::PrivateUse,
                    _ => return None,
                };
                let mut without = without.clone();
                without.push(part);
                Some(Grammar::Language { without })
            }
            // Which area is of which class is not known here; what is no area is of none.
            (Grammar::Area, "class", "=") => Some(Grammar::Area),
            _ => None,
        }
    }
}

/// Whether this is `type/subtype`, with parameters or without. Whether the type is registered is not
/// asked: new ones appear all the time, and private ones are allowed.
///
/// # Source
/// RFC 6838 section 4.2 (names) and RFC 2045 section 5.1 (parameters); FHIR R4 allows parameters in
/// `Attachment.contentType` (<https://hl7.org/fhir/R4/datatypes.html#Attachment>).
fn is_media_type(code: &str) -> bool {
    let (name, parameters) = match code.split_once(';') {
        Some((name, parameters)) => (name.trim_end(), Some(parameters)),
        None => (code, None),
    };
    let Some((kind, subtype)) = name.split_once('/') else {
        return false;
    };
    let parameters_fit = parameters.is_none_or(|text| {
        text.split(';').all(|parameter| {
            parameter
                .trim()
                .split_once('=')
                .is_some_and(|(key, value)| is_token(key.trim()) && !value.trim().is_empty())
        })
    });
    is_restricted_name(kind) && is_restricted_name(subtype) && parameters_fit
}

fn is_restricted_name(text: &str) -> bool {
    /// RFC 6838 section 4.2.
    const LENGTH_MAX: usize = 127;
    text.len() <= LENGTH_MAX
        && text.starts_with(|it: char| it.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || "!#$&-^_.+".contains(it))
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|it| it.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(it))
}

/// Two letters of the country, a hyphen, and one to three letters or digits.
///
/// # Source
/// ISO 3166-2.
fn is_subdivision(code: &str) -> bool {
    code.split_once('-').is_some_and(|(country, rest)| {
        country.len() == 2
            && country.bytes().all(|it| it.is_ascii_alphabetic())
            && (1..=3).contains(&rest.len())
            && rest.bytes().all(|it| it.is_ascii_alphanumeric())
    })
}

/// Three digits.
///
/// # Source
/// United Nations, Standard country or area codes for statistical use (M49).
fn is_area(code: &str) -> bool {
    code.len() == 3 && code.bytes().all(|it| it.is_ascii_digit())
}

/// Whether this begins with a scheme and goes on.
///
/// # Source
/// RFC 3986 section 3.1.
fn has_scheme(code: &str) -> bool {
    code.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty()
            && scheme.starts_with(|it: char| it.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|it| it.is_ascii_alphanumeric() || "+-.".contains(it))
    })
}

/// Whether a URI may hold the character; those beyond ASCII (RFC 3987) may.
///
/// # Source
/// RFC 3986 section 2.
fn is_uri_char(it: char) -> bool {
    !it.is_whitespace() && !it.is_control() && !"<>\"{}|\\^`".contains(it)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(system: &str, code: &str) -> Option<bool> {
        Grammar::of(system, &Arc::default()).unwrap().decide(code)
    }

    #[test]
    fn each_rule_and_the_nearest_code_outside() {
        for (system, inside, outside) in [
            ("http://unitsofmeasure.org", "mm[Hg]", "mmHg"),
            ("http://unitsofmeasure.org", "10*3/uL", "10^3 /uL"),
            ("urn:ietf:bcp:47", "en-US", "en_US"),
            ("urn:ietf:bcp:47", "de", "dq"),
            ("urn:ietf:bcp:13", "application/fhir+json", "application"),
            (
                "urn:ietf:bcp:13",
                "text/plain; charset=utf-8",
                "text/plain;",
            ),
            ("urn:ietf:bcp:13", "image/svg+xml", "image/"),
            ("urn:ietf:rfc:3986", "urn:oid:1.2.3", "urn oid 1.2.3"),
            (
                "urn:ietf:rfc:3986",
                "https://example.org/a",
                "https://example.org/a b",
            ),
        ] {
            assert_eq!(decide(system, inside), Some(true), "{system} {inside}");
            assert_eq!(decide(system, outside), Some(false), "{system} {outside}");
        }
        assert_eq!(decide("urn:ietf:bcp:47", "haw"), None);
        assert_eq!(decide("urn:ietf:rfc:3986", "1.2.3"), None);
        let subdivisions = "urn:iso:std:iso:3166:-2";
        assert_eq!(decide(subdivisions, "US-CA"), None);
        assert_eq!(decide(subdivisions, "California"), Some(false));
        let areas = "http://unstats.un.org/unsd/methods/m49/m49.htm";
        assert_eq!(decide(areas, "150"), None);
        assert_eq!(decide(areas, "Europe"), Some(false));
    }

    #[test]
    fn filters_narrow_units_and_languages() {
        let filter = |property: &str, op: &str, value: &str| Filter {
            property: property.to_owned(),
            op: op.to_owned(),
            value: value.to_owned(),
        };
        let ucum = Arc::default();
        let lengths = Grammar::of("http://unitsofmeasure.org", &ucum)
            .unwrap()
            .narrow(&filter("canonical", "=", "m"))
            .unwrap();
        assert_eq!(lengths.decide("[in_i]"), Some(true));
        assert_eq!(lengths.decide("kg"), Some(false));
        let simple = Grammar::of("urn:ietf:bcp:47", &ucum)
            .unwrap()
            .narrow(&filter("script", "exists", "false"))
            .unwrap();
        assert_eq!(simple.decide("zh-CN"), Some(true));
        assert_eq!(simple.decide("zh-Hans"), Some(false));
        assert!(simple.narrow(&filter("tone", "exists", "false")).is_none());
        assert!(
            Grammar::Uri
                .narrow(&filter("canonical", "=", "m"))
                .is_none()
        );
    }
}
