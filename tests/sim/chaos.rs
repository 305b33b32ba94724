//! Everything at once: whatever happens to a swarm, it ends well once things are quiet again.

use std::time::Duration;

use pilotfish::command::Command;
use pilotfish::settings::{Seconds, Settings};
use pilotfish_plugin::TorrentHandle;
use pilotfish_tests::sim::{Content, Link, NodeId, Sim, talkative};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

struct Chaos {
    sim: Sim,
    rng: StdRng,
    content: Content,
    torrents: Vec<(NodeId, TorrentHandle)>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut sim = Sim::new(seed);
        let rng = StdRng::seed_from_u64(sim.seed_number());
        sim.link = Link { bandwidth: 100_000, loss_ppm: 10_000, ..Link::default() };
        let content = Content::folder(seed, &[300_000, 1, 0, 400_000], 32_768);
        let settings = Settings {
            min_reconnect_time: Seconds(2),
            max_failcount: 255,
            connections_limit: 5,
            unchoke_slots_limit: 3,
            peer_timeout: Seconds(20),
            ..talkative()
        };
        let nodes: Vec<NodeId> = (0..8).map(|_| sim.node_with(settings.clone())).collect();
        let add = |node: &NodeId| {
            (*node, if *node == nodes[0] { sim.seed(*node, &content) } else { sim.add(*node, &content) })
        };
        let torrents = nodes.iter().map(add).collect();
        Self { sim, rng, content, torrents }
    }

    fn pick(&mut self) -> (NodeId, TorrentHandle) {
        self.torrents[self.rng.random_range(0..self.torrents.len())]
    }

    fn introduce_all(&mut self) {
        for (node, torrent) in self.torrents.clone() {
            for (other, _) in self.torrents.clone() {
                if node != other {
                    self.sim.introduce(node, torrent, other);
                }
            }
        }
    }

    fn meddle(&mut self) {
        let ((node, torrent), (other, _)) = (self.pick(), self.pick());
        let time = Duration::from_millis(self.rng.random_range(0..3_000));
        match self.rng.random_range(0..13) {
            0 => self.sim.command(node, Command::PauseTorrent(torrent)),
            1 | 2 => self.sim.command(node, Command::ResumeTorrent(torrent)),
            3 => self.sim.command(node, Command::PauseSession(true)),
            4 | 5 => self.sim.command(node, Command::PauseSession(false)),
            6 => self.sim.command(node, Command::Recheck(torrent)),
            7 => self.sim.reset(node, other),
            8 => self.sim.stall(node, time),
            9 => self.sim.disk(node).failing_writes = 1,
            10 => self.sim.partition(|id| u32::from(id == node || id == other)),
            11 => self.sim.heal(),
            _ => self.add_again(node, torrent),
        }
        self.sim.run_for(time / 5);
    }

    fn add_again(&mut self, node: NodeId, torrent: TorrentHandle) {
        let keep = node == self.torrents[0].0 || self.rng.random_bool(0.5);
        self.sim.command(node, Command::RemoveTorrent { torrent, delete_files: !keep });
        let again = (node, self.sim.add(node, &self.content));
        self.torrents.iter_mut().filter(|(id, _)| *id == node).for_each(|entry| *entry = again);
        let (other, _) = self.pick();
        if other != node {
            self.sim.introduce(node, again.1, other);
        }
    }

    fn calm_down(&mut self) {
        self.sim.heal();
        for (node, torrent) in self.torrents.clone() {
            self.sim.disk(node).failing_writes = 0;
            self.sim.command(node, Command::PauseSession(false));
            self.sim.command(node, Command::ResumeTorrent(torrent));
        }
    }
}

#[test]
fn a_swarm_that_everything_happens_to_ends_well() {
    for seed in 80..84 {
        let mut chaos = Chaos::new(seed);
        chaos.introduce_all();
        for _ in 0..60 {
            chaos.meddle();
        }
        chaos.calm_down();
        // What failed just before is only noticed now.
        chaos.sim.run_for(Duration::from_secs(5));
        chaos.calm_down();
        chaos.introduce_all();
        let Chaos { mut sim, content, torrents, .. } = chaos;
        sim.run_until_finished(Duration::from_secs(600), &torrents);
        for (node, _) in &torrents {
            sim.assert_complete(*node, &content);
            sim.command(*node, Command::Shutdown);
        }
        sim.run_for(Duration::from_secs(10));
        assert!(torrents.iter().all(|(node, _)| sim.at(*node).stopped), "{sim:?}");
        let blocks: usize = torrents.iter().map(|(node, _)| sim.at(*node).engine.blocks_in_use()).sum();
        assert_eq!((blocks, sim.open_connections()), (0, 0));
    }
}
