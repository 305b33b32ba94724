//! Which addresses are let in: ranges of IPv4 and IPv6 addresses, each with what it allows.
//!
//! A filter is made of rules at once and never changes; another takes its place. Of rules that overlap the last counts, as
//! with libtorrent's `ip_filter::add_rule`. A look-up is a binary search.

mod list;

use std::collections::BTreeSet;
use std::net::IpAddr;

pub use list::{ListError, parse_list};

/// What an address may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Access(pub u32);

impl Access {
    /// Everything.
    pub const ALLOWED: Self = Self(0);
    /// Neither connect to us nor be connected to (libtorrent's `ip_filter::blocked`).
    pub const BLOCKED: Self = Self(1);

    /// Whether the address is kept out.
    pub fn is_blocked(self) -> bool {
        self.0 & Self::BLOCKED.0 != 0
    }
}

/// What all addresses from one to another may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    ends: Ends,
    access: Access,
}

/// Both ends of a range, which belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    V4(u32, u32),
    V6(u128, u128),
}

impl Rule {
    /// A rule for `first`, `last` and what lies between them. `None` if they are of different families, or in the wrong order.
    /// An IPv4 address that is mapped into IPv6 is that IPv4 address.
    pub fn new(first: IpAddr, last: IpAddr, access: Access) -> Option<Self> {
        let ends = match (first.to_canonical(), last.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => Ends::V4(first.into(), last.into()),
            (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => Ends::V6(first.into(), last.into()),
            _ => return None,
        };
        Some(Self { ends, access })
    }

    /// A rule for the addresses that agree with `ip` in their first `bits` bits. `None` if it has not so many.
    pub fn prefix(ip: IpAddr, bits: u32, access: Access) -> Option<Self> {
        let ends = match ip {
            IpAddr::V4(ip) if bits <= 32 => {
                let rest = u32::MAX.checked_shr(bits).unwrap_or(0);
                Ends::V4(u32::from(ip) & !rest, u32::from(ip) | rest)
            }
            IpAddr::V6(ip) if bits <= 128 => {
                let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
                Ends::V6(u128::from(ip) & !rest, u128::from(ip) | rest)
            }
            _ => return None,
        };
        Some(Self { ends, access })
    }
}

/// What each address may do; everything, where no rule says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpFilter {
    v4: Map<u32>,
    v6: Map<u128>,
}

impl IpFilter {
    /// The filter that these rules make; of those that overlap the last counts. O(n log n).
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Rule { ends, access } in rules {
            match ends {
                Ends::V4(first, last) => v4.push((first, last, access)),
                Ends::V6(first, last) => v6.push((first, last, access)),
            }
        }
        Self { v4: Map::new(v4), v6: Map::new(v6) }
    }

    /// What an address may do. O(log n).
    pub fn access(&self, ip: IpAddr) -> Access {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.access(ip.into()),
            IpAddr::V6(ip) => self.v6.access(ip.into()),
        }
    }

    /// Whether an address is kept out.
    pub fn blocks(&self, ip: IpAddr) -> bool {
        self.access(ip).is_blocked()
    }

    /// Whether everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many ranges of addresses are not allowed everything, those that touch and agree taken for one.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }
}

/// A number that an address is.
trait Address: Copy + Ord {
    /// The address behind it, if it is not the last.
    fn next(self) -> Option<Self>;
}

impl Address for u32 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Address for u128 {
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// Where the access changes, in order: what holds from there up to the next. Before the first, everything is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Map<A>(Box<[(A, Access)]>);

impl<A> Default for Map<A> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<A: Address> Map<A> {
    /// Walks along the ends of all ranges, and keeps the last of those that it is inside of.
    fn new(ranges: Vec<(A, A, Access)>) -> Self {
        let starts = ranges.iter().enumerate().map(|(index, range)| (range.0, index, true));
        let ends =
            ranges.iter().enumerate().filter_map(|(index, range)| Some((range.1.next()?, index, false)));
        let mut ends: Vec<(A, usize, bool)> = starts.chain(ends).collect();
        ends.sort_unstable();
        let (mut inside, mut changes) = (BTreeSet::new(), Vec::<(A, Access)>::new());
        for here in ends.chunk_by(|one, other| one.0 == other.0) {
            for &(_, index, enters) in here {
                if enters {
                    inside.insert(index)
                } else {
                    inside.remove(&index)
                };
            }
            let access = inside.last().map_or(Access::ALLOWED, |index| ranges[*index].2);
            if changes.last().map_or(Access::ALLOWED, |last| last.1) != access {
                changes.push((here[0].0, access));
            }
        }
        Self(changes.into())
    }

    fn access(&self, address: A) -> Access {
        let behind = self.0.partition_point(|change| change.0 <= address);
        behind.checked_sub(1).map_or(Access::ALLOWED, |at| self.0[at].1)
    }

    fn len(&self) -> usize {
        self.0.iter().filter(|change| change.1 != Access::ALLOWED).count()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn rule(first: &str, last: &str, access: u32) -> Rule {
        Rule::new(first.parse().unwrap(), last.parse().unwrap(), Access(access)).unwrap()
    }

    fn blocked(filter: &IpFilter, ips: &[&str]) -> Vec<bool> {
        ips.iter().map(|ip| filter.blocks(ip.parse().unwrap())).collect()
    }

    #[test]
    fn both_ends_of_a_range_belong_to_it() {
        let filter = IpFilter::new([rule("10.0.0.5", "10.0.1.0", 1), rule("fe80::1", "fe80::ff", 1)]);
        let ips =
            ["10.0.0.4", "10.0.0.5", "10.0.1.0", "10.0.1.1", "fe80::", "fe80::1", "fe80::ff", "fe80::100"];
        assert_eq!(blocked(&filter, &ips), [false, true, true, false, false, true, true, false]);
        assert_eq!(filter.len(), 2);
    }

    #[test]
    fn the_first_and_the_last_address_can_be_blocked() {
        let all = IpFilter::new([
            rule("0.0.0.0", "255.255.255.255", 1),
            Rule::prefix("::".parse().unwrap(), 0, Access(1)).unwrap(),
        ]);
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(blocked(&all, &["0.0.0.0", "255.255.255.255", "::", last]), [true; 4]);
        assert_eq!((all.len(), IpFilter::default().is_empty()), (2, true));
    }

    #[test]
    fn of_rules_that_overlap_the_last_counts() {
        let filter = IpFilter::new([
            rule("1.0.0.0", "1.255.255.255", 1),
            rule("1.2.0.0", "1.2.255.255", 0),
            rule("1.2.3.0", "1.2.3.9", 3),
        ]);
        assert_eq!(
            blocked(&filter, &["1.1.9.9", "1.2.2.255", "1.2.3.5", "1.2.4.0", "1.3.0.0"]),
            [true, false, true, false, true]
        );
        assert_eq!(filter.access("1.2.3.9".parse().unwrap()), Access(3));
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_in_it() {
        let filter = IpFilter::new([rule("::ffff:9.9.9.9", "9.9.9.9", 1)]);
        assert_eq!(blocked(&filter, &["9.9.9.9", "::ffff:9.9.9.9", "::9.9.9.9"]), [true, true, false]);
    }

    #[test]
    fn ranges_that_are_none_are_refused() {
        let new = |first: &str, last: &str| {
            Rule::new(first.parse().unwrap(), last.parse().unwrap(), Access::BLOCKED)
        };
        assert!(new("2.0.0.0", "1.0.0.0").is_none() && new("1.0.0.0", "::1").is_none());
        let prefix = |ip: &str, bits| Rule::prefix(ip.parse().unwrap(), bits, Access::BLOCKED);
        assert!(prefix("1.0.0.0", 33).is_none() && prefix("::", 129).is_none());
        assert_eq!(prefix("10.1.2.3", 8), Some(rule("10.0.0.0", "10.255.255.255", 1)));
        assert_eq!(prefix("10.1.2.3", 32), Some(rule("10.1.2.3", "10.1.2.3", 1)));
        assert_eq!(
            prefix("2001:db8::5", 32),
            Some(rule("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", 1))
        );
    }

    #[test]
    fn half_a_million_ranges_take_eight_megabytes_and_each_is_found() {
        let range = |i: u32| (i * 8_000, i * 8_000 + 3_999);
        let ip = |number: u32| IpAddr::from(Ipv4Addr::from(number));
        // From the last to the first, which is the wrong way round for whoever inserts them one by one.
        let rules = (0..500_000)
            .rev()
            .map(range)
            .map(|(first, last)| Rule::new(ip(first), ip(last), Access::BLOCKED).unwrap());
        let filter = IpFilter::new(rules);
        assert_eq!((filter.len(), size_of_val(&*filter.v4.0)), (500_000, 8_000_000));
        for (first, last) in (0..500_000).step_by(997).map(range) {
            assert!(filter.blocks(ip(first)) && filter.blocks(ip(last)) && !filter.blocks(ip(last + 1)));
        }
    }

    proptest! {
        #[test]
        fn an_address_may_do_what_the_last_rule_says_that_it_lies_in(
            ranges in prop::collection::vec((0_u8..40, 0_u8..40, 0_u32..3), 0..12),
        ) {
            let wide = |n: u8| IpAddr::from(Ipv6Addr::from(u128::MAX - 39 + u128::from(n)));
            let narrow = |n: u8| IpAddr::from(Ipv4Addr::from(u32::from(n)));
            for address in [&wide as &dyn Fn(u8) -> IpAddr, &narrow] {
                let rule = |&(a, b, access): &(u8, u8, u32)| Rule::new(address(a.min(b)), address(a.max(b)), Access(access)).unwrap();
                let filter = IpFilter::new(ranges.iter().map(rule));
                for n in 0..40 {
                    let last = ranges.iter().rev().find(|(a, b, _)| (*a.min(b)..=*a.max(b)).contains(&n));
                    prop_assert_eq!(filter.access(address(n)).0, last.map_or(0, |range| range.2));
                }
            }
        }
    }
}
