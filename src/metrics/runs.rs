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
    tokens: Sum,
    usd: Sum,
    last_success: Option<DateTime<Utc>>,
}

/// What runs used up, as far as it is known.
#[derive(Debug, Default)]
struct Sum {
    used: f64,
    /// Runs that told it.
    known: u64,
    /// Runs that may have used something and did not tell it.
    unknown: u64,
}

impl Sum {
    fn add(&mut self, used: Option<f64>, may_have_used: bool) {
        if let Some(used) = used {
            self.used += used;
            self.known += 1;
        } else if may_have_used {
            self.unknown += 1;
        }
    }

    /// `None` where runs used something and none says how much.
    fn told(&self) -> Option<f64> {
        (self.known > 0 || self.unknown == 0).then_some(self.used)
    }
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
        ..Filter::past(now)
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
        if let Some(parking) = parked::parked(layout, agent, now) {
            family.sample(&[("agent", agent.as_str())], seconds(parking.until));
        }
    }
    let waiting = Outbox::new(layout).count()?;
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
        let may_have_used = record.may_have_been_started();
        self.tokens
            .add(record.tokens().map(as_float), may_have_used);
        self.usd.add(record.cost_usd, may_have_used);
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
            if let Some(tokens) = group.tokens.told() {
                family.sample(&[("task", task), ("agent", agent)], tokens);
            }
        },
    );
    family(
        "agent_runner_cost_dollars_total",
        Kind::Counter,
        "US dollars of the runs that ended today, where they are known.",
        &|family, task, agent, group| {
            if let Some(usd) = group.usd.told() {
                family.sample(&[("task", task), ("agent", agent)], usd);
            }
        },
    );
    family(
        "agent_runner_runs_without_tokens_total",
        Kind::Counter,
        "Runs that ended today and did not tell their tokens.",
        &|family, task, agent, group| {
            let unknown = as_float(group.tokens.unknown);
            family.sample(&[("task", task), ("agent", agent)], unknown);
        },
    );
    family(
        "agent_runner_runs_without_cost_total",
        Kind::Counter,
        "Runs that ended today and did not tell their cost.",
        &|family, task, agent, group| {
            let unknown = as_float(group.usd.unknown);
            family.sample(&[("task", task), ("agent", agent)], unknown);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::RunId;
    use crate::model::outcome::Outcome::{self, Skipped, Success};

    fn page(runs: &[(Outcome, Option<f64>)]) -> String {
        let now = "2026-02-19T20:40:03Z".parse().unwrap();
        let mut group = Group::default();
        for (outcome, usd) in runs {
            let id = RunId::new(now, 1);
            let mut record =
                Record::begun(&"work".parse().unwrap(), &"a".parse().unwrap(), id, now);
            record.outcome = *outcome;
            record.end_time = Some(now);
            record.runner_version = Some("1".to_owned());
            record.cost_usd = *usd;
            record.prompt_sha256 = (*outcome != Outcome::Skipped).then(|| "0".to_owned());
            group.count(&record, now);
        }
        let mut page = Page::default();
        write_groups(
            &mut page,
            &[(("work".to_owned(), "a".to_owned()), group)].into(),
        );
        page.text()
    }

    #[test]
    fn what_is_not_known_is_no_zero_and_is_counted() {
        let check = |runs: &[_], cost: Option<&str>, unknown: &str| {
            let page = page(runs);
            let told = |name: &str| {
                let line = format!("agent_runner_{name}_total{{task=\"work\",agent=\"a\"}} ");
                page.lines()
                    .find_map(|told| told.strip_prefix(&line).map(str::to_owned))
            };
            assert_eq!(told("cost_dollars").as_deref(), cost, "{page}");
            assert_eq!(
                told("runs_without_cost").as_deref(),
                Some(unknown),
                "{page}"
            );
        };
        check(&[], Some("0"), "0");
        check(&[(Skipped, None)], Some("0"), "0");
        check(&[(Success, None)], None, "1");
        check(&[(Success, None), (Success, Some(1.5))], Some("1.5"), "1");
        check(&[(Success, Some(0.0))], Some("0"), "0");
    }
}
