//! From the EHR's button to the patient's queue, over HTTP: the sandbox's authorization server, the configuration file,
//! a real server, and what is left behind; on both databases.

use std::fs;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chaperone_sandbox::{LaunchClient, Sandbox, SandboxConfig, ServerProfile};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cluster;
use crate::console::Person;
use crate::ehr;
use crate::export::last_export;
use crate::installation::{Installation, Settings, chaperone};
use crate::needle::FAMILY;
use crate::searched::{addresses_at, nothing_is_left};
use crate::wire::Wire;

/// Where the EHR is, until it is known.
const NOWHERE: &str = "http://127.0.0.1:1/fhir";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sqlite_a_button_in_the_ehr_leads_to_the_patients_queue() {
    launched("sqlite:data/chaperone.db").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_postgres_a_button_in_the_ehr_leads_to_the_patients_queue() {
    let url = tokio::task::spawn_blocking(cluster::fresh_url).await;
    launched(&url.unwrap()).await;
}

async fn launched(store: &str) {
    let mut settings = Settings::new(store, NOWHERE, "full");
    settings.further = r#"
[ehr.launch]
client_id = "chaperone-launch"
key_id = "k1"
key_file = "launch.pem"
algorithm = "ES384"
users = [{ practitioner = "Practitioner/ana", account = "dr-ana" }]
[[ehr.launch.card_clients]]
issuer = "https://ehr.example"
jwks_file = "cards.jwks.json"
"#
    .to_owned();
    let installation = Installation::new(&settings);
    let base = installation.base_url.clone();
    let (launch_key, cards_key) = (Key::new(), Key::new());
    let home = installation.home();
    fs::write(home.join("launch.pem"), launch_key.pem()).unwrap();
    fs::write(home.join("cards.jwks.json"), cards_key.jwks.to_string()).unwrap();
    let client = LaunchClient {
        client_id: "chaperone-launch".to_owned(),
        jwks: launch_key.jwks.clone(),
        launch_url: format!("{base}/console/launch"),
        redirect_uri: format!("{base}/console/launch/return"),
    };
    let config = SandboxConfig::new(ServerProfile::Full, Arc::new(Timestamp::now));
    let sandbox = Sandbox::start(config.with_launch(client)).await.unwrap();
    let mrn = ehr::add_patient(&sandbox, 1);
    ehr::add_patient(&sandbox, 2);
    let text = fs::read_to_string(installation.config()).unwrap();
    fs::write(
        installation.config(),
        text.replace(NOWHERE, &sandbox.base_url),
    )
    .unwrap();

    let server = installation.start().await;
    let doctor = chaperone(&[
        "doctor".as_ref(),
        "--json".as_ref(),
        "--config".as_ref(),
        installation.config().as_os_str(),
    ]);
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    assert!(
        doctor.contains("the authorization server answers; 1 users are linked"),
        "{doctor}"
    );
    let wire = Wire::new(&base);
    let log = fs::read_to_string(installation.log()).unwrap();
    let admin = Person::set_up(&wire, &log, &["clinician"]).await;
    let ana = admin.invite("dr-ana", &["clinician"]).await;
    ana.assign(&mrn, "scribe-agent", "draft-note").await;

    let known = arrive(&sandbox.base_url, &base, "ana", "kill-1").await;
    let (place, page) = known.unwrap();
    assert!(place.starts_with("/console/patients/"), "{place}");
    assert!(page.contains(FAMILY), "{page}");
    let unknown = arrive(&sandbox.base_url, &base, "ana", "kill-2").await;
    let (place, page) = unknown.unwrap();
    assert_eq!(place, "/console/launch/nothing");
    assert!(!page.contains(FAMILY));
    let stranger = arrive(&sandbox.base_url, &base, "lee", "kill-1").await;
    let refused = stranger.unwrap_err();
    assert!(refused.contains("No account here is linked"), "{refused}");

    // Nothing waits for anybody: no card, to whoever signs; and no answer to anybody else.
    let service = format!("{base}/cds-services/waiting-proposals");
    let token = cards_key.token(&service);
    for (token, status) in [(token.as_str(), 200), (token.as_str(), 401), ("x", 401)] {
        let question = json!({
            "hook": "patient-view", "hookInstance": "1", "fhirServer": sandbox.base_url,
            "context": { "userId": "Practitioner/ana", "patientId": "kill-1" },
        });
        let answer = browser().post(&service).bearer_auth(token).json(&question);
        let answer = answer.send().await.unwrap();
        assert_eq!(answer.status(), status);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(status == 200, body == json!({ "cards": [] }), "{body}");
    }

    let export = last_export(&installation, server).await;
    let of = |what: &str| {
        let is = |it: &&Value| it["event"]["kind"] == "launch" && it["event"]["what"] == what;
        export.events.iter().filter(is).count()
    };
    assert_eq!((of("entered"), of("refused")), (2, 1));
    let name = format!("launches, {}", store.split(':').next().unwrap_or_default());
    nothing_is_left(&name, &installation, &addresses_at(&sandbox), &ehr::ADDED);
    sandbox.stop().await;
}

/// A browser that keeps no cookies of its own and follows nothing by itself.
fn browser() -> reqwest::Client {
    crate::installation::install_cryptography();
    let stays = reqwest::redirect::Policy::none();
    reqwest::Client::builder().redirect(stays).build().unwrap()
}

/// Presses the button in the EHR and follows: where it leads, and that page; or the page that refuses.
async fn arrive(
    ehr: &str,
    base: &str,
    user: &str,
    patient: &str,
) -> Result<(String, String), String> {
    let browser = browser();
    let went = async |address: &str, cookie: &str| {
        let answer = browser.get(address).header("cookie", cookie);
        let answer = answer.send().await.unwrap();
        let headers = answer.headers().clone();
        let said = |name: &str| {
            let value = headers.get(name).map(|it| it.to_str().unwrap());
            value.unwrap_or_default().to_owned()
        };
        (
            said("location"),
            said("set-cookie"),
            answer.text().await.unwrap(),
        )
    };
    let origin = ehr.trim_end_matches("/fhir");
    let button = format!("{origin}/oauth/launcher?user=Practitioner/{user}&patient={patient}");
    let (launch, _, _) = went(&button, "").await;
    assert!(launch.starts_with(&format!("{base}/console/launch?iss=")));
    let (authorize, cookie, _) = went(&launch, "").await;
    assert!(authorize.starts_with(&format!("{origin}/oauth/authorize?")));
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let (back, _, said) = went(&authorize, "").await;
    assert!(
        back.starts_with(&format!("{base}/console/launch/return?")),
        "{said}"
    );
    let (_, _, page) = went(&back, &cookie).await;
    let Some((_, rest)) = page.split_once("name=\"ticket\" value=\"") else {
        return Err(page);
    };
    let ticket = rest.split('"').next().unwrap();
    let entered = browser
        .post(format!("{base}/console/launch/enter"))
        .header("cookie", &cookie)
        .form(&[("ticket", ticket)])
        .send()
        .await
        .unwrap();
    let place = entered.headers()["location"].to_str().unwrap().to_owned();
    let session = entered.headers()["set-cookie"].to_str().unwrap();
    let session = session.split(';').next().unwrap().to_owned();
    let (_, _, page) = went(&format!("{base}{place}"), &session).await;
    Ok((place, page))
}

/// A key on P-384, and its public half.
struct Key {
    der: Vec<u8>,
    jwks: Value,
}

impl Key {
    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
        let point = pair.public_key().as_ref();
        let jwks = json!({ "keys": [{
            "kty": "EC", "crv": "P-384", "use": "sig", "alg": "ES384", "kid": "k1",
            "x": URL_SAFE_NO_PAD.encode(&point[1..49]), "y": URL_SAFE_NO_PAD.encode(&point[49..97]),
        }] });
        let der = pair.to_pkcs8v1().unwrap().as_ref().to_vec();
        Self { der, jwks }
    }

    fn pem(&self) -> String {
        let body = STANDARD.encode(&self.der);
        format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")
    }

    fn token(&self, audience: &str) -> String {
        let now = Timestamp::now().as_second();
        let claims = json!({
            "iss": "https://ehr.example", "aud": audience, "iat": now, "exp": now + 120, "jti": "1",
        });
        let header = json!({ "alg": "ES384", "typ": "JWT", "kid": "k1" });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!("{}.{}", part(&header), part(&claims));
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &self.der).unwrap();
        let signature = pair.sign(&SystemRandom::new(), said.as_bytes()).unwrap();
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}
