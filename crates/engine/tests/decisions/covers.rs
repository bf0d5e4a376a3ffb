//! Cover: what is handed to somebody who is away, and that whoever takes it decides as themselves or not at all. On both
//! databases.

use chaperone_core::claim::{ClaimEvent, ClaimHolder};
use chaperone_core::cover::CoverEvent;
use chaperone_core::event::{Event, StreamId};
use chaperone_core::evidence::Strategy;
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::{AccountName, WritebackId};
use chaperone_core::ports::Clock as _;
use chaperone_core::principal::{Human, Role};
use chaperone_core::{Timestamp, writeback::StateName};
use chaperone_engine::claim::{ClaimFailed, HandTo};
use chaperone_engine::cover::CoverFailed;

use crate::bench::*;
use crate::claims::{account, admin, approve, claim_events, new};
use crate::plausible::{id_of, order, well_and_allergic};
use crate::reviews::waiting_note;

const DAY_S: i64 = 86_400;

fn name(text: &str) -> AccountName {
    AccountName::new(text).unwrap()
}

fn to(text: &str) -> HandTo {
    HandTo::Colleague(name(text))
}

/// A span that begins and ends so many seconds from now.
fn span(bench: &Bench, from_s: i64, until_s: i64) -> (Timestamp, Timestamp) {
    let at = |s: i64| Timestamp::from_second(bench.clock.now().as_second() + s).unwrap();
    (at(from_s), at(until_s))
}

/// The last hand-over: who has it, and who was meant.
async fn handed(bench: &Bench, id: WritebackId) -> (String, Option<String>) {
    match claim_events(bench, id).await.pop() {
        Some(ClaimEvent::HandedOver {
            to: ClaimHolder::Person { account, .. },
            instead_of,
            ..
        }) => (account.to_string(), instead_of.map(|it| it.to_string())),
        other => panic!("{other:?}"),
    }
}

/// Three clinicians, with accounts in use.
async fn clinicians(bench: &Bench, admin: &Human) -> [Human; 3] {
    let one = async |name: &str| account(bench, admin, new(name, None, &[Role::Clinician])).await;
    [
        one("dr-lee").await,
        one("dr-kim").await,
        one("dr-sam").await,
    ]
}

pub(crate) async fn what_is_handed_to_somebody_who_is_away_goes_to_whoever_covers(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let engine = bench.engine.clone();
    let admin = admin(&bench).await;
    let [lee, kim, sam] = clinicians(&bench, &admin).await;
    let id = waiting_note(&bench).await;
    let hand = async |by: &Human, whom: &str| {
        let handed = engine.hand_over(by, id, to(whom), "for you").await;
        handed.map_err(|failed| failed.to_string())
    };
    let choices = async |by: &Human| {
        let choices = engine.hand_choices(by, id).await.unwrap();
        let shown = choices.colleagues.into_iter().map(|one| {
            let cover = one.cover.map(|cover| cover.to_string());
            (one.account.to_string(), cover)
        });
        shown.collect::<Vec<_>>()
    };
    let plain = |name: &str| (name.to_owned(), None);
    let covered = |name: &str, cover: &str| (name.to_owned(), Some(cover.to_owned()));
    let set = async |away: &Human, cover: &str, span| {
        let set = engine
            .cover_set(away, &away.account, &name(cover), span)
            .await;
        set.unwrap();
    };

    // From tomorrow on: today it is handed to whom it says.
    set(&kim, "dr-sam", span(&bench, DAY_S, 2 * DAY_S)).await;
    assert_eq!(choices(&lee).await, [plain("dr-kim"), plain("dr-sam")]);
    hand(&lee, "dr-kim").await.unwrap();
    assert_eq!(handed(&bench, id).await, ("dr-kim".to_owned(), None));
    engine.release_claim(&kim, id).await.unwrap();

    set(&kim, "dr-sam", span(&bench, 0, DAY_S)).await;
    assert_eq!(engine.covers().await.unwrap().len(), 1);
    assert_eq!(
        choices(&lee).await,
        [covered("dr-kim", "dr-sam"), plain("dr-sam")]
    );
    hand(&lee, "dr-kim").await.unwrap();
    let expected = ("dr-sam".to_owned(), Some("dr-kim".to_owned()));
    assert_eq!(handed(&bench, id).await, expected);
    assert!(engine.claims(&sam).await.unwrap()[&id].yours);
    assert!(!engine.claims(&kim).await.unwrap()[&id].yours);
    // Handed on to somebody who is away, by whoever covers for them: it would come back to themselves.
    assert_eq!(choices(&sam).await, [plain("dr-lee")]);
    assert!(hand(&sam, "dr-kim").await.is_err());
    engine.release_claim(&sam, id).await.unwrap();

    // Both away: it lies with neither.
    set(&sam, "dr-lee", span(&bench, 0, DAY_S)).await;
    let refused = engine.hand_over(&lee, id, to("dr-kim"), "for you").await;
    assert!(matches!(refused, Err(ClaimFailed::BothAway)), "{refused:?}");
    assert_eq!(choices(&lee).await, []);
    engine.cover_end(&sam, &sam.account).await.unwrap();
    hand(&lee, "dr-kim").await.unwrap();
    assert_eq!(handed(&bench, id).await, expected);
    engine.release_claim(&sam, id).await.unwrap();
    // Its time is up.
    bench.clock.advance_s(DAY_S - 60);
    assert_eq!(engine.covers().await.unwrap().len(), 1);
    bench.clock.advance_s(60);
    assert!(engine.covers().await.unwrap().is_empty());
    assert_eq!(choices(&lee).await, [plain("dr-kim"), plain("dr-sam")]);

    let recorded = bench.recorded().await;
    let of_sam = recorded.iter().filter_map(|it| match &it.event {
        Event::Cover(event) if it.stream == StreamId::Account(sam.account.clone()) => Some(event),
        _ => None,
    });
    let of_sam: Vec<&CoverEvent> = of_sam.collect();
    assert!(
        matches!(of_sam.as_slice(), [CoverEvent::Set { cover, .. }, CoverEvent::Ended] if cover.as_str() == "dr-lee"),
        "{of_sam:?}"
    );
}

pub(crate) async fn cover_gives_no_right_to_decide(db: Db) {
    let bench = bench_on(db, Strategy::Conditional).await;
    let engine = bench.engine.clone();
    let admin = admin(&bench).await;
    let [lee, kim, sam] = clinicians(&bench, &admin).await;
    let (_, (agent, prior)) = well_and_allergic(&bench).await;
    // An order that two must agree to, asked for by somebody who then covers for one of those who could.
    let mut envelope = (*agent.envelope).clone();
    let presence = envelope.presence.as_mut().unwrap();
    presence.person = lee.person;
    let asked = chaperone_engine::open_envelope::Caller {
        envelope: std::sync::Arc::new(envelope),
    };
    let answer = order(&bench, &(asked, prior), "allergic", 20.0).await;
    let id = id_of(&answer);
    assert_eq!(
        bench.row(id).await.gate.unwrap().level(),
        GateLevel::TwoPerson
    );
    assert_eq!(bench.row(id).await.requester, Some(lee.person));
    let week = span(&bench, 0, 7 * DAY_S);
    engine
        .cover_set(&kim, &kim.account, &lee.account, week)
        .await
        .unwrap();
    let refused = engine.hand_over(&sam, id, to("dr-kim"), "for you").await;
    assert!(
        matches!(refused, Err(ClaimFailed::NotTheirs)),
        "{refused:?}"
    );
    let choices = engine.hand_choices(&sam, id).await.unwrap();
    assert!(choices.colleagues.is_empty(), "{choices:?}");
    // Neither for themselves nor in place of whom they cover for.
    assert!(engine.claim(&lee, id).await.is_err());
    assert!(approve(&bench, &lee, id).await.is_err());
    assert_eq!(bench.state(id).await, StateName::AwaitingApproval);
    // Whoever is not away takes it as ever, and whoever is away still may.
    engine.claim(&kim, id).await.unwrap();
}

pub(crate) async fn who_covers_is_said_by_whoever_goes_away_or_an_administrator(db: Db) {
    use CoverFailed as F;
    let bench = bench_on(db, Strategy::Conditional).await;
    let engine = bench.engine.clone();
    let admin = admin(&bench).await;
    let [lee, kim, _] = clinicians(&bench, &admin).await;
    let own = new("dr-lee-two", Some(lee.person), &[Role::Clinician]);
    let lee_two = account(&bench, &admin, own).await;
    account(&bench, &admin, new("nurse-ana", None, &[Role::Rn])).await;
    let both = [Role::Clinician, Role::Trainee];
    account(&bench, &admin, new("trainee-bo", None, &both)).await;
    engine
        .create_account(&admin, new("not-here-yet", None, &[Role::Clinician]))
        .await
        .unwrap();
    let day = span(&bench, 0, DAY_S);
    let set = async |by: &Human, away: &str, cover: &str, span| {
        engine.cover_set(by, &name(away), &name(cover), span).await
    };
    for (by, away, cover, wrong) in [
        (&kim, "dr-lee", "dr-kim", F::NotPermitted),
        (&lee, "dr-lee", "dr-lee-two", F::SamePerson),
        (&lee, "dr-lee", "nurse-ana", F::OtherRoles),
        (&lee, "dr-lee", "trainee-bo", F::OtherRoles),
        (&lee, "dr-lee", "not-here-yet", F::Unknown),
        (&lee, "dr-lee", "nobody", F::Unknown),
        (&lee, "nobody", "dr-kim", F::Unknown),
    ] {
        let refused = set(by, away, cover, day).await.unwrap_err();
        assert_eq!(refused.to_string(), wrong.to_string(), "{away} {cover}");
    }
    for (from, until) in [(0, 0), (DAY_S, 0), (-DAY_S, 0), (0, 61 * DAY_S)] {
        let refused = set(&lee, "dr-lee", "dr-kim", span(&bench, from, until)).await;
        assert!(matches!(refused, Err(F::Times)), "{from} {until}");
    }
    assert!(engine.covers().await.unwrap().is_empty());
    let ended = engine.cover_end(&lee, &lee.account).await;
    assert!(matches!(ended, Err(F::Missing)));

    set(&lee, "dr-lee", "dr-kim", day).await.unwrap();
    let not_theirs = engine.cover_end(&kim, &lee.account).await;
    assert!(matches!(not_theirs, Err(F::NotPermitted)));
    // Under another account of theirs, and by an administrator, who is named.
    engine.cover_end(&lee_two, &lee.account).await.unwrap();
    set(&admin, "dr-lee", "dr-sam", day).await.unwrap();
    let covers = engine.covers().await.unwrap();
    let [one] = covers.as_slice() else { panic!() };
    assert_eq!((one.cover.as_str(), one.by.as_str()), ("dr-sam", "admin"));
    // What is said last counts.
    set(&lee, "dr-lee", "dr-kim", day).await.unwrap();
    let covers = engine.covers().await.unwrap();
    assert_eq!(covers.len(), 1);
    assert_eq!(covers[0].cover.as_str(), "dr-kim");
}
