//! What others who share the queue have used up today: `.state/spent-elsewhere.json`, replaced whole
//! whenever they were heard of; where the queue does not answer, this counts.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use crate::model::caps::Spent;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::layout::Layout;
use crate::store::private::read_form;

/// A larger file is none of ours.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Deserialize, Serialize)]
struct Form {
    day: String,
    subjects: BTreeMap<String, SpentForm>,
}

#[derive(Deserialize, Serialize)]
struct SpentForm {
    runs: u64,
    tokens: u64,
    usd: f64,
    unknown_tokens: u64,
    unknown_usd: u64,
}

/// What is known of a subject's day elsewhere; nothing where nobody was heard of on that day.
pub fn spent(layout: &Layout, day: &str, subject: &str) -> Spent {
    let path = layout.spent_elsewhere();
    let form: Option<Form> = read_form(&path, MAX_BYTES, "this counts for nothing");
    let mut form = form.filter(|form| form.day == day);
    let form = form.as_mut().and_then(|form| form.subjects.remove(subject));
    form.map_or_else(Spent::default, |form| Spent {
        runs: form.runs,
        tokens: form.tokens,
        usd: form.usd,
        unknown_tokens: form.unknown_tokens,
        unknown_usd: form.unknown_usd,
    })
}

/// Keeps what was heard of a day, by subject, instead of what was known before.
pub fn keep(layout: &Layout, day: &str, news: &[(String, Spent)]) -> Result<(), StoreError> {
    let form = |spent: &Spent| SpentForm {
        runs: spent.runs,
        tokens: spent.tokens,
        usd: spent.usd,
        unknown_tokens: spent.unknown_tokens,
        unknown_usd: spent.unknown_usd,
    };
    let form = Form {
        day: day.to_owned(),
        subjects: news
            .iter()
            .map(|(subject, spent)| (subject.clone(), form(spent)))
            .collect(),
    };
    let path = layout.spent_elsewhere();
    layout.create_state(&layout.state())?;
    let bytes = serde_json::to_vec(&form)
        .map_err(|error| StoreError::new("write", &path, io::Error::other(error)))?;
    atomic::write(&path, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{log_root, plant};

    #[test]
    fn what_others_used_up_is_known_for_its_day_and_its_subject_alone() {
        let (_root, layout) = log_root();
        let used = Spent {
            runs: 2,
            tokens: 7,
            usd: 0.5,
            unknown_tokens: 1,
            unknown_usd: 0,
        };
        assert_eq!(spent(&layout, "2026-03-01", "agent.a"), Spent::default());
        keep(&layout, "2026-03-01", &[("agent.a".to_owned(), used)]).unwrap();
        assert_eq!(spent(&layout, "2026-03-01", "agent.a"), used);
        assert_eq!(spent(&layout, "2026-03-01", "agent.b"), Spent::default());
        assert_eq!(spent(&layout, "2026-03-02", "agent.a"), Spent::default());
        plant(&layout.spent_elsewhere(), b"{\"day\":");
        assert_eq!(spent(&layout, "2026-03-01", "agent.a"), Spent::default());
    }
}
