//! Encryption that begins before anything else is said (MSE). Plugins see nothing of it: to them a connection begins with
//! the BitTorrent handshake, which comes with it or behind it.
//!
//! What plugins queue meanwhile is held back in the outbox until both sides agree. From then on RC4 is a cipher like those
//! of plugins, and is replaced by theirs.

use pilotfish_plugin::{AlertCategory, Direction, ErrorCode, Operation, PeerHandle, Severity, TorrentHandle};

use super::Engine;
use super::state::State;
use crate::alert::AlertKind;
use crate::peer::mse::{self, Agreement, Failure, Greeting, Method, Methods, Terms};
use crate::peer::{Closing, Connection, Encryption, Phase, Segment};
use crate::settings::{EncLevel, EncPolicy};

/// So many strangers per second may have us compute keys: two powers for each, of 35 µs.
pub(super) const EXCHANGES: u32 = 256;

impl Engine {
    /// The first that we say on a connection that we opened.
    pub(super) fn greet(&mut self, peer: PeerHandle) {
        let Some(connection) = self.open_peer(peer) else { return };
        match connection.greeting {
            Greeting::Clear => self.send_handshake(peer),
            Greeting::Encrypted => self.initiate(peer),
        }
    }

    fn initiate(&mut self, peer: PeerHandle) {
        let Some(ours) = self.state.handshake(peer) else { return };
        let (terms, mut out) = (self.state.terms(), Vec::new());
        let initial = ours.encode().to_vec();
        let handshake =
            mse::Handshake::initiate(ours.info_hash, terms, initial, &mut self.state.rng, &mut out);
        self.begin_encryption(peer, handshake);
        self.state.say(peer, out);
        self.state.log(peer, "initiating an encrypted connection");
    }

    /// What a peer says first is no BitTorrent handshake. If it called us, it may be a key.
    pub(super) fn on_other_handshake(&mut self, peer: PeerHandle) {
        let state = &mut self.state;
        let Some(connection) = state.peer_mut(peer).filter(|c| !c.is_closing()) else { return };
        if connection.outgoing || connection.encryption.is_some() {
            return state.peer_error(peer, ErrorCode::NOT_BITTORRENT);
        }
        let refusal = if state.settings.in_enc_policy == EncPolicy::Disabled {
            Some(ErrorCode::NO_INCOMING_ENCRYPTED)
        } else if state.exchanges_left == 0 {
            Some(ErrorCode::TOO_MANY_CONNECTIONS)
        } else {
            None
        };
        if let Some(error) = refusal {
            return state.disconnect(peer, error, Operation::ENCRYPTION, Severity::NORMAL);
        }
        state.exchanges_left -= 1;
        let Some(connection) = state.peer_mut(peer) else { return };
        let bytes = connection.decoder.start_over();
        let terms = state.terms();
        self.begin_encryption(peer, mse::Handshake::respond(terms));
        self.on_exchange(peer, &bytes);
    }

    fn begin_encryption(&mut self, peer: PeerHandle, handshake: mse::Handshake) {
        let Some(connection) = self.state.peer_mut(peer) else { return };
        connection.outbox.hold(0);
        self.chains.ciphers.handshakes.insert(peer, handshake);
    }

    /// Bytes came on a connection whose encryption handshake is not done yet.
    pub(super) fn on_exchange(&mut self, peer: PeerHandle, bytes: &[u8]) {
        let Some(handshake) = self.chains.ciphers.handshakes.get_mut(&peer) else { return };
        let State { by_obfuscated, rng, .. } = &mut self.state;
        let mut out = Vec::new();
        let progress = handshake.receive(bytes, |hidden| by_obfuscated.get(hidden).copied(), rng, &mut out);
        self.state.say(peer, out);
        match progress {
            Ok(None) => {}
            Ok(Some(agreement)) => {
                self.chains.ciphers.handshakes.remove(&peer);
                self.on_agreement(peer, agreement);
            }
            Err(failure) => {
                self.state.log(peer, &failure.to_string());
                let error = error_code(failure);
                self.state.disconnect(peer, error, Operation::ENCRYPTION, Severity::FAILURE);
            }
        }
    }

    /// Both sides agree on what follows. A plugin may have switched ciphers on already: theirs replace ours.
    fn on_agreement(&mut self, peer: PeerHandle, agreement: Agreement) {
        let Agreement { method, keys, ciphers: [send, receive], info_hash, initial, rest } = agreement;
        let Some(connection) = self.state.peer_mut(peer).filter(|c| !c.is_closing()) else { return };
        connection.encryption = Some(Encryption { method, keys, info_hash });
        connection.decoder.feed(&initial);
        let ciphers = &mut self.chains.ciphers;
        if method == Method::Rc4 {
            ciphers.begin_rc4(peer, send, receive);
        }
        if !ciphers.sends(peer) {
            connection.outbox.release();
        }
        if !ciphers.keep(peer, &rest) {
            connection.decoder.feed(&rest);
        }
        self.state.transmit(peer);
        self.state.log(
            peer,
            match method {
                Method::Rc4 => "both agree on RC4",
                Method::Plaintext => "both agree on plain text",
            },
        );
    }
}

impl State {
    /// What we agree to.
    fn terms(&self) -> Terms {
        let allowed = match self.settings.allowed_enc_level {
            EncLevel::Plaintext => Methods::PLAINTEXT,
            EncLevel::Rc4 => Methods::RC4,
            EncLevel::Both => Methods(Methods::PLAINTEXT.0 | Methods::RC4.0),
        };
        Terms { allowed, prefer_rc4: self.settings.prefer_rc4 }
    }

    /// Sends what belongs to the handshake, past everything that is held back for its end.
    fn say(&mut self, peer: PeerHandle, bytes: Vec<u8>) {
        if let Some(connection) = self.peer_mut(peer).filter(|c| !c.is_closing() && !bytes.is_empty()) {
            connection.outbox.ready(Segment::Protocol(bytes));
            self.transmit(peer);
        }
    }

    /// How the peer of a new connection is greeted.
    pub(super) fn choose_greeting(&mut self, peer: PeerHandle, torrent: TorrentHandle) {
        let preferred = if self.settings.prefer_rc4 { Greeting::Encrypted } else { Greeting::Clear };
        let policy = self.settings.out_enc_policy;
        let Some(address) = self.peer(peer).map(|connection| connection.known_as) else { return };
        let known = self.torrent(torrent).and_then(|t| t.candidates.known(address));
        let (retry, greeting) = known.map_or((None, None), |known| (known.retry, known.greeting));
        let Some(connection) = self.peer_mut(peer) else { return };
        connection.is_retry = retry.is_some();
        connection.greeting = match policy {
            EncPolicy::Forced => Greeting::Encrypted,
            EncPolicy::Disabled => Greeting::Clear,
            EncPolicy::Enabled => retry.or(greeting).unwrap_or(preferred),
        };
    }

    /// Whether the peer of a connection that ends may only not have listened to how it was greeted.
    pub(super) fn is_worth_another_greeting(&self, connection: &Connection, closing: Closing) -> bool {
        let went_away =
            [Operation::SOCK_READ, Operation::SOCK_WRITE, Operation::ENCRYPTION].contains(&closing.operation);
        let said_nothing =
            [ErrorCode::NOT_BITTORRENT, ErrorCode::TIMED_OUT_NO_HANDSHAKE].contains(&closing.error);
        self.settings.out_enc_policy == EncPolicy::Enabled
            && connection.outgoing
            && connection.web.is_none()
            && connection.phase == Phase::Handshaking
            && !connection.is_retry
            && (went_away || said_nothing)
    }

    /// Posts a line about the encryption of a connection, if anyone would see it.
    fn log(&mut self, peer: PeerHandle, text: &str) {
        self.peer_log(peer, Direction::Info as u32, "ENCRYPTION", text);
    }

    /// Posts a line of a connection's log, if anyone would see it.
    pub(super) fn peer_log(&mut self, peer: PeerHandle, direction: u32, event: &str, text: &str) {
        if !self.wants_alert(AlertCategory::PEER_LOG) {
            return;
        }
        let Some(connection) = self.peer(peer) else { return };
        let (address, torrent) = (connection.remote, connection.torrent.unwrap_or(TorrentHandle::INVALID));
        let (event, text) = (event.to_owned(), text.to_owned());
        self.alert(AlertKind::PeerLog { torrent, peer, address, direction, event, text });
    }
}

/// What plugins and alerts are told of a failure.
fn error_code(failure: Failure) -> ErrorCode {
    match failure {
        Failure::DegenerateKey => ErrorCode::INVALID_ENCRYPT_HANDSHAKE,
        Failure::SyncNotFound => ErrorCode::SYNC_HASH_NOT_FOUND,
        Failure::UnknownTorrent => ErrorCode::INVALID_INFO_HASH,
        Failure::WrongConstant => ErrorCode::INVALID_ENCRYPTION_CONSTANT,
        Failure::PadTooLong => ErrorCode::INVALID_PAD_SIZE,
        Failure::NothingInCommon => ErrorCode::UNSUPPORTED_ENCRYPTION_MODE,
        Failure::NotOffered => ErrorCode::UNSUPPORTED_ENCRYPTION_MODE_SELECTED,
    }
}
