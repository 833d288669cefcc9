//! Paths of one tree, which another process may change, made in another that is sandbox's alone.
//!
//! What is made is what is opened, after it was compared with what the walk saw: its facts, attributes, bytes and holes
//! are read of the open file. Nothing is held for a path but its place in the walk.

use std::{
    collections::HashMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use rustix::fs::{FileType, Stat};

use super::super::{
    copy::{self, Failed, finish, in_threads},
    pack::meta,
    plan,
    walk::{Seen, Walk},
};
use crate::host::{
    clonable::share,
    large::{Buffer, LARGE, Source},
    live::{self, Cursor, Directory, Identity},
    space::Meter,
};

/// A copy under way.
pub(super) struct Copier<'a> {
    walk: &'a Walk,
    from: Directory,
    to: Directory,
    /// Files of the copy can share extents with the tree's.
    shared: bool,
    /// Places in the walk of what vanished before it was copied; none where that is an error.
    gone: Option<Mutex<Vec<usize>>>,
}

/// Where a thread is.
struct Hands {
    from: Cursor,
    to: Cursor,
    buffer: Buffer,
    meter: Meter,
}

impl<'a> Copier<'a> {
    /// Begins a copy of what a walk saw. In a `live` tree what vanishes meanwhile is left out.
    pub(super) fn new(walk: &'a Walk, from: &Path, to: &Path, live: bool) -> Result<Self, Failed> {
        let at = |path: &Path| {
            let path = path.to_owned();
            |error| (path, error)
        };
        Ok(Self {
            walk,
            from: Directory::top(from).map_err(at(from))?,
            to: Directory::top(to).map_err(at(to))?,
            shared: super::shares(from, to),
            gone: live.then(Mutex::default),
        })
    }

    /// Makes the paths at some places of the walk, in its order; folders that are there stay. Returns the places of
    /// what vanished.
    pub(super) fn copy(self, picks: &[usize]) -> Result<Vec<usize>, Failed> {
        let kind = |at: usize| self.walk.get(at).map(|seen| seen.facts.kind());
        let (folders, others): (Vec<usize>, Vec<usize>) =
            picks.iter().partition(|at| kind(**at) == Some(FileType::Directory));
        self.make_folders(&folders)?;
        let links = self.make_others(others)?;
        self.make_links(&links)?;
        self.finish_folders(&folders)?;
        Ok(self
            .gone
            .map(|gone| gone.into_inner().unwrap_or_else(PoisonError::into_inner))
            .unwrap_or_default())
    }

    fn hands(&self) -> io::Result<Hands> {
        let (from, to) = (Cursor::new(self.from.again()?), Cursor::new(self.to.again()?));
        Ok(Hands { from, to, buffer: Buffer::default(), meter: Meter::default() })
    }

    /// Passes over what has vanished, where that may be.
    fn outcome(&self, at: usize, path: &Path, result: io::Result<()>) -> Result<(), Failed> {
        match (result, &self.gone) {
            (Err(error), Some(gone)) if live::vanished(&error) => {
                gone.lock().unwrap_or_else(PoisonError::into_inner).push(at);
                Ok(())
            }
            (result, _) => result.map_err(|error| (path.to_owned(), error)),
        }
    }

    fn make_folders(&self, folders: &[usize]) -> Result<(), Failed> {
        let mut to = Cursor::new(self.to.again().map_err(|error| (PathBuf::new(), error))?);
        for seen in folders.iter().filter_map(|at| self.walk.get(*at)) {
            if !seen.path.as_os_str().is_empty() {
                copy::make_folder(&mut to, seen.path).map_err(|error| (seen.path.to_owned(), error))?;
            }
        }
        Ok(())
    }

    /// Makes what is no folder, and returns the later names of files with the place of the first.
    fn make_others(&self, mut others: Vec<usize>) -> Result<Vec<(usize, usize)>, Failed> {
        let mut first: HashMap<Identity, usize> = HashMap::new();
        let mut links = Vec::new();
        others.retain(|at| {
            let Some(facts) = self.walk.get(*at).map(|seen| seen.facts) else { return false };
            if !facts.has_others() {
                return true;
            }
            match first.entry(facts.identity()) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    links.push((*at, *first.get()));
                    false
                }
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(*at);
                    true
                }
            }
        });
        let above = |at: &usize| self.walk.get(*at).map_or(Path::new(""), Seen::above);
        // a folder's own paths stand together, which those of its folders would come between
        others.sort_by(|a, b| super::super::walk::order(above(a), above(b)));
        let size = |at: &usize| match self.walk.get(*at) {
            Some(seen) if seen.facts.kind() == FileType::RegularFile => seen.facts.size(),
            _ => 0,
        };
        let work = plan::cut(others.iter().map(|at| (above(at), size(at))));
        in_threads(work.len(), &|| self.hands(), &|piece, hands| {
            let range = work.get(piece).cloned().unwrap_or_default();
            others[range].iter().filter_map(|at| Some((*at, self.walk.get(*at)?))).try_for_each(
                |(at, seen)| {
                    let made = self.one(seen, hands);
                    self.outcome(at, seen.path, made)
                },
            )
        })?;
        Ok(links)
    }

    fn make_links(&self, links: &[(usize, usize)]) -> Result<(), Failed> {
        if links.is_empty() {
            return Ok(());
        }
        let begin = || Ok((Cursor::new(self.to.again()?), Cursor::new(self.to.again()?)));
        let (mut one, mut other) = begin().map_err(|error| (PathBuf::new(), error))?;
        for (at, first) in links {
            let (Some(seen), Some(first)) = (self.walk.get(*at), self.walk.get(*first)) else { continue };
            let made = copy::link((&mut one, first.path), (&mut other, seen.path));
            self.outcome(*at, seen.path, made)?;
        }
        Ok(())
    }

    /// Gives folders what they have, last of all and the innermost first: what is made in a folder changes its time.
    fn finish_folders(&self, folders: &[usize]) -> Result<(), Failed> {
        let mut hands = self.hands().map_err(|error| (PathBuf::new(), error))?;
        for at in folders.iter().rev() {
            let Some(seen) = self.walk.get(*at) else { continue };
            let mut done = || -> io::Result<()> {
                let above = hands.from.go(seen.above())?;
                let own = match seen.path.as_os_str().is_empty() {
                    true => above.again()?,
                    false => above.directory(seen.name(), seen.facts.identity())?,
                };
                let stat = own.own()?;
                let attributes = live::attributes(&own.into_handle())?;
                finish(hands.to.go(seen.path)?, meta(&stat), &attributes)
            };
            let done = done();
            self.outcome(*at, seen.path, done)?;
        }
        Ok(())
    }

    fn one(&self, seen: Seen<'_>, hands: &mut Hands) -> io::Result<()> {
        let (name, identity) = (seen.name(), seen.facts.identity());
        let (from, to) = (hands.from.go(seen.above())?, hands.to.go(seen.above())?);
        match identity.kind {
            FileType::RegularFile => {
                let (file, stat) = from.file(name, identity)?;
                let attributes = live::attributes(&file)?;
                let new = copy::new_file(to, name)?;
                // large ones are looked at by themselves, where they are not shared
                hands.meter.add_small(&new, stat.st_blocks.cast_unsigned().saturating_mul(512))?;
                self.fill(&Source::new(file, None), &stat, &new, &mut hands.buffer)?;
                finish(&new, meta(&stat), &attributes)
            }
            FileType::Symlink => {
                let stat = from.stat_of(name, identity)?;
                copy::new_link(to, name, &from.link(name)?, meta(&stat))
            }
            _ => {
                let stat = from.stat_of(name, identity)?;
                copy::new_node(to, name, (stat.st_mode & libc::S_IFMT, stat.st_rdev), meta(&stat))
            }
        }
    }

    /// Gives a new file the bytes and holes of an open one.
    fn fill(&self, source: &Source, stat: &Stat, new: &File, buffer: &mut Buffer) -> io::Result<()> {
        let size = stat.st_size.cast_unsigned();
        // all of it, holes too
        if self.shared && size >= LARGE && share(source.file(), 0, 0, new, 0).is_ok() {
            return Ok(());
        }
        live::copy_data(source, stat, new, buffer)
    }
}
