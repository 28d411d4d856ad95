//! Answers kept between processes, so that a read that finds nothing new costs no rate limit.
//!
//! One file for each address and caller, for its owner alone. A file that is cut, changed or of
//! another version is as good as none.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::model::text::hexadecimal;

/// Entries that were not written for so long are removed: their issue is closed, or it costs one
/// request to have them again.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);

/// A directory of answers.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

/// An answer with what GitHub calls it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Entry {
    pub(super) etag: String,
    pub(super) link: Option<String>,
    pub(super) body: String,
    /// Of the three above.
    digest: String,
}

impl Entry {
    pub(super) fn new(etag: String, link: Option<String>, body: String) -> Self {
        let mut entry = Self {
            etag,
            link,
            body,
            digest: String::new(),
        };
        entry.digest = entry.digest_of_content();
        entry
    }

    fn digest_of_content(&self) -> String {
        let link = self.link.as_deref().unwrap_or_default();
        digest(&[&self.etag, link, &self.body])
    }
}

impl Cache {
    /// Opens the directory, makes it when it is not there, and removes what is old.
    pub(super) fn open(directory: &Path, now: SystemTime) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let age = now.duration_since(entry.metadata()?.modified()?);
            if age.is_ok_and(|age| age > KEPT_FOR)
                && let Err(error) = fs::remove_file(entry.path())
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// What was kept for an address and a caller.
    pub(super) fn find(&self, url: &str, caller: &str) -> Option<Entry> {
        let bytes = fs::read(self.path(url, caller)).ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        (entry.digest == entry.digest_of_content()).then_some(entry)
    }

    /// Keeps an answer. Not synced: after a loss of power it may be absent or cut.
    pub(super) fn keep(&self, url: &str, caller: &str, entry: &Entry) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.directory)?;
        file.write_all(&serde_json::to_vec(entry)?)?;
        file.persist(self.path(url, caller))?;
        Ok(())
    }

    /// Where something is kept for an address and a caller. Its name reveals neither.
    pub(super) fn path(&self, url: &str, caller: &str) -> PathBuf {
        self.directory.join(digest(&["1", url, caller]))
    }
}

/// A digest that differs when any part differs.
pub(super) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hexadecimal(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_by_its_address_and_caller_and_by_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let open = |now| Cache::open(&directory.path().join("api"), now).unwrap();
        #[expect(clippy::disallowed_methods, reason = "compared with times of files")]
        let now = SystemTime::now();
        let cache = open(now);
        let entry = Entry::new("W/\"1\"".to_owned(), None, "[]".to_owned());
        cache.keep("http://h/a", "x", &entry).unwrap();
        assert_eq!(cache.find("http://h/a", "x").unwrap().body, "[]");
        assert!(cache.find("http://h/a", "y").is_none());
        assert!(cache.find("http://h/b", "x").is_none());
        assert!(open(now).find("http://h/a", "x").is_some());
        let later = open(now + KEPT_FOR + Duration::from_secs(60));
        assert!(later.find("http://h/a", "x").is_none(), "it is old");
    }

    #[test]
    fn a_file_that_is_cut_or_changed_is_as_good_as_none_and_files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path(), SystemTime::UNIX_EPOCH).unwrap();
        let entry = Entry::new("1".to_owned(), None, "[\"issue\"]".to_owned());
        cache.keep("u", "c", &entry).unwrap();
        let path = cache.path("u", "c");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let whole = fs::read(&path).unwrap();
        let changed = String::from_utf8(whole.clone())
            .unwrap()
            .replace("issue", "tissue");
        for damaged in [
            &whole[..whole.len() / 2],
            b"",
            b"\xff\0",
            changed.as_bytes(),
        ] {
            #[expect(clippy::disallowed_methods, reason = "damage on purpose")]
            fs::write(&path, damaged).unwrap();
            assert!(cache.find("u", "c").is_none());
        }
    }
}
