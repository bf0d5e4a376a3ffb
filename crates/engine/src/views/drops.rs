//! What an EHR will not keep of a write, or does otherwise than one might think, as the review page says it.
//! Not here: what of the content changes (`review`), and how it is sent (`order`).

use chaperone_core::evidence::{Strategy, WriteOrder};

/// A line for each.
pub(super) fn drops_of(order: &WriteOrder) -> Vec<&'static str> {
    let mut drops = Vec::new();
    if order.strategy == Strategy::HumanEntry {
        drops.push("This EHR takes no such write: a person enters it and attests.");
    } else {
        if order.changes().any(|change| change.provenance.is_none()) {
            drops.push("Provenance is not kept by this EHR; the ledger keeps who did what.");
        }
        if order.strategy == Strategy::EhrStaged {
            drops.push(
                "Nothing is approved here: it is placed unsigned, and counts once it is signed in the EHR as it is shown.",
            );
        } else if order.strategy == Strategy::VendorOp {
            drops.push(
                "The EHR files it by an operation of its own: without condition or version, and if its answer is lost, a person looks.",
            );
        } else if order.strategy != Strategy::Conditional {
            drops.push(
                "No conditional write: if somebody changes the record in the last moment, it is seen only afterwards.",
            );
        }
    }
    drops
}
