//! The way into a running sandbox from the same process: to fill it, look at it, make it fail.
//!
//! Not for the product's own paths, which reach it over HTTP like any EHR. Start at
//! [`SandboxHandle`].

use std::fmt;
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use serde_json::Value;

use crate::definitions::resource_type;
use crate::faults::FaultRule;
use crate::launch::{IdentityFlaw, OpenInEhr};
use crate::load::{LoadError, LoadReport, load};
use crate::profile::ServerProfile;
use crate::requests::ReceivedRequest;
use crate::seed::{SeedReport, seed};
use crate::server::Shared;
use crate::signing::{provenance, signed};
use crate::storage::{Change, Storage, Version};

/// A cheap handle on a sandbox; outlives the server.
#[derive(Clone)]
pub struct SandboxHandle {
    shared: Arc<Shared>,
}

impl SandboxHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The FHIR base URL.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.shared.base_url
    }

    /// The URL of the token endpoint; answers only with SMART Backend Services on.
    #[must_use]
    pub fn token_url(&self) -> &str {
        &self.shared.token_url
    }

    /// The profile it was started with.
    #[must_use]
    pub fn profile(&self) -> ServerProfile {
        self.shared.profile
    }

    /// Loads the resources of a Bundle (transaction, batch or collection), keeping their ids where
    /// they are free. All or nothing.
    ///
    /// A resource that is there already, with the same id and content, is left alone, so that
    /// bundles may share practitioners and loading twice changes nothing.
    ///
    /// # Errors
    /// A bundle that is not one, too large, or with an entry that cannot be loaded.
    pub fn load_bundle(&self, bundle: &Value) -> Result<LoadReport, LoadError> {
        let now = (self.shared.clock)();
        load(&mut self.write(), bundle, self.shared.profile, now)
    }

    /// Adds what a working day needs and the loaded data lacks: schedules and slots, appointments,
    /// notes, care teams, encounters in progress.
    ///
    /// The same data and the same `now` give the same resources.
    ///
    /// # Errors
    /// As [`SandboxHandle::load_bundle`].
    pub fn seed_operational(&self, now: Timestamp) -> Result<SeedReport, LoadError> {
        seed(&mut self.write(), now)
    }

    /// Creates or replaces one resource by its type and id, as another user of the EHR would.
    ///
    /// # Errors
    /// No known resourceType, no id, or a full store.
    pub fn put(&self, resource: &Value) -> Result<(), LoadError> {
        let now = (self.shared.clock)();
        crate::load::put(&mut self.write(), resource, now)
    }

    /// Signs a resource that waits for it, as a person on the server's own screens: `signer` is `Practitioner/[id]`.
    /// False for what is not there or waits for no signature, and under profiles where nobody signs.
    ///
    /// # Errors
    /// A full store.
    pub fn sign(
        &self,
        resource_type_name: &str,
        id: &str,
        signer: &str,
    ) -> Result<bool, LoadError> {
        if !self.shared.profile.takes_unsigned_only() {
            return Ok(false);
        }
        let present = self.resource(resource_type_name, id);
        let Some(next) = present.and_then(|it| signed(resource_type_name, &it)) else {
            return Ok(false);
        };
        let now = (self.shared.clock)();
        let mut storage = self.write();
        crate::load::put(&mut storage, &next, now)?;
        let number = resource_type(resource_type_name)
            .and_then(|kind| storage.newest(kind, id))
            .map_or(0, |version| version.number);
        let target = format!("{resource_type_name}/{id}/_history/{number}");
        let own_id = format!("signature-{id}-{number}");
        crate::load::put(
            &mut storage,
            &provenance(&target, signer, &own_id, now),
            now,
        )?;
        Ok(true)
    }

    /// Opens a launch, as somebody who presses the button in the EHR; where it goes, with `iss` and `launch`. None
    /// without an app that may be launched.
    #[must_use]
    pub fn open_launch(&self, context: OpenInEhr, flaw: Option<IdentityFlaw>) -> Option<String> {
        let launch = self.shared.launch.as_ref()?;
        let id = launch.open(context, flaw, (self.shared.clock)())?;
        Some(launch.launch_address(&id))
    }

    /// The newest version of a resource, unless deleted or unknown.
    #[must_use]
    pub fn resource(&self, resource_type_name: &str, id: &str) -> Option<Value> {
        let kind = resource_type(resource_type_name)?;
        self.read().live(kind, id).and_then(|version| json(version))
    }

    /// All live resources of one type, by id.
    #[must_use]
    pub fn resources(&self, resource_type_name: &str) -> Vec<Value> {
        self.read()
            .all()
            .filter(|version| version.kind.name == resource_type_name)
            .filter_map(|version| json(version))
            .collect()
    }

    /// All live resources, by type and id.
    #[must_use]
    pub fn all_resources(&self) -> Vec<Value> {
        self.read()
            .all()
            .filter_map(|version| json(version))
            .collect()
    }

    /// How many resources are live.
    #[must_use]
    pub fn resource_count(&self) -> usize {
        self.read().all().count()
    }

    /// All versions of a resource, oldest first; a delete is `Value::Null`.
    #[must_use]
    pub fn history(&self, resource_type_name: &str, id: &str) -> Vec<Value> {
        let Some(kind) = resource_type(resource_type_name) else {
            return Vec::new();
        };
        self.read()
            .history(kind, id)
            .iter()
            .map(|version| json(version).unwrap_or(Value::Null))
            .collect()
    }

    /// Every effect on the stored resources, in order, loading included.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.read().changes().to_vec()
    }

    /// The effects that came in over HTTP: what clients really changed, however often they asked.
    #[must_use]
    pub fn changes_by_request(&self) -> Vec<Change> {
        let storage = self.read();
        storage
            .changes()
            .iter()
            .filter(|change| change.request.is_some())
            .cloned()
            .collect()
    }

    /// The HTTP requests received, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.requests.all()
    }

    /// Forgets the requests received so far; their numbers go on.
    pub fn clear_requests(&self) {
        self.shared.requests.clear();
    }

    /// Makes matching requests fail, behind the rules that wait already.
    pub fn inject(&self, rule: FaultRule) {
        self.shared.faults.inject(rule);
    }

    /// The rules that are not spent.
    #[must_use]
    pub fn faults_pending(&self) -> Vec<FaultRule> {
        self.shared.faults.pending()
    }

    /// Drops the rules that are not spent.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    fn read(&self) -> RwLockReadGuard<'_, Storage> {
        self.shared
            .storage
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Storage> {
        self.shared
            .storage
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SandboxHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SandboxHandle")
            .field("base_url", &self.shared.base_url)
            .finish_non_exhaustive()
    }
}

fn json(version: &Version) -> Option<Value> {
    let body = version.body.as_deref()?;
    serde_json::from_str(body.get()).ok()
}
