//! A real git server over HTTP: git's own `http-backend` behind the least of CGI, with a token.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use tempfile::TempDir;

/// A server of private repositories; it ends with this value.
#[derive(Debug)]
pub struct GitServer {
    root: TempDir,
    port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    authorization: String,
    /// The heads of all requests, in order.
    requests: Mutex<Vec<String>>,
    /// Where every request is sent instead.
    redirect: Mutex<Option<String>>,
    /// Pushes land, and their answers are lost.
    loses_answers: AtomicBool,
    /// Nothing is ever answered.
    is_silent: AtomicBool,
    is_over: AtomicBool,
}

impl GitServer {
    /// A server on a free port, for those who know the token.
    pub fn new(token: &str) -> Self {
        let basic = format!("x-access-token:{token}");
        let basic = base64::engine::general_purpose::STANDARD.encode(basic);
        let state = Arc::new(State {
            authorization: format!("authorization: basic {}", basic.to_lowercase()),
            ..State::default()
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let root = tempfile::tempdir().unwrap();
        let (place, shared) = (root.path().to_owned(), Arc::clone(&state));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (state, place) = (Arc::clone(&shared), place.clone());
                thread::spawn(move || {
                    // A client that goes away is no failure of the server.
                    serve(&state, &place, &stream.unwrap()).unwrap_or_default();
                });
            }
        });
        Self { root, port, state }
    }

    /// The address of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// Makes a repository with one commit of `README.md` on `main`.
    pub fn repository(&self, name: &str) -> PathBuf {
        let bare = self.root.path().join(name);
        let work = self.root.path().join(format!("{name}-first"));
        fs::create_dir_all(&work).unwrap();
        fs::write(work.join("README.md"), "# a repository\n").unwrap();
        git(&work, &["init", "-q", "-b", "main"]);
        git(&work, &["add", "."]);
        git(&work, &["commit", "-q", "-m", "first"]);
        let (from, to) = (work.to_str().unwrap(), bare.to_str().unwrap());
        git(&work, &["clone", "-q", "--bare", from, to]);
        bare
    }

    /// Makes every push run a script first.
    pub fn pre_receive(&self, name: &str, script: &str) {
        let hook = self.root.path().join(name).join("hooks/pre-receive");
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn loses_answers(&self, is_so: bool) {
        self.state.loses_answers.store(is_so, Ordering::SeqCst);
    }

    pub fn is_silent(&self, is_so: bool) {
        self.state.is_silent.store(is_so, Ordering::SeqCst);
    }

    pub fn redirects_to(&self, url: String) {
        *self.state.redirect.lock().unwrap() = Some(url);
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

/// Runs git as a person, who must succeed.
#[track_caller]
pub fn git(directory: &std::path::Path, arguments: &[&str]) -> String {
    let output = person(directory).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// git as a person calls it, with nothing of the machine's configuration.
pub fn person(directory: &std::path::Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null());
    for role in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{role}_NAME"), "A Person");
        command.env(format!("GIT_{role}_EMAIL"), "person@example.invalid");
    }
    command
}

fn serve(state: &State, root: &std::path::Path, stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let mut first = head[0].split(' ');
    let (method, target) = (first.next().unwrap_or(""), first.next().unwrap_or(""));
    let header = |name: &str| {
        head.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    state.requests.lock().unwrap().push(head.join("\n"));
    if header("Expect").is_some() {
        (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let body = if header("Transfer-Encoding").is_some() {
        read_chunks(&mut reader)?
    } else {
        let length = header("Content-Length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        body
    };
    while state.is_silent.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(20));
    }
    if let Some(url) = &*state.redirect.lock().unwrap() {
        let (_, path) = target.split_at(target[1..].find('/').map_or(0, |at| at + 1));
        return answer(
            stream,
            "302 Found",
            &format!("Location: {url}{path}\r\n"),
            b"",
        );
    }
    if !head
        .iter()
        .any(|line| line.to_lowercase() == state.authorization)
    {
        let ask = "WWW-Authenticate: Basic realm=\"git\"\r\n";
        return answer(stream, "401 Unauthorized", ask, b"");
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut backend = person(root);
    backend
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("REMOTE_USER", "bot")
        .env("REMOTE_ADDR", "127.0.0.1");
    for (name, variable) in [
        ("Content-Type", "CONTENT_TYPE"),
        ("Content-Encoding", "HTTP_CONTENT_ENCODING"),
        ("Git-Protocol", "GIT_PROTOCOL"),
    ] {
        backend.envs(header(name).map(|value| (variable, value)));
    }
    let mut child = backend
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().unwrap();
    let feeder = thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output()?.stdout;
    feeder.join().unwrap().unwrap_or_default();
    if method == "POST" && path.ends_with("receive-pack") {
        // What a client sees whose connection breaks after its push has landed.
        if state.loses_answers.load(Ordering::SeqCst) {
            return stream.shutdown(Shutdown::Both);
        }
    }
    let border = output.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (headers, content) = output.split_at(border.map_or(output.len(), |at| at + 2));
    let headers = String::from_utf8_lossy(headers).into_owned();
    let status = headers
        .lines()
        .find_map(|line| line.strip_prefix("Status: "));
    let content = content.get(2..).unwrap_or_default();
    answer(stream, status.unwrap_or("200 OK"), &headers, content)
}

fn answer(mut stream: &TcpStream, status: &str, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

fn read_chunks(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk)?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}
