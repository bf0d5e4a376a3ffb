//! Signed tree heads: C2SP tlog-checkpoint inside C2SP signed-note, with Ed25519.
//!
//! A checkpoint says: the ledger of this tenant had this many entries with this root, at this time,
//! in this epoch. It is not a promise about what was true before the ledger; that is what anchoring
//! checkpoints outside the ledger's own trust domain is for.
//!
//! ```text
//! chaperone/clinic-1
//! 42
//! nND/nri/U0xuHUrYSy0HtMeal2vzD9V4k/BO79C+QeI=
//! epoch 1
//! at 2026-01-02T03:04:05Z
//!
//! — chaperone/clinic-1 <key id and signature, base64>
//! ```

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_core::Timestamp;
use chaperone_core::digest::Digest;
use chaperone_core::ids::TenantId;
use ed25519_dalek::{Signer as _, SigningKey};
use serde::{Deserialize, Serialize};
use signed_note::{Note, Signer, StandardVerifier, Verifier as _, VerifierList};
use tlog_tiles::Checkpoint;
use tlog_tiles::tlog::Hash;

use crate::tree::TREE_SIZE_MAX;

/// Longest note that is looked at, in bytes. Room for a few dozen witness signatures.
pub const NOTE_BYTES_MAX: usize = 16_384;

/// Longest text of a verifying key, in bytes.
pub const VKEY_BYTES_MAX: usize = 256;

const ORIGIN_PREFIX: &str = "chaperone/";
const EPOCH_LINE: &str = "epoch ";
const AT_LINE: &str = "at ";

/// The name under which a tenant's ledger signs.
pub fn origin(tenant: &TenantId) -> String {
    format!("{ORIGIN_PREFIX}{tenant}")
}

/// What a checkpoint states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeHead {
    /// Whose ledger.
    pub tenant: TenantId,
    /// How many entries.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// Counts restores: a ledger brought back from a backup goes on under the next epoch.
    pub epoch: u64,
    /// When it was signed, by the clock of the node that signed.
    pub at: Timestamp,
}

/// Why a note is not a checkpoint that can be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointInvalid {
    /// Longer than [`NOTE_BYTES_MAX`].
    #[error("the note is longer than {NOTE_BYTES_MAX} bytes")]
    TooLong,
    /// Not a signed note, or not a checkpoint of Chaperone inside.
    #[error("the note is not a signed Chaperone checkpoint: {0}")]
    Malformed(&'static str),
    /// Signed, but not with the key it was checked against.
    #[error("the note carries no signature of the key `{expected}`")]
    OtherKey {
        /// The key that was expected, by name and id.
        expected: String,
    },
    /// Names the key, but the signature does not fit the text: one of the two was changed.
    #[error("the signature does not fit the text of the note")]
    Forged,
    /// Signed with the right key, for another ledger.
    #[error("the checkpoint belongs to another ledger")]
    OtherOrigin,
}

/// A string that is not the text of a verifying key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a verifying key reads `chaperone/<tenant>+<8 hexadecimal digits>+<base64>`")]
pub struct VerifyingKeyInvalid;

/// The public half of a ledger's key, with the tenant whose ledger it signs.
///
/// Its text is the C2SP signed-note verifier key, `<origin>+<key id>+<base64>`.
#[derive(Clone)]
pub struct VerifyingKey {
    tenant: TenantId,
    text: String,
    verifier: StandardVerifier,
}

impl VerifyingKey {
    /// Reads the text form. Only the one canonical spelling is accepted.
    ///
    /// # Errors
    /// [`VerifyingKeyInvalid`] for any other text, or a name that is not a ledger's origin.
    pub fn parse(text: &str) -> Result<Self, VerifyingKeyInvalid> {
        let text = text.trim_end_matches('\n');
        if text.len() > VKEY_BYTES_MAX {
            return Err(VerifyingKeyInvalid);
        }
        let verifier = StandardVerifier::new(text).map_err(|_| VerifyingKeyInvalid)?;
        let canonical_id = format!("+{:08x}+", verifier.key_id());
        let tenant = verifier
            .name()
            .strip_prefix(ORIGIN_PREFIX)
            .filter(|_| text.contains(&canonical_id))
            .and_then(|name| TenantId::new(name).ok())
            .ok_or(VerifyingKeyInvalid)?;
        Ok(Self {
            tenant,
            text: text.to_owned(),
            verifier,
        })
    }

    /// The tenant whose ledger it signs.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Name and id, for messages.
    fn name_and_id(&self) -> String {
        format!("{}+{:08x}", self.verifier.name(), self.verifier.key_id())
    }

    /// Checks the signature of a note and reads what it states.
    ///
    /// Signatures of other keys, such as those of witnesses, are left aside.
    ///
    /// # Errors
    /// [`CheckpointInvalid`], one variant per reason.
    pub fn verify(&self, note: &str) -> Result<TreeHead, CheckpointInvalid> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(CheckpointInvalid::TooLong);
        }
        let malformed = CheckpointInvalid::Malformed;
        let note = Note::from_bytes(note.as_bytes())
            .map_err(|_| malformed("text and signatures cannot be told apart"))?;
        let known = VerifierList::new(vec![Box::new(self.verifier.clone())]);
        note.verify(&known).map_err(|failed| match failed {
            signed_note::NoteError::InvalidSignature { .. } => CheckpointInvalid::Forged,
            _ => CheckpointInvalid::OtherKey {
                expected: self.name_and_id(),
            },
        })?;
        let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|_| {
            malformed("origin, size and root do not stand on the first three lines")
        })?;
        if checkpoint.origin() != self.verifier.name() {
            return Err(CheckpointInvalid::OtherOrigin);
        }
        if checkpoint.size() > TREE_SIZE_MAX {
            return Err(malformed("the size is beyond any ledger"));
        }
        let extension = |name: &str| {
            let mut lines = checkpoint.extension().lines();
            lines.find_map(|line| line.strip_prefix(name))
        };
        Ok(TreeHead {
            tenant: self.tenant.clone(),
            size: checkpoint.size(),
            root: Digest::from_bytes(checkpoint.hash().0),
            epoch: extension(EPOCH_LINE)
                .and_then(|text| text.parse().ok())
                .ok_or(malformed("the epoch line is missing"))?,
            at: extension(AT_LINE)
                .and_then(|text| text.parse().ok())
                .ok_or(malformed("the time line is missing"))?,
        })
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for VerifyingKey {}

/// Why a tree head was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignFailed {
    /// The head is of another tenant than the key.
    #[error("the key signs for another tenant")]
    OtherTenant,
    /// More entries than a ledger may have.
    #[error("{0} entries are beyond any ledger")]
    TooLarge(u64),
    /// The text of the head cannot stand in a note.
    #[error("the tree head cannot be written as a note")]
    Malformed,
}

/// The key that signs one tenant's ledger. Wiped from memory when dropped.
pub struct CheckpointKey {
    tenant: TenantId,
    origin: String,
    key_id: u32,
    signing: SigningKey,
}

impl CheckpointKey {
    /// The key made from a tenant's 32-byte Ed25519 seed.
    pub fn from_seed(tenant: &TenantId, seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let origin = origin(tenant);
        Self {
            tenant: tenant.clone(),
            key_id: signed_note::key_id(&origin, &public_key_bytes(&signing)),
            origin,
            signing,
        }
    }

    /// The public half, as text to be handed to whoever will verify.
    pub fn vkey(&self) -> String {
        let key = STANDARD.encode(public_key_bytes(&self.signing));
        format!("{}+{:08x}+{key}", self.origin, self.key_id)
    }

    /// Signs a tree head. The same head always gives the same note.
    ///
    /// # Errors
    /// [`SignFailed`] when the head belongs to another tenant or cannot be written.
    pub fn sign(&self, head: &TreeHead) -> Result<String, SignFailed> {
        if head.tenant != self.tenant {
            return Err(SignFailed::OtherTenant);
        }
        if head.size > TREE_SIZE_MAX {
            return Err(SignFailed::TooLarge(head.size));
        }
        let extension = format!("{EPOCH_LINE}{}\n{AT_LINE}{}\n", head.epoch, head.at);
        let root = Hash(*head.root.as_bytes());
        let text = Checkpoint::new(&self.origin, head.size, root, &extension)
            .map_err(|_| SignFailed::Malformed)?
            .to_bytes();
        let mut note = Note::new(&text, &[]).map_err(|_| SignFailed::Malformed)?;
        note.add_sigs(&[self]).map_err(|_| SignFailed::Malformed)?;
        String::from_utf8(note.to_bytes()).map_err(|_| SignFailed::Malformed)
    }
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointKey({}+{:08x})", self.origin, self.key_id)
    }
}

impl Signer for CheckpointKey {
    fn name(&self) -> &str {
        &self.origin
    }

    fn key_id(&self) -> u32 {
        self.key_id
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, ed25519_dalek::SignatureError> {
        Ok(self.signing.try_sign(text)?.to_vec())
    }
}

/// The algorithm byte of Ed25519 and the public key.
///
/// # Source
/// C2SP signed-note, section on verifier keys.
fn public_key_bytes(signing: &SigningKey) -> Vec<u8> {
    let mut bytes = vec![1];
    bytes.extend_from_slice(signing.verifying_key().as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn head() -> TreeHead {
        TreeHead {
            tenant: tenant("clinic-1"),
            size: 42,
            root: Digest::of_bytes(b"root"),
            epoch: 1,
            at: "2026-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_checkpoint_reads_as_the_specification_says() {
        let key = CheckpointKey::from_seed(&tenant("clinic-1"), &[7; 32]);
        expect!["chaperone/clinic-1+7b2eb00d+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"]
            .assert_eq(&key.vkey());
        expect![[r#"
            chaperone/clinic-1
            42
            SBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I=
            epoch 1
            at 2026-01-02T03:04:05Z

            — chaperone/clinic-1 ey6wDSKxQ0mhgqhJqsCnFfaoVjcA1ZoRW050Xu235m9C93K/9LXr469SKczb1MIpV+oPf5Eq2cpemzB7jpFVcBZ+kQ4=
        "#]].assert_eq(&key.sign(&head()).unwrap());
    }

    #[test]
    fn only_the_own_key_and_origin_verify() {
        let key = CheckpointKey::from_seed(&tenant("clinic-1"), &[7; 32]);
        let note = key.sign(&head()).unwrap();
        let vkey = VerifyingKey::parse(&key.vkey()).unwrap();
        assert_eq!(vkey.verify(&note), Ok(head()));

        let other_seed = CheckpointKey::from_seed(&tenant("clinic-1"), &[8; 32]);
        let vkey_other = VerifyingKey::parse(&other_seed.vkey()).unwrap();
        assert!(matches!(
            vkey_other.verify(&note),
            Err(CheckpointInvalid::OtherKey { .. })
        ));

        let other_tenant = CheckpointKey::from_seed(&tenant("clinic-2"), &[7; 32]);
        let vkey_other = VerifyingKey::parse(&other_tenant.vkey()).unwrap();
        assert!(matches!(
            vkey_other.verify(&note),
            Err(CheckpointInvalid::OtherKey { .. })
        ));
        assert_eq!(other_tenant.sign(&head()), Err(SignFailed::OtherTenant));
    }

    #[test]
    fn the_right_key_over_another_origin_or_without_our_lines_is_refused() {
        let key = CheckpointKey::from_seed(&tenant("clinic-1"), &[7; 32]);
        let vkey = VerifyingKey::parse(&key.vkey()).unwrap();
        let signed = |text: &str| {
            let mut note = Note::new(text.as_bytes(), &[]).unwrap();
            note.add_sigs(&[&key]).unwrap();
            String::from_utf8(note.to_bytes()).unwrap()
        };
        let root = STANDARD.encode([0; 32]);
        let at = "epoch 1\nat 2026-01-02T03:04:05Z\n";
        let verify = |text: String| vkey.verify(&signed(&text));
        assert!(verify(format!("chaperone/clinic-1\n4\n{root}\n{at}")).is_ok());
        assert_eq!(
            verify(format!("chaperone/clinic-2\n4\n{root}\n{at}")),
            Err(CheckpointInvalid::OtherOrigin)
        );
        for text in [
            format!("chaperone/clinic-1\n4\n{root}\n"),
            format!("chaperone/clinic-1\n04\n{root}\n{at}"),
            format!("chaperone/clinic-1\n{}\n{root}\n{at}", u64::MAX),
            "hello\n".to_owned(),
        ] {
            assert!(matches!(verify(text), Err(CheckpointInvalid::Malformed(_))));
        }
        assert_eq!(
            vkey.verify(&"x".repeat(NOTE_BYTES_MAX + 1)),
            Err(CheckpointInvalid::TooLong)
        );
    }

    #[test]
    fn witnesses_may_sign_beside_the_ledger() {
        let key = CheckpointKey::from_seed(&tenant("clinic-1"), &[7; 32]);
        let witness = CheckpointKey::from_seed(&tenant("witness"), &[9; 32]);
        let mut note = Note::from_bytes(key.sign(&head()).unwrap().as_bytes()).unwrap();
        note.add_sigs(&[&witness]).unwrap();
        let note = String::from_utf8(note.to_bytes()).unwrap();
        assert_eq!(
            VerifyingKey::parse(&key.vkey()).unwrap().verify(&note),
            Ok(head())
        );
    }

    #[test]
    fn any_changed_byte_of_a_note_or_key_is_noticed() {
        let key = CheckpointKey::from_seed(&tenant("clinic-1"), &[7; 32]);
        let vkey = VerifyingKey::parse(&key.vkey()).unwrap();
        let note = key.sign(&head()).unwrap();
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut bytes = note.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(vkey.verify(&changed).is_err(), "byte {at} bit {bit}");
                }
            }
        }
        for at in 0..key.vkey().len() {
            for bit in 0..8 {
                let mut bytes = key.vkey().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(
                        VerifyingKey::parse(&changed).is_err(),
                        "byte {at} bit {bit}"
                    );
                }
            }
        }
    }

    #[test]
    fn keys_do_not_print_their_secret() {
        let key = CheckpointKey::from_seed(&tenant("clinic-1"), &[7; 32]);
        assert!(!format!("{key:?}").contains(&STANDARD.encode([7; 32])));
        assert!(!format!("{key:?}").contains("7, 7"));
    }
}
