//! What goes wrong around the canary patient: faults of the EHR, and requests with the patient in every
//! place where a request can carry something.

use super::play::{Play, arguments_of};
use super::*;

impl Play<'_> {
    /// Every kind of fault, for reads, deliveries, and pages.
    pub(super) async fn faults(&self) {
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
                parameter: None,
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
    pub(super) async fn careless_requests(&self) {
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
    pub(super) async fn careless_sign_ins(&self, text: &str) {
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
}
