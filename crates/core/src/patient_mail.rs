//! Mail to patients: a one-time code to an address that is to be added, and a notice to those that stood there before.
//!
//! The texts are fixed by the bundle (`rules/verification.toml`), name nobody and lead nowhere. Who is written to, and
//! when, is decided in `engine::verification`; how it leaves, in `connect`. Serialised: a promise (see
//! [`crate::event`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ids::PatientToken;

/// Which mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatientMailKind {
    /// A one-time code, to the address that is to be added.
    ContactCode,
    /// That contact data changed, to the addresses that stood there before.
    ContactChanged,
}

impl PatientMailKind {
    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            PatientMailKind::ContactCode => "contact_code",
            PatientMailKind::ContactChanged => "contact_changed",
        }
    }
}

/// Why a mail to a patient did not leave, or is not known to have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum PatientMailNotSent {
    /// Nothing here sends mail to patients: no mail server, or no text in the bundle.
    #[error("this installation sends patients no mail")]
    NoChannel,
    /// There is no address to which a mail could go.
    #[error("there is no e-mail address that a mail could go to")]
    NoAddress,
    /// The gate refused it; the ledger says which rule.
    #[error("the egress gate refused the mail")]
    Refused,
    /// The mail server did not take it.
    #[error("the mail server did not take the mail")]
    Failed,
}

impl PatientMailNotSent {
    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            PatientMailNotSent::NoChannel => "no_channel",
            PatientMailNotSent::NoAddress => "no_address",
            PatientMailNotSent::Refused => "refused",
            PatientMailNotSent::Failed => "failed",
        }
    }
}

/// What happened to a mail to a patient. Stands on the stream of the write-back that it is about, and holds no address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum PatientMailEvent {
    /// It is sent: recorded before it leaves.
    Sending {
        /// Which mail.
        mail: PatientMailKind,
        /// Whose.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        patient: Option<PatientToken>,
        /// To how many addresses.
        addresses: u32,
        /// Until when the code that it holds counts.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        until: Option<Timestamp>,
    },
    /// It did not leave.
    NotSent {
        /// Which mail.
        mail: PatientMailKind,
        /// Whose.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        patient: Option<PatientToken>,
        /// Why.
        reason: PatientMailNotSent,
    },
}

/// Where a code stands in a text.
pub const CODE_PLACE: &str = "{code}";

/// A mail as it leaves. `Debug` shows nothing of it.
#[derive(Clone)]
pub struct PatientMailText {
    /// The subject: fixed text.
    pub subject: String,
    /// The body: fixed text, with [`CODE_PLACE`] once where there is a code.
    pub body: String,
    /// The code.
    pub code: Option<String>,
}

impl fmt::Debug for PatientMailText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PatientMailText(withheld)")
    }
}

/// Whether a text is one e-mail address that mail can go to: nothing else, no name beside it, no quotes, ASCII only.
///
/// Narrower than what standards allow, on purpose: an address that two programs could read in two ways, or a person
/// could take for another, gets no code.
///
/// # Source
/// RFC 5321, sections 4.1.2 (`Dot-string`) and 4.5.3.1 (lengths).
pub fn is_mail_address(text: &str) -> bool {
    const ADDRESS_BYTES_MAX: usize = 254;
    const LOCAL_BYTES_MAX: usize = 64;
    const LABEL_BYTES_MAX: usize = 63;
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let is_atom = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
    };
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let top = domain.rsplit('.').next().unwrap_or_default();
    text.len() <= ADDRESS_BYTES_MAX
        && local.len() <= LOCAL_BYTES_MAX
        && local.split('.').all(is_atom)
        && domain.contains('.')
        && domain.split('.').all(is_label)
        && top.bytes().any(|b| b.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_and_nothing_else() {
        for address in [
            "ada@example.org",
            "a.b+c_d@mail.example.org",
            "x@a-b.example",
        ] {
            assert!(is_mail_address(address), "{address}");
        }
        let long = format!("{}@example.org", "a".repeat(65));
        for other in [
            "",
            "ada",
            "ada@",
            "@example.org",
            "ada@example",
            "ada@192.0.2.1",
            "ada@[192.0.2.1]",
            "ada@example.org,eve@example.org",
            "ada@example.org, eve@example.org",
            "ada@example.org\r\nBcc: eve@example.org",
            "Ada <ada@example.org>",
            "\"ada\"@example.org",
            "ada@eve@example.org",
            ".ada@example.org",
            "ada..b@example.org",
            "ada@example..org",
            "ada@-example.org",
            "аda@example.org",
            "ada@exämple.org",
            " ada@example.org",
            long.as_str(),
        ] {
            assert!(!is_mail_address(other), "{other}");
        }
    }
}
