//! Machines as containers of Proxmox VE: on a node through its own programs, from elsewhere through the interface.
//!
//! It was not run on a real node: what is written follows Proxmox' sources and manuals, and was tried against
//! stand-ins that refuse what they refuse.

mod backend;
pub mod cluster;
pub mod config;
mod deliver;
mod error;
pub mod firewall;
pub mod pct;
pub mod place;
pub mod resident;
pub mod rest;
pub mod rights;
mod task;
mod token;

pub(in crate::machine) use self::deliver::remove_scratch;
pub use self::{
    backend::Proxmox,
    deliver::{Delivered, Delivery, Goods},
    error::ProxmoxError,
};
