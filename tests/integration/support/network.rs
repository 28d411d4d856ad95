//! What a company puts between a worker and its GitHub: an authority of its own, and a proxy.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// A certificate authority that nobody trusts who is not told to.
#[derive(Debug)]
pub struct Authority(TempDir);

impl Authority {
    pub fn new() -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        let config = "[req]\ndistinguished_name=name\nx509_extensions=ca\nprompt=no\n\
                      [name]\nCN=An Authority\n[ca]\nbasicConstraints=critical,CA:TRUE\n\
                      keyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n";
        std::fs::write(authority.path("ca.cnf"), config).unwrap();
        authority.openssl(
            "req -x509 -config ca.cnf -newkey rsa:2048 -nodes -days 2 -keyout ca.key -out ca.pem",
        );
        authority
    }

    /// The file that a person is given.
    pub fn file(&self) -> String {
        self.path("ca.pem").display().to_string()
    }

    /// A certificate for a host, and its key.
    fn certify(&self, host: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let names = format!("subjectAltName=DNS:{host},IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
        std::fs::write(self.path("host.cnf"), names).unwrap();
        self.openssl(
            "req -new -config ca.cnf -newkey rsa:2048 -nodes -keyout host.key -out host.csr",
        );
        self.openssl(
            "x509 -req -in host.csr -CA ca.pem -CAkey ca.key -set_serial 2 -days 2 -extfile host.cnf -out host.pem",
        );
        let certificate = CertificateDer::from_pem_file(self.path("host.pem")).unwrap();
        (
            certificate,
            PrivateKeyDer::from_pem_file(self.path("host.key")).unwrap(),
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir::<&Path>(self.0.path())
            .stdin(Stdio::null())
            .output()
            .expect("`tests/install` installs openssl");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// A server of its own thread, which ends with this value.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    over: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (over, is_over) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let accept = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        // An error is a client that went away.
                        tokio::spawn(serve(stream));
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = is_over => {}
                }
            });
        });
        Self {
            address,
            over: Some(over),
            thread: Some(thread),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.over.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A server of plain HTTP, behind TLS.
#[derive(Debug)]
pub struct Front(Server);

impl Front {
    /// Puts TLS for a host in front of an address such as `http://127.0.0.1:80`.
    pub fn new(authority: &Authority, host: &str, behind: &str) -> Self {
        agent_runner::tls::install_provider();
        let (certificate, key) = authority.certify(host);
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let behind = behind.strip_prefix("http://").unwrap().to_owned();
        Self(Server::start(move |stream| {
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            async move {
                let mut stream = acceptor.accept(stream).await?;
                let mut behind = TcpStream::connect(behind).await?;
                copy_bidirectional(&mut stream, &mut behind).await.map(drop)
            }
        }))
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }
}

/// A proxy that leads every `CONNECT` to one address, whatever host it names.
#[derive(Debug)]
pub struct Proxy {
    server: Server,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn new(to: SocketAddr) -> Self {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heads);
        let server = Server::start(move |mut stream| {
            let heads = Arc::clone(&kept);
            async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await?);
                }
                heads
                    .lock()
                    .unwrap()
                    .push(String::from_utf8_lossy(&head).into_owned());
                stream
                    .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    .await?;
                let mut to = TcpStream::connect(to).await?;
                copy_bidirectional(&mut stream, &mut to).await.map(drop)
            }
        });
        Self { server, heads }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// What clients told it, each up to the empty line.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}
