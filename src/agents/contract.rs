//! The laws of [`AgentInterface`](crate::agents::AgentInterface), checked on every row of the
//! table, and the report of every recorded output as a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::agents::{AGENTS, AgentExit, AgentInterface, AgentRequest};
use crate::model::event::AgentEvent;
use crate::model::ids::AgentName;
use crate::model::invocation::Invocation;
use crate::model::process_end::Stream;
use crate::model::report::AgentReport;

fn invocation(agent: &dyn AgentInterface, prompt: &str) -> Invocation {
    let request = AgentRequest {
        program: Path::new("/opt/bin/agent"),
        repository: Path::new("/work/repository"),
        private_directory: Path::new("/run/private"),
        prompt,
        model: Some("vendor/model"),
        effort: Some("high"),
        arguments: &["--user-argument".to_owned()],
        title: "task/agent/20260219_204003",
        as_root: false,
    };
    agent
        .invocation(&request)
        .expect("the prompt is within the limits of every CLI")
}

#[test]
fn names_are_unique_and_valid() {
    let names: BTreeSet<_> = AGENTS.iter().map(AgentInterface::name).collect();
    assert_eq!(names.len(), AGENTS.len());
    for name in names {
        name.parse::<AgentName>()
            .expect("a built-in name is a name");
    }
}

#[test]
fn no_shell_runs_and_the_configured_arguments_are_passed() {
    for agent in AGENTS {
        let invocation = invocation(*agent, "hello");
        assert_eq!(
            invocation.program,
            Path::new("/opt/bin/agent"),
            "{}",
            agent.name()
        );
        let own = ["patch"].contains(&agent.name());
        assert!(
            own || invocation.arguments.iter().any(|a| a == "--user-argument"),
            "{agent:?}"
        );
    }
}

#[test]
fn a_prompt_arrives_byte_exact_on_standard_input() {
    let large = "x".repeat(200 * 1024);
    for agent in AGENTS {
        for prompt in [
            "-x --help",
            "/clear\n",
            "a\nb \"c\" 'd' $(e)\n",
            large.as_str(),
        ] {
            let invocation = invocation(*agent, prompt);
            let stdin = String::from_utf8(invocation.stdin).expect("prompts are UTF-8");
            assert!(
                stdin.ends_with(prompt),
                "{}: {:?}",
                agent.name(),
                &prompt[..5]
            );
            assert!(
                invocation
                    .arguments
                    .iter()
                    .all(|argument| !argument.contains(prompt))
            );
        }
    }
}

#[test]
fn private_files_lie_in_the_private_directory() {
    for agent in AGENTS {
        let invocation = invocation(*agent, "hello");
        let paths = invocation.private_files.iter().map(|file| &file.path);
        for path in paths.chain(&invocation.result_file) {
            assert!(
                path.starts_with("/run/private"),
                "{}: {}",
                agent.name(),
                path.display()
            );
        }
    }
}

/// One recorded run of a real CLI.
struct Recording {
    name: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit: Option<i32>,
}

fn recordings(agent: &str) -> Vec<Recording> {
    let root = PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/agents"
    ))
    .join(agent);
    let Ok(versions) = fs::read_dir(&root) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for version in versions {
        let version = version.expect("the fixtures are readable").path();
        let exits = fs::read(version.join("exits.json")).expect("a version has exits.json");
        let exits: BTreeMap<String, Option<i32>> =
            serde_json::from_slice(&exits).expect("exits.json maps names to exit codes");
        for (name, exit) in exits {
            let read =
                |kind: &str| fs::read(version.join(format!("{name}.{kind}"))).unwrap_or_default();
            let (stdout, stderr) = (read("stdout"), read("stderr"));
            let label = version
                .file_name()
                .expect("a version has a name")
                .to_string_lossy()
                .into_owned();
            all.push(Recording {
                name: format!("{label}/{name}"),
                stdout,
                stderr,
                exit,
            });
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

fn read(
    agent: &dyn AgentInterface,
    recording: &Recording,
    piece: usize,
) -> (Vec<AgentEvent>, AgentReport) {
    let asked = recording.name.contains("a-text").then(|| "text".to_owned());
    let mut parser = agent.parser(asked.as_slice());
    let mut events = Vec::new();
    for bytes in recording.stderr.chunks(piece) {
        parser.feed(Stream::Stderr, bytes, &mut events);
    }
    for bytes in recording.stdout.chunks(piece) {
        parser.feed(Stream::Stdout, bytes, &mut events);
    }
    let code = recording.exit.filter(|code| *code >= 0);
    (
        events,
        parser.finish(&AgentExit {
            code,
            result_file: None,
        }),
    )
}

/// One report in a few lines, with what is unknown left out.
fn brief(recording: &Recording, report: &AgentReport) -> String {
    let mut text = format!(
        "{} exit {:?}: {:?}",
        recording.name, recording.exit, report.ending
    );
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            write!(text, "\n  {name}: {value}").expect("writing to a string cannot fail");
        }
    };
    let error = report.error.as_ref();
    line(
        "error",
        error.map(|error| {
            format!(
                "{} {:?}",
                error.class,
                crate::model::text::shorten(&error.message, 160)
            )
        }),
    );
    line(
        "resets",
        error
            .and_then(|error| error.resets.as_ref())
            .map(|resets| format!("{resets:?}")),
    );
    line(
        "waiting",
        report
            .waiting_for_limit
            .then(|| format!("{:?}", report.limit_resets)),
    );
    line(
        "message",
        report
            .final_message
            .as_ref()
            .map(|m| format!("{:?}", crate::model::text::shorten(m, 160))),
    );
    line("model", report.model.clone());
    line("session", report.session_id.clone());
    line("version", report.version.clone());
    let usage = &report.usage;
    line(
        "usage",
        usage.total().map(|total| {
            let show = |n: Option<u64>| n.map_or("-".to_owned(), |n| n.to_string());
            format!(
                "{total} = in {} (cached {}) + out {} (reasoning {})",
                show(usage.input_tokens),
                show(usage.cached_input_tokens),
                show(usage.output_tokens),
                show(usage.reasoning_tokens)
            )
        }),
    );
    line("cost", report.cost_usd.map(|usd| usd.to_string()));
    line("turns", report.turns.map(|turns| turns.to_string()));
    line(
        "tools",
        (report.tool_uses > 0).then(|| report.tool_uses.to_string()),
    );
    line(
        "denied",
        (!report.permission_denials.is_empty()).then(|| report.permission_denials.join(", ")),
    );
    line(
        "patches",
        (!report.patches.is_empty()).then(|| report.patches.len().to_string()),
    );
    line(
        "unknown events",
        (report.unknown_events > 0).then(|| report.unknown_events.to_string()),
    );
    text.push('\n');
    text
}

#[test]
fn every_recorded_output_has_the_report_in_its_snapshot() {
    for agent in AGENTS {
        let recordings = recordings(agent.name());
        if recordings.is_empty() {
            continue;
        }
        let reports: Vec<String> = recordings
            .iter()
            .map(|r| brief(r, &read(*agent, r, usize::MAX >> 1).1))
            .collect();
        insta::assert_snapshot!(format!("reports_{}", agent.name()), reports.join("\n"));
    }
}

#[test]
fn the_report_does_not_depend_on_how_the_bytes_were_split() {
    for agent in AGENTS {
        for recording in recordings(agent.name()) {
            let whole = read(*agent, &recording, usize::MAX >> 1);
            for piece in [1, 7, 4096] {
                let split = read(*agent, &recording, piece);
                assert_eq!(
                    split.1,
                    whole.1,
                    "{} {} in pieces of {piece}",
                    agent.name(),
                    recording.name
                );
            }
        }
    }
}

#[test]
fn a_torn_last_line_is_no_error() {
    for agent in AGENTS {
        for mut recording in recordings(agent.name()) {
            let whole = read(*agent, &recording, usize::MAX >> 1).1;
            recording.stdout.extend_from_slice(b"\n{\"type\":\"resu");
            if recording.name.contains("text") || recording.stdout.len() < 20 {
                continue; // Plain text has no torn lines.
            }
            let torn = read(*agent, &recording, usize::MAX >> 1).1;
            assert_eq!(
                torn.error,
                whole.error,
                "{} {}",
                agent.name(),
                recording.name
            );
            assert_eq!(
                torn.ending,
                whole.ending,
                "{} {}",
                agent.name(),
                recording.name
            );
        }
    }
}
