//! A repository elsewhere: its address, the token for it, and what its refusals mean.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::model::text;
use crate::process::command::Captured;

/// What stands in the place of a token.
const MASK: &str = "[redacted]";

/// The longest text of a server that is passed on, in characters.
const MAX_SAID_CHARS: usize = 1000;

/// Where a repository is fetched from and pushed to. Shows no token.
#[derive(Clone)]
pub struct Remote {
    url: String,
    token: Option<String>,
}

/// A text is no address of a repository.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("`{0}` is no address of a repository: `https://host/owner/name` or a whole path is needed")]
pub struct RemoteError(String);

/// Why a remote repository did not do what was asked.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RemoteFault {
    /// The token is missing, wrong or not enough, or the repository does not exist.
    #[error("`{url}` refuses access: {said}")]
    Denied {
        /// The address.
        url: String,
        /// What git said.
        said: String,
    },
    /// The repository has another address now. It is not followed: the token is not for others.
    #[error("`{url}` redirects elsewhere, which is not followed: {said}")]
    Moved {
        /// The address.
        url: String,
        /// What git said.
        said: String,
    },
    /// What the repository holds is broken or too much.
    #[error("`{url}` has contents that are refused: {said}")]
    Contents {
        /// The address.
        url: String,
        /// What git said.
        said: String,
    },
    /// Nobody who is trusted says that the server is the one of that name. Nothing was sent.
    #[error(
        "the certificate of `{url}` is not trusted: {said}; name the file (PEM) with its authority \
         in SSL_CERT_FILE"
    )]
    Untrusted {
        /// The address.
        url: String,
        /// What git said.
        said: String,
    },
    /// Anything that may pass: the network, the server, a limit in time.
    #[error("`{url}` cannot be reached: {said}")]
    Unreachable {
        /// The address.
        url: String,
        /// What git said.
        said: String,
    },
}

impl RemoteFault {
    /// Whether trying again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            // It may be a network's login page, which goes away.
            Self::Unreachable { .. } | Self::Untrusted { .. } => true,
            Self::Denied { .. } | Self::Moved { .. } | Self::Contents { .. } => false,
        }
    }

    /// Whether the mirror's own branches are broken, as after a power cut.
    pub(super) fn is_of_mirror(&self) -> bool {
        matches!(self, Self::Contents { said, .. } if said.contains("bad object refs/heads/"))
    }

    /// The hash by which its commits are named, when the mirror's is another.
    pub(super) fn other_format(&self) -> Option<&'static str> {
        let Self::Unreachable { said, .. } = self else {
            return None;
        };
        let (_, server) = said
            .split_once("mismatched algorithms: client ")?
            .1
            .split_once("server ")?;
        ["sha256", "sha1"]
            .into_iter()
            .find(|format| server.starts_with(format))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Remote")
            .field("url", &self.url)
            .field("has_token", &self.token.is_some())
            .finish()
    }
}

impl Remote {
    /// Takes the address `https://host/…`, without a user or a token in it, or the whole path of a
    /// repository on this machine; plain `http` only to this machine itself. The token is GitHub's
    /// kind, sent as the password of `x-access-token`.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, RemoteError> {
        let remote = Self {
            url: url.to_owned(),
            token: token
                .map(|token| token.trim().to_owned())
                .filter(|token| !token.is_empty()),
        };
        let is_local = url.starts_with('/');
        let is_safe = match remote.host() {
            Some((scheme, host)) => {
                let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
                let is_here = matches!(name, "127.0.0.1" | "localhost" | "[::1]");
                let plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
                !host.is_empty()
                    && host.chars().all(plain)
                    && (scheme == "https" || is_here)
                    && !url.contains(['?', '#', '%', '\\'])
                    && url.is_ascii()
            }
            None => is_local,
        };
        let is_plain = !url.chars().any(char::is_control);
        if is_safe && is_plain && !url.split('/').any(|part| part == "..") {
            Ok(remote)
        } else {
            Err(RemoteError(text::first_line(url, 200)))
        }
    }

    /// The address. It never holds a token.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The one protocol that git may speak with it.
    pub(super) fn protocol(&self) -> &'static str {
        match self.host() {
            Some(("https", _)) => "https",
            Some(_) => "http",
            None => "file",
        }
    }

    /// The setting that sends the token to this host and to no other.
    pub(super) fn authorization(&self) -> Option<(String, String)> {
        let (scheme, host) = self.host()?;
        let basic = self.basic()?;
        // Only a header of this name is dropped by libcurl where a request goes elsewhere.
        Some((
            format!("http.{scheme}://{host}/.extraHeader"),
            format!("Authorization: Basic {basic}"),
        ))
    }

    /// A text of git's, without the token and harmless.
    pub(super) fn clean(&self, said: &str) -> String {
        let mut said = text::sanitize(said);
        for secret in self.basic().iter().chain(&self.token) {
            said = said.replace(secret.as_str(), MASK);
        }
        let lines: Vec<_> = said
            .lines()
            .map(|line| {
                let line = line.trim();
                let line = line.strip_prefix("remote:").unwrap_or(line).trim();
                let line = line.strip_prefix("fatal: ").unwrap_or(line);
                line.strip_prefix("error: ").unwrap_or(line).to_owned()
            })
            .filter(|line| !line.is_empty())
            .collect();
        text::shorten(&lines.join("; "), MAX_SAID_CHARS)
    }

    /// What the failure of a git command that spoke with it means.
    pub(super) fn fault(&self, captured: &Captured) -> RemoteFault {
        let said = self.clean(&captured.stderr);
        let url = self.url.clone();
        // What a repository is called means nothing.
        let meant = said.replace(&url, "");
        let has = |words: &[&str]| words.iter().any(|word| meant.contains(word));
        // libcurl's words with GnuTLS and with OpenSSL, and for a file of authorities it cannot read.
        if has(&[
            "SSL certificate problem",
            "certificate verification failed",
            "certificate subject name",
            "error setting certificate",
            "SSL CA cert",
        ]) {
            RemoteFault::Untrusted { url, said }
        } else if has(&[
            "redirect",
            "error: 301",
            "error: 302",
            "error: 307",
            "error: 308",
        ]) {
            RemoteFault::Moved { url, said }
        } else if has(&[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "error: 401",
            "error: 403",
            "error: 404",
            "not found",
            "does not appear to be a git repository",
            "Permission to",
        ]) {
            RemoteFault::Denied { url, said }
        } else if has(&["fsck error", "bad object", "is not a valid", "hasDotgit"]) {
            RemoteFault::Contents { url, said }
        } else {
            self.unreachable(said)
        }
    }

    pub(super) fn unreachable(&self, said: String) -> RemoteFault {
        let url = self.url.clone();
        RemoteFault::Unreachable { url, said }
    }

    fn host(&self) -> Option<(&'static str, &str)> {
        let (scheme, rest) = match self.url.split_once("://") {
            Some(("https", rest)) => ("https", rest),
            Some(("http", rest)) => ("http", rest),
            Some(_) | None => return None,
        };
        Some((scheme, rest.split('/').next().unwrap_or_default()))
    }

    fn basic(&self) -> Option<String> {
        let token = self.token.as_ref()?;
        Some(STANDARD.encode(format!("x-access-token:{token}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_hides_a_host_a_user_or_an_option_is_refused() {
        for good in [
            "https://github.com/octo/hello",
            "https://git.example.org:8443/a/b.git",
            "http://127.0.0.1:8080/a/b",
            "http://[::1]:80/a",
            "/srv/git/hello world.git",
        ] {
            assert_eq!(Remote::new(good, None).unwrap().url(), good);
        }
        for bad in [
            "",
            "-x",
            "hello",
            "../hello",
            "/srv/../etc",
            "ext::sh -c x",
            "ssh://host/x",
            "git@host:x",
            "https:///x",
            "https://user@host/x",
            "https://token:x@host/x",
            "https://host/x?y",
            "https://host/../x",
            "https://host/%2e%2e/x",
            "https://höst/x",
            "http://example.org/x",
            "http://127.0.0.1.example.org/x",
            "http://127.0.0.1@example.org/x",
            "https://host/x\n",
            "file:///srv/x",
        ] {
            assert!(Remote::new(bad, None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_name_of_a_repository_is_no_reason_of_a_failure() {
        let fault = |url: &str, why: &str| {
            let stderr = format!("fatal: unable to access '{url}/': {why}");
            Remote::new(url, None).unwrap().fault(&Captured {
                code: Some(128),
                stdout: Vec::new(),
                stderr,
            })
        };
        let broken = "The requested URL returned error: 503";
        let moved = "The requested URL returned error: 301";
        for name in ["redirect", "hasDotgit"] {
            let url = format!("https://host/octo/{name}.git");
            assert!(fault(&url, broken).is_transient(), "{name}");
            let is_moved = matches!(fault(&url, moved), RemoteFault::Moved { .. });
            assert!(is_moved, "{name}");
        }
    }

    #[test]
    fn a_token_is_neither_shown_nor_left_in_a_text() {
        let remote = Remote::new("https://host/x", Some("hunter2hunter2".to_owned())).unwrap();
        assert!(!format!("{remote:?}").contains("hunter2"));
        let (key, value) = remote.authorization().unwrap();
        assert_eq!(key, "http.https://host/.extraHeader");
        let said = remote.clean(&format!(
            "remote: \u{1b}[31mhunter2hunter2\nfatal: {value}\n"
        ));
        assert_eq!(said, "[redacted]; Authorization: Basic [redacted]");
    }
}
