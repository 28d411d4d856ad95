//! Whose commit it is.

use crate::git::Git;
use crate::git::tests::support::{MARK, Scene, start, told};
use crate::model::change::{Attribution, Standing};

const PERSON: &str = "foreign (its reflog entry is not the run's)";
const FETCHED: &str = "foreign (it came by a fetch)";

#[test]
fn nothing_done_is_nothing_told() {
    let scene = Scene::new();
    let before = scene.snapshot();
    let change = scene.change(&before);
    assert!(change.commits.is_empty());
    assert!(change.is_untouched());
    assert_eq!(change.head_before, change.head_after);
    assert_eq!(change.branch_after.as_deref(), Some("main"));
}

#[test]
fn commits_of_the_agent_are_the_runs_own() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.write("work/old.txt", "0\nx\n2\n3\n4\n5\n6\n7\n8\n");
    scene.agent(&["commit", "-qam", "second   of\ttwo\nlines\n\nbody"]);
    let change = scene.change(&before);
    assert_eq!(
        told(&change),
        ["own: agent a.txt +1/-0", "own: second of two +1/-2"]
    );
    assert_eq!(change.attribution, Attribution::Reflog);
    let commit = &change.commits[1];
    assert_eq!(Some(&commit.id), change.head_after.as_ref());
    assert_eq!(
        (commit.author.as_str(), &commit.files[..]),
        ("Pat", &["old.txt".to_owned()][..])
    );
    assert!(commit.date.is_some_and(|date| date > start()));
    assert!(!change.dirty_after);
}

#[test]
fn an_empty_commit_and_one_without_a_message_are_own_and_change_nothing() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&["commit", "-q", "--allow-empty", "-m", "empty"]);
    scene.agent(&[
        "commit",
        "-q",
        "--allow-empty",
        "--allow-empty-message",
        "-m",
        "",
    ]);
    let change = scene.change(&before);
    assert_eq!(told(&change), ["own: empty +0/-0", "own:  +0/-0"]);
    assert!(change.commits.iter().all(|commit| commit.files.is_empty()));
}

#[test]
fn a_persons_commit_is_foreign() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.person_commits("p.txt");
    let change = scene.change(&before);
    assert_eq!(told(&change), [format!("{PERSON}: person p.txt +1/-0")]);
    assert!(change.is_untouched());
}

#[test]
fn a_person_committing_before_and_after_changes_nothing_for_the_agents_commit() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.person_commits("p.txt");
    scene.agent_commits("a.txt");
    scene.person_commits("q.txt");
    assert_eq!(
        scene.told(&before),
        [
            format!("{PERSON}: person p.txt +1/-0"),
            "own: agent a.txt +1/-0".to_owned(),
            format!("{PERSON}: person q.txt +1/-0"),
        ]
    );
}

#[test]
fn another_runs_commit_names_that_run() {
    let scene = Scene::new();
    let before = scene.snapshot();
    let other = format!("{MARK}_2");
    scene.other_run(&other, &["commit", "-q", "--allow-empty", "-m", "theirs"]);
    assert_eq!(
        scene.told(&before),
        [format!("foreign (run {other} made it): theirs +0/-0")]
    );
}

#[test]
fn checking_out_or_resetting_to_a_persons_commit_does_not_make_it_own() {
    let scene = Scene::new();
    scene.person(&["branch", "work-in-progress"]);
    let before = scene.snapshot();
    scene.person(&["checkout", "-q", "work-in-progress"]);
    scene.person_commits("p.txt");
    scene.person(&["checkout", "-q", "main"]);
    scene.agent(&["checkout", "-q", "work-in-progress"]);
    scene.agent(&["checkout", "-q", "main"]);
    scene.agent(&["reset", "-q", "--hard", "work-in-progress"]);
    assert_eq!(
        scene.told(&before),
        [format!("{PERSON}: person p.txt +1/-0")]
    );
}

#[test]
fn commits_that_were_there_before_are_not_new_work() {
    let scene = Scene::new();
    scene.person_before(&["checkout", "-qb", "side"]);
    scene.write("work/s.txt", "s\n");
    scene.person_before(&["add", "."]);
    scene.person_before(&["commit", "-qm", "side"]);
    scene.person_before(&["checkout", "-q", "main"]);
    let before = scene.snapshot();
    scene.agent(&["merge", "-q", "side"]);
    assert_eq!(
        scene.told(&before),
        ["foreign (it was there before the run): side +1/-0"]
    );
}

#[test]
fn amending_an_older_commit_is_told_as_that() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.write("work/a.txt", "a\n");
    scene.agent(&["add", "."]);
    scene.agent(&["commit", "-q", "--amend", "-m", "better"]);
    scene.agent(&["commit", "-q", "--amend", "-m", "better still"]);
    let change = scene.change(&before);
    assert_eq!(told(&change), ["amended: better still +10/-0"]);
    let of = before.head().unwrap().to_owned();
    assert_eq!(change.commits[0].standing, Standing::Amended { of });
    assert!(!change.is_untouched());
}

#[test]
fn an_amend_by_way_of_a_soft_reset_is_an_amend() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&["reset", "-q", "--soft", "HEAD~1"]);
    scene.agent(&["commit", "-q", "-m", "instead"]);
    assert_eq!(scene.told(&before), ["amended: instead +9/-0"]);
}

#[test]
fn new_commits_after_a_hard_reset_amend_nothing_and_what_was_there_is_lost() {
    for steps in [
        &[&["reset", "-q", "--hard", "HEAD~1"][..]][..],
        // The log of the branch tells of one move only.
        &[
            &["checkout", "-q", "-b", "side", "HEAD~1"],
            &["commit", "-q", "--allow-empty", "-m", "aside"],
            &["checkout", "-q", "main"],
            &["reset", "-q", "--hard", "side"],
        ],
        &[
            &["checkout", "-q", "--orphan", "new"],
            &["commit", "-q", "--allow-empty", "-m", "root"],
            &["branch", "-q", "-M", "new", "main"],
        ],
    ] {
        let scene = Scene::new();
        let before = scene.snapshot();
        for step in steps {
            scene.agent(step);
        }
        scene.agent_commits("a.txt");
        let change = scene.change(&before);
        let told = told(&change);
        assert!(told.iter().all(|one| one.starts_with("own: ")), "{told:?}");
        assert!(
            change
                .lost
                .last()
                .is_some_and(|lost| lost.ends_with("`base two`"))
        );
    }
    // There is no commit to go back to.
    let scene = Scene::new();
    scene.person_before(&["reset", "-q", "--hard", "HEAD~1"]);
    let before = scene.snapshot();
    scene.agent(&["update-ref", "-d", "HEAD"]);
    scene.agent(&["rm", "-q", "--cached", "old.txt"]);
    scene.agent_commits("a.txt");
    let change = scene.change(&before);
    assert_eq!(told(&change), ["own: agent a.txt +1/-0"]);
    assert_eq!(change.lost.len(), 1);
}

#[test]
fn parents_that_a_run_makes_up_keep_no_lost_commit() {
    let scene = Scene::new();
    scene.person_commits("theirs.txt");
    let theirs = scene.person(&["rev-parse", "HEAD"]);
    let before = scene.snapshot();
    scene.agent(&["reset", "-q", "--hard", "HEAD~1"]);
    scene.agent_commits("a.txt");
    let own = scene.agent(&["rev-parse", "HEAD"]);
    scene.write("work/.git/info/grafts", format!("{own} {theirs}\n"));
    assert_eq!(scene.change(&before).lost.len(), 1);

    // A commit graph that was told another parent: after a commit's tree comes the place of its
    // parent in the list of all, see gitformat-commit-graph(5).
    std::fs::remove_file(scene.path("work/.git/info/grafts")).unwrap();
    scene.agent(&["update-ref", "refs/x", &theirs]);
    scene.agent(&["commit-graph", "write", "--reachable"]);
    let all = scene.agent(&["rev-list", "--all"]);
    scene.agent(&["update-ref", "-d", "refs/x"]);
    let mut all: Vec<&str> = all.lines().collect();
    all.sort_unstable();
    let place = all.iter().position(|id| *id == theirs).unwrap();
    let tree = scene.agent(&["rev-parse", "HEAD^{tree}"]);
    let bytes = |from: usize| u8::from_str_radix(&tree[from..from + 2], 16).unwrap();
    let tree: Vec<u8> = (0..tree.len()).step_by(2).map(bytes).collect();
    let path = scene.path("work/.git/objects/info/commit-graph");
    let mut graph = std::fs::read(&path).unwrap();
    let entry = memchr::memmem::find(&graph, &tree).unwrap() + tree.len();
    let place = u32::try_from(place).unwrap().to_be_bytes();
    graph[entry..entry + 4].copy_from_slice(&place);
    std::fs::remove_file(&path).unwrap();
    scene.write("work/.git/objects/info/commit-graph", graph);
    let reached = scene.person(&["rev-list", "HEAD"]);
    assert!(reached.contains(&theirs), "git goes by the graph");
    assert_eq!(scene.change(&before).lost.len(), 1);
}

#[test]
fn history_that_was_rewritten_is_not_lost() {
    let rebase = [
        "-c",
        "sequence.editor=true",
        "rebase",
        "-q",
        "-i",
        "--autosquash",
    ];
    let rebase = |onto: &'static str| [&rebase[..], &[onto]].concat();
    for steps in [
        vec![vec!["commit", "-qa", "--fixup", "HEAD"], rebase("HEAD~2")],
        vec![
            vec!["commit", "-qa", "--fixup", "HEAD~1"],
            [&["-c", "rebase.forceRebase=true"], &rebase("HEAD~3")[..]].concat(),
            vec!["commit", "-q", "--amend", "-m", "other words"],
        ],
    ] {
        let scene = Scene::new();
        scene.write("work/p.txt", "p\n");
        scene.person_before(&["add", "p.txt"]);
        scene.person_before(&["commit", "-qm", "person p.txt"]);
        let before = scene.snapshot();
        scene.write("work/old.txt", "1\n");
        for step in &steps {
            scene.agent(step);
        }
        assert_eq!(scene.change(&before).lost, [""; 0], "{steps:?}");
    }
}

#[test]
fn amending_the_first_commit_of_all_is_an_amend() {
    let scene = Scene::new();
    scene.person_before(&["reset", "-q", "--hard", "HEAD~1"]);
    let before = scene.snapshot();
    scene.agent(&["commit", "-q", "--amend", "-m", "root"]);
    assert_eq!(scene.told(&before), ["amended: root +1/-0"]);
}

#[test]
fn amending_ones_own_commit_leaves_one_own_commit() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.agent_commits("b.txt");
    scene.write("work/c.txt", "c\n");
    scene.agent(&["add", "."]);
    scene.agent(&["commit", "-q", "--amend", "-m", "b and c"]);
    assert_eq!(
        scene.told(&before),
        ["own: agent a.txt +1/-0", "own: b and c +2/-0"]
    );
}

#[test]
fn who_threw_commits_away_is_told_by_the_move_that_left_them() {
    let reset = ["reset", "-q", "--hard", "HEAD~1"];
    // A person's commit of the run's time hides nothing.
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&reset);
    scene.agent_commits("a.txt");
    scene.person_commits("p.txt");
    assert!(scene.change(&before).lost[0].ends_with("`base two`"));
    // It is lost itself, with or without new ones.
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.person_commits("p.txt");
    scene.agent(&reset);
    assert!(scene.change(&before).lost[0].ends_with("`person p.txt`"));
    scene.agent_commits("a.txt");
    let change = scene.change(&before);
    assert!(change.lost[0].ends_with("`person p.txt`"));
    assert_eq!(told(&change), ["own: agent a.txt +1/-0"]);
    // What a person takes away is not.
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.person(&["reset", "-q", "--hard", "HEAD~2"]);
    scene.agent_commits("b.txt");
    assert_eq!(scene.change(&before).lost, [""; 0]);
}

#[test]
fn amending_a_persons_commit_of_the_runs_time_is_an_amend() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.person_commits("p.txt");
    let of = scene.person(&["rev-parse", "HEAD"]);
    scene.agent(&["commit", "-q", "--amend", "-m", "taken over"]);
    assert_eq!(
        scene.change(&before).commits[0].standing,
        Standing::Amended { of }
    );
}

#[test]
fn squashing_ones_own_commits_leaves_one_own_commit() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.agent_commits("b.txt");
    scene.agent(&["reset", "-q", "--soft", "HEAD~2"]);
    scene.agent(&["commit", "-qm", "both"]);
    assert_eq!(scene.told(&before), ["own: both +2/-0"]);
}

#[test]
fn a_fixup_by_rebase_leaves_one_own_commit() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.write("work/a.txt", "a.txt\nmore\n");
    scene.agent(&["commit", "-q", "-a", "--fixup", "HEAD"]);
    scene.agent(&[
        "-c",
        "sequence.editor=true",
        "rebase",
        "-q",
        "-i",
        "--autosquash",
        "HEAD~2",
    ]);
    assert_eq!(scene.told(&before), ["own: agent a.txt +2/-0"]);
}

#[test]
fn rebasing_an_older_commit_is_no_new_work() {
    let scene = Scene::new();
    scene.person_before(&["branch", "upstream", "HEAD~1"]);
    scene.person_before(&["checkout", "-q", "upstream"]);
    scene.person_before(&["commit", "-q", "--allow-empty", "-m", "upstream"]);
    scene.person_before(&["checkout", "-q", "main"]);
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.agent(&["rebase", "-q", "upstream"]);
    assert_eq!(
        scene.told(&before),
        [
            "foreign (it was there before the run): upstream +0/-0",
            "amended: base two +9/-0",
            "own: agent a.txt +1/-0",
        ]
    );
}

#[test]
fn a_commit_on_another_branch_is_elsewhere() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&["checkout", "-qb", "side/one"]);
    scene.agent_commits("a.txt");
    scene.agent_commits("b.txt");
    scene.agent(&["commit", "-q", "--amend", "-m", "agent b.txt again"]);
    scene.agent(&["checkout", "-q", "main"]);
    let change = scene.change(&before);
    assert_eq!(
        told(&change),
        [
            "on side/one: agent a.txt +1/-0",
            "on side/one: agent b.txt again +1/-0"
        ]
    );
    assert_eq!(change.branch_after.as_deref(), Some("main"));
    assert!(!change.is_untouched());
}

#[test]
fn a_run_that_leaves_its_branch_is_seen_on_both() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.agent(&["checkout", "-qb", "side"]);
    scene.agent_commits("b.txt");
    let change = scene.change(&before);
    assert_eq!(
        told(&change),
        ["own: agent a.txt +1/-0", "on side: agent b.txt +1/-0"]
    );
    assert_eq!(change.branch_before.as_deref(), Some("main"));
    assert_eq!(change.branch_after.as_deref(), Some("side"));
}

#[test]
fn a_renamed_start_branch_has_its_commits_elsewhere() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.agent(&["branch", "-m", "main", "trunk"]);
    assert_eq!(scene.told(&before), ["on trunk: agent a.txt +1/-0"]);
    // Nothing left to look at: neither branch nor the commits of the log.
    scene.agent(&["checkout", "-q", "--orphan", "empty"]);
    scene.agent(&["branch", "-q", "-D", "trunk"]);
    scene.agent(&[
        "reflog",
        "expire",
        "--expire=now",
        "--expire-unreachable=now",
        "--all",
    ]);
    scene.agent(&["gc", "-q", "--prune=now"]);
    assert!(scene.change(&before).commits.is_empty());
}

#[test]
fn commits_on_a_detached_head_are_on_no_branch() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&["checkout", "-q", "--detach"]);
    scene.agent_commits("a.txt");
    assert_eq!(scene.told(&before), ["on no branch: agent a.txt +1/-0"]);
}

#[test]
fn a_run_that_began_detached_commits_to_head() {
    let scene = Scene::new();
    scene.person_before(&["checkout", "-q", "--detach"]);
    let before = scene.snapshot();
    assert_eq!(before.branch(), None);
    scene.agent_commits("a.txt");
    assert_eq!(scene.told(&before), ["own: agent a.txt +1/-0"]);
}

#[test]
fn a_commit_that_was_reset_away_is_on_no_branch() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.agent(&["reset", "-q", "--hard", "HEAD~1"]);
    let change = scene
        .git()
        .compare(&before, MARK, &["docs/**".to_owned()])
        .unwrap();
    assert_eq!(told(&change), ["on no branch: agent a.txt +1/-0"]);
    assert!(change.commits[0].outside_paths.is_empty());

    scene.agent_commits("b.txt");
    assert_eq!(scene.told(&before), ["own: agent b.txt +1/-0"]);
}

#[test]
fn resetting_older_commits_away_is_no_commit() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&["reset", "-q", "--hard", "HEAD~1"]);
    let change = scene.change(&before);
    assert!(change.commits.is_empty());
    assert_ne!(change.head_before, change.head_after);
}

/// `work` follows a remote repository, to which a colleague has pushed `c.txt`.
fn with_remote() -> Scene {
    let scene = Scene::new();
    scene.person_in("", &["init", "-q", "--bare", "remote.git"]);
    scene.person(&["remote", "add", "origin", "../remote.git"]);
    scene.person_before(&["push", "-q", "-u", "origin", "main"]);
    scene.person_in("", &["clone", "-q", "remote.git", "colleague"]);
    colleague_pushes(&scene, "c.txt");
    scene
}

fn colleague_pushes(scene: &Scene, file: &str) {
    scene.person_in("colleague", &["pull", "-q", "--rebase"]);
    scene.write(&format!("colleague/{file}"), "c\n");
    scene.person_in("colleague", &["add", "."]);
    scene.person_in(
        "colleague",
        &["commit", "-qm", &format!("colleague {file}")],
    );
    scene.person_in("colleague", &["push", "-q"]);
}

#[test]
fn what_a_remote_repository_threw_away_or_a_shallow_clone_cut_off_is_not_lost_and_own_work_is() {
    let scene = with_remote();
    let remote = format!("file://{}", scene.path("remote.git").display());
    scene.person_in("", &["clone", "-q", "--depth", "1", &remote, "shallow"]);
    let git = Git::new(&scene.environment, &scene.path("shallow"));
    let before = git.snapshot(start()).unwrap();
    colleague_pushes(&scene, "d.txt");
    scene.agent_in("shallow", &["fetch", "-q", "--depth", "1"]);
    scene.agent_in("shallow", &["reset", "-q", "--hard", "origin/main"]);
    let change = git.compare(&before, MARK, &[]).unwrap();
    assert_ne!(change.head_after.as_deref(), before.head());
    assert_eq!(change.lost, [""; 0]);

    for (has_work, is_pushed) in [(false, false), (true, false), (true, true)] {
        let scene = with_remote();
        scene.person(&["pull", "-q"]);
        if has_work {
            scene.person_commits("p.txt");
        }
        let before = scene.snapshot();
        if is_pushed {
            // Others had it for a moment.
            scene.agent(&["push", "-q"]);
        }
        scene.person_in("colleague", &["commit", "-q", "--amend", "-m", "instead"]);
        scene.person_in("colleague", &["push", "-qf"]);
        scene.agent(&["fetch", "-q"]);
        scene.agent(&["reset", "-q", "--hard", "origin/main"]);
        let lost = scene.change(&before).lost;
        let words = lost.iter().filter_map(|one| Some(one.split_once(' ')?.1));
        let expected = if has_work {
            &["`person p.txt`"][..]
        } else {
            &[]
        };
        assert_eq!(words.collect::<Vec<_>>(), expected);
    }
}

#[test]
fn pulled_commits_are_foreign() {
    let scene = with_remote();
    let before = scene.snapshot();
    scene.agent(&["pull", "-q"]);
    assert_eq!(
        scene.told(&before),
        [format!("{FETCHED}: colleague c.txt +1/-0")]
    );
}

#[test]
fn commits_pulled_from_an_address_are_foreign() {
    let scene = with_remote();
    let before = scene.snapshot();
    scene.agent(&["pull", "-q", "../colleague", "main"]);
    assert_eq!(
        scene.told(&before),
        [format!("{FETCHED}: colleague c.txt +1/-0")]
    );
}

#[test]
fn commits_fetched_into_a_local_branch_are_foreign_whatever_was_noted_aside() {
    for target in ["main:tmp", "+main:there"] {
        let scene = with_remote();
        scene.person(&["branch", "there", "HEAD~1"]);
        let before = scene.snapshot();
        scene.agent(&[
            "fetch",
            "-q",
            "--no-write-fetch-head",
            "../colleague",
            target,
        ]);
        scene.agent(&["merge", "-q", target.split_once(':').unwrap().1]);
        assert_eq!(
            scene.told(&before),
            [format!("{FETCHED}: colleague c.txt +1/-0")]
        );
    }
}

#[test]
fn an_own_commit_whose_message_reads_as_a_fetch_brings_nothing_fetched() {
    let scene = with_remote();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    for message in ["storing head", "fast-forward"] {
        scene.agent(&["commit", "-q", "--allow-empty", "-m", message]);
    }
    assert_eq!(
        scene.told(&before),
        [
            "own: agent a.txt +1/-0",
            "own: storing head +0/-0",
            "own: fast-forward +0/-0"
        ]
    );
}

#[test]
fn a_merge_of_pulled_commits_is_own_and_changes_nothing_itself() {
    let scene = with_remote();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.agent(&["pull", "-q", "--no-rebase", "--no-edit"]);
    let change = scene
        .git()
        .compare(&before, MARK, &["a.txt".to_owned()])
        .unwrap();
    assert_eq!(change.commits.len(), 3);
    assert!(told(&change).contains(&"own: agent a.txt +1/-0".to_owned()));
    assert!(told(&change).contains(&format!("{FETCHED}: colleague c.txt +1/-0")));
    let merge = &change.commits[2];
    assert_eq!(merge.standing, Standing::Own);
    assert!(merge.files.is_empty() && merge.outside_paths.is_empty());
}

#[test]
fn a_pull_with_rebase_keeps_own_and_pulled_apart() {
    let scene = with_remote();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.agent(&["pull", "-q", "--rebase"]);
    assert_eq!(
        scene.told(&before),
        [
            format!("{FETCHED}: colleague c.txt +1/-0"),
            "own: agent a.txt +1/-0".to_owned()
        ]
    );
}

#[test]
fn pushing_and_fetching_does_not_disown_a_commit() {
    let scene = with_remote();
    scene.person(&["pull", "-q"]);
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.agent(&["push", "-q"]);
    scene.agent(&["fetch", "-q"]);
    scene.agent_commits("b.txt");
    // Without a name for the remote, git notes no push.
    scene.agent(&["push", "-q", "../remote.git", "main"]);
    scene.agent(&["fetch", "-q"]);
    assert_eq!(
        scene.told(&before),
        ["own: agent a.txt +1/-0", "own: agent b.txt +1/-0"]
    );
}

#[test]
fn a_commit_that_only_the_remote_keeps_is_named_by_its_branch_there() {
    let scene = with_remote();
    let before = scene.snapshot();
    scene.agent(&["checkout", "-qb", "side"]);
    scene.agent_commits("a.txt");
    scene.agent(&["push", "-q", "origin", "side"]);
    scene.agent(&["checkout", "-q", "main"]);
    scene.agent(&["branch", "-q", "-D", "side"]);
    assert_eq!(scene.told(&before), ["on origin/side: agent a.txt +1/-0"]);
}

/// Commits `s.txt` and `t.txt` as the agent on a new branch `side`, and `m.txt` as a person on
/// `main`, which is then checked out.
fn side_branch(scene: &Scene) {
    scene.agent(&["checkout", "-qb", "side"]);
    scene.agent_commits("s.txt");
    scene.agent_commits("t.txt");
    scene.agent(&["checkout", "-q", "main"]);
    scene.person_commits("m.txt");
}

#[test]
fn own_side_work_brought_to_the_branch_is_own() {
    let by: [(&[&[&str]], &[&str]); 4] = [
        (
            &[&["merge", "-q", "--no-edit", "side"]],
            &[
                "own: agent s.txt +1/-0",
                "own: agent t.txt +1/-0",
                "own: Merge branch 'side' +0/-0",
            ],
        ),
        (
            &[
                &["merge", "-q", "--squash", "side"],
                &["commit", "-qm", "squashed"],
            ],
            &["own: squashed +2/-0"],
        ),
        (
            &[&["cherry-pick", "main..side"]],
            &["own: agent s.txt +1/-0", "own: agent t.txt +1/-0"],
        ),
        (
            &[
                &["rebase", "-q", "main", "side"],
                &["checkout", "-q", "main"],
                &["merge", "-q", "side"],
                &["branch", "-q", "-d", "side"],
            ],
            &["own: agent s.txt +1/-0", "own: agent t.txt +1/-0"],
        ),
    ];
    for (commands, expected) in by {
        let scene = Scene::new();
        let before = scene.snapshot();
        side_branch(&scene);
        for command in commands {
            scene.agent(command);
        }
        let told: Vec<String> = scene
            .told(&before)
            .into_iter()
            .filter(|line| line.starts_with("own"))
            .collect();
        assert_eq!(told, expected, "{commands:?}");
    }
}

#[test]
fn a_merge_counts_what_it_makes_different_from_both_sides() {
    let scene = Scene::new();
    let before = scene.snapshot();
    side_branch(&scene);
    scene.agent(&["merge", "-q", "--no-commit", "side"]);
    scene.write("work/s.txt", "resolved\n");
    scene.agent(&["add", "."]);
    scene.agent(&["commit", "-qm", "merged"]);
    let change = scene.change(&before);
    let merge = change.commits.last().unwrap();
    assert_eq!(merge.subject, "merged");
    assert_eq!(merge.files, ["s.txt"]);
}

#[test]
fn work_of_a_linked_work_tree_is_own_even_when_tree_and_branch_are_gone() {
    let scene = with_remote();
    let before = scene.snapshot();
    scene.agent(&["worktree", "add", "-q", "../linked", "-b", "linked"]);
    scene.write("linked/a.txt", "a\n");
    scene.agent_in("linked", &["add", "."]);
    scene.agent_in("linked", &["commit", "-qm", "agent a.txt"]);
    scene.agent_in("linked", &["push", "-q", "origin", "linked"]);
    assert_eq!(scene.told(&before), ["on linked: agent a.txt +1/-0"]);
    scene.agent(&["merge", "-q", "linked"]);
    scene.agent(&["worktree", "remove", "../linked"]);
    scene.agent(&["branch", "-q", "-D", "linked"]);
    assert_eq!(scene.told(&before), ["own: agent a.txt +1/-0"]);
}

/// Makes a commit as a person without `git commit`, on top of HEAD.
fn person_makes_commit(scene: &Scene) -> String {
    scene.person(&[
        "commit-tree",
        "HEAD^{tree}",
        "-p",
        "HEAD",
        "-m",
        "by plumbing",
    ])
}

#[test]
fn what_the_agent_brings_is_not_its_own_when_head_had_it_before() {
    let scene = Scene::new();
    scene.person(&["branch", "side"]);
    let before = scene.snapshot();
    scene.person(&["checkout", "-q", "side"]);
    let commit = person_makes_commit(&scene);
    scene.person(&["update-ref", "HEAD", &commit]);
    scene.person(&["checkout", "-q", "main"]);
    scene.agent(&["merge", "-q", "side"]);
    assert_eq!(
        scene.told(&before),
        [format!("{PERSON}: by plumbing +0/-0")]
    );
}

#[test]
fn what_the_agent_builds_on_is_not_its_own() {
    let scene = Scene::new();
    let before = scene.snapshot();
    // No entry tells of this one.
    let commit = person_makes_commit(&scene);
    scene.write("work/.git/refs/heads/main", commit + "\n");
    scene.agent_commits("a.txt");
    assert_eq!(
        scene.told(&before),
        [
            "foreign (no reflog entry tells who made it): by plumbing +0/-0",
            "own: agent a.txt +1/-0"
        ]
    );
}

#[test]
fn a_merge_into_a_branch_whose_tip_is_fresh_amends_nothing() {
    let scene = Scene::new();
    scene.person_commits("p.txt");
    scene.person_commits("q.txt");
    let before = scene.snapshot();
    scene.agent(&["checkout", "-q", "-b", "side", "HEAD~2"]);
    scene.agent_commits("a.txt");
    scene.agent(&["checkout", "-q", "main"]);
    scene.agent(&["merge", "-q", "--no-edit", "side"]);
    assert_eq!(
        scene.told(&before),
        ["own: agent a.txt +1/-0", "own: Merge branch 'side' +0/-0"]
    );
}

#[test]
fn a_commit_dated_long_ago_is_still_the_runs() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&[
        "-c",
        "alias.x=!GIT_COMMITTER_DATE=2001-01-01T00:00:00Z git commit --allow-empty -qm old",
        "x",
    ]);
    assert_eq!(scene.told(&before), ["own: old +0/-0"]);
}

#[test]
fn a_person_merging_the_agents_work_does_not_disown_it() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&["checkout", "-qb", "side"]);
    scene.agent_commits("a.txt");
    scene.agent(&["checkout", "-q", "main"]);
    scene.person(&["merge", "-q", "side"]);
    assert_eq!(scene.told(&before), ["own: agent a.txt +1/-0"]);
}

#[test]
fn the_first_commit_of_a_repository_is_own() {
    let scene = Scene::empty();
    scene.person(&["init", "-q", "work"]);
    let before = scene.snapshot();
    assert_eq!((before.head(), before.branch()), (None, Some("main")));
    assert!(scene.change(&before).is_untouched());
    scene.agent_commits("a.txt");
    let change = scene.change(&before);
    assert_eq!(told(&change), ["own: agent a.txt +1/-0"]);
    assert_eq!(change.head_before, None);
}

#[test]
fn a_first_commit_on_another_branch_is_elsewhere() {
    let scene = Scene::empty();
    scene.person(&["init", "-q", "work"]);
    let before = scene.snapshot();
    scene.agent(&["checkout", "-q", "--orphan", "side"]);
    scene.agent_commits("a.txt");
    assert_eq!(scene.told(&before), ["on side: agent a.txt +1/-0"]);
}

#[test]
fn a_repository_that_keeps_no_reflogs_keeps_the_agents() {
    let scene = Scene::new();
    scene.person(&["config", "core.logAllRefUpdates", "false"]);
    std::fs::remove_dir_all(scene.path("work/.git/logs")).unwrap();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    let change = scene.change(&before);
    assert_eq!(told(&change), ["own: agent a.txt +1/-0"]);
    assert_eq!(change.attribution, Attribution::Reflog);
}

#[test]
fn without_any_reflog_entry_the_range_counts_and_is_said() {
    let scene = with_remote();
    scene.person(&["config", "core.logAllRefUpdates", "false"]);
    std::fs::remove_dir_all(scene.path("work/.git/logs")).unwrap();
    let before = scene.snapshot();
    // This stands for a tool that is not git and writes no reflog.
    scene.person(&["fetch", "-q"]);
    scene.person(&["reset", "-q", "--hard", "origin/main"]);
    scene.person_commits("x.txt");
    let told_of = |why: &str| {
        [
            format!("foreign ({why}): colleague c.txt +1/-0"),
            "own: person x.txt +1/-0".to_owned(),
        ]
    };
    let change = scene.change(&before);
    assert_eq!(change.attribution, Attribution::Range);
    assert_eq!(told(&change), told_of("it came by a fetch"));
    std::fs::remove_file(scene.path("work/.git/FETCH_HEAD")).unwrap();
    assert_eq!(
        scene.told(&before),
        told_of("no reflog entry tells who made it")
    );
}

#[test]
fn a_log_written_anew_during_the_run_is_read() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    scene.agent(&["reflog", "expire", "--expire=2022-01-01", "--all"]);
    scene.person_commits("p.txt");
    assert_eq!(
        scene.told(&before),
        [
            "own: agent a.txt +1/-0".to_owned(),
            format!("{PERSON}: person p.txt +1/-0")
        ]
    );
}

#[test]
fn refs_in_the_reftable_format_are_read() {
    let scene = Scene::empty();
    scene.person(&["init", "-q", "--ref-format=reftable", "work"]);
    let before = scene.snapshot();
    assert!(scene.change(&before).is_untouched());
    scene.agent_commits("a.txt");
    scene.person_commits("p.txt");
    scene.agent(&["checkout", "-qb", "side"]);
    scene.agent_commits("b.txt");
    let change = scene.change(&before);
    assert_eq!(
        told(&change),
        [
            "own: agent a.txt +1/-0".to_owned(),
            format!("{PERSON}: person p.txt +1/-0"),
            "on side: agent b.txt +1/-0".to_owned(),
        ]
    );
    assert_eq!(change.attribution, Attribution::Reflog);
}

#[test]
fn many_commits_of_others_are_bounded_and_hide_no_own_one() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent_commits("a.txt");
    let tree = scene.person(&["rev-parse", "HEAD^{tree}"]);
    let mut stream = String::new();
    for number in 0..105 {
        let from = if number == 0 {
            "from refs/heads/main^0\n"
        } else {
            ""
        };
        stream.push_str("commit refs/heads/import\ncommitter P <p@x> 1800000000 +0000\n");
        stream.push_str(&["data 1\nx", from, "M 040000 ", &tree, " \n"].concat());
    }
    scene.write("stream", stream);
    let pipe = format!(
        "!git fast-import --quiet < {}",
        scene.path("stream").display()
    );
    scene.person(&["-c", &format!("alias.import={pipe}"), "import"]);
    scene.person(&["merge", "-q", "import"]);
    let told = scene.told(&before);
    assert_eq!(told.len(), 101);
    assert_eq!(told[0], "own: agent a.txt +1/-0");
}

#[test]
fn paths_are_globs_from_the_root_of_the_work_tree() {
    let scene = Scene::new();
    let before = scene.snapshot();
    for file in [
        "docs/deep/a.md",
        "docs/b.md",
        "c.md",
        "src/d.md",
        ".github/e.md",
    ] {
        scene.write(&format!("work/{file}"), "x\n");
    }
    scene.agent(&["add", "."]);
    scene.agent(&["commit", "-qm", "five files"]);
    let outside = |paths: &[&str]| {
        let paths: Vec<String> = paths.iter().map(|&path| path.to_owned()).collect();
        let change = scene.git().compare(&before, MARK, &paths).unwrap();
        change.commits[0].outside_paths.join(" ")
    };
    assert_eq!(outside(&[]), "");
    assert_eq!(outside(&["docs/**", "*.md"]), ".github/e.md src/d.md");
    assert_eq!(
        outside(&["docs/*"]),
        ".github/e.md c.md docs/deep/a.md src/d.md"
    );
    assert_eq!(outside(&["**/*.md"]), "");
    let error = scene
        .git()
        .compare(&before, MARK, &["a/**b".to_owned()])
        .unwrap_err();
    assert_eq!(error.to_string(), "`a/**b` is no pattern for paths");
}

#[test]
fn binary_files_deletions_and_odd_names_are_counted() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.write("work/image.bin", [0, 159, 146, 150]);
    scene.write("work/tab\tand\nline", "x\n");
    scene.agent(&["rm", "-q", "old.txt"]);
    scene.agent(&["add", "."]);
    scene.agent(&["commit", "-qm", "odd"]);
    let change = scene.change(&before);
    let commit = &change.commits[0];
    assert!(commit.binary);
    assert_eq!((commit.insertions, commit.deletions), (1, 10));
    assert_eq!(commit.files, ["image.bin", "old.txt", "tab\tand\nline"]);
}

#[test]
fn a_rename_touches_both_paths() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.agent(&["mv", "old.txt", "new.txt"]);
    scene.agent(&["commit", "-qm", "moved"]);
    assert_eq!(
        scene.change(&before).commits[0].files,
        ["new.txt", "old.txt"]
    );
}

#[test]
fn settings_of_the_user_do_not_change_what_is_read() {
    let scene = Scene::new();
    for (key, value) in [
        ("log.showSignature", "true"),
        ("log.showRoot", "false"),
        ("log.date", "relative"),
        ("color.ui", "always"),
        ("diff.noprefix", "true"),
        ("diff.renames", "copies"),
        ("diff.relative", "true"),
        ("diff.external", "false"),
        ("status.branch", "false"),
        ("status.showStash", "true"),
        ("status.showUntrackedFiles", "no"),
        ("format.pretty", "oneline"),
        ("core.quotePath", "true"),
        ("i18n.logOutputEncoding", "latin1"),
    ] {
        scene.person(&["config", "--global", key, value]);
    }
    let before = scene.snapshot();
    scene.write("work/ü.txt", "ü\n");
    assert_eq!(scene.change(&before).left_uncommitted, ["ü.txt"]);
    scene.agent(&["add", "."]);
    scene.agent(&["commit", "-qm", "Übung"]);
    assert_eq!(scene.told(&before), ["own: Übung +1/-0"]);
}

#[test]
fn a_replaced_object_hides_nothing_of_a_commit() {
    let scene = Scene::new();
    scene.write("work/f", "f\n");
    scene.person(&["checkout", "-qb", "side"]);
    scene.person_before(&["add", "f"]);
    scene.person_before(&["commit", "-qm", "harmless"]);
    scene.person(&["checkout", "-q", "main"]);
    let before = scene.snapshot();
    scene.agent_commits("g");
    scene.agent(&["replace", "HEAD", "side"]);
    let paths = ["f".to_owned()];
    let change = scene.git().compare(&before, MARK, &paths).unwrap();
    assert_eq!(told(&change), ["own: agent g +1/-0"]);
    assert_eq!(change.commits[0].outside_paths, ["g"]);
}

#[test]
fn a_submodule_that_gitmodules_says_to_ignore_is_counted_and_held_to_the_paths() {
    let scene = Scene::new();
    scene.person_in("", &["clone", "-q", "work", "library"]);
    scene.person(&["submodule", "-q", "add", "../library", "library"]);
    let ignore = ["config", "-f", ".gitmodules", "submodule.library.ignore"];
    scene.person(&[&ignore[..], &["all"]].concat());
    scene.person(&["add", ".gitmodules"]);
    scene.person(&["commit", "-qm", "with submodule"]);
    let before = scene.snapshot();
    scene.agent_in("work/library", &["checkout", "-q", "HEAD~1"]);
    scene.agent(&["add", "-f", "library"]);
    scene.agent(&["commit", "-qm", "bump"]);
    let paths = ["old.txt".to_owned()];
    let change = scene.git().compare(&before, MARK, &paths).unwrap();
    assert_eq!(told(&change), ["own: bump +1/-1"]);
    assert_eq!(change.commits[0].outside_paths, ["library"]);
}

#[test]
fn a_line_in_a_reflog_without_objects_is_passed_over() {
    let scene = Scene::new();
    let before = scene.snapshot();
    scene.person_commits("theirs.txt");
    scene.agent_commits("ours.txt");
    let log = "work/.git/logs/HEAD";
    let null = "0".repeat(40);
    let line = |name| format!("{null} {name} A <a@x> 1795229138 +0000\tagent-runner/{MARK}: x\n");
    let lines = [":1", "--all", "^HEAD", ""].map(line).concat();
    scene.write(log, scene.read(log) + &lines);
    assert_eq!(
        scene.told(&before),
        [
            "foreign (its reflog entry is not the run's): person theirs.txt +1/-0",
            "own: agent ours.txt +1/-0"
        ]
    );
}
