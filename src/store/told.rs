//! What a person was told once and is not told again: one file a subject, `.state/told/<subject>`,
//! names the last occasion.

use std::fs;
use std::io::{Seek as _, Write as _};

use chrono::{DateTime, Utc};

use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::store::private::open_locked;

/// Whether this is the first time that a person is to be told of an occasion. It is for one caller
/// alone, in whatever process, until another occasion of the subject comes.
///
/// `subject` becomes the name of a file.
pub fn first_told(layout: &Layout, subject: &str, occasion: &str) -> Result<bool, StoreError> {
    tell_once(layout, subject, occasion, |_last| Ok(()))
}

/// When a person was last told of an occasion of a subject; `None` where nobody was.
pub fn told_at(layout: &Layout, subject: &str) -> Option<DateTime<Utc>> {
    let told = fs::symlink_metadata(layout.told().join(subject)).ok()?;
    told.modified().ok().map(DateTime::from)
}

/// The same as [`first_told`], with what is told: `tell` gets the last occasion, empty where there is
/// none, and is called by one at a time. The occasion is noted after it: a crash between the two, or
/// an error of `tell`, lets it be told again.
pub fn tell_once(
    layout: &Layout,
    subject: &str,
    occasion: &str,
    tell: impl FnOnce(&str) -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    let directory = layout.told();
    layout.create_state(&directory)?;
    let path = directory.join(subject);
    let (mut file, last) = open_locked(&path)?;
    if last == occasion {
        return Ok(false);
    }
    tell(&last)?;
    let mut note = || {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(occasion.as_bytes())
    };
    note().map_err(|source| StoreError::new("update", &path, source))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::log_root;

    #[test]
    fn a_pipe_in_the_place_of_what_was_told_is_not_waited_for() {
        use rustix::fs::{CWD, Mode, mkfifoat};
        let (_root, layout) = log_root();
        std::fs::create_dir_all(layout.told()).unwrap();
        mkfifoat(CWD, layout.told().join("subject"), Mode::RUSR | Mode::WUSR).unwrap();
        let error = first_told(&layout, "subject", "now").unwrap_err();
        assert_eq!(error.to_string().split('`').next(), Some("cannot open "));
    }

    #[test]
    fn an_occasion_is_told_once() {
        let (_root, layout) = log_root();
        let told = |subject, occasion| first_told(&layout, subject, occasion).unwrap();
        assert!(told("parked.a", "one"));
        assert!(!told("parked.a", "one"));
        assert!(told("parked.b", "one"));
        assert!(told("parked.a", "a longer one"));
        assert!(!told("parked.a", "a longer one"));
        assert!(told("parked.a", "two"));
    }
}
