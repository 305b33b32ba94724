//! What a torrent is made of, before anything is downloaded: its names, pieces, files and hashes, and where to ask.
//!
//! [`Metainfo`] is a torrent file that has been read and found usable; a [`Magnet`] is a link that names one; a
//! [`Creator`] makes one; a [`Resume`] is what was known of its files last time. Nothing here opens a file.

mod create;
mod description;
mod error;
mod hash;
mod info_v1;
mod layout;
mod magnet;
pub mod resume;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sha1::{Digest, Sha1};

use crate::wire::bencode::{Dict, Document, Limits, Value};

pub use create::{CreateOptions, Creator, NewFile};
pub use description::Description;
pub use error::MetainfoError;
pub use hash::{InfoHashes, PieceDigest, PieceHasher, PieceHashes};
pub use layout::{
    BLOCK_SIZE, BlockSpan, FileEntry, FileLayout, FileSpan, Geometry, MAX_PIECE_LENGTH, PieceIndex,
};
pub use magnet::Magnet;
pub use resume::{Resume, ResumeError};

/// A torrent whose info dictionary is known. What peers need is shared, not copied.
#[derive(Clone)]
pub struct Metainfo {
    info_hashes: InfoHashes,
    info_bytes: Bytes,
    info: info_v1::Info,
    outer: Outer,
}

/// What stands around the info dictionary. None of it is part of the torrent's identity.
#[derive(Clone, Default)]
struct Outer {
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
    http_seeds: Vec<String>,
    dht_nodes: Vec<(String, u16)>,
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
}

impl Metainfo {
    /// Reads a torrent file. What follows its dictionary is ignored, as are keys of the wrong type that one can do
    /// without.
    ///
    /// # Errors
    /// It is not a torrent, or not one that can be downloaded safely; the error says which key or path is at fault.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        let document = Document::parse(bytes, Limits::TORRENT)?;
        let dict = document.dict()?;
        let raw = document.raw(b"info").ok_or(MetainfoError::Missing("info"))?;
        let info = dict.dict(b"info").ok_or(MetainfoError::Missing("info"))?;
        Ok(Self {
            info_hashes: hashes_of(raw),
            info_bytes: Bytes::copy_from_slice(raw),
            info: info_v1::Info::parse(info)?,
            outer: Outer::parse(&dict),
        })
    }

    /// A torrent of which only the info dictionary is known, because peers sent it (BEP 9). Whether it is the right one
    /// is for the caller to check, by [`InfoHashes::verify_v1`].
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_info(info_bytes: Bytes) -> Result<Self, MetainfoError> {
        let info = info_v1::Info::parse(&Document::parse(&info_bytes, Limits::TORRENT)?.dict()?)?;
        Ok(Self { info_hashes: hashes_of(&info_bytes), info_bytes, info, outer: Outer::default() })
    }

    /// With the trackers and web seeds that a link to it names.
    #[must_use]
    pub fn told_by(mut self, magnet: &Magnet) -> Self {
        self.outer.trackers = magnet.trackers.iter().map(|tracker| vec![tracker.clone()]).collect();
        self.outer.web_seeds.clone_from(&magnet.web_seeds);
        self
    }

    /// The torrent's names. Of a hybrid torrent, for now, its v1 name only.
    pub fn info_hashes(&self) -> &InfoHashes {
        &self.info_hashes
    }

    /// The name of the file or of the folder that holds the files.
    pub fn name(&self) -> &str {
        self.info.layout.name()
    }

    /// Files, pieces and blocks.
    pub fn layout(&self) -> &Arc<FileLayout> {
        &self.info.layout
    }

    /// What each piece must hash to.
    pub fn hashes(&self) -> &Arc<PieceHashes> {
        &self.info.hashes
    }

    /// The info dictionary exactly as it was written, for peers that ask for it (BEP 9).
    pub fn info_bytes(&self) -> &Bytes {
        &self.info_bytes
    }

    /// Whether peers may come from the torrent's own trackers only (BEP 27).
    pub fn private(&self) -> bool {
        self.info.private
    }

    /// Tracker URLs in tiers, the first tier to be tried first (BEP 12). No tier is empty.
    pub fn trackers(&self) -> &[Vec<String>] {
        &self.outer.trackers
    }

    /// URLs that serve the files over HTTP (BEP 19).
    pub fn web_seeds(&self) -> &[String] {
        &self.outer.web_seeds
    }

    /// URLs that serve pieces by their number (BEP 17).
    pub fn http_seeds(&self) -> &[String] {
        &self.outer.http_seeds
    }

    /// Hosts and ports of DHT nodes to begin with (BEP 5).
    pub fn dht_nodes(&self) -> &[(String, u16)] {
        &self.outer.dht_nodes
    }

    /// What the author says about it.
    pub fn comment(&self) -> Option<&str> {
        self.outer.comment.as_deref()
    }

    /// The program that made it.
    pub fn created_by(&self) -> Option<&str> {
        self.outer.created_by.as_deref()
    }

    /// When it was made, in seconds since 1970. Any number; nobody has checked it.
    pub fn creation_date(&self) -> Option<i64> {
        self.outer.creation_date
    }

    /// A link to this torrent.
    pub fn magnet(&self) -> Magnet {
        Magnet {
            name: Some(self.name().to_owned()),
            trackers: self.outer.trackers.concat(),
            web_seeds: self.outer.web_seeds.clone(),
            ..Magnet::new(self.info_hashes)
        }
    }
}

/// The name and the info-hash; all pieces would be too much to read.
impl fmt::Debug for Metainfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Metainfo({:?}, {})", self.name(), self.info_hashes)
    }
}

impl Outer {
    fn parse(dict: &Dict<'_>) -> Self {
        Self {
            trackers: trackers(dict),
            web_seeds: urls(dict, b"url-list"),
            http_seeds: urls(dict, b"httpseeds"),
            dht_nodes: dict.list(b"nodes").unwrap_or_default().iter().filter_map(dht_node).collect(),
            comment: text(dict, b"comment"),
            created_by: text(dict, b"created by"),
            creation_date: dict.int(b"creation date"),
        }
    }
}

/// The list has precedence over the single tracker (BEP 12), unless there is nothing in it.
fn trackers(dict: &Dict<'_>) -> Vec<Vec<String>> {
    let tiers = dict.list(b"announce-list").unwrap_or_default().iter();
    let tiers = tiers.map(|tier| tier.list().unwrap_or_default().iter().filter_map(url).collect());
    let mut tiers: Vec<Vec<String>> = tiers.filter(|tier: &Vec<_>| !tier.is_empty()).collect();
    if tiers.is_empty() {
        tiers.extend(dict.get(b"announce").and_then(url).map(|url| vec![url]));
    }
    tiers
}

/// One URL, or a list of them.
fn urls(dict: &Dict<'_>, key: &[u8]) -> Vec<String> {
    match dict.get(key) {
        Some(Value::List(urls)) => urls.iter().filter_map(url).collect(),
        other => other.and_then(url).into_iter().collect(),
    }
}

fn url(value: &Value<'_>) -> Option<String> {
    value.str().map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned)
}

fn dht_node(value: &Value<'_>) -> Option<(String, u16)> {
    let [host, port] = value.list()? else { return None };
    Some((host.str()?.to_owned(), u16::try_from(port.int()?).ok()?))
}

/// Old torrents have their text in some other encoding, and sometimes once more as UTF-8.
fn text(dict: &Dict<'_>, key: &[u8]) -> Option<String> {
    let bytes = dict.bytes(&[key, b".utf-8"].concat()).or_else(|| dict.bytes(key))?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn hashes_of(info: &[u8]) -> InfoHashes {
    InfoHashes::V1(Sha1::digest(info).into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
