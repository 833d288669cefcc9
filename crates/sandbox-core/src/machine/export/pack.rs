//! A tree's paths, put into a tar file.

use std::{
    cell::Cell,
    collections::HashMap,
    ffi::OsString,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::fs::{FileType, OFlags};

use super::{
    error::ExportError,
    walk::{Found, Tree},
};
use crate::{
    host::live::attributes,
    report::{Event, Phase, Reporter},
    tarfile::{
        member::{Bytes, Member, Nothing, Segment, Text, What},
        opened::Opened,
        write::{Form, Tar},
    },
};

/// A tar file of a tree, under way.
pub struct Packer<'a, W: Write> {
    tar: Tar<W>,
    links: HashMap<(u64, u64), PathBuf>,
    broken: Rc<Cell<bool>>,
    target: PathBuf,
    reporter: &'a dyn Reporter,
}

impl<'a, W: Write> Packer<'a, W> {
    /// Begins. `broken` tells whether it was writing that failed, and `target` what is written.
    pub fn new(
        out: W,
        form: Form,
        (broken, target): (Rc<Cell<bool>>, &Path),
        reporter: &'a dyn Reporter,
    ) -> Self {
        let tar = Tar::new(out, form);
        Self { tar, links: HashMap::new(), broken, target: target.to_owned(), reporter }
    }

    fn failed(&self, path: &Path, source: io::Error) -> ExportError {
        if self.broken.get() {
            return ExportError::Write { path: self.target.clone(), source };
        }
        ExportError::Read { path: path.to_owned(), source }
    }

    /// Writes a comment on the file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn comment(&mut self, text: &str) -> Result<(), ExportError> {
        let written = self.tar.comment(text);
        written.map_err(|error| self.failed(Path::new(""), error))
    }

    /// Adds a path of a tree; one that a running machine took away meanwhile is left out.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub fn add(&mut self, tree: &Tree, found: &Found<'_>) -> Result<(), ExportError> {
        let outcome = self.one(found);
        match outcome {
            Err(error) if !self.broken.get() && tree.is_gone(&error) => {}
            other => other.map_err(|error| self.failed(found.path, error))?,
        }
        if found.kind() == FileType::RegularFile {
            let delta = found.stat.st_size.cast_unsigned();
            self.reporter.report(Event::Advanced { phase: Phase::Pack, delta });
        }
        Ok(())
    }

    /// Adds a member that is not of the tree.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn member(&mut self, member: &Member<'_>, bytes: &mut dyn Bytes) -> Result<(), ExportError> {
        let added = self.tar.add(member, bytes);
        added.map_err(|error| self.failed(member.path, error))
    }

    /// Adds a file of a text that is not of the tree.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn text(&mut self, path: &Path, mtime: i64, text: &str) -> Result<(), ExportError> {
        let length = text.len() as u64;
        let segments = [Segment { at: 0, length }];
        let segments = if length == 0 { &segments[..0] } else { &segments[..] };
        let what = What::File { size: length, segments };
        let member = Member { path, what, mode: 0o644, uid: 0, gid: 0, mtime, attributes: &[] };
        self.member(&member, &mut Text(text.as_bytes()))
    }

    /// Tells who listens.
    pub fn advance(&self, event: Event) {
        self.reporter.report(event);
    }

    /// Ends the file.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn finish(self) -> Result<W, ExportError> {
        let Self { tar, target: path, .. } = self;
        tar.finish().map_err(|source| ExportError::Write { path, source })
    }

    fn one(&mut self, found: &Found<'_>) -> io::Result<()> {
        let stat = &found.stat;
        let mut member = Member {
            path: found.path,
            what: What::Folder,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: stat.st_mtime,
            attributes: &[],
        };
        let inode = (stat.st_dev, stat.st_ino);
        if found.kind() != FileType::Directory
            && stat.st_nlink > 1
            && let Some(first) = self.links.get(&inode)
        {
            member.what = What::Hard(first);
            return self.tar.add(&member, &mut Nothing);
        }
        match found.kind() {
            FileType::Directory => {
                let own = File::from(found.open(OFlags::RDONLY | OFlags::DIRECTORY)?);
                let attributes = carried(attributes(&own)?);
                member.attributes = &attributes;
                return self.tar.add(&member, &mut Nothing);
            }
            FileType::RegularFile => {
                let file = File::from(found.open(OFlags::RDONLY)?);
                let attributes = carried(attributes(&file)?);
                let all = Segment::all(&file, stat)?;
                member.attributes = &attributes;
                member.what = What::File { size: stat.st_size.cast_unsigned(), segments: &all };
                self.tar.add(&member, &mut Opened::new(file))?;
            }
            FileType::Symlink => {
                let says = found.link()?;
                member.what = What::Link(&says);
                self.tar.add(&member, &mut Nothing)?;
            }
            _ => {
                member.what = What::Node { kind: stat.st_mode & libc::S_IFMT, device: stat.st_rdev };
                self.tar.add(&member, &mut Nothing)?;
            }
        }
        if stat.st_nlink > 1 {
            self.links.insert(inode, found.path.to_owned());
        }
        Ok(())
    }
}

fn carried(mut attributes: Vec<(OsString, Vec<u8>)>) -> Vec<(OsString, Vec<u8>)> {
    attributes.sort();
    attributes
}
