//! Work that a worker which does not wait for it leaves undone, and why.

use crate::model::clock::utc;
use crate::queue::{State, Work};

/// The name of a worker among all that share a queue; `unique` tells apart two containers that have
/// one host name and number.
pub fn holder(host: &str, pid: u32, unique: u64) -> String {
    format!("{host}/{pid}/{unique:016x}")
}

/// Why a work is not done, and what to do; `None` when it is done or nobody wants it.
pub(super) fn reason(work: &Work) -> Option<String> {
    let why = match work.state {
        State::Done | State::Cancelled => return None,
        State::Claimed if !work.is_lapsed => {
            let holder = work.holder.as_deref().map_or_else(String::new, named);
            let until = work.lease_until.map(utc).unwrap_or_default();
            format!(
                "{holder} holds it until {until}, and longer while it works; if that worker is \
                 dead, try again then"
            )
        }
        State::Waiting | State::Claimed => "it waits; try again".to_owned(),
        State::Retrying => {
            let due = work.not_before.map(utc).unwrap_or_default();
            let before = work.reason.as_deref().unwrap_or("the last attempt failed");
            format!("it is tried again from {due} on ({before})")
        }
        State::Rested => {
            let before = work.reason.as_deref().unwrap_or("it failed");
            format!("it rests ({before})")
        }
    };
    Some(format!("{} is not done: {why}", work.origin))
}

/// Names a [`holder`] to a person.
fn named(holder: &str) -> String {
    let mut parts = holder.rsplitn(3, '/').skip(1);
    match (parts.next(), parts.next()) {
        (Some(pid), Some(host)) => format!("the worker with process number {pid} on {host}"),
        (_, _) => format!("the worker {holder}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_named_by_its_host_and_process() {
        let named = |name: &str| super::named(name);
        assert_eq!(
            named(&holder("a/b", 7, 1)),
            "the worker with process number 7 on a/b"
        );
        assert_eq!(named("x"), "the worker x");
    }
}
