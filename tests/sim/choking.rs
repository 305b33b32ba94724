//! Who is uploaded to, and what plugins have to say about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{Command, Ticket};
use pilotfish::engine::Input;
use pilotfish::settings::Settings;
use pilotfish::wire::Message;
use pilotfish_plugin::{
    NO_SLOT, PeerHandle, SessionBox, SessionContext, SessionPlugin, TorrentHandle, hooks,
};
use pilotfish_tests::sim::{Content, NodeId, Probe, Sim, talkative};

use crate::stranger::{FAST, Strangers};

/// Scores by address; everybody else is nothing to it.
struct Favours(BTreeMap<SocketAddr, i64>);

#[hooks]
impl SessionPlugin for Favours {
    fn unchoke_score(&mut self, cx: &mut SessionContext<'_>, peer: PeerHandle) -> i64 {
        let remote = cx.peer(peer).map(|peer| peer.remote());
        remote.and_then(|remote| self.0.get(&remote).copied()).unwrap_or_default()
    }
}

/// A seed with so many slots, one of them optimistic, and four leeches, which get nothing from each other.
struct Party {
    sim: Sim,
    seed: NodeId,
    /// The seed's own.
    torrent: TorrentHandle,
    leeches: Vec<(NodeId, TorrentHandle)>,
}

impl Party {
    fn new(number: u64, slots: u32, scores: &[&[(usize, i64)]]) -> Self {
        let mut sim = Sim::new(number);
        let content = Content::random(number, 4 << 20, 16 << 10);
        let settings = Settings {
            unchoke_slots_limit: slots,
            num_optimistic_unchoke_slots: 1,
            allowed_fast_set_size: 0,
            ..talkative()
        };
        sim.link.bandwidth = 10_000;
        let seed = sim.node_with(settings);
        let mute = Settings { unchoke_slots_limit: 0, ..talkative() };
        let nodes: Vec<_> = (0..4).map(|_| sim.node_with(mute.clone())).collect();
        for (number, scores) in scores.iter().enumerate() {
            let by_address =
                scores.iter().map(|(leech, score)| (sim.at(nodes[*leech]).address, *score)).collect();
            sim.plug(seed, &format!("favours-{number}"), move |_| SessionBox::new(Favours(by_address)));
        }
        let torrent = sim.seed(seed, &content);
        let leeches: Vec<_> = nodes.into_iter().map(|node| (node, sim.add(node, &content))).collect();
        Self { sim, seed, torrent, leeches }
    }

    /// The seed calls the leeches, and time passes; what each of them got, in bytes.
    fn run(&mut self, seconds: u64) -> Vec<u64> {
        let Self { sim, seed, torrent, leeches } = self;
        leeches.iter().for_each(|(leech, _)| sim.introduce(*seed, *torrent, *leech));
        sim.run_for(Duration::from_secs(seconds));
        leeches.iter().map(|(node, torrent)| sim.status(*node, *torrent).total_payload_download).collect()
    }
}

#[test]
fn the_peer_that_a_plugin_thinks_most_of_has_the_regular_slot() {
    let got = Party::new(300, 2, &[&[(3, 5), (2, 3)]]).run(180);
    let fair = got[0].max(got[1]).max(got[2]);
    assert!(got[3] > 2 * fair, "{got:?}");
}

#[test]
fn scores_of_several_plugins_are_added_up() {
    let got = Party::new(301, 2, &[&[(3, 5), (2, 4)], &[(2, 4)]]).run(180);
    let fair = got[0].max(got[1]).max(got[3]);
    assert!(got[2] > 2 * fair, "{got:?}");
}

#[test]
fn a_peer_that_one_plugin_gives_no_slot_stays_choked_whatever_others_think_of_it() {
    let got = Party::new(302, 8, &[&[(1, NO_SLOT)], &[(1, i64::MAX)]]).run(120);
    assert_eq!(got[1], 0);
    assert!([got[0], got[2], got[3]].iter().all(|got| *got > 0), "{got:?}");
}

/// Falls over when it is asked.
struct Undecided(Arc<Mutex<u32>>);

#[hooks]
impl SessionPlugin for Undecided {
    fn unchoke_score(&mut self, _: &mut SessionContext<'_>, _: PeerHandle) -> i64 {
        *self.0.lock().unwrap() += 1;
        panic!("too hard a question")
    }
}

#[test]
fn a_panic_over_a_score_costs_the_plugin_and_nobody_else() {
    let mut party = Party::new(303, 3, &[]);
    let asked = Arc::<Mutex<u32>>::default();
    let kept = asked.clone();
    party.sim.plug(party.seed, "undecided", move |_| SessionBox::new(Undecided(kept)));
    let got = party.run(120);
    assert!(got.iter().all(|got| *got > 0), "{got:?}");
    assert_eq!(*asked.lock().unwrap(), 1);
    let blamed = |alert: &&AlertKind| matches!(alert, AlertKind::PluginPanicked { hook, plugin, .. } if hook == "unchoke_score" && plugin == "undecided");
    assert_eq!(party.sim.alerts(party.seed).filter(blamed).count(), 1);
}

#[test]
fn a_slot_that_becomes_free_goes_to_the_next_in_a_moment() {
    let mut strangers = Strangers::of_seed(Content::random(305, 10_000, 16_384), Probe::new());
    let set = Command::Set(Ticket(9), "unchoke_slots_limit".into(), "1".into());
    strangers.alone.handle(Input::Command(set));
    let (first, second) = (strangers.meet(1, FAST), strangers.meet(2, FAST));
    for peer in [first, second] {
        strangers.tell(peer, &[Message::HaveNone, Message::Interested]);
    }
    let unchoked = |strangers: &Strangers, peer| strangers.alone.told(peer).contains(&Message::Unchoke);
    assert!(unchoked(&strangers, first) && !unchoked(&strangers, second));
    strangers.alone.hang_up(first);
    strangers.alone.run_for(Duration::from_millis(100));
    assert!(unchoked(&strangers, second));
}
