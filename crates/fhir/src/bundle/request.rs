//! Requests of batches and transactions: method, URL and resource must fit together.
//!
//! Start at [`Check::requests`].
//!
//! Rules: <https://hl7.org/fhir/R4/http.html#transaction>.

use std::collections::HashSet;

use super::{BundleType, Check, Entry};
use crate::finding::id;
use crate::json::Value;
use crate::primitive::is_id;
use crate::validate::quotable;

/// What the URL of a request names, relative to the server.
enum Target<'d> {
    /// `Type`
    Type(&'d str),
    /// `Type/id`
    Instance(&'d str, &'d str),
    /// `Type?query`
    Conditional(&'d str),
    /// An operation, a search by POST, or anything else that is not about one resource.
    Other,
}

impl<'d> Target<'d> {
    fn parse(url: &'d str) -> Self {
        let (path, query) = match url.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (url, None),
        };
        // An absolute URL on the server to which the Bundle is sent ends in the same way.
        let mut parts = path.rsplit('/');
        let (last, before) = (parts.next().unwrap_or_default(), parts.next());
        let is_type =
            |it: &str| it.starts_with(|first: char| first.is_ascii_uppercase()) && is_id(it);
        if last.starts_with(['$', '_']) || last.is_empty() {
            return Self::Other;
        }
        match (before, query) {
            (_, Some(_)) if is_type(last) => Self::Conditional(last),
            (Some(type_name), None) if is_type(type_name) && is_id(last) => {
                Self::Instance(type_name, last)
            }
            (_, None) if is_type(last) => Self::Type(last),
            _ => Self::Other,
        }
    }

    fn type_name(&self) -> Option<&'d str> {
        match self {
            Self::Type(name) | Self::Instance(name, _) | Self::Conditional(name) => Some(name),
            Self::Other => None,
        }
    }
}

impl<'d> Check<'_, 'd, '_> {
    pub(super) fn requests(&mut self) {
        if !self.bundle_type.is_request() {
            return;
        }
        let mut changed = HashSet::new();
        let index = self.index;
        for entry in index.entries() {
            let Some(request) = entry.value.get("request") else {
                continue;
            };
            let text = |name: &str| request.get(name).and_then(Value::as_str);
            if let (Some(method), Some(url)) = (text("method"), text("url")) {
                self.request(entry, request, method, url);
                let is_change = matches!(method, "PUT" | "PATCH" | "DELETE");
                if is_change
                    && matches!(Target::parse(url), Target::Instance(..))
                    && !changed.insert(url)
                    && self.bundle_type == BundleType::Transaction
                {
                    let message =
                        "another entry of the transaction changes the same resource".to_owned();
                    self.wrong(entry, request, message);
                }
            }
        }
    }

    fn wrong(&mut self, entry: &Entry<'d>, request: Value<'d>, message: String) {
        let expression = self.at_entry(entry, ".request");
        self.report
            .error(id::BUNDLE_REQUEST, request, expression, message);
    }

    fn request(&mut self, entry: &Entry<'d>, request: Value<'d>, method: &str, url: &'d str) {
        let target = Target::parse(url);
        if let Some(name) = target.type_name()
            && !self.definitions.is_resource_type(name)
        {
            let message = format!("`{}` is not a resource type", quotable(name));
            self.wrong(entry, request, message);
            return;
        }
        match method {
            "POST" => self.post(entry, request, &target),
            "PUT" => self.put(entry, request, &target),
            "PATCH" => {
                if entry.resource.is_none() {
                    self.wrong(
                        entry,
                        request,
                        "PATCH needs a `resource` that holds the patch".to_owned(),
                    );
                }
                if matches!(target, Target::Type(_)) {
                    self.wrong(
                        entry,
                        request,
                        "PATCH needs the URL `Type/id` or `Type?query`".to_owned(),
                    );
                }
            }
            "DELETE" => {
                if matches!(target, Target::Type(_)) {
                    self.wrong(
                        entry,
                        request,
                        "DELETE needs the URL `Type/id` or `Type?query`".to_owned(),
                    );
                }
            }
            _ => {}
        }
        if matches!(method, "GET" | "HEAD" | "DELETE") && entry.resource.is_some() {
            let expression = self.at_entry(entry, ".resource");
            let message = format!("{method} takes no `resource`; it is passed over");
            self.report
                .warning(id::BUNDLE_REQUEST, entry.value, expression, message);
        }
        if method != "POST" && request.get("ifNoneExist").is_some() {
            self.wrong(entry, request, "`ifNoneExist` is for POST only".to_owned());
        }
    }

    fn post(&mut self, entry: &Entry<'d>, request: Value<'d>, target: &Target<'d>) {
        match target {
            Target::Other => return,
            Target::Instance(..) | Target::Conditional(_) => {
                self.wrong(
                    entry,
                    request,
                    "POST creates a resource at the URL `Type`; to change one, use PUT".to_owned(),
                );
                return;
            }
            Target::Type(_) => {}
        }
        self.resource_of(entry, request, "POST", target);
    }

    fn put(&mut self, entry: &Entry<'d>, request: Value<'d>, target: &Target<'d>) {
        if let Target::Type(_) = target {
            self.wrong(
                entry,
                request,
                "PUT needs the URL `Type/id` or `Type?query`".to_owned(),
            );
            return;
        }
        self.resource_of(entry, request, "PUT", target);
        if let Target::Instance(_, wanted) = target
            && let Some(resource) = entry.resource
            && entry.id != Some(wanted)
        {
            let expression = self.at_entry(entry, ".resource");
            let message = format!(
                "PUT replaces the resource at its URL, so the resource must have the id `{}`",
                quotable(wanted)
            );
            self.report
                .error(id::BUNDLE_REQUEST, resource, expression, message);
        }
    }

    /// The resource is there and of the type that the URL names.
    fn resource_of(
        &mut self,
        entry: &Entry<'d>,
        request: Value<'d>,
        method: &str,
        target: &Target<'d>,
    ) {
        if entry.resource.is_none() {
            self.wrong(entry, request, format!("{method} needs a `resource`"));
            return;
        }
        if let (Some(named), Some(own)) = (target.type_name(), entry.resource_type)
            && named != own
        {
            let message = format!(
                "the URL says {}, but the resource is of type {}",
                quotable(named),
                quotable(own)
            );
            self.wrong(entry, request, message);
        }
    }
}
