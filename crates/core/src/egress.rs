//! Which bytes may leave, and where to: vendors as the bundle declares them, and the one decision about a
//! destination. Pure; `connect::egress` holds the door that asks it, and nothing else makes a connection.
//!
//! What is not listed is refused. Reading order: [`DataClass`] and [`Channel`] (what is sent, and for what),
//! [`VendorDeclaration`] and [`VendorTable`] (where it may go), [`VendorTable::judge`] (the decision),
//! [`EgressRule`] (why not, and what to do). Hosts are in [`destination`].
//!
//! # Source
//! Requirements R068, R073, R102 and R152; 45 CFR 164.308(b)(1), 164.314(a); OWASP ASVS 5.0, 1.3.6 (server-side
//! request forgery).

pub mod destination;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::ids::{Region, VendorId};

pub use destination::{Destination, Host, HostPattern, PatternInvalid, Scheme};

/// What kind of data is sent, as its sender declares it. In order of how much it says about patients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataClass {
    /// Nothing of the organisation: what anybody could have asked.
    None,
    /// About the running of things; no patient.
    Operational,
    /// De-identified by Safe Harbor.
    DeIdentified,
    /// Health information that leads to a patient.
    Phi,
}

impl DataClass {
    /// Every class.
    pub const ALL: [DataClass; 4] = [
        DataClass::None,
        DataClass::Operational,
        DataClass::DeIdentified,
        DataClass::Phi,
    ];

    /// The name as data files write it.
    pub fn as_str(self) -> &'static str {
        match self {
            DataClass::None => "none",
            DataClass::Operational => "operational",
            DataClass::DeIdentified => "de-identified",
            DataClass::Phi => "phi",
        }
    }

    /// Whether it was made from patients' data, so that it must stay where the organisation keeps that.
    pub fn is_of_patients(self) -> bool {
        self >= DataClass::DeIdentified
    }
}

impl fmt::Display for DataClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What bytes leave for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// The EHR's FHIR API.
    Ehr,
    /// An authorisation server that gives Chaperone its tokens.
    Authorization,
    /// A provider of language models.
    Model,
    /// Mail to staff.
    Mail,
    /// Messages to patients.
    Message,
    /// Notifications to other systems.
    Webhook,
    /// A repository of AuditEvents.
    AuditStream,
    /// Checkpoints of the ledger, kept outside.
    Anchor,
    /// A registry of conformance packages.
    PackageRegistry,
    /// A key management service.
    KeyService,
    /// The gateway of Chaperone itself, as an agent in a demonstration reaches it.
    Gateway,
    /// Services that say something about an order before it is signed.
    DecisionSupport,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Channel; 12] = [
        Channel::Ehr,
        Channel::Authorization,
        Channel::Model,
        Channel::Mail,
        Channel::Message,
        Channel::Webhook,
        Channel::AuditStream,
        Channel::Anchor,
        Channel::PackageRegistry,
        Channel::KeyService,
        Channel::Gateway,
        Channel::DecisionSupport,
    ];

    /// The name as data files write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Channel::Ehr => "ehr",
            Channel::Authorization => "authorization",
            Channel::Model => "model",
            Channel::Mail => "mail",
            Channel::Message => "message",
            Channel::Webhook => "webhook",
            Channel::AuditStream => "audit-stream",
            Channel::Anchor => "anchor",
            Channel::PackageRegistry => "package-registry",
            Channel::KeyService => "key-service",
            Channel::Gateway => "gateway",
            Channel::DecisionSupport => "decision-support",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a vendor is to the organisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// The organisation's own system on its own premises.
    Own,
    /// Bound by a business associate agreement.
    BusinessAssociate,
    /// Neither; gets nothing that was made from patients' data.
    Other,
}

/// One vendor: who it is, where it is reached, and what it may be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorDeclaration {
    /// Its id.
    pub id: VendorId,
    /// Its name in contracts.
    pub legal_name: String,
    /// What it is to the organisation.
    pub relation: Relation,
    /// What it may be used for.
    pub channels: Vec<Channel>,
    /// Where it is reached.
    pub hosts: Vec<HostPattern>,
    /// Whether its names may resolve to private addresses, because it is inside the organisation's network.
    #[serde(default)]
    pub internal: bool,
    /// What it may be sent.
    pub data_classes: Vec<DataClass>,
    /// The business associate agreement: its reference in the organisation's files.
    #[serde(default)]
    pub baa: Option<String>,
    /// Until when that holds. Past it the vendor is as if it were not listed.
    #[serde(default)]
    pub baa_expires: Option<Timestamp>,
    /// Within how many hours it must tell of a breach.
    #[serde(default)]
    pub breach_notice_hours: Option<u32>,
    /// Whether it has agreed not to train on what it is sent.
    #[serde(default)]
    pub training_banned: bool,
    /// What was found about its security, in words.
    pub security: String,
    /// Where it keeps and handles what it is sent.
    pub region: Region,
    /// Who answers for it inside the organisation, as a role or team.
    pub owner: String,
    /// Day of the last assessment of its risks.
    pub reviewed: jiff::civil::Date,
    /// The last day before it must be assessed again. Past it the vendor is as if it were not listed.
    pub review_by: jiff::civil::Date,
    /// Largest request, in bytes.
    pub request_bytes_max: u64,
    /// Most requests within a minute.
    pub requests_per_minute_max: u32,
    /// Whether tokens and slots in what it is sent are put back at the last gate. No channel does that yet.
    #[serde(default)]
    pub resolves_tokens: bool,
}

/// Everywhere that bytes may go: `rules/vendors.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VendorTable {
    /// Where the table comes from.
    pub source: String,
    /// Who answers for it, as a role or team.
    pub owner: String,
    /// Day of the last review.
    pub reviewed: jiff::civil::Date,
    /// Day by which it must be reviewed again.
    pub review_by: jiff::civil::Date,
    /// Where data that was made from patients' data may be. Everywhere else it does not go.
    pub regions: Vec<Region>,
    /// Longest that a provider of an agent may keep what it was sent, in days.
    pub provider_retention_days_max: u32,
    /// The vendors.
    #[serde(default)]
    pub vendors: Vec<VendorDeclaration>,
}

/// Why something does not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EgressRule {
    /// The address is not written as one is.
    DestinationForm,
    /// No vendor has this address.
    DestinationUnknown,
    /// The vendor is there for something else.
    ChannelNotDeclared,
    /// The vendor's agreement has expired.
    AgreementExpired,
    /// The vendor's assessment is overdue.
    ReviewOverdue,
    /// The vendor may not be sent this class of data.
    DataClassNotAllowed,
    /// The vendor is outside the organisation's regions.
    RegionNotPinned,
    /// The name resolves to an address that the vendor cannot have.
    AddressNotAllowed,
    /// What was declared to say nothing of patients holds identifiers.
    IdentifiersFound,
    /// What was declared to say nothing of patients cannot be read, so nobody knows.
    ContentUnreadable,
    /// A token or slot stands in it, and nothing puts it back on this channel.
    TokenUnresolved,
    /// A header, subject or address holds what would begin another.
    HeaderForm,
    /// The request is larger than the vendor's limit.
    RequestTooLarge,
    /// More requests than the vendor's limit.
    BudgetSpent,
}

impl EgressRule {
    /// Every rule.
    pub const ALL: [EgressRule; 14] = [
        EgressRule::DestinationForm,
        EgressRule::DestinationUnknown,
        EgressRule::ChannelNotDeclared,
        EgressRule::AgreementExpired,
        EgressRule::ReviewOverdue,
        EgressRule::DataClassNotAllowed,
        EgressRule::RegionNotPinned,
        EgressRule::AddressNotAllowed,
        EgressRule::IdentifiersFound,
        EgressRule::ContentUnreadable,
        EgressRule::TokenUnresolved,
        EgressRule::HeaderForm,
        EgressRule::RequestTooLarge,
        EgressRule::BudgetSpent,
    ];

    /// Its stable id.
    pub fn as_str(self) -> &'static str {
        match self {
            EgressRule::DestinationForm => "destination-form",
            EgressRule::DestinationUnknown => "destination-unknown",
            EgressRule::ChannelNotDeclared => "channel-not-declared",
            EgressRule::AgreementExpired => "agreement-expired",
            EgressRule::ReviewOverdue => "review-overdue",
            EgressRule::DataClassNotAllowed => "data-class-not-allowed",
            EgressRule::RegionNotPinned => "region-not-pinned",
            EgressRule::AddressNotAllowed => "address-not-allowed",
            EgressRule::IdentifiersFound => "identifiers-found",
            EgressRule::ContentUnreadable => "content-unreadable",
            EgressRule::TokenUnresolved => "token-unresolved",
            EgressRule::HeaderForm => "header-form",
            EgressRule::RequestTooLarge => "request-too-large",
            EgressRule::BudgetSpent => "budget-spent",
        }
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            EgressRule::DestinationForm => {
                "write the address as scheme, host and port, without user name, trailing dot or a number for a host"
            }
            EgressRule::DestinationUnknown => {
                "list the address in rules/vendors.toml with whoever answers for it, or correct the setting"
            }
            EgressRule::ChannelNotDeclared => {
                "add the channel to this vendor in rules/vendors.toml if it is meant for it"
            }
            EgressRule::AgreementExpired => {
                "renew the business associate agreement and enter its date in rules/vendors.toml"
            }
            EgressRule::ReviewOverdue => {
                "assess the vendor's risks again and enter the days in rules/vendors.toml"
            }
            EgressRule::DataClassNotAllowed => {
                "send it to a vendor that may have this class of data; rules/vendors.toml says which"
            }
            EgressRule::RegionNotPinned => {
                "use a vendor in one of the regions that rules/vendors.toml pins"
            }
            EgressRule::AddressNotAllowed => {
                "find out why the name resolves there; a vendor inside the own network is declared `internal`"
            }
            EgressRule::IdentifiersFound => {
                "take out what identifies a patient, or send it as `phi` to a vendor that may have it"
            }
            EgressRule::ContentUnreadable => {
                "send text that can be inspected, or send it as `phi` to a vendor that may have it"
            }
            EgressRule::TokenUnresolved => {
                "leave tokens and slots out: no channel puts them back yet"
            }
            EgressRule::HeaderForm => "take line breaks and control characters out",
            EgressRule::RequestTooLarge => {
                "send less at once, or raise `request_bytes_max` of the vendor"
            }
            EgressRule::BudgetSpent => {
                "wait a minute; if this is usual, raise `requests_per_minute_max` of the vendor"
            }
        }
    }
}

/// Something did not leave. Says which rule and what to do; never what it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused by the rule `{}` ({channel}, {class}{}): {}", rule.as_str(), of(vendor), rule.advice())]
pub struct EgressRefusal {
    /// What it was for.
    pub channel: Channel,
    /// What it was declared to be.
    pub class: DataClass,
    /// The vendor whose address it was, where one has it.
    pub vendor: Option<VendorId>,
    /// The rule.
    pub rule: EgressRule,
}

fn of(vendor: &Option<VendorId>) -> String {
    vendor
        .as_ref()
        .map(|vendor| format!(", vendor `{vendor}`"))
        .unwrap_or_default()
}

/// So many passages or refusals of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressCount {
    /// What for.
    pub channel: Channel,
    /// What it was declared to be.
    pub class: DataClass,
    /// The vendor and its region, where one has the address.
    pub vendor: Option<(VendorId, Option<Region>)>,
    /// The rule that stood against it; absent for what passed.
    pub rule: Option<EgressRule>,
    /// How many.
    pub count: u64,
    /// Since when.
    pub since: Timestamp,
}

impl VendorTable {
    /// A table that lists nobody: nothing leaves.
    pub fn nobody() -> Self {
        Self {
            source: String::new(),
            owner: String::new(),
            reviewed: jiff::civil::Date::MIN,
            review_by: jiff::civil::Date::MAX,
            regions: Vec::new(),
            provider_retention_days_max: 0,
            vendors: Vec::new(),
        }
    }

    /// Decides whether data of a class may go to an address for a channel, by the date of `now`.
    ///
    /// # Errors
    /// [`EgressRefusal`] with the first rule that stands against it.
    pub fn judge(
        &self,
        channel: Channel,
        class: DataClass,
        destination: &Destination,
        now: Timestamp,
    ) -> Result<&VendorDeclaration, EgressRefusal> {
        let refused = |vendor: Option<&VendorDeclaration>, rule| EgressRefusal {
            channel,
            class,
            vendor: vendor.map(|vendor| vendor.id.clone()),
            rule,
        };
        let mut of_another_channel = None;
        let mut found = None;
        for vendor in &self.vendors {
            if !vendor.hosts.iter().any(|host| host.has(destination)) {
                continue;
            }
            if vendor.channels.contains(&channel) {
                found = Some(vendor);
                break;
            }
            of_another_channel = of_another_channel.or(Some(vendor));
        }
        let Some(vendor) = found else {
            return Err(match of_another_channel {
                Some(vendor) => refused(Some(vendor), EgressRule::ChannelNotDeclared),
                None => refused(None, EgressRule::DestinationUnknown),
            });
        };
        match self.standing(vendor, class, now) {
            None => Ok(vendor),
            Some(rule) => Err(refused(Some(vendor), rule)),
        }
    }

    /// Whether a host may have addresses of the inside: where every vendor that has it for this channel says so.
    pub fn is_internal(&self, channel: Channel, host: &Host) -> bool {
        let mut having = self.vendors.iter().filter(|vendor| {
            vendor.channels.contains(&channel) && vendor.hosts.iter().any(|it| it.has_host(host))
        });
        having
            .next()
            .is_some_and(|first| first.internal && having.all(|other| other.internal))
    }

    /// The rule that stands against sending a vendor data of a class, whatever for.
    pub fn standing(
        &self,
        vendor: &VendorDeclaration,
        class: DataClass,
        now: Timestamp,
    ) -> Option<EgressRule> {
        let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        if vendor.baa_expires.is_some_and(|expires| expires <= now) {
            return Some(EgressRule::AgreementExpired);
        }
        if vendor.review_by < today {
            return Some(EgressRule::ReviewOverdue);
        }
        let is_bound = match vendor.relation {
            Relation::Own => true,
            Relation::BusinessAssociate => vendor.baa.is_some() && vendor.baa_expires.is_some(),
            Relation::Other => false,
        };
        let may_have =
            vendor.data_classes.contains(&class) && (is_bound || !class.is_of_patients());
        if !may_have {
            return Some(EgressRule::DataClassNotAllowed);
        }
        if class.is_of_patients() && !self.regions.contains(&vendor.region) {
            return Some(EgressRule::RegionNotPinned);
        }
        None
    }
}

#[cfg(test)]
mod tests;
