//! Stanzas of `Name: value` fields: Packages, Release, control and status files.
//!
//! Reading is without copies, as an index has 56 MB; [`Paragraph`] is the owned form for small files and
//! for writing.
//!
//! **Source**: deb822(5), Debian Policy §5.1.

use std::fmt;

use memchr::{memchr, memmem};

use crate::error::{Cause, Class};

/// Why bytes are not a control file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A byte 0 somewhere.
    #[error("line {line} holds a NUL byte")]
    Nul {
        /// From 1.
        line: usize,
    },
    /// Lines end as on Windows, which no Debian tool accepts.
    #[error("line {line} ends in a carriage return; lines must end in a line feed only")]
    CarriageReturn {
        /// From 1.
        line: usize,
    },
    /// Not UTF-8.
    #[error("line {line} is not UTF-8")]
    Encoding {
        /// From 1.
        line: usize,
    },
    /// A line that is neither a field nor the continuation of one.
    #[error("line {line}, `{text}`, is neither a field (`Name: value`) nor the continuation of one")]
    Line {
        /// From 1.
        line: usize,
        /// Its beginning.
        text: String,
    },
    /// A field that stands twice in one stanza.
    #[error("line {line} gives field `{name}` a second time in one stanza")]
    Twice {
        /// From 1.
        line: usize,
        /// The field's name.
        name: String,
    },
}

impl Cause for Error {
    fn class(&self) -> Class {
        Class::File
    }
}

/// Refuses bytes that no control file may hold: NUL, and lines ended as on Windows.
///
/// # Errors
/// [`Error::Nul`] or [`Error::CarriageReturn`] with the first such line.
pub fn check(bytes: &[u8]) -> Result<(), Error> {
    if let Some(at) = memchr(0, bytes) {
        return Err(Error::Nul { line: line_of(bytes, at) });
    }
    if let Some(at) = memmem::find(bytes, b"\r\n") {
        return Err(Error::CarriageReturn { line: line_of(bytes, at) });
    }
    Ok(())
}

/// Gives the number, from 1, of the line that holds an offset.
#[must_use]
pub fn line_of(bytes: &[u8], offset: usize) -> usize {
    memchr::memchr_iter(b'\n', &bytes[..offset.min(bytes.len())]).count() + 1
}

/// Iterates over the stanzas of a file, without copying.
pub fn stanzas(bytes: &[u8]) -> Stanzas<'_> {
    Stanzas { bytes, at: 0 }
}

/// The iterator that [`stanzas`] gives.
#[derive(Clone, Debug)]
pub struct Stanzas<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Stanzas<'a> {
    type Item = Stanza<'a>;

    fn next(&mut self) -> Option<Stanza<'a>> {
        while self.bytes.get(self.at) == Some(&b'\n') {
            self.at += 1;
        }
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = memmem::find(rest, b"\n\n").map_or(rest.len(), |end| end + 1);
        let stanza = Stanza { bytes: &rest[..length], offset: self.at };
        self.at += length;
        Some(stanza)
    }
}

/// One stanza, as bytes of the file that it is in.
#[derive(Clone, Copy, Debug)]
pub struct Stanza<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Stanza<'a> {
    /// Takes bytes that are one stanza, as [`Self::bytes`] gave them, without looking for its end again.
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Gives its bytes, without the empty line that ends it.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Tells where in the file it begins, in bytes.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Iterates over its fields in the order of the file; comment lines are left out.
    #[must_use]
    pub const fn fields(&self) -> Fields<'a> {
        Fields { bytes: self.bytes, at: 0 }
    }

    /// Gives a field's value, the first where it stands twice; names compare without case.
    ///
    /// The value is trimmed; a value of several lines keeps its line feeds and leading spaces. None where the
    /// field is absent or not UTF-8.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let field = self.fields().flatten().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))?;
        std::str::from_utf8(field.value).ok()
    }
}

/// A field, as bytes of its stanza.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its name as written.
    pub name: &'a [u8],
    /// Its value, trimmed at both ends but for the line feed that begins a value with an empty first line.
    pub value: &'a [u8],
    /// Where in the stanza its line begins, in bytes.
    pub at: usize,
}

/// A line that is neither a field nor a continuation, by its place in the stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAField {
    /// Where in the stanza the line begins, in bytes.
    pub at: usize,
}

/// The iterator that [`Stanza::fields`] gives.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, NotAField>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = self.at;
            let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty())?;
            let mut end = memchr(b'\n', rest).unwrap_or(rest.len());
            if rest[0] == b'#' {
                self.at = start + end + 1;
                continue;
            }
            while matches!(rest.get(end + 1), Some(b' ' | b'\t')) {
                end += 1 + memchr(b'\n', &rest[end + 1..]).unwrap_or(rest.len() - end - 1);
            }
            self.at = start + end + 1;
            let line = &rest[..end];
            let colon = memchr(b':', line).filter(|&colon| is_name(&line[..colon]));
            return Some(match colon {
                Some(colon) => Ok(Field { name: &line[..colon], value: trim(&line[colon + 1..]), at: start }),
                None => Err(NotAField { at: start }),
            });
        }
    }
}

/// Field names are printable US-ASCII without space and colon, and do not begin with `#` or `-`.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name[0] != b'-' && name.iter().all(|byte| matches!(byte, 33..=126))
}

/// Trims blanks at both ends, but keeps the line feed of an empty first line.
fn trim(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
    value[start..].trim_ascii_end()
}

/// An owned stanza with its fields in order, for small files and for writing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paragraph {
    fields: Vec<(String, String)>,
}

impl Paragraph {
    /// Makes one without fields.
    #[must_use]
    pub const fn new() -> Self {
        Self { fields: Vec::new() }
    }

    /// Gives a field's value; names compare without case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.as_str())
    }

    /// Sets a field's value where it stands, or adds the field at the end.
    ///
    /// **Shape**: the lines of a value after the first begin with a space; [`Paragraph`] writes them as given.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.fields.iter_mut().find(|field| field.0.eq_ignore_ascii_case(&name)) {
            Some(field) => field.1 = value,
            None => self.fields.push((name, value)),
        }
    }

    /// Takes a field out and gives its value.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        let at = self.fields.iter().position(|field| field.0.eq_ignore_ascii_case(name))?;
        Some(self.fields.remove(at).1)
    }

    /// Iterates over names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| (field.0.as_str(), field.1.as_str()))
    }
}

impl FromIterator<(String, String)> for Paragraph {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(fields: T) -> Self {
        Self { fields: fields.into_iter().collect() }
    }
}

impl fmt::Display for Paragraph {
    /// Writes the fields, each ended by a line feed, without an empty line after them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(name, value)| {
            let space = if value.is_empty() || value.starts_with('\n') { "" } else { " " };
            writeln!(f, "{name}:{space}{value}")
        })
    }
}

/// Reads a small file strictly: every line must be right, no field may stand twice.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn read(bytes: &[u8]) -> Result<Vec<Paragraph>, Error> {
    check(bytes)?;
    if let Err(wrong) = std::str::from_utf8(bytes) {
        return Err(Error::Encoding { line: line_of(bytes, wrong.valid_up_to()) });
    }
    let paragraphs: Result<Vec<_>, _> = stanzas(bytes).map(|stanza| paragraph(bytes, stanza)).collect();
    Ok(paragraphs?.into_iter().filter(|paragraph| !paragraph.fields.is_empty()).collect())
}

fn paragraph(bytes: &[u8], stanza: Stanza<'_>) -> Result<Paragraph, Error> {
    let mut paragraph = Paragraph::new();
    for field in stanza.fields() {
        let field = field.map_err(|wrong| {
            let at = stanza.offset + wrong.at;
            let end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |end| at + end);
            let text = String::from_utf8_lossy(&bytes[at..end]).chars().take(40).collect();
            Error::Line { line: line_of(bytes, at), text }
        })?;
        let name = String::from_utf8_lossy(field.name).into_owned();
        if paragraph.get(&name).is_some() {
            return Err(Error::Twice { line: line_of(bytes, stanza.offset + field.at), name });
        }
        paragraph.fields.push((name, String::from_utf8_lossy(field.value).into_owned()));
    }
    Ok(paragraph)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] =
        b"\nPackage: a\nDescription: one\n two\n .\n three\nConffiles:\n /etc/a 00\n\n\n# note\nPackage: b\n";

    #[test]
    fn gives_fields_by_name_without_case_and_with_all_their_lines() {
        let all: Vec<_> = stanzas(TWO).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("package"), Some("a"));
        assert_eq!(all[0].get("DESCRIPTION"), Some("one\n two\n .\n three"));
        assert_eq!(all[0].get("Conffiles"), Some("\n /etc/a 00"));
        assert_eq!(all[1].get("Package"), Some("b"));
        assert_eq!(all[1].get("Description"), None);
    }

    #[test]
    fn writes_back_what_it_reads() {
        let text = "Package: a\nEmpty:\nDescription: one\n two\n .\nConffiles:\n /etc/a 00\n";
        let read = read(text.as_bytes()).unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].to_string(), text);
        assert_eq!(read[0].get("empty"), Some(""));
    }

    #[test]
    fn sets_in_place_and_adds_at_the_end() {
        let mut paragraph = read(b"A: 1\nB: 2\n").unwrap().remove(0);
        paragraph.set("a", "3");
        paragraph.set("C", "4");
        assert_eq!(paragraph.remove("b").as_deref(), Some("2"));
        assert_eq!(paragraph.to_string(), "A: 3\nC: 4\n");
    }

    #[test]
    fn refuses_what_is_wrong_with_its_line() {
        assert_eq!(read(b"A: 1\nB\0: 2\n"), Err(Error::Nul { line: 2 }));
        assert_eq!(read(b"A: 1\r\nB: 2\r\n"), Err(Error::CarriageReturn { line: 1 }));
        assert_eq!(read(b"A: 1\n\nB: \xff\n"), Err(Error::Encoding { line: 3 }));
        assert_eq!(read(b"A: 1\nno field\n"), Err(Error::Line { line: 2, text: "no field".into() }));
        assert_eq!(read(b" A: 1\n"), Err(Error::Line { line: 1, text: " A: 1".into() }));
        assert_eq!(read(b"A: 1\n\nB: 1\nb: 2\n"), Err(Error::Twice { line: 4, name: "b".into() }));
    }
}
