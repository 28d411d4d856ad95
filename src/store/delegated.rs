//! The tasks that were handed to somebody else: one small file each, replaced whole.

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::model::delegated::{Delegated, DelegatedState, Provider};
use crate::model::dispatch::WorkKey;
use crate::regular::read;
use crate::store::StoreError;
use crate::store::atomic;
use crate::store::layout::Layout;
use crate::store::private::list;

/// The largest such file that is read.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Deserialize, Serialize)]
struct Form {
    task_id: String,
    provider: String,
    title: String,
    created_at: DateTime<Utc>,
    state: String,
    message: String,
    issue_repository: Option<String>,
    issue_number: Option<u64>,
    target: Option<String>,
    directory: Option<PathBuf>,
    result: Option<String>,
}

/// A task as JSON, for files and for `delegated --json`.
pub fn value(task: &Delegated) -> Value {
    let issue = task.issue.as_ref();
    json!(Form {
        task_id: task.task_id.clone(),
        provider: task.provider.as_str().to_owned(),
        title: task.title.clone(),
        created_at: task.created_at,
        state: task.state.as_str().to_owned(),
        message: task.message.clone(),
        issue_repository: issue.map(|(repository, _)| repository.to_string()),
        issue_number: issue.map(|(_, number)| *number),
        target: task.target.as_ref().map(ToString::to_string),
        directory: task.directory.clone(),
        result: task.result.clone(),
    })
}

fn parse(bytes: &[u8]) -> Option<Delegated> {
    let form: Form = serde_json::from_slice(bytes).ok()?;
    let repository = |name: Option<String>| name.and_then(|name| name.parse().ok());
    Some(Delegated {
        provider: Provider::from_name(&form.provider)?,
        state: DelegatedState::from_name(&form.state)?,
        issue: repository(form.issue_repository).zip(form.issue_number),
        target: repository(form.target),
        task_id: form.task_id,
        title: form.title,
        created_at: form.created_at,
        message: form.message,
        directory: form.directory,
        result: form.result,
    })
}

/// Keeps a task.
pub fn put(layout: &Layout, task: &Delegated) -> Result<(), StoreError> {
    layout.create_state(&layout.delegated())?;
    let path = path(layout, &task.task_id);
    atomic::write(&path, format!("{:#}\n", value(task)).as_bytes())
}

/// The task of an id, where one is kept that can be read.
pub fn get(layout: &Layout, task_id: &str) -> Option<Delegated> {
    parse(&read(&path(layout, task_id), MAX_BYTES).ok()?)
}

fn path(layout: &Layout, task_id: &str) -> PathBuf {
    // The id may be any text.
    let name = WorkKey::new("delegated", &[task_id]);
    layout.delegated().join(format!("{name}.json"))
}

/// All tasks that are kept, the oldest first. What cannot be read is passed over.
pub fn all(layout: &Layout) -> Result<Vec<Delegated>, StoreError> {
    let directory = layout.delegated();
    let mut tasks: Vec<_> = list(&directory)?
        .into_iter()
        .filter(|(name, kind)| {
            kind.is_file() && Path::new(name).extension() == Some("json".as_ref())
        })
        .filter_map(|(name, _)| parse(&read(&directory.join(name), MAX_BYTES).ok()?))
        .collect();
    tasks.sort_by(|a, b| (a.created_at, &a.task_id).cmp(&(b.created_at, &b.task_id)));
    Ok(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_kept_and_replaced_by_its_id() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        assert_eq!(all(&layout).unwrap(), []);
        let mut task = Delegated {
            task_id: "../x".to_owned(),
            provider: Provider::Local,
            title: "T".to_owned(),
            created_at: "2026-11-21T12:00:00Z".parse().unwrap(),
            state: DelegatedState::Created,
            message: String::new(),
            issue: Some(("o/r".parse().unwrap(), 7)),
            target: None,
            directory: Some("/srv/x".into()),
            result: None,
        };
        put(&layout, &task).unwrap();
        task.state = DelegatedState::Completed;
        put(&layout, &task).unwrap();
        assert_eq!(get(&layout, "../x"), Some(task.clone()));
        assert_eq!(get(&layout, "y"), None);
        assert_eq!(all(&layout).unwrap(), [task]);
    }
}
