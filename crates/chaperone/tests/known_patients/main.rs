//! Notes about synthetic patients that mention their identifiers in more than ten ways: none is left in what an
//! agent would see: in what the scrubber gives back, and in what an engine answers. The demo's patients always; forty
//! records of others where they lie beside this repository. The look for leftovers shares no code with the scrubber.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason
)]

mod agent_view;

use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chaperone_phi::deidentify::safe_harbor;
use chaperone_phi::scrub::{Known, Lexicon, Scrubber, Settings, Slots};
use serde_json::{Value, json};

/// Entries of a record that are scrubbed as such; those behind them repeat their kinds.
const ENTRIES_MAX: usize = 40;

/// What a note can say about a patient.
struct Person {
    given: String,
    family: String,
    phone: Option<String>,
    email: Option<String>,
    street: Option<String>,
    city: Option<String>,
    zip: Option<String>,
    birth: String,
    numbers: Vec<String>,
}

impl Person {
    fn of(record: &Value) -> Self {
        let patient = record["entry"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| &entry["resource"])
            .find(|resource| resource["resourceType"] == "Patient")
            .unwrap();
        let text = |pointer: &str| {
            patient
                .pointer(pointer)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let telecom = |system: &str| {
            let points = patient["telecom"].as_array().cloned().unwrap_or_default();
            points
                .iter()
                .find(|point| point["system"] == system)
                .map(|point| point["value"].as_str().unwrap().to_owned())
        };
        Self {
            given: text("/name/0/given/0").unwrap(),
            family: text("/name/0/family").unwrap(),
            phone: telecom("phone"),
            email: telecom("email"),
            street: text("/address/0/line/0"),
            city: text("/address/0/city"),
            zip: text("/address/0/postalCode"),
            birth: text("/birthDate").unwrap(),
            numbers: patient["identifier"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| it["value"].as_str().unwrap().to_owned())
                .collect(),
        }
    }

    /// More than ten ways to mention them.
    fn notes(&self) -> Vec<String> {
        let (given, family) = (&self.given, &self.family);
        let upper = |text: &str| text.to_uppercase();
        let lower = |text: &str| text.to_lowercase();
        let [year, month, day] = self.birth.split('-').collect::<Vec<_>>()[..] else {
            panic!("a birth date has three parts");
        };
        let month_name = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ][month.parse::<usize>().unwrap() - 1];
        let mut notes = vec![
            format!("{given} {family} was seen today."),
            format!("{}, {} presents with cough.", upper(family), upper(given)),
            format!("{family}, {given}: stable"),
            format!("Mr./Ms. {family}'s glucose is 140; {family}\u{2019}s wife agrees."),
            format!("{} {} called twice", lower(given), lower(family)),
            format!(
                "Discussed with {}. {family} and {given} {}.",
                first(given),
                first(family)
            ),
            format!("{given}-{family}, {given}_{family}.pdf, {given}{family}@mail.example"),
            format!(
                "DOB {month}/{day}/{year}; born {month_name} {}, {year}; {year}{month}{day}",
                day.trim_start_matches('0')
            ),
            format!(
                "d.o.b. {day} {} {year}, {month}-{day}-{}",
                &month_name[..3],
                &year[2..]
            ),
        ];
        for number in &self.numbers {
            let bare: String = number.chars().filter(|c| c.is_alphanumeric()).collect();
            notes.push(format!(
                "MRN: {number}; record {}; (#{})",
                bare,
                upper(&bare)
            ));
        }
        if let Some(phone) = &self.phone {
            let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
            let national = &digits[digits.len().saturating_sub(10)..];
            notes.push(format!(
                "call {phone} or {national} or ({}) {}-{} or +1 {}.{}.{}",
                &national[..3],
                &national[3..6],
                &national[6..],
                &national[..3],
                &national[3..6],
                &national[6..]
            ));
        }
        if let Some(email) = &self.email {
            notes.push(format!("mail {email}, {}", upper(email)));
        }
        if let (Some(street), Some(city)) = (&self.street, &self.city) {
            notes.push(format!(
                "lives at {street}, {city} {}",
                self.zip.as_deref().unwrap_or("")
            ));
            notes.push(format!("moved from {} in {}", upper(street), upper(city)));
        }
        notes
    }

    /// What must not be in any output, in plain form: letters and digits of each part.
    fn parts(&self) -> Vec<String> {
        let mut parts: Vec<String> = vec![plain(&self.given), plain(&self.family)];
        parts.extend(self.numbers.iter().map(|it| plain(it)));
        parts.extend(self.phone.iter().map(|it| plain(it)));
        parts.extend(self.email.iter().map(|it| plain(it)));
        parts.extend(self.city.iter().map(|it| plain(it)));
        let named = self
            .street
            .iter()
            .flat_map(|it| it.split_whitespace().skip(1).take(1).map(plain));
        parts.extend(named);
        // The year alone, and the whole day as it is written forwards and as Americans write it.
        parts.extend(self.birth.split('-').next().map(str::to_owned));
        parts.push(plain(&self.birth));
        let (year, day) = self.birth.split_once('-').unwrap();
        parts.push(plain(&format!("{day}{year}")));
        parts.retain(|part| part.len() >= 3);
        parts
    }
}

fn first(text: &str) -> char {
    text.chars().next().unwrap()
}

fn plain(text: &str) -> String {
    text.to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric())
        .collect()
}

/// A text without its slots, in plain form, and its words.
fn leftovers(text: &str) -> (String, Vec<String>) {
    let mut bare = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '[' => depth += 1,
            ']' if depth > 0 => {
                depth -= 1;
                bare.push(' ');
            }
            _ if depth == 0 => bare.push(c),
            _ => {}
        }
    }
    let words = bare
        .split(|c: char| !c.is_alphanumeric())
        .map(plain)
        .filter(|word| !word.is_empty())
        .collect();
    (plain(&bare), words)
}

#[track_caller]
fn check(record: &Value) -> usize {
    let lexicon = Lexicon::embedded().unwrap();
    let known = Known::of_resources(lexicon, [record]).unwrap();
    let scrubber = Scrubber::new(lexicon, &known, Settings::default());
    let person = Person::of(record);
    let notes = person.notes();
    assert!(notes.len() > 10);
    let mut slots = Slots::new();
    let look = |scrubbed: &str| look_at(&person, scrubbed, true);
    for note in &notes {
        let scrubbed = scrubber.scrub(note, &mut slots).unwrap().text;
        look(&scrubbed);
        // The same inside an attachment, and as a file's name.
        let document = json!({
            "resourceType": "DocumentReference",
            "content": [{ "attachment": { "contentType": "text/plain", "data": STANDARD.encode(note), "title": format!("{} {}.txt", person.family, person.given) } }]
        });
        let scrubbed = scrubber
            .scrub_resource(&document, &mut slots)
            .unwrap()
            .value;
        let attachment = &scrubbed["content"][0]["attachment"];
        let data = STANDARD
            .decode(attachment["data"].as_str().unwrap())
            .unwrap();
        look(&String::from_utf8(data).unwrap());
        look(attachment["title"].as_str().unwrap());
    }
    // The record itself, as far as it repeats nothing: every string of its first resources.
    for entry in record["entry"].as_array().unwrap().iter().take(ENTRIES_MAX) {
        let scrubbed = scrubber
            .scrub_resource(&entry["resource"], &mut slots)
            .unwrap()
            .value;
        strings(&scrubbed, &mut |text| look_at(&person, text, false));
    }
    let mut short = record.clone();
    short["entry"].as_array_mut().unwrap().truncate(ENTRIES_MAX);
    let copy = safe_harbor(lexicon, &short, 2026).unwrap();
    strings(&copy.value, &mut |text| look_at(&person, text, false));
    notes.len()
}

/// Looks for what is left. Years and other short numbers stand in codes and in copies, where they may stay.
#[track_caller]
fn look_at(person: &Person, scrubbed: &str, with_short_numbers: bool) {
    let (joined, words) = leftovers(scrubbed);
    for part in person.parts() {
        if !with_short_numbers && part.len() <= 4 && part.bytes().all(|c| c.is_ascii_digit()) {
            continue;
        }
        let is_left = words.contains(&part) || (part.len() >= 5 && joined.contains(&part));
        assert!(!is_left, "`{part}` is left in\n{scrubbed}");
    }
}

fn strings(value: &Value, look: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => look(text),
        Value::Array(items) => items.iter().for_each(|it| strings(it, look)),
        Value::Object(object) => {
            // A state may stay, also where a city has its name.
            let kept = object
                .iter()
                .filter(|(key, _)| !matches!(key.as_str(), "state" | "country"));
            kept.for_each(|(_, it)| strings(it, look));
        }
        _ => {}
    }
}

/// Forty patients of the demo.
fn demo_records() -> Vec<Value> {
    let now = "2026-03-02T15:00:00Z".parse().unwrap();
    chaperone_sandbox::synthetic::patients(1, 40, now)
}

/// Forty records of others; `None` where they are not.
fn records_of_others() -> Option<Vec<Value>> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/synthea-r4-40.tar.gz");
    let Ok(file) = std::fs::File::open(file) else {
        println!("skipped: the forty records are not here");
        return None;
    };
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let mut records = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut text = String::new();
        entry.unwrap().read_to_string(&mut text).unwrap();
        if let Ok(record) = serde_json::from_str::<Value>(&text)
            && record["resourceType"] == "Bundle"
        {
            records.push(record);
        }
    }
    assert_eq!(records.len(), 40);
    Some(records)
}

#[test]
fn nothing_of_the_demo_patients_is_left() {
    let records = demo_records();
    let notes: usize = records.iter().map(check).sum();
    println!("{} patients, {notes} notes", records.len());
}

#[test]
fn nothing_of_forty_records_of_others_is_left() {
    let Some(records) = records_of_others() else {
        return;
    };
    let notes: usize = records.iter().map(check).sum();
    println!("{} records, {notes} notes", records.len());
}
