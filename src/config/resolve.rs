//! From layers to settings, key by key: flag, environment, file, default.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Overrides;
use crate::config::env::{self, Environment};
use crate::config::error::ConfigError;
use crate::config::file::{AgentTable, DispatchTable, Form, NtfyTable, RunnerTable, TaskTable};
use crate::config::layer::Layer;
use crate::config::origin::{Origin, Sourced};
use crate::config::settings::{
    AgentSettings, CommandSettings, DispatchSettings, GitSettings, GithubCredentials,
    GithubSettings, NtfyCredentials, NtfySettings, OllamaMode, QueueSettings, RunnerSettings,
    Settings, TaskSettings,
};
use crate::config::value::{
    Address, AgentLabel, Argument, Interval, Limit, QueueUrl, Repository, Schedule, Server,
    Setting, Text, Token, Topic, VariableName, Whole,
};
use crate::model::caps::Caps;
use crate::model::ids::{AgentName, TaskName};
use crate::model::secret::Secret;
use crate::model::task::{PromptSource, Task};

/// All layers of one call. The files are checked.
pub(crate) struct Resolver<'a> {
    pub(crate) environment: &'a Environment,
    pub(crate) current_directory: &'a Path,
    pub(crate) overrides: &'a Overrides,
    /// The user's file, absolute.
    pub(crate) file: Option<&'a Path>,
    pub(crate) user: Option<&'a Layer<'a>>,
    pub(crate) shipped: &'a Layer<'a>,
}

/// The same table of every file that has it, the highest layer first.
struct Tables<'a, T>(Vec<(&'a Layer<'a>, &'a T)>);

impl<T> Tables<'_, T> {
    fn find<V, U>(&self, get: impl Fn(&T) -> &Setting<V>) -> Option<Sourced<U>>
    where
        V: Clone + Into<U>,
    {
        let mut found = self
            .0
            .iter()
            .filter_map(|(layer, table)| layer.sourced(get(table)));
        found.next().map(|sourced| sourced.map(Into::into))
    }

    /// The value of a key that the shipped file has.
    fn value<V, U>(&self, get: impl Fn(&T) -> &Setting<V>) -> Sourced<U>
    where
        V: Clone + Into<U>,
    {
        self.find(get).expect("the shipped config.toml has the key")
    }

    /// The value of a key, else what it is without.
    fn or<V, U>(&self, get: impl Fn(&T) -> &Setting<V>, without: &Sourced<U>) -> Sourced<U>
    where
        V: Clone + Into<U>,
        U: Clone,
    {
        self.find(get).unwrap_or_else(|| without.clone())
    }

    fn list<V, U>(&self, get: impl Fn(&T) -> &Setting<Vec<V>>) -> Sourced<Vec<U>>
    where
        V: Clone + Into<U>,
    {
        let list = self.find::<Vec<V>, Vec<V>>(get);
        list.unwrap_or_else(|| Sourced::default(Vec::new()))
            .map(|list| list.into_iter().map(Into::into).collect())
    }

    fn or_none<V, U>(&self, get: impl Fn(&T) -> &Setting<V>) -> Option<U>
    where
        V: Clone + Into<U>,
    {
        self.find(get).map(|sourced| sourced.value)
    }

    fn or_default<V: Clone + Default>(&self, get: impl Fn(&T) -> &Setting<V>) -> V {
        self.find(get)
            .map(|sourced| sourced.value)
            .unwrap_or_default()
    }
}

impl Resolver<'_> {
    pub(crate) fn settings(&self) -> Result<Settings, ConfigError> {
        let runner = self.runner()?;
        let timeout = self.timeout_flag()?;
        let git = self.tables(|form| Some(&form.git));
        let forms = || self.layers().map(|layer| &layer.form);
        Ok(Settings {
            file: self.file.map(Path::to_owned),
            set: self.set(),
            warnings: Vec::new(),
            git: GitSettings {
                name: git.value(|git| &git.name),
                email: git.value(|git| &git.email),
            },
            ntfy: self.ntfy()?,
            queue: self.queue()?,
            github: self.github()?,
            dispatch: self.dispatch(&runner)?,
            agents: forms()
                .flat_map(|form| form.agents.keys())
                .map(|name| Ok((name.clone(), self.agent(name)?)))
                .collect::<Result<_, _>>()?,
            tasks: forms()
                .flat_map(|form| form.tasks.keys())
                .map(|name| (name.clone(), self.task(name, timeout.as_ref(), &runner)))
                .collect(),
            runner,
        })
    }

    /// The keys that are no defaults. Flags are left out: who typed them knows them.
    fn set(&self) -> BTreeMap<String, Origin> {
        let mut set: BTreeMap<_, _> = (self.user.iter())
            .flat_map(|user| user.set(self.shipped))
            .collect();
        // Of two variables for one key the first is the one that counts.
        for env::Variable { name, key } in env::VARIABLES.iter().rev() {
            if self.environment.get(name).is_some() {
                set.insert((*key).to_owned(), Origin::Environment((*name).to_owned()));
            }
        }
        let agents = self.layers().flat_map(|layer| layer.form.agents.keys());
        for agent in agents {
            let name = env::binary_variable(agent);
            if self.environment.get(&name).is_some() {
                set.insert(format!("agents.{agent}.binary"), Origin::Environment(name));
            }
        }
        set
    }

    fn layers(&self) -> impl Iterator<Item = &Layer<'_>> {
        self.user.into_iter().chain([self.shipped])
    }

    fn tables<'a, T>(&'a self, get: impl Fn(&'a Form) -> Option<&'a T>) -> Tables<'a, T> {
        let found = self.layers().map(|layer| Some((layer, get(&layer.form)?)));
        Tables(found.flatten().collect())
    }

    fn runner(&self) -> Result<RunnerSettings, ConfigError> {
        let tables = self.tables(|form| Some(&form.runner));
        let flag = self.overrides.repo.clone();
        let repo_root = flag
            .map(|path| self.absolute(Sourced::new(path, Origin::Flag("--repo"))))
            .or_else(|| self.directory("runner.repo_root", &tables, |runner| &runner.repo_root))
            .unwrap_or_else(|| Sourced::default(self.current_directory.to_owned()));
        let log_root = self
            .directory("runner.log_root", &tables, |runner| &runner.log_root)
            .unwrap_or_else(|| Sourced::default(repo_root.value.join("logs")));
        let prompts_dir = self
            .directory("runner.prompts_dir", &tables, |runner| &runner.prompts_dir)
            .unwrap_or_else(|| {
                let beside = self.file.and_then(Path::parent);
                Sourced::default(beside.unwrap_or(&repo_root.value).join("prompts"))
            });
        Ok(RunnerSettings {
            repo_root,
            log_root,
            prompts_dir,
            path_prefix: self.path_prefix(&tables),
            timeout: self
                .value::<Limit, _>("runner.timeout", tables.value(|runner| &runner.timeout))?,
            stall_timeout: tables.value(|runner| &runner.stall_timeout),
            grace_period: tables.value(|runner| &runner.grace_period),
            limit_patience: tables.value(|runner| &runner.limit_patience),
            verify_timeout: tables.value(|runner| &runner.verify_timeout),
            overlap: tables.value(|runner| &runner.overlap),
            isolation: tables.value(|runner| &runner.isolation),
            containment: tables.value(|runner| &runner.containment),
            log_head_bytes: tables.value(|runner| &runner.log_head_bytes),
            log_tail_bytes: tables.value(|runner| &runner.log_tail_bytes),
            keep_for: tables.value(|runner| &runner.keep_for),
            keep_size: tables.value(|runner| &runner.keep_size),
            metrics_file: self.directory("runner.metrics_file", &tables, |runner| {
                &runner.metrics_file
            }),
            auto_order: tables.value(|runner| &runner.auto_order),
            park_default: tables.value(|runner| &runner.park_default),
            retries: tables.value(|runner| &runner.retries),
            retry_pause: tables.value(|runner| &runner.retry_pause),
            worst_case_usd: tables.value(|runner| &runner.worst_case_usd),
            worst_case_tokens: tables.value(|runner| &runner.worst_case_tokens),
        })
    }

    fn path_prefix(&self, tables: &Tables<'_, RunnerTable>) -> Sourced<Vec<PathBuf>> {
        let variable = self.raw_variable("runner.path_prefix").map(|variable| {
            variable.map(|value| {
                std::env::split_paths(value)
                    .filter(|path| !path.as_os_str().is_empty())
                    .collect()
            })
        });
        let paths = variable.unwrap_or_else(|| tables.list(|runner| &runner.path_prefix));
        let base = self.base(&paths.origin);
        paths.map(|paths| paths.iter().map(|path| self.join(base, path)).collect())
    }

    fn ntfy(&self) -> Result<NtfySettings, ConfigError> {
        let tables: Tables<'_, NtfyTable> = self.tables(|form| Some(&form.ntfy));
        let token = self.either::<Token, _>("ntfy.token", tables.find(|ntfy| &ntfy.token))?;
        let name: Option<Sourced<String>> = tables.find(|ntfy| &ntfy.username);
        let password: Option<Sourced<Secret>> = tables.find(|ntfy| &ntfy.password);
        let user = name.zip(password).map(|(name, password)| {
            let password = password.value;
            name.map(|name| NtfyCredentials::User { name, password })
        });
        Ok(NtfySettings {
            server: self.value::<Server, _>("ntfy.server", tables.value(|ntfy| &ntfy.server))?,
            topic: self.either::<Topic, _>("ntfy.topic", tables.find(|ntfy| &ntfy.topic))?,
            // A token of the environment beats a user of the file.
            credentials: token
                .map(|token| token.map(NtfyCredentials::Token))
                .or(user),
        })
    }

    fn queue(&self) -> Result<QueueSettings, ConfigError> {
        let tables = self.tables(|form| Some(&form.queue));
        Ok(QueueSettings {
            url: self.either::<QueueUrl, _>("queue.url", tables.find(|queue| &queue.url))?,
        })
    }

    fn github(&self) -> Result<GithubSettings, ConfigError> {
        let tables = self.tables(|form| Some(&form.github));
        // What the environment has for others, as a reference to a vault, must not stop a command
        // that needs no GitHub.
        let token: Option<Sourced<Secret>> =
            self.either::<Secret, _>("github.token", tables.find(|github| &github.token))?;
        let id = self.number("github.app_id", tables.find(|github| &github.app_id))?;
        let key_file = self.either::<PathBuf, PathBuf>(
            "github.app_key_file",
            tables.find(|github| &github.app_key_file),
        )?;
        let installation = tables.find(|github| &github.app_installation);
        let installation = self.number("github.app_installation", installation)?;
        let half = match (&id, &key_file) {
            (Some(id), None) => {
                Some((&id.origin, "it has no key: set GITHUB_APP_PRIVATE_KEY_PATH"))
            }
            (None, Some(file)) => Some((&file.origin, "it has no id: set GITHUB_APP_ID")),
            (Some(_), Some(_)) | (None, None) => None,
        };
        if let Some((origin, problem)) = half {
            let problem = format!("half of a GitHub App, {problem}");
            return Err(ConfigError::Wrong {
                place: origin.to_string(),
                problem,
            });
        }
        let app = id.zip(key_file).map(|(id, key_file)| {
            let key_file = self.absolute(key_file).value;
            id.map(|id| GithubCredentials::App {
                id: id.get(),
                key_file,
                installation: installation.map(|number| number.value.get()),
            })
        });
        Ok(GithubSettings {
            api_url: self
                .value::<Server, _>("github.api_url", tables.value(|github| &github.api_url))?,
            server_url: self.value::<Server, _>(
                "github.server_url",
                tables.value(|github| &github.server_url),
            )?,
            // A token of the environment beats an App of the file.
            credentials: token
                .map(|token| token.map(GithubCredentials::Token))
                .or(app),
            write_interval: tables.value(|github| &github.write_interval),
        })
    }

    fn dispatch(&self, runner: &RunnerSettings) -> Result<DispatchSettings, ConfigError> {
        let tables = self.tables(|form| Some(&form.dispatch));
        let repo = tables.find(|dispatch| &dispatch.repo);
        let number = |get: fn(&DispatchTable) -> &Setting<NonZeroU64>| {
            tables.value::<_, NonZeroU64>(get).map(NonZeroU64::get)
        };
        let set = |key, get: fn(&DispatchTable) -> &Setting<NonZeroU64>| {
            let number = self.value::<Whole, NonZeroU64>(key, tables.value(get))?;
            Ok(number.map(NonZeroU64::get))
        };
        let workspace = tables.find(|dispatch| &dispatch.workspace);
        let default = || Sourced::default(runner.log_root.value.join(".state/workspaces"));
        Ok(DispatchSettings {
            repo: self.either::<Repository, _>("dispatch.repo", repo)?,
            label: self
                .value::<String, _>("dispatch.label", tables.value(|dispatch| &dispatch.label))?,
            agent: self
                .value::<String, _>("dispatch.agent", tables.value(|dispatch| &dispatch.agent))?,
            agent_name: self.value::<AgentLabel, _>(
                "dispatch.agent_name",
                tables.value(|dispatch| &dispatch.agent_name),
            )?,
            poll_interval: self.value::<Interval, _>(
                "dispatch.poll_interval",
                tables.value(|dispatch| &dispatch.poll_interval),
            )?,
            concurrency: set("dispatch.concurrency", |dispatch| &dispatch.concurrency)?,
            attempts: set("dispatch.attempts", |dispatch| &dispatch.attempts)?,
            retry_pause: self.value::<Duration, _>(
                "dispatch.retry_pause",
                tables.value(|dispatch| &dispatch.retry_pause),
            )?,
            metrics: self.either::<Address, _>(
                "dispatch.metrics",
                tables.find(|dispatch| &dispatch.metrics),
            )?,
            lease: tables.value(|dispatch| &dispatch.lease),
            workspace: workspace.map_or_else(default, |path| self.absolute(path)),
            git_timeout: tables.value(|dispatch| &dispatch.git_timeout),
            targets: tables.list(|dispatch| &dispatch.targets),
            authors: tables.list(|dispatch| &dispatch.authors),
            allow: tables.list(|dispatch| &dispatch.allow),
            max_files: number(|dispatch| &dispatch.max_files),
            max_file_bytes: tables.value(|dispatch| &dispatch.max_file_bytes),
            max_bytes: tables.value(|dispatch| &dispatch.max_bytes),
        })
    }

    /// The environment's value of a key, else the files'.
    fn either<T, U>(
        &self,
        key: &str,
        of_files: Option<Sourced<U>>,
    ) -> Result<Option<Sourced<U>>, ConfigError>
    where
        T: Text + Into<U>,
    {
        Ok(self.variable::<T, U>(key)?.or(of_files))
    }

    /// The same of a key that the files have.
    fn value<T, U>(&self, key: &str, of_files: Sourced<U>) -> Result<Sourced<U>, ConfigError>
    where
        T: Text + Into<U>,
    {
        Ok(self.variable::<T, U>(key)?.unwrap_or(of_files))
    }

    fn number(
        &self,
        key: &str,
        of_files: Option<Sourced<NonZeroU64>>,
    ) -> Result<Option<Sourced<NonZeroU64>>, ConfigError> {
        self.either::<Whole, NonZeroU64>(key, of_files)
    }

    fn agent(&self, name: &AgentName) -> Result<AgentSettings, ConfigError> {
        let tables: Tables<'_, AgentTable> = self.tables(|form| form.agents.get(name));
        let command: Option<Sourced<Vec<Argument>>> = tables.find(|agent| &agent.command);
        let (program, command) = match command {
            Some(Sourced { value, origin }) => {
                let mut words = value.into_iter().map(String::from);
                let program = words
                    .next()
                    .expect("a command without a program is refused");
                let command = CommandSettings {
                    arguments: words.collect(),
                    prompt: tables.or_default(|agent| &agent.prompt),
                    model_flag: tables.or_none(|agent| &agent.model_flag),
                    stop_signal: tables.or_default(|agent| &agent.stop_signal),
                };
                (Some(Sourced::new(program.into(), origin)), Some(command))
            }
            None => (tables.find(|agent| &agent.binary), None),
        };
        let binary_variable = env::binary_variable(name);
        let program = program.map(|program| match self.environment.get(&binary_variable) {
            Some(path) => Sourced::new(path.into(), Origin::Environment(binary_variable)),
            None => program,
        });
        let interface = match (&command, tables.or_default(|agent| &agent.mode)) {
            (Some(_), _) => tables
                .or_none(|agent| &agent.output)
                .unwrap_or_else(|| "text".to_owned()),
            (None, OllamaMode::Chat) => format!("{name}_chat"),
            (None, OllamaMode::Launch) => name.to_string(),
        };
        let flag = self.overrides.model.clone();
        let variable = self.variable::<String, _>(&format!("agents.{name}.model"))?;
        let environment: Option<Sourced<BTreeMap<VariableName, Secret>>> =
            tables.find(|agent| &agent.env);
        Ok(AgentSettings {
            name: name.clone(),
            interface,
            binary: program.map(|program| self.program(program)),
            command,
            model: flag
                .map(|model| Sourced::new(model, Origin::Flag("--model")))
                .or(variable)
                .or_else(|| tables.find(|agent| &agent.model)),
            effort: tables.find(|agent| &agent.effort),
            arguments: tables.list(|agent| &agent.args),
            environment: environment
                .unwrap_or_else(|| Sourced::default(BTreeMap::new()))
                .map(|pairs| {
                    let pairs = pairs.into_iter();
                    pairs.map(|(name, value)| (name.into(), value)).collect()
                }),
            pass_environment: tables.list(|agent| &agent.pass_env),
            caps: Caps {
                runs: tables.or_none(|agent| &agent.max_runs_per_day),
                tokens: tables.or_none(|agent| &agent.max_tokens_per_day),
                usd: tables.or_none(|agent| &agent.max_usd_per_day),
            },
        })
    }

    fn task(
        &self,
        name: &TaskName,
        timeout: Option<&Sourced<Duration>>,
        runner: &RunnerSettings,
    ) -> TaskSettings {
        let tables: Tables<'_, TaskTable> = self.tables(|form| form.tasks.get(name));
        let mut origins = Origins(BTreeMap::new());
        let prompt = tables.0.iter().find_map(|(layer, task)| {
            let file = layer.sourced(&task.prompt);
            let file = file.map(|file| file.map(|file| PromptSource::File(file.0)));
            let text = || layer.sourced(&task.prompt_text);
            file.or_else(|| Some(text()?.map(PromptSource::Text)))
        });
        let mut switch = |key, default, get: fn(&TaskTable) -> &Setting<bool>| {
            origins.keep(key, tables.find(get)).unwrap_or(default)
        };
        let requires_commit = switch("requires_commit", true, |task| &task.requires_commit);
        let allow_no_change = switch("allow_no_change", false, |task| &task.allow_no_change);
        let notify = switch("notify", true, |task| &task.notify);
        let timeout = timeout
            .cloned()
            .unwrap_or_else(|| tables.or(|task| &task.timeout, &runner.timeout));
        let schedules: Option<BTreeMap<AgentName, Schedule>> =
            origins.keep("schedules", tables.find(|task| &task.schedules));
        let task = Task {
            name: name.clone(),
            prompt: origins
                .keep("prompt", prompt)
                .expect("a task without a prompt is refused"),
            requires_commit,
            allow_no_change,
            notify,
            agents: origins.value("agents", tables.list(|task| &task.agents)),
            timeout: origins.value("timeout", timeout),
            stall_timeout: origins.value(
                "stall_timeout",
                tables.or(|task| &task.stall_timeout, &runner.stall_timeout),
            ),
            verify: origins.value("verify", tables.list(|task| &task.verify)),
            verify_timeout: origins.value(
                "verify_timeout",
                tables.or(|task| &task.verify_timeout, &runner.verify_timeout),
            ),
            schedule: origins.keep("schedule", tables.find(|task| &task.schedule)),
            schedules: schedules
                .map(|of_agent| {
                    let of_agent = of_agent.into_iter();
                    of_agent.map(|(name, text)| (name, text.into())).collect()
                })
                .unwrap_or_default(),
            timezone: origins.keep("timezone", tables.find(|task| &task.timezone)),
            jitter: origins
                .keep("jitter", tables.find(|task| &task.jitter))
                .unwrap_or_default(),
            catch_up: origins
                .keep("catch_up", tables.find(|task| &task.catch_up))
                .unwrap_or_default(),
            expect_success_within: origins.keep(
                "expect_success_within",
                tables.find(|task| &task.expect_success_within),
            ),
            overlap: origins.value("overlap", tables.or(|task| &task.overlap, &runner.overlap)),
            isolation: origins.value(
                "isolation",
                tables.or(|task| &task.isolation, &runner.isolation),
            ),
            containment: origins.value(
                "containment",
                tables.or(|task| &task.containment, &runner.containment),
            ),
            min_changes: origins
                .keep("min_changes", tables.find(|task| &task.min_changes))
                .unwrap_or(1),
            paths: origins.value("paths", tables.list(|task| &task.paths)),
            retries: origins.value("retries", tables.or(|task| &task.retries, &runner.retries)),
            caps: Caps {
                runs: origins.keep(
                    "max_runs_per_day",
                    tables.find(|task| &task.max_runs_per_day),
                ),
                tokens: origins.keep(
                    "max_tokens_per_day",
                    tables.find(|task| &task.max_tokens_per_day),
                ),
                usd: origins.keep("max_usd_per_day", tables.find(|task| &task.max_usd_per_day)),
            },
        };
        TaskSettings {
            task,
            ping_url: tables.or_none(|task| &task.ping_url),
            origins: origins.0,
        }
    }

    fn timeout_flag(&self) -> Result<Option<Sourced<Duration>>, ConfigError> {
        let Some(timeout) = self.overrides.timeout else {
            return Ok(None);
        };
        let flag = "--timeout";
        match Limit::new(timeout) {
            Ok(limit) => Ok(Some(Sourced::new(limit.into(), Origin::Flag(flag)))),
            Err(problem) => Err(ConfigError::Wrong {
                place: flag.to_owned(),
                problem,
            }),
        }
    }

    /// The environment variable for a key, when it is set.
    fn raw_variable(&self, key: &str) -> Option<Sourced<&OsStr>> {
        let mut names = env::VARIABLES.iter().filter(|known| known.key == key);
        names.find_map(|known| {
            let value = self.environment.get(known.name)?;
            Some(Sourced::new(
                value,
                Origin::Environment(known.name.to_owned()),
            ))
        })
    }

    fn variable<T, U>(&self, key: &str) -> Result<Option<Sourced<U>>, ConfigError>
    where
        T: Text + Into<U>,
    {
        let Some(variable) = self.raw_variable(key) else {
            return Ok(None);
        };
        let not_text = || format!("not UTF-8; it must be {}", T::EXPECTED);
        match variable
            .value
            .to_str()
            .ok_or_else(not_text)
            .and_then(T::read)
        {
            Ok(value) => Ok(Some(Sourced::new(value.into(), variable.origin))),
            Err(problem) => Err(ConfigError::Wrong {
                place: variable.origin.to_string(),
                problem,
            }),
        }
    }

    fn directory(
        &self,
        key: &str,
        tables: &Tables<'_, RunnerTable>,
        get: impl Fn(&RunnerTable) -> &Setting<PathBuf>,
    ) -> Option<Sourced<PathBuf>> {
        let variable = self.raw_variable(key);
        let directory = variable.map(|variable| variable.map(PathBuf::from));
        Some(self.absolute(directory.or_else(|| tables.find(get))?))
    }

    /// A bare name is looked up in `PATH` later; everything else is a path.
    fn program(&self, program: Sourced<PathBuf>) -> Sourced<PathBuf> {
        if program.value.components().count() == 1 {
            return program;
        }
        self.absolute(program)
    }

    fn absolute(&self, path: Sourced<PathBuf>) -> Sourced<PathBuf> {
        let base = self.base(&path.origin);
        path.map(|path| self.join(base, &path))
    }

    /// Where the relative paths of a layer start.
    fn base(&self, origin: &Origin) -> &Path {
        match origin {
            Origin::File { .. } => self.file.and_then(Path::parent),
            Origin::Flag(_) | Origin::Environment(_) | Origin::Default => None,
        }
        .unwrap_or(self.current_directory)
    }

    fn join(&self, base: &Path, path: &Path) -> PathBuf {
        // Neither TOML nor the environment lines of a crontab have a shell that would do it.
        let in_home = path
            .strip_prefix("~")
            .ok()
            .and_then(|rest| Some(self.environment.home()?.join(rest)));
        // Collecting the components drops `.` and doubled separators.
        base.join(in_home.as_deref().unwrap_or(path))
            .components()
            .collect()
    }
}

/// Where the values of one task come from; what is not in it is a default.
struct Origins(BTreeMap<&'static str, Origin>);

impl Origins {
    fn value<T>(&mut self, key: &'static str, sourced: Sourced<T>) -> T {
        self.0.insert(key, sourced.origin);
        sourced.value
    }

    fn keep<T>(&mut self, key: &'static str, sourced: Option<Sourced<T>>) -> Option<T> {
        sourced.map(|sourced| self.value(key, sourced))
    }
}
