//! Exit codes, as documented in the manual.

use std::process::ExitCode;

use sandbox_core::Class;

/// Signals that ask a program to end: Ctrl-C, `kill`, a terminal that is closed.
pub const ENDING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// All went well.
    pub const OK: Self = Self(0);
    /// What was asked for cannot be had, or the name is taken.
    pub const UNAVAILABLE: Self = Self(1);
    /// The command line is wrong.
    pub const USAGE: Self = Self(2);
    /// A file of the user's or of ours is wrong.
    pub const FILE: Self = Self(3);
    /// A signature, digest, expiry date or path that is not to be trusted.
    pub const UNTRUSTED: Self = Self(4);
    /// Something outside cannot be reached.
    pub const UNREACHABLE: Self = Self(5);
    /// The host lacks a feature, a program or a permission.
    pub const HOST: Self = Self(6);
    /// Our own state on disk is damaged.
    pub const STATE: Self = Self(7);
    /// A bug of ours.
    pub const BUG: Self = Self(70);
    /// `exec` and `shell`: it is ours, not the payload's.
    pub const OURS: Self = Self(125);

    /// Returns the code of a program that a signal ended, as a shell gives it.
    pub fn of_signal(signal: i32) -> Self {
        Self(u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128)))
    }

    /// Reports whether the user or the system asked the program to end, by one of [`ENDING`].
    pub fn is_interrupted(self) -> bool {
        ENDING.iter().any(|signal| Self::of_signal(*signal) == self)
    }

    /// Returns the worse of two: the higher one.
    #[must_use]
    pub const fn or_worse(self, other: Self) -> Self {
        if self.0 < other.0 { other } else { self }
    }

    /// Gives the code of a class of errors.
    pub const fn of(class: Class) -> Self {
        match class {
            Class::Unavailable => Self::UNAVAILABLE,
            Class::Usage => Self::USAGE,
            Class::File => Self::FILE,
            Class::Untrusted => Self::UNTRUSTED,
            Class::Unreachable => Self::UNREACHABLE,
            Class::Host => Self::HOST,
            Class::State => Self::STATE,
            Class::Bug => Self::BUG,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}
