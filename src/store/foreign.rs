//! What lies in the log root and is none of ours.

use std::path::PathBuf;

use crate::model::ids::{AgentName, RunId, RunPath, TaskName};
use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::store::private::{is_empty, list};
use crate::store::reader::is_run_for_certain;

/// Names what lies in the log root and is none of ours, sorted: paths from there. A directory in
/// which nothing is ours is named itself; what may not be looked into may be ours.
pub fn foreign(layout: &Layout) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    for (name, kind) in list(layout.root())? {
        // What makes git keep the directory belongs to nobody, and the crontab that comes with the
        // program writes its lines there.
        let known = [".gitignore", ".gitkeep", ".keep", ".state", "heartbeat"];
        if known.contains(&name.as_str()) || name.starts_with("cron.log") {
            continue;
        }
        match name.parse() {
            Ok(task) if kind.is_dir() => found.extend(of_task(layout, &task)),
            _ => found.push(name.into()),
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn of_task(layout: &Layout, task: &TaskName) -> Vec<PathBuf> {
    let (mut found, mut is_ours) = (Vec::new(), false);
    let Ok(entries) = list(&layout.task(task)) else {
        return Vec::new();
    };
    for (name, kind) in &entries {
        let agent = name.parse::<AgentName>().ok().filter(|_| kind.is_dir());
        if name.starts_with("task.log") {
            is_ours = true;
        } else if let Some(agent) = agent {
            let (foreign, is_agent) = of_agent(layout, task, &agent);
            found.extend(foreign);
            is_ours |= is_agent;
        } else {
            found.push([task.as_str(), name].iter().collect());
        }
    }
    if !is_ours && !found.is_empty() {
        found = vec![task.as_str().into()];
    }
    found
}

/// What is foreign in the directory of an agent's runs, and whether anything there is ours.
fn of_agent(layout: &Layout, task: &TaskName, agent: &AgentName) -> (Vec<PathBuf>, bool) {
    let itself = || vec![[task.as_str(), agent.as_str()].iter().collect()];
    let (mut found, mut is_ours) = (Vec::new(), false);
    let Ok(entries) = list(&layout.agent(task, agent)) else {
        return (Vec::new(), true);
    };
    for (name, kind) in entries {
        let run = RunPath {
            task: task.clone(),
            agent: agent.clone(),
            run_id: RunId::from_directory(&name),
        };
        let directory = layout.run(&run);
        let may_be_ours = || is_run_for_certain(layout, &run) || list(directory.path()).is_err();
        if name.starts_with("agent.log") || kind.is_dir() && may_be_ours() {
            is_ours = true;
        } else if !is_empty(directory.path()) {
            found.push([task.as_str(), agent.as_str(), &name].iter().collect());
        }
    }
    if !is_ours && !found.is_empty() {
        found = itself();
    }
    (found, is_ours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{begun, folder, log_root, plant};

    #[test]
    fn only_what_is_ours_is_not_foreign() {
        let (_root, layout) = log_root();
        let run = folder(&layout);
        run.begin(&begun(run.run())).unwrap();
        run.finish(&begun(run.run())).unwrap();
        plant(&layout.heartbeat_log(), b"");
        plant(&layout.root().join("cron.log.1"), b"");
        std::fs::create_dir_all(layout.root().join("empty/agent/20260101_000000")).unwrap();
        assert!(foreign(&layout).unwrap().is_empty());
        for file in [
            "app.log",
            "reports/2024/q1/r.pdf",
            "reports/2024/q2/r.pdf",
            "nightly/claude/old/r.pdf",
            "nightly/codex/20260101_000000/dump.sql",
        ] {
            plant(&layout.root().join(file), b"");
        }
        let expected = ["app.log", "nightly/claude/old", "nightly/codex", "reports"];
        assert_eq!(foreign(&layout).unwrap(), expected.map(PathBuf::from));
    }
}
