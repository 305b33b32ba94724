//! The disk: threads that read, write and hash for the engine, which never waits for a file.
//!
//! [`DiskPool`] takes [`DiskJob`](crate::job::DiskJob)s from any thread without blocking and answers each with
//! [`DiskDone`](crate::job::DiskDone)s on a thread of its own. What it guarantees:
//!
//! * The jobs of one piece are carried out one after the other, in the order in which they were asked. Jobs of
//!   different pieces run side by side. Nothing is locked while a file is read, written or hashed.
//! * A block that follows those before it is hashed from memory, after it was written and while the processor's cache holds
//!   it: several pieces side by side, for which a complete one may wait some milliseconds while others are about to
//!   follow. Blocks out of order are written, and read back from the page cache when their turn comes.
//! * [`DiskDone::Hashed`](crate::job::DiskDone::Hashed) comes when every block is written **and** hashed, once.
//! * A write never follows a symbolic link out of the storage's folder, and creates nothing there but the torrent's
//!   regular files and their folders. Reading does follow links: they are the user's own.
//! * A check yields to everything else. Closing its storage, or shutting down, ends it after the pieces in progress: the
//!   rest is not reported, and `CheckFinished` still comes.
//! * A [`Stamp`](crate::job::DiskJob::Stamp) sees every write that was answered before it was asked for, and is answered after
//!   the hash of each piece that was completed by then.
//! * A piece that is known to be right is not written again unless it is forgotten; nor is a block that came twice.
//! * Padding (BEP 47) is never on disk: it reads as zeros.
//!
//! [`DiskPool::read_resident`] is the one call that does something at once: it reads what is in memory already.
//!
//! Files are opened on first use, at most [`OPEN_FILES`] of them at a time. Space is not reserved: a file grows as its
//! blocks arrive, and has holes where none have.

mod check;
mod checks;
mod files;
mod folders;
mod lanes;
mod piece;
mod pool;
mod progress;
mod resident;
mod schedule;
mod stamps;
mod storage;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use files::OPEN_FILES;
pub use pool::DiskPool;
pub use storage::{boot, nanoseconds};
