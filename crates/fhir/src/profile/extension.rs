//! Extensions by their definitions: whether they are known, may stand where they do, and hold what they should.
//!
//! Start at [`Walk::extension`].
//!
//! # Source
//! FHIR R4, <https://hl7.org/fhir/R4/extensibility.html> and
//! <https://hl7.org/fhir/R4/defining-extensions.html>.

use super::BASE_URL;
use super::base_walk::Place;
use super::reference::is_reserved_for_examples;
use super::report::Draft;
use super::walk::{Item, Walk, resource_type};
use crate::finding::{Severity, id};
use crate::json::Value;
use crate::validate::{quotable, quotable_url};

impl<'d> Walk<'d> {
    pub(super) fn extension(&mut self, extension: Value<'d>, place: &Place<'_, 'd>) {
        let Some(url_value) = extension.get("url") else {
            return;
        };
        let Some(url) = url_value.as_str().filter(|it| !it.is_empty()) else {
            return;
        };
        if !url.contains(':') {
            self.nested(url_value, url, place);
            return;
        }
        let found = self
            .basis
            .profiles
            .get(url)
            .filter(|it| &*it.type_name == "Extension");
        let Some(profile) = found else {
            self.unknown_extension(url_value, url, place);
            return;
        };
        let may_be_newer = self.may_follow_a_later_version(url);
        if let Some(rule) = &profile.extension {
            let is_placed_as_modifier = place.element == "modifierExtension";
            if rule.is_modifier != is_placed_as_modifier && !is_nested(place) {
                let message = if rule.is_modifier {
                    format!(
                        "`{}` changes the meaning of what it stands in; it belongs into `modifierExtension`",
                        quotable_url(url)
                    )
                } else {
                    format!(
                        "`{}` is no modifier; it belongs into `extension`",
                        quotable_url(url)
                    )
                };
                self.report.add(
                    url_value,
                    Draft::error(id::EXTENSION_MODIFIER_MISPLACED, message)
                        .of_profile(&profile.url),
                );
            }
            if !self.stands_in_context(rule, place) {
                let allowed: Vec<&str> = rule
                    .contexts
                    .iter()
                    .map(|it| it.expression.as_str())
                    .collect();
                let message = format!(
                    "the extension `{}` must not stand here; allowed: {}",
                    quotable_url(url),
                    allowed.join(", ")
                );
                let severity = if may_be_newer {
                    Severity::Warning
                } else {
                    Severity::Error
                };
                self.report.add(
                    url_value,
                    Draft::new(id::EXTENSION_CONTEXT, severity, message).of_profile(&profile.url),
                );
            }
            self.context_invariants(rule, extension, place);
        }
        let mark = self.report.mark();
        self.item_of_profile(&profile, Item::of(extension, "Extension"));
        if may_be_newer {
            self.report
                .soften_findings_since(mark, id::BINDING_REQUIRED, Severity::Warning);
        }
    }

    /// Whether what R4 says of the contexts and codes of an extension is only advice here: HL7 goes on
    /// publishing R4's own extensions, with more contexts and codes, and conformance resources are made with
    /// the later definitions. Those of R4 itself already break R4's contexts.
    ///
    /// # Source
    /// FHIR Extensions Pack (`hl7.fhir.uv.extensions.r4`); in R4 core,
    /// `structuredefinition-normative-version` on value sets, `regex` on types of elements.
    fn may_follow_a_later_version(&self, url: &str) -> bool {
        const R4_CORE: &str = "hl7.fhir.r4.core";
        let is_conformance_resource = self.frame.root.get("url").is_some()
            && resource_type(self.frame.root).is_some_and(is_conformance_resource);
        is_conformance_resource
            && self
                .basis
                .profiles
                .catalogue
                .locate("StructureDefinition", url)
                .and_then(|it| it.package)
                .is_some_and(|it| it.name == R4_CORE)
    }

    /// An extension within another, named by a plain name: the outer definition must know it.
    fn nested(&mut self, at: Value<'d>, name: &str, place: &Place<'_, 'd>) {
        if !is_nested(place) {
            // Only an absolute URL leads to a definition.
            self.unknown_extension(at, name, place);
            return;
        }
        let mut outer = place.parent;
        while let Some(it) = outer {
            let url = it.value.get("url").and_then(Value::as_str);
            let (Some(url), "Extension") = (url, it.type_code) else {
                return;
            };
            if url.contains(':') {
                let Some(profile) = self.basis.profiles.get(url) else {
                    return;
                };
                let Some(rule) = &profile.extension else {
                    return;
                };
                // Deeper levels are checked by the slices of the definition.
                let is_direct = place
                    .parent
                    .is_some_and(|parent| parent.value.is_same(it.value));
                if is_direct && !rule.nested.iter().any(|it| **it == *name) {
                    let message = format!(
                        "the extension `{}` has no nested extension `{}`; it has: {}",
                        quotable_url(url),
                        quotable(name),
                        rule.nested.join(", ")
                    );
                    self.report.add(
                        at,
                        Draft::error(id::EXTENSION_NOT_DEFINED, message).of_profile(&profile.url),
                    );
                }
                return;
            }
            outer = it.parent;
        }
    }

    /// Whether a package at hand publishes under the canonical base of the URL.
    fn is_of_a_guide_at_hand(&self, url: &str) -> bool {
        const FOLDER: &str = "/StructureDefinition/";
        url.find(FOLDER).is_some_and(|at| {
            let base = url.get(..at + FOLDER.len());
            base.is_some_and(|base| self.basis.profiles.catalogue.publishes_below(base))
        })
    }

    fn unknown_extension(&mut self, at: Value<'d>, url: &str, place: &Place<'_, 'd>) {
        let options = self.basis.options;
        let name = quotable_url(url);
        let (severity, message) = if place.element == "modifierExtension" {
            let message = format!(
                "the modifier extension `{name}` is not known, so the meaning of this element is not known"
            );
            (Severity::Error, message)
        } else if is_of_fhir_itself(url) {
            let message = format!(
                "the extension `{name}` is not in the packages at hand (FHIR's own extensions are published in later packages too)"
            );
            (options.unknown_extension.min(Severity::Warning), message)
        } else if self.is_of_a_guide_at_hand(url) {
            let message = format!(
                "the extension `{name}` is not in the version at hand of its guide; other versions may have it"
            );
            (options.unknown_extension.min(Severity::Warning), message)
        } else if is_reserved_for_examples(url) {
            let message = format!(
                "the extension `{name}` is an example: it is not in the packages at hand and was not checked"
            );
            (options.example_extension, message)
        } else {
            let message = format!(
                "the extension `{name}` is not in the packages at hand and was not checked; bring its definition with the package or file that holds it"
            );
            (options.unknown_extension, message)
        };
        self.report
            .add(at, Draft::new(id::EXTENSION_UNKNOWN, severity, message));
    }
}

/// The resources that define what others must keep.
///
/// # Source
/// FHIR R4, <https://hl7.org/fhir/R4/conformance-module.html> and
/// <https://hl7.org/fhir/R4/terminology-module.html>.
fn is_conformance_resource(name: &str) -> bool {
    matches!(
        name,
        "CapabilityStatement"
            | "CodeSystem"
            | "CompartmentDefinition"
            | "ConceptMap"
            | "ExampleScenario"
            | "GraphDefinition"
            | "ImplementationGuide"
            | "MessageDefinition"
            | "NamingSystem"
            | "OperationDefinition"
            | "SearchParameter"
            | "StructureDefinition"
            | "StructureMap"
            | "TerminologyCapabilities"
            | "TestScript"
            | "ValueSet"
    )
}

/// Whether the URL is one under which FHIR publishes extensions of its own, also of other versions.
fn is_of_fhir_itself(url: &str) -> bool {
    let is_version = |it: &str| {
        it.split_once("/StructureDefinition/")
            .is_some_and(|(version, _)| version.bytes().all(|it| it.is_ascii_digit() || it == b'.'))
    };
    url.starts_with(BASE_URL)
        || url
            .strip_prefix("http://hl7.org/fhir/")
            .is_some_and(is_version)
}

/// Whether the extension stands in another extension, where placement is the outer definition's matter.
fn is_nested(place: &Place<'_, '_>) -> bool {
    place.parent.is_some_and(|it| it.type_code == "Extension")
}
