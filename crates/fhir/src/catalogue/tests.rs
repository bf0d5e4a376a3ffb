//! Tests of the catalogue with small definitions written for them.

use super::*;

fn resource(resource_type: &str, url: &str, version: Option<&str>, name: &str) -> String {
    serde_json::json!({
        "resourceType": resource_type, "url": url, "version": version, "name": name,
        "status": "active", "kind": "resource", "type": "Patient",
        "snapshot": {"element": [{"path": "Patient"}]},
    })
    .to_string()
    .replace("\"version\":null,", "")
}

fn with(resources: &[String]) -> Catalogue {
    let mut catalogue = Catalogue::new();
    add(&mut catalogue, resources);
    catalogue
}

fn add(catalogue: &mut Catalogue, resources: &[String]) {
    for text in resources {
        catalogue.add_resource("test", text.as_bytes()).unwrap();
    }
}

const URL: &str = "http://example.org/it";

#[test]
fn the_version_asked_for_comes_first_then_its_segments_then_the_newest() {
    let catalogue = with(&[
        resource("ValueSet", URL, Some("2.0.0"), "Two"),
        resource("ValueSet", URL, Some("1.0.0"), "One"),
        resource("ValueSet", URL, Some("1.0.1"), "OneOne"),
        resource("CodeSystem", URL, Some("9.0.0"), "Nine"),
    ]);
    let cases = [
        ("", "Two", VersionMatch::Any),
        ("|1.0.0", "One", VersionMatch::Exact),
        ("|1.0", "OneOne", VersionMatch::Partial),
        ("|1", "OneOne", VersionMatch::Partial),
        ("|9.0.0", "Two", VersionMatch::Other),
    ];
    for (version, name, version_match) in cases {
        let canonical = format!("{URL}{version}");
        let found = catalogue.value_set(&canonical).unwrap();
        assert_eq!(found.name.as_deref(), Some(name), "{canonical}");
        let located = catalogue.locate("ValueSet", &canonical).unwrap();
        assert_eq!(located.version_match, version_match, "{canonical}");
        assert_eq!(located.url, URL);
    }
    assert!(catalogue.value_set("http://example.org/other").is_none());
}

#[test]
fn the_upper_layer_comes_first_but_an_exact_version_beneath_wins() {
    let base = with(&[resource("ValueSet", URL, Some("3.0.0"), "Beneath")]);
    let mut catalogue = Catalogue::with_base(Arc::new(base));
    add(
        &mut catalogue,
        &[resource("ValueSet", URL, Some("1.0.0"), "Above")],
    );
    let name = |canonical: &str| {
        catalogue
            .value_set(canonical)
            .unwrap()
            .name
            .clone()
            .unwrap()
    };
    assert_eq!(name(URL), "Above");
    assert_eq!(name(&format!("{URL}|3.0.0")), "Beneath");
    assert_eq!(name(&format!("{URL}|3")), "Beneath");
    assert_eq!(name(&format!("{URL}|2.0.0")), "Above");
    let versions: Vec<_> = catalogue
        .resources("ValueSet")
        .map(|it| it.version)
        .collect();
    assert_eq!(versions, [Some("1.0.0"), Some("3.0.0")]);
}

#[test]
fn what_came_first_stays() {
    let catalogue = with(&[
        resource("ValueSet", URL, None, "First"),
        resource("ValueSet", URL, None, "Second"),
    ]);
    assert_eq!(
        catalogue.value_set(URL).unwrap().name.as_deref(),
        Some("First")
    );
}

#[test]
fn a_version_inside_the_url_is_a_version() {
    // R4 core itself does so for `v2-0006`.
    let catalogue = with(&[
        resource("CodeSystem", &format!("{URL}|2.1"), Some("0006"), "Old"),
        resource("CodeSystem", &format!("{URL}|2.4"), Some("0006"), "New"),
    ]);
    let name = |canonical: &str| {
        catalogue
            .code_system(canonical)
            .unwrap()
            .name
            .clone()
            .unwrap()
    };
    assert_eq!(name(URL), "New");
    assert_eq!(name(&format!("{URL}|2.1")), "Old");
}

#[test]
fn a_name_is_not_a_url() {
    // R4 core has an extension whose name is that of the type `xhtml`.
    let r4 = Catalogue::r4();
    let of_type = r4
        .structure("http://hl7.org/fhir/StructureDefinition/xhtml")
        .unwrap();
    assert_eq!(of_type.kind, "primitive-type");
    let extension = r4
        .structure("http://hl7.org/fhir/StructureDefinition/rendering-xhtml")
        .unwrap();
    assert_eq!(extension.name, "xhtml");
    assert_eq!(extension.kind, "complex-type");
    assert!(r4.structure("xhtml").is_none());
}

#[test]
fn other_resources_are_found_and_what_is_broken_says_why() {
    let catalogue = with(&[
        resource("Questionnaire", URL, None, "Asks"),
        resource("ConceptMap", URL, None, "Maps"),
        r#"{"resourceType":"StructureDefinition","url":"http://example.org/broken","snapshot":3}"#
            .to_owned(),
    ]);
    assert_eq!(catalogue.questionnaire(URL).unwrap()["name"], "Asks");
    assert_eq!(
        catalogue.resource("ConceptMap", URL).unwrap()["name"],
        "Maps"
    );
    assert!(catalogue.text("Questionnaire", URL).is_some());
    assert!(catalogue.resource("NamingSystem", URL).is_none());
    assert!(matches!(
        catalogue.structure_or_reason("http://example.org/broken"),
        Err(FindError::Unreadable { .. })
    ));
    assert!(matches!(
        catalogue.structure_or_reason("http://example.org/nothing"),
        Err(FindError::NotLoaded(_))
    ));
    assert!(Catalogue::new().add_resource("x", b"[1").is_err());
}

fn package(name: &str, version: &str, fhir_version: &str, needs: &[(&str, &str)]) -> Package {
    Package {
        id: PackageId {
            name: name.to_owned(),
            version: version.to_owned(),
            fhir_version: fhir_version.to_owned(),
            licence: "CC0-1.0".to_owned(),
            sha256: String::new(),
        },
        dependencies: needs
            .iter()
            .map(|(name, version)| ((*name).to_owned(), (*version).to_owned()))
            .collect(),
        files: BTreeMap::new(),
    }
}

#[test]
fn what_is_missing_is_said_and_another_fhir_is_refused() {
    let mut catalogue = Catalogue::with_base(Catalogue::r4());
    let guide = package(
        "example.guide",
        "1.0.0",
        "4.0.1",
        &[
            ("hl7.fhir.r4.core", "4.0.1"),
            ("example.a", "1.0.x"),
            ("example.b", "2.0.0"),
        ],
    );
    catalogue.add_package(&guide).unwrap();
    let missing = |it: &Catalogue| -> Vec<String> {
        it.missing_dependencies()
            .map(|it| it.name.clone())
            .collect()
    };
    assert_eq!(missing(&catalogue), ["example.a", "example.b"]);
    catalogue
        .add_package(&package("example.a", "1.0.7", "4.0.1", &[]))
        .unwrap();
    catalogue
        .add_package(&package("example.b", "1.9.0", "4.0.1", &[]))
        .unwrap();
    assert_eq!(missing(&catalogue), ["example.b"]);
    assert_eq!(catalogue.packages().len(), 4);
    assert!(matches!(
        catalogue.add_package(&package("example.r5", "1.0.0", "5.0.0", &[])),
        Err(AddError::OtherFhirVersion { .. })
    ));
}

#[test]
fn a_reference_without_version_stays_in_its_package() {
    let of = |version: &str| {
        let mut it = package("example.guide", version, "4.0.1", &[]);
        for (name, url) in [("a", URL), ("b", "http://example.org/beside")] {
            let text = resource("StructureDefinition", url, Some(version), version);
            it.files
                .insert(format!("{name}.json"), Arc::from(text.as_bytes()));
        }
        it
    };
    let mut catalogue = Catalogue::new();
    for version in ["1.0.0", "2.0.0"] {
        catalogue.add_package(&of(version)).unwrap();
    }
    let old = catalogue
        .structure("http://example.org/beside|1.0.0")
        .unwrap();
    let name = |canonical: &str| {
        catalogue
            .structure_beside(&old, canonical)
            .unwrap()
            .name
            .clone()
    };
    assert_eq!(name(URL), "1.0.0");
    assert_eq!(name(&format!("{URL}|2.0.0")), "2.0.0");
    assert_eq!(catalogue.structure(URL).unwrap().name, "2.0.0");
}

#[test]
fn the_embedded_catalogue_holds_r4() {
    let r4 = Catalogue::r4();
    let observation = r4
        .structure("http://hl7.org/fhir/StructureDefinition/Observation|4.0.1")
        .unwrap();
    assert_eq!(observation.kind, "resource");
    assert!(observation.snapshot.element.len() > 40);
    assert!(
        observation.snapshot.element[0]
            .constraint
            .iter()
            .any(|it| it.key == "obs-6" && !it.human.is_empty())
    );
    // A version that R4's own bindings state, where the package has another one.
    let act = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
    assert!(r4.code_system(act).is_some_and(|it| !it.concept.is_empty()));
    assert_eq!(
        r4.locate("CodeSystem", &format!("{act}|4.0.1"))
            .unwrap()
            .version_match,
        VersionMatch::Other
    );
    for kind in ["StructureDefinition", "ValueSet", "CodeSystem"] {
        for it in r4.resources(kind).step_by(17) {
            let canonical = it.url;
            let is_read = match kind {
                "ValueSet" => r4.value_set(canonical).is_some(),
                "CodeSystem" => r4.code_system(canonical).is_some(),
                _ => r4.structure(canonical).is_some(),
            };
            assert!(is_read, "{canonical}");
        }
    }
}

#[test]
fn damage_is_noticed_and_never_a_panic() {
    let bytes = include_bytes!("../../definitions/r4-catalogue.bin");
    let decode = |bytes: &[u8]| Catalogue::decode(Cow::Owned(bytes.to_vec()));
    assert_eq!(decode(b"something else").unwrap_err(), DecodeError::Magic);
    let mut other = bytes[..64].to_vec();
    other[8] = 99;
    assert_eq!(decode(&other).unwrap_err(), DecodeError::Version(99));
    assert_eq!(
        decode(&bytes[..bytes.len() - 1]).unwrap_err(),
        DecodeError::Damaged
    );
    for at in (16..bytes.len()).step_by(bytes.len() / 8) {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 0xff;
        if let Ok(catalogue) = decode(&flipped) {
            let _ = catalogue.structure("http://hl7.org/fhir/StructureDefinition/Patient");
        }
    }
}
