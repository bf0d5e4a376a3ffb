//! References: what profiles demand of their targets.
//!
//! A target that is not at hand is judged by what the reference says of it, and otherwise not at all.
//! Start at [`Walk::reference`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.type.targetProfile>,
//! `#ElementDefinition.type.aggregation`, `#ElementDefinition.type.versioning`.

use super::report::Draft;
use super::resolve::{Found, Target};
use super::tree::{Aggregation, Node, Profile, ProfileLink, TypeRule, Versioning};
use super::walk::{Item, Walk, is_type_or_above, resource_type};
use crate::finding::id;
use crate::json::Value;
use crate::references::ReferenceForm;
use crate::validate::quotable;

impl TypeRule {
    pub(super) fn asks_of_references(&self) -> bool {
        &*self.code == "Reference"
            && (!self.targets.is_empty()
                || !self.aggregation.is_empty()
                || self.versioning != Versioning::Either)
    }
}

impl<'d> Walk<'d> {
    pub(super) fn reference(
        &mut self,
        profile: &Profile,
        node: &Node,
        rule: &TypeRule,
        item: Item<'d>,
    ) {
        let Some(value) = item.value else { return };
        let text = value.get("reference").and_then(|it| it.as_str());
        let target = text.and_then(|it| self.resolver.resolve(it, &self.frame));
        if let Some(text) = text {
            self.place_of_target(profile, node, rule, value, text, target.as_ref());
        }
        if rule.targets.is_empty() {
            return;
        }
        let stated = match &target {
            Some(target) => resource_type(target.value),
            None => self.stated_target_type(value),
        };
        let Some(stated) = stated else { return };
        if self.basis.profiles.definitions.resource(stated).is_none() {
            return;
        }
        let fitting: Vec<&ProfileLink> = rule
            .targets
            .iter()
            .filter(|link| {
                self.basis
                    .profiles
                    .link_type(link)
                    .is_none_or(|it| is_type_or_above(it, stated))
            })
            .collect();
        if fitting.is_empty() {
            let allowed: Vec<&str> = rule
                .targets
                .iter()
                .filter_map(|it| self.basis.profiles.link_type(it))
                .collect();
            let message = format!(
                "{} may not be referred to here; allowed: {}",
                quotable(stated),
                allowed.join(", ")
            );
            self.report.add(
                value,
                Draft::error(id::REFERENCE_TARGET_TYPE, message).of_profile(&profile.url),
            );
            return;
        }
        if let Some(target) = target {
            self.target_profile(profile, node, &fitting, value, &target);
        }
    }

    fn target_profile(
        &mut self,
        profile: &Profile,
        node: &Node,
        fitting: &[&ProfileLink],
        at: Value<'d>,
        target: &Target<'d>,
    ) {
        // A base type, or a profile that is not at hand, makes no further demands here.
        let mut candidates = Vec::new();
        for link in fitting {
            match self.basis.profiles.follow(link) {
                Some(candidate) if link.base_type().is_none() => candidates.push(candidate),
                _ => return,
            }
        }
        let item = Item::of(target.value, "");
        let conforms = self.within(target.frame, |walk| {
            candidates.iter().any(|it| walk.conforms(it, item))
        });
        if !conforms {
            let urls: Vec<&str> = fitting.iter().map(|it| &*it.url).collect();
            let message = format!(
                "what `{}` refers to does not conform to {}",
                node.label,
                urls.join(" or ")
            );
            self.report.add(
                at,
                Draft::error(id::REFERENCE_TARGET_PROFILE, message).of_profile(&profile.url),
            );
        }
    }

    fn place_of_target(
        &mut self,
        profile: &Profile,
        node: &Node,
        rule: &TypeRule,
        at: Value<'d>,
        text: &str,
        target: Option<&Target<'d>>,
    ) {
        let place = match (target.map(|it| it.found), text.starts_with('#')) {
            (Some(Found::Contained), _) | (None, true) => Aggregation::Contained,
            (Some(Found::Bundled), _) => Aggregation::Bundled,
            (Some(Found::Elsewhere) | None, _) => Aggregation::Referenced,
        };
        let is_allowed = rule.aggregation.is_empty()
            || rule.aggregation.contains(&place)
            // Only what is in the Bundle is known; a reference may be to both.
            || place == Aggregation::Bundled && rule.aggregation.contains(&Aggregation::Referenced);
        if !is_allowed {
            let name = |it: &Aggregation| match it {
                Aggregation::Contained => "contained",
                Aggregation::Referenced => "referenced",
                Aggregation::Bundled => "bundled",
            };
            let allowed: Vec<&str> = rule.aggregation.iter().map(name).collect();
            let message = format!(
                "the target of `{}` must be {}, not {}",
                node.label,
                allowed.join(" or "),
                name(&place)
            );
            self.report.add(
                at,
                Draft::error(id::REFERENCE_AGGREGATION, message).of_profile(&profile.url),
            );
        }
        let is_versioned = text.contains("/_history/");
        let (is_sound, demanded) = match rule.versioning {
            Versioning::Either => return,
            Versioning::Independent => (!is_versioned, "must not name a version"),
            Versioning::Specific => (is_versioned, "must name a version (`…/_history/1`)"),
        };
        if !is_sound {
            let message = format!("the reference of `{}` {demanded}", node.label);
            self.report.add(
                at,
                Draft::error(id::REFERENCE_VERSIONING, message).of_profile(&profile.url),
            );
        }
    }

    /// A reference must lead to something at hand. Fragments are checked with the structure, and conditional
    /// references are the server's matter.
    pub(super) fn must_resolve(&mut self, reference: Value<'d>) {
        let Some(at) = reference.get("reference") else {
            return;
        };
        let Some(text) = at.as_str().filter(|it| !it.is_empty()) else {
            return;
        };
        let is_literal = matches!(
            ReferenceForm::parse(text),
            ReferenceForm::Typed { .. } | ReferenceForm::Urn | ReferenceForm::OtherAbsolute
        );
        if is_literal
            && !is_reserved_for_examples(text)
            && self.resolver.resolve(text, &self.frame).is_none()
        {
            let message = "what is referred to here is not at hand: neither in this text nor among the supporting resources";
            self.report.add(
                at,
                Draft::error(id::REFERENCE_UNRESOLVED, message.to_owned()),
            );
        }
    }

    /// The type that a reference says its target has.
    pub(super) fn stated_target_type(&self, reference: Value<'d>) -> Option<&'d str> {
        let text = reference.get("reference").and_then(Value::as_str);
        let of_text = match text.map(ReferenceForm::parse) {
            Some(
                ReferenceForm::Typed { resource_type, .. }
                | ReferenceForm::Conditional { resource_type },
            ) => Some(resource_type),
            _ => None,
        };
        of_text
            .or_else(|| reference.get("type").and_then(Value::as_str))
            .filter(|it| self.basis.profiles.definitions.is_resource_type(it))
    }
}

/// Whether the URL is in a domain where nothing can ever be found.
///
/// # Source
/// RFC 2606, sections 2 and 3.
pub(super) fn is_reserved_for_examples(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else {
        return false;
    };
    let host = rest.split(['/', ':', '?', '#']).next().unwrap_or_default();
    let mut labels = host.rsplit('.');
    let (top, second) = (labels.next().unwrap_or_default(), labels.next());
    matches!(top, "test" | "example" | "invalid" | "localhost")
        || matches!(top, "com" | "net" | "org") && second == Some("example")
}
