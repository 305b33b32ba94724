use std::net::SocketAddr;

use super::evidence::{Evidence, Finding};

const GOOD: Option<[u8; 20]> = Some([1; 20]);
const BAD: Option<[u8; 20]> = Some([2; 20]);
const WORSE: Option<[u8; 20]> = Some([3; 20]);

fn peer(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 6881))
}

/// An attempt in which these sent these versions of the first blocks, and which failed.
fn fail(evidence: &mut Evidence, sent: &[(u8, Option<[u8; 20]>)]) -> Vec<Finding> {
    for (start, (n, _)) in (0..).zip(sent) {
        assert!(evidence.may_suspect(start));
        evidence.suspect(start, peer(*n));
    }
    (0..).zip(sent).flat_map(|(start, (_, hash))| evidence.hashed(start, *hash)).collect()
}

/// The piece passes; what is found when these are its right blocks.
fn pass(evidence: &mut Evidence, right: &[Option<[u8; 20]>]) -> Vec<(u8, u32)> {
    evidence.passed();
    let compare = evidence.compare();
    let findings = compare.into_iter().flat_map(|start| evidence.hashed(start, right[start as usize]));
    let found = findings.map(|finding| match finding.culprit {
        SocketAddr::V4(address) => (address.ip().octets()[3], finding.start),
        SocketAddr::V6(_) => unreachable!("there is none"),
    });
    let found = found.collect();
    assert!(evidence.is_closed());
    found
}

#[test]
fn who_sent_another_block_than_the_right_one_is_found_and_nobody_else() {
    let mut evidence = Evidence::default();
    assert!(fail(&mut evidence, &[(1, GOOD), (2, BAD), (3, GOOD)]).is_empty());
    assert!(!evidence.is_closed());
    assert_eq!(pass(&mut evidence, &[GOOD; 3]), [(2, 1)]);
}

#[test]
fn a_second_liar_does_not_hide_behind_the_first() {
    let mut evidence = Evidence::default();
    fail(&mut evidence, &[(1, BAD), (2, GOOD)]);
    fail(&mut evidence, &[(3, WORSE), (2, GOOD)]);
    fail(&mut evidence, &[(4, GOOD), (5, BAD)]);
    assert_eq!(pass(&mut evidence, &[GOOD; 2]), [(1, 0), (3, 0), (5, 1)]);
}

#[test]
fn who_sends_two_versions_of_a_block_is_found_before_the_piece_is_there() {
    let mut evidence = Evidence::default();
    fail(&mut evidence, &[(1, BAD)]);
    let found = fail(&mut evidence, &[(1, WORSE)]);
    assert_eq!(found, [Finding { culprit: peer(1), start: 0, lied_twice: true }]);
    // And the same version again is nothing new.
    assert!(fail(&mut evidence, &[(1, BAD)]).is_empty());
}

#[test]
fn nothing_is_compared_while_a_suspects_hash_is_outstanding() {
    let mut evidence = Evidence::default();
    fail(&mut evidence, &[(1, BAD)]);
    evidence.suspect(1, peer(2));
    assert!(!evidence.may_suspect(1), "which of the two would the answer be?");
    evidence.passed();
    assert!(evidence.compare().is_empty());
    assert!(evidence.hashed(1, BAD).is_empty());
    assert_eq!(evidence.compare(), [0, 1]);
    assert!(!evidence.may_suspect(0) && evidence.compare().is_empty());
}

#[test]
fn what_cannot_be_read_is_no_evidence() {
    let mut evidence = Evidence::default();
    fail(&mut evidence, &[(1, None), (2, BAD)]);
    assert!(pass(&mut evidence, &[GOOD, None]).is_empty());
    let mut nothing = Evidence::default();
    fail(&mut nothing, &[(1, None)]);
    assert!(nothing.is_closed());
}
