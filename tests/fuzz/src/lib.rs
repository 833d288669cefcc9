//! What is asserted of each format that comes from outside, for any bytes whatever.
//!
//! Each module has one function `check`, which panics where a property does not hold. libFuzzer calls it with
//! what it makes (`targets/`), and `tests/replay.rs` with the corpus and with every input that once failed.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a property that does not hold panics")]

pub mod accounts;
pub mod ar;
pub mod bus;
pub mod copied;
pub mod deb822;
pub mod environment;
pub mod git;
pub mod lock;
pub mod memory;
pub mod pep440;
pub mod relation;
pub mod release;
pub mod semver;
pub mod tar;
pub mod version;

/// A target: its name, which is its folder's, and its check.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 14] = [
    ("accounts", accounts::check),
    ("ar", ar::check),
    ("bus", bus::check),
    ("copied", copied::check),
    ("deb822", deb822::check),
    ("environment", environment::check),
    ("git", git::check),
    ("lock", lock::check),
    ("pep440", pep440::check),
    ("relation", relation::check),
    ("release", release::check),
    ("semver", semver::check),
    ("tar", tar::check),
    ("version", version::check),
];
