//! Sessions that speak uTP with each other.

use std::net::UdpSocket;

use super::*;

/// Settings of a session that speaks uTP alone.
fn by_utp_alone() -> Settings {
    let mut settings = on_loopback();
    for name in ["enable_outgoing_tcp", "enable_incoming_tcp"] {
        settings.set(name, "false").unwrap();
    }
    settings
}

fn listening(alerts: &Alerts) -> SocketAddr {
    await_alert(alerts, |alert| match alert {
        AlertKind::ListenSucceeded { address } => Some(*address),
        _ => None,
    })
}

#[test]
fn a_torrent_goes_from_one_session_to_another_by_utp() {
    let (seed, seed_alerts) = start_with(by_utp_alone());
    let (leech, leech_alerts) = start_with(by_utp_alone());
    let address = listening(&seed_alerts);
    transfer(&noise(10_000_001), (&seed, &seed_alerts, address), (&leech, &leech_alerts));
    let connected = await_alert(&seed_alerts, |alert| match alert {
        AlertKind::PeerConnect { socket_type, .. } => Some(socket_type.clone()),
        _ => None,
    });
    assert_eq!(connected, "uTP");
    // The other one hears of it at once, and has not waited for something in vain.
    leech.shutdown();
    let begun = Instant::now();
    await_alert(&seed_alerts, |alert| matches!(alert, AlertKind::PeerDisconnected { .. }).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    seed.shutdown();
}

#[test]
fn rate_limits_hold_for_utp_as_well() {
    let (seed, seed_alerts) = start_with(by_utp_alone());
    let mut slow = by_utp_alone();
    slow.set("download_rate_limit", "200000").unwrap();
    let (leech, leech_alerts) = start_with(slow);
    let address = listening(&seed_alerts);
    let begun = Instant::now();
    transfer(&noise(600_000), (&seed, &seed_alerts, address), (&leech, &leech_alerts));
    // The first second's worth may come at once.
    assert!(begun.elapsed() > Duration::from_millis(1_500), "{:?}", begun.elapsed());
}

#[test]
fn a_session_whose_udp_port_is_taken_says_so_and_goes_on_by_tcp() {
    // Nobody else has this address, so that its TCP port of the same number is free.
    let taken = UdpSocket::bind("127.0.56.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut settings = on_loopback();
    settings.set("listen_interfaces", &address.to_string()).unwrap();
    let (seed, seed_alerts) = start_with(settings.clone());
    assert_eq!(listening(&seed_alerts), address);
    let failed = await_alert(&seed_alerts, |alert| match alert {
        AlertKind::ListenFailed { address, .. } => Some(address.clone()),
        _ => None,
    });
    assert_eq!(failed, format!("{address} (UDP)"));
    let (leech, leech_alerts, _) = start();
    transfer(&noise(300_000), (&seed, &seed_alerts, address), (&leech, &leech_alerts));
}
