//! Statements about calls of tools: what access policies permit, and to whom.
//!
//! Calls have no gates, so the one question is whether anything that a statement speaks of is permitted.

use cedar_policy::EvalResult;
use cedar_policy_symcc::Env;
use chaperone_core::bundle::PatientBinding;
use chaperone_core::ids::{AgentId, ConnectionId, IntentId, PolicyId, ToolName};
use chaperone_core::mode::Mode;
use chaperone_core::ports::Environment;
use chaperone_core::request::{AccessDecision, AccessRequest};
use chaperone_core::resource::{Code, ResourceType};
use serde_json::json;

use crate::invariants::{Claim, Invariant};
use crate::prove::expr::{Expr, all, applies, attribute, can_fail, one_of};
use crate::prove::port::Solver;
use crate::prove::report::{Outcome, Said, Shown};
use crate::prove::space::Space;
use crate::prove::witness::{Names, as_text, as_texts, as_truth};
use crate::prove::{ProofFailed, Prover};
use crate::row::{Action, Meaning};

/// The tool that a found call names.
const TOOL: &str = "case_tool";

impl<S: Solver + Send> Prover<'_, '_, S> {
    /// Proves a statement about calls.
    pub(super) fn calls(&mut self, statement: &Invariant) -> Result<Outcome, ProofFailed> {
        let space = Space::of_calls()?;
        let (mut permits, mut prohibitions) = (Vec::new(), Vec::new());
        for entry in self.bundle.sets.in_order() {
            let form = self.bundle.sets.form(entry.id.as_str());
            let Some(form) = form.filter(|_| entry.action == Action::Access) else {
                continue;
            };
            match entry.meaning {
                Meaning::Access => permits.push(applies(form)),
                _ => prohibitions.push(applies(form)),
            }
        }
        let premise = all([well_formed(), applies(&statement.form)]);
        let spoken_of = space.compiled(std::slice::from_ref(&premise), &[])?;
        if self.one_in(&spoken_of)?.is_none() {
            return Ok(Outcome::Vacuous {
                why: "no call matches it, so it says nothing".to_owned(),
            });
        }
        if statement.claim == Claim::NeverFailing {
            let fails = permits.iter().chain(&prohibitions).any(can_fail);
            return Ok(if fails {
                Outcome::Undecided {
                    why: "an access policy computes with numbers; nothing in a call is one"
                        .to_owned(),
                }
            } else {
                Outcome::Holds
            });
        }
        let permitted = space.compiled(&permits, &prohibitions)?;
        let Some(env) = self.in_both(&permitted, &spoken_of)? else {
            return Ok(Outcome::Holds);
        };
        let asked = self.call_in(&env)?;
        let AccessDecision::Permit { policies } = self.bundle.permit_access(&asked) else {
            return Err(ProofFailed::Disagreement(
                "the call that the solver found is denied".to_owned(),
            ));
        };
        Ok(Outcome::Refuted {
            wrong: "this call is permitted".to_owned(),
            counterexample: vec![self.call_shown(&asked, &policies)],
        })
    }

    /// Reads a call from a model.
    fn call_in(&self, env: &Env) -> Result<AccessRequest, ProofFailed> {
        let unreadable = |what: &str| ProofFailed::NotReadable(what.to_owned());
        let mut names = Names::new(&self.known);
        let context = env
            .request
            .context()
            .ok_or_else(|| unreadable("the context"))?;
        let of_entity = |uid: Option<&cedar_policy::EntityUid>, name: &str| -> Option<EvalResult> {
            env.entities.get(uid?)?.attr(name)?.ok()
        };
        let principal = env.request.principal();
        let tool = env.request.resource();
        // A text that is no name is one that no policy compares names with.
        let mut intent = |text: &str| {
            let text = names.of(text);
            IntentId::new(&text)
                .or_else(|_| IntentId::new("other-intent"))
                .map_err(|error| ProofFailed::NotReadable(error.to_string()))
        };
        let text = |name: &str| as_text(context.get(name), name);
        let truth = |name: &str| as_truth(context.get(name), name);
        let agent_intents = as_texts(of_entity(principal, "intents"), "intents")?
            .iter()
            .map(|text| intent(text))
            .collect::<Result<Vec<_>, _>>()?;
        let asked_intent = intent(&text("intent")?)?;
        let tool_name = ToolName::new(TOOL).map_err(|error| unreadable(&error.to_string()))?;
        let code = |text: String| Code::new(&text).or_else(|_| Code::new("other"));
        let resource = as_text(of_entity(tool, "type"), "type")?;
        let (environment, presence_live) = (
            match text("environment")?.as_str() {
                "production" => Environment::Production,
                "test" => Environment::Test,
                _ => Environment::Sandbox,
            },
            match text("presence")?.as_str() {
                "live" => Some(true),
                "absent" => Some(false),
                _ => None,
            },
        );
        let mode = [
            Mode::Normal,
            Mode::WritePaused,
            Mode::ReadOnly,
            Mode::Halted,
        ];
        let named = text("mode")?;
        Ok(AccessRequest {
            agent: AgentId::new("case-agent").map_err(|error| unreadable(&error.to_string()))?,
            agent_intents,
            intent: asked_intent,
            intent_tools: if truth("in_intent")? {
                vec![tool_name.clone()]
            } else {
                Vec::new()
            },
            binding: match text("binding")?.as_str() {
                "none" => PatientBinding::None,
                _ => PatientBinding::Required,
            },
            patient_bound: truth("patient_bound")?,
            purpose: code(text("purpose")?).map_err(|error| unreadable(&error.to_string()))?,
            tool: tool_name,
            resource: if resource.is_empty() {
                None
            } else {
                ResourceType::new(&resource)
                    .or_else(|_| ResourceType::new("Other"))
                    .ok()
            },
            write: as_truth(of_entity(tool, "writes"), "writes")?,
            connection: ConnectionId::new("case-connection")
                .map_err(|error| unreadable(&error.to_string()))?,
            environment,
            presence_live,
            agreements_in_force: truth("agreements_in_force")?,
            mode: mode
                .into_iter()
                .find(|mode| mode.as_str() == named)
                .unwrap_or_default(),
        })
    }

    fn call_shown(&self, asked: &AccessRequest, policies: &[PolicyId]) -> Shown {
        let environment = match asked.environment {
            Environment::Sandbox => "sandbox",
            Environment::Test => "test",
            Environment::Production => "production",
        };
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let presence = match asked.presence_live {
            None => "not asked",
            Some(true) => "live",
            Some(false) => "absent",
        };
        let listed = |intents: &[IntentId]| {
            intents
                .iter()
                .map(IntentId::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let touched = asked
            .resource
            .as_ref()
            .map_or("nothing", ResourceType::as_str);
        let entries = self.bundle.sets.in_order();
        Shown {
            form: String::new(),
            request: vec![
                format!(
                    "call         {} {touched}",
                    if asked.write { "proposes" } else { "reads" }
                ),
                format!(
                    "intent       {}; the agent has {}",
                    asked.intent,
                    listed(&asked.agent_intents)
                ),
                format!("tool listed  {}", yes(!asked.intent_tools.is_empty())),
                format!(
                    "patient      {}, {}",
                    match asked.binding {
                        PatientBinding::Required => "required",
                        PatientBinding::None => "none allowed",
                    },
                    if asked.patient_bound {
                        "present"
                    } else {
                        "absent"
                    }
                ),
                format!("clinician    {presence}"),
                format!("connection   {environment}"),
                format!("agreements   in force: {}", yes(asked.agreements_in_force)),
                format!("mode         {}", asked.mode.as_str()),
            ],
            decided_by: policies
                .iter()
                .map(|id| Said {
                    policy: id.as_str().to_owned(),
                    text: entries
                        .iter()
                        .find(|entry| entry.id == *id)
                        .map(|entry| entry.text.clone())
                        .unwrap_or_default(),
                })
                .collect(),
            escalated_by: Vec::new(),
            policies_ask: "permit".to_owned(),
            ruling: "permit".to_owned(),
            denial: None,
            case: json!({
                "name": "found by the proof",
                "agent_intents": asked.agent_intents,
                "intent": asked.intent,
                "intent_tools": asked.intent_tools,
                "binding": asked.binding,
                "patient_bound": asked.patient_bound,
                "tool": asked.tool,
                "resource": asked.resource,
                "write": asked.write,
                "environment": environment,
                "presence_live": asked.presence_live,
                "agreements_in_force": asked.agreements_in_force,
                "mode": asked.mode,
            }),
        }
    }
}

/// Values that calls are described with, and no others.
fn well_formed() -> Expr {
    let of = |name| attribute("context", name);
    all([
        one_of(&of("binding"), &["required", "none"]),
        one_of(&of("environment"), &["sandbox", "test", "production"]),
        one_of(&of("presence"), &["not_asked", "live", "absent"]),
        one_of(
            &of("mode"),
            &["normal", "write_paused", "read_only", "halted"],
        ),
    ])
}
