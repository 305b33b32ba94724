//! What the README says is so, as far as a test can tell.

use crate::source::files;

fn text_of(path: &str) -> String {
    let file = files(&[path]).pop().unwrap_or_else(|| panic!("{path} is missing"));
    file.text
}

/// The lines of the first block of code that begins with `fence`.
fn block<'a>(text: &'a str, fence: &str) -> Vec<&'a str> {
    text.lines().skip_while(|line| *line != fence).skip(1).take_while(|line| *line != "```").collect()
}

#[test]
fn the_plugin_in_the_readme_is_the_one_that_the_interface_compiles() {
    let interface = text_of("plugin-api/src/lib.rs");
    let docs: Vec<&str> = interface.lines().filter_map(|line| line.strip_prefix("//!")).collect();
    let docs = docs.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n");
    let compiled = block(&docs, "```");
    assert!(compiled.len() > 10);
    assert_eq!(block(&text_of("README.md"), "```rust"), compiled);
}

#[test]
fn ci_runs_the_commands_of_the_readme() {
    let (readme, ci) = (text_of("README.md"), text_of(".ci/run"));
    let commands: Vec<&str> =
        block(&readme, "```sh").iter().filter_map(|line| line.split('#').next()).collect();
    assert_eq!(commands.len(), 2);
    for command in commands {
        assert!(ci.contains(command.trim()), "{} is not in .ci/run", command.trim());
    }
}

#[test]
fn the_folders_in_the_readme_are_there() {
    let readme = text_of("README.md");
    let layout = readme.split("## Where things are").nth(1).unwrap_or_default();
    let names = block(layout, "```text").into_iter().flat_map(|line| match line.strip_prefix("  src/") {
        Some(modules) => modules.split("  ").next().unwrap_or_default().split(", ").map(in_host).collect(),
        None => line.split("  ").next().map(str::to_owned).into_iter().collect::<Vec<_>>(),
    });
    let names: Vec<String> = names.collect();
    assert!(names.len() > 10);
    for name in names {
        let there = [&name, &format!("{name}.rs")].into_iter().any(|place| !files(&[place]).is_empty());
        assert!(there, "{name} is not there");
    }
}

fn in_host(module: &str) -> String {
    format!("host/src/{module}")
}
