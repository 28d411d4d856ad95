//! The least of HTTP that a test needs to look at a local server.

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

/// An answer of a server.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Asks `http://HOST:PORT` for a path, with further header lines.
pub fn get(server: &str, path: &str, headers: &[String]) -> io::Result<Answer> {
    ask("GET", server, path, headers, "")
}

/// Sends a body there.
pub fn post(server: &str, path: &str, headers: &[String], body: &str) -> io::Result<Answer> {
    ask("POST", server, path, headers, body)
}

fn ask(
    method: &str,
    server: &str,
    path: &str,
    headers: &[String],
    body: &str,
) -> io::Result<Answer> {
    let address = server.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // HTTP/1.0: the body comes in one piece and ends with the connection.
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\n");
    if !body.is_empty() {
        write!(request, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    request.push_str(body);
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer {
        status: status.unwrap(),
        body: body.to_owned(),
    })
}

/// A port of this machine that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
