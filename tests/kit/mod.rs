//! What the tests are made of: OpenPGP keys, packages, a signed archive made on the fly, and a server with faults.
//!
//! Nothing here chooses an implementation in the product: the archive is a real one, only small.

#![allow(dead_code, reason = "each test program uses its part of the kit")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod archive;
pub mod cache;
pub mod cluster;
pub mod compress;
pub mod deb;
pub mod key;
pub mod process;
pub mod pve;
pub mod registries;
pub mod repack;
pub mod server;
pub mod skips;
pub mod system;
pub mod tar;
pub mod tls;
pub mod ubuntu;
pub mod vendor;
pub mod verbs;
pub mod zip;

use std::time::{SystemTime, UNIX_EPOCH};

/// Copies a folder's files into another, over what is there.
pub fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, path) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if entry.is_dir() {
            copy(&entry, &path);
        } else {
            std::fs::copy(&entry, path).unwrap();
        }
    }
}

/// The present, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a test is where time comes from")]
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}
