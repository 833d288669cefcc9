//! The only doors to the world: transport, programs, mounts, directory trees, capabilities.

pub mod address;
pub mod api;
pub mod caps;
pub mod child;
pub mod clonable;
pub mod descriptors;
mod excerpt;
pub mod foreign;
pub mod inherited;
pub mod large;
pub mod live;
pub mod lock;
pub mod mountpoint;
pub mod parallel;
pub mod polite;
pub mod priority;
pub mod quota;
pub mod root;
pub mod runner;
pub mod space;
pub mod substitute;
pub mod tail;
pub mod temporary;
pub mod transport;
