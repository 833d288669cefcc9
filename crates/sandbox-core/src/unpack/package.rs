//! One package: read, compared with its lock, written.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    path::Path,
};

use md5::{Digest as _, Md5};

use super::{
    Scripted, UnpackError, bytes,
    tree::{Entry, Kind, Writer},
};
use crate::{
    deb::{
        archive::{Control, Deb},
        deb822::{self, Paragraph},
    },
    digest::hex,
    host::root::Meta,
    lock::LockedPackage,
};

/// A package with its control archive in memory.
#[derive(Debug)]
pub struct Package<'a> {
    pub locked: &'a LockedPackage,
    pub path: &'a Path,
    pub control: Control,
    /// The control file's fields.
    pub fields: Paragraph,
    conffiles: BTreeSet<String>,
}

/// What a package put into the tree.
#[derive(Debug, Default)]
pub struct Contents {
    /// Its paths as dpkg lists them, in the archive's order.
    pub list: Vec<String>,
    /// Digests of its configuration files.
    pub conffiles: BTreeMap<String, String>,
    /// How many bytes its files have.
    pub bytes: u64,
}

impl<'a> Package<'a> {
    /// Reads a package's control archive and sees that it is the package it is taken for.
    pub fn read(locked: &'a LockedPackage, path: &'a Path) -> Result<Self, UnpackError> {
        let malformed = |source| UnpackError::Malformed { package: locked.name.clone(), source };
        let bytes = bytes(locked, path)?;
        let control = Deb::read(&bytes).and_then(|deb| deb.control()).map_err(malformed)?;
        let paragraph = deb822::read(&control.control).ok().and_then(|mut all| all.drain(..).next());
        let fields = paragraph.ok_or(crate::deb::archive::DebError::ControlFile { problem: "malformed" });
        let fields = fields.map_err(malformed)?;
        for (field, wanted) in
            [("Package", &locked.name), ("Version", &locked.version), ("Architecture", &locked.architecture)]
        {
            let found = fields.get(field).unwrap_or_default();
            if found != wanted {
                return Err(UnpackError::Identity {
                    package: locked.name.clone(),
                    field,
                    found: found.to_owned(),
                    wanted: wanted.clone(),
                });
            }
        }
        let conffiles = control
            .lines("conffiles")
            .map(str::trim)
            // `remove-on-upgrade /path`: not a file of the package (deb-conffiles(5))
            .filter(|line| line.starts_with('/'))
            .map(str::to_owned)
            .collect();
        Ok(Self { locked, path, control, fields, conffiles })
    }

    /// Lists the paths that the package says it has, merged /usr seen as one.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        let sums =
            self.control.lines("md5sums").filter_map(|line| line.split_once("  ")).map(|(_, path)| path);
        sums.chain(self.conffiles.iter().map(|path| &path[1..]))
            .map(|path| path.strip_prefix("usr/").unwrap_or(path))
    }

    /// Gives the name of the package's files in dpkg's `info` (dpkg(1), Multi-Arch: same).
    pub fn info(&self) -> String {
        if self.fields.get("Multi-Arch") == Some("same") {
            format!("{}:{}", self.locked.name, self.locked.architecture)
        } else {
            self.locked.name.clone()
        }
    }

    pub fn scripted(&self) -> Scripted {
        let mut members = self.control.members.clone();
        members.insert("control".to_owned(), (self.control.control.clone(), 0o644));
        Scripted { name: self.locked.name.clone(), architecture: self.locked.architecture.clone(), members }
    }

    /// Writes the package's files into the tree.
    pub fn write(&self, writer: &mut Writer<'_>) -> Result<Contents, UnpackError> {
        let package = || self.locked.name.clone();
        let failed = |source| UnpackError::Data { package: package(), source };
        let malformed = |source| UnpackError::Malformed { package: package(), source };
        let bytes = bytes(self.locked, self.path)?;
        let deb = Deb::read(&bytes).map_err(malformed)?;
        let mut archive = tar::Archive::new(deb.data().map_err(malformed)?);
        let mut contents = Contents::default();
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            self.entry(&mut entry, writer, &mut contents)?;
        }
        Ok(contents)
    }

    fn entry(
        &self,
        entry: &mut tar::Entry<'_, impl Read>,
        writer: &mut Writer<'_>,
        contents: &mut Contents,
    ) -> Result<(), UnpackError> {
        let package = || self.locked.name.clone();
        let failed = |source| UnpackError::Data { package: package(), source };
        let raw = entry.path_bytes().into_owned();
        let escape =
            || UnpackError::Escape { package: package(), path: String::from_utf8_lossy(&raw).into_owned() };
        let path = inside(&raw).ok_or_else(escape)?;
        let listed = if path.is_empty() { "/.".to_owned() } else { format!("/{path}") };
        let meta = meta(entry.header()).map_err(failed)?;
        let kind = entry.header().entry_type();
        let target = |entry: &tar::Entry<'_, _>| entry.link_name_bytes().map(|bytes| bytes.into_owned());
        let made = match kind {
            tar::EntryType::Directory => writer.put(&path, &Entry { meta, kind: Kind::Folder }),
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let attributes = attributes(entry).map_err(failed)?;
                let size = entry.header().entry_size().map_err(failed)?;
                contents.bytes += size;
                let digest = self.conffiles.contains(&listed);
                let mut source = Source { inner: entry, failed: false, md5: digest.then(Md5::new) };
                let made = writer.file(&path, meta, size, &mut source, &attributes);
                if source.failed {
                    return Err(failed(made.err().unwrap_or_else(|| io::ErrorKind::InvalidData.into())));
                }
                if let Some(md5) = source.md5.filter(|_| made.is_ok()) {
                    contents.conffiles.insert(listed.clone(), hex(&md5.finalize()));
                }
                made
            }
            tar::EntryType::Symlink => {
                let target = target(entry).ok_or_else(escape)?;
                writer.put(&path, &Entry { meta, kind: Kind::Link(target) })
            }
            tar::EntryType::Link => {
                let target = target(entry).as_deref().and_then(inside).ok_or_else(escape)?;
                writer.put(&path, &Entry { meta, kind: Kind::HardLink(target) })
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
                let numbers = (number(entry.header().device_major()), number(entry.header().device_minor()));
                writer.put(&path, &Entry { meta, kind: Kind::Node(kind, numbers) })
            }
            other => {
                let kind = char::from(other.as_byte()).to_string();
                return Err(UnpackError::Kind { package: package(), path: listed, kind });
            }
        };
        made.map_err(|source| match source.raw_os_error() {
            Some(libc::EXDEV) => escape(),
            Some(libc::EEXIST | libc::ENOTDIR | libc::EISDIR | libc::ELOOP) => {
                UnpackError::Collision { package: package(), path: listed.clone() }
            }
            _ => UnpackError::Write { package: package(), path: listed.clone(), source },
        })?;
        contents.list.push(listed);
        Ok(())
    }
}

/// Gives an archive's path without `./`, none where it has `..`, begins at the root, or is not text.
fn inside(raw: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(raw).ok()?;
    if text.starts_with('/') || text.contains('\0') {
        return None;
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    (!parts.contains(&"..")).then(|| parts.join("/"))
}

fn meta(header: &tar::Header) -> io::Result<Meta> {
    let number = |value: u64| u32::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    Ok(Meta {
        mode: header.mode()? & 0o7777,
        uid: number(header.uid()?)?,
        gid: number(header.gid()?)?,
        mtime: i64::try_from(header.mtime()?).unwrap_or(0),
    })
}

/// Reads extended attributes (PAX records `SCHILY.xattr.NAME`).
fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for extension in extensions {
        let extension = extension?;
        if let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr.")) {
            found.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

/// Tells an error of the archive from one of the file system, and hashes what passes.
struct Source<'a, R> {
    inner: &'a mut R,
    failed: bool,
    md5: Option<Md5>,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        match &read {
            Ok(read) => {
                if let Some(md5) = &mut self.md5 {
                    md5.update(&buffer[..*read]);
                }
            }
            Err(_) => self.failed = true,
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_out_are_none() {
        assert_eq!(inside(b"./usr/bin/x").as_deref(), Some("usr/bin/x"));
        assert_eq!(inside(b"./").as_deref(), Some(""));
        for bad in [&b"../x"[..], b"./a/../../x", b"/etc/passwd", b"a/..", b"a\0b", b"\xff"] {
            assert_eq!(inside(bad), None, "{bad:?}");
        }
    }
}
