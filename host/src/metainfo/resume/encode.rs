//! From a record to bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{FileStamp, Look, Resume};
use crate::wire::bencode::{Dict, Value};
use crate::wire::compact;

/// libtorrent's word, by which it knows its own.
pub(super) const FORMAT: &str = "libtorrent resume file";
/// libtorrent's version of the format.
pub(super) const VERSION: i64 = 1;
/// The version of our part of it.
pub(super) const OUR_VERSION: i64 = 1;

/// Keys, each with its bencoded value: the info dictionary has to stay as it was written, and so is never taken apart.
#[derive(Default)]
struct Pairs(BTreeMap<&'static str, Vec<u8>>);

impl Pairs {
    fn put<'a>(&mut self, key: &'static str, value: impl Into<Value<'a>>) {
        self.0.insert(key, value.into().encode());
    }

    fn put_count(&mut self, key: &'static str, count: u64) {
        self.put(key, i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn into_bytes(self) -> Vec<u8> {
        let mut bytes = vec![b'd'];
        for (key, value) in self.0 {
            bytes.extend(format!("{}:{key}", key.len()).bytes());
            bytes.extend(value);
        }
        bytes.push(b'e');
        bytes
    }
}

impl Resume {
    /// The bencoded bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut pairs = Pairs::default();
        pairs.put("file-format", FORMAT);
        pairs.put("file-version", VERSION);
        if let Some(v1) = self.info_hashes.v1() {
            pairs.put("info-hash", &v1[..]);
        }
        if let Some(v2) = self.info_hashes.v2() {
            pairs.put("info-hash2", &v2[..]);
        }
        pairs.put("name", self.name.as_str());
        pairs.put("save_path", self.save_path.as_str());
        if let Some(info) = &self.info {
            pairs.0.insert("info", info.to_vec());
        }
        self.put_pieces(&mut pairs);
        self.put_peers(&mut pairs);
        let tiers = self.trackers.iter().map(|tier| texts(tier)).collect::<Vec<_>>();
        pairs.put("trackers", tiers);
        pairs.put("url-list", texts(&self.web_seeds));
        pairs.put_count("total_uploaded", self.total_uploaded);
        pairs.put_count("total_downloaded", self.total_downloaded);
        pairs.put("added_time", self.added_time);
        pairs.put("completed_time", self.completed_time);
        pairs.put("paused", i64::from(self.paused));
        pairs.put("sequential_download", i64::from(self.sequential_download));
        if let Some(look) = &self.look {
            pairs.put("pilotfish", ours(look));
        }
        pairs.into_bytes()
    }

    fn put_pieces(&self, pairs: &mut Pairs) {
        let pieces: Vec<u8> = self.pieces.iter().map(|had| u8::from(*had)).collect();
        pairs.put("pieces", pieces.as_slice());
        let unfinished = self.unfinished.iter().map(|unfinished| {
            Value::from(Dict::from_iter([
                (&b"piece"[..], Value::from(i64::from(unfinished.piece))),
                (&b"bitmask"[..], Value::from(unfinished.bitmask.as_slice())),
            ]))
        });
        if !self.unfinished.is_empty() {
            pairs.put("unfinished", unfinished.collect::<Vec<_>>());
        }
        if !self.piece_priorities.is_empty() {
            pairs.put("piece_priority", self.piece_priorities.as_slice());
        }
        if !self.file_priorities.is_empty() {
            let priorities = self.file_priorities.iter().map(|priority| i64::from(*priority).into());
            pairs.put("file_priority", priorities.collect::<Vec<Value<'_>>>());
        }
    }

    fn put_peers(&self, pairs: &mut Pairs) {
        let banned: Vec<SocketAddr> = self.banned_peers.iter().map(|ip| (*ip, 0).into()).collect();
        for (keys, peers) in
            [(["peers", "peers6"], &self.peers), (["banned_peers", "banned_peers6"], &banned)]
        {
            for (key, v6) in keys.into_iter().zip([false, true]) {
                let mut bytes = Vec::new();
                let of_family = peers.iter().filter(|peer| peer.is_ipv6() == v6);
                of_family.for_each(|peer| compact::encode(*peer, &mut bytes));
                if !bytes.is_empty() {
                    pairs.put(key, bytes.as_slice());
                }
            }
        }
    }
}

fn texts(texts: &[String]) -> Value<'_> {
    Value::List(texts.iter().map(|text| text.as_str().into()).collect())
}

/// What libtorrent does not have.
fn ours(look: &Look) -> Value<'_> {
    let stamp = |stamp: &Option<FileStamp>| match stamp {
        Some(FileStamp { size, mtime }) => vec![Value::Int((*size).into()), Value::Int((*mtime).into())],
        None => Vec::new(),
    };
    let files: Vec<Value<'_>> = look.stamps.files.iter().map(|file| stamp(file).into()).collect();
    let open: Vec<Value<'_>> = look.open.iter().map(|at| (*at).into()).collect();
    let mut pairs: Vec<(&[u8], Value<'_>)> = vec![
        (b"version", OUR_VERSION.into()),
        (b"at", look.stamps.at.into()),
        (b"files", files.into()),
        (b"open", open.into()),
    ];
    pairs.extend(look.stamps.boot.as_ref().map(|boot| (&b"boot"[..], boot.as_str().into())));
    Dict::from_iter(pairs).into()
}
