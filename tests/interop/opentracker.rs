//! Pilotfish and libtorrent find each other through opentracker, by HTTP and UDP.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::data::{Data, MIB};
use crate::peers::{download, libtorrent, name_by_links, seed, start};
use crate::process::Line;

/// A tracker on loopback, which keeps track of a test's torrents and no others.
struct Opentracker {
    child: Child,
}

/// A port that is free for TCP and UDP.
fn free_port() -> u16 {
    for _ in 0..100 {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address.port();
        }
    }
    panic!("no port is free for both TCP and UDP");
}

impl Opentracker {
    fn start(data: &Data, port: u16) -> Self {
        // Started by root, it makes this its root, and is nobody from then on.
        let (folder, text) = (data.path("opentracker"), port.to_string());
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let mut list = fs::File::create(folder.join("whitelist")).unwrap();
        hashes(data).iter().for_each(|hash| writeln!(list, "{hash}").unwrap());
        let mut command = Command::new("opentracker");
        command.args(["-i", "127.0.0.1", "-p", &text, "-P", &text, "-d", ".", "-w", "whitelist"]);
        command.current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("opentracker: {error}: install the Debian package opentracker"));
        let mut tracker = Self { child };
        tracker.wait_until_it_listens(port);
        tracker
    }

    fn wait_until_it_listens(&mut self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "opentracker ended");
            assert!(Instant::now() < deadline, "opentracker does not listen");
            thread::park_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Opentracker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn hashes(data: &Data) -> Vec<String> {
    let hash = |torrent| {
        let mut show = Command::new(pilotfish_tests::program::pilotfish());
        let output = show.arg("show").arg(torrent).arg("--json").output().unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        shown["torrent"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned()
    };
    data.torrents.iter().map(hash).collect()
}

/// Data, and a tracker that its torrent names.
fn tracked(way: &str) -> (Data, Opentracker) {
    let (mut data, port) = (Data::new(), free_port());
    data.trackers.push(format!("{way}://127.0.0.1:{port}/announce"));
    data.add("payload.bin", &[("", 3 * MIB + 77)]);
    let tracker = Opentracker::start(&data, port);
    (data, tracker)
}

fn finds_libtorrent(way: &str) {
    let (mut data, _tracker) = tracked(way);
    let mut libtorrent = start(&mut libtorrent("seed", &data, &data.complete(), "127.0.0.1:0"), 0);
    libtorrent.wait_for("the tracker's answer", |line| {
        line.event("alert").filter(|alert| alert["what"] == "tracker_reply")
    });
    name_by_links(&mut data);
    start(&mut download(&data, &[]), 0).wait_for_code(0);
    data.assert_arrived();
}

fn is_found(way: &str) {
    let (mut data, _tracker) = tracked(way);
    let (mut pilotfish, _) = seed(&data, "127.0.0.1:0");
    let replied = |line: &Line| line.alert("tracker_reply");
    // It may have come while the data was checked.
    if !pilotfish.printed.iter().any(|line| replied(line).is_some()) {
        pilotfish.wait_for("the tracker's answer", replied);
    }
    name_by_links(&mut data);
    let mut leech = start(&mut libtorrent("leech", &data, &data.arrived(), "127.0.0.1:0"), 0);
    leech.wait_for("a finished torrent", |line| line.event("finished"));
    data.assert_arrived();
}

#[test]
fn libtorrent_is_found_through_opentracker_by_http() {
    finds_libtorrent("http");
}

#[test]
fn libtorrent_is_found_through_opentracker_by_udp() {
    finds_libtorrent("udp");
}

#[test]
fn libtorrent_finds_us_through_opentracker_by_http() {
    is_found("http");
}

#[test]
fn libtorrent_finds_us_through_opentracker_by_udp() {
    is_found("udp");
}
