//! The `Packages` indexes of a verified suite.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
    sync::mpsc::sync_channel,
    thread,
};

use super::{
    ArchiveError, Opening, Source, joined,
    nearby::Nearby,
    release::{NEAR, Verified},
};
use crate::{
    deb::release::{Digest, Listed},
    digest::Sha256,
    host::transport::Transport,
    report::{Phase, Timed},
    store::{Checksum, StoreError, Wanted},
};

/// The most bytes of a decoded index, whatever size the Release file lists.
const LIMIT: u64 = 1 << 30;

/// The most bytes of one whose decoded size the Release file does not list: four times the largest there is.
const UNLISTED: u64 = 256 << 20;

/// The most memory that the decoder of xz may take; `xz -9` takes a quarter of it.
const MEMORY: u64 = 256 << 20;

/// A decoded `Packages` index.
#[derive(Debug)]
pub struct Index {
    /// The source's id.
    pub source: String,
    /// The component.
    pub component: String,
    /// The whole text.
    pub bytes: Vec<u8>,
}

/// How many bytes are decoded before others see them.
const PIECE: u64 = 1 << 20;

/// How an index may be compressed: by file name suffix, the smallest of those that decode fast first.
const FORMATS: [&str; 5] = [".zst", ".xz", ".gz", ".bz2", ""];

/// The same where bytes cost less than decoding; gzip before xz only if it does come fast.
const FORMATS_NEARBY: [&str; 6] = [".zst", ".gz", ".xz", ".gz", ".bz2", ""];

impl Opening<'_> {
    /// Fetches and decodes all indexes of a source, side by side.
    pub(super) fn indexes(&self, source: &Source, verified: &Verified) -> Result<Vec<Index>, ArchiveError> {
        let mut wanted = Vec::new();
        let flat = [String::new()];
        for component in if source.is_flat() { &flat[..] } else { &source.components } {
            let base = match component.as_str() {
                "" => "Packages".to_owned(),
                component => format!("{component}/binary-{}/Packages", source.architecture),
            };
            let release = &verified.release;
            let is_listed = |base: &str| {
                FORMATS.iter().any(|format| release.files.contains_key(&format!("{base}{format}")))
            };
            let all = format!("{component}/binary-all/Packages");
            // one of packages for every architecture alone
            let is_all = source.is_foreign && !component.is_empty() && !is_listed(&base) && is_listed(&all);
            if is_all {
                wanted.push((component, all));
                continue;
            }
            if !is_listed(&base) {
                return Err(ArchiveError::NoIndex {
                    id: source.id.clone(),
                    suite: source.suite.clone(),
                    component: component.clone(),
                    architecture: source.architecture.clone(),
                });
            }
            wanted.push((component, base));
            if release.separate_all && release.files.contains_key(&all) {
                wanted.push((component, all));
            }
        }
        thread::scope(|scope| {
            let threads: Vec<_> = wanted
                .into_iter()
                .map(|(component, base)| {
                    scope.spawn(move || {
                        let bytes = self.index(source, verified, &base)?;
                        Ok(Index { source: source.id.clone(), component: component.clone(), bytes })
                    })
                })
                .collect();
            threads.into_iter().map(joined).collect()
        })
    }

    fn index(&self, source: &Source, verified: &Verified, base: &str) -> Result<Vec<u8>, ArchiveError> {
        let plain = verified.release.files.get(base).copied();
        if let Some(bytes) = self.kept_decoded(source, base, plain)? {
            return Ok(bytes);
        }
        let mut missing = None;
        let nearby = Nearby::new(self.transport, NEAR);
        let mut formats = if verified.near { FORMATS_NEARBY.to_vec() } else { FORMATS.to_vec() };
        formats.retain(|format| verified.release.files.contains_key(&format!("{base}{format}")));
        for (at, &format) in formats.iter().enumerate() {
            let is_sampled = format == ".gz" && formats[at..].contains(&".xz");
            let path = format!("{base}{format}");
            let Some(listed) = verified.release.files.get(&path) else { continue };
            let urls = urls(verified, source, &path, listed);
            let wanted = Wanted {
                urls: &urls,
                checksum: checksum(listed),
                size: Some(listed.size),
                limit: listed.size,
            };
            let transport: &dyn Transport = if is_sampled { &nearby } else { self.transport };
            match self.store.fetch(&wanted, transport, &|delta| self.advanced(delta)) {
                Ok(entry) => {
                    let _timed = Timed::begin(self.reporter, Phase::Archive, "decode");
                    return self.decoded(source, (entry.path(), format), plain, &path);
                }
                // Archives list formats that they do not keep; the next one may be there.
                Err(problem) if problem.is_missing() || matches!(problem, StoreError::NoAddress { .. }) => {
                    missing.get_or_insert((path, problem));
                }
                Err(problem) => return Err(failed(source, path, problem)),
            }
        }
        let (path, problem) = missing.unwrap_or_else(|| {
            let empty = || Checksum::Sha256(Sha256::of(b""));
            let checksum = plain.as_ref().map_or_else(empty, checksum);
            (base.to_owned(), StoreError::NoAddress { checksum: Box::new(checksum) })
        });
        Err(failed(source, path, problem))
    }
}

impl Opening<'_> {
    /// Gives a decoded index that an earlier run kept: xz takes ten times as long as reading it back.
    fn kept_decoded(
        &self,
        source: &Source,
        base: &str,
        plain: Option<Listed>,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(plain) = plain else { return Ok(None) };
        let read = self.store.read(&checksum(&plain), plain.size);
        read.map_err(|problem| failed(source, base.to_owned(), problem))
    }

    /// Decodes a file whose digest was checked, checks what comes out, and keeps that. Checking and keeping is
    /// another thread's, because decoding is what all wait for.
    fn decoded(
        &self,
        source: &Source,
        (file, format): (&Path, &str),
        plain: Option<Listed>,
        path: &str,
    ) -> Result<Vec<u8>, ArchiveError> {
        let broken =
            |problem| ArchiveError::Decode { id: source.id.clone(), path: path.to_owned(), source: problem };
        let Some(plain) = plain else {
            let bytes = decode(file, format, UNLISTED, &mut |_| {}).map_err(broken)?;
            return if bytes.len() as u64 > UNLISTED { Err(broken(too_large(UNLISTED))) } else { Ok(bytes) };
        };
        let expected = checksum(&plain);
        let mut keeping =
            self.store.keeping(&expected).map_err(|problem| failed(source, path.to_owned(), problem))?;
        let (send, receive) = sync_channel::<Vec<u8>>(4);
        let (bytes, found) = thread::scope(|scope| {
            let keeper = scope.spawn(move || {
                receive.iter().try_for_each(|chunk| {
                    if let Some(early) = self.options.early {
                        early.piece(source, path, &chunk);
                    }
                    keeping.append(&chunk)
                })?;
                keeping.finish()
            });
            // where the keeper has failed it says why when it is joined
            let bytes = decode(file, format, plain.size, &mut |chunk| drop(send.send(chunk.to_vec())));
            drop(send);
            (bytes, joined(keeper))
        });
        let bytes = bytes.map_err(broken)?;
        let found = found.map_err(|problem| failed(source, path.to_owned(), problem))?;
        if bytes.len() as u64 == plain.size && found == expected {
            return Ok(bytes);
        }
        Err(ArchiveError::Content {
            id: source.id.clone(),
            path: path.to_owned(),
            size: plain.size,
            found_size: bytes.len() as u64,
            expected: Box::new(expected),
            found: Box::new(found),
        })
    }
}

fn checksum(listed: &Listed) -> Checksum {
    match listed.digest {
        Digest::Sha256(digest) => Checksum::Sha256(digest),
        Digest::Sha512(digest) => Checksum::Sha512(digest),
    }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it decompresses to more than {} MiB", limit >> 20))
}

fn failed(source: &Source, path: String, problem: StoreError) -> ArchiveError {
    ArchiveError::Index { id: source.id.clone(), path, source: problem }
}

/// Lists the addresses of an index: by hash first, which an update of the mirror cannot change under us.
fn urls(verified: &Verified, source: &Source, path: &str, listed: &Listed) -> Vec<String> {
    let folder = path.rfind('/').map_or("", |end| &path[..=end]);
    let mut urls = Vec::new();
    for base in verified.mirrors.iter().map(|mirror| source.base(mirror)) {
        if verified.release.by_hash {
            let digest = checksum(listed);
            let field = digest.algorithm().to_ascii_uppercase();
            urls.push(format!("{base}/{folder}by-hash/{field}/{}", digest.digits()));
        }
        urls.push(format!("{base}/{path}"));
    }
    urls
}

/// Decodes at most one byte more than `limit`: enough to see that there is too much. `each` is given what comes,
/// piece by piece.
fn decode(file: &Path, format: &str, limit: u64, each: &mut dyn FnMut(&[u8])) -> io::Result<Vec<u8>> {
    let file = BufReader::with_capacity(256 << 10, File::open(file)?);
    let reader: Box<dyn Read> = match format {
        ".zst" => Box::new(zstd::Decoder::with_buffer(file)?),
        ".xz" => {
            let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
        }
        ".gz" => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        ".bz2" => Box::new(bzip2::bufread::MultiBzDecoder::new(file)),
        _ => Box::new(file),
    };
    // The listed size is a signed statement, but memory is only taken as bytes really come.
    let mut bytes = Vec::with_capacity(usize::try_from(limit.min(128 << 20)).unwrap_or_default());
    let mut reader = reader.take(limit.min(LIMIT).saturating_add(1));
    loop {
        let before = bytes.len();
        if reader.by_ref().take(PIECE).read_to_end(&mut bytes)? == 0 {
            break;
        }
        each(&bytes[before..]);
    }
    if bytes.len() as u64 > LIMIT {
        return Err(too_large(LIMIT));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_bomb_stops_at_one_byte_beyond_the_listed_size() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 8 << 20]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb");
        std::fs::write(&path, encoder.finish().unwrap()).unwrap();
        let mut seen = 0;
        assert_eq!(decode(&path, ".gz", 100, &mut |piece| seen += piece.len()).unwrap().len(), 101);
        assert_eq!(seen, 101);
    }

    #[test]
    fn broken_compression_is_an_error_in_every_format() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("noise");
        std::fs::write(&path, b"this is no compressed file").unwrap();
        for format in [".zst", ".xz", ".gz"] {
            assert!(decode(&path, format, 100, &mut |_| {}).is_err(), "{format}");
        }
    }
}
