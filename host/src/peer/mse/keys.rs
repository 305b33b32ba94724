//! RC4 as this protocol uses it, and what its keys are made of.

use rc4::{KeyInit, StreamCipher};
use sha1::{Digest, Sha1};

use super::exchange::KEY_LEN;

/// So much of the key stream is thrown away: its first bytes give the key away.
const DROPPED: usize = 1024;

/// One direction's key stream, at some place.
pub struct Rc4(rc4::Rc4);

impl Rc4 {
    /// At the place where the protocol begins to use it.
    pub fn new(key: &[u8; 20]) -> Self {
        // A key may have from 1 to 256 bytes.
        let mut cipher =
            rc4::Rc4::new_from_slice(key).unwrap_or_else(|_| unreachable!("twenty bytes are a key"));
        cipher.apply_keystream(&mut [0; DROPPED]);
        Self(cipher)
    }

    /// Encrypts, or decrypts, what comes next.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        self.0.apply_keystream(bytes);
    }
}

impl std::fmt::Debug for Rc4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rc4")
    }
}

/// The keys of a connection, as plugins' ciphers are told them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// For what we receive.
    pub incoming: [u8; 20],
    /// For what we send.
    pub outgoing: [u8; 20],
}

impl Keys {
    /// Of a secret and a torrent's info-hash. `initiator`: we opened the connection.
    pub(super) fn new(secret: &[u8; KEY_LEN], info_hash: &[u8; 20], initiator: bool) -> Self {
        let [a, b] = [b"keyA", b"keyB"].map(|name| hash(name, &[secret, info_hash]));
        if initiator { Self { incoming: b, outgoing: a } } else { Self { incoming: a, outgoing: b } }
    }
}

/// What stands for a torrent in the handshake, before that is hidden once more.
pub fn obfuscated(info_hash: &[u8; 20]) -> [u8; 20] {
    hash(b"req2", &[info_hash])
}

/// The hash of a word and what follows it.
pub(super) fn hash(word: &[u8; 4], parts: &[&[u8]]) -> [u8; 20] {
    let mut hasher = Sha1::new_with_prefix(word);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// RFC 6229 has the key stream of this key from byte 1024 on.
    #[test]
    fn the_first_kibibyte_of_the_key_stream_is_thrown_away() {
        let key: [u8; 16] = std::array::from_fn(|i| i as u8 + 1);
        let mut cipher = rc4::Rc4::new_from_slice(&key).unwrap();
        let mut stream = [0; 1040];
        cipher.apply_keystream(&mut stream);
        assert_eq!(
            stream[1024..],
            [0xbd, 0xf0, 0x32, 0x4e, 0x60, 0x83, 0xdc, 0xc6, 0xd3, 0xce, 0xdd, 0x3c, 0xa8, 0xc5, 0x3c, 0x16]
        );
        let key = [7; 20];
        let (mut whole, mut ours) = ([0; 1100], [0; 76]);
        rc4::Rc4::new_from_slice(&key).unwrap().apply_keystream(&mut whole);
        Rc4::new(&key).apply(&mut ours);
        assert_eq!(ours[..], whole[1024..]);
    }

    #[test]
    fn what_one_sends_with_the_other_receives_with() {
        let (secret, info_hash) = ([3; KEY_LEN], [5; 20]);
        let [one, other] = [true, false].map(|initiator| Keys::new(&secret, &info_hash, initiator));
        assert_eq!((one.incoming, one.outgoing), (other.outgoing, other.incoming));
        assert_ne!(one.incoming, one.outgoing);
    }
}
