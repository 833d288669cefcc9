//! Tests that need no network: against an archive that is signed and served on the fly.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../kit/mod.rs"]
mod kit;

mod archive;
mod batch;
mod bombs;
mod bootstrap;
mod carried;
mod cli;
mod contained;
mod copies;
mod download;
mod elsewhere;
mod export;
mod facts;
mod foreign;
mod full;
mod git;
mod import;
mod indexes;
mod interrupt;
mod json;
mod kept;
mod killed;
mod layers;
mod limited;
mod live_trees;
mod lock;
mod malformed;
mod mirror;
mod names;
mod npm_tree;
mod offline;
mod outputs;
mod profile;
mod proxmox;
mod proxy;
mod python;
mod recoded;
mod resolve;
mod same_inodes;
mod signature;
mod sources;
mod stack;
mod stages;
mod store;
mod tars;
mod transport;
mod user;
mod vendor;
mod words;
