//! OCI images, read: every blob is what its digest says before it is looked into.
//!
//! **Source**: OCI image specification 1.1: image-layout.md, descriptor.md, layer.md.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use serde::Deserialize;

use super::{
    decode::{Stream, decode},
    error::ImportError,
    tree::{Tree, relative},
};
use crate::{
    digest::{Hasher, Sha256},
    host::{
        foreign::NATIVE,
        root::{Links, Root},
    },
    tarfile::read::{Kind, Tar, TarError},
};

/// The most bytes of a file of JSON.
const JSON: u64 = 8 << 20;

/// How deep indexes may be in indexes.
const DEPTH: usize = 4;

const WHITEOUT: &[u8] = b".wh.";
/// Before a name that is no whiteout but a note of aufs; all in it that is not known is passed over.
const NOTE: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What is said of a blob.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Config {
    architecture: String,
    os: String,
    rootfs: RootFs,
    #[serde(default)]
    config: Option<Run>,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Run {
    #[serde(rename = "Labels", default)]
    labels: Option<std::collections::BTreeMap<String, String>>,
}

/// An image whose description was read and found to be what its digests say.
pub struct Image {
    folder: Root,
    path: PathBuf,
    layers: Vec<(Descriptor, String)>,
    labels: std::collections::BTreeMap<String, String>,
}

fn wrong(file: &str, what: impl Into<String>) -> ImportError {
    ImportError::Image { file: file.to_owned(), what: what.into() }
}

fn parse<T: serde::de::DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, ImportError> {
    serde_json::from_slice(bytes).map_err(|error| wrong(file, error.to_string()))
}

impl Image {
    /// Tells whether a folder is laid out as images are.
    pub fn is_one(folder: &Path) -> bool {
        folder.join("oci-layout").is_file() || folder.join("index.json").is_file()
    }

    /// Reads what an image says of itself; of several, that of a reference.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn open(path: &Path, reference: Option<&str>) -> Result<Self, ImportError> {
        let read = |source| ImportError::Read { path: path.to_owned(), source };
        let folder = Root::open(path, Links::Refused).map_err(read)?;
        let mut image =
            Self { folder, path: path.to_owned(), layers: Vec::new(), labels: Default::default() };
        let index = image.small(Path::new("index.json"), JSON)?;
        let index: Index = parse("index.json", &index)?;
        let manifest = image.choose(index, reference, DEPTH)?;
        let manifest: Manifest = parse("its manifest", &image.json(&manifest)?)?;
        let config: Config = parse("its configuration", &image.json(&manifest.config)?)?;
        if (config.os.as_str(), config.architecture.as_str()) != ("linux", NATIVE) {
            let found = format!("{} {}", config.os, config.architecture);
            return Err(ImportError::Processor { found, own: NATIVE });
        }
        if config.rootfs.diff_ids.len() != manifest.layers.len() {
            return Err(wrong("its configuration", "it has not as many layers as its manifest"));
        }
        image.layers = manifest.layers.into_iter().zip(config.rootfs.diff_ids).collect();
        image.labels = config.config.unwrap_or_default().labels.unwrap_or_default();
        Ok(image)
    }

    /// Gives a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// Gives how many bytes its layers have, compressed.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().map(|(layer, _)| layer.size).fold(0, u64::saturating_add)
    }

    /// Lays the layers over each other.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn unpack(&self, tree: &mut Tree, advanced: &dyn Fn(u64)) -> Result<(), ImportError> {
        for (layer, diff_id) in &self.layers {
            self.check(layer)?;
            self.remove(layer, tree)?;
            self.add(layer, diff_id, tree)?;
            advanced(layer.size);
        }
        Ok(())
    }

    /// Opens a file of the folder, which must be one: no link, no device.
    fn file(&self, path: &Path) -> Result<File, ImportError> {
        let read = |source| ImportError::Read { path: self.path.join(path), source };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = File::from(self.folder.at(path, flags, 0).map_err(read)?);
        if !file.metadata().map_err(read)?.is_file() {
            return Err(wrong(&path.display().to_string(), "it is no file"));
        }
        Ok(file)
    }

    fn small(&self, path: &Path, most: u64) -> Result<Vec<u8>, ImportError> {
        let mut bytes = Vec::new();
        let read = |source| ImportError::Read { path: self.path.join(path), source };
        self.file(path)?.take(most + 1).read_to_end(&mut bytes).map_err(read)?;
        if bytes.len() as u64 > most {
            return Err(wrong(&path.display().to_string(), "it is far too large"));
        }
        Ok(bytes)
    }

    fn json(&self, blob: &Descriptor) -> Result<Vec<u8>, ImportError> {
        let (path, digest) = place(blob)?;
        let bytes = self.small(&path, JSON)?;
        if bytes.len() as u64 != blob.size || Sha256::of(&bytes) != digest {
            return Err(ImportError::Digest { digest: blob.digest.clone() });
        }
        Ok(bytes)
    }

    fn choose(&self, index: Index, reference: Option<&str>, depth: usize) -> Result<Descriptor, ImportError> {
        let name =
            |manifest: &Descriptor| manifest.annotations.get("org.opencontainers.image.ref.name").cloned();
        let fits = |manifest: &&Descriptor| {
            let platform = manifest.platform.as_ref();
            let ours = platform.is_none_or(|own| own.os == "linux" && own.architecture == NATIVE);
            ours && reference.is_none_or(|reference| name(manifest).as_deref() == Some(reference))
        };
        let mut all = index.manifests.iter().filter(fits);
        let Some(first) = all.next() else {
            return Err(wrong(
                "index.json",
                format!("it names no image for linux {NATIVE}, or none of that name"),
            ));
        };
        if all.next().is_some() {
            let names: Vec<String> = index.manifests.iter().filter_map(name).collect();
            let what = format!("it names several images: {}; `--reference` says which", names.join(", "));
            return Err(wrong("index.json", what));
        }
        let is_index = first.media_type.ends_with("image.index.v1+json")
            || first.media_type.ends_with("manifest.list.v2+json");
        if !is_index {
            return Ok(first.clone());
        }
        if depth == 0 {
            return Err(wrong("index.json", "indexes are in indexes without end"));
        }
        let inner: Index = parse("an index", &self.json(first)?)?;
        self.choose(inner, None, depth - 1)
    }

    /// Sees that a layer is what its digest says.
    fn check(&self, layer: &Descriptor) -> Result<(), ImportError> {
        let (path, digest) = place(layer)?;
        let known = ["tar", "tar+gzip", "tar+zstd", "tar.gzip", "tar.zstd"];
        let word = layer.media_type.rsplit(['.']).next().unwrap_or_default();
        let is_known = known.contains(&word) || layer.media_type.ends_with(".tar.gzip") || word == "gzip";
        if !is_known || layer.media_type.contains("nondistributable") || layer.media_type.contains("foreign")
        {
            return Err(wrong("its manifest", format!("a layer is of the kind `{}`", layer.media_type)));
        }
        let mut hasher = Hasher::default();
        let read = |source| ImportError::Read { path: self.path.join(&path), source };
        let length = io::copy(&mut self.file(&path)?.take(layer.size + 1), &mut hasher).map_err(read)?;
        if length != layer.size || hasher.finish() != digest {
            return Err(ImportError::Digest { digest: layer.digest.clone() });
        }
        Ok(())
    }

    fn open_layer(&self, layer: &Descriptor) -> Result<Tar<Hashing>, ImportError> {
        let (path, _) = place(layer)?;
        let read = |source| ImportError::Read { path: self.path.join(&path), source };
        let inner = decode(self.file(&path)?).map_err(read)?;
        Ok(Tar::new(Hashing { inner, hasher: Hasher::default() }))
    }

    fn damaged(&self, layer: &Descriptor) -> impl Fn(TarError) -> ImportError {
        let path = PathBuf::from(format!("the layer {}", layer.digest));
        move |source| ImportError::Tar { path: path.clone(), source }
    }

    /// Takes out of the tree what a layer says is gone, before anything of it is put in: its whiteouts mean the
    /// layers below it, wherever they stand in it.
    fn remove(&self, layer: &Descriptor, tree: &mut Tree) -> Result<(), ImportError> {
        let damaged = self.damaged(layer);
        let mut archive = self.open_layer(layer)?;
        while let Some(member) = archive.next().map_err(&damaged)? {
            let Some((above, name)) = whiteout(&member.path)? else { continue };
            match name {
                Gone::All => tree.empty(&above)?,
                Gone::One(name) => tree.remove(&above.join(name))?,
                Gone::Nothing => {}
            }
        }
        Ok(())
    }

    fn add(&self, layer: &Descriptor, diff_id: &str, tree: &mut Tree) -> Result<(), ImportError> {
        let damaged = self.damaged(layer);
        let mut archive = self.open_layer(layer)?;
        while let Some(member) = archive.next().map_err(&damaged)? {
            if member.kind == Kind::Comment || whiteout(&member.path)?.is_some() {
                continue;
            }
            tree.put(&member, &mut archive)?;
        }
        archive.drain().map_err(|source| damaged(source.into()))?;
        if format!("sha256:{}", archive.into_inner().hasher.finish()) != diff_id {
            return Err(ImportError::Digest { digest: diff_id.to_owned() });
        }
        Ok(())
    }
}

/// Gives where a blob is, and its digest.
fn place(blob: &Descriptor) -> Result<(PathBuf, Sha256), ImportError> {
    let hex = blob.digest.strip_prefix("sha256:").unwrap_or_default();
    let digest = Sha256::parse(hex.as_bytes())
        .filter(|digest| digest.to_string() == hex)
        .ok_or_else(|| wrong("a description", format!("`{}` is no SHA-256 digest", blob.digest)))?;
    Ok((Path::new("blobs/sha256").join(hex), digest))
}

/// What a whiteout takes away.
enum Gone {
    /// All that the folder has.
    All,
    /// One name of the folder.
    One(PathBuf),
    /// It is a note of whoever wrote the layer.
    Nothing,
}

fn whiteout(path: &[u8]) -> Result<Option<(PathBuf, Gone)>, ImportError> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = relative(path)?;
    let Some(name) = path.file_name().map(std::ffi::OsStr::as_bytes) else { return Ok(None) };
    let Some(gone) = name.strip_prefix(WHITEOUT) else { return Ok(None) };
    let above = path.parent().unwrap_or(Path::new("")).to_owned();
    if name == OPAQUE {
        return Ok(Some((above, Gone::All)));
    }
    if name.starts_with(NOTE) {
        return Ok(Some((above, Gone::Nothing)));
    }
    if matches!(gone, b"" | b"." | b"..") {
        let (path, what) = (path.display().to_string(), "which removes nothing that has a name");
        return Err(ImportError::Strange { path, what });
    }
    Ok(Some((above, Gone::One(PathBuf::from(std::ffi::OsStr::from_bytes(gone))))))
}

/// Hashes what is read.
struct Hashing {
    inner: Stream,
    hasher: Hasher,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
