//! Where each value of a stack comes from: file and line, who took it back, who required whom.

use toml::Value;

use super::{
    canonical::is_called,
    check::{self, Error},
    load::{Catalogue, Kind, Source},
    merge,
    spans::{Item, Node, key},
};

/// Keys that say something of the file and nothing of the stack.
const OF_FILES: [&str; 5] = ["schema", "name", "summary", "requires", "unset"];

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Line {
    /// The key: `packages.install`, `files[2].mode`. A plain list has a line for each of its items.
    pub key: String,
    /// The value.
    pub value: Value,
    /// The profile or image that says it.
    pub by: String,
    /// Its file.
    pub file: String,
    /// The line in it.
    pub line: usize,
    /// Why it does not count: what took it back, or what counts instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub but: Option<String>,
}

/// A file of a stack, and why it is there.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// `image` or `profile`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Who asked for it: `FILE:LINE` of each that requires it; none for what was asked for by name.
    pub required_by: Vec<String>,
}

/// Explains one file by itself.
///
/// # Errors
/// Where it is not TOML.
pub fn one(source: &Source, name: &str) -> Result<Vec<Line>, Error> {
    let node = read(source)?;
    let mut lines = Vec::new();
    flat(&node, "", false, &mut |value| lines.push(value.of(source, name)));
    Ok(lines)
}

/// Explains an image with profiles and all that they require, in the order of their stack.
///
/// # Errors
/// Whatever is wrong with a file.
pub fn stack(
    catalogue: &Catalogue,
    image: &str,
    profiles: &[String],
) -> Result<(Vec<Member>, Vec<Line>), Error> {
    let files = merge::files(catalogue, image, profiles)?;
    let nodes = files.iter().map(|(_, source, _)| read(source)).collect::<Result<Vec<_>, _>>()?;
    let mut members: Vec<Member> = Vec::new();
    let mut lines: Vec<Line> = Vec::new();
    for ((kind, source, layer), node) in files.iter().zip(&nodes) {
        let required_by = files.iter().zip(&nodes).filter_map(|((_, by, layer_by), node)| {
            let at = layer_by.requires.iter().position(|name| is_called(name, &layer.name))?;
            Some(format!("{}:{}", by.origin, node.line_of(&format!("requires[{at}]"))))
        });
        members.push(Member {
            kind: kind.word(),
            name: layer.name.clone(),
            file: source.origin.clone(),
            required_by: if *kind == Kind::Image { Vec::new() } else { required_by.collect() },
        });
        for (at, path) in layer.unset.iter().enumerate() {
            let by = format!("taken back by {}:{}", source.origin, node.line_of(&format!("unset[{at}]")));
            for line in lines.iter_mut().filter(|line| line.but.is_none() && is_below(&line.key, path)) {
                line.but = Some(by.clone());
            }
        }
        add(&mut lines, source, &layer.name, node);
    }
    Ok((members, lines))
}

fn is_below(key: &str, path: &str) -> bool {
    key.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn read(source: &Source) -> Result<Node, Error> {
    Node::read(&source.text).map_err(|error| check::malformed(&source.origin, &source.text, &error))
}

/// A value of a file, on its way.
struct Found {
    key: String,
    value: Value,
    line: usize,
    /// Whether it is one of a list.
    is_item: bool,
}

impl Found {
    fn of(self, source: &Source, name: &str) -> Line {
        let Self { key, value, line, .. } = self;
        Line { key, value, by: name.to_owned(), file: source.origin.clone(), line, but: None }
    }
}

/// Adds a file's values to those below it, by the rules that [`merge::stack`] goes by.
fn add(lines: &mut Vec<Line>, source: &Source, name: &str, node: &Node) {
    let Item::Table(pairs) = &node.item else { return };
    for (top, node) in pairs.iter().filter(|(top, _)| !OF_FILES.contains(&top.as_str())) {
        match &node.item {
            Item::List(items) if items.iter().any(|item| matches!(item.item, Item::Table(_))) => {
                add_tables(lines, source, name, top, items);
            }
            _ => flat(node, &key(top), false, &mut |value| {
                let is_item = value.is_item;
                add_one(lines, value.of(source, name), is_item);
            }),
        }
    }
}

/// Tables of a list are compared whole: one that is there already counts once.
fn add_tables(lines: &mut Vec<Line>, source: &Source, name: &str, top: &str, items: &[Node]) {
    for item in items {
        let mut own = Vec::new();
        flat(item, "", false, &mut |value| own.push(value));
        let of = |at: usize| {
            let prefix = format!("{top}[{at}].");
            lines.iter().filter(move |line| line.key.starts_with(&prefix))
        };
        let count = (0..).find(|at| of(*at).next().is_none()).unwrap_or(0);
        let same = |at: &usize| {
            let there: Vec<_> = of(*at).filter(|line| line.but.is_none()).collect();
            let has = |own: &Found| {
                let key = format!("{top}[{at}].{}", own.key);
                there.iter().any(|line| line.key == key && line.value == own.value)
            };
            there.len() == own.len() && own.iter().all(has)
        };
        let there = (0..count).find(same);
        let but = there.and_then(|at| of(at).find(|line| line.but.is_none())).map(already);
        let at = there.unwrap_or(count);
        lines.extend(own.into_iter().map(|mut own| {
            own.key = format!("{top}[{at}].{}", own.key);
            Line { but: but.clone(), ..own.of(source, name) }
        }));
    }
}

/// Adds a value, or an item of a list, to those below it.
fn add_one(lines: &mut Vec<Line>, mut new: Line, is_item: bool) {
    let needs = new.key == "machine.nesting" || new.key.starts_with("machine.host-sysctl.");
    for old in lines.iter_mut().filter(|old| old.but.is_none() && old.key == new.key) {
        if is_item {
            if old.value == new.value {
                new.but = Some(already(old));
            }
        } else if needs && level(&old.value) >= level(&new.value) {
            new.but = Some(format!("the most counts, of {}:{}", old.file, old.line));
        } else {
            old.but = Some(format!("{}:{} counts instead", new.file, new.line));
        }
    }
    lines.push(new);
}

/// Says of a value that it is in the stack without this one.
fn already(line: &Line) -> String {
    format!("stands already at {}:{}", line.file, line.line)
}

fn level(value: &Value) -> i64 {
    value.as_integer().unwrap_or_else(|| i64::from(value.as_bool().unwrap_or(false)))
}

/// Visits every value: each item of a plain list by itself at the top, whole within a table of a list.
fn flat(node: &Node, path: &str, is_item: bool, visit: &mut dyn FnMut(Found)) {
    let line = node.line;
    match &node.item {
        Item::Leaf(value) => visit(Found { key: path.to_owned(), value: value.clone(), line, is_item }),
        Item::Table(pairs) => {
            for (name, node) in pairs {
                let path = if path.is_empty() { key(name) } else { format!("{path}.{}", key(name)) };
                flat(node, &path, false, visit);
            }
        }
        Item::List(items) if items.iter().any(|item| matches!(item.item, Item::Table(_))) => {
            for (at, item) in items.iter().enumerate() {
                flat(item, &format!("{path}[{at}]"), false, visit);
            }
        }
        // a command is one value
        Item::List(items) if path.ends_with("argv") => {
            let value = Value::Array(items.iter().filter_map(leaf).collect());
            visit(Found { key: path.to_owned(), value, line, is_item });
        }
        Item::List(items) => items.iter().for_each(|item| flat(item, path, true, visit)),
    }
}

fn leaf(node: &Node) -> Option<Value> {
    match &node.item {
        Item::Leaf(value) => Some(value.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FILES: &[(&str, &str)] = &[
        (
            "images/i.toml",
            "schema = 1\nname = \"i\"\ndistribution = \"debian\"\n[packages]\ninstall = [\"a\"]\n",
        ),
        (
            "profiles/q.toml",
            "schema = 1\nname = \"q\"\n[packages]\ninstall = [\n  \"a\",\n  \"b\",\n]\n[machine]\nnesting = 2\n\
             [environment]\nA = \"1\"\n[[users]]\nname = \"u\"\nuid = 1\n",
        ),
        (
            "profiles/p.toml",
            "schema = 1\nname = \"p\"\nrequires = [\"q\"]\n[machine]\nnesting = 1\n[environment]\nA = \"2\"\n\
             [[users]]\nname = \"u\"\nuid = 1\n[[users]]\nname = \"u\"\nuid = 2\n",
        ),
        ("profiles/r.toml", "schema = 1\nname = \"r\"\nrequires = [\"p\"]\nunset = [\n  \"packages\",\n]\n"),
    ];

    #[test]
    fn every_value_says_where_it_is_from_and_why_it_does_not_count() {
        let catalogue = Catalogue { folders: Vec::new(), embedded: FILES };
        let (members, lines) = stack(&catalogue, "i", &["r".to_owned()]).unwrap();
        let names: Vec<_> =
            members.iter().map(|member| (&*member.name, member.required_by.join(" "))).collect();
        assert_eq!(
            names,
            [
                ("i", String::new()),
                ("q", "built-in profiles/p.toml:3".to_owned()),
                ("p", "built-in profiles/r.toml:3".to_owned()),
                ("r", String::new()),
            ]
        );
        let of = |key: &str| lines.iter().filter(|line| line.key == key).collect::<Vec<_>>();
        let install = of("packages.install");
        assert_eq!(install.len(), 3, "{install:?}");
        // an item of two files counts once
        assert_eq!(install[1].but.as_deref(), Some("stands already at built-in images/i.toml:5"));
        assert_eq!((install[2].value.as_str(), install[2].line), (Some("b"), 6));
        assert_eq!(install[2].but.as_deref(), Some("taken back by built-in profiles/r.toml:5"));
        let nesting = of("machine.nesting");
        assert_eq!(nesting[0].but, None);
        assert!(nesting[1].but.as_deref().unwrap().contains("profiles/q.toml:9"), "{nesting:?}");
        let variable = of("environment.A");
        assert!(
            variable[0].but.as_deref().unwrap().ends_with("profiles/p.toml:7 counts instead"),
            "{variable:?}"
        );
        assert_eq!(variable[1].but, None);
        let uid = of("users[0].uid");
        assert_eq!((uid[0].value.as_integer(), &uid[0].but), (Some(1), &None));
        assert!(
            uid[1].but.as_deref().unwrap().contains("profiles/q.toml:"),
            "a table of two files counts once"
        );
        assert_eq!(of("users[1].uid")[0].value.as_integer(), Some(2));
        assert!(of("users[2].uid").is_empty());
    }
}
