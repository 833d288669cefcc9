//! Platform tarballs from an npm registry: asked for by version or dist-tag, checked by `dist.integrity`.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::{
    PartError,
    fetched::Into,
    files::{failed, folder_of},
};
use crate::{
    Result,
    deb::packages::is_path,
    error::{Cause, Class, Context as _, Hint},
    host::{
        address,
        root::{Meta, Root},
        transport::{Get, Transport, TransportError},
    },
    layer::Order,
    lock::{Fetched, LockedPart},
    report::Event,
    spec::Npm,
    store::Checksum,
};

/// The most bytes that a registry's version document may have.
const DOCUMENT_LIMIT: u64 = 4 << 20;

/// The most bytes that a tarball may have.
pub const TARBALL_LIMIT: u64 = 2 << 30;

/// Why a tarball cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NpmError {
    /// The package has no tarball for this architecture.
    #[error("`{package}` has no build for {architecture}")]
    Architecture {
        /// The package.
        package: String,
        /// Debian's word.
        architecture: String,
    },
    /// The registry cannot be asked.
    #[error("the npm registry does not tell of `{package}` {version}")]
    Ask {
        /// The package.
        package: String,
        /// The version or dist-tag asked for.
        version: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// The answer broke off.
    #[error("{url} broke off")]
    Read {
        /// The address.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// The answer is not a version document.
    #[error("{url} is not a version document of npm")]
    Document {
        /// The address.
        url: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The tarball's address is none.
    #[error("{url} names a tarball at `{tarball}`, which is no address")]
    Address {
        /// The document's address.
        url: String,
        /// The tarball's.
        tarball: String,
    },
    /// There is no SHA-512 to check it by.
    #[error("{url} gives no sha512 integrity")]
    Integrity {
        /// The address.
        url: String,
    },
}

impl Cause for NpmError {
    fn class(&self) -> Class {
        match self {
            Self::Architecture { .. } => Class::Unavailable,
            Self::Ask { source, .. } => source.class(),
            Self::Read { .. } => Class::Unreachable,
            Self::Document { .. } | Self::Integrity { .. } | Self::Address { .. } => Class::Untrusted,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Ask { .. } => {
                vec![Hint::run("name another registry", "--npm-registry URL")]
            }
            _ => Vec::new(),
        }
    }
}

#[derive(serde::Deserialize)]
struct Document {
    version: String,
    dist: Dist,
}

#[derive(serde::Deserialize)]
struct Dist {
    tarball: String,
    #[serde(default)]
    integrity: String,
}

/// Asks the registry which tarball a part is, for an order's architecture.
pub(super) fn lock(
    part: &Npm,
    order: &Order,
    transport: &dyn Transport,
) -> std::result::Result<LockedPart, NpmError> {
    let (architecture, registry) = (&order.architecture, &order.npm_registry);
    let platform = part.platform.get(architecture).ok_or_else(|| NpmError::Architecture {
        package: part.package.clone(),
        architecture: architecture.to_owned(),
    })?;
    let (main, main_url) = document(registry, &part.package, &part.version, transport)?;
    let version = platform.version.replace("{version}", &main.version);
    let main_version = main.version.clone();
    let (found, url) = if platform.package == part.package && version == main.version {
        (main, main_url)
    } else {
        document(registry, &platform.package, &version, transport)?
    };
    let sha512 = sha512_of(&found.dist.integrity).ok_or_else(|| NpmError::Integrity { url: url.clone() })?;
    let (path, named) = place(registry, &found.dist.tarball);
    if !is_path(&path) {
        return Err(NpmError::Address { url, tarball: found.dist.tarball });
    }
    Ok(LockedPart {
        name: part.package.clone(),
        version: main_version,
        what: Fetched::Npm {
            tarball: platform.package.clone(),
            tarball_version: found.version,
            path,
            url: named,
            sha512,
        },
    })
}

/// Finds the SHA-512 in an integrity value.
pub(super) fn sha512_of(integrity: &str) -> Option<String> {
    integrity.split_whitespace().find_map(|digest| digest.strip_prefix("sha512-")).map(str::to_owned)
}

/// Gives a tarball's path below the registry, and its address where that is not below it: a mirror's documents
/// may name the original's host.
pub(super) fn place(registry: &str, tarball: &str) -> (String, Option<String>) {
    // some registries repeat the user's password in their documents, whose addresses are in the lock
    let tarball = &address::without_user(tarball).0;
    if let Some(path) = tarball.strip_prefix(registry).and_then(|rest| rest.strip_prefix('/')) {
        return (path.to_owned(), None);
    }
    let path = tarball.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
    (path.unwrap_or_default().to_owned(), Some(tarball.to_owned()))
}

/// Lists where a locked tarball may be had: the registry's own copy first, then as the document said.
pub(super) fn urls(registry: &str, path: &str, url: Option<&str>) -> Vec<String> {
    let own = format!("{registry}/{path}");
    std::iter::once(own).chain(url.map(str::to_owned)).collect()
}

fn document(
    registry: &str,
    package: &str,
    version: &str,
    transport: &dyn Transport,
) -> std::result::Result<(Document, String), NpmError> {
    let url = format!("{registry}/{}/{version}", package.replace('/', "%2f"));
    let got = transport.get(&Get { url: &url, offset: 0, limit: DOCUMENT_LIMIT }).map_err(|source| {
        NpmError::Ask { package: package.to_owned(), version: version.to_owned(), source }
    })?;
    let mut bytes = Vec::new();
    got.body
        .take(DOCUMENT_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(|source| NpmError::Read { url: url.clone(), source })?;
    let document =
        serde_json::from_slice(&bytes).map_err(|source| NpmError::Document { url: url.clone(), source })?;
    Ok((document, url))
}

/// Fetches a platform tarball and unpacks it below its folder.
pub(super) fn put(part: &Npm, to: Into<'_>) -> Result<()> {
    let subject = || format!("`{}`", part.package);
    let locked = to.locked("npm", &part.package)?;
    let Fetched::Npm { tarball, tarball_version, path, url, sha512 } = &locked.what else {
        return Err(PartError::Unlocked { package: part.package.clone() }).during("find", subject());
    };
    let strip = part.platform.get(&to.lock.architecture).map_or("", |platform| platform.strip.as_str());
    let checksum = Checksum::from_integrity(&format!("sha512-{sha512}"))
        .map_err(|_| PartError::Digest { package: part.package.clone() })
        .during("fetch", subject())?;
    let urls = urls(&to.order.npm_registry, path, url.as_deref());
    let entry = to.fetch(&urls, checksum, TARBALL_LIMIT).during("fetch", subject())?;
    to.doors.reporter.report(Event::Notice { text: format!("{tarball} {tarball_version}") });
    let file = std::fs::File::open(entry.path())
        .map_err(|source| PartError::Tarball { package: part.package.clone(), source })
        .during("unpack", subject())?;
    unpack(to.rootfs.root(), part, strip, file, to.lock.epoch).during("unpack", subject())?;
    to.link(&part.into, part.bin.iter().map(|(link, target)| (link, target.clone())))
        .during("link", subject())
}

fn unpack(
    root: &Root,
    part: &Npm,
    strip: &str,
    file: std::fs::File,
    epoch: i64,
) -> std::result::Result<(), PartError> {
    let package = || part.package.clone();
    let broken = |source| PartError::Tarball { package: package(), source };
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(io::BufReader::new(file)));
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let Some(path) = below(&name, strip) else {
            return Err(PartError::Escape { package: package(), path: name });
        };
        // beside files a platform tarball has nothing to bring
        let Some(path) = path.filter(|_| entry.header().entry_type().is_file()) else { continue };
        let path = part.into.join(path);
        let executable = entry.header().mode().map_err(broken)? & 0o111 != 0;
        let meta = Meta::of_root(if executable { 0o755 } else { 0o644 }, epoch);
        folder_of(root, &path, epoch)?;
        root.write_from(&path, &mut entry, meta).map_err(failed(&path))?;
    }
    Ok(())
}

/// Gives a path below `package/` and what is stripped: nothing inside where it is not below, none where it
/// leads out.
#[expect(clippy::option_option, reason = "leading out and lying beside are different answers")]
fn below(name: &str, strip: &str) -> Option<Option<PathBuf>> {
    let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if name.starts_with('/') || name.contains('\0') || parts.contains(&"..") {
        return None;
    }
    let inner: PathBuf = parts.iter().skip(1).collect();
    Some(inner.strip_prefix(strip).ok().filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_registry_comes_before_the_host_that_its_document_names() {
        let (path, url) = place("https://mirror.invalid/npm", "https://origin.invalid/@a/b/-/b-1.tgz");
        assert_eq!(
            urls("https://mirror.invalid/npm", &path, url.as_deref()),
            ["https://mirror.invalid/npm/@a/b/-/b-1.tgz", "https://origin.invalid/@a/b/-/b-1.tgz"]
        );
        assert_eq!(place("https://o.invalid/npm", "https://o.invalid/npm/b.tgz"), ("b.tgz".to_owned(), None));
    }

    #[test]
    fn a_tarballs_paths_stay_below_its_folder() {
        assert_eq!(below("package/bin/x", ""), Some(Some(PathBuf::from("bin/x"))));
        assert_eq!(below("package/vendor/a/bin/x", "vendor/a"), Some(Some(PathBuf::from("bin/x"))));
        assert_eq!(below("package/package.json", "vendor/a"), Some(None));
        for bad in ["/etc/passwd", "package/../../x", "../x"] {
            assert_eq!(below(bad, ""), None, "{bad}");
        }
    }
}
