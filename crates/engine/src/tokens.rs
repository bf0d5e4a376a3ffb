//! Patient and resource tokens: what agents see instead of identifiers.
//!
//! A token is random. What it stands for is sealed in a row that can be deleted; a keyed index finds
//! the token of a known identifier without storing the identifier. A bounded cache in memory saves
//! both look-ups for what was used lately.
//!
//! Resource tokens belong to the patient in whose envelope they were handed out: the same slot shown
//! for two patients has two tokens, and neither works in the other's envelope.

use std::collections::HashMap;
use std::sync::Mutex;

use chaperone_core::digest::Digest;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::ids::{PatientToken, ResourceToken};
use chaperone_core::ports::{
    Commit, CommitFailed, Expected, KeyVaultFailed, Record, RecordChange, RecordKey, StoreFailed,
};
use chaperone_core::principal::{Actor, SystemPart};
use chaperone_core::resource::ResourceType;
use chaperone_phi::seal::{Fresh, SealFailed};
use chaperone_phi::tokens::{
    PurposeClass, TokenPlace, TokenRecord, TokenTarget as Sealed, TokenUnreadable,
};
use serde::{Deserialize, Serialize};

use crate::call::{Admitted, is_token};
use crate::context::Engine;

pub(crate) const TOKENS: &str = "token";
pub(crate) const INDEX: &str = "token_index";
const INDEX_KEY: &str = "index/tokens";
/// For what belongs to no patient. What does is sealed under a key of the patient's, so that it goes with them.
const TOKEN_KEY: &str = "token/tenant";
/// Most tokens kept in memory; the cache is emptied when full, which costs look-ups and nothing else.
const CACHE_MAX: usize = 200_000;
/// Every shipped intent is for treatment; other purposes get tokens of their own when they come.
const PURPOSE: PurposeClass = PurposeClass::Treatment;

/// The key under which it is sealed what tokens of a patient stand for.
pub(crate) fn token_key(patient: Option<PatientToken>) -> String {
    match patient {
        Some(patient) => format!("token/{patient}"),
        None => TOKEN_KEY.to_owned(),
    }
}

/// What a token stands for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TokenTarget {
    /// Type of the resource.
    pub(crate) resource: ResourceType,
    /// Its logical id at the EHR.
    pub(crate) id: String,
    /// The patient in whose context it was handed out; none for patients themselves and for what was
    /// shown in a patient-free envelope.
    pub(crate) patient: Option<PatientToken>,
}

#[derive(Default)]
pub(crate) struct TokenCache {
    by_index: Mutex<HashMap<Digest, [u8; 16]>>,
    by_token: Mutex<HashMap<String, TokenTarget>>,
}

/// Why a token could not be made or followed.
#[derive(Debug, thiserror::Error)]
pub enum TokenFailed {
    /// It stands for nothing.
    #[error("this token stands for nothing")]
    Unknown,
    /// Its row does not open.
    #[error(transparent)]
    Unreadable(#[from] TokenUnreadable),
    /// It could not be sealed.
    #[error(transparent)]
    Seal(#[from] SealFailed),
    /// The key vault failed.
    #[error(transparent)]
    Keys(#[from] KeyVaultFailed),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// The token could not be recorded.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

#[derive(Serialize, Deserialize)]
struct StoredToken {
    patient: Option<PatientToken>,
    target: TokenRecord,
}

#[derive(Serialize, Deserialize)]
struct StoredIndex {
    token: String,
}

impl TokenTarget {
    fn token_text(&self, raw: [u8; 16]) -> String {
        if self.resource.as_str() == "Patient" && self.patient.is_none() {
            PatientToken::from_random(raw).to_string()
        } else {
            ResourceToken::from_random(raw).to_string()
        }
    }

    /// The patient whom a token of this concerns.
    fn patient_of(&self, raw: [u8; 16]) -> Option<PatientToken> {
        let is_patient = self.resource.as_str() == "Patient" && self.patient.is_none();
        self.patient
            .or_else(|| is_patient.then(|| PatientToken::from_random(raw)))
    }
}

impl TokenCache {
    /// Forgets everything, which costs look-ups and nothing else.
    pub(crate) fn forget(&self) {
        if let Ok(mut cache) = self.by_index.lock() {
            cache.clear();
        }
        if let Ok(mut cache) = self.by_token.lock() {
            cache.clear();
        }
    }
}

impl Engine {
    /// The token of a patient, made on first sight.
    pub(crate) async fn patient_token(&self, id: &str) -> Result<PatientToken, TokenFailed> {
        let resource =
            ResourceType::new("Patient").map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let targets = [TokenTarget {
            resource,
            id: id.to_owned(),
            patient: None,
        }];
        let raw = self.tokens_for(&targets).await?;
        raw.first()
            .copied()
            .map(PatientToken::from_random)
            .ok_or(TokenFailed::Unknown)
    }

    /// The tokens of resources, in order, made on first sight and durable when this returns.
    pub(crate) async fn resource_tokens(
        &self,
        targets: &[TokenTarget],
    ) -> Result<Vec<ResourceToken>, TokenFailed> {
        Ok(self
            .tokens_for(targets)
            .await?
            .into_iter()
            .map(ResourceToken::from_random)
            .collect())
    }

    /// The logical id of a patient.
    pub(crate) async fn patient_id(&self, token: PatientToken) -> Result<String, TokenFailed> {
        Ok(self.patient_target(token).await?.id)
    }

    /// What a patient's token stands for.
    pub(crate) async fn patient_target(
        &self,
        token: PatientToken,
    ) -> Result<TokenTarget, TokenFailed> {
        self.target_of(&token.to_string()).await
    }

    /// What a resource token stands for.
    pub(crate) async fn resource_target(
        &self,
        token: ResourceToken,
    ) -> Result<TokenTarget, TokenFailed> {
        self.target_of(&token.to_string()).await
    }

    async fn target_of(&self, token: &str) -> Result<TokenTarget, TokenFailed> {
        if let Ok(cache) = self.tokens.by_token.lock()
            && let Some(target) = cache.get(token)
        {
            return Ok(target.clone());
        }
        let tenant = &self.config.tenant;
        let record = self
            .store
            .record(tenant, &RecordKey::new(TOKENS, token), self.now())
            .await?
            .ok_or(TokenFailed::Unknown)?;
        let stored: StoredToken = serde_json::from_value(record.value)
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let key = self.keys.existing_key(tenant, &stored.target.key).await?;
        let sealed = stored.target.open(&key, tenant)?;
        let target = TokenTarget {
            resource: sealed.resource_type,
            id: sealed.id,
            patient: stored.patient,
        };
        self.remember(token, &target);
        Ok(target)
    }

    fn remember(&self, token: &str, target: &TokenTarget) {
        if let Ok(mut cache) = self.tokens.by_token.lock() {
            if cache.len() >= CACHE_MAX {
                cache.clear();
            }
            cache.insert(token.to_owned(), target.clone());
        }
    }

    async fn tokens_for(&self, targets: &[TokenTarget]) -> Result<Vec<[u8; 16]>, TokenFailed> {
        // Two nodes may mint for the same resource at once: one commit is refused and looks again.
        const ATTEMPTS: u32 = 4;
        let indexes = self.indexes_of(targets).await?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (found, commit) = self.find_or_mint(targets, &indexes).await?;
            let Some(commit) = commit else {
                return Ok(found);
            };
            match self.store.commit(commit).await {
                Ok(_) => {
                    self.remember_all(targets, &indexes, &found);
                    return Ok(found);
                }
                Err(CommitFailed::Record { .. }) if attempt < ATTEMPTS => {}
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    /// The keyed indexes of what tokens stand for.
    async fn indexes_of(&self, targets: &[TokenTarget]) -> Result<Vec<Digest>, TokenFailed> {
        self.indexes_under(INDEX_KEY, targets).await
    }

    /// The index of a patient's id under another key than that of tokens.
    pub(crate) async fn patient_index(&self, key: &str, id: &str) -> Result<Digest, TokenFailed> {
        let resource =
            ResourceType::new("Patient").map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let target = TokenTarget {
            resource,
            id: id.to_owned(),
            patient: None,
        };
        let indexes = self.indexes_under(key, &[target]).await?;
        indexes.first().copied().ok_or(TokenFailed::Unknown)
    }

    async fn indexes_under(
        &self,
        key: &str,
        targets: &[TokenTarget],
    ) -> Result<Vec<Digest>, TokenFailed> {
        let key = self.keys.digest_key(&self.config.tenant, key).await?;
        Ok(targets
            .iter()
            .map(|target| {
                let context = target.patient.map(|p| p.to_string()).unwrap_or_default();
                let id = format!("{context}/{}", target.id);
                chaperone_phi::keyed::token_index(&key, PURPOSE, &target.resource, &id)
            })
            .collect())
    }

    /// The token of a patient, if there is one; none is made.
    pub(crate) async fn known_patient_token(
        &self,
        id: &str,
    ) -> Result<Option<PatientToken>, TokenFailed> {
        let resource =
            ResourceType::new("Patient").map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let target = TokenTarget {
            resource,
            id: id.to_owned(),
            patient: None,
        };
        let indexes = self.indexes_of(&[target]).await?;
        let index = indexes.first().ok_or(TokenFailed::Unknown)?;
        let raw = self.known_token(index, &HashMap::new()).await?;
        Ok(raw.map(PatientToken::from_random))
    }

    async fn find_or_mint(
        &self,
        targets: &[TokenTarget],
        indexes: &[Digest],
    ) -> Result<(Vec<[u8; 16]>, Option<Commit>), TokenFailed> {
        let mut found = Vec::with_capacity(targets.len());
        let mut minted: HashMap<Digest, [u8; 16]> = HashMap::new();
        let mut commit = self.commit_as(Actor::System {
            part: SystemPart::Gateway,
        });
        for (target, index) in targets.iter().zip(indexes) {
            if let Some(known) = self.known_token(index, &minted).await? {
                found.push(known);
                continue;
            }
            let raw = self.random.id();
            let token = target.token_text(raw);
            let stored = self.seal_target(target, raw).await?;
            let value =
                serde_json::to_value(&stored).map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
            commit
                .records
                .push(RecordChange::Create(Record::new(TOKENS, &token, value)));
            let value = serde_json::json!(StoredIndex { token });
            commit
                .records
                .push(RecordChange::Create(Record::new(INDEX, index, value)));
            commit.append(
                StreamId::Tenant,
                Expected::Any,
                Event::TokenMinted {
                    resource: target.resource.clone(),
                    patient: target.patient_of(raw),
                },
            );
            minted.insert(*index, raw);
            found.push(raw);
        }
        Ok((found, (!minted.is_empty()).then_some(commit)))
    }

    async fn seal_target(
        &self,
        target: &TokenTarget,
        raw: [u8; 16],
    ) -> Result<StoredToken, TokenFailed> {
        let tenant = &self.config.tenant;
        let name = token_key(target.patient_of(raw));
        let key = self.keys.data_key(tenant, &name).await?;
        let place = TokenPlace {
            tenant,
            key: &name,
            purpose: PURPOSE,
        };
        let sealed = Sealed {
            resource_type: target.resource.clone(),
            id: target.id.clone(),
        };
        let record = TokenRecord::seal(&key, &self.fresh(), place, &sealed)?;
        Ok(StoredToken {
            patient: target.patient,
            target: record,
        })
    }

    /// A nonce and a salt, drawn now.
    pub(crate) fn fresh(&self) -> Fresh {
        let mut nonce = [0; 12];
        self.random.fill(&mut nonce);
        Fresh {
            nonce,
            salt: self.random.key(),
        }
    }

    async fn known_token(
        &self,
        index: &Digest,
        minted: &HashMap<Digest, [u8; 16]>,
    ) -> Result<Option<[u8; 16]>, TokenFailed> {
        if let Some(raw) = minted.get(index) {
            return Ok(Some(*raw));
        }
        if let Ok(cache) = self.tokens.by_index.lock()
            && let Some(raw) = cache.get(index)
        {
            return Ok(Some(*raw));
        }
        let key = RecordKey::new(INDEX, index);
        let Some(record) = self
            .store
            .record(&self.config.tenant, &key, self.now())
            .await?
        else {
            return Ok(None);
        };
        let stored: StoredIndex = serde_json::from_value(record.value)
            .map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        let raw = raw_of(&stored.token)
            .ok_or_else(|| StoreFailed::Corrupt("a token index names no token".to_owned()))?;
        self.remember_index(*index, raw);
        Ok(Some(raw))
    }

    fn remember_index(&self, index: Digest, raw: [u8; 16]) {
        if let Ok(mut cache) = self.tokens.by_index.lock() {
            if cache.len() >= CACHE_MAX {
                cache.clear();
            }
            cache.insert(index, raw);
        }
    }

    fn remember_all(&self, targets: &[TokenTarget], indexes: &[Digest], raws: &[[u8; 16]]) {
        for ((target, index), raw) in targets.iter().zip(indexes).zip(raws) {
            self.remember_index(*index, *raw);
            self.remember(&target.token_text(*raw), target);
        }
    }
}

impl Admitted<'_> {
    /// Adds to the commit of a call which resource tokens it followed; nothing where it sent none.
    ///
    /// That a patient's own token is followed is what the commit's other event says: whose record was read, or is to
    /// be changed.
    pub(crate) fn record_followed(&self, commit: &mut Commit) {
        let declared = self
            .arguments
            .inputs
            .iter()
            .filter(|(name, _)| is_token(self.tool, name))
            .filter_map(|(_, value)| value.as_str()?.parse::<ResourceToken>().ok());
        let sources = self.arguments.sources.iter().copied();
        let mut tokens: Vec<ResourceToken> = Vec::new();
        for token in declared.chain(sources) {
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        if tokens.is_empty() {
            return;
        }
        let envelope = &self.caller.envelope;
        commit.append(
            StreamId::Envelope(envelope.id),
            Expected::Any,
            Event::TokensResolved {
                correlation: self.correlation,
                tool: self.tool.name.clone(),
                patient: envelope.patient,
                tokens,
            },
        );
    }
}

/// Whether a token stands anywhere in a text. Nothing resolves it there, and a record is no place for one.
pub(crate) fn holds_token(text: &str) -> bool {
    const TOKEN_BYTES: usize = 36;
    let at_token = |at: usize| {
        text.get(at..at + TOKEN_BYTES).is_some_and(|it| {
            it.parse::<PatientToken>().is_ok() || it.parse::<ResourceToken>().is_ok()
        })
    };
    text.char_indices().any(|(at, _)| at_token(at))
}

fn raw_of(token: &str) -> Option<[u8; 16]> {
    let digits = token.rsplit('_').next()?;
    let mut raw = [0; 16];
    hex::decode_to_slice(digits, &mut raw).ok()?;
    Some(raw)
}
