//! tar files, written: the same bytes for the same members.
//!
//! **Shape**: POSIX headers with extended ones before them where a name is long, a number large or there are
//! extended attributes; holes of sparse files as old GNU tar has them, which all readers know.
//!
//! **Source**: POSIX pax(1), "pax Interchange Format"; GNU tar's manual, "Storing Sparse Files".

use std::{
    ffi::OsStr,
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::{
    acl::{ACCESS, Acl, DEFAULT},
    is_of_a_tree,
    member::{Bytes, Member, Segment, What},
    pax::record,
};
use crate::host::live;

/// How a tar file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What stands before every name: nothing, or `./`.
    pub prefix: &'static str,
    /// Whether holes are left out.
    pub sparse: bool,
}

/// A tar file under way.
pub struct Tar<W: Write> {
    out: W,
    form: Form,
}

const BLOCK: usize = 512;

/// How many bytes a name may have in a header.
const NAME: usize = 100;

/// The largest size and time that a header has, and the largest owner.
const SIZE: u64 = 0o77_777_777_777;
const OWNER: u32 = 0o7_777_777;

impl<W: Write> Tar<W> {
    /// Begins a file.
    pub const fn new(out: W, form: Form) -> Self {
        Self { out, form }
    }

    /// Writes a comment on the whole file, which those who unpack it pass over.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn comment(&mut self, text: &str) -> io::Result<()> {
        self.extended(EntryType::XGlobalHeader, &record(b"comment", text.as_bytes()))
    }

    /// Writes a member.
    ///
    /// # Errors
    /// What reading and writing say.
    pub fn add(&mut self, member: &Member<'_>, bytes: &mut dyn Bytes) -> io::Result<()> {
        let mut more = Vec::new();
        let holes = match member.what {
            What::File { size, segments } if self.form.sparse && is_sparse(size, segments) => Some(segments),
            _ => None,
        };
        let mut header = if holes.is_some() { Header::new_gnu() } else { Header::new_ustar() };
        header.set_mode(member.mode & 0o7777);
        if let Some((key, value)) = far(member.mtime) {
            more.extend(record(key.as_bytes(), value.as_bytes()));
        }
        header.set_mtime(u64::try_from(member.mtime).map_or(0, |time| time.min(SIZE)));
        self.name(&mut header, member, &mut more);
        owner(&mut header, member, &mut more);
        what(&mut header, member, self.form.prefix, &mut more)?;
        if let (What::File { size, .. }, None) = (member.what, holes)
            && size > SIZE
        {
            // of a sparse file this would be what it has without its holes, which its own header has
            more.extend(record(b"size", size.to_string().as_bytes()));
        }
        let attributes = member.attributes.iter().flat_map(|(name, value)| attribute(name, value));
        more.extend(attributes.flat_map(|(key, value)| record(&key, &value)));
        if !more.is_empty() {
            self.extended(EntryType::XHeader, &more)?;
        }
        match (member.what, holes) {
            (What::File { size, .. }, Some(segments)) => self.sparse(header, size, segments, bytes),
            (What::File { size, segments }, None) => self.whole(&mut header, size, segments, bytes),
            _ => self.head(&mut header),
        }
    }

    /// Ends the file.
    ///
    /// # Errors
    /// What write(2) says.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn name(&self, header: &mut Header, member: &Member<'_>, more: &mut Vec<u8>) {
        let mut name = self.form.prefix.as_bytes().to_vec();
        name.extend(member.path.as_os_str().as_bytes());
        match member.what {
            What::Folder if member.path.as_os_str().is_empty() => name = b"./".to_vec(),
            What::Folder => name.push(b'/'),
            _ => {}
        }
        let old = header.as_old_mut();
        let short = &name[..name.len().min(NAME)];
        old.name[..short.len()].copy_from_slice(short);
        if name.len() > NAME {
            more.extend(record(b"path", &name));
        }
    }

    fn extended(&mut self, kind: EntryType, records: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let name = b"././@PaxHeader";
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(kind);
        header.set_size(records.len() as u64);
        self.head(&mut header)?;
        self.out.write_all(records)?;
        self.pad(records.len() as u64)
    }

    fn head(&mut self, header: &mut Header) -> io::Result<()> {
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }

    fn pad(&mut self, length: u64) -> io::Result<()> {
        let over = usize::try_from(length % BLOCK as u64).unwrap_or(0);
        if over > 0 { self.out.write_all(&[0; BLOCK][over..]) } else { Ok(()) }
    }

    /// Writes a file with its holes as zeros.
    fn whole(
        &mut self,
        header: &mut Header,
        size: u64,
        segments: &[Segment],
        bytes: &mut dyn Bytes,
    ) -> io::Result<()> {
        let stored: u64 = segments.iter().map(|segment| segment.length).sum();
        if size.saturating_sub(stored) > live::ZEROS {
            return Err(live::Excess::Zeros.into());
        }
        self.head(header)?;
        let mut at = 0;
        for segment in segments {
            self.zeros(segment.at - at)?;
            bytes.write(*segment, &mut self.out)?;
            at = segment.at + segment.length;
        }
        self.zeros(size - at)?;
        self.pad(size)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        io::copy(&mut io::Read::take(io::repeat(0), count), &mut self.out).map(drop)
    }

    fn sparse(
        &mut self,
        mut header: Header,
        size: u64,
        segments: &[Segment],
        bytes: &mut dyn Bytes,
    ) -> io::Result<()> {
        let stored: u64 = segments.iter().map(|segment| segment.length).sum();
        header.set_entry_type(EntryType::GNUSparse);
        header.set_size(stored);
        // one of no length at the end says where the file ends
        let end = Segment { at: size, length: 0 };
        let all: Vec<Segment> = segments.iter().copied().chain([end]).collect();
        let (first, rest) = all.split_at(all.len().min(4));
        if let Some(gnu) = header.as_gnu_mut() {
            gnu.set_real_size(size);
            gnu.set_is_extended(!rest.is_empty());
            for (place, segment) in gnu.sparse.iter_mut().zip(first) {
                place.set_offset(segment.at);
                place.set_length(segment.length);
            }
        }
        self.head(&mut header)?;
        let mut pieces = rest.chunks(21).peekable();
        while let Some(piece) = pieces.next() {
            let mut block = GnuExtSparseHeader::new();
            block.set_is_extended(pieces.peek().is_some());
            for (place, segment) in block.sparse_mut().iter_mut().zip(piece) {
                place.set_offset(segment.at);
                place.set_length(segment.length);
            }
            self.out.write_all(block.as_bytes())?;
        }
        for segment in segments {
            bytes.write(*segment, &mut self.out)?;
        }
        self.pad(stored)
    }
}

fn is_sparse(size: u64, segments: &[Segment]) -> bool {
    segments.iter().map(|segment| segment.length).sum::<u64>() < size
}

/// Words an extended attribute: keys and values of records; what is of the host has none. An access control list is
/// there twice: as text, which tar(1) takes with `--acls` and bsdtar takes, and in the kernel's form, which programs that
/// read images take.
pub fn attribute(name: &OsStr, value: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let name = name.as_bytes();
    let word = match name {
        _ if name == ACCESS.as_bytes() => Some("SCHILY.acl.access"),
        _ if name == DEFAULT.as_bytes() => Some("SCHILY.acl.default"),
        _ if is_of_a_tree(name) => None,
        _ => return Vec::new(),
    };
    let text = word.and_then(|word| Some((word.as_bytes().to_vec(), Acl::of_attribute(value)?.text())));
    text.into_iter().chain([([b"SCHILY.xattr.", name].concat(), value.to_vec())]).collect()
}

/// Returns the record of a time that no header of POSIX has.
pub fn far(time: i64) -> Option<(&'static str, String)> {
    let fits = u64::try_from(time).is_ok_and(|time| time <= SIZE);
    (!fits).then(|| ("mtime", time.to_string()))
}

fn owner(header: &mut Header, member: &Member<'_>, more: &mut Vec<u8>) {
    for (key, id) in [("uid", member.uid), ("gid", member.gid)] {
        if id > OWNER {
            more.extend(record(key.as_bytes(), id.to_string().as_bytes()));
        }
    }
    header.set_uid(member.uid.min(OWNER).into());
    header.set_gid(member.gid.min(OWNER).into());
}

fn what(header: &mut Header, member: &Member<'_>, prefix: &str, more: &mut Vec<u8>) -> io::Result<()> {
    header.set_size(0);
    match member.what {
        What::Folder => header.set_entry_type(EntryType::Directory),
        What::File { size, .. } => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(size);
        }
        What::Link(says) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            link(header, says.as_bytes(), more);
        }
        What::Hard(first) => {
            header.set_entry_type(EntryType::Link);
            link(header, &[prefix.as_bytes(), first.as_os_str().as_bytes()].concat(), more);
        }
        What::Node { kind, device } => {
            header.set_entry_type(match kind {
                libc::S_IFCHR => EntryType::Char,
                libc::S_IFBLK => EntryType::Block,
                _ => EntryType::Fifo,
            });
            if kind == libc::S_IFCHR || kind == libc::S_IFBLK {
                header.set_device_major(rustix::fs::major(device))?;
                header.set_device_minor(rustix::fs::minor(device))?;
            }
        }
    }
    Ok(())
}

fn link(header: &mut Header, says: &[u8], more: &mut Vec<u8>) {
    let short = &says[..says.len().min(NAME)];
    header.as_old_mut().linkname[..short.len()].copy_from_slice(short);
    if says.len() > NAME {
        more.extend(record(b"linkpath", says));
    }
}
