//! Trackers that are asked by HTTP, and whatever is the same by UDP: who is told what, when, and what becomes of the answer.

use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Answer, Command, TrackerStatus};
use pilotfish::metainfo::Magnet;
use pilotfish::settings::{ProxyType, Settings};
use pilotfish_plugin::TorrentHandle;
use pilotfish_tests::sim::{Content, Heard, Mood, NodeId, Sim, talkative};

const LIMIT: Duration = Duration::from_secs(120);

/// The URL of the tracker `name`, by HTTP.
fn http(name: &str) -> String {
    format!("http://{name}/announce")
}

/// A torrent with trackers in tiers.
pub(crate) fn content(seed: u64, tiers: &[&[&str]]) -> Content {
    Content::tracked(seed, 200_000, 16_384, tiers)
}

/// A node that has everything, and one that has nothing.
fn pair(sim: &mut Sim, content: &Content) -> ([NodeId; 2], [TorrentHandle; 2]) {
    let nodes = [sim.node(), sim.node()];
    (nodes, [sim.seed(nodes[0], content), sim.add(nodes[1], content)])
}

pub(crate) fn trackers(sim: &mut Sim, node: NodeId, torrent: TorrentHandle) -> Vec<TrackerStatus> {
    match sim.ask(node, |ticket| Command::Trackers(ticket, torrent)) {
        Answer::Trackers(Some(trackers)) => trackers,
        other => panic!("no trackers, but {other:?}"),
    }
}

/// What a tracker heard from one node.
fn heard_from(sim: &mut Sim, name: &str, node: NodeId) -> Vec<Heard> {
    let address = sim.at(node).address;
    sim.tracker_at(name).heard.iter().filter(|heard| heard.from == Some(address)).cloned().collect()
}

fn events(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|heard| heard.event.as_str()).collect()
}

/// The alerts of a node that `wanted` makes something of.
fn alerts<T>(sim: &Sim, node: NodeId, wanted: impl Fn(&AlertKind) -> Option<T>) -> Vec<T> {
    sim.alerts(node).filter_map(wanted).collect()
}

pub(crate) fn errors(sim: &Sim, node: NodeId) -> Vec<(u32, String)> {
    alerts(sim, node, |alert| match alert {
        AlertKind::TrackerError { times_in_row, error_message, .. } => {
            Some((*times_in_row, error_message.clone()))
        }
        _ => None,
    })
}

#[test]
fn two_that_know_only_the_tracker_find_each_other_and_tell_it_everything() {
    for url in ["http://t.test/announce", "udp://t.test:80/announce"] {
        let mut sim = Sim::new(700);
        sim.tracker("t.test");
        let content = content(700, &[&[url]]);
        let ([seed, leech], torrents) = pair(&mut sim, &content);
        sim.run_until_finished(LIMIT, &[(leech, torrents[1])]);
        sim.assert_complete(leech, &content);
        sim.run_for(Duration::from_secs(5));
        for node in [seed, leech] {
            sim.shut_down(node);
        }
        let of_seed = heard_from(&mut sim, "t.test", seed);
        let of_leech = heard_from(&mut sim, "t.test", leech);
        assert_eq!(events(&of_seed), ["started", "stopped"], "{url}");
        assert_eq!(events(&of_leech), ["started", "completed", "stopped"], "{url}");
        assert_eq!(of_leech.iter().map(|heard| heard.left).collect::<Vec<_>>(), [200_000, 0, 0]);
        assert_eq!(of_seed[0].left, 0);
        assert_eq!((of_leech[0].num_want, of_leech[2].num_want), (200, 0));
        assert_eq!(of_leech[0].info_hash, content.metainfo.info_hashes().truncated());
        assert!(of_leech[0].key != 0 && of_leech.iter().all(|heard| heard.key == of_leech[0].key));
        let peers = alerts(&sim, leech, |alert| match alert {
            AlertKind::TrackerReply { num_peers, .. } => Some(*num_peers),
            _ => None,
        });
        assert!(peers.starts_with(&[0, 1]), "{url}: {peers:?}");
        let announced = alerts(&sim, leech, |alert| match alert {
            AlertKind::TrackerAnnounce { event, tracker_url, .. } => {
                Some((event.clone(), tracker_url.clone()))
            }
            _ => None,
        });
        assert_eq!(announced[1], ("completed".to_owned(), url.to_owned()));
    }
}

#[test]
fn a_link_with_a_tracker_is_enough() {
    for url in ["http://t.test/announce", "udp://t.test:80"] {
        let mut sim = Sim::new(701);
        sim.tracker("t.test");
        let content = content(701, &[&[url]]);
        let [seed, leech] = [(); 2].map(|()| sim.node_with_metadata(talkative()));
        sim.seed(seed, &content);
        let link = Magnet { name: None, ..content.metainfo.magnet() };
        assert_eq!(link.trackers, [url]);
        let torrent = sim.add_as(leech, AddTorrent::new(link));
        sim.run_until_finished(LIMIT, &[(leech, torrent)]);
        sim.assert_complete(leech, &content);
        sim.run_for(Duration::from_secs(5));
        // While nobody knows how much is missing, it is something; and the metadata is no reason to begin anew.
        let heard = heard_from(&mut sim, "t.test", leech);
        assert_eq!(events(&heard), ["started", "completed"]);
        assert!(heard[0].left > 0);
    }
}

#[test]
fn a_silent_tracker_makes_room_for_the_next_tier_and_is_not_given_up() {
    let mut sim = Sim::new(702);
    sim.tracker("first.test").mood = Mood::Silent;
    sim.tracker("second.test");
    let content = content(702, &[&["http://first.test/announce"], &["http://second.test/announce"]]);
    let (leech, start) = (sim.node(), sim.now());
    let torrent = sim.add(leech, &content);
    sim.run_for(Duration::from_secs(60));
    let second = heard_from(&mut sim, "second.test", leech);
    assert_eq!(events(&second), ["started"]);
    assert_eq!((second[0].at - start).as_secs(), 30, "when the first has had its time");
    sim.tracker_at("first.test").mood = Mood::Answers;
    sim.run_for(Duration::from_secs(2_400));
    assert_eq!(events(&heard_from(&mut sim, "second.test", leech)), ["started"], "it is left alone now");
    let first = heard_from(&mut sim, "first.test", leech);
    assert_eq!(events(&first).last(), Some(&""));
    let status = trackers(&mut sim, leech, torrent);
    assert!(status.iter().all(|tracker| tracker.verified && tracker.start_sent && tracker.fails == 0));
    sim.shut_down(leech);
    assert_eq!(sim.events_at("second.test"), ["started", "stopped"], "but hears of the end");
    assert_eq!(sim.events_at("first.test").last().unwrap(), "stopped");
}

#[test]
fn a_tracker_that_refuses_is_asked_less_and_less_often() {
    let mut sim = Sim::new(703);
    sim.tracker("t.test").mood = Mood::Refuses("go away".to_owned());
    let content = content(703, &[&["http://t.test/announce"]]);
    let leech = sim.node();
    let torrent = sim.add(leech, &content);
    sim.run_for(Duration::from_secs(3_600 * 10));
    let times: Vec<Duration> = heard_from(&mut sim, "t.test", leech).iter().map(|heard| heard.at).collect();
    let waits: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert!((17..23).contains(&waits[0]) && (55..70).contains(&waits[1]), "{waits:?}");
    assert!((3_600..4_500).contains(waits.last().unwrap()), "{waits:?}");
    assert!(waits.len() < 40, "{waits:?}");
    let errors = errors(&sim, leech);
    assert_eq!(errors[0], (1, "go away".to_owned()));
    assert_eq!(errors[6].0, 7);
    let status = &trackers(&mut sim, leech, torrent)[0];
    assert_eq!((status.message.as_str(), status.verified, status.start_sent), ("go away", false, false));
    assert!(sim.shut_down(leech) < Duration::from_secs(1), "it has nobody to tell");
}

#[test]
fn whatever_is_no_answer_is_a_failure_and_says_so() {
    let says = |status, body: &[u8]| Mood::Says(status, body.to_vec());
    let moods = [
        (Mood::Gone, "nobody is there"),
        (says(404, b"<html>not here</html>"), "the tracker answered with HTTP status 404"),
        (
            says(200, b"<html>"),
            "the tracker's answer makes no sense: the data is not bencoded: unexpected byte at offset 0",
        ),
        (says(200, b""), "the tracker's answer makes no sense: the bencoded data is cut short"),
        (says(200, b"de"), "the tracker's answer makes no sense: it has no peers"),
        (says(500, b"d14:failure reason4:busye"), "busy"),
        (says(200, &vec![b'x'; 2 << 20]), "the answer is too long"),
        (Mood::Silent, "the tracker did not answer in time"),
    ];
    for (mood, error) in moods {
        let mut sim = Sim::new(704);
        sim.tracker("t.test").mood = mood;
        let content = content(704, &[&["http://t.test/announce"]]);
        let leech = sim.node();
        sim.add(leech, &content);
        sim.run_for(Duration::from_secs(31));
        assert_eq!(errors(&sim, leech)[0], (1, error.to_owned()));
    }
}

#[test]
fn a_url_that_nobody_can_ask_is_said_once_and_left_alone() {
    let mut sim = Sim::new(705);
    sim.tracker("t.test");
    let content = content(705, &[&["wss://t.test/announce"], &["udp://t.test"], &["http://t.test/announce"]]);
    let leech = sim.node();
    sim.add(leech, &content);
    sim.run_for(Duration::from_secs(20_000));
    assert_eq!(errors(&sim, leech).len(), 2);
    assert!(sim.events_at("t.test").starts_with(&["started".to_owned(), String::new()]));
}

#[test]
fn a_private_torrent_asks_one_tracker_whatever_the_settings() {
    let urls = [http("a.test"), http("b.test"), http("c.test")];
    let tiers: [&[&str]; 2] = [&[&urls[0], &urls[1]], &[&urls[2]]];
    let everybody = Settings { announce_to_all_trackers: true, announce_to_all_tiers: true, ..talkative() };
    for private in [true, false] {
        let mut sim = Sim::new(706);
        ["a.test", "b.test", "c.test"].into_iter().for_each(|name| drop(sim.tracker(name).heard.clone()));
        let node = sim.node_with(everybody.clone());
        let content = match private {
            true => Content::tracked_privately(706, 100_000, 16_384, &tiers),
            false => Content::tracked(706, 100_000, 16_384, &tiers),
        };
        sim.add(node, &content);
        sim.run_for(Duration::from_secs(10));
        let told = ["a.test", "b.test", "c.test"].map(|name| sim.events_at(name).len());
        assert_eq!(told.iter().sum::<usize>(), if private { 1 } else { 3 }, "{told:?}");
    }
}

#[test]
fn completed_is_told_once_also_after_a_check_that_finds_less() {
    let mut sim = Sim::new(707);
    sim.tracker("t.test");
    let content = content(707, &[&["http://t.test/announce"]]);
    let ([_, leech], torrents) = pair(&mut sim, &content);
    sim.run_until_finished(LIMIT, &[(leech, torrents[1])]);
    sim.run_for(Duration::from_secs(5));
    sim.disk(leech).bytes(".", &content)[0] ^= 1;
    sim.command(leech, Command::Recheck(torrents[1]));
    sim.run_for(Duration::from_secs(1));
    sim.run_until_finished(LIMIT, &[(leech, torrents[1])]);
    sim.assert_complete(leech, &content);
    sim.run_for(Duration::from_secs(4_000));
    let heard = heard_from(&mut sim, "t.test", leech);
    assert_eq!(events(&heard), ["started", "completed", "", ""]);
}

#[test]
fn who_was_complete_before_never_says_completed() {
    let mut sim = Sim::new(708);
    sim.tracker("t.test");
    let content = content(708, &[&["http://t.test/announce"]]);
    let seed = sim.node();
    sim.seed(seed, &content);
    sim.run_for(Duration::from_secs(4_000));
    assert_eq!(sim.events_at("t.test"), ["started", "", ""]);
}

#[test]
fn a_pause_says_stopped_and_a_resume_says_started() {
    type Change = fn(TorrentHandle, bool) -> Command;
    let by_itself: Change =
        |torrent, pause| if pause { Command::PauseTorrent(torrent) } else { Command::ResumeTorrent(torrent) };
    let gracefully: Change = |torrent, pause| {
        if pause { Command::PauseTorrentGracefully(torrent) } else { Command::ResumeTorrent(torrent) }
    };
    let with_the_session: Change = |_, pause| Command::PauseSession(pause);
    for change in [by_itself, gracefully, with_the_session] {
        let mut sim = Sim::new(709);
        sim.tracker("t.test");
        let content = content(709, &[&["http://t.test/announce"]]);
        let leech = sim.node();
        let torrent = sim.add(leech, &content);
        sim.run_for(Duration::from_secs(5));
        sim.command(leech, change(torrent, true));
        sim.run_for(Duration::from_secs(5_000));
        assert_eq!(sim.events_at("t.test"), ["started", "stopped"]);
        sim.command(leech, change(torrent, false));
        sim.run_for(Duration::from_secs(5));
        assert_eq!(sim.events_at("t.test"), ["started", "stopped", "started"]);
    }
}

#[test]
fn a_pause_before_the_first_answer_is_not_forgotten() {
    let mut sim = Sim::new(710);
    sim.tracker("t.test");
    let content = content(710, &[&["http://t.test/announce"]]);
    let leech = sim.node();
    let torrent = sim.add(leech, &content);
    sim.run_until(LIMIT, |sim| !sim.tracker_at("t.test").heard.is_empty());
    sim.command(leech, Command::PauseTorrent(torrent));
    sim.run_for(Duration::from_secs(5));
    assert_eq!(sim.events_at("t.test"), ["started", "stopped"]);
}

#[test]
fn a_torrent_that_is_removed_says_goodbye_also_while_it_is_asking() {
    for early in [false, true] {
        let mut sim = Sim::new(711);
        sim.tracker("t.test");
        let content = content(711, &[&["http://t.test/announce"]]);
        let leech = sim.node();
        let torrent = sim.add(leech, &content);
        match early {
            true => sim.run_until(LIMIT, |sim| !sim.tracker_at("t.test").heard.is_empty()),
            false => sim.run_for(Duration::from_secs(5)),
        }
        sim.command(leech, Command::RemoveTorrent { torrent, delete_files: false });
        sim.run_for(Duration::from_secs(100));
        assert_eq!(sim.events_at("t.test"), ["started", "stopped"], "early: {early}");
    }
}

#[test]
fn the_end_of_a_session_waits_for_trackers_but_not_for_long() {
    let mut sim = Sim::new(712);
    sim.tracker("quick.test");
    sim.tracker("slow.test");
    sim.tracker("dead.test").mood = Mood::Silent;
    let content = content(
        712,
        &[&["http://quick.test/announce"], &["http://slow.test/announce"], &["http://dead.test/announce"]],
    );
    let leech = sim.node_with(Settings { announce_to_all_tiers: true, ..talkative() });
    sim.add(leech, &content);
    sim.run_for(Duration::from_secs(5));
    sim.tracker_at("slow.test").mood = Mood::Silent;
    let took = sim.shut_down(leech);
    assert_eq!(took, Duration::from_secs(5), "the setting stop_tracker_timeout");
    assert_eq!(sim.events_at("quick.test"), ["started", "stopped"]);
    assert_eq!(sim.events_at("slow.test"), ["started", "stopped"]);
    assert_eq!(sim.events_at("dead.test"), ["started"], "it never answered");
}

#[test]
fn a_session_that_may_not_wait_tells_nobody() {
    let mut sim = Sim::new(713);
    sim.tracker("t.test");
    let content = content(713, &[&["http://t.test/announce"]]);
    let leech =
        sim.node_with(Settings { stop_tracker_timeout: pilotfish::settings::Seconds(0), ..talkative() });
    sim.add(leech, &content);
    sim.run_for(Duration::from_secs(5));
    sim.shut_down(leech);
    assert_eq!(sim.events_at("t.test"), ["started"]);
}

#[test]
fn a_session_that_ends_right_after_a_download_says_completed_and_stopped() {
    let mut sim = Sim::new(714);
    sim.tracker("t.test");
    let content = content(714, &[&["http://t.test/announce"]]);
    let ([_, leech], torrents) = pair(&mut sim, &content);
    sim.run_until(LIMIT, |sim| sim.is_finished(leech, torrents[1]));
    sim.shut_down(leech);
    let heard = heard_from(&mut sim, "t.test", leech);
    assert_eq!(events(&heard), ["started", "completed", "stopped"]);
}

#[test]
fn nobody_is_told_of_a_torrent_that_is_only_checked_or_paused_or_not_checked_yet() {
    let mut sim = Sim::new(715);
    sim.tracker("t.test");
    let content = content(715, &[&["http://t.test/announce"]]);
    let [checker, paused, slow] = [sim.node(), sim.node(), sim.node()];
    sim.add_as(checker, AddTorrent { check_only: true, ..AddTorrent::new(content.metainfo.clone()) });
    sim.add_as(paused, AddTorrent { paused: true, ..AddTorrent::new(content.metainfo.clone()) });
    sim.stall(slow, Duration::from_secs(600));
    sim.seed(slow, &content);
    sim.run_for(Duration::from_secs(500));
    assert_eq!(sim.events_at("t.test"), [""; 0]);
    sim.run_for(Duration::from_secs(500));
    assert_eq!(heard_from(&mut sim, "t.test", slow)[0].left, 0);
    assert_eq!(sim.events_at("t.test"), ["started"]);
}

#[test]
fn a_torrent_whose_disk_fails_leaves_the_swarm() {
    let mut sim = Sim::new(716);
    sim.tracker("t.test");
    let content = content(716, &[&["http://t.test/announce"]]);
    let ([_, leech], torrents) = pair(&mut sim, &content);
    sim.disk(leech).failing_writes = 1;
    sim.run_until(LIMIT, |sim| sim.status(leech, torrents[1]).error.is_some());
    sim.run_for(Duration::from_secs(5));
    assert_eq!(events(&heard_from(&mut sim, "t.test", leech)), ["started", "stopped"]);
}

#[test]
fn what_a_tracker_wants_to_hear_again_is_told_again() {
    let mut sim = Sim::new(717);
    let warned =
        b"10:tracker id3:xyz15:warning message4:slow11:external ip4:\x05\x06\x07\x0812:min intervali1000e";
    sim.tracker("t.test").more = warned.to_vec();
    let content = content(717, &[&["http://t.test/announce"]]);
    let leech = sim.node();
    let torrent = sim.add(leech, &content);
    sim.run_for(Duration::from_secs(5));
    let said = alerts(&sim, leech, |alert| match alert {
        AlertKind::TrackerWarning { warning_message, .. } => Some(warning_message.clone()),
        AlertKind::ExternalIp { external_address } => Some(external_address.to_string()),
        _ => None,
    });
    assert_eq!(said, ["slow", "5.6.7.8"]);
    let force = |ignore_min_interval| Command::ForceReannounce {
        torrent,
        after: Duration::from_secs(7),
        tracker: None,
        ignore_min_interval,
    };
    sim.command(leech, force(false));
    sim.run_for(Duration::from_secs(900));
    assert_eq!(sim.events_at("t.test"), ["started"], "it wants its rest");
    sim.command(leech, force(true));
    sim.run_for(Duration::from_secs(6));
    assert_eq!(sim.events_at("t.test"), ["started"]);
    sim.run_for(Duration::from_secs(2));
    let heard = heard_from(&mut sim, "t.test", leech);
    assert_eq!(events(&heard), ["started", ""]);
    assert_eq!(
        (heard[0].trackerid.as_deref(), heard[1].trackerid.as_deref()),
        (None, Some(b"xyz".as_slice()))
    );
}

#[test]
fn figures_are_asked_for_by_either_way() {
    for (url, scrapes) in
        [("http://t.test/announce", true), ("udp://t.test:80", true), ("http://t.test/a", false)]
    {
        let mut sim = Sim::new(718);
        sim.tracker("t.test");
        let content = content(718, &[&[url]]);
        let leech = sim.node();
        let torrent = sim.add(leech, &content);
        sim.run_for(Duration::from_secs(5));
        sim.command(leech, Command::ScrapeTracker { torrent, tracker: None });
        sim.run_for(Duration::from_secs(5));
        let said = alerts(&sim, leech, |alert| match alert {
            AlertKind::ScrapeReply { complete, incomplete, .. } => Some(Some((*complete, *incomplete))),
            AlertKind::ScrapeFailed { .. } => Some(None),
            _ => None,
        });
        assert_eq!(said, [scrapes.then_some((1, 2))], "{url}");
        let status = &trackers(&mut sim, leech, torrent)[0];
        assert_eq!(status.scrape_downloaded, scrapes.then_some(7), "{url}");
        assert_eq!(status.fails, 0, "figures are no reason to give it up");
    }
}

#[test]
fn a_tracker_that_is_added_later_is_asked_when_its_turn_comes() {
    let mut sim = Sim::new(719);
    sim.tracker("t.test");
    let content = Content::random(719, 100_000, 16_384);
    let leech = sim.node();
    let torrent = sim.add(leech, &content);
    sim.run_for(Duration::from_secs(5));
    for _ in 0..2 {
        sim.command(leech, Command::AddTracker { torrent, url: http("t.test"), tier: 3 });
    }
    sim.run_for(Duration::from_secs(5));
    assert_eq!(sim.events_at("t.test"), ["started"]);
    let status = trackers(&mut sim, leech, torrent);
    assert_eq!((status.len(), status[0].tier, status[0].url.as_str()), (1, 3, "http://t.test/announce"));
    assert!(status[0].next_announce.is_some_and(|wait| wait > Duration::from_secs(1_700)));
}

#[test]
fn many_torrents_ask_one_tracker_a_few_at_a_time() {
    let mut sim = Sim::new(720);
    sim.tracker("t.test").mood = Mood::Silent;
    let leech = sim.node_with(Settings { max_concurrent_http_announces: 3, ..talkative() });
    for seed in 0..10 {
        let content = Content::tracked(seed, 20_000, 16_384, &[&["http://t.test/announce"]]);
        sim.add(leech, &content);
    }
    sim.run_for(Duration::from_secs(5));
    assert_eq!(sim.events_at("t.test").len(), 3);
    sim.tracker_at("t.test").mood = Mood::Answers;
    sim.run_for(Duration::from_secs(200));
    let mut torrents: Vec<Vec<u8>> =
        sim.tracker_at("t.test").heard.iter().map(|heard| heard.info_hash.clone()).collect();
    torrents.sort();
    torrents.dedup();
    assert_eq!(torrents.len(), 10);
}

#[test]
fn an_answer_with_nonsense_for_peers_does_no_harm() {
    let mut sim = Sim::new(721);
    let flood: Vec<u8> =
        (0..30_000_u32).flat_map(|n| [&n.to_be_bytes()[..], &[0x1a, 0xe1]].concat()).collect();
    let body = [format!("d8:intervali1e5:peers{}:", flood.len()).as_bytes(), &flood, b"e"].concat();
    sim.tracker("t.test").mood = Mood::Says(200, body);
    let content = content(721, &[&["http://t.test/announce"]]);
    let leech = sim.node();
    let torrent = sim.add(leech, &content);
    sim.run_for(Duration::from_secs(290));
    assert_eq!(sim.events_at("t.test").len(), 1, "an interval of one second is not obeyed");
    assert!(sim.status(leech, torrent).num_peers == 0);
    sim.shut_down(leech);
}

#[test]
fn a_proxy_is_asked_to_ask() {
    let mut sim = Sim::new(722);
    sim.tracker("t.test");
    let content = content(722, &[&["https://t.test/announce"]]);
    let leech = sim.node_with(Settings {
        proxy_type: ProxyType::Socks5Pw,
        proxy_username: "me".into(),
        proxy_password: "secret".into(),
        ..crate::relays::behind_a_proxy()
    });
    sim.add(leech, &content);
    sim.run_for(Duration::from_secs(5));
    let (_, request) = &sim.fetched[0];
    assert!(request.url.contains("&port=1&"), "nobody is told where we listen");
    let proxy = request.proxy.as_ref().unwrap();
    assert_eq!(
        (proxy.host.as_str(), proxy.port, proxy.socks, proxy.looks_up),
        ("proxy.test", 1_080, true, true)
    );
    assert_eq!(proxy.login, Some(("me".to_owned(), "secret".to_owned())));
}

#[test]
fn who_wants_to_be_anonymous_says_no_name_but_to_private_trackers() {
    for (anonymous, private, named) in [(false, false, true), (true, false, false), (true, true, true)] {
        let mut sim = Sim::new(723);
        sim.tracker("t.test");
        let tiers: &[&[&str]] = &[&["http://t.test/announce"]];
        let content = match private {
            true => Content::tracked_privately(723, 100_000, 16_384, tiers),
            false => Content::tracked(723, 100_000, 16_384, tiers),
        };
        let leech = sim.node_with(Settings { anonymous_mode: anonymous, ..talkative() });
        sim.add(leech, &content);
        sim.run_for(Duration::from_secs(5));
        assert_eq!(sim.fetched[0].1.user_agent.is_some(), named);
    }
}
