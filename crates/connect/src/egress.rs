//! The gate: everything that leaves this process over a network leaves here, and clients for HTTP and mail are made
//! nowhere else (`one_place_makes_clients` in `crates/tidy`).
//!
//! ```text
//! draft ─▶ form ─▶ vendor, channel, agreement, class, region ─▶ size, budget ─▶ content ─▶ name ─▶ bytes
//!                  (chaperone_core::egress)                                   (Detector)   (address)
//! ```
//! Whatever is refused is refused before a byte is written, is counted, and says which rule and what to do; nothing
//! of the content is in a refusal. No redirect is followed, no proxy of the environment heeded.
//!
//! Not here: which vendors there are (`rules/vendors.toml`), and what an answer means.
//! Reading order: [`Gate`], [`class`], `http` (clients and drafts), `address` (what names may resolve to), `mail`,
//! `content` (what is inspected), `tally` (what the ledger is told).

mod address;
pub mod class;
mod content;
mod http;
mod mail;
mod tally;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use chaperone_core::Timestamp;
use chaperone_core::egress::{
    Channel, DataClass, Destination, EgressCount, EgressRefusal, EgressRule, Host, Relation,
    Scheme, VendorDeclaration, VendorTable,
};
use chaperone_core::ids::{Region, VendorId};
use chaperone_core::ports::{Clock, Detector, Identifier, NotInspected};
use url::Url;

pub use address::{Names, SystemNames};

pub(crate) use http::{Broken, ClientOptions, FormValue, HttpClient, Outgoing, exchange};
pub use mail::MailEncryption;
pub(crate) use mail::{MailDoor, MailFailed, MailServer, MailText};

use tally::Tally;

/// How long a budget counts, in seconds.
const BUDGET_S: i64 = 60;

/// What a gate is made of.
pub struct GateParts {
    /// Where bytes may go.
    pub vendors: Arc<VendorTable>,
    /// What identifies somebody.
    pub detector: Arc<dyn Detector>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What names resolve to.
    pub names: Arc<dyn Names>,
    /// Addresses of the organisation's own that may stand in what it sends, such as the console's.
    pub own_addresses: Vec<String>,
}

/// The gate. Cheap to clone; clones share budgets and counts.
#[derive(Clone)]
pub struct Gate(Arc<Parts>);

struct Parts {
    given: GateParts,
    tally: Tally,
    // Per vendor: since when its minute runs, and how many requests it has seen.
    budgets: Mutex<BTreeMap<VendorId, (Timestamp, u32)>>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("vendors", &self.0.given.vendors.vendors.len())
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate.
    pub fn new(given: GateParts) -> Self {
        Self(Arc::new(Parts {
            given,
            tally: Tally::default(),
            budgets: Mutex::default(),
        }))
    }

    /// A gate that opens to this machine and to nothing else, for demonstrations, measurements and tests. Nothing
    /// passes that leaves the machine, so nothing is inspected.
    pub fn to_this_machine(clock: Arc<dyn Clock>) -> Self {
        Self::new(GateParts {
            vendors: Arc::new(this_machine()),
            detector: Arc::new(Uninspected),
            clock,
            names: Arc::new(SystemNames),
            own_addresses: Vec::new(),
        })
    }

    /// Whether an address would be refused now, for `doctor` and start: nothing is sent and nothing counted.
    ///
    /// # Errors
    /// [`EgressRefusal`] says which rule and what to do.
    pub fn would_pass(
        &self,
        channel: Channel,
        class: DataClass,
        address: &str,
    ) -> Result<VendorId, EgressRefusal> {
        let refused = |rule| EgressRefusal {
            channel,
            class,
            vendor: None,
            rule,
        };
        let url = Url::parse(address).map_err(|_| refused(EgressRule::DestinationForm))?;
        let destination =
            destination_of(&url).ok_or_else(|| refused(EgressRule::DestinationForm))?;
        let vendors = &self.0.given.vendors;
        let vendor = vendors.judge(channel, class, &destination, self.0.given.clock.now())?;
        Ok(vendor.id.clone())
    }

    /// What passed or was refused since the ledger was last told, and is due to be told now; `all` before a stop.
    pub fn due(&self, all: bool) -> Vec<EgressCount> {
        self.0.tally.due(self.0.given.clock.now(), all)
    }

    /// Takes back what could not be recorded.
    pub fn take_back(&self, counts: Vec<EgressCount>) {
        self.0.tally.take_back(counts);
    }

    /// Decides about a destination and what it is sent; counts either way.
    fn admit(&self, asked: &Asked<'_>) -> Result<(), EgressRefusal> {
        let now = self.0.given.clock.now();
        let judged = self.judge(asked, now);
        match &judged {
            Ok(vendor) => self.0.tally.passed(
                (asked.channel, asked.class),
                vendor.id.clone(),
                vendor.region.clone(),
                now,
            ),
            Err(refusal) => self.count_refusal(refusal, now),
        }
        judged.map(|_| ())
    }

    fn judge(
        &self,
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Result<&VendorDeclaration, EgressRefusal> {
        let (channel, class) = (asked.channel, asked.class);
        let refused = |vendor: Option<&VendorDeclaration>, rule| EgressRefusal {
            channel,
            class,
            vendor: vendor.map(|vendor| vendor.id.clone()),
            rule,
        };
        let destination = asked
            .destination
            .as_ref()
            .ok_or_else(|| refused(None, EgressRule::DestinationForm))?;
        let vendor = self
            .0
            .given
            .vendors
            .judge(channel, class, destination, now)?;
        if let Host::Address(address) = destination.host
            && !address::may_have(&destination.host, vendor.internal, address)
        {
            return Err(refused(Some(vendor), EgressRule::AddressNotAllowed));
        }
        if asked.bytes > vendor.request_bytes_max {
            return Err(refused(Some(vendor), EgressRule::RequestTooLarge));
        }
        // Before the content, which costs time: a flood must not be inspected one by one.
        if !self.has_budget(vendor, now) {
            return Err(refused(Some(vendor), EgressRule::BudgetSpent));
        }
        let against = match asked.texts {
            Some(texts) => self.against(texts),
            None => Some(EgressRule::ContentUnreadable),
        };
        match against {
            None => Ok(vendor),
            Some(rule) => Err(refused(Some(vendor), rule)),
        }
    }

    fn has_budget(&self, vendor: &VendorDeclaration, now: Timestamp) -> bool {
        let mut budgets = self
            .0
            .budgets
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (since, seen) = budgets.entry(vendor.id.clone()).or_insert((now, 0));
        let age_s = now.duration_since(*since).as_secs();
        // A clock that was set back begins a new minute too.
        if !(0..BUDGET_S).contains(&age_s) {
            (*since, *seen) = (now, 0);
        }
        *seen = seen.saturating_add(1);
        *seen <= vendor.requests_per_minute_max
    }

    /// The rule that stands against texts which should identify nobody.
    fn against(&self, texts: &[String]) -> Option<EgressRule> {
        let given = &self.0.given;
        for text in texts {
            let found = match given.detector.identifiers(text) {
                Ok(found) => found,
                Err(NotInspected) => return Some(EgressRule::ContentUnreadable),
            };
            let of_others = |it: &&Identifier| !content::is_own(text, it, &given.own_addresses);
            if let Some(first) = found.iter().find(of_others) {
                return Some(match first.class {
                    "TOKEN" | "TEXT" => EgressRule::TokenUnresolved,
                    _ => EgressRule::IdentifiersFound,
                });
            }
        }
        None
    }

    fn count_refusal(&self, refusal: &EgressRefusal, now: Timestamp) {
        if self.0.tally.refused(refusal, now) {
            // Once for each kind; the ledger has how many.
            tracing::warn!(
                channel = refusal.channel.as_str(),
                class = refusal.class.as_str(),
                vendor = refusal.vendor.as_ref().map(VendorId::as_str),
                rule = refusal.rule.as_str(),
                "something was not sent"
            );
        }
    }
}

/// What somebody wants to send, as far as it decides.
struct Asked<'a> {
    channel: Channel,
    class: DataClass,
    /// Absent when the address is not written as one is.
    destination: Option<Destination>,
    bytes: u64,
    /// What must identify nobody; absent when some of it cannot be read.
    texts: Option<&'a [String]>,
}

/// The destination of a URL; none where a part of it could be read in more than one way.
fn destination_of(url: &Url) -> Option<Destination> {
    let scheme = Scheme::parse(url.scheme())?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    let host = Host::parse(url.host_str()?)?;
    is_plain.then_some(Destination {
        scheme,
        host,
        port: url.port().unwrap_or_else(|| scheme.default_port()),
    })
}

/// A table of this machine alone.
fn this_machine() -> VendorTable {
    let hosts = ["http", "https", "smtp"].into_iter().flat_map(|scheme| {
        ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("{scheme}://{host}:*").parse())
    });
    let (Ok(id), Ok(region)) = (VendorId::new("this-machine"), Region::new("here")) else {
        return VendorTable::nobody();
    };
    let vendor = VendorDeclaration {
        id,
        legal_name: "this machine".to_owned(),
        relation: Relation::Own,
        channels: Channel::ALL.to_vec(),
        hosts: hosts.flatten().collect(),
        internal: true,
        data_classes: DataClass::ALL.to_vec(),
        baa: None,
        baa_expires: None,
        breach_notice_hours: None,
        training_banned: true,
        security: "as the machine itself".to_owned(),
        region: region.clone(),
        owner: "whoever runs it".to_owned(),
        reviewed: jiff::civil::Date::MIN,
        review_by: jiff::civil::Date::MAX,
        request_bytes_max: u64::MAX,
        requests_per_minute_max: u32::MAX,
        resolves_tokens: false,
    };
    VendorTable {
        regions: vec![region],
        vendors: vec![vendor],
        ..VendorTable::nobody()
    }
}

/// Looks for nothing: behind a gate that nothing leaves the machine by.
struct Uninspected;

impl Detector for Uninspected {
    fn identifiers(&self, _text: &str) -> Result<Vec<Identifier>, NotInspected> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests;
