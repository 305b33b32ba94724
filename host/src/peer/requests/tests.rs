use proptest::prelude::*;

use super::*;
use crate::metainfo::Geometry;

fn blocks() -> impl Iterator<Item = BlockSpan> {
    let geometry = Geometry::new(1 << 40, 1 << 24).unwrap();
    geometry.pieces().flat_map(move |piece| geometry.blocks(piece))
}

fn at(start: Instant, millis: u64) -> Instant {
    start + Duration::from_millis(millis)
}

const UNLIMITED: RequestLimits = RequestLimits {
    max_out_request_queue: 100_000,
    request_queue_time: Duration::from_secs(3),
    piece_timeout: Duration::from_secs(20),
    request_timeout: Duration::from_secs(60),
};

/// Downloads over a link of `bytes_per_ms` and `rtt` ms, in steps of 1 ms; answers the bytes that arrived in each second.
fn download(queue: &mut RequestQueue, start: Instant, bytes_per_ms: u64, rtt: u64, seconds: u64) -> Vec<u64> {
    let mut supply = blocks();
    let mut on_the_way: VecDeque<(u64, BlockSpan)> = VecDeque::new();
    let (mut free_at_byte, mut arrived) = (0, vec![0; seconds as usize]);
    for milli in 0..seconds * 1000 {
        let now = at(start, milli);
        while on_the_way.front().is_some_and(|(due, _)| *due <= milli) {
            let (_, span) = on_the_way.pop_front().unwrap();
            assert!(queue.received(span, now).is_some());
            arrived[(milli / 1000) as usize] += u64::from(span.len);
        }
        if milli % 1000 == 700 {
            queue.tick(now);
        }
        for span in supply.by_ref().take(queue.room()) {
            assert!(queue.sent(span, now));
            free_at_byte = free_at_byte.max((milli + rtt) * bytes_per_ms) + u64::from(span.len);
            on_the_way.push_back((free_at_byte.div_ceil(bytes_per_ms), span));
        }
    }
    arrived
}

#[test]
fn a_fat_long_link_is_full_within_a_second_and_a_half() {
    let start = Instant::now();
    let mut queue = RequestQueue::new(UNLIMITED, start);
    // 10 Gbit/s, 100 ms.
    let arrived = download(&mut queue, start, 1_250_000, 100, 4);
    assert!(arrived[1] > 1_250_000_000 * 4 / 5, "{arrived:?}");
    assert!(arrived[2] > 1_250_000_000 * 99 / 100, "{arrived:?}");
    assert!(arrived[3] > 1_250_000_000 * 99 / 100, "{arrived:?}");
}

#[test]
fn a_slow_link_is_not_asked_for_more_than_three_seconds_bring() {
    let start = Instant::now();
    let mut queue = RequestQueue::new(RequestLimits::default(), start);
    let arrived = download(&mut queue, start, 100, 50, 20);
    assert!(arrived[1..].iter().all(|&bytes| bytes > 80_000), "{arrived:?}");
    // 100 kB/s for three seconds are 18 blocks.
    assert!((16..=20).contains(&queue.depth()), "{}", queue.depth());
    let rtt = queue.mean_rtt().unwrap();
    assert!((2_000..4_000).contains(&rtt.as_millis()), "{rtt:?}");
}

#[test]
fn depth_obeys_our_cap_and_the_peers() {
    let start = Instant::now();
    let mut queue = RequestQueue::new(RequestLimits { max_out_request_queue: 50, ..UNLIMITED }, start);
    download(&mut queue, start, 100_000, 10, 3);
    assert_eq!(queue.depth(), 50);
    queue.set_peer_limit(20);
    assert_eq!((queue.depth(), queue.room()), (20, 0));
    queue.set_peer_limit(0);
    assert_eq!(queue.depth(), 50);
}

#[test]
fn answers_in_any_order_find_their_request_and_strangers_do_not() {
    let start = Instant::now();
    let mut queue = RequestQueue::new(UNLIMITED, start);
    let spans: Vec<_> = blocks().take(4).collect();
    for (millis, &span) in spans.iter().enumerate() {
        assert!(queue.sent(span, at(start, millis as u64)));
    }
    assert!(!queue.sent(spans[0], start));
    assert_eq!(queue.outstanding_bytes(), 4 * u64::from(BLOCK_SIZE));
    assert_eq!(queue.received(spans[2], at(start, 50)), Some(Duration::from_millis(48)));
    assert_eq!(queue.received(spans[2], at(start, 51)), None);
    assert!(queue.rejected(spans[0], at(start, 51)) && !queue.rejected(spans[0], at(start, 51)));
    assert_eq!(queue.clear(), [spans[1], spans[3]]);
    assert!(queue.is_empty() && queue.outstanding_bytes() == 0 && queue.next_timeout().is_none());
    assert_eq!(queue.received(spans[1], at(start, 52)), None);
}

#[test]
fn a_first_request_that_is_never_answered_costs_no_memory_and_times_out() {
    let start = Instant::now();
    let mut queue = RequestQueue::new(UNLIMITED, start);
    let mut supply = blocks();
    queue.sent(supply.next().unwrap(), start);
    for (second, span) in supply.take(59_000).enumerate() {
        let now = at(start, second as u64);
        queue.sent(span, now);
        queue.received(span, now);
        assert!(!queue.timed_out(now));
    }
    assert!(queue.order.len() <= SPARE_GAPS + 2);
    assert_eq!(queue.next_timeout(), Some(at(start, 60_000)));
    assert!(queue.timed_out(at(start, 60_000)));
}

#[test]
fn a_deep_queue_on_a_link_that_slows_down_does_not_time_out_while_blocks_arrive() {
    let start = Instant::now();
    let mut queue = RequestQueue::new(UNLIMITED, start);
    let spans: Vec<_> = blocks().take(100).collect();
    for &span in &spans {
        queue.sent(span, start);
    }
    for (n, &span) in (1..).zip(&spans) {
        let now = start + Duration::from_secs(15 * n);
        assert!(!queue.timed_out(now));
        queue.received(span, now);
    }
}

#[test]
fn silence_snubs_until_a_block_arrives() {
    let start = Instant::now();
    let mut queue = RequestQueue::new(UNLIMITED, start);
    let spans: Vec<_> = blocks().take(3).collect();
    for &span in &spans {
        queue.sent(span, at(start, 1_000));
    }
    assert_eq!(queue.next_timeout(), Some(at(start, 21_000)));
    // Asking for more does not buy the peer time.
    queue.sent(blocks().nth(9).unwrap(), at(start, 20_999));
    assert!(!queue.timed_out(at(start, 20_999)) && queue.timed_out(at(start, 21_000)));
    queue.snub(at(start, 21_000));
    assert!(queue.is_snubbed() && !queue.timed_out(at(start, 21_000)));
    assert_eq!((queue.depth(), queue.room()), (1, 0));
    queue.tick(at(start, 22_000));
    assert_eq!(queue.depth(), 1);
    assert!(queue.timed_out(at(start, 41_000)));
    queue.received(spans[0], at(start, 41_000));
    assert!(!queue.is_snubbed() && queue.depth() == 2);
}

#[test]
fn time_stands_still_while_we_do_not_read() {
    let start = Instant::now();
    let mut queue = RequestQueue::new(UNLIMITED, start);
    let span = blocks().next().unwrap();
    queue.sent(span, start);
    queue.pause(at(start, 5_000));
    queue.pause(at(start, 6_000));
    assert!(queue.room() == 0 && queue.next_timeout().is_none() && !queue.timed_out(at(start, 500_000)));
    queue.resume(at(start, 105_000));
    assert_eq!(queue.next_timeout(), Some(at(start, 120_000)));
    assert_eq!(queue.received(span, at(start, 106_000)), Some(Duration::from_secs(6)));
}

proptest! {
    #[test]
    fn it_behaves_like_a_list(steps in proptest::collection::vec((0_u8..8, 0_usize..300), 0..2_000)) {
        let all: Vec<_> = blocks().take(300).collect();
        let start = Instant::now();
        let mut queue = RequestQueue::new(UNLIMITED, start);
        let mut model: Vec<BlockSpan> = Vec::new();
        for (millis, (step, which)) in steps.into_iter().enumerate() {
            let now = at(start, millis as u64);
            let asked = model.iter().position(|&span| span == all[which]);
            match step {
                0..4 => {
                    prop_assert_eq!(queue.sent(all[which], now), asked.is_none());
                    if asked.is_none() {
                        model.push(all[which]);
                    }
                }
                4..7 => {
                    prop_assert_eq!(queue.received(all[which], now).is_some(), asked.is_some());
                    asked.map(|index| model.remove(index));
                }
                _ if which == 0 => prop_assert_eq!(queue.clear(), std::mem::take(&mut model)),
                _ => {
                    prop_assert_eq!(queue.rejected(all[which], now), asked.is_some());
                    asked.map(|index| model.remove(index));
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            prop_assert!(queue.order.len() <= 2 * model.len() + SPARE_GAPS);
            prop_assert!(queue.order.front().is_none_or(Option::is_some));
        }
        prop_assert_eq!(queue.iter().collect::<Vec<_>>(), model);
    }
}
