//! The two pages `/metrics` and `/healthz` over HTTP/1.1, and nothing else.
//!
//! Written by hand: two fixed pages without parameters, bodies or connections that stay need no
//! library, and what is not there cannot be attacked. Only GET and HEAD are answered and nothing is
//! changed by them. The `Host` of a request must be this machine's: otherwise a page in a browser
//! could read along under a name of its own that leads here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// What there is to tell. Called on a thread where files may be read.
pub trait Answers: Send + Sync + 'static {
    /// The page of metrics.
    fn metrics(&self) -> String;
    /// What it does, or why it is not well.
    fn health(&self) -> Result<String, String>;
}

/// Longer requests are none of a scraper's.
const MAX_REQUEST_BYTES: usize = 8 << 10;
/// The longest time for a whole exchange.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time; more wait.
const MOST_CONNECTIONS: usize = 16;

/// Answers for ever.
pub async fn serve(listener: TcpListener, answers: Arc<dyn Answers>) {
    let Ok(address) = listener.local_addr() else {
        return tracing::error!("the address of the metrics is not known");
    };
    let free = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answers = Arc::clone(&answers);
                tokio::spawn(async move {
                    if timeout(PATIENCE, exchange(stream, address, answers))
                        .await
                        .is_err()
                    {
                        tracing::debug!("a reader of the metrics was too slow");
                    }
                    drop(place);
                });
            }
            // No descriptor is free: it passes.
            Err(error) => {
                tracing::debug!("a reader of the metrics was not let in: {error}");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn exchange(mut stream: TcpStream, address: SocketAddr, answers: Arc<dyn Answers>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST_BYTES {
            break;
        }
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let asked = read(&request, address);
    let is_head = request.starts_with(b"HEAD ");
    let (status, body) = match asked {
        Ok(asked) => answer(asked, answers).await,
        Err(status) => (status, format!("{status}\n")),
    };
    let length = body.len();
    let allow = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {length}\r\n{allow}Cache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    );
    let body = if is_head { "" } else { &body };
    let sent = stream.write_all(format!("{head}{body}").as_bytes()).await;
    if let Err(error) = sent.and(stream.shutdown().await) {
        tracing::debug!("a reader of the metrics went away: {error}");
    }
}

async fn answer(asked: Asked, answers: Arc<dyn Answers>) -> (&'static str, String) {
    let told = spawn_blocking(move || match asked {
        Asked::Metrics => ("200 OK", answers.metrics()),
        Asked::Health => match answers.health() {
            Ok(text) => ("200 OK", format!("{text}\n")),
            Err(text) => ("503 Service Unavailable", format!("{text}\n")),
        },
    });
    told.await
        .unwrap_or_else(|_| ("500 Internal Server Error", "it failed\n".to_owned()))
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Asked {
    Metrics,
    Health,
}

/// What a request asks for; else the status that refuses it.
fn read(request: &[u8], address: SocketAddr) -> Result<Asked, &'static str> {
    const BAD: &str = "400 Bad Request";
    let text = std::str::from_utf8(request).map_err(|_| BAD)?;
    let (head, _body) = text.split_once("\r\n\r\n").ok_or(BAD)?;
    let mut lines = head.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.0" | "HTTP/1.1"] = words[..] else {
        return Err(BAD);
    };
    let hosts: Vec<&str> = lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| value.trim())
        .collect();
    match hosts[..] {
        [host] if is_own(host, address.ip()) => {}
        [_] => return Err("421 Misdirected Request"),
        _ => return Err(BAD),
    }
    match (method, target) {
        ("GET" | "HEAD", "/metrics") => Ok(Asked::Metrics),
        ("GET" | "HEAD", "/healthz") => Ok(Asked::Health),
        ("GET" | "HEAD", _) => Err("404 Not Found"),
        _ => Err("405 Method Not Allowed"),
    }
}

/// Whether a host can only be this one. On loopback it is an address of that, or `localhost`. Where
/// the network may ask, it is any address, or a name without a dot, as containers have: no such name
/// can be had for a page in a browser.
fn is_own(host: &str, address: IpAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        Ok(ip) => !address.is_loopback() || ip.is_loopback(),
        Err(_) if name.eq_ignore_ascii_case("localhost") => true,
        Err(_) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            !address.is_loopback() && !name.is_empty() && name.chars().all(plain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request: &str) -> Result<Asked, &'static str> {
        read(request.as_bytes(), "127.0.0.1:9464".parse().unwrap())
    }

    #[test]
    fn only_get_of_two_pages_under_the_machines_own_name_is_answered() {
        let get = |target: &str, host: &str| {
            asked(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        };
        for host in ["127.0.0.1:9464", "localhost", "LOCALHOST:1", "[::1]:9464"] {
            assert_eq!(get("/metrics", host), Ok(Asked::Metrics), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1",
            "",
            "a:b:c",
        ] {
            assert_eq!(
                get("/metrics", host),
                Err("421 Misdirected Request"),
                "{host}"
            );
        }
        assert_eq!(get("/healthz", "localhost"), Ok(Asked::Health));
        assert_eq!(get("/", "localhost"), Err("404 Not Found"));
        assert_eq!(get("/metrics?x", "localhost"), Err("404 Not Found"));
        for wrong in [
            "GET /metrics HTTP/1.1\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
            "GET /metrics\r\nHost: localhost\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert_eq!(asked(wrong), Err("400 Bad Request"), "{wrong}");
        }
        let post = "POST /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(asked(post), Err("405 Method Not Allowed"));
    }

    #[test]
    fn in_a_network_an_address_or_a_name_without_a_dot_is_this_host() {
        let everywhere: IpAddr = "0.0.0.0".parse().unwrap();
        for (host, expected) in [
            ("10.0.0.7:9464", true),
            ("agent-runner:9464", true),
            ("evil.example:9464", false),
            ("", false),
        ] {
            assert_eq!(is_own(host, everywhere), expected, "{host}");
        }
    }
}
