//! A long, bad line between two UDP ports of this machine: it delays every datagram, and loses some.
//!
//! What it does is `tc qdisc add … netem delay 50ms loss 2%` in each direction. That would need a kernel that has netem, and its
//! administrator; this needs neither.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Datagrams that are on their way in one direction, at most: what comes on top is lost, as in a router's queue.
const QUEUE: usize = 1_000;

/// What a line does to what goes over it, in each direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quality {
    pub(crate) delay: Duration,
    /// How many in a hundred datagrams are lost.
    pub(crate) loss: f64,
}

/// A line that is there for as long as the test runs.
pub(crate) struct Line {
    /// Whoever sends to this address sends to the other end.
    pub(crate) near: SocketAddr,
    counted: Arc<Counted>,
}

/// What went over it, in both directions.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) sent: AtomicU64,
    pub(crate) lost: AtomicU64,
}

impl Line {
    /// A line to `far`, for one caller.
    pub(crate) fn to(far: SocketAddr, quality: Quality) -> Self {
        let [near_end, far_end] = [(); 2].map(|()| Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap()));
        let near = near_end.local_addr().unwrap();
        let caller = Arc::new(Mutex::new(None));
        let counted = Arc::<Counted>::default();
        let heard = caller.clone();
        carry(near_end.clone(), far_end.clone(), quality, 1, counted.clone(), move |from| {
            heard.lock().unwrap().get_or_insert(from);
            Some(far)
        });
        // Only the other end has its address.
        carry(far_end, near_end, quality, 2, counted.clone(), move |_| *caller.lock().unwrap());
        Self { near, counted }
    }

    /// How many datagrams were sent, and how many of them were lost.
    pub(crate) fn counted(&self) -> (u64, u64) {
        (self.counted.sent.load(Ordering::Relaxed), self.counted.lost.load(Ordering::Relaxed))
    }
}

/// Carries what comes to one socket away from the other, to where `whither` says.
fn carry(
    from: Arc<UdpSocket>,
    by: Arc<UdpSocket>,
    quality: Quality,
    seed: u64,
    counted: Arc<Counted>,
    whither: impl Fn(SocketAddr) -> Option<SocketAddr> + Send + 'static,
) {
    let (sender, queue) = sync_channel(QUEUE);
    thread::spawn(move || take(&from, quality, seed, &counted, &sender, whither));
    thread::spawn(move || release(&by, &queue));
}

/// A datagram, when it is to arrive, and where.
type UnderWay = (Instant, SocketAddr, Vec<u8>);

fn take(
    from: &UdpSocket,
    quality: Quality,
    seed: u64,
    counted: &Counted,
    queue: &SyncSender<UnderWay>,
    whither: impl Fn(SocketAddr) -> Option<SocketAddr>,
) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut buffer = vec![0; 65_536];
    loop {
        // An error of an earlier datagram of ours, which met nobody.
        let Ok((len, sender)) = from.recv_from(&mut buffer) else { continue };
        let Some(to) = whither(sender) else { continue };
        counted.sent.fetch_add(1, Ordering::Relaxed);
        let is_lost = rng.random_bool(quality.loss / 100.0);
        let under_way = (Instant::now() + quality.delay, to, buffer[..len].to_vec());
        if is_lost || queue.try_send(under_way).is_err() {
            counted.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn release(by: &UdpSocket, queue: &Receiver<UnderWay>) {
    for (due, to, datagram) in queue {
        // The line is as long as that.
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let _ = by.send_to(&datagram, to);
    }
}
