//! From bytes to a record.

use std::net::SocketAddr;

use bytes::Bytes;

use super::encode::{FORMAT, OUR_VERSION, VERSION};
use super::{FileStamp, InfoHashes, Look, Resume, ResumeError, Stamps, Unfinished};
use crate::metainfo::Metainfo;
use crate::wire::bencode::{Dict, Document, Limits, Value};
use crate::wire::compact;

/// More peers than this are not taken from a record.
const MOST_PEERS: usize = 2_000;
/// More trackers, or web seeds, than this are not taken from a record.
const MOST_URLS: usize = 1_000;

type Read<T> = Result<T, ResumeError>;

impl Resume {
    /// Reads a record: one of ours, or libtorrent's.
    ///
    /// # Errors
    /// The bytes are damaged or something else; they are of a version that is not known; the info dictionary is not the
    /// torrent's.
    pub fn decode(bytes: &[u8]) -> Result<Self, ResumeError> {
        let document = Document::parse(bytes, Limits::TORRENT)?;
        if !document.rest().is_empty() {
            return Err(ResumeError::Trailing);
        }
        let dict = document.dict()?;
        if dict.str(b"file-format") != Some(FORMAT) {
            return Err(ResumeError::Format);
        }
        match int(&dict, "file-version")? {
            Some(VERSION) => {}
            other => return Err(ResumeError::Version(other.unwrap_or(0))),
        }
        let info_hashes = info_hashes(&dict)?;
        let info = document.raw(b"info").map(|info| own_info(info, &info_hashes)).transpose()?;
        Ok(Self {
            info,
            name: text(&dict, "name")?.unwrap_or_default(),
            save_path: text(&dict, "save_path")?.unwrap_or_default(),
            pieces: bytes_of(&dict, "pieces")?.iter().map(|piece| piece & 1 != 0).collect(),
            unfinished: list(&dict, "unfinished", unfinished)?,
            look: dict.get(b"pilotfish").map(look).transpose()?,
            total_uploaded: count(&dict, "total_uploaded")?,
            total_downloaded: count(&dict, "total_downloaded")?,
            added_time: int(&dict, "added_time")?.unwrap_or(0),
            completed_time: int(&dict, "completed_time")?.unwrap_or(0),
            piece_priorities: bytes_of(&dict, "piece_priority")?.iter().map(|p| (*p).min(7)).collect(),
            file_priorities: list(&dict, "file_priority", priority)?,
            peers: peers(&dict, ["peers", "peers6"])?,
            banned_peers: peers(&dict, ["banned_peers", "banned_peers6"])?
                .iter()
                .map(SocketAddr::ip)
                .collect(),
            trackers: trackers(&dict)?,
            web_seeds: list(&dict, "url-list", |url| url.str().map(str::to_owned))?
                .into_iter()
                .take(MOST_URLS)
                .collect(),
            paused: flag(&dict, "paused")?,
            sequential_download: flag(&dict, "sequential_download")?,
            ..Self::new(info_hashes)
        })
    }
}

/// libtorrent writes zeros for a hash that the torrent does not have.
fn info_hashes(dict: &Dict<'_>) -> Read<InfoHashes> {
    let (v1, v2) = (bytes_of(dict, "info-hash")?, bytes_of(dict, "info-hash2")?);
    let is_set = |bytes: &&[u8]| bytes.iter().any(|byte| *byte != 0);
    let v1 = Some(v1).filter(is_set).map(<[u8; 20]>::try_from).transpose();
    let v2 = Some(v2).filter(is_set).map(<[u8; 32]>::try_from).transpose();
    match (
        v1.map_err(|_| ResumeError::Invalid("info-hash"))?,
        v2.map_err(|_| ResumeError::Invalid("info-hash2"))?,
    ) {
        (Some(v1), Some(v2)) => Ok(InfoHashes::Hybrid { v1, v2 }),
        (Some(v1), None) => Ok(InfoHashes::V1(v1)),
        (None, Some(v2)) => Ok(InfoHashes::V2(v2)),
        (None, None) => Err(ResumeError::Missing("info-hash")),
    }
}

/// The info dictionary, if it is the one that the torrent is named after and can be used.
fn own_info(info: &[u8], info_hashes: &InfoHashes) -> Read<Bytes> {
    if info_hashes.verify_v1(info) == Some(false) {
        return Err(ResumeError::Invalid("info"));
    }
    let info = Bytes::copy_from_slice(info);
    Metainfo::from_info(info.clone())?;
    Ok(info)
}

/// Our own part.
fn look(ours: &Value<'_>) -> Read<Look> {
    let ours = ours.dict().ok_or(ResumeError::Invalid("pilotfish"))?;
    match int(ours, "version")? {
        Some(OUR_VERSION) => {}
        other => return Err(ResumeError::Version(other.unwrap_or(0))),
    }
    let (files, open) = (list(ours, "files", stamp)?, list(ours, "open", |at| at.int())?);
    let at = int(ours, "at")?.ok_or(ResumeError::Missing("at"))?;
    Ok(Look { stamps: Stamps { at, boot: text(ours, "boot")?, files }, open })
}

fn stamp(file: &Value<'_>) -> Option<Option<FileStamp>> {
    match file.list()? {
        [] => Some(None),
        [size, mtime] => {
            Some(Some(FileStamp { size: u64::try_from(size.int()?).ok()?, mtime: mtime.int()? }))
        }
        _ => None,
    }
}

fn unfinished(piece: &Value<'_>) -> Option<Unfinished> {
    let dict = piece.dict()?;
    let piece = u32::try_from(dict.int(b"piece")?).ok()?;
    Some(Unfinished { piece, bitmask: dict.bytes(b"bitmask")?.to_vec() })
}

fn priority(value: &Value<'_>) -> Option<u8> {
    u8::try_from(value.int()?).ok().map(|priority| priority.min(7))
}

fn trackers(dict: &Dict<'_>) -> Read<Vec<Vec<String>>> {
    let tier = |tier: &Value<'_>| -> Option<Vec<String>> {
        tier.list()?.iter().map(|url| url.str().map(str::to_owned)).collect()
    };
    let mut tiers = list(dict, "trackers", tier)?;
    tiers.retain(|tier: &Vec<_>| !tier.is_empty());
    tiers.truncate(MOST_URLS);
    tiers.iter_mut().for_each(|tier| tier.truncate(MOST_URLS));
    Ok(tiers)
}

fn peers(dict: &Dict<'_>, [v4, v6]: [&'static str; 2]) -> Read<Vec<SocketAddr>> {
    let (v4, v6) = (bytes_of(dict, v4)?, bytes_of(dict, v6)?);
    let v4 = compact::decode_v4(v4).map(SocketAddr::from);
    Ok(v4.chain(compact::decode_v6(v6).map(SocketAddr::from)).take(MOST_PEERS).collect())
}

/// What each item of a list is read as; none of them may be something else.
fn list<T>(dict: &Dict<'_>, key: &'static str, item: impl Fn(&Value<'_>) -> Option<T>) -> Read<Vec<T>> {
    let Some(value) = dict.get(key.as_bytes()) else { return Ok(Vec::new()) };
    let items = value.list().and_then(|items| items.iter().map(item).collect());
    items.ok_or(ResumeError::Invalid(key))
}

fn bytes_of<'a>(dict: &Dict<'a>, key: &'static str) -> Read<&'a [u8]> {
    match dict.get(key.as_bytes()) {
        Some(value) => value.bytes().ok_or(ResumeError::Invalid(key)),
        None => Ok(&[]),
    }
}

fn text(dict: &Dict<'_>, key: &'static str) -> Read<Option<String>> {
    match dict.get(key.as_bytes()) {
        Some(value) => {
            let bytes = value.bytes().ok_or(ResumeError::Invalid(key))?;
            Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
        }
        None => Ok(None),
    }
}

fn int(dict: &Dict<'_>, key: &'static str) -> Read<Option<i64>> {
    match dict.get(key.as_bytes()) {
        Some(value) => value.int().map(Some).ok_or(ResumeError::Invalid(key)),
        None => Ok(None),
    }
}

fn flag(dict: &Dict<'_>, key: &'static str) -> Read<bool> {
    Ok(int(dict, key)?.unwrap_or(0) != 0)
}

fn count(dict: &Dict<'_>, key: &'static str) -> Read<u64> {
    u64::try_from(int(dict, key)?.unwrap_or(0)).map_err(|_| ResumeError::Invalid(key))
}
