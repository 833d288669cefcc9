//! Builds machines for coding agents from a distribution's archive, and runs them.
//!
//! The crate is one arrow of stages; each is a folder with one public verb, and a stage uses only the
//! stages to its left and the leaves (`name`, `digest`, `error`, `report`, `deb`, `keyring`, `host`,
//! `tarfile`):
//!
//! ```text
//!  images/*.toml ──┐
//!  profiles/*.toml ┴► spec ► archive ► resolve ► store ► unpack ► configure ► layer ► machine ► session
//! ```
//!
//! Nothing here prints, reads the environment, the current directory or the clock: those reach the crate
//! as values.

pub mod archive;
pub mod configure;
pub mod deb;
pub mod digest;
pub mod error;
pub mod host;
pub mod keyring;
pub mod layer;
pub mod lock;
pub mod machine;
pub mod name;
pub mod output;
pub mod report;
pub mod resolve;
pub mod session;
pub mod spec;
pub mod store;
mod tarfile;
pub mod unpack;

pub use error::{Class, Error, Hint, Result};
