//! What a plugin makes of our extended handshake, and what the other side gets to read.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish_plugin::{
    Attach, Dict, Entry, ErrorCode, Keep, PeerBox, PeerContext, PeerHandle, PeerPlugin, SessionBox,
    TorrentBox, TorrentContext, TorrentPlugin, Verdict, hooks,
};
use pilotfish_tests::sim::{Content, NodeId, Probe, Sim};

/// What was printed before the change and after it, and what came.
type Notes = Arc<Mutex<Vec<String>>>;

#[derive(Clone)]
struct Author(Notes);

impl Author {
    fn plug(sim: &mut Sim, node: NodeId) -> Notes {
        let notes = Notes::default();
        let author = Self(notes.clone());
        // A factory of torrent plugins alone.
        sim.plug(node, "author", move |_| {
            SessionBox::new(pilotfish_plugin::rt::factory(move |_, _, _| {
                Some(TorrentBox::new(author.clone()))
            }))
        });
        notes
    }

    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

#[hooks]
impl TorrentPlugin for Author {
    fn new_connection(&mut self, _: &mut TorrentContext<'_>, _: PeerHandle, _: Attach) -> Option<PeerBox> {
        Some(PeerBox::new(self.clone()))
    }
}

#[hooks]
impl PeerPlugin for Author {
    fn add_handshake(&mut self, _: &mut PeerContext<'_>, mut entry: Entry<'_>) {
        self.note(entry.to_string());
        assert!(entry.remove("reqq") && !entry.remove("reqq"));
        entry.insert_int("v", 7);
        entry.insert_bytes("v", b"author");
        assert!(entry.insert_bencoded("list", b"li1e1:ae"));
        assert!(!entry.insert_bencoded("list", b"li1e"));
        entry.dict("m").insert_int("x_author", 200);
        let encoded = entry.encode();
        let (dict, rest) = Dict::parse(&encoded).unwrap();
        assert!(rest.is_empty() && dict.str("v") == Some("author") && dict.int("reqq").is_none());
    }

    fn on_extension_handshake(&mut self, cx: &mut PeerContext<'_>, message: Dict<'_>) -> Keep {
        let names = message.dict("m").unwrap();
        let list: Vec<_> = message.list("list").unwrap().iter().map(|value| value.to_string()).collect();
        let ours = [names.int("lt_donthave"), names.int("x_author"), message.int("reqq")];
        self.note(format!("{:?} {list:?} {ours:?}", message.str("v")));
        // The engine reads it after the plugins.
        assert!(cx.this().peer_info().client().starts_with("Pilotfish"));
        Keep::Stay
    }

    fn on_disconnect(&mut self, cx: &mut PeerContext<'_>, _: ErrorCode) {
        assert_eq!(cx.this().peer_info().client(), "author");
    }
}

#[test]
fn the_extended_handshake_can_be_read_printed_overwritten_and_deleted_from() {
    let mut sim = Sim::new(95);
    let content = Content::random(95, 50_000, 16_384);
    let [seed, leech] = [sim.node(), sim.node()];
    let notes = [seed, leech].map(|node| Author::plug(&mut sim, node));
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(Duration::from_secs(10), &[(leech, torrent)]);
    for notes in notes {
        let notes = notes.lock().unwrap();
        let [printed, came] = &notes[..] else { panic!("{notes:?}") };
        let keys = ["'lt_donthave': 7", "'reqq': 8192", "'upload_only': 3", "'v': 'Pilotfish"];
        assert!(keys.iter().all(|key| printed.contains(key)), "{printed}");
        assert_eq!(came, r#"Some("author") ["1", "'a'"] [Some(7), Some(200), None]"#);
    }
}

/// Takes long messages as they grow, and says how much was there each time, and whether that was all.
struct Grower(Notes);

#[hooks]
impl PeerPlugin for Grower {
    fn wants_fragments(&mut self, _: &mut PeerContext<'_>) -> bool {
        true
    }

    fn add_handshake(&mut self, cx: &mut PeerContext<'_>, _: Entry<'_>) {
        assert_eq!(cx.this().register_extended("x_long"), Ok(10));
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, length: u32, message: u8, body: &[u8]) -> Verdict {
        let whole = body.len() == length as usize;
        assert_eq!((message, length, cx.this().bt().unwrap().packet_finished()), (10, LONG, whole));
        assert!(body.iter().all(|byte| *byte == 7));
        self.0.lock().unwrap().push(body.len().to_string());
        Verdict::Handled
    }
}

/// Bytes of a message that takes several packets.
const LONG: u32 = 200_000;

#[test]
fn who_wants_fragments_sees_a_long_message_grow_and_when_it_is_whole() {
    let mut sim = Sim::new(96);
    let content = Content::random(96, 50_000, 16_384);
    let [seed, leech] = [sim.node(), sim.node()];
    let notes = Notes::default();
    let kept = notes.clone();
    let grow = Probe::new().torrent("new_connection", move |cx| {
        let peer = cx.this().peers().pop().unwrap();
        cx.peer(peer).unwrap().add_extension(PeerBox::new(Grower(kept.clone())));
        false
    });
    grow.plug(&mut sim, seed);
    let send = Probe::new().peer("on_have_all", |cx| {
        assert!(cx.this().send_extended("x_long", &[7; LONG as usize]));
        // Too long for any peer.
        assert!(!cx.this().send_extended("x_long", &[7; 1 << 20]));
        false
    });
    send.plug(&mut sim, leech);
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(Duration::from_secs(10), &[(leech, torrent)]);
    let notes = notes.lock().unwrap();
    let lengths: Vec<u32> = notes.iter().map(|length| length.parse().unwrap()).collect();
    assert!(lengths.len() > 2 && lengths.is_sorted() && lengths.last() == Some(&LONG), "{lengths:?}");
    assert_eq!(lengths.iter().filter(|length| **length == LONG).count(), 1);
}
