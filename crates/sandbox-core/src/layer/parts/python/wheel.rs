//! Names of built packages, and which of them run in a tree.
//!
//! **Source**: the Python packaging specifications, "Binary distribution format", "Platform compatibility tags".

use super::requirement::{Environment, normal};

/// What a tree runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tree {
    pub environment: Environment,
    /// The second number of the interpreter's version: 13 of 3.13.
    pub minor: u32,
    /// The C library's version, after its `2.`.
    pub glibc: u32,
}

/// A wheel's file name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wheel<'a> {
    pub name: String,
    pub version: &'a str,
    pythons: &'a str,
    abis: &'a str,
    platforms: &'a str,
}

impl<'a> Wheel<'a> {
    /// Reads `name-1.0-py3-none-any.whl`.
    pub(super) fn parse(file: &'a str) -> Option<Self> {
        let parts: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
        let (name, version, tags) = match parts.as_slice() {
            [name, version, python, abi, platform] | [name, version, _, python, abi, platform] => {
                (name, version, (python, abi, platform))
            }
            _ => return None,
        };
        Some(Self { name: normal(name), version, pythons: tags.0, abis: tags.1, platforms: tags.2 })
    }

    /// Tells how well it fits a tree: what is built for it alone best; nothing where it does not run there.
    pub(super) fn fits(&self, tree: &Tree) -> Option<(u32, u32, u32)> {
        let pythons = self.pythons.split('.').filter_map(|python| python_fits(python, tree.minor));
        let (exact, minor) = pythons.max()?;
        let abis = self.abis.split('.').filter_map(|abi| abi_fits(abi, exact, tree.minor));
        let platforms = self.platforms.split('.').filter_map(|platform| platform_fits(platform, tree));
        Some((abis.max()?, platforms.max()?, minor))
    }
}

/// Tells whether a tag is of CPython itself, and of which version.
fn python_fits(python: &str, minor: u32) -> Option<(bool, u32)> {
    if let Some(version) = python.strip_prefix("cp3") {
        return version.parse().ok().filter(|version| *version <= minor).map(|version| (true, version));
    }
    match python {
        "py3" => Some((false, 0)),
        _ => python
            .strip_prefix("py3")?
            .parse()
            .ok()
            .filter(|version| *version <= minor)
            .map(|version| (false, version)),
    }
}

fn abi_fits(abi: &str, of_cpython: bool, minor: u32) -> Option<u32> {
    match abi {
        "none" => Some(1),
        "abi3" => of_cpython.then_some(2),
        _ => (abi.strip_prefix("cp3")?.parse() == Ok(minor)).then_some(3),
    }
}

fn platform_fits(platform: &str, tree: &Tree) -> Option<u32> {
    if platform == "any" {
        return Some(0);
    }
    let rest = platform.strip_suffix(&tree.environment.machine)?.strip_suffix('_')?;
    let glibc = match rest {
        "linux" => return Some(1),
        "manylinux1" => 5,
        "manylinux2010" => 12,
        "manylinux2014" => 17,
        _ => rest.strip_prefix("manylinux_2_")?.parse().ok()?,
    };
    (glibc <= tree.glibc).then_some(glibc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_for_the_tree_is_best_and_what_does_not_run_there_is_none() {
        let environment = Environment { full: "3.13.5".to_owned(), machine: "x86_64".to_owned() };
        let tree = Tree { environment, minor: 13, glibc: 41 };
        let fits = |file: &str| Wheel::parse(file).unwrap().fits(&tree);
        let ordered = [
            "a-1-py3-none-any.whl",
            "a-1-py3-none-linux_x86_64.whl",
            "a-1-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "a-1-cp39-abi3-manylinux_2_28_x86_64.whl",
            "a-1-cp313-cp313-manylinux1_x86_64.whl",
            "a-1-1-cp313-cp313-manylinux_2_39_x86_64.whl",
        ];
        for pair in ordered.windows(2) {
            assert!(fits(pair[0]).is_some() && fits(pair[0]) < fits(pair[1]), "{pair:?}");
        }
        for file in [
            "a-1-py2-none-any.whl",
            "a-1-cp314-cp314-any.whl",
            "a-1-cp312-cp312-manylinux1_x86_64.whl",
            "a-1-cp313-cp313t-manylinux1_x86_64.whl",
            "a-1-cp313-cp313-musllinux_1_2_x86_64.whl",
            "a-1-cp313-cp313-manylinux_2_42_x86_64.whl",
            "a-1-cp313-cp313-manylinux_2_17_aarch64.whl",
            "a-1-cp313-cp313-win_amd64.whl",
            "a-1-pp310-pypy310_pp73-manylinux1_x86_64.whl",
        ] {
            assert_eq!(fits(file), None, "{file}");
        }
        assert_eq!(Wheel::parse("a_B-1.0-py2.py3-none-any.whl").unwrap().name, "a-b");
        assert_eq!(Wheel::parse("a-1.0.tar.gz"), None);
    }
}
