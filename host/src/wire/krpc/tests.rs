use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use proptest::prelude::*;

use super::*;

fn read(datagram: &[u8]) -> Result<String, KrpcError> {
    let bytes = checked(datagram)?;
    Packet::read(&bytes).map(|packet| format!("{:?}", packet.body))
}

/// The examples of BEP 5, as they stand there.
#[test]
fn the_examples_of_the_specification_are_understood() {
    let ping = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
    let bytes = checked(ping).unwrap();
    let packet = Packet::read(&bytes).unwrap();
    let Body::Query(query) = packet.body else { panic!("no query") };
    assert_eq!((packet.transaction, query.method), (&b"aa"[..], "ping"));
    assert_eq!((query.id.0, query.arguments), (*b"abcdefghij0123456789", Ok(Arguments::Ping)));

    let error = b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee";
    assert_eq!(read(error).unwrap(), r#"Error { code: 201, text: "A Generic Error Ocurred" }"#);

    let announce = b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz123456\
        4:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe";
    let bytes = checked(announce).unwrap();
    let Body::Query(query) = Packet::read(&bytes).unwrap().body else { panic!("no query") };
    let expected = Arguments::AnnouncePeer {
        info_hash: NodeId(*b"mnopqrstuvwxyz123456"),
        port: None,
        token: b"aoeusnth",
        seed: false,
    };
    assert_eq!(query.arguments, Ok(expected));

    let values =
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re";
    let bytes = checked(values).unwrap();
    let Body::Response(response) = Packet::read(&bytes).unwrap().body else { panic!("no answer") };
    let peers: Vec<String> = response.peers.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["97.120.106.101:11893", "105.100.104.116:28269"]);
    assert_eq!(response.token, Some(&b"aoeusnth"[..]));
}

#[test]
fn what_is_missing_is_named_and_what_is_odd_is_forgiven() {
    let id = "2:id20:abcdefghij0123456789";
    let query = |q: &str, a: &str| format!("d1:ad{a}e1:q{}:{q}1:t1:x1:y1:qe", q.len()).into_bytes();
    let arguments = |q: &str, a: &str| {
        let datagram = query(q, a);
        let bytes = checked(&datagram).unwrap();
        match Packet::read(&bytes).unwrap().body {
            Body::Query(query) => query.arguments.map(|a| a.method().to_owned()),
            other => panic!("{other:?}"),
        }
    };
    let hash = "9:info_hash20:mnopqrstuvwxyz123456";
    assert_eq!(arguments("find_node", id), Err("missing 'target' key"));
    assert_eq!(arguments("announce_peer", &format!("{id}{hash}4:porti0e5:token1:x")), Err("invalid port"));
    assert_eq!(arguments("put", &format!("{id}5:token1:x")), Err("missing 'v' key"));
    assert_eq!(arguments("put", &format!("{id}1:k3:abc5:token1:x1:v1:y")), Err("invalid public key"));
    assert_eq!(arguments("vote", id), Err("unknown message"));
    // A question that is not known is one for nodes, if it is about a place.
    assert_eq!(arguments("vote", &format!("{id}{hash}")), Ok("find_node".to_owned()));

    assert_eq!(read(&query("ping", "2:id3:abc")), Err(KrpcError::Missing("id")));
    assert_eq!(read(b"d1:t1:x1:y1:re"), Err(KrpcError::Missing("r")));
    assert_eq!(read(b"d1:y1:qe"), Err(KrpcError::Missing("t")));
    assert_eq!(read(b"le"), Err(KrpcError::NotADictionary));
    assert_eq!(read(b"d1:t1:x1:y1:qeX"), Err(KrpcError::NotADictionary));
    assert_eq!(read(&vec![b'd'; LONGEST + 1]), Err(KrpcError::TooLong(LONGEST + 1)));
    // Keys out of order, as some clients send them.
    assert!(read(b"d1:y1:q1:t1:x1:q4:ping1:ad2:id20:abcdefghij0123456789ee").is_ok());
    // Half a node at the end, and a node of which nobody knows where it is.
    let nodes = format!("d1:rd{id}5:nodes30:{}e1:t1:x1:y1:re", "n".repeat(30));
    assert_eq!(read(nodes.as_bytes()).unwrap().matches("NodeInfo").count(), 1);
}

#[test]
fn items_are_the_bytes_as_they_were_written() {
    let datagram = b"d1:rd2:id20:abcdefghij01234567891:vd1:ali1e2:xxe1:b3:yyyee1:t1:x1:y1:re";
    let bytes = checked(datagram).unwrap();
    let Body::Response(response) = Packet::read(&bytes).unwrap().body else { panic!("no answer") };
    assert_eq!(response.value, Some(&b"d1:ali1e2:xxe1:b3:yyye"[..]));
}

#[test]
fn distance_is_what_differs_and_bits_are_counted_from_the_front() {
    let id = |first: u8, last: u8| {
        let mut bytes = [0; 20];
        (bytes[0], bytes[19]) = (first, last);
        NodeId(bytes)
    };
    assert_eq!(id(0, 0).shared_bits(id(0, 0)), 160);
    assert_eq!(id(0, 0).shared_bits(id(0x10, 0)), 3);
    assert_eq!(id(0, 0).shared_bits(id(0, 1)), 159);
    assert!(id(1, 0).distance(id(3, 0)) < id(1, 0).distance(id(4, 0)));
}

fn id() -> impl Strategy<Value = NodeId> {
    any::<[u8; 20]>().prop_map(NodeId)
}

fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<(Ipv4Addr, u16)>().prop_map(|(ip, port)| SocketAddrV4::new(ip, port).into()),
        any::<(Ipv6Addr, u16)>().prop_map(|(ip, port)| SocketAddrV6::new(ip, port, 0, 0).into()),
    ]
}

fn wants() -> impl Strategy<Value = Want> {
    any::<(bool, bool)>().prop_map(|(v4, v6)| Want { v4, v6 })
}

/// A message survives being written and read.
fn survives(packet: &Packet<'_>) -> Result<(), TestCaseError> {
    let datagram = packet.encode();
    prop_assert!(is_krpc(&datagram));
    let bytes = checked(&datagram).unwrap();
    prop_assert!(matches!(bytes, Cow::Borrowed(_)), "written out of order");
    prop_assert_eq!(&Packet::read(&bytes).unwrap(), packet);
    Ok(())
}

proptest! {
    #[test]
    fn questions_survive_the_round_trip(
        (asker, target) in (id(), id()),
        want in wants(),
        token in prop::collection::vec(any::<u8>(), 0..20),
        salt in prop::collection::vec(any::<u8>(), 0..64),
        port in prop::option::of(1..=u16::MAX),
        seq in 0..=i64::MAX,
        (key, signature) in (any::<[u8; 32]>(), any::<[u8; 64]>()),
        (seed, read_only) in any::<(bool, bool)>(),
        transaction in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let immutable = Item::Immutable { value: b"d1:xi1ee" };
        let mutable = Item::Mutable { key: &key, signature: &signature, seq, salt: &salt, value: b"l1:ae" };
        let all = [
            Arguments::Ping,
            Arguments::FindNode { target, want },
            Arguments::GetPeers { info_hash: target, want, scrape: seed },
            Arguments::AnnouncePeer { info_hash: target, port, token: &token, seed },
            Arguments::Get { target, seq: seed.then_some(seq), want },
            Arguments::Put { target: None, token: &token, item: immutable, cas: None },
            Arguments::Put { target: Some(target), token: &token, item: mutable, cas: Some(seq) },
            Arguments::SampleInfohashes { target, want },
        ];
        for arguments in all {
            let method = arguments.method();
            let query = Query { id: asker, method, read_only, arguments: Ok(arguments) };
            survives(&Packet { transaction: &transaction, ip: None, body: Body::Query(query) })?;
        }
    }

    #[test]
    fn answers_survive_the_round_trip(
        id in id(),
        ip in prop::option::of(address()),
        nodes in prop::collection::vec((id(), address()), 0..16),
        peers in prop::collection::vec(address(), 0..60),
        token in prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
        seq: Option<i64>,
        hashes in prop::option::of(prop::collection::vec(any::<[u8; 20]>(), 0..20)),
        (interval, num) in any::<(u32, u32)>(),
        code: i64,
    ) {
        let mut nodes: Vec<_> = nodes.into_iter().map(|(id, address)| NodeInfo { id, address }).collect();
        nodes.sort_by_key(|node| node.address.is_ipv6());
        let response = Response {
            id, nodes, peers, token: token.as_deref(), seq,
            samples: hashes.map(|hashes| Samples { interval, num, hashes }),
            value: seq.map(|_| &b"i5e"[..]),
            filters: seq.map(|_| [&[0xa5; 256], &[0x5a; 256]]),
            ..Response::default()
        };
        survives(&Packet { transaction: b"tt", ip, body: Body::Response(response) })?;
        survives(&Packet { transaction: b"tt", ip, body: Body::Error { code, text: "no".to_owned() } })?;
    }

    #[test]
    fn no_bytes_do_any_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let framed = [b"d1:ad2:id20:abcdefghij0123456789", &bytes[..], b"e1:q4:ping1:t2:aa1:y1:qe"].concat();
        let _ = read(&framed);
    }
}
