//! The DHT with the nodes of the crate `mainline` on this machine: peers (BEP 5) and items (BEP 44), both ways.
#![allow(deprecated, reason = "the blocking half of their interface is all that a test needs")]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use mainline::{Dht, Id, MutableItem as TheirItem, Testnet};
use pilotfish::alert::AlertKind;
use pilotfish::command::{MutableItem, SecretKey};
use pilotfish::dht::public_key;
use pilotfish::session::{Alerts, Session, SessionParams};
use pilotfish::settings::{HostPorts, Settings};
use pilotfish_plugin::AlertCategory;

const LIMIT: Duration = Duration::from_secs(60);

/// Ten nodes of theirs, and one of ours that has found them.
struct World {
    testnet: Testnet,
    session: Session,
    alerts: Alerts,
    /// Where ours is.
    address: SocketAddr,
}

impl World {
    fn new() -> Self {
        let testnet = Testnet::builder(10).bind_address(Ipv4Addr::LOCALHOST).build().unwrap();
        let mut settings = Settings {
            alert_mask: AlertCategory::ALL,
            alert_queue_size: 100_000,
            // All of them have one address.
            dht_restrict_routing_ips: false,
            dht_restrict_search_ips: false,
            dht_block_ratelimit: 1_000,
            dht_bootstrap_nodes: HostPorts::default(),
            ..Settings::default()
        };
        settings.set("listen_interfaces", "127.0.0.1:0").unwrap();
        let (session, alerts) =
            Session::start(SessionParams { settings, ..SessionParams::default() }).unwrap();
        let mut world =
            Self { testnet, session, alerts, address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into() };
        world.address = world.hear("where it listens", |alert| match alert {
            AlertKind::ListenSucceeded { address } => Some(*address),
            _ => None,
        });
        for node in world.testnet.bootstrap.clone() {
            let (host, port) = HostPorts::parse_one(&node).unwrap();
            world.session.add_dht_node(&host, port);
        }
        world.hear("that it knows them", |alert| {
            matches!(alert, AlertKind::DhtBootstrap { .. }).then_some(())
        });
        world
    }

    /// What the first alert from now on says that `wanted` makes something of.
    fn hear<T>(&self, what: &str, wanted: impl Fn(&AlertKind) -> Option<T>) -> T {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            let alert = self.alerts.recv_timeout(Duration::from_secs(1));
            if let Some(found) = alert.and_then(|alert| wanted(&alert.kind)) {
                return found;
            }
        }
        panic!("it never said {what}");
    }

    fn theirs(&self) -> &Dht {
        &self.testnet.nodes[3]
    }
}

#[test]
fn peers_that_one_side_announces_are_found_by_the_other() {
    let world = World::new();
    let (ours, theirs) = ([0x11; 20], [0x22; 20]);
    world.session.dht_announce(ours, 7_001);
    let us = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7_001);
    let end = Instant::now() + LIMIT;
    let finds = || world.theirs().get_peers(Id::from(ours)).any(|peers| peers.contains(&us));
    while !finds() {
        assert!(Instant::now() < end, "they do not find us");
    }
    world.theirs().announce_peer(Id::from(theirs), Some(7_002)).unwrap();
    world.session.dht_get_peers(theirs);
    let them = SocketAddr::from((Ipv4Addr::LOCALHOST, 7_002));
    world.hear("that it found them", |alert| match alert {
        AlertKind::DhtGetPeersReply { info_hash, peers } if *info_hash == theirs => {
            peers.contains(&them).then_some(())
        }
        _ => None,
    });
}

#[test]
fn immutable_items_that_one_side_stores_are_found_by_the_other() {
    let world = World::new();
    // They store strings, and know them without their frame.
    let target = world.session.dht_put_item(b"5:hello".to_vec()).unwrap();
    let nodes = world.hear("that it is stored", |alert| match alert {
        AlertKind::DhtPut { num_success, .. } => Some(*num_success),
        _ => None,
    });
    assert!(nodes >= 6, "stored at {nodes}");
    assert_eq!(world.theirs().get_immutable(Id::from(target)).as_deref(), Some(&b"hello"[..]));
    let target = *world.theirs().put_immutable(b"good day").unwrap().as_bytes();
    world.session.dht_get_item(target);
    let found = world.hear("what it found", |alert| match alert {
        AlertKind::DhtImmutableItem { item, .. } => Some(item.clone()),
        _ => None,
    });
    assert_eq!(found, b"8:good day");
}

#[test]
fn mutable_items_go_back_and_forth_with_rising_numbers() {
    let world = World::new();
    let (secret, salt) = (SecretKey([5; 32]), b"salt");
    let item = MutableItem { secret: secret.clone(), salt: salt.to_vec(), value: b"3:one".to_vec() };
    world.session.dht_put_mutable_item(item.clone()).unwrap();
    let put = |alert: &AlertKind| {
        matches!(alert, AlertKind::DhtPut { num_success, .. } if *num_success > 0).then_some(())
    };
    world.hear("that it is stored", put);
    let key = public_key(&secret);
    let theirs = world.theirs().get_mutable_most_recent(&key, Some(salt)).unwrap();
    assert_eq!((theirs.value(), theirs.seq()), (&b"one"[..], 1));
    let signer = SigningKey::from_bytes(&secret.0);
    world.theirs().put_mutable(TheirItem::new(signer, b"two", 2, Some(salt)), None).unwrap();
    world.session.dht_get_mutable_item(key, salt);
    let newest = |alert: &AlertKind| match alert {
        AlertKind::DhtMutableItem { item, seq, authoritative: true, .. } => Some((item.clone(), *seq)),
        _ => None,
    };
    assert_eq!(world.hear("the newest", newest), (b"3:two".to_vec(), 2));
    world.session.dht_put_mutable_item(MutableItem { value: b"5:three".to_vec(), ..item }).unwrap();
    world.hear("that it is stored", put);
    let theirs = world.theirs().get_mutable_most_recent(&key, Some(salt)).unwrap();
    assert_eq!((theirs.value(), theirs.seq()), (&b"three"[..], 3));
}

#[test]
fn they_come_in_through_us() {
    let world = World::new();
    let late = Dht::builder().bootstrap(&[world.address]).bind_address(Ipv4Addr::LOCALHOST).build().unwrap();
    assert!(late.bootstrapped());
    let target = world.theirs().put_immutable(b"hello").unwrap();
    assert_eq!(late.get_immutable(target).as_deref(), Some(&b"hello"[..]));
}
