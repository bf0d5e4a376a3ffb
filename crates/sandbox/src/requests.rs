//! What the sandbox was asked, for tests that count effects and look at what left the client.
//!
//! In memory only and never logged: paths and queries carry record identifiers. Start at
//! [`ReceivedRequest`].

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// The most requests remembered; the oldest are forgotten first.
const REQUESTS_MAX: usize = 100_000;

/// One HTTP request on the FHIR base, in the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReceivedRequest {
    /// Counted from 1 since the start; [`crate::Change::request`] refers to it.
    pub number: u64,
    /// The HTTP method.
    pub method: String,
    /// The path below the FHIR base, with its leading slash.
    pub path: String,
    /// The query string as sent, undecoded.
    pub query: Option<String>,
    /// The `Prefer` header as sent.
    pub prefer: Option<String>,
    /// The `If-None-Exist` header as sent.
    pub if_none_exist: Option<String>,
    /// The `If-Match` header as sent.
    pub if_match: Option<String>,
    /// The status answered; `None` while in progress or when no answer was sent.
    pub status: Option<u16>,
}

/// The remembered requests.
#[derive(Debug, Default)]
pub(crate) struct RequestLog(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    kept: VecDeque<ReceivedRequest>,
    last_number: u64,
}

impl RequestLog {
    /// Remembers a request and gives it its number.
    pub(crate) fn begin(&self, mut request: ReceivedRequest) -> u64 {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.last_number = entries.last_number.saturating_add(1);
        request.number = entries.last_number;
        if entries.kept.len() >= REQUESTS_MAX {
            entries.kept.pop_front();
        }
        entries.kept.push_back(request);
        entries.last_number
    }

    /// Notes the status that was answered.
    pub(crate) fn answered(&self, number: u64, status: u16) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = entries.kept.front().map(|request| request.number) else {
            return;
        };
        let position = number
            .checked_sub(first)
            .and_then(|position| usize::try_from(position).ok());
        if let Some(request) = position.and_then(|position| entries.kept.get_mut(position)) {
            request.status = Some(status);
        }
    }

    pub(crate) fn all(&self) -> Vec<ReceivedRequest> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.kept.iter().cloned().collect()
    }

    /// Forgets the requests; numbers go on.
    pub(crate) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .kept
            .clear();
    }
}
