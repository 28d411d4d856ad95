//! A dispatch issue as HandsFree's provider writes it.

use std::fmt::Write as _;

use serde_json::Value;

use crate::model::repository::RepositoryName;
use crate::model::text;
use crate::sources::dispatch_issues::grammar::{self, Reading};

/// The longest part of an instruction that becomes a title, in characters.
const TITLE_CHARS: usize = 100;

/// A task that is handed to somebody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delegation {
    /// Its name.
    pub task_id: String,
    /// Who asks.
    pub user_id: String,
    /// What is to be done.
    pub instruction: String,
    /// The repository to change: as the issue names it, or the directory of a local task.
    pub target: Option<String>,
}

impl Delegation {
    /// The issue's title.
    pub fn title(&self) -> String {
        if self.instruction.is_empty() {
            return "Agent Task".to_owned();
        }
        let mut title: String = self.instruction.chars().take(TITLE_CHARS).collect();
        if title.len() < self.instruction.len() {
            title.push_str("...");
        }
        title
    }

    /// Makes sure that whoever works on the issue reads in it what is asked for; tells what is in
    /// the way.
    pub fn check(&self) -> Result<(), String> {
        let read = match grammar::read(&self.title(), Some(&self.body())) {
            Reading::Work(work) => work,
            Reading::Invalid { reason } => return Err(format!("the issue would say: {reason}")),
            Reading::NotOurs => {
                let why = "the instruction begins a code block or a comment that has no end, which \
                           would hide the rest of the issue";
                return Err(why.to_owned());
            }
        };
        if read.task_id != self.task_id {
            return Err(format!("the task would be called `{}`", read.task_id));
        }
        let lines = |text: &str| -> Vec<String> {
            let text = text.replace("\r\n", "\n").replace('\r', "\n");
            let lines = text
                .trim_end()
                .lines()
                .map(|line| line.trim_end().to_owned());
            lines.skip_while(String::is_empty).collect()
        };
        let (asked, read_lines) = (lines(&self.instruction), lines(&read.instruction));
        let same = asked.iter().zip(&read_lines).take_while(|(a, b)| a == b);
        let rest = &asked[same.count()..];
        if asked != read_lines {
            let line = rest.iter().find(|line| !line.is_empty());
            let line = text::first_line(line.map_or("", String::as_str), 80);
            return Err(format!(
                "from the line `{line}` on the instruction would be read as another: a heading of \
                 the first or second level, a line `---`, a comment and a line with a target end or \
                 leave it; \
                 put it another way, as a heading with `###`"
            ));
        }
        let asked = self.target.as_deref().map(str::parse::<RepositoryName>);
        match (asked.transpose(), read.target) {
            (Ok(asked), read) if asked == read => {}
            (_, Some(target)) => return Err(format!("the target would be {target}")),
            (_, None) => return Err("the target would not be found".to_owned()),
        }
        if read.hidden_characters {
            return Err("it holds characters that a reader does not see".to_owned());
        }
        Ok(())
    }

    /// The issue's text.
    pub fn body(&self) -> String {
        let mut lines = vec![
            "# Agent Task Delegation".to_owned(),
            String::new(),
            format!("**Task ID:** `{}`", self.task_id),
            format!("**User ID:** `{}`", self.user_id),
            String::new(),
        ];
        if let Some(target) = &self.target {
            lines.push(format!("**Target:** repository `{target}`"));
            lines.push(String::new());
        }
        lines.extend([
            "## Instructions".to_owned(),
            String::new(),
            self.instruction.clone(),
            String::new(),
            "---".to_owned(),
            String::new(),
            "<!-- agent_task_metadata".to_owned(),
            format!(
                "{{\"task_id\": {}, \"user_id\": {}, \"provider\": \"github_issue_dispatch\"}}",
                ascii_json(&self.task_id),
                ascii_json(&self.user_id)
            ),
            "-->".to_owned(),
        ]);
        lines.join("\n")
    }
}

/// A text as JSON in ASCII alone, as Python writes it.
fn ascii_json(text: &str) -> String {
    let mut ascii = String::new();
    for c in Value::from(text).to_string().chars() {
        // `-->` would end the comment.
        if c.is_ascii() && c != '>' {
            ascii.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(ascii, "\\u{unit:04x}").expect("a string takes all");
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delegation() -> Delegation {
        Delegation {
            task_id: "7a0c52e1-0000-4000-8000-000000000001".to_owned(),
            user_id: "u-1".to_owned(),
            instruction: "Correct the spelling.".to_owned(),
            target: Some("octo/target".to_owned()),
        }
    }

    #[test]
    fn the_issue_is_byte_for_byte_that_of_the_original_provider() {
        let whole = "# Agent Task Delegation\n\n\
            **Task ID:** `7a0c52e1-0000-4000-8000-000000000001`\n**User ID:** `u-1`\n\n\
            **Target:** repository `octo/target`\n\n## Instructions\n\nCorrect the spelling.\n\n---\n\n\
            <!-- agent_task_metadata\n{\"task_id\": \"7a0c52e1-0000-4000-8000-000000000001\", \
            \"user_id\": \"u-1\", \"provider\": \"github_issue_dispatch\"}\n-->";
        assert_eq!(delegation().body(), whole);
        assert_eq!(delegation().title(), "Correct the spelling.");
        let mut other = delegation();
        other.target = None;
        assert!(!other.body().contains("**Target:**"));
        other.instruction = "é".repeat(101);
        assert_eq!(other.title(), format!("{}...", "é".repeat(100)));
        other.instruction.clear();
        assert_eq!(other.title(), "Agent Task");
        other.user_id = "ü\"-->\u{1f600}".to_owned();
        assert!(other.body().contains(r#""\u00fc\"--\u003e\ud83d\ude00""#));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let delegation = delegation();
        let read = grammar::read(&delegation.title(), Some(&delegation.body()));
        let Reading::Work(work) = read else {
            panic!("{read:?}");
        };
        assert_eq!(work.task_id, delegation.task_id);
        assert_eq!(work.instruction.trim(), delegation.instruction);
        assert_eq!(work.target.unwrap().as_str(), "octo/target");
    }

    #[test]
    fn what_would_be_read_as_another_task_is_refused() {
        let check = |change: &dyn Fn(&mut Delegation)| {
            let mut delegation = delegation();
            change(&mut delegation);
            delegation.check()
        };
        let says = |instruction: &str| check(&|task| task.instruction = instruction.to_owned());
        for good in [
            "Correct it.",
            "\r\n\n    code first\r\n\r\n### Then\r\n\r\n- a\n- b  \n\n```diff\n--- a\n+++ b\n```\n\n",
        ] {
            assert_eq!(says(good), Ok(()), "{good}");
        }
        let refused = |instruction: &str, words: &str| {
            let reason = says(instruction).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        };
        refused("First A.\n\n## Then\n\nB.", "the line `## Then`");
        refused("First A.\n\n---\n\nB.", "the line `---`");
        refused(
            "A\nTarget Repository: octo/other\nB",
            "the line `Target Repository",
        );
        refused("Show this:\n\n```\nfn", "hide the rest");
        refused("Look:\n\n<!-- this", "hide the rest");
        refused("Do it.\u{202e}", "does not see");
        for bad in ["a\nb", " ", &"x".repeat(300)] {
            assert!(
                check(&|task| task.task_id = bad.to_owned()).is_err(),
                "{bad:?}"
            );
        }
        assert!(check(&|task| task.target = None).is_ok());
    }
}
