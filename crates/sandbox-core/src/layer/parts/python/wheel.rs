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
    build: &'a str,
    pythons: &'a str,
    abis: &'a str,
    platforms: &'a str,
}

/// How well a wheel fits a tree; the greatest is the one that pip takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fit {
    /// Built for this interpreter, for its stable interface, for an older one's, for any Python.
    class: u8,
    python: u32,
    platform: u32,
    /// The number and the text of its build.
    build: (u64, String),
}

impl<'a> Wheel<'a> {
    /// Reads `name-1.0-py3-none-any.whl`.
    pub(super) fn parse(file: &'a str) -> Option<Self> {
        let parts: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
        let (name, version, build, tags) = match parts.as_slice() {
            [name, version, python, abi, platform] => (name, version, "", (python, abi, platform)),
            [name, version, build, python, abi, platform] => (name, version, *build, (python, abi, platform)),
            _ => return None,
        };
        Some(Self { name: normal(name), version, build, pythons: tags.0, abis: tags.1, platforms: tags.2 })
    }

    /// Tells how well it fits a tree: what is built for it alone best; nothing where pip would not install it there.
    pub(super) fn fits(&self, tree: &Tree) -> Option<Fit> {
        let mut best = None;
        for python in self.pythons.split('.') {
            for abi in self.abis.split('.') {
                for platform in self.platforms.split('.') {
                    best = best.max(rank([python, abi, platform], tree));
                }
            }
        }
        let (class, python, platform) = best?;
        let end = self.build.find(|one: char| !one.is_ascii_digit()).unwrap_or(self.build.len());
        let (number, text) = self.build.split_at(end);
        Some(Fit { class, python, platform, build: (number.parse().unwrap_or(0), text.to_owned()) })
    }
}

/// Ranks one tag in the order in which pip looks for tags; none where it does not look for it.
///
/// **Source**: PyPA's `packaging.tags`, `cpython_tags` and `compatible_tags`.
fn rank([python, abi, platform]: [&str; 3], tree: &Tree) -> Option<(u8, u32, u32)> {
    let own = format!("cp3{}", tree.minor);
    let platform = platform_rank(platform, tree)?;
    let (is_any, is_own) = (platform == 0, python == own);
    let class = match abi {
        _ if abi == own && is_own && !is_any => 7,
        "abi3" if is_own && !is_any => 6,
        "none" if is_own && !is_any => 5,
        "none" if is_own => 2,
        "abi3" if !is_any => {
            // the stable interface is there since 3.2
            let minor = minor_of(python, "cp3").filter(|minor| (2..tree.minor).contains(minor))?;
            return Some((4, minor, platform));
        }
        "none" => {
            let python = match python {
                "py3" => tree.minor * 2 + 1,
                _ => match minor_of(python, "py3")? {
                    minor if minor == tree.minor => tree.minor * 2 + 2,
                    minor if minor < tree.minor => minor * 2,
                    _ => return None,
                },
            };
            return Some((if is_any { 1 } else { 3 }, python, platform));
        }
        _ => return None,
    };
    Some((class, 0, platform))
}

fn minor_of(python: &str, prefix: &str) -> Option<u32> {
    let digits = python.strip_prefix(prefix)?;
    let minor: u32 = digits.parse().ok()?;
    (minor.to_string() == digits).then_some(minor)
}

/// Ranks a platform: 0 for any, then the C library's version that it needs.
///
/// **Source**: PyPA's `packaging._manylinux`; PEP 600.
fn platform_rank(platform: &str, tree: &Tree) -> Option<u32> {
    if platform == "any" {
        return Some(0);
    }
    let machine = tree.environment.machine.as_str();
    let rest = platform.strip_suffix(machine)?.strip_suffix('_')?;
    let is_x86 = matches!(machine, "x86_64" | "i686");
    let glibc = match rest {
        "linux" => return Some(1),
        "manylinux1" => 5,
        "manylinux2010" => 12,
        "manylinux2014" => 17,
        _ => minor_of(rest, "manylinux_2_")?,
    };
    let oldest = if is_x86 { 5 } else { 17 };
    // the older names of a version come right behind it
    let is_named = rest.starts_with("manylinux_");
    (oldest..=tree.glibc).contains(&glibc).then(|| glibc * 2 + u32::from(is_named))
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
