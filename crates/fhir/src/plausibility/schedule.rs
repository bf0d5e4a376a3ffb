//! Rule D-09: an appointment against its slot, the patient's other appointments, the clock and good sense.
//!
//! Not which visits may be booked by whom; that is policy. Start at [`Checking::schedule`].

use serde_json::Value;

use super::element::{self, list, reference_of, text};
use super::moment::hours_between;
use super::{Checking, Observed, Part, When, rule};

impl Checking<'_> {
    pub(super) fn schedule(&mut self) {
        if self.type_name != "Appointment" {
            return;
        }
        if !self.is_to_come() {
            return;
        }
        let edge = |key: &str| text(self.resource, key).and_then(|it| self.when(it));
        let (Some(start), Some(end)) = (edge("start"), edge("end")) else {
            return;
        };
        self.duration(&start, &end);
        let is_moved = match &self.context.prior {
            Observed::Present(prior) => text(prior, "start") != text(self.resource, "start"),
            Observed::Absent | Observed::Unknown => true,
        };
        if is_moved {
            self.lead_time(&start);
            self.slot(&start, &end);
        }
        self.overlap(&start, &end);
    }

    /// Whether an appointment is still to take place.
    pub(super) fn is_to_come(&self) -> bool {
        let status = text(self.resource, "status").unwrap_or_default();
        matches!(status, "proposed" | "pending" | "booked")
    }

    fn duration(&mut self, start: &When, end: &When) {
        let minutes = hours_between(start.earliest, end.earliest) * 60.0;
        let min = self.limit(&rule::D_09, "duration_minutes_min");
        let max = self.limit(&rule::D_09, "duration_minutes_max");
        // An end before the start is D-04's.
        if minutes >= 0.0 && !(min..=max).contains(&minutes) {
            let minutes = element::number(minutes);
            let words = [("minutes", minutes.as_str())];
            self.fire(&rule::D_09, "duration", "end", &[], &words);
        }
    }

    fn lead_time(&mut self, start: &When) {
        let minutes = hours_between(self.context.now, start.earliest) * 60.0;
        let lead = self.limit(&rule::D_09, "lead_minutes");
        // A start in the past is D-03's.
        if (0.0..lead).contains(&minutes) {
            let minutes = element::number(minutes.floor());
            let words = [("minutes", minutes.as_str())];
            self.fire(&rule::D_09, "lead-time", "start", &[Part::Now], &words);
        }
    }

    fn slot(&mut self, start: &When, end: &When) {
        let Some(slots) = &self.context.slots else {
            self.unchecked(&rule::D_09, Part::Slots);
            return;
        };
        let named: Vec<String> = list(self.resource, "slot")
            .iter()
            .filter_map(reference_of)
            .collect();
        let is_named = |slot: &&Value| {
            named.is_empty()
                || text(slot, "id").is_some_and(|id| named.contains(&format!("Slot/{id}")))
        };
        let mut around = slots.iter().filter(is_named).filter(|slot| {
            let edge = |key| text(slot, key).and_then(|it| self.when(it));
            match (edge("start"), edge("end")) {
                (Some(from), Some(to)) => {
                    from.earliest <= start.earliest && end.earliest <= to.earliest
                }
                _ => false,
            }
        });
        let found = around.next();
        let is_free = found
            .into_iter()
            .chain(around)
            .any(|slot| text(slot, "status") == Some("free"));
        if found.is_none() {
            self.fire(&rule::D_09, "outside-slot", "start", &[Part::Slots], &[]);
        } else if !is_free {
            self.fire(&rule::D_09, "slot-not-free", "start", &[Part::Slots], &[]);
        }
    }

    fn overlap(&mut self, start: &When, end: &When) {
        let Some(appointments) = &self.context.appointments else {
            self.unchecked(&rule::D_09, Part::Appointments);
            return;
        };
        let id = text(self.resource, "id");
        let overlaps = appointments
            .iter()
            .filter(|it| id.is_none() || text(it, "id") != id)
            .filter(|it| {
                matches!(
                    text(it, "status"),
                    Some("booked" | "checked-in" | "arrived")
                )
            })
            .any(|it| {
                let edge = |key| text(it, key).and_then(|written| self.when(written));
                match (edge("start"), edge("end")) {
                    (Some(from), Some(to)) => {
                        from.earliest < end.earliest && start.earliest < to.earliest
                    }
                    _ => false,
                }
            });
        if overlaps {
            self.fire(&rule::D_09, "overlap", "start", &[Part::Appointments], &[]);
        }
    }
}
