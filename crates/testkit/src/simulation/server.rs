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

/// One write as it arrives: one change, or all of a transaction.
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
    /// Of a transaction: the changes after the first.
    pub(crate) also: Vec<Further>,
}

/// A further change of a transaction.
#[derive(Debug, Clone)]
pub(crate) struct Further {
    pub(crate) kind: String,
    /// Of an update.
    pub(crate) id: Option<String>,
    pub(crate) if_none_exist: Option<String>,
    pub(crate) if_match: Option<String>,
    pub(crate) body: String,
}

/// One change of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'r> {
    pub(crate) kind: &'r str,
    pub(crate) id: Option<&'r str>,
    pub(crate) if_none_exist: Option<&'r str>,
    pub(crate) if_match: Option<&'r str>,
    pub(crate) body: &'r str,
}

impl Part<'_> {
    /// Where it goes.
    pub(crate) fn path(&self) -> String {
        match self.id {
            Some(id) => format!("{}/{id}", self.kind),
            None => self.kind.to_owned(),
        }
    }
}

impl Request {
    /// Everything it asks for, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let first = Part {
            kind: &self.kind,
            id: self.id.as_deref(),
            if_none_exist: self.if_none_exist.as_deref(),
            if_match: self.if_match.as_deref(),
            body: &self.body,
        };
        let also = self.also.iter().map(|it| Part {
            kind: &it.kind,
            id: it.id.as_deref(),
            if_none_exist: it.if_none_exist.as_deref(),
            if_match: it.if_match.as_deref(),
            body: &it.body,
        });
        std::iter::once(first).chain(also)
    }
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
    /// Makes all changes of a transaction but one, against its word.
    TakesInPart,
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
    /// Of a transaction: id and version of each change after the first.
    pub(crate) also: Vec<(String, Option<u64>)>,
}

impl Answer {
    fn of(status: u16, id: String, version: Option<u64>) -> Self {
        Self {
            status,
            id,
            version,
            retry_after_ms: None,
            is_filed_later: false,
            also: Vec::new(),
        }
    }

    /// Id and version of each change, in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        let also = self.also.iter().map(|(id, version)| (&**id, *version));
        std::iter::once((&*self.id, self.version)).chain(also)
    }
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
    /// Of a transaction: what each change after the first did.
    pub(crate) also: Vec<Option<Effect>>,
    /// Whether the server made some of it alone, against its word.
    pub(crate) is_in_part: bool,
}

impl Exchange {
    /// Each change with what it did.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (Part<'_>, Option<&Effect>)> {
        let nothing = std::iter::repeat(None);
        let also = self.also.iter().map(Option::as_ref).chain(nothing);
        let did = std::iter::once(self.effect.as_ref()).chain(also);
        self.request.parts().zip(did)
    }

    /// Everything that it did.
    pub(crate) fn effects(&self) -> impl Iterator<Item = &Effect> {
        self.parts().filter_map(|(_, did)| did)
    }
}

/// A change that can be made, and where.
struct Place {
    kind: String,
    id: String,
    is_new: bool,
    body: Value,
    does: Does,
}

/// What becomes of a change that can be made.
#[derive(Clone, Copy)]
enum Does {
    /// It is made.
    Make,
    /// Its condition finds that version.
    Find(u64),
    /// It is left out, against the server's word.
    LeaveOut,
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
        let (mut answer, effects) = self.judge(now, request, mishap);
        if !self.profile.tells_versions() {
            answer.version = None;
        }
        let is_in_part = mishap == Mishap::TakesInPart && effects.iter().any(Option::is_some);
        let mut effects = effects.into_iter();
        self.history.push(Exchange {
            at: now,
            request: request.clone(),
            effect: effects.next().flatten(),
            also: effects.collect(),
            is_in_part,
        });
        answer
    }

    /// What it answers, and what each change did; nothing where nothing was done.
    fn judge(
        &mut self,
        now: Micros,
        request: &Request,
        mishap: Mishap,
    ) -> (Answer, Vec<Option<Effect>>) {
        let refuse = |status: u16| {
            let answer = Answer {
                retry_after_ms: (status == 429).then_some(3_000),
                ..Answer::of(status, String::new(), None)
            };
            (answer, Vec::new())
        };
        match mishap {
            Mishap::ErrorBefore => return refuse(503),
            Mishap::TooMany => return refuse(429),
            Mishap::Rejects => return refuse(422),
            Mishap::Unauthorised => return refuse(403),
            Mishap::TookNote => return refuse(TOOK_NOTE),
            Mishap::None
            | Mishap::ErrorAfter
            | Mishap::KeepsOther
            | Mishap::TakesInPart
            | Mishap::FilesLater => {}
        }
        let takes_several = self.profile == ServerProfile::Full;
        if self.profile == ServerProfile::ReadOnly
            || (self.profile == ServerProfile::Vendor) != request.message.is_some()
            || !(request.also.is_empty() || takes_several)
        {
            return refuse(405);
        }
        if let Some(id) = self.filed(request) {
            return (Answer::of(200, id, None), Vec::new());
        }
        // Every change is looked at before any is made.
        let mut places = Vec::new();
        for part in request.parts() {
            match self.place(&part) {
                Ok(place) => places.push(place),
                Err(status) => return refuse(status),
            }
        }
        let one = usize::try_from(request.number).unwrap_or(0) % places.len().max(1);
        if let Some(place) = places.get_mut(one) {
            match (mishap, place.body.as_object_mut()) {
                (Mishap::TakesInPart, _) => place.does = Does::LeaveOut,
                (Mishap::KeepsOther, Some(members)) => {
                    members.insert("language".to_owned(), json!("en"));
                }
                _ => {}
            }
        }
        if let (Some(message), Some(place)) = (&request.message, places.first()) {
            self.messages.insert(message.clone(), place.id.clone());
        }
        if let (Mishap::FilesLater, Some(place)) = (mishap, places.first()) {
            let answer = Answer {
                is_filed_later: true,
                ..Answer::of(200, place.id.clone(), None)
            };
            return (answer, Vec::new());
        }
        self.make(now, places, mishap)
    }

    /// Makes every change, in one step.
    fn make(
        &mut self,
        now: Micros,
        places: Vec<Place>,
        mishap: Mishap,
    ) -> (Answer, Vec<Option<Effect>>) {
        let is_made = |it: &Place| it.is_new && matches!(it.does, Does::Make);
        let is_new = places.iter().any(is_made);
        let mut written = Vec::new();
        let mut effects = Vec::new();
        for place in places {
            let Place { kind, id, .. } = place;
            let version = match place.does {
                Does::Make => Some(self.keep(now, &kind, &id, place.body)),
                Does::Find(version) => Some(version),
                Does::LeaveOut => None,
            };
            written.push((id.clone(), version));
            let made = version.filter(|_| matches!(place.does, Does::Make));
            effects.push(made.map(|version| Effect { kind, id, version }));
        }
        let did_anything = effects.iter().any(Option::is_some);
        let status = match mishap {
            Mishap::TakesInPart => 500,
            Mishap::ErrorAfter if did_anything => 500,
            _ if is_new => 201,
            _ => 200,
        };
        let mut written = written.into_iter();
        let (id, version) = written.next().unwrap_or_default();
        let answer = Answer {
            also: written.collect(),
            ..Answer::of(status, id, version)
        };
        (answer, effects)
    }

    /// Where one change would go, under its condition; else the status that refuses it.
    fn place(&mut self, part: &Part<'_>) -> Result<Place, u16> {
        let body = serde_json::from_str::<Value>(part.body).map_err(|_| 400_u16)?;
        let honours = self.profile == ServerProfile::Full;
        let kind = part.kind.to_owned();
        if let Some(id) = part.id {
            let wanted = part.if_match.filter(|_| honours);
            let wanted = wanted.map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
            let version = self.version(part.kind, id).map(|it| it.to_string());
            if wanted.is_some_and(|tag| version.as_deref() != Some(tag)) {
                return Err(412);
            }
            return Ok(Place {
                kind,
                id: id.to_owned(),
                is_new: false,
                body,
                does: Does::Make,
            });
        }
        let wanted = part.if_none_exist.filter(|_| honours);
        let found = wanted.and_then(|query| self.identified(part.kind, query));
        let (id, does) = match found {
            Some((id, version)) => (id, Does::Find(version)),
            None => {
                self.made = self.made.saturating_add(1);
                (format!("made-{}", self.made), Does::Make)
            }
        };
        Ok(Place {
            kind,
            id,
            is_new: true,
            body,
            does,
        })
    }

    /// A person makes by hand what the server left out of a transaction that it took in part.
    pub(crate) fn complete(&mut self, now: Micros, id: WritebackId) {
        let of = |it: &&Exchange| it.request.writeback == id && it.is_in_part;
        let Some(last) = self.history.iter().rfind(of) else {
            return;
        };
        let request = last.request.clone();
        let made: Vec<String> = self
            .history
            .iter()
            .filter(|it| it.request.writeback == id)
            .flat_map(Exchange::parts)
            .filter(|(_, did)| did.is_some())
            .map(|(part, _)| part.body.to_owned())
            .collect();
        for part in request.parts() {
            if made.iter().any(|body| body == part.body) {
                continue;
            }
            if let Ok(place) = self.place(&part)
                && matches!(place.does, Does::Make)
            {
                self.keep(now, &place.kind, &place.id, place.body);
            }
        }
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
            also: Vec::new(),
            is_in_part: false,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn change(id: Option<&str>, condition: &str) -> Further {
        let kind = if id.is_some() { "Appointment" } else { "Task" };
        let named = condition.strip_prefix("identifier=s|");
        let identifier = named.map(|value| json!([{ "system": "s", "value": value }]));
        Further {
            kind: kind.to_owned(),
            id: id.map(str::to_owned),
            if_none_exist: named.map(|_| condition.to_owned()),
            if_match: id.map(|_| condition.to_owned()),
            body: json!({ "resourceType": kind, "id": id, "identifier": identifier }).to_string(),
        }
    }

    fn transaction(number: u64, first: Further, second: Further) -> Request {
        Request {
            number,
            writeback: WritebackId::from_random([1; 16]),
            kind: first.kind,
            id: first.id,
            if_none_exist: first.if_none_exist,
            if_match: first.if_match,
            message: None,
            body: first.body,
            also: vec![second],
        }
    }

    fn server(profile: ServerProfile) -> Server {
        let mut server = Server::new(profile);
        server.put(0, json!({ "resourceType": "Appointment", "id": "a1" }));
        server
    }

    /// What each change of the last request did.
    fn did(server: &Server) -> Vec<bool> {
        let last = server.history.last();
        let parts = last.into_iter().flat_map(Exchange::parts);
        parts.map(|(_, did)| did.is_some()).collect()
    }

    #[test]
    fn a_transaction_takes_effect_as_a_whole_or_not_at_all() {
        let mut full = server(ServerProfile::Full);
        let whole =
            |tag: &str| transaction(0, change(None, "identifier=s|1"), change(Some("a1"), tag));
        assert_eq!(full.take(1, &whole("W/\"9\""), Mishap::None).status, 412);
        assert_eq!(did(&full), [false, false]);
        assert!(full.found("Task", 9, 0).is_empty());
        let answer = full.take(2, &whole("W/\"1\""), Mishap::None);
        assert_eq!(answer.places().collect::<Vec<_>>()[1], ("a1", Some(2)));
        assert_eq!(did(&full), [true, true]);
        // Brought again, its base is gone, and with it the rest.
        assert_eq!(full.take(3, &whole("W/\"1\""), Mishap::None).status, 412);
        assert_eq!(did(&full), [false, false]);
        // Brought again, what creates alone finds itself.
        let creates = transaction(
            1,
            change(None, "identifier=s|1"),
            change(None, "identifier=s|2"),
        );
        assert_eq!(full.take(4, &creates, Mishap::None).status, 201);
        assert_eq!(did(&full), [false, true]);
        assert_eq!(full.take(5, &creates, Mishap::None).status, 200);
        assert_eq!(did(&full), [false, false]);
        assert_eq!(full.found("Task", 9, 0).len(), 2);
    }

    #[test]
    fn who_takes_no_transactions_takes_nothing_of_them() {
        for profile in [
            ServerProfile::Plain,
            ServerProfile::ReadOnly,
            ServerProfile::Vendor,
            ServerProfile::Staged,
        ] {
            let mut server = server(profile);
            let request = transaction(
                0,
                change(None, "identifier=s|1"),
                change(None, "identifier=s|2"),
            );
            assert_eq!(
                server.take(1, &request, Mishap::None).status,
                405,
                "{profile:?}"
            );
            assert!(server.found("Task", 9, 0).is_empty());
        }
    }

    #[test]
    fn what_was_left_out_is_completed_once() {
        let mut full = server(ServerProfile::Full);
        let request = transaction(
            1,
            change(None, "identifier=s|1"),
            change(None, "identifier=s|2"),
        );
        assert_eq!(full.take(1, &request, Mishap::TakesInPart).status, 500);
        assert_eq!(did(&full), [true, false]);
        assert_eq!(full.found("Task", 9, 0).len(), 1);
        for _ in 0..2 {
            full.complete(2, request.writeback);
            assert_eq!(full.found("Task", 9, 0).len(), 2);
        }
    }
}
