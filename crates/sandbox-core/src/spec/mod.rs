//! What is to be built: images and profiles, read from TOML and merged into one [`Spec`].
//!
//! One schema serves both; an image is a layer that says where packages come from, a profile one that is
//! stacked on it. Files are read by [`Catalogue::find`] only, everything else takes text or values.

mod check;
mod file;
mod load;
mod merge;
pub mod mirrors;
mod sources;

pub use check::Error;
pub use file::{
    Apt, Archive, ExtraSource, Health, Layer, Link, Npm, Packages, Part, Pocket, SCHEMA, TreeFile, Units,
    User,
};
pub use load::{Catalogue, Kind, Source};
pub use merge::{Spec, Stacked, stack};
pub use sources::{Trusted, is_armored, of_stanzas, trusted};
