//! Nodes that lie, flood, and pretend.

use super::*;

#[test]
fn who_answers_as_somebody_else_is_not_believed() {
    let mut net = Net::new(20, 0);
    let node = net.join(config());
    let now = net.now;
    // The node asks 9 whether it is there, as the one with the id 0909…
    let (right, wrong) = (NodeId([9; 20]), NodeId([8; 20]));
    net.nodes[node].hear_of(NodeInfo { id: right, address: address(9) }, now);
    net.run_until(|net| !net.flying.is_empty());
    let Some(Reverse((.., payload))) = net.flying.pop() else { panic!("nothing was asked") };
    let transaction = Packet::read(&payload).unwrap().transaction.to_vec();
    let say = |net: &mut Net, from: SocketAddr, id: NodeId| {
        let body = Body::Response(Response { id, ..Response::default() });
        let payload = Packet { transaction: &transaction, ip: None, body }.encode();
        net.hand(node, from, &payload);
        net.nodes[node].num_nodes()
    };
    assert_eq!(say(&mut net, address(10), right), 0, "from another address");
    assert_eq!(say(&mut net, address(9), wrong), 0, "with another id");
    assert_eq!(say(&mut net, address(9), right), 0, "a second answer to one question");
}

#[test]
fn nodes_that_name_only_themselves_do_not_take_a_lookup_over() {
    let mut net = Net::grown(21, 60, 0);
    let info_hash = NodeId([0x44; 20]);
    // Ten liars stand right beside the torrent, and name each other and nobody else.
    let liars: Vec<usize> = (0..10)
        .map(|i| {
            let liar = net.join(config());
            let mut id = info_hash;
            id.0[19] = i;
            net.nodes[liar] = Node::new(
                true,
                config(),
                Saved { id: Some((id, None)), nodes: Vec::new() },
                net.now,
                &mut net.rng,
            );
            liar
        })
        .collect();
    for liar in &liars {
        net.bootstrap(*liar, 0);
    }
    net.run_for(Duration::from_secs(30));
    // They are gone when it matters, and so are their answers: the honest ones still have it.
    let announced = net.get_peers(5, info_hash, Some(7_000));
    net.run_until(|net| net.is_finished(announced));
    liars.iter().for_each(|liar| net.gone[*liar] = true);
    let again = net.get_peers(5, info_hash, Some(7_000));
    net.run_until(|net| net.is_finished(again));
    net.run_for(Duration::from_secs(2));
    let looked = net.get_peers(40, info_hash, None);
    net.run_until(|net| net.is_finished(looked));
    assert_eq!(net.found(looked), [SocketAddr::new(address(5).ip(), 7_000)]);
}

#[test]
fn a_node_with_many_ids_has_one_place_in_the_table() {
    let mut net = Net::new(22, 0);
    let node = net.join(config());
    let now = net.now;
    for i in 0..40 {
        let id = NodeId([i * 6; 20]);
        let elsewhere = SocketAddr::new(address(9).ip(), 7_000 + u16::from(i));
        net.nodes[node].table.answered(NodeInfo { id, address: elsewhere }, true, now, &config());
    }
    assert_eq!(net.nodes[node].num_nodes(), 1);
}

#[test]
fn a_flood_of_questions_from_one_address_is_answered_for_a_while_and_then_not() {
    let mut net = Net::new(23, 0);
    let node = net.join(Config { upload_rate_limit: 1_000_000, ..config() });
    let flooder = address(9);
    let answers = (0..200).filter(|_| net.ask(node, flooder, NodeId([1; 20]), Arguments::Ping).is_some());
    assert_eq!(answers.count(), 50);
    // Others are not concerned.
    assert!(net.ask(node, address(10), NodeId([2; 20]), Arguments::Ping).is_some());
    net.run_for(Duration::from_secs(299));
    assert!(net.ask(node, flooder, NodeId([1; 20]), Arguments::Ping).is_none());
    net.run_for(Duration::from_secs(2));
    assert!(net.ask(node, flooder, NodeId([1; 20]), Arguments::Ping).is_some());
}

#[test]
fn a_flood_from_everywhere_costs_no_more_than_the_limit() {
    let mut net = Net::grown(24, 30, 0);
    let (mut bytes, seconds) = (0, 20);
    for second in 0..seconds {
        for i in 0..500 {
            let find = Arguments::FindNode { target: NodeId([7; 20]), want: Want::default() };
            let from = address(1_000 + 500 * second + i);
            bytes += net.ask(3, from, NodeId([i as u8; 20]), find).map_or(0, |answer| answer.len());
        }
        net.run_for(Duration::from_secs(1));
    }
    let limit = config().upload_rate_limit as usize * seconds;
    assert!(bytes <= limit + 2_000 && bytes > limit / 2, "{bytes} of {limit}");
    // And what is remembered of it is bounded: it still works.
    assert!(net.finds(3, 20, 9));
}

#[test]
fn who_shows_no_token_stores_nothing() {
    let mut net = Net::new(25, 0);
    let node = net.join(config());
    let (id, info_hash) = (NodeId([1; 20]), NodeId([2; 20]));
    let announce = |token| Arguments::AnnouncePeer { info_hash, port: Some(7_000), token, seed: false };
    let get = Arguments::GetPeers { info_hash, want: Want::default(), scrape: false };
    let answer = net.ask(node, address(9), id, get.clone()).unwrap();
    let token = response(&answer).token.unwrap();
    assert_eq!(error_code(&net.ask(node, address(9), id, announce(b"guessed!")).unwrap()), 203);
    assert_eq!(error_code(&net.ask(node, address(10), id, announce(token)).unwrap()), 203);
    response(&net.ask(node, address(9), id, announce(token)).unwrap());
    let answer = net.ask(node, address(10), id, get).unwrap();
    assert_eq!(response(&answer).peers, [SocketAddr::new(address(9).ip(), 7_000)]);
    let announced = Event::Announced { info_hash, peer: SocketAddr::new(address(9).ip(), 7_000) };
    assert!(net.events.contains(&(node, announced)));
}

#[test]
fn what_is_kept_for_others_has_limits_and_ends() {
    let mut net = Net::new(26, 0);
    let few = Config { max_torrents: 10, max_peers: 5, ..config() };
    let node = net.join(few.clone());
    let now = net.now;
    for torrent in 0..30 {
        for peer in 0..20 {
            net.nodes[node].store.announce(NodeId([torrent; 20]), address(peer), false, now, &few);
        }
    }
    assert_eq!(net.nodes[node].store.len().0, 10);
    let peers = net.nodes[node].store.peers(NodeId([29; 20]), 100, now, &mut net.rng);
    assert_eq!(peers.len(), 5);
    net.run_for(Duration::from_secs(32 * 60));
    assert_eq!(net.nodes[node].store.len().0, 0);
}

#[test]
fn nobody_can_send_us_to_ourselves_or_to_nowhere() {
    let teller = address(1);
    let bad = ["127.0.0.1:80", "0.0.0.0:80", "224.0.0.1:80", "255.255.255.255:80", "9.9.9.9:0", "[::1]:80"];
    assert!(bad.iter().all(|bad| !is_askable(bad.parse().unwrap(), teller)));
    let here = "127.0.0.1:1".parse().unwrap();
    assert!(is_askable("127.0.0.1:2".parse().unwrap(), here));
    assert!(is_askable("9.9.9.9:1".parse().unwrap(), teller));
}

#[test]
fn where_ids_are_enforced_nobody_chooses_one() {
    let mut net = Net::new(27, 0);
    let strict = net.join(Config { enforce_node_id: true, ..config() });
    let chosen = NodeId([1; 20]);
    assert_eq!(error_code(&net.ask(strict, address(9), chosen, Arguments::Ping).unwrap()), 203);
    let rightful = node_id::node_id(address(9).ip(), &mut net.rng);
    response(&net.ask(strict, address(9), rightful, Arguments::Ping).unwrap());
    let (now, config) = (net.now, net.nodes[strict].config.clone());
    let node = NodeInfo { id: chosen, address: address(9) };
    assert!(!net.nodes[strict].table.answered(node, false, now, &config));
}

#[test]
fn a_node_that_learns_its_address_takes_an_id_that_belongs_to_it_and_is_still_found() {
    let mut net = Net::grown(28, 40, 0);
    let before = net.nodes[7].id();
    let (now, ip) = (net.now, address(7).ip());
    net.nodes[7].set_external(ip, now, &mut net.rng);
    net.settle(7);
    let after = net.nodes[7].id();
    assert!(before != after && is_valid(after, ip));
    assert!(net.nodes[7].num_nodes() >= K, "it has forgotten everybody");
    net.run_for(Duration::from_secs(60));
    assert!(net.finds(7, 30, 5));
    net.nodes[7].set_external(ip, now, &mut net.rng);
    assert_eq!(net.nodes[7].id(), after, "it was right already");
}
