//! What is left uncommitted.

use crate::git::tests::support::{MARK, Scene, start};

#[test]
fn new_changed_deleted_and_staged_files_are_left_over() {
    let scene = Scene::new();
    let before = scene.snapshot();
    assert!(before.status.changes.is_empty());
    scene.write("work/deep/new.txt", "x\n");
    scene.write("work/staged.txt", "x\n");
    scene.agent(&["add", "staged.txt"]);
    scene.agent(&["rm", "-q", "--cached", "old.txt"]);
    let change = scene.change(&before);
    assert_eq!(
        change.left_uncommitted,
        ["deep/new.txt", "old.txt", "staged.txt"]
    );
    assert!(change.changed_before.is_empty() && change.dirty_after && !change.is_untouched());
}

#[test]
fn what_was_dirty_before_and_is_as_it_was_is_not_the_runs() {
    let scene = Scene::new();
    scene.write("work/old.txt", "person\n");
    scene.write("work/untracked.txt", "person\n");
    let before = scene.snapshot();
    let change = scene.change(&before);
    assert!(!change.changed_before.is_empty() && change.dirty_after);
    assert!(change.is_untouched());
}

#[test]
fn a_change_to_a_file_that_was_already_dirty_is_seen() {
    let scene = Scene::new();
    scene.write("work/old.txt", "person\n");
    scene.write("work/untracked.txt", "person\n");
    let before = scene.snapshot();
    scene.write("work/old.txt", "agent!\n");
    scene.write("work/untracked.txt", "agent!\n");
    assert_eq!(
        scene.change(&before).left_uncommitted,
        ["old.txt", "untracked.txt"]
    );
}

#[test]
fn a_dirty_file_that_was_committed_is_no_leftover_and_one_that_was_restored_is_gone() {
    let scene = Scene::new();
    scene.write("work/untracked.txt", "person\n");
    scene.write("work/old.txt", "person\n");
    let before = scene.snapshot();
    scene.agent(&["add", "untracked.txt"]);
    scene.agent(&["commit", "-qm", "take it"]);
    scene.agent(&["checkout", "-q", "old.txt"]);
    let change = scene.change(&before);
    assert_eq!(change.left_uncommitted, [""; 0]);
    assert_eq!(change.discarded, ["old.txt"]);
    assert!(!change.is_untouched());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what an agent does to files")]
fn a_discarded_change_is_gone_and_a_committed_moved_ignored_or_further_changed_one_is_not() {
    let files = ["a", "b", "c", "d", "e"].map(|name| format!("work/{name}.txt"));
    let scene = Scene::new();
    for file in &files {
        scene.write(file, "person\n");
    }
    scene.write("work/old.txt", "person\n");
    let before = scene.snapshot();
    scene.agent(&["add", "a.txt"]);
    scene.agent(&["commit", "-qm", "taken", "a.txt"]);
    std::fs::rename(scene.path("work/b.txt"), scene.path("work/moved.txt")).unwrap();
    std::fs::rename(scene.path("work/c.txt"), scene.path("work/taken.txt")).unwrap();
    scene.agent(&["add", "taken.txt"]);
    scene.agent(&["commit", "-qm", "renamed", "taken.txt"]);
    scene.write("work/.git/info/exclude", "d.txt\n");
    scene.write("work/old.txt", "agent, too\n");
    let change = scene.change(&before);
    assert_eq!(change.discarded, [""; 0]);
    assert_eq!(change.left_uncommitted, ["moved.txt", "old.txt"]);
    std::fs::remove_file(scene.path("work/e.txt")).unwrap();
    scene.agent(&["reset", "-q", "--hard"]);
    assert_eq!(scene.change(&before).discarded, ["e.txt", "old.txt"]);
}

#[test]
fn work_in_a_submodule_that_is_thrown_away_is_gone_and_what_is_committed_or_moved_is_not() {
    let scene = Scene::new();
    scene.write("work/deep/x.txt", "x\n");
    scene.person(&["add", "."]);
    scene.person(&["commit", "-qm", "deep"]);
    scene.person_in("", &["clone", "-q", "work", "library"]);
    scene.person(&["submodule", "-q", "add", "../library", "library"]);
    scene.person(&["commit", "-qm", "with submodule"]);
    let library = |arguments: &[&str]| scene.agent_in("work/library", arguments);
    let begin = || {
        scene.write("work/library/deep/x.txt", "person\n");
        scene.snapshot()
    };
    let throw_away: [&[&str]; 2] = [&["checkout", "-q", "."], &["clean", "-fdq"]];
    for (file, arguments) in ["x.txt", "new.txt"].iter().zip(throw_away) {
        scene.write(&format!("work/library/deep/{file}"), "person\n");
        let before = scene.snapshot();
        scene.agent_commits(file);
        library(arguments);
        assert_eq!(scene.change(&before).discarded, ["library"]);
    }
    let before = begin();
    scene.agent(&["mv", "library", "lib"]);
    assert_eq!(scene.change(&before).discarded, [""; 0]);
    scene.agent(&["mv", "lib", "library"]);
    let before = begin();
    library(&["commit", "-qam", "taken"]);
    assert_eq!(scene.change(&before).discarded, [""; 0]);
    scene.agent(&["commit", "-qam", "taken"]);
    let change = scene.change(&before);
    assert_eq!((change.discarded, change.dirty_after), (vec![], false));
}

#[test]
fn work_in_the_stash_is_no_commit_and_what_it_took_away_is_told() {
    let scene = Scene::new();
    scene.write("work/old.txt", "person\n");
    scene.write("work/untracked.txt", "person\n");
    let before = scene.snapshot();
    scene.write("work/new.txt", "agent\n");
    scene.agent(&["stash", "-q", "-u"]);
    let change = scene.change(&before);
    assert!(change.commits.is_empty() && !change.is_untouched());
    assert_eq!(change.stashed, ["old.txt", "untracked.txt"]);
    assert_eq!(change.discarded, [""; 0]);
    scene.agent(&["stash", "drop", "-q"]);
    let discarded = scene.change(&before).discarded;
    assert_eq!(discarded, ["old.txt", "untracked.txt"]);
}

#[test]
fn each_of_many_paths_is_known() {
    let scene = Scene::new();
    let before = scene.snapshot();
    for number in 0..50 {
        scene.write(&format!("work/{number:03}"), "x");
    }
    let left = scene.change(&before).left_uncommitted;
    assert_eq!((left.len(), left[0].as_str()), (50, "000"));
}

#[test]
fn an_ignored_directory_is_not_looked_at() {
    let scene = Scene::new();
    let git = scene.git().ignoring(&scene.path("work/logs"));
    let before = git.snapshot(start()).unwrap();
    scene.write("work/logs/task/run/metadata.json", "{}");
    scene.write("work/logs.txt", "x");
    let change = git.compare(&before, MARK, &[]).unwrap();
    assert_eq!(change.left_uncommitted, ["logs.txt"]);
    // Ignoring the whole work tree would make every run look clean.
    let git = scene.git().ignoring(&scene.path("work"));
    let before = git.snapshot(start()).unwrap();
    assert!(!before.status.changes.is_empty());
}

#[test]
fn a_tracked_file_below_an_ignored_directory_is_looked_at() {
    let scene = Scene::new();
    scene.write("work/logs/a.txt", "person\n");
    scene.person(&["add", "."]);
    scene.person(&["commit", "-qm", "logs"]);
    let git = scene.git().ignoring(&scene.path("work/logs"));
    let before = git.snapshot(start()).unwrap();
    scene.write("work/logs/a.txt", "agent\n");
    let change = git.compare(&before, MARK, &[]).unwrap();
    assert_eq!(change.left_uncommitted, ["logs/a.txt"]);
}

#[test]
fn an_operation_left_half_done_is_named() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&["checkout", "-qb", "side", "HEAD~1"]);
    scene.write("work/old.txt", "side\n");
    scene.agent(&["commit", "-qam", "side"]);
    scene.agent_fails(&["rebase", "main"]);
    let change = scene.change(&before);
    assert_eq!(change.in_progress.as_deref(), Some("rebase"));
    assert_eq!(change.branch_after, None);
    assert_eq!(change.left_uncommitted, ["old.txt"]);

    let meanwhile = scene.snapshot();
    assert_eq!(meanwhile.in_progress(), Some("rebase"));
    let change = scene.git().compare(&meanwhile, "a/later/run", &[]).unwrap();
    assert!(change.is_untouched());

    scene.agent(&["rebase", "--abort"]);
    for (operation, arguments) in [
        ("merge", &["merge", "main"][..]),
        ("cherry-pick", &["cherry-pick", "main"]),
        ("revert", &["revert", "main"]),
    ] {
        scene.agent_fails(arguments);
        assert_eq!(
            scene.change(&before).in_progress.as_deref(),
            Some(operation)
        );
        scene.agent(&[operation, "--abort"]);
    }
}

#[test]
fn a_lock_of_the_index_that_stays_is_told() {
    let scene = Scene::new();
    let before = scene.snapshot();
    assert!(!scene.change(&before).locked_after);
    scene.write("work/.git/index.lock", "");
    let change = scene.change(&before);
    assert!(!change.locked_before && change.locked_after);
    let change = scene.change(&scene.snapshot());
    assert!(change.locked_before && change.locked_after);
}

#[test]
fn a_repository_in_the_work_tree_is_named_as_left_as_it_is_named_before() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&["init", "-q", "vendor"]);
    assert_eq!(scene.change(&before).left_uncommitted, ["vendor"]);
    let before = scene.snapshot();
    assert_eq!(scene.change(&before).changed_before, ["vendor"]);
}
