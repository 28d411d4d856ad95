//! Where everything lies below the log root: the only place that knows file names.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::model::ids::{AgentName, RunPath, TaskName};
use crate::regular;
use crate::store::StoreError;
use crate::store::private::{create_directory, overwrite, sync_directory};

const IGNORE_ALL: &str = "*\n";

/// The log root and the names in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of a log root; nothing is created.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Creates the log root for its owner alone, with a `.gitignore` for all that lies in it:
    /// logs inside a repository never make its tree dirty. Existing files stay as they are.
    pub fn create(&self) -> Result<(), StoreError> {
        let failed = |source| StoreError::new("create directory", &self.root, source);
        let missing = self.root.ancestors().take_while(|path| !path.exists());
        let missing = missing.filter(|path| !path.as_os_str().is_empty()).count();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(failed)?;
        if missing > 0 {
            let root = self.root.canonicalize().map_err(failed)?;
            let parents = root.ancestors().skip(1).take(missing);
            // In a directory of others one may make a directory and not open what it lies in.
            for error in parents.filter_map(|parent| sync_directory(parent).err()) {
                tracing::warn!(cause = %error.source, "{error}");
            }
        }
        let gitignore = self.gitignore();
        match gitignore.symlink_metadata() {
            Ok(file) if file.len() > 0 => Ok(()),
            // An empty one is of a runner that died before it wrote.
            Ok(_) | Err(_) => overwrite(&gitignore, IGNORE_ALL),
        }
    }

    /// Whether the log root carries the `.gitignore` that [`Layout::create`] writes; one of
    /// somebody else stays as it is.
    pub fn ignores_itself(&self) -> bool {
        regular::read(&self.gitignore(), 16).is_ok_and(|text| text == IGNORE_ALL.as_bytes())
    }

    /// The `.gitignore` of the log root.
    pub fn gitignore(&self) -> PathBuf {
        self.root.join(".gitignore")
    }

    /// The log root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of a task.
    pub fn task(&self, task: &TaskName) -> PathBuf {
        self.root.join(task.as_str())
    }

    /// The directory of an agent's runs of a task.
    pub fn agent(&self, task: &TaskName, agent: &AgentName) -> PathBuf {
        self.task(task).join(agent.as_str())
    }

    /// The directory of a run.
    pub fn run(&self, run: &RunPath) -> RunDirectory {
        let runs = self.agent(&run.task, &run.agent);
        RunDirectory {
            path: runs.join(run.run_id.as_str()),
            mark: self.running().join(mark_name(run)),
        }
    }

    /// The summaries of all runs of a task.
    pub fn task_log(&self, task: &TaskName) -> PathBuf {
        self.task(task).join("task.log")
    }

    /// The summaries of all runs of a task by one agent.
    pub fn agent_log(&self, task: &TaskName, agent: &AgentName) -> PathBuf {
        self.agent(task, agent).join("agent.log")
    }

    /// One line a heartbeat.
    pub fn heartbeat_log(&self) -> PathBuf {
        self.root.join("heartbeat").join("task.log")
    }

    /// What runs share: parked agents, the queue, the outbox.
    pub fn state(&self) -> PathBuf {
        self.root.join(".state")
    }

    /// One file for each run that has begun and not ended, locked by its runner; or that has ended,
    /// and whose notification is not kept, or delivered and not noted. Only of the last it is not empty.
    pub fn running(&self) -> PathBuf {
        self.state().join("running")
    }

    /// Notifications that wait.
    pub fn outbox(&self) -> PathBuf {
        self.state().join("outbox")
    }

    /// Notifications that the server refused.
    pub(crate) fn refused(&self) -> PathBuf {
        self.outbox().join("refused")
    }

    /// Runs on their way to being removed.
    pub(crate) fn trash(&self) -> PathBuf {
        self.state().join("trash")
    }

    /// Agents that are not started before their limit is over.
    pub fn parked(&self) -> PathBuf {
        self.state().join("parked")
    }

    /// What others who share the queue have used up today.
    pub(crate) fn spent_elsewhere(&self) -> PathBuf {
        self.state().join("spent-elsewhere.json")
    }

    /// Tasks that were handed to somebody else.
    pub fn delegated(&self) -> PathBuf {
        self.state().join("delegated")
    }

    /// Agents that did a small run on trial, one file each.
    pub(crate) fn probed(&self, agent: &AgentName) -> PathBuf {
        self.state().join("probed").join(agent.as_str())
    }

    /// Occasions of which a person was told once and is not told again.
    pub fn told(&self) -> PathBuf {
        self.state().join("told")
    }

    /// Since when things outside are as they are.
    pub(crate) fn since(&self) -> PathBuf {
        self.state().join("since")
    }

    /// Work trees of isolated runs.
    pub fn work_trees(&self) -> PathBuf {
        self.state().join("worktrees")
    }

    /// The work tree of an isolated run.
    pub fn work_tree(&self, run: &RunPath) -> PathBuf {
        self.work_trees().join(mark_name(run))
    }

    /// What was read of ended runs, so that they need not be read again.
    pub fn index(&self) -> PathBuf {
        self.state().join("index")
    }

    /// The directory of the runner's own rolling log.
    pub fn runner_logs(&self) -> PathBuf {
        self.state().join("log")
    }

    /// Creates a directory below [`Layout::state`], and that one, too.
    pub(crate) fn create_state(&self, directory: &Path) -> Result<(), StoreError> {
        self.create()?;
        create_directory(&self.state())?;
        create_directory(directory)
    }
}

/// The name of a run's mark: its path with `.` for `/`, which no name contains.
pub(crate) fn mark_name(run: &RunPath) -> String {
    run.to_string().replace('/', ".")
}

/// The directory of one run and the names in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RunDirectory {
    path: PathBuf,
    mark: PathBuf,
}

impl RunDirectory {
    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, outside the directory, that is there from the run's beginning to its end.
    pub fn mark(&self) -> PathBuf {
        self.mark.clone()
    }

    /// The record.
    pub fn metadata(&self) -> PathBuf {
        self.path.join("metadata.json")
    }

    /// The record for people.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.txt")
    }

    /// Everything the agent printed.
    pub fn transcript(&self) -> PathBuf {
        self.path.join("transcript.log")
    }

    /// What the agent printed on its standard output.
    pub fn stdout(&self) -> PathBuf {
        self.path.join("stdout.log")
    }

    /// The exact prompt.
    pub fn prompt(&self) -> PathBuf {
        self.path.join("prompt.md")
    }

    /// Normalised events, one JSON object a line.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// What the task's checks printed.
    pub fn checks(&self) -> PathBuf {
        self.path.join("checks.log")
    }

    /// Space kept for the end of the run; gone when the run has ended.
    pub(crate) fn reserve(&self) -> PathBuf {
        self.path.join("reserve")
    }

    /// Files for the agent's process alone; gone when the run has ended.
    pub fn private_directory(&self) -> PathBuf {
        self.path.join("private")
    }

    /// The runner's own log of the run. Its lock is held as long as the runner lives.
    pub fn runner_log(&self) -> PathBuf {
        self.path.join("runner.log")
    }
}
