//! What may be asked of the DHT.

use std::net::SocketAddr;

/// The longest value, in bytes (BEP 44).
pub const LONGEST_VALUE: usize = 1_000;
/// The longest salt, in bytes (BEP 44).
pub const LONGEST_SALT: usize = 64;

/// One request to the DHT. What comes of it is told by alerts. Nothing comes of it while there is no DHT.
#[derive(Debug)]
pub enum DhtCommand {
    /// Somebody is a node (libtorrent's `add_dht_node`).
    AddNode {
        /// Its host: a name, or an address as text.
        host: String,
        /// Its UDP port.
        port: u16,
    },
    /// Looks for peers of a torrent, and with `announce` announces us as one.
    GetPeers {
        /// The torrent.
        info_hash: [u8; 20],
        /// Where our peers connect to; 0 is the port that we listen on.
        announce: Option<u16>,
    },
    /// Asks how many peers a torrent has (BEP 33).
    Scrape([u8; 20]),
    /// Looks for an immutable item.
    GetImmutable([u8; 20]),
    /// Looks for a mutable item.
    GetMutable {
        /// Its owner's public key.
        key: [u8; 32],
        /// Tells several items of one key apart.
        salt: Vec<u8>,
    },
    /// Asks a node a question in the program's own words.
    DirectRequest {
        /// Whom.
        to: SocketAddr,
        /// The bencoded message: at least `q`; what every question has is added.
        query: Vec<u8>,
        /// Comes back with the answer.
        userdata: u64,
    },
    /// Asks a node for some of the torrents that it knows of (BEP 51).
    SampleInfohashes {
        /// Whom.
        to: SocketAddr,
        /// And for nodes that are close to this place.
        target: [u8; 20],
    },
}

/// A value that is to be stored (BEP 44).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhtItem {
    /// Found by its hash.
    Immutable(Vec<u8>),
    /// Found by its owner's key.
    Mutable(MutableItem),
}

/// A mutable item that is to be stored, or replaced. Its number is one more than that of what is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutableItem {
    /// Its owner's secret.
    pub secret: SecretKey,
    /// Tells several items of one owner apart; at most 64 bytes.
    pub salt: Vec<u8>,
    /// A bencoded value of at most 1000 bytes.
    pub value: Vec<u8>,
}

/// An Ed25519 seed: whoever has it owns the items of its key.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(pub [u8; 32]);

/// It says nothing of itself.
impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey")
    }
}

/// Why an item is not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DhtItemError {
    /// It is too long.
    #[error("an item has at most {LONGEST_VALUE} bytes, not {0}")]
    TooLong(usize),
    /// The salt is too long.
    #[error("a salt has at most {LONGEST_SALT} bytes, not {0}")]
    SaltTooLong(usize),
    /// It is not one bencoded value in its only right form.
    #[error("an item is one bencoded value, with the keys of dictionaries in order")]
    NotBencoded,
    /// The DHT is switched off, or the session listens on no address.
    #[error("there is no DHT to store it in")]
    NoDht,
}
