//! What it costs to have torrents and peers that do nothing: memory and CPU each.
//!
//! `cargo bench -p pilotfish-tests --bench idle`. It opens more than four thousand sockets: `ulimit -n 8192` before it.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot run says so by failing")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use pilotfish::alert::AlertKind;
use pilotfish::command::AddTorrent;
use pilotfish::metainfo::Description;
use pilotfish::session::{Alerts, Session, SessionParams};
use pilotfish::wire::{Handshake, Message, Reserved};
use pilotfish_plugin::{AlertCategory, TorrentHandle, TorrentState};
use pilotfish_tests::bench::{anonymous_bytes, row, thread_seconds, title};
use pilotfish_tests::sim::Content;

const TORRENTS: u64 = 10_000;
const PEERS: u32 = 2_000;
/// What one of them may take beyond its metadata, in bytes.
const TORRENT_LIMIT: u64 = 2 << 10;
const PEER_LIMIT: u64 = 4 << 10;
/// How long the use of the processor is watched.
const WATCH: Duration = Duration::from_secs(10);
/// Nothing takes so long.
const LIMIT: Duration = Duration::from_secs(120);

/// Each part is a process of its own, so that none finds memory that another has left.
fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("torrents") => torrents(),
        Some("peers") => peers(),
        _ => {
            title("What idles", &["bytes each", "to the limit", "µs CPU/s each", "CPU of a core"]);
            for part in ["torrents", "peers"] {
                let program = std::env::current_exe().unwrap();
                assert!(Command::new(program).arg(part).status().unwrap().success());
            }
        }
    }
}

fn torrents() {
    let folder = tempfile::tempdir().unwrap();
    let (session, _, _) = start();
    let metadata: Vec<Description> =
        (0..TORRENTS).map(|number| Content::random(number, 100, 16_384).metainfo.into()).collect();
    let before = anonymous_bytes();
    let add = |metadata: Description| {
        let save_path = Some(folder.path().into());
        session.add_torrent(AddTorrent { save_path, ..AddTorrent::new(metadata) }).unwrap()
    };
    let added: Vec<TorrentHandle> = metadata.into_iter().map(add).collect();
    let deadline = Instant::now() + LIMIT;
    for torrent in added {
        while session.status(torrent).unwrap().unwrap().state != TorrentState::DOWNLOADING {
            assert!(Instant::now() < deadline, "it is checked for ever");
        }
    }
    print("a torrent without peers", anonymous_bytes() - before, TORRENTS, TORRENT_LIMIT);
    session.shutdown();
}

/// Peers that have nothing and want nothing of a torrent of which we have nothing: both just stay.
fn peers() {
    let folder = tempfile::tempdir().unwrap();
    let (session, alerts, address) = start();
    session.set("connections_limit", &PEERS.to_string()).unwrap();
    let content = Content::random(0, 1 << 20, 16_384);
    let save_path = Some(folder.path().into());
    let torrent =
        session.add_torrent(AddTorrent { save_path, ..AddTorrent::new(content.metainfo.clone()) }).unwrap();
    wait(&alerts, |alert| matches!(alert, AlertKind::TorrentChecked { .. }));
    let mut streams = Vec::with_capacity(PEERS as usize);
    let mut hello = Vec::new();
    let before = anonymous_bytes();
    for number in 0..PEERS {
        // Each from an address of its own: two connections of one address are one too many.
        let [_, _, high, low] = number.to_be_bytes();
        hello.clear();
        let (reserved, mut peer_id) = (Reserved::FAST, [0; 20]);
        peer_id[..4].copy_from_slice(&number.to_be_bytes());
        let info_hash = content.metainfo.info_hashes().truncated();
        hello.extend(Handshake { reserved, info_hash, peer_id }.encode());
        Message::HaveNone.encode(&mut hello);
        let mut stream = connect(SocketAddr::from(([127, 1, high, low], 0)), address);
        stream.write_all(&hello).unwrap();
        let mut answer = [0; 68];
        stream.read_exact(&mut answer).unwrap();
        streams.push(stream);
    }
    let deadline = Instant::now() + LIMIT;
    while connected(&session, torrent) < PEERS {
        assert!(Instant::now() < deadline, "{} peers are connected", connected(&session, torrent));
    }
    print("a peer that is not interesting", anonymous_bytes() - before, PEERS.into(), PEER_LIMIT);
    assert_eq!(connected(&session, torrent), PEERS, "they stayed");
    session.shutdown();
}

fn connected(session: &Session, torrent: TorrentHandle) -> u32 {
    session.status(torrent).unwrap().map_or(0, |status| status.num_peers)
}

fn print(name: &str, bytes: u64, count: u64, limit: u64) {
    let before = thread_seconds("pilotfish-net");
    thread::sleep(WATCH);
    let share = (thread_seconds("pilotfish-net") - before) / WATCH.as_secs_f64();
    let cells = [
        format!("{}", bytes / count),
        format!("{:.2}x", bytes as f64 / (count * limit) as f64),
        format!("{:.2}", share * 1e6 / count as f64),
        format!("{:.2} %", share * 100.0),
    ];
    row(format!("{count} times {name}"), &cells);
}

/// Connects from `here`.
fn connect(here: SocketAddr, there: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&here.into()).unwrap();
    socket.connect(&there.into()).unwrap();
    socket.into()
}

fn start() -> (Session, Alerts, SocketAddr) {
    let mut params = SessionParams::default();
    params.settings.set("listen_interfaces", "127.0.0.1:0").unwrap();
    params.settings.alert_mask = AlertCategory::STATUS | AlertCategory::ERROR;
    let (session, alerts) = Session::start(params).unwrap();
    let mut address = None;
    wait(&alerts, |alert| {
        address = if let AlertKind::ListenSucceeded { address } = alert { Some(*address) } else { None };
        address.is_some()
    });
    (session, alerts, address.unwrap())
}

fn wait(alerts: &Alerts, mut until: impl FnMut(&AlertKind) -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !alerts.recv_timeout(Duration::from_millis(100)).is_some_and(|alert| until(&alert.kind)) {
        assert!(Instant::now() < deadline, "it never came");
    }
}
