//! Addresses that are kept out, by one torrent or by the whole session.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Who asked for a ban, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BanReason {
    /// A plugin's name, [`ENGINE`](Self::ENGINE) or [`PROGRAM`](Self::PROGRAM).
    pub by: String,
    /// Why, in words.
    pub why: String,
}

impl BanReason {
    /// The name of the engine itself.
    pub const ENGINE: &str = "engine";
    /// The name of the embedding program.
    pub const PROGRAM: &str = "program";

    /// A reason. Of a long one, the first characters.
    pub fn new(by: impl Into<String>, why: &str) -> Self {
        Self { by: by.into(), why: why.chars().take(LONGEST_REASON).collect() }
    }
}

/// So many characters of a reason are kept.
const LONGEST_REASON: usize = 200;

/// Banned addresses: each once, whatever its port, and an IPv4 address that is mapped into IPv6 as that IPv4 address.
#[derive(Clone, Debug, Default)]
pub struct Bans(BTreeMap<IpAddr, BanReason>);

impl Bans {
    /// Bans an address. Whether it was not banned before: the first reason stays.
    pub fn insert(&mut self, ip: IpAddr, reason: BanReason) -> bool {
        let ip = ip.to_canonical();
        let fresh = !self.0.contains_key(&ip);
        self.0.entry(ip).or_insert(reason);
        fresh
    }

    /// Lifts a ban. Whether there was one.
    pub fn lift(&mut self, ip: IpAddr) -> bool {
        self.0.remove(&ip.to_canonical()).is_some()
    }

    /// Whether an address is banned.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains_key(&ip.to_canonical())
    }

    /// Every ban, in the order of the addresses.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &BanReason)> {
        self.0.iter().map(|(ip, reason)| (*ip, reason))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_is_banned_once_in_every_spelling_and_the_first_reason_stays() {
        let ip = Ipv4Addr::new(10, 0, 0, 1);
        let mapped = IpAddr::V6(ip.to_ipv6_mapped());
        let mut bans = Bans::default();
        assert!(bans.insert(mapped, BanReason::new("a", &"x".repeat(300))));
        assert!(!bans.insert(ip.into(), BanReason::new("b", "")) && bans.contains(mapped));
        let all: Vec<_> =
            bans.iter().map(|(ip, reason)| (ip, reason.by.as_str(), reason.why.len())).collect();
        assert_eq!(all, [(ip.into(), "a", 200)]);
        assert!(bans.lift(ip.into()) && !bans.lift(mapped) && !bans.contains(ip.into()));
    }
}
