//! Trackers that a test writes the script of. Each speaks HTTP and UDP under one name.
//!
//! They read and write by the BEPs, and share no line with the engine's own reading and writing.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use pilotfish::engine::{FetchError, FetchRequest, FetchToken, Fetched, Input};

use super::{Event, NodeId, Sim};

/// What a tracker does when it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Answers.
    Answers,
    /// Says nothing.
    Silent,
    /// Refuses, with this reason.
    Refuses(String),
    /// Answers by HTTP with this status and these bytes, and by UDP with these bytes behind the header of an announce.
    Says(u16, Vec<u8>),
    /// Cannot be reached.
    Gone,
}

/// One tracker.
#[derive(Debug)]
pub struct Tracker {
    /// Its address.
    pub ip: IpAddr,
    /// Its address of the other family, if it has one.
    pub ip6: Option<IpAddr>,
    pub mood: Mood,
    /// In seconds.
    pub interval: u32,
    /// More of the dictionary that it answers by HTTP, bencoded, keys in order and behind `interval`.
    pub more: Vec<u8>,
    /// What it was told.
    pub heard: Vec<Heard>,
    /// When UDP packets came, and with which action.
    pub packets: Vec<(Duration, u32)>,
    /// UDP packets that are lost before it takes one.
    pub lost: usize,
    /// How long it takes a connection id.
    pub lasts: Duration,
    /// Says so when it does not.
    pub complains: bool,
    connections: BTreeMap<u64, Duration>,
    swarms: BTreeMap<Vec<u8>, BTreeSet<SocketAddr>>,
}

/// One announce, or scrape, as a tracker read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub at: Duration,
    pub from: Option<SocketAddr>,
    /// At its address of the other family.
    pub by_ip6: bool,
    /// `scrape` for a scrape.
    pub event: String,
    pub info_hash: Vec<u8>,
    pub left: u64,
    pub num_want: u32,
    pub key: u32,
    pub trackerid: Option<Vec<u8>>,
    /// What a UDP packet holds behind what BEP 15 has in it.
    pub options: Vec<u8>,
}

impl Sim {
    /// A tracker at `http://NAME/announce` and `udp://NAME:80/announce`.
    pub fn tracker(&mut self, name: &str) -> &mut Tracker {
        let number = u8::try_from(self.trackers.len()).unwrap();
        let ip = IpAddr::V4(Ipv4Addr::new(10, 200, 0, number));
        self.names.insert(name.to_owned(), vec![ip]);
        self.trackers.entry(name.to_owned()).or_insert_with(|| Tracker {
            ip,
            ip6: None,
            mood: Mood::Answers,
            interval: 1_800,
            more: Vec::new(),
            heard: Vec::new(),
            packets: Vec::new(),
            lost: 0,
            lasts: Duration::from_secs(120),
            complains: false,
            connections: BTreeMap::new(),
            swarms: BTreeMap::new(),
        })
    }

    /// One of the trackers.
    pub fn tracker_at(&mut self, name: &str) -> &mut Tracker {
        self.trackers.get_mut(name).expect("such a tracker")
    }

    /// The events that a tracker heard of.
    pub fn events_at(&mut self, name: &str) -> Vec<String> {
        self.tracker_at(name).heard.iter().map(|heard| heard.event.clone()).collect()
    }

    /// A node asks a web server, which is a tracker or not there.
    pub(super) fn fetch(&mut self, node: NodeId, fetch: FetchToken, request: &FetchRequest) {
        self.trace.note(self.now, node.0, format_args!("fetches {}", request.url));
        let (from, now, late) = (self.nodes[node.0].address, self.now, self.link.latency * 2);
        self.fetches.insert((node, fetch.0));
        self.fetched.push((node, request.clone()));
        let rest = request.url.strip_prefix("http://").or(request.url.strip_prefix("https://")).unwrap();
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        let tracker = self.trackers.get_mut(host).filter(|tracker| tracker.mood != Mood::Gone);
        let result = match tracker {
            None => Err(FetchError::Failed("nobody is there".to_owned())),
            Some(tracker) => match tracker.serve(path, from, now) {
                None => return,
                Some((_, body)) if body.len() > request.most => Err(FetchError::TooLong),
                Some((status, body)) => Ok(Fetched { status, body: Bytes::from(body) }),
            },
        };
        self.queue.plan(now + late, Event::Fetched(node, fetch, result));
    }

    pub(super) fn on_fetched(
        &mut self,
        node: NodeId,
        fetch: FetchToken,
        result: Result<Fetched, FetchError>,
    ) {
        if self.fetches.remove(&(node, fetch.0)) && !self.nodes[node.0].stopped {
            self.handle(node, Input::Fetched { fetch, result });
        }
    }

    pub(super) fn cancel_fetch(&mut self, node: NodeId, fetch: FetchToken) {
        self.fetches.remove(&(node, fetch.0));
    }

    /// A datagram goes to a tracker, if there is one at that address.
    pub(super) fn ask_tracker(&mut self, node: NodeId, to: SocketAddr, payload: &[u8]) -> bool {
        let (from, now, late) = (self.nodes[node.0].address, self.now, self.link.latency * 2);
        let is_at = |tracker: &&mut Tracker| tracker.ip == to.ip() || tracker.ip6 == Some(to.ip());
        let Some(tracker) = self.trackers.values_mut().find(is_at) else {
            return false;
        };
        let before = tracker.heard.len();
        if let Some(mut answer) = tracker.hear(payload, from, now) {
            if to.is_ipv6() {
                // All peers here are of the other family.
                answer.truncate(20);
                tracker.heard[before..].iter_mut().for_each(|heard| heard.by_ip6 = true);
            }
            self.queue.plan(now + late, Event::TrackerPacket(node, to, answer.into()));
        }
        true
    }

    /// Somebody sends a node a datagram in a tracker's name, or in any other.
    pub fn send_to_node(&mut self, from: SocketAddr, node: NodeId, payload: &[u8]) {
        let now = self.instant();
        self.trace.note(self.now, node.0, format_args!("hears {} from {from}", payload.len()));
        self.nodes[node.0].engine.datagram(from, payload, now);
        self.settle(node);
    }

    /// Looks up a name as a node does.
    pub(super) fn look_up(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let known = host.parse().map(|ip| vec![ip]).ok().or_else(|| self.names.get(host).cloned());
        known.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Tracker {
    /// Answers a request by HTTP: status and body.
    fn serve(&mut self, path: &str, from: SocketAddr, at: Duration) -> Option<(u16, Vec<u8>)> {
        let (path, query) = path.split_once('?').unwrap();
        let fields: BTreeMap<&str, Vec<u8>> =
            query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k, decoded(v))).collect();
        let number = |key: &str| {
            let text = fields.get(key).and_then(|bytes| str::from_utf8(bytes).ok());
            text.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default()
        };
        let text =
            |key| fields.get(key).map_or_else(String::new, |b| String::from_utf8_lossy(b).into_owned());
        let scrape = path.ends_with("/scrape");
        let info_hash = fields["info_hash"].clone();
        assert_eq!(info_hash.len(), 20, "an info-hash");
        self.heard.push(Heard {
            at,
            from: Some(from),
            by_ip6: false,
            event: if scrape { "scrape".to_owned() } else { text("event") },
            info_hash: info_hash.clone(),
            left: number("left"),
            num_want: number("numwant") as u32,
            key: u32::from_str_radix(&text("key"), 16).unwrap_or_default(),
            trackerid: fields.get("trackerid").cloned(),
            options: Vec::new(),
        });
        match &self.mood {
            Mood::Silent | Mood::Gone => None,
            Mood::Refuses(reason) => {
                Some((200, format!("d14:failure reason{}:{reason}e", reason.len()).into_bytes()))
            }
            Mood::Says(status, body) => Some((*status, body.clone())),
            Mood::Answers if scrape => {
                let known = self.swarms.get(&info_hash).map_or(0, BTreeSet::len);
                let head = b"d5:filesd20:".as_slice();
                let tail = format!("d8:completei{known}e10:downloadedi7e10:incompletei2eeee").into_bytes();
                Some((200, [head, &info_hash, &tail].concat()))
            }
            Mood::Answers => {
                let peer = SocketAddr::new(from.ip(), u16::try_from(number("port")).unwrap());
                let peers = self.meet(info_hash, peer, &text("event"));
                let head = format!("d8:intervali{}e", self.interval).into_bytes();
                let more = self.more.clone();
                let list = format!("5:peers{}:", peers.len()).into_bytes();
                // Keys out of order, as real trackers have them.
                Some((200, [head, list, peers, more, b"e".to_vec()].concat()))
            }
        }
    }

    /// Somebody joins or leaves; the others, compact.
    fn meet(&mut self, info_hash: Vec<u8>, peer: SocketAddr, event: &str) -> Vec<u8> {
        let swarm = self.swarms.entry(info_hash).or_default();
        if event == "stopped" {
            swarm.remove(&peer);
            return Vec::new();
        }
        swarm.insert(peer);
        let mut bytes = Vec::new();
        for other in swarm.iter().filter(|other| **other != peer) {
            let IpAddr::V4(ip) = other.ip() else { continue };
            bytes.extend(ip.octets());
            bytes.extend(other.port().to_be_bytes());
        }
        bytes
    }

    /// Answers a datagram.
    fn hear(&mut self, packet: &[u8], from: SocketAddr, at: Duration) -> Option<Vec<u8>> {
        let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let (connection, action) = (u64::from(word(0)) << 32 | u64::from(word(4)), word(8));
        self.packets.push((at, action));
        if self.lost > 0 {
            self.lost -= 1;
            return None;
        }
        let head = |action: u32| [&action.to_be_bytes()[..], &packet[12..16]].concat();
        if action == 0 {
            assert_eq!(connection, 0x417_2710_1980, "the magic number");
            if matches!(self.mood, Mood::Silent | Mood::Gone) {
                return None;
            }
            let id = 1_000 + self.packets.len() as u64;
            self.connections.insert(id, at);
            return Some([head(0), id.to_be_bytes().to_vec()].concat());
        }
        let valid = self.connections.get(&connection).is_some_and(|since| at < *since + self.lasts);
        if !valid {
            return self.complains.then(|| [head(3), b"connection id?".to_vec()].concat());
        }
        let scrape = action == 2;
        let event =
            if scrape { "scrape" } else { ["", "completed", "started", "stopped"][word(80) as usize] };
        let mut heard = Heard {
            at,
            from: Some(from),
            event: event.to_owned(),
            info_hash: packet[16..36].to_vec(),
            ..Heard::default()
        };
        if !scrape {
            (heard.left, heard.key, heard.num_want) =
                (u64::from(word(64)) << 32 | u64::from(word(68)), word(88), word(92));
            heard.options = packet[98..].to_vec();
        }
        let info_hash = heard.info_hash.clone();
        self.heard.push(heard);
        match &self.mood {
            Mood::Silent | Mood::Gone => None,
            Mood::Refuses(reason) => Some([head(3), reason.clone().into_bytes()].concat()),
            Mood::Says(_, bytes) => Some([head(1), bytes.clone()].concat()),
            Mood::Answers if scrape => {
                let known = self.swarms.get(&info_hash).map_or(0, BTreeSet::len) as u32;
                Some([head(2), [known, 7, 2].map(u32::to_be_bytes).concat()].concat())
            }
            Mood::Answers => {
                let port = u16::from_be_bytes([packet[96], packet[97]]);
                let peers = self.meet(info_hash, SocketAddr::new(from.ip(), port), event);
                let counts = [self.interval, 0, 1].map(u32::to_be_bytes).concat();
                Some([head(1), counts, peers].concat())
            }
        }
    }
}

fn decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, more)) = rest.split_first() {
        if *first == b'%' {
            let digits = str::from_utf8(&more[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    bytes
}
