//! A machine as a file: its tree with all that is needed to make the same machine of it elsewhere.
//!
//! Volumes that hold logins are in none: they stand beside the tree, and nothing here opens one.

mod base;
mod carried;
mod error;
mod oci;
mod pack;
mod target;
mod template;
mod walk;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use self::{base::Base, pack::Packer, target::Target, walk::Tree};
pub use self::{
    carried::{Carried, Consistency, LABEL, NotCarried, Volume},
    error::ExportError,
    oci::LayerCompression,
    template::name as template_name,
};
use super::{
    frozen::{self, Frozen},
    journal::Intent,
    life::Machines,
    record::{Hold, Record},
    volume::Mounted,
};
use crate::{
    Result,
    digest::Sha256,
    error::Context as _,
    host::{runner::Processes, temporary},
    layer::{
        kept::Layers,
        scan::{self, Finding, ScanError},
    },
    name::MachineName,
    output::{Compression, Contents, Encoder, Filesystem, Hashed, ImageFile, Scratch, Sink},
    report::{Event, Phase, Reporter, Unit},
    spec::VolumeKind,
    tarfile::write::Form,
};

/// The form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A tar file of the tree.
    Tar(Compression),
    /// An image of a file system with the tree.
    Image(Filesystem),
    /// A folder with an OCI image.
    Oci(LayerCompression),
    /// A template as Proxmox takes it.
    Proxmox,
}

/// What is exported, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The form.
    pub shape: Shape,
    /// Whether a running machine is taken as it is.
    pub live: bool,
    /// Whether volumes go with it, but for those that hold logins.
    pub volumes: bool,
    /// Whether files that hold logins may be in it.
    pub credentials: bool,
}

/// Where it goes.
pub enum To<'a> {
    /// A file or folder that is not there yet.
    Path(&'a Path),
    /// A stream.
    Stream(&'a mut dyn Write),
}

/// What was made.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Exported {
    /// The file or folder; none where it was a stream.
    pub path: Option<PathBuf>,
    /// How many bytes it has.
    pub bytes: u64,
    /// The digest of the file, or of the image's manifest.
    pub digest: Sha256,
    /// Whether the machine ran meanwhile.
    pub consistency: Consistency,
    /// Volumes that are not in it.
    pub left_out: Vec<PathBuf>,
}

impl Machines<'_> {
    /// Writes a machine's tree into a file or folder. The machine is held meanwhile: nobody changes or removes it.
    ///
    /// # Errors
    /// [`ExportError`]; then nothing is left of it.
    pub fn export(
        &self,
        name: &MachineName,
        options: Options,
        to: To<'_>,
        layers: &Layers,
        holder: &str,
    ) -> Result<Exported> {
        let (claim, record) = self.claim_as(name, holder, Hold::Interruptible, "export")?;
        let subject = || format!("machine `{name}`");
        let note = |cgroup: &Path| {
            claim.begin(&Intent::Freeze { cgroup: cgroup.to_owned() }).during("export", subject())
        };
        let frozen = if options.live { self.freeze(&record, &note)? } else { None };
        let exported = self.pack(&record, options, to, layers);
        let thawed = frozen.map_or(Ok(()), |frozen| frozen.thaw().map(drop));
        thawed.during("thaw", subject())?;
        claim.end().during("export", subject())?;
        exported
    }

    /// Freezes a machine that runs, where it can be, so that its files do not change while they are read. `note` writes
    /// its cgroup to the journal first: it is thawed by the next command where this process and its watcher are killed.
    pub(super) fn freeze(
        &self,
        record: &Record,
        note: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<Option<Frozen>> {
        let name = &record.definition.name;
        let subject = || format!("machine `{name}`");
        let backend = self.backend(record.definition.backend).during("export", subject())?;
        let Some(cgroup) = backend.leader(name)?.and_then(|leader| frozen::cgroup(&leader)) else {
            return Ok(None);
        };
        note(&cgroup)?;
        let frozen = frozen::freeze(&cgroup, name.as_str());
        if frozen.is_err() {
            let text = format!("machine `{name}` cannot be frozen: its files are read while it runs");
            self.reporter.report(Event::Warning { text });
        }
        Ok(frozen.ok())
    }

    /// Writes the tree of a machine that is held.
    ///
    /// # Errors
    /// As [`Self::export`].
    pub(super) fn pack(
        &self,
        record: &Record,
        options: Options,
        to: To<'_>,
        layers: &Layers,
    ) -> Result<Exported> {
        let name = &record.definition.name;
        let subject = || format!("machine `{name}`");
        let backend = self.backend(record.definition.backend).during("export", subject())?;
        let runs = backend.leader(name)?.is_some();
        if runs && !options.live {
            return Err(ExportError::Running { name: name.clone() }).during("export", subject());
        }
        let consistency = if runs { Consistency::CrashConsistent } else { Consistency::Clean };
        let order = Order { record, options, consistency, reporter: self.reporter };
        order.carry_out(to, layers).during("export", subject())
    }

    /// Writes a tree that never ran as a template; it is not looked through for logins.
    ///
    /// # Errors
    /// As [`Self::export`].
    pub(super) fn pack_new(&self, record: &Record, path: &Path) -> Result<Exported> {
        let options = Options { shape: Shape::Proxmox, live: false, volumes: false, credentials: true };
        let order = Order { record, options, consistency: Consistency::Clean, reporter: self.reporter };
        let layers = Layers::new(self.records.state());
        let subject = || format!("machine `{}`", record.definition.name);
        order.carry_out(To::Path(path), &layers).during("pack", subject())
    }
}

/// An export under way.
struct Order<'a> {
    record: &'a Record,
    options: Options,
    consistency: Consistency,
    reporter: &'a dyn Reporter,
}

/// What is in a tree.
#[derive(Default)]
struct Listing {
    /// Files that no layer had so, which are looked through for logins.
    files: Vec<PathBuf>,
    /// How many bytes all have together.
    bytes: u64,
}

impl Order<'_> {
    fn carry_out(&self, to: To<'_>, layers: &Layers) -> Result<Exported, ExportError> {
        let begun = Instant::now();
        let definition = &self.record.definition;
        let read = |source| ExportError::Read { path: PathBuf::new(), source };
        let mut tree = Tree::open(&definition.tree, self.consistency != Consistency::Clean).map_err(read)?;
        for volume in definition.volumes.iter().filter(|volume| self.takes(volume)) {
            let read = |source| ExportError::Read { path: volume.path.clone(), source };
            tree.put(relative(&volume.path), &volume.source).map_err(read)?;
        }
        let base = self.base(layers)?;
        let listing = self.list(&tree, base.as_ref())?;
        if !self.options.credentials {
            self.scan(&listing)?;
        }
        let total = listing.bytes;
        self.reporter.report(Event::Started { phase: Phase::Pack, unit: Unit::Bytes, total });
        let exported = match (self.options.shape, to) {
            (Shape::Oci(compression), To::Path(path)) => {
                oci::write(self, &tree, base.as_ref(), compression, path)?
            }
            (Shape::Oci(_), To::Stream(_)) => {
                let source = io::Error::new(io::ErrorKind::Unsupported, "an OCI image is a folder");
                return Err(ExportError::Write { path: "-".into(), source });
            }
            (Shape::Image(_), To::Stream(_)) => {
                let source =
                    io::Error::new(io::ErrorKind::Unsupported, "an image of a file system is a file");
                return Err(ExportError::Write { path: "-".into(), source });
            }
            (Shape::Image(filesystem), To::Path(path)) => self.image(&tree, filesystem, path)?,
            (_, To::Stream(out)) => self.file(&tree, out, Path::new("-"))?,
            (_, To::Path(path)) => {
                let mut target = Target::file(path)?;
                let made = self.file(&tree, target.out(), path)?;
                target.finish()?;
                Exported { path: Some(path.to_owned()), ..made }
            }
        };
        let place = exported.path.as_ref().map_or_else(|| "-".into(), |path| path.display().to_string());
        self.reporter.report(Event::Finished {
            phase: Phase::Pack,
            elapsed: begun.elapsed(),
            summary: format!("{place} ({:.0} MB)", exported.bytes as f64 / 1e6),
        });
        Ok(exported)
    }

    fn takes(&self, volume: &Mounted) -> bool {
        self.options.volumes && volume.kind != VolumeKind::Auth && volume.source.is_dir()
    }

    fn carried(&self) -> Carried {
        Carried::of(self.record, self.consistency, &|volume| self.takes(volume))
    }

    fn left_out(&self) -> Vec<PathBuf> {
        let volumes = self.record.definition.volumes.iter();
        volumes.filter(|volume| !self.takes(volume)).map(|volume| volume.path.clone()).collect()
    }

    /// Reads the layers that the tree was made of; none where not all are kept.
    fn base(&self, layers: &Layers) -> Result<Option<Base>, ExportError> {
        let failed = |source| ExportError::Layer { source };
        let Some(top) = self.record.layers.last() else { return Ok(None) };
        let Some(stack) = layers.hold_stack(*top).map_err(failed)? else { return Ok(None) };
        Base::read(&stack).map(Some).map_err(failed)
    }

    fn list(&self, tree: &Tree, base: Option<&Base>) -> Result<Listing, ExportError> {
        let mut listing = Listing::default();
        let failed = |path: &Path, source| ExportError::Read { path: path.to_owned(), source };
        tree.visit(&failed, &mut |found| {
            if matches!(self.options.shape, Shape::Oci(_)) && oci::is_whiteout(found.name) {
                return Err(ExportError::Whiteout { path: found.path.to_owned() });
            }
            if found.kind() == rustix::fs::FileType::RegularFile {
                listing.bytes += found.stat.st_size.cast_unsigned();
                if !base.is_some_and(|base| base.looks_same(found)) {
                    listing.files.push(found.path.to_owned());
                }
            }
            Ok(())
        })?;
        Ok(listing)
    }

    /// Looks for logins in what the machine has beyond its layers, volumes that go with it included.
    fn scan(&self, listing: &Listing) -> Result<(), ExportError> {
        let definition = &self.record.definition;
        let volumes: Vec<&Mounted> = definition.volumes.iter().filter(|volume| self.takes(volume)).collect();
        let mut found: Vec<Finding> = Vec::new();
        let mut own: Vec<&Path> = Vec::new();
        let mut of_volumes: Vec<Vec<&Path>> = vec![Vec::new(); volumes.len()];
        for path in &listing.files {
            // the innermost volume has it: they are sorted, one below another after it
            let place = volumes.iter().rposition(|volume| path.starts_with(relative(&volume.path)));
            match place {
                Some(at) => of_volumes[at].push(path),
                None => own.push(path),
            }
        }
        for (name, value) in &definition.chosen.environment {
            found.extend(scan::text(&Path::new("environment").join(name), value.as_bytes()));
        }
        found.extend(self.scan_one(&definition.tree, Path::new(""), &own)?);
        for (volume, paths) in volumes.iter().zip(of_volumes) {
            found.extend(self.scan_one(&volume.source, relative(&volume.path), &paths)?);
        }
        if found.is_empty() {
            return Ok(());
        }
        Err(ExportError::Logins { found, name: definition.name.clone() })
    }

    fn scan_one(&self, folder: &Path, at: &Path, paths: &[&Path]) -> Result<Vec<Finding>, ExportError> {
        let inside: Vec<&Path> = paths.iter().filter_map(|path| path.strip_prefix(at).ok()).collect();
        let scanned = match self.consistency {
            Consistency::Clean => scan::scan(folder, &inside, &[]),
            // a running machine may take something away
            Consistency::CrashConsistent => scan::scan_live(folder, &inside),
        };
        match scanned {
            Ok(()) => Ok(Vec::new()),
            Err(ScanError::Found { found }) => {
                Ok(found.into_iter().map(|one| Finding { path: at.join(&one.path), ..one }).collect())
            }
            Err(ScanError::Read { path, source }) => Err(ExportError::Read { path: at.join(path), source }),
        }
    }

    /// Writes the tree as an image of a file system, by way of a tar file: owners are as the guest has them, and what
    /// no export has is left out.
    fn image(&self, tree: &Tree, filesystem: Filesystem, path: &Path) -> Result<Exported, ExportError> {
        filesystem.check(true).map_err(|source| ExportError::Image { source })?;
        let failed = |source| ExportError::Write { path: path.to_owned(), source };
        let target = Target::file(path)?;
        let scratch = Scratch::new(temporary::beside(path, "sandbox-scratch")).map_err(failed)?;
        let tar = scratch.path().join("tree.tar");
        let made = self.file(tree, &mut fs::File::create(&tar).map_err(failed)?, path)?;
        let epoch = self.record.created;
        let file = ImageFile { path: target.temporary(), target: path, scratch: scratch.path(), epoch };
        filesystem
            .write(Contents::Tar(&tar), file, &Processes)
            .map_err(|source| ExportError::Image { source })?;
        drop(scratch);
        let mut hashed = Hashed::new(io::sink());
        let mut written = fs::File::open(target.temporary()).map_err(failed)?;
        io::copy(&mut written, &mut hashed).map_err(failed)?;
        let (_, digest, bytes) = hashed.finish();
        target.finish()?;
        Ok(Exported { path: Some(path.to_owned()), bytes, digest, ..made })
    }

    /// Writes the tree as one tar file.
    fn file(&self, tree: &Tree, out: &mut dyn Write, target: &Path) -> Result<Exported, ExportError> {
        let failed = |source| ExportError::Write { path: target.to_owned(), source };
        let (sink, broken) = Sink::new(out);
        let compression = match self.options.shape {
            Shape::Tar(compression) => compression,
            Shape::Image(_) => Compression::Plain,
            Shape::Proxmox | Shape::Oci(_) => Compression::Zstd,
        };
        let encoder = Encoder::new(compression, Hashed::new(sink)).map_err(failed)?;
        let form = Form { prefix: "./", sparse: true };
        let mut packer = Packer::new(encoder, form, (broken, target), self.reporter);
        packer.comment(&self.carried().comment())?;
        let read = |path: &Path, source| ExportError::Read { path: path.to_owned(), source };
        tree.visit(&read, &mut |found| packer.add(tree, found))?;
        if self.options.shape == Shape::Proxmox {
            template::complete(&self.record.definition.tree, &mut packer)?;
        }
        let hashed = packer.finish()?.finish().map_err(failed)?;
        let (mut sink, digest, bytes) = hashed.finish();
        sink.flush().map_err(failed)?;
        Ok(Exported { path: None, bytes, digest, consistency: self.consistency, left_out: self.left_out() })
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Reads a word of a tree's os-release file: `ID`, `VERSION_ID`.
///
/// **Source**: os-release(5).
pub(super) fn os_release(tree: &Path, key: &str) -> Option<String> {
    use crate::host::root::{Links, Root};
    let root = Root::open(tree, Links::InTree).ok()?;
    let bytes = root
        .read(Path::new("etc/os-release"))
        .or_else(|_| root.read(Path::new("usr/lib/os-release")))
        .ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    let word = line.trim().trim_matches(['"', '\'']);
    let sound = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    (!word.is_empty() && word.len() < 32 && word.chars().all(sound)).then(|| word.to_lowercase())
}

/// Gives a file's length, for what is made of several.
fn length(path: &Path) -> io::Result<u64> {
    Ok(fs::symlink_metadata(path)?.len())
}
