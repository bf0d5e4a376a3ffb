//! Whether an item is enabled, given the answers so far.
//!
//! A question is looked for near the item first: among the answers of the innermost group that holds it,
//! then further out. Where the standard leaves room, the answer is "undecided".
//! Start at [`Answers::state`].
//!
//! Rules: <https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen>.

use super::form::{EnableWhen, Enabling, Operator};
use super::{Terms, compare};
use crate::json::Value;

/// Most items of a response that are looked at for all conditions together.
const LOOKS_MAX: usize = 500_000;

/// Whether an item takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Enabled,
    Disabled,
    /// Not decidable here.
    Undecided,
}

/// Finds answers in a response.
pub(super) struct Answers {
    looks: usize,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self { looks: 0 }
    }

    /// The state of an item. `around` are the response, its items and answers that hold the item, outermost
    /// first.
    pub(super) fn state(
        &mut self,
        enabling: &Enabling,
        around: &[Value<'_>],
        terms: &dyn Terms,
    ) -> State {
        let (conditions, one_is_enough) = match enabling {
            Enabling::Always => return State::Enabled,
            Enabling::Undecided => return State::Undecided,
            Enabling::All(conditions) => (conditions, false),
            Enabling::Any(conditions) => (conditions, true),
        };
        let mut is_undecided = false;
        for condition in conditions {
            match self.holds(condition, around, terms) {
                Some(holds) if holds == one_is_enough => {
                    return if holds {
                        State::Enabled
                    } else {
                        State::Disabled
                    };
                }
                Some(_) => {}
                None => is_undecided = true,
            }
        }
        if is_undecided {
            State::Undecided
        } else if one_is_enough {
            State::Disabled
        } else {
            State::Enabled
        }
    }

    fn holds(
        &mut self,
        condition: &EnableWhen,
        around: &[Value<'_>],
        terms: &dyn Terms,
    ) -> Option<bool> {
        let answers = self.of(&condition.question, around)?;
        let (name, stated) = condition.answer.as_ref()?;
        if condition.operator == Operator::Exists {
            return Some(stated.as_bool()? != answers.is_empty());
        }
        let mut some = false;
        let mut all = true;
        for answer in &answers {
            let value = answer
                .children()
                .find(|it| it.key().is_some_and(|key| key.starts_with("value")))?;
            // A comparison across types is a fault of the form.
            if value.key() != Some(name.as_str()) {
                return None;
            }
            let holds = match condition.operator {
                Operator::Equal => compare::is_same(name, value, stated, terms)?,
                Operator::NotEqual => !compare::is_same(name, value, stated, terms)?,
                Operator::Greater => compare::order(name, value, stated, terms)?.is_gt(),
                Operator::Less => compare::order(name, value, stated, terms)?.is_lt(),
                Operator::GreaterOrEqual => compare::order(name, value, stated, terms)?.is_ge(),
                Operator::LessOrEqual => compare::order(name, value, stated, terms)?.is_le(),
                Operator::Exists => return None,
            };
            some |= holds;
            all &= holds;
        }
        if condition.operator == Operator::NotEqual {
            // "No answer is equal" and "an answer is not equal" differ with several answers or none.
            return if answers.is_empty() || some != all {
                None
            } else {
                Some(some)
            };
        }
        Some(some)
    }

    /// The answers to a question, nearest first; `None` beyond the limit.
    fn of<'d>(&mut self, question: &str, around: &[Value<'d>]) -> Option<Vec<Value<'d>>> {
        for from in around.iter().rev() {
            let mut found = Vec::new();
            let mut was_met = false;
            let mut open = vec![*from];
            while let Some(at) = open.pop() {
                self.looks += 1;
                if self.looks > LOOKS_MAX {
                    return None;
                }
                if at.get("linkId").and_then(Value::as_str) == Some(question) {
                    was_met = true;
                    found.extend(
                        at.get("answer")
                            .into_iter()
                            .flat_map(Value::children)
                            .filter(|it| {
                                it.children()
                                    .filter_map(Value::key)
                                    .any(|key| key.trim_start_matches('_').starts_with("value"))
                            }),
                    );
                }
                open.extend(at.get("item").into_iter().flat_map(Value::children));
                open.extend(at.get("answer").into_iter().flat_map(Value::children));
            }
            if was_met {
                return Some(found);
            }
        }
        Some(Vec::new())
    }
}
