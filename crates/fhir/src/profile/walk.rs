//! The walk over a text: every resource in it with its base rules and its profiles.
//!
//! Start at [`Walk::resource`]; the base rules are followed in [`super::base_walk`], profiles in
//! [`super::node_walk`].

use std::collections::HashMap;
use std::sync::Arc;

use super::report::{Draft, Report};
use super::resolve::{Resolver, Supporting};
use super::store::Profiles;
use super::tree::{Profile, ProfileLink};
use crate::catalogue::VersionMatch;
use crate::definitions::Definitions;
use crate::definitions::tables::TypeUse;
use crate::fhirpath::{ElementItem, Moment};
use crate::finding::{Severity, id};
use crate::json::{Kind, Value};
use crate::terminology::{Issue, Terminology};
use crate::validate::{quotable, quotable_url};

/// Most steps (values looked at by a rule) of one text; then the walk stops and says so.
const STEPS_MAX: u64 = 50_000_000;
/// Most references followed one from the other while targets are checked against profiles.
const PROBES_NESTED_MAX: u32 = 6;
/// Most profiles that one resource may claim; more are not looked at, and that is said.
const CLAIMS_MAX: usize = 50;

/// What the caller decides about profiles.
#[derive(Clone, Copy, Debug)]
pub struct ProfileOptions {
    /// How grave it is that a resource claims a profile that is not at hand.
    pub unknown_profile: Severity,
    /// How grave an extension is whose definition is not at hand. Modifier extensions are errors; those that
    /// FHIR itself publishes, or a guide that is at hand, perhaps in another version, are warnings at most.
    pub unknown_extension: Severity,
    /// The same for extensions in domains reserved for examples.
    pub example_extension: Severity,
    /// The greatest severity of what is found by a profile whose loaded version is another one than the
    /// resource claims: versions differ in what they demand.
    pub other_version: Severity,
    /// Whether observations with a vital sign's LOINC code must conform to R4's vital signs profiles, as
    /// R4 demands of all of them.
    pub vital_signs: bool,
    /// Whether every literal reference must lead to something at hand: a contained resource, an entry of the
    /// Bundle, a resource of the Parameters, or what the caller brought. R4 does not demand that; addresses in
    /// domains reserved for examples are passed over.
    pub references_resolve: bool,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        Self {
            unknown_profile: Severity::Warning,
            unknown_extension: Severity::Error,
            example_extension: Severity::Information,
            other_version: Severity::Warning,
            vital_signs: true,
            references_resolve: false,
        }
    }
}

/// The resource that is looked at, and what is around it.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'d> {
    /// `%resource`.
    pub(crate) resource: Value<'d>,
    /// `%rootResource`: the container of a contained resource, or the resource itself.
    pub(crate) root: Value<'d>,
    /// The Bundle that the resource is an entry of.
    pub(crate) bundle: Option<Value<'d>>,
    /// The `fullUrl` of that entry.
    pub(crate) full_url: Option<&'d str>,
}

impl<'d> Frame<'d> {
    /// A resource with nothing around it.
    pub(crate) fn of(resource: Value<'d>) -> Self {
        Self {
            resource,
            root: resource,
            bundle: None,
            full_url: None,
        }
    }
}

/// `%resource` and `%rootResource` of a frame; none where their types are not known.
#[derive(Clone, Copy)]
pub(crate) struct FrameItems<'d> {
    pub(crate) resource: Option<ElementItem<'d>>,
    pub(crate) root: Option<ElementItem<'d>>,
}

impl<'d> FrameItems<'d> {
    fn of(definitions: &Definitions, frame: &Frame<'d>) -> Self {
        let resource = ElementItem::resource(definitions, frame.resource);
        let root = if frame.root.is_same(frame.resource) {
            resource
        } else {
            ElementItem::resource(definitions, frame.root)
        };
        Self { resource, root }
    }
}

/// One value of an element: a JSON value, the `_` object beside a primitive, or both.
#[derive(Clone, Copy)]
pub(crate) struct Item<'d> {
    pub(crate) value: Option<Value<'d>>,
    pub(crate) beside: Option<Value<'d>>,
    /// How the definitions of the base describe it, if that is known.
    pub(crate) type_use: Option<&'static TypeUse>,
    /// The type as the definitions name it; empty if it is not known.
    pub(crate) type_code: &'static str,
}

impl<'d> Item<'d> {
    pub(crate) fn of(value: Value<'d>, type_code: &'static str) -> Self {
        Self {
            value: Some(value),
            beside: None,
            type_use: None,
            type_code,
        }
    }

    /// Where findings about it point.
    pub(crate) fn at(&self) -> Option<Value<'d>> {
        self.value.or(self.beside)
    }

    /// The object that holds its children: itself, or the `_` object.
    pub(crate) fn object(&self) -> Option<Value<'d>> {
        self.value
            .filter(|it| it.kind() == Kind::Object)
            .or(self.beside)
    }
}

/// What a walk rests on.
#[derive(Clone, Copy)]
pub(crate) struct Basis<'d> {
    pub(crate) profiles: &'d Profiles,
    pub(crate) terminology: &'d Terminology,
    pub(crate) options: &'d ProfileOptions,
    pub(crate) supporting: Option<&'d dyn Supporting>,
    /// What `now()` gives.
    pub(crate) now: Option<Moment>,
    pub(crate) findings_max: usize,
}

/// The state of one walk.
pub(crate) struct Walk<'d> {
    pub(super) basis: Basis<'d>,
    pub(super) resolver: Resolver<'d>,
    /// Kept for reuse.
    pub(super) issues: Vec<Issue>,
    /// Canonical bases of which the resource at hand follows another version than the one loaded.
    pub(super) newer: Vec<&'d str>,
    pub(super) report: Report<'d>,
    pub(super) frame: Frame<'d>,
    /// The frame's resource and root as expressions see them.
    pub(super) frame_items: FrameItems<'d>,
    /// Results of earlier probes; `None` while one is under way.
    probes: HashMap<(usize, usize, u32), Option<bool>>,
    probes_nested: u32,
    steps: u64,
}

impl<'d> Walk<'d> {
    pub(crate) fn new(basis: Basis<'d>, root: Value<'d>) -> Self {
        Self::inside(&basis, root, 0)
    }

    /// A walk of its own within another, which has come `probes_nested` deep.
    pub(super) fn inside(basis: &Basis<'d>, root: Value<'d>, probes_nested: u32) -> Self {
        let frame = Frame::of(root);
        Self {
            basis: *basis,
            resolver: Resolver::new(root, basis.supporting),
            issues: Vec::new(),
            newer: Vec::new(),
            report: Report::new(basis.findings_max),
            frame,
            frame_items: FrameItems::of(basis.profiles.definitions, &frame),
            probes: HashMap::new(),
            probes_nested,
            steps: 0,
        }
    }

    pub(super) fn probes_nested(&self) -> u32 {
        self.probes_nested
    }

    pub(crate) fn into_report(self) -> Report<'d> {
        self.report
    }

    /// Counts a step; false when there have been too many.
    pub(super) fn step(&mut self, at: Value<'d>) -> bool {
        self.steps += 1;
        if self.steps == STEPS_MAX {
            let message = "checking would take too long and was stopped here".to_owned();
            self.report
                .add(at, Draft::error(id::FINDINGS_LIMIT, message));
        }
        self.steps < STEPS_MAX
    }

    /// Checks a resource with its base rules, the profiles it claims, and those that are asked for.
    pub(crate) fn resource(&mut self, resource: Value<'d>, asked: &[&str]) {
        let Some(type_name) = resource_type(resource) else {
            return;
        };
        let Some(structure) = self.basis.profiles.definitions.resource(type_name) else {
            return;
        };
        let outer = std::mem::take(&mut self.newer);
        self.newer = self.bases_of_other_versions(resource);
        let type_code = self.basis.profiles.definitions.text(structure.type_name);
        self.base_resource(resource, structure.root, type_code);
        self.profiled_resource(resource, type_name, asked);
        self.newer = outer;
    }

    /// Canonical bases (what stands before `/StructureDefinition/`) of the claims whose version is not at
    /// hand.
    fn bases_of_other_versions(&self, resource: Value<'d>) -> Vec<&'d str> {
        resource
            .get("meta")
            .and_then(|it| it.get("profile"))
            .into_iter()
            .flat_map(Value::children)
            .take(CLAIMS_MAX)
            .filter_map(Value::as_str)
            .filter(|it| self.other_version(it).is_some())
            .filter_map(|it| it.split_once("/StructureDefinition/"))
            .map(|(base, _)| base)
            .collect()
    }

    fn profiled_resource(&mut self, resource: Value<'d>, type_name: &str, asked: &[&str]) {
        let mut applied: Vec<Arc<Profile>> = Vec::new();
        for url in asked {
            self.claimed(resource, resource, url, type_name, &mut applied, true);
        }
        let claims = resource
            .get("meta")
            .and_then(|it| it.get("profile"))
            .into_iter()
            .flat_map(Value::children);
        for (count, claim) in claims.enumerate() {
            if count == CLAIMS_MAX {
                let message = "more profiles are claimed than are looked at".to_owned();
                self.report
                    .add(claim, Draft::error(id::FINDINGS_LIMIT, message));
                break;
            }
            if let Some(url) = claim.as_str() {
                self.claimed(resource, claim, url, type_name, &mut applied, false);
            }
        }
        let profiles = self.basis.profiles;
        for url in profiles.global(type_name) {
            self.claimed(resource, resource, url, type_name, &mut applied, false);
        }
        if profiles.is_global_cut(type_name) {
            let message =
                "implementation guides demand more profiles of this type than are looked at";
            self.report.add(
                resource,
                Draft::error(id::FINDINGS_LIMIT, message.to_owned()),
            );
        }
        if self.basis.options.vital_signs && type_name == "Observation" {
            for url in super::vital_signs::profiles_of(resource) {
                if let Some(profile) = self.basis.profiles.get(url)
                    && !applied.iter().any(|it| Arc::ptr_eq(it, &profile))
                {
                    self.whole(&profile, resource);
                    applied.push(profile);
                }
            }
        }
    }

    /// Applies a profile by URL; one that is not at hand is reported.
    fn claimed(
        &mut self,
        resource: Value<'d>,
        at: Value<'d>,
        url: &str,
        type_name: &str,
        applied: &mut Vec<Arc<Profile>>,
        is_asked: bool,
    ) {
        let Some(profile) = self.basis.profiles.get(url) else {
            let severity = if is_asked {
                Severity::Error
            } else {
                self.basis.options.unknown_profile
            };
            let message = format!(
                "the profile `{}` is not at hand, so conformance to it was not checked",
                quotable_url(url)
            );
            self.report
                .add(at, Draft::new(id::PROFILE_UNKNOWN, severity, message));
            return;
        };
        if applied.iter().any(|it| Arc::ptr_eq(it, &profile)) {
            return;
        }
        let mark = self.report.mark();
        if let Some(loaded) = self.other_version(url) {
            let message = format!(
                "`{}` is at hand in version {loaded} only; conformance was checked to that one, and its findings are advice",
                quotable_url(url)
            );
            self.report.add(
                at,
                Draft::new(
                    id::PROFILE_UNKNOWN,
                    self.basis.options.unknown_profile,
                    message,
                ),
            );
            self.apply(&profile, resource, at, type_name);
            self.report
                .soften_since(mark, self.basis.options.other_version);
        } else {
            self.apply(&profile, resource, at, type_name);
        }
        applied.push(profile);
    }

    /// The loaded version of a definition, if a version is asked for that is not loaded.
    fn other_version(&self, canonical: &str) -> Option<String> {
        crate::canonical::split_version(canonical).1?;
        let located = self
            .basis
            .profiles
            .catalogue
            .locate("StructureDefinition", canonical)?;
        (located.version_match == VersionMatch::Other)
            .then(|| located.version.unwrap_or("unknown").to_owned())
    }

    fn apply(
        &mut self,
        profile: &Arc<Profile>,
        resource: Value<'d>,
        at: Value<'d>,
        type_name: &str,
    ) {
        if !is_type_or_above(&profile.type_name, type_name) {
            let message = format!(
                "the profile is for {}, but the resource is a {}",
                profile.type_name,
                quotable(type_name)
            );
            self.report.add(
                at,
                Draft::error(id::PROFILE_TYPE, message).of_profile(&profile.url),
            );
            return;
        }
        self.whole(profile, resource);
    }

    /// Runs `inner` with another resource as `%resource`.
    pub(super) fn within<T>(&mut self, frame: Frame<'d>, inner: impl FnOnce(&mut Self) -> T) -> T {
        let items = FrameItems::of(self.basis.profiles.definitions, &frame);
        let outer = std::mem::replace(&mut self.frame, frame);
        let outer_items = std::mem::replace(&mut self.frame_items, items);
        let result = inner(self);
        self.frame = outer;
        self.frame_items = outer_items;
        result
    }

    /// Whether an item conforms to a profile, without reporting anything. While that is being found out
    /// (profiles may refer to each other), it counts as conforming.
    pub(super) fn conforms(&mut self, profile: &Arc<Profile>, item: Item<'d>) -> bool {
        let Some(at) = item.at() else {
            return true;
        };
        let key = (
            Arc::as_ptr(profile).addr(),
            at.document_address(),
            at.index(),
        );
        if let Some(known) = self.probes.get(&key) {
            return known.unwrap_or(true);
        }
        if self.probes_nested >= PROBES_NESTED_MAX {
            return true;
        }
        let type_fits = match resource_type(at).filter(|_| item.value.is_some()) {
            Some(type_name) => is_type_or_above(&profile.type_name, type_name),
            None => item.type_code.is_empty() || *profile.type_name == *item.type_code,
        };
        if !type_fits {
            return false;
        }
        self.probes.insert(key, None);
        self.probes_nested += 1;
        let mark = self.report.mark();
        self.item_of_profile(profile, item);
        let conforms = !self.report.has_errors_since(mark);
        self.report.forget_since(mark);
        self.probes_nested -= 1;
        self.probes.insert(key, Some(conforms));
        conforms
    }

    /// The profile behind a link; what is not at hand is reported once where it is missed.
    pub(super) fn follow(&mut self, link: &ProfileLink, at: Value<'d>) -> Option<Arc<Profile>> {
        let found = self.basis.profiles.follow(link);
        if found.is_none() {
            let message = format!(
                "the profile `{}` is not at hand, so conformance to it was not checked",
                link.url
            );
            self.report.add(
                at,
                Draft::new(id::PROFILE_UNKNOWN, Severity::Warning, message),
            );
        }
        found
    }
}

/// The type that a resource states.
pub(super) fn resource_type(value: Value<'_>) -> Option<&str> {
    value.get("resourceType").and_then(Value::as_str)
}

/// Whether a profile on `general` can be for a resource of type `type_name`.
pub(super) fn is_type_or_above(general: &str, type_name: &str) -> bool {
    general == type_name
        || general == "Resource"
        || general == "DomainResource" && !matches!(type_name, "Bundle" | "Parameters" | "Binary")
}
