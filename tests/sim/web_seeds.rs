//! Web seeds: servers that are good, slow, simple, wrong, or elsewhere; and what plugins see of them.

use std::net::SocketAddr;
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::{AddTorrent, Answer, Command, SaveResumeFlags};
use pilotfish::ip_filter::{Access, IpFilter, Rule};
use pilotfish::settings::Settings;
use pilotfish_plugin::{ConnectionType, TorrentHandle};
use pilotfish_tests::sim::{Content, Files, Log, NodeId, Probe, Sim, WebReply, talkative};

const LIMIT: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);

/// One file, of eight pieces of two blocks each and a little more.
fn file() -> Content {
    Content::file(170, 8 * 32_768 + 5_000, 32_768)
}

/// Several files, whose borders are not those of pieces.
fn folder() -> Content {
    Content::folder(171, &[100_000, 20, 70_000, 0, 150_000], 32_768)
}

/// The URL of what a server has.
fn url(server: SocketAddr, path: &str) -> String {
    format!("http://{server}{path}")
}

/// A node with a probe, a torrent, and its web seeds.
struct Leech {
    sim: Sim,
    node: NodeId,
    torrent: TorrentHandle,
    log: Log,
    content: Content,
}

impl Leech {
    fn new(sim: Sim, content: Content, urls: &[String]) -> Self {
        Self::with(sim, talkative(), Probe::new(), content, urls)
    }

    fn with(mut sim: Sim, settings: Settings, probe: Probe, content: Content, urls: &[String]) -> Self {
        let node = sim.node_with(settings);
        let log = probe.plug(&mut sim, node);
        let torrent = AddTorrent { web_seeds: urls.to_vec(), ..AddTorrent::new(content.metainfo.clone()) };
        let Answer::Added(Ok(torrent)) =
            sim.ask(node, |ticket| Command::AddTorrent(ticket, Box::new(torrent)))
        else {
            panic!("not added")
        };
        Self { sim, node, torrent, log, content }
    }

    fn finish(&mut self) {
        self.sim.run_until_finished(LIMIT, &[(self.node, self.torrent)]);
        self.sim.run_for(SECOND);
        self.sim.assert_complete(self.node, &self.content);
    }

    /// What plugins heard of connections, without ticks, and with runs of the same hook as one line.
    fn heard(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        let hooks = log.iter().filter(|line| line.starts_with("peer.") || line.contains("new_connection"));
        let mut heard: Vec<String> = Vec::new();
        for line in hooks.filter(|line| !line.ends_with("tick")) {
            let hook = line.split(' ').next().unwrap().trim_start_matches("peer.");
            let shown = match hook {
                "on_piece" | "write_request" | "on_piece_pass" | "on_dont_have" | "on_have" => hook,
                _ => line.trim_start_matches("peer."),
            };
            if heard.last().is_none_or(|last| last != shown) {
                heard.push(shown.to_owned());
            }
        }
        heard
    }

    fn count(&self, hook: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.split(' ').next() == Some(hook)).count()
    }

    fn url_seed_alerts(&self) -> Vec<String> {
        let texts = self.sim.alerts(self.node).filter_map(|alert| match alert {
            AlertKind::UrlSeed { error, .. } => Some(error.clone()),
            _ => None,
        });
        texts.collect()
    }

    fn bans(&self) -> usize {
        self.sim.alerts(self.node).filter(|alert| matches!(alert, AlertKind::PeerBan { .. })).count()
    }
}

#[test]
fn plugins_see_a_web_seed_as_a_peer_that_has_everything() {
    let (mut sim, content) = (Sim::new(1), file());
    let files = Files::of(&content, "/pub/");
    let server = sim.serve(1, move |request| files.answer(request));
    let probe = Probe::new().peer("on_connected", |cx| {
        let peer = cx.this();
        assert_eq!(peer.connection_type(), ConnectionType::URL_SEED);
        assert!(peer.is_outgoing() && !peer.in_handshake() && peer.bt().is_none());
        assert_ne!(peer.pid().0, [0; 20]);
        false
    });
    let urls = [url(server, "/pub/")];
    let mut leech = Leech::with(sim, talkative(), probe, content, &urls);
    leech.finish();
    let heard = leech.heard();
    let first = [
        "torrent.new_connection 0",
        "on_connected",
        "on_have_all",
        "on_unchoke",
        "write_request",
        "on_piece",
    ];
    assert_eq!(&heard[..6], first);
    let last = ["on_piece_pass", "can_disconnect torrent finished", "on_disconnect torrent finished"];
    assert_eq!(&heard[heard.len() - 3..], last);
    assert!(heard.iter().all(|line| !line.contains("sent_") && !line.contains("handshake")), "{heard:?}");
    assert_eq!((leech.count("peer.on_piece"), leech.count("peer.on_piece_pass")), (17, 9));
    assert_eq!(leech.count("torrent.on_add_peer"), 0);
    // Neighbouring blocks are one request, within a piece and in what is sent.
    assert_eq!(leech.count("peer.write_request"), 9);
    let asked = leech.sim.requests_to(server);
    assert!(asked.len() <= 3, "{asked:?}");
    assert_eq!(asked[0].host, "10.1.0.1");
    assert!(asked[0].text.contains("User-Agent: Pilotfish/"));
}

#[test]
fn files_of_a_folder_are_asked_for_one_by_one_and_fit_together() {
    let (mut sim, content) = (Sim::new(2), folder());
    let files = Files::of(&content, "/a/b/");
    let server = sim.serve(1, move |request| files.answer(request));
    let mut leech = Leech::new(sim, content, &[url(server, "/a/b")]);
    leech.finish();
    let targets: std::collections::BTreeSet<&str> =
        leech.sim.requests_to(server).iter().map(|request| request.target.as_str()).collect();
    let all = [0, 1, 2, 4].map(|i| format!("/a/b/content-171/{i}.bin"));
    assert_eq!(targets.into_iter().collect::<Vec<_>>(), all.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(leech.sim.status(leech.node, leech.torrent).total_redundant_bytes, 0);
}

#[test]
fn a_server_that_ignores_ranges_sends_its_file_about_once() {
    // Larger than what is asked for at a time.
    let (mut sim, content) = (Sim::new(3), Content::file(172, 9 << 20, 65_536));
    let files = Files::of(&content, "/");
    let server = sim.serve(1, move |request| files.answer_whole(request));
    let mut leech = Leech::new(sim, content, &[url(server, "/")]);
    leech.finish();
    assert!(leech.heard().contains(&"on_choke".to_owned()));
    assert!(leech.sim.sent_by_server(server) < 3 * (9 << 20), "{}", leech.sim.sent_by_server(server));
}

#[test]
fn a_simple_server_has_a_folder_too() {
    let (mut sim, content) = (Sim::new(4), folder());
    let files = Files::of(&content, "/");
    let server = sim.serve(1, move |request| files.answer_whole(request));
    let mut leech = Leech::new(sim, content, &[url(server, "/")]);
    leech.finish();
}

#[test]
fn a_single_file_that_is_elsewhere_is_taken_from_there() {
    let (mut sim, content) = (Sim::new(5), file());
    let files = Files::of(&content, "/there/");
    let there = sim.serve(2, move |request| files.answer(request));
    let target = url(there, "/there/content-170.bin");
    let here = sim.serve(1, move |_| WebReply::moved(&target));
    let mut leech = Leech::new(sim, content, &[url(here, "/x.bin")]);
    leech.finish();
    assert_eq!(leech.sim.requests_to(here).len(), 1);
    assert!(leech.heard().contains(&"on_disconnect redirecting".to_owned()));
    // It is not told to others: the URL was good for one client at one time.
    let Answer::UrlSeeds(Some(urls)) = leech
        .sim
        .ask(leech.node, |ticket| Command::UrlSeeds(ticket, leech.torrent, ConnectionType::URL_SEED))
    else {
        panic!("no answer")
    };
    assert_eq!(urls, [url(here, "/x.bin")]);
}

#[test]
fn a_redirect_that_shows_a_connected_host_to_have_another_file_is_a_have() {
    // No piece is part of two files.
    let content = Content::folder(174, &[3 * 32_768, 2 * 32_768, 5 * 32_768], 32_768);
    let (mut sim, near) = (Sim::new(6), Files::of(&content, "/near/"));
    let far = near.clone().renamed(|path| path.replace("/near/content-174/", "/far/").replace(".bin", ""));
    // Slow enough to be there still when the next file turns out to be there, too.
    let there = sim.serve(2, move |request| far.answer(request).after(2 * SECOND));
    let here = sim.serve(1, move |request| {
        let moved = request.target.ends_with("/0.bin") || request.target.ends_with("/2.bin");
        let target = request.target.replace("/near/content-174/", "/far/").replace(".bin", "");
        if moved { WebReply::moved(&url(there, &target)) } else { near.answer(request).after(SECOND) }
    });
    let mut leech = Leech::new(sim, content, &[url(here, "/near/")]);
    leech.finish();
    let heard = leech.heard();
    assert!(heard.iter().any(|line| line.starts_with("on_bitfield")), "{heard:?}");
    assert!(heard.contains(&"on_have".to_owned()), "{heard:?}");
}

#[test]
fn a_folder_that_moved_is_asked_for_where_it_is() {
    let (mut sim, content) = (Sim::new(7), folder());
    let files = Files::of(&content, "/new/");
    let server = sim.serve(1, move |request| match request.target.strip_prefix("/content") {
        Some(rest) => WebReply::moved(&format!("/new/content{rest}")),
        None => files.answer(request),
    });
    let mut leech = Leech::new(sim, content, &[url(server, "/")]);
    leech.finish();
}

#[test]
fn files_that_moved_on_their_own_host_are_asked_for_where_they_are() {
    let (mut sim, content) = (Sim::new(27), folder());
    let files = Files::of(&content, "/").renamed(|path| path.replace("/content-171/", "/x?"));
    let server = sim.serve(1, move |request| match request.target.strip_prefix("/content-171/") {
        Some(rest) => WebReply::moved(&format!("/x?{rest}")),
        None => files.answer(request),
    });
    let mut leech = Leech::new(sim, content, &[url(server, "/")]);
    leech.finish();
}

#[test]
fn redirects_that_never_end_are_given_up() {
    let (mut sim, content) = (Sim::new(8), file());
    let mut hops = 0;
    let server = sim.serve(1, move |_| {
        hops += 1;
        WebReply::moved(&format!("/hop/{hops}"))
    });
    let mut leech = Leech::new(sim, content, &[url(server, "/x")]);
    leech.sim.run_for(LIMIT);
    assert_eq!(leech.sim.requests_to(server).len(), 6);
    assert_eq!(leech.url_seed_alerts(), ["too many redirects"]);
}

#[test]
fn bad_data_bans_a_web_seed_and_a_good_one_mends_it() {
    let (mut sim, content) = (Sim::new(9), file());
    let good = Files::of(&content, "/");
    let bad = good.clone().spoil(0, 100_000);
    let (mut bans, mut bad_first) = (0, 0);
    let liar = sim.serve(1, move |request| bad.answer(request));
    let slow = sim.serve(2, move |request| good.answer(request).after(SECOND));
    let mut leech = Leech::new(sim, content, &[url(liar, "/"), url(slow, "/")]);
    leech.finish();
    bans += leech.bans();
    bad_first += leech.count("peer.on_piece_failed");
    assert_eq!((bans, bad_first), (1, 1));
    let heard = leech.heard();
    let failed = heard.iter().position(|line| line.starts_with("on_piece_failed")).unwrap();
    assert!(heard[failed..].contains(&"on_disconnect too many corrupt pieces".to_owned()), "{heard:?}");
    assert_eq!(leech.url_seed_alerts(), ["peer banned"]);
    // Nothing was asked of it any more.
    let last = leech.sim.requests_to(liar).last().unwrap().at;
    assert!(last < SECOND, "{last:?}");
}

#[test]
fn one_bad_file_of_several_is_not_asked_for_again() {
    let (mut sim, content) = (Sim::new(10), folder());
    let good = Files::of(&content, "/");
    let bad = good.clone().spoil(4, 75_000);
    let other = good.clone();
    let liar = sim.serve(1, move |request| bad.answer(request));
    let slow = sim.serve(2, move |request| other.answer(request).after(5 * SECOND));
    let mut leech = Leech::new(sim, content, &[url(liar, "/"), url(slow, "/")]);
    leech.finish();
    let log = leech.log.lock().unwrap().clone();
    let place = |hook: &str| log.iter().position(|line| line.split(' ').next() == Some(hook));
    assert!(place("peer.on_dont_have") < place("peer.on_piece_failed"), "{log:?}");
    drop(log);
    assert!(leech.count("peer.on_dont_have") > 3);
    assert_eq!(leech.bans(), 0);
}

#[test]
fn a_file_that_is_not_there_is_taken_from_a_server_that_has_it() {
    let (mut sim, content) = (Sim::new(11), folder());
    let (some, all) = (Files::of(&content, "/"), Files::of(&content, "/"));
    let poor = sim.serve(1, move |request| match request.target.ends_with("/2.bin") {
        true => WebReply::refusal("404 Not Found"),
        false => some.answer(request),
    });
    let slow = sim.serve(2, move |request| all.answer(request).after(5 * SECOND));
    let mut leech = Leech::new(sim, content, &[url(poor, "/"), url(slow, "/")]);
    leech.finish();
    assert_eq!(leech.url_seed_alerts(), ["404 Not Found"]);
    let asked = leech.sim.requests_to(poor).iter().filter(|request| request.target.ends_with("/2.bin"));
    assert_eq!(asked.count(), 1);
}

#[test]
fn a_file_of_another_length_is_not_the_torrents() {
    let (mut sim, content) = (Sim::new(12), folder());
    let good = Files::of(&content, "/");
    let long = good.clone().lengthen(0, 1);
    let wrong = sim.serve(1, move |request| long.answer(request));
    let slow = sim.serve(2, move |request| good.answer(request).after(5 * SECOND));
    let mut leech = Leech::new(sim, content, &[url(wrong, "/"), url(slow, "/")]);
    leech.finish();
    let alerts = leech.url_seed_alerts();
    assert_eq!(alerts, ["the file has a length of 100001 bytes, where the torrent says 100000"]);
}

#[test]
fn a_server_that_is_busy_is_asked_again_when_it_says() {
    let (mut sim, content) = (Sim::new(13), file());
    let files = Files::of(&content, "/");
    let mut asked = 0;
    let server = sim.serve(1, move |request| {
        asked += 1;
        match asked {
            1 => WebReply::new("503 Busy", "Retry-After: 50\r\n", b""),
            2 => WebReply::refusal("500 Oh"),
            _ => files.answer(request),
        }
    });
    let mut leech = Leech::new(sim, content, &[url(server, "/")]);
    leech.finish();
    let at: Vec<u64> =
        leech.sim.requests_to(server).iter().map(|request| request.at.as_secs()).take(3).collect();
    assert!(at[0] == 0 && (50..53).contains(&at[1]) && (80..84).contains(&at[2]), "{at:?}");
    assert_eq!(leech.url_seed_alerts(), ["503 Busy", "500 Oh"]);
}

#[test]
fn a_server_that_falls_silent_is_left_if_plugins_consent() {
    let (mut sim, content) = (Sim::new(14), file());
    let files = Files::of(&content, "/");
    let mut asked = 0;
    let server = sim.serve(1, move |request| {
        asked += 1;
        files.answer(request).after(if asked == 1 { 1_000 * SECOND } else { Duration::ZERO })
    });
    let mut leech = Leech::new(sim, content, &[url(server, "/")]);
    leech.finish();
    let heard = leech.heard();
    let why = "timed out: inactivity";
    assert!(heard.contains(&format!("can_disconnect {why}")), "{heard:?}");
    assert!(heard.contains(&format!("on_disconnect {why}")), "{heard:?}");
    let again = leech.sim.requests_to(server)[1].at;
    assert!((45 * SECOND..60 * SECOND).contains(&again), "{again:?}");
}

#[test]
fn a_block_that_was_cut_off_is_suggested_and_not_sent_twice() {
    let (mut sim, content) = (Sim::new(15), file());
    let files = Files::of(&content, "/");
    let mut asked = 0;
    let server = sim.serve(1, move |request| {
        asked += 1;
        let reply = files.answer(request);
        if asked == 1 { reply.cut(5_000 + 40_000) } else { reply }
    });
    let mut leech = Leech::new(sim, content, &[url(server, "/")]);
    leech.finish();
    let heard = leech.heard();
    let again = heard.iter().rposition(|line| line == "on_have_all").unwrap();
    assert!(heard[again + 1].starts_with("on_suggest"), "{heard:?}");
    assert_eq!(heard[again + 2], "on_unchoke");
    let bodies = 8 * 32_768 + 5_000;
    assert!(leech.sim.sent_by_server(server) < bodies + 1_000, "{}", leech.sim.sent_by_server(server));
}

#[test]
fn hosts_have_names_and_one_that_has_none_is_tried_much_later() {
    let (mut sim, content) = (Sim::new(16), file());
    let files = Files::of(&content, "/");
    let server = sim.serve(1, move |request| files.answer(request));
    let nowhere: SocketAddr = "10.1.0.99:80".parse().unwrap();
    // The first of its addresses does not answer.
    sim.names.insert("files.example".to_owned(), vec![nowhere.ip(), server.ip()]);
    let urls = ["http://lost.example/".to_owned(), "http://files.example/".to_owned()];
    let mut leech = Leech::new(sim, content, &urls);
    leech.finish();
    assert_eq!(leech.sim.requests_to(server)[0].host, "files.example");
    let alerts = leech.url_seed_alerts();
    assert_eq!(alerts.len(), 2);
    assert!(alerts.iter().any(|alert| alert.starts_with("cannot look up its host")), "{alerts:?}");
    assert!(alerts.iter().any(|alert| alert.starts_with("cannot connect to 10.1.0.99:80")), "{alerts:?}");
}

#[test]
fn urls_that_cannot_be_used_are_told() {
    let content = file();
    let urls = ["ftp://h/x", "http://", "nothing"].map(str::to_owned);
    let mut leech = Leech::new(Sim::new(17), content, &urls);
    leech.sim.run_for(SECOND);
    let malformed = "the URL is malformed";
    assert_eq!(leech.url_seed_alerts(), ["the URL's scheme is not supported", malformed, malformed]);
    assert_eq!(leech.count("torrent.new_connection"), 0);
}

#[test]
fn a_strangers_url_does_not_make_us_ask_our_own_network() {
    let (mut sim, content) = (Sim::new(18), file());
    let server = sim.serve(1, |_| WebReply::refusal("500 Oh"));
    let urls = [url(server, "/admin?delete=all")];
    let mut leech = Leech::new(sim, content, &urls);
    leech.sim.run_for(LIMIT);
    assert!(leech.sim.requests_to(server).is_empty());
    assert_eq!(leech.url_seed_alerts(), ["a URL with a query must not lead to a local address"]);
}

#[test]
fn pieces_can_be_asked_for_by_number() {
    let (mut sim, content) = (Sim::new(19), file());
    let (bytes, mut busy) = (content.bytes().to_vec(), true);
    let server = sim.serve(1, move |request| {
        if std::mem::take(&mut busy) {
            return WebReply::new("503 Busy", "Retry-After: 3\r\n", b"3");
        }
        assert_eq!(request.range, None);
        let field = |name: &str| {
            let part = request.target.split(['?', '&']).find_map(|part| part.strip_prefix(name));
            part.unwrap().to_owned()
        };
        let (first, last) =
            field("ranges=").split_once('-').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
        let number = |text: &str| text.parse::<usize>().unwrap();
        let start = number(&field("piece=")) * 32_768;
        let body = &bytes[start + number(&first)..=start + number(&last)];
        WebReply::new("200 OK", "", body)
    });
    let mut leech = Leech::new(sim, content, &[]);
    let (torrent, url) = (leech.torrent, url(server, "/seed.php"));
    leech.sim.command(leech.node, Command::AddUrlSeed { torrent, url, kind: ConnectionType::HTTP_SEED });
    leech.finish();
    let target = &leech.sim.requests_to(server)[1].target;
    assert!(target.starts_with("/seed.php?info_hash=%") && target.contains("&piece="), "{target}");
}

#[test]
fn what_a_plugin_takes_is_not_asked_of_a_web_seed() {
    let (mut sim, content) = (Sim::new(20), file());
    let files = Files::of(&content, "/");
    let server = sim.serve(1, move |request| files.answer(request));
    let probe = Probe::new().peer("write_request", |_| true);
    let mut leech = Leech::with(sim, talkative(), probe, content, &[url(server, "/")]);
    leech.sim.run_for(10 * SECOND);
    assert!(leech.sim.requests_to(server).is_empty());
    assert_eq!((leech.count("peer.write_request"), leech.count("peer.on_piece")), (9, 0));
}

#[test]
fn a_web_seed_whose_unchoke_a_plugin_takes_is_asked_for_nothing() {
    let (mut sim, content) = (Sim::new(21), file());
    let files = Files::of(&content, "/");
    let server = sim.serve(1, move |request| files.answer(request));
    let probe = Probe::new().peer("on_unchoke", |_| true);
    let mut leech = Leech::with(sim, talkative(), probe, content, &[url(server, "/")]);
    leech.sim.run_for(10 * SECOND);
    assert_eq!(leech.count("peer.write_request"), 0);
}

#[test]
fn only_so_many_are_connected_to_at_a_time() {
    let (mut sim, content) = (Sim::new(22), file());
    let servers: Vec<SocketAddr> =
        (1..6).map(|number| sim.serve(number, |_| WebReply::refusal("500 Oh").after(10 * SECOND))).collect();
    let urls: Vec<String> = servers.iter().map(|server| url(*server, "/")).collect();
    let settings = Settings { max_web_seed_connections: 2, ..talkative() };
    let mut leech = Leech::with(sim, settings, Probe::new(), content, &urls);
    leech.sim.run_for(5 * SECOND);
    assert_eq!(leech.count("torrent.new_connection"), 2);
    leech.sim.run_for(10 * SECOND);
    assert_eq!(leech.count("torrent.new_connection"), 4);
}

#[test]
fn web_seeds_come_and_go_while_a_torrent_runs() {
    let (mut sim, content) = (Sim::new(23), file());
    let files = Files::of(&content, "/");
    let server = sim.serve(1, move |request| files.answer(request).after(3 * SECOND));
    let mut leech = Leech::new(sim, content, &[]);
    let (torrent, kind) = (leech.torrent, ConnectionType::URL_SEED);
    leech.sim.run_for(5 * SECOND);
    leech.sim.command(leech.node, Command::AddUrlSeed { torrent, url: url(server, "/"), kind });
    leech.sim.run_for(SECOND);
    assert_eq!(leech.sim.status(leech.node, torrent).num_peers, 1);
    leech.sim.command(leech.node, Command::RemoveUrlSeed { torrent, url: url(server, "/"), kind });
    leech.sim.run_for(5 * SECOND);
    assert_eq!(leech.sim.status(leech.node, torrent).num_peers, 0);
    leech.sim.command(leech.node, Command::AddUrlSeed { torrent, url: url(server, "/"), kind });
    leech.finish();
}

#[test]
fn web_seeds_that_were_added_by_hand_are_remembered_and_those_of_redirects_are_not() {
    let (mut sim, content) = (Sim::new(29), file());
    let there = sim.serve(2, |_| WebReply::refusal("500 Oh"));
    let target = url(there, "/x");
    let server = sim.serve(1, move |_| WebReply::moved(&target));
    let mut leech = Leech::new(sim, content.clone(), &[]);
    let (torrent, kind) = (leech.torrent, ConnectionType::URL_SEED);
    leech.sim.command(leech.node, Command::AddUrlSeed { torrent, url: url(server, "/y"), kind });
    leech.sim.run_for(SECOND);
    assert!(!leech.sim.requests_to(there).is_empty());
    let resume = leech.sim.resume_data(leech.node, torrent, SaveResumeFlags::NONE).unwrap();
    assert_eq!(resume.web_seeds, [url(server, "/y")]);
    let again = AddTorrent::from_resume(content.metainfo, *resume);
    assert_eq!(again.web_seeds, [url(server, "/y")]);
}

#[test]
fn a_server_whose_address_is_kept_out_is_not_called() {
    let (mut sim, content) = (Sim::new(28), file());
    let server = sim.serve(1, |_| WebReply::refusal("500 Oh"));
    let mut leech = Leech::new(sim, content, &[]);
    let rule = Rule::prefix(server.ip(), 24, Access::BLOCKED).unwrap();
    let filter = std::sync::Arc::new(IpFilter::new([rule]));
    leech.sim.command(leech.node, Command::SetIpFilter(filter));
    let (torrent, kind) = (leech.torrent, ConnectionType::URL_SEED);
    leech.sim.command(leech.node, Command::AddUrlSeed { torrent, url: url(server, "/"), kind });
    leech.sim.run_for(LIMIT);
    assert_eq!(leech.count("torrent.new_connection"), 0);
    let blocked = |alert: &&AlertKind| matches!(alert, AlertKind::PeerBlocked { .. });
    assert!(leech.sim.alerts(leech.node).filter(blocked).count() > 2);
}

#[test]
fn a_paused_torrent_has_no_web_seeds() {
    let (mut sim, content) = (Sim::new(24), file());
    let files = Files::of(&content, "/");
    let server = sim.serve(1, move |request| files.answer(request).after(SECOND));
    let mut leech = Leech::new(sim, content, &[url(server, "/")]);
    leech.sim.run_for(SECOND / 2);
    leech.sim.command(leech.node, Command::PauseTorrent(leech.torrent));
    leech.sim.run_for(60 * SECOND);
    assert_eq!(leech.sim.requests_to(server).len(), 1);
    leech.sim.command(leech.node, Command::ResumeTorrent(leech.torrent));
    leech.finish();
}

#[test]
fn peers_and_web_seeds_share_the_work() {
    let (mut sim, content) = (Sim::new(25), Content::file(173, 6 << 20, 65_536));
    let files = Files::of(&content, "/");
    let server = sim.serve(1, move |request| files.answer(request));
    let seed = sim.node();
    sim.seed(seed, &content);
    sim.run_for(5 * SECOND);
    let mut leech = Leech::new(sim, content, &[url(server, "/")]);
    leech.sim.introduce(leech.node, leech.torrent, seed);
    leech.finish();
    let from_server = leech.sim.sent_by_server(server);
    assert!(from_server > 1 << 20 && from_server < 6 << 20, "{from_server}");
    let log = leech.log.lock().unwrap();
    assert!(log.iter().any(|line| line.starts_with("peer.sent_request")));
}

#[test]
fn a_link_brings_web_seeds_that_are_used_once_there_is_metadata() {
    let (mut sim, content) = (Sim::new(26), file());
    let files = Files::of(&content, "/");
    let server = sim.serve(1, move |request| files.answer(request));
    let node = sim.node();
    let link = format!("{}&ws=http%3A%2F%2F{server}%2F", content.metainfo.magnet());
    let magnet = pilotfish::metainfo::Magnet::parse(&link).unwrap();
    let torrent = AddTorrent::new(magnet);
    let Answer::Added(Ok(torrent)) = sim.ask(node, |ticket| Command::AddTorrent(ticket, Box::new(torrent)))
    else {
        panic!("not added")
    };
    sim.run_for(5 * SECOND);
    assert_eq!(sim.status(node, torrent).num_peers, 0);
    let Answer::UrlSeeds(Some(urls)) =
        sim.ask(node, |ticket| Command::UrlSeeds(ticket, torrent, ConnectionType::URL_SEED))
    else {
        panic!("no answer")
    };
    assert_eq!(urls, [url(server, "/")]);
}
