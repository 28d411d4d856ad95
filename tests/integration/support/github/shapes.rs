//! GitHub's JSON, with every field that its published description requires.

use agent_runner::github::Permission;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::http::encode;
use super::state::{Comment, Event, Issue, Repository, State};

/// Writes answers for one request: addresses are those by which the client came.
#[derive(Debug)]
pub struct Shapes<'a> {
    pub state: &'a State,
    /// The API's address.
    pub api: String,
}

pub fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub fn node(kind: &str, id: u64) -> String {
    format!("{kind}_{id}")
}

impl Shapes<'_> {
    fn html(&self) -> &str {
        &self.state.public_url
    }

    fn repository_url(&self, repository: &Repository) -> String {
        format!("{}/repos/{}", self.api, repository.full_name())
    }

    pub fn user(&self, login: &str) -> Value {
        let account = self
            .state
            .find_account(login)
            .expect("accounts are made before");
        let url = format!("{}/users/{}", self.api, encode(&account.login));
        let mut user = json!({
            "login": account.login,
            "id": account.id,
            "node_id": node("U", account.id),
            "avatar_url": format!("{}/avatars/{}", self.html(), account.id),
            "gravatar_id": "",
            "url": url,
            "html_url": format!("{}/{}", self.html(), encode(&account.login)),
            "type": if account.is_bot { "Bot" } else { "User" },
            "site_admin": false,
        });
        for (name, path) in [
            ("followers_url", "followers"),
            ("following_url", "following{/other_user}"),
            ("gists_url", "gists{/gist_id}"),
            ("starred_url", "starred{/owner}{/repo}"),
            ("subscriptions_url", "subscriptions"),
            ("organizations_url", "orgs"),
            ("repos_url", "repos"),
            ("events_url", "events{/privacy}"),
            ("received_events_url", "received_events"),
        ] {
            user[name] = json!(format!("{url}/{path}"));
        }
        user
    }

    pub fn whole_user(&self, login: &str) -> Value {
        let mut user = self.user(login);
        for name in [
            "name", "company", "blog", "location", "email", "hireable", "bio",
        ] {
            user[name] = Value::Null;
        }
        for name in ["public_repos", "public_gists", "followers", "following"] {
            user[name] = json!(0);
        }
        user["created_at"] = json!("2020-01-01T00:00:00Z");
        user["updated_at"] = json!("2020-01-01T00:00:00Z");
        user
    }

    pub fn repository(&self, repository: &Repository, login: Option<&str>) -> Value {
        let url = self.repository_url(repository);
        let full_name = repository.full_name();
        let html = format!("{}/{full_name}", self.html());
        let permission = self.state.permission(repository, login);
        let open = repository
            .issues
            .iter()
            .filter(|issue| issue.is_open)
            .count();
        let mut all = json!({
            "id": repository.id,
            "node_id": node("R", repository.id),
            "name": repository.name,
            "full_name": full_name,
            "private": repository.is_private,
            "owner": self.user(&repository.owner),
            "html_url": html,
            "description": null,
            "fork": false,
            "url": url,
            "clone_url": format!("{html}.git"),
            "git_url": format!("git://127.0.0.1/{full_name}.git"),
            "ssh_url": format!("git@127.0.0.1:{full_name}.git"),
            "svn_url": html,
            "mirror_url": null,
            "homepage": null,
            "language": null,
            "license": null,
            "default_branch": repository.default_branch,
            "archived": repository.is_archived,
            "disabled": false,
            "visibility": if repository.is_private { "private" } else { "public" },
            "topics": [],
            "has_issues": true,
            "open_issues_count": open,
            "open_issues": open,
            "created_at": time(repository.created_at),
            "updated_at": time(repository.created_at),
            "pushed_at": time(repository.created_at),
            "permissions": {
                "admin": permission >= Permission::Admin,
                "maintain": permission >= Permission::Admin,
                "push": permission >= Permission::Write,
                "triage": permission >= Permission::Write,
                "pull": permission >= Permission::Read,
            },
        });
        for name in [
            "forks_count",
            "stargazers_count",
            "watchers_count",
            "size",
            "subscribers_count",
            "network_count",
            "forks",
            "watchers",
        ] {
            all[name] = json!(0);
        }
        for name in [
            "has_projects",
            "has_wiki",
            "has_pages",
            "has_downloads",
            "has_discussions",
        ] {
            all[name] = json!(false);
        }
        for (name, path) in [
            ("archive_url", "{archive_format}{/ref}"),
            ("assignees_url", "assignees{/user}"),
            ("blobs_url", "git/blobs{/sha}"),
            ("branches_url", "branches{/branch}"),
            ("collaborators_url", "collaborators{/collaborator}"),
            ("comments_url", "comments{/number}"),
            ("commits_url", "commits{/sha}"),
            ("compare_url", "compare/{base}...{head}"),
            ("contents_url", "contents/{+path}"),
            ("contributors_url", "contributors"),
            ("deployments_url", "deployments"),
            ("downloads_url", "downloads"),
            ("events_url", "events"),
            ("forks_url", "forks"),
            ("git_commits_url", "git/commits{/sha}"),
            ("git_refs_url", "git/refs{/sha}"),
            ("git_tags_url", "git/tags{/sha}"),
            ("hooks_url", "hooks"),
            ("issue_comment_url", "issues/comments{/number}"),
            ("issue_events_url", "issues/events{/number}"),
            ("issues_url", "issues{/number}"),
            ("keys_url", "keys{/key_id}"),
            ("labels_url", "labels{/name}"),
            ("languages_url", "languages"),
            ("merges_url", "merges"),
            ("milestones_url", "milestones{/number}"),
            (
                "notifications_url",
                "notifications{?since,all,participating}",
            ),
            ("pulls_url", "pulls{/number}"),
            ("releases_url", "releases{/id}"),
            ("stargazers_url", "stargazers"),
            ("statuses_url", "statuses/{sha}"),
            ("subscribers_url", "subscribers"),
            ("subscription_url", "subscription"),
            ("tags_url", "tags"),
            ("teams_url", "teams"),
            ("trees_url", "git/trees{/sha}"),
        ] {
            all[name] = json!(format!("{url}/{path}"));
        }
        all
    }

    pub fn file(
        &self,
        repository: &Repository,
        branch: &str,
        path: &str,
        sha: &str,
        bytes: &[u8],
    ) -> Value {
        let base = self.repository_url(repository);
        let url = format!("{base}/contents/{path}?ref={branch}");
        let git_url = format!("{base}/git/blobs/{sha}");
        let html = format!("{}/{}", self.html(), repository.full_name());
        let html_url = format!("{html}/blob/{branch}/{path}");
        let encoded = STANDARD.encode(bytes);
        // As GitHub breaks it, also behind the last line.
        let mut lines = String::new();
        for line in encoded.as_bytes().chunks(60) {
            lines.push_str(&String::from_utf8_lossy(line));
            lines.push('\n');
        }
        json!({
            "type": "file",
            "name": path.rsplit('/').next(),
            "path": path,
            "sha": sha,
            "size": bytes.len(),
            "url": url,
            "html_url": html_url,
            "git_url": git_url,
            "download_url": format!("{html}/raw/{branch}/{path}"),
            "encoding": "base64",
            "content": lines,
            "_links": {"self": url, "git": git_url, "html": html_url},
        })
    }

    pub fn branch(&self, repository: &Repository, branch: &str, sha: &str) -> Value {
        let base = self.repository_url(repository);
        let url = format!("{base}/commits/{sha}");
        let html = format!("{}/{}", self.html(), repository.full_name());
        let person = json!({"name": "Host", "email": "host@example.invalid", "date": "2020-01-01T00:00:00Z"});
        json!({
            "name": branch,
            "protected": false,
            "protection": {"enabled": false},
            "protection_url": format!("{base}/branches/{}/protection", encode(branch)),
            "_links": {
                "self": format!("{base}/branches/{}", encode(branch)),
                "html": format!("{html}/tree/{branch}"),
            },
            "commit": {
                "sha": sha,
                "node_id": "C_1",
                "url": url,
                "html_url": format!("{html}/commit/{sha}"),
                "comments_url": format!("{url}/comments"),
                "author": null,
                "committer": null,
                "parents": [],
                "commit": {
                    "url": url,
                    "author": person,
                    "committer": person,
                    "message": "a commit",
                    "comment_count": 0,
                    "tree": {"sha": sha, "url": format!("{base}/git/trees/{sha}")},
                },
            },
        })
    }

    pub fn label(&self, repository: &Repository, label: &str) -> Value {
        let id = repository.labels.get(label).copied().unwrap_or_default();
        json!({
            "id": id,
            "node_id": node("L", id),
            "url": format!("{}/labels/{}", self.repository_url(repository), encode(label)),
            "name": label,
            "color": "ededed",
            "default": false,
            "description": null,
        })
    }

    pub fn labels(&self, repository: &Repository, issue: &Issue) -> Value {
        let labels = issue.labels.iter();
        labels.map(|label| self.label(repository, label)).collect()
    }

    pub fn issue(&self, repository: &Repository, issue: &Issue) -> Value {
        let base = self.repository_url(repository);
        let url = format!("{base}/issues/{}", issue.number);
        let kind = if issue.pull.is_some() {
            "pull"
        } else {
            "issues"
        };
        let html = format!(
            "{}/{}/{kind}/{}",
            self.html(),
            repository.full_name(),
            issue.number
        );
        let mut all = json!({
            "id": issue.id,
            "node_id": node("I", issue.id),
            "url": url,
            "repository_url": base,
            "labels_url": format!("{url}/labels{{/name}}"),
            "comments_url": format!("{url}/comments"),
            "events_url": format!("{url}/events"),
            "timeline_url": format!("{url}/timeline"),
            "html_url": html,
            "number": issue.number,
            "title": issue.title,
            "body": issue.body,
            "user": self.user(&issue.author),
            "labels": self.labels(repository, issue),
            "state": if issue.is_open { "open" } else { "closed" },
            "state_reason": if issue.is_open { Value::Null } else { json!("completed") },
            "locked": issue.is_locked,
            "active_lock_reason": null,
            "assignee": issue.assignees.first().map(|login| self.user(login)),
            "assignees": issue.assignees.iter().map(|login| self.user(login)).collect::<Value>(),
            "milestone": null,
            "comments": issue.comments.len(),
            "created_at": time(issue.created_at),
            "updated_at": time(issue.updated_at),
            "closed_at": issue.closed_at.map(time),
            "author_association": self.association(repository, &issue.author),
            "reactions": reactions(&url),
            "performed_via_github_app": null,
        });
        if let Some(pull) = &issue.pull {
            all["draft"] = json!(false);
            all["pull_request"] = json!({
                "url": format!("{base}/pulls/{}", issue.number),
                "html_url": html,
                "diff_url": format!("{html}.diff"),
                "patch_url": format!("{html}.patch"),
                "merged_at": pull.merged_at.map(time),
            });
        }
        all
    }

    fn association(&self, repository: &Repository, login: &str) -> &'static str {
        if repository.owner == login {
            return "OWNER";
        }
        match self.state.permission(repository, Some(login)) {
            Permission::Admin | Permission::Write => "COLLABORATOR",
            Permission::Read | Permission::None => "NONE",
        }
    }

    pub fn comment(&self, repository: &Repository, number: u64, comment: &Comment) -> Value {
        let base = self.repository_url(repository);
        let url = format!("{base}/issues/comments/{}", comment.id);
        json!({
            "id": comment.id,
            "node_id": node("IC", comment.id),
            "url": url,
            "html_url": format!("{}/{}/issues/{number}#issuecomment-{}", self.html(), repository.full_name(), comment.id),
            "issue_url": format!("{base}/issues/{number}"),
            "body": comment.body,
            "user": self.user(&comment.author),
            "created_at": time(comment.created_at),
            "updated_at": time(comment.updated_at),
            "author_association": self.association(repository, &comment.author),
            "reactions": reactions(&url),
            "performed_via_github_app": null,
        })
    }

    pub fn event(&self, repository: &Repository, event: &Event) -> Value {
        let mut all = json!({
            "id": event.id,
            "node_id": node("E", event.id),
            "url": format!("{}/issues/events/{}", self.repository_url(repository), event.id),
            "actor": self.user(&event.actor),
            "event": event.kind,
            "commit_id": null,
            "commit_url": null,
            "created_at": time(event.at),
            "performed_via_github_app": null,
        });
        if let Some(label) = &event.label {
            all["label"] = json!({"name": label, "color": "ededed"});
        }
        all
    }

    /// As in a list; [`whole_pull`](Self::whole_pull) says more.
    pub fn pull(&self, repository: &Repository, issue: &Issue, login: Option<&str>) -> Value {
        let pull = issue.pull.as_ref().expect("a pull request");
        let base = self.repository_url(repository);
        let url = format!("{base}/pulls/{}", issue.number);
        let issue_url = format!("{base}/issues/{}", issue.number);
        let html = format!(
            "{}/{}/pull/{}",
            self.html(),
            repository.full_name(),
            issue.number
        );
        let statuses = format!("{base}/statuses/{}", pull.head_sha);
        let end = |name: &str, sha: &str| {
            json!({
                "label": format!("{}:{name}", repository.owner),
                "ref": name,
                "sha": sha,
                "user": self.user(&repository.owner),
                "repo": self.repository(repository, login),
            })
        };
        let links: Map<String, Value> = [
            ("self", url.clone()),
            ("html", html.clone()),
            ("issue", issue_url.clone()),
            ("comments", format!("{issue_url}/comments")),
            ("review_comments", format!("{url}/comments")),
            (
                "review_comment",
                format!("{base}/pulls/comments{{/number}}"),
            ),
            ("commits", format!("{url}/commits")),
            ("statuses", statuses.clone()),
        ]
        .into_iter()
        .map(|(name, href)| (name.to_owned(), json!({ "href": href })))
        .collect();
        json!({
            "id": pull.id,
            "node_id": node("PR", pull.id),
            "url": url,
            "html_url": html,
            "diff_url": format!("{html}.diff"),
            "patch_url": format!("{html}.patch"),
            "issue_url": issue_url,
            "commits_url": format!("{url}/commits"),
            "review_comments_url": format!("{url}/comments"),
            "review_comment_url": format!("{base}/pulls/comments{{/number}}"),
            "comments_url": format!("{issue_url}/comments"),
            "statuses_url": statuses,
            "number": issue.number,
            "state": if issue.is_open { "open" } else { "closed" },
            "locked": issue.is_locked,
            "title": issue.title,
            "user": self.user(&issue.author),
            "body": issue.body,
            "labels": self.labels(repository, issue),
            "milestone": null,
            "active_lock_reason": null,
            "created_at": time(issue.created_at),
            "updated_at": time(issue.updated_at),
            "closed_at": issue.closed_at.map(time),
            "merged_at": pull.merged_at.map(time),
            "merge_commit_sha": pull.merged_at.map(|_| &pull.head_sha),
            "assignee": null,
            "assignees": [],
            "requested_reviewers": [],
            "requested_teams": [],
            "head": end(&pull.head, &pull.head_sha),
            "base": end(&pull.base, &pull.base_sha),
            "_links": links,
            "author_association": self.association(repository, &issue.author),
            "auto_merge": null,
            "draft": false,
        })
    }

    pub fn whole_pull(&self, repository: &Repository, issue: &Issue, login: Option<&str>) -> Value {
        let mut all = self.pull(repository, issue, login);
        let merged = issue
            .pull
            .as_ref()
            .is_some_and(|pull| pull.merged_at.is_some());
        all["merged"] = json!(merged);
        all["merged_by"] = if merged {
            self.user(&repository.owner)
        } else {
            Value::Null
        };
        all["mergeable"] = Value::Null;
        all["rebaseable"] = Value::Null;
        all["mergeable_state"] = json!("unknown");
        all["maintainer_can_modify"] = json!(false);
        all["comments"] = json!(issue.comments.len());
        for name in [
            "review_comments",
            "commits",
            "additions",
            "deletions",
            "changed_files",
        ] {
            all[name] = json!(0);
        }
        all
    }
}

fn reactions(url: &str) -> Value {
    json!({
        "url": format!("{url}/reactions"),
        "total_count": 0, "+1": 0, "-1": 0, "laugh": 0, "confused": 0, "heart": 0, "hooray": 0,
        "eyes": 0, "rocket": 0,
    })
}
