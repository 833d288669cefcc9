//! Variables that the guest sets for everybody: its environment.d(5), which a login's units have too.

use std::{collections::HashMap, os::fd::OwnedFd, path::Path};

use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, openat2};

use crate::host::live;

/// Where they stand.
const FOLDER: &str = "etc/environment.d";

/// The most bytes that are read of a file, and the most files.
const LIMIT: u64 = 64 << 10;
const FILES: usize = 64;

/// The most bytes of a value, and of all variables: a value may name others, so that each line could double what there is.
/// execve(2) takes 128 KiB of one.
const VALUE: usize = 64 << 10;
const ALL: usize = 512 << 10;

/// Reads the variables of a guest over those that there are; a file that cannot be read says nothing.
#[must_use]
pub(super) fn variables(root: &OwnedFd, before: Vec<(String, String)>) -> Vec<(String, String)> {
    texts(root).unwrap_or_default().iter().fold(before, |all, text| over(text, all))
}

fn texts(root: &OwnedFd) -> rustix::io::Result<Vec<String>> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    // a guest's links lead nowhere but into the guest
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let folder = openat2(root, FOLDER, flags | OFlags::RDONLY, Mode::empty(), within)?;
    let mut names: Vec<String> = Dir::read_from(&folder)?
        .filter_map(|entry| entry.ok()?.file_name().to_str().ok().map(str::to_owned))
        .filter(|name| name.ends_with(".conf"))
        .take(FILES)
        .collect();
    names.sort();
    Ok(names.iter().filter_map(|name| text(root, &format!("{FOLDER}/{name}"))).collect())
}

/// Reads a file of variables of a guest; none where it cannot be read, or is too large.
pub(super) fn text(root: &OwnedFd, path: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    // a guest's links lead nowhere but into the guest
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(root, path, flags, Mode::empty(), within).ok()?;
    let bytes = live::read(file.into(), Path::new(path), LIMIT).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Sets the variables of a file over those that there are; one that is too long is left as it was.
///
/// **Source**: environment.d(5): `KEY=VALUE`, quotes, backslashes, `${KEY}` and `$KEY`.
pub(super) fn over(text: &str, mut all: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut places: HashMap<String, usize> =
        all.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
    let mut size: usize = all.iter().map(|(key, value)| key.len() + value.len()).sum();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let Some((key, value)) = line.split_once('=') else { continue };
        if !crate::spec::is_variable(key) || value.contains('\0') {
            continue;
        }
        let value_of = |name: &str| places.get(name).map_or("", |at| all[*at].1.as_str());
        let Some(value) = expanded(value.trim(), value_of) else { continue };
        let place = places.get(key).copied();
        let grown = match place {
            Some(at) => size - all[at].1.len() + value.len(),
            None => size + key.len() + value.len(),
        };
        if grown > ALL {
            continue;
        }
        size = grown;
        match place {
            Some(at) => all[at].1 = value,
            None => {
                places.insert(key.to_owned(), all.len());
                all.push((key.to_owned(), value));
            }
        }
    }
    all
}

/// Expands a value; `None` where it is too long.
fn expanded<'a>(value: &str, value_of: impl Fn(&str) -> &'a str) -> Option<String> {
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let mut text = String::new();
    let mut rest = value;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match letter {
            '\\' => {
                let next = rest.chars().next();
                text.extend(next);
                rest = &rest[next.map_or(0, char::len_utf8)..];
            }
            '$' => {
                let of_name = |letter: char| letter == '_' || letter.is_ascii_alphanumeric();
                let braced = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
                let plain = rest.split_at(rest.find(|letter| !of_name(letter)).unwrap_or(rest.len()));
                let (name, after) = braced.unwrap_or(plain);
                let other = value_of(name);
                if text.len() + other.len() > VALUE {
                    return None;
                }
                text.push_str(other);
                rest = after;
            }
            letter => text.push(letter),
        }
    }
    (text.len() <= VALUE).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_read_as_systemd_reads_them() {
        let before = vec![("PATH".to_owned(), "/bin".to_owned())];
        let text = "# c\nA=\"a \\\"b\\\" \\$HOME \\\\ é\"\nPATH=\"/opt/x:${PATH}\"\nB=$A-$NONE.\nno line\n1X=2\nPATH=\"${PATH}:/z\"\n";
        let all = over(text, before);
        let get = |key: &str| {
            all.iter().filter(|(known, _)| known == key).map(|(_, v)| v.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(get("A"), ["a \"b\" $HOME \\ é"]);
        assert_eq!(get("PATH"), ["/opt/x:/bin:/z"]);
        assert_eq!(get("B"), ["a \"b\" $HOME \\ é-."]);
        assert!(get("1X").is_empty());
    }

    #[test]
    fn what_doubles_and_what_is_many_is_bounded() {
        let doubling = format!("A=0123456789abcdef\n{}B=b\n", "A=$A$A\n".repeat(200));
        let all = over(&doubling, Vec::new());
        let [(_, a), (_, b)] = all.try_into().unwrap();
        assert!(a.len() <= VALUE && a.len() > VALUE / 2, "{}", a.len());
        assert_eq!(b, "b");
        let many: String = (0..1_000_000).map(|at| format!("V{at}=x\n")).collect();
        let all = over(&many, Vec::new());
        assert!(
            all.len() > 1000 && all.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() <= ALL
        );
    }
}
