//! Mail through the gate: one message to one recipient.
//!
//! Mail to staff, whom the configuration names, is operational data on the channel `mail`. Mail to a patient is health
//! information on the channel `message`, whatever it says, because of whose address it is. Subject and body are
//! inspected in both. The server's name is resolved here, and the connection goes to the address that was checked, under
//! the certificate of the name.

use std::time::Duration;

use chaperone_core::egress::{
    Channel, DataClass, Destination, EgressRefusal, EgressRule, Host, Scheme,
};
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use zeroize::Zeroizing;

use super::address::Unresolved;
use super::{Asked, Gate, content};

/// Limit on one exchange with the mail server, in milliseconds.
const SEND_TIMEOUT_MS: u64 = 10_000;
/// Addresses of the mail server that are tried.
const ADDRESSES_TRIED_MAX: usize = 4;

/// How the mail server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailEncryption {
    /// TLS from the first byte (port 465).
    Tls,
    /// STARTTLS, required (port 587).
    StartTls,
    /// None: a mail server on this machine only.
    PlainLoopback,
}

/// A mail server.
pub(crate) struct MailServer {
    /// Its name or address.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    pub(crate) encryption: MailEncryption,
    /// User name and password, if it asks for them.
    pub(crate) credentials: Option<(String, Zeroizing<String>)>,
}

/// What a mail says.
pub(crate) struct MailText {
    pub(crate) subject: String,
    pub(crate) body: String,
}

/// A mail, and what it is to the gate.
struct Letter<'a> {
    channel: Channel,
    class: DataClass,
    text: &'a MailText,
    /// Of the text, what must identify nobody.
    inspected: [String; 2],
}

/// Why a mail was not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MailFailed {
    #[error(transparent)]
    Refused(#[from] EgressRefusal),
    #[error("the mail server's name cannot be resolved")]
    Name,
    #[error("the mail cannot be written as one")]
    Message,
    #[error("the mail server did not answer in time")]
    Silent,
    #[error("the mail server did not take it")]
    Server(#[source] lettre::transport::smtp::Error),
}

/// One mail server behind the gate.
pub(crate) struct MailDoor {
    gate: Gate,
    server: MailServer,
    host: Host,
    tls: Option<TlsParameters>,
}

impl Gate {
    /// A way to one mail server; calls nobody. `None` where the host is not written as one is.
    pub(crate) fn mail(
        &self,
        server: MailServer,
    ) -> Result<Option<MailDoor>, lettre::transport::smtp::Error> {
        // An IPv6 address stands in brackets where ports follow, and in settings often without.
        let text = match server.host.parse::<std::net::Ipv6Addr>() {
            Ok(address) => format!("[{address}]"),
            Err(_) => server.host.clone(),
        };
        let Some(host) = Host::parse(&text) else {
            return Ok(None);
        };
        let tls = match server.encryption {
            MailEncryption::PlainLoopback => None,
            MailEncryption::Tls | MailEncryption::StartTls => {
                Some(TlsParameters::new(server.host.clone())?)
            }
        };
        Ok(Some(MailDoor {
            gate: self.clone(),
            server,
            host,
            tls,
        }))
    }
}

impl MailDoor {
    /// Sends one mail to staff.
    ///
    /// # Errors
    /// [`MailFailed`]; what was refused never reached the server.
    pub(crate) async fn send(
        &self,
        from: &Mailbox,
        to: &Mailbox,
        text: &MailText,
    ) -> Result<(), MailFailed> {
        let letter = Letter {
            channel: Channel::Mail,
            class: DataClass::Operational,
            text,
            inspected: [text.subject.clone(), text.body.clone()],
        };
        self.hand_over(from, to, &letter).await
    }

    /// Sends one mail to a patient. A secret that was made for it stands in the body; the rest is inspected like any
    /// text that claims to name nobody.
    ///
    /// # Errors
    /// [`MailFailed`]; what was refused never reached the server.
    pub(crate) async fn send_to_patient(
        &self,
        from: &Mailbox,
        to: &Mailbox,
        text: &MailText,
        secret: Option<&str>,
    ) -> Result<(), MailFailed> {
        let rest = secret.map_or_else(|| text.body.clone(), |it| text.body.replace(it, ""));
        let letter = Letter {
            channel: Channel::Message,
            class: DataClass::Phi,
            text,
            inspected: [text.subject.clone(), rest],
        };
        self.hand_over(from, to, &letter).await
    }

    async fn hand_over(
        &self,
        from: &Mailbox,
        to: &Mailbox,
        letter: &Letter<'_>,
    ) -> Result<(), MailFailed> {
        self.admit(letter)?;
        let text = letter.text;
        let resolved = self
            .gate
            .resolve(letter.channel, letter.class, &self.host)
            .await;
        let mut addresses = match resolved {
            Ok(addresses) => addresses,
            Err(Unresolved::Refused(refused)) => return Err(refused.0.into()),
            Err(Unresolved::Failed(_)) => return Err(MailFailed::Name),
        };
        // Where only one of the two is served, it is more often this.
        addresses.sort_by_key(std::net::IpAddr::is_ipv6);
        let message = Message::builder()
            .from(from.clone())
            .to(to.clone())
            .subject(text.subject.clone())
            .body(text.body.clone())
            .map_err(|_| MailFailed::Message)?;
        let mut outcome = Err(MailFailed::Name);
        for address in addresses.into_iter().take(ADDRESSES_TRIED_MAX) {
            // The library's own limit ends with the connection; a server that then says nothing would hold up every
            // later mail.
            let limit = Duration::from_millis(SEND_TIMEOUT_MS);
            let sending = self.transport(address);
            let sent = tokio::time::timeout(limit, sending.send(message.clone())).await;
            let failed = match sent {
                Err(_too_long) => return Err(MailFailed::Silent),
                Ok(Ok(_taken)) => return Ok(()),
                Ok(Err(failed)) => failed,
            };
            // An answer is an answer; where nobody was reached, the next address may be.
            let was_reached = failed.status().is_some()
                || failed.is_response()
                || failed.is_tls()
                || failed.is_client();
            outcome = Err(MailFailed::Server(failed));
            if was_reached {
                break;
            }
        }
        outcome
    }

    fn admit(&self, letter: &Letter<'_>) -> Result<(), EgressRefusal> {
        let text = letter.text;
        let is_broken = content::breaks_lines(&text.subject)
            || text
                .body
                .chars()
                .any(|c| c.is_control() && !matches!(c, '\r' | '\n' | '\t'));
        if is_broken {
            let refusal = EgressRefusal {
                channel: letter.channel,
                class: letter.class,
                vendor: None,
                rule: EgressRule::HeaderForm,
            };
            let now = self.gate.0.given.clock.now();
            self.gate.count_refusal(&refusal, now);
            return Err(refusal);
        }
        let scheme = match self.server.encryption {
            MailEncryption::Tls => Scheme::Smtps,
            MailEncryption::StartTls | MailEncryption::PlainLoopback => Scheme::Smtp,
        };
        let bytes = text.subject.len().saturating_add(text.body.len());
        self.gate.admit(&Asked {
            channel: letter.channel,
            class: letter.class,
            destination: Some(Destination {
                scheme,
                host: self.host.clone(),
                port: self.server.port,
            }),
            bytes: bytes as u64,
            texts: Some(&letter.inspected),
        })
    }

    fn transport(&self, address: std::net::IpAddr) -> AsyncSmtpTransport<Tokio1Executor> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the gate: the one place that makes mail clients"
        )]
        let mut builder =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.to_string())
                .port(self.server.port)
                .timeout(Some(Duration::from_millis(SEND_TIMEOUT_MS)));
        builder = match (&self.tls, self.server.encryption) {
            (Some(tls), MailEncryption::Tls) => builder.tls(Tls::Wrapper(tls.clone())),
            (Some(tls), _) => builder.tls(Tls::Required(tls.clone())),
            (None, _) => builder,
        };
        if let Some((user, password)) = &self.server.credentials {
            builder = builder.credentials(Credentials::new(user.clone(), (**password).clone()));
        }
        builder.build()
    }
}
