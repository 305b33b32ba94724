//! The project's files, and what their code names.
//!
//! Code is read as tokens, so comments, documentation and the contents of strings name nothing, and what stands under
//! `#[cfg(test)]` is left out.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A file of the project.
pub(crate) struct Source {
    /// Where it lies in the project, with `/` between the parts.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

/// A path that stands in code, such as `crate::wire::Message`: an import, or a name spelled out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    /// The line of its last part, from 1.
    pub(crate) line: usize,
    /// Its parts. `self` and `super` are resolved, so what belongs to the crate begins with `crate`.
    pub(crate) path: Vec<String>,
}

impl Mention {
    /// Whether `parts` (`std::fs`) stand in the path one after the other.
    pub(crate) fn names(&self, parts: &str) -> bool {
        let parts: Vec<&str> = parts.split("::").collect();
        self.path.windows(parts.len()).any(|window| window == parts)
    }
}

/// A token: an identifier, a literal, a bracket, or a sign.
pub(crate) struct Word {
    /// Its line, from 1.
    pub(crate) line: usize,
    /// As it stands in the source.
    pub(crate) text: String,
}

/// Every file under these folders or files of the project, without what was built.
pub(crate) fn files(places: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut paths = Vec::new();
    places.iter().for_each(|place| walk(root.join(place), &mut paths));
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let parts = path.strip_prefix(&root).into_iter().flatten();
            let path = parts.map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
            Source { path, text: String::from_utf8_lossy(&bytes).into_owned() }
        })
        .collect()
}

/// Every Rust file under these folders or files of the project.
pub(crate) fn rust(places: &[&str]) -> Vec<Source> {
    files(places).into_iter().filter(|source| source.path.ends_with(".rs")).collect()
}

/// Collects the files below `path`. What does not exist (yet) holds none.
fn walk(path: PathBuf, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(&path) else {
        found.extend(path.is_file().then_some(path));
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name() != "target" && entry.file_name() != ".git" {
            walk(entry.path(), found);
        }
    }
}

impl Source {
    /// Whether the file holds nothing but tests.
    pub(crate) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The module of a file under a `src` folder: `["net", "driver"]`. That of a crate's root is empty.
    pub(crate) fn module(&self) -> Vec<String> {
        let within = self.path.split_once("src/").map_or(&*self.path, |(_, within)| within);
        let within = within.strip_suffix(".rs").unwrap_or(within);
        let mut parts: Vec<String> = within.split('/').map(str::to_owned).collect();
        if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            parts.pop();
        }
        parts
    }

    /// The tokens of the whole file.
    pub(crate) fn tokens(&self) -> Vec<TokenTree> {
        let tokens = self.text.parse::<TokenStream>();
        tokens.unwrap_or_else(|error| panic!("{}: {error}", self.path)).into_iter().collect()
    }

    /// The tokens of what is compiled into the product.
    pub(crate) fn code(&self) -> Vec<TokenTree> {
        without_tests(self.tokens())
    }

    /// What the product's code names, in order.
    pub(crate) fn mentions(&self) -> Vec<Mention> {
        let mut found = Vec::new();
        mentions(&self.code(), &self.module(), &mut found);
        found
    }
}

/// The tokens one after the other, with what stands in brackets between its brackets.
pub(crate) fn words(tokens: impl IntoIterator<Item = TokenTree>) -> Vec<Word> {
    let mut words = Vec::new();
    for token in tokens {
        let line = token.span().start().line;
        if let TokenTree::Group(group) = token {
            let (open, close) = match group.delimiter() {
                Delimiter::Parenthesis => ("(", ")"),
                Delimiter::Brace => ("{", "}"),
                Delimiter::Bracket => ("[", "]"),
                Delimiter::None => ("", ""),
            };
            words.push(Word { line, text: open.to_owned() });
            words.extend(self::words(group.stream()));
            words.push(Word { line: group.span_close().start().line, text: close.to_owned() });
        } else {
            words.push(Word { line, text: token.to_string() });
        }
    }
    words
}

/// Leaves out the items under `#[cfg(test)]`.
fn without_tests(tokens: Vec<TokenTree>) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while let Some(token) = rest.next() {
        match (&token, rest.peek()) {
            (TokenTree::Punct(hash), Some(TokenTree::Group(attribute)))
                if hash.as_char() == '#' && is_cfg_test(attribute) =>
            {
                // An item ends with its braces or its semicolon.
                rest.find(|token| match token {
                    TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                    TokenTree::Punct(punct) => punct.as_char() == ';',
                    _ => false,
                });
            }
            (TokenTree::Group(group), _) => {
                let inner = without_tests(group.stream().into_iter().collect());
                let mut clean = Group::new(group.delimiter(), inner.into_iter().collect());
                clean.set_span(group.span());
                kept.push(clean.into());
            }
            _ => kept.push(token),
        }
    }
    kept
}

fn is_cfg_test(attribute: &Group) -> bool {
    attribute.delimiter() == Delimiter::Bracket
        && attribute.stream().to_string().replace(' ', "") == "cfg(test)"
}

fn mentions(tokens: &[TokenTree], module: &[String], found: &mut Vec<Mention>) {
    let mut at = 0;
    while at < tokens.len() {
        if let [TokenTree::Ident(word), TokenTree::Ident(name), TokenTree::Group(body), ..] = &tokens[at..]
            && word == "mod"
        {
            let inner = [module, &[name.to_string()]].concat();
            mentions(&stream(body), &inner, found);
            at += 3;
        } else if let TokenTree::Ident(_) = &tokens[at] {
            at += path(&tokens[at..], &[], module, found);
        } else {
            if let TokenTree::Group(group) = &tokens[at] {
                mentions(&stream(group), module, found);
            }
            at += 1;
        }
    }
}

/// Reads the path, or the tree of an import, that begins with the identifier `tokens[0]`; answers how many tokens it has.
fn path(tokens: &[TokenTree], prefix: &[String], module: &[String], found: &mut Vec<Mention>) -> usize {
    let mut parts = prefix.to_vec();
    let mut line = 0;
    let mut at = 0;
    while let Some(TokenTree::Ident(part)) = tokens.get(at) {
        parts.push(part.to_string());
        line = part.span().start().line;
        at += 1;
        if !double_colon(&tokens[at..]) {
            break;
        }
        match tokens.get(at + 2) {
            Some(TokenTree::Group(tree)) if tree.delimiter() == Delimiter::Brace => {
                branches(&stream(tree), &parts, module, found);
                return at + 3;
            }
            Some(TokenTree::Ident(_)) => at += 2,
            _ => break,
        }
    }
    found.push(Mention { line, path: resolved(parts, module) });
    at
}

/// Reads what stands between the braces of an import.
fn branches(tokens: &[TokenTree], prefix: &[String], module: &[String], found: &mut Vec<Mention>) {
    for branch in tokens.split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',')) {
        match branch.first() {
            Some(TokenTree::Ident(_)) => drop(path(branch, prefix, module, found)),
            Some(star) => {
                let line = star.span().start().line;
                found.push(Mention { line, path: resolved(prefix.to_vec(), module) });
            }
            None => {}
        }
    }
}

fn double_colon(tokens: &[TokenTree]) -> bool {
    let colon = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(tokens.first()) && colon(tokens.get(1))
}

/// Replaces `self` and `super` by what they mean in `module`.
fn resolved(mut path: Vec<String>, module: &[String]) -> Vec<String> {
    if path.len() > 1 && path.last().is_some_and(|part| part == "self") {
        path.pop();
    }
    let ups = path.iter().take_while(|part| *part == "super" || *part == "self").count();
    if ups == 0 {
        return path;
    }
    let supers = path[..ups].iter().filter(|part| *part == "super").count();
    let above = &module[..module.len().saturating_sub(supers)];
    let within = path[ups..].iter();
    std::iter::once("crate".to_owned()).chain(above.iter().cloned()).chain(within.cloned()).collect()
}

fn stream(group: &Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

/// What the code in `text` names, joined by `::`, as if it stood in `host/src/net/peer.rs`.
fn named(text: &str) -> Vec<String> {
    let source = Source { path: "host/src/net/peer.rs".into(), text: text.into() };
    source
        .mentions()
        .into_iter()
        .map(|mention| mention.path.join("::"))
        .filter(|path| path.contains("::"))
        .collect()
}

#[test]
fn the_branches_of_an_import_are_paths_of_their_own() {
    let text = "use std::{fs, io::{self, Read as _, *}, thread};";
    assert_eq!(named(text), ["std::fs", "std::io", "std::io::Read", "std::io", "std::thread"]);
}

#[test]
fn self_and_super_are_resolved() {
    assert_eq!(named("use super::Engine; self::wait();"), ["crate::net::Engine", "crate::net::peer::wait"]);
    assert_eq!(named("mod inner { use super::super::Driver; }"), ["crate::net::Driver"]);
}

#[test]
fn comments_strings_and_tests_name_nothing() {
    let text = "
        //! See [`crate::a::B`].
        /// And [`crate::c::D`].
        const TEXT: &str = \"crate::e::F\";
        #[cfg(test)]
        #[allow(unused)]
        mod tests { use crate::g::H; }
        fn last() { crate::i::j::<k::L>() }
    ";
    assert_eq!(named(text), ["crate::i::j", "k::L"]);
}

#[test]
fn a_mention_knows_its_line() {
    let source = Source { path: "host/src/net/peer.rs".into(), text: "\n\nuse std::fs;".into() };
    let mention = source
        .mentions()
        .pop()
        .map(|mention| (mention.line, mention.names("std::fs"), mention.names("fs::std")));
    assert_eq!(mention, Some((3, true, false)));
}
