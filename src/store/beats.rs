//! The heartbeat's log, written and read back.

use std::io;
use std::os::unix::fs::FileExt as _;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use crate::model::clock::utc;
use crate::regular::open_read;
use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::store::private::{append, create_directory};

/// The beats that are looked at: a month of them.
const MAX_BYTES: u64 = 1 << 20;

/// What the heartbeat's log tells.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Beats {
    /// The first one ever; `None` where there never was one.
    pub first: Option<DateTime<Utc>>,
    /// Those of the last month, oldest first.
    pub recent: Vec<DateTime<Utc>>,
}

impl Beats {
    /// Whether this clock is not the one that is behind: for a week now no beat was a day ahead of it.
    pub fn confirm(&self, now: DateTime<Utc>) -> bool {
        let is_ahead = |beat: &DateTime<Utc>| *beat - now >= TimeDelta::days(1);
        let agreeing = self.recent.rsplit(is_ahead).next();
        let since = agreeing.and_then(|beats| beats.first());
        since.is_some_and(|since| now - *since >= TimeDelta::weeks(1))
    }
}

/// Adds a line for this moment to the heartbeat's log.
pub fn beat(layout: &Layout, now: DateTime<Utc>) -> Result<(), StoreError> {
    layout.create()?;
    let path = layout.heartbeat_log();
    if let Some(directory) = path.parent() {
        create_directory(directory)?;
    }
    append(&path, &format!("{}\n", utc(now)))
}

/// Reads the beats. A missing log has none; lines that are no time are passed over.
pub fn beats(layout: &Layout) -> Result<Beats, StoreError> {
    let path = layout.heartbeat_log();
    let read = || -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (file, size) = open_read(&path)?;
        let mut head = vec![0; usize::try_from(size.min(64)).unwrap_or(0)];
        let mut tail = vec![0; usize::try_from(size.min(MAX_BYTES)).unwrap_or(0)];
        file.read_exact_at(&mut head, 0)?;
        file.read_exact_at(&mut tail, size.saturating_sub(MAX_BYTES))?;
        Ok((head, tail))
    };
    match read() {
        Ok((head, tail)) => Ok(Beats {
            first: times(&head).next(),
            recent: times(&tail).collect(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Beats::default()),
        Err(source) => Err(StoreError::new("read", &path, source)),
    }
}

fn times(bytes: &[u8]) -> impl Iterator<Item = DateTime<Utc>> + '_ {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = str::from_utf8(line).ok()?;
        let time = NaiveDateTime::parse_from_str(line, "%Y-%m-%d %H:%M:%S UTC");
        Some(time.ok()?.and_utc())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{log_root, plant, start};

    #[test]
    fn beats_of_a_week_confirm_a_clock_and_one_ahead_of_it_does_not() {
        let confirm = |days_ago: &[i64]| {
            let at = |days: &i64| start() - TimeDelta::days(*days);
            let recent = days_ago.iter().map(at).collect();
            let beats = Beats {
                recent,
                ..Beats::default()
            };
            beats.confirm(start())
        };
        assert!(confirm(&[9, 8, 0]));
        assert!(!confirm(&[]) && !confirm(&[6, 0]), "too few");
        assert!(!confirm(&[60, 30, -30, 0]), "it may be behind");
        assert!(confirm(&[60, -3650, 7, 0]), "that was ahead");
    }

    #[test]
    fn beats_are_read_as_they_were_written() {
        let (_root, layout) = log_root();
        assert_eq!(beats(&layout).unwrap(), Beats::default());
        beat(&layout, start()).unwrap();
        beat(&layout, start()).unwrap();
        let expected = [start(), start()];
        assert_eq!(beats(&layout).unwrap().recent, expected);
        plant(
            &layout.heartbeat_log(),
            b"torn\n2026-02-19 20:40:03 UTC\n\xff\n2026-02-19 20:4",
        );
        let beats = beats(&layout).unwrap();
        assert_eq!((beats.first, beats.recent.len()), (Some(start()), 1));
    }

    #[test]
    fn a_beat_is_a_line_of_its_own() {
        let (_root, layout) = log_root();
        beat(&layout, start()).unwrap();
        beat(&layout, start()).unwrap();
        let text = std::fs::read_to_string(layout.heartbeat_log()).unwrap();
        assert_eq!(text, "2026-02-19 20:40:03 UTC\n".repeat(2));
    }
}
