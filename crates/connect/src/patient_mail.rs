//! Mail to patients: fixed text, and a code where there is one, to one address that the order has.
//!
//! Sent while whoever asked for it waits, through the same mail server as mail to staff, where the vendor that it
//! belongs to may be sent messages to patients. Nothing of a mail is logged but that it was not sent.

use async_trait::async_trait;
use chaperone_core::patient_mail::{
    CODE_PLACE, PatientMailNotSent, PatientMailText, is_mail_address,
};
use chaperone_core::phi::{ExposedFor, Phi};
use chaperone_core::ports::PatientMailer;
use lettre::Address;
use lettre::message::Mailbox;

use crate::egress::{Gate, MailDoor, MailFailed, MailText};
use crate::notify::{MailConfig, MailConfigInvalid, door, mailbox};

/// Sends patients mail.
pub struct MailToPatients {
    door: MailDoor,
    from: Mailbox,
}

impl std::fmt::Debug for MailToPatients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MailToPatients")
    }
}

impl MailToPatients {
    /// By the mail server and sender that mail to staff has; calls nobody.
    ///
    /// # Errors
    /// [`MailConfigInvalid`] names the setting to mend.
    pub fn new(config: &MailConfig, gate: &Gate) -> Result<Self, MailConfigInvalid> {
        Ok(Self {
            door: door(config, gate)?,
            from: mailbox("from", &config.from)?,
        })
    }
}

#[async_trait]
impl PatientMailer for MailToPatients {
    async fn send(
        &self,
        to: &Phi<String>,
        mail: &PatientMailText,
    ) -> Result<(), PatientMailNotSent> {
        let address = to.expose(ExposedFor::Message);
        // An address and nothing else: no name, no second recipient.
        let address: Option<Address> = is_mail_address(address)
            .then(|| address.parse().ok())
            .flatten();
        let to = Mailbox::new(None, address.ok_or(PatientMailNotSent::NoAddress)?);
        let code = mail.code.as_deref();
        let text = MailText {
            subject: mail.subject.clone(),
            body: code.map_or_else(
                || mail.body.clone(),
                |code| mail.body.replace(CODE_PLACE, code),
            ),
        };
        let sent = self.door.send_to_patient(&self.from, &to, &text, code);
        sent.await.map_err(|failed| match failed {
            // The gate has said so, and counted it.
            MailFailed::Refused(_) => PatientMailNotSent::Refused,
            MailFailed::Server(failed) => {
                tracing::warn!(
                    status = failed.status().map(|code| code.to_string()),
                    timeout = failed.is_timeout(),
                    "a mail to a patient could not be sent"
                );
                PatientMailNotSent::Failed
            }
            MailFailed::Name | MailFailed::Message | MailFailed::Silent => {
                tracing::warn!("a mail to a patient could not be sent");
                PatientMailNotSent::Failed
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::{config, gate, take_one_mail};

    fn text() -> PatientMailText {
        PatientMailText {
            subject: "Your confirmation code".to_owned(),
            body: "Enter this code: {code}\r\n".to_owned(),
            code: Some("48120377".to_owned()),
        }
    }

    #[tokio::test]
    async fn a_code_arrives_at_its_address_and_at_no_other() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = config();
        config.port = Some(listener.local_addr().unwrap().port());
        let mailer = MailToPatients::new(&config, &gate()).unwrap();
        // What is no address, or more than one, reaches no server.
        for other in [
            "",
            "ada",
            "ada@example.org,eve@example.org",
            "ada@example.org\r\nBcc: eve@example.org",
        ] {
            let sent = mailer.send(&Phi::new(other.to_owned()), &text()).await;
            assert_eq!(sent, Err(PatientMailNotSent::NoAddress), "{other}");
        }
        let to = Phi::new("ada@example.org".to_owned());
        let text = text();
        let (sent, mail) = tokio::join!(mailer.send(&to, &text), take_one_mail(listener));
        // The server hangs up without a word: nobody knows whether it took it, so it does not count as sent.
        assert_eq!(sent, Err(PatientMailNotSent::Failed));
        assert!(mail.contains("To: ada@example.org\n"), "{mail}");
        assert!(mail.contains("Enter this code: 48120377\n"), "{mail}");
        assert!(!mail.contains("clinic.example/console") && !mail.contains("Bcc"));
    }
}
