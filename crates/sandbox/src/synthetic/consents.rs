//! What some of the synthetic patients have agreed to or refused. Few and plain, so that each shows one thing.
//!
//! None of them closes what a chart needs altogether: a demonstration runs through, and what is left out is seen
//! in the record.

use serde_json::{Value, json};

use super::clinical::Chart;
use super::reference;

const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";

impl Chart<'_> {
    /// The consent of the patient at a position, if the pattern has one.
    pub(super) fn consents(&mut self, position: usize) {
        let (category, policy, provision) = match position % 12 {
            // Agrees to treatment, payment and operations, in so many words.
            0 => (
                privacy(),
                "OPTIN",
                json!({"provision": [{"type": "permit", "purpose": [
                    purpose("TREAT"), purpose("HPAYMT"), purpose("HOPERAT"),
                ]}]}),
            ),
            // Wants no text messages.
            1 => (
                json!({"coding": [{
                    "system": "urn:chaperone:consent-category", "code": "contact-preference",
                }]}),
                "OPTOUT",
                json!({"provision": [{"type": "deny", "class": [{
                    "system": "urn:chaperone:contact-channel", "code": "sms",
                }]}]}),
            ),
            // Lets everything be seen but body weight.
            6 => (
                privacy(),
                "OPTOUT",
                json!({"provision": [{
                    "type": "deny",
                    "class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}],
                    "code": [{"coding": [{"system": "http://loinc.org", "code": "29463-7"}]}],
                }]}),
            ),
            _ => return,
        };
        let consent = json!({
            "resourceType": "Consent",
            "status": "active",
            "scope": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/consentscope",
                "code": "patient-privacy",
            }]},
            "category": [category],
            "patient": reference(&self.patient),
            "dateTime": self.now.to_string(),
            "organization": [reference(&self.clinic.organization())],
            "policyRule": {"coding": [{"system": ACT_CODE, "code": policy}]},
            "provision": provision,
        });
        self.add(consent);
    }
}

fn privacy() -> Value {
    json!({"coding": [{
        "system": "http://loinc.org", "code": "59284-0", "display": "Consent Document",
    }]})
}

fn purpose(code: &str) -> Value {
    json!({"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": code})
}
