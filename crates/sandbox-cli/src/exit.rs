//! Exit codes, as documented in the manual.

use std::process::ExitCode;

use sandbox_core::Class;

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
    /// Interrupted: 128 + SIGINT.
    pub const INTERRUPTED: Self = Self(130);

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
