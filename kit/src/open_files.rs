//! The limit of open files: raised to what the system allows at the start, and divided between connections and everything else.

/// Files that the log, state, reloads and look-ups keep for themselves: connections never take the last of them.
pub const FILES_RESERVED: u64 = 256;

/// macOS allows a process without a hard limit no more than this (`OPEN_MAX`).
#[cfg(unix)]
const UNLIMITED: u64 = 10_240;

/// How many files the process may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit in force now.
    pub limit: u64,
    /// The limit before it was raised.
    pub before: u64,
}

/// Raises the soft limit to the hard one, and says so at debug. `None` where a system has no such limit.
pub fn raise() -> Option<OpenFiles> {
    let files = system::raise()?;
    tracing::debug!(
        limit = files.limit,
        before = files.before,
        "limit of open files (nofile)"
    );
    Some(files)
}

/// The number of sockets that connections from outside may take together: what the limit leaves, and half of a very small limit.
pub fn sockets_max() -> u64 {
    sockets_within(system::limit())
}

fn sockets_within(limit: Option<u64>) -> u64 {
    limit.map_or(u64::MAX, |limit| {
        limit.saturating_sub(FILES_RESERVED).max(limit / 2)
    })
}

#[cfg(unix)]
mod system {
    use std::sync::OnceLock;

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::{OpenFiles, UNLIMITED};

    /// The limit that the process was started with: later calls find the raised one.
    static BEFORE: OnceLock<u64> = OnceLock::new();

    pub fn limit() -> Option<u64> {
        Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
    }

    pub fn raise() -> Option<OpenFiles> {
        let found = getrlimit(Resource::Nofile);
        let now = found.current.unwrap_or(u64::MAX);
        let before = *BEFORE.get_or_init(|| now);
        let wanted = found.maximum.unwrap_or(UNLIMITED);
        if now < wanted {
            let raised = Rlimit {
                current: Some(wanted),
                maximum: found.maximum,
            };
            if let Err(error) = setrlimit(Resource::Nofile, raised) {
                tracing::warn!(
                    %error,
                    "failed to raise the limit of open files from {now} to {wanted}; set LimitNOFILE or `ulimit -n`"
                );
            }
        }
        Some(OpenFiles {
            limit: limit()?,
            before,
        })
    }
}

#[cfg(not(unix))]
mod system {
    use super::OpenFiles;

    pub fn limit() -> Option<u64> {
        None
    }

    pub fn raise() -> Option<OpenFiles> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_the_rest_of_the_process() {
        for (limit, want) in [
            (Some(65_536), 65_280),
            (Some(1_024), 768),
            (Some(256), 128),
            (Some(0), 0),
            (None, u64::MAX),
        ] {
            assert_eq!(sockets_within(limit), want, "{limit:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let files = raise().unwrap();
        let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        assert_eq!(files.limit, hard.unwrap_or(UNLIMITED));
    }
}
