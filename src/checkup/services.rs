//! Who is talked to: ntfy, GitHub, the queue, cron.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::checkup::facts::{Access, Cron, Facts, GitHub, RemoteRepository};
use crate::checkup::{Report, Section};
use crate::model::clock::utc;
use crate::model::{duration, text};
use crate::schedule::crontab::{Job, MAX_LINE};

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
        (Some(Ok(())), None) if told.may_publish => {
            let what = format!("{server} answers and lets publish to the topic");
            report.ok(SECTION, "ntfy", what);
        }
        (Some(Ok(())), None) => {
            let what = format!(
                "{server} answers; `agent-runner notify --test` shows whether it publishes"
            );
            report.ok(SECTION, "ntfy", what);
        }
    }
    if let Some(end) = told.token_end {
        token_end(end, facts.now, "the token of [ntfy]", SECTION, report);
    }
    if told.waiting > 0 {
        let what = format!(
            "{} in the outbox",
            text::count(told.waiting, "notification")
        );
        let fix = "they are delivered by the next run or heartbeat that reaches the server";
        report.note(SECTION, "waiting", what, fix);
    }
    for why in &told.unread {
        let fix = "let the user who runs this read it, or remove it; it waits until then";
        report.error(SECTION, "unreadable", why, fix);
    }
    if let Some(title) = told.refused.last() {
        let refused = text::count(told.refused.len(), "notification");
        let what = format!("{refused} put aside for good; the last: {title}");
        let place = told.refused_directory.display();
        let fix = format!(
            "read them in {place}; mend topic or token where the server refused them; remove them"
        );
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
        of_github(github, facts.now, report);
    }
    match &facts.queue {
        None => {}
        Some(Ok(())) => report.ok(SECTION, "queue", "opens"),
        Some(Err(why)) => {
            report.error(
                SECTION,
                "queue",
                why,
                "check AGENT_RUNNER_QUEUE_URL or `url` in [queue], and that it is reachable; without \
                 one it is .state/queue.sqlite in the log root",
            );
        }
    }
}

fn of_github(github: &GitHub, now: DateTime<Utc>, report: &mut Report) {
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
    of_grant(github, now, report);
    for RemoteRepository {
        name,
        access,
        refused,
    } in &github.repositories
    {
        for refusal in refused {
            let usual = "give the token that permission for this repository";
            let fix = refusal.fix.as_deref().unwrap_or(usual);
            report.error(SECTION, name, &refusal.why, fix);
        }
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

/// What dispatch needs of an app, each with `write`.
const PERMISSIONS: [&str; 3] = ["contents", "issues", "pull_requests"];

fn of_grant(github: &GitHub, now: DateTime<Utc>, report: &mut Report) {
    const SECTION: Section = Section::Dispatch;
    let grant = &github.grant;
    if let Some(scopes) = &grant.scopes {
        let has = |wanted: &str| scopes.iter().any(|scope| scope == wanted);
        let accesses = github.repositories.iter();
        let mut accesses = accesses.filter_map(|found| found.access.as_ref().ok());
        let is_private = accesses.any(|access| access.is_private);
        if !has("repo") && (is_private || !has("public_repo")) {
            let told = if scopes.is_empty() {
                "none".to_owned()
            } else {
                scopes.join(", ")
            };
            let what =
                format!("the token may not write; it needs the scope `repo` and has: {told}");
            let fix = "edit the token on GitHub (Settings, Developer settings) and tick `repo`";
            report.error(SECTION, "scopes", what, fix);
        } else if !has("workflow") {
            let what =
                "the token has no scope `workflow`: commits to .github/workflows are refused";
            let fix = "tick `workflow` as well, if agents are to change workflows";
            report.note(SECTION, "scopes", what, fix);
        }
    }
    let missing: Vec<String> = PERMISSIONS
        .into_iter()
        .filter(|name| {
            grant
                .permissions
                .get(*name)
                .is_none_or(|level| level != "write")
        })
        .map(|name| format!("{name}: write"))
        .collect();
    if !grant.permissions.is_empty() && !missing.is_empty() {
        let what = format!("the app has not the permission {}", missing.join(", "));
        let fix = "add it in the app's settings, and accept it where the app is installed";
        report.error(SECTION, "permissions", what, fix);
    }
    if let Some(end) = grant.expires_at {
        token_end(end, now, "the token of GitHub", SECTION, report);
    }
}

/// A token that ends sooner is told of.
const ENDS_SOON: TimeDelta = TimeDelta::days(14);

fn token_end(
    end: DateTime<Utc>,
    now: DateTime<Utc>,
    whose: &str,
    section: Section,
    report: &mut Report,
) {
    if end - now < ENDS_SOON {
        let (verb, when) = if end <= now {
            ("ended", "")
        } else {
            ("ends", " before then")
        };
        let what = format!("{whose} {verb} at {}", utc(end));
        let fix = format!("make a new one{when}, and configure it");
        report.warning(section, "token", what, fix);
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
    let jobs: &[Job] = match &cron.jobs {
        Ok(jobs) => jobs,
        Err(why) => {
            if cron.timers.is_empty() {
                let fix = "try `crontab -l`; timers of systemd do as well";
                report.note(SECTION, "crontab", why, fix);
            }
            &[]
        }
    };
    if !cron.timers.is_empty() {
        let number = text::count(cron.timers.len(), "timer");
        let what = format!("{number} of it: {}", cron.timers.join(", "));
        report.ok(SECTION, "systemd", what);
    }
    if !jobs.is_empty() {
        let what = format!("{} this program", start(jobs.len()));
        report.ok(SECTION, "crontab", what);
    } else if !cron.scheduled.is_empty() && cron.jobs.is_ok() && cron.timers.is_empty() {
        let tasks = cron.scheduled.join(", ");
        let what =
            format!("no line and no timer starts this program, and these have a schedule: {tasks}");
        let fix = "`agent-runner schedule install`, or `agent-runner schedule systemd`";
        report.warning(SECTION, "crontab", what, fix);
    }
    if let Some((name, why)) = jobs.iter().find_map(bad_path) {
        let what = format!("its {name} is not what it looks like: {why}");
        report.error(
            SECTION,
            "crontab",
            what,
            "write whole directories, fewer than 998 characters",
        );
    }
    if !jobs.is_empty() || cron.is_wanted {
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
            let fix = "see that cron or a timer starts `agent-runner heartbeat` each minute";
            report.warning(SECTION, "heartbeat", what, fix);
        }
        None if jobs.iter().any(is_heartbeat) => {
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
    for missing in &cron.missing {
        let what = format!("cron does not find {} in {}", missing.program, missing.path);
        let fix = "run `agent-runner schedule install` where it is found, or put its directory \
                   into a line PATH=… above yours";
        if missing.is_needed {
            report.error(SECTION, "PATH", what, fix);
        } else {
            report.note(SECTION, "PATH", what, fix);
        }
    }
    if cron.missing.is_empty() {
        report.ok(
            SECTION,
            "PATH",
            format!(
                "cron finds every program in {}",
                cron.paths.join(" and in ")
            ),
        );
    }
}

/// A variable with directories for programs that does not say what it seems to, and why.
fn bad_path(job: &Job) -> Option<(&'static str, String)> {
    ["PATH", "AGENT_RUNNER_PATH_PREFIX"]
        .into_iter()
        .find_map(|name| {
            let value = job.environment.get(name)?;
            let why = if value.contains(['$', '~']) {
                "cron expands neither `$` nor `~`".to_owned()
            } else if name.len() + value.len() >= MAX_LINE {
                format!("cron cuts off what is beyond {MAX_LINE} characters")
            } else {
                return None;
            };
            Some((name, why))
        })
}

fn is_heartbeat(job: &Job) -> bool {
    job.call().is_some_and(|call| call.verb == "heartbeat")
}

fn start(lines: usize) -> String {
    let verb = if lines == 1 { "starts" } else { "start" };
    format!("{} {verb}", text::count(lines, "line"))
}
