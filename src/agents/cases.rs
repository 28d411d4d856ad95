//! What the recordings of codex, claude and gemini do not show: events while the agent runs, the
//! wording of limits, and the invocations' fine print.

use std::path::Path;
use std::time::Duration;

use crate::agents::{AgentExit, AgentRequest, InvocationError, find};
use crate::model::event::AgentEvent;
use crate::model::invocation::Invocation;
use crate::model::process_end::Stream;
use crate::model::report::{AgentReport, Ending, ErrorClass};
use crate::model::reset::ResetHint;

fn read(agent: &str, lines: &[&str], exit: AgentExit<'_>) -> (Vec<AgentEvent>, AgentReport) {
    let mut parser = find(agent).expect("a built-in agent").parser(&[]);
    let mut events = Vec::new();
    for line in lines {
        parser.feed(Stream::Stdout, line.as_bytes(), &mut events);
        parser.feed(Stream::Stdout, b"\n", &mut events);
    }
    (events, parser.finish(&exit))
}

fn invocation(agent: &str, prompt: &str, as_root: bool) -> Result<Invocation, InvocationError> {
    find(agent)
        .expect("a built-in agent")
        .invocation(&AgentRequest {
            program: Path::new("/opt/bin/agent"),
            repository: Path::new("/work/repository"),
            private_directory: Path::new("/run/private"),
            prompt,
            model: Some("vendor/model"),
            effort: Some("high"),
            arguments: &["--more".to_owned()],
            title: "task/agent/20260219_204003",
            as_root,
        })
}

const CLAUDE_REJECTED: &str = r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795229460,"rateLimitType":"five_hour","overageStatus":"rejected"}}"#;
const CLAUDE_OVERAGE: &str = r#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795229460,"rateLimitType":"five_hour","overageStatus":"allowed"}}"#;
const CLAUDE_RETRY_429: &str = r#"{"type":"system","subtype":"api_retry","attempt":2,"max_retries":10,"retry_delay_ms":1138.4,"error_status":429,"error":"rate_limit"}"#;
const CLAUDE_RETRY_529: &str = r#"{"type":"system","subtype":"api_retry","attempt":2,"max_retries":10,"retry_delay_ms":1500,"error_status":529,"error":"overloaded"}"#;
const CLAUDE_THINKING: &str =
    r#"{"type":"system","subtype":"thinking_tokens","estimated_tokens":7}"#;

const LIVE: [(&str, &str); 15] = [
    ("claude", CLAUDE_RETRY_429),
    ("claude", CLAUDE_RETRY_529),
    ("claude", CLAUDE_THINKING),
    ("claude", CLAUDE_REJECTED),
    ("claude", CLAUDE_OVERAGE),
    (
        "claude",
        r#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed_warning","rateLimitType":"seven_day"}}"#,
    ),
    (
        "claude",
        r#"{"type":"assistant","message":{"id":"m","content":[{"type":"tool_use","name":"Bash","input":{"command":"\u001b[2Jls\nrm x"}}]},"parent_tool_use_id":null}"#,
    ),
    (
        "claude",
        r#"{"type":"assistant","message":{"id":"m","content":[{"type":"text","text":"for my parent"}]},"parent_tool_use_id":"t"}"#,
    ),
    (
        "codex",
        r#"{"type":"error","message":"Reconnecting... 1/5 (exceeded retry limit, last status: 429 Too Many Requests, request id: r)"}"#,
    ),
    (
        "codex",
        r#"{"type":"error","message":"Reconnecting... 1/5 (rate limit exceeded: Rate limit reached for gpt-5. Please try again in 2s.)"}"#,
    ),
    (
        "codex",
        r#"{"type":"error","message":"Reconnecting... waiting for network (Connection failed: error sending request)"}"#,
    ),
    (
        "codex",
        r#"{"type":"error","message":"Quota exceeded. The turn fails next."}"#,
    ),
    (
        "codex",
        r#"{"type":"item.completed","item":{"id":"item_2","type":"mcp_tool_call","tool":"search","arguments":{"query":"x"},"status":"failed"}}"#,
    ),
    (
        "gemini",
        r#"{"type":"tool_use","tool_name":"write_file","tool_id":"1","parameters":{"file_path":"a.txt","content":"x"}}"#,
    ),
    ("gemini", r#"{"type":"brand_new"}"#),
];

#[test]
fn live_events_are_those_in_the_snapshot() {
    let shown: Vec<String> = LIVE
        .iter()
        .map(|(agent, line)| {
            let (events, _) = read(agent, &[line], AgentExit::default());
            format!("{agent} {line}\n  {events:?}\n")
        })
        .collect();
    insta::assert_snapshot!("live_events", shown.join("\n"));
}

#[test]
fn an_agent_that_goes_on_after_a_limit_does_not_wait_for_it() {
    for (lines, waits) in [
        (vec![CLAUDE_RETRY_429], true),
        (vec![CLAUDE_RETRY_429, CLAUDE_THINKING], false),
        (vec![CLAUDE_REJECTED], true),
        (vec![CLAUDE_OVERAGE], false),
    ] {
        let (_, report) = read("claude", &lines, AgentExit::default());
        assert_eq!(report.waiting_for_limit, waits, "{lines:?}");
    }
}

#[test]
fn the_end_of_a_limit_is_read_from_the_words_of_the_failure() {
    let at = |text: &str| Some(ResetHint::At(text.parse().unwrap()));
    let clock = |text: &str| crate::model::reset::parse_wall_clock(text);
    let claude = |text: &str| {
        format!(
            r#"{{"type":"result","subtype":"success","is_error":true,"api_error_status":429,"result":"{text}"}}"#
        )
    };
    let old_claude = |text: &str| claude(text).replace(r#","api_error_status":429"#, "");
    let codex = |text: &str| format!(r#"{{"type":"turn.failed","error":{{"message":"{text}"}}}}"#);
    for (agent, line, resets) in [
        (
            "claude",
            claude("You've hit your session limit · resets 2:51am (UTC)"),
            clock("2:51am (UTC)"),
        ),
        (
            "claude",
            old_claude("Claude AI usage limit reached|1762952400"),
            at("2025-11-12T13:00:00Z"),
        ),
        (
            "claude",
            old_claude(
                "Claude usage limit reached. Your limit will reset at 3pm (America/Bogota).",
            ),
            clock("3pm (America/Bogota)"),
        ),
        (
            "claude",
            claude("You've hit your limit · resets 7pm (Europe/Berlin)"),
            clock("7pm (Europe/Berlin)"),
        ),
        (
            "claude",
            claude("You will regain access on 2026-12-01 at 00:00 UTC."),
            at("2026-12-01T00:00:00Z"),
        ),
        ("claude", claude("Request rejected (429)"), None),
        (
            "codex",
            codex("You’ve hit your usage limit. Try again later or try again at 2:33 AM."),
            clock("2:33 AM"),
        ),
        (
            "codex",
            codex("You've hit your usage limit or try again at Feb 24th, 2026 12:41 PM."),
            clock("Feb 24th, 2026 12:41 PM"),
        ),
        (
            "codex",
            codex("rate limit exceeded: Please try again in 2s."),
            Some(ResetHint::After(Duration::from_secs(2))),
        ),
    ] {
        let (_, report) = read(agent, &[&line], AgentExit::default());
        let error = report.error.unwrap();
        assert_eq!(
            (error.class, error.resets),
            (ErrorClass::RateLimit, resets),
            "{line}"
        );
    }
    let told = claude("You've hit your session limit · resets 2:51am (UTC)");
    let (_, report) = read("claude", &[CLAUDE_REJECTED, &told], AgentExit::default());
    assert_eq!(report.error.unwrap().resets, at("2026-11-21T02:51:00Z"));
}

#[test]
fn a_limit_that_claude_got_over_is_not_why_it_failed() {
    const ANSWER: &str = r#"{"type":"assistant","message":{"id":"m","model":"claude","content":[{"type":"text","text":"hi"}]}}"#;
    const NO_LOGIN: &str =
        r#"{"type":"assistant","message":{"model":"<synthetic>"},"error":"authentication_failed"}"#;
    const UNTOLD: &str = r#"{"type":"result","subtype":"success","is_error":true,"result":"x"}"#;
    const STATUS_401: &str = r#"{"type":"result","subtype":"success","is_error":true,"api_error_status":401,"result":"x"}"#;
    for (lines, class) in [
        (vec![CLAUDE_REJECTED, UNTOLD], ErrorClass::RateLimit),
        (vec![CLAUDE_REJECTED, ANSWER, UNTOLD], ErrorClass::Unknown),
        (vec![CLAUDE_REJECTED, STATUS_401], ErrorClass::Auth),
        (vec![CLAUDE_REJECTED, NO_LOGIN, UNTOLD], ErrorClass::Auth),
    ] {
        let (_, report) = read("claude", &lines, AgentExit::default());
        assert_eq!(report.error.unwrap().class, class, "{lines:?}");
    }
}

#[test]
fn codex_names_its_failure_although_it_dies_before_the_turn_is_closed() {
    let line = r#"{"type":"error","message":"unexpected status 401 Unauthorized: no"}"#;
    let exit = |code| AgentExit {
        code,
        result_file: None,
    };
    let (_, report) = read("codex", &[line], exit(Some(1)));
    assert_eq!(report.error.unwrap().class, ErrorClass::Auth);
    assert_eq!(read("codex", &[line], exit(None)).1.error, None);
}

#[test]
fn the_file_with_codexs_last_message_counts_unless_it_is_empty() {
    let message =
        r#"{"type":"item.completed","item":{"type":"agent_message","text":"from the stream"}}"#;
    for (file, expected) in [
        ("from the file\n", "from the file"),
        ("\n", "from the stream"),
    ] {
        let exit = AgentExit {
            code: Some(0),
            result_file: Some(file),
        };
        let (_, report) = read("codex", &[message], exit);
        assert_eq!(report.final_message.as_deref(), Some(expected));
    }
}

#[test]
fn a_success_of_gemini_without_an_answer_has_no_final_message() {
    let result = r#"{"type":"result","status":"success","stats":{"total_tokens":0,"input_tokens":0,"output_tokens":0}}"#;
    let (_, report) = read(
        "gemini",
        &[result],
        AgentExit {
            code: Some(0),
            result_file: None,
        },
    );
    assert_eq!(
        (report.ending, report.final_message),
        (Ending::Completed, None)
    );
}

#[test]
fn a_command_of_claudes_own_is_told_as_no_answer() {
    let result =
        r#"{"type":"result","subtype":"success","is_error":false,"num_turns":0,"result":""}"#;
    let exit = AgentExit {
        code: Some(0),
        result_file: None,
    };
    let (_, report) = read("claude", &[result], exit);
    assert_eq!(report.error.unwrap().message, "it ended without an answer");
}

/// What each agent prints last in a good run.
const GOOD_ENDS: [(&str, &[&str]); 6] = [
    (
        "claude",
        &[r#"{"type":"result","subtype":"success","is_error":false,"num_turns":2,"result":"hi"}"#],
    ),
    (
        "codex",
        &[
            r#"{"type":"item.completed","item":{"type":"agent_message","text":"hi"}}"#,
            r#"{"type":"turn.completed","usage":{"input_tokens":1,"output_tokens":2}}"#,
        ],
    ),
    (
        "gemini",
        &[r#"{"type":"result","status":"success","stats":{"total_tokens":3,"input_tokens":1}}"#],
    ),
    (
        "opencode",
        &[
            r#"{"type":"text","part":{"messageID":"m","text":"hi"}}"#,
            r#"{"type":"step_finish","part":{"messageID":"m","reason":"stop"}}"#,
        ],
    ),
    ("patch", &[r#"{"type":"completed"}"#]),
    (
        "qwen",
        &[r#"{"type":"result","is_error":false,"num_turns":1,"result":"hi"}"#],
    ),
];

#[test]
fn an_agent_that_says_something_unreadable_after_its_end_has_not_ended_well() {
    const UNREAD: &str = r#"{"type":"error","message":"#;
    let exit = AgentExit {
        code: Some(0),
        result_file: None,
    };
    for (agent, end) in GOOD_ENDS {
        for (lines, ending) in [
            (end.to_vec(), Ending::Completed),
            ([&[UNREAD], end].concat(), Ending::Completed),
            ([end, &[UNREAD]].concat(), Ending::Missing),
        ] {
            let (_, report) = read(agent, &lines, exit);
            let unread = lines.iter().filter(|line| **line == UNREAD).count();
            assert_eq!(report.ending, ending, "{agent} {lines:?}");
            assert_eq!(report.unreadable_events, unread, "{agent} {lines:?}");
        }
    }
}

#[test]
fn text_in_place_of_events_is_success_only_where_text_was_asked_for() {
    let exit = AgentExit {
        code: Some(0),
        result_file: None,
    };
    let asked = |arguments: &str| -> Vec<String> {
        arguments.split_whitespace().map(str::to_owned).collect()
    };
    for (agent, arguments, ending) in [
        ("claude", "", Ending::Missing),
        ("claude", "--output-format text", Ending::Untold),
        ("codex", "", Ending::Missing),
        ("gemini", "--yolo", Ending::Missing),
        ("gemini", "--output-format=text", Ending::Untold),
        ("ollama", "", Ending::Missing),
        ("qwen", "", Ending::Missing),
        ("qwen", "-o text", Ending::Untold),
    ] {
        let mut parser = find(agent).unwrap().parser(&asked(arguments));
        parser.feed(Stream::Stdout, b"Execution error\n", &mut Vec::new());
        let report = parser.finish(&exit);
        assert_eq!(report.ending, ending, "{agent} {arguments}");
        assert_eq!(report.final_message.as_deref(), Some("Execution error"));
    }
}

#[test]
fn a_failure_whose_words_are_cut_within_a_character_is_heard() {
    for (agent, line) in [
        (
            "codex",
            r#"{"type":"turn.failed","error":{"message":"x\ud83d"}}"#,
        ),
        (
            "opencode",
            r#"{"type":"error","error":{"name":"APIError","data":{"message":"x\ud83d"}}}"#,
        ),
    ] {
        let (_, report) = read(agent, &[line], AgentExit::default());
        assert_eq!(report.error.unwrap().message, "x\u{fffd}", "{agent}");
    }
}

#[test]
fn the_texts_of_a_report_are_bounded() {
    let long = "x".repeat(1024 * 1024);
    let declined = format!(
        r#"{{"type":"item.completed","item":{{"type":"mcp_tool_call","tool":"{long}","status":"declined"}}}}"#
    );
    let session = format!(r#"{{"type":"thread.started","thread_id":"{long}"}}"#);
    let announced = format!(r#"{{"type":"error","message":"{long}"}}"#);
    let failed = format!(r#"{{"type":"turn.failed","error":{{"message":"{long}"}}}}"#);
    let exit = AgentExit {
        code: Some(1),
        result_file: None,
    };
    for end in [&announced, &failed] {
        let (_, report) = read("codex", &[&session, &declined, end], exit);
        assert_eq!(report.session_id.unwrap().chars().count(), 256);
        assert_eq!(report.permission_denials[0].chars().count(), 256);
        assert!(report.error.unwrap().message.len() <= 16 * 1024);
    }
}

#[test]
fn a_cost_that_cannot_be_is_not_counted() {
    for (usd, counted) in [
        ("0.25", Some(0.25)),
        ("0", Some(0.0)),
        ("-1000", None),
        ("1.7e308", None),
    ] {
        let result = format!(r#"{{"type":"result","subtype":"success","total_cost_usd":{usd}}}"#);
        let (_, report) = read("claude", &[&result, &result], AgentExit::default());
        assert_eq!(report.cost_usd, counted, "{usd}");
    }
}

#[test]
fn only_a_prompt_that_begins_with_a_slash_gets_a_line_before_it() {
    let stdin =
        |prompt| String::from_utf8(invocation("claude", prompt, false).unwrap().stdin).unwrap();
    assert_eq!(stdin("/clear it"), "The task:\n/clear it");
    assert_eq!(stdin("\n /clear"), "The task:\n\n /clear");
    assert_eq!(stdin("a /clear\n"), "a /clear\n");
}

#[test]
fn a_prompt_over_the_limit_is_refused_and_one_at_it_is_taken() {
    for (agent, limit) in [
        ("codex", 1_048_576),
        ("claude", 10_000_000),
        ("gemini", 8_388_608),
    ] {
        let prompt = "x".repeat(limit + 1);
        assert!(invocation(agent, &prompt, false).is_err(), "{agent}");
        assert!(invocation(agent, &prompt[1..], false).is_ok(), "{agent}");
    }
    assert!(invocation("codex", &"é".repeat(1_048_576), false).is_ok());
}

#[test]
fn the_invocations_are_those_in_the_snapshot() {
    let mut shown = Vec::new();
    for (agent, as_root) in [("codex", false), ("claude", true), ("gemini", false)] {
        let made = invocation(agent, "do it", as_root).unwrap();
        let (arguments, environment) = (made.arguments.join(" "), made.environment);
        shown.push(format!(
            "{agent} {arguments}\n{environment:#?}\n{:?}\n",
            made.stop_signal
        ));
    }
    insta::assert_snapshot!("invocations", shown.join("\n"));
    let claude = invocation("claude", "do it", false).unwrap();
    assert!(!claude.environment.contains_key("IS_SANDBOX"));
}

#[test]
fn the_settings_of_gemini_are_json() {
    let person = invocation("gemini", "do it", false).unwrap();
    assert!(
        person.private_files.is_empty(),
        "gemini believes such a file of root alone"
    );
    let gemini = invocation("gemini", "do it", true).unwrap();
    let file = &gemini.private_files[0];
    let settings: serde_json::Value = serde_json::from_slice(&file.contents).unwrap();
    assert_eq!(settings["telemetry"]["enabled"], false);
    let path = gemini.environment["GEMINI_CLI_SYSTEM_DEFAULTS_PATH"].as_str();
    assert_eq!(Path::new(path), file.path);
}
