//! The lines of a connection.

use std::rc::Rc;

use pilotfish_plugin::{
    Bitfield, Consent, Dict, Entry, ErrorCode, Keep, PeerContext, PeerFlags, PeerPlugin, PeerRequest,
    PieceIndex, Request, Reserved, Verdict, hooks,
};

use crate::line::{Answer, Args, Tracer};

/// The questions to a handle, by the names that its answers have in a line.
const HANDLE: [(&str, PeerFlags); 10] = [
    ("h_is_seed", PeerFlags::SEED),
    ("h_is_interesting", PeerFlags::INTERESTING),
    ("h_is_choked", PeerFlags::CHOKED),
    ("h_has_peer_choked", PeerFlags::PEER_CHOKED),
    ("h_is_peer_interested", PeerFlags::PEER_INTERESTED),
    ("h_is_connecting", PeerFlags::CONNECTING),
    ("h_is_outgoing", PeerFlags::OUTGOING),
    ("h_in_handshake", PeerFlags::IN_HANDSHAKE),
    ("h_has_metadata", PeerFlags::HAS_METADATA),
    ("h_is_disconnecting", PeerFlags::DISCONNECTING),
];

/// Traces one connection.
pub(crate) struct TracePeer {
    name: String,
    tracer: Rc<Tracer>,
}

#[hooks]
impl PeerPlugin for TracePeer {
    fn type_name(&mut self, _: &mut PeerContext<'_>) -> &'static str {
        "trace"
    }

    fn add_handshake(&mut self, cx: &mut PeerContext<'_>, entry: Entry<'_>) {
        self.line(cx, "add_handshake", Args::none().text("entry", entry))
    }

    fn on_disconnect(&mut self, cx: &mut PeerContext<'_>, error: ErrorCode) {
        let args = Args::none().text("error", cx.describe(error)).number("code", error.value);
        self.bare_line(cx, "on_disconnect", args)
    }

    fn on_connected(&mut self, cx: &mut PeerContext<'_>) {
        self.line(cx, "on_connected", Args::none())
    }

    fn on_handshake(&mut self, cx: &mut PeerContext<'_>, reserved: Reserved) -> Keep {
        let hex: String = reserved.0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.line(cx, "on_handshake", Args::none().text("reserved", hex))
    }

    fn on_extension_handshake(&mut self, cx: &mut PeerContext<'_>, message: Dict<'_>) -> Keep {
        self.line(cx, "on_extension_handshake", Args::none().text("message", message))
    }

    fn on_choke(&mut self, cx: &mut PeerContext<'_>) -> Verdict {
        self.line(cx, "on_choke", Args::none())
    }

    fn on_unchoke(&mut self, cx: &mut PeerContext<'_>) -> Verdict {
        self.line(cx, "on_unchoke", Args::none())
    }

    fn on_interested(&mut self, cx: &mut PeerContext<'_>) -> Verdict {
        self.line(cx, "on_interested", Args::none())
    }

    fn on_not_interested(&mut self, cx: &mut PeerContext<'_>) -> Verdict {
        self.line(cx, "on_not_interested", Args::none())
    }

    fn on_have(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) -> Verdict {
        self.line(cx, "on_have", Args::none().number("piece", piece))
    }

    fn on_dont_have(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) -> Verdict {
        self.line(cx, "on_dont_have", Args::none().number("piece", piece))
    }

    fn on_bitfield(&mut self, cx: &mut PeerContext<'_>, bitfield: Bitfield<'_>) -> Verdict {
        let args = Args::none().number("count", bitfield.count()).number("size", bitfield.len());
        self.line(cx, "on_bitfield", args)
    }

    fn on_have_all(&mut self, cx: &mut PeerContext<'_>) -> Verdict {
        self.line(cx, "on_have_all", Args::none())
    }

    fn on_have_none(&mut self, cx: &mut PeerContext<'_>) -> Verdict {
        self.line(cx, "on_have_none", Args::none())
    }

    fn on_allowed_fast(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) -> Verdict {
        self.line(cx, "on_allowed_fast", Args::none().number("piece", piece))
    }

    fn on_request(&mut self, cx: &mut PeerContext<'_>, request: PeerRequest) -> Verdict {
        self.line(cx, "on_request", block(request))
    }

    fn on_piece(&mut self, cx: &mut PeerContext<'_>, piece: PeerRequest, data: &[u8]) -> Verdict {
        self.line(cx, "on_piece", block(piece).number("bytes", data.len()))
    }

    fn on_cancel(&mut self, cx: &mut PeerContext<'_>, request: PeerRequest) -> Verdict {
        self.line(cx, "on_cancel", block(request))
    }

    fn on_reject(&mut self, cx: &mut PeerContext<'_>, request: PeerRequest) -> Verdict {
        self.line(cx, "on_reject", block(request))
    }

    fn on_suggest(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) -> Verdict {
        self.line(cx, "on_suggest", Args::none().number("piece", piece))
    }

    fn sent_have_all(&mut self, cx: &mut PeerContext<'_>) {
        self.line(cx, "sent_have_all", Args::none())
    }

    fn sent_have_none(&mut self, cx: &mut PeerContext<'_>) {
        self.line(cx, "sent_have_none", Args::none())
    }

    fn sent_reject_request(&mut self, cx: &mut PeerContext<'_>, request: PeerRequest) {
        self.line(cx, "sent_reject_request", block(request))
    }

    fn sent_allow_fast(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) {
        self.line(cx, "sent_allow_fast", Args::none().number("piece", piece))
    }

    fn sent_suggest(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) {
        self.line(cx, "sent_suggest", Args::none().number("piece", piece))
    }

    fn sent_cancel(&mut self, cx: &mut PeerContext<'_>, request: PeerRequest) {
        self.line(cx, "sent_cancel", block(request))
    }

    fn sent_request(&mut self, cx: &mut PeerContext<'_>, request: PeerRequest) {
        self.line(cx, "sent_request", block(request))
    }

    fn sent_choke(&mut self, cx: &mut PeerContext<'_>) {
        self.line(cx, "sent_choke", Args::none())
    }

    fn sent_unchoke(&mut self, cx: &mut PeerContext<'_>) {
        self.line(cx, "sent_unchoke", Args::none())
    }

    fn sent_interested(&mut self, cx: &mut PeerContext<'_>) {
        self.line(cx, "sent_interested", Args::none())
    }

    fn sent_not_interested(&mut self, cx: &mut PeerContext<'_>) {
        self.line(cx, "sent_not_interested", Args::none())
    }

    fn sent_have(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) {
        self.line(cx, "sent_have", Args::none().number("piece", piece))
    }

    fn sent_piece(&mut self, cx: &mut PeerContext<'_>, request: PeerRequest) {
        self.line(cx, "sent_piece", block(request))
    }

    fn sent_payload(&mut self, cx: &mut PeerContext<'_>, bytes: u32) {
        self.line(cx, "sent_payload", Args::none().number("bytes", bytes))
    }

    fn can_disconnect(&mut self, cx: &mut PeerContext<'_>, error: ErrorCode) -> Consent {
        self.bare_line(cx, "can_disconnect", Args::none().text("error", cx.describe(error)))
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, length: u32, message: u8, body: &[u8]) -> Verdict {
        self.line(cx, "on_extended", extended(length, message, body))
    }

    fn on_unknown_message(
        &mut self,
        cx: &mut PeerContext<'_>,
        length: u32,
        message: u8,
        body: &[u8],
    ) -> Verdict {
        self.line(cx, "on_unknown_message", extended(length, message, body))
    }

    fn on_piece_pass(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) {
        self.bare_line(cx, "on_piece_pass", Args::none().number("piece", piece))
    }

    fn on_piece_failed(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) {
        self.bare_line(cx, "on_piece_failed", Args::none().number("piece", piece))
    }

    fn tick(&mut self, cx: &mut PeerContext<'_>) {
        self.line(cx, "tick", Args::none())
    }

    fn write_request(&mut self, cx: &mut PeerContext<'_>, request: PeerRequest) -> Request {
        self.line(cx, "write_request", block(request))
    }

    fn wants_fragments(&mut self, _: &mut PeerContext<'_>) -> bool {
        // libtorrent always calls for each part that arrives: that is what the trace is compared with.
        true
    }
}

impl TracePeer {
    /// Traces the connection under this name.
    pub(crate) fn new(name: String, tracer: Rc<Tracer>) -> Self {
        Self { name, tracer }
    }

    fn bare_line<A: Answer>(&self, cx: &PeerContext<'_>, hook: &str, args: Args) -> A {
        self.tracer.line(cx, &self.name, hook, args)
    }

    /// A line that has the handle's answers too, if they are wanted and the connection has not failed. Its answer is the
    /// hook's own kind, which the compiler knows from the hook's signature.
    fn line<A: Answer>(&self, cx: &PeerContext<'_>, hook: &str, mut args: Args) -> A {
        if self.tracer.wants_handle() {
            let answers = cx.this().flags();
            if !answers.contains(PeerFlags::FAILED) {
                args =
                    HANDLE.iter().fold(args, |args, (name, flag)| args.flag(name, answers.contains(*flag)));
            }
        }
        self.bare_line(cx, hook, args)
    }
}

fn block(request: PeerRequest) -> Args {
    Args::none()
        .number("piece", request.piece)
        .number("start", request.start)
        .number("length", request.length)
}

fn extended(length: u32, message: u8, body: &[u8]) -> Args {
    Args::none().number("length", length).number("msg", message).number("body", body.len())
}
