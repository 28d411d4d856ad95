//! Metrics of this machine: the file for the textfile collector, and what `dispatch` serves.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cli::error::CliError;
use crate::cli::ui::Ui;
use crate::cli::wiring::{self, SystemClock};
use crate::config::settings::Settings;
use crate::github::GitHub;
use crate::metrics::{self, Answers, Page, Tasks};
use crate::model::clock::Clock as _;
use crate::model::duration;
use crate::model::ids::AgentName;
use crate::model::text::chain;
use crate::store::atomic;
use crate::store::layout::Layout;
use crate::worker::{End, Tally};

/// Writes the configured file; without one it does nothing. What fails is said, and changes nothing
/// else.
pub fn write_file(ui: &Ui, settings: &Settings, github: Option<&GitHub>) {
    let Some(file) = &settings.runner.metrics_file else {
        return;
    };
    let layout = wiring::layout(settings);
    let agents: Vec<AgentName> = settings.agents.keys().cloned().collect();
    let (mut page, tasks) = page(&layout, &agents, github);
    tasks.write(&mut page);
    if let Err(error) = atomic::write_for_all(&file.value, page.text().as_bytes()) {
        ui.talk(&format!(
            "warning: the metrics are not written: {}",
            chain(&error)
        ));
    }
}

/// What is known without a worker, and what dispatched work is in the day's records.
fn page(layout: &Layout, agents: &[AgentName], github: Option<&GitHub>) -> (Page, Tasks) {
    let mut page = Page::default();
    let counted = metrics::of_runs(&mut page, layout, agents.iter(), SystemClock.now());
    let tasks = counted.unwrap_or_else(|error| {
        tracing::warn!("the runs are not counted: {}", chain(&error));
        Tasks::default()
    });
    if let Some(rate) = github.and_then(|github| github.status().rate) {
        let left = u32::try_from(rate.remaining).unwrap_or(u32::MAX);
        page.gauge(
            "github_api_rate_limit_remaining",
            "Requests that GitHub allows until the reset.",
            f64::from(left),
        );
    }
    (page, tasks)
}

/// What a worker shows of itself while it works.
#[derive(Debug)]
pub struct Station {
    layout: Layout,
    agents: Vec<AgentName>,
    github: Option<GitHub>,
    /// The longest time between two turns of a worker that is well.
    patience: Duration,
    shown: Mutex<Shown>,
}

#[derive(Debug)]
struct Shown {
    tasks: Tasks,
    turned: Instant,
    busy: usize,
    tally: Tally,
}

impl Station {
    pub fn new(settings: &Settings, github: Option<GitHub>, patience: Duration) -> Self {
        Self {
            layout: wiring::layout(settings),
            agents: settings.agents.keys().cloned().collect(),
            github,
            patience,
            shown: Mutex::new(Shown {
                tasks: Tasks::default(),
                turned: Instant::now(),
                busy: 0,
                tally: Tally::default(),
            }),
        }
    }

    /// The loop has come round.
    pub fn turn(&self, busy: usize, tally: Tally) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        (shown.turned, shown.busy, shown.tally) = (Instant::now(), busy, tally);
    }

    /// A piece of work has ended.
    pub fn ended(&self, end: End, took: Duration) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.tasks.ended(end, took);
    }
}

impl Answers for Station {
    fn metrics(&self) -> String {
        let (mut page, _) = page(&self.layout, &self.agents, self.github.as_ref());
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.tasks.write(&mut page);
        let busy = u32::try_from(shown.busy).unwrap_or(u32::MAX);
        page.gauge(
            "agent_runner_tasks_running",
            "Dispatched tasks that are being worked on here.",
            f64::from(busy),
        );
        page.text()
    }

    fn health(&self) -> Result<String, String> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let since = shown.turned.elapsed();
        if since > self.patience {
            let since = duration::words(Duration::from_secs(since.as_secs()));
            return Err(format!("the worker has not come round for {since}"));
        }
        let Tally { done, failed, .. } = shown.tally;
        let busy = shown.busy;
        Ok(format!("working on {busy}; {done} done, {failed} failed"))
    }
}

/// Asks the worker at the address for its health; an error when it is not well or not there.
pub fn ask_health(address: SocketAddr) -> Result<String, CliError> {
    const PATIENCE: Duration = Duration::from_secs(5);
    // Whoever listens everywhere also listens here.
    let host = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(host, address.port());
    let mut answer = String::new();
    let asked = TcpStream::connect_timeout(&address, PATIENCE).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        stream.take(8 << 10).read_to_string(&mut answer)
    });
    asked.map_err(|error| {
        CliError::failure(format!("no worker answers at {address}"))
            .because(error)
            .hint("it answers where it was started with `dispatch --metrics ADDRESS`")
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let body = body.trim().to_owned();
    if head.starts_with("HTTP/1.1 200 ") {
        return Ok(body);
    }
    Err(CliError::failure(format!("the worker at {address} is not well")).because(body))
}
