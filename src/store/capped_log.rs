//! A log of bytes that may come without end: its head and its tail are kept, the middle is not.
//!
//! The head is written straight. What follows goes round in a region of the same file behind it,
//! so memory is constant and everything is on disk at once; [`CappedLog::finish`] puts that region
//! in order. Behind that region stands how far it got, so that `recover` can do the same for a
//! runner that died. Nothing here looks at the bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::regular::open_read;
use crate::store::StoreError;
use crate::store::private::{create_file, open_update};

/// How much of a log is kept, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogCaps {
    /// From its beginning.
    pub head: u64,
    /// From its end.
    pub tail: u64,
}

impl Default for LogCaps {
    fn default() -> Self {
        Self {
            head: 64 << 20,
            tail: 16 << 20,
        }
    }
}

/// What became of a log.
#[derive(Debug, Default)]
pub struct LogEnd {
    /// Bytes that were written to it and are not in it.
    pub dropped_bytes: u64,
    /// The first failure of the disk, if there was one. Nothing after it was kept.
    pub error: Option<io::Error>,
}

/// A log with a cap. Writing never fails: whoever prints must not be blocked by a full disk.
#[derive(Debug)]
pub struct CappedLog {
    file: File,
    caps: LogCaps,
    taken: u64,
    end: LogEnd,
}

/// The size of the pieces in which the tail is moved.
const PIECE_BYTES: usize = 256 * 1024;

impl CappedLog {
    /// Creates the log's file, which must not exist.
    pub fn create(path: &Path, caps: LogCaps) -> Result<Self, StoreError> {
        Ok(Self {
            file: create_file(path)?,
            caps,
            taken: 0,
            end: LogEnd::default(),
        })
    }

    /// Takes bytes. After the first failure of the disk they are only counted.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (position, room) = self.place();
            let piece = &bytes[..bytes.len().min(room)];
            if self.end.error.is_some() || piece.is_empty() {
                self.end.dropped_bytes += bytes.len() as u64;
                return;
            }
            match self.file.write_all_at(piece, position) {
                Ok(()) => self.taken += piece.len() as u64,
                Err(error) => {
                    self.end.error = Some(error);
                    continue;
                }
            }
            bytes = &bytes[piece.len()..];
        }
        let end = self.caps.head + self.caps.tail;
        if self.taken > end {
            let note = turn_note(self.caps, self.taken);
            if let Err(error) = self.file.write_all_at(note.as_bytes(), end) {
                tracing::debug!(%error, "a crash would leave the log out of order");
            }
        }
    }

    /// Ends the log: the tail is put in order behind a line that tells how much lies between.
    pub fn finish(mut self) -> LogEnd {
        let LogCaps { head, tail } = self.caps;
        let overwritten = self.taken.saturating_sub(head + tail);
        self.end.dropped_bytes += overwritten;
        if overwritten > 0
            && let Err(error) = self.unroll()
        {
            self.end.error.get_or_insert(error);
        }
        self.end
    }

    /// Where the next byte goes, and how many fit there in a row.
    fn place(&self) -> (u64, usize) {
        let LogCaps { head, tail } = self.caps;
        let (position, room) = if self.taken < head {
            (self.taken, head - self.taken)
        } else if tail == 0 {
            (head, 0)
        } else {
            let turned = (self.taken - head) % tail;
            (head + turned, tail - turned)
        };
        (position, usize::try_from(room).unwrap_or(usize::MAX))
    }

    /// Writes the tail in order behind the region where it goes round, and moves it down over it.
    fn unroll(&self) -> io::Result<()> {
        let LogCaps { head, tail } = self.caps;
        let note = format!("\n… {} bytes left out …\n", self.end.dropped_bytes);
        let (oldest, ordered) = (self.place().0, head + tail);
        let older = head + tail - oldest;
        let note_bytes = note.len() as u64;
        self.file.write_all_at(note.as_bytes(), ordered)?;
        self.copy(oldest, ordered + note_bytes, older)?;
        self.copy(head, ordered + note_bytes + older, tail - older)?;
        self.copy(ordered, head, note_bytes + tail)?;
        self.file.set_len(head + note_bytes + tail)
    }

    /// Copies a range in ascending order; it may overlap with a target below it.
    fn copy(&self, from: u64, to: u64, length: u64) -> io::Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        let mut done = 0;
        while done < length {
            let rest = usize::try_from(length - done).unwrap_or(usize::MAX);
            let piece = &mut buffer[..rest.min(PIECE_BYTES)];
            self.file.read_exact_at(piece, from + done)?;
            self.file.write_all_at(piece, to + done)?;
            done += piece.len() as u64;
        }
        Ok(())
    }
}

/// What stands behind a tail that goes round; always of the same length.
fn turn_note(LogCaps { head, tail }: LogCaps, taken: u64) -> String {
    format!("\n… it goes round: head {head:020} tail {tail:020} of {taken:020} bytes …\n")
}

/// Puts the log of a runner that died in order, where its tail went round. Its time stays.
pub(crate) fn recover(path: &Path) -> Result<(), StoreError> {
    if open_read(path).is_err() {
        return Ok(());
    }
    let file = open_update(path)?;
    let put_in_order = || {
        let found = file.metadata()?;
        let Some((caps, taken)) = turned(&file, found.len())? else {
            return Ok(());
        };
        let log = CappedLog {
            file: file.try_clone()?,
            caps,
            taken,
            end: LogEnd::default(),
        };
        log.finish().error.map_or(Ok(()), Err)?;
        file.set_modified(found.modified()?)
    };
    put_in_order().map_err(|source| StoreError::new("put in order", path, source))
}

/// What the note at the end of a log of this size says.
fn turned(file: &File, size: u64) -> io::Result<Option<(LogCaps, u64)>> {
    let mut note = turn_note(LogCaps::default(), 0).into_bytes();
    let Some(end) = size.checked_sub(note.len() as u64) else {
        return Ok(None);
    };
    file.read_exact_at(&mut note, end)?;
    let note = String::from_utf8_lossy(&note);
    let mut numbers = note.split(' ').filter_map(|word| word.parse().ok());
    let mut next = || numbers.next().unwrap_or(0);
    let (head, tail, taken) = (next(), next(), next());
    let caps = LogCaps { head, tail };
    let is_ours = note == turn_note(caps, taken)
        && head.checked_add(tail) == Some(end)
        && tail > 0
        && taken > end;
    Ok(is_ours.then_some((caps, taken)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::testing::plant;

    /// Writes `total` counted bytes in pieces through a log with these caps.
    #[track_caller]
    fn check(total: usize, piece: usize, caps: LogCaps) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let printed: Vec<u8> = (0..total)
            .map(|at| b'a' + u8::try_from(at % 26).unwrap())
            .collect();
        let mut log = CappedLog::create(&path, caps).unwrap();
        for piece in printed.chunks(piece) {
            log.write(piece);
        }
        // As its runner would leave it that died here.
        let crashed = directory.path().join("crashed");
        fs::copy(&path, &crashed).unwrap();
        let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1 << 30);
        let file = File::options().write(true).open(&crashed).unwrap();
        file.set_modified(time).unwrap();
        recover(&crashed).unwrap();
        assert_eq!(file.metadata().unwrap().modified().unwrap(), time);
        let end = log.finish();
        assert!(end.error.is_none());
        if caps.tail > 0 {
            assert!(
                fs::read(&crashed).unwrap() == fs::read(&path).unwrap(),
                "{total}"
            );
        }
        let kept = fs::read(&path).unwrap();
        let (head, tail) = (
            usize::try_from(caps.head).unwrap(),
            usize::try_from(caps.tail).unwrap(),
        );
        if total <= head + tail {
            assert_eq!((kept, end.dropped_bytes), (printed, 0));
            return;
        }
        let dropped = total - head - tail;
        let mut expected = printed[..head].to_vec();
        if tail > 0 {
            expected.extend(format!("\n… {dropped} bytes left out …\n").bytes());
            expected.extend(&printed[total - tail..]);
        }
        assert_eq!(end.dropped_bytes, dropped as u64);
        assert_eq!(kept, expected, "{total} in {piece}");
    }

    #[test]
    fn head_and_tail_are_kept_and_the_middle_is_counted() {
        for total in 0..60 {
            for piece in [1, 3, 4, 7, 10, 16, 17, 59] {
                check(total, piece, LogCaps { head: 10, tail: 7 });
                check(total, piece, LogCaps { head: 0, tail: 4 });
            }
            check(total, 3, LogCaps { head: 5, tail: 0 });
        }
        // Larger than the pieces in which the tail is moved.
        let caps = LogCaps {
            head: 100_000,
            tail: 1_000_000,
        };
        check(3_333_333, 70_001, caps);
    }

    #[test]
    fn a_full_disk_is_told_once_and_blocks_nobody() {
        let mut log = CappedLog {
            file: File::options()
                .read(true)
                .write(true)
                .open("/dev/full")
                .unwrap(),
            caps: LogCaps::default(),
            taken: 0,
            end: LogEnd::default(),
        };
        log.write(&[b'x'; 1000]);
        log.write(b"more");
        let end = log.finish();
        assert_eq!(end.error.unwrap().kind(), io::ErrorKind::StorageFull);
        assert_eq!(end.dropped_bytes, 1004);
    }

    #[test]
    fn what_an_agent_printed_like_our_note_harms_no_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let caps = LogCaps::default();
        let big = u64::MAX;
        for note in [
            turn_note(caps, 0),
            turn_note(
                LogCaps {
                    head: big,
                    tail: big,
                },
                big,
            ),
            turn_note(LogCaps { head: 0, tail: 0 }, big),
        ] {
            plant(&path, note.as_bytes());
            recover(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), note);
        }
        recover(&directory.path().join("none")).unwrap();
        assert!(!directory.path().join("none").exists());
    }

    #[test]
    fn a_log_is_no_other_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(CappedLog::create(&path, LogCaps::default()).is_err());
    }
}
