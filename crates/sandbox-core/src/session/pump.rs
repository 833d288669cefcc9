//! Standard files for a payload: the caller's own, but never the caller's terminal.
//!
//! A terminal of the host in the hands of a guest could be typed into (TIOCSTI) or read behind the user's
//! back, so that each one is replaced by a pipe that is pumped.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    thread::{self, JoinHandle},
};

use rustix::{
    pipe::{PipeFlags, pipe_with},
    stdio,
};

/// The three files of a payload, and what must be pumped.
pub struct Files {
    /// The payload's ends, to be closed by us once it has them.
    pub payload: [OwnedFd; 3],
    input: Option<OwnedFd>,
    outputs: Vec<(OwnedFd, OwnedFd)>,
}

/// Pumps at work.
pub struct Pumps(Vec<JoinHandle<()>>);

impl Files {
    /// Makes them.
    ///
    /// # Errors
    /// Where a pipe cannot be made.
    pub fn new() -> io::Result<Self> {
        let (input, input_pump) = reading(stdio::stdin())?;
        let (output, output_pump) = writing(stdio::stdout())?;
        let (error, error_pump) = writing(stdio::stderr())?;
        Ok(Self {
            payload: [input, output, error],
            input: input_pump,
            outputs: [output_pump, error_pump].into_iter().flatten().collect(),
        })
    }

    /// Closes our copies of the payload's ends and begins to pump.
    pub fn run(self) -> Pumps {
        drop(self.payload);
        if let (Some(to), Ok(from)) = (self.input, stdio::stdin().try_clone_to_owned()) {
            // not waited for: it may wait for a key that never comes
            thread::spawn(move || copy(from, to));
        }
        let pumps = self.outputs.into_iter().map(|(from, to)| thread::spawn(move || copy(from, to)));
        Pumps(pumps.collect())
    }
}

impl Pumps {
    /// Waits until all that the payload wrote is out.
    pub fn finish(self) {
        for pump in self.0 {
            let _ = pump.join();
        }
    }
}

fn is_terminal(file: BorrowedFd<'_>) -> bool {
    rustix::termios::isatty(file)
}

fn reading(own: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<OwnedFd>)> {
    if !is_terminal(own) {
        return Ok((own.try_clone_to_owned()?, None));
    }
    let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((from, Some(to)))
}

fn writing(own: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<(OwnedFd, OwnedFd)>)> {
    let own_copy = own.as_fd().try_clone_to_owned()?;
    if !is_terminal(own) {
        return Ok((own_copy, None));
    }
    let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((to, Some((from, own_copy))))
}

fn copy(from: OwnedFd, to: OwnedFd) {
    let (mut from, mut to) = (File::from(from), File::from(to));
    let mut buffer = [0; 16 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                if to.write_all(&buffer[..read]).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
