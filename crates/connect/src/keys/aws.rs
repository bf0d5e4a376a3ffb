//! AWS KMS as the key-management service: four calls over HTTPS, signed by Signature Version 4.
//!
//! The key never leaves the service. What is wrapped is bound to an encryption context, which the service writes
//! into its own record (CloudTrail) with each use: tenant, version and dates of the tenant key.
//!
//! Not the SDK: these calls leave by the same gate, with the same limits, as everything else ([`crate::egress`]), as
//! what they are: the key to health information. Texts of the service are never repeated, only its error codes.
//!
//! # Source
//! AWS KMS API Reference: Encrypt, Decrypt, DescribeKey, GetKeyRotationStatus, common errors; AWS Signature Version 4.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_core::Timestamp;
use chaperone_core::egress::Channel;
use chaperone_core::ports::{Clock, Kms, KmsBinding, KmsFailed, KmsStanding, Random as _};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::files;
use super::sigv4;
use crate::egress::{Broken, ClientOptions, Gate, HttpClient, class, exchange};
use crate::http::{BaseUrl, UrlRefused};
use crate::random::OsRandom;

/// Its name in what it wrapped.
const AWS: &str = "aws";

/// Limit on making a connection, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 2_000;
/// Limit on one exchange, in milliseconds.
const EXCHANGE_TIMEOUT_MS: u64 = 5_000;
/// Longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 65_536;
/// Attempts for what passes.
const ATTEMPTS: u32 = 3;
/// Wait before the second attempt, in milliseconds; doubles, with as much again at random.
const BACKOFF_MS: u64 = 100;
/// Longest error code that is repeated.
const CODE_BYTES_MAX: usize = 64;
/// Longest key id, in bytes.
const KEY_ID_BYTES_MAX: usize = 2_048;
/// The form of requests and answers.
const CONTENT: &str = "application/x-amz-json-1.1";
/// Keys that may be left, one after the other.
const PREVIOUS_KEYS_MAX: usize = 8;

/// Who this process is at AWS.
#[derive(Clone)]
pub struct AwsCredentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Zeroizing<String>,
    /// Session token of temporary credentials.
    pub session_token: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for AwsCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AwsCredentials([withheld])")
    }
}

/// Where credentials come from.
#[derive(Debug, Clone)]
pub enum AwsCredentialSource {
    /// Given at start, such as from the environment.
    Given(AwsCredentials),
    /// A file that is read at each call, so that whoever renews temporary credentials replaces it.
    File(PathBuf),
}

/// How AWS KMS is reached.
#[derive(Debug, Clone)]
pub struct AwsKmsConfig {
    /// The key that tenant keys are wrapped under: ARN, id or alias.
    pub key: String,
    /// Keys that wrapped tenant keys before: asked only to unwrap.
    pub previous_keys: Vec<String>,
    /// Region, such as `us-east-1`.
    pub region: String,
    /// Another address than the region's own, such as that of a VPC endpoint.
    pub endpoint: Option<String>,
    /// Who this process is.
    pub credentials: AwsCredentialSource,
}

/// Why AWS KMS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AwsKmsInvalid {
    /// The address is refused.
    #[error(transparent)]
    Url(#[from] UrlRefused),
    /// The region is not one.
    #[error("`keys.kms.region` must be a region's name, such as `us-east-1`")]
    Region,
    /// A key id is empty or too long, or there are too many.
    #[error(
        "`keys.kms.key` and `previous_keys` must be ARNs, ids or aliases of keys, at most {PREVIOUS_KEYS_MAX} previous ones"
    )]
    Key,
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made: {0}")]
    Client(#[from] reqwest::Error),
}

/// AWS KMS.
pub struct AwsKms {
    config: AwsKmsConfig,
    base: BaseUrl,
    client: HttpClient<class::Phi>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for AwsKms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AwsKms")
            .field("key", &self.config.key)
            .field("region", &self.config.region)
            .finish_non_exhaustive()
    }
}

/// A file of credentials, in the form that AWS documents for `credential_process`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CredentialFile {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    session_token: Option<String>,
    #[serde(default)]
    expiration: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Encrypted<'a> {
    #[serde(rename = "CiphertextBlob", borrow)]
    ciphertext: &'a str,
}

#[derive(Deserialize)]
struct Decrypted<'a> {
    #[serde(rename = "Plaintext", borrow)]
    plaintext: &'a str,
}

#[derive(Deserialize)]
struct Described {
    #[serde(rename = "KeyMetadata")]
    metadata: KeyMetadata,
}

#[derive(Deserialize)]
struct KeyMetadata {
    #[serde(rename = "Arn")]
    arn: String,
    #[serde(rename = "KeyState")]
    state: String,
}

#[derive(Deserialize)]
struct RotationStatus {
    #[serde(rename = "KeyRotationEnabled")]
    enabled: bool,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(rename = "__type", borrow)]
    code: Option<&'a str>,
}

#[derive(Serialize)]
struct Ask<'a> {
    #[serde(rename = "KeyId")]
    key: &'a str,
    #[serde(rename = "Plaintext", skip_serializing_if = "Option::is_none")]
    plaintext: Option<&'a str>,
    #[serde(rename = "CiphertextBlob", skip_serializing_if = "Option::is_none")]
    ciphertext: Option<&'a str>,
    #[serde(rename = "EncryptionContext", skip_serializing_if = "Option::is_none")]
    context: Option<BTreeMap<&'static str, String>>,
}

impl<'a> Ask<'a> {
    fn of(key: &'a str) -> Self {
        Self {
            key,
            plaintext: None,
            ciphertext: None,
            context: None,
        }
    }

    fn bound(mut self, binding: &KmsBinding) -> Self {
        self.context = Some(binding.pairs().into_iter().collect());
        self
    }

    fn to_body(&self) -> Result<Zeroizing<String>, KmsFailed> {
        serde_json::to_string(self)
            .map(Zeroizing::new)
            .map_err(|_| KmsFailed::Unusable("a request could not be written".to_owned()))
    }
}

impl AwsKms {
    /// Sets AWS KMS up; nothing is asked yet.
    ///
    /// # Errors
    /// [`AwsKmsInvalid`] names the setting.
    pub fn new(
        config: AwsKmsConfig,
        gate: &Gate,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AwsKmsInvalid> {
        let is_name = |text: &str| {
            !text.is_empty()
                && text.len() <= 64
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if !is_name(&config.region) {
            return Err(AwsKmsInvalid::Region);
        }
        let mut keys = std::iter::once(&config.key).chain(&config.previous_keys);
        let is_key = |key: &String| {
            !key.is_empty()
                && key.len() <= KEY_ID_BYTES_MAX
                && key.bytes().all(|b| b.is_ascii_graphic())
        };
        if !keys.all(is_key) || config.previous_keys.len() > PREVIOUS_KEYS_MAX {
            return Err(AwsKmsInvalid::Key);
        }
        let address = config
            .endpoint
            .clone()
            .unwrap_or_else(|| format!("https://kms.{}.amazonaws.com", config.region));
        let base = BaseUrl::parse("keys.kms.endpoint", &address)?;
        let options = ClientOptions {
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            exchange_timeout_ms: EXCHANGE_TIMEOUT_MS,
            keep_connections: true,
            encrypted: base.is_encrypted(),
            extra_root_pem: None,
        };
        let client = gate.http(Channel::KeyService, &options)?;
        Ok(Self {
            config,
            base,
            client,
            clock,
        })
    }

    /// Calls an action, again after a moment where that can help.
    async fn call(&self, action: &str, ask: &Ask<'_>) -> Result<Zeroizing<Vec<u8>>, KmsFailed> {
        let body = ask.to_body()?;
        let mut wait_ms = BACKOFF_MS;
        let mut attempt = 1;
        loop {
            match self.call_once(action, ask.key, &body).await {
                Err(failed) if failed.is_passing() && attempt < ATTEMPTS => {
                    // Up to as much again, so that nodes that failed together do not come back together.
                    let [random, ..] = OsRandom.id();
                    let jitter_ms = u64::from(random).saturating_mul(wait_ms) / 256;
                    let wait = Duration::from_millis(wait_ms.saturating_add(jitter_ms));
                    tokio::time::sleep(wait).await;
                    wait_ms = wait_ms.saturating_mul(2);
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn call_once(
        &self,
        action: &str,
        key: &str,
        body: &str,
    ) -> Result<Zeroizing<Vec<u8>>, KmsFailed> {
        let url = self
            .base
            .at("")
            .ok_or_else(|| KmsFailed::Unusable("its address cannot be used".to_owned()))?;
        let target = format!("TrentService.{action}");
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return Err(KmsFailed::Unusable("its address cannot be used".to_owned())),
        };
        let credentials = self.credentials().await?;
        let signed = sigv4::sign(&sigv4::ToSign {
            credentials: &credentials,
            region: &self.config.region,
            service: "kms",
            at: self.clock.now(),
            path: url.path(),
            headers: &[
                ("content-type", CONTENT),
                ("host", &host),
                ("x-amz-target", &target),
            ],
            body: body.as_bytes(),
        });
        let mut request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, CONTENT)
            .header(HeaderName::from_static("x-amz-target"), target);
        for (name, value) in signed {
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                KmsFailed::Unusable("the credentials hold what a header cannot".to_owned())
            })?;
            value.set_sensitive(true);
            request = request.header(HeaderName::from_static(name), value);
        }
        let answer = exchange(request.body(body.to_owned()), ANSWER_BYTES_MAX)
            .await
            .map_err(|broken| match broken {
                Broken::Refused(refusal) => KmsFailed::Unusable(refusal.to_string()),
                Broken::NotSent => KmsFailed::Unreachable("no connection".to_owned()),
                Broken::Interrupted => KmsFailed::Unreachable("no answer in time".to_owned()),
            })?;
        let status = answer.status;
        let body = answer
            .body
            .map(Zeroizing::new)
            .map_err(|_| KmsFailed::Unreachable("its answer broke off".to_owned()))?;
        if status.is_success() {
            return Ok(body);
        }
        Err(failure(status.as_u16(), &code_of(&body), key))
    }

    async fn credentials(&self) -> Result<AwsCredentials, KmsFailed> {
        let path = match &self.config.credentials {
            AwsCredentialSource::Given(given) => return Ok(given.clone()),
            AwsCredentialSource::File(path) => path.clone(),
        };
        let read = tokio::task::spawn_blocking(move || read_credentials(&path))
            .await
            .map_err(|_| KmsFailed::Unreachable("the key vault stopped".to_owned()))??;
        if read.expiration.is_some_and(|end| end <= self.clock.now()) {
            return Err(KmsFailed::Denied {
                key: self.config.key.clone(),
                why: "the credentials in `keys.kms.credentials_file` have expired".to_owned(),
            });
        }
        Ok(AwsCredentials {
            access_key_id: read.access_key_id,
            secret_access_key: read.secret_access_key.into(),
            session_token: read.session_token.map(Into::into),
        })
    }

    /// A key that is not configured is not asked: whoever exchanges a file must not choose the key.
    fn require_configured(&self, key_id: &str) -> Result<(), KmsFailed> {
        let mut keys = std::iter::once(&self.config.key).chain(&self.config.previous_keys);
        if keys.any(|key| key == key_id) {
            return Ok(());
        }
        Err(KmsFailed::WrongKey {
            key: key_id.to_owned(),
        })
    }
}

/// Reads a file of credentials that its owner alone can read.
fn read_credentials(path: &Path) -> Result<CredentialFile, KmsFailed> {
    let unusable = |why: &str| KmsFailed::Unusable(format!("`keys.kms.credentials_file` {why}"));
    let is_private = files::is_private(path).map_err(|_| unusable("cannot be read"))?;
    if !is_private {
        return Err(unusable(
            "can be reached by other users: run `chmod go-rwx` on it",
        ));
    }
    let content = files::read(path)
        .ok()
        .flatten()
        .map(Zeroizing::new)
        .ok_or_else(|| unusable("cannot be read"))?;
    serde_json::from_slice::<CredentialFile>(&content)
        .ok()
        .filter(|file| file.version == 1)
        .ok_or_else(|| unusable("is not in the form of a `credential_process`"))
}

/// The error code in an answer, if it is one.
fn code_of(body: &[u8]) -> String {
    let refusal: Option<Refusal<'_>> = serde_json::from_slice(body).ok();
    let code = refusal.and_then(|it| it.code).unwrap_or_default();
    // With or without the service's namespace.
    let code = code.rsplit('#').next().unwrap_or_default();
    let is_code = !code.is_empty()
        && code.len() <= CODE_BYTES_MAX
        && code.bytes().all(|b| b.is_ascii_alphanumeric());
    if is_code {
        code.to_owned()
    } else {
        "no error code".to_owned()
    }
}

/// What a refusal means.
fn failure(status: u16, code: &str, key: &str) -> KmsFailed {
    let key = || key.to_owned();
    match (status, code) {
        (429, _)
        | (_, "ThrottlingException" | "LimitExceededException" | "RequestLimitExceeded") => {
            KmsFailed::Throttled
        }
        (
            _,
            "KMSInternalException"
            | "DependencyTimeoutException"
            | "KeyUnavailableException"
            | "ServiceUnavailable"
            | "InternalFailure",
        )
        | (500.., _) => KmsFailed::Unreachable(format!("it answered {status}, {code}")),
        (_, "DisabledException" | "KMSInvalidStateException" | "NotFoundException") => {
            KmsFailed::KeyUnusable {
                key: key(),
                code: code.to_owned(),
            }
        }
        (_, "IncorrectKeyException" | "InvalidCiphertextException") => {
            KmsFailed::WrongKey { key: key() }
        }
        (401 | 403, _)
        | (
            _,
            "AccessDeniedException"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "ExpiredTokenException"
            | "InvalidClientTokenId"
            | "IncompleteSignature"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "OptInRequired"
            | "NotAuthorized",
        ) => KmsFailed::Denied {
            key: key(),
            why: format!("{code}; look at the credentials, the key policy and the IAM policy"),
        },
        _ => KmsFailed::Unusable(format!("it answered {status}, {code}")),
    }
}

fn unreadable<E>(_: E) -> KmsFailed {
    KmsFailed::Unusable("its answer cannot be read".to_owned())
}

#[async_trait]
impl Kms for AwsKms {
    fn provider(&self) -> &'static str {
        AWS
    }

    async fn key_id(&self) -> Result<String, KmsFailed> {
        Ok(self.config.key.clone())
    }

    async fn wrap(&self, key: &[u8; 32], binding: &KmsBinding) -> Result<Vec<u8>, KmsFailed> {
        let plaintext = Zeroizing::new(STANDARD.encode(key));
        let mut ask = Ask::of(&self.config.key).bound(binding);
        ask.plaintext = Some(&plaintext);
        let answer = self.call("Encrypt", &ask).await?;
        let encrypted: Encrypted<'_> = serde_json::from_slice(&answer).map_err(unreadable)?;
        STANDARD.decode(encrypted.ciphertext).map_err(unreadable)
    }

    async fn unwrap(
        &self,
        key_id: &str,
        wrapped: &[u8],
        binding: &KmsBinding,
    ) -> Result<Zeroizing<[u8; 32]>, KmsFailed> {
        self.require_configured(key_id)?;
        let ciphertext = STANDARD.encode(wrapped);
        let mut ask = Ask::of(key_id).bound(binding);
        ask.ciphertext = Some(&ciphertext);
        let answer = self.call("Decrypt", &ask).await?;
        let decrypted: Decrypted<'_> = serde_json::from_slice(&answer).map_err(unreadable)?;
        let plain = STANDARD
            .decode(decrypted.plaintext)
            .map(Zeroizing::new)
            .map_err(unreadable)?;
        let key: &[u8; 32] = plain.as_slice().try_into().map_err(unreadable)?;
        Ok(Zeroizing::new(*key))
    }

    async fn standing(&self) -> Result<KmsStanding, KmsFailed> {
        let key = &self.config.key;
        let answer = self.call("DescribeKey", &Ask::of(key)).await?;
        let described: Described = serde_json::from_slice(&answer).map_err(unreadable)?;
        if described.metadata.state != "Enabled" {
            return Err(KmsFailed::KeyUnusable {
                key: key.clone(),
                code: "not enabled".to_owned(),
            });
        }
        // Whoever may not ask hears nothing; that is no reason to fail.
        let renews_itself = match self.call("GetKeyRotationStatus", &Ask::of(key)).await {
            Ok(answer) => {
                let status: RotationStatus = serde_json::from_slice(&answer).map_err(unreadable)?;
                Some(status.enabled)
            }
            Err(KmsFailed::Denied { .. } | KmsFailed::Unusable(_)) => None,
            Err(failed) => return Err(failed),
        };
        Ok(KmsStanding {
            key_id: described.metadata.arn,
            region: Some(self.config.region.clone()),
            renews_itself,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_means_what_its_code_says_and_repeats_nothing_else() {
        let check = |status, body: &str| failure(status, &code_of(body.as_bytes()), "alias/k");
        let passing = [
            (400, "ThrottlingException"),
            (429, "x"),
            (500, "KMSInternalException"),
            (503, "ServiceUnavailable"),
        ];
        for (status, code) in passing {
            let failed = check(status, &format!("{{\"__type\":\"{code}\"}}"));
            assert!(failed.is_passing(), "{failed}");
        }
        for (status, code) in [
            (400, "AccessDeniedException"),
            (400, "ExpiredTokenException"),
            (403, "whatever"),
            (400, "com.amazonaws.kms#DisabledException"),
            (400, "KMSInvalidStateException"),
            (400, "NotFoundException"),
            (400, "IncorrectKeyException"),
            (400, "InvalidCiphertextException"),
            (400, "ValidationException"),
        ] {
            let body = format!("{{\"__type\":\"{code}\",\"message\":\"SECRET words\"}}");
            let failed = check(status, &body);
            assert!(!failed.is_passing(), "{failed}");
            assert!(!failed.to_string().contains("SECRET"), "{failed}");
        }
        for body in [
            "",
            "<html>",
            "{}",
            "{\"__type\":\"a b c\"}",
            "{\"__type\":7}",
        ] {
            let failed = check(400, body);
            assert!(failed.to_string().contains("no error code"), "{failed}");
        }
    }
}
