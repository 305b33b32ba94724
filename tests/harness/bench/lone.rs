//! One engine whose peers say what a benchmark has them say; the sockets take everything, and the disk never answers by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use pilotfish::command::{AddTorrent, Command, PluginSource, Ticket};
use pilotfish::engine::{Engine, EngineConfig, Input, Output};
use pilotfish::job::{DiskDone, DiskJob};
use pilotfish::metainfo::Metainfo;
use pilotfish::peer::Transport;
use pilotfish::settings::Settings;
use pilotfish::wire::{Handshake, Message, Reserved};
use pilotfish_plugin::{AlertCategory, PeerHandle};

/// One engine, and all the rest of its world.
pub struct Lone {
    engine: Engine,
    now: Instant,
    scratch: Vec<u8>,
}

impl Lone {
    /// An engine with these plugins, which posts no alerts to the program.
    pub fn new(plugins: impl IntoIterator<Item = PluginSource>) -> Self {
        let now = Instant::now();
        let settings = Settings { alert_mask: AlertCategory::NONE, ..Settings::default() };
        let config = EngineConfig {
            settings,
            seed: 1,
            unix_time: 1_700_000_000,
            dht_state: None,
            waker: Arc::new(|| {}),
        };
        let mut engine = Engine::new(config, now);
        for plugin in plugins {
            engine.add_plugin(plugin).unwrap();
        }
        Self { engine, now, scratch: vec![0; 64 << 10] }
    }

    /// Adds a torrent of which nothing is on disk.
    pub fn add(&mut self, metainfo: &Metainfo) {
        let add = Box::new(AddTorrent::new(metainfo.clone()));
        self.handle(Input::Command(Command::AddTorrent(Ticket(1), add)));
    }

    /// A peer calls, shakes hands, and has nothing.
    pub fn called_by(&mut self, metainfo: &Metainfo, number: u16) -> PeerHandle {
        let remote = SocketAddr::from(([10, 9, (number >> 8) as u8, number as u8], 6881));
        let local = SocketAddr::from(([10, 8, 0, 0], 6881));
        let peer = self.engine.accept(remote, local, Transport::Tcp, self.now).unwrap();
        let handshake = Handshake {
            reserved: Reserved([0, 0, 0, 0, 0, 0, 0, 0x04]),
            info_hash: metainfo.info_hashes().truncated(),
            peer_id: [1; 20],
        };
        let mut bytes = handshake.encode().to_vec();
        Message::HaveNone.encode(&mut bytes);
        self.say(peer, &bytes);
        peer
    }

    /// A peer sends these bytes.
    pub fn say(&mut self, peer: PeerHandle, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let buffers = self.engine.receive_buffers(peer, &mut self.scratch);
            let mut len = 0;
            for buffer in &mut buffers.unwrap() {
                let (part, rest) = bytes.split_at(buffer.len().min(bytes.len()));
                buffer[..part.len()].copy_from_slice(part);
                (bytes, len) = (rest, len + part.len());
            }
            self.engine.received(peer, len, &self.scratch, self.now);
            self.settle();
        }
    }

    fn handle(&mut self, input: Input) {
        self.engine.handle(input, self.now);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Disk(DiskJob::Open { storage, .. }) => {
                    self.engine
                        .handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(false) }), self.now);
                }
                Output::Transmit(peer) => self.write(peer),
                _ => {}
            }
        }
    }

    fn write(&mut self, peer: PeerHandle) {
        loop {
            let mut slices = Vec::new();
            self.engine.transmit(peer, &mut slices);
            let len = slices.iter().map(|slice| slice.len()).sum();
            if len == 0 {
                return;
            }
            self.engine.handle(Input::Written { peer, len }, self.now);
        }
    }
}
