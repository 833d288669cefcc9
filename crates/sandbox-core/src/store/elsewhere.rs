//! Where one package may be had: the cache, the mirrors, and at last an older state of the archive.

use super::{Checksum, Entry, Store, StoreError, Wanted};
use crate::{
    archive::ArchiveError,
    deb::packages::quoted,
    host::transport::Transport,
    lock::{Lock, LockedPackage, LockedSource},
};

/// Keeps old states of archives, for packages that no mirror has any more.
pub trait Elsewhere: Send + Sync {
    /// Gives the base address of the archive as it was when a lock was made; nothing where nobody keeps it.
    ///
    /// # Errors
    /// [`ArchiveError`] where it cannot be asked, or is not to be trusted.
    fn base(&self, source: &LockedSource) -> Result<Option<String>, ArchiveError>;

    /// Gives the transport to ask it with.
    fn transport(&self) -> &dyn Transport;
}

/// How packages come.
#[derive(Clone, Copy)]
pub struct Ways<'a> {
    /// From mirrors.
    pub transport: &'a dyn Transport,
    /// From where old states are kept.
    pub elsewhere: Option<&'a dyn Elsewhere>,
}

impl<'a> Ways<'a> {
    /// Makes ways that lead to mirrors alone.
    #[must_use]
    pub fn mirrors(transport: &'a dyn Transport) -> Self {
        Self { transport, elsewhere: None }
    }

    /// Brings one package of a lock into the cache.
    pub(super) fn fetch(
        &self,
        lock: &Lock,
        package: &LockedPackage,
        store: &Store,
        progress: &dyn Fn(u64),
    ) -> Result<Entry, StoreError> {
        let source = lock.sources.iter().find(|source| source.id == package.source);
        let mirrors = source.iter().flat_map(|source| &source.mirrors);
        let urls: Vec<String> = mirrors.map(|mirror| format!("{mirror}/{}", quoted(&package.path))).collect();
        let problem = match store.fetch(&wanted(package, &urls), self.transport, progress) {
            Err(problem) if problem.is_absent() => problem,
            other => return other,
        };
        let Some((elsewhere, source)) = self.elsewhere.zip(source) else { return Err(problem) };
        let base =
            elsewhere.base(source).map_err(|source| StoreError::Snapshot { source: Box::new(source) })?;
        let Some(base) = base else { return Err(problem) };
        let urls = [format!("{base}/{}", quoted(&package.path))];
        store.fetch(&wanted(package, &urls), elsewhere.transport(), progress)
    }
}

fn wanted<'a>(package: &LockedPackage, urls: &'a [String]) -> Wanted<'a> {
    Wanted { urls, checksum: Checksum::Sha256(package.sha256), size: Some(package.size), limit: package.size }
}

/// Makes one problem of all: the first of what came wrong, or else the list of what did not come.
pub(super) fn gravest(problems: Vec<(&LockedPackage, StoreError)>) -> Option<StoreError> {
    let mut gone = Vec::new();
    let mut first = None;
    for (package, problem) in problems {
        if !problem.is_absent() {
            return Some(problem);
        }
        let LockedPackage { name, architecture, version, .. } = package;
        gone.push(format!("{name}:{architecture}={version}"));
        // Why one was not asked for says less than why another did not come.
        match first {
            Some(ref told) if !matches!(told, StoreError::NoAddress { .. }) => {}
            _ => first = Some(problem),
        }
    }
    first.map(|source| StoreError::Gone { gone, source: Box::new(source) })
}
