//! HTTP through the gate: a client for one channel and one class of data, drafts of requests, and the one function
//! that sends them.
//!
//! A draft cannot be sent in any other way, and only a draft of PHI takes a body that is not inspected.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use chaperone_core::egress::{Channel, DataClass, EgressRefusal, EgressRule};
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Request, RequestBuilder};
use serde_json::Value;
use url::Url;

use super::address::{AddressRefused, CheckedNames};
use super::class::{Declared, Phi};
use super::{Asked, Gate, content, destination_of};
use crate::http::{Answer, read_answer};

/// How deep the causes of a failure are looked into.
const CAUSES_MAX: usize = 16;

/// How a client is built.
pub(crate) struct ClientOptions<'a> {
    /// Limit on making the connection, in milliseconds.
    pub(crate) connect_timeout_ms: u64,
    /// Limit on the whole exchange, in milliseconds.
    pub(crate) exchange_timeout_ms: u64,
    /// Whether connections are kept for the next call. Never for writes: a connection that the server
    /// has just closed would make the outcome of a send unknown for no reason.
    pub(crate) keep_connections: bool,
    /// Whether any URL is https; if not, no root certificates are loaded.
    pub(crate) encrypted: bool,
    /// Further root certificates, PEM.
    pub(crate) extra_root_pem: Option<&'a [u8]>,
}

/// A client for one channel and one class of data. Cheap to clone; clones share connections.
pub(crate) struct HttpClient<C> {
    gate: Gate,
    channel: Channel,
    /// The path that the configuration gives, which is not inspected: a vendor's own words, such as a customer number.
    below: Option<Url>,
    http: Client,
    class: PhantomData<fn() -> C>,
}

impl<C> Clone for HttpClient<C> {
    fn clone(&self) -> Self {
        Self {
            gate: self.gate.clone(),
            channel: self.channel,
            below: self.below.clone(),
            http: self.http.clone(),
            class: PhantomData,
        }
    }
}

impl<C> std::fmt::Debug for HttpClient<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClient")
            .field("channel", &self.channel)
            .finish_non_exhaustive()
    }
}

/// A request that was not sent yet.
pub(crate) struct Outgoing<C> {
    client: HttpClient<C>,
    request: RequestBuilder,
    body: Body,
    /// What stands against it by its form alone.
    fault: Option<EgressRule>,
}

/// What may become the value of a header.
pub(crate) trait IntoHeader {
    /// The value; none where it holds what a header cannot.
    fn into_header(self) -> Option<HeaderValue>;
}

impl IntoHeader for HeaderValue {
    fn into_header(self) -> Option<HeaderValue> {
        Some(self)
    }
}

impl IntoHeader for &str {
    fn into_header(self) -> Option<HeaderValue> {
        HeaderValue::from_str(self).ok()
    }
}

impl IntoHeader for String {
    fn into_header(self) -> Option<HeaderValue> {
        HeaderValue::try_from(self).ok()
    }
}

/// What is known of a draft's body.
enum Body {
    Empty,
    /// As it will be inspected.
    Text(String),
    /// It cannot be inspected.
    Unreadable,
    /// It need not be: the class is PHI.
    Phi,
}

/// One value of a form.
pub(crate) enum FormValue<'a> {
    /// Inspected like everything else.
    Plain(&'a str),
    /// A word of the protocol, from the program itself: it says nothing of anybody.
    Fixed(&'static str),
    /// Proof of who we are, which we made ourselves; an inspection would only see that it is unreadable.
    Credential(&'a str),
}

impl Gate {
    /// A client that follows no redirect, heeds no proxy of the environment, never repeats a request by itself, and
    /// connects to no address that a name of its vendors may not have.
    pub(crate) fn http<C: Declared>(
        &self,
        channel: Channel,
        options: &ClientOptions<'_>,
    ) -> Result<HttpClient<C>, reqwest::Error> {
        let names = CheckedNames {
            gate: Arc::downgrade(&self.0),
            channel,
            class: C::CLASS,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "the gate: the one place that makes HTTP clients"
        )]
        let mut builder = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .dns_resolver(names)
            .user_agent(concat!("chaperone/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_millis(options.connect_timeout_ms))
            .timeout(Duration::from_millis(options.exchange_timeout_ms));
        if !options.keep_connections {
            builder = builder.pool_max_idle_per_host(0);
        }
        if !options.encrypted {
            builder = builder.tls_certs_only([]);
        } else if let Some(pem) = options.extra_root_pem {
            builder = builder.tls_certs_merge(Certificate::from_pem_bundle(pem)?);
        }
        Ok(HttpClient {
            gate: self.clone(),
            channel,
            below: None,
            http: builder.build()?,
            class: PhantomData,
        })
    }
}

impl<C: Declared> HttpClient<C> {
    /// The same below an address of the configuration.
    pub(crate) fn below(mut self, base: Option<Url>) -> Self {
        self.below = base;
        self
    }

    /// A GET.
    pub(crate) fn get(&self, url: Url) -> Outgoing<C> {
        self.draft(&url, |url| self.http.get(url))
    }

    /// A POST.
    pub(crate) fn post(&self, url: Url) -> Outgoing<C> {
        self.draft(&url, |url| self.http.post(url))
    }

    /// A PUT.
    pub(crate) fn put(&self, url: Url) -> Outgoing<C> {
        self.draft(&url, |url| self.http.put(url))
    }

    /// A PATCH.
    pub(crate) fn patch(&self, url: Url) -> Outgoing<C> {
        self.draft(&url, |url| self.http.patch(url))
    }

    fn draft(&self, url: &Url, begin: impl FnOnce(Url) -> RequestBuilder) -> Outgoing<C> {
        // The library would take a user name out of the URL and send it as a header.
        let is_plain = url.username().is_empty() && url.password().is_none();
        Outgoing {
            client: self.clone(),
            request: begin(url.clone()),
            body: Body::Empty,
            fault: (!is_plain).then_some(EgressRule::DestinationForm),
        }
    }
}

impl<C: Declared> Outgoing<C> {
    /// With a header. One that holds a line break makes the draft one that is refused.
    pub(crate) fn header(mut self, name: HeaderName, value: impl IntoHeader) -> Self {
        self.request = match value.into_header() {
            Some(value) => self.request.header(name, value),
            None => {
                self.fault = Some(EgressRule::HeaderForm);
                self.request
            }
        };
        self
    }

    /// With so many milliseconds for the whole exchange, in place of the client's.
    pub(crate) fn within_ms(mut self, timeout_ms: u64) -> Self {
        self.request = self
            .request
            .timeout(std::time::Duration::from_millis(timeout_ms));
        self
    }

    /// With a JSON body.
    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.request = self.request.json(body);
        self.body = match C::CLASS {
            DataClass::Phi => Body::Phi,
            _ => content::of_json(body).map_or(Body::Unreadable, Body::Text),
        };
        self
    }

    /// With a form.
    pub(crate) fn form(mut self, pairs: &[(&str, FormValue<'_>)]) -> Self {
        let values: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(name, value)| match value {
                FormValue::Plain(text) | FormValue::Fixed(text) | FormValue::Credential(text) => {
                    (*name, *text)
                }
            })
            .collect();
        self.request = self.request.form(&values);
        let inspected = pairs.iter().filter_map(|(name, value)| match value {
            FormValue::Plain(text) => Some((*name, *text)),
            FormValue::Fixed(_) | FormValue::Credential(_) => None,
        });
        self.body = match C::CLASS {
            DataClass::Phi => Body::Phi,
            _ => Body::Text(content::of_form(inspected)),
        };
        self
    }
}

impl Outgoing<Phi> {
    /// With a body that goes out byte for byte.
    pub(crate) fn body(mut self, body: impl Into<reqwest::Body>) -> Self {
        self.request = self.request.body(body);
        self.body = Body::Phi;
        self
    }
}

/// An exchange that brought no status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The gate refused it: nothing was written.
    Refused(EgressRefusal),
    /// It ended before any byte of the request was written.
    NotSent,
    /// It ended some time after; the server may have acted.
    Interrupted,
}

/// Sends once and reads at most `body_bytes_max` of the answer.
pub(crate) async fn exchange<C: Declared>(
    draft: Outgoing<C>,
    body_bytes_max: usize,
) -> Result<Answer, Broken> {
    let Outgoing {
        client,
        request,
        body,
        fault,
    } = draft;
    // A header, or a URL, that no request can have.
    let request = request.build().map_err(|_| EgressRule::HeaderForm);
    let request = fault
        .map_or(request, Err)
        .map_err(|rule| Broken::Refused(client.ill_formed(rule)))?;
    client.admit(&request, &body).map_err(Broken::Refused)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the gate: the one place that sends over HTTP"
    )]
    let answered = client.http.execute(request).await;
    match answered {
        Ok(response) => Ok(read_answer(response, body_bytes_max).await),
        Err(failed) => Err(match refused_name(&failed) {
            Some(refusal) => Broken::Refused(refusal),
            // A connect failure covers name resolution, refused connections and TLS: nothing was written.
            // Everything else may have happened after the first byte.
            None if failed.is_connect() || failed.is_builder() => Broken::NotSent,
            None => Broken::Interrupted,
        }),
    }
}

impl<C: Declared> HttpClient<C> {
    fn ill_formed(&self, rule: EgressRule) -> EgressRefusal {
        let refusal = EgressRefusal {
            channel: self.channel,
            class: C::CLASS,
            vendor: None,
            rule,
        };
        let now = self.gate.0.given.clock.now();
        self.gate.count_refusal(&refusal, now);
        refusal
    }

    fn admit(&self, request: &Request, body: &Body) -> Result<(), EgressRefusal> {
        let mut texts = Vec::new();
        let mut is_readable = true;
        // An EHR has its own ids in its addresses and conditions, and our gateway those of its tools.
        if !matches!(self.channel, Channel::Ehr | Channel::Gateway) {
            // Token endpoints are told by configuration or EHR, never by who asks; the ids of AuditEvents are ours.
            if !matches!(self.channel, Channel::Authorization | Channel::AuditStream) {
                texts.push(content::of_url(request.url(), self.below.as_ref()));
            }
            match content::of_headers(request.headers()) {
                Some(text) => texts.push(text),
                None => is_readable = false,
            }
        }
        match body {
            Body::Text(text) => texts.push(text.clone()),
            Body::Unreadable => is_readable = false,
            Body::Empty | Body::Phi => {}
        }
        let bytes = request.body().and_then(reqwest::Body::as_bytes);
        let asked = Asked {
            channel: self.channel,
            class: C::CLASS,
            destination: destination_of(request.url()),
            bytes: bytes.map_or(0, |bytes| bytes.len() as u64),
            texts: is_readable.then_some(texts.as_slice()),
        };
        self.gate.admit(&asked)
    }
}

/// The refusal of a name, somewhere among the causes of a failure.
fn refused_name(failed: &reqwest::Error) -> Option<EgressRefusal> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(failed);
    for _ in 0..CAUSES_MAX {
        let this = cause?;
        if let Some(AddressRefused(refusal)) = this.downcast_ref::<AddressRefused>() {
            return Some(refusal.clone());
        }
        cause = this.source();
    }
    None
}
