//! Views: what an agent is shown of a resource. A field name stands for its typed leaves; everything
//! else stays behind, unless it is free text that the declaration names as such: that is shown as whoever
//! projects the resource scrubbed it.
//!
//! A view is compiled once from a tool's declaration ([`View::compile`]) and then projects resources
//! ([`View::project`]). Whose resource it is and whether its labels allow reading are checked before. Not
//! here: what is taken out of a text ([`crate::scrub`]).
//!
//! What passes, and what does not:
//!
//! | type | shown | stays behind |
//! |---|---|---|
//! | numbers, booleans, dates and times | if they have the type's form | |
//! | `code` | if it is one of a required value set, or letters only | anything else |
//! | `canonical` | if it is a plain address | |
//! | `Coding`, `CodeableConcept` | `system`, `code`, and a `display` from terminology | the source's `display` and `text` |
//! | `Quantity` and its kin, `Money` | `value`, `comparator`, `system`, `code`, `currency` | `unit`; if the unit has no code, all of it |
//! | `Range`, `Ratio`, `Period`, `Timing`, `Dosage` | their typed parts | their texts |
//! | `Reference` | the type, and a token for the id | `display`, `identifier`, other forms |
//! | everything else, such as `string`, `Identifier`, `HumanName`, `Attachment`, `Annotation` | nothing | all of it |
//!
//! And of free text that is named as such, scrubbed:
//!
//! | named | shown | stays behind |
//! |---|---|---|
//! | `string`, `markdown` | the text | |
//! | `Annotation` | `text` | the author; the time, unless it is a field |
//! | `Attachment`, or its `data` | inline text, HTML or RTF, as plain text under `text`; its `title` | other content, the `url` |
//! | `Narrative` | its text, as plain text under `text` | |
//! | `text` of a `CodeableConcept`, `display` of a `Coding` or `Reference` | beside what is shown of it | |
//! | names, addresses, contact points, identifiers, extensions, contained resources | cannot be named | |
//!
//! What was named by the view, was there, and stayed behind is listed as withheld.

use std::collections::BTreeSet;

use chaperone_core::ids::ToolName;
use chaperone_core::resource::ResourceType;
use chaperone_fhir::Definitions;
use serde_json::Value;

use crate::scrub::FreeText;
use crate::tokens::TokenTarget;

mod compile;
mod expand;
mod leaf;
mod nearest;
mod project;
mod text;

#[cfg(test)]
mod tests;

use compile::Node;

/// Most fields in one view.
pub const FIELDS_MAX: usize = 100;

/// Elements that change what a resource means and are therefore part of every view of a type that
/// has them as modifiers, whether named or not: an order that must *not* be carried out, or a finding
/// that was refuted, must not read like its opposite.
///
/// # Source
/// FHIR R4, "Is Modifier" elements: applications must not ignore them.
pub const ALWAYS_SHOWN: [&str; 4] = [
    "status",
    "doNotPerform",
    "clinicalStatus",
    "verificationStatus",
];

/// A compiled view on one resource type.
#[derive(Debug, Clone)]
pub struct View {
    resource_type: ResourceType,
    fields: Vec<String>,
    text: Vec<String>,
    nodes: Vec<Node>,
}

/// A declaration that is no view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tool `{tool}`: {fault}")]
pub struct ViewInvalid {
    /// The tool that declares it.
    pub tool: ToolName,
    /// What is wrong with it.
    #[source]
    pub fault: ViewFault,
}

/// What is wrong with a declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewFault {
    /// Not a resource type of FHIR R4.
    #[error("`{0}` is not a resource type of FHIR R4")]
    UnknownType(ResourceType),
    /// No field, or more than [`FIELDS_MAX`].
    #[error("a view names 1 to {FIELDS_MAX} fields, this one names {0}")]
    Count(usize),
    /// Not an element of the type.
    #[error("`{field}` is not an element of {resource_type}{}", nearest_text(.nearest))]
    UnknownField {
        /// The field.
        field: String,
        /// The type.
        resource_type: ResourceType,
        /// Elements that may have been meant.
        nearest: Vec<String>,
    },
    /// A group of elements, which has no leaves of its own.
    #[error("`{0}` is a group of elements; name those of its parts that are needed")]
    Group(String),
    /// Inside something that is shown as a whole or not at all.
    #[error("`{field}` reaches into {what}, whose parts are never shown one by one")]
    Closed {
        /// The field.
        field: String,
        /// What it reaches into.
        what: &'static str,
    },
    /// Part of another field of the same view, or the same.
    #[error("`{0}` is already part of another field of this view")]
    Overlap(String),
    /// Named as free text, and none.
    #[error(
        "`{0}` is no free text; name a string, markdown, Annotation, Attachment or Narrative, the `text` of a concept or the `display` of a coding or reference"
    )]
    NotText(String),
}

fn nearest_text(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return String::new();
    }
    let names: Vec<String> = nearest.iter().map(|name| format!("`{name}`")).collect();
    format!("; did you mean {}?", names.join(" or "))
}

/// What a projection asks of its surroundings.
#[derive(Clone, Copy)]
pub struct Lookups<'a> {
    /// The token that stands for a resource; `None` when there is none, which withholds it.
    pub tokenise: &'a dyn Fn(&TokenTarget) -> Option<String>,
    /// The display text of a code, from terminology: system, then code.
    pub display: &'a dyn Fn(&str, &str) -> Option<String>,
    /// What may be shown of a free text that the view names; `None` withholds it.
    pub free_text: &'a dyn Fn(FreeText<'_>) -> Option<String>,
}

/// For [`Lookups::free_text`]: nothing of any text.
pub fn no_text(_: FreeText<'_>) -> Option<String> {
    None
}

/// What an agent is shown of one resource, and what the ledger says about it.
#[derive(Clone, PartialEq)]
pub struct Projected {
    /// The resource, reduced.
    pub value: Value,
    /// Fields of the view that have something to show.
    pub fields_shown: Vec<String>,
    /// Paths of free text that is shown.
    pub text_shown: Vec<String>,
    /// Paths that the view names, where something was and stayed behind.
    pub withheld: Vec<String>,
    /// Security labels, `system|code`, as [`crate::labels::Labels::recordable`] names them.
    pub labels: Vec<String>,
    /// Version at the EHR.
    pub version: Option<String>,
}

impl std::fmt::Debug for Projected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Projected")
            .field("fields_shown", &self.fields_shown)
            .field("text_shown", &self.text_shown)
            .field("withheld", &self.withheld)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// Why a resource is not shown at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProjectFailed {
    /// Not a resource of the view's type.
    #[error("the resource is not a {0}")]
    OtherType(ResourceType),
    /// It carries an extension or rules that may change its meaning and that nobody here understands.
    ///
    /// # Source
    /// FHIR R4, extensibility: applications must not process elements with unknown modifier extensions.
    #[error("the resource is changed in its meaning at `{path}` in a way that is not understood")]
    UnknownModifier {
        /// Where.
        path: String,
    },
}

impl View {
    /// Compiles a tool's declaration.
    ///
    /// # Errors
    /// [`ViewInvalid`], naming tool and field, with the elements that may have been meant.
    pub fn compile(
        definitions: &Definitions,
        tool: &ToolName,
        resource_type: &ResourceType,
        fields: &[String],
    ) -> Result<Self, ViewInvalid> {
        Self::compile_with_text(definitions, tool, resource_type, fields, &[])
    }

    /// The same, with the paths of free text that may be shown.
    ///
    /// # Errors
    /// [`ViewInvalid`].
    pub fn compile_with_text(
        definitions: &Definitions,
        tool: &ToolName,
        resource_type: &ResourceType,
        fields: &[String],
        text: &[String],
    ) -> Result<Self, ViewInvalid> {
        compile::compile(definitions, resource_type, fields, text).map_err(|fault| ViewInvalid {
            tool: tool.clone(),
            fault,
        })
    }

    /// The type it is a view on.
    pub fn resource_type(&self) -> &ResourceType {
        &self.resource_type
    }

    /// The most it can show: declared fields, then those that are always shown.
    pub fn fields(&self) -> &[String] {
        &self.fields
    }

    /// The most free text it can show, as declared.
    pub fn text(&self) -> &[String] {
        &self.text
    }

    /// Whether a projection would ask for free text.
    ///
    /// # Errors
    /// [`ProjectFailed`] when the resource is not to be shown.
    pub fn holds_text(&self, resource: &Value) -> Result<bool, ProjectFailed> {
        if self.text.is_empty() {
            return Ok(false);
        }
        let is_asked = std::cell::Cell::new(false);
        let lookups = Lookups {
            tokenise: &|_| None,
            display: &|_, _| None,
            free_text: &|_| {
                is_asked.set(true);
                None
            },
        };
        self.project(resource, &lookups)?;
        Ok(is_asked.get())
    }

    /// Every resource that a projection will ask a token for, so that tokens can be fetched first.
    ///
    /// # Errors
    /// [`ProjectFailed`] when the resource is not to be shown.
    pub fn targets(&self, resource: &Value) -> Result<BTreeSet<TokenTarget>, ProjectFailed> {
        let targets = std::cell::RefCell::new(BTreeSet::new());
        let collect = |target: &TokenTarget| {
            targets.borrow_mut().insert(target.clone());
            None
        };
        let lookups = Lookups {
            tokenise: &collect,
            display: &|_, _| None,
            free_text: &no_text,
        };
        self.project(resource, &lookups)?;
        Ok(targets.into_inner())
    }

    /// Reduces a resource to the view.
    ///
    /// # Errors
    /// [`ProjectFailed`] when the resource is not to be shown.
    pub fn project(
        &self,
        resource: &Value,
        lookups: &Lookups<'_>,
    ) -> Result<Projected, ProjectFailed> {
        project::project(self, resource, lookups)
    }
}
