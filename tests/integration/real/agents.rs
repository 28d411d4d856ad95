//! Every agent's own CLI through whole runs: what it says, what it does, what it fails at.
//!
//! A new agent is a constant, a line in `real_agents!` and its table in
//! `tests/real/agents/config.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::real::components;
use crate::real::model_server::ModelServer;
use crate::support::{Done, TestEnv, eventually, processes_of, processes_with};

/// What is known of an agent's CLI beyond its table in `tests/real/agents/config.toml`.
#[derive(Debug)]
struct RealAgent {
    name: &'static str,
    /// What must be installed for it.
    component: &'static str,
    /// Its npm package, which pins its version.
    package: &'static str,
    /// Stands before a model's name.
    model_prefix: &'static str,
    cost: Cost,
    tells_turns: bool,
    /// A limit that its start keeps to, also on a busy machine.
    limit: &'static str,
    /// Prepares its home directory, and what it finds there.
    prepare: fn(&Path),
}

/// What a CLI tells of the cost.
#[derive(Debug)]
enum Cost {
    Untold,
    /// Of a model that it has no price for.
    Estimated,
    /// By the prices in `tests/real/agents/opencode.json`.
    Priced,
}

const CODEX: RealAgent = RealAgent {
    name: "codex",
    component: "codex",
    package: "@openai/codex",
    model_prefix: "",
    cost: Cost::Untold,
    tells_turns: false,
    limit: "10s",
    prepare: |_home| {},
};

const CLAUDE: RealAgent = RealAgent {
    name: "claude",
    component: "claude",
    package: "@anthropic-ai/claude-code",
    cost: Cost::Estimated,
    tells_turns: true,
    ..CODEX
};

const GEMINI: RealAgent = RealAgent {
    name: "gemini",
    component: "gemini",
    package: "@google/gemini-cli",
    prepare: |home| copy("gemini.json", &home.join(".gemini/settings.json")),
    ..CODEX
};

const OPENCODE: RealAgent = RealAgent {
    name: "opencode",
    component: "opencode",
    package: "opencode-ai",
    model_prefix: "local/",
    cost: Cost::Priced,
    tells_turns: true,
    limit: "20s",
    prepare: |home| plugins_present(&home.join(".config/opencode")),
};

const KILO: RealAgent = RealAgent {
    name: "kilo",
    component: "kilo",
    package: "@kilocode/cli",
    limit: "40s",
    prepare: |home| plugins_present(&home.join(".config/kilo")),
    ..OPENCODE
};

const QWEN: RealAgent = RealAgent {
    name: "qwen",
    component: "qwen",
    package: "@qwen-code/qwen-code",
    tells_turns: true,
    ..CODEX
};

/// `ollama launch claude`: a stand-in for ollama that starts the real claude.
const OLLAMA: RealAgent = RealAgent {
    name: "ollama",
    ..CLAUDE
};

/// Each agent has each test: `real_codex::says_hello`.
macro_rules! real_agents {
    ($($module:ident: $agent:ident),+ $(,)?) => {$(
        mod $module {
            use super::$agent as AGENT;

            #[test]
            fn says_hello() {
                super::says_hello(&AGENT);
            }

            #[test]
            fn commits_with_its_own_tools() {
                super::commits_with_its_own_tools(&AGENT);
            }

            #[test]
            fn succeeds_though_it_talks_about_429() {
                super::succeeds_though_it_talks_about_429(&AGENT);
            }

            #[test]
            fn is_rate_limited_by_429() {
                super::is_rate_limited_by_429(&AGENT);
            }

            #[test]
            fn fails_with_a_wrong_model() {
                super::fails_with(&AGENT, "404", "model_not_found");
            }

            #[test]
            fn fails_with_a_wrong_key() {
                super::fails_with(&AGENT, "401", "auth");
            }

            #[test]
            fn is_stalled_by_a_server_that_never_answers() {
                super::is_stalled_by_a_server_that_never_answers(&AGENT);
            }

            #[test]
            fn is_ended_with_its_tool_at_the_time_limit() {
                super::is_ended_with_its_tool_at_the_time_limit(&AGENT);
            }

            #[test]
            fn passes_on_200_kib_that_begin_like_an_option() {
                super::passes_on_200_kib_that_begin_like_an_option(&AGENT);
            }
        }
    )+};
}

real_agents! {
    real_codex: CODEX,
    real_claude: CLAUDE,
    real_gemini: GEMINI,
    real_opencode: OPENCODE,
    real_kilo: KILO,
    real_qwen: QWEN,
    real_ollama: OLLAMA,
}

#[test]
fn real_claude_passes_on_a_prompt_that_begins_like_a_command() {
    passes_on(&CLAUDE, "/clear the table\nand /help\n");
}

#[test]
fn real_qwen_passes_on_a_prompt_that_begins_like_a_command() {
    passes_on(&QWEN, "/clear the table\nand /help\n");
}

fn says_hello(agent: &'static RealAgent) {
    let Some(ran) = run(agent, "hello", "requires_commit = false") else {
        return;
    };
    ran.ended(0, "success", None);
    let record = &ran.record;
    assert_eq!(record["last_message"], "Hello from the model server.");
    ran.turned(1);
    ran.used(1200, 34, 0.00411);
    ran.left_the_repository_alone();
}

fn commits_with_its_own_tools(agent: &'static RealAgent) {
    let Some(ran) = run(agent, "commit", "requires_commit = true") else {
        return;
    };
    ran.ended(0, "success", None);
    let record = &ran.record;
    let message = record["last_message"].as_str().unwrap();
    assert!(
        message.ends_with("Wrote greeting.txt and committed it."),
        "{message}"
    );
    ran.turned(2);
    ran.used(2100, 62, 0.00723);
    assert_eq!(record["commits"].as_array().unwrap().len(), 1);
    assert_eq!(record["commits"][0]["subject"], "Add a greeting");
    assert_eq!(record["commits"][0]["author"], "The Repository");
    assert_eq!(record["files_changed"], json!(["greeting.txt"]));
    assert_eq!(
        (&record["insertions"], &record["deletions"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(record["dirty_after"], false);
    let env = &ran.env;
    assert_eq!(
        record["head_after"],
        env.git(&["rev-parse", "HEAD"]).as_str()
    );
    assert_eq!(
        env.git(&["log", "-1", "--format=%an <%ae> %cn <%ce>"]),
        "The Repository <repository@example.invalid> The Repository <repository@example.invalid>"
    );
    let mark = env.git(&["reflog", "-1", "--format=%gs"]);
    let run = format!("work/{}/{}", agent.name, record["run_id"].as_str().unwrap());
    assert!(mark.contains(&run), "{mark}");
    assert_eq!(env.git(&["rev-list", "--count", "HEAD"]), "2");
    assert_eq!(env.git(&["status", "--porcelain"]), "");
}

fn succeeds_though_it_talks_about_429(agent: &'static RealAgent) {
    let Some(ran) = run(agent, "prose", "requires_commit = false") else {
        return;
    };
    ran.ended(0, "success", None);
    let message = ran.record["last_message"].as_str().unwrap();
    assert!(message.contains("429 Too Many Requests") && message.contains("model not found"));
}

fn is_rate_limited_by_429(agent: &'static RealAgent) {
    let Some(ran) = run(agent, "429", "requires_commit = false") else {
        return;
    };
    ran.ended(10, "rate_limited", Some("rate_limit"));
    assert_eq!(ran.record["classified_error"], "usage_limit");
    assert_eq!(ran.record["retryable"], true);
    ran.left_the_repository_alone();
}

fn fails_with(agent: &'static RealAgent, scenario: &str, class: &str) {
    let Some(ran) = run(agent, scenario, "requires_commit = true") else {
        return;
    };
    ran.ended(1, "agent_error", Some(class));
    assert_eq!(ran.record["retryable"], false);
    ran.left_the_repository_alone();
}

fn is_stalled_by_a_server_that_never_answers(agent: &'static RealAgent) {
    let limit = agent.limit;
    let keys = format!("requires_commit = false\nstall_timeout = \"{limit}\"");
    let Some(ran) = run(agent, "hang", &keys) else {
        return;
    };
    ran.ended(11, "stalled", None);
    assert_eq!(ran.record["classified_error"], "timeout");
    let elapsed = ran.record["elapsed_seconds"].as_f64().unwrap();
    assert!(elapsed < 70.0, "{elapsed} s");
    ran.left_the_repository_alone();
}

/// Several CLIs leave a running tool behind when they are told to stop; claude even ends with 0 and
/// an event of success.
fn is_ended_with_its_tool_at_the_time_limit(agent: &'static RealAgent) {
    let limit = agent.limit;
    let keys = format!("requires_commit = false\ntimeout = \"{limit}\"");
    let task = |env: TestEnv| env.task("work", &keys);
    let Some(running) = start(agent, "busy", ModelServer::start(), task) else {
        return;
    };
    let place = running.env.root();
    let tool = || -> Vec<u32> {
        let tools = processes_with("tail\0-f\0/dev/null");
        let own = processes_of(place);
        tools.into_iter().filter(|pid| own.contains(pid)).collect()
    };
    let began = eventually(Duration::from_secs(60), || !tool().is_empty());
    let ran = running.end();
    ran.ended(11, "timeout", None);
    assert!(began, "no tool was started");
    ran.left_the_repository_alone();
}

fn passes_on_200_kib_that_begin_like_an_option(agent: &'static RealAgent) {
    let line = "é✓ \"quotes\" $(id) `id` \\ and\ttabs \n";
    passes_on(
        agent,
        &format!("--help\n-x\n{}end", line.repeat(200 * 1024 / line.len())),
    );
}

/// The model gets a prompt byte by byte.
fn passes_on(agent: &'static RealAgent, prompt: &str) {
    let answer = "It arrived byte by byte.";
    let server = ModelServer::start_for(prompt, answer);
    let task = |env: TestEnv| {
        fs::create_dir(env.root().join("prompts")).unwrap();
        fs::write(env.root().join("prompts/given.md"), prompt).unwrap();
        env.config("[tasks.work]\nprompt = \"given.md\"\nrequires_commit = false")
    };
    let Some(running) = start(agent, "hello", server, task) else {
        return;
    };
    let ran = running.end();
    ran.ended(0, "success", None);
    assert_eq!(ran.record["last_message"], answer);
    let kept = fs::read_to_string(ran.directory.join("prompt.md")).unwrap();
    assert!(kept == prompt, "prompt.md differs");
}

/// Runs an agent's CLI in a scenario, on a task with these keys. `None` where it is not installed.
#[track_caller]
fn run(agent: &'static RealAgent, scenario: &str, keys: &str) -> Option<Ran> {
    let task = |env: TestEnv| env.task("work", keys);
    Some(start(agent, scenario, ModelServer::start(), task)?.end())
}

#[track_caller]
fn start(
    agent: &'static RealAgent,
    scenario: &str,
    server: Option<ModelServer>,
    task: impl FnOnce(TestEnv) -> TestEnv,
) -> Option<Running> {
    components::agent(agent.component)?;
    let server = server?;
    let env = task(environment(&server));
    (agent.prepare)(&env.root().join("agent-home"));
    let model = format!("{}test-{scenario}", agent.model_prefix);
    let arguments = [
        "run", "--agent", agent.name, "--task", "work", "--model", &model,
    ];
    let child = in_own_name(env.command(&arguments))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    Some(Running {
        child: child.unwrap(),
        agent,
        model,
        env,
        server,
    })
}

/// A run that has been started.
#[derive(Debug)]
struct Running {
    child: Child,
    agent: &'static RealAgent,
    model: String,
    env: TestEnv,
    server: ModelServer,
}

impl Running {
    #[track_caller]
    fn end(self) -> Ran {
        let done = Done::from(self.child.wait_with_output().unwrap());
        let (env, name) = (self.env, self.agent.name);
        Ran {
            agent: self.agent,
            model: self.model,
            directory: env.run_directory("work", name),
            record: env.record("work", name),
            env,
            server: self.server,
            done,
        }
    }
}

/// A place with the agents' tables of `tests/real/agents/config.toml` and a repository that names
/// who commits.
pub fn environment(server: &ModelServer) -> TestEnv {
    let env = TestEnv::new();
    env.git(&["config", "user.name", "The Repository"]);
    env.git(&["config", "user.email", "repository@example.invalid"]);
    let home = env.root().join("agent-home");
    fs::create_dir(&home).unwrap();
    let files = components::files().join("agents");
    let path = |path: &Path| path.display().to_string();
    let tables = fs::read_to_string(files.join("config.toml")).unwrap();
    env.config(
        &tables
            .replace("@BIN@", &path(&components::bin()))
            .replace("@SERVER@", server.url())
            .replace("@FILES@", &path(&files))
            .replace("@HOME@", &path(&home)),
    )
}

/// Lets the repository say who commits, not the environment.
pub fn in_own_name(mut command: Command) -> Command {
    for role in ["AUTHOR", "COMMITTER"] {
        command.env_remove(format!("GIT_{role}_NAME"));
        command.env_remove(format!("GIT_{role}_EMAIL"));
    }
    command
}

fn copy(file: &str, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(components::files().join("agents").join(file), to).unwrap();
}

/// Else opencode and kilo would fetch npm packages into a new home, and be deaf meanwhile.
fn plugins_present(directory: &Path) {
    fs::create_dir_all(directory.join("node_modules")).unwrap();
    copy("plugins-present.json", &directory.join("package-lock.json"));
}

/// A finished run with all that it left.
#[derive(Debug)]
struct Ran {
    agent: &'static RealAgent,
    model: String,
    env: TestEnv,
    server: ModelServer,
    done: Done,
    directory: PathBuf,
    record: Value,
}

impl Ran {
    /// Exit code, summary and record agree on this end, and the run left what every run leaves.
    #[track_caller]
    fn ended(&self, exit: i32, outcome: &str, error_class: Option<&str>) {
        let record = &self.record;
        let transcript = fs::read_to_string(self.directory.join("transcript.log")).unwrap();
        let told = format!(
            "{}{}{record:#}\n{transcript}",
            self.done.stdout, self.done.stderr
        );
        assert_eq!(self.done.code, Some(exit), "{told}");
        assert_eq!(record["exit_code"], exit, "{told}");
        assert_eq!(record["outcome"], outcome, "{told}");
        assert_eq!(record["error_class"].as_str(), error_class, "{told}");
        assert_eq!(record["error"].is_null(), exit == 0, "{told}");
        let summary = fs::read_to_string(self.directory.join("summary.txt")).unwrap();
        assert_eq!(self.done.stdout, summary);

        let pinned = components::pinned_version(self.agent.package);
        assert_eq!(record["agent_version"], pinned.as_str(), "{told}");
        assert_eq!(record["model"], self.model.as_str(), "{told}");
        assert!(record["session_id"].is_string() || exit != 0, "{told}");
        let events = fs::read_to_string(self.directory.join("events.jsonl")).unwrap();
        assert!(!events.is_empty(), "{told}");
        for event in events.lines() {
            assert!(serde_json::from_str::<Value>(event).is_ok(), "{event}");
        }
        assert!(
            !self.server.journal().is_empty(),
            "no model was asked: {told}"
        );
        assert_eq!(processes_of(self.env.root()), [0_u32; 0], "{told}");
    }

    /// Tokens, and the dollars where this CLI has prices.
    #[track_caller]
    fn used(&self, input: u64, output: u64, usd: f64) {
        let record = &self.record;
        assert_eq!(record["usage"]["input_tokens"], input);
        assert_eq!(record["usage"]["output_tokens"], output);
        assert_eq!(record["token_count"], input + output);
        let cost = record["cost_usd"].as_f64();
        match self.agent.cost {
            Cost::Untold => assert_eq!(cost, None),
            Cost::Estimated => assert!(cost > Some(0.0), "{cost:?}"),
            Cost::Priced => assert!((cost.unwrap() - usd).abs() < 1e-9, "{cost:?}"),
        }
    }

    #[track_caller]
    fn turned(&self, times: u64) {
        let told = self.agent.tells_turns.then_some(times);
        assert_eq!(self.record["turns"].as_u64(), told);
    }

    #[track_caller]
    fn left_the_repository_alone(&self) {
        assert_eq!(self.env.git(&["rev-list", "--count", "--all"]), "1");
        assert_eq!(self.env.git(&["status", "--porcelain"]), "");
        assert_eq!(self.record["commits"], json!([]));
    }
}
