//! Extended headers: records of a key and a value that say more of the next member than its header can.
//!
//! **Source**: POSIX pax(1), "pax Extended Header"; star(4) for `SCHILY.*`.

use std::{ffi::OsString, os::unix::ffi::OsStringExt as _};

use super::{
    Attributes,
    acl::{Acl, Acls},
    holes::Holes,
    read::{TarError, broken},
};
use crate::host::live;

/// A key and a value.
type Record<'b> = (&'b [u8], &'b [u8]);

/// Reads the records of an extended header.
pub fn records(mut bytes: &[u8]) -> impl Iterator<Item = Result<Record<'_>, TarError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let first = first(bytes);
        bytes = first.as_ref().map_or(&[], |(_, rest)| rest);
        Some(first.map(|(record, _)| record))
    })
}

/// Reads the first record, and gives what is behind it.
fn first(bytes: &[u8]) -> Result<(Record<'_>, &[u8]), TarError> {
    let wrong = || broken("a record of an extended header");
    let space = memchr::memchr(b' ', bytes).ok_or_else(wrong)?;
    let length: usize =
        std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return Err(wrong());
    }
    let record = &bytes[space + 1..length - 1];
    let equals = memchr::memchr(b'=', record).ok_or_else(wrong)?;
    Ok(((&record[..equals], &record[equals + 1..]), &bytes[length..]))
}

/// Words a record: its own length, a key, a value.
pub fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    // a space, `=` and a newline
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + digits(length) != length {
        length = rest + digits(length);
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

const fn digits(number: usize) -> usize {
    number.ilog10() as usize + 1
}

/// What extended headers say of the next member.
#[derive(Default)]
pub struct More {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<i64>,
    pub attributes: Attributes,
    /// How many bytes those have.
    bytes: usize,
    /// Lists of attributes, which have numbers, and those of texts, which may have names.
    lists: Acls,
    texts: Acls,
    pub holes: Holes,
}

impl More {
    /// Reads an extended header.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        for record in records(bytes) {
            let (key, value) = record?;
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value)?),
                b"uid" => self.uid = Some(number(value)?),
                b"gid" => self.gid = Some(number(value)?),
                b"mtime" => self.mtime = Some(time(value)?),
                b"SCHILY.acl.access" => self.texts.access = list(value)?,
                b"SCHILY.acl.default" => self.texts.default = list(value)?,
                _ => self.other(key, value)?,
            }
        }
        Ok(())
    }

    fn other(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.holes.record(key, value);
        }
        let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { return Ok(()) };
        let is_list = self.lists.take(name, value).map_err(|()| broken("an access control list"))?;
        if !is_list {
            self.attributes.push((OsString::from_vec(name.to_vec()), value.to_vec()));
        }
        self.bytes += name.len() + value.len();
        if self.bytes > live::ATTRIBUTES {
            return Err(broken("more than a megabyte of extended attributes"));
        }
        Ok(())
    }

    /// Takes the access control lists. A number counts before a name, as with owners.
    pub fn acls(&mut self) -> Acls {
        let (lists, texts) = (std::mem::take(&mut self.lists), std::mem::take(&mut self.texts));
        Acls { access: lists.access.or(texts.access), default: lists.default.or(texts.default) }
    }
}

/// Reads a number of a record.
pub fn number(value: &[u8]) -> Result<u64, TarError> {
    let text = std::str::from_utf8(value).ok();
    text.and_then(|text| text.parse().ok()).ok_or(broken("a number of an extended header"))
}

/// Reads a time: whole seconds, rounded down, also before 1970.
fn time(value: &[u8]) -> Result<i64, TarError> {
    let (whole, fraction) = match memchr::memchr(b'.', value) {
        Some(dot) => (&value[..dot], &value[dot + 1..]),
        None => (value, &[][..]),
    };
    let text = std::str::from_utf8(whole).ok();
    let seconds: i64 =
        text.and_then(|text| text.parse().ok()).ok_or(broken("a time of an extended header"))?;
    let down = whole.starts_with(b"-") && fraction.iter().any(|digit| *digit != b'0');
    Ok(seconds.saturating_sub(i64::from(down)))
}

/// Reads an access control list; one of no entries is none. LXD and incus have the kernel's form here, which no text
/// begins as.
fn list(value: &[u8]) -> Result<Option<Acl>, TarError> {
    if value.trim_ascii().is_empty() {
        return Ok(None);
    }
    Acl::of_text(value).or_else(|| Acl::of_attribute(value)).map(Some).ok_or(broken("an access control list"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(record(b"a", b"b"), b"6 a=b\n");
        // 99 would be 100 with its own third digit, and 100 is what it is then
        for length in 85..105 {
            let record = record(b"path", &vec![b'x'; length]);
            let said: usize =
                std::str::from_utf8(&record).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, record.len());
        }
    }

    #[test]
    fn a_time_is_rounded_down() {
        for (text, expected) in [
            ("0", 0),
            ("1796063100.311652826", 1_796_063_100),
            ("-315619200", -315_619_200),
            ("-315619199.5", -315_619_200),
            ("-0.5", -1),
            ("-1.000", -1),
        ] {
            assert_eq!(time(text.as_bytes()).unwrap(), expected, "{text}");
        }
        assert!(time(b"never").is_err() && time(b"").is_err());
    }
}
