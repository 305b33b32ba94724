//! Ciphers that plugins switch on in mid-connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish_plugin::{
    CipherBox, CipherContext, CipherError, CipherPlugin, Decrypted, Keep, PeerBox, PeerContext, PeerPlugin,
    Prefix, Reserved, Verdict, hooks,
};
use pilotfish_tests::sim::{Content, Link, Sim};

/// Each byte by its place: one byte too many or too few, and the rest is rubbish.
#[derive(Default)]
struct Keystream(u32);

impl Keystream {
    fn apply(&mut self, data: &mut [u8]) {
        for byte in data {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte ^= (self.0 >> 24) as u8;
        }
    }
}

/// A stream cipher: as many bytes come out as went in.
#[derive(Default)]
struct StreamCipher(Keystream);

#[hooks]
impl CipherPlugin for StreamCipher {
    fn encrypt(
        &mut self,
        _: &mut CipherContext<'_>,
        data: &mut [u8],
        _: Prefix<'_>,
    ) -> Result<(), CipherError> {
        self.0.apply(data);
        Ok(())
    }

    fn decrypt(
        &mut self,
        _: &mut CipherContext<'_>,
        data: &mut [u8],
        _: &mut Decrypted,
    ) -> Result<(), CipherError> {
        self.0.apply(data);
        Ok(())
    }
}

/// Packets: four bytes of length, then that many of cipher text.
#[derive(Default)]
struct PacketCipher(Keystream);

#[hooks]
impl CipherPlugin for PacketCipher {
    fn encrypt(
        &mut self,
        _: &mut CipherContext<'_>,
        data: &mut [u8],
        mut prefix: Prefix<'_>,
    ) -> Result<(), CipherError> {
        prefix.put(&u32::try_from(data.len()).unwrap().to_be_bytes());
        self.0.apply(data);
        Ok(())
    }

    fn decrypt(
        &mut self,
        _: &mut CipherContext<'_>,
        data: &mut [u8],
        progress: &mut Decrypted,
    ) -> Result<(), CipherError> {
        *progress = Decrypted { consume: 0, produce: 0, packet_size: 4 };
        let Some((length, rest)) = data.split_first_chunk_mut::<4>() else { return Ok(()) };
        let length = u32::from_be_bytes(*length);
        match rest.get_mut(..length as usize) {
            Some(packet) => {
                self.0.apply(packet);
                *progress = Decrypted { consume: 4, produce: length, packet_size: 4 };
            }
            None => progress.packet_size = 4 + length,
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Stream,
    Packets,
    Plain,
}

impl Kind {
    fn cipher(self) -> Option<CipherBox> {
        match self {
            Self::Stream => Some(CipherBox::new(StreamCipher::default())),
            Self::Packets => Some(CipherBox::new(PacketCipher::default())),
            Self::Plain => None,
        }
    }
}

const NAME: &str = "sim_cipher";
/// One switch per second, each announced by a message under the one before.
const SWITCHES: [Kind; 7] =
    [Kind::Stream, Kind::Stream, Kind::Packets, Kind::Packets, Kind::Plain, Kind::Packets, Kind::Stream];

struct Secretive {
    id: u8,
    sent: usize,
    received: Arc<AtomicUsize>,
    heard: usize,
}

#[hooks]
impl PeerPlugin for Secretive {
    fn on_handshake(&mut self, cx: &mut PeerContext<'_>, _: Reserved) -> Keep {
        self.id = cx.this().register_extended(NAME).unwrap();
        Keep::Stay
    }

    fn tick(&mut self, cx: &mut PeerContext<'_>) {
        let Some(next) = SWITCHES.get(self.sent) else { return };
        if cx.this().send_extended(NAME, b"switch") {
            self.sent += 1;
            cx.this().bt().unwrap().switch_send_crypto(next.cipher());
            // This one is behind the switch already, although the switch is only made after the hook.
            assert!(cx.this().send_extended(NAME, b"behind"));
        }
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, _: u32, message: u8, body: &[u8]) -> Verdict {
        if message != self.id {
            return Verdict::Continue;
        }
        if body == b"switch" {
            cx.this().bt().unwrap().switch_recv_crypto(SWITCHES[self.heard].cipher());
            self.heard += 1;
        } else {
            assert_eq!(body, b"behind");
            self.received.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::Handled
    }
}

#[test]
fn both_sides_change_ciphers_while_blocks_flow() {
    let mut sim = Sim::new(70);
    sim.link = Link { bandwidth: 300_000, ..Link::default() };
    let content = Content::random(70, 6_000_000, 65_536);
    let [one, other] = [sim.node(), sim.node()];
    let received = Arc::new(AtomicUsize::new(0));
    for node in [one, other] {
        let received = received.clone();
        sim.plug_on_peers(node, "secretive", move || {
            PeerBox::new(Secretive { id: 0, sent: 0, received: received.clone(), heard: 0 })
        });
    }
    let half = 45 * 65_536;
    // Each has one half, so that blocks flow both ways.
    for (node, range) in [(one, 0..half), (other, half..6_000_000)] {
        sim.disk(node).put(".", &content);
        sim.disk(node).bytes(".", &content)[range].fill(0);
    }
    let torrents = [(one, sim.add(one, &content)), (other, sim.add(other, &content))];
    sim.run_for(Duration::from_secs(1));
    sim.introduce(one, torrents[0].1, other);
    sim.run_until_finished(Duration::from_secs(120), &torrents);
    for (node, _) in torrents {
        assert_eq!(sim.disk(node).bytes(".", &content), content.bytes());
        let failed = sim.alerts(node).any(|alert| matches!(alert, AlertKind::PeerError { .. }));
        assert!(!failed);
    }
    assert_eq!(received.load(Ordering::Relaxed), 2 * SWITCHES.len());
}

#[test]
fn a_cipher_that_cannot_go_on_ends_the_connection() {
    struct Broken;

    #[hooks]
    impl CipherPlugin for Broken {
        fn decrypt(
            &mut self,
            _: &mut CipherContext<'_>,
            data: &mut [u8],
            _: &mut Decrypted,
        ) -> Result<(), CipherError> {
            if data.is_empty() { Ok(()) } else { Err(CipherError) }
        }
    }

    struct Breaks;

    #[hooks]
    impl PeerPlugin for Breaks {
        fn on_have_all(&mut self, cx: &mut PeerContext<'_>) -> Verdict {
            cx.this().bt().unwrap().switch_recv_crypto(Some(CipherBox::new(Broken)));
            Verdict::Continue
        }
    }

    let mut sim = Sim::new(71);
    let content = Content::random(71, 100_000, 65_536);
    let [seed, leech] = [sim.node(), sim.node()];
    sim.plug_on_peers(leech, "breaks", || PeerBox::new(Breaks));
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_for(Duration::from_secs(3));
    let errors = sim.alerts(leech).filter_map(|alert| match alert {
        AlertKind::PeerDisconnected { error, .. } => error.text(),
        _ => None,
    });
    assert_eq!(errors.collect::<Vec<_>>(), ["parse failed"]);
}
