//! How a run ends: everybody calms down, every torrent becomes complete, and nothing is left of the session.

use super::*;

impl World {
    /// The plugins do nothing any more, the disk works, and honest seeds come: every torrent becomes complete.
    pub(super) fn calm_down(&mut self) {
        self.shared.calm.store(true, Ordering::Relaxed);
        self.rested = true;
        (self.disk.failing_writes, self.disk.failing_reads) = (0, 0);
        self.disk.lies.clear();
        // What was asked for before is over.
        self.pass(Duration::from_secs(25));
        for (name, value, _) in Settings::default().iter() {
            let ticket = Ticket(self.number());
            self.command(Command::Set(ticket, name.to_owned(), value));
        }
        self.command(Command::PauseSession(false));
        let recheck = self.rng.random_bool(0.3) || self.shared.deleted.load(Ordering::Relaxed);
        for content in contents() {
            let torrent = self.wanted(content);
            if recheck {
                self.command(Command::Recheck(torrent));
            }
        }
        for (number, content) in contents().iter().enumerate() {
            self.complete(content, number as u8);
        }
    }

    /// The torrent is there, goes on, and wants every piece.
    fn wanted(&mut self, content: &Content) -> TorrentHandle {
        self.torrents.clear();
        self.add(content);
        let torrent = *self.torrents.last().expect("the torrent is added");
        self.command(Command::ResumeTorrent(torrent));
        for piece in content.layout().geometry().pieces() {
            let piece = as_piece(piece.get());
            self.command(Command::SetPiecePriority { torrent, piece, priority: 4 });
        }
        torrent
    }

    fn complete(&mut self, content: &Content, number: u8) {
        let torrent = self.wanted(content);
        let end = self.now + CALM;
        let mut visitors = 0;
        loop {
            let ticket = Ticket(self.number());
            self.command(Command::Status(ticket, torrent));
            let status = self.status.take().expect("the torrent is there");
            if status.num_pieces == status.total_pieces {
                break;
            }
            assert!(self.now < end, "not complete after {visitors} honest seeds: {status:#?}");
            if status.paused {
                self.command(Command::ResumeTorrent(torrent));
            }
            let is_ours = |link: &Link| {
                link.remote.as_ref().is_some_and(|remote| remote.serves(content) && remote.is_honest())
            };
            // One of those who came in the chaos may have been told nonsense by a plugin, or be encrypted.
            if visitors == 0 || !self.links.values().any(is_ours) {
                visitors += 1;
                let address = SocketAddr::from(([10, 77, number, visitors], 6881));
                let seed = Remote::honest(content, &mut self.rng);
                self.accept(address, seed);
            }
            let peers: Vec<u64> = self.links.keys().copied().collect();
            for peer in peers.into_iter().map(PeerHandle::from_raw) {
                self.drain_some(peer);
                self.deliver_from(peer);
            }
            self.pass(Duration::from_millis(100));
        }
        if !self.shared.deleted.load(Ordering::Relaxed) {
            assert!(self.disk.bytes(".", content) == content.bytes(), "the data is wrong");
        }
    }

    /// The session ends: nothing is left of it.
    pub(super) fn end(mut self) {
        self.storms = if self.rng.random_bool(0.3) { 0.3 } else { 0.0 };
        self.command(Command::Shutdown);
        for _ in 0..600 {
            self.pass(Duration::from_millis(100));
        }
        assert!(self.stopped, "the session does not end: {:?}", self.engine);
        assert!(self.links.is_empty(), "{} connections were not closed", self.links.len());
        assert!(self.visits.is_empty(), "the disk has something to do after the end");
        let live = self.shared.live.load(Ordering::Relaxed);
        assert_eq!(live, 0, "plugin objects live on");
        assert_eq!(self.engine.blocks_in_use(), 0, "blocks are in use after the end");
    }
}
