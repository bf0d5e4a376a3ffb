//! Rules on entries that depend on the type of the Bundle: URLs, search modes, requests and responses.
//!
//! Start at [`Check::entries`].

use std::collections::HashSet;

use super::{BundleType, Check, Entry, Resolution};
use crate::finding::id;
use crate::json::{Kind, Value};
use crate::primitive::is_absolute_uri;
use crate::references::ReferenceForm;

impl<'d> Check<'_, 'd, '_> {
    pub(super) fn entries(&mut self) {
        self.total();
        let mut urls = HashSet::new();
        let index = self.index;
        for entry in index.entries() {
            if self.report.is_full() {
                return;
            }
            if entry.value.kind() == Kind::Object {
                self.parts(entry);
                self.full_url(entry, &mut urls);
            }
        }
        if self.bundle_type == BundleType::Searchset {
            self.search();
        }
    }

    /// Invariant bdl-1.
    fn total(&mut self) {
        let is_counted = matches!(
            self.bundle_type,
            BundleType::Searchset | BundleType::History
        );
        if let Some(total) = self.bundle.get("total")
            && !is_counted
        {
            let at = self.at("total");
            self.breach(
                "bdl-1",
                total,
                at,
                "only search results and histories have a `total`",
            );
        }
    }

    /// Invariants bdl-2 to bdl-5: which parts an entry has.
    fn parts(&mut self, entry: &Entry<'d>) {
        use BundleType::{History, Searchset};
        let part = |name: &str| entry.value.get(name);
        let (search, request, response) = (part("search"), part("request"), part("response"));
        let of = self.bundle_type;
        if let Some(at) = search
            && of != Searchset
        {
            let expression = self.at_entry(entry, ".search");
            self.breach(
                "bdl-2",
                at,
                expression,
                "only entries of search results have `search`",
            );
        }
        let has_request = of.is_request() || of == History;
        if request.is_some() != has_request {
            let message = if has_request {
                "an entry of a batch, transaction or history needs a `request`"
            } else {
                "only entries of batches, transactions and histories have a `request`"
            };
            let expression = self.at_entry(entry, "");
            self.breach("bdl-3", request.unwrap_or(entry.value), expression, message);
        }
        let has_response = of.is_response() || of == History;
        if response.is_some() != has_response {
            let message = if has_response {
                "an entry of a response or history needs a `response`"
            } else {
                "only entries of responses and histories have a `response`"
            };
            let expression = self.at_entry(entry, "");
            self.breach(
                "bdl-4",
                response.unwrap_or(entry.value),
                expression,
                message,
            );
        }
        if entry.resource.is_none() && request.is_none() && response.is_none() {
            let expression = self.at_entry(entry, "");
            self.breach(
                "bdl-5",
                entry.value,
                expression,
                "an entry without `resource` needs a `request` or `response`",
            );
        }
    }

    /// The URL is there, absolute, without version, that of the resource, and its own.
    fn full_url(&mut self, entry: &Entry<'d>, urls: &mut HashSet<(&'d str, Option<&'d str>)>) {
        let (Some(url), Some(at)) = (entry.full_url, entry.value.get("fullUrl")) else {
            if entry.resource.is_some()
                && !self.bundle_type.is_request()
                && !self.bundle_type.is_response()
            {
                let expression = self.at_entry(entry, "");
                let message = "an entry outside batches and transactions needs a `fullUrl`, the identity of its resource".to_owned();
                self.report
                    .error(id::BUNDLE_FULL_URL, entry.value, expression, message);
            }
            return;
        };
        let expression = self.at_entry(entry, ".fullUrl");
        if url.is_empty() {
            return;
        }
        if !is_absolute_uri(url) {
            let message =
                "`fullUrl` must be an absolute URL or `urn:uuid:…`, `urn:oid:…`".to_owned();
            self.report
                .error(id::BUNDLE_FULL_URL, at, expression.clone(), message);
        }
        // A history has one entry per version; elsewhere versions must tell entries apart.
        if !urls.insert((url, entry.version)) && self.bundle_type != BundleType::History {
            self.breach(
                "bdl-7",
                at,
                expression.clone(),
                "another entry has the same `fullUrl` (and version)",
            );
        }
        if let ReferenceForm::Typed {
            version: Some(_), ..
        } = ReferenceForm::parse(url)
        {
            self.breach("bdl-8", at, expression, "`fullUrl` must not name a version");
            return;
        }
        self.url_and_id(entry, url, at, expression);
    }

    /// `fullUrl` must not disagree with the id of the resource.
    fn url_and_id(&mut self, entry: &Entry<'d>, url: &str, at: Value<'d>, expression: String) {
        let (Some(type_name), Some(own)) = (entry.resource_type, entry.id) else {
            return;
        };
        match ReferenceForm::parse(url) {
            ReferenceForm::Typed {
                resource_type, id, ..
            } if self.definitions.is_resource_type(resource_type) => {
                let is_same = (resource_type, id) == (type_name, own);
                if !is_same {
                    let message = format!(
                        "`fullUrl` says {}/{}, but the resource is {}/{}",
                        resource_type,
                        id,
                        crate::validate::quotable(type_name),
                        crate::validate::quotable(own)
                    );
                    self.report
                        .error(id::BUNDLE_FULL_URL_ID, at, expression, message);
                }
            }
            ReferenceForm::OtherAbsolute | ReferenceForm::Typed { .. }
                if url.starts_with("http") && !url.ends_with(own) =>
            {
                let message =
                    "`fullUrl` should end with the type and id of the resource".to_owned();
                self.report
                    .warning(id::BUNDLE_FULL_URL_ID, at, expression, message);
            }
            _ => {}
        }
    }

    /// Search results: modes, ids, and the types that were searched for.
    fn search(&mut self) {
        let searched = self.searched_types();
        let mut matches = 0_u64;
        let index = self.index;
        for entry in index.entries() {
            let Some(resource) = entry.resource else {
                continue;
            };
            let expression = self.at_entry(entry, ".resource");
            let mode = entry
                .value
                .get("search")
                .and_then(|it| it.get("mode"))
                .and_then(Value::as_str);
            let is_outcome = entry.resource_type == Some("OperationOutcome");
            if mode == Some("outcome") {
                if !is_outcome {
                    let message =
                        "an entry of mode `outcome` must be an OperationOutcome".to_owned();
                    self.report
                        .error(id::BUNDLE_SEARCH, resource, expression, message);
                }
                continue;
            }
            if mode == Some("match") || (mode.is_none() && !is_outcome) {
                matches += 1;
            }
            if entry.id.is_none() && (!is_outcome || mode.is_some()) {
                let message = "a search result needs an `id`".to_owned();
                self.report
                    .error(id::BUNDLE_SEARCH, resource, expression.clone(), message);
            }
            if mode == Some("match")
                && let (Some(searched), Some(own)) = (&searched, entry.resource_type)
                && !searched.contains(&own)
            {
                let message = format!(
                    "a match must be of the type that was searched for: {}",
                    searched.join(", ")
                );
                self.report
                    .error(id::BUNDLE_SEARCH, resource, expression, message);
            }
        }
        let total = self.bundle.get("total");
        if let Some(at) = total
            && total
                .and_then(Value::as_number)
                .and_then(|it| it.parse::<u64>().ok())
                .is_some_and(|it| it < matches)
        {
            let expression = self.at("total");
            let message = "`total` is less than the number of matches in this Bundle".to_owned();
            self.report
                .warning(id::BUNDLE_SEARCH, at, expression, message);
        }
    }

    /// The types that the `self` link says were searched for, if it does.
    fn searched_types(&self) -> Option<Vec<&'d str>> {
        let link = self
            .bundle
            .get("link")?
            .children()
            .find(|it| it.get("relation").and_then(Value::as_str) == Some("self"))?;
        let url = link.get("url").and_then(Value::as_str)?;
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let is_type = |it: &&str| self.definitions.is_resource_type(it);
        let named: Vec<&str> = query
            .split('&')
            .filter_map(|it| it.strip_prefix("_type="))
            .flat_map(|it| it.split(','))
            .filter(is_type)
            .collect();
        if !named.is_empty() {
            return Some(named);
        }
        path.rsplit('/').next().filter(is_type).map(|it| vec![it])
    }

    /// References that look as if they led to an entry, but do not.
    pub(super) fn references(&mut self) {
        let index = self.index;
        for entry in index.entries() {
            let Some(resource) = entry.resource else {
                continue;
            };
            let mut near = Vec::new();
            let mut urns = Vec::new();
            super::document::each_reference(resource, &mut |at, text| match index
                .resolve(entry.full_url, text)
            {
                Resolution::OnlyTypeAndId(_) => near.push(at),
                Resolution::Nothing if text.starts_with("urn:uuid:") => urns.push(at),
                _ => {}
            });
            let expression = self.at_entry(entry, ".resource");
            // Requests name what servers hold, by relative references; those need no entry.
            if !self.bundle_type.is_request() {
                for at in near {
                    let message = "an entry has this type and id, but by its `fullUrl` the reference does not lead to it; use the entry's `fullUrl`".to_owned();
                    self.report
                        .warning(id::BUNDLE_REFERENCE_NEAR, at, expression.clone(), message);
                }
            }
            for at in urns {
                let message =
                    "no entry of the Bundle has this `urn:uuid:` as its `fullUrl`".to_owned();
                self.report
                    .warning(id::BUNDLE_REFERENCE_URN, at, expression.clone(), message);
            }
        }
    }
}
