//! Metadata from peers, and for peers (BEP 9, libtorrent's ut_metadata).
//!
//! | file | what |
//! |---|---|
//! | `message` | the three messages |
//! | `assembly` | an info dictionary in the making: which of its blocks to ask for |
//! | `peer` | one connection: what is asked of it, what it asks for |
//!
//! Where libtorrent's lets one peer decide how long the dictionary is, each length that peers claim has an assembly of its own
//! here: a liar spoils its own.

mod assembly;
mod message;
mod peer;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use pilotfish_plugin::{
    Attach, PeerBox, PeerHandle, SessionContext, Torrent, TorrentBox, TorrentContext, TorrentHandle,
    TorrentPlugin, Userdata, hooks,
};

use assembly::Assembly;

/// The name of the extended message.
const NAME: &str = "ut_metadata";
/// Bytes of a block of metadata; the last one is shorter.
const BLOCK: usize = 16 * 1024;
/// So many lengths that peers claim are believed at a time.
const MOST_LENGTHS: usize = 8;
/// libtorrent's, where the session does not say.
const DEFAULT_LIMIT: usize = 31_457_280;

/// Makes the plugin for one torrent (libtorrent's `create_ut_metadata_plugin`). `None`: nobody may have the metadata from us,
/// and we have it.
pub fn create_ut_metadata_plugin(
    cx: &mut SessionContext<'_>,
    torrent: TorrentHandle,
    _: Userdata,
) -> Option<TorrentBox> {
    let torrent = cx.torrent(torrent)?;
    if torrent.has_metadata() && torrent.is_private() {
        return None;
    }
    let limit = cx.session().setting("max_metadata_size").and_then(|limit| limit.parse().ok());
    Some(TorrentBox::new(UtMetadata { limit: limit.unwrap_or(DEFAULT_LIMIT), shared: None }))
}

/// On one torrent.
struct UtMetadata {
    limit: usize,
    /// There from the first connection on: most torrents of a large session have none.
    shared: Option<Rc<RefCell<Shared>>>,
}

/// What a torrent's connections share.
#[derive(Default)]
struct Shared {
    /// The longest metadata that is accepted, in bytes.
    limit: usize,
    /// The metadata, once it was asked for or handed in.
    known: Option<Rc<[u8]>>,
    /// By the length that peers claim.
    assemblies: BTreeMap<usize, Assembly>,
    /// The length of the assembly that is being looked at.
    offered: Option<usize>,
    /// Connections that sent a part of metadata that was wrong, and until when nothing is asked of them.
    punished: Vec<(PeerHandle, Duration)>,
}

#[hooks]
impl TorrentPlugin for UtMetadata {
    fn new_connection(&mut self, _: &mut TorrentContext<'_>, _: PeerHandle, _: Attach) -> Option<PeerBox> {
        let fresh = || Rc::new(RefCell::new(Shared { limit: self.limit, ..Shared::default() }));
        Some(PeerBox::new(peer::OnPeer::new(self.shared.get_or_insert_with(fresh).clone())))
    }

    fn on_metadata(&mut self, _: &mut TorrentContext<'_>) {
        let Some(shared) = &self.shared else { return };
        let mut shared = shared.borrow_mut();
        shared.assemblies.clear();
        shared.offered = None;
    }

    fn on_metadata_failed(&mut self, cx: &mut TorrentContext<'_>) {
        if let Some(shared) = &self.shared {
            shared.borrow_mut().failed(cx.now());
        }
    }
}

impl Shared {
    /// The metadata, if it is known and may be given away.
    fn served(&mut self, torrent: &Torrent<'_>) -> Option<Rc<[u8]>> {
        if !torrent.has_metadata() || torrent.is_private() {
            return None;
        }
        Some(self.known.get_or_insert_with(|| torrent.metadata().into()).clone())
    }

    /// The assembly of a length, if that may be the right one.
    fn assembly(&mut self, length: usize) -> Option<&mut Assembly> {
        if length == 0 || length > self.limit {
            return None;
        }
        if self.assemblies.len() >= MOST_LENGTHS && !self.assemblies.contains_key(&length) {
            return None;
        }
        Some(self.assemblies.entry(length).or_insert_with(|| Assembly::new(length)))
    }

    /// Hands an assembly in that is complete, one at a time.
    fn offer(&mut self, torrent: &Torrent<'_>) {
        if self.offered.is_some() {
            return;
        }
        let complete = self.assemblies.iter().find(|(_, assembly)| assembly.is_complete());
        if let Some((length, assembly)) = complete
            && torrent.set_metadata(assembly.bytes())
        {
            self.offered = Some(*length);
        }
    }

    /// What was handed in is wrong. All blocks are fetched anew, from others as far as there are any: who sent it alone has
    /// more to answer for.
    fn failed(&mut self, now: Duration) {
        let Some(assembly) = self.offered.take().and_then(|length| self.assemblies.get_mut(&length)) else {
            return;
        };
        let alone = if assembly.is_one_block() { Duration::from_secs(300) } else { Duration::ZERO };
        let sources = assembly.forget();
        self.punished.retain(|(peer, until)| *until > now && !sources.contains(peer));
        for peer in sources {
            // Not all at once again: 20 to 70 seconds, by the connection's number.
            let spread = Duration::from_secs(20 + peer.into_raw().wrapping_mul(0x9e37_79b9) % 51);
            self.punished.push((peer, now + alone + spread));
        }
    }

    fn is_punished(&self, peer: PeerHandle, now: Duration) -> bool {
        self.punished.iter().any(|(other, until)| *other == peer && *until > now)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
