//! The lines of a torrent.

use std::net::SocketAddr;
use std::rc::Rc;

use pilotfish_plugin::{
    AddPeerFlags, Attach, PeerBox, PeerHandle, PeerSource, PieceIndex, PieceOrigin, Refusal, TorrentBox,
    TorrentContext, TorrentPlugin, TorrentState, Verdict, hooks,
};

use crate::line::{Answer, Args, Tracer};
use crate::peer::TracePeer;

/// Traces one torrent and its connections.
pub(crate) struct TraceTorrent {
    tracer: Rc<Tracer>,
    /// How many connections there have been, which is the number of the next.
    peers: u64,
}

#[hooks]
impl TorrentPlugin for TraceTorrent {
    fn new_connection(
        &mut self,
        cx: &mut TorrentContext<'_>,
        peer: PeerHandle,
        _: Attach,
    ) -> Option<PeerBox> {
        let connection = cx.peer(peer)?;
        let name = format!("peer{}", self.peers);
        self.peers += 1;
        let args = Args::none()
            .text("peer", &name)
            .text("remote", connection.remote())
            .text("type", connection.connection_type().name())
            .flag("outgoing", connection.is_outgoing());
        match self.line(cx, "new_connection", args) {
            Verdict::Continue => Some(PeerBox::new(TracePeer::new(name, Rc::clone(&self.tracer)))),
            Verdict::Handled => None,
        }
    }

    fn on_piece_pass(&mut self, cx: &mut TorrentContext<'_>, piece: PieceIndex, _: PieceOrigin) {
        self.line(cx, "on_piece_pass", Args::none().number("piece", piece))
    }

    fn on_piece_failed(&mut self, cx: &mut TorrentContext<'_>, piece: PieceIndex) {
        self.line(cx, "on_piece_failed", Args::none().number("piece", piece))
    }

    fn tick(&mut self, cx: &mut TorrentContext<'_>) {
        self.line(cx, "tick", Args::none())
    }

    fn on_resume(&mut self, cx: &mut TorrentContext<'_>) -> Verdict {
        self.line(cx, "on_resume", Args::none())
    }

    fn on_pause(&mut self, cx: &mut TorrentContext<'_>) -> Verdict {
        self.line(cx, "on_pause", Args::none())
    }

    fn on_files_checked(&mut self, cx: &mut TorrentContext<'_>) {
        self.line(cx, "on_files_checked", Args::none())
    }

    fn on_state(&mut self, cx: &mut TorrentContext<'_>, state: TorrentState) {
        self.line(cx, "on_state", Args::none().text("state", state.name()))
    }

    fn on_add_peer(
        &mut self,
        cx: &mut TorrentContext<'_>,
        address: SocketAddr,
        source: PeerSource,
        _: PeerSource,
        flags: AddPeerFlags,
        _: Refusal,
    ) {
        let args = Args::none()
            .text("remote", address)
            .number("source", source.0)
            .flag("first_time", flags.contains(AddPeerFlags::FIRST_TIME))
            .flag("filtered", flags.contains(AddPeerFlags::FILTERED));
        self.line(cx, "on_add_peer", args)
    }
}

impl TraceTorrent {
    /// The plugin, as a torrent takes it.
    pub(crate) fn boxed(tracer: &Rc<Tracer>) -> TorrentBox {
        TorrentBox::new(Self { tracer: Rc::clone(tracer), peers: 0 })
    }

    fn line<A: Answer>(&self, cx: &TorrentContext<'_>, hook: &str, args: Args) -> A {
        self.tracer.line(cx, "torrent", hook, args)
    }
}
