//! Signals by name or number, as kill(1) takes them.

use std::{fmt, str::FromStr};

/// A signal, in the kernel's numbers.
///
/// **Source**: signal(7); the C library keeps 32 and 33, so `SIGRTMIN` is 34.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

/// A text that is no signal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no signal: a name such as TERM or SIGRTMIN+4, or a number of 1 to 64")]
pub struct NoSignal(String);

const FIRST: i32 = 34;
const LAST: i32 = 64;

const NAMES: [(&str, i32); 32] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

impl Signal {
    /// Ends at once.
    pub const KILL: Self = Self(libc::SIGKILL);

    /// Gives its number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl FromStr for Signal {
    type Err = NoSignal;

    fn from_str(text: &str) -> Result<Self, NoSignal> {
        let wrong = || NoSignal(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return if (1..=LAST).contains(&number) { Ok(Self(number)) } else { Err(wrong()) };
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Self(*number));
        }
        let offset = |text: &str| text.parse::<i32>().ok().filter(|_| !text.starts_with(['+', '-']));
        let number = match (name, name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
            ("RTMIN", ..) => Some(FIRST),
            ("RTMAX", ..) => Some(LAST),
            (_, Some(above), _) => offset(above).map(|above| FIRST + above),
            (_, _, Some(below)) => offset(below).map(|below| LAST - below),
            _ => None,
        };
        number.filter(|number| (FIRST..=LAST).contains(number)).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.0 >= FIRST => write!(f, "SIGRTMIN+{}", self.0 - FIRST),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_kills() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("RTMIN+4", 38),
            ("SIGRTMIN", 34),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(text.parse(), Ok(Signal(number)), "{text}");
        }
        for text in ["", "0", "65", "-9", "SIG", "NOPE", "RTMIN+31", "RTMIN+-1", "RTMAX-99", "RTMIN+"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
        assert_eq!((Signal(15).to_string(), Signal(38).to_string()), ("SIGTERM".into(), "SIGRTMIN+4".into()));
    }
}
