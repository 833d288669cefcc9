//! Programs that are run to their end, or to a deadline.

use std::{
    io::{Read, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// What a program left.
#[derive(Debug)]
pub struct Output {
    /// Its command line, for messages.
    pub argv: String,
    /// Its exit code; 128+n where a signal ended it, as a shell has it.
    pub code: i32,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

impl Output {
    /// Fails the test unless the program ended well; gives stdout without the last newline.
    #[track_caller]
    pub fn ok(&self) -> &str {
        self.ends_with(0);
        self.out.trim_end()
    }

    /// Fails the test unless the program ended with a code.
    #[track_caller]
    pub fn ends_with(&self, code: i32) -> &Self {
        let Self { argv, code: was, out, err } = self;
        assert!(*was == code, "`{argv}` ended with {was}, not {code}\nstdout: {out}\nstderr: {err}");
        self
    }
}

/// Makes a command of an argv.
#[expect(clippy::disallowed_methods, reason = "tests run the real programs, here and nowhere else")]
pub fn command(argv: &[&str]) -> Command {
    let mut command = Command::new(argv[0]);
    command.args(&argv[1..]);
    command
}

/// Starts a program with its three streams as pipes.
#[track_caller]
pub fn start(argv: &[&str]) -> Child {
    let mut command = command(argv);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("`{}` does not start: {error}", argv.join(" ")))
}

/// Runs a program on a text as its stdin.
#[track_caller]
pub fn run(argv: &[&str], input: impl Into<Vec<u8>>, deadline: Duration) -> Output {
    let mut child = start(argv);
    let input = input.into();
    let mut stdin = child.stdin.take().expect("a pipe");
    // a payload that does not read its stdin closes it: that is no failure of the writer
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = finish(child, argv, deadline);
    drop(writer.join());
    output
}

/// Waits for a started program, and kills it at the deadline.
#[track_caller]
pub fn finish(mut child: Child, argv: &[&str], deadline: Duration) -> Output {
    let out = collect(child.stdout.take().expect("a pipe"));
    let err = collect(child.stderr.take().expect("a pipe"));
    let status = wait(&mut child, deadline);
    let argv = argv.join(" ");
    let Some(status) = status else {
        drop(child.kill());
        drop(child.wait());
        panic!("`{argv}` did not end within {deadline:?}");
    };
    // a process that it left behind and that still has its stdout would make a pipeline hang
    let text = |bytes: Receiver<Vec<u8>>| match bytes.recv_timeout(Duration::from_secs(10)) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => panic!("`{argv}` ended, and something that it started keeps its output open"),
    };
    let (out, err) = (text(out), text(err));
    Output { argv, code: code_of(status), out, err }
}

/// Waits for a process; none where the deadline came first.
pub fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return Some(status);
        }
        if begun.elapsed() > deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Gives an exit code as a shell has it.
pub fn code_of(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

fn collect(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (into, bytes) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(from.read_to_end(&mut bytes));
        drop(into.send(bytes));
    });
    bytes
}

/// Asks until there is an answer or the deadline has come.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < deadline, "not within {deadline:?}: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}
