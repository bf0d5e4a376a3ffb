//! A profile as a tree of what it demands beyond the base type.
//!
//! A snapshot repeats everything that its base says; the tree holds only what is stricter or new, because
//! the base is checked for every resource anyway. Nodes refer to each other by index.
//! Not the reading of snapshots: see [`super::compile`].

use std::sync::{Arc, OnceLock, Weak};

use serde_json::Value as Json;

use super::binding::BindingRule;
use super::invariant::Invariant;
use super::range::Range;
use crate::definitions::tables::TypeUse;

/// A compiled profile (or extension definition).
#[derive(Debug)]
pub(crate) struct Profile {
    /// Canonical URL, without version.
    pub(crate) url: Box<str>,
    /// The type that is constrained.
    pub(crate) type_name: Box<str>,
    pub(crate) nodes: Vec<Node>,
    /// Index of the node for the whole value.
    pub(crate) root: u32,
    /// What only extension definitions have.
    pub(crate) extension: Option<ExtensionRule>,
    /// Profiles that hold as well wherever this one does: those it imposes, those that these impose, and so on.
    pub(crate) imposed: Vec<ProfileLink>,
}

impl Profile {
    pub(crate) fn node(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    /// The node of the element with that id; `None` if nothing is demanded there.
    pub(crate) fn node_of(&self, element: &str) -> Option<&Node> {
        self.nodes.iter().find(|it| *it.label == *element)
    }
}

/// Where an extension may stand, and how.
#[derive(Debug)]
pub(crate) struct ExtensionRule {
    pub(crate) contexts: Vec<crate::canonical::Context>,
    pub(crate) invariants: Vec<Arc<Invariant>>,
    pub(crate) is_modifier: bool,
    /// URLs of nested extensions that are defined.
    pub(crate) nested: Vec<Box<str>>,
}

/// What a profile demands of one element (or of one slice of it).
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// Path with slice names, for messages.
    pub(crate) label: Box<str>,
    /// Fewest values; zero where the base demands as much.
    pub(crate) min: u32,
    /// Most values; `None` where the base allows no more.
    pub(crate) max: Option<u32>,
    /// Types allowed; `None` where the base allows no others.
    pub(crate) types: Option<Box<[TypeRule]>>,
    pub(crate) fixed: Option<Box<Json>>,
    pub(crate) pattern: Option<Box<Json>>,
    pub(crate) range: Option<Box<Range>>,
    pub(crate) binding: Option<Box<BindingRule>>,
    pub(crate) invariants: Box<[Arc<Invariant>]>,
    /// Names under which children stand in JSON, sorted.
    pub(crate) names: Box<[ChildName]>,
    /// Children, as indices into the profile's nodes.
    pub(crate) children: Box<[u32]>,
    pub(crate) slicing: Option<Box<Slicing>>,
}

impl Node {
    /// Whether nothing is demanded here or below.
    pub(crate) fn is_empty(&self) -> bool {
        self.min == 0
            && self.max.is_none()
            && self.asks_nothing_of_values()
            && self.slicing.is_none()
    }

    /// Whether single values are not looked at.
    pub(crate) fn asks_nothing_of_values(&self) -> bool {
        self.types.is_none()
            && self.fixed.is_none()
            && self.pattern.is_none()
            && self.range.is_none()
            && self.binding.is_none()
            && self.invariants.is_empty()
            && self.children.is_empty()
    }

    /// The child of a JSON name, with the type that the name states.
    pub(crate) fn child(&self, json_name: &str) -> Option<&ChildName> {
        let at = self
            .names
            .binary_search_by(|it| (*it.json_name).cmp(json_name))
            .ok()?;
        self.names.get(at)
    }
}

/// A JSON name of a child.
#[derive(Debug)]
pub(crate) struct ChildName {
    pub(crate) json_name: Box<str>,
    /// Place in the parent's `children`.
    pub(crate) place: u32,
    /// The type that stands under that name; empty if the name does not say.
    pub(crate) type_code: &'static str,
    /// How the base describes it.
    pub(crate) type_use: Option<&'static TypeUse>,
}

/// One type that an element may have.
#[derive(Debug)]
pub(crate) struct TypeRule {
    pub(crate) code: Box<str>,
    /// Profiles, one of which the value must conform to; empty: none.
    pub(crate) profiles: Box<[ProfileLink]>,
    /// Profiles, one of which the target of a reference must conform to; empty: none.
    pub(crate) targets: Box<[ProfileLink]>,
    pub(crate) aggregation: Box<[Aggregation]>,
    pub(crate) versioning: Versioning,
}

/// Where the target of a reference may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregation {
    Contained,
    Referenced,
    Bundled,
}

/// Whether a reference names a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versioning {
    Either,
    Independent,
    Specific,
}

/// A profile named by URL, found when it is first needed (profiles may refer to themselves).
#[derive(Debug)]
pub(crate) struct ProfileLink {
    pub(crate) url: Box<str>,
    /// Id of the element of the profile that is meant, if not the whole.
    pub(crate) element: Option<Box<str>>,
    pub(super) found: OnceLock<Option<Weak<Profile>>>,
}

impl ProfileLink {
    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            element: None,
            found: OnceLock::new(),
        }
    }

    /// The type's name, if this names a base type of FHIR rather than a profile.
    pub(crate) fn base_type(&self) -> Option<&str> {
        let (url, _) = crate::canonical::split_version(&self.url);
        url.strip_prefix(super::BASE_URL)
            .filter(|name| !name.contains('-'))
    }
}

/// How the values of an element are divided.
#[derive(Debug)]
pub(crate) struct Slicing {
    pub(crate) is_ordered: bool,
    pub(crate) rules: SlicingRules,
    pub(crate) slices: Vec<Slice>,
    /// Node for the values of no slice.
    pub(crate) default: Option<u32>,
}

/// What holds for values of no slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlicingRules {
    Open,
    OpenAtEnd,
    Closed,
}

/// One slice.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) name: Box<str>,
    /// What the slice demands of its values; `None`: nothing.
    pub(crate) node: Option<u32>,
    pub(crate) matcher: Matcher,
}

/// How to tell whether a value belongs to a slice.
#[derive(Debug)]
pub(crate) enum Matcher {
    /// All tests hold.
    All(Vec<Test>),
    /// The definition does not say how.
    Undecidable,
}

/// One discriminator, for one slice.
#[derive(Debug)]
pub(crate) struct Test {
    /// The way from the value to what is looked at; empty: the value itself.
    pub(crate) path: Box<[Step]>,
    pub(crate) expected: Expected,
}

/// One step of a discriminator's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A child element by its name without `[x]`.
    Child(Box<str>),
    /// The extension of that URL.
    Extension(Box<str>),
    /// Only values of that type.
    OfType(Box<str>),
    /// What a reference points to.
    Resolve,
}

/// What a discriminator expects at the end of its path.
#[derive(Debug)]
pub(crate) enum Expected {
    Fixed(Json),
    Pattern(Json),
    Present,
    Absent,
    /// One of these types.
    Types(Vec<Box<str>>),
    /// Conformance to one of these profiles.
    Profiles(Vec<ProfileLink>),
    /// A code of the value set.
    Bound(Box<BindingRule>),
}
