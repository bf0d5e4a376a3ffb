//! Addresses: what is listed is reached, and no other spelling, port, redirect or answer of a name server leads
//! elsewhere.

use chaperone_core::egress::{Channel, DataClass, EgressRule};
use reqwest::StatusCode;
use reqwest::header::HeaderName;
use serde_json::json;

use super::surroundings::{
    HandClock, Server, ToldNames, client, counted, gate, gate_with, sent, url, vendor,
};
use crate::egress::class::{Operational, Phi};
use crate::egress::{Broken, exchange};

const ALL: [DataClass; 2] = [DataClass::Operational, DataClass::Phi];

#[tokio::test]
async fn what_is_listed_arrives_byte_for_byte_and_the_next_address_receives_nothing() {
    let (listed, unlisted) = (Server::new().await, Server::new().await);
    let gate = gate(vec![vendor(
        "partner",
        &[format!("http://127.0.0.1:{}", listed.port())],
        &ALL,
    )]);
    let hook = client::<Operational>(&gate, Channel::Webhook);
    let to = |server: &Server, host: &str| url(&format!("http://{host}:{}/hook", server.port()));
    let body = json!({"state": "delivered", "count": 2});

    let passed = sent(hook.post(to(&listed, "127.0.0.1")).json(&body)).await;
    assert_eq!(passed, Ok(StatusCode::NO_CONTENT));
    for (server, host) in [
        (&unlisted, "127.0.0.1"),
        (&listed, "localhost"),
        (&listed, "[::1]"),
    ] {
        let refused = sent(hook.post(to(server, host)).json(&body)).await;
        assert_eq!(refused, Err(EgressRule::DestinationUnknown), "{host}");
    }
    assert_eq!(
        listed.received(),
        [concat!(
            "POST /hook HTTP/1.1\r\n",
            "content-type: application/json\r\n",
            "accept: */*\r\n",
            "user-agent: chaperone/0.1.0\r\n",
            "host: 127.0.0.1:PORT\r\n",
            "content-length: 31\r\n\r\n",
            "{\"state\":\"delivered\",\"count\":2}"
        )]
    );
    assert_eq!(unlisted.received(), Vec::<String>::new());
    assert_eq!(
        counted(&gate),
        [
            "webhook operational - destination-unknown 3",
            "webhook operational partner passed 1",
        ]
    );
}

#[tokio::test]
async fn no_spelling_of_a_host_leads_past_the_list() {
    let server = Server::new().await;
    let port = server.port();
    let gate = gate(vec![vendor(
        "partner",
        &[format!("http://localhost:{port}")],
        &ALL,
    )]);
    let hook = client::<Operational>(&gate, Channel::Webhook);
    for (address, rule) in [
        // The same machine in other words, none of which is listed.
        (
            format!("http://127.0.0.1:{port}/"),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("http://2130706433:{port}/"),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("http://0x7f000001:{port}/"),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("http://0177.0.0.1:{port}/"),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("http://127.1:{port}/"),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("http://[::1]:{port}/"),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("http://localhost.:{port}/"),
            EgressRule::DestinationForm,
        ),
        // What stands before the `@` is no host.
        (
            format!("http://localhost@127.0.0.1:{port}/"),
            EgressRule::DestinationForm,
        ),
        (
            format!("http://user:word@localhost:{port}/"),
            EgressRule::DestinationForm,
        ),
        (
            format!("http://localhost:80@127.0.0.1:{port}/"),
            EgressRule::DestinationForm,
        ),
        // Another port, another scheme, a longer name.
        (
            "http://localhost/".to_owned(),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("http://localhost:{}/", port ^ 1),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("https://localhost:{port}/"),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("http://localhost.evil.example:{port}/"),
            EgressRule::DestinationUnknown,
        ),
        (
            format!("http://xlocalhost:{port}/"),
            EgressRule::DestinationUnknown,
        ),
    ] {
        assert_eq!(sent(hook.get(url(&address))).await, Err(rule), "{address}");
    }
    assert_eq!(server.received(), Vec::<String>::new());
    // Letters in another case are the same name, and arrive as the name.
    for address in [
        format!("http://LOCALHOST:{port}/a"),
        format!("http://localhost:{port}/a"),
    ] {
        assert_eq!(
            sent(hook.get(url(&address))).await,
            Ok(StatusCode::NO_CONTENT)
        );
    }
    for received in server.received() {
        assert!(received.starts_with("GET /a HTTP/1.1\r\n"), "{received}");
        assert!(received.contains("host: localhost:PORT\r\n"), "{received}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let elsewhere = Server::new().await;
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Elsewhere\r\nlocation: http://127.0.0.1:{}/\r\nconnection: close\r\n\
             content-length: 0\r\n\r\n",
            elsewhere.port()
        );
        let server = Server::answering(&answer).await;
        // Both are listed, so that nothing but the gate's own policy is in the way.
        let hosts = [&server, &elsewhere].map(|it| format!("http://127.0.0.1:{}", it.port()));
        let gate = gate(vec![vendor("partner", &hosts, &ALL)]);
        let hook = client::<Phi>(&gate, Channel::Webhook);
        let draft = hook.post(url(&format!("http://127.0.0.1:{}/", server.port())));
        let answered = sent(draft.body("{\"note\":\"x\"}".to_owned())).await;
        assert_eq!(answered.unwrap().as_u16(), status);
        assert_eq!(server.received().len(), 1);
    }
    assert_eq!(elsewhere.received(), Vec::<String>::new());
}

#[tokio::test]
async fn a_name_that_changes_its_address_is_refused_at_the_address_that_is_connected_to() {
    let server = Server::new().await;
    let names = ToldNames::of(&[
        ("localhost", &["127.0.0.1"]),
        ("localhost", &["169.254.169.254"]),
        ("localhost", &["127.0.0.1", "10.0.0.1"]),
        ("localhost", &["::1", "127.0.0.1"]),
    ]);
    let hosts = [format!("http://localhost:{}", server.port())];
    let gate = gate_with(
        vec![vendor("partner", &hosts, &ALL)],
        HandClock::new(),
        names,
    );
    let hook = client::<Operational>(&gate, Channel::Webhook);
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        let address = url(&format!("http://localhost:{}/", server.port()));
        outcomes.push(sent(hook.get(address)).await.map(|status| status.as_u16()));
    }
    let refused = Err(EgressRule::AddressNotAllowed);
    assert_eq!(outcomes, [Ok(204), refused, refused, Ok(204)]);
    assert_eq!(server.received().len(), 2);
    assert!(
        counted(&gate).contains(&"webhook operational partner address-not-allowed 2".to_owned())
    );
}

#[tokio::test]
async fn a_public_vendor_is_not_reached_at_a_private_address_and_an_inner_one_is() {
    let server = Server::new().await;
    let hosts = [format!("https://api.partner.example:{}", server.port())];
    let names = || ToldNames::of(&[("api.partner.example", &["127.0.0.1"])]);
    let address = || url(&format!("https://api.partner.example:{}/", server.port()));

    let public = vendor("partner", &hosts, &ALL);
    let gate = gate_with(vec![public.clone()], HandClock::new(), names());
    let refused = sent(client::<Operational>(&gate, Channel::Webhook).get(address())).await;
    assert_eq!(refused, Err(EgressRule::AddressNotAllowed));
    assert_eq!(server.received(), Vec::<String>::new());

    let mut inner = public;
    inner.internal = true;
    let gate = gate_with(vec![inner], HandClock::new(), names());
    let hook = client::<Operational>(&gate, Channel::Webhook);
    // The server speaks no TLS, so nothing of the request is written; that it was connected to is what shows.
    assert_eq!(
        exchange(hook.get(address()), 1_000).await.unwrap_err(),
        Broken::NotSent
    );
    assert_eq!(server.received().len(), 1);
}

#[tokio::test]
async fn a_header_that_would_begin_another_is_refused() {
    let server = Server::new().await;
    let gate = gate(vec![vendor(
        "partner",
        &[format!("http://127.0.0.1:{}", server.port())],
        &ALL,
    )]);
    let hook = client::<Operational>(&gate, Channel::Webhook);
    let with = |value: &str| {
        let address = url(&format!("http://127.0.0.1:{}/", server.port()));
        hook.get(address)
            .header(HeaderName::from_static("x-kind"), value)
    };
    for bad in ["a\r\nx-other: b", "a\nb", "a\0b", "a\rb"] {
        assert_eq!(
            sent(with(bad)).await,
            Err(EgressRule::HeaderForm),
            "{bad:?}"
        );
    }
    assert_eq!(server.received(), Vec::<String>::new());
    assert_eq!(sent(with("a x-other: b")).await, Ok(StatusCode::NO_CONTENT));
    assert!(server.received()[0].contains("x-kind: a x-other: b\r\n"));
}
