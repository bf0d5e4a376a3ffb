//! The walk over a response beside its form: which items are there, in which order, how often.
//!
//! Start at [`Check::run`].
//!
//! Rules: <https://hl7.org/fhir/R4/questionnaireresponse.html#notes>.

use super::enable::{Answers, State};
use super::form::{Form, Item, ItemType};
use super::{Terms, severity_by_status};
use crate::definitions::Definitions;
use crate::finding::{Severity, id};
use crate::json::Value;
use crate::validate::{Report, quotable};

/// Deepest nesting of items that is followed.
const ITEMS_DEPTH_MAX: usize = 64;
/// Most items of the form that are looked at, counted once for each group or answer that may hold them.
const STEPS_MAX: usize = 2_000_000;

/// The check of one response.
pub(super) struct Check<'c, 'd, 'r> {
    pub(super) definitions: &'c Definitions,
    pub(super) form: &'c Form,
    pub(super) terms: &'c dyn Terms,
    pub(super) report: &'c mut Report<'r>,
    response: Value<'d>,
    /// Of what is missing: grave only in a finished response.
    missing: Severity,
    enabling: Answers,
    steps: usize,
    /// The response, items and answers that hold the current items, outermost first.
    around: Vec<Value<'d>>,
}

/// Items of the response for one item of the form, with their paths.
type Given<'d> = Vec<(Value<'d>, String)>;

impl<'c, 'd, 'r> Check<'c, 'd, 'r> {
    pub(super) fn new(
        definitions: &'c Definitions,
        form: &'c Form,
        terms: &'c dyn Terms,
        response: Value<'d>,
        report: &'c mut Report<'r>,
    ) -> Self {
        Self {
            definitions,
            form,
            terms,
            report,
            response,
            missing: severity_by_status(response),
            enabling: Answers::new(),
            steps: 0,
            around: Vec::new(),
        }
    }

    pub(super) fn run(mut self, expression: &str) {
        let first = self.report.count();
        let (form, response) = (self.form, self.response);
        if form.is_cut {
            self.not_checked(
                response,
                expression,
                "a part of this questionnaire, which is larger than allowed,",
            );
        }
        self.items(response, None, expression, State::Enabled, 0);
        if self.steps > STEPS_MAX {
            self.not_checked(
                response,
                expression,
                "a part of this response, which is larger than allowed,",
            );
        }
        let url = form.url.as_deref();
        super::name_source(self.report.since(first), url);
    }

    /// Checks the items under `parent` against the items of the form that may stand there.
    fn items(
        &mut self,
        parent: Value<'d>,
        within: Option<usize>,
        expression: &str,
        state: State,
        depth: usize,
    ) {
        let form = self.form;
        let expected = match within {
            None => form.roots.as_slice(),
            Some(index) => form.items.get(index).map_or(&[][..], |it| &it.children),
        };
        self.steps = self.steps.saturating_add(expected.len());
        if depth > ITEMS_DEPTH_MAX || self.steps > STEPS_MAX || self.report.is_full() {
            return;
        }
        self.around.push(parent);
        let given = self.sorted(parent, within, expected, expression);
        for (index, given) in expected.iter().zip(given) {
            let Some(item) = form.items.get(*index) else {
                continue;
            };
            let own = self
                .enabling
                .state(&item.enabling, &self.around, self.terms);
            let state = match (state, own) {
                (State::Disabled, _) | (_, State::Disabled) => State::Disabled,
                (State::Undecided, _) | (_, State::Undecided) => State::Undecided,
                (State::Enabled, State::Enabled) => State::Enabled,
            };
            self.item((*index, item), given, parent, expression, state, depth);
        }
        self.around.pop();
    }

    /// The items under `parent` by the item of the form that they belong to; reports those without, and
    /// those out of order.
    fn sorted(
        &mut self,
        parent: Value<'d>,
        within: Option<usize>,
        expected: &[usize],
        expression: &str,
    ) -> Vec<Given<'d>> {
        let form = self.form;
        let mut given: Vec<Given<'d>> = vec![Vec::new(); expected.len()];
        let mut last = 0;
        let items = parent.get("item").into_iter().flat_map(Value::children);
        for (position, item) in items.enumerate() {
            let expression = format!("{expression}.item[{position}]");
            let Some(link_id) = item.get("linkId").and_then(Value::as_str) else {
                continue;
            };
            let Some(place) = form.place(within, expected, link_id) else {
                let shown = quotable(link_id);
                let (finding_id, message) = if form.by_link_id.contains_key(link_id) {
                    (
                        id::QUESTIONNAIRE_PLACE,
                        format!("the questionnaire has the item `{shown}` elsewhere, not here"),
                    )
                } else {
                    (
                        id::QUESTIONNAIRE_LINK_ID,
                        format!("the questionnaire has no item `{shown}`"),
                    )
                };
                if !form.is_cut {
                    self.wrong(finding_id, item, expression, message);
                }
                continue;
            };
            if place < last {
                self.wrong(
                    id::QUESTIONNAIRE_PLACE,
                    item,
                    expression.clone(),
                    "items must come in the order of the questionnaire".to_owned(),
                );
            }
            last = last.max(place);
            if let Some(list) = given.get_mut(place) {
                list.push((item, expression));
            }
        }
        given
    }

    /// Checks all that is given for one item of the form.
    fn item(
        &mut self,
        (index, item): (usize, &'c Item),
        given: Given<'d>,
        parent: Value<'d>,
        expression: &str,
        state: State,
        depth: usize,
    ) {
        let answers: Vec<(Value<'d>, String)> = given
            .iter()
            .flat_map(|(value, expression)| {
                let answers = value.get("answer").into_iter().flat_map(Value::children);
                answers
                    .enumerate()
                    .map(move |(at, answer)| (answer, format!("{expression}.answer[{at}]")))
            })
            .collect();
        if state == State::Disabled {
            self.disabled(&given);
            return;
        }
        let at = given.first().cloned();
        let at = at.unwrap_or_else(|| (parent, expression.to_owned()));
        match item.kind {
            ItemType::Display | ItemType::Group => {
                for (answer, expression) in &answers {
                    self.wrong(
                        id::QUESTIONNAIRE_ANSWER_TYPE,
                        *answer,
                        expression.clone(),
                        "a group or a display has no answers; put items directly under a group"
                            .to_owned(),
                    );
                }
                if item.kind == ItemType::Group {
                    let is_filled = given.iter().any(|(it, _)| it.get("item").is_some());
                    self.counts(item, given.len(), is_filled, &at, state, "group");
                }
            }
            _ => {
                if let [_, (second, expression), ..] = given.as_slice() {
                    let severity = if item.repeats {
                        Severity::Warning
                    } else {
                        Severity::Error
                    };
                    self.report.add(
                        id::QUESTIONNAIRE_TOO_MANY,
                        severity,
                        *second,
                        expression.clone(),
                        "a question has one item; give several answers within it".to_owned(),
                        None,
                    );
                }
                self.counts(
                    item,
                    answers.len(),
                    !answers.is_empty(),
                    &at,
                    state,
                    "answer",
                );
                self.exclusive(item, &answers);
            }
        }
        for (value, expression) in &given {
            if matches!(item.kind, ItemType::Group) {
                self.items(*value, Some(index), expression, state, depth + 1);
            } else if let Some(inside) = value.get("item") {
                self.wrong(
                    id::QUESTIONNAIRE_PLACE,
                    inside,
                    format!("{expression}.item"),
                    "items below a question stand under its `answer`, and a display has none"
                        .to_owned(),
                );
            }
        }
        if item.answers_are_checked() {
            for (answer, expression) in &answers {
                self.answer(item, *answer, expression);
                self.around.extend(given.iter().map(|(it, _)| *it).take(1));
                self.items(*answer, Some(index), expression, state, depth + 1);
                if !given.is_empty() {
                    self.around.pop();
                }
            }
        }
    }

    /// How often a group or answer is given.
    fn counts(
        &mut self,
        item: &Item,
        count: usize,
        is_filled: bool,
        at: &(Value<'d>, String),
        state: State,
        what: &str,
    ) {
        let (value, expression) = (at.0, at.1.clone());
        let link_id = quotable(&item.link_id);
        let max = match item.occurs_max {
            Some(max) => max,
            None if item.repeats => u64::MAX,
            None => 1,
        };
        let count = count as u64;
        if count > max {
            let message = format!("at most {max} {what} allowed for `{link_id}`, {count} given");
            self.wrong(id::QUESTIONNAIRE_TOO_MANY, value, expression, message);
            return;
        }
        if state != State::Enabled {
            return;
        }
        let min = item.occurs_min.unwrap_or(0);
        if item.is_required && !is_filled {
            let message = format!("the questionnaire demands an {what} for `{link_id}`");
            let message = message.replace("an group", "a filled group");
            self.report.add(
                id::QUESTIONNAIRE_REQUIRED,
                self.missing,
                value,
                expression,
                message,
                None,
            );
        } else if count < min && (count > 0 || item.is_required) {
            let message = format!("at least {min} {what} needed for `{link_id}`, {count} given");
            self.report.add(
                id::QUESTIONNAIRE_REQUIRED,
                self.missing,
                value,
                expression,
                message,
                None,
            );
        }
    }

    /// An item that is not enabled must not be answered.
    fn disabled(&mut self, given: &Given<'d>) {
        for (value, expression) in given {
            if !has_answer(*value) {
                continue;
            }
            let severity = if self.missing == Severity::Error {
                Severity::Error
            } else {
                Severity::Warning
            };
            self.report.add(
                id::QUESTIONNAIRE_DISABLED,
                severity,
                *value,
                expression.clone(),
                "by the other answers this item is not enabled; remove its answers".to_owned(),
                None,
            );
        }
    }
}

impl Item {
    fn answers_are_checked(&self) -> bool {
        !matches!(self.kind, ItemType::Group | ItemType::Display)
    }
}

/// Whether an item or one below it has an answer.
fn has_answer(item: Value<'_>) -> bool {
    let mut open = vec![item];
    while let Some(at) = open.pop() {
        if at.get("answer").is_some() {
            return true;
        }
        open.extend(at.get("item").into_iter().flat_map(Value::children));
    }
    false
}
