//! Limits of the agents' side: sizes, times, and how often whom.
//!
//! Not the limits of single arguments, which belong to the tools. Start at [`GatewayLimits`].

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chaperone_core::ids::{AgentId, EhrEventSource};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Largest body of a tool call, in bytes.
pub(crate) const BODY_BYTES_MAX: usize = 256 * 1024;
/// Largest body at the token endpoint, in bytes.
pub(crate) const TOKEN_BODY_BYTES_MAX: usize = 16 * 1024;
/// Largest body that announces an event of the EHR, in bytes.
pub(crate) const NOTIFICATION_BYTES_MAX: usize = 8 * 1024;
/// Deepest nesting of a JSON body.
pub(crate) const JSON_DEPTH_MAX: usize = 32;
/// Most parameters of a token request.
pub(crate) const FORM_PARAMETERS_MAX: usize = 16;

/// Buckets that peer addresses are spread over. The state of the limiter cannot outgrow them,
/// whatever addresses come; two peers in one bucket share its allowance.
const PEER_BUCKETS: u64 = 1 << 16;
/// How many refusals for rate are recorded per agent and minute. The rest is only counted: a limit
/// that writes to the ledger for every refusal would be no limit.
const RATE_REFUSALS_RECORDED_PER_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(5);
/// Longest `Retry-After` that is said, in seconds.
const RETRY_AFTER_S_MAX: u64 = 600;

/// A rate: a steady part and a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests per minute, in the long run.
    pub per_minute: NonZeroU32,
    /// Requests at once, after a pause.
    pub burst: NonZeroU32,
}

impl Rate {
    /// A rate; zero counts as one.
    pub const fn new(per_minute: u32, burst: u32) -> Self {
        const fn at_least_one(n: u32) -> NonZeroU32 {
            match NonZeroU32::new(n) {
                Some(n) => n,
                None => NonZeroU32::MIN,
            }
        }
        Self {
            per_minute: at_least_one(per_minute),
            burst: at_least_one(burst),
        }
    }

    fn quota(self) -> Quota {
        Quota::per_minute(self.per_minute).allow_burst(self.burst)
    }
}

/// What an operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Per peer address, before authentication. Behind a proxy all agents share its address.
    pub peer: Rate,
    /// Per agent, after authentication.
    pub agent: Rate,
    /// Per source of EHR events, after authentication.
    pub source: Rate,
    /// Requests in work at the same time; more are turned away at once.
    pub concurrent_max: usize,
    /// Longest time a request may take, in milliseconds.
    pub request_timeout_ms: u64,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            peer: Rate::new(12_000, 400),
            agent: Rate::new(6_000, 200),
            source: Rate::new(1_200, 200),
            concurrent_max: 512,
            request_timeout_ms: 30_000,
        }
    }
}

/// What may be asked again later, and when, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSoon {
    pub(crate) retry_after_s: u32,
}

/// The limits at work.
#[derive(Debug)]
pub(crate) struct Throttle {
    peers: DefaultKeyedRateLimiter<u64>,
    spread: RandomState,
    agents: DefaultKeyedRateLimiter<AgentId>,
    sources: DefaultKeyedRateLimiter<EhrEventSource>,
    recorded: DefaultKeyedRateLimiter<AgentId>,
    places: Arc<Semaphore>,
    pub(crate) request_timeout: Duration,
    clock: DefaultClock,
}

impl Throttle {
    pub(crate) fn new(limits: GatewayLimits) -> Self {
        let places = limits.concurrent_max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            peers: RateLimiter::keyed(limits.peer.quota()),
            spread: RandomState::new(),
            agents: RateLimiter::keyed(limits.agent.quota()),
            sources: RateLimiter::keyed(limits.source.quota()),
            recorded: RateLimiter::keyed(
                Quota::per_minute(RATE_REFUSALS_RECORDED_PER_MINUTE).allow_burst(NonZeroU32::MIN),
            ),
            places: Arc::new(Semaphore::new(places)),
            request_timeout: Duration::from_millis(limits.request_timeout_ms.max(1)),
            clock: DefaultClock::default(),
        }
    }

    /// Whether a peer may be heard now.
    pub(crate) fn peer(&self, peer: Option<IpAddr>) -> Result<(), TooSoon> {
        let bucket = self.spread.hash_one(peer.map(network_of)) % PEER_BUCKETS;
        self.peers
            .check_key(&bucket)
            .map_err(|until| too_soon(until.wait_time_from(self.clock.now())))
    }

    /// Whether an agent may be served now. Agents come from the bundle, so their number is bounded.
    pub(crate) fn agent(&self, agent: &AgentId) -> Result<(), TooSoon> {
        self.agents
            .check_key(agent)
            .map_err(|until| too_soon(until.wait_time_from(self.clock.now())))
    }

    /// Whether a source may be served now. Sources come from the configuration, so their number is bounded.
    pub(crate) fn source(&self, source: &EhrEventSource) -> Result<(), TooSoon> {
        self.sources
            .check_key(source)
            .map_err(|until| too_soon(until.wait_time_from(self.clock.now())))
    }

    /// Whether a refusal for rate is one of those that are recorded.
    pub(crate) fn records_refusal_of(&self, agent: &AgentId) -> bool {
        self.recorded.check_key(agent).is_ok()
    }

    /// A place to work in, if there is one.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

/// One host is one address in IPv4 and one /64 network in IPv6, where it can take any address.
fn network_of(peer: IpAddr) -> [u8; 8] {
    match peer.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [0, 0, 0, 0, a, b, c, d]
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h, ..] = v6.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

fn too_soon(wait: Duration) -> TooSoon {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let retry_after_s = u32::try_from(whole.clamp(1, RETRY_AFTER_S_MAX)).unwrap_or(1);
    TooSoon { retry_after_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(per_minute: u32, burst: u32) -> Throttle {
        Throttle::new(GatewayLimits {
            peer: Rate::new(per_minute, burst),
            agent: Rate::new(per_minute, burst),
            concurrent_max: 1,
            ..GatewayLimits::default()
        })
    }

    #[test]
    fn a_burst_passes_and_the_next_request_waits() {
        let throttle = throttle(1, 2);
        let agent = AgentId::new("a").unwrap();
        let other = AgentId::new("b").unwrap();
        assert_eq!(throttle.agent(&agent), Ok(()));
        assert_eq!(throttle.agent(&agent), Ok(()));
        let wait = throttle.agent(&agent).unwrap_err().retry_after_s;
        assert!((1..=60).contains(&wait), "{wait}");
        assert_eq!(throttle.agent(&other), Ok(()));
    }

    #[test]
    fn a_host_is_an_ipv4_address_or_an_ipv6_network() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("192.0.2.1"), network("::ffff:192.0.2.1"));
    }

    #[test]
    fn the_state_about_peers_is_bounded() {
        let throttle = throttle(1_000, 1_000);
        for n in 0..100_000_u32 {
            let _ = throttle.peer(Some(IpAddr::from(n.to_be_bytes())));
        }
        assert!(throttle.peers.len() as u64 <= PEER_BUCKETS);
    }

    #[test]
    fn places_run_out_and_come_back() {
        let throttle = throttle(1, 1);
        let place = throttle.place();
        assert!(place.is_some());
        assert!(throttle.place().is_none());
        drop(place);
        assert!(throttle.place().is_some());
    }

    #[test]
    fn only_some_refusals_for_rate_are_recorded() {
        let throttle = throttle(1, 1);
        let agent = AgentId::new("a").unwrap();
        assert!(throttle.records_refusal_of(&agent));
        assert!(!throttle.records_refusal_of(&agent));
    }
}
