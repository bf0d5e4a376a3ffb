//! Tests of the rules on Bundles: every rule broken once, beside what is right.

use super::*;
use crate::json::JsonLimits;

fn found(text: &str) -> Vec<String> {
    let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
    check(Definitions::r4(), &document, 100)
        .into_iter()
        .map(|it| {
            let key = it.details.and_then(|it| it.constraint).unwrap_or_default();
            format!("{} {} {} {key}", it.severity.code(), it.id, it.expression)
                .trim_end()
                .to_owned()
        })
        .collect()
}

fn bundle(of: &str, entries: &[&str]) -> String {
    format!(
        r#"{{"resourceType":"Bundle","type":"{of}","entry":[{}]}}"#,
        entries.join(",")
    )
}

/// A document with this Composition content and these further entries.
fn a_document(composition: &str, entries: &[&str]) -> String {
    let head = format!(
        r#"{{"fullUrl":"http://e.org/Composition/c","resource":{{"resourceType":"Composition","id":"c"{composition}}}}}"#
    );
    format!(
        r#"{{"resourceType":"Bundle","type":"document","timestamp":"2026-01-01T00:00:00Z","identifier":{{"system":"urn:ietf:rfc:3986","value":"urn:uuid:1"}},"entry":[{}]}}"#,
        std::iter::once(head.as_str())
            .chain(entries.iter().copied())
            .collect::<Vec<_>>()
            .join(",")
    )
}

const PATIENT: &str =
    r#"{"fullUrl":"http://e.org/Patient/p","resource":{"resourceType":"Patient","id":"p"}}"#;
const SUBJECT: &str = r#","subject":{"reference":"Patient/p"}"#;

fn request(method: &str, url: &str, resource: &str) -> String {
    format!(r#"{{{resource}"request":{{"method":"{method}","url":"{url}"}}}}"#)
}

const A_PATIENT: &str = r#""resource":{"resourceType":"Patient","id":"p"},"#;

#[test]
fn every_rule_is_kept_by_one_and_broken_by_the_other() {
    let collection = |entries: &[&str]| bundle("collection", entries);
    let transaction = |method: &str, url: &str, resource: &str| {
        bundle("transaction", &[&request(method, url, resource)])
    };
    let search = |entry: &str| {
        format!(
            r#"{{"resourceType":"Bundle","type":"searchset","link":[{{"relation":"self","url":"http://e.org/Patient?name=a"}}],"entry":[{entry}]}}"#
        )
    };
    let patient_at = |url: &str| {
        format!(r#"{{"fullUrl":"{url}","resource":{{"resourceType":"Patient","id":"p"}}}}"#)
    };
    for (wrong, right, expected) in [
        (
            r#"{"resourceType":"Bundle","type":"batch","total":1}"#.to_owned(),
            r#"{"resourceType":"Bundle","type":"history","total":1}"#.to_owned(),
            vec!["error bundle.invariant Bundle.total bdl-1"],
        ),
        (
            collection(&[&PATIENT.replacen('{', r#"{"search":{"mode":"match"},"#, 1)]),
            search(&PATIENT.replacen('{', r#"{"search":{"mode":"match"},"#, 1)),
            vec!["error bundle.invariant Bundle.entry[0].search bdl-2"],
        ),
        (
            bundle("batch", &[r#"{"resource":{"resourceType":"Patient"}}"#]),
            bundle(
                "batch",
                &[&request(
                    "POST",
                    "Patient",
                    r#""resource":{"resourceType":"Patient"},"#,
                )],
            ),
            vec!["error bundle.invariant Bundle.entry[0] bdl-3"],
        ),
        (
            bundle(
                "batch-response",
                &[r#"{"resource":{"resourceType":"Patient"}}"#],
            ),
            bundle("batch-response", &[r#"{"response":{"status":"201"}}"#]),
            vec!["error bundle.invariant Bundle.entry[0] bdl-4"],
        ),
        (
            collection(&[r#"{"fullUrl":"urn:uuid:1"}"#]),
            collection(&[PATIENT]),
            vec!["error bundle.invariant Bundle.entry[0] bdl-5"],
        ),
        (
            collection(&[PATIENT, PATIENT]),
            collection(&[
                &PATIENT.replace(r#""id":"p""#, r#""id":"p","meta":{"versionId":"1"}"#),
                &PATIENT.replace(r#""id":"p""#, r#""id":"p","meta":{"versionId":"2"}"#),
            ]),
            vec!["error bundle.invariant Bundle.entry[1].fullUrl bdl-7"],
        ),
        (
            collection(&[&patient_at("http://e.org/Patient/p/_history/1")]),
            collection(&[PATIENT]),
            vec!["error bundle.invariant Bundle.entry[0].fullUrl bdl-8"],
        ),
        (
            collection(&[&patient_at("Patient/p")]),
            collection(&[&patient_at("urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7")]),
            vec!["error bundle.full-url Bundle.entry[0].fullUrl"],
        ),
        (
            collection(&[r#"{"resource":{"resourceType":"Patient","id":"p"}}"#]),
            collection(&[PATIENT]),
            vec!["error bundle.full-url Bundle.entry[0]"],
        ),
        (
            collection(&[&patient_at("http://e.org/Patient/q")]),
            collection(&[PATIENT]),
            vec!["error bundle.full-url-id Bundle.entry[0].fullUrl"],
        ),
        (
            collection(&[&patient_at("http://e.org/Group/p")]),
            collection(&[&patient_at("http://e.org/x?id=p")]),
            vec!["error bundle.full-url-id Bundle.entry[0].fullUrl"],
        ),
        // Search results.
        (
            search(
                r#"{"fullUrl":"http://e.org/Patient/p","resource":{"resourceType":"Patient","id":"p"},"search":{"mode":"outcome"}}"#,
            ),
            search(
                r#"{"fullUrl":"urn:uuid:1","resource":{"resourceType":"OperationOutcome"},"search":{"mode":"outcome"}}"#,
            ),
            vec!["error bundle.search Bundle.entry[0].resource"],
        ),
        (
            search(r#"{"fullUrl":"http://e.org/Patient/p","resource":{"resourceType":"Patient"}}"#),
            search(PATIENT),
            vec!["error bundle.search Bundle.entry[0].resource"],
        ),
        (
            search(
                r#"{"fullUrl":"http://e.org/Group/g","resource":{"resourceType":"Group","id":"g"},"search":{"mode":"match"}}"#,
            ),
            search(
                r#"{"fullUrl":"http://e.org/Group/g","resource":{"resourceType":"Group","id":"g"},"search":{"mode":"include"}}"#,
            ),
            vec!["error bundle.search Bundle.entry[0].resource"],
        ),
        // Requests.
        (
            transaction("POST", "Group", A_PATIENT),
            transaction("POST", "Patient", A_PATIENT),
            vec!["error bundle.request Bundle.entry[0].request"],
        ),
        (
            transaction("POST", "Patient/p", A_PATIENT),
            transaction("POST", "Patient/$match", A_PATIENT),
            vec!["error bundle.request Bundle.entry[0].request"],
        ),
        (
            transaction("POST", "Patient", ""),
            transaction("POST", "Patient/_search", ""),
            vec!["error bundle.request Bundle.entry[0].request"],
        ),
        (
            transaction("PUT", "Patient/q", A_PATIENT),
            transaction("PUT", "Patient/p", A_PATIENT),
            vec!["error bundle.request Bundle.entry[0].resource"],
        ),
        (
            transaction("PUT", "Patient", A_PATIENT),
            transaction(
                "PUT",
                "Patient?identifier=a|b",
                r#""resource":{"resourceType":"Patient"},"#,
            ),
            vec!["error bundle.request Bundle.entry[0].request"],
        ),
        (
            transaction("PUT", "Group/p", A_PATIENT),
            transaction("PUT", "http://e.org/fhir/Patient/p", A_PATIENT),
            vec!["error bundle.request Bundle.entry[0].request"],
        ),
        (
            transaction("DELETE", "Patient", ""),
            transaction("DELETE", "Patient/p", ""),
            vec!["error bundle.request Bundle.entry[0].request"],
        ),
        (
            transaction("GET", "Patients/p", ""),
            transaction("GET", "Patient/p/_history/1", ""),
            vec!["error bundle.request Bundle.entry[0].request"],
        ),
        (
            bundle(
                "transaction",
                &[
                    &request("PUT", "Patient/p", A_PATIENT),
                    &request("DELETE", "Patient/p", ""),
                ],
            ),
            bundle(
                "batch",
                &[
                    &request("PUT", "Patient/p", A_PATIENT),
                    &request("DELETE", "Patient/p", ""),
                ],
            ),
            vec!["error bundle.request Bundle.entry[1].request"],
        ),
        // Documents and messages.
        (
            a_document("", &[]).replace(r#""system":"urn:ietf:rfc:3986","#, ""),
            a_document("", &[]),
            vec!["error bundle.invariant Bundle bdl-9"],
        ),
        (
            a_document("", &[]).replace(r#""timestamp":"2026-01-01T00:00:00Z","#, ""),
            a_document("", &[]),
            vec!["error bundle.invariant Bundle bdl-10"],
        ),
        (
            a_document("", &[]).replace("Composition", "List"),
            a_document("", &[]),
            vec!["error bundle.invariant Bundle bdl-11"],
        ),
        (
            bundle("message", &[PATIENT]),
            bundle(
                "message",
                &[r#"{"fullUrl":"urn:uuid:1","resource":{"resourceType":"MessageHeader"}}"#],
            ),
            vec!["error bundle.invariant Bundle bdl-12"],
        ),
        (
            a_document(r#","subject":{"reference":"Patient/q"}"#, &[]),
            a_document(SUBJECT, &[PATIENT]),
            vec!["error bundle.reference-missing Bundle.entry[0].resource.subject"],
        ),
        (
            a_document(
                r#","section":[{"section":[{"entry":[{"reference":"Patient/p/_history/3"}]}]}]"#,
                &[PATIENT],
            ),
            a_document(
                r#","section":[{"section":[{"entry":[{"reference":"Patient/p/_history/3"}]}]}]"#,
                &[&PATIENT.replace(r#""id":"p""#, r#""id":"p","meta":{"versionId":"3"}"#)],
            ),
            vec![
                "error bundle.reference-missing Bundle.entry[0].resource.section[0].section[0].entry[0]",
                "warning bundle.reference-near Bundle.entry[0].resource",
            ],
        ),
        (
            a_document("", &[PATIENT]),
            a_document(
                r#","extension":[{"url":"http://e.org/x","valueReference":{"reference":"http://e.org/Patient/p"}}]"#,
                &[PATIENT],
            ),
            vec!["error bundle.unreachable Bundle.entry[1]"],
        ),
        (
            a_document(
                "",
                &[
                    r#"{"fullUrl":"http://e.org/List/l","resource":{"resourceType":"List","id":"l","subject":{"reference":"Composition/c"}}}"#,
                ],
            ),
            a_document(
                "",
                &[
                    r#"{"fullUrl":"http://e.org/Provenance/l","resource":{"resourceType":"Provenance","id":"l","target":[{"reference":"Composition/c"}]}}"#,
                ],
            ),
            vec!["warning bundle.unreachable Bundle.entry[1]"],
        ),
        (
            bundle(
                "message",
                &[
                    r#"{"fullUrl":"http://e.org/MessageHeader/m","resource":{"resourceType":"MessageHeader","id":"m","focus":[{"reference":"Patient/q"}]}}"#,
                ],
            ),
            bundle(
                "message",
                &[
                    r#"{"fullUrl":"http://e.org/MessageHeader/m","resource":{"resourceType":"MessageHeader","id":"m","focus":[{"reference":"Patient/p"}]}}"#,
                    PATIENT,
                ],
            ),
            vec!["error bundle.reference-missing Bundle.entry[0].resource.focus[0]"],
        ),
        // References within.
        (
            collection(&[
                r#"{"fullUrl":"urn:uuid:1","resource":{"resourceType":"List","subject":{"reference":"urn:uuid:2"}}}"#,
                &patient_at("urn:uuid:3"),
            ]),
            collection(&[
                r#"{"fullUrl":"urn:uuid:1","resource":{"resourceType":"List","subject":{"reference":"urn:uuid:3"}}}"#,
                &patient_at("urn:uuid:3"),
            ]),
            vec!["warning bundle.reference-urn Bundle.entry[0].resource"],
        ),
        (
            collection(&[
                r#"{"fullUrl":"http://f.org/List/l","resource":{"resourceType":"List","id":"l","subject":{"reference":"Patient/p"}}}"#,
                PATIENT,
            ]),
            collection(&[
                r#"{"fullUrl":"http://e.org/List/l","resource":{"resourceType":"List","id":"l","subject":{"reference":"Patient/p"}}}"#,
                PATIENT,
            ]),
            vec!["warning bundle.reference-near Bundle.entry[0].resource"],
        ),
        // Bundles within Bundles.
        (
            collection(&[&format!(
                r#"{{"fullUrl":"urn:uuid:1","resource":{}}}"#,
                bundle("message", &[PATIENT])
            )]),
            collection(&[&format!(
                r#"{{"fullUrl":"urn:uuid:1","resource":{}}}"#,
                collection(&[PATIENT])
            )]),
            vec!["error bundle.invariant Bundle.entry[0].resource bdl-12"],
        ),
    ] {
        assert_eq!(found(&wrong), expected, "{wrong}");
        assert_eq!(found(&right), Vec::<String>::new(), "{right}");
    }
}

#[test]
fn references_resolve_by_the_url_of_the_entry() {
    let text = bundle(
        "collection",
        &[
            PATIENT,
            r#"{"fullUrl":"urn:uuid:a","resource":{"resourceType":"List","id":"x"}}"#,
            r#"{"fullUrl":"urn:uuid:b","resource":{"resourceType":"List","id":"y"}}"#,
            r#"{"fullUrl":"urn:uuid:b","resource":{"resourceType":"List","id":"y"}}"#,
        ],
    );
    let document = Document::parse(text.as_bytes(), &JsonLimits::default()).unwrap();
    let index = Index::new(document.root());
    for (from, reference, expected) in [
        (0, "Patient/p", Resolution::Entry(0)),
        (0, "http://e.org/Patient/p", Resolution::Entry(0)),
        (1, "http://e.org/Patient/p", Resolution::Entry(0)),
        (1, "Patient/p", Resolution::OnlyTypeAndId(0)),
        (2, "List/a", Resolution::Entry(1)),
        (0, "urn:uuid:a", Resolution::Entry(1)),
        (0, "urn:uuid:a#part", Resolution::Entry(1)),
        (0, "urn:uuid:b", Resolution::Ambiguous(2)),
        (0, "http://f.org/Patient/p", Resolution::Nothing),
        (0, "Patient/q", Resolution::Nothing),
        (0, "#p", Resolution::Nothing),
        (9, "Patient/p", Resolution::OnlyTypeAndId(0)),
    ] {
        let url = index.entry(from).and_then(|it| it.full_url);
        assert_eq!(
            index.resolve(url, reference),
            expected,
            "{from} {reference}"
        );
    }
}
