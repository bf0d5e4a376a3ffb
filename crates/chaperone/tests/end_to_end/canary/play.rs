//! What agents, people and operators do in a normal day with the canary patient.
//!
//! Not what goes wrong: that is in `hostile`.

use super::*;

/// A proposal, as its agent was told.
pub(super) struct Proposed {
    pub(super) tool: String,
    pub(super) id: String,
    pub(super) state: String,
}

/// An agent in an envelope.
pub(super) struct Session {
    pub(super) token: String,
    /// Tokens of what it was shown, by the tool that showed it.
    pub(super) shown: BTreeMap<String, String>,
}

pub(super) struct Play<'a> {
    pub(super) sandbox: &'a RunningSandbox,
    pub(super) installation: &'a Installation,
    pub(super) wire: &'a Wire,
    pub(super) clinician: &'a Person<'a>,
}

impl Play<'_> {
    pub(super) fn agent(&self, id: &str) -> AgentClient {
        agent(self.installation, id)
    }

    pub(super) fn post(&self, path: &str) -> RequestBuilder {
        self.wire.http.post(self.wire.url(path))
    }

    pub(super) fn get(&self, path: &str) -> RequestBuilder {
        self.wire.http.get(self.wire.url(path))
    }

    pub(super) async fn by_agent(&self, request: RequestBuilder) -> Answer {
        self.wire.send(Whom::Agent, request).await
    }

    /// Asks for a token, with a form of the caller's making.
    pub(super) async fn token(&self, agent: &str, scope: &str, details: Option<Value>) -> Answer {
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

    pub(super) async fn enter(&self, agent: &str, intent: &str) -> Session {
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

    pub(super) async fn over_mcp(&self, session: &Session, method: &str, params: Value) -> Answer {
        let message = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
        let request = self
            .post("/mcp")
            .bearer_auth(&session.token)
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .json(&message);
        self.by_agent(request).await
    }

    pub(super) async fn over_rest(
        &self,
        session: &Session,
        tool: &str,
        arguments: &Value,
    ) -> Answer {
        let request = self
            .post(&format!("/v1/tools/{tool}"))
            .bearer_auth(&session.token);
        self.by_agent(request.json(arguments)).await
    }

    /// Calls every tool of an envelope, both ways: those that read first, then those that propose.
    pub(super) async fn session(&self, agent: &str, intent: &str) -> Vec<Proposed> {
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
            if let Some(slot) = first_slot(&content.to_string()) {
                session.shown.insert(SLOT.to_owned(), slot);
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
    pub(super) async fn decide(&self, proposals: &[Proposed]) {
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

    /// Every page, as a clinician who sees patients and as an operator who sees none.
    pub(super) async fn pages(&self, operator: &Person<'_>, proposals: &[Proposed]) {
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

    pub(super) async fn operators_endpoints(&self) {
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
    pub(super) async fn at_rest(&self, proposals: &[Proposed]) {
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
                "create_task" | "propose_together" => continue,
                _ => "schedule-appointment",
            };
            self.rests(&sessions[intent], &proposed.id).await;
        }
    }

    pub(super) async fn rests(&self, session: &Session, proposal: &str) {
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

/// Under which a session keeps a slot that it was shown in a text.
const SLOT: &str = "a slot";

fn first_slot(answer: &str) -> Option<String> {
    let (_, rest) = answer.split_once("\"text\":\"[")?;
    let (slot, _) = rest.split_once(']')?;
    Some(format!("[{slot}]"))
}

/// What a tool is called with; `None` where nothing was shown that it could be about.
pub(super) fn arguments_of(
    tool: &str,
    shown: &BTreeMap<String, String>,
    proposal: &str,
) -> Option<Value> {
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
        "propose_together" => {
            let task = json!({
                "tool": "create_task",
                "inputs": { "summary": careless_text(), "pool": "front-desk" },
            });
            json!({ "changes": [task, task] })
        }
        "draft_note" => {
            let slot = of(SLOT).unwrap_or_default();
            let text = format!("{slot} {}", careless_text());
            json!({ "encounter_token": of("list_encounters")?, "text": text })
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
