//! What these tests share: servers that keep what they receive, names that resolve as they are told, a clock that is
//! turned by hand, and the real scrubber as the detector.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chaperone_core::Timestamp;
use chaperone_core::egress::{
    Channel, DataClass, EgressRule, Relation, VendorDeclaration, VendorTable,
};
use chaperone_core::ids::{Region, VendorId};
use chaperone_core::ports::{Clock, Detector, Identifier, NotInspected};
use chaperone_phi::scrub::{Known, Lexicon, Scrubber, Settings};
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::egress::class::Declared;
use crate::egress::{
    Broken, ClientOptions, Gate, GateParts, HttpClient, Names, Outgoing, exchange,
};

/// Largest request that a server keeps, in bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// A clock that a test turns.
pub(super) struct HandClock(AtomicI64);

impl HandClock {
    pub(super) fn new() -> Arc<Self> {
        // 2027-01-15.
        Arc::new(Self(AtomicI64::new(1_800_000_000)))
    }

    pub(super) fn advance_s(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::SeqCst)).unwrap()
    }
}

/// The scrubber, as the engine puts it behind the port.
pub(super) struct Scrubbing;

impl Detector for Scrubbing {
    fn identifiers(&self, text: &str) -> Result<Vec<Identifier>, NotInspected> {
        let known = Known::default();
        let scrubber = Scrubber::new(Lexicon::embedded().unwrap(), &known, Settings::default());
        let found = scrubber.detect(text).map_err(|_| NotInspected)?;
        Ok(found
            .iter()
            .map(|finding| Identifier {
                class: finding.class.word(),
                start: finding.start,
                end: finding.end,
            })
            .collect())
    }
}

/// Names that resolve as they are told, each answer once and the last one for ever.
#[derive(Default)]
pub(super) struct ToldNames(Mutex<BTreeMap<String, VecDeque<Vec<IpAddr>>>>);

impl ToldNames {
    pub(super) fn of(told: &[(&str, &[&str])]) -> Arc<Self> {
        let names = Self::default();
        for (name, addresses) in told {
            let addresses = addresses.iter().map(|it| it.parse().unwrap()).collect();
            let mut known = names.0.lock().unwrap();
            known
                .entry((*name).to_owned())
                .or_default()
                .push_back(addresses);
        }
        Arc::new(names)
    }
}

#[async_trait]
impl Names for ToldNames {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let mut known = self.0.lock().unwrap();
        let answers = known
            .get_mut(name)
            .ok_or_else(|| io::Error::other("nobody knows this name"))?;
        match answers.len() {
            0 | 1 => Ok(answers.front().cloned().unwrap_or_default()),
            _ => Ok(answers.pop_front().unwrap()),
        }
    }
}

/// A server that keeps what it receives.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    received: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(super) async fn answering(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&received), answer.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer) = (Arc::clone(&kept), answer.clone());
                tokio::spawn(async move { take(stream, &kept, &answer).await });
            }
        });
        Self { address, received }
    }

    pub(super) async fn new() -> Self {
        Self::answering("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await
    }

    /// A mail server that takes no mail: it notes that somebody came, says so and hangs up.
    pub(super) async fn hanging_up() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                kept.lock().unwrap().push("came".to_owned());
                let _ = stream.write_all(b"554 no mail here\r\n").await;
                let _ = stream.shutdown().await;
            }
        });
        Self { address, received }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything received so far, with the server's port as `PORT`.
    pub(super) fn received(&self) -> Vec<String> {
        let port = self.address.port().to_string();
        let received = self.received.lock().unwrap();
        received
            .iter()
            .map(|it| it.replace(&port, "PORT"))
            .collect()
    }
}

/// Reads one request whole, or what comes of it, keeps it, and answers.
async fn take(mut stream: TcpStream, kept: &Mutex<Vec<String>>, answer: &str) {
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 4096];
    while !is_whole(&bytes) && bytes.len() < REQUEST_BYTES_MAX {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    kept.lock()
        .unwrap()
        .push(String::from_utf8_lossy(&bytes).into_owned());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn is_whole(bytes: &[u8]) -> bool {
    // A TLS handshake is no request; its first record is enough to show that somebody connected.
    if bytes.first() == Some(&0x16) {
        return true;
    }
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    body.len() >= length.unwrap_or(0)
}

/// A vendor of this machine's.
pub(super) fn vendor(id: &str, hosts: &[String], classes: &[DataClass]) -> VendorDeclaration {
    VendorDeclaration {
        id: VendorId::new(id).unwrap(),
        legal_name: "Example Ltd".to_owned(),
        relation: Relation::BusinessAssociate,
        channels: vec![
            Channel::Webhook,
            Channel::Ehr,
            Channel::Authorization,
            Channel::Mail,
        ],
        hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
        internal: false,
        data_classes: classes.to_vec(),
        baa: Some("BAA-1".to_owned()),
        baa_expires: Some("2027-06-01T00:00:00Z".parse().unwrap()),
        breach_notice_hours: Some(24),
        training_banned: true,
        security: "assessed".to_owned(),
        region: Region::new("us-east-1").unwrap(),
        owner: "privacy officer".to_owned(),
        reviewed: "2026-06-01".parse().unwrap(),
        review_by: "2027-06-01".parse().unwrap(),
        request_bytes_max: 10_000,
        requests_per_minute_max: 1_000,
        resolves_tokens: false,
    }
}

pub(super) fn table(vendors: Vec<VendorDeclaration>) -> VendorTable {
    VendorTable {
        regions: vec![Region::new("us-east-1").unwrap()],
        vendors,
        ..VendorTable::nobody()
    }
}

pub(super) fn gate(vendors: Vec<VendorDeclaration>) -> Gate {
    gate_with(
        vendors,
        HandClock::new(),
        ToldNames::of(&[("localhost", &["127.0.0.1"])]),
    )
}

pub(super) fn gate_with(
    vendors: Vec<VendorDeclaration>,
    clock: Arc<HandClock>,
    names: Arc<ToldNames>,
) -> Gate {
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Gate::new(GateParts {
        vendors: Arc::new(table(vendors)),
        detector: Arc::new(Scrubbing),
        clock,
        names,
        own_addresses: vec!["https://chaperone.clinic.example/console".to_owned()],
    })
}

pub(super) fn client<C: Declared>(gate: &Gate, channel: Channel) -> HttpClient<C> {
    let options = ClientOptions {
        connect_timeout_ms: 2_000,
        exchange_timeout_ms: 5_000,
        keep_connections: false,
        encrypted: false,
        extra_root_pem: None,
    };
    gate.http(channel, &options).unwrap()
}

pub(super) fn url(text: &str) -> Url {
    Url::parse(text).unwrap()
}

/// Sends, and tells the status or the rule.
pub(super) async fn sent<C: Declared>(draft: Outgoing<C>) -> Result<StatusCode, EgressRule> {
    match exchange(draft, 10_000).await {
        Ok(answer) => Ok(answer.status),
        Err(Broken::Refused(refusal)) => Err(refusal.rule),
        Err(broken) => panic!("{broken:?}"),
    }
}

/// What the gate would tell the ledger, a line a kind.
pub(super) fn counted(gate: &Gate) -> Vec<String> {
    let line = |count: chaperone_core::egress::EgressCount| {
        let vendor = count.vendor.map(|(vendor, _)| vendor.to_string());
        format!(
            "{} {} {} {} {}",
            count.channel,
            count.class,
            vendor.as_deref().unwrap_or("-"),
            count.rule.map_or("passed", EgressRule::as_str),
            count.count
        )
    };
    gate.due(true).into_iter().map(line).collect()
}
