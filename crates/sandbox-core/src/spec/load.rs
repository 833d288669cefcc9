//! Finds image and profile files, and reads each by itself.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use super::{
    check::{self, Error},
    file::{Layer, SCHEMA},
    sound, sources,
    spans::Node,
};
use crate::host::address;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bottom layer.
    Image,
    /// A layer on top.
    Profile,
    /// The packages that are asked for beside those of image and profiles: no file, the last layer.
    Include,
}

impl Kind {
    /// Gives the word for messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Profile => "profile",
            Self::Include => "packages",
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Image => "images",
            Self::Profile | Self::Include => "profiles",
        }
    }
}

/// A file's text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path, or `built-in images/trixie.toml`.
    pub origin: String,
    /// The text.
    pub text: String,
    /// The file, where it is one.
    pub path: Option<PathBuf>,
}

impl Source {
    /// Gives the name by which a file that this one requires is found: paths begin where this file stands.
    #[must_use]
    pub fn required(&self, name: &str) -> String {
        match self.path.as_ref().and_then(|path| path.parent()) {
            Some(folder) if is_path(name) && !name.starts_with('/') => {
                let path: PathBuf = folder.join(name).components().collect();
                let text = path.display().to_string();
                if text.contains('/') { text } else { format!("./{text}") }
            }
            _ => name.to_owned(),
        }
    }
}

/// Tells whether a word names a file rather than a profile of the catalogue.
#[must_use]
pub fn is_path(name: &str) -> bool {
    name.contains('/') || name.ends_with(".toml")
}

/// Where images and profiles are looked for: folders in order, then those built into the program.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Folders that may have `images/` and `profiles/` below them, the first one wins.
    pub folders: Vec<PathBuf>,
    /// Those of the program: path (`images/trixie.toml`) and text.
    pub embedded: &'static [(&'static str, &'static str)],
}

impl Catalogue {
    /// Finds a file by name, or by path where the name has a slash or ends in `.toml`.
    ///
    /// # Errors
    /// [`Error::Missing`] with the nearest name, or [`Error::Unreadable`].
    pub fn find(&self, kind: Kind, name: &str) -> Result<Source, Error> {
        if is_path(name) {
            let path = PathBuf::from(name);
            return read(&path)?
                .ok_or_else(|| Error::Unreadable { path, source: io::Error::from(io::ErrorKind::NotFound) });
        }
        let file = format!("{}/{name}.toml", kind.folder());
        for folder in &self.folders {
            if let Some(source) = read(&folder.join(&file))? {
                return Ok(source);
            }
        }
        if let Some((path, text)) = self.embedded.iter().find(|(path, _)| *path == file) {
            return Ok(Source { origin: format!("built-in {path}"), text: (*text).to_owned(), path: None });
        }
        let known = self.names(kind);
        let nearest = check::nearest(name, known.iter().map(String::as_str));
        Err(Error::Missing { kind: kind.word(), name: name.to_owned(), nearest, known })
    }

    /// Tells whether a file that was found stands in front of one that is built into the program.
    #[must_use]
    pub fn hides(&self, kind: Kind, name: &str, origin: &str) -> bool {
        let file = format!("{}/{name}.toml", kind.folder());
        !origin.starts_with("built-in ") && self.embedded.iter().any(|(path, _)| *path == file)
    }

    /// Lists the names that [`Self::find`] would find, in order.
    #[must_use]
    pub fn names(&self, kind: Kind) -> Vec<String> {
        let mut names: Vec<String> = self
            .embedded
            .iter()
            .filter_map(|(path, _)| {
                path.strip_prefix(kind.folder())?.strip_prefix('/')?.strip_suffix(".toml")
            })
            .map(str::to_owned)
            .collect();
        for folder in &self.folders {
            let Ok(entries) = fs::read_dir(folder.join(kind.folder())) else { continue };
            names.extend(
                entries
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .filter_map(|name| name.strip_suffix(".toml").map(str::to_owned)),
            );
        }
        names.sort();
        names.dedup();
        names
    }

    /// Finds the image that a word means: its name, its release (`13`, `24.04`), or its distribution with one of both
    /// (`debian-13`, `ubuntu:24.04`, `debian/trixie`). A word that is a path is returned unchanged.
    ///
    /// # Errors
    /// [`Error::Missing`] with all that there are, [`Error::Ambiguous`] with those that it may mean.
    pub fn image(&self, word: &str) -> Result<String, Error> {
        let names = self.names(Kind::Image);
        let is_file = word.ends_with(".toml") || word.starts_with(['.', '/']);
        if is_file || names.iter().any(|name| name == word) {
            return Ok(word.to_owned());
        }
        let asked = word.to_lowercase();
        let mut known = Vec::new();
        let mut found = Vec::new();
        for name in names {
            // a file that cannot be read is an error where it is asked for by name
            let Ok((_, layer)) = self.layer(Kind::Image, &name) else { continue };
            let distribution = layer.distribution.unwrap_or_default();
            let release = layer.release.unwrap_or_default();
            let rest = asked.strip_prefix(&distribution).unwrap_or(&asked);
            let rest =
                if rest.len() < asked.len() { rest.trim_start_matches(['-', ':', '/', ' ']) } else { rest };
            if !rest.is_empty() && (rest == name || rest == release) {
                found.push(name.clone());
            }
            known.push((name, distribution, release));
        }
        match found.as_slice() {
            [name] => Ok(name.clone()),
            [] if is_path(word) && Path::new(word).is_file() => Ok(word.to_owned()),
            [] => {
                let nearest = check::nearest(word, known.iter().map(|(name, ..)| name.as_str()));
                Err(Error::Missing {
                    kind: Kind::Image.word(),
                    name: word.to_owned(),
                    nearest,
                    known: words(known),
                })
            }
            _ => Err(Error::Ambiguous { name: word.to_owned(), found }),
        }
    }

    /// Finds a file and reads it.
    ///
    /// # Errors
    /// Whatever is wrong with it, named with file and line.
    pub fn layer(&self, kind: Kind, name: &str) -> Result<(Source, Layer), Error> {
        let source = self.find(kind, name)?;
        let layer = read_layer(&source)?;
        let wanted = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".toml");
        if layer.name != wanted {
            return Err(Error::Name { origin: source.origin, name: layer.name, wanted: wanted.to_owned() });
        }
        Ok((source, layer))
    }
}

/// Words images with the releases that they are of.
fn words(images: Vec<(String, String, String)>) -> Vec<String> {
    let word = |(name, distribution, release): (String, String, String)| match release.as_str() {
        "" => name,
        release => format!("{name} ({distribution}-{release})"),
    };
    images.into_iter().map(word).collect()
}

fn read(path: &Path) -> Result<Option<Source>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => {
            Ok(Some(Source { origin: path.display().to_string(), text, path: Some(path.to_owned()) }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Unreadable { path: path.to_owned(), source }),
    }
}

/// Reads a layer of its text.
pub(super) fn read_layer(source: &Source) -> Result<Layer, Error> {
    let layer: Layer = toml::from_str(&source.text)
        .map_err(|error| check::malformed(&source.origin, &source.text, &error))?;
    if layer.schema != SCHEMA {
        return Err(Error::Schema { origin: source.origin.clone(), schema: layer.schema });
    }
    let value = |key: &str, problem: String| Error::Value {
        origin: source.origin.clone(),
        key: key.to_owned(),
        problem,
    };
    if let Some(problem) = sound::problems(&layer).into_iter().next() {
        let line = Node::read(&source.text).map_or(1, |node| node.line_of(&problem.key));
        let origin = format!("{}:{line}", source.origin);
        return Err(Error::Value { origin, key: problem.key, problem: problem.text });
    }
    for extra in &layer.source {
        sources::sound(&source.origin, extra)?;
    }
    fetched(&layer).map_or(Ok(layer), |(key, problem)| Err(value(key, problem)))
}

/// Finds what is wrong with the parts that are fetched.
fn fetched(layer: &Layer) -> Option<(&'static str, String)> {
    let into = (layer.npm.iter().map(|part| ("npm.into", &part.into)))
        .chain(layer.python.iter().map(|part| ("python.into", &part.into)))
        .chain(
            layer.python.iter().filter_map(|part| Some(("python.python.path", &part.python.as_ref()?.path))),
        )
        .chain(layer.download.iter().map(|part| ("download.into", &part.into)))
        .chain(layer.git.iter().map(|part| ("git.into", &part.into)));
    let bin = (layer.npm.iter().map(|part| ("npm.bin", &part.bin)))
        .chain(layer.python.iter().map(|part| ("python.bin", &part.bin)))
        .chain(layer.download.iter().map(|part| ("download.bin", &part.bin)));
    let mut paths = into.chain(bin.flat_map(|(key, links)| links.keys().map(move |link| (key, link))));
    let outside =
        |path: &Path| !path.is_absolute() || path.components().any(|part| part == Component::ParentDir);
    if let Some((key, path)) = paths.find(|(_, path)| outside(path)) {
        return Some((key, format!("`{}` is not an absolute path without `..`", path.display())));
    }
    let urls = (layer.download.iter().map(|part| ("download.url", &part.url)))
        .chain(layer.download.iter().filter_map(|part| Some(("download.latest", part.latest.as_ref()?))))
        .chain(
            layer.download.iter().filter_map(|part| Some(("download.checksums", part.checksums.as_ref()?))),
        )
        .chain(layer.git.iter().map(|part| ("git.url", &part.url)));
    let spoken = |url: &str| {
        let scheme = ["https://", "http://", "file://"].iter().any(|scheme| url.starts_with(scheme));
        scheme && url.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let urls: Vec<_> = urls.collect();
    let archives = layer.archive.values().flat_map(|archive| {
        let more = archive.by_architecture.values().chain(&archive.snapshot);
        more.chain([&archive.mirror]).map(|url| ("archive", url))
    });
    let sources = layer.source.iter().flat_map(|source| &source.uris).map(|url| ("source.uris", url));
    let mut all = urls.iter().copied().chain(archives).chain(sources);
    if let Some((key, _)) = all.find(|(_, url)| address::has_user(url)) {
        return Some((
            key,
            "an address with a user or password would be in the lock and in every machine".into(),
        ));
    }
    let (key, url) = urls.into_iter().find(|(_, url)| !spoken(url))?;
    Some((key, format!("`{url}` is not an http or https address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { origin: "p.toml".to_owned(), text: text.to_owned(), path: None }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_one() {
        let error = read_layer(&source("schema = 1\nname = \"p\"\nrequire = [\"base\"]\n")).unwrap_err();
        let Error::Malformed { line, nearest, .. } = &error else { panic!("{error:?}") };
        assert_eq!((*line, nearest.as_deref()), (3, Some("requires")));
        assert_eq!(error.to_string(), "p.toml:3: unknown key `require`");
    }

    #[test]
    fn an_image_is_found_by_its_release() {
        let image = |distribution: &str, release: &str| {
            format!("schema = 1\nname = \"NAME\"\ndistribution = \"{distribution}\"\n{release}\n")
        };
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("images")).unwrap();
        for (name, distribution, release) in [
            ("trixie", "debian", "release = \"13\""),
            ("noble", "ubuntu", "release = \"24.04\""),
            ("sid", "debian", ""),
            ("mine", "mint", "release = \"13\""),
        ] {
            let text = image(distribution, release).replace("NAME", name);
            fs::write(place.path().join(format!("images/{name}.toml")), text).unwrap();
        }
        let catalogue = Catalogue { folders: vec![place.path().to_owned()], embedded: &[] };
        for (word, found) in [
            ("trixie", "trixie"),
            ("24.04", "noble"),
            ("ubuntu-24.04", "noble"),
            ("ubuntu:24.04", "noble"),
            ("Ubuntu/noble", "noble"),
            ("debian-13", "trixie"),
            ("debian13", "trixie"),
            ("debian:sid", "sid"),
            ("./images/x.toml", "./images/x.toml"),
        ] {
            assert_eq!(catalogue.image(word).unwrap(), found, "{word}");
        }
        assert!(matches!(catalogue.image("13"), Err(Error::Ambiguous { found, .. }) if found.len() == 2));
        for word in ["debian", "ubuntu-13", "debian-24.04", "14", "", "debian-"] {
            let error = catalogue.image(word).unwrap_err();
            let Error::Missing { known, .. } = &error else { panic!("{word}: {error:?}") };
            assert!(known.contains(&"noble (ubuntu-24.04)".to_owned()), "{word}: {known:?}");
        }
    }

    #[test]
    fn no_address_of_a_file_has_a_password() {
        let url = "https://u:s3cret@h.invalid/x";
        for (text, key) in [
            (
                format!(
                    "[[download]]\nname = \"d\"\nurl = \"{url}\"\ninto = \"/opt/d\"\narchitectures = {{}}\n"
                ),
                "download.url",
            ),
            (format!("[[git]]\nurl = \"{url}\"\nrevision = \"main\"\ninto = \"/opt/g\"\n"), "git.url"),
            (format!("[archive]\nmain = {{ mirror = \"{url}\" }}\n"), "archive"),
            (format!("[archive]\nmain = {{ mirror = \"http://m\", snapshot = \"{url}\" }}\n"), "archive"),
            (
                format!(
                    "[archive]\nmain = {{ mirror = \"http://m\", by-architecture = {{ arm64 = \"{url}\" }} }}\n"
                ),
                "archive",
            ),
            (
                format!(
                    "[[source]]\nname = \"t\"\nuris = [\"{url}\"]\nsuites = [\"s\"]\ncomponents = [\"main\"]\n\
                     signed-by = \"/k\"\n"
                ),
                "source.uris",
            ),
        ] {
            let error =
                read_layer(&source(&format!("schema = 1\nname = \"p\"\n{text}"))).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("a user or password"), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn parts_are_put_into_the_tree_and_come_over_http() {
        let refused = |text: &str, key: &str| {
            let error = read_layer(&source(&format!("schema = 1\nname = \"p\"\n{text}"))).unwrap_err();
            assert!(matches!(&error, Error::Value { key: found, .. } if found == key), "{text}: {error:?}");
        };
        refused("[[npm]]\npackage = \"a\"\ninto = \"lib\"", "npm.into");
        refused("[[python]]\npackage = \"a\"\ninto = \"/opt/../etc\"", "python.into");
        refused("[[git]]\nurl = \"https://a\"\ninto = \"x\"", "git.into");
        refused("[[git]]\nurl = \"https://user:word@a/b\"\ninto = \"/x\"", "git.url");
        refused("[[git]]\nurl = \"ssh://a\"\ninto = \"/x\"", "git.url");
        refused("[[npm]]\npackage = \"a\"\ninto = \"/x\"\nbin = { b = \"b\" }", "npm.bin");
        let download = |url: &str, more: &str| {
            format!(
                "[[download]]\nname = \"a\"\nurl = \"{url}\"\ninto = \"/x\"\narchitectures = {{}}\n{more}"
            )
        };
        refused(&download("ftp://a", ""), "download.url");
        refused(&download("https://a b", ""), "download.url");
        refused(&download("https://a", "latest = \"x\""), "download.latest");
    }

    #[test]
    fn a_later_schema_is_refused() {
        let error = read_layer(&source("schema = 2\nname = \"p\"\n")).unwrap_err();
        assert!(matches!(error, Error::Schema { schema: 2, .. }));
    }

    #[test]
    fn a_missing_profile_is_named_with_the_nearest() {
        let catalogue = Catalogue {
            folders: Vec::new(),
            embedded: &[("profiles/docker.toml", ""), ("images/sid.toml", "")],
        };
        let error = catalogue.find(Kind::Profile, "dokcer").unwrap_err();
        let Error::Missing { nearest, known, .. } = error else { panic!() };
        assert_eq!(nearest.as_deref(), Some("docker"));
        assert_eq!(known, ["docker"]);
    }
}
