//! What an answer means: status, headers and body become a fault. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use reqwest012::StatusCode;
use reqwest012::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use serde_json::Value;

use crate::github::error::Fault;
use crate::github::pacing::{Budget, Limit};
use crate::github::wire::{Problem, RateLimit};
use crate::model::text;

/// The longest part of GitHub's words that is passed on.
const MAX_MESSAGE_CHARS: usize = 300;

/// What a refusal means.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A rate limit.
    Limit(Limit),
    /// Anything else.
    Fault(Fault),
}

pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get(name)?
        .to_str()
        .ok()
        .filter(|text| !text.is_empty())
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    header(headers, name)?.trim().parse().ok()
}

/// The server's time.
pub(super) fn date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let date = DateTime::parse_from_rfc2822(header(headers, DATE.as_str())?).ok()?;
    Some(date.to_utc())
}

/// The scopes of a classic token; `None` where the credentials have none, as a fine-grained token.
pub(super) fn scopes(headers: &HeaderMap) -> Option<Vec<String>> {
    let scopes = headers.get("x-oauth-scopes")?.to_str().ok()?;
    let scopes = scopes.split(',').map(str::trim);
    let named = scopes.filter(|scope| !scope.is_empty());
    Some(named.map(str::to_owned).collect())
}

/// When the token ends: `2026-12-01 09:15:00 UTC`, or with an offset.
pub(super) fn token_end(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let text = header(headers, "github-authentication-token-expiration")?;
    let text = text.replace("UTC", "+0000");
    let end = DateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S %z").ok()?;
    Some(end.to_utc())
}

/// What an answer was counted on, and what is left there; `None` for parts of the API that are not
/// used here.
pub(super) fn rate(headers: &HeaderMap) -> Option<(Budget, RateLimit)> {
    let budget = match header(headers, "x-ratelimit-resource") {
        None | Some("core") => Budget::All,
        Some("graphql") => Budget::Graphql,
        Some(_) => return None,
    };
    let rate = RateLimit {
        limit: number(headers, "x-ratelimit-limit")?,
        remaining: number(headers, "x-ratelimit-remaining")?,
        reset: number(headers, "x-ratelimit-reset")?,
    };
    Some((budget, rate))
}

/// The limit that begins with an answer which leaves nothing.
pub(super) fn used_up(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Limit> {
    let (budget, rate) = rate(headers)?;
    (rate.remaining == 0).then(|| Limit {
        budget,
        wait: Some(until_reset(rate, headers, now)),
    })
}

/// The time until the rate limit's reset, reckoned in the server's own time.
fn until_reset(rate: RateLimit, headers: &HeaderMap, now: DateTime<Utc>) -> TimeDelta {
    let now = date(headers).unwrap_or(now).timestamp();
    TimeDelta::try_seconds(rate.reset.saturating_sub(now)).unwrap_or(TimeDelta::MAX)
}

/// The rate limit that an error in an answer of GraphQL is; `None` when it is another error.
///
/// Its status is that of a success, and something may be left: too little for this query.
pub(super) fn graphql_limit(
    kind: &str,
    message: &str,
    headers: &HeaderMap,
    now: DateTime<Utc>,
) -> Option<Limit> {
    let named = retry_after(headers, now);
    if is_too_much_at_once(message) {
        let budget = Budget::All;
        return Some(Limit {
            budget,
            wait: named,
        });
    }
    // GitHub's documentation has the first, its server the second as well.
    matches!(kind, "RATE_LIMITED" | "RATE_LIMIT").then(|| Limit {
        budget: Budget::Graphql,
        wait: named.or_else(|| rate(headers).map(|(_, rate)| until_reset(rate, headers, now))),
    })
}

/// Whether GitHub's words are of a secondary limit, which holds for all requests.
fn is_too_much_at_once(message: &str) -> bool {
    let said = message.to_ascii_lowercase();
    said.contains("secondary rate limit") || said.contains("abuse detection")
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<TimeDelta> {
    let text = header(headers, RETRY_AFTER.as_str())?.trim();
    if let Ok(seconds) = text.parse::<i64>() {
        return TimeDelta::try_seconds(seconds).or(Some(TimeDelta::MAX));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some(at.to_utc() - date(headers).unwrap_or(now))
}

/// What an answer that is no success means.
pub(super) fn refusal(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Refusal {
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        let status = status.as_u16();
        return Refusal::Fault(Fault::Unavailable { status });
    }
    let problem = serde_json::from_slice::<Problem>(body);
    let is_readable = problem.is_ok();
    let message = words(&problem.unwrap_or_default());
    let may_be_limit = matches!(
        status,
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    );
    if status == StatusCode::UNPROCESSABLE_ENTITY && message.contains("submitted too quickly") {
        return Refusal::Limit(Limit {
            budget: Budget::All,
            wait: retry_after(headers, now),
        });
    }
    if may_be_limit {
        let is_said = is_too_much_at_once(&message)
            || message.to_ascii_lowercase().contains("rate limit")
            || status == StatusCode::TOO_MANY_REQUESTS;
        let for_all = |wait| Limit {
            budget: Budget::All,
            wait,
        };
        let named = retry_after(headers, now).map(|wait| for_all(Some(wait)));
        let limit = named.or_else(|| used_up(headers, now));
        if let Some(limit) = limit.or_else(|| is_said.then(|| for_all(None))) {
            return Refusal::Limit(limit);
        }
    }
    // The 404 of a network's login page must not be taken for GitHub's.
    if !is_readable {
        return Refusal::Fault(Fault::Unreadable(not_json(status, headers)));
    }
    let needed = ["x-accepted-github-permissions", "x-accepted-oauth-scopes"]
        .iter()
        .find_map(|name| header(headers, name))
        .map(|named| text::first_line(named, MAX_MESSAGE_CHARS));
    Refusal::Fault(match status {
        StatusCode::UNAUTHORIZED => Fault::BadCredentials { message },
        StatusCode::FORBIDDEN => Fault::Forbidden { message, needed },
        StatusCode::NOT_FOUND => Fault::NotFound { message, needed },
        StatusCode::GONE => Fault::Gone { message },
        StatusCode::UNPROCESSABLE_ENTITY => Fault::Invalid { message },
        _ => Fault::Rejected {
            status: status.as_u16(),
            message,
        },
    })
}

/// Why an answer that should be JSON is none.
pub(super) fn not_json(status: StatusCode, headers: &HeaderMap) -> String {
    let kind = header(headers, CONTENT_TYPE.as_str()).unwrap_or("of no named type");
    let kind = text::first_line(kind, 60);
    format!("status {} without JSON ({kind})", status.as_u16())
}

/// GitHub's words, those on single fields after a colon.
fn words(problem: &Problem) -> String {
    let one = |error: &Value| match error {
        Value::String(text) => Some(text.clone()),
        Value::Object(fields) => fields
            .get("message")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .or_else(|| {
                let field = fields.get("field")?.as_str()?;
                let code = fields.get("code")?.as_str()?;
                Some(format!("{field} {}", code.replace('_', " ")))
            }),
        _ => None,
    };
    let details: Vec<String> = match &problem.errors {
        Value::Array(errors) => errors.iter().filter_map(one).collect(),
        error => one(error).into_iter().collect(),
    };
    let text = if details.is_empty() {
        problem.message.clone()
    } else {
        format!("{}: {}", problem.message, details.join(", "))
    };
    text::first_line(&text, MAX_MESSAGE_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::github::GitHubError;

    fn now() -> DateTime<Utc> {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn refused(status: u16, headers: &[(&'static str, &str)], body: &str) -> Refusal {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        refusal(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            body.as_bytes(),
            now(),
        )
    }

    fn fault(status: u16, headers: &[(&'static str, &str)], body: &str) -> GitHubError {
        let Refusal::Fault(fault) = refused(status, headers, body) else {
            panic!("a limit");
        };
        GitHubError {
            attempt: String::new(),
            is_write: true,
            fault,
        }
    }

    #[track_caller]
    fn wait(status: u16, headers: &[(&'static str, &str)], body: &str) -> Option<i64> {
        match refused(status, headers, body) {
            Refusal::Limit(limit) => limit.wait.map(|wait| wait.num_seconds()),
            Refusal::Fault(fault) => panic!("{fault}"),
        }
    }

    const USED_UP: [(&str, &str); 4] = [
        ("x-ratelimit-limit", "60"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "1795262520"),
        ("date", "Sat, 21 Nov 2026 12:01:00 GMT"),
    ];

    #[test]
    fn limits_are_told_from_missing_permissions_and_their_times_are_read() {
        assert_eq!(wait(429, &[("retry-after", "7")], "{}"), Some(7));
        assert_eq!(wait(403, &[("retry-after", "7")], "<html>"), Some(7));
        let date = ("retry-after", "Sat, 21 Nov 2026 12:00:30 GMT");
        assert_eq!(wait(429, &[date], "{}"), Some(30));
        // The reset less the server's own time, however wrong our clock is.
        assert_eq!(wait(403, &USED_UP, "{}"), Some(60));
        assert_eq!(wait(429, &[], ""), None);
        let secondary = r#"{"message": "You have exceeded a secondary rate limit."}"#;
        assert_eq!(wait(403, &[], secondary), None);
        let quick = r#"{"message": "Validation Failed", "errors": [{"resource": "PullRequest",
            "code": "custom", "message": "was submitted too quickly"}]}"#;
        assert_eq!(wait(422, &[], quick), None);
        let scopes = [("x-accepted-oauth-scopes", "repo")];
        let error = fault(403, &scopes, r#"{"message": "Resource not accessible"}"#);
        insta::assert_snapshot!(error.fault(), @"GitHub forbids it (403): Resource not accessible; sufficient is: repo");
        assert!(!error.is_transient() && !error.is_ambiguous());
    }

    #[test]
    fn a_refusal_of_a_pull_request_tells_why() {
        let body = |message: &str| {
            format!(
                r#"{{"message": "Validation Failed", "errors": [{{"resource": "PullRequest", "code": "custom", "message": "{message}"}}]}}"#
            )
        };
        let exists = fault(422, &[], &body("A pull request already exists for o:b."));
        assert!(exists.is_already_exists());
        let empty = fault(422, &[], &body("No commits between main and b"));
        assert!(!empty.is_already_exists());
        let other =
            r#"{"message": "Validation Failed", "errors": [{"field": "head", "code": "invalid"}]}"#;
        let other = fault(422, &[], other);
        assert!(!other.is_already_exists());
        insta::assert_snapshot!(other.fault(), @"GitHub does not take it (422): Validation Failed: head invalid");
    }

    #[test]
    fn a_login_page_is_not_taken_for_a_refusal() {
        for status in [401, 403, 404, 410, 422] {
            let error = fault(
                status,
                &[("content-type", "text/html")],
                "<html>Log in</html>",
            );
            assert!(error.is_transient() && error.is_ambiguous(), "{status}");
        }
        let words = "a\u{1b}[2J\u{202e}\nsecond".to_owned() + &"x".repeat(10_000);
        let body = serde_json::json!({ "message": words }).to_string();
        assert_eq!(
            fault(410, &[], &body).fault().to_string(),
            "it is gone for good (410): a\\u{202e}"
        );
    }
}
