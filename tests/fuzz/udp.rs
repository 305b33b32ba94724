//! Datagrams on the one UDP port: what belongs to nobody, and conversations of uTP that are cut, changed, repeated and made up.
//!
//! They are told apart here, and sent to the socket of a session, behind which the DHT, trackers and uTP listen. uTP's part is a
//! library with tasks of its own, in no simulation, so the session is a real one, and all runs have the same. What is asked of
//! it: no task panics, whoever asks properly is answered in between, and the memory does not grow from run to run.

use std::net::{SocketAddr, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pilotfish::alert::AlertKind;
use pilotfish::session::{Alerts, Session, SessionParams};
use pilotfish::wire::Protocol;
use pilotfish_plugin::AlertCategory;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

use crate::Told;

/// The types of packets.
const DATA: u8 = 0;
const FIN: u8 = 1;
const STATE: u8 = 2;
const RESET: u8 = 3;
const SYN: u8 = 4;
/// The extension that says what arrived out of order.
const SELECTIVE_ACK: u8 = 1;
/// In one of so many runs it is asked whether somebody proper is answered.
const PROPER: u64 = 64;
/// In the first runs, all that is ever needed is allocated.
const WARM: u64 = 500;
/// More than that is growth, in bytes: what all connections that there may be at a time could have in their buffers.
const GROWTH: u64 = 96 << 20;

/// Whether any thread has panicked: the runtime keeps the panics of tasks to itself.
static PANICKED: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(seed: u64) -> Told {
    let mut rng = StdRng::seed_from_u64(seed);
    let victim = Victim::one();
    let steps = sort(&mut rng) + converse(&mut rng, victim.address);
    if seed.is_multiple_of(PROPER) {
        answers(victim.address, seed as u16);
    }
    assert!(!PANICKED.load(Ordering::Relaxed), "a task of the session panicked");
    victim.weigh();
    Told { steps, hooks: 0 }
}

/// The session that all runs talk to.
struct Victim {
    _session: Session,
    _alerts: Alerts,
    address: SocketAddr,
    runs: AtomicU64,
    /// What it weighed when it was warm, in bytes.
    weight: AtomicU64,
}

impl Victim {
    fn one() -> &'static Self {
        static VICTIM: OnceLock<Victim> = OnceLock::new();
        VICTIM.get_or_init(Self::start)
    }

    fn start() -> Self {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICKED.store(true, Ordering::Relaxed);
            previous(info);
        }));
        let mut params = SessionParams::default();
        let settings = [
            ("listen_interfaces", "127.0.0.1:0"),
            ("dht_bootstrap_nodes", ""),
            ("enable_lsd", "false"),
            // Whoever says nothing of use makes room for the next soon.
            ("handshake_timeout", "1"),
            ("connections_limit", "20"),
        ];
        settings.iter().for_each(|(name, value)| params.settings.set(name, value).unwrap());
        params.settings.alert_mask = AlertCategory::STATUS;
        let (session, alerts) = Session::start(params).unwrap();
        let address = loop {
            let alert = alerts.recv_timeout(Duration::from_secs(20)).expect("the session listens");
            if let AlertKind::ListenSucceeded { address } = alert.kind {
                break address;
            }
        };
        Self {
            _session: session,
            _alerts: alerts,
            address,
            runs: AtomicU64::new(0),
            weight: AtomicU64::new(0),
        }
    }

    /// Whether there is more and more of it.
    fn weigh(&self) {
        let Some(weight) = resident() else { return };
        match self.runs.fetch_add(1, Ordering::Relaxed) {
            ..WARM => self.weight.store(self.weight.load(Ordering::Relaxed).max(weight), Ordering::Relaxed),
            _ => {
                let warm = self.weight.load(Ordering::Relaxed);
                assert!(weight < warm + GROWTH, "{warm} bytes of memory have become {weight}");
            }
        }
    }
}

/// The memory of this process, in bytes, where the system tells.
fn resident() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    pages.split(' ').nth(1)?.parse::<u64>().ok().map(|pages| pages * 4_096)
}

/// Datagrams that are nobody's or somebody's, told apart.
fn sort(rng: &mut StdRng) -> u64 {
    let steps = 100;
    for _ in 0..steps {
        let mut datagram = vec![0; rng.random_range(0..60)];
        rng.fill_bytes(&mut datagram);
        if let Some(first) = datagram.first_mut() {
            *first = [0x01, 0x11, 0x21, 0x31, 0x41, 0x51, 0, b'd', *first][rng.random_range(0..9)];
        }
        let at = |place: usize| datagram.get(place).copied();
        match Protocol::of(&datagram) {
            Some(Protocol::Utp { opens }) => {
                assert!(datagram.len() >= 20 && datagram[0] & 0x0f == 1 && datagram[0] >> 4 <= SYN);
                assert_eq!(opens, datagram[0] >> 4 == SYN);
            }
            Some(Protocol::Tracker { .. }) => assert!(datagram.len() >= 8 && datagram[..3] == [0; 3]),
            Some(Protocol::Dht) => assert!(at(0) == Some(b'd') && datagram.ends_with(b"e")),
            None => assert!(datagram.len() < 20 || datagram[0] & 0x0f != 1 || datagram[0] >> 4 > SYN),
        }
    }
    steps
}

/// The end of a conversation that says what it likes.
struct Talker {
    socket: UdpSocket,
    connection: u16,
    /// The number of its next packet, and of the last that it has heard.
    sequence: u16,
    heard: u16,
}

impl Talker {
    fn new(to: SocketAddr, connection: u16, sequence: u16) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, connection, sequence, heard: 0 }
    }

    fn packet(&self, kind: u8, extension: u8, window: u32, rest: &[u8]) -> Vec<u8> {
        // Only the packet that asks has the lower of the two numbers.
        let connection = self.connection.wrapping_add(u16::from(kind != SYN));
        let mut packet = vec![kind << 4 | 1, extension];
        packet.extend(connection.to_be_bytes());
        packet.extend([0; 8]);
        packet.extend(window.to_be_bytes());
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.heard.to_be_bytes());
        packet.extend(rest);
        packet
    }

    /// What it says next, as it should be said.
    fn say(&mut self, kind: u8, window: u32, rest: &[u8]) -> Vec<u8> {
        let packet = self.packet(kind, 0, window, rest);
        if matches!(kind, SYN | DATA | FIN) {
            self.sequence = self.sequence.wrapping_add(1);
        }
        packet
    }

    /// Takes what came. Whether that was a packet of its connection.
    fn listen(&mut self) -> bool {
        let (mut buffer, mut heard) = ([0; 2_048], false);
        while let Ok(len) = self.socket.recv(&mut buffer) {
            if len >= 20 && buffer[..1] != [RESET << 4 | 1] && buffer[2..4] == self.connection.to_be_bytes() {
                let number = u16::from_be_bytes([buffer[16], buffer[17]]);
                // The answer to what asks has the number of the packet that is yet to come.
                self.heard = if buffer[0] >> 4 == STATE { number.wrapping_sub(1) } else { number };
                heard = true;
            }
        }
        heard
    }
}

fn converse(rng: &mut StdRng, to: SocketAddr) -> u64 {
    let mut talker = Talker::new(to, rng.random(), rng.random());
    let mut last = talker.say(SYN, 0, &[]);
    let steps = rng.random_range(1..40);
    for _ in 0..steps {
        // A full socket, or one that an earlier datagram of ours made an error of: it is lost.
        let _ = talker.socket.send(&last);
        if rng.random_bool(0.5) {
            std::thread::yield_now();
        }
        talker.listen();
        last = next(rng, &mut talker, last);
    }
    if rng.random_bool(0.5) {
        let reset = talker.packet(RESET, 0, 0, &[]);
        let _ = talker.socket.send(&reset);
    }
    steps
}

fn next(rng: &mut StdRng, talker: &mut Talker, last: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..1_400)];
    rng.fill_bytes(&mut bytes);
    let window = [0, 1, 1_000, 1 << 20, u32::MAX][rng.random_range(0..5)];
    match rng.random_range(0..14) {
        0 => bytes,
        1 => talker.say(DATA, window, b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0"),
        2 | 3 => talker.say(DATA, window, &bytes),
        4 => talker.say(STATE, window, &[]),
        5 => talker.say([FIN, RESET, SYN][rng.random_range(0..3)], window, &[]),
        6 => {
            // Somewhere else in the stream, near and far.
            talker.sequence =
                talker.sequence.wrapping_add([2, 100, 1_985, 3_000, 0x8000][rng.random_range(0..5)]);
            talker.say(DATA, window, &bytes)
        }
        7 => {
            talker.sequence = talker.sequence.wrapping_sub(rng.random_range(1..50));
            talker.say(DATA, window, &bytes)
        }
        8 => {
            talker.heard = rng.random();
            talker.say(STATE, window, &[])
        }
        9 | 10 => {
            // A selective acknowledgement of any length, and what may follow it.
            let length = [0, 1, 3, 4, 8, 36, 64, 255][rng.random_range(0..8)];
            let mut extension = vec![rng.random_range(0..4), length];
            extension.extend(&bytes[..bytes.len().min(length.into())]);
            let extends = if rng.random_bool(0.8) { SELECTIVE_ACK } else { rng.random() };
            talker.packet([STATE, DATA][rng.random_range(0..2)], extends, window, &extension)
        }
        11 => last,
        12 => {
            let mut changed = last;
            for _ in 0..rng.random_range(1..4) {
                if !changed.is_empty() {
                    let place = rng.random_range(0..changed.len());
                    changed[place] ^= 1 << rng.random_range(0..8);
                }
            }
            changed
        }
        _ => last[..rng.random_range(0..=last.len())].to_vec(),
    }
}

/// Somebody who asks for a connection as one should gets it, if need be after a while: others may have taken the room.
fn answers(to: SocketAddr, connection: u16) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let mut talker = Talker::new(to, connection, 7);
        let request = talker.say(SYN, 0, &[]);
        let _ = talker.socket.send(&request);
        let patience = Instant::now() + Duration::from_millis(200);
        while Instant::now() < patience {
            if talker.listen() {
                let reset = talker.packet(RESET, 0, 0, &[]);
                let _ = talker.socket.send(&reset);
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
    panic!("nobody is let in any more");
}
