//! What claude's command line prints, for scripts that pretend to be it.

use serde_json::{Value, json};

/// A script that prints lines of claude's stream and exits.
pub fn stream(lines: &[Value], exit: i32) -> String {
    let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
    format!("cat <<'EOF'\n{}\nEOF\nexit {exit}", lines.join("\n"))
}

/// The line with which it begins.
pub fn init() -> Value {
    json!({"type": "system", "subtype": "init", "session_id": "s-1", "model": "claude-sonnet-4-5",
           "claude_code_version": "2.1.197"})
}

/// The line with which it ends.
pub fn result(text: &str, is_error: bool) -> Value {
    json!({"type": "result", "subtype": "success", "is_error": is_error, "result": text,
           "num_turns": 1, "session_id": "s-1", "total_cost_usd": 0.25,
           "modelUsage": {"claude-sonnet-4-5": {"inputTokens": 100, "outputTokens": 20,
                          "cacheReadInputTokens": 50, "cacheCreationInputTokens": 10}}})
}

/// A usage limit, as it says it.
pub fn limited(resets_at: i64) -> [Value; 3] {
    [
        init(),
        json!({"type": "rate_limit_event", "rate_limit_info":
               {"status": "rejected", "resetsAt": resets_at, "rateLimitType": "five_hour"}}),
        json!({"type": "result", "subtype": "success", "is_error": true, "api_error_status": 429,
               "result": "You've hit your session limit", "num_turns": 1, "session_id": "s-1"}),
    ]
}

/// Its provider is overloaded, and it gave up.
pub fn overloaded() -> [Value; 2] {
    let mut result = result("API Error: 529 Overloaded", true);
    result["api_error_status"] = json!(529);
    [init(), result]
}

/// Its provider could not be reached, and it gave up.
pub fn unreachable() -> [Value; 2] {
    let text = "API Error: Unable to connect to API (ConnectionRefused)";
    [init(), result(text, true)]
}

/// An answer.
pub fn success() -> [Value; 2] {
    [init(), result("done", false)]
}
