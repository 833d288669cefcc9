//! One package: read, compared with its lock, written.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use md5::{Digest as _, Md5};

use super::{
    Named, Scripted, UnpackError,
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
    store::Recoder,
    tarfile::{
        self,
        accounts::{GROUPS, USERS, known},
    },
};

/// A package with its control archive in memory.
#[derive(Debug)]
pub struct Package<'a> {
    pub locked: &'a LockedPackage,
    /// Its file.
    pub path: PathBuf,
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
    /// Digests of all its files, where the package itself lists none, in the archive's order.
    pub digests: Vec<(String, String)>,
    /// Paths whose owners it names, where not every tree knows the name.
    pub named: Vec<Named>,
    /// How many bytes its files have.
    pub bytes: u64,
}

impl<'a> Package<'a> {
    /// Reads a package's control archive and sees that it is the package it is taken for.
    pub fn read(locked: &'a LockedPackage, path: &Path, deb: &Deb<'_>) -> Result<Self, UnpackError> {
        let malformed = |source| UnpackError::Malformed { package: locked.name.clone(), source };
        let control = deb.control().map_err(malformed)?;
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
        Ok(Self { locked, path: path.to_owned(), control, fields, conffiles })
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
        Scripted {
            name: self.locked.name.clone(),
            architecture: self.locked.architecture.clone(),
            members,
            after: Vec::new(),
        }
    }

    /// Tells whether it lists the digests of its files; dpkg does where it does not (deb-md5sums(5)).
    pub fn lists_digests(&self) -> bool {
        self.control.members.contains_key("md5sums")
    }

    /// Lists its configuration files, as dpkg lists paths.
    pub fn conffiles(&self) -> impl Iterator<Item = &str> {
        self.conffiles.iter().map(String::as_str)
    }

    /// Writes the package's files into the tree, and what is decoded into its recoded form.
    pub fn write(
        &self,
        deb: &Deb<'_>,
        writer: &mut Writer<'_>,
        recoder: Option<Recoder>,
    ) -> Result<Contents, UnpackError> {
        let package = || self.locked.name.clone();
        let failed = |source| UnpackError::Data { package: package(), source };
        let malformed = |source| UnpackError::Malformed { package: package(), source };
        let mut archive = tar::Archive::new(Decoded { inner: deb.data().map_err(malformed)?, recoder });
        let mut contents = Contents::default();
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            self.entry(&mut entry, writer, &mut contents)?;
        }
        archive.into_inner().keep();
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
        let path = inside(&raw).map_err(|outside| outside.of(self.locked, &raw))?;
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
                let is_conffile = self.conffiles.contains(&listed);
                let digest = is_conffile || !self.lists_digests();
                let mut source = Source { inner: entry, failed: false, md5: digest.then(Md5::new) };
                let made = writer.file(&path, meta, size, &mut source, &attributes);
                let cut = made.as_ref().is_err_and(|problem| problem.kind() == io::ErrorKind::UnexpectedEof);
                if source.failed || cut {
                    return Err(failed(made.err().unwrap_or_else(|| io::ErrorKind::InvalidData.into())));
                }
                if let Some(md5) = source.md5.filter(|_| made.is_ok()) {
                    contents.digest(&path, hex(&md5.finalize()), is_conffile, self.lists_digests());
                }
                made
            }
            tar::EntryType::Symlink => {
                let target = target(entry).ok_or_else(escape)?;
                writer.put(&path, &Entry { meta, kind: Kind::Link(target) })
            }
            tar::EntryType::Link => {
                let target = target(entry).as_deref().and_then(|raw| inside(raw).ok()).ok_or_else(escape)?;
                let known = contents.digests.iter().find(|(file, _)| *file == target);
                if let Some((_, digest)) = known.cloned() {
                    contents.digests.push((path.clone(), digest));
                }
                writer.put(&path, &Entry { meta, kind: Kind::HardLink(target) })
            }
            tar::EntryType::Fifo => writer.put(&path, &Entry { meta, kind: Kind::Fifo }),
            tar::EntryType::Char | tar::EntryType::Block => {
                return Err(UnpackError::Device { package: package(), path: listed });
            }
            other => {
                let kind = char::from(other.as_byte()).to_string();
                return Err(UnpackError::Kind { package: package(), path: listed, kind });
            }
        };
        made.map_err(|source| match source.raw_os_error() {
            Some(libc::EXDEV) => escape(),
            Some(libc::ENAMETOOLONG) => {
                Outside::Name("is too long for any file system").of(self.locked, &raw)
            }
            Some(libc::EEXIST | libc::ENOTDIR | libc::EISDIR | libc::ELOOP) => {
                UnpackError::Collision { package: package(), path: listed.clone() }
            }
            _ => UnpackError::Write { package: package(), path: listed.clone(), source },
        })?;
        if kind != tar::EntryType::Link {
            contents.named.extend(named(entry.header(), &path, meta));
        }
        contents.list.push(listed);
        Ok(())
    }
}

impl Contents {
    fn digest(&mut self, path: &str, digest: String, is_conffile: bool, is_listed: bool) {
        if is_conffile {
            self.conffiles.insert(format!("/{path}"), digest.clone());
        }
        if !is_listed {
            self.digests.push((path.to_owned(), digest));
        }
    }
}

/// Why a path of an archive is none of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outside {
    /// It has `..`.
    Escape,
    /// It is no name; says what it is.
    Name(&'static str),
}

impl Outside {
    /// Makes the error of a package that has the path.
    pub(super) fn of(self, package: &LockedPackage, raw: &[u8]) -> UnpackError {
        let (package, text) = (package.name.clone(), String::from_utf8_lossy(raw));
        match self {
            Self::Escape => UnpackError::Escape { package, path: text.into_owned() },
            Self::Name(problem) => {
                UnpackError::Name { package, path: text.escape_debug().to_string(), problem }
            }
        }
    }
}

/// Gives an archive's path without `./` or `/`: as dpkg has it, the root is the tree's.
///
/// **Source**: Debian Policy §10.10 asks for UTF-8; dpkg's file lists have a path a line.
pub(super) fn inside(raw: &[u8]) -> Result<String, Outside> {
    let text = std::str::from_utf8(raw).map_err(|_| Outside::Name("is not UTF-8"))?;
    if text.contains(|letter: char| letter.is_ascii_control()) {
        return Err(Outside::Name("has a control character"));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(Outside::Escape);
    }
    Ok(parts.join("/"))
}

fn meta(header: &tar::Header) -> io::Result<Meta> {
    let number = |value: u64| u32::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    Ok(Meta {
        mode: header.mode()? & 0o7777,
        uid: header
            .username_bytes()
            .and_then(|name| known(name, USERS))
            .map_or_else(|| number(header.uid()?), Ok)?,
        gid: header
            .groupname_bytes()
            .and_then(|name| known(name, GROUPS))
            .map_or_else(|| number(header.gid()?), Ok)?,
        mtime: tarfile::mtime(header)?,
    })
}

/// Returns a path whose owner or group has a name that not every tree knows.
fn named(header: &tar::Header, path: &str, meta: Meta) -> Option<Named> {
    let unknown = |name: Option<&[u8]>, table: &[(&str, u32)]| {
        let name = name.filter(|name| !name.is_empty() && known(name, table).is_none())?;
        String::from_utf8(name.to_vec()).ok()
    };
    let user = unknown(header.username_bytes(), USERS);
    let group = unknown(header.groupname_bytes(), GROUPS);
    let is_named = user.is_some() || group.is_some();
    is_named.then(|| Named { path: path.to_owned(), user, group, owner: (meta.uid, meta.gid) })
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

/// A package's data archive as it is decoded, of which the recoded form gets a copy.
struct Decoded<R> {
    inner: R,
    recoder: Option<Recoder>,
}

impl<R: Read> Decoded<R> {
    /// Keeps the recoded form. What hinders that is not for a build to tell.
    fn keep(mut self) {
        // after the last file there are some blocks of zeroes, which nobody has asked for
        if self.recoder.is_some() && io::copy(&mut self, &mut io::sink()).is_ok() {
            let _ = self.recoder.map(Recoder::keep);
        }
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        if let Some(recoder) = &mut self.recoder
            && recoder.write_all(&buffer[..read]).is_err()
        {
            self.recoder = None;
        }
        Ok(read)
    }
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
    fn an_owner_that_every_tree_knows_counts_by_name() {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(0);
        for (user, group, uid, gid) in [
            ("", "", 501, 20),
            ("root", "staff", 0, 50),
            ("someone", "shadow", 501, 42),
            ("www-data", "x", 33, 20),
        ] {
            header.set_uid(501);
            header.set_gid(20);
            header.set_username(user).unwrap();
            header.set_groupname(group).unwrap();
            let meta = meta(&header).unwrap();
            assert_eq!((meta.uid, meta.gid), (uid, gid), "{user}:{group}");
        }
    }

    #[test]
    fn a_time_before_1970_is_that_of_dpkg() {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        let field = &mut header.as_old_mut().mtime;
        field.fill(0xff);
        field[4..].copy_from_slice(&(-315_619_200_i64).to_be_bytes());
        assert_eq!(meta(&header).unwrap().mtime, -315_619_200);
    }

    #[test]
    fn paths_that_lead_out_are_none() {
        assert_eq!(inside(b"./usr/bin/x").as_deref(), Ok("usr/bin/x"));
        assert_eq!(inside(b"./").as_deref(), Ok(""));
        assert_eq!(inside(b"/etc/passwd").as_deref(), Ok("etc/passwd"));
        assert_eq!(inside(b"/").as_deref(), Ok(""));
        for bad in [&b"../x"[..], b"./a/../../x", b"/../x", b"a/.."] {
            assert_eq!(inside(bad), Err(Outside::Escape), "{bad:?}");
        }
        for bad in [&b"a\0b"[..], b"\xff", b"a\nb"] {
            assert!(matches!(inside(bad), Err(Outside::Name(_))), "{bad:?}");
        }
    }
}
