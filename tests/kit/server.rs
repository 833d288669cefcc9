//! A small HTTP server on the loopback that can be told to misbehave.

use std::{
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status and nothing else.
    Status(u16),
    /// Promises the whole and closes the connection after so many bytes.
    Cut(u64),
    /// Gives the first so many bytes as if they were the whole.
    Short(u64),
    /// Sends so many bytes and then nothing for the given milliseconds.
    Stall(u64, u64),
    /// Sends one byte after another, the given milliseconds apart.
    Drip(u64),
    /// Sends so many bytes and resets the connection.
    Reset(u64),
    /// Changes the last byte.
    Wrong,
    /// Appends bytes that do not belong.
    Long(u64),
    /// Answers with another part than was asked for, and says so.
    OtherRange,
    /// Sends the client to another address.
    Redirect(&'static str),
    /// Answers with the whole whatever part is asked for.
    NoRange,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path with its leading slash.
    pub path: String,
    /// The offset of `Range: bytes=N-`.
    pub offset: Option<u64>,
    /// Whether it was asked as a proxy.
    pub proxied: bool,
    /// The credentials that came with it.
    pub authorization: Option<String>,
}

/// What answers a request in place of a file: gets path, query and body, and gives media type and bytes.
pub type Service = Box<dyn Fn(&str, &[u8]) -> Option<(String, Vec<u8>)> + Send>;

#[derive(Default)]
struct State {
    redirects: Vec<(String, String)>,
    services: Vec<(String, Arc<Mutex<Service>>)>,
    hooks: Vec<(String, Box<dyn FnOnce() + Send>)>,
    faults: Vec<(String, Fault, u32)>,
    log: Vec<Request>,
}

/// The server; it ends when dropped.
pub struct Server {
    url: String,
    state: Arc<Mutex<State>>,
    end: Arc<AtomicBool>,
}

impl Server {
    /// Serves a folder.
    pub fn new(root: &Path) -> Self {
        Self::at(root, Ipv4Addr::LOCALHOST)
    }

    /// Serves a folder at one of this machine's addresses.
    pub fn at(root: &Path, address: Ipv4Addr) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let end = Arc::new(AtomicBool::new(false));
        let (root, shared, ended) = (root.to_path_buf(), Arc::clone(&state), Arc::clone(&end));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let (root, state) = (root.clone(), Arc::clone(&shared));
                thread::spawn(move || answer(&root, &state, stream));
            }
        });
        Self { url, state, end }
    }

    /// Gives its address, without a trailing slash.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Misbehaves for the next `times` requests whose path contains `part`.
    pub fn fault(&self, part: &str, fault: Fault, times: u32) {
        self.state.lock().unwrap().faults.push((part.to_owned(), fault, times));
    }

    /// Does something once, before the first request is answered whose path contains `part`.
    pub fn before(&self, part: &str, what: impl FnOnce() + Send + 'static) {
        self.state.lock().unwrap().hooks.push((part.to_owned(), Box::new(what)));
    }

    /// Sends clients that ask for a path to another address, until told otherwise.
    pub fn redirect(&self, path: &str, target: &str) {
        let redirects = &mut self.state.lock().unwrap().redirects;
        redirects.retain(|(known, _)| known != path);
        redirects.push((path.to_owned(), target.to_owned()));
    }

    /// Has what begins with a path answered by a service; where that has no answer, it is a file all the same.
    pub fn service(&self, path: &str, service: Service) {
        self.state.lock().unwrap().services.push((path.to_owned(), Arc::new(Mutex::new(service))));
    }

    /// Behaves again.
    pub fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Takes the log of requests.
    pub fn log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }
}

impl Server {
    /// Ends it: its port is closed when this returns.
    pub fn close(&self) {
        self.end.store(true, Ordering::Relaxed);
        // wakes the listener, which is closed then
        while TcpStream::connect(self.url.trim_start_matches("http://")).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        // Wakes the listener, so that its port is free again.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn answer(root: &Path, state: &Mutex<State>, stream: TcpStream) {
    let Some((request, body)) = read(&stream) else { return };
    let mut answered = None;
    let fault = {
        let mut state = state.lock().unwrap();
        state.log.push(request.clone());
        if let Some(at) = state.hooks.iter().position(|(part, _)| request.path.contains(part.as_str())) {
            state.hooks.swap_remove(at).1();
        }
        let hit = state
            .faults
            .iter_mut()
            .find(|(part, _, times)| *times > 0 && request.path.contains(part.as_str()));
        let hit = hit.map(|(_, fault, times)| {
            *times -= 1;
            *fault
        });
        let redirect = state.redirects.iter().find(|(path, _)| *path == request.path);
        if let (None, Some((_, target))) = (hit, redirect) {
            let _ = head(&mut &stream, "302 Found", 0, &format!("Location: {target}\r\n"));
            return;
        }
        let service = state.services.iter().find(|(path, _)| request.path.starts_with(path.as_str()));
        let service = service.filter(|_| hit.is_none()).map(|(_, service)| Arc::clone(service));
        drop(state);
        if let Some(service) = service {
            answered = service.lock().unwrap()(&request.path, &body);
        }
        hit
    };
    if let Some((kind, bytes)) = answered {
        let mut stream = stream;
        let _ = head(&mut stream, "200 OK", bytes.len(), &format!("Content-Type: {kind}\r\n"))
            .and_then(|()| stream.write_all(&bytes));
        return;
    }
    // A client that gave up is no problem of the server's.
    let _ = send(root, &request, fault, stream);
}

fn read(stream: &TcpStream) -> Option<(Request, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut lines = reader.by_ref().lines();
    let first = lines.next()?.ok()?;
    let target = first.split(' ').nth(1)?;
    // A client that takes this server for its proxy names the host too.
    let (path, proxied) = match target.strip_prefix("http://") {
        Some(rest) => (rest[rest.find('/')?..].to_owned(), true),
        None => (target.to_owned(), false),
    };
    let mut offset = None;
    let mut length = 0;
    let mut authorization = None;
    for line in lines.map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(range) = lower.strip_prefix("range: bytes=") {
            offset = range.trim_end_matches('-').parse().ok();
        }
        if lower.starts_with("authorization:") {
            authorization = line.split_once(": ").map(|(_, value)| value.to_owned());
        }
        if let Some(said) = lower.strip_prefix("content-length:") {
            length = said.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((Request { path, offset, proxied, authorization }, body))
}

/// Reads a path's quoting, once.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn send(root: &Path, request: &Request, fault: Option<Fault>, mut stream: TcpStream) -> std::io::Result<()> {
    if let Some(Fault::Status(status)) = fault {
        return head(&mut stream, &format!("{status} Told so"), 0, "");
    }
    if let Some(Fault::Redirect(target)) = fault {
        return head(&mut stream, "302 Found", 0, &format!("Location: {target}\r\n"));
    }
    let name = request.path.split('?').next().unwrap_or_default();
    // as many servers do for a folder
    let name = if name.ends_with('/') { format!("{name}index.html") } else { name.to_owned() };
    let file: PathBuf = root.join(decoded(name.trim_start_matches('/')));
    let Some(mut bytes) =
        std::fs::File::open(file).ok().filter(|file| file.metadata().is_ok_and(|of| of.is_file()))
    else {
        return head(&mut stream, "404 Not Found", 0, "");
    };
    let mut content = Vec::new();
    bytes.seek(SeekFrom::Start(0))?;
    bytes.read_to_end(&mut content)?;
    match fault {
        Some(Fault::Short(length)) => content.truncate(usize::try_from(length).unwrap()),
        Some(Fault::Wrong) => {
            if let Some(last) = content.last_mut() {
                *last ^= 1;
            }
        }
        Some(Fault::Long(more)) => content.resize(content.len() + usize::try_from(more).unwrap(), 0),
        _ => {}
    }
    let total = content.len();
    let offset = request.offset.filter(|_| fault != Some(Fault::NoRange));
    let mut start = usize::try_from(offset.unwrap_or(0)).unwrap();
    if fault == Some(Fault::OtherRange) {
        start /= 2;
    }
    if offset.is_some() && start >= total {
        return head(
            &mut stream,
            "416 Range Not Satisfiable",
            0,
            &format!("Content-Range: bytes */{total}\r\n"),
        );
    }
    let body = &content[start..];
    match offset {
        None => head(&mut stream, "200 OK", total, "Accept-Ranges: bytes\r\n")?,
        Some(_) => {
            let range = format!("Content-Range: bytes {start}-{}/{total}\r\n", total - 1);
            head(&mut stream, "206 Partial Content", body.len(), &range)?;
        }
    }
    let part = |length: u64| &body[..body.len().min(usize::try_from(length).unwrap())];
    match fault {
        Some(Fault::Cut(length)) => stream.write_all(part(length)),
        Some(Fault::Stall(length, pause)) => {
            stream.write_all(part(length))?;
            thread::sleep(Duration::from_millis(pause));
            stream.write_all(&body[part(length).len()..])
        }
        Some(Fault::Drip(pause)) => body.iter().try_for_each(|byte| {
            thread::sleep(Duration::from_millis(pause));
            stream.write_all(&[*byte])
        }),
        Some(Fault::Reset(length)) => {
            stream.write_all(part(length))?;
            thread::sleep(Duration::from_millis(50));
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).map_err(Into::into)
        }
        _ => stream.write_all(body),
    }
}

fn head(stream: &mut impl std::io::Write, status: &str, length: usize, more: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")
}
