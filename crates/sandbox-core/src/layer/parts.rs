//! What profiles put into a configured tree beside packages: users, files, links, units.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use super::{Doors, Order, npm};
use crate::{
    Result,
    configure::{self, Rootfs},
    error::{Cause, Class, Context as _},
    host::{
        root::{Meta, Root},
        runner::{Command, RunnerError},
    },
    lock::Lock,
    report::{Event, Phase},
    spec::{Layer, Npm, TreeFile, User},
    store::{Checksum, Wanted},
};

/// Why a part is not in the tree.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// A command in the tree failed.
    #[error("{what} cannot be set up")]
    Command {
        /// The part, in words: ``user `agent` ``.
        what: String,
        /// The command's own story.
        #[source]
        source: RunnerError,
    },
    /// A file cannot be written.
    #[error("{path} cannot be written into the tree", path = path.display())]
    Write {
        /// The path in the tree.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A tarball is not what it should be.
    #[error("the tarball of `{package}` cannot be unpacked")]
    Tarball {
        /// The package.
        package: String,
        /// Why.
        source: io::Error,
    },
    /// A tarball has a path that leads out of its folder.
    #[error("the tarball of `{package}` has the path `{path}`, which leads out of its folder")]
    Escape {
        /// The package.
        package: String,
        /// The path.
        path: String,
    },
    /// The lock does not say which tarball it is.
    #[error("the lock does not have the tarball of `{package}`")]
    Unlocked {
        /// The package.
        package: String,
    },
    /// A tarball's digest is none.
    #[error("the digest of `{package}` is malformed")]
    Digest {
        /// The package.
        package: String,
    },
    /// The owner is not in the tree's passwd file.
    #[error("`{owner}`, who is to own {path}, is no user of the tree", path = path.display())]
    Owner {
        /// The owner's name.
        owner: String,
        /// The path in the tree.
        path: std::path::PathBuf,
    },
}

impl Cause for PartError {
    fn class(&self) -> Class {
        match self {
            Self::Command { source, .. } => source.class(),
            Self::Write { .. } => Class::Host,
            Self::Tarball { .. } | Self::Escape { .. } | Self::Digest { .. } => Class::Untrusted,
            Self::Owner { .. } | Self::Unlocked { .. } => Class::File,
        }
    }
}

/// One user of several entries of the same name: later entries add groups.
fn users(layer: &Layer) -> Vec<User> {
    let mut merged: Vec<User> = Vec::new();
    for user in &layer.users {
        match merged.iter_mut().find(|known| known.name == user.name) {
            Some(known) => {
                let new = user.groups.iter().filter(|group| !known.groups.contains(group)).cloned();
                let new: Vec<_> = new.collect();
                known.groups.extend(new);
            }
            None => merged.push(user.clone()),
        }
    }
    merged
}

/// The commands that make the users.
fn user_commands(layer: &Layer) -> Vec<(String, Vec<String>)> {
    let mut commands = Vec::new();
    let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for user in users(layer) {
        let what = format!("user `{}`", user.name);
        for group in &user.groups {
            commands.push((format!("group `{group}`"), argv(&["groupadd", "--force", "--system", group])));
        }
        let uid = user.uid.to_string();
        commands.push((
            what,
            argv(&[
                "useradd",
                "--create-home",
                "--user-group",
                "--uid",
                &uid,
                "--groups",
                &user.groups.join(","),
                "--shell",
                &user.shell,
                &user.name,
            ]),
        ));
    }
    commands
}

/// The commands that enable and mask the units.
fn unit_commands(layer: &Layer) -> Vec<(String, Vec<String>)> {
    let one = |verb: &str, units: &[String]| {
        let mut argv = vec!["systemctl".to_owned(), "--quiet".to_owned(), verb.to_owned()];
        argv.extend(units.iter().cloned());
        (!units.is_empty()).then(|| (format!("units {}", units.join(", ")), argv))
    };
    one("enable", &layer.units.enable).into_iter().chain(one("mask", &layer.units.mask)).collect()
}

/// Counts the parts of a layer, for progress.
pub(super) fn count(layer: &Layer) -> u64 {
    let units = usize::from(!layer.units.enable.is_empty()) + usize::from(!layer.units.mask.is_empty());
    (users(layer).len() + layer.npm.len() + layer.files.len() + layer.links.len() + units) as u64
}

/// Puts every part in: users first, who own files; units last, which files may bring.
///
/// # Errors
/// Of the first part that fails.
pub(super) fn put(order: &Order, rootfs: &Rootfs, lock: &Lock, doors: &Doors<'_>) -> Result<()> {
    let epoch = lock.epoch;
    let layer = &order.spec.layer;
    let root = rootfs.root();
    let step = |subject: &str| {
        doors.reporter.report(Event::At { phase: Phase::Customize, subject: subject.to_owned() });
        doors.reporter.report(Event::Advanced { phase: Phase::Customize, delta: 1 });
    };
    let run = |(what, argv): (String, Vec<String>)| {
        step(&what);
        let command = configure::environment(Command::new(argv).in_tree(rootfs.path()), epoch);
        let ran = doors.runner.run(&command);
        ran.map(drop).map_err(|source| PartError::Command { what, source }).during("set up", "the profiles")
    };
    for command in user_commands(layer) {
        run(command)?;
    }
    for part in &layer.npm {
        step(&part.package);
        tarball(order, part, root, lock, doors)?;
    }
    for file in &layer.files {
        step(&file.path.display().to_string());
        write(root, file, epoch).during("write", format!("{}", file.path.display()))?;
    }
    for link in &layer.links {
        step(&link.path.display().to_string());
        make_link(root, &link.path, &link.target, epoch)
            .during("make", format!("the link {}", link.path.display()))?;
    }
    for command in unit_commands(layer) {
        run(command)?;
    }
    Ok(())
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> PartError + use<> {
    let path = path.to_owned();
    move |source| PartError::Write { path, source }
}

fn folder_of(root: &Root, path: &Path, epoch: i64) -> Result<(), PartError> {
    match path.parent() {
        Some(folder) => root.make_folders(folder, Meta::of_root(0o755, epoch)).map_err(failed(path)),
        None => Ok(()),
    }
}

fn write(root: &Root, file: &TreeFile, epoch: i64) -> Result<(), PartError> {
    let mode = u32::from_str_radix(&file.mode, 8).unwrap_or(0o644);
    let (uid, gid) = owner(root, &file.owner, &file.path)?;
    folder_of(root, &file.path, epoch)?;
    // TOML's multi-line strings are easier to read with a line feed at the top
    let text = file.content.strip_prefix('\n').unwrap_or(&file.content);
    root.write(&file.path, text.as_bytes(), Meta { mode, uid, gid, mtime: epoch }).map_err(failed(&file.path))
}

fn make_link(root: &Root, path: &Path, target: &str, epoch: i64) -> Result<(), PartError> {
    folder_of(root, path, epoch)?;
    root.link(path, OsStr::new(target), epoch).map_err(failed(path))
}

/// Finds a user's numbers in the tree's passwd file.
fn owner(root: &Root, name: &str, path: &Path) -> Result<(u32, u32), PartError> {
    if name == "root" {
        return Ok((0, 0));
    }
    let passwd = root.read(Path::new("etc/passwd")).map_err(failed(Path::new("/etc/passwd")))?;
    let passwd = String::from_utf8_lossy(&passwd).into_owned();
    let found = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() > 3 && fields[0] == name)
            .then(|| Some((fields[2].parse().ok()?, fields[3].parse().ok()?)))?
    });
    found.ok_or_else(|| PartError::Owner { owner: name.to_owned(), path: path.to_owned() })
}

/// Fetches a platform tarball and unpacks it below its folder.
fn tarball(order: &Order, part: &Npm, root: &Root, lock: &Lock, doors: &Doors<'_>) -> Result<()> {
    let (subject, epoch) = (|| format!("`{}`", part.package), lock.epoch);
    let found = lock.parts.iter().find(|found| found.package == part.package);
    let found = found
        .ok_or_else(|| PartError::Unlocked { package: part.package.clone() })
        .during("find", subject())?;
    let strip = part.platform.get(&lock.architecture).map_or("", |platform| platform.strip.as_str());
    let checksum = Checksum::from_integrity(&format!("sha512-{}", found.sha512))
        .map_err(|_| PartError::Digest { package: part.package.clone() })
        .during("fetch", subject())?;
    let urls = npm::urls(&order.npm_registry, found);
    let wanted = Wanted { urls: &urls, checksum, size: None, limit: npm::TARBALL_LIMIT };
    let progress = |_: u64| {};
    let entry = doors.store.fetch(&wanted, doors.transport, &progress).during("fetch", subject())?;
    doors.reporter.report(Event::Notice { text: format!("{} {}", found.tarball, found.tarball_version) });
    let file = std::fs::File::open(entry.path())
        .map_err(|source| PartError::Tarball { package: part.package.clone(), source })
        .during("unpack", subject())?;
    unpack(root, part, strip, file, epoch).during("unpack", subject())?;
    for (link, target) in &part.bin {
        let target = part.into.join(target);
        make_link(root, link, &target.to_string_lossy(), epoch).during("link", subject())?;
    }
    Ok(())
}

fn unpack(root: &Root, part: &Npm, strip: &str, file: std::fs::File, epoch: i64) -> Result<(), PartError> {
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
    fn a_tarballs_paths_stay_below_its_folder() {
        assert_eq!(below("package/bin/x", ""), Some(Some(PathBuf::from("bin/x"))));
        assert_eq!(below("package/vendor/a/bin/x", "vendor/a"), Some(Some(PathBuf::from("bin/x"))));
        assert_eq!(below("package/package.json", "vendor/a"), Some(None));
        for bad in ["/etc/passwd", "package/../../x", "../x"] {
            assert_eq!(below(bad, ""), None, "{bad}");
        }
    }

    #[test]
    fn a_user_of_two_profiles_is_made_once_with_all_groups() {
        let user = |groups: &[&str]| User {
            name: "agent".to_owned(),
            uid: 1000,
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            shell: "/bin/bash".to_owned(),
        };
        let layer = Layer { users: vec![user(&["sudo"]), user(&["docker", "sudo"])], ..Layer::default() };
        let commands = user_commands(&layer);
        let (_, useradd) = commands.last().unwrap();
        assert_eq!(commands.len(), 3);
        assert!(useradd.windows(2).any(|pair| pair == ["--groups", "sudo,docker"]), "{useradd:?}");
    }
}
