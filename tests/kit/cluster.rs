//! A stand-in for the interface of Proxmox VE: TLS and HTTP before a cluster of one node that keeps what it is told,
//! and refuses what Proxmox refuses.

pub mod state;
mod upload;

use std::{
    fs,
    io::{self, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use sha2::{Digest as _, Sha256};

use self::state::State;
use super::tls::{Received, receive};

/// Whose the token is.
pub const OWNER: &str = "robot@pve!sandbox";
/// The token's secret.
pub const SECRET: &str = "0f9d3a52-1111-4222-8333-c0ffee00c0de";

/// A request as it came.
pub struct Request {
    /// `GET`.
    pub method: String,
    /// Without `/api2/json`, decoded.
    pub path: String,
    /// Of the query, or of the body.
    pub fields: Vec<(String, String)>,
    /// The file that was sent, with its name.
    pub file: Option<(String, Vec<u8>)>,
}

/// What is answered: a status, and the data or what is said of a refusal.
pub type Reply = Result<serde_json::Value, (u16, String)>;

/// The cluster; it serves as long as the test runs.
pub struct Cluster {
    port: u16,
    state: Arc<Mutex<State>>,
    /// The certificate of its authority.
    pub authority: String,
    /// The SHA-256 of its own certificate.
    pub fingerprint: String,
}

impl Cluster {
    /// Begins to serve.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let digest = Sha256::digest(own.der());
        let fingerprint = digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::new()));
        let (config, shared) = (Arc::new(config), Arc::clone(&state));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (config, state) = (Arc::clone(&config), Arc::clone(&shared));
                // a client that does not trust us hangs up
                thread::spawn(move || drop(serve(config, &state, stream)));
            }
        });
        Self { port, state, authority: authority.pem(), fingerprint }
    }

    /// Gives its address.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Gives what it keeps.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Writes token and authority into a folder; gives the words that lead here.
    pub fn words(&self, folder: &Path) -> Vec<String> {
        let (token, authority) = (folder.join("token"), folder.join("ca.pem"));
        write_token(&token, &format!("{OWNER}={SECRET}\n"));
        fs::write(&authority, &self.authority).unwrap();
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        ["--api", &self.url(), "--token-file", &text(token), "--api-ca", &text(authority)]
            .map(str::to_owned)
            .into()
    }
}

/// Writes a file that nobody else reads.
pub fn write_token(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn serve(config: Arc<ServerConfig>, state: &Mutex<State>, stream: TcpStream) -> io::Result<()> {
    // Proxmox reads no body in chunks
    let Received { mut stream, head, body } = receive(config, stream)?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let header = |name: &str| {
        let found = head.lines().filter_map(|line| line.split_once(": "));
        found.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let mut words = head.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let kind = header("content-type").unwrap_or_default();
    let mut request = Request { method, path: decoded(path), fields: pairs(query), file: None };
    let known = header("authorization").is_some_and(|value| value == format!("PVEAPIToken={OWNER}={SECRET}"));
    let reply = if !known {
        Err((401, "authentication failure".to_owned()))
    } else if let Some(boundary) = kind.strip_prefix("multipart/form-data; boundary=") {
        upload::parse(&body, boundary).map_err(|said| (500, said)).and_then(|(fields, file)| {
            (request.fields, request.file) = (fields, Some(file));
            state.lock().unwrap().answer(&request)
        })
    } else {
        request.fields.extend(pairs(&String::from_utf8_lossy(&body)));
        state.lock().unwrap().answer(&request)
    };
    let (status, body) = match reply {
        Ok(data) => (200, serde_json::json!({ "data": data })),
        Err((401, _)) => (401, serde_json::Value::Null),
        Err((status, said)) => (status, serde_json::json!({"data": null, "message": format!("{said}\n")})),
    };
    let body = body.to_string();
    let head =
        format!("HTTP/1.1 {status} Said so\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(a, b)| (decoded(a), decoded(b)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        match first {
            b'%' => {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&rest[..2]).unwrap(), 16).unwrap());
                rest = &rest[2..];
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}
