//! The text by which whoever delegated a task finds it, and its pull request, again.

use pulldown_cmark::{Event, Parser, Tag, TagEnd};
use serde_json::{Value, json};

use crate::model::repository::RepositoryName;

/// `<!-- agent_task_metadata {"task_id": "…"} -->`.
pub fn task_metadata(task_id: &str) -> String {
    // `-->` in an id would end the comment; JSON knows another way to write it.
    let id = json!(task_id).to_string();
    let id = id.replace('<', "\\u003c").replace('>', "\\u003e");
    format!("<!-- agent_task_metadata {{\"task_id\": {id}}} -->")
}

/// The task that a pull request says it is for, by the hidden comment in its text.
pub fn task_of(body: &str) -> Option<String> {
    let mut rest = body;
    while let Some(at) = rest.find("<!--") {
        rest = &rest[at + 4..];
        let inside = rest.split("-->").next().unwrap_or_default().trim_start();
        if let Some(json) = inside.strip_prefix("agent_task_metadata") {
            let value: Value = serde_json::from_str(json.trim()).ok()?;
            return value["task_id"].as_str().map(str::to_owned);
        }
    }
    None
}

/// Whether a pull request in `repository` with this text is the answer to a task, whose issue is
/// `issue`.
pub fn answers(
    body: &str,
    repository: &RepositoryName,
    task_id: &str,
    issue: &(RepositoryName, u64),
) -> bool {
    task_of(body).as_deref() == Some(task_id) || closed_issues(body, repository).contains(issue)
}

/// The issues that the text of a pull request in `repository` closes: `Fixes #7`,
/// `closes owner/repo#7`.
pub fn closed_issues(body: &str, repository: &RepositoryName) -> Vec<(RepositoryName, u64)> {
    let mut text = String::new();
    let mut is_code = false;
    for event in Parser::new(body) {
        match event {
            Event::Start(Tag::CodeBlock(_)) => is_code = true,
            Event::End(TagEnd::CodeBlock) => is_code = false,
            Event::Text(_) if is_code => {}
            Event::Text(part) => text.push_str(&part),
            Event::SoftBreak | Event::HardBreak | Event::End(_) => text.push('\n'),
            _ => {}
        }
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .windows(2)
        .filter_map(|pair| {
            let keyword = pair[0].trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let keywords = ["fixes", "closes", "resolves"];
            let closes = keywords
                .iter()
                .any(|known| keyword.eq_ignore_ascii_case(known));
            let (name, number) = pair[1].split_once('#').filter(|_| closes)?;
            let digits = number.trim_end_matches(|c: char| !c.is_ascii_digit());
            let name = match name {
                "" => repository.clone(),
                name => name.parse().ok()?,
            };
            Some((name, digits.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_ends_its_comment_and_is_read_back_as_it_was() {
        for id in ["a --> b", "\"}", "<!--", "ü\n"] {
            let comment = task_metadata(id);
            let inside = comment
                .strip_prefix("<!-- agent_task_metadata ")
                .and_then(|rest| rest.strip_suffix(" -->"))
                .unwrap();
            assert!(!inside.contains("-->"), "{comment}");
            let value: serde_json::Value = serde_json::from_str(inside).unwrap();
            assert_eq!(value["task_id"], id);
        }
    }

    #[test]
    fn a_pull_request_is_found_by_its_metadata_and_by_the_issues_it_closes() {
        let body = "Text\n\n<!-- agent_task_metadata {\"task_id\": \"t-1\"} -->\n\nFixes octo/d#7\n\
            closes #8, and Resolves: #9.\nfixes `#10`\nfixed #11\n\
            (Closes #12)\n\n    Fixes #13\n\n- Fixes: #14";
        assert_eq!(task_of(body).unwrap(), "t-1");
        assert_eq!(task_of("<!-- other --> none"), None);
        let repository = "octo/target".parse().unwrap();
        let closed: Vec<_> = closed_issues(body, &repository)
            .into_iter()
            .map(|(name, number)| format!("{name}#{number}"))
            .collect();
        assert_eq!(
            closed,
            [
                "octo/d#7",
                "octo/target#8",
                "octo/target#9",
                "octo/target#12",
                "octo/target#14"
            ]
        );
    }
}
