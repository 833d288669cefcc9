//! The packages of an archive: several Packages files as one catalogue.
//!
//! **Source**: Debian Policy §5.3 and §5.6; the repository format of the Debian wiki.

mod error;
mod mention;
mod origin;
mod package;
mod scan;

use std::{cmp::Ordering, ops::Range};

pub use error::{Error, Problem};
pub use origin::Origin;
pub use package::{Package, is_file_path, is_path, quoted};

use super::{deb822, relation, version::Version};

/// A package's place in a [`Catalog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId(u32);

/// A package name's place in a [`Catalog`]: all versions of a package have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(u32);

impl PackageId {
    /// Gives a number below [`Catalog::len`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl NameId {
    /// Gives a number below the count of names.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A package's importance. The order is that of Policy §2.5, the most important first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each says the word that it is named after")]
pub enum Priority {
    Required,
    Important,
    Standard,
    #[default]
    Optional,
    Extra,
}

/// A stretch of an index's bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    length: u32,
}

#[derive(Clone, Debug)]
struct Index {
    origin: Origin,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Record {
    index: u16,
    /// The first 64 indexes that have this version, a bit each.
    held_by: u64,
    name_id: NameId,
    stanza: Span,
    name: Span,
    version: Span,
    /// Kept, as it is read of every package: the rest of the stanza is looked at only when chosen.
    provides: Option<Span>,
    essential: bool,
    any: bool,
    priority: Priority,
}

#[derive(Clone, Debug)]
struct Provided {
    hash: u64,
    package: PackageId,
    name: Span,
    version: Option<Span>,
}

/// The packages of several Packages files that fit one architecture, by name and by what they provide.
///
/// The files' bytes are kept, and packages are places in them: the 56 MB of a whole suite are read in a
/// tenth of a second.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    architecture: String,
    indexes: Vec<Index>,
    records: Vec<Record>,
    /// Records by name, and of one name the newest first.
    names: Vec<(u64, Range<u32>)>,
    provided: Vec<Provided>,
    /// Stanzas of foreign archives that could not be read.
    aside: Vec<Error>,
}

impl Catalog {
    /// Reads decoded Packages files, each with the id of the source that it comes from, the preferred first.
    ///
    /// Packages of other architectures are left out. Where two files have the same version of a package, the
    /// earlier file's is kept.
    ///
    /// # Errors
    /// [`Error`] with the first stanza that is wrong.
    pub fn read(indexes: Vec<(String, Vec<u8>)>, architecture: &str) -> Result<Self, Error> {
        let known = |(id, bytes)| (Origin::new(id), bytes);
        Self::of(indexes.into_iter().map(known).collect(), architecture)
    }

    /// Reads as [`Self::read`] does, of sources that differ in priority: a version of higher priority stands
    /// before a newer one of lower, as a backport does behind the release's own.
    ///
    /// **Source**: apt_preferences(5), "APT's Default Priority Assignments".
    ///
    /// # Errors
    /// [`Error`] with the first stanza that is wrong.
    pub fn of(indexes: Vec<(Origin, Vec<u8>)>, architecture: &str) -> Result<Self, Error> {
        let mut catalog = Self { architecture: architecture.to_owned(), ..Self::default() };
        for (origin, mut bytes) in indexes {
            if origin.is_foreign && memchr::memmem::find(&bytes, b"\r\n").is_some() {
                bytes.retain(|byte| *byte != b'\r');
            }
            if u32::try_from(bytes.len()).is_err() {
                return Err(Error::Large { pocket: origin.id });
            }
            deb822::check(&bytes).map_err(|source| Error::File { pocket: origin.id.clone(), source })?;
            catalog.indexes.push(Index { origin, bytes });
        }
        for at in 0..catalog.indexes.len() {
            let mut aside = Vec::new();
            let records = scan::scan(&catalog.indexes[at], at, architecture, &mut aside)?;
            catalog.records.extend(records);
            catalog.aside.extend(aside);
        }
        catalog.sort();
        catalog.collect_provided()?;
        Ok(catalog)
    }

    /// Gives what is wrong with the stanzas of foreign archives that were left out.
    #[must_use]
    pub fn left_out(&self) -> &[Error] {
        &self.aside
    }

    /// Counts the packages, all versions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Tells whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Gives the architecture that it was read for.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// Gives a package.
    #[must_use]
    pub fn package(&self, id: PackageId) -> Package<'_> {
        Package { catalog: self, record: &self.records[id.index()], id }
    }

    /// Finds a name that is a package's own.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<NameId> {
        let hash = hash(name.as_bytes());
        let first = self.names.partition_point(|entry| entry.0 < hash);
        let same = self.names[first..].iter().take_while(|entry| entry.0 == hash);
        let at = same.enumerate().find(|(_, entry)| self.package(PackageId(entry.1.start)).name() == name)?.0;
        u32::try_from(first + at).ok().map(NameId)
    }

    /// Gives all packages of a name, the newest first.
    pub fn versions(&self, name: NameId) -> impl DoubleEndedIterator<Item = PackageId> + use<> {
        self.names[name.index()].1.clone().map(PackageId)
    }

    /// Gives all names.
    pub fn names(&self) -> impl Iterator<Item = NameId> + use<> {
        (0..u32::try_from(self.names.len()).unwrap_or(u32::MAX)).map(NameId)
    }

    /// Gives the packages that provide a name, each with the version that it provides, in the archive's order.
    pub fn providers<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (PackageId, Option<Version<'a>>)> + 'a {
        let hash = hash(name.as_bytes());
        let first = self.provided.partition_point(|entry| entry.hash < hash);
        let same = self.provided[first..].iter().take_while(move |entry| entry.hash == hash);
        same.filter_map(move |entry| {
            let index = self.records[entry.package.index()].index;
            let version = entry.version.map(|version| self.text(index, version));
            (self.text(index, entry.name) == name)
                .then(|| (entry.package, version.and_then(|version| Version::parse(version).ok())))
        })
    }

    /// Finds where the archive first names a package, in its own stanza or in another's relations.
    ///
    /// It searches the bytes of the files, which takes milliseconds.
    #[must_use]
    pub fn first_mention(&self, name: NameId) -> (u16, u32) {
        let places = self.versions(name).map(|id| self.package(id));
        let Some(own) = places.min_by_key(Package::place) else { return (u16::MAX, u32::MAX) };
        let finder = memchr::memmem::Finder::new(own.name());
        for (at, index) in self.indexes.iter().enumerate().take(usize::from(own.place().0) + 1) {
            let last = at == usize::from(own.place().0);
            let end = if last { own.place().1 as usize } else { index.bytes.len() };
            let mut hits = finder.find_iter(&index.bytes[..end]);
            if let Some(hit) = hits.find(|&hit| mention::is_mention(&index.bytes, hit, own.name().len())) {
                return (u16::try_from(at).unwrap_or(u16::MAX), u32::try_from(hit).unwrap_or(u32::MAX));
            }
        }
        own.place()
    }

    fn text(&self, index: u16, span: Span) -> &str {
        std::str::from_utf8(slice(&self.indexes[usize::from(index)].bytes, span)).unwrap_or_default()
    }

    /// Puts records in the order of names and versions, drops repeated ones and numbers the names.
    fn sort(&mut self) {
        let mut records = std::mem::take(&mut self.records);
        let keys: Vec<u64> = records
            .iter()
            .map(|record| hash(slice(&self.indexes[usize::from(record.index)].bytes, record.name)))
            .collect();
        let mut order: Vec<u32> = (0..u32::try_from(records.len()).unwrap_or(u32::MAX)).collect();
        order.sort_by(|&a, &b| {
            let by_key = keys[a as usize].cmp(&keys[b as usize]);
            by_key.then_with(|| self.compare(&records[a as usize], &records[b as usize]))
        });
        for at in order {
            let record = &mut records[at as usize];
            let next = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
            let key = keys[at as usize];
            let known = self.records.last().is_some_and(|last| self.same_name(last, record));
            let first = match self.names.last() {
                Some((_, range)) if known => range.start as usize,
                _ => self.records.len(),
            };
            let same = |other: &Record| self.parsed(other) == self.parsed(record);
            if let Some(same) = (first..self.records.len()).find(|&other| same(&self.records[other])) {
                self.records[same].held_by |= record.held_by;
                continue;
            }
            match self.names.last_mut() {
                Some((_, range)) if known => range.end = next + 1,
                _ => self.names.push((key, next..next + 1)),
            }
            record.name_id = NameId(u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX));
            self.records.push(record.clone());
        }
    }

    fn same_name(&self, a: &Record, b: &Record) -> bool {
        self.text(a.index, a.name) == self.text(b.index, b.name)
    }

    fn parsed(&self, record: &Record) -> Option<Version<'_>> {
        Version::parse(self.text(record.index, record.version)).ok()
    }

    /// By name, then the highest priority, then the newest first, then by the order of the files.
    fn compare(&self, a: &Record, b: &Record) -> Ordering {
        let names = self.text(a.index, a.name).cmp(self.text(b.index, b.name));
        let priority = |record: &Record| self.indexes[usize::from(record.index)].origin.priority;
        let names = names.then_with(|| priority(b).cmp(&priority(a)));
        names.then_with(|| self.parsed(b).cmp(&self.parsed(a))).then(a.index.cmp(&b.index))
    }

    fn collect_provided(&mut self) -> Result<(), Error> {
        let mut provided = Vec::new();
        for at in 0..self.records.len() {
            let id = PackageId(u32::try_from(at).unwrap_or(u32::MAX));
            let package = self.package(id);
            let Some(field) = self.records[at].provides else { continue };
            let bytes = &self.indexes[usize::from(self.records[at].index)].bytes;
            let text = std::str::from_utf8(slice(bytes, field))
                .map_err(|_| package.malformed(Problem::Wrong("Provides")))?;
            let groups = relation::parse(text, &self.architecture)
                .map_err(|invalid| package.malformed(Problem::Relation("Provides", invalid)))?;
            for relation in groups.into_iter().flatten() {
                provided.push(Provided {
                    hash: hash(relation.name.as_bytes()),
                    package: id,
                    name: span(bytes, relation.name.as_bytes()),
                    version: relation.bound.map(|(_, version)| span(bytes, version.as_str().as_bytes())),
                });
            }
        }
        let place = |entry: &Provided| {
            let record = &self.records[entry.package.index()];
            (record.index, record.stanza.start)
        };
        provided.sort_by_key(|entry| (entry.hash, place(entry), entry.name.start));
        self.provided = provided;
        Ok(())
    }
}

/// Gives the place of a part in the whole that it was taken from.
fn span(whole: &[u8], part: &[u8]) -> Span {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    Span {
        start: u32::try_from(start).unwrap_or(u32::MAX),
        length: u32::try_from(part.len()).unwrap_or(u32::MAX),
    }
}

fn slice(whole: &[u8], span: Span) -> &[u8] {
    &whole[span.start as usize..][..span.length as usize]
}

/// FNV-1a: names are short, and whoever chose them is trusted by signature.
fn hash(name: &[u8]) -> u64 {
    name.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests;
