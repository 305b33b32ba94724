//! What the node answers when no plugin does.

use std::net::SocketAddr;
use std::time::Instant;

use rand::rngs::StdRng;

use super::node::{Node, Question};
use super::store::Stored;
use super::{Event, items};
use crate::command::DhtItemError;
use crate::wire::krpc::{Arguments, Item, NodeId, NodeInfo, Response, Want};

/// The most peers in an answer, by address family: what fits into a datagram that is not divided on its way.
const MOST_PEERS: (usize, usize) = (100, 40);

impl Node {
    /// Answers a question. `foreign` are nodes of the other address family, close to what it asks for.
    pub fn answer(
        &mut self,
        question: &Question<'_>,
        foreign: Vec<NodeInfo>,
        now: Instant,
        rng: &mut StdRng,
    ) {
        let (from, id) = (question.from, self.id);
        let Some((query, t)) = question.read() else { return };
        let arguments = match query.arguments {
            Ok(arguments) => arguments,
            Err(wrong) => return self.send_error(from, t, 203, wrong),
        };
        let nodes = arguments.nodes_wanted().map(|(target, want)| self.nodes_for(target, want, foreign));
        let mut response = Response { id, nodes: nodes.unwrap_or_default(), ..Response::default() };
        match arguments {
            Arguments::Ping | Arguments::FindNode { .. } => self.send_response(from, t, response),
            Arguments::GetPeers { info_hash, scrape, .. } => {
                self.events.push_back(Event::Asked { info_hash });
                let most = if self.is_v4() { MOST_PEERS.0 } else { MOST_PEERS.1 };
                let token = self.tokens.token(from.ip(), info_hash);
                let filters = if scrape { self.store.filters(info_hash, now) } else { None };
                // Both would not fit into a datagram that is not divided on its way.
                if !scrape {
                    response.peers = self.store.peers(info_hash, most, now, rng);
                }
                response.filters = filters.as_ref().map(|[seeds, others]| [&seeds.0, &others.0]);
                response.token = Some(&token);
                self.send_response(from, t, response);
            }
            Arguments::AnnouncePeer { info_hash, port, token, seed } => {
                if !self.tokens.is_good(token, from.ip(), info_hash) {
                    return self.send_error(from, t, 203, "invalid token");
                }
                let peer = SocketAddr::new(from.ip(), port.unwrap_or(from.port()));
                self.store.announce(info_hash, peer, seed, now, &self.config);
                self.events.push_back(Event::Announced { info_hash, peer });
                self.send_response(from, t, response);
            }
            Arguments::Get { target, seq, .. } => self.answer_get(from, t, target, seq, response, now),
            Arguments::Put { token, item, cas, .. } => match self.put(from, token, &item, cas, now) {
                Ok(()) => self.send_response(from, t, response),
                Err((code, text)) => self.send_error(from, t, code, text),
            },
            Arguments::SampleInfohashes { .. } => {
                response.samples = Some(self.store.samples(now, &self.config, rng));
                self.send_response(from, t, response);
            }
        }
    }

    /// The nodes that an answer names.
    fn nodes_for(&self, target: NodeId, want: Want, foreign: Vec<NodeInfo>) -> Vec<NodeInfo> {
        let (own, other) = if self.is_v4() { (want.v4, want.v6) } else { (want.v6, want.v4) };
        let mut nodes = if own || !other { self.closest(target) } else { Vec::new() };
        nodes.extend(foreign.into_iter().filter(|_| other));
        nodes.sort_by_key(|node| node.address.is_ipv6());
        nodes
    }

    fn answer_get(
        &mut self,
        from: SocketAddr,
        transaction: &[u8],
        target: NodeId,
        known: Option<i64>,
        mut response: Response<'_>,
        now: Instant,
    ) {
        let token = self.tokens.token(from.ip(), target);
        let stored = self.store.item(target, now).cloned();
        let mut response = Response { token: Some(&token), ..std::mem::take(&mut response) };
        if let Some(stored) = &stored {
            let newer = match &stored.owner {
                Some((_, _, seq)) => {
                    response.seq = Some(*seq);
                    known.is_none_or(|known| *seq > known)
                }
                None => true,
            };
            if newer {
                response.value = Some(&stored.value);
                response.key = stored.owner.as_ref().map(|(key, ..)| key);
                response.signature = stored.owner.as_ref().map(|(_, signature, _)| signature);
            }
        }
        self.send_response(from, transaction, response);
    }

    /// Stores an item, or says why not: the codes are those of BEP 44.
    fn put(
        &mut self,
        from: SocketAddr,
        token: &[u8],
        item: &Item<'_>,
        cas: Option<i64>,
        now: Instant,
    ) -> Result<(), (i64, &'static str)> {
        let (value, salt) = match *item {
            Item::Immutable { value } => (value, &b""[..]),
            Item::Mutable { value, salt, .. } => (value, salt),
        };
        items::check(value, salt).map_err(|error| match error {
            DhtItemError::TooLong(_) => (205, "message (v field) too big"),
            DhtItemError::SaltTooLong(_) => (207, "salt (salt field) too big"),
            DhtItemError::NotBencoded | DhtItemError::NoDht => (203, "invalid value"),
        })?;
        let target = items::target(item);
        if !self.tokens.is_good(token, from.ip(), target) {
            return Err((203, "invalid token"));
        }
        let owner = match *item {
            Item::Immutable { .. } => None,
            Item::Mutable { key, signature, seq, .. } => {
                self.check_newer(target, seq, cas, value, now)?;
                // Last: it is what costs most.
                if !items::is_signed(key, signature, salt, seq, value) {
                    return Err((206, "invalid signature"));
                }
                Some((*key, *signature, seq))
            }
        };
        let (value, id) = (value.to_vec(), self.id);
        self.store.put(target, Stored { value, owner, announced: now }, id, &self.config);
        Ok(())
    }

    /// Whether a mutable item may take the place of what is there.
    fn check_newer(
        &self,
        target: NodeId,
        seq: i64,
        cas: Option<i64>,
        value: &[u8],
        now: Instant,
    ) -> Result<(), (i64, &'static str)> {
        let Some(stored) = self.store.item(target, now) else { return Ok(()) };
        let Some((_, _, there)) = stored.owner else { return Ok(()) };
        if cas.is_some_and(|cas| cas != there) {
            return Err((301, "CAS mismatch"));
        }
        let older = seq < there || (seq == there && stored.value != value);
        if older { Err((302, "old sequence number")) } else { Ok(()) }
    }
}
