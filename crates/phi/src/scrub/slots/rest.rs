//! How the slots of an envelope rest between its calls: one sealed record that can be deleted, bound to the
//! envelope. Not here: where records are kept and when they end (the engine). Start at [`SlotRecord`].

use chaperone_core::digest::PayloadAddress;
use chaperone_core::ids::{EnvelopeId, TenantId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{SLOTS_MAX, Slots};
use crate::scrub::class::Class;
use crate::seal::{Associated, Fresh, OpenFailed, SealFailed, SealedAs, open, seal};

/// Version of the sealed bytes.
const FORMAT: u16 = 1;

/// The record behind the slots of one envelope. Holds nothing of the patient in clear.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotRecord {
    /// Name of the data key it is sealed under.
    pub key: String,
    /// Address of the sealed slots.
    pub address: PayloadAddress,
    /// The sealed slots, hexadecimal.
    pub sealed: String,
}

/// Where the slots belong.
#[derive(Debug, Clone, Copy)]
pub struct SlotPlace<'a> {
    /// The organisation.
    pub tenant: &'a TenantId,
    /// Name of the data key.
    pub key: &'a str,
    /// The envelope that gave them out.
    pub envelope: EnvelopeId,
}

/// Why slots cannot be had back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotsUnreadable {
    /// The record does not open.
    #[error(transparent)]
    Sealed(#[from] OpenFailed),
    /// What is in it is not what Chaperone writes.
    #[error("the record of an envelope's slots is not what Chaperone writes")]
    Malformed,
}

/// The sealed content. Values are borrowed on the way in, so that no second copy of them is made.
#[derive(Serialize)]
struct Written<'s> {
    format: u16,
    first: u32,
    slots: Vec<(&'static str, u32, &'s str, &'s str)>,
}

#[derive(Deserialize)]
struct Read {
    format: u16,
    first: u32,
    slots: Vec<(String, u32, String, String)>,
}

impl SlotRecord {
    /// Seals slots.
    ///
    /// # Errors
    /// [`SealFailed`].
    pub fn seal(
        data_key: &[u8; 32],
        fresh: &Fresh,
        place: SlotPlace<'_>,
        slots: &Slots,
    ) -> Result<Self, SealFailed> {
        let bytes = Zeroizing::new(slots.to_bytes().ok_or(SealFailed::Cipher)?);
        let (address, sealed) = seal(data_key, fresh, &place.associated(), &bytes)?;
        Ok(Self {
            key: place.key.to_owned(),
            address,
            sealed: hex::encode(sealed),
        })
    }

    /// Opens the record.
    ///
    /// # Errors
    /// [`SlotsUnreadable`]: another key, another envelope, or changed bytes.
    pub fn open(
        &self,
        data_key: &[u8; 32],
        tenant: &TenantId,
        envelope: EnvelopeId,
    ) -> Result<Slots, SlotsUnreadable> {
        let place = SlotPlace {
            tenant,
            key: &self.key,
            envelope,
        };
        let sealed = hex::decode(&self.sealed).map_err(|_| SlotsUnreadable::Malformed)?;
        let opened = open(data_key, &place.associated(), &self.address, &sealed)?;
        Slots::of_bytes(opened.expose()).ok_or(SlotsUnreadable::Malformed)
    }
}

impl<'a> SlotPlace<'a> {
    fn associated(self) -> Associated<'a> {
        Associated {
            tenant: self.tenant,
            key: self.key,
            sealed_as: SealedAs::Slots(self.envelope),
        }
    }
}

impl Slots {
    fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut slots = Vec::with_capacity(self.values.len());
        for ((class, key), number) in &self.by_value {
            let text = self.values.get(&(*class, *number))?;
            slots.push((class.word(), *number, key.as_str(), text.as_str()));
        }
        slots.sort_unstable();
        let written = Written {
            format: FORMAT,
            first: self.first,
            slots,
        };
        serde_json::to_vec(&written).ok()
    }

    /// `None` for anything but what [`Slots::to_bytes`] gives: two meanings of one slot must not come back.
    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let read: Read = serde_json::from_slice(bytes).ok()?;
        if read.format != FORMAT || read.slots.len() > SLOTS_MAX {
            return None;
        }
        let mut slots = Self::numbered_from(read.first);
        for (word, number, key, text) in read.slots {
            let class = Class::of_word(&word)?;
            let given = number.checked_sub(read.first)?.checked_add(1)?;
            let is_new = slots.values.insert((class, number), text).is_none()
                && slots.by_value.insert((class, key), number).is_none();
            if !is_new {
                return None;
            }
            let most = slots.given.entry(class).or_default();
            *most = (*most).max(given);
        }
        Some(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Fresh = Fresh {
        nonce: [2; 12],
        salt: [3; 32],
    };

    fn slots() -> Slots {
        let mut slots = Slots::numbered_from(70);
        slots.slot_for(Class::Name, "Ada Canary").unwrap();
        slots.slot_for(Class::Name, "Bob Canary").unwrap();
        slots.slot_for(Class::Phone, "+1 555 0100").unwrap();
        slots
    }

    #[test]
    fn slots_come_back_in_their_envelope_and_go_on_from_there() {
        let tenant = TenantId::new("a").unwrap();
        let envelope = EnvelopeId::from_random([1; 16]);
        let place = SlotPlace {
            tenant: &tenant,
            key: "derived/pat_x",
            envelope,
        };
        let record = SlotRecord::seal(&[1; 32], &FRESH, place, &slots()).unwrap();
        let json = serde_json::to_string(&record).unwrap();
        assert!(!json.contains("Canary") && !json.contains(&hex::encode("Canary")));

        let read: SlotRecord = serde_json::from_str(&json).unwrap();
        let mut back = read.open(&[1; 32], &tenant, envelope).unwrap();
        assert_eq!(back.resolve("[NAME-71]").unwrap(), "Bob Canary");
        assert_eq!(
            back.slot_for(Class::Phone, "(1) 555-0100").unwrap(),
            "[PHONE-70]"
        );
        assert_eq!(back.slot_for(Class::Name, "Cyd").unwrap(), "[NAME-72]");

        let other = EnvelopeId::from_random([2; 16]);
        assert!(read.open(&[1; 32], &tenant, other).is_err());
        assert!(read.open(&[2; 32], &tenant, envelope).is_err());
        let elsewhere = TenantId::new("b").unwrap();
        assert!(read.open(&[1; 32], &elsewhere, envelope).is_err());
    }

    #[test]
    fn a_record_with_two_meanings_of_a_slot_is_refused() {
        let bytes = slots().to_bytes().unwrap();
        assert!(Slots::of_bytes(&bytes).is_some());
        for wrong in [
            r#"{"format":2,"first":1,"slots":[]}"#,
            r#"{"format":1,"first":1,"slots":[["NAME",1,"a","A"],["NAME",1,"b","B"]]}"#,
            r#"{"format":1,"first":1,"slots":[["NAME",1,"a","A"],["NAME",2,"a","B"]]}"#,
            r#"{"format":1,"first":5,"slots":[["NAME",1,"a","A"]]}"#,
            r#"{"format":1,"first":1,"slots":[["NOBODY",1,"a","A"]]}"#,
        ] {
            assert!(Slots::of_bytes(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
