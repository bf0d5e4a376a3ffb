//! From a URL to a pool of connections: our own parameters, when TLS is demanded, and the settings of
//! every session. Sends no query of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::open::OpenFailed;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a caller waits for a free connection.
const POOL_WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// A server that is gone without a word is noticed after about half a minute.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 4;
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of every session. A setting that is stronger already stays. There is no statement timeout
/// here: it would also cut short the wait for a synchronous standby inside COMMIT, which then counts as
/// committed without being replicated. Reads set one for themselves. Nobody rests inside a transaction: a node that is
/// stopped in the middle of one (SIGSTOP, a paused machine) must not hold up the node that takes over. It may be
/// stopped in two at once, of which one waits for the other (see `commit`), and is then waited for twice.
const SESSION: &str = "
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');
    SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '2s';
    SET client_min_messages = 'warning';
";

/// Where to connect, and how.
pub(super) struct Target {
    config: Config,
    /// PEM file of the certificates to trust, in place of the system's.
    trusted: Option<String>,
    schema: Option<String>,
}

impl Target {
    /// Reads the URL.
    pub(super) fn parse(url: &str, application_name: &str) -> Result<Target, OpenFailed> {
        let invalid = |what: String| OpenFailed::UrlInvalid(what);
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut passed_on = Vec::new();
        let mut schema = None;
        let mut trusted = None;
        let mut demanded = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = url::form_urlencoded::parse(pair.as_bytes())
                .next()
                .unwrap_or_default();
            match &*name {
                "schema" => schema = Some(value.into_owned()),
                "sslrootcert" => trusted = Some(value.into_owned()),
                "sslmode" => {
                    demanded = Some(match &*value {
                        "disable" => SslMode::Disable,
                        "allow" | "prefer" => SslMode::Prefer,
                        // Certificates and names are always verified.
                        "require" | "verify-ca" | "verify-full" => SslMode::Require,
                        _ => return Err(invalid("unknown `sslmode`".to_owned())),
                    });
                }
                _ => passed_on.push(pair),
            }
        }
        if schema.as_deref().is_some_and(|name| !is_plain_name(name)) {
            return Err(invalid(
                "`schema` is 1 to 63 lower-case letters, digits or `_`, starting with a letter"
                    .to_owned(),
            ));
        }
        let plain_url = format!("{base}?{}", passed_on.join("&"));
        let mut config: Config = plain_url.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            invalid(cause.unwrap_or_else(|| "it cannot be read".to_owned()))
        })?;
        let local = is_local(&config);
        config
            .ssl_mode(match demanded {
                Some(SslMode::Disable) if !local => return Err(OpenFailed::Plaintext),
                Some(SslMode::Require) => SslMode::Require,
                _ if local => SslMode::Disable,
                _ => SslMode::Require,
            })
            .application_name(application_name)
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives(true)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_INTERVAL)
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(TCP_USER_TIMEOUT);
        Ok(Target {
            config,
            trusted,
            schema,
        })
    }

    /// The schema named in the URL.
    pub(super) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// A pool; connects when first used.
    pub(super) fn pool(&self, connections_max: usize) -> Result<Pool, OpenFailed> {
        let manager = Manager::from_config(
            self.config.clone(),
            self.tls()?,
            ManagerConfig {
                recycling_method: RecyclingMethod::Fast,
            },
        );
        let mut settings = SESSION.to_owned();
        if let Some(schema) = &self.schema {
            settings += &format!("SET search_path = {schema};");
        }
        let settings: Arc<str> = settings.into();
        Pool::builder(manager)
            .max_size(connections_max.max(2))
            .wait_timeout(Some(POOL_WAIT_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .post_create(Hook::async_fn(move |client, _| {
                let settings = Arc::clone(&settings);
                Box::pin(async move {
                    let done = client.batch_execute(&settings).await;
                    done.map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(OpenFailed::unreachable)
    }

    fn tls(&self) -> Result<MakeRustlsConnect, OpenFailed> {
        let failed = |what: String| OpenFailed::Tls(what);
        let mut roots = rustls::RootCertStore::empty();
        if self.config.get_ssl_mode() != SslMode::Disable {
            match &self.trusted {
                Some(file) => {
                    let certificates = CertificateDer::pem_file_iter(file)
                        .map_err(|error| failed(format!("`sslrootcert`: {error}")))?;
                    for certificate in certificates {
                        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                        roots
                            .add(certificate)
                            .map_err(|error| failed(error.to_string()))?;
                    }
                }
                None => {
                    let native = rustls_native_certs::load_native_certs();
                    roots.add_parsable_certificates(native.certs);
                }
            }
            if roots.is_empty() {
                return Err(failed(
                    "no certificates to trust; name a PEM file in `sslrootcert`".to_owned(),
                ));
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

/// Whether no byte leaves this machine.
fn is_local(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name
                    .trim_matches(['[', ']'])
                    .parse::<IpAddr>()
                    .is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    })
}

/// A name that needs no quotes.
fn is_plain_name(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        Target::parse(url, "test").unwrap().config.get_ssl_mode()
    }

    #[test]
    fn a_database_on_this_machine_may_be_spoken_to_in_the_clear() {
        for url in [
            "postgres://u@localhost/db",
            "postgres://u@127.0.0.1:5433/db?sslmode=prefer",
            "postgres://u@[::1]/db?sslmode=disable",
            "postgresql://u@%2Fvar%2Frun%2Fpostgresql/db",
        ] {
            assert_eq!(mode(url), SslMode::Disable, "{url}");
        }
        assert_eq!(
            mode("postgres://u@localhost/db?sslmode=require"),
            SslMode::Require
        );
    }

    #[test]
    fn a_database_elsewhere_is_spoken_to_over_tls_alone() {
        for url in [
            "postgres://u@db.example/db",
            "postgres://u@10.0.0.7/db?sslmode=prefer",
            "postgres://u@db.example/db?sslmode=verify-full",
        ] {
            assert_eq!(mode(url), SslMode::Require, "{url}");
        }
        assert!(matches!(
            Target::parse("postgres://u@db.example/db?sslmode=disable", "test"),
            Err(OpenFailed::Plaintext)
        ));
        // A local name in front does not open the door for a remote one behind it.
        assert_eq!(
            mode("postgres://u@localhost,db.example/db"),
            SslMode::Require
        );
    }

    #[test]
    fn our_own_parameters_are_taken_out_and_others_passed_on() {
        let target = Target::parse(
            "postgres://u@localhost/db?schema=clinic_a&options=-cfoo%3Dbar",
            "t",
        )
        .unwrap();
        assert_eq!(target.schema(), Some("clinic_a"));
        assert_eq!(target.config.get_options(), Some("-cfoo=bar"));
        for bad in [
            "schema=A",
            "schema=a;drop",
            "schema=",
            "sslmode=maybe",
            "nosuch=1",
        ] {
            let url = format!("postgres://u:secret@localhost/db?{bad}");
            let Err(refused) = Target::parse(&url, "test").map(drop) else {
                panic!("{bad} was accepted")
            };
            assert!(!refused.to_string().contains("secret"));
        }
    }
}
