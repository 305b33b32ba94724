//! Transmission at the other end: on loopback, where both are told of each other, and on networks where they must find each other.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::data::{Data, MIB};
use crate::local_discovery;
use crate::network::{Host, network};
use crate::opentracker::Opentracker;
use crate::peers::{LISTEN, address, download, downloading, name_by_links, pilotfish, seeding, set, start};
use crate::process::{Line, Process};

/// Its setting `encryption`.
const IN_CLEAR: &str = "encryption=0";
const REQUIRED: &str = "encryption=2";

/// Transmission, on torrents whose data is, or is to be, in `folder`.
fn transmission(data: &Data, folder: &Path, ip: &str) -> Command {
    let program = Path::new("/usr/bin/transmission-daemon");
    assert!(program.is_file(), "Transmission is missing (Debian: apt-get install transmission-daemon)");
    let mut command = Command::new("/usr/bin/python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/interop/transmission.py")).args(&data.torrents);
    command.arg("--dir").arg(folder).arg("--config").arg(data.path("transmission")).args(["--listen", ip]);
    command
}

/// A folder. Transmission does not make files that are empty.
fn data() -> Data {
    let mut data = Data::new();
    data.add("folder", &[("a/b.bin", 4 * MIB + 3), ("a/ü", 70_000), ("c", 1)]);
    data
}

/// Waits until each torrent has come to this.
#[track_caller]
fn wait_for_all(process: &mut Process, data: &Data, event: &str) {
    data.torrents.iter().for_each(|_| drop(process.wait_for(event, |line| line.event(event))));
}

/// Whether Transmission says this in its log.
fn logged(line: &Line, text: &str) -> Option<()> {
    let log = line.event("log")?;
    log["text"].as_str()?.contains(text).then_some(())
}

/// What Transmission says of its peers.
fn peers(line: &Line) -> Option<Vec<Value>> {
    line.event("peers")?["peers"].as_array().filter(|peers| !peers.is_empty()).cloned()
}

/// Waits until Transmission has found a peer in this way, and in no other.
#[track_caller]
fn wait_for_source(transmission: &mut Process, source: &str) {
    let found = transmission.wait_for(source, |line| {
        let sources = line.event("sources")?;
        let sources = sources.as_object()?.iter().filter(|(_, number)| number.as_u64() > Some(0));
        let names: Vec<String> = sources.map(|(name, _)| name.clone()).collect();
        (!names.is_empty()).then_some(names)
    });
    assert_eq!(found, [source]);
}

/// Transmission has the data.
#[track_caller]
fn downloads(ours: &[&str], theirs: &str) {
    let data = data();
    let mut command = transmission(&data, &data.complete(), "127.0.0.1");
    let mut transmission = start(set(&mut command, &[theirs]), 0);
    let address = address(&mut transmission);
    wait_for_all(&mut transmission, &data, "checked");
    start(set(&mut download(&data, &[&address]), ours), 0).wait_for_code(0);
    data.assert_arrived();
}

/// Pilotfish has the data, and calls; what Transmission says of the connection.
#[track_caller]
fn uploads(ours: &[&str], theirs: &str) -> Value {
    let data = data();
    let mut command = transmission(&data, &data.arrived(), "127.0.0.1");
    let mut transmission = start(set(&mut command, &[theirs]), 0);
    let address = address(&mut transmission);
    wait_for_all(&mut transmission, &data, "checked");
    let _pilotfish = start(set(seeding(&data, LISTEN).args(["--peer", &address]), ours), 0);
    wait_for_all(&mut transmission, &data, "finished");
    data.assert_arrived();
    let said = transmission.printed.iter().find_map(peers).expect("it had no peers");
    said[0].clone()
}

#[test]
fn a_folder_comes_from_transmission() {
    downloads(&[], IN_CLEAR);
}

#[test]
fn transmission_gets_a_folder() {
    assert_eq!(uploads(&[], IN_CLEAR)["encrypted"], false);
}

#[test]
fn a_folder_comes_from_transmission_that_requires_encryption() {
    // By default we call in clear first.
    downloads(&[], REQUIRED);
    downloads(&["out_enc_policy=forced", "allowed_enc_level=rc4"], REQUIRED);
}

#[test]
fn transmission_that_requires_encryption_gets_a_folder() {
    assert_eq!(uploads(&[], REQUIRED)["encrypted"], true);
}

/// A tracker on one of two hosts, of which data is told.
fn tracked(way: &str) -> (Data, [Host; 2], Opentracker) {
    let (mut data, hosts) = (Data::new(), network());
    let address = SocketAddr::from((hosts[0].ip, 6969));
    data.trackers.push(format!("{way}://{address}/announce"));
    data.add("payload.bin", &[("", 3 * MIB + 77)]);
    let tracker = Opentracker::start(&data, address, |command| hosts[0].runs(&command));
    (data, hosts, tracker)
}

#[test]
fn transmission_is_found_through_opentracker() {
    let (mut data, [here, there], _tracker) = tracked("http");
    let mut command = transmission(&data, &data.complete(), &there.ip.to_string());
    let mut transmission = start(&mut there.runs(set(&mut command, &[IN_CLEAR])), 0);
    transmission.wait_for("the tracker's answer", |line| line.event("announced"));
    name_by_links(&mut data);
    start(&mut here.runs(&downloading(&data, &here.listen())), 0).wait_for_code(0);
    data.assert_arrived();
}

#[test]
fn transmission_that_requires_encryption_finds_us_through_opentracker() {
    let (mut data, [here, there], _tracker) = tracked("udp");
    // It calls us.
    let command = here.runs(set(&mut seeding(&data, &here.listen()), &["connection_speed=0"]));
    let mut pilotfish = start(&mut { command }, 0);
    wait_for_all(&mut pilotfish, &data, "finished");
    pilotfish.find("the tracker's answer", |line| line.alert("tracker_reply"));
    name_by_links(&mut data);
    let mut command = transmission(&data, &data.arrived(), &there.ip.to_string());
    let mut transmission = start(&mut there.runs(set(&mut command, &[REQUIRED])), 0);
    wait_for_source(&mut transmission, "fromTracker");
    let peers = transmission.wait_for("a peer", peers);
    assert_eq!((&peers[0]["encrypted"], &peers[0]["incoming"]), (&true.into(), &false.into()));
    wait_for_all(&mut transmission, &data, "finished");
    data.assert_arrived();
}

#[test]
fn transmission_hears_us_on_the_network() {
    let ([here, there], mut data) = (network(), local_discovery::data(3));
    let mut command = transmission(&data, &data.complete(), &there.ip.to_string());
    let mut transmission = start(&mut there.runs(set(&mut command, &["lpd-enabled=true"])), 0);
    // It has told of all its torrents, and tells no more within a test.
    for _ in &data.torrents {
        transmission.wait_for("an announcement", |line| logged(line, "LPD announce message away"));
    }
    local_discovery::downloads(&mut data, &here, &here.listen());
}

#[test]
fn we_hear_transmission_on_the_network() {
    let ([here, there], mut data) = (network(), local_discovery::data(1));
    let mut pilotfish = local_discovery::first_seed(&data, &here, &here.listen());
    name_by_links(&mut data);
    let mut command = transmission(&data, &data.arrived(), &there.ip.to_string());
    let mut transmission = start(&mut there.runs(set(&mut command, &["lpd-enabled=true"])), 0);
    pilotfish.wait_for("Transmission", |line| line.alert("lsd_peer"));
    wait_for_all(&mut transmission, &data, "finished");
    data.assert_arrived();
}

/// Nodes of the DHT on one host. Transmission looks for nobody while it knows fewer than nine.
fn nodes(host: &Host) -> (Vec<Process>, Vec<String>) {
    let (mut nodes, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let mut command = pilotfish("run");
        command.args(["--listen", &host.listen()]);
        in_dht(&mut command, &addresses);
        let mut node = start(&mut host.runs(&command), 0);
        addresses.push(address(&mut node));
        nodes.push(node);
    }
    (nodes, addresses)
}

/// Tells a program of nodes of the DHT.
fn add_ways_in(command: &mut Command, nodes: &[String]) {
    nodes.iter().for_each(|node| {
        command.args(["--dht-node", node]);
    });
}

/// Has Pilotfish take part in the DHT, where several nodes have one address.
fn in_dht<'a>(command: &'a mut Command, ways_in: &[String]) -> &'a mut Command {
    add_ways_in(command, ways_in);
    set(
        command,
        &["dht_restrict_routing_ips=0", "dht_restrict_search_ips=0", "dht_bootstrap_nodes=", "enable_lsd=0"],
    )
}

#[test]
fn transmission_and_we_find_each_other_through_the_dht() {
    let ([here, there, third], [mut ours, mut theirs]) = (network(), [Data::new(), Data::new()]);
    ours.add("ours", &[("", 2 * MIB + 1)]);
    theirs.add("theirs", &[("", 2 * MIB + 2)]);
    let (_nodes, addresses) = nodes(&third);
    let mut seed = seeding(&ours, &here.listen());
    let mut pilotfish = start(&mut here.runs(in_dht(&mut seed, &addresses[..1])), 0);
    wait_for_all(&mut pilotfish, &ours, "finished");

    // Transmission has one of both torrents in its folder, and a link to the other.
    let folder = ours.arrived();
    fs::copy(theirs.complete().join("theirs"), folder.join("theirs")).unwrap();
    name_by_links(&mut ours);
    theirs.torrents.extend(ours.torrents.clone());
    let mut command = transmission(&theirs, &folder, &there.ip.to_string());
    theirs.torrents.truncate(1);
    add_ways_in(&mut command, &addresses);
    let mut transmission = start(&mut there.runs(&command), 0);
    // It takes half a minute or more to enter the DHT.
    transmission.set_limit(Duration::from_secs(200));

    transmission.find("what it lacks", |line| line.event("finished").filter(|event| event["name"] == "ours"));
    assert!(fs::read(folder.join("ours")).unwrap() == fs::read(ours.complete().join("ours")).unwrap());

    // Who looks for peers before they are there looks again only after a while.
    transmission.find("its announcement", |line| logged(line, "theirs IPv4 DHT announce done"));
    name_by_links(&mut theirs);
    let mut leech = downloading(&theirs, &here.listen());
    start(&mut here.runs(in_dht(&mut leech, &addresses[..1])), 0).wait_for_code(0);
    theirs.assert_arrived();
}

/// Nobody is found but through peers.
const ALONE: [&str; 2] = ["enable_lsd=0", "enable_dht=0"];

/// So little is received that nothing is complete as long as a test takes.
const TRICKLE: &str = "download_rate_limit=2000";
const THEIR_TRICKLE: [&str; 2] = ["speed-limit-down-enabled=true", "speed-limit-down=2"];

#[test]
fn transmission_that_lacks_nearly_everything_tells_us_of_a_seed() {
    let ([here, there, third], mut data) = (network(), Data::single(4 * MIB));
    let mut command = transmission(&data, &data.path("poor"), &there.ip.to_string());
    set(set(&mut command, &["pex-enabled=true"]), &THEIR_TRICKLE);
    let mut transmission = start(&mut there.runs(&command), 0);
    let middle = address(&mut transmission);
    wait_for_all(&mut transmission, &data, "checked");
    let mut seed = seeding(&data, &third.listen());
    let _seed = start(&mut third.runs(set(seed.args(["--peer", &middle]), &ALONE)), 0);
    transmission.wait_for("its seed", peers);
    name_by_links(&mut data);
    let mut leech = downloading(&data, &here.listen());
    let mut leech = start(&mut here.runs(set(leech.args(["--peer", &middle]), &ALONE)), 0);
    // It tells what it knows every ninety seconds.
    leech.set_limit(Duration::from_secs(200));
    leech.wait_for_code(0);
    data.assert_arrived();
    assert!(!transmission.kill().iter().any(|line| line.event("finished").is_some()));
}

#[test]
fn transmission_finds_a_seed_of_which_only_we_have_told_it() {
    let ([here, there, third], data) = (network(), Data::single(4 * MIB));
    let mut seed = start(&mut third.runs(set(&mut seeding(&data, &third.listen()), &ALONE)), 0);
    let from = address(&mut seed);
    wait_for_all(&mut seed, &data, "finished");
    let mut command = transmission(&data, &data.arrived(), &there.ip.to_string());
    let mut transmission = start(&mut there.runs(set(&mut command, &["pex-enabled=true"])), 0);
    let to = address(&mut transmission);
    wait_for_all(&mut transmission, &data, "checked");
    let mut middle = pilotfish("download");
    middle.args(&data.torrents).arg("--output").arg(data.path("middle")).args(["--listen", &here.listen()]);
    middle.args(["--peer", &from, "--peer", &to]);
    let _middle = start(&mut here.runs(set(set(&mut middle, &ALONE), &[TRICKLE])), 0);
    transmission
        .wait_for("the seed", |line| peers(line)?.iter().find(|peer| peer["address"] == *from).cloned());
    wait_for_all(&mut transmission, &data, "finished");
    data.assert_arrived();
}
