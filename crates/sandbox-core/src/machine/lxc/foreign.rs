//! Containers that somebody else made: they are listed and left alone.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::machine::{Foreign, Kind};

/// Lists the containers below a folder whose trees are not below another.
pub(super) fn list(containers: &Path, machines: &Path) -> Vec<Foreign> {
    let entries = fs::read_dir(containers).into_iter().flatten().flatten();
    let foreign = |folder: PathBuf| {
        let text = fs::read_to_string(folder.join("config")).ok()?;
        let tree = tree(&text);
        if tree.as_ref().is_some_and(|tree| tree.starts_with(machines)) {
            return None;
        }
        let name = folder.file_name()?.to_str()?.to_owned();
        let running = super::tool::is_running(&name);
        Some(Foreign { name, backend: Kind::Lxc, running, tree })
    };
    let mut all: Vec<_> = entries.filter_map(|entry| foreign(entry.path())).collect();
    all.sort();
    all
}

/// Finds the tree in a configuration, where it is a folder.
fn tree(config: &str) -> Option<PathBuf> {
    let value = |line: &str| {
        let value = line.trim().strip_prefix("lxc.rootfs.path")?.trim_start().strip_prefix('=')?.trim();
        Some(PathBuf::from(value.strip_prefix("dir:").unwrap_or(value)))
    };
    config.lines().filter_map(value).next_back().filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_others_are_told_from_ours() {
        let place = tempfile::tempdir().unwrap();
        let machines = Path::new("/var/lib/sandbox/machines");
        let write = |name: &str, config: &str| {
            fs::create_dir(place.path().join(name)).unwrap();
            fs::write(place.path().join(name).join("config"), config).unwrap();
        };
        write("byhand", "lxc.rootfs.path=/srv/byhand\n");
        write("ours", "lxc.rootfs.path = dir:/var/lib/sandbox/machines/ours/rootfs\n");
        write("odd", "lxc.rootfs.path = overlay:/a:/b\n");
        fs::create_dir(place.path().join("empty")).unwrap();
        let found = list(place.path(), machines);
        let names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["byhand", "odd"]);
        assert_eq!(found[0].tree.as_deref(), Some(Path::new("/srv/byhand")));
        assert_eq!(found[1].tree, None);
    }
}
