//! Tasks that were put into the queue of this machine: no code host is involved.
//!
//! The result is a branch of the repository, with the trace file on it, and a file beside the
//! repository that tells how the task stands:
//!
//! ```text
//! project/                          branch agent-task-7a0c52e1
//! project.agent-tasks/7a0c52e1….json
//! ```

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::git::Remote;
use crate::model::clock::{Clock, utc};
use crate::model::dispatch::{WorkKey, WorkRequest};
use crate::model::text;
use crate::model::work_name::WorkName;
use crate::queue::{NewWork, Queue, QueueError, State, Work};
use crate::regular;
use crate::sources::source::{
    Accepted, Fate, Next, Offer, Publication, SourceError, Standing, TaskSource,
};

/// What every local task's origin begins with.
pub(crate) const ORIGIN: &str = "local#";

/// A task as it lies in the queue.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LocalTask {
    /// Its number among the local tasks, from 1.
    pub number: u64,
    /// Its name.
    pub task_id: String,
    /// Its title.
    pub title: String,
    /// What is to be done.
    pub instruction: String,
    /// The repository to change, absolute.
    pub repository: PathBuf,
}

impl LocalTask {
    /// The task in a work of the queue; `None` when the work is of another source.
    pub fn of(work: &Work) -> Option<Self> {
        let payload = work.payload.as_deref()?;
        let is_local = work.origin.starts_with(ORIGIN);
        is_local
            .then(|| serde_json::from_str(payload).ok())
            .flatten()
    }

    /// Where it comes from, in records.
    pub fn origin(&self) -> String {
        format!("{ORIGIN}{}", self.number)
    }

    /// The file that tells how it stands: named by the id, and by the key, too, where that is not
    /// the whole id.
    pub fn status_file(&self) -> PathBuf {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let mut name: String = (self.task_id.chars())
            .map(|c| if plain(c) { c } else { '_' })
            .take(100)
            .collect();
        if name != self.task_id {
            name = format!("{name}-{}", self.key().short());
        }
        let mut directory = self.repository.clone().into_os_string();
        directory.push(".agent-tasks");
        PathBuf::from(directory).join(format!("{name}.json"))
    }

    /// The branch of its result, once there is one.
    pub fn branch(&self) -> Option<String> {
        Some(read_status(self)?["branch"].as_str()?.to_owned())
    }

    /// The branch of the task of that id in a repository whose queue is not at hand, when it is done.
    pub fn branch_of_done(task_id: &str, repository: &Path) -> Option<String> {
        let task = Self {
            number: 0,
            task_id: task_id.to_owned(),
            title: String::new(),
            instruction: String::new(),
            repository: repository.to_owned(),
        };
        let status = read_status(&task).filter(|status| status["state"] == "completed")?;
        Some(status["branch"].as_str()?.to_owned())
    }

    /// Names the text of the task.
    fn revision(&self) -> String {
        WorkKey::new("revision", &[&self.title, &self.instruction]).to_string()
    }

    fn key(&self) -> WorkKey {
        WorkKey::new("local", &[&self.task_id])
    }
}

/// Puts a task into the queue; `number` is filled in.
pub async fn put(
    queue: &Queue,
    mut task: LocalTask,
    clock: &dyn Clock,
) -> Result<LocalTask, PutError> {
    let status = read_status(&task).unwrap_or_default();
    let is_anothers = status["state"] == "completed" && status["revision"] != task.revision();
    if is_anothers && queue.state(&task.key()).await?.is_none() {
        return Err(PutError::Done {
            file: task.status_file(),
            task_id: task.task_id,
        });
    }
    let mut form = serde_json::to_value(&task).map_err(io::Error::other)?;
    let numbered = queue.offer_numbered(ORIGIN, |number| {
        task.number = number;
        form["number"] = number.into();
        NewWork {
            key: task.key(),
            origin: task.origin(),
            group_repository: task.repository.to_string_lossy().into_owned(),
            group_author: "local".to_owned(),
            created: clock.now(),
            payload: Some(form.to_string()),
        }
    });
    if numbered.await? {
        Ok(task)
    } else {
        Err(PutError::Known(task.task_id))
    }
}

/// Why a task is not in the queue.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// It would be taken for another task, which may have ended.
    #[error("the queue knows a task `{0}` already")]
    Known(String),
    /// The branch of its id holds what was done for another text.
    #[error("a task `{task_id}` was done before with another text, as `{file}` says")]
    Done {
        /// The id.
        task_id: String,
        /// Where that is told.
        file: PathBuf,
    },
    /// The queue does not take it.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The repository's path cannot be written down.
    #[error("the task cannot be written down")]
    Form(#[from] io::Error),
}

/// The local tasks of a queue.
#[derive(Debug)]
pub struct Local {
    queue: Queue,
    clock: Arc<dyn Clock + Send + Sync>,
}

impl Local {
    /// The tasks of that queue.
    pub fn new(queue: Queue, clock: Arc<dyn Clock + Send + Sync>) -> Self {
        Self { queue, clock }
    }

    async fn tasks(&self) -> Result<Vec<(Work, LocalTask)>, SourceError> {
        let works = self.queue.list().await.map_err(|error| later(&error))?;
        Ok(works.into_iter().filter_map(with_task).collect())
    }

    async fn task(&self, key: &WorkKey) -> Result<(Work, LocalTask), SourceError> {
        let work = self.queue.state(key).await.map_err(|error| later(&error))?;
        work.and_then(with_task)
            .ok_or_else(|| SourceError::Unwanted("the queue does not know the task".to_owned()))
    }

    /// Tells how a task stands, in its file.
    fn note(&self, task: &LocalTask, state: &str, more: Value) -> Result<(), SourceError> {
        let mut status = json!({
            "task_id": task.task_id,
            "title": task.title,
            "revision": task.revision(),
            "state": state,
            "changed_at": utc(self.clock.now()),
        });
        if let (Some(status), Value::Object(more)) = (status.as_object_mut(), more) {
            status.extend(more);
        }
        let path = task.status_file();
        write(&path, &format!("{status:#}\n")).map_err(|error| SourceError::Later {
            reason: format!("cannot write `{}`: {error}", path.display()),
            retry_at: None,
        })
    }
}

/// Replaces a small file whole.
fn write(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

const MAX_STATUS_BYTES: u64 = 1024 * 1024;

fn read_status(task: &LocalTask) -> Option<Value> {
    // An agent may have put a pipe there, or a giant.
    let mut options = fs::OpenOptions::new();
    let file = regular::open_linked(options.read(true), &task.status_file()).ok()?;
    let status: Value = serde_json::from_reader(file.take(MAX_STATUS_BYTES)).ok()?;
    // Not all file systems tell names apart that differ in capitals.
    (status["task_id"] == task.task_id.as_str()).then_some(status)
}

fn later(error: &QueueError) -> SourceError {
    SourceError::Later {
        reason: text::chain(error),
        retry_at: None,
    }
}

fn with_task(work: Work) -> Option<(Work, LocalTask)> {
    let task = LocalTask::of(&work)?;
    Some((work, task))
}

fn offer(work: Work, task: LocalTask) -> Offer {
    Offer {
        key: work.key,
        origin: work.origin,
        number: task.number,
        title: task.title,
        repository: work.group_repository,
        author: work.group_author,
        created: work.created,
    }
}

impl TaskSource for Local {
    async fn offers(&self) -> Result<Vec<Offer>, SourceError> {
        let open = |work: &Work| {
            matches!(
                work.state,
                State::Waiting | State::Retrying | State::Claimed
            )
        };
        let tasks = self.tasks().await?.into_iter();
        Ok(tasks
            .filter(|(work, _)| open(work))
            .map(|(work, task)| offer(work, task))
            .collect())
    }

    async fn offer(&self, number: u64) -> Result<Offer, SourceError> {
        let mut tasks = self.tasks().await?.into_iter();
        let found = tasks.find(|(_, task)| task.number == number);
        found
            .map(|(work, task)| offer(work, task))
            .ok_or_else(|| SourceError::Unwanted(format!("there is no local task {number}")))
    }

    async fn fate(&self, _origin: &str) -> Result<Fate, SourceError> {
        // The queue itself is where they wait.
        Ok(Fate::Open)
    }

    async fn is_asked_again(&self, _offer: &Offer) -> Result<bool, SourceError> {
        Ok(false)
    }

    async fn accept(&self, offer: &Offer) -> Result<Accepted, SourceError> {
        let (_, task) = self.task(&offer.key).await?;
        let refused = |error: String| SourceError::Refused(error);
        let path = task.repository.to_str();
        let path = path.ok_or_else(|| refused("the repository's path is not UTF-8".to_owned()))?;
        Ok(Accepted {
            remote: Remote::new(path, None).map_err(|error| refused(error.to_string()))?,
            base: None,
            revision: task.revision(),
            request: WorkRequest {
                key: offer.key.clone(),
                origin: offer.origin.clone(),
                number: offer.number,
                target: path.to_owned(),
                task_id: task.task_id,
                title: task.title,
                instruction: task.instruction,
                fence: 0,
            },
        })
    }

    async fn remote(&self, work: &Accepted) -> Result<Remote, SourceError> {
        Ok(work.remote.clone())
    }

    async fn check_wanted(&self, work: &Accepted) -> Result<(), SourceError> {
        let (found, _) = self.task(&work.request.key).await?;
        match found.state {
            State::Cancelled => Err(SourceError::Unwanted("the task was cancelled".to_owned())),
            _ => Ok(()),
        }
    }

    async fn standing(&self, work: &Accepted, name: &WorkName) -> Result<Standing, SourceError> {
        let (_, task) = self.task(&work.request.key).await?;
        let status = read_status(&task).unwrap_or_default();
        // An earlier task of the same id leaves its file behind.
        let is_done = status["state"] == "completed"
            && status["branch"] == name.branch()
            && status["revision"] == work.revision;
        Ok(if is_done {
            Standing::Published(Publication::at(address(&task, name)))
        } else {
            Standing::Free
        })
    }

    async fn earlier(&self, _work: &Accepted) -> Result<Option<Publication>, SourceError> {
        // Nobody edits a task in the queue.
        Ok(None)
    }

    async fn tell_started(&self, work: &Accepted) -> Result<(), SourceError> {
        let (_, task) = self.task(&work.request.key).await?;
        self.note(&task, "running", json!({}))
    }

    async fn publish(
        &self,
        work: &Accepted,
        name: &WorkName,
        base: &str,
    ) -> Result<Publication, SourceError> {
        let (_, task) = self.task(&work.request.key).await?;
        let more = json!({"branch": name.branch(), "base": base, "trace": name.trace_path()});
        self.note(&task, "completed", more)?;
        Ok(Publication::at(address(&task, name)))
    }

    async fn tell_completed(
        &self,
        _work: &Accepted,
        _publication: &Publication,
    ) -> Result<(), SourceError> {
        Ok(())
    }

    async fn tell_failed(
        &self,
        offer: &Offer,
        reason: &str,
        next: Next,
    ) -> Result<(), SourceError> {
        let (_, task) = self.task(&offer.key).await?;
        let state = match next {
            Next::Rests => "failed",
            Next::AgainAfter(_) => "waiting",
        };
        self.note(&task, state, json!({"reason": reason}))
    }
}

fn address(task: &LocalTask, name: &WorkName) -> String {
    format!("branch {} of {}", name.branch(), task.repository.display())
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    #[derive(Debug)]
    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> chrono::DateTime<chrono::Utc> {
            "2026-07-29T12:00:00Z".parse().unwrap()
        }
    }

    fn task(task_id: &str, repository: &Path) -> LocalTask {
        LocalTask {
            number: 1,
            task_id: task_id.to_owned(),
            title: String::new(),
            instruction: String::new(),
            repository: repository.to_owned(),
        }
    }

    #[test]
    fn a_pipe_in_the_place_of_a_tasks_status_is_no_status_and_not_waited_for() {
        let root = tempfile::tempdir().unwrap();
        let task = task("one", &root.path().join("project"));
        let file = task.status_file();
        write(&file, r#"{"task_id":"one"}"#).unwrap();
        assert!(read_status(&task).is_some());
        fs::remove_file(&file).unwrap();
        mkfifoat(CWD, &file, Mode::RUSR | Mode::WUSR).unwrap();
        assert_eq!(read_status(&task), None);
    }

    #[tokio::test]
    async fn a_task_with_the_id_of_another_that_was_done_is_neither_taken_nor_found_done() {
        let root = tempfile::tempdir().unwrap();
        let queue = format!("sqlite:{}", root.path().join("queue").display());
        let queue = Queue::open(&queue.parse().unwrap()).await.unwrap();
        let mut other = task("one", &root.path().join("project"));
        let local = Local::new(queue.clone(), Arc::new(Noon));
        let name = WorkName::first("one");
        let done = json!({"branch": name.branch()});
        local.note(&other, "completed", done.clone()).unwrap();
        other.instruction = "Something else.".to_owned();
        let refused = put(&queue, other.clone(), &Noon).await.unwrap_err();
        assert!(matches!(refused, PutError::Done { .. }), "{refused}");

        // The file may appear later, too.
        fs::remove_file(other.status_file()).unwrap();
        put(&queue, other.clone(), &Noon).await.unwrap();
        let offer = local.offer(1).await.unwrap();
        let work = local.accept(&offer).await.unwrap();
        let earlier = task("one", &other.repository);
        local.note(&earlier, "completed", done.clone()).unwrap();
        assert_eq!(local.standing(&work, &name).await, Ok(Standing::Free));
        local.note(&other, "completed", done).unwrap();
        let standing = local.standing(&work, &name).await;
        assert!(matches!(standing, Ok(Standing::Published(_))));
    }

    #[test]
    fn tasks_whose_ids_look_alike_have_files_of_their_own() {
        let file = |task_id: &str| {
            let task = task(task_id, Path::new("/srv/project"));
            task.status_file().file_name().unwrap().to_owned()
        };
        assert_eq!(file("fix_1"), "fix_1.json");
        let long = "x".repeat(101);
        let ids = ["fix_1", "fix.1", "fix 1", "ä", "ö", &long, &long[1..]];
        let files: std::collections::BTreeSet<_> = ids.into_iter().map(file).collect();
        assert_eq!(files.len(), ids.len(), "{files:?}");
    }
}
