//! Reading and searching. Reads may be repeated; nothing of an answer is logged.

use std::time::Duration;

use chaperone_core::ports::{EhrRead, EhrReadFailed, EhrSearch};
use chaperone_core::resource::ResourceType;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderName};
use serde_json::Value;
use url::Url;

use super::{FhirEndpoint, SearchBy};
use crate::egress::{FormValue, Outgoing, class, exchange};
use crate::http::{Answer, BodyUnusable};
use crate::smart::TokenFailed;

/// The media type of FHIR JSON.
pub(super) const FHIR_JSON: &str = "application/fhir+json";

/// `Prefer`, which has no constant.
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How often a read is sent at most: once, and once more with a new token after a 401.
const READ_SENDS_MAX: u32 = 2;

/// Longest logical id.
///
/// # Source
/// FHIR R4, datatype `id`.
const ID_BYTES_MAX: usize = 64;

/// Whether a text can be a logical or version id, and so stand in a URL as it is.
pub(super) fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && text != "."
        && text != ".."
}

/// Among whom a read waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Whoever asks through the port.
    Asked,
    /// What delivery must know of its own writes. Behind everybody who asks, the read-back of a write that
    /// was accepted could come too late, and its outcome would count as unknown.
    Delivery,
}

impl FhirEndpoint {
    pub(super) async fn read_one(
        &self,
        turn: Turn,
        resource: &ResourceType,
        id: &str,
    ) -> Result<Value, EhrReadFailed> {
        if !is_id(id) {
            return Err(EhrReadFailed::NotFound);
        }
        let found = self
            .get(turn, &format!("{resource}/{id}"), resource.as_str())
            .await?;
        if found.get("id").and_then(Value::as_str) == Some(id) {
            Ok(found)
        } else {
            Err(EhrReadFailed::Unusable)
        }
    }

    /// Reads one resource of an expected type at a path made of checked names.
    pub(super) async fn get(
        &self,
        turn: Turn,
        path: &str,
        expected: &str,
    ) -> Result<Value, EhrReadFailed> {
        let url = self.base.at(path).ok_or(EhrReadFailed::Unusable)?;
        let answer = self
            .in_time(
                turn,
                self.read_exchange(|| self.read_client.get(url.clone())),
            )
            .await?;
        match answer.status {
            StatusCode::OK => resource_of(&answer, expected),
            status => Err(read_refused(status)),
        }
    }

    pub(super) async fn search_all(
        &self,
        turn: Turn,
        search: EhrSearch,
    ) -> Result<EhrRead, EhrReadFailed> {
        self.in_time(turn, self.search_pages(search)).await
    }

    async fn in_time<T>(
        &self,
        turn: Turn,
        call: impl Future<Output = Result<T, EhrReadFailed>>,
    ) -> Result<T, EhrReadFailed> {
        let limit = Duration::from_millis(self.limits.read_timeout_ms);
        let in_turn = async {
            let places = match turn {
                Turn::Asked => &self.reads_under_way,
                Turn::Delivery => &self.own_reads_under_way,
            };
            // Nobody closes the semaphore.
            let place = places.acquire().await;
            let _place = place.map_err(|_closed| EhrReadFailed::Unavailable)?;
            call.await
        };
        tokio::time::timeout(limit, in_turn)
            .await
            .unwrap_or(Err(EhrReadFailed::Unavailable))
    }

    async fn search_pages(&self, search: EhrSearch) -> Result<EhrRead, EhrReadFailed> {
        let limit = usize::try_from(search.limit).unwrap_or(usize::MAX);
        let asked = |(name, value): &(String, String)| {
            (name == "_count").then(|| value.parse().unwrap_or(u32::MAX))
        };
        let count = search.parameters.iter().find_map(asked);
        let count = count
            .unwrap_or(search.limit)
            .clamp(1, self.limits.page_size_max);
        let mut parameters = search.parameters.clone();
        parameters.retain(|(name, _)| name != "_count");
        parameters.push(("_count".to_owned(), count.to_string()));
        let mut page = self.first_page(&search.resource, &parameters).await?;
        if ignored_a_parameter(&page, &search.parameters) {
            return Err(EhrReadFailed::Unsupported);
        }
        let mut resources = Vec::new();
        for _ in 1..self.limits.pages_max {
            take_matches(&mut page, &search.resource, &mut resources)?;
            let next = match link(&page, "next") {
                Some(next) => self.base.follow(next).ok_or(EhrReadFailed::Unusable)?,
                None => {
                    let more = cut_short(&page, resources.len());
                    return Ok(limited(resources, limit, more));
                }
            };
            if resources.len() >= limit {
                return Ok(limited(resources, limit, true));
            }
            let answer = self
                .read_exchange(|| self.searching(self.read_client.get(next.clone())))
                .await?;
            page = bundle_of(&answer)?;
        }
        take_matches(&mut page, &search.resource, &mut resources)?;
        let more = link(&page, "next").is_some();
        Ok(limited(resources, limit, more))
    }

    /// By POST, so that identifiers stay out of URLs. A server that answers POST with 404, 405 or 501 and
    /// the same search by GET with 200 is asked by GET from then on. One that has answered a search by
    /// POST is never asked by GET: whatever fails there later, an identifier in a URL does not mend it.
    async fn first_page(
        &self,
        resource: &ResourceType,
        parameters: &[(String, String)],
    ) -> Result<Value, EhrReadFailed> {
        let known = self.search_by.get();
        if known != Some(&SearchBy::Get) {
            let url = self
                .base
                .at(&format!("{resource}/_search"))
                .ok_or(EhrReadFailed::Unusable)?;
            let form: Vec<(&str, FormValue<'_>)> = parameters
                .iter()
                .map(|(name, value)| (name.as_str(), FormValue::Plain(value)))
                .collect();
            let answer = self
                .read_exchange(|| self.searching(self.read_client.post(url.clone()).form(&form)))
                .await?;
            let by_get_only = matches!(
                answer.status,
                StatusCode::NOT_FOUND
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::NOT_IMPLEMENTED
            );
            if known == Some(&SearchBy::Post) || !by_get_only {
                let page = bundle_of(&answer)?;
                let _ = self.search_by.set(SearchBy::Post);
                return Ok(page);
            }
        }
        let url = self.search_url(resource, parameters)?;
        let answer = self
            .read_exchange(|| self.searching(self.read_client.get(url.clone())))
            .await?;
        let page = bundle_of(&answer)?;
        if self.search_by.set(SearchBy::Get).is_ok() {
            tracing::warn!(
                connection = %self.connection,
                "the EHR answers searches by GET only; identifiers will be in its access logs"
            );
        }
        Ok(page)
    }

    fn search_url(
        &self,
        resource: &ResourceType,
        parameters: &[(String, String)],
    ) -> Result<Url, EhrReadFailed> {
        let mut url = self
            .base
            .at(resource.as_str())
            .ok_or(EhrReadFailed::Unusable)?;
        url.query_pairs_mut().extend_pairs(parameters);
        Ok(url)
    }

    fn searching(&self, request: Outgoing<class::Phi>) -> Outgoing<class::Phi> {
        request.header(PREFER, "handling=strict")
    }

    /// Sends a read, once more with a new token after a 401.
    async fn read_exchange(
        &self,
        build: impl Fn() -> Outgoing<class::Phi>,
    ) -> Result<Answer, EhrReadFailed> {
        let mut sends = 0;
        loop {
            sends += 1;
            let mut request = build().header(ACCEPT, FHIR_JSON);
            let mut used = None;
            if let Some(auth) = &self.read_auth {
                let header = auth.authorization().await.map_err(token_failed)?;
                request = request.header(AUTHORIZATION, header.clone());
                used = Some((auth, header));
            }
            let answer = exchange(request, self.limits.body_bytes_max)
                .await
                .map_err(|_| EhrReadFailed::Unavailable)?;
            match used {
                Some((auth, header)) if answer.status == StatusCode::UNAUTHORIZED => {
                    auth.forget(&header).await;
                    if sends >= READ_SENDS_MAX {
                        return Ok(answer);
                    }
                }
                _ => return Ok(answer),
            }
        }
    }
}

/// What a missing token means for a read.
pub(super) fn token_failed(failed: TokenFailed) -> EhrReadFailed {
    match failed {
        TokenFailed::Refused => EhrReadFailed::Unauthorized,
        TokenFailed::Unavailable => EhrReadFailed::Unavailable,
        TokenFailed::RateLimited { .. } => EhrReadFailed::RateLimited,
    }
}

fn read_refused(status: StatusCode) -> EhrReadFailed {
    match status.as_u16() {
        404 | 410 => EhrReadFailed::NotFound,
        401 | 403 => EhrReadFailed::Unauthorized,
        429 => EhrReadFailed::RateLimited,
        405 | 501 => EhrReadFailed::Unsupported,
        408 | 500..=599 => EhrReadFailed::Unavailable,
        _ => EhrReadFailed::Unusable,
    }
}

fn search_refused(status: StatusCode) -> EhrReadFailed {
    match status.as_u16() {
        400 | 404 | 405 | 406 | 415 | 422 | 501 => EhrReadFailed::Unsupported,
        _ => read_refused(status),
    }
}

fn resource_of(answer: &Answer, expected: &str) -> Result<Value, EhrReadFailed> {
    if answer.body == Err(BodyUnusable::Interrupted) {
        return Err(EhrReadFailed::Unavailable);
    }
    answer
        .json()
        .filter(|value| value.get("resourceType").and_then(Value::as_str) == Some(expected))
        .ok_or(EhrReadFailed::Unusable)
}

fn bundle_of(answer: &Answer) -> Result<Value, EhrReadFailed> {
    match answer.status {
        StatusCode::OK => resource_of(answer, "Bundle"),
        status => Err(search_refused(status)),
    }
}

/// The URL of a link of a Bundle.
pub(super) fn link<'a>(bundle: &'a Value, relation: &str) -> Option<&'a str> {
    bundle
        .get("link")?
        .as_array()?
        .iter()
        .find(|link| link.get("relation").and_then(Value::as_str) == Some(relation))?
        .get("url")?
        .as_str()
}

/// Moves the matches of a page into `resources`. Outcomes and includes are dropped; a match of another
/// type than the one searched for makes the answer unusable.
fn take_matches(
    page: &mut Value,
    searched: &ResourceType,
    resources: &mut Vec<Value>,
) -> Result<(), EhrReadFailed> {
    let Some(entries) = page.get_mut("entry") else {
        return Ok(());
    };
    let entries = entries.as_array_mut().ok_or(EhrReadFailed::Unusable)?;
    for entry in entries {
        let mode = entry
            .pointer("/search/mode")
            .map_or(Some("match"), Value::as_str);
        if mode != Some("match") {
            continue;
        }
        let resource = entry
            .get_mut("resource")
            .map(Value::take)
            .ok_or(EhrReadFailed::Unusable)?;
        match resource.get("resourceType").and_then(Value::as_str) {
            Some("OperationOutcome") => {}
            Some(kind) if kind == searched.as_str() => resources.push(resource),
            _ => return Err(EhrReadFailed::Unusable),
        }
    }
    Ok(())
}

/// Whether the server's `self` link, which names the parameters it used, lacks one of ours.
///
/// A server that gives no `self` link, or one without a query, says nothing; then only the check of every
/// hit against the patient's compartment stands, which the engine does in any case.
///
/// # Source
/// FHIR R4, Search, "Server Conformance": the `self` link holds the parameters that were used.
fn ignored_a_parameter(bundle: &Value, asked: &[(String, String)]) -> bool {
    let Some(query) = link(bundle, "self").and_then(|url| url.split_once('?')) else {
        return false;
    };
    let used: Vec<String> = url::form_urlencoded::parse(query.1.as_bytes())
        .map(|(name, _)| base_name(&name).to_owned())
        .collect();
    // Controls of the result (`_count`, `_sort`, …) are often left out and select nothing.
    asked
        .iter()
        .map(|(name, _)| base_name(name))
        .filter(|name| !name.starts_with('_'))
        .any(|name| !used.iter().any(|used| used == name))
}

/// Whether there are more matches than came, on a server that cuts a page short and gives no link.
///
/// # Source
/// FHIR R4, Bundle.total: the number of matches in all pages.
fn cut_short(last_page: &Value, came: usize) -> bool {
    let total = last_page.get("total").and_then(Value::as_u64);
    total.is_some_and(|total| usize::try_from(total).unwrap_or(usize::MAX) > came)
}

fn base_name(parameter: &str) -> &str {
    parameter.split([':', '.']).next().unwrap_or(parameter)
}

fn limited(mut resources: Vec<Value>, limit: usize, more: bool) -> EhrRead {
    let more = more || resources.len() > limit;
    resources.truncate(limit);
    EhrRead { resources, more }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids() {
        for good in ["1", "a-b.c", "A9"] {
            assert!(is_id(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a_b", "a?b", "é"] {
            assert!(!is_id(bad), "{bad}");
        }
        assert!(!is_id(&"a".repeat(ID_BYTES_MAX + 1)));
    }

    #[test]
    fn a_parameter_that_the_self_link_lacks_was_ignored() {
        let asked = vec![
            ("patient".to_owned(), "1".to_owned()),
            ("code:in".to_owned(), "x".to_owned()),
            ("_sort".to_owned(), "-date".to_owned()),
        ];
        let bundle = |url: &str| json!({"link": [{"relation": "self", "url": url}]});
        assert!(!ignored_a_parameter(
            &bundle("http://e/O?patient=1&code%3Ain=x"),
            &asked
        ));
        assert!(ignored_a_parameter(
            &bundle("http://e/O?patient=1&_sort=-date"),
            &asked
        ));
        assert!(!ignored_a_parameter(&bundle("http://e/O/_search"), &asked));
        assert!(!ignored_a_parameter(&json!({}), &asked));
    }

    #[test]
    fn a_last_page_with_fewer_than_its_total_was_cut_short() {
        assert!(cut_short(&json!({"total": 3}), 2));
        assert!(!cut_short(&json!({"total": 2}), 2));
        // An estimate below what came, and no total at all, say nothing.
        assert!(!cut_short(&json!({"total": 1}), 2));
        assert!(!cut_short(&json!({}), 2));
        assert!(!cut_short(&json!({"total": "3"}), 2));
    }
}
