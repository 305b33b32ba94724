//! The DHT: a node for each address family that we listen on, and what it is used for.
//!
//! Everything a node wants done waits in it until [`Engine::settle_dht`], which every turn that touches a node ends with:
//! peers that were found are offered to torrents, which calls hooks.

mod announcing;
mod contacts;
mod requests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use pilotfish_plugin::rt::HookStatus;
use pilotfish_plugin::rt::abi_stable::std_types::RSlice;
use pilotfish_plugin::{PeerHandle, PluginId, SessionHooks, TorrentHandle};
use rand::rngs::StdRng;

use self::announcing::Announcing;
pub(super) use self::contacts::Contact;
use self::contacts::Contacts;
use self::requests::Requests;
use super::Engine;
use super::host_api::lend_entry;
use super::relay::{Destination, Route};
use super::state::{SessionPhase, State};
use super::timers::Timer;
use crate::alert::AlertKind;
use crate::dht::{Config, Event, Node, Question, Saved};
use crate::settings::Settings;
use crate::wire::krpc::{NodeId, NodeInfo};
use crate::wire::{EntryTree, Message, Reserved};

/// The nodes of a session, and what they do for it.
#[derive(Default)]
pub(super) struct Dht {
    /// For IPv4, and for IPv6.
    nodes: [Option<Node>; 2],
    /// What was kept of them, until they begin.
    saved: [Saved; 2],
    contacts: Contacts,
    announcing: Announcing,
    requests: Requests,
    /// When the timer in the heap is due.
    armed: Option<Instant>,
    /// How the nodes reach others.
    route: Route,
}

impl Dht {
    /// What an earlier session kept is what this one begins with.
    pub(super) fn remembering(saved: Option<&[u8]>) -> Self {
        Self { saved: saved.map(Saved::read).unwrap_or_default(), ..Self::default() }
    }

    fn node(&self, is_v4: bool) -> Option<&Node> {
        self.nodes[usize::from(!is_v4)].as_ref()
    }

    /// Whether there is any node.
    fn is_on(&self) -> bool {
        self.nodes.iter().any(Option::is_some)
    }
}

impl Engine {
    /// A datagram came that looks like one of the DHT's.
    pub(super) fn on_dht_datagram(&mut self, from: SocketAddr, payload: &[u8]) {
        let question =
            self.state.with_node(from.is_ipv4(), |node, now, rng| node.receive(from, payload, now, rng));
        if let Some(question) = question.flatten() {
            match self.ask_about_dht_request(&question) {
                Some(answer) => {
                    self.state.with_node(from.is_ipv4(), |node, _, _| node.send_answer(from, answer));
                }
                None => self.state.answer_dht(&question),
            }
        }
        self.settle_dht();
    }

    /// The answer of the first plugin that has one. Each fills in a frame of its own.
    fn ask_about_dht_request(&mut self, question: &Question<'_>) -> Option<Vec<u8>> {
        if !self.chains.session.has(SessionHooks::on_dht_request) {
            return None;
        }
        let id = self.state.dht.node(question.from.is_ipv4())?.id();
        let method = question.method().to_owned();
        for i in 0..self.state.plugins.len() {
            let plugin = PluginId(u32::try_from(i).unwrap_or(u32::MAX));
            let entry = self.state.begin_entry(question.frame(id));
            let Self { state, chains } = self;
            let answer = chains.session.only(state, plugin, (), SessionHooks::on_dht_request, |p, cx| {
                let (raw, message) = (lend_entry(cx.scope(), entry), RSlice::from_slice(&question.message));
                p.on_dht_request(cx, method.as_str().into(), question.from.into(), message, raw)
            });
            let response = self.state.end_entry(entry);
            if answer == Some(HookStatus::HANDLED) {
                return Some(response.encode_root());
            }
        }
        None
    }

    /// A deadline of the DHT's has come.
    pub(super) fn on_dht_timeout(&mut self) {
        let now = self.state.now;
        if self.state.dht.armed.is_some_and(|armed| armed > now) {
            return;
        }
        self.state.dht.armed = None;
        for is_v4 in [true, false] {
            self.state.with_node(is_v4, |node, now, rng| node.on_timeout(now, rng));
        }
        self.state.retry_routers();
        self.state.announce_due();
        self.settle_dht();
    }

    /// A peer told the port of its node (BEP 5).
    pub(super) fn on_dht_port(&mut self, peer: PeerHandle, port: u16) {
        let Some(ip) = self.state.peer(peer).map(|connection| connection.remote.ip()) else { return };
        self.state.with_node(ip.is_ipv4(), |node, now, rng| {
            node.add_node(SocketAddr::new(ip, port), now, rng);
        });
        self.settle_dht();
    }

    /// Does what the nodes want done, and has their timer run.
    pub(super) fn settle_dht(&mut self) {
        for is_v4 in [true, false] {
            while let Some(event) = self.state.with_node(is_v4, |node, _, _| node.poll_event()).flatten() {
                self.on_dht_event(is_v4, event);
            }
        }
        self.state.arm_dht();
    }

    fn on_dht_event(&mut self, is_v4: bool, event: Event) {
        let state = &mut self.state;
        match event {
            Event::Send { to, payload } => {
                state.send_datagram(state.dht.route, Destination::Address(to), payload);
            }
            Event::Bootstrapped => {
                let nodes = state.dht.node(is_v4).map_or(0, Node::num_nodes);
                state.alert(AlertKind::DhtBootstrap { nodes: u32::try_from(nodes).unwrap_or(u32::MAX) });
                state.announce_all_now();
            }
            Event::Asked { info_hash } => state.alert(AlertKind::DhtGetPeers { info_hash: info_hash.0 }),
            Event::Announced { info_hash, peer } => {
                state.alert(AlertKind::DhtAnnounce { address: peer, info_hash: info_hash.0 });
            }
            Event::External { voter, ip } => drop(state.count_external_vote(voter, ip)),
            Event::Foreign(node) => {
                state.with_node(!is_v4, |other, now, _| other.hear_of(node, now));
            }
            Event::Peers { request, peers } => self.on_dht_peers(request, peers),
            Event::Figures { request, seeds, downloaders } => {
                state.on_dht_figures(request, seeds, downloaders)
            }
            Event::Item { request, item } => state.on_dht_item(request, item),
            Event::Finished { request, nodes } => state.on_dht_finished(request, nodes),
            Event::Answered { request, from, message } => {
                state.on_dht_answered(request, from, message.as_deref());
            }
        }
    }
}

impl State {
    /// Does something with a node, if there is one. What comes of it is settled later.
    fn with_node<R>(
        &mut self,
        is_v4: bool,
        f: impl FnOnce(&mut Node, Instant, &mut StdRng) -> R,
    ) -> Option<R> {
        if self.phase != SessionPhase::Running {
            return None;
        }
        let node = self.dht.nodes[usize::from(!is_v4)].as_mut()?;
        Some(f(node, self.now, &mut self.rng))
    }

    /// The built-in answer to a question.
    fn answer_dht(&mut self, question: &Question<'_>) {
        let is_v4 = question.from.is_ipv4();
        let foreign = question.nodes_wanted().map(|(target, _)| self.foreign_nodes(!is_v4, target));
        self.with_node(is_v4, |node, now, rng| {
            node.answer(question, foreign.unwrap_or_default(), now, rng);
        });
    }

    fn foreign_nodes(&self, is_v4: bool, target: NodeId) -> Vec<NodeInfo> {
        self.dht.node(is_v4).map(|node| node.closest(target)).unwrap_or_default()
    }

    /// Begins or ends the DHT, as the settings and the addresses that we listen on have it.
    pub(super) fn update_dht(&mut self) {
        let route = self.dht_route();
        let is_open = self.settings.enable_dht && route != Route::Closed;
        if self.dht.is_on() && (!is_open || route != self.dht.route) {
            self.dht.saved = self.dht_saved();
            self.dht.nodes = [None, None];
            self.forget_dht_requests();
        }
        if std::mem::replace(&mut self.dht.route, route) != route {
            self.dht.contacts.begin_again();
        }
        if !is_open {
            return;
        }
        let config = Config { ip_filter: self.ip_filter.clone(), ..config(&self.settings) };
        self.dht.nodes.iter_mut().flatten().for_each(|node| node.set_config(config.clone()));
        for address in self.listening.clone() {
            self.start_node(address.is_ipv4(), &config);
        }
        let both = self.dht.nodes.iter().all(Option::is_some);
        self.dht.nodes.iter_mut().flatten().for_each(|node| node.set_wants_foreign(both));
        self.contact_routers();
        self.arm_dht();
    }

    fn start_node(&mut self, is_v4: bool, config: &Config) {
        let at = usize::from(!is_v4);
        if self.dht.nodes[at].is_some() || self.phase != SessionPhase::Running {
            return;
        }
        let saved = std::mem::take(&mut self.dht.saved[at]);
        self.dht.nodes[at] = Some(Node::new(is_v4, config.clone(), saved, self.now, &mut self.rng));
        let routers = self.dht.contacts.routers().to_vec();
        self.with_node(is_v4, |node, now, rng| node.bootstrap(&routers, now, rng));
        for torrent in self.order.clone() {
            self.schedule_dht(torrent);
        }
    }

    fn dht_saved(&self) -> [Saved; 2] {
        std::array::from_fn(|i| {
            self.dht.nodes[i].as_ref().map_or_else(|| self.dht.saved[i].clone(), Node::save)
        })
    }

    /// We are seen from this address: our node may need another id.
    pub(super) fn set_dht_address(&mut self, ip: std::net::IpAddr) {
        self.with_node(ip.is_ipv4(), |node, now, rng| node.set_external(ip, now, rng));
    }

    /// What the DHT wants to keep until the next start; `None` if there is nothing.
    pub(super) fn dht_state(&self) -> Option<(String, Vec<u8>)> {
        let mut tree = EntryTree::new();
        let both = self.dht_saved();
        for (saved, is_v4) in both.iter().zip([true, false]) {
            saved.write(&mut tree, is_v4);
        }
        // An id that nobody has heard of is worth nothing.
        let known = both.iter().any(|saved| !saved.nodes.is_empty());
        known.then(|| (crate::dht::STATE.to_owned(), tree.encode_root()))
    }

    /// Has the timer run for whatever is due next.
    fn arm_dht(&mut self) {
        if self.phase != SessionPhase::Running || !self.dht.is_on() {
            return;
        }
        let nodes = self.dht.nodes.iter().flatten().map(Node::poll_timeout);
        let others = [self.dht.contacts.next(), self.dht.announcing.next()];
        let Some(next) = nodes.chain(others.into_iter().flatten()).min() else { return };
        if self.dht.armed.is_none_or(|armed| next < armed) {
            self.dht.armed = Some(next);
            self.timers.set(next, Timer::Dht);
        }
    }

    /// Tells a peer where our node is, if it has one of its own (BEP 5).
    pub(super) fn send_dht_port(&mut self, peer: PeerHandle) {
        let Some(connection) = self.peer(peer).filter(|c| c.reserved.contains(Reserved::DHT)) else { return };
        let (is_v4, torrent) = (connection.remote.is_ipv4(), connection.torrent);
        let private = torrent.is_none_or(|torrent| self.is_private(torrent));
        // Behind a proxy, nobody comes to that port.
        if private || self.dht.route != Route::Direct || self.dht.node(is_v4).is_none() {
            return;
        }
        if let Some(local) = self.dht_listener(is_v4) {
            self.send(peer, &Message::Port(self.external_udp_port(local)));
        }
    }

    /// The listener beside which our node is.
    fn dht_listener(&self, is_v4: bool) -> Option<SocketAddr> {
        self.listening.iter().find(|address| address.is_ipv4() == is_v4).copied()
    }

    /// The port by which our node announces us.
    fn dht_port(&self, is_v4: bool) -> Option<u16> {
        // Who hides behind a proxy cannot be reached.
        self.dht_listener(is_v4)
            .filter(|_| self.peer_proxy().is_none())
            .map(|local| self.external_tcp_port(local))
    }

    /// Whether a torrent is for its trackers' peers alone (BEP 27). Of one that is not known yet, nobody can tell.
    pub(super) fn is_private(&self, torrent: TorrentHandle) -> bool {
        let metainfo = self.torrent(torrent).and_then(|t| t.description.metainfo());
        metainfo.is_some_and(crate::metainfo::Metainfo::private)
    }
}

fn config(settings: &Settings) -> Config {
    Config {
        read_only: settings.dht_read_only,
        enforce_node_id: settings.dht_enforce_node_id,
        prefer_verified_node_ids: settings.dht_prefer_verified_node_ids,
        restrict_routing_ips: settings.dht_restrict_routing_ips,
        restrict_search_ips: settings.dht_restrict_search_ips,
        search_branching: settings.dht_search_branching as usize,
        max_fail_count: u8::try_from(settings.dht_max_fail_count).unwrap_or(u8::MAX),
        max_peers: settings.dht_max_peers as usize,
        max_torrents: settings.dht_max_torrents as usize,
        max_items: settings.dht_max_dht_items as usize,
        max_infohashes_sample_count: settings.dht_max_infohashes_sample_count as usize,
        sample_infohashes_interval: settings.dht_sample_infohashes_interval.duration(),
        upload_rate_limit: settings.dht_upload_rate_limit,
        block_ratelimit: settings.dht_block_ratelimit,
        block_timeout: settings.dht_block_timeout.duration(),
        ip_filter: Arc::default(),
    }
}
