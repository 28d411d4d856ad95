//! A stand-in of GitHub: the REST API and git over HTTP, by GitHub's published contract, in memory,
//! on 127.0.0.1. It remembers every request, and fails on request.
//!
//! ```ignore
//! let host = Host::start();
//! host.repository("octo/hello");
//! let token = host.user("alice", Permission::Write);
//! let issue = host.open_issue("octo/hello", "alice", "a title", Some("a body"), &["copilot-agent"]);
//! host.fault(Fault::on("POST", "/repos/*/*/pulls").nth(1).after(Action::Status(502)));
//! // … GITHUB_API_URL=host.url(), git clone host.git_url("octo/hello") …
//! assert_eq!(host.writes().len(), 3);
//! ```

pub mod git;
mod graphql;
mod http;
mod routes;
mod shapes;
mod state;

use std::collections::HashMap;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agent_runner::github::Permission;
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use serde_json::{Value, json};
use tempfile::TempDir;

use http::{Request, Response};
use shapes::Shapes;
use state::{AppState, State, Token};

/// A GitHub of one's own. Ends with its value.
#[derive(Debug)]
pub struct Host {
    inner: Arc<Inner>,
    accepting: Option<JoinHandle<()>>,
    _root: TempDir,
}

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    state: Mutex<State>,
    faults: Mutex<Vec<Fault>>,
    history: Mutex<Vec<Seen>>,
    connections: Mutex<HashMap<u64, TcpStream>>,
    next_connection: AtomicU64,
    is_over: AtomicBool,
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: String,
    /// The account whose token it was; `None` without or with wrong credentials, and for an app.
    pub who: Option<String>,
    /// The body when it was JSON.
    pub body: Value,
    pub headers: Vec<(String, String)>,
    pub at: Instant,
    /// What was answered; `None` when nothing was.
    pub status: Option<u16>,
}

/// A request that goes wrong on purpose.
#[derive(Clone, Debug)]
pub struct Fault {
    method: String,
    path: String,
    nth: Option<usize>,
    matched: usize,
    after_effect: bool,
    action: Action,
}

/// What happens instead of the answer.
#[derive(Clone, Debug)]
pub enum Action {
    /// This status with a JSON message.
    Status(u16),
    /// This status, these headers, this body.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection ends without an answer.
    Reset,
    /// Nothing comes, until the client gives up.
    Hang,
    /// A byte now and then, without end.
    Drip,
    /// A network's login page, with status 200.
    Html,
    /// The real answer ends in the middle.
    Truncated,
    /// A body of this many bytes.
    Huge(usize),
    /// This is done first, and then all goes on as if nothing had happened.
    Call(Hook),
}

/// What a test does in the middle of a request.
#[derive(Clone)]
pub struct Hook(Arc<dyn Fn() + Send + Sync>);

impl Hook {
    pub fn new(what: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(what))
    }
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Hook")
    }
}

impl Fault {
    /// On requests of this method whose path is like `/repos/*/*/issues`; `*` is one segment.
    pub fn on(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            nth: None,
            matched: 0,
            after_effect: false,
            action: Action::Reset,
        }
    }

    /// Only on the n-th such request, counted from 1 and from now.
    pub fn nth(mut self, nth: usize) -> Self {
        self.nth = Some(nth);
        self
    }

    /// The request has no effect.
    pub fn before(mut self, action: Action) -> Self {
        self.action = action;
        self
    }

    /// The request has had its effect, and only its answer goes wrong.
    pub fn after(mut self, action: Action) -> Self {
        self.after_effect = true;
        self.action = action;
        self
    }

    fn is_like(&self, request: &Request) -> bool {
        let path = request
            .path()
            .strip_prefix("/api/v3")
            .unwrap_or(request.path());
        let (wanted, told): (Vec<_>, Vec<_>) =
            (self.path.split('/').collect(), path.split('/').collect());
        self.method == request.method
            && wanted.len() == told.len()
            && wanted
                .iter()
                .zip(told)
                .all(|(wanted, told)| *wanted == "*" || *wanted == told)
    }
}

/// What a GitHub App needs to know of itself.
#[derive(Clone, Debug)]
pub struct AppKeys {
    pub id: u64,
    pub installation: u64,
    /// As GitHub hands it out.
    pub pkcs1: String,
    pub pkcs8: String,
}

impl Host {
    /// Starts an empty one.
    pub fn start() -> Self {
        let root = tempfile::Builder::new()
            .prefix("agent-runner-host-")
            .tempdir()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            address,
            state: Mutex::new(State::new(
                format!("http://{address}"),
                root.path().to_owned(),
            )),
            faults: Mutex::default(),
            history: Mutex::default(),
            connections: Mutex::default(),
            next_connection: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let accepting = std::thread::spawn({
            let inner = Arc::clone(&inner);
            move || {
                for stream in listener.incoming() {
                    if inner.is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let inner = Arc::clone(&inner);
                    std::thread::spawn(move || inner.serve(&stream));
                }
            }
        });
        Self {
            inner,
            accepting: Some(accepting),
            _root: root,
        }
    }

    /// `GITHUB_API_URL` and `GITHUB_SERVER_URL`. Below `/api/v3` there is the same API.
    pub fn url(&self) -> String {
        format!("http://{}", self.inner.address)
    }

    /// The address of a repository for git.
    pub fn git_url(&self, repository: &str) -> String {
        format!("{}/{repository}.git", self.url())
    }

    /// Where clients reach it, when a proxy stands before it: addresses in answers begin so.
    pub fn set_public_url(&self, url: &str) {
        url.clone_into(&mut self.state().public_url);
    }

    /// Adds `owner/name`, public, whose `main` has one commit.
    pub fn repository(&self, full_name: &str) {
        let (owner, name) = full_name.split_once('/').unwrap();
        self.state().add_repository(owner, name);
    }

    /// The directory of its bare repository, for hooks and for looking.
    pub fn bare(&self, repository: &str) -> PathBuf {
        let mut state = self.state();
        let id = state.repository(repository).id;
        state.bare(id)
    }

    pub fn set_private(&self, repository: &str) {
        self.state().repository(repository).is_private = true;
    }

    pub fn set_archived(&self, repository: &str, is_archived: bool) {
        self.state().repository(repository).is_archived = is_archived;
    }

    /// Lets GitHub's own coding agent take issues of a repository, for users with a token.
    pub fn offer_agent(&self, full_name: &str) {
        let mut state = self.state();
        state.account(graphql::AGENT);
        state.repository(full_name).has_agent = true;
    }

    /// Renames or transfers; the old name leads to the new one.
    pub fn rename(&self, from: &str, to: &str) {
        let (owner, name) = to.split_once('/').unwrap();
        let mut state = self.state();
        state.account(owner);
        let repository = state.repository(from);
        repository.former_names.push(from.to_owned());
        owner.clone_into(&mut repository.owner);
        name.clone_into(&mut repository.name);
    }

    /// Gives the default branch another name.
    pub fn rename_default_branch(&self, repository: &str, name: &str) {
        let bare = self.bare(repository);
        let mut state = self.state();
        let known = &mut state.repository(repository).default_branch;
        git::run(&bare, &["branch", "-m", known, name]).expect("git succeeds");
        name.clone_into(known);
    }

    /// Adds an account that may do this in every repository, and gives its token.
    pub fn user(&self, login: &str, permission: Permission) -> String {
        let mut state = self.state();
        state.account(login);
        state.everywhere.insert(login.to_owned(), permission);
        let token = format!("ghp_{login}{}", state.next_id());
        let login = login.to_owned();
        state.tokens.insert(
            token.clone(),
            Token {
                login,
                expires_at: None,
                scopes: Some("repo, workflow".to_owned()),
                is_poor: false,
            },
        );
        token
    }

    /// What an account may do in one repository.
    pub fn permit(&self, repository: &str, login: &str, permission: Permission) {
        let mut state = self.state();
        state.account(login);
        let permissions = &mut state.repository(repository).permissions;
        permissions.insert(login.to_owned(), permission);
    }

    /// Gives a classic token other scopes.
    pub fn set_scopes(&self, token: &str, scopes: &str) {
        self.state().tokens.get_mut(token).unwrap().scopes = Some(scopes.to_owned());
    }

    /// Makes a token a fine-grained one that may do almost nothing.
    pub fn impoverish(&self, token: &str) {
        let mut state = self.state();
        let token = state.tokens.get_mut(token).unwrap();
        (token.scopes, token.is_poor) = (None, true);
    }

    /// Lets a token end.
    pub fn set_token_end(&self, token: &str, after: TimeDelta) {
        let mut state = self.state();
        let end = state.now() + after;
        state.tokens.get_mut(token).unwrap().expires_at = Some(end);
    }

    /// What the app may do where it is installed.
    pub fn set_app_permissions(&self, permissions: Value) {
        self.state().app.as_mut().unwrap().permissions = permissions;
    }

    /// Makes a token worthless.
    pub fn revoke(&self, token: &str) {
        self.state().tokens.remove(token);
    }

    /// Makes all tokens of installations worthless.
    pub fn revoke_installations(&self) {
        self.state()
            .tokens
            .retain(|token, _| !token.starts_with("ghs_"));
    }

    /// Registers a GitHub App, installed everywhere with write permission, whose tokens live so long.
    pub fn app(&self, slug: &str, lifetime: Duration) -> AppKeys {
        let keys = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let pkcs8: Pkcs8V1Der<'_> = keys.as_der().unwrap();
        let pkcs8 = pkcs8.as_ref();
        let mut state = self.state();
        let (id, installation) = (state.next_id(), state.next_id());
        let bot = format!("{slug}[bot]");
        state.account(&bot);
        state.everywhere.insert(bot, Permission::Write);
        state.app = Some(AppState {
            id,
            slug: slug.to_owned(),
            public_key: keys.public_key().as_ref().to_owned(),
            installation,
            lifetime,
            minted: 0,
            permissions: json!({
                "issues": "write", "contents": "write", "pull_requests": "write", "metadata": "read",
            }),
        });
        AppKeys {
            id,
            installation,
            // PKCS#8 of a key of 2048 bits has 26 bytes before the PKCS#1 in it.
            pkcs1: pem("RSA PRIVATE KEY", &pkcs8[26..]),
            pkcs8: pem("PRIVATE KEY", pkcs8),
        }
    }

    /// How many tokens the installation was given.
    pub fn minted(&self) -> u32 {
        self.state().app.as_ref().map_or(0, |app| app.minted)
    }

    /// Opens an issue and gives its number.
    pub fn open_issue(
        &self,
        repository: &str,
        author: &str,
        title: &str,
        body: Option<&str>,
        labels: &[&str],
    ) -> u64 {
        let mut state = self.state();
        let index = state.index(repository).unwrap();
        let number = state.add_issue(index, author, title, body, None);
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        state.add_labels(index, number, &labels, author);
        number
    }

    /// Opens a pull request without a text as somebody, and gives its number.
    pub fn open_pull(
        &self,
        repository: &str,
        author: &str,
        title: &str,
        head: &str,
        base: &str,
    ) -> u64 {
        let mut state = self.state();
        let index = state.index(repository).unwrap();
        let bare = state.bare(state.repositories[index].id);
        let pull = state::Pull {
            id: state.next_id(),
            head: head.to_owned(),
            head_sha: git::commit_of(&bare, head).unwrap(),
            base: base.to_owned(),
            base_sha: git::commit_of(&bare, base).unwrap(),
            merged_at: None,
            hidden: 0,
        };
        state.add_issue(index, author, title, None, Some(pull))
    }

    /// Comments as somebody, and gives the comment's number.
    pub fn comment(&self, repository: &str, number: u64, author: &str, body: &str) -> u64 {
        let mut state = self.state();
        let index = state.index(repository).unwrap();
        state.add_comment(index, number, author, body)
    }

    /// Labels as somebody.
    pub fn label(&self, repository: &str, number: u64, label: &str, actor: &str) {
        let mut state = self.state();
        let index = state.index(repository).unwrap();
        state.add_labels(index, number, &[label.to_owned()], actor);
    }

    /// Unlabels as somebody.
    pub fn unlabel(&self, repository: &str, number: u64, label: &str, actor: &str) {
        let mut state = self.state();
        let index = state.index(repository).unwrap();
        assert!(
            state.remove_label(index, number, label, actor),
            "it has that label"
        );
    }

    /// Opens or closes an issue or pull request as its repository's owner.
    pub fn set_open(&self, repository: &str, number: u64, is_open: bool) {
        let mut state = self.state();
        let owner = state.repository(repository).owner.clone();
        let index = state.index(repository).unwrap();
        state.set_open(index, number, is_open, &owner);
    }

    /// Merges a pull request: its base is moved to its head.
    pub fn merge(&self, repository: &str, number: u64) {
        let mut state = self.state();
        let index = state.index(repository).unwrap();
        state.look_at_branches(index);
        let (now, bare) = (state.now(), state.bare(state.repositories[index].id));
        let issue = state.repositories[index].issue(number).unwrap();
        let pull = issue.pull.as_mut().unwrap();
        let base = format!("refs/heads/{}", pull.base);
        git::run(&bare, &["update-ref", &base, &pull.head_sha]).unwrap();
        pull.merged_at = Some(now);
        drop(state);
        self.set_open(repository, number, false);
    }

    /// Who an issue is assigned to.
    pub fn assignees(&self, repository: &str, number: u64) -> Vec<String> {
        let mut state = self.state();
        let issue = state.repository(repository).issue(number).unwrap();
        issue.assignees.clone()
    }

    /// Changes an issue as nobody in particular: its body, its lock.
    pub fn change_issue(&self, repository: &str, number: u64, body: Option<&str>, is_locked: bool) {
        let mut state = self.state();
        let now = state.now();
        let issue = state.repository(repository).issue(number).unwrap();
        issue.body = body.map(str::to_owned);
        issue.is_locked = is_locked;
        issue.updated_at = now;
    }

    /// Deletes an issue.
    pub fn delete_issue(&self, repository: &str, number: u64) {
        let mut state = self.state();
        let repository = state.repository(repository);
        repository.issues.retain(|issue| issue.number != number);
        repository.gone.insert(number);
    }

    /// Transfers an issue to another repository, and gives its number there.
    pub fn transfer_issue(&self, repository: &str, number: u64, to: &str) -> u64 {
        let mut state = self.state();
        let issue = state.repository(repository).issue(number).unwrap().clone();
        let index = state.index(to).unwrap();
        let new = state.add_issue(
            index,
            &issue.author,
            &issue.title,
            issue.body.as_deref(),
            None,
        );
        state.add_labels(index, new, &issue.labels, &issue.author);
        let id = state.repositories[index].id;
        let repository = state.repository(repository);
        repository.issues.retain(|issue| issue.number != number);
        repository.transferred.insert(number, (id, new));
        new
    }

    /// Deletes a comment.
    pub fn delete_comment(&self, repository: &str, comment: u64) {
        for issue in &mut self.state().repository(repository).issues {
            issue.comments.retain(|known| known.id != comment);
        }
    }

    /// An issue or pull request as the API's issues show it.
    pub fn issue(&self, repository: &str, number: u64) -> Value {
        let state = self.state();
        let repository = &state.repositories[state.index(repository).unwrap()];
        let mut issues = repository.issues.iter();
        let issue = issues.find(|issue| issue.number == number).unwrap();
        let api = state.public_url.clone();
        Shapes { state: &state, api }.issue(repository, issue)
    }

    /// Names of an issue's labels, in the order in which they were added.
    pub fn labels(&self, repository: &str, number: u64) -> Vec<String> {
        self.state()
            .repository(repository)
            .issue(number)
            .unwrap()
            .labels
            .clone()
    }

    /// Authors and texts of an issue's comments.
    pub fn comments(&self, repository: &str, number: u64) -> Vec<(String, String)> {
        let mut state = self.state();
        let comments = state
            .repository(repository)
            .issue(number)
            .unwrap()
            .comments
            .iter();
        comments
            .map(|comment| (comment.author.clone(), comment.body.clone()))
            .collect()
    }

    /// Numbers of an account's comments on an issue.
    pub fn comment_ids(&self, repository: &str, number: u64, author: &str) -> Vec<u64> {
        let mut state = self.state();
        let issue = state.repository(repository).issue(number).unwrap();
        let own = issue
            .comments
            .iter()
            .filter(|comment| comment.author == author);
        own.map(|comment| comment.id).collect()
    }

    /// All pull requests of a repository as the API shows them, the oldest first.
    pub fn pulls(&self, repository: &str) -> Vec<Value> {
        let mut state = self.state();
        let index = state.index(repository).unwrap();
        state.look_at_branches(index);
        let (repository, api) = (&state.repositories[index], state.public_url.clone());
        let shapes = Shapes { state: &state, api };
        let pulls = repository
            .issues
            .iter()
            .filter(|issue| issue.pull.is_some());
        pulls
            .map(|issue| shapes.whole_pull(repository, issue, None))
            .collect()
    }

    /// Plans a fault. Several may be planned; the first that fits is used.
    pub fn fault(&self, fault: Fault) {
        locked(&self.inner.faults).push(fault);
    }

    /// Forgets what was planned.
    pub fn clear_faults(&self) {
        locked(&self.inner.faults).clear();
    }

    /// Requests of the API and of git that came in, the oldest first.
    pub fn history(&self) -> Vec<Seen> {
        locked(&self.inner.history).clone()
    }

    /// Forgets what came in.
    pub fn clear_history(&self) {
        locked(&self.inner.history).clear();
    }

    /// The requests of the API that change something, but for an app's tokens.
    pub fn writes(&self) -> Vec<Seen> {
        let mut seen = self.history();
        seen.retain(|seen| {
            seen.method != "GET"
                && !seen.path.contains(".git/")
                && !seen.path.ends_with("/access_tokens")
        });
        seen
    }

    /// Sets how many requests an account has left, and for how long.
    pub fn set_remaining(&self, login: &str, remaining: u64, reset_after: Duration) {
        let mut state = self.state();
        state.remaining.insert(login.to_owned(), remaining);
        state.reset_at = state.now() + TimeDelta::from_std(reset_after).unwrap();
    }

    /// How many requests an account has left.
    pub fn remaining(&self, login: &str) -> u64 {
        self.state().remaining.get(login).copied().unwrap_or(5000)
    }

    /// Sets how far this host's clock is ahead of the machine's.
    pub fn set_skew(&self, skew: TimeDelta) {
        self.state().skew = skew;
    }

    /// Answers every read whole from now on, as if it were never conditional.
    pub fn answer_whole(&self) {
        self.state().is_whole = true;
    }

    /// New pull requests are absent from so many lists.
    pub fn set_lag(&self, lists: u32) {
        self.state().lag = lists;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.inner.state)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.inner.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.inner.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
        for stream in locked(&self.inner.connections).values() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        lines.join("\n")
    )
}

impl Inner {
    fn serve(&self, stream: &TcpStream) {
        let number = self.next_connection.fetch_add(1, Ordering::SeqCst);
        locked(&self.connections).insert(number, stream.try_clone().unwrap());
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        // An error is a client that went away.
        while let Ok(Some(request)) = http::read(&mut reader) {
            if !self.reply(&request, stream) {
                break;
            }
        }
        locked(&self.connections).remove(&number);
        drop(stream.shutdown(Shutdown::Both));
    }

    /// Whether the connection goes on.
    fn reply(&self, request: &Request, stream: &TcpStream) -> bool {
        let place = self.note(request);
        let fault = self.fault_of(request);
        let has_effect = fault.as_ref().is_none_or(|fault| fault.after_effect);
        let answer = has_effect.then(|| self.answer(request));
        let mut writer = stream;
        let mut send = |response: &Response| {
            if let Some(seen) = locked(&self.history).get_mut(place) {
                seen.status = Some(response.status);
            }
            writer.write_all(&response.bytes()).is_ok()
        };
        let Some(fault) = fault else {
            return send(&answer.expect("nothing is in its way"));
        };
        let json = |status: u16, body: String| {
            Response::new(status, body).header("content-type", "application/json; charset=utf-8")
        };
        match fault.action {
            Action::Call(Hook(what)) => {
                what();
                send(&answer.unwrap_or_else(|| self.answer(request)))
            }
            Action::Status(status) => send(&routes::problem(status, "planned")),
            Action::Answer(status, headers, body) => {
                let mut response = json(status, body);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                send(&response)
            }
            Action::Reset => false,
            Action::Hang => self.until_gone(stream, |_| true),
            Action::Drip => {
                let head = b"HTTP/1.1 200 -\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n";
                let mut writer = stream;
                drop(writer.write_all(head));
                self.until_gone(stream, |mut stream| stream.write_all(b" ").is_ok())
            }
            Action::Html => {
                let page =
                    Response::new(200, "<!DOCTYPE html><title>Log in to the network</title>");
                send(&page.header("content-type", "text/html"))
            }
            Action::Truncated => {
                let fake = || json(200, r#"{"message": "half of this is"}"#.to_owned());
                let response = answer.unwrap_or_else(fake);
                let bytes = response.bytes();
                let cut = bytes.len() - response.body.len() / 2 - 1;
                let mut writer = stream;
                drop(writer.write_all(&bytes[..cut]));
                false
            }
            Action::Huge(bytes) => send(&json(200, format!("\"{}\"", "x".repeat(bytes)))),
        }
    }

    /// Remembers a request, and gives its place.
    fn note(&self, request: &Request) -> usize {
        let who = routes::authenticate(&locked(&self.state), request);
        let mut history = locked(&self.history);
        history.push(Seen {
            method: request.method.clone(),
            path: request.path().to_owned(),
            query: request.query_string().to_owned(),
            who: who.ok().and_then(|who| who.login().map(str::to_owned)),
            body: serde_json::from_slice(&request.body).unwrap_or_default(),
            headers: request.headers.clone(),
            at: Instant::now(),
            status: None,
        });
        history.len() - 1
    }

    fn fault_of(&self, request: &Request) -> Option<Fault> {
        let mut faults = locked(&self.faults);
        let mut found = None;
        for fault in faults.iter_mut().filter(|fault| fault.is_like(request)) {
            fault.matched += 1;
            if found.is_none() && fault.nth.is_none_or(|nth| nth == fault.matched) {
                found = Some(fault.clone());
            }
        }
        found
    }

    fn answer(&self, request: &Request) -> Response {
        if !request.path().contains(".git/") {
            return routes::answer(&mut locked(&self.state), request);
        }
        // Not under the lock: a push may take long, and its hooks may ask the API.
        let access = {
            let state = locked(&self.state);
            let root = state.git_root.clone();
            routes::git_access(&state, request).map(|(path, user)| (root, path, user))
        };
        match access {
            Ok((root, path, user)) => git::serve(&root, &path, request, user.as_deref()),
            Err(refusal) => refusal,
        }
    }

    /// Does something every 50 ms until the client gives up; always `false`.
    fn until_gone(&self, mut stream: &TcpStream, each: impl Fn(&TcpStream) -> bool) -> bool {
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        while !self.is_over.load(Ordering::SeqCst) && each(stream) {
            match stream.read(&mut [0]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        false
    }
}
