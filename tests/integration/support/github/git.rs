//! The stand-in's bare repositories, and git's own HTTP backend for them.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use super::http::{Request, Response};

fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Host")
        .env("GIT_AUTHOR_EMAIL", "host@example.invalid")
        .env("GIT_COMMITTER_NAME", "Host")
        .env("GIT_COMMITTER_EMAIL", "host@example.invalid")
        .stdin(Stdio::null());
    command
}

/// Runs git in a bare repository; `None` when it fails.
pub fn run(bare: &Path, arguments: &[&str]) -> Option<String> {
    let output = git(bare)
        .arg("--git-dir")
        .arg(bare)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// Makes a repository whose `main` has one commit with a `README.md`.
pub fn create(bare: &Path) {
    std::fs::create_dir_all(bare).unwrap();
    run(bare, &["init", "-q", "--bare", "-b", "main"]).expect("git init");
    commit(bare, "main", "README.md", "# a repository\n", "first");
}

/// Adds a commit with one file to a branch, which is made from `main` when it is not there.
pub fn commit(bare: &Path, branch: &str, file: &str, content: &str, message: &str) -> String {
    let parent = commit_of(bare, branch).or_else(|| commit_of(bare, "main"));
    let index = bare.join("index.tmp");
    let step = |arguments: &[&str], input: &str| {
        let mut child = git(bare)
            .env("GIT_INDEX_FILE", &index)
            .arg("--git-dir")
            .arg(bare)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "git {arguments:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    match &parent {
        Some(parent) => step(&["read-tree", parent], ""),
        None => step(&["read-tree", "--empty"], ""),
    };
    let blob = step(&["hash-object", "-w", "--stdin"], content);
    let cacheinfo = format!("100644,{blob},{file}");
    step(&["update-index", "--add", "--cacheinfo", &cacheinfo], "");
    let tree = step(&["write-tree"], "");
    let mut arguments = vec!["commit-tree", &tree, "-m", message];
    if let Some(parent) = &parent {
        arguments.extend(["-p", parent]);
    }
    let commit = step(&arguments, "");
    step(
        &["update-ref", &format!("refs/heads/{branch}"), &commit],
        "",
    );
    std::fs::remove_file(index).unwrap();
    commit
}

/// The commit of a branch.
pub fn commit_of(bare: &Path, branch: &str) -> Option<String> {
    let reference = format!("refs/heads/{branch}^{{commit}}");
    run(bare, &["rev-parse", "--verify", "--quiet", &reference])
}

/// The commit of each branch, by one process however many there are.
pub fn branches(bare: &Path) -> HashMap<String, String> {
    let format = "--format=%(refname:lstrip=2) %(objectname)";
    let lines = run(bare, &["for-each-ref", format, "refs/heads"]).expect("git for-each-ref");
    let pair = |line: &str| {
        line.split_once(' ')
            .map(|(name, sha)| (name.to_owned(), sha.to_owned()))
    };
    lines.lines().filter_map(pair).collect()
}

/// The object's name and the bytes of a file on a branch.
pub fn file(bare: &Path, branch: &str, path: &str) -> Option<(String, Vec<u8>)> {
    let name = format!("refs/heads/{branch}:{path}");
    let sha = run(bare, &["rev-parse", "--verify", "--quiet", &name])?;
    let output = git(bare)
        .arg("--git-dir")
        .arg(bare)
        .args(["cat-file", "blob", &sha])
        .output()
        .unwrap();
    output.status.success().then_some((sha, output.stdout))
}

/// How many commits a branch has that its base lacks.
pub fn ahead(bare: &Path, base: &str, head: &str) -> usize {
    let range = format!("refs/heads/{base}..refs/heads/{head}");
    let count = run(bare, &["rev-list", "--count", &range]).expect("both are there");
    count.parse().unwrap()
}

/// Answers a request of git by `git http-backend`; `path` begins with the directory's name.
pub fn serve(root: &Path, path: &str, request: &Request, user: Option<&str>) -> Response {
    let mut command = git(root);
    command
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("REQUEST_METHOD", &request.method)
        .env("QUERY_STRING", request.query_string())
        .env("CONTENT_TYPE", request.header("content-type").unwrap_or(""))
        .env("CONTENT_LENGTH", request.body.len().to_string());
    for (variable, header) in [
        ("HTTP_GIT_PROTOCOL", "git-protocol"),
        ("HTTP_CONTENT_ENCODING", "content-encoding"),
    ] {
        if let Some(value) = request.header(header) {
            command.env(variable, value);
        }
    }
    if let Some(user) = user {
        command
            .env("REMOTE_USER", user)
            .env("REMOTE_ADDR", "127.0.0.1");
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = request.body.clone();
    // It may end without having read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let mut output = Vec::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut output)
        .unwrap();
    writer.join().unwrap();
    child.wait().unwrap();
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap_or(output.len());
    let mut response = Response::new(200, output.get(end + 4..).unwrap_or_default());
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => response.status = status[..3].parse().unwrap(),
            Some((name, value)) => response = response.header(name, value),
            None => {}
        }
    }
    response
}
