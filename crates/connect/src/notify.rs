//! Telling people by e-mail that something waits for them. What waits is shown only at the console.
//!
//! A mail holds the console's address and one sentence: no patient, no write-back, no id.
//! Best effort: a mail that cannot be sent is logged and dropped; the console's badge does not need it.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{Notice, Notifier};
use chaperone_core::principal::Role;
use lettre::message::Mailbox;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::egress::{Gate, MailDoor, MailFailed, MailServer, MailText};

pub use crate::egress::MailEncryption;

/// Notices waiting to be sent at most; more are dropped.
const QUEUE_MAX: usize = 256;

/// Recipients of one mail at most.
const RECIPIENTS_MAX: usize = 50;

/// Says nothing to anybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct SilentNotifier;

#[async_trait]
impl Notifier for SilentNotifier {
    async fn notify(&self, _tenant: &TenantId, _notice: Notice) {}
}

/// Where mail goes, and to whom.
pub struct MailConfig {
    /// The mail server's name or address.
    pub host: String,
    /// Its port; the usual one of the encryption when absent.
    pub port: Option<u16>,
    /// How it is reached.
    pub encryption: MailEncryption,
    /// User name and password, if it asks for them.
    pub credentials: Option<(String, Zeroizing<String>)>,
    /// The sender.
    pub from: String,
    /// The console's address, as it stands in the mail.
    pub console_url: String,
    /// Who hears that something waits for a role's approval.
    pub approvers: BTreeMap<Role, Vec<String>>,
    /// Who hears that something waits for an operator.
    pub operators: Vec<String>,
}

impl std::fmt::Debug for MailConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

/// Why mail cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum MailConfigInvalid {
    /// Plain text to another machine.
    #[error(
        "mail to `{host}` must be encrypted: use `tls` or `starttls`; plain is for localhost, 127.0.0.1 \
         and ::1"
    )]
    NotEncrypted {
        /// The mail server.
        host: String,
    },
    /// Not a host.
    #[error("`{host}` is not the name or address of a mail server")]
    Host {
        /// What stands there.
        host: String,
    },
    /// Not an address.
    #[error("`{setting}` holds something that is not an e-mail address")]
    Address {
        /// Which setting.
        setting: &'static str,
    },
    /// Too many.
    #[error("at most {RECIPIENTS_MAX} recipients per role")]
    TooMany,
    /// TLS could not be set up.
    #[error("the mail client cannot be built: {0}")]
    Client(#[from] lettre::transport::smtp::Error),
}

/// Sends mail from a task of its own, so that a slow mail server holds nobody up.
#[derive(Debug)]
pub struct MailNotifier {
    queue: mpsc::Sender<Notice>,
}

struct Mailer {
    door: MailDoor,
    from: Mailbox,
    console_url: String,
    approvers: BTreeMap<Role, Vec<Mailbox>>,
    operators: Vec<Mailbox>,
}

impl MailNotifier {
    /// Starts the task; it ends when the notifier is dropped. Call inside a tokio runtime.
    ///
    /// # Errors
    /// [`MailConfigInvalid`] names the setting to mend.
    pub fn start(config: MailConfig, gate: &Gate) -> Result<Self, MailConfigInvalid> {
        let mailer = Mailer::new(config, gate)?;
        let (queue, mut waiting) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(async move {
            while let Some(notice) = waiting.recv().await {
                mailer.send(&notice).await;
            }
        });
        Ok(Self { queue })
    }
}

#[async_trait]
impl Notifier for MailNotifier {
    async fn notify(&self, tenant: &TenantId, notice: Notice) {
        if self.queue.try_send(notice).is_err() {
            tracing::warn!(%tenant, "too many notices are waiting; one was dropped");
        }
    }
}

impl Mailer {
    fn new(config: MailConfig, gate: &Gate) -> Result<Self, MailConfigInvalid> {
        let door = door(&config, gate)?;
        let mut approvers = BTreeMap::new();
        for (role, addresses) in &config.approvers {
            approvers.insert(*role, mailboxes("approvers", addresses)?);
        }
        Ok(Self {
            door,
            from: mailbox("from", &config.from)?,
            console_url: config.console_url,
            approvers,
            operators: mailboxes("operators", &config.operators)?,
        })
    }

    async fn send(&self, notice: &Notice) {
        let text = self.text(notice);
        for to in self.recipients(notice) {
            match self.door.send(&self.from, &to, &text).await {
                Ok(()) => {}
                // The gate has said so, and counted it; it would refuse the same to everybody.
                Err(MailFailed::Refused(_)) => return,
                Err(MailFailed::Server(failed)) => tracing::warn!(
                    status = failed.status().map(|code| code.to_string()),
                    timeout = failed.is_timeout(),
                    "a notice could not be mailed"
                ),
                Err(failed @ (MailFailed::Name | MailFailed::Message | MailFailed::Silent)) => {
                    tracing::warn!(error = %failed, "a notice could not be mailed");
                }
            }
        }
    }

    /// Everybody once, however many of the roles they have.
    fn recipients(&self, notice: &Notice) -> Vec<Mailbox> {
        let all: Vec<&Mailbox> = match notice {
            Notice::ApprovalWaiting { roles, .. }
            | Notice::ApprovedNotDelivered { roles, .. }
            | Notice::GlassBroken { roles } => roles
                .iter()
                .filter_map(|role| self.approvers.get(role))
                .flatten()
                .collect(),
            Notice::OperatorNeeded { .. } => self.operators.iter().collect(),
        };
        let mut seen = BTreeSet::new();
        all.into_iter()
            .filter(|mailbox| seen.insert(mailbox.email.to_string()))
            .take(RECIPIENTS_MAX)
            .cloned()
            .collect()
    }

    fn text(&self, notice: &Notice) -> MailText {
        let (subject, sentence) = match notice {
            Notice::ApprovalWaiting { .. } => (
                "Chaperone: something waits for approval",
                "Something waits for your approval.",
            ),
            Notice::ApprovedNotDelivered { .. } => (
                "Chaperone: something approved was not delivered",
                "Something that was approved under your role was not delivered.",
            ),
            Notice::GlassBroken { .. } => (
                "Chaperone: somebody broke the glass",
                "Somebody looks at a patient in an emergency, beyond what consent allows.",
            ),
            Notice::OperatorNeeded { .. } => (
                "Chaperone: something waits for an operator",
                "Something waits for an operator.",
            ),
        };
        MailText {
            subject: subject.to_owned(),
            body: format!("{sentence}\r\nSign in to see it: {}\r\n", self.console_url),
        }
    }
}

pub(crate) fn door(config: &MailConfig, gate: &Gate) -> Result<MailDoor, MailConfigInvalid> {
    let is_here = matches!(config.host.as_str(), "localhost" | "127.0.0.1" | "::1");
    if config.encryption == MailEncryption::PlainLoopback && !is_here {
        return Err(MailConfigInvalid::NotEncrypted {
            host: config.host.clone(),
        });
    }
    let server = MailServer {
        host: config.host.clone(),
        port: config.port.unwrap_or(match config.encryption {
            MailEncryption::Tls => 465,
            MailEncryption::StartTls => 587,
            MailEncryption::PlainLoopback => 25,
        }),
        encryption: config.encryption,
        credentials: config.credentials.clone(),
    };
    gate.mail(server)?.ok_or_else(|| MailConfigInvalid::Host {
        host: config.host.clone(),
    })
}

fn mailboxes(
    setting: &'static str,
    addresses: &[String],
) -> Result<Vec<Mailbox>, MailConfigInvalid> {
    if addresses.len() > RECIPIENTS_MAX {
        return Err(MailConfigInvalid::TooMany);
    }
    addresses
        .iter()
        .map(|address| mailbox(setting, address))
        .collect()
}

pub(crate) fn mailbox(setting: &'static str, address: &str) -> Result<Mailbox, MailConfigInvalid> {
    address
        .parse()
        .map_err(|_| MailConfigInvalid::Address { setting })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use chaperone_core::ids::WritebackId;
    use std::sync::Arc;

    pub(crate) fn gate() -> Gate {
        Gate::to_this_machine(Arc::new(SystemClock))
    }

    pub(crate) fn config() -> MailConfig {
        MailConfig {
            host: "127.0.0.1".to_owned(),
            port: Some(2525),
            encryption: MailEncryption::PlainLoopback,
            credentials: None,
            from: "chaperone@clinic.example".to_owned(),
            console_url: "https://chaperone.clinic.example/console".to_owned(),
            approvers: BTreeMap::from([
                (Role::Clinician, vec!["a@clinic.example".to_owned()]),
                (
                    Role::Pharmacist,
                    vec!["a@clinic.example".to_owned(), "b@clinic.example".to_owned()],
                ),
            ]),
            operators: vec!["it@clinic.example".to_owned()],
        }
    }

    #[test]
    fn a_mail_names_nothing_but_the_console() {
        let mailer = Mailer::new(config(), &gate()).unwrap();
        let writeback = WritebackId::from_random([7; 16]);
        let notice = Notice::ApprovalWaiting {
            writeback,
            roles: vec![Role::Clinician, Role::Pharmacist, Role::Rn],
        };
        let to = mailer.recipients(&notice);
        assert_eq!(to.len(), 2);
        let text = mailer.text(&notice);
        let text = format!("{}\n{}", text.subject, text.body);
        assert!(text.contains("https://chaperone.clinic.example/console"));
        assert!(!text.contains("wb_") && !text.contains(&"07".repeat(4)));
    }

    #[test]
    fn plain_mail_stays_on_this_machine() {
        let mut elsewhere = config();
        elsewhere.host = "mail.clinic.example".to_owned();
        assert!(matches!(
            Mailer::new(elsewhere, &gate()),
            Err(MailConfigInvalid::NotEncrypted { .. })
        ));
        let mut wrong = config();
        wrong.operators = vec!["nobody".to_owned()];
        assert!(matches!(
            Mailer::new(wrong, &gate()),
            Err(MailConfigInvalid::Address {
                setting: "operators"
            })
        ));
    }

    /// A mail server that takes one mail and returns it.
    pub(crate) async fn take_one_mail(listener: tokio::net::TcpListener) -> String {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let (mut mail, mut in_mail) = (String::new(), false);
        writer.write_all(b"220 ready\r\n").await.unwrap();
        while let Some(line) = lines.next_line().await.unwrap() {
            let reply = match (in_mail, line.as_str()) {
                (true, ".") => return mail,
                (true, text) => {
                    mail.push_str(text);
                    mail.push('\n');
                    continue;
                }
                (false, "DATA") => {
                    in_mail = true;
                    "354 go on\r\n"
                }
                (false, _) => "250 ok\r\n",
            };
            writer.write_all(reply.as_bytes()).await.unwrap();
        }
        mail
    }

    #[tokio::test]
    async fn a_notice_arrives_as_a_mail() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = config();
        config.port = Some(listener.local_addr().unwrap().port());
        let notifier = MailNotifier::start(config, &gate()).unwrap();
        let notice = Notice::OperatorNeeded {
            writeback: WritebackId::from_random([7; 16]),
            code: "content-differs".to_owned(),
        };
        let tenant = TenantId::new("clinic").unwrap();
        notifier.notify(&tenant, notice).await;
        let mail = take_one_mail(listener).await;
        assert!(mail.contains("To: it@clinic.example"), "{mail}");
        assert!(mail.contains("https://chaperone.clinic.example/console"));
        for withheld in ["wb_", "0707", "content-differs", "clinic\n"] {
            assert!(!mail.contains(withheld), "{withheld}");
        }
    }
}
