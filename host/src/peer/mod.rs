//! peer

pub mod bitfield;
pub mod fast;
pub mod rates;
pub mod requests;
