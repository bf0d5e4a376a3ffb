//! R4's own bindings: how many can be decided offline, and that those that cannot are known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::catalogue::Catalogue;
use crate::terminology::{Decision, Membership, Terminology};

fn r4() -> Terminology {
    Terminology::new(Arc::new(Catalogue::with_base(Catalogue::r4())))
}

/// Every binding of every element of every base type and resource, by strength.
fn bindings(terminology: &Terminology) -> BTreeMap<(String, String), usize> {
    let mut found = BTreeMap::new();
    let catalogue = terminology.catalogue();
    for located in catalogue.resources("StructureDefinition") {
        let Some(structure) = catalogue.structure(located.url) else {
            continue;
        };
        if structure.derivation.as_deref() == Some("constraint") {
            continue;
        }
        for element in &structure.snapshot.element {
            let Some(binding) = &element.binding else {
                continue;
            };
            if let Some(url) = &binding.value_set {
                *found
                    .entry((binding.strength.clone(), url.clone()))
                    .or_default() += 1;
            }
        }
    }
    found
}

#[test]
fn nearly_every_required_and_extensible_binding_is_decidable() {
    let terminology = r4();
    let mut decidable: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut undecided = BTreeSet::new();
    for ((strength, url), count) in bindings(&terminology) {
        let is_decidable = terminology.set(&url).is_decidable();
        let entry = decidable.entry(strength.clone()).or_default();
        entry.0 += usize::from(is_decidable) * count;
        entry.1 += count;
        if !is_decidable && matches!(strength.as_str(), "required" | "extensible") {
            undecided.insert(format!("{strength} {url}"));
        }
    }
    for (strength, (decidable, all)) in &decidable {
        eprintln!("{strength}: {decidable} of {all} bindings are decidable");
    }
    expect_test::expect![[r#"
        extensible http://dicom.nema.org/medical/dicom/current/output/chtml/part04/sect_B.5.html#table_B.5-1
        extensible http://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_29.html
        extensible http://hl7.org/fhir/ValueSet/consent-content-class
        extensible http://hl7.org/fhir/ValueSet/jurisdiction
        extensible http://www.rsna.org/RadLex_Playbook.aspx
        required http://loinc.org/vs/LL379-9|4.0.1"#]].assert_eq(&undecided.into_iter().collect::<Vec<_>>().join("\n"));
    expect_test::expect![[r#"{"example": (292, 433), "extensible": (116, 153), "preferred": (200, 209), "required": (372, 373)}"#]].assert_eq(&format!("{decidable:?}"));
}

#[test]
fn every_listed_code_is_a_member_and_none_of_another_system() {
    /// Codes of larger sets are not listed here.
    const CODES_MAX: usize = 20_000;
    /// Every so manieth value set is taken, for the sake of time.
    const STEP: usize = 6;
    let terminology = r4();
    let mut listed = 0;
    for located in terminology.catalogue().resources("ValueSet").step_by(STEP) {
        let set = terminology.set(located.url);
        let Ok(codes) = set.expand(CODES_MAX) else {
            continue;
        };
        for it in &codes {
            assert!(
                matches!(set.decide(&it.system, &it.code), Decision::Member(_)),
                "{} {}",
                located.url,
                it.code
            );
        }
        if set.is_decidable() {
            assert!(matches!(
                set.decide("urn:of:nobody", "final"),
                Decision::NotMember
            ));
            listed += 1;
        }
    }
    assert!(listed > 180, "{listed}");
}

#[test]
fn well_known_bindings_and_the_nearest_code_outside() {
    let terminology = r4();
    for (set, system, inside, outside) in [
        (
            "observation-status|4.0.1",
            Some("http://hl7.org/fhir/observation-status"),
            "final",
            "finished",
        ),
        ("administrative-gender|4.0.1", None, "female", "f"),
        ("mimetypes|4.0.1", None, "text/plain", "plain text"),
        ("currencies|4.0.1", None, "EUR", "EURO"),
        (
            "observation-vitalsignresult|4.0.1",
            Some("http://loinc.org"),
            "2708-6",
            "59408-5",
        ),
        (
            "ucum-vitals-common|4.0.1",
            Some("http://unitsofmeasure.org"),
            "mm[Hg]",
            "L/min",
        ),
        (
            "v3-ActEncounterCode",
            Some("http://terminology.hl7.org/CodeSystem/v3-ActCode"),
            "AMB",
            "DISEASE",
        ),
        ("jurisdiction", Some("urn:iso:std:iso:3166"), "DE", "DEX"),
        (
            "condition-clinical|4.0.1",
            Some("http://terminology.hl7.org/CodeSystem/condition-clinical"),
            "active",
            "confirmed",
        ),
        (
            "security-labels",
            Some("http://terminology.hl7.org/CodeSystem/v3-ActReason"),
            "HTEST",
            "HTESTS",
        ),
    ] {
        let url = match set {
            "v3-ActEncounterCode" => format!("http://terminology.hl7.org/ValueSet/{set}"),
            _ => format!("http://hl7.org/fhir/ValueSet/{set}"),
        };
        let is = |code| terminology.member_of(&url, system, code);
        assert!(
            matches!(is(inside), Membership::Member { .. }),
            "{set} {inside}: {:?}",
            is(inside)
        );
        assert_eq!(is(outside), Membership::NotMember, "{set} {outside}");
    }
}
