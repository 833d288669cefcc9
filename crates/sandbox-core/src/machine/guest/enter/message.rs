//! What the caller and the carrier say to each other.
//!
//! **Source**: unix(7), `SOCK_SEQPACKET`, `SCM_RIGHTS`.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::machine::seccomp::Dumps;

/// What runs in the guest.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Payload {
    /// The command and its arguments; the first is looked for in `PATH` where it has no slash.
    pub argv: Vec<String>,
    /// The users that it may be for, by name or number: the first that the guest has.
    pub users: Vec<String>,
    /// Who runs it.
    pub runs: Runs,
    /// Variables beside the session's own.
    pub env: Vec<(String, String)>,
    /// The caller's terminal type; where the guest does not know it the payload gets another.
    pub term: String,
    /// The working directory; the user's home where none is named.
    pub cwd: Option<String>,
}

/// Who runs a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runs {
    /// The user, with the variables that the guest sets for every user.
    #[default]
    AsUser,
    /// Root, with a session's own variables and the terminal type behind the arguments.
    AsRoot,
    /// Root, with a session's own variables and the user's name behind the arguments.
    AsRootForUser,
}

impl Payload {
    /// Iterates over all that becomes a string of the kernel's.
    pub(super) fn words(&self) -> impl Iterator<Item = &String> {
        let env = self.env.iter().flat_map(|(key, value)| [key, value]);
        self.argv.iter().chain(env).chain(&self.cwd).chain([&self.term])
    }
}

/// All that the carrier needs beside files: the request itself, the machine's first process, its root, the host's
/// /proc where there is a label. The three standard files come later.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) payload: Payload,
    /// The namespaces to be joined.
    pub(super) flags: libc::c_int,
    /// The caller.
    pub(super) parent: i32,
    /// The capabilities that the machine's first process may have.
    pub(super) bounding: Option<u64>,
    /// The file of /proc that takes the label, and what is written to it.
    pub(super) label: Option<(CString, CString)>,
    /// The system calls that the machine's profiles allow.
    pub(super) system_calls: Vec<String>,
    /// Whether the payload may leave a core dump.
    pub(super) dumps: Dumps,
    /// Rows and columns of a new terminal.
    pub(super) size: Option<(u16, u16)>,
}

/// What the carrier reports.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// There is a terminal, which comes with this.
    Terminal,
    /// The payload's files are the next that is needed.
    Ready,
    /// There is a process that waits to become the payload.
    Born { pid: i32 },
    /// It is the payload now.
    Executed,
    /// The guest has none of the users.
    NoUser,
    /// A step failed.
    Failed { step: u8, errno: i32 },
    /// The payload ended.
    Ended { status: i32 },
}

/// The steps that are reported, by number.
pub(super) const STEPS: &[&str] = &[
    "reading the request",
    "joining the machine's namespaces",
    "forking in the machine",
    "entering the machine's root",
    "making a terminal",
    "taking the terminal",
    "becoming the user",
    "entering the working directory",
    "executing the command",
    "taking over the machine's confinement",
    "reading the guest's users",
];
pub(super) const REQUEST: u8 = 0;
pub(super) const NAMESPACES: u8 = 1;
pub(super) const FORK: u8 = 2;
pub(super) const ROOT: u8 = 3;
pub(super) const NEW_TERMINAL: u8 = 4;
pub(super) const TAKE_TERMINAL: u8 = 5;
pub(super) const USER: u8 = 6;
pub(super) const DIRECTORY: u8 = 7;
pub(super) const EXEC: u8 = 8;
pub(super) const CONFINE: u8 = 9;
pub(super) const USERS: u8 = 10;

/// The most files of one message.
const FILES: usize = 8;

/// Sends a message with files.
pub(super) fn send(socket: &OwnedFd, message: &impl Serialize, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(message)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[io::IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message with its file, the first where there are more.
pub(super) fn receive<T: DeserializeOwned>(socket: &OwnedFd) -> io::Result<(T, Option<OwnedFd>)> {
    let (message, files) = receive_all(socket)?;
    Ok((message, files.into_iter().next()))
}

/// Receives a message with all of its files.
pub(super) fn receive_all<T: DeserializeOwned>(socket: &OwnedFd) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut text = [0; 256];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let parts = &mut [io::IoSliceMut::new(&mut text)];
    let read = loop {
        match recvmsg(socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?.bytes,
        }
    };
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let files = files.flatten().collect();
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((serde_json::from_slice(&text[..read])?, files))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    #[test]
    fn a_message_comes_whole_with_its_files_and_an_end_is_an_error() {
        let (near, far) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send(&near, &Report::Born { pid: 7 }, &[]).unwrap();
        send(&near, &Report::Terminal, &[file.as_fd(), file.as_fd()]).unwrap();
        let (report, files) = receive_all::<Report>(&far).unwrap();
        assert!(matches!(report, Report::Born { pid: 7 }) && files.is_empty());
        let (report, files) = receive_all::<Report>(&far).unwrap();
        assert!(matches!(report, Report::Terminal));
        assert_eq!(files.len(), 2);
        drop(near);
        let ended = receive::<Report>(&far).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::UnexpectedEof);
    }
}
