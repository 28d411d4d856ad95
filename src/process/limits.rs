//! What the system allows this process.

use rustix::process::{Resource, getrlimit};

/// The most files that this process may have open at once.
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
