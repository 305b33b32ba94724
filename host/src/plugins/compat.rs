//! Whether a plugin's types are laid out as this host's, in whatever minor version each was built.
//!
//! abi_stable compares two layouts, but it takes the first for the older one: it allows the second to have more rows at
//! the end of a table, never the first. So a host that is newer than the plugin has to ask the other way round. And it
//! remembers what it compared, in globals that also compare plugins with each other, in the order of loading: a good
//! plugin may be refused because of the one before. So each check begins with fresh ones; plugins exchange no tables.

use std::cmp::Ordering;

use pilotfish_plugin::rt::API_MINOR;
use pilotfish_plugin::rt::abi_stable::abi_stability::abi_checking::{
    AbiInstability, AbiInstabilityError, AbiInstabilityErrors, CheckingGlobals, ExpectedFound,
    check_layout_compatibility_with_globals,
};
use pilotfish_plugin::rt::abi_stable::type_layout::{
    TLData, TLField, TLFieldOrFunction, TLFunction, TypeLayout,
};

/// Compares this host's layout with that of a plugin of this minor version.
///
/// # Errors
/// One line: which hook or function differs first, and how. "Expected" is always the host's side.
pub(super) fn check(
    ours: &'static TypeLayout,
    theirs: &'static TypeLayout,
    their_minor: u16,
) -> Result<(), String> {
    let side = match their_minor.cmp(&API_MINOR) {
        Ordering::Less => Side::Found,
        Ordering::Equal | Ordering::Greater => Side::Expected,
    };
    let (older, newer) = match side {
        Side::Expected => (ours, theirs),
        Side::Found => (theirs, ours),
    };
    check_layout_compatibility_with_globals(older, newer, &CheckingGlobals::new())
        .map_err(|errors| side.summary(&errors))
}

/// Which side of abi_stable's comparison this host is on.
#[derive(Clone, Copy)]
enum Side {
    Expected,
    Found,
}

impl Side {
    /// abi_stable's own text has some 3000 lines: the place and the verdict are on three of them.
    fn summary(self, errors: &AbiInstabilityErrors) -> String {
        let all: Vec<_> = errors.errors.iter().flat_map(|e| e.errs.iter().map(move |one| (e, one))).collect();
        // Some only follow from others, and say nothing that an author could look for.
        let telling =
            all.iter().find_map(|(e, one)| Some(format!("{}: {}", self.place(e), self.verdict(one)?)));
        let line = match (telling, all.first()) {
            (Some(line), _) => line,
            (None, Some((e, _))) => format!("{}: its layout", self.place(e)),
            (None, None) => "its layout".to_owned(),
        };
        match all.len() {
            0 | 1 => line,
            more => format!("{line} (and {} more)", more - 1),
        }
    }

    /// Where in the interface it is: the innermost table on the way, its row, and what is inside of that.
    fn place(self, error: &AbiInstabilityError) -> String {
        let (mut table, mut inside) = (None, Vec::new());
        let mut function = None;
        for step in &error.stack_trace {
            match *self.ours(step) {
                TLFieldOrFunction::Function(f) => function = Some(f),
                TLFieldOrFunction::Field(field) => {
                    match function.take() {
                        Some(f) => inside.push(argument(f, field)),
                        None if field.name() == "0" => {}
                        None => inside.push(field.name().to_owned()),
                    }
                    if matches!(field.layout().data(), TLData::PrefixType(_)) {
                        table = Some(field.layout().name());
                        inside.clear();
                    }
                }
            }
        }
        let mut inside = inside.into_iter();
        let row = match (table, inside.next()) {
            (Some(table), Some(row)) => format!("{}::{row}", face(table)),
            (Some(table), None) => face(table),
            (None, row) => row.unwrap_or_else(|| "the plugin's module".to_owned()),
        };
        [row].into_iter().chain(inside).collect::<Vec<_>>().join(", ")
    }

    fn verdict(self, error: &AbiInstability) -> Option<String> {
        use AbiInstability as Is;
        Some(match error {
            Is::Name(types) => self.differ("", types),
            Is::Package(names) => self.differ("its package: ", names),
            Is::PackageVersion(versions) => self.differ("its package's version: ", versions),
            Is::Size(sizes) => self.differ("size in bytes: ", sizes),
            Is::Alignment(sizes) => self.differ("alignment in bytes: ", sizes),
            Is::FieldCountMismatch(counts) => self.differ("number of parts: ", counts),
            Is::MismatchedPrefixSize(counts) => {
                self.differ("number of rows that every version has: ", counts)
            }
            Is::UnexpectedField(fields) => self.fields(fields),
            _ => return None,
        })
    }

    fn fields(self, fields: &ExpectedFound<TLField>) -> String {
        // Parameters are fields too, the first of which bears the names of all.
        let name = |field: &TLField| match field.name().trim_end_matches([',', ';']) {
            one if one == field.name() => one.to_owned(),
            all => format!("({})", all.replace([',', ';'], ", ")),
        };
        let (ours, theirs) = (self.ours(fields), self.theirs(fields));
        format!("expected {}, found {}", name(ours), name(theirs))
    }

    fn differ<T: std::fmt::Display>(self, what: &str, of: &ExpectedFound<T>) -> String {
        // abi_stable leaves spaces around lifetimes.
        let text = format!("{what}expected {}, found {}", self.ours(of), self.theirs(of)).replace(" ,", ",");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn ours<T>(self, of: &ExpectedFound<T>) -> &T {
        match self {
            Self::Expected => &of.expected,
            Self::Found => &of.found,
        }
    }

    fn theirs<T>(self, of: &ExpectedFound<T>) -> &T {
        match self {
            Self::Expected => &of.found,
            Self::Found => &of.expected,
        }
    }
}

/// Which of a function's parameters a field of its layout stands for: abi_stable calls the first one by the names of all,
/// and the others `param_1`, `param_2` …
fn argument(function: TLFunction, field: TLField) -> String {
    let names: Vec<&str> = function.param_names.as_str().split([',', ';']).collect();
    let index = match field.name().strip_prefix("param_") {
        Some(number) => number.parse().ok(),
        None if field.name() == function.param_names.as_str() => Some(0),
        None => None,
    };
    match index.and_then(|i: usize| names.get(i)) {
        Some(name) => format!("argument {name}"),
        None => "its answer".to_owned(),
    }
}

/// A table by the name that authors know.
fn face(table: &str) -> String {
    match (table.strip_suffix("Vtable"), table.strip_suffix("Api")) {
        (Some(hooks), _) => format!("hook {hooks}Plugin"),
        (_, Some("Host")) => "host functions".to_owned(),
        (_, Some(functions)) => format!("host function {functions}"),
        _ => table.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use pilotfish_plugin::rt::abi_stable::StableAbi;
    use pilotfish_plugin::rt::{
        HostApiRef, PeerVtableRef, PluginModuleRef, SessionVtableRef, TorrentVtableRef,
    };

    use super::*;

    #[test]
    fn the_interface_refers_to_itself_and_the_check_ends() {
        for minor in [0, API_MINOR, API_MINOR + 1] {
            let ours = <PluginModuleRef as StableAbi>::LAYOUT;
            assert_eq!(check(ours, ours, minor), Ok(()));
        }
    }

    #[test]
    fn a_difference_is_one_line_with_the_hosts_side_first() {
        let ours = <PeerVtableRef as StableAbi>::LAYOUT;
        let theirs = <TorrentVtableRef as StableAbi>::LAYOUT;
        for minor in [0, API_MINOR, API_MINOR + 1] {
            assert!(
                check(ours, theirs, minor).unwrap_err().contains("expected PeerVtable, found TorrentVtable")
            );
        }
    }

    #[test]
    fn a_failed_check_leaves_nothing_behind_for_the_next() {
        let (session, host) = (<SessionVtableRef as StableAbi>::LAYOUT, <HostApiRef as StableAbi>::LAYOUT);
        assert!(check(session, host, API_MINOR).is_err());
        assert_eq!(check(session, session, API_MINOR), Ok(()));
        assert_eq!(check(host, host, API_MINOR), Ok(()));
    }
}
