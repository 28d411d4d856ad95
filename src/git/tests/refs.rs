//! What becomes of other branches, tags and stashes.

use std::fs::File;
use std::time::Duration;

use crate::git::GitError;
use crate::git::reflog::Run;
use crate::git::tests::support::{MARK, Scene};
use crate::process::budget::Budget;

/// A repository with a branch `side` (also a tag) and a stash, both with work of a person's.
fn scene() -> Scene {
    with_work(Scene::new())
}

fn with_work(scene: Scene) -> Scene {
    scene.person(&["checkout", "-qb", "side"]);
    scene.person_commits("s.txt");
    scene.person(&["tag", "-am", "first", "v1"]);
    scene.person(&["checkout", "-q", "main"]);
    scene.write("work/old.txt", "person\n");
    scene.write("work/untracked.txt", "person\n");
    scene.person(&["stash", "-q", "-u", "-m", "later"]);
    scene
}

/// What is told as lost, without names of commits.
#[track_caller]
fn lost(before: &crate::git::Snapshot, scene: &Scene) -> Vec<String> {
    let change = scene.change(before);
    let told = change.lost.iter().map(|lost| {
        let (_, told) = lost.split_once(' ').unwrap();
        told.to_owned()
    });
    told.collect()
}

#[test]
fn commits_of_a_deleted_branch_tag_or_stash_that_nothing_has_are_lost() {
    let reftable = Scene::empty();
    reftable.person(&["init", "-q", "--ref-format=reftable", "work"]);
    reftable.person_commits("old.txt");
    for scene in [scene(), with_work(reftable)] {
        let before = scene.snapshot();
        scene.agent_commits("a.txt");
        assert_eq!(lost(&before, &scene), [""; 0]);
        scene.agent(&["branch", "-qD", "side"]);
        assert_eq!(lost(&before, &scene), [""; 0], "the tag has it");
        scene.agent(&["tag", "-d", "v1"]);
        let side = "`person s.txt` of tag `v1`";
        assert_eq!(lost(&before, &scene), [side]);
        scene.agent(&["stash", "clear"]);
        let mut told = lost(&before, &scene);
        told.sort_unstable();
        assert_eq!(told, ["`On main: later` of the stash", side]);
    }
}

#[test]
fn what_does_not_exist_any_more_is_lost() {
    let scene = scene();
    scene.person(&["tag", "-d", "v1"]);
    let before = scene.snapshot();
    scene.agent(&["branch", "-qD", "side"]);
    scene.agent(&["reflog", "expire", "--expire=now", "--all"]);
    scene.agent(&["gc", "-q", "--prune=now"]);
    assert_eq!(lost(&before, &scene), ["of branch `side`"]);
}

#[test]
fn a_branch_that_was_forced_elsewhere_is_lost_and_one_that_was_rewritten_is_not() {
    let scene = scene();
    scene.person(&["tag", "-d", "v1"]);
    scene.person(&["pack-refs", "--all"]);
    let before = scene.snapshot();
    scene.agent(&["branch", "-qf", "side", "main"]);
    assert_eq!(lost(&before, &scene), ["`person s.txt` of branch `side`"]);
    scene.agent(&["checkout", "-q", "side"]);
    scene.agent_commits("b.txt");
    scene.agent(&["checkout", "-q", "main"]);
    assert_eq!(lost(&before, &scene), ["`person s.txt` of branch `side`"]);
    scene.agent(&["branch", "-qf", "side", "side@{2}"]);
    scene.agent_commits("a.txt");
    scene.agent(&["rebase", "-q", "main", "side"]);
    scene.agent(&["checkout", "-q", "main"]);
    assert_eq!(lost(&before, &scene), [""; 0]);
    scene.agent(&["checkout", "-q", "side"]);
    scene.agent(&["commit", "-q", "--amend", "-m", "better"]);
    scene.agent(&["checkout", "-q", "main"]);
    scene.agent(&["merge", "-q", "--no-edit", "side"]);
    assert_eq!(lost(&before, &scene), [""; 0]);
}

#[test]
fn what_is_reached_from_elsewhere_brought_back_or_moved_by_others_is_not_lost() {
    let scene = scene();
    scene.person(&["tag", "-d", "v1"]);
    scene.person(&["branch", "merged", "main"]);
    scene.person(&["update-ref", "refs/remotes/origin/gone", "side"]);
    let before = scene.snapshot();
    scene.agent(&["branch", "-q", "-m", "side", "renamed"]);
    scene.agent(&["branch", "-q", "-d", "merged"]);
    // As by `git fetch --prune`.
    scene.agent(&["update-ref", "-d", "refs/remotes/origin/gone"]);
    scene.agent(&["stash", "pop", "-q"]);
    scene.agent(&["commit", "-qam", "what was put aside"]);
    assert_eq!(lost(&before, &scene), [""; 0]);

    let before = scene.snapshot();
    scene.person(&["checkout", "-q", "renamed"]);
    scene.person(&["reset", "-q", "--hard", "HEAD~1"]);
    scene.person(&["checkout", "-q", "main"]);
    assert_eq!(lost(&before, &scene), [""; 0]);
}

#[test]
fn giants_among_refs_and_reflogs_are_not_read() {
    for (files, size, why) in [
        (&["refs/heads/giant"][..], 4097, "file too large"),
        (
            &["logs/refs/heads/one", "logs/refs/heads/other"],
            20 << 20,
            "all reflogs together are larger than 32 MiB",
        ),
    ] {
        let scene = Scene::new();
        let before = scene.snapshot();
        scene.agent_commits("a.txt");
        for file in files {
            let file = File::create(scene.path("work/.git").join(file)).unwrap();
            file.set_len(size).unwrap();
        }
        let change = scene.git().compare_guarded(&before, MARK, &[]);
        let Err(GitError::Read { source, .. }) = change else {
            panic!("{change:?}");
        };
        assert_eq!(source.to_string(), why);
    }
}

#[test]
fn refs_and_reflogs_are_read_as_long_as_there_is_time() {
    let scene = scene();
    let before = scene.snapshot();
    let git = scene.git().within(&Budget::new(Duration::ZERO));
    let start = before.start;
    let entries = git.entries(&before.place, Run { mark: MARK, start });
    assert!(entries.is_err(), "{entries:?}");
    let refs = git.refs(&before.place);
    assert!(refs.is_err(), "{refs:?}");
}
