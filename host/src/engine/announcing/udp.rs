//! Questions that go by UDP (BEP 15): a look-up, a connection id, the question, each as often as it takes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::Rng;

use super::{Answer, Question, Request, Way};
use crate::engine::Engine;
use crate::engine::relay::Destination;
use crate::engine::state::{Lookup, State};
use crate::engine::timers::Timer;
use crate::wire::tracker::udp::{self, UdpReply};
use crate::wire::tracker::{Retry, TrackerError};

/// How long the first packet may stay unanswered; each later one has twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// How often that time is doubled at most.
const MOST_DOUBLINGS: u32 = 8;
/// Addresses of one tracker that are tried.
const MOST_ADDRESSES: usize = 8;
/// Where an answer comes from that a proxy says nothing of.
const SOMEBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Connection ids that are remembered; beyond that, those that have expired are not.
const MANY_CONNECTIONS: usize = 1_000;

/// What is shared between conversations.
#[derive(Default)]
pub(super) struct Exchange {
    /// Connection ids, and since when they are known.
    connections: HashMap<Destination, (u64, Instant)>,
    /// Which request a packet belongs to.
    transactions: HashMap<u32, u64>,
}

impl Exchange {
    /// A conversation is over.
    pub(super) fn forget(&mut self, talk: &Talk) {
        if let Some(transaction) = talk.transaction {
            self.transactions.remove(&transaction);
        }
    }

    /// A tracker's connection id, while it is valid.
    fn connection(&self, tracker: &Destination, now: Instant, lasts: Duration) -> Option<u64> {
        let (id, since) = self.connections.get(tracker)?;
        (now.duration_since(*since) < lasts).then_some(*id)
    }

    fn connected(&mut self, tracker: Destination, id: u64, now: Instant, lasts: Duration) {
        if self.connections.len() >= MANY_CONNECTIONS {
            self.connections.retain(|_, (_, since)| now.duration_since(*since) < lasts);
        }
        self.connections.insert(tracker, (id, now));
    }
}

/// One conversation.
pub(super) struct Talk {
    port: u16,
    path: String,
    /// Empty while they are looked up.
    addresses: Vec<Destination>,
    /// Which of them is spoken to.
    at: usize,
    /// The number of the last packet.
    transaction: Option<u32>,
    /// That packet was the question, not the one for a connection id.
    asked: bool,
    /// The connection id was given out in this conversation.
    introduced: bool,
    /// How often the last packet was sent again.
    repeats: u32,
    /// When it is sent again.
    again: Instant,
}

impl Engine {
    /// A tracker's name was looked up.
    pub(in crate::engine) fn on_tracker_resolved(&mut self, id: u64, found: io::Result<Vec<IpAddr>>) {
        let families = self.state.listening.clone();
        let ours = |ip: &IpAddr| families.iter().any(|local| local.is_ipv4() == ip.is_ipv4());
        let filters = self.state.settings.apply_ip_filter_to_trackers;
        let (filter, is_v4) = (self.state.ip_filter.clone(), self.state.family_of(id));
        let Some(talk) = self.state.talk(id) else { return };
        let port = talk.port;
        let error = match found {
            Ok(mut found) => {
                found.retain(|ip| ours(ip) && is_v4.is_none_or(|is_v4| ip.is_ipv4() == is_v4));
                if filters && !found.is_empty() && found.iter().all(|ip| filter.blocks(*ip)) {
                    return self.finish_request(id, Err(TrackerError::Blocked));
                }
                let allowed = found.into_iter().filter(|ip| !filters || !filter.blocks(*ip));
                let found = allowed.take(MOST_ADDRESSES);
                talk.addresses = found.map(|ip| Destination::Address(SocketAddr::new(ip, port))).collect();
                if !talk.addresses.is_empty() {
                    return self.state.send_packet(id);
                }
                "the tracker has no address that we can send to".to_owned()
            }
            Err(error) => format!("the tracker's name cannot be looked up: {error}"),
        };
        self.finish_request(id, Err(TrackerError::Unreachable(error)));
    }

    /// A datagram came that may be a tracker's. One that answers nothing, or comes from elsewhere, is ignored: the question is
    /// asked again in time.
    pub(in crate::engine) fn on_tracker_packet(
        &mut self,
        from: Option<SocketAddr>,
        transaction: u32,
        packet: &[u8],
    ) {
        let Some(&id) = self.state.announcing.udp.transactions.get(&transaction) else { return };
        let Some(talk) = self.state.talk(id) else { return };
        let is_from = |tracker: &Destination| match tracker {
            Destination::Address(address) => from == Some(*address),
            // What the proxy looked up, only the proxy knows.
            Destination::Name(..) => true,
        };
        let Some(at) = talk.addresses.iter().position(is_from) else { return };
        if let Ok(reply) = udp::parse(packet, from.unwrap_or(SOMEBODY)) {
            talk.at = at;
            self.on_tracker_reply(id, reply);
        }
    }

    fn on_tracker_reply(&mut self, id: u64, reply: UdpReply) {
        let (now, lasts) = (self.state.now, self.state.settings.udp_tracker_token_expiry.duration());
        let Some(talk) = self.state.talk(id) else { return };
        let from = talk.addresses[talk.at].clone();
        let (asked, introduced) = (talk.asked, talk.introduced);
        match reply {
            UdpReply::Connect(connection) if !asked => {
                (talk.introduced, talk.repeats) = (true, 0);
                self.state.announcing.udp.connected(from, connection, now, lasts);
                self.state.send_packet(id);
            }
            UdpReply::Announce(reply) if asked => self.finish_request(id, Ok(Answer::Announce(reply))),
            UdpReply::Scrape(figures) if asked => self.finish_request(id, Ok(Answer::Scrape(figures))),
            UdpReply::Error(_) if asked && !introduced => {
                // It may just have forgotten the connection id.
                self.state.announcing.udp.connections.remove(&from);
                self.state.send_packet(id);
            }
            UdpReply::Error(reason) => {
                let refused = TrackerError::Refused { reason, retry: Retry::Unsaid };
                self.finish_request(id, Err(refused));
            }
            UdpReply::Connect(_) | UdpReply::Announce(_) | UdpReply::Scrape(_) => {}
        }
    }
}

impl State {
    /// Begins a conversation, with the tracker's name.
    pub(super) fn begin_talk(
        &mut self,
        id: u64,
        mut request: Request,
        host: String,
        port: u16,
        path: String,
    ) {
        request.way = Way::Udp(Talk {
            port,
            path,
            addresses: Vec::new(),
            at: 0,
            transaction: None,
            asked: false,
            introduced: false,
            repeats: 0,
            again: request.deadline,
        });
        let is_name = host.parse::<IpAddr>().is_err();
        if is_name && self.relay_looks_up(self.tracker_route()) {
            if let Way::Udp(talk) = &mut request.way {
                talk.addresses = vec![Destination::Name(host, port)];
            }
            self.announcing.requests.insert(id, request);
            return self.send_packet(id);
        }
        self.announcing.requests.insert(id, request);
        self.look_up(Lookup::Tracker(id), host);
    }

    fn talk(&mut self, id: u64) -> Option<&mut Talk> {
        match &mut self.announcing.requests.get_mut(&id)?.way {
            Way::Udp(talk) => Some(talk),
            _ => None,
        }
    }

    /// Nobody answered the last packet in time: it is sent again, to the next address if there are several.
    pub(super) fn repeat_packet(&mut self, id: u64) {
        let now = self.now;
        let Some(talk) = self.talk(id).filter(|talk| talk.again <= now && !talk.addresses.is_empty()) else {
            return;
        };
        talk.repeats = (talk.repeats + 1).min(MOST_DOUBLINGS);
        let silent = talk.addresses[talk.at].clone();
        talk.at = (talk.at + 1) % talk.addresses.len();
        if talk.asked && !talk.introduced {
            self.announcing.udp.connections.remove(&silent);
        }
        self.send_packet(id);
    }

    /// Sends what comes next in a conversation.
    fn send_packet(&mut self, id: u64) {
        let (now, lasts) = (self.now, self.settings.udp_tracker_token_expiry.duration());
        let Some(talk) = self.talk(id) else { return };
        let (to, known) = (talk.addresses[talk.at].clone(), talk.transaction);
        let again = now + FIRST_WAIT * (1 << talk.repeats);
        let connection = self.announcing.udp.connection(&to, now, lasts);
        let port = self.announced_port(|local| match &to {
            Destination::Address(to) => local.is_ipv4() == to.is_ipv4(),
            Destination::Name(..) => true,
        });
        // A packet that is repeated keeps its number, so that a late answer counts.
        let repeated = self.talk(id).is_some_and(|talk| talk.asked == connection.is_some());
        let transaction = match known.filter(|_| repeated) {
            Some(transaction) => transaction,
            None => self.new_transaction(id, known),
        };
        let Some(request) = self.announcing.requests.get_mut(&id) else { return };
        let Way::Udp(talk) = &mut request.way else { return };
        (talk.transaction, talk.asked, talk.again) = (Some(transaction), connection.is_some(), again);
        let packet = match (connection, &mut request.question) {
            (None, _) => udp::connect(transaction),
            (Some(connection), Question::Announce(announce)) => {
                announce.port = port;
                udp::announce(connection, transaction, announce, &talk.path)
            }
            (Some(connection), Question::Scrape(hash)) => udp::scrape(connection, transaction, hash),
        };
        self.timers.set(again, Timer::Request(id));
        self.send_datagram(self.tracker_route(), to, Bytes::from(packet));
    }

    /// A number that no other packet has, in the place of an earlier one.
    fn new_transaction(&mut self, id: u64, earlier: Option<u32>) -> u32 {
        let udp = &mut self.announcing.udp;
        if let Some(earlier) = earlier {
            udp.transactions.remove(&earlier);
        }
        loop {
            let number = self.rng.next_u32();
            if let std::collections::hash_map::Entry::Vacant(free) = udp.transactions.entry(number) {
                free.insert(id);
                return number;
            }
        }
    }
}
