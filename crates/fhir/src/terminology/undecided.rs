//! Why nothing loaded can decide about a code.
//!
//! Start at [`Undecided`].

/// Why nothing loaded can decide about a code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The value set, or one that it imports, is not loaded.
    #[error("value set `{0}` is not loaded")]
    ValueSetNotLoaded(String),
    /// Another version of the value set is loaded, and what that does not hold may be in this one.
    #[error("version `{version}` of value set `{value_set}` is not loaded")]
    ValueSetVersionNotLoaded {
        /// The value set.
        value_set: String,
        /// The version that was asked for.
        version: String,
    },
    /// The value set says nothing about what is in it.
    #[error("value set `{0}` states no content")]
    ValueSetEmpty(String),
    /// The code system is not loaded.
    #[error("code system `{0}` is not loaded")]
    SystemNotLoaded(String),
    /// Only some codes of the system are loaded.
    #[error("code system `{0}` is not loaded completely")]
    SystemIncomplete(String),
    /// Another version of the system is loaded.
    #[error("version `{version}` of code system `{system}` is not loaded")]
    SystemVersionNotLoaded {
        /// The system.
        system: String,
        /// The version that was asked for.
        version: String,
    },
    /// A filter that cannot be evaluated.
    #[error("the filter `{property}` `{op}` on code system `{system}` cannot be evaluated: {why}")]
    FilterUnsupported {
        /// The system.
        system: String,
        /// The property.
        property: String,
        /// The operator.
        op: String,
        /// Why not.
        why: &'static str,
    },
    /// An include that FHIR does not allow.
    #[error("value set `{0}` has an include that says both concepts and filters, or nothing")]
    IncludeMalformed(String),
    /// The value set imports itself.
    #[error("value set `{0}` imports itself")]
    ImportCycle(String),
    /// More imports inside imports, or more parts, than the limit.
    #[error("value set `{0}` is nested deeper, or has more parts, than the limit")]
    TooLarge(String),
}
