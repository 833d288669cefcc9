//! Debian's formats: bytes to values and back.

pub mod archive;
pub mod deb822;
pub mod packages;
pub mod relation;
pub mod release;
pub mod status;
pub mod strict;
pub mod version;
