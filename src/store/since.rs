//! Since when things outside are as they are: what is scheduled, where notifications go.
//!
//! Nobody else tells when a line of a crontab came to be or a topic was changed, so whoever looks
//! notes what is new. What was there at the first look has been there always; so has everything
//! where the note is lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde_json::json;

use crate::model::text;
use crate::regular;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::layout::Layout;
use crate::store::private::{is_own, lock_directory};

/// Since when each is known; `None` is always.
pub type Since = BTreeMap<String, Option<DateTime<Utc>>>;

/// A larger file is none of ours.
const MAX_BYTES: u64 = 1 << 20;

/// Tells since when the things of a subject are known, and notes those that are new. What is not
/// named any more is forgotten. `subject` becomes the name of a file.
///
/// That the note cannot be kept is no error: what is new is so at the next look, too. No log root is
/// made for it, and nothing in another user's.
pub fn since(
    layout: &Layout,
    subject: &str,
    things: impl Iterator<Item = String>,
    now: DateTime<Utc>,
) -> Since {
    let path = path(layout, subject);
    let noted = noted(&path);
    let known = known(noted.as_ref(), things, now);
    if noted.as_ref() != Some(&known)
        && is_own(layout.root())
        && let Err(error) = note(layout, &path, &known)
    {
        tracing::debug!(error = text::chain(&error), subject, "not noted");
    }
    known
}

/// The same without noting anything.
pub fn look(
    layout: &Layout,
    subject: &str,
    things: impl Iterator<Item = String>,
    now: DateTime<Utc>,
) -> Since {
    known(noted(&path(layout, subject)).as_ref(), things, now)
}

fn path(layout: &Layout, subject: &str) -> PathBuf {
    layout.since().join(format!("{subject}.json"))
}

fn noted(path: &Path) -> Option<Since> {
    let bytes = regular::read(path, MAX_BYTES).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn known(noted: Option<&Since>, things: impl Iterator<Item = String>, now: DateTime<Utc>) -> Since {
    let of = |thing: &String| match noted {
        // A clock that was ahead hides nothing for long.
        Some(noted) => noted
            .get(thing)
            .map_or(Some(now), |at| at.map(|at| at.min(now))),
        None => None,
    };
    things.map(|thing| (thing.clone(), of(&thing))).collect()
}

fn note(layout: &Layout, path: &Path, known: &Since) -> Result<(), StoreError> {
    let directory = layout.since();
    layout.create_state(&directory)?;
    let _lock = lock_directory(&directory)?;
    // Under the lock nobody else writes one.
    atomic::remove_leftovers(&directory)?;
    atomic::write(path, format!("{:#}\n", json!(known)).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{log_root, plant, start};
    use chrono::TimeDelta;

    #[test]
    fn what_is_new_is_known_since_it_was_first_seen_and_all_else_since_always() {
        let (_root, layout) = log_root();
        layout.create().unwrap();
        let look = |things: &str, minutes: i64| -> Vec<_> {
            let things = things.chars().map(String::from);
            let now = start() + TimeDelta::minutes(minutes);
            let since = since(&layout, "x", things, now).into_values();
            since
                .map(|at| at.map(|at| (at - start()).num_minutes()))
                .collect()
        };
        assert_eq!(look("ab", 0), [None, None]);
        assert_eq!(look("abc", 1), [None, None, Some(1)]);
        assert_eq!(look("bc", 2), [None, Some(1)]);
        assert_eq!(look("abc", 3), [Some(3), None, Some(1)]);
        assert_eq!(look("a", -5), [Some(-5)], "the clock was ahead");
        assert_eq!(look("a", 5), [Some(-5)]);
        for torn in [&b""[..], b"{\"a\":", b"{\"a\": 7}", b"[]"] {
            plant(&layout.since().join("x.json"), torn);
            assert_eq!(look("a", 6), [None]);
        }
        let known = super::look(&layout, "x", ["b".to_owned()].into_iter(), start());
        assert_eq!(known["b"], Some(start()));
        let again = super::look(&layout, "x", ["a".to_owned()].into_iter(), start());
        assert_eq!(again["a"], None, "nothing was noted");
        let elsewhere = Layout::new(layout.root().join("none"));
        assert_eq!(
            since(&elsewhere, "x", ["a".to_owned()].into_iter(), start())["a"],
            None
        );
        assert!(!elsewhere.root().exists());
    }

    #[test]
    fn a_look_makes_nothing_in_the_log_root_of_somebody_else() {
        let (_root, layout) = log_root();
        layout.create().unwrap();
        if std::os::unix::fs::chown(layout.root(), Some(12_345), None).is_err() {
            eprintln!("SKIPPED: only root looks at the log root of others");
            return;
        }
        since(&layout, "x", ["a".to_owned()].into_iter(), start());
        assert!(!layout.state().exists());
    }
}
