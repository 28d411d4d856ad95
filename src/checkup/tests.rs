//! A machine that is well, and one fault at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::checkup::facts::{
    Access, Agent, Configuration, Cron, Facts, GitHub, Missing, Notifications, Refusal,
    RemoteRepository, Repository, RepositoryState, Runs, SignIn,
};
use crate::checkup::{Finding, Level, findings};
use crate::config::settings;
use crate::github::Grant;
use crate::schedule::crontab::{self, Job};
use crate::store::ground::Ground;

fn now() -> DateTime<Utc> {
    "2026-02-19T20:40:03Z".parse().unwrap()
}

fn well() -> Facts {
    let lines = "PATH=/usr/bin\n* * * * * agent-runner heartbeat\n";
    Facts {
        now: now(),
        configuration: Configuration {
            file: Some(PathBuf::from("/etc/config.toml")),
            set: vec![("ntfy.topic".to_owned(), "config.toml:3".to_owned())],
            has_home: true,
            can_look: true,
            ..Configuration::default()
        },
        agents: vec![codex()],
        repository: Repository {
            path: PathBuf::from("/srv/repository"),
            git: Ok(((2, 39), "2.39.5".to_owned())),
            state: Ok(RepositoryState {
                branch: Some("main".to_owned()),
                has_commit: true,
                committer: "A <a@b>".to_owned(),
                is_committer_configured: true,
                ..RepositoryState::default()
            }),
        },
        bad_prompts: Vec::new(),
        prompts: 7,
        runs: Runs {
            root: PathBuf::from("/srv/logs"),
            ground: Ok(ground()),
            foreign: Vec::new(),
            unlisted: Vec::new(),
            tracked: None,
            unignored: Vec::new(),
            crashed: Vec::new(),
            running: 1,
        },
        containments: vec![("auto".to_owned(), Ok("cgroup".to_owned()))],
        notifications: Notifications {
            server: "https://ntfy.example".to_owned(),
            reached: Some(Ok(())),
            refused_directory: PathBuf::from("/srv/logs/.state/outbox/refused"),
            ..Notifications::default()
        },
        github: Some(github()),
        queue: Some(Ok(())),
        cron: Cron {
            jobs: Ok(jobs(lines)),
            timers: Vec::new(),
            is_wanted: false,
            paths: vec!["/usr/bin".to_owned()],
            missing: Vec::new(),
            scheduled: vec!["nightly".to_owned()],
            heartbeat: Some(Duration::from_secs(30)),
        },
        skews: vec![("GitHub".to_owned(), -3)],
    }
}

fn codex() -> Agent {
    Agent {
        name: "codex".parse().unwrap(),
        binary_key: "binary",
        program: Ok(Some(PathBuf::from("/usr/bin/codex"))),
        no_interpreter: None,
        version: Some("0.169.0".to_owned()),
        tested: Some("0.169.0"),
        sign_in: SignIn::Seen("CODEX_API_KEY".to_owned()),
        parked: None,
        wanted_by: vec!["the crontab".to_owned()],
        probe: None,
    }
}

fn jobs(text: &str) -> Vec<Job> {
    crontab::jobs(text, &BTreeMap::new())
}

fn missing(program: &str, is_needed: bool) -> Missing {
    Missing {
        program: program.to_owned(),
        path: "/usr/bin".to_owned(),
        is_needed,
    }
}

fn ground() -> Ground {
    Ground {
        directory: PathBuf::from("/srv/logs"),
        exists: true,
        unwritable: None,
        unlockable: None,
        free_bytes: 100 << 30,
        free_files: Some(1 << 20),
        network: None,
        open_to_others: false,
    }
}

fn github() -> GitHub {
    GitHub {
        login: Ok("octocat".to_owned()),
        rate: Some((4900, 5000, now())),
        repositories: vec![RemoteRepository {
            name: "octo/hello".to_owned(),
            access: Ok(access()),
            refused: Vec::new(),
        }],
        label: Some(("copilot-agent".to_owned(), true)),
        grant: Grant::default(),
    }
}

fn access() -> Access {
    Access {
        can_write: Some(true),
        is_archived: false,
        is_private: false,
        renamed_to: None,
    }
}

/// Changes one thing of a machine that is well; gives what is found that was not before.
fn fault(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = well();
    change(&mut facts);
    let before = findings(&well());
    let mut after = findings(&facts);
    after.retain(|finding| finding.level > Level::Ok && !before.contains(finding));
    after
}

#[test]
fn a_machine_that_is_well_has_good_findings_alone() {
    for finding in findings(&well()) {
        assert_eq!(
            (finding.level, &finding.fix),
            (Level::Ok, &None),
            "{finding:?}"
        );
    }
}

type Change = fn(&mut Facts);

fn state(facts: &mut Facts) -> &mut RepositoryState {
    facts.repository.state.as_mut().unwrap()
}

fn ground_of(facts: &mut Facts) -> &mut Ground {
    facts.runs.ground.as_mut().unwrap()
}

fn access_of(facts: &mut Facts) -> &mut Access {
    let github = facts.github.as_mut().unwrap();
    github.repositories[0].access.as_mut().unwrap()
}

fn refusal(why: &str) -> Refusal {
    Refusal {
        why: why.to_owned(),
        fix: None,
    }
}

#[test]
fn every_fault_is_found_once_with_its_level_and_a_remedy() {
    use Level::{Error, Note, Warning};
    let faults: &[(Level, &str, Change)] = &[
        (Warning, "may write the file", |f| {
            f.configuration.open_to_others = true;
        }),
        (Warning, "is unknown", |f| {
            f.configuration.warnings.push(settings::Warning {
                about: "environment",
                what: "X is unknown".to_owned(),
                fix: "unset it".to_owned(),
            });
        }),
        (Warning, "HOME", |f| f.configuration.has_home = false),
        (Note, "root", |f| f.configuration.is_root = true),
        (Error, "cannot be seen", |f| {
            f.configuration.can_look = false;
        }),
        (Error, "started by the crontab", |f| {
            f.agents.push(Agent {
                program: Err("`kilo` is not in PATH".to_owned()),
                ..codex()
            });
        }),
        (Note, "not in PATH: kilo", |f| {
            let program = Err("`kilo` is not in PATH".to_owned());
            f.agents.push(Agent {
                name: "kilo".parse().unwrap(),
                program,
                wanted_by: Vec::new(),
                ..codex()
            });
        }),
        (Error, "none is installed", |f| {
            f.agents[0].program = Ok(None);
        }),
        (Error, "a script", |f| {
            f.agents[0].no_interpreter = Some("`node` is not in PATH".to_owned());
        }),
        (Note, "newer than 0.169.0", |f| {
            f.agents[0].version = Some("0.170.1".to_owned());
        }),
        (Note, "older than 0.169.0", |f| {
            f.agents[0].version = Some("0.12.0".to_owned());
        }),
        (Warning, "signed in", |f| {
            f.agents[0].sign_in = SignIn::NotSeen("run `codex login`");
        }),
        (Note, "only free models", |f| {
            f.agents[0].sign_in = SignIn::NotNeeded("run `kilo auth login`");
        }),
        (Warning, "parked", |f| {
            f.agents[0].parked = Some("parked until noon".to_owned());
        }),
        (Error, "run on trial failed: timeout", |f| {
            f.agents[0].probe = Some(Err("timeout".to_owned()));
        }),
        (Error, "older than 2.31", |f| {
            f.repository.git = Ok(((2, 20), "2.20.1".to_owned()));
        }),
        (Error, "git is not installed", |f| {
            f.repository.git = Err("git is not installed".to_owned());
        }),
        (Error, "not a git repository", |f| {
            f.repository.state = Err(("`/x` is not a git repository".to_owned(), None));
        }),
        (Note, "without a commit", |f| state(f).has_commit = false),
        (Warning, "no branch", |f| state(f).branch = None),
        (Note, "git knows nobody", |f| {
            state(f).is_committer_configured = false;
        }),
        (Warning, "2 uncommitted changes", |f| state(f).changes = 2),
        (Warning, "a rebase is half-done", |f| {
            state(f).in_progress = Some("rebase".to_owned());
        }),
        (Error, "index.lock", |f| {
            state(f).index_lock = Some(Duration::from_secs(3600));
        }),
        (Error, "nightly: no such prompt", |f| {
            f.bad_prompts
                .push(("nightly".to_owned(), "no such prompt".to_owned()));
        }),
        (Error, "Read-only", |f| {
            ground_of(f).unwritable = Some("Read-only file system".to_owned());
        }),
        (Error, "locked twice", |f| {
            ground_of(f).unlockable = Some("could be locked twice".to_owned());
        }),
        (Error, "NFS", |f| ground_of(f).network = Some("NFS")),
        (Warning, "`a` and 1 other are none of agent-runner's", |f| {
            f.runs.foreign = vec!["a".into(), "b/c".into()];
        }),
        (Warning, "cannot list `x`; runs in it", |f| {
            f.runs.unlisted = vec!["cannot list `x`".to_owned()];
        }),
        (Warning, "git tracks `notes.md`", |f| {
            f.runs.tracked = Some("notes.md".into());
        }),
        (Warning, "does not ignore `.state`", |f| {
            f.runs.unignored = vec![".state".to_owned()];
        }),
        (Warning, "other users", |f| {
            ground_of(f).open_to_others = true;
        }),
        (Error, "only 1 MiB are free", |f| {
            ground_of(f).free_bytes = 1 << 20;
        }),
        (Warning, "only 512 MiB are free", |f| {
            ground_of(f).free_bytes = 512 << 20;
        }),
        (Error, "only 3 files", |f| ground_of(f).free_files = Some(3)),
        (Warning, "only 3000 files", |f| {
            ground_of(f).free_files = Some(3000);
        }),
        (Error, "no such place", |f| {
            f.runs.ground = Err("no such place".to_owned());
        }),
        (Warning, "the runner of t/a/r died", |f| {
            f.runs.crashed.push("t/a/r".to_owned());
        }),
        (Note, "weakest", |f| {
            f.containments[0].1 = Ok("subreaper".to_owned());
        }),
        (Note, "outlives", |f| {
            f.containments[0].1 = Ok("group".to_owned());
        }),
        (Error, "bubblewrap", |f| {
            f.containments[0].1 = Err("needs bubblewrap".to_owned());
        }),
        (Note, "no topic", |f| f.notifications.reached = None),
        (Error, "cannot reach", |f| {
            f.notifications.reached = Some(Err(refusal("cannot reach it")));
        }),
        (Error, "forbidden", |f| {
            f.notifications.published = Some(Err("forbidden".to_owned()));
        }),
        (Note, "1 notification in the outbox", |f| {
            f.notifications.waiting = 1;
        }),
        (Error, "cannot read `1-a.json`", |f| {
            f.notifications.unread = vec!["cannot read `1-a.json`".to_owned()];
        }),
        (
            Warning,
            "2 notifications put aside for good; the last: b",
            |f| f.notifications.refused = vec!["a".to_owned(), "b".to_owned()],
        ),
        (Warning, "never reached", |f| f.notifications.expired = 1),
        (Error, "(401)", |f| {
            f.github.as_mut().unwrap().login = Err(refusal("bad (401)"));
        }),
        (Warning, "12 of 5000 requests", |f| {
            f.github.as_mut().unwrap().rate = Some((12, 5000, now()));
        }),
        (Error, "not written", |f| {
            access_of(f).can_write = Some(false);
        }),
        (Error, "archived", |f| access_of(f).is_archived = true),
        (Warning, "called octo/new now", |f| {
            access_of(f).renamed_to = Some("octo/new".to_owned());
        }),
        (Error, "(404)", |f| {
            f.github.as_mut().unwrap().repositories[0].access = Err(refusal("(404)"));
        }),
        (Error, "needs the scope `repo` and has: none", |f| {
            f.github.as_mut().unwrap().grant.scopes = Some(Vec::new());
        }),
        (Error, "has: public_repo", |f| {
            access_of(f).is_private = true;
            let scopes = vec!["public_repo".to_owned()];
            f.github.as_mut().unwrap().grant.scopes = Some(scopes);
        }),
        (Note, "no scope `workflow`", |f| {
            let scopes = vec!["public_repo".to_owned()];
            f.github.as_mut().unwrap().grant.scopes = Some(scopes);
        }),
        (
            Error,
            "permission contents: write, pull_requests: write",
            |f| {
                let has = [("issues", "write"), ("contents", "read")];
                let has = has.map(|(name, level)| (name.to_owned(), level.to_owned()));
                f.github.as_mut().unwrap().grant.permissions = has.into();
            },
        ),
        (Warning, "GitHub ends at", |f| {
            f.github.as_mut().unwrap().grant.expires_at = Some(now() + TimeDelta::days(3));
        }),
        (Warning, "[ntfy] ended at", |f| {
            f.notifications.token_end = Some(now() - TimeDelta::days(3));
        }),
        (Error, "not accessible", |f| {
            let refused = &mut f.github.as_mut().unwrap().repositories[0].refused;
            refused.push(refusal("not accessible by personal access token"));
        }),
        (Warning, "no label", |f| {
            f.github.as_mut().unwrap().label = Some(("x".to_owned(), false));
        }),
        (Error, "database", |f| {
            f.queue = Some(Err("no database".to_owned()));
        }),
        (Warning, "no line and no timer", |f| {
            f.cron.jobs = Ok(Vec::new());
        }),
        (Note, "crontab -l", |f| {
            f.cron.jobs = Err("`crontab -l` failed".to_owned());
        }),
        (Error, "expands", |f| {
            let text = "PATH=$HOME/bin\n* * * * * agent-runner heartbeat";
            f.cron.jobs = Ok(jobs(text));
        }),
        (Error, "PATH_PREFIX is not what it looks like", |f| {
            let long = "/x:".repeat(400);
            let text = format!("AGENT_RUNNER_PATH_PREFIX={long}\n* * * * * agent-runner heartbeat");
            f.cron.jobs = Ok(jobs(&text));
        }),
        (Error, "cron does not find claude", |f| {
            f.cron.missing.push(missing("claude", true));
        }),
        (Note, "cron does not find qwen", |f| {
            f.cron.missing.push(missing("qwen", false));
        }),
        (Warning, "the last one was 1h", |f| {
            f.cron.heartbeat = Some(Duration::from_secs(3600));
        }),
        (Warning, "none has come", |f| f.cron.heartbeat = None),
        (Warning, "10m behind that of GitHub", |f| f.skews[0].1 = 600),
    ];
    for (level, words, change) in faults {
        let found = fault(change);
        let [finding] = &found[..] else {
            panic!("{words}: {found:#?}");
        };
        assert_eq!(finding.level, *level, "{finding:?}");
        assert!(finding.what.contains(words), "{words}: {finding:?}");
        assert!(
            finding.fix.as_ref().is_some_and(|fix| fix.len() > 5),
            "{finding:?}"
        );
    }
}

#[test]
fn what_is_advised_fits_what_it_stands_under() {
    let advice = |change: Change, words: &str, not: &str| {
        let found = fault(change);
        let fix = found[0].fix.clone().unwrap_or_default();
        assert!(fix.contains(words) && !fix.contains(not), "{found:?}");
    };
    advice(
        |f| {
            f.configuration.warnings.push(settings::Warning {
                about: "file",
                what: "everybody can write it".to_owned(),
                fix: "chmod o-w it".to_owned(),
            });
        },
        "chmod o-w it",
        "unset",
    );
    advice(
        |f| f.notifications.token_end = Some(now() - TimeDelta::days(3)),
        "make a new one",
        "before",
    );
    advice(
        |f| state(f).in_progress = Some("bisect".to_owned()),
        "git bisect reset",
        "--continue",
    );
    advice(
        |f| ground_of(f).free_bytes = 512 << 20,
        "clean --older-than",
        "`agent-runner clean`",
    );
    advice(
        |f| f.cron.heartbeat = Some(Duration::from_secs(3600)),
        "cron or a timer",
        "its line",
    );
}

#[test]
fn a_timer_of_systemd_is_as_good_as_a_line_of_the_crontab() {
    let found = fault(|facts| {
        facts.cron.jobs = Err("`crontab` is not installed".to_owned());
        facts.cron.timers = vec!["agent-runner-nightly-auto.timer".to_owned()];
    });
    assert_eq!(found, []);
}

#[test]
fn programs_that_cron_misses_matter_only_where_cron_is_used() {
    let unused = |is_wanted| {
        fault(|facts| {
            facts.cron.jobs = Ok(Vec::new());
            facts.cron.scheduled.clear();
            facts.cron.is_wanted = is_wanted;
            facts.cron.missing.push(missing("git", true));
        })
    };
    assert_eq!(unused(false), []);
    assert_eq!(unused(true)[0].level, Level::Error);
}
