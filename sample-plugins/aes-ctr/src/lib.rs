//! Encrypts connections between peers that hold the same key, with AES-128 in counter mode.
//!
//! ```text
//! pilotfish download some.torrent --plugin target/release/libpilotfish_aes_ctr.so \
//!     --plugin-set aes-ctr.key=000102030405060708090a0b0c0d0e0f
//! ```
//!
//! | setting | meaning |
//! |---|---|
//! | `key` | the key that both sides have, as 32 hexadecimal digits; required |
//! | `require` | `true`: peers that do not encrypt are disconnected; `false`, the default: they stay in clear |
//!
//! # What is negotiated
//!
//! Both sides announce the extended message `pf_aes_ctr` (BEP 10), and do the same thing:
//!
//! 1. When the peer announces it too, send a *hello*: byte 0, and 32 random bytes.
//! 2. When the peer's hello is here, send a *confirmation*: byte 1, and a code that only a holder of the key can compute
//!    from both hellos. Everything that is sent behind it is encrypted.
//! 3. When the peer's confirmation is here and right, decrypt everything behind it. A wrong one ends the connection.
//!
//! Each connection and each direction has keys of its own, made from the shared key and both hellos (`keys.rs`): no part of a
//! key stream is ever used twice, not even if a peer repeats an old hello. A peer asks for blocks only when its own hello is
//! on its way, so no block between two holders of a key is ever sent in clear.
//!
//! What this is not: forward secrecy (who learns the key can read what was recorded), nor protection against a peer in
//! the middle that flips bits. Blocks are hashed by BitTorrent itself; other messages are not.
//!
//! Read `peer-log` first. What is to be learnt here: an extended message of one's own, and a cipher that is switched on in
//! the middle of a connection (`link.rs`).

mod keys;
mod link;

use pilotfish_plugin::{
    Attach, Config, PeerBox, PeerHandle, SessionBox, SessionContext, SessionPlugin, TorrentBox,
    TorrentContext, TorrentHandle, TorrentPlugin, Userdata, export_plugin, hooks,
};

use crate::keys::SharedKey;
use crate::link::Link;

export_plugin!(session = open);

fn open(_: &mut SessionContext<'_>, config: &Config<'_>) -> Result<SessionBox, String> {
    config.only(&["key", "require"])?;
    let key =
        SharedKey::parse(config.get("key").ok_or("the setting key is missing: 32 hexadecimal digits")?)?;
    let policy = Policy { key, require: config.parse("require")?.unwrap_or(false) };
    Ok(SessionBox::new(AesSession { policy }))
}

/// What the user wants.
#[derive(Clone)]
pub(crate) struct Policy {
    pub(crate) key: SharedKey,
    /// Whether peers that do not encrypt are disconnected.
    pub(crate) require: bool,
}

struct AesSession {
    policy: Policy,
}

#[hooks]
impl SessionPlugin for AesSession {
    fn new_torrent(
        &mut self,
        _: &mut SessionContext<'_>,
        _: TorrentHandle,
        _: Userdata,
    ) -> Option<TorrentBox> {
        Some(TorrentBox::new(AesTorrent { policy: self.policy.clone() }))
    }

    fn abort(&mut self, cx: &mut SessionContext<'_>) {
        cx.session().done();
    }
}

struct AesTorrent {
    policy: Policy,
}

#[hooks]
impl TorrentPlugin for AesTorrent {
    fn new_connection(
        &mut self,
        cx: &mut TorrentContext<'_>,
        peer: PeerHandle,
        _: Attach,
    ) -> Option<PeerBox> {
        let connection = cx.peer(peer)?;
        Some(PeerBox::new(Link::new(self.policy.clone(), connection.is_outgoing())))
    }
}
