//! Ciphers that plugins switch on in mid-connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish_plugin::{
    CipherBox, CipherContext, CipherError, CipherPlugin, Decrypted, Keep, PeerBox, PeerContext, PeerPlugin,
    Prefix, Reserved, Verdict, hooks,
};
use pilotfish_tests::sim::{Content, Keystream, Link, NodeId, Sim, stream_cipher};

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

const NAME: &str = "sim_cipher";

/// The cipher of each switch, by its number. There are no switches behind that for which there is nothing.
type Ciphers = dyn Fn(usize) -> Option<Option<CipherBox>> + Send + Sync;

/// Switches ciphers once per second, each announced by a message under the one before.
struct Switcher {
    id: u8,
    ciphers: Arc<Ciphers>,
    sent: usize,
    heard: usize,
    received: Arc<AtomicUsize>,
}

/// Has a node switch ciphers on each connection; how many messages have come behind a switch.
pub(crate) fn switch_ciphers(
    sim: &mut Sim,
    node: NodeId,
    ciphers: impl Fn(usize) -> Option<Option<CipherBox>> + Send + Sync + 'static,
) -> Arc<AtomicUsize> {
    let (ciphers, received): (Arc<Ciphers>, _) = (Arc::new(ciphers), Arc::new(AtomicUsize::new(0)));
    let count = received.clone();
    sim.plug_on_peers(node, "switcher", move || {
        let (ciphers, received) = (ciphers.clone(), count.clone());
        PeerBox::new(Switcher { id: 0, ciphers, sent: 0, heard: 0, received })
    });
    received
}

#[hooks]
impl PeerPlugin for Switcher {
    fn on_handshake(&mut self, cx: &mut PeerContext<'_>, _: Reserved) -> Keep {
        self.id = cx.this().register_extended(NAME).unwrap();
        Keep::Stay
    }

    fn tick(&mut self, cx: &mut PeerContext<'_>) {
        let Some(next) = (self.ciphers)(self.sent) else { return };
        if cx.this().send_extended(NAME, b"switch") {
            self.sent += 1;
            cx.this().bt().unwrap().switch_send_crypto(next);
            // This one is behind the switch already, although the switch is only made after the hook.
            assert!(cx.this().send_extended(NAME, b"behind"));
        }
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, _: u32, message: u8, body: &[u8]) -> Verdict {
        if message != self.id {
            return Verdict::Continue;
        }
        if body == b"switch" {
            cx.this().bt().unwrap().switch_recv_crypto((self.ciphers)(self.heard).unwrap());
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
    let packets = || CipherBox::new(PacketCipher::default());
    let received = [one, other].map(|node| {
        switch_ciphers(&mut sim, node, move |number| match number {
            0 | 1 | 6 => Some(Some(stream_cipher())),
            2 | 3 | 5 => Some(Some(packets())),
            4 => Some(None),
            _ => None,
        })
    });
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
        sim.assert_complete(node, &content);
        let failed = sim.alerts(node).any(|alert| matches!(alert, AlertKind::PeerError { .. }));
        assert!(!failed);
    }
    assert_eq!(received.map(|received| received.load(Ordering::Relaxed)), [7; 2]);
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
