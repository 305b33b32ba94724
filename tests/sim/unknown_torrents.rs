//! A peer asks for a torrent that the session does not have.

use pilotfish::alert::AlertKind;
use pilotfish::engine::Input;
use pilotfish::job::DiskDone;
use pilotfish::wire::Message;
use pilotfish_plugin::{
    AddTorrentParams, Features, InfoHashes, PeerHandle, SessionBox, SessionContext, SessionPlugin, Verdict,
    hooks,
};
use pilotfish_tests::sim::{Content, Log, Probe, talkative};

use crate::alone::{Alone, opened};

/// What a plugin does about an unknown torrent.
#[derive(Clone, Copy)]
enum Does {
    Nothing,
    /// Fills in something, and says that it has not handled it.
    Scribbles,
    Adds {
        paused: bool,
    },
    /// Knows its magnet link alone.
    Links,
    /// Says that it has it, and names no torrent.
    Fails,
}

struct Host {
    name: &'static str,
    does: Does,
    wants: Features,
    log: Log,
}

#[hooks]
impl SessionPlugin for Host {
    fn implemented_features(&mut self, _: &mut SessionContext<'_>, _: Features) -> Features {
        self.wants
    }

    fn on_unknown_torrent(
        &mut self,
        _: &mut SessionContext<'_>,
        hashes: InfoHashes,
        _: PeerHandle,
        mut params: AddTorrentParams<'_>,
    ) -> Verdict {
        assert_eq!(hashes.v1().as_ref(), content().metainfo.info_hashes().v1());
        self.log.lock().unwrap().push(self.name.to_owned());
        let file = [b"d4:info".as_slice(), content().metainfo.info_bytes(), b"e"].concat();
        match self.does {
            Does::Nothing => Verdict::Continue,
            Does::Scribbles => {
                params.torrent(&file).paused(true);
                Verdict::Continue
            }
            Does::Adds { paused } => {
                params.torrent(&file).paused(paused);
                Verdict::Handled
            }
            Does::Links => {
                let hex: String =
                    content().metainfo.info_hashes().truncated().iter().map(|b| format!("{b:02x}")).collect();
                params.entry().insert_bytes("magnet", format!("magnet:?xt=urn:btih:{hex}").as_bytes());
                Verdict::Handled
            }
            Does::Fails => Verdict::Handled,
        }
    }
}

fn content() -> Content {
    Content::random(170, 100_000, 16_384)
}

/// A session without torrents and with these plugins, and a peer that asks for one.
fn asked_for(plugins: &[Does]) -> (Alone, PeerHandle, Vec<String>) {
    asked_for_with(plugins, Features::NONE)
}

fn asked_for_with(plugins: &[Does], wants: Features) -> (Alone, PeerHandle, Vec<String>) {
    let mut alone = Alone::new(talkative());
    let log = Log::default();
    for (does, name) in plugins.iter().zip(["first", "second", "third"]) {
        let host = Host { name, does: *does, wants, log: log.clone() };
        alone.plug(|| SessionBox::new(host));
    }
    let peer = alone.called_by(&content(), 1);
    let asked = log.lock().unwrap().clone();
    (alone, peer, asked)
}

fn added(alone: &Alone) -> usize {
    alone
        .alerts
        .iter()
        .filter(|alert| matches!(alert, AlertKind::AddTorrent { error, .. } if error.is_empty()))
        .count()
}

#[test]
fn plugins_are_asked_in_order_though_there_is_no_torrent_at_all_and_the_peer_goes_if_none_has_it() {
    // Whether they named the feature is all the same.
    for wants in [Features::NONE, Features::UNKNOWN_TORRENT] {
        let (alone, peer, asked) = asked_for_with(&[Does::Nothing, Does::Nothing, Does::Nothing], wants);
        assert_eq!(asked, ["first", "second", "third"]);
        assert_eq!((alone.closed, added_none(&alone.alerts)), (vec![peer], true));
    }
}

fn added_none(alerts: &[AlertKind]) -> bool {
    !alerts.iter().any(|alert| matches!(alert, AlertKind::AddTorrent { .. }))
}

#[test]
fn the_first_that_has_it_wins_even_if_it_cannot_be_added() {
    let (alone, peer, asked) = asked_for(&[Does::Nothing, Does::Fails, Does::Adds { paused: false }]);
    assert_eq!(asked, ["first", "second"]);
    assert_eq!((added(&alone), &alone.closed[..]), (0, &[peer][..]));
    let reported = alone
        .alerts
        .iter()
        .any(|alert| matches!(alert, AlertKind::AddTorrent { error, .. } if !error.is_empty()));
    assert!(reported, "{:?}", alone.alerts);
}

#[test]
fn what_a_plugin_fills_in_and_does_not_answer_for_is_not_there_for_the_next() {
    let (mut alone, peer, asked) = asked_for(&[Does::Scribbles, Does::Fails]);
    assert_eq!(asked, ["first", "second"]);
    assert_eq!((added(&alone), &alone.closed[..]), (0, &[peer][..]));
    // Nor does it make a torrent paused that another adds.
    (alone, ..) = asked_for(&[Does::Scribbles, Does::Adds { paused: false }]);
    assert!(!alone.alerts.iter().any(|alert| alert.message().contains("paused")));
    let storage = alone.jobs.drain(..).find_map(opened).unwrap();
    alone.handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(false) }));
    assert!(alone.closed.is_empty());
}

#[test]
fn a_peer_for_which_a_paused_torrent_is_added_is_refused_once_that_could_have_served_it() {
    let (mut alone, peer, _) = asked_for(&[Does::Adds { paused: true }]);
    assert_eq!((added(&alone), alone.closed.len()), (1, 0));
    let storage = alone.jobs.drain(..).find_map(opened).unwrap();
    alone.handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(false) }));
    assert_eq!(alone.closed, [peer]);
}

#[test]
fn a_peer_that_is_held_is_a_connection_of_the_torrent_once_its_files_are_checked() {
    let (mut alone, peer, _) = asked_for(&[Does::Adds { paused: false }]);
    let probe = Probe::new();
    let log = probe.log();
    alone.plug(|| probe.on_session());
    let storage = alone.jobs.drain(..).find_map(opened).unwrap();
    assert!(!alone.engine.wants_read(peer));
    alone.handle(Input::Disk(DiskDone::Opened { storage, existing: Ok(false) }));
    assert!(alone.engine.wants_read(peer));
    alone.tell(peer, &[Message::HaveAll]);
    assert!(alone.told(peer).contains(&Message::Interested));
    // The other plugin came after the torrent.
    assert!(!log.lock().unwrap().iter().any(|line| line.starts_with("peer.")));
}

#[test]
fn a_peer_for_which_a_magnet_link_is_added_is_served_at_once() {
    let (alone, peer, _) = asked_for(&[Does::Links]);
    assert_eq!((added(&alone), alone.closed.len()), (1, 0));
    assert!(alone.engine.wants_read(peer) && alone.sent[&peer].len() > 68);
}
