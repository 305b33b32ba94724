//! Local discovery: a datagram to everybody on the network says who has which torrents (BEP 14).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Where the datagrams go on IPv4.
pub const GROUP_V4: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 192, 152, 143), 6771);
/// Where the datagrams go on IPv6.
pub const GROUP_V6: SocketAddrV6 =
    SocketAddrV6::new(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f), 6771, 0, 0);
/// The most torrents in a datagram that count: it must not be divided on its way.
pub const MOST_HASHES: usize = 20;
/// A datagram that is longer than this is none of these, in bytes.
const LONGEST: usize = 2_048;
/// The longest cookie that is looked at, in bytes.
const LONGEST_COOKIE: usize = 64;

/// What a datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Where the sender's peers connect to.
    pub port: u16,
    /// Its torrents, in the form that handshakes use.
    pub info_hashes: Vec<[u8; 20]>,
    /// Something of the sender's own, by which it knows its datagrams again.
    pub cookie: String,
}

impl Announcement {
    /// The datagram for the group of an address family.
    pub fn encode(&self, is_v4: bool) -> Vec<u8> {
        let group = if is_v4 { SocketAddr::V4(GROUP_V4) } else { SocketAddr::V6(GROUP_V6) };
        let mut text = format!("BT-SEARCH * HTTP/1.1\r\nHost: {group}\r\nPort: {}\r\n", self.port);
        for hash in &self.info_hashes {
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            text += &format!("Infohash: {hash}\r\n");
        }
        text += &format!("cookie: {}\r\n\r\n\r\n", self.cookie);
        text.into_bytes()
    }

    /// Reads a datagram. `None`: it is none of these, or names no port or no torrent.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        let text = str::from_utf8(datagram).ok().filter(|text| text.len() <= LONGEST)?;
        let mut lines = text.lines();
        if !lines.next()?.trim_end().eq_ignore_ascii_case("BT-SEARCH * HTTP/1.1") {
            return None;
        }
        let (mut port, mut info_hashes, mut cookie) = (None, Vec::new(), String::new());
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.trim().to_ascii_lowercase().as_str() {
                "port" => port = value.parse().ok().filter(|port| *port != 0),
                "infohash" if info_hashes.len() < MOST_HASHES => info_hashes.extend(hash(value)),
                "cookie" if value.len() <= LONGEST_COOKIE => value.clone_into(&mut cookie),
                _ => {}
            }
        }
        let port = port.filter(|_| !info_hashes.is_empty())?;
        Some(Self { port, info_hashes, cookie })
    }
}

/// Forty hexadecimal digits.
fn hash(text: &str) -> Option<[u8; 20]> {
    let digits = text.as_bytes();
    if digits.len() != 40 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut hash = [0; 20];
    for (byte, pair) in hash.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_datagram_is_written_as_libtorrent_writes_it() {
        let announcement =
            Announcement { port: 6881, info_hashes: vec![[0xab; 20]], cookie: "7f".to_owned() };
        let expected = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: {}\r\n\
             cookie: 7f\r\n\r\n\r\n",
            "ab".repeat(20)
        );
        assert_eq!(String::from_utf8(announcement.encode(true)).unwrap(), expected);
        let v6 = String::from_utf8(announcement.encode(false)).unwrap();
        assert!(v6.contains("Host: [ff15::efc0:988f]:6771\r\n"));
    }

    #[test]
    fn what_names_no_torrent_and_no_port_is_nothing() {
        let parse =
            |head: &str, rest: &str| Announcement::parse(format!("{head}\r\n{rest}\r\n\r\n").as_bytes());
        let (head, hash) = ("BT-SEARCH * HTTP/1.1", "AB".repeat(20));
        let good = format!("PORT: 1\r\ninfohash:{hash}\r\nX: y");
        assert_eq!(parse(head, &good).unwrap().info_hashes, [[0xab; 20]]);
        assert_eq!(parse("GET * HTTP/1.1", &good), None);
        assert_eq!(parse(head, &format!("Port: 0\r\nInfohash: {hash}")), None);
        assert_eq!(parse(head, &format!("Port: 70000\r\nInfohash: {hash}")), None);
        assert_eq!(parse(head, &format!("Port: 1\r\nInfohash: {hash}00")), None);
        assert_eq!(parse(head, "Port: 1"), None);
        let many = format!("Infohash: {hash}\r\n").repeat(MOST_HASHES + 5);
        assert_eq!(parse(head, &format!("Port: 1\r\n{many}")).unwrap().info_hashes.len(), MOST_HASHES);
        assert_eq!(parse(head, &format!("{good}\r\n{}", "z".repeat(LONGEST))), None);
    }

    proptest! {
        #[test]
        fn announcements_survive_the_round_trip(
            port in 1..=u16::MAX,
            info_hashes in prop::collection::vec(any::<[u8; 20]>(), 1..=MOST_HASHES),
            cookie in "[0-9a-f]{0,64}",
            is_v4: bool,
        ) {
            let announcement = Announcement { port, info_hashes, cookie };
            let datagram = announcement.encode(is_v4);
            prop_assert!(datagram.len() < 1_400);
            prop_assert_eq!(Announcement::parse(&datagram), Some(announcement));
        }

        #[test]
        fn no_bytes_do_any_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Announcement::parse(&bytes);
            let _ = Announcement::parse(&[b"BT-SEARCH * HTTP/1.1\r\n", &bytes[..]].concat());
        }
    }
}
