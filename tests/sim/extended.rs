//! Plugins of two engines that talk to each other (BEP 10).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish_plugin::{Keep, PeerBox, PeerContext, PeerPlugin, RegisterError, Reserved, Verdict, hooks};
use pilotfish_tests::sim::{Content, Link, NodeId, Sim};

type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// Says a sentence in its first tick, and answers each sentence with one that is longer by half.
struct Talker {
    id: u8,
    first: Option<Vec<u8>>,
    heard: Heard,
}

const NAME: &str = "sim_talk";

#[hooks]
impl PeerPlugin for Talker {
    fn on_handshake(&mut self, cx: &mut PeerContext<'_>, _: Reserved) -> Keep {
        self.id = cx.this().register_extended(NAME).unwrap();
        assert_eq!(cx.this().register_extended(NAME), Ok(self.id));
        assert_eq!(cx.this().register_extended("lt_donthave"), Err(RegisterError::NameTaken));
        Keep::Stay
    }

    fn tick(&mut self, cx: &mut PeerContext<'_>) {
        if let Some(sentence) = self.first.take() {
            assert_eq!(cx.this().register_extended("sim_late"), Err(RegisterError::TooLate));
            assert!(cx.this().send_extended(NAME, &sentence));
            assert!(!cx.this().send_extended("sim_unknown", &sentence));
        }
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, length: u32, message: u8, body: &[u8]) -> Verdict {
        if message != self.id {
            return Verdict::Continue;
        }
        assert_eq!(length as usize, body.len());
        self.heard.lock().unwrap().push(body.to_vec());
        if body.len() < 200_000 {
            let answer = [body, &body[..body.len() / 2]].concat();
            assert!(cx.this().send_extended(NAME, &answer));
        }
        Verdict::Handled
    }
}

fn talk(sim: &mut Sim, node: NodeId, name: &str, first: Option<&[u8]>) -> Heard {
    let heard = Heard::default();
    let (first, ears) = (first.map(<[u8]>::to_vec), heard.clone());
    sim.plug_on_peers(node, name, move || {
        PeerBox::new(Talker { id: 0, first: first.clone(), heard: ears.clone() })
    });
    heard
}

#[test]
fn plugins_exchange_messages_while_blocks_flow() {
    let mut sim = Sim::new(60);
    sim.link = Link { bandwidth: 1_000_000, ..Link::default() };
    let content = Content::random(60, 5_000_000, 65_536);
    let [seed, leech] = [sim.node(), sim.node()];
    let asked = talk(&mut sim, seed, "seed's", None);
    let answered = talk(&mut sim, leech, "leech's", Some(&[7; 2000]));
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(Duration::from_secs(60), &[(leech, torrent)]);
    assert_eq!(sim.disk(leech).bytes(".", &content), content.bytes());

    let mut sentence = vec![7; 2000];
    let [asked, answered] = [asked, answered].map(|heard| heard.lock().unwrap().clone());
    let mut turns = asked.iter().zip(&answered);
    for (question, answer) in turns.by_ref() {
        assert_eq!(*question, sentence);
        sentence.extend_from_within(..sentence.len() / 2);
        assert_eq!(*answer, sentence);
        sentence.extend_from_within(..sentence.len() / 2);
    }
    assert!(asked.len() + answered.len() > 10, "{} and {} sentences", asked.len(), answered.len());
}

#[test]
fn a_name_belongs_to_the_plugin_that_took_it_first() {
    struct Second(Arc<Mutex<Option<RegisterError>>>);

    #[hooks]
    impl PeerPlugin for Second {
        fn on_handshake(&mut self, cx: &mut PeerContext<'_>, _: Reserved) -> Keep {
            *self.0.lock().unwrap() = cx.this().register_extended(NAME).err();
            Keep::Stay
        }
    }

    let mut sim = Sim::new(61);
    let content = Content::random(61, 100_000, 65_536);
    let [seed, leech] = [sim.node(), sim.node()];
    let answer = Arc::new(Mutex::new(None));
    let shared = answer.clone();
    talk(&mut sim, leech, "first", None);
    sim.plug_on_peers(leech, "second", move || PeerBox::new(Second(shared.clone())));
    sim.seed(seed, &content);
    let torrent = sim.add(leech, &content);
    sim.introduce(leech, torrent, seed);
    sim.run_until_finished(Duration::from_secs(60), &[(leech, torrent)]);
    assert_eq!(*answer.lock().unwrap(), Some(RegisterError::NameTaken));
}
