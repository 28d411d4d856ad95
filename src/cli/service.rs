//! What systemd hears from `dispatch` as a service: ready, at work on what, alive, about to end.
//!
//! ```text
//! READY=1
//! STATUS=working on 1 task; 4 done, 0 failed
//! WATCHDOG=1
//! STOPPING=1
//! ```
//!
//! One datagram a message, to the socket that `NOTIFY_SOCKET` names; see `sd_notify(3)`. Nobody waits
//! for it and nothing depends on it. A crate for it would be longer than this file.

use std::cell::RefCell;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::config::env::{Environment, NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC};
use crate::model::text;
use crate::worker::Tally;

/// The service manager that started this process.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
    status: RefCell<String>,
}

impl ServiceManager {
    /// `None` when nobody listens.
    pub(crate) fn find(environment: &Environment) -> Option<Self> {
        let name = environment.get(NOTIFY_SOCKET)?.as_bytes();
        let address = match name {
            #[cfg(target_os = "linux")]
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(environment.get(NOTIFY_SOCKET)?),
        };
        let socket = UnixDatagram::unbound().and_then(|socket| {
            // A manager that is stuck must not hold up the work.
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let number = |name| environment.get(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = number(WATCHDOG_PID).is_none_or(|pid| pid == u64::from(std::process::id()));
        Some(Self {
            socket: socket.ok()?,
            address: address.ok()?,
            watchdog: number(WATCHDOG_USEC)
                .filter(|_| is_ours)
                .map(Duration::from_micros),
            status: RefCell::default(),
        })
    }

    /// How often it wants a sign of life; half of it is the right pace.
    pub(crate) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service has begun to work.
    pub(crate) fn ready(&self) {
        self.say("READY=1");
    }

    /// The loop has come round.
    pub(crate) fn turn(&self, busy: usize, tally: Tally) {
        let at_work = match busy {
            0 => "waiting for work".to_owned(),
            busy => format!("working on {}", text::count(busy, "task")),
        };
        let Tally { done, failed, .. } = tally;
        let status = format!("STATUS={at_work}; {done} done, {failed} failed");
        if *self.status.borrow() != status {
            self.say(&status);
            *self.status.borrow_mut() = status;
        }
        if self.watchdog.is_some() {
            self.say("WATCHDOG=1");
        }
    }

    /// The service ends, within this time.
    pub(crate) fn stopping(&self, within: Duration) {
        let micros = within.as_micros();
        self.say(&format!(
            "STOPPING=1\nSTATUS=ending what is at work\nEXTEND_TIMEOUT_USEC={micros}"
        ));
    }

    fn say(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            tracing::debug!("the service manager was not told: {error}");
        }
    }
}
