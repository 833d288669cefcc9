//! Reading the stanzas of one index.

use super::{Error, Index, NameId, Priority, Problem, Record, slice, span};
use crate::deb::{
    deb822::{self, Stanza},
    relation,
    version::Version,
};

/// Finds the stanzas of one index that fit an architecture. Those of a foreign archive that cannot be read are put
/// aside, with what is wrong.
pub(super) fn scan(
    index: &Index,
    at: usize,
    architecture: &str,
    aside: &mut Vec<Error>,
) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    for stanza in deb822::stanzas(&index.bytes) {
        let found = record(index, at, stanza, architecture).and_then(|record| {
            if index.origin.is_foreign {
                provides_are_read(index, record.as_ref(), architecture)?;
            }
            Ok(record)
        });
        let malformed = |problem| Error::Stanza {
            pocket: index.origin.id.clone(),
            package: stanza.get("Package").unwrap_or("?").to_owned(),
            line: deb822::line_of(&index.bytes, stanza.offset()),
            problem: Box::new(problem),
        };
        match found {
            Ok(found) => records.extend(found),
            Err(problem) if index.origin.is_foreign => {
                let own = stanza.get("Architecture");
                if own.is_none_or(|own| own == "all" || own == architecture) {
                    aside.push(malformed(problem));
                }
            }
            Err(problem) => return Err(malformed(problem)),
        }
    }
    Ok(records)
}

/// Sees that what a package provides can be read.
fn provides_are_read(index: &Index, record: Option<&Record>, architecture: &str) -> Result<(), Problem> {
    let Some(field) = record.and_then(|record| record.provides) else { return Ok(()) };
    let text = std::str::from_utf8(slice(&index.bytes, field)).map_err(|_| Problem::Wrong("Provides"))?;
    relation::parse(text, architecture).map(drop).map_err(|invalid| Problem::Relation("Provides", invalid))
}

/// Reads what a stanza must have, and what choosing needs to know of every package.
fn record(
    index: &Index,
    at: usize,
    stanza: Stanza<'_>,
    architecture: &str,
) -> Result<Option<Record>, Problem> {
    const WANTED: [&str; 11] = [
        "Package",
        "Version",
        "Architecture",
        "Filename",
        "Size",
        "SHA256",
        "Essential",
        "Priority",
        "Multi-Arch",
        "Provides",
        "SHA512",
    ];
    const RELATIONS: [&str; 5] = ["Depends", "Pre-Depends", "Conflicts", "Breaks", "Recommends"];
    let mut found: [Option<&[u8]>; 11] = [None; 11];
    let mut seen = 0_u8;
    for field in stanza.fields() {
        let field = field.map_err(|_| Problem::Line)?;
        let is =
            |name: &&str| name.len() == field.name.len() && field.name.eq_ignore_ascii_case(name.as_bytes());
        if let Some(place) = WANTED.iter().position(&is) {
            if found[place].replace(field.value).is_some() {
                return Err(Problem::Twice(WANTED[place]));
            }
        } else if let Some(place) = RELATIONS.iter().position(is) {
            if seen & 1 << place != 0 {
                return Err(Problem::Twice(RELATIONS[place]));
            }
            seen |= 1 << place;
        }
    }
    let [name, version, own, filename, size, sha256, essential, priority, multi_arch, provides, sha512] =
        found;
    let present = [(name, 0), (version, 1), (own, 2), (filename, 3), (size, 4), (sha256.or(sha512), 5)];
    if let Some((_, missing)) = present.iter().find(|(value, _)| value.is_none()) {
        return Err(Problem::Lacks(WANTED[*missing]));
    }
    let own = own.unwrap_or_default();
    if own != b"all" && own != architecture.as_bytes() {
        return Ok(None);
    }
    let (name, version) = (name.unwrap_or_default(), version.unwrap_or_default());
    if !std::str::from_utf8(name).is_ok_and(relation::is_name) {
        return Err(Problem::Wrong("Package"));
    }
    let text = std::str::from_utf8(version).map_err(|_| Problem::Wrong("Version"))?;
    Version::parse(text).map_err(Problem::Version)?;
    Ok(Some(Record {
        index: u16::try_from(at).map_err(|_| Problem::Wrong("Package"))?,
        held_by: 1_u64.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0),
        name_id: NameId(0),
        stanza: span(&index.bytes, stanza.bytes()),
        name: span(&index.bytes, name),
        version: span(&index.bytes, version),
        provides: provides.map(|provides| span(&index.bytes, provides)),
        essential: essential.is_some_and(|value| value.eq_ignore_ascii_case(b"yes")),
        any: multi_arch.is_some_and(|value| value == b"allowed"),
        priority: match priority {
            Some(b"required") => Priority::Required,
            Some(b"important") => Priority::Important,
            Some(b"standard") => Priority::Standard,
            Some(b"extra") => Priority::Extra,
            _ => Priority::Optional,
        },
    }))
}
