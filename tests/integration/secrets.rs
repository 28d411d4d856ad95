//! A secret that the runner knows is in no file that a run leaves, however the agent prints it.

use std::fs;
use std::path::Path;

use agent_runner::model::text::hexadecimal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::TestEnv;

/// As long as the longest tokens: in base64 and in hexadecimal digits it takes several lines.
const SECRET: &str = "s3cr3t-value-of-the-person-\
                      Ab9Zx_Kq2Lm7Tn4Vw8Yp1Rs6Uf3Hd5Gj0Ec-QiOaBtCvDwMyNz7Xk4Jh2Pg9Sl8Wq3";

fn holds(directory: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holds(&path, needle));
        } else if String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(needle) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_that_an_agent_prints_reaches_no_file_notification_or_terminal() {
    let script = "echo key=$MY_API_KEY; printf %s $MY_API_KEY | cut -c1-9; \
                  for i in $(seq 93); do printf %s $MY_API_KEY | cut -c$i | tr -d '\\n'; sleep 0.01; done; echo; \
                  printf %s $MY_API_KEY | base64; printf %s $MY_API_KEY | base64 | tr -d '\\n' | fold -w 64; echo; \
                  printf %s $MY_API_KEY | od -An -v -tx1 | tr -d ' \\n' | fold -w 60; echo; echo \"error: $MY_API_KEY\" >&2; echo Of the build server; \
                  printf '{\"text\":\"Token:\\\\nghp_%036d\"}\\n' 7; echo its password is pa55w0rd-of-the-server; \
                  echo its topic is joes-nightly-runs-4711; echo its key has MIIEfirstLineOfTheKey; \
                  printf %s \"$DEPLOY_KEY\" | base64; \
                  touch \"note-$MY_API_KEY\"; git add .; \
                  git commit -qm \"leak $MY_API_KEY\" --author=\"$MY_API_KEY <a@b>\"; echo done $MY_API_KEY";
    let env = TestEnv::new();
    let key = env.root().join("app.pem");
    let lines = "Of the build server\n-----BEGIN PRIVATE KEY-----\nMIIEfirstLineOfTheKey\n-----END PRIVATE KEY-----\nand more\n";
    fs::write(&key, lines).unwrap();
    let env = env
        .script("fake", "text", script)
        .variable("GITHUB_APP_ID", "7")
        .variable("GITHUB_APP_PRIVATE_KEY_PATH", key.to_str().unwrap())
        .config("pass_env = [\"MY_API_KEY\", \"DEPLOY_KEY\"]")
        .config(&format!("[tasks.work]\nprompt_text = \"use {SECRET}\"\nverify = [\"echo $MY_API_KEY {SECRET}; exit 1\"]"))
        .variable("MY_API_KEY", SECRET)
        .variable("DEPLOY_KEY", lines.replace("Of the build server", "beside-the-key"))
        .variable("AGENT_RUNNER_NTFY_TOPIC", "joes-nightly-runs-4711")
        .variable("AGENT_RUNNER_NTFY_SERVER", "http://joe:pa55w0rd%2Dof-the-server@127.0.0.1:1")
        .variable("AGENT_RUNNER_NTFY_TOKEN", "tk_of-our-own-server-0123");
    let done = env.agent_runner(&["run", "--agent", "fake", "--task", "work", "--follow"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert_eq!(env.record("work", "fake")["outcome"], "verify_failed");
    assert!(done.stderr.contains("key=[redacted]"), "{}", done.stderr);
    let base64 = STANDARD.encode(SECRET);
    let digits = hexadecimal(SECRET.as_bytes());
    let beside = STANDARD.encode("beside-the-k");
    let pieces = [(&base64, 12), (&digits, 16), (&beside, 12)];
    let pieces = pieces.map(|(form, length)| form.as_bytes().chunks_exact(length));
    let pieces = pieces
        .into_iter()
        .flatten()
        .map(|piece| str::from_utf8(piece).unwrap());
    for needle in pieces.chain([
        SECRET,
        "tk_of-our-own",
        "pa55w0rd",
        "joes-runs",
        "MIIEfirst",
        "ghp_0000",
    ]) {
        assert_eq!(holds(&env.logs(), needle), [""; 0], "{needle}");
        assert!(
            !done.stdout.contains(needle) && !done.stderr.contains(needle),
            "{needle}"
        );
    }
    assert_ne!(holds(&env.logs(), "Of the build server"), [""; 0]);
    let prompt = env.run_directory("work", "fake").join("prompt.md");
    assert_eq!(fs::read_to_string(prompt).unwrap(), "use [redacted]");
}

#[test]
fn a_secret_that_is_too_short_to_be_masked_is_told_by_name_at_the_start_and_by_doctor() {
    let env = TestEnv::new()
        .script("fake", "text", "echo done")
        .config("pass_env = [\"MY_API_KEY\", \"NO_KEY\"]\nenv = { OWN_TOKEN = \"xyz1\", LOCAL_KEY = \"none\" }")
        .variable("MY_API_KEY", "abc1234")
        .variable("OTHER_KEY", "abc1234")
        .variable("AGENT_RUNNER_NTFY_TOKEN", "abc");
    for command in [
        &["run", "--agent", "fake", "--task", "debug_hello_simple"][..],
        &["doctor"],
    ] {
        let done = env.agent_runner(command);
        let told = done.stderr + &done.stdout;
        for name in ["MY_API_KEY", "ntfy.token", "OWN_TOKEN"] {
            let words = format!("the value of `{name}` is too short to be masked");
            assert!(told.contains(&words), "{name}: {told}");
        }
        assert_eq!(told.matches("too short").count(), 3, "{told}");
        assert!(!told.contains("abc1234") && !told.contains("xyz"), "{told}");
    }
}
