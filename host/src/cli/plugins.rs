//! `plugins`: what plugin files there are, and what they say about themselves.

use std::path::Path;

use pilotfish_plugin::Level;
use serde_json::json;

use super::args::{Common, Plugins};
use super::exit::{ExitCode, Failure};
use super::load::{self, PluginLine};
use super::screen::Screen;
use super::text;
use crate::plugins::{Manifest, inspect};

/// # Errors
/// A file that was named is refused, or a folder that was named cannot be read.
pub(super) fn plugins(args: &Plugins, common: &Common, screen: &Screen) -> Result<ExitCode, Failure> {
    match args {
        Plugins::List => list(common, screen),
        Plugins::Inspect { file } => inspect_file(file, screen),
    }
}

/// Every file as a run would load it; only the session, which opens the plugins, is not started.
fn list(common: &Common, screen: &Screen) -> Result<ExitCode, Failure> {
    let lines = load::lines(&load::load_all(common, screen)?, &[]);
    if screen.json() {
        let plugins: Vec<_> = lines.iter().map(PluginLine::json).collect();
        screen.object(&json!({"schema": 1, "plugins": plugins}));
    } else {
        lines.iter().for_each(|line| screen.data(line.text()));
    }
    if lines.is_empty() {
        screen.say(Level::Info, "there are no plugins: name a --plugin or a --plugin-dir");
    }
    load::require(&lines)?;
    Ok(ExitCode::Done)
}

fn inspect_file(file: &Path, screen: &Screen) -> Result<ExitCode, Failure> {
    let manifest = inspect(file).map_err(|error| Failure::new(ExitCode::Plugin, error))?;
    let Manifest { id, version, description, api: (major, minor), .. } = &manifest;
    if screen.json() {
        screen.object(&json!({
            "schema": 1,
            "id": id,
            "version": version,
            "description": description,
            "api": format!("{major}.{minor}"),
            "target": manifest.target.to_string(),
            "debug": manifest.debug_assertions,
            "size_bytes": manifest.file_size,
            "path": file.to_string_lossy(),
        }));
        return Ok(ExitCode::Done);
    }
    let build = if manifest.debug_assertions { " (debug build)" } else { "" };
    screen.data(format!("name:        {id}"));
    screen.data(format!("version:     {version}"));
    screen.data(format!("description: {description}"));
    screen.data(format!("API:         {major}.{minor}"));
    screen.data(format!("built for:   {}{build}", manifest.target));
    screen.data(format!("size:        {}", text::size(manifest.file_size)));
    Ok(ExitCode::Done)
}
