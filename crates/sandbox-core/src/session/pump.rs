//! Standard files for a payload: pipes of its own, unless the caller's are pipes already.
//!
//! An open file is more than its bytes. A terminal of the host could be typed into (TIOCSTI) or read without the user's
//! notice; a regular file could be truncated, read from its beginning, or written where the caller had appended; a socket
//! could be asked for its peer. So a payload gets the bytes alone: what is no pipe is copied through one. `/dev/null` has
//! no bytes and no state, and is passed on.
//!
//! **Source**: open(2), "Open file descriptions"; pipe(7); ioctl_tty(2), `TIOCSTI`.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
    thread::{self, JoinHandle},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    fs::{FileType, SeekFrom, Stat, fcntl_getfl, fcntl_setfl, fstat, makedev, seek},
    io::{Errno, ioctl_fionread},
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    stdio,
};

/// How much is copied at once, and what a pipe holds where the kernel allows it.
const SIZE: usize = 1 << 20;

/// The three files of a payload, and what must be pumped.
pub struct Files {
    /// The payload's ends, to be closed here once it has them.
    pub payload: [OwnedFd; 3],
    input: Option<Input>,
    outputs: Vec<Output>,
}

/// Pumps at work.
pub struct Pumps {
    ended: OwnedFd,
    input: Option<JoinHandle<()>>,
    outputs: Vec<JoinHandle<io::Result<()>>>,
}

struct Input {
    from: OwnedFd,
    /// The pipe, written to without waiting.
    to: OwnedFd,
    /// Where reading begins, and the payload's side of the pipe to see how much was not read: of a file with a position.
    position: Option<(u64, OwnedFd)>,
}

struct Output {
    from: OwnedFd,
    to: OwnedFd,
}

impl Files {
    /// Makes them for the caller's standard files.
    ///
    /// # Errors
    /// Where a pipe cannot be made.
    pub fn new() -> io::Result<Self> {
        Self::of([stdio::stdin(), stdio::stdout(), stdio::stderr()])
    }

    fn of([input, output, error]: [BorrowedFd<'_>; 3]) -> io::Result<Self> {
        let (payload_input, input) = reading(input)?;
        let (payload_output, pumped) = writing(output)?;
        // what goes to one file keeps its order
        let (payload_error, pumped_error) = match pumped {
            Some(_) if is_same(output, error) => (payload_output.try_clone()?, None),
            _ => writing(error)?,
        };
        let outputs = [pumped, pumped_error].into_iter().flatten().collect();
        Ok(Self { payload: [payload_input, payload_output, payload_error], input, outputs })
    }

    /// Closes the copies of the payload's ends and begins to pump.
    ///
    /// # Errors
    /// Where the kernel has no event file left.
    pub fn run(self) -> io::Result<Pumps> {
        drop(self.payload);
        let ended = eventfd(0, EventfdFlags::CLOEXEC)?;
        let mut pumps = Pumps { ended, input: None, outputs: Vec::new() };
        if let Some(input) = self.input {
            let ended = pumps.ended.try_clone()?;
            let waits = input.position.is_none();
            let pump = thread::spawn(move || input.pump(&ended));
            // one that reads what has no position may wait for a key that never comes
            pumps.input = (!waits).then_some(pump);
        }
        for output in self.outputs {
            let ended = pumps.ended.try_clone()?;
            pumps.outputs.push(thread::spawn(move || output.pump(&ended)));
        }
        Ok(pumps)
    }
}

impl Pumps {
    /// Waits until all that the payload wrote is out. What it left running may hold the pipes: that is not waited for.
    ///
    /// # Errors
    /// Where it could not be written.
    pub fn finish(self) -> io::Result<()> {
        rustix::io::write(&self.ended, &1_u64.to_ne_bytes())?;
        if let Some(input) = self.input {
            let _ = input.join();
        }
        self.outputs.into_iter().try_for_each(|pump| pump.join().unwrap_or(Ok(())))
    }
}

impl Input {
    fn pump(self, ended: &OwnedFd) {
        let file = File::from(self.from);
        let mut buffer = vec![0; SIZE];
        let mut taken = 0;
        loop {
            let read = match &self.position {
                Some((begin, _)) => file.read_at(&mut buffer, begin + taken),
                None => (&file).read(&mut buffer),
            };
            let read = match read {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let written = write_until(&self.to, &buffer[..read], ended);
            taken += written as u64;
            if written < read {
                break;
            }
        }
        let Some((begin, pipe)) = self.position else { return };
        drop(self.to);
        // the payload may read on until its end
        let _ = ready(ended, PollFlags::IN, None);
        let left = ioctl_fionread(&pipe).unwrap_or(0);
        let _ = seek(&file, SeekFrom::Start(begin + taken.saturating_sub(left)));
    }
}

impl Output {
    fn pump(self, ended: &OwnedFd) -> io::Result<()> {
        let (mut from, mut to) = (File::from(self.from), File::from(self.to));
        let mut buffer = vec![0; SIZE];
        // how much is to be copied yet: all that is in the pipe when the payload has ended is the last of its own
        let mut last = None;
        while last != Some(0) {
            if last.is_none() && ready(&from, PollFlags::IN, Some(ended))? {
                last = Some(usize::try_from(ioctl_fionread(&from)?).unwrap_or(usize::MAX));
                continue;
            }
            let room = last.map_or(SIZE, |last| last.min(SIZE));
            let read = match from.read(&mut buffer[..room]) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            last = last.map(|last| last - read);
            match write_all(&mut to, &buffer[..read]) {
                // the reader has gone: the next write of the payload fails
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }
}

/// Writes all of it, also to a file that its other holders made one that does not wait.
fn write_all(to: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready(to, PollFlags::OUT, None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes to a pipe until the payload has ended or reads no more; gives how many bytes went in.
fn write_until(to: &OwnedFd, bytes: &[u8], ended: &OwnedFd) -> usize {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(to, &bytes[written..]) {
            Ok(more) => written += more,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if matches!(ready(to, PollFlags::OUT, Some(ended)), Ok(false)) => {}
            Err(_) => break,
        }
    }
    written
}

/// Waits for a file, or for the payload's end; returns whether that has come.
fn ready(file: &impl std::os::fd::AsFd, wanted: PollFlags, ended: Option<&OwnedFd>) -> io::Result<bool> {
    let mut all = vec![PollFd::new(file, wanted)];
    all.extend(ended.map(|ended| PollFd::new(ended, PollFlags::IN)));
    loop {
        match poll(&mut all, None) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(all.get(1).is_some_and(|ended| !ended.revents().is_empty())),
        }
    }
}

/// The numbers of `/dev/null`, on every Linux.
const NULL: (u32, u32) = (1, 3);

/// Returns whether a file may be the payload's as it is.
fn is_passed(stat: &Stat) -> bool {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => true,
        FileType::CharacterDevice => stat.st_rdev == makedev(NULL.0, NULL.1),
        _ => false,
    }
}

/// Returns whether two files are one.
fn is_same(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> bool {
    matches!((fstat(a), fstat(b)), (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// Makes a pipe with as much room as the kernel gives.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
    // a smaller one copies the same bytes
    let _ = fcntl_setpipe_size(&to, SIZE);
    Ok((from, to))
}

/// Has a file not wait. A pipe's two ends are apart in this.
fn without_waiting(file: &OwnedFd) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    Ok(fcntl_setfl(file, flags | rustix::fs::OFlags::NONBLOCK)?)
}

fn reading(own: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<Input>)> {
    let stat = fstat(own)?;
    let copy = own.try_clone_to_owned()?;
    if is_passed(&stat) {
        return Ok((copy, None));
    }
    let (from, to) = pipe()?;
    without_waiting(&to)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let begin = match kind {
        FileType::RegularFile | FileType::BlockDevice => seek(own, SeekFrom::Current(0)).ok(),
        _ => None,
    };
    let position = begin.map(|begin| Ok::<_, io::Error>((begin, from.try_clone()?))).transpose()?;
    Ok((from, Some(Input { from: copy, to, position })))
}

fn writing(own: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<Output>)> {
    let copy = own.as_fd().try_clone_to_owned()?;
    if is_passed(&fstat(own)?) {
        return Ok((copy, None));
    }
    let (from, to) = pipe()?;
    without_waiting(&from)?;
    Ok((to, Some(Output { from, to: copy })))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Seek as _, time::Duration};

    use super::*;

    fn files(input: &File, output: &File, error: &File) -> Files {
        Files::of([input.as_fd(), output.as_fd(), error.as_fd()]).unwrap()
    }

    fn is_pipe(file: &OwnedFd) -> bool {
        FileType::from_raw_mode(fstat(file).unwrap().st_mode) == FileType::Fifo
    }

    /// Runs a payload's part with the files that it would have.
    fn run(files: Files, payload: impl FnOnce([File; 3])) {
        let own = files.payload.each_ref().map(|file| File::from(file.try_clone().unwrap()));
        let pumps = files.run().unwrap();
        payload(own);
        pumps.finish().unwrap();
    }

    #[test]
    fn a_file_of_the_callers_is_neither_truncated_nor_read_again() {
        let place = tempfile::tempdir().unwrap();
        let (log, input) = (place.path().join("log"), place.path().join("in"));
        fs::write(&log, "old\n").unwrap();
        fs::write(&input, "first\nsecond\nthird\n").unwrap();
        let to = File::options().append(true).open(&log).unwrap();
        let mut from = File::open(&input).unwrap();
        let mut first = [0; 6];
        from.read_exact(&mut first).unwrap();
        run(files(&from, &to, &to), |[mut input, mut output, mut error]| {
            for file in [&output, &error] {
                file.set_len(0).unwrap_err();
            }
            input.seek(io::SeekFrom::Start(0)).unwrap_err();
            let mut word = [0; 7];
            input.read_exact(&mut word).unwrap();
            output.write_all(&word).unwrap();
            error.write_all(b"and ").unwrap();
            output.write_all(b"more\n").unwrap();
        });
        assert_eq!(fs::read_to_string(&log).unwrap(), "old\nsecond\nand more\n");
        let mut rest = String::new();
        from.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "third\n", "what the payload did not read is the next reader's");
    }

    #[test]
    fn every_byte_comes_through_and_what_is_left_running_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3 << 20).map(|number: u32| (number ^ (number >> 8)) as u8).collect();
        let (from, to) = (place.path().join("in"), place.path().join("out"));
        fs::write(&from, &bytes).unwrap();
        let (input, output) = (File::open(&from).unwrap(), File::create(&to).unwrap());
        let mut left = None;
        run(files(&input, &output, &output), |[mut input, mut output, error]| {
            io::copy(&mut input, &mut output).unwrap();
            left = Some((output, error));
        });
        assert!(fs::read(&to).unwrap() == bytes);
        // its next write fails, as on any pipe whose reader has gone
        let (mut output, error) = left.unwrap();
        let gone = output.write(b"x").unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
        drop(error);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_unless_the_reader_has_gone() {
        let null = File::open("/dev/null").unwrap();
        let full = File::options().write(true).open("/dev/full").unwrap();
        let all = files(&null, &full, &full);
        let mut output = File::from(all.payload[1].try_clone().unwrap());
        let pumps = all.run().unwrap();
        output.write_all(b"x").unwrap();
        drop(output);
        assert_eq!(pumps.finish().unwrap_err().kind(), io::ErrorKind::StorageFull);
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let near = File::from(OwnedFd::from(near));
        drop(far);
        run(files(&null, &near, &near), |[_, mut output, _]| output.write_all(b"x").unwrap());
    }

    #[test]
    fn pipes_and_dev_null_are_passed_on_and_all_else_is_copied() {
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let zero = File::open("/dev/zero").unwrap();
        let (from, to) = io::pipe().unwrap();
        let (from, to) = (File::from(OwnedFd::from(from)), File::from(OwnedFd::from(to)));
        let passed = files(&from, &to, &null);
        assert!(passed.input.is_none() && passed.outputs.is_empty());
        assert!(is_same(passed.payload[0].as_fd(), from.as_fd()) && !is_pipe(&passed.payload[2]));
        // one whose source never ends ends with the payload
        let begun = std::time::Instant::now();
        run(files(&zero, &null, &null), |[mut input, ..]| input.read_exact(&mut [1; 100]).unwrap());
        assert!(begun.elapsed() < Duration::from_secs(10));
        let copied = files(&zero, &null, &null);
        assert!(is_pipe(&copied.payload[0]) && copied.input.is_some());
    }
}
