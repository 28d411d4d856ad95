//! The criteria as a checklist for people.

use std::fmt::Write as _;

use crate::checkup::smoke::{Criterion, State};
use crate::model::text;

pub(super) fn page(has_utf8: bool, criteria: &[Criterion]) -> String {
    let mut page = String::new();
    let mut line = |text: &str| {
        writeln!(page, "{}", text::sanitize(text).trim_end())
            .expect("writing to a string cannot fail");
    };
    for criterion in criteria {
        let (sign, plain) = match criterion.state {
            State::Met => ("✓", "ok"),
            State::Failed => ("✗", "NO"),
            State::NotReached => ("–", "--"),
        };
        let sign = if has_utf8 { sign } else { plain };
        let name = criterion.name.replace('_', " ");
        line(&format!("{sign} {name:<13} {}", criterion.what));
        if let Some(fix) = &criterion.fix {
            line(&format!("{:16}fix: {fix}", ""));
        }
    }
    let met = criteria
        .iter()
        .filter(|criterion| criterion.state == State::Met)
        .count();
    let sum = if met == criteria.len() {
        format!("all {met} criteria are met")
    } else {
        format!("{met} of {} criteria are met", criteria.len())
    };
    line("");
    line(&sum);
    page
}
