//! An installation as an operator makes one (`init`, `agent-key`, a configuration file) and its server
//! process. Nothing is put together in-process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rand::RngExt as _;
use tempfile::TempDir;
use tokio::time::Instant;

/// How long a server may take to be ready, and to stop when asked to.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Where listeners are put: below the range from which systems take ports for outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..19_000;
/// How far above a port the one is that says that it is taken. Where those are, no server is put.
const KEEPER_ABOVE: u16 = 7_000;
/// How much of a server's log a failure shows, in lines.
const LOG_LINES_SHOWN: usize = 40;

/// What a test chooses of the configuration.
pub(crate) struct Settings {
    /// URL of the store.
    pub(crate) store: String,
    /// FHIR base URL of the EHR.
    pub(crate) ehr: String,
    /// `full`, `plain` or `read-only`.
    pub(crate) profile: &'static str,
    /// Whether target and Provenance go in one transaction.
    pub(crate) transactions_are_atomic: bool,
    /// One request to the EHR, in milliseconds. What a crash left is taken up again after three times as long.
    pub(crate) exchange_timeout_ms: u64,
    /// How long after a send a miss means "not applied", in milliseconds.
    pub(crate) settle_ms: u64,
    /// error, warn, info or debug.
    pub(crate) log_level: &'static str,
    /// The writer's lease, in milliseconds.
    pub(crate) lease_ms: u64,
    /// Further sections.
    pub(crate) further: String,
}

impl Settings {
    /// With time enough for the EHR: a busy machine must not look like one that does not answer.
    pub(crate) fn new(store: &str, ehr: &str, profile: &'static str) -> Self {
        Self {
            store: store.to_owned(),
            ehr: ehr.to_owned(),
            profile,
            transactions_are_atomic: true,
            exchange_timeout_ms: 10_000,
            settle_ms: 300,
            log_level: "debug",
            lease_ms: 15_000,
            further: String::new(),
        }
    }

    fn toml(&self, address: SocketAddr) -> String {
        let Self {
            store,
            ehr,
            profile,
            transactions_are_atomic,
            exchange_timeout_ms,
            settle_ms,
            log_level,
            lease_ms,
            further,
        } = self;
        let claim_ms = exchange_timeout_ms * 3;
        format!(
            r#"tenant = "clinic"
public_url = "http://{address}"
[listen]
address = "{address}"
[store]
url = "{store}"
[keys]
dir = "keys"
[anchors]
dir = "anchors"
[ehr]
connection = "ehr"
environment = "test"
base_url = "{ehr}"
profile = "{profile}"
transactions_are_atomic = {transactions_are_atomic}
settle_ms = {settle_ms}
exchange_timeout_ms = {exchange_timeout_ms}
[times]
claim_ms = {claim_ms}
lease_ms = {lease_ms}
[log]
level = "{log_level}"
json = true
{further}"#
        )
    }
}

/// An HTTP client of the test's own, for what no other client offers.
pub(crate) fn http() -> reqwest::Client {
    install_cryptography();
    reqwest::Client::new()
}

/// HTTP clients want a provider for TLS even where they use none. A second installation of the same one
/// is refused, and changes nothing.
pub(crate) fn install_cryptography() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Runs a subcommand to its end.
pub(crate) fn chaperone<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chaperone"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What it printed, and that it ended well.
pub(crate) fn printed(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {text}{said}", output.status);
    text
}

/// A folder with bundle, configuration, keys and, once it ran, data.
pub(crate) struct Installation {
    folder: TempDir,
    /// Where the server will be.
    pub(crate) base_url: String,
    /// Keeps that address.
    _first: Place,
    /// Where a second node will be, when one is started.
    second: Place,
    second_url: OnceLock<String>,
    /// The agents' private keys, PKCS#8 PEM, by agent.
    pub(crate) agent_keys: BTreeMap<String, String>,
}

impl Installation {
    /// The default bundle with a key for each agent, and a configuration file.
    pub(crate) fn new(settings: &Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("home");
        printed(&chaperone(&["init".as_ref(), home.as_os_str()]));
        let secrets = folder.path().join("secrets");
        fs::create_dir(&secrets).unwrap();
        let mut agent_keys = BTreeMap::new();
        for entry in fs::read_dir(home.join("governance/agents")).unwrap() {
            let declaration = entry.unwrap().path();
            let agent = declaration
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let private = secrets.join(&agent);
            let line = printed(&chaperone(&[
                "agent-key".as_ref(),
                "--private".as_ref(),
                private.as_os_str(),
            ]));
            let text = fs::read_to_string(&declaration).unwrap();
            assert!(text.contains("keys = []"), "{agent} has a key already");
            let text = text.replace("keys = []", line.trim());
            fs::write(&declaration, without_an_end(&text)).unwrap();
            agent_keys.insert(agent, fs::read_to_string(&private).unwrap());
        }
        let vendors = home.join("governance/rules/vendors.toml");
        let text = fs::read_to_string(&vendors).unwrap();
        fs::write(&vendors, without_an_end(&text)).unwrap();
        let first = Place::free();
        fs::write(home.join("chaperone.toml"), settings.toml(first.address)).unwrap();
        Self {
            folder,
            base_url: format!("http://{}", first.address),
            _first: first,
            second: Place::free(),
            second_url: OnceLock::new(),
            agent_keys,
        }
    }

    /// Lets agents propose as much as any limit can say, for tests that do an hour's work in a minute.
    pub(crate) fn let_agents_write_much(&self) {
        let table = self.home().join("governance/rules/bulk.toml");
        let mut text: toml::Table = fs::read_to_string(&table).unwrap().parse().unwrap();
        for limit in ["writes_per_hour", "patients_per_hour"] {
            assert!(text.insert(limit.to_owned(), 1_000_000.into()).is_some());
        }
        text.remove("agents");
        fs::write(&table, toml::to_string(&text).unwrap()).unwrap();
    }

    /// The folder that `init` wrote.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// The configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.home().join("chaperone.toml")
    }

    /// The checkpoints outside the database.
    pub(crate) fn anchors(&self) -> PathBuf {
        self.home().join("anchors/clinic.checkpoints")
    }

    /// The ledgers that were exported so far.
    pub(crate) fn exports(&self) -> Vec<PathBuf> {
        (0..)
            .map(|count| self.file(&format!("ledger-{count}.jsonl")))
            .take_while(|file| file.exists())
            .collect()
    }

    /// A place for a file of the test.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything that any server of this installation printed.
    pub(crate) fn log(&self) -> PathBuf {
        self.file("server.log")
    }

    /// Runs a subcommand that takes the configuration, while no server runs.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let config = self.config();
        let mut all: Vec<&str> = arguments.to_vec();
        all.extend(["--config", config.to_str().unwrap()]);
        chaperone(&all)
    }

    /// Shows once what the EHR can do; nothing is sent to it before. With time enough also where the server is to have
    /// little.
    pub(crate) fn prove_conformance(&self) {
        const TIMEOUT_MS: u64 = 10_000;
        let text = fs::read_to_string(self.config()).unwrap();
        let mut patient = String::new();
        for line in text.lines() {
            let line = match line.split_once(" = ") {
                Some(("exchange_timeout_ms", _)) => format!("exchange_timeout_ms = {TIMEOUT_MS}"),
                Some(("claim_ms", _)) => format!("claim_ms = {}", TIMEOUT_MS * 3),
                _ => line.to_owned(),
            };
            let _ = writeln!(patient, "{line}");
        }
        let config = self.home().join("patient.toml");
        fs::write(&config, patient).unwrap();
        let output = chaperone(&[
            "conformance".as_ref(),
            "run".as_ref(),
            "--ehr".as_ref(),
            "ehr".as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
        ]);
        printed(&output);
    }

    /// Starts the server and waits until it is ready.
    pub(crate) async fn start(&self) -> Server {
        self.start_with(&self.config(), &self.base_url).await
    }

    /// The address of the second node.
    pub(crate) fn second_url(&self) -> &str {
        self.second_url
            .get_or_init(|| format!("http://{}", self.second.address))
    }

    /// Starts a second node on the same store, with the same keys and public address, and a place of its own for
    /// checkpoints; waits until it is ready.
    pub(crate) async fn start_second(&self) -> Server {
        let text = fs::read_to_string(self.config()).unwrap();
        let first = self.base_url.trim_start_matches("http://");
        let listen = format!("address = \"{first}\"");
        assert!(text.contains(&listen));
        let text = text
            .replace(&listen, &format!("address = \"{}\"", self.second.address))
            .replace("dir = \"anchors\"", "dir = \"anchors-2\"");
        let config = self.home().join("second.toml");
        fs::write(&config, format!("node = \"node-2\"\n{text}")).unwrap();
        self.start_with(&config, self.second_url()).await
    }

    async fn start_with(&self, config: &Path, url: &str) -> Server {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_chaperone"))
            .arg("serve")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server {
            child,
            log: self.log(),
        };
        server.ready(url).await;
        server
    }
}

/// A running `chaperone serve`; killed when dropped.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    async fn ready(&mut self, base_url: &str) {
        let http = http();
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let looked = http.get(format!("{base_url}/readyz")).send().await;
            if looked.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the server ended with {status}:\n{}", tail(&self.log));
            }
            assert!(
                Instant::now() < deadline,
                "the server was not ready within {READY_WITHIN:?}:\n{}",
                tail(&self.log)
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGKILL: the process has no chance to do anything more.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP: it does nothing until it is told to go on, and does not know.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let told = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(told.success());
    }

    /// SIGTERM, and waits for the end.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        let deadline = Instant::now() + STOPPED_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the server did not stop within {STOPPED_WITHIN:?}:\n{}",
                tail(&self.log)
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let mut shown = String::new();
    for line in lines
        .iter()
        .skip(lines.len().saturating_sub(LOG_LINES_SHOWN))
    {
        let _ = writeln!(shown, "  {line}");
    }
    shown
}

/// Agreements and assessments of the default bundle end on a day of the real clock; what is tested here does not.
fn without_an_end(text: &str) -> String {
    assert!(text.contains("baa_expires = \"2027-"), "{text}");
    text.replace("baa_expires = \"2027-", "baa_expires = \"2099-")
        .replace("review_by = \"2027-", "review_by = \"2099-")
}

/// An address for a server that nobody else draws while this lives. Between drawing it and listening there, seconds go
/// by; meanwhile a listener on a port of its own says so to other tests, also in other processes, and is gone with its
/// process however that ends.
struct Place {
    address: SocketAddr,
    _keeper: TcpListener,
}

impl Place {
    fn free() -> Self {
        let mut random = rand::rng();
        for _ in 0..200 {
            let port = random.random_range(PORTS);
            let listen = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            let Ok(keeper) = listen(port + KEEPER_ABOVE) else {
                continue;
            };
            if listen(port).is_ok() {
                return Self {
                    address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                    _keeper: keeper,
                };
            }
        }
        panic!("no free port");
    }
}
