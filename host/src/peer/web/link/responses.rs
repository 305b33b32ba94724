//! What a web seed answers, and where its bytes belong.

use std::collections::VecDeque;
use std::mem;

use super::{
    Answer, MOST_INTERIM, MOST_SURPLUS, Manners, PASSING, Part, Reading, Source, WebError, WebEvent, WebLink,
};
use crate::metainfo::{BLOCK_SIZE, BlockSpan};
use crate::wire::http::{Body, Head, HttpError, Portion};
use crate::wire::{BlockBuf, BlockPool};

impl WebLink {
    pub(super) fn advance(&mut self, pool: &BlockPool) -> Result<Option<WebEvent>, WebError> {
        loop {
            if let Some(block) = self.take_block() {
                return Ok(Some(block));
            }
            if self.pad(pool) {
                continue;
            }
            let step = match self.reading {
                Reading::Head => self.read_head()?,
                Reading::Body(_) => self.read_body(pool)?,
            };
            match step {
                Step::Event(event) => return Ok(Some(event)),
                Step::On => {}
                Step::Wait => {
                    self.inbox.settle();
                    return Ok(None);
                }
            }
        }
    }

    fn take_block(&mut self) -> Option<WebEvent> {
        self.buffers.front().filter(|buffer| buffer.is_full())?;
        let (span, buffer) = (self.wanted.pop_front()?, self.buffers.pop_front()?);
        Some(WebEvent::Block { span, data: buffer.freeze() })
    }

    /// Fills padding in, a block at a time.
    fn pad(&mut self, pool: &BlockPool) -> bool {
        const ZEROS: [u8; BLOCK_SIZE as usize] = [0; BLOCK_SIZE as usize];
        let Some(part) = self.parts.front_mut().filter(|part| part.source.is_none()) else { return false };
        let len = part.len.min(BLOCK_SIZE.into());
        part.len -= len;
        if part.len == 0 {
            self.parts.pop_front();
        }
        fill(&mut self.buffers, &self.wanted, &ZEROS[..len as usize], pool);
        true
    }

    fn read_head(&mut self) -> Result<Step, WebError> {
        if self.inbox.unread().is_empty() {
            return Ok(Step::Wait);
        }
        let Some(part) = self.parts.front().copied().filter(|part| part.sent) else {
            return Err(HttpError::Unasked.into());
        };
        let Some(source) = part.source else { return Err(HttpError::Unasked.into()) };
        let Some((head, length)) = Head::parse(self.inbox.unread())? else { return Ok(Step::Wait) };
        self.inbox.consume(length);
        if head.is_interim() {
            self.interim += 1;
            return if self.interim > MOST_INTERIM { Err(HttpError::NotHttp.into()) } else { Ok(Step::On) };
        }
        self.interim = 0;
        if head.is_redirect() {
            let asked = self.site.locate(source, part.offset, part.len);
            return Ok(Step::Event(WebEvent::Redirect { source, asked, location: head.location }));
        }
        if !matches!(head.status, 200 | 206) {
            let Head { status, reason, retry_after, .. } = head;
            return Ok(Step::Event(WebEvent::Refused { source, status, reason, retry_after }));
        }
        let answer = self.answer(source, &part, &head)?;
        self.manners = Manners { known: true, keep_alive: !head.close, ranges: !answer.whole };
        self.reading = Reading::Body(answer);
        Ok(Step::Event(WebEvent::Answered { closes: head.close, server: head.server }))
    }

    /// What a head promises, if that is what was asked for.
    fn answer(&self, source: Source, part: &Part, head: &Head) -> Result<Answer, WebError> {
        let body = head.body;
        let answer = |position, end, whole| Answer {
            body,
            source,
            position,
            end,
            whole,
            serves: true,
            announced: position,
        };
        let Source::File(file) = source else {
            let right = body.left().is_none_or(|left| left == part.len);
            let answer = answer(part.offset, part.offset + part.len, false);
            return if right { Ok(answer) } else { Err(WebError::Range) };
        };
        let expected = self.site.layout().files().get(file).map_or(0, |file| file.length);
        let of_length = |found| match found == expected {
            true => Ok(()),
            false => Err(WebError::Length { file, found, expected }),
        };
        if head.status == 200 {
            body.left().map_or(Ok(()), of_length)?;
            return Ok(answer(0, expected, true));
        }
        let range = head.range.ok_or(WebError::Range)?;
        range.total.map_or(Ok(()), of_length)?;
        let holds = range.first <= part.offset && range.last >= part.offset + part.len - 1;
        let framed = body.left().is_none_or(|left| left == range.last - range.first + 1);
        if holds && framed { Ok(answer(range.first, range.last + 1, false)) } else { Err(WebError::Range) }
    }

    fn read_body(&mut self, pool: &BlockPool) -> Result<Step, WebError> {
        let Self { reading, inbox, parts, buffers, wanted, .. } = self;
        let Reading::Body(answer) = reading else { return Ok(Step::On) };
        if let (true, Source::File(file)) = (answer.whole && answer.serves, answer.source) {
            let (from, to) = (answer.announced, (answer.position + PASSING).min(answer.end));
            if from < answer.end && from < answer.position + PASSING / 2 {
                answer.announced = to;
                return Ok(Step::Event(WebEvent::Passing { file, from, to }));
            }
        }
        if !answer.serves && answer.surplus() > MOST_SURPLUS {
            return Ok(Step::Event(WebEvent::Over));
        }
        match answer.body.next(inbox.unread())? {
            Portion::Incomplete => Ok(Step::Wait),
            Portion::Framing(n) => {
                inbox.consume(n);
                Ok(Step::On)
            }
            Portion::Data(n) => {
                let mut data = &inbox.unread()[..n];
                while !data.is_empty() {
                    let (skip, len) = useful(answer, parts.front());
                    let (passed, rest) = data.split_at(cut(skip, data));
                    answer.position += passed.len() as u64;
                    let (taken, rest) = rest.split_at(cut(len, rest));
                    fill(buffers, wanted, taken, pool);
                    took(answer, parts, taken.len() as u64);
                    data = rest;
                }
                inbox.consume(n);
                if answer.position > answer.end { Err(WebError::Range) } else { Ok(Step::On) }
            }
            Portion::Over => self.end_response(),
        }
    }

    fn end_response(&mut self) -> Result<Step, WebError> {
        let Reading::Body(answer) = mem::replace(&mut self.reading, Reading::Head) else {
            return Ok(Step::On);
        };
        if answer.serves && self.parts.front().is_some_and(|part| part.sent) {
            return Err(WebError::Short);
        }
        let over = self.closing && !self.parts.iter().any(|part| part.sent);
        Ok(Step::Event(if over { WebEvent::Over } else { WebEvent::Done }))
    }
}

impl Answer {
    /// How many bytes are still to come, of use or not.
    pub(super) fn surplus(&self) -> u64 {
        match self.body {
            Body::UntilClose => u64::MAX,
            body => body.left().unwrap_or(self.end.saturating_sub(self.position)),
        }
    }
}

/// What reading brought.
enum Step {
    Event(WebEvent),
    On,
    Wait,
}

/// How many of the next bytes are to be passed over, and how many then belong to the front part.
pub(super) fn useful(answer: &Answer, front: Option<&Part>) -> (u64, u64) {
    match front.filter(|part| answer.serves && part.source == Some(answer.source)) {
        Some(part) => (part.offset.saturating_sub(answer.position), part.len),
        None => (u64::MAX, 0),
    }
}

/// So many bytes of the front part came.
pub(super) fn took(answer: &mut Answer, parts: &mut VecDeque<Part>, bytes: u64) {
    answer.position += bytes;
    let Some(front) = parts.front_mut().filter(|_| bytes > 0) else { return };
    front.offset += bytes;
    front.len = front.len.saturating_sub(bytes);
    if front.len > 0 {
        return;
    }
    parts.pop_front();
    // All of a file was sent: the next part may be in what is still to come of it.
    let follows = |part: &&mut Part| {
        answer.whole && part.source == Some(answer.source) && part.offset >= answer.position
    };
    let next = parts.front_mut().filter(follows);
    answer.serves = next.map(|part| part.sent = true).is_some();
}

/// Lays bytes over the blocks that are wanted next. Bytes for which there is no block are dropped: there are none.
fn fill(buffers: &mut VecDeque<BlockBuf>, wanted: &VecDeque<BlockSpan>, mut data: &[u8], pool: &BlockPool) {
    while !data.is_empty() {
        let index = match buffers.iter().position(|buffer| !buffer.is_full()) {
            Some(index) => index,
            None => {
                let Some(span) = wanted.get(buffers.len()) else { return };
                buffers.push_back(pool.take(span.len));
                buffers.len() - 1
            }
        };
        let taken = buffers[index].extend(data);
        data = &data[taken..];
    }
}

pub(super) fn cut(len: u64, data: &[u8]) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX).min(data.len())
}

/// Bytes that arrived and have not been looked at.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    read: usize,
}

impl Inbox {
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.read += n;
    }

    /// Gives back what is not needed while waiting.
    pub(super) fn settle(&mut self) {
        if self.read == self.bytes.len() {
            *self = Self::default();
        } else {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
    }
}
