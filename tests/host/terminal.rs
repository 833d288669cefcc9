//! A terminal that a test types on.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::Child,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};

use crate::process::{self, code_of, command};

/// A program on a terminal of its own.
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    child: Child,
}

impl Terminal {
    /// Starts a program on a new terminal of a size.
    pub fn open(argv: &[&str], columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
            .expect("the slave");
        tcsetwinsize(&master, size(columns, rows)).expect("a size");
        // setsid(1) makes the terminal the controlling one, which takes unsafe code otherwise
        let argv: Vec<&str> = ["setsid", "--ctty", "--wait"].iter().chain(argv).copied().collect();
        let stdio = || slave.try_clone().expect("a descriptor");
        let child = command(&argv)
            .env("TERM", "xterm")
            .env("COLORTERM", "truecolor")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .expect("setsid starts");
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (master.try_clone().expect("a descriptor"), Arc::clone(&seen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                into.lock().expect("no panic while held").extend_from_slice(&bytes[..count]);
            }
        });
        Self { master, slave, seen, child }
    }

    /// Types.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal takes it");
    }

    /// Changes the window's size.
    pub fn resize(&self, columns: u16, rows: u16) {
        tcsetwinsize(&self.master, size(columns, rows)).expect("a size");
    }

    /// Gives everything that was shown.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("no panic while held")).into_owned()
    }

    /// Waits until a text is shown.
    #[track_caller]
    pub fn expect(&self, text: &str, deadline: Duration) {
        let what = format!("`{text}` on the terminal");
        let begun = Instant::now();
        while !self.shown().contains(text) {
            assert!(begun.elapsed() < deadline, "not within {deadline:?}: {what}; shown:\n{}", self.shown());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Tells whether the terminal's line discipline is as a shell wants it: lines, echo, signals.
    pub fn is_cooked(&self) -> bool {
        use rustix::termios::LocalModes;
        let wanted = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcgetattr(&self.slave).expect("the slave is open").local_modes.contains(wanted)
    }

    /// Waits for the program to end; gives its exit code.
    #[track_caller]
    pub fn end(mut self, deadline: Duration) -> (i32, Self) {
        let status = process::wait(&mut self.child, deadline);
        let Some(status) = status else { panic!("it goes on; shown:\n{}", self.shown()) };
        (code_of(status), self)
    }

    /// Waits until a shell answers, whatever its prompt.
    #[track_caller]
    pub fn greet(&mut self) {
        let begun = Instant::now();
        while !self.shown().contains("ready") {
            let waited = begun.elapsed();
            assert!(waited < Duration::from_secs(60), "no shell within {waited:?}; shown:\n{}", self.shown());
            // typed in two pieces, so that the echo of the line is not taken for the answer
            self.send("echo rea''dy\n");
            for _ in 0..20 {
                if !self.shown().contains("ready") {
                    thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }
}
