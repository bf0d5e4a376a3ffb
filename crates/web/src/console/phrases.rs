//! How things are said: times, classes, gates, roles, states. One place, so that one idea has one word.

use chaperone_core::Timestamp;
use chaperone_core::breaker::BreakerState;
use chaperone_core::change::ChangeClass;
use chaperone_core::evidence::Strategy;
use chaperone_core::gate::{Gate, ProofLevel};
use chaperone_core::mode::{Mode, ModeScope};
use chaperone_core::principal::Role;
use chaperone_core::writeback::StateName;
use chaperone_engine::deliver::{SendKind, Sending};
use chaperone_engine::views::review::OutcomeView;

/// A point in time for a page: words for the eye, the exact time beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) words: String,
    pub(super) exact: String,
    /// For deadlines: little time is left, or none.
    pub(super) urgent: bool,
}

/// Seconds before a deadline from which on it is urgent.
const URGENT_S: i64 = 5 * 60;

/// How long ago something was.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> Moment {
    let seconds = now.as_second().saturating_sub(at.as_second());
    let words = match seconds {
        ..=-1 => format!("in {}", span(-seconds)),
        0..=9 => "just now".to_owned(),
        _ => format!("{} ago", span(seconds)),
    };
    Moment {
        words,
        exact: exact(at),
        urgent: false,
    }
}

/// How long something has waited.
pub(super) fn waited(since: Timestamp, now: Timestamp) -> Moment {
    let seconds = now.as_second().saturating_sub(since.as_second());
    Moment {
        words: span(seconds.max(0)),
        exact: exact(since),
        urgent: false,
    }
}

/// How long until a deadline.
pub(super) fn left(deadline: Timestamp, now: Timestamp) -> Moment {
    let seconds = deadline.as_second().saturating_sub(now.as_second());
    let words = if seconds <= 0 {
        "overdue".to_owned()
    } else {
        format!("{} left", span(seconds))
    };
    Moment {
        words,
        exact: exact(deadline),
        urgent: seconds < URGENT_S,
    }
}

/// The exact time, in UTC.
pub(super) fn exact(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => {
            let (hours, minutes) = (seconds / 3_600, seconds % 3_600 / 60);
            if minutes == 0 {
                format!("{hours} h")
            } else {
                format!("{hours} h {minutes} min")
            }
        }
        _ => {
            let days = seconds / 86_400;
            format!("{days} day{}", if days == 1 { "" } else { "s" })
        }
    }
}

/// A duration of the settings.
pub(super) fn duration(seconds: i64) -> String {
    span(seconds)
}

/// What a class means.
pub(super) fn class(class: ChangeClass) -> &'static str {
    match class {
        ChangeClass::M0 => "administrative and reversible, or staying inside Chaperone",
        ChangeClass::M1 => "administrative, seen by the patient or moving money or time",
        ChangeClass::M2 => "clinical information that directs nothing",
        ChangeClass::M3 => "content of the clinical record",
        ChangeClass::M4 => "order, therapy, diagnosis or legal commitment",
        ChangeClass::M5 => "identity, deletion or legal status",
    }
}

/// The stylesheet's name of a class.
pub(super) fn class_css(class: ChangeClass) -> String {
    class.to_string().to_lowercase()
}

/// A role as people say it.
pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Patient => "patient",
        Role::Proxy => "proxy",
        Role::Scheduler => "scheduler",
        Role::MaRn => "medical assistant or nurse",
        Role::Rn => "registered nurse",
        Role::Pharmacist => "pharmacist",
        Role::Clinician => "clinician",
        Role::Biller => "biller",
        Role::Him => "records (HIM)",
        Role::Privacy => "privacy officer",
        Role::ItAdmin => "administrator",
        Role::Trainee => "in training (a colleague signs beside them)",
    }
}

/// Several roles.
pub(super) fn roles(all: &[Role]) -> String {
    all.iter()
        .map(|one| role(*one))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Who has to agree.
pub(super) fn gate(gate: &Gate) -> String {
    let any = |roles: &std::collections::BTreeSet<Role>| {
        roles
            .iter()
            .map(|one| role(*one))
            .collect::<Vec<_>>()
            .join(" or ")
    };
    match gate {
        Gate::Auto => "nobody needs to agree".to_owned(),
        Gate::AutoVerified { facts } => {
            let facts: Vec<String> = facts.iter().map(|fact| fact.replace('_', " ")).collect();
            format!("verified facts: {}", facts.join(", "))
        }
        Gate::Approve { roles } => format!("one {}", any(roles)),
        Gate::Approve2f { roles } => format!("one {}, with a second factor", any(roles)),
        Gate::TwoPerson { first, second } => {
            format!(
                "two people: {} with a second factor, and {}",
                role(*first),
                role(*second)
            )
        }
        Gate::Deny => "nobody can allow it here".to_owned(),
    }
}

/// The gate in two or three words, for lists.
pub(super) fn gate_short(gate: &Gate) -> &'static str {
    match gate {
        Gate::Auto => "automatic",
        Gate::AutoVerified { .. } => "verified facts",
        Gate::Approve { .. } => "one approval",
        Gate::Approve2f { .. } => "second factor",
        Gate::TwoPerson { .. } => "two people",
        Gate::Deny => "denied",
    }
}

/// A state, and the stylesheet's colour for it.
pub(super) fn state(state: StateName) -> (&'static str, &'static str) {
    match state {
        StateName::Proposed => ("proposed", ""),
        StateName::Validated => ("valid", ""),
        StateName::Staged => ("staged in Chaperone", "good"),
        StateName::AwaitingVerification => ("waits for facts", "warn"),
        StateName::AwaitingApproval => ("waits for approval", "warn"),
        StateName::Ready => ("in the queue", ""),
        StateName::Delivering => ("being delivered", ""),
        StateName::Unknown => ("outcome unknown", "bad"),
        StateName::AwaitingSignature => ("waits for a signature in the EHR", "warn"),
        StateName::Delivered => ("delivered", "good"),
        StateName::DeadLetter => ("not deliverable", "bad"),
        StateName::Refused => ("refused", "bad"),
        StateName::Void => ("void", "bad"),
        StateName::Abandoned => ("abandoned", ""),
        StateName::Quarantined => ("set aside", "warn"),
        StateName::Compensated => ("undone", ""),
        // What waits looks like what it is among.
        StateName::Canary => ("waits for approval", "warn"),
        StateName::CanarySettled => ("a test, over", ""),
    }
}

/// A position of a switch.
pub(super) fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Normal => "Normal",
        Mode::WritePaused => "Writes paused",
        Mode::ReadOnly => "Read only",
        Mode::Halted => "Halted",
    }
}

/// What a switch applies to.
pub(super) fn scope(scope: &ModeScope) -> String {
    match scope {
        ModeScope::Tenant => "Everything".to_owned(),
        ModeScope::Agent(agent) => format!("Agent {agent}"),
        ModeScope::Intent(intent) => format!("Intent {intent}"),
        ModeScope::Resource(resource) => format!("All {resource}"),
        ModeScope::Ehr(connection) => format!("EHR {connection}"),
    }
}

/// How a write reaches the EHR.
pub(super) fn way(outcome: &OutcomeView) -> &'static str {
    match outcome.strategy {
        Strategy::Conditional if outcome.several => {
            "all of it takes effect or none, and nothing that somebody changed since is overwritten; then all of it is read back and compared"
        }
        Strategy::Conditional if outcome.patched => {
            "only what changes is sent, on condition that nobody changed the entry since; then all of it is read back and compared"
        }
        Strategy::Conditional => "a conditional write, read back and compared",
        Strategy::PlainPost => "one send, read back by content",
        Strategy::VendorOp => "the EHR's own operation, read back by content",
        Strategy::EhrStaged => "placed unsigned; the signature given in the EHR is the approval",
        Strategy::HumanEntry => "entered by a person, who attests it",
    }
}

/// Why writes of a kind are held back, if they are, and until when.
pub(super) fn held_back(sending: Sending, now: Timestamp) -> Option<String> {
    let what = match sending.kind {
        SendKind::Create => "New entries",
        SendKind::Update => "Changes of entries",
        SendKind::Operation => "Calls of the EHR's own operation",
    };
    let seconds = |until: Timestamp| until.duration_since(now).as_secs().max(0) + 1;
    let why = match (sending.rests_until, sending.state) {
        (Some(until), _) => format!(
            "the EHR asked to be left alone for another {} s",
            seconds(until)
        ),
        (None, BreakerState::Closed { .. }) => return None,
        (None, BreakerState::Open { until, .. }) if now < until => format!(
            "the EHR failed several times in a row; one is tried in {} s",
            seconds(until)
        ),
        (None, BreakerState::Open { .. } | BreakerState::HalfOpen { .. }) => {
            "the EHR failed several times in a row; one is being tried now".to_owned()
        }
    };
    Some(format!(
        "{what} are not sent: {why}. What is approved waits in the queue, and nothing is lost."
    ))
}

/// What a proof level shows.
pub(super) fn proof(level: ProofLevel) -> &'static str {
    match level {
        ProofLevel::P0 => "a person attests that it was entered",
        ProofLevel::P1 => "the EHR acknowledged",
        ProofLevel::P2 => "read back, and equal to what was sent",
        ProofLevel::P3 => "conditional write, version read back",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn times_are_said_briefly() {
        let words = |seconds: i64| ago(at(1_000_000), at(1_000_000 + seconds)).words;
        assert_eq!(words(3), "just now");
        assert_eq!(words(59), "59 s ago");
        assert_eq!(words(60), "1 min ago");
        assert_eq!(words(3_600), "1 h ago");
        assert_eq!(words(5_400), "1 h 30 min ago");
        assert_eq!(words(86_400), "1 day ago");
        assert_eq!(words(-120), "in 2 min");
    }

    #[test]
    fn only_a_conditional_write_goes_as_a_patch() {
        let words = |strategy, patched, several| {
            way(&OutcomeView {
                strategy,
                patched,
                several,
                staged: false,
                proof: strategy.proof(),
                drops: Vec::new(),
                deliver_within_s: 60,
            })
        };
        let patched = words(Strategy::Conditional, true, false);
        assert!(patched.starts_with("only what changes is sent"));
        let whole = words(Strategy::Conditional, false, false);
        let several = words(Strategy::Conditional, true, true);
        assert!(patched != whole && several != whole && several != patched);
        for other in [Strategy::PlainPost, Strategy::HumanEntry] {
            assert_eq!(words(other, true, false), words(other, false, false));
        }
    }

    #[test]
    fn a_deadline_turns_urgent_five_minutes_before() {
        let left = |seconds: i64| left(at(1_000_000 + seconds), at(1_000_000));
        assert!(!left(300).urgent);
        assert!(left(299).urgent);
        assert_eq!(left(0).words, "overdue");
        assert_eq!(left(720).words, "12 min left");
    }
}
