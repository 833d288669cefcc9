//! What a package of the distribution brought, as its own list says: everybody has it.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use md5::Digest as _;

use super::Finding;
use crate::host::root::{LISTS, Root};

const INFO: &str = "var/lib/dpkg/info";

/// Where the digests of configuration files are.
const STATUS: &str = "var/lib/dpkg/status";

/// Keys that a package makes on each machine for trials, and warns of in their names.
const KNOWN: &[&str] = &["etc/ssl/private/ssl-cert-snakeoil.key"];

/// Forgives what was found in files that are as their packages brought them, unless it is their name that tells.
pub fn forgive(root: &Root, found: &mut Vec<Finding>) -> io::Result<()> {
    found.retain(|finding| !KNOWN.iter().any(|known| finding.path == Path::new(known)));
    if found.iter().all(|finding| finding.begins.is_none()) {
        return Ok(());
    }
    let sums = sums(root)?;
    let forgiven = |finding: &Finding| -> bool {
        finding.begins.is_some()
            && sums.get(&finding.path).is_some_and(|sum| {
                root.read_up_to(&finding.path, super::LIMIT)
                    .is_ok_and(|bytes| hex(&md5::Md5::digest(bytes)) == *sum)
            })
    };
    found.retain(|finding| !forgiven(finding));
    Ok(())
}

fn sums(root: &Root) -> io::Result<HashMap<PathBuf, String>> {
    let folder = Path::new(INFO);
    let mut sums = HashMap::new();
    for name in if_there(root.list(folder))? {
        if name.extension().is_none_or(|end| end != "md5sums") {
            continue;
        }
        let text = root.read_up_to(&folder.join(name), LISTS)?;
        for line in String::from_utf8_lossy(&text).lines() {
            if let Some((sum, path)) = line.split_once("  ") {
                sums.insert(PathBuf::from(path), sum.to_owned());
                // where /usr is merged, packages may still say the old place
                sums.insert(Path::new("usr").join(path), sum.to_owned());
            }
        }
    }
    let status = if_there(root.read_up_to(Path::new(STATUS), LISTS))?;
    sums.extend(conffiles(&String::from_utf8_lossy(&status)));
    Ok(sums)
}

/// A tree without dpkg's lists is one where no file is a package's.
fn if_there<T: Default>(read: io::Result<T>) -> io::Result<T> {
    match read {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        read => read,
    }
}

/// Reads the configuration files of dpkg's status: ` /etc/x 0123… [obsolete]`, a line each.
///
/// **Source**: deb-conffiles(5), dpkg-query(1).
fn conffiles(status: &str) -> impl Iterator<Item = (PathBuf, String)> {
    status.lines().filter_map(|line| {
        let (path, rest) = line.strip_prefix(" /")?.split_once(' ')?;
        let sum = rest.split(' ').next()?;
        let fits = sum.len() == 32 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        fits.then(|| (PathBuf::from(path), sum.to_owned()))
    })
}

fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_files_are_known_by_the_status() {
        let sum = "0123456789abcdef0123456789abcdef";
        let status = format!(
            "Package: a\nConffiles:\n /etc/a {sum}\n /etc/b {sum} obsolete\n /etc/c newconffile\nDescription: x\n /etc/d is\n"
        );
        let found: Vec<_> = conffiles(&status).map(|(path, _)| path.display().to_string()).collect();
        assert_eq!(found, ["etc/a", "etc/b"]);
    }
}
