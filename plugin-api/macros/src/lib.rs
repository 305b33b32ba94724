//! The `#[hooks]` attribute of `pilotfish-plugin`.
