//! Policies, parsed, strictly validated, and sorted by what they apply to.
//!
//! Evaluation is linear in the number of policies, so there is one Cedar set for each action and type
//! of resource: a ruling on an Appointment never looks at a policy on orders. Policies that may apply to
//! any type stand in every set.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    ActionConstraint, Authorizer, Context, Decision, Effect, Entities, EntityId, EntityTypeName,
    EntityUid, Policy, PolicyId as CedarId, PolicySet, PrincipalConstraint, Request,
    ResourceConstraint, Schema, SchemaFragment, ValidationMode, Validator,
};
use chaperone_core::ids::PolicyId;

use crate::bundle::SCHEMA_PATH;
use crate::bundle::read::files_in;
use crate::invariants::{self, INVARIANTS_PATH, Invariant};
use crate::problem::{Problems, line_at, line_of};
use crate::row::{self, Action, Meaning};
use crate::{embedded, est, ruling};

/// Most policies in a bundle.
pub(crate) const POLICIES_MAX: usize = 2_000;

/// A policy with what it means.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) id: PolicyId,
    /// Position in the bundle, by file name and then as written.
    pub(crate) order: usize,
    pub(crate) file: String,
    pub(crate) action: Action,
    pub(crate) meaning: Meaning,
    /// Plain words.
    pub(crate) text: String,
    /// Types it names; empty for all.
    pub(crate) resources: Vec<String>,
    /// Types outside of which it cannot apply, so that others need not look at it.
    confined_to: Option<BTreeSet<String>>,
    /// Intents, interactions, destinations and statuses it names, for the rendered matrix.
    pub(crate) shape: Shape,
}

/// What a policy's conditions compare, as far as it can be read off.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shape {
    pub(crate) intents: Vec<String>,
    pub(crate) interactions: Vec<String>,
    pub(crate) destinations: Vec<String>,
    pub(crate) statuses: Vec<String>,
}

/// All policies of a bundle.
pub(crate) struct PolicySets {
    entries: BTreeMap<String, Entry>,
    /// Every policy in Cedar's JSON form, by id.
    #[cfg(feature = "prove")]
    forms: BTreeMap<String, serde_json::Value>,
    access: PolicySet,
    write: BTreeMap<String, ForType>,
    escalate: BTreeMap<String, ForType>,
    actions: BTreeMap<Action, EntityUid>,
    agent_type: EntityTypeName,
    tool_type: EntityTypeName,
}

struct ForType {
    entity_type: EntityTypeName,
    policies: PolicySet,
}

/// What an evaluation found.
#[derive(Debug)]
pub(crate) struct Verdict<'a> {
    pub(crate) permits: bool,
    /// Determining policies in bundle order.
    pub(crate) determining: Vec<&'a Entry>,
    /// Policies whose evaluation failed.
    pub(crate) failed: Vec<PolicyId>,
}

/// A request could not be put to Cedar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotAsked;

impl PolicySets {
    /// Parses and checks every policy of a bundle.
    pub(crate) fn load(
        files: &BTreeMap<String, String>,
        problems: &mut Problems,
    ) -> Option<(PolicySets, Vec<Invariant>)> {
        let schema = load_schema(files, problems)?;
        let mut loaded = Vec::new();
        let of_policies =
            files_in(files, "policies/", ".cedar").filter(|(path, ..)| *path != INVARIANTS_PATH);
        for (path, _, text) in of_policies {
            parse_file(path, text, &mut loaded, problems);
        }
        if loaded.len() > POLICIES_MAX {
            problems.add(
                "policies",
                "",
                format!("a bundle holds at most {POLICIES_MAX} policies"),
            );
            return None;
        }
        let mut entries = BTreeMap::new();
        let mut policies = Vec::new();
        for (order, parsed) in loaded.into_iter().enumerate() {
            let text = files.get(&parsed.file).map_or("", String::as_str);
            let Some((entry, policy)) = read_policy(parsed, order, text, problems) else {
                continue;
            };
            if let Some(before) = entries.insert(entry.id.as_str().to_owned(), entry.clone()) {
                problems.add_at(
                    &entry.file,
                    line_of(text, &id_annotation(entry.id.as_str())),
                    entry.id.as_str(),
                    format!("another policy in {} has the same `@id`", before.file),
                );
                continue;
            }
            policies.push(policy);
        }
        let of_policy = |id: &str| entries.get(id).map_or("policies", |entry| &entry.file);
        validate(&schema, &policies, of_policy, files, problems);
        let invariants = match files.get(INVARIANTS_PATH) {
            Some(text) => {
                let (invariants, stated) = invariants::read(text, problems);
                validate(&schema, &stated, |_| INVARIANTS_PATH, files, problems);
                invariants
            }
            None => Vec::new(),
        };
        let sets = Self::sort(&schema, entries, policies, problems)?;
        Some((sets, invariants))
    }

    fn sort(
        schema: &Schema,
        entries: BTreeMap<String, Entry>,
        policies: Vec<Policy>,
        problems: &mut Problems,
    ) -> Option<PolicySets> {
        #[cfg(feature = "prove")]
        let forms = policies
            .iter()
            .filter_map(|policy| Some((policy.id().to_string(), policy.to_json().ok()?)))
            .collect();
        let actions: BTreeMap<Action, EntityUid> = Action::ALL
            .into_iter()
            .filter_map(|action| Some((action, action_uid(action)?)))
            .collect();
        let mut access = Vec::new();
        let mut of_type: BTreeMap<(Action, Option<String>), Vec<Policy>> = BTreeMap::new();
        for policy in policies {
            let Some(entry) = entries.get(AsRef::<str>::as_ref(policy.id())) else {
                continue;
            };
            if entry.action == Action::Access {
                access.push(policy);
                continue;
            }
            match &entry.confined_to {
                Some(names) => {
                    for name in names {
                        let of_type = of_type.entry((entry.action, Some(name.clone())));
                        of_type.or_default().push(policy.clone());
                    }
                }
                None => of_type
                    .entry((entry.action, None))
                    .or_default()
                    .push(policy),
            }
        }
        let mut sets = |action: Action| -> Option<BTreeMap<String, ForType>> {
            let uid = actions.get(&action)?;
            let mut sets = BTreeMap::new();
            for entity_type in schema.resources_for_action(uid)? {
                let name = entity_type.to_string();
                let policies = [None, Some(name.clone())]
                    .into_iter()
                    .filter_map(|limited| of_type.get(&(action, limited)))
                    .flatten()
                    .cloned();
                match PolicySet::from_policies(policies) {
                    Ok(policies) => {
                        let for_type = ForType {
                            entity_type: entity_type.clone(),
                            policies,
                        };
                        sets.insert(name, for_type);
                    }
                    Err(error) => problems.add("policies", "", error.to_string()),
                }
            }
            Some(sets)
        };
        let (write, escalate) = (sets(Action::Write)?, sets(Action::Escalate)?);
        let access = PolicySet::from_policies(access)
            .map_err(|error| problems.add("policies", "", error.to_string()))
            .ok()?;
        Some(PolicySets {
            entries,
            #[cfg(feature = "prove")]
            forms,
            access,
            write,
            escalate,
            actions,
            agent_type: "Agent".parse().ok()?,
            tool_type: "Tool".parse().ok()?,
        })
    }

    /// Every policy in bundle order.
    pub(crate) fn in_order(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_by_key(|entry| entry.order);
        entries
    }

    /// A policy in Cedar's JSON form.
    #[cfg(feature = "prove")]
    pub(crate) fn form(&self, id: &str) -> Option<&serde_json::Value> {
        self.forms.get(id)
    }

    /// The entity of an action.
    #[cfg(feature = "prove")]
    pub(crate) fn action(&self, action: Action) -> Option<EntityUid> {
        self.actions.get(&action).cloned()
    }

    /// Every type that the matrix knows.
    #[cfg(feature = "prove")]
    pub(crate) fn types(&self) -> impl Iterator<Item = &str> {
        self.write.keys().map(String::as_str)
    }

    /// Whether the matrix knows a type.
    pub(crate) fn knows(&self, resource: &str) -> bool {
        self.write.contains_key(resource)
    }

    pub(crate) fn agent(&self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.agent_type.clone(), EntityId::new(id))
    }

    pub(crate) fn tool(&self, name: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(self.tool_type.clone(), EntityId::new(name))
    }

    /// The entity that stands for the proposed change.
    pub(crate) fn proposal(&self, resource: &str) -> Option<EntityUid> {
        let entity_type = self.write.get(resource)?.entity_type.clone();
        Some(EntityUid::from_type_name_and_id(
            entity_type,
            EntityId::new("proposal"),
        ))
    }

    /// Puts one question to the policies that can apply to it.
    ///
    /// # Errors
    /// [`NotAsked`] when the type is unknown or Cedar refuses the request.
    pub(crate) fn ask(
        &self,
        action: Action,
        principal: EntityUid,
        resource: EntityUid,
        context: Context,
        entities: &Entities,
    ) -> Result<Verdict<'_>, NotAsked> {
        let resource_type = resource.type_name().to_string();
        let policies = match action {
            Action::Access => Some(&self.access),
            Action::Write => self.write.get(&resource_type).map(|set| &set.policies),
            Action::Escalate => self.escalate.get(&resource_type).map(|set| &set.policies),
        };
        let (Some(policies), Some(uid)) = (policies, self.actions.get(&action)) else {
            return Err(NotAsked);
        };
        let request =
            Request::new(principal, uid.clone(), resource, context, None).map_err(|_| NotAsked)?;
        let response = Authorizer::new().is_authorized(&request, policies, entities);
        let mut determining = Vec::new();
        for id in response.diagnostics().reason() {
            determining.push(self.entries.get(AsRef::<str>::as_ref(id)).ok_or(NotAsked)?);
        }
        determining.sort_by_key(|entry| entry.order);
        let failed = response
            .diagnostics()
            .errors()
            .filter_map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                    PolicyId::new(AsRef::<str>::as_ref(error.policy_id())).ok()
                }
            })
            .collect();
        Ok(Verdict {
            permits: response.decision() == Decision::Allow,
            determining,
            failed,
        })
    }
}

fn action_uid(action: Action) -> Option<EntityUid> {
    let action_type: EntityTypeName = "Action".parse().ok()?;
    Some(EntityUid::from_type_name_and_id(
        action_type,
        EntityId::new(action.as_str()),
    ))
}

/// Reads the schema, and refuses one that differs from what requests are built for.
fn load_schema(files: &BTreeMap<String, String>, problems: &mut Problems) -> Option<Schema> {
    let Some(text) = files.get(SCHEMA_PATH) else {
        problems.add(
            SCHEMA_PATH,
            "",
            "missing: policies cannot be validated without it",
        );
        return None;
    };
    let (fragment, _) = SchemaFragment::from_cedarschema_str(text)
        .map_err(|error| problems.add(SCHEMA_PATH, "", error.to_string()))
        .ok()?;
    let (expected, _) = SchemaFragment::from_cedarschema_str(embedded::schema()).ok()?;
    let (given, wanted) = (
        fragment.to_json_value().ok()?,
        expected.to_json_value().ok()?,
    );
    if let Some(place) = first_difference(&given, &wanted, "") {
        problems.add(
            SCHEMA_PATH,
            &place,
            "differs from the schema of this release; take the one that `chaperone init` writes, since requests are built in code",
        );
        return None;
    }
    Schema::from_cedarschema_str(text)
        .map_err(|error| problems.add(SCHEMA_PATH, "", error.to_string()))
        .ok()
        .map(|(schema, _)| schema)
}

fn first_difference(
    given: &serde_json::Value,
    wanted: &serde_json::Value,
    place: &str,
) -> Option<String> {
    if let (Some(given), Some(wanted)) = (given.as_object(), wanted.as_object()) {
        let names: BTreeSet<&String> = given.keys().chain(wanted.keys()).collect();
        return names.into_iter().find_map(|name| {
            let place = format!("{place}/{name}");
            match (given.get(name), wanted.get(name)) {
                (Some(given), Some(wanted)) => first_difference(given, wanted, &place),
                _ => Some(place),
            }
        });
    }
    (given != wanted).then(|| place.to_owned())
}

pub(crate) struct Parsed {
    pub(crate) file: String,
    /// Position in the file, from 1.
    pub(crate) number: usize,
    pub(crate) policy: Policy,
}

/// Reads the policies of a file, in order.
pub(crate) fn parse_file(
    path: &str,
    text: &str,
    loaded: &mut Vec<Parsed>,
    problems: &mut Problems,
) {
    let set: PolicySet = match text.parse() {
        Ok(set) => set,
        Err(errors) => {
            report_parse(path, text, &errors, problems);
            return;
        }
    };
    if set.num_of_templates() > 0 {
        problems.add(
            path,
            "",
            "holds a template; write each policy out, so that owners can read it",
        );
    }
    let mut policies: Vec<&Policy> = set.policies().collect();
    // Cedar numbers the policies of a file in the order in which they are written.
    policies.sort_by_key(|policy| {
        AsRef::<str>::as_ref(policy.id())
            .trim_start_matches("policy")
            .parse::<usize>()
            .unwrap_or(usize::MAX)
    });
    loaded.extend((1..).zip(policies).map(|(number, policy)| Parsed {
        file: path.to_owned(),
        number,
        policy: policy.clone(),
    }));
}

fn report_parse(
    path: &str,
    text: &str,
    errors: &cedar_policy::ParseErrors,
    problems: &mut Problems,
) {
    let detailed = cedar_policy::ffi::DetailedError::from(errors);
    for error in std::iter::once(&detailed).chain(&detailed.related) {
        let line = error
            .source_locations
            .first()
            .and_then(|label| line_at(text, label.loc.start));
        problems.add_at(path, line, "", error.message.clone());
    }
}

/// How a policy's id is written.
pub(crate) fn id_annotation(id: &str) -> String {
    format!("@id(\"{id}\")")
}

/// Turns a parsed policy into an entry and the same policy under its own id.
fn read_policy(
    parsed: Parsed,
    order: usize,
    text: &str,
    problems: &mut Problems,
) -> Option<(Entry, Policy)> {
    let Parsed {
        file,
        number,
        policy,
    } = parsed;
    let annotations: BTreeMap<String, String> = policy
        .annotations()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let Some(id) = annotations.get("id") else {
        let place = format!("policy number {number}");
        problems.add(&file, &place, "annotation `@id` is missing");
        return None;
    };
    let line = line_of(text, &id_annotation(id));
    let mut sound = true;
    let mut wrong = |message: String| {
        problems.add_at(&file, line, id, message);
        sound = false;
    };
    let Some(action) = action_of(&policy) else {
        wrong(
            "must name its action: `action == Action::\"write\"`, `\"escalate\"` or `\"access\"`"
                .to_owned(),
        );
        return None;
    };
    let permits = policy.effect() == Effect::Permit;
    let meaning = row::read(action, permits, &annotations)
        .map_err(|messages| messages.into_iter().for_each(&mut wrong))
        .ok();
    let policy_id = PolicyId::new(id.as_str())
        .map_err(|error| wrong(error.to_string()))
        .ok();
    if ruling::RESERVED.contains(&id.as_str()) {
        wrong("this id is reserved for what Chaperone decides without a policy".to_owned());
    }
    if !matches!(policy.principal_constraint(), PrincipalConstraint::Any) {
        wrong(
            "names a principal; what an agent may do stands in agents/*.toml and intents/*.toml"
                .to_owned(),
        );
    }
    let limited = match policy.resource_constraint() {
        ResourceConstraint::Any => None,
        ResourceConstraint::Is(name) => Some(name.to_string()),
        _ => {
            wrong("`resource` may only be limited to a type: `resource is Appointment`".to_owned());
            None
        }
    };
    let json = policy
        .to_json()
        .map_err(|error| wrong(error.to_string()))
        .unwrap_or_default();
    if action == Action::Write && est::reads_context(&json, "claimed") {
        wrong(
            "rests on a claim of the agent; claims can only raise a gate, in `escalate`".to_owned(),
        );
    }
    if est::uses_patterns(&json) {
        wrong("matches with a wildcard; list what is meant".to_owned());
    }
    if !sound {
        return None;
    }
    let entry = Entry {
        id: policy_id?,
        order,
        file,
        action,
        meaning: meaning?,
        text: annotations.get("text").cloned().unwrap_or_default(),
        confined_to: match &limited {
            Some(name) => Some([name.clone()].into()),
            None => est::confined_to(&json),
        },
        resources: limited.map_or_else(|| est::entity_types(&json), |name| vec![name]),
        shape: Shape {
            intents: est::compared(&json, "context", "intent"),
            interactions: est::compared(&json, "resource", "interaction"),
            destinations: est::compared(&json, "resource", "destination"),
            statuses: est::compared(&json, "resource", "to"),
        },
    };
    let policy = policy.new_id(CedarId::new(entry.id.as_str()));
    Some((entry, policy))
}

/// The one action that a policy names.
pub(crate) fn action_of(policy: &Policy) -> Option<Action> {
    let ActionConstraint::Eq(uid) = policy.action_constraint() else {
        return None;
    };
    let name: &str = uid.id().as_ref();
    Action::ALL
        .into_iter()
        .find(|action| action.as_str() == name)
}

/// Strict validation; a policy that can never apply is as wrong as one that cannot be typed.
fn validate<'e>(
    schema: &Schema,
    policies: &[Policy],
    file_of: impl Fn(&str) -> &'e str,
    files: &BTreeMap<String, String>,
    problems: &mut Problems,
) {
    let set = match PolicySet::from_policies(policies.iter().cloned()) {
        Ok(set) => set,
        Err(error) => {
            problems.add("policies", "", error.to_string());
            return;
        }
    };
    let result = Validator::new(schema.clone()).validate(&set, ValidationMode::Strict);
    let errors = result
        .validation_errors()
        .map(|error| (error.policy_id(), error.to_string()));
    let warnings = result
        .validation_warnings()
        .map(|warning| (warning.policy_id(), warning.to_string()));
    for (id, message) in errors.chain(warnings) {
        let id: &str = id.as_ref();
        let file = file_of(id);
        let line = files
            .get(file)
            .and_then(|text| line_of(text, &id_annotation(id)));
        problems.add_at(file, line, id, message);
    }
}
