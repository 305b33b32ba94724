use std::convert::Infallible;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng, TryRng};

use super::*;

const TORRENT: [u8; 20] = [9; 20];
const BOTH: Terms = Terms { allowed: Methods(3), prefer_rc4: false };

/// Knows one torrent.
fn find(hidden: &[u8; 20]) -> Option<[u8; 20]> {
    (*hidden == obfuscated(&TORRENT)).then_some(TORRENT)
}

/// Both sides, and what is on its way to each of them.
struct Talk {
    rng: StdRng,
    sides: [Handshake; 2],
    inboxes: [Vec<u8>; 2],
    agreements: [Option<Agreement>; 2],
}

impl Talk {
    fn new(terms: [Terms; 2], initial: &[u8], rng: &mut impl Rng) -> Self {
        let mut first = Vec::new();
        let caller = Handshake::initiate(TORRENT, terms[0], initial.to_vec(), rng, &mut first);
        Self {
            rng: StdRng::seed_from_u64(rng.next_u64()),
            sides: [caller, Handshake::respond(terms[1])],
            inboxes: [Vec::new(), first],
            agreements: [None, None],
        }
    }

    /// Delivers everything, in portions of at most `most`, until both have nothing more to say.
    fn run(&mut self, most: usize, rng: &mut impl Rng) -> Result<(), Failure> {
        while let Some(to) = (0..2).find(|to| !self.inboxes[*to].is_empty()) {
            let length = self.rng.random_range(1..=most).min(self.inboxes[to].len());
            let portion: Vec<u8> = self.inboxes[to].drain(..length).collect();
            if let Some(agreement) = &mut self.agreements[to] {
                agreement.rest.extend(portion);
                continue;
            }
            self.agreements[to] = self.sides[to].receive(&portion, find, rng, &mut self.inboxes[1 - to])?;
        }
        Ok(())
    }

    /// What both agreed upon; and what they then say to each other arrives.
    fn finish(self, initial: &[u8]) -> Method {
        let [caller, called] = self.agreements.map(Option::unwrap);
        assert_eq!(caller.method, called.method);
        assert_eq!([caller.info_hash, called.info_hash], [TORRENT; 2]);
        assert_eq!(
            (caller.keys.incoming, caller.keys.outgoing),
            (called.keys.outgoing, called.keys.incoming)
        );
        assert_eq!(called.initial, initial);
        assert!(caller.initial.is_empty() && caller.rest.is_empty() && called.rest.is_empty());
        let method = caller.method;
        let [mut one, mut other] = [caller.ciphers, called.ciphers];
        for word in [&b"some words"[..], b"and others"] {
            let mut text = word.to_vec();
            one[0].apply(&mut text);
            assert_ne!(text, word);
            other[1].apply(&mut text);
            assert_eq!(text, word);
            other[0].apply(&mut text);
            one[1].apply(&mut text);
            assert_eq!(text, word);
        }
        method
    }
}

fn agree(terms: [Terms; 2]) -> Result<Method, Failure> {
    let mut rng = StdRng::seed_from_u64(3);
    let mut talk = Talk::new(terms, b"hello", &mut rng);
    talk.run(usize::MAX, &mut rng)?;
    Ok(talk.finish(b"hello"))
}

/// Gives keys that it was told, and pads that are as short, or as long, as can be.
struct Script {
    keys: Vec<u8>,
    pads: u32,
}

impl TryRng for Script {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.pads)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.pads.into())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = if self.keys.is_empty() { 0xAA } else { self.keys.remove(0) };
        }
        Ok(())
    }
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// The numbers were computed with a few lines of Python, from the description alone.
#[test]
fn without_pads_every_byte_is_what_the_protocol_says() {
    let mut script = Script { keys: (1..=40).collect(), pads: 0 };
    let terms = Terms { allowed: Methods(3), prefer_rc4: true };
    let (mut first, mut second, mut third, mut fourth) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut caller = Handshake::initiate(TORRENT, terms, b"hello".to_vec(), &mut script, &mut first);
    let mut called = Handshake::respond(terms);
    assert!(called.receive(&first, find, &mut script, &mut second).unwrap().is_none());
    assert!(caller.receive(&second, find, &mut script, &mut third).unwrap().is_none());
    let agreement = called.receive(&third, find, &mut script, &mut fourth).unwrap().unwrap();
    let sums = [&first, &second].map(|key| keys::hash(&[key[0], key[1], key[2], key[3]], &[&key[4..]]));
    assert_eq!(sums[0][..], hex("9fa4c50e31ec4635ddb9ef30405e9db341313ed2"));
    assert_eq!(sums[1][..], hex("e87d6f3297cfe8e032abf07a2ab1028c4e2dcbb0"));
    assert_eq!(
        third,
        hex(
            "83c8d8a3d91a5bf40d723666c4258731c8427ccba4ca7cef9ab9e67c17fde9e094f1114c6d1fcd76dc42007c56466ef91aac002f\
             a131a65b2235d4558b"
        )
    );
    assert_eq!(fourth, hex("2d50de6293f494a726fb14246ced"));
    assert_eq!(agreement.keys.incoming[..], hex("bf01b6c33d696c08d13775ffef42d5d2e9893bb5"));
    assert_eq!(agreement.keys.outgoing[..], hex("9fc033b6166b0ebc529ea41db5b6e7ca29822749"));
    assert_eq!((agreement.method, &agreement.initial[..]), (Method::Rc4, &b"hello"[..]));
}

#[test]
fn pads_may_be_as_long_as_they_can_be() {
    let mut script = Script { keys: (1..=20).collect(), pads: u32::MAX };
    let mut talk = Talk::new([BOTH; 2], b"hello", &mut script);
    assert_eq!(talk.inboxes[1].len(), 96 + 512);
    talk.run(7, &mut script).unwrap();
    assert_eq!(talk.finish(b"hello"), Method::Plaintext);
}

#[test]
fn what_is_selected_follows_from_what_both_allow_and_the_called_side_prefers() {
    let terms = |allowed, prefer_rc4| Terms { allowed: Methods(allowed), prefer_rc4 };
    let table = [
        ((1, 1), Ok(Method::Plaintext)),
        ((1, 2), Err(Failure::NothingInCommon)),
        ((1, 3), Ok(Method::Plaintext)),
        ((2, 1), Err(Failure::NothingInCommon)),
        ((2, 2), Ok(Method::Rc4)),
        ((2, 3), Ok(Method::Rc4)),
        ((3, 1), Ok(Method::Plaintext)),
        ((3, 2), Ok(Method::Rc4)),
        ((3, 3), Ok(Method::Plaintext)),
    ];
    for ((caller, called), expected) in table {
        assert_eq!(agree([terms(caller, true), terms(called, false)]), expected, "{caller} calls {called}");
    }
    assert_eq!(agree([terms(3, false), terms(3, true)]), Ok(Method::Rc4));
}

#[test]
fn a_torrent_that_is_not_here_is_refused() {
    let mut rng = StdRng::seed_from_u64(5);
    let mut talk = Talk::new([BOTH; 2], b"", &mut rng);
    let mut first = Vec::new();
    talk.sides[0] = Handshake::initiate([8; 20], BOTH, Vec::new(), &mut rng, &mut first);
    talk.inboxes[1] = first;
    assert_eq!(talk.run(100, &mut rng), Err(Failure::UnknownTorrent));
}

#[test]
fn a_caller_is_not_answered_with_what_it_did_not_offer() {
    // The called side believes that it was offered everything.
    let mut script = Script { keys: (1..=40).collect(), pads: 0 };
    let only = |allowed| Terms { allowed: Methods(allowed), prefer_rc4: true };
    let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
    let mut caller = Handshake::initiate(TORRENT, only(1), Vec::new(), &mut script, &mut first);
    let mut called = Handshake::respond(only(3));
    called.receive(&first, find, &mut script, &mut second).unwrap();
    caller.receive(&second, find, &mut script, &mut third).unwrap();
    // `crypto_provide` is behind two hashes and VC; a bit flips as it would in clear.
    third[2 * 20 + 8 + 3] ^= 3;
    let mut fourth = Vec::new();
    let agreement = called.receive(&third, find, &mut script, &mut fourth).unwrap().unwrap();
    assert_eq!(agreement.method, Method::Rc4);
    assert_eq!(caller.receive(&fourth, find, &mut script, &mut third).unwrap_err(), Failure::NotOffered);
}

#[test]
fn a_pad_that_is_too_long_and_a_constant_that_is_wrong_are_refused() {
    for (place, flip, failure) in [
        (2 * 20, 1, Failure::WrongConstant),
        (2 * 20 + 8 + 4, 3, Failure::PadTooLong),
        (2 * 20 + 8 + 3, 3, Failure::NothingInCommon),
    ] {
        let mut script = Script { keys: (1..=40).collect(), pads: 0 };
        let (mut first, mut second, mut third) = (Vec::new(), Vec::new(), Vec::new());
        let mut caller = Handshake::initiate(TORRENT, BOTH, Vec::new(), &mut script, &mut first);
        let mut called = Handshake::respond(BOTH);
        called.receive(&first, find, &mut script, &mut second).unwrap();
        caller.receive(&second, find, &mut script, &mut third).unwrap();
        third[place] ^= flip;
        assert_eq!(called.receive(&third, find, &mut script, &mut first).unwrap_err(), failure);
    }
}

/// How many bytes of `bytes`, one by one, a side takes before it gives up.
fn gives_up(side: &mut Handshake, bytes: &[u8]) -> (usize, Failure) {
    let mut rng = StdRng::seed_from_u64(9);
    for (i, byte) in bytes.iter().enumerate() {
        match side.receive(&[*byte], find, &mut rng, &mut Vec::new()) {
            Ok(agreement) => assert!(agreement.is_none()),
            Err(failure) => return (i + 1, failure),
        }
    }
    panic!("{} bytes of nothing were taken", bytes.len());
}

#[test]
fn the_end_of_a_pad_is_looked_for_only_as_far_as_a_pad_can_reach() {
    let mut rng = StdRng::seed_from_u64(8);
    let mut garbage = vec![0; 4096];
    rng.fill_bytes(&mut garbage);
    let mut caller = Handshake::initiate(TORRENT, BOTH, Vec::new(), &mut rng, &mut Vec::new());
    assert_eq!(gives_up(&mut caller, &garbage), (96 + 512 + 8, Failure::SyncNotFound));
    assert_eq!(gives_up(&mut Handshake::respond(BOTH), &garbage), (96 + 512 + 20, Failure::SyncNotFound));
    assert_eq!(gives_up(&mut Handshake::respond(BOTH), &[0; 100]), (96, Failure::DegenerateKey));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn bytes_may_come_in_any_portions(
        seed in any::<u64>(),
        most in 1_usize..1200,
        initial in prop::collection::vec(any::<u8>(), 0..200),
        rc4 in any::<bool>(),
    ) {
        let mut rng = StdRng::seed_from_u64(seed);
        let terms = Terms { allowed: Methods(3), prefer_rc4: rc4 };
        let mut talk = Talk::new([terms; 2], &initial, &mut rng);
        talk.run(most, &mut rng).unwrap();
        prop_assert_eq!(talk.finish(&initial), if rc4 { Method::Rc4 } else { Method::Plaintext });
    }

    #[test]
    fn what_follows_the_handshake_is_left_as_it_came(seed in any::<u64>(), most in 1_usize..3000) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut talk = Talk::new([BOTH; 2], b"hello", &mut rng);
        // The caller waits for an answer before it goes on, the called side need not.
        let mut answered = false;
        while talk.agreements.iter().any(Option::is_none) {
            let to = usize::from(!talk.inboxes[1].is_empty());
            let length = talk.rng.random_range(1..=most).min(talk.inboxes[to].len());
            let portion: Vec<u8> = talk.inboxes[to].drain(..length).collect();
            let out = &mut talk.inboxes[1 - to];
            talk.agreements[to] = talk.sides[to].receive(&portion, find, &mut rng, out).unwrap();
            if to == 1 && talk.agreements[1].is_some() && !answered {
                answered = true;
                talk.inboxes[0].extend(b"words behind it");
            }
        }
        let caller = talk.agreements[0].take().unwrap();
        let rest = [caller.rest, std::mem::take(&mut talk.inboxes[0])].concat();
        prop_assert_eq!(rest, b"words behind it");
    }
}
