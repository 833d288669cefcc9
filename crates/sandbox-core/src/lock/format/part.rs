//! The tables of parts in a lock file.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Error, is_address, is_word, line_of, optional, quoted};
use crate::{
    deb::packages,
    lock::{Fetched, LockedPart, NpmPackage, PythonFile},
};

/// Writes a part: what it is called, its version, and then what its kind has.
pub(super) fn write(text: &mut String, part: &LockedPart) {
    let (named, versioned) = match part.what {
        Fetched::Git { .. } => ("url", "commit"),
        Fetched::Download { .. } => ("name", "version"),
        _ => ("package", "version"),
    };
    let _ = write!(
        text,
        "\n[[part]]\nkind = \"{}\"\n{named} = {}\n{versioned} = {}\n",
        part.kind(),
        quoted(&part.name),
        quoted(&part.version),
    );
    match &part.what {
        Fetched::Npm { tarball, tarball_version, path, url, sha512 } => {
            optional(text, "tarball", tarball);
            optional(text, "tarball_version", tarball_version);
            optional(text, "path", path);
            optional(text, "url", url.as_deref().unwrap_or_default());
            optional(text, "sha512", sha512);
        }
        Fetched::NpmTree { packages } => {
            let _ = writeln!(text, "packages = {}", tables(packages, npm_package));
        }
        Fetched::Python { python, asked, files } => {
            optional(text, "python", python);
            let _ = writeln!(text, "asked = {}", super::list(asked));
            let _ = writeln!(text, "files = {}", tables(files, python_file));
        }
        Fetched::Download { url, sha256 } => {
            let _ = write!(text, "url = {}\nsha256 = \"{sha256}\"\n", quoted(url));
        }
        Fetched::Git { revision, sha256 } => {
            let _ = write!(text, "revision = {}\nsha256 = \"{sha256}\"\n", quoted(revision));
        }
    }
}

/// Writes one table a line, so that one that moves is one line of a diff.
fn tables<T>(items: &[T], fields: impl Fn(&T) -> Vec<(&'static str, String)>) -> String {
    let line = |item: &T| {
        let fields: Vec<_> =
            fields(item).into_iter().map(|(key, value)| format!("{key} = {}", quoted(&value))).collect();
        format!("  {{ {} }},\n", fields.join(", "))
    };
    if items.is_empty() {
        "[]".to_owned()
    } else {
        format!("[\n{}]", items.iter().map(line).collect::<String>())
    }
}

fn npm_package(package: &NpmPackage) -> Vec<(&'static str, String)> {
    let NpmPackage { path, name, version, tarball, sha512 } = package;
    let mut fields = vec![("path", path.clone()), ("version", version.clone())];
    fields.extend(name.clone().map(|name| ("name", name)));
    fields.extend(tarball.clone().map(|tarball| ("tarball", tarball)));
    fields.push(("sha512", sha512.clone()));
    fields
}

fn python_file(file: &PythonFile) -> Vec<(&'static str, String)> {
    let PythonFile { file, url, sha256 } = file;
    vec![("file", file.clone()), ("url", url.clone()), ("sha256", sha256.to_string())]
}

/// Checks what later stages build paths and addresses of.
pub(super) fn check(text: &str, at: usize, part: &LockedPart) -> Result<(), Error> {
    let (named, versioned) = match part.what {
        Fetched::Git { .. } => ("url", "commit"),
        Fetched::Download { .. } => ("name", "version"),
        _ => ("package", "version"),
    };
    let plain = |text: &str| !text.trim().is_empty() && !text.contains(char::is_control);
    let mut wrong = Vec::new();
    let mut see = |sound: bool, field: &'static str, value: &str| {
        if !sound {
            wrong.push((field, value.to_owned()));
        }
    };
    see(is_word(&part.name), named, &part.name);
    see(is_word(&part.version), versioned, &part.version);
    match &part.what {
        Fetched::Npm { tarball, tarball_version, path, url, sha512 } => {
            see(is_word(tarball), "tarball", tarball);
            see(is_word(tarball_version), "tarball_version", tarball_version);
            see(packages::is_path(path), "path", path);
            see(url.as_deref().is_none_or(is_address), "url", url.as_deref().unwrap_or_default());
            see(is_sha512(sha512), "sha512", sha512);
        }
        Fetched::NpmTree { packages } => {
            for NpmPackage { path, name, version, tarball, sha512 } in packages {
                see(path.starts_with("node_modules/") && packages::is_path(path), "path", path);
                see(name.as_deref().is_none_or(is_word), "name", name.as_deref().unwrap_or_default());
                see(is_word(version), "version", version);
                let place = |tarball: &str| packages::is_path(tarball) || is_address(tarball);
                see(tarball.as_deref().is_none_or(place), "tarball", tarball.as_deref().unwrap_or_default());
                see(is_sha512(sha512), "sha512", sha512);
            }
        }
        Fetched::Python { python, asked, files } => {
            see(is_word(python), "python", python);
            asked.iter().for_each(|asked| see(plain(asked), "asked", asked));
            for PythonFile { file, url, .. } in files {
                see(is_word(file) && !file.contains('/') && packages::is_path(file), "file", file);
                see(is_address(url), "url", url);
            }
        }
        Fetched::Download { url, .. } => see(is_address(url), "url", url),
        Fetched::Git { revision, .. } => {
            see(is_address(&part.name), "url", &part.name);
            see(is_commit(&part.version), "commit", &part.version);
            see(is_word(revision), "revision", revision);
        }
    }
    match wrong.into_iter().next() {
        Some((field, value)) => {
            Err(Error::Value { line: line_of(text, "part", at, field), table: "part", field, value })
        }
        None => Ok(()),
    }
}

fn is_sha512(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|bytes| bytes.len() == 64)
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        digest::Sha256,
        lock::{Lock, format},
    };

    fn parts() -> Vec<LockedPart> {
        let sha512 = STANDARD.encode([7; 64]);
        let part = |name: &str, version: &str, what| LockedPart {
            name: name.to_owned(),
            version: version.to_owned(),
            what,
        };
        let package = |path: &str, name: Option<&str>| NpmPackage {
            path: path.to_owned(),
            name: name.map(str::to_owned),
            version: "1.0.0".to_owned(),
            tarball: name.map(|_| "https://x.invalid/x.tgz".to_owned()),
            sha512: sha512.clone(),
        };
        vec![
            part(
                "@x/tree",
                "1.0.0",
                Fetched::NpmTree {
                    packages: vec![
                        package("node_modules/@x/tree", None),
                        package("node_modules/a", Some("b")),
                    ],
                },
            ),
            part(
                "tool",
                "2.1",
                Fetched::Python {
                    python: "3.13".to_owned(),
                    asked: vec!["tool[extra]".to_owned(), "setuptools < 81".to_owned()],
                    files: vec![PythonFile {
                        file: "tool-2.1-py3-none-any.whl".to_owned(),
                        url: "https://x.invalid/tool-2.1-py3-none-any.whl".to_owned(),
                        sha256: Sha256::of(b"wheel"),
                    }],
                },
            ),
            part(
                "lazygit",
                "0.44.1",
                Fetched::Download {
                    url: "https://x.invalid/lazygit.tar.gz".to_owned(),
                    sha256: Sha256::of(b"archive"),
                },
            ),
            part(
                "https://x.invalid/o/r.git",
                &"ab".repeat(20),
                Fetched::Git { revision: "main".to_owned(), sha256: Sha256::of(b"files") },
            ),
        ]
    }

    #[test]
    fn every_kind_is_read_back_byte_for_byte() {
        let lock = Lock { parts: parts(), ..Lock::default() };
        let text = format::write(&lock);
        let read = format::read(&text).unwrap();
        assert_eq!(read, lock);
        assert_eq!(format::write(&read), text);
        let json = serde_json::to_string(&lock.parts).unwrap();
        assert_eq!(serde_json::from_str::<Vec<LockedPart>>(&json).unwrap(), lock.parts);
    }

    #[test]
    fn a_part_without_a_kind_is_a_tarball_of_npm() {
        let text = format!(
            "{}\n[[part]]\npackage = \"a\"\nversion = \"1\"\ntarball = \"a-linux\"\ntarball_version = \"1\"\n\
             path = \"a/-/a-1.tgz\"\nsha512 = \"{}\"\n",
            format::write(&Lock::default()),
            STANDARD.encode([7; 64])
        );
        let lock = format::read(&text).unwrap();
        assert_eq!(lock.parts[0].fact("tarball").as_deref(), Some("a-linux"));
        assert!(format::write(&lock).contains("[[part]]\nkind = \"npm\"\npackage = \"a\"\n"));
    }

    #[test]
    fn what_leads_elsewhere_or_is_not_known_is_refused() {
        let text = format::write(&Lock { parts: parts(), ..Lock::default() });
        for (from, to, field) in [
            ("\"node_modules/a\"", "\"node_modules/../../a\"", "path"),
            ("\"node_modules/a\"", "\"etc/a\"", "path"),
            ("https://x.invalid/x.tgz", "/../x", "tarball"),
            ("\"tool-2.1-py3-none-any.whl\"", "\"../tool.whl\"", "file"),
            ("https://x.invalid/lazygit", "ssh://x.invalid/lazygit", "url"),
            ("\"abab", "\"--upload-pack=abab", "commit"),
            ("\"main\"", "\"\"", "revision"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from}");
            let wrong = format::read(&other).unwrap_err();
            assert!(matches!(&wrong, Error::Value { field: found, .. } if *found == field), "{to}: {wrong}");
        }
        for (from, to) in [
            ("kind = \"git\"", "kind = \"hg\""),
            ("revision = \"main\"", "revision = \"main\"\nx = 1"),
            ("name = \"lazygit\"", "nome = \"lazygit\""),
            ("python = \"3.13\"", "python = 3"),
        ] {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text, "{from}");
            assert!(matches!(format::read(&other), Err(Error::Malformed { .. })), "{to}");
        }
    }
}
