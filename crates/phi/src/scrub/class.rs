//! The classes of identifiers, and the word that stands in a slot for each.
//!
//! Not here: how they are found. Start at [`Class`].

use std::fmt;

/// A class of identifiers.
///
/// # Source
/// 45 CFR 164.514(b)(2)(i), (A) to (R); the letter stands beside each. [`Class::Literal`] is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// (A) Names.
    Name,
    /// (B) Geographic subdivisions smaller than a state, and institutions, which stand for one.
    Place,
    /// (C) Elements of dates except the year.
    Date,
    /// (C) Ages over 89.
    Age,
    /// (D) Telephone numbers.
    Phone,
    /// (E) Fax numbers.
    Fax,
    /// (F) Electronic mail addresses.
    Email,
    /// (G) Social security numbers.
    Ssn,
    /// (H) Medical record numbers.
    Mrn,
    /// (I) Health plan beneficiary numbers.
    Plan,
    /// (J) Account numbers.
    Account,
    /// (K) Certificate and licence numbers.
    License,
    /// (L) Vehicle identifiers and plates.
    Vehicle,
    /// (M) Device identifiers and serial numbers.
    Device,
    /// (N) Web addresses and names of accounts there.
    Url,
    /// (O) Internet protocol addresses.
    Ip,
    /// (P) Biometric identifiers.
    Biometric,
    /// (Q) Photographs.
    Photo,
    /// (R) Any other unique number or code.
    Id,
    /// No identifier: text that would read as a slot and therefore becomes one.
    Literal,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 20] = [
        Class::Name,
        Class::Place,
        Class::Date,
        Class::Age,
        Class::Phone,
        Class::Fax,
        Class::Email,
        Class::Ssn,
        Class::Mrn,
        Class::Plan,
        Class::Account,
        Class::License,
        Class::Vehicle,
        Class::Device,
        Class::Url,
        Class::Ip,
        Class::Biometric,
        Class::Photo,
        Class::Id,
        Class::Literal,
    ];

    /// The word in a slot: `NAME` in `[NAME-1]`.
    pub fn word(self) -> &'static str {
        match self {
            Class::Name => "NAME",
            Class::Place => "PLACE",
            Class::Date => "DATE",
            Class::Age => "AGE",
            Class::Phone => "PHONE",
            Class::Fax => "FAX",
            Class::Email => "EMAIL",
            Class::Ssn => "SSN",
            Class::Mrn => "MRN",
            Class::Plan => "PLAN",
            Class::Account => "ACCOUNT",
            Class::License => "LICENSE",
            Class::Vehicle => "VEHICLE",
            Class::Device => "DEVICE",
            Class::Url => "URL",
            Class::Ip => "IP",
            Class::Biometric => "BIOMETRIC",
            Class::Photo => "PHOTO",
            Class::Id => "ID",
            Class::Literal => "TEXT",
        }
    }

    /// The class of a slot's word, whatever its case.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|class| class.word().eq_ignore_ascii_case(word))
    }

    /// Whether it points at one person by itself, so that what stands beside it, such as "last week", is
    /// about that person.
    pub(crate) fn is_direct(self) -> bool {
        !matches!(
            self,
            Class::Place | Class::Date | Class::Age | Class::Literal | Class::Photo
        )
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_class_has_a_word_of_its_own_that_leads_back() {
        let words: BTreeSet<&str> = Class::ALL.iter().map(|class| class.word()).collect();
        assert_eq!(words.len(), Class::ALL.len());
        for class in Class::ALL {
            assert_eq!(Class::of_word(&class.word().to_lowercase()), Some(class));
        }
        assert_eq!(Class::of_word("NAMES"), None);
    }
}
