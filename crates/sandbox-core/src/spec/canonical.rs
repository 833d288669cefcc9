//! The order in which profiles are stacked: one for a set of profiles, however they were named, so that machines of
//! the same profiles share every layer.
//!
//! A profile comes after what it requires. Between two that do not depend on each other, the one whose tree changes
//! less often comes first: one of packages and files before one that fetches from a vendor or a registry, whose new
//! version comes any day. Then they go by name. Two profiles *meet* where the later one would win over the other, and
//! then they stay as they were given: where one takes something back (`unset`), both have a path, or both say one
//! thing differently.

use std::{collections::BTreeSet, path::Path};

use toml::{Table, Value};

use super::{file::Layer, load::Source};

/// The profile that every machine has, below all others that it does not need.
const BASE: &str = "base";

/// What two files may say differently without one winning over the other: what is said of the file itself, and what is
/// asked of the machine, of which the most counts.
const APART: &[&str] = &["schema", "name", "summary", "requires", "costs", "machine"];

/// Puts profiles, each of which comes after what it requires, into the one order of their set.
pub(super) fn ordered(mut given: Vec<(Source, Layer)>) -> Vec<(Source, Layer)> {
    let mut below: Vec<BTreeSet<String>> = Vec::new();
    for (at, (source, layer)) in given.iter().enumerate() {
        let is_below = |(other, it): &&(Source, Layer)| {
            let required = layer.requires.iter().any(|name| is_called(name, &it.name));
            required || meet((source, layer), (other, it))
        };
        below.push(given[..at].iter().filter(is_below).map(|(_, it)| it.name.clone()).collect());
    }
    let mut left: Vec<_> = given.drain(..).zip(below).collect();
    let mut done = Vec::new();
    while !left.is_empty() {
        let waits = |below: &BTreeSet<String>| {
            below.iter().any(|name| !done.iter().any(|(_, layer): &(Source, Layer)| layer.name == *name))
        };
        let ready = left.iter().enumerate().filter(|(_, (_, below))| !waits(below));
        // what was given first waits for nothing that is left
        let next =
            ready.min_by_key(|(_, ((_, layer), _))| (layer.name != BASE, fetches(layer), layer.name.clone()));
        let next = next.map_or(0, |(at, _)| at);
        done.push(left.remove(next).0);
    }
    done
}

/// Returns whether a required name or path is that of a profile.
pub(super) fn is_called(required: &str, name: &str) -> bool {
    required.rsplit('/').next().unwrap_or(required).trim_end_matches(".toml") == name
}

fn fetches(layer: &Layer) -> bool {
    !(layer.npm.is_empty() && layer.python.is_empty() && layer.download.is_empty() && layer.git.is_empty())
}

fn meet(one: (&Source, &Layer), other: (&Source, &Layer)) -> bool {
    if !one.1.unset.is_empty() || !other.1.unset.is_empty() {
        return true;
    }
    let paths = paths(other.1);
    if self::paths(one.1).iter().any(|path| paths.contains(path)) {
        return true;
    }
    match (one.0.text.parse::<Table>(), other.0.text.parse::<Table>()) {
        (Ok(mut one), Ok(other)) => {
            APART.iter().for_each(|key| drop(one.remove(*key)));
            differ(&one, &other)
        }
        // what cannot be read is refused elsewhere
        _ => true,
    }
}

/// Lists what a profile puts into the tree by name.
fn paths(layer: &Layer) -> BTreeSet<&Path> {
    let files = layer.files.iter().map(|file| &*file.path);
    let links = layer.links.iter().map(|link| &*link.path);
    let units = layer.unit.iter().map(|unit| Path::new(&unit.name));
    let npm = layer.npm.iter().flat_map(|part| part.bin.keys().chain([&part.into]));
    let python = layer.python.iter().flat_map(|part| part.bin.keys().chain([&part.into]));
    let download = layer.download.iter().flat_map(|part| part.bin.keys().chain([&part.into]));
    let git = layer.git.iter().map(|part| &*part.into);
    let fetched = npm.chain(python).chain(download).map(|path| &**path);
    files.chain(links).chain(units).chain(git).chain(fetched).collect()
}

/// Returns whether two tables give one key two values, of which the later would win.
fn differ(one: &Table, other: &Table) -> bool {
    one.iter().any(|(key, value)| match (value, other.get(key)) {
        (_, None) | (Value::Array(_), Some(Value::Array(_))) => false,
        (Value::Table(one), Some(Value::Table(other))) => differ(one, other),
        (one, Some(other)) => one != other,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Catalogue, stack};

    const IMAGE: (&str, &str) = (
        "images/i.toml",
        "schema = 1\nname = \"i\"\ndistribution = \"debian\"\nkeyring = \"k\"\n[archive.main]\nmirror = \"http://m\"\n\
         [[pocket]]\nname = \"release\"\narchive = \"main\"\nsuite = \"i\"\nsigners = []\n\
         [apt]\nsources = \"debian.sources\"\nsigned-by = \"/k\"\n",
    );

    static FILES: &[(&str, &str)] = &[
        IMAGE,
        ("profiles/base.toml", "schema = 1\nname = \"base\"\n"),
        ("profiles/a.toml", "schema = 1\nname = \"a\"\n[[npm]]\npackage = \"a\"\ninto = \"/opt/a\"\n"),
        ("profiles/b.toml", "schema = 1\nname = \"b\"\n[machine]\nnesting = true\n"),
        (
            "profiles/c.toml",
            "schema = 1\nname = \"c\"\n[machine]\nnesting = 2\n[sysctl]\n\"net.x\" = \"1\"\n",
        ),
        ("profiles/d.toml", "schema = 1\nname = \"d\"\nrequires = [\"a\"]\n"),
        ("profiles/s.toml", "schema = 1\nname = \"s\"\n[sysctl]\n\"net.x\" = \"2\"\n"),
        ("profiles/f.toml", "schema = 1\nname = \"f\"\n[[files]]\npath = \"/etc/f\"\ncontent = \"f\"\n"),
        ("profiles/g.toml", "schema = 1\nname = \"g\"\n[[links]]\npath = \"/etc/f\"\ntarget = \"g\"\n"),
        ("profiles/u.toml", "schema = 1\nname = \"u\"\nunset = [\"sysctl\"]\n"),
    ];

    #[test]
    fn a_set_of_profiles_has_one_order_unless_they_meet() {
        let catalogue = Catalogue { folders: Vec::new(), embedded: FILES };
        for (given, stacked) in [
            // by name, and what fetches is above what does not
            (["base", "b", "c"], &["base", "b", "c"][..]),
            (["base", "c", "b"], &["base", "b", "c"]),
            (["base", "a", "b"], &["base", "b", "a"]),
            (["b", "a", "base"], &["base", "b", "a"]),
            // what is required stays below
            (["base", "d", "b"], &["base", "b", "a", "d"]),
            // the later of two that say one thing differently, have one path, or take something back wins
            (["base", "s", "c"], &["base", "s", "c"]),
            (["base", "c", "s"], &["base", "c", "s"]),
            (["base", "g", "f"], &["base", "g", "f"]),
            (["base", "u", "c"], &["base", "u", "c"]),
            (["base", "c", "u"], &["base", "c", "u"]),
        ] {
            let names: Vec<String> = given.iter().map(|name| (*name).to_owned()).collect();
            let found = stack(&catalogue, "i", &names).unwrap().profiles;
            assert_eq!(found, stacked, "{given:?}");
        }
    }
}
