//! Stacks an image and profiles into one spec, by the same three rules for every key.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::{
    canonical,
    check::{self, Error},
    file::{Apt, Layer},
    lint,
    load::{Catalogue, Kind, Source, read_layer},
    refused,
    sources::{Trusted, trusted},
};
use crate::{digest::Sha256, machine::Needs};

/// An image with its profiles, merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The image's name.
    pub image: String,
    /// The profiles, in the order in which they are stacked.
    pub profiles: Vec<String>,
    /// All of them merged.
    pub layer: Layer,
    /// The image's distribution.
    pub distribution: String,
    /// The shipped keyring's name.
    pub keyring: String,
    /// apt's own configuration in the tree.
    pub apt: Apt,
    /// Archives of others, with their keys.
    pub sources: Vec<Trusted>,
    /// Which profile (or the image) first asked for a package, for messages: package and file.
    pub wanted_by: Vec<(String, String)>,
    /// The files: image first, then the profiles as they are stacked.
    pub files: Vec<Stacked>,
}

/// A file that went into a spec, and what it alone says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stacked {
    /// Image or profile.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The file, or `built-in profiles/docker.toml`.
    pub origin: String,
    /// The digest of its text.
    pub digest: Sha256,
    /// What it says, without what a later one takes back.
    pub layer: Layer,
}

/// Loads an image and profiles with all they require, and merges them.
///
/// Single values: the later layer wins. Lists: appended, first occurrence kept. Tables: per key. `unset`
/// takes back what lower layers said.
///
/// # Errors
/// Whatever is wrong with a file, named with file and line.
pub fn stack(catalogue: &Catalogue, image: &str, profiles: &[String]) -> Result<Spec, Error> {
    let all = files(catalogue, image, profiles)?;
    let image_name = all.first().map(|(_, _, layer)| layer.name.clone()).unwrap_or_default();
    let mut merged = Table::new();
    let mut own: Vec<Table> = Vec::new();
    let mut wanted_by = Vec::new();
    let mut files: Vec<Stacked> = Vec::new();
    for (kind, source, layer) in &all {
        for package in layer.packages.install.iter().chain(&layer.packages.if_available) {
            if !wanted_by.iter().any(|(known, _)| known == package) {
                wanted_by.push((package.clone(), source.origin.clone()));
            }
        }
        files.push(Stacked {
            kind: *kind,
            name: layer.name.clone(),
            origin: source.origin.clone(),
            digest: Sha256::of(source.text.as_bytes()),
            layer: layer.clone(),
        });
        let table: Table = source
            .text
            .parse()
            .map_err(|error: toml::de::Error| check::malformed(&source.origin, &source.text, &error))?;
        for below in &mut own {
            layer.unset.iter().for_each(|path| take_back(below, path));
        }
        own.push(table.clone());
        stack_table(&mut merged, table, layer);
    }
    for (file, table) in files.iter_mut().zip(own) {
        file.layer =
            read_layer(&Source { origin: file.origin.clone(), text: table.to_string(), path: None })?;
    }
    let texts: Vec<&str> = all.iter().map(|(_, source, _)| source.text.as_str()).collect();
    refused::check(&files, &texts)?;
    let text = merged.to_string();
    let origin = format!("image `{image}` with its profiles");
    let mut layer = read_layer(&Source { origin, text, path: None })?;
    layer.machine = Needs::default();
    for file in &files {
        layer.machine.add(&file.layer.machine);
    }
    let incomplete = |key| Error::Incomplete { image: image.to_owned(), key };
    if layer.pocket.is_empty() {
        return Err(incomplete("pocket"));
    }
    for pocket in &layer.pocket {
        if !layer.archive.contains_key(&pocket.archive) {
            return Err(incomplete("archive"));
        }
    }
    let origin = format!("image `{image}` with its profiles");
    let sources = layer.source.iter().cloned().map(|source| trusted(&origin, source));
    Ok(Spec {
        sources: sources.collect::<Result<_, _>>()?,
        image: image_name,
        profiles: all.into_iter().skip(1).map(|(_, _, layer)| layer.name).collect(),
        distribution: layer.distribution.clone().ok_or_else(|| incomplete("distribution"))?,
        keyring: layer.keyring.clone().ok_or_else(|| incomplete("keyring"))?,
        apt: layer.apt.clone().ok_or_else(|| incomplete("apt"))?,
        wanted_by,
        files,
        layer,
    })
}

impl Spec {
    /// Sees that no two profiles serve one port.
    ///
    /// # Errors
    /// [`Error::Port`].
    pub fn ports(&self) -> Result<(), Error> {
        for (at, file) in self.files.iter().enumerate() {
            for other in &self.files[..at] {
                for port in &file.layer.ports {
                    if other.layer.ports.iter().any(|known| lint::clashes(known, port)) {
                        let (one, other) = (other.origin.clone(), file.origin.clone());
                        return Err(Error::Port { port: port.port, one, other });
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives what the profiles cost in isolation: the file that says so, and its words.
    #[must_use]
    pub fn costs(&self) -> Vec<(&Stacked, &str)> {
        self.files
            .iter()
            .flat_map(|file| file.layer.costs.iter().map(move |cost| (file, cost.as_str())))
            .collect()
    }
}

/// Loads an image and profiles with all they require, in the order in which they are stacked.
///
/// # Errors
/// Whatever is wrong with a file, named with file and line.
pub fn files(
    catalogue: &Catalogue,
    image: &str,
    profiles: &[String],
) -> Result<Vec<(Kind, Source, Layer)>, Error> {
    let (source, layer) = catalogue.layer(Kind::Image, image)?;
    let ordered = canonical::ordered(order(catalogue, profiles)?).into_iter();
    let ordered = ordered.map(|(source, layer)| (Kind::Profile, source, layer));
    Ok(std::iter::once((Kind::Image, source, layer)).chain(ordered).collect())
}

/// Orders profiles so that each comes after what it requires, otherwise as they were given.
fn order(catalogue: &Catalogue, profiles: &[String]) -> Result<Vec<(Source, Layer)>, Error> {
    enum Step {
        Enter(String),
        Leave(Source, Box<Layer>),
    }
    let mut ordered: Vec<(Source, Layer)> = Vec::new();
    let mut done = BTreeSet::new();
    let mut open: Vec<String> = Vec::new();
    let mut steps: Vec<Step> = profiles.iter().rev().cloned().map(Step::Enter).collect();
    while let Some(step) = steps.pop() {
        match step {
            Step::Enter(name) => {
                if let Some(at) = open.iter().position(|known| *known == name) {
                    let mut circle = open[at..].to_vec();
                    circle.push(name);
                    return Err(Error::Circle { circle });
                }
                let (source, layer) = catalogue.layer(Kind::Profile, &name)?;
                if done.contains(&layer.name) {
                    continue;
                }
                open.push(name);
                let requires = layer.requires.iter().rev().map(|name| source.required(name));
                let requires: Vec<_> = requires.map(Step::Enter).collect();
                steps.push(Step::Leave(source, Box::new(layer)));
                steps.extend(requires);
            }
            Step::Leave(source, layer) => {
                open.pop();
                done.insert(layer.name.clone());
                ordered.push((source, *layer));
            }
        }
    }
    Ok(ordered)
}

/// Merges a file's table over those below it, after what its `unset` takes back.
fn stack_table(lower: &mut Table, mut upper: Table, layer: &Layer) {
    upper.remove("unset");
    for path in &layer.unset {
        take_back(lower, path);
    }
    merge(lower, upper);
}

fn take_back(table: &mut Table, path: &str) {
    match path.split_once('.') {
        None => drop(table.remove(path)),
        Some((key, rest)) => {
            if let Some(Value::Table(inner)) = table.get_mut(key) {
                take_back(inner, rest);
            }
        }
    }
}

fn merge(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (Some(Value::Array(below)), Value::Array(above)) => {
                for item in above {
                    if !below.contains(&item) {
                        below.push(item);
                    }
                }
            }
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FILES: &[(&str, &str)] = &[
        (
            "images/i.toml",
            "schema = 1\nname = \"i\"\ndistribution = \"debian\"\nkeyring = \"k\"\n\
             [packages]\ninstall = [\"a\"]\n[archive.main]\nmirror = \"http://m\"\n\
             [[pocket]]\nname = \"release\"\narchive = \"main\"\nsuite = \"i\"\nsigners = []\n\
             [apt]\nsources = \"debian.sources\"\nsigned-by = \"/k\"\n",
        ),
        (
            "profiles/p.toml",
            "schema = 1\nname = \"p\"\nrequires = [\"q\"]\n[packages]\ninstall = [\"b\", \"a\"]\n",
        ),
        (
            "profiles/q.toml",
            "schema = 1\nname = \"q\"\n[packages]\ninstall = [\"c\"]\n[machine]\nnesting = true\n",
        ),
        (
            "profiles/u.toml",
            "schema = 1\nname = \"u\"\nunset = [\"packages.install\"]\n[packages]\ninstall = [\"z\"]\n",
        ),
        ("profiles/x.toml", "schema = 1\nname = \"x\"\nrequires = [\"y\"]\n"),
        ("profiles/y.toml", "schema = 1\nname = \"y\"\nrequires = [\"x\"]\n"),
    ];

    fn catalogue() -> Catalogue {
        Catalogue { folders: Vec::new(), embedded: FILES }
    }

    #[test]
    fn what_is_required_comes_first_and_lists_append() {
        let spec = stack(&catalogue(), "i", &["p".to_owned(), "q".to_owned()]).unwrap();
        assert_eq!(spec.profiles, ["q", "p"]);
        assert_eq!(spec.layer.packages.install, ["a", "c", "b"]);
        assert!(spec.layer.machine.nesting.is_any());
        let (_, by) = &spec.wanted_by[2];
        assert_eq!(by, "built-in profiles/p.toml");
    }

    #[test]
    fn unset_takes_back_what_is_below() {
        let spec = stack(&catalogue(), "i", &["p".to_owned(), "u".to_owned()]).unwrap();
        assert_eq!(spec.layer.packages.install, ["z"]);
        let own: Vec<_> = spec.files.iter().map(|file| &file.layer.packages.install[..]).collect();
        assert_eq!(own, [&[][..], &[], &[], &["z".to_owned()]]);
    }

    #[test]
    fn of_what_is_asked_of_the_machine_the_most_counts() {
        static FILES: &[(&str, &str)] = &[
            ("profiles/a.toml", "schema = 1\nname = \"a\"\n[machine]\nnesting = 2\n"),
            ("profiles/b.toml", "schema = 1\nname = \"b\"\n[machine]\nnesting = true\n"),
            ("profiles/c.toml", "schema = 1\nname = \"c\"\nunset = [\"machine\"]\n"),
            ("images/i.toml", super::tests::FILES[0].1),
        ];
        let catalogue = Catalogue { folders: Vec::new(), embedded: FILES };
        let nesting = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            stack(&catalogue, "i", &names).unwrap().layer.machine.nesting
        };
        use crate::machine::Nesting;
        assert_eq!(nesting(&["a", "b"]), Nesting::SYSTEMS);
        assert_eq!(nesting(&["a", "c"]), Nesting::NONE);
        assert_eq!(nesting(&["a", "c", "b"]), Nesting::CONTAINERS);
    }

    #[test]
    fn a_circle_is_named() {
        let error = stack(&catalogue(), "i", &["x".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "profiles require each other in a circle: x → y → x");
    }
}
