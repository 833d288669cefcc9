//! tar streams.

use std::io::{self, Read};

use super::{Bounded, Folder, UnarchiveError, unreadable};
use crate::tarfile::{
    filled::Filled,
    read::{Kind, Tar, TarError},
};

/// Unpacks a decoded tar stream.
pub(super) fn unpack(stream: impl Read, size: u64, folder: &mut Folder<'_>) -> Result<(), UnarchiveError> {
    let limit = folder.budget.limit();
    let broken = |problem| match problem {
        TarError::Read(source) => unreadable(source, limit),
        other => unreadable(io::Error::new(io::ErrorKind::InvalidData, other), limit),
    };
    let mut archive = Tar::new(Bounded::new(stream, size));
    while let Some(member) = archive.next().map_err(broken)? {
        // a note for all entries, such as the commit that an archive was made of
        if member.kind == Kind::Comment {
            continue;
        }
        let Some(path) = folder.place(&member.path)? else { continue };
        match member.kind {
            Kind::Folder => folder.folder(&path)?,
            Kind::Link => folder.link(&path, &member.link)?,
            Kind::Hard => folder.hard_link(&path, &member.link)?,
            Kind::File => {
                let executable = member.mode & 0o111 != 0;
                folder.file(&path, executable, &mut Filled::new(&mut archive, &member))?;
            }
            _ => {
                let path = String::from_utf8_lossy(&member.path).into_owned();
                return Err(UnarchiveError::Kind { path });
            }
        }
    }
    Ok(())
}
