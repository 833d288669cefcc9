//! What is done to a machine that is there, beside its start, stop and removal.

use std::{
    fmt,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Backend, Chosen, Declared, Definition, Foreign, HostFolder, Leader, Needs, Network, attach,
    attach::Detached,
    copy,
    journal::Change,
    life::{LifeError, Machines},
    limits,
    mounts::{self, MountError, source::Commands, transient},
    processes::{self, Whom},
    record::{self, Claim, Hold, Record},
    signal::Signal,
};
use crate::{
    Result,
    error::{Cause, Class, Context as _, Hint},
    name::MachineName,
    report::Event,
};

/// Why a machine was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// A folder of the host is mounted there already.
    #[error("{path} has a mount of the machine's already", path = path.display())]
    Mounted {
        /// Where the guest has it.
        path: PathBuf,
    },
    /// Nothing that `sandbox mount` made is there.
    #[error("nothing of the host is mounted on {path}", path = path.display())]
    NotMounted {
        /// Where the guest would have it.
        path: PathBuf,
    },
    /// It is none that could be ours.
    #[error("{why}")]
    Unadoptable {
        /// Why.
        why: String,
    },
    /// It cannot be mounted now, for the machine does not run, nor later, for nobody asked.
    #[error("it does not run, and a mount that is not permanent ends with it")]
    Stopped {
        /// The command that makes it permanent.
        command: String,
    },
}

impl Cause for ChangeError {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn hints(&self) -> Vec<Hint> {
        match self {
            Self::Stopped { command } => vec![Hint::run("have it at each start", command.clone())],
            _ => Vec::new(),
        }
    }
}

/// A directory of the host that is to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedMount {
    /// The directory, by its absolute path; links on the way are followed.
    pub source: PathBuf,
    /// Where the guest has it.
    pub path: PathBuf,
    /// The guest can only read it.
    pub read_only: bool,
    /// The guest can write to the git directory of a writable tree.
    pub writable_git: bool,
    /// It is mounted again at each start.
    pub permanent: bool,
    /// Whose its files are in the machine.
    pub owners: mounts::Wanted,
}

/// How a change took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Took {
    /// It counts now.
    Now,
    /// It counts at the next start.
    NextStart,
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Now => "now",
            Self::NextStart => "at the next start",
        })
    }
}

/// A machine whose inside is reached, held where it must not start meanwhile.
pub struct Held {
    /// How it is reached.
    pub side: copy::Side,
    _claim: Option<Claim>,
}

fn subject(name: &MachineName) -> String {
    format!("machine `{name}`")
}

impl Machines<'_> {
    /// Gives a machine's definition and its first process where it runs.
    ///
    /// # Errors
    /// Where there is no such machine, or its backend cannot be asked.
    pub fn look_at(&self, name: &MachineName) -> Result<(Definition, Option<Leader>)> {
        let definition = self.records.read(name).during("look at", subject(name))?.definition;
        let backend = self.backend(definition.backend).during("look at", subject(name))?;
        let system_calls = definition.needs.system_calls.clone();
        let leader = backend.leader(name)?.map(|leader| Leader { system_calls, ..leader });
        Ok((definition, leader))
    }

    /// Gives the first process of a machine that runs.
    ///
    /// # Errors
    /// Where it does not.
    pub fn leader(&self, name: &MachineName, verb: &'static str) -> Result<Leader> {
        let (_, leader) = self.look_at(name)?;
        leader.ok_or_else(|| LifeError::Stopped { name: name.clone() }).during(verb, subject(name))
    }

    /// Reaches a machine's inside; one that is stopped cannot start meanwhile.
    ///
    /// # Errors
    /// Where there is no such machine, or somebody changes it.
    pub fn hold(&self, name: &MachineName, program: &Path, holder: &str) -> Result<Held> {
        let (definition, leader) = self.look_at(name)?;
        if let Some(leader) = leader {
            let side = copy::Side::Running { leader, program: program.to_owned() };
            return Ok(Held { side, _claim: None });
        }
        let (claim, _) = self.claim_as(name, holder, Hold::Interruptible, "hold")?;
        Ok(Held { side: copy::Side::Stopped { definition: Box::new(definition) }, _claim: Some(claim) })
    }

    /// Sends a signal to a machine's processes; gives how many got it.
    ///
    /// # Errors
    /// Where it does not run or the kernel refuses.
    pub fn kill(&self, name: &MachineName, signal: Signal, whom: Whom) -> Result<usize> {
        let leader = self.leader(name, "signal")?;
        processes::kill(&leader, signal, whom).during("signal", subject(name))
    }

    /// Changes what a user chose for a machine: it counts at once where it runs, and at every start.
    ///
    /// It is journalled: after a crash the next command completes it.
    ///
    /// # Errors
    /// Where the host cannot do what is asked for; then nothing is changed.
    pub fn choose(
        &self,
        name: &MachineName,
        holder: &str,
        unenforced: bool,
        edit: impl FnOnce(&mut Chosen),
    ) -> Result<Chosen> {
        let (mut claim, from) = self.claim(name, holder, "change")?;
        let mut to = from.clone();
        edit(&mut to.definition.chosen);
        let chosen = to.definition.chosen.clone();
        if to != from {
            let before = &from.definition.chosen.limits;
            // a node's limits are its own to enforce
            if to.definition.place.is_none() {
                limits::check(&to.definition, before, unenforced).during("change", subject(name))?;
            }
            let change = Change { verb: "set".to_owned(), from, to, moves: Vec::new(), failed: false };
            self.change(&mut claim, change)?;
        }
        Ok(chosen)
    }

    /// Does what a change of what was chosen takes beside the backend's configuration and the tree. May be repeated.
    pub(super) fn apply(&self, from: &Definition, to: &Definition) -> Result<()> {
        let name = &to.name;
        let (before, chosen) = (&from.chosen, &to.chosen);
        let moved = from.name != to.name || from.backend != to.backend;
        if !moved && before == chosen {
            return Ok(());
        }
        let backend = self.backend(to.backend).during("change", subject(name))?;
        if chosen.limits.disk != before.limits.disk {
            limits::disk(to).during("change", subject(name))?;
        }
        backend.apply(to)?;
        if moved && chosen.autostart.is_some() || chosen.autostart != before.autostart {
            self.order(backend, from, to)?;
        }
        Ok(())
    }

    /// Tells the backend which machines start with the host, and after which others.
    ///
    /// The record of one that is being changed is still that of before.
    fn order(&self, backend: &dyn Backend, before: &Definition, changed: &Definition) -> Result<()> {
        let all = self.readable("order")?.0;
        let others = all
            .iter()
            .map(|record| &record.definition)
            .filter(|other| other.name != changed.name && other.name != before.name);
        let mut started: Vec<_> = others
            .chain([changed])
            .filter(|definition| definition.backend == backend.kind())
            .filter_map(|definition| Some((definition.chosen.autostart?.order, definition)))
            .collect();
        started.sort_by_key(|(order, definition)| (*order, definition.name.clone()));
        if changed.chosen.autostart.is_none() {
            backend.autostart(changed, &[])?;
        }
        for (order, definition) in &started {
            let earlier: Vec<_> = started
                .iter()
                .filter(|(other, _)| other < order)
                .map(|(_, earlier)| earlier.name.clone())
                .collect();
            backend.autostart(definition, &earlier)?;
        }
        Ok(())
    }

    /// Lists the machines that start with the host, in order, each with the seconds that pass before it does.
    ///
    /// # Errors
    /// Where a record cannot be read.
    pub fn autostarted(&self) -> Result<Vec<(MachineName, Duration)>> {
        let all = self.readable("list")?.0;
        let mut started: Vec<_> = all
            .into_iter()
            // a node starts its own
            .filter(|record| record.definition.place.is_none())
            .filter_map(|record| Some((record.definition.chosen.autostart?, record)))
            .collect();
        started.sort_by_key(|(autostart, record)| (autostart.order, record.definition.name.clone()));
        let each = started
            .into_iter()
            .map(|(autostart, record)| (record.definition.name, Duration::from_secs(autostart.delay.into())));
        Ok(each.collect())
    }

    /// Lists what the backends have that is none of ours.
    ///
    /// # Errors
    /// Where a backend cannot be asked.
    pub fn foreign(&self) -> Result<Vec<Foreign>> {
        let mut all = Vec::new();
        for backend in &self.backends {
            all.extend(backend.foreign()?);
        }
        let ours = |name: &str| {
            let name = MachineName::new(name);
            name.is_ok_and(|name| std::fs::symlink_metadata(self.records.folder(&name)).is_ok())
        };
        all.retain(|found| !ours(&found.name));
        Ok(all)
    }

    /// Makes a machine that somebody else made one of ours: it is written down as it stands. What runs goes on as it
    /// is; from the next start on it has our settings, the wall among them.
    ///
    /// # Errors
    /// Where its name or its place is none that a machine of ours can have.
    pub fn adopt(&self, found: &Foreign, program: &Path, now: i64, holder: &str) -> Result<MachineName> {
        let subject = || format!("machine `{}`", found.name);
        let refused = |why| ChangeError::Unadoptable { why };
        let name = MachineName::new(&found.name)
            .map_err(|invalid| refused(invalid.to_string()))
            .during("adopt", subject())?;
        let backend = self.backend(found.backend).during("adopt", subject())?;
        let tree = backend.tree(&name);
        if found.tree.as_ref() != Some(&tree) {
            let text = format!("its tree is not {}", tree.display());
            return Err(refused(text)).during("adopt", subject());
        }
        let definition = Definition {
            name: name.clone(),
            backend: found.backend,
            tree,
            needs: Needs::default(),
            network: Network::default(),
            exceptions: Vec::new(),
            volumes: Vec::new(),
            privileged: false,
            program: program.to_owned(),
            chosen: Chosen::default(),
            place: None,
        };
        let record = Record {
            version: 1,
            definition: definition.clone(),
            image: "foreign".to_owned(),
            profiles: Vec::new(),
            packages: 0,
            layers: Vec::new(),
            declared: Declared::default(),
            schedule: None,
            created: now,
        };
        let claim = self
            .records
            .claim_new::<record::Error>(&name, holder, Claim::release)
            .during("adopt", subject())?;
        let adopted =
            backend.adopt(&definition).and_then(|()| claim.commit(&record).during("adopt", subject()));
        if adopted.is_err() {
            let _ = claim.release();
        }
        adopted.map(|()| name)
    }

    /// Mounts a directory of the host in a machine, now where it runs, and at each start where that is asked for.
    ///
    /// A mount of a stopped machine that has the same source and place is replaced: the directory that is there now is
    /// accepted.
    ///
    /// # Errors
    /// Where the kernel refuses, the place is taken, or a guest could replace the directory.
    pub fn mount(
        &self,
        name: &MachineName,
        wanted: &WantedMount,
        program: &Path,
        holder: &str,
    ) -> Result<(HostFolder, Took)> {
        let (definition, leader) = self.look_at(name)?;
        let transient = self.transient(name)?;
        let mut records = self.records.list().during("mount in", subject(name))?;
        transient.complete(&mut records);
        let resolved = mounts::source::resolve(&wanted.source).during("mount in", subject(name))?;
        mounts::overlap::check_path(&resolved, &records).during("mount in", subject(name))?;
        let wanted = &WantedMount { source: resolved.path, ..wanted.clone() };
        let replaces = |known: &HostFolder| {
            leader.is_none() && wanted.permanent && known.source == wanted.source && known.path == wanted.path
        };
        let taken =
            definition.chosen.mounts.iter().any(|known| known.path == wanted.path && !replaces(known))
                || definition.volumes.iter().any(|volume| volume.path == wanted.path);
        if taken {
            return Err(ChangeError::Mounted { path: wanted.path.clone() }).during("mount in", subject(name));
        }
        let folder = self.recognized(&definition, wanted).during("mount in", subject(name))?;
        if leader.is_none() && !wanted.permanent {
            let command = mounts::commands(name, &folder).accept;
            return Err(ChangeError::Stopped { command }).during("mount in", subject(name));
        }
        mounts::overlap::check(&folder, &records).during("mount in", subject(name))?;
        if let Some(leader) = &leader {
            transient.add(name, leader, &folder).during("mount in", subject(name))?;
        }
        drop(transient);
        if let Err(error) = self.attach(&definition, leader.as_ref(), &folder, (program, holder)) {
            self.transient(name)?.remove(name, &folder).during("mount in", subject(name))?;
            return Err(error);
        }
        if wanted.permanent {
            self.choose(name, holder, false, |chosen| {
                chosen.mounts.retain(|known| known.path != folder.path);
                chosen.mounts.push(folder.clone());
                // one below another is mounted after it
                chosen.mounts.sort_by(|a, b| a.path.cmp(&b.path));
            })?;
        }
        Ok((folder, if leader.is_some() { Took::Now } else { Took::NextStart }))
    }

    /// Makes the mount point in a machine, and mounts a directory on it where the machine runs.
    fn attach(
        &self,
        definition: &Definition,
        leader: Option<&Leader>,
        folder: &HostFolder,
        (program, holder): (&Path, &str),
    ) -> Result<()> {
        let name = &definition.name;
        let held = self.hold(name, program, holder)?;
        copy::make_folder(&held.side, &folder.path).during("mount in", subject(name))?;
        drop(held);
        let Some(leader) = leader else { return Ok(()) };
        let volumes: Vec<_> = definition.volumes.iter().map(|volume| volume.path.clone()).collect();
        attach::attach(leader, std::slice::from_ref(folder), &[], &volumes).during("mount in", subject(name))
    }

    /// Waits for other processes that add or remove mounts, of any machine.
    fn transient(&self, name: &MachineName) -> Result<transient::Mounts<'_>> {
        transient::Mounts::hold(&self.records).during("mount in", subject(name))
    }

    /// Opens a source, and finds whose its files are in the machine.
    pub(super) fn recognized(
        &self,
        definition: &Definition,
        wanted: &WantedMount,
    ) -> Result<HostFolder, MountError> {
        let found = mounts::source::open(&wanted.source, &Commands::NONE)?;
        let owners = mounts::owners(definition, &wanted.owners, found.uid)?;
        if found.uid == 0 && !wanted.read_only && !definition.privileged {
            let text = format!(
                "{} belongs to root: a set-id program that the machine makes in it is root's on the host; give the \
                 directory to a user, or mount it with --read-only",
                wanted.source.display()
            );
            self.reporter.report(Event::Warning { text });
        }
        let folder = HostFolder {
            source: wanted.source.clone(),
            path: wanted.path.clone(),
            read_only: wanted.read_only,
            writable_git: wanted.writable_git,
            identity: Some(found.identity),
            owners: Some(owners),
        };
        self.report_git(&folder, &found.fd);
        Ok(folder)
    }

    /// Reports what becomes of a git directory in a mount, and which is not guarded.
    fn report_git(&self, folder: &HostFolder, top: &OwnedFd) {
        let source = folder.source.display();
        let guarded = attach::git::guarded(top, folder);
        if !guarded.is_empty() {
            let all: Vec<_> = guarded.iter().map(|git| format!("`{}`", git.path.display())).collect();
            let text = format!(
                "read-only in the machine: {} of {source}, as git on the host runs what hooks and configuration name; \
                 --writable-git makes it writable",
                all.join(" and ")
            );
            self.reporter.report(Event::Notice { text });
        } else if !folder.read_only && !folder.writable_git && attach::git::is_bare(top) {
            let text = format!(
                "{source} is a bare git repository: git on the host runs what the machine writes into its hooks and \
                 configuration; mount it with --read-only"
            );
            self.reporter.report(Event::Warning { text });
        }
    }

    /// Takes a directory of the host out of a machine, now and for later starts; one below another, with which it came
    /// at the machine's start, is there until the machine ends or the other one is taken out.
    ///
    /// # Errors
    /// Where none is there.
    pub fn unmount(&self, name: &MachineName, path: &Path, holder: &str) -> Result<Took> {
        let (definition, leader) = self.look_at(name)?;
        let known = definition.chosen.mounts.iter().find(|known| known.path == path).cloned();
        let volume = definition.volumes.iter().any(|volume| volume.path == path);
        let done = match &leader {
            Some(leader) if !volume => attach::detach(leader, path).during("unmount in", subject(name))?,
            _ => Detached::Absent,
        };
        if let (Some(leader), Some(mount)) = (&leader, &known) {
            self.transient(name)?.add(name, leader, mount).during("unmount in", subject(name))?;
        }
        if known.is_some() {
            self.choose(name, holder, false, |chosen| chosen.mounts.retain(|mount| mount.path != path))?;
        }
        match done {
            Detached::Gone => Ok(Took::Now),
            Detached::Locked if known.is_some() => Ok(Took::NextStart),
            Detached::Absent if known.is_some() => Ok(Took::Now),
            _ => Err(ChangeError::NotMounted { path: path.to_owned() }).during("unmount in", subject(name)),
        }
    }
}
