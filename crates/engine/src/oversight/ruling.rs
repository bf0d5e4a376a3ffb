//! What overseeing says to a ruling: calibrated confidence as an observed fact, and that a row is demoted.
//!
//! ```text
//! counts ─▶ confidence_pct ─▶ rule ─▶ automatic, and one of its rows is demoted? ─▶ row_demoted ─▶ rule once more
//! ```
//! Both facts are recorded with the question, so that a replay asks the same. Neither can lower a gate below its row:
//! calibrated confidence is never more than what people's decisions bear out, and a claim takes away from it only.

use chaperone_core::bundle::AgentDeclaration;
use chaperone_core::change::{Change, Direction};
use chaperone_core::evidence::Ruling;
use chaperone_core::facts::{FactValue, Facts};
use chaperone_core::gate::GateLevel;
use chaperone_core::ids::{IntentId, ToolName};
use chaperone_core::oversight::{Combination, Maker};
use chaperone_core::ports::{RecordKey, StoreFailed};
use chaperone_core::request::WriteRequest;
use chaperone_core::resource::Interaction;
use chaperone_core::undo::VersionName;
use chaperone_policy::RulingFailed;

use super::follow::{DEMOTIONS, parsed};
use super::tally::{Counted, TALLIES, Tally};
use crate::context::Engine;
use crate::errors::CallError;

/// The fact that policies know calibrated confidence by.
const CONFIDENCE: &str = "confidence_pct";
/// The fact that says that a row is demoted.
const DEMOTED: &str = "row_demoted";

/// Which model and prompts an agent runs on, and what it claims of its confidence, from 0 to 1. Nothing where the
/// bundle names a version in a way that is no name: nothing is counted for it then, and none is calibrated.
pub(crate) fn maker_of(agent: &AgentDeclaration, confidence: Option<f64>) -> Option<Maker> {
    let name = |text: &String| VersionName::new(text.as_str()).ok();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0 to 100 before"
    )]
    let pct = |share: f64| (share * 100.0).floor().clamp(0.0, 100.0) as u8;
    Some(Maker {
        model: name(&agent.model)?,
        prompts: agent.prompts.iter().map(name).collect::<Option<Vec<_>>>()?,
        claimed_pct: confidence.map(pct),
    })
}

/// Opting out and calling for help wait for nobody, however often their agent was wrong.
fn waits_for_nobody(change: &Change) -> bool {
    change.direction == Direction::MorePrivate
        || (change.resource.as_str() == "Flag" && change.interaction == Interaction::Create)
}

impl Engine {
    /// Adds what people's decisions bear out of the agent's confidence, where there are enough of them.
    pub(crate) async fn observe_calibrated(
        &self,
        maker: Option<&Maker>,
        (intent, tool): (&IntentId, &ToolName),
        change: &Change,
        facts: &mut Facts,
    ) -> Result<(), StoreFailed> {
        let Some(maker) = maker.filter(|_| !waits_for_nobody(change)) else {
            return Ok(());
        };
        let key = RecordKey::new(TALLIES, Counted::tool(maker, intent, tool).key());
        let Some(row) = self.store.projection(&self.config.tenant, &key).await? else {
            return Ok(());
        };
        let tally: Tally = parsed(&row)?;
        let pct = tally.counts.confidence_pct(
            &self.oversight.calibration,
            self.now().as_second(),
            maker.claimed_pct,
        );
        if let Some(pct) = pct {
            facts.observe(CONFIDENCE, FactValue::Long(i64::from(pct)));
        }
        Ok(())
    }

    /// Asks policy about everything that a proposal changes. Several changes are each looked at as one alone would be,
    /// and then ruled on together.
    pub(crate) async fn rule_all_overseen(
        &self,
        asked: Vec<WriteRequest>,
        maker: Option<&Maker>,
    ) -> Result<(Vec<WriteRequest>, Ruling), CallError> {
        let mut seen = Vec::with_capacity(asked.len());
        for one in asked {
            seen.push(self.with_demotion(one, maker).await?);
        }
        let ruling = self.bundle.rule_all(&seen).map_err(no_ruling)?;
        Ok((seen, ruling))
    }

    /// The question, with what people found too much wrong in, where that would go through alone.
    async fn with_demotion(
        &self,
        mut asked: WriteRequest,
        maker: Option<&Maker>,
    ) -> Result<WriteRequest, CallError> {
        let ruling = self.bundle.rule(&asked).map_err(no_ruling)?;
        let record = ruling.record();
        let Some(maker) = maker.filter(|_| record.gate.level() <= GateLevel::AutoVerified) else {
            return Ok(asked);
        };
        for row in &record.determining {
            let combination = Combination::of(maker, &asked.intent, Some(row.clone()));
            let key = RecordKey::new(DEMOTIONS, combination.key());
            let demotion = self
                .store
                .record(&self.config.tenant, &key, self.now())
                .await?;
            if demotion.is_some() {
                asked.facts.observe(DEMOTED, FactValue::Bool(true));
                break;
            }
        }
        Ok(asked)
    }
}

fn no_ruling(failed: RulingFailed) -> CallError {
    tracing::error!(error = %failed, "policy could not rule");
    CallError::denied().saying("policy could not rule on this, so it is refused")
}
