//! Packs: objects, some of them as the difference to another.
//!
//! **Source**: gitformat-pack(5).

use std::{
    collections::{BTreeMap, HashMap},
    io::Read as _,
};

use flate2::bufread::ZlibDecoder;

use super::{
    GitError,
    objects::{Id, Kind, Object, Objects, sha1},
};

/// The most bytes that all objects of a pack may have.
const LIMIT: u64 = 2 << 30;

/// The most objects of a pack.
const OBJECTS: u32 = 4 << 20;

const fn damaged(what: &'static str) -> GitError {
    GitError::Damaged { what }
}

/// What a difference is to.
#[derive(Clone, Copy)]
enum Base {
    At(usize),
    Named(Id),
}

/// An object that is not known before its base is.
struct Delta {
    at: usize,
    base: Base,
    bytes: Vec<u8>,
}

/// Reads a whole pack.
pub(super) fn read(pack: &[u8]) -> Result<Objects, GitError> {
    let (content, trailer) = pack.split_at(pack.len().saturating_sub(20));
    if content.len() < 12 || sha1(content)?.as_slice() != trailer {
        return Err(damaged("the pack's own digest is another"));
    }
    unsealed(content)
}

/// Reads a pack without the digest at its end.
pub(super) fn unsealed(content: &[u8]) -> Result<Objects, GitError> {
    if content.len() < 12 {
        return Err(damaged("it ends early"));
    }
    let number =
        |at: usize| u32::from_be_bytes([content[at], content[at + 1], content[at + 2], content[at + 3]]);
    if !content.starts_with(b"PACK") || number(4) != 2 || number(8) > OBJECTS {
        return Err(damaged("it is no pack of version 2"));
    }
    let mut left = LIMIT;
    let mut places: BTreeMap<usize, Id> = BTreeMap::new();
    let mut objects = Objects::default();
    let mut deltas = Vec::new();
    let mut at = 12;
    for _ in 0..number(8) {
        let begin = at;
        let (kind, size) = head(content, &mut at)?;
        let base = match kind {
            6 => Some(Base::At(
                begin.checked_sub(offset(content, &mut at)?).ok_or(damaged("a base lies outside"))?,
            )),
            7 => {
                let name = content.get(at..at + 20).ok_or(damaged("it ends early"))?;
                at += 20;
                Some(Base::Named(name.try_into().map_err(|_| damaged("it ends early"))?))
            }
            _ => None,
        };
        left = left.checked_sub(size).ok_or(GitError::Long { limit: LIMIT })?;
        let bytes = inflated(content, &mut at, size)?;
        match base {
            Some(base) => deltas.push(Delta { at: begin, base, bytes }),
            None => {
                let kind = Kind::of_number(kind).ok_or(damaged("an object is of no kind"))?;
                places.insert(begin, objects.add(Object { kind, bytes })?);
            }
        }
    }
    resolve(deltas, places, &mut objects, left)?;
    Ok(objects)
}

/// Makes whole objects of the differences, each once its base is known.
fn resolve(
    deltas: Vec<Delta>,
    mut places: BTreeMap<usize, Id>,
    objects: &mut Objects,
    mut left: u64,
) -> Result<(), GitError> {
    let mut by_place: HashMap<usize, Vec<Delta>> = HashMap::new();
    let mut by_name: HashMap<Id, Vec<Delta>> = HashMap::new();
    let mut waiting = deltas.len();
    for delta in deltas {
        match delta.base {
            Base::At(place) => by_place.entry(place).or_default().push(delta),
            Base::Named(id) => by_name.entry(id).or_default().push(delta),
        }
    }
    let mut known: Vec<(usize, Id)> = places.iter().map(|(place, id)| (*place, *id)).collect();
    while let Some((place, id)) = known.pop() {
        let on = by_place.remove(&place).into_iter().chain(by_name.remove(&id)).flatten();
        for delta in on {
            let base = objects.get(&id)?;
            let (kind, bytes) = (base.kind, applied(&base.bytes, &delta.bytes, left)?);
            left = left.checked_sub(bytes.len() as u64).ok_or(GitError::Long { limit: LIMIT })?;
            let made = objects.add(Object { kind, bytes })?;
            places.insert(delta.at, made);
            known.push((delta.at, made));
            waiting -= 1;
        }
    }
    if waiting == 0 { Ok(()) } else { Err(damaged("a difference has no base")) }
}

/// Reads kind and size: the size's lowest bits stand beside the kind.
fn head(bytes: &[u8], at: &mut usize) -> Result<(u8, u64), GitError> {
    let mut byte = take(bytes, at)?;
    let kind = byte >> 4 & 7;
    let mut size = u64::from(byte & 15);
    let mut shift = 4;
    while byte & 0x80 != 0 {
        byte = take(bytes, at)?;
        size |= bits(byte, shift)?;
        shift += 7;
    }
    Ok((kind, size))
}

fn take(bytes: &[u8], at: &mut usize) -> Result<u8, GitError> {
    let byte = *bytes.get(*at).ok_or(damaged("it ends early"))?;
    *at += 1;
    Ok(byte)
}

fn bits(byte: u8, shift: u32) -> Result<u64, GitError> {
    if shift > 49 { Err(damaged("a size is too large")) } else { Ok(u64::from(byte & 0x7f) << shift) }
}

/// Reads how far back a base lies.
fn offset(bytes: &[u8], at: &mut usize) -> Result<usize, GitError> {
    let mut byte = take(bytes, at)?;
    let mut value = usize::from(byte & 0x7f);
    while byte & 0x80 != 0 {
        byte = take(bytes, at)?;
        let next = value.checked_add(1).and_then(|value| value.checked_mul(128));
        value = next.ok_or(damaged("a base lies outside"))? | usize::from(byte & 0x7f);
    }
    Ok(value)
}

/// Decodes an object that has so many bytes, and goes on behind it.
fn inflated(bytes: &[u8], at: &mut usize, size: u64) -> Result<Vec<u8>, GitError> {
    let mut decoder = ZlibDecoder::new(bytes.get(*at..).unwrap_or_default());
    let mut out = Vec::new();
    let read = (&mut decoder).take(size + 1).read_to_end(&mut out);
    if read.is_err() || out.len() as u64 != size {
        return Err(damaged("an object is not of its size"));
    }
    *at += usize::try_from(decoder.total_in()).unwrap_or(usize::MAX);
    Ok(out)
}

/// Applies a difference to its base.
fn applied(base: &[u8], delta: &[u8], limit: u64) -> Result<Vec<u8>, GitError> {
    let wrong = || damaged("a difference does not fit its base");
    let mut at = 0;
    let size = |at: &mut usize| -> Result<u64, GitError> {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = take(delta, at)?;
            value |= bits(byte, shift)?;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
    };
    let (from, to) = (size(&mut at)?, size(&mut at)?);
    if from != base.len() as u64 {
        return Err(wrong());
    }
    if to > limit {
        return Err(GitError::Long { limit: LIMIT });
    }
    let mut out = Vec::new();
    while at < delta.len() {
        let code = take(delta, &mut at)?;
        if code & 0x80 == 0 {
            // so many bytes that stand here; none is kept for later
            let end = at + usize::from(code);
            let new = delta.get(at..end).filter(|new| !new.is_empty()).ok_or_else(wrong)?;
            out.extend_from_slice(new);
            at = end;
        } else {
            let (mut start, mut length) = (0, 0);
            for bit in 0..4 {
                if code & 1 << bit != 0 {
                    start |= usize::from(take(delta, &mut at)?) << (8 * bit);
                }
            }
            for bit in 0..3 {
                if code & 0x10 << bit != 0 {
                    length |= usize::from(take(delta, &mut at)?) << (8 * bit);
                }
            }
            let length = if length == 0 { 0x1_0000 } else { length };
            out.extend_from_slice(base.get(start..start + length).ok_or_else(wrong)?);
        }
        if out.len() as u64 > to {
            return Err(wrong());
        }
    }
    if out.len() as u64 == to { Ok(out) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_copies_and_adds() {
        // from 4 bytes 6: two of the base from the second on, then four new ones
        let delta = [4, 6, 0x91, 1, 2, 4, b'w', b'x', b'y', b'z'];
        assert_eq!(applied(b"abcd", &delta, 99).unwrap(), b"bcwxyz");
        for wrong in [
            &[5, 6, 0x91, 1, 2, 4, b'w', b'x', b'y', b'z'][..],
            &[4, 7, 0x91, 1, 2, 4, b'w', b'x', b'y', b'z'],
            &[4, 6, 0x91, 3, 2, 4, b'w', b'x', b'y', b'z'],
            &[4, 6, 0x91, 1, 2, 5, b'w', b'x', b'y', b'z'],
            &[4, 6, 0],
            &[4, 6, 0x91],
            &[0x84],
            &[],
        ] {
            assert!(matches!(applied(b"abcd", wrong, 99), Err(GitError::Damaged { .. })), "{wrong:?}");
        }
        assert!(matches!(applied(b"abcd", &delta, 5), Err(GitError::Long { .. })));
    }

    #[test]
    fn what_is_no_pack_is_refused() {
        let sealed = |bytes: &[u8]| [bytes, sha1(bytes).unwrap().as_slice()].concat();
        assert!(read(&sealed(b"PACK\0\0\0\x02\0\0\0\0")).is_ok());
        for wrong in [
            b"".to_vec(),
            b"PACK\0\0\0\x02\0\0\0\0".to_vec(),
            sealed(b"PACK\0\0\0\x03\0\0\0\0"),
            sealed(b"PACK\0\0\0\x02\0\0\0\x01"),
            sealed(b"PACK\0\0\0\x02\0\0\0\x01\x35abcde"),
            sealed(b"PACK\0\0\0\x02\0\0\0\x01\x6f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ] {
            assert!(matches!(read(&wrong), Err(GitError::Damaged { .. })), "{wrong:?}");
        }
    }
}
