//! Passkeys at the console: set up, used for an approval, added and removed. What each check refuses is with the
//! engine's tests; here it is that pages ask for the right thing and forms carry it.

use axum::http::StatusCode;
use chaperone_core::ids::AccountName;
use chaperone_core::principal::Role;
use chaperone_engine::people::{AssertionSent, CreationSent, NewAccount, Password, PasswordHash};
use chaperone_testkit::SoftKey;

use super::bench::{Answer, Bench, ORIGIN, PASSWORD, Someone};

fn key(seed: u8) -> SoftKey {
    SoftKey::new(seed, "localhost", ORIGIN)
}

/// What the script would put into a form after a key was used.
fn with_key<'a>(csrf: &'a str, sent: &'a AssertionSent) -> Vec<(&'a str, &'a str)> {
    vec![
        ("csrf", csrf),
        ("method", "passkey"),
        ("credential", &sent.credential),
        ("client_data", &sent.client_data),
        ("authenticator_data", &sent.authenticator_data),
        ("signature", &sent.signature),
    ]
}

fn new_key<'a>(csrf: &'a str, name: &'a str, sent: &'a CreationSent) -> Vec<(&'a str, &'a str)> {
    vec![
        ("csrf", csrf),
        ("name", name),
        ("client_data", &sent.client_data),
        ("authenticator_data", &sent.authenticator_data),
    ]
}

fn challenge(page: &Answer) -> String {
    page.after("data-challenge=\"").to_owned()
}

/// Somebody whose one second factor is a passkey, set up at the console.
async fn with_passkey(bench: &Bench, admin: &Someone, name: &str, key: &SoftKey) -> Someone {
    let account = NewAccount {
        name: AccountName::new(name).unwrap(),
        person: None,
        roles: vec![Role::Clinician],
    };
    let code = bench
        .engine
        .create_account(&admin.human, account)
        .await
        .unwrap();
    let password = Password::chosen(PASSWORD.to_owned()).unwrap();
    let hash = PasswordHash::make(&password, [3; 16]).unwrap();
    let human = bench.engine.enrol(name, &code, hash).await.unwrap();
    let session = bench.engine.sign_in_enrolled(&human).await.unwrap();
    let cookie = format!("chaperone={}", session.token);
    let page = bench.get("/console/second-factor", &cookie).await;
    assert!(
        page.body.contains("data-passkey=\"create\" data-challenge"),
        "{}",
        page.body
    );
    let csrf = page.after("name=\"csrf\" value=\"").to_owned();
    let sent = key.create(&challenge(&page));
    let to = "/console/second-factor/passkey";
    let nameless = bench.post(to, &cookie, &new_key(&csrf, " ", &sent)).await;
    assert_eq!(nameless.status, StatusCode::UNPROCESSABLE_ENTITY);
    let sent = key.create(&challenge(&nameless));
    let done = bench
        .post(to, &cookie, &new_key(&csrf, "Office", &sent))
        .await;
    assert_eq!(done.location(), "/console?done=enrolled", "{}", done.body);
    Someone {
        human,
        secret: [0; 20],
        cookie,
        csrf,
    }
}

#[tokio::test]
async fn a_person_with_a_passkey_alone_approves_an_order_with_it() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let mut own = key(1);
    let lee = with_passkey(&bench, &admin, "dr-lee", &own).await;
    let id = bench.order(&lee, "lisinopril").await;
    let path = format!("/console/writebacks/{id}");
    let page = bench.get(&path, &lee.cookie).await;
    let digest = page.after("name=\"digest\" value=\"").to_owned();
    let form = [
        ("csrf", lee.csrf.as_str()),
        ("digest", digest.as_str()),
        ("opened", "0"),
        ("override", "benefit-outweighs"),
    ];
    let begun = bench
        .post(&format!("{path}/approve"), &lee.cookie, &form)
        .await;
    let step = begun.location().to_owned();
    assert!(
        step.starts_with(&format!("{path}/step-up/step_")),
        "{}",
        begun.body
    );
    let asked = bench.get(&step, &lee.cookie).await;
    assert!(asked.body.contains("Approve with passkey"));
    assert!(asked.body.contains(&format!(
        "data-rp-id=\"localhost\" data-allow=\"{}\"",
        own.credential()
    )));
    assert!(!asked.body.contains("name=\"code\""), "no app is set up");

    // Without the script nothing was signed; a code there is none of; a key that did not ask for a finger.
    let nothing = AssertionSent::default();
    let mut empty = with_key(&lee.csrf, &nothing);
    empty.push(("opened", "0"));
    let refused = bench.post(&step, &lee.cookie, &empty).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(refused.body.contains("role=\"alert\""));
    let mut careless = own.clone();
    careless.verifies = false;
    let sent = careless.get(&challenge(&refused));
    let refused = bench
        .post(&step, &lee.cookie, &with_key(&lee.csrf, &sent))
        .await;
    assert!(
        refused.body.contains("did not check who you are"),
        "{}",
        refused.body
    );

    let sent = own.get(&challenge(&refused));
    let mut form = with_key(&lee.csrf, &sent);
    form.extend([("opened", "0"), ("override", "benefit-outweighs")]);
    let done = bench.post(&step, &lee.cookie, &form).await;
    assert_eq!(
        done.location(),
        format!("{path}?done=approved"),
        "{}",
        done.body
    );
    let page = bench.get(&path, &lee.cookie).await;
    assert!(page.body.contains("Approved as clinician, with a passkey"));
    // The same answer once more.
    let again = bench.post(&step, &lee.cookie, &form).await;
    assert_eq!(again.status, StatusCode::CONFLICT, "{}", again.body);
}

#[tokio::test]
async fn keys_are_added_named_and_removed_on_the_account_page() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let (mut first, second) = (key(1), key(2));
    let lee = with_passkey(&bench, &admin, "dr-lee", &first).await;
    let page = bench.get("/console/account", &lee.cookie).await;
    assert!(page.body.contains(">Office<") && page.body.contains("not used yet"));
    let credential = page.after("name=\"credential\" value=\"").to_owned();

    // Adding asks for a factor; the page behind it is of no use before that.
    let begin = [("csrf", lee.csrf.as_str()), ("change", "add")];
    let confirm = bench
        .post("/console/account/passkeys", &lee.cookie, &begin)
        .await;
    let confirm = confirm.location().to_owned();
    let add = confirm.replace("confirm", "add").replace("?change=add", "");
    let early = bench.get(&add, &lee.cookie).await;
    let sent = second.create(&challenge(&early));
    let refused = bench
        .post(&add, &lee.cookie, &new_key(&lee.csrf, "Phone", &sent))
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    // Nor does a factor asked for adding confirm a removal.
    let crossed = confirm.replace(
        "change=add",
        &format!("change=remove&credential={credential}"),
    );
    let crossed = bench.get(&crossed, &lee.cookie).await;
    assert_eq!(crossed.status, StatusCode::NOT_FOUND);

    let asked = bench.get(&confirm, &lee.cookie).await;
    let sent = first.get(&challenge(&asked));
    let confirmed = bench
        .post(&confirm, &lee.cookie, &with_key(&lee.csrf, &sent))
        .await;
    assert_eq!(confirmed.location(), add, "{}", confirmed.body);
    let offered = bench.get(&add, &lee.cookie).await;
    assert!(
        offered
            .body
            .contains(&format!("data-exclude=\"{}\"", first.credential()))
    );
    let sent = second.create(&challenge(&offered));
    let name = "<b>Phone</b>";
    let added = bench
        .post(&add, &lee.cookie, &new_key(&lee.csrf, name, &sent))
        .await;
    assert_eq!(
        added.location(),
        "/console/account?done=passkey-added",
        "{}",
        added.body
    );
    let page = bench.get("/console/account", &lee.cookie).await;
    assert!(
        page.body.contains("Phone") && !page.body.contains(name),
        "names are text"
    );

    // Removing the first with the second.
    let begin = [
        ("csrf", lee.csrf.as_str()),
        ("change", "remove"),
        ("credential", credential.as_str()),
    ];
    let confirm = bench
        .post("/console/account/passkeys", &lee.cookie, &begin)
        .await;
    let confirm = confirm.location().to_owned();
    let asked = bench.get(&confirm, &lee.cookie).await;
    assert!(asked.body.contains("Office"));
    let mut second = second;
    let sent = second.get(&challenge(&asked));
    let removed = bench
        .post(&confirm, &lee.cookie, &with_key(&lee.csrf, &sent))
        .await;
    assert_eq!(
        removed.location(),
        "/console/account?done=passkey-removed",
        "{}",
        removed.body
    );
    let page = bench.get("/console/account", &lee.cookie).await;
    assert!(!page.body.contains(">Office<"));
    // Nobody else sees or changes them.
    let kim = bench.person(&admin, "dr-kim", &[Role::Clinician]).await;
    let theirs = bench.get("/console/account", &kim.cookie).await;
    assert!(!theirs.body.contains("Phone"));
    let foreign = bench.get(&confirm, &kim.cookie).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert!(!foreign.body.contains("Phone") && !foreign.body.contains("data-challenge"));
}

#[tokio::test]
async fn an_administrator_with_a_passkey_is_asked_for_it_at_sign_in() {
    let bench = Bench::new().await;
    let admin = bench.admin().await;
    let mut own = key(1);
    // A second administrator, by way of the first one's account page being of no use to others.
    let ada = with_passkey(&bench, &admin, "dr-ada", &own).await;
    assert!(ada.csrf.len() == 64);
    let sign_in = |account: &'static str, password: &'static str| {
        [("account", account), ("password", password), ("code", "")]
    };
    // A clinician's sign-in takes none.
    let clinician = bench
        .post("/console/sign-in", "", &sign_in("dr-ada", PASSWORD))
        .await;
    assert_eq!(clinician.location(), "/console");
    // The administrator adds a key beside the app, and is asked for it.
    let begin = [("csrf", admin.csrf.as_str()), ("change", "add")];
    let confirm = bench
        .post("/console/account/passkeys", &admin.cookie, &begin)
        .await;
    let code = bench.code(&admin);
    let form = [("csrf", admin.csrf.as_str()), ("code", code.as_str())];
    let add = bench.post(confirm.location(), &admin.cookie, &form).await;
    let offered = bench.get(add.location(), &admin.cookie).await;
    let mut admins = key(7);
    let sent = admins.create(&challenge(&offered));
    let added = bench
        .post(
            add.location(),
            &admin.cookie,
            &new_key(&admin.csrf, "Desk", &sent),
        )
        .await;
    assert_eq!(added.status, StatusCode::SEE_OTHER, "{}", added.body);

    let wrong = bench
        .post("/console/sign-in", "", &sign_in("admin", "wrong"))
        .await;
    assert!(wrong.status == StatusCode::UNAUTHORIZED && !wrong.body.contains("data-passkey"));
    let asked = bench
        .post("/console/sign-in", "", &sign_in("admin", PASSWORD))
        .await;
    assert_eq!(asked.status, StatusCode::OK);
    assert!(
        asked.headers.get("set-cookie").is_none(),
        "no session before the key"
    );
    let ticket = asked.after("name=\"ticket\" value=\"").to_owned();
    let foreign = own.get(&challenge(&asked));
    let mut form = with_key("", &foreign);
    form.push(("ticket", ticket.as_str()));
    let refused = bench.post("/console/sign-in/passkey", "", &form).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{}", refused.body);
    let asked = bench
        .post("/console/sign-in", "", &sign_in("admin", PASSWORD))
        .await;
    let ticket = asked.after("name=\"ticket\" value=\"").to_owned();
    let sent = admins.get(&challenge(&asked));
    let mut form = with_key("", &sent);
    form.push(("ticket", ticket.as_str()));
    let session = bench.post("/console/sign-in/passkey", "", &form).await;
    assert_eq!(session.location(), "/console", "{}", session.body);
    assert!(session.headers.get("set-cookie").is_some());
    // A code of the app still does.
    bench.clock.advance_s(30);
    let code = bench.code(&admin);
    let form = [
        ("account", "admin"),
        ("password", PASSWORD),
        ("code", code.as_str()),
    ];
    let session = bench.post("/console/sign-in", "", &form).await;
    assert_eq!(session.location(), "/console", "{}", session.body);
}
