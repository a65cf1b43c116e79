//! How many files and sockets the process may have open, and what of them is for connections of clients.

use log::warn;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::limits;

/// How many connections of clients are served at once, when the configuration says `wanted` and `threads` threads serve. First raises
/// the process's limit of descriptors as far as the system lets it (`ulimit -Sn` to `ulimit -Hn`).
pub(super) fn connections(wanted: usize, threads: usize) -> usize {
    let Some(descriptors) = raise() else { return wanted };
    let fit = fit(descriptors, threads);
    if wanted > fit {
        warn!(
            "at most {fit} client connections are served at once, not {wanted} (`limits.connections`): the process may have {descriptors} files and sockets open, and each connection may need another one to its upstream. Raise the limit (`LimitNOFILE` of systemd, `ulimit -Hn`), or lower `limits.connections`"
        );
    }
    wanted.min(fit)
}

/// Raises the soft limit to the hard one, and returns it. `None`: there is no limit.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
    if raised { maximum } else { current }
}

/// A connection of a client takes a descriptor, and perhaps another one to its upstream. The rest is for the admin listener, health
/// checks, providers and files.
fn fit(descriptors: u64, threads: usize) -> usize {
    let reserved = limits::RESERVED_DESCRIPTORS + limits::THREAD_DESCRIPTORS * threads as u64;
    let left = descriptors.saturating_sub(reserved) / 2;
    usize::try_from(left).unwrap_or(usize::MAX).max(limits::LEAST_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_what_is_not_reserved_is_for_clients() {
        assert_eq!(fit(1_048_576, 4), (1_048_576 - 96 - 32) / 2);
        assert_eq!(fit(256, 2), (256 - 96 - 16) / 2);
        assert_eq!(fit(16, 2), limits::LEAST_CONNECTIONS);
        assert!(raise().is_none_or(|limit| limit > 0));
    }
}
