//! What plugins may do to a session, with real libraries.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod aes_ctr;
mod builtins;
mod chat;
mod disk;
mod files;
mod gone;
mod greed;
mod panics;
mod recorder;
mod remote;
mod tour;
mod versions;
