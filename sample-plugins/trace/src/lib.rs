//! Writes every callback of every trait as one JSON line, in the format of the tracer for libtorrent itself: the traces
//! of both clients in the same scenario can be held against each other.
//!
//! ```text
//! {"seq":7,"who":"peer0","hook":"on_have","args":{"piece":3}}
//! ```
//!
//! `who` is `session`, `torrent` or `peerN`; a `hook` has libtorrent's name. What this interface has beyond libtorrent's
//! (`type_name`, `alert_mask`, `drain`, `on_removed`, …) writes no line.
//!
//! The plugin can also misbehave on demand, and drive its session a little. Its settings, given as
//! `--plugin-set trace.KEY=VALUE`:
//!
//! | setting | meaning |
//! |---|---|
//! | `path` | the file to write; required, and emptied first |
//! | `veto` | comma-separated hooks that answer the opposite of their default |
//! | `throw` | comma-separated hooks that panic, after their line was written |
//! | `handle` | `true`: each line of a peer also has the answers of its handle |
//! | `unknown` | a `.torrent` file that `on_unknown_torrent` offers, if it is vetoed |
//! | `pause_at`, `resume_at` | milliseconds after the start: pauses, resumes all torrents |
//! | `add_at` | milliseconds after the start: attaches the torrent plugin only then; nothing is written of the session |
//!
//! Read `peer-log` first. What is to be learnt here: settings that are checked (`options.rs`), state that all objects
//! share (`line.rs`), a thread of the plugin's own (`schedule.rs`), and every hook once (`torrent.rs`, `peer.rs`, and
//! below).

mod line;
mod options;
mod peer;
mod schedule;
mod torrent;

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use pilotfish_plugin::{
    AddTorrentParams, Alert, Config, Dict, Entry, Features, InfoHashes, PeerHandle, Receive, SessionBox,
    SessionContext, SessionPlugin, TorrentBox, TorrentHandle, Userdata, Verdict, export_plugin, hooks,
};

use crate::line::{Args, Tracer};
use crate::options::Options;
use crate::schedule::{Command, Schedule};
use crate::torrent::TraceTorrent;

export_plugin!(session = open);

fn open(cx: &mut SessionContext<'_>, config: &Config<'_>) -> Result<SessionBox, String> {
    let options = Options::read(config)?;
    let unknown = options.unknown.as_deref().map(read_file).transpose()?;
    let tracer = Rc::new(Tracer::create(&options)?);
    let (mailbox, remote) = cx.mailbox(options.schedule.len());
    let late = options.attaches_late();
    let _schedule = Schedule::start(options.schedule, move |command| remote.post(command).is_ok())?;
    Ok(if late {
        SessionBox::with_mailbox(LateSession { tracer, _schedule }, mailbox)
    } else {
        SessionBox::with_mailbox(TraceSession { tracer, unknown, _schedule }, mailbox)
    })
}

fn read_file(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))
}

/// Traces the session and, from their first moment, its torrents.
struct TraceSession {
    tracer: Rc<Tracer>,
    /// The `.torrent` file for strangers who ask for what is not there.
    unknown: Option<Vec<u8>>,
    _schedule: Schedule,
}

#[hooks]
impl SessionPlugin for TraceSession {
    fn implemented_features(&mut self, cx: &mut SessionContext<'_>, derived: Features) -> Features {
        self.note(cx, "implemented_features", Args::none());
        derived
    }

    fn new_torrent(
        &mut self,
        cx: &mut SessionContext<'_>,
        torrent: TorrentHandle,
        _: Userdata,
    ) -> Option<TorrentBox> {
        let valid = cx.torrent(torrent).is_some();
        self.note(cx, "new_torrent", Args::none().flag("valid", valid));
        Some(TraceTorrent::boxed(&self.tracer))
    }

    fn added(&mut self, cx: &mut SessionContext<'_>) {
        self.note(cx, "added", Args::none());
    }

    fn abort(&mut self, cx: &mut SessionContext<'_>) {
        self.note(cx, "abort", Args::none());
        cx.session().done();
    }

    fn on_dht_request(
        &mut self,
        cx: &mut SessionContext<'_>,
        query: &str,
        source: SocketAddr,
        message: Dict<'_>,
        mut response: Entry<'_>,
    ) -> Verdict {
        let args = Args::none().text("query", query).text("from", source).text("message", message);
        let verdict = self.tracer.line(cx, "session", "on_dht_request", args);
        if verdict == Verdict::Handled {
            response.dict("r").insert_bytes("trace", "plugin");
        }
        verdict
    }

    fn on_alert(&mut self, cx: &mut SessionContext<'_>, alert: Alert<'_>) {
        self.note(cx, "on_alert", Args::none().text("what", alert.what()));
    }

    fn on_unknown_torrent(
        &mut self,
        cx: &mut SessionContext<'_>,
        info_hashes: InfoHashes,
        _: PeerHandle,
        mut params: AddTorrentParams<'_>,
    ) -> Verdict {
        let args = Args::none().text("info_hash", info_hashes);
        let verdict = self.tracer.line(cx, "session", "on_unknown_torrent", args);
        if let (Verdict::Handled, Some(file)) = (verdict, &self.unknown) {
            params.torrent(file);
        }
        verdict
    }

    fn on_tick(&mut self, cx: &mut SessionContext<'_>) {
        self.note(cx, "on_tick", Args::none());
    }

    fn get_unchoke_priority(&mut self, cx: &mut SessionContext<'_>, peer: PeerHandle) -> u64 {
        const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let remote = cx.peer(peer).map_or(NOWHERE, |peer| peer.remote());
        self.note(cx, "get_unchoke_priority", Args::none().text("remote", remote));
        u64::MAX
    }

    fn save_state(&mut self, cx: &mut SessionContext<'_>, mut state: Entry<'_>) {
        self.note(cx, "save_state", Args::none());
        state.insert_bytes("trace", "1");
    }

    fn load_state(&mut self, cx: &mut SessionContext<'_>, state: Dict<'_>) {
        self.note(cx, "load_state", Args::none().number("entries", state.iter().count()));
    }
}

impl TraceSession {
    /// The line of a hook whose answer is not to be vetoed.
    fn note(&self, cx: &SessionContext<'_>, hook: &str, args: Args) {
        self.tracer.line(cx, "session", hook, args)
    }
}

impl Receive<Command> for TraceSession {
    fn on_message(&mut self, cx: &mut SessionContext<'_>, command: Command) {
        obey(cx, command, &self.tracer);
    }
}

/// Leaves the session alone, and attaches to its torrents while they run.
struct LateSession {
    tracer: Rc<Tracer>,
    _schedule: Schedule,
}

#[hooks]
impl SessionPlugin for LateSession {
    fn abort(&mut self, cx: &mut SessionContext<'_>) {
        cx.session().done();
    }
}

impl Receive<Command> for LateSession {
    fn on_message(&mut self, cx: &mut SessionContext<'_>, command: Command) {
        obey(cx, command, &self.tracer);
    }
}

/// Carries a command out, on all torrents of the session.
fn obey(cx: &SessionContext<'_>, command: Command, tracer: &Rc<Tracer>) {
    for torrent in cx.session().torrents().into_iter().filter_map(|handle| cx.torrent(handle)) {
        match command {
            Command::Pause => torrent.pause(),
            Command::Resume => torrent.resume(),
            Command::Attach => torrent.add_extension(TraceTorrent::boxed(tracer)),
        }
    }
}
