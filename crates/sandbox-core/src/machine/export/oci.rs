//! An OCI image: a folder of blobs named by their digests, with one layer for each that the machine was made of and
//! one for what it has changed.
//!
//! **Source**: OCI image specification 1.1: image-layout.md, manifest.md, config.md, layer.md.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{
    Consistency, Exported, LABEL, Order,
    base::Base,
    error::ExportError,
    length,
    pack::Packer,
    target::Target,
    walk::{Found, Tree, is_of_a_run},
};
use crate::{
    digest::Sha256,
    host::foreign::NATIVE,
    layer::kept::{
        content::{Content, read_at},
        entry::{Entry, Kind},
    },
    output::{Compression, Encoder, Hashed, Sink},
    report::{Event, Phase},
    tarfile::{
        member::{Bytes, Member, Nothing, Segment, What},
        write::Form,
    },
};

/// What stands before the name of something that lower layers have and this one has not.
const WHITEOUT: &str = ".wh.";

/// The reference by which the one image of the folder goes.
const REFERENCE: &str = "latest";

/// How layers of an image are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerCompression {
    /// What every program reads.
    Gzip,
    /// Faster and smaller.
    Zstd,
}

impl LayerCompression {
    const fn compression(self) -> Compression {
        match self {
            Self::Gzip => Compression::Gzip,
            Self::Zstd => Compression::Zstd,
        }
    }

    /// **Source**: OCI image specification 1.1, media-types.md.
    const fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// Tells whether a name means in an image that something is removed.
pub fn is_whiteout(name: &Path) -> bool {
    name.as_os_str().as_encoded_bytes().starts_with(WHITEOUT.as_bytes())
}

/// A blob: its digest and size, and of a layer the digest of the tar file in it.
struct Blob {
    digest: Sha256,
    size: u64,
    diff_id: Sha256,
}

/// Writes the folder.
pub fn write(
    order: &Order<'_>,
    tree: &Tree,
    base: Option<&Base>,
    compression: LayerCompression,
    path: &Path,
) -> Result<Exported, ExportError> {
    let target = Target::folder(path)?;
    let failed = |source| ExportError::Write { path: path.to_owned(), source };
    let blobs = Blobs {
        folder: target.temporary().join("blobs/sha256"),
        compression: compression.compression(),
        path,
        order,
    };
    fs::create_dir_all(&blobs.folder).map_err(failed)?;
    let mut layers = Vec::new();
    match base {
        Some(base) => {
            for content in &base.layers {
                layers.push(blobs.layer(|packer| kept(content, packer))?);
            }
            layers.push(blobs.layer(|packer| changed(tree, base, packer))?);
        }
        None => layers.push(blobs.layer(|packer| whole(tree, packer))?),
    }
    let config = blobs.json(&config(order, &layers))?;
    let manifest = blobs.json(&manifest(&config, &layers, compression))?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": format!("sha256:{}", manifest.digest),
            "size": manifest.size,
            "platform": {"architecture": NATIVE, "os": "linux"},
            "annotations": {"org.opencontainers.image.ref.name": REFERENCE},
        }],
    });
    let folder = target.temporary();
    synced(&folder.join("index.json"), index.to_string().as_bytes()).map_err(failed)?;
    synced(&folder.join("oci-layout"), b"{\"imageLayoutVersion\":\"1.0.0\"}").map_err(failed)?;
    for name in ["blobs/sha256", "blobs"] {
        File::open(folder.join(name)).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    let bytes = layers.iter().chain([&config, &manifest]).map(|blob| blob.size).sum();
    target.finish()?;
    let (consistency, left_out) = (order.consistency, order.left_out());
    Ok(Exported { path: Some(path.to_owned()), bytes, digest: manifest.digest, consistency, left_out })
}

fn config(order: &Order<'_>, layers: &[Blob]) -> Value {
    let record = order.record;
    let created = jiff::Timestamp::from_second(record.created).unwrap_or_default().to_string();
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
    let word = match order.consistency {
        Consistency::Clean => "clean",
        Consistency::CrashConsistent => "crash-consistent",
    };
    let history: Vec<Value> =
        layers.iter().map(|_| json!({"created": created, "created_by": "sandbox export"})).collect();
    json!({
        "created": created,
        "architecture": NATIVE,
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "container=oci"],
            "Cmd": ["/sbin/init"],
            "WorkingDir": "/",
            // systemd takes it for "shut down"
            "StopSignal": "SIGRTMIN+3",
            "Labels": {
                "org.opencontainers.image.title": record.definition.name.as_str(),
                "org.opencontainers.image.created": created,
                "sandbox.image": record.image,
                "sandbox.profiles": record.profiles.join(","),
                "sandbox.consistency": word,
                LABEL: order.carried().text(),
            },
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    })
}

fn manifest(config: &Blob, layers: &[Blob], compression: LayerCompression) -> Value {
    let media = compression.media_type();
    let blob = |media: &str, blob: &Blob| json!({"mediaType": media, "digest": format!("sha256:{}", blob.digest), "size": blob.size});
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", config),
        "layers": layers.iter().map(|layer| blob(media, layer)).collect::<Vec<_>>(),
    })
}

fn synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

type Out<'a> = Hashed<Encoder<Hashed<Sink<'a>>>>;

/// The folder of blobs.
struct Blobs<'a> {
    folder: PathBuf,
    compression: Compression,
    path: &'a Path,
    order: &'a Order<'a>,
}

impl Blobs<'_> {
    fn failed(&self) -> impl Fn(io::Error) -> ExportError {
        let path = self.path.to_owned();
        move |source| ExportError::Write { path: path.clone(), source }
    }

    /// Writes a layer.
    fn layer(
        &self,
        fill: impl FnOnce(&mut Packer<'_, Out<'_>>) -> Result<(), ExportError>,
    ) -> Result<Blob, ExportError> {
        let failed = self.failed();
        let temporary = self.folder.join("partial");
        let mut file = File::create_new(&temporary).map_err(&failed)?;
        let (sink, broken) = Sink::new(&mut file);
        let encoder = Encoder::new(self.compression, Hashed::new(sink)).map_err(&failed)?;
        // holes are not for layers: not every program that reads one knows them
        let form = Form { prefix: "", sparse: false };
        let mut packer = Packer::new(Hashed::new(encoder), form, (broken, self.path), self.order.reporter);
        fill(&mut packer)?;
        let (encoder, diff_id, _) = packer.finish()?.finish();
        let (mut sink, digest, _) = encoder.finish().map_err(&failed)?.finish();
        sink.flush().map_err(&failed)?;
        drop(sink);
        file.sync_all().map_err(&failed)?;
        fs::rename(&temporary, self.folder.join(digest.to_string())).map_err(&failed)?;
        let size = length(&self.folder.join(digest.to_string())).map_err(&failed)?;
        Ok(Blob { digest, size, diff_id })
    }

    fn json(&self, value: &Value) -> Result<Blob, ExportError> {
        let bytes = value.to_string().into_bytes();
        let digest = Sha256::of(&bytes);
        synced(&self.folder.join(digest.to_string()), &bytes).map_err(self.failed())?;
        Ok(Blob { digest, size: bytes.len() as u64, diff_id: digest })
    }
}

fn unread(path: &Path, source: io::Error) -> ExportError {
    ExportError::Read { path: path.to_owned(), source }
}

fn whole<W: Write>(tree: &Tree, packer: &mut Packer<'_, W>) -> Result<(), ExportError> {
    tree.visit(&unread, &mut |found| packer.add(tree, found))
}

/// Puts into a layer what the machine has other than the layers that it was made of.
fn changed<W: Write>(tree: &Tree, base: &Base, packer: &mut Packer<'_, W>) -> Result<(), ExportError> {
    let mut there: HashMap<PathBuf, bool> = HashMap::new();
    let mut other: HashSet<PathBuf> = HashSet::new();
    // all names of a file are in the layer, or none: else they would be two files
    let mut groups: HashSet<(u64, u64)> = HashSet::new();
    let inode = |found: &Found<'_>| (found.stat.st_dev, found.stat.st_ino);
    tree.visit(&unread, &mut |found| {
        there.insert(found.path.to_owned(), found.kind() == rustix::fs::FileType::Directory);
        let same = match base.is_same(found) {
            Ok(same) => same,
            Err(error) if tree.is_gone(&error) => false,
            Err(error) => return Err(unread(found.path, error)),
        };
        if !same {
            other.insert(found.path.to_owned());
            if found.stat.st_nlink > 1 {
                groups.insert(inode(found));
            }
        }
        Ok(())
    })?;
    let paths = base.paths();
    // what stands in the place of a folder hides all that was in it
    let hidden = |path: &Path| path.parent().is_some_and(|above| there.get(above) == Some(&false));
    let gone = paths.keys().filter(|path| !there.contains_key(**path) && !is_of_a_run(path) && !hidden(path));
    whiteouts(gone.copied(), packer)?;
    tree.visit(&unread, &mut |found| {
        let kept_names = found.stat.st_nlink > 1
            && found.kind() != rustix::fs::FileType::Directory
            && groups.contains(&inode(found));
        if other.contains(found.path) || kept_names || !there.contains_key(found.path) {
            return packer.add(tree, found);
        }
        Ok(())
    })
}

/// Says of paths that they are gone: of a folder once, not of all that was in it.
fn whiteouts<'p, W: Write>(
    gone: impl Iterator<Item = &'p Path>,
    packer: &mut Packer<'_, W>,
) -> Result<(), ExportError> {
    let gone: BTreeSet<&Path> = gone.collect();
    for path in &gone {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { continue };
        if path.ancestors().skip(1).any(|above| gone.contains(above)) {
            continue;
        }
        let mut white = std::ffi::OsString::from(WHITEOUT);
        white.push(name);
        let member = Member {
            path: &above.join(white),
            what: What::File { size: 0, segments: &[] },
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            attributes: &[],
        };
        packer.member(&member, &mut Nothing)?;
    }
    Ok(())
}

/// Puts into a layer what a kept layer adds.
fn kept<W: Write>(content: &Content, packer: &mut Packer<'_, W>) -> Result<(), ExportError> {
    let entries = || content.entries.iter().filter(|entry| !is_of_a_run(&entry.path));
    let in_place: HashSet<&Path> = entries()
        .filter(|entry| !matches!(entry.kind, Kind::Removed | Kind::Folder))
        .map(|entry| entry.path.as_path())
        .collect();
    let hidden = |path: &Path| path.parent().is_some_and(|above| in_place.contains(above));
    let removed = entries().filter(|entry| entry.kind == Kind::Removed && !hidden(&entry.path));
    let removed = removed.map(|entry| entry.path.as_path());
    whiteouts(removed, packer)?;
    let mut firsts: HashMap<u64, &Path> = std::collections::HashMap::new();
    for entry in entries() {
        let mut segments = Vec::new();
        let Some(what) = what(entry, &mut segments) else { continue };
        let mut member = Member {
            path: &entry.path,
            what,
            mode: entry.meta.mode & 0o7777,
            uid: entry.meta.uid,
            gid: entry.meta.gid,
            mtime: entry.meta.mtime.0,
            attributes: &entry.attributes,
        };
        if entry.group > 0 {
            match firsts.get(&entry.group) {
                Some(first) => {
                    member.what = What::Hard(first);
                    member.attributes = &[];
                }
                None => {
                    firsts.insert(entry.group, &entry.path);
                }
            }
        }
        if let What::File { size, .. } = member.what {
            let file = content.open(entry).map_err(|source| unread(&entry.path, source))?;
            packer.member(&member, &mut Stored { file, entry })?;
            packer.advance(Event::Advanced { phase: Phase::Pack, delta: size });
        } else {
            packer.member(&member, &mut Nothing)?;
        }
    }
    Ok(())
}

fn what<'e>(entry: &'e Entry, segments: &'e mut Vec<Segment>) -> Option<What<'e>> {
    Some(match &entry.kind {
        Kind::Folder => What::Folder,
        Kind::File { size, segments: all } => {
            segments.extend(all.iter().map(|one| Segment { at: one.at, length: one.length }));
            What::File { size: *size, segments }
        }
        Kind::Link { target } => What::Link(target),
        Kind::Node { kind, .. } if *kind == libc::S_IFSOCK => return None,
        Kind::Node { kind, device } => What::Node { kind: *kind, device: *device },
        Kind::Removed => return None,
    })
}

/// The bytes of a kept layer's file.
struct Stored<'e> {
    file: File,
    entry: &'e Entry,
}

impl Bytes for Stored<'_> {
    fn write(&mut self, segment: Segment, out: &mut dyn Write) -> io::Result<()> {
        let Kind::File { segments, .. } = &self.entry.kind else { return Ok(()) };
        let Some(stored) = segments.iter().find(|stored| stored.at == segment.at) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let mut buffer = vec![0; 128 << 10];
        let mut done = 0;
        while done < segment.length {
            let left = segment.length - done;
            let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            read_at(&self.file, stored, done, &mut buffer[..count])?;
            out.write_all(&buffer[..count])?;
            done += count as u64;
        }
        Ok(())
    }
}
