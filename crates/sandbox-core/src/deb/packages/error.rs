//! What is wrong with Packages files.

use crate::{
    deb::{deb822, relation, version},
    error::{Cause, Class},
};

/// Why Packages files are not a catalogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file as a whole is no control file.
    #[error("the package index of `{pocket}` is malformed")]
    File {
        /// The source's id.
        pocket: String,
        /// What is wrong.
        source: deb822::Error,
    },
    /// The file is bigger than offsets reach.
    #[error("the package index of `{pocket}` has more than 4 GB")]
    Large {
        /// The source's id.
        pocket: String,
    },
    /// A stanza lacks a field, has one twice, or one that is wrong.
    #[error("the package index of `{pocket}` is malformed: package `{package}` at line {line} {problem}")]
    Stanza {
        /// The source's id.
        pocket: String,
        /// The package's name, or `?`.
        package: String,
        /// The line, from 1, at which the stanza begins.
        line: usize,
        /// What is wrong with it.
        problem: Box<Problem>,
    },
}

impl Cause for Error {
    fn class(&self) -> Class {
        Class::Untrusted
    }
}

/// What is wrong with a package's stanza.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A line that is no field.
    #[error("has a line that is neither a field nor the continuation of one")]
    Line,
    /// A field that it must have.
    #[error("lacks the field `{0}`")]
    Lacks(&'static str),
    /// A field that stands twice.
    #[error("has the field `{0}` twice")]
    Twice(&'static str),
    /// A field whose value is not of its shape.
    #[error("has a wrong `{0}`")]
    Wrong(&'static str),
    /// A version that is none.
    #[error("has a wrong version: {0}")]
    Version(version::Invalid),
    /// A relation that is none.
    #[error("has a wrong `{0}`: {1}")]
    Relation(&'static str, relation::Invalid),
}
