//! Relations between packages: `Depends`, `Conflicts`, `Provides` and their like.
//!
//! **Source**: Debian Policy §7.1, deb-control(5); build profiles and architecture restrictions as in
//! deb-src-control(5).

use std::fmt;

use super::version::{self, Version};

/// How a version must compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`, and the `<` of old
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`, and the `>` of old
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    /// Tells whether a version stands so to a bound.
    #[must_use]
    pub fn holds(self, version: &Version<'_>, bound: &Version<'_>) -> bool {
        let order = version.cmp(bound);
        match self {
            Self::Earlier => order.is_lt(),
            Self::EarlierOrEqual => order.is_le(),
            Self::Equal => order.is_eq(),
            Self::LaterOrEqual => order.is_ge(),
            Self::Later => order.is_gt(),
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        }
    }
}

/// One package of a relation, with what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// The package's name, real or virtual.
    pub name: &'a str,
    /// What follows `:`: `any`, `native` or an architecture.
    pub qualifier: Option<&'a str>,
    /// The version asked for.
    pub bound: Option<(Operator, Version<'a>)>,
}

impl Relation<'_> {
    /// Tells whether a version is as asked for.
    #[must_use]
    pub fn admits(&self, version: &Version<'_>) -> bool {
        self.bound.as_ref().is_none_or(|(operator, bound)| operator.holds(version, bound))
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        match &self.bound {
            Some((operator, bound)) => write!(f, " ({} {bound})", operator.as_str()),
            None => Ok(()),
        }
    }
}

/// Why a text is not a list of relations.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A part that is no relation.
    #[error("`{text}` is no relation: {want}")]
    Syntax {
        /// The part.
        text: String,
        /// What should have been there.
        want: &'static str,
    },
    /// A part whose version is wrong.
    #[error("relation `{text}` has a wrong version")]
    Version {
        /// The part.
        text: String,
        /// What is wrong with it.
        source: version::Invalid,
    },
}

/// Parses a list: groups separated by commas, in a group alternatives separated by bars.
///
/// Alternatives that an architecture restriction excludes are left out, and groups left empty with them;
/// build profiles are ignored. Empty groups (a comma too many) are accepted, as dpkg does.
///
/// # Errors
/// [`Invalid`] names the first part that is wrong.
pub fn parse<'a>(text: &'a str, architecture: &str) -> Result<Vec<Vec<Relation<'a>>>, Invalid> {
    let mut groups = Vec::new();
    for group in text.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        let mut alternatives = Vec::new();
        for part in group.split('|') {
            alternatives.extend(relation(part.trim(), architecture)?);
        }
        if !alternatives.is_empty() {
            groups.push(alternatives);
        }
    }
    Ok(groups)
}

/// Parses one relation; none where it is for other architectures.
fn relation<'a>(text: &'a str, architecture: &str) -> Result<Option<Relation<'a>>, Invalid> {
    let wrong = |want| Invalid::Syntax { text: text.to_owned(), want };
    let end = text.find([' ', '\t', '\n', '(', '[', '<']).unwrap_or(text.len());
    let (full, mut rest) = (&text[..end], text[end..].trim_start());
    let (name, qualifier) = match full.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (full, None),
    };
    if !is_name(name) {
        return Err(wrong("a package's name is of a-z, 0-9, `+`, `-` and `.`"));
    }
    if qualifier.is_some_and(|word| word.is_empty() || !word.bytes().all(is_architecture)) {
        return Err(wrong("after `:` stands `any`, `native` or an architecture"));
    }
    let mut bound = None;
    if let Some(inside) = rest.strip_prefix('(') {
        let (inside, after) = inside.split_once(')').ok_or_else(|| wrong("`(` is not closed"))?;
        bound = Some(self::bound(inside.trim(), text)?);
        rest = after.trim_start();
    }
    let mut wanted = true;
    if let Some(inside) = rest.strip_prefix('[') {
        let (inside, after) = inside.split_once(']').ok_or_else(|| wrong("`[` is not closed"))?;
        wanted = applies(inside, architecture);
        rest = after.trim_start();
    }
    while let Some(inside) = rest.strip_prefix('<') {
        let (_, after) = inside.split_once('>').ok_or_else(|| wrong("`<` is not closed"))?;
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        return Err(wrong("nothing may follow it but `,` or `|`"));
    }
    Ok(wanted.then_some(Relation { name, qualifier, bound }))
}

/// Parses what stands between parentheses.
fn bound<'a>(inside: &'a str, text: &str) -> Result<(Operator, Version<'a>), Invalid> {
    const OPERATORS: [(&str, Operator); 7] = [
        ("<<", Operator::Earlier),
        ("<=", Operator::EarlierOrEqual),
        (">=", Operator::LaterOrEqual),
        (">>", Operator::Later),
        ("=", Operator::Equal),
        ("<", Operator::EarlierOrEqual),
        (">", Operator::LaterOrEqual),
    ];
    let found = OPERATORS.iter().find_map(|(sign, operator)| Some((*operator, inside.strip_prefix(sign)?)));
    let (operator, version) = found.ok_or_else(|| Invalid::Syntax {
        text: text.to_owned(),
        want: "a version follows one of `<<`, `<=`, `=`, `>=`, `>>`",
    })?;
    let version = Version::parse(version.trim())
        .map_err(|source| Invalid::Version { text: text.to_owned(), source })?;
    Ok((operator, version))
}

/// Tells whether an architecture restriction (`amd64 i386`, `!hurd-any`) covers an architecture.
fn applies(restriction: &str, architecture: &str) -> bool {
    let covers = |word: &str| match word.strip_prefix("linux-") {
        _ if word == architecture || word == "any" => true,
        Some(cpu) => cpu == "any" || cpu == architecture,
        None => word.strip_prefix("any-").is_some_and(|cpu| cpu == architecture),
    };
    let mut words = restriction.split_ascii_whitespace().peekable();
    if words.peek().is_some_and(|word| word.starts_with('!')) {
        !words.any(|word| covers(word.trim_start_matches('!')))
    } else {
        words.any(covers)
    }
}

/// Tells whether a text may be a package's name.
///
/// Policy §5.6.1 wants two characters and lower case; dpkg and old archives accept more, and so does this,
/// but for nothing that could mean something in a path or a shell.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.' | b'_');
    text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && text.bytes().all(valid)
}

const fn is_architecture(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let groups = parse(text, "amd64").unwrap();
        let group =
            |group: &Vec<Relation<'_>>| group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
        groups.iter().map(group).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn reads_every_form() {
        assert_eq!(
            shown("libc6 (>= 2.38), a|b(<<1)  |c (= 1:2-3)"),
            "libc6 (>= 2.38), a | b (<< 1) | c (= 1:2-3)"
        );
        assert_eq!(shown("a (> 1), b (< 2)"), "a (>= 1), b (<= 2)");
        assert_eq!(
            shown("python3:any (>= 3.9~), gcc:native, x:arm64"),
            "python3:any (>= 3.9~), gcc:native, x:arm64"
        );
        assert_eq!(shown("a [amd64], b [!amd64], c [i386] | d [linux-any], e <!nocheck> <x y>"), "a, d, e");
        assert_eq!(shown("a,\n b,\n"), "a, b");
        assert_eq!(shown(""), "");
    }

    #[test]
    fn refuses_what_is_no_relation() {
        for bad in
            ["a (>= )", "a (1)", "a (>= 1", "a [amd64", "a b", "a | | b", "../x", "a (>= 1) x", "a:", "-a"]
        {
            assert!(parse(bad, "amd64").is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn compares_as_the_operator_says() {
        let admits = |text: &str, version: &str| {
            parse(text, "amd64").unwrap()[0][0].admits(&Version::parse(version).unwrap())
        };
        assert!(admits("a (>= 1)", "1") && !admits("a (>= 1)", "1~"));
        assert!(admits("a (<< 2)", "2~") && !admits("a (<< 2)", "2"));
        assert!(admits("a (= 1-1)", "0:1-1") && !admits("a (= 1-1)", "1-1+b1"));
    }
}
