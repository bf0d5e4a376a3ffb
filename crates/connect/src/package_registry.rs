//! A FHIR package registry: packages by name and version.
//!
//! Not here: whether a package is the one that was locked; whoever stores it checks that. Nothing is asked
//! of any registry unless its address is configured.
//! Start at [`PackageRegistry::new`].
//!
//! # Source
//! FHIR NPM Package Specification, <https://confluence.hl7.org/display/FHIR/NPM+Package+Specification>:
//! `[base]/[name]` lists the versions, `[base]/[name]/[version]` is the package.

use chaperone_core::egress::{Channel, EgressRefusal};
use reqwest::StatusCode;
use serde_json::Value;

use crate::egress::{Broken, ClientOptions, Gate, HttpClient, class, exchange};
use crate::http::{BaseUrl, UrlRefused};

/// Largest package, in bytes.
const PACKAGE_BYTES_MAX: usize = 256 << 20;
/// Largest listing of versions, in bytes.
const LISTING_BYTES_MAX: usize = 8 << 20;
/// Making a connection, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 5_000;
/// One request and its whole answer, in milliseconds.
const EXCHANGE_TIMEOUT_MS: u64 = 120_000;

/// A registry.
#[derive(Debug)]
pub struct PackageRegistry {
    base: BaseUrl,
    client: HttpClient<class::None>,
}

/// Why a registry cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageRegistryInvalid {
    /// The address is not acceptable.
    #[error(transparent)]
    Url(#[from] UrlRefused),
    /// The HTTP client cannot be built, for want of root certificates or a TLS provider.
    #[error("the HTTP client cannot be built")]
    Client(#[from] reqwest::Error),
}

/// Why a package was not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageFetchFailed {
    /// The name or version cannot stand in an address.
    #[error("that is not the name and version of a package")]
    Name,
    /// There is none.
    #[error("the registry has no such package")]
    Missing,
    /// It may not be asked.
    #[error("the registry was not asked: {0}")]
    Egress(#[from] EgressRefusal),
    /// No answer, or not a whole one.
    #[error("the registry does not answer")]
    Unavailable,
    /// The registry refused, or sends elsewhere.
    #[error("the registry answered with status {0}")]
    Refused(u16),
    /// The answer is too large or not what was asked for.
    #[error("the registry's answer cannot be used")]
    Unusable,
}

impl PackageRegistry {
    /// A registry at an address: https, or http on this machine. Calls nobody.
    ///
    /// # Errors
    /// [`PackageRegistryInvalid`] names what to mend.
    pub fn new(base_url: &str, gate: &Gate) -> Result<Self, PackageRegistryInvalid> {
        let base = BaseUrl::parse("packages.registry", base_url)?;
        let options = ClientOptions {
            connect_timeout_ms: CONNECT_TIMEOUT_MS,
            exchange_timeout_ms: EXCHANGE_TIMEOUT_MS,
            keep_connections: true,
            encrypted: base.is_encrypted(),
            extra_root_pem: None,
        };
        let client = gate
            .http(Channel::PackageRegistry, &options)?
            .below(Some(base.url().clone()));
        Ok(Self { base, client })
    }

    /// Every version of a package, in no order that means anything.
    ///
    /// # Errors
    /// [`PackageFetchFailed`].
    pub async fn versions(&self, name: &str) -> Result<Vec<String>, PackageFetchFailed> {
        if !is_plain(name) {
            return Err(PackageFetchFailed::Name);
        }
        let bytes = self.get(name, LISTING_BYTES_MAX).await?;
        let listing: Value =
            serde_json::from_slice(&bytes).map_err(|_| PackageFetchFailed::Unusable)?;
        let versions = listing
            .get("versions")
            .and_then(Value::as_object)
            .ok_or(PackageFetchFailed::Unusable)?;
        Ok(versions.keys().cloned().collect())
    }

    /// The bytes of one package, a `.tgz`.
    ///
    /// # Errors
    /// [`PackageFetchFailed`].
    pub async fn fetch(&self, name: &str, version: &str) -> Result<Vec<u8>, PackageFetchFailed> {
        if !is_plain(name) || !is_plain(version) {
            return Err(PackageFetchFailed::Name);
        }
        self.get(&format!("{name}/{version}"), PACKAGE_BYTES_MAX)
            .await
    }

    async fn get(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, PackageFetchFailed> {
        let url = self.base.at(path).ok_or(PackageFetchFailed::Name)?;
        let answer =
            exchange(self.client.get(url), bytes_max)
                .await
                .map_err(|broken| match broken {
                    Broken::Refused(refusal) => PackageFetchFailed::Egress(refusal),
                    Broken::NotSent | Broken::Interrupted => PackageFetchFailed::Unavailable,
                })?;
        match answer.status {
            StatusCode::OK => answer.body.map_err(|_| PackageFetchFailed::Unusable),
            StatusCode::NOT_FOUND | StatusCode::GONE => Err(PackageFetchFailed::Missing),
            status => Err(PackageFetchFailed::Refused(status.as_u16())),
        }
    }
}

/// Letters, digits, dots and dashes: it stands in an address as it is and leads nowhere else.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && !text.starts_with('.')
        && !text.contains("..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["hl7.fhir.us.core", "8.0.0", "6.1.0-ballot"] {
            assert!(is_plain(good), "{good}");
        }
        for bad in ["", "..", "a/b", "a..b", ".a", "a?b", "a b", "a%2fb", "a#b"] {
            assert!(!is_plain(bad), "{bad}");
        }
    }
}
