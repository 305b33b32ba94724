//! The sample plugin `aes-ctr`, between engines of one simulation whose wires are tapped.

use std::collections::HashSet;
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::plugins::{PluginLibrary, load};
use pilotfish::settings::{EncLevel, EncPolicy, Settings};
use pilotfish_plugin::{ErrorCode, PeerContext, TorrentHandle};
use pilotfish_tests::fixtures;
use pilotfish_tests::sim::{Content, NodeId, Probe, Sim, talkative};

use crate::tour::{self, Guest};

/// The extended message's name.
const NAME: &str = "pf_aes_ctr";
const KEY: (&str, &str) = ("key", "000102030405060708090a0b0c0d0e0f");
const OTHER_KEY: (&str, &str) = ("key", "ff0102030405060708090a0b0c0d0e0f");
const REQUIRED: (&str, &str) = ("require", "true");
const LIMIT: Duration = Duration::from_secs(300);
/// So many bytes of random data in a row are not there by chance.
const PROBE: usize = 16;

struct Swarm {
    sim: Sim,
    content: Content,
    seed: NodeId,
    leech: NodeId,
    torrent: TorrentHandle,
}

impl Swarm {
    /// A seed and a leech that know of each other. No settings: no plugin.
    fn new(number: u64, seed_has: &[(&str, &str)], leech_has: &[(&str, &str)]) -> Self {
        Self::with(number, talkative(), seed_has, leech_has, None)
    }

    /// The same with these settings, and the leech may have a plugin of the test's own.
    fn with(
        number: u64,
        settings: Settings,
        seed_has: &[(&str, &str)],
        leech_has: &[(&str, &str)],
        probe: Option<Probe>,
    ) -> Self {
        let library: PluginLibrary = load(fixtures::library("pilotfish-aes-ctr")).unwrap();
        let mut sim = Sim::new(number);
        sim.tap();
        let [seed, leech] = [sim.node_with(settings.clone()), sim.node_with(settings)];
        for (node, settings) in [(seed, seed_has), (leech, leech_has)] {
            if !settings.is_empty() {
                sim.load(node, &library, settings);
            }
        }
        if let Some(probe) = probe {
            probe.plug(&mut sim, leech);
        }
        let content = Content::random(number, 700_000, 65_536);
        sim.seed(seed, &content);
        let torrent = sim.add(leech, &content);
        sim.introduce(leech, torrent, seed);
        Self { sim, content, seed, leech, torrent }
    }

    fn finish(&mut self) {
        self.sim.run_until_finished(LIMIT, &[(self.leech, self.torrent)]);
    }

    /// How many places of the torrent's data pass the wire in clear. Each whole block has a thousand such places.
    fn leaks(&self) -> usize {
        let probes: HashSet<&[u8]> = self.content.bytes().chunks_exact(PROBE).collect();
        let streams = [self.seed, self.leech].map(|node| self.sim.sent_by(node)).concat();
        streams.iter().flat_map(|sent| sent.windows(PROBE)).filter(|bytes| probes.contains(bytes)).count()
    }

    fn log(&self, node: NodeId) -> Vec<&str> {
        let lines = self.sim.alerts(node).filter_map(|alert| match alert {
            AlertKind::Log { plugin, text, .. } if plugin == "aes-ctr" => Some(text.as_str()),
            _ => None,
        });
        lines.collect()
    }

    /// Why connections ended.
    fn ends(&self, node: NodeId) -> Vec<ErrorCode> {
        let ends = self.sim.alerts(node).filter_map(|alert| match alert {
            AlertKind::PeerDisconnected { error, .. } | AlertKind::PeerError { error, .. } => Some(*error),
            _ => None,
        });
        ends.collect()
    }
}

#[test]
fn between_holders_of_the_key_no_block_passes_in_clear() {
    for (number, chunk) in [(60, 1..=16_000), (61, 1..=40), (62, 100_000..=200_000)] {
        let mut swarm = Swarm::new(number, &[KEY], &[KEY, REQUIRED]);
        swarm.sim.link.chunk = chunk;
        swarm.finish();
        assert_eq!(swarm.leaks(), 0);
        assert_eq!(swarm.log(swarm.seed).len(), 1);
        assert_eq!(swarm.log(swarm.leech), ["10.0.0.1:6881: encrypted"]);
        // It is the one connection, and its handshakes were in clear.
        let sent = swarm.sim.sent_by(swarm.seed);
        assert_eq!(sent.len(), 1);
        assert!(sent[0].len() > 700_000 && sent[0].starts_with(b"\x13BitTorrent protocol"));
        assert!(sent[0].windows(10).any(|bytes| bytes == b"pf_aes_ctr"));
    }
}

#[test]
fn it_takes_the_place_of_rc4_or_of_plain_text_behind_the_encryption_handshake() {
    for (number, allowed_enc_level) in [(81, EncLevel::Rc4), (82, EncLevel::Plaintext)] {
        let (in_enc_policy, out_enc_policy) = (EncPolicy::Forced, EncPolicy::Forced);
        let settings = Settings { in_enc_policy, out_enc_policy, allowed_enc_level, ..talkative() };
        let mut swarm = Swarm::with(number, settings.clone(), &[KEY], &[KEY, REQUIRED], None);
        swarm.finish();
        assert_eq!(swarm.leaks(), 0);
        assert_eq!(swarm.log(swarm.leech), ["10.0.0.1:6881: encrypted"]);
        // It announces itself under RC4, or in what is plain text behind the encryption handshake.
        let [sent] = swarm.sim.sent_by(swarm.seed)[..] else { panic!("several connections") };
        let in_clear = |text: &[u8]| sent.windows(text.len()).any(|bytes| bytes == text);
        let is_plain = allowed_enc_level == EncLevel::Plaintext;
        assert_eq!((in_clear(b"BitTorrent protocol"), in_clear(NAME.as_bytes())), (is_plain, is_plain));
        // Without the key RC4 alone would let the blocks through.
        let mut swarm = Swarm::with(number, settings, &[KEY], &[OTHER_KEY], None);
        swarm.sim.run_for(Duration::from_secs(30));
        assert_eq!(swarm.sim.status(swarm.leech, swarm.torrent).num_pieces, 0);
        let ends = [swarm.seed, swarm.leech].map(|node| swarm.ends(node)).concat();
        assert!(ends.contains(&ErrorCode::plugin(2)), "{ends:?}");
    }
}

#[test]
fn a_tap_sees_all_blocks_where_nothing_is_encrypted() {
    let mut swarm = Swarm::new(63, &[], &[]);
    swarm.finish();
    assert!(swarm.leaks() >= 700_000 / PROBE);
}

#[test]
fn every_connection_has_keys_of_its_own() {
    let mut swarm = Swarm::new(64, &[KEY, REQUIRED], &[KEY, REQUIRED]);
    swarm.sim.link.bandwidth = 100_000;
    for _ in 0..3 {
        swarm.sim.run_for(Duration::from_secs(2));
        swarm.sim.reset(swarm.seed, swarm.leech);
        swarm.sim.run_for(Duration::from_secs(100));
    }
    swarm.finish();
    assert_eq!(swarm.leaks(), 0);
    let streams = swarm.sim.sent_by(swarm.seed);
    assert!(streams.len() >= 2);
    // The hellos differ, and nothing that is encrypted looks like anything else that is.
    let mut seen = HashSet::new();
    let chunks = streams.iter().flat_map(|sent| sent[1_000.min(sent.len())..].chunks_exact(64));
    assert!(chunks.into_iter().all(|chunk| seen.insert(chunk)));
}

#[test]
fn another_key_ends_the_connection() {
    let mut swarm = Swarm::new(65, &[KEY], &[OTHER_KEY]);
    swarm.sim.run_for(Duration::from_secs(30));
    assert_eq!(swarm.sim.status(swarm.leech, swarm.torrent).num_pieces, 0);
    let ends = [swarm.seed, swarm.leech].map(|node| swarm.ends(node)).concat();
    assert!(ends.contains(&ErrorCode::plugin(2)), "{ends:?}");
    let log = [swarm.seed, swarm.leech].map(|node| swarm.log(node)).concat();
    assert!(log.iter().all(|line| line.ends_with("has another key")) && !log.is_empty(), "{log:?}");
    assert_eq!(swarm.leaks(), 0);
}

#[test]
fn a_peer_without_it_stays_in_clear_unless_it_is_required() {
    for (number, seed, leech) in [(66, &[][..], &[KEY][..]), (67, &[KEY][..], &[][..])] {
        let mut swarm = Swarm::new(number, seed, leech);
        swarm.finish();
        assert!(swarm.leaks() >= 700_000 / PROBE);
    }
    for (number, seed, leech) in [(68, &[][..], &[KEY, REQUIRED][..]), (69, &[KEY, REQUIRED][..], &[][..])] {
        let mut swarm = Swarm::new(number, seed, leech);
        swarm.sim.run_for(Duration::from_secs(100));
        let strict = if seed.is_empty() { swarm.leech } else { swarm.seed };
        assert!(swarm.ends(strict).contains(&ErrorCode::plugin(1)), "{:?}", swarm.ends(strict));
        assert_eq!(swarm.sim.status(swarm.leech, swarm.torrent).num_pieces, 0);
        assert_eq!(swarm.leaks(), 0);
    }
}

/// A leech that announces the message, does this when the seed has announced it too, and wants blocks all the same.
fn impostor(number: u64, seed: &[(&str, &str)], then: fn(&PeerContext<'_>)) -> Swarm {
    let probe = Probe::new().peer("add_handshake", |cx| cx.this().register_extended(NAME).is_err());
    let probe = probe.peer("on_extension_handshake", move |cx| {
        then(cx);
        false
    });
    Swarm::with(number, talkative(), seed, &[], Some(probe))
}

#[test]
fn a_peer_that_announces_it_and_says_nothing_gets_nothing_where_it_is_required() {
    let mut swarm = impostor(70, &[KEY, REQUIRED], |_| {});
    swarm.sim.run_for(Duration::from_secs(50));
    assert_eq!(swarm.ends(swarm.seed), [ErrorCode::plugin(1)]);
    assert_eq!(swarm.leaks(), 0);
    // One that wants nothing is not kept for ever either.
    let mut swarm = impostor(71, &[KEY, REQUIRED], |cx| cx.this_torrent().pause());
    swarm.sim.run_for(Duration::from_secs(50));
    assert_eq!(swarm.sim.open_connections(), 0);
    let mut swarm = impostor(72, &[KEY], |_| {});
    swarm.finish();
}

#[test]
fn messages_that_make_no_sense_end_the_connection() {
    let nonsense: [fn(&PeerContext<'_>); 5] = [
        |cx| say(cx, &[b""]),
        |cx| say(cx, &[b"\x02"]),
        |cx| say(cx, &[b"\x00too short"]),
        // A confirmation before the hello, and a second hello.
        |cx| say(cx, &[&[1; 33]]),
        |cx| say(cx, &[&[0; 33], &[0; 33]]),
    ];
    for (number, then) in nonsense.into_iter().enumerate() {
        let mut swarm = impostor(73 + number as u64, &[KEY], then);
        swarm.sim.run_for(Duration::from_secs(10));
        assert_eq!(swarm.ends(swarm.seed), [ErrorCode::plugin(3)], "{number}");
    }
    // A hello is answered, but the confirmation is not one.
    let mut swarm = impostor(80, &[KEY], |cx| say(cx, &[&[0; 33], &[1; 33]]));
    swarm.sim.run_for(Duration::from_secs(10));
    assert_eq!(swarm.ends(swarm.seed), [ErrorCode::plugin(2)]);
    assert_eq!(swarm.leaks(), 0);
}

fn say(cx: &PeerContext<'_>, messages: &[&[u8]]) {
    for message in messages {
        assert!(cx.this().send_extended(NAME, message));
    }
}

#[test]
fn a_key_that_is_none_is_refused_without_repeating_it() {
    let library = load(fixtures::library("pilotfish-aes-ctr")).unwrap();
    for (settings, error) in [
        (&[][..], "the setting key is missing: 32 hexadecimal digits"),
        (&[("key", "secret")][..], "the setting key has to be 32 hexadecimal digits"),
        (&[KEY, ("require", "maybe")][..], "the setting require cannot be \"maybe\""),
        (&[KEY, ("reqire", "true")][..], "there is no setting reqire; there are: key, require"),
    ] {
        assert_eq!(tour::take(vec![Guest::new(&library, settings)]).unwrap_err(), error);
    }
}
