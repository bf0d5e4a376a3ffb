//! The resource types the sandbox holds and the search parameters it answers for each, as data.
//!
//! Not a full copy of the R4 definitions: a type that is missing here is refused with 404, a
//! parameter that is missing here is unknown. Start at [`resource_type`].
//!
//! # Source
//! FHIR R4 (4.0.1), search parameter registry, <https://hl7.org/fhir/R4/searchparameter-registry.html>.

/// How the values of a search parameter are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParameterKind {
    /// A code, coding, identifier, contact point or boolean.
    Token,
    /// A date, dateTime, instant or Period.
    Date,
    /// A reference to any type.
    Reference,
    /// A reference that counts only when it points at a Patient.
    PatientReference,
    /// A string, compared by folded prefix; also HumanName and Address.
    Text,
    /// A uri, compared whole.
    Uri,
}

/// One search parameter of one resource type.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parameter {
    /// The name used in the URL.
    pub(crate) name: &'static str,
    /// How it compares.
    pub(crate) kind: ParameterKind,
    /// Dotted element paths whose values it finds; lists are walked through.
    pub(crate) paths: &'static [&'static str],
}

/// One resource type the sandbox can hold.
#[derive(Debug)]
pub(crate) struct ResourceType {
    /// The FHIR name.
    pub(crate) name: &'static str,
    /// Its search parameters, without the common ones (`_id`, `_lastUpdated`).
    pub(crate) parameters: &'static [Parameter],
}

impl ResourceType {
    /// The position and definition of a parameter by name.
    pub(crate) fn parameter(&self, name: &str) -> Option<(u8, &'static Parameter)> {
        let position = self.parameters.iter().position(|p| p.name == name)?;
        let parameter = self.parameters.get(position)?;
        u8::try_from(position).ok().map(|at| (at, parameter))
    }
}

/// Looks a resource type up by its FHIR name.
pub(crate) fn resource_type(name: &str) -> Option<&'static ResourceType> {
    let at = RESOURCE_TYPES
        .binary_search_by(|candidate| candidate.name.cmp(name))
        .ok()?;
    RESOURCE_TYPES.get(at)
}

const fn parameter(
    name: &'static str,
    kind: ParameterKind,
    paths: &'static [&'static str],
) -> Parameter {
    Parameter { name, kind, paths }
}

const fn token(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    parameter(name, ParameterKind::Token, paths)
}

const fn date(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    parameter(name, ParameterKind::Date, paths)
}

const fn reference(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    parameter(name, ParameterKind::Reference, paths)
}

const fn patient(paths: &'static [&'static str]) -> Parameter {
    parameter("patient", ParameterKind::PatientReference, paths)
}

const fn text(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    parameter(name, ParameterKind::Text, paths)
}

const fn uri(name: &'static str, paths: &'static [&'static str]) -> Parameter {
    parameter(name, ParameterKind::Uri, paths)
}

const IDENTIFIER: Parameter = token("identifier", &["identifier"]);
const STATUS: Parameter = token("status", &["status"]);
const CATEGORY: Parameter = token("category", &["category"]);
const CODE: Parameter = token("code", &["code"]);
const TYPE: Parameter = token("type", &["type"]);
const ACTIVE: Parameter = token("active", &["active"]);
const INTENT: Parameter = token("intent", &["intent"]);
const PRIORITY: Parameter = token("priority", &["priority"]);
const CLINICAL_STATUS: Parameter = token("clinical-status", &["clinicalStatus"]);
const VERIFICATION_STATUS: Parameter = token("verification-status", &["verificationStatus"]);
const PATIENT: Parameter = patient(&["subject"]);
const PATIENT_ELEMENT: Parameter = patient(&["patient"]);
const SUBJECT: Parameter = reference("subject", &["subject"]);
const ENCOUNTER: Parameter = reference("encounter", &["encounter"]);
const NAME: Parameter = text("name", &["name"]);
const FAMILY: Parameter = text("family", &["name.family"]);
const GIVEN: Parameter = text("given", &["name.given"]);
const GENDER: Parameter = token("gender", &["gender"]);
const TELECOM: Parameter = token("telecom", &["telecom"]);
const ADDRESS: Parameter = text("address", &["address"]);
const PERIOD_DATE: Parameter = date("date", &["period"]);
const EFFECTIVE_DATE: Parameter = date(
    "date",
    &["effectiveDateTime", "effectivePeriod", "effectiveInstant"],
);

const ALLERGY_INTOLERANCE: &[Parameter] = &[
    IDENTIFIER,
    CLINICAL_STATUS,
    VERIFICATION_STATUS,
    CATEGORY,
    TYPE,
    token("code", &["code", "reaction.substance"]),
    token("criticality", &["criticality"]),
    PATIENT_ELEMENT,
    date("date", &["recordedDate"]),
    date("onset", &["onsetDateTime", "onsetPeriod"]),
];

const APPOINTMENT: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    patient(&["participant.actor"]),
    reference("actor", &["participant.actor"]),
    reference("practitioner", &["participant.actor"]),
    reference("location", &["participant.actor"]),
    reference("slot", &["slot"]),
    date("date", &["start"]),
    token("service-type", &["serviceType"]),
    token("appointment-type", &["appointmentType"]),
    token("part-status", &["participant.status"]),
];

const APPOINTMENT_RESPONSE: &[Parameter] = &[
    IDENTIFIER,
    patient(&["actor"]),
    reference("actor", &["actor"]),
    reference("appointment", &["appointment"]),
    token("part-status", &["participantStatus"]),
];

const AUDIT_EVENT: &[Parameter] = &[
    TYPE,
    token("subtype", &["subtype"]),
    token("action", &["action"]),
    token("outcome", &["outcome"]),
    date("date", &["recorded"]),
    patient(&["agent.who", "entity.what"]),
    reference("agent", &["agent.who"]),
    reference("entity", &["entity.what"]),
];

const CARE_PLAN: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    INTENT,
    CATEGORY,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    PERIOD_DATE,
    reference("care-team", &["careTeam"]),
    reference("condition", &["addresses"]),
    reference("goal", &["goal"]),
];

const CARE_TEAM: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CATEGORY,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    PERIOD_DATE,
    reference("participant", &["participant.member"]),
];

const CLAIM: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    token("use", &["use"]),
    PRIORITY,
    PATIENT_ELEMENT,
    date("created", &["created"]),
    reference("encounter", &["item.encounter"]),
    reference("provider", &["provider"]),
];

const COMMUNICATION: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CATEGORY,
    token("medium", &["medium"]),
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("sent", &["sent"]),
    date("received", &["received"]),
    reference("recipient", &["recipient"]),
    reference("sender", &["sender"]),
    reference("based-on", &["basedOn"]),
];

const COMMUNICATION_REQUEST: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CATEGORY,
    PRIORITY,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("authored", &["authoredOn"]),
    date("occurrence", &["occurrenceDateTime", "occurrencePeriod"]),
    reference("recipient", &["recipient"]),
];

const CONDITION: &[Parameter] = &[
    IDENTIFIER,
    CLINICAL_STATUS,
    VERIFICATION_STATUS,
    CATEGORY,
    CODE,
    token("severity", &["severity"]),
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("onset-date", &["onsetDateTime", "onsetPeriod"]),
    date("abatement-date", &["abatementDateTime", "abatementPeriod"]),
    date("recorded-date", &["recordedDate"]),
];

const CONSENT: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CATEGORY,
    token("scope", &["scope"]),
    token("action", &["provision.action"]),
    token("purpose", &["provision.purpose"]),
    PATIENT_ELEMENT,
    date("date", &["dateTime"]),
    date("period", &["provision.period"]),
    reference("actor", &["provision.actor.reference"]),
];

const COVERAGE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    TYPE,
    patient(&["beneficiary"]),
    reference("beneficiary", &["beneficiary"]),
    reference("subscriber", &["subscriber"]),
    reference("payor", &["payor"]),
];

const DETECTED_ISSUE: &[Parameter] = &[
    IDENTIFIER,
    CODE,
    PATIENT_ELEMENT,
    date("identified", &["identifiedDateTime", "identifiedPeriod"]),
    reference("implicated", &["implicated"]),
];

const DEVICE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    TYPE,
    PATIENT_ELEMENT,
    text("device-name", &["deviceName.name"]),
    reference("organization", &["owner"]),
];

const DIAGNOSTIC_REPORT: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CATEGORY,
    CODE,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    EFFECTIVE_DATE,
    date("issued", &["issued"]),
    reference("result", &["result"]),
    reference("based-on", &["basedOn"]),
];

const DOCUMENT_REFERENCE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    TYPE,
    CATEGORY,
    PATIENT,
    SUBJECT,
    reference("encounter", &["context.encounter"]),
    date("date", &["date"]),
    date("period", &["context.period"]),
    reference("author", &["author"]),
    reference("related", &["context.related"]),
    token("contenttype", &["content.attachment.contentType"]),
    token("security-label", &["securityLabel"]),
];

const ENCOUNTER_TYPE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    token("class", &["class"]),
    TYPE,
    token("reason-code", &["reasonCode"]),
    PATIENT,
    SUBJECT,
    PERIOD_DATE,
    reference("participant", &["participant.individual"]),
    reference("practitioner", &["participant.individual"]),
    reference("service-provider", &["serviceProvider"]),
    reference("appointment", &["appointment"]),
    reference("location", &["location.location"]),
];

const EXPLANATION_OF_BENEFIT: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    PATIENT_ELEMENT,
    date("created", &["created"]),
    reference("encounter", &["item.encounter"]),
    reference("claim", &["claim"]),
    reference("provider", &["provider"]),
];

const FAMILY_MEMBER_HISTORY: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    token("code", &["condition.code"]),
    token("relationship", &["relationship"]),
    PATIENT_ELEMENT,
    date("date", &["date"]),
];

const FLAG: &[Parameter] = &[IDENTIFIER, PATIENT, SUBJECT, ENCOUNTER, PERIOD_DATE];

const GOAL: &[Parameter] = &[
    IDENTIFIER,
    token("lifecycle-status", &["lifecycleStatus"]),
    token("achievement-status", &["achievementStatus"]),
    CATEGORY,
    PATIENT,
    SUBJECT,
    date("start-date", &["startDate"]),
    date("target-date", &["target.dueDate"]),
];

const IMAGING_STUDY: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("started", &["started"]),
    token("modality", &["series.modality"]),
];

const IMMUNIZATION: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    PATIENT_ELEMENT,
    date("date", &["occurrenceDateTime"]),
    token("vaccine-code", &["vaccineCode"]),
    token("lot-number", &["lotNumber"]),
    reference("performer", &["performer.actor"]),
];

const LIST: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CODE,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("date", &["date"]),
    reference("item", &["entry.item"]),
];

const LOCATION: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    TYPE,
    text("name", &["name", "alias"]),
    ADDRESS,
    reference("organization", &["managingOrganization"]),
];

const MEDICATION: &[Parameter] = &[IDENTIFIER, STATUS, CODE];

const MEDICATION_ADMINISTRATION: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    token("code", &["medicationCodeableConcept"]),
    PATIENT,
    SUBJECT,
    date("effective-time", &["effectiveDateTime", "effectivePeriod"]),
    reference("context", &["context"]),
    reference("request", &["request"]),
];

const MEDICATION_DISPENSE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    token("code", &["medicationCodeableConcept"]),
    PATIENT,
    SUBJECT,
    date("whenhandedover", &["whenHandedOver"]),
    date("whenprepared", &["whenPrepared"]),
    reference("prescription", &["authorizingPrescription"]),
];

const MEDICATION_REQUEST: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    INTENT,
    CATEGORY,
    PRIORITY,
    token("code", &["medicationCodeableConcept"]),
    reference("medication", &["medicationReference"]),
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("authoredon", &["authoredOn"]),
    date("date", &["dosageInstruction.timing.event"]),
    reference("requester", &["requester"]),
];

const MEDICATION_STATEMENT: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CATEGORY,
    token("code", &["medicationCodeableConcept"]),
    reference("medication", &["medicationReference"]),
    PATIENT,
    SUBJECT,
    date("effective", &["effectiveDateTime", "effectivePeriod"]),
    reference("context", &["context"]),
    reference("source", &["informationSource"]),
];

const OBSERVATION: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CATEGORY,
    CODE,
    token("component-code", &["component.code"]),
    token("value-concept", &["valueCodeableConcept"]),
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    EFFECTIVE_DATE,
    reference("performer", &["performer"]),
    reference("based-on", &["basedOn"]),
];

const ORGANIZATION: &[Parameter] = &[
    IDENTIFIER,
    ACTIVE,
    TYPE,
    text("name", &["name", "alias"]),
    ADDRESS,
    reference("partof", &["partOf"]),
];

const PATIENT_TYPE: &[Parameter] = &[
    IDENTIFIER,
    ACTIVE,
    NAME,
    FAMILY,
    GIVEN,
    GENDER,
    date("birthdate", &["birthDate"]),
    date("death-date", &["deceasedDateTime"]),
    TELECOM,
    token("phone", &["telecom"]),
    token("email", &["telecom"]),
    ADDRESS,
    text("address-city", &["address.city"]),
    text("address-postalcode", &["address.postalCode"]),
    reference("general-practitioner", &["generalPractitioner"]),
    reference("organization", &["managingOrganization"]),
    reference("link", &["link.other"]),
];

const PRACTITIONER: &[Parameter] = &[
    IDENTIFIER, ACTIVE, NAME, FAMILY, GIVEN, GENDER, TELECOM, ADDRESS,
];

const PRACTITIONER_ROLE: &[Parameter] = &[
    IDENTIFIER,
    ACTIVE,
    token("role", &["code"]),
    token("specialty", &["specialty"]),
    reference("practitioner", &["practitioner"]),
    reference("organization", &["organization"]),
    reference("location", &["location"]),
];

const PROCEDURE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CATEGORY,
    CODE,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("date", &["performedDateTime", "performedPeriod"]),
    reference("performer", &["performer.actor"]),
];

const PROVENANCE: &[Parameter] = &[
    reference("target", &["target"]),
    patient(&["target"]),
    date("recorded", &["recorded"]),
    date("when", &["occurredDateTime", "occurredPeriod"]),
    reference("agent", &["agent.who"]),
    token("agent-role", &["agent.role"]),
    token("agent-type", &["agent.type"]),
    reference("entity", &["entity.what"]),
];

const QUESTIONNAIRE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CODE,
    uri("url", &["url"]),
    text("name", &["name"]),
    text("title", &["title"]),
];

const QUESTIONNAIRE_RESPONSE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("authored", &["authored"]),
    reference("author", &["author"]),
    reference("source", &["source"]),
    uri("questionnaire", &["questionnaire"]),
];

const RELATED_PERSON: &[Parameter] = &[
    IDENTIFIER,
    ACTIVE,
    NAME,
    PATIENT_ELEMENT,
    token("relationship", &["relationship"]),
    TELECOM,
];

const RISK_ASSESSMENT: &[Parameter] = &[
    IDENTIFIER,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("date", &["occurrenceDateTime", "occurrencePeriod"]),
    reference("condition", &["condition"]),
];

const SCHEDULE: &[Parameter] = &[
    IDENTIFIER,
    ACTIVE,
    reference("actor", &["actor"]),
    date("date", &["planningHorizon"]),
    token("service-type", &["serviceType"]),
    token("specialty", &["specialty"]),
];

const SERVICE_REQUEST: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    INTENT,
    CATEGORY,
    CODE,
    PRIORITY,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("authored", &["authoredOn"]),
    date("occurrence", &["occurrenceDateTime", "occurrencePeriod"]),
    reference("requester", &["requester"]),
    reference("performer", &["performer"]),
];

const SLOT: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    reference("schedule", &["schedule"]),
    date("start", &["start"]),
    token("service-type", &["serviceType"]),
    token("appointment-type", &["appointmentType"]),
    token("specialty", &["specialty"]),
];

const SPECIMEN: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    TYPE,
    PATIENT,
    SUBJECT,
    date("collected", &["collection.collectedDateTime"]),
];

const TASK: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    INTENT,
    CODE,
    PRIORITY,
    token("business-status", &["businessStatus"]),
    patient(&["for"]),
    reference("subject", &["for"]),
    ENCOUNTER,
    reference("focus", &["focus"]),
    reference("owner", &["owner"]),
    reference("requester", &["requester"]),
    date("authored-on", &["authoredOn"]),
    date("modified", &["lastModified"]),
    date("period", &["executionPeriod"]),
];

/// Every type held, in order of name ([`resource_type`] relies on the order).
pub(crate) static RESOURCE_TYPES: &[ResourceType] = &[
    kind("AllergyIntolerance", ALLERGY_INTOLERANCE),
    kind("Appointment", APPOINTMENT),
    kind("AppointmentResponse", APPOINTMENT_RESPONSE),
    kind("AuditEvent", AUDIT_EVENT),
    kind("Binary", &[]),
    kind("CarePlan", CARE_PLAN),
    kind("CareTeam", CARE_TEAM),
    kind("Claim", CLAIM),
    kind("Communication", COMMUNICATION),
    kind("CommunicationRequest", COMMUNICATION_REQUEST),
    kind("Condition", CONDITION),
    kind("Consent", CONSENT),
    kind("Coverage", COVERAGE),
    kind("DetectedIssue", DETECTED_ISSUE),
    kind("Device", DEVICE),
    kind("DiagnosticReport", DIAGNOSTIC_REPORT),
    kind("DocumentReference", DOCUMENT_REFERENCE),
    kind("Encounter", ENCOUNTER_TYPE),
    kind("ExplanationOfBenefit", EXPLANATION_OF_BENEFIT),
    kind("FamilyMemberHistory", FAMILY_MEMBER_HISTORY),
    kind("Flag", FLAG),
    kind("Goal", GOAL),
    kind("ImagingStudy", IMAGING_STUDY),
    kind("Immunization", IMMUNIZATION),
    kind("List", LIST),
    kind("Location", LOCATION),
    kind("Medication", MEDICATION),
    kind("MedicationAdministration", MEDICATION_ADMINISTRATION),
    kind("MedicationDispense", MEDICATION_DISPENSE),
    kind("MedicationRequest", MEDICATION_REQUEST),
    kind("MedicationStatement", MEDICATION_STATEMENT),
    kind("Observation", OBSERVATION),
    kind("Organization", ORGANIZATION),
    kind("Patient", PATIENT_TYPE),
    kind("Practitioner", PRACTITIONER),
    kind("PractitionerRole", PRACTITIONER_ROLE),
    kind("Procedure", PROCEDURE),
    kind("Provenance", PROVENANCE),
    kind("Questionnaire", QUESTIONNAIRE),
    kind("QuestionnaireResponse", QUESTIONNAIRE_RESPONSE),
    kind("RelatedPerson", RELATED_PERSON),
    kind("RiskAssessment", RISK_ASSESSMENT),
    kind("Schedule", SCHEDULE),
    kind("ServiceRequest", SERVICE_REQUEST),
    kind("Slot", SLOT),
    kind("Specimen", SPECIMEN),
    kind("Task", TASK),
];

const fn kind(name: &'static str, parameters: &'static [Parameter]) -> ResourceType {
    ResourceType { name, parameters }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_sorted_and_parameters_unique() {
        assert!(
            RESOURCE_TYPES
                .windows(2)
                .all(|pair| pair[0].name < pair[1].name)
        );
        for kind in RESOURCE_TYPES {
            let mut names: Vec<_> = kind.parameters.iter().map(|p| p.name).collect();
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(before, names.len(), "{}", kind.name);
        }
    }

    #[test]
    fn lookup_finds_known_and_refuses_unknown() {
        assert_eq!(resource_type("Slot").unwrap().name, "Slot");
        assert!(resource_type("slot").is_none());
        assert!(resource_type("Medicine").is_none());
        assert!(resource_type("Slot").unwrap().parameter("start").is_some());
        assert!(resource_type("Slot").unwrap().parameter("date").is_none());
    }
}
