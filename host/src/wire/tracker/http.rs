//! HTTP trackers: the question as a URL (BEP 3, 7, 23), the answer as bencoding (BEP 24, 31, 48).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    AnnounceReply, AnnounceRequest, LONGEST_TEXT, MOST_PEERS, Retry, ScrapeReply, TrackerError, seconds, text,
};
use crate::wire::bencode::{Dict, Document, Limits, Value};
use crate::wire::compact;

/// The URL that asks `url` for this.
pub fn announce_url(url: &str, request: &AnnounceRequest) -> String {
    let mut query = Query::of(url);
    query.bytes("info_hash", &request.info_hash);
    query.bytes("peer_id", &request.peer_id);
    query.number("port", request.port.into());
    query.number("uploaded", request.uploaded);
    query.number("downloaded", request.downloaded);
    query.number("left", request.left);
    query.number("corrupt", request.corrupt);
    query.text("key", format_args!("{:08X}", request.key));
    if !request.event.name().is_empty() {
        query.text("event", format_args!("{}", request.event.name()));
    }
    query.number("numwant", request.num_want.into());
    query.number("compact", 1);
    query.number("no_peer_id", 1);
    if let Some(id) = &request.trackerid {
        query.bytes("trackerid", id);
    }
    query.url
}

/// The URL that asks `url`, which is one for scraping, for one torrent.
pub fn scrape_url(url: &str, info_hash: &[u8; 20]) -> String {
    let mut query = Query::of(url);
    query.bytes("info_hash", info_hash);
    query.url
}

/// Reads the answer to an announce.
///
/// # Errors
/// The tracker refuses; or the bytes are no answer.
pub fn parse_announce(body: &[u8]) -> Result<AnnounceReply, TrackerError> {
    let document = Document::parse(body, Limits::MESSAGE)?;
    let dict = document.dict()?;
    refusal(&dict)?;
    let peers = peers(&dict);
    let (interval, known) = (dict.int(b"interval"), dict.get(b"peers").or_else(|| dict.get(b"peers6")));
    if interval.is_none() && known.is_none() {
        return Err(TrackerError::Missing("peers"));
    }
    Ok(AnnounceReply {
        interval: interval.and_then(seconds),
        min_interval: dict.int(b"min interval").and_then(seconds),
        trackerid: dict.bytes(b"tracker id").filter(|id| id.len() <= LONGEST_TEXT).map(<[u8]>::to_vec),
        complete: count(&dict, b"complete"),
        incomplete: count(&dict, b"incomplete"),
        downloaded: count(&dict, b"downloaded"),
        peers,
        external_ip: dict.bytes(b"external ip").and_then(address),
        warning: dict.bytes(b"warning message").map(text).filter(|text| !text.is_empty()),
    })
}

/// Reads the answer to a scrape of one torrent.
///
/// # Errors
/// The tracker refuses, or does not know the torrent; or the bytes are no answer.
pub fn parse_scrape(body: &[u8], info_hash: &[u8; 20]) -> Result<ScrapeReply, TrackerError> {
    let document = Document::parse(body, Limits::MESSAGE)?;
    let dict = document.dict()?;
    refusal(&dict)?;
    let files = dict.dict(b"files").ok_or(TrackerError::Missing("files"))?;
    let file = files.dict(info_hash).ok_or(TrackerError::Missing("such torrent"))?;
    Ok(ScrapeReply {
        complete: count(file, b"complete"),
        incomplete: count(file, b"incomplete"),
        downloaded: count(file, b"downloaded"),
    })
}

fn refusal(dict: &Dict<'_>) -> Result<(), TrackerError> {
    let Some(reason) = dict.bytes(b"failure reason") else { return Ok(()) };
    let retry = match dict.get(b"retry in") {
        Some(Value::Bytes(b"never")) => Retry::Never,
        Some(value) => value
            .int()
            .and_then(|minutes| seconds(minutes.checked_mul(60)?))
            .map_or(Retry::Unsaid, Retry::After),
        None => Retry::Unsaid,
    };
    Err(TrackerError::Refused { reason: text(reason), retry })
}

/// IPv4 peers in either form, then IPv6 peers.
fn peers(dict: &Dict<'_>) -> Vec<SocketAddr> {
    let v4 = dict.bytes(b"peers").map(compact::decode_v4);
    let v6 = dict.bytes(b"peers6").map(compact::decode_v6);
    let long = dict.list(b"peers").unwrap_or_default().iter().filter_map(long_peer);
    let v4 = v4.into_iter().flatten().map(SocketAddr::V4);
    let v6 = v6.into_iter().flatten().map(SocketAddr::V6);
    v4.chain(long).chain(v6).filter(|peer| peer.port() != 0).take(MOST_PEERS).collect()
}

/// A peer as a dictionary (BEP 3). A host name is not looked up, and so no peer.
fn long_peer(value: &Value<'_>) -> Option<SocketAddr> {
    let dict = value.dict()?;
    let ip: IpAddr = dict.str(b"ip")?.parse().ok()?;
    Some(SocketAddr::new(ip, u16::try_from(dict.int(b"port")?).ok()?))
}

/// An address as bytes (BEP 24), or as the text that some trackers write.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(|ip| IpAddr::V4(Ipv4Addr::from(ip)));
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(|ip| IpAddr::V6(Ipv6Addr::from(ip)));
    let written = || str::from_utf8(bytes).ok()?.parse().ok();
    v4.or_else(v6).or_else(written)
}

fn count(dict: &Dict<'_>, key: &[u8]) -> Option<u32> {
    dict.int(key).and_then(|count| u32::try_from(count).ok())
}

/// A URL that grows.
struct Query {
    url: String,
}

impl Query {
    fn of(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    fn key(&mut self, key: &str) {
        let separator = match self.url.find('?') {
            None => "?",
            Some(_) if self.url.ends_with(['?', '&']) => "",
            Some(_) => "&",
        };
        self.url.extend([separator, key, "="]);
    }

    fn number(&mut self, key: &str, number: u64) {
        self.text(key, format_args!("{number}"));
    }

    fn text(&mut self, key: &str, text: std::fmt::Arguments<'_>) {
        self.key(key);
        // A string takes whatever is written to it.
        let _ = self.url.write_fmt(text);
    }

    fn bytes(&mut self, key: &str, bytes: &[u8]) {
        self.key(key);
        for byte in bytes {
            let _ = match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    self.url.write_char(char::from(*byte))
                }
                _ => write!(self.url, "%{byte:02X}"),
            };
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
