//! TLS before a server, by a certificate authority that only the test knows; and a proxy that leads to it.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

use super::server::Server;

/// A server that speaks TLS for another one.
pub struct Tls {
    address: Ipv4Addr,
    port: u16,
    /// The certificate of its authority.
    pub authority: String,
}

impl Tls {
    /// Speaks for a server, as `archive.example.invalid` and as `127.0.0.1`.
    pub fn before(server: &Server) -> Self {
        Self::at(server, Ipv4Addr::LOCALHOST)
    }

    /// Speaks for a server at one of this machine's addresses, and by its name.
    pub fn at(server: &Server, address: Ipv4Addr) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names = ["archive.example.invalid".to_owned(), address.to_string()];
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let (config, inner) = (Arc::new(config), server.url().trim_start_matches("http://").to_owned());
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, inner) = (Arc::clone(&config), inner.clone());
                // a client that does not trust us hangs up
                thread::spawn(move || drop(speak(config, &inner, stream)));
            }
        });
        Self { address, port, authority: authority.pem() }
    }

    /// Gives its address on this machine.
    pub fn url(&self) -> String {
        format!("https://{}:{}", self.address, self.port)
    }
}

/// A request as it came over TLS; the answer goes to `stream`.
pub struct Received {
    pub stream: StreamOwned<ServerConnection, TcpStream>,
    /// The lines before the body, the empty one too.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
}

/// Reads one request. A body in chunks is not read.
pub fn receive(config: Arc<ServerConfig>, stream: TcpStream) -> io::Result<Received> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let lines = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = lines.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok(Received { stream, head, body })
}

/// Hands one request on, and the answer back: the server behind closes after each.
fn speak(config: Arc<ServerConfig>, inner: &str, stream: TcpStream) -> io::Result<()> {
    let Received { stream: mut outer, head: mut request, body } = receive(config, stream)?;
    request.extend(body);
    let mut inner = TcpStream::connect(inner)?;
    inner.write_all(&request)?;
    let mut answer = Vec::new();
    inner.read_to_end(&mut answer)?;
    outer.write_all(&answer)?;
    outer.conn.send_close_notify();
    outer.flush()
}

/// A proxy that connects to one place, whatever it is asked for.
pub struct Tunnel {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnel {
    /// Leads to a server.
    pub fn to(tls: &Tls) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, target) = (Arc::clone(&asked), tls.port);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let log = Arc::clone(&log);
                thread::spawn(move || drop(tunnel(stream, target, &log)));
            }
        });
        Self { port, asked }
    }

    /// Gives its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Takes what it was asked for.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn tunnel(client: TcpStream, target: u16, log: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?);
    let mut first = String::new();
    lines.read_line(&mut first)?;
    log.lock().unwrap().push(first.trim_end().to_owned());
    let mut line = String::new();
    while lines.read_line(&mut line)? > 2 {
        line.clear();
    }
    (&client).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    let (mut from, mut to) = (client.try_clone()?, server.try_clone()?);
    let back = thread::spawn(move || {
        drop(io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Write));
    });
    io::copy(&mut (&server), &mut (&client))?;
    client.shutdown(Shutdown::Both)?;
    drop(back.join());
    Ok(())
}
