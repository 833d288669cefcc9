//! Versions of Python packages, and which of them will do.
//!
//! **Source**: the Python packaging specifications, "Version specifiers" (PEP 440).

use std::{cmp::Ordering, fmt};

/// A version.
#[derive(Clone, Debug)]
pub(super) struct Version {
    epoch: u64,
    release: Vec<u64>,
    /// `a`, `b` or `rc`, with its number.
    pre: Option<(u8, u64)>,
    post: Option<u64>,
    dev: Option<u64>,
    local: Vec<Local>,
    text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Local {
    Text(String),
    Number(u64),
}

impl fmt::Display for Version {
    /// Writes it as it was read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is still to be read of a version.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn number(&mut self) -> Option<u64> {
        let end = self.0.find(|one: char| !one.is_ascii_digit()).unwrap_or(self.0.len());
        let number = self.0[..end].parse().ok()?;
        self.0 = &self.0[end..];
        Some(number)
    }

    fn skip(&mut self, text: &str) -> bool {
        self.0.strip_prefix(text).map(|rest| self.0 = rest).is_some()
    }

    fn skip_any(&mut self, signs: &[char]) {
        self.0 = self.0.strip_prefix(signs).unwrap_or(self.0);
    }

    /// Reads one of some words and a number behind it, which may be missing; nothing is read where none stands.
    fn marked(&mut self, words: &[(&str, u8)]) -> Option<(u8, u64)> {
        const SIGNS: &[char] = &['.', '-', '_'];
        let mut ahead = Rest(self.0);
        ahead.skip_any(SIGNS);
        let (_, kind) = words.iter().find(|(word, _)| ahead.skip(word))?;
        let mut behind = Rest(ahead.0);
        behind.skip_any(SIGNS);
        let number = match behind.number() {
            Some(number) => {
                ahead.0 = behind.0;
                number
            }
            None => 0,
        };
        self.0 = ahead.0;
        Some((*kind, number))
    }
}

/// Longer words first, where one begins as another does.
const PRE: &[(&str, u8)] =
    &[("alpha", 0), ("a", 0), ("beta", 1), ("b", 1), ("preview", 2), ("pre", 2), ("rc", 2), ("c", 2)];
const POST: &[(&str, u8)] = &[("post", 0), ("rev", 0), ("r", 0)];
const DEV: &[(&str, u8)] = &[("dev", 0)];

impl Version {
    /// Reads a version in any of the spellings that are allowed.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let own = text.trim();
        let lower = own.to_ascii_lowercase();
        let (public, local) = lower.split_once('+').map_or((lower.as_str(), None), |(a, b)| (a, Some(b)));
        let mut rest = Rest(public);
        rest.skip("v");
        let mut first = rest.number()?;
        let mut epoch = 0;
        if rest.skip("!") {
            epoch = first;
            first = rest.number()?;
        }
        let mut release = vec![first];
        while rest.0.starts_with('.') && rest.0[1..].starts_with(|one: char| one.is_ascii_digit()) {
            rest.skip(".");
            release.push(rest.number()?);
        }
        let pre = rest.marked(PRE);
        let mut post = rest.marked(POST).map(|(_, number)| number);
        if post.is_none()
            && rest.0.starts_with('-')
            && rest.0[1..].starts_with(|one: char| one.is_ascii_digit())
        {
            rest.skip("-");
            post = rest.number();
        }
        let dev = rest.marked(DEV).map(|(_, number)| number);
        let word = |word: &str| {
            let known = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
            known.then(|| word.parse().map_or_else(|_| Local::Text(word.to_owned()), Local::Number))
        };
        let local =
            local.map_or(Some(Vec::new()), |local| local.split(['.', '-', '_']).map(word).collect())?;
        rest.0.is_empty().then(|| Self { epoch, release, pre, post, dev, local, text: own.to_owned() })
    }

    pub(super) const fn is_pre(&self) -> bool {
        self.pre.is_some() || self.dev.is_some()
    }

    /// Gives a number of the release: 0 where it is shorter.
    fn number(&self, at: usize) -> u64 {
        self.release.get(at).copied().unwrap_or(0)
    }

    fn release_cmp(&self, other: &Self) -> Ordering {
        let length = self.release.len().max(other.release.len());
        let mut pairs = (0..length).map(|at| self.number(at).cmp(&other.number(at)));
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| pairs.find(|order| order.is_ne()).unwrap_or(Ordering::Equal))
    }

    /// Compares without what was built here.
    fn public_cmp(&self, other: &Self) -> Ordering {
        // a development release comes before all else of its version, a final one after all that came before it
        let pre = |version: &Self| match (version.pre, version.post, version.dev) {
            (Some((kind, number)), ..) => (1, kind, number),
            (None, None, Some(_)) => (0, 0, 0),
            (None, ..) => (2, 0, 0),
        };
        let dev = |version: &Self| version.dev.map_or((1, 0), |number| (0, number));
        self.release_cmp(other)
            .then_with(|| pre(self).cmp(&pre(other)))
            .then_with(|| self.post.cmp(&other.post))
            .then_with(|| dev(self).cmp(&dev(other)))
    }

    fn begins_as(&self, prefix: &Self) -> bool {
        self.epoch == prefix.epoch && (0..prefix.release.len()).all(|at| self.number(at) == prefix.number(at))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.public_cmp(other).then_with(|| self.local.cmp(&other.local))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Is,
    IsNot,
    Begins,
    BeginsNot,
    AtLeast,
    AtMost,
    Above,
    Below,
    Like,
    Exactly,
}

/// Conditions on a version, all of which are to be met.
#[derive(Clone, Debug, Default)]
pub(super) struct Specifiers(Vec<(Sign, Version, String)>);

impl Specifiers {
    /// Reads `>=1.2,<2`; nothing at all is met by every version.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let conditions = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        conditions.map(condition).collect::<Option<_>>().map(Self)
    }

    /// Tells whether a version meets them, not looking at whether it is a pre-release.
    pub(super) fn admit(&self, version: &Version) -> bool {
        self.0.iter().all(|(sign, bound, text)| meets(*sign, bound, text, version))
    }

    /// Tells whether they name a pre-release, and so allow them.
    pub(super) fn name_pre(&self) -> bool {
        self.0.iter().any(|(sign, bound, _)| bound.is_pre() && !matches!(sign, Sign::IsNot | Sign::BeginsNot))
    }

    /// Tells whether they name exactly one version, which then may be one that was withdrawn.
    pub(super) fn name_one(&self) -> bool {
        self.0.iter().any(|(sign, ..)| matches!(sign, Sign::Is | Sign::Exactly))
    }
}

fn condition(text: &str) -> Option<(Sign, Version, String)> {
    const SIGNS: [(&str, Sign); 8] = [
        ("===", Sign::Exactly),
        ("==", Sign::Is),
        ("!=", Sign::IsNot),
        ("~=", Sign::Like),
        (">=", Sign::AtLeast),
        ("<=", Sign::AtMost),
        (">", Sign::Above),
        ("<", Sign::Below),
    ];
    let (sign, rest) =
        SIGNS.iter().find_map(|(word, sign)| Some((*sign, text.strip_prefix(word)?.trim())))?;
    let (sign, rest) = match (sign, rest.strip_suffix(".*")) {
        (Sign::Is, Some(prefix)) => (Sign::Begins, prefix),
        (Sign::IsNot, Some(prefix)) => (Sign::BeginsNot, prefix),
        (_, None) => (sign, rest),
        // some say `>=3.6.*`, and mean `>=3.6`
        (_, Some(prefix)) => (sign, prefix),
    };
    let version = Version::parse(rest)?;
    let is_plain = !version.is_pre() && version.post.is_none() && version.local.is_empty();
    if matches!(sign, Sign::Begins | Sign::BeginsNot) && !is_plain {
        return None;
    }
    (sign != Sign::Like || version.release.len() > 1).then(|| (sign, version, rest.to_owned()))
}

fn meets(sign: Sign, bound: &Version, text: &str, version: &Version) -> bool {
    let order = version.public_cmp(bound);
    match sign {
        Sign::Is => order.is_eq() && (bound.local.is_empty() || version.local == bound.local),
        Sign::IsNot => !meets(Sign::Is, bound, text, version),
        Sign::Begins => version.begins_as(bound),
        Sign::BeginsNot => !version.begins_as(bound),
        Sign::AtLeast => order.is_ge(),
        Sign::AtMost => order.is_le(),
        // what comes after a version is above it, but not what was only built from it again
        Sign::Above => {
            let is_bare = bound.post.is_none() && bound.dev.is_none();
            order.is_gt() && !(is_bare && version.release_cmp(bound).is_eq() && version.pre == bound.pre)
        }
        // nor is what comes before it below it
        Sign::Below if bound.is_pre() => order.is_lt(),
        Sign::Below => version.public_cmp(&Version { dev: Some(0), ..bound.clone() }).is_lt(),
        Sign::Like => {
            let mut prefix = bound.clone();
            prefix.release.pop();
            order.is_ge() && version.begins_as(&prefix)
        }
        Sign::Exactly => version.text.eq_ignore_ascii_case(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_the_order_of_the_specification() {
        let ordered = [
            "1.0.dev456",
            "1.0a1",
            "1.0a2.dev456",
            "1.0a12.dev456",
            "1.0a12",
            "1.0b1.dev456",
            "1.0b2",
            "1.0b2.post345.dev456",
            "1.0b2.post345",
            "1.0rc1.dev456",
            "1.0rc1",
            "1.0",
            "1.0+abc.5",
            "1.0+abc.7",
            "1.0+5",
            "1.0.post456.dev34",
            "1.0.post456",
            "1.0.15",
            "1.1.dev1",
            "1!0.1",
        ];
        let read = |text: &str| Version::parse(text).unwrap_or_else(|| panic!("{text}"));
        for pair in ordered.windows(2) {
            assert!(read(pair[0]) < read(pair[1]), "{pair:?}");
        }
        for (one, other) in [
            ("1.0", "1"),
            ("1.0-ALPHA.1", "1a1"),
            ("v1.0c1", "1.0rc1"),
            ("1.0-4", "1.0.post4"),
            ("1.0rev", "1.0.post0"),
        ] {
            assert_eq!(read(one), read(other), "{one}");
        }
        for wrong in ["", "abc", "1.0x", "1.0+", "1..0", "1.0 2"] {
            assert!(Version::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn conditions_are_met_as_the_specification_says() {
        for (conditions, inside, outside) in [
            ("", "1.0 2.0", ""),
            ("==1.1", "1.1 1.1.0 1.1+local", "1.1.post1 1.1a1"),
            ("==1.1.*", "1.1 1.1.post1 1.1.9", "1.2 1.10"),
            ("!=1.1.*", "1.2", "1.1.5"),
            ("~=2.2", "2.2 2.9", "3.0 2.1"),
            ("~=1.4.5", "1.4.5 1.4.9", "1.5 1.4.4"),
            (">1.7", "1.7.1 1.8", "1.7 1.7.post1 1.7.0.post2"),
            (">1.7.post1", "1.7.post2", "1.7.post1"),
            (">1.7rc1", "1.7rc2.post1 1.7.post1 1.7", "1.7rc1.post1 1.7rc1"),
            (">1.7.dev1", "1.7a1.post1 1.7.dev2", "1.7.dev1"),
            ("<1.7.post1", "1.7 1.7rc1", "1.7.post1.dev1 1.7.post1"),
            ("<1.7", "1.6.9", "1.7rc1 1.7.dev1 1.7"),
            ("<1.7rc2", "1.7rc1", "1.7rc2"),
            (">=1.2, <2,!=1.5", "1.2 1.9", "1.5 2.0 1.1"),
            ("==1.0+x", "1.0+x", "1.0"),
            ("===1.0", "1.0", "1.0.0"),
        ] {
            let read = Specifiers::parse(conditions).unwrap();
            for (versions, is) in [(inside, true), (outside, false)] {
                for version in versions.split_whitespace() {
                    assert_eq!(
                        read.admit(&Version::parse(version).unwrap()),
                        is,
                        "{version} of `{conditions}`"
                    );
                }
            }
        }
        assert!(Specifiers::parse("=1.0").is_none() && Specifiers::parse("~=1").is_none());
    }
}
