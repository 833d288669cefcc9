//! The error that leaves the crate: a stage, a subject and a cause with a class and hints.

use std::{error::Error as StdError, fmt, io};

/// The result of a public verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong: it alone picks the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What was asked for cannot be had, or the name is taken.
    Unavailable,
    /// The command line is wrong.
    Usage,
    /// A file of the user's or of ours (image, profile, lock, configuration) is wrong.
    File,
    /// A signature, digest, expiry date or path escape: what came is not to be trusted.
    Untrusted,
    /// Something outside could not be reached.
    Unreachable,
    /// The host lacks a feature, a program or a permission.
    Host,
    /// Our own state on disk is damaged.
    State,
    /// A bug of ours.
    Bug,
}

impl Class {
    /// Returns the class of a refusal by the file system at a path that an archive or a guest's tree decides.
    ///
    /// Links in the place of directories, directories in the place of files, names that are too long and paths that
    /// lead out are what came, and what came is not to be trusted; all else, such as a full disk, is the host's.
    #[must_use]
    pub fn of_path(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(
                libc::EXDEV
                | libc::ELOOP
                | libc::ENOTDIR
                | libc::ENOENT
                | libc::EEXIST
                | libc::EISDIR
                | libc::ENOTEMPTY
                | libc::ENAMETOOLONG
                | libc::EINVAL,
            ) => Self::Untrusted,
            _ => Self::Host,
        }
    }
}

/// Advice for the user, as data; the command line words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    /// A command that does what was wanted, and what it does.
    Run {
        /// What the command achieves, in a few lower-case words.
        purpose: String,
        /// The command, as typed.
        command: String,
    },
    /// Anything that is not a command.
    Note(String),
}

impl Hint {
    /// Makes a hint that is a command.
    pub fn run(purpose: impl Into<String>, command: impl Into<String>) -> Self {
        Self::Run { purpose: purpose.into(), command: command.into() }
    }
}

/// Quotes a word of a command for the shell, where it needs that.
///
/// **Source**: POSIX.1, Shell and Utilities, 2.2.2 "Single-Quotes".
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,@:=%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// What a stage's error must be able to say of itself.
///
/// Its `Display` is a lower-case fragment that completes "because …", without its source.
pub trait Cause: StdError + Send + Sync + 'static {
    /// Tells the class, which picks the exit code.
    fn class(&self) -> Class;

    /// Gives advice, best first.
    fn hints(&self) -> Vec<Hint> {
        Vec::new()
    }
}

/// A failed verb: "could not {verb} {subject}", because of its cause.
#[derive(Debug)]
pub struct Error {
    verb: &'static str,
    subject: String,
    cause: Box<dyn Cause>,
}

impl Error {
    /// Makes an error of what was being done, to what, and why it failed.
    pub fn new(verb: &'static str, subject: impl Into<String>, cause: impl Cause) -> Self {
        Self { verb, subject: subject.into(), cause: Box::new(cause) }
    }

    /// Tells the class, which picks the exit code.
    #[must_use]
    pub fn class(&self) -> Class {
        self.cause.class()
    }

    /// Gives advice, best first.
    #[must_use]
    pub fn hints(&self) -> Vec<Hint> {
        self.cause.hints()
    }

    /// Returns the error and all its causes in one line.
    #[must_use]
    pub fn sentence(&self) -> String {
        sentence(self)
    }

    /// Gives the cause, for a caller that wants to look into it.
    #[must_use]
    pub fn cause(&self) -> &(dyn Cause + 'static) {
        &*self.cause
    }
}

/// Returns an error and all its causes in one line.
pub(crate) fn sentence(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(printable).collect()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {} {}", self.verb, self.subject)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.cause)
    }
}

/// Adds what was being done, and to what, to a stage's error.
pub trait Context<T> {
    /// Wraps the error as "could not {verb} {subject}".
    ///
    /// # Errors
    /// The wrapped error, where there was one.
    fn during(self, verb: &'static str, subject: impl Into<String>) -> Result<T>;
}

impl<T, E: Cause> Context<T> for std::result::Result<T, E> {
    fn during(self, verb: &'static str, subject: impl Into<String>) -> Result<T> {
        self.map_err(|cause| Error::new(verb, subject, cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_the_shell_would_split_it() {
        for (word, quoted) in [
            ("a/b-c_d.e:f=g", "a/b-c_d.e:f=g"),
            ("a b", "'a b'"),
            ("", "''"),
            ("it's", r"'it'\''s'"),
            ("$x", "'$x'"),
        ] {
            assert_eq!(shell_word(word), quoted);
        }
    }

    #[test]
    fn what_an_archive_causes_is_not_the_hosts() {
        for (errno, class) in [
            (libc::ELOOP, Class::Untrusted),
            (libc::ENOENT, Class::Untrusted),
            (libc::EXDEV, Class::Untrusted),
            (libc::ENOSPC, Class::Host),
            (libc::EROFS, Class::Host),
            (libc::EACCES, Class::Host),
            (libc::EMFILE, Class::Host),
        ] {
            assert_eq!(Class::of_path(&io::Error::from_raw_os_error(errno)), class, "{errno}");
        }
    }
}
