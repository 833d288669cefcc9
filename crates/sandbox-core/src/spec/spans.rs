//! A file's values with the lines that they stand on.

use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

/// A value and its line.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The line, from 1.
    pub line: usize,
    /// What stands there.
    pub item: Item,
}

/// What a value is made of.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// One value.
    Leaf(Value),
    /// A list, of tables too.
    List(Vec<Node>),
    /// A table, in the order of its keys.
    Table(Vec<(String, Node)>),
}

impl Node {
    /// Reads a file's text.
    ///
    /// # Errors
    /// Where it is not TOML.
    pub fn read(text: &str) -> Result<Self, toml::de::Error> {
        let table = DeTable::parse(text)?;
        Ok(Self { line: 1, item: of_table(table.get_ref(), text) })
    }

    /// Gives the line of a path such as `files[2].mode`: of what there is on the way to it, the last.
    #[must_use]
    pub fn line_of(&self, path: &str) -> usize {
        let mut node = self;
        for step in steps(path) {
            let next = match (&node.item, step.parse::<usize>()) {
                (Item::List(items), Ok(at)) => items.get(at),
                (Item::Table(pairs), _) => pairs.iter().find(|(key, _)| *key == step).map(|(_, node)| node),
                _ => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.line
    }
}

/// Cuts `a.b[2]."c.d"` into its steps.
fn steps(path: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quoted = false;
    for letter in path.chars() {
        match letter {
            '"' => quoted = !quoted,
            '.' | '[' if !quoted => all.push(String::new()),
            ']' if !quoted => {}
            _ => {
                if let Some(last) = all.last_mut() {
                    last.push(letter);
                }
            }
        }
    }
    all.retain(|step| !step.is_empty());
    all
}

/// Writes a key as it may stand in a path.
#[must_use]
pub fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { format!("\"{name}\"") }
}

fn of_table(table: &DeTable<'_>, text: &str) -> Item {
    let mut pairs: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            let mut node = of_value(value, text);
            // a table of `[a.b]` begins at its own head, a value where its key stands
            if !matches!(node.item, Item::List(_)) || is_inline(value, text) {
                node.line = line(key, text);
            }
            (key.get_ref().to_string(), node)
        })
        .collect();
    pairs.sort_by_key(|(_, node)| node.line);
    Item::Table(pairs)
}

fn is_inline(value: &Spanned<DeValue<'_>>, text: &str) -> bool {
    text.get(value.span()).is_some_and(|text| text.starts_with('[') && !text.starts_with("[["))
}

fn of_value(value: &Spanned<DeValue<'_>>, text: &str) -> Node {
    let item = match value.get_ref() {
        DeValue::Array(items) => Item::List(items.iter().map(|item| of_value(item, text)).collect()),
        DeValue::Table(table) => of_table(table, text),
        leaf => Item::Leaf(leaf_of(leaf)),
    };
    Node { line: line(value, text), item }
}

fn leaf_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Integer(number) => {
            let read = i64::from_str_radix(&number.as_str().replace('_', ""), number.radix());
            read.map_or_else(|_| Value::String(number.to_string()), Value::Integer)
        }
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or_default()),
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Datetime(time) => Value::Datetime(*time),
        DeValue::Array(_) | DeValue::Table(_) => Value::String(String::new()),
    }
}

fn line<T>(value: &Spanned<T>, text: &str) -> usize {
    let at = value.span().start.min(text.len());
    1 + text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "schema = 1\n\n[packages]\ninstall = [\n  \"a\",\n  \"b\",\n]\n\n[[files]]\npath = \"/a\"\n\
        content = \"\"\"\n1\n2\n\"\"\"\n\n[[files]]\npath = \"/b\"\nmode = \"x\"\n\n[npm.platform]\n\
        amd64 = { package = \"p\" }\n\n[sysctl]\n\"net.a\" = \"1\"\n";

    #[test]
    fn every_value_has_its_line() {
        let node = Node::read(TEXT).unwrap();
        for (path, line) in [
            ("schema", 1),
            ("packages.install", 4),
            ("packages.install[1]", 6),
            ("files[0]", 9),
            ("files[0].path", 10),
            ("files[1].mode", 18),
            ("files[1].owner", 16),
            ("npm.platform.amd64.package", 21),
            ("sysctl.\"net.a\"", 24),
            ("nothing", 1),
        ] {
            assert_eq!(node.line_of(path), line, "{path}");
        }
    }
}
