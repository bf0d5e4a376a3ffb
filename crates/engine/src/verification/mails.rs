//! What Chaperone writes to patients, and how codes are made: `[codes]` and `[changed]` of `rules/verification.toml`.
//!
//! The numbers of the bundle may be stricter than the limits here, never laxer. A bundle without these tables sends
//! patients nothing.
//!
//! # Source
//! OWASP ASVS 4.0.3, section 2.7; CASA 1.3.1 to 1.3.4; NIST SP 800-63B, section 5.1.3.2.

use std::ops::RangeInclusive;

use chaperone_core::patient_mail::{CODE_PLACE, PatientMailText};
use chaperone_core::ports::Random;
use jiff::civil::Date;
use serde::Deserialize;

/// Fewest and most digits of a code.
const DIGITS: RangeInclusive<u32> = 8..=12;
/// Longest that a code counts, in seconds.
const VALID_S_MAX: i64 = 600;
/// Longest that it counts that a code came back, in seconds.
const CONFIRMED_S_MAX: i64 = 3_600;
/// Most wrong codes for one order, codes for one order, and codes for one patient within a day.
const TRIES_MAX: u32 = 5;
const CODES_MAX: u32 = 3;
const PATIENT_DAY_MAX: u32 = 10;
/// Where the minutes stand for which a code counts.
const MINUTES_PLACE: &str = "{minutes}";
/// Longest subject and body, in bytes.
const SUBJECT_BYTES_MAX: usize = 100;
const BODY_BYTES_MAX: usize = 4_096;

/// A mail with fixed text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FixedMail {
    source: String,
    owner: String,
    #[expect(dead_code, reason = "a day that cannot be read does not load")]
    reviewed: Date,
    #[expect(dead_code, reason = "a day that cannot be read does not load")]
    review_by: Date,
    subject: String,
    body: String,
}

impl FixedMail {
    /// The mail as it leaves.
    pub(super) fn text(&self) -> PatientMailText {
        text_of(&self.subject, &self.body, None)
    }

    pub(super) fn fault(&self) -> Option<String> {
        unanswered("changed", &self.source, &self.owner)
            .or_else(|| text_fault("changed", &self.subject, &self.body, 0))
    }
}

/// How codes are made, and what the mail with one says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeRules {
    source: String,
    owner: String,
    #[expect(dead_code, reason = "a day that cannot be read does not load")]
    reviewed: Date,
    #[expect(dead_code, reason = "a day that cannot be read does not load")]
    review_by: Date,
    digits: u32,
    /// For how long one counts, in seconds.
    pub(super) valid_s: i64,
    /// For how long it counts that one came back, in seconds.
    pub(super) confirmed_valid_s: i64,
    /// Wrong codes that are taken for one order.
    pub(super) tries_max: u32,
    /// Codes for one order.
    pub(super) codes_max: u32,
    /// Codes for one patient within a day.
    pub(super) patient_day_max: u32,
    subject: String,
    body: String,
}

impl CodeRules {
    /// A code: digits, each as likely as any other.
    pub(super) fn make(&self, random: &dyn Random) -> String {
        let mut code = String::with_capacity(12);
        while code.len() < self.digits as usize {
            let mut byte = [0];
            random.fill(&mut byte);
            let [byte] = byte;
            // 250 is the greatest multiple of ten in a byte; what is left over would make some digits likelier.
            if byte < 250 {
                code.push(char::from(b'0' + byte % 10));
            }
        }
        code
    }

    /// Whether a text is of the form of a code; anything else is none, and costs no try.
    pub(super) fn is_one(&self, text: &str) -> bool {
        text.len() == self.digits as usize && text.bytes().all(|b| b.is_ascii_digit())
    }

    /// The mail as it leaves.
    pub(super) fn text(&self, code: String) -> PatientMailText {
        let minutes = (self.valid_s / 60).to_string();
        let body = self.body.replace(MINUTES_PLACE, &minutes);
        text_of(&self.subject, &body, Some(code))
    }

    pub(super) fn fault(&self) -> Option<String> {
        if let Some(why) = unanswered("codes", &self.source, &self.owner) {
            return Some(why);
        }
        let within = |name: &str, value: i64, range: RangeInclusive<i64>| {
            (!range.contains(&value)).then(|| {
                format!(
                    "`{name}` of `[codes]` must be {} to {}",
                    range.start(),
                    range.end()
                )
            })
        };
        let digits = i64::from(*DIGITS.start())..=i64::from(*DIGITS.end());
        within("digits", i64::from(self.digits), digits)
            .or_else(|| within("valid_s", self.valid_s, 60..=VALID_S_MAX))
            .or_else(|| {
                within(
                    "confirmed_valid_s",
                    self.confirmed_valid_s,
                    1..=CONFIRMED_S_MAX,
                )
            })
            .or_else(|| {
                within(
                    "tries_max",
                    i64::from(self.tries_max),
                    1..=i64::from(TRIES_MAX),
                )
            })
            .or_else(|| {
                within(
                    "codes_max",
                    i64::from(self.codes_max),
                    1..=i64::from(CODES_MAX),
                )
            })
            .or_else(|| {
                let most = i64::from(PATIENT_DAY_MAX);
                within("patient_day_max", i64::from(self.patient_day_max), 1..=most)
            })
            .or_else(|| text_fault("codes", &self.subject, &self.body, 1))
    }
}

fn text_of(subject: &str, body: &str, code: Option<String>) -> PatientMailText {
    PatientMailText {
        subject: subject.to_owned(),
        body: body.trim_start().lines().collect::<Vec<_>>().join("\r\n") + "\r\n",
        code,
    }
}

fn unanswered(table: &str, source: &str, owner: &str) -> Option<String> {
    (source.trim().is_empty() || owner.trim().is_empty())
        .then(|| format!("`[{table}]` needs a `source` and an `owner`"))
}

/// What is wrong with fixed text: it is plain, names the code so often, and leads nowhere.
fn text_fault(table: &str, subject: &str, body: &str, codes: usize) -> Option<String> {
    let is_plain = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control());
    let fits = (1..=SUBJECT_BYTES_MAX).contains(&subject.len())
        && (1..=BODY_BYTES_MAX).contains(&body.len())
        && !subject.contains('\n')
        && is_plain(subject)
        && is_plain(body);
    if !fits {
        return Some(format!(
            "`subject` and `body` of `[{table}]` must be plain text of 1 to {SUBJECT_BYTES_MAX} and \
             {BODY_BYTES_MAX} bytes, the subject on one line"
        ));
    }
    let mut without = body.replace(CODE_PLACE, "");
    if codes > 0 {
        without = without.replace(MINUTES_PLACE, "");
    }
    if body.matches(CODE_PLACE).count() != codes
        || [subject, &without].iter().any(|it| it.contains(['{', '}']))
    {
        return Some(format!(
            "`[{table}]` must have `{CODE_PLACE}` in its body {codes} times, and no place of another name"
        ));
    }
    // Who learns to follow links in such mail follows the next one too.
    if [subject, body]
        .iter()
        .any(|it| it.contains("://") || it.contains("www."))
    {
        return Some(format!("the text of `[{table}]` must hold no link"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Tables {
        codes: CodeRules,
        changed: FixedMail,
    }

    const DEFAULT: &str = include_str!("../../../../governance/rules/verification.toml");

    fn tables(text: &str) -> Tables {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn laxer_limits_and_texts_that_lead_somewhere_are_refused() {
        let default = tables(DEFAULT);
        assert_eq!(default.codes.fault(), None);
        assert_eq!(default.changed.fault(), None);
        for (from, to, why) in [
            ("digits = 8", "digits = 7", "`digits`"),
            ("digits = 8", "digits = 13", "`digits`"),
            ("valid_s = 600", "valid_s = 601", "`valid_s`"),
            (
                "confirmed_valid_s = 1800",
                "confirmed_valid_s = 3601",
                "`confirmed_valid_s`",
            ),
            ("tries_max = 5", "tries_max = 6", "`tries_max`"),
            ("tries_max = 5", "tries_max = 0", "`tries_max`"),
            ("codes_max = 3", "codes_max = 4", "`codes_max`"),
            (
                "patient_day_max = 6",
                "patient_day_max = 11",
                "`patient_day_max`",
            ),
            (": {code}", "", "`{code}`"),
            (": {code}", ": {code} {code}", "`{code}`"),
            (": {code}", ": {code} {name}", "no place of another name"),
            (
                "please tell the practice",
                "see https://example.org",
                "no link",
            ),
            (
                "\"Your confirmation code\"",
                "\"Your\\ncode\"",
                "on one line",
            ),
        ] {
            assert!(DEFAULT.contains(from), "{from}");
            let said = tables(&DEFAULT.replacen(from, to, 1)).codes.fault();
            assert!(
                said.as_deref().unwrap_or_default().contains(why),
                "{to}: {said:?}"
            );
        }
    }

    #[test]
    fn the_fixed_texts_name_nobody_by_the_gates_own_measure() {
        let bundle = chaperone_policy::Bundle::load(&chaperone_policy::embedded::files()).unwrap();
        let detector = crate::egress::detector(&bundle).unwrap();
        let tables = tables(DEFAULT);
        for mail in [
            tables.codes.text("48120377".to_owned()),
            tables.changed.text(),
        ] {
            let body = mail.body.replace(CODE_PLACE, "");
            for text in [&mail.subject, &body] {
                let found = detector.identifiers(text).unwrap();
                let found: Vec<&str> = found.iter().map(|it| it.class).collect();
                assert!(found.is_empty(), "{found:?}: {text}");
            }
        }
    }

    #[test]
    fn a_code_has_its_digits_and_each_is_as_likely() {
        let rules = tables(DEFAULT).codes;
        let random = steps();
        let mut seen = [0_u32; 10];
        for _ in 0..2_000 {
            let code = rules.make(&random);
            assert!(rules.is_one(&code), "{code}");
            for digit in code.bytes() {
                seen[usize::from(digit - b'0')] += 1;
            }
        }
        // 1600 of each are expected; five standard deviations are 190.
        assert!(seen.iter().all(|n| (1_410..1_790).contains(n)), "{seen:?}");
        for other in [
            "1234567",
            "123456789",
            "1234567a",
            "１２３４５６７８",
            " 1234567",
        ] {
            assert!(!rules.is_one(other), "{other}");
        }
    }

    /// Bytes from a simple generator: the same in every run.
    fn steps() -> impl Random {
        struct Steps(std::sync::Mutex<u64>);
        impl Random for Steps {
            fn fill(&self, bytes: &mut [u8]) {
                let mut state = self.0.lock().unwrap();
                for byte in bytes {
                    *state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    *byte = (*state >> 56) as u8;
                }
            }
        }
        Steps(std::sync::Mutex::new(7))
    }
}
