//! Machines as containers of Proxmox VE: made on a node through its own programs.
//!
//! It was not run on a real node: what is written follows Proxmox' sources and manuals, and was tried against a
//! stand-in that refuses what they refuse.

pub mod config;
mod error;
pub mod firewall;
pub mod pct;

pub use error::ProxmoxError;
