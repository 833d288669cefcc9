//! tar files, read: whatever they hold, memory and time are bounded by what was allowed.
//!
//! **Source**: POSIX pax(1), "pax Interchange Format"; GNU tar's manual, "Basic Tar Format" and "Storing Sparse
//! Files".

use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::{
    Attributes,
    acl::Acls,
    holes::{Holes, Piece},
    pax::{More, records},
};
use crate::host::live;

/// The bytes of a block.
pub const BLOCK: u64 = 512;

/// The most bytes of a long name or of a comment.
const NAME: u64 = 1 << 20;

/// The most bytes of an extended header: the names and attributes of one file, and the pieces of a sparse one.
const EXTENDED: u64 = 16 << 20;

/// The most headers of one member.
const HEADERS: usize = 16;

/// The most pieces that a sparse file has, and one of no length at its end.
pub const PIECES: usize = live::PARTS + 1;

/// What is wrong with a tar file.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It cannot be read on.
    #[error("it breaks off, or its compression is damaged")]
    Read(#[from] io::Error),
    /// It is none.
    #[error("it is no tar file, or damaged: {what}")]
    Broken {
        /// What makes no sense.
        what: &'static str,
    },
    /// It has what is not understood.
    #[error("it has {what}, which is not understood")]
    Unknown {
        /// What.
        what: &'static str,
    },
}

/// Makes the error of what makes no sense.
pub const fn broken(what: &'static str) -> TarError {
    TarError::Broken { what }
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A second name of an earlier path.
    Hard,
    /// A character device.
    Char,
    /// A block device.
    Block,
    /// A FIFO.
    Fifo,
    /// A comment on the whole file.
    Comment,
}

/// A member, but for its bytes.
#[derive(Clone, Debug)]
pub struct Member {
    /// As it stands there.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The size of the file, holes included.
    pub size: u64,
    /// Pieces of a sparse file: where each is, and how long.
    pub pieces: Option<Vec<Piece>>,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// What a link says.
    pub link: Vec<u8>,
    /// A device's numbers.
    pub device: (u32, u32),
    /// Extended attributes, but for access control lists.
    pub attributes: Attributes,
    /// Access control lists.
    pub acls: Acls,
}

/// A tar file under way.
pub struct Tar<R> {
    input: R,
    /// What is left of the member's bytes, and of the zeros behind them.
    left: u64,
    padding: u64,
    ended: bool,
}

impl<R: Read> Tar<R> {
    /// Begins.
    pub const fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0, ended: false }
    }

    /// Gives the next member; none at the end. What was not read of the last one is passed over.
    ///
    /// # Errors
    /// [`TarError`].
    pub fn next(&mut self) -> Result<Option<Member>, TarError> {
        let mut more = More::default();
        for _ in 0..HEADERS {
            self.pass()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            match kind {
                EntryType::GNULongName => more.path = Some(without_nul(self.extended(&header, NAME)?)),
                EntryType::GNULongLink => more.link = Some(without_nul(self.extended(&header, NAME)?)),
                EntryType::XHeader => more.read(&self.extended(&header, EXTENDED)?)?,
                EntryType::XGlobalHeader => return Ok(Some(comment(&self.extended(&header, NAME)?)?)),
                _ => return self.member(&header, more).map(Some),
            }
        }
        Err(broken("extended headers of nothing"))
    }

    /// Reports whether the end that a tar file has was read, and not only the end of what there is.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Reads to the end of all that is there, so that who gives it is not cut off.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn drain(&mut self) -> io::Result<()> {
        io::copy(&mut self.input, &mut io::sink()).map(drop)
    }

    /// Gives what is read of, for those who go on with it themselves.
    pub fn into_inner(self) -> R {
        self.input
    }

    fn pass(&mut self) -> io::Result<()> {
        let (left, padding) = (self.left, self.padding);
        (self.left, self.padding) = (0, 0);
        let passed = io::copy(&mut (&mut self.input).take(left.saturating_add(padding)), &mut io::sink())?;
        // umoci leaves out the end, and with it the zeros behind the last member
        if passed >= left { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = [0; BLOCK as usize];
        let mut zeros = 0;
        loop {
            let mut filled = 0;
            while filled < block.len() {
                match self.input.read(&mut block[filled..]) {
                    // some writers leave out the end
                    Ok(0) if filled == 0 => return Ok(None),
                    Ok(0) => return Err(broken("it ends within a header")),
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if block.iter().any(|byte| *byte != 0) {
                break;
            }
            zeros += 1;
            if zeros == 2 {
                self.ended = true;
                return Ok(None);
            }
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = block.iter().enumerate().fold(0_u32, |sum, (at, byte)| {
            sum + u32::from(if (148..156).contains(&at) { b' ' } else { *byte })
        });
        match header.cksum() {
            Ok(said) if said == sum => Ok(Some(header)),
            _ => Err(broken("the checksum of a header")),
        }
    }

    /// Reads a header's own bytes.
    fn extended(&mut self, header: &Header, limit: u64) -> Result<Vec<u8>, TarError> {
        let size = header.entry_size().map_err(|_| broken("the size of an extended header"))?;
        if size > limit {
            let (short, long) = (
                "an extended header of more than a megabyte",
                "an extended header of more than 16 megabytes",
            );
            return Err(broken(if limit == NAME { short } else { long }));
        }
        let mut bytes = Vec::new();
        (&mut self.input).take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(broken("it ends within an extended header"));
        }
        self.padding = padding(size);
        Ok(bytes)
    }

    fn member(&mut self, header: &Header, mut more: More) -> Result<Member, TarError> {
        let path = more.holes.name().or_else(|| more.path.take());
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match kind(header.entry_type())? {
            // as tar did before it had a kind for directories
            Kind::File if path.ends_with(b"/") => Kind::Folder,
            kind => kind,
        };
        let number = |outcome: io::Result<u64>, what| outcome.map_err(|_| broken(what));
        let stored = match (kind, more.size) {
            // nothing of these has bytes, whatever their headers say
            (Kind::File, Some(size)) => size,
            (Kind::File, None) => number(header.entry_size(), "the size of a member")?,
            _ => 0,
        };
        self.left = stored;
        self.padding = padding(stored);
        let acls = more.acls();
        let (size, pieces) = match kind {
            Kind::File => self.holes(header, std::mem::take(&mut more.holes))?,
            _ => (0, None),
        };
        let device = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
        let old = header.as_old();
        let owner = |own: Option<u64>, field, outcome, what| match own {
            Some(own) => Ok(own),
            None if is_blank(field) => Ok(0),
            None => number(outcome, what),
        };
        let mtime = match more.mtime {
            Some(mtime) => mtime,
            None if is_blank(&old.mtime) => 0,
            None => super::mtime(header).map_err(|_| broken("the time of a member"))?,
        };
        Ok(Member {
            path,
            kind,
            size,
            pieces,
            mode: header.mode().map_err(|_| broken("the permissions of a member"))? & 0o7777,
            uid: owner(more.uid, &old.uid, header.uid(), "the owner of a member")?,
            gid: owner(more.gid, &old.gid, header.gid(), "the group of a member")?,
            mtime,
            link: match more.link {
                Some(link) => link,
                None => header.link_name_bytes().unwrap_or_default().into_owned(),
            },
            device: (device(header.device_major()), device(header.device_minor())),
            attributes: more.attributes,
            acls,
        })
    }

    /// Returns the size of a file, and the pieces of a sparse one.
    fn holes(&mut self, header: &Header, holes: Holes) -> Result<(u64, Option<Vec<Piece>>), TarError> {
        let sparse = if header.entry_type() == EntryType::GNUSparse {
            let pieces = self.pieces(header)?;
            let gnu = header.as_gnu().ok_or(broken("a sparse file"))?;
            let size = gnu.real_size().map_err(|_| broken("the size of a sparse file"))?;
            Some((size, pieces))
        } else {
            holes.finish(&mut self.input, &mut self.left)?
        };
        let Some((size, pieces)) = sparse else { return Ok((self.left, None)) };
        check(&pieces, self.left, size)?;
        Ok((size, Some(pieces)))
    }

    fn pieces(&mut self, header: &Header) -> Result<Vec<(u64, u64)>, TarError> {
        let wrong = || broken("the pieces of a sparse file");
        let gnu = header.as_gnu().ok_or_else(wrong)?;
        let mut all = Vec::new();
        let mut add = |place: &tar::GnuSparseHeader| -> Result<(), TarError> {
            if !place.is_empty() {
                let at = place.offset().map_err(|_| wrong())?;
                all.push((at, place.length().map_err(|_| wrong())?));
            }
            if all.len() > PIECES { Err(wrong()) } else { Ok(()) }
        };
        gnu.sparse.iter().try_for_each(&mut add)?;
        let mut extended = gnu.is_extended();
        while extended {
            let mut block = GnuExtSparseHeader::new();
            self.input.read_exact(block.as_mut_bytes())?;
            block.sparse().iter().try_for_each(&mut add)?;
            extended = block.is_extended();
        }
        Ok(all)
    }
}

impl<R: Read> Read for Tar<R> {
    /// Reads the bytes of the member that came last.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        if want == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..want])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Reports whether a number was left out, as some writers do with owners.
fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

const fn padding(size: u64) -> u64 {
    (BLOCK - size % BLOCK) % BLOCK
}

fn without_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(memchr::memchr(0, &bytes).unwrap_or(bytes.len()));
    bytes
}

fn kind(kind: EntryType) -> Result<Kind, TarError> {
    Ok(match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Folder,
        EntryType::Symlink => Kind::Link,
        EntryType::Link => Kind::Hard,
        EntryType::Char => Kind::Char,
        EntryType::Block => Kind::Block,
        EntryType::Fifo => Kind::Fifo,
        _ => return Err(TarError::Unknown { what: "a member of an unknown kind" }),
    })
}

/// Sees that pieces stand one after the other within the file, and have the bytes that are there.
fn check(pieces: &[(u64, u64)], stored: u64, size: u64) -> Result<(), TarError> {
    let wrong = || broken("the pieces of a sparse file");
    let (mut end, mut sum) = (0_u64, 0_u64);
    for (at, length) in pieces {
        if *at < end {
            return Err(wrong());
        }
        end = at.checked_add(*length).filter(|end| *end <= size).ok_or_else(wrong)?;
        sum = sum.checked_add(*length).ok_or_else(wrong)?;
    }
    if sum == stored { Ok(()) } else { Err(wrong()) }
}

fn comment(bytes: &[u8]) -> Result<Member, TarError> {
    let mut comment = None;
    for record in records(bytes) {
        let (key, value) = record?;
        if key == b"comment" {
            comment = Some(value.to_vec());
        }
    }
    Ok(Member {
        path: Vec::new(),
        kind: Kind::Comment,
        size: 0,
        pieces: None,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime: 0,
        link: comment.unwrap_or_default(),
        device: (0, 0),
        attributes: Vec::new(),
        acls: Acls::default(),
    })
}
