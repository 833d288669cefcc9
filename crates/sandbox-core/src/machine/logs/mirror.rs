//! Copies of a guest's journal files, kept up to date.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, MetadataExt as _},
        },
    },
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, RawDir, ResolveFlags, openat2};

/// The most bytes of all copies: of what is more, the oldest files are left out.
pub(super) const MOST: u64 = 512 << 20;

/// The largest file that is copied; journald begins a new one at 128 MiB unless it is configured otherwise.
///
/// **Source**: journald.conf(5), `SystemMaxFileSize=`.
const LARGEST: u64 = 256 << 20;

/// The most files, and the most names that are looked at in a directory.
const FILES: usize = 1024;
const NAMES: usize = 1 << 16;

/// How much is compared and copied at once.
const BLOCK: usize = 64 << 10;

/// Where journald keeps its files, and what the names of copies begin with: both may have a `system.journal`.
const PLACES: [(&str, &str); 2] = [("var/log/journal", ""), ("run/log/journal", "run-")];

/// A guest's journal files and their copies.
pub(super) struct Mirror<'g> {
    guest: &'g File,
    copies: PathBuf,
    known: BTreeMap<PathBuf, Stamp>,
}

/// What changes with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) files: usize,
    pub(super) left_out: usize,
}

struct Found {
    copy: PathBuf,
    file: File,
    stamp: Stamp,
}

impl<'g> Mirror<'g> {
    /// Begins with an empty directory of copies.
    pub(super) fn new(guest: &'g File, copies: &Path) -> io::Result<Self> {
        fs::create_dir_all(copies)?;
        Ok(Self { guest, copies: copies.to_owned(), known: BTreeMap::new() })
    }

    /// Copies what is new or has changed, the newest files first, and removes the copies of what is gone.
    pub(super) fn refresh(&mut self) -> io::Result<Seen> {
        let mut found = self.find();
        found.sort_by_key(|found| std::cmp::Reverse(found.stamp.changed));
        let (mut seen, mut bytes) = (Seen::default(), 0);
        let mut kept = BTreeMap::new();
        for Found { copy, file, stamp } in found {
            if stamp.size > LARGEST || stamp.size > MOST - bytes || seen.files == FILES {
                seen.left_out += 1;
                continue;
            }
            bytes += stamp.size;
            seen.files += 1;
            if self.known.get(&copy) != Some(&stamp) {
                if let Some(directory) = copy.parent() {
                    fs::create_dir_all(self.copies.join(directory))?;
                }
                update(&file, &self.copies.join(&copy), stamp.size)?;
            }
            kept.insert(copy, stamp);
        }
        for gone in self.known.keys().filter(|known| !kept.contains_key(*known)) {
            let _ = fs::remove_file(self.copies.join(gone));
        }
        self.known = kept;
        Ok(seen)
    }

    fn find(&self) -> Vec<Found> {
        let mut found = Vec::new();
        for (place, prefix) in PLACES {
            let Ok(top) = open(self.guest, Path::new(place), OFlags::DIRECTORY) else { continue };
            for machine in names(&top, is_machine) {
                let Ok(directory) = open(&top, &machine, OFlags::DIRECTORY) else { continue };
                for name in names(&directory, is_journal) {
                    let Ok(file) = open(&directory, &name, OFlags::NONBLOCK | OFlags::NOCTTY) else {
                        continue;
                    };
                    let mut copy = machine.join(prefix);
                    copy.as_mut_os_string().push(&name);
                    found.extend(stamp(&File::from(file), copy));
                }
            }
        }
        found
    }
}

/// Gives a file with its stamp, unless it is something else, such as a pipe or a device in a file's place.
fn stamp(file: &File, copy: PathBuf) -> Option<Found> {
    let found = file.metadata().ok()?;
    let stamp = Stamp {
        inode: (found.dev(), found.ino()),
        size: found.len(),
        changed: (found.mtime(), found.mtime_nsec()),
    };
    found.is_file().then_some(Found { copy, file: file.try_clone().ok()?, stamp })
}

/// Opens something below a directory, following no link, however the guest changes its tree meanwhile.
fn open(below: &impl std::os::fd::AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | flags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(below, path, flags, Mode::empty(), resolve)?)
}

fn names(directory: &OwnedFd, wanted: fn(&[u8]) -> bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut raw = RawDir::new(directory, buffer.spare_capacity_mut());
    for _ in 0..NAMES {
        let Some(Ok(entry)) = raw.next() else { break };
        let name = entry.file_name().to_bytes();
        if wanted(name) {
            found.push(PathBuf::from(OsStr::from_bytes(name)));
        }
    }
    found
}

/// Returns whether a directory is a machine's: its number in hexadecimal, and perhaps a namespace of journald.
///
/// **Source**: machine-id(5); systemd-journald.service(8), "Journal namespaces".
fn is_machine(name: &[u8]) -> bool {
    let (id, namespace) = name.split_at_checked(32).unwrap_or((b"", name));
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-".contains(byte);
    id.len() == 32
        && id.iter().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte))
        && (namespace.is_empty() || (namespace[0] == b'.' && namespace[1..].iter().all(plain)))
}

fn is_journal(name: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.@~".contains(byte);
    let ends = name.ends_with(b".journal") || name.ends_with(b".journal~");
    ends && name.len() < 200 && !name.starts_with(b".") && name.iter().all(plain)
}

/// Makes a copy equal to a file of which a size was seen. Its first block goes last: it has how much of the rest
/// counts. What is zero in a new copy stays a hole.
fn update(from: &File, copy: &Path, size: u64) -> io::Result<()> {
    let to = File::options().read(true).write(true).create(true).truncate(false).open(copy)?;
    to.set_len(size)?;
    let (mut new, mut old) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut block = |at: u64| -> io::Result<bool> {
        let want = usize::try_from(size - at).map_or(BLOCK, |left| left.min(BLOCK));
        let came = fill(from, &mut new[..want], at)?;
        fill(&to, &mut old[..want], at)?;
        if new[..came] != old[..came] {
            to.write_all_at(&new[..came], at)?;
        }
        Ok(came == want)
    };
    let mut at = BLOCK as u64;
    // one that became shorter meanwhile is copied as far as it goes
    while at < size && block(at)? {
        at += BLOCK as u64;
    }
    if size > 0 {
        block(0)?;
    }
    // inotify reports the change to a process that follows it
    to.set_len(size)
}

fn fill(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_regular_files_below_are_copied_and_kept_up_to_date() {
        let place = tempfile::tempdir().unwrap();
        let (tree, copies) = (place.path().join("tree"), place.path().join("copies"));
        let (kept, volatile) = (tree.join("var/log/journal").join(ID), tree.join("run/log/journal").join(ID));
        fs::create_dir_all(&kept).unwrap();
        fs::create_dir_all(&volatile).unwrap();
        let secret = place.path().join("secret.journal");
        fs::write(&secret, "of the host").unwrap();
        fs::write(kept.join("system.journal"), vec![7; BLOCK * 2 + 5]).unwrap();
        fs::write(volatile.join("system.journal"), "volatile").unwrap();
        fs::write(kept.join("odd name.journal"), "x").unwrap();
        symlink(&secret, kept.join("link.journal")).unwrap();
        symlink("system.journal", kept.join("inner.journal")).unwrap();
        let fifo = kept.join("pipe.journal");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        symlink(place.path(), tree.join("var/log/journal").join(ID.replace('0', "f"))).unwrap();
        let guest = File::open(&tree).unwrap();
        let mut mirror = Mirror::new(&guest, &copies).unwrap();
        assert_eq!(mirror.refresh().unwrap(), Seen { files: 2, left_out: 0 });
        let copy = copies.join(ID).join("system.journal");
        assert_eq!(fs::read(&copy).unwrap(), vec![7; BLOCK * 2 + 5]);
        assert_eq!(fs::read(copies.join(ID).join("run-system.journal")).unwrap(), b"volatile");
        assert_eq!(fs::read_dir(copies.join(ID)).unwrap().count(), 2);
        fs::write(kept.join("system.journal"), b"shorter").unwrap();
        fs::remove_file(volatile.join("system.journal")).unwrap();
        assert_eq!(mirror.refresh().unwrap().files, 1);
        assert_eq!(fs::read(&copy).unwrap(), b"shorter");
        assert_eq!(fs::read_dir(copies.join(ID)).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_is_a_link_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let other = place.path().join("host/journal").join(ID);
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("system.journal"), "of the host").unwrap();
        let tree = place.path().join("tree");
        fs::create_dir_all(tree.join("var/log")).unwrap();
        symlink(place.path().join("host/journal"), tree.join("var/log/journal")).unwrap();
        let guest = File::open(&tree).unwrap();
        let mut mirror = Mirror::new(&guest, &place.path().join("copies")).unwrap();
        assert_eq!(mirror.refresh().unwrap(), Seen::default());
    }

    #[test]
    fn what_is_too_large_is_left_out_and_said() {
        let place = tempfile::tempdir().unwrap();
        let kept = place.path().join("var/log/journal").join(ID);
        fs::create_dir_all(&kept).unwrap();
        File::create(kept.join("vast.journal")).unwrap().set_len(8 << 40).unwrap();
        fs::write(kept.join("system.journal"), "x").unwrap();
        // an older one, which the vast one does not count against
        let past = std::time::SystemTime::UNIX_EPOCH;
        File::options().write(true).open(kept.join("system.journal")).unwrap().set_modified(past).unwrap();
        let guest = File::open(place.path()).unwrap();
        let mut mirror = Mirror::new(&guest, &place.path().join("copies")).unwrap();
        assert_eq!(mirror.refresh().unwrap(), Seen { files: 1, left_out: 1 });
    }

    #[test]
    fn names_are_those_of_journald() {
        assert!(is_machine(ID.as_bytes()) && is_machine(format!("{ID}.names-1").as_bytes()));
        for name in ["", "..", &ID[1..], &format!("{ID}.a/b"), &ID.replace('a', "A"), &format!("{ID}x")] {
            assert!(!is_machine(name.as_bytes()), "{name}");
        }
        assert!(is_journal(b"user-1000@0005-ab.journal") && is_journal(b"system@x.journal~"));
        for name in [&b".journal"[..], b"a.journal.zst", b"a b.journal", b"\x1b.journal", b"x"] {
            assert!(!is_journal(name), "{name:?}");
        }
    }
}
