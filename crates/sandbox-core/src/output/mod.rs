//! Outputs of `bootstrap` and `export`: which format a name means, and whether the place can take it.
//!
//! Everything that can be known of an output before the work is checked before the work: the ending, the program of the
//! host that writes the format, whether the target exists, is a mount point or on a file system without programs, space
//! or inodes.

mod encode;
mod error;
mod image;
mod place;

use std::{fmt, path::Path, str::FromStr};

pub use encode::{Compression, Encoder, Hashed, Sink};
pub use error::OutputError;
pub use image::{Contents, Filesystem, ImageFile, Scratch};
pub use place::{Place, programs_run};

/// The format of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A directory.
    Directory,
    /// A tar file.
    Tar(Compression),
    /// An image of a file system.
    Image(Filesystem),
}

/// Endings of the formats, the one that messages name first.
const ENDINGS: &[(&str, Format)] = &[
    (".tar", Format::Tar(Compression::Plain)),
    (".tar.gz", Format::Tar(Compression::Gzip)),
    (".tar.bz2", Format::Tar(Compression::Bzip2)),
    (".tar.xz", Format::Tar(Compression::Xz)),
    (".tar.zst", Format::Tar(Compression::Zstd)),
    (".squashfs", Format::Image(Filesystem::Squashfs)),
    (".ext2", Format::Image(Filesystem::Ext2)),
    (".ext4", Format::Image(Filesystem::Ext4)),
    (".tgz", Format::Tar(Compression::Gzip)),
    (".tbz2", Format::Tar(Compression::Bzip2)),
    (".tbz", Format::Tar(Compression::Bzip2)),
    (".txz", Format::Tar(Compression::Xz)),
    (".tzst", Format::Tar(Compression::Zstd)),
    (".sqfs", Format::Image(Filesystem::Squashfs)),
];

/// How many of [`ENDINGS`] messages name.
const NAMED: usize = 8;

/// Endings of archives and images that are not written: a directory of such a name is a mistake.
const FOREIGN: &[&str] = &[
    ".7z", ".ar", ".box", ".br", ".btrfs", ".bz2", ".cab", ".cpio", ".deb", ".dmg", ".docker", ".erofs",
    ".ext3", ".f2fs", ".gz", ".img", ".iso", ".lz", ".lz4", ".lzma", ".lzo", ".ova", ".ovf", ".qcow",
    ".qcow2", ".rar", ".raw", ".rpm", ".snap", ".taz", ".tlz", ".vdi", ".vhd", ".vhdx", ".vmdk", ".wim",
    ".xfs", ".xz", ".z", ".zip", ".zst",
];

impl Format {
    /// Returns the format that the ending of a name means, in capitals or not; none where it means none.
    ///
    /// A path that ends in `/` names a directory whatever its name is.
    ///
    /// # Errors
    /// [`OutputError::Ending`] for the ending of an archive or an image that is not written.
    pub fn of(path: &Path) -> Result<Option<Self>, OutputError> {
        if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
            return Ok(Some(Self::Directory));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if let Some((_, format)) = ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)) {
            return Ok(Some(*format));
        }
        match FOREIGN.iter().find(|ending| name.ends_with(**ending)) {
            Some(ending) => Err(OutputError::Ending { path: path.to_owned(), ending }),
            None => Ok(None),
        }
    }

    /// Returns the ending that names of this format have.
    #[must_use]
    pub fn ending(self) -> &'static str {
        ENDINGS.iter().find(|(_, format)| *format == self).map_or("", |(ending, _)| ending)
    }

    /// Lists the endings that messages name, joined.
    #[must_use]
    pub fn endings() -> String {
        ENDINGS[..NAMED].iter().map(|(ending, _)| *ending).collect::<Vec<_>>().join(", ")
    }

    /// Checks that the host has the program that writes the format of a tree.
    ///
    /// # Errors
    /// [`OutputError::Tool`].
    pub fn check(self) -> Result<(), OutputError> {
        match self {
            Self::Directory | Self::Tar(_) => Ok(()),
            Self::Image(filesystem) => filesystem.check(false),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("directory"),
            format => f.write_str(format.ending().trim_start_matches('.')),
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if matches!(text, "directory" | "dir") {
            return Ok(Self::Directory);
        }
        let known = ENDINGS[..NAMED].iter().find(|(ending, _)| ending.trim_start_matches('.') == text);
        let words = || Self::endings().replace(", .", ", ").trim_start_matches('.').to_owned();
        known.map(|(_, format)| *format).ok_or_else(|| format!("the formats are directory, {}", words()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_format_or_is_refused() {
        let tar = Format::Tar;
        let image = Format::Image;
        for (name, format) in [
            ("tree", None),
            ("a.b/tree", None),
            ("bookworm-12.5", None),
            ("tar", None),
            ("x.tar/", Some(Format::Directory)),
            ("x.zip/", Some(Format::Directory)),
            ("x.tar", Some(tar(Compression::Plain))),
            ("x.tar.gz", Some(tar(Compression::Gzip))),
            ("x.TGZ", Some(tar(Compression::Gzip))),
            ("x.tar.bz2", Some(tar(Compression::Bzip2))),
            ("x.tar.xz", Some(tar(Compression::Xz))),
            ("x.tar.zst", Some(tar(Compression::Zstd))),
            ("x.squashfs", Some(image(Filesystem::Squashfs))),
            ("x.sqfs", Some(image(Filesystem::Squashfs))),
            ("x.ext2", Some(image(Filesystem::Ext2))),
            ("x.ext4", Some(image(Filesystem::Ext4))),
        ] {
            assert_eq!(Format::of(Path::new(name)).unwrap(), format, "{name}");
        }
        for name in
            ["x.zip", "x.ISO", "x.qcow2", "x.img", "x.tar.lz4", "x.gz", "x.cpio.gz", "x.tar.Z", "x.vmdk"]
        {
            assert!(matches!(Format::of(Path::new(name)), Err(OutputError::Ending { .. })), "{name}");
        }
    }

    #[test]
    fn the_word_of_a_format_is_its_ending() {
        for (ending, format) in &ENDINGS[..NAMED] {
            let word = ending.trim_start_matches('.');
            assert_eq!((format.ending(), word.parse()), (*ending, Ok(*format)));
            assert_eq!(format.to_string(), word);
        }
        assert_eq!("directory".parse(), Ok(Format::Directory));
        assert!("zip".parse::<Format>().unwrap_err().contains("directory, tar, tar.gz"));
    }
}
