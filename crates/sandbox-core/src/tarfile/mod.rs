//! tar files as other tools write and read them: GNU tar, bsdtar, and what calls them (pct, vzdump, incus, machinectl,
//! umoci).
//!
//! One reader and one writer, for `import`, `export`, `copy` and the archives of parts. The reader is for bytes that mean harm: whatever they
//! hold, memory and time are bounded. The writer gives the same bytes for the same members.
//!
//! **Source**: POSIX pax(1), "pax Interchange Format"; GNU tar's manual, "Basic Tar Format" and "Storing Sparse Files".

pub mod accounts;
pub mod acl;
pub mod filled;
mod holes;
pub mod member;
pub mod opened;
mod pax;
pub mod read;
#[cfg(test)]
pub mod test;
pub mod write;

use std::{ffi::OsString, io, os::fd::AsFd};

use rustix::{
    fs::{XattrFlags, fsetxattr},
    io::Errno,
};

/// Extended attributes: names and values.
pub type Attributes = Vec<(OsString, Vec<u8>)>;

/// Gives an open file or directory its attributes, after its owner: a change of owner takes capabilities away. The answer is
/// whether the file system supports them all.
///
/// # Errors
/// What fsetxattr(2) says.
pub fn set_attributes(file: &impl AsFd, attributes: &Attributes) -> io::Result<bool> {
    let mut all = true;
    for (name, value) in attributes {
        match fsetxattr(file, name.as_os_str(), value, XattrFlags::empty()) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => all = false,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(all)
}

/// Returns about how many bytes of memory attributes and access control lists take while they are held.
pub fn held(attributes: &Attributes, acls: &acl::Acls) -> usize {
    let bytes = attributes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    bytes + acls.entries() * 64
}

/// The owners that a machine has numbers for.
///
/// **Source**: systemd-nspawn(1), `--private-users=`.
pub const OWNERS: u32 = 65_536;

/// Reports whether an extended attribute belongs to a machine's tree and goes with it into files and out of them:
/// capabilities, what programs note, what overlays of containers in the machine need. Access control lists do as well,
/// and are handled in [`acl`]. All others are of the host's kernel and its policy (labels, signatures, checksums).
pub fn is_of_a_tree(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.") || name.starts_with(b"trusted.overlay.")
}

/// Reads the time of a header, which is before 1970 where the number is negative.
///
/// # Errors
/// Where it is no number.
///
/// **Source**: GNU tar's manual, "Basic Tar Format": base-256 of two's complement.
pub fn mtime(header: &tar::Header) -> std::io::Result<i64> {
    let number = header.mtime()?;
    let negative = header.as_old().mtime[0] == 0xff;
    if negative { Ok(number.cast_signed()) } else { Ok(i64::try_from(number).unwrap_or(i64::MAX)) }
}
