//! Debian's formats: bytes to values and back.

pub mod release;
