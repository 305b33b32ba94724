//! From which address others see us: peers, trackers, routers and DHT nodes tell, and most of them must agree.
//!
//! One liar must not choose our address, so each network has one vote, and an address needs several. What is found decides
//! which id our DHT node may have (BEP 42), and which of our own announcements we meet again.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use super::Engine;
use super::state::State;
use crate::alert::AlertKind;
use crate::dht::needs_no_id;

/// The most votes that are remembered; the oldest are forgotten.
const MOST: usize = 50;
/// An address that fewer say than this is none yet.
const ENOUGH: usize = 3;

/// The votes of one address family, and what they came to.
#[derive(Debug, Default)]
pub(super) struct Votes {
    /// The voter's network, and what it says.
    cast: VecDeque<(u128, IpAddr)>,
    elected: Option<IpAddr>,
}

impl Votes {
    /// A tracker or router, which somebody chose to trust, says that we are seen as `ip`. Until others agree on something, that
    /// counts.
    fn suggest(&mut self, ip: IpAddr) -> Option<IpAddr> {
        let first = self.elected.is_none();
        first.then(|| *self.elected.insert(ip))
    }

    /// Somebody says that we are seen as `ip`. `Some`: from now on that is our address.
    fn cast(&mut self, voter: IpAddr, ip: IpAddr) -> Option<IpAddr> {
        let network = network(voter);
        self.cast.retain(|(other, _)| *other != network);
        self.cast.push_back((network, ip));
        if self.cast.len() > MOST {
            self.cast.pop_front();
        }
        let votes = self.cast.iter().filter(|(_, said)| *said == ip).count();
        let wins = votes >= ENOUGH && 2 * votes > self.cast.len() && self.elected != Some(ip);
        wins.then(|| {
            self.elected = Some(ip);
            ip
        })
    }
}

/// Addresses of one network are most likely one person's.
fn network(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits() >> 8),
        IpAddr::V6(ip) => ip.to_bits() >> 64 | 1 << 64,
    }
}

impl Engine {
    /// Somebody tells from which address it sees us.
    pub(super) fn on_external_address(&mut self, voter: IpAddr, ip: IpAddr) {
        if self.state.count_external_vote(voter, ip) {
            self.settle_dht();
        }
    }

    /// A tracker tells from which address it sees us (BEP 24), or a router that it has this one.
    pub(super) fn on_suggested_address(&mut self, ip: IpAddr) {
        if is_outside(ip) && self.state.external[usize::from(ip.is_ipv6())].suggest(ip).is_some() {
            self.state.take_external_address(ip);
            self.settle_dht();
        }
    }
}

impl State {
    /// The address from which others see us, if that is known.
    pub(super) fn external_address(&self, is_v4: bool) -> Option<IpAddr> {
        self.external[usize::from(!is_v4)].elected
    }

    /// Counts a vote; whether our address is another one since.
    pub(super) fn count_external_vote(&mut self, voter: IpAddr, ip: IpAddr) -> bool {
        // On our own network we are seen as nobody outside sees us, and only the outside is asked.
        if !is_outside(ip) || needs_no_id(voter) {
            return false;
        }
        let Some(ip) = self.external[usize::from(ip.is_ipv6())].cast(voter, ip) else { return false };
        self.take_external_address(ip);
        true
    }

    fn take_external_address(&mut self, ip: IpAddr) {
        self.set_our_address(SocketAddr::new(ip, self.listen_port().unwrap_or(0)));
        self.alert(AlertKind::ExternalIp { external_address: ip });
        self.set_dht_address(ip);
    }
}

/// Whether an address can be one on the internet.
fn is_outside(ip: IpAddr) -> bool {
    let odd = match ip {
        IpAddr::V4(ip) => ip.is_broadcast(),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
    };
    !odd && !ip.is_multicast() && !needs_no_id(ip)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_ours_once_three_networks_say_so_and_most_do() {
        let mut votes = Votes::default();
        let (right, wrong) = (ip("9.9.9.9"), ip("6.6.6.6"));
        assert_eq!((votes.suggest(wrong), votes.suggest(right)), (Some(wrong), None), "two trackers");
        assert_eq!(votes.cast(ip("1.0.0.1"), right), None);
        // One network has one vote.
        (2..100).for_each(|i| assert_eq!(votes.cast(ip(&format!("1.0.0.{i}")), right), None));
        assert_eq!(votes.cast(ip("2.0.0.1"), right), None);
        assert_eq!(votes.cast(ip("3.0.0.1"), right), Some(right));
        assert_eq!(votes.cast(ip("4.0.0.1"), right), None, "it is no news");
        // Three liars among more are outvoted.
        assert!((5..8).all(|i| votes.cast(ip(&format!("{i}.0.0.1")), wrong).is_none()));
        assert_eq!(votes.elected, Some(right));
        // A new address wins when old votes are outnumbered.
        let news: Vec<IpAddr> =
            (10..60).filter_map(|i| votes.cast(ip(&format!("{i}.0.0.1")), ip("8.8.8.8"))).collect();
        assert_eq!(news, [ip("8.8.8.8")]);
        assert_eq!(votes.cast.len(), MOST);
    }
}
