//! The network thread: the engine, and a tokio runtime that moves what the engine asks for.
//!
//! One thread, `pilotfish-net`, owns the [`Engine`](crate::engine::Engine), every socket and every plugin object. Nothing here knows the
//! protocol; everything that happens is told to the engine in a *turn*, after which whatever it wants done is done:
//!
//! ```text
//! socket ready ┐                                        ┌ written to sockets
//! disk answers ├─► Driver::turn ─► Engine ─► outputs ─► ┼ jobs, handed to the disk at once
//! commands     │                                        ├ answers, alerts
//! deadline     ┘                                        └ connections opened, closed
//! ```
//!
//! The driver is borrowed for the length of a turn and never across an `await`, so there is nothing to lock. A turn is
//! bounded: by bytes for a socket, by number for commands. No packet allocates, crosses a channel or wakes a task.
//!
//! | file | what |
//! |---|---|
//! | `driver` | a turn: carrying out what the engine asks for; deadlines |
//! | `driver/thread` | the thread's start and its end |
//! | `dial` | opening connections: by TCP, by uTP, or by both at once |
//! | `peer_io` | the bytes of one connection |
//! | `listener` | accepting connections |
//! | `tls` | encryption of what comes from web seeds |
//! | `udp`, `lsd` | datagrams; those of local discovery |
//! | `utp` | connections made of datagrams (BEP 29) |
//! | `proxy`, `relay` | connections that a proxy makes for us; datagrams that it passes on |
//! | `http` | documents that are fetched by HTTP and HTTPS |
//! | `port_mapping` | ports that routers let through to us |
//! | `turns` | how long turns hold the thread |
//! | `post`, `alerts` | what comes from, and what goes to other threads |
//!
//! The clock and the system's randomness are read here, and nowhere below.

mod alerts;
mod descriptors;
mod dial;
mod driver;
mod http;
mod listener;
mod lsd;
mod peer_io;
mod port_mapping;
mod post;
mod proxy;
mod relay;
mod tls;
mod turns;
mod udp;
mod utp;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::io;

pub(crate) use alerts::{AlertBox, Subscribers, deadline};
pub(crate) use driver::start;
pub(crate) use post::{Post, Request};
pub(crate) use turns::TurnMeter;
pub use turns::{Durations, Turns};

/// Why the network thread could not be started. The fault is this machine's.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The system starts no more threads.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The system gives no more files or memory.
    #[error("cannot wait for sockets: {0}")]
    Runtime(io::Error),
    /// The system has no randomness.
    #[error("the system gives no random numbers")]
    Random,
    /// It panicked while it started; what it said is on stderr.
    #[error("the network thread panicked while it started")]
    Panicked,
}
