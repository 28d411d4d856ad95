//! Units of systemd, as far as they start this program at certain times. Pure: texts in.
//!
//! ```text
//! [Timer]                                  [Service]
//! OnCalendar=Mon *-*-* 06:40:00            WorkingDirectory=/home/you/project
//! RandomizedDelaySec=300                   ExecStart="/usr/bin/agent-runner" run --task review
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use crate::schedule::crontab::{self, Call, Job};
use crate::schedule::systemd::Calendar;

/// A timer whose service starts this program.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timer {
    /// Its name, such as `agent-runner-review-claude.timer`.
    pub name: String,
    /// What its service starts.
    pub call: Call,
    /// The values of its `OnCalendar=`, as they are written.
    pub calendars: Vec<String>,
    /// When it is due, as far as that is understood.
    pub times: Vec<Calendar>,
    /// What of its times is not understood.
    pub unread: Vec<String>,
    /// How late systemd may start the service.
    pub tolerance: Duration,
    /// A start that was missed while the machine was off is made up for.
    pub persistent: bool,
}

/// The least that systemd is late, where a timer says nothing of `AccuracySec=`.
const ACCURACY: Duration = Duration::from_mins(1);

/// The name of the service that a timer of this name and text starts.
pub fn service_of(name: &str, timer: &str) -> String {
    let named = values(timer, "Timer", "Unit").pop();
    named.unwrap_or_else(|| format!("{}.service", stem(name)))
}

/// The name of the template that a unit is an instance of: `a@.timer` of `a@b.timer`.
pub fn template_of(name: &str) -> Option<String> {
    let (before, after) = name.split_once('@')?;
    let (_, kind) = after.rsplit_once('.')?;
    Some(format!("{before}@.{kind}"))
}

impl Timer {
    /// The timer of this name, by its text and that of its service, each with what drop-ins add to
    /// it; `None` where the service does not start this program. `home` stands for `%h`.
    pub fn read(name: &str, timer: &str, service: &str, home: &str) -> Option<Self> {
        let instance = stem(name).split_once('@').map_or("", |(_, after)| after);
        let expand = |text: &str| specified(text, instance, home);
        let directory = values(service, "Service", "WorkingDirectory").pop();
        let directory = directory.map(|path| match path.trim_start_matches('-') {
            "~" => home.to_owned(),
            path => expand(path),
        });
        let starts = values(service, "Service", "ExecStart");
        let call = starts.iter().find_map(|line| call(&expand(line)))?;
        let calendars = values(timer, "Timer", "OnCalendar");
        let (mut times, mut unread) = (Vec::new(), Vec::new());
        for calendar in &calendars {
            match Calendar::parse(calendar) {
                Some(time) => times.push(time),
                None => unread.push(format!("OnCalendar={calendar}")),
            }
        }
        for key in [
            "OnActiveSec",
            "OnBootSec",
            "OnStartupSec",
            "OnUnitActiveSec",
            "OnUnitInactiveSec",
        ] {
            let values = values(timer, "Timer", key);
            unread.extend(values.iter().map(|value| format!("{key}={value}")));
        }
        let span = |key, usual| {
            let value = values(timer, "Timer", key).pop();
            value.map_or(usual, |value| {
                span(&value).unwrap_or(Duration::from_hours(1))
            })
        };
        Some(Self {
            name: name.to_owned(),
            call: Call {
                directory: call.directory.clone().or(directory),
                ..call
            },
            tolerance: span("AccuracySec", ACCURACY) + span("RandomizedDelaySec", Duration::ZERO),
            persistent: values(timer, "Timer", "Persistent")
                .pop()
                .is_some_and(|value| {
                    ["1", "yes", "true", "on"].contains(&value.to_ascii_lowercase().as_str())
                }),
            calendars,
            times,
            unread,
        })
    }
}

fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// The values of a key, in order; an empty one takes back those before it.
fn values(text: &str, section: &str, key: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut is_inside = false;
    let text = text.replace("\\\n", " ");
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            is_inside = name.strip_suffix(']') == Some(section);
        } else if let Some((name, value)) = line.split_once('=')
            && is_inside
            && name.trim_end() == key
        {
            match value.trim() {
                "" => values.clear(),
                value => values.push(value.to_owned()),
            }
        }
    }
    values
}

/// A value with the specifiers that name an instance or a home. See systemd.unit(5).
fn specified(text: &str, instance: &str, home: &str) -> String {
    let mut expanded = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, c == '%') {
            (_, true) => match characters.next() {
                Some('%') => expanded.push('%'),
                Some('i') => expanded.push_str(instance),
                Some('I') => expanded.push_str(&instance.replace('-', "/").replace(r"\x2d", "-")),
                Some('h') => expanded.push_str(home),
                other => expanded.extend(['%'].into_iter().chain(other)),
            },
            (c, false) => expanded.push(c),
        }
    }
    expanded
}

/// The call in a command line of a service: its own, or that of a shell which it starts.
fn call(line: &str) -> Option<Call> {
    let words = words(line.trim_start_matches(['-', '@', ':', '+', '!']));
    crontab::call(&words).or_else(|| {
        let shell = words
            .iter()
            .skip(1)
            .find(|word| word.contains("agent-runner"))?;
        let job = Job {
            expression: String::new(),
            timezone: None,
            command: shell.clone(),
            environment: BTreeMap::new(),
        };
        job.call()
    })
}

/// The words of a command line by systemd's rules: quotes, `\`, and `$$` for `$`.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match (c, quote) {
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            ('\\', _) => word.get_or_insert_default().extend(characters.next()),
            (' ' | '\t', None) => words.extend(word.take()),
            (c, _) => {
                if c == '$' {
                    characters.next_if_eq(&'$');
                }
                word.get_or_insert_default().push(c);
            }
        }
    }
    words.extend(word);
    words
}

/// A time span such as `300`, `10min` or `1h 30min`. See systemd.time(7).
fn span(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, after) = after.split_at(letters.unwrap_or(after.len()));
        let unit = match unit {
            "us" | "usec" => Duration::from_micros(1),
            "ms" | "msec" => Duration::from_millis(1),
            "" | "s" | "sec" | "second" | "seconds" => Duration::from_secs(1),
            "m" | "min" | "minute" | "minutes" => Duration::from_mins(1),
            "h" | "hr" | "hour" | "hours" => Duration::from_hours(1),
            "d" | "day" | "days" => Duration::from_hours(24),
            _ => return None,
        };
        total = total.checked_add(unit.checked_mul(number.parse().ok()?)?)?;
        rest = after.trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(timer: &str, service: &str) -> Option<Timer> {
        let name = "agent-runner-task@two-words.timer";
        Timer::read(
            name,
            &format!("[Timer]\n{timer}"),
            &format!("[Service]\n{service}"),
            "/h",
        )
    }

    #[test]
    fn a_timer_tells_what_it_starts_and_when() {
        let timer = read(
            "OnCalendar=daily\nOnCalendar=\nOnCalendar=Mon *-*-* 06:40:00\nRandomizedDelaySec=1h 5min\n\
             OnCalendar=*-*~01\nOnBootSec=5min\nPersistent=true\nAccuracySec=1s\n[Install]\nOnCalendar=no",
            "WorkingDirectory=%h/a%%b\nEnvironment=\"X=%h\"\n\
             ExecStart=-\"/opt/my tools/agent-runner\" --config \"/etc/a $$b\" \\\n  run --task %i --agent auto",
        );
        let timer = timer.unwrap();
        assert_eq!(timer.calendars, ["Mon *-*-* 06:40:00", "*-*~01"]);
        assert_eq!((timer.times.len(), timer.persistent), (1, true));
        assert_eq!(timer.unread, ["OnCalendar=*-*~01", "OnBootSec=5min"]);
        assert_eq!(timer.tolerance, Duration::from_secs(3901));
        let call = timer.call;
        assert_eq!(call.program, "/opt/my tools/agent-runner");
        assert_eq!(call.config.as_deref(), Some("/etc/a $b"));
        assert_eq!(call.directory.as_deref(), Some("/h/a%b"));
        assert_eq!(call.option("--task"), Some("two-words"));
        assert_eq!(
            service_of("x.timer", "[Timer]\nUnit=y.service"),
            "y.service"
        );
        assert_eq!(service_of("a@b.timer", ""), "a@b.service");
        assert_eq!(template_of("a@b.timer").as_deref(), Some("a@.timer"));
        assert_eq!(template_of("a.timer"), None);
    }

    #[test]
    fn a_service_may_start_a_shell_first_and_another_program_is_none_of_ours() {
        let timer = read(
            "OnCalendar=hourly",
            "ExecStart=/bin/sh -c 'cd /r && agent-runner heartbeat'",
        );
        let call = timer.unwrap().call;
        assert_eq!(
            (call.verb.as_str(), call.directory.as_deref()),
            ("heartbeat", Some("/r"))
        );
        assert_eq!(
            read("OnCalendar=hourly", "ExecStart=/usr/bin/apt-get update"),
            None
        );
    }
}
