//! A bare repository that only the runner writes: the branches of one remote repository, and the
//! work that was taken from clones of it.
//!
//! ```text
//! remote ──fetch──► mirror ──clone_to──► work tree, where an agent does as it likes
//! remote ◄──push─── mirror ◄────take────┘
//! ```
//!
//! The token is in the environment of the git processes that speak with the remote, and nowhere
//! else. What an agent leaves is fetched back by [`crate::git::quarantine`]; its `.git` is never
//! read. Everything here blocks; each function says how long at most.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::git::environment::Identity;
use crate::git::quarantine::{self, Unsafe};
use crate::git::remote::{Remote, RemoteFault};
use crate::git::{Git, GitError, reason, says_full};
use crate::model::dispatch::{REVISION_TRAILER, WORK_TRAILER, WorkKey};
use crate::model::text;
use crate::model::tree_policy::{TreeChange, TreeLink};
use crate::model::work_name::TRACE_DIRECTORY;
use crate::process::command::{Captured, HelperError};

/// The longest a question to the remote may take.
const ASK_LIMIT: Duration = Duration::from_secs(60);

/// How often a mirror that another process uses is tried.
const PAUSE: Duration = Duration::from_millis(50);

/// The age at which a lock of git's has no owner any more: it waits ten seconds for one itself, and
/// a git whose runner was killed may live on for a while.
const STALE: Duration = Duration::from_secs(180);

/// Fetches what is named after it, and notes nothing.
const FETCH: [&str; 4] = ["fetch", "-q", "--no-tags", "--no-write-fetch-head"];

/// The branches of one remote repository, in a directory of the runner's own.
#[derive(Clone, Debug)]
pub struct Mirror {
    directory: PathBuf,
    pub(super) remote: Remote,
    inherited: BTreeMap<OsString, OsString>,
    pub(super) limits: MirrorLimits,
}

/// How much is waited for and taken in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MirrorLimits {
    /// The longest fetch from the remote, and the longest wait for another one.
    pub fetch: Duration,
    /// The longest push.
    pub push: Duration,
    /// The most files in a work tree.
    pub files: usize,
    /// The most bytes in a work tree, and in the repository of an agent.
    pub bytes: u64,
}

impl Default for MirrorLimits {
    /// Enough for the largest repositories that people work in.
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(600),
            push: Duration::from_secs(300),
            files: 500_000,
            bytes: 16 << 30,
        }
    }
}

/// Why a mirror could not do its work.
#[derive(Debug, Error)]
pub enum MirrorError {
    /// The remote repository did not do what was asked.
    #[error(transparent)]
    Remote(#[from] RemoteFault),
    /// The mirror's own git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The same, over what an agent left, which may be what this machine has no room for.
    #[error(transparent)]
    Take(GitError),
    /// A directory or file could not be made or read.
    #[error("cannot use `{}`", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process held the mirror for all the time of a fetch.
    #[error("`{}` is in use by another process", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// A tree is larger than a work tree may be; nothing was checked out.
    #[error("the tree of commit {commit} is too large to check out: {what}")]
    TooLarge {
        /// The commit.
        commit: String,
        /// How much there is and may be.
        what: String,
    },
    /// What an agent left is not taken.
    #[error("the work cannot be taken: {what}")]
    Work {
        /// What is wrong with it.
        what: String,
    },
}

impl MirrorError {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Remote(fault) => fault.is_transient(),
            Self::Busy { .. } | Self::Files { .. } => true,
            Self::Git(error) => error.is_full(),
            Self::Take(_) | Self::TooLarge { .. } | Self::Work { .. } => false,
        }
    }
}

impl Mirror {
    /// Takes the directory of the mirror, which need not exist, and the environment that the runner
    /// itself was given. Does nothing yet.
    pub fn new(inherited: &BTreeMap<OsString, OsString>, directory: &Path, remote: Remote) -> Self {
        Self {
            directory: directory.to_owned(),
            remote,
            inherited: inherited.clone(),
            limits: MirrorLimits::default(),
        }
    }

    /// The same mirror with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: MirrorLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same mirror of the same repository, with the token of this remote.
    #[must_use]
    pub fn with_remote(mut self, remote: Remote) -> Self {
        self.remote = remote;
        self
    }

    /// Brings all branches of the remote up to date, and makes the mirror where it is missing.
    /// Blocks at most for twice the limit of a fetch. Several processes may do it at once.
    pub fn fetch(&self) -> Result<(), MirrorError> {
        let _lock = self.lock()?;
        let url = self.remote.url();
        let heads = "+refs/heads/*:refs/heads/*";
        let fetch = [&FETCH[..], &["--prune", "--end-of-options", url, heads]].concat();
        match self.speak(&fetch, self.limits.fetch) {
            // Only the remote knows by which hash its commits are named.
            Err(MirrorError::Remote(fault)) if let Some(format) = fault.other_format() => {
                let removed = fs::remove_dir_all(&self.directory);
                removed.map_err(|source| files_error(&self.directory, source))?;
                self.make(format)?;
                self.speak(&fetch, self.limits.fetch)?;
            }
            Err(MirrorError::Remote(fault)) if fault.is_of_mirror() => {
                tracing::warn!("the mirror's branches are fetched anew: {fault}");
                self.drop_branches()?;
                self.speak(&fetch, self.limits.fetch)?;
            }
            spoken => drop(spoken?),
        }
        Ok(())
    }

    /// Lets go of all branches, and of no object: others may be at work with them.
    fn drop_branches(&self) -> Result<(), MirrorError> {
        let removed = [
            fs::remove_dir_all(self.directory.join("refs/heads")),
            fs::remove_file(self.directory.join("packed-refs")),
        ];
        for error in removed.into_iter().filter_map(Result::err) {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(files_error(&self.directory, error));
            }
        }
        Ok(())
    }

    /// The branch that the remote's HEAD names; `None` in an empty repository. Asks the remote.
    pub fn default_branch(&self) -> Result<Option<String>, MirrorError> {
        let url = self.remote.url();
        let ask = ["ls-remote", "--symref", "--end-of-options", url, "HEAD"];
        let answer = self.speak(&ask, ASK_LIMIT)?;
        // `ref: refs/heads/main\tHEAD`.
        let branch = answer.lines().find_map(|line| {
            let name = line.strip_prefix("ref: refs/heads/")?;
            name.strip_suffix("\tHEAD")
        });
        Ok(branch.map(str::to_owned))
    }

    /// The commit of a branch at the remote, not in the mirror; `None` where it does not exist.
    pub fn remote_tip(&self, branch: &str) -> Result<Option<String>, MirrorError> {
        let [tip] = self.remote_tips([branch])?;
        Ok(tip)
    }

    /// The same of several branches, in one question.
    pub fn remote_tips<const N: usize>(
        &self,
        branches: [&str; N],
    ) -> Result<[Option<String>; N], MirrorError> {
        let names = branches.map(|branch| format!("refs/heads/{branch}"));
        let url = self.remote.url();
        let mut ask = vec!["ls-remote", "--refs", "--end-of-options", url];
        ask.extend(names.iter().map(String::as_str));
        let answer = self.speak(&ask, ASK_LIMIT)?;
        // A name is matched as the end of other names, too.
        let tip = |name: String| {
            answer.lines().find_map(|line| {
                let (id, told) = line.split_once('\t')?;
                (told == name).then(|| id.to_owned())
            })
        };
        Ok(names.map(tip))
    }

    /// The commit of a branch as it was fetched.
    pub fn tip(&self, branch: &str) -> Result<Option<String>, MirrorError> {
        Ok(self.git().commit_of(&format!("refs/heads/{branch}"))?)
    }

    /// Whether the mirror has a commit, with a name or without.
    pub fn has(&self, commit: &str) -> Result<bool, MirrorError> {
        Ok(self.git().commit_of(commit)?.is_some())
    }

    /// The same, after the commit was asked for at the remote, which has it for as long as a pull
    /// request shows it.
    pub fn get(&self, commit: &str) -> Result<bool, MirrorError> {
        if self.has(commit)? {
            return Ok(true);
        }
        let _lock = self.lock()?;
        let from = ["--end-of-options", self.remote.url(), commit];
        let fetch = [&FETCH[..], &from].concat();
        match self.speak(&fetch, self.limits.fetch) {
            Err(MirrorError::Remote(RemoteFault::Unreachable { said, .. }))
                if said.contains("not our ref") || said.contains("unadvertised object") =>
            {
                Ok(false)
            }
            spoken => spoken.map(|_| true),
        }
    }

    /// Makes a repository in `directory`, which must not exist, with `base` checked out as
    /// `branch`: a copy of its own without any remote, for an agent.
    ///
    /// # Errors
    /// [`MirrorError::TooLarge`] before anything is written. After other errors the directory may
    /// be there, half-made.
    pub fn clone_to(&self, directory: &Path, base: &str, branch: &str) -> Result<(), MirrorError> {
        self.check_size(base)?;
        let private = DirBuilder::new().mode(0o700).create(directory);
        private.map_err(|source| files_error(directory, source))?;
        // What is in the mirror was checked when it came.
        let unchecked = [("transfer.fsckObjects", "false")];
        let mut clone = Git::sealed(&self.inherited, directory, &unchecked)
            .with_variable("GIT_ALLOW_PROTOCOL", "file");
        clone.limit = self.limits.fetch;
        let first = format!("--initial-branch={branch}");
        let format = self.object_format()?;
        clone.read(&["init", "-q", "--template=", &first, &format])?;
        let refspec = format!("{base}:refs/heads/{branch}");
        let mirror = as_text(&self.directory)?;
        let from = ["--update-head-ok", "--end-of-options", mirror, &refspec];
        clone.read(&[&FETCH[..], &from].concat())?;
        clone.read(&["reset", "-q", "--hard"])?;
        Ok(())
    }

    /// Takes the branch of a clone that an agent has worked in, and returns its tip. Nothing that
    /// the agent left is run or followed; no process of the agent may be left.
    ///
    /// Only commits on top of `base` are taken.
    pub fn take(
        &self,
        work_tree: &Path,
        base: &str,
        branch: &str,
        key: &WorkKey,
    ) -> Result<String, MirrorError> {
        // Beside the work tree, where it goes with what a worker that was killed leaves.
        let beside = work_tree.parent().unwrap_or(work_tree);
        let shell = tempfile::tempdir_in(beside).map_err(GitError::Scratch)?;
        let head = format!("--initial-branch={branch}");
        let format = self.object_format()?;
        let made = Git::sealed(&self.inherited, shell.path(), &[]).read(&[
            "init",
            "-q",
            "--bare",
            "--template=",
            &head,
            &format,
        ]);
        made.map_err(MirrorError::Take)?;
        quarantine::enclose(work_tree, &shell, self.limits.bytes).map_err(|error| match error {
            Unsafe::Found(what) => MirrorError::Work { what },
            Unsafe::Lost { path, source } => files_error(&path, source),
        })?;

        let _lock = self.lock()?;
        let mut git = self.git().with_variable("GIT_ALLOW_PROTOCOL", "file");
        git.limit = self.limits.fetch;
        let refspec = format!("+refs/heads/{branch}:{}", work_ref(key));
        let from = ["--end-of-options", as_text(shell.path())?, &refspec];
        let fetch = [&FETCH[..], &from].concat();
        let captured = git.run(&fetch, &[])?;
        if captured.code != Some(0) {
            let what = reason(&captured);
            let error = own_fault("fetch", &captured);
            return Err(error.unwrap_or(MirrorError::Work { what }));
        }
        let tip = git.read_line(&["rev-parse", "--verify", &work_ref(key)])?;
        if !self.continues(base, &tip)? {
            let what = format!("commit {tip} does not continue {base}");
            return Err(MirrorError::Work { what });
        }
        Ok(tip)
    }

    /// Whether `base` is `tip`, or a commit that `tip` was made on.
    pub fn continues(&self, base: &str, tip: &str) -> Result<bool, MirrorError> {
        let git = self.git();
        let captured = git.run(&["merge-base", "--is-ancestor", base, tip], &[])?;
        match own_fault("merge-base", &captured) {
            Some(error) => Err(error),
            None => Ok(captured.code == Some(0)),
        }
    }

    /// Packs what many fetches have left, and removes what has had no name for two weeks. Blocks at
    /// most for twice the limit of a fetch.
    pub fn tidy(&self) -> Result<(), MirrorError> {
        let _lock = self.lock()?;
        let mut git = self.git();
        git.limit = self.limits.fetch;
        git.read(&["gc", "-q", "--prune=2.weeks.ago"])?;
        Ok(())
    }

    /// Lets go of work that was taken.
    pub fn forget(&self, key: &WorkKey) -> Result<(), MirrorError> {
        let _lock = self.lock()?;
        self.git().read(&["update-ref", "-d", &work_ref(key)])?;
        Ok(())
    }

    /// All that `base..tip` changed, see [`Git::tree_changes`].
    pub fn changes(&self, base: &str, tip: &str) -> Result<Vec<TreeChange>, MirrorError> {
        Ok(self.git().tree_changes(base, tip)?)
    }

    /// What a commit's tree has, see [`Git::tree`].
    pub fn tree(&self, commit: &str) -> Result<(Vec<Vec<u8>>, Vec<TreeLink>), MirrorError> {
        Ok(self.git().tree(commit)?)
    }

    /// Shows `visit` what `base..tip` added, see [`Git::added_content`].
    pub fn added_content(
        &self,
        base: &str,
        tip: &str,
        changes: &[TreeChange],
        visit: impl FnMut(&str, &[u8]),
    ) -> Result<(), MirrorError> {
        Ok(self.git().added_content(base, tip, changes, visit)?)
    }

    /// The contents of a file in a commit; `None` where there is none.
    pub fn file(&self, commit: &str, path: &str) -> Result<Option<Vec<u8>>, MirrorError> {
        Ok(self.git().file(commit, path)?)
    }

    /// Makes a commit with one file on `parent`, see [`Git::commit_file`].
    pub fn commit_file(
        &self,
        parent: &str,
        path: &str,
        content: &[u8],
        message: &str,
        identity: &Identity,
    ) -> Result<String, MirrorError> {
        let git = self.git();
        Ok(git.commit_file(parent, path, content, message, identity)?)
    }

    /// Whose work a fetched branch is: what the newest commit of `base..tip` says that changed a
    /// trace file. An agent's own commits do not, so what they say counts for nothing.
    pub fn owner(&self, tip: &str, base: &str) -> Result<Option<WorkKey>, MirrorError> {
        self.trailer(WORK_TRAILER, &[tip, &format!("^{base}")])
    }

    /// The same of a commit that may be merged into the base.
    pub fn owner_of_merged(&self, tip: &str) -> Result<Option<WorkKey>, MirrorError> {
        self.trailer(WORK_TRAILER, &[tip])
    }

    /// In the same way, which text the work was done from; `None` where the commit does not say.
    pub fn revision(&self, tip: &str, base: &str) -> Result<Option<WorkKey>, MirrorError> {
        self.trailer(REVISION_TRAILER, &[tip, &format!("^{base}")])
    }

    fn trailer(&self, key: &str, range: &[&str]) -> Result<Option<WorkKey>, MirrorError> {
        let format = format!("--format=%(trailers:key={key},valueonly)");
        let log = ["log", "--full-history", &format];
        let log = self
            .git()
            .read_line(&[&log, range, &["--", TRACE_DIRECTORY]].concat())?;
        Ok(log.lines().find_map(|line| WorkKey::from_text(line.trim())))
    }

    /// The parent of `tip`, when `tip` is the commit that brought a trace file and nobody has added
    /// to it.
    pub fn below_trace(&self, tip: &str, base: &str) -> Result<Option<String>, MirrorError> {
        let range = [tip, &format!("^{base}"), "--", TRACE_DIRECTORY];
        let newest = ["log", "-1", "--full-history", "--format=%H %P"];
        let newest = self.git().read_line(&[&newest, &range[..]].concat())?;
        let parent = newest.strip_prefix(tip).map(str::trim);
        Ok(parent.filter(|id| !id.is_empty()).map(str::to_owned))
    }

    /// git in the mirror, without a network.
    fn git(&self) -> Git {
        self.git_with(&[])
    }

    fn git_with(&self, settings: &[(&str, &str)]) -> Git {
        Git::sealed(&self.inherited, &self.directory, settings)
            .with_variable("GIT_DIR", &self.directory)
    }

    /// Runs a git command that speaks with the remote and must succeed.
    fn speak(&self, arguments: &[&str], limit: Duration) -> Result<String, MirrorError> {
        let captured = self.try_speak(arguments, limit)?;
        if captured.code == Some(0) {
            Ok(String::from_utf8_lossy(&captured.stdout).into_owned())
        } else {
            Err(self.remote.fault(&captured).into())
        }
    }

    /// Runs a git command that speaks with the remote: the one place where the token is given away.
    pub(super) fn try_speak(
        &self,
        arguments: &[&str],
        limit: Duration,
    ) -> Result<Captured, MirrorError> {
        self.init()?;
        let authorization = self.remote.authorization();
        let authorization = authorization.as_ref();
        let setting: Vec<_> = authorization
            .map(|(key, value)| (&**key, &**value))
            .into_iter()
            .collect();
        let mut git =
            (self.git_with(&setting)).with_variable("GIT_ALLOW_PROTOCOL", self.remote.protocol());
        git.limit = limit;
        match git.run(arguments, &[]) {
            Ok(captured) => Ok(captured),
            Err(GitError::Run {
                source: source @ HelperError::TimedOut { .. },
                ..
            }) => Err(self.remote.unreachable(source.to_string()).into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the mirror where it is missing or half-made.
    fn init(&self) -> Result<(), MirrorError> {
        let is_whole = ["HEAD", "config", "objects", "refs"]
            .iter()
            .all(|part| self.directory.join(part).exists());
        if is_whole {
            return Ok(());
        }
        self.make("sha1")
    }

    /// Makes an empty mirror.
    fn make(&self, format: &str) -> Result<(), MirrorError> {
        let directory = &self.directory;
        let mut private = DirBuilder::new();
        let made = private.recursive(true).mode(0o700).create(directory);
        made.map_err(|source| files_error(directory, source))?;
        self.git().read(&[
            "init",
            "-q",
            "--bare",
            "--template=",
            "--initial-branch=main",
            &format!("--object-format={format}"),
        ])?;
        Ok(())
    }

    /// Takes the mirror for this process, until the file is dropped, to write in its branches. The
    /// lock lies beside it.
    fn lock(&self) -> Result<File, MirrorError> {
        let mut path = self.directory.clone().into_os_string();
        path.push(".lock");
        let path = PathBuf::from(path);
        let error = |source| files_error(&path, source);
        if let Some(parent) = path.parent() {
            let mut private = DirBuilder::new();
            let made = private.recursive(true).mode(0o700).create(parent);
            made.map_err(error)?;
        }
        let options = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = options.map_err(error)?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => {
                    remove_stale_locks(&self.directory);
                    return Ok(file);
                }
                Err(TryLockError::Error(source)) => return Err(error(source)),
                Err(TryLockError::WouldBlock) if began.elapsed() > self.limits.fetch => {
                    return Err(MirrorError::Busy { path });
                }
                Err(TryLockError::WouldBlock) => thread::park_timeout(PAUSE),
            }
        }
    }

    fn object_format(&self) -> Result<String, MirrorError> {
        let format = self
            .git()
            .read_line(&["rev-parse", "--show-object-format"])?;
        Ok(format!("--object-format={format}"))
    }

    fn check_size(&self, commit: &str) -> Result<(), MirrorError> {
        let MirrorLimits { files, bytes, .. } = self.limits;
        let what = match self.git().tree_size(commit, files)? {
            None => format!("more than {}", text::count(files, "file")),
            Some((_, sum)) if sum > bytes => format!("{sum} bytes, at most {bytes} are allowed"),
            Some(_) => return Ok(()),
        };
        let commit = commit.to_owned();
        Err(MirrorError::TooLarge { commit, what })
    }
}

/// Removes the locks of a git that was killed: whoever holds the mirror writes alone, and git holds
/// these for moments. What cannot be removed git itself will tell.
fn remove_stale_locks(mirror: &Path) {
    let mut directories = vec![mirror.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() && (directory != mirror || name == "refs") {
                directories.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "lock")
            {
                let age = metadata.modified().map(|modified| modified.elapsed());
                let is_stale = matches!(age, Ok(Ok(age)) if age > STALE);
                if is_stale && let Err(error) = fs::remove_file(&path) {
                    tracing::warn!(%error, path = %path.display(), "a stale lock stays");
                }
            }
        }
    }
}

/// Where taken work lies in the mirror: no branch, so that no fetch prunes it.
fn work_ref(key: &WorkKey) -> String {
    format!("refs/work/{key}")
}

/// The error where git failed for a reason of this machine, and not for what it was given.
///
/// It counts as an attempt: what git was given may be what this machine has no room for.
fn own_fault(command: &str, captured: &Captured) -> Option<MirrorError> {
    const OWN: [&str; 8] = [
        "Input/output error",
        "Too many open files",
        "Read-only file system",
        "Cannot allocate memory",
        "Out of memory",
        "out of memory",
        "Resource temporarily unavailable",
        "unable to create thread",
    ];
    let stderr = &captured.stderr;
    let is_own = says_full(stderr) || OWN.iter().any(|words| stderr.contains(words));
    (is_own || captured.code.is_none()).then(|| {
        let (command, reason) = (command.to_owned(), reason(captured));
        MirrorError::Take(GitError::Refused { command, reason })
    })
}

fn files_error(path: &Path, source: io::Error) -> MirrorError {
    let path = path.to_owned();
    MirrorError::Files { path, source }
}

/// A place of our own as an argument.
fn as_text(path: &Path) -> Result<&str, MirrorError> {
    let error = || {
        files_error(
            path,
            io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8"),
        )
    };
    path.to_str().ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_before_the_work_begins_passes() {
        for reason in [
            "unable to write loose object file: No space left on device; unpack-objects failed",
            "unable to write file big; Could not reset index file to revision 'HEAD'.",
            "failed to write new configuration file config.lock",
            "sha1 file 'index.lock' write error. Out of diskspace",
        ] {
            let (command, reason) = ("fetch".to_owned(), reason.to_owned());
            let error = MirrorError::Git(GitError::Refused { command, reason });
            assert!(error.is_transient(), "{error:?}");
        }
        let (command, reason) = ("reset".to_owned(), "File name too long".to_owned());
        assert!(!MirrorError::Git(GitError::Refused { command, reason }).is_transient());
    }

    #[test]
    fn work_that_this_machine_has_no_room_for_counts_as_an_attempt() {
        let fetch = |code, stderr: &str| {
            let captured = Captured {
                code,
                stdout: Vec::new(),
                stderr: stderr.to_owned(),
            };
            own_fault("fetch", &captured)
        };
        for (code, stderr) in [
            (Some(128), "fatal: Out of memory, malloc failed"),
            (Some(128), "error: write error: No space left on device"),
            (None, ""),
        ] {
            let error = fetch(code, stderr).unwrap();
            assert!(!error.is_transient(), "{error:?}");
        }
        assert!(fetch(Some(128), "fatal: bad object").is_none());
    }
}
