//! A tree that another process may change while it is read: a machine's, running or stopped.
//!
//! The attacker is root in the machine: it replaces a directory with a symbolic link, or a file with a FIFO, between
//! two system calls of this program, and it leaves names, depths, sizes and counts that no honest program makes.
//! Therefore nothing here takes a path. A [`Directory`] opens one name at a time, by openat2(2) from its handle: no
//! link is followed, no mount entered, nothing waited for. What was opened is compared with what the walk saw (device,
//! inode, kind) and is *vanished* where it is another object. What goes over several levels holds a bounded number of
//! handles ([`Stack`]), never recurses, and has limits on the length of paths and on their number.
//!
//! A tree at rest is read in the same way; only there something that vanished is an error.
//!
//! **Source**: openat2(2), `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS`, `RESOLVE_NO_MAGICLINKS`, `RESOLVE_NO_XDEV`;
//! open(2), `O_NONBLOCK`, `O_NOCTTY`, `O_NOFOLLOW`.

mod cursor;
mod directory;
mod excess;
mod file;
mod names;
mod remove;
mod stack;
mod walker;

use std::{io, path::PathBuf};

pub use cursor::Cursor;
pub use directory::{Directory, Identity};
pub use excess::{Excess, class_of, is_excess};
pub use file::{attributes, copy_data, data, data_parts, is_all_data, read};
pub use names::{Budget, Names};
pub use remove::{clear_tree, empty, remove_tree};
pub use stack::Stack;
pub use walker::{Found, Walker};

/// The most bytes of a path, relative to the tree: `PATH_MAX` without the NUL. It bounds the depth as well: each level
/// costs two bytes at least.
pub const PATH: usize = 4095;
/// The most paths of one tree.
pub const PATHS: usize = 4_000_000;
/// The most bytes of all paths of one tree together.
pub const TEXT: usize = 1 << 30;
/// The most bytes of one file's extended attributes together.
pub const ATTRIBUTES: usize = 1 << 20;
/// The most bytes of the extended attributes of all directories together that are held until all is in them.
pub const HELD: usize = 64 << 20;
/// The most parts between holes of one file that are held at once.
pub const PARTS: usize = 1 << 20;
/// The most bytes of holes that are written as zeros, where a format has no place for holes.
pub const ZEROS: u64 = 64 << 30;

/// Reports whether an error means that something went away, or became something else, since it was seen.
///
/// `EINVAL` is readlink(2) on what is no link any more; `EXDEV` a name that leads to a mount or out of the tree now;
/// `ENXIO` a FIFO, socket or hole in the place of data; `EAGAIN` a file whose holder has a lease on it: it is
/// notified by the attempt, and a later pass finds the file free.
#[must_use]
pub fn vanished(error: &io::Error) -> bool {
    let code = matches!(
        error.raw_os_error(),
        Some(
            libc::ENOENT
                | libc::ENOTDIR
                | libc::EISDIR
                | libc::ELOOP
                | libc::ESTALE
                | libc::EINVAL
                | libc::EXDEV
                | libc::ENXIO
                | libc::ENODEV
                | libc::EAGAIN
        )
    );
    code || error.kind() == io::ErrorKind::UnexpectedEof
}

/// Returns the error of a walk, with the path where another file system is mounted: no walk enters that, and the
/// kernel's words for it name neither.
#[must_use]
pub fn named((path, error): (PathBuf, io::Error)) -> io::Error {
    if error.kind() != io::ErrorKind::CrossesDevices {
        return error;
    }
    io::Error::new(
        error.kind(),
        format!("another file system is mounted at `{}` in it: unmount it first", path.display()),
    )
}

#[cfg(test)]
mod tests;
