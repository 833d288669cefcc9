//! Binaries and archives behind a URL: found by template, checked by the vendor's digests when they are locked
//! and by the lock's from then on.

mod checksums;
mod version;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    PartError,
    fetched::Into,
    unarchive::{self, Taken, UnarchiveError},
};
use crate::{
    Result,
    digest::Sha256,
    error::{Cause, Class, Context as _, Hint},
    host::transport::{Ask, TransportError, asked},
    layer::{Doors, Order},
    lock::{Fetched, Lock, LockedPart},
    report::Event,
    spec::{ArchiveKind, Build, Download},
    store::{Checksum, StoreError},
};

/// The most bytes that a download may have.
const LIMIT: u64 = 8 << 30;

/// The most bytes of a file with digests.
const CHECKSUMS_LIMIT: u64 = 4 << 20;

/// Why a download cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// There is none for the architecture.
    #[error("`{name}` has no build for {architecture}; it has one for {}", known.join(", "))]
    Architecture {
        /// The download.
        name: String,
        /// Debian's word.
        architecture: String,
        /// The architectures that it has.
        known: Vec<String>,
    },
    /// The newest is wanted, and nothing tells which that is.
    #[error("`{name}` is wanted in its latest version, and `latest` does not say where to ask for that")]
    NoLatest {
        /// The download.
        name: String,
    },
    /// The newest is wanted, and a digest is given as if it were known which one that is.
    #[error("`{name}` is wanted in its latest version, and a `sha256` can only be of a certain one")]
    Fixed {
        /// The download.
        name: String,
    },
    /// There is nothing to check it by.
    #[error("`{name}` has neither `sha256` nor `checksums`")]
    Unchecked {
        /// The download.
        name: String,
    },
    /// A file of digests does not list it.
    #[error("{url} has no SHA-256 of `{file}`")]
    Unlisted {
        /// The file of digests.
        url: String,
        /// What was looked for.
        file: String,
    },
    /// What should tell the newest version does not.
    #[error("{url} tells no version: `{said}`")]
    Version {
        /// The address.
        url: String,
        /// What came.
        said: String,
    },
    /// The vendor cannot be asked.
    #[error("the vendor does not tell {what}")]
    Ask {
        /// What was asked for.
        what: &'static str,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// It had to be fetched to be locked, and could not be.
    #[error(transparent)]
    Fetch {
        /// Why.
        #[from]
        source: StoreError,
    },
}

impl Cause for DownloadError {
    fn class(&self) -> Class {
        match self {
            Self::Architecture { .. } => Class::Unavailable,
            Self::NoLatest { .. } | Self::Fixed { .. } | Self::Unchecked { .. } => Class::File,
            Self::Unlisted { .. } | Self::Version { .. } => Class::Untrusted,
            Self::Ask { source, .. } => source.class(),
            Self::Fetch { source } => source.class(),
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Unchecked { .. } => vec![Hint::Note(
                "give its digest, or `checksums` with the vendor's file of digests; `unchecked = true` takes what \
                 comes first, and locks that"
                    .into(),
            )],
            Self::NoLatest { .. } => vec![Hint::Note("give a `version`, or `latest` with an address".into())],
            Self::Ask { source, .. } => source.hints(),
            Self::Fetch { source } => source.hints(),
            _ => Vec::new(),
        }
    }
}

/// Tells whether nothing of the distribution stands in a download's place.
pub(super) fn is_wanted(part: &Download, lock: &Lock) -> bool {
    let stands = |name: &String| lock.packages.iter().any(|package| package.name == *name);
    !part.unless.as_ref().is_some_and(stands)
}

/// Finds out which file a download is, and its digest.
pub(super) fn lock(
    part: &Download,
    order: &Order,
    doors: &Doors<'_>,
) -> std::result::Result<LockedPart, DownloadError> {
    let build = part.architectures.get(&order.architecture).ok_or_else(|| DownloadError::Architecture {
        name: part.name.clone(),
        architecture: order.architecture.clone(),
        known: part.architectures.keys().cloned().collect(),
    })?;
    let newest = part.version == "latest";
    if newest && build.sha256.is_some() {
        return Err(DownloadError::Fixed { name: part.name.clone() });
    }
    let version = if newest {
        let url =
            part.latest.as_deref().ok_or_else(|| DownloadError::NoLatest { name: part.name.clone() })?;
        version::latest(url, doors.transport)?
    } else {
        part.version.clone()
    };
    let url = filled(&part.url, &version, build);
    let sha256 = match (build.sha256, &part.checksums) {
        (Some(known), _) => known,
        (None, Some(checksums)) => listed(&filled(checksums, &version, build), &url, doors)?,
        (None, None) if part.unchecked => {
            let text = format!("`{}` has no digest of its vendor's: what comes now is locked", part.name);
            doors.reporter.report(Event::Notice { text });
            doors.store.take(&url, LIMIT, doors.transport)?
        }
        (None, None) => return Err(DownloadError::Unchecked { name: part.name.clone() }),
    };
    Ok(LockedPart { name: part.name.clone(), version, what: Fetched::Download { url, sha256 } })
}

fn listed(checksums: &str, url: &str, doors: &Doors<'_>) -> std::result::Result<Sha256, DownloadError> {
    let (_, bytes) = asked(doors.transport, &Ask::at(checksums, CHECKSUMS_LIMIT))
        .map_err(|source| DownloadError::Ask { what: "its digest", source })?;
    let file = file_name(url);
    checksums::find(&String::from_utf8_lossy(&bytes), &file)
        .ok_or_else(|| DownloadError::Unlisted { url: checksums.to_owned(), file })
}

/// Gives the last word of an address, without what is asked of it.
fn file_name(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().replace("%2B", "+").replace("%2b", "+")
}

/// What a lock must have for a part beside its version.
pub(super) fn facts(part: &Download, locked: &str, order: &Order) -> Vec<(&'static str, String)> {
    let Some(build) = part.architectures.get(&order.architecture) else { return Vec::new() };
    let version = if part.version == "latest" { locked } else { &part.version };
    let mut facts = vec![("url", filled(&part.url, version, build))];
    facts.extend(build.sha256.map(|sha256| ("sha256", sha256.to_string())));
    facts
}

fn filled(template: &str, version: &str, build: &Build) -> String {
    template.replace("{version}", version).replace("{arch}", &build.word)
}

/// Fetches a download and puts it in its place.
pub(super) fn put(part: &Download, to: Into<'_>) -> Result<()> {
    let subject = || format!("`{}`", part.name);
    let locked = to.locked("download", &part.name)?;
    let Fetched::Download { url, sha256 } = &locked.what else {
        return Err(PartError::Unlocked { package: part.name.clone() }).during("find", subject());
    };
    let entry =
        to.fetch(std::slice::from_ref(url), Checksum::Sha256(*sha256), LIMIT).during("fetch", subject())?;
    to.doors.reporter.report(Event::Notice { text: format!("{} {}", part.name, locked.version) });
    let build = part.architectures.get(&to.lock.architecture);
    let fill = |text: &str| match build {
        Some(build) => filled(text, &locked.version, build),
        None => text.to_owned(),
    };
    let into = PathBuf::from(fill(&part.into.to_string_lossy()));
    let kind = part.archive.unwrap_or_else(|| kind_of(url));
    let broken = |source| PartError::Archive { name: part.name.clone(), source: Box::new(source) };
    let unreadable = |source| broken(UnarchiveError::Unreadable { source });
    let file = File::open(entry.path()).map_err(unreadable).during("unpack", subject())?;
    let epoch = to.lock.epoch;
    match kind {
        ArchiveKind::None => {
            single(to, &into, file, entry.size()).map_err(broken).during("unpack", subject())?
        }
        ArchiveKind::Gz => {
            let plain = flate2::read::MultiGzDecoder::new(io::BufReader::new(file));
            single(to, &into, plain, entry.size()).map_err(broken).during("unpack", subject())?;
        }
        _ => {
            let only: Vec<String> = part.only.iter().map(|path| fill(path)).collect();
            let taken = Taken { strip: part.strip, only: &only, epoch, owner: (0, 0) };
            unarchive::unpack(kind, file, entry.size(), to.rootfs.root(), &into, &taken)
                .map_err(broken)
                .during("unpack", subject())?;
        }
    }
    let bin = part.bin.iter().map(|(link, target)| (link, fill(target)));
    to.link(&into, bin).during("link", subject())
}

/// Writes a program that is not packed together with anything.
fn single(to: Into<'_>, path: &Path, from: impl Read, size: u64) -> std::result::Result<(), UnarchiveError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    let taken = Taken { strip: 0, only: &[], epoch: to.lock.epoch, owner: (0, 0) };
    unarchive::one(from, size, to.rootfs.root(), folder, &name, &taken)
}

fn kind_of(url: &str) -> ArchiveKind {
    let name = file_name(url).to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    if ends(&[".tar.gz", ".tgz"]) {
        ArchiveKind::TarGz
    } else if ends(&[".tar.xz", ".txz"]) {
        ArchiveKind::TarXz
    } else if ends(&[".tar.zst", ".tzst"]) {
        ArchiveKind::TarZst
    } else if ends(&[".zip"]) {
        ArchiveKind::Zip
    } else if ends(&[".gz"]) {
        ArchiveKind::Gz
    } else {
        ArchiveKind::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_tells_how_it_is_packed() {
        for (url, kind) in [
            ("https://x.invalid/a-1.0.tar.gz?x=.zip", ArchiveKind::TarGz),
            ("https://x.invalid/a.TGZ", ArchiveKind::TarGz),
            ("https://x.invalid/a.txz", ArchiveKind::TarXz),
            ("https://x.invalid/a.tar.zst", ArchiveKind::TarZst),
            ("https://x.invalid/a.zip", ArchiveKind::Zip),
            ("https://x.invalid/a.gz", ArchiveKind::Gz),
            ("https://x.invalid/v1.2/kubectl", ArchiveKind::None),
        ] {
            assert_eq!(kind_of(url), kind, "{url}");
        }
        assert_eq!(file_name("https://x.invalid/v1%2Bk3s1/k3s-1%2Bk3s1?a/b"), "k3s-1+k3s1");
    }
}
