//! Rule M-10: whether a refill is routine. Every reason why it is not sends it to a human.
//!
//! Not the refill protocol; that is policy. Start at [`Checking::refill`].

use serde_json::Value;

use super::drugs::Drug;
use super::element::{self, LOINC, codings, number, quantity, text};
use super::moment::{hours_between, months_from};
use super::sig::Dosing;
use super::{Checking, Observed, Part, rule, sig, units};

impl<'c> Checking<'c> {
    /// A request that names a prior prescription asks for a refill.
    pub(super) fn refill(&mut self, drugs: &[&'c Drug]) {
        let Some(prior) = element::reference(self.resource, "priorPrescription") else {
            return;
        };
        let words = |drug: &'c Drug| [("drug", drug.id.as_str())];
        for drug in drugs.iter().filter(|it| it.schedule.is_some()) {
            self.fire(&rule::M_10, "controlled", "", &[], &words(drug));
        }
        self.visit();
        for drug in drugs {
            self.monitored(drug);
        }
        let context = self.context;
        let Some(medications) = &context.medications else {
            self.unchecked(&rule::M_10, Part::Medications);
            return;
        };
        let found = medications.iter().find(|it| {
            text(it, "id").is_some_and(|id| format!("{}/{id}", element::resource_type(it)) == prior)
        });
        if let Some(found) = found {
            self.slipped_since(found, drugs);
        }
        let path = "priorPrescription";
        let parts = [Part::Medications];
        let Some(found) = found.filter(|it| text(it, "status") == Some("active")) else {
            self.fire(&rule::M_10, "not-active", path, &parts, &[]);
            return;
        };
        self.by_this_practice(found);
        self.supply_used(found);
        self.same_dose(found, drugs);
    }

    fn visit(&mut self) {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a small whole number of months from the rule file; `as` saturates"
        )]
        let months = self.limit(&rule::M_10, "visit_months") as i32;
        match &self.context.last_visit {
            Observed::Unknown => self.unchecked(&rule::M_10, Part::LastVisit),
            Observed::Present(when)
                if !when.is_before_instant(months_from(self.context.now, -months))
                    && !when.is_after_instant(self.context.now) => {}
            Observed::Present(_) | Observed::Absent => {
                let months = months.to_string();
                let words = [("months", months.as_str())];
                self.fire(&rule::M_10, "visit", "", &[Part::LastVisit], &words);
            }
        }
    }

    fn monitored(&mut self, drug: &'c Drug) {
        let rules = self.rules;
        for row in rules.drugs.monitoring(drug) {
            let Some(observations) = &self.context.observations else {
                self.unchecked(&rule::M_10, Part::Observations);
                return;
            };
            let is_done = observations.iter().any(|it| {
                let is_code = it.get("code").is_some_and(|code| {
                    codings(code).any(|it| {
                        it.system == LOINC && row.codes.iter().any(|code| code == it.code)
                    })
                });
                let at = text(it, "effectiveDateTime").and_then(|it| self.when(it));
                is_code
                    && element::has_final_result(it)
                    && at.is_some_and(|at| {
                        let is_past = !at.is_after_instant(self.context.now);
                        is_past && hours_between(at.latest, self.context.now) <= row.days * 24.0
                    })
            });
            if !is_done {
                let days = number(row.days);
                let words = [
                    ("drug", drug.id.as_str()),
                    ("what", row.what.as_str()),
                    ("days", days.as_str()),
                ];
                self.fire(&rule::M_10, "monitoring", "", &[Part::Observations], &words);
            }
        }
    }

    fn by_this_practice(&mut self, prior: &Value) {
        let Some(tenant) = &self.context.tenant else {
            self.unchecked(&rule::M_10, Part::Tenant);
            return;
        };
        let is_own = element::reference(prior, "requester").is_some_and(|it| tenant.contains(&it));
        if !is_own {
            let parts = [Part::Medications, Part::Tenant];
            self.fire(
                &rule::M_10,
                "other-practice",
                "priorPrescription",
                &parts,
                &[],
            );
        }
    }

    fn supply_used(&mut self, prior: &Value) {
        let supply = prior
            .pointer("/dispenseRequest/expectedSupplyDuration")
            .and_then(quantity)
            .and_then(|it| units::convert(it.value, it.code, "d"))
            .filter(|days| *days > 0.0);
        let from = element::text_at(prior, "/dispenseRequest/validityPeriod/start")
            .or_else(|| text(prior, "authoredOn"))
            .and_then(|it| self.when(it));
        let (Some(supply), Some(from)) = (supply, from) else {
            self.unchecked(&rule::M_10, Part::Medications);
            return;
        };
        let used = hours_between(from.earliest, self.context.now) / 24.0 / supply * 100.0;
        if used < self.limit(&rule::M_10, "supply_percent") {
            let percent = number(used.max(0.0).floor());
            let words = [("percent", percent.as_str())];
            self.fire(&rule::M_10, "too-soon", "", &[Part::Medications], &words);
        }
    }

    /// M-11: a dose of a day that is ten times, or a tenth of, that of the prescription before it.
    fn slipped_since(&mut self, prior: &Value, drugs: &[&'c Drug]) {
        let factor = self.limit(&rule::M_11, "prior_factor");
        for drug in drugs {
            let daily = |resource: &Value| -> Option<f64> {
                let each: Option<Vec<f64>> = Dosing::read(resource, drug)
                    .iter()
                    .map(Dosing::daily_mg)
                    .collect();
                let sum: f64 = each?.iter().sum();
                (sum > 0.0).then_some(sum)
            };
            let (Some(now), Some(then)) = (daily(self.resource), daily(prior)) else {
                continue;
            };
            // A hair off ten is ten.
            let is_slip = now / then >= factor - 1e-9 || then / now >= factor - 1e-9;
            // Seen already, by what is usual.
            let is_known = self.report.judged.iter().any(|it| {
                it.rule == rule::M_11.id && matches!(it.case, "ten-fold" | "thousand-fold")
            });
            if is_slip && !is_known {
                let dose = number(now);
                let words = [("drug", drug.id.as_str()), ("dose", dose.as_str())];
                let parts = [Part::Medications];
                self.fire(&rule::M_11, "prior", "dosageInstruction[0]", &parts, &words);
            }
        }
    }

    fn same_dose(&mut self, prior: &Value, drugs: &[&'c Drug]) {
        let rules = self.rules;
        let before = sig::medication(prior).map(|it| rules.drugs.concept(it));
        let before = before.as_ref().map_or(&[][..], |it| it.drugs());
        for drug in drugs {
            let is_same_drug = before.iter().any(|it| it.id == drug.id);
            let dose = |resource: &Value| -> Vec<_> {
                let dosings = Dosing::read(resource, drug).into_iter();
                dosings.map(|it| (it.mg, it.per_day)).collect()
            };
            let (now, then) = (dose(self.resource), dose(prior));
            let is_known = !now.is_empty()
                && now
                    .iter()
                    .all(|(mg, times)| mg.is_some() && times.is_some());
            if !is_same_drug || now != then || !is_known {
                let words = [("drug", drug.id.as_str())];
                self.fire(
                    &rule::M_10,
                    "changed-dose",
                    "",
                    &[Part::Medications],
                    &words,
                );
            }
        }
    }
}
