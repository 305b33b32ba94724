//! Ciphers that plugins switch on in mid-connection (libtorrent's `crypto_plugin`).
//!
//! Sending: what was queued before the switch goes out as it would have; what is behind that place is held back in the
//! outbox, and encrypted when the driver is about to send. Receiving: cipher text is decrypted only as far as the message
//! that is being received, so that the next switch finds every later byte still as it came.

use pilotfish_plugin::rt::abi_stable::std_types::RSliceMut;
use pilotfish_plugin::rt::{CipherObject, HookStatus, Sink};
use pilotfish_plugin::{CipherBox, Decrypted, ErrorCode, Operation, PeerHandle, PluginId, Severity};
use rustc_hash::FxHashMap;

use super::Engine;
use crate::hooks::call_cipher;
use crate::peer::Segment;

/// At most so much is encrypted by one call, in bytes.
const CHUNK: usize = 1 << 20;
/// A cipher may wait for at most so many bytes, as with libtorrent.
const LONGEST_PACKET: u32 = 1025 * 1024;

/// The ciphers of all connections that have one.
#[derive(Default)]
pub(super) struct Ciphers {
    send: FxHashMap<PeerHandle, Cipher>,
    receive: FxHashMap<PeerHandle, Receiving>,
}

struct Cipher {
    owner: PluginId,
    object: CipherObject,
}

struct Receiving {
    cipher: Option<Cipher>,
    /// Bytes as they came, not decrypted yet.
    inbox: Vec<u8>,
    /// The cipher wants at least so many before it is called.
    packet_size: usize,
}

impl Ciphers {
    /// Whether what a connection receives has to be decrypted.
    pub(super) fn receives(&self, peer: PeerHandle) -> bool {
        self.receive.contains_key(&peer)
    }

    pub(super) fn forget(&mut self, peer: PeerHandle) {
        self.send.remove(&peer);
        self.receive.remove(&peer);
    }

    pub(super) fn clear(&mut self) {
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
        let Some(connection) = self.open_peer(peer) else { return };
        match cipher {
            Some(cipher) => {
                connection.outbox.hold(from);
                self.chains.ciphers.send.insert(peer, Cipher { owner, object: CipherObject::new(cipher) });
            }
            None => connection.outbox.release(),
        }
        self.state.transmit(peer);
    }

    /// Encrypts everything that a connection holds back, before the driver sends.
    pub(super) fn seal(&mut self, peer: PeerHandle) {
        if self.chains.ciphers.send.contains_key(&peer) {
            self.encrypt(peer, u64::MAX);
            self.pump();
        }
    }

    fn encrypt(&mut self, peer: PeerHandle, until: u64) {
        let Some(cipher) = self.chains.ciphers.send.get_mut(&peer) else { return };
        let Some(connection) = self.state.peer_mut(peer) else { return };
        for segment in connection.outbox.take_held(until) {
            let payload = matches!(segment, Segment::Payload(_));
            for chunk in segment.bytes().chunks(CHUNK) {
                let (mut data, mut prefix) = (chunk.to_vec(), Vec::new());
                let status = call_cipher(
                    &mut self.state,
                    cipher.owner,
                    peer,
                    "encrypt",
                    &mut cipher.object,
                    |c, cx| c.encrypt(cx, RSliceMut::from_mut_slice(&mut data), Sink::to(&mut prefix)),
                );
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
        let mut inbox = connection.decoder.take_unread();
        if let Some(before) = self.chains.ciphers.receive.remove(&peer) {
            inbox.extend(before.inbox);
        }
        let cipher = cipher.map(|cipher| Cipher { owner, object: CipherObject::new(cipher) });
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
        if let Some(receiving) = self.chains.ciphers.receive.get_mut(&peer) {
            receiving.inbox.extend_from_slice(bytes);
        }
        self.decrypt(peer);
    }

    /// Decrypts up to the end of the message that is being received; whether that gave the decoder anything.
    pub(super) fn decrypt(&mut self, peer: PeerHandle) -> bool {
        let Some(wanted) = self.open_peer(peer).map(|connection| connection.decoder.wanted()) else {
            return false;
        };
        let Some(receiving) = self.chains.ciphers.receive.get_mut(&peer) else { return false };
        let have = receiving.inbox.len();
        if receiving.cipher.is_none() {
            let plain = self
                .chains
                .ciphers
                .receive
                .remove(&peer)
                .map(|receiving| receiving.inbox)
                .unwrap_or_default();
            if let Some(connection) = self.state.peer_mut(peer) {
                connection.decoder.feed(&plain);
            }
            return have > 0;
        }
        let take = match receiving.packet_size {
            0 => have.min(wanted),
            packet if have >= packet => have,
            _ => 0,
        };
        if take == 0 {
            return false;
        }
        let mut progress =
            Decrypted { consume: 0, produce: u32::try_from(take).unwrap_or(u32::MAX), packet_size: 0 };
        let status = self.call_decrypt(peer, take, &mut progress);
        self.accept_progress(peer, status, take, progress)
    }

    fn call_decrypt(&mut self, peer: PeerHandle, take: usize, progress: &mut Decrypted) -> HookStatus {
        let Some(receiving) = self.chains.ciphers.receive.get_mut(&peer) else { return HookStatus::CONTINUE };
        let Some(cipher) = &mut receiving.cipher else { return HookStatus::CONTINUE };
        let data = &mut receiving.inbox[..take];
        call_cipher(&mut self.state, cipher.owner, peer, "decrypt", &mut cipher.object, |c, cx| {
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
        let done: Vec<u8> = receiving.inbox.drain(..consume + produce).collect();
        let rest = receiving.inbox.len();
        if let Some(connection) = self.state.peer_mut(peer) {
            connection.decoder.feed(&done[consume..]);
        }
        // Also if it only said that it takes packets, and one is there.
        !done.is_empty() || (take > 0 && packet_size > 0 && rest >= packet_size)
    }
}
