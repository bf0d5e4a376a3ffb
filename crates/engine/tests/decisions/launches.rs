//! Coming from inside the EHR, and the cards that lead here: what each opens, beside the nearest thing that it does not.
//! On both databases.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::ids::{AccountName, WritebackId};
use chaperone_core::launch::{LaunchContext, LaunchEvent, LaunchRefusal, LaunchServerFailed};
use chaperone_core::phi::Phi;
use chaperone_core::ports::Clock as _;
use chaperone_core::principal::{Human, Role};
use chaperone_engine::launch::card::{CardAsked, CardClient, WaitingCard};
use chaperone_engine::launch::{LaunchFailed, LaunchPlace, LaunchReturn, Launches};
use chaperone_engine::people::sessions::Touch;
use chaperone_engine::people::{NewSession, RelyingParty};
use chaperone_testkit::FakeLaunchServer;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::bench::*;
use crate::passkeys::{ORIGIN, admin, enrolled, key, person};
use crate::reviews::waiting_note;

const EHR: &str = "http://ehr.test/fhir";
const SERVICE: &str = "http://127.0.0.1:8080/cds-services/waiting-proposals";

/// The key of the EHR that asks for cards, and a stranger's.
static KEYS: LazyLock<[(EncodingKey, Value); 2]> = LazyLock::new(|| [signing_key(), signing_key()]);

fn signing_key() -> (EncodingKey, Value) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let jwk = json!({
        "kty": "EC", "crv": "P-384", "kid": "k1",
        "x": URL_SAFE_NO_PAD.encode(&point[1..49]), "y": URL_SAFE_NO_PAD.encode(&point[49..97]),
    });
    let der = pair.to_pkcs8v1().unwrap();
    (EncodingKey::from_ec_der(der.as_ref()), jwk)
}

/// A bench that takes launches, with people in it: an administrator, a clinician and a nurse, all linked.
struct Desk {
    bench: Bench,
    server: Arc<FakeLaunchServer>,
    admin: Human,
    lee: Human,
    ana: Human,
}

async fn desk(db: Db) -> Desk {
    let mut bench = bench_on(db, Strategy::Conditional).await;
    let server = Arc::new(FakeLaunchServer::of(EHR));
    let user = |id: &str, account: &str| {
        let account = AccountName::new(account).unwrap();
        (format!("Practitioner/{id}"), account)
    };
    let users = BTreeMap::from([
        user("lee", "dr-lee"),
        user("ana", "nurse-ana"),
        user("ada", "admin"),
        user("new", "newcomer"),
        user("bob", "trainee-bob"),
        user("gone", "nobody"),
    ]);
    let keys = vec![KEYS[0].1.as_object().unwrap().clone()];
    let launches = Launches {
        server: server.clone(),
        users,
        card_clients: vec![CardClient {
            issuer: "https://ehr.test".to_owned(),
            keys,
        }],
    };
    bench
        .restart(|config| {
            config.launches = Some(launches);
            config.passkeys = Some(RelyingParty::new("localhost", &[ORIGIN.to_owned()]).unwrap());
        })
        .await;
    let admin = admin(&bench).await;
    enrolled(&bench, &admin, &key(1)).await;
    let lee = person(&bench, &admin, "dr-lee", &[Role::Clinician]).await;
    enrolled(&bench, &lee, &key(2)).await;
    let ana = person(&bench, &admin, "nurse-ana", &[Role::Rn]).await;
    enrolled(&bench, &ana, &key(3)).await;
    Desk {
        bench,
        server,
        admin,
        lee,
        ana,
    }
}

fn open(user: &str, patient: Option<&str>) -> LaunchContext {
    LaunchContext {
        user: format!("Practitioner/{user}"),
        patient: patient.map(|id| Phi::new(id.to_owned())),
        app_context: None,
    }
}

impl Desk {
    /// Begins a launch and lets somebody through: what their browser brings back.
    async fn back(&self, context: LaunchContext) -> LaunchReturn {
        let begun = self.bench.engine.launch_begin(EHR, "xyz").await.unwrap();
        let let_through = self.server.let_through(&begun.to, context).unwrap();
        LaunchReturn {
            browser: begun.browser,
            state: let_through.state,
            code: Some(let_through.code),
            issuer: Some(let_through.issuer),
        }
    }

    async fn place(&self, context: LaunchContext) -> Result<LaunchPlace, LaunchRefusal> {
        let back = self.back(context).await;
        refusal(self.bench.engine.launch_returned(&back).await).map(|arrived| arrived.place)
    }

    async fn enter(&self, context: LaunchContext) -> (NewSession, LaunchPlace) {
        let back = self.back(context).await;
        let engine = &self.bench.engine;
        let arrived = engine.launch_returned(&back).await.unwrap();
        let entered = engine.launch_enter(&back.browser, &arrived.ticket, None);
        entered.await.unwrap()
    }

    async fn refusals(&self) -> Vec<(LaunchRefusal, Option<String>)> {
        let recorded = self.bench.recorded().await;
        let refusals = recorded.into_iter().filter_map(|it| match it.event {
            Event::Launch(LaunchEvent::Refused { reason, account }) => {
                assert_eq!(it.stream, StreamId::Refusals);
                Some((reason, account.map(|name| name.to_string())))
            }
            _ => None,
        });
        refusals.collect()
    }
}

fn refusal<T>(outcome: Result<T, LaunchFailed>) -> Result<T, LaunchRefusal> {
    outcome.map_err(|failed| match failed {
        LaunchFailed::Refused(refusal) => refusal,
        other => panic!("{other}"),
    })
}

pub(crate) async fn a_launch_leads_to_the_patient_who_is_open_and_signs_in_who_came(db: Db) {
    let desk = desk(db).await;
    let engine = &desk.bench.engine;
    let id = waiting_note(&desk.bench).await;
    let token = desk.bench.row(id).await.patient.unwrap();
    let before = engine.sign_in_enrolled(&desk.ana).await.unwrap();

    let back = desk.back(open("lee", Some("p1"))).await;
    let arrived = engine.launch_returned(&back).await.unwrap();
    assert_eq!(arrived.account.as_str(), "dr-lee");
    let there = LaunchPlace::Patient { patient: token };
    assert_eq!(arrived.place, there);
    // Nobody is signed in before the click.
    let signed_in = |recorded: &[chaperone_core::event::Recorded]| {
        let own = StreamId::Account(desk.lee.account.clone());
        let all = recorded.iter().filter(|it| it.stream == own);
        all.filter(|it| matches!(it.event, Event::SignedIn)).count()
    };
    assert_eq!(signed_in(&desk.bench.recorded().await), 0);

    let entered = engine
        .launch_enter(&back.browser, &arrived.ticket, Some(&before.token))
        .await;
    let (session, place) = entered.unwrap();
    assert_eq!((session.human.account.as_str(), place), ("dr-lee", there));
    let someone = engine.session(&session.token, Touch::Yes).await.unwrap();
    assert_eq!(someone.unwrap().human, desk.lee);
    // Whoever had this browser before is signed out.
    let gone = engine.session(&before.token, Touch::Yes).await.unwrap();
    assert!(gone.is_none());
    let queue = engine.patient_queue(&session.human, token).await.unwrap();
    assert_eq!(queue.pending.len(), 1);

    let recorded = desk.bench.recorded().await;
    assert_eq!(signed_in(&recorded), 1);
    let entered: Vec<_> = recorded
        .iter()
        .filter(|it| matches!(&it.event, Event::Launch(LaunchEvent::Entered { .. })))
        .collect();
    let [one] = entered.as_slice() else {
        panic!("{entered:?}")
    };
    assert_eq!(one.stream, StreamId::Account(desk.lee.account.clone()));
    let Event::Launch(LaunchEvent::Entered {
        patient, writeback, ..
    }) = &one.event
    else {
        panic!()
    };
    assert_eq!((*patient, *writeback), (Some(token), None));
    assert!(desk.refusals().await.is_empty());
}

pub(crate) async fn a_launch_counts_once_and_in_the_browser_that_began_it(db: Db) {
    use LaunchRefusal as R;
    let desk = desk(db).await;
    let engine = &desk.bench.engine;
    let returned = async |back: &LaunchReturn| {
        let arrived = refusal(engine.launch_returned(back).await);
        arrived.map(|arrived| arrived.ticket)
    };
    let begin =
        async |iss: &str, launch: &str| refusal(engine.launch_begin(iss, launch).await).map(|_| ());
    assert_eq!(begin(EHR, "xyz").await, Ok(()));
    for other in ["https://ehr.evil/fhir", "http://ehr.test/fhir/../x", "x"] {
        assert_eq!(begin(other, "xyz").await, Err(R::OtherIssuer), "{other}");
    }
    for (iss, launch) in [("", "xyz"), (EHR, ""), (EHR, "x\ny")] {
        assert_eq!(begin(iss, launch).await, Err(R::Malformed));
    }
    assert_eq!(begin(EHR, &"x".repeat(3_000)).await, Err(R::Malformed));

    // Another browser, or none, with a state and a code that were obtained elsewhere.
    let back = desk.back(open("lee", None)).await;
    let other = desk.back(open("ana", None)).await;
    for browser in [String::new(), "0".repeat(64), other.browser.clone()] {
        let stolen = LaunchReturn {
            browser,
            ..back.clone()
        };
        assert_eq!(returned(&stolen).await, Err(R::NotBegun));
    }
    // This browser with the other's code: the code was asked for with another challenge.
    let injected = LaunchReturn {
        code: other.code.clone(),
        ..back.clone()
    };
    assert_eq!(returned(&injected).await, Err(R::CodeRefused));
    // And whatever came of it, the launch is used up.
    assert_eq!(returned(&back).await, Err(R::NotBegun));

    let ticket = async |context: LaunchContext| {
        let back = desk.back(context).await;
        let ticket = returned(&back).await.unwrap();
        assert_eq!(returned(&back).await, Err(R::NotBegun));
        (back.browser, ticket)
    };
    let enter = async |browser: &str, ticket: &str| {
        let entered = refusal(engine.launch_enter(browser, ticket, None).await);
        entered.map(|(session, _)| session.human.account.to_string())
    };
    let (browser, first) = ticket(open("lee", None)).await;
    let (elsewhere, _) = ticket(open("ana", None)).await;
    assert_eq!(enter(&elsewhere, &first).await, Err(R::NotBegun));
    assert_eq!(enter("", &first).await, Err(R::NotBegun));
    assert_eq!(enter(&browser, &browser).await, Err(R::NotBegun));
    assert_eq!(enter(&browser, &first).await, Ok("dr-lee".to_owned()));
    assert_eq!(enter(&browser, &first).await, Err(R::NotBegun));
    // Time goes on: two minutes for the click, ten for the EHR.
    let (browser, late) = ticket(open("lee", None)).await;
    desk.bench.clock.advance_s(121);
    assert_eq!(enter(&browser, &late).await, Err(R::NotBegun));
    let back = desk.back(open("lee", None)).await;
    desk.bench.clock.advance_s(601);
    assert_eq!(returned(&back).await, Err(R::NotBegun));

    // The EHR lets nobody through, answers as somebody else, or not at all.
    let back = desk.back(open("lee", None)).await;
    let declined = LaunchReturn {
        code: None,
        ..back.clone()
    };
    assert_eq!(returned(&declined).await, Err(R::Declined));
    assert_eq!(returned(&back).await, Err(R::NotBegun));
    let mixed_up = LaunchReturn {
        issuer: Some("https://ehr.evil".to_owned()),
        ..desk.back(open("lee", None)).await
    };
    assert_eq!(returned(&mixed_up).await, Err(R::OtherIssuer));
    let back = desk.back(open("lee", None)).await;
    desk.server
        .fails(Some(LaunchServerFailed::Identity("it has expired")));
    assert_eq!(returned(&back).await, Err(R::IdentityUnproven));
    desk.server.fails(Some(LaunchServerFailed::NotAvailable));
    assert_eq!(begin(EHR, "xyz").await, Err(R::NotAvailable));
    desk.server.fails(None);

    let refusals = desk.refusals().await;
    assert!(refusals.iter().all(|(_, account)| account.is_none()));
    for reason in [R::OtherIssuer, R::Malformed, R::NotBegun, R::Declined] {
        assert!(refusals.iter().any(|(one, _)| *one == reason), "{reason:?}");
    }
}

pub(crate) async fn whoever_is_not_linked_comes_in_by_no_launch(db: Db) {
    use LaunchRefusal as R;
    let desk = desk(db).await;
    let engine = &desk.bench.engine;
    // Set up by nobody yet, and without a second factor.
    person(&desk.bench, &desk.admin, "newcomer", &[Role::Clinician]).await;
    let at = |user: &str| LaunchContext {
        user: user.to_owned(),
        ..open("x", None)
    };
    for (user, why) in [
        ("Practitioner/stranger", R::NotLinked),
        ("Practitioner/LEE", R::NotLinked),
        ("Practitioner/lee/_history/1", R::NotLinked),
        ("Patient/lee", R::NotLinked),
        ("http://ehr.evil/fhir/Practitioner/lee", R::NotLinked),
        ("dr-lee", R::NotLinked),
        ("", R::NotLinked),
        ("Practitioner/new", R::AccountUnusable),
        ("Practitioner/gone", R::AccountUnusable),
        ("Practitioner/ada", R::Administrator),
    ] {
        assert_eq!(desk.place(at(user)).await, Err(why), "{user}");
    }
    for user in ["Practitioner/lee", "http://ehr.test/fhir/Practitioner/lee"] {
        assert_eq!(desk.place(at(user)).await, Ok(LaunchPlace::Inbox));
    }
    // Renewed between the EHR's word and the click: password and factors are gone, and so is the way in.
    let back = desk.back(open("lee", None)).await;
    let arrived = engine.launch_returned(&back).await.unwrap();
    engine
        .reissue_enrolment(&desk.admin, &desk.lee.account)
        .await
        .unwrap();
    let entered = engine.launch_enter(&back.browser, &arrived.ticket, None);
    assert_eq!(refusal(entered.await.map(|_| ())), Err(R::AccountUnusable));
    let refusals = desk.refusals().await;
    let of = |reason| {
        let found = refusals.iter().find(|(one, _)| *one == reason);
        found.unwrap().1.clone()
    };
    assert_eq!(of(R::NotLinked), None);
    assert_eq!(of(R::Administrator).as_deref(), Some("admin"));
}

pub(crate) async fn a_launch_leads_to_nobody_whom_the_ehr_does_not_name_clearly(db: Db) {
    use LaunchRefusal as R;
    let desk = desk(db).await;
    let id = waiting_note(&desk.bench).await;
    let patient = desk.bench.row(id).await.patient.unwrap();
    let there = Ok(LaunchPlace::Patient { patient });
    for (resource, link) in [("merged", "replaced-by"), ("linked", "seealso")] {
        desk.bench.ehr.put(json!({
            "resourceType": "Patient", "id": resource,
            "link": [{ "type": link, "other": { "reference": "Patient/p1" } }],
        }));
    }
    desk.bench
        .ehr
        .put(json!({ "resourceType": "Patient", "id": "inactive", "active": false }));
    let minted = async || {
        let recorded = desk.bench.recorded().await;
        let is_patient = |event: &Event| matches!(event, Event::TokenMinted { resource, .. } if resource.as_str() == "Patient");
        recorded.iter().filter(|it| is_patient(&it.event)).count()
    };
    let before = minted().await;
    for (named, place) in [
        (Some("p1"), there),
        (Some("merged"), there),
        (Some("linked"), Ok(LaunchPlace::NothingHere)),
        (Some("p2"), Ok(LaunchPlace::NothingHere)),
        (Some("inactive"), Err(R::PatientUnclear)),
        (Some("none"), Err(R::PatientUnclear)),
        (None, Ok(LaunchPlace::Inbox)),
    ] {
        assert_eq!(desk.place(open("lee", named)).await, place, "{named:?}");
    }
    // Nobody became known here by being open in the EHR.
    assert_eq!(minted().await, before);
    // Who sees no patients is led to none, and learns of none.
    let roles = [Role::Trainee];
    let bob = person(&desk.bench, &desk.admin, "trainee-bob", &roles).await;
    enrolled(&desk.bench, &bob, &key(4)).await;
    for named in ["p1", "p2", "none"] {
        let place = desk.place(open("bob", Some(named))).await;
        assert_eq!(place, Ok(LaunchPlace::Inbox), "{named}");
    }
}

pub(crate) async fn a_card_leads_to_its_review_where_patient_and_part_fit(db: Db) {
    use LaunchRefusal as R;
    let desk = desk(db).await;
    let id = waiting_note(&desk.bench).await;
    let patient = desk.bench.row(id).await.patient.unwrap();
    // Somebody else who is known here too.
    let other = desk
        .bench
        .caller(&nurse(), "scribe-agent", "draft-note", "p2")
        .await;
    let other = other.envelope.patient.unwrap();
    let with = |user: &str, named: &str, context: &str| LaunchContext {
        app_context: Some(context.to_owned()),
        ..open(user, Some(named))
    };
    let known = id.to_string();
    let unknown = WritebackId::from_random([0xee; 16]).to_string();
    let queue = LaunchPlace::Patient { patient };
    for (user, named, context, place) in [
        (
            "lee",
            "p1",
            known.as_str(),
            Ok(LaunchPlace::Review {
                patient,
                writeback: id,
            }),
        ),
        // A note is for a clinician: the nurse is led to the queue, which shows her what she may see.
        ("ana", "p1", &known, Ok(queue)),
        ("lee", "p1", &unknown, Ok(queue)),
        ("lee", "p1", "https://evil.example/", Ok(queue)),
        ("lee", "p1", "../writebacks", Ok(queue)),
        ("lee", "p2", &known, Err(R::OtherPatient)),
        (
            "lee",
            "p2",
            &unknown,
            Ok(LaunchPlace::Patient { patient: other }),
        ),
    ] {
        let led = desk.place(with(user, named, context)).await;
        assert_eq!(led, place, "{user} {named} {context}");
    }
    // No patient is open: nothing says that the card's is meant.
    let without = LaunchContext {
        app_context: Some(known),
        ..open("lee", None)
    };
    assert_eq!(desk.place(without).await, Ok(LaunchPlace::Inbox));
    let (_, place) = desk.enter(with("lee", "p1", &id.to_string())).await;
    assert_eq!(
        place,
        LaunchPlace::Review {
            patient,
            writeback: id
        }
    );
    let recorded = desk.bench.recorded().await;
    let entered = recorded.iter().find_map(|it| match &it.event {
        Event::Launch(LaunchEvent::Entered { writeback, .. }) => Some(*writeback),
        _ => None,
    });
    assert_eq!(entered, Some(Some(id)));
}

/// A token of the EHR, with some claims replaced.
fn token(bench: &Bench, by: usize, jti: &str, changes: &Value) -> String {
    let now = bench.clock.now().as_second();
    let mut claims = json!({
        "iss": "https://ehr.test", "aud": SERVICE, "iat": now, "exp": now + 300, "jti": jti,
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    let mut header = Header::new(Algorithm::ES384);
    header.kid = Some("k1".to_owned());
    jsonwebtoken::encode(&header, &claims, &KEYS[by].0).unwrap()
}

pub(crate) async fn an_ehr_is_told_how_many_wait_for_whoever_looks_and_nothing_else(db: Db) {
    let desk = desk(db).await;
    let bench = &desk.bench;
    let id = waiting_note(bench).await;
    let patient = bench.row(id).await.patient.unwrap();
    let mut count = 0;
    let mut ask = async |user: &str, named: &str, server: Option<&str>| {
        count += 1;
        let token = token(bench, 0, &format!("jti-{count}"), &json!({}));
        let asker = bench.engine.card_asker(Some(&token)).await.unwrap();
        let asked = CardAsked {
            server: server.map(str::to_owned),
            user: user.to_owned(),
            patient: Phi::new(named.to_owned()),
        };
        let card = bench.engine.waiting_card(asker, &asked).await;
        card.map_err(|error| error.code)
    };
    let one = WaitingCard {
        count: 1,
        writeback: Some(id),
    };
    let looks = async || {
        let recorded = bench.recorded().await;
        let of_card = recorded.into_iter().filter_map(|it| match it.event {
            Event::ReadPermitted(ceiling) if ceiling.tool.as_str() == "cds.patient-view" => {
                Some((it.stream.to_string(), ceiling.patient))
            }
            _ => None,
        });
        of_card.collect::<Vec<_>>()
    };
    // The nurse decides no notes, strangers and administrators nothing; nobody is known as `p2` or `none`.
    for (user, named) in [
        ("Practitioner/ana", "p1"),
        ("Practitioner/stranger", "p1"),
        ("Practitioner/ada", "p1"),
        ("Practitioner/gone", "p1"),
        ("Patient/p1", "p1"),
        ("", "p1"),
        ("Practitioner/lee", "p2"),
        ("Practitioner/lee", "none"),
        ("Practitioner/lee", "Patient/p1"),
        ("Practitioner/lee", ""),
    ] {
        assert_eq!(ask(user, named, None).await, Ok(None), "{user} {named}");
    }
    assert_eq!(looks().await, []);
    assert_eq!(ask("Practitioner/lee", "p1", None).await, Ok(Some(one)));
    let expected = ("account/dr-lee".to_owned(), Some(patient));
    assert_eq!(looks().await, [expected]);
    assert_eq!(
        ask("http://ehr.test/fhir/Practitioner/lee", "p1", Some(EHR)).await,
        Ok(Some(one))
    );
    let elsewhere = ask("Practitioner/lee", "p1", Some("https://ehr.evil/fhir")).await;
    assert_eq!(elsewhere, Err("invalid-argument"));
}

pub(crate) async fn a_token_of_an_ehr_counts_once_for_this_service(db: Db) {
    let desk = desk(db).await;
    let bench = &desk.bench;
    let now = bench.clock.now().as_second();
    let check = async |token: Option<&str>| {
        let asker = bench.engine.card_asker(token).await;
        asker.map(|_| ()).map_err(|error| error.message)
    };
    let good = token(bench, 0, "one", &json!({}));
    assert_eq!(check(Some(&good)).await, Ok(()));
    let again = check(Some(&good)).await.unwrap_err();
    assert!(again.contains("used before"), "{again}");
    let stranger = token(bench, 1, "two", &json!({}));
    let other_service = SERVICE.replace("waiting", "other");
    for (token, why) in [
        (None, "not accepted"),
        (Some(String::new()), "not accepted"),
        (Some(stranger), "not accepted"),
        (
            Some(token(bench, 0, "3", &json!({ "iss": "https://ehr.evil" }))),
            "not accepted",
        ),
        (
            Some(token(bench, 0, "4", &json!({ "aud": other_service }))),
            "another service",
        ),
        (
            Some(token(bench, 0, "5", &json!({ "exp": now - 60 }))),
            "expired",
        ),
        (
            Some(token(bench, 0, "6", &json!({ "exp": now + 400 }))),
            "five minutes",
        ),
        (
            Some(token(bench, 0, "7", &json!({ "iat": now + 120 }))),
            "future",
        ),
        (Some(token(bench, 0, "", &json!({}))), "`jti`"),
    ] {
        let said = check(token.as_deref()).await.unwrap_err();
        assert!(said.contains(why), "{why}: {said}");
    }
    // Where nobody may ask, nothing is offered.
    assert!(bench.engine.offers_cards());
    let mut without = desk.bench;
    without.restart(|_| ()).await;
    assert!(!without.engine.offers_cards());
    let refused = without.engine.card_asker(Some(&good)).await;
    assert!(refused.is_err());
    let refused = without.engine.launch_begin(EHR, "xyz").await;
    assert_eq!(refusal(refused.map(|_| ())), Err(LaunchRefusal::NotOffered));
    let told = without.recorded().await;
    let is_launch = |event: &Event| matches!(event, Event::Launch(_));
    assert!(!told.iter().any(|it| is_launch(&it.event)));
}
