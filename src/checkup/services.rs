//! Who is talked to: ntfy, GitHub, the queue, cron.

use std::time::Duration;

use crate::checkup::crontab::Crontab;
use crate::checkup::facts::{Access, Cron, Facts, GitHub, RemoteRepository};
use crate::checkup::{Report, Section};
use crate::model::clock::utc;
use crate::model::{duration, text};

pub(super) fn notifications(facts: &Facts, report: &mut Report) {
    const SECTION: Section = Section::Notifications;
    let told = &facts.notifications;
    let server = told.server.as_str();
    match (&told.reached, &told.published) {
        (None, _) => {
            let fix = "set AGENT_RUNNER_NTFY_TOPIC, or `topic` in [ntfy]";
            report.note(SECTION, "ntfy", "off: no topic is configured", fix);
        }
        (Some(Err(refusal)), _) => {
            let usual = "check the server's address and the network; what is to be told waits";
            let fix = refusal.fix.as_deref().unwrap_or(usual);
            report.error(SECTION, "ntfy", format!("{server}: {}", refusal.why), fix);
        }
        (Some(Ok(())), Some(Err(why))) => {
            let fix = "check that the token or user may write to the topic";
            report.error(SECTION, "ntfy", format!("{server}: {why}"), fix);
        }
        (Some(Ok(())), Some(Ok(()))) => {
            report.ok(SECTION, "ntfy", format!("{server} took a test message"));
        }
        (Some(Ok(())), None) => report.ok(SECTION, "ntfy", format!("{server} answers")),
    }
    if told.waiting > 0 {
        let what = format!(
            "{} in the outbox",
            text::count(told.waiting, "notification")
        );
        let fix = "they are delivered by the next run or heartbeat that reaches the server";
        report.note(SECTION, "waiting", what, fix);
    }
    if told.refused > 0 {
        let refused = text::count(told.refused, "notification");
        let what = format!("the server refused {refused} for good");
        let place = told.refused_directory.display();
        let fix = format!("read them in {place}, mend topic or token, and remove them");
        report.warning(SECTION, "refused", what, fix);
    }
    if told.expired > 0 {
        let what = format!(
            "{} never reached anybody",
            text::count(told.expired, "notification")
        );
        let fix = "schedule `agent-runner heartbeat`, which delivers late ones";
        report.warning(SECTION, "expired", what, fix);
    }
}

/// Fewer requests are gone in a few polls.
const FEW_REQUESTS: u64 = 100;

pub(super) fn dispatch(facts: &Facts, report: &mut Report) {
    const SECTION: Section = Section::Dispatch;
    if let Some(github) = &facts.github {
        of_github(github, report);
    }
    match &facts.queue {
        None => {}
        Some(Ok(())) => report.ok(SECTION, "queue", "opens"),
        Some(Err(why)) => {
            report.error(
                SECTION,
                "queue",
                why,
                "check `url` in [queue], and that it is reachable",
            );
        }
    }
}

fn of_github(github: &GitHub, report: &mut Report) {
    const SECTION: Section = Section::Dispatch;
    match &github.login {
        Ok(login) => report.ok(SECTION, "GitHub", format!("signed in as {login}")),
        Err(refusal) => {
            let fix = refusal
                .fix
                .as_deref()
                .unwrap_or("check GITHUB_TOKEN or [github]");
            report.error(SECTION, "GitHub", &refusal.why, fix);
        }
    }
    if let Some((remaining, limit, reset)) = github.rate
        && remaining < FEW_REQUESTS.min(limit)
    {
        let what = format!(
            "{remaining} of {limit} requests are left until {}",
            utc(reset)
        );
        report.warning(
            SECTION,
            "rate limit",
            what,
            "poll less often, or use a token of its own",
        );
    }
    for RemoteRepository { name, access } in &github.repositories {
        match access {
            Ok(access) => of_repository(name, access, report),
            Err(refusal) => {
                let fix = refusal
                    .fix
                    .as_deref()
                    .unwrap_or("check its name and the token's access");
                report.error(SECTION, name, &refusal.why, fix);
            }
        }
    }
    if let Some((label, false)) = &github.label {
        let what = format!("the dispatch repository has no label `{label}`: no issue can have it");
        report.warning(
            SECTION,
            "label",
            what,
            "make the label on GitHub, or change `label`",
        );
    }
}

fn of_repository(name: &str, access: &Access, report: &mut Report) {
    const SECTION: Section = Section::Dispatch;
    if access.is_archived {
        report.error(
            SECTION,
            name,
            "is archived: nothing can be written",
            "unarchive it",
        );
    } else if access.can_write == Some(false) {
        let fix = "give the token's account write access";
        report.error(SECTION, name, "can be read and not written", fix);
    } else {
        report.ok(SECTION, name, "can be reached");
    }
    if let Some(new) = &access.renamed_to {
        let fix = format!("write {new} into the configuration");
        report.warning(SECTION, name, format!("is called {new} now"), fix);
    }
}

/// A heartbeat comes each minute.
const LATE_HEARTBEAT: Duration = Duration::from_secs(300);

/// Rate limits and expiry are told by the clock; a minute changes nothing there.
const MAX_SKEW_SECS: u64 = 60;

pub(super) fn schedule(facts: &Facts, report: &mut Report) {
    const SECTION: Section = Section::Schedule;
    let cron = &facts.cron;
    let crontab = match &cron.crontab {
        Ok(crontab) => crontab
            .as_ref()
            .filter(|crontab| !crontab.commands.is_empty()),
        Err(why) => {
            let fix = "try `crontab -l`; another timer does as well";
            report.note(SECTION, "crontab", why, fix);
            None
        }
    };
    let lines = crontab.map_or(0, |crontab| crontab.commands.len());
    if lines > 0 {
        let what = format!("{} this program", start(lines));
        report.ok(SECTION, "crontab", what);
    } else if !cron.scheduled.is_empty() && cron.crontab.is_ok() {
        let tasks = cron.scheduled.join(", ");
        let what = format!("no line starts this program, and these have a schedule: {tasks}");
        let fix = "put the lines of crontab.example that you want into `crontab -e`";
        report.warning(SECTION, "crontab", what, fix);
    }
    if let Some(why) = crontab.and_then(|crontab| crontab.bad_path) {
        let what = format!("its PATH is not what it looks like: {why}");
        report.error(
            SECTION,
            "crontab",
            what,
            "write whole directories, fewer than 998 characters",
        );
    }
    if lines > 0 || cron.is_wanted {
        path_of(cron, report);
    }
    match cron.heartbeat {
        Some(age) if age <= LATE_HEARTBEAT => {
            report.ok(
                SECTION,
                "heartbeat",
                format!("{} ago", duration::words(age)),
            );
        }
        Some(age) => {
            let what = format!("the last one was {} ago", duration::words(age));
            let fix = "check that cron runs, and its line `agent-runner heartbeat`";
            report.warning(SECTION, "heartbeat", what, fix);
        }
        None if crontab.is_some_and(Crontab::has_heartbeat) => {
            let what = "the crontab has one, and none has come here";
            let fix = "wait a minute; else check that cron runs, and the line's directory";
            report.warning(SECTION, "heartbeat", what, fix);
        }
        None => {
            let fix = "schedule `agent-runner heartbeat` each minute: it delivers late \
                       notifications and ends crashed runs";
            report.note(SECTION, "heartbeat", "there was none", fix);
        }
    }
    for (server, skew) in &facts.skews {
        if skew.unsigned_abs() > MAX_SKEW_SECS {
            let by = duration::words(Duration::from_secs(skew.unsigned_abs()));
            let direction = if *skew > 0 { "behind" } else { "ahead of" };
            let what = format!("this machine's is {by} {direction} that of {server}");
            report.warning(SECTION, "clock", what, "set it, best by NTP");
        }
    }
}

fn path_of(cron: &Cron, report: &mut Report) {
    const SECTION: Section = Section::Schedule;
    let path = &cron.path;
    for (program, is_needed) in &cron.missing {
        let what = format!("cron does not find {program} in {path}");
        let fix = "put its directory into the line PATH=… at the head of the crontab";
        if *is_needed {
            report.error(SECTION, "PATH", what, fix);
        } else {
            report.note(SECTION, "PATH", what, fix);
        }
    }
    if cron.missing.is_empty() {
        report.ok(
            SECTION,
            "PATH",
            format!("cron finds every program in {path}"),
        );
    }
}

fn start(lines: usize) -> String {
    let verb = if lines == 1 { "starts" } else { "start" };
    format!("{} {verb}", text::count(lines, "line"))
}
