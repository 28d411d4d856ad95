//! A repository that an agent has left as a trap: everything by which git runs a program that the
//! repository names is planted there. What the runner does with it runs none of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use agent_runner::git::{Git, Identity, Mirror, MirrorError, Remote, remove_workspace};
use agent_runner::model::dispatch::WorkKey;
use tempfile::TempDir;

use crate::support::git_http::{GitServer, git, person};
use crate::support::make_pipe;

const TOKEN: &str = "a-token-of-some-length";

/// Hooks that one of git's commands runs.
const HOOKS: [&str; 12] = [
    "applypatch-msg",
    "commit-msg",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-rewrite",
    "pre-auto-gc",
    "pre-commit",
    "pre-push",
    "prepare-commit-msg",
    "reference-transaction",
];

/// A clone that an agent has worked in, with one commit of its own, and full of traps.
struct Trap {
    server: GitServer,
    bare: PathBuf,
    space: TempDir,
    mirror: Mirror,
    base: String,
}

impl Trap {
    fn new() -> Self {
        let server = GitServer::new(TOKEN);
        let bare = server.repository("hello");
        server.repository("elsewhere");
        let space = tempfile::tempdir().unwrap();
        fs::create_dir(space.path().join("fired")).unwrap();
        let remote = Remote::new(&server.url("hello"), Some(TOKEN.to_owned())).unwrap();
        let mirror = Mirror::new(&environment(), &space.path().join("mirror"), remote);
        mirror.fetch().unwrap();
        let base = mirror.tip("main").unwrap().unwrap();
        mirror
            .clone_to(&space.path().join("work"), &base, "b")
            .unwrap();
        let trap = Self {
            server,
            bare,
            space,
            mirror,
            base,
        };
        trap.plant();
        trap
    }

    fn work(&self) -> PathBuf {
        self.space.path().join("work")
    }

    /// A program that leaves a mark with its name; a filter passes on what it is given.
    fn canary(&self, name: &str) -> String {
        let path = self.space.path().join(format!("canary-{name}"));
        let mark = self.space.path().join("fired").join(name);
        let is_filter = ["clean", "smudge", "textconv"].contains(&name);
        let then = if is_filter { "cat" } else { "exit 0" };
        fs::write(
            &path,
            format!("#!/bin/sh\n: > '{}'\n{then}\n", mark.display()),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    /// The names of the programs that ran, and forgets them.
    fn fired(&self) -> BTreeSet<String> {
        let directory = self.space.path().join("fired");
        let entries = fs::read_dir(&directory).unwrap();
        let names = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        fs::remove_dir_all(&directory).unwrap();
        fs::create_dir(&directory).unwrap();
        names
    }

    fn plant(&self) {
        let work = self.work();
        fs::write(work.join("work.txt"), "the work\n").unwrap();
        let attributes =
            "*.txt filter=one diff=mine\n*.md filter=two diff=text\n*.conf merge=mine\n";
        fs::write(work.join(".gitattributes"), attributes).unwrap();
        fs::write(work.join("a.conf"), "a\n").unwrap();
        // A repository inside, without `.git`, whose configuration a careless git would read.
        git(&work, &["init", "-q", "--bare", "nested"]);
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "the work"]);
        // A signature that somebody would want to verify.
        let commit = git(&work, &["cat-file", "commit", "HEAD"]);
        let signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----";
        let signed = self.space.path().join("signed");
        fs::write(
            &signed,
            commit.replacen("\n\n", &format!("\n{signature}\n\n"), 1) + "\n",
        )
        .unwrap();
        let hash = [
            "hash-object",
            "-w",
            "-t",
            "commit",
            signed.to_str().unwrap(),
        ];
        let signed = git(&work, &hash);
        git(&work, &["update-ref", "refs/heads/b", &signed]);

        let elsewhere = self.server.url("elsewhere");
        let hello = self.server.url("hello");
        let path = |name: &str| self.canary(name);
        let bang = |name: &str| format!("!{}", self.canary(name));
        let included = self.space.path().join("included");
        fs::write(
            &included,
            format!("[alias]\n\tincluded = {}\n", bang("include")),
        )
        .unwrap();
        let settings = [
            ("alias.st", bang("alias")),
            ("commit.gpgSign", "true".to_owned()),
            ("core.alternateRefsCommand", path("alternate-refs")),
            ("core.askPass", path("askpass")),
            ("core.editor", path("editor")),
            ("core.fsmonitor", path("fsmonitor")),
            ("core.gitProxy", path("git-proxy")),
            ("core.pager", path("pager")),
            ("core.sshCommand", path("ssh")),
            ("credential.helper", bang("credential")),
            ("diff.external", path("diff-external")),
            ("diff.mine.command", path("diff-command")),
            ("diff.text.textconv", path("textconv")),
            ("extensions.partialClone", "origin".to_owned()),
            ("filter.one.clean", path("clean")),
            ("filter.one.smudge", path("smudge")),
            ("filter.two.process", path("process")),
            ("gpg.program", path("gpg")),
            ("include.path", included.display().to_string()),
            ("log.showSignature", "true".to_owned()),
            ("merge.mine.driver", path("merge")),
            ("protocol.ext.allow", "always".to_owned()),
            ("remote.origin.promisor", "true".to_owned()),
            ("remote.origin.receivepack", path("receivepack")),
            ("remote.origin.uploadpack", path("uploadpack")),
            ("remote.origin.url", self.bare.display().to_string()),
            ("remote.remote-ext.url", format!("ext::{} %S", path("ext"))),
            ("sequence.editor", path("sequence-editor")),
            ("uploadpack.packObjectsHook", path("pack-objects")),
            (&format!("url.{elsewhere}.insteadOf"), hello.clone()),
            (&format!("url.{elsewhere}.pushInsteadOf"), hello),
            ("core.repositoryFormatVersion", "1".to_owned()),
        ];
        for hook in HOOKS {
            let program = work.join(".git/hooks").join(hook);
            fs::create_dir_all(program.parent().unwrap()).unwrap();
            fs::copy(self.canary(&format!("hook-{hook}")), program).unwrap();
        }
        let mut config = fs::read_to_string(work.join(".git/config")).unwrap();
        for (key, value) in settings {
            let (section, name) = key.rsplit_once('.').unwrap();
            let header = match section.split_once('.') {
                Some((section, rest)) => format!("[{section} \"{rest}\"]"),
                None => format!("[{section}]"),
            };
            writeln!(config, "{header}\n\t{name} = \"{value}\"").unwrap();
        }
        fs::write(work.join(".git/config"), config).unwrap();
        fs::create_dir_all(work.join(".git/info")).unwrap();
        fs::write(work.join(".git/info/attributes"), attributes).unwrap();
        fs::write(
            work.join("nested/config"),
            format!("[core]\n\tbare = true\n\tfsmonitor = {}\n", path("nested")),
        )
        .unwrap();
    }

    fn key(&self) -> WorkKey {
        WorkKey::new("github", &[&self.base])
    }

    fn take(&self, work: &Path) -> Result<String, MirrorError> {
        let key = self.key();
        self.mirror.take(work, &self.base, "b", &key)
    }
}

fn environment() -> BTreeMap<std::ffi::OsString, std::ffi::OsString> {
    BTreeMap::from([("PATH".into(), std::env::var_os("PATH").unwrap())])
}

/// What a careless program would do: git in the agent's own repository.
fn careless(work: &Path, arguments: &[&str]) {
    let mut command = person(work);
    command.env("SSH_ASKPASS", "").args(arguments);
    // Many of these fail, once the trap has sprung.
    let mut limited = Command::new("timeout");
    limited
        .arg("20")
        .arg("git")
        .args(arguments)
        .current_dir(work)
        .env_clear();
    limited.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    limited.output().unwrap();
}

#[test]
fn what_an_agent_planted_in_its_repository_is_never_run() {
    let trap = Trap::new();
    let work = trap.work();
    for arguments in [
        &["status"][..],
        &["diff", "HEAD"],
        &["log", "-p", "-1"],
        &["show", "--textconv", "HEAD"],
        &["st"],
        &["included"],
        &["add", "-A"],
        &["commit", "--allow-empty", "-m", "x"],
        &["commit", "--no-gpg-sign", "--allow-empty", "--amend"],
        &["checkout", "-b", "other"],
        &["checkout", "--", "work.txt", "README.md"],
        &["fetch", "origin"],
        &["fetch", "remote-ext"],
        &["fetch", "git@127.0.0.1:x"],
        &["fetch", &trap.server.url("hello")],
        &["push", "origin", "b:refs/heads/careless"],
        &["update-ref", "refs/heads/more", "HEAD"],
    ] {
        careless(&work, arguments);
    }
    careless(&work.join("nested"), &["status"]);
    let fired = trap.fired();
    println!("careless git ran {fired:?}");
    assert!(fired.len() >= 12, "the trap is good for nothing");

    let trap = Trap::new();
    let work = trap.work();
    let tip = trap.take(&work).unwrap();
    let changes = trap.mirror.changes(&trap.base, &tip).unwrap();
    trap.mirror.tree(&tip).unwrap();
    let mut seen = 0;
    let visit = |_: &str, bytes: &[u8]| seen += bytes.len();
    trap.mirror
        .added_content(&trap.base, &tip, &changes, visit)
        .unwrap();
    assert!(seen > 0);
    let identity = Identity {
        name: "bot".to_owned(),
        email: "bot@example.invalid".to_owned(),
    };
    let traced = trap
        .mirror
        .commit_file(&tip, "agent-tasks/x.md", b"x", "trace", &identity);
    let commit = traced.unwrap();
    trap.mirror.push("b", &commit, None).unwrap();
    assert_eq!(git(&trap.bare, &["rev-parse", "refs/heads/b"]), commit);
    let elsewhere = trap.bare.with_file_name("elsewhere");
    assert_eq!(
        git(&elsewhere, &["branch", "--format=%(refname:short)"]),
        "main"
    );
    let to_elsewhere = trap
        .server
        .requests()
        .into_iter()
        .filter(|head| head.contains("/elsewhere"));
    assert_eq!(
        to_elsewhere.count(),
        0,
        "the repository's addresses are not followed"
    );

    // The same questions in the agent's own repository, as a run asks them.
    let inside = Git::new(&environment(), &work);
    assert_eq!(inside.tree_changes(&trap.base, &tip).unwrap(), changes);
    inside.tree(&tip).unwrap();
    inside.file(&tip, "work.txt").unwrap().unwrap();
    inside
        .added_content(&trap.base, &tip, &changes, |_, _| ())
        .unwrap();
    // An object that is missing is not fetched from where the repository says.
    let blob = git(&trap.bare, &["rev-parse", &format!("{commit}:work.txt")]);
    let object = work.join(".git/objects").join(&blob[..2]).join(&blob[2..]);
    fs::remove_file(object).unwrap();
    assert!(inside.file(&tip, "work.txt").unwrap().is_none());
    trap.mirror.forget(&trap.key()).unwrap();
    git(&trap.bare, &["update-ref", "-d", "refs/heads/b"]);

    remove_workspace(&work).unwrap();
    assert_eq!(trap.fired(), BTreeSet::new());
}

#[test]
fn a_repository_that_leads_elsewhere_or_holds_up_a_reader_is_not_taken() {
    type Plant = fn(&Path, &Path);
    let plants: [(&str, Plant); 8] = [
        ("`.git` is no directory", |work, space| {
            fs::rename(work.join(".git"), space.join("away")).unwrap();
            symlink(space.join("away"), work.join(".git")).unwrap();
        }),
        ("`.git` is no directory", |work, space| {
            fs::rename(work.join(".git"), space.join("away")).unwrap();
            let text = format!("gitdir: {}\n", space.join("away").display());
            fs::write(work.join(".git"), text).unwrap();
        }),
        ("`.git` is no directory", |work, _| {
            fs::remove_dir_all(work.join(".git")).unwrap();
        }),
        ("leads to other objects", |work, space| {
            let objects = space.join("mirror/objects").display().to_string();
            fs::create_dir_all(work.join(".git/objects/info")).unwrap();
            fs::write(work.join(".git/objects/info/alternates"), objects).unwrap();
        }),
        ("`.git/objects` is no directory", |work, space| {
            fs::rename(work.join(".git/objects"), space.join("away")).unwrap();
            symlink(space.join("away"), work.join(".git/objects")).unwrap();
        }),
        ("is no file", |work, space| {
            symlink(
                space.join("mirror/objects/pack"),
                work.join(".git/objects/zz"),
            )
            .unwrap();
        }),
        ("is no file", |work, _| {
            let pipe = work.join(".git/refs/heads/pipe");
            make_pipe(&pipe);
        }),
        ("`.git/packed-refs` is no file", |work, _| {
            symlink("/dev/zero", work.join(".git/packed-refs")).unwrap();
        }),
    ];
    let trap = Trap::new();
    for (number, (words, plant)) in plants.into_iter().enumerate() {
        let space = trap.space.path().join(number.to_string());
        fs::create_dir(&space).unwrap();
        let work = space.join("work");
        let mut copy = Command::new("cp");
        copy.arg("-a").args([&trap.work(), &work]);
        assert!(copy.status().unwrap().success());
        plant(&work, &space);
        let error = trap.take(&work).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
    assert_eq!(trap.fired(), BTreeSet::new());
}

#[test]
fn a_pipe_or_a_giant_in_the_place_of_a_configuration_is_never_read() {
    let trap = Trap::new();
    let git_directory = trap.work().join(".git");
    for file in [
        "config",
        "HEAD",
        "info/attributes",
        "shallow",
        "info/grafts",
    ] {
        let path = git_directory.join(file);
        fs::remove_file(&path).unwrap_or_default();
        if file == "info/attributes" {
            symlink("/dev/zero", &path).unwrap();
        } else {
            make_pipe(&path);
        }
    }
    trap.take(&trap.work()).unwrap();
    assert_eq!(trap.fired(), BTreeSet::new());
}

#[test]
fn a_tree_with_gits_own_directory_in_it_is_not_taken() {
    let trap = Trap::new();
    let work = trap.work();
    fs::write(work.join(".git/config"), "").unwrap();
    fs::remove_dir_all(work.join(".git/hooks")).unwrap();
    let blob = git(&work, &["rev-parse", "HEAD:work.txt"]);
    let list = trap.space.path().join("list");
    for name in [".git", ".GIT", "git~1"] {
        fs::write(&list, format!("100644 blob {blob}\t{name}\n")).unwrap();
        let mut mktree = person(&work);
        mktree.arg("mktree").stdin(fs::File::open(&list).unwrap());
        let tree = String::from_utf8(mktree.output().unwrap().stdout).unwrap();
        let commit = ["commit-tree", tree.trim(), "-p", &trap.base, "-m", "x"];
        let commit = git(&work, &commit);
        git(&work, &["update-ref", "refs/heads/b", &commit]);
        let error = trap.take(&work).unwrap_err();
        assert!(matches!(error, MirrorError::Work { .. }), "{name}: {error}");
        assert!(error.to_string().contains("hasDotgit"), "{error}");
    }
}
