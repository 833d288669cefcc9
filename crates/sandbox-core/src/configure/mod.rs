//! The tree's own dpkg runs every package's scripts, once, cut off from the host.

mod devices;
mod full;
mod identity;
mod normalise;
mod owners;
mod preinst;
mod substitute;
mod times;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use crate::{
    error::{Cause, Class, Hint},
    host::{
        root::{Links, Meta, Root},
        runner::{Command, Runner, RunnerError},
        space::{self, Shortage},
    },
    report::{Event, Phase, Reporter, Timed, Unit},
    unpack::{BESIDE, Scripted, Unpacked},
};

pub(crate) use full::ran_out;
pub use substitute::substitute_for;

/// What is particular to a tree.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its host name.
    pub hostname: String,
    /// Its own apt sources.
    pub sources: Sources,
    /// SOURCE_DATE_EPOCH, in seconds since 1970.
    pub epoch: i64,
}

/// apt's sources of a tree.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The file below `/etc/apt/sources.list.d/`.
    pub file: String,
    /// Its text, deb822.
    pub text: String,
    /// Further files of apt's, keys among them: absolute paths and bytes.
    pub beside: Vec<(String, Vec<u8>)>,
}

/// A tree whose packages are all configured.
#[derive(Debug)]
pub struct Rootfs {
    root: Root,
}

impl Rootfs {
    /// Opens a tree that was configured before: one that was made of layers.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub fn again(path: &Path) -> Result<Self, ConfigureError> {
        Ok(Self { root: Root::open(path, Links::InTree).map_err(tree(path))? })
    }

    /// Gives the tree, whose links are now to be taken as after chroot(2).
    #[must_use]
    pub const fn root(&self) -> &Root {
        &self.root
    }

    /// Gives the tree's path on the host.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.root.path()
    }
}

/// Why a tree is not configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// A script of a package failed.
    #[error("the {script} of package `{package}` failed")]
    Script {
        /// The package.
        package: String,
        /// `preinst`.
        script: &'static str,
        /// Its story.
        #[source]
        source: Box<RunnerError>,
    },
    /// dpkg failed.
    #[error("dpkg could not {doing} the packages")]
    Dpkg {
        /// `unpack`, `configure`.
        doing: &'static str,
        /// Its story.
        #[source]
        source: Box<RunnerError>,
    },
    /// Something failed, and the tree's file system is full.
    #[error("the file system of {path} {shortage}", path = path.display())]
    Full {
        /// The tree.
        path: PathBuf,
        /// What the file system lacks.
        shortage: Shortage,
        /// What failed.
        source: Box<Self>,
    },
    /// dpkg finds something wrong with the result.
    #[error("dpkg --audit finds:\n{found}")]
    Audit {
        /// What it says.
        found: String,
    },
    /// A file of the tree cannot be changed.
    #[error("{path} in the tree cannot be written", path = path.display())]
    Tree {
        /// The path in the tree.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Cause for ConfigureError {
    fn class(&self) -> Class {
        match self {
            Self::Script { source, .. } | Self::Dpkg { source, .. } => source.class(),
            Self::Audit { .. } => Class::Unavailable,
            Self::Tree { .. } | Self::Full { .. } => Class::Host,
        }
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Script { source, .. } | Self::Dpkg { source, .. } => source.hints(),
            Self::Full { shortage, .. } => vec![shortage.hint()],
            Self::Tree { source, .. } => space::hint(source).into_iter().collect(),
            Self::Audit { .. } => Vec::new(),
        }
    }
}

fn tree(path: &Path) -> impl FnOnce(io::Error) -> ConfigureError + use<> {
    let path = path.to_owned();
    move |source| ConfigureError::Tree { path, source }
}

/// The environment of maintainer scripts.
///
/// **Source**: Debian Policy §6.4, debconf(7), deb-src-rules(5) for SOURCE_DATE_EPOCH, systemd's docs/ENVIRONMENT.md.
pub(crate) fn environment(mut command: Command, epoch: i64) -> Command {
    for (key, value) in [
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("LC_ALL", "C.UTF-8"),
        ("LANGUAGE", "C.UTF-8"),
        ("LANG", "C.UTF-8"),
        ("HOME", "/root"),
        ("PAGER", "cat"),
        // a snapshot of a tree has empty stubs in the place of its subvolumes, which nobody can write
        ("SYSTEMD_TMPFILES_FORCE_SUBVOL", "0"),
    ] {
        command = command.env(key, value);
    }
    command.unsynced = true;
    command.env("SOURCE_DATE_EPOCH", epoch.to_string())
}

/// Configures every package of an unpacked tree.
///
/// # Errors
/// Of the first script that fails, with its story.
pub fn configure(
    unpacked: &Unpacked,
    runner: &dyn Runner,
    options: &Options,
    reporter: &dyn Reporter,
) -> Result<Rootfs, ConfigureError> {
    let mut configuring = Configuring::new(&unpacked.tree, runner, options, reporter)?;
    configuring.begin()?;
    configuring.batch(unpacked)?;
    configuring.end()
}

/// A tree whose packages are configured batch by batch.
pub struct Configuring<'a> {
    rootfs: Rootfs,
    runner: &'a dyn Runner,
    options: &'a Options,
    reporter: &'a dyn Reporter,
    packages: usize,
    begun: Instant,
    /// Scripts have run since dpkg was last asked whether it is content.
    running: bool,
}

impl<'a> Configuring<'a> {
    /// Opens a tree.
    ///
    /// # Errors
    /// Where the tree cannot be opened.
    pub fn new(
        path: &Path,
        runner: &'a dyn Runner,
        options: &'a Options,
        reporter: &'a dyn Reporter,
    ) -> Result<Self, ConfigureError> {
        reporter.report(Event::Started { phase: Phase::Configure, unit: Unit::Packages, total: 0 });
        let rootfs = Rootfs { root: Root::open(path, Links::InTree).map_err(tree(path))? };
        let begun = Instant::now();
        Ok(Self { rootfs, runner, options, reporter, packages: 0, begun, running: false })
    }

    /// Gives a tree in which nothing was configured yet what scripts look for while they run.
    ///
    /// # Errors
    /// Where the tree cannot be written.
    pub fn begin(&mut self) -> Result<(), ConfigureError> {
        identity::before(&self.rootfs.root, self.options)
    }

    /// Configures the packages that are unpacked and not configured.
    ///
    /// # Errors
    /// Of the first script that fails, with its story.
    pub fn batch(&mut self, unpacked: &Unpacked) -> Result<(), ConfigureError> {
        self.run_batch(unpacked).map_err(|problem| full::blamed(problem, self.rootfs.path()))
    }

    fn run_batch(&mut self, unpacked: &Unpacked) -> Result<(), ConfigureError> {
        self.packages += unpacked.packages;
        if !std::mem::replace(&mut self.running, true) {
            no_services(&self.rootfs.root, self.options.epoch)?;
        }
        let timed = Timed::begin(self.reporter, Phase::Configure, "preinst scripts");
        let (mut ran, mut configured) = (BTreeSet::new(), BTreeSet::new());
        let mut named = unpacked.named.clone();
        for package in &unpacked.preinsts {
            let waits_for = |other: &&Scripted| package.after.contains(&other.name);
            for before in unpacked.preinsts.iter().filter(waits_for) {
                self.preinst(before, &mut ran)?;
            }
            let first: Vec<&str> =
                package.after.iter().map(String::as_str).filter(|name| configured.insert(*name)).collect();
            if !first.is_empty() {
                owners::resolve(&self.rootfs.root, &mut named)?;
                let options = ["--force-unsafe-io", "--force-confold", "--configure"];
                self.dpkg("configure", &[&options[..], &first].concat())?;
            }
            self.preinst(package, &mut ran)?;
        }
        owners::resolve(&self.rootfs.root, &mut named)?;
        drop(timed);
        if !unpacked.deferred.is_empty() {
            self.by_dpkg(&unpacked.deferred)?;
        }
        if unpacked.packages > 0 {
            self.at("dpkg --configure");
            let _timed = Timed::begin(self.reporter, Phase::Configure, "dpkg --configure");
            self.dpkg("configure", &["--force-unsafe-io", "--force-confold", "--configure", "-a"])?;
        }
        Ok(())
    }

    /// Runs a package's preinst, where it has not run.
    fn preinst<'p>(&self, package: &'p Scripted, ran: &mut BTreeSet<&'p str>) -> Result<(), ConfigureError> {
        if !ran.insert(&package.name) {
            return Ok(());
        }
        self.at(&package.name);
        let epoch = self.options.epoch;
        let root = &self.rootfs.root;
        preinst::run(root, package, self.runner, epoch, &|command| {
            let mut command = self.in_tree(command);
            command.substitutes = substitute::early(root);
            command
        })
    }

    /// Sees that dpkg is content, and gives the tree as it is when it is done or nothing is added to it.
    ///
    /// # Errors
    /// [`ConfigureError::Audit`].
    pub fn settled(&mut self) -> Result<&Rootfs, ConfigureError> {
        if std::mem::take(&mut self.running) {
            services_again(&self.rootfs.root)?;
            let _timed = Timed::begin(self.reporter, Phase::Configure, "dpkg --audit");
            let audit = self.dpkg("audit", &["--audit"])?;
            if !audit.trim().is_empty() {
                return Err(ConfigureError::Audit { found: audit });
            }
        }
        Ok(&self.rootfs)
    }

    /// Ends, when dpkg is content.
    ///
    /// # Errors
    /// [`ConfigureError::Audit`].
    pub fn end(mut self) -> Result<Rootfs, ConfigureError> {
        self.settled()?;
        self.reporter.report(Event::Finished {
            phase: Phase::Configure,
            elapsed: self.begun.elapsed(),
            summary: format!("{} packages", self.packages),
        });
        Ok(self.rootfs)
    }

    fn in_tree(&self, command: Command) -> Command {
        environment(command.in_tree(self.rootfs.path()), self.options.epoch)
    }

    fn at(&self, subject: &str) {
        self.reporter.report(Event::At { phase: Phase::Configure, subject: subject.to_owned() });
    }

    fn dpkg(&self, doing: &'static str, arguments: &[&str]) -> Result<String, ConfigureError> {
        let argv = std::iter::once("dpkg").chain(arguments.iter().copied());
        let mut command = self.in_tree(Command::new(argv));
        if doing == "configure" {
            // not while packages are unpacked: dpkg could not rename a file that is covered
            command.substitutes = substitute::all(&self.rootfs.root);
        }
        match self.runner.run(&command) {
            Ok(output) => Ok(output.text),
            Err(source) => Err(ConfigureError::Dpkg { doing, source: Box::new(source) }),
        }
    }

    /// Has dpkg unpack what shares paths with others, after their scripts could divert them.
    fn by_dpkg(&self, packages: &[PathBuf]) -> Result<(), ConfigureError> {
        let (root, epoch) = (&self.rootfs.root, self.options.epoch);
        let folder = Path::new("var/cache/sandbox-unpack");
        root.make_folders(folder, Meta::of_root(0o700, epoch)).map_err(tree(folder))?;
        let mut argv = vec!["--force-unsafe-io".to_owned(), "--unpack".to_owned()];
        for (number, package) in packages.iter().enumerate() {
            let path = folder.join(format!("{number}.deb"));
            let bytes = std::fs::read(package).map_err(tree(&path))?;
            root.write(&path, &bytes, Meta::of_root(0o600, epoch)).map_err(tree(&path))?;
            argv.push(format!("/{}", path.display()));
        }
        self.dpkg("unpack", &argv.iter().map(String::as_str).collect::<Vec<_>>())?;
        root.empty(folder).map_err(tree(folder))?;
        let (parent, name) = root.parent(folder).map_err(tree(folder))?;
        rustix::fs::unlinkat(&parent, &name, rustix::fs::AtFlags::REMOVEDIR)
            .map_err(|errno| tree(folder)(errno.into()))
    }
}

/// Gives a configured tree its identity, takes away what no two builds share, and syncs it.
///
/// # Errors
/// Where the tree cannot be written.
pub fn finish(rootfs: &Rootfs, options: &Options, reporter: &dyn Reporter) -> Result<(), ConfigureError> {
    let begun = Instant::now();
    let timed = Timed::begin(reporter, Phase::Finish, "normalise");
    identity::after(&rootfs.root, options)?;
    settle(rootfs, options.epoch)?;
    drop(timed);
    sync(rootfs, reporter)?;
    let summary = "identity, normalised, on disk".to_owned();
    reporter.report(Event::Finished { phase: Phase::Finish, elapsed: begun.elapsed(), summary });
    Ok(())
}

/// Takes away what no two builds share, and what is of one machine alone: what is left may be a layer.
///
/// # Errors
/// Where the tree cannot be written.
pub fn settle(rootfs: &Rootfs, epoch: i64) -> Result<(), ConfigureError> {
    devices::make(&rootfs.root, epoch)?;
    normalise::all(&rootfs.root, epoch)?;
    times::clamp(&rootfs.root, epoch, BESIDE)
}

/// Removes the keys by which SSH knows a host, and has the next boot make new ones; a tree without any stays as it is.
///
/// # Errors
/// Where a file cannot be removed or written.
pub fn renew_host_keys(root: &Root, epoch: i64) -> Result<(), ConfigureError> {
    normalise::host_keys(root, epoch)
}

/// Gives a settled tree its identity, and syncs it.
///
/// # Errors
/// Where the tree cannot be written.
pub fn identify(rootfs: &Rootfs, options: &Options, reporter: &dyn Reporter) -> Result<(), ConfigureError> {
    let begun = Instant::now();
    identity::after(&rootfs.root, options)?;
    sync(rootfs, reporter)?;
    let summary = "identity, on disk".to_owned();
    reporter.report(Event::Finished { phase: Phase::Finish, elapsed: begun.elapsed(), summary });
    Ok(())
}

fn sync(rootfs: &Rootfs, reporter: &dyn Reporter) -> Result<(), ConfigureError> {
    let _timed = Timed::begin(reporter, Phase::Finish, "sync");
    let folder = std::fs::File::open(rootfs.path()).map_err(tree(rootfs.path()))?;
    rustix::fs::syncfs(&folder).map_err(|errno| tree(rootfs.path())(errno.into()))
}

/// The script that keeps services from being started (invoke-rc.d(8), policy-rc.d).
const POLICY: &str = "usr/sbin/policy-rc.d";

fn no_services(root: &Root, epoch: i64) -> Result<(), ConfigureError> {
    let path = Path::new(POLICY);
    root.write(path, b"#!/bin/sh\nexit 101\n", Meta::of_root(0o755, epoch)).map_err(tree(path))
}

fn services_again(root: &Root) -> Result<(), ConfigureError> {
    root.remove(Path::new(POLICY)).map_err(tree(Path::new(POLICY)))
}
