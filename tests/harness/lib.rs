//! What the test suites share.
pub mod fixtures;
pub mod sim;
