use proptest::prelude::*;

use super::super::handshake::Handshake;
use super::super::message::{HashKind, HashMessage, RawRequest, piece_header};
use super::*;
use crate::metainfo::BLOCK_SIZE;

fn handshake() -> Handshake {
    Handshake { reserved: Reserved::FAST, info_hash: [7; 20], peer_id: [9; 20] }
}

/// A decoder whose handshake is over.
fn connected() -> Decoder {
    let mut decoder = Decoder::new(MAX_MESSAGE);
    decoder.feed(&handshake().encode());
    assert_eq!(events(&mut decoder, &pool()).len(), 2);
    decoder
}

fn pool() -> BlockPool {
    BlockPool::new(4)
}

fn encoded(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut out));
    out
}

/// Everything that is complete; panics if the peer is at fault.
fn events(decoder: &mut Decoder, pool: &BlockPool) -> Vec<Event> {
    std::iter::from_fn(|| decoder.next(pool).unwrap()).collect()
}

/// What becomes of a fresh connection that sends `bytes` after the handshake.
fn refusal(bytes: &[u8]) -> Option<DecodeError> {
    let (mut decoder, pool) = (connected(), pool());
    decoder.feed(bytes);
    loop {
        match decoder.next(&pool) {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(error) => {
                assert_eq!(decoder.next(&pool), Err(error), "errors are final");
                return Some(error);
            }
        }
    }
}

/// Plays the socket, as [`read_expecting`], where no block is expected.
fn read_in_parts(decoder: &mut Decoder, stream: &[u8], sizes: &[usize], pool: &BlockPool) -> Vec<Event> {
    read_expecting(decoder, stream, sizes, &[0], pool)
}

/// Plays the socket: fills the targets from `stream` in reads of the given sizes, each time with so many blocks expected, and
/// collects the events.
fn read_expecting(
    decoder: &mut Decoder,
    mut stream: &[u8],
    sizes: &[usize],
    expected: &[usize],
    pool: &BlockPool,
) -> Vec<Event> {
    let mut scratch = vec![0; 4096];
    let mut seen = Vec::new();
    for (&size, &expected) in sizes.iter().cycle().zip(expected.iter().cycle()) {
        if stream.is_empty() {
            break;
        }
        let mut left = size;
        let mut n = 0;
        for mut target in decoder.targets(&mut scratch, expected, usize::MAX, pool) {
            let part = target.len().min(left).min(stream.len());
            target[..part].copy_from_slice(&stream[..part]);
            stream = &stream[part..];
            left -= part;
            n += part;
        }
        decoder.received(n, &scratch);
        seen.extend(events(decoder, pool));
    }
    seen
}

#[test]
fn an_idle_connection_costs_little() {
    assert!(size_of::<Decoder>() < 200, "{}", size_of::<Decoder>());
    let mut decoder = connected();
    decoder.feed(&encoded(&vec![Message::Have(1); 1000]));
    assert_eq!(events(&mut decoder, &pool()).len(), 1000);
    assert_eq!(decoder.buffered(), 0);
    decoder.feed(&[encoded(&vec![Message::Have(1); 1000]), vec![0, 0, 0]].concat());
    assert_eq!(events(&mut decoder, &pool()).len(), 1000);
    assert!(decoder.buffered() < 2048, "three bytes keep {} alive", decoder.buffered());
}

#[test]
fn the_info_hash_is_known_before_the_peer_id_has_come() {
    let mut decoder = Decoder::new(MAX_MESSAGE);
    let bytes = handshake().encode();
    decoder.feed(&bytes[..47]);
    assert_eq!(decoder.next(&pool()), Ok(None));
    decoder.feed(&bytes[47..60]);
    let expected = Event::InfoHash { reserved: Reserved::FAST, info_hash: [7; 20] };
    assert_eq!(events(&mut decoder, &pool()), [expected]);
    decoder.feed(&bytes[60..]);
    assert_eq!(events(&mut decoder, &pool()), [Event::PeerId([9; 20])]);
}

#[test]
fn another_protocol_is_refused_at_its_first_wrong_byte() {
    let mut decoder = Decoder::new(MAX_MESSAGE);
    decoder.feed(b"\x13BitT");
    assert_eq!(decoder.next(&pool()), Ok(None));
    decoder.feed(b"0");
    assert_eq!(decoder.next(&pool()), Err(DecodeError::NotBitTorrent));
    let mut decoder = Decoder::new(MAX_MESSAGE);
    decoder.feed(b"GET");
    assert_eq!(decoder.next(&pool()), Err(DecodeError::NotBitTorrent));
}

#[test]
fn wrong_sizes_are_refused_at_the_header() {
    let header = |length: u32, id: u8| [&length.to_be_bytes()[..], &[id]].concat();
    let too_large = |length| Some(DecodeError::PacketTooLarge { length });
    assert_eq!(refusal(&(MAX_MESSAGE + 1).to_be_bytes()), too_large(MAX_MESSAGE + 1));
    assert_eq!(refusal(&u32::MAX.to_be_bytes()), too_large(u32::MAX));
    assert_eq!(refusal(&header(MAX_MESSAGE, id::BITFIELD)), None);
    assert_eq!(refusal(&header(9 + BLOCK_SIZE, id::PIECE)), None);
    assert_eq!(refusal(&header(10 + BLOCK_SIZE, id::PIECE)), too_large(10 + BLOCK_SIZE));
    assert_eq!(refusal(&header(1, id::EXTENDED)), Some(DecodeError::InvalidExtended));
    let fixed = [(0..=3, 1), (4..=4, 5), (6..=6, 13), (8..=8, 13), (9..=9, 3), (13..=13, 5), (14..=15, 1)];
    let fixed = fixed.into_iter().chain([(16..=16, 13), (17..=17, 5), (21..=21, 49), (23..=23, 49)]);
    for (id, right) in fixed.flat_map(|(ids, right)| ids.map(move |id| (id, right))) {
        for length in [right - 1, right + 1] {
            // A length of 0 is a keep-alive and has no id.
            let expected = (length > 0).then_some(DecodeError::WrongSize { id, length });
            assert_eq!(refusal(&header(length, id)), expected, "message {id}");
        }
        assert_eq!(refusal(&header(right, id)), None, "message {id}");
    }
    for (id, length) in [(id::PIECE, 8), (id::HASHES, 48)] {
        assert_eq!(refusal(&header(length, id)), Some(DecodeError::WrongSize { id, length }));
    }
}

#[test]
fn a_block_is_read_into_its_own_buffer() {
    let (mut decoder, pool) = (connected(), pool());
    decoder.feed(&piece_header(3, BLOCK_SIZE, BLOCK_SIZE));
    let started = Event::PieceStarted { piece: 3, start: BLOCK_SIZE, length: BLOCK_SIZE };
    assert_eq!(events(&mut decoder, &pool), [started]);
    assert_eq!((pool.in_use(), decoder.buffered()), (1, 0));

    let mut scratch = vec![0; 65_536];
    let [block, ahead, ..] = decoder.targets(&mut scratch, 0, usize::MAX, &pool).map(|mut target| {
        target.fill(5);
        target.len()
    });
    assert_eq!((block, ahead), (BLOCK_SIZE as usize, READ_AHEAD));
    // Two bytes beyond the block: the start of a length prefix.
    scratch[..2].fill(0);
    decoder.received(block + 2, &scratch);
    let data = Bytes::from(vec![5; BLOCK_SIZE as usize]);
    let whole = Event::Message(Message::Piece { piece: 3, start: BLOCK_SIZE, data });
    assert_eq!(events(&mut decoder, &pool), [whole]);
    assert_eq!((pool.in_use(), decoder.unread_mut().len()), (0, 2));
    assert_eq!(decoder.targets(&mut scratch, 9, usize::MAX, &pool)[0].len(), 65_536);
}

#[test]
fn blocks_that_are_expected_are_read_into_their_own_buffers_at_once() {
    let (mut decoder, pool) = (connected(), pool());
    let block =
        |piece| Message::Piece { piece, start: 0, data: Bytes::from(vec![piece as u8; BLOCK_SIZE as usize]) };
    let blocks: Vec<_> = (0..20).map(block).collect();
    let stream = encoded(&blocks);
    let expected: Vec<Event> = blocks.into_iter().map(Event::Message).collect();
    let whole = BLOCK_SIZE as usize + PIECE_HEADER_LEN;
    let mut scratch = vec![0; 65_536];
    let (mut seen, mut sent, mut reads) = (Vec::new(), 0, Vec::new());
    while sent < stream.len() {
        let targets = decoder.targets(&mut scratch, 19 - sent / whole, usize::MAX, &pool);
        let mut n = 0;
        for mut target in targets {
            let part = target.len().min(stream.len() - sent - n);
            target[..part].copy_from_slice(&stream[sent + n..][..part]);
            n += part;
        }
        (sent, reads) = (sent + n, [reads, vec![n / whole]].concat());
        decoder.received(n, &scratch);
        seen.extend(
            events(&mut decoder, &pool).into_iter().filter(|event| matches!(event, Event::Message(_))),
        );
    }
    // A little more each time, for as long as it comes.
    assert_eq!(reads[..4], [2, 4, 6, 7]);
    assert_eq!(seen, expected);
    drop((seen, expected));
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn what_was_read_ahead_is_unread_for_a_cipher_that_begins_before_it() {
    let (mut decoder, pool) = (connected(), pool());
    let block = Message::Piece { piece: 1, start: 0, data: Bytes::from(vec![7; BLOCK_SIZE as usize]) };
    let stream = encoded(&[block.clone(), block]);
    let mut scratch = vec![0; 4096];
    let mut n = 0;
    for mut target in decoder.targets(&mut scratch, 2, usize::MAX, &pool) {
        let part = target.len().min(stream.len() - n);
        target[..part].copy_from_slice(&stream[n..n + part]);
        n += part;
    }
    decoder.received(n, &scratch);
    assert!(matches!(decoder.next(&pool), Ok(Some(Event::Message(_)))));
    assert_eq!(decoder.take_unread(), stream[stream.len() / 2..]);
}

#[test]
fn a_dropped_connection_gives_its_block_back() {
    let (mut decoder, pool) = (connected(), pool());
    decoder.feed(&piece_header(0, 0, 100));
    assert_eq!((events(&mut decoder, &pool).len(), pool.in_use()), (1, 1));
    drop(decoder);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn fragments_come_only_when_asked_for_and_at_a_bounded_cost() {
    let payload = Bytes::from(vec![1; 5000]);
    let stream = encoded(&[Message::Extended { id: 3, payload: payload.clone() }]);
    let whole = Event::Message(Message::Extended { id: 3, payload: payload.clone() });
    assert_eq!(read_in_parts(&mut connected(), &stream, &[1], &pool()), std::slice::from_ref(&whole));

    let mut decoder = connected();
    decoder.set_fragments(true);
    let mut seen = read_in_parts(&mut decoder, &stream, &[1], &pool());
    assert_eq!(seen.pop(), Some(whole));
    let mut shown = Vec::new();
    for event in seen {
        let Event::Fragment { extended: true, id: 3, length: 5000, body } = event else {
            panic!("{event:?}")
        };
        assert_eq!(body, payload[..body.len()]);
        shown.push(body.len());
    }
    assert!(shown.is_sorted() && shown[0] == 0 && shown.iter().sum::<usize>() < 5 * 5000, "{shown:?}");

    decoder.feed(&[0, 0, 0, 3, 99, 42]);
    let body = Bytes::from_static(&[42]);
    assert_eq!(events(&mut decoder, &pool()), [Event::Fragment { extended: false, id: 99, length: 2, body }]);
}

#[test]
fn a_cipher_may_begin_after_any_message() {
    let stream = encoded(&[Message::Choke, Message::Have(1), Message::Unchoke]);
    let encrypted: Vec<u8> =
        stream.iter().enumerate().map(|(i, byte)| if i < 5 { *byte } else { !byte }).collect();
    let (mut decoder, pool) = (connected(), pool());
    decoder.feed(&encrypted[..7]);
    assert_eq!(decoder.next(&pool), Ok(Some(Event::Message(Message::Choke))));
    decoder.unread_mut().iter_mut().for_each(|byte| *byte = !*byte);
    let unread = decoder.take_unread();
    assert_eq!((&unread[..], decoder.next(&pool)), (&stream[5..7], Ok(None)));
    decoder.feed(&unread);
    decoder.feed(&stream[7..]);
    assert_eq!(events(&mut decoder, &pool), [Message::Have(1), Message::Unchoke].map(Event::Message));
}

fn any_bytes(longest: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..longest).prop_map(Bytes::from)
}

fn any_request() -> impl Strategy<Value = RawRequest> {
    any::<[u32; 3]>().prop_map(|[piece, start, length]| RawRequest { piece, start, length })
}

fn any_message() -> impl Strategy<Value = Message> {
    let hash = |kind| move |payload: Vec<u8>| Message::Hash(HashMessage { kind, payload: payload.into() });
    let hash_range = || prop::collection::vec(any::<u8>(), 48);
    prop_oneof![
        Just(Message::KeepAlive),
        Just(Message::Choke),
        Just(Message::Unchoke),
        Just(Message::Interested),
        Just(Message::NotInterested),
        Just(Message::HaveAll),
        Just(Message::HaveNone),
        any::<u32>().prop_map(Message::Have),
        any::<u32>().prop_map(Message::Suggest),
        any::<u32>().prop_map(Message::AllowedFast),
        any::<u16>().prop_map(Message::Port),
        any_bytes(300).prop_map(Message::Bitfield),
        any_request().prop_map(Message::Request),
        any_request().prop_map(Message::Cancel),
        any_request().prop_map(Message::Reject),
        (any::<u32>(), any::<u32>(), any_bytes(BLOCK_SIZE as usize + 1))
            .prop_map(|(piece, start, data)| Message::Piece { piece, start, data }),
        (any::<u8>(), any_bytes(3000)).prop_map(|(id, payload)| Message::Extended { id, payload }),
        (any::<u8>(), any_bytes(300)).prop_filter_map("known", |(id, payload)| message::is_unknown(id)
            .then_some(Message::Unknown { id, payload })),
        hash_range().prop_map(hash(HashKind::Request)),
        hash_range().prop_map(hash(HashKind::Reject)),
        prop::collection::vec(any::<u8>(), 48..200).prop_map(hash(HashKind::Hashes)),
    ]
}

proptest! {
    #[test]
    fn every_message_survives_any_splitting(
        messages in prop::collection::vec(any_message(), 1..12),
        sizes in prop::collection::vec(prop_oneof![1_usize..20, 1_usize..20_000], 1..8),
        fragments: bool,
    ) {
        let pool = pool();
        let mut decoder = Decoder::new(MAX_MESSAGE);
        decoder.set_fragments(fragments);
        let stream = [&handshake().encode()[..], &encoded(&messages)].concat();
        let mut seen = read_in_parts(&mut decoder, &stream, &sizes, &pool);
        let rest = seen.split_off(2);
        prop_assert_eq!(&seen[1], &Event::PeerId([9; 20]));

        let mut expected = messages.into_iter();
        let mut started = None;
        for event in rest {
            match event {
                Event::Message(message) => {
                    if let (Message::Piece { piece, start, data }, Some(header)) = (&message, started.take()) {
                        prop_assert_eq!((*piece, *start, data.len() as u32), header);
                    }
                    prop_assert_eq!(Some(message), expected.next());
                }
                Event::PieceStarted { piece, start, length } => started = Some((piece, start, length)),
                Event::Fragment { .. } => prop_assert!(fragments),
                other => prop_assert!(false, "{other:?}"),
            }
        }
        prop_assert_eq!(expected.next(), None);
        prop_assert_eq!((pool.in_use(), decoder.buffered()), (0, 0));
    }

    #[test]
    fn blocks_survive_any_splitting_whatever_was_expected(
        messages in prop::collection::vec(prop_oneof![
            4 => (0..9_u32).prop_map(|piece| (piece, BLOCK_SIZE)),
            1 => (0..9_u32, 1..BLOCK_SIZE),
            1 => (0..9_u32).prop_map(|piece| (piece, 0)),
        ], 1..20),
        sizes in prop::collection::vec(prop_oneof![1_usize..40, 1_usize..200_000], 1..8),
        blocks in prop::collection::vec(0..9_usize, 1..8),
    ) {
        let (mut decoder, pool) = (connected(), pool());
        let message = |(index, (piece, length)): (usize, &(u32, u32))| match length {
            0 => Message::Have(*piece),
            _ => Message::Piece { piece: *piece, start: 0, data: Bytes::from(vec![index as u8; *length as usize]) },
        };
        let messages: Vec<_> = messages.iter().enumerate().map(message).collect();
        let stream = encoded(&messages);
        let seen = read_expecting(&mut decoder, &stream, &sizes, &blocks, &pool);
        let seen = seen.into_iter().filter_map(|event| match event {
            Event::Message(message) => Some(message),
            _ => None,
        });
        prop_assert!(seen.eq(messages));
        prop_assert_eq!((pool.in_use(), decoder.buffered()), (0, 0));
    }

    #[test]
    fn garbage_is_refused_or_waited_for_but_never_a_panic(
        garbage in prop::collection::vec(prop_oneof![3 => 0_u8..24, 1 => any::<u8>()], 0..3000),
        size in 1_usize..200,
    ) {
        let (mut decoder, pool) = (connected(), pool());
        decoder.set_fragments(true);
        for part in garbage.chunks(size) {
            decoder.feed(part);
            while let Ok(Some(_)) = decoder.next(&pool) {}
        }
    }
}
