use proptest::prelude::*;

use super::message::{Family, Message};
use super::told::Told;
use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn peer(n: u16) -> (SocketAddr, PexFlags) {
    (SocketAddr::from(([20, 0, 0, 1], n)), PexFlags::NONE)
}

fn peers(numbers: impl IntoIterator<Item = u16>) -> Vec<(SocketAddr, PexFlags)> {
    numbers.into_iter().map(peer).collect()
}

/// What a peer that gets all messages believes, and how many peers each message told of.
fn tell(told: &mut Told, minute: u64, contacts: &[(SocketAddr, PexFlags)], believed: &mut Vec<u16>) -> usize {
    let Some(news) = told.news(at(minute * 60), contacts.iter().copied()) else { return 0 };
    believed.retain(|port| news.dropped.iter().all(|gone| gone.port() != *port));
    believed.extend(news.added.iter().map(|(address, _)| address.port()));
    news.added.len() + news.dropped.len()
}

#[test]
fn a_peer_is_told_once_a_minute_what_has_changed_since_it_was_told() {
    let mut told = Told::default();
    let (first, second) = (peers(1..4), peers([2, 3, 9]));
    assert!(told.is_due(at(0)));
    assert_eq!(told.news(at(0), first.iter().copied()).unwrap().added, first);
    assert!(!told.is_due(at(59)) && told.is_due(at(60)));
    let news = told.news(at(60), second.iter().copied()).unwrap();
    assert_eq!((news.added, news.dropped), (peers([9]), vec![peer(1).0]));
    assert_eq!(told.news(at(120), second.iter().copied()), None);
    assert!(!told.is_due(at(124)) && told.is_due(at(125)));
}

#[test]
fn what_does_not_fit_into_a_message_is_told_later_and_nobody_is_said_to_have_gone_for_it() {
    let (mut told, mut believed) = (Told::default(), Vec::new());
    let many = peers(1..=230);
    let sizes = [0, 1, 2, 3].map(|minute| tell(&mut told, minute, &many, &mut believed));
    assert_eq!((sizes, believed.len()), ([100, 50, 50, 30], 230));
    let few = peers(1..=120);
    let sizes = [4, 5, 6, 7].map(|minute| tell(&mut told, minute, &few, &mut believed));
    assert_eq!((sizes, believed.len()), ([50, 50, 10, 0], 120));
}

#[test]
fn who_is_connected_twice_is_told_of_once() {
    let mut told = Told::default();
    let news = told.news(at(0), peers([1, 1, 2]).into_iter());
    assert_eq!(news.unwrap().added, peers([1, 2]));
}

#[test]
fn flags_that_do_not_fit_the_peers_make_them_nobody() {
    let added = |text: &[u8]| Message::parse(text).unwrap().added(Family::V4).collect::<Vec<_>>();
    let at_port = |ip: [u8; 4], flags| (SocketAddr::from((ip, 0x3132)), PexFlags(flags));
    let one = at_port(*b"abcd", 0x33);
    assert_eq!(added(b"d5:added6:abcd127:added.f1:3e"), [one]);
    assert_eq!(added(b"d5:added12:abcd12abcd127:added.f1:3e"), []);
    assert_eq!(added(b"d5:added7:abcd12x7:added.f1:3e"), []);
    assert_eq!(added(b"d5:added7:abcd12xe"), [at_port(*b"abcd", 0)]);
    assert_eq!(added(b"d5:addedi7ee"), []);
}

#[test]
fn what_is_no_dictionary_is_no_message() {
    for none in [&b""[..], b"x", b"le", b"i1e", b"d", b"d5:added"] {
        assert!(Message::parse(none).is_none(), "{none:?}");
    }
}

proptest! {
    #[test]
    fn a_message_survives_the_wire(added: Vec<(SocketAddr, u8)>, dropped: Vec<SocketAddr>) {
        // Scope and flow do not travel, and an IPv4 address in the clothes of IPv6 comes out as what it is.
        let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let added: Vec<_> = added.into_iter().map(|(address, flags)| (plain(address), PexFlags(flags))).collect();
        let dropped: Vec<_> = dropped.into_iter().map(plain).collect();
        let bytes = Message::encode(&added, &dropped);
        let message = Message::parse(&bytes).unwrap();
        for family in Family::BOTH {
            let ours = |address: &SocketAddr| Family::of(*address) == family;
            prop_assert!(message.added(family).eq(added.iter().filter(|(address, _)| ours(address)).copied()));
            prop_assert!(message.dropped(family).eq(dropped.iter().filter(|address| ours(address)).copied()));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Some(message) = Message::parse(&bytes) {
            for family in Family::BOTH {
                message.added(family).for_each(drop);
                message.dropped(family).for_each(drop);
            }
        }
    }

    #[test]
    fn a_peer_that_gets_every_message_knows_exactly_who_is_there(
        changes in proptest::collection::vec(proptest::collection::btree_set(1_u16..300, 0..200), 1..8),
    ) {
        let (mut told, mut believed, mut minute) = (Told::default(), Vec::new(), 0);
        for there in &changes {
            let contacts = peers(there.iter().copied());
            // Four more messages bring whatever was left over.
            for _ in 0..6 {
                let size = tell(&mut told, minute, &contacts, &mut believed);
                prop_assert!(size <= 100);
                minute += 1;
            }
            believed.sort_unstable();
            prop_assert!(believed.iter().eq(there.iter()));
        }
    }
}
