//! The way of an isolated run's commits home.

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::git::tests::support::{MARK, Scene, identity, start};
use crate::git::{Homecoming, May};

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
        let came = work_tree.bring_home(&home, MARK, &identity(), &change, may);
        assert_eq!(came.unwrap(), Homecoming::Home { onto: None }, "{value}");
        let tip = scene.person(&["rev-parse", "main"]);
        assert_eq!(Some(tip), change.head_after, "{value}");
        assert_eq!(scene.read(&format!("work/{file}")), "agent\n");
        scene.agent(&["config", "--unset", key]);
    }
}
