//! One package, as its archive describes it.

use super::{Catalog, Error, Index, NameId, PackageId, Priority, Problem, Record, slice};
use crate::{
    deb::{
        deb822::{self, Stanza},
        relation::{self, Relation},
        release::Digest,
        version::Version,
    },
    digest::{Sha256, parse_sha512},
};

/// One version of a package, as its archive describes it.
#[derive(Clone, Copy, Debug)]
pub struct Package<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) record: &'a Record,
    pub(super) id: PackageId,
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
        &self.catalog.indexes[usize::from(self.record.index)].origin.id
    }

    /// Tells whether a suite has this version, by the source's id or by another name of the suite.
    #[must_use]
    pub fn is_of(&self, suite: &str) -> bool {
        let called = |(at, index): (usize, &Index)| {
            at < 64 && self.record.held_by >> at & 1 == 1 && index.origin.is_called(suite)
        };
        self.catalog.indexes.iter().enumerate().any(called)
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

    /// Gives its path below the mirror; of a foreign archive without slashes that say nothing.
    ///
    /// # Errors
    /// [`Error::Stanza`] where it is absent or would lead out of the mirror.
    pub fn path(&self) -> Result<String, Error> {
        let path = self.required("Filename")?;
        let origin = &self.catalog.indexes[usize::from(self.record.index)].origin;
        // dpkg-scanpackages(1) writes the paths of flat archives so
        let path = path.strip_prefix("./").unwrap_or(path);
        let parts = path.split('/').filter(|part| !origin.is_foreign || !part.is_empty());
        let path = parts.collect::<Vec<_>>().join("/");
        let fits = if origin.is_foreign { is_file_path(&path) } else { is_path(&path) };
        if fits { Ok(path) } else { Err(self.malformed(Problem::Wrong("Filename"))) }
    }

    /// Gives the bytes of its `.deb`.
    ///
    /// # Errors
    /// [`Error::Stanza`] where it is absent or no number.
    pub fn size(&self) -> Result<u64, Error> {
        self.required("Size")?.parse().map_err(|_| self.malformed(Problem::Wrong("Size")))
    }

    /// Returns the digest of its `.deb`: by SHA-256, and by SHA-512 where that alone is listed.
    ///
    /// # Errors
    /// [`Error::Stanza`] where it is absent or no digest.
    pub fn digest(&self) -> Result<Digest, Error> {
        if let (None, Some(text)) = (self.field("SHA256"), self.field("SHA512")) {
            let digest = parse_sha512(text.as_bytes()).map(Digest::Sha512);
            return digest.ok_or_else(|| self.malformed(Problem::Wrong("SHA512")));
        }
        let text = self.required("SHA256")?;
        let digest = Sha256::parse(text.as_bytes()).map(Digest::Sha256);
        digest.ok_or_else(|| self.malformed(Problem::Wrong("SHA256")))
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

    pub(super) fn malformed(&self, problem: Problem) -> Error {
        let index = &self.catalog.indexes[usize::from(self.record.index)];
        let line = deb822::line_of(&index.bytes, self.record.stanza.start as usize);
        Error::Stanza {
            pocket: index.origin.id.clone(),
            package: self.name().to_owned(),
            line,
            problem: Box::new(problem),
        }
    }
}

/// Tells whether a text may be the path of a package below a mirror: as [`is_path`], also with blanks.
#[must_use]
pub fn is_file_path(path: &str) -> bool {
    path.trim() == path && is_path(&path.replace(' ', "_"))
}

/// Gives a path below a mirror as a URL has it. What a path says is the name of a file: its `%` is no quoting, and
/// its `+`, which some servers read as a blank, is quoted as apt does.
///
/// **Source**: RFC 3986 §2, §3.3; apt's `QuoteString`.
#[must_use]
pub fn quoted(path: &str) -> String {
    let mut quoted = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:@!$&'()*,;=".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            quoted.push_str(&format!("%{byte:02x}"));
        }
    }
    quoted
}

/// Tells whether a text may be a path below a mirror: it stays there, and has no characters that end a URL's path.
#[must_use]
pub fn is_path(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'?' | b'#'))
}
