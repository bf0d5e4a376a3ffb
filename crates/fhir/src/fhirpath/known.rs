//! Invariants of R4 that run on every element or resource, answered without the evaluator; and mistakes of
//! published invariants, mended.
//!
//! Each short way gives what the expression gives; the tests hold both against each other.
//! Start at [`Known::of`] and [`mended`].

use super::Environment;
use super::item::{ElementItem, Shape};
use super::navigate::is_filled;
use crate::definitions::tables::NodeRule;
use crate::json::{Kind, Value};

/// An invariant with a short way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// ele-1: an element has a value or children.
    HasContent,
    /// ext-1: an extension has extensions or a value, not both.
    ExtensionOrValue,
    /// dom-2: contained resources contain none.
    NoNestedContained,
    /// dom-3: contained resources are referred to, or refer to what contains them.
    ContainedReferenced,
    /// dom-6: there is narrative.
    HasNarrative,
}

impl Known {
    pub(super) fn of(text: &str) -> Option<Self> {
        Some(match text {
            "hasValue() or (children().count() > id.count())" => Self::HasContent,
            "extension.exists() != value.exists()" => Self::ExtensionOrValue,
            "contained.contained.empty()" => Self::NoNestedContained,
            CONTAINED_REFERENCED => Self::ContainedReferenced,
            "text.`div`.exists()" => Self::HasNarrative,
            _ => return None,
        })
    }

    /// The outcome, or `None` to ask the evaluator.
    pub(super) fn answer(
        self,
        environment: &Environment<'_>,
        element: ElementItem<'_>,
    ) -> Option<Option<bool>> {
        let answer = match self {
            Self::HasContent => {
                if element.has_value() {
                    return Some(Some(true));
                }
                let object = element.object()?;
                object.children().any(|child| {
                    !matches!(child.key(), Some("id" | "_id" | "resourceType")) && is_filled(child)
                })
            }
            Self::ExtensionOrValue => {
                let Shape::Node(node) = element.shape() else {
                    return None;
                };
                if environment.definitions.node(node).rule != NodeRule::Extension {
                    return None;
                }
                let object = element.value()?;
                let (mut has_extension, mut has_value) = (false, false);
                for child in object.children() {
                    let key = child.key().unwrap_or_default();
                    let plain = key.strip_prefix('_').unwrap_or(key);
                    if plain == "extension" {
                        has_extension |= is_filled(child);
                    } else if plain.starts_with("value") && is_filled(child) {
                        let definitions = environment.definitions;
                        has_value |= plain == "value"
                            || definitions.name(definitions.node(node), plain).is_some();
                    }
                }
                has_extension != has_value
            }
            Self::NoNestedContained | Self::ContainedReferenced | Self::HasNarrative
                if is_primitive(element) =>
            {
                return None;
            }
            Self::NoNestedContained => {
                let contained = element.value()?.get("contained");
                !contained.is_some_and(|it| {
                    it.children()
                        .any(|inner| inner.get("contained").is_some_and(is_filled))
                })
            }
            Self::ContainedReferenced => {
                let Some(contained) = element.value()?.get("contained") else {
                    return Some(Some(true));
                };
                let resource = environment.resource.unwrap_or(element).value()?;
                for inner in contained.children() {
                    if !is_referenced(resource, inner)? {
                        return Some(Some(false));
                    }
                }
                true
            }
            Self::HasNarrative => {
                let text = element.value()?.get("text");
                text.is_some_and(|it| {
                    it.children().any(|child| {
                        matches!(child.key(), Some("div" | "_div")) && is_filled(child)
                    })
                })
            }
        };
        Some(Some(answer))
    }
}

/// dom-3 as R4 4.0.1 publishes it.
const CONTAINED_REFERENCED: &str = "contained.where((('#'+id in (%resource.descendants().reference | %resource.descendants().as(canonical) | %resource.descendants().as(uri) | %resource.descendants().as(url))) or descendants().where(reference = '#').exists() or descendants().where(as(canonical) = '#').exists() or descendants().where(as(canonical) = '#').exists()).not()).trace('unmatched', id).empty()";

/// Whether a contained resource is referred to by a `reference` of the resource. `None` if its id stands in a
/// text of another name, whose type the evaluator must look up.
fn is_referenced(resource: Value<'_>, contained: Value<'_>) -> Option<bool> {
    if contained.kind() != Kind::Object {
        return None;
    }
    let id = match contained.get("id") {
        Some(id) => id.as_str()?,
        // Without an id there is nothing to decide.
        None if contained.get("_id").is_none() => return Some(true),
        None => return None,
    };
    let mut is_maybe = false;
    for (key, text) in resource.strings_below() {
        if text.strip_prefix('#') == Some(id) {
            if key == Some("reference") {
                return Some(true);
            }
            is_maybe = true;
        }
    }
    is_maybe |= contained.strings_below().any(|(_, text)| text == "#");
    if is_maybe { None } else { Some(false) }
}

fn is_primitive(element: ElementItem<'_>) -> bool {
    !matches!(element.shape(), Shape::Node(_))
}

/// Published invariants that do not say what they mean, with what they mean.
///
/// # Source
/// FHIR R4 4.0.1: the human text of each invariant, which its expression misses.
const MENDED: [(&str, &str); 3] = [
    // que-7: an answer is FHIR's `boolean`, never FHIRPath's `Boolean`.
    (
        "operator = 'exists' implies (answer is Boolean)",
        "operator = 'exists' implies (answer is boolean)",
    ),
    // que-12: "if there are more than one enableWhen", so two already.
    (
        "enableWhen.count() > 2 implies enableBehavior.exists()",
        "enableWhen.count() > 1 implies enableBehavior.exists()",
    ),
    // ras-2: of a range or without a probability, nothing is said.
    (
        "probability is decimal implies (probability as decimal) <= 100",
        "probability.empty() or ((probability is decimal) implies ((probability as decimal) <= 100))",
    ),
];

/// The expression as it is meant.
pub(super) fn mended(text: &str) -> &str {
    MENDED
        .iter()
        .find(|(published, _)| *published == text)
        .map_or(text, |(_, meant)| meant)
}
