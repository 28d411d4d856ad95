//! Reading a repository's own files. An agent may have put a pipe, a link or a giant there.

use std::io;
use std::path::Path;

use crate::regular;

/// More than any reflog or list of fetched heads that a run is judged by.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// Reads a regular file; anything else, and a larger one, is an error and never waited for.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    regular::read(path, MAX_BYTES)
}
