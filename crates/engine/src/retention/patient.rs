//! What retention must know of a patient: whose a payload is, when they were born, when something last happened.

use chaperone_core::Timestamp;
use chaperone_core::ids::PatientToken;
use chaperone_core::ports::{EhrReadFailed, Listing, PayloadRow, StoreFailed};
use chaperone_core::resource::ResourceType;
use chaperone_ledger::audit::access::{Access, AccessKind};

use crate::audit::{ACCESSES, read_row};
use crate::context::Engine;
use crate::tokens::TokenFailed;

/// When a patient was born, as far as it can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Born {
    /// On, or at the latest in, this day, month or year.
    By(Timestamp),
    /// Nobody knows any more: no such patient at the EHR, or no date.
    Unknown,
    /// The EHR does not answer.
    NotNow,
}

/// The patient under whose key a payload is.
pub(super) fn patient_of(payload: &PayloadRow) -> Option<PatientToken> {
    payload.key.rsplit('/').next()?.parse().ok()
}

impl Engine {
    /// When a patient was born, as the EHR has it now.
    pub(super) async fn born(&self, patient: PatientToken) -> Result<Born, StoreFailed> {
        let id = match self.patient_id(patient).await {
            Ok(id) => id,
            Err(TokenFailed::Unknown | TokenFailed::Unreadable(_)) => return Ok(Born::Unknown),
            Err(TokenFailed::Store(failed)) => return Err(failed),
            Err(_) => return Ok(Born::NotNow),
        };
        let resource =
            ResourceType::new("Patient").map_err(|e| StoreFailed::Corrupt(e.to_string()))?;
        Ok(match self.ehr.read(&resource, &id).await {
            Ok(patient) => patient
                .get("birthDate")
                .and_then(serde_json::Value::as_str)
                .and_then(latest_day)
                .map_or(Born::Unknown, Born::By),
            Err(EhrReadFailed::NotFound) => Born::Unknown,
            Err(_) => Born::NotNow,
        })
    }

    /// When something last happened to a patient, by the list of accesses; none when nothing ever did. Questions
    /// about them do not count: asking would keep them for ever.
    pub(super) async fn last_activity(
        &self,
        patient: PatientToken,
    ) -> Result<Option<Timestamp>, StoreFailed> {
        /// Newest accesses looked at: more questions than this in a row count as activity.
        const LOOKED_AT: u32 = 200;
        let listing = Listing {
            index: Some(patient.to_string()),
            descending: true,
            limit: LOOKED_AT,
            ..Listing::default()
        };
        let rows = self
            .store
            .projections(&self.config.tenant, ACCESSES, listing)
            .await?;
        let mut oldest = None;
        for row in &rows {
            let access: Access = read_row(row)?;
            if !matches!(access.kind, AccessKind::Asked { .. }) {
                return Ok(Some(access.at));
            }
            oldest = Some(access.at);
        }
        Ok(oldest)
    }
}

/// The latest day that a FHIR date can mean.
fn latest_day(date: &str) -> Option<Timestamp> {
    let parts: Vec<&str> = date.split('-').collect();
    let day = match parts.as_slice() {
        [_, _, _] => date.parse::<jiff::civil::Date>().ok()?,
        [_, _] => format!("{date}-01")
            .parse::<jiff::civil::Date>()
            .ok()?
            .last_of_month(),
        [_] => format!("{date}-12-31").parse::<jiff::civil::Date>().ok()?,
        _ => return None,
    };
    let start = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(start.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_means_its_latest_day() {
        for (date, day) in [
            ("2010-02-03", Some("2010-02-03T00:00:00Z")),
            ("2010-02", Some("2010-02-28T00:00:00Z")),
            ("2010", Some("2010-12-31T00:00:00Z")),
            ("2010-02-31", None),
            ("unknown", None),
            ("", None),
        ] {
            let day = day.map(|day| day.parse::<Timestamp>().unwrap());
            assert_eq!(latest_day(date), day, "{date}");
        }
    }
}
