//! Content: what says that it identifies nobody is looked at, whatever it is wrapped in; PHI goes to who may have it.

use chaperone_core::egress::{Channel, DataClass, EgressRule};
use lettre::message::Mailbox;
use reqwest::StatusCode;
use reqwest::header::HeaderName;
use serde_json::{Value, json};

use super::surroundings::{Server, client, counted, gate, sent, url, vendor};
use crate::egress::class::{Operational, Phi};
use crate::egress::{FormValue, Gate, MailEncryption, MailFailed, MailServer, MailText};

/// A server of a vendor who may have PHI, one of a vendor who may not, and the gate before both.
async fn two() -> (Server, Server, Gate) {
    let (bound, low_trust) = (Server::new().await, Server::new().await);
    let at = |server: &Server| [format!("http://127.0.0.1:{}", server.port())];
    let gate = gate(vec![
        vendor(
            "bound",
            &at(&bound),
            &[DataClass::Operational, DataClass::Phi],
        ),
        vendor("low-trust", &at(&low_trust), &[DataClass::Operational]),
    ]);
    (bound, low_trust, gate)
}

fn at(server: &Server, path: &str) -> url::Url {
    url(&format!("http://127.0.0.1:{}{path}", server.port()))
}

#[tokio::test]
async fn identifiers_do_not_reach_a_vendor_who_may_not_have_them() {
    let (bound, low_trust, gate) = two().await;
    let hook = client::<Operational>(&gate, Channel::Webhook);
    let note =
        "UGF0aWVudCBKYW5lIERvZSwgTVJOIDEyMzQ1Njc4LCB3YXMgc2VlbiB0b2RheSBmb3IgY2hlc3QgcGFpbi4=";
    let bodies: [(Value, EgressRule); 9] = [
        (
            json!({"text": "Mrs. Theresa Miller waits"}),
            EgressRule::IdentifiersFound,
        ),
        (
            json!({"deep": [{"er": ["MRN: 12345678"]}]}),
            EgressRule::IdentifiersFound,
        ),
        (json!({"mrn": 12_345_678}), EgressRule::IdentifiersFound),
        (
            json!({"phone": "617-555-0148"}),
            EgressRule::IdentifiersFound,
        ),
        (
            json!({"ssn 123-45-6789": true}),
            EgressRule::IdentifiersFound,
        ),
        (
            json!({"text": "born \u{31}2/03/1961"}),
            EgressRule::IdentifiersFound,
        ),
        (
            json!({"mail": "theresa.miller@example.org"}),
            EgressRule::IdentifiersFound,
        ),
        (json!({"note": note}), EgressRule::IdentifiersFound),
        (
            json!({"text": "[NAME-4817203] waits"}),
            EgressRule::TokenUnresolved,
        ),
    ];
    for (body, rule) in bodies {
        let refused = sent(hook.post(at(&low_trust, "/")).json(&body)).await;
        assert_eq!(refused, Err(rule), "{body}");
        // That another vendor may have PHI does not make this operational.
        assert_eq!(
            sent(hook.post(at(&bound, "/")).json(&body)).await,
            Err(rule),
            "{body}"
        );
    }
    let form = [("who", FormValue::Plain("Mrs. Theresa Miller"))];
    let refused = sent(hook.post(at(&low_trust, "/")).form(&form)).await;
    assert_eq!(refused, Err(EgressRule::IdentifiersFound));
    assert_eq!(low_trust.received(), Vec::<String>::new());
    assert_eq!(bound.received(), Vec::<String>::new());

    let neighbour = json!({"text": "somebody waits", "count": 12});
    let passed = sent(hook.post(at(&low_trust, "/")).json(&neighbour)).await;
    assert_eq!(passed, Ok(StatusCode::NO_CONTENT));
    assert!(
        low_trust.received()[0].ends_with("\r\n\r\n{\"text\":\"somebody waits\",\"count\":12}")
    );
}

#[tokio::test]
async fn phi_goes_to_who_may_have_it_and_its_address_says_nothing_of_it() {
    let (bound, low_trust, gate) = two().await;
    let hook = client::<Phi>(&gate, Channel::Webhook);
    let note = "{\"text\":\"Mrs. Theresa Miller, MRN 12345678\"}";
    let refused = sent(hook.post(at(&low_trust, "/")).body(note.to_owned())).await;
    assert_eq!(refused, Err(EgressRule::DataClassNotAllowed));
    assert_eq!(low_trust.received(), Vec::<String>::new());
    let passed = sent(hook.post(at(&bound, "/notes")).body(note.to_owned())).await;
    assert_eq!(passed, Ok(StatusCode::NO_CONTENT));
    assert!(bound.received()[0].ends_with(&format!("\r\n\r\n{note}")));

    for path in [
        "/?mrn=12345678",
        "/Theresa%20Miller/617-555-0148",
        "/?q=%4d%52%4e%3a%2012345678",
        "/notes?phone=617-555-0148",
    ] {
        let refused = sent(hook.post(at(&bound, path)).body(note.to_owned())).await;
        assert_eq!(refused, Err(EgressRule::IdentifiersFound), "{path}");
    }
    let header = HeaderName::from_static("x-about");
    let refused = sent(
        hook.post(at(&bound, "/"))
            .header(header.clone(), "MRN: 12345678"),
    )
    .await;
    assert_eq!(refused, Err(EgressRule::IdentifiersFound));
    let passed = sent(hook.post(at(&bound, "/")).header(header, "a note")).await;
    assert_eq!(passed, Ok(StatusCode::NO_CONTENT));
    assert_eq!(bound.received().len(), 2);
    assert_eq!(
        counted(&gate),
        [
            "webhook phi bound identifiers-found 5",
            "webhook phi bound passed 2",
            "webhook phi low-trust data-class-not-allowed 1",
        ]
    );
}

#[tokio::test]
async fn what_a_token_request_needs_passes_and_a_name_in_its_scope_does_not() {
    let (_, low_trust, gate) = two().await;
    let tokens = client::<Operational>(&gate, Channel::Authorization);
    let request = |scope: &str| {
        let form = [
            ("grant_type", FormValue::Fixed("client_credentials")),
            ("scope", FormValue::Plain(scope)),
            (
                "client_assertion_type",
                FormValue::Fixed("urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ),
            (
                "client_assertion",
                FormValue::Credential("eyJhbGciOiJFUzM4NCJ9.e30.c2ln"),
            ),
        ];
        let customer = "/tenants/ec2458f2-1e24-41c8-b71b-0e701af7583d/token";
        tokens
            .post(at(&low_trust, customer))
            .header(reqwest::header::ACCEPT, "application/json")
            .form(&form)
    };
    let refused = sent(request("system/*.read for Mrs. Theresa Miller")).await;
    assert_eq!(refused, Err(EgressRule::IdentifiersFound));
    assert_eq!(
        sent(request("system/*.read")).await,
        Ok(StatusCode::NO_CONTENT)
    );
    let received = low_trust.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].contains("client_assertion=eyJhbGciOiJFUzM4NCJ9.e30.c2ln"));
}

#[tokio::test]
async fn mail_to_a_patient_goes_where_messages_and_health_information_may() {
    let server = Server::hanging_up().await;
    let hosts = [format!("smtp://127.0.0.1:{}", server.port())];
    let who: Mailbox = "it@clinic.example".parse().unwrap();
    let text = |body: &str| MailText {
        subject: "Your confirmation code".to_owned(),
        body: body.to_owned(),
    };
    let sent = async |channels: &[Channel], classes: &[DataClass], body: &str| {
        let mut post = vendor("post", &hosts, classes);
        post.channels = channels.to_vec();
        let gate = gate(vec![post]);
        let mail = MailServer {
            host: "127.0.0.1".to_owned(),
            port: server.port(),
            encryption: MailEncryption::PlainLoopback,
            credentials: None,
        };
        let door = gate.mail(mail).unwrap().unwrap();
        let code = Some("48120377");
        match door.send_to_patient(&who, &who, &text(body), code).await {
            Err(MailFailed::Refused(refusal)) => Err(refusal.rule),
            // The server says that it takes no mail.
            Err(MailFailed::Server(_)) => Ok(()),
            other => panic!("{other:?}"),
        }
    };
    use DataClass::{Operational, Phi};
    let right = "Enter this code: 48120377";
    for (channels, classes, body, rule) in [
        (
            vec![Channel::Mail],
            vec![Operational, Phi],
            right,
            EgressRule::ChannelNotDeclared,
        ),
        (
            vec![Channel::Message],
            vec![Operational],
            right,
            EgressRule::DataClassNotAllowed,
        ),
        (
            vec![Channel::Message],
            vec![Phi],
            "Mrs. Theresa Miller, enter this code: 48120377",
            EgressRule::IdentifiersFound,
        ),
    ] {
        let refused = sent(&channels, &classes, body).await;
        assert_eq!(refused, Err(rule));
    }
    assert_eq!(server.received(), Vec::<String>::new());
    assert_eq!(sent(&[Channel::Message], &[Phi], right).await, Ok(()));
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn a_mail_is_inspected_in_subject_and_body() {
    let server = Server::hanging_up().await;
    let mail = MailServer {
        host: "127.0.0.1".to_owned(),
        port: server.port(),
        encryption: MailEncryption::PlainLoopback,
        credentials: None,
    };
    let hosts = [format!("smtp://127.0.0.1:{}", server.port())];
    let gate = gate(vec![vendor("post", &hosts, &[DataClass::Operational])]);
    let door = gate.mail(mail).unwrap().unwrap();
    let who: Mailbox = "it@clinic.example".parse().unwrap();
    let own = "Sign in to see it: https://chaperone.clinic.example/console\r\n";
    let mut outcomes = Vec::new();
    for (subject, body) in [
        ("Something waits", "Mrs. Theresa Miller waits."),
        ("MRN: 12345678", own),
        ("Something waits", "See https://elsewhere.example/console"),
        ("Something\r\nBcc: x@elsewhere.example", own),
        ("Something\nwaits", own),
        ("Something waits", "a\0b"),
    ] {
        let text = MailText {
            subject: subject.to_owned(),
            body: body.to_owned(),
        };
        outcomes.push(match door.send(&who, &who, &text).await {
            Err(MailFailed::Refused(refusal)) => refusal.rule,
            other => panic!("{subject}: {other:?}"),
        });
    }
    use EgressRule::{HeaderForm, IdentifiersFound};
    let found = [IdentifiersFound; 3];
    assert_eq!(outcomes[..3], found);
    assert_eq!(outcomes[3..], [HeaderForm; 3]);
    assert_eq!(server.received(), Vec::<String>::new());
    // The neighbour gets as far as the server, which says that it takes no mail.
    let text = MailText {
        subject: "Chaperone: something waits for approval".to_owned(),
        body: format!("Something waits for your approval.\r\n{own}"),
    };
    assert!(matches!(
        door.send(&who, &who, &text).await,
        Err(MailFailed::Server(_))
    ));
    assert_eq!(server.received().len(), 1);
    assert!(counted(&gate).contains(&"mail operational post passed 1".to_owned()));
}
