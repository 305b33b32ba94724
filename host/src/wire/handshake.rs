//! The sixty-eight bytes that open a connection (BEP 3).

use std::fmt;
use std::ops::BitOr;

/// Bytes of a whole handshake.
pub const HANDSHAKE_LEN: usize = 68;

/// Bytes up to the end of the info-hash: what an acceptor must have read to know which torrent is meant.
pub(super) const INFO_HASH_END: usize = 48;

/// The length of the protocol's name, and the name.
pub(super) const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// What each side says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// What the sender can do.
    pub reserved: Reserved,
    /// Which torrent, in the form that the wire has room for (BEP 52 truncates v2).
    pub info_hash: [u8; 20],
    /// Who the sender says it is.
    pub peer_id: [u8; 20],
}

impl Handshake {
    /// The bytes to send.
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut bytes = [0; HANDSHAKE_LEN];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[20..28].copy_from_slice(&self.reserved.0);
        bytes[28..48].copy_from_slice(&self.info_hash);
        bytes[48..].copy_from_slice(&self.peer_id);
        bytes
    }
}

/// The eight reserved bytes: a set of features, joined with `|`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// The extension protocol (BEP 10).
    pub const EXTENSIONS: Self = Self([0, 0, 0, 0, 0, 0x10, 0, 0]);
    /// The fast extension (BEP 6).
    pub const FAST: Self = Self([0, 0, 0, 0, 0, 0, 0, 0x04]);
    /// A DHT node, whose port follows in a message (BEP 5).
    pub const DHT: Self = Self([0, 0, 0, 0, 0, 0, 0, 0x01]);
    /// A hybrid torrent's v2 side is wanted over its v1 name (BEP 52).
    pub const V2: Self = Self([0, 0, 0, 0, 0, 0, 0, 0x10]);

    /// Whether every feature of `other` is here.
    pub fn contains(self, other: Self) -> bool {
        self | other == self
    }
}

impl BitOr for Reserved {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Debug for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reserved({:016x})", u64::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_has_each_part_in_its_place() {
        let reserved = Reserved::EXTENSIONS | Reserved::FAST;
        let bytes = Handshake { reserved, info_hash: [b'h'; 20], peer_id: [b'p'; 20] }.encode();
        let expected =
            [&b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x04"[..], &[b'h'; 20], &[b'p'; 20]].concat();
        assert_eq!(bytes[..], expected);
    }

    #[test]
    fn features_are_told_apart() {
        let both = Reserved::EXTENSIONS | Reserved::DHT;
        assert!(both.contains(Reserved::DHT) && both.contains(both) && both.contains(Reserved::default()));
        assert!(!both.contains(Reserved::FAST) && !both.contains(Reserved::FAST | Reserved::DHT));
        assert_eq!(format!("{both:?}"), "Reserved(0000000000100001)");
    }
}
