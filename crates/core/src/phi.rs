//! A value about a patient that must not slip into a log, an error, an address or an answer by accident.
//!
//! Not a protection against whoever wants the value: [`Phi::expose`] hands it out, and says for what. It
//! protects against the slip, which is a `{}`, a `{:?}` or a derived `Serialize` that nobody looked at.
//!
//! ```compile_fail
//! let name = chaperone_core::phi::Phi::new("Grace Wood");
//! println!("{name}");
//! ```
//! ```compile_fail
//! let name = chaperone_core::phi::Phi::new("Grace Wood");
//! serde_json::to_string(&name).unwrap();
//! ```

use std::fmt;

/// For what a value is taken out: what a reader of the code looks for when asking where PHI goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExposedFor {
    /// A page for a person who may see it; the look is recorded before.
    Person,
    /// Reduction to a view, and the scrubber: what an agent may see of it comes out.
    View,
    /// A comparison of which only the outcome is kept.
    Comparison,
    /// A message to the patient themself, through the gate that knows who may have such data.
    Message,
}

/// Something about a patient.
///
/// Has no `Display` and no `Serialize`; `Debug` shows that there is something and nothing of it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Phi<T>(T);

impl<T> Phi<T> {
    /// Wraps it. Do so where it comes in.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for a purpose. Whoever calls this answers for where it goes.
    pub const fn expose(&self, purpose: ExposedFor) -> &T {
        let _ = purpose;
        &self.0
    }

    /// The value itself, for a purpose.
    pub fn into_exposed(self, purpose: ExposedFor) -> T {
        let _ = purpose;
        self.0
    }

    /// What is made of it, which is about the patient too.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Phi<U> {
        Phi(make(self.0))
    }
}

impl<T> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phi(..)")
    }
}

impl<T> From<T> for Phi<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Page {
        #[expect(dead_code, reason = "read by Debug, which is what is tested")]
        number: u8,
        #[expect(dead_code, reason = "read by Debug, which is what is tested")]
        name: Phi<Vec<&'static str>>,
    }

    #[test]
    fn what_is_around_a_value_is_shown_and_nothing_of_the_value() {
        let page = Page {
            number: 3,
            name: Phi::new(vec!["Grace", "Wood"]),
        };
        assert_eq!(format!("{page:?}"), "Page { number: 3, name: Phi(..) }");
        let pretty = format!("{page:#?}");
        assert!(pretty.contains("number: 3") && !pretty.contains("Wood"));
    }

    #[test]
    fn a_value_comes_out_where_a_purpose_is_named() {
        let name = Phi::new("Grace Wood");
        assert_eq!(*name.expose(ExposedFor::Person), "Grace Wood");
        let length = name.map(str::len);
        assert_eq!(format!("{length:?}"), "Phi(..)");
        assert_eq!(length.into_exposed(ExposedFor::Comparison), 10);
    }
}
