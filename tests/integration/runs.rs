//! One run from the command line to the record: what is believed, what is kept, what is passed on.

use std::fs;

use insta::{assert_snapshot, with_settings};
use serde_json::{Value, json};

use crate::support::{TestEnv, claude, evidence, filters};

#[test]
fn a_run_leaves_every_file_of_the_contract() {
    let env = TestEnv::new()
        .script("fake", "text", "echo hello; echo oops >&2")
        .task("work", "");
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let directory = env.run_directory("work", "fake");
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "events.jsonl",
            "metadata.json",
            "prompt.md",
            "runner.log",
            "stdout.log",
            "summary.txt",
            "transcript.log"
        ]
    );
    assert_eq!(
        fs::read_to_string(directory.join("prompt.md")).unwrap(),
        "do the work"
    );
    assert_eq!(
        fs::read_to_string(directory.join("stdout.log")).unwrap(),
        "hello\n"
    );
    let transcript = fs::read_to_string(directory.join("transcript.log")).unwrap();
    assert!(transcript.contains("hello\n") && transcript.contains("oops\n"));
    let summary = fs::read_to_string(directory.join("summary.txt")).unwrap();
    assert_eq!(summary, done.stdout);
    for log in ["task.log", "fake/agent.log"] {
        let log = fs::read_to_string(env.logs().join("work").join(log)).unwrap();
        assert!(log.contains(summary.trim()), "{log}");
    }
    let runner_log = fs::read_to_string(directory.join("runner.log")).unwrap();
    assert!(
        runner_log
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok())
    );
    assert!(runner_log.contains("run begins") && runner_log.contains("run ended"));
    with_settings!({ filters => filters() }, {
        assert_snapshot!(summary);
        assert_snapshot!(evidence(&env.record("work", "fake")));
    });
    let keys: Vec<_> = env
        .record("work", "fake")
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_snapshot!(keys.join(" "));
}

#[test]
fn a_prompt_of_200_kib_with_a_leading_dash_arrives_byte_exact() {
    let prompt = format!("--help\n{}\nend $(id) 'x' \"y\"", "x".repeat(200 * 1024));
    let env = TestEnv::new().script("fake", "text", "cat > got; echo done");
    fs::create_dir(env.root().join("prompts")).unwrap();
    fs::write(env.root().join("prompts/big.md"), &prompt).unwrap();
    let env = env.config("[tasks.work]\nprompt = \"big.md\"\nrequires_commit = false");
    assert_eq!(env.run("fake", "work").code, Some(0));
    assert_eq!(
        fs::read_to_string(env.repository().join("got")).unwrap(),
        prompt
    );
    let directory = env.run_directory("work", "fake");
    assert_eq!(
        fs::read_to_string(directory.join("prompt.md")).unwrap(),
        prompt
    );
}

#[test]
fn exit_0_with_an_error_inside_is_an_error() {
    let lines = [claude::init(), claude::result("API Error: 500", true)];
    let env = TestEnv::new()
        .script("fake", "claude", &claude::stream(&lines, 0))
        .task("work", "");
    assert_eq!(env.run("fake", "work").code, Some(1));
    assert_eq!(env.record("work", "fake")["outcome"], "agent_error");
}

#[test]
fn a_success_whose_text_says_rate_limit_is_a_success() {
    let text = "I handled 429 Too Many Requests: rate limit exceeded, usage limit, quota";
    let lines = [claude::init(), claude::result(text, false)];
    let env = TestEnv::new()
        .script("fake", "claude", &claude::stream(&lines, 0))
        .task("work", "");
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "success");
    assert_eq!(record["model"], "claude-sonnet-4-5");
    assert_eq!(record["agent_version"], "2.1.197");
    assert_eq!(record["session_id"], "s-1");
    assert_eq!(record["token_count"], 180);
    assert_eq!(record["usage"]["cached_input_tokens"], 50);
    assert_eq!(record["usage"]["reasoning_tokens"], Value::Null);
    assert_eq!(record["cost_usd"], 0.25);
}

#[test]
fn output_that_ends_without_its_closing_event_is_no_success() {
    let env = TestEnv::new()
        .script("fake", "claude", &claude::stream(&[claude::init()], 0))
        .task("work", "");
    assert_eq!(env.run("fake", "work").code, Some(1));
    assert_eq!(env.record("work", "fake")["error_class"], "unknown");
}

#[test]
fn a_usage_limit_exits_10_with_its_reset_time() {
    let resets = (chrono::Utc::now() + chrono::TimeDelta::hours(3)).timestamp();
    let script = claude::stream(&claude::limited(resets), 1);
    let env = TestEnv::new()
        .script("fake", "claude", &script)
        .task("work", "");
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(10), "{}", done.stdout);
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "rate_limited");
    assert_eq!(record["classified_error"], "usage_limit");
    let told = record["resets_at"].as_str().unwrap();
    let told: chrono::DateTime<chrono::Utc> = told.parse().unwrap();
    assert_eq!(told.timestamp(), resets);
}

#[test]
fn an_agent_that_waits_beyond_the_deadline_for_a_limit_is_ended_as_rate_limited() {
    let retry = json!({"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10,
                       "retry_delay_ms": 3_600_000, "error_status": 429, "error": "rate_limit"});
    let script = format!("echo '{}'; echo '{retry}'; sleep 600", claude::init());
    let env = TestEnv::new()
        .config("[runner]\nlimit_patience = \"1s\"\ngrace_period = \"1s\"")
        .script("fake", "claude", &script)
        .task("work", "timeout = \"5m\"");
    let done = env.run("fake", "work");
    assert_eq!(done.code, Some(10), "{}", done.stdout);
}

#[test]
fn a_list_goes_on_to_the_next_agent_and_names_who_was_passed_over() {
    let resets = (chrono::Utc::now() + chrono::TimeDelta::hours(3)).timestamp();
    let env = TestEnv::new()
        .config("[agents.absent]\ncommand = [\"no-such-program\"]")
        .script(
            "limited",
            "claude",
            &claude::stream(&claude::limited(resets), 1),
        )
        .script("able", "text", "echo hello")
        .task("work", "");
    let done = env.run("absent,limited,able", "work");
    assert_eq!(done.code, Some(0), "{}", done.stdout);
    assert!(env.run_directories("work", "absent").is_empty());
    assert_eq!(env.record("work", "limited")["outcome"], "rate_limited");
    let record = env.record("work", "able");
    assert!(
        record["previous_run"]
            .as_str()
            .unwrap()
            .starts_with("work/limited/")
    );
    assert!(evidence(&record).contains("runner: `absent` was passed over"));

    let none = TestEnv::new()
        .config("[agents.a]\ncommand = [\"no-such-a\"]\n[agents.b]\ncommand = [\"no-such-b\"]")
        .task("work", "");
    assert_eq!(none.run("a,b", "work").code, Some(1));
    assert_eq!(none.record("work", "a")["outcome"], "start_failed");
    assert!(none.run_directories("work", "b").is_empty());
}

#[test]
fn a_dry_run_starts_writes_and_tells_nothing() {
    let env = TestEnv::new()
        .script("fake", "text", "touch started")
        .task("work", "")
        .variable("SOME_API_KEY", "very-secret");
    let done = env.agent_runner(&["run", "--agent", "fake", "--task", "work", "--dry-run"]);
    assert_eq!(done.code, Some(0));
    assert!(!env.logs().exists() && !env.repository().join("started").exists());
    assert!(!done.stdout.contains("very-secret") && !done.stdout.contains("SOME_API_KEY"));
    let environment = done
        .stdout
        .lines()
        .find(|line| line.starts_with("environment"))
        .unwrap();
    assert!(
        environment.contains("GIT_REFLOG_ACTION") && environment.contains("AGENT_RUNNER_RUN_ID")
    );
    // Which one depends on the machine.
    assert!(done.stdout.contains("\ncontainment "));
    let rest: Vec<_> = done
        .stdout
        .lines()
        .filter(|line| !line.starts_with("environment") && !line.starts_with("containment"))
        .collect();
    assert_snapshot!(
        rest.join("\n")
            .replace(&env.root().display().to_string(), "[ROOT]")
    );
}

#[test]
fn a_dry_run_tells_that_the_repository_would_start_no_run() {
    let dry = |env: &TestEnv, task: &str, more: &[&str]| {
        let call = ["run", "--agent", "fake", "--task", task, "--dry-run"];
        let done = env.agent_runner(&[&call[..], more].concat());
        let why = |line: &str| line.strip_prefix("would not start").map(str::to_owned);
        (
            done.code,
            done.stdout.lines().find_map(why).unwrap_or_default(),
        )
    };
    let env = TestEnv::new()
        .script("fake", "text", "echo done")
        .task("work", "requires_commit = true")
        .task("talk", "requires_commit = false");
    let apart = ["--isolation", "worktree"];
    env.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    assert_eq!(dry(&env, "work", &apart), (Some(0), String::new()));
    env.git(&["checkout", "-q", "--detach"]);
    assert_eq!(dry(&env, "work", &[]), (Some(0), String::new()));
    let (code, why) = dry(&env, "work", &apart);
    assert!(code == Some(1) && why.contains("HEAD is detached"), "{why}");
    fs::remove_dir_all(env.repository().join(".git")).unwrap();
    assert_eq!(dry(&env, "talk", &[]), (Some(0), String::new()));
    for (task, more) in [("work", &[][..]), ("talk", &apart)] {
        let (code, why) = dry(&env, task, more);
        assert!(
            code == Some(1) && why.contains("not a git repository"),
            "{why}"
        );
    }
    assert!(!env.logs().exists());
}

#[test]
fn the_tasks_checks_must_pass_after_the_agent() {
    let script = "echo work >> file; git add file; git commit -qm work; echo done";
    let keys = "requires_commit = true\nverify = [\"test -s file\", \"echo checked; exit 3\", \"touch never\"]";
    let env = TestEnv::new()
        .script("fake", "text", script)
        .task("work", keys);
    assert_eq!(env.run("fake", "work").code, Some(1));
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "verify_failed");
    assert!(!env.repository().join("never").exists());
    let facts = evidence(&record);
    assert!(facts.contains("verify: `test -s file` passed"), "{facts}");
    assert!(facts.contains(
        "verify: `echo checked; exit 3` failed: exit status 3; its output ends: checked"
    ));
    assert_eq!(record["commits"].as_array().unwrap().len(), 1);
}

#[test]
fn secrets_do_not_reach_an_agent_unless_the_configuration_names_them() {
    let env = TestEnv::new()
        .script("fake", "text", "env; echo PWD is $PWD")
        .config("pass_env = [\"NAMED_TOKEN\"]\nenv = { SET_KEY = \"set\" }")
        .task("work", "")
        .variable("GITHUB_TOKEN", "leak-1")
        .variable("AGENT_RUNNER_NTFY_TOKEN", "leak-2")
        .variable("OPENAI_API_KEY", "leak-3")
        .variable("QUEUE", "postgres://u:leak-4@h/d")
        .variable("NAMED_TOKEN", "wanted");
    assert_eq!(env.run("fake", "work").code, Some(0));
    let transcript = env.run_directory("work", "fake").join("transcript.log");
    let transcript = fs::read_to_string(transcript).unwrap();
    assert!(!transcript.contains("leak-"), "{transcript}");
    assert!(transcript.contains("NAMED_TOKEN=wanted") && transcript.contains("SET_KEY=set"));
    assert!(transcript.contains(&format!("PWD is {}", env.repository().display())));
}

#[test]
fn runs_that_start_in_the_same_second_get_directories_of_their_own() {
    let env = TestEnv::new()
        .script("fake", "text", "sleep 0.2; echo hello")
        .task("work", "");
    let children: Vec<_> = (0..8)
        .map(|_| env.spawn(&["run", "--agent", "fake", "--task", "work"]))
        .collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    assert_eq!(env.run_directories("work", "fake").len(), 8);
}

#[test]
fn a_record_says_running_before_the_agent_is_started_and_is_shown_as_crashed_when_its_runner_died()
{
    let env = TestEnv::new().script(
        "fake",
        "text",
        "cat $LOGS/*/fake/*/metadata.json; kill -9 $PPID; sleep 5",
    );
    let logs = env.logs().display().to_string();
    let env = env
        .config(&format!("env = {{ LOGS = \"{logs}\" }}"))
        .task("work", "");
    let done = env.run("fake", "work");
    assert_eq!(done.code, None, "killed");
    let record = env.record("work", "fake");
    assert_eq!(record["outcome"], "running");
    let shown = env.agent_runner(&["show", "latest", "--json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["outcome"], "crashed");
    assert_eq!(
        env.record("work", "fake")["outcome"],
        "running",
        "looking writes nothing"
    );
}

#[test]
fn the_demo_shows_the_whole_job_without_agent_key_or_network() {
    let env = TestEnv::new();
    let place = env.root().join("demo");
    let done = env.agent_runner(&["demo", place.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let mut filters = filters();
    filters.push((r"\d+(\.\d)? (B|KiB)\b", "[SIZE]"));
    filters.push((
        r#""revision": "[0-9a-f]{64}""#,
        r#""revision": "[REVISION]""#,
    ));
    with_settings!({ filters => filters }, { assert_snapshot!(done.shown(&env)); });
}

#[test]
fn init_writes_a_configuration_that_works_and_never_overwrites() {
    let env = TestEnv::new();
    let place = env.root().join("new");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("crontab.example"), "mine\n").unwrap();
    let done = env.agent_runner(&["init", place.to_str().unwrap()]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(
        fs::read_to_string(place.join("crontab.example")).unwrap(),
        "mine\n"
    );
    let config = place.join("config.toml");
    let config = config.to_str().unwrap();
    let run = [
        "--config",
        config,
        "run",
        "--agent",
        "patch",
        "--task",
        "debug_hello_world",
    ];
    let done = env.agent_runner(&run);
    assert_eq!(done.code, Some(0), "{} {}", done.stdout, done.stderr);
    assert!(place.join("prompts/debug_hello_world.md").exists());
}

#[test]
fn where_no_directory_can_be_made_init_demo_and_units_say_so() {
    let env = TestEnv::new();
    for verb in [&["init"][..], &["demo"], &["schedule", "systemd"]] {
        for place in ["/dev/null", "/proc/no/such"] {
            let done = env.agent_runner(&[verb, &[place]].concat());
            assert_eq!(done.code, Some(1), "{verb:?} {place}");
            let expected = format!("cannot make the directory `{place}");
            assert!(done.stderr.contains(&expected), "{}", done.stderr);
            assert!(!done.stderr.contains("kept"), "{}", done.stderr);
        }
    }
}

#[test]
fn a_heartbeat_is_one_utc_line() {
    let env = TestEnv::new();
    for _ in 0..2 {
        let done = env.agent_runner(&["heartbeat"]);
        assert_eq!(
            (done.code, done.stdout.as_str(), done.stderr.as_str()),
            (Some(0), "", "")
        );
    }
    let log = fs::read_to_string(env.logs().join("heartbeat/task.log")).unwrap();
    with_settings!({ filters => filters() }, { assert_snapshot!(log); });
}

#[test]
fn a_day_whose_midnight_comes_twice_begins_at_the_first_one() {
    let env = TestEnv::new().variable("TZ", "America/Havana");
    // Half an hour after the first one, and half an hour before the second one.
    let run = env.logs().join("work/fake/20261101_043000");
    fs::create_dir_all(&run).unwrap();
    fs::write(run.join("metadata.json"), r#"{"outcome":"success"}"#).unwrap();
    let of_day = ["runs", "--json", "--since", "2026-11-01"];
    let listed = env.agent_runner(&of_day).stdout;
    assert!(listed.contains("20261101_043000"), "{listed}");
}
