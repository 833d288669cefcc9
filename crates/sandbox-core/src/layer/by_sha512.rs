//! Packages that an archive lists by SHA-512 alone: locks and the cache know packages by SHA-256.

use super::Doors;
use crate::{
    Result,
    deb::packages::quoted,
    digest::Sha256,
    error::Context as _,
    lock::{LockedPackage, LockedSource},
    store::{Checksum, StoreError, Wanted},
};

/// Fetches such packages, by their place in a list, and gives them the SHA-256 of the files that fit.
pub(super) fn learn(
    packages: &mut [LockedPackage],
    by_sha512: &[(usize, [u8; 64])],
    sources: &[LockedSource],
    doors: &Doors<'_>,
) -> Result<()> {
    for (at, sha512) in by_sha512 {
        let package = &mut packages[*at];
        package.sha256 = digest_of(package, *sha512, sources, doors)
            .during("fetch", format!("package `{}`", package.name))?;
    }
    Ok(())
}

/// Fetches a package that is listed by SHA-512 alone, and returns the digest by which locks and the cache know it.
fn digest_of(
    package: &LockedPackage,
    sha512: [u8; 64],
    sources: &[LockedSource],
    doors: &Doors<'_>,
) -> std::result::Result<Sha256, StoreError> {
    let mirrors =
        sources.iter().filter(|source| source.id == package.source).flat_map(|source| &source.mirrors);
    let urls: Vec<String> = mirrors.map(|mirror| format!("{mirror}/{}", quoted(&package.path))).collect();
    let (checksum, size) = (Checksum::Sha512(sha512), package.size);
    let wanted = Wanted { urls: &urls, checksum, size: Some(size), limit: size };
    doors.store.fetch(&wanted, doors.transport, &|_| {})?;
    match doors.store.read(&checksum, size)? {
        Some(bytes) => doors.store.keep(&bytes),
        None => Err(StoreError::NoAddress { checksum: Box::new(checksum) }),
    }
}
