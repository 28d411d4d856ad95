//! The endpoints, as GitHub documents them.

use agent_runner::github::Permission;
use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::git;
use super::graphql;
use super::http::{Request, Response, decode, encode};
use super::shapes::{Shapes, time};
use super::state::{Issue, Pull, State, Token};

/// Where GitHub Enterprise Server has its API; both are served.
const ENTERPRISE: &str = "/api/v3";
const LIMIT: u64 = 5000;

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Who {
    Nobody,
    Account(String),
    App,
}

impl Who {
    pub fn login(&self) -> Option<&str> {
        match self {
            Self::Account(login) => Some(login),
            Self::Nobody | Self::App => None,
        }
    }
}

type Answer = Result<Response, Response>;

fn json_response(status: u16, body: &Value) -> Response {
    Response::new(status, body.to_string())
        .header("content-type", "application/json; charset=utf-8")
}

fn ok(body: &Value) -> Response {
    json_response(200, body)
}

pub fn problem(status: u16, message: &str) -> Response {
    json_response(
        status,
        &json!({
            "message": message,
            "documentation_url": "https://docs.github.com/rest",
            "status": status.to_string(),
        }),
    )
}

fn invalid(errors: &Value) -> Response {
    json_response(
        422,
        &json!({
            "message": "Validation Failed",
            "errors": errors,
            "documentation_url": "https://docs.github.com/rest",
            "status": "422",
        }),
    )
}

fn not_found() -> Response {
    problem(404, "Not Found")
}

/// Whose request it is; the refusal when the credentials are wrong.
pub fn authenticate(state: &State, request: &Request) -> Result<Who, Response> {
    let Some(authorization) = request.header("authorization") else {
        return Ok(Who::Nobody);
    };
    let (scheme, secret) = authorization.split_once(' ').unwrap_or_default();
    let secret = match scheme.to_ascii_lowercase().as_str() {
        "bearer" | "token" => secret.to_owned(),
        "basic" => {
            let decoded = STANDARD.decode(secret).unwrap_or_default();
            let pair = String::from_utf8_lossy(&decoded).into_owned();
            pair.split_once(':')
                .map_or_else(String::new, |(_, password)| password.to_owned())
        }
        _ => String::new(),
    };
    if secret.split('.').count() == 3 {
        return authenticate_app(state, &secret);
    }
    let token = state.tokens.get(&secret);
    let valid = token.filter(|token| token.expires_at.is_none_or(|end| end > state.now()));
    match valid {
        Some(token) => Ok(Who::Account(token.login.clone())),
        None => Err(problem(401, "Bad credentials")),
    }
}

fn token_of<'a>(state: &'a State, request: &Request) -> Option<&'a Token> {
    let (_, secret) = request.header("authorization")?.split_once(' ')?;
    state.tokens.get(secret)
}

fn authenticate_app(state: &State, statement: &str) -> Result<Who, Response> {
    let undecodable = || problem(401, "A JSON web token could not be decoded");
    let app = state.app.as_ref().ok_or_else(undecodable)?;
    let (signed, signature) = statement.rsplit_once('.').expect("three parts");
    let (head, claims) = signed.split_once('.').expect("three parts");
    let read = |part: &str| -> Option<Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let (head, claims) = read(head).zip(read(claims)).ok_or_else(undecodable)?;
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|_| undecodable())?;
    let is_signed = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &app.public_key)
        .verify(signed.as_bytes(), &signature)
        .is_ok();
    if !is_signed || head["alg"] != "RS256" || claims["iss"].as_str() != Some(&app.id.to_string()) {
        return Err(undecodable());
    }
    let now = state.now().timestamp();
    let (Some(issued), Some(ends)) = (claims["iat"].as_i64(), claims["exp"].as_i64()) else {
        return Err(undecodable());
    };
    if issued > now {
        return Err(problem(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        ));
    }
    if ends <= now {
        return Err(problem(
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        ));
    }
    if ends > now + 600 {
        return Err(problem(
            401,
            "'Expiration time' claim ('exp') is too far in the future",
        ));
    }
    Ok(Who::App)
}

/// Answers a request of the API, with the headers that every answer has.
pub fn answer(state: &mut State, request: &Request) -> Response {
    let who = authenticate(state, request);
    let login = who.as_ref().ok().and_then(Who::login).map(str::to_owned);
    let key = login.clone().unwrap_or_default();
    let limit = if login.is_some() { LIMIT } else { 60 };
    let now = state.now();
    if state.reset_at <= now {
        state.remaining.clear();
        state.reset_at = now + TimeDelta::hours(1);
    }
    let remaining = *state.remaining.entry(key.clone()).or_insert(limit);
    let is_free = request.path().ends_with("/rate_limit");
    let (mut response, cost) = match who {
        Err(refusal) => (refusal, 1),
        Ok(_) if remaining == 0 && !is_free => (
            problem(403, &format!("API rate limit exceeded for user {key}.")),
            0,
        ),
        Ok(who) => {
            let call = Call {
                login: login.clone(),
                who,
                request,
                api: api_of(state, request),
            };
            let response = call.answer(state).unwrap_or_else(|refusal| refusal);
            if state.is_whole {
                (response, 1)
            } else {
                (conditional(request, response), 1)
            }
        }
    };
    let cost = if is_free || response.status == 304 {
        0
    } else {
        cost
    };
    let remaining = remaining.saturating_sub(cost);
    state.remaining.insert(key, remaining);
    let reset = state.reset_at.timestamp();
    if let Some(token) = token_of(state, request) {
        if let Some(scopes) = &token.scopes {
            response = response.header("x-oauth-scopes", scopes);
        }
        if let Some(end) = token.expires_at.filter(|_| !token.login.ends_with("[bot]")) {
            let end = end.format("%Y-%m-%d %H:%M:%S UTC").to_string();
            response = response.header("github-authentication-token-expiration", end);
        }
    }
    for (name, value) in [
        ("date", now.format("%a, %d %b %Y %H:%M:%S GMT").to_string()),
        ("x-ratelimit-limit", limit.to_string()),
        ("x-ratelimit-remaining", remaining.to_string()),
        (
            "x-ratelimit-used",
            (limit.saturating_sub(remaining)).to_string(),
        ),
        ("x-ratelimit-reset", reset.to_string()),
        ("x-ratelimit-resource", "core".to_owned()),
        ("x-github-media-type", "github.v3; format=json".to_owned()),
        ("x-github-api-version-selected", "2022-11-28".to_owned()),
    ] {
        response = response.header(name, value);
    }
    response
}

fn api_of(state: &State, request: &Request) -> String {
    let is_enterprise = request.target.starts_with(ENTERPRISE);
    format!(
        "{}{}",
        state.public_url,
        if is_enterprise { ENTERPRISE } else { "" }
    )
}

/// Names a good answer to a read, and leaves it out when the client has it.
fn conditional(request: &Request, response: Response) -> Response {
    if request.method != "GET" || response.status != 200 {
        return response;
    }
    let digest = Sha256::digest(&response.body);
    let etag = format!("W/\"{}\"", agent_runner::model::text::hexadecimal(&digest));
    let named = response
        .header("etag", etag.clone())
        .header("cache-control", "private, max-age=60");
    if request.header("if-none-match") == Some(&etag) {
        return Response {
            status: 304,
            body: Vec::new(),
            ..named
        };
    }
    named
}

struct Call<'a> {
    who: Who,
    login: Option<String>,
    request: &'a Request,
    api: String,
}

impl Call<'_> {
    fn answer(&self, state: &mut State) -> Answer {
        let path = self.request.path();
        let path = path.strip_prefix(ENTERPRISE).unwrap_or(path);
        let segments: Vec<String> = path
            .trim_start_matches('/')
            .split('/')
            .map(decode)
            .collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match (self.request.method.as_str(), segments.as_slice()) {
            ("GET", ["user"]) => {
                let login = self
                    .login
                    .as_ref()
                    .ok_or_else(|| problem(401, "Requires authentication"))?;
                Ok(ok(&self.shapes(state).whole_user(login)))
            }
            ("GET", ["users", login]) => match state.find_account(login) {
                Some(account) => Ok(ok(&self.shapes(state).whole_user(&account.login))),
                None => Err(not_found()),
            },
            ("POST", ["graphql"]) => {
                let login = self.login.as_ref();
                let login = login.ok_or_else(|| problem(401, "Requires authentication"))?;
                let features = self.request.header("graphql-features").unwrap_or_default();
                Ok(ok(&graphql::answer(state, login, features, &self.body()?)))
            }
            (_, ["app", ..]) => self.app(state, &segments),
            (_, ["repos", owner, name, "installation"]) => {
                self.must_be_app()?;
                let full_name = format!("{owner}/{name}");
                state.index(&full_name).ok_or_else(not_found)?;
                Ok(ok(&self.installation(state)))
            }
            (_, ["repos", owner, name, rest @ ..]) => {
                let full_name = format!("{owner}/{name}");
                match state.index(&full_name) {
                    Some(index) => self.repository(state, index, rest),
                    None => Err(self.renamed(state, &full_name, rest)),
                }
            }
            (_, ["repositories", id, rest @ ..]) => {
                let mut known = state.repositories.iter();
                let index = known.position(|known| known.id.to_string() == *id);
                self.repository(state, index.ok_or_else(not_found)?, rest)
            }
            _ => Err(not_found()),
        }
    }

    fn shapes<'a>(&self, state: &'a State) -> Shapes<'a> {
        Shapes {
            state,
            api: self.api.clone(),
        }
    }

    /// 301 for reads and 307 for writes, to the repository's number.
    fn renamed(&self, state: &State, full_name: &str, rest: &[&str]) -> Response {
        let mut repositories = state.repositories.iter();
        let former = |name: &String| name.eq_ignore_ascii_case(full_name);
        let Some(now) = repositories.find(|known| known.former_names.iter().any(former)) else {
            return not_found();
        };
        let mut url = format!("{}/repositories/{}", self.api, now.id);
        for part in rest {
            url = format!("{url}/{}", encode(part));
        }
        if !self.request.query_string().is_empty() {
            url = format!("{url}?{}", self.request.query_string());
        }
        let is_read = self.request.method == "GET";
        let status = if is_read { 301 } else { 307 };
        let body = json!({"message": "Moved Permanently", "url": url, "documentation_url": "https://docs.github.com/rest"});
        json_response(status, &body).header("location", url)
    }

    fn must_be_app(&self) -> Result<(), Response> {
        if self.who == Who::App {
            return Ok(());
        }
        Err(problem(401, "A JSON web token could not be decoded"))
    }

    fn app(&self, state: &mut State, segments: &[&str]) -> Answer {
        self.must_be_app()?;
        let app = state.app.as_mut().ok_or_else(not_found)?;
        match (self.request.method.as_str(), &segments[1..]) {
            ("GET", []) => {
                let body = json!({
                    "id": app.id, "slug": app.slug, "node_id": "A_1", "name": app.slug,
                    "owner": null, "description": null, "external_url": "https://example.invalid",
                    "html_url": format!("{}/apps/{}", state.public_url, app.slug),
                    "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z",
                    "permissions": app.permissions,
                    "events": [],
                });
                let mut body = body;
                let owner = state.repositories.first().map(|known| known.owner.clone());
                if let Some(owner) = owner {
                    body["owner"] = self.shapes(state).user(&owner);
                }
                Ok(ok(&body))
            }
            ("GET", ["installations"]) => Ok(ok(&json!([self.installation(state)]))),
            ("POST", ["installations", id, "access_tokens"]) => {
                if *id != app.installation.to_string() {
                    return Err(not_found());
                }
                app.minted += 1;
                let token = format!("ghs_installation{}", app.minted);
                let permissions = app.permissions.clone();
                let login = format!("{}[bot]", app.slug);
                let lifetime = TimeDelta::from_std(app.lifetime).unwrap();
                let expires_at = state.now() + lifetime;
                state.account(&login);
                state.tokens.insert(
                    token.clone(),
                    Token {
                        login,
                        expires_at: Some(expires_at),
                        scopes: None,
                        is_poor: false,
                    },
                );
                Ok(json_response(
                    201,
                    &json!({
                        "token": token,
                        "expires_at": time(expires_at),
                        "permissions": permissions,
                        "repository_selection": "all",
                    }),
                ))
            }
            _ => Err(not_found()),
        }
    }

    fn installation(&self, state: &State) -> Value {
        let app = state.app.as_ref().expect("checked");
        let owner = &state
            .repositories
            .first()
            .expect("an app has a repository")
            .owner;
        let url = format!("{}/app/installations/{}", self.api, app.installation);
        json!({
            "id": app.installation, "account": self.shapes(state).user(owner),
            "repository_selection": "all", "access_tokens_url": format!("{url}/access_tokens"),
            "repositories_url": format!("{}/installation/repositories", self.api),
            "html_url": format!("{}/settings/installations/{}", state.public_url, app.installation),
            "app_id": app.id, "target_id": 1, "target_type": "User",
            "permissions": app.permissions,
            "events": [], "created_at": "2020-01-01T00:00:00Z", "updated_at": "2020-01-01T00:00:00Z",
            "single_file_name": null, "app_slug": app.slug, "suspended_at": null, "suspended_by": null,
        })
    }

    fn repository(&self, state: &mut State, index: usize, rest: &[&str]) -> Answer {
        let login = self.login.as_deref();
        let permission = state.permission(&state.repositories[index], login);
        if permission == Permission::None {
            return Err(not_found());
        }
        let is_write = self.request.method != "GET";
        let is_poor = token_of(state, self.request).is_some_and(|token| token.is_poor);
        if let Some(what @ &("pulls" | "labels" | "issues")) = rest.first()
            && is_poor
        {
            let needed = if *what == "pulls" {
                "pull_requests"
            } else {
                "issues"
            };
            let refusal = problem(403, "Resource not accessible by personal access token");
            let needed = format!("{needed}=read");
            return Err(refusal.header("x-accepted-github-permissions", needed));
        }
        if is_write && login.is_none() {
            return Err(problem(401, "Requires authentication"));
        }
        if is_write && state.repositories[index].is_archived {
            return Err(problem(403, "Repository was archived so is read-only."));
        }
        let actor = login.unwrap_or_default().to_owned();
        let may_write = permission >= Permission::Write;
        let must_write = |permission: &str| {
            if may_write {
                return Ok(());
            }
            Err(
                problem(403, "Resource not accessible by personal access token")
                    .header("x-accepted-github-permissions", permission)
                    .header("x-accepted-oauth-scopes", "repo"),
            )
        };
        let body = self.body()?;
        match (self.request.method.as_str(), rest) {
            ("GET", []) => {
                let repository = &state.repositories[index];
                Ok(ok(&self.shapes(state).repository(repository, login)))
            }
            ("GET", ["collaborators", login, "permission"]) => {
                must_write("metadata=read")?;
                let account = state.find_account(login).ok_or_else(not_found)?;
                let permission = state.permission(&state.repositories[index], Some(&account.login));
                let word = match permission {
                    Permission::None => "none",
                    Permission::Read => "read",
                    Permission::Write => "write",
                    Permission::Admin => "admin",
                };
                let mut user = self.shapes(state).user(&account.login);
                user["role_name"] = json!(word);
                Ok(ok(
                    &json!({"permission": word, "role_name": word, "user": user}),
                ))
            }
            ("GET", ["labels"]) => {
                let (shapes, repository) = (self.shapes(state), &state.repositories[index]);
                let labels = repository.labels.keys();
                Ok(self.page(
                    labels
                        .map(|label| shapes.label(repository, label))
                        .collect(),
                ))
            }
            ("POST", ["labels"]) => {
                must_write("issues=write")?;
                let name = text(&body, "name")?;
                if state.repositories[index].labels.contains_key(&name) {
                    return Err(invalid(
                        &json!([{"resource": "Label", "code": "already_exists", "field": "name"}]),
                    ));
                }
                let id = state.next_id();
                state.repositories[index].labels.insert(name.clone(), id);
                Ok(json_response(
                    201,
                    &self.shapes(state).label(&state.repositories[index], &name),
                ))
            }
            ("DELETE", ["git", "refs", parts @ ..]) => {
                must_write("contents=write")?;
                // Slashes may be encoded or not.
                let reference = format!("refs/{}", parts.join("/"));
                let bare = state.bare(state.repositories[index].id);
                let branch = reference
                    .strip_prefix("refs/heads/")
                    .ok_or_else(not_found)?;
                if git::commit_of(&bare, branch).is_none() {
                    return Err(problem(422, "Reference does not exist"));
                }
                git::run(&bare, &["update-ref", "-d", &reference]).expect("it is there");
                state.look_at_branches(index);
                Ok(Response::new(204, ""))
            }
            ("GET", ["git", "ref", parts @ ..]) => {
                let parts = parts.join("/");
                let branch = parts.strip_prefix("heads/").ok_or_else(not_found)?;
                let bare = state.bare(state.repositories[index].id);
                let sha = git::commit_of(&bare, branch).ok_or_else(not_found)?;
                let url = format!(
                    "{}/repos/{}/git",
                    self.api,
                    state.repositories[index].full_name()
                );
                Ok(ok(&json!({
                    "ref": format!("refs/heads/{branch}"), "node_id": "REF_1",
                    "url": format!("{url}/refs/heads/{branch}"),
                    "object": {"type": "commit", "sha": sha, "url": format!("{url}/commits/{sha}")},
                })))
            }
            ("GET", ["contents", parts @ ..]) => {
                let path = parts.join("/");
                let branch = self.request.query("ref");
                let repository = &state.repositories[index];
                let branch = branch.unwrap_or_else(|| repository.default_branch.clone());
                let bare = state.bare(repository.id);
                let (sha, text) = git::file(&bare, &branch, &path).ok_or_else(not_found)?;
                let shapes = self.shapes(state);
                Ok(ok(&shapes.file(repository, &branch, &path, &sha, &text)))
            }
            ("GET", ["branches", parts @ ..]) => {
                let branch = parts.join("/");
                let repository = &state.repositories[index];
                let sha = git::commit_of(&state.bare(repository.id), &branch);
                let sha = sha.ok_or_else(|| problem(404, "Branch not found"))?;
                Ok(ok(&self.shapes(state).branch(repository, &branch, &sha)))
            }
            (_, ["issues", rest @ ..]) => {
                self.issues(state, index, rest, &body, &actor, &must_write)
            }
            (_, ["pulls", rest @ ..]) => self.pulls(state, index, rest, &body, &actor, &must_write),
            _ => Err(not_found()),
        }
    }

    fn issues(
        &self,
        state: &mut State,
        index: usize,
        rest: &[&str],
        body: &Value,
        actor: &str,
        must_write: &dyn Fn(&str) -> Result<(), Response>,
    ) -> Answer {
        let method = self.request.method.as_str();
        match (method, rest) {
            ("GET", []) => return Ok(self.list_issues(state, index)),
            ("POST", []) => {
                let title = text(body, "title")?;
                let number = state.add_issue(index, actor, &title, body["body"].as_str(), None);
                // From whoever cannot write, labels are dropped silently.
                if must_write("").is_ok() {
                    state.add_labels(index, number, &texts(&body["labels"]), actor);
                }
                let repository = &state.repositories[index];
                let issue = repository.issues.last().expect("added");
                return Ok(json_response(
                    201,
                    &self.shapes(state).issue(repository, issue),
                ));
            }
            (_, ["comments", id]) => {
                return self.comment(state, index, id, body, actor, must_write);
            }
            _ => {}
        }
        let [number, rest @ ..] = rest else {
            return Err(not_found());
        };
        let number: u64 = number.parse().map_err(|_| not_found())?;
        if let Some((repository, to)) = state.repositories[index].transferred.get(&number) {
            let url = format!("{}/repositories/{repository}/issues/{to}", self.api);
            let body = json!({"message": "Moved Permanently", "url": url});
            return Err(json_response(301, &body).header("location", url));
        }
        if state.repositories[index].gone.contains(&number) {
            return Err(problem(410, "This issue was deleted"));
        }
        let issue = state.repositories[index]
            .issue(number)
            .ok_or_else(not_found)?;
        let (is_locked, author) = (issue.is_locked, issue.author.clone());
        match (method, rest) {
            ("GET", []) => {}
            ("PATCH", []) => {
                if author != actor {
                    must_write("issues=write")?;
                }
                if let Some(title) = body["title"].as_str() {
                    title.clone_into(&mut issue.title);
                }
                if let Some(body) = body["body"].as_str() {
                    issue.body = Some(body.to_owned());
                }
                if let Some(to) = body["state"].as_str() {
                    state.set_open(index, number, to == "open", actor);
                }
            }
            ("GET", ["comments"]) => {
                let repository = &state.repositories[index];
                let issue = repository
                    .issues
                    .iter()
                    .find(|issue| issue.number == number);
                let shapes = self.shapes(state);
                let comments = issue.expect("found above").comments.iter();
                return Ok(self.page(
                    comments
                        .map(|comment| shapes.comment(repository, number, comment))
                        .collect(),
                ));
            }
            ("POST", ["comments"]) => {
                if is_locked && must_write("issues=write").is_err() {
                    return Err(problem(
                        403,
                        "Unable to create comment because issue is locked.",
                    ));
                }
                let text = text(body, "body")?;
                if text.chars().count() > 65_536 {
                    return Err(invalid(&json!([{
                        "resource": "IssueComment", "code": "unprocessable", "field": "data",
                        "message": "Body is too long (maximum is 65536 characters)",
                    }])));
                }
                state.add_comment(index, number, actor, &text);
                let repository = &state.repositories[index];
                let issue = repository
                    .issues
                    .iter()
                    .find(|issue| issue.number == number);
                let comment = issue.expect("found above").comments.last().expect("added");
                return Ok(json_response(
                    201,
                    &self.shapes(state).comment(repository, number, comment),
                ));
            }
            ("GET", ["events"]) => {
                let repository = &state.repositories[index];
                let issue = repository
                    .issues
                    .iter()
                    .find(|issue| issue.number == number);
                let shapes = self.shapes(state);
                let events = issue.expect("found above").events.iter();
                return Ok(self.page(
                    events
                        .map(|event| shapes.event(repository, event))
                        .collect(),
                ));
            }
            ("GET", ["timeline"]) => return Ok(self.timeline(state, index, number)),
            (_, ["labels", label @ ..]) => {
                must_write("issues=write")?;
                match (method, label) {
                    ("GET", []) => {}
                    ("POST", []) => {
                        let labels = if body.is_array() {
                            body
                        } else {
                            &body["labels"]
                        };
                        state.add_labels(index, number, &texts(labels), actor);
                    }
                    _ => return Err(not_found()),
                }
                let repository = &state.repositories[index];
                let issue = repository
                    .issues
                    .iter()
                    .find(|issue| issue.number == number);
                let labels = self
                    .shapes(state)
                    .labels(repository, issue.expect("found above"));
                return Ok(ok(&labels));
            }
            _ => return Err(not_found()),
        }
        let repository = &state.repositories[index];
        let issue = repository
            .issues
            .iter()
            .find(|issue| issue.number == number);
        Ok(ok(&self
            .shapes(state)
            .issue(repository, issue.expect("found above"))))
    }

    fn list_issues(&self, state: &State, index: usize) -> Response {
        let repository = &state.repositories[index];
        let wanted = self.request.query("labels").unwrap_or_default();
        let wanted: Vec<&str> = wanted
            .split(',')
            .filter(|label| !label.is_empty())
            .collect();
        let mut issues: Vec<_> = repository
            .issues
            .iter()
            .filter(|issue| self.has_state(issue.is_open))
            .filter(|issue| wanted.iter().all(|label| issue.has_label(label)))
            .collect();
        if self.request.query("direction").as_deref() != Some("asc") {
            issues.reverse();
        }
        let shapes = self.shapes(state);
        self.page(
            issues
                .iter()
                .map(|issue| shapes.issue(repository, issue))
                .collect(),
        )
    }

    fn has_state(&self, is_open: bool) -> bool {
        match self.request.query("state").as_deref() {
            Some("all") => true,
            Some("closed") => !is_open,
            _ => is_open,
        }
    }

    fn comment(
        &self,
        state: &mut State,
        index: usize,
        id: &str,
        body: &Value,
        actor: &str,
        must_write: &dyn Fn(&str) -> Result<(), Response>,
    ) -> Answer {
        let now = state.now();
        let issues = &mut state.repositories[index].issues;
        let (number, comment) = issues
            .iter_mut()
            .flat_map(|issue| {
                let number = issue.number;
                issue
                    .comments
                    .iter_mut()
                    .map(move |comment| (number, comment))
            })
            .find(|(_, comment)| comment.id.to_string() == id)
            .ok_or_else(not_found)?;
        if self.request.method != "GET" && comment.author != actor {
            must_write("issues=write")?;
        }
        match self.request.method.as_str() {
            "GET" => {}
            "PATCH" => {
                comment.body = text(body, "body")?;
                comment.updated_at = now;
            }
            "DELETE" => {
                let id = comment.id;
                let issue = state.repositories[index].issue(number).expect("found");
                issue.comments.retain(|comment| comment.id != id);
                return Ok(Response::new(204, ""));
            }
            _ => return Err(not_found()),
        }
        let comment = comment.clone();
        Ok(ok(&self.shapes(state).comment(
            &state.repositories[index],
            number,
            &comment,
        )))
    }

    fn pulls(
        &self,
        state: &mut State,
        index: usize,
        rest: &[&str],
        body: &Value,
        actor: &str,
        must_write: &dyn Fn(&str) -> Result<(), Response>,
    ) -> Answer {
        state.look_at_branches(index);
        let login = self.login.as_deref();
        match (self.request.method.as_str(), rest) {
            ("GET", []) => Ok(self.list_pulls(state, index)),
            ("POST", []) => {
                must_write("pull_requests=write")?;
                self.create_pull(state, index, body, actor)
            }
            ("PATCH", [number]) => {
                let number: u64 = number.parse().map_err(|_| not_found())?;
                let issue = state.repositories[index].issue(number);
                if issue.is_none_or(|issue| issue.pull.is_none()) {
                    return Err(not_found());
                }
                must_write("pull_requests=write")?;
                if let Some(to) = body["state"].as_str() {
                    state.set_open(index, number, to == "open", actor);
                }
                let repository = &state.repositories[index];
                let issue = repository
                    .issues
                    .iter()
                    .find(|issue| issue.number == number);
                let pull = self
                    .shapes(state)
                    .whole_pull(repository, issue.expect("found"), login);
                Ok(ok(&pull))
            }
            _ => Err(not_found()),
        }
    }

    /// Of what happened to an issue the pull requests alone whose text refers to it.
    fn timeline(&self, state: &mut State, index: usize, number: u64) -> Response {
        for index in 0..state.repositories.len() {
            state.look_at_branches(index);
        }
        let shapes = self.shapes(state);
        let name = format!("{}#{number}", state.repositories[index].full_name());
        let mut events = vec![json!({"event": "commented", "body": name})];
        for repository in &state.repositories {
            let refers = |issue: &&Issue| {
                let mut words = issue.body.iter().flat_map(|body| body.split_whitespace());
                issue.pull.is_some() && words.any(|word| word == name)
            };
            events.extend(repository.issues.iter().filter(refers).map(|issue| {
                json!({
                    "event": "cross-referenced",
                    "actor": shapes.user(&issue.author),
                    "created_at": time(issue.created_at),
                    "updated_at": time(issue.created_at),
                    "source": {"type": "issue", "issue": shapes.issue(repository, issue)},
                })
            }));
        }
        self.page(events)
    }

    fn list_pulls(&self, state: &mut State, index: usize) -> Response {
        let head = self.request.query("head");
        let base = self.request.query("base");
        let owner = state.repositories[index].owner.clone();
        let mut found = Vec::new();
        for issue in &mut state.repositories[index].issues {
            let Some(pull) = &mut issue.pull else {
                continue;
            };
            if pull.hidden > 0 {
                pull.hidden -= 1;
                continue;
            }
            let label = format!("{owner}:{}", pull.head);
            let has_head = head
                .as_ref()
                .is_none_or(|head| head.eq_ignore_ascii_case(&label));
            let has_base = base.as_ref().is_none_or(|base| *base == pull.base);
            if has_head && has_base && self.has_state(issue.is_open) {
                found.push(issue.number);
            }
        }
        if self.request.query("direction").as_deref() != Some("asc") {
            found.reverse();
        }
        let (shapes, repository) = (self.shapes(state), &state.repositories[index]);
        let pull = |number: &u64| {
            let mut issues = repository.issues.iter();
            let issue = issues.find(|issue| issue.number == *number).expect("found");
            shapes.pull(repository, issue, self.login.as_deref())
        };
        self.page(found.iter().map(pull).collect())
    }

    fn create_pull(&self, state: &mut State, index: usize, body: &Value, actor: &str) -> Answer {
        let refused = |field: &str| {
            Err(invalid(
                &json!([{"resource": "PullRequest", "field": field, "code": "invalid"}]),
            ))
        };
        let (title, head, base) = (
            text(body, "title")?,
            text(body, "head")?,
            text(body, "base")?,
        );
        let repository = &state.repositories[index];
        let head = match head.split_once(':') {
            Some((owner, branch)) if owner.eq_ignore_ascii_case(&repository.owner) => {
                branch.to_owned()
            }
            Some(_) => return refused("head"),
            None => head,
        };
        let bare = state.bare(repository.id);
        let Some(head_sha) = git::commit_of(&bare, &head) else {
            return refused("head");
        };
        let Some(base_sha) = git::commit_of(&bare, &base) else {
            return refused("base");
        };
        let custom = |message: String| {
            Err(invalid(
                &json!([{"resource": "PullRequest", "code": "custom", "message": message}]),
            ))
        };
        if git::ahead(&bare, &base, &head) == 0 {
            return custom(format!("No commits between {base} and {head}"));
        }
        let exists = repository.issues.iter().any(|issue| {
            let pull = issue.pull.as_ref();
            issue.is_open && pull.is_some_and(|pull| pull.head == head && pull.base == base)
        });
        if exists {
            return custom(format!(
                "A pull request already exists for {}:{head}.",
                repository.owner
            ));
        }
        let pull = Pull {
            id: state.next_id(),
            head,
            head_sha,
            base,
            base_sha,
            merged_at: None,
            hidden: state.lag,
        };
        state.add_issue(index, actor, &title, body["body"].as_str(), Some(pull));
        let repository = &state.repositories[index];
        let issue = repository.issues.last().expect("added");
        let pull = self
            .shapes(state)
            .whole_pull(repository, issue, self.login.as_deref());
        Ok(json_response(201, &pull))
    }

    fn body(&self) -> Result<Value, Response> {
        if self.request.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.request.body)
            .map_err(|_| problem(400, "Problems parsing JSON"))
    }

    /// One page of a list, with the links to others.
    fn page(&self, items: Vec<Value>) -> Response {
        let number = |name: &str, default: usize| {
            let told = self.request.query(name).and_then(|text| text.parse().ok());
            told.unwrap_or(default).max(1)
        };
        let (size, page) = (number("per_page", 30).min(100), number("page", 1));
        let last = items.len().div_ceil(size).max(1);
        let path = self.request.path();
        let path = path.strip_prefix(ENTERPRISE).unwrap_or(path);
        let pairs = self.request.query_string().split('&');
        let pairs: Vec<_> = pairs.filter(|pair| !pair.starts_with("page=")).collect();
        let link = |to: usize, rel: &str| {
            format!(
                "<{}{path}?{}&page={to}>; rel=\"{rel}\"",
                self.api,
                pairs.join("&")
            )
        };
        let mut links = Vec::new();
        if page > 1 {
            links.extend([link(page - 1, "prev"), link(1, "first")]);
        }
        if page < last {
            links.extend([link(page + 1, "next"), link(last, "last")]);
        }
        let items: Vec<Value> = items
            .into_iter()
            .skip((page - 1) * size)
            .take(size)
            .collect();
        let response = ok(&Value::Array(items));
        if links.is_empty() {
            return response;
        }
        response.header("link", links.join(", "))
    }
}

fn text(body: &Value, field: &str) -> Result<String, Response> {
    body[field].as_str().map(str::to_owned).ok_or_else(|| {
        let message = format!("Invalid request.\n\n\"{field}\" wasn't supplied.");
        problem(422, &message)
    })
}

fn texts(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|item| Some(item.as_str()?.to_owned()))
        .collect()
}

/// Answers git: who may read, who may push, and then git's own backend.
pub fn git_access(state: &State, request: &Request) -> Result<(String, Option<String>), Response> {
    let plain =
        |status: u16, text: &str| Response::new(status, text).header("content-type", "text/plain");
    let path = decode(request.path());
    let (name, rest) = path
        .trim_start_matches('/')
        .split_once(".git/")
        .unwrap_or_default();
    let ask =
        || plain(401, "Repository not found.").header("www-authenticate", "Basic realm=\"GitHub\"");
    let who = authenticate(state, request).map_err(|_| ask())?;
    let mut repositories = state.repositories.iter();
    let repository = repositories.find(|known| {
        let full_name = known.full_name();
        let mut names = known.former_names.iter().chain([&full_name]);
        names.any(|known| known.eq_ignore_ascii_case(name))
    });
    let Some(repository) = repository else {
        return Err(if who == Who::Nobody {
            ask()
        } else {
            plain(404, "Repository not found.")
        });
    };
    let login = who.login();
    let permission = state.permission(repository, login);
    if permission == Permission::None {
        return Err(if login.is_none() {
            ask()
        } else {
            plain(404, "Repository not found.")
        });
    }
    let is_push = rest == "git-receive-pack"
        || request.query("service").as_deref() == Some("git-receive-pack");
    if is_push {
        let Some(login) = login else {
            return Err(ask());
        };
        let full_name = repository.full_name();
        if permission < Permission::Write {
            return Err(plain(
                403,
                &format!("Permission to {full_name}.git denied to {login}."),
            ));
        }
        if repository.is_archived {
            return Err(plain(
                403,
                "This repository was archived so it is read-only.",
            ));
        }
    }
    Ok((
        format!("/{}.git/{rest}", repository.id),
        login.map(str::to_owned),
    ))
}
