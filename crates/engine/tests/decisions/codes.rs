//! A patient's new e-mail address: a code goes to it and comes back, the patient confirms what is shown, and the address
//! of before is told. Each beside its nearest neighbour that changes nothing.

use std::sync::{Arc, LazyLock};

use chaperone_core::digest::Digest;
use chaperone_core::event::{DecisionKind, Event};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{EhrEventSource, WritebackId};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::patient_mail::{PatientMailEvent, PatientMailKind, PatientMailNotSent};
use chaperone_core::ports::{Clock, Notice};
use chaperone_core::principal::Role;
use chaperone_core::verification::{VerificationMethod, VerifiedBy};
use chaperone_core::writeback::{StateName, WritebackEvent};
use chaperone_engine::ehr_event::{EventSources, SourceKind, SourceSecrets};
use chaperone_engine::portal::{Portal, ProposalAsked};
use chaperone_engine::verification::{
    Attestation, CodeAsked, CodeGiven, CodeSent, VerifyFailed, Verifying,
};
use chaperone_engine::{Engine, EngineConfig};
use chaperone_policy::Bundle;
use chaperone_testkit::KeptMail;
use serde_json::{Value, json};

use crate::bench::*;

const OLD: &str = "CANARY-before@example.org";
const NEW: &str = "canary-new@example.org";
const PORTALS: [&str; 2] = ["portal", "other-portal"];

/// The default bundle with two portals in which patients and proxies are signed in. Neither may attest a code.
static TRUSTING: LazyLock<Arc<Bundle>> = LazyLock::new(|| {
    let mut files = chaperone_policy::embedded::files();
    let rules = files.get_mut("rules/verification.toml").unwrap();
    for portal in PORTALS {
        rules.push_str(&format!(
            "\n[[sources]]\nsource = \"{portal}\"\nfacts = [\"portal_patient\", \"proxy_session\"]\nvalid_s = 900\n"
        ));
    }
    bundle(&files)
});

struct House {
    bench: Bench,
    mail: Arc<KeptMail>,
}

/// A patient with one e-mail address and one telephone, and two portals.
async fn house(db: Db) -> House {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let mail = Arc::new(KeptMail::default());
    let portals = PORTALS.map(|name| SourceSecrets {
        source: EhrEventSource::new(name).unwrap(),
        kind: SourceKind::Portal,
        current: [PORTAL_SECRET, name.as_bytes()].concat().leak(),
        previous: None,
        window_s: 300,
    });
    let config = EngineConfig {
        event_sources: EventSources::new(portals).unwrap(),
        patient_mail: Some(mail.clone()),
        ..EngineConfig::new(tenant(), "http://127.0.0.1:8080")
    };
    let ports = chaperone_engine::Ports {
        notifier: bench.notifier.clone(),
        ..ports(bench.store.clone(), bench.ehr.clone(), bench.clock.clone())
    };
    bench.engine = Engine::start(config, TRUSTING.clone(), ports)
        .await
        .unwrap();
    let house = House { bench, mail };
    house.reached_by(json!([email(OLD), phone("555-0100")]));
    house
}

fn email(address: &str) -> Value {
    json!({ "system": "email", "value": address, "use": "home" })
}

fn phone(number: &str) -> Value {
    json!({ "system": "phone", "value": number, "use": "home" })
}

impl House {
    /// What the record has of how the patient is reached.
    fn reached_by(&self, telecom: Value) {
        self.bench.ehr.put(json!({
            "resourceType": "Patient", "id": "p1", "birthDate": "1950-02-03", "telecom": telecom,
            "identifier": [{ "system": "urn:example:mrn", "value": "MRN-p1" }],
        }));
    }

    async fn proposed_by(&self, tool: &str, key: &str, kind: &str, value: &str) -> Value {
        let desk = human(4, &[Role::Scheduler]);
        let agent = self
            .bench
            .caller(&desk, "contact-agent", "demographic-correction", "p1")
            .await;
        let arguments = json!({
            "idempotency_key": key, "kind": kind, "value": value, "use": "home",
            // What an agent says is no evidence.
            "rationale": "The patient is signed in, and the code 12345678 came back.",
        });
        self.bench.call(&agent, tool, arguments).await
    }

    /// A proposal that waits.
    async fn held(&self, key: &str, kind: &str, value: &str) -> WritebackId {
        let answer = self.proposed_by("update_contact", key, kind, value).await;
        assert_eq!(answer["state"], "awaiting_verification", "{answer}");
        answer["proposal"].as_str().unwrap().parse().unwrap()
    }

    async fn portal_called(&self, source: &str) -> Portal {
        let secret = [PORTAL_SECRET, source.as_bytes()].concat();
        self.bench.portal(source, &secret).await
    }

    async fn asking(&self, id: WritebackId) -> CodeAsked {
        CodeAsked {
            writeback: id,
            digest: self.bench.row(id).await.digest.unwrap(),
            patient: "Patient/p1".to_owned(),
            proxy: None,
        }
    }

    async fn ask(&self, asked: CodeAsked) -> Result<CodeSent, VerifyFailed> {
        let from = self.portal_called("portal").await;
        self.bench.engine.send_code(&from, asked).await
    }

    async fn send(&self, id: WritebackId) -> Result<CodeSent, &'static str> {
        let sent = self.ask(self.asking(id).await).await;
        sent.map_err(|refused| refused.code().unwrap_or("failed"))
    }

    async fn given(&self, id: WritebackId, code: &str) -> CodeGiven {
        let asked = self.asking(id).await;
        CodeGiven {
            writeback: id,
            digest: asked.digest,
            patient: asked.patient,
            proxy: None,
            code: code.to_owned(),
        }
    }

    async fn give(&self, given: CodeGiven) -> Result<Verifying, &'static str> {
        let from = self.portal_called("portal").await;
        let taken = self.bench.engine.take_code(&from, given).await;
        taken.map_err(|refused| refused.code().unwrap_or("failed"))
    }

    async fn take(&self, id: WritebackId, code: &str) -> Result<Verifying, &'static str> {
        self.give(self.given(id, code).await).await
    }

    /// The code of the newest mail.
    fn newest_code(&self) -> String {
        let sent = self.mail.sent();
        sent.last().unwrap().1.code.clone().unwrap()
    }

    /// What the patient says themself, with a second factor.
    async fn confirms(&self, id: WritebackId) -> Result<Verifying, VerifyFailed> {
        let from = self.portal_called("portal").await;
        let attestation = Attestation {
            id: format!("step-up for {id}"),
            writeback: id,
            digest: self.bench.row(id).await.digest.unwrap(),
            patient: "Patient/p1".to_owned(),
            fact: "portal_patient".to_owned(),
            method: VerificationMethod::StepUp,
            proxy: None,
            at: self.bench.clock.now(),
        };
        self.bench.engine.take_attestation(&from, attestation).await
    }

    fn telecom(&self) -> Value {
        self.bench.ehr.resource("Patient", "p1").unwrap()["telecom"].clone()
    }

    fn sent_to(&self) -> Vec<String> {
        self.mail.sent().into_iter().map(|(to, _)| to).collect()
    }

    /// What the ledger says of mail to the patient.
    async fn mail_events(&self) -> Vec<PatientMailEvent> {
        let recorded = self.bench.recorded().await;
        let mail = recorded.into_iter().filter_map(|it| match it.event {
            Event::PatientMail(event) => Some(event),
            _ => None,
        });
        mail.collect()
    }

    async fn refusals(&self) -> Vec<String> {
        let recorded = self.bench.recorded().await;
        let codes = recorded.into_iter().filter_map(|it| match it.event {
            Event::DecisionRefused {
                decision: DecisionKind::Verify,
                code,
                ..
            } => Some(code),
            _ => None,
        });
        codes.collect()
    }
}

fn held_for(taken: Result<Verifying, &'static str>) -> Vec<String> {
    match taken {
        Ok(Verifying::Held { missing }) => missing.into_iter().collect(),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn w01_a_code_and_the_patients_own_word_add_an_address_and_the_old_one_is_told(
    db: Db,
) {
    let house = house(db).await;
    let id = house.held("1", "email", NEW).await;
    // The patient is shown what would be sent, with nothing lost of what is there.
    let asked = ProposalAsked {
        writeback: id,
        patient: "Patient/p1".to_owned(),
        proxy: None,
    };
    let from = house.portal_called("portal").await;
    let shown = house.bench.engine.proposal_for_patient(&from, asked).await;
    let mut shown = shown.unwrap();
    let needs: Vec<&str> = shown.needs.iter().map(String::as_str).collect();
    assert_eq!(needs, ["contact_code_confirmed", "portal_patient"]);
    let shown = shown
        .changes
        .remove(0)
        .resource
        .into_exposed(chaperone_core::phi::ExposedFor::Person);
    assert_eq!(
        shown["telecom"],
        json!([email(OLD), phone("555-0100"), email(NEW)])
    );

    // To the new address, and to no other.
    let sent = house.send(id).await.unwrap();
    assert_eq!(sent.left, 2);
    assert_eq!(house.sent_to(), [NEW]);
    let (_, mail) = house.mail.sent().remove(0);
    let code = mail.code.unwrap();
    assert!(code.len() == 8 && code.bytes().all(|b| b.is_ascii_digit()));
    let said = format!("{} {}", mail.subject, mail.body);
    assert!(said.contains("{code}") && said.contains("10 minutes"));
    for withheld in ["p1", "wb_", "clinic", "://", &code] {
        assert!(!said.contains(withheld), "{withheld}");
    }
    assert_eq!(held_for(house.take(id, &code).await), ["portal_patient"]);
    house.bench.deliver().await;
    assert!(house.bench.ehr.written().is_empty());
    // It came back once; nothing is left of it to hand in.
    assert_eq!(house.take(id, &code).await, Err("not-needed"));

    let passed = house.confirms(id).await.unwrap();
    assert!(matches!(&passed, Verifying::Passed(row) if row.state == StateName::Ready));
    house.bench.deliver().await;
    assert_eq!(house.bench.state(id).await, StateName::Delivered);
    assert_eq!(
        house.telecom(),
        json!([email(OLD), phone("555-0100"), email(NEW)])
    );
    // Whom the record had before is told, in fixed words; whoever was added is not.
    house.bench.deliver().await;
    assert_eq!(house.sent_to(), [NEW, OLD]);
    let (_, notice) = house.mail.sent().remove(1);
    assert!(notice.code.is_none() && !notice.body.contains(NEW));
    house.bench.clock.advance_s(90_000);
    house.bench.deliver().await;
    assert_eq!(house.mail.sent().len(), 2);

    let recorded = house.bench.recorded().await;
    let evidence: Vec<_> = recorded
        .iter()
        .filter_map(|it| match &it.event {
            Event::Writeback(WritebackEvent::Verified { evidence, .. }) => Some(evidence.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(evidence.len(), 2);
    assert!(evidence.iter().any(|it| it.fact == "contact_code_confirmed"
        && matches!(&it.verified, VerifiedBy::Code { portal, proxy: None } if portal.as_str() == "portal")));
    let mail: Vec<PatientMailKind> = house
        .mail_events()
        .await
        .into_iter()
        .map(|it| match it {
            PatientMailEvent::Sending { mail, .. } => mail,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        mail,
        [
            PatientMailKind::ContactCode,
            PatientMailKind::ContactChanged
        ]
    );
    // Neither address nor code is in the ledger.
    let ledger = serde_json::to_string(&recorded).unwrap();
    for withheld in [NEW, OLD, &code] {
        assert!(!ledger.contains(withheld), "{withheld}");
    }
}

pub(crate) async fn w02_without_the_code_it_is_held_and_nothing_is_written(db: Db) {
    let house = house(db).await;
    let id = house.held("1", "email", NEW).await;
    let held = house.confirms(id).await.unwrap();
    assert!(
        matches!(&held, Verifying::Held { missing } if missing.iter().eq(["contact_code_confirmed"]))
    );
    // No code was sent, so none counts; the agent made one up.
    assert_eq!(house.take(id, "12345678").await, Err("code-over"));
    house.send(id).await.unwrap();
    let code = house.newest_code();
    let wrong = if code == "00000000" {
        "00000001"
    } else {
        "00000000"
    };
    // What cannot be a code costs no try; a wrong one does, and the fifth is the last.
    for slip in ["", "0000000", "000000000", "0000000o"] {
        assert_eq!(house.take(id, slip).await, Err("code-wrong"), "{slip}");
    }
    for _ in 0..5 {
        assert_eq!(house.take(id, wrong).await, Err("code-wrong"));
    }
    assert_eq!(house.take(id, &code).await, Err("codes-spent"));
    assert_eq!(house.send(id).await, Err("codes-spent"));
    // The portal made none, and the bundle does not trust it to say so.
    let from = house.portal_called("portal").await;
    let attested = Attestation {
        id: "made up".to_owned(),
        writeback: id,
        digest: house.bench.row(id).await.digest.unwrap(),
        patient: "Patient/p1".to_owned(),
        fact: "contact_code_confirmed".to_owned(),
        method: VerificationMethod::Code,
        proxy: None,
        at: house.bench.clock.now(),
    };
    let refused = house.bench.engine.take_attestation(&from, attested).await;
    assert_eq!(refused.unwrap_err().code(), Some("source-not-trusted"));
    house.bench.deliver().await;
    assert_eq!(house.bench.state(id).await, StateName::AwaitingVerification);
    assert!(house.bench.ehr.written().is_empty());
    assert_eq!(house.sent_to(), [NEW]);
    let refusals = house.refusals().await;
    let count = |code: &str| refusals.iter().filter(|it| *it == code).count();
    assert_eq!(
        (
            count("code-over"),
            count("code-wrong"),
            count("codes-spent")
        ),
        (1, 9, 2)
    );
    // Nobody's word either: what was only said waits for a scheduler, and is no business of a portal.
    let said = house.proposed_by("report_contact", "2", "email", NEW).await;
    assert_eq!(said["state"], "awaiting_approval", "{said}");
    let said = said["proposal"].as_str().unwrap().parse().unwrap();
    assert_eq!(house.send(said).await, Err("not-waiting"));
}

pub(crate) async fn a_code_counts_for_its_own_order_portal_and_time(db: Db) {
    let house = house(db).await;
    let id = house.held("1", "email", NEW).await;
    let other = house.held("2", "email", "canary-other@example.org").await;
    house.send(id).await.unwrap();
    let code = house.newest_code();
    house.send(other).await.unwrap();
    let of_other = house.newest_code();
    // Each is of its own order, though patient and portal are the same.
    assert_eq!(house.take(other, &code).await, Err("code-wrong"));
    assert_eq!(house.take(id, &of_other).await, Err("code-wrong"));
    // Other content, another patient, another portal.
    let right = house.given(id, &code).await;
    let elsewhere = [
        CodeGiven {
            digest: Digest::of_bytes(b"other content"),
            ..right.clone()
        },
        CodeGiven {
            patient: "Patient/p2".to_owned(),
            ..right.clone()
        },
    ];
    for given in elsewhere {
        assert_eq!(house.give(given).await, Err("other-content"));
    }
    let from = house.portal_called("other-portal").await;
    let by_another = house.bench.engine.take_code(&from, right.clone()).await;
    assert_eq!(by_another.unwrap_err().code(), Some("code-wrong"));
    // A proxy has no part in what the patient must do themself.
    let by_proxy = CodeGiven {
        proxy: Some("RelatedPerson/r1".to_owned()),
        ..right.clone()
    };
    assert_eq!(house.give(by_proxy).await, Err("proxy-refused"));
    // Only the newest counts, and only in its time.
    house.send(id).await.unwrap();
    let newest = house.newest_code();
    assert_ne!(newest, code);
    assert_eq!(house.take(id, &code).await, Err("code-wrong"));
    house.bench.clock.advance_s(600);
    assert_eq!(house.take(id, &newest).await, Err("code-over"));
    let third = house.send(id).await.unwrap();
    assert_eq!(third.left, 0);
    assert_eq!(house.send(id).await, Err("codes-spent"));
    house.bench.clock.advance_s(599);
    let code = house.newest_code();
    assert_eq!(held_for(house.take(id, &code).await), ["portal_patient"]);
    // That it came back counts for a while, and then no more.
    house.bench.clock.advance_s(1_800);
    let held = house.confirms(id).await.unwrap();
    assert!(
        matches!(&held, Verifying::Held { missing } if missing.iter().eq(["contact_code_confirmed"]))
    );
    assert!(house.bench.ehr.written().is_empty());
}

pub(crate) async fn codes_are_few_and_go_where_a_code_can_go(db: Db) {
    let house = house(db).await;
    // A telephone has no way; nor has what is no address.
    for (n, kind, value) in [
        (1, "phone", "555-0199"),
        (2, "email", "canary-new@example.org, eve@example.org"),
        (3, "email", "canary-new@exämple.org"),
    ] {
        let id = house.held(&format!("no way {n}"), kind, value).await;
        assert_eq!(house.send(id).await, Err("no-channel"), "{value}");
    }
    assert!(house.mail.sent().is_empty());
    // What cannot be sent is said so, and what was begun is in the ledger.
    let id = house.held("1", "email", NEW).await;
    house.mail.fail(Some(PatientMailNotSent::Failed));
    let failed = house.ask(house.asking(id).await).await.unwrap_err();
    assert!(matches!(failed, VerifyFailed::CodeNotSent));
    house.mail.fail(Some(PatientMailNotSent::Refused));
    assert_eq!(house.send(id).await, Err("no-channel"));
    house.mail.fail(None);
    assert!(matches!(
        house.mail_events().await.as_slice(),
        [
            PatientMailEvent::Sending { .. },
            PatientMailEvent::NotSent {
                reason: PatientMailNotSent::Failed,
                ..
            },
            PatientMailEvent::Sending { .. },
            PatientMailEvent::NotSent {
                reason: PatientMailNotSent::Refused,
                ..
            },
        ]
    ));
    // Six a day for one patient, however many orders.
    house.send(id).await.unwrap();
    for n in 0..3 {
        let address = format!("canary-{n}@example.org");
        let more = house.held(&format!("more {n}"), "email", &address).await;
        house.send(more).await.unwrap();
    }
    let seventh = house.held("seventh", "email", "canary-7@example.org").await;
    assert_eq!(house.send(seventh).await, Err("too-many-codes"));
    house.bench.clock.advance_s(24 * 3_600 - 1);
    let later = house.held("later", "email", "canary-8@example.org").await;
    assert_eq!(house.send(later).await, Err("too-many-codes"));
    house.bench.clock.advance_s(1);
    house.send(later).await.unwrap();
    // Nobody is written to, and no code taken, while everything is halted.
    let operator = human(9, &[Role::ItAdmin]);
    for (mode, is_stopped) in [
        (Mode::Halted, true),
        (Mode::ReadOnly, false),
        (Mode::Normal, false),
    ] {
        let switched =
            house
                .bench
                .engine
                .switch_mode(&operator, ModeScope::Tenant, mode, "a drill");
        switched.await.unwrap();
        let taken = house.take(later, "not a code").await;
        let expected = if is_stopped { "halted" } else { "code-wrong" };
        assert_eq!(taken, Err(expected), "{mode:?}");
        if is_stopped {
            assert_eq!(house.send(later).await, Err("halted"));
        }
    }
    assert!(house.bench.ehr.written().is_empty());
}

pub(crate) async fn guesses_at_one_time_are_no_more_than_guesses_one_by_one(db: Db) {
    let house = house(db).await;
    let id = house.held("1", "email", NEW).await;
    house.send(id).await.unwrap();
    let code: u32 = house.newest_code().parse().unwrap();
    let mut wrong = 0;
    let mut spent = 0;
    // Of those that meet in the store one is counted and the others are told to try again, so that there may be as few
    // counted as rounds.
    for round in 0..=5 {
        let mut guesses = Vec::new();
        for n in 1..=8 {
            let guess = (code + round * 8 + n) % 100_000_000;
            guesses.push(house.given(id, &format!("{guess:08}")).await);
        }
        let taken = guesses.into_iter().map(|guess| house.give(guess));
        for taken in futures::future::join_all(taken).await {
            match taken {
                Err("code-wrong") => wrong += 1,
                Err("codes-spent") => spent += 1,
                Err("failed") => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(wrong, 5);
    assert!(spent >= 8, "{spent}");
    let taken = house.take(id, &format!("{code:08}")).await;
    assert_eq!(taken, Err("codes-spent"));
}

pub(crate) async fn who_had_the_address_is_told_though_mail_fails_for_a_while(db: Db) {
    let house = house(db).await;
    let changed = async |key: &str, address: &str| {
        let id = house.held(key, "email", address).await;
        house.send(id).await.unwrap();
        let code = house.newest_code();
        house.take(id, &code).await.unwrap();
        house.confirms(id).await.unwrap();
        house.bench.deliver().await;
        assert_eq!(house.bench.state(id).await, StateName::Delivered);
        id
    };
    changed("1", NEW).await;
    house.mail.fail(Some(PatientMailNotSent::Failed));
    house.bench.deliver().await;
    assert_eq!(house.sent_to(), [NEW]);
    house.mail.fail(None);
    // Not at once again, and not for ever not.
    house.bench.deliver().await;
    assert_eq!(house.sent_to(), [NEW]);
    house.bench.clock.advance_s(60);
    house.bench.deliver().await;
    assert_eq!(house.sent_to(), [NEW, OLD]);

    // Of the next one both are told. Where nobody takes it in the end, somebody is asked to look.
    house.mail.fail(None);
    let id = changed("2", "canary-third@example.org").await;
    house.mail.fail(Some(PatientMailNotSent::Failed));
    for wait_s in [0, 60, 600, 3_600, 21_600, 90_000] {
        house.bench.clock.advance_s(wait_s);
        house.bench.deliver().await;
    }

    // A patient whom the record gives no address is told by nobody; the ledger says so, and somebody is asked to look.
    house.mail.fail(None);
    house.reached_by(json!([phone("555-0100"), { "system": "email", "value": OLD, "use": "old" }]));
    let before = house.mail.sent().len();
    let fourth = changed("3", "canary-fourth@example.org").await;
    house.bench.deliver().await;
    assert_eq!(house.mail.sent().len(), before + 1);
    let told = house.bench.notices().await;
    let asked = told.iter().filter_map(|it| match it {
        Notice::OperatorNeeded { writeback, code } if code == "patient-not-told" => {
            Some(*writeback)
        }
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), [id, fourth]);
    assert!(matches!(
        house.mail_events().await.last(),
        Some(PatientMailEvent::NotSent {
            reason: PatientMailNotSent::NoAddress,
            ..
        })
    ));
}

pub(crate) async fn a_proxy_hands_in_a_code_where_the_gate_is_theirs(db: Db) {
    let house = house(db).await;
    let related = |id: &str, code: &str| {
        json!({
            "resourceType": "RelatedPerson", "id": id, "active": true,
            "patient": { "reference": "Patient/p1" },
            "relationship": [{ "coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": code,
            }] }],
        })
    };
    house.bench.ehr.put(related("guardian", "GUARD"));
    house.bench.ehr.put(related("neighbour", "NBOR"));
    let answer = house
        .proposed_by("update_contact_for", "1", "email", NEW)
        .await;
    assert_eq!(answer["state"], "awaiting_verification", "{answer}");
    let id: WritebackId = answer["proposal"].as_str().unwrap().parse().unwrap();
    let by = |who: Option<&str>| who.map(|who| format!("RelatedPerson/{who}"));
    let asked = house.asking(id).await;
    for (who, code) in [
        (None, "source-not-trusted"),
        (Some("neighbour"), "proxy-refused"),
        (Some("nobody"), "proxy-refused"),
    ] {
        let asked = CodeAsked {
            proxy: by(who),
            ..asked.clone()
        };
        assert_eq!(house.ask(asked).await.unwrap_err().code(), Some(code));
    }
    // Of the patient's own contact points the guardian is shown none.
    let look = ProposalAsked {
        writeback: id,
        patient: "Patient/p1".to_owned(),
        proxy: by(Some("guardian")),
    };
    let from = house.portal_called("portal").await;
    let shown = house.bench.engine.proposal_for_patient(&from, look).await;
    let shown = shown.unwrap().changes.remove(0).resource;
    let shown = shown.into_exposed(chaperone_core::phi::ExposedFor::Person);
    assert_eq!(
        shown,
        json!({ "resourceType": "Patient", "telecom": [email(NEW)] })
    );
    let right = CodeAsked {
        proxy: by(Some("guardian")),
        ..asked
    };
    house.ask(right.clone()).await.unwrap();
    let given = CodeGiven {
        proxy: right.proxy.clone(),
        ..house.given(id, &house.newest_code()).await
    };
    let missing = held_for(house.give(given).await);
    assert_eq!(missing, ["proxy_authority", "proxy_session"]);
    let from = house.portal_called("portal").await;
    let attestation = Attestation {
        id: "the guardian".to_owned(),
        writeback: id,
        digest: right.digest,
        patient: right.patient,
        fact: "proxy_session".to_owned(),
        method: VerificationMethod::StepUp,
        proxy: right.proxy,
        at: house.bench.clock.now(),
    };
    let passed = house
        .bench
        .engine
        .take_attestation(&from, attestation)
        .await;
    assert!(matches!(passed, Ok(Verifying::Passed(_))));
    house.bench.deliver().await;
    house.bench.deliver().await;
    assert_eq!(house.sent_to(), [NEW, OLD]);
}
