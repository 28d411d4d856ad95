//! What the stand-in knows: accounts, tokens, repositories, issues, pull requests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use agent_runner::github::Permission;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::git;

#[derive(Debug)]
pub struct State {
    /// Where clients reach the stand-in; differs when a proxy stands before it.
    pub public_url: String,
    pub git_root: PathBuf,
    next_id: u64,
    pub accounts: Vec<Account>,
    pub tokens: BTreeMap<String, Token>,
    pub app: Option<AppState>,
    pub repositories: Vec<Repository>,
    /// What an account may do everywhere, unless a repository says otherwise.
    pub everywhere: BTreeMap<String, Permission>,
    /// Requests left, by account.
    pub remaining: BTreeMap<String, u64>,
    pub reset_at: DateTime<Utc>,
    /// How far this server's clock is ahead.
    pub skew: TimeDelta,
    /// In how many lists a new pull request is not there yet.
    pub lag: u32,
    /// Whether every answer is a whole one: a proxy that knows no 304 is in between.
    pub is_whole: bool,
}

#[derive(Clone, Debug)]
pub struct Account {
    pub login: String,
    pub id: u64,
    pub is_bot: bool,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub login: String,
    pub expires_at: Option<DateTime<Utc>>,
    /// Those of a classic token; `None` for a fine-grained one.
    pub scopes: Option<String>,
    /// A fine-grained token that may read nothing but what everybody may know of a repository.
    pub is_poor: bool,
}

#[derive(Debug)]
pub struct AppState {
    pub id: u64,
    pub slug: String,
    pub public_key: Vec<u8>,
    pub installation: u64,
    pub lifetime: Duration,
    pub minted: u32,
    pub permissions: Value,
}

#[derive(Debug)]
pub struct Repository {
    pub id: u64,
    pub owner: String,
    pub name: String,
    pub former_names: Vec<String>,
    pub is_private: bool,
    pub is_archived: bool,
    pub default_branch: String,
    pub permissions: BTreeMap<String, Permission>,
    pub created_at: DateTime<Utc>,
    pub labels: BTreeMap<String, u64>,
    /// Whether GitHub's own coding agent takes issues here.
    pub has_agent: bool,
    pub issues: Vec<Issue>,
    pub gone: BTreeSet<u64>,
    pub transferred: BTreeMap<u64, (u64, u64)>,
    next_number: u64,
}

#[derive(Clone, Debug)]
pub struct Issue {
    pub id: u64,
    pub number: u64,
    pub title: String,
    pub body: Option<String>,
    pub author: String,
    pub is_open: bool,
    pub is_locked: bool,
    pub labels: Vec<String>,
    pub assignees: Vec<String>,
    pub comments: Vec<Comment>,
    pub events: Vec<Event>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub closed_at: Option<DateTime<Utc>>,
    pub pull: Option<Pull>,
}

#[derive(Clone, Debug)]
pub struct Comment {
    pub id: u64,
    pub author: String,
    pub body: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub id: u64,
    pub kind: &'static str,
    pub actor: String,
    pub label: Option<String>,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Debug)]
pub struct Pull {
    pub id: u64,
    pub head: String,
    pub head_sha: String,
    pub base: String,
    pub base_sha: String,
    pub merged_at: Option<DateTime<Utc>>,
    /// Lists in which it is not there yet.
    pub hidden: u32,
}

impl State {
    pub fn new(public_url: String, git_root: PathBuf) -> Self {
        Self {
            public_url,
            git_root,
            next_id: 1000,
            accounts: Vec::new(),
            tokens: BTreeMap::new(),
            app: None,
            repositories: Vec::new(),
            everywhere: BTreeMap::new(),
            remaining: BTreeMap::new(),
            reset_at: Utc::now() + TimeDelta::hours(1),
            skew: TimeDelta::zero(),
            lag: 0,
            is_whole: false,
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.skew
    }

    pub fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The account of that name, made when it is not there.
    pub fn account(&mut self, login: &str) -> Account {
        if let Some(known) = self.find_account(login) {
            return known.clone();
        }
        let account = Account {
            login: login.to_owned(),
            id: self.next_id(),
            is_bot: login.ends_with("[bot]"),
        };
        self.accounts.push(account.clone());
        account
    }

    pub fn find_account(&self, login: &str) -> Option<&Account> {
        let mut accounts = self.accounts.iter();
        accounts.find(|account| account.login.eq_ignore_ascii_case(login))
    }

    pub fn add_repository(&mut self, owner: &str, name: &str) {
        self.account(owner);
        let id = self.next_id();
        let created_at = self.now();
        self.repositories.push(Repository {
            id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            former_names: Vec::new(),
            is_private: false,
            is_archived: false,
            default_branch: "main".to_owned(),
            permissions: BTreeMap::from([(owner.to_owned(), Permission::Admin)]),
            created_at,
            labels: BTreeMap::new(),
            has_agent: false,
            issues: Vec::new(),
            gone: BTreeSet::new(),
            transferred: BTreeMap::new(),
            next_number: 0,
        });
        git::create(&self.bare(id));
    }

    pub fn bare(&self, repository: u64) -> PathBuf {
        self.git_root.join(format!("{repository}.git"))
    }

    pub fn index(&self, full_name: &str) -> Option<usize> {
        self.repositories
            .iter()
            .position(|known| known.full_name().eq_ignore_ascii_case(full_name))
    }

    #[track_caller]
    pub fn repository(&mut self, full_name: &str) -> &mut Repository {
        let index = self.index(full_name).expect("a repository of that name");
        &mut self.repositories[index]
    }

    pub fn permission(&self, repository: &Repository, login: Option<&str>) -> Permission {
        let given = login.and_then(|login| {
            let own = repository.permissions.get(login);
            own.or_else(|| self.everywhere.get(login)).copied()
        });
        let least = if repository.is_private {
            Permission::None
        } else {
            Permission::Read
        };
        given.unwrap_or(Permission::None).max(least)
    }

    pub fn add_issue(
        &mut self,
        index: usize,
        author: &str,
        title: &str,
        body: Option<&str>,
        pull: Option<Pull>,
    ) -> u64 {
        self.account(author);
        let (id, now) = (self.next_id(), self.now());
        let repository = &mut self.repositories[index];
        repository.next_number += 1;
        let number = repository.next_number;
        repository.issues.push(Issue {
            id,
            number,
            title: title.to_owned(),
            body: body.map(str::to_owned),
            author: author.to_owned(),
            is_open: true,
            is_locked: false,
            labels: Vec::new(),
            assignees: Vec::new(),
            comments: Vec::new(),
            events: Vec::new(),
            created_at: now,
            updated_at: now,
            closed_at: None,
            pull,
        });
        number
    }

    pub fn add_labels(&mut self, index: usize, number: u64, labels: &[String], actor: &str) {
        for label in labels {
            let (id, event, now) = (self.next_id(), self.next_id(), self.now());
            let repository = &mut self.repositories[index];
            repository.labels.entry(label.clone()).or_insert(id);
            let issue = repository.issue(number).expect("an issue of that number");
            if issue.has_label(label) {
                continue;
            }
            issue.labels.push(label.clone());
            issue.updated_at = now;
            issue.events.push(Event {
                id: event,
                kind: "labeled",
                actor: actor.to_owned(),
                label: Some(label.clone()),
                at: now,
            });
        }
    }

    /// Whether the issue had it.
    pub fn remove_label(&mut self, index: usize, number: u64, label: &str, actor: &str) -> bool {
        let (id, now) = (self.next_id(), self.now());
        let issue = self.repositories[index].issue(number).expect("checked");
        if !issue.has_label(label) {
            return false;
        }
        issue
            .labels
            .retain(|known| !known.eq_ignore_ascii_case(label));
        issue.updated_at = now;
        issue.events.push(Event {
            id,
            kind: "unlabeled",
            actor: actor.to_owned(),
            label: Some(label.to_owned()),
            at: now,
        });
        true
    }

    pub fn add_comment(&mut self, index: usize, number: u64, author: &str, body: &str) -> u64 {
        self.account(author);
        let (id, now) = (self.next_id(), self.now());
        let issue = self.repositories[index].issue(number).expect("checked");
        issue.updated_at = now;
        issue.comments.push(Comment {
            id,
            author: author.to_owned(),
            body: body.to_owned(),
            created_at: now,
            updated_at: now,
        });
        id
    }

    pub fn set_open(&mut self, index: usize, number: u64, is_open: bool, actor: &str) {
        let (id, now) = (self.next_id(), self.now());
        let issue = self.repositories[index].issue(number).expect("checked");
        if issue.is_open == is_open {
            return;
        }
        issue.is_open = is_open;
        issue.closed_at = (!is_open).then_some(now);
        issue.updated_at = now;
        issue.events.push(Event {
            id,
            kind: if is_open { "reopened" } else { "closed" },
            actor: actor.to_owned(),
            label: None,
            at: now,
        });
    }

    /// What git says of open pull requests: new commits; a deleted branch closes.
    pub fn look_at_branches(&mut self, index: usize) {
        let bare = self.bare(self.repositories[index].id);
        let owner = self.repositories[index].owner.clone();
        let open: Vec<(u64, String, String)> = self.repositories[index]
            .issues
            .iter()
            .filter(|issue| issue.is_open)
            .filter_map(|issue| {
                let pull = issue.pull.as_ref()?;
                Some((issue.number, pull.head.clone(), pull.head_sha.clone()))
            })
            .collect();
        if open.is_empty() {
            return;
        }
        let branches = git::branches(&bare);
        for (number, head, known) in open {
            match branches.get(&head) {
                Some(sha) if *sha == known => {}
                Some(sha) => {
                    let now = self.now();
                    let issue = self.repositories[index].issue(number).expect("listed");
                    issue.updated_at = now;
                    issue
                        .pull
                        .as_mut()
                        .expect("listed")
                        .head_sha
                        .clone_from(sha);
                }
                None => self.set_open(index, number, false, &owner),
            }
        }
    }
}

impl Repository {
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    pub fn issue(&mut self, number: u64) -> Option<&mut Issue> {
        self.issues.iter_mut().find(|issue| issue.number == number)
    }
}

impl Issue {
    pub fn has_label(&self, label: &str) -> bool {
        let mut labels = self.labels.iter();
        labels.any(|known| known.eq_ignore_ascii_case(label))
    }
}
