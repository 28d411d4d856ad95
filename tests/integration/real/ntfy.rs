//! What people are told of runs by a real ntfy server, and what happens when it does not take it.

use std::time::{Duration, Instant};

use insta::{assert_snapshot, with_settings};
use serde_json::{Value, json};

use crate::real::ntfy_server::{NtfyServer, PASSWORD, USER};
use crate::support::network::{Authority, Front};
use crate::support::{Done, TestEnv, eventually, filters};

const COMMITS: &str = "echo hello > a; git add a; git commit -qm 'Add a — ✓'; echo 'all done ✓'";
const FAILS: &str = "echo 'cannot go on' >&2; exit 3";

/// A place whose topic is `runs` on that server, with an agent that commits and one that fails.
fn environment(server: &NtfyServer, credentials: &str) -> TestEnv {
    TestEnv::new()
        .config(&format!(
            "[ntfy]\nserver = \"{}\"\ntopic = \"runs\"\n{credentials}",
            server.url()
        ))
        .script("good", "text", COMMITS)
        .script("bad", "text", FAILS)
        .task("work", "")
}

/// A script that ends as claude does.
fn claude_says(text: &str) -> String {
    let result = json!({"type": "result", "subtype": "success", "is_error": false, "num_turns": 1,
                        "result": text});
    format!("cat <<'EOF'\n{result}\nEOF")
}

fn with_token(server: &NtfyServer) -> TestEnv {
    environment(server, &format!("token = \"{}\"", server.token()))
}

/// What became of the notification, in the record of an agent's only run.
fn state(env: &TestEnv, agent: &str) -> String {
    let record = env.record("work", agent);
    record["notification"]["state"].as_str().unwrap().to_owned()
}

/// A message as people see it.
fn shown(message: &Value) -> String {
    format!(
        "{}\npriority {}, tags {}\n\n{}\n",
        message["title"].as_str().unwrap(),
        message.get("priority").unwrap_or(&json!("default")),
        message["tags"],
        message["message"].as_str().unwrap()
    )
}

#[test]
fn real_ntfy_has_title_priority_tags_and_body_of_a_success_a_failure_and_no_change() {
    let Some(server) = NtfyServer::start() else {
        return;
    };
    let env = with_token(&server)
        .script("idle", "claude", &claude_says("Nothing to do."))
        .task("careful", "requires_commit = true\nallow_no_change = true");
    assert_eq!(env.run("good", "work").code, Some(0));
    assert_eq!(env.run("bad", "work").code, Some(1));
    assert_eq!(env.run("idle", "careful").code, Some(0));
    assert_eq!(env.record("careful", "idle")["outcome"], "no_change");

    let messages = server.messages("runs");
    let told: Vec<_> = messages.iter().map(shown).collect();
    let root = env.root().display().to_string();
    let mut filters = filters();
    filters.push((r"lapsed: \d+m\d\ds", "lapsed: [TIME]"));
    with_settings!({ filters => filters }, {
        assert_snapshot!(told.join("======\n").replace(&root, "[ROOT]"));
    });
    assert_eq!(server.messages_by_command("runs"), messages);

    let record = env.record("work", "good");
    let notification = &record["notification"];
    assert_eq!(notification["state"], "delivered");
    assert_eq!(notification["attempts"], 1);
    assert!(notification["delivered_at"].is_string());
}

#[test]
fn real_ntfy_takes_a_password_and_lets_nobody_in_without() {
    let Some(server) = NtfyServer::start() else {
        return;
    };
    let password = format!("username = \"{USER}\"\npassword = \"{PASSWORD}\"");
    let env = environment(&server, &password);
    assert_eq!(env.run("good", "work").code, Some(0));
    assert_eq!(state(&env, "good"), "delivered");
    assert_eq!(server.messages("runs").len(), 1);

    for credentials in ["", "token = \"tk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""] {
        let env = environment(&server, credentials);
        let done = env.run("good", "work");
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert!(done.stderr.contains("not notified"), "{}", done.stderr);
        assert_eq!(env.run("bad", "work").code, Some(1));
        assert_eq!(state(&env, "good"), "refused");
        assert_eq!(state(&env, "bad"), "refused");
        // It is put aside: nothing waits, and nothing is tried again.
        let beat = env.agent_runner(&["heartbeat"]);
        assert_eq!((beat.code, beat.stderr.as_str()), (Some(0), ""));
        assert_eq!(env.record("work", "good")["notification"]["attempts"], 1);
    }
    assert_eq!(server.messages("runs").len(), 1);
}

#[test]
fn real_ntfy_behind_an_authority_of_ones_own_gets_what_waited_until_that_was_named() {
    let Some(server) = NtfyServer::start() else {
        return;
    };
    let authority = Authority::new();
    let front = Front::new(&authority, "ntfy.corp.test", server.url());
    let env = with_token(&server).variable(
        "AGENT_RUNNER_NTFY_SERVER",
        format!("https://{}", front.address()),
    );
    let untrusted = "the notification server's certificate is not trusted: SSL_CERT_FILE names";
    let done = env.run("good", "work");
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let beat = env.agent_runner(&["heartbeat"]);
    let test = env.agent_runner(&["notify", "--test"]);
    assert_eq!(test.code, Some(1));
    for told in [&done, &beat, &test] {
        assert!(told.stderr.contains(untrusted), "{}", told.stderr);
        assert!(!told.stderr.contains(server.token()), "{}", told.stderr);
    }
    let waiting = "1 notification waiting in the outbox";
    assert!(beat.stderr.contains(waiting), "{}", beat.stderr);
    assert_eq!(
        (state(&env, "good").as_str(), env.outbox().len()),
        ("pending", 1)
    );
    let doctor = env.agent_runner(&["doctor"]);
    assert!(
        doctor.stdout.contains("certificate is not trusted"),
        "{}",
        doctor.stdout
    );
    assert_eq!(server.messages("runs"), Vec::<Value>::new());

    let env = env.variable("SSL_CERT_FILE", authority.file());
    let beat = env.agent_runner(&["heartbeat"]);
    assert_eq!((beat.code, beat.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        (state(&env, "good").as_str(), env.outbox().len()),
        ("delivered", 0)
    );
    assert_eq!(server.messages("runs").len(), 1);
}

#[test]
fn real_ntfy_gets_in_order_what_waited_while_it_was_down() {
    let Some(mut server) = NtfyServer::start() else {
        return;
    };
    let env = with_token(&server);
    server.stop();
    let began = Instant::now();
    assert_eq!(env.run("bad", "work").code, Some(1));
    let done = env.run("good", "work");
    assert_eq!(done.code, Some(0));
    assert!(
        done.stderr.contains("2 notifications waiting"),
        "{}",
        done.stderr
    );
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(
        [state(&env, "bad"), state(&env, "good")],
        ["pending", "pending"]
    );

    server.start_again();
    let beat = env.agent_runner(&["heartbeat"]);
    assert_eq!((beat.code, beat.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        [state(&env, "bad"), state(&env, "good")],
        ["delivered", "delivered"]
    );
    let messages = server.messages("runs");
    let titles: Vec<_> = messages
        .iter()
        .map(|m| m["title"].as_str().unwrap())
        .collect();
    assert_eq!(titles.len(), 2, "{titles:?}");
    assert_eq!(titles[0], "[work] bad — FAILED");
    assert!(
        titles[1].starts_with("[work] good — SUCCESS — "),
        "{titles:?}"
    );
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert_eq!(server.messages("runs").len(), 2, "told once");
}

#[test]
fn real_ntfy_that_does_not_answer_delays_the_end_by_ten_seconds_at_most() {
    let Some(mut server) = NtfyServer::start() else {
        return;
    };
    let env = with_token(&server);
    server.freeze();
    let began = Instant::now();
    assert_eq!(env.run("good", "work").code, Some(0));
    let elapsed = began.elapsed().as_secs_f64();
    assert_eq!(state(&env, "good"), "pending");
    let record = env.record("work", "good");
    let delay = elapsed - record["elapsed_seconds"].as_f64().unwrap();
    assert!((9.0..12.0).contains(&delay), "{delay} s");
    server.stop();
    server.start_again();
    assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
    assert_eq!(server.messages("runs").len(), 1);
}

#[test]
fn real_ntfy_gets_a_huge_last_message_as_a_message_and_not_as_a_file() {
    let Some(server) = NtfyServer::start() else {
        return;
    };
    let huge = format!("{}the end", "é✓🎉 and so on\n".repeat(3000));
    let env = with_token(&server).script("long", "claude", &claude_says(&huge));
    assert_eq!(env.run("long", "work").code, Some(0));
    assert_eq!(state(&env, "long"), "delivered");
    let messages = server.messages("runs");
    let [message] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert!(message.get("attachment").is_none(), "{message}");
    let body = message["message"].as_str().unwrap();
    assert!(body.len() <= 4096 && body.len() > 3900, "{}", body.len());
    let run = env.record("work", "long")["run_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let end = format!("the end\n\nrun: work/long/{run}");
    assert!(body.ends_with(&end), "{body}");
}

#[test]
fn real_ntfy_gets_messages_of_ones_own() {
    let Some(server) = NtfyServer::start() else {
        return;
    };
    let env = with_token(&server);
    let notify =
        |arguments: &[&str]| -> Done { env.agent_runner(&[&["notify"], arguments].concat()) };
    let done = notify(&["--test"]);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let own = [
        "--title",
        "Grüße — ✓",
        "--body",
        "two\nlines",
        "--priority",
        "high",
        "--tags",
        "a,b",
    ];
    assert_eq!(notify(&own).code, Some(0));
    let messages = server.messages("runs");
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["title"], "[notify-test]");
    assert_eq!(messages[1]["title"], "Grüße — ✓");
    assert_eq!(messages[1]["message"], "two\nlines");
    assert_eq!(messages[1]["priority"], 4);
    assert_eq!(messages[1]["tags"], json!(["a", "b"]));

    let refused = environment(&server, "").agent_runner(&["notify", "--test"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("403"), "{}", refused.stderr);
    assert_eq!(server.messages("runs").len(), 2);
}

/// Beats until nothing waits.
#[track_caller]
fn beat_until_all_is_told(env: &TestEnv) {
    let told = eventually(Duration::from_secs(60), || {
        assert_eq!(env.agent_runner(&["heartbeat"]).code, Some(0));
        env.outbox().is_empty()
    });
    assert!(told, "{:?}", env.outbox());
}

#[test]
fn real_ntfy_is_told_of_300_runs_that_ended_while_it_was_down_in_one_digest() {
    let Some(mut server) = NtfyServer::start() else {
        return;
    };
    let env = with_token(&server)
        .script("quick", "text", "echo hello")
        .script("broken", "text", "exit 3");
    server.stop();
    std::thread::scope(|scope| {
        for (number, agent) in ["quick", "broken", "quick"].iter().enumerate() {
            let place = env.root().join(format!("place-{number}"));
            std::fs::create_dir(&place).unwrap();
            let env = &env;
            scope.spawn(move || {
                let place = place.to_str().unwrap();
                for _ in 0..100 {
                    let run = ["run", "--agent", agent, "--task", "work", "--repo", place];
                    let done = env.agent_runner(&run);
                    assert_eq!(
                        done.code,
                        Some(i32::from(*agent == "broken")),
                        "{}",
                        done.stderr
                    );
                }
            });
        }
    });
    server.start_again();
    beat_until_all_is_told(&env);
    let messages = server.messages("runs");
    let [message] = &messages[..] else {
        panic!("{messages:#?}");
    };
    assert_eq!(
        message["title"],
        "[agent-runner] 300 notifications — 100 FAILED"
    );
    let body = message["message"].as_str().unwrap();
    assert!(body.contains("work/broken: 100 agent_error"), "{body}");
    assert!(body.contains("work/quick: 200 success"), "{body}");
    let records = [env.records("work", "quick"), env.records("work", "broken")].concat();
    assert_eq!(records.len(), 300);
    for record in records {
        let told = &record["notification"];
        assert_eq!(told["state"], "delivered");
        let id = told["id"].as_str().unwrap();
        assert!(
            body.ends_with(&format!("\ndigest: {id}")),
            "{id} is not of {body}"
        );
    }
}

#[test]
fn real_ntfy_that_comes_and_goes_while_runs_go_on_is_told_of_each_in_order() {
    let Some(mut server) = NtfyServer::start() else {
        return;
    };
    let env = with_token(&server).script("slow", "text", "sleep 0.3; echo hello");
    for number in 0..12 {
        let mut run = env.spawn(&["run", "--agent", "slow", "--task", "work"]);
        std::thread::sleep(Duration::from_millis(100));
        match number % 4 {
            1 => server.stop(),
            3 => server.start_again(),
            _ => {}
        }
        assert_eq!(run.wait().unwrap().code(), Some(0));
    }
    beat_until_all_is_told(&env);
    let run_of = |message: &Value| {
        let body = message["message"].as_str().unwrap();
        body.rsplit_once("run: work/slow/").unwrap().1.to_owned()
    };
    let told: Vec<String> = server.messages("runs").iter().map(run_of).collect();
    let runs: Vec<String> = env
        .records("work", "slow")
        .iter()
        .map(|record| record["run_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(told, runs);
}

#[test]
fn real_ntfy_is_asked_by_doctor_and_told_only_when_that_is_wanted() {
    let Some(mut server) = NtfyServer::start() else {
        return;
    };
    let found = |env: &TestEnv, arguments: &[&str]| {
        let done = env.agent_runner(&[&["doctor", "--json"], arguments].concat());
        let report: Value = serde_json::from_str(&done.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap().clone();
        let found = findings
            .into_iter()
            .find(|finding| finding["subject"] == "ntfy");
        let found = found.unwrap();
        let text = |key: &str| found[key].as_str().unwrap().to_owned();
        (text("level"), text("what"))
    };
    let env = with_token(&server).script("fake", "text", "echo pong");
    let (level, what) = found(&env, &[]);
    assert_eq!(level, "ok", "{what}");
    assert!(
        what.ends_with("answers and lets publish to the topic"),
        "{what}"
    );
    assert!(server.messages("runs").is_empty());
    let (level, what) = found(&env, &["--probe", "fake"]);
    assert_eq!(level, "ok", "{what}");
    assert_eq!(
        server.messages("runs").len(),
        1,
        "the run on trial is not told"
    );
    let stranger = environment(&server, "token = \"tk_aaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"");
    let (level, what) = found(&stranger, &[]);
    assert_eq!(level, "error");
    assert!(what.contains("does not accept the credentials"), "{what}");
    let reader = with_token(&server).variable("AGENT_RUNNER_NTFY_TOPIC", "theirs");
    let (level, what) = found(&reader, &[]);
    assert_eq!(level, "error");
    assert!(
        what.contains("must be allowed to write to the topic"),
        "{what}"
    );
    let nobody = environment(&server, "");
    let (level, what) = found(&nobody, &["--probe", "bad"]);
    assert_eq!(level, "error", "{what}");
    server.stop();
    let (level, what) = found(&env, &[]);
    assert_eq!(level, "error", "{what}");
}
