//! Who announced an event, or attested as a portal: HMAC-SHA-256 over timestamp and body, under a secret that one
//! source and this server share.
//!
//! ```text
//! X-Chaperone-Timestamp: 1772366400
//! X-Chaperone-Signature: v1=<hex of HMAC-SHA-256(secret, "1772366400." + body)>
//! ```
//!
//! Not what the event may cause. A source may have two secrets while it moves from one to the other. An
//! unknown source, one of the other kind, a missing signature and a wrong one are refused alike and after the
//! same work.
//!
//! # Source
//! RFC 2104 and FIPS 198-1 (HMAC).

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::hmac;
use chaperone_core::Timestamp;
use chaperone_core::ids::EhrEventSource;

/// Fewest bytes of a secret: as many as the digest has.
///
/// # Source
/// RFC 2104, section 3: keys shorter than the digest weaken the function.
pub const SECRET_BYTES_MIN: usize = 32;
/// Most bytes of a secret.
const SECRET_BYTES_MAX: usize = 1_024;
/// How far a timestamp may be from our clock unless a source has its own window, in seconds.
pub const WINDOW_S_DEFAULT: i64 = 300;
/// Bounds of such a window, in seconds.
const WINDOW_S: std::ops::RangeInclusive<i64> = 30..=900;
/// Most sources.
const SOURCES_MAX: usize = 64;
/// Most digits of a timestamp.
const TIMESTAMP_DIGITS_MAX: usize = 12;
/// What stands before the signature: how it is made.
const VERSION: &str = "v1=";

/// What a source may send. Nobody is both: an engine that announces appointments cannot say that a patient
/// confirmed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// Announces events of the EHR.
    Announcer,
    /// A portal of patients: attests what they confirmed there.
    Portal,
}

/// One source and its secrets.
pub struct SourceSecrets<'a> {
    /// Its name.
    pub source: EhrEventSource,
    /// What it may send.
    pub kind: SourceKind,
    /// The secret in use.
    pub current: &'a [u8],
    /// The secret before it, while the source still signs with it.
    pub previous: Option<&'a [u8]>,
    /// How far its timestamps may be from our clock, in seconds; 30 to 900.
    pub window_s: i64,
}

/// Why sources cannot be used. Names no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourcesInvalid {
    /// Too many.
    #[error("there are more than {SOURCES_MAX} sources of EHR events and portals")]
    TooMany,
    /// A name twice.
    #[error("`{0}` is named twice, as a source of EHR events or a portal")]
    Twice(EhrEventSource),
    /// A secret that is too short or too long.
    #[error(
        "a secret of the source `{0}` must have {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes; make one with `openssl rand -hex 32`"
    )]
    Secret(EhrEventSource),
    /// The same secret twice: one source could speak for the other, or nothing was rotated.
    #[error(
        "a secret of the source `{0}` is used twice; each source has its own, and another one than before"
    )]
    Shared(EhrEventSource),
    /// A window that is too narrow or too wide.
    #[error("the window of the source `{0}` must be 30 to 900 seconds")]
    Window(EhrEventSource),
}

#[derive(Clone)]
struct Source {
    kind: SourceKind,
    keys: Vec<hmac::Key>,
    window_s: i64,
}

/// Who may announce events, and which portals may attest. `Debug` shows names alone.
#[derive(Clone, Default)]
pub struct EventSources(BTreeMap<EhrEventSource, Source>);

impl std::fmt::Debug for EventSources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A delivery as it came in. Nothing of it is believed yet.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// The source it names.
    pub source: &'a str,
    /// Seconds since 1970, as sent; none when absent or sent twice.
    pub timestamp: Option<&'a str>,
    /// The signature, as sent; none when absent or sent twice.
    pub signature: Option<&'a str>,
    /// Every byte of the body.
    pub body: &'a [u8],
}

/// Why a delivery is not believed to come from whom it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAuthentic {
    /// Unknown source, or no right signature.
    Signature,
    /// Rightly signed, at another time.
    Timestamp {
        /// What is allowed.
        window_s: i64,
    },
}

impl EventSources {
    /// Sources that may announce events.
    ///
    /// # Errors
    /// [`SourcesInvalid`] names the source.
    pub fn new<'a>(
        sources: impl IntoIterator<Item = SourceSecrets<'a>>,
    ) -> Result<Self, SourcesInvalid> {
        let mut known = BTreeMap::new();
        let mut secrets = BTreeSet::new();
        for given in sources {
            let SourceSecrets {
                source,
                kind,
                current,
                previous,
                window_s,
            } = given;
            if !WINDOW_S.contains(&window_s) {
                return Err(SourcesInvalid::Window(source));
            }
            let mut keys = Vec::new();
            for secret in std::iter::once(current).chain(previous) {
                if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
                    return Err(SourcesInvalid::Secret(source));
                }
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                let mark = hmac::sign(&key, b"which secret this is").as_ref().to_vec();
                if !secrets.insert(mark) {
                    return Err(SourcesInvalid::Shared(source));
                }
                keys.push(key);
            }
            if known
                .insert(
                    source.clone(),
                    Source {
                        kind,
                        keys,
                        window_s,
                    },
                )
                .is_some()
            {
                return Err(SourcesInvalid::Twice(source));
            }
            if known.len() > SOURCES_MAX {
                return Err(SourcesInvalid::TooMany);
            }
        }
        Ok(Self(known))
    }

    /// Names of those of a kind.
    pub fn names(&self, kind: SourceKind) -> impl Iterator<Item = &EhrEventSource> {
        let all = self.0.iter().filter(move |(_, source)| source.kind == kind);
        all.map(|(name, _)| name)
    }

    /// Who of a kind sent a delivery.
    pub(super) fn check(
        &self,
        delivery: &Delivery<'_>,
        kind: SourceKind,
        now: Timestamp,
    ) -> Result<EhrEventSource, NotAuthentic> {
        let named = EhrEventSource::new(delivery.source).ok();
        let known = named
            .and_then(|name| Some((self.0.get(&name)?, name)))
            .filter(|(source, _)| source.kind == kind);
        let timestamp = delivery.timestamp.unwrap_or_default();
        let tag = delivery
            .signature
            .and_then(|text| text.strip_prefix(VERSION))
            .and_then(|digits| hex::decode(digits).ok())
            .unwrap_or_default();
        let nobody = [hmac::Key::new(hmac::HMAC_SHA256, &[0; SECRET_BYTES_MIN])];
        let keys = known
            .as_ref()
            .map_or(&nobody[..], |(source, _)| source.keys.as_slice());
        let signed = [timestamp.as_bytes(), b".", delivery.body].concat();
        let is_right = keys
            .iter()
            .any(|key| hmac::verify(key, &signed, &tag).is_ok());
        let Some((source, name)) = known.filter(|_| is_right) else {
            return Err(NotAuthentic::Signature);
        };
        let seconds = Some(timestamp)
            .filter(|text| (1..=TIMESTAMP_DIGITS_MAX).contains(&text.len()))
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse::<i64>().ok());
        let window_s = source.window_s;
        let is_near = seconds.is_some_and(|at| {
            now.as_second().saturating_sub(at).unsigned_abs() <= window_s.unsigned_abs()
        });
        if is_near {
            Ok(name)
        } else {
            Err(NotAuthentic::Timestamp { window_s })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const OLD: &[u8] = b"fedcba9876543210fedcba9876543210";
    const NOW: i64 = 1_772_366_400;

    fn name(text: &str) -> EhrEventSource {
        EhrEventSource::new(text).unwrap()
    }

    fn given<'a>(source: &str, current: &'a [u8], previous: Option<&'a [u8]>) -> SourceSecrets<'a> {
        SourceSecrets {
            source: name(source),
            kind: SourceKind::Announcer,
            current,
            previous,
            window_s: 300,
        }
    }

    fn signed(secret: &[u8], timestamp: &str, body: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, &[timestamp.as_bytes(), b".", body].concat());
        format!("v1={}", hex::encode(tag.as_ref()))
    }

    #[test]
    fn a_signature_is_what_openssl_makes() {
        // printf '1772366400.{}' | openssl dgst -sha256 -hmac 0123456789abcdef0123456789abcdef
        assert_eq!(
            signed(SECRET, "1772366400", b"{}"),
            "v1=30148bda9ed2a3f6035064b182e2b4efa79e628f4d66050e60409db5e70f3ee0"
        );
    }

    #[test]
    fn one_source_speaks_for_itself_within_its_time_and_nobody_else_does() {
        let sources = EventSources::new([
            given("ehr", SECRET, Some(OLD)),
            given("lab", b"another secret, another source, ok", None),
        ])
        .unwrap();
        let now = Timestamp::from_second(NOW).unwrap();
        let at = |s: i64| (NOW + s).to_string();
        let right = |t: &str| Some(signed(SECRET, t, b"{}"));
        let late = || Err(NotAuthentic::Timestamp { window_s: 300 });
        let wrong = || Err(NotAuthentic::Signature);
        let upper = signed(SECRET, &at(0), b"{}").replace("v1=", "V1=");
        for (what, source, timestamp, signature, expected) in [
            ("right", "ehr", Some(at(0)), right(&at(0)), Ok(name("ehr"))),
            (
                "as old as may be",
                "ehr",
                Some(at(-300)),
                right(&at(-300)),
                Ok(name("ehr")),
            ),
            ("older", "ehr", Some(at(-301)), right(&at(-301)), late()),
            (
                "as far ahead as may be",
                "ehr",
                Some(at(300)),
                right(&at(300)),
                Ok(name("ehr")),
            ),
            ("further", "ehr", Some(at(301)), right(&at(301)), late()),
            (
                "the secret before",
                "ehr",
                Some(at(0)),
                Some(signed(OLD, &at(0), b"{}")),
                Ok(name("ehr")),
            ),
            (
                "no secret of ours",
                "ehr",
                Some(at(0)),
                Some(signed(&[0; 32], &at(0), b"{}")),
                wrong(),
            ),
            (
                "another source's",
                "lab",
                Some(at(0)),
                right(&at(0)),
                wrong(),
            ),
            (
                "an unknown source",
                "nobody",
                Some(at(0)),
                right(&at(0)),
                wrong(),
            ),
            (
                "an unknown source with the key that stands for none",
                "nobody",
                Some(at(0)),
                Some(signed(&[0; 32], &at(0), b"{}")),
                wrong(),
            ),
            ("no name", "Not A Name", Some(at(0)), right(&at(0)), wrong()),
            ("another time", "ehr", Some(at(1)), right(&at(0)), wrong()),
            (
                "another body",
                "ehr",
                Some(at(0)),
                Some(signed(SECRET, &at(0), b"{ }")),
                wrong(),
            ),
            ("no time", "ehr", None, right(&at(0)), wrong()),
            ("no time, and signed so", "ehr", None, right(""), late()),
            (
                "no number",
                "ehr",
                Some("now".to_owned()),
                right("now"),
                late(),
            ),
            (
                "a sign",
                "ehr",
                Some(format!("+{NOW}")),
                right(&format!("+{NOW}")),
                late(),
            ),
            ("no signature", "ehr", Some(at(0)), None, wrong()),
            (
                "an empty one",
                "ehr",
                Some(at(0)),
                Some("v1=".to_owned()),
                wrong(),
            ),
            (
                "of another version",
                "ehr",
                Some(at(0)),
                Some(upper),
                wrong(),
            ),
        ] {
            let delivery = Delivery {
                source,
                timestamp: timestamp.as_deref(),
                signature: signature.as_deref(),
                body: b"{}",
            };
            let announced = sources.check(&delivery, SourceKind::Announcer, now);
            assert_eq!(announced, expected, "{what}");
            // Whatever an announcer sends, it attests nothing.
            let attested = sources.check(&delivery, SourceKind::Portal, now);
            assert_eq!(attested, wrong(), "{what}");
        }
    }

    #[test]
    fn sources_that_could_be_confused_are_refused() {
        let refused = |sources: Vec<SourceSecrets<'_>>| EventSources::new(sources).unwrap_err();
        let long = [7; SECRET_BYTES_MAX + 1];
        assert_eq!(
            refused(vec![given("ehr", SECRET, None), given("lab", SECRET, None)]),
            SourcesInvalid::Shared(name("lab"))
        );
        assert_eq!(
            refused(vec![given("ehr", SECRET, Some(SECRET))]),
            SourcesInvalid::Shared(name("ehr"))
        );
        assert_eq!(
            refused(vec![given("ehr", SECRET, None), given("ehr", OLD, None)]),
            SourcesInvalid::Twice(name("ehr"))
        );
        for secret in [&SECRET[..31], &long] {
            assert_eq!(
                refused(vec![given("ehr", secret, None)]),
                SourcesInvalid::Secret(name("ehr"))
            );
        }
        for window_s in [29, 901] {
            let source = SourceSecrets {
                window_s,
                ..given("ehr", SECRET, None)
            };
            assert_eq!(refused(vec![source]), SourcesInvalid::Window(name("ehr")));
        }
    }

    #[test]
    fn what_is_printed_of_sources_is_their_names() {
        let sources = EventSources::new([given("ehr", SECRET, None)]).unwrap();
        assert_eq!(format!("{sources:?}"), "{ehr}");
    }
}
