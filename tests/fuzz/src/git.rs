//! Packs of git: whatever one says, it is read or refused, and no path of a commit leads out of its folder.

use sandbox_core::layer::git::commits;

/// Takes the bytes as what stands in a pack after its head.
pub fn check(data: &[u8]) {
    let (count, objects) = data.split_first().unwrap_or((&0, &[]));
    let pack = [b"PACK\0\0\0\x02\0\0\0", &[*count][..], objects].concat();
    let Ok(commits) = commits(&pack) else { return };
    assert!(commits.len() <= usize::from(*count));
    for path in commits.iter().flatten() {
        let sound = |part: &str| !matches!(part, "" | "." | ".." | ".git");
        assert!(path.split('/').all(sound), "{path:?}");
    }
}
