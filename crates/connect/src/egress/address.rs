//! What a name may resolve to. The addresses that were checked are the ones that are connected to: there is no second
//! look-up that could answer differently.
//!
//! # Source
//! IANA registries of special-purpose addresses (RFC 6890); OWASP, Server-Side Request Forgery Prevention.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Weak;

use async_trait::async_trait;
use chaperone_core::egress::{Channel, DataClass, EgressRefusal, EgressRule, Host};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{Gate, Parts};

/// Most addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 64;

/// Addresses at which cloud platforms hand out credentials; nothing is ever there to be sent to.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// What names resolve to.
#[async_trait]
pub trait Names: Send + Sync + 'static {
    /// The addresses of a name.
    ///
    /// # Errors
    /// When the name is not known or nobody answers.
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// As the machine resolves them.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemNames;

#[async_trait]
impl Names for SystemNames {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// Whether a host may have an address: names of this machine have its own, hosts inside the network have any that a
/// host can have, everybody else has public ones.
pub(super) fn may_have(host: &Host, internal: bool, address: IpAddr) -> bool {
    let address = plain(address);
    if METADATA.contains(&address) || !is_of_a_host(address) {
        return false;
    }
    match host {
        host if host.is_loopback() => address.is_loopback(),
        _ if internal => true,
        _ => is_public(address),
    }
}

/// An IPv6 address that leads to an IPv4 one (mapped, by NAT64 or by 6to4) is judged as that one.
///
/// # Source
/// RFC 4291, section 2.5.5.2; RFC 6052, section 2.1; RFC 3056, section 2.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else {
        return address;
    };
    let of =
        |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => of(high, low),
        _ => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
    }
}

/// Neither unspecified, nor link-local, nor for many at once.
fn is_of_a_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            !(v4.is_unspecified() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast())
                && v4.octets().first() != Some(&0)
        }
        IpAddr::V6(v6) => {
            let first = v6.segments().first().copied().unwrap_or_default();
            let is_link_local = first & 0xffc0 == 0xfe80;
            !(v6.is_unspecified() || v6.is_multicast() || is_link_local)
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            let [first, second, ..] = v6.segments();
            match (first, second) {
                // Teredo, benchmarking, ORCHID and documentation.
                (0x2001, 0..=0x1ff | 0xdb8) | (0x3fff, 0..=0xfff) => false,
                _ => first & 0xe000 == 0x2000,
            }
        }
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224.., _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (192, 168, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !is_special
}

/// A name resolves to an address that it may not have.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the name resolves to an address that is not allowed")]
pub(super) struct AddressRefused(pub(super) EgressRefusal);

impl Gate {
    /// The addresses of a host, when every one of them is allowed: one that is not makes the answer a suspicious one.
    pub(super) async fn resolve(
        &self,
        channel: Channel,
        class: DataClass,
        host: &Host,
    ) -> Result<Vec<IpAddr>, Unresolved> {
        let name = match host {
            // Judged with the destination.
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let found = self
            .0
            .given
            .names
            .addresses(name)
            .await
            .map_err(Unresolved::Failed)?;
        let internal = self.0.given.vendors.is_internal(channel, host);
        let are_allowed = found.len() <= ADDRESSES_MAX
            && found
                .iter()
                .all(|address| may_have(host, internal, *address));
        if are_allowed {
            return Ok(found);
        }
        let refusal = EgressRefusal {
            channel,
            class,
            vendor: self.vendor_of(channel, host),
            rule: EgressRule::AddressNotAllowed,
        };
        self.count_refusal(&refusal, self.0.given.clock.now());
        Err(Unresolved::Refused(AddressRefused(refusal)))
    }

    fn vendor_of(&self, channel: Channel, host: &Host) -> Option<chaperone_core::ids::VendorId> {
        let vendors = &self.0.given.vendors.vendors;
        let having = vendors.iter().find(|vendor| {
            vendor.channels.contains(&channel) && vendor.hosts.iter().any(|it| it.has_host(host))
        });
        having.map(|vendor| vendor.id.clone())
    }
}

/// Why a host has no addresses to connect to.
#[derive(Debug)]
pub(super) enum Unresolved {
    /// Nobody answered, or nobody knows it.
    Failed(io::Error),
    /// It may not have what it resolves to.
    Refused(AddressRefused),
}

/// Resolves for one HTTP client.
pub(super) struct CheckedNames {
    /// Weak, so that a client does not keep its gate.
    pub(super) gate: Weak<Parts>,
    pub(super) channel: Channel,
    pub(super) class: DataClass,
}

impl Resolve for CheckedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let (gate, channel, class) = (self.gate.upgrade(), self.channel, self.class);
        Box::pin(async move {
            let gate = Gate(gate.ok_or_else(|| io::Error::other("the gate is gone"))?);
            let host = Host::parse(name.as_str())
                .ok_or_else(|| io::Error::other("this is not the name of a host"))?;
            match gate.resolve(channel, class, &host).await {
                Ok(found) => {
                    let found: Vec<SocketAddr> =
                        found.into_iter().map(|it| SocketAddr::new(it, 0)).collect();
                    Ok(Box::new(found.into_iter()) as Addrs)
                }
                Err(Unresolved::Failed(failed)) => Err(failed.into()),
                Err(Unresolved::Refused(refused)) => Err(refused.into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_range_is_refused_and_its_neighbour_is_public() {
        let name = Host::parse("api.example.org").unwrap();
        for (refused, neighbour) in [
            ("0.0.0.0", "1.0.0.0"),
            ("10.255.255.255", "11.0.0.0"),
            ("100.64.0.0", "100.63.255.255"),
            ("100.127.255.255", "100.128.0.0"),
            ("127.0.0.1", "126.255.255.255"),
            ("169.254.169.254", "169.253.255.255"),
            ("172.16.0.0", "172.15.255.255"),
            ("172.31.255.255", "172.32.0.0"),
            ("192.0.0.8", "192.0.1.0"),
            ("192.0.2.1", "192.0.3.0"),
            ("192.168.0.1", "192.169.0.0"),
            ("198.18.0.0", "198.20.0.0"),
            ("203.0.113.9", "203.0.114.0"),
            ("224.0.0.1", "223.255.255.255"),
            ("255.255.255.255", "9.9.9.9"),
            ("::1", "2606:4700::1"),
            ("::", "2a00::1"),
            ("::ffff:10.0.0.1", "::ffff:11.0.0.1"),
            ("fe80::1", "2400::1"),
            ("fc00::1", "2600::1"),
            ("ff02::1", "2800::1"),
            ("64:ff9b::a00:1", "64:ff9b::b00:1"),
            ("2002:a00:1::", "2002:b00:1::"),
            // The local prefix of NAT64 leads wherever a network says.
            ("64:ff9b:1::b00:1", "64:ff9b::b00:1"),
            ("2001:db8::1", "2001:4860::1"),
            ("2001::1", "2001:200::1"),
            ("fd00:ec2::254", "2c00::254"),
        ] {
            assert!(
                !may_have(&name, false, refused.parse().unwrap()),
                "{refused}"
            );
            assert!(
                may_have(&name, false, neighbour.parse().unwrap()),
                "{neighbour}"
            );
        }
    }

    #[test]
    fn inside_names_have_private_addresses_and_never_those_of_metadata() {
        let name = Host::parse("ehr.clinic.example").unwrap();
        for inside in ["10.0.0.1", "192.168.1.1", "127.0.0.1", "fd12::1", "8.8.8.8"] {
            assert!(may_have(&name, true, inside.parse().unwrap()), "{inside}");
        }
        for never in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "100.100.100.200",
            "fd00:ec2::254",
            "0.0.0.0",
            "224.0.0.1",
            "fe80::1",
        ] {
            assert!(!may_have(&name, true, never.parse().unwrap()), "{never}");
        }
        let here = Host::parse("localhost").unwrap();
        assert!(may_have(&here, true, "127.0.0.1".parse().unwrap()));
        assert!(!may_have(&here, true, "10.0.0.1".parse().unwrap()));
    }
}
