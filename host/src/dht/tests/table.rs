//! The routing table by itself.

use proptest::prelude::*;

use super::super::table::{REFRESH, Table};
use super::*;

fn info(id: NodeId, number: usize) -> NodeInfo {
    NodeInfo { id, address: address(number) }
}

/// An id that shares so many bits with the id of zeros.
fn near(bits: u32, last: u8) -> NodeId {
    let mut id = [0; 20];
    id[(bits / 8) as usize] = 0x80 >> (bits % 8);
    id[19] |= last;
    NodeId(id)
}

fn assert_taken(taken: bool) {
    assert!(taken, "not taken");
}

#[test]
fn the_closer_the_more_nodes_are_known() {
    let (own, now) = (NodeId([0; 20]), Instant::now());
    let mut table = Table::new(own, now);
    for bits in 0..20 {
        for i in 0..20 {
            let node = info(near(bits, i), bits as usize * 20 + i as usize);
            table.answered(node, true, now, &config());
        }
    }
    assert_eq!(table.len(), 20 * K);
    let closest = table.closest(own, K);
    assert!(closest.iter().all(|node| own.shared_bits(node.id) == 19));
}

#[test]
fn a_node_that_fails_makes_way_for_one_that_waits() {
    let (own, now) = (NodeId([0; 20]), Instant::now());
    let mut table = Table::new(own, now);
    // One far bucket, full, and one that waits; the rest close enough to have the table divided.
    (0..K).for_each(|i| assert_taken(table.answered(info(near(9, i as u8), 100 + i), true, now, &config())));
    (0..=K).for_each(|i| assert_taken(table.answered(info(near(0, i as u8), i), true, now, &config())));
    let far = |table: &Table| table.closest(near(0, 0), K);
    assert!(!far(&table).contains(&info(near(0, 8), 8)));
    table.failed(address(3), &config());
    assert!(far(&table).contains(&info(near(0, 8), 8)) && !far(&table).contains(&info(near(0, 3), 3)));
    // With nobody to replace it, a node stays until it has failed often.
    for _ in 0..19 {
        table.failed(address(4), &config());
    }
    assert_eq!(table.len(), 2 * K);
    table.failed(address(4), &config());
    assert_eq!(table.len(), 2 * K - 1);
}

#[test]
fn an_id_belongs_to_whoever_had_it_first_as_long_as_that_one_answers() {
    let (own, now) = (NodeId([0; 20]), Instant::now());
    let mut table = Table::new(own, now);
    assert!(table.answered(info(near(3, 0), 1), true, now, &config()));
    assert!(!table.answered(info(near(3, 0), 2), true, now, &config()));
    table.failed(address(1), &config());
    assert!(table.answered(info(near(3, 0), 2), true, now, &config()));
    assert_eq!(table.closest(own, K), [info(near(3, 0), 2)]);
    // And who calls itself otherwise from now on is one node, not two.
    assert!(table.answered(info(near(4, 0), 2), true, now, &config()));
    assert_eq!(table.closest(own, K), [info(near(4, 0), 2)]);
}

#[test]
fn verified_nodes_take_the_places_of_others_if_they_are_preferred() {
    let (own, now) = (NodeId([0xff; 20]), Instant::now());
    for prefer_verified_node_ids in [true, false] {
        let config = Config { prefer_verified_node_ids, ..config() };
        let mut table = Table::new(own, now);
        (0..2).for_each(|i| {
            assert_taken(table.answered(info(NodeId([0xf0 + i; 20]), 50 + i as usize), true, now, &config))
        });
        (0..K as u8).for_each(|i| {
            assert_taken(table.answered(info(NodeId([i; 20]), i as usize), false, now, &config))
        });
        table.answered(info(NodeId([99; 20]), 99), true, now, &config);
        let there = table.closest(NodeId([99; 20]), 1)[0].id == NodeId([99; 20]);
        assert_eq!(there, prefer_verified_node_ids);
    }
}

#[test]
fn quiet_buckets_are_refreshed_and_quiet_nodes_asked() {
    let (own, start) = (NodeId([0; 20]), Instant::now());
    let mut rng = StdRng::seed_from_u64(1);
    let mut table = Table::new(own, start);
    for bits in 0..6 {
        (0..K).for_each(|i| {
            assert_taken(table.answered(
                info(near(bits, i as u8), bits as usize * K + i),
                true,
                start,
                &config(),
            ))
        });
    }
    assert_eq!((table.refresh(start, &mut rng), table.questionable(start)), (None, None));
    let later = start + REFRESH;
    let targets: Vec<NodeId> = std::iter::from_fn(|| table.refresh(later, &mut rng)).collect();
    let mut bits: Vec<u32> = targets.iter().map(|target| own.shared_bits(*target)).collect();
    let last = bits.pop().unwrap();
    assert_eq!(bits, (0..bits.len() as u32).collect::<Vec<_>>());
    assert!(last >= bits.len() as u32, "the last bucket has everything that is closer");
    assert!(table.questionable(later).is_some());
}

proptest! {
    /// Whatever comes in whatever order: the invariants hold.
    #[test]
    fn no_id_address_or_network_is_listed_twice(
        steps in prop::collection::vec((any::<u8>(), 0..30usize, any::<bool>(), any::<bool>()), 1..300),
    ) {
        let (own, now) = (NodeId([0; 20]), Instant::now());
        let mut table = Table::new(own, now);
        for (id, place, verified, fails) in steps {
            if fails {
                table.failed(address(place), &config());
            } else {
                let mut bytes = [id; 20];
                bytes[0] = id >> 4;
                let node = info(NodeId(bytes), place);
                let wanted = table.wants(node, &config());
                let taken = table.answered(node, verified, now, &config());
                prop_assert!(!wanted || taken, "wanted, and then not taken");
            }
            let all = table.closest(own, 1_000);
            let mut ips: Vec<IpAddr> = all.iter().map(|node| node.address.ip()).collect();
            let mut ids: Vec<NodeId> = all.iter().map(|node| node.id).collect();
            ips.sort_unstable();
            ids.sort_unstable();
            let len = all.len();
            ips.dedup();
            ids.dedup();
            prop_assert_eq!((ips.len(), ids.len()), (len, len));
            prop_assert!(!ids.contains(&own));
        }
    }
}
