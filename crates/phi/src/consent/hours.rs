//! When a patient is not to be called or texted: outside the hours of the table, where the patient lives.
//!
//! Somebody whose time zone is not known is reached only when the hours are open in every zone that it could be.
//! Not here: whether they may be reached at all ([`super::contact`]). Start at [`not_before`].
//!
//! # Source
//! 47 CFR 64.1200(c)(1): not before 8 in the morning and not after 9 in the evening, at the called party's place.

use std::collections::BTreeMap;

use chaperone_core::Timestamp;
use chaperone_fhir::plausibility::time_zone;
use jiff::SignedDuration;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;

use super::period::Span;
use super::table::{ConsentTable, TableInvalid};

/// The widest hours that a table may open.
const EARLIEST: Time = Time::constant(8, 0, 0, 0);
const LATEST: Time = Time::constant(21, 0, 0, 0);
/// How far apart the moments are that are tried, and how many of them: two days.
const STEP: SignedDuration = SignedDuration::from_mins(15);
const STEPS_MAX: usize = 192;
/// Most addresses of a patient that are looked at.
const ADDRESSES_MAX: usize = 20;

/// As the table says them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HoursEntry {
    pub(super) channels: Vec<String>,
    open_from: String,
    open_until: String,
    #[serde(rename = "source")]
    _source: String,
    unknown: Vec<String>,
    states: BTreeMap<String, Vec<String>>,
}

/// The hours in which patients may be reached by some channels.
#[derive(Debug, Clone)]
pub(super) struct Hours {
    channels: Vec<String>,
    from: Time,
    until: Time,
    unknown: Vec<TimeZone>,
    states: BTreeMap<String, Vec<TimeZone>>,
}

impl Hours {
    /// Reads them; a table may be stricter than the law, never wider.
    pub(super) fn of(entry: &HoursEntry) -> Result<Self, TableInvalid> {
        let wrong = |name: &str, place| TableInvalid::Unknown {
            entry: "contact.quiet_hours".to_owned(),
            name: name.to_owned(),
            place,
        };
        let time = |text: &str| {
            text.split_once(':')
                .and_then(|(hour, minute)| {
                    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
                })
                .filter(|time| (EARLIEST..=LATEST).contains(time))
                .ok_or_else(|| wrong(text, "the hours from 08:00 to 21:00"))
        };
        let zones = |names: &[String]| {
            let zone = |name: &String| {
                time_zone(name).ok_or_else(|| wrong(name, "the time zone database"))
            };
            names.iter().map(zone).collect::<Result<Vec<_>, _>>()
        };
        let (from, until) = (time(&entry.open_from)?, time(&entry.open_until)?);
        let unknown = zones(&entry.unknown)?;
        if from >= until || unknown.is_empty() {
            return Err(wrong(&entry.open_until, "the hours after `open_from`"));
        }
        let mut states = BTreeMap::new();
        for (state, names) in &entry.states {
            states.insert(state.clone(), zones(names)?);
        }
        Ok(Self {
            channels: entry.channels.clone(),
            from,
            until,
            unknown,
            states,
        })
    }

    /// The zones in which the patient may be: all of them must be open.
    fn zones_of(&self, patient: &Value, now: Timestamp) -> Vec<&TimeZone> {
        let text = |address: &Value, name: &str| {
            let value = address.get(name).and_then(Value::as_str);
            value
                .map(str::trim)
                .unwrap_or_default()
                .to_ascii_uppercase()
        };
        let lives_there = |address: &&Value| {
            let holds = match address.get("period") {
                None => true,
                Some(period) => Span::of_period(period).is_none_or(|span| span.holds(now)),
            };
            holds && text(address, "use") != "OLD"
        };
        let addresses = patient.get("address").and_then(Value::as_array);
        let mut zones = Vec::new();
        let mut is_known = false;
        for address in addresses
            .into_iter()
            .flatten()
            .filter(lives_there)
            .take(ADDRESSES_MAX)
        {
            let is_here = ["", "US", "USA"].contains(&text(address, "country").as_str());
            match self.states.get(&text(address, "state")) {
                Some(found) if is_here => {
                    is_known = true;
                    zones.extend(found);
                }
                _ => zones.extend(&self.unknown),
            }
        }
        if !is_known && zones.is_empty() {
            zones.extend(&self.unknown);
        }
        zones
    }
}

/// Before when a patient must not be reached by a channel; `None` when they may be reached now.
pub fn not_before(
    table: &ConsentTable,
    patient: &Value,
    channel: &str,
    now: Timestamp,
) -> Option<Timestamp> {
    let hours = &table.hours;
    if !hours.channels.iter().any(|it| it == channel) {
        return None;
    }
    let zones = hours.zones_of(patient, now);
    let is_open = |at: Timestamp| {
        zones.iter().all(|zone| {
            let time = zone.to_datetime(at).time();
            time >= hours.from && time < hours.until
        })
    };
    if is_open(now) {
        return None;
    }
    let mut at = now;
    for _ in 0..STEPS_MAX {
        at = at.checked_add(STEP).unwrap_or(at);
        if is_open(at) {
            return Some(at);
        }
    }
    // Nowhere open at once in all of them: to be looked at again, and given up when its time is over.
    Some(at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TABLE: &str = include_str!("../../../../governance/rules/consent.toml");

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn lives(state: &str) -> Value {
        json!({"address": [{"use": "home", "state": state, "country": "US"}]})
    }

    #[test]
    fn texts_and_calls_wait_for_the_morning_where_the_patient_lives() {
        let table = ConsentTable::parse(TABLE).unwrap();
        // (patient, channel, now, not before)
        let old = json!({"address": [
            {"use": "old", "state": "HI"}, {"state": "NY", "period": {"end": "2030-06-01"}}, {"state": "ny"},
        ]});
        let both = json!({"address": [{"state": "NY"}, {"state": "CA"}]});
        let abroad = json!({"address": [{"state": "NY", "country": "FR"}]});
        for (patient, channel, now, expected) in [
            // New York is five hours behind in January, four in July.
            (
                lives("NY"),
                "sms",
                "2030-01-01T12:59:00Z",
                Some("2030-01-01T13:14:00Z"),
            ),
            (lives("NY"), "sms", "2030-01-01T13:00:00Z", None),
            (lives("NY"), "sms", "2030-07-01T12:00:00Z", None),
            (lives("NY"), "sms", "2030-01-02T01:59:00Z", None),
            (
                lives("NY"),
                "sms",
                "2030-01-02T02:00:00Z",
                Some("2030-01-02T13:00:00Z"),
            ),
            (
                lives("NY"),
                "voice",
                "2030-01-02T02:00:00Z",
                Some("2030-01-02T13:00:00Z"),
            ),
            // Nobody is woken by a letter.
            (lives("NY"), "letter", "2030-01-02T02:00:00Z", None),
            (lives("NY"), "portal", "2030-01-02T02:00:00Z", None),
            (
                lives("HI"),
                "sms",
                "2030-01-01T17:59:00Z",
                Some("2030-01-01T18:14:00Z"),
            ),
            (lives("HI"), "sms", "2030-01-01T18:00:00Z", None),
            // A state with two zones, two homes, an old home, no home, another country.
            (
                lives("TN"),
                "sms",
                "2030-01-01T13:30:00Z",
                Some("2030-01-01T14:00:00Z"),
            ),
            (
                both.clone(),
                "sms",
                "2030-01-01T13:30:00Z",
                Some("2030-01-01T16:00:00Z"),
            ),
            (both, "sms", "2030-01-01T16:00:00Z", None),
            (old, "sms", "2030-07-01T12:00:00Z", None),
            (
                json!({}),
                "sms",
                "2030-01-01T13:30:00Z",
                Some("2030-01-01T18:00:00Z"),
            ),
            (json!({}), "sms", "2030-01-01T18:00:00Z", None),
            (
                lives("Bavaria"),
                "sms",
                "2030-01-01T13:30:00Z",
                Some("2030-01-01T18:00:00Z"),
            ),
            (
                abroad,
                "sms",
                "2030-01-01T13:30:00Z",
                Some("2030-01-01T18:00:00Z"),
            ),
        ] {
            let said = not_before(&table, &patient, channel, at(now));
            assert_eq!(said, expected.map(at), "{patient} {channel} {now}");
        }
    }

    #[test]
    fn hours_wider_than_the_law_and_zones_that_do_not_exist_are_refused() {
        for (from, to) in [
            ("open_from = \"08:00\"", "open_from = \"07:45\""),
            ("open_until = \"21:00\"", "open_until = \"21:30\""),
            ("open_until = \"21:00\"", "open_until = \"08:00\""),
            ("\"Pacific/Honolulu\"", "\"Pacific/Nowhere\""),
            ("channels = [\"sms\", \"voice\"]", "channels = [\"fax\"]"),
        ] {
            assert!(TABLE.contains(from), "{from}");
            assert!(
                ConsentTable::parse(&TABLE.replacen(from, to, 1)).is_err(),
                "{to}"
            );
        }
        let narrower = TABLE.replacen("open_from = \"08:00\"", "open_from = \"09:00\"", 1);
        assert!(ConsentTable::parse(&narrower).is_ok());
    }
}
