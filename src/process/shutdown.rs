//! Requests to stop, as values: Ctrl-C, Ctrl-\, SIGTERM and a hang-up.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::process::system;

/// Waits for the signals that ask the runner to stop.
///
/// A hang-up that was ignored when the runner began (`nohup`) stays ignored.
#[derive(Debug)]
pub struct Shutdown {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    hangup: Option<Signal>,
    heard: Option<i32>,
}

impl Shutdown {
    /// Begins to listen. From here on the signals do not end the runner by themselves.
    ///
    /// # Errors
    /// When the signals cannot be taken; must be called within a runtime.
    pub fn listen() -> io::Result<Self> {
        // What makes a file larger than allowed (`ulimit -f`) fails by that, as on a full disk, instead
        // of ending the runner.
        drop(signal(SignalKind::from_raw(libc::SIGXFSZ))?);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            hangup: if system::is_ignored(libc::SIGHUP) {
                None
            } else {
                Some(signal(SignalKind::hangup())?)
            },
            heard: None,
        })
    }

    /// The number of the next such signal.
    pub async fn next(&mut self) -> i32 {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.quit.recv() => libc::SIGQUIT,
            _ = hangup => libc::SIGHUP,
        };
        self.heard = Some(signal);
        signal
    }

    /// The last signal that [`next`](Self::next) gave, to whomever.
    pub fn heard(&self) -> Option<i32> {
        self.heard
    }
}

/// To be called by every thread beside the main one. Ctrl-Z is for the main thread, which stops the
/// agent before the runner; and a request to end that the main thread cannot take, as it hangs, waits
/// where it is seen.
pub fn leave_signals_to_main() {
    system::leave_signals();
}
