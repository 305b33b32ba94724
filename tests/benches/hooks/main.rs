//! What hooks cost: a call by itself, beside a virtual call of C++; a message that a session of plugins hears of; and a whole
//! download.
//!
//! `cargo bench -p pilotfish-tests --bench hooks -- [calls] [messages] [downloads]`, without names all three; with a C++ compiler
//! as `c++`, and valgrind.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark that cannot run says so by failing")]

mod download;

use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;

use pilotfish::hooks::{Chain, Peers};
use pilotfish::wire::Message;
use pilotfish_plugin::rt::{HookStatus, PeerObject};
use pilotfish_plugin::{
    Attach, PeerBox, PeerContext, PeerHandle, PeerHooks, PeerPlugin, PieceIndex, SessionBox, SessionContext,
    SessionPlugin, TorrentBox, TorrentContext, TorrentHandle, TorrentPlugin, Userdata, Verdict, hooks,
};
use pilotfish_tests::bare_host::{BareHost, PEER, PLUGIN};
use pilotfish_tests::bench::{Lone, Series, Variant, alternate, arguments, chosen, nanoseconds, row, title};
use pilotfish_tests::busy;
use pilotfish_tests::sim::Content;

const ROUNDS: usize = 21;
const CALLS: u32 = 2_000_000;
/// Messages in one read of a socket, and reads in a round.
const MESSAGES: u32 = 1_000;
const READS: u32 = 200;

fn main() {
    let arguments = arguments();
    if let Some((download::ROLE, rest)) = arguments.split_first().map(|(role, rest)| (&**role, rest)) {
        return download::leech(rest);
    }
    let parts: [(&str, fn()); 3] =
        [("calls", calls), ("messages", messages), ("downloads", download::downloads)];
    chosen(&parts, &arguments).into_iter().for_each(|part| part());
}

/// Calls of one hook through its chain, without an engine.
fn calls() {
    let program = compile();
    let mut variants: Vec<Variant<'_>> =
        vec![("a virtual call of C++".into(), Box::new(|| virtual_call(&program)))];
    variants.push(("a call with its panic guard".into(), Box::new(bare_call())));
    variants.push(("not overridden".into(), Box::new(chain_of(1, || PeerBox::new(Idle)))));
    for plugins in [1, 3, 10] {
        let name = format!("overridden by {plugins}");
        variants.push((name, Box::new(chain_of(plugins, busy::on_peer))));
    }
    let series = alternate(ROUNDS, variants);
    title("One hook through its chain, ns a call", &["median", "least", "to C++"]);
    print(&series, |series, of| format!("{:.2}x", series.least() / of[0].least()));
}

/// A round of calls of `on_have` without a chain: the table, the context, and the guard.
fn bare_call() -> impl FnMut() -> f64 {
    let mut host = BareHost::default();
    let mut plugin = PeerObject::new(busy::on_peer());
    move || {
        let mut piece = 0;
        host.with_peer_context(|cx| {
            nanoseconds(CALLS, || {
                piece += 1;
                assert!(black_box(&mut plugin).on_have(cx, PieceIndex(piece)) == Some(HookStatus::CONTINUE));
            })
        })
    }
}

/// A round of calls of `on_have` through a chain.
fn chain_of(plugins: usize, plugin: fn() -> PeerBox) -> impl FnMut() -> f64 {
    let mut host = BareHost::default();
    let mut chain: Chain<Peers> = Chain::default();
    (0..plugins).for_each(|_| chain.push(PLUGIN, PeerObject::new(plugin())));
    move || {
        let mut piece = 0;
        nanoseconds(CALLS, || {
            piece += 1;
            let have = PieceIndex(piece);
            let handled =
                black_box(&mut chain).first_handled(&mut host, PEER, PeerHooks::on_have, |plugin, cx| {
                    plugin.on_have(cx, have)
                });
            assert!(!handled);
        })
    }
}

/// A HAVE on its way through a whole engine.
fn messages() {
    let content = Content::random(1, 1 << 20, 16 << 10);
    let mut variants: Vec<Variant<'_>> = vec![("no plugin".into(), Box::new(haves(&content, Vec::new())))];
    for (name, plugins) in [
        ("a plugin, not overridden", vec![Sort::Idle]),
        ("overridden", vec![Sort::Busy]),
        ("overridden, and calls back once", vec![Sort::CallsBack]),
        ("a chain of three", vec![Sort::Busy; 3]),
        ("a chain of ten", vec![Sort::Busy; 10]),
    ] {
        variants.push((name.into(), Box::new(haves(&content, plugins))));
    }
    let series = alternate(ROUNDS, variants);
    title("One HAVE through the engine, ns a message", &["median", "least", "a plugin's"]);
    print(&series, |series, of| format!("{:+.2}", series.least() - of[0].least()));
}

#[derive(Clone, Copy)]
enum Sort {
    Idle,
    Busy,
    CallsBack,
}

/// A round of HAVE messages of one peer.
fn haves(content: &Content, plugins: Vec<Sort>) -> impl FnMut() -> f64 {
    let sources = plugins.into_iter().enumerate().map(|(number, sort)| {
        let make = match sort {
            Sort::Idle => || PeerBox::new(Idle),
            Sort::Busy => busy::on_peer,
            Sort::CallsBack => || PeerBox::new(CallsBack),
        };
        pilotfish::command::PluginSource::linked(format!("plugin-{number}"), move |_| {
            Ok(SessionBox::new(Factory(make)))
        })
    });
    let mut lone = Lone::new(sources);
    lone.add(&content.metainfo);
    let peer = lone.called_by(&content.metainfo, 1);
    let mut bytes = Vec::new();
    (0..MESSAGES).for_each(|number| Message::Have(number % 60).encode(&mut bytes));
    move || nanoseconds(READS, || lone.say(peer, &bytes)) / f64::from(MESSAGES)
}

fn print(all: &[Series], last: impl Fn(&Series, &[Series]) -> String) {
    for series in all {
        row(
            &series.name,
            &[format!("{:.2}", series.median()), format!("{:.2}", series.least()), last(series, all)],
        );
    }
}

/// Compiles the program that measures C++.
fn compile() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("virtual");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/hooks/virtual.cpp");
    let mut compiler = Command::new("c++");
    let compiler = compiler.args(["-std=c++17", "-O2", "-o"]).arg(&program).arg(source);
    let status = compiler.status().expect("this benchmark needs a C++ compiler, as `c++`");
    assert!(status.success(), "{compiler:?} failed");
    program
}

fn virtual_call(program: &PathBuf) -> f64 {
    let output = Command::new(program).arg(CALLS.to_string()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// Makes one peer plugin for each connection, and overrides nothing else.
struct Factory(fn() -> PeerBox);

#[hooks]
impl SessionPlugin for Factory {
    fn new_torrent(
        &mut self,
        _: &mut SessionContext<'_>,
        _: TorrentHandle,
        _: Userdata,
    ) -> Option<TorrentBox> {
        Some(TorrentBox::new(Self(self.0)))
    }
}

#[hooks]
impl TorrentPlugin for Factory {
    fn new_connection(&mut self, _: &mut TorrentContext<'_>, _: PeerHandle, _: Attach) -> Option<PeerBox> {
        Some((self.0)())
    }
}

/// Overrides a hook, but not the one that is measured.
struct Idle;

#[hooks]
impl PeerPlugin for Idle {
    fn on_suggest(&mut self, _: &mut PeerContext<'_>, _: PieceIndex) -> Verdict {
        Verdict::Continue
    }
}

/// Asks the engine one thing.
struct CallsBack;

#[hooks]
impl PeerPlugin for CallsBack {
    fn on_have(&mut self, cx: &mut PeerContext<'_>, _: PieceIndex) -> Verdict {
        black_box(cx.this().has_piece(PieceIndex(0)));
        Verdict::Continue
    }
}
