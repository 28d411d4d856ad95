//! What the recordings of opencode, kilo and qwen do not show: runs that recover, answers that end
//! in other ways, and the invocations' fine print; with those of ollama and patch.

use std::path::Path;
use std::time::Duration;

use crate::agents::{AgentExit, AgentInterface, AgentRequest, InvocationError, find};
use crate::model::event::AgentEvent;
use crate::model::invocation::Invocation;
use crate::model::process_end::Stream;
use crate::model::report::{AgentReport, Ending, ErrorClass};
use crate::model::reset::ResetHint;

fn read(agent: &str, lines: &[&str], code: Option<i32>) -> (Vec<AgentEvent>, AgentReport) {
    let mut parser = find(agent).expect("a built-in agent").parser(&[]);
    let mut events = Vec::new();
    for line in lines {
        parser.feed(Stream::Stdout, line.as_bytes(), &mut events);
        parser.feed(Stream::Stdout, b"\n", &mut events);
    }
    let result_file = None;
    (events, parser.finish(&AgentExit { code, result_file }))
}

fn report(agent: &str, lines: &[&str], code: i32) -> AgentReport {
    read(agent, lines, Some(code)).1
}

fn class(report: &AgentReport) -> Option<ErrorClass> {
    report.error.as_ref().map(|error| error.class)
}

fn invocation(
    agent: &str,
    prompt: &str,
    model: Option<&str>,
) -> Result<Invocation, InvocationError> {
    find(agent)
        .expect("a built-in agent")
        .invocation(&AgentRequest {
            program: Path::new("/opt/bin/agent"),
            repository: Path::new("/work/repository"),
            private_directory: Path::new("/run/private"),
            prompt,
            model,
            effort: Some("high"),
            arguments: &["--more".to_owned()],
            title: "task/agent/20260219_204003",
            as_root: false,
        })
}

const START: &str = r#"{"type":"step_start","sessionID":"s","part":{"messageID":"2"}}"#;
const OVERFLOW: &str = r#"{"type":"error","sessionID":"s","error":{"name":"ContextOverflowError","data":{"message":"too long"}}}"#;
const REJECTED: &str = r#"{"type":"tool_use","sessionID":"s","part":{"messageID":"2","tool":"bash","state":{"status":"error","input":{},"error":"The user rejected permission to use this specific tool call."}}}"#;

fn text(message: u8, text: &str) -> String {
    format!(
        r#"{{"type":"text","sessionID":"s","part":{{"messageID":"{message}","text":"{text}"}}}}"#
    )
}

fn finish(message: u8, reason: &str) -> String {
    format!(
        r#"{{"type":"step_finish","sessionID":"s","part":{{"messageID":"{message}","reason":"{reason}","tokens":{{"input":7,"output":3}},"cost":0}}}}"#
    )
}

#[test]
fn opencode_ended_well_only_when_its_last_step_stopped_with_a_text() {
    let (plan, tools) = (text(1, "I will."), finish(1, "tool-calls"));
    let (done, stop) = (text(2, "Done."), finish(2, "stop"));
    let ended = |lines: &[&str]| {
        let report = report("opencode", lines, 0);
        (report.ending, report.final_message)
    };
    let words = |text: &str| Some(text.to_owned());
    let good = (Ending::Completed, words("Done."));
    assert_eq!(ended(&[&plan, &tools, START, &done, &stop]), good);
    assert_eq!(
        ended(&[&plan, &tools, START, &stop]),
        (Ending::Completed, None)
    );
    assert_eq!(ended(&[&plan, &tools]), (Ending::Missing, words("I will.")));
    assert_eq!(
        ended(&[&done, &stop, START]),
        (Ending::Missing, words("Done."))
    );
    let rest = text(2, "All of it.");
    assert_eq!(
        ended(&[&done, &rest, &stop]),
        (Ending::Completed, words("Done.\n\nAll of it."))
    );
}

#[test]
fn what_went_wrong_in_a_step_is_taken_back_by_the_next() {
    let (done, stop) = (text(2, "Done."), finish(2, "stop"));
    for wrong in [OVERFLOW, REJECTED, &finish(1, "length")] {
        let recovered = report("opencode", &[wrong, START, &done, &stop], 0);
        assert_eq!(class(&recovered), None, "{wrong}");
        assert_eq!(recovered.ending, Ending::Completed, "{wrong}");
    }
    let last = |line: &str| class(&report("opencode", &[line], 0)).unwrap();
    assert_eq!(last(OVERFLOW), ErrorClass::ContextLimit);
    assert_eq!(last(REJECTED), ErrorClass::PermissionDenied);
    assert_eq!(last(&finish(1, "length")), ErrorClass::Unknown);
    assert_eq!(last(&finish(1, "content-filter")), ErrorClass::Refused);
    // The model may answer in the same step.
    let answered = report("opencode", &[REJECTED, &done, &stop], 0);
    assert_eq!(class(&answered), None);
    assert_eq!(answered.permission_denials, ["bash"]);
}

#[test]
fn opencodes_failures_are_told_apart_by_their_fields() {
    let error = |data: &str| {
        let line = format!(
            r#"{{"type":"error","sessionID":"s","error":{{"name":"APIError","data":{{{data}}}}}}}"#
        );
        let error = report("kilo", &[&line], 1).error.unwrap();
        (error.class, error.resets)
    };
    let at = |text: &str| Some(ResetHint::At(text.parse().unwrap()));
    let after = |seconds| Some(ResetHint::After(Duration::from_secs(seconds)));
    let limit = |rest: &str| error(&format!(r#""message":"slow down","statusCode":429{rest}"#));
    let header = |wait: &str| format!(r#","responseHeaders":{{"retry-after":"{wait}"}}"#);
    assert_eq!(limit(""), (ErrorClass::RateLimit, None));
    assert_eq!(limit(&header("3600")), (ErrorClass::RateLimit, after(3600)));
    assert_eq!(
        limit(&header("Sat, 21 Nov 2026 02:51:00 GMT")),
        (ErrorClass::RateLimit, at("2026-11-21T02:51:00Z"))
    );
    for (data, class) in [
        (
            r#""message":"no credit","statusCode":402"#,
            ErrorClass::RateLimit,
        ),
        (
            r#""message":"Overloaded","statusCode":529"#,
            ErrorClass::Overloaded,
        ),
        (
            r#""message":"Not Found","statusCode":404"#,
            ErrorClass::Unknown,
        ),
        (
            r#""message":"bad request","statusCode":400"#,
            ErrorClass::Unknown,
        ),
        (
            r#""message":"I read of a rate limit, 429""#,
            ErrorClass::Unknown,
        ),
    ] {
        assert_eq!(error(data), (class, None), "{data}");
    }
}

const LIMITED: &str = r#"{"type":"system","subtype":"retry","session_id":"s","data":{"reason":"retry","attempt":1,"maxRetries":10,"delayMs":60000}}"#;
const REPEATED: &str =
    r#"{"type":"system","subtype":"retry","session_id":"s","data":{"reason":"retry"}}"#;
const ANSWERED: &str = r#"{"type":"assistant","session_id":"s","parent_tool_use_id":null,"message":{"content":[{"type":"text","text":"Hi."}],"usage":{"input_tokens":7,"output_tokens":3}}}"#;
const SUBAGENT_FAILED: &str = r#"{"type":"result","subtype":"error_during_execution","session_id":"s","is_error":true,"num_turns":0,"usage":{"input_tokens":0,"output_tokens":0},"permission_denials":[],"error":{"message":"[API Error: 401 no]"}}"#;

fn success(text: &str) -> String {
    format!(
        r#"{{"type":"result","subtype":"success","session_id":"s","is_error":false,"num_turns":1,"result":"{text}","usage":{{"input_tokens":7,"output_tokens":3}},"permission_denials":[{{"tool_name":"edit"}}]}}"#
    )
}

#[test]
fn qwen_waits_for_a_limit_until_it_is_answered() {
    let (events, limited) = read("qwen", &[LIMITED, REPEATED], None);
    assert!(limited.waiting_for_limit);
    let wait = ResetHint::After(Duration::from_secs(60));
    assert_eq!(limited.limit_resets, Some(wait));
    let is_retry = |event: &AgentEvent| matches!(event, AgentEvent::Retry { .. });
    assert!(events.last().is_some_and(is_retry));
    let (_, answered) = read("qwen", &[LIMITED, REPEATED, ANSWERED], None);
    assert!(!answered.waiting_for_limit);
}

#[test]
fn the_last_result_of_qwen_counts() {
    let done = success("Done.");
    let recovered = report("qwen", &[SUBAGENT_FAILED, ANSWERED, &done], 0);
    assert_eq!(class(&recovered), None);
    assert_eq!(recovered.ending, Ending::Completed);
    assert_eq!(recovered.usage.total(), Some(10));
    assert_eq!(recovered.permission_denials, ["edit"]);
    let failed = report("qwen", &[ANSWERED, SUBAGENT_FAILED], 1);
    assert_eq!(class(&failed), Some(ErrorClass::Auth));
    assert_eq!(failed.usage.total(), Some(10));
    let limit = report("qwen", &[ANSWERED, SUBAGENT_FAILED], 55);
    assert_eq!(class(&limit), Some(ErrorClass::TurnLimit));
}

#[test]
fn an_empty_answer_of_qwen_is_no_final_message() {
    let report = report("qwen", &[ANSWERED, &success("")], 0);
    assert_eq!(
        (report.ending, report.final_message),
        (Ending::Completed, None)
    );
}

#[test]
fn an_answer_of_qwens_own_is_no_success() {
    let own = success("Context cleared.").replace(r#""num_turns":1"#, r#""num_turns":0"#);
    let report = report("qwen", &[&own], 0);
    assert_eq!(report.error.unwrap().message, "Context cleared.");
    assert_eq!(report.ending, Ending::Missing);
}

#[test]
fn qwens_failures_are_told_apart_by_how_they_begin() {
    let class = |message: &str| {
        let message = serde_json::Value::from(message);
        let line = format!(
            r#"{{"type":"result","session_id":"s","is_error":true,"error":{{"message":{message}}}}}"#
        );
        class(&report("qwen", &[&line], 1)).unwrap()
    };
    for (message, expected) in [
        ("[API Error: 529 busy]", ErrorClass::Overloaded),
        ("[API Error: 400 bad request]", ErrorClass::Unknown),
        ("[API Error: I read of a 429]", ErrorClass::Unknown),
        (
            "[API Error: slow down]\nPossible quota limitations in place or",
            ErrorClass::RateLimit,
        ),
        ("Quota exhausted: it will reset", ErrorClass::RateLimit),
        (
            "Qwen OAuth free tier has been discontinued",
            ErrorClass::Auth,
        ),
        ("Context is too large to send", ErrorClass::ContextLimit),
        ("rate limit", ErrorClass::Unknown),
    ] {
        assert_eq!(class(message), expected, "{message}");
    }
}

#[test]
fn qwen_is_never_given_a_command_of_its_own() {
    let stdin =
        |prompt| String::from_utf8(invocation("qwen", prompt, None).unwrap().stdin).unwrap();
    assert_eq!(stdin("/clear\n"), "The task:\n/clear\n");
    assert_eq!(stdin("a /clear\n"), "a /clear\n");
}

#[test]
fn an_agent_that_would_choose_a_vendors_model_wants_one_named() {
    for agent in ["opencode", "kilo", "ollama", "ollama_chat"] {
        let missing = InvocationError::ModelMissing {
            agent: agent.to_owned(),
        };
        assert_eq!(invocation(agent, "do it", None), Err(missing));
    }
    assert!(invocation("qwen", "do it", None).is_ok());
}

#[test]
fn a_repository_whose_path_is_no_text_is_told_by_the_working_directory_alone() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let request = AgentRequest {
        program: Path::new("/opt/bin/agent"),
        repository: Path::new(OsStr::from_bytes(b"/work/\xff")),
        private_directory: Path::new("/run/private"),
        prompt: "do it",
        model: Some("vendor/model"),
        effort: None,
        arguments: &[],
        title: "task/agent/20260219_204003",
        as_root: false,
    };
    let agent: &dyn AgentInterface = find("opencode").unwrap();
    let arguments = agent.invocation(&request).unwrap().arguments;
    assert!(!arguments.contains(&"--dir".to_owned()));
}

#[test]
fn the_invocations_are_those_in_the_snapshot() {
    let mut shown = Vec::new();
    for agent in ["kilo", "ollama", "ollama_chat", "opencode", "qwen", "patch"] {
        let made = invocation(agent, "do it", Some("vendor/model")).unwrap();
        let (arguments, environment) = (made.arguments.join(" "), made.environment);
        shown.push(format!(
            "{agent} {arguments}\n{environment:#?}\n{:?}\n",
            made.stop_signal
        ));
    }
    insta::assert_snapshot!("more_invocations", shown.join("\n"));
}
