//! Launches against the sandbox's authorization server: who somebody is counts once, for one launch, signed by the
//! server that was asked, and nothing near it counts.

use std::sync::Arc;

use chaperone_connect::egress::Gate;
use chaperone_connect::launch::{EhrLaunch, EhrLaunchConfig, ServerAddresses};
use chaperone_connect::random::OsRandom;
use chaperone_connect::smart::SmartAlgorithm;
use chaperone_core::launch::{AuthorizationAsked, CodeGiven, LaunchServerFailed};
use chaperone_core::phi::ExposedFor;
use chaperone_core::ports::{Clock, LaunchServer};
use chaperone_sandbox::{
    IdentityFlaw, LaunchClient, OpenInEhr, RunningSandbox, Sandbox, SandboxConfig, ServerProfile,
};
use url::Url;
use zeroize::Zeroizing;

use crate::backend_services::{Key, key};
use crate::support::{HandClock, gate, install_tls};

const REDIRECT: &str = "http://127.0.0.1:1/console/launch/return";
const VERIFIER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// The SHA-256 of the verifier, in base 64 for addresses.
const CHALLENGE: &str = "qK5ubukpq-o6_PxSWMjM1vhSc-DUYm0mxyefMlD3fI4";

struct House {
    sandbox: RunningSandbox,
    clock: Arc<HandClock>,
    key: Key,
    browser: reqwest::Client,
}

impl House {
    async fn new() -> Self {
        install_tls();
        let clock = HandClock::new();
        let key = key();
        let client = LaunchClient {
            client_id: "chaperone-launch".to_owned(),
            jwks: key.jwks.clone(),
            launch_url: "http://127.0.0.1:1/console/launch".to_owned(),
            redirect_uri: REDIRECT.to_owned(),
        };
        let now = Arc::clone(&clock);
        let config = SandboxConfig::new(ServerProfile::Full, Arc::new(move || now.now()));
        let sandbox = Sandbox::start(config.with_launch(client)).await.unwrap();
        let browser = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self {
            sandbox,
            clock,
            key,
            browser,
        }
    }

    fn config(&self) -> EhrLaunchConfig {
        EhrLaunchConfig {
            base_url: self.sandbox.base_url.clone(),
            client_id: "chaperone-launch".to_owned(),
            key_id: "k1".to_owned(),
            key_pem: Zeroizing::new(self.key.pem.clone()),
            algorithm: SmartAlgorithm::Es384,
            server: None,
            extra_root_pem: None,
        }
    }

    fn server_of(&self, config: EhrLaunchConfig, gate: &Gate) -> EhrLaunch {
        EhrLaunch::new(config, gate, self.clock.clone(), Arc::new(OsRandom)).unwrap()
    }

    fn server(&self) -> EhrLaunch {
        self.server_of(self.config(), &gate())
    }

    fn origin(&self) -> String {
        self.sandbox.base_url.trim_end_matches("/fhir").to_owned()
    }

    /// Presses the button and goes through the authorization server: the query that comes back.
    async fn through(
        &self,
        server: &EhrLaunch,
        flaw: Option<IdentityFlaw>,
    ) -> Vec<(String, String)> {
        let open = OpenInEhr {
            user: "Practitioner/p1".to_owned(),
            patient: Some("pat-1".to_owned()),
            app_context: Some("wb_01".to_owned()),
        };
        let button = self.sandbox.handle.open_launch(open, flaw).unwrap();
        let given = pairs(&button);
        assert!(server.is_issuer(&value(&given, "iss").unwrap()));
        let asked = AuthorizationAsked {
            launch: value(&given, "launch").unwrap(),
            redirect_uri: REDIRECT.to_owned(),
            state: "the-state".to_owned(),
            nonce: "the-nonce".to_owned(),
            challenge: CHALLENGE.to_owned(),
        };
        let to = server.authorization_url(&asked).await.unwrap();
        let answer = self.browser.get(to).send().await.unwrap();
        assert_eq!(answer.status(), 303, "{:?}", answer.text().await);
        let back = answer.headers()["location"].to_str().unwrap().to_owned();
        assert!(back.starts_with(REDIRECT));
        let back = pairs(&back);
        assert_eq!(value(&back, "state").as_deref(), Some("the-state"));
        back
    }
}

fn pairs(address: &str) -> Vec<(String, String)> {
    let url = Url::parse(address).unwrap();
    url.query_pairs().into_owned().collect()
}

fn value(pairs: &[(String, String)], name: &str) -> Option<String> {
    let mut all = pairs.iter().filter(|(one, _)| one == name);
    all.next().map(|(_, value)| value.clone())
}

fn given(back: &[(String, String)]) -> CodeGiven {
    CodeGiven {
        code: value(back, "code").unwrap(),
        issuer: value(back, "iss"),
        redirect_uri: REDIRECT.to_owned(),
        verifier: VERIFIER.to_owned(),
        nonce: "the-nonce".to_owned(),
    }
}

#[tokio::test]
async fn a_code_says_once_who_came_and_what_is_open() {
    let house = House::new().await;
    let server = house.server();
    server.check().await.unwrap();
    let back = house.through(&server, None).await;
    let context = server.redeem(&given(&back)).await.unwrap();
    let user = format!("{}/Practitioner/p1", house.sandbox.base_url);
    assert_eq!(context.user, user);
    let patient = context.patient.unwrap();
    assert_eq!(patient.expose(ExposedFor::Comparison), "pat-1");
    assert_eq!(context.app_context.as_deref(), Some("wb_01"));
    // The code counted once.
    let again = server.redeem(&given(&back)).await;
    assert_eq!(again, Err(LaunchServerFailed::CodeRefused));
}

#[tokio::test]
async fn a_code_is_worth_nothing_without_what_it_was_asked_for_with() {
    let house = House::new().await;
    let server = house.server();
    for change in [
        (|code: &mut CodeGiven| code.verifier = VERIFIER.replace('0', "1")) as fn(&mut CodeGiven),
        |code| code.redirect_uri = format!("{REDIRECT}/"),
        |code| code.code.push('x'),
    ] {
        let back = house.through(&server, None).await;
        let mut code = given(&back);
        change(&mut code);
        let refused = server.redeem(&code).await;
        assert_eq!(refused, Err(LaunchServerFailed::CodeRefused));
    }
    // Another key than the registered one.
    let back = house.through(&server, None).await;
    let mut config = house.config();
    config.key_pem = Zeroizing::new(key().pem);
    let stranger = house.server_of(config, &gate());
    let refused = stranger.redeem(&given(&back)).await;
    assert_eq!(refused, Err(LaunchServerFailed::CodeRefused));
    // It was not used up by that, and its time is short.
    house.clock.advance_s(301);
    let late = server.redeem(&given(&back)).await;
    assert_eq!(late, Err(LaunchServerFailed::CodeRefused));
}

#[tokio::test]
async fn an_answer_of_another_server_is_not_taken_to_this_one() {
    let house = House::new().await;
    let server = house.server();
    let back = house.through(&server, None).await;
    let other = Some("https://elsewhere.example".to_owned());
    for issuer in [None, other] {
        let mut code = given(&back);
        code.issuer = issuer;
        let refused = server.redeem(&code).await;
        assert_eq!(refused, Err(LaunchServerFailed::OtherIssuer));
    }
    // Nothing was sent with it, so the code still counts.
    assert!(server.redeem(&given(&back)).await.is_ok());
}

#[tokio::test]
async fn an_identity_with_one_flaw_is_nobodys() {
    use IdentityFlaw as F;
    let house = House::new().await;
    let server = house.server();
    for (flaw, why) in [
        (F::OtherNonce, "another launch"),
        (F::OtherAudience, "another client"),
        (F::OtherParty, "another client"),
        (F::OtherIssuer, "another issuer"),
        (F::Expired, "has expired"),
        (F::Future, "from the future"),
        (F::OtherKey, "signature does not fit"),
        (F::Unsigned, "no signed token"),
        (F::SharedSecret, "algorithm that is not taken"),
        (F::NoUser, "lacks what it must say"),
    ] {
        let back = house.through(&server, Some(flaw)).await;
        match server.redeem(&given(&back)).await {
            Err(LaunchServerFailed::Identity(said)) => {
                assert!(said.contains(why), "{flaw:?}: {said}");
            }
            other => panic!("{flaw:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn only_the_connected_ehr_launches_and_only_its_server_is_asked() {
    let house = House::new().await;
    let server = house.server();
    let base = &house.sandbox.base_url;
    assert!(server.is_issuer(base) && server.is_issuer(&format!("{base}/")));
    for other in [
        format!("{base}x"),
        format!("{base}//"),
        base.replace("/fhir", "/FHIR"),
        base.replace("127.0.0.1", "127.0.0.1.elsewhere.example"),
        format!("https://elsewhere.example/?{base}"),
        String::new(),
    ] {
        assert!(!server.is_issuer(&other), "{other}");
    }
    // Declared addresses take the place of those that the EHR names; its identities then name another issuer.
    let mut config = house.config();
    let origin = house.origin();
    config.server = Some(ServerAddresses {
        issuer: "https://declared.example".to_owned(),
        authorize_url: format!("{origin}/oauth/authorize"),
        token_url: format!("{origin}/oauth/token"),
        jwks_url: format!("{origin}/oauth/jwks"),
    });
    let declared = house.server_of(config.clone(), &gate());
    let back = house.through(&declared, None).await;
    let refused = declared.redeem(&given(&back)).await;
    assert_eq!(refused, Err(LaunchServerFailed::OtherIssuer));
    let mut code = given(&back);
    code.issuer = None;
    let refused = declared.redeem(&code).await;
    assert!(
        matches!(refused, Err(LaunchServerFailed::Identity(_))),
        "{refused:?}"
    );
    // A browser is sent nowhere that the gate would not let us go, and no plain address elsewhere is taken.
    let addresses = config.server.as_mut().unwrap();
    addresses.authorize_url = "https://elsewhere.example/authorize".to_owned();
    let astray = house.server_of(config.clone(), &gate());
    assert_eq!(astray.check().await, Err(LaunchServerFailed::NotAvailable));
    config.server.as_mut().unwrap().token_url = "http://elsewhere.example/token".to_owned();
    let plain = EhrLaunch::new(config, &gate(), house.clock.clone(), Arc::new(OsRandom));
    assert!(plain.is_err());
}

#[tokio::test]
async fn a_server_that_is_gone_or_offers_no_launches_is_not_available() {
    let house = House::new().await;
    let server = house.server();
    let now = house.clock.clone();
    let config = SandboxConfig::new(ServerProfile::Full, Arc::new(move || now.now()));
    let without = Sandbox::start(config).await.unwrap();
    let mut config = house.config();
    config.base_url.clone_from(&without.base_url);
    let none = house.server_of(config, &gate());
    assert_eq!(none.check().await, Err(LaunchServerFailed::NotAvailable));
    house.sandbox.stop().await;
    assert_eq!(server.check().await, Err(LaunchServerFailed::NotAvailable));
}
