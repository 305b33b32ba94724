//! What the servers of web seeds answer: right, damaged, late, or made up. A torrent has to become complete all the same, if
//! one of them is honest.

use std::time::Duration;

use pilotfish::command::{AddTorrent, Answer, Command};
use pilotfish_tests::sim::{Content, Files, Sim, WebReply, WebRequest};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use crate::Told;

/// Bad servers, at most; the honest one is another.
const BAD: u8 = 3;
/// So long may it take beside the honest server, in virtual time: an hour, most of it spent waiting for bad ones.
const LIMIT: Duration = Duration::from_secs(3_600);

/// One run.
pub(crate) fn run(seed: u64) -> Told {
    let mut rng = StdRng::seed_from_u64(seed);
    let content = content(&mut rng);
    let mut sim = Sim::new(seed);
    sim.link.chunk = 1..=[100, 3_000, 40_000][rng.random_range(0..3)];
    let bad = rng.random_range(1..=BAD);
    let mut urls: Vec<String> =
        (1..=bad).map(|number| bad_server(&mut sim, &mut rng, &content, number)).collect();
    let files = Files::of(&content, "/good/");
    let patience = Duration::from_millis(rng.random_range(0..3_000));
    let plain = rng.random_bool(0.3);
    let good = sim.serve(BAD + 1, move |request| {
        let reply = if plain { files.answer_whole(request) } else { files.answer(request) };
        reply.after(patience)
    });
    urls.push(format!("http://{good}/good/"));
    let node = sim.node();
    let torrent = AddTorrent { web_seeds: urls, ..AddTorrent::new(content.metainfo.clone()) };
    let Answer::Added(Ok(torrent)) = sim.ask(node, |ticket| Command::AddTorrent(ticket, Box::new(torrent)))
    else {
        panic!("not added")
    };
    // All of them at once, so that the honest one is not kept waiting.
    sim.ask(node, |ticket| Command::Set(ticket, "max_web_seed_connections".into(), "300".into()));
    sim.run_until_finished(LIMIT, &[(node, torrent)]);
    sim.assert_complete(node, &content);
    sim.command(node, Command::Shutdown);
    sim.run_until(LIMIT, |sim| sim.at(node).stopped);
    assert_eq!(sim.at(node).engine.blocks_in_use(), 0, "blocks are left in memory");
    Told { steps: sim.requests_to(good).len() as u64, hooks: 0 }
}

fn content(rng: &mut StdRng) -> Content {
    let piece = [16_384, 32_768, 65_536][rng.random_range(0..3)];
    if rng.random() {
        return Content::file(rng.random_range(0..4), rng.random_range(1..400_000), piece);
    }
    let files = rng.random_range(1..8);
    let mut lengths: Vec<usize> = (0..files).map(|_| rng.random_range(0..80_000)).collect();
    lengths.push(1);
    Content::folder(rng.random_range(0..4), &lengths, piece)
}

/// A server that does something else with each request; its URL.
fn bad_server(sim: &mut Sim, rng: &mut StdRng, content: &Content, number: u8) -> String {
    let files = Files::of(content, "/");
    let spoilt = rng.random_bool(0.3).then(|| rng.random::<u64>());
    let files = match spoilt {
        Some(at) => files.spoil_somewhere(at),
        None => files,
    };
    let (mut rng, mischief) = (StdRng::from_rng(rng), rng.random_range(0.0..1.0));
    let server = sim.serve(number, move |request| {
        if rng.random_bool(mischief) { bad_reply(&mut rng, &files, request) } else { files.answer(request) }
    });
    format!("http://{server}/")
}

fn bad_reply(rng: &mut StdRng, files: &Files, request: &WebRequest) -> WebReply {
    let right = files.answer(request);
    match rng.random_range(0..10) {
        0 => right.cut(0).after(Duration::from_secs(rng.random_range(0..60))),
        1 => files.answer_whole(request),
        2 => {
            let cut = rng.random_range(0..=right.bytes.len());
            right.cut(cut)
        }
        3 => WebReply { bytes: random_bytes(rng, 3_000), ..WebReply::default() },
        4 => WebReply::refusal(
            ["404 x", "503 Busy", "500 Oh", "416 Range", "99", "302 x"][rng.random_range(0..6)],
        ),
        5 => WebReply::new("503 Busy", &format!("Retry-After: {}\r\n", rng.random_range(0..100)), b""),
        6 => {
            let host = rng.random_range(1..=5);
            let path = ["", "/", "/x", "x/../y", "?a=b", "//", "/good/"][rng.random_range(0..7)];
            WebReply::moved(&match rng.random_range(0..3) {
                0 => path.to_owned(),
                _ => format!("http://10.1.0.{host}{path}"),
            })
        }
        7 => chunked(rng, files, request),
        8 => {
            let mut late = right;
            late.bytes = [b"HTTP/1.1 100 Continue\r\n\r\n".as_slice(), &late.bytes].concat();
            late
        }
        _ => damaged(rng, right),
    }
}

/// The right bytes in chunks, which may end too soon.
fn chunked(rng: &mut StdRng, files: &Files, request: &WebRequest) -> WebReply {
    let right = files.answer(request).bytes;
    let Some(end) = right.windows(4).position(|window| window == b"\r\n\r\n") else {
        return WebReply::default();
    };
    let head = String::from_utf8_lossy(&right[..end]).into_owned();
    let head: Vec<&str> = head.lines().filter(|line| !line.starts_with("Content-Length")).collect();
    let mut bytes = format!("{}\r\nTransfer-Encoding: chunked\r\n\r\n", head.join("\r\n")).into_bytes();
    for chunk in right[end + 4..].chunks(rng.random_range(1..20_000)) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n\r\n");
    let reply = WebReply { bytes, ..WebReply::default() };
    if rng.random_bool(0.3) { damaged(rng, reply) } else { reply }
}

/// Some bytes of the head, or near it, are others.
fn damaged(rng: &mut StdRng, mut reply: WebReply) -> WebReply {
    let near = reply.bytes.len().clamp(1, 200);
    for _ in 0..rng.random_range(1..4) {
        if let Some(byte) = reply.bytes.get_mut(rng.random_range(0..near)) {
            *byte = rng.random();
        }
    }
    reply.close = rng.random();
    reply
}

fn random_bytes(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..most)];
    rng.fill_bytes(&mut bytes);
    bytes
}
