//! The `.deb` format: an ar(5) archive of three members.
//!
//! **Source**: deb(5).

use std::{
    collections::BTreeMap,
    io::{self, Read},
    ops::Range,
};

use liblzma::stream::{IGNORE_CHECK, Stream};

use super::strict::Strict;

/// The most bytes that a control archive may have when it is decoded.
const CONTROL_LIMIT: u64 = 64 << 20;

/// The most bytes that any data archive may be decoded to.
const DATA_LIMIT: u64 = 256 << 20;

/// How many times its compressed size a larger data archive may be decoded to. Text comes to ten or so;
/// what exceeds this is all but empty, and made to fill a disk.
const DATA_RATIO: u64 = 200;

/// The most memory that decoding may take: `xz -9` and `zstd --ultra -22` take half of it.
const MEMORY_LIMIT: u64 = 256 << 20;

/// What is wrong with a package's file.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// It does not begin as an ar archive does.
    #[error("it is no ar archive")]
    Magic,
    /// It ends before it should.
    #[error("member `{member}` is cut off")]
    Truncated {
        /// The member.
        member: String,
    },
    /// A member's head makes no sense.
    #[error("the head of the member at byte {at} is malformed")]
    Head {
        /// Where.
        at: usize,
    },
    /// The members are not those of a package, in their order.
    #[error("member `{member}` is where {wanted} must be")]
    Member {
        /// What is there.
        member: String,
        /// What must be.
        wanted: &'static str,
    },
    /// Its format is a later one.
    #[error("its format is `{version}`, not 2.x")]
    Version {
        /// What it says.
        version: String,
    },
    /// A member is compressed in a way that is not known.
    #[error("member `{member}` is compressed in an unknown way")]
    Compression {
        /// The member.
        member: String,
    },
    /// The control archive cannot be read.
    #[error("its control archive cannot be read")]
    Control {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The control archive has a member of a name that no control file has.
    #[error("its control archive has `{name}`")]
    ControlName {
        /// The name.
        name: String,
    },
    /// The control archive has a member twice.
    #[error("its control archive has `{name}` twice")]
    ControlTwice {
        /// The name.
        name: String,
    },
    /// The list of configuration files has a line that is none.
    #[error("line {line} of its list of configuration files is no path of the tree")]
    Conffiles {
        /// From 1.
        line: usize,
    },
    /// The control archive has no control file, or one that makes no sense.
    #[error("its control file is {problem}")]
    ControlFile {
        /// `missing`, or what is wrong.
        problem: &'static str,
    },
}

/// A package's file, its members found and not yet read.
#[derive(Clone, Debug)]
pub struct Deb<'a> {
    control: Member<'a>,
    data: Member<'a>,
}

#[derive(Clone, Debug)]
struct Member<'a> {
    name: &'a str,
    bytes: &'a [u8],
}

/// The control archive.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// The control file.
    pub control: Vec<u8>,
    /// Every other member by name: contents and permission bits.
    pub members: BTreeMap<String, (Vec<u8>, u32)>,
}

impl Control {
    /// Gives a member's text, line by line; nothing where it is not there.
    pub fn lines(&self, member: &str) -> impl Iterator<Item = &str> {
        let bytes = self.members.get(member).map_or(&[][..], |(bytes, _)| bytes);
        std::str::from_utf8(bytes).unwrap_or_default().lines()
    }
}

impl<'a> Deb<'a> {
    /// Finds the members of a package's file.
    ///
    /// # Errors
    /// For anything but debian-binary, control.tar and data.tar, in this order. Members whose names begin with an
    /// underscore, and all that are behind data.tar, are passed over, as deb(5) has it.
    pub fn read(bytes: &'a [u8]) -> Result<Self, DebError> {
        let mut rest = members(bytes)?.into_iter();
        let version = rest.next().ok_or(DebError::Magic)?;
        if version.name != "debian-binary" {
            let member = version.name.to_owned();
            return Err(DebError::Member { member, wanted: "`debian-binary`" });
        }
        if !version.bytes.starts_with(b"2.") {
            let version = String::from_utf8_lossy(version.bytes).trim().to_owned();
            return Err(DebError::Version { version });
        }
        let mut rest = rest.filter(|member| !member.name.starts_with('_'));
        let mut next = |start: &str, wanted: &'static str| {
            let missing = || DebError::Truncated { member: start.trim_end_matches('.').to_owned() };
            let member = rest.next().ok_or_else(missing)?;
            let fits =
                member.name.strip_prefix(start).is_some_and(|end| end.is_empty() || end.starts_with('.'));
            if fits { Ok(member) } else { Err(DebError::Member { member: member.name.to_owned(), wanted }) }
        };
        let control = next("control.tar", "`control.tar`")?;
        let data = next("data.tar", "`data.tar`")?;
        Ok(Self { control, data })
    }

    /// Reads the control archive.
    ///
    /// # Errors
    /// [`DebError`].
    pub fn control(&self) -> Result<Control, DebError> {
        let failed = |source| DebError::Control { source };
        let mut archive = tar::Archive::new(Strict::new(self.control.decode(CONTROL_LIMIT)?));
        let mut control = Control::default();
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let name = path.strip_prefix("./").unwrap_or(&path).trim_end_matches('/');
            if name.is_empty() || name == "." {
                continue;
            }
            let known = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte));
            if !known || name.starts_with('.') || !entry.header().entry_type().is_file() {
                return Err(DebError::ControlName { name: name.to_owned() });
            }
            let name = name.to_owned();
            let mode = entry.header().mode().map_err(failed)? & 0o777;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(failed)?;
            if control.members.insert(name.clone(), (bytes, mode)).is_some() {
                return Err(DebError::ControlTwice { name });
            }
        }
        control.control = control.members.remove("control").unwrap_or_default().0;
        check_conffiles(control.members.get("conffiles").map_or(&[], |(bytes, _)| bytes))?;
        match control.control.as_slice() {
            [] => Err(DebError::ControlFile { problem: "missing" }),
            text if text.contains(&0) => {
                Err(DebError::ControlFile { problem: "not text: it has a NUL byte" })
            }
            text if text.contains(&b'\r') => {
                Err(DebError::ControlFile { problem: "written with carriage returns" })
            }
            text if std::str::from_utf8(text).is_err() => Err(DebError::ControlFile { problem: "not UTF-8" }),
            _ => Ok(control),
        }
    }

    /// Decodes the data archive as it is read. Reading fails where the stream has what no package has
    /// ([`Strict`]), or is out of all proportion to the package.
    ///
    /// # Errors
    /// Where its compression is not known.
    pub fn data(&self) -> Result<Box<dyn Read + 'a>, DebError> {
        let limit = DATA_LIMIT.max(DATA_RATIO.saturating_mul(self.data.bytes.len() as u64));
        Ok(Box::new(Strict::new(self.data.decode(limit)?)))
    }

    /// Gives the control archive's member as it is: its name and bytes.
    #[must_use]
    pub const fn control_member(&self) -> (&'a str, &'a [u8]) {
        (self.control.name, self.control.bytes)
    }

    /// Tells whether the data archive is compressed in a way that takes long to decode.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        [".xz", ".lzma", ".bz2"].iter().any(|end| self.data.name.ends_with(end))
    }

    /// Gives the compressed size of the data archive, as a measure of its work.
    #[must_use]
    pub const fn data_size(&self) -> usize {
        self.data.bytes.len()
    }
}

impl<'a> Member<'a> {
    fn decode(&self, limit: u64) -> Result<Box<dyn Read + 'a>, DebError> {
        let unknown = || DebError::Compression { member: self.name.to_owned() };
        let bytes = self.bytes;
        let end = self.name.split_once(".tar").map_or("", |(_, end)| end);
        let decoded: Box<dyn Read + 'a> = match end {
            "" => Box::new(bytes),
            ".gz" => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
            ".xz" | ".lzma" => {
                // the package's digest was checked: xz's own check would cost a tenth of the decoding
                let stream = Stream::new_auto_decoder(MEMORY_LIMIT, IGNORE_CHECK).map_err(|_| unknown())?;
                Box::new(liblzma::read::XzDecoder::new_stream(bytes, stream))
            }
            ".bz2" => Box::new(bzip2::read::MultiBzDecoder::new(bytes)),
            ".zst" => Box::new(zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| unknown())?),
            _ => return Err(unknown()),
        };
        Ok(Box::new(Limited { inner: decoded, left: limit }))
    }
}

/// Refuses a list of configuration files that says more than paths of the tree.
///
/// A path that stands twice, or that the package does not ship, is passed over, as dpkg does.
///
/// **Source**: deb-conffiles(5).
fn check_conffiles(bytes: &[u8]) -> Result<(), DebError> {
    for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let wrong = || DebError::Conffiles { line: at + 1 };
        let line = std::str::from_utf8(line).map_err(|_| wrong())?.trim();
        let path = line.strip_prefix("remove-on-upgrade ").unwrap_or(line).trim_start();
        let fits = path.starts_with('/')
            && !path.ends_with('/')
            && !path.split('/').any(|part| part == "..")
            && !path.chars().any(char::is_control);
        if !line.is_empty() && !fits {
            return Err(wrong());
        }
    }
    Ok(())
}

/// A reader that fails, instead of ending, where there is more than there may be.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "more bytes than a package may have")
        })?;
        Ok(read)
    }
}

/// Writes the head of a member: no time, no owner.
///
/// # Errors
/// The writer's.
pub fn write_head(out: &mut dyn io::Write, name: &str, size: u64) -> io::Result<()> {
    writeln!(out, "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`", 0, 0, 0, "100644")
}

/// Finds the members of an ar archive, the common form without long names.
fn members(bytes: &[u8]) -> Result<Vec<Member<'_>>, DebError> {
    const MAGIC: &[u8] = b"!<arch>\n";
    const HEAD: usize = 60;
    if !bytes.starts_with(MAGIC) {
        return Err(DebError::Magic);
    }
    let mut at = MAGIC.len();
    let mut found = Vec::new();
    while at < bytes.len() {
        let malformed = || DebError::Head { at };
        let head = bytes.get(at..at + HEAD).ok_or_else(malformed)?;
        let text = |range: Range<usize>| std::str::from_utf8(&head[range]).map(str::trim_end);
        let name = text(0..16).map_err(|_| malformed())?.trim_end_matches('/');
        let digits = text(48..58).map_err(|_| malformed())?;
        if &head[58..] != b"`\n" || digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let size: usize = digits.parse().map_err(|_| malformed())?;
        let start = at + HEAD;
        let content = start.checked_add(size).and_then(|end| bytes.get(start..end));
        let bytes = content.ok_or_else(|| DebError::Truncated { member: name.to_owned() })?;
        found.push(Member { name, bytes });
        at = start + size + size % 2;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, content) in members {
            bytes.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len()).bytes(),
            );
            bytes.extend_from_slice(content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            header.set_entry_type(tar::EntryType::Regular);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn deb(control: &[u8]) -> Vec<u8> {
        ar(&[("debian-binary", b"2.0\n"), ("control.tar", control), ("data.tar", &tar(&[]))])
    }

    #[test]
    fn a_package_is_read() {
        let control = tar(&[("./control", b"Package: a\n"), ("./postinst", b"#!/bin/sh\n")]);
        let bytes = deb(&control);
        let control = Deb::read(&bytes).unwrap().control().unwrap();
        assert_eq!(control.control, b"Package: a\n");
        assert_eq!(control.members["postinst"], (b"#!/bin/sh\n".to_vec(), 0o755));
    }

    #[test]
    fn a_package_may_be_compressed_with_bzip2() {
        let control = tar(&[("./control", b"Package: a\n")]);
        let compress = |bytes: &[u8]| {
            let mut encoder = bzip2::read::BzEncoder::new(bytes, bzip2::Compression::best());
            let mut compressed = Vec::new();
            encoder.read_to_end(&mut compressed).unwrap();
            compressed
        };
        let (data, control) = (compress(&tar(&[("./a", b"a")])), compress(&control));
        let members: [(&str, &[u8]); 3] =
            [("debian-binary", b"2.0\n"), ("control.tar.bz2", &control), ("data.tar.bz2", &data)];
        let bytes = ar(&members);
        let deb = Deb::read(&bytes).unwrap();
        assert_eq!(deb.control().unwrap().control, b"Package: a\n");
        let mut data = Vec::new();
        deb.data().unwrap().read_to_end(&mut data).unwrap();
        assert_eq!(data, tar(&[("./a", b"a")]));
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let good = tar(&[("control", b"Package: a\n")]);
        let data = tar(&[]);
        let second = ar(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar", &good),
            ("control.tar", &good),
            ("data.tar", &data),
        ]);
        assert!(matches!(Deb::read(&second), Err(DebError::Member { .. })), "a second control member");
        let more =
            ar(&[("debian-binary", b"2.0\n"), ("control.tar", &good), ("data.tar", &data), ("x", b"")]);
        assert!(Deb::read(&more).is_ok(), "a member behind the data is passed over");
        let late = ar(&[("debian-binary", b"3.0\n"), ("control.tar", &good), ("data.tar", &data)]);
        assert!(matches!(Deb::read(&late), Err(DebError::Version { .. })));
        let whole = deb(&good);
        assert!(matches!(Deb::read(&whole[..whole.len() - 600]), Err(DebError::Truncated { .. })));
        let odd = ar(&[("debian-binary", b"2.0\n"), ("control.tar.rar", &good), ("data.tar", &data)]);
        assert!(matches!(Deb::read(&odd).unwrap().control(), Err(DebError::Compression { .. })));
    }

    #[test]
    fn a_control_file_that_makes_no_sense_is_refused() {
        let problem = |entries: &[(&str, &[u8])]| {
            let bytes = deb(&tar(entries));
            Deb::read(&bytes).unwrap().control().unwrap_err().to_string()
        };
        assert_eq!(problem(&[]), "its control file is missing");
        assert_eq!(
            problem(&[("control", b"Package: a\0\n")]),
            "its control file is not text: it has a NUL byte"
        );
        assert_eq!(
            problem(&[("control", b"Package: a\r\n")]),
            "its control file is written with carriage returns"
        );
        assert_eq!(problem(&[("control", b"P: a\n"), ("a/b", b"")]), "its control archive has `a/b`");
    }
}
