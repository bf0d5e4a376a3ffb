//! Everywhere that a configuration sends to, by setting: what `doctor` checks and `dataflow` draws.
//!
//! What an EHR tells at run time, such as its token endpoint, is not here; the gate judges that when it is used.

use chaperone_connect::egress::Gate;
use chaperone_core::egress::{Channel, DataClass};

use super::{Config, MailEncryptionName};

/// One place that bytes are sent to.
pub(crate) struct Destination {
    /// The setting that names it.
    pub(crate) setting: &'static str,
    pub(crate) channel: Channel,
    pub(crate) class: DataClass,
    /// As a URL.
    pub(crate) address: String,
}

impl Config {
    /// Says at start what would not be sent. The server starts all the same: people and the ledger work without.
    pub(crate) fn warn_of_refused(&self, gate: &Gate) {
        for to in self.destinations() {
            if let Err(refusal) = gate.would_pass(to.channel, to.class, &to.address) {
                eprintln!("Nothing will be sent to `{}`: {refusal}", to.setting);
            }
        }
    }

    /// All of them, in the order of the file.
    pub(crate) fn destinations(&self) -> Vec<Destination> {
        let to = |setting, channel, class, address: &str| Destination {
            setting,
            channel,
            class,
            address: address.to_owned(),
        };
        let mut all = Vec::new();
        if let Some(registry) = &self.packages.registry {
            all.push(to(
                "packages.registry",
                Channel::PackageRegistry,
                DataClass::None,
                registry,
            ));
        }
        all.push(to(
            "ehr.base_url",
            Channel::Ehr,
            DataClass::Phi,
            &self.ehr.base_url,
        ));
        if let Some(smart) = &self.ehr.smart {
            // Where it is not configured, it is asked for at the EHR itself.
            let asked = smart.token_url.as_deref().unwrap_or(&self.ehr.base_url);
            all.push(to(
                "ehr.smart.token_url",
                Channel::Authorization,
                DataClass::Operational,
                asked,
            ));
        }
        if let Some(launch) = &self.ehr.launch {
            // Where they are not configured, they are asked for at the EHR itself.
            let (token_url, jwks_url) = match &launch.server {
                Some(server) => (&server.token_url, &server.jwks_url),
                None => (&self.ehr.base_url, &self.ehr.base_url),
            };
            for (setting, address) in [
                ("ehr.launch.server.token_url", token_url),
                ("ehr.launch.server.jwks_url", jwks_url),
            ] {
                all.push(to(
                    setting,
                    Channel::Authorization,
                    DataClass::Operational,
                    address,
                ));
            }
        }
        if let Some((repository, tokens)) = self
            .audit_stream
            .as_ref()
            .and_then(|stream| stream.addresses())
        {
            all.push(to(
                "audit_stream.fhir.base_url",
                Channel::AuditStream,
                DataClass::Phi,
                repository,
            ));
            all.extend(tokens.map(|tokens| {
                to(
                    "audit_stream.fhir.smart.token_url",
                    Channel::Authorization,
                    DataClass::Operational,
                    tokens,
                )
            }));
        }
        if let Some(support) = &self.decision_support {
            all.push(to(
                "decision_support.base_url",
                Channel::DecisionSupport,
                DataClass::Phi,
                &support.base_url,
            ));
        }
        if let Some(mail) = &self.mail {
            let scheme = match mail.encryption {
                MailEncryptionName::Tls => "smtps",
                MailEncryptionName::StartTls | MailEncryptionName::PlainLoopback => "smtp",
            };
            let host = match mail.host.parse::<std::net::Ipv6Addr>() {
                Ok(address) => format!("[{address}]"),
                Err(_) => mail.host.clone(),
            };
            let address = format!("{scheme}://{host}:{}", mail.port);
            all.push(to(
                "mail.host",
                Channel::Mail,
                DataClass::Operational,
                &address,
            ));
            if mail.patients {
                all.push(to(
                    "mail.patients",
                    Channel::Message,
                    DataClass::Phi,
                    &address,
                ));
            }
        }
        all
    }
}
