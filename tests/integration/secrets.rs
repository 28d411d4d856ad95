//! A secret that the runner knows is in no file that a run leaves, however the agent prints it.

use std::fs;
use std::path::Path;

use crate::support::TestEnv;

const SECRET: &str = "s3cr3t-value-of-the-person";

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
                  for i in $(seq 26); do printf %s $MY_API_KEY | cut -c$i | tr -d '\\n'; sleep 0.01; done; echo; \
                  printf %s $MY_API_KEY | base64; echo \"error: $MY_API_KEY\" >&2; \
                  printf '{\"text\":\"Token:\\\\nghp_%036d\"}\\n' 7; echo its password is pa55w0rd-of-the-server; \
                  touch \"note-$MY_API_KEY\"; git add .; \
                  git commit -qm \"leak $MY_API_KEY\" --author=\"$MY_API_KEY <a@b>\"; echo done $MY_API_KEY";
    let env = TestEnv::new()
        .script("fake", "text", script)
        .config("pass_env = [\"MY_API_KEY\"]")
        .config("[tasks.work]\nprompt_text = \"use s3cr3t-value-of-the-person\"\nverify = [\"echo $MY_API_KEY s3cr3t-value-of-the-person; exit 1\"]")
        .variable("MY_API_KEY", SECRET)
        .variable("AGENT_RUNNER_NTFY_TOPIC", "runs")
        .variable("AGENT_RUNNER_NTFY_SERVER", "http://joe:pa55w0rd%2Dof-the-server@127.0.0.1:1")
        .variable("AGENT_RUNNER_NTFY_TOKEN", "tk_of-our-own-server-0123");
    let done = env.agent_runner(&["run", "--agent", "fake", "--task", "work", "--follow"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert_eq!(env.record("work", "fake")["outcome"], "verify_failed");
    assert!(done.stderr.contains("key=[redacted]"), "{}", done.stderr);
    for needle in [
        SECRET,
        "czNjcjN0LXZhbHVlLW9mLXRoZS1wZXJzb2",
        "tk_of-our-own",
        "pa55w0rd",
        "ghp_0000",
    ] {
        assert_eq!(holds(&env.logs(), needle), [""; 0], "{needle}");
        assert!(
            !done.stdout.contains(needle) && !done.stderr.contains(needle),
            "{needle}"
        );
    }
    let prompt = env.run_directory("work", "fake").join("prompt.md");
    assert_eq!(fs::read_to_string(prompt).unwrap(), "use [redacted]");
}
