//! The encryption handshake (MSE): bytes that are cut, changed, repeated and made up, for either side.
//!
//! What is asked of a side: it comes to an end, whatever it is told, and it never holds more than a handshake and what came
//! with it. Two sides whose bytes nobody touched agree.

use pilotfish::peer::mse::{Handshake, Methods, Terms, obfuscated};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use crate::Told;

const TORRENT: [u8; 20] = [3; 20];
/// A side that has been told so much has either agreed or given up.
const MOST: usize = 2 * 96 + 4 * 512 + (1 << 16) + 1_000;

pub(crate) fn run(seed: u64) -> Told {
    let mut rng = StdRng::seed_from_u64(seed);
    let steps = if rng.random_bool(0.3) { monologue(&mut rng) } else { talk(&mut rng) };
    Told { steps, hooks: 0 }
}

fn find(hidden: &[u8; 20]) -> Option<[u8; 20]> {
    (*hidden == obfuscated(&TORRENT)).then_some(TORRENT)
}

fn terms(rng: &mut StdRng) -> Terms {
    Terms { allowed: Methods(rng.random_range(1..=3)), prefer_rc4: rng.random_bool(0.5) }
}

fn side(rng: &mut StdRng, out: &mut Vec<u8>) -> Handshake {
    let terms = terms(rng);
    if rng.random_bool(0.5) {
        return Handshake::respond(terms);
    }
    let initial = vec![7; rng.random_range(0..2_000)];
    Handshake::initiate(TORRENT, terms, initial, rng, out)
}

/// One side, which is told things that nobody would say.
fn monologue(rng: &mut StdRng) -> u64 {
    let mut side = side(rng, &mut Vec::new());
    let (mut told, mut steps) = (0, 0);
    loop {
        let mut bytes = vec![0; rng.random_range(1..400)];
        match rng.random_range(0..4) {
            0 => {}
            1 => bytes.fill(0xff),
            _ => rng.fill_bytes(&mut bytes),
        }
        told += bytes.len();
        steps += 1;
        let mut out = Vec::new();
        match side.receive(&bytes, find, rng, &mut out) {
            Err(_) => return steps,
            Ok(Some(_)) => panic!("it agreed with nobody"),
            Ok(None) => assert!(told < MOST && out.len() <= MOST, "it waits for ever"),
        }
    }
}

/// Two sides; their bytes are cut anywhere, and sometimes changed on the way.
fn talk(rng: &mut StdRng) -> u64 {
    let harm = if rng.random_bool(0.5) { 0.0 } else { 0.02 };
    let both = Terms { allowed: Methods(3), prefer_rc4: rng.random_bool(0.5) };
    let (initial, mut first) = (vec![7; rng.random_range(0..2_000)], Vec::new());
    let caller = Handshake::initiate(TORRENT, both, initial.clone(), rng, &mut first);
    let mut sides = [caller, Handshake::respond(both)];
    let mut inboxes = [Vec::new(), first];
    let mut agreed = [false; 2];
    let mut steps = 0;
    while let Some(to) = (0..2).find(|to| !agreed[*to] && !inboxes[*to].is_empty()) {
        let length = rng.random_range(1..=inboxes[to].len().min(700));
        let mut bytes: Vec<u8> = inboxes[to].drain(..length).collect();
        if rng.random_bool(harm) {
            let place = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes[place] ^= 1 << rng.random_range(0..8),
                1 => bytes.truncate(place),
                _ => bytes.extend_from_within(place..),
            }
        }
        steps += 1;
        match sides[to].receive(&bytes, find, rng, &mut inboxes[1 - to]) {
            Err(failure) => {
                assert!(harm > 0.0, "{failure}");
                return steps;
            }
            Ok(None) => {}
            Ok(Some(agreement)) => {
                agreed[to] = true;
                assert!(harm > 0.0 || to == 0 || agreement.initial == initial);
                assert!(agreement.rest.len() <= 2_000);
            }
        }
    }
    assert!(harm > 0.0 || agreed == [true; 2], "nobody did any harm, and they do not agree");
    steps
}
