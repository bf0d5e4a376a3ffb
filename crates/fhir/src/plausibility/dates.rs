//! Rules D-01 to D-08: dates against the patient's life, against now, and against each other.
//!
//! Only certain contradictions count; see [`super::moment`]. Whether a date has the right format is the
//! structural check's business. Start at [`Checking::dates`].

use super::element::{self, each, text, walk};
use super::moment::{Precision, When, age_years, hours_from, is_in_gap, months_from};
use super::prose;
use super::{Checking, Deceased, Observed, Part, rule};

/// What a date says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// When it happened to the patient.
    Event,
    /// When it was written down; it may be after death.
    Recorded,
    /// When it is to happen.
    Scheduled,
}

/// Dates of the resource types, as dotted paths; lists are followed.
///
/// # Source
/// FHIR R4, the date elements of each type by their definitions.
const DATES: &[(&str, &[(&str, Role)])] = {
    use Role::{Event, Recorded, Scheduled};
    &[
        (
            "AllergyIntolerance",
            &[
                ("onsetDateTime", Event),
                ("onsetPeriod.start", Event),
                ("lastOccurrence", Event),
                ("recordedDate", Recorded),
            ],
        ),
        (
            "Appointment",
            &[("start", Scheduled), ("created", Recorded)],
        ),
        ("CarePlan", &[("created", Recorded)]),
        (
            "Claim",
            &[
                ("billablePeriod.start", Event),
                ("billablePeriod.end", Event),
                ("item.servicedDate", Event),
                ("item.servicedPeriod.start", Event),
                ("created", Recorded),
            ],
        ),
        (
            "Communication",
            &[("sent", Recorded), ("received", Recorded)],
        ),
        (
            "CommunicationRequest",
            &[
                ("occurrenceDateTime", Scheduled),
                ("occurrencePeriod.start", Scheduled),
                ("authoredOn", Recorded),
            ],
        ),
        ("Composition", &[("date", Recorded)]),
        (
            "Condition",
            &[
                ("onsetDateTime", Event),
                ("onsetPeriod.start", Event),
                ("abatementDateTime", Event),
                ("recordedDate", Recorded),
            ],
        ),
        ("Consent", &[("dateTime", Recorded)]),
        ("DetectedIssue", &[("identifiedDateTime", Recorded)]),
        (
            "DiagnosticReport",
            &[
                ("effectiveDateTime", Event),
                ("effectivePeriod.start", Event),
                ("effectivePeriod.end", Event),
                ("issued", Recorded),
            ],
        ),
        (
            "DocumentReference",
            &[("context.period.start", Event), ("date", Recorded)],
        ),
        (
            "Encounter",
            &[("period.start", Event), ("period.end", Event)],
        ),
        ("Goal", &[("statusDate", Recorded)]),
        (
            "Immunization",
            &[("occurrenceDateTime", Event), ("recorded", Recorded)],
        ),
        (
            "MedicationAdministration",
            &[
                ("effectiveDateTime", Event),
                ("effectivePeriod.start", Event),
                ("effectivePeriod.end", Event),
            ],
        ),
        (
            "MedicationDispense",
            &[("whenPrepared", Event), ("whenHandedOver", Event)],
        ),
        ("MedicationRequest", &[("authoredOn", Recorded)]),
        (
            "MedicationStatement",
            &[
                ("effectiveDateTime", Event),
                ("effectivePeriod.start", Event),
                ("dateAsserted", Recorded),
            ],
        ),
        (
            "Observation",
            &[
                ("effectiveDateTime", Event),
                ("effectiveInstant", Event),
                ("effectivePeriod.start", Event),
                ("effectivePeriod.end", Event),
                ("issued", Recorded),
            ],
        ),
        (
            "Procedure",
            &[
                ("performedDateTime", Event),
                ("performedPeriod.start", Event),
                ("performedPeriod.end", Event),
            ],
        ),
        ("QuestionnaireResponse", &[("authored", Recorded)]),
        ("RiskAssessment", &[("occurrenceDateTime", Event)]),
        (
            "ServiceRequest",
            &[
                ("occurrenceDateTime", Scheduled),
                ("occurrencePeriod.start", Scheduled),
                ("authoredOn", Recorded),
            ],
        ),
        (
            "Specimen",
            &[
                ("collection.collectedDateTime", Event),
                ("receivedTime", Recorded),
            ],
        ),
        (
            "Task",
            &[("authoredOn", Recorded), ("lastModified", Recorded)],
        ),
    ]
};

/// Pairs of dates whose first must not lie behind the second, with the case of D-04.
///
/// # Source
/// FHIR R4, definitions of the elements; rule D-04.
const ORDERED: &[(&str, &str, &str, &str)] = &[
    (
        "Condition",
        "onsetDateTime",
        "abatementDateTime",
        "abatement",
    ),
    ("Observation", "effectiveDateTime", "issued", "issued"),
    ("Observation", "effectivePeriod.start", "issued", "issued"),
    ("DiagnosticReport", "effectiveDateTime", "issued", "issued"),
    (
        "DiagnosticReport",
        "effectivePeriod.start",
        "issued",
        "issued",
    ),
    (
        "MedicationDispense",
        "whenPrepared",
        "whenHandedOver",
        "supplied",
    ),
    (
        "MedicationRequest",
        "authoredOn",
        "dispenseRequest.validityPeriod.end",
        "supplied",
    ),
];

/// A date of a resource: its path, as written, and read.
pub(super) type Dated = (String, String, When);

impl Checking<'_> {
    pub(super) fn dates(&mut self) {
        let mut found = Vec::new();
        for (path, role) in DATES
            .iter()
            .find(|(name, _)| *name == self.type_name)
            .map_or(&[][..], |(_, dates)| *dates)
        {
            let is_planned =
                self.type_name == "Encounter" && text(self.resource, "status") == Some("planned");
            let role = if is_planned { Role::Scheduled } else { *role };
            for (path, written, when) in self.dates_at(path) {
                found.push((role, path, written, when));
            }
        }
        for (role, path, written, when) in &found {
            self.life(*role, path, written, when);
            self.present_time(*role, path, written, when);
        }
        self.order();
        self.written_dates();
        self.precision(&found);
    }

    /// When what the resource reports happened; not when it was written down.
    pub(super) fn event_times(&self) -> Vec<Dated> {
        DATES
            .iter()
            .find(|(name, _)| *name == self.type_name)
            .map_or(&[][..], |(_, dates)| *dates)
            .iter()
            .filter(|(_, role)| *role == Role::Event)
            .flat_map(|(path, _)| self.dates_at(path))
            .collect()
    }

    /// The dates at a dotted path.
    fn dates_at(&self, path: &str) -> Vec<Dated> {
        let mut at = vec![(String::new(), self.resource)];
        for step in path.split('.') {
            at = at
                .iter()
                .flat_map(|(before, value)| {
                    each(value, step).into_iter().map(move |(name, value)| {
                        let path = if before.is_empty() {
                            name
                        } else {
                            format!("{before}.{name}")
                        };
                        (path, value)
                    })
                })
                .collect();
        }
        at.into_iter()
            .filter_map(|(path, value)| {
                let written = value.as_str()?;
                Some((path, written.to_owned(), self.when(written)?))
            })
            .collect()
    }

    /// D-01, D-02, D-07.
    fn life(&mut self, role: Role, path: &str, written: &str, when: &When) {
        let Some(patient) = self.patient_for(&rule::D_01) else {
            self.unchecked(&rule::D_02, Part::Patient);
            self.unchecked(&rule::D_07, Part::Patient);
            return;
        };
        let words = [("date", written)];
        if let Some(birth) = &patient.birth {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a small whole number of months from the rule file; `as` saturates"
            )]
            let prenatal = -(self.limit(&rule::D_01, "prenatal_months") as i32);
            let from = if self.rules.codes.is_prenatal(self.resource) {
                months_from(birth.earliest, prenatal)
            } else {
                birth.earliest
            };
            if when.is_before_instant(from) {
                self.fire(&rule::D_01, "before-birth", path, &[Part::Patient], &words);
            }
            let (age, _) = age_years(birth, when);
            let years = format!("{age:.0}");
            let words = [("years", years.as_str())];
            if age > self.limit(&rule::D_07, "block_years") {
                self.fire(&rule::D_07, "impossible", path, &[Part::Patient], &words);
            } else if age > self.limit(&rule::D_07, "warn_years") {
                self.fire(&rule::D_07, "unlikely", path, &[Part::Patient], &words);
            }
        } else {
            self.unchecked(&rule::D_01, Part::Patient);
            self.unchecked(&rule::D_07, Part::Patient);
        }
        if role == Role::Recorded || self.rules.codes.is_post_mortem(self.resource) {
            return;
        }
        let is_after = match &patient.deceased {
            Deceased::No => false,
            Deceased::At(death) => death.is_before(when),
            // Dead already, so whatever is still to come is after death; the rest nobody can say.
            Deceased::Yes if when.is_after_instant(self.context.now) => true,
            Deceased::Yes => {
                self.unchecked(&rule::D_02, Part::Patient);
                false
            }
        };
        if is_after {
            self.fire(&rule::D_02, "after-death", path, &[Part::Patient], &words);
        }
    }

    /// D-03.
    fn present_time(&mut self, role: Role, path: &str, written: &str, when: &When) {
        let words = [("date", written)];
        let hours = self.limit(&rule::D_03, "tolerance_minutes") / 60.0;
        if role != Role::Scheduled {
            if when.is_after_instant(hours_from(self.context.now, hours)) {
                self.fire(&rule::D_03, "future", path, &[Part::Now], &words);
            }
            return;
        }
        let is_open = matches!(
            text(self.resource, "status"),
            Some("draft" | "proposed" | "pending" | "booked" | "active" | "planned")
        );
        let is_new = match &self.context.prior {
            Observed::Present(prior) => {
                let pointer = format!("/{}", path.replace('.', "/"));
                element::text_at(prior, &pointer) != Some(written)
            }
            Observed::Absent | Observed::Unknown => true,
        };
        if is_open && is_new && when.is_before_instant(hours_from(self.context.now, -hours)) {
            let parts: &[Part] = match self.context.prior {
                Observed::Present(_) => &[Part::Now, Part::Prior],
                _ => &[Part::Now],
            };
            self.fire(&rule::D_03, "past", path, parts, &words);
        }
    }

    /// D-04.
    fn order(&mut self) {
        let mut reversed = Vec::new();
        walk(self.resource, &mut |path, _, value| {
            if let (Some(from), Some(to)) = (text(value, "start"), text(value, "end")) {
                reversed.push((path.to_owned(), from.to_owned(), to.to_owned()));
            }
        });
        // Appointments and slots carry start and end themselves.
        if let (Some(from), Some(to)) = (text(self.resource, "start"), text(self.resource, "end")) {
            reversed.push((String::new(), from.to_owned(), to.to_owned()));
        }
        for (path, from, to) in reversed {
            self.in_order("period", &path, &from, &to, &[]);
        }
        for (type_name, first, second, case) in ORDERED {
            if *type_name != self.type_name {
                continue;
            }
            let (firsts, seconds) = (self.dates_at(first), self.dates_at(second));
            if let (Some((_, from, _)), Some((path, to, _))) = (firsts.first(), seconds.first()) {
                self.in_order(case, path, from, to, &[]);
            }
        }
        self.supplied_after_authored();
    }

    fn in_order(&mut self, case: &'static str, path: &str, from: &str, to: &str, parts: &[Part]) {
        let (Some(first), Some(second)) = (self.when(from), self.when(to)) else {
            return;
        };
        if second.is_before(&first) {
            self.fire(
                &rule::D_04,
                case,
                path,
                parts,
                &[("from", from), ("to", to)],
            );
        }
    }

    /// What was dispensed or given, against the order it follows.
    fn supplied_after_authored(&mut self) {
        let (order, supplied) = match self.type_name {
            "MedicationDispense" => ("/authorizingPrescription/0", "whenHandedOver"),
            "MedicationAdministration" => ("/request", "effectiveDateTime"),
            _ => return,
        };
        let Some(order) = self.resource.pointer(order).and_then(element::reference_of) else {
            return;
        };
        let Some(written) = text(self.resource, supplied) else {
            return;
        };
        let Some(medications) = &self.context.medications else {
            self.unchecked(&rule::D_04, Part::Medications);
            return;
        };
        let authored = medications.iter().find_map(|it| {
            let id = text(it, "id")?;
            (order == format!("MedicationRequest/{id}"))
                .then(|| text(it, "authoredOn"))
                .flatten()
        });
        if let Some(authored) = authored {
            self.in_order(
                "supplied",
                supplied,
                authored,
                written,
                &[Part::Medications],
            );
        }
    }

    /// D-05 and D-06: every value that is written as a date, whatever its element.
    fn written_dates(&mut self) {
        const NOT_DATES: &[&str] = &[
            "id",
            "value",
            "code",
            "display",
            "text",
            "div",
            "reference",
            "url",
            "system",
            "version",
            "data",
            "valueString",
            "title",
            "description",
            "contentString",
        ];
        let mut found: Vec<(String, &str)> = Vec::new();
        walk(self.resource, &mut |path, key, value| {
            if let Some(written) = value.as_str()
                && !NOT_DATES.contains(&key)
                && !path.starts_with("contained")
                && is_like_a_date(written)
            {
                found.push((path.to_owned(), written));
            }
        });
        let zone = self.context.time_zone.clone();
        for (path, written) in found {
            let words = [("date", written)];
            let day = written.get(..10).unwrap_or(written);
            if matches!(day, "1900-01-01" | "1970-01-01") || written.starts_with("9999") {
                self.fire(&rule::D_05, "placeholder", &path, &[], &words);
            } else if written.get(4..19) == Some("-01-01T00:00:00") {
                self.fire(&rule::D_05, "january-first", &path, &[], &words);
            }
            let Some(time) = written.get(10..).filter(|it| it.starts_with('T')) else {
                continue;
            };
            let has_zone =
                time.ends_with('Z') || time.get(1..).is_some_and(|it| it.contains(['+', '-']));
            if !has_zone {
                self.fire(&rule::D_06, "no-zone", &path, &[], &words);
            } else if let Some(zone) = &zone
                && is_in_gap(written, zone)
            {
                self.fire(&rule::D_06, "gap", &path, &[Part::TimeZone], &words);
            }
        }
    }

    /// D-08: the source was vaguer than the resource.
    fn precision(&mut self, found: &[(Role, String, String, When)]) {
        let exact: Vec<_> = found
            .iter()
            .filter(|(role, _, _, when)| *role == Role::Event && when.precision >= Precision::Day)
            .collect();
        if exact.is_empty() {
            return;
        }
        let Some(quotes) = &self.context.quotes else {
            self.unchecked(&rule::D_08, Part::Quotes);
            return;
        };
        let is_vague = quotes
            .iter()
            .any(|quote| self.rules.codes.is_vague_time(&quote.to_lowercase()));
        if !is_vague {
            return;
        }
        let said: Vec<jiff::civil::Date> = quotes.iter().flat_map(|it| prose::dates(it)).collect();
        for (_, path, written, when) in exact {
            if !said.contains(&when.first_day) {
                let words = [("date", written.as_str())];
                self.fire(&rule::D_08, "invented", path, &[Part::Quotes], &words);
            }
        }
    }

    /// Least and greatest age in years at the time of the resource's event, or now if it has none.
    pub(super) fn age_at_event(&self) -> Option<(f64, f64)> {
        let birth = self.context.patient.present()?.birth?;
        let now = When {
            earliest: self.context.now,
            latest: self.context.now,
            precision: Precision::Time,
            first_day: birth.first_day,
        };
        let at = self.event_times().first().map_or(now, |(_, _, when)| *when);
        Some(age_years(&birth, &at))
    }
}

/// Whether a text is written as a FHIR date of at least a day, or as a far year.
fn is_like_a_date(written: &str) -> bool {
    if written == "9999" || written == "9999-12" {
        return true;
    }
    let day: Vec<u8> = written.bytes().take(10).collect();
    day.len() == 10
        && day.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
        && (written.len() == 10 || written.as_bytes().get(10) == Some(&b'T'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_dates_look_like_dates() {
        for text in ["2024-01-01", "2024-01-01T10:00:00", "9999"] {
            assert!(is_like_a_date(text), "{text}");
        }
        for text in [
            "2024",
            "1234-5678-9012",
            "2024-01-01 10:00",
            "12345678901",
            "é024-01-01",
        ] {
            assert!(!is_like_a_date(text), "{text}");
        }
    }
}
