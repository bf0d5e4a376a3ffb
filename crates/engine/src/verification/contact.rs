//! What an order does to the contact data of a patient: which e-mail address is new, and which stood there before.
//!
//! Both come from the order alone, so they are bound by its digest: a code goes to the address that was shown and is
//! sent, and to no other. Nothing is read here. Not here: who asks for a code (`super::codes`), and when the addresses
//! of before are told (`crate::deliver`).

use std::collections::BTreeSet;

use chaperone_core::Timestamp;
use chaperone_core::evidence::WriteOrder;
use chaperone_core::patient_mail::is_mail_address;
use chaperone_core::phi::Phi;
use chaperone_core::principal::Role;
use chaperone_core::resource::Interaction;
use chaperone_core::writeback::Ruled;
use chaperone_fhir::plausibility::When;
use serde_json::{Value, json};

/// Most addresses that are told of one change.
const TOLD_MAX: usize = 5;
const TELECOM: &str = "telecom";

/// The contact points of a patient before a change and after it; none where the order changes no patient.
struct Change {
    before: Vec<Value>,
    after: Vec<Value>,
    /// Whether nothing else of the patient is changed.
    is_all: bool,
}

impl Change {
    fn of(order: &WriteOrder) -> Option<Self> {
        if order.resource.as_str() != "Patient" || order.interaction != Interaction::Update {
            return None;
        }
        let elements = &order.asked.as_ref()?.change.elements;
        let points = |text: &str| -> Option<Vec<Value>> {
            let patient: Value = serde_json::from_str(text).ok()?;
            match patient.get(TELECOM) {
                None => Some(Vec::new()),
                Some(points) => points.as_array().cloned(),
            }
        };
        Some(Self {
            before: points(order.base.as_deref()?)?,
            after: points(&order.body)?,
            is_all: elements.iter().eq([TELECOM]),
        })
    }

    /// The contact points that were put behind those of before; nothing where anything else was done to them. One that
    /// is there already counts like any other: whether it is, nobody finds out here.
    fn appended(&self) -> Option<&[Value]> {
        self.after.strip_prefix(self.before.as_slice())
    }
}

fn text<'v>(point: &'v Value, name: &str) -> Option<&'v str> {
    point.get(name).and_then(Value::as_str)
}

/// The address of a contact point that mail can go to.
fn mail_address(point: &Value) -> Option<&str> {
    let address = text(point, "value").filter(|address| is_mail_address(address));
    address.filter(|_| text(point, "system") == Some("email"))
}

/// The address that a code can go to: the one contact point that the order adds, an e-mail address in use, where it
/// changes nothing else. A telephone has no way here.
pub(super) fn code_address(order: &WriteOrder) -> Option<Phi<String>> {
    let change = Change::of(order)?;
    let [point] = change.appended()? else {
        return None;
    };
    let address = mail_address(point)?;
    let is_in_use = text(point, "use") != Some("old") && point.get("period").is_none();
    (change.is_all && is_in_use).then(|| Phi::new(address.to_owned()))
}

/// Of an order that adds contact points and does nothing else, what somebody who acts in the patient's place is shown:
/// what is added, and nothing of what is on record, which the patient may keep from them. None for any other order,
/// of which nothing may be left out that they confirm.
pub(crate) fn for_proxy(order: &WriteOrder) -> Option<Value> {
    let change = Change::of(order)?;
    let added = change.appended().filter(|_| change.is_all)?;
    Some(json!({ "resourceType": "Patient", "telecom": added }))
}

/// Whether a change is one that the patient is told of, at the addresses of before.
pub(crate) fn is_told(ruled: &Ruled) -> bool {
    ruled.ruling.notify.contains(&Role::Patient) && ruled.change.resource.as_str() == "Patient"
}

/// The e-mail addresses that stood in the record before a change and were in use, each once. Also those that the
/// change took away: whoever loses an address must hear of it there.
pub(crate) fn addresses_before(order: &WriteOrder, now: Timestamp) -> Vec<Phi<String>> {
    let Some(change) = Change::of(order) else {
        return Vec::new();
    };
    let is_in_use = |point: &&Value| {
        let end = point.pointer("/period/end").and_then(Value::as_str);
        // An end that cannot be read is none.
        let has_ended = end
            .and_then(|end| When::parse(end, None))
            .is_some_and(|end| end.is_before_instant(now));
        text(point, "use") != Some("old") && !has_ended
    };
    let mut seen = BTreeSet::new();
    let addresses = change.before.iter().filter(is_in_use);
    addresses
        .filter_map(mail_address)
        .filter(|address| seen.insert(address.to_ascii_lowercase()))
        .take(TOLD_MAX)
        .map(|address| Phi::new(address.to_owned()))
        .collect()
}
