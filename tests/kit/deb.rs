//! Debian packages, made member by member.

use md5::Digest as _;

use super::{
    compress::Compression,
    tar::{Entry, Kind, tar},
};

/// A package in the making.
///
/// **Source**: deb(5), deb-control(5).
#[derive(Clone, Debug)]
pub struct Deb {
    /// The name.
    pub package: String,
    /// The version.
    pub version: String,
    /// The architecture.
    pub architecture: String,
    /// Further control fields, in order: `("Depends", "libc6")`.
    pub fields: Vec<(String, String)>,
    /// What the package installs, in order.
    pub entries: Vec<Entry>,
    /// Maintainer scripts and other control members: name, mode, content.
    pub control: Vec<(String, u32, Vec<u8>)>,
    /// How `control.tar` is compressed.
    pub control_compression: Compression,
    /// How `data.tar` is compressed.
    pub data_compression: Compression,
    /// Whether control gets an `md5sums` of all files.
    pub md5sums: bool,
    /// What `control` says, where that is not what the index says.
    pub says: Option<Vec<u8>>,
    /// The data archive, where it is not one of `entries`.
    pub data: Option<Vec<u8>>,
}

/// A finished package.
#[derive(Clone, Debug)]
pub struct Built {
    /// The name of the file.
    pub file_name: String,
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Its control stanza, as it stands in the package, ending in a newline.
    pub control: String,
}

impl Deb {
    /// Starts a package for `amd64` that installs nothing, compressed with xz.
    pub fn new(package: &str, version: &str) -> Self {
        Self {
            package: package.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            fields: Vec::new(),
            entries: vec![Entry::folder("./")],
            control: Vec::new(),
            control_compression: Compression::Xz,
            data_compression: Compression::Xz,
            md5sums: true,
            says: None,
            data: None,
        }
    }

    /// Adds a control field.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds any entry.
    pub fn entry(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// Adds a file with the folders above it; the path has no leading `./`.
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        for (at, _) in path.match_indices('/') {
            let folder = format!("./{}/", &path[..at]);
            if !self.entries.iter().any(|entry| entry.path == folder) {
                self.entries.push(Entry::folder(&folder));
            }
        }
        self.entry(Entry::file(&format!("./{path}"), mode, content))
    }

    /// Adds a file that is a conffile.
    pub fn conffile(mut self, path: &str, content: &[u8]) -> Self {
        self = self.file(path, 0o644, content);
        let line = format!("/{path}\n");
        match self.control.iter_mut().find(|(name, ..)| name == "conffiles") {
            Some((_, _, lines)) => lines.extend_from_slice(line.as_bytes()),
            None => self.control.push(("conffiles".to_owned(), 0o644, line.into_bytes())),
        }
        self
    }

    /// Adds a maintainer script: `postinst` and its body after `#!/bin/sh`.
    pub fn script(mut self, name: &str, body: &str) -> Self {
        let text = format!("#!/bin/sh\nset -e\n{body}\n");
        self.control.push((name.to_owned(), 0o755, text.into_bytes()));
        self
    }

    /// Lets its control file say something else than the index.
    pub fn saying(mut self, control: &[u8]) -> Self {
        self.says = Some(control.to_vec());
        self
    }

    /// Gives it a data archive as it is.
    pub fn data(mut self, tar: Vec<u8>) -> Self {
        self.data = Some(tar);
        self
    }

    /// Adds a control member as it is.
    pub fn member(mut self, name: &str, content: &[u8]) -> Self {
        self.control.push((name.to_owned(), 0o644, content.to_vec()));
        self
    }

    /// Sets the compression of both tars.
    pub fn compressed(mut self, compression: Compression) -> Self {
        (self.control_compression, self.data_compression) = (compression, compression);
        self
    }

    /// Gives the control stanza.
    pub fn stanza(&self) -> String {
        let mut text = format!(
            "Package: {}\nVersion: {}\nArchitecture: {}\n",
            self.package, self.version, self.architecture
        );
        let given = |name: &str| self.fields.iter().any(|(field, _)| field == name);
        if !given("Maintainer") {
            text += "Maintainer: Nobody <nobody@example.invalid>\n";
        }
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\n");
        }
        if !given("Description") {
            text += "Description: a package of the tests\n";
        }
        text
    }

    /// Makes the file.
    pub fn build(&self) -> Built {
        let control = self.stanza();
        let says = self.says.as_deref().unwrap_or(control.as_bytes());
        let mut members = vec![Entry::folder("./"), Entry::file("./control", 0o644, says)];
        if self.md5sums {
            members.push(Entry::file("./md5sums", 0o644, self.sums().as_bytes()));
        }
        members.extend(
            self.control.iter().map(|(name, mode, bytes)| Entry::file(&format!("./{name}"), *mode, bytes)),
        );
        let bytes = ar(&[
            ("debian-binary", b"2.0\n"),
            (
                &format!("control.tar{}", self.control_compression.suffix()),
                &self.control_compression.pack(&tar(&members)),
            ),
            (
                &format!("data.tar{}", self.data_compression.suffix()),
                &self.data_compression.pack(&self.data.clone().unwrap_or_else(|| tar(&self.entries))),
            ),
        ]);
        let version = self.version.split_once(':').map_or(self.version.as_str(), |(_epoch, rest)| rest);
        Built { file_name: format!("{}_{version}_{}.deb", self.package, self.architecture), bytes, control }
    }

    fn sums(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            if let Kind::File(content) = &entry.kind {
                let sum = md5::Md5::digest(content);
                let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
                text += &format!("{hex}  {}\n", entry.path.trim_start_matches("./"));
            }
        }
        text
    }
}

/// Writes an ar archive as dpkg-deb does.
///
/// **Source**: ar(5), the common format without a symbol table.
pub fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        out.extend_from_slice(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 1_704_067_200, 0, 0, "100644", bytes.len())
                .as_bytes(),
        );
        out.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}
