//! Errors as the person at the terminal gets them: what failed, why, and what to do.

use std::error::Error;
use std::fmt;

use crate::config::settings::UnknownName;
use crate::model::outcome::{EXIT_FAILURE, EXIT_USAGE};

/// An error that ends the command.
#[derive(Debug)]
pub struct CliError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn Error>>,
    hint: Option<String>,
}

/// Who can mend it, which is what the exit code tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ErrorKind {
    Usage,
    Failure,
}

impl CliError {
    /// The command line or the configuration is wrong; nothing was started.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Usage,
            message: message.into(),
            source: None,
            hint: None,
        }
    }

    /// The runner could not do its work.
    pub fn failure(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Failure,
            ..Self::usage(message)
        }
    }

    /// Adds why.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The message with its causes in one line, for a list.
    pub fn brief(&self) -> String {
        let mut words = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            words = format!("{words}: {}", error.to_string().trim_end());
            cause = error.source();
        }
        words
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            ErrorKind::Usage => EXIT_USAGE,
            ErrorKind::Failure => EXIT_FAILURE,
        }
    }
}

/// A name that a person mistyped.
impl From<UnknownName> for CliError {
    fn from(error: UnknownName) -> Self {
        Self::usage(error.to_string())
    }
}

impl Error for CliError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref()
    }
}

/// The message with its causes and its hint, as it is printed behind `error: `.
impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(formatter, "\n  because: {error}")?;
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            write!(formatter, "\n\nhint: {hint}")?;
        }
        Ok(())
    }
}
