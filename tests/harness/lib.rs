//! What the test suites share.
#![allow(clippy::unwrap_used, missing_docs, reason = "this is test code")]

pub mod bare_host;
pub mod bench;
pub mod busy;
pub mod fixtures;
pub mod program;
pub mod sim;
pub mod venv;
