use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::metainfo::BLOCK_SIZE;
use crate::torrent::blocks::MAX_COPIES;

const ALICE: u32 = 1;
const BOB: u32 = 2;
const CAROL: u32 = 3;
const DAVE: u32 = 4;

/// Pieces of four blocks.
fn torrent(pieces: u32) -> Picker<u32> {
    Picker::new(Geometry::new(u64::from(pieces) * 65_536, 65_536).unwrap())
}

impl Picker<u32> {
    fn piece(&self, raw: u32) -> PieceIndex {
        self.geometry.piece(raw).unwrap()
    }

    fn bits(&self, ones: &[u32]) -> Bitfield {
        let mut bits = Bitfield::new(self.geometry.num_pieces());
        ones.iter().for_each(|&one| assert!(bits.set(one)));
        bits
    }

    fn all(&self) -> Bitfield {
        Bitfield::full(self.geometry.num_pieces())
    }

    fn ask(&mut self, peer: u32, has: &Bitfield, want: usize, options: &PickOptions<'_>) -> Vec<BlockSpan> {
        let mut out = Vec::new();
        let picked = self.pick(peer, has, want, options, &mut StdRng::seed_from_u64(7), &mut out);
        assert_eq!(picked.fresh + picked.copies, out.len());
        assert!(out.len() <= want);
        for &span in &out {
            assert!(self.is_requested_by(peer, span) && has.get(span.piece.get()));
        }
        self.check();
        out
    }

    fn plain(&mut self, peer: u32, has: &Bitfield, want: usize) -> Vec<(u32, u32)> {
        numbers(&self.ask(peer, has, want, &PickOptions::default()))
    }

    fn download(&mut self, peer: u32, raw: u32) {
        for block in self.geometry.blocks(self.piece(raw)) {
            self.received(peer, block);
        }
    }

    fn check(&self) {
        let mut ranked = self.clone();
        let availability = &ranked.choice().availability;
        availability.check();
        let mut bytes_left = 0;
        for piece in self.geometry.pieces() {
            let wanted = !self.have(piece) && self.priority(piece) != Priority::NEVER;
            assert_eq!(self.wanted.get(piece.get()), wanted);
            bytes_left += if wanted { u64::from(self.geometry.piece_size(piece)) } else { 0 };
            assert!(self.begun_piece(piece).is_none_or(|begun| begun.piece() == piece && !self.have(piece)));
        }
        assert_eq!(self.bytes_left, bytes_left);
        assert_eq!(self.slots.iter().filter(|&&slot| slot != NOT_BEGUN).count(), self.begun.len());
        self.begun.iter().for_each(Begun::check);
        for piece in self.geometry.pieces() {
            let to_ask = self.wanted.get(piece.get()) && self.free_blocks(piece) > 0;
            let stage = if self.begun_piece(piece).is_some() { Stage::Begun } else { Stage::Open };
            let place = to_ask.then(|| Place { priority: self.priority(piece), stage });
            assert_eq!(availability.place_of(piece.get()), place);
        }
    }
}

fn numbers(spans: &[BlockSpan]) -> Vec<(u32, u32)> {
    spans.iter().map(|span| (span.piece.get(), span.block_index())).collect()
}

#[test]
fn a_peer_goes_on_with_its_piece_block_after_block() {
    let mut picker = torrent(50);
    let all = picker.all();
    let first = picker.plain(ALICE, &all, 3);
    let piece = first[0].0;
    assert_eq!(first, [(piece, 0), (piece, 1), (piece, 2)]);
    let second = picker.plain(ALICE, &all, 3);
    assert_eq!(second[0], (piece, 3));
    assert_eq!((second[1].1, second[2].1), (0, 1));
}

#[test]
fn rare_pieces_come_first_once_there_is_something_to_trade() {
    let mut picker = torrent(20);
    (0..INITIAL_PICKER_THRESHOLD).for_each(|raw| picker.set_have(picker.piece(raw)));
    let all_but = |rare: u32| (0..20).filter(|&raw| raw != rare).collect::<Vec<_>>();
    picker.peer_joined(&picker.bits(&all_but(13)));
    picker.peer_joined(&picker.bits(&all_but(17)));
    picker.peer_joined(&picker.bits(&all_but(17)));
    picker.peer_is_seed();
    let all = picker.all();
    let picked = picker.plain(ALICE, &all, 9);
    assert!(picked[..4].iter().all(|block| block.0 == 17) && picked[4..8].iter().all(|block| block.0 == 13));
    picker.peer_left(&all);
    assert_eq!(picker.availability(picker.piece(17)), 1);
}

#[test]
fn the_first_pieces_are_random() {
    let firsts = (0..20).map(|seed| {
        let mut picker = torrent(100);
        picker.peer_joined(&picker.bits(&(1..100).collect::<Vec<_>>()));
        let mut out = Vec::new();
        picker.pick(
            ALICE,
            &picker.all(),
            1,
            &PickOptions::default(),
            &mut StdRng::seed_from_u64(seed),
            &mut out,
        );
        out[0].piece.get()
    });
    assert!(firsts.collect::<std::collections::HashSet<_>>().len() > 12);
}

#[test]
fn begun_pieces_are_finished_before_others_are_begun() {
    let mut picker = torrent(20);
    let all = picker.all();
    let alice = picker.plain(ALICE, &all, 1);
    let bob = picker.plain(BOB, &all, 4);
    assert!(bob[..3].iter().all(|block| block.0 == alice[0].0));
    assert_eq!(picker.begun().len(), 2);
}

#[test]
fn a_fast_peer_gets_a_piece_of_its_own_unless_too_many_are_begun() {
    let mut picker = torrent(20);
    let all = picker.all();
    (0..INITIAL_PICKER_THRESHOLD).for_each(|raw| picker.set_have(picker.piece(raw)));
    (0..2).for_each(|_| picker.peer_is_seed());
    let fast = PickOptions { contiguous: true, ..PickOptions::default() };
    let first = |spans: Vec<BlockSpan>| spans[0].piece;
    let alice = first(picker.ask(ALICE, &all, 1, &fast));
    let bob = first(picker.ask(BOB, &all, 1, &fast));
    let carol = first(picker.ask(CAROL, &all, 1, &fast));
    assert!(alice != bob && bob != carol && carol != alice);
    // Three pieces are begun, for two peers.
    assert!([alice, bob, carol].contains(&first(picker.ask(DAVE, &all, 1, &fast))));
    // What nobody is at any more is taken up first.
    picker.received(ALICE, picker.geometry.block(alice, 0).unwrap());
    picker.forget_peer(ALICE);
    assert_eq!(first(picker.ask(5, &all, 1, &fast)), alice);
}

#[test]
fn priorities_come_before_rarity_and_zero_is_never_picked() {
    let mut picker = torrent(6);
    let all = picker.all();
    picker.set_priority(picker.piece(3), Priority::TOP);
    picker.set_priority(picker.piece(5), Priority::new(1));
    picker.set_priority(picker.piece(0), Priority::NEVER);
    assert_eq!(picker.bytes_left(), 5 * 65_536);
    let picked = picker.plain(ALICE, &all, 100);
    assert_eq!(picked.len(), 20);
    assert!(picked[..4].iter().all(|block| block.0 == 3) && picked[16..].iter().all(|block| block.0 == 5));
    assert!(picker.all_requested() && !picker.is_finished());
    assert!(!picker.is_interesting(&picker.bits(&[0])) && picker.is_interesting(&picker.bits(&[0, 1])));

    for raw in 1..6 {
        picker.download(ALICE, raw);
        picker.passed(picker.piece(raw));
    }
    assert!(picker.is_finished() && !picker.is_seed() && picker.bytes_left() == 0);
    picker.set_priority(picker.piece(0), Priority::DEFAULT);
    assert!(!picker.is_finished());
    assert_eq!(picker.plain(ALICE, &all, 1), [(0, 0)]);
}

#[test]
fn sequential_order_goes_by_number() {
    let mut picker = torrent(6);
    picker.set_sequential(true);
    let has = picker.bits(&[1, 2, 5]);
    let pieces: Vec<_> = picker.plain(ALICE, &has, 100).iter().map(|block| block.0).collect();
    assert_eq!(pieces, [1, 1, 1, 1, 2, 2, 2, 2, 5, 5, 5, 5]);
}

#[test]
fn suggested_pieces_come_first_and_a_choked_peer_is_asked_for_allowed_ones_only() {
    let mut picker = torrent(30);
    let all = picker.all();
    let suggested = [picker.piece(20), picker.piece(10)];
    let options = PickOptions { suggested: &suggested, ..PickOptions::default() };
    let picked = picker.ask(ALICE, &all, 9, &options);
    assert!(picked[..4].iter().all(|span| span.piece.get() == 20));
    assert!(picked[4..8].iter().all(|span| span.piece.get() == 10));

    let allowed = [picker.piece(10), picker.piece(11), picker.piece(11)];
    let options = PickOptions { only: Some(&allowed), endgame: true, ..PickOptions::default() };
    let has = picker.bits(&[10, 11, 12]);
    let picked = picker.ask(BOB, &has, 100, &options);
    // The end-game obeys the list too.
    assert_eq!(picked.len(), 8);
    assert!(picked[..4].iter().all(|span| span.piece.get() == 11));
    assert!(picked[4..].iter().all(|span| span.piece.get() == 10));
}

#[test]
fn the_endgame_asks_others_too_and_tells_whom_to_cancel() {
    let mut picker = torrent(2);
    let all = picker.all();
    let endgame = PickOptions { endgame: true, ..PickOptions::default() };
    assert_eq!(picker.ask(ALICE, &all, 100, &endgame).len(), 8);
    assert!(picker.plain(BOB, &all, 8).is_empty());
    let bob = picker.ask(BOB, &all, 3, &endgame);
    assert_eq!(bob.len(), 3);
    // Carol is given what only one was asked for, before what two were.
    let carol = picker.ask(CAROL, &all, 8, &endgame);
    assert!(carol[..5].iter().all(|span| !bob.contains(span)) && carol.len() == 8);
    // Three copies are enough, and nobody is asked twice.
    assert_eq!(picker.ask(DAVE, &all, 8, &endgame).len(), 5);
    assert!(picker.ask(5, &all, 8, &endgame).is_empty() && picker.ask(ALICE, &all, 8, &endgame).is_empty());

    let received = picker.received(CAROL, bob[0]);
    assert_eq!(received, Received { duplicate: false, others: vec![ALICE, BOB], piece_complete: false });
    assert!(!picker.is_requested_by(ALICE, bob[0]));
    assert!(picker.received(ALICE, bob[0]).duplicate);
    assert_eq!(picker.downloader(bob[0]), Some(CAROL));
}

#[test]
fn a_peer_on_parole_has_its_pieces_to_itself() {
    let mut picker = torrent(10);
    let all = picker.all();
    let parole = PickOptions { parole: true, endgame: true, ..PickOptions::default() };
    let shared = picker.plain(BOB, &all, 1)[0].0;
    let own = picker.ask(ALICE, &all, 2, &parole)[0].piece;
    assert_ne!(own.get(), shared);
    // Bob finishes his piece, and goes on to a third.
    let bob = picker.plain(BOB, &all, 7);
    assert!(bob.iter().all(|block| block.0 != own.get()));
    assert!(picker.ask(ALICE, &all, 2, &parole).iter().all(|span| span.piece == own));
    picker.download(ALICE, own.get());
    assert_eq!(picker.contributors(own), [ALICE]);
}

#[test]
fn a_failed_piece_is_asked_for_anew_after_its_contributors_were_named() {
    let mut picker = torrent(1);
    let all = picker.all();
    let piece = picker.piece(0);
    let blocks = picker.ask(ALICE, &all, 4, &PickOptions::default());
    picker.abort_all(ALICE, &blocks[2..]);
    let bob = picker.ask(BOB, &all, 4, &PickOptions::default());
    assert_eq!(bob, blocks[2..]);
    for (peer, block) in [(ALICE, 0), (ALICE, 1), (BOB, 3)] {
        assert!(!picker.received(peer, blocks[block]).piece_complete);
    }
    assert!(picker.received(BOB, blocks[2]).piece_complete);
    picker.forget_peer(BOB);
    assert_eq!(picker.contributors(piece), [ALICE, BOB]);
    assert!(!picker.have(piece) && picker.bytes_left() == 65_536);

    picker.failed(piece);
    assert!(picker.contributors(piece).is_empty());
    assert_eq!(picker.plain(CAROL, &all, 9).len(), 4);
    picker.download(CAROL, 0);
    picker.passed(piece);
    assert!(picker.is_seed() && picker.begun().is_empty() && picker.received(ALICE, blocks[0]).duplicate);
    picker.unset_have(piece);
    assert_eq!((picker.num_have(), picker.plain(ALICE, &all, 9).len()), (0, 4));
}

#[test]
fn a_block_that_nobody_asked_for_is_used_and_a_span_that_is_no_block_is_not() {
    let mut picker = torrent(2);
    let block = picker.geometry.block(picker.piece(1), 2).unwrap();
    let odd = picker.geometry.span(1, 5, BLOCK_SIZE).unwrap();
    assert!(picker.received(ALICE, odd).duplicate && !picker.abort(ALICE, odd));
    assert!(!picker.received(ALICE, block).duplicate);
    picker.check();
    assert_eq!(picker.begun().len(), 1);
    assert!(!picker.abort(ALICE, block));
}

#[test]
fn the_endgame_ends_the_privilege_of_a_peer_on_parole() {
    let mut picker = torrent(2);
    let all = picker.all();
    let parole = PickOptions { parole: true, ..PickOptions::default() };
    let endgame = PickOptions { endgame: true, ..PickOptions::default() };
    let kept = picker.ask(ALICE, &all, 1, &parole)[0].piece;
    assert!(!picker.all_requested());
    assert!(picker.ask(BOB, &all, 8, &PickOptions::default()).iter().all(|span| span.piece != kept));
    assert!(picker.all_requested());
    let carol = picker.ask(CAROL, &all, 3, &endgame);
    assert!(carol.iter().all(|span| span.piece == kept) && carol.len() == 3);
    assert!(picker.ask(ALICE, &all, 1, &parole).is_empty());
}

#[test]
fn rare_pieces_that_a_peer_lacks_are_not_in_its_way() {
    let mut picker = torrent(100_000);
    (0..4).for_each(|raw| picker.set_have(picker.piece(raw)));
    let common = picker.bits(&(50_000..100_000).collect::<Vec<_>>());
    (0..5).for_each(|_| picker.peer_joined(&common));
    let mut rng = StdRng::seed_from_u64(1);
    let mut out = Vec::new();
    for _ in 0..1_000 {
        let before = out.len();
        picker.pick(ALICE, &common, 4, &PickOptions::default(), &mut rng, &mut out);
        assert_eq!(out.len(), before + 4);
        assert!(out[before..].iter().all(|span| span.piece == out[before].piece));
    }
    assert!(out.iter().all(|span| common.get(span.piece.get())));
}

#[derive(Clone, Debug)]
enum Step {
    Join { who: usize, seed: bool },
    Leave { who: usize },
    Have { who: usize, piece: u32 },
    Pick { who: usize, want: usize, contiguous: bool, parole: bool, endgame: bool },
    Answer { who: usize, which: usize, count: usize },
    Volunteer { who: usize, piece: u32 },
    Abort { who: usize, count: usize },
    Judge { good: bool },
    Prioritise { piece: u32, priority: u8 },
    Sequential(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..4_usize;
    prop_oneof![
        2 => (who.clone(), any::<bool>()).prop_map(|(who, seed)| Step::Join { who, seed }),
        1 => who.clone().prop_map(|who| Step::Leave { who }),
        2 => (who.clone(), 0..20_u32).prop_map(|(who, piece)| Step::Have { who, piece }),
        8 => (who.clone(), 0..9_usize, any::<[bool; 3]>()).prop_map(|(who, want, [contiguous, parole, endgame])| {
            Step::Pick { who, want, contiguous, parole, endgame }
        }),
        8 => (who.clone(), 0..9_usize, 1..5_usize)
            .prop_map(|(who, which, count)| Step::Answer { who, which, count }),
        1 => (who.clone(), 0..20_u32).prop_map(|(who, piece)| Step::Volunteer { who, piece }),
        2 => (who, 1..5_usize).prop_map(|(who, count)| Step::Abort { who, count }),
        3 => any::<bool>().prop_map(|good| Step::Judge { good }),
        1 => (0..20_u32, 0..9_u8).prop_map(|(piece, priority)| Step::Prioritise { piece, priority }),
        1 => any::<bool>().prop_map(Step::Sequential),
    ]
}

/// A swarm that keeps its own account of what was asked of whom.
struct Swarm {
    picker: Picker<u32>,
    /// A peer that comes back is another peer.
    keys: [u32; 4],
    has: [Option<Bitfield>; 4],
    asked: [Vec<BlockSpan>; 4],
    complete: Vec<PieceIndex>,
    rng: StdRng,
}

impl Swarm {
    fn new(pieces: u32, seed: u64) -> Self {
        let geometry = Geometry::new(u64::from(pieces) * 65_536 - 20_000, 65_536).unwrap();
        Self {
            picker: Picker::new(geometry),
            keys: [0, 1, 2, 3],
            has: Default::default(),
            asked: Default::default(),
            complete: Vec::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn join(&mut self, who: usize, seed: bool) {
        if self.has[who].is_none() {
            let has = if seed { self.picker.all() } else { self.picker.bits(&[]) };
            self.picker.peer_joined(&has);
            self.has[who] = Some(has);
        }
    }

    fn leave(&mut self, who: usize) {
        if let Some(has) = self.has[who].take() {
            self.picker.peer_left(&has);
            self.picker.forget_peer(self.keys[who]);
            self.keys[who] += 4;
            self.asked[who].clear();
        }
    }

    fn pick(&mut self, who: usize, want: usize, options: &PickOptions<'_>) {
        let Some(has) = &self.has[who] else { return };
        let mut out = Vec::new();
        let picked = self.picker.pick(self.keys[who], has, want, options, &mut self.rng, &mut out);
        assert!(out.len() <= want && picked.fresh + picked.copies == out.len());
        for (index, span) in out.iter().enumerate() {
            assert!(has.get(span.piece.get()) && !self.picker.have(span.piece));
            assert_ne!(self.picker.priority(span.piece), Priority::NEVER);
            assert!(!self.asked[who].contains(span), "asked twice");
            let others = (0..4).filter(|&other| self.asked[other].contains(span)).count();
            assert_eq!(others > 0, index >= picked.fresh);
            assert!(others < MAX_COPIES);
            self.asked[who].push(*span);
        }
    }

    fn answer(&mut self, who: usize, which: usize) {
        if self.asked[who].is_empty() {
            return;
        }
        let span = self.asked[who].remove(which % self.asked[who].len());
        assert!(!self.receive(who, span), "duplicate");
    }

    fn receive(&mut self, who: usize, span: BlockSpan) -> bool {
        let useless = self.picker.have(span.piece) || self.picker.downloader(span).is_some();
        let received = self.picker.received(self.keys[who], span);
        assert_eq!(received.duplicate, useless);
        self.asked[who].retain(|&asked| asked != span);
        let mut others = Vec::new();
        for other in 0..4 {
            if let Some(index) = self.asked[other].iter().position(|&asked| asked == span) {
                self.asked[other].remove(index);
                others.push(self.keys[other]);
            }
        }
        let mut told = received.others;
        told.sort_unstable();
        others.sort_unstable();
        assert_eq!(told, others);
        if received.piece_complete {
            self.complete.push(span.piece);
        }
        received.duplicate
    }

    fn abort(&mut self, who: usize, count: usize) {
        let count = count.min(self.asked[who].len());
        let spans: Vec<_> = self.asked[who].drain(..count).collect();
        self.picker.abort_all(self.keys[who], &spans);
    }

    fn judge(&mut self, good: bool) {
        let Some(piece) = self.complete.pop() else { return };
        assert!(!self.picker.contributors(piece).is_empty());
        if good {
            self.picker.passed(piece)
        } else {
            self.picker.failed(piece)
        }
        assert_eq!(self.picker.have(piece), good);
    }

    fn run(&mut self, step: Step) {
        let pieces = self.picker.geometry.num_pieces();
        match step {
            Step::Join { who, seed } => self.join(who, seed),
            Step::Leave { who } => self.leave(who),
            Step::Have { who, piece } => {
                let piece = self.picker.piece(piece % pieces);
                if self.has[who].as_mut().is_some_and(|has| has.set(piece.get())) {
                    self.picker.peer_has(piece);
                }
            }
            Step::Pick { who, want, contiguous, parole, endgame } => {
                self.pick(who, want, &PickOptions { contiguous, parole, endgame, ..PickOptions::default() });
            }
            Step::Answer { who, which, count } => (0..count).for_each(|_| self.answer(who, which)),
            Step::Volunteer { who, piece } => {
                // A block that this peer was not asked for, and perhaps nobody.
                let block = self.picker.geometry.block(self.picker.piece(piece % pieces), piece % 3).unwrap();
                self.receive(who, block);
            }
            Step::Abort { who, count } => self.abort(who, count),
            Step::Judge { good } => self.judge(good),
            Step::Prioritise { piece, priority } => {
                self.picker.set_priority(self.picker.piece(piece % pieces), Priority::new(priority));
            }
            Step::Sequential(sequential) => self.picker.set_sequential(sequential),
        }
        self.check();
    }

    /// Every block is in one state, and the picker's account is ours.
    fn check(&self) {
        self.picker.check();
        for piece in self.picker.geometry.pieces() {
            for span in self.picker.geometry.blocks(piece) {
                for who in 0..4 {
                    let asked = self.asked[who].contains(&span);
                    assert_eq!(self.picker.is_requested_by(self.keys[who], span), asked);
                    assert!(!asked || self.picker.downloader(span).is_none());
                }
            }
        }
        let complete = self.picker.begun().iter().filter(|begun| begun.is_complete()).count();
        assert_eq!(complete, self.complete.len());
    }

    /// With everyone helping and no more bad luck, the download must come to its end.
    fn finish(&mut self) {
        for piece in self.picker.geometry.pieces() {
            self.picker.set_priority(piece, Priority::DEFAULT);
        }
        self.leave(0);
        self.join(0, true);
        let endgame = PickOptions { endgame: true, ..PickOptions::default() };
        for _ in 0..1_000 {
            if self.picker.is_seed() {
                break;
            }
            (0..4).for_each(|who| self.pick(who, 5, &endgame));
            self.answer(0, 0);
            (0..4).for_each(|who| self.answer(who, 1));
            self.judge(true);
        }
        self.check();
        assert!(self.picker.is_seed() && self.picker.is_finished() && self.picker.begun().is_empty());
        assert_eq!(self.picker.bytes_left(), 0);
    }
}

proptest! {
    #[test]
    fn blocks_are_conserved_and_every_swarm_finishes(
        pieces in 1..20_u32,
        seed in any::<u64>(),
        steps in proptest::collection::vec(step(), 0..150),
    ) {
        let mut swarm = Swarm::new(pieces, seed);
        steps.into_iter().for_each(|step| swarm.run(step));
        swarm.finish();
    }
}

#[test]
fn padding_is_never_picked_and_counts_as_there() {
    // Two pieces of four blocks: the last two of the first are padding, and all but one byte of the first of the second.
    let geometry = Geometry::new(131_072, 65_536).unwrap();
    let mut picker: Picker<u32> = Picker::new(geometry).with_padding(vec![32_768..65_536, 65_537..81_920]);
    let mut out = Vec::new();
    let has = Bitfield::full(2);
    picker.peer_is_seed();
    picker.pick(1, &has, 100, &PickOptions::default(), &mut StdRng::seed_from_u64(7), &mut out);
    let mut asked: Vec<_> = out.iter().map(|span| (span.piece.get(), span.start)).collect();
    asked.sort_unstable();
    assert_eq!(asked, [(0, 0), (0, 16_384), (1, 0), (1, 16_384), (1, 32_768), (1, 49_152)]);
    picker.check();
    let piece = geometry.piece(0).unwrap();
    let block = |index| geometry.block(piece, index).unwrap();
    assert!(!picker.received(1, block(0)).piece_complete);
    let padding: Vec<u32> = picker.take_padding(piece).iter().map(|span| span.block_index()).collect();
    assert_eq!((padding, picker.take_padding(piece)), (vec![2, 3], vec![]));
    assert!(picker.received(1, block(3)).duplicate);
    assert!(picker.received(1, block(1)).piece_complete);
    assert_eq!(picker.contributors(piece), [1]);
    picker.check();
    // A piece that failed begins anew, and so does its padding.
    picker.failed(piece);
    assert!(!picker.received(2, block(0)).piece_complete);
    assert_eq!(picker.take_padding(piece).len(), 2);
    picker.check();
}

#[test]
fn a_piece_whose_requests_are_all_given_back_is_open_though_it_has_padding() {
    let geometry = Geometry::new(65_536, 65_536).unwrap();
    let mut picker: Picker<u32> = Picker::new(geometry).with_padding(std::iter::once(49_152..65_536));
    let (has, mut out) = (Bitfield::full(1), Vec::new());
    picker.peer_is_seed();
    picker.pick(1, &has, 100, &PickOptions::default(), &mut StdRng::seed_from_u64(7), &mut out);
    assert_eq!(out.len(), 3);
    picker.abort_all(1, &out);
    assert!(picker.begun().is_empty());
    picker.check();
}

#[test]
fn a_piece_that_is_nothing_but_padding_is_picked_like_any_other() {
    let geometry = Geometry::new(3 * 65_536, 65_536).unwrap();
    let mut picker: Picker<u32> = Picker::new(geometry).with_padding(std::iter::once(60_000..140_000));
    let (has, mut out) = (Bitfield::full(3), Vec::new());
    picker.peer_is_seed();
    picker.pick(1, &has, 100, &PickOptions::default(), &mut StdRng::seed_from_u64(7), &mut out);
    let in_piece = |piece| out.iter().filter(|span| span.piece.get() == piece).count();
    assert_eq!([0, 1, 2].map(in_piece), [4, 4, 4]);
}
