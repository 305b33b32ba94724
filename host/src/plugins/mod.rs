//! Plugin files: finding them, judging them before any of their code runs, and loading them.
//!
//! A file goes through four gates, and what stops it at one of them is a [`LoadError`]: one line that names the file and
//! the mend.
//!
//! 1. [`directory::scan`]: who may write to it. A plugin is native code with all rights of the process.
//! 2. [`manifest::inspect`]: what the bytes of the file say it is. Nothing is mapped or run.
//! 3. [`loader::load`]: `dlopen`, which runs the library's constructors.
//! 4. `compat`: whether every type that crosses the boundary has the same layout on both sides.
//!
//! What is loaded stays mapped until the process ends: where `dlclose` does unmap a library, any thread, destructor or
//! `&'static str` of its that is still around is a use after free.

pub mod builtin;
pub mod directory;
pub mod loader;
pub mod manifest;

mod compat;
mod error;

pub use directory::{Found, scan, shadow};
pub use error::{LoadError, Problem};
pub use loader::{OpenError, PluginLibrary, load, load_copy};
pub use manifest::{Manifest, Target, inspect};
