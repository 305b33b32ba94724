//! UDP trackers (BEP 15): packets with the question, and the packets that answer them.
//!
//! A conversation begins with a `connect`, whose answer holds a number that proves, for a minute, that we are where we say.
//! The path of the tracker's URL follows an announce as an option (BEP 41).

use std::net::SocketAddr;

use super::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, MOST_PEERS, ScrapeReply, TrackerError, seconds, text,
};
use crate::wire::compact;

/// What stands in the place of a connection id in a `connect`.
const MAGIC: u64 = 0x417_2710_1980;

const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;

/// The options of BEP 41.
const END_OF_OPTIONS: u8 = 0;
const URL_DATA: u8 = 2;

/// What a tracker answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UdpReply {
    /// The connection id that other questions need.
    Connect(u64),
    /// Peers.
    Announce(AnnounceReply),
    /// Figures.
    Scrape(ScrapeReply),
    /// The tracker refuses: its own words.
    Error(String),
}

/// Asks for a connection id.
pub fn connect(transaction: u32) -> Vec<u8> {
    header(MAGIC, CONNECT, transaction)
}

/// Asks for peers. `path` is what the tracker's URL says behind the port.
pub fn announce(connection: u64, transaction: u32, request: &AnnounceRequest, path: &str) -> Vec<u8> {
    let mut packet = header(connection, ANNOUNCE, transaction);
    packet.extend(request.info_hash);
    packet.extend(request.peer_id);
    for bytes in [request.downloaded, request.left, request.uploaded] {
        packet.extend(bytes.to_be_bytes());
    }
    let event: u32 = match request.event {
        // BEP 15 has no number for who is paused.
        AnnounceEvent::None | AnnounceEvent::Paused => 0,
        AnnounceEvent::Completed => 1,
        AnnounceEvent::Started => 2,
        AnnounceEvent::Stopped => 3,
    };
    packet.extend(event.to_be_bytes());
    // Our address: the one that the packet comes from.
    packet.extend([0; 4]);
    packet.extend(request.key.to_be_bytes());
    packet.extend(request.num_want.to_be_bytes());
    packet.extend(request.port.to_be_bytes());
    for part in path.as_bytes().chunks(u8::MAX.into()) {
        // A chunk is as long as that at most.
        packet.extend([URL_DATA, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
        packet.extend(part);
    }
    if !path.is_empty() {
        packet.push(END_OF_OPTIONS);
    }
    packet
}

/// Asks for the figures of one torrent.
pub fn scrape(connection: u64, transaction: u32, info_hash: &[u8; 20]) -> Vec<u8> {
    let mut packet = header(connection, SCRAPE, transaction);
    packet.extend(info_hash);
    packet
}

/// The number of the question that a datagram answers, if it may be a tracker's: other protocols on the port begin with other
/// bytes.
pub fn transaction(packet: &[u8]) -> Option<u32> {
    let [0, 0, 0, action, a, b, c, d, ..] = packet else { return None };
    (u32::from(*action) <= ERROR).then_some(u32::from_be_bytes([*a, *b, *c, *d]))
}

/// Reads an answer that came from `from`: whether peers are of IPv4 or IPv6 is not in it.
///
/// # Errors
/// It is cut short.
pub fn parse(packet: &[u8], from: SocketAddr) -> Result<UdpReply, TrackerError> {
    let (head, rest) = packet.split_first_chunk::<8>().ok_or(TrackerError::Missing("transaction"))?;
    match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
        CONNECT => match rest.first_chunk::<8>() {
            Some(id) => Ok(UdpReply::Connect(u64::from_be_bytes(*id))),
            None => Err(TrackerError::Missing("connection id")),
        },
        ANNOUNCE => {
            let [interval, incomplete, complete] = numbers(rest).ok_or(TrackerError::Missing("peers"))?;
            let peers = &rest[12..];
            let peers: Vec<SocketAddr> = match from {
                SocketAddr::V4(_) => compact::decode_v4(peers).map(SocketAddr::V4).take(MOST_PEERS).collect(),
                SocketAddr::V6(_) => compact::decode_v6(peers).map(SocketAddr::V6).take(MOST_PEERS).collect(),
            };
            Ok(UdpReply::Announce(AnnounceReply {
                interval: seconds(interval.into()),
                complete: Some(complete),
                incomplete: Some(incomplete),
                peers: peers.into_iter().filter(|peer| peer.port() != 0).collect(),
                ..AnnounceReply::default()
            }))
        }
        SCRAPE => {
            let [complete, downloaded, incomplete] = numbers(rest).ok_or(TrackerError::Missing("figures"))?;
            let [complete, downloaded, incomplete] = [complete, downloaded, incomplete].map(Some);
            Ok(UdpReply::Scrape(ScrapeReply { complete, incomplete, downloaded }))
        }
        ERROR => Ok(UdpReply::Error(text(rest))),
        _ => Err(TrackerError::Missing("known action")),
    }
}

fn header(connection: u64, action: u32, transaction: u32) -> Vec<u8> {
    let mut packet = Vec::with_capacity(128);
    packet.extend(connection.to_be_bytes());
    packet.extend(action.to_be_bytes());
    packet.extend(transaction.to_be_bytes());
    packet
}

/// The first three numbers.
fn numbers(bytes: &[u8]) -> Option<[u32; 3]> {
    let [a, b, c, ..] = bytes.as_chunks::<4>().0 else { return None };
    Some([*a, *b, *c].map(u32::from_be_bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::super::LONGEST_TEXT;
    use super::*;

    const V4: ([u8; 4], u16) = ([127, 0, 0, 1], 1);

    fn request() -> AnnounceRequest {
        AnnounceRequest {
            info_hash: [1; 20],
            peer_id: [2; 20],
            port: 6881,
            uploaded: 3,
            downloaded: 4,
            left: 5,
            corrupt: 6,
            event: AnnounceEvent::Started,
            key: 7,
            num_want: 8,
            trackerid: None,
        }
    }

    #[test]
    fn questions_have_the_layout_of_bep_15() {
        assert_eq!(connect(0x0102_0304), [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 1, 2, 3, 4]);
        let packet = announce(9, 1, &request(), "");
        assert_eq!(packet.len(), 98);
        assert_eq!(packet[..16], [0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!((packet[16], packet[36], packet[63], packet[71], packet[79]), (1, 2, 4, 5, 3));
        assert_eq!(packet[80..], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8, 0x1a, 0xe1]);
        assert_eq!(scrape(9, 1, &[3; 20]).len(), 36);
    }

    #[test]
    fn the_path_follows_in_options() {
        let packet = announce(9, 1, &request(), "/a?b=c");
        assert_eq!(packet[98..], *b"\x02\x06/a?b=c\x00");
        let long = "x".repeat(300);
        let packet = announce(9, 1, &request(), &long);
        assert_eq!(
            (packet[98], packet[99], packet[355], packet[356], packet.len()),
            (2, 255, 2, 45, 98 + 305)
        );
    }

    #[test]
    fn answers_are_read() {
        let reply = |bytes: &[u8], from: SocketAddr| parse(bytes, from);
        let id = reply(&[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1, 0], V4.into());
        assert_eq!(id, Ok(UdpReply::Connect(256)));
        let announced = [
            [0, 0, 0, 1, 0, 0, 0, 9].as_slice(),
            &[0, 0, 7, 8, 0, 0, 0, 2, 0, 0, 0, 3],
            &[1, 2, 3, 4, 0, 5, 1, 2, 3, 4, 0, 0, 9],
        ]
        .concat();
        let Ok(UdpReply::Announce(answer)) = reply(&announced, V4.into()) else { panic!() };
        assert_eq!(answer.interval.unwrap().as_secs(), 1_800);
        assert_eq!((answer.complete, answer.incomplete), (Some(3), Some(2)));
        assert_eq!(answer.peers, ["1.2.3.4:5".parse().unwrap()], "port 0 is nobody's");
        let Ok(UdpReply::Announce(answer)) = reply(&announced, "[::1]:1".parse().unwrap()) else { panic!() };
        assert!(answer.peers.is_empty(), "too short for an IPv6 peer");
        let refused = reply(b"\0\0\0\x03\0\0\0\x09not\nhere", V4.into());
        assert_eq!(refused, Ok(UdpReply::Error("nothere".into())));
        let scraped = [[0, 0, 0, 2, 0, 0, 0, 9].as_slice(), &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]].concat();
        let figures = ScrapeReply { complete: Some(1), downloaded: Some(2), incomplete: Some(3) };
        assert_eq!(reply(&scraped, V4.into()), Ok(UdpReply::Scrape(figures)));
    }

    #[test]
    fn a_datagram_is_told_from_those_of_other_protocols() {
        assert_eq!(transaction(&[0, 0, 0, 3, 1, 2, 3, 4]), Some(0x0102_0304));
        for other in
            [b"d1:ad2:id20:".as_slice(), b"\x41\x02\0\0\0\0\0\0", b"\0\0\0\x04\0\0\0\0", b"\0\0\0", b""]
        {
            assert_eq!(transaction(other), None);
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_stays_small(mut bytes: Vec<u8>, v6: bool, action in 0_u8..5, more in 0..5_000_usize) {
            bytes.extend(vec![7; more]);
            let packet = [&[0, 0, 0, action][..], &bytes].concat();
            let from = if v6 { "[::1]:1".parse().unwrap() } else { V4.into() };
            match parse(&packet, from) {
                Ok(UdpReply::Announce(reply)) => prop_assert!(reply.peers.len() <= MOST_PEERS),
                Ok(UdpReply::Error(text)) => prop_assert!(text.len() <= 3 * LONGEST_TEXT),
                _ => {}
            }
            let _ = parse(&bytes, from);
        }

        #[test]
        fn peers_survive_the_journey(peers: Vec<([u8; 4], u16)>) {
            let mut packet = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0];
            let peers: Vec<SocketAddr> = peers.into_iter().map(SocketAddr::from).filter(|p| p.port() != 0).collect();
            peers.iter().for_each(|peer| compact::encode(*peer, &mut packet));
            let Ok(UdpReply::Announce(reply)) = parse(&packet, V4.into()) else { panic!() };
            prop_assert_eq!(reply.peers, peers);
        }
    }
}
