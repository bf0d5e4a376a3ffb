//! Checks of `rules/vendors.toml`: who may be sent what. What is not listed is refused, so a bundle without the file
//! could reach nobody, not even its EHR, and does not load.
//!
//! Not here: the decision about one address (`chaperone_core::egress`), and who makes connections (`connect`).

use std::collections::{BTreeMap, BTreeSet};

use chaperone_core::egress::{DataClass, Relation, VendorDeclaration, VendorTable};

use super::read;
use crate::problem::{Problems, line_of};

/// Path of the table.
pub const VENDORS_PATH: &str = "rules/vendors.toml";
/// Name of the table among the rules.
const VENDORS: &str = "vendors";
/// Most vendors.
const VENDORS_MAX: usize = 500;
/// Most addresses of one vendor.
const HOSTS_MAX: usize = 100;
/// Largest request that a vendor may be listed for, in bytes.
const REQUEST_BYTES_MAX: u64 = 1 << 30;

/// The table, checked; one that lists nobody where there is none, with a problem.
pub(super) fn load(rules: &BTreeMap<String, String>, problems: &mut Problems) -> VendorTable {
    let Some(text) = rules.get(VENDORS) else {
        let why =
            "missing: nothing may be sent anywhere, not even to the EHR, unless it is listed here";
        problems.add(VENDORS_PATH, "", why);
        return VendorTable::nobody();
    };
    let Some(table) = read::parse::<VendorTable>(VENDORS_PATH, text, problems) else {
        return VendorTable::nobody();
    };
    let mut problem = |key: &str, why: &str| {
        problems.add_at(VENDORS_PATH, line_of(text, key), key, why.to_owned());
    };
    for (key, said) in [("source", &table.source), ("owner", &table.owner)] {
        if said.trim().is_empty() {
            problem(key, "is empty");
        }
    }
    if table.review_by <= table.reviewed {
        problem("review_by", "must be later than `reviewed`");
    }
    if table.regions.is_empty() {
        problem(
            "regions",
            "names no region, so nothing of patients could go anywhere; pin at least one",
        );
    }
    if table.vendors.len() > VENDORS_MAX {
        problem("vendors", &format!("lists more than {VENDORS_MAX}"));
    }
    let mut ids = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    for vendor in &table.vendors {
        let mut checked = Checked {
            text,
            vendor,
            problems,
        };
        if !ids.insert(&vendor.id) {
            checked.problem("is listed twice");
        }
        for host in &vendor.hosts {
            for channel in &vendor.channels {
                if !addresses.insert((host, *channel)) {
                    checked.problem(&format!(
                        "`{host}` is listed twice for `{channel}`; one vendor answers for an address"
                    ));
                }
            }
        }
        checked.words();
        checked.addresses();
        checked.agreement(&table);
        checked.limits();
    }
    table
}

struct Checked<'a> {
    text: &'a str,
    vendor: &'a VendorDeclaration,
    problems: &'a mut Problems,
}

impl Checked<'_> {
    fn problem(&mut self, why: &str) {
        let id = self.vendor.id.as_str();
        let line = line_of(self.text, &format!("id = \"{id}\""));
        self.problems.add_at(VENDORS_PATH, line, id, why.to_owned());
    }

    fn words(&mut self) {
        let vendor = self.vendor;
        for (key, said) in [
            ("legal_name", &vendor.legal_name),
            ("security", &vendor.security),
            ("owner", &vendor.owner),
        ] {
            if said.trim().is_empty() {
                self.problem(&format!("`{key}` is empty"));
            }
        }
        if vendor.review_by <= vendor.reviewed {
            self.problem("`review_by` must be later than `reviewed`");
        }
        if vendor.resolves_tokens {
            self.problem("`resolves_tokens`: no channel puts tokens back yet; leave it out");
        }
    }

    fn addresses(&mut self) {
        let vendor = self.vendor;
        if vendor.channels.is_empty() {
            self.problem("`channels` is empty; say what it is used for");
        }
        if vendor.hosts.is_empty() || vendor.hosts.len() > HOSTS_MAX {
            self.problem(&format!("`hosts` must name 1 to {HOSTS_MAX} addresses"));
        }
        for host in &vendor.hosts {
            if host.is_loopback() && vendor.relation != Relation::Own {
                self.problem(&format!(
                    "`{host}` is this machine, which only the organisation's own systems have (`relation = \"own\"`)"
                ));
            }
            if host.is_address() && !vendor.internal {
                self.problem(&format!(
                    "`{host}` is a number; give the name that its certificate has, or declare the vendor `internal`"
                ));
            }
        }
    }

    /// Who gets what was made from patients' data is bound, keeps it out of training, and is in a pinned region.
    fn agreement(&mut self, table: &VendorTable) {
        let vendor = self.vendor;
        if vendor.data_classes.is_empty() {
            self.problem("`data_classes` is empty; say what it may be sent");
        }
        if vendor.baa.is_some() != vendor.baa_expires.is_some() {
            self.problem("`baa` and `baa_expires` belong together");
        }
        let is_of_patients = vendor.data_classes.iter().any(|it| it.is_of_patients());
        match vendor.relation {
            Relation::Own if !vendor.internal => {
                self.problem(
                    "an own system is inside the organisation's network: declare it `internal`",
                );
            }
            Relation::Own => {}
            Relation::BusinessAssociate => {
                if vendor.baa.as_ref().is_none_or(|it| it.trim().is_empty()) {
                    self.problem("a business associate needs `baa` and `baa_expires`");
                }
                if vendor.breach_notice_hours.is_none_or(|hours| hours == 0) {
                    self.problem("a business associate needs `breach_notice_hours`, above 0");
                }
                if !vendor.training_banned {
                    self.problem("a business associate must agree to keep the data out of training (`training_banned`)");
                }
            }
            Relation::Other if is_of_patients => {
                self.problem(&format!(
                    "may be sent `{}` or `{}` only as a business associate",
                    DataClass::DeIdentified,
                    DataClass::Phi
                ));
            }
            Relation::Other => {}
        }
        if is_of_patients && !table.regions.contains(&vendor.region) {
            self.problem(&format!(
                "is in `{}`, which is none of the `regions` that this organisation pins",
                vendor.region
            ));
        }
    }

    fn limits(&mut self) {
        let vendor = self.vendor;
        if !(1..=REQUEST_BYTES_MAX).contains(&vendor.request_bytes_max) {
            self.problem(&format!(
                "`request_bytes_max` must be 1 to {REQUEST_BYTES_MAX}"
            ));
        }
        if vendor.requests_per_minute_max == 0 {
            self.problem("`requests_per_minute_max` must be above 0");
        }
    }
}
