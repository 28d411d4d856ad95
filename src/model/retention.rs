//! Which runs may be removed to keep the log root small. Pure.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::ids::RunPath;
use crate::model::outcome::Outcome;
use crate::model::record::NotificationState;

/// How long and how much is kept; `None` sets no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Retention {
    /// The greatest age of a run, counted from its start.
    pub age: Option<Duration>,
    /// The most bytes that all runs together take.
    pub bytes: Option<u64>,
}

/// A run as it lies on disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// Which run.
    pub run: RunPath,
    /// When it started.
    pub began: DateTime<Utc>,
    /// What it takes on disk.
    pub bytes: u64,
    /// A process holds it, or it has begun and is not yet recorded as ended.
    pub is_active: bool,
    /// What its record says became of it.
    pub outcome: Outcome,
    /// What its record says became of its notification.
    pub notification: NotificationState,
    /// Its notification lies in the outbox.
    pub waits: bool,
    /// The work tree that it was given is still there; `bytes` has it, too.
    pub has_work_tree: bool,
    /// That work tree was found to hold what is nowhere else.
    pub is_unsaved: bool,
}

/// Why a run stays, whatever its age and size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protection {
    /// It has not ended.
    Active,
    /// A person is still to be told of it.
    Untold,
    /// It started today, and the caps of the day count it.
    Today,
    /// Its work tree holds what is nowhere else.
    Unsaved,
}

impl Kept {
    /// Why it must stay; `None` when it may go. `day_began`: the start of the day that caps count.
    pub fn protection(&self, day_began: DateTime<Utc>) -> Option<Protection> {
        if self.is_active || !self.outcome.is_final() {
            Some(Protection::Active)
        } else if self.waits || self.notification == NotificationState::Pending {
            Some(Protection::Untold)
        } else if self.began >= day_began {
            Some(Protection::Today)
        } else if self.is_unsaved {
            Some(Protection::Unsaved)
        } else {
            None
        }
    }
}

impl Retention {
    /// What began before this is too old.
    pub fn too_old_before(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        now.checked_sub_signed(TimeDelta::from_std(self.age?).ok()?)
    }

    /// Lets no limit hold for which even the last sign of life is too old, as after the clock has jumped
    /// ahead, and gives that sign. One of the last day never is, for the size none of the last
    /// 30 days, and one of the future counts for nothing.
    pub fn doubt(
        &mut self,
        signs: impl Iterator<Item = DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let last = signs.filter(|sign| *sign <= now).max()?;
        let before = *self;
        let too_old = self.too_old_before(now);
        if too_old.is_some_and(|limit| last < limit.min(now - TimeDelta::days(1))) {
            self.age = None;
        }
        if last < now - TimeDelta::days(30) {
            self.bytes = None;
        }
        (*self != before).then_some(last)
    }

    /// The runs to remove, in the order in which they are: the oldest first, all that are too old,
    /// and as many more as it takes to get below the size. What is protected stays and counts, but for
    /// what began in the future.
    pub fn surplus<'a>(
        &self,
        runs: &'a [Kept],
        now: DateTime<Utc>,
        day_began: DateTime<Utc>,
    ) -> Vec<&'a Kept> {
        let is_past = |run: &&Kept| run.began - now < TimeDelta::days(1);
        let mut total: u64 = runs.iter().filter(is_past).map(|run| run.bytes).sum();
        let mut free: Vec<&Kept> = (runs.iter())
            .filter(|run| run.protection(day_began).is_none())
            .collect();
        free.sort_by_key(|run| (run.began, run.run.run_id.order().1));
        let oldest = self.too_old_before(now);
        free.into_iter()
            .take_while(|run| {
                let too_old = oldest.is_some_and(|oldest| run.began < oldest);
                let too_many = self.bytes.is_some_and(|most| total > most);
                total -= run.bytes;
                too_old || too_many
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::ids::RunId;

    const DAY: i64 = 24 * 3600;

    fn now() -> DateTime<Utc> {
        "2026-02-19T20:40:03Z".parse().unwrap()
    }

    fn kept(seconds_ago: i64, bytes: u64) -> Kept {
        let began = now() - TimeDelta::seconds(seconds_ago);
        Kept {
            run: RunPath {
                task: "t".parse().unwrap(),
                agent: "a".parse().unwrap(),
                run_id: RunId::new(began, 1),
            },
            began,
            bytes,
            is_active: false,
            outcome: Outcome::Success,
            notification: NotificationState::Delivered,
            waits: false,
            has_work_tree: false,
            is_unsaved: false,
        }
    }

    fn ages(retention: Retention, runs: &[Kept]) -> Vec<i64> {
        let surplus = retention.surplus(runs, now(), now() - TimeDelta::hours(20));
        let age = |run: &&Kept| (now() - run.began).num_days();
        surplus.iter().map(age).collect()
    }

    #[test]
    fn the_oldest_go_first_by_age_and_by_size() {
        let runs: Vec<Kept> = [3, 1, 9, 5, 0].map(|days| kept(days * DAY, 10)).to_vec();
        let of = |days: Option<u64>, bytes| Retention {
            age: days.map(|days| Duration::from_secs(days * 86_400)),
            bytes,
        };
        assert_eq!(ages(of(None, None), &runs), [] as [i64; 0]);
        assert_eq!(ages(of(Some(4), None), &runs), [9, 5]);
        assert_eq!(ages(of(None, Some(25)), &runs), [9, 5, 3]);
        assert_eq!(ages(of(Some(8), Some(30)), &runs), [9, 5]);
        let with_future = [&runs[..], &[kept(-9 * DAY, 1000)]].concat();
        assert_eq!(ages(of(None, Some(25)), &with_future), [9, 5, 3]);
        assert_eq!(
            ages(of(Some(0), Some(0)), &runs),
            [9, 5, 3, 1],
            "today's stays"
        );
        assert_eq!(
            ages(of(Some(u64::MAX / 86_400), None), &runs),
            [] as [i64; 0]
        );
    }

    #[test]
    fn nothing_is_too_old_or_too_many_where_even_the_last_sign_of_life_is_too_old() {
        let left = |days: Option<u64>, bytes, signs: &[i64]| {
            let age = days.map(|days| Duration::from_secs(days * 86_400));
            let mut retention = Retention { age, bytes };
            let at = |hours: &i64| now() - TimeDelta::hours(*hours);
            let last = retention.doubt(signs.iter().map(at), now());
            let last = last.map(|sign| (now() - sign).num_hours());
            (last, retention.age.is_some(), retention.bytes.is_some())
        };
        let stale = |days, signs: &[i64]| left(days, None, signs).0;
        assert_eq!(stale(Some(90), &[24 * 3650, 24 * 3651]), Some(24 * 3650));
        assert_eq!(stale(Some(90), &[24 * 3650, 24 * 89]), None);
        assert_eq!(stale(Some(90), &[24 * 3650, -1]), Some(24 * 3650));
        assert_eq!(stale(Some(0), &[23]), None);
        assert_eq!(stale(Some(0), &[25]), Some(25));
        assert_eq!(stale(Some(90), &[]), None);
        assert_eq!(stale(None, &[24 * 3650]), None);
        let both = |hours| left(Some(7), Some(1), &[hours]);
        assert_eq!(both(24 * 6), (None, true, true));
        assert_eq!(both(24 * 8), (Some(24 * 8), false, true));
        assert_eq!(both(24 * 31), (Some(24 * 31), false, false));
        assert_eq!(
            left(None, Some(1), &[24 * 31, -1]),
            (Some(24 * 31), false, false)
        );
        assert_eq!(
            left(Some(90), Some(1), &[24 * 31]),
            (Some(24 * 31), true, false)
        );
    }

    fn any_run() -> impl Strategy<Value = Kept> {
        let outcomes = prop::sample::select(vec![
            Outcome::Running,
            Outcome::Success,
            Outcome::Timeout,
            Outcome::Crashed,
            Outcome::Skipped,
        ]);
        let states = prop::sample::select(NotificationState::ALL.to_vec());
        let flag = || prop::bool::weighted(0.2);
        let flags = (flag(), flag(), flag());
        (-DAY..40 * DAY, 0..1000u64, outcomes, states, flags).prop_map(
            |(age, bytes, outcome, notification, (is_active, waits, is_unsaved))| Kept {
                is_active,
                outcome,
                notification,
                waits,
                is_unsaved,
                ..kept(age, bytes)
            },
        )
    }

    proptest! {
        #[test]
        fn retention_never_removes_an_active_untold_or_unsaved_run(
            runs in prop::collection::vec(any_run(), 0..60),
            age in prop::option::of(0..40 * 86_400u64),
            bytes in prop::option::of(0..30_000u64),
        ) {
            let day_began = now() - TimeDelta::hours(20);
            let retention = Retention { age: age.map(Duration::from_secs), bytes };
            let surplus = retention.surplus(&runs, now(), day_began);
            for run in &surplus {
                prop_assert!(!run.is_active && run.outcome != Outcome::Running);
                prop_assert!(!run.waits && run.notification != NotificationState::Pending);
                prop_assert!(run.began < day_began && !run.is_unsaved);
            }
            let left: Vec<&Kept> = (runs.iter())
                .filter(|run| !surplus.iter().any(|gone| std::ptr::eq(*gone, *run)))
                .collect();
            let free = |run: &&&Kept| run.protection(day_began).is_none();
            let oldest_left = left.iter().filter(free).map(|run| run.began).min();
            // Nothing is left that is older than what went, or too old.
            if let Some(oldest_left) = oldest_left {
                prop_assert!(surplus.iter().all(|gone| gone.began <= oldest_left));
                prop_assert!(age.is_none_or(|age| (now() - oldest_left).num_seconds() <= age.cast_signed()));
            }
            // The size is kept, unless only protected runs are left; and no more went than had to.
            let size = |runs: &[&Kept]| runs.iter().map(|run| run.bytes).sum::<u64>();
            if let Some(most) = bytes {
                prop_assert!(size(&left) <= most || left.iter().filter(free).count() == 0);
            }
            if let Some(last) = surplus.last() {
                let was_too_old = age.is_some_and(|age| (now() - last.began).num_seconds() > age.cast_signed());
                let was_too_many = bytes.is_some_and(|most| size(&left) + last.bytes > most);
                prop_assert!(was_too_old || was_too_many);
            }
        }
    }
}
