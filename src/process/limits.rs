//! What the system allows this process.

use rustix::process::{Resource, getrlimit};

/// What to do where no further process or thread can be had.
pub const TOO_MANY_PROCESSES: &str = "raise the limit of processes (`TasksMax=` of the unit, \
                                      `pids.max` of the container, `ulimit -u`) or end some";

/// The most files that this process may have open at once.
pub fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// What to do where no further file can be opened.
pub const TOO_MANY_FILES: &str = "raise the limit of open files: ulimit -n 1024";

/// The words of EMFILE.
pub const MANY_FILES: &str = "Too many open files";

/// Why no process could be started, with what to do where a limit was reached.
pub(super) fn advised(why: &(impl ToString + ?Sized)) -> String {
    let why = why.to_string();
    // The words of EAGAIN, also in what bubblewrap says.
    if why.contains("Resource temporarily unavailable") {
        format!("{why}; {TOO_MANY_PROCESSES}")
    } else if why.contains(MANY_FILES) {
        format!("{why}; {TOO_MANY_FILES}")
    } else {
        why
    }
}
