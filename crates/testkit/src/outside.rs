//! Consent that always answers the same, notices and mail that are only collected, anchors in memory.

use std::sync::Mutex;

use async_trait::async_trait;
use chaperone_core::ids::TenantId;
use chaperone_core::patient_mail::{PatientMailNotSent, PatientMailText};
use chaperone_core::phi::{ExposedFor, Phi};
use chaperone_core::ports::{
    Anchor, AnchorFailed, ConsentDecision, ConsentHook, ConsentQuestion, Notice, Notifier,
    PatientMailer,
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

/// Sends patients nothing; keeps what it was given, and fails when told to.
#[derive(Debug, Default)]
pub struct KeptMail {
    sent: Mutex<Vec<(String, PatientMailText)>>,
    failing: Mutex<Option<PatientMailNotSent>>,
}

impl KeptMail {
    /// Everything it was given and took: to which address, and what, oldest first.
    pub fn sent(&self) -> Vec<(String, PatientMailText)> {
        lock(&self.sent).clone()
    }

    /// From now on, fails so; or takes everything.
    pub fn fail(&self, reason: Option<PatientMailNotSent>) {
        *lock(&self.failing) = reason;
    }
}

#[async_trait]
impl PatientMailer for KeptMail {
    async fn send(
        &self,
        to: &Phi<String>,
        mail: &PatientMailText,
    ) -> Result<(), PatientMailNotSent> {
        if let Some(reason) = *lock(&self.failing) {
            return Err(reason);
        }
        let to = to.expose(ExposedFor::Message).clone();
        lock(&self.sent).push((to, mail.clone()));
        Ok(())
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
