//! The datatypes whose typed parts are shown when a field names them as a whole.
//!
//! A datatype that is not here is withheld. Parts of a text type may stand here: they are withheld
//! like any text, and so the answer says that they were there.

/// Datatypes that are a number with its unit: shown together or not at all.
pub(super) fn quantity_types() -> &'static [&'static str] {
    &[
        "Quantity",
        "SimpleQuantity",
        "MoneyQuantity",
        "Age",
        "Count",
        "Distance",
        "Duration",
        "Money",
    ]
}

/// Paths below a datatype, or nothing for one that is withheld.
pub(super) fn parts_of(type_code: &str) -> &'static [&'static str] {
    match type_code {
        "Period" => &["start", "end"],
        "Range" => &["low", "high"],
        "Ratio" => &["numerator", "denominator"],
        "Timing" => &[
            "event",
            "repeat.bounds",
            "repeat.count",
            "repeat.countMax",
            "repeat.duration",
            "repeat.durationMax",
            "repeat.durationUnit",
            "repeat.frequency",
            "repeat.frequencyMax",
            "repeat.period",
            "repeat.periodMax",
            "repeat.periodUnit",
            "repeat.dayOfWeek",
            "repeat.timeOfDay",
            "repeat.when",
            "repeat.offset",
            "code",
        ],
        "Dosage" => &[
            "sequence",
            "text",
            "additionalInstruction",
            "patientInstruction",
            "timing",
            "asNeeded",
            "site",
            "route",
            "method",
            "doseAndRate.type",
            "doseAndRate.dose",
            "doseAndRate.rate",
            "maxDosePerPeriod",
            "maxDosePerAdministration",
            "maxDosePerLifetime",
        ],
        _ => &[],
    }
}
