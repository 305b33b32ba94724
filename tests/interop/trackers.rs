//! Pilotfish and libtorrent find each other through a tracker and nothing else: by HTTP, HTTPS and UDP.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use pilotfish_tests::venv;
use serde_json::Value;

use crate::data::{Data, MIB};
use crate::peers::{dht_node, download, libtorrent, name_by_links, seed_with, start};
use crate::process::Process;

/// A script beside these tests.
fn script(name: &str) -> Command {
    let mut python = Command::new(venv::python());
    python.arg(format!("{}/interop/{name}", env!("CARGO_MANIFEST_DIR")));
    python
}

/// A tracker on loopback.
struct Tracker {
    process: Process,
    /// What it said of its ports.
    ports: Value,
    /// The certificate that it has for HTTPS, and its key.
    certificate: PathBuf,
}

impl Tracker {
    fn start(data: &Data) -> Self {
        let certificate = data.path("certificate.pem");
        let made = script("certificate.py").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::write(&certificate, made.stdout).unwrap();
        let mut process = start(script("tracker.py").arg("--certificate").arg(&certificate), 0);
        let ports = process.wait_for("its ports", |line| line.event("serving"));
        Self { process, ports, certificate }
    }

    /// Its URL, by this way.
    fn url(&self, way: &str) -> String {
        format!("{way}://127.0.0.1:{}/announce", self.ports[way])
    }

    /// Waits until it is told something of a torrent; by whom.
    #[track_caller]
    fn hears(&mut self, way: &str, told: &str) -> String {
        self.process.wait_for(told, |line| {
            let heard =
                line.event("announce").filter(|heard| heard["told"] == told && heard["way"] == way)?;
            Some(heard["peer"].as_str()?.to_owned())
        })
    }

    /// Has a program trust its certificate, and no other.
    fn trusted_by<'a>(&self, program: &'a mut Command) -> &'a mut Command {
        program.env("SSL_CERT_FILE", &self.certificate)
    }
}

/// Data, and a tracker that its torrent names.
fn tracked(url: impl Fn(&Tracker) -> String) -> (Data, Tracker) {
    let mut data = Data::new();
    let tracker = Tracker::start(&data);
    data.trackers.push(url(&tracker));
    data.add("payload.bin", &[("", 3 * MIB + 77)]);
    (data, tracker)
}

/// libtorrent has the data; Pilotfish has a link with a tracker, and tells the tracker how it goes.
#[track_caller]
fn finds_libtorrent(way: &str) {
    let (mut data, mut tracker) = tracked(|tracker| tracker.url(way));
    let mut command = libtorrent("seed", &data, &data.complete(), "127.0.0.1:0");
    let _libtorrent = start(tracker.trusted_by(&mut command), 0);
    let seed = tracker.hears(way, "started");
    name_by_links(&mut data);
    let mut pilotfish = start(tracker.trusted_by(&mut download(&data, &[])), 0);
    let ours = tracker.hears(way, "started");
    assert_ne!(ours, seed);
    assert_eq!(tracker.hears(way, "completed"), ours);
    assert_eq!(tracker.hears(way, "stopped"), ours);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
}

/// Pilotfish has the data; libtorrent finds it.
#[track_caller]
fn is_found(way: &str) {
    let (mut data, mut tracker) = tracked(|tracker| tracker.url(way));
    let (_pilotfish, address) = seed_with(&data, "127.0.0.1:0", |program| tracker.trusted_by(program));
    assert_eq!(tracker.hears(way, "started"), address);
    name_by_links(&mut data);
    let mut command = libtorrent("leech", &data, &data.arrived(), "127.0.0.1:0");
    let mut libtorrent = start(tracker.trusted_by(&mut command), 0);
    libtorrent.wait_for("a finished torrent", |line| line.event("finished"));
    data.assert_arrived();
}

#[test]
fn libtorrent_is_found_through_http() {
    finds_libtorrent("http");
}

#[test]
fn libtorrent_is_found_through_https() {
    finds_libtorrent("https");
}

#[test]
fn libtorrent_is_found_through_udp() {
    finds_libtorrent("udp");
}

#[test]
fn libtorrent_finds_us_through_http() {
    is_found("http");
}

#[test]
fn libtorrent_finds_us_through_https() {
    is_found("https");
}

#[test]
fn libtorrent_finds_us_through_udp() {
    is_found("udp");
}

/// Waits until Pilotfish says something of its tracker; its words, or how many peers there are.
#[track_caller]
fn word_of(pilotfish: &mut Process) -> String {
    pilotfish.wait_for("a word of the tracker", |line| {
        let error =
            line.alert("tracker_error").and_then(|fields| Some(fields["error_message"].as_str()?.to_owned()));
        error.or_else(|| Some(line.alert("tracker_reply")?["num_peers"].to_string()))
    })
}

#[test]
fn a_certificate_that_nobody_trusts_is_refused_unless_the_user_has_it_otherwise() {
    let (data, tracker) = tracked(|tracker| tracker.url("https"));
    let mut pilotfish = start(&mut download(&data, &[]), 0);
    let word = word_of(&mut pilotfish);
    assert!(word.contains("certificate"), "{word}");
    pilotfish.kill();
    let mut pilotfish = start(download(&data, &[]).args(["--set", "validate_https_trackers=0"]), 0);
    assert_eq!(word_of(&mut pilotfish), "0");
    drop(tracker);
}

#[test]
fn a_tracker_that_is_elsewhere_is_followed_there() {
    let (data, mut tracker) =
        tracked(|tracker| tracker.url("http").replace("/announce", "/elsewhere/announce"));
    let mut pilotfish = start(&mut download(&data, &[]), 0);
    assert_eq!(word_of(&mut pilotfish), "0");
    let agent = tracker.process.wait_for("a request", |line| Some(line.event("request")?["agent"].clone()));
    assert!(agent.as_str().unwrap().starts_with("Pilotfish/"), "{agent}");
}

/// A proxy that wants a password.
struct Proxy {
    process: Process,
    port: String,
}

impl Proxy {
    fn start() -> Self {
        let mut process = start(&mut script("proxy.py"), 0);
        let port = process.wait_for("its port", |line| Some(line.event("serving")?["port"].to_string()));
        Self { process, port }
    }

    /// Has Pilotfish use it.
    fn used_by<'a>(&self, program: &'a mut Command) -> &'a mut Command {
        let port = format!("proxy_port={}", self.port);
        for setting in ["proxy_type=socks5_pw", "proxy_hostname=localhost", &port, "proxy_username=me"] {
            program.args(["--set", setting]);
        }
        program.args(["--set", "proxy_password=secret"])
    }

    /// Waits until it has done that (`connected`, `relayed`) for `to`, unless it has already.
    #[track_caller]
    fn has(&mut self, done: &str, to: &str) {
        self.process.find(to, |line| line.event(done).filter(|event| event["to"] == *to));
    }
}

#[test]
fn tracker_and_peers_are_reached_through_a_proxy() {
    let (mut data, mut tracker) = tracked(|tracker| tracker.url("http"));
    let _libtorrent = start(&mut libtorrent("seed", &data, &data.complete(), "127.0.0.1:0"), 0);
    let seed = tracker.hears("http", "started");
    let mut proxy = Proxy::start();
    name_by_links(&mut data);
    let mut pilotfish = start(proxy.used_by(&mut download(&data, &[])), 0);
    // Nobody can come to us: no port is told.
    assert_eq!(tracker.hears("http", "started"), "127.0.0.1:1");
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    proxy.has("connected", &format!("127.0.0.1:{}", tracker.ports["http"]));
    proxy.has("connected", &seed);
}

#[test]
fn a_udp_tracker_is_reached_through_a_proxy_which_looks_its_name_up() {
    let (mut data, mut tracker) = tracked(|tracker| tracker.url("udp"));
    let _libtorrent = start(&mut libtorrent("seed", &data, &data.complete(), "127.0.0.1:0"), 0);
    let seed = tracker.hears("udp", "started");
    let mut proxy = Proxy::start();
    name_by_links(&mut data);
    data.torrents[0] = data.torrents[0].to_str().unwrap().replace("127.0.0.1", "localhost").into();
    let mut pilotfish = start(proxy.used_by(&mut download(&data, &[])), 0);
    assert_eq!(tracker.hears("udp", "started"), "127.0.0.1:1");
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    proxy.has("relayed", &format!("localhost:{}", tracker.ports["udp"]));
    proxy.has("connected", &seed);
}

#[test]
fn the_dht_is_reached_through_a_proxy() {
    let mut data = Data::new();
    data.add("payload.bin", &[("", 3 * MIB + 77)]);
    let (_router, node) = dht_node();
    let mut seed = libtorrent("seed", &data, &data.complete(), "127.0.0.1:0");
    let mut libtorrent = start(seed.args(["--dht-node", &node]), 0);
    libtorrent.wait_for("checked data", |line| line.event("checked"));
    let mut proxy = Proxy::start();
    name_by_links(&mut data);
    let mut download = download(&data, &[]);
    download.args(["--dht-node", &node]).args(crate::dht::SETTINGS);
    let mut pilotfish = start(proxy.used_by(&mut download), 0);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    proxy.has("relayed", &node);
}
