//! The supervisor's socket, and the machine's console behind it.
//!
//! The guest's console is a terminal of the supervisor's, which writes all that is said there into `console.log`. Who
//! connects to `supervisor.sock` says one line and has from then on what the guest says, and types:
//!
//! ```text
//! console ROWS COLUMNS     attach
//! size ROWS COLUMNS        the window's size has changed; answered by the end of the connection
//! ```
//!
//! The socket stands in the machine's folder, which only root can enter.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// The socket's name in the machine's folder.
pub(super) const SOCKET: &str = "supervisor.sock";

/// `^]`: at the third within a second nspawn would end the machine.
const ESCAPE: u8 = 0x1d;
const APART: Duration = Duration::from_millis(600);

/// The longest line that somebody may say first.
const LINE: usize = 64;

/// How many may be connected.
const CLIENTS: usize = 16;

/// The console of a machine, and those who sit at it.
pub(super) struct Console {
    listener: UnixListener,
    controlling: File,
    /// Held open, so that the controlling end goes on between two boots.
    terminal: OwnedFd,
    log: Option<Log>,
    clients: Vec<Client>,
    escaped: Option<Instant>,
}

struct Client {
    stream: UnixStream,
    line: Vec<u8>,
    attached: bool,
}

/// Gives the way to a folder's socket that is short enough for an address (unix(7)).
fn address(folder: &File) -> String {
    format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())
}

fn open(folder: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder, flags, Mode::empty())?.into())
}

/// Connects to a supervisor, and says a line.
pub(super) fn connect(folder: &Path, line: &str) -> io::Result<UnixStream> {
    let folder = open(folder)?;
    let mut stream = UnixStream::connect(address(&folder))?;
    stream.write_all(line.as_bytes())?;
    Ok(stream)
}

impl Console {
    /// Makes the terminal and the socket.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let controlling = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&controlling)?;
        unlockpt(&controlling)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let terminal = ioctl_tiocgptpeer(&controlling, flags)?;
        tcsetwinsize(&controlling, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })?;
        rustix::io::ioctl_fionbio(&controlling, true)?;
        let _ = std::fs::remove_file(folder.join(SOCKET));
        let listener = UnixListener::bind(address(&open(folder)?))?;
        listener.set_nonblocking(true)?;
        let controlling = File::from(controlling);
        Ok(Self { listener, controlling, terminal, log: None, clients: Vec::new(), escaped: None })
    }

    /// Gives the guest's side of the terminal.
    pub(super) fn terminal(&self) -> io::Result<OwnedFd> {
        self.terminal.try_clone()
    }

    /// Writes what is said into another file from now on.
    pub(super) fn log_to(&mut self, path: &Path) -> io::Result<()> {
        self.log = Some(Log::new(path)?);
        Ok(())
    }

    /// Gives what to wait for.
    pub(super) fn events(&self) -> Vec<PollFd<'_>> {
        let clients = self.clients.iter().map(|client| client.stream.as_fd());
        let all: Vec<BorrowedFd<'_>> =
            [self.listener.as_fd(), self.controlling.as_fd()].into_iter().chain(clients).collect();
        all.into_iter().map(|file| PollFd::from_borrowed_fd(file, PollFlags::IN)).collect()
    }

    /// Does all that can be done without waiting.
    pub(super) fn serve(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() < CLIENTS && stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client { stream, line: Vec::new(), attached: false });
            }
        }
        self.hear();
        for mut client in std::mem::take(&mut self.clients) {
            if self.attend(&mut client) {
                self.clients.push(client);
            }
        }
    }

    /// Hands on what the guest says.
    fn hear(&mut self) {
        let mut bytes = [0; 16 << 10];
        // a guest that never stops talking is heard again at the next turn
        for _ in 0..16 {
            let Ok(count @ 1..) = self.controlling.read(&mut bytes) else { return };
            let said = &bytes[..count];
            if let Some(log) = &mut self.log {
                log.write(said);
            }
            // who does not keep up is let go
            self.clients.retain_mut(|client| !client.attached || client.stream.write_all(said).is_ok());
        }
    }

    /// Takes what a client says; tells whether it stays.
    fn attend(&mut self, client: &mut Client) -> bool {
        let mut bytes = [0; 4 << 10];
        loop {
            let typed = match client.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => &bytes[..count],
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            if client.attached {
                self.type_in(typed);
                continue;
            }
            let end = typed.iter().position(|byte| *byte == b'\n');
            client.line.extend(&typed[..end.unwrap_or(typed.len())]);
            if client.line.len() > LINE {
                return false;
            }
            if let Some(end) = end {
                match self.obey(&client.line) {
                    Some(true) => client.attached = true,
                    _ => return false,
                }
                let rest = typed[end + 1..].to_vec();
                self.type_in(&rest);
            }
        }
    }

    /// Does what a line says; gives whether its sender is attached then, none for what is not known.
    fn obey(&self, line: &[u8]) -> Option<bool> {
        let line = std::str::from_utf8(line).ok()?;
        let words: Vec<_> = line.split(' ').collect();
        let [verb, rows, columns] = words[..] else { return None };
        let (ws_row, ws_col) = (rows.parse().ok()?, columns.parse().ok()?);
        let _ = tcsetwinsize(&self.controlling, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 });
        match verb {
            "console" => Some(true),
            "size" => Some(false),
            _ => None,
        }
    }

    fn type_in(&mut self, typed: &[u8]) {
        for byte in typed {
            if *byte == ESCAPE {
                let now = Instant::now();
                if self.escaped.is_some_and(|before| now.duration_since(before) < APART) {
                    continue;
                }
                self.escaped = Some(now);
            }
            // a guest that reads nothing loses what is typed, as on any line
            let _ = self.controlling.write(&[*byte]);
        }
    }
}

/// The size at which a console's log is rotated: a guest writes as much as it likes, and the host keeps no more than
/// twice this.
pub const LOG_SIZE: u64 = 1 << 20;

/// What a console said, as far as it is kept: the file, and an older one beside it.
struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    plain: Plain,
}

impl Log {
    fn new(path: &Path) -> io::Result<Self> {
        let _ = std::fs::remove_file(older(path));
        Ok(Self { path: path.to_owned(), file: File::create(path)?, size: 0, plain: Plain::default() })
    }

    /// Writes what is said; what cannot be written is lost, as on a full disk.
    fn write(&mut self, said: &[u8]) {
        let plain = self.plain.of(said);
        if self.size + plain.len() as u64 > LOG_SIZE {
            let rotated =
                std::fs::rename(&self.path, older(&self.path)).and_then(|()| File::create(&self.path));
            let Ok(file) = rotated else { return };
            (self.file, self.size) = (file, 0);
        }
        self.size += plain.len() as u64;
        let _ = self.file.write_all(&plain);
    }
}

fn older(path: &Path) -> PathBuf {
    let mut older = path.to_owned();
    older.as_mut_os_string().push(".1");
    older
}

/// Takes a terminal's own language out of what is said, for a file that people read.
#[derive(Default)]
struct Plain(Within);

#[derive(Clone, Copy, Default)]
enum Within {
    #[default]
    Text,
    Escape,
    /// `ESC [`, to its last letter.
    Sequence,
    /// `ESC ]` and its like, to BEL or `ESC \`.
    String,
}

impl Plain {
    /// **Source**: ECMA-48; console_codes(4).
    fn of(&mut self, said: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(said.len());
        for byte in said {
            self.0 = match (self.0, byte) {
                (_, 0x1b) => Within::Escape,
                (Within::Text, b'\n' | b'\t' | 0x20..=0x7e | 0x80..) => {
                    plain.push(*byte);
                    Within::Text
                }
                (Within::Escape, b'[') => Within::Sequence,
                (Within::Escape, b']' | b'P' | b'^' | b'_' | b'X') => Within::String,
                (Within::Escape, 0x20..=0x2f) => Within::Escape,
                (Within::Sequence, 0x20..=0x3f) => Within::Sequence,
                (Within::String, 0x07) => Within::Text,
                (Within::String, _) => Within::String,
                _ => Within::Text,
            };
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_the_words_alone() {
        let mut plain = Plain::default();
        let said = b"\x1b]3008;start=x\x1b\\\x1b[0;1;32mOK\x1b[0m done\r\n\x1b(B\x07caf\xc3\xa9\x1b[?25h";
        let (first, second) = said.split_at(9);
        let all = [plain.of(first), plain.of(second)].concat();
        assert_eq!(String::from_utf8(all).unwrap(), "OK done\ncaf\u{e9}");
    }

    #[test]
    fn a_log_is_rotated_before_it_is_large() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console.log");
        let mut log = Log::new(&path).unwrap();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..5000 {
            log.write(&line);
        }
        log.write(b"the last\n");
        let sizes = [&path, &older(&path)].map(|path| std::fs::metadata(path).unwrap().len());
        assert!(sizes.iter().all(|size| (1..=LOG_SIZE).contains(size)), "{sizes:?}");
        assert!(std::fs::read(&path).unwrap().ends_with(b"the last\n"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn who_attaches_hears_and_types_and_the_log_has_it_too() {
        let folder = tempfile::tempdir().unwrap();
        let mut console = Console::new(folder.path()).unwrap();
        let log = folder.path().join("log");
        console.log_to(&log).unwrap();
        let mut guest = File::from(console.terminal().unwrap());
        guest.write_all(b"before\n").unwrap();
        console.serve();
        let mut client = connect(folder.path(), "console 40 100\n").unwrap();
        console.serve();
        let size = rustix::termios::tcgetwinsize(&guest).unwrap();
        assert_eq!((size.ws_row, size.ws_col), (40, 100));
        guest.write_all(b"hello\n").unwrap();
        console.serve();
        let mut heard = [0; 64];
        let count = client.read(&mut heard).unwrap();
        assert_eq!(&heard[..count], b"hello\r\n", "what was said before is in the log alone");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "before\nhello\n");
        client.write_all(b"a\x1d\x1d\x1db\n").unwrap();
        console.serve();
        let count = guest.read(&mut heard).unwrap();
        assert_eq!(&heard[..count], b"a\x1db\n", "nspawn must not see three");
        connect(folder.path(), "nonsense\n").unwrap();
        drop(client);
        console.serve();
        console.serve();
        assert!(console.clients.is_empty());
    }
}
