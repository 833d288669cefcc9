//! Where an index first names a package.

/// Tells whether bytes that look like a name are one in a field of relations.
pub(super) fn is_mention(bytes: &[u8], at: usize, length: usize) -> bool {
    const FIELDS: [&[u8]; 9] = [
        b"Depends",
        b"Pre-Depends",
        b"Recommends",
        b"Suggests",
        b"Conflicts",
        b"Breaks",
        b"Replaces",
        b"Enhances",
        b"Provides",
    ];
    let edge = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, b' ' | b',' | b'|' | b'\n' | b'('));
    let after = bytes.get(at + length);
    if at == 0 || !edge(bytes.get(at - 1)) || !(edge(after) || after == Some(&b':')) {
        return false;
    }
    let mut start = at;
    loop {
        start = memchr::memrchr(b'\n', &bytes[..start]).map_or(0, |end| end + 1);
        if start == 0 || bytes[start] != b' ' {
            break;
        }
        start -= 1;
    }
    let field = memchr::memchr(b':', &bytes[start..at]).map(|colon| &bytes[start..start + colon]);
    field.is_some_and(|field| FIELDS.contains(&field))
}
