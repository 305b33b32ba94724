//! Sends and receives lines of text between peers.
//!
//! ```text
//! mkfifo chat
//! pilotfish download some.torrent --json --plugin target/release/libpilotfish_chat.so --plugin-set chat.file=chat
//! echo 'Hello, everyone' > chat
//! ```
//!
//! | setting | meaning |
//! |---|---|
//! | `say` | a line to say, once somebody is there who speaks `pf_chat` |
//! | `file` | a file or a FIFO: every line that is in it, and that is appended later, is said |
//!
//! A line travels as the payload of an extended message (BEP 10) of the plugin's own, `pf_chat`, as UTF-8 without a line
//! break. What is said goes to every peer that speaks it, and waits while there is none. What is received is written to
//! the log, and posted as an alert named `chat_line`, which `--json` shows: its `message` is `ADDRESS: TEXT`, its `payload`
//! the text. A connection to somebody who speaks it is kept when there is nothing left to transfer.
//!
//! Read `peer-log` first. What is to be learnt here: a thread of the plugin's own, which hands lines to the network thread
//! through a mailbox (`source.rs`); state that the objects of a session share (`room.rs`); an extended message of one's own,
//! and an alert of one's own (below).

mod room;
mod source;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use pilotfish_plugin::{
    AlertCategory, Attach, Config, Consent, CustomAlert, Dict, Entry, ErrorCode, Keep, Level, PeerBox,
    PeerContext, PeerHandle, PeerPlugin, Receive, SessionBox, SessionContext, SessionPlugin, TorrentBox,
    TorrentContext, TorrentHandle, TorrentPlugin, Userdata, Verdict, export_plugin, hooks,
};

use crate::room::Room;
use crate::source::Source;

/// The extended message's name (BEP 10).
const NAME: &str = "pf_chat";
/// No line is longer, in bytes.
const LONGEST_LINE: usize = 1024;
/// So many lines may be on their way from the thread.
const MAILBOX: usize = 64;
/// The plugin's number for its alert.
const LINE_ALERT: u32 = 1;

export_plugin!(session = open);

fn open(cx: &mut SessionContext<'_>, config: &Config<'_>) -> Result<SessionBox, String> {
    config.only(&["say", "file"])?;
    let (mailbox, remote) = cx.mailbox(MAILBOX);
    let source = Source::start(config.get("say"), config.get("file").map(PathBuf::from), remote)?;
    Ok(SessionBox::with_mailbox(ChatSession { room: Rc::default(), _source: source }, mailbox))
}

/// What the thread tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A line to say.
    Line(String),
    /// The thread cannot go on.
    Failed(String),
}

/// The room is shared by all objects of a session: they live on one thread.
type Shared = Rc<RefCell<Room>>;

struct ChatSession {
    room: Shared,
    /// Dropped with the plugin, which ends the thread.
    _source: Source,
}

#[hooks]
impl SessionPlugin for ChatSession {
    fn new_torrent(
        &mut self,
        _: &mut SessionContext<'_>,
        _: TorrentHandle,
        _: Userdata,
    ) -> Option<TorrentBox> {
        Some(TorrentBox::new(ChatTorrent { room: self.room.clone() }))
    }

    fn abort(&mut self, cx: &mut SessionContext<'_>) {
        cx.session().done();
    }
}

impl Receive<Told> for ChatSession {
    fn on_message(&mut self, cx: &mut SessionContext<'_>, message: Told) {
        match message {
            Told::Failed(why) => cx.log(Level::Error, &why),
            Told::Line(line) => {
                let unsaid =
                    self.room.borrow_mut().say(&line, |peer| cx.peer(peer).map(|peer| send(&peer, &line)));
                if let Some(why) = unsaid {
                    cx.log(Level::Warn, why);
                }
            }
        }
    }
}

/// Whether a peer gets a line. It does not while too much waits to be sent to it.
fn send(peer: &pilotfish_plugin::Peer<'_>, line: &str) -> bool {
    peer.send_extended(NAME, line.as_bytes())
}

struct ChatTorrent {
    room: Shared,
}

#[hooks]
impl TorrentPlugin for ChatTorrent {
    fn new_connection(&mut self, _: &mut TorrentContext<'_>, _: PeerHandle, _: Attach) -> Option<PeerBox> {
        Some(PeerBox::new(ChatPeer { room: self.room.clone(), id: None }))
    }
}

struct ChatPeer {
    room: Shared,
    /// Our number for the message.
    id: Option<u8>,
}

#[hooks]
impl PeerPlugin for ChatPeer {
    fn type_name(&mut self, _: &mut PeerContext<'_>) -> &'static str {
        "chat"
    }

    fn add_handshake(&mut self, cx: &mut PeerContext<'_>, _: Entry<'_>) {
        match cx.this().register_extended(NAME) {
            Ok(id) => self.id = Some(id),
            Err(error) => cx.log(Level::Error, &format!("cannot announce {NAME}: {error:?}")),
        }
    }

    fn on_extension_handshake(&mut self, cx: &mut PeerContext<'_>, message: Dict<'_>) -> Keep {
        // Peers may send it more than once: what a later one does not name stays as it is, and 0 takes a name back.
        match message.dict("m").and_then(|names| names.int(NAME)) {
            None => {}
            Some(0) => self.room.borrow_mut().leave(cx.handle()),
            Some(_) => {
                self.room.borrow_mut().enter(cx.handle(), |line| send(&cx.this(), line));
            }
        }
        Keep::Stay
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, _: u32, message: u8, body: &[u8]) -> Verdict {
        if Some(message) != self.id {
            return Verdict::Continue;
        }
        if let Some(line) = room::readable(body) {
            hear(cx, &line);
        }
        Verdict::Handled
    }

    fn can_disconnect(&mut self, cx: &mut PeerContext<'_>, error: ErrorCode) -> Consent {
        // There is nothing left to transfer, but there may be something left to say.
        let idle = [
            ErrorCode::TORRENT_FINISHED,
            ErrorCode::UPLOAD_UPLOAD_CONNECTION,
            ErrorCode::UNINTERESTING_UPLOAD_PEER,
        ];
        if idle.contains(&error) && self.room.borrow().has(cx.handle()) {
            return Consent::Refuse;
        }
        Consent::Allow
    }

    fn on_disconnect(&mut self, cx: &mut PeerContext<'_>, _: ErrorCode) {
        self.room.borrow_mut().leave(cx.handle());
    }
}

/// A peer said something.
fn hear(cx: &PeerContext<'_>, line: &str) {
    let message = format!("{}: {line}", cx.this().remote());
    cx.log(Level::Info, &message);
    cx.session().post_alert(&CustomAlert {
        kind: LINE_ALERT,
        what: "chat_line",
        category: AlertCategory::PEER,
        message: &message,
        payload: line.as_bytes(),
        torrent: Some(cx.this_torrent().handle()),
        peer: Some(cx.handle()),
    });
}
