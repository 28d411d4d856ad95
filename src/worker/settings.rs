//! How a worker works.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::git::Identity;
use crate::model::clock::Clock;
use crate::model::tree_policy::TreePolicy;
use crate::orchestrator::Announce;
use crate::redact::Redactor;
use crate::store::layout::Layout;
use crate::worker::Moment;

/// Hears how the work goes on: called by the loop itself, so it must not block.
pub type Observe = dyn Fn(Moment);

/// How a worker works.
pub struct WorkerSettings {
    /// Tells this worker from every other one.
    pub holder: String,
    /// How much is worked on at a time, at least 1.
    pub concurrency: usize,
    /// The pause between two looks at the source, and at what is being worked on.
    pub poll_interval: Duration,
    /// How long a claim holds that is not renewed.
    pub lease: Duration,
    /// How often a failing piece of work is tried, at least once.
    pub attempts: u32,
    /// The pause before the second try; each further one is twice as long.
    pub retry_pause: Duration,
    /// The directory of clones.
    pub workspace: PathBuf,
    /// The longest clone or push.
    pub git_timeout: Duration,
    /// What a result may contain.
    pub policy: TreePolicy,
    /// Who commits the trace.
    pub identity: Identity,
    /// The name under which the worker speaks.
    pub agent_name: String,
    /// How a run is started.
    pub run: RunCommand,
    /// The environment that git is found in.
    pub inherited: BTreeMap<OsString, OsString>,
    /// Where records go.
    pub layout: Layout,
    /// What must not be written anywhere.
    pub redactor: Arc<Redactor>,
    /// Tells the time of day.
    pub clock: Arc<dyn Clock>,
    /// Hears how the work goes on.
    pub observe: Box<Observe>,
    /// The longest time between two turns of the loop that are told.
    pub pulse: Duration,
    /// Words what is told of work that could not be published; `None` when nobody is told.
    pub announce: Option<Box<Announce<'static>>>,
}

/// How a run of dispatched work is started.
#[derive(Clone, Debug)]
pub struct RunCommand {
    /// The runner's own program.
    pub program: PathBuf,
    /// Arguments in front of the verb.
    pub global_arguments: Vec<OsString>,
    /// Who does the work, as for `run --agent`.
    pub agent: String,
    /// Its whole environment, without any token.
    pub environment: Vec<(OsString, OsString)>,
}

impl RunCommand {
    /// Whether the work is done by the agent without a model, whose failures do not pass.
    pub fn is_deterministic(&self) -> bool {
        self.agent == "patch"
    }
}

impl fmt::Debug for WorkerSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WorkerSettings")
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}
