//! Writing messages. The keys of each dictionary are written in their order.

use std::net::SocketAddr;

use super::{Arguments, Body, Item, NodeId, NodeInfo, Packet, Query, Response, Want, compact};

/// The client and its version, as nodes tell each other.
const VERSION: &[u8] = b"PF\0\x01";

/// Bencoded bytes that grow.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes.len().to_string().as_bytes());
        self.0.push(b':');
        self.0.extend_from_slice(bytes);
    }

    fn int(&mut self, int: i64) {
        self.0.extend_from_slice(format!("i{int}e").as_bytes());
    }

    fn pair(&mut self, key: &str, value: &[u8]) {
        self.bytes(key.as_bytes());
        self.bytes(value);
    }

    fn int_pair(&mut self, key: &str, value: i64) {
        self.bytes(key.as_bytes());
        self.int(value);
    }

    fn raw_pair(&mut self, key: &str, bencoded: &[u8]) {
        self.bytes(key.as_bytes());
        self.0.extend_from_slice(bencoded);
    }

    fn open(&mut self, key: &str, kind: u8) {
        self.bytes(key.as_bytes());
        self.0.push(kind);
    }

    fn close(&mut self) {
        self.0.push(b'e');
    }

    fn want(&mut self, want: Want) {
        if want.v4 || want.v6 {
            self.open("want", b'l');
            [(want.v4, b"n4"), (want.v6, b"n6")]
                .iter()
                .filter(|(wanted, _)| *wanted)
                .for_each(|(_, name)| self.bytes(*name));
            self.close();
        }
    }
}

impl Packet<'_> {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(512));
        out.0.push(b'd');
        match &self.body {
            Body::Query(query) => {
                write_query(&mut out, query);
                self.write_end(&mut out, query.read_only, b"q");
            }
            Body::Response(response) => {
                if let Some(ip) = self.ip {
                    out.pair("ip", &endpoint(ip));
                }
                write_response(&mut out, response, self.ip);
                self.write_end(&mut out, false, b"r");
            }
            Body::Error { code, text } => {
                out.open("e", b'l');
                out.int(*code);
                out.bytes(text.as_bytes());
                out.close();
                if let Some(ip) = self.ip {
                    out.pair("ip", &endpoint(ip));
                }
                self.write_end(&mut out, false, b"e");
            }
        }
        out.0
    }

    fn write_end(&self, out: &mut Writer, read_only: bool, kind: &[u8]) {
        if read_only {
            out.int_pair("ro", 1);
        }
        out.pair("t", self.transaction);
        out.pair("v", VERSION);
        out.pair("y", kind);
        out.close();
    }
}

/// An address in the compact form.
pub fn endpoint(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(compact::V6_LEN);
    compact::encode(address, &mut bytes);
    bytes
}

fn write_query(out: &mut Writer, query: &Query<'_>) {
    out.open("a", b'd');
    match &query.arguments {
        Ok(arguments) => write_arguments(out, &query.id, arguments),
        Err(_) => out.pair("id", &query.id.0),
    }
    out.close();
    out.pair("q", query.method.as_bytes());
}

fn write_arguments(out: &mut Writer, id: &NodeId, arguments: &Arguments<'_>) {
    match arguments {
        Arguments::Ping => out.pair("id", &id.0),
        Arguments::FindNode { target, want } | Arguments::SampleInfohashes { target, want } => {
            out.pair("id", &id.0);
            out.pair("target", &target.0);
            out.want(*want);
        }
        Arguments::GetPeers { info_hash, want, scrape } => {
            out.pair("id", &id.0);
            out.pair("info_hash", &info_hash.0);
            if *scrape {
                out.int_pair("scrape", 1);
            }
            out.want(*want);
        }
        Arguments::AnnouncePeer { info_hash, port, token, seed } => {
            out.pair("id", &id.0);
            out.int_pair("implied_port", port.is_none().into());
            out.pair("info_hash", &info_hash.0);
            out.int_pair("port", port.unwrap_or(0).into());
            out.int_pair("seed", (*seed).into());
            out.pair("token", token);
        }
        Arguments::Get { target, seq, want } => {
            out.pair("id", &id.0);
            if let Some(seq) = seq {
                out.int_pair("seq", *seq);
            }
            out.pair("target", &target.0);
            out.want(*want);
        }
        Arguments::Put { target, token, item, cas } => write_put(out, id, *target, token, item, *cas),
    }
}

fn write_put(
    out: &mut Writer,
    id: &NodeId,
    target: Option<NodeId>,
    token: &[u8],
    item: &Item<'_>,
    cas: Option<i64>,
) {
    if let Some(cas) = cas {
        out.int_pair("cas", cas);
    }
    out.pair("id", &id.0);
    let (Item::Immutable { value } | Item::Mutable { value, .. }) = *item;
    if let Item::Mutable { key, signature, seq, salt, .. } = item {
        out.pair("k", *key);
        if !salt.is_empty() {
            out.pair("salt", salt);
        }
        out.int_pair("seq", *seq);
        out.pair("sig", *signature);
    }
    if let Some(target) = target {
        out.pair("target", &target.0);
    }
    out.pair("token", token);
    out.raw_pair("v", value);
}

fn write_response(out: &mut Writer, r: &Response<'_>, to: Option<SocketAddr>) {
    out.open("r", b'd');
    if let Some([seeds, others]) = r.filters {
        out.pair("BFpe", others);
        out.pair("BFsd", seeds);
    }
    out.pair("id", &r.id.0);
    if let Some(samples) = &r.samples {
        out.int_pair("interval", samples.interval.into());
    }
    if let Some(key) = r.key {
        out.pair("k", key);
    }
    write_nodes(out, "nodes", r.nodes.iter().filter(|node| node.address.is_ipv4()));
    write_nodes(out, "nodes6", r.nodes.iter().filter(|node| node.address.is_ipv6()));
    if let Some(samples) = &r.samples {
        out.int_pair("num", samples.num.into());
    }
    if let Some(to) = to {
        // As with libtorrent: the asker's port, as it is seen here.
        out.int_pair("p", to.port().into());
    }
    if let Some(samples) = &r.samples {
        out.pair("samples", samples.hashes.as_flattened());
    }
    if let Some(seq) = r.seq {
        out.int_pair("seq", seq);
    }
    if let Some(signature) = r.signature {
        out.pair("sig", signature);
    }
    if let Some(token) = r.token {
        out.pair("token", token);
    }
    if let Some(value) = r.value {
        out.raw_pair("v", value);
    }
    if !r.peers.is_empty() {
        out.open("values", b'l');
        r.peers.iter().for_each(|peer| out.bytes(&endpoint(*peer)));
        out.close();
    }
    out.close();
}

fn write_nodes<'a>(out: &mut Writer, key: &str, nodes: impl Iterator<Item = &'a NodeInfo>) {
    let mut bytes = Vec::new();
    for node in nodes {
        bytes.extend(node.id.0);
        compact::encode(node.address, &mut bytes);
    }
    if !bytes.is_empty() {
        out.pair(key, &bytes);
    }
}
