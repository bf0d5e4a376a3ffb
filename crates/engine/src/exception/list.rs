//! Exceptions as pages show them: what waits, what is to be looked at afterwards, and one of them. No row says anything
//! about a patient; the reason, which may, is opened for one at a time, and the look is recorded.

use chaperone_core::Timestamp;
use chaperone_core::ids::WritebackId;
use chaperone_core::phi::Phi;
use chaperone_core::ports::Listing;
use chaperone_core::principal::{Human, Role};

use super::{
    CLOSED, EXCEPTIONS, ExceptionCase, ExceptionFailed, ExceptionStage, OPEN, USED, case_of,
};
use crate::context::Engine;
use crate::views::ViewFailed;

/// Most rows of each half of the list.
const ROWS_MAX: u32 = 200;

/// What a person can do about an exception now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExceptionTurn {
    /// Ask for it.
    Request,
    /// Grant or decline it.
    Grant,
    /// Decline it only: who asked, and the agent's own team, do not grant it.
    Decline,
    /// Use it.
    Use,
    /// Say what they found.
    Review,
    /// Nothing.
    Nothing,
}

/// One exception in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExceptionRow {
    /// The exception.
    pub case: ExceptionCase,
    /// Whether somebody should have looked at it by now.
    pub overdue: bool,
}

/// One exception, or the place where one could be asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ExceptionView {
    /// The exception, once it was asked for.
    pub case: Option<ExceptionCase>,
    /// Why none is possible, where none was asked for.
    pub not_possible: Option<String>,
    /// Why it was asked for.
    pub reason: Option<Phi<String>>,
    /// What this person can do.
    pub turn: ExceptionTurn,
    /// Who grants it, by role.
    pub granters: Vec<Role>,
    /// Who looks at it afterwards, by role.
    pub reviewers: Vec<Role>,
    /// When the page was made.
    pub now: Timestamp,
}

impl Engine {
    /// Whether a person has a part in exceptions: asks for them, grants them, or looks at them afterwards.
    pub fn sees_exceptions(&self, by: &Human) -> bool {
        use chaperone_core::change::ChangeClass as C;
        let grants = [C::M0, C::M1, C::M2, C::M3, C::M4]
            .into_iter()
            .any(|class| self.exceptions.may_grant(by, class));
        self.exceptions.may_request(by) || self.exceptions.may_review(by) || grants
    }

    /// Exceptions: those about which somebody has something to do, oldest first, then those that are closed, newest
    /// first.
    ///
    /// # Errors
    /// [`ExceptionFailed::NotPermitted`]; store failures.
    pub async fn exceptions(
        &self,
        by: &Human,
    ) -> Result<(Vec<ExceptionRow>, Vec<ExceptionRow>), ExceptionFailed> {
        if !self.sees_exceptions(by) {
            return Err(ExceptionFailed::NotPermitted);
        }
        self.exceptions_listed().await
    }

    /// The same for whoever runs a command on the server. It says nothing about patients.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn exceptions_listed(
        &self,
    ) -> Result<(Vec<ExceptionRow>, Vec<ExceptionRow>), ExceptionFailed> {
        let mut open = self.exceptions_in(OPEN, false).await?;
        open.extend(self.exceptions_in(USED, false).await?);
        let closed = self.exceptions_in(CLOSED, true).await?;
        Ok((open, closed))
    }

    async fn exceptions_in(
        &self,
        index: &str,
        descending: bool,
    ) -> Result<Vec<ExceptionRow>, ExceptionFailed> {
        let now = self.now();
        let listing = Listing {
            index: Some(index.to_owned()),
            descending,
            limit: ROWS_MAX,
            ..Listing::default()
        };
        let tenant = &self.config.tenant;
        let records = self.store.records(tenant, EXCEPTIONS, listing, now).await?;
        let rows = records.iter().map(|record| {
            let case = case_of(record)?;
            let overdue =
                matches!(case.stage, ExceptionStage::Used { review_by, .. } if review_by <= now);
            Ok(ExceptionRow { case, overdue })
        });
        rows.collect()
    }

    /// One exception, or whether one is possible.
    ///
    /// # Errors
    /// [`ExceptionFailed::NotPermitted`], [`ExceptionFailed::Missing`]; store failures. The look is recorded.
    pub async fn exception(
        &self,
        by: &Human,
        of: WritebackId,
    ) -> Result<ExceptionView, ExceptionFailed> {
        if !self.sees_exceptions(by) {
            return Err(ExceptionFailed::NotPermitted);
        }
        let now = self.now();
        let reviewers = self.exceptions.reviewers().to_vec();
        let Some((case, _)) = self.exception_case(of).await? else {
            let hand = self.take_in_hand(of).await?;
            let possible = self.exceptable(&hand, by).await;
            let class = hand.state.ruled().map(|ruled| ruled.ruling.class);
            let granters = class.map(|class| self.exceptions.granters(class).to_vec());
            return Ok(ExceptionView {
                case: None,
                turn: match &possible {
                    Ok(_) if self.exceptions.may_request(by) => ExceptionTurn::Request,
                    _ => ExceptionTurn::Nothing,
                },
                not_possible: match possible {
                    Ok(_) => None,
                    Err(failed) if failed.is_internal() => return Err(failed),
                    Err(failed) => Some(failed.to_string()),
                },
                reason: None,
                granters: granters.unwrap_or_default(),
                reviewers,
                now,
            });
        };
        self.record_look(by, "console.review", case.patient, &["exception"])
            .await
            .map_err(look_failed)?;
        let reason = self.unseal_text(&case.reason).await.ok().map(Phi::new);
        let turn = self.exception_turn(by, &case, now).await?;
        Ok(ExceptionView {
            not_possible: None,
            reason,
            turn,
            granters: self.exceptions.granters(case.class).to_vec(),
            reviewers,
            now,
            case: Some(case),
        })
    }

    async fn exception_turn(
        &self,
        by: &Human,
        case: &ExceptionCase,
        now: Timestamp,
    ) -> Result<ExceptionTurn, ExceptionFailed> {
        Ok(match &case.stage {
            ExceptionStage::Requested { until } if now < *until => {
                match self.check_granter(by, case).await {
                    Ok(()) => ExceptionTurn::Grant,
                    Err(ExceptionFailed::NotPermitted) => ExceptionTurn::Nothing,
                    Err(failed) if failed.is_internal() => return Err(failed),
                    Err(_) => ExceptionTurn::Decline,
                }
            }
            ExceptionStage::Granted { until, .. }
                if now < *until && self.exceptions.may_request(by) =>
            {
                ExceptionTurn::Use
            }
            ExceptionStage::Used { person, .. }
                if self.exceptions.may_review(by)
                    && by.person != *person
                    && by.person != case.requester =>
            {
                ExceptionTurn::Review
            }
            _ => ExceptionTurn::Nothing,
        })
    }
}

fn look_failed(failed: ViewFailed) -> ExceptionFailed {
    match failed {
        ViewFailed::Commit(failed) => ExceptionFailed::Commit(failed),
        ViewFailed::Store(failed) => ExceptionFailed::Store(failed),
        _ => ExceptionFailed::Missing,
    }
}
