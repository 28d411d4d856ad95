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
pub const TOO_MANY_FILES: &str = "raise the limit of open files, as `ulimit -n 65536`";

/// Whether it was the limit of this process's open files that was reached, and not the system's.
pub fn is_too_many_files(why: &str) -> bool {
    // The words of EMFILE; those of ENFILE begin with them.
    why.contains("Too many open files") && !why.contains("Too many open files in system")
}

/// Why no process could be started, with what to do where a limit was reached.
pub(super) fn advised(why: &(impl ToString + ?Sized)) -> String {
    let why = why.to_string();
    // The words of EAGAIN, also in what bubblewrap says.
    if why.contains("Resource temporarily unavailable") {
        format!("{why}; {TOO_MANY_PROCESSES}")
    } else if is_too_many_files(&why) {
        format!("{why}; {TOO_MANY_FILES}")
    } else {
        why
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn a_limit_is_advised_on_only_where_raising_it_helps() {
        let advice = |errno: Errno| {
            let said = advised(&std::io::Error::from(errno));
            [TOO_MANY_PROCESSES, TOO_MANY_FILES].map(|advice| said.ends_with(advice))
        };
        assert_eq!(advice(Errno::AGAIN), [true, false]);
        assert_eq!(advice(Errno::MFILE), [false, true]);
        assert_eq!(advice(Errno::NFILE), [false, false]);
    }
}
