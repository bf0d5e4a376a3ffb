//! FHIR in clinical language, for the person who reviews.
//!
//! One line per resource, and differences leaf by leaf. What is shown comes from coded and structured
//! elements; free text is shown as such and never as if it had been checked. A modifier that turns the
//! meaning around (`doNotPerform`, a refuted condition, entered-in-error) is always part of the line.
//! The output holds patient data: it is for the console, never for logs or agents.
//! Start at [`describe`] and [`diff`].

mod concept;
mod diff;
mod dosage;

use serde_json::Value;

pub use concept::{coding, concept, quantity};
pub use diff::{DiffKind, DiffLine, diff};
pub use dosage::dosage;

use concept::{date, free_text, list, reference, text};

/// Longest free text shown within a line, in characters.
const FREE_TEXT_CHARACTERS_MAX: usize = 160;

/// One line that says what a resource is about.
#[must_use]
pub fn describe(resource: &Value) -> String {
    let type_name = text(resource, "resourceType").unwrap_or("resource without type");
    let line = match type_name {
        "MedicationRequest" => medication_request(resource),
        "ServiceRequest" => service_request(resource),
        "Appointment" => appointment(resource),
        "DocumentReference" => document_reference(resource),
        "Observation" => observation(resource),
        "QuestionnaireResponse" => questionnaire_response(resource),
        "Communication" | "CommunicationRequest" => communication(type_name, resource),
        "Condition" => condition(resource),
        "AllergyIntolerance" => allergy(resource),
        "Patient" => patient(resource),
        "Task" => task(resource),
        _ => return generic(type_name, resource),
    };
    format!(
        "{line}{}",
        states(
            resource,
            &[
                "status",
                "docStatus",
                "intent",
                "clinicalStatus",
                "verificationStatus"
            ]
        )
    )
}

/// One line that says what changes: for a patient the demographic parts, otherwise the new state.
#[must_use]
pub fn describe_change(before: Option<&Value>, after: &Value) -> String {
    let Some(before) = before else {
        return format!("New: {}", describe(after));
    };
    if text(after, "resourceType") != Some("Patient") {
        return format!("Change: {}", describe(after));
    }
    let mut parts = Vec::new();
    for (key, name, render) in PATIENT_PARTS {
        let render = |value: Option<&Value>| match value {
            None => "none".to_owned(),
            Some(Value::Array(items)) => join(items.iter().map(render)),
            Some(value) => render(value),
        };
        let (old, new) = (before.get(key), after.get(key));
        if old != new {
            parts.push(format!("{name} from {} to {}", render(old), render(new)));
        }
    }
    let parts_known: Vec<&str> = PATIENT_PARTS.iter().map(|(key, ..)| *key).collect();
    let others = diff(Some(before), after)
        .into_iter()
        .filter(|line| {
            let first = line.path.split(['.', '[']).next().unwrap_or_default();
            !parts_known.contains(&first)
        })
        .count();
    if others > 0 {
        parts.push(format!("{others} other element(s)"));
    }
    if parts.is_empty() {
        "Patient: no change".to_owned()
    } else {
        format!("Patient: {}", parts.join("; "))
    }
}

/// A part of a Patient: element, its name in words, and how one value reads.
type PatientPart = (&'static str, &'static str, fn(&Value) -> String);

const PATIENT_PARTS: [PatientPart; 8] = [
    ("telecom", "contact", telecom),
    ("address", "address", address),
    ("name", "name", name),
    ("birthDate", "birth date", plain),
    ("gender", "gender", plain),
    ("communication", "language", |value| {
        value
            .get("language")
            .map_or_else(|| "unstated".to_owned(), concept)
    }),
    ("active", "active", plain),
    ("deceasedBoolean", "deceased", plain),
];

fn join(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        "none".to_owned()
    } else {
        parts.join(", ")
    }
}

/// A leaf without quotes.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn telecom(value: &Value) -> String {
    let system = text(value, "system").unwrap_or("contact");
    let used = text(value, "use")
        .map(|used| format!(" ({used})"))
        .unwrap_or_default();
    format!(
        "{system}{used} {}",
        text(value, "value").unwrap_or("without value")
    )
}

fn address(value: &Value) -> String {
    let mut parts: Vec<&str> = list(value, "line")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    parts.extend(
        ["city", "state", "postalCode", "country"]
            .iter()
            .filter_map(|key| text(value, key)),
    );
    if parts.is_empty() {
        return free_text(text(value, "text").unwrap_or_default());
    }
    parts.join(" ")
}

fn name(value: &Value) -> String {
    let mut parts: Vec<&str> = ["prefix", "given"]
        .iter()
        .flat_map(|key| list(value, key))
        .filter_map(Value::as_str)
        .collect();
    parts.extend(text(value, "family"));
    if parts.is_empty() {
        return free_text(text(value, "text").unwrap_or_default());
    }
    parts.join(" ")
}

/// The states in brackets, such as ` [active, order]`.
fn states(resource: &Value, elements: &[&str]) -> String {
    let states: Vec<String> = elements
        .iter()
        .filter_map(|element| resource.get(*element))
        .map(|state| match state {
            Value::String(code) => code.clone(),
            other => list(other, "coding")
                .iter()
                .find_map(|it| text(it, "code"))
                .unwrap_or("unstated")
                .to_owned(),
        })
        .collect();
    if states.is_empty() {
        String::new()
    } else {
        format!(" [{}]", states.join(", "))
    }
}

fn generic(type_name: &str, resource: &Value) -> String {
    let status = match resource.get("status") {
        Some(Value::String(status)) => format!(", {status}"),
        _ => String::new(),
    };
    let subject = resource
        .get("code")
        .filter(|code| code.is_object())
        .map(|code| format!(": {}", concept(code)));
    format!("{type_name}{}{status}", subject.unwrap_or_default())
}

/// `do not: ` in front of a request that says what must not happen.
fn negation(resource: &Value) -> &'static str {
    if resource.get("doNotPerform").and_then(Value::as_bool) == Some(true) {
        "DO NOT: "
    } else {
        ""
    }
}

fn medication(resource: &Value) -> String {
    if let Some(code) = resource.get("medicationCodeableConcept") {
        concept(code)
    } else {
        resource
            .get("medicationReference")
            .map_or_else(|| "medication not stated".to_owned(), reference)
    }
}

fn medication_request(resource: &Value) -> String {
    let mut line = format!("{}{}", negation(resource), medication(resource));
    let dosages = list(resource, "dosageInstruction");
    if dosages.is_empty() {
        line.push_str(", no dosage stated");
    } else {
        let words: Vec<String> = dosages.iter().map(dosage).collect();
        line.push_str(", ");
        line.push_str(&words.join("; and "));
    }
    if let Some(dispense) = resource.get("dispenseRequest") {
        if let Some(amount) = dispense.get("quantity") {
            line.push_str(&format!("; dispense {}", quantity(amount)));
        }
        if let Some(refills) = dispense
            .get("numberOfRepeatsAllowed")
            .and_then(Value::as_u64)
        {
            line.push_str(&format!(
                "; {refills} refill{}",
                if refills == 1 { "" } else { "s" }
            ));
        }
    }
    line
}

fn service_request(resource: &Value) -> String {
    let mut line = format!(
        "{}{}",
        negation(resource),
        resource
            .get("code")
            .map_or_else(|| "service not stated".to_owned(), concept)
    );
    if let Some(priority) = text(resource, "priority") {
        line.push_str(&format!(", {priority}"));
    }
    if let Some(when) = text(resource, "occurrenceDateTime") {
        line.push_str(&format!(", on {}", date(when)));
    } else if let Some(period) = resource.get("occurrencePeriod") {
        line.push_str(&format!(", {}", concept::period(period)));
    }
    let reasons: Vec<String> = list(resource, "reasonCode").iter().map(concept).collect();
    if !reasons.is_empty() {
        line.push_str(&format!(", because of {}", reasons.join(", ")));
    }
    line
}

fn appointment(resource: &Value) -> String {
    let mut line = "Appointment".to_owned();
    if let Some(kind) = resource
        .get("appointmentType")
        .or_else(|| list(resource, "serviceType").first())
    {
        line.push_str(&format!(" ({})", concept(kind)));
    }
    match (text(resource, "start"), text(resource, "end")) {
        (Some(start), Some(end)) => {
            line.push_str(&format!(" from {} to {}", date(start), date(end)))
        }
        (Some(start), None) => line.push_str(&format!(" from {}, end not stated", date(start))),
        _ => line.push_str(", time not stated"),
    }
    let actors: Vec<String> = list(resource, "participant")
        .iter()
        .filter_map(|it| it.get("actor"))
        .map(reference)
        .collect();
    if !actors.is_empty() {
        line.push_str(&format!(", with {}", actors.join(", ")));
    }
    line
}

fn document_reference(resource: &Value) -> String {
    let kind = resource
        .get("type")
        .map_or_else(|| "Document".to_owned(), concept);
    let when = text(resource, "date")
        .map(|when| format!(" of {}", date(when)))
        .unwrap_or_default();
    let attachments = list(resource, "content").len();
    let title = list(resource, "content")
        .iter()
        .find_map(|it| it.get("attachment").and_then(|it| text(it, "title")))
        .map(|title| format!(", title {}", free_text(title)))
        .unwrap_or_default();
    format!(
        "{kind}{when}{title}, {attachments} attachment{}",
        if attachments == 1 { "" } else { "s" }
    )
}

/// The value of an Observation or one of its components.
fn observed(value: &Value) -> String {
    let Some(members) = value.as_object() else {
        return "no value".to_owned();
    };
    let Some((key, content)) = members.iter().find(|(key, _)| key.starts_with("value")) else {
        return match value.get("dataAbsentReason") {
            Some(reason) => format!("no value ({})", concept(reason)),
            None => "no value".to_owned(),
        };
    };
    match key.as_str() {
        "valueQuantity" => quantity(content),
        "valueCodeableConcept" => concept(content),
        "valueString" => content
            .as_str()
            .map_or_else(|| "no value".to_owned(), free_text),
        "valueDateTime" => content.as_str().map_or_else(|| "no value".to_owned(), date),
        "valuePeriod" => concept::period(content),
        "valueRange" => concept::range(content),
        "valueRatio" => concept::ratio(content),
        "valueBoolean" => if content.as_bool() == Some(true) {
            "yes"
        } else {
            "no"
        }
        .to_owned(),
        _ => match content {
            Value::Object(_) | Value::Array(_) => "a structured value".to_owned(),
            leaf => plain(leaf),
        },
    }
}

fn observation(resource: &Value) -> String {
    let code = resource
        .get("code")
        .map_or_else(|| "Observation".to_owned(), concept);
    let components = list(resource, "component");
    let has_value = resource
        .as_object()
        .is_some_and(|it| it.keys().any(|key| key.starts_with("value")));
    let mut values = Vec::new();
    if has_value || components.is_empty() {
        values.push(observed(resource));
    }
    values.extend(components.iter().map(|component| {
        let code = component
            .get("code")
            .map_or_else(|| "component".to_owned(), concept);
        format!("{code} {}", observed(component))
    }));
    let when = text(resource, "effectiveDateTime")
        .map(|when| format!(", {}", date(when)))
        .unwrap_or_default();
    format!("{code}: {}{when}", values.join(", "))
}

/// Deepest nesting of questionnaire items that is counted.
const ITEM_DEPTH_MAX: usize = 32;

fn answers(item: &Value, depth: usize) -> usize {
    if depth == 0 {
        return 0;
    }
    let own = list(item, "answer");
    let nested = own
        .iter()
        .flat_map(|answer| list(answer, "item"))
        .chain(list(item, "item"));
    own.len() + nested.map(|item| answers(item, depth - 1)).sum::<usize>()
}

fn questionnaire_response(resource: &Value) -> String {
    let form = text(resource, "questionnaire")
        .map(|form| format!(" to {form}"))
        .unwrap_or_default();
    let count = answers(resource, ITEM_DEPTH_MAX);
    let when = text(resource, "authored")
        .map(|when| format!(", {}", date(when)))
        .unwrap_or_default();
    format!(
        "Answers{form}: {count} answer{}{when}",
        if count == 1 { "" } else { "s" }
    )
}

fn communication(type_name: &str, resource: &Value) -> String {
    let noun = if type_name == "Communication" {
        "Message"
    } else {
        "Request to send a message"
    };
    let to: Vec<String> = list(resource, "recipient").iter().map(reference).collect();
    let to = if to.is_empty() {
        String::new()
    } else {
        format!(" to {}", to.join(", "))
    };
    let topic = resource
        .get("topic")
        .or_else(|| list(resource, "category").first())
        .map(|topic| format!(" about {}", concept(topic)))
        .unwrap_or_default();
    let body: Vec<String> = list(resource, "payload")
        .iter()
        .map(|part| {
            text(part, "contentString").map_or_else(|| "an attachment".to_owned(), free_text)
        })
        .collect();
    let body = if body.is_empty() {
        String::new()
    } else {
        format!(": {}", body.join("; "))
    };
    format!("{}{noun}{to}{topic}{body}", negation(resource))
}

fn condition(resource: &Value) -> String {
    let code = resource
        .get("code")
        .map_or_else(|| "Condition not stated".to_owned(), concept);
    let onset = text(resource, "onsetDateTime")
        .map(|when| format!(", since {}", date(when)))
        .unwrap_or_default();
    let end = text(resource, "abatementDateTime")
        .map(|when| format!(", until {}", date(when)))
        .unwrap_or_default();
    format!("{code}{onset}{end}")
}

fn allergy(resource: &Value) -> String {
    let kind = if text(resource, "type") == Some("intolerance") {
        "Intolerance of"
    } else {
        "Allergy to"
    };
    let code = resource
        .get("code")
        .map_or_else(|| "something not stated".to_owned(), concept);
    let criticality = text(resource, "criticality")
        .map(|level| format!(", criticality {level}"))
        .unwrap_or_default();
    let reactions: Vec<String> = list(resource, "reaction")
        .iter()
        .flat_map(|it| list(it, "manifestation"))
        .map(concept)
        .collect();
    let reactions = if reactions.is_empty() {
        String::new()
    } else {
        format!(", reaction: {}", reactions.join(", "))
    };
    format!("{kind} {code}{criticality}{reactions}")
}

fn patient(resource: &Value) -> String {
    let name = list(resource, "name")
        .first()
        .map_or_else(|| "without name".to_owned(), name);
    let born = text(resource, "birthDate")
        .map(|born| format!(", born {born}"))
        .unwrap_or_default();
    let telecom = list(resource, "telecom");
    let contact = if telecom.is_empty() {
        String::new()
    } else {
        format!(", {}", join(telecom.iter().map(self::telecom)))
    };
    format!("Patient {name}{born}{contact}")
}

fn task(resource: &Value) -> String {
    let what = match (resource.get("code"), text(resource, "description")) {
        (Some(code), _) => concept(code),
        (None, Some(description)) => free_text(description),
        (None, None) => "not described".to_owned(),
    };
    let owner = resource
        .get("owner")
        .map(|owner| format!(", for {}", reference(owner)))
        .unwrap_or_default();
    format!("Task: {what}{owner}")
}

#[cfg(test)]
mod tests;
