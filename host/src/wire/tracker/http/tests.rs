use std::time::Duration;

use proptest::prelude::*;

use super::super::AnnounceEvent;
use super::*;

fn request(event: AnnounceEvent) -> AnnounceRequest {
    let mut info_hash = [b'x'; 20];
    info_hash[..4].copy_from_slice(b"\x00 &~");
    AnnounceRequest {
        info_hash,
        peer_id: *b"-PF0100-abcdefghijkl",
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 3,
        corrupt: 4,
        event,
        key: 0xab,
        num_want: 200,
        trackerid: Some(b"a b".to_vec()),
    }
}

fn announced(body: &[u8]) -> AnnounceReply {
    parse_announce(body).unwrap()
}

#[test]
fn the_question_is_a_query() {
    let url = announce_url("http://t/announce", &request(AnnounceEvent::Started));
    assert_eq!(
        url,
        "http://t/announce?info_hash=%00%20%26~xxxxxxxxxxxxxxxx&peer_id=-PF0100-abcdefghijkl&port=6881&uploaded=1\
         &downloaded=2&left=3&corrupt=4&key=000000AB&event=started&numwant=200&compact=1&no_peer_id=1&trackerid=a%20b"
    );
    assert!(!announce_url("http://t/a", &request(AnnounceEvent::None)).contains("event"));
}

#[test]
fn a_query_that_is_there_already_goes_on() {
    assert!(
        announce_url("http://t/a?passkey=1", &request(AnnounceEvent::None))
            .starts_with("http://t/a?passkey=1&info_")
    );
    assert!(announce_url("http://t/a?", &request(AnnounceEvent::None)).starts_with("http://t/a?info_"));
    assert_eq!(
        scrape_url("http://t/s?k=1&", b"aaaaaaaaaaaaaaaaaaaa"),
        "http://t/s?k=1&info_hash=aaaaaaaaaaaaaaaaaaaa"
    );
}

#[test]
fn peers_come_in_three_forms() {
    let compact = announced(b"d8:intervali900e5:peers12:\x01\x02\x03\x04\x00\x05\x01\x02\x03\x04\x00\x006:peers618:\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x06e");
    assert_eq!(compact.peers, ["1.2.3.4:5".parse().unwrap(), "[::1]:6".parse().unwrap()]);
    assert_eq!(compact.interval, Some(Duration::from_secs(900)));
    let long = announced(
        b"d8:intervali900e5:peersld2:ip7:1.2.3.44:porti5eed2:ip3:::14:porti6eed2:ip4:host4:porti7eed2:ip7:1.2.3.44:porti65536eei1eee",
    );
    assert_eq!(long.peers, compact.peers);
}

#[test]
fn everything_that_a_tracker_may_say_is_read() {
    let reply = announced(
        b"d8:completei3e10:downloadedi9e11:external ip4:\x05\x06\x07\x0810:incompletei4e8:intervali60e12:min intervali30e\
          5:peers0:10:tracker id2:xy15:warning message4:slowe",
    );
    assert_eq!((reply.complete, reply.incomplete, reply.downloaded), (Some(3), Some(4), Some(9)));
    assert_eq!(reply.external_ip, Some("5.6.7.8".parse().unwrap()));
    assert_eq!(reply.min_interval, Some(Duration::from_secs(30)));
    assert_eq!(
        (reply.trackerid.as_deref(), reply.warning.as_deref()),
        (Some(b"xy".as_slice()), Some("slow"))
    );
}

#[test]
fn keys_out_of_order_and_nonsense_for_a_number_are_put_up_with() {
    let reply = announced(b"d5:peers0:8:intervali-5e12:min interval3:abc8:completei99999999999eetrailing");
    assert_eq!(reply, AnnounceReply::default());
    let forever = announced(b"d8:intervali999999999999e5:peers0:e");
    assert_eq!(forever.interval, Some(super::super::LONGEST_WAIT));
}

#[test]
fn a_refusal_says_why_and_until_when() {
    let refused = |body: &[u8]| parse_announce(body).unwrap_err();
    let says = |reason: &str, retry| TrackerError::Refused { reason: reason.into(), retry };
    assert_eq!(
        refused(b"d14:failure reason4:full8:retry ini2ee"),
        says("full", Retry::After(Duration::from_secs(120)))
    );
    assert_eq!(refused(b"d14:failure reason4:gone8:retry in5:nevere"), says("gone", Retry::Never));
    assert_eq!(refused(b"d14:failure reason0:e"), says("", Retry::Unsaid));
    assert_eq!(parse_scrape(b"d14:failure reason1:xe", &[0; 20]), Err(says("x", Retry::Unsaid)));
}

#[test]
fn what_is_no_answer_is_refused() {
    for body in [b"".as_slice(), b"<html>", b"le", b"d", b"i1e"] {
        assert!(matches!(parse_announce(body), Err(TrackerError::Bencode(_))), "{body:?}");
    }
    assert_eq!(parse_announce(b"de"), Err(TrackerError::Missing("peers")));
    assert_eq!(parse_scrape(b"d5:filesdee", &[0; 20]), Err(TrackerError::Missing("such torrent")));
}

#[test]
fn figures_are_those_of_the_torrent() {
    let body = b"d5:filesd20:aaaaaaaaaaaaaaaaaaaad8:completei1e10:downloadedi2e10:incompletei3ee\
                 20:bbbbbbbbbbbbbbbbbbbbd8:completei9eeee";
    let figures = ScrapeReply { complete: Some(1), downloaded: Some(2), incomplete: Some(3) };
    assert_eq!(parse_scrape(body, b"aaaaaaaaaaaaaaaaaaaa"), Ok(figures));
}

#[test]
fn a_flood_of_peers_is_cut_off() {
    let body = [format!("d8:intervali1e5:peers{}:", 6 * 50_000).as_bytes(), &[1; 6 * 50_000], b"e"].concat();
    assert_eq!(announced(&body).peers.len(), MOST_PEERS);
}

proptest! {
    #[test]
    fn garbage_never_panics(body: Vec<u8>, tail in "[0-9a-z:]{0,30}") {
        let _ = parse_announce(&body);
        let _ = parse_scrape(&body, &[0; 20]);
        let _ = parse_announce(format!("d8:intervali1e5:peers{tail}e").as_bytes());
    }

    #[test]
    fn bytes_in_a_query_are_those_that_were_meant(bytes: [u8; 20]) {
        let url = scrape_url("http://t/scrape", &bytes);
        let encoded = url.strip_prefix("http://t/scrape?info_hash=").unwrap();
        let mut decoded = Vec::new();
        let mut rest = encoded;
        while let Some(first) = rest.chars().next() {
            let taken = if first == '%' { 3 } else { 1 };
            decoded.push(if first == '%' { u8::from_str_radix(&rest[1..3], 16).unwrap() } else { first as u8 });
            rest = &rest[taken..];
        }
        prop_assert_eq!(decoded, bytes);
    }
}
