//! Graceful pauses: what was asked for may still come.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pilotfish::alert::AlertKind;
use pilotfish::command::Command;
use pilotfish::engine::Input;
use pilotfish::wire::{Message, RawRequest};
use pilotfish_plugin::{PeerHandle, TorrentContext};
use pilotfish_tests::sim::{Content, Probe};

use crate::stranger::{FAST, Strangers};

/// Two pieces of one block each.
fn content() -> Content {
    Content::random(160, 30_000, 16_384)
}

fn pause_gracefully(strangers: &mut Strangers) -> Vec<String> {
    strangers.heard();
    strangers.alone.alerts.clear();
    strangers.alone.handle(Input::Command(Command::PauseTorrentGracefully(strangers.torrent)));
    strangers.heard()
}

/// A leech that has asked one peer for both blocks, and another, who has nothing, for none.
fn asked(probe: Probe) -> (Strangers, [PeerHandle; 2], Vec<RawRequest>) {
    let mut strangers = Strangers::of_leech(content(), probe);
    let (giver, idle) = (strangers.meet(1, FAST), strangers.meet(2, FAST));
    strangers.tell(idle, &[Message::HaveNone]);
    strangers.tell(giver, &[Message::HaveAll, Message::Unchoke]);
    let asked = strangers.alone.requests(giver);
    assert_eq!(asked.len(), 2);
    (strangers, [giver, idle], asked)
}

fn is_paused(strangers: &Strangers) -> bool {
    strangers.alone.alerts.iter().any(|alert| matches!(alert, AlertKind::TorrentPaused { .. }))
}

fn asks(heard: &[String]) -> usize {
    heard.iter().filter(|line| line.contains("torrent.on_pause")).count()
}

#[test]
fn a_graceful_pause_is_asked_about_when_it_begins_and_again_when_the_last_block_has_come() {
    let (mut strangers, [giver, idle], asked) = asked(Probe::new());
    let heard = pause_gracefully(&mut strangers);
    assert_eq!(asks(&heard), 1, "{heard:?}");
    assert_eq!(strangers.alone.closed, [idle]);
    let heard = strangers.send_block(giver, asked[0]);
    assert_eq!((asks(&heard), strangers.is_closed(giver), is_paused(&strangers)), (0, false, false));
    let heard = strangers.send_block(giver, asked[1]);
    assert_eq!((asks(&heard), strangers.is_closed(giver), is_paused(&strangers)), (1, true, true));
    // Both were written.
    strangers.hashed(0, true);
    strangers.hashed(1, true);
}

#[test]
fn a_block_that_is_refused_is_waited_for_no_longer() {
    let (mut strangers, [giver, _], asked) = asked(Probe::new());
    pause_gracefully(&mut strangers);
    strangers.tell(giver, &asked.iter().copied().map(Message::Reject).collect::<Vec<_>>());
    assert!(strangers.is_closed(giver) && is_paused(&strangers));
    // Nobody is asked anew.
    assert_eq!(strangers.alone.requests(giver).len(), 2);
}

#[test]
fn a_graceful_pause_can_be_made_a_pause_at_once_which_is_asked_about_too() {
    let (mut strangers, [giver, _], _) = asked(Probe::new());
    assert_eq!(asks(&pause_gracefully(&mut strangers)), 1);
    strangers.alone.handle(Input::Command(Command::PauseTorrent(strangers.torrent)));
    assert_eq!(asks(&strangers.heard()), 1);
    assert!(strangers.is_closed(giver) && is_paused(&strangers));
}

#[test]
fn a_resume_in_the_midst_of_a_graceful_pause_goes_on_with_the_connections_that_are_left() {
    let (mut strangers, [giver, _], asked) = asked(Probe::new());
    pause_gracefully(&mut strangers);
    strangers.tell(giver, &[Message::Reject(asked[0])]);
    strangers.alone.handle(Input::Command(Command::ResumeTorrent(strangers.torrent)));
    assert!(!strangers.is_closed(giver) && !is_paused(&strangers));
    assert_eq!(strangers.alone.requests(giver).len(), 3, "the refused block is asked for again");
    strangers.send_block(giver, asked[1]);
    assert!(!strangers.is_closed(giver));
}

#[test]
fn a_peer_that_is_paused_gracefully_is_served_nothing_more() {
    let (mut strangers, [giver, _], asked) = asked(Probe::new());
    strangers.send_block(giver, asked[0]);
    strangers.hashed(asked[0].piece, true);
    strangers.tell(giver, &[Message::Interested]);
    strangers.alone.run_for(Duration::from_secs(20));
    pause_gracefully(&mut strangers);
    strangers.tell(giver, &[Message::Request(asked[0])]);
    let rejected = strangers.alone.told(giver).iter().any(|message| *message == Message::Reject(asked[0]));
    assert!(rejected && !strangers.is_closed(giver));
}

#[test]
fn a_graceful_pause_of_a_torrent_without_connections_is_a_pause() {
    let mut strangers = Strangers::of_leech(content(), Probe::new());
    assert_eq!(asks(&pause_gracefully(&mut strangers)), 2);
    assert!(is_paused(&strangers));
}

#[test]
fn a_plugin_that_handles_the_second_question_keeps_the_torrent_from_being_paused_aloud() {
    let asked = AtomicUsize::new(0);
    let second = move |_: &mut TorrentContext<'_>| asked.fetch_add(1, Ordering::Relaxed) == 1;
    let probe = Probe::new().torrent("on_pause", second);
    let mut strangers = Strangers::of_leech(content(), probe);
    assert_eq!(asks(&pause_gracefully(&mut strangers)), 2);
    assert!(!is_paused(&strangers));
}
