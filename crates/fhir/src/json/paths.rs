//! The way from the root to many values, one after the other in the order of the source.
//!
//! From one value to the next only the part of the way that differs is looked for, so that a thousand
//! findings in a long list do not go through the list a thousand times.
//! Start at [`Paths::to`].

use super::{Document, Value};

/// One value on the way, with its place among its parent's children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'d> {
    pub(crate) value: Value<'d>,
    pub(crate) place: usize,
}

/// Remembers the last way.
#[derive(Debug)]
pub(crate) struct Paths<'d> {
    document: &'d Document<'d>,
    steps: Vec<Step<'d>>,
}

impl<'d> Paths<'d> {
    pub(crate) fn new(document: &'d Document<'d>) -> Self {
        Self {
            document,
            steps: Vec::new(),
        }
    }

    fn end(&self, value: Value<'d>) -> u32 {
        self.document.node(value.index).map_or(0, |node| node.end)
    }

    fn holds(&self, outer: Value<'d>, index: u32) -> bool {
        outer.index <= index && index < self.end(outer)
    }

    /// The way to a value of this document, without the root.
    pub(crate) fn to(&mut self, value: Value<'_>) -> &[Step<'d>] {
        let mut resume = None;
        while let Some(last) = self.steps.last().copied() {
            if self.holds(last.value, value.index) {
                break;
            }
            resume = Some(last);
            self.steps.pop();
        }
        let mut at = self
            .steps
            .last()
            .map_or(self.document.root(), |it| it.value);
        while at.index < value.index {
            // A sibling that was passed before is where looking goes on, if it is not behind the value.
            let first = resume
                .take()
                .filter(|it| it.value.index <= value.index)
                .unwrap_or(Step {
                    value: Value {
                        document: self.document,
                        index: at.index + 1,
                    },
                    place: 0,
                });
            let Some(step) = self.sibling_that_holds(first, self.end(at), value.index) else {
                break;
            };
            self.steps.push(step);
            at = step.value;
        }
        &self.steps
    }

    /// The first of the siblings from `step` on (up to the parent's end) that holds the value.
    fn sibling_that_holds(&self, mut step: Step<'d>, end: u32, index: u32) -> Option<Step<'d>> {
        while step.value.index < end {
            if self.holds(step.value, index) {
                return Some(step);
            }
            step = Step {
                value: Value {
                    document: self.document,
                    index: self.end(step.value).max(step.value.index + 1),
                },
                place: step.place + 1,
            };
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::JsonLimits;

    #[test]
    fn ways_are_those_that_are_found_from_the_root() {
        let text = r#"{"a":[{"b":1},{"b":[2,{"c":3},4]},5],"d":{"e":{"f":6}},"g":[[7],[8,9]]}"#;
        let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
        let values: Vec<Value<'_>> = (0..document.values() as u32)
            .map(|index| Value {
                document: &document,
                index,
            })
            .collect();
        for first in &values {
            for second in &values {
                let mut paths = Paths::new(&document);
                paths.to(*first);
                let found: Vec<_> = paths
                    .to(*second)
                    .iter()
                    .map(|it| (it.value.key(), it.place))
                    .collect();
                assert_eq!(found, document.path_to(*second), "{first:?} {second:?}");
            }
        }
    }
}
