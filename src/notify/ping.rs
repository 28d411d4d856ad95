//! Telling a watchdog service that a run starts and how it ended, in the protocol of
//! healthchecks.io: what is not told for too long, it tells a person.
//!
//! ```text
//! GET https://hc-ping.com/UUID/start?rid=8c0f…    GET https://hc-ping.com/UUID/1?rid=8c0f…
//! ```

use std::time::Duration;

use reqwest012::{Client, redirect};
use sha2::{Digest as _, Sha256};

use crate::model::text;
use crate::tls;

/// The longest time for one ping.
const LIMIT: Duration = Duration::from_secs(5);

/// A check of such a service, for one run.
#[derive(Clone)]
pub struct Ping {
    url: String,
    run: String,
}

impl std::fmt::Debug for Ping {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Ping(***)")
    }
}

/// What is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signal {
    /// The run starts.
    Start,
    /// The run is over with this exit code; 0 is good.
    End(u8),
    /// The run was skipped, which is neither good nor bad.
    Log,
}

impl Ping {
    /// The check at a secret URL, for a run of any unique name.
    pub fn new(url: &str, run: &str) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        let run = uuid(run);
        Self { url, run }
    }

    /// Tells a signal. Takes at most five seconds.
    ///
    /// # Errors
    /// The error holds no part of the URL.
    pub async fn send(&self, signal: Signal) -> Result<(), reqwest012::Error> {
        tls::install_provider();
        let (url, run) = (&self.url, &self.run);
        let url = match signal {
            Signal::Start => format!("{url}/start?rid={run}"),
            Signal::End(code) => format!("{url}/{code}?rid={run}"),
            Signal::Log => format!("{url}/log?rid={run}"),
        };
        let client = Client::builder()
            .timeout(LIMIT)
            .redirect(redirect::Policy::none())
            .build()?;
        let answer = client.get(url).send().await;
        let answer = answer.and_then(reqwest012::Response::error_for_status);
        answer.map(drop).map_err(reqwest012::Error::without_url)
    }
}

/// A UUID (version 8) that stands for a name.
fn uuid(name: &str) -> String {
    let mut bytes: Vec<u8> = Sha256::digest(name.as_bytes())[..16].to_vec();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = text::hexadecimal(&bytes);
    let groups = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_by_the_same_uuid_each_time() {
        let one = uuid("host/work/claude/20260219_204003");
        assert_eq!(one, uuid("host/work/claude/20260219_204003"));
        assert_ne!(one, uuid("host/work/claude/20260219_204004"));
        let shape: String = one
            .chars()
            .map(|c| if c == '-' { '-' } else { 'x' })
            .collect();
        assert_eq!(shape, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
        assert_eq!((&one[14..15], "89ab".contains(&one[19..20])), ("8", true));
    }
}
