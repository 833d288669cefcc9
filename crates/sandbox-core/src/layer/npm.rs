//! Platform tarballs from an npm registry: asked for by version or dist-tag, checked by `dist.integrity`.

use std::io::Read as _;

use crate::{
    error::{Cause, Class, Hint},
    host::transport::{Get, Transport, TransportError},
    spec::Npm,
};

/// The most bytes that a registry's version document may have.
const DOCUMENT_LIMIT: u64 = 4 << 20;

/// The most bytes that a tarball may have.
pub const TARBALL_LIMIT: u64 = 2 << 30;

/// One tarball of one architecture, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tarball {
    /// The package that has it.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Where it is to be had, best first.
    pub urls: Vec<String>,
    /// Its SHA-512, base64, without the `sha512-` in front.
    pub sha512: String,
    /// What to strip from the front of each path, beyond `package/`.
    pub strip: String,
}

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
            Self::Document { .. } | Self::Integrity { .. } => Class::Untrusted,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Ask { .. } => {
                vec![Hint::run("name another registry", "sandbox create … --npm-registry https://…")]
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

/// Asks the registry which tarball a part is, for one architecture.
///
/// # Errors
/// [`NpmError`].
pub fn tarball(
    part: &Npm,
    architecture: &str,
    registry: &str,
    transport: &dyn Transport,
) -> Result<Tarball, NpmError> {
    let platform = part.platform.get(architecture).ok_or_else(|| NpmError::Architecture {
        package: part.package.clone(),
        architecture: architecture.to_owned(),
    })?;
    let (main, main_url) = document(registry, &part.package, &part.version, transport)?;
    let version = platform.version.replace("{version}", &main.version);
    let (found, url) = if platform.package == part.package && version == main.version {
        (main, main_url)
    } else {
        document(registry, &platform.package, &version, transport)?
    };
    let sha512 = found
        .dist
        .integrity
        .split_whitespace()
        .find_map(|digest| digest.strip_prefix("sha512-"))
        .ok_or(NpmError::Integrity { url })?
        .to_owned();
    Ok(Tarball {
        package: platform.package.clone(),
        version: found.version,
        urls: urls(registry, &found.dist.tarball),
        sha512,
        strip: platform.strip.clone(),
    })
}

/// The registry's own copy first (a mirror's documents name the original's host), then as it says.
fn urls(registry: &str, tarball: &str) -> Vec<String> {
    let path = tarball.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
    let mut urls: Vec<String> = path.map(|path| format!("{registry}/{path}")).into_iter().collect();
    if !urls.iter().any(|url| url == tarball) {
        urls.push(tarball.to_owned());
    }
    urls
}

fn document(
    registry: &str,
    package: &str,
    version: &str,
    transport: &dyn Transport,
) -> Result<(Document, String), NpmError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asked_registry_comes_before_the_host_that_its_document_names() {
        assert_eq!(
            urls("https://mirror.invalid/npm", "https://origin.invalid/@a/b/-/b-1.tgz"),
            ["https://mirror.invalid/npm/@a/b/-/b-1.tgz", "https://origin.invalid/@a/b/-/b-1.tgz"]
        );
        assert_eq!(urls("https://o.invalid", "https://o.invalid/b.tgz"), ["https://o.invalid/b.tgz"]);
    }
}
