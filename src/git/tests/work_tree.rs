//! The way of an isolated run's commits home.

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::git::tests::support::{MARK, Scene, identity, start};
use crate::git::{Began, Git, Homecoming, May};

#[test]
fn no_setting_of_merges_makes_commits_that_come_home_wait_or_become_a_merge() {
    let scene = Scene::new();
    mkfifoat(CWD, scene.path("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    let waiting = format!("-F '{}'", scene.path("pipe").display());
    let options = "branch.main.mergeOptions";
    for (number, (key, value)) in [
        ("pull.twohead", "ours"),
        (options, "-s ours"),
        (options, "--no-commit --squash -s ours"),
        (options, "--no-such-option"),
        (options, &waiting),
    ]
    .into_iter()
    .enumerate()
    {
        let git = scene.git();
        let home = git.home().unwrap();
        let (tree, branch) = (format!("tree-{number}"), format!("agent-runner/{number}"));
        let tree_path = scene.path(&tree);
        let work_tree = git.add_work_tree(&tree_path, &branch, &home.commit);
        let work_tree = work_tree.unwrap();
        let before = work_tree.git.snapshot(start()).unwrap();
        let file = format!("{number}.txt");
        scene.write(&format!("{tree}/{file}"), "agent\n");
        scene.agent_in(&tree, &["add", "."]);
        scene.agent_in(&tree, &["commit", "-qm", "agent"]);
        scene.agent(&["config", key, value]);
        let change = work_tree.git.compare(&before, MARK, &[]).unwrap();
        let may = May {
            fetched: false,
            rebased: false,
        };
        let now = work_tree.programs_at(&home).unwrap();
        let came = work_tree.bring_home(&home, &now, MARK, &identity(), &change, may);
        assert_eq!(came.unwrap(), Homecoming::Home { onto: None }, "{value}");
        let tip = scene.person(&["rev-parse", "main"]);
        assert_eq!(Some(tip), change.head_after, "{value}");
        assert_eq!(scene.read(&format!("work/{file}")), "agent\n");
        scene.agent(&["config", "--unset", key]);
    }
}

#[test]
fn coming_home_runs_nothing_that_was_configured_at_home_since_and_goes_nowhere_else() {
    for is_led_elsewhere in [false, true] {
        for is_elsewhere in [false, true] {
            let scene = Scene::new();
            scene.person(&["config", "extensions.worktreeConfig", "true"]);
            scene.person(&["worktree", "add", "-q", "-b", "side", "../linked"]);
            let git = Git::new(&scene.environment, &scene.path("linked"));
            let home = git.home().unwrap();
            let tree_path = scene.path("tree");
            let tree = git.add_work_tree(&tree_path, "agent-runner/1", &home.commit);
            let tree = tree.unwrap();
            let before = tree.git.snapshot(start()).unwrap();
            scene.write("tree/.gitattributes", "* filter=x\n");
            scene.write("tree/a.txt", "agent\n");
            scene.agent_in("tree", &["add", "."]);
            scene.agent_in("tree", &["commit", "-qm", "agent"]);
            let filter = format!("touch '{}'; cat", scene.path("ran").display());
            if is_led_elsewhere {
                scene.agent_in("", &["clone", "-q", "work", "other"]);
                scene.agent_in("other", &["checkout", "-q", "-b", "side"]);
                scene.agent_in("other", &["fetch", "-q", "origin", "agent-runner/1"]);
                scene.agent_in("other", &["config", "filter.x.smudge", &filter]);
                let link = format!("gitdir: {}\n", scene.path("other/.git").display());
                scene.write("linked/.git", link);
            } else {
                let set = ["config", "--worktree", "filter.x.smudge", &filter];
                scene.agent_in("linked", &set);
            }
            if is_elsewhere {
                scene.write("work/.git/worktrees/linked/HEAD", "ref: refs/heads/main2\n");
                scene.agent(&["worktree", "add", "-q", "../third", "side"]);
                scene.agent_in(
                    "third",
                    &["config", "--worktree", "filter.x.smudge", &filter],
                );
            }
            let git = tree.git.with_programs_of(&before).unwrap();
            let change = git.compare(&before, MARK, &[]).unwrap();
            let may = May {
                fetched: false,
                rebased: false,
            };
            let now = tree.with(&git).programs_at(&home).unwrap();
            let filters = now.changed_filters(&home.programs);
            assert_eq!(filters.contains("x"), !is_led_elsewhere);
            let came = (tree.with(&git)).bring_home(&home, &now, MARK, &identity(), &change, may);
            assert_eq!(came.unwrap(), Homecoming::Home { onto: None });
            assert_eq!(
                Some(scene.person(&["rev-parse", "side"])),
                change.head_after
            );
            let arrived = if is_elsewhere { "third" } else { "linked" };
            assert_eq!(scene.read(&format!("{arrived}/a.txt")), "agent\n");
            assert!(!scene.path("ran").exists());
        }
    }
}

#[test]
fn nothing_beside_a_work_tree_costs_the_work_in_it() {
    let scene = Scene::new();
    let git = scene.git();
    let home = git.home().unwrap();
    let path = scene.path("tree");
    let tree = git
        .add_work_tree(&path, "agent-runner/1", &home.commit)
        .unwrap();
    scene.write("tree/unsaved.txt", "agent\n");
    std::fs::create_dir(scene.path("tree.gone")).unwrap();
    let put_away = || {
        let facts = tree.put_away(Some("main"), Began::At(&home.commit));
        facts.unwrap().join("; ")
    };
    let facts = put_away();
    assert!(facts.starts_with("uncommitted work stays in"), "{facts}");
    assert_eq!(scene.read("tree/unsaved.txt"), "agent\n");
    std::fs::remove_file(scene.path("tree/unsaved.txt")).unwrap();
    scene.write("tree.gone/file", "agent\n");
    let facts = put_away();
    assert!(facts.ends_with("tree.gone` is in the way"), "{facts}");
    assert_eq!(scene.read("tree.gone/file"), "agent\n");
    assert_eq!(scene.read("tree/old.txt").lines().count(), 10);
    std::fs::remove_dir_all(scene.path("tree.gone")).unwrap();
    scene.write("tree/unsaved.txt", "agent\n");
    #[expect(clippy::disallowed_methods, reason = "a test's own directory")]
    std::fs::rename(&path, scene.path("tree.gone")).unwrap();
    let facts = put_away();
    assert!(facts.starts_with("uncommitted work stays in"), "{facts}");
    std::fs::remove_file(scene.path("tree/unsaved.txt")).unwrap();
    assert_eq!(put_away(), "");
    assert!(!tree.is_there());
}

#[test]
fn an_older_filter_runs_on_what_comes_home_whatever_else_of_it_the_run_configured() {
    for (key, value) in [
        ("filter.x.smudge", "cat"),
        ("filter.x.clean", "cat"),
        ("filter.x.required", "true"),
    ] {
        let scene = Scene::new();
        scene.person(&["config", "filter.x.smudge", "tr a-z A-Z"]);
        let git = scene.git();
        let home = git.home().unwrap();
        let tree = git.add_work_tree(&scene.path("tree"), "agent-runner/1", &home.commit);
        let tree = tree.unwrap();
        let before = tree.git.snapshot(start()).unwrap();
        scene.write("tree/.gitattributes", "*.txt filter=x\n");
        scene.write("tree/a.txt", "agent\n");
        scene.agent_in("tree", &["add", "."]);
        scene.agent_in("tree", &["commit", "-qm", "agent"]);
        scene.agent(&["config", key, value]);
        let git = tree.git.with_programs_of(&before).unwrap();
        let change = git.compare(&before, MARK, &[]).unwrap();
        let may = May {
            fetched: false,
            rebased: false,
        };
        let now = tree.with(&git).programs_at(&home).unwrap();
        let came = (tree.with(&git)).bring_home(&home, &now, MARK, &identity(), &change, may);
        assert_eq!(came.unwrap(), Homecoming::Home { onto: None }, "{key}");
        assert_eq!(scene.read("work/a.txt"), "AGENT\n", "{key}");
    }
}

#[test]
fn a_submodule_at_a_commit_that_only_a_tag_has_goes_unless_the_run_committed_there() {
    let scene = Scene::new();
    for library in ["library", "other"] {
        scene.person_in("", &["clone", "-q", "work", library]);
    }
    scene.person_in("library", &["checkout", "-q", "--detach"]);
    scene.person_in("library", &["commit", "-qm", "v1", "--allow-empty"]);
    scene.person_in("library", &["tag", "v1"]);
    for library in ["library", "other"] {
        let url = format!("../{library}");
        scene.person(&["submodule", "-q", "add", &url, library]);
    }
    scene.person_in("work/library", &["checkout", "-q", "v1"]);
    scene.person(&["add", "library"]);
    scene.person(&["commit", "-qm", "libraries"]);
    let git = scene.git();
    let home = git.home().unwrap();
    for commits in [false, true] {
        let branch = format!("agent-runner/{commits}");
        let path = scene.path(&branch);
        let tree = git.add_work_tree(&path, &branch, &home.commit).unwrap();
        let library = format!("{branch}/library");
        scene.agent_in(&branch, &["submodule", "-q", "update", "--init"]);
        if commits {
            scene.agent_in(&library, &["commit", "-qm", "v2", "--allow-empty"]);
            scene.agent_in(&library, &["tag", "v2"]);
            scene.agent_in(&library, &["checkout", "-q", "v1"]);
        }
        assert_eq!(
            tree.unsaved(Began::At(&home.commit)).unwrap().as_deref(),
            commits.then_some("work in a submodule stays")
        );
    }
}

#[test]
fn a_work_tree_that_the_run_moved_or_made_keeps_its_branch() {
    for moves in [
        &["worktree", "move", ".", "../elsewhere"][..],
        &["worktree", "add", "-qf", "../elsewhere", "agent-runner/1"],
    ] {
        let scene = Scene::new();
        let git = scene.git();
        let home = git.home().unwrap();
        let path = scene.path("tree");
        let tree = git
            .add_work_tree(&path, "agent-runner/1", &home.commit)
            .unwrap();
        scene.agent_in("tree", moves);
        scene.write("elsewhere/staged.txt", "agent\n");
        scene.agent_in("elsewhere", &["add", "."]);
        let facts = tree.put_away(Some("main"), Began::At(&home.commit));
        let facts = facts.unwrap().join("; ");
        let elsewhere = scene.path("elsewhere").canonicalize().unwrap();
        let told = format!(
            "agent-runner/1` stays, checked out in `{}`",
            elsewhere.display()
        );
        assert!(facts.ends_with(&told), "{facts}");
        assert!(!tree.is_there());
        let status = scene.person_in("elsewhere", &["status", "--short"]);
        assert_eq!(status, "A  staged.txt");
        assert_eq!(
            scene.person_in("elsewhere", &["rev-parse", "HEAD"]),
            home.commit
        );
    }
}

#[test]
fn commits_on_no_branch_are_kept_also_where_nobody_knows_where_the_run_began() {
    let scene = Scene::new();
    let git = scene.git();
    let home = git.home().unwrap();
    let tree = git.add_work_tree(&scene.path("tree"), "agent-runner/1", &home.commit);
    let tree = tree.unwrap();
    scene.write("tree/a.txt", "agent\n");
    scene.agent_in("tree", &["add", "."]);
    scene.agent_in("tree", &["commit", "-qm", "agent"]);
    scene.agent_in("tree", &["revert", "--no-edit", "HEAD"]);
    scene.agent_in("tree", &["reset", "-q", "--hard", &home.commit]);
    scene.person_commits("person.txt");
    let facts = tree.put_away(None, Began::Unknown).unwrap().join("; ");
    assert!(facts.contains("agent-runner/1-aside"), "{facts}");
    let kept = ["log", "-2", "--format=%s", "agent-runner/1-aside"];
    assert!(scene.person(&kept).ends_with("\nagent"));
}
