use std::sync::Arc;

use pilotfish_plugin::ConnectionType;
use proptest::prelude::*;

use super::*;
use crate::metainfo::{BlockSpan, FileEntry, FileLayout};
use crate::peer::Outbox;
use crate::wire::BlockPool;

const PIECE: u32 = 32 << 10;

fn layout(lengths: &[u64]) -> Arc<FileLayout> {
    let file = |(i, length): (usize, &u64)| FileEntry::new(format!("n/{i}"), *length);
    let files = lengths.iter().enumerate().map(file).collect();
    Arc::new(FileLayout::new("n", PIECE, files).unwrap())
}

fn single(length: u64) -> Arc<FileLayout> {
    Arc::new(FileLayout::new("n", PIECE, vec![FileEntry::new("n", length)]).unwrap())
}

/// Bytes that tell where they are.
fn content(layout: &FileLayout) -> Vec<u8> {
    (0..layout.geometry().total()).map(|i| (i % 251) as u8 ^ (i >> 8) as u8).collect()
}

/// A client, and what it has received.
struct Talk {
    link: WebLink,
    pool: BlockPool,
    events: Vec<WebEvent>,
    got: Vec<(BlockSpan, Vec<u8>)>,
    /// Whether it asks for all that passes.
    greedy: bool,
    /// What it still wants then.
    left: Vec<BlockSpan>,
}

impl Talk {
    fn new(layout: Arc<FileLayout>, manners: Manners) -> Self {
        let site = Site::new("http://h/", ConnectionType::URL_SEED, layout, [0; 20]).unwrap();
        let link = WebLink::new(WebSeedId(1), site, manners, WebLimits { max_request: 1 << 20, pipeline: 5 });
        let (events, got, left) = Default::default();
        Self { link, pool: BlockPool::new(100), events, got, greedy: false, left }
    }

    fn blocks(&self) -> Vec<BlockSpan> {
        let geometry = self.link.site().layout().geometry();
        geometry.pieces().flat_map(|piece| geometry.blocks(piece)).collect()
    }

    /// What it asks for now, request by request: the target, and the range.
    fn requests(&mut self) -> Vec<(String, u64, u64)> {
        let mut outbox = Outbox::default();
        self.link.write_requests(Some("test"), &mut outbox);
        let mut slices = Vec::new();
        outbox.slices(usize::MAX, usize::MAX, &mut slices);
        let text: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let text = String::from_utf8(text).unwrap();
        let read = |request: &str| {
            let target = request.split(' ').nth(1).unwrap().to_owned();
            let range = request.split("bytes=").nth(1).unwrap().split("\r\n").next().unwrap();
            let (first, last) = range.split_once('-').unwrap();
            (target, first.parse().unwrap(), last.parse().unwrap())
        };
        text.split("\r\n\r\n").filter(|request| !request.is_empty()).map(read).collect()
    }

    /// The server says something, which comes in pieces of this size.
    fn hear(&mut self, bytes: &[u8], size: usize) -> Result<(), WebError> {
        let mut scratch = vec![0; 64 << 10];
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut targets = self.link.targets(&mut scratch, usize::MAX, &self.pool);
            let mut n = 0;
            for target in &mut targets {
                let len = target.len().min(rest.len()).min(size - n);
                target[..len].copy_from_slice(&rest[..len]);
                rest = &rest[len..];
                n += len;
            }
            assert!(n > 0, "it takes nothing");
            self.link.received(n, &scratch);
            while let Some(event) = self.link.next(&self.pool)? {
                self.note(event);
            }
        }
        Ok(())
    }

    fn note(&mut self, event: WebEvent) {
        match event {
            WebEvent::Block { span, data } => self.got.push((span, data.to_vec())),
            WebEvent::Passing { file, from, to } if self.greedy => {
                let layout = self.link.site().layout().clone();
                let (start, geometry) = (layout.files()[file].offset, layout.geometry());
                let passes = |span: &BlockSpan| {
                    let at = geometry.offset(span.piece) + u64::from(span.start);
                    at >= start + from && at + u64::from(span.len) <= start + to
                };
                let passing: Vec<BlockSpan> = self.left.extract_if(.., |span| passes(span)).collect();
                passing.into_iter().for_each(|span| self.link.ask(span));
            }
            event => self.events.push(event),
        }
    }

    fn assert_right(&self, asked: &[BlockSpan]) {
        let layout = self.link.site().layout();
        let content = content(layout);
        let spans: Vec<BlockSpan> = self.got.iter().map(|(span, _)| *span).collect();
        assert_eq!(spans, asked);
        for (span, data) in &self.got {
            let at = (layout.geometry().offset(span.piece) + u64::from(span.start)) as usize;
            assert!(data == &content[at..at + span.len as usize], "{span:?}");
        }
    }

    fn over(&self) -> bool {
        self.events.iter().any(|event| matches!(event, WebEvent::Over))
    }
}

const POLITE: Manners = Manners { known: true, keep_alive: true, ranges: true };

/// A response to a request for a range of a file.
fn partial(layout: &FileLayout, (target, first, last): &(String, u64, u64), chunk: Option<usize>) -> Vec<u8> {
    let index: usize = target.rsplit('/').next().unwrap().parse().unwrap_or(0);
    let file = &layout.files()[index];
    let start = (file.offset + first) as usize;
    let body = &content(layout)[start..start + (last - first + 1) as usize];
    let mut out = format!("HTTP/1.1 206 P\r\nContent-Range: bytes {first}-{last}/{}\r\n", file.length);
    match chunk {
        None => {
            out += &format!("Content-Length: {}\r\n\r\n", body.len());
            [out.as_bytes(), body].concat()
        }
        Some(size) => {
            out += "Transfer-Encoding: chunked\r\n\r\n";
            let mut out = out.into_bytes();
            for chunk in body.chunks(size) {
                out.extend(format!("{:x}\r\n", chunk.len()).bytes());
                out.extend(chunk);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\n\r\n");
            out
        }
    }
}

fn whole(layout: &FileLayout, head: &str) -> Vec<u8> {
    [head.as_bytes(), &content(layout)].concat()
}

#[test]
fn nothing_is_pipelined_until_the_server_has_shown_that_it_can() {
    let mut talk = Talk::new(single(200_000), Manners::default());
    let blocks = talk.blocks();
    [0, 1, 4, 5].iter().for_each(|i| talk.link.ask(blocks[*i]));
    let first = talk.requests();
    assert_eq!(first, [("/n".to_owned(), 0, 32_767)]);
    assert!(talk.requests().is_empty());
    let layout = talk.link.site().layout().clone();
    talk.hear(&partial(&layout, &first[0], None), 5000).unwrap();
    talk.link.ask(blocks[8]);
    assert_eq!(talk.requests().len(), 2);
    assert_eq!(talk.link.manners(), POLITE);
    talk.assert_right(&blocks[..2]);
}

#[test]
fn a_whole_file_is_taken_as_it_passes() {
    let mut talk = Talk::new(single(300_000), Manners::default());
    let mut left = talk.blocks();
    let all = left.clone();
    left.drain(4..6).for_each(|span| talk.link.ask(span));
    (talk.greedy, talk.left) = (true, left);
    assert_eq!(talk.requests().len(), 1);
    let layout = talk.link.site().layout().clone();
    talk.hear(&whole(&layout, "HTTP/1.0 200 OK\r\nContent-Length: 300000\r\n\r\n"), 9000).unwrap();
    talk.assert_right(&all);
    assert!(!talk.link.manners().keep_alive && !talk.link.manners().ranges);
}

#[test]
fn what_is_not_wanted_of_a_whole_file_is_not_waited_for() {
    let mut talk = Talk::new(single(3_000_000), Manners::default());
    let blocks = talk.blocks();
    talk.link.ask(blocks[1]);
    talk.requests();
    let layout = talk.link.site().layout().clone();
    let response = whole(&layout, "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n");
    talk.hear(&response[..100_000], 7000).unwrap();
    talk.assert_right(&blocks[1..2]);
    assert!(talk.over());
}

#[test]
fn a_connection_that_closes_after_its_answer_takes_no_more_requests() {
    let mut talk = Talk::new(single(200_000), POLITE);
    let blocks = talk.blocks();
    [0, 4, 8].iter().for_each(|i| talk.link.ask(blocks[*i]));
    let requests = talk.requests();
    assert_eq!(requests.len(), 3);
    talk.link.ask(blocks[2]);
    let layout = talk.link.site().layout().clone();
    let text = String::from_utf8_lossy(&partial(&layout, &requests[0], None)).into_owned();
    let head = text.split("\r\n\r\n").next().unwrap().to_owned() + "\r\nConnection: close\r\n\r\n";
    talk.hear(head.as_bytes(), 1000).unwrap();
    assert_eq!(talk.link.drop_unsent(), [blocks[2]]);
    assert!(talk.requests().is_empty());
    assert_eq!(talk.link.room(1 << 30), 0);
}

#[test]
fn a_block_that_broke_off_is_finished_on_the_next_connection() {
    let mut talk = Talk::new(single(100_000), POLITE);
    let block = talk.blocks()[1];
    talk.link.ask(block);
    let requests = talk.requests();
    let layout = talk.link.site().layout().clone();
    let response = partial(&layout, &requests[0], None);
    talk.hear(&response[..response.len() - 1000], 3000).unwrap();
    let part = talk.link.take_partial().unwrap();
    assert_eq!(part.span, block);
    let mut next = Talk::new(layout.clone(), POLITE);
    next.link.ask_rest(part);
    let requests = next.requests();
    assert_eq!(requests, [("/n".to_owned(), 2 * 16_384 - 1000, 2 * 16_384 - 1)]);
    next.hear(&partial(&layout, &requests[0], None), 100).unwrap();
    next.assert_right(&[block]);
}

#[test]
fn padding_is_not_asked_for() {
    let pad = |length| FileEntry { pad: true, ..FileEntry::new(".pad/x", length) };
    let files = vec![FileEntry::new("n/a", 10_000), pad(22_768), FileEntry::new("n/b", 100)];
    let layout = Arc::new(FileLayout::new("n", PIECE, files).unwrap());
    let mut talk = Talk::new(layout, POLITE);
    let blocks = talk.blocks();
    blocks.iter().for_each(|block| talk.link.ask(*block));
    assert_eq!(talk.requests(), [("/n/a".to_owned(), 0, 9999), ("/n/b".to_owned(), 0, 99)]);
    let part = |first: usize, last: usize, total: usize, byte: u8| {
        let head = format!("HTTP/1.1 206 P\r\nContent-Range: bytes {first}-{last}/{total}\r\n");
        let head = format!("{head}Content-Length: {}\r\n\r\n", last - first + 1);
        [head.into_bytes(), vec![byte; last - first + 1]].concat()
    };
    talk.hear(&[part(0, 9999, 10_000, 1), part(0, 99, 100, 2)].concat(), 777).unwrap();
    let got: Vec<u8> = talk.got.into_iter().flat_map(|(_, data)| data).collect();
    assert_eq!(got, [vec![1; 10_000], vec![0; 22_768], vec![2; 100]].concat());
}

#[test]
fn what_was_not_asked_for_is_an_error() {
    let error = |response: &str| {
        let mut talk = Talk::new(single(100_000), POLITE);
        let block = talk.blocks()[1];
        talk.link.ask(block);
        talk.requests();
        talk.hear(response.as_bytes(), 1000).unwrap_err()
    };
    let head = |status: &str, fields: &str| format!("HTTP/1.1 {status} x\r\n{fields}\r\n\r\n");
    assert_eq!(
        error(&head("206", "Content-Range: bytes 0-16383/100000\r\nContent-Length: 16384")),
        WebError::Range
    );
    assert_eq!(error(&head("206", "Content-Length: 16384")), WebError::Range);
    assert_eq!(
        error(&head("206", "Content-Range: bytes 16384-32767/*\r\nContent-Length: 3")),
        WebError::Range
    );
    let length = |found| WebError::Length { file: 0, found, expected: 100_000 };
    assert_eq!(error(&head("206", "Content-Range: bytes 16384-32767/100001")), length(100_001));
    assert_eq!(error(&head("200", "Content-Length: 5")), length(5));
    let chunk = "Transfer-Encoding: chunked\r\nContent-Range: bytes 16384-32767/100000\r\n\r\n3\r\nabc\r\n0";
    assert_eq!(error(&head("206", chunk)), WebError::Short);
    let mut idle = Talk::new(single(100_000), POLITE);
    assert_eq!(
        idle.hear(b"HTTP/1.1 408 x\r\n\r\n", 9),
        Err(WebError::Http(crate::wire::http::HttpError::Unasked))
    );
}

#[test]
fn refusals_and_redirects_are_told() {
    let told = |response: &str| {
        let mut talk = Talk::new(single(100_000), POLITE);
        let block = talk.blocks()[0];
        talk.link.ask(block);
        talk.requests();
        talk.hear(format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 {response}\r\n\r\n").as_bytes(), 10)
            .unwrap();
        talk.events.remove(0)
    };
    let refused = told("503 Busy\r\nRetry-After: 7");
    assert!(matches!(refused, WebEvent::Refused { status: 503, retry_after: Some(7), .. }), "{refused:?}");
    let moved = told("301 x\r\nLocation: /y");
    assert!(
        matches!(&moved, WebEvent::Redirect { location: Some(to), asked, .. } if to == "/y" && asked.path() == "/n"),
        "{moved:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn blocks_come_out_right_however_files_and_bytes_are_cut(
        lengths in prop::collection::vec(0_u64..90_000, 1..7),
        wanted in prop::collection::vec(any::<prop::sample::Index>(), 1..12),
        chunk in prop::option::of(1_usize..9_000),
        size in 1_usize..40_000,
        manners in prop::sample::select(vec![POLITE, Manners::default()]),
    ) {
        prop_assume!(lengths.iter().sum::<u64>() > 0);
        let layout = layout(&lengths);
        let mut talk = Talk::new(layout.clone(), manners);
        let blocks = talk.blocks();
        let mut asked: Vec<BlockSpan> = Vec::new();
        for index in wanted {
            let block = blocks[index.index(blocks.len())];
            if !asked.contains(&block) {
                asked.push(block);
                talk.link.ask(block);
            }
        }
        // It answers as long as it is asked.
        loop {
            let requests = talk.requests();
            if requests.is_empty() {
                break;
            }
            let responses: Vec<u8> =
                requests.iter().flat_map(|request| partial(&layout, request, chunk)).collect();
            talk.hear(&responses, size).unwrap();
        }
        prop_assert!(!talk.link.is_waiting());
        talk.assert_right(&asked);
        talk.got.clear();
        prop_assert_eq!(talk.pool.in_use(), 0);
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(bytes: Vec<u8>, status in 100_u16..600, fields in "[a-zA-Z-]{1,20}: [ -~]{0,30}") {
        let mut talk = Talk::new(single(100_000), POLITE);
        talk.blocks().iter().for_each(|block| talk.link.ask(*block));
        talk.requests();
        let head = format!("HTTP/1.1 {status} x\r\n{fields}\r\nContent-Length: 100000\r\n\r\n");
        let _ = talk.hear(&[head.as_bytes(), &bytes].concat(), 50);
    }
}
