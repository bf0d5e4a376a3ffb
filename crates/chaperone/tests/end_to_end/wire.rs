//! HTTP with everything written down: what was asked and what came back, for a later search.

use std::sync::Mutex;

use reqwest::RequestBuilder;
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::installation::install_cryptography;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// An agent: nothing of a patient may be in the answer.
    Agent,
    /// An agent that put the patient into a name of its own: the answer says which name was wrong, so
    /// only its headers count.
    AgentNaming,
    /// An operator's tool: the same as for an agent.
    Operator,
    /// A person at a page that names no patients.
    Person,
    /// A clinician at a page that shows the patient: only address and headers count.
    Clinician,
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        // A stream carries its message in a line of its own.
        let body = self
            .body
            .lines()
            .find_map(|line| line.strip_prefix("data:"))
            .unwrap_or(&self.body);
        serde_json::from_str(body).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap_or(""))
    }

    /// What stands between a marker and the next quotation mark.
    pub(crate) fn after(&self, marker: &str) -> Option<&str> {
        let (_, rest) = self.body.split_once(marker)?;
        Some(rest.split_once('"')?.0)
    }
}

/// A client that remembers.
pub(crate) struct Wire {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
    seen: Mutex<Vec<(Whom, String, Answer)>>,
}

impl Wire {
    pub(crate) fn new(base: &str) -> Self {
        install_cryptography();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self {
            http,
            base: base.to_owned(),
            seen: Mutex::default(),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends, and writes down what came back.
    pub(crate) async fn send(&self, whom: Whom, request: RequestBuilder) -> Answer {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let asked = format!("{} {}", request.method(), request.url().path());
        let response = client.execute(request).await.unwrap();
        let answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.text().await.unwrap(),
        };
        self.seen
            .lock()
            .unwrap()
            .push((whom, asked, answer.clone()));
        answer
    }

    /// Everything that must be free of traces: a name for the place, and what was there.
    pub(crate) fn to_be_searched(&self) -> Vec<(String, String)> {
        let mut places = Vec::new();
        for (whom, asked, answer) in self.seen.lock().unwrap().iter() {
            let place = format!("the answer {} to {whom:?}'s {asked}", answer.status);
            let mut headers = String::new();
            for (name, value) in &answer.headers {
                let value = String::from_utf8_lossy(value.as_bytes());
                headers.push_str(&format!("{name}: {value}\n"));
            }
            places.push((format!("headers of {place}"), headers));
            match whom {
                Whom::Agent | Whom::Operator | Whom::Person => {
                    places.push((place, answer.body.clone()));
                }
                Whom::AgentNaming => {}
                Whom::Clinician => {
                    places.push((format!("addresses in {place}"), addresses(&answer.body)))
                }
            }
        }
        places
    }
}

/// Every address in a page.
fn addresses(page: &str) -> String {
    let mut found = String::new();
    for attribute in ["href=\"", "action=\"", "src=\""] {
        for (at, _) in page.match_indices(attribute) {
            let rest = &page[at + attribute.len()..];
            found.push_str(rest.split('"').next().unwrap_or_default());
            found.push('\n');
        }
    }
    found
}
