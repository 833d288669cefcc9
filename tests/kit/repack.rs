//! Real packages, taken apart and put together again as another distribution would have made them.

use std::io::Read as _;

use super::{compress::Compression, deb::ar};

/// What is changed on the way.
pub struct Changes<'a> {
    /// The control file, and any text that repeats its fields.
    pub control: &'a dyn Fn(&str) -> String,
    /// Files of the package: path without `./`, and what its content becomes.
    pub files: &'a [(String, String)],
}

/// Takes a package apart and packs its members with Zstandard, as Ubuntu does.
///
/// **Source**: deb(5).
pub fn repacked(deb: &[u8], changes: &Changes<'_>) -> Vec<u8> {
    let mut members = Vec::new();
    for (name, bytes) in members_of(deb) {
        let plain = match name.rsplit_once('.').map(|(_, suffix)| suffix) {
            Some("xz") => {
                let mut plain = Vec::new();
                liblzma::read::XzDecoder::new_multi_decoder(bytes).read_to_end(&mut plain).unwrap();
                plain
            }
            Some("gz") => {
                let mut plain = Vec::new();
                flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
                plain
            }
            Some("zst") => zstd::decode_all(bytes).unwrap(),
            _ => bytes.to_vec(),
        };
        if name.starts_with("control.tar") {
            let changed = rewritten(&plain, |path, bytes| match path {
                "control" => Some((changes.control)(std::str::from_utf8(bytes).unwrap()).into_bytes()),
                "md5sums" if !changes.files.is_empty() => Some(sums(bytes, changes.files)),
                _ => None,
            });
            members.push(("control.tar.zst".to_owned(), Compression::Zst.pack(&changed)));
        } else if name.starts_with("data.tar") {
            let changed = if changes.files.is_empty() {
                plain
            } else {
                let file = |path: &str| changes.files.iter().find(|(own, _)| own == path);
                rewritten(&plain, |path, _| file(path).map(|(_, text)| text.clone().into_bytes()))
            };
            members.push(("data.tar.zst".to_owned(), Compression::Zst.pack(&changed)));
        } else {
            members.push((name, plain));
        }
    }
    let members: Vec<_> = members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    ar(&members)
}

/// Lists the members of an ar archive.
fn members_of(deb: &[u8]) -> Vec<(String, &[u8])> {
    let mut rest = deb.strip_prefix(b"!<arch>\n").expect("an ar archive");
    let mut members = Vec::new();
    while rest.len() >= 60 {
        let field = |from: usize, to: usize| std::str::from_utf8(&rest[from..to]).unwrap().trim().to_owned();
        let (name, size) = (field(0, 16), field(48, 58).parse::<usize>().unwrap());
        members.push((name.trim_end_matches('/').to_owned(), &rest[60..60 + size]));
        rest = rest.get(60 + size + size % 2..).unwrap_or_default();
    }
    members
}

/// Copies a tar stream, with other contents for some of its files.
fn rewritten(tar: &[u8], change: impl Fn(&str, &[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (mut header, path) = (entry.header().clone(), entry.path().unwrap().into_owned());
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let name = path.to_str().unwrap().trim_start_matches("./").to_owned();
        if header.entry_type().is_file()
            && let Some(changed) = change(&name, &bytes)
        {
            bytes = changed;
            header.set_size(bytes.len() as u64);
            header.set_cksum();
        }
        match entry.link_name().unwrap() {
            Some(target) => out.append_link(&mut header, &path, &target).unwrap(),
            None => {
                // as dpkg-deb names it: the crate takes the `./` away
                let raw = entry.path_bytes().into_owned();
                assert!(raw.len() < 100, "a name that needs an extension");
                header.as_old_mut().name.fill(0);
                header.as_old_mut().name[..raw.len()].copy_from_slice(&raw);
                header.set_cksum();
                out.append(&header, bytes.as_slice()).unwrap();
            }
        }
    }
    out.into_inner().unwrap()
}

fn sums(md5sums: &[u8], files: &[(String, String)]) -> Vec<u8> {
    use md5::Digest as _;
    let mut text = String::new();
    for line in std::str::from_utf8(md5sums).unwrap().lines() {
        let (_, path) = line.split_once("  ").unwrap();
        match files.iter().find(|(own, _)| own == path) {
            Some((_, content)) => {
                let sum: String =
                    md5::Md5::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
                text += &format!("{sum}  {path}\n");
            }
            None => text += &format!("{line}\n"),
        }
    }
    text.into_bytes()
}
