//! A guest's users: what is found is in the texts, and of a plain file the C library finds the same.

#![allow(unsafe_code, reason = "the C library's reader of passwd(5) is called")]

use std::{
    ffi::{CStr, CString},
    mem::MaybeUninit,
    ptr,
};

use sandbox_core::machine::guest::readers;

use crate::memory::bounded;

/// Takes the bytes as a user's name, a passwd(5) and a group(5), with a zero byte between them.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut texts = text.splitn(3, '\0');
    let [user, passwd, group] = [(); 3].map(|()| texts.next().unwrap_or_default());
    let found = bounded(64 * data.len() + (4 << 10), || readers::user(passwd, group, user));
    if let Some(found) = &found {
        let named = passwd.lines().any(|line| line.split(':').next() == Some(&found.name));
        assert!(named && (found.name == user || Ok(found.ids.0) == user.parse()), "{found:?}");
        assert!(found.groups.len() <= group.lines().count(), "{found:?}");
        assert!(!found.shell.is_empty());
        // setresuid(2), setresgid(2) and chown(2) take it as "unchanged"
        let ids = [&[found.ids.0, found.ids.1], &found.groups[..]].concat();
        assert!(!ids.contains(&u32::MAX), "{found:?}");
        for text in [&found.name, &found.home, &found.shell] {
            assert!(!text.contains(['\0', '\n', ':']), "{found:?}");
        }
    }
    if passwd.lines().all(is_plain) && !passwd.is_empty() {
        let found = found.map(|found| (found.name, found.ids.0, found.ids.1, found.home));
        assert_eq!(found, by_libc(passwd, user), "{user:?} in {passwd:?}");
    }
}

/// Returns whether a line is in no need of interpretation: seven fields, numbers that are ids.
fn is_plain(line: &str) -> bool {
    let fields: Vec<&str> = line.split(':').collect();
    let is_name = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let is_id = |id: &str| {
        id.bytes().all(|byte| byte.is_ascii_digit()) && id.parse::<u32>().is_ok_and(|id| id != u32::MAX)
    };
    let is_word = |word: &str| word.bytes().all(|byte| byte.is_ascii_graphic());
    matches!(fields[..], [name, _, uid, gid, ..] if is_name(name) && is_id(uid) && is_id(gid))
        && fields.len() == 7
        && fields.iter().all(|field| is_word(field))
}

/// **Source**: fgetpwent(3).
fn by_libc(passwd: &str, user: &str) -> Option<(String, u32, u32, String)> {
    let bytes = CString::new(passwd).ok()?;
    let number: Option<u32> = user.parse().ok();
    let mut buffer = vec![0; passwd.len() + 1024];
    // SAFETY: the stream reads `bytes`, which outlives it; the entry points into `buffer`, and is copied out of it before the
    // next call.
    unsafe {
        let stream = libc::fmemopen(bytes.as_ptr().cast_mut().cast(), passwd.len(), c"r".as_ptr());
        assert!(!stream.is_null());
        let mut found = None;
        loop {
            let mut entry = MaybeUninit::uninit();
            let mut result = ptr::null_mut();
            let (space, size) = (buffer.as_mut_ptr(), buffer.len());
            if libc::fgetpwent_r(stream, entry.as_mut_ptr(), space, size, &raw mut result) != 0
                || result.is_null()
            {
                break;
            }
            let text = |text: *const libc::c_char| CStr::from_ptr(text).to_string_lossy().into_owned();
            let entry = &*result;
            if text(entry.pw_name) == user || Some(entry.pw_uid) == number {
                found = Some((text(entry.pw_name), entry.pw_uid, entry.pw_gid, text(entry.pw_dir)));
                break;
            }
        }
        libc::fclose(stream);
        found
    }
}
