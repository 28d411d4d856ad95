//! Names and identities: tasks, agents, runs. Parsed here, trusted everywhere else.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, Utc};
use thiserror::Error;

/// Why a text is no name for a task or an agent.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum NameError {
    /// The text is empty.
    #[error("a name is empty")]
    Empty,
    /// The text has a character that could make it a path or an option.
    #[error(
        "`{0}` is no name: only a-z, 0-9, `_` and `-` are allowed, the first a letter or digit"
    )]
    Character(String),
    /// The text is longer than [`MAX_NAME_BYTES`].
    #[error("a name is longer than {MAX_NAME_BYTES} bytes")]
    Long,
    /// The name has a fixed meaning in the log directory.
    #[error("`{0}` is reserved and no task name")]
    Reserved(String),
}

/// The longest name of a task or an agent: it becomes a directory, with room for suffixes.
pub const MAX_NAME_BYTES: usize = 64;

fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    if text.starts_with(['_', '-']) || !text.chars().all(allowed) {
        return Err(NameError::Character(text.to_owned()));
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(NameError::Long);
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&self.0)
            }
        }
    };
}

name_type! {
    /// The name of an agent: one path component, never an option.
    AgentName
}
name_type! {
    /// The name of a task: one path component, never an option, not `heartbeat`.
    TaskName
}

impl FromStr for AgentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_name(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for TaskName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        check_name(text)?;
        if text == "heartbeat" {
            return Err(NameError::Reserved(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a run's directory: its start in UTC as `YYYYMMDD_HHMMSS`, and `_2`, `_3`, … where
/// that directory already existed.
///
/// Directories of older programs have other names; they are carried as they are, and
/// [`RunId::started`] is then `None`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RunId(String);

const RUN_ID_FORMAT: &str = "%Y%m%d_%H%M%S";

impl RunId {
    /// The identity of the `attempt`th run (from 1) that started in the second of `start`.
    pub fn new(start: DateTime<Utc>, attempt: u32) -> Self {
        let stamp = start.format(RUN_ID_FORMAT);
        Self(if attempt <= 1 {
            stamp.to_string()
        } else {
            format!("{stamp}_{attempt}")
        })
    }

    /// Takes the name of an existing run directory.
    pub fn from_directory(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The identity as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The start that the identity tells, to the second; `None` for a name of another form.
    pub fn started(&self) -> Option<DateTime<Utc>> {
        let stamp = self.0.get(..15)?;
        let rest = self.0.get(15..)?;
        if !rest.is_empty() {
            let attempt = rest.strip_prefix('_')?;
            if attempt.is_empty() || !attempt.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
        }
        NaiveDateTime::parse_from_str(stamp, RUN_ID_FORMAT)
            .ok()
            .map(|start| start.and_utc())
    }

    /// A key that orders runs by start and then by attempt (`_10` after `_9`).
    pub fn order(&self) -> (&str, u32) {
        let (stamp, rest) = self.0.split_at_checked(15).unwrap_or((&self.0, ""));
        (
            stamp,
            rest.strip_prefix('_')
                .and_then(|n| n.parse().ok())
                .unwrap_or(1),
        )
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// Which run: `task/agent/run_id`, the path of its directory below the log root.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RunPath {
    /// The task it worked on.
    pub task: TaskName,
    /// The agent that worked.
    pub agent: AgentName,
    /// Its directory's name.
    pub run_id: RunId,
}

impl fmt::Display for RunPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.task, self.agent, self.run_id)
    }
}

impl FromStr for RunPath {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut parts = text.split('/');
        let (Some(task), Some(agent), Some(run_id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NameError::Character(text.to_owned()));
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if run_id.is_empty() || !run_id.chars().all(plain) {
            return Err(NameError::Character(run_id.to_owned()));
        }
        Ok(Self {
            task: task.parse()?,
            agent: agent.parse()?,
            run_id: RunId::from_directory(run_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_paths_or_options_are_refused() {
        for text in [
            "", "..", "a/b", "/etc", "-x", "_x", "A", "a b", "a.b", "a\n", "é",
        ] {
            assert!(text.parse::<AgentName>().is_err(), "{text:?}");
            assert!(text.parse::<TaskName>().is_err(), "{text:?}");
        }
        assert!("heartbeat".parse::<TaskName>().is_err());
        assert!("x".repeat(65).parse::<TaskName>().is_err());
        assert_eq!(
            "debug_hello-2".parse::<TaskName>().unwrap().as_str(),
            "debug_hello-2"
        );
    }

    #[test]
    fn run_ids_tell_their_start_and_order_by_attempt() {
        let start = "2026-02-19T20:40:03Z".parse::<DateTime<Utc>>().unwrap();
        assert_eq!(RunId::new(start, 1).as_str(), "20260219_204003");
        assert_eq!(RunId::new(start, 12).as_str(), "20260219_204003_12");
        assert_eq!(RunId::new(start, 12).started(), Some(start));
        for other in [
            "test",
            "20260219_204003_",
            "20260219_204003_old",
            "20260231_204003",
        ] {
            assert_eq!(RunId::from_directory(other).started(), None, "{other}");
        }
        assert!(RunId::new(start, 10).order() > RunId::new(start, 9).order());
    }

    #[test]
    fn a_run_path_has_three_plain_parts() {
        let path = "t/a/20260219_204003_2".parse::<RunPath>().unwrap();
        assert_eq!(path.to_string(), "t/a/20260219_204003_2");
        for text in ["t/a", "t/a/x/y", "t/a/..", "t/a/", "../a/x"] {
            assert!(text.parse::<RunPath>().is_err(), "{text}");
        }
    }
}
