//! What the servers of web seeds answer, and what becomes of those that fail.

use std::time::Duration;

use pilotfish_plugin::{ErrorCode, MessageOrigin, Operation, PeerHandle, Severity};

use crate::engine::Engine;
use crate::engine::state::State;
use crate::metainfo::PieceIndex;
use crate::peer::web::{Source, WebError, WebEvent, path_and_query, redirected};
use crate::torrent::{Has, pieces_of};
use crate::wire::Message;

/// At most so long is waited because a server asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

impl Engine {
    /// Bytes came from a web seed.
    pub(in crate::engine) fn on_web_received(&mut self, peer: PeerHandle, len: usize, scratch: &[u8]) {
        let now = self.state.now;
        let Some(connection) = self.state.peer_mut(peer) else { return };
        connection.last_received = now;
        connection.down.add(len as u64);
        if let Some(web) = &mut connection.web {
            web.received(len, scratch);
        }
        loop {
            let pool = self.state.pool.clone();
            let Some(web) = self.open_peer(peer).and_then(|connection| connection.web.as_mut()) else {
                return;
            };
            match web.next(&pool) {
                Ok(Some(event)) => self.on_web_event(peer, event),
                Ok(None) => return,
                Err(error) => return self.state.on_web_error(peer, error),
            }
            self.pump();
        }
    }

    fn on_web_event(&mut self, peer: PeerHandle, event: WebEvent) {
        match event {
            WebEvent::Answered { closes, server } => {
                self.state.note_answer(peer, server);
                if closes {
                    self.state.drop_unsent(peer);
                    self.inbound(peer, Message::Choke, MessageOrigin::IMPLIED);
                }
            }
            WebEvent::Passing { file, from, to } => self.state.request_passing(peer, file, from, to),
            WebEvent::Block { span, data } => {
                let message = Message::Piece { piece: span.piece.get(), start: span.start, data };
                self.inbound(peer, message, MessageOrigin::IMPLIED);
            }
            WebEvent::Done => {
                self.state.request_blocks(peer);
                self.state.transmit(peer);
            }
            WebEvent::Over => {
                let (error, operation) = (ErrorCode::END_OF_FILE, Operation::BITTORRENT);
                self.state.disconnect(peer, error, operation, Severity::NORMAL);
            }
            WebEvent::Redirect { source, asked, location } => {
                self.on_redirect(peer, source, &asked, location.as_deref());
            }
            WebEvent::Refused { source, status, reason, retry_after } => {
                self.state.on_refused(peer, source, status, &reason, retry_after);
            }
        }
    }

    /// What was asked for is elsewhere: that is another web seed, and this one does not have it.
    fn on_redirect(&mut self, peer: PeerHandle, source: Source, asked: &url::Url, location: Option<&str>) {
        let Some((connection, torrent)) = self.state.pair(peer) else { return };
        let Some(web) = &connection.web else { return };
        let (seed, kind, single) = (web.seed(), web.site().kind(), web.site().is_single_file());
        let (handle, layout, local) =
            (torrent.handle, torrent.layout.clone(), super::is_local(connection.remote.ip()));
        let Some(known) = torrent.web_seeds.get_mut(seed) else { return };
        let Some(to) = location.and_then(|location| redirected(asked, location)) else {
            known.disable();
            let (error, operation) = (ErrorCode::MISSING_LOCATION, Operation::BITTORRENT);
            self.state.tell_url_seed(handle, seed, "the redirect does not say where to".to_owned());
            return self.state.disconnect(peer, error, operation, Severity::PEER_ERROR);
        };
        if known.is_last_redirect() {
            known.disable();
            self.state.tell_url_seed(handle, seed, "too many redirects".to_owned());
            let (error, operation) = (ErrorCode::INVALID_REDIRECTION, Operation::BITTORRENT);
            return self.state.disconnect(peer, error, operation, Severity::PEER_ERROR);
        }
        let (hops, outside) = (known.redirects_before + 1, known.no_local_addresses || !local);
        let file = if let Source::File(file) = source { Some(file).filter(|_| !single) } else { None };
        let folder = file.and_then(|file| web.site().folder_of(file, &to));
        let (url, target) = match (source, folder) {
            // It ends as the file's path does: all of the folder is there.
            (_, Some(folder)) => (folder.to_string(), None),
            (Source::File(_), None) if !single => (base_of(&to), Some(path_and_query(&to))),
            (Source::File(_), None) => (to.to_string(), None),
            (Source::Piece(_), None) => (without_piece(&to), None),
        };
        let before = torrent.web_seeds.len();
        let added = torrent.web_seeds.add(&url, kind);
        let is_new = torrent.web_seeds.len() > before;
        if let Some(known) = torrent.web_seeds.get_mut(seed) {
            match (file, &target) {
                (Some(file), Some(target))
                    if added == Some(seed) && known.moves_file(file, target.clone()) => {}
                (Some(file), _) => known.lacks_file(file, &layout),
                (None, _) => known.lacks_everything(),
            }
        }
        if let Some(other) = added.filter(|added| *added != seed).and_then(|id| torrent.web_seeds.get_mut(id))
        {
            if is_new {
                (other.redirects_before, other.no_local_addresses) = (hops, outside);
            }
            // One that was told to us has every file, unless it turned out otherwise.
            if let (Some(file), Some(target)) = (file, target)
                && (is_new || other.redirects_before > 0)
            {
                let (connected, before) = (other.connection, other.has(&layout));
                other.has_file(file, target.clone());
                let now = other.has(&layout);
                self.learn_file(connected, file, target, &before, &now);
            }
        }
        let (error, operation) = (ErrorCode::REDIRECTING, Operation::BITTORRENT);
        self.state.disconnect(peer, error, operation, Severity::NORMAL);
        let known = self.state.torrent_mut(handle).and_then(|t| t.web_seeds.get_mut(seed));
        // To be redirected is an answer, too: the rest of its files need not wait.
        known.into_iter().for_each(|known| known.note_answer(known.manners));
    }

    /// A host has another file. If we are connected to it, the pieces that it has now and had not before are told.
    fn learn_file(&mut self, peer: Option<PeerHandle>, file: usize, target: String, before: &Has, now: &Has) {
        let Some(peer) = peer else { return };
        let Some((connection, torrent)) = self.state.pair(peer) else { return };
        if let Some(web) = &mut connection.web {
            web.site_mut().redirect(file, target);
        }
        if !connection.is_established() {
            return;
        }
        let has = |has: &Has, piece: &PieceIndex| match has {
            Has::All => true,
            Has::None => false,
            Has::Some(pieces) => pieces.get(piece.get()),
        };
        let pieces = torrent.geometry().pieces().filter(|piece| has(now, piece) && !has(before, piece));
        for piece in pieces.collect::<Vec<_>>() {
            self.inbound(peer, Message::Have(piece.get()), MessageOrigin::IMPLIED);
            self.pump();
        }
    }

    /// All of a bad piece came from one web seed: it does not have the file, or the piece, as it should be. Says whether
    /// nothing is left that it could be asked for.
    pub(in crate::engine) fn doubt_web_seed(&mut self, peer: PeerHandle, piece: PieceIndex) -> bool {
        let Some((connection, torrent)) = self.state.pair(peer) else { return false };
        let Some(web) = &connection.web else { return false };
        let (seed, layout) = (web.seed(), torrent.layout.clone());
        let Some(known) = torrent.web_seeds.get_mut(seed) else { return false };
        let mut files = layout.spans(layout.geometry().whole(piece)).map(|span| span.file);
        let first = files.next().unwrap_or(0);
        let one_file = files.all(|file| file == first);
        if layout.files().len() == 1 {
            return true;
        }
        let lost: Vec<PieceIndex> = if one_file {
            known.lacks_file(first, &layout);
            let file = &layout.files()[first];
            pieces_of(&layout, file.offset, file.length).collect()
        } else {
            known.lacks_piece(piece);
            vec![piece]
        };
        for piece in lost {
            self.on_dont_have(peer, piece.get(), MessageOrigin::IMPLIED);
            self.pump();
        }
        self.state.peer(peer).is_some_and(|connection| connection.has.count() == 0)
    }
}

impl State {
    fn note_answer(&mut self, peer: PeerHandle, server: Option<String>) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(web) = &connection.web else { return };
        if let Some(known) = torrent.web_seeds.get_mut(web.seed()) {
            known.note_answer(web.manners());
        }
        if let Some(server) = server {
            connection.client = format!("URL seed @ {} ({server})", web.site().host_name());
        }
    }

    /// The server takes no more requests on this connection: what it was not sent may be asked of others.
    fn drop_unsent(&mut self, peer: PeerHandle) {
        let now = self.now;
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(web) = &mut connection.web else { return };
        for block in web.drop_unsent() {
            connection.requests.rejected(block, now);
            torrent.picker.abort(peer, block);
        }
    }

    /// The server does not give what it was asked for: later perhaps; and if it does not have a file, it may have others.
    fn on_refused(
        &mut self,
        peer: PeerHandle,
        source: Source,
        status: u16,
        reason: &str,
        retry_after: Option<u32>,
    ) {
        let wait = self.settings.urlseed_wait_retry.duration();
        let wait = retry_after.map_or(wait, |seconds| Duration::from_secs(seconds.into()).min(LONGEST_WAIT));
        let now = self.now;
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(web) = &connection.web else { return };
        let (handle, seed, single) = (torrent.handle, web.seed(), web.site().is_single_file());
        let layout = torrent.layout.clone();
        let mut severity = Severity::FAILURE;
        if let Some(known) = torrent.web_seeds.get_mut(seed) {
            match (source, status) {
                // The others may be there.
                (Source::File(file), 403 | 404 | 410) if !single => {
                    known.lacks_file(file, &layout);
                    known.note_answer(known.manners);
                    severity = Severity::NORMAL;
                }
                _ => known.wait_until(now + wait),
            }
        }
        self.tell_url_seed(handle, seed, format!("{status} {reason}").trim_end().to_owned());
        self.disconnect(peer, ErrorCode::http(status), Operation::BITTORRENT, severity);
    }

    fn on_web_error(&mut self, peer: PeerHandle, error: WebError) {
        let Some((connection, torrent)) = self.pair(peer) else { return };
        let Some(web) = &connection.web else { return };
        let (handle, seed, single) = (torrent.handle, web.seed(), web.site().is_single_file());
        let layout = torrent.layout.clone();
        let mut severity = Severity::PEER_ERROR;
        let code = match error {
            WebError::Http(_) => ErrorCode::HTTP_PARSE_ERROR,
            WebError::Range | WebError::Short => ErrorCode::INVALID_RANGE,
            WebError::Length { file, .. } => {
                if let Some(known) = torrent.web_seeds.get_mut(seed) {
                    known.lacks_file(file, &layout);
                    if !single {
                        known.note_answer(known.manners);
                        severity = Severity::NORMAL;
                    }
                }
                ErrorCode::MISMATCHING_FILE_SIZE
            }
        };
        self.tell_url_seed(handle, seed, error.to_string());
        self.disconnect(peer, code, Operation::BITTORRENT, severity);
    }

    /// Whether a web seed that sent bad data is to be banned: `alone` is what [`Engine::doubt_web_seed`] said, if nobody else
    /// had a part in it.
    pub(in crate::engine) fn blame_web_seed(&mut self, peer: PeerHandle, alone: Option<bool>) -> bool {
        let Some((connection, torrent)) = self.pair(peer) else { return false };
        let Some(web) = &connection.web else { return false };
        let known = torrent.web_seeds.get_mut(web.seed());
        alone.unwrap_or_else(|| known.is_some_and(|known| known.piece_failed()))
    }
}

/// The URL of a host alone.
fn base_of(url: &url::Url) -> String {
    let mut base = url.clone();
    base.set_path("/");
    base.set_query(None);
    base.to_string()
}

/// A URL that was redirected to with the question for a piece in it, without that question (BEP 17).
fn without_piece(url: &url::Url) -> String {
    let mut url = url.clone();
    let asked = |part: &&str| ["info_hash=", "piece=", "ranges="].iter().any(|key| part.starts_with(key));
    let kept: Vec<&str> = url.query().unwrap_or_default().split('&').filter(|part| !asked(part)).collect();
    let kept = kept.join("&");
    url.set_query((!kept.is_empty()).then_some(&kept));
    url.to_string()
}
