//! Who is there, and what waits to be said.

use std::collections::VecDeque;

use pilotfish_plugin::PeerHandle;

use crate::LONGEST_LINE;

/// So many lines wait while nobody is there.
const MOST_WAITING: usize = 100;

/// The peers that speak chat, in the order in which they came.
#[derive(Default)]
pub(crate) struct Room {
    peers: Vec<PeerHandle>,
    /// Nobody was there to hear it.
    waiting: VecDeque<String>,
}

impl Room {
    /// Says a line to everybody. `send` says whether a peer gets it; `None`: it is gone. What went wrong, if anything did.
    pub(crate) fn say(
        &mut self,
        line: &str,
        mut send: impl FnMut(PeerHandle) -> Option<bool>,
    ) -> Option<&'static str> {
        let mut lost = false;
        self.peers.retain(|peer| {
            let sent = send(*peer);
            lost |= sent == Some(false);
            sent.is_some()
        });
        if self.peers.is_empty() {
            if self.waiting.len() >= MOST_WAITING {
                return Some("nobody is there, and too many lines wait: one is dropped");
            }
            self.waiting.push_back(line.to_owned());
        }
        lost.then_some("a line is not sent to a peer that does not keep up")
    }

    /// A peer speaks chat: it gets what waited.
    pub(crate) fn enter(&mut self, peer: PeerHandle, mut send: impl FnMut(&str) -> bool) {
        if self.has(peer) {
            return;
        }
        self.peers.push(peer);
        while let Some(line) = self.waiting.front()
            && send(line)
        {
            self.waiting.pop_front();
        }
    }

    /// Whether a peer speaks chat.
    pub(crate) fn has(&self, peer: PeerHandle) -> bool {
        self.peers.contains(&peer)
    }

    /// A peer is gone.
    pub(crate) fn leave(&mut self, peer: PeerHandle) {
        self.peers.retain(|other| *other != peer);
    }
}

/// What a peer said, as it may be shown: nothing that moves a terminal's cursor or looks like another line. `None` if
/// it is empty, too long, or no text.
pub(crate) fn readable(body: &[u8]) -> Option<String> {
    if body.is_empty() || body.len() > LONGEST_LINE {
        return None;
    }
    let text = std::str::from_utf8(body).ok()?;
    Some(text.chars().map(|c| if is_safe(c) { c } else { char::REPLACEMENT_CHARACTER }).collect())
}

/// Control characters, line and paragraph separators, and what turns the direction of text are not.
fn is_safe(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: PeerHandle = PeerHandle::from_raw(1);
    const BEN: PeerHandle = PeerHandle::from_raw(2);

    #[test]
    fn what_is_said_to_nobody_waits_for_the_first_who_comes() {
        let (mut room, mut heard) = (Room::default(), Vec::new());
        assert_eq!(room.say("one", |_| Some(true)), None);
        assert_eq!(room.say("two", |_| Some(true)), None);
        room.enter(ANN, |line| {
            heard.push(line.to_owned());
            true
        });
        assert_eq!(heard, ["one", "two"]);
        room.enter(BEN, |_| unreachable!("nothing waits any more"));
    }

    #[test]
    fn a_line_goes_to_everybody_and_who_is_gone_is_forgotten() {
        let mut room = Room::default();
        room.enter(ANN, |_| true);
        room.enter(BEN, |_| true);
        room.enter(BEN, |_| true);
        let mut asked = Vec::new();
        room.say("hello", |peer| {
            asked.push(peer);
            (peer == BEN).then_some(true)
        });
        assert_eq!(asked, [ANN, BEN]);
        assert!(room.say("again", |_| Some(false)).is_some());
        room.leave(BEN);
        room.say("later", |_| unreachable!("nobody is there"));
    }

    #[test]
    fn no_more_lines_wait_than_fit() {
        let mut room = Room::default();
        let lost = (0..MOST_WAITING + 3).filter(|_| room.say("x", |_| None).is_some()).count();
        assert_eq!(lost, 3);
    }

    #[test]
    fn what_a_peer_says_cannot_forge_lines() {
        assert_eq!(
            readable("a\nb\u{1b}[2J\u{202e}ö".as_bytes()).as_deref(),
            Some("a\u{fffd}b\u{fffd}[2J\u{fffd}ö")
        );
        assert_eq!(readable(b""), None);
        assert_eq!(readable(b"\xff"), None);
        assert_eq!(readable(&[b'x'; LONGEST_LINE + 1]), None);
        assert!(readable(&[b'x'; LONGEST_LINE]).is_some());
    }
}
