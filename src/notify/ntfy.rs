//! Publishing to an ntfy server, ntfy.sh or one's own, as JSON, so that titles are UTF-8.
//!
//! ```json
//! {"topic":"nightly","title":"[nightly] claude — FAILED","message":"…","tags":["x"],"priority":4}
//! ```

use std::error::Error;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use ntfy::Payload;
use reqwest012::{Client, RequestBuilder, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::model::message::{Message, Priority};
use crate::model::{duration, text};
use crate::notify::{Notifier, NotifyError, Publishing};
use crate::tls;

/// The longest time for reaching the server.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// The longest time for one notification: a run's end is never delayed by more.
const TOTAL_LIMIT: Duration = Duration::from_secs(10);

/// How an ntfy server is told who publishes. Shown to nobody.
#[derive(Clone, Eq, PartialEq)]
pub enum Credentials {
    /// An access token.
    Token(String),
    /// A user with a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(***)")
    }
}

/// A topic on an ntfy server. Costs nothing until the first notification.
#[derive(Debug)]
pub struct Ntfy {
    server: String,
    topic: String,
    credentials: Option<Credentials>,
    total_limit: Duration,
    client: OnceCell<Client>,
}

/// What a server told that is well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reached {
    /// Its time, where it says it.
    pub date: Option<DateTime<Utc>>,
    /// When the access token ends; `None` for one that does not.
    pub token_end: Option<DateTime<Utc>>,
    /// Whether it lets publish to the topic; `false` where it does not tell.
    pub may_publish: bool,
}

/// An account has sixty tokens at most, and what it subscribed to. Any other answer is shorter.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The longest of a server's reasons that is told.
const MAX_REASON_CHARS: usize = 200;

/// When a token ends, as the account says of which it is.
fn end_of(token: &str, account: &[u8]) -> Option<DateTime<Utc>> {
    let account: Account = serde_json::from_slice(account).ok()?;
    let ours = account.tokens.iter().find(|known| known.token == token)?;
    DateTime::from_timestamp(ours.expires.filter(|end| *end > 0)?, 0)
}

/// What is needed of ntfy's `v1/account`.
#[derive(Deserialize)]
struct Account {
    #[serde(default)]
    tokens: Vec<AccessToken>,
}

#[derive(Deserialize)]
struct AccessToken {
    token: String,
    /// In seconds since 1970; 0 or nothing for never.
    expires: Option<i64>,
}

impl Ntfy {
    /// A topic on the server of that URL.
    pub fn new(
        server: impl Into<String>,
        topic: impl Into<String>,
        credentials: Option<Credentials>,
    ) -> Self {
        Self {
            server: server.into(),
            topic: topic.into(),
            credentials,
            total_limit: TOTAL_LIMIT,
            client: OnceCell::new(),
        }
    }

    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    async fn send(&self, message: &Message) -> Result<(), NotifyError> {
        let client = self.client.get_or_try_init(|| async { self.client() });
        let client = client.await.map_err(error_of)?;
        let payload = Payload::new(&self.topic)
            .title(&message.title)
            .message(&message.body)
            .tags(&message.tags)
            .priority(priority(message.priority));
        let payload = serde_json::to_vec(&payload).expect("a payload is texts and numbers");
        let request = self
            .authorized(client.post(self.url()?))
            .header("content-type", "application/json")
            .body(payload);
        let answer = request.send().await.map_err(error_of)?;
        let status = answer.status();
        let told = body(answer).await;
        if status.is_client_error() || status.is_server_error() {
            return Err(failed(status, &told.unwrap_or_default()));
        }
        let told: Value = serde_json::from_slice(&told?).unwrap_or_default();
        // Whatever else answers with a success, a login page for one, has published nothing.
        if told["event"] != "message" || !told["id"].is_string() {
            return Err(not_ntfy(status));
        }
        // An address with a path names a topic of its own, which has our JSON as its text now.
        if told["topic"] != self.topic {
            let why = "it published to another topic: `server` must end with the host, and `topic` \
                       name the topic";
            return Err(NotifyError::Refused(why.into()));
        }
        Ok(())
    }

    /// Asks the server whether it is well, whether it knows the credentials, and whether they may
    /// publish to the topic; publishes nothing. Takes at most 10 s for all.
    ///
    /// # Errors
    /// When it does not answer, does not accept the credentials, or would refuse what is published.
    pub async fn reach(&self) -> Result<Reached, NotifyError> {
        let late = |_elapsed| {
            let limit = duration::words(self.total_limit);
            Err(NotifyError::Transient(
                format!("it does not answer within {limit}").into(),
            ))
        };
        let asked = timeout(self.total_limit, self.ask()).await;
        asked.unwrap_or_else(late)
    }

    async fn ask(&self) -> Result<Reached, NotifyError> {
        tls::install_provider();
        let client = Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(CONNECT_LIMIT)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(error_of)?;
        let answer = client.get(self.address("v1/health")?).send().await;
        let answer = answer.map_err(error_of)?;
        if !answer.status().is_success() {
            let status = answer.status();
            let why = format!("it answers {status} where ntfy tells that it is well");
            return Err(NotifyError::Transient(why.into()));
        }
        let status = answer.status();
        let date = answer.headers().get("date").and_then(|date| {
            let date = DateTime::parse_from_rfc2822(date.to_str().ok()?).ok()?;
            Some(date.to_utc())
        });
        let told: Value = serde_json::from_slice(&body(answer).await?).unwrap_or_default();
        if told["healthy"] != true {
            return Err(not_ntfy(status));
        }
        let mut token_end = None;
        if let Some(credentials) = &self.credentials {
            let account = self.authorized(client.get(self.address("v1/account")?));
            let answer = account.send().await.map_err(error_of)?;
            let refused = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN];
            if refused.contains(&answer.status()) {
                let why = format!("it does not accept the credentials ({})", answer.status());
                return Err(NotifyError::WouldRefuse(why.into()));
            }
            if let Credentials::Token(token) = credentials {
                token_end = end_of(token, &body(answer).await.unwrap_or_default());
            }
        }
        Ok(Reached {
            date,
            token_end,
            may_publish: self.may_publish(&client).await?,
        })
    }

    /// Asks for what cannot be: ntfy looks at who asks and at the topic before it looks at the rest,
    /// and refuses `{"code":40007,"http":400,"error":"invalid priority parameter"}`.
    async fn may_publish(&self, client: &Client) -> Result<bool, NotifyError> {
        const NO_SUCH_PRIORITY: u64 = 40_007;
        const NO_SUCH_DELAY: u64 = 40_004;
        let url = self.url()?;
        if url.path() != "/" {
            // There it would be the text of a message.
            return Ok(false);
        }
        let impossible = json!({"topic": self.topic, "priority": 9, "delay": "never"});
        let request = self
            .authorized(client.post(url))
            .header("content-type", "application/json")
            .body(impossible.to_string());
        let answer = request.send().await.map_err(error_of)?;
        let status = answer.status();
        let told = body(answer).await?;
        let code = serde_json::from_slice::<Value>(&told).unwrap_or_default()["code"].as_u64();
        match code {
            Some(NO_SUCH_PRIORITY | NO_SUCH_DELAY) => Ok(true),
            _ if is_refusal(status) => Err(match failed(status, &told) {
                NotifyError::Refused(why) => NotifyError::WouldRefuse(why),
                other => other,
            }),
            _ => Ok(false),
        }
    }

    /// A page of the server, without what the configured address has behind its path.
    fn address(&self, page: &str) -> Result<Url, NotifyError> {
        let mut url = self.url()?;
        let path = format!("{}/{page}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(None);
        Ok(url)
    }

    fn url(&self) -> Result<Url, NotifyError> {
        (self.server.parse()).map_err(|_| NotifyError::Transient("its address is no URL".into()))
    }

    pub(crate) fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials {
            Some(Credentials::Token(token)) => request.bearer_auth(token),
            Some(Credentials::Password { user, password }) => {
                request.basic_auth(user, Some(password))
            }
            None => request,
        }
    }

    fn client(&self) -> Result<Client, reqwest012::Error> {
        tls::install_provider();
        // A redirect would turn the POST into a GET whose good answer means nothing.
        Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(self.total_limit)
            .redirect(redirect::Policy::custom(|attempt| {
                attempt.error("the server answers with a redirect, which is not followed")
            }))
            .build()
    }
}

impl Notifier for Ntfy {
    fn publish<'a>(&'a self, message: &'a Message) -> Publishing<'a> {
        Box::pin(self.send(message))
    }
}

fn priority(priority: Priority) -> ntfy::Priority {
    match priority {
        Priority::Min => ntfy::Priority::Min,
        Priority::Low => ntfy::Priority::Low,
        Priority::Default => ntfy::Priority::Default,
        Priority::High => ntfy::Priority::High,
        Priority::Max => ntfy::Priority::Max,
    }
}

/// What a server answers with, as far as it is of use.
pub(crate) async fn body(mut answer: Response) -> Result<Vec<u8>, NotifyError> {
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(error_of)?
        && body.len() < MAX_ANSWER_BYTES
    {
        body.extend(piece);
    }
    Ok(body)
}

/// What an answer means that is no success, with ntfy's own reason.
fn failed(status: StatusCode, body: &[u8]) -> NotifyError {
    let remedy = match status {
        StatusCode::UNAUTHORIZED => ": check the token, or user and password",
        StatusCode::FORBIDDEN => ": whoever publishes must be allowed to write to the topic",
        _ => "",
    };
    let why = format!("{}{remedy}", answer_of(status, body));
    if is_refusal(status) {
        NotifyError::Refused(why.into())
    } else {
        NotifyError::Transient(why.into())
    }
}

/// What a server answers with, and its own reason.
pub(crate) fn answer_of(status: StatusCode, body: &[u8]) -> String {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let reason = told["error"].as_str().map_or(String::new(), |reason| {
        format!(", {}", text::first_line(reason, MAX_REASON_CHARS))
    });
    format!("it answers {status}{reason}")
}

fn not_ntfy(status: StatusCode) -> NotifyError {
    let why = format!(
        "it answers {status}, but not as an ntfy server does: check its address, and whether a \
         login page or a proxy answers in its place"
    );
    NotifyError::Transient(why.into())
}

fn error_of(error: reqwest012::Error) -> NotifyError {
    let is_untrusted = tls::is_untrusted(&error);
    // The URL may hold a password or a token.
    let source: Box<dyn Error + Send + Sync> = error.without_url().into();
    if is_untrusted {
        NotifyError::Untrusted(source)
    } else {
        NotifyError::Transient(source)
    }
}

fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error()
        && status != StatusCode::REQUEST_TIMEOUT
        && status != StatusCode::TOO_EARLY
        && status != StatusCode::TOO_MANY_REQUESTS
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread::{self, JoinHandle};

    use super::*;

    /// A server that gives each request the next answer, and keeps what it was sent.
    struct Server {
        url: String,
        requests: JoinHandle<Vec<String>>,
    }

    fn serve(answers: &'static [&'static str]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = thread::spawn(move || {
            let answer = |answer: &&str| {
                let (mut stream, _peer) = listener.accept().unwrap();
                let request = read_request(&stream);
                write!(stream, "HTTP/1.1 {answer}").unwrap();
                request
            };
            answers.iter().map(answer).collect()
        });
        Server { url, requests }
    }

    fn read_request(stream: &TcpStream) -> String {
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0);
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap_or("0");
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        head + &String::from_utf8(body).unwrap()
    }

    const OK: &str = "200 OK\r\nconnection: close\r\ncontent-length: 82\r\n\r\n\
        {\"id\":\"hwQ2YpKdmg\",\"time\":1635528741,\"event\":\"message\",\"topic\":\"t\",\"message\":\"m\"}\n";

    fn message() -> Message {
        Message {
            title: "[nightly] claude — FAILED".to_owned(),
            body: "line\n✓".to_owned(),
            priority: Priority::High,
            tags: vec!["x".to_owned()],
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(future)
    }

    fn publish(ntfy: &Ntfy) -> Result<(), NotifyError> {
        block_on(ntfy.publish(&message()))
    }

    /// The error with all its causes.
    fn chain(error: &NotifyError) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }

    #[test]
    fn a_notification_is_posted_as_utf_8_json_with_its_token() {
        let server = serve(&[OK]);
        let token = Credentials::Token("tk_secret".to_owned());
        let ntfy = Ntfy::new(&server.url, "t", Some(token));
        publish(&ntfy).unwrap();
        let request = &server.requests.join().unwrap()[0];
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: Bearer tk_secret"), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["topic"], "t");
        assert_eq!(body["title"], "[nightly] claude — FAILED");
        assert_eq!(body["message"], "line\n✓");
        assert_eq!(body["priority"], 4);
        assert_eq!(body["tags"], serde_json::json!(["x"]));
    }

    #[test]
    fn what_came_to_another_topic_is_not_delivered_and_the_servers_reason_is_told() {
        const ANSWERS: &[&str] = &[
            OK,
            "403 Forbidden\r\nconnection: close\r\n\r\n{\"code\":40301,\"error\":\"forbidden\\u001b[2J\"}",
        ];
        let server = serve(ANSWERS);
        let told = |topic| {
            let error = publish(&Ntfy::new(&server.url, topic, None)).unwrap_err();
            assert!(!error.is_transient());
            chain(&error)
        };
        assert!(told("mine").contains("it published to another topic"));
        let refused = told("t");
        let expected = "it answers 403 Forbidden, forbidden: whoever publishes must be allowed";
        assert!(refused.contains(expected), "{refused:?}");
        server.requests.join().unwrap();
    }

    #[test]
    fn a_password_is_sent_as_basic_authentication() {
        let server = serve(&[OK]);
        let password = Credentials::Password {
            user: "user".to_owned(),
            password: "pass".to_owned(),
        };
        publish(&Ntfy::new(&server.url, "t", Some(password))).unwrap();
        let request = &server.requests.join().unwrap()[0];
        assert!(
            request.contains("authorization: Basic dXNlcjpwYXNz"),
            "{request}"
        );
    }

    #[test]
    fn only_a_refusal_of_this_notification_is_for_good() {
        const ANSWERS: &[&str] = &[
            "200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            "200 OK\r\nconnection: close\r\n\r\n<html>login</html>",
            "200 OK\r\nconnection: close\r\n\r\n{}",
            "202 Accepted\r\nconnection: close\r\n\r\n{\"id\":7,\"event\":\"message\"}",
            "302 Found\r\nconnection: close\r\nlocation: /x\r\ncontent-length: 2\r\n\r\n{}",
            "400 Bad Request\r\nconnection: close\r\n\r\n",
            "401 Unauthorized\r\nconnection: close\r\n\r\n",
            "403 Forbidden\r\nconnection: close\r\n\r\n",
            "408 Request Timeout\r\nconnection: close\r\n\r\n",
            "413 Too Large\r\nconnection: close\r\n\r\n",
            "425 Too Early\r\nconnection: close\r\n\r\n",
            "429 Too Many\r\nconnection: close\r\n\r\n",
            "500 Oh\r\nconnection: close\r\n\r\n",
            "507 Full\r\nconnection: close\r\n\r\n",
            "nonsense",
        ];
        let server = serve(ANSWERS);
        let token = Credentials::Token("tk_secret".to_owned());
        let ntfy = Ntfy::new(&server.url, "topic", Some(token));
        let mut refused = Vec::new();
        for answer in ANSWERS {
            let error = publish(&ntfy).unwrap_err();
            let text = format!("{} {ntfy:?} {error:?}", chain(&error));
            assert!(!text.contains("tk_secret"), "{text}");
            if !error.is_transient() {
                refused.push(&answer[..3]);
            }
        }
        assert_eq!(refused, ["400", "401", "403", "413"]);
        server.requests.join().unwrap();
    }

    #[test]
    fn a_topic_that_may_not_be_read_is_told_with_the_reason_and_what_it_takes() {
        let server =
            serve(&["403 Forbidden\r\nconnection: close\r\n\r\n{\"error\":\"forbidden\"}"]);
        let ntfy = Ntfy::new(&server.url, "topic", None);
        let error = block_on(ntfy.heard(DateTime::UNIX_EPOCH)).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("it answers 403 Forbidden, forbidden; let the"),
            "{text}"
        );
        server.requests.join().unwrap();
    }

    #[test]
    fn only_what_answers_as_an_ntfy_server_does_is_one() {
        const WELL: &str = "200 OK\r\nconnection: close\r\n\r\n{\"healthy\":true}\n";
        const ANSWERS: &[&str] = &[
            WELL,
            "400 Bad Request\r\nconnection: close\r\n\r\n{\"code\":40007}",
            WELL,
            "503 Service Unavailable\r\nconnection: close\r\n\r\n",
            WELL,
            "403 Forbidden\r\nconnection: close\r\n\r\n{\"error\":\"forbidden\"}",
            "200 OK\r\nconnection: close\r\n\r\n<html>login</html>",
            "200 OK\r\nconnection: close\r\n\r\n{\"healthy\":false}",
            "200 OK\r\nconnection: close\r\n\r\n",
        ];
        let server = serve(ANSWERS);
        let ntfy = Ntfy::new(&server.url, "topic", None);
        for may_publish in [true, false] {
            assert_eq!(block_on(ntfy.reach()).unwrap().may_publish, may_publish);
        }
        let error = block_on(ntfy.reach()).unwrap_err();
        let expected = "the notification server would refuse each notification: it answers 403 \
                        Forbidden, forbidden: whoever publishes must be allowed to write to the topic";
        assert_eq!(chain(&error), expected);
        for _ in &ANSWERS[6..] {
            let error = block_on(ntfy.reach()).unwrap_err();
            assert!(error.is_transient());
            let text = chain(&error);
            assert!(text.contains("not as an ntfy server does"), "{text}");
        }
        server.requests.join().unwrap();
    }

    #[test]
    fn a_server_that_is_not_there_is_told_with_its_reason_and_without_its_secrets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let ntfy = Ntfy::new(
            format!("http://user:secret@{address}/?auth=secret"),
            "t",
            None,
        );
        let error = publish(&ntfy).unwrap_err();
        let text = format!("{} {error:?}", chain(&error));
        assert!(error.is_transient());
        assert!(text.contains("refused"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn a_server_that_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut ntfy = Ntfy::new(
            format!("http://{}", listener.local_addr().unwrap()),
            "t",
            None,
        );
        ntfy.total_limit = Duration::from_millis(100);
        let error = publish(&ntfy).unwrap_err();
        assert!(error.is_transient());
        assert!(chain(&error).contains("timed out"), "{}", chain(&error));
    }

    #[test]
    fn all_questions_to_a_server_that_falls_silent_have_one_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let token = Credentials::Token("tk".to_owned());
        let mut ntfy = Ntfy::new(url, "t", Some(token));
        ntfy.total_limit = Duration::from_millis(300);
        let server = thread::spawn(move || {
            for body in [r#"{"healthy":true}"#, "{}"] {
                let (mut stream, _peer) = listener.accept().unwrap();
                read_request(&stream);
                write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}").unwrap();
            }
            let silent = listener.accept().unwrap();
            thread::park_timeout(Duration::from_secs(60));
            drop(silent);
        });
        let error = block_on(ntfy.reach()).unwrap_err();
        server.thread().unpark();
        server.join().unwrap();
        let expected = "it does not answer within 300ms";
        assert!(chain(&error).ends_with(expected), "{}", chain(&error));
    }

    #[test]
    fn settings_that_cannot_work_lose_no_notification() {
        let broken_token = Credentials::Token("tk\nsecret".to_owned());
        for ntfy in [
            Ntfy::new("no url", "t", None),
            Ntfy::new("ftp://127.0.0.1/", "t", None),
            Ntfy::new("http://127.0.0.1:1/", "t", Some(broken_token)),
        ] {
            let error = publish(&ntfy).unwrap_err();
            assert!(error.is_transient());
            assert!(!format!("{} {error:?}", chain(&error)).contains("secret"));
        }
    }
}
