//! What the engine has to do with bytes that leave: the detector that inspects them, which is the scrubber of free text
//! in a mode that changes nothing, and telling the ledger what left and what did not.
//!
//! Not here: the gate itself, which is `connect`'s, and where bytes may go (`chaperone_core::egress`).

use std::sync::Arc;

use chaperone_core::egress::EgressCount;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ports::{CommitFailed, Detector, Expected, Identifier, NotInspected};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_phi::scrub::{Budget, Known, Lexicon, LexiconInvalid, Scrubber, Settings};
use chaperone_policy::Bundle;

use crate::context::Engine;

/// Longest text that is inspected, in bytes.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// Most steps that one text may cost; see [`Budget`].
const STEPS_MAX: u64 = 20_000_000;
/// How a token begins that stands for a patient or for a resource of one, and how many digits follow.
const TOKENS: [&str; 2] = ["pat_", "res_"];
const TOKEN_DIGITS: usize = 32;

/// The scrubber as a detector. It knows nobody in particular: what leaves as operational is about nobody.
struct ScrubDetector {
    /// Absent: the lists that are compiled in.
    own: Option<Lexicon>,
    known: Known,
}

/// The detector for what leaves, with the bundle's word lists, or those compiled in where it has none.
///
/// # Errors
/// [`LexiconInvalid`] names the list that cannot be read.
pub fn detector(bundle: &Bundle) -> Result<Arc<dyn Detector>, LexiconInvalid> {
    let rule = |name: &str| bundle.rule_text(name);
    let own = if Lexicon::is_embedded(rule) {
        None
    } else {
        match Lexicon::from_rules(rule) {
            Ok(own) => Some(own),
            Err(LexiconInvalid::Missing(_)) => None,
            Err(failed) => return Err(failed),
        }
    };
    Ok(Arc::new(ScrubDetector {
        own,
        known: Known::default(),
    }))
}

impl Detector for ScrubDetector {
    fn identifiers(&self, text: &str) -> Result<Vec<Identifier>, NotInspected> {
        let lexicon = match &self.own {
            Some(own) => own,
            None => Lexicon::embedded().map_err(|_| NotInspected)?,
        };
        let settings = Settings {
            budget: Budget {
                bytes_max: TEXT_BYTES_MAX,
                steps_max: STEPS_MAX,
            },
            ..Settings::default()
        };
        let mut found: Vec<Identifier> = tokens(text).collect();
        let scrubber = Scrubber::new(lexicon, &self.known, settings);
        let identifiers = scrubber.detect(text).map_err(|_| NotInspected)?;
        found.extend(identifiers.iter().map(|finding| Identifier {
            class: finding.class.word(),
            start: finding.start,
            end: finding.end,
        }));
        Ok(found)
    }
}

/// Tokens that stand for patients or their resources, in whatever case they are written.
fn tokens(text: &str) -> impl Iterator<Item = Identifier> + '_ {
    TOKENS.into_iter().flat_map(move |prefix| {
        let bytes = text.as_bytes();
        (0..bytes.len()).filter_map(move |start| {
            let rest = bytes.get(start..)?;
            let (head, digits) = rest.split_at_checked(prefix.len())?;
            let digits = digits.get(..TOKEN_DIGITS)?;
            let is_token = head.eq_ignore_ascii_case(prefix.as_bytes())
                && digits.iter().all(u8::is_ascii_hexdigit);
            is_token.then_some(Identifier {
                class: "TOKEN",
                start,
                end: start + prefix.len() + TOKEN_DIGITS,
            })
        })
    })
}

impl Engine {
    /// Records what passed the gate and what did not.
    ///
    /// # Errors
    /// When nothing can be recorded; the gate takes the counts back then.
    pub async fn record_egress(&self, counts: &[EgressCount]) -> Result<(), CommitFailed> {
        if counts.is_empty() {
            return Ok(());
        }
        let mut commit = self.commit_as(Actor::System {
            part: SystemPart::Gateway,
        });
        for counted in counts {
            let (channel, class) = (counted.channel, counted.class);
            let (count, since) = (counted.count, counted.since);
            let event = match (counted.rule, &counted.vendor) {
                (None, Some((vendor, Some(region)))) => Event::EgressPassed {
                    channel,
                    class,
                    vendor: vendor.clone(),
                    region: region.clone(),
                    count,
                    since,
                },
                (Some(rule), vendor) => Event::EgressRefused {
                    channel,
                    class,
                    vendor: vendor.as_ref().map(|(vendor, _)| vendor.clone()),
                    rule,
                    count,
                    since,
                },
                // Nothing passes without a vendor.
                (None, _) => continue,
            };
            commit.append(StreamId::Tenant, Expected::Any, event);
        }
        self.store.commit(commit).await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_and_tokens_are_found_and_what_is_operational_is_not() {
        let found = |text: &str| {
            let bundle = Bundle::load(&chaperone_policy::embedded::files()).unwrap();
            let found = detector(&bundle).unwrap().identifiers(text);
            found.map(|found| found.iter().map(|one| one.class).collect::<Vec<_>>())
        };
        for (text, class) in [
            ("Call Mrs. Theresa Miller back", "NAME"),
            ("MRN: 12345678", "MRN"),
            ("reach her at 617-555-0148", "PHONE"),
            ("pat_0123456789abcdef0123456789abcdef", "TOKEN"),
            ("for RES_0123456789ABCDEF0123456789abcdef now", "TOKEN"),
            ("[NAME-4817203] called", "TEXT"),
        ] {
            assert_eq!(found(text).unwrap().first().copied(), Some(class), "{text}");
        }
        for text in [
            "Chaperone: something waits for approval",
            "Something waits for an operator.",
            "Somebody looks at a patient in an emergency, beyond what consent allows.",
            "Something that was approved under your role was not delivered.",
            "hl7.fhir.us.core",
            "AuditEvent",
            "scope: system/*.read",
            "accept: application/fhir+json",
            "content-type: application/x-www-form-urlencoded",
            "pat_0123",
            "hl7.fhir.us.core\n8.0.0\n",
            "hl7.fhir.uv.sdc\n4.0.0-ballot\n",
            "prefer: return=minimal",
        ] {
            assert_eq!(found(text), Ok(Vec::new()), "{text}");
        }
        // What is encoded may hold anything.
        let note =
            "UGF0aWVudCBKYW5lIERvZSwgTVJOIDEyMzQ1Njc4LCB3YXMgc2VlbiB0b2RheSBmb3IgY2hlc3QgcGFpbi4=";
        assert!(found(note).is_err() || !found(note).unwrap().is_empty());
    }
}
