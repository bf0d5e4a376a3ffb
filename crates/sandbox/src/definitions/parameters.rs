//! The search parameters of each resource type, as data.
//!
//! Which types exist is in the parent module. Start at the list of the type in question.

use super::{Parameter, ParameterKind};

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

pub(super) const ALLERGY_INTOLERANCE: &[Parameter] = &[
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

pub(super) const APPOINTMENT: &[Parameter] = &[
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

pub(super) const APPOINTMENT_RESPONSE: &[Parameter] = &[
    IDENTIFIER,
    patient(&["actor"]),
    reference("actor", &["actor"]),
    reference("appointment", &["appointment"]),
    token("part-status", &["participantStatus"]),
];

pub(super) const AUDIT_EVENT: &[Parameter] = &[
    TYPE,
    token("subtype", &["subtype"]),
    token("action", &["action"]),
    token("outcome", &["outcome"]),
    date("date", &["recorded"]),
    patient(&["agent.who", "entity.what"]),
    reference("agent", &["agent.who"]),
    reference("entity", &["entity.what"]),
];

pub(super) const CARE_PLAN: &[Parameter] = &[
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

pub(super) const CARE_TEAM: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CATEGORY,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    PERIOD_DATE,
    reference("participant", &["participant.member"]),
];

pub(super) const CLAIM: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    token("use", &["use"]),
    PRIORITY,
    PATIENT_ELEMENT,
    date("created", &["created"]),
    reference("encounter", &["item.encounter"]),
    reference("provider", &["provider"]),
];

pub(super) const COMMUNICATION: &[Parameter] = &[
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

pub(super) const COMMUNICATION_REQUEST: &[Parameter] = &[
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

pub(super) const CONDITION: &[Parameter] = &[
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

pub(super) const CONSENT: &[Parameter] = &[
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

pub(super) const COVERAGE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    TYPE,
    patient(&["beneficiary"]),
    reference("beneficiary", &["beneficiary"]),
    reference("subscriber", &["subscriber"]),
    reference("payor", &["payor"]),
];

pub(super) const DETECTED_ISSUE: &[Parameter] = &[
    IDENTIFIER,
    CODE,
    PATIENT_ELEMENT,
    date("identified", &["identifiedDateTime", "identifiedPeriod"]),
    reference("implicated", &["implicated"]),
];

pub(super) const DEVICE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    TYPE,
    PATIENT_ELEMENT,
    text("device-name", &["deviceName.name"]),
    reference("organization", &["owner"]),
];

pub(super) const DIAGNOSTIC_REPORT: &[Parameter] = &[
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

pub(super) const DOCUMENT_REFERENCE: &[Parameter] = &[
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

pub(super) const ENCOUNTER_TYPE: &[Parameter] = &[
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

pub(super) const EXPLANATION_OF_BENEFIT: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    PATIENT_ELEMENT,
    date("created", &["created"]),
    reference("encounter", &["item.encounter"]),
    reference("claim", &["claim"]),
    reference("provider", &["provider"]),
];

pub(super) const FAMILY_MEMBER_HISTORY: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    token("code", &["condition.code"]),
    token("relationship", &["relationship"]),
    PATIENT_ELEMENT,
    date("date", &["date"]),
];

pub(super) const FLAG: &[Parameter] = &[IDENTIFIER, PATIENT, SUBJECT, ENCOUNTER, PERIOD_DATE];

pub(super) const GOAL: &[Parameter] = &[
    IDENTIFIER,
    token("lifecycle-status", &["lifecycleStatus"]),
    token("achievement-status", &["achievementStatus"]),
    CATEGORY,
    PATIENT,
    SUBJECT,
    date("start-date", &["startDate"]),
    date("target-date", &["target.dueDate"]),
];

pub(super) const IMAGING_STUDY: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("started", &["started"]),
    token("modality", &["series.modality"]),
];

pub(super) const IMMUNIZATION: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    PATIENT_ELEMENT,
    date("date", &["occurrenceDateTime"]),
    token("vaccine-code", &["vaccineCode"]),
    token("lot-number", &["lotNumber"]),
    reference("performer", &["performer.actor"]),
];

pub(super) const LIST: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CODE,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("date", &["date"]),
    reference("item", &["entry.item"]),
];

pub(super) const LOCATION: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    TYPE,
    text("name", &["name", "alias"]),
    ADDRESS,
    reference("organization", &["managingOrganization"]),
];

pub(super) const MEDICATION: &[Parameter] = &[IDENTIFIER, STATUS, CODE];

pub(super) const MEDICATION_ADMINISTRATION: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    token("code", &["medicationCodeableConcept"]),
    PATIENT,
    SUBJECT,
    date("effective-time", &["effectiveDateTime", "effectivePeriod"]),
    reference("context", &["context"]),
    reference("request", &["request"]),
];

pub(super) const MEDICATION_DISPENSE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    token("code", &["medicationCodeableConcept"]),
    PATIENT,
    SUBJECT,
    date("whenhandedover", &["whenHandedOver"]),
    date("whenprepared", &["whenPrepared"]),
    reference("prescription", &["authorizingPrescription"]),
];

pub(super) const MEDICATION_REQUEST: &[Parameter] = &[
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

pub(super) const MEDICATION_STATEMENT: &[Parameter] = &[
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

pub(super) const OBSERVATION: &[Parameter] = &[
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

pub(super) const ORGANIZATION: &[Parameter] = &[
    IDENTIFIER,
    ACTIVE,
    TYPE,
    text("name", &["name", "alias"]),
    ADDRESS,
    reference("partof", &["partOf"]),
];

pub(super) const PATIENT_TYPE: &[Parameter] = &[
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

pub(super) const PRACTITIONER: &[Parameter] = &[
    IDENTIFIER, ACTIVE, NAME, FAMILY, GIVEN, GENDER, TELECOM, ADDRESS,
];

pub(super) const PRACTITIONER_ROLE: &[Parameter] = &[
    IDENTIFIER,
    ACTIVE,
    token("role", &["code"]),
    token("specialty", &["specialty"]),
    reference("practitioner", &["practitioner"]),
    reference("organization", &["organization"]),
    reference("location", &["location"]),
];

pub(super) const PROCEDURE: &[Parameter] = &[
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

pub(super) const PROVENANCE: &[Parameter] = &[
    reference("target", &["target"]),
    patient(&["target"]),
    date("recorded", &["recorded"]),
    date("when", &["occurredDateTime", "occurredPeriod"]),
    reference("agent", &["agent.who"]),
    token("agent-role", &["agent.role"]),
    token("agent-type", &["agent.type"]),
    reference("entity", &["entity.what"]),
];

pub(super) const QUESTIONNAIRE: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    CODE,
    uri("url", &["url"]),
    text("name", &["name"]),
    text("title", &["title"]),
];

pub(super) const QUESTIONNAIRE_RESPONSE: &[Parameter] = &[
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

pub(super) const RELATED_PERSON: &[Parameter] = &[
    IDENTIFIER,
    ACTIVE,
    NAME,
    PATIENT_ELEMENT,
    token("relationship", &["relationship"]),
    TELECOM,
];

pub(super) const RISK_ASSESSMENT: &[Parameter] = &[
    IDENTIFIER,
    PATIENT,
    SUBJECT,
    ENCOUNTER,
    date("date", &["occurrenceDateTime", "occurrencePeriod"]),
    reference("condition", &["condition"]),
];

pub(super) const SCHEDULE: &[Parameter] = &[
    IDENTIFIER,
    ACTIVE,
    reference("actor", &["actor"]),
    date("date", &["planningHorizon"]),
    token("service-type", &["serviceType"]),
    token("specialty", &["specialty"]),
];

pub(super) const SERVICE_REQUEST: &[Parameter] = &[
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

pub(super) const SLOT: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    reference("schedule", &["schedule"]),
    date("start", &["start"]),
    token("service-type", &["serviceType"]),
    token("appointment-type", &["appointmentType"]),
    token("specialty", &["specialty"]),
];

pub(super) const SPECIMEN: &[Parameter] = &[
    IDENTIFIER,
    STATUS,
    TYPE,
    PATIENT,
    SUBJECT,
    date("collected", &["collection.collectedDateTime"]),
];

pub(super) const TASK: &[Parameter] = &[
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
