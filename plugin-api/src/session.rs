//! The session, as a hook sees it.
#![allow(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::answer::HookStatus;
use crate::ban::Ban;
use crate::context::Scope;
use crate::entry::{Entry, EntryId, EntryRaw};
use crate::torrent::words;
use crate::value::{AlertCategory, InfoHashes, PeerHandle, TorrentHandle, Userdata};

/// The session, for as long as the context stays borrowed (libtorrent's `session_handle`). What a method changes takes
/// effect when the hook has returned.
pub struct Session<'a> {
    pub(crate) scope: &'a Scope,
}

macro_rules! ask_session {
    ($self:ident . $f:ident ( $( $arg:expr ),* )) => {
        match $self.scope.api.session().$f() {
            // SAFETY: the scope came from the host with its context, which is borrowed; references live through the call.
            Some(f) => unsafe { f($self.scope.host, $( $arg ),*) },
            None => HookStatus::GONE,
        }
    };
}

impl Session<'_> {
    /// All torrents.
    pub fn torrents(&self) -> Vec<TorrentHandle> {
        let bytes = self.scope.collect(|s| ask_session!(self.torrents(s))).unwrap_or_default();
        words(&bytes).map(TorrentHandle::from_raw).collect()
    }

    /// The torrent with one of these hashes.
    pub fn find_torrent(&self, hashes: &InfoHashes) -> Option<TorrentHandle> {
        let mut torrent = TorrentHandle::INVALID;
        (ask_session!(self.find_torrent(hashes, &mut torrent)) == HookStatus::HANDLED).then_some(torrent)
    }

    /// Adds a torrent; `fill` says which. It is there after the hook, with an `add_torrent` alert either way.
    pub fn add_torrent(&self, fill: impl FnOnce(&mut AddTorrentParams<'_>)) {
        let mut id = EntryId(u32::MAX);
        ask_session!(self.new_entry(&mut id));
        // SAFETY: host and table are those of the context, which is borrowed for longer than the entry lives.
        let raw = unsafe { EntryRaw::new(self.scope.host, self.scope.api, id) };
        fill(&mut AddTorrentParams::from(raw));
        ask_session!(self.add_torrent(id));
    }

    /// Removes a torrent, with or without its files.
    pub fn remove_torrent(&self, torrent: TorrentHandle, delete_files: bool) {
        ask_session!(self.remove_torrent(torrent, u8::from(delete_files)));
    }

    /// Pauses the session: all torrents stop.
    pub fn pause(&self) {
        ask_session!(self.pause());
    }

    /// Resumes the session.
    pub fn resume(&self) {
        ask_session!(self.resume());
    }

    /// Whether the session is paused.
    pub fn is_paused(&self) -> bool {
        ask_session!(self.is_paused()) == HookStatus::HANDLED
    }

    /// The TCP port that the session listens on; 0 if it does not.
    pub fn listen_port(&self) -> u16 {
        let mut port = 0;
        ask_session!(self.listen_port(&mut port));
        port
    }

    /// A setting, by libtorrent's name, as text. `None` if there is no such setting.
    pub fn setting(&self, name: &str) -> Option<String> {
        self.scope.text(|s| ask_session!(self.setting(name.into(), s)))
    }

    /// Changes a setting, by libtorrent's name; `false` if there is none of that name or the value does not fit it.
    pub fn apply_setting(&self, name: &str, value: &str) -> bool {
        ask_session!(self.apply_setting(name.into(), value.into())) == HookStatus::HANDLED
    }

    /// Posts an alert of the plugin's own to the embedding program and to the other plugins. `false` if nobody asked
    /// for its category, so that it was not posted.
    pub fn post_alert(&self, alert: &CustomAlert<'_>) -> bool {
        let torrent = alert.torrent.unwrap_or(TorrentHandle::INVALID);
        let peer = alert.peer.unwrap_or(PeerHandle::INVALID);
        let status = ask_session!(self.post_alert(
            alert.kind,
            alert.what.into(),
            alert.category,
            alert.message.into(),
            alert.payload.into(),
            torrent,
            peer
        ));
        status == HookStatus::HANDLED
    }

    /// Says, after `abort`, that this plugin needs no further ticks and messages.
    pub fn done(&self) {
        ask_session!(self.done());
    }

    /// The names of all loaded plugins, in the order of registration, which is the order of their ids.
    pub fn plugins(&self) -> Vec<String> {
        let text = self.scope.text(|s| ask_session!(self.plugins(s))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Bans an address, whatever its port, from all torrents, and disconnects it: it is neither let in nor tried. The reason
    /// is in the alert `peer_ban` and in the list of bans, cut after 200 characters.
    pub fn ban(&self, address: IpAddr, reason: &str) {
        ask_session!(self.ban(SocketAddr::new(address, 0).into(), reason.into()));
    }

    /// Lifts a ban from the session, whoever asked for it; one from a torrent stays.
    pub fn unban(&self, address: IpAddr) {
        ask_session!(self.unban(SocketAddr::new(address, 0).into()));
    }

    /// Who is banned from the session. [`Torrent::bans`](crate::Torrent::bans) are those of one torrent.
    pub fn bans(&self) -> Vec<Ban> {
        Ban::read(&self.scope.collect(|s| ask_session!(self.bans(s))).unwrap_or_default())
    }
}

/// An alert of a plugin's own. Programs tell them apart by plugin and kind; the host maps each such pair to an alert type
/// above libtorrent's `user_alert_id`.
#[derive(Clone, Copy, Debug)]
pub struct CustomAlert<'a> {
    /// The plugin's own number for this sort of alert.
    pub kind: u32,
    /// Its name, as libtorrent's `what()`.
    pub what: &'a str,
    /// What it is about: it is posted only if someone asked for this category.
    pub category: AlertCategory,
    /// The event in words.
    pub message: &'a str,
    /// The event for programs, in the plugin's own format.
    pub payload: &'a [u8],
    /// The torrent that it is about.
    pub torrent: Option<TorrentHandle>,
    /// The connection that it is about.
    pub peer: Option<PeerHandle>,
}

/// The parameters of a torrent to be added (libtorrent's `add_torrent_params`).
///
/// It needs a torrent; without a save path, the session's own is taken.
pub struct AddTorrentParams<'a>(Entry<'a>);

impl<'a> From<EntryRaw<'a>> for AddTorrentParams<'a> {
    fn from(raw: EntryRaw<'a>) -> Self {
        Self(raw.into())
    }
}

impl AddTorrentParams<'_> {
    /// The contents of a `.torrent` file.
    pub fn torrent(&mut self, file: &[u8]) -> &mut Self {
        self.0.insert_bytes("torrent", file);
        self
    }

    /// The folder that holds, or will hold, its files.
    pub fn save_path(&mut self, folder: impl AsRef<Path>) -> &mut Self {
        self.0.insert_bytes("save_path", folder.as_ref().as_os_str().as_encoded_bytes());
        self
    }

    /// Adds it paused. (libtorrent's default; not ours.)
    pub fn paused(&mut self, paused: bool) -> &mut Self {
        self.0.insert_int("paused", i64::from(paused));
        self
    }

    /// Has it exchange no peers with its peers (libtorrent's `torrent_flags::disable_pex`).
    pub fn disable_pex(&mut self, disable: bool) -> &mut Self {
        self.0.insert_int("disable_pex", i64::from(disable));
        self
    }

    /// Attaches a number that plugins can read back.
    pub fn userdata(&mut self, data: Userdata) -> &mut Self {
        self.0.insert_int("userdata", data.0.cast_signed());
        self
    }

    /// The dictionary behind it, for parameters that are newer than this library.
    pub fn entry(&mut self) -> Entry<'_> {
        self.0.reborrow()
    }
}
