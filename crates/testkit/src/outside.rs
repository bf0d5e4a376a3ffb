//! Consent that always answers the same, notices that are only collected, anchors in memory.

use std::sync::Mutex;

use async_trait::async_trait;
use chaperone_core::ids::TenantId;
use chaperone_core::ports::{
    Anchor, AnchorFailed, ConsentDecision, ConsentHook, ConsentQuestion, Notice, Notifier,
};

use crate::time::lock;

/// Permits everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct PermitConsent;

#[async_trait]
impl ConsentHook for PermitConsent {
    async fn decide(&self, _question: ConsentQuestion) -> ConsentDecision {
        ConsentDecision::Permit {
            basis: "test".to_owned(),
        }
    }
}

/// Denies everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct DenyConsent;

#[async_trait]
impl ConsentHook for DenyConsent {
    async fn decide(&self, _question: ConsentQuestion) -> ConsentDecision {
        ConsentDecision::Deny {
            code: "test-denies".to_owned(),
        }
    }
}

/// Tells nobody; keeps what it was given.
#[derive(Debug, Default)]
pub struct SilentNotifier(Mutex<Vec<Notice>>);

impl SilentNotifier {
    /// Everything it was given, oldest first.
    pub fn notices(&self) -> Vec<Notice> {
        lock(&self.0).clone()
    }
}

#[async_trait]
impl Notifier for SilentNotifier {
    async fn notify(&self, _tenant: &TenantId, notice: Notice) {
        lock(&self.0).push(notice);
    }
}

/// Keeps checkpoints in memory.
#[derive(Debug, Default)]
pub struct MemoryAnchor(Mutex<Vec<(TenantId, u64, String)>>);

impl MemoryAnchor {
    /// Everything anchored, oldest first.
    pub fn anchored(&self) -> Vec<(TenantId, u64, String)> {
        lock(&self.0).clone()
    }
}

#[async_trait]
impl Anchor for MemoryAnchor {
    async fn anchor(&self, tenant: &TenantId, size: u64, note: &str) -> Result<(), AnchorFailed> {
        lock(&self.0).push((tenant.clone(), size, note.to_owned()));
        Ok(())
    }

    async fn newest(&self, tenant: &TenantId) -> Result<Option<String>, AnchorFailed> {
        let anchored = lock(&self.0);
        let newest = anchored.iter().rev().find(|(of, _, _)| of == tenant);
        Ok(newest.map(|(_, _, note)| note.clone()))
    }
}
