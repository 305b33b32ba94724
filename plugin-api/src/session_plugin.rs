//! Plugins on the session (libtorrent's `plugin`).
#![allow(unsafe_code)]

use std::net::SocketAddr;

use abi_stable::prefix_type::WithMetadata;
use abi_stable::std_types::{ROption, RSlice, RStr};

use crate::alert::{Alert, AlertRaw};
use crate::answer::{HookStatus, IntoStatus, Verdict};
use crate::bencode::Dict;
use crate::context::SessionContext;
use crate::entry::{Entry, EntryRaw};
use crate::mailbox::{Mailbox, Receive};
use crate::panics::{guard, guard_with};
use crate::session::AddTorrentParams;
use crate::table::{Overrides, hook_table};
use crate::torrent_plugin::TorrentBox;
use crate::value::{AlertCategory, Endpoint, Features, InfoHashes, PeerHandle, TorrentHandle, Userdata};

/// Whether messages are left in a mailbox after its budget was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum More {
    /// It is empty.
    #[default]
    Empty,
    /// There are more: the host comes back after one turn of I/O.
    Waiting,
}

impl IntoStatus for More {
    fn into_status(self) -> HookStatus {
        HookStatus::yes(self == Self::Waiting)
    }
}

hook_table! {
    /// Sees the session. libtorrent: `plugin`, all 11 members.
    ///
    /// Every hook runs on the network thread, and has a default that changes nothing. If one panics, the plugin is detached
    /// from the session, its torrents and their peers, without `on_disconnect`.
    trait SessionPlugin, context SessionContext, set SessionHooks, wire SessionVtable as SessionVtableRef, boxed SessionBox, flat SessionTable, object SessionObject;
    hooks {
        /// Which of the gated callbacks are wanted. `derived` follows from the overridden hooks; the answer may only narrow
        /// it. Asked once, at registration, before `added`.
        fn implemented_features(derived: Features => Features) -> Features => Features = derived;
        /// A torrent was added. The plugin object that it returns sees that torrent.
        fn new_torrent(torrent: TorrentHandle => TorrentHandle, userdata: Userdata => Userdata) -> Option<TorrentBox> => ROption<TorrentBox> = None;
        /// The plugin is registered.
        fn added() -> () = ();
        /// The session shuts down. Ticks and messages go on until every plugin called
        /// [`Session::done`](crate::Session::done), or two seconds have passed; a plugin with no thread of its own calls it here.
        fn abort() -> () = ();
        /// A DHT query came, and passed the rate limit. `response` holds the answer's frame; handled, it is sent as it is,
        /// else its changes are undone.
        fn on_dht_request(query: &str => RStr<'_>, source: SocketAddr => Endpoint, message: Dict<'_> => RSlice<'_, u8>, response: Entry<'_> => EntryRaw<'_>) -> Verdict = Verdict::Continue;
        /// An alert was posted, of a category in [`alert_mask`](Self::alert_mask).
        fn on_alert(alert: Alert<'_> => AlertRaw<'_>) -> () = ();
        /// An incoming peer asks for a torrent that the session does not have. Handled: `params` is added, and the peer is
        /// held until the torrent can serve it. The first plugin that handles it wins.
        fn on_unknown_torrent(info_hashes: InfoHashes => InfoHashes, peer: PeerHandle => PeerHandle, params: AddTorrentParams<'_> => EntryRaw<'_>) -> Verdict = Verdict::Continue;
        /// Once per second, also while the session is paused, and after `abort`.
        fn on_tick() -> () = ();
        /// The priority of a candidate for the optimistic unchoke among equals: the lowest wins, the lowest of all plugins
        /// counts, and `u64::MAX` is no opinion.
        fn get_unchoke_priority(peer: PeerHandle => PeerHandle) -> u64 => u64 = u64::MAX;
        /// A word in who is uploaded to: in each round, the regular slots go to interested peers in order of their scores, the
        /// highest first, and among equals as ever: to who sends us most, or in turns once we seed. Scores of several plugins
        /// are added up, and 0 is no opinion. [`NO_SLOT`] gives the peer no slot of either kind, whatever others say. Asked for
        /// each interested peer in each round, so every `unchoke_interval` (15 s) and when a slot becomes free. (Beyond
        /// libtorrent, whose choker listens to nobody.)
        fn unchoke_score(peer: PeerHandle => PeerHandle) -> i64 => i64 = 0;
        /// What to keep until the next start; the entry is this plugin's own.
        fn save_state(state: Entry<'_> => EntryRaw<'_>) -> () = ();
        /// What `save_state` kept. First of all hooks; not called if there is nothing.
        fn load_state(state: Dict<'_> => RSlice<'_, u8>) -> () = ();
        /// The categories of alerts that `on_alert` is to see, whatever the embedding program asked for. Asked once, at
        /// registration. (Beyond libtorrent.)
        fn alert_mask() -> AlertCategory => AlertCategory = AlertCategory::ALL;
        /// Delivers up to `budget` messages of the plugin's [`Mailbox`]. Not to be overridden: `SessionBox::with_mailbox`
        /// does, and calls [`Receive::on_message`]. (Beyond libtorrent.)
        fn drain(budget: u32 => u32) -> More = More::Empty;
        /// A torrent is being removed; its handle is still good. (Beyond libtorrent.)
        fn torrent_removed(torrent: TorrentHandle => TorrentHandle) -> () = ();
    }
}

/// The score of a peer that is to stay choked ([`SessionPlugin::unchoke_score`]).
pub const NO_SLOT: i64 = i64::MIN;

impl SessionBox {
    /// Boxes a plugin that receives messages from other threads: [`Receive::on_message`] is called for each, on the
    /// network thread, in the session's tick.
    pub fn with_mailbox<P, M>(plugin: P, mailbox: Mailbox<M>) -> Self
    where
        P: SessionPlugin + Overrides<dyn SessionPlugin> + Receive<M>,
        M: Send + 'static,
    {
        let this = Box::into_raw(Box::new(Inboxed { plugin, mailbox })).cast();
        Self { this, vtable: SessionVtableRef(MakeInboxed::<P, M>::TABLE.as_prefix()) }
    }
}

/// A plugin and its mailbox. The plugin comes first: a pointer to the whole is a pointer to the plugin, so that the
/// plugin's own shims serve both.
#[repr(C)]
struct Inboxed<P, M> {
    plugin: P,
    mailbox: Mailbox<M>,
}

struct MakeInboxed<P, M>(std::marker::PhantomData<(P, M)>);

impl<P, M> MakeInboxed<P, M>
where
    P: SessionPlugin + Overrides<dyn SessionPlugin> + Receive<M>,
    M: Send + 'static,
{
    abi_stable::staticref!(const TABLE: WithMetadata<SessionVtable> = WithMetadata::new(SessionVtable {
        destroy: destroy::<P, M>,
        drain: Some(drain::<P, M>),
        ..SessionVtable::of::<P>()
    }));
}

unsafe extern "C" fn destroy<P, M>(this: *mut ()) -> HookStatus {
    // SAFETY: `this` came from the `Box<Inboxed<P, M>>` of `with_mailbox`, and a box is dropped once.
    match guard_with(|| drop(unsafe { Box::from_raw(this.cast::<Inboxed<P, M>>()) })) {
        Ok(()) => HookStatus::CONTINUE,
        Err(status) => status,
    }
}

unsafe extern "C" fn drain<P: Receive<M>, M>(
    this: *mut (),
    cx: &mut SessionContext<'_>,
    budget: u32,
) -> HookStatus {
    let deliver = |boxed: &mut Inboxed<P, M>| {
        for _ in 0..budget {
            let Some(message) = boxed.mailbox.take() else { return More::Empty };
            boxed.plugin.on_message(cx, message);
        }
        if boxed.mailbox.is_empty() { More::Empty } else { More::Waiting }
    };
    // SAFETY: the host passes the object of the box whose table this is, and calls no hook while one runs.
    unsafe { guard(this, deliver) }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;
    impl SessionPlugin for Silent {}
    impl Overrides<dyn SessionPlugin> for Silent {
        const SET: SessionHooks = SessionHooks::named("on_tick").with(SessionHooks::named("no_such_hook"));
    }

    #[test]
    fn the_flat_table_holds_what_is_overridden() {
        let boxed = SessionBox::new(Silent);
        let table = boxed.table();
        assert!(table.on_tick.is_some() && table.added.is_none());
        assert_eq!(table.set.names().collect::<Vec<_>>(), ["on_tick"]);
    }
}
