//! Magnet links (BEP 9, BEP 53): a torrent's name, and hints where to find its info dictionary.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::error::excerpt;
use super::{InfoHashes, MetainfoError};

/// A link to a torrent. Only the info-hash is certain; everything else is a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    /// `xt`: which torrent.
    pub info_hashes: InfoHashes,
    /// `dn`: what to call it until its own name is known.
    pub name: Option<String>,
    /// `tr`: tracker URLs, each a tier of its own.
    pub trackers: Vec<String>,
    /// `ws`: URLs that serve the files over HTTP (BEP 19).
    pub web_seeds: Vec<String>,
    /// `x.pe`: peers to connect to. Host names are not looked up, and so left out.
    pub peers: Vec<SocketAddr>,
    /// `so`: the indices of the only files that are wanted (BEP 53). Empty if all are.
    pub select_only: Vec<RangeInclusive<u32>>,
}

impl Magnet {
    /// A link with nothing but the name.
    pub fn new(info_hashes: InfoHashes) -> Self {
        Self {
            info_hashes,
            name: None,
            trackers: Vec::new(),
            web_seeds: Vec::new(),
            peers: Vec::new(),
            select_only: Vec::new(),
        }
    }

    /// Reads a link. What is unknown or malformed besides the info-hash is ignored.
    ///
    /// # Errors
    /// It is not a magnet link, names no torrent, or names one by something that is not an info-hash.
    pub fn parse(link: &str) -> Result<Self, MetainfoError> {
        const SCHEME: &str = "magnet:?";
        let scheme = link.get(..SCHEME.len()).filter(|scheme| scheme.eq_ignore_ascii_case(SCHEME));
        let query = &link[scheme.ok_or(MetainfoError::NotAMagnet)?.len()..];
        let (mut v1, mut v2) = (None, None);
        // The name is only known at the end; this one is replaced.
        let mut magnet = Self::new(InfoHashes::V1([0; 20]));
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = percent_decoded(value);
            // Repeated keys are sometimes numbered: `tr.1`, `tr.2`.
            match key.split_once('.').map_or(key, |(name, number)| match number.parse::<u32>() {
                Ok(_) => name,
                Err(_) => key,
            }) {
                "xt" => match topic(&value)? {
                    Some(Topic::V1(hash)) => v1 = v1.or(Some(hash)),
                    Some(Topic::V2(hash)) => v2 = v2.or(Some(hash)),
                    None => {}
                },
                "dn" if !value.is_empty() => magnet.name = Some(value),
                "tr" if !value.is_empty() => magnet.trackers.push(value),
                "ws" if !value.is_empty() => magnet.web_seeds.push(value),
                "x.pe" => magnet.peers.extend(value.parse::<SocketAddr>()),
                "so" => magnet.select_only.extend(value.split(',').filter_map(file_range)),
                _ => {}
            }
        }
        magnet.info_hashes = match (v1, v2) {
            (Some(v1), Some(v2)) => InfoHashes::Hybrid { v1, v2 },
            (Some(v1), None) => InfoHashes::V1(v1),
            (None, Some(v2)) => InfoHashes::V2(v2),
            (None, None) => return Err(MetainfoError::NoInfoHash),
        };
        Ok(magnet)
    }
}

impl FromStr for Magnet {
    type Err = MetainfoError;

    fn from_str(link: &str) -> Result<Self, MetainfoError> {
        Self::parse(link)
    }
}

/// The link itself.
impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("magnet:?")?;
        if let Some(v1) = self.info_hashes.v1() {
            write!(f, "xt=urn:btih:{}", InfoHashes::V1(*v1))?;
        }
        if let Some(v2) = self.info_hashes.v2() {
            let separator = if self.info_hashes.v1().is_some() { "&" } else { "" };
            write!(f, "{separator}xt=urn:btmh:1220{}", InfoHashes::V2(*v2))?;
        }
        let texts = self.name.iter().map(|name| ("dn", name));
        let texts = texts.chain(self.trackers.iter().map(|url| ("tr", url)));
        for (key, text) in texts.chain(self.web_seeds.iter().map(|url| ("ws", url))) {
            write!(f, "&{key}=")?;
            write_percent_encoded(f, text)?;
        }
        self.peers.iter().try_for_each(|peer| write!(f, "&x.pe={peer}"))?;
        for (index, range) in self.select_only.iter().enumerate() {
            f.write_str(if index == 0 { "&so=" } else { "," })?;
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{first}")?,
                (first, last) => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

enum Topic {
    V1([u8; 20]),
    V2([u8; 32]),
}

/// What `xt` names; `None` if it is something else than a torrent.
fn topic(urn: &str) -> Result<Option<Topic>, MetainfoError> {
    let value_of = |prefix: &str| {
        let found = urn.get(..prefix.len())?;
        found.eq_ignore_ascii_case(prefix).then(|| &urn[prefix.len()..])
    };
    let (hash, decoded) = if let Some(hash) = value_of("urn:btih:") {
        (hash, hex(hash).or_else(|| base32(hash)).map(Topic::V1))
    } else if let Some(hash) = value_of("urn:btmh:") {
        // A multihash: the code of SHA-256, its length of 32 bytes, then the hash.
        (hash, hash.strip_prefix("1220").and_then(hex).map(Topic::V2))
    } else {
        return Ok(None);
    };
    decoded.map(Some).ok_or_else(|| MetainfoError::BadInfoHash(excerpt(hash)))
}

fn hex<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let bytes = pairs.iter().map(|&[high, low]| u8::try_from(digit(high)? << 4 | digit(low)?).ok());
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// Base 32 (RFC 4648), of which only the form of an info-hash occurs: 32 digits.
fn base32(digits: &str) -> Option<[u8; 20]> {
    let (groups, []) = digits.as_bytes().as_chunks::<8>() else { return None };
    let mut bytes = Vec::with_capacity(20);
    for group in groups {
        let group = group.iter().try_fold(0_u64, |group, &digit| {
            let value = match digit.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                number @ b'2'..=b'7' => number - b'2' + 26,
                _ => return None,
            };
            Some(group << 5 | u64::from(value))
        })?;
        bytes.extend_from_slice(&group.to_be_bytes()[3..]);
    }
    bytes.try_into().ok()
}

/// `7`, or `2-5` with both ends included.
fn file_range(part: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

/// A `%` that does not introduce two digits stands for itself.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped =
            (byte == b'%').then(|| str::from_utf8(tail.get(..2)?).ok().and_then(hex::<1>)).flatten();
        match (byte, escaped) {
            (_, Some([escaped])) => {
                bytes.push(escaped);
                rest = &tail[2..];
                continue;
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(byte),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn write_percent_encoded(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    text.bytes().try_for_each(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => f.write_char(byte.into()),
        _ => write!(f, "%{byte:02X}"),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "0123456789abcdef0123456789ABCDEF01234567";

    #[test]
    fn hex_and_base32_name_the_same_torrent() {
        let hex = Magnet::parse(&format!("magnet:?xt=urn:btih:{HEX}")).unwrap();
        let base32 = Magnet::parse("MAGNET:?xt=URN:BTIH:AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH").unwrap();
        assert_eq!(hex, base32);
        assert_eq!(hex.info_hashes.to_string(), HEX.to_lowercase());
    }

    #[test]
    fn every_hint_is_read() {
        let v2 = "ab".repeat(32);
        let link = format!(
            "magnet:?xt=urn:ed2k:x&xt.1=urn:btih:{HEX}&xt.2=urn:btmh:1220{v2}&dn=a+b%20c%zz&tr=udp%3A%2F%2Ft%3A1\
             &tr.7=http://u/&ws=http://w/&x.pe=1.2.3.4:5&x.pe=[::1]:6&x.pe=host:7&so=0,2-4,x,9-8&other&=&xl=5"
        );
        let magnet = Magnet::parse(&link).unwrap();
        assert!(matches!(magnet.info_hashes, InfoHashes::Hybrid { v2: [0xab, ..], .. }));
        assert_eq!(magnet.name.as_deref(), Some("a b c%zz"));
        assert_eq!(magnet.trackers, ["udp://t:1", "http://u/"]);
        assert_eq!(magnet.web_seeds, ["http://w/"]);
        assert_eq!(magnet.peers, ["1.2.3.4:5".parse().unwrap(), "[::1]:6".parse().unwrap()]);
        assert_eq!(magnet.select_only, [0..=0, 2..=4]);
    }

    #[test]
    fn a_link_that_names_no_torrent_is_refused() {
        for link in ["", "magnet", "magnet:xt=1", "http://x/?xt=urn:btih:", "mägnet:?"] {
            assert_eq!(Magnet::parse(link), Err(MetainfoError::NotAMagnet));
        }
        assert_eq!(Magnet::parse("magnet:?dn=x&xt=urn:sha1:y"), Err(MetainfoError::NoInfoHash));
        for hash in ["", "x", &HEX[1..], "é", &"z".repeat(40), &"1".repeat(32)] {
            let refused = Magnet::parse(&format!("magnet:?xt=urn:btih:{hash}"));
            assert_eq!(refused, Err(MetainfoError::BadInfoHash(hash.to_owned())));
        }
        let sha1_multihash = format!("magnet:?xt=urn:btmh:1114{HEX}");
        assert!(matches!(Magnet::parse(&sha1_multihash), Err(MetainfoError::BadInfoHash(_))));
    }

    fn any_hashes() -> impl Strategy<Value = InfoHashes> {
        prop_oneof![
            any::<[u8; 20]>().prop_map(InfoHashes::V1),
            any::<[u8; 32]>().prop_map(InfoHashes::V2),
            any::<([u8; 20], [u8; 32])>().prop_map(|(v1, v2)| InfoHashes::Hybrid { v1, v2 }),
        ]
    }

    proptest! {
        #[test]
        fn links_survive_the_round_trip(
            info_hashes in any_hashes(),
            name in prop::option::of(".+"),
            trackers in prop::collection::vec(".+", 0..3),
            web_seeds in prop::collection::vec(".+", 0..3),
            peers: Vec<(std::net::IpAddr, u16)>,
            select_only in prop::collection::vec((any::<u16>(), any::<u16>()), 0..4),
        ) {
            let peers = peers.into_iter().map(SocketAddr::from).collect();
            let ranges = select_only.into_iter().map(|(first, more)| {
                u32::from(first)..=u32::from(first) + u32::from(more)
            });
            let select_only = ranges.collect();
            let magnet = Magnet { info_hashes, name, trackers, web_seeds, peers, select_only };
            prop_assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
        }

        #[test]
        fn garbage_never_panics(query in "[a-z.=&%+0-9:,é-]*") {
            let _ = Magnet::parse(&query);
            let _ = Magnet::parse(&format!("magnet:?{query}&xt=urn:btih:{HEX}&so={query}&x.pe={query}"));
        }
    }
}
