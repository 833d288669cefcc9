//! The packages of an archive: several Packages files as one catalogue.
//!
//! **Source**: Debian Policy §5.3 and §5.6; the repository format of the Debian wiki.

use std::{cmp::Ordering, ops::Range};

use super::{
    deb822::{self, Stanza},
    relation::{self, Relation},
    version::{self, Version},
};
use crate::{
    digest::Sha256,
    error::{Cause, Class},
};

/// Why Packages files are not a catalogue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The file as a whole is no control file.
    #[error("the package index of `{pocket}` is malformed")]
    File {
        /// The source's id.
        pocket: String,
        /// What is wrong.
        source: deb822::Error,
    },
    /// The file is bigger than offsets reach.
    #[error("the package index of `{pocket}` has more than 4 GB")]
    Large {
        /// The source's id.
        pocket: String,
    },
    /// A stanza lacks a field, has one twice, or one that is wrong.
    #[error("the package index of `{pocket}` is malformed: package `{package}` at line {line} {problem}")]
    Stanza {
        /// The source's id.
        pocket: String,
        /// The package's name, or `?`.
        package: String,
        /// The line, from 1, at which the stanza begins.
        line: usize,
        /// What is wrong with it.
        problem: Box<Problem>,
    },
}

impl Cause for Error {
    fn class(&self) -> Class {
        Class::Untrusted
    }
}

/// What is wrong with a package's stanza.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A line that is no field.
    #[error("has a line that is neither a field nor the continuation of one")]
    Line,
    /// A field that it must have.
    #[error("lacks the field `{0}`")]
    Lacks(&'static str),
    /// A field that stands twice.
    #[error("has the field `{0}` twice")]
    Twice(&'static str),
    /// A field whose value is not of its shape.
    #[error("has a wrong `{0}`")]
    Wrong(&'static str),
    /// A version that is none.
    #[error("has a wrong version: {0}")]
    Version(version::Invalid),
    /// A relation that is none.
    #[error("has a wrong `{0}`: {1}")]
    Relation(&'static str, relation::Invalid),
}

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
    id: String,
    automatic: bool,
    bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Record {
    index: u16,
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
        Self::read_ranked(indexes, architecture, &[])
    }

    /// Reads as [`Self::read`] does, with sources that are `NotAutomatic: yes`, such as backports: their
    /// versions stand after all others, so that they are taken only for want of another or when asked for.
    ///
    /// **Source**: apt_preferences(5).
    ///
    /// # Errors
    /// [`Error`] with the first stanza that is wrong.
    pub fn read_ranked(
        indexes: Vec<(String, Vec<u8>)>,
        architecture: &str,
        not_automatic: &[String],
    ) -> Result<Self, Error> {
        let mut catalog = Self { architecture: architecture.to_owned(), ..Self::default() };
        for (id, bytes) in indexes {
            if u32::try_from(bytes.len()).is_err() {
                return Err(Error::Large { pocket: id });
            }
            deb822::check(&bytes).map_err(|source| Error::File { pocket: id.clone(), source })?;
            let automatic = !not_automatic.contains(&id);
            catalog.indexes.push(Index { id, automatic, bytes });
        }
        for at in 0..catalog.indexes.len() {
            catalog.records.extend(scan(&catalog.indexes[at], at, architecture)?);
        }
        catalog.sort();
        catalog.collect_provided()?;
        Ok(catalog)
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
            if let Some(hit) = hits.find(|&hit| is_mention(&index.bytes, hit, own.name().len())) {
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
            let last = self.records.last().filter(|last| self.same_name(last, record));
            if last.is_some_and(|last| self.parsed(last) == self.parsed(record)) {
                continue;
            }
            match (last.is_some(), self.names.last_mut()) {
                (true, Some((_, range))) => range.end = next + 1,
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

    /// By name, then automatic sources, then the newest first, then by the order of the files.
    fn compare(&self, a: &Record, b: &Record) -> Ordering {
        let names = self.text(a.index, a.name).cmp(self.text(b.index, b.name));
        let automatic = |record: &Record| self.indexes[usize::from(record.index)].automatic;
        let names = names.then_with(|| automatic(b).cmp(&automatic(a)));
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

/// One version of a package, as its archive describes it.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    catalog: &'a Catalog,
    record: &'a Record,
    id: PackageId,
}

impl<'a> Package<'a> {
    /// Gives its place in the catalogue.
    #[must_use]
    pub const fn id(&self) -> PackageId {
        self.id
    }

    /// Gives its name's place in the catalogue.
    #[must_use]
    pub const fn name_id(&self) -> NameId {
        self.record.name_id
    }

    /// Gives its name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.catalog.text(self.record.index, self.record.name)
    }

    /// Gives its version as text.
    #[must_use]
    pub fn version_text(&self) -> &'a str {
        self.catalog.text(self.record.index, self.record.version)
    }

    /// Gives its version; none is not possible, as reading the catalogue checked it.
    #[must_use]
    pub fn version(&self) -> Option<Version<'a>> {
        self.catalog.parsed(self.record)
    }

    /// Gives the id of the source that it comes from.
    #[must_use]
    pub fn source(&self) -> &'a str {
        &self.catalog.indexes[usize::from(self.record.index)].id
    }

    /// Gives its place among all packages of the archive, by source and by its place in the index.
    #[must_use]
    pub const fn place(&self) -> (u16, u32) {
        (self.record.index, self.record.stanza.start)
    }

    /// Tells whether it is `Essential: yes`.
    #[must_use]
    pub const fn is_essential(&self) -> bool {
        self.record.essential
    }

    /// Tells whether it is `Multi-Arch: allowed`, so that `name:any` may mean it.
    #[must_use]
    pub const fn allows_any(&self) -> bool {
        self.record.any
    }

    /// Gives its priority.
    #[must_use]
    pub const fn priority(&self) -> Priority {
        self.record.priority
    }

    /// Gives any field of its stanza.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'a str> {
        let bytes = slice(&self.catalog.indexes[usize::from(self.record.index)].bytes, self.record.stanza);
        Stanza::of(bytes).get(name)
    }

    /// Gives a field of relations; an absent field has none.
    ///
    /// # Errors
    /// [`Error::Stanza`] where the field is malformed.
    pub fn relations(&self, name: &'static str) -> Result<Vec<Vec<Relation<'a>>>, Error> {
        let text = self.field(name).unwrap_or_default();
        relation::parse(text, &self.catalog.architecture)
            .map_err(|invalid| self.malformed(Problem::Relation(name, invalid)))
    }

    /// Gives its path below the mirror.
    ///
    /// # Errors
    /// [`Error::Stanza`] where it is absent or would lead out of the mirror.
    pub fn path(&self) -> Result<&'a str, Error> {
        let path = self.required("Filename")?;
        // dpkg-scanpackages(1) writes the paths of flat archives so
        let path = path.strip_prefix("./").unwrap_or(path);
        if is_path(path) { Ok(path) } else { Err(self.malformed(Problem::Wrong("Filename"))) }
    }

    /// Gives the bytes of its `.deb`.
    ///
    /// # Errors
    /// [`Error::Stanza`] where it is absent or no number.
    pub fn size(&self) -> Result<u64, Error> {
        self.required("Size")?.parse().map_err(|_| self.malformed(Problem::Wrong("Size")))
    }

    /// Gives the digest of its `.deb`.
    ///
    /// # Errors
    /// [`Error::Stanza`] where it is absent or no digest.
    pub fn sha256(&self) -> Result<Sha256, Error> {
        let text = self.required("SHA256")?;
        Sha256::parse(text.as_bytes()).ok_or_else(|| self.malformed(Problem::Wrong("SHA256")))
    }

    /// Gives its own architecture: the catalogue's, or `all`.
    ///
    /// # Errors
    /// [`Error::Stanza`] where it is absent.
    pub fn architecture(&self) -> Result<&'a str, Error> {
        self.required("Architecture")
    }

    fn required(&self, name: &'static str) -> Result<&'a str, Error> {
        self.field(name).ok_or_else(|| self.malformed(Problem::Lacks(name)))
    }

    fn malformed(&self, problem: Problem) -> Error {
        let index = &self.catalog.indexes[usize::from(self.record.index)];
        let line = deb822::line_of(&index.bytes, self.record.stanza.start as usize);
        Error::Stanza {
            pocket: index.id.clone(),
            package: self.name().to_owned(),
            line,
            problem: Box::new(problem),
        }
    }
}

/// Tells whether a text may be a path below a mirror: it stays there, and needs no quoting in a URL.
#[must_use]
pub fn is_path(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'?' | b'#'))
}

/// Finds the stanzas of one index that fit an architecture.
fn scan(index: &Index, at: usize, architecture: &str) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for stanza in deb822::stanzas(&index.bytes) {
        let found = record(index, at, stanza, architecture).map_err(|problem| Error::Stanza {
            pocket: index.id.clone(),
            package: stanza.get("Package").unwrap_or("?").to_owned(),
            line: deb822::line_of(&index.bytes, stanza.offset()),
            problem: Box::new(problem),
        })?;
        records.extend(found);
    }
    Ok(records)
}

/// Reads what a stanza must have, and what choosing needs to know of every package.
fn record(
    index: &Index,
    at: usize,
    stanza: Stanza<'_>,
    architecture: &str,
) -> Result<Option<Record>, Problem> {
    const WANTED: [&str; 10] = [
        "Package",
        "Version",
        "Architecture",
        "Filename",
        "Size",
        "SHA256",
        "Essential",
        "Priority",
        "Multi-Arch",
        "Provides",
    ];
    const RELATIONS: [&str; 5] = ["Depends", "Pre-Depends", "Conflicts", "Breaks", "Recommends"];
    let mut found: [Option<&[u8]>; 10] = [None; 10];
    let mut seen = 0_u8;
    for field in stanza.fields() {
        let field = field.map_err(|_| Problem::Line)?;
        let is =
            |name: &&str| name.len() == field.name.len() && field.name.eq_ignore_ascii_case(name.as_bytes());
        if let Some(place) = WANTED.iter().position(&is) {
            if found[place].replace(field.value).is_some() {
                return Err(Problem::Twice(WANTED[place]));
            }
        } else if let Some(place) = RELATIONS.iter().position(is) {
            if seen & 1 << place != 0 {
                return Err(Problem::Twice(RELATIONS[place]));
            }
            seen |= 1 << place;
        }
    }
    let [name, version, own, filename, size, sha256, essential, priority, multi_arch, provides] = found;
    let present = [(name, 0), (version, 1), (own, 2), (filename, 3), (size, 4), (sha256, 5)];
    if let Some((_, missing)) = present.iter().find(|(value, _)| value.is_none()) {
        return Err(Problem::Lacks(WANTED[*missing]));
    }
    let own = own.unwrap_or_default();
    if own != b"all" && own != architecture.as_bytes() {
        return Ok(None);
    }
    let (name, version) = (name.unwrap_or_default(), version.unwrap_or_default());
    if !std::str::from_utf8(name).is_ok_and(relation::is_name) {
        return Err(Problem::Wrong("Package"));
    }
    let text = std::str::from_utf8(version).map_err(|_| Problem::Wrong("Version"))?;
    Version::parse(text).map_err(Problem::Version)?;
    Ok(Some(Record {
        index: u16::try_from(at).map_err(|_| Problem::Wrong("Package"))?,
        name_id: NameId(0),
        stanza: span(&index.bytes, stanza.bytes()),
        name: span(&index.bytes, name),
        version: span(&index.bytes, version),
        provides: provides.map(|provides| span(&index.bytes, provides)),
        essential: essential.is_some_and(|value| value.eq_ignore_ascii_case(b"yes")),
        any: multi_arch.is_some_and(|value| value == b"allowed"),
        priority: match priority {
            Some(b"required") => Priority::Required,
            Some(b"important") => Priority::Important,
            Some(b"standard") => Priority::Standard,
            Some(b"extra") => Priority::Extra,
            _ => Priority::Optional,
        },
    }))
}

/// Tells whether bytes that look like a name are one in a field of relations.
fn is_mention(bytes: &[u8], at: usize, length: usize) -> bool {
    const FIELDS: [&[u8]; 9] = [
        b"Depends",
        b"Pre-Depends",
        b"Recommends",
        b"Suggests",
        b"Conflicts",
        b"Breaks",
        b"Replaces",
        b"Enhances",
        b"Provides",
    ];
    let edge = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b' ' | b',' | b'|' | b'\n' | b'('));
    let after = bytes.get(at + length);
    if at == 0 || !edge(bytes.get(at - 1)) || !(edge(after) || after == Some(&b':')) {
        return false;
    }
    let mut start = at;
    loop {
        start = memchr::memrchr(b'\n', &bytes[..start]).map_or(0, |end| end + 1);
        if start == 0 || bytes[start] != b' ' {
            break;
        }
        start -= 1;
    }
    let field = memchr::memchr(b':', &bytes[start..at]).map(|colon| &bytes[start..start + colon]);
    field.is_some_and(|field| FIELDS.contains(&field))
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
mod tests {
    use super::*;

    fn stanza(name: &str, version: &str, more: &str) -> String {
        let sum = "0".repeat(64);
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\n\
             SHA256: {sum}\n{more}\n"
        )
    }

    fn read(pockets: &[(&str, String)]) -> Result<Catalog, Error> {
        let indexes = pockets.iter().map(|(id, text)| ((*id).to_owned(), text.clone().into_bytes()));
        Catalog::read(indexes.collect(), "amd64")
    }

    #[test]
    fn puts_the_newest_first_whatever_pocket_it_is_in() {
        let release = stanza("a", "1.9", "") + &stanza("b", "1", "") + &stanza("a", "1.10", "");
        let security = stanza("a", "1.10", "") + &stanza("a", "2~", "");
        let catalog = read(&[("release", release), ("security", security)]).unwrap();
        let name = catalog.name("a").unwrap();
        let all: Vec<_> = catalog.versions(name).map(|id| catalog.package(id)).collect();
        let shown: Vec<_> = all.iter().map(|p| (p.version_text(), p.source())).collect();
        assert_eq!(shown, [("2~", "security"), ("1.10", "release"), ("1.9", "release")]);
        assert!(catalog.name("c").is_none());
        assert_eq!(all[1].path().unwrap(), "pool/a.deb");
    }

    #[test]
    fn finds_providers_with_their_versions_in_the_order_of_the_archive() {
        let text = stanza("z", "1", "Provides: v (= 3), w\n") + &stanza("y", "1", "Provides: v\n");
        let catalog = read(&[("release", text)]).unwrap();
        let shown: Vec<_> = catalog
            .providers("v")
            .map(|(id, version)| (catalog.package(id).name(), version.map(|v| v.to_string())))
            .collect();
        assert_eq!(shown, [("z", Some("3".to_owned())), ("y", None)]);
    }

    #[test]
    fn leaves_out_other_architectures() {
        let text =
            stanza("a", "1", "").replace("amd64", "arm64") + &stanza("b", "1", "").replace("amd64", "all");
        let catalog = read(&[("release", text)]).unwrap();
        assert!(catalog.name("a").is_none() && catalog.name("b").is_some());
    }

    #[test]
    fn names_the_source_and_the_stanza_that_is_wrong() {
        let bad = [
            (stanza("b", "1", "").replace("Size: 1\n", ""), Problem::Lacks("Size")),
            (stanza("b", "1", "Version: 2\n"), Problem::Twice("Version")),
            (stanza("b", "1", "Depends: a\ndepends: c\n"), Problem::Twice("Depends")),
            (stanza("b", "1", "nonsense\n"), Problem::Line),
            (stanza("../b", "1", ""), Problem::Wrong("Package")),
        ];
        for (text, problem) in bad {
            let package = if text.contains("../") { "../b" } else { "b" }.to_owned();
            let wrong = read(&[("release", stanza("a", "1", "") + &text)]).unwrap_err();
            assert_eq!(
                wrong,
                Error::Stanza { pocket: "release".into(), package, line: 8, problem: Box::new(problem) }
            );
        }
    }

    #[test]
    fn refuses_paths_that_lead_out_of_the_mirror() {
        for path in ["../a.deb", "/a.deb", "pool//a.deb", "pool/../../a", "pool/a b", "pool/./a"] {
            let text = stanza("a", "1", "").replace("pool/a.deb", path);
            let catalog = read(&[("release", text)]).unwrap();
            let id = catalog.versions(catalog.name("a").unwrap()).next().unwrap();
            assert!(catalog.package(id).path().is_err(), "{path} was accepted");
        }
    }
}
