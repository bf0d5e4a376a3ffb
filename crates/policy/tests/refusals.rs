//! What does not load: one change to the default bundle, and the file and place that the refusal names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

mod folder;

use chaperone_policy::Bundle;

/// Loads the default bundle after replacing text in one file; the refusal must name file and place,
/// and say why.
#[track_caller]
fn refused(file: &str, from: &str, to: &str, place: &str, why: &str) {
    refused_in(file, from, to, file, place, why);
}

/// The same where another file than the changed one is named.
#[track_caller]
fn refused_in(file: &str, from: &str, to: &str, blamed: &str, place: &str, why: &str) {
    let mut files = folder::governance();
    let text = files.get(file).unwrap_or_else(|| panic!("{file} is gone"));
    assert!(text.contains(from), "{file} does not hold {from:?}");
    let changed = text.replacen(from, to, 1);
    files.insert(file.to_owned(), changed);
    if !file.starts_with("policies/") {
        // Declarations are checked without policies, and policies take long in an unoptimised build.
        files.retain(|path, _| !path.starts_with("policies/"));
    }
    let problems = Bundle::load(&files).expect_err("the changed bundle loads");
    let found = problems.iter().any(|problem| {
        problem.file == blamed && problem.place == place && problem.message.contains(why)
    });
    let all: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(
        found,
        "expected {blamed}: {place}: …{why}…, got\n{}",
        all.join("\n")
    );
}

const ORDERS: &str = "policies/matrix-orders.cedar";
const RECORD: &str = "policies/matrix-record.cedar";
const PAIRS: &str = "policies/cases/pairs.json";
const ADMINISTRATION: &str = "policies/matrix-administration.cedar";

#[test]
fn w_15_an_order_set_to_auto_is_below_its_floor() {
    refused(
        ORDERS,
        "@id(\"medication-order\") @row(\"34\") @class(\"M4\")\n@gate(\"approve_2f\")",
        "@id(\"medication-order\") @row(\"34\") @class(\"M4\")\n@gate(\"auto\")",
        "medication-order",
        "below the floor of class M4",
    );
}

#[test]
fn a_class_that_differs_from_the_computed_one() {
    refused(
        ORDERS,
        "@id(\"medication-order\") @row(\"34\") @class(\"M4\")\n@gate(\"approve_2f\") @role(\"clinician\")",
        "@id(\"medication-order\") @row(\"34\") @class(\"M0\")\n@gate(\"auto\") @role(\"clinician\")",
        "medication-order",
        "no case shows this row with computed class M0",
    );
}

#[test]
fn a_permit_that_rests_on_a_claim() {
    refused(
        ADMINISTRATION,
        "context.facts has duplicate_search_clean && context.facts.duplicate_search_clean",
        "context.claimed has duplicate_search_clean && context.claimed.duplicate_search_clean",
        "patient-create",
        "rests on a claim",
    );
}

#[test]
fn a_gate_weaker_than_the_default_case_even_when_the_bundle_says_so_in_its_own_cases() {
    // Approval becomes a mere verification, which the floor of M1 allows, and the bundle's own case
    // agrees. The case of the default bundle still stands.
    let mut files = folder::governance();
    let policies = files.get(ADMINISTRATION).unwrap().replace(
        "@id(\"patient-contact-unauthenticated\") @row(\"3\") @class(\"M1\")\n@gate(\"approve\")",
        "@id(\"patient-contact-unauthenticated\") @row(\"3\") @class(\"M1\")\n@gate(\"auto_verified\") @verify(\"address_validated\")",
    );
    files.insert(ADMINISTRATION.to_owned(), policies);
    let path = "policies/cases/administration.json";
    let cases: Vec<serde_json::Value> = serde_json::from_str(files.get(path).unwrap()).unwrap();
    let agreeing: Vec<serde_json::Value> = cases
        .into_iter()
        .map(|mut case| {
            if case["policies"] == serde_json::json!(["patient-contact-unauthenticated"]) {
                case["gate"] = "auto_verified(address_validated)".into();
            }
            case
        })
        .collect();
    files.insert(path.to_owned(), serde_json::to_string(&agreeing).unwrap());
    let problems = Bundle::load(&files).expect_err("the weaker bundle loads");
    // The neighbours that no longer stand are named as well.
    let of_cases: Vec<_> = problems
        .iter()
        .filter(|problem| problem.file != PAIRS)
        .collect();
    assert!(!of_cases.is_empty());
    for problem in of_cases {
        assert!(problem.message.contains("weaker gate"), "{problem}");
    }
}

#[test]
fn a_verification_dropped() {
    refused_in(
        ADMINISTRATION,
        "@verify(\"patient_confirmed, slot_free\") @role(\"scheduler\")\n@proof(\"P0\")\n@text(\"An appointment of",
        "@verify(\"slot_free\") @role(\"scheduler\")\n@proof(\"P0\")\n@text(\"An appointment of",
        "policies/cases/administration.json",
        "row 8: booking after confirmation",
        "meets a weaker gate here",
    );
}

#[test]
fn a_failing_case_names_itself() {
    refused(
        "policies/cases/safety.json",
        "\"denial\": \"delete-prohibited\"",
        "\"denial\": \"no-deleting\"",
        "row 62, W-04: deleting an observation",
        "expected answer denial `no-deleting`, got denial `delete-prohibited`",
    );
}

#[test]
fn a_row_without_a_case() {
    let mut files = folder::governance();
    let gone = files.remove("policies/cases/communication.json").unwrap();
    let gone: Vec<serde_json::Value> = serde_json::from_str(&gone).unwrap();
    let pairs: Vec<serde_json::Value> = serde_json::from_str(files.get(PAIRS).unwrap()).unwrap();
    let left: Vec<_> = pairs
        .into_iter()
        .filter(|pair| gone.iter().all(|case| case["name"] != pair["case"]))
        .collect();
    files.insert(PAIRS.to_owned(), serde_json::to_string(&left).unwrap());
    let problems = Bundle::load(&files).expect_err("a bundle without cases loads");
    let named = |id: &str| {
        problems
            .iter()
            .any(|p| p.file == "policies/matrix-communication.cedar" && p.place == id)
    };
    assert!(named("communication-draft") && named("communication-care-team"));
}

#[test]
fn policies_are_parsed_and_validated_strictly() {
    refused(
        RECORD,
        "resource.to == \"preliminary\"",
        "resource.to = \"preliminary\"",
        "",
        "",
    );
    refused(
        RECORD,
        "resource.to == \"preliminary\"",
        "resource.state == \"preliminary\"",
        "vital-device",
        "state",
    );
    refused(
        RECORD,
        "context.facts.observation_source == \"device\"",
        "context.facts.observation_source == 1",
        "vital-device",
        "",
    );
    refused(
        RECORD,
        "context.facts has observation_source && ",
        "",
        "vital-device",
        "observation_source",
    );
    refused(
        "policies/matrix-safety.cedar",
        "when { resource.interaction == \"delete\" }",
        "when { resource.interaction == \"delete\" && false }",
        "delete",
        "impossible",
    );
}

#[test]
fn the_schema_is_the_one_that_requests_are_built_for() {
    let schema = "policies/schema.cedarschema";
    refused(
        schema,
        "        tool: String,\n        facts: Facts,",
        "        facts: Facts,",
        "//actions/write/appliesTo/context/attributes/tool",
        "differs",
    );
    refused(
        schema,
        "        tool: String,\n        facts: Facts,",
        "        tool: String,\n        facts: Facts,\n        claimed: Facts,",
        "//actions/write/appliesTo/context/attributes/claimed",
        "differs",
    );
    refused(
        schema,
        "slot_free?: Bool",
        "slot_free: Bool",
        "//commonTypes/Facts/attributes/slot_free/required",
        "differs",
    );
}

#[test]
fn annotations_are_complete_and_known() {
    let row = "@id(\"task-request\") @row(\"23\") @class(\"M0\")\n@gate(\"auto\")";
    let with = |more: &str| format!("{row} {more}");
    refused(
        ADMINISTRATION,
        row,
        &with("@colour(\"red\")"),
        "task-request",
        "`@colour` is unknown",
    );
    refused(
        ADMINISTRATION,
        row,
        &row.replace(" @row(\"23\")", ""),
        "task-request",
        "`@row` is missing",
    );
    refused(
        ADMINISTRATION,
        row,
        &row.replace("@id(\"task-request\") ", ""),
        "policy number 21",
        "`@id` is missing",
    );
    refused(
        ADMINISTRATION,
        row,
        &row.replace("task-request", "task-close"),
        "task-close",
        "same `@id`",
    );
    refused(
        ADMINISTRATION,
        row,
        &row.replace("task-request", "default-deny"),
        "default-deny",
        "reserved",
    );
    refused(
        ADMINISTRATION,
        "@id(\"patient-link\") @row(\"6\") @denial(\"merge-prohibited\")",
        "@id(\"patient-link\") @row(\"6\")",
        "patient-link",
        "`@denial` is missing",
    );
}

#[test]
fn no_policy_is_broader_than_it_looks() {
    let task = "permit (principal, action == Action::\"write\", resource is Task)";
    refused(
        ADMINISTRATION,
        task,
        "permit (principal, action, resource is Task)",
        "task-request",
        "must name its action",
    );
    refused(
        ADMINISTRATION,
        task,
        "permit (principal == Agent::\"scribe-agent\", action == Action::\"write\", resource is Task)",
        "task-request",
        "names a principal",
    );
    refused(
        ADMINISTRATION,
        "when { resource.interaction == \"create\" && resource.to == \"requested\" }",
        "when { resource.to like \"*\" }",
        "task-request",
        "wildcard",
    );
    refused(
        ADMINISTRATION,
        task,
        "permit (principal, action == Action::\"write\", resource == ?resource)",
        "",
        "template",
    );
}

#[test]
fn intents_are_narrow() {
    let file = "intents/schedule-appointment.toml";
    let at = |from: &str, to: &str, why: &str| refused(file, from, to, "schedule-appointment", why);
    at(
        "\"Appointment.create.booked\"",
        "\"Appointment.create.*\"",
        "`*` is refused",
    );
    at("\"Appointment.create.booked\"", "\"*\"", "`*` is refused");
    at(
        "\"Appointment.create.booked\"",
        "\"Appointment.delete.booked\"",
        "cannot delete",
    );
    at(
        "\"Appointment.create.booked\"",
        "\"Appointment.create\"",
        "a write scope is",
    );
    at(
        "    \"Appointment.create.booked\",\n",
        "",
        "needs the write scope `Appointment.create.booked`",
    );
    at(
        "\"Task.create.requested\"",
        "\"Task.create.requested\", \"Claim.create.draft\"",
        "needed by none of its tools",
    );
    at("ttl_s = 300", "ttl_s = 301", "`ttl_s` must be 1 to 300");
    at(
        "\"find_slots\"",
        "\"find_slot\"",
        "tool `find_slot` is not declared",
    );
    at(
        "Slot = [\"status\", \"start\", \"end\", \"serviceType\", \"appointmentType\"]",
        "Slot = [\"comment\"]",
        "share no field",
    );
    at(
        "Slot = [\"status\", \"start\", \"end\", \"serviceType\", \"appointmentType\"]\n",
        "",
        "which the view does not open",
    );
    at(
        "[view]\n",
        "[view]\nClaim = [\"status\"]\n",
        "which none of its tools reads",
    );
    refused(file, "ttl_s = 300", "ttl_s = 300\ntll = 1", "", "tll");
    refused(
        file,
        "id = \"schedule-appointment\"",
        "id = \"schedule\"",
        "schedule",
        "must be called after",
    );
    let free = "intents/find-slots.toml";
    refused(
        free,
        "tools = [\"find_slots\"]",
        "tools = [\"find_slots\", \"list_problems\"]",
        "find-slots",
        "is patient-free, but tool `list_problems` reads",
    );
    refused(
        free,
        "tools = [\"find_slots\"]",
        "tools = [\"find_slots\", \"create_task\"]",
        "find-slots",
        "is patient-free, but tool `create_task` proposes",
    );
}

#[test]
fn agents_are_answered_for() {
    let file = "agents/scribe-agent.toml";
    let at = |from: &str, to: &str, why: &str| refused(file, from, to, "scribe-agent", why);
    at(
        "\"draft-note\"]",
        "\"sign-note\"]",
        "intent `sign-note` is not declared",
    );
    at(
        "owner = \"clinical documentation team\"",
        "owner = \" \"",
        "`owner` is empty",
    );
    at(
        "training_banned = true",
        "training_banned = false",
        "has not agreed",
    );
    at(
        "\"draft-note@5\"",
        "\"draft-note\"",
        "must name its version",
    );
    let dispatcher = "agents/intake-dispatcher.toml";
    refused(
        dispatcher,
        "intent = \"intake\"",
        "intent = \"submit-order\"",
        "intake-dispatcher",
        "is not registered for it",
    );
    refused(
        dispatcher,
        "agent = \"intake-agent\"",
        "agent = \"intake-dispatcher\"",
        "intake-dispatcher",
        "dispatch to itself",
    );
}

#[test]
fn events_of_the_ehr_cause_only_what_agents_and_intents_allow() {
    let file = "rules/ehr-events.toml";
    let at = |from: &str, to: &str, why: &str| refused(file, from, to, "appointment-booked", why);
    at(
        "agent = \"intake-agent\"",
        "agent = \"nobody\"",
        "agent `nobody` is not declared",
    );
    at(
        "intent = \"intake\"",
        "intent = \"nothing\"",
        "intent `nothing` is not declared",
    );
    at(
        "intent = \"intake\"",
        "intent = \"draft-note\"",
        "is not registered for intent `draft-note`",
    );
    at(
        "agent = \"intake-agent\"\nintent = \"intake\"",
        "agent = \"scheduler-agent\"\nintent = \"find-slots\"",
        "is about no patient",
    );
    at(
        "agent = \"intake-agent\"\nintent = \"intake\"",
        "agent = \"order-agent\"\nintent = \"submit-order\"",
        "needs a person who is present",
    );
    at(
        "expires_s = 14400",
        "expires_s = 59",
        "must be 60 to 86400 seconds",
    );
    at(
        "expires_s = 14400",
        "expires_s = 86401",
        "must be 60 to 86400 seconds",
    );
    at(
        "patient = \"participant.actor\"\n",
        "",
        "`patient` must name the element",
    );
    at(
        "\"participant.actor\"",
        "\"Patient?identifier=1\"",
        "is no element path",
    );
    at(
        "resource = \"Appointment\"",
        "resource = \"Patient\"",
        "leave `patient` out",
    );
    at(
        "resource = \"Appointment\"",
        "resource = \"Organization\"",
        "belongs to no patient",
    );
    at(
        "resource = \"Appointment\"",
        "resource = \"Encounter\"\nencounter = \"partOf\"",
        "leave `encounter` out",
    );
    at(
        "resource = \"Appointment\"",
        "resource = \"Condition\"",
        "which the view of intent `intake` does not open",
    );
    at(
        "type = \"appointment-cancelled\"",
        "type = \"appointment-booked\"",
        "is listed twice",
    );
    refused(
        file,
        "work_item = true",
        "work_items = true",
        "",
        "unknown field",
    );
    refused(
        file,
        "type = \"appointment-booked\"",
        "type = \"Appointment Booked\"",
        "",
        "type of EHR event",
    );
    refused(
        file,
        "review_by = \"2027-07-01\"",
        "review_by = \"soon\"",
        "review_by",
        "must be a day",
    );
    refused(
        file,
        "owner = \"patient access team\"",
        "owner = \"\"",
        "owner",
        "`owner` is empty",
    );
}

#[test]
fn read_tools_inject_the_patient_and_nothing_else_chooses() {
    let file = "tools/list_problems.toml";
    let at = |from: &str, to: &str, why: &str| refused(file, from, to, "list_problems", why);
    at("patient={patient}&", "", "must inject `{patient}`");
    at(
        "patient={patient}",
        "code={patient}",
        "must inject `{patient}`",
    );
    at(
        "_sort=-recorded-date",
        "_include=Condition:subject",
        "no includes",
    );
    at(
        "{status}",
        "{state}",
        "`{state}` in the query names no input",
    );
    at(
        "clinical-status={status}&",
        "",
        "input `status` is used nowhere",
    );
    at("{count}", "{count", "is not closed");
    at(
        "fields = [\"code\"",
        "fields = [\"Code\"",
        "is no element path",
    );
    at(
        "type = \"code\"\none_of",
        "type = \"string\"\nmax_length = 5\n#",
        "never enters a query",
    );
    at("maximum = 50", "maximum = 20", "`default` is not a value");
    at("minimum = 1\n", "", "`minimum` and `maximum` are required");
    at("default = 30", "default = 3.5", "`default` is not a value");
    at(
        "[inputs.count]",
        "[write]\nresource = \"Condition\"\ninteraction = \"create\"\ndestination = \"ehr\"\n[write.template]\n[inputs.count]",
        "exactly one thing",
    );
}

#[test]
fn write_tools_can_be_filled_in() {
    let file = "tools/cancel_appointment.toml";
    let at = |from: &str, to: &str, why: &str| refused(file, from, to, "cancel_appointment", why);
    at(
        "interaction = \"update\"",
        "interaction = \"delete\"",
        "a tool cannot delete",
    );
    at(
        "interaction = \"update\"",
        "interaction = \"create\"",
        "a create has no `target`",
    );
    at("target = \"appointment\"\n", "", "an update needs `target`");
    at(
        "target = \"appointment\"",
        "target = \"reason\"",
        "must be a required token input",
    );
    at(
        "target = \"appointment\"",
        "target = \"{patient}\"",
        "only a `Patient` has the envelope's patient",
    );
    for other in ["append = [\"address\"]", "append = [\"birthDate\"]"] {
        refused(
            "tools/update_contact.toml",
            "append = [\"telecom\"]",
            other,
            "update_contact",
            "must have it as a list in its template",
        );
    }
    at("code = \"{reason}\"", "code = \"{why}\"", "names no input");
    at(
        "code = \"{reason}\"",
        "code = \"because {reason}\"",
        "is no placeholder",
    );
    at("status = \"cancelled\"\n", "", "must set `status`");
    at(
        "\"patient_confirmed\"",
        "\"patient_confimed\"",
        "no fact that Chaperone observes",
    );
    at(
        "\"patient_confirmed\"",
        "\"document_kind\"",
        "no fact that Chaperone observes",
    );
    at(
        "[write.template]",
        "[write.facts]\npatient_confirmed = true\n[write.template]",
        "no fact that a tool may fix",
    );
    at(
        "resource = \"Appointment\"\nrequired = true",
        "required = true",
        "`resource` is required for a token",
    );
    let note = "tools/draft_note.toml";
    refused(
        note,
        "max_length = 20000\n",
        "",
        "draft_note",
        "`max_length` is required for a string",
    );
    refused(
        note,
        "document_kind = \"note\"",
        "document_kind = true",
        "draft_note",
        "has the wrong type",
    );
    refused(
        note,
        "{encounter_token|reference}",
        "{encounter_token}",
        "draft_note",
        "a token becomes",
    );
    let refill = "tools/request_refill.toml";
    refused(
        refill,
        "\"dosageInstruction\"]",
        "\"status\"]",
        "request_refill",
        "both copied and in the template",
    );
}

#[test]
fn note_templates_that_no_note_could_follow_and_tools_that_offer_none() {
    let template = "templates/progress-note.toml";
    for (from, to, why) in [
        (
            "id = \"progress-note\"",
            "id = \"other-note\"",
            "must be called `other-note.toml`",
        ),
        (
            "title = \"Plan\"",
            "title = \"Assessment\"",
            "two sections have the same title",
        ),
        (
            "title = \"Plan\"",
            "title = \"# Plan\"",
            "must be a short line",
        ),
        (
            "title = \"Plan\"",
            "title = \" Plan\"",
            "must be a short line",
        ),
        (
            "chars_max = 12000",
            "chars_max = 50001",
            "`chars_max` is out of range",
        ),
        (
            "chars_max = 12000",
            "chars_max = 3000",
            "must be 1 to that of the note",
        ),
        ("kinds = [\"11506-3\"]", "kinds = []", "names no LOINC type"),
        (
            "reviewed = \"2026-11-22\"",
            "reviewed = \"2028-01-01\"",
            "a later `review_by`",
        ),
        (
            "owner = \"clinical documentation team\"",
            "owner = \" \"",
            "`source` and `owner` must be given",
        ),
    ] {
        let place = if to.starts_with("id") {
            "other-note"
        } else {
            "progress-note"
        };
        refused(template, from, to, place, why);
    }
    let tool = "tools/draft_note.toml";
    refused(
        tool,
        "template = \"template\"",
        "template = \"text\"",
        "draft_note",
        "`write.note` names `text`, which is no input of that type",
    );
    refused(
        tool,
        "\"discharge-summary\"]",
        "\"discharge\"]",
        "draft_note",
        "there is no `templates/discharge.toml`",
    );
}

#[test]
fn files_that_nothing_reads() {
    let mut files = folder::governance();
    files.insert("policy/extra.cedar".to_owned(), String::new());
    files.insert("rules/broken.toml".to_owned(), "a = ".to_owned());
    files.remove("bundle.toml");
    let problems = Bundle::load(&files).expect_err("a strange bundle loads");
    let named = |file: &str| problems.iter().any(|problem| problem.file == file);
    assert!(named("policy/extra.cedar") && named("rules/broken.toml") && named("bundle.toml"));
    assert!(Bundle::load(&Default::default()).is_err());
}

#[test]
fn problems_carry_lines() {
    let mut files = folder::governance();
    let file = "intents/intake.toml";
    let changed = files
        .get(file)
        .unwrap()
        .replace("ttl_s = 300", "ttl_s = 900");
    files.insert(file.to_owned(), changed);
    let problems = Bundle::load(&files).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(
        problems[0].to_string(),
        "intents/intake.toml:4: intake: `ttl_s` must be 1 to 300 seconds"
    );
}
