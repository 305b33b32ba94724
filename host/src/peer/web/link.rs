//! One connection to a web seed, without its socket.
//!
//! Invariant: the bytes of `parts`, in their order, are the bytes of `wanted` that are still to come, in theirs. `buffers`
//! are those of the first of `wanted`. The front part is the one that the response at hand answers, unless that has been
//! answered.

mod responses;

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::{array, mem};

use responses::{Inbox, took, useful};

use super::{Site, WebSeedId};
use crate::metainfo::{BLOCK_SIZE, BlockSpan, PieceIndex};
use crate::peer::Outbox;
use crate::wire::http::{Body, HttpError, Request};
use crate::wire::{BlockBuf, BlockPool, TARGETS};

/// What a request asks for a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, by its number in the torrent (BEP 19).
    File(usize),
    /// A piece (BEP 17).
    Piece(PieceIndex),
}

/// What is known of a server, and worth remembering for the next connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manners {
    /// It has answered once.
    pub known: bool,
    /// It takes several requests on a connection.
    pub keep_alive: bool,
    /// It sends the part of a file that was asked for, and not all of it.
    pub ranges: bool,
}

/// How much is asked of a server at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebLimits {
    /// The most bytes in one request.
    pub max_request: u64,
    /// The most requests that wait for an answer.
    pub pipeline: usize,
}

/// The beginning of a block whose rest did not come.
#[derive(Debug)]
pub struct Partial {
    /// Which block.
    pub span: BlockSpan,
    buffer: BlockBuf,
}

impl Partial {
    /// How many bytes of it there are.
    pub fn bytes(&self) -> u64 {
        self.buffer.as_ref().len() as u64
    }
}

/// Something that a web seed's connection brought.
#[derive(Debug)]
pub enum WebEvent {
    /// A response begins that is what was asked for.
    Answered {
        /// The connection ends after it.
        closes: bool,
        /// The server's software.
        server: Option<String>,
    },
    /// All of a file is coming: these bytes of it are about to pass, wanted or not.
    Passing {
        /// The file.
        file: usize,
        /// The first byte.
        from: u64,
        /// The one behind the last.
        to: u64,
    },
    /// A block is complete.
    Block {
        /// Which.
        span: BlockSpan,
        /// Its bytes.
        data: bytes::Bytes,
    },
    /// A response has ended.
    Done,
    /// Nothing more of use comes on this connection.
    Over,
    /// What was asked for is elsewhere.
    Redirect {
        /// What.
        source: Source,
        /// Where it was looked for.
        asked: url::Url,
        /// Where it is, as the server says it, if it does.
        location: Option<String>,
    },
    /// The server refuses.
    Refused {
        /// What.
        source: Source,
        /// HTTP's number for it.
        status: u16,
        /// The server's words for it.
        reason: String,
        /// In how many seconds to ask again, if the server says.
        retry_after: Option<u32>,
    },
}

/// What a server sent is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// It is not HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Other bytes than were asked for.
    #[error("the server sent another part of the file than was asked for")]
    Range,
    /// Fewer bytes than announced.
    #[error("the response ended early")]
    Short,
    /// The file has another length than the torrent says.
    #[error("the file has a length of {found} bytes, where the torrent says {expected}")]
    Length {
        /// Which file.
        file: usize,
        /// Its length at the server, in bytes.
        found: u64,
        /// Its length in the torrent, in bytes.
        expected: u64,
    },
}

/// One connection to a web seed.
#[derive(Debug)]
pub struct WebLink {
    seed: WebSeedId,
    site: Site,
    manners: Manners,
    limits: WebLimits,
    /// Blocks in the order in which they come.
    wanted: VecDeque<BlockSpan>,
    buffers: VecDeque<BlockBuf>,
    parts: VecDeque<Part>,
    reading: Reading,
    inbox: Inbox,
    /// Bytes that the next read may put to where they belong.
    planned: usize,
    /// Blocks that the last read touched.
    touched: usize,
    /// The server takes no more requests on this connection.
    closing: bool,
    /// Interim responses since the last real one.
    interim: u32,
    /// Nothing of use comes any more, and that was told.
    finished: bool,
}

/// A run of bytes to come.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// `None`: padding, which is not asked for.
    source: Option<Source>,
    offset: u64,
    len: u64,
    /// It was asked for.
    sent: bool,
}

#[derive(Debug)]
enum Reading {
    Head,
    Body(Answer),
}

/// The response that is being received.
#[derive(Debug)]
struct Answer {
    body: Body,
    source: Source,
    /// Which byte of its source comes next.
    position: u64,
    /// The byte behind the last.
    end: u64,
    /// It is all of a file, although a part was asked for.
    whole: bool,
    /// The front part is to be taken from it.
    serves: bool,
    /// Up to where it was said what passes.
    announced: u64,
}

/// So much is asked for at first, and whenever the server is slow, in bytes.
const LEAST: u64 = 1 << 20;
/// As above, of a server that has to be connected to for every request.
const LEAST_UNKEPT: u64 = 4 << 20;
/// So much is asked for as comes in this time, in seconds.
const AHEAD: u64 = 3;
/// So much of what nobody wants is read rather than closing the connection, in bytes.
const MOST_SURPLUS: u64 = 256 << 10;
/// So far ahead of what passes it is asked for, in bytes.
const PASSING: u64 = 4 << 20;
/// The most bytes of a head, and of what follows it, that are read at once; those of a body have to be copied.
const HEAD_READ: usize = 4096;
/// The most blocks that are read at once to where they belong.
const MOST_TARGETS: usize = 8;
/// So many interim responses may come before the real one.
const MOST_INTERIM: u32 = 8;

impl WebLink {
    /// A connection that is about to be tried.
    pub fn new(seed: WebSeedId, site: Site, manners: Manners, limits: WebLimits) -> Self {
        Self {
            seed,
            site,
            manners,
            limits,
            wanted: VecDeque::new(),
            buffers: VecDeque::new(),
            parts: VecDeque::new(),
            reading: Reading::Head,
            inbox: Inbox::default(),
            planned: 0,
            touched: 0,
            closing: false,
            interim: 0,
            finished: false,
        }
    }

    /// The torrent's name for it.
    pub fn seed(&self) -> WebSeedId {
        self.seed
    }

    /// Where its files are.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Where its files are, for a redirect to be noted.
    pub fn site_mut(&mut self) -> &mut Site {
        &mut self.site
    }

    /// What is known of the server now.
    pub fn manners(&self) -> Manners {
        self.manners
    }

    /// How many blocks it is sensible to ask for now, if it sends `rate` bytes per second.
    pub fn room(&self, rate: u64) -> usize {
        if self.closing {
            return 0;
        }
        let piece = u64::from(self.site.layout().geometry().piece_length());
        let kept = !self.manners.known || self.manners.keep_alive;
        let least = piece.max(if kept { LEAST } else { LEAST_UNKEPT });
        let goal = rate.saturating_mul(AHEAD).clamp(least, self.limits.max_request.max(least));
        let goal = usize::try_from(goal / u64::from(BLOCK_SIZE)).unwrap_or(usize::MAX).max(1);
        let waiting = self.wanted.len();
        let one_by_one = !self.manners.known || !self.manners.keep_alive;
        if waiting * 2 > goal || (one_by_one && waiting > 0) { 0 } else { goal - waiting }
    }

    /// Asks for a block; what is asked for one after the other and lies so becomes one request. What is
    /// [passing](WebEvent::Passing) need not be requested.
    pub fn ask(&mut self, span: BlockSpan) {
        let parts = self.parts_of(span);
        if self.is_passing(&parts) {
            return self.ask_passing(span, parts);
        }
        self.wanted.push_back(span);
        parts.into_iter().for_each(|part| self.append(part));
    }

    /// Asks for the rest of a block that was begun on an earlier connection. It has to be the first.
    pub fn ask_rest(&mut self, begun: Partial) {
        if self.is_waiting() {
            return self.ask(begun.span);
        }
        let mut had = begun.bytes();
        self.wanted.push_back(begun.span);
        for mut part in self.parts_of(begun.span) {
            let skipped = had.min(part.len);
            had -= skipped;
            part.offset += skipped;
            part.len -= skipped;
            if part.len > 0 {
                self.append(part);
            }
        }
        self.buffers.push_back(begun.buffer);
    }

    /// Whether all of this is in what is still to come of the response at hand.
    fn is_passing(&self, parts: &[Part]) -> bool {
        let Reading::Body(answer) = &self.reading else { return false };
        let comes = |part: &Part| part.source == Some(answer.source) && part.offset >= answer.position;
        answer.whole && answer.serves && parts.iter().all(comes)
    }

    fn ask_passing(&mut self, span: BlockSpan, parts: Vec<Part>) {
        let geometry = self.site.layout().geometry();
        let place = |span: &BlockSpan| geometry.offset(span.piece) + u64::from(span.start);
        // What has been begun stays in front.
        let begun = self.buffers.len();
        let at =
            begun + self.wanted.iter().skip(begun).take_while(|other| place(other) < place(&span)).count();
        self.wanted.insert(at, span);
        for part in parts {
            let behind = |other: &Part| other.source == part.source && other.offset < part.offset;
            let at = self.parts.iter().take_while(|other| behind(other)).count();
            self.parts.insert(at, Part { sent: true, ..part });
        }
    }

    /// Whether anything was asked for that has not come.
    pub fn is_waiting(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// The server takes no more requests: what was not sent is not asked for any more. Answers the blocks.
    pub fn drop_unsent(&mut self) -> Vec<BlockSpan> {
        self.closing = true;
        let passing = match &self.reading {
            Reading::Body(answer) if answer.whole && answer.serves => Some(answer.source),
            _ => None,
        };
        let comes = |part: &&Part| part.sent || part.source.is_none() || part.source == passing;
        let kept = self.parts.iter().take_while(comes).count();
        self.parts.truncate(kept);
        let mut coming: u64 = self.parts.iter().map(|part| part.len).sum();
        coming += self.buffers.iter().map(|buffer| buffer.as_ref().len() as u64).sum::<u64>();
        let mut kept = 0;
        for span in &self.wanted {
            // The last of them may come in part: that is kept for the next connection.
            if coming == 0 {
                break;
            }
            coming = coming.saturating_sub(span.len.into());
            kept += 1;
        }
        self.wanted.split_off(kept).into()
    }

    /// The beginning of the block that was being received, if any.
    pub fn take_partial(&mut self) -> Option<Partial> {
        let (span, buffer) = (self.wanted.pop_front()?, self.buffers.pop_front()?);
        (!buffer.as_ref().is_empty() && !buffer.is_full()).then_some(Partial { span, buffer })
    }

    /// Writes the requests that may be sent now.
    pub fn write_requests(&mut self, user_agent: Option<&str>, out: &mut Outbox) {
        if self.closing {
            return;
        }
        let polite = self.manners.known && self.manners.keep_alive && self.manners.ranges;
        let most = if polite { self.limits.pipeline } else { 1 };
        let mut waiting = 0;
        for part in &mut self.parts {
            let Some(source) = part.source else { continue };
            if waiting == most {
                return;
            }
            waiting += 1;
            if mem::replace(&mut part.sent, true) {
                continue;
            }
            let target = self.site.target(source, part.offset, part.len);
            let range = matches!(source, Source::File(_)).then(|| part.offset..=part.offset + part.len - 1);
            let request = Request {
                host: self.site.host(),
                target: &target,
                user_agent,
                authorization: self.site.authorization(),
                range,
            };
            out.encode(|bytes| request.encode(bytes));
        }
    }

    /// Where the next bytes of the socket belong, at most `most` of them: the blocks that the body at hand is part of, then
    /// `scratch`. Places that are not needed are empty.
    pub fn targets<'a>(
        &'a mut self,
        scratch: &'a mut [u8],
        most: usize,
        pool: &BlockPool,
    ) -> [IoSliceMut<'a>; TARGETS] {
        let certain = usize::try_from(self.plan(pool)).unwrap_or(usize::MAX);
        let (mut targets, mut left) = (Vec::with_capacity(MOST_TARGETS + 1), certain.min(most));
        self.planned = left;
        for buffer in self.buffers.iter_mut().filter(|_| certain > 0) {
            let unfilled = buffer.unfilled_mut();
            let len = unfilled.len().min(left);
            left -= len;
            targets.push(IoSliceMut::new(&mut unfilled[..len]));
        }
        let rest = match &self.reading {
            Reading::Body(_) if certain == 0 => scratch.len(),
            // What follows the body, or all of it has no place yet.
            Reading::Body(answer) if answer.body.certain() > certain as u64 => 0,
            _ => scratch.len().min(HEAD_READ),
        };
        targets.push(IoSliceMut::new(&mut scratch[..rest.min(most - self.planned)]));
        let mut targets = targets.into_iter();
        array::from_fn(|_| targets.next().unwrap_or_else(|| IoSliceMut::new(&mut [])))
    }

    /// `n` bytes were read into the [`targets`](Self::targets), in order.
    pub fn received(&mut self, n: usize, scratch: &[u8]) {
        let direct = n.min(mem::take(&mut self.planned));
        let mut left = direct;
        self.touched = 0;
        for buffer in &mut self.buffers {
            let len = buffer.remaining().min(left);
            buffer.advance(len);
            left -= len;
            self.touched += usize::from(len > 0);
        }
        // Buffers that got nothing are given back.
        while self.buffers.back().is_some_and(|buffer| buffer.as_ref().is_empty()) {
            self.buffers.pop_back();
        }
        if let Reading::Body(answer) = &mut self.reading
            && direct > 0
        {
            answer.body.passed(direct as u64);
            took(answer, &mut self.parts, direct as u64);
        }
        self.inbox.push(&scratch[..scratch.len().min(n - direct)]);
    }

    /// The next thing that came to pass, or `None` until more bytes come.
    ///
    /// # Errors
    /// What the server sent is of no use; the connection is to be closed.
    pub fn next(&mut self, pool: &BlockPool) -> Result<Option<WebEvent>, WebError> {
        use WebEvent::{Over, Redirect, Refused};
        if self.finished {
            self.inbox = Inbox::default();
            return Ok(None);
        }
        let event = self.advance(pool);
        self.finished = matches!(event, Err(_) | Ok(Some(Over | Redirect { .. } | Refused { .. })));
        event
    }

    /// Makes buffers ready for what comes next, and says how many of the next bytes belong into them.
    fn plan(&mut self, pool: &BlockPool) -> u64 {
        let Reading::Body(answer) = &self.reading else { return 0 };
        let (skip, len) = useful(answer, self.parts.front());
        if skip > 0 || len == 0 || !self.inbox.unread().is_empty() {
            return 0;
        }
        let certain = len.min(answer.body.certain());
        let mut room: u64 = self.buffers.iter().map(|buffer| buffer.remaining() as u64).sum();
        let most = MOST_TARGETS.min(self.touched + 2);
        while room < certain && self.buffers.len() < most {
            let Some(span) = self.wanted.get(self.buffers.len()) else { break };
            room += u64::from(span.len);
            self.buffers.push_back(pool.take(span.len));
        }
        certain.min(room)
    }

    fn parts_of(&self, span: BlockSpan) -> Vec<Part> {
        let part = |source, offset, len: u32| Part { source, offset, len: len.into(), sent: false };
        if self.site.kind() == pilotfish_plugin::ConnectionType::HTTP_SEED {
            return vec![part(Some(Source::Piece(span.piece)), span.start.into(), span.len)];
        }
        let files = self.site.layout().files();
        let spans = self.site.layout().spans(span);
        let spans = spans.map(|span| {
            let source = (!files[span.file].pad).then_some(Source::File(span.file));
            part(source, span.offset, span.len)
        });
        spans.collect()
    }

    fn append(&mut self, part: Part) {
        if let Some(last) = self.parts.back_mut()
            && last.source == part.source
            && last.offset + last.len == part.offset
            && !last.sent
            && last.len + part.len <= self.limits.max_request.max(BLOCK_SIZE.into())
        {
            last.len += part.len;
        } else {
            self.parts.push_back(part);
        }
    }
}
