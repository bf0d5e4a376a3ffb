//! Who may have patients before them at all: synthetic ones, and no real ones yet. Not a consent engine: what a patient
//! agreed to is evaluated by `chaperone-phi`; this comes before it and can only deny.

use async_trait::async_trait;

use chaperone_core::ports::{ConsentDecision, ConsentHook, ConsentQuestion, Environment};

/// What an allowed access rests on, as recorded.
pub const SANDBOX_BASIS: &str = "synthetic-patients";

/// Why production is denied, as a stable code.
pub const NOT_WIRED: &str = "no-real-patients";

/// Permits on sandbox and test connections, denies on production (invariant 15).
#[derive(Debug, Clone, Copy, Default)]
pub struct SandboxConsent;

#[async_trait]
impl ConsentHook for SandboxConsent {
    async fn decide(&self, question: ConsentQuestion) -> ConsentDecision {
        match question.environment {
            Environment::Sandbox | Environment::Test => ConsentDecision::Permit {
                basis: SANDBOX_BASIS.to_owned(),
            },
            Environment::Production => ConsentDecision::Deny {
                code: NOT_WIRED.to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chaperone_core::ids::{IntentId, TenantId};
    use chaperone_core::resource::{Code, ResourceType};

    async fn decision(environment: Environment) -> ConsentDecision {
        SandboxConsent
            .decide(ConsentQuestion {
                tenant: TenantId::new("clinic").unwrap(),
                environment,
                patient: None,
                intent: IntentId::new("chart-summary").unwrap(),
                purpose: Code::new("TREAT").unwrap(),
                resource: ResourceType::new("Observation").unwrap(),
                write: false,
            })
            .await
    }

    #[tokio::test]
    async fn synthetic_patients_are_permitted_and_real_ones_denied() {
        for environment in [Environment::Sandbox, Environment::Test] {
            let basis = SANDBOX_BASIS.to_owned();
            assert_eq!(
                decision(environment).await,
                ConsentDecision::Permit { basis }
            );
        }
        let code = NOT_WIRED.to_owned();
        assert_eq!(
            decision(Environment::Production).await,
            ConsentDecision::Deny { code }
        );
    }
}
