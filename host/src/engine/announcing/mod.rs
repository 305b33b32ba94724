//! Tells trackers what is due, and offers torrents the peers that they name.
//!
//! What is due when is a matter of the torrent ([`Trackers`](crate::torrent::Trackers)); here it becomes a [`Request`], which
//! goes out by HTTP (`fetches`) or UDP (`udp`) and ends in an answer, or in an error, at its deadline at the latest. A
//! request holds everything that it needs, so that a torrent that was removed can still say goodbye. Who listens on both
//! address families tells a tracker by each of them (`rounds`).

mod fetches;
mod rounds;
mod udp;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pilotfish_plugin::{PeerSource, TorrentHandle};

use self::rounds::Place;
use super::Engine;
use super::output::{FetchToken, Output};
use super::relay::Route;
use super::state::{SessionPhase, State};
use super::timers::Timer;
use crate::alert::AlertKind;
use crate::command::TrackerStatus;
use crate::torrent::{AnnouncePolicy, Due, Tracker, TrackerId};
use crate::wire::tracker::{
    AnnounceEvent, AnnounceReply, AnnounceRequest, LONGEST_WAIT, ScrapeReply, TrackerError, TrackerUrl,
};

/// What is said to be missing while nobody knows how much it is: something, so that we do not pass for a seed.
const SOMETHING: u64 = 16 << 10;

/// The port of somebody who does not listen. Many trackers refuse 0.
const NOWHERE: u16 = 1;

/// What is on its way to trackers.
#[derive(Default)]
pub(super) struct Announcing {
    requests: BTreeMap<u64, Request>,
    /// Those that wait until fewer go by HTTP.
    waiting: VecDeque<u64>,
    /// How many go by HTTP.
    fetching: usize,
    udp: udp::Exchange,
    rounds: rounds::Rounds,
    /// When the session ends, whoever has not answered.
    end: Option<Instant>,
}

/// One question on its way to a tracker.
struct Request {
    torrent: TorrentHandle,
    /// The torrent's.
    name: String,
    tracker: TrackerId,
    url: String,
    question: Question,
    user_agent: Option<String>,
    /// By IPv4, or by IPv6; `None` is whichever there is.
    is_v4: Option<bool>,
    /// Of which round it is a part.
    round: Option<u64>,
    way: Way,
    deadline: Instant,
}

#[derive(Clone)]
enum Question {
    Announce(AnnounceRequest),
    Scrape([u8; 20]),
}

/// How a question gets to its tracker.
enum Way {
    /// By HTTP, once there is room.
    Waiting(String),
    /// By HTTP.
    Fetching,
    /// By UDP.
    Udp(udp::Talk),
    /// It has been there.
    Over,
}

/// What a tracker answered.
enum Answer {
    Announce(AnnounceReply),
    Scrape(ScrapeReply),
}

impl Engine {
    /// A torrent began, paused, went on or ended: its trackers are to know of it, or not any more.
    pub(super) fn update_announcing(&mut self, torrent: TorrentHandle) {
        let (running, now) = (self.state.phase == SessionPhase::Running, self.state.now);
        let says_goodbye = self.state.settings.stop_tracker_timeout.0 > 0;
        let Some(t) = self.state.torrent_mut(torrent).filter(|t| !t.trackers.is_empty()) else { return };
        let runs = running && !t.paused && !t.held_by_session && !t.check_only && !t.removing;
        // Who is being checked again goes on.
        let ready = t.files_checked || !t.has_metadata() || t.trackers.is_announcing();
        match runs && ready {
            true => t.trackers.start(now),
            false => t.trackers.stop(says_goodbye),
        }
        self.tell_trackers(torrent);
    }

    /// The download of a torrent was completed.
    pub(super) fn announce_completed(&mut self, torrent: TorrentHandle) {
        if let Some(t) = self.state.torrent_mut(torrent) {
            t.trackers.complete();
            self.tell_trackers(torrent);
        }
    }

    /// Something may be due.
    pub(super) fn on_announce_timer(&mut self, torrent: TorrentHandle) {
        let now = self.state.now;
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        if t.trackers.timer.is_some_and(|at| at <= now) {
            t.trackers.timer = None;
            self.tell_trackers(torrent);
        }
    }

    /// Tells a torrent's trackers what is due.
    fn tell_trackers(&mut self, torrent: TorrentHandle) {
        loop {
            let (policy, now) = (self.state.announce_policy(torrent), self.state.now);
            let Some(t) = self.state.torrent_mut(torrent) else { return };
            let due = t.trackers.due(now, &policy);
            if due.is_empty() {
                break;
            }
            // One that fails at once leaves its turn to another.
            due.into_iter().for_each(|due| self.announce(torrent, due));
        }
        self.state.schedule_announce(torrent);
    }

    fn announce(&mut self, torrent: TorrentHandle, due: Due) {
        let Due { tracker, event } = due;
        let Some(asked) = self.state.announce_request(torrent, tracker, event) else { return };
        let limit = match event {
            AnnounceEvent::Stopped => self.state.settings.stop_tracker_timeout,
            _ => self.state.settings.tracker_completion_timeout,
        };
        let Some(request) =
            self.state.tracker_request(torrent, tracker, Question::Announce(asked), limit.duration())
        else {
            return;
        };
        let (name, tracker_url) = (request.name.clone(), request.url.clone());
        let event = event.name().to_owned();
        self.state.alert(AlertKind::TrackerAnnounce { torrent, name, tracker_url, event });
        self.send_round(request);
    }

    /// Trackers are asked sooner than they would be.
    pub(super) fn force_reannounce(
        &mut self,
        torrent: TorrentHandle,
        after: Duration,
        which: Option<usize>,
        ignore_min_interval: bool,
    ) {
        let at = self.state.now + after.min(LONGEST_WAIT);
        if let Some(t) = self.state.torrent_mut(torrent) {
            t.trackers.force(at, which, ignore_min_interval);
            self.tell_trackers(torrent);
        }
    }

    /// A torrent has one more tracker.
    pub(super) fn add_tracker(&mut self, torrent: TorrentHandle, url: String, tier: u8) {
        let now = self.state.now;
        if let Some(t) = self.state.torrent_mut(torrent) {
            t.trackers.add(url, tier, Some(now));
            self.update_announcing(torrent);
        }
    }

    /// Asks a tracker for a torrent's figures: the one with this number, or the first that works.
    pub(super) fn scrape_tracker(&mut self, torrent: TorrentHandle, which: Option<usize>) {
        let Some(t) = self.state.torrent(torrent) else { return };
        let tracker = match which {
            Some(number) => t.trackers.iter().nth(number),
            None => t.trackers.iter().find(|tracker| tracker.verified).or_else(|| t.trackers.iter().next()),
        };
        let Some(tracker) = tracker.map(|tracker| tracker.id()) else { return };
        let question = Question::Scrape(t.description.info_hashes().truncated());
        let limit = self.state.settings.tracker_completion_timeout.duration();
        if let Some(request) = self.state.tracker_request(torrent, tracker, question, limit) {
            self.send_request(request);
        }
    }

    /// Sends a request on its way. Its deadline is its end.
    fn send_request(&mut self, mut request: Request) {
        let id = self.state.fresh_id();
        if let Some(end) = self.state.announcing.end {
            request.deadline = request.deadline.min(end);
        }
        let url = TrackerUrl::parse(&request.url).and_then(|url| match request.question {
            Question::Announce(_) => Ok(url),
            Question::Scrape(_) => url.scrape().ok_or(TrackerError::NoScrape),
        });
        self.state.timers.set(request.deadline, Timer::Request(id));
        match url {
            Ok(TrackerUrl::Http(url)) => self.state.fetch_later(id, request, url),
            Ok(TrackerUrl::Udp { host, port, path }) if self.state.tracker_route() != Route::Closed => {
                self.state.begin_talk(id, request, host, port, path);
            }
            Ok(TrackerUrl::Udp { .. }) => self.answered(request, Err(TrackerError::NoUdp)),
            Err(error) => self.answered(request, Err(error)),
        }
    }

    /// A request's deadline has come, or that of one of its packets.
    pub(super) fn on_request_timer(&mut self, id: u64) {
        let now = self.state.now;
        let Some(request) = self.state.announcing.requests.get(&id) else { return };
        if request.deadline <= now {
            self.finish_request(id, Err(TrackerError::TimedOut));
        } else {
            self.state.repeat_packet(id);
        }
    }

    /// A request came to its end.
    fn finish_request(&mut self, id: u64, result: Result<Answer, TrackerError>) {
        let Some(request) = self.state.take_request(id) else { return };
        let torrent = request.torrent;
        self.answered(request, result);
        self.tell_trackers(torrent);
        self.finish_shutdown();
    }

    fn answered(&mut self, request: Request, result: Result<Answer, TrackerError>) {
        let place = request
            .round
            .map_or(Place::First, |round| self.state.announcing.rounds.end_part(round, result.is_ok()));
        if place == Place::Nowhere {
            return;
        }
        match (&request.question, result) {
            (Question::Announce(asked), Ok(Answer::Announce(reply))) => {
                let asked = asked.clone();
                self.on_announced(request, asked, reply, place);
            }
            (Question::Announce(_), Ok(Answer::Scrape(_)))
            | (Question::Scrape(_), Ok(Answer::Announce(_))) => {
                self.on_refused(request, TrackerError::Missing("answer to this question"));
            }
            (Question::Scrape(_), Ok(Answer::Scrape(figures))) => {
                let Request { torrent, name, tracker, url: tracker_url, .. } = request;
                if let Some(t) = self.state.torrent_mut(torrent) {
                    t.trackers.scraped(tracker, &figures);
                }
                let [complete, incomplete] =
                    [figures.complete, figures.incomplete].map(Option::unwrap_or_default);
                self.state.alert(AlertKind::ScrapeReply { torrent, name, tracker_url, complete, incomplete });
            }
            (_, Err(error)) => self.on_refused(request, error),
        }
    }

    fn on_announced(
        &mut self,
        mut request: Request,
        asked: AnnounceRequest,
        reply: AnnounceReply,
        place: Place,
    ) {
        let (policy, now) = (self.state.announce_policy(request.torrent), self.state.now);
        let (torrent, name, tracker_url) = (request.torrent, request.name.clone(), request.url.clone());
        let Some(t) = self.state.torrent_mut(torrent) else {
            // It is gone, and this tracker does not know yet.
            if asked.event != AnnounceEvent::Stopped && self.state.settings.stop_tracker_timeout.0 > 0 {
                let trackerid = reply.trackerid.or(asked.trackerid.clone());
                let (event, num_want) = (AnnounceEvent::Stopped, 0);
                request.question =
                    Question::Announce(AnnounceRequest { event, num_want, trackerid, ..asked });
                request.deadline = now + self.state.settings.stop_tracker_timeout.duration();
                request.round = None;
                self.send_request(request);
            }
            return;
        };
        if place == Place::First {
            t.trackers.replied(request.tracker, &reply, now, &policy);
        }
        if let Some(is_v4) = request.is_v4 {
            t.trackers.answers_by(request.tracker, is_v4);
        }
        let wanted = t.trackers.is_announcing() && asked.event != AnnounceEvent::Stopped;
        let num_peers = u32::try_from(reply.peers.len()).unwrap_or(u32::MAX);
        let reply_alert = AlertKind::TrackerReply {
            torrent,
            name: name.clone(),
            tracker_url: tracker_url.clone(),
            num_peers,
        };
        self.state.alert(reply_alert);
        if let Some(warning_message) = reply.warning {
            self.state.alert(AlertKind::TrackerWarning { torrent, name, tracker_url, warning_message });
        }
        if let Some(ip) = reply.external_ip {
            self.on_suggested_address(ip);
        }
        if wanted {
            for peer in reply.peers {
                self.offer_peer(torrent, peer, PeerSource::TRACKER);
            }
            self.pump();
        }
    }

    fn on_refused(&mut self, request: Request, error: TrackerError) {
        let Request { torrent, name, tracker, url: tracker_url, question, .. } = request;
        let (policy, now) = (self.state.announce_policy(torrent), self.state.now);
        let error_message = error.to_string();
        if let Question::Scrape(_) = question {
            return self.state.alert(AlertKind::ScrapeFailed { torrent, name, tracker_url, error_message });
        }
        let times_in_row = self.state.torrent_and_rng(torrent).map_or(1, |(t, rng)| {
            t.trackers.failed(tracker, &error, now, &policy, rng);
            t.trackers.get(tracker).map_or(1, |tracker| tracker.fails)
        });
        self.state.alert(AlertKind::TrackerError { torrent, name, tracker_url, times_in_row, error_message });
    }

    /// The session ends: whoever knows of us hears that, and has so long to answer.
    pub(super) fn stop_trackers(&mut self) {
        let limit = self.state.settings.stop_tracker_timeout.duration();
        let end = self.state.now + limit;
        self.state.announcing.end = Some(end);
        self.state.drop_hopeless_requests();
        for (id, request) in &mut self.state.announcing.requests {
            request.deadline = request.deadline.min(end);
            self.state.timers.set(request.deadline, Timer::Request(*id));
        }
        for torrent in self.state.order.clone() {
            self.update_announcing(torrent);
        }
    }
}

impl State {
    /// How a torrent's trackers stand.
    pub(super) fn tracker_status(&self, torrent: TorrentHandle) -> Option<Vec<TrackerStatus>> {
        let status = |tracker: &Tracker| TrackerStatus {
            url: tracker.url.clone(),
            tier: tracker.tier,
            fails: tracker.fails,
            verified: tracker.verified,
            updating: tracker.asked.is_some(),
            start_sent: tracker.started,
            next_announce: tracker.next.map(|at| at.saturating_duration_since(self.now)),
            message: tracker.message.clone(),
            scrape_complete: tracker.scraped.complete,
            scrape_incomplete: tracker.scraped.incomplete,
            scrape_downloaded: tracker.scraped.downloaded,
        };
        Some(self.torrent(torrent)?.trackers.iter().map(status).collect())
    }

    /// Whether nothing is on its way to a tracker.
    pub(super) fn trackers_are_quiet(&self) -> bool {
        self.announcing.requests.is_empty()
    }

    /// What the settings say of a torrent's trackers. A private torrent asks one at a time (BEP 27).
    fn announce_policy(&self, torrent: TorrentHandle) -> AnnouncePolicy {
        let metainfo = self.torrent(torrent).and_then(|t| t.description.metainfo());
        let private = metainfo.is_some_and(crate::metainfo::Metainfo::private);
        let settings = &self.settings;
        AnnouncePolicy {
            all_trackers: settings.announce_to_all_trackers && !private,
            all_tiers: settings.announce_to_all_tiers && !private,
            min_interval: settings.min_announce_interval.duration(),
            backoff: settings.tracker_backoff,
        }
    }

    /// Has [`Engine::on_announce_timer`] run when something is due next.
    pub(super) fn schedule_announce(&mut self, torrent: TorrentHandle) {
        let policy = self.announce_policy(torrent);
        let Some(t) = self.torrent_mut(torrent) else { return };
        let Some(at) = t.trackers.next_deadline(&policy) else { return };
        if t.trackers.timer.is_none_or(|timer| at < timer) {
            t.trackers.timer = Some(at);
            self.timers.set(at, Timer::Announce(torrent));
        }
    }

    /// What a tracker is told of a torrent.
    fn announce_request(
        &self,
        torrent: TorrentHandle,
        tracker: TrackerId,
        event: AnnounceEvent,
    ) -> Option<AnnounceRequest> {
        let t = self.torrent(torrent)?;
        let missing = || t.geometry().total().saturating_sub(t.bytes_done());
        let event = match event {
            AnnounceEvent::None if t.files_checked && t.is_partial_seed() => AnnounceEvent::Paused,
            event => event,
        };
        Some(AnnounceRequest {
            info_hash: t.description.info_hashes().truncated(),
            peer_id: self.peer_id,
            port: self.announced_port(|_| true),
            uploaded: t.payload_up.total(),
            downloaded: t.payload_down.total().saturating_sub(t.failed_bytes),
            left: if t.has_metadata() { missing() } else { SOMETHING },
            corrupt: t.failed_bytes,
            event,
            key: t.trackers.key,
            num_want: if event == AnnounceEvent::Stopped { 0 } else { self.settings.num_want },
            trackerid: t.trackers.get(tracker)?.trackerid.clone(),
        })
    }

    /// Where peers can reach us, on an address that will do. Who hides behind a proxy cannot be reached.
    fn announced_port(&self, will_do: impl Fn(&SocketAddr) -> bool) -> u16 {
        if self.peer_proxy().is_some() {
            return NOWHERE;
        }
        let fitting = self.listening.iter().find(|address| will_do(address));
        fitting.or(self.listening.first()).map_or(NOWHERE, |local| self.external_tcp_port(*local))
    }

    fn tracker_request(
        &self,
        torrent: TorrentHandle,
        tracker: TrackerId,
        question: Question,
        limit: Duration,
    ) -> Option<Request> {
        let t = self.torrent(torrent)?;
        let private = t.description.metainfo().is_some_and(crate::metainfo::Metainfo::private);
        // The trackers of private torrents may admit certain clients only (as with libtorrent).
        let named = private || !self.settings.anonymous_mode;
        let user_agent =
            (named && !self.settings.user_agent.is_empty()).then(|| self.settings.user_agent.clone());
        Some(Request {
            torrent,
            name: t.name().to_owned(),
            tracker,
            url: t.trackers.get(tracker)?.url.clone(),
            question,
            user_agent,
            is_v4: None,
            round: None,
            way: Way::Over,
            deadline: self.now + limit,
        })
    }

    /// Takes a request back, or its remains.
    fn take_request(&mut self, id: u64) -> Option<Request> {
        let request = self.announcing.requests.remove(&id)?;
        match &request.way {
            Way::Waiting(_) => self.announcing.waiting.retain(|waiting| *waiting != id),
            Way::Fetching => {
                self.announcing.fetching -= 1;
                self.outputs.push_back(Output::CancelFetch(FetchToken(id)));
            }
            Way::Udp(talk) => self.announcing.udp.forget(talk),
            Way::Over => {}
        }
        self.fetch_next();
        Some(request)
    }

    /// Nobody waits for trackers that have never answered, nor for figures.
    fn drop_hopeless_requests(&mut self) {
        let hopeless = |request: &Request| match request.question {
            Question::Scrape(_) => true,
            Question::Announce(_) => {
                let tracker = self.torrent(request.torrent).and_then(|t| t.trackers.get(request.tracker));
                tracker.is_some_and(|tracker| !tracker.verified)
            }
        };
        let requests = self.announcing.requests.iter();
        let hopeless: Vec<u64> = requests.filter(|(_, r)| hopeless(r)).map(|(id, _)| *id).collect();
        for id in hopeless {
            let Some(request) = self.take_request(id) else { continue };
            self.announcing.rounds.forget(request.round);
            if let Some(t) = self.torrent_mut(request.torrent) {
                t.trackers.forgotten(request.tracker);
            }
        }
    }
}
