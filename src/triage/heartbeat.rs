//! Whether the heartbeat, which beats each minute, ever stopped.

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::clock::utc;
use crate::model::duration;
use crate::triage::Remark;

/// One beat that comes late is no gap.
pub const MAX_GAP: TimeDelta = TimeDelta::seconds(90);

/// The stretches of more than 90 s without a beat; the last one may end at `now`. `beats` are in
/// order.
pub fn gaps(beats: &[DateTime<Utc>], now: DateTime<Utc>) -> Vec<(DateTime<Utc>, DateTime<Utc>)> {
    let ends = beats.iter().skip(1).chain([&now]);
    let pairs = beats.iter().zip(ends);
    pairs
        .filter(|(from, to)| **to - **from > MAX_GAP)
        .map(|(from, to)| (*from, *to))
        .collect()
}

/// Whether the heartbeat beat about that time; `None` where nobody knows, since the beats begin
/// later.
pub fn beat_at(beats: &[DateTime<Utc>], at: DateTime<Utc>) -> Option<bool> {
    let first = beats.first()?;
    if *first > at + MAX_GAP {
        return None;
    }
    Some(beats.iter().any(|beat| (*beat - at).abs() <= MAX_GAP))
}

pub(crate) fn remarks(beats: &[DateTime<Utc>], now: DateTime<Utc>) -> Vec<Remark> {
    let gaps = gaps(beats, now);
    let mut remarks = Vec::new();
    let words = |from: DateTime<Utc>, to: DateTime<Utc>| {
        duration::words((to - from).to_std().unwrap_or_default())
    };
    let (open, closed): (Vec<_>, Vec<_>) = gaps.into_iter().partition(|(_, to)| *to == now);
    if let Some((from, _)) = open.first() {
        remarks.push(Remark {
            urgent: true,
            text: format!(
                "the heartbeat has stopped, the last one {} ago at {}: is cron running?",
                words(*from, now),
                utc(*from)
            ),
        });
    }
    if let Some((from, to)) = closed.iter().max_by_key(|(from, to)| *to - *from) {
        let gaps = match closed.len() {
            1 => "a gap in the heartbeat for".to_owned(),
            number => format!("gaps in the heartbeat {number} times, for at most"),
        };
        remarks.push(Remark {
            urgent: false,
            text: format!("{gaps} {}, from {}", words(*from, *to), utc(*from)),
        });
    }
    remarks
}
