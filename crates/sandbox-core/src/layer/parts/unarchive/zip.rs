//! zip files.

use std::{
    fs::File,
    io::{self, Read as _},
};

use super::{Folder, TARGET, UnarchiveError, unreadable};

/// The bits of a mode that tell what a thing is.
const KIND: u32 = 0o170_000;

/// Those of a file, a folder and a link; none are given by archives of other systems.
const KNOWN: [u32; 4] = [0, 0o100_000, 0o040_000, 0o120_000];

/// Unpacks a zip file.
pub(super) fn unpack(file: File, folder: &mut Folder<'_>) -> Result<(), UnarchiveError> {
    let limit = folder.budget.limit();
    let broken = |problem: zip::result::ZipError| {
        unreadable(io::Error::new(io::ErrorKind::InvalidData, problem.to_string()), limit)
    };
    let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(broken)?;
        let name = entry.name_raw().to_vec();
        let mode = entry.unix_mode();
        let kind = mode.unwrap_or(0) & KIND;
        if !KNOWN.contains(&kind) {
            return Err(UnarchiveError::Kind { path: String::from_utf8_lossy(&name).into_owned() });
        }
        let Some(path) = folder.place(&name)? else { continue };
        if entry.is_dir() {
            folder.folder(&path)?;
        } else if kind == 0o120_000 {
            let mut target = Vec::new();
            (&mut entry)
                .take(TARGET)
                .read_to_end(&mut target)
                .map_err(|problem| unreadable(problem, limit))?;
            folder.link(&path, &target)?;
        } else {
            // made where files have no such right: whether it is a program is not known
            let executable = mode.is_none_or(|mode| mode & 0o111 != 0);
            folder.file(&path, executable, &mut entry)?;
        }
    }
    Ok(())
}
