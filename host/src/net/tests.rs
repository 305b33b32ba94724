use std::cell::RefCell;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

use super::alerts::{AlertBox, Subscribers};
use super::driver::{self, Driver, End};
use super::listener;
use super::peer_io::{Moved, Socket};
use super::post::Post;
use crate::alert::AlertKind;
use crate::disk::DiskPool;
use crate::engine::{Engine, EngineConfig};
use crate::settings::Settings;

/// Runs a test on a network thread of its own.
fn on_network_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let patience = Duration::from_secs(20);
    LocalSet::new().block_on(&runtime, async { tokio::time::timeout(patience, test).await }).unwrap();
}

/// A driver, and the alerts of its engine.
pub(super) fn driver() -> (Rc<RefCell<Driver>>, Arc<AlertBox>) {
    let mut settings = Settings::default();
    settings.set("alert_mask", "all").unwrap();
    let config = EngineConfig { settings, seed: 1, unix_time: 0, dht_state: None, waker: Arc::new(|| {}) };
    let engine = Engine::new(config, Instant::now());
    let post: Arc<Post> = Arc::default();
    let subscribers = Subscribers::new(&post);
    let alerts = subscribers.subscribe(None, 100);
    let answers = post.clone();
    let disk = DiskPool::new(1, engine.block_pool(), move |done| answers.disk(done)).unwrap();
    (Driver::new(engine, disk, post, subscribers, None), alerts)
}

/// A socket, and the other end, which blocks.
async fn pair() -> (Socket, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (Socket::new(here), listener.accept().unwrap().0)
}

fn read(socket: &Socket, room: usize) -> (usize, bool) {
    let mut buffer = vec![0; room];
    match socket.read(&mut [IoSliceMut::new(&mut buffer)]).unwrap() {
        Moved::Some(len) => (len, false),
        Moved::Last(len) => (len, true),
    }
}

#[test]
fn a_short_read_empties_a_socket_until_more_comes() {
    on_network_thread(async {
        let (socket, mut there) = pair().await;
        for _ in 0..100 {
            there.write_all(b"abcde").unwrap();
            socket.ready(Some(Interest::READABLE)).await.unwrap().unwrap();
            assert_eq!(read(&socket, 3), (3, false));
            assert_eq!(read(&socket, 3), (2, true));
        }
        // The end is seen also if it comes right behind the last bytes.
        there.write_all(b"end").unwrap();
        drop(there);
        let mut total = 0;
        loop {
            socket.ready(Some(Interest::READABLE)).await.unwrap().unwrap();
            match read(&socket, 100) {
                (0, false) => break,
                (len, _) => total += len,
            }
        }
        assert_eq!(total, 3);
    });
}

#[test]
fn a_full_socket_is_ready_again_when_the_other_side_reads() {
    on_network_thread(async {
        let (socket, mut there) = pair().await;
        let data = vec![7; 1 << 20];
        let (mut sent, mut received, mut buffer) = (0, 0, vec![0; 1 << 16]);
        for _ in 0..3 {
            loop {
                match socket.write(&[IoSlice::new(&data), IoSlice::new(&data)]).unwrap() {
                    Moved::Some(len) => sent += len,
                    Moved::Last(len) => {
                        sent += len;
                        break;
                    }
                }
            }
            while received < sent {
                received += there.read(&mut buffer).unwrap();
            }
            socket.ready(Some(Interest::WRITABLE)).await.unwrap().unwrap();
        }
    });
}

#[test]
fn a_change_ends_a_wait() {
    on_network_thread(async {
        let (socket, _there) = pair().await;
        socket.postpone();
        assert!(socket.ready(None).await.is_none());
        socket.reconsider();
        assert!(socket.ready(Some(Interest::READABLE)).await.is_none());
    });
}

#[test]
fn connections_that_end_leave_nothing_behind() {
    on_network_thread(async {
        let (driver, alerts) = driver();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener::listen(&driver, &[any]);
        let address = match alerts.take(None).unwrap().kind {
            AlertKind::ListenSucceeded { address } => address,
            other => panic!("{other:?}"),
        };
        let mut peers = Vec::new();
        for _ in 0..50 {
            peers.push(TcpStream::connect(address).await.unwrap());
        }
        while driver.borrow().connections() < peers.len() {
            tokio::task::yield_now().await;
        }
        drop(peers);
        while driver.borrow().connections() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_task_that_panics_ends_the_session() {
    on_network_thread(async {
        let (driver, _alerts) = driver();
        driver.borrow().spawn(async { panic!("on purpose") });
        assert_eq!(driver::run(&driver).await, End::Broken);
    });
}
