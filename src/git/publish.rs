//! Pushing a commit from a [`Mirror`], where the branch at the remote is the lock between machines.

use thiserror::Error;

use crate::git::mirror::{Mirror, MirrorError};
use crate::git::remote::RemoteFault;
use crate::process::command::Captured;

/// Why a commit is not at the remote.
#[derive(Debug, Error)]
pub enum PushError {
    /// The branch is not where it was expected: somebody else moved it. Nothing was changed.
    #[error("the branch `{branch}` belongs to somebody else now: it is {}", at(tip.as_deref()))]
    Taken {
        /// The branch.
        branch: String,
        /// Where it is; `None` where it is gone.
        tip: Option<String>,
    },
    /// The server refuses the commit: a protected branch, a hook, a secret found in it. The same
    /// commit will be refused again.
    #[error("the server refuses branch `{branch}`: {said}")]
    Rejected {
        /// The branch.
        branch: String,
        /// The server's words.
        said: String,
    },
    /// The server was not reached, denied access, or git failed.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
}

fn at(tip: Option<&str>) -> String {
    tip.map_or_else(|| "gone".to_owned(), |tip| format!("at {tip}"))
}

impl Mirror {
    /// Brings a branch at the remote from `expected` (`None`: it does not exist) to `commit`. Among
    /// any number who try the same, one succeeds. Never moves a branch that is elsewhere.
    ///
    /// The exit status of git is not believed where it tells of a failure: an answer may be lost
    /// after the push has landed, and a connection may send it twice. Blocks at most for the limit
    /// of a push and a minute.
    pub fn push(
        &self,
        branch: &str,
        commit: &str,
        expected: Option<&str>,
    ) -> Result<(), PushError> {
        let lease = format!(
            "--force-with-lease=refs/heads/{branch}:{}",
            expected.unwrap_or_default()
        );
        let refspec = format!("{commit}:refs/heads/{branch}");
        let url = self.remote.url();
        let options = [
            "--porcelain",
            "--no-verify",
            "--no-signed",
            "--no-follow-tags",
        ];
        let operands = [&*lease, "--end-of-options", url, &refspec];
        let push = [&["push"], &options[..], &operands].concat();
        let answer = self.try_speak(&push, self.limits.push);
        if matches!(&answer, Ok(captured) if captured.code == Some(0)) {
            return Ok(());
        }
        let tip = match (self.remote_tip(branch), &answer) {
            (Ok(tip), _) => tip,
            (Err(_), Ok(captured)) => return Err(self.remote.fault(captured).into()),
            (Err(error), Err(_)) => return Err(error.into()),
        };
        if tip.as_deref() == Some(commit) {
            return Ok(());
        }
        let branch = branch.to_owned();
        if tip.as_deref() != expected {
            return Err(PushError::Taken { branch, tip });
        }
        let captured = answer?;
        match refusal(&captured) {
            Some(Refusal::Final) => Err(PushError::Rejected {
                branch,
                said: self.remote.clean(&format!(
                    "{}\n{}",
                    status_line(&captured),
                    captured.stderr
                )),
            }),
            Some(Refusal::Passing) => {
                let said = self.remote.clean(&status_line(&captured));
                Err(self.remote.unreachable(said).into())
            }
            None => Err(self.remote.fault(&captured).into()),
        }
    }
}

impl From<RemoteFault> for PushError {
    fn from(fault: RemoteFault) -> Self {
        Self::Mirror(fault.into())
    }
}

/// What the server did not do.
#[derive(Debug, PartialEq)]
enum Refusal {
    /// Not now: somebody else is about to move the branch, or the server itself failed.
    Passing,
    /// It will not.
    Final,
}

/// Reads `!\tFROM:TO\t[remote rejected] (pre-receive hook declined)`.
fn refusal(captured: &Captured) -> Option<Refusal> {
    let line = status_line(captured);
    if line.is_empty() {
        return None;
    }
    let passing = [
        "stale info",
        "cannot lock ref",
        "failed to update ref",
        "reference already exists",
        "incorrect old value",
        "fetch first",
        "Internal Server Error",
        "[remote failure]",
    ];
    Some(if passing.iter().any(|words| line.contains(words)) {
        Refusal::Passing
    } else {
        Refusal::Final
    })
}

/// The words of git's line about the branch.
fn status_line(captured: &Captured) -> String {
    let output = String::from_utf8_lossy(&captured.stdout);
    let line = output.lines().find_map(|line| line.strip_prefix("!\t"));
    let words = line.and_then(|line| line.split('\t').nth(1));
    words.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_of_the_server_is_no_refusal_of_the_commit() {
        let refusal = |words: &str| {
            refusal(&Captured {
                code: Some(1),
                stdout: format!("To x\n!\ta:refs/heads/b\t{words}\nDone\n").into_bytes(),
                stderr: String::new(),
            })
        };
        for passing in [
            "[remote rejected] (Internal Server Error)",
            "[remote failure] (remote failed to report status)",
            "[remote rejected] (cannot lock ref 'refs/heads/b')",
        ] {
            assert_eq!(refusal(passing), Some(Refusal::Passing), "{passing}");
        }
        let hook = refusal("[remote rejected] (pre-receive hook declined)");
        assert_eq!(hook, Some(Refusal::Final));
    }
}
