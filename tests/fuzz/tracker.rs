//! What trackers answer, over HTTP and UDP: right, damaged, or made up.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use pilotfish::engine::{FetchError, FetchToken, Fetched, Input, LookupToken};
use pilotfish::wire::tracker::{
    AnnounceReply, LONGEST_TEXT, LONGEST_WAIT, MOST_PEERS, TrackerUrl, http, udp,
};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::Told;

/// Answers in a run.
const ANSWERS: u64 = 500;

/// The keys that something is read from, and some that nothing is.
const KEYS: [&str; 16] = [
    "complete",
    "downloaded",
    "external ip",
    "failure reason",
    "files",
    "incomplete",
    "interval",
    "min interval",
    "peers",
    "peers6",
    "retry in",
    "tracker id",
    "warning message",
    "ip",
    "port",
    "x",
];

/// One run.
pub(crate) fn run(seed: u64) -> Told {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..ANSWERS {
        let mut body = Vec::new();
        dictionary(&mut rng, &mut body, 0);
        damage(&mut rng, &mut body);
        if let Ok(reply) = http::parse_announce(&body) {
            check(&reply);
        }
        let _ = http::parse_scrape(&body, b"aaaaaaaaaaaaaaaaaaaa");

        let mut packet = vec![0, 0, 0, rng.random_range(0..5)];
        let more = random_bytes(&mut rng, 3_000);
        packet.extend(more);
        damage(&mut rng, &mut packet);
        let from = if rng.random() { "1.2.3.4:5" } else { "[::1]:5" };
        match udp::parse(&packet, from.parse().unwrap()) {
            Ok(udp::UdpReply::Announce(reply)) => check(&reply),
            Ok(udp::UdpReply::Error(text)) => assert!(text.len() <= 3 * LONGEST_TEXT),
            _ => {}
        }

        let url: String = random_bytes(&mut rng, 40).into_iter().map(char::from).collect();
        let _ = TrackerUrl::parse(&url).map(|url| url.scrape());
    }
    Told { steps: ANSWERS, hooks: 0 }
}

/// What an engine waits for from its trackers.
#[derive(Default)]
pub(crate) struct Trackers {
    pub(crate) fetches: Vec<FetchToken>,
    pub(crate) lookups: Vec<LookupToken>,
    /// What it sent by UDP.
    pub(crate) packets: Vec<(SocketAddr, Bytes)>,
}

impl Trackers {
    /// Something that it waits for.
    pub(crate) fn input(&mut self, rng: &mut StdRng) -> Option<Input> {
        if let Some(lookup) = self.lookups.pop() {
            let addresses = match rng.random_range(0..4) {
                0 => Err(io::ErrorKind::NotFound.into()),
                _ => Ok((0..rng.random_range(1..20_u8)).map(|n| [10, 88, 0, n].into()).collect()),
            };
            return Some(Input::Resolved { lookup, addresses });
        }
        let fetch = self.fetches.pop()?;
        let result = match rng.random_range(0..5) {
            0 => Err(FetchError::Silent),
            1 => Ok(Fetched { status: rng.random_range(100..600), body: Bytes::new() }),
            2 => Ok(Fetched { status: 200, body: answer(rng) }),
            _ => {
                let peers = random_bytes(rng, 200);
                let body =
                    [format!("d8:intervali60e5:peers{}:", peers.len()).as_bytes(), &peers, b"e"].concat();
                Ok(Fetched { status: 200, body: body.into() })
            }
        };
        Some(Input::Fetched { fetch, result })
    }

    /// An answer to one of the last packets, or to none.
    pub(crate) fn packet(&mut self, rng: &mut StdRng) -> Option<(SocketAddr, Vec<u8>)> {
        let (to, asked) = self.packets.pop()?;
        self.packets.truncate(20);
        let action = if rng.random_bool(0.7) { *asked.get(11)? } else { rng.random_range(0..5) };
        let mut packet = [&[0, 0, 0, action][..], asked.get(12..16)?].concat();
        packet.extend(random_bytes(rng, 300));
        if rng.random_bool(0.2) {
            damage(rng, &mut packet);
        }
        Some((to, packet))
    }
}

fn answer(rng: &mut StdRng) -> Bytes {
    let mut body = Vec::new();
    dictionary(rng, &mut body, 0);
    damage(rng, &mut body);
    body.into()
}

/// Nothing in an answer is out of bounds, whoever wrote it.
fn check(reply: &AnnounceReply) {
    assert!(reply.peers.len() <= MOST_PEERS && reply.peers.iter().all(|peer| peer.port() != 0));
    for wait in [reply.interval, reply.min_interval].into_iter().flatten() {
        assert!(wait <= LONGEST_WAIT);
    }
    // A byte that is no UTF-8 becomes three.
    assert!(reply.warning.as_ref().is_none_or(|text| text.len() <= 3 * LONGEST_TEXT));
    assert!(reply.trackerid.as_ref().is_none_or(|id| id.len() <= LONGEST_TEXT));
}

fn random_bytes(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..most)];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(format!("{}:", bytes.len()).into_bytes());
    out.extend(bytes);
}

/// A dictionary with keys in any order, some of them twice.
fn dictionary(rng: &mut StdRng, out: &mut Vec<u8>, depth: usize) {
    out.push(b'd');
    for _ in 0..rng.random_range(0..10) {
        let key = KEYS[rng.random_range(0..KEYS.len())];
        string(out, key.as_bytes());
        value(rng, out, depth + 1);
    }
    out.push(b'e');
}

fn value(rng: &mut StdRng, out: &mut Vec<u8>, depth: usize) {
    match rng.random_range(0..if depth > 3 { 5 } else { 8 }) {
        0 | 1 => {
            let small = rng.random_range(-3..100_000);
            let number: i64 = if rng.random() { rng.random() } else { small };
            out.extend(format!("i{number}e").into_bytes());
        }
        2 => string(out, b"1.2.3.4"),
        3 => {
            let bytes = random_bytes(rng, 40);
            string(out, &bytes);
        }
        4 => {
            let most = if depth == 1 { 15_000 } else { 40 };
            let bytes = random_bytes(rng, most);
            string(out, &bytes);
        }
        5 => dictionary(rng, out, depth),
        _ => {
            out.push(b'l');
            (0..rng.random_range(0..4)).for_each(|_| dictionary(rng, out, depth));
            out.push(b'e');
        }
    }
}

/// Changes, cuts or leaves alone.
fn damage(rng: &mut StdRng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(0..4_usize).saturating_sub(1) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.random()),
            2 => drop(bytes.remove(at)),
            _ => bytes[at] = rng.random(),
        }
    }
}
