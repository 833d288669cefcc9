//! What a Python package needs, and where.
//!
//! **Source**: the Python packaging specifications, "Dependency specifiers" (PEP 508), "Names and normalization".

use super::version::{Specifiers, Version};

/// A wish for a package.
#[derive(Clone, Debug)]
pub(super) struct Requirement {
    /// Its normalised name.
    pub name: String,
    pub extras: Vec<String>,
    pub versions: Specifiers,
    /// As it was written.
    pub text: String,
    marker: Option<Marker>,
}

/// The interpreter and machine that wishes are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Environment {
    /// `3.13.5`.
    pub full: String,
    /// `x86_64`.
    pub machine: String,
}

impl Environment {
    /// Gives `3.13`.
    pub(super) fn short(&self) -> &str {
        let end = self.full.match_indices('.').nth(1).map_or(self.full.len(), |(at, _)| at);
        &self.full[..end]
    }

    fn value(&self, variable: &str) -> Option<&str> {
        Some(match variable {
            "python_version" => self.short(),
            "python_full_version" | "implementation_version" => &self.full,
            "os_name" => "posix",
            "sys_platform" => "linux",
            "platform_system" => "Linux",
            "platform_machine" => &self.machine,
            "platform_python_implementation" => "CPython",
            "implementation_name" => "cpython",
            "platform_release" | "platform_version" => "",
            _ => return None,
        })
    }
}

/// Gives a name as all its spellings have it.
pub(super) fn normal(name: &str) -> String {
    let mut normal = String::with_capacity(name.len());
    for one in name.chars() {
        let one = if matches!(one, '_' | '.') { '-' } else { one.to_ascii_lowercase() };
        if one != '-' || !normal.ends_with('-') {
            normal.push(one);
        }
    }
    normal
}

impl Requirement {
    /// Reads `name[extra] (>=1.0) ; marker`; nothing where it is none, or of an address.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (wish, marker) = text.split_once(';').map_or((text, None), |(wish, marker)| (wish, Some(marker)));
        let wish = wish.trim();
        let end =
            wish.find(|one: char| !one.is_ascii_alphanumeric() && !"._-".contains(one)).unwrap_or(wish.len());
        let (name, mut rest) = wish.split_at(end);
        let mut extras = Vec::new();
        rest = rest.trim();
        if let Some(inner) = rest.strip_prefix('[') {
            let (list, after) = inner.split_once(']')?;
            extras = list.split(',').map(str::trim).filter(|extra| !extra.is_empty()).map(normal).collect();
            rest = after.trim();
        }
        let rest = rest.strip_prefix('(').map_or(Some(rest), |inner| inner.strip_suffix(')'))?;
        let marker = match marker.map(str::trim).filter(|marker| !marker.is_empty()) {
            Some(marker) => Some(Marker::parse(marker)?),
            None => None,
        };
        (!name.is_empty()).then_some(())?;
        let versions = Specifiers::parse(rest)?;
        Some(Self { name: normal(name), extras, versions, text: text.trim().to_owned(), marker })
    }

    /// Tells whether it counts for a machine, where some extras of who says it are wanted.
    pub(super) fn counts(&self, environment: &Environment, extras: &[String]) -> bool {
        self.marker.as_ref().is_none_or(|marker| {
            marker.holds(environment, "") || extras.iter().any(|extra| marker.holds(environment, extra))
        })
    }
}

#[derive(Clone, Debug)]
enum Marker {
    All(Vec<Marker>),
    Any(Vec<Marker>),
    Compare(Operand, String, Operand),
}

#[derive(Clone, Debug)]
enum Operand {
    Variable(String),
    Text(String),
}

impl Marker {
    fn parse(text: &str) -> Option<Self> {
        let words = words(text)?;
        let mut at = 0;
        let marker = any(&words, &mut at, 0)?;
        (at == words.len()).then_some(marker)
    }

    fn holds(&self, environment: &Environment, extra: &str) -> bool {
        match self {
            Self::All(all) => all.iter().all(|one| one.holds(environment, extra)),
            Self::Any(any) => any.iter().any(|one| one.holds(environment, extra)),
            Self::Compare(left, sign, right) => {
                let is_extra = |side: &Operand| matches!(side, Operand::Variable(name) if name == "extra");
                let of_extra = is_extra(left) || is_extra(right);
                let value = |side: &Operand| match side {
                    Operand::Variable(name) if name == "extra" => extra.to_owned(),
                    Operand::Variable(name) => environment.value(name).unwrap_or_default().to_owned(),
                    Operand::Text(text) if of_extra => normal(text),
                    Operand::Text(text) => text.clone(),
                };
                compare(&value(left), sign, &value(right))
            }
        }
    }
}

fn compare(left: &str, sign: &str, right: &str) -> bool {
    match sign {
        "in" => return right.contains(left),
        "not in" => return !right.contains(left),
        _ => {}
    }
    if let (Some(version), Some(bound)) = (Version::parse(left), Specifiers::parse(&format!("{sign}{right}")))
    {
        return bound.admit(&version);
    }
    match sign {
        "==" | "===" => left == right,
        "!=" => left != right,
        ">=" => left >= right,
        "<=" => left <= right,
        ">" => left > right,
        "<" => left < right,
        _ => false,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Word {
    Open,
    Close,
    Sign(String),
    Name(String),
    Text(String),
}

fn words(text: &str) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '(' => {
                words.push(Word::Open);
                1
            }
            ')' => {
                words.push(Word::Close);
                1
            }
            '\'' | '"' => {
                let end = rest[1..].find(first)? + 1;
                words.push(Word::Text(rest[1..end].to_owned()));
                end + 1
            }
            '<' | '>' | '=' | '!' | '~' => {
                let end = rest.find(|one: char| !"<>=!~".contains(one)).unwrap_or(rest.len());
                words.push(Word::Sign(rest[..end].to_owned()));
                end
            }
            _ => {
                let end = rest
                    .find(|one: char| !one.is_ascii_alphanumeric() && !"._".contains(one))
                    .unwrap_or(rest.len());
                (end > 0).then_some(())?;
                words.push(Word::Name(rest[..end].to_owned()));
                end
            }
        };
        rest = rest[end..].trim_start();
    }
    Some(words)
}

/// How deep parentheses may be.
const DEPTH: usize = 64;

fn any(words: &[Word], at: &mut usize, depth: usize) -> Option<Marker> {
    let mut found = vec![all(words, at, depth)?];
    while words.get(*at) == Some(&Word::Name("or".to_owned())) {
        *at += 1;
        found.push(all(words, at, depth)?);
    }
    Some(Marker::Any(found))
}

fn all(words: &[Word], at: &mut usize, depth: usize) -> Option<Marker> {
    let mut found = vec![one(words, at, depth)?];
    while words.get(*at) == Some(&Word::Name("and".to_owned())) {
        *at += 1;
        found.push(one(words, at, depth)?);
    }
    Some(Marker::All(found))
}

fn one(words: &[Word], at: &mut usize, depth: usize) -> Option<Marker> {
    if words.get(*at) == Some(&Word::Open) {
        *at += 1;
        let inner = if depth < DEPTH { any(words, at, depth + 1)? } else { return None };
        (words.get(*at) == Some(&Word::Close)).then_some(())?;
        *at += 1;
        return Some(inner);
    }
    let operand = |at: &mut usize| {
        let operand = match words.get(*at)? {
            Word::Name(name) => Operand::Variable(name.clone()),
            Word::Text(text) => Operand::Text(text.clone()),
            _ => return None,
        };
        *at += 1;
        Some(operand)
    };
    let left = operand(at)?;
    let sign = match words.get(*at)? {
        Word::Sign(sign) => sign.clone(),
        Word::Name(name) if name == "in" => "in".to_owned(),
        Word::Name(name) if name == "not" => {
            *at += 1;
            (words.get(*at) == Some(&Word::Name("in".to_owned()))).then_some(())?;
            "not in".to_owned()
        }
        _ => return None,
    };
    *at += 1;
    Some(Marker::Compare(left, sign, operand(at)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_in_all_their_forms() {
        let read = |text: &str| {
            let found = Requirement::parse(text).unwrap_or_else(|| panic!("{text}"));
            let admits = |version: &str| found.versions.admit(&Version::parse(version).unwrap());
            (found.name.clone(), found.extras.clone(), admits("1.5"), admits("2.5"))
        };
        let own = |name: &str, extras: &[&str], one, two| {
            (name.to_owned(), extras.iter().map(|&extra| extra.to_owned()).collect::<Vec<_>>(), one, two)
        };
        assert_eq!(read("Foo_Bar.baz"), own("foo-bar-baz", &[], true, true));
        assert_eq!(read("foo[A, b_c]>=1,<2"), own("foo", &["a", "b-c"], true, false));
        assert_eq!(read("foo (>=2) ; os_name == 'nt'"), own("foo", &[], false, true));
        assert_eq!(read("foo>=2;python_version<'3'"), own("foo", &[], false, true));
        for wrong in
            ["", "foo @ https://x.invalid/foo.whl", "foo; os_name ==", "foo >> 1", "foo[a", "foo; (a == 'b'"]
        {
            assert!(Requirement::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn markers_are_of_the_tree_and_its_extras() {
        let environment = Environment { full: "3.13.5".to_owned(), machine: "x86_64".to_owned() };
        for (marker, plain, extra) in [
            ("python_version >= '3.9'", true, true),
            ("python_version < '3.9'", false, false),
            ("'3.13' == python_version", true, true),
            ("python_full_version > '3.13.4' and sys_platform != 'win32'", true, true),
            ("sys_platform == 'win32' or platform_machine in 'x86_64 amd64'", true, true),
            ("platform_system not in 'Linux'", false, false),
            ("extra == 'Some_Extra'", false, true),
            ("(extra == 'other' or extra == 'some.extra') and os_name == \"posix\"", false, true),
            ("extra != 'some-extra'", true, true),
            ("implementation_name == 'cpython' and platform_release >= '4'", false, false),
        ] {
            let found = Requirement::parse(&format!("foo; {marker}")).unwrap_or_else(|| panic!("{marker}"));
            assert_eq!(found.counts(&environment, &[]), plain, "{marker}");
            assert_eq!(found.counts(&environment, &["some-extra".to_owned()]), extra, "{marker}");
        }
    }
}
