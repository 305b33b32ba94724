//! Trackers that are asked by UDP (BEP 15): repetitions, connection ids, and packets from strangers.

use std::net::SocketAddr;
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::Command;
use pilotfish::settings::{Seconds, Settings};
use pilotfish_plugin::TorrentHandle;
use pilotfish_tests::sim::{Content, Mood, NodeId, Sim, talkative};

use crate::trackers::{content, trackers};

const URL: &str = "udp://t.test:80/announce?key=1";

/// A node that asks one tracker by UDP.
fn asking(sim: &mut Sim, seed: u64, settings: Settings) -> (NodeId, TorrentHandle) {
    let content = content(seed, &[&[URL]]);
    let leech = sim.node_with(settings);
    let torrent = sim.add(leech, &content);
    (leech, torrent)
}

fn patient(seconds: u32) -> Settings {
    Settings { tracker_completion_timeout: Seconds(seconds), ..talkative() }
}

/// When packets came, in seconds since the first, and what they asked.
fn packets(sim: &mut Sim) -> Vec<(u64, u32)> {
    let packets = sim.tracker_at("t.test").packets.clone();
    packets.iter().map(|(at, action)| ((*at - packets[0].0).as_secs(), *action)).collect()
}

fn address(sim: &mut Sim) -> SocketAddr {
    SocketAddr::new(sim.tracker_at("t.test").ip, 80)
}

fn reannounce(torrent: TorrentHandle) -> Command {
    Command::ForceReannounce { torrent, after: Duration::ZERO, tracker: None, ignore_min_interval: true }
}

#[test]
fn a_question_is_repeated_after_15_seconds_and_then_after_twice_as_long_each_time() {
    let mut sim = Sim::new(740);
    sim.tracker("t.test").mood = Mood::Silent;
    let (leech, torrent) = asking(&mut sim, 740, patient(3_600));
    sim.run_for(Duration::from_secs(2_000));
    assert_eq!(packets(&mut sim), [0, 15, 45, 105, 225, 465, 945, 1_905].map(|at| (at, 0)));
    assert!(trackers(&mut sim, leech, torrent)[0].updating);
    sim.run_for(Duration::from_secs(1_700));
    assert_eq!(trackers(&mut sim, leech, torrent)[0].fails, 1, "in the end its time is over");
}

#[test]
fn by_default_there_are_two_attempts_in_half_a_minute() {
    let mut sim = Sim::new(741);
    sim.tracker("t.test").mood = Mood::Silent;
    let (leech, torrent) = asking(&mut sim, 741, talkative());
    sim.run_for(Duration::from_secs(31));
    assert_eq!(packets(&mut sim), [(0, 0), (15, 0)]);
    assert_eq!(trackers(&mut sim, leech, torrent)[0].message, "the tracker did not answer in time");
}

#[test]
fn lost_packets_cost_time_and_nothing_else() {
    let mut sim = Sim::new(742);
    sim.tracker("t.test").lost = 1;
    let (leech, torrent) = asking(&mut sim, 742, talkative());
    sim.run_for(Duration::from_secs(20));
    assert_eq!(packets(&mut sim), [(0, 0), (15, 0), (15, 1)]);
    let status = &trackers(&mut sim, leech, torrent)[0];
    assert!(status.verified && status.start_sent);
    assert_eq!(sim.tracker_at("t.test").heard[0].options, b"\x02\x0f/announce?key=1\x00");
}

#[test]
fn a_connection_id_serves_for_a_minute() {
    let mut sim = Sim::new(743);
    sim.tracker("t.test");
    let (leech, torrent) = asking(&mut sim, 743, talkative());
    for wait in [30, 29, 2, 10] {
        sim.run_for(Duration::from_secs(wait));
        sim.command(leech, reannounce(torrent));
    }
    sim.run_for(Duration::from_secs(1));
    let actions: Vec<u32> = packets(&mut sim).into_iter().map(|(_, action)| action).collect();
    assert_eq!(actions, [0, 1, 1, 1, 0, 1, 1]);
}

#[test]
fn a_connection_id_that_the_tracker_has_forgotten_is_replaced() {
    for complains in [true, false] {
        let mut sim = Sim::new(744);
        sim.tracker("t.test").complains = complains;
        let (leech, torrent) = asking(&mut sim, 744, talkative());
        sim.run_for(Duration::from_secs(5));
        sim.tracker_at("t.test").lasts = Duration::from_secs(4);
        sim.command(leech, reannounce(torrent));
        sim.run_for(Duration::from_secs(20));
        let actions: Vec<u32> = packets(&mut sim).into_iter().map(|(_, action)| action).collect();
        assert_eq!(actions, [0, 1, 1, 0, 1]);
        assert_eq!(sim.tracker_at("t.test").heard.len(), 2);
        assert_eq!(trackers(&mut sim, leech, torrent)[0].fails, 0);
    }
}

#[test]
fn a_question_whose_connection_id_expires_meanwhile_asks_for_another() {
    let mut sim = Sim::new(745);
    sim.tracker("t.test");
    let (leech, torrent) = asking(&mut sim, 745, patient(600));
    sim.run_for(Duration::from_secs(5));
    sim.tracker_at("t.test").mood = Mood::Silent;
    sim.command(leech, reannounce(torrent));
    sim.run_for(Duration::from_secs(1));
    sim.tracker_at("t.test").mood = Mood::Answers;
    sim.tracker_at("t.test").lost = 3;
    sim.run_for(Duration::from_secs(300));
    let actions: Vec<u32> = packets(&mut sim).into_iter().map(|(_, action)| action).collect();
    // Asked in vain, then for a connection, twice in vain.
    assert_eq!(actions, [0, 1, 1, 0, 0, 0, 0, 1]);
    assert_eq!(trackers(&mut sim, leech, torrent)[0].fails, 0);
}

#[test]
fn a_refusal_is_one() {
    let mut sim = Sim::new(746);
    sim.tracker("t.test").mood = Mood::Refuses("unregistered torrent".to_owned());
    let (leech, torrent) = asking(&mut sim, 746, talkative());
    sim.run_for(Duration::from_secs(5));
    let status = &trackers(&mut sim, leech, torrent)[0];
    assert_eq!((status.fails, status.message.as_str()), (1, "unregistered torrent"));
}

#[test]
fn packets_that_answer_nothing_are_nobodys() {
    let mut sim = Sim::new(747);
    sim.tracker("t.test").mood = Mood::Silent;
    let (leech, torrent) = asking(&mut sim, 747, patient(600));
    sim.tap();
    sim.run_for(Duration::from_secs(16));
    let transaction = sim.datagrams_of(leech).last().unwrap().1[12..16].to_vec();
    let (tracker, stranger) = (address(&mut sim), SocketAddr::from(([10, 99, 0, 1], 80)));
    let answer = |action: u8, tail: &[u8]| [&[0, 0, 0, action][..], &transaction, tail].concat();
    // From elsewhere; with the number of no question; what was not asked; cut short; and nothing at all.
    sim.send_to_node(stranger, leech, &answer(0, &[9; 8]));
    sim.send_to_node(SocketAddr::new(tracker.ip(), 81), leech, &answer(3, b"no"));
    let mut other = answer(0, &[9; 8]);
    other[4] ^= 1;
    sim.send_to_node(tracker, leech, &other);
    sim.send_to_node(tracker, leech, &answer(1, &[0; 40]));
    sim.send_to_node(tracker, leech, &answer(2, &[0; 40]));
    sim.send_to_node(tracker, leech, &answer(0, &[9; 7]));
    for length in 0..8 {
        sim.send_to_node(tracker, leech, &answer(0, b"")[..length]);
    }
    sim.run_for(Duration::from_secs(1));
    assert_eq!(packets(&mut sim), [(0, 0), (15, 0)]);
    let status = &trackers(&mut sim, leech, torrent)[0];
    assert!(status.updating && status.fails == 0);
    // The right one still counts, although it answers the first of two packets.
    sim.send_to_node(tracker, leech, &answer(0, &[9; 8]));
    assert_eq!(packets(&mut sim).last(), Some(&(16, 1)));
}

#[test]
fn peers_that_are_cut_short_or_too_many_are_left_out() {
    let mut sim = Sim::new(748);
    let body = [vec![0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0], vec![7; 60_001]].concat();
    sim.tracker("t.test").mood = Mood::Says(200, body);
    let (leech, _) = asking(&mut sim, 748, talkative());
    sim.run_for(Duration::from_secs(5));
    let peers: Vec<u32> = sim
        .alerts(leech)
        .filter_map(|alert| match alert {
            AlertKind::TrackerReply { num_peers, .. } => Some(*num_peers),
            _ => None,
        })
        .collect();
    assert_eq!(peers, [2_000]);
}

#[test]
fn a_name_that_leads_nowhere_is_a_failure() {
    let mut sim = Sim::new(749);
    sim.names.insert("six.test".to_owned(), vec!["2001:db8::1".parse().unwrap()]);
    let leech = sim.node();
    let mut said = Vec::new();
    for (seed, url) in [(1, "udp://nowhere.test:80"), (2, "udp://six.test:80")] {
        let content = Content::tracked(seed, 20_000, 16_384, &[&[url]]);
        let torrent = sim.add(leech, &content);
        sim.run_for(Duration::from_secs(1));
        said.push(trackers(&mut sim, leech, torrent)[0].message.clone());
    }
    assert!(said[0].starts_with("the tracker's name cannot be looked up"), "{said:?}");
    assert_eq!(said[1], "the tracker has no address that we can send to");
}

#[test]
fn a_tracker_with_several_addresses_is_tried_at_each() {
    let mut sim = Sim::new(750);
    let ip = sim.tracker("t.test").ip;
    sim.names.insert("t.test".to_owned(), vec!["10.77.0.1".parse().unwrap(), ip]);
    let (leech, torrent) = asking(&mut sim, 750, talkative());
    sim.run_for(Duration::from_secs(20));
    let status = &trackers(&mut sim, leech, torrent)[0];
    assert!(status.verified && status.fails == 0);
}

/// A tracker with an address of each family, and a node that listens on both.
fn two_families(seed: u64, url: &str) -> (Sim, NodeId, Content) {
    let mut sim = Sim::new(seed);
    let (ip, ip6) = (sim.tracker("t.test").ip, "fd00::7".parse().unwrap());
    sim.tracker_at("t.test").ip6 = Some(ip6);
    sim.names.insert("t.test".to_owned(), vec![ip6, ip]);
    let node = sim.node();
    sim.listen(node, "[fd00::1]:6882".parse().unwrap());
    (sim, node, content(seed, &[&[url]]))
}

#[test]
fn a_tracker_is_told_by_each_address_family_that_is_listened_on() {
    let (mut sim, node, content) = two_families(780, "udp://t.test:80");
    let torrent = sim.seed(node, &content);
    sim.run_for(Duration::from_secs(5));
    let heard: Vec<(String, bool)> =
        sim.tracker_at("t.test").heard.iter().map(|heard| (heard.event.clone(), heard.by_ip6)).collect();
    let mut families: Vec<bool> = heard.iter().map(|(_, by_ip6)| *by_ip6).collect();
    families.sort();
    assert_eq!((families, heard.iter().all(|(event, _)| event == "started")), (vec![false, true], true));
    let status = &trackers(&mut sim, node, torrent)[0];
    assert!(status.start_sent && !status.updating && status.fails == 0);
    sim.shut_down(node);
    assert_eq!(sim.events_at("t.test")[2..], ["stopped", "stopped"]);
}

#[test]
fn a_tracker_that_is_silent_in_one_family_works_by_the_other() {
    let (mut sim, node, content) = two_families(781, "udp://t.test:80");
    // Nobody is at its other address.
    sim.tracker_at("t.test").ip6 = None;
    let torrent = sim.seed(node, &content);
    sim.run_for(Duration::from_secs(120));
    assert_eq!(sim.events_at("t.test"), ["started"]);
    assert_eq!(crate::trackers::errors(&sim, node), []);
    let status = &trackers(&mut sim, node, torrent)[0];
    assert!(status.start_sent && !status.updating && status.fails == 0);
    sim.tracker_at("t.test").mood = Mood::Silent;
    sim.command(node, reannounce(torrent));
    sim.run_for(Duration::from_secs(120));
    assert!(
        crate::trackers::errors(&sim, node).iter().any(|(times, _)| *times == 1),
        "it fails where both are silent"
    );
}

#[test]
fn by_http_it_is_fetched_by_each_family_and_a_tracker_with_an_address_for_a_name_once() {
    for (url, families) in [
        ("http://t.test/announce", vec![Some(true), Some(false)]),
        ("http://10.200.0.0/announce", vec![None]),
    ] {
        let (mut sim, node, content) = two_families(782, url);
        sim.seed(node, &content);
        sim.run_for(Duration::from_secs(5));
        let asked: Vec<Option<bool>> = sim.fetched.iter().map(|(_, request)| request.is_v4).collect();
        assert_eq!(asked, families, "{url}");
        let ports: Vec<bool> =
            sim.fetched.iter().map(|(_, request)| request.url.contains("&port=6882&")).collect();
        assert_eq!(ports, families.iter().map(|is_v4| *is_v4 == Some(false)).collect::<Vec<_>>());
    }
}
