//! Tar streams, entry by entry, and as evil as a test wants: no name is checked.

/// What an entry is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A file with its content.
    File(Vec<u8>),
    /// A folder.
    Folder,
    /// A symbolic link to a target.
    Symlink(String),
    /// A hard link to another entry's name.
    Hardlink(String),
    /// A character device with major and minor number.
    Character(u32, u32),
    /// A block device with major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Pipe,
    /// Any other type flag, with content.
    Other(u8, Vec<u8>),
}

/// An entry of a tar stream.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, as it stands in the stream.
    pub path: String,
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Names of owner and group, where the stream has them.
    pub names: (String, String),
    /// Seconds since 1970.
    pub mtime: u64,
    /// Extended attributes, as PAX records `SCHILY.xattr.*`.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// Makes an entry owned by root, dated 2024-01-01.
    pub fn new(path: &str, mode: u32, kind: Kind) -> Self {
        let (names, mtime) = (<(String, String)>::default(), 1_704_067_200);
        Self { path: path.to_owned(), kind, mode, uid: 0, gid: 0, names, mtime, xattrs: Vec::new() }
    }

    /// Makes a file.
    pub fn file(path: &str, mode: u32, content: &[u8]) -> Self {
        Self::new(path, mode, Kind::File(content.to_vec()))
    }

    /// Makes a folder of mode 0755.
    pub fn folder(path: &str) -> Self {
        Self::new(path, 0o755, Kind::Folder)
    }

    /// Makes a symbolic link.
    pub fn symlink(path: &str, target: &str) -> Self {
        Self::new(path, 0o777, Kind::Symlink(target.to_owned()))
    }

    /// Makes a hard link.
    pub fn hardlink(path: &str, target: &str) -> Self {
        Self::new(path, 0o644, Kind::Hardlink(target.to_owned()))
    }

    /// Gives it to another owner and group.
    pub fn owned(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// Names its owner and group.
    pub fn named(mut self, user: &str, group: &str) -> Self {
        self.names = (user.to_owned(), group.to_owned());
        self
    }

    /// Gives it an extended attribute.
    pub fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        self.xattrs.push((name.to_owned(), value.to_vec()));
        self
    }

    fn write(&self, out: &mut Vec<u8>) {
        if !self.xattrs.is_empty() {
            let records: Vec<u8> = self.xattrs.iter().flat_map(|(name, value)| pax(name, value)).collect();
            block(out, tar::EntryType::XHeader, "PaxHeaders/x", "", self, &records);
        }
        let (kind, link, content): (_, &str, &[u8]) = match &self.kind {
            Kind::File(content) => (tar::EntryType::Regular, "", content),
            Kind::Folder => (tar::EntryType::Directory, "", &[]),
            Kind::Symlink(target) => (tar::EntryType::Symlink, target, &[]),
            Kind::Hardlink(target) => (tar::EntryType::Link, target, &[]),
            Kind::Character(..) => (tar::EntryType::Char, "", &[]),
            Kind::Block(..) => (tar::EntryType::Block, "", &[]),
            Kind::Pipe => (tar::EntryType::Fifo, "", &[]),
            Kind::Other(flag, content) => (tar::EntryType::new(*flag), "", content),
        };
        for (name, flag) in [(link, tar::EntryType::GNULongLink), (&self.path, tar::EntryType::GNULongName)] {
            if name.len() > 100 {
                let mut ended = name.as_bytes().to_vec();
                ended.push(0);
                block(out, flag, "././@LongLink", "", self, &ended);
            }
        }
        block(out, kind, &self.path, link, self, content);
    }
}

/// Writes a head that says what it likes, and content after it.
pub fn head(name: &[u8], flag: u8, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(tar::EntryType::new(flag));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// Writes a stream of entries with its end.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        entry.write(&mut out);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn block(out: &mut Vec<u8>, kind: tar::EntryType, name: &str, link: &str, entry: &Entry, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    put(&mut header.as_old_mut().name, name);
    put(&mut header.as_old_mut().linkname, link);
    header.set_entry_type(kind);
    header.set_mode(entry.mode);
    header.set_uid(entry.uid);
    header.set_gid(entry.gid);
    header.set_username(&entry.names.0).unwrap();
    header.set_groupname(&entry.names.1).unwrap();
    header.set_mtime(entry.mtime);
    header.set_size(content.len() as u64);
    if let Kind::Character(major, minor) | Kind::Block(major, minor) = entry.kind {
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
    }
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// Puts a name into a field byte for byte: the crate's own setters refuse the names that tests are about.
fn put(field: &mut [u8], text: &str) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
}

fn pax(name: &str, value: &[u8]) -> Vec<u8> {
    let body = [format!(" SCHILY.xattr.{name}=").as_bytes(), value, b"\n"].concat();
    // The length counts its own digits.
    let mut length = body.len();
    while length != body.len() + length.to_string().len() {
        length = body.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &body].concat()
}
