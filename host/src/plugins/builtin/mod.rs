//! The extensions that come with the engine.
//!
//! They are plugins like anybody's: nothing in this folder knows more than `pilotfish-plugin`, and each of them could be a
//! library in the plugin directory just as well.

pub mod ut_metadata;

pub use ut_metadata::create_ut_metadata_plugin;
