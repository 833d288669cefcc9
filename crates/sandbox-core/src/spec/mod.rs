//! What is to be built: images and profiles, read from TOML and merged into one [`Spec`].
//!
//! One schema serves both; an image is a layer that says where packages come from, a profile one that is
//! stacked on it. Files are read by [`Catalogue::find`] only, everything else takes text or values.

pub mod apt;
mod canonical;
mod check;
pub mod explain;
mod file;
mod limit;
pub mod lint;
mod load;
mod merge;
pub mod mirrors;
mod refused;
pub mod schema;
pub mod secrets;
mod sound;
mod sources;
pub mod spans;
mod words;

pub use check::Error;
pub use file::{
    Agent, Apt, Archive, ArchiveKind, Build, Download, ExtraSource, Git, Group, Health, Interpreter, Layer,
    Link, Mcp, McpFile, McpFormat, Npm, Packages, Part, Pocket, Port, Protocol, Python, SCHEMA, Skills, Step,
    TreeFile, Unit, Units, User, Volume, VolumeKind,
};
pub use limit::{LIMITS, Limit};
pub use load::{Catalogue, Kind, Source, is_path};
pub use merge::{Spec, Stacked, files, stack};
pub use sound::{Problem, problems};
pub use sources::{Trusted, is_armored, of_stanzas, trusted};

/// Tells whether a word can be the name of a variable.
///
/// **Source**: POSIX.1, Base Definitions, 3.216 "Name".
#[must_use]
pub fn is_variable(name: &str) -> bool {
    let mut letters = name.bytes();
    letters.next().is_some_and(|first| first == b'_' || first.is_ascii_alphabetic())
        && letters.all(|letter| letter == b'_' || letter.is_ascii_alphanumeric())
}
