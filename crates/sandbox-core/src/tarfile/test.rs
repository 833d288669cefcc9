//! Members for tests, also such as no tool writes, and the table of what the reader makes of them.

use std::io::Read as _;

use super::{
    acl::{Acl, Acls},
    filled::Filled,
    pax::record,
    read::{BLOCK, Kind, Member, Tar, TarError},
};

/// A sparse file of ten bytes at most.
#[derive(Clone, Copy)]
pub enum Sparse<'a> {
    /// In form 1.0.
    Map { size: u64, map: &'a str },
    /// By records: keys behind `GNU.sparse.`, and values.
    Records(&'a [(&'a str, &'a str)]),
}

fn header(name: &str, kind: u8, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header.set_cksum();
    header
}

fn put(out: &mut Vec<u8>, header: &tar::Header, bytes: &[u8]) {
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(BLOCK as usize), 0);
}

/// Writes a stream of one member, `n`, with extended records.
pub fn stream(records: &[u8], kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if !records.is_empty() {
        put(&mut out, &header("x", b'x', records.len()), records);
    }
    put(&mut out, &header("n", kind, bytes.len()), bytes);
    out.resize(out.len() + 2 * BLOCK as usize, 0);
    out
}

/// Writes a stream of a sparse file, `n`.
pub fn member(sparse: Sparse<'_>) -> Vec<u8> {
    let key = |key: &str, value: &str| record(format!("GNU.sparse.{key}").as_bytes(), value.as_bytes());
    match sparse {
        Sparse::Map { size, map } => {
            let size = size.to_string();
            let records =
                [key("major", "1"), key("minor", "0"), key("name", "n"), key("realsize", &size)].concat();
            let mut bytes = map.as_bytes().to_vec();
            bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
            bytes.extend([1; 10]);
            stream(&records, b'0', &bytes)
        }
        Sparse::Records(all) => {
            let records: Vec<u8> = all.iter().flat_map(|(name, value)| key(name, value)).collect();
            stream(&records, b'0', &[1; 10])
        }
    }
}

fn read(bytes: &[u8]) -> Result<(Member, Vec<u8>), TarError> {
    let mut tar = Tar::new(bytes);
    let member = tar.next()?.unwrap();
    let mut content = Vec::new();
    tar.read_to_end(&mut content)?;
    assert!(tar.next()?.is_none() && tar.has_ended());
    Ok((member, content))
}

#[test]
fn all_forms_of_sparse_files_are_the_same_file() {
    let forms = [
        Sparse::Map { size: 100, map: "2\n20\n4\n50\n6\n" },
        Sparse::Records(&[
            ("size", "100"),
            ("numblocks", "2"),
            ("offset", "20"),
            ("numbytes", "4"),
            ("offset", "50"),
            ("numbytes", "6"),
        ]),
        Sparse::Records(&[("size", "100"), ("numblocks", "2"), ("name", "n"), ("map", "20,4,50,6")]),
        Sparse::Records(&[("major", "0"), ("minor", "1"), ("size", "100"), ("map", "20,4,50,6")]),
    ];
    let mut expected = vec![0; 100];
    expected[20..24].fill(1);
    expected[50..56].fill(1);
    for (at, form) in forms.into_iter().enumerate() {
        let stream = member(form);
        let mut tar = Tar::new(stream.as_slice());
        let found = tar.next().unwrap().unwrap();
        let mut filled = Vec::new();
        Filled::new(&mut tar, &found).read_to_end(&mut filled).unwrap();
        assert_eq!(filled, expected, "{at}");
        let (found, bytes) = read(&stream).unwrap();
        assert_eq!((found.size, found.pieces), (100, Some(vec![(20, 4), (50, 6)])), "{at}");
        assert_eq!((found.path, bytes), (b"n".to_vec(), vec![1; 10]), "{at}");
    }
}

#[test]
fn sparse_files_that_make_no_sense_are_refused() {
    let forms: [&[(&str, &str)]; 8] = [
        &[("map", "20,10")],
        &[("size", "100"), ("map", "20")],
        &[("size", "100"), ("map", "20,4")],
        &[("size", "25"), ("map", "20,10")],
        &[("size", "100"), ("map", "50,6,20,4")],
        &[("size", "100"), ("numbytes", "10")],
        &[("size", "-1"), ("map", "20,10")],
        &[("major", "2"), ("minor", "0"), ("size", "100"), ("map", "20,10")],
    ];
    for form in forms {
        assert!(read(&member(Sparse::Records(form))).is_err(), "{form:?}");
    }
    // more pieces than there may be, in a header that is small enough
    let many = format!("{}20,10", "0,0,".repeat(super::read::PIECES));
    assert!(read(&member(Sparse::Records(&[("size", "100"), ("map", &many)]))).is_err());
}

#[test]
fn a_name_with_a_slash_is_a_directory_and_headers_say_no_more_than_they_may() {
    let path = |path: &str| record(b"path", path.as_bytes());
    let (found, _) = read(&stream(&path("old/"), 0, b"")).unwrap();
    assert_eq!(found.kind, Kind::Folder);
    for (records, word) in [
        (record(b"SCHILY.acl.access", b"everyone"), "access control list"),
        (record(b"SCHILY.xattr.system.posix_acl_access", b"x"), "access control list"),
        (record(b"SCHILY.xattr.user.large", &vec![0; 2 << 20]), "extended attributes"),
        (record(b"mtime", b"soon"), "time"),
    ] {
        let error = read(&stream(&records, b'0', b"")).unwrap_err().to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
    // as LXD and incus write it
    let acl = Acl::of_text(b"user::rw-,user:33:rw-,group::r--,mask::rw-,other::---").unwrap();
    for value in [acl.text(), acl.attribute()] {
        let (found, _) = read(&stream(&record(b"SCHILY.acl.access", &value), b'0', b"")).unwrap();
        assert_eq!(found.acls.access.as_ref(), Some(&acl));
    }
    let (found, _) = read(&stream(&record(b"SCHILY.acl.default", b""), b'5', b"")).unwrap();
    assert_eq!(found.acls, Acls::default());
}

#[test]
fn times_before_1970_and_far_ones_are_read() {
    let field = |bytes: [u8; 12]| {
        let mut stream = stream(b"", b'0', b"");
        stream[136..148].copy_from_slice(&bytes);
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes().copy_from_slice(&stream[..512]);
        header.set_cksum();
        stream[..512].copy_from_slice(header.as_bytes());
        read(&stream).unwrap().0.mtime
    };
    let mut negative = [0xff; 12];
    negative[4..].copy_from_slice(&(-315_619_200_i64).to_be_bytes());
    assert_eq!(field(negative), -315_619_200);
    assert_eq!(field(*b"15303337574\0"), 0o15_303_337_574);
    assert_eq!(field(*b"           \0"), 0);
    let mut far = [0; 12];
    far[0] = 0x80;
    far[4..].copy_from_slice(&(1_i64 << 40).to_be_bytes());
    assert_eq!(field(far), 1 << 40);
}
