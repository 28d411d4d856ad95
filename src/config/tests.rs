//! What a configuration means, seen from outside: a file, an environment and flags go in.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::time::Duration;

use crate::config::env::{self, Environment};
use crate::config::error::ConfigError;
use crate::config::origin::Origin;
use crate::config::settings::{CommandSettings, GithubCredentials, NtfyCredentials, Settings};
use crate::config::{Overrides, load};
use crate::model::caps::Caps;
use crate::model::ids::{AgentName, TaskName};
use crate::model::invocation::{PromptDelivery, StopSignal};
use crate::model::task::{CatchUp, Isolation, Overlap, PromptSource, Task};

/// A directory with a `config.toml`, in which the program is called.
struct Call {
    directory: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
    overrides: Overrides,
}

impl Call {
    fn new(file: &str) -> Self {
        let call = Self::without_file();
        call.write("config.toml", file);
        call
    }

    fn without_file() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            variables: Vec::new(),
            overrides: Overrides::default(),
        }
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = fs::File::create(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn load(&self) -> Result<Settings, ConfigError> {
        let environment: Environment = self.variables.iter().cloned().collect();
        load(&environment, self.directory.path(), &self.overrides)
    }

    #[track_caller]
    fn settings(&self) -> Settings {
        self.load().unwrap()
    }

    #[track_caller]
    fn error(&self) -> String {
        self.load().expect_err("it is refused").to_string()
    }
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn file(line: usize) -> Origin {
    Origin::File {
        path: "config.toml".into(),
        line,
    }
}

fn variable(name: &str) -> Origin {
    Origin::Environment(name.to_owned())
}

#[track_caller]
fn task(settings: &Settings, name: &str) -> Task {
    settings.task(name).unwrap().task.clone()
}

#[test]
fn a_wrong_file_is_told_with_its_place_and_what_would_be_right() {
    let cases = [
        "[runner",
        "[runner]\ntimeout = 15m",
        "[runner]\ntimeout \"15m\"",
        "[runner]\ntimeout =",
        "[runner]\ntimeout = “15m”",
        "[runner]\nauto_order = [\"codex\"",
        "[git]\nname = \"x",
        "[git]\n[runner]\n[git]",
        "[git]\nname.first = \"x\"",
        "\u{feff}x = 1",
        "[runner]\ntimeout = \"15m\"\ntimeout = \"16m\"",
        "[ntfy]\ntopik = \"x\"",
        "[runner]\nzz = 1",
        "[triage]\nrepo = \"a/b\"",
        "ntfi = 5",
        "runner = 5",
        "agents = []",
        "[tasks.document_coverage]\n  tiemout = \"5m\"",
        "tasks.document_coverage.requires_commit = \"yes\"",
        "[agents]\ncodex = \"codex\"",
        "[runner]\ntimeout = \"abc\"",
        "[runner]\ntimeout = 0",
        "[runner]\ntimeout = -5",
        "[runner]\ntimeout = \"600d\"",
        "[runner]\ntimeout = \"off\"",
        "[runner]\ntimeout = true",
        "[runner]\ntimeout = 1.5",
        "[runner]\nstall_timeout = true",
        "[runner]\nstall_timeout = \"never\"",
        "[runner]\nstall_timeout = \"0s\"",
        "[runner]\nlog_head_bytes = \"64MB\"",
        "[runner]\nauto_order = []",
        "[runner]\nauto_order = \"codex\"",
        "[runner]\nauto_order = [\"codex\",\n  7]",
        "[runner]\nauto_order = [\"codex\", \"cloude\"]",
        "[runner]\nauto_order = [\"codex\", \"claude\", \"codex\"]",
        "[runner]\nverify_timeout = 0",
        "[runner]\nretries = -1",
        "[runner]\nretries = 11",
        "[runner]\nretries = \"two\"",
        "[runner]\nworst_case_usd = -1.0",
        "[runner]\nworst_case_usd = nan",
        "[runner]\nworst_case_usd = \"1\"",
        "[git]\nname = \" \"",
        "[ntfy]\nserver = \"ntfy.sh\"",
        "[ntfy]\nserver = \"http://ntfy.local:99999\"",
        "[ntfy]\nserver = \"http://\"",
        "[ntfy]\nserver = \"ftp://x\"",
        "[ntfy]\ntopic = \"my topic\"",
        "[ntfy]\nusername = \"u\"",
        "[ntfy]\npassword = \"canary\"",
        "[ntfy]\ntoken = \"canary\"\nusername = \"u\"\npassword = \"p\"",
        "[ntfy]\ntoken = \"canary\\ncanary\"",
        "[ntfy]\ntoken = \"canary\\u0007\"",
        "[github]\ntoken = \"my canary\"",
        "[ntfy]\ntoken = \"\"",
        "[github]\ntoken = \" \"",
        "[queue]\nurl = \"mysql://x\"",
        "[github]\napi_url = \"api.github.com\"",
        "[github]\napp_id = 7",
        "[github]\napp_key_file = \"key.pem\"",
        "[github]\ntoken = \"canary\"\napp_id = 7\napp_key_file = \"key.pem\"",
        "[dispatch]\nrepo = \"https://github.com/o/r\"",
        "[dispatch]\nagent = \"patch,cloude\"",
        "[dispatch]\nagent_name = \"-->\"",
        "[dispatch]\nconcurrency = 0",
        "[dispatch]\npoll_interval = 0",
        "[dispatch]\nlease = \"0s\"",
        "[dispatch]\ntargets = [\"o/*/x\"]",
        "[dispatch]\nallow = [\"workflow\"]",
        "[agents.Codex]\nmodel = \"x\"",
        "[agents.auto]\ncommand = [\"x\"]",
        "[agents.codx]\nmodel = \"x\"",
        "[agents.mine]\ncommand = []",
        "[agents.mine]\ncommand = [\"x\"]\nbinary = \"y\"",
        "[agents.mine]\ncommand = [\"x\"]\noutput = \"claud\"",
        "[agents.mine]\ncommand = [\"x\"]\nmodel = \"y\"",
        "[agents.mine]\ncommand = [\"x\"]\nprompt = \"stdn\"",
        "[agents.mine]\ncommand = [\"x\"]\nstop_signal = \"KILL\"",
        "[agents.mine]\ncommand = [\"x\\u0000\"]",
        "[agents.claude]\ncommand = [\"x\"]",
        "[agents.claude]\nmode = \"chat\"",
        "[agents.ollama]\nmode = \"chatt\"",
        "[agents.patch]\nmodel = \"x\"",
        "[agents.claude]\nenv = { \"A=B\" = \"x\" }",
        "[tasks.heartbeat]\nprompt_text = \"x\"",
        "[tasks.\"../x\"]\nprompt_text = \"x\"",
        "[tasks.mine]\nschedule = \"@daily\"",
        "[tasks.dispatch_issue]\nschedule = \"@daily\"",
        "[tasks.dispatch_issue]\nschedules = { patch = \"@daily\" }",
        "[tasks.document_coverge]\ntimeout = \"5m\"",
        "[tasks.mine]\nprompt = \"a.md\"\nprompt_text = \"a\"",
        "[tasks.mine]\nprompt = \"/etc/passwd\"",
        "[tasks.mine]\nprompt = \"../a.md\"",
        "[tasks.mine]\nprompt_text = \"\"",
        "[tasks.document_coverage]\nagents = [\"gemeni\"]",
        "[tasks.document_coverage]\nagents = [\"codex\", \"codex\"]",
        "[tasks.document_coverage]\nexpect_success_within = 0",
        "[tasks.document_coverage]\nmax_runs_per_day = 0",
        "[tasks.document_coverage]\nmin_changes = 0",
        "[tasks.document_coverage]\nmin_changes = \"many\"",
        "[tasks.document_coverage]\npaths = [\"docs/***\"]",
        "[tasks.document_coverage]\npaths = [\"/docs\"]",
        "[tasks.document_coverage]\npaths = [\"docs/\"]",
        "[tasks.document_coverage]\nverify = \"cargo test\"",
        "[tasks.document_coverage]\nschedule = \"0 25 * * *\"",
        "[tasks.document_coverage]\nschedule = \"hourly\"",
        "[tasks.document_coverage]\nschedule = \"@hourl\"",
        "[tasks.document_coverage]\nschedule = \"0 0 31 2 *\"",
        "[tasks.document_coverage]\ntimezone = \"Europe/Berln\"",
        "# é\n[tasks.document_coverage]\ntimeout = 1979-05-27",
    ];
    let mut messages = String::new();
    for case in cases {
        writeln!(messages, "{case}\n  => {}\n", Call::new(case).error()).unwrap();
    }
    insta::assert_snapshot!(messages);
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let call = Call::without_file();
    let settings = call.settings();
    let mut agents = String::new();
    for agent in settings.agents.values() {
        let binary = agent.binary.as_ref();
        writeln!(
            agents,
            "{} {} {} {} {}",
            agent.name,
            agent.interface,
            binary.map_or("-", |binary| binary.value.to_str().unwrap()),
            agent.model.as_ref().map_or("-", |model| &model.value),
            agent.effort.as_ref().map_or("-", |effort| &effort.value),
        )
        .unwrap();
    }
    insta::assert_snapshot!(agents, @r"
    claude claude claude sonnet -
    codex codex codex - high
    gemini gemini gemini auto -
    kilo kilo kilo kilo/minimax/minimax-m2.5:free -
    ollama ollama ollama minimax-m2.5:cloud -
    opencode opencode opencode opencode/glm-5-free -
    patch patch - - -
    qwen qwen qwen coder-model -
    ");
    let order = settings.runner.auto_order.value.iter();
    let order: Vec<_> = order.map(AgentName::as_str).collect();
    assert_eq!(
        order.join(","),
        "codex,claude,kilo,opencode,ollama,gemini,qwen"
    );

    let tasks: Vec<_> = settings.tasks.keys().map(TaskName::as_str).collect();
    assert_eq!(
        tasks,
        [
            "agent_management",
            "debug_hello_simple",
            "debug_hello_world",
            "debug_smoke_commit",
            "dispatch_issue",
            "document_coverage",
            "document_test_alignment",
        ]
    );
    for name in tasks {
        let expected = Task {
            overlap: Overlap::Skip,
            isolation: Isolation::None,
            containment: None,
            name: name.parse().unwrap(),
            prompt: PromptSource::File(format!("{name}.md")),
            requires_commit: name != "debug_hello_simple",
            allow_no_change: false,
            notify: true,
            agents: Vec::new(),
            timeout: minutes(15),
            stall_timeout: None,
            verify: Vec::new(),
            verify_timeout: minutes(10),
            schedule: None,
            schedules: BTreeMap::new(),
            timezone: None,
            jitter: Duration::ZERO,
            catch_up: CatchUp::Skip,
            expect_success_within: None,
            min_changes: 1,
            paths: Vec::new(),
            retries: 2,
            caps: Caps::default(),
        };
        assert_eq!(task(&settings, name), expected);
        let origin = settings.task(name).unwrap().origin("timeout");
        assert_eq!(origin.to_string(), "default");
    }

    let runner = &settings.runner;
    let here = call.directory.path();
    assert_eq!(runner.repo_root.value, here);
    assert_eq!(runner.log_root.value, here.join("logs"));
    assert_eq!(runner.prompts_dir.value, here.join("prompts"));
    assert!(runner.path_prefix.value.is_empty());
    assert_eq!(runner.grace_period.value, Duration::from_secs(5));
    assert_eq!(runner.limit_patience.value, minutes(1));
    assert_eq!(runner.park_default.value, minutes(30));
    assert_eq!(runner.retry_pause.value, Duration::from_secs(10));
    assert_eq!(runner.log_head_bytes.value, 64 << 20);
    assert_eq!(runner.log_tail_bytes.value, 16 << 20);
    assert_eq!(settings.git.name.value, "agent-runner");
    assert_eq!(settings.git.email.value, "agent-runner@localhost");
    assert_eq!(settings.ntfy.server.value, "https://ntfy.sh");
    assert_eq!(settings.ntfy.topic, None);
    assert_eq!(settings.ntfy.credentials, None);
    assert_eq!(settings.file, None);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let text = "[runner]\ntimeout = \"20m\"\n[agents.opencode]\nmodel = \"file\"\n";
    let told = |call: &Call| {
        let settings = call.settings();
        let model = settings.agent("opencode").unwrap().model.clone().unwrap();
        let coverage = settings.task("document_coverage").unwrap();
        (
            coverage.task.timeout,
            coverage.origin("timeout").to_string(),
            model.value,
            model.origin.to_string(),
        )
    };
    let call = Call::without_file();
    let expected = |time, origin: &str, model: &str, from: &str| {
        (
            minutes(time),
            origin.to_owned(),
            model.to_owned(),
            from.to_owned(),
        )
    };
    assert_eq!(
        told(&call),
        expected(15, "default", "opencode/glm-5-free", "default")
    );
    call.write("config.toml", text);
    assert_eq!(
        told(&call),
        expected(20, "config.toml:2", "file", "config.toml:4")
    );
    let mut call = call
        .with("AGENT_RUNNER_TIMEOUT_SECONDS", "1500")
        .with("OPENCODE_MODEL", "variable");
    assert_eq!(
        told(&call),
        expected(
            25,
            "environment AGENT_RUNNER_TIMEOUT_SECONDS",
            "variable",
            "environment OPENCODE_MODEL"
        )
    );
    call.overrides.timeout = Some(minutes(30));
    call.overrides.model = Some("flag".to_owned());
    assert_eq!(told(&call), expected(30, "--timeout", "flag", "--model"));
}

#[test]
fn a_tasks_own_limit_beats_the_runner_wide_one_but_not_the_flag() {
    let text = "[runner]\nstall_timeout = \"4m\"\n[tasks.document_coverage]\ntimeout = 1200\n\
                stall_timeout = false\nverify_timeout = \"1m\"\n";
    let mut call = Call::new(text).with("AGENT_RUNNER_TIMEOUT_SECONDS", "60s");
    let settings = call.settings();
    let own = task(&settings, "document_coverage");
    assert_eq!(own.timeout, minutes(20));
    assert_eq!(own.stall_timeout, None);
    assert_eq!(own.verify_timeout, minutes(1));
    let origin = |key| settings.task("document_coverage").unwrap().origin(key);
    assert_eq!(*origin("timeout"), file(4));
    assert_eq!(*origin("stall_timeout"), file(5));
    assert_eq!(*origin("notify"), Origin::Default);
    let other = task(&settings, "agent_management");
    assert_eq!(other.timeout, minutes(1));
    assert_eq!(other.stall_timeout, Some(minutes(4)));

    call.overrides.timeout = Some(minutes(2));
    let settings = call.settings();
    assert_eq!(task(&settings, "document_coverage").timeout, minutes(2));
    call.overrides.timeout = Some(Duration::ZERO);
    insta::assert_snapshot!(call.error(), @"--timeout: zero would end a run before it starts");
}

#[test]
fn caps_are_an_agents_and_a_tasks_own_and_retries_have_a_runner_wide_value() {
    let text = "[runner]\nretries = 0\nworst_case_usd = 3\n\
                [agents.claude]\nmax_runs_per_day = 4\nmax_usd_per_day = 2.5\n\
                [tasks.document_coverage]\nretries = 5\nmax_tokens_per_day = 9\n";
    let settings = Call::new(text).settings();
    assert_eq!(settings.runner.worst_case_usd.value.to_string(), "3");
    let claude = settings.agent("claude").unwrap();
    let caps = Caps {
        runs: Some(4),
        tokens: None,
        usd: Some(2.5),
    };
    assert_eq!(claude.caps, caps);
    assert!(settings.agent("codex").unwrap().caps.is_empty());
    let coverage = task(&settings, "document_coverage");
    assert_eq!((coverage.retries, coverage.caps.tokens), (5, Some(9)));
    let other = task(&settings, "agent_management");
    assert_eq!((other.retries, other.caps), (0, Caps::default()));
}

#[test]
fn every_documented_variable_sets_its_key() {
    for known in env::VARIABLES {
        let value = match known.key {
            "runner.timeout" => "77",
            "dispatch.poll_interval" => "77",
            "ntfy.server" | "github.api_url" | "github.server_url" => "http://canary",
            "queue.url" => "sqlite:canary",
            "dispatch.repo" => "canary/canary",
            "dispatch.metrics" => "127.0.0.1:77",
            "dispatch.concurrency" | "dispatch.attempts" | "dispatch.retry_pause" => "77",
            "github.app_id" | "github.app_key_file" | "github.app_installation" => continue,
            _ => "canary",
        };
        let settings = Call::without_file().with(known.name, value).settings();
        let told = format!("{settings:?}");
        assert!(
            told.contains(&format!("Environment({:?})", known.name)),
            "{} has no effect",
            known.name
        );
        let empty = Call::without_file().with(known.name, "").settings();
        assert!(!format!("{empty:?}").contains(known.name), "{}", known.name);
    }
}

#[test]
fn an_app_can_be_named_by_variables() {
    let settings = Call::without_file()
        .with("GITHUB_APP_ID", "7")
        .with("GITHUB_APP_PRIVATE_KEY_PATH", "/key.pem")
        .with("GITHUB_APP_INSTALLATION_ID", "9")
        .settings();
    let app = GithubCredentials::App {
        id: 7,
        key_file: "/key.pem".into(),
        installation: Some(9),
    };
    assert_eq!(settings.github.credentials.unwrap().value, app);
    for (variable, token) in [("GITHUB_APP_ID", "x"), ("GITHUB_APP_PRIVATE_KEY_PATH", "")] {
        let half = Call::without_file().with(variable, "7");
        let error = half.with("GITHUB_TOKEN", token).error();
        assert!(error.contains(variable), "{error}");
        assert!(error.contains("half of a GitHub App"), "{error}");
    }
    let error = Call::without_file().with("GITHUB_APP_ID", "seven").error();
    insta::assert_snapshot!(error, @"environment GITHUB_APP_ID: it must be a whole number from 1");
}

#[test]
fn a_wrong_variable_is_named_with_the_right_form() {
    let error = |name, value| Call::without_file().with(name, value).error();
    insta::assert_snapshot!(
        error("AGENT_RUNNER_TIMEOUT_SECONDS", "abc"),
        @"environment AGENT_RUNNER_TIMEOUT_SECONDS: `abc` is no duration: write `90s`, `15m` or `1h30m`; a bare number is seconds"
    );
    insta::assert_snapshot!(
        error("AGENT_RUNNER_TIMEOUT_SECONDS", "0"),
        @"environment AGENT_RUNNER_TIMEOUT_SECONDS: zero would end a run before it starts"
    );
    insta::assert_snapshot!(
        error("AGENT_RUNNER_NTFY_SERVER", "ntfy.sh"),
        @"environment AGENT_RUNNER_NTFY_SERVER: `ntfy.sh` is no URL: write `https://HOST`"
    );
    assert!(Call::without_file().with("QWEN_MODEL", " ").load().is_ok());
    let bytes = OsString::from_vec(vec![0xff]);
    let environment: Environment = [("OLLAMA_MODEL", bytes)].into_iter().collect();
    let error = load(&environment, Path::new("/"), &Overrides::default()).unwrap_err();
    insta::assert_snapshot!(error, @"environment OLLAMA_MODEL: not UTF-8; it must be text");
}

#[test]
fn paths_are_relative_to_the_layer_that_names_them() {
    let text = "[runner]\nrepo_root = \"../project\"\nlog_root = \"~/var\"\n\
                path_prefix = [\"bin\", \"/opt/bin\"]\n\
                [agents.codex]\nbinary = \"./tools//codex\"\n\
                [agents.mine]\ncommand = [\"tools/mine\", \"-x\"]\n";
    let mut call = Call::without_file().with("HOME", "/home/u");
    call.write("etc/runner.toml", text);
    call.overrides.config = Some("etc/runner.toml".into());
    let settings = call.settings();
    let here = call.directory.path().to_owned();
    let etc = here.join("etc");
    assert_eq!(settings.file, Some(etc.join("runner.toml")));
    let runner = &settings.runner;
    assert_eq!(runner.repo_root.value, etc.join("../project"));
    assert_eq!(runner.log_root.value, Path::new("/home/u/var"));
    assert_eq!(runner.log_root.origin.to_string(), "etc/runner.toml:3");
    assert_eq!(runner.prompts_dir.value, etc.join("prompts"));
    assert_eq!(
        runner.path_prefix.value,
        [etc.join("bin"), "/opt/bin".into()]
    );
    let binary = |settings: &Settings, name| {
        let agent = settings.agent(name).unwrap();
        agent.binary.clone().unwrap().value
    };
    assert_eq!(binary(&settings, "codex"), etc.join("tools/codex"));
    assert_eq!(binary(&settings, "claude"), Path::new("claude"));
    assert_eq!(binary(&settings, "mine"), etc.join("tools/mine"));

    call.overrides.repo = Some("other".into());
    let call = call
        .with("AGENT_RUNNER_REPO_ROOT", "ignored")
        .with("AGENT_RUNNER_LOG_ROOT", "log")
        .with("AGENT_RUNNER_PATH_PREFIX", "a::/b")
        .with("AGENT_RUNNER_CODEX_BIN", "my-codex")
        .with("AGENT_RUNNER_MINE_BIN", "bin/mine");
    let settings = call.settings();
    assert_eq!(settings.runner.repo_root.value, here.join("other"));
    assert_eq!(settings.runner.repo_root.origin, Origin::Flag("--repo"));
    assert_eq!(settings.runner.log_root.value, here.join("log"));
    assert_eq!(
        settings.runner.path_prefix.value,
        [here.join("a"), "/b".into()]
    );
    assert_eq!(binary(&settings, "codex"), Path::new("my-codex"));
    assert_eq!(binary(&settings, "mine"), here.join("bin/mine"));
    let codex = settings.agent("codex").unwrap().binary.clone().unwrap();
    assert_eq!(codex.origin, variable("AGENT_RUNNER_CODEX_BIN"));
}

#[test]
fn the_file_is_the_named_one_else_the_nearest() {
    let mut call = Call::without_file().with("HOME", "home");
    let found = |call: &Call| {
        let file = call.settings().file?;
        Some(file.strip_prefix(call.directory.path()).unwrap().to_owned())
    };
    let expect = |path: &str| Some(Path::new(path).to_owned());
    assert_eq!(found(&call), None);
    call.write("home/.config/agent-runner/config.toml", "");
    assert_eq!(
        found(&call),
        expect("home/.config/agent-runner/config.toml")
    );
    let absolute = call.directory.path().join("xdg");
    let absolute = absolute.to_str().unwrap().to_owned();
    call.write("xdg/agent-runner/config.toml", "");
    call = call.with("XDG_CONFIG_HOME", &absolute);
    assert_eq!(found(&call), expect("xdg/agent-runner/config.toml"));
    call.write("config.toml", "");
    assert_eq!(found(&call), expect("config.toml"));
    call.write("b.toml", "");
    call = call.with("AGENT_RUNNER_CONFIG", "b.toml");
    assert_eq!(found(&call), expect("b.toml"));
    call.overrides.config = Some("missing.toml".into());
    insta::assert_snapshot!(
        call.error(),
        @"cannot read the configuration file `missing.toml`, named by --config"
    );
    call.overrides.config = None;
    fs::remove_file(call.directory.path().join("b.toml")).unwrap();
    insta::assert_snapshot!(
        call.error(),
        @"cannot read the configuration file `b.toml`, named by environment AGENT_RUNNER_CONFIG"
    );
}

#[test]
fn an_agent_can_exist_in_the_configuration_alone() {
    let text = "[agents.mine-2]\ncommand = [\"mine\", \"--yes\"]\nprompt = \"argument\"\n\
                output = \"claude\"\nmodel = \"m\"\nmodel_flag = \"-m\"\nstop_signal = \"SIGINT\"\n\
                env = { A = \"\" }\npass_env = [\"MY_KEY\"]\n\
                [agents.plain]\ncommand = [\"plain\"]\n\
                [agents.ollama]\nmode = \"chat\"\nargs = [\"--x\", \"\"]\n\
                [tasks.mine]\nprompt_text = \"Do it\"\nagents = [\"mine-2\", \"codex\"]\n\
                paths = [\"docs/**\"]\nschedule = \"*/15 6-18 1,15 jan-mar MON-fri\"\n\
                timezone = \"Europe/Berlin\"\nmin_changes = 3\nverify = [\"make test\"]\n\
                [tasks.document_coverage]\nprompt_text = \"Mine\"\n";
    let settings = Call::new(text).settings();
    let mine = settings.agent("mine-2").unwrap();
    let command = CommandSettings {
        arguments: vec!["--yes".to_owned()],
        prompt: PromptDelivery::Argument,
        model_flag: Some("-m".to_owned()),
        stop_signal: StopSignal::Interrupt,
    };
    assert_eq!(mine.command, Some(command));
    assert_eq!(mine.interface, "claude");
    assert_eq!(mine.environment.value["A"].expose(), "");
    assert_eq!(mine.pass_environment.value, ["MY_KEY"]);
    let plain = settings.agent("plain").unwrap();
    assert_eq!(plain.interface, "text");
    assert_eq!(plain.model, None);
    let ollama = settings.agent("ollama").unwrap();
    assert_eq!(ollama.interface, "ollama_chat");
    assert_eq!(ollama.arguments.value, ["--x", ""]);

    let own = task(&settings, "mine");
    assert_eq!(own.prompt, PromptSource::Text("Do it".to_owned()));
    assert!(own.requires_commit && own.notify && !own.allow_no_change);
    assert_eq!(own.agents.len(), 2);
    assert_eq!(own.paths, ["docs/**"]);
    assert_eq!(own.min_changes, 3);
    assert_eq!(own.verify, ["make test"]);
    assert_eq!(own.timezone.as_deref(), Some("Europe/Berlin"));
    assert!(own.schedule.is_some());
    let coverage = task(&settings, "document_coverage");
    assert_eq!(coverage.prompt, PromptSource::Text("Mine".to_owned()));
    assert_eq!(
        *settings.task("document_coverage").unwrap().origin("prompt"),
        file(24)
    );
    insta::assert_snapshot!(
        settings.task("document_coverge").unwrap_err(),
        @"there is no task `document_coverge`; did you mean `document_coverage`?"
    );
    insta::assert_snapshot!(
        settings.agent("kiilo").unwrap_err(),
        @"there is no agent `kiilo`; did you mean `kilo`?"
    );
}

#[test]
fn secrets_show_neither_in_debug_output_nor_in_errors() {
    let text = "[ntfy]\nusername = \"u\"\npassword = \"canary\"\n\
                [agents.claude]\nenv = { KEY = \"canary\" }\n";
    let call = Call::new(text);
    let settings = call.settings();
    assert!(!format!("{settings:?}").contains("canary"));
    assert!(matches!(
        settings.ntfy.credentials.unwrap().value,
        NtfyCredentials::User { name, password } if name == "u" && password.expose() == "canary"
    ));
    let call = call.with("AGENT_RUNNER_NTFY_TOKEN", "canary");
    let settings = call.settings();
    assert!(!format!("{settings:?}").contains("canary"));
    let credentials = settings.ntfy.credentials.unwrap();
    assert_eq!(credentials.origin, variable("AGENT_RUNNER_NTFY_TOKEN"));
    let call = Call::without_file().with("AGENT_RUNNER_NTFY_TOKEN", " canary\r\n");
    let credentials = call.settings().ntfy.credentials.unwrap().value;
    assert!(matches!(credentials, NtfyCredentials::Token(token) if token.expose() == "canary"));
    let call = Call::without_file().with("GITHUB_TOKEN", "op://Private/GitHub Token/credential");
    assert!(call.settings().github.credentials.is_some());
    for (name, file) in [
        ("AGENT_RUNNER_NTFY_TOKEN", "ntfy"),
        ("GITHUB_TOKEN", "github"),
    ] {
        let text = format!("[{file}]\ntoken = \"canary\"");
        let settings = Call::new(&text).with(name, " \n").settings();
        let known = settings.ntfy.credentials.map(|known| known.origin);
        let known = known.or(settings.github.credentials.map(|known| known.origin));
        assert!(matches!(known, Some(Origin::File { .. })), "{name}");
    }
    let environment: Environment = [("X", "canary")].into_iter().collect();
    assert!(!format!("{environment:?}").contains("canary"));
    for text in [
        "[ntfy]\ntoken = 4711",
        "[ntfy]\ntoken = [\"4711\"]",
        "[ntfy]\ntokn = \"4711\"",
        "[ntfy]\ntoken = \"4711",
        "[ntfy]\ntoken = 4711x",
        "[ntfy]\ntoken = \"4711\\n4711\"",
        "[agents.claude]\nenv = { KEY = 4711 }",
    ] {
        let error = Call::new(text).load().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("4711"), "{error}");
    }
}

#[test]
fn the_example_in_the_page_is_valid() {
    let page = include_str!("../../docs/config.md");
    let example = page.split("```").nth(1).unwrap().trim_start_matches("toml");
    Call::new(example).settings();
}

#[test]
fn the_keys_that_are_no_defaults_are_told_with_their_origins() {
    let text =
        "[runner]\ngrace_period = \"5s\"\ntimeout = \"20m\"\n\n[agents.codex]\nenv = { A = \"b\" }";
    let call = Call::new(text)
        .with("AGENT_RUNNER_TIMEOUT_SECONDS", "60")
        .with("AGENT_RUNNER_CODEX_BIN", "/opt/codex");
    let expected = [
        ("agents.codex.binary", variable("AGENT_RUNNER_CODEX_BIN")),
        ("agents.codex.env", file(6)),
        ("runner.timeout", variable("AGENT_RUNNER_TIMEOUT_SECONDS")),
    ];
    let expected = expected.map(|(key, origin)| (key.to_owned(), origin));
    assert_eq!(call.settings().set, expected.into_iter().collect());
    assert!(Call::new(crate::config::SHIPPED).settings().set.is_empty());
}
