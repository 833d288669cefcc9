//! Package files: any bytes are read or refused within bounds, and what is put into one is found in it.

use std::io::{self, Read as _};

use sandbox_core::deb::archive::Deb;

use crate::memory::bounded;

/// How much of a data archive is decoded here.
const ENOUGH: u64 = 4 << 20;

/// Takes the bytes as a package's file, and as the members of one.
pub fn check(data: &[u8]) {
    if let Ok(deb) = bounded(2 * data.len() + 4096, || Deb::read(data)) {
        assert!(data.starts_with(b"!<arch>\n") && deb.data_size() < data.len());
        if let Ok(control) = bounded(3 * (64 << 20), || deb.control()) {
            assert!(!control.control.is_empty() && !control.control.contains(&0));
            assert!(control.members.keys().all(|name| !name.contains('/') && !name.starts_with('.')));
        }
        if let Ok(reader) = deb.data() {
            let _ = io::copy(&mut reader.take(ENOUGH), &mut io::sink());
        }
    }
    let (control, rest) = data.split_at(data.len() / 2);
    let file = ar(&[("debian-binary", b"2.0\n"), ("control.tar.zst", control), ("data.tar.xz", rest)]);
    let deb = Deb::read(&file).expect("the members are right");
    assert_eq!(deb.data_size(), rest.len());
    let _ = bounded(3 * (64 << 20), || deb.control());
}

/// Writes an ar archive as dpkg-deb does.
#[must_use]
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        out.extend(format!("{name:<16}{:<12}0     0     100644  {:<10}`\n", 0, bytes.len()).bytes());
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(2), b'\n');
    }
    out
}
