//! The course of a run in a few lines: what its process did and what went wrong one by one, what it
//! used and said in sums.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::PathBuf;

use crate::cli::happenings::{self, Since, Weight};
use crate::model::text;
use crate::store::events::{self, LoggedEvent};

/// So many lines are kept of the beginning, and again of the end.
const MAX_LINES: usize = 12;

/// Tells the course of a run from its events; nothing where there are none.
pub(crate) fn timeline(path: PathBuf, since: Since) -> io::Result<Vec<String>> {
    let mut course = Course {
        since,
        ..Course::default()
    };
    events::each_event(path, |event| course.take(&event))?;
    course.sum_up();
    let Course {
        head,
        tail,
        left_out,
        ..
    } = course;
    let gap = (left_out > 0).then(|| format!("         … {left_out} more, see `logs` …"));
    Ok(head.into_iter().chain(gap).chain(tail).collect())
}

#[derive(Debug, Default)]
struct Course {
    since: Since,
    head: Vec<String>,
    tail: VecDeque<String>,
    left_out: usize,
    work: Work,
}

/// What was done since the last line.
#[derive(Debug, Default)]
struct Work {
    began: String,
    messages: usize,
    tools: BTreeMap<String, usize>,
}

impl Course {
    fn take(&mut self, event: &LoggedEvent) {
        let time = self.since.tell(event);
        let weight = happenings::weight(event);
        match weight {
            Weight::Quiet => {}
            Weight::Lifecycle | Weight::Trouble => {
                self.sum_up();
                self.line(format!("{time}  {}", happenings::words(event)));
            }
            Weight::Message | Weight::Tool => {
                if self.work.began.is_empty() {
                    self.work.began = time;
                }
                if weight == Weight::Tool {
                    let tool = text::first_line(event.text("name"), 30);
                    *self.work.tools.entry(tool).or_default() += 1;
                } else if !event.is("continued") {
                    self.work.messages += 1;
                }
            }
        }
    }

    fn sum_up(&mut self) {
        let Work {
            began,
            messages,
            tools,
        } = std::mem::take(&mut self.work);
        let used = tools.values().sum::<usize>();
        let mut names: Vec<_> = tools.iter().collect();
        names.sort_by_key(|(_, number)| std::cmp::Reverse(**number));
        let names: Vec<_> = names
            .iter()
            .take(6)
            .map(|(name, number)| format!("{name} {number}"))
            .collect();
        let parts = [
            (messages > 0).then(|| text::count(messages, "message")),
            (used > 0).then(|| format!("{} ({})", text::count(used, "tool use"), names.join(", "))),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            self.line(format!("{began}  {}", parts.join(", ")));
        }
    }

    fn line(&mut self, line: String) {
        if self.head.len() < MAX_LINES {
            self.head.push(line);
            return;
        }
        self.tail.push_back(line);
        if self.tail.len() > MAX_LINES {
            self.tail.pop_front();
            self.left_out += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_events_become_few_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("events.jsonl");
        let event = |second: usize, rest: &str| {
            let time = format!("2026-02-19T20:{:02}:{:02}+00:00", second / 60, second % 60);
            format!("{{\"time\":\"{time}\",{rest}}}\n")
        };
        let mut log = event(
            0,
            r#""type":"lifecycle","phase":"started","detail":"process 7""#,
        );
        for second in 1..40 {
            log += &event(second, r#""type":"tool_use","name":"Bash","detail":"ls""#);
            log += &event(second, r#""type":"usage""#);
        }
        log += &event(41, r#""type":"message","text":"hm""#);
        for second in 42..100 {
            log += &event(second, r#""type":"retry","message":"over\u001b[2Jloaded""#);
        }
        log += &event(100, r#""type":"lifecycle","phase":"ended","detail":"""#);
        log += "torn";
        std::fs::File::create(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, log.as_bytes()))
            .unwrap();
        let lines = timeline(path, Since(None)).unwrap();
        assert_eq!(lines.len(), 2 * MAX_LINES + 1);
        assert_eq!(lines[0], "  0m00s  started (process 7)");
        assert_eq!(lines[1], "  0m01s  1 message, 39 tool uses (Bash 39)");
        assert_eq!(lines[2], "  0m42s  ! tries again: overloaded");
        assert!(lines[MAX_LINES].contains("37 more"), "{}", lines[MAX_LINES]);
        assert_eq!(lines[2 * MAX_LINES], "  1m40s  ended");
    }
}
