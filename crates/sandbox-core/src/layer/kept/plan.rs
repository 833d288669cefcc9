//! What a tree will have: layers laid over each other, each path's last one winning.

use std::{collections::BTreeMap, ops::Range, os::unix::ffi::OsStrExt as _, path::Path};

use super::entry::{Entry, Kind};

/// How many bytes one piece of work copies at most, where it has several files.
const PIECE: u64 = 4 << 20;
/// How many paths one piece of work makes at most.
const PATHS: usize = 512;

/// What is made of layers: nothing is copied that a later layer has anew.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// The folders, each after that which it is in.
    pub folders: Vec<&'a Entry>,
    /// Everything else, by folder, with the number of its layer.
    pub others: Vec<(usize, &'a Entry)>,
    /// Paths that are hard links of an earlier one in `others`: the path, and the earlier one's.
    pub links: Vec<(&'a Path, &'a Path)>,
    /// Pieces of `others`: those that copy most come first. Each is of one folder.
    pub work: Vec<Range<usize>>,
    /// How many bytes will be copied.
    pub bytes: u64,
}

impl<'a> Plan<'a> {
    /// Lays layers over each other, the lowest first.
    pub fn of(layers: &'a [Vec<Entry>]) -> Self {
        let mut paths: BTreeMap<&[u8], (usize, &Entry)> = BTreeMap::new();
        for (number, layer) in layers.iter().enumerate() {
            for entry in layer {
                let path = entry.path.as_os_str().as_bytes();
                if entry.kind == Kind::Removed {
                    paths.remove(path);
                } else {
                    paths.insert(path, (number, entry));
                }
            }
        }
        let mut plan = Self::default();
        let mut first: BTreeMap<(usize, u64), &Path> = BTreeMap::new();
        for (number, entry) in paths.into_values() {
            if entry.kind == Kind::Folder {
                plan.folders.push(entry);
                continue;
            }
            if entry.group > 0 {
                if let Some(first) = first.get(&(number, entry.group)) {
                    plan.links.push((&entry.path, first));
                    continue;
                }
                first.insert((number, entry.group), &entry.path);
            }
            plan.bytes += bytes(entry);
            plan.others.push((number, entry));
        }
        // a folder's own paths stand together, which those of its folders would come between
        plan.others.sort_by(|(_, a), (_, b)| a.path.parent().cmp(&b.path.parent()));
        plan.cut();
        plan
    }

    fn cut(&mut self) {
        let items = self.others.iter();
        self.work = cut(items.map(|(_, entry)| (entry.path.parent().unwrap_or(Path::new("")), bytes(entry))));
    }
}

/// Cuts paths, given as their folder and how many bytes of each are copied, into pieces of work of one folder each:
/// those that copy most come first.
pub(super) fn cut<'a>(items: impl Iterator<Item = (&'a Path, u64)>) -> Vec<Range<usize>> {
    let mut pieces: Vec<(u64, Range<usize>)> = Vec::new();
    let mut last: Option<&Path> = None;
    for (at, (folder, size)) in items.enumerate() {
        match pieces.last_mut() {
            Some((sum, range))
                if last == Some(folder) && sum.saturating_add(size) <= PIECE && range.len() < PATHS =>
            {
                *sum += size;
                range.end = at + 1;
            }
            _ => pieces.push((size, at..at + 1)),
        }
        last = Some(folder);
    }
    pieces.sort_by_key(|(sum, _)| std::cmp::Reverse(*sum));
    pieces.into_iter().map(|(_, range)| range).collect()
}

fn bytes(entry: &Entry) -> u64 {
    match &entry.kind {
        Kind::File { segments, .. } => segments.iter().map(|segment| segment.length).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::kept::entry::{Meta, Segment};

    fn entry(path: &str, kind: Kind, group: u64) -> Entry {
        Entry { path: path.into(), kind, meta: Meta::default(), group, attributes: Vec::new() }
    }

    fn file(path: &str, length: u64, group: u64) -> Entry {
        let segments = vec![Segment { at: 0, length, data: 0 }];
        entry(path, Kind::File { size: length, segments }, group)
    }

    #[test]
    fn the_last_layer_of_a_path_wins_and_what_is_removed_is_not_made() {
        let layers = [
            vec![
                entry("", Kind::Folder, 0),
                entry("a", Kind::Folder, 0),
                file("a/b", 10, 1),
                file("a/c", 10, 1),
                file("d", 1, 0),
                file("e", 5, 0),
            ],
            vec![entry("a", Kind::Removed, 0), file("a", 100, 0), file("e", 7, 1), file("f", 7, 1)],
        ];
        let layers = [layers[0].clone(), [&[entry("a/b", Kind::Removed, 0)], layers[1].as_slice()].concat()];
        let plan = Plan::of(&layers);
        let folders: Vec<_> = plan.folders.iter().map(|entry| entry.path.to_str().unwrap()).collect();
        let others: Vec<_> =
            plan.others.iter().map(|(layer, entry)| (*layer, entry.path.to_str().unwrap())).collect();
        assert_eq!(folders, [""]);
        assert_eq!(others, [(1, "a"), (0, "d"), (1, "e"), (0, "a/c")]);
        assert_eq!(plan.links, [(Path::new("f"), Path::new("e"))]);
        assert_eq!(plan.bytes, 118);
    }

    #[test]
    fn work_is_cut_by_folder_and_by_bytes_the_largest_first() {
        let layers = [vec![
            file("a/1", 10, 0),
            file("a/2", PIECE, 0),
            file("a/3", 1, 0),
            file("b/1", PIECE * 3, 0),
            file("b/2", 0, 0),
        ]];
        let plan = Plan::of(&layers);
        let mut cut: Vec<_> = plan.work.clone();
        assert_eq!(plan.work[0], 3..4);
        cut.sort_by_key(|range| range.start);
        assert_eq!(cut, [0..1, 1..2, 2..3, 3..4, 4..5]);
    }
}
