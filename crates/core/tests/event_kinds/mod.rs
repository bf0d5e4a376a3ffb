//! One of every kind of event, with each of its forms; those of write-backs are in `writebacks`. What is done with
//! them is in `event_promises`.

mod writebacks;

use crate::sample::{address, at, digest, person, tenant, writeback};
use chaperone_core::claim::{ClaimEvent, ClaimHolder};
use chaperone_core::cohort::{
    CohortCounts, CohortEnd, CohortEvent, CohortListed, CohortRemoval, CohortStep,
};
use chaperone_core::conformance::{ConformanceReported, ConformanceVerdict};
use chaperone_core::cover::CoverEvent;
use chaperone_core::decision_support::{DecisionSupportEvent, NotHeard, ServiceAsked};
use chaperone_core::egress::{Channel, DataClass, EgressRule};
use chaperone_core::envelope::{Envelope, Grant, GrantSource, Presence};
use chaperone_core::event::{
    AuditUse, AuditUsed, BreakGlassEnd, CallRefusal, DecisionKind, EhrEventRefusal, Event,
    ReadCeiling,
};
use chaperone_core::exception::{ExceptionEvent, ExceptionFinding};
use chaperone_core::ids::{
    AccountName, AgentId, CdsServiceId, CohortId, CohortJobId, ConnectionId, CorrelationId,
    EhrEventSource, EhrEventType, EnvelopeId, GrantId, HoldId, IntentId, OverrideReason,
    PatientToken, PolicyId, Region, ResourceToken, ToolName, UndoId, VendorId, WritebackId,
};
use chaperone_core::key_event::{EscrowReason, KeyEvent, KeyUses};
use chaperone_core::launch::{LaunchEvent, LaunchRefusal};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::oversight::{Combination, OversightEvent, PaceLimit, Verdict};
use chaperone_core::passkey::PasskeyEvent;
use chaperone_core::patient_mail::{PatientMailEvent, PatientMailKind, PatientMailNotSent};
use chaperone_core::principal::Role;
use chaperone_core::resource::{Code, ResourceType};
use chaperone_core::retention::{Deletion, RetentionEvent, Shredded};
use chaperone_core::undo::{
    PersonNeeded, UndoCounts, UndoEvent, UndoSelection, UndoStep, VersionName,
};
use std::collections::BTreeMap;

use writebacks::writeback_kinds;

fn grant() -> Grant {
    Grant {
        id: GrantId::from_random([5; 16]),
        tenant: tenant(),
        agent: AgentId::new("prescribing-desk").unwrap(),
        intent: IntentId::new("submit-order").unwrap(),
        patient: Some(PatientToken::from_random([3; 16])),
        encounter: None,
        work_item: None,
        presence: Some(Presence {
            person: person(9),
            until: at(300),
        }),
        source: GrantSource::Human { person: person(9) },
        expires: at(600),
    }
}

fn envelope() -> Envelope {
    Envelope {
        id: EnvelopeId::from_random([2; 16]),
        tenant: tenant(),
        agent: AgentId::new("prescribing-desk").unwrap(),
        intent: IntentId::new("submit-order").unwrap(),
        grant: Some(GrantId::from_random([5; 16])),
        patient: Some(PatientToken::from_random([3; 16])),
        encounter: None,
        presence: None,
        purpose: Code::new("TREAT").unwrap(),
        bundle: digest("bundle"),
        opened: at(0),
        expires: at(300),
    }
}

/// One of every kind. The match in [`listed`] does not compile when a kind is missing from it.
pub(crate) fn kinds() -> Vec<Event> {
    let correlation = CorrelationId::from_random([4; 16]);
    let resource = ResourceType::new("Observation").unwrap();
    let mut kinds = vec![
        Event::TenantInitialised {
            bundle: digest("bundle"),
        },
        Event::BundleActivated {
            bundle: digest("bundle"),
        },
        Event::ConformanceReported(Box::new(ConformanceReported {
            connection: ConnectionId::new("sandbox").unwrap(),
            endpoint: digest("endpoint"),
            packages: vec!["hl7.fhir.r4.core#4.0.1".to_owned()],
            validator: "chaperone-fhir/0.1.0".to_owned(),
            bundle: digest("bundle"),
            verdict: ConformanceVerdict::Pass,
            expires: at(300),
            digest: digest("report"),
            report: address("report"),
        })),
        Event::AccountCreated {
            account: AccountName::new("ada").unwrap(),
            person: person(1),
            roles: vec![Role::Clinician, Role::MaRn],
        },
        Event::SignedIn,
        Event::SignInFailed,
        Event::SignedOut,
        Event::StepUpPassed {
            digest: digest("order"),
        },
        Event::StepUpFailed,
        Event::Passkey(PasskeyEvent::Added {
            credential: digest("credential"),
        }),
        Event::Passkey(PasskeyEvent::Removed {
            credential: digest("credential"),
        }),
        Event::Passkey(PasskeyEvent::Refused {
            credential: Some(digest("credential")),
            code: "counter-back".to_owned(),
        }),
        Event::PatientMail(PatientMailEvent::Sending {
            mail: PatientMailKind::ContactCode,
            patient: crate::sample::proposal().patient,
            addresses: 1,
            until: Some(at(600)),
        }),
        Event::PatientMail(PatientMailEvent::NotSent {
            mail: PatientMailKind::ContactChanged,
            patient: crate::sample::proposal().patient,
            reason: PatientMailNotSent::Refused,
        }),
        Event::Claim(ClaimEvent::Claimed { until: at(600) }),
        Event::Claim(ClaimEvent::Released),
        Event::Claim(ClaimEvent::TakenOver {
            from: ClaimHolder::Pool { role: Role::Rn },
            until: at(600),
            note: address("note"),
        }),
        Event::Claim(ClaimEvent::HandedOver {
            to: ClaimHolder::Person {
                person: person(2),
                account: AccountName::new("grace").unwrap(),
            },
            until: at(600),
            note: address("note"),
            instead_of: None,
        }),
        Event::Claim(ClaimEvent::HandedOver {
            to: ClaimHolder::Person {
                person: person(2),
                account: AccountName::new("grace").unwrap(),
            },
            until: at(600),
            note: address("note"),
            instead_of: Some(AccountName::new("ada").unwrap()),
        }),
    ];
    for scope in [
        ModeScope::Tenant,
        ModeScope::Agent(AgentId::new("scribe").unwrap()),
        ModeScope::Intent(IntentId::new("draft-note").unwrap()),
        ModeScope::Resource(resource.clone()),
        ModeScope::Ehr(ConnectionId::new("sandbox").unwrap()),
    ] {
        kinds.push(Event::ModeSwitched {
            scope,
            mode: Mode::WritePaused,
            reason: address("reason"),
        });
    }
    for source in [
        grant().source,
        GrantSource::EhrEvent,
        GrantSource::PatientSession,
        GrantSource::Dispatcher {
            dispatcher: AgentId::new("dispatcher").unwrap(),
        },
    ] {
        kinds.push(Event::GrantIssued(Box::new(Grant { source, ..grant() })));
    }
    kinds.push(Event::GrantIssued(Box::new(Grant {
        source: GrantSource::EhrNotification {
            notified_by: EhrEventSource::new("integration").unwrap(),
            event_type: EhrEventType::new("appointment-booked").unwrap(),
            event: digest("event"),
        },
        work_item: Some(ResourceToken::from_random([6; 16])),
        presence: None,
        ..grant()
    })));
    kinds.extend([
        Event::GrantConsumed {
            envelope: EnvelopeId::from_random([2; 16]),
        },
        Event::EnvelopeOpened(Box::new(envelope())),
        Event::ReadPermitted(Box::new(ReadCeiling {
            correlation,
            tool: ToolName::new("list_recent_vitals").unwrap(),
            connection: ConnectionId::new("sandbox").unwrap(),
            resource: resource.clone(),
            patient: Some(PatientToken::from_random([3; 16])),
            fields: vec!["code".to_owned(), "valueQuantity".to_owned()],
            text: Vec::new(),
            policies: vec![PolicyId::new("read-vitals").unwrap()],
            consent: "sandbox".to_owned(),
            purpose: None,
        })),
        Event::ReadPermitted(Box::new(ReadCeiling {
            correlation,
            tool: ToolName::new("console.emergency").unwrap(),
            connection: ConnectionId::new("sandbox").unwrap(),
            resource: resource.clone(),
            patient: Some(PatientToken::from_random([3; 16])),
            fields: Vec::new(),
            text: Vec::new(),
            policies: Vec::new(),
            consent: "break-glass".to_owned(),
            purpose: Some(Code::new("BTG").unwrap()),
        })),
        Event::ReadPermitted(Box::new(ReadCeiling {
            correlation,
            tool: ToolName::new("list_problems").unwrap(),
            connection: ConnectionId::new("sandbox").unwrap(),
            resource: ResourceType::new("Condition").unwrap(),
            patient: Some(PatientToken::from_random([3; 16])),
            fields: vec!["code".to_owned()],
            text: vec!["note.text".to_owned()],
            policies: vec![PolicyId::new("read-problems").unwrap()],
            consent: "sandbox".to_owned(),
            purpose: None,
        })),
        Event::ReadReleased {
            correlation,
            resources: 2,
            versions: digest("versions"),
            fields: vec!["code".to_owned()],
            labels: Vec::new(),
            withheld: vec!["note".to_owned()],
            text: Vec::new(),
            replaced: BTreeMap::new(),
            left_out: 0,
        },
        Event::ReadReleased {
            correlation,
            resources: 1,
            versions: digest("versions"),
            fields: vec!["code".to_owned()],
            labels: Vec::new(),
            withheld: vec!["note.author".to_owned()],
            text: vec!["note.text".to_owned()],
            replaced: BTreeMap::from([("NAME".to_owned(), 2)]),
            left_out: 0,
        },
        Event::TokensResolved {
            correlation,
            tool: ToolName::new("book_appointment").unwrap(),
            patient: Some(PatientToken::from_random([3; 16])),
            tokens: vec![ResourceToken::from_random([7; 16])],
        },
        Event::TokenRevealed {
            resource: ResourceType::new("DocumentReference").unwrap(),
            token: Some(ResourceToken::from_random([7; 16])),
            patient: Some(PatientToken::from_random([3; 16])),
            reason: address("reason"),
        },
        Event::SlotsMinted {
            correlation,
            classes: BTreeMap::from([("NAME".to_owned(), 1), ("PHONE".to_owned(), 1)]),
        },
        Event::SlotsResolved {
            correlation,
            tool: ToolName::new("draft_note").unwrap(),
            classes: BTreeMap::from([("NAME".to_owned(), 1)]),
        },
        Event::ReadReleased {
            correlation,
            resources: 0,
            versions: digest("versions"),
            fields: Vec::new(),
            labels: Vec::new(),
            withheld: Vec::new(),
            text: Vec::new(),
            replaced: BTreeMap::new(),
            left_out: 3,
        },
        Event::ReadFailed {
            correlation,
            code: "ehr-unavailable".to_owned(),
        },
        Event::CallRefused(CallRefusal {
            correlation,
            agent: None,
            tool: None,
            code: "no-token".to_owned(),
            because: None,
            consent: None,
        }),
        Event::CallRefused(CallRefusal {
            correlation,
            agent: None,
            tool: None,
            code: "consent-denied".to_owned(),
            because: Some("consent-refuses".to_owned()),
            consent: Some("0a1b2c3d4e5f6071".to_owned()),
        }),
        Event::ConsentAnnounced {
            notified_by: EhrEventSource::new("integration").unwrap(),
            patient: Some(PatientToken::from_random([3; 16])),
        },
        Event::DecisionRefused {
            writeback: WritebackId::from_random([1; 16]),
            decision: DecisionKind::Approve,
            code: "approval-mismatch".to_owned(),
        },
        Event::DecisionRefused {
            writeback: WritebackId::from_random([1; 16]),
            decision: DecisionKind::Edit,
            code: "not-now".to_owned(),
        },
        Event::BreakGlassStarted {
            patient: PatientToken::from_random([3; 16]),
            until: at(900),
            reason: address("reason"),
        },
        Event::BreakGlassEnded {
            patient: PatientToken::from_random([3; 16]),
            cause: BreakGlassEnd::Stopped,
        },
        Event::BreakGlassEnded {
            patient: PatientToken::from_random([3; 16]),
            cause: BreakGlassEnd::Expired,
        },
        Event::EhrEventRefused(EhrEventRefusal {
            correlation,
            notified_by: EhrEventSource::new("integration").unwrap(),
            event_type: Some(EhrEventType::new("appointment-booked").unwrap()),
            event: Some(digest("event")),
            code: "other-patient".to_owned(),
        }),
        Event::RefusalsCounted {
            code: "no-token".to_owned(),
            agent: None,
            notified_by: None,
            count: 480,
            since: at(60),
        },
        Event::EgressPassed {
            channel: Channel::AuditStream,
            class: DataClass::Phi,
            vendor: VendorId::new("audit-repository").unwrap(),
            region: Region::new("us-east-1").unwrap(),
            count: 12,
            since: at(60),
        },
        Event::EgressRefused {
            channel: Channel::Webhook,
            class: DataClass::Operational,
            vendor: None,
            rule: EgressRule::DestinationUnknown,
            count: 1,
            since: at(60),
        },
        Event::EgressRefused {
            channel: Channel::Mail,
            class: DataClass::Operational,
            vendor: Some(VendorId::new("post").unwrap()),
            rule: EgressRule::IdentifiersFound,
            count: 3,
            since: at(60),
        },
        Event::TokenMinted {
            resource: resource.clone(),
            patient: None,
        },
        Event::TokenMinted {
            resource,
            patient: Some(PatientToken::from_random([3; 16])),
        },
    ]);
    for used_for in [AuditUse::Export, AuditUse::WhoSaw, AuditUse::Accounting] {
        let is_of_all = used_for == AuditUse::Export;
        kinds.push(Event::AuditUsed(AuditUsed {
            correlation,
            used_for,
            patient: (!is_of_all).then(|| PatientToken::from_random([3; 16])),
            from: (!is_of_all).then(|| at(0)),
            to: (!is_of_all).then(|| at(300)),
        }));
    }
    kinds.extend(key_kinds().into_iter().map(Event::Key));
    kinds.extend(retention_kinds().into_iter().map(Event::Retention));
    kinds.extend(oversight_kinds().into_iter().map(Event::Oversight));
    kinds.extend([
        Event::Cover(CoverEvent::Set {
            cover: AccountName::new("ada").unwrap(),
            from: at(0),
            until: at(86_400),
        }),
        Event::Cover(CoverEvent::Ended),
    ]);
    kinds.extend(launch_kinds().into_iter().map(Event::Launch));
    kinds.extend(support_kinds().into_iter().map(Event::DecisionSupport));
    kinds.extend(exception_kinds().into_iter().map(Event::Exception));
    kinds.extend(undo_kinds().into_iter().map(Event::Undo));
    kinds.extend(cohort_kinds().into_iter().map(Event::Cohort));
    kinds.push(Event::GrantIssued(Box::new(Grant {
        source: GrantSource::Cohort {
            job: CohortJobId::from_random([7; 16]),
            requester: person(1),
        },
        ..grant()
    })));
    kinds.extend(writeback_kinds().into_iter().map(Event::Writeback));
    kinds
}

/// One of everything that happens to keys.
fn key_kinds() -> Vec<KeyEvent> {
    vec![
        KeyEvent::Used {
            node: "node-1".to_owned(),
            since: at(0),
            keys: vec![
                KeyUses {
                    key: "clinical/pat_03030303030303030303030303030303".to_owned(),
                    version: 2,
                    seal: 3,
                    open: 1,
                    digest: 0,
                },
                KeyUses {
                    key: "index/tokens".to_owned(),
                    version: 1,
                    seal: 0,
                    open: 0,
                    digest: 7,
                },
            ],
            further: 0,
        },
        KeyEvent::Failed {
            node: "node-1".to_owned(),
            key: Some("token/tenant".to_owned()),
            code: "unavailable".to_owned(),
            count: 12,
            since: at(0),
        },
        KeyEvent::Destroyed {
            key: digest("key"),
            at: Some(at(0)),
            version: Some(2),
        },
        KeyEvent::DestroyedAgain { key: digest("key") },
        KeyEvent::RotationStarted { from: 1 },
        KeyEvent::RotationFinished {
            to: 2,
            retired: vec![1],
            backups_gone_by: at(300),
        },
        KeyEvent::MasterChangeStarted,
        KeyEvent::MasterChanged {
            service: "file".to_owned(),
            key: "master-0123456789abcdef".to_owned(),
            retired: vec!["master-fedcba9876543210".to_owned()],
            backups_gone_by: at(300),
        },
        KeyEvent::EscrowShown {
            reason: EscrowReason::FirstRun,
        },
    ]
}

fn oversight_kinds() -> Vec<OversightEvent> {
    let combination = Box::new(Combination {
        intent: IntentId::new("intake").unwrap(),
        row: Some(PolicyId::new("vital-reported").unwrap()),
        model: VersionName::new("example-model-2026-06").unwrap(),
        prompts: vec![VersionName::new("intake@2").unwrap()],
    });
    vec![
        OversightEvent::Sampled,
        OversightEvent::Reviewed {
            verdict: Verdict::Agree,
            reason: None,
        },
        OversightEvent::Reviewed {
            verdict: Verdict::Disagree,
            reason: Some(address("reason")),
        },
        OversightEvent::Demoted {
            combination: combination.clone(),
            reviewed: 120,
            disagreed: 5,
        },
        OversightEvent::Restored {
            combination,
            reason: address("reason"),
        },
        OversightEvent::Paused {
            limit: PaceLimit::TooFast,
            approvals: 10,
            median_ms: 900,
            until: at(300),
        },
        OversightEvent::Paused {
            limit: PaceLimit::TooMany,
            approvals: 21,
            median_ms: 9_000,
            until: at(300),
        },
        OversightEvent::Overdue {
            step: 1,
            roles: vec![Role::Rn, Role::Clinician],
        },
    ]
}

/// A launch that led somewhere, one that led nowhere in particular, and two that were refused.
fn launch_kinds() -> Vec<LaunchEvent> {
    let entered = |known: bool| LaunchEvent::Entered {
        connection: ConnectionId::new("ehr").unwrap(),
        patient: known.then(|| PatientToken::from_random([3; 16])),
        writeback: known.then(|| WritebackId::from_random([1; 16])),
    };
    let refused = |reason, account: Option<&str>| LaunchEvent::Refused {
        reason,
        account: account.map(|name| AccountName::new(name).unwrap()),
    };
    vec![
        entered(true),
        entered(false),
        refused(LaunchRefusal::OtherPatient, Some("ada")),
        refused(LaunchRefusal::NotBegun, None),
    ]
}

/// One of everything that happens between an order and decision support.
fn support_kinds() -> Vec<DecisionSupportEvent> {
    let service = |name: &str, not_heard, cards, left_out| ServiceAsked {
        service: CdsServiceId::new(name).unwrap(),
        not_heard,
        cards,
        critical: cards.min(1),
        left_out,
    };
    vec![
        DecisionSupportEvent::Asked {
            order: digest("order"),
            services: vec![
                service("interactions", None, 3, 2),
                service("guidelines", Some(NotHeard::NoAnswer), 0, 0),
            ],
            cards: Some(address("cards")),
        },
        DecisionSupportEvent::Overridden {
            order: digest("order"),
            card: digest("card"),
            reason: OverrideReason::new("monitored").unwrap(),
        },
    ]
}

fn exception_kinds() -> Vec<ExceptionEvent> {
    let mut kinds = vec![
        ExceptionEvent::Requested {
            reason: address("reason"),
            binding: digest("binding"),
            until: at(86_400),
        },
        ExceptionEvent::Granted {
            binding: digest("binding"),
            until: at(3_600),
        },
        ExceptionEvent::Declined {
            reason: address("reason"),
        },
        ExceptionEvent::Used {
            by: WritebackId::from_random([9; 16]),
        },
        ExceptionEvent::Expired { granted: true },
    ];
    kinds.extend(
        ExceptionFinding::ALL.map(|finding| ExceptionEvent::Reviewed {
            finding,
            note: address("reason"),
        }),
    );
    kinds
}

/// One of everything that happens when something is undone.
fn undo_kinds() -> Vec<UndoEvent> {
    let (one, by) = (writeback(1), writeback(2));
    let moved = |step| UndoEvent::Moved {
        writeback: one,
        step,
    };
    vec![
        UndoEvent::Started {
            selection: Box::new(UndoSelection {
                agent: Some(AgentId::new("prescribing-desk").unwrap()),
                model: Some(VersionName::new("example-model-2026-06").unwrap()),
                prompt: Some(VersionName::new("refill@2").unwrap()),
                intent: Some(IntentId::new("submit-order").unwrap()),
                from: Some(at(1)),
                to: Some(at(60)),
                writeback: Some(one),
            }),
            reason: address("undo"),
            effects: 3,
            unreadable: 1,
        },
        UndoEvent::Joined {
            writeback: by,
            on: one,
        },
        moved(UndoStep::Found),
        moved(UndoStep::Waiting),
        moved(UndoStep::SetAside),
        moved(UndoStep::Withdrawn),
        moved(UndoStep::Proposed { by }),
        moved(UndoStep::Undone { by }),
        moved(UndoStep::Nothing),
        moved(UndoStep::Person {
            needed: PersonNeeded::ChangedSince,
            task: Some(by),
        }),
        moved(UndoStep::Person {
            needed: PersonNeeded::NoBase,
            task: None,
        }),
        UndoEvent::CompensationProposed {
            run: UndoId::from_random([6; 16]),
            by,
        },
        UndoEvent::Finished {
            counts: UndoCounts::of(&[UndoStep::SetAside, UndoStep::Undone { by }]),
        },
    ]
}

/// One of everything that happens to a list of patients.
fn cohort_kinds() -> Vec<CohortEvent> {
    let patient = PatientToken::from_random([3; 16]);
    let left_out = |because, grant| CohortEvent::LeftOut {
        patient,
        because,
        grant,
    };
    let step = CohortStep::LeftOut {
        because: CohortRemoval::Struck,
    };
    let ended = |cause| CohortEvent::Ended {
        cause,
        counts: CohortCounts::of(std::slice::from_ref(&step)),
    };
    let mut kinds = vec![
        CohortEvent::Listed(Box::new(CohortListed {
            cohort: CohortId::new("missed-visits").unwrap(),
            agent: AgentId::new("scheduling-desk").unwrap(),
            intent: IntentId::new("schedule-appointment").unwrap(),
            bundle: digest("bundle"),
            arguments: BTreeMap::from([("days".to_owned(), 30)]),
            reason: address("cohort"),
            list: digest("list"),
            listed: 2,
            removed: BTreeMap::from([(CohortRemoval::Deceased, 1)]),
            until: at(300),
        })),
        CohortEvent::Struck {
            patient,
            list: digest("shorter list"),
            listed: 1,
        },
        CohortEvent::Approved {
            list: digest("shorter list"),
            listed: 1,
        },
        left_out(CohortRemoval::Stopped, Some(GrantId::from_random([5; 16]))),
        ended(CohortEnd::Finished),
        ended(CohortEnd::Stopped),
        ended(CohortEnd::NotApproved),
        ended(CohortEnd::RulesChanged),
    ];
    let removals = [
        CohortRemoval::NotFound,
        CohortRemoval::Merged,
        CohortRemoval::Deceased,
        CohortRemoval::Restricted,
        CohortRemoval::Minor,
        CohortRemoval::Consent,
        CohortRemoval::NoContact,
        CohortRemoval::NotDue,
        CohortRemoval::OverCap,
        CohortRemoval::TimeUp,
        CohortRemoval::RulesChanged,
    ];
    kinds.extend(removals.map(|because| left_out(because, None)));
    kinds
}

fn retention_kinds() -> Vec<RetentionEvent> {
    let patient = PatientToken::from_random([3; 16]);
    let hold = HoldId::from_random([5; 16]);
    let payloads = vec![address("order"), address("location")];
    let shredded = Shredded {
        patient,
        keys: vec![format!("clinical/{patient}")],
        payloads: 2,
        records: BTreeMap::from([("token".to_owned(), 3)]),
        manifest: digest("shredded"),
    };
    vec![
        RetentionEvent::Deleted(Box::new(Deletion {
            artefact: "payload/clinical".to_owned(),
            rule: "clinical-delivered".to_owned(),
            rules: digest("rules"),
            count: 2,
            manifest: Deletion::manifest_of(&payloads),
            payloads,
        })),
        RetentionEvent::Deleted(Box::new(Deletion {
            artefact: "record/session".to_owned(),
            rule: "session".to_owned(),
            rules: digest("rules"),
            count: 7,
            manifest: digest("sessions"),
            payloads: Vec::new(),
        })),
        RetentionEvent::HoldPlaced {
            hold,
            patient: Some(patient),
            reason: address("hold"),
        },
        RetentionEvent::HoldReleased {
            hold,
            patient: None,
            reason: address("release"),
        },
        RetentionEvent::ShredStarted {
            patient,
            reason: address("shred"),
            rules: digest("rules"),
        },
        RetentionEvent::ShredEnded(Box::new(shredded.clone())),
        RetentionEvent::ShredReplayed(Box::new(shredded)),
    ]
}
