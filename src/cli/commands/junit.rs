//! A run as JUnit XML: its checks as test cases, and one more for its own outcome, so that a run that
//! came to no check is red, too.

use std::io;

use chrono::SecondsFormat;

use crate::model::record::Record;
use crate::model::text;
use crate::store::events;
use crate::store::reader::Run;

/// A check as its event tells it.
struct Case {
    name: String,
    seconds: f64,
    failure: Option<String>,
    output: String,
}

/// Writes the page. Secrets are masked in what it is made of.
///
/// # Errors
/// When the run's events cannot be read.
pub(super) fn page(run: &Run) -> io::Result<String> {
    let mut cases = vec![outcome(&run.record)];
    events::each_event(run.directory.events(), |event| {
        if event.kind == "check" {
            let failure = event.text("failure");
            cases.push(Case {
                name: event.text("command").to_owned(),
                seconds: event.number("seconds").unwrap_or(0.0),
                failure: (!failure.is_empty()).then(|| failure.to_owned()),
                output: event.text("output").to_owned(),
            });
        }
    })?;
    Ok(xml(run, &cases))
}

fn outcome(record: &Record) -> Case {
    let failure = (!record.outcome.is_good()).then(|| {
        let error = record.error.as_deref().unwrap_or("no more is known");
        format!("{}: {}", record.outcome, text::first_line(error, 1000))
    });
    Case {
        name: "outcome".to_owned(),
        seconds: record.elapsed.map_or(0.0, |elapsed| elapsed.as_secs_f64()),
        failure,
        output: record.last_message.clone().unwrap_or_default(),
    }
}

fn xml(run: &Run, cases: &[Case]) -> String {
    let record = &run.record;
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    // The whole run's time has that of the checks in it.
    let seconds = cases.first().map_or(0.0, |outcome| outcome.seconds);
    let counts = format!(
        "tests=\"{}\" failures=\"{failures}\" errors=\"0\"",
        cases.len()
    );
    let name = escape(&run.path.to_string());
    let start = record.start_time;
    let start = start.map(|start| start.to_rfc3339_opts(SecondsFormat::Secs, true));
    let start = start.map_or_else(String::new, |start| format!(" timestamp=\"{start}\""));
    let host = record.host.as_deref();
    let host = host.map_or_else(String::new, |host| {
        format!(" hostname=\"{}\"", escape(host))
    });
    let mut page = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"agent-runner\" {counts} time=\"{seconds:.3}\">\n  \
         <testsuite name=\"{name}\" {counts} skipped=\"0\" time=\"{seconds:.3}\"{start}{host}>\n"
    );
    let class = escape(&format!("{}.{}", run.path.task, run.path.agent));
    for case in cases {
        page.extend([format!(
            "    <testcase name=\"{}\" classname=\"{class}\" time=\"{:.3}\">\n",
            escape(&case.name),
            case.seconds
        )]);
        if let Some(failure) = &case.failure {
            let message = escape(failure);
            page.extend([format!(
                "      <failure message=\"{message}\" type=\"failure\">{message}</failure>\n"
            )]);
        }
        if !case.output.is_empty() {
            let output = escape(&case.output);
            page.extend([format!("      <system-out>{output}</system-out>\n")]);
        }
        page.push_str("    </testcase>\n");
    }
    page.push_str("  </testsuite>\n</testsuites>\n");
    page
}

/// A text as XML 1.0 takes it, in an element and in an attribute; characters that it has no form for
/// are shown as `\u{..}`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            '\n' | '\t' => escaped.push(c),
            '\u{fffe}' | '\u{ffff}' => escaped.extend(c.escape_unicode()),
            c if c.is_control() => escaped.extend(c.escape_unicode()),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_escaped_as_xml_demands() {
        assert_eq!(
            escape("a<b>&\"c\"\r\n\u{0}\u{1b}[2J\u{7f}\u{ffff}é]]>"),
            "a&lt;b&gt;&amp;&quot;c&quot;&#13;\n\\u{0}\\u{1b}[2J\\u{7f}\\u{ffff}é]]&gt;"
        );
    }
}
