//! The least of an ntfy server: takes JSON by POST and counts what it was told. Where more than
//! counting is asked of it, the tests use the real one.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

/// A server on a free port; ends when dropped.
#[derive(Debug)]
pub struct Publications {
    address: SocketAddr,
    told: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Publications {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let (messages, is_over) = (Arc::clone(&told), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            while let Ok((stream, _peer)) = listener.accept() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                // A client may be killed in the middle of its request.
                if let Ok(message) = take(&stream) {
                    messages.lock().unwrap().push(message);
                }
            }
        });
        Self {
            address,
            told,
            ended,
            thread: Some(thread),
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The titles of what was published since the last call, the oldest first.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

impl Drop for Publications {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Reads a publication, answers as ntfy does, and gives its title. What was read counts also when
/// the client does not hear the answer.
fn take(mut stream: &TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().map_err(io::Error::other)?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body)?;
    let title = body["title"].as_str().unwrap_or_default().to_owned();
    let topic = &body["topic"];
    let answer =
        format!(r#"{{"id":"hwQ2YpKdmg","time":1635528741,"event":"message","topic":{topic}}}"#);
    let length = answer.len();
    let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    drop(stream.write_all((head + &answer).as_bytes()));
    Ok(title)
}
