//! tar streams.

use std::io::Read;

use tar::EntryType;

use super::{Bounded, Folder, UnarchiveError, unreadable};

/// Unpacks a decoded tar stream.
pub(super) fn unpack(stream: impl Read, size: u64, folder: &mut Folder<'_>) -> Result<(), UnarchiveError> {
    let limit = folder.budget.limit();
    let broken = |problem| unreadable(problem, limit);
    let mut archive = tar::Archive::new(Bounded::new(stream, size));
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        // a note for all entries, such as the commit that an archive was made of
        if kind.is_pax_global_extensions() {
            continue;
        }
        let name = entry.path_bytes().into_owned();
        let Some(path) = folder.place(&name)? else { continue };
        let target = || entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        match kind {
            EntryType::Directory => folder.folder(&path)?,
            EntryType::Symlink => folder.link(&path, &target())?,
            EntryType::Link => folder.hard_link(&path, &target())?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let executable = entry.header().mode().map_err(broken)? & 0o111 != 0;
                folder.file(&path, executable, &mut entry)?;
            }
            _ => return Err(UnarchiveError::Kind { path: String::from_utf8_lossy(&name).into_owned() }),
        }
    }
    Ok(())
}
