//! How many files, sockets among them, the process may have open.

/// Files that are no connections: listeners, pipes, plugins, and what the embedding program has open.
const RESERVED: u64 = 20;

/// As many connections as were asked for, or as the system allows. Before that it is asked to allow as many as it will.
pub(super) fn connections(wanted: u32) -> u32 {
    raise_limit().map_or(wanted, |files| within(files, wanted))
}

/// So many of `wanted` connections are possible with so many files; a fifth of them is for the torrents' data.
fn within(files: u64, wanted: u32) -> u32 {
    let most = (files.saturating_sub(RESERVED) / 5 * 4).max(5);
    u32::try_from(most).map_or(wanted, |most| most.min(wanted))
}

/// Has the system allow as many open files as it will, and answers how many that are; `None` if there is no limit, or none is
/// known.
#[cfg(target_os = "linux")]
fn raise_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.current,
        Err(_) => before,
    }
}

#[cfg(not(target_os = "linux"))]
fn raise_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_room_for_files() {
        assert_eq!(within(1_024, 200), 200);
        assert_eq!(within(220, 500), 160);
        assert_eq!(within(0, 500), 5);
        assert_eq!(within(u64::MAX, 500), 500);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_limit_is_raised_to_what_the_system_allows() {
        use rustix::process::{Resource, getrlimit};

        assert_eq!(raise_limit(), getrlimit(Resource::Nofile).maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, getrlimit(Resource::Nofile).maximum);
    }
}
