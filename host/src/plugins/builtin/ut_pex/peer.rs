//! One connection: what it is told, and what it tells.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use pilotfish_plugin::{
    Dict, Entry, ErrorCode, Keep, Operation, PeerContext, PeerPlugin, PeerSource, Severity, Verdict, hooks,
};

use super::message::{Family, Message};
use super::told::{News, Told};
use super::{Contacts, NAME, is_local, may_exchange};

/// The longest message that is accepted, in bytes.
const LONGEST: u32 = 500 * 1024;
/// So many messages are accepted within a minute: one is due, and clocks differ.
const MOST_PER_MINUTE: usize = 6;
const MINUTE: Duration = Duration::from_secs(60);
/// libtorrent's, where the session does not say.
const DEFAULT_LIMIT: usize = 50;

/// On one connection.
pub(super) struct OnPeer {
    contacts: Rc<RefCell<Contacts>>,
    /// The id of the peer's messages to us. 0: we have not said that we want any.
    id: u8,
    /// Whether it wants our messages.
    listens: bool,
    told: Told,
    /// Whom it told us of, by family, and did not say went.
    heard: [BTreeSet<SocketAddr>; 2],
    /// When its last messages came, on the session's clock.
    messages: VecDeque<Duration>,
}

impl OnPeer {
    pub(super) fn new(contacts: Rc<RefCell<Contacts>>) -> Self {
        let (told, heard, messages) = Default::default();
        Self { contacts, id: 0, listens: false, told, heard, messages }
    }

    /// A message came. Whether that is too soon after so many others.
    fn is_too_frequent(&mut self, now: Duration) -> bool {
        if self.messages.len() == MOST_PER_MINUTE {
            if self.messages.front().is_some_and(|oldest| now < *oldest + MINUTE) {
                return true;
            }
            self.messages.pop_front();
        }
        self.messages.push_back(now);
        false
    }

    /// Takes what the peer tells, as far as it is for us. Of each family so many are remembered as the setting
    /// `max_pex_peers` says; the rest is as good as not told.
    fn take(&mut self, cx: &PeerContext<'_>, message: Message<'_>) {
        let limit = cx.session().setting("max_pex_peers").and_then(|limit| limit.parse().ok());
        let limit = limit.unwrap_or(DEFAULT_LIMIT);
        let (torrent, neighbour) = (cx.this_torrent(), cx.this().on_local_network());
        for (family, heard) in Family::BOTH.into_iter().zip(&mut self.heard) {
            message.dropped(family).for_each(|address| {
                heard.remove(&address);
            });
            for (address, flags) in message.added(family) {
                if heard.len() >= limit {
                    break;
                }
                if (neighbour || !is_local(address)) && heard.insert(address) {
                    torrent.add_peer(address, PeerSource::PEX, flags);
                }
            }
        }
    }
}

#[hooks]
impl PeerPlugin for OnPeer {
    fn type_name(&mut self, _: &mut PeerContext<'_>) -> &'static str {
        NAME
    }

    fn add_handshake(&mut self, cx: &mut PeerContext<'_>, _: Entry<'_>) {
        if !cx.this_torrent().is_private()
            && let Ok(id) = cx.this().register_extended(NAME)
        {
            self.id = id;
        }
    }

    fn on_extension_handshake(&mut self, _: &mut PeerContext<'_>, message: Dict<'_>) -> Keep {
        let theirs = message.dict("m").and_then(|names| names.int(NAME));
        // A later handshake takes nothing back by leaving it out (BEP 10).
        self.listens = theirs.map_or(self.listens, |id| id != 0);
        if self.id != 0 && self.listens { Keep::Stay } else { Keep::Leave }
    }

    fn on_extended(&mut self, cx: &mut PeerContext<'_>, length: u32, id: u8, body: &[u8]) -> Verdict {
        if self.id == 0 || id != self.id {
            return Verdict::Continue;
        }
        let refuse = |error: ErrorCode, severity: Severity| {
            cx.this().disconnect(error, Operation::BITTORRENT, severity);
        };
        if length > LONGEST {
            refuse(ErrorCode::PEX_MESSAGE_TOO_LARGE, Severity::PEER_ERROR);
        } else if self.is_too_frequent(cx.now()) {
            refuse(ErrorCode::TOO_FREQUENT_PEX, Severity::NORMAL);
        } else if may_exchange(&cx.this_torrent()) {
            match Message::parse(body) {
                Some(message) => self.take(cx, message),
                None => refuse(ErrorCode::INVALID_PEX_MESSAGE, Severity::PEER_ERROR),
            }
        }
        Verdict::Handled
    }

    fn tick(&mut self, cx: &mut PeerContext<'_>) {
        if self.id == 0 || !self.listens || !self.told.is_due(cx.now()) {
            return;
        }
        let torrent = cx.this_torrent();
        if !torrent.has_metadata() || !may_exchange(&torrent) {
            return;
        }
        let (own, neighbour) = (cx.handle(), cx.this().on_local_network());
        let mut contacts = self.contacts.borrow_mut();
        let others = contacts.now(cx).iter().filter(|contact| contact.peer != own);
        let others = others.filter(|contact| neighbour || !is_local(contact.address));
        let others = others.map(|contact| (contact.address, contact.flags));
        if let Some(News { added, dropped }) = self.told.news(cx.now(), others) {
            cx.this().send_extended(NAME, &Message::encode(&added, &dropped));
        }
    }
}
