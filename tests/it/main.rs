//! Tests that need no network and no root: against an archive that is signed and served on the fly.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../kit/mod.rs"]
mod kit;

mod archive;
mod signature;
mod store;
mod transport;
