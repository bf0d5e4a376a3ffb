//! The simulator's EHR: resources with versions, what it honours by its profile, and a true history of every
//! request that arrived with what it did.
//!
//! Not the sandbox: no HTTP, no FHIR checks, only the few searches that write-back uses. It lies only as real
//! servers of its profile do.

use std::collections::BTreeMap;

use chaperone_core::ids::WritebackId;
use serde_json::{Value, json};

use super::world::{MILLI, Micros, instant};

/// How long after a write a search may not find it yet, at most.
pub(crate) const SEARCH_LAG: Micros = 1_500 * MILLI;
/// What the profile says about it, in milliseconds.
pub(crate) const SETTLE_MS: i64 = 2_000;

/// What kind of server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServerProfile {
    /// Honours conditions, tells versions.
    Full,
    /// Takes what it is sent, and tells no versions.
    Plain,
    /// Takes nothing: people enter.
    ReadOnly,
    /// Takes everything by an operation of its own, tells no versions, and files a message id once.
    Vendor,
    /// Takes orders unsigned, which people sign there; the rest as a plain one, but tells versions.
    Staged,
}

impl ServerProfile {
    /// Its name in traces and summaries.
    pub fn as_str(self) -> &'static str {
        match self {
            ServerProfile::Full => "full",
            ServerProfile::Plain => "plain",
            ServerProfile::ReadOnly => "read-only",
            ServerProfile::Vendor => "vendor",
            ServerProfile::Staged => "staged",
        }
    }

    fn tells_versions(self) -> bool {
        matches!(self, ServerProfile::Full | ServerProfile::Staged)
    }
}

/// One write as it arrives.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Which send it belongs to; a message that the network brings twice has the same number.
    pub(crate) number: u64,
    pub(crate) writeback: WritebackId,
    pub(crate) kind: String,
    /// Of an update.
    pub(crate) id: Option<String>,
    pub(crate) if_none_exist: Option<String>,
    pub(crate) if_match: Option<String>,
    /// The message id, of what goes to an operation of the EHR's own.
    pub(crate) message: Option<String>,
    pub(crate) body: String,
}

/// What went wrong inside the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mishap {
    None,
    ErrorBefore,
    ErrorAfter,
    TooMany,
    Rejects,
    Unauthorised,
    KeepsOther,
    /// The operation says only that it took note of the message, and files nothing.
    TookNote,
    /// The operation says that it filed the message, and does so later.
    FilesLater,
}

/// The status by which the operation acknowledges nothing.
pub(crate) const TOOK_NOTE: u16 = 202;

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) id: String,
    pub(crate) version: Option<u64>,
    pub(crate) retry_after_ms: Option<i64>,
    /// Acknowledged, and filed some time later.
    pub(crate) is_filed_later: bool,
}

/// What a request did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) version: u64,
}

/// One request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) at: Micros,
    pub(crate) request: Request,
    pub(crate) effect: Option<Effect>,
}

#[derive(Debug, Clone)]
struct Kept {
    version: u64,
    since: Micros,
    body: Value,
}

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) profile: ServerProfile,
    pub(crate) adds_elements: bool,
    /// Whether the operation files a message as often as it comes, against its word.
    pub(crate) forgets_messages: bool,
    resources: BTreeMap<(String, String), Vec<Kept>>,
    pub(crate) history: Vec<Exchange>,
    /// Signatures on versions, as Provenances name them.
    signatures: Vec<Signed>,
    /// What was filed under which message id.
    messages: BTreeMap<String, String>,
    made: u64,
}

/// One signature, as the EHR shows it.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) version: u64,
    /// `Practitioner/[id]`.
    pub(crate) signer: String,
    pub(crate) at: Micros,
}

impl Server {
    pub(crate) fn new(profile: ServerProfile) -> Self {
        Self {
            profile,
            adds_elements: false,
            forgets_messages: false,
            resources: BTreeMap::new(),
            history: Vec::new(),
            signatures: Vec::new(),
            messages: BTreeMap::new(),
            made: 0,
        }
    }

    /// Somebody else than Chaperone puts a resource there.
    pub(crate) fn put(&mut self, now: Micros, resource: Value) {
        let text = |name: &str| {
            resource
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        if let (Some(kind), Some(id)) = (text("resourceType"), text("id")) {
            self.keep(now, &kind, &id, resource);
        }
    }

    /// Somebody else takes it away.
    pub(crate) fn remove(&mut self, kind: &str, id: &str) {
        self.resources.remove(&(kind.to_owned(), id.to_owned()));
    }

    fn keep(&mut self, now: Micros, kind: &str, id: &str, mut body: Value) -> u64 {
        let versions = self
            .resources
            .entry((kind.to_owned(), id.to_owned()))
            .or_default();
        let version = versions
            .last()
            .map_or(0, |kept| kept.version)
            .saturating_add(1);
        if let Some(members) = body.as_object_mut() {
            members.insert("id".to_owned(), json!(id));
            let meta = members.entry("meta").or_insert_with(|| json!({}));
            if let Some(meta) = meta.as_object_mut() {
                meta.insert("lastUpdated".to_owned(), json!(instant(now, 0).to_string()));
                if self.profile.tells_versions() {
                    meta.insert("versionId".to_owned(), json!(version.to_string()));
                }
            }
            if self.adds_elements && !members.contains_key("text") {
                let text = json!({ "status": "generated", "div": "<div/>" });
                members.insert("text".to_owned(), text);
            }
        }
        versions.push(Kept {
            version,
            since: now,
            body,
        });
        version
    }

    /// A resource as it is.
    pub(crate) fn now(&self, kind: &str, id: &str) -> Option<&Value> {
        let versions = self.resources.get(&(kind.to_owned(), id.to_owned()))?;
        versions.last().map(|kept| &kept.body)
    }

    fn version(&self, kind: &str, id: &str) -> Option<u64> {
        let versions = self.resources.get(&(kind.to_owned(), id.to_owned()))?;
        versions.last().map(|kept| kept.version)
    }

    /// One version of a resource.
    pub(crate) fn at_version(&self, kind: &str, id: &str, version: u64) -> Option<&Value> {
        let versions = self.resources.get(&(kind.to_owned(), id.to_owned()))?;
        let kept = versions.iter().find(|kept| kept.version == version)?;
        Some(&kept.body)
    }

    /// Since when a resource is as it is.
    pub(crate) fn since(&self, kind: &str, id: &str) -> Option<Micros> {
        let versions = self.resources.get(&(kind.to_owned(), id.to_owned()))?;
        versions.last().map(|kept| kept.since)
    }

    /// Every version, the newest first.
    pub(crate) fn versions(&self, kind: &str, id: &str) -> Vec<Value> {
        let versions = self.resources.get(&(kind.to_owned(), id.to_owned()));
        let newest_first = versions.into_iter().flatten().rev();
        newest_first.map(|kept| kept.body.clone()).collect()
    }

    /// Resources of a type, as a search sees them that may be so late.
    pub(crate) fn found(&self, kind: &str, now: Micros, lag: Micros) -> Vec<Value> {
        let seen = now.saturating_sub(lag);
        self.resources
            .iter()
            .filter(|((of, _), _)| of == kind)
            .filter_map(|(_, versions)| versions.iter().rev().find(|kept| kept.since <= seen))
            .map(|kept| kept.body.clone())
            .collect()
    }

    /// Takes one write.
    pub(crate) fn take(&mut self, now: Micros, request: &Request, mishap: Mishap) -> Answer {
        let (mut answer, effect) = self.judge(now, request, mishap);
        if !self.profile.tells_versions() {
            answer.version = None;
        }
        self.history.push(Exchange {
            at: now,
            request: request.clone(),
            effect,
        });
        answer
    }

    fn judge(
        &mut self,
        now: Micros,
        request: &Request,
        mishap: Mishap,
    ) -> (Answer, Option<Effect>) {
        let refuse = |status: u16| {
            let answer = Answer {
                status,
                id: String::new(),
                version: None,
                retry_after_ms: (status == 429).then_some(3_000),
                is_filed_later: false,
            };
            (answer, None)
        };
        match mishap {
            Mishap::ErrorBefore => return refuse(503),
            Mishap::TooMany => return refuse(429),
            Mishap::Rejects => return refuse(422),
            Mishap::Unauthorised => return refuse(403),
            Mishap::TookNote => return refuse(TOOK_NOTE),
            Mishap::None | Mishap::ErrorAfter | Mishap::KeepsOther | Mishap::FilesLater => {}
        }
        if self.profile == ServerProfile::ReadOnly
            || (self.profile == ServerProfile::Vendor) != request.message.is_some()
        {
            return refuse(405);
        }
        if let Some(id) = self.filed(request) {
            let answer = Answer {
                status: 200,
                id,
                version: None,
                retry_after_ms: None,
                is_filed_later: false,
            };
            return (answer, None);
        }
        let Ok(mut body) = serde_json::from_str::<Value>(&request.body) else {
            return refuse(400);
        };
        if mishap == Mishap::KeepsOther
            && let Some(members) = body.as_object_mut()
        {
            members.insert("language".to_owned(), json!("en"));
        }
        let honours = self.profile == ServerProfile::Full;
        let id = match &request.id {
            Some(id) => {
                let wanted = request.if_match.as_deref().filter(|_| honours);
                let wanted = wanted.map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
                let version = self.version(&request.kind, id);
                if wanted
                    .is_some_and(|tag| version.map(|it| it.to_string()).as_deref() != Some(tag))
                {
                    return refuse(412);
                }
                id.clone()
            }
            None => {
                let wanted = request.if_none_exist.as_deref().filter(|_| honours);
                let found = wanted.and_then(|query| self.identified(&request.kind, query));
                if let Some((id, version)) = found {
                    let answer = Answer {
                        status: 200,
                        id,
                        version: Some(version),
                        retry_after_ms: None,
                        is_filed_later: false,
                    };
                    return (answer, None);
                }
                self.made = self.made.saturating_add(1);
                format!("made-{}", self.made)
            }
        };
        if let Some(message) = &request.message {
            self.messages.insert(message.clone(), id.clone());
        }
        if mishap == Mishap::FilesLater {
            let answer = Answer {
                status: 200,
                id,
                version: None,
                retry_after_ms: None,
                is_filed_later: true,
            };
            return (answer, None);
        }
        let version = self.keep(now, &request.kind, &id, body);
        let effect = Effect {
            kind: request.kind.clone(),
            id: id.clone(),
            version,
        };
        let status = match (mishap, &request.id) {
            (Mishap::ErrorAfter, _) => 500,
            (_, Some(_)) => 200,
            (_, None) => 201,
        };
        let answer = Answer {
            status,
            id,
            version: Some(version),
            retry_after_ms: None,
            is_filed_later: false,
        };
        (answer, Some(effect))
    }

    /// Where a message was filed before, if the operation remembers.
    fn filed(&self, request: &Request) -> Option<String> {
        let message = request.message.as_ref()?;
        let known = self.messages.get(message)?;
        (!self.forgets_messages).then(|| known.clone())
    }

    /// Files what was acknowledged before.
    pub(crate) fn file(&mut self, now: Micros, request: &Request, id: &str) {
        let Ok(body) = serde_json::from_str::<Value>(&request.body) else {
            return;
        };
        let effect = Effect {
            kind: request.kind.clone(),
            id: id.to_owned(),
            version: self.keep(now, &request.kind, id, body),
        };
        self.history.push(Exchange {
            at: now,
            request: request.clone(),
            effect: Some(effect),
        });
    }

    /// A person changes what is there, on the EHR's screens, and may put their signature to it. Returns the version.
    pub(crate) fn change(
        &mut self,
        now: Micros,
        (kind, id): (&str, &str),
        change: impl FnOnce(&mut Value),
        signer: Option<&str>,
    ) -> Option<u64> {
        let mut body = self.now(kind, id)?.clone();
        change(&mut body);
        let version = self.keep(now, kind, id, body);
        if let Some(signer) = signer {
            self.signatures.push(Signed {
                kind: kind.to_owned(),
                id: id.to_owned(),
                version,
                signer: signer.to_owned(),
                at: now,
            });
        }
        Some(version)
    }

    /// Signatures on versions of a resource, as a search sees them that may be so late.
    pub(crate) fn signatures(&self, kind: &str, id: &str, now: Micros, lag: Micros) -> Vec<Signed> {
        let seen = now.saturating_sub(lag);
        let of = |it: &&Signed| it.kind == kind && it.id == id && it.at <= seen;
        self.signatures.iter().filter(of).cloned().collect()
    }

    /// Finds what carries the identifier of a condition; this look is never late.
    fn identified(&self, kind: &str, query: &str) -> Option<(String, u64)> {
        let (system, value) = query.strip_prefix("identifier=")?.split_once('|')?;
        self.resources
            .iter()
            .filter(|((of, _), _)| of == kind)
            .filter_map(|((_, id), versions)| Some((id, versions.last()?)))
            .find(|(_, kept)| carries(&kept.body, system, value))
            .map(|(id, kept)| (id.clone(), kept.version))
    }
}

/// Whether a resource carries an identifier.
pub(crate) fn carries(resource: &Value, system: &str, value: &str) -> bool {
    let is = |identifier: &Value| {
        let text = |name: &str| identifier.get(name).and_then(Value::as_str);
        text("system") == Some(system) && text("value") == Some(value)
    };
    match resource.get("identifier") {
        Some(Value::Array(all)) => all.iter().any(is),
        Some(one) => is(one),
        None => false,
    }
}
