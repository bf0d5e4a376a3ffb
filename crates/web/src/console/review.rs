//! The review of one proposal: five questions in order, then the decision.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use chaperone_core::change::ChangeClass;
use chaperone_core::evidence::{RulesRecord, StageRecord};
use chaperone_core::ids::{OverrideReason, WritebackId};
use chaperone_core::phi::ExposedFor;
use chaperone_core::writeback::StateName;
use chaperone_engine::ledger::LedgerFailed;
use chaperone_engine::views::changes::{BaseState, ChangeView};
use chaperone_engine::views::review::{
    FindingView, PatientShown, ResemblesView, Review, ReviewContent,
};
use chaperone_engine::views::timeline::TimelineEntry;
use chaperone_engine::views::{Barred, Cosign, OverrideChoice, Turn};

use super::ConsoleState;
use super::claims::{self, ClaimRows};
use super::decision_support::{SupportRows, support_rows};
use super::edit::{self, EditRow, EditedRows};
use super::page::{Chrome, Done, Here, render_as};
use super::phrases::{self, Moment};
use super::refusal::Refusal;
use super::session::Person;

#[derive(Template)]
#[template(path = "review.html")]
pub(super) struct ReviewPage {
    pub(super) chrome: Chrome,
    pub(super) done: &'static str,
    pub(super) problem: String,
    pub(super) id: String,
    pub(super) state_words: &'static str,
    pub(super) state_css: &'static str,
    pub(super) class: String,
    pub(super) class_css: String,
    pub(super) class_words: &'static str,
    pub(super) deadline: Option<Moment>,
    pub(super) ended: String,
    /// Whether an exception can be asked for: there is none for several changes as one.
    pub(super) may_be_excepted: bool,
    pub(super) deleted: Vec<String>,
    pub(super) content: Option<ContentRows>,
    pub(super) why: WhyRows,
    /// The write-back that it undoes, and the run.
    pub(super) undoes: Vec<(String, String)>,
    pub(super) checks: Vec<CheckRow>,
    pub(super) validator: String,
    pub(super) rules: String,
    pub(super) gate: String,
    pub(super) rows: Vec<String>,
    pub(super) raised: Vec<String>,
    pub(super) reasons: Vec<String>,
    pub(super) outcome: Option<OutcomeRows>,
    pub(super) digest: String,
    pub(super) digest_short: String,
    pub(super) opened: i64,
    pub(super) turn_words: String,
    pub(super) can_decide: bool,
    /// Whether a switch holds back everything but a no.
    pub(super) is_switched: bool,
    pub(super) needs_factor: bool,
    pub(super) grave: bool,
    pub(super) light: bool,
    pub(super) reason_typed: String,
    /// Code, words, and whether it was picked; whoever approves must pick one where there are any.
    pub(super) override_choices: Vec<(String, String, bool)>,
    pub(super) operate: Option<Operate>,
    pub(super) timeline: Vec<TimelineRow>,
    pub(super) stream: String,
    pub(super) envelope: String,
    pub(super) has_receipt: bool,
    pub(super) claim: Option<ClaimRows>,
    /// The inputs that this person can change.
    pub(super) edit: Vec<EditRow>,
    pub(super) edit_open: bool,
    pub(super) edit_reason: String,
    /// What took its place; empty where nothing did.
    pub(super) edited_into: String,
    /// How long it is on the screen before it can be decided, in milliseconds.
    pub(super) after_ms: u32,
    /// What decision support says, where it is asked.
    pub(super) support: Option<SupportRows>,
}

/// What only roles that see patients are shown.
pub(super) struct ContentRows {
    pub(super) words: String,
    pub(super) changes: Vec<ChangeRows>,
    pub(super) edited: Option<EditedRows>,
    pub(super) patient: Option<PatientRows>,
    pub(super) patient_missing: bool,
    pub(super) findings: Vec<FindingRow>,
    pub(super) unchecked: Vec<FindingRow>,
    pub(super) refusal_reason: String,
}

/// One change.
pub(super) struct ChangeRows {
    /// It in one line; empty where it is the only one, which the page is headed by.
    pub(super) words: String,
    pub(super) class: String,
    pub(super) class_css: String,
    pub(super) class_words: &'static str,
    /// What it would need by itself, or why it is refused.
    pub(super) alone: String,
    pub(super) is_refused: bool,
    pub(super) reasons: Vec<String>,
    pub(super) follows: String,
    pub(super) follows_diff: Vec<DiffRow>,
    pub(super) diff: Vec<DiffRow>,
    pub(super) documents: Vec<String>,
    pub(super) is_new: bool,
    pub(super) base_words: &'static str,
    pub(super) base_warns: bool,
}

/// One line of the difference.
pub(super) struct DiffRow {
    pub(super) path: String,
    pub(super) before: String,
    pub(super) after: String,
}

/// The patient.
pub(super) struct PatientRows {
    pub(super) name: String,
    pub(super) birth_date: String,
    pub(super) age: String,
    pub(super) gender: String,
    pub(super) identifiers: Vec<(String, String)>,
    pub(super) allergies: Vec<String>,
    pub(super) allergies_unknown: bool,
    pub(super) deceased: bool,
    pub(super) href: String,
}

/// Why.
pub(super) struct WhyRows {
    pub(super) agent: String,
    pub(super) author: String,
    pub(super) intent: String,
    pub(super) purpose: String,
    pub(super) tool: String,
    pub(super) rationale: String,
    pub(super) confidence: String,
    pub(super) calibrated: String,
    pub(super) sources: Vec<(String, bool)>,
    pub(super) resembles: Vec<ResemblesView>,
    pub(super) tainted: bool,
}

/// One validation stage.
pub(super) struct CheckRow {
    pub(super) stage: String,
    pub(super) words: String,
    pub(super) css: &'static str,
}

/// One finding.
pub(super) struct FindingRow {
    pub(super) severity: String,
    pub(super) css: &'static str,
    pub(super) message: String,
    pub(super) expression: String,
    pub(super) basis: String,
    pub(super) proposed: String,
}

/// What happens if it is approved.
pub(super) struct OutcomeRows {
    pub(super) how: String,
    pub(super) proof: String,
    pub(super) drops: Vec<&'static str>,
    pub(super) within: String,
}

/// What an operator or a person at the EHR can do outside of approving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operate {
    /// Requeue or abandon.
    DeadLetter,
    /// Say whether it was applied.
    Unknown,
    /// Attest that it was entered.
    Attest,
    /// Let what was set aside go on, or reject it.
    Aside,
}

/// One line of a timeline.
pub(super) struct TimelineRow {
    pub(super) seq: u64,
    pub(super) at: Moment,
    pub(super) actor: String,
    pub(super) words: String,
    pub(super) kind: String,
}

impl TimelineRow {
    pub(super) fn of(entry: &TimelineEntry, now: chaperone_core::Timestamp) -> Self {
        Self {
            seq: entry.seq,
            at: phrases::ago(entry.at, now),
            actor: entry.actor.clone(),
            words: entry.words.clone(),
            kind: entry.kind.clone(),
        }
    }
}

/// An id in an address; anything else is nothing here.
pub(super) fn id_of(text: &str) -> Result<WritebackId, Refusal> {
    text.parse().map_err(|_| Refusal::NotFound)
}

pub(super) async fn show(
    State(state): State<ConsoleState>,
    person: Person,
    Path(id): Path<String>,
    Query(done): Query<Done>,
) -> Result<Response, Refusal> {
    let again = Again {
        done: done.words(),
        ..Again::default()
    };
    page(&state, &person, id_of(&id)?, again, StatusCode::OK).await
}

/// What a page that is shown again carries over.
#[derive(Default)]
pub(super) struct Again {
    pub(super) done: &'static str,
    pub(super) problem: String,
    pub(super) reason: String,
    pub(super) override_reason: Option<OverrideReason>,
    /// What stood in the form of a change.
    pub(super) edit: Option<BTreeMap<String, String>>,
    pub(super) edit_reason: String,
}

/// The page, also after a decision that was not taken.
pub(super) async fn page(
    state: &ConsoleState,
    person: &Person,
    id: WritebackId,
    again: Again,
    status: StatusCode,
) -> Result<Response, Refusal> {
    // Asked first: what is shown below is how it stands after that.
    let support = support_rows(state, person, id).await?;
    let review = state.engine.review(&person.human, id).await?;
    let chrome = Chrome::of(state, person, "Review", Here::Inbox).await?;
    let choices = state.engine.override_choices();
    let digest = review.row.digest;
    let class = review.row.class.unwrap_or(ChangeClass::M5);
    let changes = review
        .ruling
        .as_ref()
        .map_or(1, |it| it.entries.len().max(1));
    let mut page = ReviewPage::of(review, choices, chrome, again);
    page.claim = claims::rows(state, person, id).await?;
    if page.can_decide {
        page.after_ms = state.engine.least_on_screen_ms(class, changes);
    }
    // Whoever changes it has read it too.
    if page.can_decide || !page.edit.is_empty() {
        let shown: Vec<_> = digest.map(|digest| (id, digest)).into_iter().collect();
        state.engine.put_on_screen(&person.human, &shown).await?;
    }
    page.support = support.filter(|_| page.content.is_some());
    Ok(render_as(status, &page))
}

impl ReviewPage {
    fn of(review: Review, choices: &[OverrideChoice], chrome: Chrome, again: Again) -> Self {
        let Review {
            row,
            content,
            ruling,
            stages,
            validator,
            rules,
            outcome,
            calibrated_pct,
            author,
            purpose,
            undo,
            turn,
            is_switched,
            timeline,
            keeps_opening_back,
            ended,
            deleted,
            now,
        } = review;
        let class = row.class.unwrap_or(ChangeClass::M0);
        let is_several = ruling
            .as_ref()
            .is_some_and(|ruling| !ruling.entries.is_empty());
        let (state_words, state_css) = phrases::state(row.state);
        // Whoever is not to see the content has none here.
        let mut content = content.map(|it| it.into_exposed(ExposedFor::Person));
        let why = why(&row, content.as_ref(), author, purpose, calibrated_pct);
        let (mut can_decide, needs_factor, over_warning) = match &turn {
            Turn::Yours {
                second_factor,
                over_warning,
                ..
            } => (true, *second_factor, *over_warning),
            Turn::WaitsForOther | Turn::NotYours { .. } => (false, false, false),
        };
        let edit = content
            .as_mut()
            .map(|content| std::mem::take(&mut content.edit))
            .filter(|_| !is_switched)
            .unwrap_or_default();
        let content = content.map(content_rows);
        let mut turn_words = turn_words(&turn, row.state);
        // Nobody approves blind: without the patient on the screen, approving is not offered.
        let is_blind = content
            .as_ref()
            .is_none_or(|content| content.patient_missing);
        if is_blind && can_decide {
            can_decide = false;
            turn_words =
                "The patient cannot be shown, because the EHR does not answer. Approving is \
                offered again when it does."
                    .to_owned();
        }
        if is_switched && can_decide {
            turn_words =
                "A switch holds approvals back. You can reject this now; approving is offered again \
                when the switch is back."
                    .to_owned();
        }
        let digest = row
            .digest
            .map(|digest| digest.to_string())
            .unwrap_or_default();
        let ended = ended.unwrap_or_default();
        let may_be_excepted = ended.starts_with("Policy refused it") && !is_several;
        Self {
            chrome,
            done: again.done,
            problem: again.problem,
            id: row.id.to_string(),
            state_words,
            state_css,
            class: row.class.map(|class| class.to_string()).unwrap_or_default(),
            class_css: phrases::class_css(class),
            class_words: phrases::class(class),
            deadline: row.deadline.map(|deadline| phrases::left(deadline, now)),
            may_be_excepted,
            ended,
            deleted,
            content,
            why,
            undoes: undo
                .map(|link| (link.of.to_string(), link.run.to_string()))
                .into_iter()
                .collect(),
            light: class <= ChangeClass::M2
                && !row.tainted
                && stages.iter().all(StageRecord::is_clean),
            checks: stages.iter().map(check_row).collect(),
            validator,
            rules: rules.as_ref().map(rules_words).unwrap_or_default(),
            gate: ruling
                .as_ref()
                .map(|r| phrases::gate(&r.gate))
                .unwrap_or_default(),
            rows: ruling
                .iter()
                .flat_map(|r| &r.determining)
                .map(ToString::to_string)
                .collect(),
            raised: ruling
                .iter()
                .flat_map(|r| &r.raised_by)
                .map(ToString::to_string)
                .collect(),
            reasons: ruling
                .iter()
                .flat_map(|r| &r.reasons)
                .map(|r| r.text.clone())
                .collect(),
            outcome: outcome.map(|outcome| OutcomeRows {
                how: if outcome.staged {
                    "It stays in Chaperone as a draft, until a linked write-back takes it up."
                        .to_owned()
                } else {
                    format!("It is delivered to the EHR: {}.", phrases::way(&outcome))
                },
                proof: format!("{}: {}", outcome.proof, phrases::proof(outcome.proof)),
                drops: if outcome.staged {
                    Vec::new()
                } else {
                    outcome.drops
                },
                within: phrases::duration(outcome.deliver_within_s),
            }),
            digest_short: digest.chars().take(12).collect(),
            digest,
            opened: now.as_millisecond(),
            turn_words,
            can_decide,
            is_switched,
            needs_factor,
            // Nobody approves what stands below the part that they have seen.
            grave: class >= ChangeClass::M4 || is_several,
            reason_typed: again.reason,
            override_choices: choices
                .iter()
                .filter(|_| over_warning)
                .map(|choice| {
                    let picked = again.override_reason.as_ref() == Some(&choice.code);
                    (choice.code.to_string(), choice.words.clone(), picked)
                })
                .collect(),
            operate: operate(&row),
            timeline: timeline
                .iter()
                .map(|entry| TimelineRow::of(entry, now))
                .collect(),
            stream: format!("/console/streams/writeback/{}", row.id),
            envelope: match keeps_opening_back {
                true => String::new(),
                false => format!("/console/streams/envelope/{}", row.envelope),
            },
            has_receipt: matches!(row.state, StateName::Delivered | StateName::Staged),
            claim: None,
            // Nobody changes what they would decide blind.
            edit: match is_blind {
                true => Vec::new(),
                false => edit::rows(edit, again.edit.as_ref()),
            },
            edit_open: again.edit.is_some(),
            edit_reason: again.edit_reason,
            edited_into: row
                .edited_into
                .map(|into| into.to_string())
                .unwrap_or_default(),
            after_ms: 0,
            support: None,
        }
    }
}

fn operate(row: &chaperone_engine::views::WritebackRow) -> Option<Operate> {
    use chaperone_core::evidence::Strategy;
    match row.state {
        StateName::DeadLetter => Some(Operate::DeadLetter),
        StateName::Quarantined => Some(Operate::Aside),
        StateName::Unknown if row.human_needed.is_some() => Some(Operate::Unknown),
        StateName::Delivering if row.strategy == Some(Strategy::HumanEntry) => {
            Some(Operate::Attest)
        }
        _ => None,
    }
}

fn turn_words(turn: &Turn, state: StateName) -> String {
    if state != StateName::AwaitingApproval {
        return String::new();
    }
    match turn {
        Turn::Yours {
            role,
            second_factor,
            cosign,
            ..
        } => {
            let mut words = format!("You decide as {}.", phrases::role(*role));
            match cosign {
                Cosign::None => {}
                Cosign::Needed => words.push_str(
                    " You are in training: when you approve, a colleague signs beside you before anything happens.",
                ),
                Cosign::Theirs => words.push_str(
                    " Somebody in training has approved it; approving signs beside them, and you answer for it.",
                ),
            }
            if *second_factor {
                words.push_str(" Approving asks for a code of your authenticator next.");
            }
            words
        }
        Turn::WaitsForOther => {
            "You have approved, with this account or another one of yours. It waits for another person."
                .to_owned()
        }
        Turn::NotYours { roles, .. } if roles.is_empty() => String::new(),
        Turn::NotYours { roles, barred } => {
            let mut words = barred.map_or_else(String::new, barred_words);
            words.push_str(&format!("It waits for: {}.", phrases::roles(roles)));
            words
        }
    }
}

/// Why somebody does not decide although their role is among those that do, with a space behind.
fn barred_words(barred: Barred) -> String {
    let words = match barred {
        Barred::InTraining => {
            "You are in training, and cannot be one of those whose word counts here. "
        }
        Barred::AskedForIt => "You asked for this or changed it, so two others must agree to it. ",
        Barred::NotNamedByProtocol => "The protocol that covers this does not name you. ",
    };
    words.to_owned()
}

fn why(
    row: &chaperone_engine::views::WritebackRow,
    content: Option<&ReviewContent>,
    author: Option<String>,
    purpose: Option<String>,
    calibrated_pct: Option<i64>,
) -> WhyRows {
    WhyRows {
        agent: row.agent.to_string(),
        author: author.unwrap_or_default(),
        intent: row.intent.to_string(),
        purpose: purpose.unwrap_or_default(),
        tool: row.tool.to_string(),
        rationale: content
            .and_then(|c| c.rationale.clone())
            .unwrap_or_default(),
        confidence: content
            .and_then(|c| c.confidence)
            .map(|confidence| format!("{:.0} %", confidence * 100.0))
            .unwrap_or_default(),
        calibrated: calibrated_pct.map_or_else(String::new, |pct| format!("{pct} %")),
        sources: content
            .iter()
            .flat_map(|c| &c.sources)
            .map(|source| (source.words.clone(), source.untrusted))
            .collect(),
        resembles: content.map_or_else(Vec::new, |c| c.resembles.clone()),
        tainted: row.tainted,
    }
}

fn check_row(stage: &chaperone_core::evidence::StageRecord) -> CheckRow {
    let (words, css) = match (stage.ran, stage.errors, stage.warnings) {
        (false, _, _) => ("not run".to_owned(), "warn"),
        (true, 0, 0) => ("passed".to_owned(), "good"),
        (true, 0, warnings) => (format!("passed, {warnings} to look at"), "warn"),
        // Plausibility finds no fault with the form; what it found is ruled on.
        (true, errors, warnings) if stage.stage == "plausibility" => {
            let found = errors.saturating_add(warnings);
            (format!("{found} against it"), "bad")
        }
        (true, errors, _) => (format!("{errors} errors"), "bad"),
    };
    let stage = match stage.stage.as_str() {
        "structure" => "Structure against FHIR R4",
        "business-rules" => "Business rules: whose references, which status changes",
        "plausibility" => "Clinical plausibility",
        other => other,
    };
    CheckRow {
        stage: stage.to_owned(),
        words,
        css,
    }
}

/// The rules in one line: which they were, what they were given, what they could not check.
fn rules_words(rules: &RulesRecord) -> String {
    let looked: Vec<String> = rules
        .looked_up
        .iter()
        .map(|it| match it.resources {
            Some(count) => format!("{} ({count})", it.what),
            None => format!("{} (could not be had)", it.what),
        })
        .collect();
    let looked = match looked.is_empty() {
        true => String::new(),
        false => format!(" Looked up: {}.", looked.join(", ")),
    };
    let digest: String = rules.digest.to_string().chars().take(12).collect();
    let unchecked = match rules.not_checked {
        0 => String::new(),
        1 => " One rule could not be applied.".to_owned(),
        many => format!(" {many} rules could not be applied."),
    };
    format!("Rules {} ({digest}…).{looked}{unchecked}", rules.rule_set)
}

fn finding_row(finding: FindingView) -> FindingRow {
    FindingRow {
        css: match finding.severity.as_str() {
            "error" | "fatal" => "bad",
            "warning" => "warn",
            _ => "quiet",
        },
        severity: finding.severity,
        message: finding.message,
        expression: finding.expression,
        basis: finding.basis.join(", "),
        proposed: finding.proposed.unwrap_or_default(),
    }
}

fn content_rows(content: ReviewContent) -> ContentRows {
    let (unchecked, findings): (Vec<FindingView>, Vec<FindingView>) = content
        .findings
        .into_iter()
        .partition(FindingView::is_unchecked);
    let (patient, patient_missing) = match content.patient {
        PatientShown::NoPatient => (None, false),
        PatientShown::Unavailable => (None, true),
        PatientShown::Known(header) => {
            let header = header.into_exposed(ExposedFor::Person);
            let href = format!("/console/patients/{}", header.token);
            let rows = PatientRows {
                name: header.name,
                birth_date: header.birth_date,
                age: header.age,
                gender: header.gender,
                identifiers: header.identifiers,
                allergies_unknown: header.allergies.is_none(),
                allergies: header.allergies.unwrap_or_default(),
                deceased: header.deceased,
                href,
            };
            (Some(rows), false)
        }
    };
    ContentRows {
        words: content.words.into_exposed(ExposedFor::Person),
        changes: content.changes.into_iter().map(change_rows).collect(),
        edited: content.edited.map(edit::edited_rows),
        patient,
        patient_missing,
        findings: findings.into_iter().map(finding_row).collect(),
        unchecked: unchecked.into_iter().map(finding_row).collect(),
        refusal_reason: content.refusal_reason.unwrap_or_default(),
    }
}

fn change_rows(change: ChangeView) -> ChangeRows {
    let (base_words, base_warns) = match change.base {
        BaseState::New => ("", false),
        BaseState::Current => (
            "The record is still as it was when this was proposed.",
            false,
        ),
        BaseState::Changed => (
            "The record changed since this was proposed. Approving would end in nothing; reject it and \
             let the agent propose anew.",
            true,
        ),
        BaseState::NotChecked => (
            "The EHR does not answer, so it is not known whether the record changed since.",
            true,
        ),
    };
    let own = change.alone.as_ref();
    ChangeRows {
        words: match own {
            Some(_) => change.words.into_exposed(ExposedFor::Person),
            None => String::new(),
        },
        class: own.map(|own| own.class.to_string()).unwrap_or_default(),
        class_css: own
            .map(|own| phrases::class_css(own.class))
            .unwrap_or_default(),
        class_words: own.map(|own| phrases::class(own.class)).unwrap_or_default(),
        alone: match own {
            None => String::new(),
            Some(own) => match &own.denial {
                Some(code) => format!("Policy refuses this one: {code}."),
                None => format!("By itself it would need {}.", phrases::gate(&own.gate)),
            },
        },
        is_refused: own.is_some_and(|own| own.denial.is_some()),
        reasons: own.map(|own| own.reasons.clone()).unwrap_or_default(),
        follows: change
            .follows
            .as_ref()
            .map(|follows| follows.words.clone())
            .unwrap_or_default(),
        follows_diff: change
            .follows
            .map(|follows| diff_rows(follows.diff))
            .unwrap_or_default(),
        is_new: change.base == BaseState::New,
        diff: diff_rows(change.diff),
        documents: change.documents,
        base_words,
        base_warns,
    }
}

pub(super) fn diff_rows(lines: Vec<chaperone_engine::views::review::DiffLine>) -> Vec<DiffRow> {
    let rows = lines.into_iter().map(|line| DiffRow {
        // A place to break at, so that no name is torn apart.
        path: line.path.replace('.', ".\u{200b}"),
        before: line.before.unwrap_or_default(),
        after: line.after.unwrap_or_default(),
    });
    rows.collect()
}

/// The receipt, as a file: every event of the write-back with its proof.
pub(super) async fn receipt(
    State(state): State<ConsoleState>,
    person: Person,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let id = id_of(&id)?;
    state.engine.may_open(&person.human, id).await?;
    match state.engine.receipt_of(id).await {
        Ok(receipt) => {
            let body = receipt.to_file();
            let name = format!("attachment; filename=\"receipt-{id}.json\"");
            Ok((
                [
                    (CONTENT_TYPE, "application/json".to_owned()),
                    (CONTENT_DISPOSITION, name),
                ],
                body,
            )
                .into_response())
        }
        Err(LedgerFailed::NotCovered) => Err(Refusal::Unavailable(
            "The newest entries are not signed yet. Try again in a moment.",
        )),
        Err(failed) => {
            tracing::error!(error = %failed, "a receipt could not be made");
            Err(Refusal::Internal)
        }
    }
}
