//! Which of the host's ids a machine's ids are: 65,536 of them, no two machines' the same.
//!
//! Where shadow hands ranges out (its `newuidmap` is there), liblxc wants root's ranges to be root's in /etc/subuid
//! and /etc/subgid, so that nobody else is given them.
//!
//! **Source**: subuid(5); `lxc_map_ids` of liblxc; systemd's UIDS-GIDS.md: 0x70000000 to 0x7FFDFFFF is nobody's, and
//! beyond what nspawn picks from and what shadow hands out.

use std::{fs, ops::Range, path::Path};

use sha2::Digest as _;

use super::error::{LxcError, io};
use crate::{host, machine::direct::run, name::MachineName};

/// How many ids a machine has.
pub const SIZE: u32 = 1 << 16;

/// Where machines' ids are taken from where nothing says otherwise.
const POOL: Range<u64> = 0x7000_0000..0x7FFE_0000;

/// The command that makes the pool root's.
pub const COMMAND: &str =
    "usermod --add-subuids 1879048192-2147352575 --add-subgids 1879048192-2147352575 root";

/// The file in a machine's folder that says which it has.
const FILE: &str = "idmap.json";

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Kept {
    base: u32,
}

/// Gives a machine its ids: those it had where they are still root's, else free ones.
pub(super) fn of(name: &MachineName, folder: &Path) -> Result<u32, LxcError> {
    let ranges = allowed();
    let known = read(folder).filter(|base| fits(&ranges, *base));
    if let Some(base) = known {
        return Ok(base);
    }
    let base = pick(name, &ranges, &others(folder)).ok_or(LxcError::NoIds)?;
    let text = serde_json::to_vec(&Kept { base }).unwrap_or_default();
    run::write(folder, FILE, &text).map_err(LxcError::Link)?;
    Ok(base)
}

/// Tells whether a machine more could have ids.
pub(super) fn check(machines: &Path) -> Result<(), LxcError> {
    let taken = others(&machines.join(".new"));
    let name = MachineName::new("a").map_err(|_| LxcError::NoIds)?;
    pick(&name, &allowed(), &taken).map(drop).ok_or(LxcError::NoIds)
}

/// Keeps two commands from picking the same ids: the lock falls with what is given back.
pub(super) fn lock() -> Result<fs::File, LxcError> {
    let name = "lxc.lock";
    host::lock::take(name).map_err(io("taking the lock", Path::new(host::lock::RUN).join(name)))
}

/// The ranges that may be used.
fn allowed() -> Vec<Range<u64>> {
    let shadow = ["/usr/bin/newuidmap", "/bin/newuidmap", "/usr/local/bin/newuidmap"];
    if !shadow.iter().any(|path| Path::new(path).exists()) {
        return vec![POOL];
    }
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    both(&of_root(&read("/etc/subuid")), &of_root(&read("/etc/subgid")))
}

/// Reads root's ranges: lines of `NAME:FIRST:COUNT`, the name may be a number.
fn of_root(text: &str) -> Vec<Range<u64>> {
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let first: u64 = fields.next()?.parse().ok()?;
        let count: u64 = fields.next()?.parse().ok()?;
        matches!(owner, "root" | "0").then(|| first..first.saturating_add(count))
    };
    text.lines().filter_map(range).collect()
}

/// Gives what is in a range of either list.
fn both(a: &[Range<u64>], b: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = a
        .iter()
        .flat_map(|a| b.iter().map(move |b| a.start.max(b.start)..a.end.min(b.end)))
        .filter(|range| !range.is_empty())
        .collect();
    all.sort_by_key(|range| range.start);
    all
}

fn fits(ranges: &[Range<u64>], base: u32) -> bool {
    let base = u64::from(base);
    ranges.iter().any(|range| range.start <= base && base + u64::from(SIZE) <= range.end)
}

/// Picks the first free ids from a place that the name picks.
fn pick(name: &MachineName, ranges: &[Range<u64>], others: &[u32]) -> Option<u32> {
    let size = u64::from(SIZE);
    let places: Vec<u32> = ranges
        .iter()
        .flat_map(|range| (0..(range.end - range.start) / size).map(move |step| range.start + step * size))
        // the ids of the host's own users and services are never a guest's
        .filter(|base| *base >= size)
        .filter_map(|base| u32::try_from(base).ok())
        .collect();
    let free = |base: &u32| !others.iter().any(|other| other.abs_diff(*base) < SIZE);
    let digest = sha2::Sha256::digest(name.as_str());
    let first = usize::from(u16::from_be_bytes([digest[0], digest[1]])) % places.len().max(1);
    places.iter().cycle().skip(first).take(places.len()).copied().find(free)
}

fn read(folder: &Path) -> Option<u32> {
    let kept: Kept = serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()?;
    Some(kept.base)
}

/// The ids of the other machines of the same state directory, and of containers that others made.
fn others(folder: &Path) -> Vec<u32> {
    let entries = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let machines = folder.parent().map(entries).unwrap_or_default();
    let ours = machines.iter().filter(|other| *other != folder).filter_map(|other| read(other));
    let foreign = entries(Path::new(super::CONTAINERS)).into_iter().flat_map(|container| {
        let own = container.file_name() == folder.file_name();
        let text = if own {
            String::new()
        } else {
            fs::read_to_string(container.join("config")).unwrap_or_default()
        };
        bases(&text)
    });
    ours.chain(foreign).collect()
}

/// Finds the first ids of a configuration's maps.
fn bases(config: &str) -> Vec<u32> {
    let base = |line: &str| {
        let value = line.strip_prefix("lxc.idmap")?.trim_start().strip_prefix('=')?;
        value.split_whitespace().nth(2)?.parse().ok()
    };
    config.lines().filter_map(base).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MachineName {
        MachineName::new(text).unwrap()
    }

    #[test]
    fn roots_ranges_are_those_of_both_files() {
        let uids = of_root("# c\nagent:100000:65536\nroot:1000000:200000\n0:5000000:65536\nroot:x:1\n");
        assert_eq!(uids, [1_000_000..1_200_000, 5_000_000..5_065_536]);
        let gids = of_root("root:1065536:1000000\n");
        assert_eq!(both(&uids, &gids), vec![1_065_536..1_200_000]);
        assert!(fits(&both(&uids, &gids), 1_065_536) && !fits(&both(&uids, &gids), 1_165_536));
    }

    #[test]
    fn no_two_machines_share_an_id() {
        let range = 1_000_000..1_000_000 + 3 * u64::from(SIZE) + 5;
        let ranges = std::slice::from_ref(&range);
        let mut taken = Vec::new();
        for machine in ["a", "b", "c"] {
            let base = pick(&name(machine), ranges, &taken).unwrap();
            assert!(taken.iter().all(|other: &u32| other.abs_diff(base) >= SIZE), "{taken:?} {base}");
            taken.push(base);
        }
        assert_eq!(pick(&name("d"), ranges, &taken), None, "all three are taken");
        assert_eq!(pick(&name("d"), ranges, &[1_000_000, 1_070_000]), None, "some are taken in part");
        assert!(pick(&name("d"), &[POOL], &[]).is_some_and(|base| base >= 0x7000_0000));
        let low = Range { start: 0, end: u64::from(SIZE) };
        assert_eq!(pick(&name("d"), &[low], &[]), None, "the host's own");
    }

    #[test]
    fn ids_of_containers_of_others_are_seen() {
        assert_eq!(
            bases("lxc.idmap = u 0 100000 65536\nlxc.idmap=g 0 200000 65536\nlxc.x = 1\n"),
            [100_000, 200_000]
        );
    }
}
