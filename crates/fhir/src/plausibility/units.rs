//! UCUM: which units exist, which measure the same, and what a value is in another unit.
//!
//! A narrow seam over the UCUM library, so that rules see numbers or nothing. Start at [`convert`].

/// Whether UCUM has the unit.
pub(super) fn is_unit(unit: &str) -> bool {
    !unit.is_empty() && octofhir_ucum::validate(unit).is_ok()
}

/// Whether two units measure the same; `None` if one of them is no unit.
pub(super) fn is_same_dimension(one: &str, other: &str) -> Option<bool> {
    if one == other {
        return Some(true);
    }
    octofhir_ucum::is_comparable(one, other).ok()
}

/// A value in another unit; `None` if that has no meaning.
pub(super) fn convert(value: f64, from: &str, to: &str) -> Option<f64> {
    if from == to {
        return Some(value);
    }
    octofhir_ucum::convert(value, from, to)
        .ok()
        .filter(|it| it.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_substance_are_no_masses() {
        assert_eq!(is_same_dimension("mg/dL", "g/L"), Some(true));
        assert_eq!(is_same_dimension("mg/dL", "mmol/L"), Some(false));
        assert_eq!(is_same_dimension("mg/dL", "nonsense"), None);
        assert!(!is_unit("bpm-ish"));
    }

    #[test]
    fn conversions_are_exact_enough() {
        let near = |value: f64, from, to, wanted: f64| {
            let found = convert(value, from, to).unwrap();
            assert!((found - wanted).abs() < 1e-6, "{found}");
        };
        near(100.0, "[lb_av]", "kg", 45.359_237);
        near(98.6, "[degF]", "Cel", 37.0);
        near(37.0, "Cel", "[degF]", 98.6);
        near(10.0, "[in_i]", "cm", 25.4);
        assert_eq!(convert(1.0, "mg", "mL"), None);
    }
}
