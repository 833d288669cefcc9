//! Versions and ranges as npm has them.
//!
//! **Source**: Semantic Versioning 2.0.0 §9 to §11; the README of npm's `semver`, "Ranges".

use std::cmp::Ordering;

/// The largest number of a version (`Number.MAX_SAFE_INTEGER`).
const LARGEST: u64 = (1 << 53) - 1;

/// A version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    numbers: [u64; 3],
    pre: Vec<Word>,
}

/// A word of a pre-release: numbers come before all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Number(u64),
    Text(String),
}

impl Version {
    /// Reads `1.2.3-rc.1+build`; what was built does not count.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let partial = Partial::parse(text)?;
        let [Some(major), Some(minor), Some(patch)] = partial.numbers else { return None };
        Some(Self { numbers: [major, minor, patch], pre: partial.pre })
    }

    const fn plain(numbers: [u64; 3]) -> Self {
        Self { numbers, pre: Vec::new() }
    }

    /// The least that there is of a version: below all its pre-releases.
    fn least(numbers: [u64; 3]) -> Self {
        Self { numbers, pre: vec![Word::Number(0)] }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        };
        self.numbers.cmp(&other.numbers).then_with(pre)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A version of which the later numbers may be left open: `1`, `1.2.x`, `*`.
struct Partial {
    numbers: [Option<u64>; 3],
    pre: Vec<Word>,
}

impl Partial {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start_matches(['v', '=', ' ']);
        let (text, build) = text.split_once('+').unwrap_or((text, ""));
        if !build.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)) {
            return None;
        }
        let (numbers, pre) = text.split_once('-').map_or((text, None), |(numbers, pre)| (numbers, Some(pre)));
        let mut found = [None; 3];
        let mut open = false;
        for (at, part) in numbers.split('.').enumerate() {
            let place = found.get_mut(at)?;
            if matches!(part, "x" | "X" | "*") || numbers.is_empty() {
                open = true;
            } else {
                let number: u64 =
                    part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
                if number > LARGEST {
                    return None;
                }
                *place = if open { None } else { Some(number) };
            }
        }
        let word = |word: &str| {
            let known =
                !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            known.then(|| word.parse().map_or_else(|_| Word::Text(word.to_owned()), Word::Number))
        };
        let pre = match pre {
            // only what has three numbers has a pre-release
            Some(_) if numbers.split('.').count() < 3 => return None,
            Some(pre) => pre.split('.').map(word).collect::<Option<Vec<_>>>()?,
            None => Vec::new(),
        };
        // one of a version that is open says nothing
        let pre = if found[2].is_some() { pre } else { Vec::new() };
        Some(Self { numbers: found, pre })
    }

    /// The least that it may be.
    fn floor(&self) -> Version {
        Version { numbers: self.numbers.map(Option::unwrap_or_default), pre: self.pre.clone() }
    }

    /// The first version beyond it, counted up at its last given number; none where none is given.
    fn beyond(&self) -> Option<[u64; 3]> {
        match self.numbers {
            [None, ..] => None,
            [Some(major), None, _] => Some([major + 1, 0, 0]),
            [Some(major), Some(minor), None] => Some([major, minor + 1, 0]),
            [Some(major), Some(minor), Some(patch)] => Some([major, minor, patch + 1]),
        }
    }

    fn is_whole(&self) -> bool {
        self.numbers[2].is_some()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bound {
    AtLeast(Version),
    Above(Version),
    Below(Version),
    AtMost(Version),
    Is(Version),
}

impl Bound {
    fn admits(&self, version: &Version) -> bool {
        match self {
            Self::AtLeast(bound) => version >= bound,
            Self::Above(bound) => version > bound,
            Self::Below(bound) => version < bound,
            Self::AtMost(bound) => version <= bound,
            Self::Is(bound) => version == bound,
        }
    }

    const fn version(&self) -> &Version {
        match self {
            Self::AtLeast(version)
            | Self::Above(version)
            | Self::Below(version)
            | Self::AtMost(version)
            | Self::Is(version) => version,
        }
    }
}

/// Sets of bounds, of which one must be met as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range(Vec<Vec<Bound>>);

impl Range {
    /// Reads a range; nothing where the text is none, such as a tag.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.split("||").map(set).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Tells whether a version is in it. A pre-release is only where a bound names one of the same version.
    pub(super) fn admits(&self, version: &Version) -> bool {
        let named = |bound: &Bound| {
            let bound = bound.version();
            !bound.pre.is_empty() && bound.numbers == version.numbers
        };
        let meets = |set: &Vec<Bound>| {
            set.iter().all(|bound| bound.admits(version)) && (version.pre.is_empty() || set.iter().any(named))
        };
        self.0.iter().any(meets)
    }
}

fn set(text: &str) -> Option<Vec<Bound>> {
    if let Some((from, to)) = text.trim().split_once(" - ") {
        let (from, to) = (Partial::parse(from.trim())?, Partial::parse(to.trim())?);
        let mut bounds = vec![Bound::AtLeast(from.floor())];
        bounds.extend(match to.beyond() {
            _ if to.is_whole() => Some(Bound::AtMost(to.floor())),
            beyond => beyond.map(|beyond| Bound::Below(Version::least(beyond))),
        });
        return Some(bounds);
    }
    let mut bounds = Vec::new();
    let mut sign = String::new();
    for word in text.split_whitespace() {
        let at = word.find(|one: char| !"^~<>=".contains(one)).unwrap_or(word.len());
        sign.push_str(&word[..at]);
        // a sign may stand apart from its version
        if at < word.len() {
            bounds.extend(bounded(&sign, &Partial::parse(&word[at..])?)?);
            sign.clear();
        }
    }
    sign.is_empty().then_some(bounds)
}

fn bounded(sign: &str, partial: &Partial) -> Option<Vec<Bound>> {
    let floor = partial.floor();
    let below = |numbers| Bound::Below(Version::least(numbers));
    let Some(beyond) = partial.beyond() else {
        // `<*` and `>*` are met by nothing, all other signs by everything
        return Some(if matches!(sign, "<" | ">") { vec![below([0, 0, 0])] } else { Vec::new() });
    };
    let [major, minor, _] = floor.numbers;
    Some(match sign {
        "^" => {
            let next = match partial.numbers {
                [_, None, _] => [major + 1, 0, 0],
                _ if major > 0 => [major + 1, 0, 0],
                [_, _, None] => [0, minor + 1, 0],
                _ if minor > 0 => [0, minor + 1, 0],
                _ => beyond,
            };
            vec![Bound::AtLeast(floor), below(next)]
        }
        "~" | "~>" => {
            let next = if partial.numbers[1].is_none() { beyond } else { [major, minor + 1, 0] };
            vec![Bound::AtLeast(floor), below(next)]
        }
        "" | "=" if partial.is_whole() => vec![Bound::Is(floor)],
        "" | "=" => vec![Bound::AtLeast(floor), below(beyond)],
        ">=" => vec![Bound::AtLeast(floor)],
        ">" if partial.is_whole() => vec![Bound::Above(floor)],
        ">" => vec![Bound::AtLeast(Version::plain(beyond))],
        "<" if partial.is_whole() => vec![Bound::Below(floor)],
        "<" => vec![below(floor.numbers)],
        "<=" if partial.is_whole() => vec![Bound::AtMost(floor)],
        "<=" => vec![below(beyond)],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_admit_what_npm_says() {
        // from the README of npm's semver, and its tests
        for (range, inside, outside) in [
            ("^1.2.3", "1.2.3 1.9.0", "1.2.2 2.0.0 2.0.0-0 1.3.0-rc.1 1.2.3-beta"),
            ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2"),
            ("^0.0.3", "0.0.3", "0.0.4"),
            ("^1.2.3-beta.2", "1.2.3-beta.2 1.2.3-beta.10 1.2.3 1.4.0", "1.2.4-beta.2 1.2.3-beta.1"),
            ("^0.0.x", "0.0.0 0.0.9", "0.1.0"),
            ("^0.0", "0.0.5", "0.1.0"),
            ("^0.x", "0.9.9", "1.0.0"),
            ("^1.x", "1.0.0 1.9.9", "2.0.0"),
            ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.3.0-0"),
            ("~1.2", "1.2.0", "1.3.0"),
            ("~1", "1.9.0", "2.0.0"),
            ("~> 1.2.3", "1.2.4", "1.3.0"),
            ("1.2.x", "1.2.0", "1.3.0"),
            ("1", "1.9.9", "2.0.0"),
            ("*", "0.0.1 9.9.9", "1.0.0-rc"),
            ("", "1.0.0", "1.0.0-rc"),
            ("1.2 - 2.3.4", "1.2.0 2.3.4", "2.3.5"),
            ("1.2.3 - 2.3", "2.3.9", "2.4.0"),
            (">=1.2.7 <1.3.0", "1.2.99", "1.3.0"),
            (">= 1.2.7 < 1.3.0", "1.2.99", "1.3.0"),
            ("1.2.7 || >=1.2.9 <2.0.0", "1.2.7 1.4.6", "1.2.8"),
            (">1.2", "1.3.0", "1.2.9"),
            (">1", "2.0.0", "1.9.9"),
            ("<1.2", "1.1.9", "1.2.0 1.2.0-rc"),
            ("<=1.2", "1.2.9", "1.3.0"),
            ("=v1.2.3", "1.2.3 1.2.3+build", "1.2.4"),
            ("<*", "", "0.0.0 1.0.0"),
        ] {
            let parsed = Range::parse(range).unwrap_or_else(|| panic!("`{range}` is a range"));
            for (versions, is) in [(inside, true), (outside, false)] {
                for version in versions.split_whitespace() {
                    let admits = parsed.admits(&Version::parse(version).unwrap());
                    assert_eq!(admits, is, "{version} of `{range}`: {parsed:?}");
                }
            }
        }
        for tag in [
            "latest",
            "next-11",
            "1.2.3.4",
            "file:../x",
            ">",
            "1.a",
            "^9007199254740992",
            "x-be",
            "1.2-rc",
            "1.2.x-a|",
            ".1",
            "1.",
        ] {
            assert_eq!(Range::parse(tag), None, "{tag}");
        }
    }

    #[test]
    fn versions_have_the_order_of_the_standard() {
        let ordered = [
            "1.0.0-0",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.9",
            "1.0.10",
        ];
        for pair in ordered.windows(2) {
            assert!(Version::parse(pair[0]) < Version::parse(pair[1]), "{pair:?}");
        }
        assert!(Version::parse("1.2.3+build-5.x").is_some());
        for wrong in ["1.2", "x", "1.2.3+a b", "1.2.3+a+b"] {
            assert!(Version::parse(wrong).is_none(), "{wrong}");
        }
    }
}
