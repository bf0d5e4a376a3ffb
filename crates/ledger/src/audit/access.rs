//! What belongs together: an envelope and what was done in it, a read and how it ended, a proposal and its
//! end. Folded from events in the order of the ledger, one row for each access; rows can be dropped and
//! folded again (invariant 11).
//!
//! ```text
//! envelope_opened ─▶ Work ─┬─ read_permitted ─▶ Access(read) ─ read_released | read_failed
//!                          └─ proposed ───────▶ Access(write) ─ ruled ─ approved … ─ delivered
//! ```
//! Rows hold tokens, names of elements and our own identifiers, as events do, and nobody's words.
//! Start at [`Book::fold`]; [`wanted`] says what must be in the book before.

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_core::change::ChangeClass;
use chaperone_core::digest::Digest;
use chaperone_core::envelope::GrantSource;
use chaperone_core::event::{AuditUse, Event, Recorded, StreamId};
use chaperone_core::evidence::Factor;
use chaperone_core::gate::{Gate, ProofLevel};
use chaperone_core::ids::{
    AccountName, AgentId, ConnectionId, CorrelationId, EnvelopeId, GrantId, IntentId, PatientToken,
    PersonId, PolicyId, ToolName, WritebackId,
};
use chaperone_core::principal::{Actor, Role};
use chaperone_core::resource::{Code, Interaction, ResourceType};
use chaperone_core::together::EntryValidated;
use chaperone_core::writeback::{RefusedBy, WritebackEvent};
use serde::{Deserialize, Serialize};

/// What an envelope is about: who acts, why, for whom, and on whose behalf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The agent.
    pub agent: AgentId,
    /// The intent.
    pub intent: IntentId,
    /// The patient, unless the intent is patient-free.
    pub patient: Option<PatientToken>,
    /// The human the agent acts for.
    pub human: Option<PersonId>,
    /// Purpose of use, a v3-ActReason code.
    pub purpose: Option<Code>,
    /// The envelope.
    pub envelope: EnvelopeId,
    /// The grant that opened it.
    pub grant: Option<GrantId>,
    /// The governance bundle in force.
    pub bundle: Option<Digest>,
}

/// How a read ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum ReadEnd {
    /// No record of an end: it is under way, or the record was lost. Then at most the ceiling was shown.
    None,
    /// What was shown.
    Released {
        /// When it was recorded.
        at: Timestamp,
        /// Place of the record in the ledger.
        seq: u64,
        /// Resources shown.
        resources: u32,
        /// Keyed digest over type, id and version of each.
        versions: Digest,
        /// Element paths shown.
        fields: Vec<String>,
        /// Security labels on what was shown.
        labels: Vec<String>,
        /// Element paths withheld.
        withheld: Vec<String>,
    },
    /// Nothing was shown.
    Failed {
        /// When it was recorded.
        at: Timestamp,
        /// Place of the record in the ledger.
        seq: u64,
        /// Stable reason code.
        code: String,
    },
}

/// One read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAccess {
    /// The request.
    pub correlation: CorrelationId,
    /// The tool, or the page of the console.
    pub tool: ToolName,
    /// The EHR connection.
    pub connection: ConnectionId,
    /// The type of resource.
    pub resource: ResourceType,
    /// Element paths that may have been shown.
    pub ceiling: Vec<String>,
    /// Policies that permitted it.
    pub policies: Vec<PolicyId>,
    /// The consent decision it rests on.
    pub consent: String,
    /// The purpose of use, where it is another than the envelope's.
    pub purpose: Option<Code>,
    /// How it ended.
    pub end: ReadEnd,
}

/// One person's agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The person.
    pub person: PersonId,
    /// The account used.
    pub account: AccountName,
    /// The role under which they approved.
    pub role: Role,
    /// Whether a second factor was given.
    pub second_factor: bool,
    /// When.
    pub at: Timestamp,
    /// Milliseconds between opening the review and deciding.
    pub review_ms: u64,
}

/// One proposal and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteAccess {
    /// The write-back.
    pub writeback: WritebackId,
    /// The request.
    pub correlation: CorrelationId,
    /// The tool.
    pub tool: ToolName,
    /// The EHR connection.
    pub connection: ConnectionId,
    /// Whether text from outside was in the agent's context.
    pub tainted: bool,
    /// The type of resource, once validated; of several changes, that of the first.
    pub resource: Option<ResourceType>,
    /// Create or update, once validated; of several changes, update where any of them is one.
    pub interaction: Option<Interaction>,
    /// Elements that it sets or changes, once validated; of several changes, each with its type before it.
    pub elements: Vec<String>,
    /// The class of the change, once validated.
    pub class: Option<ChangeClass>,
    /// How much authority was asked for, once ruled.
    pub gate: Option<Gate>,
    /// Policies that determined it, once ruled.
    pub policies: Vec<PolicyId>,
    /// The bundle that ruled, once ruled.
    pub ruled_by: Option<Digest>,
    /// Who approved.
    pub approvals: Vec<Decision>,
    /// The person who said no.
    pub rejected_by: Option<PersonId>,
    /// What happened last, as the event is called.
    pub state: String,
    /// When it happened.
    pub moved: Timestamp,
    /// What the delivery can show, once delivered.
    pub proof: Option<ProofLevel>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "snake_case")]
pub enum AccessKind {
    /// Something of the record was read.
    Read(Box<ReadAccess>),
    /// A change was proposed, and perhaps delivered.
    Write(Box<WriteAccess>),
    /// A patient was put before an agent.
    Assigned {
        /// The grant.
        grant: GrantId,
        /// Who did it.
        source: GrantSource,
    },
    /// A call was refused; nothing was shown by it.
    Refused {
        /// The request.
        correlation: CorrelationId,
        /// The tool, when it is a known one.
        tool: Option<ToolName>,
        /// Stable reason code.
        code: String,
    },
    /// A person broke the glass, to look against what consent says.
    BrokeGlass {
        /// Until when it held at most.
        until: Timestamp,
    },
    /// Somebody asked the ledger about the patient.
    Asked {
        /// The request.
        correlation: CorrelationId,
        /// What for.
        used_for: AuditUse,
    },
}

/// One access: who did what, when, for whom and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Place of its first event in the ledger.
    pub seq: u64,
    /// When that was.
    pub at: Timestamp,
    /// Who acted.
    pub actor: Actor,
    /// The envelope it happened in, as far as it is known.
    pub work: Option<Work>,
    /// The patient.
    pub patient: Option<PatientToken>,
    /// What was done.
    #[serde(flatten)]
    pub kind: AccessKind,
}

impl Access {
    /// The agent, when one acted.
    pub fn agent(&self) -> Option<&AgentId> {
        match (&self.work, &self.actor) {
            (Some(work), _) => Some(&work.agent),
            (None, Actor::Agent { agent, .. }) => Some(agent),
            (None, _) => None,
        }
    }
}

/// Rows to have in the book before an event is folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The work of an envelope.
    Work(EnvelopeId),
    /// An access, by its key.
    Access(String),
}

/// The key of a read.
pub fn read_key(correlation: CorrelationId) -> String {
    format!("read/{correlation}")
}

/// The key of a write.
pub fn write_key(writeback: WritebackId) -> String {
    format!("write/{writeback}")
}

/// What must be in the book before an event is folded, or told as AuditEvent.
pub fn wanted(recorded: &Recorded) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    match &recorded.event {
        Event::ReadPermitted(ceiling) => wanted.push(Wanted::Access(read_key(ceiling.correlation))),
        Event::ReadReleased { correlation, .. } | Event::ReadFailed { correlation, .. } => {
            wanted.push(Wanted::Access(read_key(*correlation)));
        }
        Event::Writeback(event) => {
            if let WritebackEvent::Proposed(proposal) = event {
                wanted.push(Wanted::Work(proposal.envelope));
            }
            if let StreamId::Writeback(id) = &recorded.stream {
                wanted.push(Wanted::Access(write_key(*id)));
            }
        }
        _ => {}
    }
    if let StreamId::Envelope(envelope) = &recorded.stream {
        wanted.push(Wanted::Work(*envelope));
    }
    wanted
}

/// Typed elements and free text together.
fn with_text(fields: &[String], text: &[String]) -> Vec<String> {
    fields.iter().chain(text).cloned().collect()
}

/// Rows in hand.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Envelopes.
    pub works: BTreeMap<EnvelopeId, Work>,
    /// Accesses, by key.
    pub accesses: BTreeMap<String, Access>,
}

/// What folding one event put into the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// Nothing.
    Nothing,
    /// The work of an envelope.
    Work(EnvelopeId),
    /// An access, by its key.
    Access(String),
}

impl Book {
    /// Folds one event. The event that begins a row replaces what stood there, so folding again from an
    /// earlier place gives the same rows.
    pub fn fold(&mut self, recorded: &Recorded) -> Put {
        match &recorded.event {
            Event::EnvelopeOpened(envelope) => {
                let work = Work {
                    agent: envelope.agent.clone(),
                    intent: envelope.intent.clone(),
                    patient: envelope.patient,
                    human: envelope.presence.as_ref().map(|presence| presence.person),
                    purpose: Some(envelope.purpose.clone()),
                    envelope: envelope.id,
                    grant: envelope.grant,
                    bundle: Some(envelope.bundle),
                };
                self.works.insert(envelope.id, work);
                Put::Work(envelope.id)
            }
            Event::GrantIssued(grant) => {
                let kind = AccessKind::Assigned {
                    grant: grant.id,
                    source: grant.source.clone(),
                };
                self.begin(
                    format!("assigned/{}", grant.id),
                    recorded,
                    grant.patient,
                    kind,
                )
            }
            Event::ReadPermitted(ceiling) => {
                let read = ReadAccess {
                    correlation: ceiling.correlation,
                    tool: ceiling.tool.clone(),
                    connection: ceiling.connection.clone(),
                    resource: ceiling.resource.clone(),
                    ceiling: with_text(&ceiling.fields, &ceiling.text),
                    policies: ceiling.policies.clone(),
                    consent: ceiling.consent.clone(),
                    purpose: ceiling.purpose.clone(),
                    end: ReadEnd::None,
                };
                let kind = AccessKind::Read(Box::new(read));
                self.begin(
                    read_key(ceiling.correlation),
                    recorded,
                    ceiling.patient,
                    kind,
                )
            }
            Event::ReadReleased { correlation, .. } | Event::ReadFailed { correlation, .. } => {
                self.end_read(*correlation, recorded)
            }
            Event::CallRefused(refusal) => {
                let patient = self.work_of(recorded).and_then(|work| work.patient);
                let Some(patient) = patient else {
                    return Put::Nothing;
                };
                let kind = AccessKind::Refused {
                    correlation: refusal.correlation,
                    tool: refusal.tool.clone(),
                    code: refusal.code.clone(),
                };
                self.begin(
                    format!("refused/{}", recorded.seq),
                    recorded,
                    Some(patient),
                    kind,
                )
            }
            Event::BreakGlassStarted { patient, until, .. } => {
                let key = format!("glass/{}", recorded.seq);
                let kind = AccessKind::BrokeGlass { until: *until };
                self.begin(key, recorded, Some(*patient), kind)
            }
            Event::AuditUsed(used) => {
                let kind = AccessKind::Asked {
                    correlation: used.correlation,
                    used_for: used.used_for,
                };
                match used.patient {
                    Some(_) => self.begin(
                        format!("asked/{}", recorded.seq),
                        recorded,
                        used.patient,
                        kind,
                    ),
                    None => Put::Nothing,
                }
            }
            Event::Writeback(event) => self.fold_write(recorded, event),
            _ => Put::Nothing,
        }
    }

    /// The work of the envelope in whose stream an event stands.
    pub fn work_of(&self, recorded: &Recorded) -> Option<&Work> {
        match &recorded.stream {
            StreamId::Envelope(envelope) => self.works.get(envelope),
            _ => None,
        }
    }

    fn begin(
        &mut self,
        key: String,
        recorded: &Recorded,
        patient: Option<PatientToken>,
        kind: AccessKind,
    ) -> Put {
        let access = Access {
            seq: recorded.seq,
            at: recorded.at,
            actor: recorded.actor.clone(),
            work: self.work_of(recorded).cloned(),
            patient,
            kind,
        };
        self.accesses.insert(key.clone(), access);
        Put::Access(key)
    }

    fn end_read(&mut self, correlation: CorrelationId, recorded: &Recorded) -> Put {
        let key = read_key(correlation);
        let Some(Access {
            kind: AccessKind::Read(read),
            ..
        }) = self.accesses.get_mut(&key)
        else {
            return Put::Nothing;
        };
        let (at, seq) = (recorded.at, recorded.seq);
        match &recorded.event {
            Event::ReadReleased {
                resources,
                versions,
                fields,
                labels,
                withheld,
                text,
                ..
            } => {
                read.end = ReadEnd::Released {
                    at,
                    seq,
                    resources: *resources,
                    versions: *versions,
                    fields: with_text(fields, text),
                    labels: labels.clone(),
                    withheld: withheld.clone(),
                };
            }
            Event::ReadFailed { code, .. } => {
                read.end = ReadEnd::Failed {
                    at,
                    seq,
                    code: code.clone(),
                };
            }
            _ => return Put::Nothing,
        }
        Put::Access(key)
    }

    fn fold_write(&mut self, recorded: &Recorded, event: &WritebackEvent) -> Put {
        let StreamId::Writeback(id) = &recorded.stream else {
            return Put::Nothing;
        };
        let key = write_key(*id);
        if let WritebackEvent::Proposed(proposal) = event {
            let known = self.works.get(&proposal.envelope).cloned();
            let work = known.unwrap_or_else(|| Work {
                agent: proposal.agent.clone(),
                intent: proposal.intent.clone(),
                patient: proposal.patient,
                human: proposal.requester,
                purpose: None,
                envelope: proposal.envelope,
                grant: None,
                bundle: None,
            });
            let write = WriteAccess {
                writeback: proposal.id,
                correlation: proposal.correlation,
                tool: proposal.tool.clone(),
                connection: proposal.connection.clone(),
                tainted: proposal.tainted,
                resource: None,
                interaction: None,
                elements: Vec::new(),
                class: None,
                gate: None,
                policies: Vec::new(),
                ruled_by: None,
                approvals: Vec::new(),
                rejected_by: None,
                state: String::new(),
                moved: recorded.at,
                proof: None,
            };
            let access = Access {
                seq: recorded.seq,
                at: recorded.at,
                actor: recorded.actor.clone(),
                work: Some(work),
                patient: proposal.patient,
                kind: AccessKind::Write(Box::new(write)),
            };
            self.accesses.insert(key.clone(), access);
        }
        let Some(Access {
            kind: AccessKind::Write(write),
            ..
        }) = self.accesses.get_mut(&key)
        else {
            return Put::Nothing;
        };
        let kind = recorded.event.kind();
        write.state = kind.strip_prefix("writeback.").unwrap_or(&kind).to_owned();
        write.moved = recorded.at;
        match event {
            WritebackEvent::Validated {
                change,
                class,
                entries,
                ..
            } => {
                write.resource = Some(change.resource.clone());
                // Of several, changing something is what is told of all.
                let all = entries.iter().map(|entry| entry.change.interaction);
                let changes = all.into_iter().any(|it| it == Interaction::Update);
                write.interaction = Some(match changes {
                    true => Interaction::Update,
                    false => change.interaction,
                });
                write.elements = if entries.is_empty() {
                    change.elements.iter().cloned().collect()
                } else {
                    entries.iter().flat_map(qualified).collect()
                };
                write.class = Some(*class);
            }
            WritebackEvent::Ruled { ruling, .. } => {
                write.gate = Some(ruling.gate.clone());
                write.policies.clone_from(&ruling.determining);
                write.ruled_by = Some(ruling.bundle);
            }
            WritebackEvent::Approved { approval } => write.approvals.push(Decision {
                person: approval.person,
                account: approval.account.clone(),
                role: approval.role,
                second_factor: approval.factor != Factor::None,
                at: approval.at,
                review_ms: approval.review_ms,
            }),
            WritebackEvent::Refused {
                refused: RefusedBy::Human { person, .. } | RefusedBy::Edited { person, .. },
            } => {
                write.rejected_by = Some(*person);
            }
            WritebackEvent::Delivered(receipt) => write.proof = Some(receipt.proof),
            _ => {}
        }
        Put::Access(key)
    }
}

/// `Type.element` for each element that one of several changes sets.
fn qualified(entry: &EntryValidated) -> impl Iterator<Item = String> {
    let kind = &entry.change.resource;
    let elements = entry.change.elements.iter();
    elements.map(move |element| format!("{kind}.{element}"))
}
