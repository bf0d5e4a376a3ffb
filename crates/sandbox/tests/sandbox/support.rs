//! What the integration tests share: a sandbox with a hand-turned clock and a small client.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chaperone_sandbox::{RunningSandbox, Sandbox, SandboxConfig, SandboxHandle, ServerProfile};
use jiff::Timestamp;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

/// The time at which tests begin.
pub(crate) const START: &str = "2026-03-02T15:00:00Z";

/// A running sandbox and a client for it.
pub(crate) struct Bench {
    pub(crate) running: RunningSandbox,
    pub(crate) client: Client,
    clock_s: Arc<AtomicI64>,
}

pub(crate) fn start_time() -> Timestamp {
    START.parse().unwrap()
}

pub(crate) async fn bench(profile: ServerProfile) -> Bench {
    bench_with(profile, |config| config).await
}

pub(crate) async fn bench_with(
    profile: ServerProfile,
    adjust: impl FnOnce(SandboxConfig) -> SandboxConfig,
) -> Bench {
    // Fails only when another test of this process was faster, which is as good.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let clock_s = Arc::new(AtomicI64::new(start_time().as_second()));
    let hand = Arc::clone(&clock_s);
    let clock = Arc::new(move || Timestamp::from_second(hand.load(Ordering::SeqCst)).unwrap());
    let config = adjust(SandboxConfig::new(profile, clock));
    Bench {
        running: Sandbox::start(config).await.unwrap(),
        client: Client::builder().no_proxy().build().unwrap(),
        clock_s,
    }
}

impl Bench {
    pub(crate) fn handle(&self) -> &SandboxHandle {
        &self.running.handle
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_second(self.clock_s.load(Ordering::SeqCst)).unwrap()
    }

    pub(crate) fn advance_s(&self, seconds: i64) {
        self.clock_s.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let separator = if path.is_empty() { "" } else { "/" };
        self.client.request(
            method,
            format!("{}{separator}{path}", self.running.base_url),
        )
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path)
            .fhir(body)
            .send()
            .await
            .unwrap()
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Response {
        self.request(Method::PUT, path)
            .fhir(body)
            .send()
            .await
            .unwrap()
    }

    /// The ids that a search finds, in order.
    pub(crate) async fn ids(&self, search: &str) -> Vec<String> {
        let response = self.get(search).await;
        assert_eq!(response.status(), 200, "{search}");
        ids_of(&json_of(response).await)
    }
}

pub(crate) trait FhirBody {
    fn fhir(self, body: &Value) -> Self;
}

impl FhirBody for RequestBuilder {
    fn fhir(self, body: &Value) -> Self {
        self.header("content-type", "application/fhir+json")
            .body(body.to_string())
    }
}

pub(crate) async fn json_of(response: Response) -> Value {
    serde_json::from_str(&response.text().await.unwrap()).unwrap()
}

/// Checks the status and that the body is an OperationOutcome; returns its first issue code.
pub(crate) async fn outcome(response: Response, status: u16) -> String {
    assert_eq!(response.status(), status);
    let kind = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("application/fhir+json"), "{kind}");
    let body = json_of(response).await;
    assert_eq!(body["resourceType"], "OperationOutcome");
    assert_eq!(body["issue"][0]["severity"], "error");
    body["issue"][0]["code"].as_str().unwrap().to_owned()
}

pub(crate) fn ids_of(bundle: &Value) -> Vec<String> {
    bundle["entry"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter()
        .map(|entry| entry["resource"]["id"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) fn patient(id: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "id": id,
        "identifier": [{"system": "urn:test:mrn", "value": format!("MRN-{id}")}],
        "name": [{"family": "Testfell", "given": ["Quilla"]}],
        "birthDate": "1970-05-17",
    })
}

pub(crate) fn appointment(patient: &str, key: &str) -> Value {
    json!({
        "resourceType": "Appointment",
        "identifier": [{"system": "urn:chaperone:writeback", "value": key}],
        "status": "booked",
        "start": "2026-03-09T15:00:00Z",
        "end": "2026-03-09T15:30:00Z",
        "participant": [{
            "actor": {"reference": format!("Patient/{patient}")},
            "status": "accepted",
        }],
    })
}

pub(crate) fn pulse(id: &str, patient: &str, at: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "vital-signs",
        }]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": format!("Patient/{patient}")},
        "effectiveDateTime": at,
        "valueQuantity": {
            "value": 70, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min",
        },
    })
}
