//! Write scopes: what an intent may propose, `Type.interaction.status`, or `Type.interaction` where a
//! type carries no status. Never a wildcard, never a deletion.

use chaperone_core::change::Change;
use chaperone_core::resource::{Code, Interaction, ResourceType};

/// Why a text is no write scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeInvalid {
    /// A wildcard.
    #[error("`*` is refused in a write scope; list what may be written, one by one")]
    Wildcard,
    /// A deletion.
    #[error("agents cannot delete; use a status change such as `entered-in-error`")]
    Delete,
    /// Anything else.
    #[error(
        "a write scope is `Type.create.status` or `Type.update.status`, without the status only where the type has none"
    )]
    Form,
}

/// Checks the form of a write scope.
///
/// # Errors
/// [`ScopeInvalid`], saying what is wrong.
///
/// # Source
/// Narrow resource-type and action scopes, never broad write (requirement R022); no deletes (R040).
pub fn check(scope: &str) -> Result<(), ScopeInvalid> {
    if scope.contains('*') {
        return Err(ScopeInvalid::Wildcard);
    }
    let mut parts = scope.splitn(3, '.');
    let resource = parts.next().and_then(|part| ResourceType::new(part).ok());
    let interaction = parts.next();
    let status = parts.next();
    if interaction == Some(Interaction::Delete.as_str()) {
        return Err(ScopeInvalid::Delete);
    }
    let known = [Interaction::Create, Interaction::Update]
        .iter()
        .any(|known| interaction == Some(known.as_str()));
    let Some(resource) = resource.filter(|_| known) else {
        return Err(ScopeInvalid::Form);
    };
    let status_is_code = status.is_none_or(|status| Code::new(status).is_ok());
    let has_status = super::template::status_element(resource.as_str()).is_some();
    if status_is_code && status.is_some() == has_status {
        Ok(())
    } else {
        Err(ScopeInvalid::Form)
    }
}

/// The scope that covers a change.
pub fn of_change(change: &Change) -> String {
    of(
        &change.resource,
        change.interaction,
        change.to.as_ref().map(Code::as_str),
    )
}

/// The scope of a type, interaction and status.
pub fn of(resource: &ResourceType, interaction: Interaction, status: Option<&str>) -> String {
    let mut scope = format!("{resource}.{}", interaction.as_str());
    if let Some(status) = status {
        scope.push('.');
        scope.push_str(status);
    }
    scope
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_narrow() {
        for good in [
            "Appointment.create.booked",
            "Patient.update",
            "Condition.create.unconfirmed",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        assert_eq!(check("Appointment.create.*"), Err(ScopeInvalid::Wildcard));
        assert_eq!(check("*"), Err(ScopeInvalid::Wildcard));
        assert_eq!(check("Task.delete.requested"), Err(ScopeInvalid::Delete));
        for bad in [
            "",
            "Appointment",
            "Appointment.create",
            "Appointment.create.",
            "Appointment.create.booked now",
            "appointment.create.booked",
            "Appointment.write.booked",
            "Patient.update.active",
        ] {
            assert_eq!(check(bad), Err(ScopeInvalid::Form), "{bad}");
        }
    }
}
