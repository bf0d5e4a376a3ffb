//! Several changes as one request, as `chaperone_connect::ehr` sends and looks for them: all of it, or nothing.

use chaperone_core::content::content_digest;
use chaperone_core::evidence::{Delivering, WriteOrder};
use chaperone_core::ids::WritebackId;
use chaperone_core::ports::{
    EhrReadFailed, EntryWritten, Found, Reconciliation, There, WriteFailed,
};
use chaperone_core::resource::Interaction;
use chaperone_core::together::OneChange;
use chaperone_core::writeback::HumanNeeded;
use serde_json::{Value, json};

use super::bugs::Bug;
use super::ehr_port::{SimEhr, takes_provenance};
use super::server::{Answer, Further, Request, SETTLE_MS};

impl SimEhr {
    /// What became of everything that was sent.
    pub(super) async fn find_all(
        &self,
        order: &WriteOrder,
    ) -> Result<Reconciliation, EhrReadFailed> {
        let mut found = Vec::new();
        for change in order.changes() {
            let one = match (self.bug, found.first()) {
                (Some(Bug::FirstLookedForAlone), Some(Found::There(_))) => Found::There(There {
                    written: taken_on_trust(&change, "unseen"),
                    provenance_written: takes_provenance(order, &change),
                    is_young: false,
                }),
                (Some(Bug::FirstLookedForAlone), Some(Found::Missing)) => Found::Missing,
                _ => self.find_one(order, &change).await?,
            };
            found.push(one);
        }
        self.bend_found(order, &mut found);
        Reconciliation::of_all(found)
    }

    /// Does to what was found of a transaction what must be found out.
    fn bend_found(&self, order: &WriteOrder, found: &mut [Found]) {
        let is_missing = found.iter().any(|it| matches!(it, Found::Missing));
        let is_there = found.iter().any(|it| matches!(it, Found::There(_)));
        if !(is_missing && is_there) {
            return;
        }
        for (change, one) in order.changes().zip(found) {
            match (self.bug, &one) {
                (Some(Bug::PartIsMissing), _) => *one = Found::Missing,
                (Some(Bug::PartIsAll), Found::Missing) => {
                    *one = Found::There(There {
                        written: taken_on_trust(&change, "unseen"),
                        provenance_written: takes_provenance(order, &change),
                        is_young: false,
                    });
                }
                _ => {}
            }
        }
    }

    /// What a conflict says of several changes. Creates are refused when something like them is there, updates when
    /// their base is gone; of both kinds together it is looked up whose it is.
    pub(super) async fn refused_as_one(&self, order: &WriteOrder) -> WriteFailed {
        let mut creates = order
            .changes()
            .map(|change| change.interaction == Interaction::Create);
        if creates.all(|it| it) {
            return WriteFailed::Unknown;
        }
        if order
            .changes()
            .all(|change| change.interaction == Interaction::Update)
        {
            return WriteFailed::Stale;
        }
        match self.overtaken(order).await {
            Ok(true) => WriteFailed::Stale,
            _ => WriteFailed::Unknown,
        }
    }

    /// Whether none took effect, and one cannot any more, because somebody changed what it is made of.
    async fn overtaken(&self, order: &WriteOrder) -> Result<bool, EhrReadFailed> {
        let mut overtaken = false;
        for change in order.changes() {
            match self.find_one(order, &change).await? {
                Found::Missing => {}
                Found::Unclear(HumanNeeded::ContentDiffers)
                    if change.interaction != Interaction::Create =>
                {
                    overtaken = true;
                }
                Found::There(_) | Found::Unclear(_) => return Ok(false),
            }
        }
        Ok(overtaken)
    }

    /// Whether a resource is as it is, by this node's clock, for less than the time after which a search shows
    /// everything.
    pub(super) fn is_young(&self, resource: &Value) -> bool {
        let now = self.world.with(|inner| inner.clock(self.process.node));
        let since = resource
            .pointer("/meta/lastUpdated")
            .and_then(Value::as_str);
        let since = since.and_then(|text| text.parse().ok());
        since.is_some_and(|since| {
            now.duration_since(since).as_millis().abs() < i128::from(SETTLE_MS)
        })
    }

    /// Does to the changes of a transaction what must be found.
    pub(super) fn bend_further(&self, parts: &mut Vec<Further>) {
        if parts.len() < 2 {
            return;
        }
        match self.bug {
            Some(Bug::EntryAdded) => parts.push(Further {
                kind: "Task".to_owned(),
                id: None,
                if_none_exist: None,
                if_match: None,
                body: json!({ "resourceType": "Task", "status": "requested", "intent": "order" })
                    .to_string(),
            }),
            Some(Bug::EntryChanged) => {
                let Some(last) = parts.last_mut() else { return };
                let mut body: Value = serde_json::from_str(&last.body).unwrap_or_default();
                if let Some(members) = body.as_object_mut() {
                    members.insert("description".to_owned(), json!("changed"));
                }
                last.body = body.to_string();
            }
            Some(Bug::EntryLeftOut) => {
                parts.pop();
            }
            _ => {}
        }
    }

    /// Sends every change by itself, one after the other. Only a planted bug does that.
    pub(super) async fn send_one_by_one(
        &self,
        delivering: &Delivering,
        whole: &Request,
    ) -> Result<Answer, WriteFailed> {
        let mut answered: Option<Answer> = None;
        for part in whole.parts() {
            let single = Request {
                kind: part.kind.to_owned(),
                id: part.id.map(str::to_owned),
                if_none_exist: part.if_none_exist.map(str::to_owned),
                if_match: part.if_match.map(str::to_owned),
                body: part.body.to_owned(),
                also: Vec::new(),
                ..whole.clone()
            };
            let is_first = answered.is_none();
            let answer = self.send_request(delivering, single, is_first).await?;
            if !matches!(answer.status, 200 | 201) {
                return Ok(answer);
            }
            match &mut answered {
                Some(first) => first.also.push((answer.id, answer.version)),
                None => answered = Some(answer),
            }
        }
        answered.ok_or(WriteFailed::Unknown)
    }
}

/// One request of everything that is sent as one; nothing of nothing.
pub(super) fn request(
    writeback: WritebackId,
    message: Option<String>,
    parts: Vec<Further>,
) -> Option<Request> {
    let mut parts = parts.into_iter();
    let Further {
        kind,
        id,
        if_none_exist,
        if_match,
        body,
    } = parts.next()?;
    Some(Request {
        number: 0,
        writeback,
        kind,
        id,
        if_none_exist,
        if_match,
        message,
        body,
        also: parts.collect(),
    })
}

/// What only a planted bug says of a change: that it is there as it was sent, and nobody looked.
pub(super) fn taken_on_trust(change: &OneChange<'_>, id: &str) -> EntryWritten {
    let body: Value = serde_json::from_str(change.body).unwrap_or_default();
    EntryWritten {
        location: format!("{}/{id}", change.resource),
        version: None,
        read_back: Some(content_digest(&body)),
    }
}
