//! Sums over runs: how many, how good, how long, at what cost. What is unknown is counted as unknown.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::outcome::Outcome;

/// What a tally needs of one run.
#[derive(Clone, Copy, Debug)]
pub struct Tallied {
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub elapsed: Option<Duration>,
    /// Its tokens; `None` is unknown.
    pub tokens: Option<u64>,
    /// US dollars; `None` is unknown.
    pub usd: Option<f64>,
    /// Whether its agent was started: one that was not cost nothing.
    pub was_started: bool,
    /// Its commits that count; `None` is unknown.
    pub commits: Option<usize>,
    /// Lines added and removed.
    pub lines: (u64, u64),
}

/// Sums over runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// All of them.
    pub runs: usize,
    /// Those that have not ended.
    pub running: usize,
    /// Those that were to do something and did it, or rightly found nothing to do.
    pub good: usize,
    /// Those that were not made because another held the repository.
    pub skipped: usize,
    /// How many ended badly, by outcome.
    pub reasons: BTreeMap<&'static str, usize>,
    /// Known tokens.
    pub tokens: u64,
    /// Runs whose tokens are unknown.
    pub tokens_unknown: usize,
    /// Known US dollars.
    pub usd: f64,
    /// Runs whose cost is unknown.
    pub usd_unknown: usize,
    /// Runs whose agent was started.
    pub started: usize,
    /// Known commits that count.
    pub commits: usize,
    /// Runs whose commits are unknown.
    pub commits_unknown: usize,
    /// Lines that they add.
    pub insertions: u64,
    /// Lines that they remove.
    pub deletions: u64,
    durations: Vec<Duration>,
}

impl Tally {
    /// Counts a run.
    pub fn add(&mut self, run: Tallied) {
        self.runs += 1;
        match run.outcome {
            Outcome::Running => {
                // What it costs is not unknown but not over.
                self.running += 1;
                return;
            }
            Outcome::Success | Outcome::NoChange => self.good += 1,
            Outcome::Skipped => self.skipped += 1,
            bad => *self.reasons.entry(bad.as_str()).or_default() += 1,
        }
        self.commits += run.commits.unwrap_or(0);
        self.insertions += run.lines.0;
        self.deletions += run.lines.1;
        if !run.was_started || run.outcome == Outcome::Skipped {
            return;
        }
        self.started += 1;
        self.durations.extend(run.elapsed);
        self.commits_unknown += usize::from(run.commits.is_none());
        match run.tokens {
            Some(tokens) => self.tokens = self.tokens.saturating_add(tokens),
            None => self.tokens_unknown += 1,
        }
        match run.usd {
            Some(usd) => self.usd += usd,
            None => self.usd_unknown += 1,
        }
    }

    /// The part of the runs that ended well, of those that were made and have ended.
    #[expect(clippy::cast_precision_loss, reason = "there are not so many runs")]
    pub fn success_rate(&self) -> Option<f64> {
        let made = self.runs - self.running - self.skipped;
        (made > 0).then(|| self.good as f64 / made as f64)
    }

    /// The duration that this part of the started runs did not exceed, by nearest rank.
    pub fn duration(&self, percent: usize) -> Option<Duration> {
        let mut durations = self.durations.clone();
        durations.sort_unstable();
        let rank = (durations.len() * percent).div_ceil(100).max(1);
        durations.get(rank - 1).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(outcome: Outcome) -> Tallied {
        Tallied {
            outcome,
            elapsed: None,
            tokens: None,
            usd: None,
            was_started: true,
            commits: Some(0),
            lines: (0, 0),
        }
    }

    #[test]
    fn what_is_unknown_is_counted_as_unknown_and_never_as_nothing() {
        let mut tally = Tally::default();
        tally.add(Tallied {
            tokens: Some(7),
            ..run(Outcome::Success)
        });
        tally.add(Tallied {
            usd: Some(0.5),
            ..run(Outcome::Timeout)
        });
        tally.add(run(Outcome::Running));
        tally.add(Tallied {
            was_started: false,
            ..run(Outcome::RateLimited)
        });
        tally.add(run(Outcome::Skipped));
        assert_eq!((tally.tokens, tally.tokens_unknown), (7, 1));
        assert_eq!((tally.usd, tally.usd_unknown), (0.5, 1));
        assert_eq!((tally.runs, tally.started, tally.good), (5, 2, 1));
        let rate = tally.success_rate().unwrap();
        assert!((rate - 1.0 / 3.0).abs() < 1e-9, "{rate}");
        assert_eq!(
            Vec::from_iter(&tally.reasons),
            [(&"rate_limited", &1), (&"timeout", &1)]
        );
    }

    #[test]
    fn durations_are_those_of_the_nearest_rank() {
        let mut tally = Tally::default();
        assert_eq!((tally.duration(50), tally.success_rate()), (None, None));
        for seconds in (1..=10).rev() {
            tally.add(Tallied {
                elapsed: Some(Duration::from_secs(seconds)),
                ..run(Outcome::Success)
            });
        }
        let at = |percent| tally.duration(percent).unwrap().as_secs();
        assert_eq!([at(1), at(50), at(90), at(100)], [1, 5, 9, 10]);
    }
}
