//! A Questionnaire made ready for checking: its items as a flat list, their rules read out of elements and
//! extensions. Also the rules that a Questionnaire keeps in itself.
//!
//! Start at [`Form::new`].

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;

use crate::finding::id;
use crate::json::Value;
use crate::validate::{Report, quotable};

/// Deepest nesting of items that is read.
const ITEMS_DEPTH_MAX: usize = 64;
/// Most items that are read.
const ITEMS_MAX: usize = 50_000;
/// Largest compiled regular expression, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// The types of items.
///
/// # Source
/// FHIR R4 value set item-type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemType {
    Group,
    Display,
    Boolean,
    Decimal,
    Integer,
    Date,
    DateTime,
    Time,
    String,
    Text,
    Url,
    Choice,
    OpenChoice,
    Attachment,
    Reference,
    Quantity,
    /// Not among the above; the structural check reports it.
    Unknown,
}

impl ItemType {
    fn from_code(code: &str) -> Self {
        match code {
            "group" => Self::Group,
            "display" => Self::Display,
            "boolean" => Self::Boolean,
            "decimal" => Self::Decimal,
            "integer" => Self::Integer,
            "date" => Self::Date,
            "dateTime" => Self::DateTime,
            "time" => Self::Time,
            "string" => Self::String,
            "text" => Self::Text,
            "url" => Self::Url,
            "choice" => Self::Choice,
            "open-choice" => Self::OpenChoice,
            "attachment" => Self::Attachment,
            "reference" => Self::Reference,
            "quantity" => Self::Quantity,
            _ => Self::Unknown,
        }
    }

    /// The JSON names that an answer may have; the first is the usual one.
    pub(super) fn answer_names(self) -> &'static [&'static str] {
        match self {
            Self::Group | Self::Display | Self::Unknown => &[],
            Self::Boolean => &["valueBoolean"],
            Self::Decimal => &["valueDecimal"],
            Self::Integer => &["valueInteger"],
            Self::Date => &["valueDate"],
            Self::DateTime => &["valueDateTime"],
            Self::Time => &["valueTime"],
            Self::String | Self::Text => &["valueString"],
            Self::Url => &["valueUri"],
            // The options of a choice may be of these types.
            Self::Choice | Self::OpenChoice => &[
                "valueCoding",
                "valueString",
                "valueInteger",
                "valueDate",
                "valueTime",
                "valueReference",
            ],
            Self::Attachment => &["valueAttachment"],
            Self::Reference => &["valueReference"],
            Self::Quantity => &["valueQuantity"],
        }
    }
}

/// The comparison of an `enableWhen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Exists,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
}

/// One condition.
#[derive(Clone, Debug)]
pub(super) struct EnableWhen {
    pub(super) question: String,
    pub(super) operator: Operator,
    /// JSON name of the answer without `answer`, and the answer.
    pub(super) answer: Option<(String, Json)>,
}

/// What decides whether an item is enabled.
#[derive(Clone, Debug)]
pub(super) enum Enabling {
    Always,
    All(Vec<EnableWhen>),
    Any(Vec<EnableWhen>),
    /// An expression, or a condition that could not be read.
    Undecided,
}

/// A regular expression, or that it could not be understood.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Regex(regex::Regex),
    NotUnderstood,
}

/// Rules on the value of an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct ValueRules {
    /// `minValue`, `maxValue` and their quantity forms.
    pub(super) least: Vec<Json>,
    pub(super) greatest: Vec<Json>,
    pub(super) characters_min: Option<u64>,
    pub(super) characters_max: Option<u64>,
    pub(super) decimal_places_max: Option<u64>,
    pub(super) pattern: Option<Pattern>,
    pub(super) mime_types: Vec<String>,
    /// Bytes.
    pub(super) size_max: Option<f64>,
    pub(super) units: Vec<Json>,
    pub(super) unit_set: Option<String>,
    pub(super) resource_types: Vec<String>,
}

/// One item of a form.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) link_id: String,
    /// The item that holds it, and its place there.
    pub(super) parent: Option<usize>,
    pub(super) place: usize,
    pub(super) kind: ItemType,
    pub(super) is_required: bool,
    pub(super) repeats: bool,
    pub(super) occurs_min: Option<u64>,
    pub(super) occurs_max: Option<u64>,
    pub(super) children: Vec<usize>,
    pub(super) enabling: Enabling,
    /// JSON name and value of each option, and whether it excludes the others.
    pub(super) options: Vec<(String, Json, bool)>,
    pub(super) value_set: Option<String>,
    pub(super) rules: ValueRules,
}

/// A Questionnaire ready to be checked against.
#[derive(Clone, Debug)]
pub struct Form {
    /// Its canonical URL.
    pub(super) url: Option<String>,
    pub(super) items: Vec<Item>,
    pub(super) roots: Vec<usize>,
    pub(super) by_link_id: HashMap<String, usize>,
    /// Contained value sets that list their codes: by id, system and code.
    pub(super) contained_sets: BTreeMap<String, Option<Vec<(String, String)>>>,
    /// Whether there were more items than the limit, or deeper ones.
    pub(super) is_cut: bool,
    /// Whether invariant que-2 is broken.
    has_repeated_link_ids: bool,
}

impl Form {
    /// Reads a Questionnaire. What is not understood demands nothing.
    #[must_use]
    pub fn new(questionnaire: &Json) -> Self {
        let mut form = Self {
            url: questionnaire["url"].as_str().map(str::to_owned),
            items: Vec::new(),
            roots: Vec::new(),
            by_link_id: HashMap::new(),
            contained_sets: contained_sets(questionnaire),
            is_cut: false,
            has_repeated_link_ids: false,
        };
        form.roots = form.read(&questionnaire["item"], None, 0);
        form
    }

    /// The place of a linkId among the items under `parent`.
    pub(super) fn place(
        &self,
        parent: Option<usize>,
        expected: &[usize],
        link_id: &str,
    ) -> Option<usize> {
        let item = self.items.get(*self.by_link_id.get(link_id)?)?;
        if item.parent == parent {
            return Some(item.place);
        }
        // Only a form that breaks que-2 has a linkId twice.
        let is_here = |it: &usize| self.items.get(*it).is_some_and(|it| it.link_id == link_id);
        self.has_repeated_link_ids
            .then(|| expected.iter().position(is_here))
            .flatten()
    }

    fn read(&mut self, list: &Json, parent: Option<usize>, depth: usize) -> Vec<usize> {
        let mut read = Vec::new();
        for json in list.as_array().into_iter().flatten() {
            if depth > ITEMS_DEPTH_MAX || self.items.len() >= ITEMS_MAX {
                self.is_cut = true;
                break;
            }
            let index = self.items.len();
            let mut item = item(json);
            item.parent = parent;
            item.place = read.len();
            match self.by_link_id.entry(item.link_id.clone()) {
                Entry::Occupied(_) => self.has_repeated_link_ids = true,
                Entry::Vacant(slot) => drop(slot.insert(index)),
            }
            self.items.push(item);
            let children = self.read(&json["item"], Some(index), depth + 1);
            if let Some(item) = self.items.get_mut(index) {
                item.children = children;
            }
            read.push(index);
        }
        read
    }
}

/// The values of an extension.
fn extensions<'j>(of: &'j Json, url: &'static str) -> impl Iterator<Item = &'j Json> {
    of["extension"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(move |it| it["url"] == url)
        .filter_map(|it| {
            it.as_object()?
                .iter()
                .find(|(name, _)| name.starts_with("value"))
                .map(|(_, value)| value)
        })
}

/// Reads one item; its children are filled in by the caller.
fn item(json: &Json) -> Item {
    let number = |url: &'static str| extensions(json, url).next().and_then(Json::as_u64);
    let texts = |url: &'static str| {
        extensions(json, url)
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let quantity = |url: &'static str| extensions(json, url).cloned().collect::<Vec<_>>();
    let mut least = quantity("http://hl7.org/fhir/StructureDefinition/minValue");
    least.extend(quantity(
        "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-minQuantity",
    ));
    let mut greatest = quantity("http://hl7.org/fhir/StructureDefinition/maxValue");
    greatest.extend(quantity(
        "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-maxQuantity",
    ));
    let options = json["answerOption"].as_array().into_iter().flatten();
    Item {
        parent: None,
        place: 0,
        link_id: json["linkId"].as_str().unwrap_or_default().to_owned(),
        kind: ItemType::from_code(json["type"].as_str().unwrap_or_default()),
        is_required: json["required"] == true,
        repeats: json["repeats"] == true,
        occurs_min: number("http://hl7.org/fhir/StructureDefinition/questionnaire-minOccurs"),
        occurs_max: number("http://hl7.org/fhir/StructureDefinition/questionnaire-maxOccurs"),
        children: Vec::new(),
        enabling: enabling(json),
        options: options
            .filter_map(|option| {
                let (name, value) = option
                    .as_object()?
                    .iter()
                    .find(|(name, _)| name.starts_with("value"))?;
                let excludes = extensions(
                    option,
                    "http://hl7.org/fhir/StructureDefinition/questionnaire-optionExclusive",
                )
                .any(|it| it == true);
                Some((name.clone(), value.clone(), excludes))
            })
            .collect(),
        value_set: json["answerValueSet"].as_str().map(str::to_owned),
        rules: ValueRules {
            least,
            greatest,
            characters_min: number("http://hl7.org/fhir/StructureDefinition/minLength"),
            characters_max: json["maxLength"].as_u64(),
            decimal_places_max: number("http://hl7.org/fhir/StructureDefinition/maxDecimalPlaces"),
            pattern: texts("http://hl7.org/fhir/StructureDefinition/regex")
                .first()
                .map(|it| pattern(it)),
            mime_types: texts("http://hl7.org/fhir/StructureDefinition/mimeType"),
            size_max: extensions(json, "http://hl7.org/fhir/StructureDefinition/maxSize")
                .next()
                .and_then(Json::as_f64),
            units: quantity("http://hl7.org/fhir/StructureDefinition/questionnaire-unitOption"),
            unit_set: texts("http://hl7.org/fhir/StructureDefinition/questionnaire-unitValueSet")
                .into_iter()
                .next(),
            resource_types: texts(
                "http://hl7.org/fhir/StructureDefinition/questionnaire-referenceResource",
            ),
        },
    }
}

/// The whole value must match, as in XML Schema.
fn pattern(text: &str) -> Pattern {
    regex::RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(REGEX_BYTES_MAX)
        .build()
        .map_or(Pattern::NotUnderstood, Pattern::Regex)
}

fn enabling(json: &Json) -> Enabling {
    let has_expression = extensions(
        json,
        "http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-enableWhenExpression",
    )
    .next()
    .is_some();
    if has_expression {
        return Enabling::Undecided;
    }
    let Some(list) = json["enableWhen"].as_array() else {
        return Enabling::Always;
    };
    let mut conditions = Vec::new();
    for condition in list {
        let operator = match condition["operator"].as_str() {
            Some("exists") => Operator::Exists,
            Some("=") => Operator::Equal,
            Some("!=") => Operator::NotEqual,
            Some(">") => Operator::Greater,
            Some("<") => Operator::Less,
            Some(">=") => Operator::GreaterOrEqual,
            Some("<=") => Operator::LessOrEqual,
            _ => return Enabling::Undecided,
        };
        let answer = condition.as_object().and_then(|members| {
            members.iter().find_map(|(name, value)| {
                let rest = name.strip_prefix("answer")?;
                Some((format!("value{rest}"), value.clone()))
            })
        });
        conditions.push(EnableWhen {
            question: condition["question"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            operator,
            answer,
        });
    }
    // With several conditions, `enableBehavior` is mandatory (que-12).
    match json["enableBehavior"].as_str() {
        Some("any") => Enabling::Any(conditions),
        Some("all") => Enabling::All(conditions),
        _ if conditions.len() == 1 => Enabling::All(conditions),
        _ => Enabling::Undecided,
    }
}

/// The contained value sets, with their codes where they only list codes.
fn contained_sets(questionnaire: &Json) -> BTreeMap<String, Option<Vec<(String, String)>>> {
    let mut sets = BTreeMap::new();
    let contained = questionnaire["contained"].as_array().into_iter().flatten();
    for set in contained.filter(|it| it["resourceType"] == "ValueSet") {
        let Some(id) = set["id"].as_str() else {
            continue;
        };
        sets.insert(id.to_owned(), listed_codes(set));
    }
    sets
}

/// System and code of each concept of a value set that excludes and filters nothing.
fn listed_codes(set: &Json) -> Option<Vec<(String, String)>> {
    if let Some(contains) = set.pointer("/expansion/contains").and_then(Json::as_array)
        && set["compose"].is_null()
    {
        return contains
            .iter()
            .map(|it| {
                let system = it["system"].as_str().unwrap_or_default();
                // A nested expansion is more than a list.
                it["contains"]
                    .is_null()
                    .then(|| Some((system.to_owned(), it["code"].as_str()?.to_owned())))?
            })
            .collect();
    }
    if set.pointer("/compose/exclude").is_some() {
        return None;
    }
    let mut codes = Vec::new();
    for include in set.pointer("/compose/include")?.as_array()? {
        if !include["filter"].is_null() || !include["valueSet"].is_null() {
            return None;
        }
        let system = include["system"].as_str()?;
        for concept in include["concept"].as_array()? {
            codes.push((system.to_owned(), concept["code"].as_str()?.to_owned()));
        }
    }
    Some(codes)
}

/// Checks what a Questionnaire must keep in itself, beyond its invariants: the questions that `enableWhen`
/// names exist, and are not the item itself.
pub(super) fn check(questionnaire: Value<'_>, expression: &str, report: &mut Report<'_>) {
    let mut link_ids = std::collections::HashSet::new();
    each_item(questionnaire, expression, 0, &mut |item, _| {
        link_ids.extend(item.get("linkId").and_then(Value::as_str));
    });
    each_item(questionnaire, expression, 0, &mut |item, expression| {
        let own = item.get("linkId").and_then(Value::as_str);
        let conditions = item.get("enableWhen").into_iter().flat_map(Value::children);
        for (index, condition) in conditions.enumerate() {
            let Some(at) = condition.get("question") else {
                continue;
            };
            let Some(question) = at.as_str() else {
                continue;
            };
            let message = if own == Some(question) {
                "`enableWhen` must name another question, not the item itself".to_owned()
            } else if !link_ids.contains(question) {
                format!(
                    "no item of the questionnaire has the linkId `{}`",
                    quotable(question)
                )
            } else {
                continue;
            };
            let expression = format!("{expression}.enableWhen[{index}].question");
            report.error(id::QUESTIONNAIRE_DEFINITION, at, expression, message);
        }
    });
}

fn each_item<'d>(
    parent: Value<'d>,
    expression: &str,
    depth: usize,
    visit: &mut dyn FnMut(Value<'d>, &str),
) {
    if depth > ITEMS_DEPTH_MAX {
        return;
    }
    let items = parent.get("item").into_iter().flat_map(Value::children);
    for (index, item) in items.enumerate() {
        let expression = format!("{expression}.item[{index}]");
        visit(item, &expression);
        each_item(item, &expression, depth + 1, visit);
    }
}
