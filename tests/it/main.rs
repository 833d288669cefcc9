//! Tests that need no network: against an archive that is signed and served on the fly.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../kit/mod.rs"]
mod kit;

mod archive;
mod bootstrap;
mod cli;
mod interrupt;
mod lock;
mod mirror;
mod signature;
mod stages;
mod store;
mod transport;
mod user;
