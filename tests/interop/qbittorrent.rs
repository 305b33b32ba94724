//! qBittorrent, which is a Debian package: with it, too, by uTP alone.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::data::{Data, MIB};
use crate::opentracker::free_port;
use crate::peers::{LIMIT, download, seed_with, start};
use crate::utp::{assert_by_utp, by_utp_alone, socket_type};

/// qBittorrent on loopback, with one torrent.
struct Qbittorrent {
    child: Child,
    /// Where it listens for peers, and where for orders.
    port: u16,
    orders: u16,
}

impl Qbittorrent {
    /// Starts it with the data's torrent, whose files are, or are to be, in `folder`.
    fn start(data: &Data, folder: &Path) -> Self {
        let (port, orders, profile) = (free_port(), free_port(), data.path("qbittorrent"));
        let configuration = format!(
            "[LegalNotice]\nAccepted=true\n\
             [BitTorrent]\nSession\\BTProtocol=UTP\nSession\\Port={port}\nSession\\InterfaceAddress=127.0.0.1\n\
             Session\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\n\
             Session\\MultiConnectionsPerIp=true\nSession\\Preallocation=false\n\
             [Network]\nPortForwardingEnabled=false\n\
             [Preferences]\nWebUI\\Address=127.0.0.1\nWebUI\\LocalHostAuth=false\nWebUI\\CSRFProtection=false\n\
             WebUI\\HostHeaderValidation=false\nGeneral\\Locale=en\n"
        );
        let settings = profile.join("qBittorrent/config");
        fs::create_dir_all(&settings).unwrap();
        fs::write(settings.join("qBittorrent.conf"), configuration).unwrap();
        let mut command = Command::new("qbittorrent-nox");
        command.arg(format!("--profile={}", profile.display())).arg(format!("--webui-port={orders}"));
        command.arg(format!("--save-path={}", folder.display())).args(&data.torrents);
        command.env("QT_QPA_PLATFORM", "minimal").env("HOME", &profile).env("LC_ALL", "C.UTF-8");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("qbittorrent-nox: {error}: install the Debian package qbittorrent-nox")
        });
        Self { child, port, orders }
    }

    /// The answer to an order. `None`: it does not answer yet.
    fn order(&self, method: &str, path: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.orders)).ok()?;
        let request = format!(
            "{method} /api/v2/{path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            self.orders,
            body.len(),
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// What it says of its torrent, once that is as it should be.
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        let mut last = None;
        while Instant::now() < deadline {
            assert!(self.child.try_wait().unwrap().is_none(), "qBittorrent ended");
            last = self.order("GET", "torrents/info", "").or(last);
            let torrents: Option<Value> = last.as_deref().and_then(|text| serde_json::from_str(text).ok());
            if let Some(torrent) = torrents.and_then(|torrents| torrents.get(0).cloned())
                && wanted(&torrent)
            {
                return torrent;
            }
            thread::park_timeout(Duration::from_millis(50));
        }
        panic!("no sign of {what}; it said last: {last:?}");
    }
}

impl Drop for Qbittorrent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether it has everything, and has checked it.
fn has_everything(torrent: &Value) -> bool {
    torrent["progress"] == 1 && torrent["state"].as_str().is_some_and(|state| state.ends_with("UP"))
}

#[test]
fn a_file_comes_from_qbittorrent_by_utp() {
    let data = Data::single(8 * MIB);
    let mut qbittorrent = Qbittorrent::start(&data, &data.complete());
    qbittorrent.wait_for("checked data", has_everything);
    let peer = format!("127.0.0.1:{}", qbittorrent.port);
    let mut pilotfish = start(by_utp_alone(&mut download(&data, &[&peer])), 0);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    assert_by_utp(&pilotfish);
}

#[test]
fn qbittorrent_gets_a_file_by_utp() {
    let data = Data::single(8 * MIB);
    let (mut pilotfish, address) = seed_with(&data, "127.0.0.1:0", by_utp_alone);
    let mut qbittorrent = Qbittorrent::start(&data, &data.arrived());
    let torrent = qbittorrent.wait_for("its torrent", |torrent| torrent["state"] != "checkingDL");
    let hash = torrent["hash"].as_str().unwrap();
    qbittorrent.order("POST", "torrents/addPeers", &format!("hashes={hash}&peers={address}")).unwrap();
    qbittorrent.wait_for("a finished torrent", has_everything);
    data.assert_arrived();
    assert_eq!(pilotfish.wait_for("a connection", socket_type), "uTP");
}
