//! Pilotfish and libtorrent find each other through opentracker, by HTTP and UDP.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::data::{Data, MIB};
use crate::peers::{download, libtorrent, name_by_links, seed, start};

/// A tracker, which keeps track of a test's torrents and no others.
pub(crate) struct Opentracker {
    child: Child,
}

/// A port that is free for TCP and UDP.
pub(crate) fn free_port() -> u16 {
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
    /// One at this address, which `runs` may have on another host.
    pub(crate) fn start(data: &Data, address: SocketAddr, runs: impl Fn(Command) -> Command) -> Self {
        // Started by root, it makes this its root, and is nobody from then on.
        let (folder, port) = (data.path("opentracker"), address.port().to_string());
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let mut list = fs::File::create(folder.join("whitelist")).unwrap();
        hashes(data).iter().for_each(|hash| writeln!(list, "{hash}").unwrap());
        let program = Path::new("/usr/bin/opentracker");
        assert!(program.is_file(), "opentracker is missing (Debian: apt-get install opentracker)");
        let mut command = Command::new(program);
        command.args([
            "-i",
            &address.ip().to_string(),
            "-p",
            &port,
            "-P",
            &port,
            "-d",
            ".",
            "-w",
            "whitelist",
        ]);
        command.current_dir(folder);
        let mut command = runs(command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut tracker = Self { child: command.spawn().unwrap() };
        let mut knock = Command::new("bash");
        knock.args(["-c", &format!("until (: </dev/tcp/{}/{port}); do sleep 0.02; done", address.ip())]);
        start(&mut runs(knock), 0).wait_for_code(0);
        assert!(tracker.child.try_wait().unwrap().is_none(), "opentracker ended");
        tracker
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
    let (mut data, address) = (Data::new(), SocketAddr::from(([127, 0, 0, 1], free_port())));
    data.trackers.push(format!("{way}://{address}/announce"));
    data.add("payload.bin", &[("", 3 * MIB + 77)]);
    let tracker = Opentracker::start(&data, address, |command| command);
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
    // It may have come while the data was checked.
    pilotfish.find("the tracker's answer", |line| line.alert("tracker_reply"));
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
