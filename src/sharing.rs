//! What those who share a queue know of each other: parked agents, and what the day has used up.
//!
//! Each log root goes by its own files, which this keeps in step with the queue: what is known here
//! is told there, what is told there is noted here. A start hears of news first, and where the queue
//! does not answer it goes by what was known last. Two machines that start in the same second may both
//! pass a cap that had room for one.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use thiserror::Error;

use crate::admission;
use crate::model::ids::AgentName;
use crate::planner::RunPlan;
use crate::queue::{Queue, QueueError};
use crate::store::layout::Layout;
use crate::store::{StoreError, elsewhere, parked, place};

/// News could not be exchanged.
#[derive(Debug, Error)]
pub enum SharingError {
    /// The queue does not answer, or refuses.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The queue takes too long.
    #[error("the queue gives no answer within {} s", .0.as_secs())]
    Silence(Duration),
    /// The log root cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Brings the parkings of agents here and in the queue into step.
///
/// The longest one stays, unless a person has ended it since it began.
pub async fn parkings(
    queue: &Queue,
    layout: &Layout,
    agents: impl IntoIterator<Item = &AgentName>,
    now: DateTime<Utc>,
) -> Result<(), SharingError> {
    let news = queue.agent_news().await?;
    for agent in agents {
        let here = parked::parked(layout, agent, now);
        let there = news.get(agent.as_str());
        let unparked = there.map(|there| there.unparked);
        let here = match here {
            Some(here) if unparked.is_some_and(|unparked| unparked >= here.since) => {
                parked::unpark(layout, agent)?;
                None
            }
            here => here,
        };
        let there = there.map(|there| &there.parking);
        let there = there.filter(|parking| parking.holds(now));
        let (ends_here, ends_there) = (
            here.as_ref().map(|parking| parking.until),
            there.map(|parking| parking.until),
        );
        if let Some(here) = here.filter(|_| ends_here > ends_there) {
            queue.park(agent.as_str(), &here).await?;
        } else if let Some(there) = there.filter(|_| ends_there > ends_here) {
            parked::park(layout, agent, there.clone())?;
        }
    }
    Ok(())
}

/// Tells what today has used up here of the caps of these plans, and notes what it has elsewhere.
///
/// Costs the reading of the day's records, and nothing without caps.
pub async fn spent(
    queue: &Queue,
    layout: &Layout,
    plans: &[RunPlan],
    now: DateTime<Utc>,
) -> Result<(), SharingError> {
    let mut here = BTreeMap::new();
    for plan in plans {
        for (subject, spent) in admission::spent_here(plan, layout, now)? {
            // The task's, by the worst case of the agent that is tried first.
            here.entry(subject).or_insert(spent);
        }
    }
    if here.is_empty() {
        return Ok(());
    }
    let day = admission::day(now);
    let here: Vec<_> = here.into_iter().collect();
    let place = place::name(layout)?;
    queue.tell_spent(&place, &day, &here).await?;
    let news = queue.spent_elsewhere(&place, &day).await?;
    elsewhere::keep(layout, &day, &news)?;
    Ok(())
}
