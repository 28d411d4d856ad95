//! Repositories of every kind, environments of every kind.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use chrono::DateTime;
use rustix::fs::{CWD, Mode, mkfifoat};

use crate::git::place::Place;
use crate::git::tests::support::{MARK, Scene, identity, start, told};
use crate::git::{Git, GitError, Identity};
use crate::process::program::find_program;

#[test]
fn a_directory_below_the_root_stands_for_the_whole_repository() {
    let scene = Scene::new();
    scene.write("work/deep/down/file", "x");
    scene.person(&["add", "."]);
    scene.person(&["commit", "-qm", "deep"]);
    let git = Git::new(&scene.environment, &scene.path("work/deep/down"));
    let before = git.snapshot(start()).unwrap();
    scene.agent_commits("a.txt");
    scene.write("work/b.txt", "b");
    let change = git.compare(&before, MARK, &["a.txt".to_owned()]).unwrap();
    assert_eq!(told(&change), ["own: agent a.txt +1/-0"]);
    assert!(change.commits[0].outside_paths.is_empty());
    assert_eq!(change.left_uncommitted, ["b.txt"]);
}

#[test]
fn a_linked_work_tree_has_its_own_head_and_status() {
    let scene = Scene::new();
    scene.person(&["worktree", "add", "-q", "../linked", "-b", "linked"]);
    let git = Git::new(&scene.environment, &scene.path("linked"));
    let before = git.snapshot(start()).unwrap();
    assert_eq!(before.branch(), Some("linked"));
    scene.write("linked/a.txt", "a\n");
    scene.agent_in("linked", &["add", "."]);
    scene.agent_in("linked", &["commit", "-qm", "agent a.txt"]);
    scene.person_commits("p.txt");
    scene.agent_fails(&["cherry-pick", "--no-such-option"]);
    let change = git.compare(&before, MARK, &[]).unwrap();
    assert_eq!(told(&change), ["own: agent a.txt +1/-0"]);
}

#[test]
fn a_submodule_is_a_repository_of_its_own() {
    let scene = Scene::new();
    scene.person_in("", &["clone", "-q", "work", "library"]);
    scene.person(&["submodule", "-q", "add", "../library", "library"]);
    scene.person(&["commit", "-qm", "with submodule"]);
    let outer = scene.snapshot();
    let git = Git::new(&scene.environment, &scene.path("work/library"));
    let before = git.snapshot(start()).unwrap();
    scene.write("work/library/a.txt", "a\n");
    scene.agent_in("work/library", &["add", "."]);
    scene.agent_in("work/library", &["commit", "-qm", "agent a.txt"]);
    let change = git.compare(&before, MARK, &[]).unwrap();
    assert_eq!(told(&change), ["own: agent a.txt +1/-0"]);
    let change = scene.change(&outer);
    assert!(change.commits.is_empty());
    assert_eq!(change.left_uncommitted, ["library"]);
}

#[test]
fn a_filter_that_a_run_configured_in_a_submodule_or_below_it_is_not_run_and_an_older_one_is() {
    for submodule in ["work/library", "work/library/core"] {
        let scene = Scene::new();
        scene.person_in("", &["clone", "-q", "work", "core"]);
        scene.person_in("", &["clone", "-q", "work", "library"]);
        scene.person_in("library", &["submodule", "-q", "add", "../core", "core"]);
        scene.person_in("library", &["commit", "-qm", "with core"]);
        scene.person(&["submodule", "-q", "add", "../library", "library"]);
        scene.person(&["commit", "-qm", "with library"]);
        scene.person(&["submodule", "-q", "update", "--init", "--recursive"]);
        let filter = |name: &str| {
            let filter = format!("touch '{}'; cat", scene.path(name).display());
            scene.person_in(submodule, &["config", "filter.x.clean", &filter]);
        };
        let attributes = format!("{submodule}/.gitattributes");
        scene.write(&attributes, "* filter=x\n");
        // Of the same length, so that git must read it.
        let changed = format!("{submodule}/old.txt");
        scene.write(&changed, scene.read(&changed).replace('1', "x"));
        filter("older");
        let before = scene.snapshot();
        assert!(scene.path("older").exists());
        filter("planted");
        let git = scene.git();
        let change = git.compare_guarded(&before, MARK, &[]).unwrap();
        assert_eq!(change.changed_before, ["library"]);
        let without = git.without_programs().unwrap();
        without.snapshot(start()).unwrap();
        assert!(!scene.path("planted").exists());
        scene.person(&["status"]);
        assert!(scene.path("planted").exists(), "the trap works");
    }
}

#[test]
fn a_repository_to_fetch_from_that_a_run_configured_for_what_is_missing_is_not_asked() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    let blob = scene.agent(&["rev-parse", "HEAD:a.txt"]);
    let (directory, file) = blob.split_at(2);
    let object = format!("work/.git/objects/{directory}/{file}");
    std::fs::remove_file(scene.path(&object)).unwrap();
    std::fs::remove_file(scene.path("work/a.txt")).unwrap();
    let url = format!("ext::touch {}", scene.path("planted").display());
    for (key, value) in [
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "evil"),
        ("protocol.ext.allow", "always"),
        ("remote.evil.promisor", "true"),
        ("remote.evil.url", &url),
    ] {
        scene.agent(&["config", key, value]);
    }
    let git = scene.git();
    let change = git.compare_guarded(&before, MARK, &[]);
    assert!(change.is_err() && !scene.path("planted").exists());
    assert!(git.compare(&before, MARK, &[]).is_err());
    assert!(scene.path("planted").exists(), "the trap works");
}

#[test]
fn a_filter_whose_name_is_not_utf_8_is_not_run() {
    let scene = Scene::new();
    let before = scene.snapshot();
    let trap = scene.path("planted");
    let mut config = scene.read("work/.git/config").into_bytes();
    config.extend(b"[filter \"\xff\"]\nclean = touch ");
    config.extend(trap.as_os_str().as_bytes());
    scene.write("work/.git/config", config);
    scene.write("work/.gitattributes", b"* filter=\xff\n");
    scene.write("work/old.txt", scene.read("work/old.txt").replace('1', "x"));
    let git = scene.git();
    assert!(git.compare_guarded(&before, MARK, &[]).is_err());
    assert!(git.without_programs().is_err() && !trap.exists());
    scene.person(&["status"]);
    assert!(trap.exists(), "the trap works");
}

#[test]
fn variables_that_point_elsewhere_are_not_heeded() {
    let mut scene = Scene::new();
    let clean = scene.environment.clone();
    for (name, value) in [
        ("GIT_DIR", "/nowhere"),
        ("GIT_WORK_TREE", "/nowhere"),
        ("GIT_INDEX_FILE", "/nowhere/index"),
        ("GIT_OBJECT_DIRECTORY", "/nowhere"),
        ("GIT_NAMESPACE", "x"),
        ("GIT_CONFIG_PARAMETERS", "'user.name'='Nobody'"),
        ("GIT_TRACE", "1"),
        ("LC_ALL", "de_DE.UTF-8"),
    ] {
        scene.environment.insert(name.into(), value.into());
    }
    let git = scene.git();
    scene.environment = clean;
    let before = git.snapshot(start()).unwrap();
    assert_eq!(before.identity(&identity()).name, "Pat");
    scene.agent_commits("a.txt");
    let change = git.compare(&before, MARK, &[]).unwrap();
    assert_eq!(told(&change), ["own: agent a.txt +1/-0"]);
}

#[test]
fn inherited_settings_stay_and_ours_come_after_them() {
    let mut scene = Scene::new();
    for (name, value) in [
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "user.name"),
        ("GIT_CONFIG_VALUE_0", "From Environment"),
    ] {
        scene.environment.insert(name.into(), value.into());
    }
    let git = scene.git();
    let fallback = Identity {
        name: "unused".to_owned(),
        email: "unused".to_owned(),
    };
    let identity = git.snapshot(start()).unwrap().identity(&fallback);
    assert_eq!(identity.name, "From Environment");
    assert_eq!(identity.email, "pat@example.org");
    let environment = git.agent_environment("t/a/1", &identity);
    let text: Vec<String> = environment
        .iter()
        .map(|(name, value)| format!("{}={}", name.display(), value.display()))
        .collect();
    insta::assert_snapshot!(text.join("\n"));
}

#[test]
fn without_a_configured_identity_the_fallback_is_taken() {
    let scene = Scene::new();
    scene.write("home/.gitconfig", "[user]\nname =\n");
    let fallback = identity();
    assert_eq!(scene.snapshot().identity(&fallback), fallback);
    scene.person(&["config", "user.email", "here@example.org"]);
    assert_eq!(
        scene.snapshot().identity(&fallback).email,
        "here@example.org"
    );
}

#[test]
fn looking_runs_no_program_that_the_repository_names_and_writes_nothing() {
    let scene = Scene::new();
    scene.write("hook", "#!/bin/sh\ntouch \"$HOME/ran\"\n");
    scene.person(&["config", "core.fsmonitor", "sh ../hook"]);
    scene.person(&["config", "core.hooksPath", "../hooks"]);
    scene.person(&["update-index", "--refresh"]);
    std::fs::remove_file(scene.path("home/ran")).unwrap();
    scene.write("work/old.txt", scene.read("work/old.txt"));
    let index = std::fs::read(scene.path("work/.git/index")).unwrap();
    let before = scene.snapshot();
    assert!(scene.change(&before).is_untouched());
    assert!(!scene.path("home/ran").exists());
    assert_eq!(std::fs::read(scene.path("work/.git/index")).unwrap(), index);
}

#[test]
fn a_filter_is_run_only_if_it_was_configured_before_the_run_wherever_that_is() {
    let before_run = [
        (".git/config", "", ""),
        ("../home/.gitconfig", "", ""),
        ("../home/.config/git/config", "", ""),
        (
            ".git/config.worktree",
            ".git/config",
            "[extensions]\nworktreeConfig = true\n",
        ),
        (
            "../further",
            ".git/config",
            "[include]\npath = ../../further\n",
        ),
        (
            "../further",
            ".git/config",
            "[includeIf \"onbranch:other\"]\npath = ../../further\n",
        ),
        (
            "../further",
            "../home/.gitconfig",
            "[include]\npath = ../further\n",
        ),
    ];
    for (place, file, line) in before_run {
        for is_run in [false, true] {
            let scene = Scene::new();
            let add = |file: &str, line: &str| {
                let file = format!("work/{file}");
                let old = std::fs::read_to_string(scene.path(&file)).unwrap_or_default();
                scene.write(&file, old + line);
            };
            let ran = scene.path("ran");
            let filter = format!("[filter \"x\"]\nclean = touch '{}'; cat\n", ran.display());
            if !file.is_empty() {
                add(file, line);
            }
            if is_run {
                add(place, &filter);
            }
            let before = scene.snapshot();
            scene.agent(&["checkout", "-q", "-b", "other"]);
            if !is_run {
                add(place, &filter);
            }
            scene.write("work/.git/info/attributes", "*.txt filter=x\n");
            scene.write("work/old.txt", "0\n1\n2\n3\n4\n5\n6\n7\n8\n8\n");
            assert!(scene.change(&before).dirty_after);
            // On the branch where the run began that condition did not hold.
            let is_run = is_run && !line.contains("onbranch");
            assert_eq!(ran.exists(), is_run, "{place} by {file}: {line}");
        }
    }
}

#[test]
fn the_configuration_is_asked_for_again_only_where_it_may_be_another() {
    let scene = Scene::new();
    let is_asked_for = |before| scene.git().ask_for_programs(before).unwrap().is_some();
    let before = scene.snapshot();
    assert!(!is_asked_for(&before));
    scene.agent_commits("a.txt");
    assert!(!is_asked_for(&before));
    scene.agent(&["config", "user.name", "Agent"]);
    assert!(is_asked_for(&before));

    // A repository that is found earlier, or another one in its place.
    let before = scene.snapshot();
    scene.person(&["init", "-q", "--separate-git-dir", "../elsewhere"]);
    assert!(is_asked_for(&before));
    let scene = Scene::new();
    scene.write("work/below/file", "");
    let below = Git::new(&scene.environment, &scene.path("work/below"));
    let before = below.snapshot(start()).unwrap();
    assert!(below.ask_for_programs(&before).unwrap().is_some());
}

#[test]
fn looking_at_a_signed_commit_runs_no_program_that_the_repository_names() {
    let scene = Scene::new();
    let ran = scene.path("ran");
    scene.write("gpg", format!("#!/bin/sh\ntouch '{}'\n", ran.display()));
    let gpg = scene.path("gpg");
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&gpg, permissions).unwrap();
    scene.person(&["config", "gpg.program", gpg.to_str().unwrap()]);
    scene.person(&["config", "log.showSignature", "true"]);
    let commit = scene.person(&["cat-file", "commit", "HEAD"]);
    let signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----";
    let (head, message) = commit.split_once("\n\n").unwrap();
    scene.write("signed", format!("{head}\n{signature}\n\n{message}\n"));
    let signed = scene.person(&["hash-object", "-t", "commit", "-w", "../signed"]);
    let look = ["log", "-1", &signed];
    scene.git().read(&look).unwrap();
    assert!(!ran.exists());
    scene.person(&look);
    assert!(ran.exists(), "git would have run it");
}

#[test]
fn the_configuration_of_the_system_is_that_of_the_git_program_and_a_relative_path_is_asked_for() {
    let mut scene = Scene::new();
    let search_path = scene.environment[OsStr::new("PATH")].clone();
    let real = find_program(Path::new("git"), &search_path).unwrap();
    scene.write("prefix/bin/other", "");
    symlink(real, scene.path("prefix/bin/git")).unwrap();
    let with_prefix = std::env::join_paths(
        [scene.path("prefix/bin")]
            .into_iter()
            .chain(std::env::split_paths(&search_path)),
    );
    let with_prefix = with_prefix.unwrap();
    scene.environment.insert("PATH".into(), with_prefix);
    let is_asked_for = |scene: &Scene, before: &_| {
        let asked = scene.git().ask_for_programs(before).unwrap();
        asked.is_some()
    };
    let before = scene.snapshot();
    assert!(!is_asked_for(&scene, &before));
    scene.write("prefix/etc/gitconfig", "[filter \"x\"]\nclean = cat\n");
    assert!(is_asked_for(&scene, &before));

    let before = scene.snapshot();
    assert!(!is_asked_for(&scene, &before));
    for (name, value) in [
        ("GIT_CONFIG_GLOBAL", "further"),
        ("GIT_CONFIG_SYSTEM", "further"),
        ("XDG_CONFIG_HOME", "."),
        ("HOME", "../home"),
    ] {
        let old = scene.environment.insert(name.into(), value.into());
        let before = scene.snapshot();
        assert!(is_asked_for(&scene, &before), "{name}");
        scene.environment.remove(OsStr::new(name));
        scene.environment.extend(old.map(|old| (name.into(), old)));
    }
}

fn refusal(git: &Git) -> GitError {
    git.snapshot(DateTime::UNIX_EPOCH).unwrap_err()
}

#[test]
fn what_is_no_repository_is_said() {
    let scene = Scene::new();
    let at = |name: &str| Git::new(&scene.environment, &scene.path(name));
    assert!(matches!(
        refusal(&at("home")),
        GitError::NotARepository { .. }
    ));
    assert!(matches!(
        refusal(&at("nowhere")),
        GitError::NoDirectory { .. }
    ));
    assert!(matches!(
        refusal(&at("work/.git")),
        GitError::NoWorkTree { .. }
    ));
    scene.person_in("", &["init", "-q", "--bare", "bare.git"]);
    let error = refusal(&at("bare.git"));
    assert!(matches!(error, GitError::NoWorkTree { .. }));
    assert!(
        error
            .to_string()
            .ends_with("bare.git` is a repository without a work tree")
    );
}

#[test]
fn a_path_with_a_line_feed_is_refused_and_not_misread() {
    let scene = Scene::empty();
    scene.person_in("", &["init", "-q", "a\nb"]);
    scene.person_in("a\nb", &["commit", "-q", "--allow-empty", "-m", "base"]);
    let git = Git::new(&scene.environment, &scene.path("a\nb"));
    for error in [refusal(&git), git.home().unwrap_err()] {
        assert!(matches!(error, GitError::LineFeed { .. }));
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn a_missing_git_is_said() {
    let mut scene = Scene::new();
    scene
        .environment
        .insert("PATH".into(), scene.path("home").into());
    assert!(matches!(refusal(&scene.git()), GitError::Missing));
}

#[test]
fn a_repository_of_another_user_is_refused_with_gits_remedy() {
    let scene = Scene::new();
    // Only root can give a directory away; elsewhere there is nothing to see.
    if chown(scene.path("work"), Some(12345), None).is_err() {
        return;
    }
    let error = refusal(&scene.git());
    assert!(matches!(error, GitError::DubiousOwnership { .. }));
    let remedy = error.hint().unwrap();
    assert!(
        remedy.starts_with("git config --global --add safe.directory /"),
        "{remedy}"
    );
}

#[test]
fn what_git_says_of_any_other_trouble_is_passed_on() {
    let scene = Scene::new();
    scene.write("work/.git/config", "[core\n");
    let error = refusal(&scene.git()).to_string();
    assert!(
        error.starts_with("`git status` failed: bad config line 1"),
        "{error}"
    );
}

#[test]
fn a_new_repository_is_on_main_with_its_files_committed() {
    let scene = Scene::empty();
    scene.write("work/a.txt", "a\n");
    let identity = Identity {
        name: "Demo".to_owned(),
        email: "demo@example.org".to_owned(),
    };
    let commit = scene.git().init(&identity, "begin").unwrap();
    let before = scene.snapshot();
    assert_eq!(
        (before.head(), before.branch()),
        (Some(commit.as_str()), Some("main"))
    );
    assert!(before.status.changes.is_empty());
    assert_eq!(before.identity(&super::support::identity()), identity);
    assert_eq!(
        scene.person(&["log", "--format=%an %s", "--name-only"]),
        "Demo begin\n\na.txt"
    );
}

/// What is taken for usual is what git says of it, and everything else is git's to say.
#[test]
fn a_usual_repository_is_found_where_git_finds_it() {
    let scene = Scene::new();
    let of = |path: &str| {
        let path = scene.path(path);
        let git = Git::new(&scene.environment, &path);
        (Place::usual(&path), git.place().ok())
    };
    scene.write("work/deep/down/file", "x");
    symlink(scene.path("work/deep"), scene.path("link")).unwrap();
    for usual in ["work", "work/deep/down", "link/down"] {
        let (found, told) = of(usual);
        assert_eq!(found, told, "{usual}");
        assert!(found.is_some(), "{usual}");
    }
    scene.person(&["checkout", "-q", "--detach"]);
    assert!(of("work").0.is_some());

    scene.person(&["worktree", "add", "-q", "../linked", "-b", "linked"]);
    scene.person(&["worktree", "add", "-q", "below", "-b", "below"]);
    scene.person(&["init", "-q", "--separate-git-dir=../apart", "../torn"]);
    scene.person(&["init", "-q", "inner"]);
    scene.write("work/inner/.git/HEAD", "");
    // Looked at here alone: git would wait at it.
    scene.person(&["init", "-q", "../piped"]);
    let head = scene.path("piped/.git/HEAD");
    std::fs::remove_file(&head).unwrap();
    mkfifoat(CWD, &head, Mode::RUSR | Mode::WUSR).unwrap();
    assert_eq!(Place::usual(&scene.path("piped")), None);
    for unusual in [
        "linked",
        "work/below",
        "torn",
        "work/inner",
        "home",
        "nowhere",
    ] {
        let (found, told) = of(unusual);
        assert_eq!(found, None, "{unusual} {told:?}");
    }
    assert_eq!(of("work/inner").1, of("work").1);
}

#[test]
fn a_work_tree_that_the_configuration_names_is_heeded() {
    let scene = Scene::new();
    scene.write("elsewhere/file", "other\n");
    scene.person(&["config", "core.worktree", "../../elsewhere"]);
    let git = Git::new(&scene.environment, &scene.path("work"));
    let before = git.snapshot(start()).unwrap();
    assert_eq!(before.place.top_level, scene.path("elsewhere"));
    assert!(!before.status.changes.is_empty());
}

/// Makes a repository in which a look runs a filter, and tells the file that this makes.
fn trap(scene: &Scene, directory: &str) -> std::path::PathBuf {
    let ran = scene.path("ran");
    let file = format!("{directory}/f.txt");
    scene.write(&file, "aaaa");
    scene.person_in(directory, &["init", "-q"]);
    scene.person_in(directory, &["add", "f.txt"]);
    scene.person_in(directory, &["commit", "-qm", "trap"]);
    let filter = format!("touch '{}'; cat", ran.display());
    scene.person_in(directory, &["config", "filter.x.clean", &filter]);
    scene.write(&format!("{directory}/.git/info/attributes"), "* filter=x");
    // Of the same length, so that git must read it.
    scene.write(&file, "bbbb");
    ran
}

/// Makes a trap, and a submodule of it in the index of another repository.
fn trap_as_submodule(scene: &Scene, of: &str, directory: &str) -> std::path::PathBuf {
    let ran = trap(scene, directory);
    let commit = scene.person_in(directory, &["rev-parse", "HEAD"]);
    let entry = format!("160000,{commit},sub");
    scene.person_in(of, &["update-index", "--add", "--cacheinfo", &entry]);
    ran
}

#[test]
fn no_repository_is_looked_at_but_the_one_before_the_run() {
    type Lead = fn(&Scene) -> std::path::PathBuf;
    let leads: [(&str, &str, Lead); 5] = [
        ("one above", "work", |scene| {
            let ran = trap(scene, ".");
            std::fs::remove_dir_all(scene.path("work/.git/refs")).unwrap();
            scene.write("work/.git/refs", "");
            ran
        }),
        ("another work tree", "work", |scene| {
            let ran = trap_as_submodule(scene, "work", "other/sub");
            let other = scene.path("other");
            scene.person(&["config", "core.worktree", other.to_str().unwrap()]);
            ran
        }),
        ("another work tree of a submodule", "work", |scene| {
            let ran = trap_as_submodule(scene, "work/lib", "other/sub");
            let other = scene.path("other");
            let lead = ["config", "core.worktree", other.to_str().unwrap()];
            scene.person_in("work/lib", &lead);
            ran
        }),
        ("another place of a linked work tree", "linked", |scene| {
            scene.person_in("", &["clone", "-q", "work", "evil"]);
            let ran = trap_as_submodule(scene, "evil", "linked/sub");
            let evil = scene.path("evil/.git");
            scene.write("linked/.git", format!("gitdir: {}\n", evil.display()));
            ran
        }),
        ("one below", "work/below", |scene| {
            scene.person_in("work/below", &["init", "-q"]);
            trap_as_submodule(scene, "work/below", "work/below/sub")
        }),
    ];
    for (name, directory, lead) in leads {
        let scene = Scene::new();
        scene.write("work/below/b.txt", "");
        scene.person(&["add", "."]);
        if name.ends_with("submodule") {
            scene.person_in("", &["clone", "-q", "work", "library"]);
            scene.person(&["submodule", "-q", "add", "../library", "lib"]);
        }
        scene.person(&["commit", "-qm", "prepared"]);
        scene.person(&["worktree", "add", "-q", "../linked", "-b", "linked"]);
        let git = Git::new(&scene.environment, &scene.path(directory));
        let before = git.snapshot(start()).unwrap();
        let ran = lead(&scene);
        let change = git.compare_guarded(&before, MARK, &[]);
        assert!(!ran.exists(), "{name}: {change:?}");
        if let Ok(git) = git.with_programs_of(&before) {
            drop(git.compare(&before, MARK, &[]));
        }
        assert!(!ran.exists(), "{name}");
        drop(git.compare(&before, MARK, &[]));
        assert!(ran.exists(), "{name}: the trap works");
    }
}

#[test]
fn a_filter_in_a_submodule_that_a_sparse_index_hides_is_not_run() {
    let scene = Scene::new();
    scene.write("work/a/a.txt", "a");
    scene.write("work/d/d.txt", "d");
    scene.person(&["add", "."]);
    scene.person(&["commit", "-qm", "directories"]);
    scene.person(&["sparse-checkout", "set", "--cone", "--sparse-index", "a"]);
    let before = scene.snapshot();
    let ran = trap(&scene, "sub");
    let commit = scene.person_in("sub", &["rev-parse", "HEAD"]);
    let index = scene.path("index");
    let git = scene.git().with_variable("GIT_INDEX_FILE", index);
    git.read(&["read-tree", "HEAD"]).unwrap();
    let entry = format!("160000,{commit},d/sub");
    git.read(&["update-index", "--add", "--cacheinfo", &entry])
        .unwrap();
    let tree = git.read_line(&["write-tree"]).unwrap();
    let made = scene.person(&["commit-tree", "-p", "HEAD", "-m", "with sub", &tree]);
    scene.person(&["checkout", "-q", "-B", "main", &made]);
    std::fs::create_dir_all(scene.path("work/d")).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own directory")]
    std::fs::rename(scene.path("sub"), scene.path("work/d/sub")).unwrap();
    let change = scene.git().compare_guarded(&before, MARK, &[]);
    assert!(!ran.exists(), "{change:?}");
    scene.person(&["status"]);
    assert!(ran.exists(), "the trap works");
}

#[test]
fn a_run_is_seen_in_a_repository_of_every_kind() {
    type Make = fn(&Scene);
    let kinds: [(&str, Make); 5] = [
        ("work", |scene| {
            scene.person(&["init", "-q", "--separate-git-dir", "../apart"]);
        }),
        ("tree", |scene| {
            scene.write("tree/old.txt", scene.read("work/old.txt"));
            let tree = scene.path("tree");
            scene.person(&["config", "core.worktree", tree.to_str().unwrap()]);
            scene.write("tree/.git", "gitdir: ../work/.git\n");
        }),
        ("linked", |scene| {
            scene.person_in("", &["clone", "-q", "--bare", "work", "bare"]);
            scene.person_in("bare", &["worktree", "add", "-q", "-b", "x", "../linked"]);
        }),
        ("work/lib", |scene| {
            scene.person_in("", &["clone", "-q", "work", "library"]);
            scene.person(&["submodule", "-q", "add", "../library", "lib"]);
        }),
        ("work/below", |scene| {
            scene.write("work/below/kept", "");
            scene.person(&["add", "."]);
            scene.person(&["commit", "-qm", "below"]);
        }),
    ];
    for (directory, make) in kinds {
        let scene = Scene::new();
        make(&scene);
        let git = Git::new(&scene.environment, &scene.path(directory));
        let before = git.snapshot(start()).unwrap();
        scene.write(&format!("{directory}/a.txt"), "a\n");
        scene.agent_in(directory, &["add", "a.txt"]);
        scene.agent_in(directory, &["commit", "-qm", "agent a.txt"]);
        let head = scene.agent_in(directory, &["rev-parse", "HEAD"]);
        for dirty_after in [false, true] {
            let change = git.compare_guarded(&before, MARK, &[]).unwrap();
            assert_eq!(told(&change), ["own: agent a.txt +1/-0"], "{directory}");
            assert_eq!(change.head_after, Some(head.clone()), "{directory}");
            assert_eq!(change.dirty_after, dirty_after, "{directory}");
            scene.write(&format!("{directory}/left"), "");
        }
    }
}
