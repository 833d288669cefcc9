//! A machine's tree, made of a file or folder: what `export` writes, what debootstrap and `docker export` do, an OCI
//! image.

mod decode;
mod error;
mod foreign;
mod image;
mod nested;
mod tree;

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    rc::Rc,
    time::Instant,
};

use rustix::fs::OFlags;

use self::{
    decode::{Stream, decode},
    image::Image,
    tree::Tree,
};
pub use self::{
    error::ImportError,
    tree::{Devices, Left, Limits},
};
use super::{
    export::{Carried, LABEL},
    identity,
    network::Names,
};
pub use crate::tarfile::read::TarError;
use crate::{
    host::{
        foreign::NATIVE,
        root::{Meta, Root},
    },
    name::MachineName,
    report::{Event, Phase, Reporter, Unit},
    tarfile::{
        accounts::Accounts,
        read::{Kind, Member, Tar},
    },
};

/// Where the first program of a system is.
const INITS: [&str; 4] = ["sbin/init", "usr/sbin/init", "usr/lib/systemd/systemd", "lib/systemd/systemd"];

/// Something to be imported, looked at as far as is needed to tell what it is.
pub struct Source {
    path: PathBuf,
    inner: Inner,
    size: u64,
    carried: Option<Carried>,
}

enum Inner {
    /// A tar file: its first member was read.
    Tar { archive: Tar<Stream>, first: Option<Member>, read: Rc<Cell<u64>> },
    /// An OCI image.
    Image(Image),
}

/// What a tree was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// How many packages dpkg says are installed.
    pub packages: usize,
    /// What is not in the tree.
    pub left: Left,
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

impl Source {
    /// Opens a file, a folder, or, where the path is `-`, a stream. Of an image that has several, the one of a
    /// reference is taken.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn open(
        path: &Path,
        stdin: impl Read + 'static,
        reference: Option<&str>,
    ) -> Result<Self, ImportError> {
        let failed = |source| ImportError::Read { path: path.to_owned(), source };
        if path == Path::new("-") {
            return Self::tar(path, stdin, 0);
        }
        let file = File::open(path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?;
        if !found.is_dir() {
            return Self::tar(path, file, found.len());
        }
        if !Image::is_one(path) {
            let (what, hint) =
                ("a folder without an OCI image", "a folder of a tree is packed first: tar -C DIR -c .");
            return Err(ImportError::Form { path: path.to_owned(), what, hint });
        }
        let image = Image::open(path, reference)?;
        let carried = image.label(LABEL).map(Carried::read).transpose();
        let carried = carried.map_err(|source| ImportError::Carried { source })?;
        Ok(Self { path: path.to_owned(), size: image.bytes(), inner: Inner::Image(image), carried })
    }

    fn tar(path: &Path, from: impl Read + 'static, size: u64) -> Result<Self, ImportError> {
        let read = Rc::new(Cell::new(0));
        let from = Counted { inner: from, read: Rc::clone(&read) };
        let stream = decode(from).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
        let mut archive = Tar::new(stream);
        let damaged = |source| ImportError::Tar { path: path.to_owned(), source };
        let mut first = archive.next().map_err(damaged)?;
        let mut carried = None;
        if let Some(comment) = first.take_if(|member| member.kind == Kind::Comment) {
            let read = Carried::read_comment(&String::from_utf8_lossy(&comment.link)).transpose();
            carried = read.map_err(|source| ImportError::Carried { source })?;
            first = archive.next().map_err(damaged)?;
        }
        if first.is_none() {
            let (what, hint) = ("empty", "");
            return Err(ImportError::Form { path: path.to_owned(), what, hint });
        }
        Ok(Self { path: path.to_owned(), inner: Inner::Tar { archive, first, read }, size, carried })
    }

    /// Gives what `sandbox export` wrote about the machine, if it was that.
    #[must_use]
    pub const fn carried(&self) -> Option<&Carried> {
        self.carried.as_ref()
    }

    /// Makes the tree in an empty folder, and sees that a machine can boot of it.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn unpack(
        self,
        folder: &Path,
        name: &MachineName,
        limits: Limits,
        reporter: &dyn Reporter,
    ) -> Result<Imported, ImportError> {
        let begun = Instant::now();
        reporter.report(Event::Started { phase: Phase::Unpack, unit: Unit::Bytes, total: self.size });
        let mut tree = Tree::open(folder, &self.path, limits)?;
        let advanced = |delta| reporter.report(Event::Advanced { phase: Phase::Unpack, delta });
        let path = self.path.clone();
        let mut nested = None;
        match self.inner {
            Inner::Image(image) => image.unpack(&mut tree, &advanced)?,
            Inner::Tar { mut archive, mut first, read } => {
                let damaged = |source| ImportError::Tar { path: path.clone(), source };
                let mut told = 0;
                loop {
                    let next = match first.take() {
                        Some(first) => Some(first),
                        None => archive.next().map_err(damaged)?,
                    };
                    let Some(member) = next else { break };
                    tree.put(&member, &mut archive)?;
                    advanced(read.get() - told);
                    told = read.get();
                }
                // the writer of a pipe is not cut off
                archive.drain().map_err(|source| damaged(source.into()))?;
                nested = nested::find(tree.root(), &INITS);
            }
        }
        tree.finish(&Accounts::read(&tree.at(nested.as_deref().unwrap_or(Path::new("")))?))?;
        if let Some(nested) = &nested {
            let moved = nested::move_up(tree.root(), nested);
            moved.map_err(|source| ImportError::Write { path: nested.display().to_string(), source })?;
            let text = format!(
                "the tree is in `{}/` of the archive: it was moved up, and what is beside it was left out",
                nested.display()
            );
            reporter.report(Event::Notice { text });
        }
        let imported = check(&path, &tree)?;
        let old = self.carried.as_ref().map(|carried| &carried.name);
        let written = |source| ImportError::Write { path: "etc".to_owned(), source };
        settle(tree.root(), name, old).map_err(written)?;
        if self.carried.is_none() {
            let notes = foreign::complete(tree.root(), &Names::of_host()).map_err(written)?;
            notes.into_iter().for_each(|text| reporter.report(Event::Notice { text }));
        }
        reporter.report(Event::Finished {
            phase: Phase::Unpack,
            elapsed: begun.elapsed(),
            summary: format!("{} into the tree of `{name}`", path.display()),
        });
        Ok(imported)
    }
}

/// Sees that there is a system in a tree, for this processor.
fn check(path: &Path, tree: &Tree) -> Result<Imported, ImportError> {
    let root = tree.root();
    let Some(init) = INITS.iter().map(Path::new).find(|init| root.has(init)) else {
        let has = |name: &str| root.has(Path::new(name));
        let form = |what, hint| Err(ImportError::Form { path: path.to_owned(), what, hint });
        if has("oci-layout") || (has("index.json") && has("blobs")) {
            return form("a tar file of an OCI image", "unpack it into a folder, and import that");
        }
        if has("manifest.json") || has("repositories") {
            let hint = "`docker export` of a container of it, or `skopeo copy docker-archive:FILE oci:DIR`, gives what can be imported";
            return form("what `docker save` writes", hint);
        }
        return Err(ImportError::NoInit);
    };
    if let Some(found) = other_processor(root, init) {
        return Err(ImportError::Processor { found, own: NATIVE });
    }
    let status =
        root.read_up_to(Path::new("var/lib/dpkg/status"), crate::host::root::LISTS).unwrap_or_default();
    let packages = memchr::memmem::find_iter(&status, b"\nStatus: install ok installed\n").count();
    Ok(Imported { packages, left: tree.left })
}

/// Gives what a program is for, where that is not this processor. What is no program is left to the boot to find.
///
/// **Source**: elf(5), `e_machine`.
fn other_processor(root: &Root, program: &Path) -> Option<String> {
    let mut head = [0; 20];
    File::from(root.at(program, OFlags::RDONLY | OFlags::NONBLOCK, 0).ok()?).read_exact(&mut head).ok()?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let word = match u16::from_le_bytes([head[18], head[19]]) {
        62 => "amd64",
        183 => "arm64",
        3 => "i386",
        40 => "armhf",
        243 => "riscv64",
        _ => "another",
    };
    (word != NATIVE).then(|| word.to_owned())
}

/// Gives the tree its machine's name; one that is another machine than the exported one gets an identity of its own
/// at its next boot.
fn settle(root: &Root, name: &MachineName, old: Option<&MachineName>) -> io::Result<()> {
    // what tells programs that they are in Docker, where they are not
    root.remove(Path::new(".dockerenv"))?;
    root.make_folders(Path::new("etc"), Meta::of_root(0o755, 0))?;
    if old == Some(name) {
        return Ok(());
    }
    let write =
        |path: &str, text: &str| root.write(Path::new(path), text.as_bytes(), Meta::of_root(0o644, 0));
    let is_empty = |path: &str| root.read(Path::new(path)).unwrap_or_default().is_empty();
    identity::another(root, old, name)?;
    write("etc/hostname", &format!("{name}\n"))?;
    // Docker leaves these empty
    if is_empty("etc/hosts") {
        write("etc/hosts", &format!("127.0.0.1\tlocalhost\n127.0.1.1\t{name}\n::1\tlocalhost\n"))?;
    }
    if root.has(Path::new("usr/lib/systemd/systemd-resolved")) && is_empty("etc/resolv.conf") {
        root.link(Path::new("etc/resolv.conf"), foreign::STUB.as_ref(), 0)?;
    }
    Ok(())
}
