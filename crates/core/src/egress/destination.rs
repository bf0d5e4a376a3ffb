//! Addresses: one that bytes are about to go to, and the patterns by which vendors are listed. No other spelling of
//! a host is understood, so none can lead past a pattern.
//!
//! Not here: what a name resolves to; whoever connects checks that.

use core::net::IpAddr;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name of a host, in bytes.
///
/// # Source
/// RFC 1035, section 2.3.4.
const HOST_BYTES_MAX: usize = 253;
/// Longest label of a name, in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// How a vendor is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// HTTP in the clear; to this machine only.
    Http,
    /// HTTP over TLS.
    Https,
    /// Mail, with STARTTLS, or in the clear to this machine.
    Smtp,
    /// Mail over TLS.
    Smtps,
}

impl Scheme {
    /// The name in an address.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Smtp => "smtp",
            Scheme::Smtps => "smtps",
        }
    }

    /// Reads the name in an address.
    pub fn parse(text: &str) -> Option<Self> {
        [Scheme::Http, Scheme::Https, Scheme::Smtp, Scheme::Smtps]
            .into_iter()
            .find(|scheme| scheme.as_str() == text)
    }

    /// The port when an address names none.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
            Scheme::Smtp => 587,
            Scheme::Smtps => 465,
        }
    }
}

/// A host: a name in lower case, or an address in its one usual form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A name without a trailing dot.
    Name(String),
    /// An address.
    Address(IpAddr),
}

impl Host {
    /// Reads a host as it stands in an address: a name, an IPv4 address, or an IPv6 address in brackets.
    /// Numbers that some resolvers take for addresses (`127.1`, `0x7f000001`, `2130706433`) are none.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inside) = text.strip_prefix('[') {
            let address: IpAddr = inside.strip_suffix(']')?.parse().ok()?;
            return address.is_ipv6().then_some(Host::Address(address));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return address.is_ipv4().then_some(Host::Address(address));
        }
        is_name(text).then(|| Host::Name(text.to_owned()))
    }

    /// Whether it is this machine by its very form.
    pub fn is_loopback(&self) -> bool {
        match self {
            Host::Name(name) => name == "localhost",
            Host::Address(address) => address.is_loopback(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Labels of lower-case letters, digits and inner hyphens; the last one is no number.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    text.len() <= HOST_BYTES_MAX && text.split('.').all(is_label) && !is_number
}

/// Where bytes are about to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }
}

/// Addresses that belong to a vendor: `https://api.example.org`, `https://*.example.org:8443`,
/// `http://127.0.0.1:*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPattern {
    scheme: Scheme,
    host: HostMatch,
    /// Absent: any port, on this machine only.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum HostMatch {
    Exact(Host),
    /// One label before this name.
    OneLabelBefore(String),
}

/// Why a text is no pattern of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternInvalid {
    /// Not of the form.
    #[error(
        "a host is `scheme://host` or `scheme://host:port`; the scheme is https, http, smtp or smtps, the host is a \
         lower-case name, an address, or `*.` and a name of at least two labels"
    )]
    Form,
    /// In the clear to another machine.
    #[error("http is for this machine only; use https")]
    InTheClear,
    /// Any port of another machine.
    #[error("`*` for a port is for this machine only; name the port")]
    AnyPort,
}

impl HostPattern {
    /// Whether an address is one of these.
    pub fn has(&self, destination: &Destination) -> bool {
        self.has_host(&destination.host)
            && self.scheme == destination.scheme
            && self.port.is_none_or(|port| port == destination.port)
    }

    /// Whether a host is of this pattern, whatever scheme and port.
    pub fn has_host(&self, host: &Host) -> bool {
        match (&self.host, host) {
            (HostMatch::Exact(exact), host) => exact == host,
            (HostMatch::OneLabelBefore(parent), Host::Name(name)) => name
                .strip_suffix(parent.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty() && !label.contains('.')),
            (HostMatch::OneLabelBefore(_), Host::Address(_)) => false,
        }
    }

    /// Whether it is this machine by its very form.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            HostMatch::Exact(host) => host.is_loopback(),
            HostMatch::OneLabelBefore(_) => false,
        }
    }

    /// Whether it is an address and no name.
    pub fn is_address(&self) -> bool {
        matches!(self.host, HostMatch::Exact(Host::Address(_)))
    }
}

impl FromStr for HostPattern {
    type Err = PatternInvalid;

    fn from_str(text: &str) -> Result<Self, PatternInvalid> {
        let (scheme, rest) = text.split_once("://").ok_or(PatternInvalid::Form)?;
        let scheme = Scheme::parse(scheme).ok_or(PatternInvalid::Form)?;
        let host_end = match rest.strip_prefix('[') {
            Some(_) => rest.find(']').map(|at| at.saturating_add(1)),
            None => rest.find(':'),
        }
        .unwrap_or(rest.len());
        let (host, port) = rest
            .split_at_checked(host_end)
            .ok_or(PatternInvalid::Form)?;
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => Some(scheme.default_port()),
            Some("*") => None,
            Some(digits) if !digits.starts_with(['0', '+']) => {
                Some(digits.parse().map_err(|_| PatternInvalid::Form)?)
            }
            _ => return Err(PatternInvalid::Form),
        };
        let host = match host.strip_prefix("*.") {
            Some(parent) if is_name(parent) && parent.contains('.') => {
                HostMatch::OneLabelBefore(parent.to_owned())
            }
            Some(_) => return Err(PatternInvalid::Form),
            None => HostMatch::Exact(Host::parse(host).ok_or(PatternInvalid::Form)?),
        };
        let pattern = Self { scheme, host, port };
        if !pattern.is_loopback() && scheme == Scheme::Http {
            return Err(PatternInvalid::InTheClear);
        }
        if !pattern.is_loopback() && pattern.port.is_none() {
            return Err(PatternInvalid::AnyPort);
        }
        Ok(pattern)
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        match &self.host {
            HostMatch::Exact(host) => write!(f, "{host}")?,
            HostMatch::OneLabelBefore(parent) => write!(f, "*.{parent}")?,
        }
        match self.port {
            Some(port) if port == self.scheme.default_port() => Ok(()),
            Some(port) => write!(f, ":{port}"),
            None => f.write_str(":*"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
