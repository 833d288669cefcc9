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
    /// Reads `1.2.3-rc.1+build`, also `v1.2.3rc.1`; what was built does not count.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let partial = Partial::parse(text, Reading::Loose)?;
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

/// How strictly a text is read: npm takes dependencies loosely, and `engines` strictly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Loose,
    Strict,
}

/// A version of which the later numbers may be left open: `1`, `1.2.x`, `*`.
struct Partial {
    numbers: [Option<u64>; 3],
    pre: Vec<Word>,
    /// Whether a number stands behind one that is open: `1.x.3`.
    is_odd: bool,
}

impl Partial {
    fn parse(text: &str, reading: Reading) -> Option<Self> {
        let bare = text.trim_start_matches(['v', '=', ' ']);
        let prefix = &text[..text.len() - bare.len()];
        let (version, build) =
            bare.split_once('+').map_or((bare, None), |(version, build)| (version, Some(build)));
        if build.is_some_and(|build| !build.split('.').all(is_word)) {
            return None;
        }
        let mut rest = version;
        let mut found = [None; 3];
        let (mut parts, mut is_open, mut is_odd) = (0, false, false);
        for place in &mut found {
            let (number, after) = number(rest, reading)?;
            is_odd |= is_open && number.is_some();
            is_open |= number.is_none();
            *place = if is_open { None } else { number };
            (parts, rest) = (parts + 1, after);
            match after.strip_prefix('.') {
                Some(after) if parts < 3 => rest = after,
                _ => break,
            }
        }
        // only what has three numbers has a pre-release
        let pre = match rest {
            "" => Vec::new(),
            _ if parts < 3 => return None,
            rest => pre_release(rest, reading)?,
        };
        // of whole versions a strict reading takes no `=` more
        if reading == Reading::Strict && !is_open && !matches!(prefix, "" | "v") {
            return None;
        }
        // one of a version that is open says nothing
        let pre = if found[2].is_some() { pre } else { Vec::new() };
        Some(Self { numbers: found, pre, is_odd })
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

/// Reads a number, or a sign that leaves it open, and gives what is behind.
fn number(text: &str, reading: Reading) -> Option<(Option<u64>, &str)> {
    if let Some(rest) = text.strip_prefix(['x', 'X', '*']) {
        return Some((None, rest));
    }
    let end = text.find(|one: char| !one.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().ok().filter(|number| *number <= LARGEST)?;
    let is_padded = end > 1 && text.starts_with('0');
    (reading == Reading::Loose || !is_padded).then(|| (Some(number), &text[end..]))
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Reads `-rc.1`; loosely also `rc.1`, and a `-` alone, which is a word then.
fn pre_release(text: &str, reading: Reading) -> Option<Vec<Word>> {
    let word = |word: &str| {
        let is_padded =
            word.len() > 1 && word.starts_with('0') && word.bytes().all(|one| one.is_ascii_digit());
        let known = is_word(word) && (reading == Reading::Loose || !is_padded);
        known.then(|| word.parse().map_or_else(|_| Word::Text(word.to_owned()), Word::Number))
    };
    let words = |text: &str| text.split('.').map(word).collect::<Option<Vec<_>>>();
    match text.strip_prefix('-') {
        Some(rest) => words(rest).or_else(|| (reading == Reading::Loose).then(|| words(text))?),
        None => (reading == Reading::Loose).then(|| words(text))?,
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
    /// Reads a range as npm reads those of dependencies: words that say nothing are passed over. Nothing where the
    /// text is none, such as a tag.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::read(text, Reading::Loose)
    }

    /// Reads a range as npm reads those of `engines`.
    pub(super) fn parse_strict(text: &str) -> Option<Self> {
        Self::read(text, Reading::Strict)
    }

    fn read(text: &str, reading: Reading) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let sets = words.join(" ");
        let sets = sets.split("||").map(|text| set(text.trim(), reading));
        let mut sets: Vec<Vec<Bound>> = match reading {
            Reading::Loose => sets.flatten().collect(),
            Reading::Strict => sets.collect::<Option<_>>()?,
        };
        // where one takes everything, the others name no pre-releases
        if sets.iter().any(Vec::is_empty) {
            sets = vec![Vec::new()];
        }
        (!sets.is_empty()).then_some(Self(sets))
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

    /// Tells whether a version is in it, pre-releases too.
    pub(super) fn admits_any(&self, version: &Version) -> bool {
        self.0.iter().any(|set| set.iter().all(|bound| bound.admits(version)))
    }
}

/// Reads bounds that must all be met; nothing where no word of them is one.
fn set(text: &str, reading: Reading) -> Option<Vec<Bound>> {
    let text = without_builds(text);
    if let Some((first, last)) = text.split_once(" - ")
        && let (Some(from), Some(to)) = (Partial::parse(first, reading), Partial::parse(last.trim(), reading))
    {
        let floor = from.numbers[0].map(|_| Bound::AtLeast(from.floor()));
        let end = match to.beyond() {
            _ if to.is_whole() => Some(Bound::AtMost(to.floor())),
            beyond => beyond.map(|beyond| Bound::Below(Version::least(beyond))),
        };
        let mut bounds = Vec::new();
        for (text, is_kept, bound) in
            [(first, from.is_whole(), floor), (last.trim(), to.is_whole() && to.pre.is_empty(), end)]
        {
            // npm puts its sign before a text that it keeps: before a blank in it, that is no bound of the version
            match text.rsplit_once(' ').filter(|_| is_kept) {
                Some(_) if reading == Reading::Strict => return None,
                Some((_, version)) => bounds.extend(bounded_by(version, reading).into_iter().flatten()),
                None => bounds.extend(bound),
            }
        }
        return Some(bounds);
    }
    if text.is_empty() {
        return Some(Vec::new());
    }
    let (mut bounds, mut is_known) = (Vec::new(), false);
    let words = joined(&text);
    for (at, word) in words.iter().enumerate() {
        match bounded_by(word, reading) {
            // a word that takes everything says nothing between others
            Some(found) if found.is_empty() => is_known |= at == 0 || at + 1 == words.len(),
            Some(found) => {
                bounds.extend(found);
                is_known = true;
            }
            None if reading == Reading::Strict => return None,
            None => {}
        }
    }
    // `>=0.0.0` takes everything
    bounds.retain(|bound| *bound != Bound::AtLeast(Version::plain([0, 0, 0])));
    is_known.then_some(bounds)
}

/// Takes the builds off all versions of a text.
fn without_builds(text: &str) -> String {
    let mut parts = text.split('+');
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|one: char| !one.is_ascii_alphanumeric() && !"-.".contains(one));
        let (build, rest) = part.split_at(end.unwrap_or(part.len()));
        let build = build.trim_end_matches('.');
        if build.split('.').all(is_word) {
            kept.push_str(&part[build.len()..]);
        } else {
            kept.push('+');
            kept.push_str(build);
            kept.push_str(rest);
        }
    }
    kept
}

/// Splits a text into words; a sign that stands apart belongs to the word behind it.
fn joined(text: &str) -> Vec<String> {
    let join = |words: Vec<String>, signs: &[&str]| {
        let mut joined: Vec<String> = Vec::new();
        let mut is_open = false;
        for word in words {
            match joined.last_mut().filter(|_| is_open) {
                Some(last) => {
                    last.push_str(&word);
                    is_open = false;
                }
                None => {
                    is_open = signs.contains(&word.as_str());
                    joined.push(word);
                }
            }
        }
        joined
    };
    let words = join(text.split_whitespace().map(str::to_owned).collect(), &["<", ">", "<=", ">=", "="]);
    join(words, &["~", "~>", "^"])
}

fn bounded_by(word: &str, reading: Reading) -> Option<Vec<Bound>> {
    const SIGNS: [&str; 8] = ["^", "~>", "~", ">=", "<=", ">", "<", "="];
    let sign = SIGNS.into_iter().find(|sign| word.starts_with(sign)).unwrap_or_default();
    let partial = Partial::parse(&word[sign.len()..], reading)?;
    if partial.is_odd && !sign.starts_with(['^', '~']) {
        return None;
    }
    bounded(sign, &partial)
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
        // those that are read loosely: a pre-release without its `-`, words that say nothing
        for (range, inside, outside) in [
            ("^1.2.3beta", "1.2.3-beta 1.2.3 1.9.0", "1.2.3-alpha 2.0.0 1.3.0-beta"),
            ("1.2.3beta", "1.2.3-beta 1.2.3beta", "1.2.3"),
            (">=1.0.0 <2.0.0-", "1.0.0 1.9.9 2.0.0-0", "2.0.0 2.0.0-a 2.0.0--"),
            (">=0.10.0-", "0.10.0 0.10.0-- 1.0.0", "0.9.0"),
            ("== 1.2.3", "1.2.3", "1.2.4"),
            (">= 1.2.3 foo", "1.3.0", "1.2.2"),
            ("foo || 1", "1.0.0", "2.0.0"),
            ("~ > 1.2.3", "1.2.4", "1.3.0"),
            ("1.2.3 - foo", "1.2.3", "1.2.4"),
            ("v 1.2.3", "1.2.3", "1.2.4"),
            ("== 1.2.3 - *", "1.2.3", "1.2.4 2.0.0"),
            ("==1.2.3 - 2", "1.2.3 1.2.4 2.0.0", "1.2.2 3.0.0"),
            ("1.2.3 - = 2.0.0", "2.0.0", "1.2.3"),
            ("1.2.3 - v 2.0.0-b", "1.2.3 2.0.0-a", "2.0.0"),
            ("01.2.3", "1.2.3", "1.2.4"),
            ("* || 1.0.0-rc", "1.0.0", "1.0.0-rc"),
            ("1.x.3 || 2", "2.0.0", "1.0.3"),
            (">1.0.0+b.1 <2.0.0+c", "1.5.0", "1.0.0 2.0.0"),
        ] {
            let parsed = Range::parse(range).unwrap_or_else(|| panic!("`{range}` is a range"));
            assert!(
                Range::parse_strict(range).is_none() || !range.contains(['b', 'f']) || range.contains('+')
            );
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
            "1.x.3",
            "*.1",
            "1.2.3+",
            "=>1.2.3",
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
