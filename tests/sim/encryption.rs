//! Encryption that begins before anything else is said (MSE): what it hides, between whom, and what plugins see of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use EncPolicy::{Disabled, Enabled, Forced};
use pilotfish::alert::AlertKind;
use pilotfish::settings::{EncLevel, EncPolicy, Settings};
use pilotfish_plugin::{CipherBox, ErrorCode, PeerInfo, TorrentHandle};
use pilotfish_tests::sim::{Content, InPlace, Keys, Link, Log, NodeId, Probe, Sim, talkative};

use crate::ciphers::switch_ciphers;

const LIMIT: Duration = Duration::from_secs(120);
/// What passes without encryption.
const NAME: &[u8] = b"BitTorrent protocol";

fn with(in_enc_policy: EncPolicy, out_enc_policy: EncPolicy, allowed_enc_level: EncLevel) -> Settings {
    // Nobody is to find anybody but whom it is told of.
    Settings { in_enc_policy, out_enc_policy, allowed_enc_level, enable_dht: false, ..talkative() }
}

/// Two nodes whose wire is tapped, one of which calls the other.
struct Pair {
    sim: Sim,
    content: Content,
    seed: NodeId,
    leech: NodeId,
    torrent: TorrentHandle,
}

impl Pair {
    fn new(number: u64, seed: Settings, leech: Settings) -> Self {
        Self::with_plugins(number, seed, leech, |_, _| {})
    }

    fn with_plugins(
        number: u64,
        seed: Settings,
        leech: Settings,
        mut plug: impl FnMut(&mut Sim, NodeId),
    ) -> Self {
        let mut sim = Sim::new(number);
        sim.tap();
        let [seed, leech] = [sim.node_with(seed), sim.node_with(leech)];
        [seed, leech].into_iter().for_each(|node| plug(&mut sim, node));
        let content = Content::random(number, 300_000, 32_768);
        sim.seed(seed, &content);
        let torrent = sim.add(leech, &content);
        sim.introduce(leech, torrent, seed);
        Self { sim, content, seed, leech, torrent }
    }

    fn finish(&mut self) {
        self.sim.run_until_finished(LIMIT, &[(self.leech, self.torrent)]);
        self.sim.assert_complete(self.leech, &self.content);
    }

    /// Whether anything in clear was seen: the handshake, and blocks.
    fn leaks(&self) -> (bool, bool) {
        let streams = [self.seed, self.leech].map(|node| self.sim.sent_by(node)).concat();
        let windows = |len| streams.iter().flat_map(move |sent| sent.windows(len));
        let blocks: HashSet<&[u8]> = self.content.bytes().chunks_exact(16).collect();
        (windows(NAME.len()).any(|bytes| bytes == NAME), windows(16).any(|bytes| blocks.contains(bytes)))
    }

    fn connections(&self) -> usize {
        self.sim.sent_by(self.leech).len()
    }
}

#[test]
fn who_can_talk_to_whom_follows_from_the_policies_of_both() {
    // Whether it works, after how many connections, and whether the last of them was encrypted.
    let table = [
        ((Forced, Forced), Some((1, true))),
        ((Forced, Enabled), Some((1, true))),
        ((Forced, Disabled), None),
        ((Enabled, Forced), Some((2, true))),
        ((Enabled, Enabled), Some((1, false))),
        ((Enabled, Disabled), Some((1, false))),
        ((Disabled, Forced), None),
        ((Disabled, Enabled), Some((1, false))),
        ((Disabled, Disabled), Some((1, false))),
    ];
    for ((calls, lets_in), expected) in table {
        println!("{calls:?} calls {lets_in:?}");
        let seed = with(lets_in, Disabled, EncLevel::Both);
        let mut pair = Pair::new(400, seed, with(Disabled, calls, EncLevel::Both));
        match expected {
            Some(expected) => {
                pair.finish();
                let calls = pair.sim.sent_by(pair.leech);
                let encrypted = !calls.last().unwrap().starts_with(b"\x13BitTorrent protocol");
                assert_eq!((calls.len(), encrypted), expected);
            }
            None => {
                pair.sim.run_for(LIMIT);
                assert_eq!(pair.sim.status(pair.leech, pair.torrent).total_done, 0);
                // Who refuses a stranger tells the program why, although nobody knows whom the stranger wanted.
                let why = match lets_in {
                    Forced => ErrorCode::NO_INCOMING_REGULAR,
                    _ => ErrorCode::NO_INCOMING_ENCRYPTED,
                };
                let told = |alert: &AlertKind| matches!(alert, AlertKind::PeerDisconnected { error, .. } if *error == why);
                assert!(pair.sim.alerts(pair.seed).any(told));
            }
        }
    }
}

#[test]
fn who_prefers_rc4_greets_encrypted_first_and_then_in_clear() {
    for (lets_in, connections, leaks) in
        [(Forced, 1, (false, false)), (Enabled, 1, (false, false)), (Disabled, 2, (true, true))]
    {
        let prefers = |settings| Settings { prefer_rc4: true, ..settings };
        let seed = prefers(with(lets_in, Disabled, EncLevel::Both));
        let mut pair = Pair::new(401, seed, prefers(with(Disabled, Enabled, EncLevel::Both)));
        pair.finish();
        assert_eq!((pair.connections(), pair.leaks()), (connections, leaks), "{lets_in:?}");
    }
}

#[test]
fn both_levels_must_have_something_in_common_and_rc4_hides_everything() {
    use EncLevel::{Both, Plaintext, Rc4};
    for (calls, lets_in, hidden) in [
        (Rc4, Rc4, Some(true)),
        (Rc4, Both, Some(true)),
        (Both, Rc4, Some(true)),
        (Both, Both, Some(false)),
        (Plaintext, Both, Some(false)),
        (Rc4, Plaintext, None),
        (Plaintext, Rc4, None),
    ] {
        println!("{calls:?} calls {lets_in:?}");
        let mut pair = Pair::new(402, with(Forced, Forced, lets_in), with(Forced, Forced, calls));
        match hidden {
            Some(hidden) => {
                pair.finish();
                // The handshake came with the encryption handshake, which is always encrypted, and was answered behind it.
                assert_eq!(pair.leaks(), (!hidden, !hidden));
            }
            None => {
                pair.sim.run_for(LIMIT);
                assert_eq!(pair.sim.status(pair.leech, pair.torrent).total_done, 0);
            }
        }
    }
}

#[test]
fn data_is_right_under_rc4_however_bytes_are_cut_and_lost() {
    for (number, chunk) in [(410, 1..=7), (411, 1..=2_000), (412, 100_000..=200_000)] {
        let rc4 = with(Forced, Forced, EncLevel::Rc4);
        let mut sim = Sim::new(number);
        sim.link = Link { chunk, loss_ppm: 20_000, bandwidth: 1_000_000, ..Link::default() };
        let content = Content::random(number, 700_000, 65_536);
        // Each has one half, so that blocks flow both ways.
        let nodes = [sim.node_with(rc4.clone()), sim.node_with(rc4)];
        let half = 5 * 65_536;
        for (node, range) in nodes.into_iter().zip([0..half, half..700_000]) {
            sim.disk(node).put(".", &content);
            sim.disk(node).bytes(".", &content)[range].fill(0);
        }
        let torrents = nodes.map(|node| (node, sim.add(node, &content)));
        sim.run_for(Duration::from_secs(1));
        sim.introduce(nodes[0], torrents[0].1, nodes[1]);
        sim.run_until_finished(LIMIT, &torrents);
        nodes.into_iter().for_each(|node| sim.assert_complete(node, &content));
    }
}

#[test]
fn a_swarm_of_all_policies_gets_everything_to_everyone() {
    let mut sim = Sim::new(413);
    sim.link.loss_ppm = 1_000;
    let content = Content::random(413, 500_000, 32_768);
    let policies = [(Enabled, Enabled), (Forced, Forced), (Disabled, Disabled), (Enabled, Forced)];
    let nodes: Vec<NodeId> = (0..8)
        .map(|i| {
            let (lets_in, calls) = policies[i % policies.len()];
            let prefer_rc4 = i % 3 == 0;
            sim.node_with(Settings { prefer_rc4, ..with(lets_in, calls, EncLevel::Both) })
        })
        .collect();
    sim.seed(nodes[0], &content);
    let torrents: Vec<_> = nodes[1..].iter().map(|node| (*node, sim.add(*node, &content))).collect();
    for (node, torrent) in &torrents {
        nodes.iter().filter(|other| *other != node).for_each(|other| sim.introduce(*node, *torrent, *other));
    }
    sim.run_until_finished(Duration::from_secs(300), &torrents);
    torrents.iter().for_each(|(node, _)| sim.assert_complete(*node, &content));
}

/// Hooks without ticks and alerts.
pub(crate) fn heard(log: &Log) -> Vec<String> {
    let log = log.lock().unwrap();
    log.iter().filter(|line| !line.contains("on_alert") && !line.contains("tick")).cloned().collect()
}

#[test]
fn plugins_see_the_same_with_encryption_as_without() {
    let seen: Vec<_> = [Disabled, Forced]
        .map(|policy| {
            let mut sim = Sim::new(420);
            let settings = with(policy, policy, EncLevel::Rc4);
            let [seed, leech] = [sim.node_with(settings.clone()), sim.node_with(settings)];
            let logs = [seed, leech].map(|node| Probe::new().plug(&mut sim, node));
            let content = Content::random(420, 10_000, 16_384);
            sim.seed(seed, &content);
            let torrent = sim.add(leech, &content);
            sim.introduce(leech, torrent, seed);
            sim.run_until_finished(LIMIT, &[(leech, torrent)]);
            sim.run_for(Duration::from_millis(200));
            logs.map(|log| heard(&log))
        })
        .into();
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0][1].contains(&"peer.on_connected".to_owned()));
}

#[test]
fn plugins_can_ask_what_a_connection_is_encrypted_with() {
    let table = [
        (Disabled, EncLevel::Both, (false, 0)),
        (Forced, EncLevel::Rc4, (true, PeerInfo::RC4_ENCRYPTED)),
        (Forced, EncLevel::Plaintext, (true, PeerInfo::PLAINTEXT_ENCRYPTED)),
    ];
    for (policy, level, expected) in table {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let settings = with(policy, policy, level);
        let mut pair = Pair::with_plugins(440, settings.clone(), settings, |sim, node| {
            let answers = answers.clone();
            let probe = Probe::new().peer("on_extension_handshake", move |cx| {
                let both = PeerInfo::RC4_ENCRYPTED | PeerInfo::PLAINTEXT_ENCRYPTED;
                let bt = cx.this().bt().unwrap();
                answers
                    .lock()
                    .unwrap()
                    .push((bt.supports_encryption(), cx.this().peer_info().flags() & both));
                false
            });
            probe.plug(sim, node);
        });
        pair.finish();
        assert_eq!(*answers.lock().unwrap(), [expected; 2]);
    }
}

#[test]
fn what_comes_of_encryption_is_in_the_log_of_the_connection() {
    let settings = with(Forced, Forced, EncLevel::Rc4);
    let mut pair = Pair::new(441, settings.clone(), settings);
    pair.finish();
    let lines: Vec<&str> = pair
        .sim
        .alerts(pair.leech)
        .filter_map(|alert| match alert {
            AlertKind::PeerLog { event, text, .. } if event == "ENCRYPTION" => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(lines, ["initiating an encrypted connection", "both agree on RC4"]);
}

/// What ciphers of one side were told.
type Told = Arc<Mutex<Vec<Keys>>>;

/// A cipher that turns the bits around.
fn turning(told: &Told) -> CipherBox {
    let keys = Keys::default();
    told.lock().unwrap().push(keys.clone());
    InPlace::boxed(|data| data.iter_mut().for_each(|byte| *byte = !*byte), keys)
}

#[test]
fn a_plugins_cipher_takes_the_place_of_rc4_and_is_told_its_keys() {
    for (policy, level) in
        [(Forced, EncLevel::Rc4), (Forced, EncLevel::Plaintext), (Disabled, EncLevel::Both)]
    {
        let told = [Told::default(), Told::default()];
        let mut nodes = told.iter();
        let settings = with(policy, policy, level);
        let mut pair = Pair::with_plugins(442, settings.clone(), settings, |sim, node| {
            let told = nodes.next().unwrap().clone();
            sim.link = Link { bandwidth: 50_000, ..Link::default() };
            switch_ciphers(sim, node, move |number| (number == 0).then(|| Some(turning(&told))));
        });
        pair.finish();
        // Behind the switch the bits are turned, and nothing else.
        let sent = pair.sim.sent_by(pair.seed).concat();
        let mut blocks = pair.content.bytes().chunks(16_384).map(|block| &block[..block.len().min(100)]);
        let is_turned = |block: &[u8]| {
            let turned: Vec<u8> = block.iter().map(|byte| !byte).collect();
            sent.windows(turned.len()).any(|bytes| bytes == turned)
        };
        assert!(blocks.any(is_turned), "{level:?}");
        let [ours, theirs] = told.map(|told| {
            let told: Vec<[Vec<u8>; 2]> =
                told.lock().unwrap().iter().map(|keys| keys.lock().unwrap().clone()).collect();
            // The cipher of each direction is told both keys.
            assert!(told.len() == 2 && told[0] == told[1], "{told:?}");
            told[0].clone()
        });
        assert_eq!(ours.each_ref().map(Vec::len), [if policy == Forced { 20 } else { 0 }; 2]);
        assert_eq!(ours, [theirs[1].clone(), theirs[0].clone()]);
    }
}

/// A plugin that cannot wait for the handshake.
#[test]
fn what_a_plugin_sends_meanwhile_waits_for_the_end_of_the_handshake() {
    let settings = with(Forced, Forced, EncLevel::Rc4);
    let mut pair = Pair::with_plugins(443, settings.clone(), settings, |sim, node| {
        let probe = Probe::new().peer("on_connected", |cx| {
            // A keep-alive, which is one wherever it stands behind the handshake.
            cx.this().send_buffer(&[0; 4]);
            false
        });
        probe.plug(sim, node);
    });
    pair.finish();
    assert_eq!((pair.connections(), pair.leaks()), (1, (false, false)));
}
