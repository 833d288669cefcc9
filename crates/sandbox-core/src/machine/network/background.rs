//! Processes of this program that outlive the command that starts them.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

/// A process to be started.
pub(super) struct Process<'a> {
    /// The unit that runs it, where systemd does.
    pub unit: &'a str,
    /// The unit's properties.
    pub properties: &'a [&'a str],
    /// The hidden verb and its arguments.
    pub words: &'a [&'a str],
}

impl Process<'_> {
    /// Starts it as a unit of systemd; returns whether it is one.
    ///
    /// # Errors
    /// Where systemd-run cannot be run.
    #[expect(clippy::disallowed_methods, reason = "a program of the host, with no tree to be contained in")]
    pub(super) fn start_unit(&self, program: &Path) -> io::Result<bool> {
        if !Path::new("/run/systemd/system").exists() {
            return Ok(false);
        }
        let mut command = Command::new("systemd-run");
        command.args(["--quiet", "--collect", "--no-block", "--unit", self.unit]);
        for property in self.properties {
            command.args(["--property", property]);
        }
        command.arg("--").arg(program).arg("internal").args(self.words);
        command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        Ok(command.output()?.status.success())
    }

    /// Starts it as a process of no other.
    ///
    /// # Errors
    /// What fork(2) and execve(2) say.
    #[expect(clippy::disallowed_methods, reason = "the process outlives this one")]
    pub(super) fn start(&self, program: &Path) -> io::Result<Child> {
        let mut command = Command::new(program);
        command.arg("internal").args(self.words).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        #[allow(unsafe_code, reason = "what must happen between fork and exec has no safe form")]
        // SAFETY: the closure makes one system call. A session of its own: no terminal reaches the process.
        unsafe {
            command.pre_exec(|| Ok(rustix::process::setsid().map(|_| ())?));
        }
        command.spawn()
    }
}
