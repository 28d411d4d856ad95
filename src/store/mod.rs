//! What runs leave on disk: written so that it survives, read so that it never breaks.
//!
//! [`layout`] alone knows file names, [`mod@format`] alone the form of a record, [`summary`] its words
//! for people. [`recorder`] writes a run's directory, [`request`] the file by which a run is asked for
//! work, [`reader`] finds runs and reads them, [`index`] spares reading many again and [`events`]
//! reads what happened in one. [`recovery`] finds those whose runner died. [`outbox`] keeps
//! notifications until somebody has them, [`digest`] tells many in one, and [`told`] knows of what
//! is told once. [`parked`] and [`probed`] know of agents, [`elsewhere`] of what other machines used
//! up and [`place`] by which name they know this log root, [`delegated`] of tasks that others do,
//! [`mod@since`] of when schedules and topics came to be, and [`mod@beats`] of when the heartbeat beat.
//! [`retention`] removes what is old, [`foreign`] names what is none of ours, and [`ground`] tells
//! whether a log root can bear all that. Not for deciding anything: an outcome comes from
//! `model::verdict`.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub mod atomic;
pub mod beats;
pub mod capped_log;
mod crashed;
pub mod delegated;
pub mod digest;
pub mod elsewhere;
pub mod event_log;
pub mod events;
pub mod foreign;
pub mod format;
pub mod ground;
pub mod index;
pub mod layout;
pub mod outbox;
pub mod parked;
pub mod place;
mod private;
pub mod probed;
pub mod reader;
pub mod recorder;
pub mod recovery;
pub mod request;
pub mod retention;
pub mod since;
pub mod summary;
#[cfg(test)]
mod testing;
pub mod told;

/// A file or directory of the log root could not be worked on.
#[derive(Debug, Error)]
#[error("cannot {action} `{}`", path.display())]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl StoreError {
    fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
