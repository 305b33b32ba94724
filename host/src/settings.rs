//! Every knob of the engine, by libtorrent's name: one table of names, types, defaults, limits and docs.
//!
//! A setting is here only if something reads it. The table is the single place where one is declared; the fields of
//! [`Settings`], the defaults, reading and writing by name, and the listing for `--help` all follow from it. Where a
//! default differs from libtorrent's, its doc says why.

mod encryption;
mod value;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use pilotfish_plugin::AlertCategory;

pub use self::encryption::{EncLevel, EncPolicy};
use self::value::Value;
pub use self::value::{HostPorts, ListenInterfaces, ProxyType, Seconds};

/// Why a setting was not changed. The fault is with whoever asked for the change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no setting of that name.
    #[error("there is no setting {name:?}{}", did_you_mean(.nearest))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names that come closest to it, best first; empty if none resembles it.
        nearest: Vec<&'static str>,
    },
    /// The setting exists, but a running session has taken it already.
    #[error("{name} can only be set before the session starts")]
    Fixed {
        /// The setting.
        name: &'static str,
    },
    /// The setting exists, but cannot have that value.
    #[error("{name} cannot be {value:?}: it may be {allowed}")]
    Value {
        /// The setting.
        name: &'static str,
        /// The value that was asked for.
        value: String,
        /// What it may be instead.
        allowed: String,
    },
}

/// Declares [`Settings`]. A row is `name: Type = default, limits;` under its doc; the limits of a type that has none
/// are left out.
macro_rules! settings {
    (@limits) => { () };
    (@limits $limits:expr) => { $limits };
    ($( $(#[doc = $doc:literal])+ $name:ident: $Type:ty = $default:expr $(, $limits:expr)?; )+) => {
        /// What the embedding program may tune, by libtorrent's names.
        ///
        /// The fields are plain data. [`set`](Self::set) takes text and keeps every value within its limits; after
        /// fields were written directly, [`check`](Self::check) tells whether they are.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Settings {
            $( $(#[doc = $doc])+ pub $name: $Type, )+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $( $name: $default, )+ }
            }
        }

        impl Settings {
            /// The names of all settings, in the order of the table.
            pub const fn names() -> &'static [&'static str] {
                &[$( stringify!($name) ),+]
            }

            /// Changes the setting `name` to what `text` says.
            ///
            /// # Errors
            /// There is no such setting, or it cannot have that value; nothing has changed then.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), SettingError> {
                match name {
                    $( stringify!($name) => {
                        self.$name = value::parse(stringify!($name), text, &settings!(@limits $($limits)?))?;
                    } )+
                    _ => return Err(SettingError::Unknown { name: name.to_owned(), nearest: nearest(name) }),
                }
                Ok(())
            }

            /// The value of the setting `name`, as text that [`set`](Self::set) understands. `None` if there is no
            /// such setting.
            pub fn get(&self, name: &str) -> Option<String> {
                match name {
                    $( stringify!($name) => Some(self.$name.text()), )+
                    _ => None,
                }
            }

            /// Whether every value is within its limits.
            ///
            /// # Errors
            /// Names the first setting that is not, and what it may be.
            pub fn check(&self) -> Result<(), SettingError> {
                $( value::check(stringify!($name), &self.$name, &settings!(@limits $($limits)?))?; )+
                Ok(())
            }

            /// Name, value and doc of every setting, in the order of the table.
            pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, String, &'static str)> {
                [$( (stringify!($name), self.$name.text(), concat!($($doc),+).trim_start()) ),+].into_iter()
            }
        }
    };
}

settings! {
    /// Where to listen for peers: IP:PORT, several separated by commas, IPv6 addresses in brackets; port 0 lets the
    /// system choose; empty does not listen.
    listen_interfaces: ListenInterfaces = ListenInterfaces::any(6881);
    /// The folder for torrents that are added without one.
    save_path: PathBuf = PathBuf::from(".");

    /// The most connections at a time, all torrents together. At the start of a session it becomes less if the system allows
    /// fewer open files. By uTP there are at most twice as many as were allowed at the start.
    connections_limit: u32 = 200, 1..=1_000_000;
    /// So many more may come in before it is known whom they want; then those of lowest priority go (BEP 40).
    connections_slack: u32 = 10, 0..=1_000_000;
    /// The most connections that are attempted per second; 0 connects to nobody.
    connection_speed: u32 = 30, 0..=10_000;
    /// The most peers that a torrent remembers, connected or not.
    max_peerlist_size: u32 = 3_000, 1..=10_000_000;
    /// How long after the end of a connection the same peer is tried again, in seconds; longer by as much again for
    /// each failure.
    min_reconnect_time: Seconds = Seconds(60), 0..=86_400;
    /// How many attempts to connect to a peer may fail before it is left alone.
    max_failcount: u32 = 3, 1..=255;
    /// Whether several peers of a torrent may share an IP address.
    allow_multiple_connections_per_ip: bool = false;
    /// Whether a connection is closed once neither side can want anything of the other.
    close_redundant_connections: bool = true;
    /// Whether peers are connected to by uTP (BEP 29): where TCP is allowed as well by both at once, and by the one that stands
    /// first. libtorrent tries uTP alone at first. Never through a proxy.
    enable_outgoing_utp: bool = true;
    /// Whether peers that connect to us by uTP are let in.
    enable_incoming_utp: bool = true;
    /// Whether peers are connected to by TCP.
    enable_outgoing_tcp: bool = true;
    /// Whether peers that connect to us by TCP are let in.
    enable_incoming_tcp: bool = true;

    /// The most that is received from all peers together, protocol included, in B/s; 0 is no limit. It holds for peers on the
    /// local network too, which libtorrent exempts by its default peer classes.
    download_rate_limit: u32 = 0, 0..=u32::MAX;
    /// The most that is sent to all peers together, as above.
    upload_rate_limit: u32 = 0, 0..=u32::MAX;
    /// Whether the headers of the packets count for the rate limits: an estimate, in both directions.
    rate_limit_ip_overhead: bool = true;

    /// Which peers that connect to us are let in: forced only those that begin with the encryption handshake (MSE), disabled
    /// only those that do not, enabled both.
    in_enc_policy: EncPolicy = EncPolicy::Enabled;
    /// How peers that we connect to are greeted: forced with the encryption handshake, disabled without, enabled with
    /// whichever they listen to: one that does not is called again at once and greeted the other way. The first call is
    /// without it, unless prefer_rc4 is set: most peers take both, and for those it would be a round trip for nothing. With
    /// libtorrent it is always with it.
    out_enc_policy: EncPolicy = EncPolicy::Enabled;
    /// What may follow the encryption handshake: plaintext, rc4, or both.
    allowed_enc_level: EncLevel = EncLevel::Both;
    /// Whether RC4 is selected where a peer would take both, and peers are greeted encrypted first.
    prefer_rc4: bool = false;

    /// How long an attempt to connect may take, in seconds; three more for each earlier failure.
    peer_connect_timeout: Seconds = Seconds(15), 1..=3_600;
    /// How long a peer may take for its handshake, in seconds.
    handshake_timeout: Seconds = Seconds(10), 1..=3_600;
    /// How long a connection may be silent before it is closed, in seconds.
    peer_timeout: Seconds = Seconds(120), 1..=86_400;
    /// How long a connection may go on in which neither side is interested in the other, in seconds. Only enforced
    /// while connections are scarce.
    inactivity_timeout: Seconds = Seconds(600), 1..=86_400;
    /// How long a peer may send no block that was asked of it before its requests go to others, in seconds.
    piece_timeout: Seconds = Seconds(20), 1..=3_600;
    /// How long a single request may stay unanswered before it is given up, in seconds.
    request_timeout: Seconds = Seconds(60), 1..=3_600;

    /// How much is requested of a peer in advance: as many seconds as it would need to send it.
    request_queue_time: Seconds = Seconds(3), 1..=600;
    /// The most blocks requested of one peer at a time. libtorrent has 500, which at a round trip of 100 ms caps a
    /// peer at 80 MB/s; a link of 10 Gbit/s needs 7630 blocks of 16 KiB under way.
    max_out_request_queue: u32 = 8_192, 2..=1_000_000;
    /// The most requests that one peer may have waiting at our side; told to it as reqq. libtorrent has 2000, which at a
    /// round trip of 100 ms holds a peer to 320 MB/s; this is what `max_out_request_queue` asks of others.
    max_allowed_in_request_queue: u32 = 8_192, 1..=1_000_000;
    /// Whether the extension ut_pex is among the defaults: peers tell each other of peers (BEP 11).
    enable_ut_pex: bool = true;
    /// How many peers of each address family are remembered at a time of what one peer tells of (BEP 11).
    max_pex_peers: u32 = 50, 0..=10_000;
    /// Whether the extension smart_ban is among the defaults: it finds out who sent the blocks that spoilt a piece.
    enable_smart_ban: bool = true;
    /// Whether the extension ut_metadata is among the defaults: the metadata of magnet links from peers, and for peers (BEP 9).
    enable_ut_metadata: bool = true;
    /// How long the metadata of a torrent that was added by a magnet link may be, in bytes.
    max_metadata_size: u32 = 31_457_280, 1..=268_435_456;
    /// How long a web seed may send nothing before its connection is closed, in seconds.
    urlseed_timeout: Seconds = Seconds(20), 1..=3_600;
    /// How many requests of a web seed wait for an answer at a time. Until a server has shown that it takes several on a
    /// connection, and sends parts of files, it is one.
    urlseed_pipeline_size: u32 = 5, 1..=1_000;
    /// How long after a failure a web seed is tried again, in seconds, unless its server says.
    urlseed_wait_retry: Seconds = Seconds(30), 1..=86_400;
    /// The most bytes in one request of a web seed.
    urlseed_max_request_bytes: u32 = 16 << 20, 16_384..=u32::MAX;
    /// How many web seeds of a torrent are connected to at a time.
    max_web_seed_connections: u32 = 3, 0..=1_000;
    /// How long after its host's name could not be looked up a web seed is tried again, in seconds.
    web_seed_name_lookup_retry: Seconds = Seconds(1_800), 1..=86_400;
    /// Whether URLs that strangers give us are kept from making us ask servers that only we can reach: a web seed whose host
    /// has a local address may have no query in its URL, and no redirect may lead from elsewhere to a local address.
    ssrf_mitigation: bool = true;
    /// How many pieces are picked at random before the rarest come first.
    initial_picker_threshold: u32 = 4, 0..=1_000_000;
    /// How many pieces a peer may request while it is choked (BEP 6).
    allowed_fast_set_size: u32 = 5, 0..=1_000;
    /// How many of the pieces that a peer suggested are remembered, the newest first (BEP 6).
    max_suggest_pieces: u32 = 16, 0..=10_000;
    /// Whether peers are told of a piece as soon as its last block is here, before its hash is known: 0 for no. Peers for which
    /// that can be taken back (BEP 54) are told, and it is taken back from them if the hash is wrong. With libtorrent the
    /// number is how many milliseconds before the last block.
    predictive_piece_announce: u32 = 0, 0..=60_000;
    /// Whether peers are told which pieces were read lately, so that those are asked for while they are at hand (BEP 6): 0 for
    /// no, 1 for yes (libtorrent's `suggest_read_cache`).
    suggest_mode: u32 = 0, 0..=1;
    /// Whether a peer to which we super-seed is offered its next piece only when the last one has turned up at another peer, and
    /// not when it has come (BEP 16).
    strict_super_seeding: bool = false;
    /// Whether a peer is told of pieces that it has itself, so that it knows how far we are.
    send_redundant_have: bool = true;

    /// How long a tracker may take for its answer, from the look-up of its name on, in seconds. A question by UDP is repeated
    /// after 15 seconds, then after 30 more, and so on (BEP 15).
    tracker_completion_timeout: Seconds = Seconds(30), 1..=3_600;
    /// How long nothing may come from a tracker that is asked by HTTP, in seconds.
    tracker_receive_timeout: Seconds = Seconds(10), 1..=3_600;
    /// How long the end of a session may take so that trackers hear of it, in seconds; 0 does not tell them.
    stop_tracker_timeout: Seconds = Seconds(5), 0..=3_600;
    /// How much later a tracker that failed is tried again, in percent of five seconds: so much times the number of its
    /// failures in a row, squared.
    tracker_backoff: u32 = 250, 1..=10_000;
    /// The longest answer of a tracker that is asked by HTTP, in bytes.
    tracker_maximum_response_length: u32 = 1_048_576, 1_024..=67_108_864;
    /// How often a tracker is asked at most, whatever it says, in seconds between two questions.
    min_announce_interval: Seconds = Seconds(300), 1..=86_400;
    /// How many peers a tracker is asked for.
    num_want: u32 = 200, 0..=2_000;
    /// Whether all trackers of a tier are told of a torrent, not just one that works. Private torrents tell one tracker.
    announce_to_all_trackers: bool = false;
    /// Whether all tiers of trackers are told of a torrent, not just the first with one that works. Private torrents tell one
    /// tracker.
    announce_to_all_tiers: bool = false;
    /// The most trackers that are asked by HTTP at a time, all torrents together.
    max_concurrent_http_announces: u32 = 50, 1..=100_000;
    /// Whether trackers at addresses that the IP filter keeps out are not asked either.
    apply_ip_filter_to_trackers: bool = true;
    /// How long a UDP tracker's connection id is used, in seconds (BEP 15).
    udp_tracker_token_expiry: Seconds = Seconds(60), 1..=3_600;
    /// Whether a tracker or a web seed that is asked by HTTPS must have a certificate that this system trusts.
    validate_https_trackers: bool = true;

    /// The kind of proxy: none, socks5, socks5_pw, http or http_pw, or libtorrent's number for it.
    proxy_type: ProxyType = ProxyType::None;
    /// The proxy's name or address.
    proxy_hostname: String = String::new(), 0..=255;
    /// The proxy's port.
    proxy_port: u32 = 0, 0..=65_535;
    /// The user's name, for a proxy with a password.
    proxy_username: String = String::new(), 0..=255;
    /// The user's password, for a proxy with a password.
    proxy_password: String = String::new(), 0..=255;
    /// Whether the proxy looks names up, so that they are not looked up here.
    proxy_hostnames: bool = true;
    /// Whether peers and web seeds are connected to through the proxy. Trackers are not told where we listen then.
    proxy_peer_connections: bool = true;
    /// Whether trackers are reached through the proxy. Those that speak UDP are not reached at all then.
    proxy_tracker_connections: bool = true;

    /// How many peers are unchoked at a time, optimistic ones included.
    unchoke_slots_limit: u32 = 8, 0..=1_000_000;
    /// How many of the unchoked are optimistic; 0 takes one in five.
    num_optimistic_unchoke_slots: u32 = 0, 0..=1_000_000;
    /// How often it is decided anew who is unchoked, in seconds.
    unchoke_interval: Seconds = Seconds(15), 1..=3_600;
    /// So much of a torrent, in pieces, is a turn for a peer that we seed to.
    seeding_piece_quota: u32 = 20, 1..=1_000_000;
    /// How often the optimistically unchoked rotate, in seconds.
    optimistic_unchoke_interval: Seconds = Seconds(30), 1..=3_600;

    /// How many threads read, write and hash; 0 takes one per core, but at most eight.
    aio_threads: u32 = 0, 0..=1_024;
    /// How much may wait to be written, of all torrents together, before who fills it requests no more, in bytes. At twice as
    /// much their peers are not read. libtorrent has 1 MiB, which a link of 10 Gbit/s fills in under a millisecond; what is
    /// much more than this does not stay in a processor's cache until it is written and hashed.
    max_queued_disk_bytes: u32 = 2 << 20, 65_536..=u32::MAX;
    /// How much may stand ready to be sent, in bytes, to one peer or to several that share it. libtorrent has 500 KiB for each;
    /// this is what a link of 10 Gbit/s sends while a busy disk answers. Only peers with such a rate reach it.
    send_buffer_watermark: u32 = 4 << 20, 16_384..=u32::MAX;
    /// How much may stand ready to be sent to a peer, however slow it is, in bytes.
    send_buffer_low_watermark: u32 = 10_240, 1..=u32::MAX;
    /// How much stands ready to be sent to a peer between those two bounds, in percent of what it takes in a second.
    send_buffer_watermark_factor: u32 = 50, 1..=1_000;

    /// Whether torrents are announced to everybody on the network that we are on, and peers found there (BEP 14). Private
    /// torrents never are.
    enable_lsd: bool = true;
    /// How often a torrent is announced there, in seconds.
    local_service_announce_interval: Seconds = Seconds(300), 30..=86_400;
    /// Whether routers are asked by UPnP to let our port through to us. Not where only this machine is listened on, nor behind a
    /// proxy for peers.
    enable_upnp: bool = true;
    /// Whether the default gateway is asked for that by PCP or NAT-PMP.
    enable_natpmp: bool = true;
    /// For how long routers are asked to do that by UPnP, in seconds; half of that later they are asked again.
    upnp_lease_duration: Seconds = Seconds(3_600), 60..=604_800;
    /// And by PCP or NAT-PMP.
    natpmp_lease_duration: Seconds = Seconds(3_600), 60..=604_800;
    /// Whether peers are looked for in the DHT, and found there (BEP 5). Of private torrents it never hears.
    enable_dht: bool = true;
    /// Where the DHT is entered: HOST:PORT, several separated by commas; empty relies on nodes that are known already, or
    /// named by peers. Names are looked up only if the session listens on more than this machine's own addresses.
    dht_bootstrap_nodes: HostPorts = HostPorts::of(&[("dht.libtorrent.org", 25_401)]);
    /// How often a torrent is announced in the DHT, in seconds.
    dht_announce_interval: Seconds = Seconds(900), 30..=86_400;
    /// Whether the DHT node only asks, answers nothing, and tells others so (BEP 43).
    dht_read_only: bool = false;
    /// Whether DHT nodes are ignored whose id does not belong to their address (BEP 42).
    dht_enforce_node_id: bool = false;
    /// Whether DHT nodes whose id belongs to their address replace others in the routing table (BEP 42).
    dht_prefer_verified_node_ids: bool = true;
    /// Whether the routing table of the DHT has one node for each IP address, and one for each network in a bucket.
    dht_restrict_routing_ips: bool = true;
    /// Whether a lookup in the DHT asks one node of each network.
    dht_restrict_search_ips: bool = true;
    /// How many nodes a lookup in the DHT asks at a time.
    dht_search_branching: u32 = 5, 1..=100;
    /// How often in a row a DHT node may fail to answer before it is forgotten.
    dht_max_fail_count: u32 = 20, 1..=255;
    /// The most torrents whose peers are kept for the DHT.
    dht_max_torrents: u32 = 2_000, 1..=1_000_000;
    /// The most peers of a torrent that are kept for the DHT.
    dht_max_peers: u32 = 500, 1..=100_000;
    /// The most items that are kept for the DHT (BEP 44).
    dht_max_dht_items: u32 = 700, 0..=1_000_000;
    /// The most torrents that are named to whoever asks the DHT node for some (BEP 51).
    dht_max_infohashes_sample_count: u32 = 20, 1..=20;
    /// How long those stay the same, in seconds.
    dht_sample_infohashes_interval: Seconds = Seconds(21_600), 0..=21_600;
    /// How much the DHT node answers, in bytes per second.
    dht_upload_rate_limit: u32 = 8_000, 1..=u32::MAX;
    /// How many questions per second the DHT node takes from one IP address, over ten seconds.
    dht_block_ratelimit: u32 = 5, 1..=1_000_000;
    /// How long an IP address that asks the DHT node more is not listened to, in seconds.
    dht_block_timeout: Seconds = Seconds(300), 1..=86_400;

    /// The most alerts that wait to be fetched; important ones may be up to four times as many.
    alert_queue_size: u32 = 2_000, 1..=10_000_000;
    /// The categories of alerts that the embedding program wants: the sum of libtorrent's bits, also in hexadecimal
    /// (0x41), or all.
    alert_mask: AlertCategory = AlertCategory::ERROR;

    /// The name and version of the program, as trackers and peers are told.
    user_agent: String = concat!("Pilotfish/", env!("CARGO_PKG_VERSION")).to_owned(), 0..=255;
    /// The version that peers are told in the extension handshake (BEP 10); empty tells them user_agent.
    handshake_client_version: String = String::new(), 0..=255;
    /// What our peer id starts with (BEP 20); the rest of its 20 bytes is random.
    peer_fingerprint: String = concat!(
        "-PF", env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH"), "0-"
    ).to_owned(), 0..=20;
    /// Whether peers are told nothing of who we are: no version, and a peer id that is all random.
    anonymous_mode: bool = false;
}

impl Settings {
    /// What the extension handshake says under `v` (BEP 10). `None` if it says nothing.
    pub fn client_version(&self) -> Option<&str> {
        let told = if self.handshake_client_version.is_empty() {
            &self.user_agent
        } else {
            &self.handshake_client_version
        };
        (!self.anonymous_mode && !told.is_empty()).then_some(told)
    }

    /// The bytes that our peer id starts with; at most 20 once the settings were [checked](Self::check).
    pub fn peer_id_prefix(&self) -> &[u8] {
        if self.anonymous_mode { &[] } else { self.peer_fingerprint.as_bytes() }
    }
}

/// The names that resemble `name`, best first, at most three.
fn nearest(name: &str) -> Vec<&'static str> {
    // Nobody mistypes a name at such a length, and the distance costs the product of both lengths.
    if name.is_empty() || name.len() > 64 {
        return Vec::new();
    }
    let mut close: Vec<(usize, &'static str)> = Settings::names()
        .iter()
        .map(|&known| (distance(name.as_bytes(), known.as_bytes()), known))
        .filter(|&(d, known)| d <= known.len() / 3 || (name.len() >= 4 && known.contains(name)))
        .collect();
    close.sort();
    close.into_iter().take(3).map(|(_, known)| known).collect()
}

/// How many bytes must be inserted, deleted or replaced to make `b` of `a` (Levenshtein).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn did_you_mean(nearest: &[&str]) -> String {
    match nearest {
        [] => String::new(),
        [only] => format!("; did you mean {only}?"),
        [first @ .., last] => format!("; did you mean {} or {last}?", first.join(", ")),
    }
}
