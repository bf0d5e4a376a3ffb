//! Texts nobody told us about: what goes, by class, and its nearest neighbour that stays.

use super::*;

/// Scrubs with nothing known.
pub(super) fn plain(text: &str) -> String {
    let known = Known::default();
    let scrubber = Scrubber::new(Lexicon::embedded().unwrap(), &known, Settings::default());
    scrubber.scrub(text, &mut Slots::new()).unwrap().text
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(text, expected)| (plain(text), *text, *expected))
        .filter(|(found, _, expected)| found != expected)
        .map(|(found, text, expected)| {
            format!("{text}\n   expected {expected}\n   found    {found}")
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Texts that stay as they are.
#[track_caller]
fn stays(texts: &[&str]) {
    let same: Vec<(&str, &str)> = texts.iter().map(|text| (*text, *text)).collect();
    check(&same);
}

#[test]
fn names() {
    check(&[
        (
            "a 60-year-old female, Maria Gonzalez, with gout",
            "a 60-year-old female, [NAME-1], with gout",
        ),
        ("patient Anna S. has gout", "patient [NAME-1] has gout"),
        ("pt is John D seen today", "pt is [NAME-1] seen today"),
        (
            "discussed with Dr. O'Brien-Smith and Mrs. de la Cruz",
            "discussed with Dr. [NAME-1] and Mrs. [NAME-2]",
        ),
        (
            "Jane A. Doe's daughter agrees",
            "[NAME-1]'s daughter agrees",
        ),
        ("SMITH, JOHN A. was admitted", "[NAME-1] was admitted"),
        (
            "spoke with dr patel about it",
            "spoke with dr [NAME-1] about it",
        ),
        ("his wife Thandiwe called", "his wife [NAME-1] called"),
        (
            "a 40-year-old male, Xolani Mthembu, who smokes",
            "a 40-year-old male, [NAME-1], who smokes",
        ),
        (
            "Electronically signed by Q. Nguyen, MD",
            "Electronically signed by [NAME-1], MD",
        ),
        ("mary johnson reports pain", "[NAME-1] reports pain"),
        ("Name: LEE, MIN-HO   Sex: M", "Name: [NAME-1]   Sex: M"),
        (
            "Mary Johnson came. Johnson reports pain",
            "[NAME-1] came. [NAME-2] reports pain",
        ),
    ]);
    stays(&[
        "Chest X-Ray negative, Modified Rankin 1",
        "positive Chaddock reflex and Parkinson's disease",
        "Foley catheter removed, Graves disease stable",
        "Wells score of 8, Rinne and Weber tests normal",
        "modified Rankin scale and the Ottawa ankle rules",
        "Hashimoto's thyroiditis, Crohn's disease, Guillain-Barré syndrome",
        "Started Lisinopril and Eliquis; E. coli and C. difficile negative",
        "Patient may have pain. Will follow up. Grant application pending.",
        "vitamin D, hepatitis B, stage C, type A",
        "Hispanic female with Framingham Risk Score of 12",
    ]);
}

#[test]
fn places() {
    check(&[
        (
            "seen at St. Mary's Hospital in Miami",
            "seen at [PLACE-1] in [PLACE-2]",
        ),
        ("treated at Elm Clinic", "treated at [PLACE-1]"),
        (
            "admitted to UWMC yesterday",
            "admitted to [PLACE-1] yesterday",
        ),
        ("evaluated at Johns Hopkins", "evaluated at [PLACE-1]"),
        (
            "lives at 123 Maple St, Springfield, IL 62701",
            "lives at [PLACE-1]",
        ),
        ("from Rochester, MN", "from [PLACE-1], MN"),
        ("zip code 94103", "zip code [PLACE-1]"),
        ("our Dallas clinic", "our [PLACE-1]"),
        ("P.O. Box 123", "[PLACE-1]"),
        ("Cook County", "[PLACE-1]"),
        ("at 40.71283, -74.00601", "at [PLACE-1]"),
    ]);
    stays(&[
        "seen at the community clinic and the Diabetes Clinic",
        "admitted to the ICU from the ED",
        "lives in Texas, moved from Canada",
        "Lyme disease, St. Louis encephalitis, West Nile virus",
        "2 mg in 5 St depolarizing doses",
        "Ohio River Valley",
        "tenderness at McBurney's point, murmur at the apex",
    ]);
}

#[test]
fn dates_and_ages() {
    check(&[
        ("on April 12th, 2023", "on [DATE-1]"),
        ("on 2023-04-12 and 4/12/2023", "on [DATE-1] and [DATE-2]"),
        ("on 5th Nov 2020 at 9AM", "on [DATE-1] at 9AM"),
        (
            "Jan 9th '23, 12APR2023, 04/2023",
            "[DATE-1], [DATE-2], [DATE-3]",
        ),
        (
            "seen on 4/12 and in July",
            "seen on [DATE-1] and in [DATE-2]",
        ),
        ("at 2023-04-12T10:30:00Z", "at [DATE-1]"),
        (
            "a 92-year-old, 94yo, aged 91",
            "a [AGE-1], [AGE-2], aged [AGE-3]",
        ),
        ("94/F, 90/M", "[AGE-1]/F, [AGE-2]/M"),
        ("92 F with gout", "[AGE-1] F with gout"),
        ("one hundred and one years old", "[AGE-1]"),
        (
            "given 2023-04-12T08:00, again 2023-04-12T20:00",
            "given [DATE-1], again [DATE-2]",
        ),
        (
            "John Smith was seen last week",
            "[NAME-1] was seen [DATE-1]",
        ),
    ]);
    stays(&[
        "diagnosed in 2021 with 3/5 strength",
        "89-year-old, 90 mg, 92 percent",
        "temp of 101 F with chills, 89/F, 120/60",
        "one hundred and one tablets, ninety years of data",
        "BP 120/80, 1/2 tablet, 0.5-1.5",
        "seen last week, may march on",
        "version 1.2.13 of the 2019 guidelines",
    ]);
}

#[test]
fn numbers_with_and_without_labels() {
    check(&[
        ("(MRN: #SF-998877)", "(MRN: [MRN-1])"),
        ("MRN 123 45 678.", "MRN [MRN-1]."),
        ("medical record 12345-JH", "medical record [MRN-1]"),
        (
            "insurance policy number HP-1234-5678",
            "insurance policy number [PLAN-1]",
        ),
        (
            "his plan includes policy #11223344",
            "his plan includes policy [PLAN-1]",
        ),
        ("License No: CLN-112233", "License No: [LICENSE-1]"),
        (
            "SSN 123-45-6789, call (212) 555-1234",
            "SSN [SSN-1], call [PHONE-1]",
        ),
        (
            "123-45-6789 and 212.555.1234 and +44 20 7946 0958",
            "[SSN-1] and [PHONE-1] and [PHONE-2]",
        ),
        ("fax 212-555-9999", "fax [FAX-1]"),
        ("VIN 1M8GDM9AXKP042788", "VIN [VEHICLE-1]"),
        (
            "NPI 1234567893, DEA AB1234563",
            "NPI [LICENSE-1], DEA [LICENSE-2]",
        ),
        ("serial number SN-88213-X", "serial number [DEVICE-1]"),
        ("(01)00844588003288(17)141120(10)7654321D", "[DEVICE-1]"),
        ("account 4111 1111 1111 1111", "account [ACCOUNT-1]"),
        ("id 550e8400-e29b-41d4-a716-446655440000", "id [ID-1]"),
        ("card ending in 4242", "card ending in [ID-1]"),
        ("username: jdoe", "username: [ID-1]"),
        ("fingerprint ID 88231", "fingerprint ID [BIOMETRIC-1]"),
        (
            "Phone: 555-123-4567/555-765-4321",
            "Phone: [PHONE-1]/[PHONE-2]",
        ),
        ("555-1234/555-4321 today", "[PHONE-1]/[PHONE-2] today"),
        (
            "daughter 5551234567 per chart",
            "daughter [PHONE-1] per chart",
        ),
        ("12345678 M 05/17/1980", "[ID-1] M [DATE-1]"),
    ]);
    stays(&[
        "MRI of 3 cm, HbA1c 7.5%, platelets 150,000",
        "ICD-10 J45.909, CPT 99213, SNOMED 44054006, LOINC 2708-6",
        "HLA-B27, CYP2C19, CA 19-9, IL-6, SARS-CoV-2, H1N1",
        "1200-1500 kcal, 1000000 units, 0.123456789",
        "plan for 2024, case 3, group 2",
        "12345678 cells, 1000000 copies, 150000 per unit, 250000 U",
        "ratio 120/80/60, dose 100-2000 g, 150/200/300 mg",
    ]);
}

#[test]
fn electronic_addresses() {
    check(&[
        ("mail anne.o@med.com.", "mail [EMAIL-1]."),
        (
            "see https://portal.example.org/p/17?x=1 now",
            "see [URL-1] now",
        ),
        (
            "www.example.com and example.com/~ann",
            "[URL-1] and [URL-2]",
        ),
        ("from 192.168.1.17 or 2001:db8::1", "from [IP-1] or [IP-2]"),
        ("ann dot lee at example dot com", "[EMAIL-1]"),
        ("jane.doe[at]gmail.com now", "[EMAIL-1] now"),
        ("jane.doe (at) gmail [dot] com", "[EMAIL-1]"),
        ("host fe80::1 down", "host [IP-1] down"),
        ("on twitter @annlee", "on twitter [URL-1]"),
    ]);
    stays(&[
        "2.5.1.3.7 and 10:30:00",
        "q.d. and b.i.d. and e.g. this",
        "5@6 doses",
        "pain (at rest) and 12::30",
    ]);
}

#[test]
fn what_looks_like_a_slot_becomes_one() {
    assert_eq!(plain("see [NAME-1] and [sic]"), "see [TEXT-1] and [sic]");
    let known = Known::default();
    let scrubber = Scrubber::new(Lexicon::embedded().unwrap(), &known, Settings::default());
    let mut slots = Slots::new();
    let text = "[NAME-7] saw Mary Johnson";
    let scrubbed = scrubber.scrub(text, &mut slots).unwrap().text;
    assert_eq!(slots.resolve(&scrubbed).unwrap(), text);
}

#[test]
fn one_envelope_has_one_slot_for_one_identifier() {
    let known = Known::default();
    let scrubber = Scrubber::new(Lexicon::embedded().unwrap(), &known, Settings::default());
    let mut slots = Slots::new();
    let first = scrubber
        .scrub("Mary Johnson, MRN 998877, 2023-04-12", &mut slots)
        .unwrap()
        .text;
    let second = scrubber
        .scrub("MRN: 99-88-77; MARY JOHNSON; April 12, 2023", &mut slots)
        .unwrap()
        .text;
    assert_eq!(first, "[NAME-1], MRN [MRN-1], [DATE-1]");
    // A slot resolves to one text: another form of the same day has a slot of its own.
    assert_eq!(second, "MRN: [MRN-1]; [NAME-1]; [DATE-2]");
    assert_eq!(
        slots.resolve("[DATE-1] [DATE-2]").unwrap(),
        "2023-04-12 April 12, 2023"
    );
}

#[test]
fn dates_by_use() {
    let known = Known::default();
    let scrubbed = |dates: DateUse| {
        let settings = Settings {
            dates,
            ..Settings::default()
        };
        let scrubber = Scrubber::new(Lexicon::embedded().unwrap(), &known, settings);
        scrubber
            .scrub(
                "91yo, DOB 3/14/1933, seen April 12, 2023",
                &mut Slots::new(),
            )
            .unwrap()
            .text
    };
    assert_eq!(
        scrubbed(DateUse::Keep),
        "91yo, DOB [DATE-1], seen April 12, 2023"
    );
    assert_eq!(
        scrubbed(DateUse::Slot),
        "[AGE-1], DOB [DATE-1], seen [DATE-2]"
    );
    assert_eq!(
        scrubbed(DateUse::Year { as_of: 2024 }),
        "90 or older, DOB [DATE-1], seen 2023"
    );
}

#[test]
fn beyond_its_budget_a_text_is_withheld_whole() {
    let known = Known::default();
    let with = |budget: Budget| {
        let settings = Settings {
            budget,
            ..Settings::default()
        };
        Scrubber::new(Lexicon::embedded().unwrap(), &known, settings)
            .scrub("Mary Johnson, MRN 998877", &mut Slots::new())
    };
    let whole = Budget::default();
    assert!(with(whole).is_ok());
    let short = Budget {
        bytes_max: 10,
        ..whole
    };
    assert_eq!(with(short), Err(Withheld::TooLong { bytes_max: 10 }));
    let poor = Budget {
        steps_max: 60,
        ..whole
    };
    assert_eq!(with(poor), Err(Withheld::OverBudget));
}

#[test]
fn what_is_encoded_is_withheld() {
    let known = Known::default();
    let scrubber = Scrubber::new(Lexicon::embedded().unwrap(), &known, Settings::default());
    let run = "Sm9obiBTbWl0aCwg".repeat(13);
    let note = format!("report <text>{run}</text>");
    assert_eq!(
        scrubber.scrub(&note, &mut Slots::new()),
        Err(Withheld::Unreadable)
    );
    assert!(
        scrubber
            .scrub(&"- - 81 mg Aspirin ".repeat(30), &mut Slots::new())
            .is_ok()
    );
}

#[test]
fn a_finder_adds_what_it_finds_and_its_failure_withholds() {
    struct Fixed(Result<Vec<Entity>, FinderFailed>);
    impl EntityFinder for Fixed {
        fn find(&self, _: &str) -> Result<Vec<Entity>, FinderFailed> {
            self.0.clone()
        }
    }
    let known = Known::default();
    let with = |found| {
        let finder = Fixed(found);
        let scrubber = Scrubber::new(Lexicon::embedded().unwrap(), &known, Settings::default());
        scrubber
            .with_finder(&finder)
            .scrub("the man in é house", &mut Slots::new())
    };
    let entity = |start, end| Entity {
        start,
        end,
        class: Class::Place,
    };
    assert_eq!(
        with(Ok(vec![entity(4, 7)])).unwrap().text,
        "the [PLACE-1] in é house"
    );
    assert_eq!(with(Ok(vec![entity(12, 13)])), Err(Withheld::FinderFailed));
    assert_eq!(with(Ok(vec![entity(4, 400)])), Err(Withheld::FinderFailed));
    assert_eq!(with(Err(FinderFailed)), Err(Withheld::FinderFailed));
}

#[test]
fn nothing_that_is_printed_holds_the_text() {
    let known = Known::default();
    let scrubber = Scrubber::new(Lexicon::embedded().unwrap(), &known, Settings::default());
    let mut slots = Slots::new();
    let scrubbed = scrubber.scrub("Mary Johnson CANARY", &mut slots).unwrap();
    assert!(!format!("{scrubbed:?}{slots:?}{known:?}").contains("CANARY"));
    let found = scrubber.detect("Mary Johnson").unwrap();
    assert_eq!(
        found.iter().map(|it| it.class).collect::<Vec<_>>(),
        [Class::Name]
    );
}

mod forms {
    use super::*;

    /// No input makes the scrubber panic or cut a character, and what it replaced leads back.
    #[test]
    fn odd_texts_pass_through_whole() {
        let mut slots = Slots::new();
        let known = Known::default();
        let scrubber = Scrubber::new(Lexicon::embedded().unwrap(), &known, Settings::default());
        let pieces = [
            "Dr.", "Mary", " ", ",", "12", "/", "-", "é", "\u{200b}", "St.", "Hospital", "@",
            "x.com", "[", "]", "NAME-1", "April", "'23", "#", "(", "+", "of", "MRN", ":", "A1",
            "\n", "🙂", "92", "yo", ".", "at", "the", "J.",
        ];
        let mut state = 7_usize;
        for _ in 0..4_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(state >> 33) % pieces.len()]);
            }
            slots = if slots.len() > 10_000 {
                Slots::new()
            } else {
                slots
            };
            let scrubbed = scrubber.scrub(&text, &mut slots).unwrap();
            for pair in scrubbed.findings.windows(2) {
                assert!(pair[0].end <= pair[1].start, "{text:?}");
            }
        }
    }
}
