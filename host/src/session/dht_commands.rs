//! What a program can ask of the DHT (BEP 5, 33, 44, 51).

use std::net::SocketAddr;

use super::{Session, SessionError};
use crate::command::{Answer, Command, DhtCommand, DhtItem, MutableItem};

impl Session {
    /// Somebody is a node of the DHT: `host` is a name or an address. What comes of this and the following, alerts tell
    /// (those whose names begin with `Dht`); nothing does while there is no DHT.
    pub fn add_dht_node(&self, host: &str, port: u16) {
        self.tell(Command::Dht(DhtCommand::AddNode { host: host.to_owned(), port }));
    }

    /// Looks for peers of a torrent in the DHT, whether it is one of the session's or not.
    pub fn dht_get_peers(&self, info_hash: [u8; 20]) {
        self.tell(Command::Dht(DhtCommand::GetPeers { info_hash, announce: None }));
    }

    /// Announces a peer of a torrent on this machine's address in the DHT; port 0 is the one that the session listens on.
    /// Torrents of the session are announced anyway, unless they are private.
    pub fn dht_announce(&self, info_hash: [u8; 20], port: u16) {
        self.tell(Command::Dht(DhtCommand::GetPeers { info_hash, announce: Some(port) }));
    }

    /// Asks how many peers a torrent has, by the DHT (BEP 33): [`DhtScrapeReply`](crate::alert::AlertKind::DhtScrapeReply)
    /// tells, for each address family that we listen on.
    pub fn dht_scrape(&self, info_hash: [u8; 20]) {
        self.tell(Command::Dht(DhtCommand::Scrape(info_hash)));
    }

    /// Looks for an immutable item (BEP 44): [`DhtImmutableItem`](crate::alert::AlertKind::DhtImmutableItem) tells of it.
    pub fn dht_get_item(&self, target: [u8; 20]) {
        self.tell(Command::Dht(DhtCommand::GetImmutable(target)));
    }

    /// Looks for a mutable item, by its owner's key and a salt (BEP 44):
    /// [`DhtMutableItem`](crate::alert::AlertKind::DhtMutableItem) tells of it.
    pub fn dht_get_mutable_item(&self, key: [u8; 32], salt: &[u8]) {
        self.tell(Command::Dht(DhtCommand::GetMutable { key, salt: salt.to_owned() }));
    }

    /// Stores a bencoded value, and returns where it will be found (BEP 44).
    ///
    /// # Errors
    /// It cannot be stored; or the session has ended.
    pub fn dht_put_item(&self, value: Vec<u8>) -> Result<[u8; 20], SessionError> {
        self.dht_put(DhtItem::Immutable(value))
    }

    /// Stores a value of which `item.secret` is the owner, in the place of the one that is there (BEP 44).
    ///
    /// # Errors
    /// It cannot be stored; or the session has ended.
    pub fn dht_put_mutable_item(&self, item: MutableItem) -> Result<[u8; 20], SessionError> {
        self.dht_put(DhtItem::Mutable(item))
    }

    fn dht_put(&self, item: DhtItem) -> Result<[u8; 20], SessionError> {
        match self.ask(|ticket| Command::DhtPut(ticket, item))? {
            Answer::Stored(stored) => Ok(stored?),
            _ => Err(SessionError::Closed),
        }
    }

    /// Asks a DHT node a question in the program's own words: a bencoded dictionary with at least `q`. The answer comes as
    /// [`DhtDirectResponse`](crate::alert::AlertKind::DhtDirectResponse), with `userdata`.
    pub fn dht_direct_request(&self, to: SocketAddr, query: Vec<u8>, userdata: u64) {
        self.tell(Command::Dht(DhtCommand::DirectRequest { to, query, userdata }));
    }

    /// Asks a DHT node for some of the torrents that it knows of (BEP 51), and for nodes close to `target`.
    pub fn dht_sample_infohashes(&self, to: SocketAddr, target: [u8; 20]) {
        self.tell(Command::Dht(DhtCommand::SampleInfohashes { to, target }));
    }
}
