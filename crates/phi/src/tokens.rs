//! The shape of token records: what an agent's token stands for, sealed, and for which class of
//! purposes it was made.
//!
//! A token is random and lives in a deletable row; the row holds the identifier sealed. Two purposes of
//! different classes get different tokens for the same patient, so that what one agent saw for billing
//! cannot be joined with what another saw for treatment. Where rows are kept and when tokens are
//! minted is the engine's business.

use chaperone_core::digest::PayloadAddress;
use chaperone_core::ids::TenantId;
use chaperone_core::resource::{Code, ResourceType};
use serde::{Deserialize, Serialize};

use crate::seal::{Associated, Fresh, OpenFailed, SealFailed, SealedAs, open, seal};

/// Families of purposes of use that share tokens.
///
/// # Source
/// HL7 v3-PurposeOfUse (code system v3-ActReason), the topmost codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurposeClass {
    /// `TREAT` and below.
    Treatment,
    /// `HPAYMT` and below.
    Payment,
    /// `HOPERAT` and below.
    Operations,
    /// `PATRQT` and below.
    PatientRequest,
    /// `HMARKT`.
    Marketing,
    /// `HRESCH`.
    Research,
    /// `PUBHLTH` and below.
    PublicHealth,
}

impl PurposeClass {
    /// The name used in keys and records.
    pub fn as_str(self) -> &'static str {
        match self {
            PurposeClass::Treatment => "treatment",
            PurposeClass::Payment => "payment",
            PurposeClass::Operations => "operations",
            PurposeClass::PatientRequest => "patient_request",
            PurposeClass::Marketing => "marketing",
            PurposeClass::Research => "research",
            PurposeClass::PublicHealth => "public_health",
        }
    }

    /// The class of a v3-ActReason code; `None` for a code that is no purpose of use we know.
    pub fn of(purpose: &Code) -> Option<Self> {
        Some(match purpose.as_str() {
            "TREAT" | "CLINTRL" | "COC" | "ETREAT" | "BTG" | "ERTREAT" | "POPHLTH" => {
                PurposeClass::Treatment
            }
            "HPAYMT" | "CLMATTCH" | "COVAUTH" | "COVERAGE" | "ELIGDTRM" | "ELIGVER" | "ENROLLM"
            | "MILDCRG" | "REMITADV" => PurposeClass::Payment,
            "HOPERAT" | "CAREMGT" | "DONAT" | "FRAUD" | "GOV" | "HACCRED" | "HCOMPL" | "HDECD"
            | "HDIRECT" | "HDM" | "HLEGAL" | "HOUTCOMS" | "HPRGRP" | "HQUALIMP" | "HSYSADMIN"
            | "LABELING" | "METAMGT" | "MEMADMIN" | "MILCDM" | "PATADMIN" | "PATSFTY"
            | "PERFMSR" | "RECORDMGT" | "SYSDEV" | "HTEST" | "TRAIN" => PurposeClass::Operations,
            "PATRQT" | "FAMRQT" | "PWATRNY" | "SUPNWK" => PurposeClass::PatientRequest,
            "HMARKT" => PurposeClass::Marketing,
            "HRESCH" => PurposeClass::Research,
            "PUBHLTH" | "DISASTER" | "THREAT" => PurposeClass::PublicHealth,
            _ => return None,
        })
    }
}

/// What a token stands for: a resource at the EHR. Sealed wherever it rests, never printed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenTarget {
    /// Its type.
    #[serde(rename = "type")]
    pub resource_type: ResourceType,
    /// Its logical id at the EHR.
    pub id: String,
}

impl std::fmt::Debug for TokenTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenTarget({}/…)", self.resource_type)
    }
}

/// The row behind a token. Holds nothing of the patient in clear but the type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Type of what it stands for.
    pub resource_type: ResourceType,
    /// Class of purposes it was made for.
    pub purpose: PurposeClass,
    /// Name of the data key it is sealed under.
    pub key: String,
    /// Address of the sealed target.
    pub address: PayloadAddress,
    /// The sealed [`TokenTarget`], hexadecimal.
    pub sealed: String,
}

/// Why a token does not lead back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenUnreadable {
    /// The sealed target does not open.
    #[error(transparent)]
    Sealed(#[from] OpenFailed),
    /// The row is not what was written, or is not about what it says.
    #[error("the token's record is not what Chaperone writes")]
    Malformed,
}

impl TokenRecord {
    /// Seals a target.
    ///
    /// # Errors
    /// [`SealFailed`].
    pub fn seal(
        data_key: &[u8; 32],
        fresh: &Fresh,
        place: TokenPlace<'_>,
        target: &TokenTarget,
    ) -> Result<Self, SealFailed> {
        let bytes = serde_json::to_vec(target).map_err(|_| SealFailed::Cipher)?;
        let bytes = zeroize::Zeroizing::new(bytes);
        let (address, sealed) = seal(data_key, fresh, &place.associated(), &bytes)?;
        Ok(Self {
            resource_type: target.resource_type.clone(),
            purpose: place.purpose,
            key: place.key.to_owned(),
            address,
            sealed: hex::encode(sealed),
        })
    }

    /// Opens the record: who it stands for. A recorded act.
    ///
    /// # Errors
    /// [`TokenUnreadable`].
    pub fn open(
        &self,
        data_key: &[u8; 32],
        tenant: &TenantId,
    ) -> Result<TokenTarget, TokenUnreadable> {
        let place = TokenPlace {
            tenant,
            key: &self.key,
            purpose: self.purpose,
        };
        let sealed = hex::decode(&self.sealed).map_err(|_| TokenUnreadable::Malformed)?;
        let opened = open(data_key, &place.associated(), &self.address, &sealed)?;
        serde_json::from_slice(opened.expose())
            .ok()
            .filter(|target: &TokenTarget| target.resource_type == self.resource_type)
            .ok_or(TokenUnreadable::Malformed)
    }
}

/// Where a token belongs.
#[derive(Debug, Clone, Copy)]
pub struct TokenPlace<'a> {
    /// The organisation.
    pub tenant: &'a TenantId,
    /// Name of the data key.
    pub key: &'a str,
    /// Class of purposes.
    pub purpose: PurposeClass,
}

impl<'a> TokenPlace<'a> {
    fn associated(self) -> Associated<'a> {
        Associated {
            tenant: self.tenant,
            key: self.key,
            sealed_as: SealedAs::Token(self.purpose),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Fresh = Fresh {
        nonce: [2; 12],
        salt: [3; 32],
    };

    #[test]
    fn a_record_leads_back_only_with_key_tenant_and_purpose() {
        let (ours, other) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let target = TokenTarget {
            resource_type: ResourceType::new("Patient").unwrap(),
            id: "CANARY-17".to_owned(),
        };
        let place = TokenPlace {
            tenant: &ours,
            key: "token/x",
            purpose: PurposeClass::Treatment,
        };
        let record = TokenRecord::seal(&[1; 32], &FRESH, place, &target).unwrap();

        let json = serde_json::to_string(&record).unwrap();
        assert!(!json.contains("CANARY") && !json.contains(&hex::encode("CANARY")));
        assert!(!format!("{record:?}{target:?}").contains("CANARY"));
        let read: TokenRecord = serde_json::from_str(&json).unwrap();
        assert_eq!(read.open(&[1; 32], &ours), Ok(target));

        assert!(read.open(&[2; 32], &ours).is_err());
        assert!(read.open(&[1; 32], &other).is_err());
        let moved = TokenRecord {
            purpose: PurposeClass::Payment,
            ..read.clone()
        };
        assert!(moved.open(&[1; 32], &ours).is_err());
        let renamed = TokenRecord {
            resource_type: ResourceType::new("Person").unwrap(),
            ..read
        };
        assert_eq!(
            renamed.open(&[1; 32], &ours),
            Err(TokenUnreadable::Malformed)
        );
    }

    #[test]
    fn purposes_fall_into_their_class_and_unknown_ones_into_none() {
        let class = |code: &str| PurposeClass::of(&Code::new(code).unwrap());
        assert_eq!(class("BTG"), Some(PurposeClass::Treatment));
        assert_eq!(class("ELIGVER"), Some(PurposeClass::Payment));
        assert_eq!(class("HTEST"), Some(PurposeClass::Operations));
        assert_eq!(class("treat"), None);
        assert_eq!(class("ANYTHING"), None);
    }
}
