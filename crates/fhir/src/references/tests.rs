//! Tests of the compartment check: beside every member, its nearest foreigner.

use serde_json::{Value, json};

use super::*;

const PATIENT: PatientRef<'_> = PatientRef {
    id: "p1",
    base_url: "https://ehr.example/fhir",
};

fn membership(resource: &Value) -> Membership {
    in_patient_compartment(Definitions::r4(), resource, &PATIENT)
}

fn foreign(path: &str) -> Membership {
    Membership::Foreign {
        path: path.to_owned(),
    }
}

#[test]
fn forms_of_the_same_patient_are_members_and_near_misses_are_not() {
    let observation = |reference: &str| json!({"resourceType": "Observation", "subject": {"reference": reference}});
    for reference in [
        "Patient/p1",
        "Patient/p1/_history/3",
        "https://ehr.example/fhir/Patient/p1",
        "HTTPS://EHR.example/fhir/Patient/p1/_history/2",
    ] {
        assert_eq!(
            membership(&observation(reference)),
            Membership::Member,
            "{reference}"
        );
    }
    for reference in [
        "Patient/p2",
        "Patient/P1",
        "patient/p1",
        "Patient/p1/",
        "/Patient/p1",
        "Patient/p1?x=y",
        "Patient?identifier=p1",
        "Patient/p1/_history/",
        "https://ehr.example/Patient/p1",
        "https://ehr.example/FHIR/Patient/p1",
        "https://ehr.example.evil/fhir/Patient/p1",
        "https://evil.example/fhir/Patient/p1",
        "http://ehr.example/fhir/Patient/p1",
        "urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7",
        "#p1",
        "Unknown/p1",
        "",
    ] {
        assert_eq!(
            membership(&observation(reference)),
            foreign("subject"),
            "{reference}"
        );
    }
    assert_eq!(membership(&observation("Group/g")), Membership::NoPatient);
    assert_eq!(
        membership(&json!({"resourceType": "Observation"})),
        Membership::NoPatient
    );
    assert_eq!(
        membership(
            &json!({"resourceType": "Observation", "subject": {"identifier": {"value": "x"}}})
        ),
        foreign("subject")
    );
    assert_eq!(
        membership(&json!({"resourceType": "Observation", "subject": "Patient/p1"})),
        foreign("subject")
    );
    assert_eq!(
        membership(&json!({"resourceType": "Observation", "subject": {"reference": 1}})),
        foreign("subject")
    );
}

#[test]
fn a_second_patient_anywhere_in_a_linking_element_makes_foreign() {
    let appointment = |second: &str| {
        json!({"resourceType": "Appointment", "participant": [
            {"actor": {"reference": "Practitioner/d"}}, {"actor": {"reference": "Patient/p1"}}, {"actor": {"reference": second}}
        ]})
    };
    assert_eq!(membership(&appointment("Location/l")), Membership::Member);
    assert_eq!(
        membership(&appointment("Patient/p2")),
        foreign("participant[2].actor")
    );
    let performer = json!({"resourceType": "Observation", "subject": {"reference": "Patient/p1"},
        "performer": [{"reference": "Patient/p2"}]});
    assert_eq!(membership(&performer), foreign("performer[0]"));
    let by_identifier = json!({"resourceType": "Observation", "subject": {"reference": "Patient/p1"},
        "performer": [{"identifier": {"system": "http://hl7.org/fhir/sid/us-npi", "value": "1"}}]});
    assert_eq!(membership(&by_identifier), Membership::Member);
    let by_identifier = json!({"resourceType": "Observation", "subject": {"reference": "Patient/p1"},
        "performer": [{"type": "Patient", "identifier": {"value": "1"}}]});
    assert_eq!(membership(&by_identifier), foreign("performer[0]"));
}

#[test]
fn contained_patients_are_smuggled() {
    let with = |contained: Value, subject: &str| json!({"resourceType": "Observation", "contained": [contained], "subject": {"reference": subject}});
    let smuggled = json!({"resourceType": "Patient", "id": "c"});
    assert_eq!(
        membership(&with(smuggled.clone(), "#c")),
        foreign("contained[0]")
    );
    assert_eq!(
        membership(&with(smuggled, "Patient/p1")),
        foreign("contained[0]")
    );
    let device = json!({"resourceType": "Device", "id": "c"});
    assert_eq!(
        membership(&with(device.clone(), "Patient/p1")),
        Membership::Member
    );
    assert_eq!(membership(&with(device, "#c")), Membership::NoPatient);
    let foreign_device =
        json!({"resourceType": "Device", "id": "c", "patient": {"reference": "Patient/p2"}});
    assert_eq!(
        membership(&with(foreign_device, "Patient/p1")),
        foreign("contained[0].patient")
    );
    assert_eq!(
        membership(&with(json!({"resourceType": "Device", "id": "d"}), "#c")),
        foreign("subject")
    );
}

#[test]
fn the_patient_itself_by_id_and_what_the_compartment_forgets() {
    assert_eq!(
        membership(&json!({"resourceType": "Patient", "id": "p1"})),
        Membership::Member
    );
    assert_eq!(
        membership(&json!({"resourceType": "Patient", "id": "p2"})),
        foreign("id")
    );
    assert_eq!(
        membership(&json!({"resourceType": "Patient"})),
        foreign("id")
    );
    assert_eq!(
        membership(&json!({"resourceType": "Task", "for": {"reference": "Patient/p1"}})),
        Membership::Member
    );
    assert_eq!(
        membership(&json!({"resourceType": "Task", "for": {"reference": "Patient/p2"}})),
        foreign("for")
    );
    assert_eq!(
        membership(&json!({"resourceType": "Bundle", "type": "searchset"})),
        foreign("resourceType")
    );
    assert_eq!(
        membership(&json!({"resourceType": "Nothing"})),
        foreign("resourceType")
    );
    assert_eq!(membership(&json!([])), foreign("resourceType"));
    assert_eq!(
        membership(&json!({"resourceType": "Organization", "id": "o"})),
        Membership::NoPatient
    );
}

#[test]
fn collects_references_everywhere() {
    let resource = json!({"resourceType": "Observation", "id": "o",
        "contained": [{"resourceType": "Device", "id": "d", "owner": {"reference": "Organization/o"}}],
        "extension": [{"url": "http://x.example/e", "valueReference": {"reference": "Patient/p2"}}],
        "subject": {"reference": "Patient/p1"},
        "performer": [{"reference": "Practitioner/1"}, {"display": "nobody"}]});
    let found: Vec<_> = references(&resource)
        .into_iter()
        .map(|it| format!("{} {}", it.path, it.reference))
        .collect();
    assert_eq!(
        found,
        [
            "contained[0].owner Organization/o",
            "extension[0].valueReference Patient/p2",
            "subject Patient/p1",
            "performer[0] Practitioner/1"
        ]
    );
    let links: Vec<_> = patient_references(Definitions::r4(), &resource)
        .into_iter()
        .map(|it| (it.path, it.kind))
        .collect();
    assert_eq!(
        links,
        [
            ("performer[0]".to_owned(), Some(LinkKind::Participant)),
            ("performer[1]".to_owned(), Some(LinkKind::Participant)),
            ("subject".to_owned(), Some(LinkKind::Subject)),
            ("extension[0].valueReference".to_owned(), None),
        ]
    );
    // The extension is no linking element, so the resource can be read; a write must not carry it.
    assert_eq!(membership(&resource), Membership::Member);
    assert_eq!(
        stray_references(Definitions::r4(), &resource, &PATIENT),
        ["extension[0].valueReference"]
    );
}

#[test]
fn stray_references_of_a_write() {
    let stray = |resource: Value| stray_references(Definitions::r4(), &resource, &PATIENT);
    let clean = json!({"resourceType": "Observation", "subject": {"reference": "Patient/p1"},
        "encounter": {"reference": "Encounter/e"}, "performer": [{"reference": "https://ehr.example/fhir/Practitioner/1"}]});
    assert!(stray(clean).is_empty());
    for (resource, path) in [
        (
            json!({"resourceType": "Observation", "focus": [{"reference": "Patient/p2"}]}),
            "focus[0]",
        ),
        (
            json!({"resourceType": "Observation", "encounter": {"reference": "https://evil.example/Encounter/e"}}),
            "encounter",
        ),
        (
            json!({"resourceType": "Observation", "encounter": {"reference": "urn:uuid:x"}}),
            "encounter",
        ),
        (
            json!({"resourceType": "Observation", "subject": {"identifier": {"value": "1"}}}),
            "subject",
        ),
        (
            json!({"resourceType": "Observation", "contained": [{"resourceType": "Patient", "id": "x"}]}),
            "contained[0]",
        ),
    ] {
        assert_eq!(stray(resource), [path]);
    }
}

#[test]
fn every_compartment_path_leads_to_a_reference() {
    let definitions = Definitions::r4();
    let mut types = 0;
    for type_name in definitions.resource_types() {
        let index = definitions.resource_index(type_name).unwrap();
        let links: Vec<_> = definitions.compartment_links(index).collect();
        types += usize::from(!links.is_empty());
        for link in links {
            let path = definitions.text(link.path);
            let info = definitions.element_type(type_name, path).unwrap();
            assert!(
                info.types.iter().any(|it| it.code == "Reference"),
                "{type_name}.{path}"
            );
        }
    }
    // 66 types of the compartment definition, and those with a subject that it leaves out.
    assert!(types >= 66, "{types}");
}
