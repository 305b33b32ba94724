//! Prints what libtorrent's peer-plugin tutorial prints: who connects, and which pieces they say they have.
//!
//! This is the plugin to read first. It has the shape of every plugin: one object for the session, which makes one for
//! each torrent, which makes one for each connection. A method that is left out costs nothing; one that is written is
//! called for each event of its name.
//!
//! ```text
//! cargo build --release -p pilotfish-peer-log
//! pilotfish download some.torrent --plugin target/release/libpilotfish_peer_log.so
//! ```
//!
//! The lines go to the session's log, and also to a file with `--plugin-set peer-log.path=peers.log`. Their wording is
//! the tutorial's, spelling included, so that the output of both can be compared.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::rc::Rc;

use pilotfish_plugin::*;

export_plugin!(session = open);

/// Makes the plugin's object for a session, or says in one line why it cannot.
fn open(_: &mut SessionContext<'_>, config: &Config<'_>) -> Result<SessionBox, String> {
    config.only(&["path"])?;
    let file = LogFile::open(config.get("path"))?;
    Ok(SessionBox::new(SessionLog { file }))
}

struct SessionLog {
    file: LogFile,
}

#[hooks]
impl SessionPlugin for SessionLog {
    fn new_torrent(
        &mut self,
        _: &mut SessionContext<'_>,
        _: TorrentHandle,
        _: Userdata,
    ) -> Option<TorrentBox> {
        Some(TorrentBox::new(TorrentLog { file: self.file.clone() }))
    }

    fn abort(&mut self, cx: &mut SessionContext<'_>) {
        // Nothing is left to finish: the session need not wait for this plugin.
        cx.session().done();
    }
}

struct TorrentLog {
    file: LogFile,
}

#[hooks]
impl TorrentPlugin for TorrentLog {
    fn new_connection(
        &mut self,
        cx: &mut TorrentContext<'_>,
        peer: PeerHandle,
        _: Attach,
    ) -> Option<PeerBox> {
        // A handle is only a number. The context opens it, as long as the connection is there.
        let connection = cx.peer(peer)?;
        let id = format!("[remote_ip]={}[local_ip]={}", connection.remote(), connection.local_endpoint());
        self.print(cx, &format!("new connection 1 {id}"));
        Some(PeerBox::new(PeerLog { id, file: self.file.clone() }))
    }

    fn on_add_peer(
        &mut self,
        cx: &mut TorrentContext<'_>,
        address: SocketAddr,
        source: PeerSource,
        _: PeerSource,
        _: AddPeerFlags,
        _: Refusal,
    ) {
        self.print(cx, &format!("[on_add_peer][{}]{address}", source.name()));
    }
}

impl TorrentLog {
    fn print(&self, cx: &TorrentContext<'_>, line: &str) {
        cx.log(Level::Info, line);
        self.file.write(line);
    }
}

/// One connection. `id` is its two ends, and begins each of its lines.
struct PeerLog {
    id: String,
    file: LogFile,
}

#[hooks]
impl PeerPlugin for PeerLog {
    fn add_handshake(&mut self, cx: &mut PeerContext<'_>, entry: Entry<'_>) {
        self.print(cx, &format!("add_handshak {entry}"));
    }

    fn on_have(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) -> Verdict {
        self.print(cx, &format!("on_have {piece}"));
        // We only look on: the next plugin and the engine get the message too.
        Verdict::Continue
    }

    fn on_dont_have(&mut self, cx: &mut PeerContext<'_>, piece: PieceIndex) -> Verdict {
        self.print(cx, &format!("on_dont_have {piece}"));
        Verdict::Continue
    }

    fn on_bitfield(&mut self, cx: &mut PeerContext<'_>, bitfield: Bitfield<'_>) -> Verdict {
        self.print(cx, &format!("on_bitfield {}/{}", bitfield.count(), bitfield.len()));
        Verdict::Continue
    }

    fn on_have_all(&mut self, cx: &mut PeerContext<'_>) -> Verdict {
        self.print(cx, "on_have_all");
        Verdict::Continue
    }

    fn on_have_none(&mut self, cx: &mut PeerContext<'_>) -> Verdict {
        self.print(cx, "on_have_none");
        Verdict::Continue
    }

    fn on_disconnect(&mut self, cx: &mut PeerContext<'_>, error: ErrorCode) {
        self.print(cx, &format!("on_disconnect {}", cx.describe(error)));
    }

    fn on_connected(&mut self, cx: &mut PeerContext<'_>) {
        self.print(cx, "on_connect");
    }
}

impl PeerLog {
    fn print(&self, cx: &PeerContext<'_>, event: &str) {
        let line = format!("{} {event}", self.id);
        cx.log(Level::Info, &line);
        self.file.write(&line);
    }
}

/// The file that gets each line too, if there is one. All objects of a session share it; they live on one thread,
/// so an `Rc` will do.
#[derive(Clone)]
struct LogFile(Option<Rc<File>>);

impl LogFile {
    fn open(path: Option<&str>) -> Result<Self, String> {
        let Some(path) = path else { return Ok(Self(None)) };
        let file = File::create(path).map_err(|error| format!("cannot write {path}: {error}"))?;
        Ok(Self(Some(Rc::new(file))))
    }

    fn write(&self, line: &str) {
        if let Some(file) = &self.0 {
            // When the disk is full, the log still has the line.
            let _ = file.as_ref().write_all(format!("{line}\n").as_bytes());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_a_line_for_each_write() {
        let path = std::env::temp_dir().join(format!("peer-log-{}.log", std::process::id()));
        let file = LogFile::open(path.to_str()).unwrap();
        file.write("one");
        file.clone().write("two");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_made_is_named() {
        let error = LogFile::open(Some("no-such-folder/peers.log")).err().unwrap();
        assert!(error.starts_with("cannot write no-such-folder/peers.log: "), "{error}");
    }

    #[test]
    fn without_a_file_nothing_is_copied() {
        LogFile::open(None).unwrap().write("nowhere");
    }
}
