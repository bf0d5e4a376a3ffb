//! A circuit breaker: whether something may be asked of a server that failed lately.
//!
//! Pure: the time is given, nothing is counted by itself. It holds no queue and sends nothing; what may not be
//! sent waits where it is. One breaker stands for one kind of operation at one connection.
//!
//! ```text
//! Closed ──failures_max in a row──▶ Open ──its time is over──▶ HalfOpen (one is let through)
//!    ▲                               ▲  twice as long             │          │
//!    │                               └────────────failed──────────┘          │
//!    └───────────────────────────────────────────answered────────────────────┘
//! ```
//! Beside that a server may ask to be left alone for a while (`Retry-After`). Nothing is sent until then,
//! whatever the state, and it counts neither for nor against the server.
//!
//! Start at [`Breaker::pass`], then [`Breaker::ended`].

use crate::Timestamp;

/// The longest that a request to be left alone is believed, in milliseconds.
///
/// # Source
/// RFC 9110, section 10.2.3, sets no bound; an hour outlasts a restart, and a person sees the wait.
pub const REST_MS_MAX: i64 = 3_600_000;

/// How long others wait while one is let through to try, in milliseconds.
const BEHIND_PROBE_MS: i64 = 1_000;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRules {
    /// So many failures in a row open it; at least one.
    pub failures_max: u32,
    /// How long it stays open at first, in milliseconds. Twice as long after each trial that failed.
    pub open_ms: i64,
    /// The longest that it stays open, in milliseconds.
    pub open_ms_max: i64,
    /// How long a trial may take before another one is let through, in milliseconds.
    pub probe_ms: i64,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self {
            failures_max: 5,
            open_ms: 5_000,
            open_ms_max: 120_000,
            probe_ms: 60_000,
        }
    }
}

/// Whether one may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// It may. Whoever goes says afterwards what was heard ([`Breaker::ended`]).
    Go(Ticket),
    /// Not before a time.
    Wait {
        /// When it may be asked again.
        until: Timestamp,
    },
}

/// What one that was let through goes as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticket {
    /// One of many.
    Ordinary,
    /// The one trial of a half-open breaker.
    Probe,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The server answered, be it with a refusal.
    Answered,
    /// It could not be reached, broke off, or failed.
    Failed,
    /// It was not asked after all.
    Nothing,
}

/// What a breaker is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything is let through.
    Closed {
        /// Failures in a row so far.
        failures: u32,
    },
    /// Nothing is.
    Open {
        /// Since when.
        since: Timestamp,
        /// When one is let through to try.
        until: Timestamp,
    },
    /// One is under way to try; its answer decides.
    HalfOpen {
        /// When another one is let through, should nothing be heard of it.
        until: Timestamp,
    },
}

/// One breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    state: BreakerState,
    /// How often in a row it opened; how long it stays open follows from that.
    spells: u32,
    rests_until: Option<Timestamp>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            state: BreakerState::Closed { failures: 0 },
            spells: 0,
            rests_until: None,
        }
    }
}

impl Breaker {
    /// Asks for leave to go, at a time.
    pub fn pass(&mut self, rules: &BreakerRules, now: Timestamp) -> Pass {
        if let Some(until) = self.rests_until(now) {
            return Pass::Wait { until };
        }
        match self.state {
            BreakerState::Closed { .. } => Pass::Go(Ticket::Ordinary),
            BreakerState::Open { until, .. } | BreakerState::HalfOpen { until } if now >= until => {
                self.state = BreakerState::HalfOpen {
                    until: later(now, rules.probe_ms),
                };
                Pass::Go(Ticket::Probe)
            }
            BreakerState::Open { until, .. } => Pass::Wait { until },
            BreakerState::HalfOpen { until } => Pass::Wait {
                until: until.min(later(now, BEHIND_PROBE_MS)),
            },
        }
    }

    /// Says what came of one that was let through.
    pub fn ended(&mut self, rules: &BreakerRules, ticket: Ticket, heard: Heard, now: Timestamp) {
        let closed = BreakerState::Closed { failures: 0 };
        match (self.state, ticket, heard) {
            (BreakerState::Closed { .. }, _, Heard::Answered) => {
                self.state = closed;
                self.spells = 0;
            }
            (BreakerState::Closed { failures }, _, Heard::Failed) => {
                let failures = failures.saturating_add(1);
                if failures >= rules.failures_max.max(1) {
                    self.open(rules, now);
                } else {
                    self.state = BreakerState::Closed { failures };
                }
            }
            (BreakerState::HalfOpen { .. }, Ticket::Probe, Heard::Answered) => {
                self.state = closed;
                self.spells = 0;
            }
            (BreakerState::HalfOpen { .. }, Ticket::Probe, Heard::Failed) => self.open(rules, now),
            // It was let through and did not go: the next one may.
            (BreakerState::HalfOpen { .. }, Ticket::Probe, Heard::Nothing) => {
                self.state = BreakerState::HalfOpen { until: now };
            }
            // What set out before it opened says nothing about now.
            (BreakerState::Open { .. } | BreakerState::HalfOpen { .. }, _, _)
            | (BreakerState::Closed { .. }, _, Heard::Nothing) => {}
        }
    }

    /// The server asked to be left alone until a time, which is believed up to [`REST_MS_MAX`].
    pub fn rest(&mut self, until: Timestamp, now: Timestamp) {
        let until = until.min(later(now, REST_MS_MAX));
        self.rests_until = self.rests_until.max(Some(until));
    }

    /// Until when it asked to be left alone, if that is still to come.
    pub fn rests_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.rests_until.filter(|until| now < *until)
    }

    /// What it is.
    pub fn state(&self) -> BreakerState {
        self.state
    }

    fn open(&mut self, rules: &BreakerRules, now: Timestamp) {
        let doubled = rules
            .open_ms
            .max(1)
            .saturating_mul(1_i64 << self.spells.min(20))
            .min(rules.open_ms_max.max(rules.open_ms.max(1)));
        self.spells = self.spells.saturating_add(1);
        self.state = BreakerState::Open {
            since: now,
            until: later(now, doubled),
        };
    }
}

fn later(now: Timestamp, wait_ms: i64) -> Timestamp {
    now.checked_add(jiff::SignedDuration::from_millis(wait_ms.max(0)))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: BreakerRules = BreakerRules {
        failures_max: 3,
        open_ms: 1_000,
        open_ms_max: 3_000,
        probe_ms: 10_000,
    };

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(1_900_000_000_000 + ms).unwrap()
    }

    fn fails(breaker: &mut Breaker, ms: i64) {
        let Pass::Go(ticket) = breaker.pass(&RULES, at(ms)) else {
            panic!("not let through at {ms}")
        };
        breaker.ended(&RULES, ticket, Heard::Failed, at(ms));
    }

    fn waits(breaker: &mut Breaker, ms: i64) -> i64 {
        match breaker.pass(&RULES, at(ms)) {
            Pass::Wait { until } => until.duration_since(at(0)).as_millis() as i64,
            Pass::Go(ticket) => panic!("let through at {ms} as {ticket:?}"),
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let mut breaker = Breaker::default();
        fails(&mut breaker, 0);
        fails(&mut breaker, 1);
        let Pass::Go(ticket) = breaker.pass(&RULES, at(2)) else {
            panic!()
        };
        breaker.ended(&RULES, ticket, Heard::Answered, at(2));
        fails(&mut breaker, 3);
        fails(&mut breaker, 4);
        assert_eq!(breaker.state(), BreakerState::Closed { failures: 2 });
        fails(&mut breaker, 5);
        assert_eq!(
            breaker.state(),
            BreakerState::Open {
                since: at(5),
                until: at(1_005)
            }
        );
        assert_eq!(waits(&mut breaker, 6), 1_005);
        assert_eq!(waits(&mut breaker, 1_004), 1_005);
    }

    #[test]
    fn one_is_let_through_to_try_and_the_others_wait_for_its_answer() {
        let mut breaker = Breaker::default();
        (0..3).for_each(|ms| fails(&mut breaker, ms));
        assert_eq!(breaker.pass(&RULES, at(1_002)), Pass::Go(Ticket::Probe));
        assert_eq!(waits(&mut breaker, 1_003), 2_003);
        // One that set out long before says nothing about now, neither way.
        breaker.ended(&RULES, Ticket::Ordinary, Heard::Answered, at(1_004));
        breaker.ended(&RULES, Ticket::Ordinary, Heard::Failed, at(1_004));
        assert!(matches!(breaker.state(), BreakerState::HalfOpen { .. }));
        breaker.ended(&RULES, Ticket::Probe, Heard::Answered, at(1_005));
        assert_eq!(breaker.pass(&RULES, at(1_005)), Pass::Go(Ticket::Ordinary));
    }

    #[test]
    fn each_trial_that_fails_doubles_the_wait_up_to_its_bound() {
        let mut breaker = Breaker::default();
        (0..3).for_each(|_| fails(&mut breaker, 0));
        fails(&mut breaker, 1_000);
        assert_eq!(waits(&mut breaker, 1_000), 3_000);
        fails(&mut breaker, 3_000);
        assert_eq!(waits(&mut breaker, 3_000), 6_000);
        let Pass::Go(ticket) = breaker.pass(&RULES, at(6_000)) else {
            panic!()
        };
        breaker.ended(&RULES, ticket, Heard::Answered, at(6_000));
        // An answer forgives: the next spell is a first one.
        (0..3).for_each(|_| fails(&mut breaker, 7_000));
        assert_eq!(waits(&mut breaker, 7_000), 8_000);
    }

    #[test]
    fn a_trial_that_did_not_go_or_is_never_heard_of_makes_room_for_another() {
        let mut breaker = Breaker::default();
        (0..3).for_each(|_| fails(&mut breaker, 0));
        assert_eq!(breaker.pass(&RULES, at(1_000)), Pass::Go(Ticket::Probe));
        breaker.ended(&RULES, Ticket::Probe, Heard::Nothing, at(1_001));
        assert_eq!(breaker.pass(&RULES, at(1_001)), Pass::Go(Ticket::Probe));
        assert_eq!(waits(&mut breaker, 10_500), 11_001);
        assert_eq!(breaker.pass(&RULES, at(11_001)), Pass::Go(Ticket::Probe));
    }

    #[test]
    fn a_wish_to_be_left_alone_holds_whatever_the_state_and_is_bounded() {
        let mut breaker = Breaker::default();
        breaker.rest(at(5_000), at(0));
        breaker.rest(at(2_000), at(1));
        assert_eq!(waits(&mut breaker, 4_999), 5_000);
        assert_eq!(breaker.pass(&RULES, at(5_000)), Pass::Go(Ticket::Ordinary));
        breaker.rest(at(REST_MS_MAX * 9), at(6_000));
        assert_eq!(waits(&mut breaker, 6_000), 6_000 + REST_MS_MAX);
    }
}
