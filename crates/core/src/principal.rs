//! Who acts: agents, humans and Chaperone's own parts.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{AccountName, AgentId, EhrEventSource, EnvelopeId, PersonId};

/// A role a human can hold.
///
/// # Source
/// The write-back matrix's vocabulary (requirements R021, R029).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The patient.
    Patient,
    /// A related person with verified authority.
    Proxy,
    /// Front-desk scheduling.
    Scheduler,
    /// Medical assistant or nurse.
    MaRn,
    /// Registered nurse.
    Rn,
    /// Pharmacist.
    Pharmacist,
    /// Licensed prescriber or independent practitioner.
    Clinician,
    /// Billing.
    Biller,
    /// Health-information management: corrects records.
    Him,
    /// Privacy officer.
    Privacy,
    /// Operates Chaperone; never approves clinical content.
    ItAdmin,
    /// In training. Held beside the role somebody trains for, it gives nothing: a colleague of that role
    /// who is not in training signs beside them.
    Trainee,
}

impl Role {
    /// Every role, in a fixed order.
    pub const ALL: [Role; 12] = [
        Role::Patient,
        Role::Proxy,
        Role::Scheduler,
        Role::MaRn,
        Role::Rn,
        Role::Pharmacist,
        Role::Clinician,
        Role::Biller,
        Role::Him,
        Role::Privacy,
        Role::ItAdmin,
        Role::Trainee,
    ];

    /// The name used in policies and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Patient => "patient",
            Role::Proxy => "proxy",
            Role::Scheduler => "scheduler",
            Role::MaRn => "ma_rn",
            Role::Rn => "rn",
            Role::Pharmacist => "pharmacist",
            Role::Clinician => "clinician",
            Role::Biller => "biller",
            Role::Him => "him",
            Role::Privacy => "privacy",
            Role::ItAdmin => "it_admin",
            Role::Trainee => "trainee",
        }
    }

    /// Reads the policy name of a role.
    pub fn parse(text: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A signed-in human.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Human {
    /// The account that signed in.
    pub account: AccountName,
    /// The person behind the account; one person may hold several accounts.
    pub person: PersonId,
    /// Roles in force now.
    pub roles: Vec<Role>,
}

impl Human {
    /// Whether the person holds a role.
    pub fn holds(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether their word needs that of a colleague beside it.
    pub fn is_in_training(&self) -> bool {
        self.holds(Role::Trainee)
    }
}

/// Who caused an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Actor {
    /// An agent inside an envelope.
    Agent {
        /// The agent.
        agent: AgentId,
        /// The envelope, when the act happened inside one.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        envelope: Option<EnvelopeId>,
    },
    /// A human at the console.
    Human {
        /// The account used.
        account: AccountName,
        /// The person behind it.
        person: PersonId,
    },
    /// A part of Chaperone itself.
    System {
        /// Which part.
        part: SystemPart,
    },
    /// A portal of patients, which signed what it sent.
    Portal {
        /// The portal.
        portal: EhrEventSource,
    },
    /// Nobody who could be identified.
    Anonymous,
}

/// The parts of Chaperone that act on their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SystemPart {
    /// The agents' gateway.
    Gateway,
    /// The delivery worker.
    Delivery,
    /// The worker that ends what has run out of time.
    Expiry,
    /// First-run set-up.
    Setup,
    /// The dispatcher of EHR events and work items.
    Dispatcher,
    /// A command on the server, by whoever may run one there.
    CommandLine,
    /// The worker that deletes what has been kept long enough.
    Retention,
    /// The worker that goes on with runs that undo what went wrong.
    Undo,
    /// The worker that counts what people found right and wrong.
    Oversight,
}

impl From<&Human> for Actor {
    fn from(human: &Human) -> Self {
        Actor::Human {
            account: human.account.clone(),
            person: human.person,
        }
    }
}
