//! The EHR's authorization server for launches, in memory: it lets through whom a test lets through, and takes a code
//! once, with the verifier and the nonce that it was asked for with.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_core::launch::{AuthorizationAsked, CodeGiven, LaunchContext, LaunchServerFailed};
use chaperone_core::ports::LaunchServer;

use crate::time::lock;

/// What it calls itself.
const ISSUER: &str = "http://ehr.test";

/// The server.
#[derive(Debug)]
pub struct FakeLaunchServer {
    base: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By `state`.
    asked: BTreeMap<String, AuthorizationAsked>,
    codes: BTreeMap<String, (AuthorizationAsked, LaunchContext)>,
    fails: Option<LaunchServerFailed>,
    redeemed: usize,
}

/// What a browser brings back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetThrough {
    /// As it was given.
    pub state: String,
    /// The code.
    pub code: String,
    /// Who issued it.
    pub issuer: String,
}

impl FakeLaunchServer {
    /// The server of the EHR with this FHIR endpoint.
    pub fn of(base: &str) -> Self {
        Self {
            base: base.to_owned(),
            state: Mutex::default(),
        }
    }

    /// Lets the person through whom [`LaunchServer::authorization_url`] sent here. None for an address that it did not
    /// make.
    pub fn let_through(&self, address: &str, context: LaunchContext) -> Option<LetThrough> {
        let given = address.strip_prefix("http://ehr.test/authorize?state=")?;
        let mut state = lock(&self.state);
        let asked = state.asked.get(given)?.clone();
        let code = format!("code-{}", state.codes.len() + state.redeemed);
        state.codes.insert(code.clone(), (asked, context));
        Some(LetThrough {
            state: given.to_owned(),
            code,
            issuer: ISSUER.to_owned(),
        })
    }

    /// From now on it fails like this, or not any more.
    pub fn fails(&self, how: Option<LaunchServerFailed>) {
        lock(&self.state).fails = how;
    }

    /// What it was asked last with this `state`.
    pub fn asked(&self, given: &str) -> Option<AuthorizationAsked> {
        lock(&self.state).asked.get(given).cloned()
    }
}

#[async_trait]
impl LaunchServer for FakeLaunchServer {
    fn is_issuer(&self, issuer: &str) -> bool {
        issuer == self.base
    }

    async fn authorization_url(
        &self,
        asked: &AuthorizationAsked,
    ) -> Result<String, LaunchServerFailed> {
        let mut state = lock(&self.state);
        if let Some(how) = state.fails {
            return Err(how);
        }
        state.asked.insert(asked.state.clone(), asked.clone());
        Ok(format!("http://ehr.test/authorize?state={}", asked.state))
    }

    async fn redeem(&self, given: &CodeGiven) -> Result<LaunchContext, LaunchServerFailed> {
        let mut state = lock(&self.state);
        if let Some(how) = state.fails {
            return Err(how);
        }
        if given.issuer.as_deref().is_some_and(|it| it != ISSUER) {
            return Err(LaunchServerFailed::OtherIssuer);
        }
        let known = state.codes.remove(&given.code);
        let (asked, context) = known.ok_or(LaunchServerFailed::CodeRefused)?;
        state.redeemed += 1;
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, given.verifier.as_bytes()));
        if challenge != asked.challenge || given.redirect_uri != asked.redirect_uri {
            return Err(LaunchServerFailed::CodeRefused);
        }
        if given.nonce != asked.nonce {
            return Err(LaunchServerFailed::Identity("it belongs to another launch"));
        }
        Ok(context)
    }
}
