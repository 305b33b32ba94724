//! What a plugin makes of our extended handshake, and what the other side gets to read.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish_plugin::{
    Attach, Dict, Entry, ErrorCode, Keep, PeerBox, PeerContext, PeerHandle, PeerPlugin, SessionBox,
    TorrentBox, TorrentContext, TorrentPlugin, hooks,
};
use pilotfish_tests::sim::{Content, NodeId, Sim};

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
