//! What may be spent on one day, and whether it is spent.

use crate::model::record::Record;

/// The most that an agent or a task may use up on one day; `None` is no cap.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Caps {
    /// Runs whose agent was started.
    pub runs: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// US dollars.
    pub usd: Option<f64>,
}

/// What a run counts as whose use is not known, or not yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorstCase {
    /// Tokens.
    pub tokens: u64,
    /// US dollars.
    pub usd: f64,
}

/// What runs have used up together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Runs whose agent was started.
    pub runs: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Their cost in US dollars.
    pub usd: f64,
    /// How many of them count as the worst case in tokens.
    pub unknown_tokens: u64,
    /// How many of them count as the worst case in dollars.
    pub unknown_usd: u64,
}

impl Spent {
    /// Counts a run in, if its agent was started.
    pub fn count(&mut self, record: &Record, worst_case: WorstCase) {
        if !record.was_started() {
            return;
        }
        self.runs += 1;
        self.unknown_tokens += u64::from(record.tokens().is_none());
        self.unknown_usd += u64::from(record.cost_usd.is_none());
        let tokens = record.tokens().unwrap_or(worst_case.tokens);
        self.tokens = self.tokens.saturating_add(tokens);
        self.usd += record.cost_usd.unwrap_or(worst_case.usd);
    }

    /// Adds what was used up elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.runs = self.runs.saturating_add(other.runs);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.usd += other.usd;
        self.unknown_tokens = self.unknown_tokens.saturating_add(other.unknown_tokens);
        self.unknown_usd = self.unknown_usd.saturating_add(other.unknown_usd);
    }
}

/// A cap that leaves nothing for another run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reached {
    /// Its key in the configuration.
    pub key: &'static str,
    /// What is used up of how much.
    pub fact: String,
}

impl Caps {
    /// Whether nothing is capped.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The first cap that is reached.
    pub fn reached(&self, spent: &Spent) -> Option<Reached> {
        let estimated = |runs: u64| match runs {
            0 => String::new(),
            runs => format!(", {runs} of the {} runs at the worst case", spent.runs),
        };
        let runs = self.runs.filter(|most| spent.runs >= *most);
        let tokens = self.tokens.filter(|most| spent.tokens >= *most);
        let usd = self.usd.filter(|most| spent.usd >= *most);
        let (key, fact) = if let Some(most) = runs {
            ("max_runs_per_day", format!("{} of {most} runs", spent.runs))
        } else if let Some(most) = tokens {
            let estimated = estimated(spent.unknown_tokens);
            let fact = format!("{} of {most} tokens{estimated}", spent.tokens);
            ("max_tokens_per_day", fact)
        } else {
            let most = usd?;
            let estimated = estimated(spent.unknown_usd);
            let fact = format!("{:.2} of {most:.2} US dollars{estimated}", spent.usd);
            ("max_usd_per_day", fact)
        };
        Some(Reached { key, fact })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::RunId;
    use crate::model::outcome::Outcome;

    const WORST: WorstCase = WorstCase {
        tokens: 1000,
        usd: 1.0,
    };

    fn spent(runs: &[(Outcome, bool, Option<u64>, Option<f64>)]) -> Spent {
        let mut spent = Spent::default();
        for (outcome, begun, tokens, usd) in runs {
            let mut record = Record::unknown("t", "a", RunId::from_directory("r"));
            record.outcome = *outcome;
            record.prompt_sha256 = begun.then(|| "00".to_owned());
            record.token_count = *tokens;
            record.cost_usd = *usd;
            spent.count(&record, WORST);
        }
        spent
    }

    fn reached(caps: Caps, spent: &Spent) -> Option<String> {
        let reached = caps.reached(spent)?;
        Some(format!("{}: {}", reached.key, reached.fact))
    }

    #[test]
    fn a_run_that_was_not_started_does_not_count() {
        let spent = spent(&[
            (Outcome::RateLimited, false, None, None),
            (Outcome::PolicyBlocked, false, None, None),
            (Outcome::Skipped, false, None, None),
            (Outcome::StartFailed, true, None, None),
        ]);
        assert_eq!(spent, Spent::default());
    }

    #[test]
    fn what_is_not_known_counts_as_the_worst_case_also_while_it_runs() {
        let spent = spent(&[
            (Outcome::Success, true, Some(10), Some(0.5)),
            (Outcome::AgentError, true, Some(10), None),
            (Outcome::Running, true, None, None),
        ]);
        let usd = Caps {
            usd: Some(2.5),
            ..Caps::default()
        };
        assert_eq!(
            reached(usd, &spent).unwrap(),
            "max_usd_per_day: 2.50 of 2.50 US dollars, 2 of the 3 runs at the worst case"
        );
        let tokens = |most| Caps {
            tokens: Some(most),
            ..Caps::default()
        };
        assert_eq!(
            reached(tokens(1020), &spent).unwrap(),
            "max_tokens_per_day: 1020 of 1020 tokens, 1 of the 3 runs at the worst case"
        );
        assert_eq!(reached(tokens(1021), &spent), None);
    }

    #[test]
    fn runs_are_counted_and_no_cap_is_never_reached() {
        let spent = spent(&[(Outcome::Success, true, Some(1), Some(0.1)); 3]);
        let runs = |most| Caps {
            runs: Some(most),
            ..Caps::default()
        };
        assert_eq!(
            reached(runs(3), &spent).unwrap(),
            "max_runs_per_day: 3 of 3 runs"
        );
        assert_eq!(reached(runs(4), &spent), None);
        assert_eq!(reached(Caps::default(), &spent), None);
    }
}
