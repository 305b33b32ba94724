//! Items are stored, found and replaced (BEP 44).

use crate::command::{DhtItemError, MutableItem, SecretKey};
use crate::wire::krpc::Item;

use super::*;

fn item_of(net: &Net, request: RequestId) -> Vec<Option<FoundItem>> {
    let items = net.events.iter().filter_map(|(_, event)| match event {
        Event::Item { request: r, item } if *r == request => Some(item.clone()),
        _ => None,
    });
    items.collect()
}

fn stored_at(net: &Net, request: RequestId) -> u32 {
    let mut finished = net.events.iter().filter_map(|(_, event)| match event {
        Event::Finished { request: r, nodes } if *r == request => Some(*nodes),
        _ => None,
    });
    finished.next().unwrap()
}

fn put(net: &mut Net, node: usize, seed: u8, salt: &[u8], value: &[u8]) -> u32 {
    let request = net.request();
    let item = MutableItem { secret: SecretKey([seed; 32]), salt: salt.to_vec(), value: value.to_vec() };
    let (now, rng) = (net.now, &mut net.rng);
    net.nodes[node].put_mutable(request, item, now, rng).unwrap();
    net.settle(node);
    net.run_until(|net| net.is_finished(request));
    stored_at(net, request)
}

fn get(net: &mut Net, node: usize, seed: u8, salt: &[u8]) -> Vec<Option<FoundItem>> {
    let request = net.request();
    let key = ItemKey { key: public_key(&SecretKey([seed; 32])), salt: salt.to_vec() };
    let (now, rng) = (net.now, &mut net.rng);
    net.nodes[node].get_mutable(request, key, now, rng);
    net.settle(node);
    net.run_until(|net| net.is_finished(request));
    item_of(net, request)
}

#[test]
fn an_immutable_item_is_found_by_its_hash_from_anywhere() {
    let mut net = Net::grown(40, 60, 20_000);
    let (request, now) = (net.request(), net.now);
    let target = net.nodes[3].put_immutable(request, b"5:hello".to_vec(), now, &mut net.rng).unwrap();
    net.settle(3);
    net.run_until(|net| net.is_finished(request));
    assert!(stored_at(&net, request) >= 6, "few took it");
    for seeker in [10, 30, 59] {
        let (request, now) = (net.request(), net.now);
        net.nodes[seeker].get_immutable(request, target, now, &mut net.rng);
        net.settle(seeker);
        net.run_until(|net| net.is_finished(request));
        let found = item_of(&net, request);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].as_ref().unwrap().value, b"5:hello");
    }
    let (request, now) = (net.request(), net.now);
    net.nodes[9].get_immutable(request, NodeId([0; 20]), now, &mut net.rng);
    net.settle(9);
    net.run_until(|net| net.is_finished(request));
    assert_eq!(item_of(&net, request), [None]);
}

#[test]
fn a_mutable_item_is_replaced_by_its_owner_and_the_newest_is_found() {
    let mut net = Net::grown(41, 60, 0);
    assert_eq!(put(&mut net, 3, 1, b"", b"i1e"), 8);
    assert_eq!(put(&mut net, 50, 1, b"", b"i2e"), 8);
    assert_eq!(put(&mut net, 3, 1, b"salt", b"i9e"), 8);
    let newest = get(&mut net, 20, 1, b"").pop().unwrap().unwrap();
    assert_eq!((newest.value, newest.seq, newest.authoritative), (b"i2e".to_vec(), 2, true));
    let salted = get(&mut net, 20, 1, b"salt").pop().unwrap().unwrap();
    assert_eq!((salted.value, salted.seq), (b"i9e".to_vec(), 1));
    assert_eq!(get(&mut net, 20, 2, b""), [None]);
}

#[test]
fn a_value_that_cannot_be_stored_is_not_even_looked_for() {
    let mut net = Net::grown(42, 5, 0);
    let (request, now) = (net.request(), net.now);
    let error = net.nodes[0].put_immutable(request, b"no bencode".to_vec(), now, &mut net.rng).unwrap_err();
    assert_eq!(error, DhtItemError::NotBencoded);
    assert!(net.nodes[0].is_idle());
}

#[test]
fn what_a_node_stores_was_signed_is_not_older_and_not_too_long() {
    let mut net = Net::new(43, 0);
    let node = net.join(config());
    let (from, id, secret) = (address(9), NodeId([1; 20]), SecretKey([7; 32]));
    let key = public_key(&secret);
    let target = mutable_target(&key, b"");
    let get = Arguments::Get { target, seq: None, want: Want::default() };
    let answer = net.ask(node, from, id, get.clone()).unwrap();
    let token = response(&answer).token.unwrap().to_vec();
    let mut put = |signed: &[u8], value: &[u8], seq: i64, cas: Option<i64>| {
        let signature = crate::dht::items::sign(&secret, b"", seq, signed);
        let item = Item::Mutable { key: &key, signature: &signature, seq, salt: b"", value };
        let answer =
            net.ask(node, from, id, Arguments::Put { target: None, token: &token, item, cas }).unwrap();
        match Packet::read(&answer).unwrap().body {
            Body::Error { code, .. } => code,
            _ => 0,
        }
    };
    assert_eq!(put(b"i1e", b"i2e", 5, None), 206);
    assert_eq!(put(b"i1e", b"i1e", 5, None), 0);
    assert_eq!(put(b"i0e", b"i0e", 4, None), 302);
    assert_eq!(put(b"i9e", b"i9e", 5, None), 302, "another value under the same number");
    assert_eq!(put(b"i1e", b"i1e", 5, None), 0, "the same again");
    assert_eq!(put(b"i2e", b"i2e", 6, Some(4)), 301);
    assert_eq!(put(b"i2e", b"i2e", 6, Some(5)), 0);
    let long = [b"1000:".as_slice(), &[b'x'; 1_000]].concat();
    assert_eq!(put(&long, &long, 7, None), 205);
    let answer = net.ask(node, from, id, get).unwrap();
    assert_eq!((response(&answer).value, response(&answer).seq), (Some(&b"i2e"[..]), Some(6)));
    // Who has it already is told only its number.
    let known = Arguments::Get { target, seq: Some(6), want: Want::default() };
    let answer = net.ask(node, from, id, known).unwrap();
    assert_eq!((response(&answer).value, response(&answer).seq), (None, Some(6)));
}
