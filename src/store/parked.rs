//! Agents that are not started before their limit is over.
//!
//! One small file an agent, `.state/parked/<agent>.json`, replaced whole under the lock of the
//! directory; no file, and nobody is parked, which is what a start pays for.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;

use crate::model::ids::AgentName;
use crate::model::parking::Parking;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::layout::Layout;
use crate::store::private::{lock_directory, read_form, remove};

/// The parking of an agent that holds now.
///
/// A file that is none of ours parks nobody: a start that is refused by mistake would be refused
/// for ever.
pub fn parked(layout: &Layout, agent: &AgentName, now: DateTime<Utc>) -> Option<Parking> {
    last(layout, agent).filter(|parking| parking.holds(now))
}

/// The last parking of an agent, whether it still holds or not.
fn last(layout: &Layout, agent: &AgentName) -> Option<Parking> {
    let form: ParkingForm = read_form(&file(layout, agent), MAX_BYTES, "this parks nobody")?;
    Some(Parking {
        since: form.since,
        until: form.until,
        run: form.run,
        reason: form.reason,
    })
}

/// Parks an agent, or keeps it parked for longer; gives the parking in force.
///
/// It survives a loss of power from here on. However many processes park the agent at once, the
/// longest parking stays.
pub fn park(layout: &Layout, agent: &AgentName, parking: Parking) -> Result<Parking, StoreError> {
    let directory = layout.parked();
    layout.create_state(&directory)?;
    let _lock = lock_directory(&directory)?;
    let parking = match last(layout, agent) {
        Some(before) if before.holds(parking.since) => before.extended_by(parking),
        Some(_) | None => parking,
    };
    let text = format!(
        "{:#}\n",
        json!({
            "since": parking.since.to_rfc3339(),
            "until": parking.until.to_rfc3339(),
            "run": parking.run,
            "reason": parking.reason,
        })
    );
    atomic::write(&file(layout, agent), text.as_bytes())?;
    Ok(parking)
}

/// Ends the parking of an agent; one that is not parked stays so.
pub fn unpark(layout: &Layout, agent: &AgentName) -> Result<(), StoreError> {
    remove(&file(layout, agent))
}

/// A larger file is none of ours.
const MAX_BYTES: u64 = 1 << 20;

fn file(layout: &Layout, agent: &AgentName) -> PathBuf {
    layout.parked().join(format!("{agent}.json"))
}

/// A parking as it lies on disk.
#[derive(Deserialize)]
struct ParkingForm {
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    run: String,
    reason: String,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::*;
    use crate::store::testing::{log_root, plant, start};

    fn agent() -> AgentName {
        "claude".parse().unwrap()
    }

    fn minutes(since: i64, until: i64) -> Parking {
        let at = |minutes| start() + TimeDelta::minutes(minutes);
        let (run, reason) = ("t/claude/r".to_owned(), "limit — ✓".to_owned());
        Parking::new(at(since), Some(at(until)), Duration::ZERO, run, reason)
    }

    #[test]
    fn a_parking_is_read_as_it_was_put_and_can_be_ended() {
        let (_root, layout) = log_root();
        assert_eq!(last(&layout, &agent()), None);
        assert!(!layout.root().exists(), "looking creates nothing");
        park(&layout, &agent(), minutes(0, 60)).unwrap();
        assert_eq!(last(&layout, &agent()), Some(minutes(0, 60)));
        assert_eq!(last(&layout, &"codex".parse().unwrap()), None);
        for _ in 0..2 {
            unpark(&layout, &agent()).unwrap();
            assert_eq!(last(&layout, &agent()), None);
        }
    }

    #[test]
    fn the_longest_parking_stays_until_it_is_over() {
        let (_root, layout) = log_root();
        park(&layout, &agent(), minutes(0, 60)).unwrap();
        let shorter = park(&layout, &agent(), minutes(1, 30)).unwrap();
        assert_eq!(shorter, minutes(0, 60));
        let longer = park(&layout, &agent(), minutes(2, 90)).unwrap();
        assert_eq!(
            (longer.since, longer.until),
            (start(), minutes(2, 90).until)
        );
        let next = park(&layout, &agent(), minutes(100, 101)).unwrap();
        assert_eq!(next, minutes(100, 101));
    }

    #[test]
    fn a_file_that_is_none_of_ours_parks_nobody_and_is_replaced() {
        let (_root, layout) = log_root();
        for bytes in [
            &b""[..],
            b"{\"since\":",
            b"{\"since\":\"now\",\"until\":\"x\",\"run\":\"\",\"reason\":\"\"}",
        ] {
            plant(&file(&layout, &agent()), bytes);
            assert_eq!(last(&layout, &agent()), None);
        }
        park(&layout, &agent(), minutes(0, 60)).unwrap();
        assert_eq!(last(&layout, &agent()), Some(minutes(0, 60)));
    }
}
