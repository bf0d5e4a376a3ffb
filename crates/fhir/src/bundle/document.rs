//! Documents and messages: what comes first, what must be inside, and that everything inside belongs.
//!
//! Start at [`Check::document_or_message`].
//!
//! Rules: <https://hl7.org/fhir/R4/documents.html#content>, <https://hl7.org/fhir/R4/messaging.html>.

use super::{BundleType, Check, Resolution};
use crate::finding::id;
use crate::json::{Kind, Value};

/// Where a Composition refers to what the document must hold: path of names.
///
/// # Source
/// FHIR R4, 3.3.1 Document content.
const COMPOSITION_REFERENCES: [&[&str]; 6] = [
    &["subject"],
    &["encounter"],
    &["author"],
    &["attester", "party"],
    &["custodian"],
    &["event", "detail"],
];

/// Deepest nesting of sections that is followed; the reader's own limit on depth is near it.
const SECTIONS_DEPTH_MAX: usize = 64;

/// Calls with every `Reference.reference` of a resource, in the order of the source.
pub(super) fn each_reference<'d>(resource: Value<'d>, visit: &mut dyn FnMut(Value<'d>, &'d str)) {
    each_text(resource, &mut |value, text| {
        if value.key() == Some("reference") {
            visit(value, text);
        }
    });
}

/// Calls with every string of a resource.
fn each_text<'d>(resource: Value<'d>, visit: &mut dyn FnMut(Value<'d>, &'d str)) {
    let mut open = vec![resource.children()];
    while let Some(children) = open.last_mut() {
        match children.next() {
            None => {
                open.pop();
            }
            Some(value) => match value.kind() {
                Kind::Object | Kind::Array => open.push(value.children()),
                Kind::String => {
                    if let Some(text) = value.as_str() {
                        visit(value, text);
                    }
                }
                Kind::Null | Kind::Bool | Kind::Number => {}
            },
        }
    }
}

/// The values at a path of names, through lists, each with its path in JSON names.
fn at_path<'d>(from: Value<'d>, path: &[&str], expression: String) -> Vec<(Value<'d>, String)> {
    let mut found = vec![(from, expression)];
    for name in path {
        found = found
            .into_iter()
            .filter_map(|(value, expression)| {
                Some((value.get(name)?, format!("{expression}.{name}")))
            })
            .flat_map(|(value, expression)| {
                if value.kind() == Kind::Array {
                    value
                        .children()
                        .enumerate()
                        .map(|(index, item)| (item, format!("{expression}[{index}]")))
                        .collect()
                } else {
                    vec![(value, expression)]
                }
            })
            .collect();
    }
    found
}

impl<'d> Check<'_, 'd, '_> {
    pub(super) fn document_or_message(&mut self) {
        let (key, wanted) = match self.bundle_type {
            BundleType::Document => ("bdl-11", "Composition"),
            BundleType::Message => ("bdl-12", "MessageHeader"),
            _ => return,
        };
        if self.bundle_type == BundleType::Document {
            self.document_identity();
        }
        let first = self.index.entry(0).copied();
        let Some(head) = first
            .filter(|it| it.resource_type == Some(wanted))
            .and_then(|it| it.resource)
        else {
            let message = format!("the first entry must be a {wanted}");
            let at = first.map_or(self.bundle, |it| it.value);
            let expression = self.expression.to_owned();
            self.breach(key, at, expression, &message);
            return;
        };
        let expression = format!("{}.entry[0].resource", self.expression);
        let mut inside = Vec::new();
        if self.bundle_type == BundleType::Document {
            for path in COMPOSITION_REFERENCES {
                inside.extend(at_path(head, path, expression.clone()));
            }
            sections(head, &expression, 0, &mut inside);
        } else {
            inside.extend(at_path(head, &["focus"], expression));
        }
        for (reference, expression) in inside {
            self.is_inside(reference, expression);
        }
        self.reachable();
    }

    /// Invariants bdl-9 and bdl-10.
    fn document_identity(&mut self) {
        let has = |name: &str| {
            self.bundle
                .get("identifier")
                .and_then(|it| it.get(name))
                .is_some()
        };
        if !(has("system") && has("value")) {
            let expression = self.expression.to_owned();
            self.breach(
                "bdl-9",
                self.bundle,
                expression,
                "a document needs an `identifier` with `system` and `value`",
            );
        }
        if self.bundle.get("timestamp").is_none() {
            let expression = self.expression.to_owned();
            self.breach(
                "bdl-10",
                self.bundle,
                expression,
                "a document needs a `timestamp`",
            );
        }
    }

    /// What the head of a document or message refers to directly must be in the Bundle.
    fn is_inside(&mut self, reference: Value<'d>, expression: String) {
        let Some(at) = reference.get("reference") else {
            return;
        };
        let Some(text) = at
            .as_str()
            .filter(|it| !it.is_empty() && !it.starts_with('#'))
        else {
            return;
        };
        let from = self.index.entry(0).and_then(|it| it.full_url);
        let message = match self.index.resolve(from, text) {
            Resolution::Entry(_) => return,
            Resolution::Ambiguous(_) => {
                "more than one entry of the Bundle answers to this reference; name the version"
            }
            Resolution::OnlyTypeAndId(_) => {
                "what is referred to here must be in the Bundle; an entry has this type and id, but not the `fullUrl` to which the reference leads"
            }
            Resolution::Nothing => {
                "what is referred to here must be in the Bundle; no entry has this `fullUrl`"
            }
        };
        self.report.error(
            id::BUNDLE_REFERENCE_MISSING,
            at,
            expression,
            message.to_owned(),
        );
    }

    /// Every entry is linked with the first one: forward, or back by what refers to it.
    fn reachable(&mut self) {
        let index = self.index;
        let count = index.entries().len();
        let mut forward = vec![Vec::new(); count];
        let mut back = vec![Vec::new(); count];
        for entry in index.entries() {
            let Some(resource) = entry.resource else {
                continue;
            };
            let mut targets = Vec::new();
            each_text(resource, &mut |value, text| {
                if value.key() == Some("reference") {
                    match index.resolve(entry.full_url, text) {
                        Resolution::Entry(to) | Resolution::OnlyTypeAndId(to) => targets.push(to),
                        Resolution::Ambiguous(first) => {
                            targets.push(first);
                            let url = index.entry(first).and_then(|it| it.full_url);
                            targets.extend(url.map_or(&[][..], |it| index.with_url(it)));
                        }
                        Resolution::Nothing => {}
                    }
                } else {
                    // Canonical and other URLs link too.
                    let whole = text.split(['|', '#']).next().unwrap_or(text);
                    targets.extend(index.with_url(whole));
                }
            });
            for to in targets {
                if to != entry.position {
                    if let Some(list) = forward.get_mut(entry.position) {
                        list.push(to);
                    }
                    if let Some(list) = back.get_mut(to) {
                        list.push(entry.position);
                    }
                }
            }
        }
        let by_forward = closure(&[&forward]);
        let by_any = closure(&[&forward, &back]);
        for entry in index.entries() {
            let has = |list: &[bool]| list.get(entry.position).copied().unwrap_or_default();
            if has(&by_forward) || entry.resource.is_none() {
                continue;
            }
            let expression = self.at_entry(entry, "");
            let at = entry.value;
            if has(&by_any) {
                // Provenance points back at what it is about.
                if entry.resource_type != Some("Provenance")
                    && self.bundle_type == BundleType::Document
                {
                    let message = "the Composition does not lead to this entry; only Provenance may be linked by pointing back".to_owned();
                    self.report
                        .warning(id::BUNDLE_UNREACHABLE, at, expression, message);
                }
            } else if self.bundle_type == BundleType::Message
                || entry.resource_type == Some("Binary")
            {
                let message =
                    "nothing links this entry with the first one; is it needed?".to_owned();
                self.report
                    .warning(id::BUNDLE_UNREACHABLE, at, expression, message);
            } else {
                let message = "nothing links this entry with the Composition; a document holds only what belongs to it".to_owned();
                self.report
                    .error(id::BUNDLE_UNREACHABLE, at, expression, message);
            }
        }
    }
}

/// Entries of sections, at any depth.
fn sections<'d>(
    from: Value<'d>,
    expression: &str,
    depth: usize,
    found: &mut Vec<(Value<'d>, String)>,
) {
    if depth > SECTIONS_DEPTH_MAX {
        return;
    }
    let list = from.get("section").into_iter().flat_map(Value::children);
    for (index, section) in list.enumerate() {
        let expression = format!("{expression}.section[{index}]");
        found.extend(at_path(section, &["entry"], expression.clone()));
        sections(section, &expression, depth + 1, found);
    }
}

/// What can be reached from the first entry over the links.
fn closure(links: &[&Vec<Vec<usize>>]) -> Vec<bool> {
    let count = links.first().map_or(0, |it| it.len());
    let mut reached = vec![false; count];
    let mut open = vec![0];
    while let Some(at) = open.pop() {
        match reached.get_mut(at) {
            Some(is_reached) if !*is_reached => *is_reached = true,
            _ => continue,
        }
        for list in links {
            open.extend(list.get(at).into_iter().flatten());
        }
    }
    reached
}
