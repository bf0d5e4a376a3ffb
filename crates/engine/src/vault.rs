//! The vault: payloads sealed under per-patient keys, addressed from the ledger.

use chaperone_core::digest::{Digest, PayloadAddress};
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{KeyVaultFailed, PayloadClass, SealedPayload, StoreFailed};
use chaperone_phi::seal::{Associated, SealedAs};

use crate::context::Engine;

/// Why a payload cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum VaultFailed {
    /// Nothing under this address.
    #[error("the vault holds nothing under this address")]
    Missing,
    /// It does not open: another key, or altered bytes.
    #[error("the payload cannot be opened")]
    Sealed,
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl Engine {
    /// Seals a payload; it becomes durable with the commit it is put into.
    pub(crate) async fn seal(
        &self,
        class: PayloadClass,
        patient: Option<PatientToken>,
        payload: &[u8],
    ) -> Result<SealedPayload, KeyVaultFailed> {
        let key_name = key_name(class, patient);
        let key = self.keys.data_key(&self.config.tenant, &key_name).await?;
        let (address, sealed) = chaperone_phi::seal::seal(
            &key,
            &self.fresh(),
            &self.associated(&key_name, class),
            payload,
        )
        .map_err(|failed| KeyVaultFailed::Unavailable(failed.to_string()))?;
        Ok(SealedPayload {
            address,
            class,
            key: key_name,
            sealed,
        })
    }

    /// A digest for the ledger of what may hold, or lets guess, something about a patient: without
    /// the key nobody can try out texts against it, and it means nothing once the key is destroyed.
    pub(crate) async fn keyed_digest(
        &self,
        class: PayloadClass,
        patient: Option<PatientToken>,
        parts: &[&[u8]],
    ) -> Result<Digest, KeyVaultFailed> {
        let key_name = key_name(class, patient);
        let key = self.keys.digest_key(&self.config.tenant, &key_name).await?;
        let tenant = self.config.tenant.as_str().as_bytes();
        let inner = [&key[..], b"ledger digest 1", tenant];
        let inner = Digest::of_parts(inner.into_iter().chain(parts.iter().copied()));
        Ok(Digest::of_parts([&key[..], inner.as_bytes()]))
    }

    /// Opens a payload.
    pub(crate) async fn unseal(&self, address: &PayloadAddress) -> Result<Vec<u8>, VaultFailed> {
        let stored = self
            .store
            .payload(&self.config.tenant, address)
            .await?
            .ok_or(VaultFailed::Missing)?;
        self.open_sealed(&stored).await
    }

    /// Opens what was sealed, wherever it rests.
    pub(crate) async fn open_sealed(&self, stored: &SealedPayload) -> Result<Vec<u8>, VaultFailed> {
        let key = self
            .keys
            .existing_key(&self.config.tenant, &stored.key)
            .await?;
        let place = self.associated(&stored.key, stored.class);
        chaperone_phi::seal::open(&key, &place, &stored.address, &stored.sealed)
            .map(|opened| opened.expose().to_vec())
            .map_err(|_| VaultFailed::Sealed)
    }

    /// Opens a payload that is text.
    pub(crate) async fn unseal_text(
        &self,
        address: &PayloadAddress,
    ) -> Result<String, VaultFailed> {
        String::from_utf8(self.unseal(address).await?).map_err(|_| VaultFailed::Sealed)
    }

    fn associated<'a>(&'a self, key_name: &'a str, class: PayloadClass) -> Associated<'a> {
        Associated {
            tenant: &self.config.tenant,
            key: key_name,
            sealed_as: SealedAs::Payload(class),
        }
    }
}

pub(crate) fn key_name(class: PayloadClass, patient: Option<PatientToken>) -> String {
    match patient {
        Some(patient) => format!("{}/{patient}", class.as_str()),
        None => format!("{}/tenant", class.as_str()),
    }
}
