//! Ciphers: those that plugins switch on in mid-connection (libtorrent's `crypto_plugin`), and RC4 where the encryption
//! handshake brought it.
//!
//! Sending: what was queued before the switch goes out as it would have; what is behind that place is held back in the
//! outbox, and encrypted when the driver is about to send. Receiving: cipher text is decrypted only as far as the message
//! that is being received, so that the next switch finds every later byte still as it came.

use pilotfish_plugin::rt::abi_stable::std_types::{RSlice, RSliceMut};
use pilotfish_plugin::rt::{CipherObject, HookStatus, Sink};
use pilotfish_plugin::{CipherBox, Decrypted, ErrorCode, Operation, PeerHandle, PluginId, Severity};
use rustc_hash::FxHashMap;

use super::Engine;
use crate::hooks::call_cipher;
use crate::peer::Segment;
use crate::peer::mse::{self, Rc4};

/// At most so much is encrypted by one call, in bytes.
const CHUNK: usize = 1 << 20;
/// A cipher may wait for at most so many bytes, as with libtorrent.
const LONGEST_PACKET: u32 = 1025 * 1024;

/// The ciphers of all connections that have one.
#[derive(Default)]
pub(super) struct Ciphers {
    /// The encryption handshakes that are not done yet. Meanwhile nothing is encrypted or decrypted, except by them.
    pub(super) handshakes: FxHashMap<PeerHandle, mse::Handshake>,
    send: FxHashMap<PeerHandle, Cipher>,
    receive: FxHashMap<PeerHandle, Receiving>,
}

enum Cipher {
    Plugin { owner: PluginId, object: CipherObject },
    Rc4(Box<Rc4>),
}

struct Receiving {
    cipher: Option<Cipher>,
    inbox: Inbox,
    /// The cipher wants at least so many before it is called.
    packet_size: usize,
}

/// Bytes as they came, not decrypted yet.
#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
    /// How many of them are done with.
    read: usize,
}

impl Inbox {
    fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    fn push(&mut self, bytes: &[u8]) {
        // Those that are done with go when that costs no more than what comes.
        if self.read > 0 && self.len() <= bytes.len().max(self.read) {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn first(&mut self, n: usize) -> &mut [u8] {
        &mut self.bytes[self.read..][..n]
    }

    fn consume(&mut self, n: usize) {
        self.read += n;
        if self.read == self.bytes.len() {
            *self = Self::default();
        }
    }

    fn into_rest(mut self) -> Vec<u8> {
        self.bytes.drain(..self.read);
        self.bytes
    }
}

impl Ciphers {
    /// Whether what a connection receives has to be decrypted.
    pub(super) fn receives(&self, peer: PeerHandle) -> bool {
        self.receive.contains_key(&peer) || self.handshakes.contains_key(&peer)
    }

    /// Whether what a connection sends is encrypted.
    pub(super) fn sends(&self, peer: PeerHandle) -> bool {
        self.send.contains_key(&peer)
    }

    /// RC4 from here on, in each direction in which there is no cipher of a plugin.
    pub(super) fn begin_rc4(&mut self, peer: PeerHandle, send: Rc4, receive: Rc4) {
        self.send.entry(peer).or_insert_with(|| Cipher::Rc4(Box::new(send)));
        self.receive.entry(peer).or_insert_with(|| Receiving {
            cipher: Some(Cipher::Rc4(Box::new(receive))),
            inbox: Inbox::default(),
            packet_size: 0,
        });
    }

    /// Keeps bytes to be decrypted. `false`: they need not be.
    pub(super) fn keep(&mut self, peer: PeerHandle, bytes: &[u8]) -> bool {
        let receiving = self.receive.get_mut(&peer).map(|receiving| receiving.inbox.push(bytes));
        receiving.is_some()
    }

    pub(super) fn forget(&mut self, peer: PeerHandle) {
        self.handshakes.remove(&peer);
        self.send.remove(&peer);
        self.receive.remove(&peer);
    }

    pub(super) fn clear(&mut self) {
        self.handshakes.clear();
        self.send.clear();
        self.receive.clear();
    }
}

impl Engine {
    /// What is queued behind `from` is encrypted by this cipher, or by none.
    pub(super) fn switch_send_cipher(
        &mut self,
        peer: PeerHandle,
        owner: PluginId,
        from: u64,
        cipher: Option<CipherBox>,
    ) {
        if self.open_peer(peer).is_none() {
            return;
        }
        self.encrypt(peer, from);
        self.chains.ciphers.send.remove(&peer);
        let cipher = cipher.map(|cipher| self.cipher_of(peer, owner, cipher));
        let agreed = !self.chains.ciphers.handshakes.contains_key(&peer);
        let Some(connection) = self.open_peer(peer) else { return };
        match cipher {
            Some(cipher) => {
                connection.outbox.hold(from);
                self.chains.ciphers.send.insert(peer, cipher);
            }
            None if agreed => connection.outbox.release(),
            None => {}
        }
        self.state.transmit(peer);
    }

    /// A plugin's cipher, which is told the keys of the encryption handshake, if there was one.
    fn cipher_of(&mut self, peer: PeerHandle, owner: PluginId, cipher: CipherBox) -> Cipher {
        let mut object = CipherObject::new(cipher);
        let keys = self.state.peer(peer).and_then(|connection| connection.encryption).map(|e| e.keys);
        if let Some(keys) = keys {
            let (state, cipher) = (&mut self.state, &mut object);
            call_cipher(state, owner, peer, "set_incoming_key", cipher, |c, cx| {
                c.set_incoming_key(cx, RSlice::from_slice(&keys.incoming))
            });
            call_cipher(state, owner, peer, "set_outgoing_key", cipher, |c, cx| {
                c.set_outgoing_key(cx, RSlice::from_slice(&keys.outgoing))
            });
        }
        Cipher::Plugin { owner, object }
    }

    /// Encrypts everything that a connection holds back, before the driver sends.
    pub(super) fn seal(&mut self, peer: PeerHandle) {
        let ciphers = &self.chains.ciphers;
        if ciphers.sends(peer) && !ciphers.handshakes.contains_key(&peer) {
            self.encrypt(peer, u64::MAX);
            self.pump();
        }
    }

    fn encrypt(&mut self, peer: PeerHandle, until: u64) {
        let Some(cipher) = self.chains.ciphers.send.get_mut(&peer) else { return };
        let Some(connection) = self.state.peer_mut(peer) else { return };
        let segments = connection.outbox.take_held(until);
        match cipher {
            Cipher::Rc4(rc4) => segments
                .into_iter()
                .map(|segment| segment.map(|bytes| rc4.apply(bytes)))
                .for_each(|segment| connection.outbox.ready(segment)),
            Cipher::Plugin { .. } => self.encrypt_segments(peer, segments),
        }
    }

    /// Has a plugin's cipher encrypt what was held back.
    fn encrypt_segments(&mut self, peer: PeerHandle, segments: Vec<Segment>) {
        let Some(Cipher::Plugin { owner, object }) = self.chains.ciphers.send.get_mut(&peer) else { return };
        for segment in segments {
            let payload = matches!(segment, Segment::Payload(_));
            for chunk in segment.bytes().chunks(CHUNK) {
                let (mut data, mut prefix) = (chunk.to_vec(), Vec::new());
                let status = call_cipher(&mut self.state, *owner, peer, "encrypt", object, |c, cx| {
                    c.encrypt(cx, RSliceMut::from_mut_slice(&mut data), Sink::to(&mut prefix))
                });
                if status != HookStatus::CONTINUE {
                    return self.state.disconnect(
                        peer,
                        ErrorCode::PARSE_FAILED,
                        Operation::ENCRYPTION,
                        Severity::FAILURE,
                    );
                }
                let Some(connection) = self.state.peer_mut(peer) else { return };
                if !prefix.is_empty() {
                    connection.outbox.ready(Segment::Protocol(prefix));
                }
                connection.outbox.ready(if payload {
                    Segment::Payload(data.into())
                } else {
                    Segment::Protocol(data)
                });
            }
        }
    }

    /// What follows the message at hand is decrypted by this cipher, or by none.
    pub(super) fn switch_receive_cipher(
        &mut self,
        peer: PeerHandle,
        owner: PluginId,
        cipher: Option<CipherBox>,
    ) {
        let Some(connection) = self.open_peer(peer) else { return };
        let mut inbox = Inbox::default();
        inbox.push(&connection.decoder.take_unread());
        if let Some(before) = self.chains.ciphers.receive.remove(&peer) {
            inbox.push(&before.inbox.into_rest());
        }
        let cipher = cipher.map(|cipher| self.cipher_of(peer, owner, cipher));
        self.chains.ciphers.receive.insert(peer, Receiving { cipher, inbox, packet_size: 0 });
        self.learn_packet_size(peer);
        // The message loop that this switch happened in goes on with what is decrypted here.
        self.decrypt(peer);
    }

    /// A cipher is called once without data, to say how much it wants.
    fn learn_packet_size(&mut self, peer: PeerHandle) {
        let mut progress = Decrypted { consume: 0, produce: 0, packet_size: 0 };
        let status = self.call_decrypt(peer, 0, &mut progress);
        self.accept_progress(peer, status, 0, progress);
    }

    /// Bytes came on a connection that has a cipher.
    pub(super) fn on_cipher_text(&mut self, peer: PeerHandle, bytes: &[u8]) {
        if self.chains.ciphers.handshakes.contains_key(&peer) {
            self.on_exchange(peer, bytes);
        } else {
            self.chains.ciphers.keep(peer, bytes);
        }
        self.decrypt(peer);
    }

    /// Decrypts up to the end of the message that is being received; whether that gave the decoder anything.
    pub(super) fn decrypt(&mut self, peer: PeerHandle) -> bool {
        let Some(wanted) = self.open_peer(peer).map(|connection| connection.decoder.wanted()) else {
            return false;
        };
        let ciphers = &mut self.chains.ciphers;
        if ciphers.handshakes.contains_key(&peer) {
            return false;
        }
        let Some(receiving) = ciphers.receive.get_mut(&peer) else { return false };
        let have = receiving.inbox.len();
        let take = match (&receiving.cipher, receiving.packet_size) {
            (None, _) => have,
            (_, 0) => have.min(wanted),
            (_, packet) if have >= packet => have,
            _ => 0,
        };
        let plain = match &mut receiving.cipher {
            Some(Cipher::Plugin { .. }) => return take > 0 && self.decrypt_with_plugin(peer, take),
            Some(Cipher::Rc4(rc4)) => {
                let bytes = receiving.inbox.first(take);
                rc4.apply(bytes);
                bytes
            }
            None => receiving.inbox.first(take),
        };
        if let Some(connection) = self.state.peer_mut(peer) {
            connection.decoder.feed(plain);
        }
        receiving.inbox.consume(take);
        if receiving.cipher.is_none() {
            ciphers.receive.remove(&peer);
        }
        take > 0
    }

    fn decrypt_with_plugin(&mut self, peer: PeerHandle, take: usize) -> bool {
        let mut progress =
            Decrypted { consume: 0, produce: u32::try_from(take).unwrap_or(u32::MAX), packet_size: 0 };
        let status = self.call_decrypt(peer, take, &mut progress);
        self.accept_progress(peer, status, take, progress)
    }

    fn call_decrypt(&mut self, peer: PeerHandle, take: usize, progress: &mut Decrypted) -> HookStatus {
        let Some(receiving) = self.chains.ciphers.receive.get_mut(&peer) else { return HookStatus::CONTINUE };
        let Some(Cipher::Plugin { owner, object }) = &mut receiving.cipher else {
            return HookStatus::CONTINUE;
        };
        let data = receiving.inbox.first(take);
        call_cipher(&mut self.state, *owner, peer, "decrypt", object, |c, cx| {
            c.decrypt(cx, RSliceMut::from_mut_slice(data), progress)
        })
    }

    /// Takes what a cipher says it did, if it can be true.
    fn accept_progress(
        &mut self,
        peer: PeerHandle,
        status: HookStatus,
        take: usize,
        progress: Decrypted,
    ) -> bool {
        let (consume, produce) = (progress.consume as usize, progress.produce as usize);
        let sane = consume.saturating_add(produce) <= take && progress.packet_size <= LONGEST_PACKET;
        let stuck = take > 0 && consume + produce == 0 && progress.packet_size as usize <= take;
        if status != HookStatus::CONTINUE || !sane || stuck {
            self.state.disconnect(peer, ErrorCode::PARSE_FAILED, Operation::ENCRYPTION, Severity::FAILURE);
            return false;
        }
        let Some(receiving) = self.chains.ciphers.receive.get_mut(&peer) else { return false };
        let packet_size = progress.packet_size as usize;
        receiving.packet_size = packet_size;
        let done = consume + produce;
        if let Some(connection) = self.state.peer_mut(peer) {
            connection.decoder.feed(&receiving.inbox.first(done)[consume..]);
        }
        receiving.inbox.consume(done);
        // Also if it only said that it takes packets, and one is there.
        done > 0 || (take > 0 && packet_size > 0 && receiving.inbox.len() >= packet_size)
    }
}
