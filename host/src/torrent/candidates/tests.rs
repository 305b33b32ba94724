use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

const OLD_FRIEND: u32 = 1;

fn peer(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 6881))
}

fn list() -> Candidates<u32> {
    Candidates::new(Arc::default())
}

fn list_of(peers: std::ops::Range<u8>) -> Candidates<u32> {
    let mut list = list();
    peers.for_each(|n| assert_eq!(list.add(peer(n), PeerSource::TRACKER, false), Added::New));
    list
}

impl Candidates<u32> {
    /// Connects to whoever is next, until nobody is.
    fn connect_all(&mut self, now: Instant) -> Vec<SocketAddr> {
        let mut tried = Vec::new();
        while let Some(endpoint) = self.next(now, false) {
            self.connected(endpoint, OLD_FRIEND);
            tried.push(endpoint);
        }
        tried
    }

    fn check(&self) {
        let idle: usize = self.idle.iter().map(BTreeSet::len).sum();
        assert_eq!(idle, self.peers.values().filter(|known| known.is_idle()).count());
        for (&endpoint, known) in &self.peers {
            let turn = known.turn(endpoint);
            assert_eq!(self.idle[usize::from(known.seed)].contains(&turn), known.is_idle());
            assert!(!self.is_banned(endpoint.ip()) || known.connected.is_some());
            assert!(known.connectable || known.connected.is_some());
        }
    }
}

#[test]
fn peers_are_tried_in_the_order_offered_and_sources_add_up() {
    let mut list = list_of(1..4);
    assert_eq!(list.add(peer(1), PeerSource::PEX, false), Added::Known);
    assert_eq!(list.known(peer(1)).unwrap().sources, PeerSource::TRACKER | PeerSource::PEX);
    assert_eq!(list.connect_all(Instant::now()), [peer(1), peer(2), peer(3)]);
    assert_eq!(list.next_deadline(Instant::now(), false), None);
}

#[test]
fn a_peer_rests_a_minute_and_one_more_for_each_failure_until_it_is_given_up() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut list = list_of(1..2);
    let mut now = 0;
    for (failed, wait) in [(false, 60), (true, 120), (true, 180)] {
        assert_eq!(list.next(at(now), false), Some(peer(1)));
        list.connected(peer(1), OLD_FRIEND);
        assert_eq!(list.next(at(now), false), None);
        list.disconnected(peer(1), at(now), failed);
        assert_eq!(list.next_deadline(at(now), false), Some(at(now + wait)));
        assert_eq!(list.next(at(now + wait - 1), false), None);
        now += wait;
    }
    list.connected(peer(1), OLD_FRIEND);
    list.disconnected(peer(1), at(now), true);
    assert_eq!((list.next_deadline(at(now), false), list.num_idle(false)), (None, 0));
    list.clear_failures(peer(1));
    assert_eq!(list.next_deadline(at(now), false), Some(at(now + 60)));
}

#[test]
fn fewest_failures_come_first_then_whoever_has_rested_longest() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut list = list_of(1..5);
    for (n, second, failed) in [(1, 5, false), (2, 3, false), (3, 1, true)] {
        list.connected(peer(n), OLD_FRIEND);
        list.disconnected(peer(n), at(second), failed);
    }
    assert_eq!(list.connect_all(at(1_000)), [peer(4), peer(2), peer(1), peer(3)]);
}

#[test]
fn seeds_are_of_no_use_once_we_are_finished() {
    let now = Instant::now();
    let mut list = list_of(1..3);
    list.set_seed(peer(1), true);
    assert_eq!((list.next(now, false), list.next(now, true)), (Some(peer(1)), Some(peer(2))));
    assert_eq!((list.num_idle(false), list.num_idle(true)), (2, 1));
}

#[test]
fn addresses_that_are_no_peers_are_refused() {
    let mut list = list();
    let mut refusal = |endpoint: SocketAddr, filtered| match list.add(endpoint, PeerSource::PEX, filtered) {
        Added::Refused(refusal) => refusal,
        added => panic!("{added:?}"),
    };
    assert_eq!(refusal(([10, 0, 0, 1], 0).into(), false), Refusal::Port);
    assert_eq!(refusal(([0, 0, 0, 0], 80).into(), false), Refusal::Address);
    assert_eq!(refusal(([239, 0, 0, 1], 80).into(), false), Refusal::Address);
    assert_eq!(refusal("[fe80::1]:80".parse().unwrap(), false), Refusal::Address);
    assert_eq!(refusal(peer(1), true), Refusal::Filtered);
    assert!(list.is_empty());
}

#[test]
fn a_full_list_takes_new_peers_only_for_ones_that_failed() {
    let limits = CandidateLimits { max_peerlist_size: 3, ..CandidateLimits::default() };
    let mut list = Candidates::<u32>::new(limits.into());
    (1..4).for_each(|n| assert_eq!(list.add(peer(n), PeerSource::DHT, false), Added::New));
    assert_eq!(list.add(peer(4), PeerSource::DHT, false), Added::Refused(Refusal::Full));
    list.connected(peer(2), OLD_FRIEND);
    list.disconnected(peer(2), Instant::now(), true);
    assert_eq!(list.add(peer(4), PeerSource::DHT, false), Added::New);
    assert!(list.known(peer(2)).is_none() && list.len() == 3);
}

#[test]
fn whoever_connects_to_us_is_tried_only_once_its_port_is_known() {
    let now = Instant::now();
    let mut list = list();
    let from = SocketAddr::from(([10, 0, 0, 1], 50_000));
    assert_eq!(list.incoming(from, OLD_FRIEND, false), Ok(()));
    assert_eq!(list.incoming(from, 2, false), Err(Refusal::Connected));
    list.disconnected(from, now, false);
    assert!(list.is_empty());

    assert_eq!(list.incoming(from, OLD_FRIEND, false), Ok(()));
    list.add(peer(1), PeerSource::PEX, false);
    assert_eq!(list.listens_on(from, 6881), peer(1));
    let known = list.known(peer(1)).unwrap();
    assert_eq!((known.sources, known.connected), (PeerSource::PEX | PeerSource::INCOMING, Some(OLD_FRIEND)));
    list.disconnected(peer(1), now, false);
    assert_eq!(list.connect_all(now + Duration::from_secs(60)), [peer(1)]);

    // Somebody else at that address is connected already.
    assert_eq!(list.incoming(from, 2, false), Ok(()));
    assert_eq!((list.listens_on(from, 6881), list.listens_on(from, 0)), (from, from));
    list.check();
}

fn bad_data() -> BanReason {
    BanReason::new(BanReason::ENGINE, "it sent bad data")
}

#[test]
fn a_bad_piece_of_its_own_is_enough_for_a_ban_and_no_number_of_shared_ones_is() {
    let mut list = list_of(1..3);
    assert!(list.piece_failed(peer(1), true));
    assert!((0..300).all(|_| !list.piece_failed(peer(2), false)));
    let known = list.known(peer(2)).unwrap();
    assert_eq!((known.parole, known.hash_failures), (true, 255));
    list.piece_passed(peer(2));
    assert!(!list.known(peer(2)).unwrap().parole);
    // Nor does it help to be forgotten.
    assert!(list.piece_failed(peer(9), true));
}

#[test]
fn a_ban_holds_for_the_address_on_every_port_and_in_every_spelling() {
    let now = Instant::now();
    let mut list = list_of(1..3);
    list.add(SocketAddr::from(([10, 0, 0, 1], 7000)), PeerSource::DHT, false);
    list.connected(peer(1), OLD_FRIEND);
    let mapped = IpAddr::V6(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
    assert!(list.ban(mapped, bad_data()) && !list.ban(peer(1).ip(), bad_data()));
    assert!(list.is_banned(peer(1).ip()) && list.is_banned(mapped));
    let again = list.add(SocketAddr::new(mapped, 9000), PeerSource::PEX, false);
    assert_eq!(again, Added::Refused(Refusal::Banned));
    list.disconnected(peer(1), now, true);
    assert_eq!(list.connect_all(now), [peer(2)]);
    assert!(list.unban(mapped) && !list.unban(mapped));
    assert_eq!(list.add(peer(1), PeerSource::PEX, false), Added::New);
    let zoned = SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 7, 0));
    list.add(zoned, PeerSource::LSD, false);
    assert!(list.known("[::1]:80".parse().unwrap()).is_some());
}

#[test]
fn who_is_not_kept_is_forgotten_or_answered_if_it_is_connected() {
    let mut list = list_of(1..5);
    list.connected(peer(3), OLD_FRIEND);
    assert_eq!(list.retain(|endpoint, _| endpoint == peer(1)), [OLD_FRIEND]);
    let mut left: Vec<SocketAddr> = list.iter().map(|(endpoint, _)| endpoint).collect();
    left.sort();
    assert_eq!(left, [peer(1), peer(3)]);
    list.check();
}

proptest! {
    #[test]
    fn the_list_and_the_turns_agree_whatever_happens(
        steps in proptest::collection::vec((0_u8..12, 1_u8..12, any::<bool>()), 0..200),
    ) {
        let limits = CandidateLimits { max_peerlist_size: 6, ..CandidateLimits::default() };
        let mut list = Candidates::<u32>::new(limits.into());
        let start = Instant::now();
        for (second, (step, n, flag)) in (0..).zip(steps) {
            let now = start + Duration::from_secs(second * 20);
            let from = SocketAddr::from(([10, 0, 0, n / 2], 50_000 + u16::from(flag)));
            match step {
                0..3 => drop(list.add(peer(n), PeerSource::PEX, false)),
                3..5 => {
                    if let Some(next) = list.next(now, flag) {
                        let known = *list.known(next).unwrap();
                        prop_assert!(known.is_idle() && !(flag && known.seed));
                        let better = |other: &Known<u32>| {
                            let rest = limits.min_reconnect_time * (u32::from(other.failcount) + 1);
                            other.is_idle()
                                && !(flag && other.seed)
                                && other.last_connected.is_none_or(|ended| ended + rest <= now)
                                && (other.failcount, other.last_connected, other.number)
                                    < (known.failcount, known.last_connected, known.number)
                        };
                        prop_assert!(!list.iter().any(|(_, other)| better(other)));
                        prop_assert_eq!(list.next_deadline(now, flag), Some(now));
                        list.connected(next, OLD_FRIEND);
                    } else if let Some(deadline) = list.next_deadline(now, flag) {
                        prop_assert!(deadline > now && list.next(deadline, flag).is_some());
                    }
                }
                5..7 => list.disconnected(if flag { peer(n) } else { from }, now, n % 2 == 0),
                7 => drop(list.incoming(from, OLD_FRIEND, false)),
                8 => drop(list.listens_on(from, 6881)),
                9 => list.set_seed(peer(n), flag),
                10 => {
                    if list.piece_failed(peer(n), flag) {
                        list.ban(peer(n).ip(), bad_data());
                    }
                }
                _ => drop(list.unban(peer(n).ip())),
            }
            list.check();
        }
    }
}

#[test]
fn of_peers_that_stand_alike_otherwise_those_of_high_priority_come_first() {
    let ours = peer(200);
    let now = Instant::now();
    let mut list = list_of(1..30).known_as([Some(ours), None].into());
    // Those that were there before are not known to stand higher or lower until somebody says so.
    assert_eq!(list.next(now, false), Some(peer(1)));
    list.set_our_addresses([Some(ours), None].into());
    list.check();
    let tried = list.connect_all(now);
    assert!(tried.is_sorted_by_key(|endpoint| Reverse(peer_priority(ours, *endpoint))), "{tried:?}");
    assert_ne!(tried[0], peer(1));
    list.disconnected(peer(1), now, true);
    list.check();
}

#[test]
fn peers_that_are_not_kept_are_forgotten_or_answered() {
    let now = Instant::now();
    let mut list = list_of(1..5);
    list.connected(peer(2), OLD_FRIEND);
    assert_eq!(
        list.retain(|peer_at, _| peer_at.ip() != peer(1).ip() && peer_at.ip() != peer(2).ip()),
        [OLD_FRIEND]
    );
    list.check();
    assert!(list.known(peer(1)).is_none() && list.known(peer(2)).is_some());
    list.forget(peer(2));
    assert!(list.known(peer(2)).is_some());
    list.disconnected(peer(2), now, false);
    list.forget(peer(2));
    assert_eq!(list.connect_all(now), [peer(3), peer(4)]);
}
