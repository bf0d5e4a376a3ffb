//! What a check reports: one finding per problem, with a stable id and a place.
//!
//! A finding's message says what is wrong and what would be right. It quotes from the input only element
//! names and short codes, never text, so that it can be shown to whoever sent the input.
//! Start at [`Finding`]; [`to_operation_outcome`] is the FHIR form.

use serde::Serialize;

/// How serious a finding is. The order is from light to grave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; also what could not be checked.
    Information,
    /// A human should look.
    Warning,
    /// The resource is not valid.
    Error,
    /// Checking had to stop.
    Fatal,
}

impl Severity {
    /// The code of OperationOutcome.issue.severity.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Severity::Information => "information",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Fatal => "fatal",
        }
    }

    /// Whether a finding of this severity makes a resource invalid.
    #[must_use]
    pub fn is_error(self) -> bool {
        self >= Severity::Error
    }
}

/// Which inputs a finding was drawn from; decides who may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestsOn {
    /// Only the resource that was checked (and public definitions): its sender may see it.
    InputOnly,
    /// Also other data about the patient or tenant: an agent only hears that a human will look.
    Context,
}

/// A place in the source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable id, such as `structure.unknown-element`; see [`id`].
    pub id: &'static str,
    /// How serious it is.
    pub severity: Severity,
    /// Where, as a path of JSON names: `Observation.component[1].valueQuantity`.
    pub expression: String,
    /// Where in the source text, if there was one.
    pub position: Option<Position>,
    /// What is wrong, and what would be right.
    pub message: String,
    /// What it was drawn from.
    pub rests_on: RestsOn,
    /// Which definition demands it, if more is known than the id says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
}

/// Which definition demands what a finding reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Details {
    /// Canonical URL of the profile, extension, questionnaire or rule set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Key of the invariant, such as `ele-1`, or id of the rule within its set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// Whether it states good practice rather than a rule.
    #[serde(skip)]
    pub is_best_practice: bool,
}

impl Details {
    /// The details as one line: `key (url)`.
    #[must_use]
    pub fn line(&self) -> Option<String> {
        match (&self.constraint, &self.profile) {
            (Some(key), Some(url)) => Some(format!("{key} ({url})")),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        }
    }
}

impl Finding {
    /// A finding about the input alone, without a place in the text.
    #[must_use]
    pub fn new(id: &'static str, severity: Severity, expression: String, message: String) -> Self {
        Self {
            id,
            severity,
            expression,
            position: None,
            message,
            rests_on: RestsOn::InputOnly,
            details: None,
        }
    }
}

/// The ids of all findings of this crate. An id keeps its meaning forever; a new meaning gets a new id.
pub mod id {
    /// The text is not JSON.
    pub const JSON_SYNTAX: &str = "json.syntax";
    /// The text is not UTF-8.
    pub const JSON_NOT_UTF8: &str = "json.not-utf8";
    /// More bytes than the limit.
    pub const JSON_TOO_LARGE: &str = "json.too-large";
    /// More nesting than the limit.
    pub const JSON_TOO_DEEP: &str = "json.too-deep";
    /// More values than the limit.
    pub const JSON_TOO_MANY_VALUES: &str = "json.too-many-values";
    /// A key occurs twice in one object.
    pub const JSON_DUPLICATE_KEY: &str = "json.duplicate-key";
    /// The resource is not a JSON object.
    pub const NOT_AN_OBJECT: &str = "structure.not-an-object";
    /// A resource has no `resourceType`.
    pub const RESOURCE_TYPE_MISSING: &str = "structure.resource-type-missing";
    /// `resourceType` is no resource type of R4.
    pub const RESOURCE_TYPE_UNKNOWN: &str = "structure.resource-type-unknown";
    /// The type has no such element.
    pub const UNKNOWN_ELEMENT: &str = "structure.unknown-element";
    /// A required element is missing.
    pub const MISSING_ELEMENT: &str = "structure.missing-element";
    /// Too few values in a list.
    pub const TOO_FEW: &str = "structure.too-few";
    /// Too many values, or an element that must not be used here.
    pub const TOO_MANY: &str = "structure.too-many";
    /// A single value where a list belongs.
    pub const ARRAY_EXPECTED: &str = "structure.array-expected";
    /// A list where a single value belongs.
    pub const ARRAY_NOT_ALLOWED: &str = "structure.array-not-allowed";
    /// The JSON kind does not fit the type.
    pub const WRONG_JSON_KIND: &str = "structure.wrong-json-kind";
    /// A choice element is given with two types.
    pub const CHOICE_REPEATED: &str = "structure.choice-repeated";
    /// An empty list.
    pub const EMPTY_ARRAY: &str = "structure.empty-array";
    /// An empty object.
    pub const EMPTY_OBJECT: &str = "structure.empty-object";
    /// `null` where none belongs.
    pub const NULL: &str = "structure.null";
    /// A place in a list of primitives holds neither value nor extension.
    pub const NULL_WITHOUT_EXTENSION: &str = "structure.null-without-extension";
    /// The lists of values and of their extensions differ in length.
    pub const SIBLING_LENGTH: &str = "structure.sibling-length";
    /// More findings than the limit; the rest were not reported.
    pub const FINDINGS_LIMIT: &str = "structure.findings-limit";
    /// An empty string.
    pub const PRIMITIVE_EMPTY: &str = "primitive.empty";
    /// Text of nothing but white space.
    pub const PRIMITIVE_BLANK: &str = "primitive.blank";
    /// The value does not have the format of its type.
    pub const PRIMITIVE_FORMAT: &str = "primitive.format";
    /// There is no such day or time.
    pub const PRIMITIVE_IMPOSSIBLE_DATE: &str = "primitive.impossible-date";
    /// A time without timezone.
    pub const PRIMITIVE_TIMEZONE_MISSING: &str = "primitive.timezone-missing";
    /// A number outside the range of its type.
    pub const PRIMITIVE_OUT_OF_RANGE: &str = "primitive.out-of-range";
    /// Longer than the type allows.
    pub const PRIMITIVE_TOO_LONG: &str = "primitive.too-long";
    /// Narrative that is not one XHTML `div`.
    pub const NARRATIVE_DIV: &str = "narrative.div";
    /// The code is not in the required value set.
    pub const BINDING_REQUIRED: &str = "binding.required";
    /// A required binding, and no code is given.
    pub const BINDING_NO_CODE: &str = "binding.no-code";
    /// The value set cannot be enumerated here, so the code was not checked.
    pub const BINDING_NOT_CHECKED: &str = "binding.not-checked";
    /// The code is not in the extensible value set.
    pub const BINDING_EXTENSIBLE: &str = "binding.extensible";
    /// The code is not in the preferred value set.
    pub const BINDING_PREFERRED: &str = "binding.preferred";
    /// The code only groups others.
    pub const BINDING_ABSTRACT_CODE: &str = "binding.abstract-code";
    /// The code is no longer in use.
    pub const BINDING_INACTIVE_CODE: &str = "binding.inactive-code";
    /// The code is written in another case than in its system.
    pub const BINDING_CODE_CASE: &str = "binding.code-case";
    /// The code system does not have the code.
    pub const CODING_UNKNOWN_CODE: &str = "coding.unknown-code";
    /// The display is not the code's own.
    pub const CODING_DISPLAY: &str = "coding.display";
    /// An extension with both a value and nested extensions.
    pub const EXTENSION_VALUE_AND_NESTED: &str = "extension.value-and-nested";
    /// An extension with neither a value nor nested extensions.
    pub const EXTENSION_EMPTY: &str = "extension.empty";
    /// The URL of an extension is not absolute.
    pub const EXTENSION_URL_RELATIVE: &str = "extension.url-relative";
    /// An extension changes the meaning of what it stands in.
    pub const EXTENSION_MODIFIER: &str = "extension.modifier";
    /// The reference points to a type that is not allowed here.
    pub const REFERENCE_TARGET_TYPE: &str = "reference.target-type";
    /// The reference and its `type` disagree.
    pub const REFERENCE_TYPE_MISMATCH: &str = "reference.type-mismatch";
    /// The reference has no form that FHIR knows.
    pub const REFERENCE_UNRECOGNISED: &str = "reference.unrecognised";
    /// `#id` names no contained resource.
    pub const REFERENCE_CONTAINED_MISSING: &str = "reference.contained-missing";
    /// A contained resource contains another.
    pub const CONTAINED_NESTED: &str = "contained.nested";
    /// A contained resource has no id.
    pub const CONTAINED_ID_MISSING: &str = "contained.id-missing";
    /// Two contained resources have the same id.
    pub const CONTAINED_ID_DUPLICATE: &str = "contained.id-duplicate";
    /// The resource claims a profile, or a definition names one, that is not at hand.
    pub const PROFILE_UNKNOWN: &str = "profile.unknown";
    /// The type is not among those that the profile allows.
    pub const PROFILE_TYPE: &str = "profile.type";
    /// Fewer values than the profile demands.
    pub const PROFILE_TOO_FEW: &str = "profile.too-few";
    /// More values than the profile allows.
    pub const PROFILE_TOO_MANY: &str = "profile.too-many";
    /// The value is not the fixed one.
    pub const PROFILE_FIXED: &str = "profile.fixed";
    /// The value does not hold the pattern.
    pub const PROFILE_PATTERN: &str = "profile.pattern";
    /// The value is below the least or above the greatest allowed.
    pub const PROFILE_RANGE: &str = "profile.range";
    /// The text is longer than the profile allows.
    pub const PROFILE_MAX_LENGTH: &str = "profile.max-length";
    /// A value belongs to no slice, and no other values are allowed.
    pub const PROFILE_SLICE_CLOSED: &str = "profile.slice-closed";
    /// Values are not in the order of the slices.
    pub const PROFILE_SLICE_ORDER: &str = "profile.slice-order";
    /// The value conforms to none of the profiles that are allowed here.
    pub const PROFILE_VALUE: &str = "profile.value";
    /// A demand of a profile that could not be checked.
    pub const PROFILE_NOT_CHECKED: &str = "profile.not-checked";
    /// An invariant does not hold.
    pub const INVARIANT: &str = "profile.invariant";
    /// An invariant could not be evaluated.
    pub const INVARIANT_NOT_CHECKED: &str = "profile.invariant-not-checked";
    /// What the reference points to does not conform to any profile allowed here.
    pub const REFERENCE_TARGET_PROFILE: &str = "reference.target-profile";
    /// The reference points to where it must not (contained, bundled or elsewhere).
    pub const REFERENCE_AGGREGATION: &str = "reference.aggregation";
    /// The reference must, or must not, name a version.
    pub const REFERENCE_VERSIONING: &str = "reference.versioning";
    /// What the reference points to is not at hand, and the caller asked that it be.
    pub const REFERENCE_UNRESOLVED: &str = "reference.unresolved";
    /// The definition of the extension is not at hand.
    pub const EXTENSION_UNKNOWN: &str = "extension.unknown";
    /// The extension must not stand here.
    pub const EXTENSION_CONTEXT: &str = "extension.context";
    /// A modifier extension stands in `extension`, or the reverse.
    pub const EXTENSION_MODIFIER_MISPLACED: &str = "extension.modifier-misplaced";
    /// The extension has no nested extension of that name.
    pub const EXTENSION_NOT_DEFINED: &str = "extension.not-defined";
    /// Narrative holds an element, attribute or instruction that it must not have.
    pub const NARRATIVE_CONTENT: &str = "narrative.content";
    /// Narrative would run or fetch something.
    pub const NARRATIVE_ACTIVE: &str = "narrative.active";
    /// Narrative holds neither text nor image.
    pub const NARRATIVE_EMPTY: &str = "narrative.empty";
    /// Two elements of a resource have the same id.
    pub const ELEMENT_ID_DUPLICATE: &str = "structure.element-id-duplicate";
    /// Nothing refers to the contained resource.
    pub const CONTAINED_UNREFERENCED: &str = "contained.unreferenced";
    /// A contained resource has metadata of its own.
    pub const CONTAINED_META: &str = "contained.meta";
    /// The stated size is not the size of the data.
    pub const ATTACHMENT_SIZE: &str = "attachment.size";
    /// The stated hash is not the hash of the data.
    pub const ATTACHMENT_HASH: &str = "attachment.hash";
    /// A system that is not an absolute URI.
    pub const SYSTEM_RELATIVE: &str = "system.relative";
    /// An identifier that is no URI, though its system says so.
    pub const IDENTIFIER_NOT_URI: &str = "identifier.not-a-uri";
    /// A system that names a value set.
    pub const SYSTEM_VALUE_SET: &str = "system.value-set";
    /// An invariant of Bundle does not hold; the details name it.
    pub const BUNDLE_INVARIANT: &str = "bundle.invariant";
    /// `fullUrl` is missing or not absolute.
    pub const BUNDLE_FULL_URL: &str = "bundle.full-url";
    /// `fullUrl` and the id of the resource disagree.
    pub const BUNDLE_FULL_URL_ID: &str = "bundle.full-url-id";
    /// An entry does not fit the search that it answers.
    pub const BUNDLE_SEARCH: &str = "bundle.search";
    /// Method, URL and resource of a request do not fit together.
    pub const BUNDLE_REQUEST: &str = "bundle.request";
    /// What must be in the Bundle is not there, or not alone.
    pub const BUNDLE_REFERENCE_MISSING: &str = "bundle.reference-missing";
    /// An entry has the type and id of a reference, but not its URL.
    pub const BUNDLE_REFERENCE_NEAR: &str = "bundle.reference-near";
    /// No entry has the URN of a reference.
    pub const BUNDLE_REFERENCE_URN: &str = "bundle.reference-urn";
    /// An entry of a document or message is not linked with the first one.
    pub const BUNDLE_UNREACHABLE: &str = "bundle.unreachable";
    /// The questionnaire of a response is not named, not at hand, or no Questionnaire.
    pub const QUESTIONNAIRE_UNKNOWN: &str = "questionnaire.unknown";
    /// The questionnaire has no such item.
    pub const QUESTIONNAIRE_LINK_ID: &str = "questionnaire.link-id";
    /// The questionnaire has the item elsewhere, or in another order.
    pub const QUESTIONNAIRE_PLACE: &str = "questionnaire.place";
    /// An answer or group that the questionnaire demands is missing.
    pub const QUESTIONNAIRE_REQUIRED: &str = "questionnaire.required";
    /// More answers or items than the questionnaire allows.
    pub const QUESTIONNAIRE_TOO_MANY: &str = "questionnaire.too-many";
    /// The answer is not of the type that the question asks for.
    pub const QUESTIONNAIRE_ANSWER_TYPE: &str = "questionnaire.answer-type";
    /// The answer is not among those that the question allows.
    pub const QUESTIONNAIRE_ANSWER_OPTION: &str = "questionnaire.answer-option";
    /// The answer is not within the bounds that the question states.
    pub const QUESTIONNAIRE_ANSWER_VALUE: &str = "questionnaire.answer-value";
    /// An item that is not enabled is answered.
    pub const QUESTIONNAIRE_DISABLED: &str = "questionnaire.disabled";
    /// The questionnaire contradicts itself.
    pub const QUESTIONNAIRE_DEFINITION: &str = "questionnaire.definition";
    /// Something about an answer could not be decided.
    pub const QUESTIONNAIRE_NOT_CHECKED: &str = "questionnaire.not-checked";
    /// A search parameter contradicts its type or the definition it rests on.
    pub const DEFINITION_SEARCH_PARAMETER: &str = "definition.search-parameter";
    /// A definition contradicts what it is derived from.
    pub const DEFINITION_CONTRADICTS_BASE: &str = "definition.contradicts-base";
    /// A property of a code is not of the type that its system states.
    pub const DEFINITION_CODE_PROPERTY: &str = "definition.code-property";
    /// A profile constrains an element that its type does not have.
    pub const DEFINITION_PATH: &str = "definition.path";
    /// A profile that was not compared with its base, because the document holds too many.
    pub const DEFINITION_NOT_CHECKED: &str = "definition.not-checked";
    /// Text outside narrative looks like HTML.
    pub const TEXT_MARKUP: &str = "text.markup";

    /// Plausibility rules that could not be applied, for want of something to rest on. What fired has the id
    /// `plausibility.` and the rule's own, such as `plausibility.D-01`.
    pub const PLAUSIBILITY_NOT_CHECKED: &str = "plausibility.not-checked";

    /// All ids, in the order above, but for those of the plausibility rules.
    pub const ALL: [&str; 112] = [
        JSON_SYNTAX,
        JSON_NOT_UTF8,
        JSON_TOO_LARGE,
        JSON_TOO_DEEP,
        JSON_TOO_MANY_VALUES,
        JSON_DUPLICATE_KEY,
        NOT_AN_OBJECT,
        RESOURCE_TYPE_MISSING,
        RESOURCE_TYPE_UNKNOWN,
        UNKNOWN_ELEMENT,
        MISSING_ELEMENT,
        TOO_FEW,
        TOO_MANY,
        ARRAY_EXPECTED,
        ARRAY_NOT_ALLOWED,
        WRONG_JSON_KIND,
        CHOICE_REPEATED,
        EMPTY_ARRAY,
        EMPTY_OBJECT,
        NULL,
        NULL_WITHOUT_EXTENSION,
        SIBLING_LENGTH,
        FINDINGS_LIMIT,
        PRIMITIVE_EMPTY,
        PRIMITIVE_BLANK,
        PRIMITIVE_FORMAT,
        PRIMITIVE_IMPOSSIBLE_DATE,
        PRIMITIVE_TIMEZONE_MISSING,
        PRIMITIVE_OUT_OF_RANGE,
        PRIMITIVE_TOO_LONG,
        NARRATIVE_DIV,
        BINDING_REQUIRED,
        BINDING_NO_CODE,
        BINDING_NOT_CHECKED,
        BINDING_EXTENSIBLE,
        BINDING_PREFERRED,
        BINDING_ABSTRACT_CODE,
        BINDING_INACTIVE_CODE,
        BINDING_CODE_CASE,
        CODING_UNKNOWN_CODE,
        CODING_DISPLAY,
        EXTENSION_VALUE_AND_NESTED,
        EXTENSION_EMPTY,
        EXTENSION_URL_RELATIVE,
        EXTENSION_MODIFIER,
        REFERENCE_TARGET_TYPE,
        REFERENCE_TYPE_MISMATCH,
        REFERENCE_UNRECOGNISED,
        REFERENCE_CONTAINED_MISSING,
        CONTAINED_NESTED,
        CONTAINED_ID_MISSING,
        CONTAINED_ID_DUPLICATE,
        PROFILE_UNKNOWN,
        PROFILE_TYPE,
        PROFILE_TOO_FEW,
        PROFILE_TOO_MANY,
        PROFILE_FIXED,
        PROFILE_PATTERN,
        PROFILE_RANGE,
        PROFILE_MAX_LENGTH,
        PROFILE_SLICE_CLOSED,
        PROFILE_SLICE_ORDER,
        PROFILE_VALUE,
        PROFILE_NOT_CHECKED,
        INVARIANT,
        INVARIANT_NOT_CHECKED,
        REFERENCE_TARGET_PROFILE,
        REFERENCE_AGGREGATION,
        REFERENCE_VERSIONING,
        REFERENCE_UNRESOLVED,
        EXTENSION_UNKNOWN,
        EXTENSION_CONTEXT,
        EXTENSION_MODIFIER_MISPLACED,
        EXTENSION_NOT_DEFINED,
        NARRATIVE_CONTENT,
        NARRATIVE_ACTIVE,
        NARRATIVE_EMPTY,
        ELEMENT_ID_DUPLICATE,
        CONTAINED_UNREFERENCED,
        CONTAINED_META,
        ATTACHMENT_SIZE,
        ATTACHMENT_HASH,
        SYSTEM_RELATIVE,
        IDENTIFIER_NOT_URI,
        SYSTEM_VALUE_SET,
        BUNDLE_INVARIANT,
        BUNDLE_FULL_URL,
        BUNDLE_FULL_URL_ID,
        BUNDLE_SEARCH,
        BUNDLE_REQUEST,
        BUNDLE_REFERENCE_MISSING,
        BUNDLE_REFERENCE_NEAR,
        BUNDLE_REFERENCE_URN,
        BUNDLE_UNREACHABLE,
        QUESTIONNAIRE_UNKNOWN,
        QUESTIONNAIRE_LINK_ID,
        QUESTIONNAIRE_PLACE,
        QUESTIONNAIRE_REQUIRED,
        QUESTIONNAIRE_TOO_MANY,
        QUESTIONNAIRE_ANSWER_TYPE,
        QUESTIONNAIRE_ANSWER_OPTION,
        QUESTIONNAIRE_ANSWER_VALUE,
        QUESTIONNAIRE_DISABLED,
        QUESTIONNAIRE_DEFINITION,
        QUESTIONNAIRE_NOT_CHECKED,
        DEFINITION_SEARCH_PARAMETER,
        DEFINITION_CONTRADICTS_BASE,
        DEFINITION_CODE_PROPERTY,
        DEFINITION_PATH,
        DEFINITION_NOT_CHECKED,
        TEXT_MARKUP,
        PLAUSIBILITY_NOT_CHECKED,
    ];
}

/// The code of OperationOutcome.issue.code for a finding.
///
/// # Source
/// FHIR R4 value set issue-type.
#[must_use]
pub fn issue_type(finding_id: &str) -> &'static str {
    match finding_id {
        id::PLAUSIBILITY_NOT_CHECKED => "informational",
        id if id.starts_with("plausibility.") => "business-rule",
        id::JSON_TOO_LARGE | id::JSON_TOO_DEEP | id::JSON_TOO_MANY_VALUES => "too-long",
        id::FINDINGS_LIMIT => "too-costly",
        id::MISSING_ELEMENT
        | id::TOO_FEW
        | id::BINDING_NO_CODE
        | id::RESOURCE_TYPE_MISSING
        | id::PROFILE_TOO_FEW
        | id::CONTAINED_ID_MISSING => "required",
        id::BINDING_REQUIRED
        | id::BINDING_EXTENSIBLE
        | id::BINDING_PREFERRED
        | id::BINDING_ABSTRACT_CODE
        | id::BINDING_INACTIVE_CODE
        | id::BINDING_CODE_CASE
        | id::CODING_UNKNOWN_CODE
        | id::CODING_DISPLAY => "code-invalid",
        id::BINDING_NOT_CHECKED | id::PROFILE_NOT_CHECKED | id::INVARIANT_NOT_CHECKED => {
            "informational"
        }
        id::EXTENSION_MODIFIER
        | id::EXTENSION_UNKNOWN
        | id::EXTENSION_CONTEXT
        | id::EXTENSION_MODIFIER_MISPLACED
        | id::EXTENSION_NOT_DEFINED => "extension",
        id::PROFILE_UNKNOWN => "not-found",
        id::PROFILE_FIXED | id::PROFILE_PATTERN | id::PROFILE_RANGE => "value",
        id::INVARIANT => "invariant",
        id::PRIMITIVE_TOO_LONG | id::PROFILE_MAX_LENGTH => "too-long",
        id::PRIMITIVE_EMPTY
        | id::PRIMITIVE_BLANK
        | id::PRIMITIVE_FORMAT
        | id::PRIMITIVE_IMPOSSIBLE_DATE
        | id::PRIMITIVE_TIMEZONE_MISSING
        | id::PRIMITIVE_OUT_OF_RANGE => "value",
        id::REFERENCE_CONTAINED_MISSING => "not-found",
        id::EXTENSION_VALUE_AND_NESTED
        | id::EXTENSION_EMPTY
        | id::CONTAINED_NESTED
        | id::CONTAINED_UNREFERENCED
        | id::CONTAINED_META
        | id::NARRATIVE_CONTENT
        | id::NARRATIVE_ACTIVE
        | id::NARRATIVE_EMPTY
        | id::NARRATIVE_DIV => "invariant",
        id::BUNDLE_INVARIANT => "invariant",
        id::BUNDLE_FULL_URL | id::BUNDLE_FULL_URL_ID => "value",
        id::BUNDLE_SEARCH | id::BUNDLE_REQUEST | id::BUNDLE_UNREACHABLE => "business-rule",
        id::BUNDLE_REFERENCE_MISSING | id::BUNDLE_REFERENCE_NEAR | id::BUNDLE_REFERENCE_URN => {
            "not-found"
        }
        id::QUESTIONNAIRE_UNKNOWN => "not-found",
        id::QUESTIONNAIRE_LINK_ID
        | id::QUESTIONNAIRE_PLACE
        | id::QUESTIONNAIRE_TOO_MANY
        | id::QUESTIONNAIRE_ANSWER_TYPE
        | id::QUESTIONNAIRE_ANSWER_VALUE
        | id::QUESTIONNAIRE_DISABLED
        | id::QUESTIONNAIRE_DEFINITION => "business-rule",
        id::QUESTIONNAIRE_REQUIRED => "required",
        id::QUESTIONNAIRE_ANSWER_OPTION => "code-invalid",
        id::QUESTIONNAIRE_NOT_CHECKED => "informational",
        id::DEFINITION_SEARCH_PARAMETER
        | id::DEFINITION_PATH
        | id::DEFINITION_CODE_PROPERTY
        | id::DEFINITION_CONTRADICTS_BASE => "business-rule",
        id::REFERENCE_UNRESOLVED => "not-found",
        id::TEXT_MARKUP => "security",
        _ => "structure",
    }
}

/// Code system under which finding ids appear in an OperationOutcome.
pub const FINDING_SYSTEM: &str = "urn:chaperone:finding";

/// The findings as a FHIR OperationOutcome; without findings, one issue that says so.
///
/// Line and column stand in the extensions that FHIR defines for them.
#[must_use]
pub fn to_operation_outcome(findings: &[Finding]) -> serde_json::Value {
    use serde_json::{Value, json};
    let mut issues: Vec<Value> = findings
        .iter()
        .map(|finding| {
            let mut issue = serde_json::Map::new();
            if let Some(position) = finding.position {
                issue.insert(
                    "extension".to_owned(),
                    json!([
                        {"url": "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-line", "valueInteger": position.line},
                        {"url": "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-col", "valueInteger": position.column}
                    ]),
                );
            }
            issue.insert("severity".to_owned(), json!(finding.severity.code()));
            issue.insert("code".to_owned(), json!(issue_type(finding.id)));
            issue.insert(
                "details".to_owned(),
                json!({"coding": [{"system": FINDING_SYSTEM, "code": finding.id}], "text": finding.message}),
            );
            if let Some(line) = finding.details.as_ref().and_then(|it| it.line()) {
                issue.insert("diagnostics".to_owned(), json!(line));
            }
            if !finding.expression.is_empty() {
                issue.insert("expression".to_owned(), json!([finding.expression]));
            }
            Value::Object(issue)
        })
        .collect();
    if issues.is_empty() {
        issues.push(json!({"severity": "information", "code": "informational", "details": {"text": "no problems found"}}));
    }
    json!({"resourceType": "OperationOutcome", "issue": issues})
}
