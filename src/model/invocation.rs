//! What is spawned for one run, as a value: an agent describes it, the process room carries it out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The signal that asks a program to end in good order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StopSignal {
    /// SIGHUP.
    Hangup,
    /// SIGINT: codex cleans up its tools only on this one.
    Interrupt,
    /// SIGTERM.
    #[default]
    Terminate,
}

/// How a prompt reaches an agent that the configuration describes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PromptDelivery {
    /// On standard input, which is then closed.
    #[default]
    Stdin,
    /// As one argument or a part of one.
    Argument,
    /// In a file of this run alone, whose path is an argument.
    File,
}

/// One command with everything it needs, apart from the inherited environment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invocation {
    /// The resolved program file.
    pub program: PathBuf,
    /// Arguments after the program's name.
    pub arguments: Vec<String>,
    /// Variables set on top of the inherited environment.
    pub environment: BTreeMap<String, String>,
    /// Bytes for standard input, which is closed after them; empty means `/dev/null`.
    pub stdin: Vec<u8>,
    /// Files to write before the start, mode 0600, below the request's private directory.
    pub private_files: Vec<PrivateFile>,
    /// A file that the program may write and that is read after its end.
    pub result_file: Option<PathBuf>,
    /// How to ask it to end.
    pub stop_signal: StopSignal,
}

impl Invocation {
    /// A command with these arguments and this standard input, and nothing else special.
    pub fn new<Argument: Into<String>>(
        program: &Path,
        arguments: impl IntoIterator<Item = Argument>,
        stdin: impl Into<Vec<u8>>,
    ) -> Self {
        Self {
            program: program.to_owned(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            stdin: stdin.into(),
            private_files: Vec::new(),
            result_file: None,
            stop_signal: StopSignal::Terminate,
        }
    }
}

/// A file that only this invocation needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PrivateFile {
    /// Absolute path below the request's private directory.
    pub path: PathBuf,
    /// Its whole content.
    pub contents: Vec<u8>,
}
