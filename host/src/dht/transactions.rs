//! Questions that wait for their answers.
//!
//! An answer counts only with the number of the question, from the address that was asked. Numbers are random, so that
//! nobody who did not see the question can guess it. They have four bytes: nodes of the crate `mainline` ignore questions with
//! any other number of them, though BEP 5 leaves that to the asker.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngExt;

use super::RequestId;
use super::lookup::LookupId;
use crate::wire::krpc::NodeId;

/// After so long another node is asked besides, and after so long no answer is expected any more (libtorrent's).
const SLOW: Duration = Duration::from_secs(2);
const LOST: Duration = Duration::from_secs(10);
/// The most questions that wait at a time.
const MOST: usize = 2_048;

/// What a question was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To know whether the node is there.
    Ping,
    /// For a lookup.
    Lookup(LookupId),
    /// To store something: the answer is counted.
    Store(RequestId),
    /// For the owner, who gets the answer as it is.
    Direct(RequestId),
}

/// A question that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub(super) to: SocketAddr,
    /// Whom we take the node for.
    pub(super) id: Option<NodeId>,
    pub(super) purpose: Purpose,
    asked: Instant,
    deadline: Instant,
}

/// What time has done to a question.
#[derive(Clone, Copy, Debug)]
pub(super) enum Late {
    /// It takes long.
    Slow(Pending),
    /// It will not be answered.
    Lost(Pending),
}

/// All questions that wait.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    pending: HashMap<u32, Pending>,
    deadlines: BTreeSet<(Instant, u32)>,
}

impl Transactions {
    /// A number for a question that is about to be asked; `None` if too many wait.
    pub(super) fn begin(
        &mut self,
        to: SocketAddr,
        id: Option<NodeId>,
        purpose: Purpose,
        now: Instant,
        rng: &mut impl RngExt,
    ) -> Option<[u8; 4]> {
        if self.pending.len() >= MOST {
            return None;
        }
        let number = loop {
            let number: u32 = rng.random();
            if !self.pending.contains_key(&number) {
                break number;
            }
        };
        let deadline = now + SLOW;
        self.pending.insert(number, Pending { to, id, purpose, asked: now, deadline });
        self.deadlines.insert((deadline, number));
        Some(number.to_be_bytes())
    }

    /// The question that is answered, if somebody asked one.
    pub(super) fn answered(&mut self, transaction: &[u8], from: SocketAddr) -> Option<Pending> {
        let number = u32::from_be_bytes(transaction.try_into().ok()?);
        self.pending.get(&number).filter(|pending| pending.to == from)?;
        let pending = self.pending.remove(&number)?;
        self.deadlines.remove(&(pending.deadline, number));
        Some(pending)
    }

    /// The next question that is late.
    pub(super) fn late(&mut self, now: Instant) -> Option<Late> {
        let (deadline, number) = self.deadlines.first().copied().filter(|(at, _)| *at <= now)?;
        self.deadlines.remove(&(deadline, number));
        let pending = self.pending.get_mut(&number)?;
        let lost = pending.asked + LOST;
        if deadline < lost {
            pending.deadline = lost;
            self.deadlines.insert((lost, number));
            return Some(Late::Slow(*pending));
        }
        self.pending.remove(&number).map(Late::Lost)
    }

    /// When the next question is late.
    pub(super) fn next(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }
}
