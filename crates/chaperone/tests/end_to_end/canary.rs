//! A patient unlike any other goes the whole way: agents read and propose over MCP and REST, people
//! decide at the console, the EHR fails in every way it can, careless and hostile requests come in. Nothing
//! that identifies the patient may be found afterwards in a log, a metric, a mail, an error, a header, an
//! address, an answer to an agent, the database as it lies on the disk, or the exported ledger.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_connect::agent_client::AgentClient;
use chaperone_sandbox::{FaultKind, FaultRule, RunningSandbox, ServerProfile};
use jiff::{SignedDuration, Timestamp};
use reqwest::RequestBuilder;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::agents::agent;
use crate::console::Person;
use crate::ehr::{self, MRN as MRN_SYSTEM};
use crate::export::last_export;
use crate::installation::{Installation, Settings, chaperone, printed, tail};
use crate::mail;
use crate::needle::{CITY, EMAIL, FAMILY, GIVEN, MRN, PHONE, STREET, Search, Trace, careless_text};
use crate::wire::{Answer, Whom, Wire};

/// How long everything that was proposed may take to come to rest.
const AT_REST_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The agents and intents of the default bundle that are about a patient.
const SESSIONS: [(&str, &str); 6] = [
    ("order-agent", "chart-summary"),
    ("scribe-agent", "draft-note"),
    ("scheduler-agent", "schedule-appointment"),
    ("intake-agent", "intake"),
    ("refill-agent", "refill-request"),
    ("order-agent", "submit-order"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_patient_gets_out() {
    let sandbox = ehr::start(ServerProfile::Full).await;
    let logical_id = admit(&sandbox);
    let (mail_port, mails) = mail::start().await;
    let mut settings = Settings::new("sqlite:data/chaperone.db", &sandbox.base_url, "full");
    settings.log_level = "debug";
    settings.exchange_timeout_ms = 2_000;
    settings.further = format!(
        r#"[mail]
host = "127.0.0.1"
port = {mail_port}
encryption = "plain-loopback"
from = "chaperone@clinic.example"
operators = ["it@clinic.example"]
[mail.approvers]
clinician = ["rounds@clinic.example"]
pharmacist = ["pharmacy@clinic.example"]
"#
    );
    let installation = Installation::new(&settings);
    let server = installation.start().await;
    let wire = Wire::new(&installation.base_url);
    let log = fs::read_to_string(installation.log()).unwrap();
    let clinician = Person::set_up(
        &wire,
        &log,
        &["clinician", "rn", "ma_rn", "scheduler", "pharmacist"],
    )
    .await;
    let operator = clinician.invite("it-desk", &["it_admin"]).await;

    let play = Play {
        sandbox: &sandbox,
        installation: &installation,
        wire: &wire,
        clinician: &clinician,
    };
    let mut proposals = Vec::new();
    for (agent, intent) in SESSIONS {
        proposals.extend(play.session(agent, intent).await);
    }
    play.decide(&proposals).await;
    play.faults().await;
    play.careless_requests().await;
    play.pages(&operator, &proposals).await;
    play.operators_endpoints().await;
    play.at_rest(&proposals).await;
    play.pages(&operator, &proposals).await;
    play.operators_endpoints().await;

    let export = last_export(&installation, server).await;
    let effects = ehr::effects(&sandbox);
    assert!(effects >= 5, "{effects} effects at the EHR");
    let kinds: Vec<&str> = export
        .events
        .iter()
        .map(|recorded| recorded["event"]["kind"].as_str().unwrap())
        .collect();
    for kind in [
        "read_released",
        "read_failed",
        "call_refused",
        "grant_issued",
        "step_up_passed",
    ] {
        assert!(kinds.contains(&kind), "the run has no {kind}");
    }

    let mut traces = Vec::new();
    // What reaches the EHR names the patient by the id under which the EHR knows them, and by no more.
    let urls: String = sandbox
        .handle
        .requests()
        .iter()
        .map(|request| {
            format!(
                "{} {:?} {:?}\n",
                request.path, request.query, request.if_none_exist
            )
        })
        .collect();
    traces.extend(Search::new(&[]).traces("URLs at the EHR", urls.as_bytes()));

    let search = Search::new(&[&logical_id]);
    for (place, content) in wire.to_be_searched() {
        traces.extend(search.traces(&place, content.as_bytes()));
    }
    traces.extend(search.traces("mails", mails.text().as_bytes()));
    assert!(
        mails.text().contains("rounds@clinic.example"),
        "no mail came: {}",
        mails.text()
    );
    let printed = afterwards(&installation, &proposals);
    traces.extend(search.traces("what commands print", printed.as_bytes()));
    let log = fs::read_to_string(installation.log()).unwrap();
    assert!(
        log.contains("\"level\":\"DEBUG\""),
        "{}",
        tail(&installation.log())
    );
    for line in log.lines() {
        traces.extend(search.traces("the log", line.as_bytes()));
    }
    let mut files = Vec::new();
    files_below(&installation.home(), &mut files);
    let database = |file: &PathBuf| file.to_string_lossy().contains("chaperone.db");
    assert!(files.iter().any(database), "{files:?}");
    files.extend(exports(&installation));
    for file in &files {
        traces.extend(search.traces(&file.display().to_string(), &fs::read(file).unwrap()));
    }
    assert!(
        traces.is_empty(),
        "{} traces:\n{}",
        traces.len(),
        listed(&traces)
    );
}

fn listed(traces: &[Trace]) -> String {
    traces
        .iter()
        .take(40)
        .map(|trace| format!("  {trace}\n"))
        .collect()
}

fn files_below(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, files);
        } else {
            files.push(path);
        }
    }
}

fn exports(installation: &Installation) -> Vec<PathBuf> {
    (0..)
        .map(|count| installation.file(&format!("ledger-{count}.jsonl")))
        .take_while(|file| file.exists())
        .collect()
}

/// Receipts, the doctor's findings and the verification of the ledger, with the server gone.
fn afterwards(installation: &Installation, proposals: &[Proposed]) -> String {
    let mut all = String::new();
    for proposed in proposals {
        all.push_str(&printed(&installation.run(&[
            "ledger",
            "receipt",
            "write",
            &proposed.id,
        ])));
    }
    all.push_str(&printed(&installation.run(&["doctor"])));
    let export = installation.file("ledger-0.jsonl");
    all.push_str(&printed(&chaperone(&[
        "ledger",
        "verify",
        export.to_str().unwrap(),
    ])));
    all
}

/// Turns the first charted patient into the canary and returns their logical id. Everything of theirs
/// carries the name somewhere: in references, narratives, notes, attachments.
fn admit(sandbox: &RunningSandbox) -> String {
    let handle = &sandbox.handle;
    let mut patient = handle
        .resources("Patient")
        .into_iter()
        .find(|patient| patient["identifier"][0]["value"] == "SYN-100000")
        .expect("the first synthetic patient");
    let id = patient["id"].as_str().unwrap().to_owned();
    patient["identifier"][0]["value"] = json!(MRN);
    patient["name"] = json!([{ "use": "official", "family": FAMILY, "given": [GIVEN] }]);
    patient["telecom"] = json!([
        { "system": "phone", "value": PHONE, "use": "mobile" },
        { "system": "email", "value": EMAIL },
    ]);
    patient["address"] =
        json!([{ "use": "home", "line": [STREET], "city": CITY, "country": "US" }]);
    patient["contact"] = json!([{
        "name": { "family": FAMILY },
        "telecom": [{ "system": "phone", "value": PHONE }],
    }]);
    patient["text"] = narrative();
    handle.put(&patient).unwrap();
    let reference = format!("Patient/{id}");
    for mut resource in handle.all_resources() {
        if !resource.to_string().contains(&reference) {
            continue;
        }
        name_references(&mut resource, &reference);
        resource["text"] = narrative();
        match resource["resourceType"].as_str().unwrap() {
            "DocumentReference" => {
                resource["description"] = json!(careless_text());
                let attachment = &mut resource["content"][0]["attachment"];
                attachment["data"] = json!(STANDARD.encode(careless_text()));
                attachment["title"] = json!(careless_text());
            }
            "Appointment" => {
                resource["description"] = json!(careless_text());
                resource["comment"] = json!(careless_text());
                resource["patientInstruction"] = json!(careless_text());
            }
            "Encounter" => {
                resource["identifier"] = json!([{ "system": MRN_SYSTEM, "value": MRN }]);
            }
            _ => resource["note"] = json!([{ "text": careless_text() }]),
        }
        handle.put(&resource).unwrap();
    }
    id
}

fn narrative() -> Value {
    let text = careless_text();
    json!({
        "status": "generated",
        "div": format!("<div xmlns=\"http://www.w3.org/1999/xhtml\">{text}</div>"),
    })
}

/// As servers do that put a name beside every reference.
fn name_references(value: &mut Value, reference: &str) {
    match value {
        Value::Object(object) => {
            if object.get("reference").and_then(Value::as_str) == Some(reference) {
                object.insert("display".to_owned(), json!(format!("{GIVEN} {FAMILY}")));
            }
            for inner in object.values_mut() {
                name_references(inner, reference);
            }
        }
        Value::Array(list) => {
            for inner in list {
                name_references(inner, reference);
            }
        }
        _ => {}
    }
}

/// A proposal, as its agent was told.
struct Proposed {
    tool: String,
    id: String,
    state: String,
}

/// An agent in an envelope.
struct Session {
    token: String,
    /// Tokens of what it was shown, by the tool that showed it.
    shown: BTreeMap<String, String>,
}

struct Play<'a> {
    sandbox: &'a RunningSandbox,
    installation: &'a Installation,
    wire: &'a Wire,
    clinician: &'a Person<'a>,
}

impl Play<'_> {
    fn agent(&self, id: &str) -> AgentClient {
        agent(self.installation, id)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.wire.http.post(self.wire.url(path))
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.wire.http.get(self.wire.url(path))
    }

    async fn by_agent(&self, request: RequestBuilder) -> Answer {
        self.wire.send(Whom::Agent, request).await
    }

    /// Asks for a token, with a form of the caller's making.
    async fn token(&self, agent: &str, scope: &str, details: Option<Value>) -> Answer {
        let assertion = self
            .agent(agent)
            .assertion(&self.wire.url("/oauth/token"))
            .unwrap();
        let mut form = vec![
            ("grant_type", "client_credentials".to_owned()),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned(),
            ),
            ("client_assertion", assertion),
            ("scope", scope.to_owned()),
        ];
        form.extend(details.map(|details| ("authorization_details", details.to_string())));
        self.by_agent(self.post("/oauth/token").form(&form)).await
    }

    async fn enter(&self, agent: &str, intent: &str) -> Session {
        let grant = self.clinician.assign(FAMILY, agent, intent).await;
        let details = json!([{ "type": "chaperone_context", "grant": grant }]);
        let answer = self
            .token(agent, &format!("intent/{intent}"), Some(details))
            .await;
        let token = answer.json()["access_token"].as_str().map(str::to_owned);
        Session {
            token: token.unwrap_or_else(|| panic!("no token: {}", answer.body)),
            shown: BTreeMap::new(),
        }
    }

    async fn over_mcp(&self, session: &Session, method: &str, params: Value) -> Answer {
        let message = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let request = self
            .post("/mcp")
            .bearer_auth(&session.token)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .json(&message);
        self.by_agent(request).await
    }

    async fn over_rest(&self, session: &Session, tool: &str, arguments: &Value) -> Answer {
        let request = self
            .post(&format!("/v1/tools/{tool}"))
            .bearer_auth(&session.token);
        self.by_agent(request.json(arguments)).await
    }

    /// Calls every tool of an envelope, both ways: those that read first, then those that propose.
    async fn session(&self, agent: &str, intent: &str) -> Vec<Proposed> {
        let mut session = self.enter(agent, intent).await;
        self.over_mcp(&session, "tools/list", json!({})).await;
        let tools = self
            .by_agent(self.get("/v1/tools").bearer_auth(&session.token))
            .await
            .json();
        let mut tools = tools["tools"].as_array().unwrap().clone();
        let is_late = |tool: &Value| match tool["name"].as_str() {
            Some("check_proposal_status") => 2,
            _ => u8::from(tool["read_only"] == false),
        };
        tools.sort_by_key(is_late);
        let mut proposed: Vec<Proposed> = Vec::new();
        for tool in &tools {
            let name = tool["name"].as_str().unwrap();
            let last = proposed.last().map_or("", |proposed| proposed.id.as_str());
            let Some(mut arguments) = arguments_of(name, &session.shown, last) else {
                continue;
            };
            let writes = tool["read_only"] == false;
            if writes {
                arguments["idempotency_key"] = json!(format!("{MRN} {intent} {name}"));
                arguments["rationale"] = json!(careless_text());
                arguments["confidence"] = json!(0.9);
            }
            let called = json!({ "name": name, "arguments": arguments });
            let answer = self.over_mcp(&session, "tools/call", called).await.json();
            let content = &answer["result"]["structuredContent"];
            assert!(content.is_object(), "{name}: {answer}");
            let again = self.over_rest(&session, name, &arguments).await;
            assert_eq!(again.status, 200, "{name}: {}", again.body);
            if let Some(first) = content.pointer("/resources/0/id").and_then(Value::as_str) {
                session.shown.insert(name.to_owned(), first.to_owned());
            }
            if writes {
                let text = |at: &str| content[at].as_str().unwrap_or_default().to_owned();
                assert_eq!(again.json()["proposal"], content["proposal"], "{name}");
                proposed.push(Proposed {
                    tool: name.to_owned(),
                    id: text("proposal"),
                    state: text("state"),
                });
            }
        }
        assert!(!session.shown.is_empty(), "{intent} showed nothing");
        proposed
    }

    /// The first order and note are approved, everything else that waits is rejected.
    async fn decide(&self, proposals: &[Proposed]) {
        let mut approved = Vec::new();
        for proposed in proposals.iter().filter(|p| p.state == "awaiting_approval") {
            let review = format!("/console/writebacks/{}", proposed.id);
            let page = self.clinician.get(Whom::Clinician, &review).await;
            assert!(
                page.body.contains(FAMILY),
                "the clinician sees whom it is about: {}",
                page.body
            );
            let is_first = ["order_medication", "draft_note"].contains(&proposed.tool.as_str())
                && !approved.contains(&&proposed.tool);
            if is_first {
                let answer = self.clinician.approve(&proposed.id).await;
                assert_eq!(answer.status, 303, "{}: {}", proposed.tool, answer.body);
                assert!(
                    answer.header("location").contains("done=approved"),
                    "{answer:?}"
                );
                approved.push(&proposed.tool);
            } else {
                self.clinician.reject(&proposed.id, &careless_text()).await;
            }
        }
        assert_eq!(approved.len(), 2, "a note and an order waited for approval");
    }

    /// Every kind of fault, for reads, deliveries, and pages.
    async fn faults(&self) {
        let kinds = [
            FaultKind::Status { code: 500 },
            FaultKind::Status { code: 401 },
            FaultKind::Status { code: 404 },
            FaultKind::Status { code: 422 },
            FaultKind::TimeoutBeforeCommit { hold_ms: 10 },
            FaultKind::TimeoutAfterCommit { hold_ms: 10 },
            FaultKind::PreconditionFailed,
            FaultKind::TooManyRequests { retry_after_s: 1 },
        ];
        let reading = self.enter("order-agent", "chart-summary").await;
        let mut booking = self.enter("scheduler-agent", "schedule-appointment").await;
        let arguments = arguments_of("find_slots", &booking.shown, "").unwrap();
        let slots = self
            .over_rest(&booking, "find_slots", &arguments)
            .await
            .json();
        let slot = slots["resources"][0]["id"].as_str().unwrap().to_owned();
        booking.shown.insert("find_slots".to_owned(), slot.clone());
        let inject = |method: &str, kind: &FaultKind, times| {
            self.sandbox.handle.clear_faults();
            self.sandbox.handle.inject(FaultRule {
                method: Some(method.to_owned()),
                resource_type: None,
                kind: kind.clone(),
                times,
            });
        };
        for (count, kind) in kinds.iter().enumerate() {
            inject("GET", kind, 100);
            for tool in ["list_medications", "get_patient_context"] {
                let called = json!({ "name": tool, "arguments": {} });
                self.over_mcp(&reading, "tools/call", called).await;
                let answer = self.over_rest(&reading, tool, &json!({})).await;
                assert_ne!(answer.status, 200, "{kind:?}");
            }
            self.over_rest(
                &booking,
                "book_appointment",
                &json!({ "slot": slot, "idempotency_key": "x" }),
            )
            .await;
            self.clinician
                .post(
                    Whom::Clinician,
                    "/console/assign/search",
                    &[("query", FAMILY)],
                )
                .await;
            self.clinician
                .get(Whom::Clinician, "/console/patients")
                .await;
            self.sandbox.handle.clear_faults();

            inject("POST", kind, 1);
            let arguments = json!({
                "slot": slot, "idempotency_key": format!("fault {count} {MRN}"), "rationale": careless_text(),
            });
            let answer = self
                .over_rest(&booking, "book_appointment", &arguments)
                .await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            self.rests(&booking, answer.json()["proposal"].as_str().unwrap())
                .await;
        }
        self.sandbox.handle.clear_faults();
    }

    /// Requests with the patient in every place where a request can carry something.
    async fn careless_requests(&self) {
        let session = self.enter("scribe-agent", "draft-note").await;
        let text = careless_text();
        let bearer = |request: RequestBuilder| request.bearer_auth(&session.token);
        for path in [
            format!("/v1/tools?patient={MRN}&name={FAMILY}"),
            format!("/v1/{GIVEN}/{MRN}"),
            format!("/{GIVEN}?phone={PHONE}"),
            format!("/v1/proposals/{MRN}"),
            format!("/console/patients/{FAMILY}"),
            format!("/console/writebacks/{MRN}"),
            format!("/console/streams/{FAMILY}/{MRN}"),
            format!("/console/{GIVEN}"),
            format!("/fhir/Patient?identifier={MRN}"),
        ] {
            let answer = self.by_agent(bearer(self.get(&path))).await;
            assert_ne!(answer.status, 200, "{path}");
            let deleted = self.wire.http.delete(self.wire.url(&path));
            self.by_agent(bearer(deleted)).await;
        }
        for (tool, arguments) in [
            (FAMILY, json!({})),
            ("list_encounters", json!({ "patient": MRN })),
            ("list_encounters", json!({ "count": text })),
            ("list_encounters", json!([text])),
            (
                "draft_note",
                json!({ "encounter_token": MRN, "text": text, "idempotency_key": MRN }),
            ),
            (
                "draft_note",
                json!({ "text": text, "idempotency_key": MRN }),
            ),
            (
                "draft_note",
                json!({ "kind": FAMILY, "text": text, "idempotency_key": text.repeat(40) }),
            ),
            ("check_proposal_status", json!({ "proposal": MRN })),
            ("order_medication", json!({ "prior": MRN, "dose": FAMILY })),
        ] {
            let answer = self.over_rest(&session, tool, &arguments).await;
            assert_ne!(answer.status, 200, "{tool}, {arguments}");
            let called = json!({ "name": tool, "arguments": arguments });
            self.over_mcp(&session, "tools/call", called).await;
        }
        // The name of an argument that no tool has is named back to the agent that sent it.
        let request = bearer(self.post("/v1/tools/list_encounters")).json(&json!({ FAMILY: MRN }));
        let answer = self.wire.send(Whom::AgentNaming, request).await;
        assert_eq!(answer.json()["field"], FAMILY, "{}", answer.body);
        assert!(!answer.body.contains(MRN), "{}", answer.body);
        self.over_mcp(&session, FAMILY, json!({ "name": MRN }))
            .await;
        self.over_mcp(
            &session,
            "resources/read",
            json!({ "uri": format!("fhir://{MRN}") }),
        )
        .await;
        for body in [
            format!("{{\"{FAMILY}\": \"{MRN}"),
            format!("{{\"{FAMILY}\": 1, \"{FAMILY}\": 2}}"),
            format!("\"{text}\""),
            text.repeat(4_000),
        ] {
            for path in ["/v1/tools/list_encounters", "/mcp", "/v1/grants"] {
                let request = self.post(path).header("content-type", "application/json");
                self.by_agent(bearer(request.body(body.clone()))).await;
            }
        }
        for (header, value) in [
            ("authorization", format!("Bearer {MRN}")),
            ("authorization", format!("Basic {}", STANDARD.encode(&text))),
            ("origin", format!("https://{FAMILY}.example")),
            ("x-correlation-id", MRN.to_owned()),
            ("idempotency-key", text.clone()),
            ("content-type", format!("text/{FAMILY}")),
            ("mcp-protocol-version", FAMILY.to_owned()),
            ("mcp-session-id", MRN.to_owned()),
            ("user-agent", text.clone()),
            ("referer", format!("https://clinic.example/{MRN}")),
            ("cookie", format!("chaperone={MRN}; {FAMILY}={GIVEN}")),
        ] {
            for path in ["/v1/tools/list_encounters", "/mcp", "/console/modes"] {
                let mut request = self.post(path).header(header, &value).body("{}");
                if header != "authorization" {
                    request = bearer(request);
                }
                self.by_agent(request).await;
            }
        }
        self.careless_sign_ins(&text).await;
    }

    /// The same at the token endpoint, by the dispatcher, and at the console's door.
    async fn careless_sign_ins(&self, text: &str) {
        self.token("scribe-agent", &format!("intent/{FAMILY}"), None)
            .await;
        for grant in [MRN, text] {
            let details = json!([{ "type": "chaperone_context", "grant": grant, "patient": MRN }]);
            self.token("scribe-agent", "intent/draft-note", Some(details))
                .await;
        }
        let forged = format!("{0}.{0}.{0}", STANDARD.encode(text));
        let form = [
            ("grant_type", FAMILY),
            ("client_id", MRN),
            ("client_assertion", &forged),
            ("scope", text),
        ];
        self.by_agent(self.post("/oauth/token").form(&form)).await;
        let dispatching = self
            .token("intake-dispatcher", "dispatch", None)
            .await
            .json();
        let token = dispatching["access_token"].as_str().unwrap();
        for (system, value, status) in [
            (MRN_SYSTEM, MRN, 201),
            (MRN_SYSTEM, FAMILY, 404),
            ("urn:other", MRN, 404),
            (FAMILY, text, 404),
        ] {
            let patient = json!({ "system": system, "value": value });
            let body = json!({ "agent": "intake-agent", "intent": "intake", "patient": patient });
            let answer = self
                .by_agent(self.post("/v1/grants").bearer_auth(token).json(&body))
                .await;
            assert_eq!(answer.status, status, "{value}: {}", answer.body);
        }
        let form = [("account", "dr-lee"), ("password", text), ("code", MRN)];
        let answer = self
            .wire
            .send(Whom::Person, self.post("/console/sign-in").form(&form))
            .await;
        assert_eq!(answer.status, 401);
    }

    /// Every page, as a clinician who sees patients and as an operator who sees none.
    async fn pages(&self, operator: &Person<'_>, proposals: &[Proposed]) {
        const WITHOUT_PATIENTS: [&str; 9] = [
            "/console",
            "/console/alive",
            "/console/ledger",
            "/console/health",
            "/console/agents",
            "/console/modes",
            "/console/streams/tenant",
            "/console/streams/modes",
            "/console/streams/refusals",
        ];
        for path in WITHOUT_PATIENTS {
            self.clinician.get(Whom::Person, path).await;
            operator.get(Whom::Person, path).await;
        }
        for path in ["/console/people", "/console/patients", "/console/assign"] {
            operator.get(Whom::Person, path).await;
        }
        operator
            .post(Whom::Person, "/console/ledger/verify", &[])
            .await;
        for seq in 0..20 {
            operator
                .get(Whom::Person, &format!("/console/ledger/{}", seq * 37))
                .await;
        }
        let patients = self
            .clinician
            .get(Whom::Clinician, "/console/patients")
            .await;
        if let Some(rest) = patients.after("/console/patients/") {
            self.clinician
                .get(Whom::Clinician, &format!("/console/patients/{rest}"))
                .await;
            operator
                .get(Whom::Person, &format!("/console/patients/{rest}"))
                .await;
        }
        for Proposed { id, .. } in proposals {
            self.clinician
                .get(Whom::Clinician, &format!("/console/writebacks/{id}"))
                .await;
            operator
                .get(Whom::Person, &format!("/console/writebacks/{id}"))
                .await;
            operator
                .get(Whom::Person, &format!("/console/streams/writeback/{id}"))
                .await;
            self.clinician
                .get(Whom::Person, &format!("/console/writebacks/{id}/receipt"))
                .await;
        }
    }

    async fn operators_endpoints(&self) {
        for path in [
            "/metrics",
            "/healthz",
            "/readyz",
            "/openapi.json",
            "/.well-known/oauth-authorization-server",
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource/mcp",
        ] {
            let answer = self.wire.send(Whom::Operator, self.get(path)).await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(
                path != "/metrics" || answer.body.contains("chaperone_"),
                "{}",
                answer.body
            );
        }
    }

    /// Waits until nothing that was proposed moves without a human.
    async fn at_rest(&self, proposals: &[Proposed]) {
        let mut sessions = BTreeMap::new();
        for (agent, intent) in SESSIONS {
            sessions.insert(intent, self.enter(agent, intent).await);
        }
        for proposed in proposals {
            let intent = match proposed.tool.as_str() {
                "draft_note" => "draft-note",
                "order_medication" | "order_lab" => "submit-order",
                "record_answers" | "record_vital" => "intake",
                "request_refill" => "refill-request",
                "create_task" => continue,
                _ => "schedule-appointment",
            };
            self.rests(&sessions[intent], &proposed.id).await;
        }
    }

    async fn rests(&self, session: &Session, proposal: &str) {
        let deadline = Instant::now() + AT_REST_WITHIN;
        loop {
            let arguments = json!({ "proposal": proposal });
            let answer = self
                .over_rest(session, "check_proposal_status", &arguments)
                .await;
            let state = answer.json()["state"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if !["ready", "delivering", "unknown"].contains(&state.as_str()) {
                assert!(!state.is_empty(), "{}", answer.body);
                return;
            }
            assert!(
                Instant::now() < deadline,
                "still {state}:\n{}",
                tail(&self.installation.log())
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// What a tool is called with; `None` where nothing was shown that it could be about.
fn arguments_of(tool: &str, shown: &BTreeMap<String, String>, proposal: &str) -> Option<Value> {
    let now = Timestamp::now();
    let second = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let of = |tool: &str| shown.get(tool).cloned();
    Some(match tool {
        "find_slots" => {
            let until = now + SignedDuration::from_hours(24 * 14);
            json!({ "from": second(now), "until": second(until), "count": 50 })
        }
        "book_appointment" | "confirm_appointment" => json!({ "slot": of("find_slots")? }),
        "cancel_appointment" => json!({ "appointment": of("list_appointments")? }),
        "create_task" => json!({ "summary": careless_text(), "pool": "front-desk" }),
        "draft_note" => {
            json!({ "encounter_token": of("list_encounters")?, "text": careless_text() })
        }
        "order_lab" => json!({ "test": "4548-4" }),
        "order_medication" => {
            json!({ "prior": of("list_medications")?, "dose": 20, "unit": "mg", "frequency": 1 })
        }
        "record_answers" => {
            json!({ "reason": careless_text(), "duration_days": 3, "medication_changed": false })
        }
        "record_vital" => {
            json!({ "measure": "8867-4", "value": 72, "unit": "/min", "measured_at": second(now) })
        }
        "request_refill" => json!({ "prior": of("list_medications")? }),
        "check_proposal_status" => json!({ "proposal": proposal }),
        _ => Value::Object(Map::new()),
    })
}
