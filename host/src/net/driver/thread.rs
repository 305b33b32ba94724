//! The network thread, from its start to its end.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pilotfish_plugin::PluginId;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

use super::{Driver, End};
use crate::command::PluginSource;
use crate::disk::DiskPool;
use crate::engine::{Engine, EngineConfig};
use crate::net::alerts::{AlertBox, Subscribers};
use crate::net::descriptors;
use crate::net::post::Post;
use crate::net::turns::TurnMeter;
use crate::net::{NetError, listener, utp};
use crate::settings::Settings;

/// A running network thread.
#[derive(Debug)]
pub(crate) struct Net {
    pub(crate) post: Arc<Post>,
    /// Those of the setting `alert_mask`.
    pub(crate) alerts: Arc<AlertBox>,
    pub(crate) subscribers: Arc<Subscribers>,
    pub(crate) thread: JoinHandle<()>,
    /// What became of each plugin, in their order.
    pub(crate) plugins: Vec<Result<PluginId, String>>,
}

/// Starts the network thread, and waits until the plugins are open and listening has been tried.
///
/// # Errors
/// The system lacks something, or a part of the engine panicked.
pub(crate) fn start(
    settings: Settings,
    plugins: Vec<PluginSource>,
    dht_state: Option<Vec<u8>>,
    meter: Option<TurnMeter>,
) -> Result<Net, NetError> {
    let post: Arc<Post> = Arc::default();
    let subscribers = Subscribers::new(&post);
    let alerts = subscribers.subscribe(None, settings.alert_queue_size as usize);
    let (started, starting) = sync_channel(1);
    let thread = {
        let (post, subscribers) = (post.clone(), subscribers.clone());
        let start = move || {
            // The last to be dropped, also in a panic: until then others may wait for this thread.
            let _over = Over(post.clone(), subscribers.clone());
            match prepare(settings, dht_state, post, subscribers, meter) {
                Ok(parts) => serve(parts, plugins, &started),
                Err(error) => {
                    // It is there: it waits for exactly this.
                    let _ = started.send(Err(error));
                }
            }
        };
        thread::Builder::new().name("pilotfish-net".to_owned()).spawn(start).map_err(NetError::Thread)?
    };
    let plugins = starting.recv().unwrap_or(Err(NetError::Panicked))?;
    Ok(Net { post, alerts, subscribers, thread, plugins })
}

type Started = Result<Vec<Result<PluginId, String>>, NetError>;

/// What the network thread works with.
struct Parts {
    runtime: Runtime,
    driver: Rc<RefCell<Driver>>,
    disk: DiskPool,
    listen_on: Vec<SocketAddr>,
}

fn prepare(
    mut settings: Settings,
    dht_state: Option<Vec<u8>>,
    post: Arc<Post>,
    alerts: Arc<Subscribers>,
    meter: Option<TurnMeter>,
) -> Result<Parts, NetError> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(NetError::Runtime)?;
    settings.connections_limit = descriptors::connections(settings.connections_limit);
    let threads = match settings.aio_threads {
        0 => DiskPool::default_threads(),
        some => some as usize,
    };
    let listen_on = settings.listen_interfaces.0.clone();
    let waker = post.clone();
    let config = EngineConfig {
        settings,
        seed: SysRng.try_next_u64().map_err(|_| NetError::Random)?,
        unix_time: unix_time(),
        dht_state,
        waker: Arc::new(move || waker.wake()),
    };
    let engine = Engine::new(config, Instant::now());
    let answers = post.clone();
    let disk = DiskPool::new(threads, engine.block_pool(), move |done| answers.disk(done));
    let disk = disk.map_err(NetError::Thread)?;
    let driver = Driver::new(engine, disk.clone(), post, alerts, meter);
    Ok(Parts { runtime, driver, disk, listen_on })
}

fn serve(parts: Parts, plugins: Vec<PluginSource>, started: &SyncSender<Started>) {
    let Parts { runtime, driver, disk, listen_on } = parts;
    let tasks = LocalSet::new();
    let end = tasks.block_on(&runtime, async {
        let opened = plugins.into_iter().map(|plugin| driver.borrow_mut().open(plugin)).collect();
        listener::listen(&driver, &listen_on);
        let _ = started.send(Ok(opened));
        let end = super::run(&driver).await;
        utp::say_goodbye(&driver).await;
        end
    });
    // Every socket is closed with its task.
    drop(tasks);
    // The system's resolver may be waiting for a name server that never answers: nobody waits for it.
    runtime.shutdown_background();
    disk.shutdown();
    if end == End::Stopped {
        driver.borrow_mut().tell();
    }
}

/// Seconds since 1970, by the system's clock.
fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Tells other threads that this one is gone.
struct Over(Arc<Post>, Arc<Subscribers>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.close();
        self.1.close();
    }
}
