//! What the records and the state of a log root say.

use std::collections::BTreeMap;

use chrono::{DateTime, Local, TimeDelta, Utc};

use crate::metrics::exposition::{Family, Histogram, Kind, Page, as_float};
use crate::metrics::tasks::Tasks;
use crate::model::dispatch::DISPATCH_TASK;
use crate::model::ids::AgentName;
use crate::model::record::Record;
use crate::model::reset::day_began;
use crate::store::layout::Layout;
use crate::store::outbox::Outbox;
use crate::store::reader::{self, Filter};
use crate::store::{StoreError, parked};
use crate::worker::End;

/// How far back a last success is looked for.
const DAYS_BACK: i64 = 7;
/// The most older records that are read for that.
const MAX_OLDER: usize = 500;

/// The runs of one task by one agent.
#[derive(Debug, Default)]
struct Group {
    running: u64,
    outcomes: BTreeMap<&'static str, u64>,
    errors: BTreeMap<&'static str, u64>,
    took: Histogram,
    tokens: u64,
    usd: f64,
    last_success: Option<DateTime<Utc>>,
}

/// Writes what the day's records, parked agents and the outbox of a log root say, and gives what
/// dispatched work is in the records. Reads all records of the day: call it where that may take time.
///
/// # Errors
/// When the records cannot be listed.
pub fn of_runs<'a>(
    page: &mut Page,
    layout: &Layout,
    agents: impl Iterator<Item = &'a AgentName>,
    now: DateTime<Utc>,
) -> Result<Tasks, StoreError> {
    let midnight = day_began(now, &Local);
    let since = Some(midnight - TimeDelta::days(DAYS_BACK));
    let wanted = Filter {
        since,
        ..Filter::default()
    };
    let mut groups: BTreeMap<(String, String), Group> = BTreeMap::new();
    let mut tasks = Tasks::default();
    // A run of yesterday may have ended today.
    let (mut older, recent) = (0, midnight - TimeDelta::days(1));
    for run in reader::runs(layout, &wanted)? {
        let record = run.record;
        if record.start_time.is_none_or(|start| start < recent) {
            older += 1;
            if older > MAX_OLDER {
                break;
            }
        }
        let names = (record.task.clone(), record.agent.clone());
        let group = groups.entry(names).or_default();
        group.count(&record, midnight);
        if record.task == DISPATCH_TASK && is_of_today(&record, midnight) {
            let end = if record.outcome.is_good() {
                End::Done
            } else {
                End::Failed
            };
            tasks.ended(end, record.elapsed.unwrap_or_default());
        }
    }
    write_groups(page, &groups);
    let mut family = page.family(
        "agent_runner_parked_until_timestamp_seconds",
        Kind::Gauge,
        "When a parked agent may be started again.",
    );
    for agent in agents {
        if let Some(parking) = parked::parked(layout, agent).filter(|parking| parking.holds(now)) {
            family.sample(&[("agent", agent.as_str())], seconds(parking.until));
        }
    }
    let waiting = Outbox::new(layout).pending()?.len();
    page.gauge(
        "agent_runner_notifications_waiting",
        "Notifications that the server has not accepted yet.",
        as_float(waiting as u64),
    );
    Ok(tasks)
}

fn is_of_today(record: &Record, midnight: DateTime<Utc>) -> bool {
    record.outcome.is_final() && record.end_time.is_some_and(|end| end >= midnight)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows no other numbers"
)]
fn seconds(time: DateTime<Utc>) -> f64 {
    time.timestamp() as f64
}

impl Group {
    fn count(&mut self, record: &Record, midnight: DateTime<Utc>) {
        if record.outcome.is_good() {
            self.last_success = self.last_success.max(record.end_time);
        }
        if !record.outcome.is_final() {
            self.running += 1;
        }
        if !is_of_today(record, midnight) {
            return;
        }
        *self.outcomes.entry(record.outcome.as_str()).or_default() += 1;
        if let Some(class) = record.error_class {
            *self.errors.entry(class.as_str()).or_default() += 1;
        }
        self.took.observe(record.elapsed.unwrap_or_default());
        self.tokens += record.tokens().unwrap_or_default();
        self.usd += record.cost_usd.unwrap_or_default();
    }
}

fn write_groups(page: &mut Page, groups: &BTreeMap<(String, String), Group>) {
    let mut family = |name, kind, help, write: &dyn Fn(&mut Family<'_>, &str, &str, &Group)| {
        let mut family = page.family(name, kind, help);
        for ((task, agent), group) in groups {
            write(&mut family, task, agent, group);
        }
    };
    family(
        "agent_runner_runs_total",
        Kind::Counter,
        "Runs that ended today.",
        &|family, task, agent, group| {
            for (outcome, count) in &group.outcomes {
                let labels = [("task", task), ("agent", agent), ("outcome", outcome)];
                family.sample(&labels, as_float(*count));
            }
        },
    );
    family(
        "agent_runner_run_errors_total",
        Kind::Counter,
        "Runs that ended today with a failure of this class.",
        &|family, task, agent, group| {
            for (class, count) in &group.errors {
                let labels = [("task", task), ("agent", agent), ("class", class)];
                family.sample(&labels, as_float(*count));
            }
        },
    );
    family(
        "agent_runner_run_duration_seconds",
        Kind::Histogram,
        "How long the runs took that ended today.",
        &|family, task, agent, group| {
            family.histogram(&[("task", task), ("agent", agent)], &group.took);
        },
    );
    family(
        "agent_runner_tokens_total",
        Kind::Counter,
        "Tokens of the runs that ended today, where they are known.",
        &|family, task, agent, group| {
            family.sample(&[("task", task), ("agent", agent)], as_float(group.tokens));
        },
    );
    family(
        "agent_runner_cost_dollars_total",
        Kind::Counter,
        "US dollars of the runs that ended today, where they are known.",
        &|family, task, agent, group| {
            family.sample(&[("task", task), ("agent", agent)], group.usd);
        },
    );
    family(
        "agent_runner_runs_running",
        Kind::Gauge,
        "Runs that have begun and not ended.",
        &|family, task, agent, group| {
            family.sample(&[("task", task), ("agent", agent)], as_float(group.running));
        },
    );
    family(
        "agent_runner_last_success_timestamp_seconds",
        Kind::Gauge,
        "When the newest good run of the last days ended.",
        &|family, task, agent, group| {
            if let Some(time) = group.last_success {
                family.sample(&[("task", task), ("agent", agent)], seconds(time));
            }
        },
    );
}
