//! What an open file of such a tree has: its parts between holes, its extended attributes.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use rustix::{
    fs::{FileType, SeekFrom, Stat, fstat, seek},
    io::Errno,
};

use super::{ATTRIBUTES, Excess, PARTS};
use crate::host::{
    large::{self, Buffer, Source},
    space,
};

/// What belongs to the host, not to a tree.
const HOSTS_OWN: [&str; 3] = ["security.selinux", "security.ima", "security.evm"];

/// Reads a whole regular file that is open, of at most some bytes; the path is what an error names it by.
///
/// # Errors
/// What read(2) says; [`Excess::File`], [`Excess::NotRegular`].
pub fn read(file: File, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let named = || path.strip_prefix("/").unwrap_or(path).to_owned();
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Excess::NotRegular { path: named() }.into());
    }
    let mut bytes = Vec::new();
    if stat.st_size.cast_unsigned() <= limit {
        // it may grow meanwhile
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    if stat.st_size.cast_unsigned() > limit || bytes.len() as u64 > limit {
        return Err(Excess::File { path: named(), limit }.into());
    }
    Ok(bytes)
}

/// Reports whether a file has no hole, as far as its blocks say.
#[must_use]
pub const fn is_all_data(stat: &Stat) -> bool {
    stat.st_blocks.cast_unsigned().saturating_mul(512) >= stat.st_size.cast_unsigned()
}

/// Finds the next part of an open file that is no hole, from an offset on: where it begins and ends. The file's own
/// offset is moved.
///
/// # Errors
/// What lseek(2) says.
pub fn data(file: &File, from: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    let begin = match seek(file, SeekFrom::Data(from)) {
        Ok(begin) if begin < size => begin,
        Ok(_) | Err(Errno::NXIO) => return Ok(None),
        // a file system without holes
        Err(Errno::INVAL) => return Ok((from < size).then_some((from, size))),
        Err(errno) => return Err(errno.into()),
    };
    match seek(file, SeekFrom::Hole(begin)) {
        Ok(end) => Ok(Some((begin, end.min(size)))),
        // it was cut off meanwhile
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Lists the parts of an open file that are no holes: where each begins and ends.
///
/// # Errors
/// What lseek(2) says; an excess of holes.
pub fn data_parts(file: &File, stat: &Stat) -> io::Result<Vec<(u64, u64)>> {
    let size = stat.st_size.cast_unsigned();
    if size == 0 {
        return Ok(Vec::new());
    }
    if is_all_data(stat) {
        return Ok(vec![(0, size)]);
    }
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((begin, end)) = data(file, at, size)? {
        if found.len() == PARTS {
            return Err(Excess::Parts.into());
        }
        found.push((begin, end));
        at = end;
    }
    Ok(found)
}

/// Gives a new, empty file the bytes and the holes of an open one, as long as there is room for them.
///
/// # Errors
/// `StorageFull`; `UnexpectedEof` where the file was cut off meanwhile; what read(2) and write(2) say.
pub fn copy_data(from: &Source, stat: &Stat, to: &File, buffer: &mut Buffer) -> io::Result<()> {
    let size = stat.st_size.cast_unsigned();
    space::check(to, stat.st_blocks.cast_unsigned().saturating_mul(512))?;
    let all = is_all_data(stat);
    let mut at = 0;
    while at < size {
        let part = if all { Some((0, size)) } else { data(from.file(), at, size)? };
        let Some((begin, end)) = part else { break };
        large::copy(from, begin, end - begin, to, begin, buffer)?;
        at = end;
    }
    to.set_len(size)
}

/// Reads the extended attributes of an open file, without what is the host's. One that goes meanwhile is left out.
///
/// # Errors
/// What flistxattr(2) and fgetxattr(2) say; an excess of bytes.
pub fn attributes(file: &File) -> io::Result<Vec<(OsString, Vec<u8>)>> {
    let mut names = vec![0_u8; 256];
    let length = loop {
        match rustix::fs::flistxattr(file, &mut *names) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < ATTRIBUTES => names.resize(names.len() * 4, 0),
            Err(Errno::RANGE | Errno::TOOBIG) => return Err(Excess::Attributes.into()),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut found = Vec::new();
    let mut total = length;
    let mut buffer = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = OsStr::from_bytes(name);
        if HOSTS_OWN.iter().any(|own| name == *own) {
            continue;
        }
        buffer.resize(64 << 10, 0_u8);
        let length = match rustix::fs::fgetxattr(file, name, &mut *buffer) {
            Ok(length) => length,
            Err(Errno::NODATA) => continue,
            Err(errno) => return Err(errno.into()),
        };
        total += length;
        if total > ATTRIBUTES {
            return Err(Excess::Attributes.into());
        }
        found.push((name.to_owned(), buffer[..length].to_vec()));
    }
    Ok(found)
}
