//! Diffs that are committed, all or none.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::git::tests::support::{MARK, Scene, identity, told};
use crate::git::{Applied, PatchError};
use crate::model::change::Attribution;

const ADD_LINE: &str = "\
--- a/old.txt
+++ b/old.txt
@@ -1,3 +1,4 @@
 0
+new
 1
 2
";

const ADD_FILE: &str = "\
--- /dev/null
+++ b/docs/added.md
@@ -0,0 +1 @@
+added
";

fn apply(scene: &Scene, blocks: &[&str]) -> Result<Applied, PatchError> {
    let blocks: Vec<String> = blocks.iter().map(|&block| block.to_owned()).collect();
    scene
        .git()
        .apply_patches(&blocks, "apply them\n\nbody", MARK, &identity())
}

/// HEAD, index and work tree, as text.
fn state(scene: &Scene) -> String {
    let head = scene.person(&["rev-parse", "HEAD"]);
    format!(
        "{head}\n{}\n{}",
        scene.person(&["ls-files", "-s"]),
        scene.person(&["status", "-s"])
    )
}

/// Applies blocks that must be refused and must leave everything as it was.
#[track_caller]
fn refused(scene: &Scene, blocks: &[&str]) -> String {
    let before = state(scene);
    let error = apply(scene, blocks).unwrap_err().to_string();
    assert_eq!(state(scene), before);
    error
}

#[test]
fn diffs_become_one_commit_of_the_runs_own() {
    let scene = Scene::new();
    let before = scene.snapshot();
    let applied = apply(&scene, &[ADD_LINE, ADD_FILE]).unwrap();
    let change = scene.change(&before);
    assert_eq!(told(&change), ["own: apply them +2/-0"]);
    assert_eq!(change.head_after, applied.commit);
    assert!(!change.dirty_after);
    assert_eq!(scene.read("work/docs/added.md"), "added\n");
    assert_eq!(
        scene.person(&["log", "-1", "--format=%an|%ce|%B"]),
        "Pat|pat@example.org|apply them\n\nbody"
    );
    let short = &applied.commit.as_ref().unwrap()[..8];
    assert_eq!(applied.to_string(), format!("2 diffs, commit {short}"));
}

#[test]
fn a_block_that_does_not_apply_is_named_and_nothing_is_changed() {
    let scene = Scene::new();
    let wrong = ADD_LINE.replace(" 1\n", " one\n");
    assert_eq!(
        refused(&scene, &[ADD_FILE, &wrong]),
        "block 2 does not apply: patch failed: old.txt:1; old.txt: patch does not apply"
    );
    assert_eq!(
        refused(&scene, &["no diff\n"]),
        "block 1 does not apply: No valid patches in input (allow with \"--allow-empty\")"
    );
    assert!(!scene.path("work/docs").exists());
}

#[test]
fn later_blocks_see_what_earlier_ones_did() {
    let scene = Scene::new();
    let again = ADD_FILE
        .replace("/dev/null", "a/docs/added.md")
        .replace("-0,0 +1", "-1 +1,2");
    let again = again.replace("+added\n", " added\n+more\n");
    apply(&scene, &[ADD_FILE, &again]).unwrap();
    assert_eq!(scene.read("work/docs/added.md"), "added\nmore\n");
}

#[test]
fn a_diff_that_is_already_there_is_passed_over() {
    let scene = Scene::new();
    let block = [ADD_FILE.to_owned()];
    scene
        .git()
        .apply_patches(&block, "earlier", "an/earlier/run", &identity())
        .unwrap();
    let before = scene.snapshot();
    let applied = apply(&scene, &[ADD_FILE]).unwrap();
    assert_eq!(applied.commit, None);
    assert_eq!(
        applied.to_string(),
        "1 diff, 1 already there, nothing to commit"
    );
    assert!(scene.change(&before).is_untouched());
    assert!(
        apply(&scene, &[ADD_FILE, ADD_LINE])
            .unwrap()
            .commit
            .is_some()
    );
}

#[test]
fn no_diff_is_no_commit() {
    let scene = Scene::new();
    let before = scene.snapshot();
    assert_eq!(
        apply(&scene, &[]).unwrap().to_string(),
        "0 diffs, nothing to commit"
    );
    assert!(scene.change(&before).is_untouched());
}

#[test]
fn a_persons_other_work_is_neither_committed_nor_touched() {
    let scene = Scene::new();
    scene.write("work/staged.txt", "staged\n");
    scene.person(&["add", "staged.txt"]);
    scene.write("work/untracked.txt", "untracked\n");
    let before = scene.snapshot();
    apply(&scene, &[ADD_LINE]).unwrap();
    let change = scene.change(&before);
    assert_eq!(change.commits[0].files, ["old.txt"]);
    assert!(change.left_uncommitted.is_empty());
    assert_eq!(
        scene.person(&["status", "-s"]),
        "A  staged.txt\n?? untracked.txt"
    );
}

#[test]
fn uncommitted_changes_in_the_way_are_kept() {
    let scene = Scene::new();
    scene.write("work/old.txt", "person\n");
    scene.write("work/docs/added.md", "person\n");
    assert_eq!(
        refused(&scene, &[ADD_LINE]),
        "the diffs meet uncommitted changes: old.txt: does not match index"
    );
    assert_eq!(
        refused(&scene, &[ADD_FILE]),
        "the diffs meet uncommitted changes: docs/added.md: already exists in working directory"
    );
    assert_eq!(scene.read("work/old.txt"), "person\n");
}

#[test]
fn a_file_that_was_only_touched_is_not_in_the_way() {
    let scene = Scene::new();
    let file = std::fs::File::options()
        .append(true)
        .open(scene.path("work/old.txt"))
        .unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    apply(&scene, &[ADD_LINE]).unwrap();
}

#[test]
fn a_locked_index_is_an_error_that_changes_nothing() {
    let scene = Scene::new();
    scene.write("work/.git/index.lock", "");
    let error = apply(&scene, &[ADD_LINE]).unwrap_err().to_string();
    assert!(error.contains("index.lock': File exists"), "{error}");
    assert_eq!(scene.person(&["status", "-s"]), "");
    assert!(scene.path("work/.git/index.lock").exists());
}

#[test]
fn when_the_branch_cannot_move_the_files_go_back() {
    let scene = Scene::new();
    scene.write("work/.git/refs/heads/main.lock", "");
    let error = refused(&scene, &[ADD_LINE, ADD_FILE]);
    assert!(error.starts_with("`git update-ref` failed: "), "{error}");
    assert!(!scene.path("work/docs").exists());
}

#[test]
fn deletes_renames_modes_and_binaries_are_applied() {
    let scene = Scene::new();
    for (file, contents) in [
        ("gone.txt", "gone\n"),
        ("from.txt", "moved\n"),
        ("run.sh", "#!\n"),
    ] {
        scene.write(&format!("work/{file}"), contents);
    }
    scene.person(&["add", "."]);
    scene.person(&["commit", "-qm", "files"]);
    scene.person(&["checkout", "-qb", "wanted"]);
    scene.person(&["rm", "-q", "gone.txt"]);
    scene.person(&["mv", "from.txt", "to.txt"]);
    scene.person(&["update-index", "--chmod=+x", "run.sh"]);
    scene.write("work/image.bin", [0, 1, 2, 255]);
    scene.person(&["add", "image.bin"]);
    scene.person(&["commit", "-qm", "wanted"]);
    let diff = scene.person(&["diff", "--binary", "-M", "main", "wanted"]) + "\n\n";
    scene.person(&["checkout", "-q", "-f", "main"]);
    apply(&scene, &[&diff]).unwrap();
    let tree = |name: &str| scene.person(&["rev-parse", &format!("{name}^{{tree}}")]);
    assert_eq!(tree("main"), tree("wanted"));
    assert_eq!(scene.person(&["status", "-s"]), "");
    let mode = std::fs::metadata(scene.path("work/run.sh"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111);
}

#[test]
fn line_ends_follow_the_file() {
    let windows = |text: &str| text.replace('\n', "\r\n");
    // A diff that came through a web form, for plain files.
    let scene = Scene::new();
    apply(&scene, &[&windows(ADD_LINE), &windows(ADD_FILE)]).unwrap();
    assert!(scene.read("work/old.txt").starts_with("0\nnew\n1\n"));
    assert_eq!(scene.read("work/docs/added.md"), "added\n");
    // A diff that lost its CRs, and one that lost none, for a file that has them.
    let hunk = ADD_LINE.find("@@\n").unwrap() + 3;
    let exact = format!("{}{}", &ADD_LINE[..hunk], windows(&ADD_LINE[hunk..]));
    for diff in [ADD_LINE, &windows(ADD_LINE), &exact] {
        let scene = Scene::new();
        scene.write("work/old.txt", windows("0\n1\n2\n3\n"));
        scene.person(&["commit", "-qam", "crlf"]);
        apply(&scene, &[diff]).unwrap();
        assert_eq!(
            scene.read("work/old.txt"),
            windows("0\nnew\n1\n2\n3\n"),
            "{diff:?}"
        );
        assert_eq!(apply(&scene, &[diff]).unwrap().already_there, 1);
    }
}

#[test]
fn a_diff_for_a_last_line_without_an_end_is_applied() {
    let scene = Scene::new();
    scene.write("work/old.txt", "0\r\n1");
    scene.person(&["commit", "-qam", "no end"]);
    let diff = "--- a/old.txt\n+++ b/old.txt\n@@ -1,2 +1,2 @@\n 0\n-1\n\\ No newline at end of file\n+2\n\\ No newline at end of file\n";
    apply(&scene, &[diff]).unwrap();
    assert_eq!(scene.read("work/old.txt"), "0\r\n2");
}

#[test]
fn diffs_that_leave_the_work_tree_are_refused() {
    let scene = Scene::new();
    for path in [
        "../outside",
        "/tmp/outside",
        ".git/config",
        "a/../../outside",
    ] {
        let diff = ADD_FILE.replace("b/docs/added.md", &format!("b/{path}"));
        let error = refused(&scene, &[&diff]);
        assert!(error.contains("invalid path"), "{path}: {error}");
    }
}

#[test]
fn diffs_apply_from_a_directory_below_the_root() {
    let scene = Scene::new();
    scene.write("work/deep/x", "");
    let git = crate::git::Git::new(&scene.environment, &scene.path("work/deep"));
    let applied = git
        .apply_patches(&[ADD_LINE.to_owned()], "m", MARK, &identity())
        .unwrap();
    assert!(applied.commit.is_some());
    assert!(scene.read("work/old.txt").contains("new"));
}

#[test]
fn the_first_commit_of_a_repository_can_be_a_diff() {
    let scene = Scene::empty();
    scene.person(&["init", "-q", "work"]);
    let before = scene.snapshot();
    apply(&scene, &[ADD_FILE]).unwrap();
    assert_eq!(scene.told(&before), ["own: apply them +1/-0"]);
}

#[test]
fn hooks_and_settings_of_the_repository_have_no_say() {
    let scene = Scene::new();
    for hook in [
        "pre-commit",
        "commit-msg",
        "reference-transaction",
        "post-commit",
    ] {
        scene.write(&format!("work/.git/hooks/{hook}"), "#!/bin/sh\nexit 1\n");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(scene.path(&format!("work/.git/hooks/{hook}")), executable)
            .unwrap();
    }
    for (key, value) in [
        ("commit.gpgSign", "true"),
        ("apply.whitespace", "error-all"),
        ("diff.noprefix", "true"),
        ("diff.context", "0"),
        ("core.logAllRefUpdates", "false"),
    ] {
        scene.person(&["config", key, value]);
    }
    std::fs::remove_dir_all(scene.path("work/.git/logs")).unwrap();
    let before = scene.snapshot();
    apply(&scene, &[&ADD_LINE.replace("+new", "+new  ")]).unwrap();
    let change = scene.change(&before);
    assert_eq!(told(&change), ["own: apply them +1/-0"]);
    assert_eq!(change.attribution, Attribution::Reflog);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "what a person called it")]
fn diffs_are_applied_in_a_repository_whose_path_is_not_utf_8() {
    let scene = Scene::new();
    let odd = scene.path("").join(OsStr::from_bytes(b"wo\xffrk"));
    std::fs::rename(scene.path("work"), &odd).unwrap();
    std::os::unix::fs::symlink(&odd, scene.path("work")).unwrap();
    assert!(apply(&scene, &[ADD_LINE]).unwrap().commit.is_some());
    assert!(scene.read("work/old.txt").contains("new"));
}
