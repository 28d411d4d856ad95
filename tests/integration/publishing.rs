//! Work on its way to a remote repository and back: a real git server over HTTP, a token, several
//! workers at once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use agent_runner::git::{
    Identity, Mirror, MirrorError, MirrorLimits, PushError, Remote, RemoteFault,
};
use agent_runner::model::dispatch::WorkKey;
use agent_runner::model::tree_policy::{TreeEvidence, TreeLink, TreePolicy};
use agent_runner::model::work_name::WorkName;
use base64::Engine as _;
use proptest::prelude::{ProptestConfig, any, proptest};
use tempfile::TempDir;

use crate::support::git_http::{GitServer, git, person};

const TOKEN: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

/// A server with the repository `octo/hello`, and room for mirrors and clones.
struct Place {
    server: GitServer,
    bare: PathBuf,
    space: TempDir,
}

impl Place {
    fn new() -> Self {
        let server = GitServer::new(TOKEN);
        let bare = server.repository("octo/hello");
        let space = tempfile::tempdir().unwrap();
        Self {
            server,
            bare,
            space,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.space.path().join(name)
    }

    fn mirror_named(&self, name: &str, token: &str) -> Mirror {
        let url = self.server.url("octo/hello");
        let remote = Remote::new(&url, Some(token.to_owned())).unwrap();
        Mirror::new(&inherited(), &self.path(name), remote)
    }

    fn mirror(&self) -> Mirror {
        self.mirror_named("mirrors/octo.hello", TOKEN)
    }

    /// What the server has on a branch.
    fn remote(&self, branch: &str) -> String {
        git(&self.bare, &["rev-parse", &format!("refs/heads/{branch}")])
    }
}

fn inherited() -> BTreeMap<OsString, OsString> {
    let path = std::env::var_os("PATH").unwrap();
    // What a person's shell may carry must not matter.
    let more = [
        ("HOME", "/root"),
        ("GIT_DIR", "/nowhere"),
        ("GIT_INDEX_FILE", "/nowhere"),
        ("GIT_SSH_COMMAND", "/bin/false"),
    ];
    let more = more.map(|(name, value)| (name.into(), value.into()));
    [("PATH".into(), path)].into_iter().chain(more).collect()
}

fn bot() -> Identity {
    Identity {
        name: "agent-runner".to_owned(),
        email: "agent-runner@example.invalid".to_owned(),
    }
}

fn key(number: &str) -> WorkKey {
    WorkKey::new("github", &["octo/hello", number])
}

fn commit_all(work: &Path, message: &str) {
    git(work, &["add", "-A"]);
    git(work, &["commit", "-q", "-m", message]);
}

/// Every file below a directory that holds one of the texts.
fn files_with(directory: &Path, texts: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(files_with(&path, texts));
        } else if let Ok(bytes) = fs::read(&path) {
            let told = String::from_utf8_lossy(&bytes);
            if texts.iter().any(|text| told.contains(text)) {
                found.push(path);
            }
        }
    }
    found
}

fn forms_of_the_token() -> Vec<String> {
    let basic = format!("x-access-token:{TOKEN}");
    let basic = base64::engine::general_purpose::STANDARD.encode(basic);
    vec![TOKEN.to_owned(), basic]
}

#[test]
fn work_is_published_from_a_private_repository_and_the_token_is_nowhere() {
    let place = Place::new();
    // A server whose hook tells all it knows, and takes its time.
    let hook = format!(
        "sleep 0.3; echo 'you are {TOKEN}' >&2; read old new name; [ $name != refs/heads/no ]"
    );
    place.server.pre_receive("octo/hello", &hook);
    let is_over = Arc::new(AtomicBool::new(false));
    let watcher = {
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || {
            let (mut seen, mut leaks) = (0, Vec::new());
            while !is_over.load(Ordering::SeqCst) {
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    let told = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                    let told = String::from_utf8_lossy(&told).into_owned();
                    seen += usize::from(told.contains("remote-http"));
                    if forms_of_the_token().iter().any(|form| told.contains(form)) {
                        leaks.push(told);
                    }
                }
            }
            (seen, leaks)
        })
    };

    let mirror = place.mirror();
    mirror.fetch().unwrap();
    assert_eq!(mirror.default_branch().unwrap().as_deref(), Some("main"));
    let base = mirror.tip("main").unwrap().unwrap();
    assert_eq!(base, place.remote("main"));
    assert_eq!(mirror.remote_tip("main").unwrap(), Some(base.clone()));
    assert_eq!(mirror.remote_tip("agent-task-x").unwrap(), None);

    let work = place.path("work");
    mirror.clone_to(&work, &base, "agent-task-x").unwrap();
    assert_eq!(
        git(&work, &["status", "--porcelain", "--branch"]),
        "## agent-task-x"
    );
    assert_eq!(git(&work, &["remote"]), "");
    assert_eq!(
        fs::read_to_string(work.join("README.md")).unwrap(),
        "# a repository\n"
    );
    fs::write(work.join("new.txt"), "new\n").unwrap();
    commit_all(&work, "the work");
    let taken = mirror
        .take(&work, &base, "agent-task-x", &key("7"))
        .unwrap();
    assert_eq!(taken, git(&work, &["rev-parse", "HEAD"]));

    let message = format!("Process agent task\n\n{}", key("7").trailer());
    let trace = "agent-tasks/x.md";
    let commit = mirror
        .commit_file(&taken, trace, b"trace\n", &message, &bot())
        .unwrap();
    assert_eq!(mirror.file(&commit, trace).unwrap().unwrap(), b"trace\n");
    assert_eq!(mirror.file(&commit, "none").unwrap(), None);
    mirror.push("agent-task-x", &commit, None).unwrap();
    assert_eq!(place.remote("agent-task-x"), commit);
    assert_eq!(
        git(&place.bare, &["log", "-1", "--format=%an", &commit]),
        "agent-runner"
    );

    mirror.fetch().unwrap();
    assert_eq!(mirror.tip("agent-task-x").unwrap(), Some(commit.clone()));
    assert_eq!(mirror.owner(&commit, &base).unwrap(), Some(key("7")));
    mirror.forget(&key("7")).unwrap();

    let refused = mirror.push("no", &commit, None).unwrap_err();
    is_over.store(true, Ordering::SeqCst);
    let (seen, leaks) = watcher.join().unwrap();
    assert!(seen > 0, "the watcher saw git speak with the server");
    assert_eq!(leaks, Vec::<String>::new());
    let forms = forms_of_the_token();
    assert_eq!(
        files_with(place.space.path(), &forms),
        Vec::<PathBuf>::new()
    );
    let denied = place
        .mirror_named("other", "wrong-token")
        .fetch()
        .unwrap_err();
    for told in [
        format!("{refused} {refused:?}"),
        format!("{denied} {denied:?}"),
        format!("{mirror:?}"),
    ] {
        assert!(!forms.iter().any(|form| told.contains(form)), "{told}");
    }
}

#[test]
fn of_any_number_of_workers_one_takes_a_branch() {
    let place = Place::new();
    let mirrors: Vec<Mirror> = (0..10)
        .map(|number| place.mirror_named(&format!("mirror-{number}"), TOKEN))
        .collect();
    let start = Barrier::new(mirrors.len());
    let race = |(number, mirror): (usize, &Mirror)| {
        mirror.fetch().unwrap();
        let base = mirror.tip("main").unwrap().unwrap();
        let message = format!("worker {number}");
        let commit = mirror
            .commit_file(&base, "a", b"a", &message, &bot())
            .unwrap();
        start.wait();
        // A server that is just moving the branch for somebody else says so, and is asked again.
        let began = Instant::now();
        loop {
            match mirror.push("agent-task-x", &commit, None) {
                Err(PushError::Mirror(error)) if error.is_transient() => {
                    assert!(began.elapsed() < Duration::from_secs(30), "{error}");
                }
                result => return (commit, result),
            }
        }
    };
    let results: Vec<_> = thread::scope(|scope| {
        let race = &race;
        let runners: Vec<_> = mirrors
            .iter()
            .enumerate()
            .map(|runner| scope.spawn(move || race(runner)))
            .collect();
        runners
            .into_iter()
            .map(|runner| runner.join().unwrap())
            .collect()
    });
    let winner = place.remote("agent-task-x");
    for (commit, result) in results {
        match result {
            Ok(()) => assert_eq!(commit, winner),
            Err(PushError::Taken { tip, .. }) => {
                assert_ne!(commit, winner);
                assert_eq!(tip, Some(winner.clone()));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_commit_of_somebody_else_on_the_branch_is_never_overwritten() {
    let place = Place::new();
    let mirror = place.mirror();
    mirror.fetch().unwrap();
    let base = mirror.tip("main").unwrap().unwrap();
    let commit = |parent: &str, name: &str| {
        mirror
            .commit_file(parent, name, b"x", name, &bot())
            .unwrap()
    };
    let (first, theirs) = (commit(&base, "first"), commit(&base, "theirs"));
    mirror.push("b", &first, None).unwrap();
    let second = commit(&first, "second");
    mirror.push("b", &second, Some(&first)).unwrap();
    for expected in [None, Some(&*first), Some(&*base)] {
        let error = mirror.push("b", &theirs, expected).unwrap_err();
        assert!(matches!(error, PushError::Taken { .. }), "{error}");
        assert_eq!(place.remote("b"), second);
    }
    git(&place.bare, &["update-ref", "-d", "refs/heads/b"]);
    let error = mirror.push("b", &theirs, Some(&second)).unwrap_err();
    assert!(
        matches!(error, PushError::Taken { tip: None, .. }),
        "{error}"
    );
}

#[test]
fn a_push_whose_answer_was_lost_is_found_to_have_landed() {
    let place = Place::new();
    let mirror = place.mirror();
    mirror.fetch().unwrap();
    let base = mirror.tip("main").unwrap().unwrap();
    let commit = mirror.commit_file(&base, "a", b"a", "a", &bot()).unwrap();
    place.server.loses_answers(true);
    mirror.push("b", &commit, None).unwrap();
    place.server.loses_answers(false);
    assert_eq!(place.remote("b"), commit);
    // Only who has no answer asks where the branch is.
    let requests = place.server.requests();
    assert!(requests.last().unwrap().contains("git-upload-pack"));
    // A worker that starts anew does it again.
    mirror.push("b", &commit, None).unwrap();
    assert_eq!(place.remote("b"), commit);
}

#[test]
fn a_server_that_refuses_a_commit_is_told_in_its_own_words() {
    let place = Place::new();
    let script = "printf 'no \\033[31msecrets\\007 here\\n' >&2; exit 1";
    place.server.pre_receive("octo/hello", script);
    let mirror = place.mirror();
    mirror.fetch().unwrap();
    let base = mirror.tip("main").unwrap().unwrap();
    let error = mirror.push("b", &base, None).unwrap_err();
    assert!(matches!(error, PushError::Rejected { .. }), "{error:?}");
    let told = error.to_string();
    assert!(
        told.contains("pre-receive hook declined") && told.contains("no secrets"),
        "{told}"
    );
    assert!(!told.chars().any(char::is_control), "{told:?}");
}

#[test]
fn a_redirect_is_not_followed_and_gets_no_token() {
    let place = Place::new();
    let elsewhere = GitServer::new(TOKEN);
    elsewhere.repository("octo/hello");
    let mirror = place.mirror();
    mirror.fetch().unwrap();
    let base = mirror.tip("main").unwrap().unwrap();
    place.server.redirects_to(elsewhere.url("octo"));
    let error = mirror.fetch().unwrap_err();
    let moved =
        |error: &MirrorError| matches!(error, MirrorError::Remote(RemoteFault::Moved { .. }));
    assert!(moved(&error) && !error.is_transient(), "{error}");
    let error = mirror.push("b", &base, None).unwrap_err();
    assert!(
        matches!(&error, PushError::Mirror(error) if moved(error)),
        "{error}"
    );
    assert_eq!(elsewhere.requests(), Vec::<String>::new());
}

#[test]
fn what_may_pass_is_told_from_what_will_not() {
    let place = Place::new();
    let denied = place.mirror_named("a", "wrong-token").fetch().unwrap_err();
    let is_denied = matches!(denied, MirrorError::Remote(RemoteFault::Denied { .. }));
    assert!(is_denied && !denied.is_transient(), "{denied}");
    let url = place.server.url("octo/none");
    let remote = Remote::new(&url, Some(TOKEN.to_owned())).unwrap();
    let denied = Mirror::new(&inherited(), &place.path("b"), remote)
        .fetch()
        .unwrap_err();
    assert!(
        matches!(denied, MirrorError::Remote(RemoteFault::Denied { .. })),
        "{denied}"
    );

    let remote = Remote::new("http://127.0.0.1:1/octo/hello", None).unwrap();
    let lost = Mirror::new(&inherited(), &place.path("c"), remote)
        .fetch()
        .unwrap_err();
    assert!(lost.is_transient(), "{lost}");
    place.server.is_silent(true);
    let limits = MirrorLimits {
        fetch: Duration::from_millis(500),
        ..MirrorLimits::default()
    };
    let lost = place.mirror().with_limits(limits).fetch().unwrap_err();
    place.server.is_silent(false);
    assert!(lost.is_transient(), "{lost}");
}

#[test]
fn workers_share_a_mirror_and_a_mirror_follows_its_remote() {
    let place = Place::new();
    git(&place.bare, &["branch", "old/one", "main"]);
    let mirror = place.mirror();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| mirror.fetch().unwrap());
        }
    });
    assert!(mirror.tip("old/one").unwrap().is_some());
    // A directory of branches becomes a branch.
    git(&place.bare, &["branch", "-D", "old/one"]);
    git(&place.bare, &["branch", "old", "main"]);
    mirror.fetch().unwrap();
    assert_eq!(mirror.tip("old/one").unwrap(), None);
    assert!(mirror.tip("old").unwrap().is_some());
    // What a killed runner left half-made is made whole, and what it held is let go.
    git(&place.bare, &["update-ref", "-d", "refs/heads/old"]);
    for lock in ["packed-refs.lock", "refs/heads/old.lock"] {
        let lock = place.path("mirrors/octo.hello").join(lock);
        let touch = ["-d", "1 hour ago", lock.to_str().unwrap()];
        assert!(
            Command::new("touch")
                .args(touch)
                .status()
                .unwrap()
                .success()
        );
    }
    fs::remove_file(place.path("mirrors/octo.hello/HEAD")).unwrap();
    mirror.fetch().unwrap();
    assert_eq!(mirror.tip("old").unwrap(), None);
    mirror.tidy().unwrap();
    assert!(mirror.tip("main").unwrap().is_some());
}

#[test]
fn a_mirror_with_broken_branches_is_mended_by_the_next_fetch() {
    let place = Place::new();
    let mirror = place.mirror();
    mirror.fetch().unwrap();
    let base = mirror.tip("main").unwrap();
    let directory = place.path("mirrors/octo.hello");
    fs::write(directory.join("refs/heads/main"), "").unwrap();
    mirror.fetch().unwrap();
    assert_eq!(mirror.tip("main").unwrap(), base);
}

#[test]
fn a_tree_that_would_fill_the_disk_is_not_checked_out() {
    let place = Place::new();
    // Ten trees, each ten times the one below: ten thousand million files.
    let person = |arguments: &[&str], input: &str| {
        let mut command = person(&place.bare);
        let file = place.path("input");
        fs::write(&file, input).unwrap();
        let output = command
            .args(arguments)
            .stdin(fs::File::open(&file).unwrap())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let mut entry = format!(
        "100644 blob {}",
        person(&["hash-object", "-w", "--stdin"], "boom")
    );
    for _ in 0..10 {
        let entries: Vec<_> = (0..10)
            .map(|number| format!("{entry}\t{number}\n"))
            .collect();
        let entries = entries.concat();
        entry = format!("040000 tree {}", person(&["mktree"], &entries));
    }
    let tree = entry.rsplit(' ').next().unwrap();
    let bomb = person(&["commit-tree", tree, "-m", "boom"], "");
    git(&place.bare, &["branch", "bomb", &bomb]);

    let limits = MirrorLimits {
        files: 1_000,
        ..MirrorLimits::default()
    };
    let mirror = place.mirror().with_limits(limits);
    // The many names of few objects are one fetch; the check of all paths is not made there.
    mirror.fetch().unwrap();
    let work = place.path("work");
    let error = mirror.clone_to(&work, &bomb, "b").unwrap_err();
    assert!(matches!(error, MirrorError::TooLarge { .. }), "{error}");
    assert!(!work.exists());
}

#[test]
fn what_any_commit_changed_is_judged_and_not_the_sum_alone() {
    let place = Place::new();
    let mirror = place.mirror();
    mirror.fetch().unwrap();
    let base = mirror.tip("main").unwrap().unwrap();
    let work = place.path("work");
    mirror.clone_to(&work, &base, "b").unwrap();
    let secret = "hunter2hunter2";
    fs::write(work.join("passing.txt"), format!("it is {secret}\n")).unwrap();
    fs::create_dir_all(work.join(".github/workflows")).unwrap();
    fs::write(work.join(".github/workflows/x.yml"), "on: push\n").unwrap();
    commit_all(&work, "adds");
    fs::remove_file(work.join("passing.txt")).unwrap();
    fs::remove_dir_all(work.join(".github")).unwrap();
    symlink("/etc/passwd", work.join("link")).unwrap();
    fs::write(work.join("README.md"), "# a repository\nmore\n").unwrap();
    fs::write(work.join("readme.md"), "").unwrap();
    commit_all(&work, "removes");
    git(
        &work,
        &[
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            &format!("says {secret}"),
        ],
    );

    let tip = mirror.take(&work, &base, "b", &key("1")).unwrap();
    let changes = mirror.changes(&base, &tip).unwrap();
    let mut secrets = Vec::new();
    let mut added = BTreeMap::new();
    let visit = |place: &str, bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if text.contains(secret) {
            secrets.push(place.to_owned());
        }
        added.insert(place.to_owned(), text);
    };
    mirror.added_content(&base, &tip, &changes, visit).unwrap();
    assert_eq!(
        added["`README.md`"], "more\n",
        "what was there is not added"
    );
    let (paths, links) = mirror.tree(&tip).unwrap();
    let (path, target) = (b"link".to_vec(), b"/etc/passwd".to_vec());
    assert_eq!(links, [TreeLink { path, target }]);
    let evidence = TreeEvidence {
        changes: &changes,
        paths: &paths,
        links: &links,
        secrets: &secrets,
    };
    let violations = TreePolicy::default().violations(evidence);
    let told: Vec<_> = violations.iter().map(ToString::to_string).collect();
    let told = told.join("\n").replace(&tip[..8], "[ID]");
    insta::assert_snapshot!(told);
}

#[test]
fn a_fault_of_this_machine_is_no_refusal_of_the_work() {
    let place = Place::new();
    place.mirror().fetch().unwrap();
    let base = place.mirror().tip("main").unwrap().unwrap();
    let work = place.path("work");
    place.mirror().clone_to(&work, &base, "b").unwrap();
    let full = "echo 'fatal: write error: No space left on device' >&2; exit 128";
    let poor = "echo 'fatal: Out of memory, malloc failed' >&2; exit 128";
    for (command, deed) in [
        ("fetch", full),
        ("fetch", poor),
        ("merge-base", full),
        ("fetch", "kill -9 $$"),
        ("merge-base", "kill -9 $$"),
    ] {
        let mut environment = inherited();
        let path = environment[OsStr::new("PATH")].clone();
        let (bin, shown) = (tempfile::tempdir().unwrap(), path.to_str().unwrap());
        let script = format!(
            "#!/bin/sh\nPATH='{shown}'\ncase \" $* \" in *' {command} '*) {deed};; esac\n\
             exec git \"$@\"\n"
        );
        fs::write(bin.path().join("git"), script).unwrap();
        fs::set_permissions(bin.path().join("git"), Permissions::from_mode(0o755)).unwrap();
        let with_script = format!("{}:{shown}", bin.path().display());
        environment.insert("PATH".into(), with_script.into());
        let remote = Remote::new(&place.server.url("octo/hello"), None).unwrap();
        let mirror = Mirror::new(&environment, &place.path("mirrors/octo.hello"), remote);
        let error = mirror.take(&work, &base, "b", &key("1")).unwrap_err();
        assert!(!matches!(error, MirrorError::Work { .. }), "{error}");
        // It counts as an attempt.
        assert!(!error.is_transient(), "{error}");
    }
}

#[test]
fn only_work_on_top_of_the_base_is_taken() {
    let place = Place::new();
    let mirror = place.mirror();
    mirror.fetch().unwrap();
    let base = mirror.tip("main").unwrap().unwrap();
    let work = place.path("work");
    mirror.clone_to(&work, &base, "b").unwrap();
    assert_eq!(mirror.take(&work, &base, "b", &key("1")).unwrap(), base);
    git(&work, &["checkout", "-q", "--orphan", "other"]);
    git(&work, &["commit", "-q", "--allow-empty", "-m", "no parent"]);
    git(&work, &["branch", "-f", "b", "other"]);
    let error = mirror.take(&work, &base, "b", &key("1")).unwrap_err();
    assert!(error.to_string().contains("does not continue"), "{error}");
    // A graft that says otherwise changes nothing.
    let orphan = git(&work, &["rev-parse", "b"]);
    git(&work, &["replace", "--graft", &orphan, &base]);
    assert!(mirror.take(&work, &base, "b", &key("1")).is_err());
    git(&work, &["branch", "-D", "b"]);
    let error = mirror.take(&work, &base, "b", &key("1")).unwrap_err();
    assert!(matches!(error, MirrorError::Work { .. }), "{error}");
}

#[test]
fn an_agent_cannot_claim_a_branch_for_other_work() {
    let place = Place::new();
    let mirror = place.mirror();
    mirror.fetch().unwrap();
    let base = mirror.tip("main").unwrap().unwrap();
    let (ours, other) = (key("1"), key("2"));
    let commit = |parent: &str, path: &str, key: &WorkKey| {
        let message = format!("words\n\n{}", key.trailer());
        mirror
            .commit_file(parent, path, b"x", &message, &bot())
            .unwrap()
    };
    let forged = commit(&base, "src/a", &other);
    assert_eq!(mirror.owner(&forged, &base).unwrap(), None);
    let traced = commit(&forged, "agent-tasks/a.md", &ours);
    assert_eq!(mirror.owner(&traced, &base).unwrap(), Some(ours.clone()));
    let later = commit(&traced, "src/b", &other);
    assert_eq!(mirror.owner(&later, &base).unwrap(), Some(ours));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_task_id_makes_a_branch_that_git_accepts(task_id in any::<String>(), number in any::<u32>()) {
        let key = key(&number.to_string());
        for name in [WorkName::first(&task_id), WorkName::second(&task_id, &key)] {
            let branch = name.branch();
            let checked = Command::new("git")
                .args(["check-ref-format", &format!("refs/heads/{branch}")])
                .status()
                .unwrap();
            assert!(checked.success(), "{branch:?}");
            assert!(branch.starts_with("agent-task-") && !branch.to_lowercase().ends_with(".lock"));
            let file = name.trace_path();
            let shown = file.strip_prefix("agent-tasks/").unwrap().strip_suffix(".md").unwrap();
            assert!(!shown.is_empty() && !shown.starts_with('-'), "{file:?}");
            assert!(shown.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)), "{file:?}");
        }
    }
}
